//! The credential of the web upstream.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use tower_qwen::auth::Credential;

use super::{ConfigError, error};

/// How the web upstream knows the user. `Debug` shows none of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WebCredentials {
    /// A JWT, or a compressed token that holds one.
    pub(crate) token: Option<SecretString>,
    /// A device token.
    pub(crate) umid_token: Option<SecretString>,
    /// A cookie jar, as the header has it.
    pub(crate) cookies: Option<SecretString>,
}

impl WebCredentials {
    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.token.is_none() && self.umid_token.is_none() && self.cookies.is_none()
    }

    /// The session that they are, if there is a token among them.
    pub(super) fn session(&self) -> Result<Option<Credential>, ConfigError> {
        let Some(token) = &self.token else { return Ok(None) };
        let session = Credential::parse(token.expose_secret()).or_else(|_| {
            error("--token: it is malformed: it cannot be read; was it copied whole?")
        })?;
        let Some(jar) = &self.cookies else { return Ok(Some(session)) };
        // The token that is given beside a jar is newer than the jar's own.
        let is_token = |pair: &&str| pair.trim().starts_with("token=");
        let jar: Vec<_> = jar.expose_secret().split(';').filter(|pair| !is_token(pair)).collect();
        session
            .with_cookies(&jar.join(";"))
            .map(Some)
            .or_else(|_| error("--cookies: they cannot be sent as a header"))
    }
}

/// What the token and the cookies are.
pub(super) fn web_credentials(
    token: Option<SecretString>,
    cookies: Option<SecretString>,
) -> Result<WebCredentials, ConfigError> {
    let mut credentials = WebCredentials::default();
    let trimmed = |secret: &SecretString| SecretString::from(secret.expose_secret().trim());
    if let Some(cookies) = cookies.as_ref().map(trimmed) {
        check_cookies(cookies.expose_secret())?;
        // Bearer and cookie go together; a jar that was copied whole has the JWT in it.
        let jwt = cookie(cookies.expose_secret(), "token").filter(|jwt| check_jwt(jwt).is_ok());
        credentials.token = jwt.map(Into::into);
        credentials.cookies = Some(cookies);
    }
    if let Some(token) = token.as_ref().map(trimmed) {
        let text = token.expose_secret();
        if text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("bearer")) {
            return error("--token: it is malformed: leave out the word Bearer");
        }
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return error(
                "--token: it is malformed: a token is one word of visible ASCII characters",
            );
        }
        if text.starts_with("H4sI") {
            credentials.token = Some(token);
        } else if text.starts_with("eyJ") {
            check_jwt(text)?;
            credentials.token = Some(token);
        } else {
            credentials.umid_token = Some(token);
        }
    }
    Ok(credentials)
}

/// A JWT has three parts of base64url, the second of which is a JSON object. Its signature
/// is for the upstream to check.
fn check_jwt(token: &str) -> Result<(), ConfigError> {
    let parts: Vec<_> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        return error(format!(
            "--token: it is malformed: a JWT has three parts between dots, this has {}; was it \
             copied whole?",
            parts.len()
        ));
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok();
    let is_object = |part: &str| {
        decode(part).is_some_and(|part| {
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&part).is_ok()
        })
    };
    if !is_object(header) || !is_object(payload) || decode(signature).is_none_or(|s| s.is_empty()) {
        return error(
            "--token: it is malformed: it begins as a JWT and cannot be decoded as one; was it \
             copied whole?",
        );
    }
    Ok(())
}

fn check_cookies(cookies: &str) -> Result<(), ConfigError> {
    if !cookies.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return error("--cookies: they are malformed: they hold other than visible ASCII");
    }
    let all_pairs = cookies
        .trim_end_matches(';')
        .split(';')
        .all(|pair| pair.trim().split_once('=').is_some_and(|(name, _)| !name.is_empty()));
    if all_pairs { Ok(()) } else { error("--cookies: they are not `name=value; name=value`") }
}

fn cookie<'a>(cookies: &'a str, name: &str) -> Option<&'a str> {
    cookies.split(';').find_map(|pair| match pair.trim().split_once('=') {
        Some((key, value)) if key == name => Some(value),
        _ => None,
    })
}

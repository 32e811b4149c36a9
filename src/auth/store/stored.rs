use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::auth::{Credential, CredentialKind, InvalidToken, Secret, token};

/// A credential as a file holds it, with everything else that the file says.
///
/// Reads what the tools of this field write:
///
/// - `oauth_creds.json` of qwen-code: `expiry_date` in milliseconds, or in seconds;
/// - the same of CLIProxyAPI: `type: "qwen"`, `expired` as RFC 3339. With the `type` of another vendor
///   it is no credential: such files lie in one folder, and their tokens are not for Qwen;
/// - an account of a credential store: `kind`, `jwt`, `cookies`, `headers`, `access_token`,
///   `refresh_token`, `expiry_ms`, `resource_url`, `api_key`;
/// - the objects inside [compressed tokens][tokens], a compressed token itself, a JWT, or a key: a
///   word of at least 8 printable characters of ASCII, one of them a letter, that is no JSON.
///
/// Fields that are not known are written back with the rest. `Debug` shows no value.
///
/// ```
/// use tower_qwen::auth::{CredentialKind, StoredCredential};
///
/// let stored = StoredCredential::parse(
///     r#"{"access_token": "at-demo", "refresh_token": "rt-demo", "token_type": "Bearer",
///         "resource_url": "portal.qwen.ai", "expiry_date": 1790021600000}"#,
/// )?;
/// assert_eq!(stored.credential().kind(), CredentialKind::OAuth);
/// assert!(stored.credential().expires_at().is_some());
/// # Ok::<_, tower_qwen::auth::InvalidToken>(())
/// ```
///
/// [tokens]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#f2
#[derive(Clone)]
pub struct StoredCredential {
    credential: Credential,
    format: Format,
    fields: Map<String, Value>,
    headers_left_out: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// That of qwen-code.
    QwenCode,
    /// The variant of CLIProxyAPI.
    CliProxy,
    /// An account of a credential store.
    Store,
    /// Anything that only says who, and that nothing can be written back into.
    ReadOnly,
}

impl StoredCredential {
    /// A login that is about to be stored for the first time, in the form of qwen-code.
    #[must_use]
    pub fn new(credential: Credential) -> Self {
        let format = match credential.kind() {
            CredentialKind::OAuth => Format::QwenCode,
            _ => Format::Store,
        };
        let fields = Map::new();
        let headers_left_out = Vec::new();
        let mut stored = Self { credential: credential.clone(), format, fields, headers_left_out };
        if format == Format::Store {
            stored.fields.insert("kind".into(), credential.kind().as_str().into());
        }
        stored.write(credential);
        stored
    }

    /// Reads what stands in a file: text in UTF-8, or in UTF-16 where it begins with the byte order
    /// mark that Windows puts there.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] where it is no text or holds no credential.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidToken> {
        let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
            let (units, []) = bytes.as_chunks() else { return Err(InvalidToken(())) };
            let units = units.iter().map(|bytes| unit(*bytes));
            let text: Result<String, _> = char::decode_utf16(units).collect();
            text.map(Secret::from).map_err(|_| InvalidToken(()))
        };
        let text = match bytes {
            [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
            [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
            _ => {
                return Self::parse(std::str::from_utf8(bytes).map_err(|_| InvalidToken(()))?);
            }
        };
        Self::parse(text.expose())
    }

    /// Reads a file's text, with a byte order mark before it or without.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] where it holds no credential.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut fields = Map::new();
        let (credential, format) = match serde_json::from_str(text) {
            Ok(Value::Object(object)) => {
                fields = object;
                read(&fields)?
            }
            // As extensions of browsers export them.
            Ok(cookies @ Value::Array(_)) => {
                (read(&Map::from_iter([("cookies".to_owned(), cookies)]))?.0, Format::ReadOnly)
            }
            Ok(Value::String(token)) if is_jwt(token.trim()) => {
                (Credential::parse(token.trim())?, Format::ReadOnly)
            }
            _ => {
                let token = text.trim();
                let token = token.strip_prefix("Bearer ").unwrap_or(token).trim_start();
                if !looks_like_a_token(token) {
                    return Err(InvalidToken(()));
                }
                (Credential::parse(token)?, Format::ReadOnly)
            }
        };
        let (credential, headers_left_out) = with_headers(credential, &fields);
        Ok(Self { credential, format, fields, headers_left_out })
    }

    /// The credential.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The names of headers that stand in the file and do not go with the credential: those of one
    /// connection or message (`host`, `content-length`), and what can be no header. They come along where
    /// somebody has copied all headers of a request.
    #[must_use]
    pub fn headers_left_out(&self) -> &[String] {
        &self.headers_left_out
    }

    /// Takes `credential` in place of the own, and keeps every field that it says nothing about.
    #[must_use]
    pub fn with(mut self, credential: Credential) -> Self {
        self.write(credential);
        self
    }

    /// Takes a new login in place of the own: nothing is kept of the old one's tokens, cookies and end,
    /// and every other field is. Where the old one is of another kind nothing is kept at all.
    pub(super) fn replaced(self, credential: Credential) -> Self {
        if !self.is_writable() || self.credential.kind() != credential.kind() {
            return Self::new(credential);
        }
        let Self { format, mut fields, .. } = self;
        fields.retain(|name, _| !OF_A_LOGIN.contains(&name.as_str()));
        let (credential, headers_left_out) = with_headers(credential, &fields);
        Self { credential: credential.clone(), format, fields, headers_left_out }.with(credential)
    }

    /// The file's text: pretty JSON; `None` where the file was a bare token.
    #[must_use]
    pub fn to_json(&self) -> Option<Secret> {
        if self.format == Format::ReadOnly {
            return None;
        }
        // Strings and numbers in a map with string keys: there is nothing that could fail.
        let text = serde_json::to_string_pretty(&self.fields).ok()?;
        Some(Secret::from(text))
    }

    /// Whether a refreshed credential can be written back.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.format != Format::ReadOnly
    }

    fn write(&mut self, credential: Credential) {
        let Self { fields, format, .. } = self;
        let mut set = |name: &str, value: Value| {
            fields.insert(name.to_owned(), value);
        };
        let access_token = credential.access_token().expose();
        match (*format, credential.kind()) {
            (Format::Store, CredentialKind::ApiKey) => set("api_key", access_token.into()),
            (Format::Store, CredentialKind::Web) => {
                // The session outlives the access token that it buys, so both are written.
                let cookies = credential.cookies().map_or("", |jar| jar.expose());
                let pairs = token::split_cookies(cookies);
                let session = pairs.iter().find(|(name, _)| name == "token");
                if let Some((_, session)) = session {
                    set("jwt", session.as_str().into());
                }
                if session.is_none_or(|(_, session)| session != access_token) {
                    set("access_token", access_token.into());
                }
                let jar = pairs.into_iter().map(|(name, value)| (name, value.into())).collect();
                set("cookies", Value::Object(jar));
            }
            _ => set("access_token", access_token.into()),
        }
        if let Some(token) = credential.refresh_token() {
            set("refresh_token", token.expose().into());
        }
        if let Some(url) = credential.resource_url() {
            set("resource_url", url.into());
        }
        let expiry = credential.expires_at();
        match *format {
            Format::QwenCode => {
                set("token_type", "Bearer".into());
                if let Some(expiry) = expiry {
                    set("expiry_date", millis(expiry).into());
                }
            }
            Format::CliProxy => {
                if let Some(Ok(expiry)) = expiry.map(jiff::Timestamp::try_from) {
                    set("expired", format!("{expiry:.0}").into());
                }
            }
            Format::Store => {
                if let Some(expiry) = expiry {
                    set("expiry_ms", millis(expiry).into());
                }
            }
            Format::ReadOnly => {}
        }
        self.credential = credential;
    }
}

/// The fields that belong to one login and to none after it.
const OF_A_LOGIN: [&str; 15] = [
    "access_token",
    "api_key",
    "cookie",
    "cookies",
    "cooldown_until_ms",
    "expired",
    "expiry_date",
    "expiry_ms",
    "fail_count",
    "id_token",
    "jwt",
    "last_refresh",
    "refresh_token",
    "resource_url",
    "token",
];

/// The credential with the headers of `fields`, and the names of those that do not go with one.
fn with_headers(
    mut credential: Credential,
    fields: &Map<String, Value>,
) -> (Credential, Vec<String>) {
    let mut left_out = Vec::new();
    if let Some(Value::Object(headers)) = fields.get("headers") {
        for (name, value) in headers {
            let with = value
                .as_str()
                .and_then(|value| credential.clone().with_header(name, value.trim()).ok());
            match with {
                Some(with) => credential = with,
                None => left_out.push(name.clone()),
            }
        }
    }
    (credential, left_out)
}

/// Whether a file that holds this word may be meant as a credential, and is not something else that
/// stands in a folder of logins: every key and token is of this form.
fn looks_like_a_token(word: &str) -> bool {
    const SHORTEST: usize = 8;
    word.len() >= SHORTEST
        && word.bytes().all(|byte| byte.is_ascii_graphic() && !b"{[\"".contains(&byte))
        && word.bytes().any(|byte| byte.is_ascii_alphabetic())
        // A number may have a letter, as `1.25e+100`.
        && serde_json::from_str::<IgnoredAny>(word).is_err()
}

/// Whether a word is a JWT (RFC 7519), by its look.
fn is_jwt(word: &str) -> bool {
    word.starts_with("eyJ") && word.bytes().filter(|byte| *byte == b'.').count() == 2
}

fn read(fields: &Map<String, Value>) -> Result<(Credential, Format), InvalidToken> {
    let text = |name: &str| {
        fields.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    };
    // Some tools keep the logins of many vendors in one folder.
    if text("type").is_some_and(|vendor| !is_of_qwen(vendor)) {
        return Err(InvalidToken(()));
    }
    let kind = text("kind").map(str::to_ascii_lowercase);
    let kind = kind.as_deref().filter(|kind| matches!(*kind, "web" | "apikey" | "oauth"));
    let jwt = text("jwt").or_else(|| text("token").filter(|token| is_jwt(token)));
    let cookies = fields.get("cookies").or_else(|| fields.get("cookie"));
    let key = text("api_key").filter(|_| kind.is_none_or(|kind| kind == "apikey"));
    let mut credential = if let Some(key) = key {
        Credential::api_key(key)?
    } else if let Some(jwt) = jwt.filter(|_| kind.is_none_or(|kind| kind == "web")) {
        let session = Credential::web(jwt)?;
        match text("access_token") {
            Some(access) => session.with_access_token(access, moment(fields), false)?,
            None => session,
        }
    } else if let Some(access) = text("access_token") {
        match kind {
            Some("apikey") => Credential::api_key(access)?,
            Some("web") => Credential::web(access)?,
            _ => Credential::oauth(access, None, moment(fields))?,
        }
    } else if fields.contains_key("localStorage") || fields.contains_key("session_token") {
        let object = Value::Object(fields.clone());
        return Ok((Credential::from_expanded(token::expand_object(&object)?)?, Format::ReadOnly));
    } else {
        let jar = cookies.map(token::read_cookies).unwrap_or_default();
        let session = jar.iter().find(|(name, _)| name == "token").ok_or(InvalidToken(()))?;
        Credential::web(&session.1)?
    };
    if let Some(token) = text("refresh_token") {
        credential = credential.with_refresh_token(token);
    }
    if let Some(url) = text("resource_url") {
        credential = credential.with_resource_url(url);
    }
    if let Some(cookies) = cookies {
        credential = credential.with_cookie_pairs(token::read_cookies(cookies))?;
    }
    let format = if kind.is_some() || credential.kind() != CredentialKind::OAuth {
        Format::Store
    } else if text("type").is_some() || fields.contains_key("expired") {
        Format::CliProxy
    } else {
        Format::QwenCode
    };
    Ok((credential, format))
}

/// Whether `type` does not say that a login is another vendor's.
fn is_of_qwen(vendor: &str) -> bool {
    let vendor = vendor.to_ascii_lowercase();
    ["qwen", "dashscope", "alibaba", "aliyun", "bailian"].iter().any(|own| vendor.contains(own))
        || matches!(
            &*vendor.replace(['-', ' '], "_"),
            "oauth"
                | "oauth2"
                | "bearer"
                | "web"
                | "cookie"
                | "cookies"
                | "session"
                | "jwt"
                | "token"
                | "api"
                | "apikey"
                | "api_key"
                | "key"
                | "openai_compatible"
        )
}

/// When the credential ends, in any of the spellings.
fn moment(fields: &Map<String, Value>) -> Option<SystemTime> {
    // What is smaller is in seconds: as milliseconds it ended in 1973 or before.
    const MILLIS: f64 = 1e11;
    let number = |name: &str| fields.get(name).and_then(Value::as_f64);
    let expiry = number("expiry_date")
        .map(|expiry| if expiry < MILLIS { expiry } else { expiry / 1000.0 })
        .or_else(|| number("expiry_ms").map(|millis| millis / 1000.0));
    if let Some(seconds) = expiry {
        return SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?);
    }
    let expired: jiff::Timestamp = fields.get("expired")?.as_str()?.parse().ok()?;
    Some(expired.into())
}

/// Milliseconds since the epoch.
fn millis(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for StoredCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredCredential")
            .field("credential", &self.credential)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }

    #[test]
    fn logins_of_other_vendors_are_none() {
        let file = |vendor: &str| {
            let text = format!(r#"{{"type": "{vendor}", "access_token": "at-demo-token"}}"#);
            StoredCredential::parse(&text)
        };
        for vendor in ["qwen", "Qwen-Code", "dashscope", "oauth", "OAuth2", "bearer", "api-key"] {
            file(vendor).expect(vendor);
        }
        for vendor in ["claude", "codex", "gemini", "iflow", "kimi", "github-copilot", "openai"] {
            file(vendor).expect_err(vendor);
        }
    }

    #[test]
    fn an_end_in_seconds_is_one() {
        for (end, millis) in
            [("4070908800", 4_070_908_800_000), ("1790021600000", 1_790_021_600_000)]
        {
            let text = format!(r#"{{"access_token": "at-demo-token", "expiry_date": {end}}}"#);
            let stored = StoredCredential::parse(&text).expect("a login");
            assert_eq!(stored.credential().expires_at(), at(millis), "{end}");
        }
    }

    fn secret(secret: Option<&Secret>) -> Option<&str> {
        secret.map(Secret::expose)
    }

    #[test]
    fn the_file_of_qwen_code_goes_there_and_back() {
        let text = r#"{"access_token": "at-demo", "refresh_token": "rt-demo", "token_type": "Bearer",
            "resource_url": "portal.qwen.ai", "expiry_date": 1790021600000, "id_token": "optional"}"#;
        let stored = StoredCredential::parse(text).expect("the form of qwen-code");
        assert_eq!(stored.credential().expires_at(), at(1_790_021_600_000));
        assert_eq!(secret(stored.credential().refresh_token()), Some("rt-demo"));
        assert_eq!(stored.credential().resource_url(), Some("portal.qwen.ai"));
        let newer =
            Credential::oauth("at-2", Some("rt-2"), at(1_790_043_200_000)).expect("a login");
        let json = stored.with(newer).to_json().expect("an object");
        let value: Value = serde_json::from_str(json.expose()).expect("JSON");
        assert_eq!(
            value,
            serde_json::json!({"access_token": "at-2", "refresh_token": "rt-2",
                "token_type": "Bearer", "resource_url": "portal.qwen.ai",
                "expiry_date": 1_790_043_200_000_u64, "id_token": "optional"})
        );
    }

    #[test]
    fn a_new_login_keeps_what_is_not_of_the_old_one() {
        let text = r#"{"kind": "web", "jwt": "eyJ.e30.old", "access_token": "at-old", "expiry_ms": 1,
            "refresh_token": "rt-old", "cookies": {"cna": "old"}, "label": "work",
            "headers": {"bx-umidtoken": "T2gA", "host": "x"}}"#;
        let stored = StoredCredential::parse(text).expect("a session");
        let session = Credential::web("eyJ.e30.new").expect("a session");
        let session = session.with_cookies("isg=1").expect("cookies");
        let new = stored.clone().replaced(session);
        let json = new.to_json().expect("an object");
        let value: Value = serde_json::from_str(json.expose()).expect("JSON");
        assert_eq!(
            value,
            serde_json::json!({"kind": "web", "jwt": "eyJ.e30.new", "label": "work",
                "cookies": {"token": "eyJ.e30.new", "isg": "1"},
                "headers": {"bx-umidtoken": "T2gA", "host": "x"}})
        );
        assert_eq!(new.headers_left_out(), ["host"]);
        let again = StoredCredential::parse(json.expose()).expect("a session");
        assert!(new.credential().is_same(again.credential()), "what is used is what is written");

        // A login of another kind has nothing to keep, nor has a bare token.
        let key = Credential::api_key("sk-not-a-key").expect("a key");
        for stored in [stored, StoredCredential::parse("eyJ.e30.old").expect("a token")] {
            let json = stored.replaced(key.clone()).to_json().expect("an object");
            let value: Value = serde_json::from_str(json.expose()).expect("JSON");
            assert_eq!(value, serde_json::json!({"kind": "apikey", "api_key": "sk-not-a-key"}));
        }
    }

    #[test]
    fn the_file_of_cli_proxy_goes_there_and_back() {
        let text = r#"{"type":"qwen","access_token":"at","refresh_token":"rt",
            "expired":"2030-01-01T08:00:00+08:00","email":"a@example.org"}"#;
        let stored = StoredCredential::parse(text).expect("the variant");
        assert_eq!(stored.credential().expires_at(), at(1_893_456_000_000));
        let newer = stored.credential().clone().with_expires_at(at(1_893_459_600_000));
        let json = stored.with(newer).to_json().expect("an object");
        let value: Value = serde_json::from_str(json.expose()).expect("JSON");
        assert_eq!(value["expired"], "2030-01-01T01:00:00Z");
        assert_eq!(value["email"], "a@example.org");
        assert!(value.get("expiry_date").is_none());
    }

    #[test]
    fn the_store_holds_every_kind() {
        let web = StoredCredential::parse(
            r#"{"kind":"web","jwt":"session","cookies":{"cna":"1"},"headers":{"bx-v":"2.5.36"},
                "access_token":"short","expiry_ms":1000,"refresh_token":"rt","note":"mine"}"#,
        )
        .expect("a session");
        let credential = web.credential();
        assert_eq!(credential.kind(), CredentialKind::Web);
        assert_eq!(credential.access_token().expose(), "short");
        assert_eq!(secret(credential.cookies()), Some("token=session; cna=1"));
        assert_eq!(credential.expires_at(), at(1000));
        let again = web.to_json().expect("an object");
        let again = StoredCredential::parse(again.expose()).expect("what was written");
        assert!(again.credential().is_same(credential));

        let key = StoredCredential::parse(r#"{"kind":"apikey","api_key":"sk-1"}"#).expect("a key");
        assert_eq!(key.credential().kind(), CredentialKind::ApiKey);
        let oauth = StoredCredential::parse(
            r#"{"kind":"oauth","access_token":"at","refresh_token":"rt","expiry_ms":5000}"#,
        )
        .expect("a login");
        assert_eq!(oauth.credential().expires_at(), at(5000));
    }

    #[test]
    fn bare_tokens_and_their_objects_are_read_only() {
        for text in [
            "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE4OTM0NTYwMDB9.c2ln\n",
            "H4sIAAAAAAACA0tMTNRLSkrSS05OrsksyUvUTUnNzQcAIdb0PRUAAAA=",
            r#"{"user_id":"u","session_token":"x"}"#,
            r#"{"localStorage":{"token":"x"},"cookies":[]}"#,
        ] {
            let stored = StoredCredential::parse(text).expect(text);
            assert_eq!(stored.credential().kind(), CredentialKind::Web);
            assert!(!stored.is_writable() && stored.to_json().is_none());
        }
    }

    /// Credential files: however an editor has saved them.
    #[test]
    fn a_byte_order_mark_is_no_part_of_a_credential() {
        let login = r#"{"access_token":"at","refresh_token":"rt","note":"Zoë"}"#;
        let utf16 = |text: &str, mark: [u8; 2], bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            mark.into_iter().chain(text.encode_utf16().flat_map(bytes)).collect()
        };
        for text in [login, "sk-of-a-file\r\n"] {
            let plain = StoredCredential::parse(text).expect("a credential");
            for (form, bytes) in [
                ("UTF-8", text.as_bytes().to_vec()),
                ("UTF-8 with a mark", [b"\xef\xbb\xbf", text.as_bytes()].concat()),
                ("UTF-16, little end first", utf16(text, [0xff, 0xfe], u16::to_le_bytes)),
                ("UTF-16, big end first", utf16(text, [0xfe, 0xff], u16::to_be_bytes)),
            ] {
                let stored = StoredCredential::from_bytes(&bytes).expect(form);
                assert!(stored.credential().is_same(plain.credential()), "{form}");
                assert_eq!(
                    stored.to_json().map(|json| json.expose().to_owned()),
                    plain.to_json().map(|json| json.expose().to_owned()),
                    "{form}"
                );
            }
        }
        for (form, bytes) in [
            ("half a unit", &b"\xff\xfes\0k"[..]),
            ("half a pair", b"\xff\xfe\x00\xd8"),
            ("no text", b"\xc3\x28"),
            ("a mark alone", b"\xef\xbb\xbf"),
            ("two marks", b"\xef\xbb\xbf\xef\xbb\xbf{}"),
            ("two marks before a key", b"\xef\xbb\xbf\xef\xbb\xbfsk-of-a-file"),
            ("a mark of UTF-16 before other text", b"\xff\xfe\x00garbage"),
            ("the other mark", b"\xfe\xff\x00garbage!"),
            ("the wrong mark", b"\xfe\xffs\0k\0-\0o\0f\0-\0a\0-\0f\0"),
            ("UTF-16 without a mark", b"s\0k\0-\0o\0f\0-\0a\0-\0f\0i\0l\0e\0"),
        ] {
            assert!(StoredCredential::from_bytes(bytes).is_err(), "{form}");
        }
    }

    /// Sessions in the forms in which people and programs have put them into files.
    #[test]
    fn sessions_as_they_are_found() {
        const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6IngifQ.c2ln";
        for (kind, file) in [
            ("a JWT", "{JWT}\n"),
            ("in quotes", "\"{JWT}\"\n"),
            ("with its scheme", "Bearer {JWT}"),
            ("under the name of the page", r#"{"token":"{JWT}"}"#),
            ("in a kind in upper case", r#"{"kind":"WEB","jwt":"{JWT}"}"#),
            ("in a kind that nobody knows", r#"{"kind":"qwen","jwt":"{JWT}"}"#),
            ("among cookies", r#"{"cookies":{"token":"{JWT}","cna":"1"}}"#),
            ("in a header's text", r#"{"cookie":"token={JWT}; cna=1"}"#),
            (
                "in an export of cookies",
                r#"[{"domain":"chat.qwen.ai","name":"token","value":"{JWT}"},{"name":"cna","value":"1"}]"#,
            ),
            (
                "in the state of a browser",
                r#"{"cookies":[{"name":"token","value":"{JWT}","domain":".qwen.ai"}],"origins":[]}"#,
            ),
            (
                "beside what is null",
                r#"{"kind":"web","jwt":"{JWT}","cookies":null,"headers":null,"refresh_token":null,"expiry_ms":null}"#,
            ),
        ] {
            let stored = StoredCredential::parse(&file.replace("{JWT}", JWT)).expect(kind);
            let credential = stored.credential().clone();
            assert_eq!(credential.kind(), CredentialKind::Web, "{kind}");
            assert_eq!(credential.access_token().expose(), JWT, "{kind}");
            let cookies = secret(credential.cookies()).unwrap_or_default();
            assert_eq!(cookies.contains("cna=1"), file.contains("cna"), "{kind}: {cookies}");
            if let Some(json) = stored.with(credential).to_json() {
                let again = StoredCredential::parse(json.expose()).expect(kind);
                assert_eq!(again.credential().access_token().expose(), JWT, "{kind}, written");
            }
        }
        // What a tool of another kind keeps is no session.
        for file in [
            r#"{"token":"ghp_0123456789"}"#,
            r#""production""#,
            r#"[{"name":"theme","value":"dark"}]"#,
            r#"["token"]"#,
            r#"[{"serverName":"x","token":{"accessToken":"secret"}}]"#,
            "Bearer",
        ] {
            assert!(StoredCredential::parse(file).is_err(), "{file}");
        }
    }

    /// A file whose headers were copied from a browser.
    #[test]
    fn headers_of_a_connection_are_left_out() {
        for (kind, headers, kept, left_out) in [
            ("none", "{}", &[][..], &[][..]),
            ("of the session", r#"{"bx-v":"2.5","user-agent":"x"}"#, &["bx-v", "user-agent"], &[]),
            (
                "all of a request",
                r#"{"Host":"chat.qwen.ai","Content-Length":"5","connection":"keep-alive","bx-v":"2"}"#,
                &["bx-v"],
                &["Host", "Content-Length", "connection"],
            ),
            (
                "of HTTP/2",
                r#"{":authority":"chat.qwen.ai",":method":"POST",":path":"/","bx-v":"2"}"#,
                &["bx-v"],
                &[":authority", ":method", ":path"],
            ),
            (
                "of a coding",
                r#"{"accept-encoding":"gzip, br, zstd","content-encoding":"gzip","te":"trailers"}"#,
                &[],
                &["accept-encoding", "content-encoding", "te"],
            ),
            (
                "of the transport",
                r#"{"transfer-encoding":"chunked","upgrade":"h2c","keep-alive":"5","expect":"100-continue",
                "trailer":"x","proxy-connection":"close","content-type":"application/json"}"#,
                &[],
                &[
                    "transfer-encoding",
                    "upgrade",
                    "keep-alive",
                    "expect",
                    "trailer",
                    "proxy-connection",
                    "content-type",
                ],
            ),
            ("no text", r#"{"a":5,"b":null,"c":["x"],"bx-v":"2"}"#, &["bx-v"], &["a", "b", "c"]),
            ("no name", r#"{"":"x","a b":"x","ü":"x"}"#, &[], &["", "a b", "ü"]),
            ("no value", r#"{"a":"x\ny","bx-v":" 2\n"}"#, &["bx-v"], &["a"]),
            ("no object", r#"["host"]"#, &[], &[]),
        ] {
            let file = format!(r#"{{"kind":"web","jwt":"session","headers":{headers}}}"#);
            let stored = StoredCredential::parse(&file).expect(kind);
            let names = stored.credential().headers().names();
            let mut names: Vec<&str> = names.map(|name| name.as_str()).collect();
            names.retain(|name| !matches!(*name, "authorization" | "cookie"));
            names.sort_unstable();
            assert_eq!(names, kept, "{kind}");
            let mut given = stored.headers_left_out().to_vec();
            let mut expected = left_out.to_vec();
            given.sort_unstable();
            expected.sort_unstable();
            assert_eq!(given, expected, "{kind}");
            // What the file says is written back.
            let json = stored.to_json().expect("an object");
            let fields: Value = serde_json::from_str(json.expose()).expect("JSON");
            let read: Value = serde_json::from_str(headers).expect("JSON");
            assert_eq!(fields["headers"], read, "{kind}");
        }
    }

    #[test]
    fn what_holds_no_credential_is_refused() {
        for text in [
            "",
            "  ",
            "{",
            "[]",
            "{}",
            r#"{"access_token":""}"#,
            "7 {",
            "\"sk-of-a-file\"",
            "null",
            "true",
            "false",
            "5",
            "-17",
            "0.5",
            "1.25e+100",
            "1E10000000",
            "123456789012",
            "12345678.90",
            "2026-11-30",
            "sk-1",
            "sk-1234",
            "--------",
            "sk-of a-file",
            "sk-of-a\tfile",
            "sk-of-a\nfile",
            "sk-of-a-\u{7f}file",
            "sk-of-a\u{0}file",
            "sk-of-a-f\u{ef}le",
            "\u{6700}\u{7262}\u{6162}\u{6567}abc",
            "[sk-of-a-file",
            "sk-of-a-{file}",
        ] {
            assert!(StoredCredential::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_word_of_the_form_of_a_key_is_one() {
        for text in ["sk-12345", "sk-of-a-file\n", " 0a1b2c3d ", "nullnull", "1234567e", "a/b+c=d%"]
        {
            let stored = StoredCredential::parse(text).expect(text);
            assert_eq!(stored.credential().kind(), CredentialKind::ApiKey, "{text}");
            assert_eq!(stored.credential().access_token().expose(), text.trim());
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let text = r#"{"access_token":"secret-at","refresh_token":"secret-rt","x":"secret"}"#;
        let stored = StoredCredential::parse(text).expect("a login");
        assert!(!format!("{stored:#?}").contains("secret"));
    }
}

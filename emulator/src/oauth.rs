//! Who may ask: session tokens, and the OAuth endpoints of qwen-code.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    time::Duration,
};

use crate::json::{Value, json};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::builder::Config;

/// How many credentials are kept. The oldest issued ones go first; those given to the builder
/// stay.
const TOKENS: usize = 4_096;
/// How many device authorisations may be pending.
const DEVICES: usize = 64;
/// How long a device code is good for.
const DEVICE_LIFETIME: Duration = Duration::from_secs(900);

/// An account of the emulated OAuth server; see
/// [`Builder::oauth_account`](super::Builder::oauth_account).
#[derive(Clone)]
#[must_use]
pub struct OAuthAccount {
    name: String,
    refresh_token: String,
    access_token: Option<String>,
    lifetime: Duration,
    rotates: bool,
    resource_url: Option<String>,
}

impl OAuthAccount {
    /// An account whose first refresh token is `refresh_token`.
    ///
    /// Access tokens live for six hours. Refresh tokens are good once: each refresh answers with
    /// the next, and a used one is an `invalid_grant` from then on.
    pub fn new(name: impl Into<String>, refresh_token: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            refresh_token: refresh_token.into(),
            access_token: None,
            lifetime: Duration::from_secs(21_600),
            rotates: true,
            resource_url: Some("portal.qwen.ai".to_owned()),
        }
    }

    /// An access token that is good from the start, for one lifetime.
    pub fn access_token(mut self, token: impl Into<String>) -> Self {
        self.access_token = Some(token.into());
        self
    }

    /// How long access tokens live.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Whether a refresh uses the refresh token up. Without that the answer names none, and the
    /// old one stays good.
    pub fn rotates(mut self, rotates: bool) -> Self {
        self.rotates = rotates;
        self
    }

    /// The `resource_url` of token answers; `None` leaves it out.
    pub fn resource_url(mut self, url: Option<String>) -> Self {
        self.resource_url = url;
        self
    }
}

impl fmt::Debug for OAuthAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthAccount")
            .field("name", &self.name)
            .field("lifetime", &self.lifetime)
            .field("rotates", &self.rotates)
            .finish_non_exhaustive()
    }
}

/// A failure of the token endpoint; see [`Emulator::fail_refresh`](super::Emulator::fail_refresh).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefreshFault {
    /// The refresh token is refused, though it was good, and stays refused.
    InvalidGrant,
    /// This status, with a body of plain text.
    Status(StatusCode),
    /// Status 200 with a page instead of JSON, which is transient.
    Html,
    /// Status 200 with `null` for the access token.
    Null,
}

/// An answer of the OAuth endpoints.
pub(super) struct OAuthAnswer {
    pub(super) status: StatusCode,
    pub(super) body: Result<Value, &'static str>,
}

impl OAuthAnswer {
    fn json(status: StatusCode, body: Value) -> Self {
        Self { status, body: Ok(body) }
    }

    fn error(status: StatusCode, error: &str, description: &str) -> Self {
        Self::json(status, json!({"error": error, "error_description": description}))
    }
}

struct Grant {
    account: String,
    expires: Option<Instant>,
}

struct Device {
    device_code: String,
    challenge: String,
    expires: Instant,
    polls: u32,
}

/// What a credential is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is none.
    Missing,
    /// It is good, and this account's.
    Good(String),
    /// It was good.
    Expired(String),
    /// It is not one of ours.
    Unknown,
}

pub(super) struct OAuth {
    accounts: Vec<OAuthAccount>,
    tokens: HashMap<String, Grant>,
    issued: VecDeque<String>,
    devices: VecDeque<Device>,
    device_polls: u32,
    device_slow_downs: u32,
    device_denied: bool,
    pub(super) faults: VecDeque<RefreshFault>,
}

impl OAuth {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let mut tokens = HashMap::new();
        for (token, account, lifetime) in &config.tokens {
            let expires = lifetime.and_then(|lifetime| now.checked_add(lifetime));
            tokens.insert(token.clone(), Grant { account: account.clone(), expires });
        }
        for account in &config.oauth {
            if let Some(token) = &account.access_token {
                let expires = now.checked_add(account.lifetime);
                tokens.insert(token.clone(), Grant { account: account.name.clone(), expires });
            }
        }
        Self {
            accounts: config.oauth.clone(),
            tokens,
            issued: VecDeque::new(),
            devices: VecDeque::new(),
            device_polls: config.device_polls,
            device_slow_downs: config.device_slow_downs,
            device_denied: config.device_denied,
            faults: VecDeque::new(),
        }
    }

    /// What the first known one of `credentials` is worth.
    pub(super) fn standing<'a>(
        &self,
        credentials: impl IntoIterator<Item = &'a str>,
        now: Instant,
    ) -> Standing {
        let mut standing = Standing::Missing;
        for credential in credentials {
            match self.tokens.get(credential) {
                Some(grant) if grant.expires.is_none_or(|expires| now < expires) => {
                    return Standing::Good(grant.account.clone());
                }
                Some(grant) => standing = Standing::Expired(grant.account.clone()),
                None if standing == Standing::Missing => standing = Standing::Unknown,
                None => {}
            }
        }
        standing
    }

    /// Makes `token` good until it `expires`; for good if it does not.
    pub(super) fn issue(&mut self, token: String, account: String, expires: Option<Instant>) {
        self.tokens.insert(token.clone(), Grant { account, expires });
        self.issued.push_back(token);
        while self.issued.len() > TOKENS {
            if let Some(token) = self.issued.pop_front() {
                self.tokens.remove(&token);
            }
        }
    }

    /// Makes `token` unknown; whether it was known. A refresh token is revoked as well.
    pub(super) fn revoke(&mut self, token: &str) -> bool {
        let mut known = self.tokens.remove(token).is_some();
        for account in &mut self.accounts {
            if account.refresh_token == token {
                account.refresh_token = format!("revoked-{}", Uuid::new_v4());
                known = true;
            }
        }
        known
    }

    /// A new session token for `account`, in the form of the web page's.
    pub(super) fn issue_session(
        &mut self,
        account: &str,
        lifetime: Duration,
        now: Instant,
        unix_now: u64,
    ) -> String {
        let id = Uuid::new_v4().to_string();
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let payload = URL_SAFE_NO_PAD.encode(
            json!({
                "id": id, "last_password_change": 1_700_000_000,
                "exp": unix_now.saturating_add(lifetime.as_secs()),
            })
            .to_string(),
        );
        let signature = URL_SAFE_NO_PAD.encode(Sha256::digest(id.as_bytes()));
        let token = format!("{header}.{payload}.{signature}");
        self.issue(token.clone(), account.to_owned(), now.checked_add(lifetime));
        token
    }

    /// `POST /api/v1/oauth2/device/code`.
    pub(super) fn device_code(
        &mut self,
        form: &HashMap<String, String>,
        now: Instant,
    ) -> OAuthAnswer {
        let challenge = form.get("code_challenge").filter(|challenge| !challenge.is_empty());
        let method = form.get("code_challenge_method").map(String::as_str);
        let (Some(challenge), Some("S256"), true) =
            (challenge, method, form.contains_key("client_id"))
        else {
            return OAuthAnswer::error(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "client_id, code_challenge and code_challenge_method=S256 are required",
            );
        };
        let device_code = format!("dc-{}", Uuid::new_v4().simple());
        let user_code = device_code[3..11].to_ascii_uppercase();
        if self.devices.len() == DEVICES {
            self.devices.pop_front();
        }
        self.devices.push_back(Device {
            device_code: device_code.clone(),
            challenge: challenge.clone(),
            expires: now + DEVICE_LIFETIME,
            polls: 0,
        });
        OAuthAnswer::json(
            StatusCode::OK,
            json!({
                "device_code": device_code,
                "user_code": user_code,
                "verification_uri": "https://chat.qwen.ai/authorize",
                "verification_uri_complete":
                    format!("https://chat.qwen.ai/authorize?user_code={user_code}&client=qwen-code"),
                "expires_in": DEVICE_LIFETIME.as_secs(),
            }),
        )
    }

    /// `grant_type=urn:ietf:params:oauth:grant-type:device_code`.
    pub(super) fn poll_device(
        &mut self,
        form: &HashMap<String, String>,
        now: Instant,
    ) -> OAuthAnswer {
        let code = form.get("device_code").map_or("", String::as_str);
        let Some(at) = self.devices.iter().position(|device| device.device_code == code) else {
            return OAuthAnswer::error(
                StatusCode::UNAUTHORIZED,
                "invalid_device_code",
                "the device code is invalid or used",
            );
        };
        let device = &mut self.devices[at];
        if now >= device.expires {
            self.devices.remove(at);
            return OAuthAnswer::error(
                StatusCode::BAD_REQUEST,
                "expired_token",
                "the device code has expired",
            );
        }
        let verifier = form.get("code_verifier").map_or("", String::as_str);
        if URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) != device.challenge {
            return OAuthAnswer::error(
                StatusCode::BAD_REQUEST,
                "invalid_grant",
                "code_verifier does not match code_challenge",
            );
        }
        device.polls += 1;
        if device.polls <= self.device_slow_downs {
            let status = match device.polls % 2 {
                1 => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::BAD_REQUEST,
            };
            return OAuthAnswer::error(status, "slow_down", "polling too frequently");
        }
        if device.polls - self.device_slow_downs <= self.device_polls {
            return OAuthAnswer::error(
                StatusCode::BAD_REQUEST,
                "authorization_pending",
                "the user has not yet approved the request",
            );
        }
        self.devices.remove(at);
        if self.device_denied {
            return OAuthAnswer::error(
                StatusCode::BAD_REQUEST,
                "access_denied",
                "the user has denied the request",
            );
        }
        // Whoever logs in is the first account, or a new one.
        let account = match self.accounts.first() {
            Some(_) => 0,
            None => {
                self.accounts.push(OAuthAccount::new("device", ""));
                0
            }
        };
        OAuthAnswer::json(StatusCode::OK, self.grant(account, true, now))
    }

    /// `grant_type=refresh_token`.
    pub(super) fn refresh(&mut self, form: &HashMap<String, String>, now: Instant) -> OAuthAnswer {
        let token = form.get("refresh_token").map_or("", String::as_str);
        let account = self
            .accounts
            .iter()
            .position(|account| !token.is_empty() && account.refresh_token == token);
        match self.faults.pop_front() {
            Some(RefreshFault::InvalidGrant) => {
                self.revoke(token);
            }
            Some(RefreshFault::Status(status)) => {
                return OAuthAnswer { status, body: Err("the token service is not available\n") };
            }
            Some(RefreshFault::Html) => {
                return OAuthAnswer {
                    status: StatusCode::OK,
                    body: Err("<html><body>Please try again later.</body></html>"),
                };
            }
            Some(RefreshFault::Null) => {
                return OAuthAnswer::json(StatusCode::OK, json!({"access_token": null}));
            }
            None => {
                if let Some(account) = account {
                    let rotates = self.accounts[account].rotates;
                    return OAuthAnswer::json(StatusCode::OK, self.grant(account, rotates, now));
                }
            }
        }
        OAuthAnswer::error(
            StatusCode::BAD_REQUEST,
            "invalid_grant",
            "the refresh token is invalid, expired or used",
        )
    }

    /// New tokens for an account; the refresh token only if it `rotates`.
    fn grant(&mut self, at: usize, rotates: bool, now: Instant) -> Value {
        let access = format!("at-{}", Uuid::new_v4().simple());
        let account = &mut self.accounts[at];
        let mut answer = json!({
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": account.lifetime.as_secs(),
            "scope": "openid profile email model.completion",
        });
        if rotates {
            account.refresh_token = format!("rt-{}", Uuid::new_v4().simple());
            answer["refresh_token"] = account.refresh_token.as_str().into();
        }
        if let Some(url) = &account.resource_url {
            answer["resource_url"] = url.as_str().into();
        }
        let (name, expires) = (account.name.clone(), now.checked_add(account.lifetime));
        self.issue(access, name, expires);
        answer
    }
}

/// The fields of an `application/x-www-form-urlencoded` body. Fields that are not UTF-8 are kept
/// with replacement characters.
pub(super) fn form(body: &[u8]) -> HashMap<String, String> {
    let decode = |text: &[u8]| {
        let mut decoded = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            let hex = match after {
                [high, low, ..] if byte == b'%' => {
                    let digit = |byte: u8| char::from(byte).to_digit(16);
                    digit(*high).zip(digit(*low))
                }
                _ => None,
            };
            rest = after;
            match hex {
                Some((high, low)) => {
                    // Two hexadecimal digits make a byte.
                    decoded.push((high * 16 + low) as u8);
                    rest = &after[2..];
                }
                None => decoded.push(if byte == b'+' { b' ' } else { byte }),
            }
        }
        String::from_utf8_lossy(&decoded).into_owned()
    };
    body.split(|byte| *byte == b'&')
        .filter(|field| !field.is_empty())
        .map(|field| {
            let at = field.iter().position(|byte| *byte == b'=').unwrap_or(field.len());
            (decode(&field[..at]), decode(field.get(at + 1..).unwrap_or_default()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        let form = form(b"a=1&b=x%20y+z&c&%C3%A9=%zz&d=%4");
        let field = |name: &str| form.get(name).map(String::as_str);
        assert_eq!(field("a"), Some("1"));
        assert_eq!(field("b"), Some("x y z"));
        assert_eq!(field("c"), Some(""));
        assert_eq!(field("é"), Some("%zz"));
        assert_eq!(field("d"), Some("%4"));
    }
}

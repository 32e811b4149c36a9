//! Signing in on a device without a browser: OAuth's [device authorisation][device] with PKCE.
//!
//! A program asks for a code, shows it to a person, and polls until that person has approved it
//! in a browser anywhere:
//!
//! ```
//! use http::{Request, Response};
//! use tower_qwen::{FullBody, auth::{TokenClient, device::DeviceLogin}};
//! # use std::sync::atomic::{AtomicUsize, Ordering};
//! # static ASKED: AtomicUsize = AtomicUsize::new(0);
//! # async fn send(_: Request<FullBody>) -> Result<Response<FullBody>, std::io::Error> {
//! #     Ok(Response::new(FullBody::from(match ASKED.fetch_add(1, Ordering::Relaxed) {
//! #         0 => r#"{"device_code":"dc","user_code":"DEMO","verification_uri":"https://example.org/","expires_in":900}"#,
//! #         _ => r#"{"access_token":"at","refresh_token":"rt","expires_in":3600}"#,
//! #     })))
//! # }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = TokenClient::new(tower::service_fn(send));
//! let login = DeviceLogin::start(&client).await?;
//! println!("Open {} and enter {}", login.verification_url(), login.user_code());
//! let credential = login.wait().await?;
//! // … `OAuthFile::save` keeps it …
//! # assert!(credential.refresh_token().is_some());
//! # Ok(())
//! # }
//! ```
//!
//! [device]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#b1

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Credential, RefreshError, Secret, TokenClient, answer::unusable_answer};

const SCOPE: &str = "openid profile email model.completion";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const FIRST_INTERVAL: Duration = Duration::from_secs(2);
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);
const DEFAULT_LIFETIME: Duration = Duration::from_secs(900);
const LONGEST_LIFETIME: Duration = Duration::from_secs(86_400);

/// A sign-in that waits for a person's approval.
///
/// `Debug` shows neither the device code nor the verifier: who has both gets the login.
#[derive(Debug)]
pub struct DeviceLogin {
    client: TokenClient,
    device_code: Secret,
    verifier: Secret,
    user_code: String,
    verification_url: String,
    expires_at: Instant,
    interval: Duration,
}

impl DeviceLogin {
    /// Asks for a code.
    ///
    /// # Errors
    ///
    /// Where the endpoint cannot be reached or gives none.
    pub async fn start(client: &TokenClient) -> Result<Self, RefreshError> {
        let verifier = verifier()?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose()));
        let form = [
            ("client_id", &*client.client_id),
            ("scope", SCOPE),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let answer = client.post(&client.device_url, &form).await?;
        // A failure may come with status 200: the code is the test.
        let device_code = answer.text("/device_code").ok_or_else(|| answer.failure())?;
        let url = answer.text("/verification_uri_complete");
        let url = url.or_else(|| answer.text("/verification_uri"));
        let (Some(user_code), Some(url)) = (answer.text("/user_code"), url) else {
            return Err(unusable_answer());
        };
        // They are printed on a terminal, which would obey control characters.
        if [user_code, url].iter().any(|text| text.contains(char::is_control))
            || !(url.starts_with("https://") || url.starts_with("http://"))
        {
            return Err(unusable_answer());
        }
        let lifetime = answer.span("/expires_in").unwrap_or(DEFAULT_LIFETIME).min(LONGEST_LIFETIME);
        Ok(Self {
            client: client.clone(),
            device_code: Secret::from(device_code),
            verifier,
            user_code: user_code.to_owned(),
            verification_url: url.to_owned(),
            expires_at: Instant::now() + lifetime,
            interval: answer.span("/interval").unwrap_or(FIRST_INTERVAL).min(LONGEST_INTERVAL),
        })
    }

    /// The code that the person compares or types in.
    #[must_use]
    pub fn user_code(&self) -> &str {
        &self.user_code
    }

    /// The page to open; it has the code in it where the endpoint offers that.
    #[must_use]
    pub fn verification_url(&self) -> &str {
        &self.verification_url
    }

    /// How long the code is still good.
    #[must_use]
    pub fn expires_in(&self) -> Duration {
        self.expires_at.saturating_duration_since(Instant::now())
    }

    /// Polls until the person has approved: every 2 s or as the endpoint asks, slower by
    /// half each time it says `slow_down`, and no longer than the code is good.
    ///
    /// # Errors
    ///
    /// See [`DeviceError`]. A network failure is not one: the next poll tries again.
    ///
    /// # Cancel safety
    ///
    /// A poll that is dropped while the endpoint grants the login loses it; start again then.
    pub async fn wait(mut self) -> Result<Credential, DeviceError> {
        loop {
            let next = Instant::now() + self.interval;
            if next >= self.expires_at {
                return Err(DeviceError::Expired);
            }
            tokio::time::sleep_until(next).await;
            if let Some(credential) = self.poll().await? {
                return Ok(credential);
            }
        }
    }

    /// The login, if the person has approved by now.
    async fn poll(&mut self) -> Result<Option<Credential>, DeviceError> {
        let form = [
            ("grant_type", GRANT_TYPE),
            ("client_id", &*self.client.client_id),
            ("device_code", self.device_code.expose()),
            ("code_verifier", self.verifier.expose()),
        ];
        let answer = match self.client.post(&self.client.token_url, &form).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "a poll for the login failed; trying again");
                return Ok(None);
            }
        };
        match (answer.status, answer.code()) {
            (_, Some("authorization_pending")) => Ok(None),
            // 429 in qwen-code, 400 elsewhere.
            (_, Some("slow_down")) => {
                self.interval = self.interval.mul_f64(1.5).min(LONGEST_INTERVAL);
                Ok(None)
            }
            (_, Some("expired_token")) => Err(DeviceError::Expired),
            (_, Some("access_denied")) => Err(DeviceError::Denied),
            (StatusCode::UNAUTHORIZED, _) => Err(DeviceError::Expired),
            (StatusCode::TOO_MANY_REQUESTS, _) => Err(DeviceError::RateLimited),
            (status, None) if status.is_success() && answer.json.is_some() => {
                // `null` while the person has not decided.
                if answer.text("/access_token").is_none() {
                    return Ok(None);
                }
                answer.grant(None, self.client.now()).map(Some).map_err(DeviceError::Failed)
            }
            (status, _) if status.is_server_error() || answer.json.is_none() => Ok(None),
            _ => Err(DeviceError::Failed(answer.failure())),
        }
    }
}

/// Why a sign-in did not end with a login.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeviceError {
    /// The code is no longer good; start again.
    Expired,
    /// The person said no.
    Denied,
    /// The endpoint wants no more requests for now.
    RateLimited,
    /// The endpoint refused for another reason.
    Failed(RefreshError),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the code was not approved in time",
            Self::Denied => "the sign-in was denied",
            Self::RateLimited => "the sign-in endpoint wants no more requests for now",
            Self::Failed(_) => "the sign-in failed",
        })
    }
}

impl std::error::Error for DeviceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// 32 random bytes, base64url without padding.
fn verifier() -> Result<Secret, RefreshError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| {
        RefreshError::new(
            super::RefreshErrorKind::Aborted,
            "the system gave no random numbers for the sign-in",
        )
        .with_source(error)
    })?;
    Ok(Secret::from(URL_SAFE_NO_PAD.encode(random)))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use crate::FullBody;
    use http::{Request, Response};
    use http_body_util::BodyExt;

    use super::*;

    const CODE: &str = r#"{"device_code":"dc-secret","user_code":"DEMO-CODE",
        "verification_uri":"https://example.org/authorize",
        "verification_uri_complete":"https://example.org/authorize?user_code=DEMO-CODE",
        "expires_in":900}"#;
    const GRANT: &str = r#"{"access_token":"at","refresh_token":"rt","token_type":"Bearer",
        "expires_in":21600,"resource_url":"portal.qwen.ai"}"#;

    type Log = Arc<Mutex<Vec<(Instant, String)>>>;

    /// An endpoint that gives `answers`, the last one for ever.
    fn endpoint(answers: &[(u16, &'static str)]) -> (TokenClient, Log) {
        let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
        let log = Log::default();
        let asked = Arc::clone(&log);
        let service = tower::service_fn(move |request: Request<FullBody>| {
            let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
            async move {
                let form = request.into_body().collect().await.expect("in memory").to_bytes();
                let form = String::from_utf8(form.to_vec()).expect("a form");
                asked.lock().expect("not poisoned").push((Instant::now(), form));
                let mut answers = answers.lock().expect("not poisoned");
                let next =
                    if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() };
                let (status, body) = next.expect("an answer");
                let response = Response::builder().status(status).body(FullBody::from(body));
                Ok::<_, Infallible>(response.expect("a response"))
            }
        });
        (TokenClient::new(service), log)
    }

    fn field<'a>(form: &'a str, name: &str) -> &'a str {
        form.split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .expect("the field")
    }

    async fn sign_in(answers: &[(u16, &'static str)]) -> (Result<Credential, DeviceError>, Log) {
        let (client, log) = endpoint(answers);
        let login = DeviceLogin::start(&client).await.expect("a code");
        (login.wait().await, log)
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_is_granted_after_pending_and_slow_down() {
        let (granted, log) = sign_in(&[
            (200, CODE),
            (400, r#"{"error":"authorization_pending"}"#),
            (429, r#"{"error":"slow_down"}"#),
            (400, r#"{"error":"slow_down"}"#),
            (200, r#"{"access_token":null}"#),
            (502, "bad gateway"),
            (200, GRANT),
        ])
        .await;
        let credential = granted.expect("granted");
        assert_eq!(credential.access_token().expose(), "at");
        assert_eq!(credential.refresh_token().expect("given").expose(), "rt");
        assert_eq!(credential.resource_url(), Some("portal.qwen.ai"));
        assert!(credential.expires_at().is_some());

        let log = log.lock().expect("not poisoned");
        let gaps: Vec<f64> = log
            .windows(2)
            .map(|pair| (pair[1].0 - pair[0].0).as_secs_f64())
            .map(|gap| (gap * 10.0).round() / 10.0)
            .collect();
        assert_eq!(gaps, [2.0, 2.0, 3.0, 4.5, 4.5, 4.5]);
        // The challenge of the first request is the digest of the verifier in the others (PKCE).
        let verifier = field(&log[1].1, "code_verifier");
        assert_eq!(verifier.len(), 43);
        assert_eq!(
            field(&log[0].1, "code_challenge"),
            URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
        );
        assert_eq!(field(&log[0].1, "code_challenge_method"), "S256");
        assert_eq!(field(&log[1].1, "device_code"), "dc-secret");
        assert!(!log[0].1.contains(verifier));
    }

    #[tokio::test(start_paused = true)]
    async fn every_end_is_told() {
        for (answer, expected) in [
            ((400, r#"{"error":"expired_token"}"#), "Expired"),
            ((401, r#"{"error":"invalid_device_code"}"#), "Expired"),
            ((400, r#"{"error":"access_denied"}"#), "Denied"),
            ((429, r#"{"error":"too_many_requests"}"#), "RateLimited"),
            ((400, r#"{"error":"invalid_client"}"#), "Failed"),
        ] {
            let (result, log) = sign_in(&[(200, CODE), answer]).await;
            let error = format!("{:?}", result.expect_err("an end"));
            assert!(error.starts_with(expected), "{answer:?}: {error}");
            assert_eq!(log.lock().expect("not poisoned").len(), 2, "polling stops");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_polls_longer_than_the_code_is_good() {
        let started = Instant::now();
        let (result, log) =
            sign_in(&[(200, CODE), (400, r#"{"error":"authorization_pending"}"#)]).await;
        assert!(matches!(result, Err(DeviceError::Expired)));
        assert!(started.elapsed() <= Duration::from_secs(900));
        assert!(log.lock().expect("not poisoned").len() < 452);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_a_code_is_a_failure() {
        for (status, body) in [
            (200, r#"{"error":"invalid_client","error_description":"x"}"#),
            (200, "<html>"),
            (500, "{}"),
            (
                200,
                r#"{"device_code":"dc","user_code":"a\u001b[2J","verification_uri":"https://e.org"}"#,
            ),
            (
                200,
                r#"{"device_code":"dc","user_code":"a","verification_uri":"javascript:alert(1)"}"#,
            ),
            (200, r#"{"device_code":"dc","user_code":"a"}"#),
        ] {
            let (client, _) = endpoint(&[(status, body)]);
            assert!(DeviceLogin::start(&client).await.is_err(), "{body}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn debug_shows_no_code_of_the_device() {
        let (client, log) = endpoint(&[(200, CODE)]);
        let login = DeviceLogin::start(&client).await.expect("a code");
        let shown = format!("{login:?} {client:?}");
        assert!(!shown.contains("dc-secret"), "{shown}");
        assert!(log.lock().expect("not poisoned")[0].1.contains("scope=openid+profile"));
    }
}

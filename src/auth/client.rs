use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use tower_service::Service;

use super::{
    BoxFuture, Credential, CredentialKind, RefreshError, RefreshErrorKind,
    answer::{Answer, unusable_answer},
    clock::{Clock, SharedClock},
};
use crate::{BoxError, FullBody};

type SendRequest = dyn Fn(Request<FullBody>) -> BoxFuture<'static, Result<Response<Bytes>, BoxError>>
    + Send
    + Sync;

/// The public client id of the qwen-code CLI.
const CLIENT_ID: &str = "f0304373b74a44d2b584a3fb70ca9e56";
const TOKEN_URL: &str = "https://chat.qwen.ai/api/v1/oauth2/token";
const DEVICE_URL: &str = "https://chat.qwen.ai/api/v1/oauth2/device/code";
const WEB_REFRESH_URL: &str = "https://auth.qwen.ai/api/v2/auths/refresh";
const WEB_USER_URL: &str = "https://chat.qwen.ai/api/v1/auths/";

/// The longest answer that is read; real ones have less than 4 KiB.
const MAX_ANSWER: usize = 64 << 10;

/// The HTTP side of signing in: refreshes logins, asks whether they are valid, and starts the
/// device flow (see [`device`](super::device)).
///
/// The endpoints are Qwen's own unless set: those of the [OAuth API][oauth] and those of the
/// [web page][web].
///
/// Works over any HTTP client service; the requests have absolute URIs. It makes one attempt and
/// remembers nothing: repeating, sharing and storing are its callers' business.
///
/// Cheap to clone; clones share the service.
///
/// [oauth]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#b
/// [web]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#a2
#[derive(Clone)]
pub struct TokenClient {
    send: Arc<SendRequest>,
    pub(super) token_url: Uri,
    pub(super) device_url: Uri,
    web_refresh_url: Uri,
    web_user_url: Uri,
    pub(super) client_id: Arc<str>,
    timeout: Duration,
    clock: SharedClock,
}

impl TokenClient {
    /// A client of Qwen's own endpoints, over `service`.
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<FullBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // A service need not be `Sync`; it is only ever cloned out of the mutex.
        let service = Mutex::new(service);
        let send = move |request| -> BoxFuture<'static, Result<Response<Bytes>, BoxError>> {
            let mut service = service.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
                let (head, body) = service.call(request).await.map_err(Into::into)?.into_parts();
                let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
                Ok(Response::from_parts(head, body))
            })
        };
        Self {
            send: Arc::new(send),
            token_url: Uri::from_static(TOKEN_URL),
            device_url: Uri::from_static(DEVICE_URL),
            web_refresh_url: Uri::from_static(WEB_REFRESH_URL),
            web_user_url: Uri::from_static(WEB_USER_URL),
            client_id: CLIENT_ID.into(),
            timeout: Duration::from_secs(30),
            clock: SharedClock::SYSTEM,
        }
    }

    /// Asks this endpoint for tokens. The device endpoint is taken to be its neighbour: a
    /// path that ends in `/token` becomes `/device/code`.
    #[must_use]
    pub fn token_url(mut self, url: Uri) -> Self {
        let text = url.to_string();
        let base = text.strip_suffix("/token");
        if let Some(device) = base.and_then(|base| format!("{base}/device/code").parse().ok()) {
            self.device_url = device;
        }
        self.token_url = url;
        self
    }

    /// Starts device flows at this endpoint.
    #[must_use]
    pub fn device_url(mut self, url: Uri) -> Self {
        self.device_url = url;
        self
    }

    /// Refreshes web sessions at this endpoint. The older one, which answers with the user's record,
    /// will do too.
    #[must_use]
    pub fn web_refresh_url(mut self, url: Uri) -> Self {
        self.web_refresh_url = url;
        self
    }

    /// Asks this endpoint whose a web session is.
    #[must_use]
    pub fn web_user_url(mut self, url: Uri) -> Self {
        self.web_user_url = url;
        self
    }

    /// Introduces itself as this OAuth client instead of qwen-code's.
    #[must_use]
    pub fn client_id(mut self, client_id: &str) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// Gives an answer this long to arrive whole; 30 s unless set. Too short is worse than too
    /// long: an answer that is not waited for may hold the only valid refresh token.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Measures lifetimes with `clock`.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Buys a newer credential: for OAuth with the refresh token, for a web session with its
    /// cookies. What the answer leaves out, `resource_url` and often the refresh token, stays as it
    /// is in `credential`.
    ///
    /// The refresh token of `credential` is spent, unless the answer brings it back. Store what
    /// this returns before anything else.
    ///
    /// # Errors
    ///
    /// [`RefreshErrorKind::Rejected`] where the login is dead; `NoRefreshToken` where there is
    /// nothing to refresh with; `Network` and `Endpoint` for what passes.
    ///
    /// # Cancel safety
    ///
    /// None: dropping the future may lose the only valid refresh token. Run it on a task.
    pub async fn refresh(&self, credential: &Credential) -> Result<Credential, RefreshError> {
        match credential.kind() {
            CredentialKind::OAuth => self.refresh_oauth(credential).await,
            CredentialKind::Web => self.refresh_web(credential).await,
            CredentialKind::ApiKey => Err(no_refresh_token()),
        }
    }

    async fn refresh_oauth(&self, credential: &Credential) -> Result<Credential, RefreshError> {
        let Some(refresh_token) = credential.refresh_token() else {
            return Err(no_refresh_token());
        };
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose()),
            ("client_id", &self.client_id),
        ];
        let answer = self.post(&self.token_url, &form).await?;
        answer.grant(Some(credential), self.now())
    }

    async fn refresh_web(&self, credential: &Credential) -> Result<Credential, RefreshError> {
        let mut request = request(&self.web_refresh_url, FullBody::default());
        credential.headers().apply(request.headers_mut());
        let origin = HeaderValue::from_static("https://chat.qwen.ai");
        request.headers_mut().insert("x-request-origin", origin);
        self.send(request).await?.session(credential, self.now())
    }

    /// Whether `credential` would be let in.
    ///
    /// An ended token is told by its own expiry. For a web session the upstream is asked whose
    /// it is; for OAuth and API keys, `models_url` (such as `…/v1/models`) is asked where it is
    /// given. Without anyone to ask, the answer is only as good as the token's expiry, and
    /// [`Validation::asked`] says so.
    ///
    /// A valid web session may still be refused at a chat: the anti-bot layer judges device
    /// headers too.
    ///
    /// # Errors
    ///
    /// Where the upstream could not be asked, or gave an answer that says neither.
    pub async fn validate(
        &self,
        credential: &Credential,
        models_url: Option<&Uri>,
    ) -> Result<Validation, RefreshError> {
        let expires_at = credential.expires_at();
        let says = |valid, asked| Validation { valid, asked, expires_at };
        if credential.ends_within(Duration::ZERO, self.now()) {
            return Ok(says(false, false));
        }
        let url = match (credential.kind(), models_url) {
            (CredentialKind::Web, _) => &self.web_user_url,
            (_, Some(url)) => url,
            (_, None) => return Ok(says(true, false)),
        };
        let mut request = request(url, FullBody::default());
        credential.headers().apply(request.headers_mut());
        let answer = self.send(request).await?;
        let refused = matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            || answer.code() == Some("Unauthorized");
        match answer.json {
            // A page instead of JSON is the anti-bot layer's, and no verdict about the token.
            Some(_) if refused => Ok(says(false, true)),
            _ if answer.is_good() => Ok(says(true, true)),
            _ => Err(unusable_answer()),
        }
    }

    pub(super) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    pub(super) async fn post(
        &self,
        url: &Uri,
        form: &[(&str, &str)],
    ) -> Result<Answer, RefreshError> {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = request(url, FullBody::from(form));
        *request.method_mut() = Method::POST;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        self.send(request).await
    }

    async fn send(&self, request: Request<FullBody>) -> Result<Answer, RefreshError> {
        let failed = |message| RefreshError::new(RefreshErrorKind::Network, message);
        match tokio::time::timeout(self.timeout, (self.send)(request)).await {
            Ok(Ok(response)) => Ok(Answer::read(&response, self.now())),
            Ok(Err(error)) => {
                Err(failed("the sign-in endpoint could not be reached").with_source(error))
            }
            Err(elapsed) => {
                Err(failed("the sign-in endpoint did not answer in time").with_source(elapsed))
            }
        }
    }
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClient")
            .field("token_url", &self.token_url)
            .field("device_url", &self.device_url)
            .field("web_refresh_url", &self.web_refresh_url)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What [`TokenClient::validate`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Validation {
    /// Whether the credential would be let in.
    pub valid: bool,
    /// Whether the upstream said so; otherwise only the token's own expiry did.
    pub asked: bool,
    /// When it ends, as far as that is known.
    pub expires_at: Option<SystemTime>,
}

/// A request with the headers that all have.
fn request(url: &Uri, body: FullBody) -> Request<FullBody> {
    let mut request = Request::new(body);
    *request.uri_mut() = url.clone();
    let id = HeaderValue::try_from(uuid::Uuid::new_v4().to_string()).expect("ASCII");
    request.headers_mut().insert("x-request-id", id);
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    request
}

fn no_refresh_token() -> RefreshError {
    RefreshError::new(RefreshErrorKind::NoRefreshToken, "the login has no refresh token")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    type Asked = Arc<Mutex<Vec<(http::request::Parts, String)>>>;

    /// A client whose endpoint gives one answer, and what it was asked.
    fn client(status: u16, body: &'static str) -> (TokenClient, Asked) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<FullBody>| {
            let log = Arc::clone(&log);
            async move {
                let (head, sent) = request.into_parts();
                let sent = sent.collect().await.expect("in memory").to_bytes();
                let sent = String::from_utf8(sent.to_vec()).expect("a form");
                log.lock().expect("not poisoned").push((head, sent));
                let response = Response::builder()
                    .status(status)
                    .header("retry-after", "7")
                    .body(FullBody::new(Bytes::from_static(body.as_bytes())));
                Ok::<_, Infallible>(response.expect("a response"))
            }
        });
        (TokenClient::new(service).clock(|| at(1000)), asked)
    }

    fn login() -> Credential {
        Credential::oauth("old-at", Some("old/rt+ 1"), Some(at(900)))
            .expect("a login")
            .with_resource_url("portal.qwen.ai")
    }

    #[tokio::test]
    async fn a_refresh_keeps_what_the_answer_leaves_out() {
        let (client, asked) = client(200, r#"{"access_token":"new-at","expires_in":21600}"#);
        let renewed = client.refresh(&login()).await.expect("granted");
        assert_eq!(renewed.access_token().expose(), "new-at");
        assert_eq!(renewed.refresh_token().expect("kept").expose(), "old/rt+ 1");
        assert_eq!(renewed.resource_url(), Some("portal.qwen.ai"));
        assert_eq!(renewed.expires_at(), Some(at(22_600)));
        let asked = asked.lock().expect("not poisoned");
        let (head, form) = &asked[0];
        assert_eq!(head.uri, TOKEN_URL);
        assert_eq!(head.headers[header::CONTENT_TYPE], "application/x-www-form-urlencoded");
        assert_eq!(
            form,
            &format!("grant_type=refresh_token&refresh_token=old%2Frt%2B+1&client_id={CLIENT_ID}")
        );
        assert!(!head.headers.contains_key(header::AUTHORIZATION));
    }

    #[tokio::test]
    async fn a_refresh_takes_what_the_answer_brings() {
        let body = r#"{"access_token":"a","refresh_token":"r","resource_url":"x.example","expires_in":"60"}"#;
        let renewed = client(200, body).0.refresh(&login()).await.expect("granted");
        assert_eq!(renewed.refresh_token().expect("new").expose(), "r");
        assert_eq!(renewed.resource_url(), Some("x.example"));
        assert_eq!(renewed.expires_at(), Some(at(1060)));
    }

    #[tokio::test]
    async fn strange_lifetimes_are_not_believed() {
        for (body, end) in [
            (r#"{"access_token":"a"}"#, 4600),
            (r#"{"access_token":"a","expires_in":0}"#, 4600),
            (r#"{"access_token":"a","expires_in":-5}"#, 4600),
            (r#"{"access_token":"a","expires_in":1e300}"#, 4600),
            (r#"{"access_token":"a","expires_in":1e15}"#, 1000 + 315_360_000),
        ] {
            let renewed = client(200, body).0.refresh(&login()).await.expect("granted");
            assert_eq!(renewed.expires_at(), Some(at(end)), "{body}");
        }
    }

    #[tokio::test]
    async fn dead_logins_are_told_from_passing_failures() {
        use RefreshErrorKind::{Endpoint, Rejected};
        for (status, body, kind) in [
            (400, r#"{"error":"invalid_grant","error_description":"secret"}"#, Rejected),
            (401, r#"{"error":"invalid_token"}"#, Rejected),
            (200, r#"{"error":"invalid_grant"}"#, Rejected),
            (403, r#"{"error":"invalid_grant"}"#, Rejected),
            (400, r#"{"error":"temporarily_unavailable"}"#, Endpoint),
            (400, "<html>challenge</html>", Endpoint),
            (401, "", Endpoint),
            (403, r#"{"error":"blocked"}"#, Endpoint),
            (429, r#"{"error":"slow_down"}"#, Endpoint),
            (500, r#"{"error":"invalid_grant"}"#, Endpoint),
            (200, r#"{"access_token":null}"#, Endpoint),
            (200, r#"["access_token"]"#, Endpoint),
            (200, "{\"access_token\":\"a\\nb\"}", Endpoint),
        ] {
            let error = client(status, body).0.refresh(&login()).await.expect_err(body);
            assert_eq!(error.kind(), kind, "{status} {body}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("secret") && !shown.contains("old"), "{shown}");
        }
        let error = client(503, "busy").0.refresh(&login()).await.expect_err("busy");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }

    #[tokio::test]
    async fn a_web_session_is_refreshed_with_its_cookies() {
        let session = Credential::web("session").expect("opaque").with_cookies("cna=1");
        let session = session.expect("cookies");
        let body = r#"{"success":true,"data":{"access_token":"short","refresh_token":"next","expires_in":900}}"#;
        let (client_, asked) = client(200, body);
        let renewed = client_.refresh(&session).await.expect("granted");
        assert_eq!(renewed.access_token().expose(), "short");
        let jar = renewed.cookies().expect("kept").expose();
        assert_eq!(jar, "token=session; cna=1; refresh_token=next");
        assert_eq!(renewed.expires_at(), Some(at(1900)));
        {
            let asked = asked.lock().expect("not poisoned");
            let headers = &asked[0].0.headers;
            assert_eq!(headers[header::COOKIE], "token=session; cna=1");
            assert_eq!(headers["x-request-origin"], "https://chat.qwen.ai");
        }

        // The older endpoint brings a whole new session.
        let renewed = client(200, r#"{"id":"u","token":"session-2"}"#).0.refresh(&session).await;
        let jar = renewed.expect("granted");
        assert_eq!(jar.cookies().expect("kept").expose(), "token=session-2; cna=1");

        let dead = r#"{"success":false,"data":{"code":"Unauthorized","details":"x"}}"#;
        let error = client(200, dead).0.refresh(&session).await.expect_err("dead");
        assert_eq!(error.kind(), RefreshErrorKind::Rejected);
    }

    #[tokio::test]
    async fn validation_asks_and_says_whom() {
        let session = Credential::web("session").expect("opaque");
        let valid = client(200, r#"{"id":"u"}"#).0.validate(&session, None).await.expect("asked");
        assert!(valid.valid && valid.asked);
        for (status, body) in [
            (401, r#"{"detail":"x"}"#),
            (200, r#"{"success":false,"data":{"code":"Unauthorized"}}"#),
        ] {
            let answer = client(status, body).0.validate(&session, None).await.expect("asked");
            assert!(!answer.valid && answer.asked);
        }
        let page = client(403, "<!doctypehtml>").0.validate(&session, None).await;
        assert_eq!(page.expect_err("no verdict").kind(), RefreshErrorKind::Endpoint);
        // Ended by its own word, and nobody was asked.
        let (client_, asked) = client(200, "{}");
        let ended = client_.validate(&login(), None).await.expect("known");
        assert!(!ended.valid && !ended.asked);
        let fresh = login().with_expires_at(Some(at(2000)));
        let unasked = client_.validate(&fresh, None).await.expect("known");
        assert!(unasked.valid && !unasked.asked);
        assert!(asked.lock().expect("not poisoned").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_hangs_is_given_up() {
        let service = tower::service_fn(|_: Request<FullBody>| {
            std::future::pending::<Result<Response<FullBody>, Infallible>>()
        });
        let error = TokenClient::new(service).refresh(&login()).await.expect_err("hangs");
        assert_eq!(error.kind(), RefreshErrorKind::Network);
    }
}

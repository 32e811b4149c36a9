use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::{Url, redirect};

use super::{
    service::{Config, QwenUpstream},
    tls,
};
use crate::{Error, ErrorKind, head::is_sign_in};

/// chat.qwen.ai.
const WEB: &str = "https://chat.qwen.ai";

/// A desktop browser, as chat.qwen.ai wants one; the hints beside it say the same.
const USER_AGENT: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 \
     (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";

/// The headers of the web client that do not depend on anything.
const BROWSER: [(HeaderName, &str); 9] = [
    (header::USER_AGENT, USER_AGENT),
    (header::ACCEPT_LANGUAGE, "en-US,en;q=0.9"),
    (HeaderName::from_static("source"), "web"),
    (HeaderName::from_static("version"), "0.3.11"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
    (HeaderName::from_static("sec-fetch-dest"), "empty"),
    (HeaderName::from_static("sec-fetch-mode"), "cors"),
    (HeaderName::from_static("sec-fetch-site"), "same-origin"),
    (header::ACCEPT, "application/json"),
];

/// What Chrome says of itself beside [`USER_AGENT`]. It goes with that and no other: what the
/// browser of another `user-agent` says of itself, if it says anything, nobody here knows.
const HINTS: [(HeaderName, &str); 3] = [
    (
        HeaderName::from_static("sec-ch-ua"),
        "\"Google Chrome\";v=\"141\", \"Not?A_Brand\";v=\"8\", \"Chromium\";v=\"141\"",
    ),
    (HeaderName::from_static("sec-ch-ua-mobile"), "?0"),
    (HeaderName::from_static("sec-ch-ua-platform"), "\"Windows\""),
];

/// How many redirects within the upstream are followed.
const REDIRECTS: usize = 5;

/// Settings of a [`QwenUpstream`].
///
/// Setters take anything; [`build`](QwenUpstreamBuilder::build) says what is wrong with it. Times
/// are those that the portal was seen to keep.
#[must_use = "nothing is made before `build`"]
pub struct QwenUpstreamBuilder {
    base_url: String,
    browser: bool,
    /// As given, in order; `None` removes a default.
    headers: Vec<(String, Option<String>)>,
    token: Option<String>,
    cookies: Option<String>,
    bearer: bool,
    token_cookie: bool,
    connect_timeout: Duration,
    first_byte_timeout: Duration,
    pool_idle_timeout: Duration,
    http2_only: bool,
    env_proxy: bool,
}

impl QwenUpstreamBuilder {
    fn new(base_url: String, browser: bool) -> Self {
        Self {
            base_url,
            browser,
            headers: Vec::new(),
            token: None,
            cookies: None,
            bearer: true,
            token_cookie: browser,
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(120),
            pool_idle_timeout: Duration::from_secs(90),
            http2_only: false,
            env_proxy: true,
        }
    }

    /// Where upstream is: `http:` or `https:`, a host, perhaps a port and a path that stands
    /// before every request's. Default of [`QwenUpstream::web`]: `https://chat.qwen.ai`.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// The access token, for chat.qwen.ai a JWT: it is sent as `Authorization: Bearer` and, to
    /// chat.qwen.ai, as the cookie `token`.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The cookie jar, as a `Cookie` header has it: `a=1; b=2`. With a
    /// [`token`](QwenUpstreamBuilder::token) its own `token` cookie is replaced.
    pub fn cookies(mut self, cookies: impl Into<String>) -> Self {
        self.cookies = Some(cookies.into());
        self
    }

    /// Whether the token is sent as `Authorization: Bearer`. Default: yes.
    pub fn bearer(mut self, send: bool) -> Self {
        self.bearer = send;
        self
    }

    /// Whether the token is sent as the cookie `token`. Default: to chat.qwen.ai, yes.
    pub fn token_cookie(mut self, send: bool) -> Self {
        self.token_cookie = send;
        self
    }

    /// Sets a header of every request, such as `bx-umidtoken`, `bx-ua` or `user-agent`, in the
    /// place of a default of that name. With another `user-agent` the `sec-ch-ua*` of the default one
    /// are not sent, but those that are set here are.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Leaves a default header out.
    pub fn without_header(mut self, name: impl Into<String>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// The longest time to connect, TLS included. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest time from the request to the head of its response. Models that think may take
    /// theirs, and so may a local server that loads a model or reads a long prompt: over one of
    /// these give it what [`TimeoutLayer`] has for the first event.
    /// Default: 120 s.
    ///
    /// It is the one limit of time of a response here. How long an answer may be silent is said by
    /// the layers that read it, which know what is progress: [`TimeoutLayer`] above an adapter, the
    /// adapters themselves without it, and
    /// [`SseReframeLayer`](crate::sse::reframe::SseReframeLayer) where it stands alone.
    ///
    /// [`TimeoutLayer`]: crate::timeout::TimeoutLayer
    pub fn first_byte_timeout(mut self, timeout: Duration) -> Self {
        self.first_byte_timeout = timeout;
        self
    }

    /// How long a connection without a request is kept. Default: 90 s.
    pub fn pool_idle_timeout(mut self, timeout: Duration) -> Self {
        self.pool_idle_timeout = timeout;
        self
    }

    /// Speaks HTTP/2 from the first byte, without asking. For `http:` upstreams that are known
    /// to speak it. Default: no.
    pub fn http2_prior_knowledge(mut self, only: bool) -> Self {
        self.http2_only = only;
        self
    }

    /// Whether `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` of the environment are
    /// heeded. Default: yes.
    pub fn env_proxy(mut self, heed: bool) -> Self {
        self.env_proxy = heed;
        self
    }

    /// Makes the client.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`] for a base URL, header, token or cookie that cannot be
    /// sent, and for `https:` without one of the features that bring TLS: the message says which,
    /// and shows no secret. [`ErrorKind::Internal`] where TLS
    /// cannot be set up.
    pub fn build(self) -> Result<QwenUpstream, Error> {
        let base = base_url(&self.base_url)?;
        let (headers, hints) = self.default_headers(&base)?;
        let credential = self.credential()?;
        let mut client = reqwest::Client::builder()
            .retry(reqwest::retry::never())
            .redirect(redirect::Policy::custom(same_place))
            .referer(false)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(self.pool_idle_timeout)
            .tcp_nodelay(true);
        if self.http2_only {
            client = client.http2_prior_knowledge();
        }
        if !self.env_proxy {
            client = client.no_proxy();
        }
        let client = tls::choose(client)?.build().map_err(|error| {
            Error::new(ErrorKind::Internal, "the HTTP client could not be set up")
                .with_source(error.without_url())
        })?;
        let config = Config {
            base,
            headers,
            hints,
            credential,
            is_browser: self.browser,
            first_byte_timeout: self.first_byte_timeout,
        };
        Ok(QwenUpstream::new(client, Arc::new(config)))
    }

    /// The headers of every request, and those that go with the default `user-agent` alone.
    fn default_headers(&self, base: &Url) -> Result<(HeaderMap, HeaderMap), Error> {
        let mut headers = HeaderMap::new();
        let mut hints = HeaderMap::new();
        if self.browser {
            for (name, value) in HINTS {
                hints.insert(name, HeaderValue::from_static(value));
            }
            for (name, value) in BROWSER {
                headers.insert(name, HeaderValue::from_static(value));
            }
            let origin = base.origin().ascii_serialization();
            headers.insert(header::ORIGIN, header_value("origin", &origin)?);
            headers.insert(header::REFERER, header_value("referer", &format!("{origin}/"))?);
        }
        // What stands in the place of one of these says nothing of an account.
        let public: Vec<HeaderName> = headers.keys().chain(hints.keys()).cloned().collect();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().map_err(|_| {
                Error::invalid(name.clone(), format!("{name:?} is not a header's name"))
            })?;
            hints.remove(&name);
            if name == header::USER_AGENT {
                hints.clear();
            }
            match value {
                None => {
                    headers.remove(name);
                }
                Some(value) => {
                    let mut value = header_value(name.as_str(), value)?;
                    value.set_sensitive(!public.contains(&name));
                    headers.insert(name, value);
                }
            }
        }
        Ok((headers, hints))
    }

    /// `authorization` and `cookie`.
    fn credential(&self) -> Result<HeaderMap, Error> {
        let mut credential = HeaderMap::new();
        let token = self.token.as_deref().map(str::trim).filter(|token| !token.is_empty());
        if let Some(token) = token
            && !token.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b';' | b',' | b'"'))
        {
            return Err(Error::invalid("token", "the token holds characters that no token has"));
        }
        if let (Some(token), true) = (token, self.bearer) {
            let mut value = header_value("token", &format!("Bearer {token}"))?;
            value.set_sensitive(true);
            credential.insert(header::AUTHORIZATION, value);
        }
        let token_cookie = token.filter(|_| self.token_cookie);
        let jar =
            self.cookies.as_deref().unwrap_or("").split(';').map(str::trim).filter(|cookie| {
                let is_replaced = token_cookie.is_some() && cookie.starts_with("token=");
                !cookie.is_empty() && !is_replaced
            });
        let own = token_cookie.map(|token| format!("token={token}"));
        let all: Vec<&str> = own.as_deref().into_iter().chain(jar).collect();
        if !all.is_empty() {
            let mut value = header_value("cookies", &all.join("; "))?;
            value.set_sensitive(true);
            credential.insert(header::COOKIE, value);
        }
        Ok(credential)
    }
}

impl QwenUpstream {
    /// A client for chat.qwen.ai, with the headers of a browser.
    pub fn web() -> QwenUpstreamBuilder {
        QwenUpstreamBuilder::new(WEB.to_owned(), true)
    }

    /// A client for any other upstream, with no headers but those of HTTP.
    pub fn builder(base_url: impl Into<String>) -> QwenUpstreamBuilder {
        QwenUpstreamBuilder::new(base_url.into(), false)
    }
}

/// Shows no value of a header, for any may be a secret.
impl fmt::Debug for QwenUpstreamBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QwenUpstreamBuilder")
            .field("browser", &self.browser)
            .field("has_token", &self.token.is_some())
            .field("has_cookies", &self.cookies.is_some())
            .field("connect_timeout", &self.connect_timeout)
            .field("first_byte_timeout", &self.first_byte_timeout)
            .finish_non_exhaustive()
    }
}

fn base_url(given: &str) -> Result<Url, Error> {
    let invalid = |why: String| Err(Error::invalid("base_url", why));
    // The URL itself is not shown: it may hold a password.
    let url = match Url::parse(given.trim()) {
        Ok(url) => url,
        Err(error) => {
            return invalid(format!(
                "the base URL is not a URL ({error}); one looks like https://chat.qwen.ai"
            ));
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        return invalid(format!(
            "the base URL begins with {:?}, not http: or https:",
            url.scheme()
        ));
    }
    if url.scheme() == "https" && !tls::IS_THERE {
        return invalid(
            "the base URL begins with https:, and this build has no TLS: switch on one of the \
             features client-rustls, client-rustls-ring and client-native-tls"
                .to_owned(),
        );
    }
    if url.host_str().is_none_or(str::is_empty) {
        return invalid("the base URL names no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return invalid(
            "the base URL holds a user name or password; set a token instead".to_owned(),
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return invalid("the base URL holds a query or fragment".to_owned());
    }
    Ok(url)
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(value.trim()).map_err(|_| {
        Error::invalid(name.to_owned(), format!("the value of {name} cannot stand in a header"))
    })
}

/// Follows a redirect that stays where the credential belongs, and is none to a page for people: what
/// that says is that the credential is not taken. With a status that makes a GET of what was sent (RFC
/// 9110, section 15.4) only a slash at the end may come or go.
fn same_place(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let stays =
        attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
    let is_same_request = matches!(attempt.status().as_u16(), 307 | 308)
        || attempt.previous().last().is_some_and(|from| {
            from.path().trim_end_matches('/') == attempt.url().path().trim_end_matches('/')
        });
    if stays
        && is_same_request
        && !is_sign_in(attempt.url().path())
        && attempt.previous().len() <= REDIRECTS
    {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

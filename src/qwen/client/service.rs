use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::Body;
use reqwest::Url;
use tower_service::Service;
use uuid::Uuid;

use super::{ResponseFuture, UpstreamBody};
use crate::{BoxError, CredentialHeaders, Error};

/// An HTTP client for one upstream; see the [module](super).
///
/// Clones share the pool of connections.
///
/// # Panics
///
/// Calling it outside a tokio runtime whose timers are on.
///
/// # Cancel safety
///
/// Dropping a response future or body cancels the exchange: over HTTP/1.1 its connection is
/// closed, over HTTP/2 its stream is reset.
#[derive(Clone)]
pub struct QwenUpstream {
    client: reqwest::Client,
    config: Arc<Config>,
}

#[derive(Clone)]
pub(super) struct Config {
    pub(super) base: Url,
    pub(super) headers: HeaderMap,
    /// What goes with the configured `user-agent`, and with no other.
    pub(super) hints: HeaderMap,
    pub(super) credential: HeaderMap,
    pub(super) is_browser: bool,
    pub(super) first_byte_timeout: Duration,
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TIMEZONE: HeaderName = HeaderName::from_static("timezone");

impl QwenUpstream {
    pub(super) fn new(client: reqwest::Client, config: Arc<Config>) -> Self {
        Self { client, config }
    }

    /// Scheme, host and port of the upstream, for logs and banners.
    #[must_use]
    pub fn origin(&self) -> String {
        self.config.base.origin().ascii_serialization()
    }

    /// The same client without the configured credential: no `authorization`, no `cookie`, no
    /// `bx-*`. It shares the pool of connections.
    ///
    /// For calls that upstream answers better, or only, without one. Headers of a request
    /// itself are sent as ever.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        let mut config = Config::clone(&self.config);
        config.credential.clear();
        let names: Vec<_> = config.headers.keys().cloned().collect();
        for name in names.iter().filter(|name| name.as_str().starts_with("bx-")) {
            config.headers.remove(name);
        }
        Self { client: self.client.clone(), config: Arc::new(config) }
    }
}

impl Config {
    /// The URL of a request: its path and query below the base. Its host is not looked at, so
    /// that nothing above can send the credential elsewhere.
    fn url(&self, uri: &http::Uri) -> Url {
        let mut url = self.base.clone();
        let path = format!("{}{}", self.base.path().trim_end_matches('/'), uri.path());
        url.set_path(&path);
        url.set_query(uri.query());
        url
    }

    fn headers(&self, request: &mut HeaderMap) {
        let hints = (!request.contains_key(header::USER_AGENT)).then_some(&self.hints);
        for (name, value) in self.headers.iter().chain(hints.into_iter().flatten()) {
            if !request.contains_key(name) {
                request.insert(name, value.clone());
            }
        }
        let brings_its_own =
            request.contains_key(header::AUTHORIZATION) || request.contains_key(header::COOKIE);
        if !brings_its_own {
            for (name, value) in &self.credential {
                request.insert(name, value.clone());
            }
        }
        if !request.contains_key(X_REQUEST_ID) {
            let id = Uuid::new_v4().to_string();
            let id = HeaderValue::from_str(&id).expect("hexadecimal digits and hyphens");
            request.insert(X_REQUEST_ID, id);
        }
        if self.is_browser && !request.contains_key(TIMEZONE) {
            let now = jiff::Timestamp::now().strftime("%a %b %d %Y %H:%M:%S GMT+0000");
            let now = HeaderValue::from_str(&now.to_string()).expect("English names and digits");
            request.insert(TIMEZONE, now);
        }
        for name in [header::AUTHORIZATION, header::COOKIE] {
            if let Some(value) = request.get_mut(name) {
                value.set_sensitive(true);
            }
        }
        // The client names the host of the base URL.
        request.remove(header::HOST);
    }
}

impl<B> Service<Request<B>> for QwenUpstream
where
    B: Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UpstreamBody>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let (mut head, body) = request.into_parts();
        self.config.headers(&mut head.headers);
        let url = self.config.url(&head.uri);
        tracing::debug!(method = %head.method, path = url.path(), "sending");
        let is_secret = |header: &(&HeaderName, &HeaderValue)| header.1.is_sensitive();
        let sent = head.headers.iter().filter(is_secret);
        let sent = CredentialHeaders::new(sent.map(|(name, value)| (name.clone(), value.clone())));
        let mut request = reqwest::Request::new(head.method, url);
        *request.headers_mut() = head.headers;
        *request.body_mut() = (!body.is_end_stream()).then(|| reqwest::Body::wrap(body));
        ResponseFuture::new(self.client.call(request), self.config.first_byte_timeout, sent)
    }
}

/// Shows the names of the headers and no value.
impl fmt::Debug for QwenUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [&self.config.headers, &self.config.hints, &self.config.credential];
        let names: Vec<_> = names.into_iter().flat_map(HeaderMap::keys).collect();
        f.debug_struct("QwenUpstream")
            .field("origin", &self.origin())
            .field("headers", &names)
            .field("first_byte_timeout", &self.config.first_byte_timeout)
            .finish_non_exhaustive()
    }
}

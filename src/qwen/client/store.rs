use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Body;
use reqwest::{Url, redirect};
use tower_service::Service;

use super::{ResponseFuture, UpstreamBody, tls};
use crate::{BoxError, CredentialHeaders, Error, ErrorKind};

/// The longest time to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// An HTTP client for the object store of chat.qwen.ai, which is below another host for each bucket: it
/// sends requests to where their own URLs say, over `https:` alone.
///
/// It knows no credential, keeps no cookies, and follows no redirect, so what is sent is what the
/// request holds. `HTTPS_PROXY` and `NO_PROXY` of the environment are heeded, as by
/// [`QwenUpstream`](super::QwenUpstream).
///
/// Clones share the pool of connections.
///
/// ```
/// use tower_qwen::qwen::{client::{QwenUpstream, StoreClient}, upload::UploadLayer};
///
/// # fn main() -> Result<(), tower_qwen::Error> {
/// let upstream = QwenUpstream::web().build()?;
/// let layer = UploadLayer::new(upstream, StoreClient::new()?);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// Calling it outside a tokio runtime whose timers are on.
///
/// # Cancel safety
///
/// As that of [`QwenUpstream`](super::QwenUpstream).
#[derive(Clone)]
pub struct StoreClient {
    client: reqwest::Client,
    timeout: Duration,
}

impl StoreClient {
    /// A client that waits 120 s for the head of a response, which comes when all of a file has been
    /// read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] where TLS cannot be set up.
    pub fn new() -> Result<Self, Error> {
        let client = reqwest::Client::builder()
            .retry(reqwest::retry::never())
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT)
            .tcp_nodelay(true);
        let client = tls::choose(client)?.build().map_err(|error| {
            Error::new(ErrorKind::Internal, "the HTTP client could not be set up")
                .with_source(error.without_url())
        })?;
        Ok(Self { client, timeout: Duration::from_secs(120) })
    }

    /// Waits so long for the head of a response.
    #[must_use]
    pub fn first_byte_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<B> Service<Request<B>> for StoreClient
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
        let url = Url::parse(&head.uri.to_string()).ok().filter(|url| url.scheme() == "https");
        let Some(url) = url else {
            let message = "a request to the object store has no https: URL";
            return ResponseFuture::failed(Error::new(ErrorKind::Internal, message));
        };
        head.headers.remove(header::HOST);
        tracing::debug!(method = %head.method, host = url.host_str(), "sending to the store");
        let sent = head.headers.iter().filter(|(_, value)| value.is_sensitive());
        let sent = CredentialHeaders::new(sent.map(|(name, value)| (name.clone(), value.clone())));
        let mut request = reqwest::Request::new(head.method, url);
        *request.headers_mut() = head.headers;
        *request.body_mut() = (!body.is_end_stream()).then(|| reqwest::Body::wrap(body));
        ResponseFuture::new(self.client.call(request), self.timeout, sent)
    }
}

impl fmt::Debug for StoreClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreClient").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;
    use crate::FullBody;

    #[tokio::test]
    async fn nothing_is_sent_without_tls() {
        for uri in ["http://b.example/f", "/f", "ftp://b.example/f"] {
            let request = Request::put(uri).body(FullBody::from("x")).expect("a request");
            let client = StoreClient::new().expect("a client");
            let error = client.oneshot(request).await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Internal, "{uri}");
        }
    }
}

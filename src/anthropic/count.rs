use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::Body;
use tower_service::Service;

use super::{
    decode::{Options, Purpose, decode_within},
    error::error_into,
};
use crate::{
    BoxError, Error, FullBody,
    edge::{BodyPace, Limits, acceptable, of_edge, read_body, refuse},
    offload::{LARGE, offload},
    tokens::TokenEstimator,
};

/// Anthropic's `POST /v1/messages/count_tokens`: about how many tokens a request has.
///
/// It reads the request as [`AnthropicLayer`](super::AnthropicLayer) does and
/// [estimates](crate::tokens). No upstream is asked and no session is touched, so it stands on a
/// route of its own, without a service below. With the estimator that the layer
/// [has too](super::AnthropicLayer::estimator) it learns from what the upstream reports.
///
/// ```
/// use std::sync::Arc;
///
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::BodyExt;
/// use tower::ServiceExt;
/// use tower_qwen::{FullBody, anthropic::CountTokens, tokens::TokenEstimator};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let count = CountTokens::new(Arc::new(TokenEstimator::new()));
/// let request = Request::post("/v1/messages/count_tokens").body(FullBody::new(Bytes::from(
///     r#"{"model":"qwen3-max","messages":[{"role":"user","content":"foo"}]}"#,
/// )))?;
/// let body = count.oneshot(request).await?.into_body().collect().await?.to_bytes();
/// assert!(body.starts_with(br#"{"input_tokens":"#));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CountTokens {
    estimator: Arc<TokenEstimator>,
    max_body: usize,
    body_pace: Option<BodyPace>,
    limits: Limits,
}

impl CountTokens {
    /// A service that takes bodies of up to 32 MiB.
    #[must_use]
    pub const fn new(estimator: Arc<TokenEstimator>) -> Self {
        Self {
            estimator,
            max_body: 32 * 1024 * 1024,
            body_pace: Some(BodyPace::new()),
            limits: Limits::new(),
        }
    }

    /// The largest body to read, in bytes; a larger one is answered with 413.
    #[must_use]
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// How fast a body must come; a slower one is answered with 408. With `None` it may come as
    /// slowly as it likes.
    #[must_use]
    pub const fn body_pace(mut self, pace: Option<BodyPace>) -> Self {
        self.body_pace = pace;
        self
    }

    /// How many messages, parts, calls and tools a request may hold; one with more is answered with
    /// 400.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    async fn count<B>(self, request: Request<B>) -> Result<u64, Error>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        acceptable(&parts)?;
        let Self { estimator, max_body, body_pace, limits } = self;
        let body = read_body(body, max_body, body_pace).await?;
        let is_large = body.len() >= LARGE;
        let count = move || {
            let decoded = decode_within(&body, &limits, Options::new(), Purpose::Count)?;
            Ok(estimator.estimate(&decoded.chat))
        };
        if is_large { offload("decode", count).await? } else { count() }
    }
}

impl<B> Service<Request<B>> for CountTokens
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<FullBody>;
    type Error = Infallible;
    type Future = CountFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> CountFuture {
        let count = self.clone().count(request);
        CountFuture { count: Box::pin(count) }
    }
}

/// The future of [`CountTokens`].
#[must_use = "futures do nothing unless polled"]
pub struct CountFuture {
    count: Pin<Box<dyn Future<Output = Result<u64, Error>> + Send>>,
}

impl Future for CountFuture {
    type Output = Result<Response<FullBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.count.as_mut().poll(cx).map(|counted| {
            Ok(match counted {
                Ok(tokens) => {
                    let body = format!("{{\"input_tokens\":{tokens}}}");
                    let mut response = Response::new(FullBody::new(Bytes::from(body)));
                    let json = HeaderValue::from_static("application/json");
                    response.headers_mut().insert(CONTENT_TYPE, json);
                    response
                }
                Err(error) => of_edge(refuse(&error, error_into)).map(FullBody::new),
            })
        })
    }
}

impl fmt::Debug for CountFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountFuture").finish_non_exhaustive()
    }
}

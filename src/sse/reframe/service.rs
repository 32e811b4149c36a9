use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::{ReframeBody, ResponseFuture, config::Config};

/// Makes the event streams of the inner service well formed: see the
/// [module documentation](super). Made by [`SseReframeLayer`](super::SseReframeLayer).
#[derive(Clone, Debug)]
pub struct SseReframe<S> {
    inner: S,
    config: Config,
}

impl<S> SseReframe<S> {
    service!();

    pub(super) const fn over(inner: S, config: Config) -> Self {
        Self { inner, config }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SseReframe<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ReframeBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        ResponseFuture::new(self.inner.call(request), self.config)
    }
}

use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{future::ResponseFuture, layer::TimeoutLayer, stream::TimeoutStream, watch::Limits};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream},
};

/// Gives up an answer of which nothing comes.
///
/// Made by [`TimeoutLayer`]; the [module](super) says how it works. How long the
/// inner service takes to be ready is not limited.
///
/// # Errors
///
/// The inner service's, and [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) where a limit runs out.
///
/// # Cancel safety
///
/// Nothing is kept outside of the future and the response's body. Dropping either drops what is inside.
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    limits: Limits,
}

impl<S> Timeout<S> {
    service!(TimeoutLayer);
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout { inner, limits: self.limits }
    }
}

impl<S, B> Service<Request<ChatRequest>> for Timeout<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>>,
    S::Error: Into<Error>,
    B: ChatStream,
{
    type Response = Response<TimeoutStream<B>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ChatRequest>) -> Self::Future {
        request.body_mut().is_timed = true;
        let limits = match request.body().kind.is_media() {
            true => self.limits.of_the_whole(),
            false => self.limits,
        };
        ResponseFuture::new(self.inner.call(request), limits)
    }
}

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{config::Rules, future::turn, stream::FallbackStream};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream, ResponseFuture},
};

/// Answers by the first of several stacks that can.
///
/// Made by [`FallbackLayer`](super::FallbackLayer); the [module](super) says how it works. It is
/// always ready, and waits for a stack to be ready when that is asked.
///
/// # Errors
///
/// That of the last stack that was asked. [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded),
/// with how long to wait, where none is asked at the moment.
///
/// # Cancel safety
///
/// Dropping the response future or the response's body cancels the work of whoever is asked.
#[derive(Clone)]
pub struct Fallback<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S> Fallback<S> {
    service!();

    pub(super) const fn over(inner: S, rules: Arc<Rules>) -> Self {
        Self { inner, rules }
    }
}

impl<S> fmt::Debug for Fallback<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").field("first", &self.rules.first).finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<ChatRequest>> for Fallback<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
    B: ChatStream + Send + 'static,
{
    type Response = Response<FallbackStream<B>>;
    type Error = Error;
    type Future = ResponseFuture<FallbackStream<B>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        ResponseFuture::new(turn(self.inner.clone(), Arc::clone(&self.rules), request))
    }
}

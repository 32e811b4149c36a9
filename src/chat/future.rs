use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;

use crate::Error;

type Boxed<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Error>> + Send>>;

/// The response future of services that await more than one thing before the first event of an answer:
/// the adapters, and the layers that ask a store or more than one service. It resolves at the commit
/// point.
///
/// It is one box a request. Layers that wait for their inner service alone have futures of their own.
///
/// # Cancel safety
///
/// Dropping it cancels the call under way, and the upstream's work, as dropping the stream does; what
/// else it does is said at the service that gave it.
///
/// # Panics
///
/// If it is polled after it was ready.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<B> {
    inner: Boxed<B>,
}

impl<B> ResponseFuture<B> {
    #[cfg(any(
        feature = "compatible",
        feature = "fallback",
        feature = "fetch",
        feature = "join",
        feature = "session",
        feature = "web"
    ))]
    pub(crate) fn new(
        inner: impl Future<Output = Result<Response<B>, Error>> + Send + 'static,
    ) -> Self {
        Self { inner: Box::pin(inner) }
    }
}

impl<B> Future for ResponseFuture<B> {
    type Output = Result<Response<B>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl<B> fmt::Debug for ResponseFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

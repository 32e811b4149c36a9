use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;

use crate::Error;

type Boxed<S> = Pin<Box<dyn Future<Output = Result<Response<S>, Error>> + Send>>;

/// The response future of the adapters: it resolves at the commit point, when the first content
/// of the answer, a stream `S`, is there.
///
/// # Cancel safety
///
/// Dropping it cancels the call under way, and the upstream's work, as dropping the stream does.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<S> {
    inner: Boxed<S>,
}

impl<S> ResponseFuture<S> {
    pub(super) fn new(
        inner: impl Future<Output = Result<Response<S>, Error>> + Send + 'static,
    ) -> Self {
        Self { inner: Box::pin(inner) }
    }
}

impl<S> Future for ResponseFuture<S> {
    type Output = Result<Response<S>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl<S> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

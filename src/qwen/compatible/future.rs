use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;

use super::AnswerStream;
use crate::Error;

type Boxed<B> = Pin<Box<dyn Future<Output = Result<Response<AnswerStream<B>>, Error>> + Send>>;

/// The response future of [`Compatible`](super::Compatible): it resolves at the commit point,
/// when the first content of the answer is there.
///
/// # Cancel safety
///
/// Dropping it drops the exchange, which cancels the upstream's work.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<B> {
    inner: Boxed<B>,
}

impl<B> ResponseFuture<B> {
    pub(super) fn new(
        inner: impl Future<Output = Result<Response<AnswerStream<B>>, Error>> + Send + 'static,
    ) -> Self {
        Self { inner: Box::pin(inner) }
    }
}

impl<B> Future for ResponseFuture<B> {
    type Output = Result<Response<AnswerStream<B>>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl<B> fmt::Debug for ResponseFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

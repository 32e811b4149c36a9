use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use super::{ToolWrapStream, automaton::Automaton};

pin_project! {
    /// The future of [`ToolWrap`](super::ToolWrap).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner service's future, and does nothing else.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        automaton: Option<Automaton>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: F, automaton: Automaton) -> Self {
        Self { inner, automaton: Some(automaton) }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ToolWrapStream<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let automaton = this.automaton.take().expect("a future is not polled after it is ready");
        Poll::Ready(Ok(response.map(|body| ToolWrapStream::new(body, automaton))))
    }
}

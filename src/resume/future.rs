use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use super::{stream::ResumeStream, thread::Thread};
use crate::Error;

pin_project! {
    /// The response future of [`Resume`](super::Resume).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, S, B> {
        #[pin]
        call: F,
        thread: Option<Box<Thread<S, B>>>,
    }
}

impl<F, S, B> ResponseFuture<F, S, B> {
    pub(super) const fn new(call: F, thread: Option<Box<Thread<S, B>>>) -> Self {
        Self { call, thread }
    }
}

impl<F, S, B, E> Future for ResponseFuture<F, S, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Error>,
{
    type Output = Result<Response<ResumeStream<S, B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.call.poll(cx)).map_err(Into::into)?;
        let thread = this.thread.take();
        Poll::Ready(Ok(response.map(|events| ResumeStream::new(events, thread))))
    }
}

impl<F, S, B> fmt::Debug for ResponseFuture<F, S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("may_resume", &self.thread.is_some())
            .finish_non_exhaustive()
    }
}

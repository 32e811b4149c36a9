use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use super::{
    stream::TimeoutStream,
    watch::{Limits, Watch},
};
use crate::Error;

pin_project! {
    /// The response future of [`Timeout`](super::Timeout).
    ///
    /// # Panics
    ///
    /// If it is polled after it was ready.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        call: Option<F>,
        watch: Watch,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(call: F, limits: Limits) -> Self {
        Self { call: Some(call), watch: Watch::new(limits) }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Error>,
{
    type Output = Result<Response<TimeoutStream<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let call = this.call.as_mut().as_pin_mut().expect("polled after it was ready");
        let result = match call.poll(cx) {
            Poll::Ready(Ok(response)) => {
                // The same watch goes on: the first event may not have come yet.
                let watch = mem::replace(this.watch, Watch::new(Limits::NONE));
                Ok(response.map(|events| TimeoutStream::new(events, watch)))
            }
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Pending => Err(ready!(this.watch.poll(cx))),
        };
        this.call.set(None);
        Poll::Ready(result)
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("watch", &self.watch).finish_non_exhaustive()
    }
}

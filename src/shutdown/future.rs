use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use super::{
    cut::{At, count, cut},
    handle::Asked,
    stream::ShutdownStream,
};
use crate::Error;

pin_project! {
    /// The response future of [`Shutdown`](super::Shutdown).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        // `None` where nobody is asked.
        #[pin]
        call: Option<F>,
        asked: Asked,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(call: F, asked: Asked) -> Self {
        Self { call: Some(call), asked }
    }

    /// That of a request which comes too late.
    pub(super) const fn refused(asked: Asked) -> Self {
        Self { call: None, asked }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Error>,
{
    type Output = Result<Response<ShutdownStream<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(call) = this.call.as_mut().as_pin_mut() else {
            count(At::Request);
            return Poll::Ready(Err(cut(At::Request)));
        };
        if let Poll::Ready(result) = call.poll(cx) {
            let handle = this.asked.handle();
            let stream = |events| ShutdownStream::new(events, handle.asked());
            return Poll::Ready(result.map(|response| response.map(stream)).map_err(Into::into));
        }
        ready!(Pin::new(this.asked).poll(cx));
        this.call.set(None);
        count(At::Wait);
        Poll::Ready(Err(cut(At::Wait)))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("asked", &self.asked).finish_non_exhaustive()
    }
}

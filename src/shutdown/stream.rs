use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{
    cut::{At, count, cut},
    handle::Asked,
};
use crate::{
    Error,
    chat::{ChatEvent, ChatStream, Ending},
};

pin_project! {
    /// The answers of [`Shutdown`](super::Shutdown): those of the inner service, until the server stops.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner stream. That is dropped at the shutdown as well, before the error is
    /// given.
    #[must_use = "streams do nothing unless polled"]
    pub struct ShutdownStream<B> {
        #[pin]
        inner: Option<B>,
        ending: Ending,
        asked: Asked,
    }
}

impl<B> ShutdownStream<B> {
    pub(super) const fn new(inner: B, asked: Asked) -> Self {
        Self { inner: Some(inner), ending: Ending::new(), asked }
    }
}

impl<B: ChatStream> Stream for ShutdownStream<B> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        // Looked at first, for a stream may always have more.
        while !this.asked.handle().is_shut_down() {
            if !ready!(this.ending.poll_goes_on(cx)) {
                return Poll::Ready(None);
            }
            let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
            let mut polled = inner.poll_next(cx);
            if this.ending.passes(&mut polled) {
                if polled.is_ready() {
                    return polled;
                }
                ready!(Pin::new(&mut *this.asked).poll(cx));
            }
        }
        this.inner.set(None);
        let mut last = Poll::Ready(Some(Err(cut(At::Stream))));
        if !this.ending.passes(&mut last) {
            // Behind the end of the answer it is no error: it is as complete as it is.
            return Poll::Ready(None);
        }
        count(At::Stream);
        last
    }
}

impl<B> fmt::Debug for ShutdownStream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownStream")
            .field("ending", &self.ending)
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

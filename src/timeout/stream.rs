use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::watch::Watch;
use crate::{
    Error,
    chat::{ChatEvent, ChatStream, Ending},
};

pin_project! {
    /// The answers of [`Timeout`](super::Timeout): those of the inner service, up to a limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner stream. That is dropped at a limit as well, before the error is given.
    #[must_use = "streams do nothing unless polled"]
    pub struct TimeoutStream<B> {
        #[pin]
        inner: Option<B>,
        ending: Ending,
        watch: Watch,
    }
}

impl<B> TimeoutStream<B> {
    pub(super) const fn new(inner: B, watch: Watch) -> Self {
        Self { inner: Some(inner), ending: Ending::new(), watch }
    }
}

impl<B: ChatStream> Stream for TimeoutStream<B> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let error = loop {
            match this.ending.poll_goes_on(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(None),
                // It always has more, and a turn for others is the time to look at the clock.
                Poll::Pending => break ready!(this.watch.poll_total(cx)),
            }
            let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
            let mut polled = inner.poll_next(cx);
            if let Poll::Ready(Some(Ok(event))) = &polled {
                this.watch.event(event);
            }
            if this.ending.passes(&mut polled) {
                if polled.is_ready() {
                    return polled;
                }
                break ready!(this.watch.poll(cx));
            }
        };
        this.inner.set(None);
        // Behind the end of the answer it is none: then it ends, as complete as it is.
        let mut last = Poll::Ready(Some(Err(error)));
        if this.ending.passes(&mut last) { last } else { Poll::Ready(None) }
    }
}

impl<B> fmt::Debug for TimeoutStream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutStream")
            .field("ending", &self.ending)
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

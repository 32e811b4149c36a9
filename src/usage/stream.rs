use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::meter::Meter;
use crate::{
    Error,
    chat::{ChatEvent, ChatStream, Ending},
};

pin_project! {
    /// The answers of [`UsageService`](super::UsageService): those of the inner service.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner stream, and settles what was not settled yet.
    #[must_use = "streams do nothing unless polled"]
    pub struct UsageStream<B> {
        // Before the meter, so that work is cancelled before it is settled.
        #[pin]
        inner: B,
        ending: Ending,
        meter: Meter,
    }
}

impl<B> UsageStream<B> {
    pub(super) const fn new(inner: B, meter: Meter) -> Self {
        Self { inner, ending: Ending::new(), meter }
    }
}

impl<B: ChatStream> Stream for UsageStream<B> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        while ready!(this.ending.poll_goes_on(cx)) {
            let mut polled = this.inner.as_mut().poll_next(cx);
            if !this.ending.passes(&mut polled) {
                continue;
            }
            match &polled {
                Poll::Ready(Some(Ok(event))) => this.meter.event(event),
                Poll::Ready(Some(Err(error))) => {
                    this.meter.failed(error);
                    this.meter.settle();
                }
                Poll::Ready(None) => this.meter.settle(),
                Poll::Pending => {}
            }
            return polled;
        }
        this.meter.settle();
        Poll::Ready(None)
    }
}

impl<B> fmt::Debug for UsageStream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageStream")
            .field("ending", &self.ending)
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}

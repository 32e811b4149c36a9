use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::reader::Reader;
use crate::{
    Error,
    chat::{ChatEvent, ChatStream, Ending},
};

pin_project! {
    /// The answer of a [`ToolCall`](super::ToolCall) service: that of the inner service, with its
    /// calls as events.
    ///
    /// # Errors
    ///
    /// The inner stream's, after the arguments of open calls have been closed, and
    /// [`ErrorKind::Truncated`](crate::ErrorKind::Truncated) where the inner stream ends without
    /// [`ChatEvent::Finished`]. Where nothing is to be read from the answer, its events pass as
    /// they are.
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct ToolCallStream<S> {
        #[pin]
        inner: S,
        ending: Ending,
        reader: Option<Box<Reader>>,
    }
}

impl<S> ToolCallStream<S> {
    pub(super) const fn new(inner: S, reader: Option<Box<Reader>>) -> Self {
        Self { inner, ending: Ending::new(), reader }
    }
}

impl<S: ChatStream> Stream for ToolCallStream<S> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let Some(reader) = this.reader else { return this.ending.poll_next(this.inner, cx) };
        loop {
            if let Some(item) = reader.pop() {
                return Poll::Ready(Some(item));
            }
            if !ready!(this.ending.poll_goes_on(cx)) {
                return Poll::Ready(None);
            }
            let mut polled = this.inner.as_mut().poll_next(cx);
            if !this.ending.passes(&mut polled) {
                continue;
            }
            // Most events pass, and are handed on where they lie.
            if let Poll::Ready(Some(Ok(event))) = &polled
                && reader.passes(event)
            {
                return polled;
            }
            match ready!(polled) {
                Some(Ok(event)) => reader.push(event),
                Some(Err(error)) => reader.fail(error),
                None => return Poll::Ready(None),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.reader {
            // One event may become several, and several none.
            Some(_) => (0, None),
            None => self.ending.size_hint(self.inner.size_hint()),
        }
    }
}

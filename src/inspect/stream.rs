use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::teller::Teller;
use crate::{
    Error,
    chat::{ChatEvent, ChatStream},
};

pin_project! {
    /// What [`Inspect`](super::Inspect) answers with: a stream of chat events over one, a body over a body.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops what is inside, and is told.
    #[must_use = "streams do nothing unless polled"]
    pub struct Inspected<B> {
        #[pin]
        inner: B,
        teller: Option<Box<Teller>>,
    }
}

impl<B> Inspected<B> {
    pub(super) const fn new(inner: B, teller: Option<Box<Teller>>) -> Self {
        Self { inner, teller }
    }
}

impl<B: ChatStream> Stream for Inspected<B> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let Some(teller) = this.teller else { return this.inner.poll_next(cx) };
        let item = ready!(this.inner.poll_next(cx));
        match &item {
            Some(Ok(event)) => teller.event(event),
            Some(Err(error)) => teller.error(error.kind()),
            None => teller.end(),
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<B: Body<Data = Bytes>> Body for Inspected<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let Some(teller) = this.teller else { return this.inner.poll_frame(cx) };
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(piece) => teller.piece(piece),
                None => teller.trailers(),
            },
            Some(Err(_)) => teller.broke_off(),
            None => teller.end(),
        }
        // Whoever knows that it was the last does not ask for another.
        if this.inner.is_end_stream() {
            teller.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for Inspected<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspected").field("tells", &self.teller.is_some()).finish_non_exhaustive()
    }
}

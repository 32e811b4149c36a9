use std::{
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::{
    Error,
    chat::{ChatEvent, ChatStream},
};

pin_project! {
    /// The answers of [`Format`](super::Format): the inner service's own, or one that was checked.
    #[derive(Debug)]
    pub struct FormatStream<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    #[derive(Debug)]
    enum Kind<B> {
        Through { #[pin] inner: B },
        Whole { events: vec::IntoIter<ChatEvent> },
    }
}

impl<B> FormatStream<B> {
    pub(super) const fn through(inner: B) -> Self {
        Self { kind: Kind::Through { inner } }
    }

    pub(super) fn whole(events: Vec<ChatEvent>) -> Self {
        Self { kind: Kind::Whole { events: events.into_iter() } }
    }
}

impl<B: ChatStream> Stream for FormatStream<B> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.project().kind.project() {
            KindProjection::Through { inner } => inner.poll_next(cx),
            KindProjection::Whole { events } => Poll::Ready(events.next().map(Ok)),
        }
    }
}

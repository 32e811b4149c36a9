//! Generated images as text.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::{
    Error,
    chat::{ChatEvent, ChatStream},
};

pin_project! {
    /// Turns generated images into [text](crate::chat::Attachment::markdown). One place for streamed and whole answers,
    /// so that both say the same.
    #[derive(Debug)]
    pub(super) struct ImagesAsText<S> {
        #[pin]
        stream: S,
    }
}

impl<S> ImagesAsText<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream }
    }
}

impl<S: ChatStream> Stream for ImagesAsText<S> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = ready!(self.project().stream.poll_next(cx));
        if let Some(Ok(ChatEvent::Attachment(attachment))) = &event
            && let Some(markdown) = attachment.markdown()
        {
            return Poll::Ready(Some(Ok(ChatEvent::Text(markdown.into()))));
        }
        Poll::Ready(event)
    }
}

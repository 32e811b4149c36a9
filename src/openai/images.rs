//! Attachments as text.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::{
    Error,
    chat::{ChatEvent, ChatStream, Ending},
};

pin_project! {
    /// Turns generated images and other attachments into
    /// [text](crate::chat::Attachment::markdown). One place for streamed and whole answers, so that
    /// both say the same; and both end the same way, whatever the stream inside does.
    #[derive(Debug)]
    pub(super) struct ImagesAsText<S> {
        #[pin]
        stream: S,
        ending: Ending,
    }
}

impl<S> ImagesAsText<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, ending: Ending::new() }
    }
}

impl<S: ChatStream> Stream for ImagesAsText<S> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let polled = this.ending.poll_next(this.stream, cx);
        if let Poll::Ready(Some(Ok(ChatEvent::Attachment(attachment)))) = &polled {
            let text = attachment.markdown().into();
            return Poll::Ready(Some(Ok(ChatEvent::Text(text))));
        }
        polled
    }
}

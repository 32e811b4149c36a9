//! Generated images as text.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::{
    Error,
    chat::{AttachmentKind, ChatEvent, ChatStream},
};

pin_project! {
    /// Turns generated images into Markdown text: the chat format has no field for an image of
    /// the assistant's, and chat clients show Markdown. One place for streamed and whole answers,
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
        Poll::Ready(match ready!(self.project().stream.poll_next(cx)) {
            Some(Ok(ChatEvent::Attachment(image))) if image.kind == AttachmentKind::Image => {
                let title = image.title.as_deref().unwrap_or("image");
                Some(Ok(ChatEvent::Text(format!("![{title}]({})\n", image.url).into())))
            }
            other => other,
        })
    }
}

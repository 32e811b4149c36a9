use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::Body;

use super::turn::Turn;
use crate::{BoxError, Error, chat::ChatEvent, qwen::answer::Reader};

/// The answer of [`QwenWeb`](super::QwenWeb): a [`ChatStream`](crate::chat::ChatStream).
///
/// It ends with [`ChatEvent::Finished`] or one `Err`, and with upstream's terminal event: it
/// does not wait for upstream to close the connection.
///
/// # Cancel safety
///
/// Dropping it before its end closes the connection, and spawns a call on the current tokio
/// runtime that tells upstream to stop, with 5 s to do so. Nothing is called where no
/// runtime is running, where upstream has not named the answer yet, or where
/// [`QwenWebLayer::stop_on_drop`](super::QwenWebLayer::stop_on_drop) is off.
#[must_use = "streams do nothing unless polled"]
pub struct AnswerStream<B> {
    reader: Reader<B, Turn>,
}

impl<B> AnswerStream<B> {
    pub(super) fn new(reader: Reader<B, Turn>) -> Self {
        Self { reader }
    }
}

impl<B> Stream for AnswerStream<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().reader.poll_item(cx)
    }
}

impl<B> fmt::Debug for AnswerStream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerStream").field("reader", &self.reader).finish()
    }
}

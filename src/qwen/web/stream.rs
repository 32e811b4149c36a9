use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::Body;

use super::turn::Turn;
use crate::{
    BoxError, Error,
    chat::ChatEvent,
    qwen::{answer::Reader, task::BoxedTask},
};

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
/// [`QwenWebLayer::stop_on_drop`](super::QwenWebLayer::stop_on_drop) is off. A film is not stopped:
/// upstream has no way to do so.
#[must_use = "streams do nothing unless polled"]
pub struct AnswerStream<B> {
    kind: Kind<B>,
}

#[allow(clippy::large_enum_variant, reason = "nearly every answer is the large one")]
enum Kind<B> {
    Reader(Reader<B, Turn>),
    /// A film, which upstream is asked about.
    Task(BoxedTask),
}

impl<B> AnswerStream<B> {
    pub(super) fn new(reader: Reader<B, Turn>) -> Self {
        Self { kind: Kind::Reader(reader) }
    }

    pub(super) fn task(task: BoxedTask) -> Self {
        Self { kind: Kind::Task(task) }
    }
}

impl<B> Stream for AnswerStream<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.get_mut().kind {
            Kind::Reader(reader) => reader.poll_item(cx),
            Kind::Task(task) => task.as_mut().poll_next(cx),
        }
    }
}

impl<B> fmt::Debug for AnswerStream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut view = f.debug_struct("AnswerStream");
        match &self.kind {
            Kind::Reader(reader) => view.field("reader", reader).finish(),
            Kind::Task(_) => view.finish_non_exhaustive(),
        }
    }
}

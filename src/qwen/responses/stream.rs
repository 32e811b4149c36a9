use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::Body;

use super::translate::Translator;
use crate::{BoxError, Error, chat::ChatEvent, qwen::answer::Reader};

/// The answer of DashScope's Responses API, from its first event on.
///
/// # Cancel safety
///
/// Dropping it drops the exchange, which cancels the upstream's work.
#[must_use = "streams do nothing unless polled"]
pub struct AnswerStream<B> {
    reader: Reader<B, Translator>,
}

impl<B> AnswerStream<B> {
    pub(super) fn new(reader: Reader<B, Translator>) -> Self {
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

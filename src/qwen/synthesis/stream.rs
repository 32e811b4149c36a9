use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use crate::{Error, chat::ChatEvent, qwen::task::BoxedTask};

/// The answer of [`Synthesis`](super::Synthesis): a [`ChatStream`](crate::chat::ChatStream).
///
/// # Cancel safety
///
/// Dropping it leaves a task upstream to go on.
#[must_use = "streams do nothing unless polled"]
pub struct AnswerStream {
    inner: BoxedTask,
}

impl AnswerStream {
    pub(super) const fn new(inner: BoxedTask) -> Self {
        Self { inner }
    }
}

impl Stream for AnswerStream {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerStream").finish_non_exhaustive()
    }
}

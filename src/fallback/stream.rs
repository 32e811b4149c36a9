use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{
    breaker::Ticket,
    config::{Body, Rules},
};
use crate::{
    Error,
    chat::{ChatEvent, ChatStream},
};

pin_project! {
    /// The body of [`Fallback`](super::Fallback)'s responses: the stream of whoever answers.
    ///
    /// Where it breaks off the upstream is remembered to have failed. Nothing is asked again.
    #[must_use = "streams do nothing unless polled"]
    pub struct FallbackStream<B> {
        #[pin]
        answer: Given<B>,
        report: Option<Report>,
    }
}

pin_project! {
    /// An answer by who gives it.
    #[project = GivenProjection]
    pub(super) enum Given<B> {
        First { #[pin] answer: B },
        // Whatever its type.
        Other { answer: Body },
    }
}

/// Who is told how it has gone.
pub(super) struct Report {
    pub(super) rules: Arc<Rules>,
    /// Which of the stacks it is.
    pub(super) place: usize,
    pub(super) ticket: Ticket,
}

impl Report {
    pub(super) fn note(&self, outcome: Result<(), &Error>) {
        let is_well = match outcome {
            Ok(()) => true,
            Err(error) if (self.rules.config.when)(error) => false,
            // It is nothing of the upstream's, well or not.
            Err(_) => return,
        };
        self.note_that(is_well);
    }

    pub(super) fn note_that(&self, is_well: bool) {
        self.rules.named(self.place).note(&self.rules.config, self.ticket, is_well);
    }
}

impl<B> FallbackStream<B> {
    pub(super) const fn new(answer: Given<B>, report: Report) -> Self {
        Self { answer, report: Some(report) }
    }
}

impl<B: ChatStream> Stream for FallbackStream<B> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let event = match this.answer.project() {
            GivenProjection::First { answer } => answer.poll_next(cx),
            GivenProjection::Other { answer } => answer.as_mut().poll_next(cx),
        };
        let outcome = match &event {
            Poll::Ready(Some(Ok(ChatEvent::Finished(_)))) => Ok(()),
            Poll::Ready(Some(Err(error))) => Err(error),
            _ => return event,
        };
        if let Some(report) = this.report.take() {
            report.note(outcome);
        }
        event
    }
}

impl<B> fmt::Debug for FallbackStream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackStream").finish_non_exhaustive()
    }
}

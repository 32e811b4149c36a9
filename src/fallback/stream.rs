use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::time::Instant;

use super::config::{Body, Config, Named};
use crate::{Error, chat::ChatEvent};

/// The body of [`Fallback`](super::Fallback)'s responses: the stream of whoever answers.
///
/// Where it breaks off the upstream is remembered to have failed. Nothing is asked again.
#[must_use = "streams do nothing unless polled"]
pub struct FallbackStream {
    body: Body,
    report: Option<Box<Report>>,
}

/// Who is told how it has gone.
pub(super) struct Report {
    pub(super) who: Named,
    pub(super) config: Config,
    pub(super) sent: Instant,
}

impl Report {
    pub(super) fn note(&self, outcome: Result<(), &Error>) {
        let is_well = match outcome {
            Ok(()) => true,
            Err(error) if (self.config.when)(error) => false,
            // It is nothing of the upstream's, well or not.
            Err(_) => return,
        };
        self.who.note(&self.config, self.sent, is_well);
    }
}

impl FallbackStream {
    pub(super) fn new(body: Body, report: Report) -> Self {
        Self { body, report: Some(Box::new(report)) }
    }
}

impl Stream for FallbackStream {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = self.body.as_mut().poll_next(cx);
        match &event {
            Poll::Ready(Some(Ok(ChatEvent::Finished(_)))) => {
                if let Some(report) = self.report.take() {
                    report.note(Ok(()));
                }
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(report) = self.report.take() {
                    report.note(Err(error));
                }
            }
            _ => {}
        }
        event
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.body.size_hint()
    }
}

impl fmt::Debug for FallbackStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackStream").finish_non_exhaustive()
    }
}

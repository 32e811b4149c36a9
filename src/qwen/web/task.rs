//! A film in the making: upstream is asked about it until it is there.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::{Request, Response};
use http_body::Body;
use tokio::time::{Instant, sleep};
use tower_service::Service;

use super::{
    kept::{Kept, TaskState},
    making::Making,
};
use crate::{
    BoxError, Error, ErrorKind, Fate, FullBody, Text,
    chat::{Attachment, ChatEvent, Conversation, FinishReason},
};

/// How long a film takes, by which its progress is told where upstream says nothing of it.
const USUAL: Duration = Duration::from_secs(350);

/// How many times in a row upstream may fail to say what the task is at.
const FAILURES: u32 = 5;

/// When a task is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    /// How long the whole may take.
    pub(super) limit: Duration,
}

type Asking<S> = Pin<Box<dyn Future<Output = (Kept<S>, Result<TaskState, Error>)> + Send>>;

/// The answer that a film is.
///
/// It cannot be cancelled upstream: when this is dropped the task goes on there, and the film stands
/// in the account's chat when it is done.
pub(super) struct Task<S> {
    task_id: Text,
    place: Conversation,
    making: Making,
    pace: Pace,
    begun: Instant,
    /// In percent, as far as it was told.
    progress: u8,
    /// In a row.
    failures: u32,
    ready: VecDeque<Result<ChatEvent, Error>>,
    /// `None` when it is over.
    asking: Option<Asking<S>>,
    outcome: &'static str,
}

impl<S, B> Task<S>
where
    S: Service<Request<FullBody>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// The task of this id, which was just begun by the answer that `place` has for its parent.
    pub(super) fn new(
        kept: Kept<S>,
        task_id: Text,
        place: Conversation,
        making: Making,
        pace: Pace,
    ) -> Self {
        let started = ChatEvent::Started(place.clone().into());
        let mut task = Self {
            task_id,
            place,
            making,
            pace,
            begun: Instant::now(),
            progress: 0,
            failures: 0,
            ready: VecDeque::from([Ok(started), Ok(ChatEvent::Progress(0))]),
            asking: None,
            outcome: "left",
        };
        task.ask(kept);
        task
    }

    /// Asks again, in a while.
    fn ask(&mut self, mut kept: Kept<S>) {
        let (id, place, making) = (self.task_id.clone(), self.place.clone(), self.making);
        let interval = self.pace.interval;
        self.asking = Some(Box::pin(async move {
            sleep(interval).await;
            let mut told = kept.task(&id).await;
            // The record of the chat may hold what the task does not tell any more.
            let is_there = match &told {
                Ok(TaskState::Made(None)) => true,
                Err(error) => error.kind() == ErrorKind::NotFound,
                Ok(_) => false,
            };
            if is_there {
                match kept.made(&place.chat_id, place.parent_id.as_deref(), &making).await {
                    Ok(found) => {
                        if let Some(url) = found.into_iter().next() {
                            told = Ok(TaskState::Made(Some(url)));
                        }
                    }
                    Err(error) => tracing::debug!(%error, "the chat of a task cannot be read"),
                }
            }
            (kept, told)
        }));
    }

    /// Takes what upstream says of the task.
    fn take(&mut self, kept: Kept<S>, told: Result<TaskState, Error>) {
        let spent = self.begun.elapsed();
        match told {
            Ok(TaskState::Running { left }) => {
                self.failures = 0;
                self.progress = self.progress.max(percent(spent, left));
                self.ready.push_back(Ok(ChatEvent::Progress(self.progress)));
            }
            Ok(TaskState::Made(Some(url))) => {
                let made = Attachment::new(self.making.attachment(), url);
                self.ready.push_back(Ok(ChatEvent::Attachment(made)));
                self.ready.push_back(Ok(ChatEvent::Finished(FinishReason::Stop)));
                self.outcome = "made";
                return;
            }
            Ok(TaskState::Made(None)) => {
                let message = "the upstream says that it is done, and not where it is";
                let error = Error::new(ErrorKind::Upstream, message).with_fate(Fate::Refused);
                return self.fail("failed", error);
            }
            Ok(TaskState::Failed(error)) => return self.fail("failed", error),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let message = "the upstream has lost the task; it may have come to nothing";
                let error = Error::new(ErrorKind::Upstream, message).with_source(error);
                let error = error.with_code("task_lost").with_fate(Fate::Refused);
                return self.fail("lost", error);
            }
            Err(error) if error.is_retryable() || error.is_timeout() => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    return self.fail("failed", error);
                }
                tracing::debug!(%error, failures = self.failures, "a task cannot be asked about");
            }
            Err(error) => return self.fail("failed", error),
        }
        if spent >= self.pace.limit {
            let message = format!(
                "the {} was not there within {} s; upstream has no way to cancel it, so it may \
                 still come, in the account's chat",
                self.making.word(),
                self.pace.limit.as_secs()
            );
            let error = Error::new(ErrorKind::Timeout, message).with_fate(Fate::Abandoned);
            return self.fail("timeout", error);
        }
        self.ask(kept);
    }

    fn fail(&mut self, outcome: &'static str, error: Error) {
        self.outcome = outcome;
        self.ready.push_back(Err(error));
    }
}

/// How much is done after `spent`, where so much time is `left`.
fn percent(spent: Duration, left: Option<Duration>) -> u8 {
    let whole = match left {
        Some(left) => spent.saturating_add(left),
        None => USUAL,
    };
    let share = spent.as_secs_f64() / whole.as_secs_f64().max(1.0);
    // The cast saturates.
    ((share * 100.0) as u8).min(99)
}

impl<S, B> Stream for Task<S>
where
    S: Service<Request<FullBody>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(item) = this.ready.pop_front() {
                return Poll::Ready(Some(item));
            }
            let Some(asking) = &mut this.asking else { return Poll::Ready(None) };
            let (kept, told) = ready!(asking.as_mut().poll(cx));
            this.asking = None;
            this.take(kept, told);
        }
    }
}

impl<S> Drop for Task<S> {
    fn drop(&mut self) {
        if self.outcome == "left" {
            tracing::debug!(chat_id = %self.place.chat_id, "nobody waits any more for a task, which goes on");
        }
        metrics::counter!("tower_qwen_web_tasks_total", "outcome" => self.outcome).increment(1);
    }
}

impl<S> fmt::Debug for Task<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("making", &self.making)
            .field("progress", &self.progress)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_by_the_time_that_is_left_or_usual() {
        let seconds = Duration::from_secs;
        for (spent, left, told) in [
            (0, None, 0),
            (35, None, 10),
            (350, None, 99),
            (9_999, None, 99),
            (10, Some(30), 25),
            (10, Some(0), 99),
            (0, Some(0), 0),
        ] {
            let left = left.map(seconds);
            assert_eq!(percent(seconds(spent), left), told, "{spent} {left:?}");
        }
    }
}

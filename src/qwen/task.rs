//! An image or a video in the making: upstream is asked about it until it is there.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use tokio::time::{Instant, sleep};

use crate::{
    Error, ErrorKind, Fate, Text,
    chat::{AnswerKind, Attachment, AttachmentKind, ChatEvent, FinishReason, Started},
};

/// How long a video takes, by which its progress is told where upstream says nothing of it.
const USUAL: Duration = Duration::from_secs(350);

/// The same of an image.
const USUAL_IMAGE: Duration = Duration::from_secs(60);

/// How many times in a row upstream may fail to say what the task is at.
const FAILURES: u32 = 5;

/// When a task is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    /// How long the whole may take.
    pub(super) limit: Duration,
}

/// What a task is at.
#[derive(Debug)]
pub(super) enum TaskState {
    /// It runs; it may be said for how long it still will.
    Running { left: Option<Duration> },
    /// It is done, and this is where what it made is, as far as that is said.
    Made(Vec<Text>),
    /// It came to nothing.
    Failed(Error),
}

/// Asks upstream about one task.
pub(super) trait Ask: Send + 'static {
    /// What the task is at.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where upstream does not know it, and what else it says.
    fn ask(&mut self) -> impl Future<Output = Result<TaskState, Error>> + Send;
}

type Asking<A> = Pin<Box<dyn Future<Output = (A, Result<TaskState, Error>)> + Send>>;

/// As an adapter's stream holds it: boxed, as it comes once for each task.
pub(super) type BoxedTask = Pin<Box<dyn Stream<Item = Result<ChatEvent, Error>> + Send>>;

/// The answer that a task makes.
///
/// No upstream can be told to stop one: when this is dropped the task goes on there.
pub(super) struct Task<A> {
    kind: AnswerKind,
    pace: Pace,
    begun: Instant,
    /// In percent, as far as it was told.
    progress: u8,
    /// In a row.
    failures: u32,
    ready: VecDeque<Result<ChatEvent, Error>>,
    /// `None` when it is over.
    asking: Option<Asking<A>>,
    /// The label `upstream` of the metrics.
    upstream: &'static str,
    outcome: &'static str,
}

impl<A: Ask> Task<A> {
    /// A task that was just begun for an answer of this `kind`, at a place in a chat if upstream keeps
    /// one.
    pub(super) fn new(
        upstream: &'static str,
        kind: AnswerKind,
        started: Started,
        asks: A,
        pace: Pace,
    ) -> Self {
        let started = ChatEvent::Started(Box::new(started));
        let mut task = Self {
            kind,
            pace,
            begun: Instant::now(),
            progress: 0,
            failures: 0,
            ready: VecDeque::from([Ok(started), Ok(ChatEvent::Progress(0))]),
            asking: None,
            upstream,
            outcome: "left",
        };
        task.ask(asks);
        task
    }

    /// Asks again, in a while.
    fn ask(&mut self, mut asks: A) {
        let interval = self.pace.interval;
        self.asking = Some(Box::pin(async move {
            sleep(interval).await;
            let told = asks.ask().await;
            (asks, told)
        }));
    }

    /// Takes what upstream says of the task.
    fn take(&mut self, asks: A, told: Result<TaskState, Error>) {
        let spent = self.begun.elapsed();
        match told {
            Ok(TaskState::Running { left }) => {
                self.failures = 0;
                self.progress = self.progress.max(percent(spent, left, self.kind));
                self.ready.push_back(Ok(ChatEvent::Progress(self.progress)));
            }
            Ok(TaskState::Made(urls)) if urls.is_empty() => {
                let message = "the upstream says that it is done, and not where it is";
                let error = Error::new(ErrorKind::Upstream, message).with_fate(Fate::Refused);
                return self.fail("failed", error);
            }
            Ok(TaskState::Made(urls)) => {
                let kind = match self.kind {
                    AnswerKind::Video => AttachmentKind::Video,
                    _ => AttachmentKind::Image,
                };
                let made = urls.into_iter().map(|url| Attachment::new(kind, url));
                self.ready.extend(made.map(|made| Ok(ChatEvent::Attachment(made))));
                self.ready.push_back(Ok(ChatEvent::Finished(FinishReason::Stop)));
                self.outcome = "made";
                return;
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
                "the {} was not there within {} s; upstream has no way to stop it, so it may still \
                 be made, and paid for",
                self.kind,
                self.pace.limit.as_secs()
            );
            let error = Error::new(ErrorKind::Timeout, message).with_fate(Fate::Abandoned);
            return self.fail("timeout", error);
        }
        self.ask(asks);
    }

    fn fail(&mut self, outcome: &'static str, error: Error) {
        self.outcome = outcome;
        self.ready.push_back(Err(error));
    }
}

/// How much is done after `spent`, where so much time is `left`.
fn percent(spent: Duration, left: Option<Duration>, kind: AnswerKind) -> u8 {
    let whole = match (left, kind) {
        (Some(left), _) => spent.saturating_add(left),
        (None, AnswerKind::Video) => USUAL,
        (None, _) => USUAL_IMAGE,
    };
    let share = spent.as_secs_f64() / whole.as_secs_f64().max(1.0);
    // The cast saturates.
    ((share * 100.0) as u8).min(99)
}

impl<A: Ask> Stream for Task<A> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(item) = this.ready.pop_front() {
                return Poll::Ready(Some(item));
            }
            let Some(asking) = &mut this.asking else { return Poll::Ready(None) };
            let (asks, told) = ready!(asking.as_mut().poll(cx));
            this.asking = None;
            this.take(asks, told);
        }
    }
}

impl<A> Drop for Task<A> {
    fn drop(&mut self) {
        if self.outcome == "left" {
            tracing::debug!(upstream = self.upstream, "nobody waits for a task, which goes on");
        }
        let (upstream, outcome) = (self.upstream, self.outcome);
        metrics::counter!("tower_qwen_tasks_total", "upstream" => upstream, "outcome" => outcome)
            .increment(1);
    }
}

impl<A> fmt::Debug for Task<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("kind", &self.kind)
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
        use AnswerKind::{Image, Video};
        let seconds = Duration::from_secs;
        for (kind, spent, left, told) in [
            (Video, 0, None, 0),
            (Video, 35, None, 10),
            (Video, 350, None, 99),
            (Video, 9_999, None, 99),
            (Image, 30, None, 50),
            (Video, 10, Some(30), 25),
            (Video, 10, Some(0), 99),
            (Video, 0, Some(0), 0),
        ] {
            let left = left.map(seconds);
            assert_eq!(percent(seconds(spent), left, kind), told, "{spent} {left:?}");
        }
    }
}

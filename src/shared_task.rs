//! Work that any number of callers wait for, and the pause after it has failed.

use std::{future::Future, time::Duration};

use tokio::{runtime::Handle, sync::watch, time::Instant};

/// Work that is done once, however many wait for it: on a task of its own and to its end, whoever
/// stops waiting. Clones wait for the same work.
#[derive(Clone, Debug)]
pub(crate) struct SharedTask<T>(watch::Receiver<Option<T>>);

/// Starts the work of a [`SharedTask`].
#[derive(Debug)]
pub(crate) struct Start<T>(watch::Sender<Option<T>>);

impl<T: Clone + Send + Sync + 'static> SharedTask<T> {
    /// A task, and what starts it.
    ///
    /// The two are apart because a task is made known under a lock and must be started outside of
    /// it: without a runtime, or on one that is ending, the work ends while it is started.
    pub(crate) fn new() -> (Self, Start<T>) {
        let (sender, receiver) = watch::channel(None);
        (Self(receiver), Start(sender))
    }

    /// Waits for the end of the work. `None` where it was never started.
    pub(crate) async fn result(mut self) -> Option<T> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl<T: Send + Sync + 'static> Start<T> {
    /// Does `work`, and tells those who wait what `end` makes of its output.
    ///
    /// `end` is called once, whatever happens: with `None` where the work panicked, where its
    /// runtime ended first, or where there is no tokio runtime.
    pub(crate) fn run<W>(self, work: W, end: impl FnOnce(Option<W::Output>) -> T + Send + 'static)
    where
        W: Future<Output: Send> + Send + 'static,
    {
        let mut ending = Ending { start: self, end: Some(Box::new(end)) };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let output = work.await;
                ending.end(Some(output));
            });
        }
    }
}

struct Ending<T, O> {
    start: Start<T>,
    end: Option<Box<dyn FnOnce(Option<O>) -> T + Send>>,
}

impl<T, O> Ending<T, O> {
    fn end(&mut self, output: Option<O>) {
        if let Some(end) = self.end.take() {
            // Nobody may be waiting any more, which is fine.
            self.start.0.send_replace(Some(end(output)));
        }
    }
}

impl<T, O> Drop for Ending<T, O> {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// How often something has failed in a row, and until when it is left alone.
#[derive(Clone, Debug)]
pub(crate) struct Setback<E> {
    /// The last failure.
    pub(crate) error: E,
    count: u32,
    until: Instant,
}

impl<E> Setback<E> {
    /// One failure more than `before`; `pause` says how long to wait after this many.
    pub(crate) fn after(
        before: Option<Self>,
        error: E,
        now: Instant,
        pause: impl FnOnce(u32, &E) -> Duration,
    ) -> Self {
        let count = before.map_or(0, |before| before.count).saturating_add(1);
        let until = later(now, pause(count, &error));
        Self { error, count, until }
    }

    /// How long it is left alone still; `None` where that is over.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

/// `first`, doubled with every count after the first, up to `longest`.
pub(crate) fn doubled(first: Duration, count: u32, longest: Duration) -> Duration {
    first
        .saturating_mul(1_u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX))
        .min(longest)
}

/// The instant `span` after `now`; a year away where that is too far to say.
pub(crate) fn later(now: Instant, span: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 86_400);
    now + span.min(FAR)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What `end` was called with, each time.
    type Calls = Arc<Mutex<Vec<Option<u8>>>>;

    fn start(work: impl Future<Output = u8> + Send + 'static) -> (SharedTask<Option<u8>>, Calls) {
        let calls = Calls::default();
        let log = Arc::clone(&calls);
        let (task, start) = SharedTask::new();
        start.run(work, move |output| {
            log.lock().expect("not poisoned").push(output);
            output
        });
        (task, calls)
    }

    #[tokio::test]
    async fn all_who_wait_get_the_one_result() {
        let (task, calls) = start(async {
            tokio::task::yield_now().await;
            7
        });
        let other = tokio::spawn(task.clone().result());
        assert_eq!(task.clone().result().await, Some(Some(7)));
        assert_eq!(other.await.expect("no panic"), Some(Some(7)));
        assert_eq!(task.result().await, Some(Some(7)), "whoever comes late gets it too");
        assert_eq!(*calls.lock().expect("not poisoned"), [Some(7)]);
    }

    #[tokio::test]
    async fn work_goes_on_with_nobody_waiting() {
        let (task, calls) = start(async { 7 });
        drop(task);
        while calls.lock().expect("not poisoned").is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*calls.lock().expect("not poisoned"), [Some(7)]);
    }

    #[tokio::test]
    async fn a_panic_is_an_end() {
        let (task, calls) = start(async { panic!("a defect of the work") });
        assert_eq!(task.result().await, Some(None));
        assert_eq!(*calls.lock().expect("not poisoned"), [None]);
    }

    #[test]
    fn no_runtime_and_one_that_has_ended_are_an_end() {
        let (_, calls) = start(async { 7 });
        assert_eq!(*calls.lock().expect("not poisoned"), [None]);

        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let handle = runtime.handle().clone();
        let (_, cut) = handle.block_on(async { start(std::future::pending()) });
        drop(runtime);
        assert_eq!(*cut.lock().expect("not poisoned"), [None]);
        let _entered = handle.enter();
        let (_, late) = start(async { 7 });
        assert_eq!(*late.lock().expect("not poisoned"), [None]);
    }

    #[test]
    fn the_pause_grows_with_each_failure_and_ends() {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let mut last = None;
        for expected in [1, 2, 4, 5, 5] {
            let setback =
                Setback::after(last, "down", now, |count, _| doubled(second, count, 5 * second));
            assert_eq!(setback.left(now), Some(expected * second));
            assert_eq!(setback.left(now + expected * second), None);
            last = Some(setback);
        }
        assert_eq!(doubled(second, u32::MAX, Duration::MAX), second * u32::MAX);
        assert!(later(now, Duration::MAX) > now);
    }
}

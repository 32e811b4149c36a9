use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock;

/// When to send a keep-alive: after this much silence.
///
/// Clients and the proxies between give up on a silent connection (the OpenAI SDKs after
/// 600 s, many load balancers after 60 s); 10 to 15 seconds suit most. What is sent is
/// [`KEEP_ALIVE`](super::KEEP_ALIVE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    interval: Duration,
}

impl KeepAlive {
    /// A keep-alive after each `interval` of silence.
    ///
    /// # Panics
    ///
    /// If `interval` is zero.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        assert!(!interval.is_zero(), "the interval between keep-alives must not be zero");
        Self { interval }
    }

    /// The silence before a keep-alive.
    #[must_use]
    pub const fn interval(self) -> Duration {
        self.interval
    }

    /// A timer for one response body.
    #[must_use]
    pub const fn timer(self) -> KeepAliveTimer {
        KeepAliveTimer { interval: self.interval, quiet_since: None, sleep: None }
    }
}

/// Tells a response body when it has been silent for too long.
///
/// The body calls [`poll_quiet`](Self::poll_quiet) when it has nothing to send, and
/// [`reset`](Self::reset) when it sends something. Resetting is a plain store; the clock is read
/// once a silence, and the runtime's timer is touched once an interval, not once an event.
#[derive(Debug)]
pub struct KeepAliveTimer {
    interval: Duration,
    /// When the present silence was first noticed.
    quiet_since: Option<Instant>,
    /// Boxed at the first silence, so that bodies with a timer stay `Unpin`.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl KeepAliveTimer {
    /// Notes that something was sent: the silence starts anew.
    pub fn reset(mut self: Pin<&mut Self>) {
        self.quiet_since = None;
    }

    /// Is ready when a keep-alive is due, and then starts the next silence.
    ///
    /// Outside of a tokio runtime there is no timer, and none is ever due.
    ///
    /// # Panics
    ///
    /// In a tokio runtime whose timer is off.
    pub fn poll_quiet(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.sleep.is_none() && !clock::is_there() {
            return Poll::Pending;
        }
        let since = *this.quiet_since.get_or_insert_with(Instant::now);
        // An interval that the clock cannot add is one that never ends.
        let Some(due) = since.checked_add(this.interval) else { return Poll::Pending };
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        ready!(sleep.as_mut().poll(cx));
        if sleep.deadline() < due {
            // Set for an earlier silence, which something ended.
            sleep.as_mut().reset(due);
            ready!(sleep.as_mut().poll(cx));
        }
        let now = Instant::now();
        this.quiet_since = Some(now);
        if let Some(next) = now.checked_add(this.interval) {
            sleep.as_mut().reset(next);
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::advance;
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn each_silence_has_its_full_interval() {
        let mut timer = pin!(KeepAlive::new(INTERVAL).timer());
        let mut task = task::spawn(());
        let mut poll = |timer: &mut Pin<&mut KeepAliveTimer>| {
            task.enter(|cx, _| timer.as_mut().poll_quiet(cx))
        };
        assert_pending!(poll(&mut timer));
        advance(INTERVAL * 9 / 10).await;
        timer.as_mut().reset();
        assert_pending!(poll(&mut timer));
        // The sleep of the first silence fires here; it must not count for the second.
        advance(INTERVAL * 9 / 10).await;
        assert_pending!(poll(&mut timer));
        advance(INTERVAL / 10 + Duration::from_millis(1)).await;
        assert_ready!(poll(&mut timer));
        assert_pending!(poll(&mut timer));
        advance(INTERVAL + Duration::from_millis(1)).await;
        assert_ready!(poll(&mut timer));
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_the_task_when_due() {
        let mut timer = pin!(KeepAlive::new(INTERVAL).timer());
        let start = Instant::now();
        std::future::poll_fn(|cx| timer.as_mut().poll_quiet(cx)).await;
        assert!(start.elapsed() >= INTERVAL && start.elapsed() < INTERVAL * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_interval_never_ends() {
        let mut timer = pin!(KeepAlive::new(Duration::MAX).timer());
        let mut task = task::spawn(());
        assert_pending!(task.enter(|cx, _| timer.as_mut().poll_quiet(cx)));
    }

    #[test]
    fn outside_of_a_runtime_none_is_due() {
        let mut timer = pin!(KeepAlive::new(Duration::from_nanos(1)).timer());
        let mut task = task::spawn(());
        for _ in 0..2 {
            assert_pending!(task.enter(|cx, _| timer.as_mut().poll_quiet(cx)));
        }
    }

    #[test]
    #[should_panic(expected = "must not be zero")]
    fn a_zero_interval_is_refused() {
        let _ = KeepAlive::new(Duration::ZERO);
    }
}

use std::{
    future::Future,
    mem,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

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
        KeepAliveTimer {
            interval: self.interval,
            slack: Duration::ZERO,
            was_sent: true,
            since: None,
            alarm: None,
        }
    }

    /// A timer that may be late by a 64th of the interval, and in return reads no clock at a
    /// silence that is shorter.
    pub(crate) fn late_timer(self) -> KeepAliveTimer {
        KeepAliveTimer { slack: self.interval / 64, ..self.timer() }
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
    /// For how long a silence may go unnoticed.
    slack: Duration,
    /// Whether something was sent since a silence was noticed, or ever.
    was_sent: bool,
    /// When the last silence was noticed.
    since: Option<Instant>,
    alarm: Option<Alarm>,
}

/// Goes off when it is time to look at the clock.
#[derive(Debug)]
struct Alarm {
    /// Boxed, so that bodies with a timer stay `Unpin`.
    sleep: Pin<Box<Sleep>>,
    /// The task that it wakes, where it was told of one.
    waker: Option<Waker>,
    /// Whether it is set so early that a silence need not be noticed before.
    is_early: bool,
}

impl KeepAliveTimer {
    /// Notes that something was sent: the silence starts anew.
    #[inline]
    pub fn reset(mut self: Pin<&mut Self>) {
        self.was_sent = true;
    }

    /// Is ready when a keep-alive is due, and then starts the next silence.
    ///
    /// Outside of a tokio runtime there is no timer, and none is ever due.
    ///
    /// # Panics
    ///
    /// In a tokio runtime whose timer is off.
    #[inline]
    pub fn poll_quiet(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(alarm) = &self.alarm
            && (alarm.is_early || !self.was_sent)
            && alarm.will_wake(cx.waker())
        {
            return Poll::Pending;
        }
        self.poll_clock(cx)
    }

    /// Whether neither the clock nor the runtime's timer was ever asked.
    #[cfg(all(test, feature = "timeout"))]
    pub(crate) fn is_untouched(&self) -> bool {
        self.since.is_none() && self.alarm.is_none()
    }

    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.alarm.is_none() && !clock::is_there() {
            return Poll::Pending;
        }
        loop {
            let now = Instant::now();
            let is_new = mem::take(&mut self.was_sent);
            let since = match self.since {
                Some(since) if !is_new => since,
                _ => *self.since.insert(now),
            };
            // An interval that the clock cannot add is one that never ends.
            let Some(due) = since.checked_add(self.interval) else { return Poll::Pending };
            if due <= now {
                self.since = Some(now);
                return Poll::Ready(());
            }
            let is_early = is_new && !self.slack.is_zero();
            let at = if is_early { due.min(now + self.slack) } else { due };
            let alarm = self.alarm.get_or_insert_with(|| Alarm::new(at));
            alarm.is_early = is_early;
            // One that is set for an earlier silence goes off before this one is over.
            if alarm.sleep.is_elapsed() || alarm.sleep.deadline() > at {
                alarm.sleep.as_mut().reset(at);
                alarm.waker = None;
            }
            if alarm.will_wake(cx.waker()) {
                return Poll::Pending;
            }
            ready!(alarm.poll(cx));
        }
    }
}

impl Alarm {
    fn new(at: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(at)), waker: None, is_early: false }
    }

    /// Is ready where it has gone off; otherwise this is the task that it wakes.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Where the task has used up its share of a turn, the sleep would be pending without
        // having been told of the task.
        let polled = pin!(unconstrained(self.sleep.as_mut())).poll(cx);
        self.waker = polled.is_pending().then(|| cx.waker().clone());
        polled
    }

    /// Whether it has not gone off, and wakes this task when it does.
    #[inline]
    fn will_wake(&self, waker: &Waker) -> bool {
        self.waker.as_ref().is_some_and(|own| own.will_wake(waker)) && !self.sleep.is_elapsed()
    }
}

#[cfg(test)]
mod tests {
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
        for timer in [KeepAlive::new(INTERVAL).timer(), KeepAlive::new(INTERVAL).late_timer()] {
            let mut timer = pin!(timer);
            let start = Instant::now();
            std::future::poll_fn(|cx| timer.as_mut().poll_quiet(cx)).await;
            assert!(start.elapsed() >= INTERVAL && start.elapsed() < INTERVAL * 2);
        }
    }

    /// However many silences there were before, of whatever length, and whichever task waits.
    #[tokio::test(start_paused = true)]
    async fn a_late_timer_is_a_little_late() {
        for gap in [1, 10, 100, 150, 160, 1_000, 9_000] {
            let mut timer = pin!(KeepAlive::new(INTERVAL).late_timer());
            for _ in 0..100 {
                let mut task = task::spawn(());
                assert_pending!(task.enter(|cx, _| timer.as_mut().poll_quiet(cx)));
                advance(Duration::from_millis(gap)).await;
                timer.as_mut().reset();
            }
            let start = Instant::now();
            std::future::poll_fn(|cx| timer.as_mut().poll_quiet(cx)).await;
            let late = start.elapsed().checked_sub(INTERVAL).expect("never before it is due");
            assert!(late <= INTERVAL / 64 + Duration::from_millis(1), "{late:?} after each {gap}");
        }
    }

    /// A task that has used up its share of a turn is woken all the same.
    #[tokio::test(start_paused = true)]
    async fn a_turn_that_is_used_up_loses_no_alarm() {
        let mut timer = pin!(KeepAlive::new(INTERVAL).timer());
        let start = Instant::now();
        let mut is_used_up = false;
        std::future::poll_fn(|cx| {
            // Each takes a part of the share.
            while !is_used_up {
                is_used_up = pin!(tokio::task::consume_budget()).poll(cx).is_pending();
            }
            timer.as_mut().poll_quiet(cx)
        })
        .await;
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

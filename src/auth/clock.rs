use std::{fmt, sync::Arc, time::SystemTime};

/// The wall clock that expiry is measured against.
///
/// Tokens end at a calendar time, so a monotonic clock will not do. Cool-downs and back-offs are
/// spans; they use tokio's clock.
///
/// Any `Fn() -> SystemTime` is a clock, which is how tests bring their own.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> SystemTime;
}

impl<F> Clock for F
where
    F: Fn() -> SystemTime + Send + Sync + 'static,
{
    fn now(&self) -> SystemTime {
        self()
    }
}

/// A clock that is shared by whoever must agree about the time.
#[derive(Clone)]
pub(super) struct SharedClock(Option<Arc<dyn Clock>>);

impl SharedClock {
    /// The system's clock, without an indirection.
    pub(super) const SYSTEM: Self = Self(None);

    pub(super) fn new(clock: impl Clock) -> Self {
        Self(Some(Arc::new(clock)))
    }

    pub(super) fn now(&self) -> SystemTime {
        match &self.0 {
            None => SystemTime::now(),
            Some(clock) => clock.now(),
        }
    }

    /// The time now or a few milliseconds ago, for what has a margin of seconds.
    ///
    /// Every request asks, and the system's exact clock is among the dearest things that a
    /// request does.
    pub(super) fn roughly_now(&self) -> SystemTime {
        match &self.0 {
            None => coarse(),
            Some(clock) => clock.now(),
        }
    }
}

/// The kernel's clock as of its last tick: the same calendar time, read without the hardware's
/// counter.
#[cfg(target_os = "linux")]
fn coarse() -> SystemTime {
    use std::time::Duration;

    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec)) else {
        // Before 1970.
        return SystemTime::now();
    };
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
}

#[cfg(not(target_os = "linux"))]
fn coarse() -> SystemTime {
    SystemTime::now()
}

impl fmt::Debug for SharedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Clock(own)" } else { "Clock(system)" })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_rough_time_is_the_time() {
        // No tick is longer than 10 ms; the rest is for a machine that is busy.
        let before = SystemTime::now() - Duration::from_millis(500);
        let rough = SharedClock::SYSTEM.roughly_now();
        assert!(before <= rough && rough <= SystemTime::now() + Duration::from_millis(500));
        let own = SharedClock::new(|| SystemTime::UNIX_EPOCH);
        assert_eq!(own.roughly_now(), SystemTime::UNIX_EPOCH);
    }
}

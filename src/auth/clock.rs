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
}

impl fmt::Debug for SharedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Clock(own)" } else { "Clock(system)" })
    }
}

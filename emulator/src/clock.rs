//! Time as the emulator sees it: tokio's, so that a paused clock moves it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A wall clock that moves with tokio's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    unix: Duration,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    pub(super) fn now(&self) -> Instant {
        Instant::now()
    }

    /// Seconds since the Unix epoch.
    pub(super) fn unix_seconds(&self) -> u64 {
        (self.unix + self.start.elapsed()).as_secs()
    }
}

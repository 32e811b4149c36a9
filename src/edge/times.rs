//! How long an answer takes, for protocols that tell.

use std::time::Duration;

use tokio::time::Instant;

/// When an answer was asked for, when it began, and when it was over.
///
/// A writer reads no clock: who drives it takes the times, and the writer tells what was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    asked: Instant,
    begun: Option<Instant>,
    over: Option<Instant>,
}

impl Times {
    /// Of an answer that is asked for now.
    pub(crate) fn now() -> Self {
        Self { asked: Instant::now(), begun: None, over: None }
    }

    /// It begins now, unless it has.
    pub(super) fn begin(&mut self) {
        self.begun.get_or_insert_with(Instant::now);
    }

    /// It is over now, unless it was.
    pub(crate) fn end(&mut self) {
        self.over.get_or_insert_with(Instant::now);
    }

    /// From when it was asked for to its end; nothing before that was taken.
    pub(crate) fn total(&self) -> Duration {
        self.over.map_or(Duration::ZERO, |over| over - self.asked)
    }

    /// From when it was asked for to its beginning.
    pub(crate) fn until_begun(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| begun - self.asked)
    }

    /// From its beginning to its end.
    pub(crate) fn since_begun(&self) -> Duration {
        self.total().saturating_sub(self.until_begun())
    }
}

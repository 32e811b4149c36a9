use std::time::Duration;

use super::watch::Limits;
use crate::sse::KeepAlive;

/// Puts [`Timeout`](super::Timeout) in front of a service: limits on the first event of an answer, on the wait for
/// each further one, and on the whole.
///
/// See the [module](super) for what counts as progress and where it stands. tower's layer of the
/// same name bounds the response future alone.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer {
    pub(super) limits: Limits,
}

impl TimeoutLayer {
    /// For a service on the internet, such as chat.qwen.ai: 60 s to the first event, 120 s between
    /// two, 15 minutes for the whole.
    ///
    /// chat.qwen.ai keeps its streams alive every 10 s while a model thinks, and shows what it
    /// thinks.
    #[must_use]
    pub const fn hosted() -> Self {
        Self::of(60, 120)
    }

    /// For a server that may run on a single machine, such as llama.cpp or Ollama: 600 s to the
    /// first event, 300 s between two, 15 minutes for the whole.
    ///
    /// Before its first byte such a server loads the model and reads the prompt, which may be long.
    /// Many also send a call in one piece, and are silent while they write it.
    #[must_use]
    pub const fn local() -> Self {
        Self::of(600, 300)
    }

    const fn of(first_event: u64, idle: u64) -> Self {
        let first_event = Some(KeepAlive::new(Duration::from_secs(first_event)));
        let idle = Some(KeepAlive::new(Duration::from_secs(idle)));
        let total = Some(KeepAlive::new(Duration::from_secs(15 * 60)));
        Self { limits: Limits { first_event, idle, total } }
    }

    /// How long the first event may take, from the request. `None` is for ever.
    ///
    /// # Panics
    ///
    /// If the limit is zero.
    #[must_use]
    pub const fn first_event(mut self, limit: Option<Duration>) -> Self {
        self.limits.first_event = checked(limit);
        self
    }

    /// How long each event behind the first may be waited for. `None` is for ever.
    ///
    /// # Panics
    ///
    /// If the limit is zero.
    #[must_use]
    pub const fn idle(mut self, limit: Option<Duration>) -> Self {
        self.limits.idle = checked(limit);
        self
    }

    /// How long the whole answer may take, from the request. `None` is for ever.
    ///
    /// # Panics
    ///
    /// If the limit is zero.
    #[must_use]
    pub const fn total(mut self, limit: Option<Duration>) -> Self {
        self.limits.total = checked(limit);
        self
    }
}

/// A limit that is not zero.
const fn checked(limit: Option<Duration>) -> Option<KeepAlive> {
    match limit {
        Some(limit) => {
            assert!(!limit.is_zero(), "a limit of time must not be zero");
            Some(KeepAlive::new(limit))
        }
        None => None,
    }
}

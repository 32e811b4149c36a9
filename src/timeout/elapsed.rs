use std::{error::Error as StdError, fmt, iter, time::Duration};

use crate::{Error, ErrorKind, Fate};

/// Which limit of a [`TimeoutLayer`](super::TimeoutLayer) it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// That on the first event.
    FirstEvent,
    /// That on the wait for the next one.
    Idle,
    /// That on the whole answer.
    Total,
}

impl Limit {
    /// The word of the metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::FirstEvent => "first_event",
            Self::Idle => "idle",
            Self::Total => "total",
        }
    }

    /// The error of an answer for which it ran out `after` so long.
    pub(super) fn error(self, after: Duration) -> Error {
        let message = match self {
            Self::FirstEvent => format!(
                "no event of the answer came from the upstream within {after:?} of the request; a \
                 model that has to be loaded or a long prompt may take longer than this limit on the \
                 first event"
            ),
            Self::Idle => format!(
                "the answer stopped: no event of it came from the upstream for {after:?}; comments \
                 and empty events do not count"
            ),
            Self::Total => format!(
                "the answer was not complete within {after:?} of the request, which is the limit on \
                 a whole answer"
            ),
        };
        Error::new(ErrorKind::Timeout, message)
            .with_fate(Fate::Abandoned)
            .with_source(Elapsed { limit: self, after })
    }
}

/// The source of an error of [`Timeout`](super::Timeout): which of its limits ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    limit: Limit,
    after: Duration,
}

impl Elapsed {
    /// That of `error`, if it is one of these; other errors may hold it.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        iter::successors(error.source(), |&cause| cause.source())
            .find_map(|cause| cause.downcast_ref())
    }

    /// Which limit ran out.
    #[must_use]
    pub const fn limit(&self) -> Limit {
        self.limit
    }

    /// How long it is.
    #[must_use]
    pub const fn after(&self) -> Duration {
        self.after
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.limit {
            Limit::FirstEvent => "the first event",
            Limit::Idle => "the wait for the next event",
            Limit::Total => "the whole answer",
        };
        write!(f, "the limit of {:?} on {what} has passed", self.after)
    }
}

impl StdError for Elapsed {}

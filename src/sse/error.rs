use std::fmt;

/// The input of a [`Decoder`](super::Decoder) passed a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// A line has more bytes than it may.
    LineTooLong {
        /// How many it may have.
        limit: usize,
    },
    /// An event's data has more bytes than it may.
    EventTooLong {
        /// How many it may have.
        limit: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineTooLong { limit } => {
                write!(f, "a line of the event stream is longer than {limit} bytes")
            }
            Self::EventTooLong { limit } => {
                write!(f, "an event of the event stream has more than {limit} bytes of data")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

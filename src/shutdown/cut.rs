//! The error of an answer that a shutdown has cut.

use crate::{Error, ErrorKind, Fate};

/// Where it was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// It came too late.
    Request,
    /// Nothing of it had come.
    Wait,
    Stream,
}

/// The error of an answer that is cut.
#[cold]
pub(super) fn cut(at: At) -> Error {
    let (fate, message) = match at {
        At::Request => (Fate::Unsent, "the server is shutting down; send the request again"),
        At::Wait | At::Stream => (
            Fate::Abandoned,
            "the server is shutting down and the answer is not complete; send the request again",
        ),
    };
    Error::new(ErrorKind::Overloaded, message).with_fate(fate)
}

/// Counts one.
#[cold]
pub(super) fn count(at: At) {
    let at = match at {
        At::Request => "request",
        At::Wait => "wait",
        At::Stream => "stream",
    };
    metrics::counter!("tower_qwen_shutdown_cut_total", "at" => at).increment(1);
    tracing::debug!(at, "an answer is cut, since the server shuts down");
}

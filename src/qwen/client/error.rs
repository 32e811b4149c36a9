//! What reqwest says when it fails, as errors of ours.

use crate::{Error, ErrorKind, Fate};

/// An error of reqwest's, without the URL: its query is nobody's business.
pub(super) fn to_error(error: reqwest::Error) -> Error {
    let (kind, fate, message) = match (error.is_timeout(), error.is_connect()) {
        (true, true) => {
            (ErrorKind::Timeout, Fate::Unsent, "connecting to the upstream took too long")
        }
        (true, false) => (ErrorKind::Timeout, Fate::Abandoned, "the upstream was too slow"),
        (false, true) => (ErrorKind::Upstream, Fate::Unsent, "the upstream could not be reached"),
        (false, false) if error.is_decode() => {
            let message = "the upstream's response could not be decompressed";
            (ErrorKind::Upstream, Fate::Unknown, message)
        }
        (false, false) => {
            (ErrorKind::Upstream, Fate::Unknown, "the connection to the upstream broke")
        }
    };
    Error::new(kind, message).with_fate(fate).with_source(error.without_url())
}

pub(super) fn count(error: &Error) {
    let kind = if error.is_timeout() { "timeout" } else { "upstream" };
    metrics::counter!("tower_qwen_client_errors_total", "kind" => kind).increment(1);
}

//! What an operator sees of the edges.

use metrics::counter;

use crate::{Error, ErrorKind};

const ANSWERS: &str = "tower_qwen_answers_total";

/// Counts an answer when it is over, also when that is because the client went away.
#[derive(Debug)]
pub(crate) struct Outcome {
    edge: &'static str,
    mode: &'static str,
    outcome: &'static str,
}

impl Outcome {
    /// An answer that was asked for and not yet seen to end.
    pub(crate) fn new(edge: &'static str, stream: bool) -> Self {
        Self { edge, mode: if stream { "stream" } else { "whole" }, outcome: "abandoned" }
    }

    /// The label `edge`.
    pub(super) fn edge(&self) -> &'static str {
        self.edge
    }

    pub(crate) fn ended(&mut self) {
        self.outcome = "complete";
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.outcome = label(error.kind());
        tracing::warn!(
            kind = ?error.kind(),
            code = error.code(),
            edge = self.edge,
            mode = self.mode,
            error = error as &dyn std::error::Error,
            "an answer failed"
        );
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        counter!(ANSWERS, "edge" => self.edge, "mode" => self.mode, "outcome" => self.outcome)
            .increment(1);
    }
}

/// A few words rather than one per kind: a label is for the operator, who asks whose fault it is.
const fn label(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest
        | ErrorKind::ContextLength
        | ErrorKind::ContentFilter
        | ErrorKind::TooLarge
        | ErrorKind::UnsupportedMediaType
        | ErrorKind::MethodNotAllowed
        | ErrorKind::ModelNotFound
        | ErrorKind::NotFound
        | ErrorKind::Unsupported => "refused",
        ErrorKind::Auth | ErrorKind::Permission => "auth",
        ErrorKind::RateLimited | ErrorKind::Quota | ErrorKind::ModelQuota => "limited",
        ErrorKind::Challenge => "challenge",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Truncated => "truncated",
        ErrorKind::Internal => "internal",
        ErrorKind::ConversationLost
        | ErrorKind::AccountUnavailable
        | ErrorKind::ConversationBusy
        | ErrorKind::Upstream
        | ErrorKind::Overloaded => "upstream",
    }
}

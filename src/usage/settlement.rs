use std::time::Duration;

use crate::{
    ErrorKind, Text,
    chat::{FinishReason, Tenant, Usage},
};

/// What one request has come to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settlement {
    /// Whose request it was; `None` where nobody can tell.
    pub tenant: Option<Tenant>,
    /// The model that the layer was asked for.
    pub model: Text,
    /// Who has answered, where that is known: as
    /// [`UsageLayer::upstream`](super::UsageLayer::upstream) says, or the response's
    /// `x-qwen-upstream`.
    pub upstream: Option<Text>,
    /// How many tokens it took.
    pub usage: Usage,
    /// Who has counted them.
    pub counted: Counted,
    /// How it has ended.
    pub outcome: Outcome,
    /// From the call to the first event that a client sees; `None` where none came.
    pub first_event: Option<Duration>,
    /// From the call to the end.
    pub total: Duration,
}

/// Who has counted the tokens of a [`Settlement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Counted {
    /// The upstream.
    Upstream,
    /// Nobody: it is an estimate, in whole or of what the upstream did not get to say.
    Estimated,
    /// There was nothing to count: the upstream did not answer.
    Nothing,
}

impl Counted {
    /// The word of the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Estimated => "estimated",
            Self::Nothing => "nothing",
        }
    }
}

/// How a request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The answer is complete.
    Finished(FinishReason),
    /// It failed, before its first event or later.
    Failed(ErrorKind),
    /// Nobody waited for the rest.
    Gone,
}

impl Outcome {
    /// The word of the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished(_) => "finished",
            Self::Failed(_) => "failed",
            Self::Gone => "gone",
        }
    }
}

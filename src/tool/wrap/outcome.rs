/// How a reply ended upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The model was done.
    Complete,
    /// The token limit, or a filter: what is open stays open.
    Cut,
}

/// What a reply came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It held a call in the client's tags, which passed unchanged.
    Call,
    /// It held a call in one of the models' own dialects, which was rewritten.
    Rewritten,
    /// It held no call, and a completion was appended.
    Completed,
    /// It held nothing visible, and was left empty: the client asks again by itself.
    Empty,
}

impl Outcome {
    /// The word in the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Rewritten => "rewritten",
            Self::Completed => "completed",
            Self::Empty => "empty",
        }
    }
}

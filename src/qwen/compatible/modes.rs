//! How text and thinking may stand in an answer.

/// How the pieces of content in a stream relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentMode {
    /// Each holds what is new, as OpenAI has it.
    Incremental,
    /// Each holds the whole text so far. Of one that does not go on from the last, what stands
    /// behind the part that both share is new.
    Cumulative,
    /// To be found out: cumulative where two pieces in a row each begin with the whole of the one
    /// before, of more than 8 characters, and are longer. Until that is known such pieces are
    /// held back; others are not.
    Auto,
}

/// Where thinking may stand in the content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ThinkTags {
    /// A leading `<think>…</think>` is taken out of the content.
    #[default]
    Leading,
    /// The same, and the content begins inside the block, because the chat template has written
    /// the opening tag into the prompt.
    Opened,
    /// The content is left as it is.
    Ignore,
}

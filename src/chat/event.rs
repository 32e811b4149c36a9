use super::{Conversation, Text};

/// One event of an answer, as it flows from an adapter to the edge.
///
/// A well-formed answer is: at most one [`Started`](ChatEvent::Started), then any number of the
/// others, then one [`Finished`](ChatEvent::Finished). [`Usage`](ChatEvent::Usage) counts are
/// cumulative, the last one stands; it may come before or after `Finished`. A stream that ends
/// without `Finished` was cut, and the layer that notices says so with an `Err` item.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ChatEvent {
    /// The upstream opened its answer in this chat; the conversation's `parent_id` is the id of
    /// the answer, so the next turn can go on from it.
    Started(Conversation),
    /// A piece of the visible answer; never empty.
    Text(Text),
    /// A piece of the model's thinking; never empty.
    Reasoning(Text),
    /// A tool call begins. Its arguments follow as [`ToolArguments`](ChatEvent::ToolArguments).
    ToolCall {
        /// The call's place in the answer, from 0, without gaps.
        index: u32,
        /// An id that is unique in the answer; never empty.
        id: Text,
        /// The function's name; never empty.
        name: Text,
    },
    /// A piece of a call's arguments. The pieces of one index, joined, are one JSON object.
    ToolArguments {
        /// Which call.
        index: u32,
        /// A piece of JSON text.
        json: Text,
    },
    /// Something that is not text: a generated image, a search result.
    Attachment(Attachment),
    /// Token counts so far.
    Usage(Usage),
    /// The answer is complete.
    Finished(FinishReason),
}

impl ChatEvent {
    /// Whether the event commits the answer: it is something that the client will see, so after
    /// it nothing may be retried.
    #[must_use]
    pub const fn is_content(&self) -> bool {
        !matches!(self, Self::Started(_) | Self::Usage(_))
    }
}

/// Something that is not text in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attachment {
    /// What it is.
    pub kind: AttachmentKind,
    /// Where it is.
    pub url: Text,
    /// A title, if the upstream gave one.
    pub title: Option<Text>,
}

impl Attachment {
    /// An attachment of this kind.
    #[must_use]
    pub const fn new(kind: AttachmentKind, url: Text) -> Self {
        Self { kind, url, title: None }
    }

    /// What chat clients are shown of an image: Markdown, because the chat format has no field
    /// for an image of the assistant's. `None` for what is not an image.
    ///
    /// It is what the client sends back, so whoever compares histories must count it as text.
    #[must_use]
    pub fn markdown(&self) -> Option<String> {
        match self.kind {
            AttachmentKind::Image => {
                let title = self.title.as_deref().unwrap_or("image");
                Some(format!("![{title}]({})\n", self.url))
            }
            AttachmentKind::SearchResult => None,
        }
    }
}

/// What an [`Attachment`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttachmentKind {
    /// A generated image.
    Image,
    /// A page that the upstream's own search found.
    SearchResult,
}

/// Token counts of a request and its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens of the answer, thinking included.
    pub completion_tokens: u64,
    /// Both together, as the upstream counts them.
    pub total_tokens: u64,
    /// How many of the prompt's tokens came from a cache.
    pub cached_tokens: Option<u64>,
    /// How many of the answer's tokens were thinking.
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// Counts whose total is the sum of both.
    #[must_use]
    pub const fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            cached_tokens: None,
            reasoning_tokens: None,
        }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model was done, or met a stop string.
    Stop,
    /// The token limit.
    Length,
    /// The model called tools and waits for their results.
    ToolCalls,
    /// A content filter.
    ContentFilter,
}

impl FinishReason {
    /// The word on the wire (D1).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

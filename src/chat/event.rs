use std::ops::Range;

use super::{Conversation, Extra};
use crate::Text;

/// One event of an answer, as it flows from an adapter to the edge.
///
/// # The contract
///
/// Every [`ChatStream`](super::ChatStream) keeps these rules, so a layer may rely on them and
/// need not check them.
///
/// - There is at most one [`Started`](ChatEvent::Started), and it is the first item.
/// - A piece of text, of reasoning or of arguments is never empty. Neither is a signature, an
///   id, a function's name or an address.
/// - Calls are numbered from 0 in the order in which they begin, without gaps, and each has an id
///   of its own. [`ToolArguments`](ChatEvent::ToolArguments) belong to a call that has begun;
///   the pieces of several calls may be mixed.
/// - The pieces of one call's arguments, joined, are one JSON object (RFC 8259). Where the answer
///   ends with [`FinishReason::Length`], [`FinishReason::ContentFilter`] or an `Err`, the last
///   call may be cut: what there is of its arguments is then the beginning of an object, or
///   nothing. The calls before it are whole all the same.
/// - There is exactly one terminal item: [`Finished`](ChatEvent::Finished) or an `Err`.
///   After `Finished` nothing comes but [`Usage`](ChatEvent::Usage),
///   [`UsageFields`](ChatEvent::UsageFields) and [`ServerFields`](ChatEvent::ServerFields), and then
///   the stream ends.
///   After an `Err` nothing comes, and the stream ends.
/// - A stream that ends without a terminal item is a bug of whoever wraps it. Whoever notices
///   that what it reads has broken off says so with an `Err` item of
///   [`ErrorKind::Truncated`](crate::ErrorKind::Truncated).
///
/// A [`Resumed`](ChatEvent::Resumed) may come anywhere between the first item and the terminal one.
///
/// The counts of [`Usage`](ChatEvent::Usage) are cumulative, so the last one stands. It may come
/// before or after `Finished`.
///
/// The wrappers of this crate keep the end of a stream right even where the stream inside does
/// not: they add the missing `Err`, and leave out what comes after the terminal item and a second
/// `Started`. [`Contract`](super::Contract) tells whether a stream keeps the rules, and
/// [`checked`](super::ChatStreamExt::checked) makes a test fail where one does not.
// The tag fills a word, so that an event is copied word by word. With a tag of one byte the copy
// begins behind that byte, lies across the words of the text, and stalls whoever reads them next.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[repr(u64)]
pub enum ChatEvent {
    /// The upstream opened its answer. It is boxed, as it comes once and is large.
    Started(Box<Started>),
    /// The answer had broken off, and goes on from here. What is in it takes the place of what
    /// [`Started`](ChatEvent::Started) said: a next turn goes on from there. It is boxed, as it is
    /// rare and large.
    Resumed(Box<Started>),
    /// A piece of the visible answer; never empty.
    Text(Text),
    /// A piece of the model's thinking; never empty.
    Reasoning(Text),
    /// An opaque signature that the upstream gives for the reasoning before it; never empty. The
    /// upstream wants it back with that reasoning, byte for byte.
    ReasoningSignature(Text),
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
        /// A piece of JSON text; never empty.
        json: Text,
    },
    /// Something that is not text: a generated image, a file.
    Attachment(Attachment),
    /// About how many percent of a picture or a film are made, at most 99 and never less than before.
    /// What is made comes as [`Attachment`](ChatEvent::Attachment). The upstream is at work then, so
    /// nothing is retried.
    Progress(u8),
    /// A source of what the answer says. It is boxed, as it is rare and large.
    Citation(Box<Citation>),
    /// Fields that the server gives beside its answer and that nothing here has a name for, such
    /// as `system_fingerprint`; never empty. Of several with one name the last counts.
    ServerFields(Extra),
    /// The same of the one choice that the answer is, such as `stop_reason`; never empty.
    ChoiceFields(Extra),
    /// The same of the message, such as `annotations`; never empty.
    MessageFields(Extra),
    /// The same of the token counts, such as `cost`; never empty. Of `prompt_tokens_details` and
    /// `completion_tokens_details` it has what [`Usage`] has not.
    UsageFields(Extra),
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
        !matches!(
            self,
            Self::Started(_)
                | Self::Resumed(_)
                | Self::ServerFields(_)
                | Self::ChoiceFields(_)
                | Self::MessageFields(_)
                | Self::UsageFields(_)
                | Self::Usage(_)
        )
    }

    /// Whether it may come after [`Finished`](Self::Finished).
    pub(crate) const fn may_follow_the_end(&self) -> bool {
        matches!(self, Self::Usage(_) | Self::UsageFields(_) | Self::ServerFields(_))
    }
}

/// What is known of an answer when the upstream opens it.
///
/// ```
/// use tower_qwen::chat::{ChatEvent, Conversation, Started};
///
/// let place = Conversation::new("chat-1").with_parent("answer-1");
/// let event = ChatEvent::Started(place.clone().into());
/// assert_eq!(event, ChatEvent::Started(Started::from(place).into()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Started {
    /// Where the next turn can go on: the answer's chat, with the answer's id as its
    /// `parent_id`. `None` where the upstream keeps no chats.
    pub conversation: Option<Conversation>,
    /// The upstream's own id of this answer, where it has one that is not the `parent_id` of the
    /// conversation.
    pub response_id: Option<Text>,
}

impl Started {
    /// An answer of which nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self { conversation: None, response_id: None }
    }

    /// Says what the upstream itself calls the answer.
    #[must_use]
    pub fn with_response_id(mut self, id: impl Into<Text>) -> Self {
        self.response_id = Some(id.into());
        self
    }
}

/// An answer in this chat.
impl From<Conversation> for Started {
    fn from(conversation: Conversation) -> Self {
        Self { conversation: Some(conversation), response_id: None }
    }
}

/// As [`ChatEvent::Started`] holds it.
impl From<Conversation> for Box<Started> {
    fn from(conversation: Conversation) -> Self {
        Self::new(conversation.into())
    }
}

/// Something that is not text in an answer: media, a file. Sources are [`Citation`]s.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attachment {
    /// What it is.
    pub kind: AttachmentKind,
    /// Where it is; never empty.
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

    /// What chat clients are shown of it: Markdown, because the chat format has no field for an
    /// attachment of the assistant's. An image is shown in place, the others are links.
    ///
    /// It is what the client sends back, so whoever compares histories must count it as text.
    #[must_use]
    pub fn markdown(&self) -> String {
        let (mark, word) = match self.kind {
            AttachmentKind::Image => ("!", "image"),
            AttachmentKind::Video => ("", "video"),
            AttachmentKind::Audio => ("", "audio"),
            AttachmentKind::File => ("", "file"),
        };
        let title = self.title.as_deref().unwrap_or(word);
        format!("{mark}[{title}]({})\n", self.url)
    }
}

/// What an [`Attachment`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttachmentKind {
    /// A generated image.
    Image,
    /// A generated video.
    Video,
    /// Sound: speech, music.
    Audio,
    /// Any other file.
    File,
}

/// A source of what an answer says: a page that the upstream's own search found.
///
/// ```
/// use tower_qwen::chat::{ChatEvent, Citation};
///
/// let mut source = Citation::new("https://example.org/tower");
/// source.title = Some("Tower".into());
/// // "The answer's characters 4 to 9 say what this page says."
/// source.range = Some(4..9);
/// let event = ChatEvent::Citation(source.into());
/// # assert!(event.is_content());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Citation {
    /// Where the source is; never empty.
    pub url: Text,
    /// The source's title, if the upstream gave one.
    pub title: Option<Text>,
    /// What the source says, as far as the upstream quotes it.
    pub snippet: Option<Text>,
    /// Which part of the answer's visible text it is a source for, in characters (Unicode scalar
    /// values) of all [`Text`](ChatEvent::Text) events joined. `None` where that is not known.
    pub range: Option<Range<usize>>,
}

impl Citation {
    /// A source of which nothing is known but where it is.
    #[must_use]
    pub fn new(url: impl Into<Text>) -> Self {
        Self { url: url.into(), title: None, snippet: None, range: None }
    }
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

    /// The counts of this and of another answer together.
    #[cfg(feature = "resume")]
    pub(crate) fn and(&self, other: &Self) -> Self {
        let both = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        Self {
            prompt_tokens: self.prompt_tokens.saturating_add(other.prompt_tokens),
            completion_tokens: self.completion_tokens.saturating_add(other.completion_tokens),
            total_tokens: self.total_tokens.saturating_add(other.total_tokens),
            cached_tokens: both(self.cached_tokens, other.cached_tokens),
            reasoning_tokens: both(self.reasoning_tokens, other.reasoning_tokens),
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
    /// The word on the wire.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    /// An event is moved some ten times between the upstream and the client.
    #[test]
    fn an_event_stays_small() {
        assert!(size_of::<ChatEvent>() <= 80, "{}", size_of::<ChatEvent>());
        assert_eq!(size_of::<Option<Result<ChatEvent, Error>>>(), size_of::<ChatEvent>());
    }

    #[test]
    fn attachments_are_shown_as_markdown() {
        let shown = |kind| Attachment::new(kind, "https://example.org/a".into()).markdown();
        assert_eq!(shown(AttachmentKind::Image), "![image](https://example.org/a)\n");
        assert_eq!(shown(AttachmentKind::Video), "[video](https://example.org/a)\n");
        assert_eq!(shown(AttachmentKind::Audio), "[audio](https://example.org/a)\n");
        let mut file = Attachment::new(AttachmentKind::File, "https://example.org/a".into());
        file.title = Some("notes.txt".into());
        assert_eq!(file.markdown(), "[notes.txt](https://example.org/a)\n");
    }
}

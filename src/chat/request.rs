use std::{fmt, sync::Arc};

use super::{AnswerKind, Extra, History, Json, MediaOptions, Message, Messages, Tool, ToolChoice};
use crate::{AccountName, CredentialHeaders, Error, ErrorKind, Text};

/// A chat request in the middle of the stack.
///
/// It names what a layer or an adapter reads; everything else that the client sent is kept in
/// [`extra`](ChatRequest::extra), for upstreams that understand it. What only an edge needs, such
/// as whether the client wants a stream, stays in the edge: the middle always streams.
///
/// ```
/// use tower_qwen::chat::{ChatRequest, Message, Role};
///
/// let mut request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
/// request.sampling.temperature = Some(0.0);
/// request.history.push(Message::new(Role::User, "Are you there?"));
/// assert_eq!(request.history[0].text(), "Hello");
/// ```
///
/// What is large is shared: a clone is a dozen reference counts, whatever the size of the
/// history. A layer that writes goes through [`Arc::make_mut`] for the tools and through the
/// methods of [`Messages`] for the history; neither copies a message that does not change.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChatRequest {
    /// The model's id, as the client wrote it.
    pub model: Text,
    /// What kind of answer is wanted. Text, unless the name of a [virtual model](crate::variant) or a
    /// route of its own says another.
    pub kind: AnswerKind,
    /// The messages: what the upstream chat has seen, and what is fresh.
    pub history: History,
    /// Where the turn goes. Set by the client's `qwen_chat_id` or by the session layer.
    pub destination: Destination,
    /// The id under which the client will know the answer, and may go on from it
    /// ([`Destination::Answer`]). Set by an edge whose clients do that; the session layer remembers
    /// the answer by it. `None` where nobody is to go on from the answer by an id.
    pub answer_id: Option<Text>,
    /// The tools on offer.
    pub tools: Arc<Vec<Tool>>,
    /// Whether the chat that the turn goes on in was told of other tools than these. Set by the
    /// session layer; whoever tells an upstream of the tools then tells it of them anew.
    pub tools_changed: bool,
    /// `tool_choice`; `None` where the client said nothing.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several calls in one answer are wanted.
    pub parallel_tool_calls: Option<bool>,
    /// The form that the answer shall have.
    pub response_format: Option<ResponseFormat>,
    /// How an image or a video shall be, where one is wanted.
    pub media: MediaOptions,
    /// How much the model shall think.
    pub reasoning: ReasoningOptions,
    /// How tokens are chosen and how many.
    pub sampling: Sampling,
    /// The end user, as the client names one.
    pub user: Option<Text>,
    /// Whose request this is. Nothing of one tenant is ever matched with another's. Without a
    /// tenant nothing is matched at all, and there is no session.
    pub tenant: Option<Tenant>,
    /// The account whose credential the request is sent with. Set by the auth layer; the adapter
    /// names it in the [`Conversation`] of [`Started`](super::ChatEvent::Started), so that later
    /// turns find their way back to it.
    pub account: Option<AccountName>,
    /// That credential. Set by the auth layer; the adapter puts it on the HTTP requests that it
    /// makes, in place of headers of the envelope that have the same names.
    pub credential: Option<CredentialHeaders>,
    /// Whether a layer above gives up an answer of which nothing comes. Set by the timeout layer; an
    /// adapter then has no limit of time of its own for that, so that there is one, and the one that
    /// was set.
    pub is_timed: bool,
    /// Whether a layer above reads calls in the text of the answer. Set by the layers of tools; text is
    /// then not as plain as it looks, and half of one may be half a call.
    pub has_calls_in_text: bool,
    /// Whether the upstream is to be asked for the answer in one piece, since a stream of it has failed.
    /// Set by the policy of a retry layer. An adapter that can ask for either heeds it, and gives a
    /// stream of events all the same.
    pub is_whole: bool,
    /// Fields that are not named here, as the client sent them.
    pub extra: Extra,
}

impl ChatRequest {
    /// A request for `model` to answer `messages`, with everything else at its default.
    #[must_use]
    pub fn new(model: impl Into<Text>, messages: impl IntoIterator<Item = Message>) -> Self {
        Self {
            model: model.into(),
            kind: AnswerKind::default(),
            history: History::new(messages.into_iter().collect::<Messages>()),
            destination: Destination::default(),
            answer_id: None,
            tools: Arc::default(),
            tools_changed: false,
            tool_choice: None,
            parallel_tool_calls: None,
            response_format: None,
            media: MediaOptions::default(),
            reasoning: ReasoningOptions::default(),
            sampling: Sampling::default(),
            user: None,
            tenant: None,
            account: None,
            credential: None,
            is_timed: false,
            has_calls_in_text: false,
            is_whole: false,
            extra: Extra::new(),
        }
    }

    /// The place in an upstream chat that the turn goes on from, if it goes to one.
    #[must_use]
    pub fn conversation(&self) -> Option<&Conversation> {
        self.destination.conversation()
    }
}

/// Where a turn goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Destination {
    /// To a chat that is opened for it, or, where the upstream keeps no chats, to none.
    NewChat {
        /// The account that the chat would best belong to.
        account: Option<AccountName>,
    },
    /// To a chat that is there.
    Chat(Conversation),
    /// Behind an answer that the client names by the [id](ChatRequest::answer_id) that it was given
    /// with, in whichever chat that is. The history is what is new since. The session layer finds
    /// the chat. An adapter that gets this refuses it: without the chat the answer would be one to
    /// half a conversation.
    Answer {
        /// The client's id of the answer.
        id: Text,
    },
}

impl Destination {
    /// A new chat, of whichever account.
    pub const NEW: Self = Self::NewChat { account: None };

    /// The place in a chat that is there.
    #[must_use]
    pub const fn conversation(&self) -> Option<&Conversation> {
        match self {
            Self::Chat(conversation) => Some(conversation),
            Self::NewChat { .. } | Self::Answer { .. } => None,
        }
    }

    /// The same for an adapter, whose upstream does not know the id that a client has of an answer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ConversationLost`] for [`Answer`](Self::Answer).
    pub fn upstream(&self) -> Result<Option<&Conversation>, Error> {
        match self {
            Self::NewChat { .. } => Ok(None),
            Self::Chat(conversation) => Ok(Some(conversation)),
            Self::Answer { .. } => Err(Error::new(
                ErrorKind::ConversationLost,
                "no answers are kept for this upstream; send the whole history",
            )),
        }
    }

    /// The account that is named, either way.
    #[must_use]
    pub const fn account(&self) -> Option<&AccountName> {
        match self {
            Self::NewChat { account } => account.as_ref(),
            Self::Chat(conversation) => conversation.account.as_ref(),
            Self::Answer { .. } => None,
        }
    }
}

impl Default for Destination {
    fn default() -> Self {
        Self::NEW
    }
}

impl From<Conversation> for Destination {
    fn from(conversation: Conversation) -> Self {
        Self::Chat(conversation)
    }
}

/// Where in an upstream chat a turn goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Conversation {
    /// The chat.
    pub chat_id: Text,
    /// The message to go on from: the id of the last answer (`response_id`). `None` for the
    /// first turn.
    pub parent_id: Option<Text>,
    /// The account that the chat belongs to.
    pub account: Option<AccountName>,
}

impl Conversation {
    /// The start of chat `chat_id`.
    #[must_use]
    pub fn new(chat_id: impl Into<Text>) -> Self {
        Self { chat_id: chat_id.into(), parent_id: None, account: None }
    }

    /// The same chat, going on from message `parent_id`.
    #[must_use]
    pub fn with_parent(mut self, parent_id: impl Into<Text>) -> Self {
        self.parent_id = Some(parent_id.into());
        self
    }

    /// The same place, as a chat of `account`.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<AccountName>) -> Self {
        self.account = Some(account.into());
        self
    }
}

/// Whose request it is, as a digest of what tells that: an API key, or the key's id.
///
/// A client that cannot be told from others has no tenant. `Debug` shows a few characters of the
/// digest, and nothing of the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenant([u8; 32]);

impl Tenant {
    /// A tenant from a cryptographic digest of its key.
    #[must_use]
    pub const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Tenant({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// `response_format`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ResponseFormat {
    /// Free text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON after a schema: the `json_schema` object (`name`, `schema`, `strict`).
    JsonSchema(Json),
    /// Another type, such as `structural_tag`, or one of these with more fields than OpenAI
    /// gives it, such as a `schema` beside `json_object`: the whole JSON object.
    Other(Json),
}

impl ResponseFormat {
    /// Whether any text will do, in whichever spelling.
    #[must_use]
    pub fn is_text(&self) -> bool {
        match self {
            Self::Text => true,
            Self::Other(whole) => {
                whole.get("type").is_some_and(|kind| kind.as_string().as_deref() == Some("text"))
            }
            Self::JsonObject | Self::JsonSchema(_) => false,
        }
    }
}

/// How much the model shall think, in every spelling that clients use.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReasoningOptions {
    /// `reasoning_effort` or `reasoning.effort`.
    pub effort: Option<ReasoningEffort>,
    /// `enable_thinking` (also inside `chat_template_kwargs`).
    pub enabled: Option<bool>,
    /// `thinking_budget` or `reasoning.max_tokens`, in tokens; below 0, as some servers have it,
    /// there is no limit.
    pub budget: Option<i64>,
}

impl ReasoningOptions {
    /// Whether thinking is asked for: `enable_thinking` decides, then the effort, then whether
    /// there is a budget; `None` where the client said nothing.
    #[must_use]
    pub fn wanted(&self) -> Option<bool> {
        self.enabled
            .or_else(|| self.effort.as_ref().map(|effort| !effort.is_off()))
            .or_else(|| self.budget.map(|budget| budget != 0))
    }
}

/// How hard the model shall think.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReasoningEffort {
    /// Not at all.
    None,
    /// As little as it can.
    Minimal,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// A lot.
    High,
    /// More than a lot.
    XHigh,
    /// As much as it can.
    Max,
    /// A word that is newer than this crate.
    Other(Text),
}

impl ReasoningEffort {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
            Self::Other(word) => word,
        }
    }

    /// Whether it turns thinking off, which only `none` does: the least that a model can think is
    /// still some.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self, Self::None)
    }
}

impl From<Text> for ReasoningEffort {
    fn from(word: Text) -> Self {
        match word.as_str() {
            "none" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::XHigh,
            "max" => Self::Max,
            _ => Self::Other(word),
        }
    }
}

/// How tokens are chosen and how many. `None` leaves the choice to the upstream.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// `max_tokens`; below 0, as some servers have it, there is no limit.
    pub max_tokens: Option<i64>,
    /// `max_completion_tokens`, its newer name; where both are given, it is the one that counts.
    pub max_completion_tokens: Option<i64>,
    /// `temperature`.
    pub temperature: Option<f64>,
    /// `top_p`.
    pub top_p: Option<f64>,
    /// `top_k`; -1 turns it off at some servers, 0 at others.
    pub top_k: Option<i64>,
    /// `presence_penalty`.
    pub presence_penalty: Option<f64>,
    /// `frequency_penalty`.
    pub frequency_penalty: Option<f64>,
    /// `repetition_penalty`.
    pub repetition_penalty: Option<f64>,
    /// `seed`; which are allowed, negative ones or those of 64 bits without a sign, differs among
    /// servers.
    pub seed: Option<i128>,
    /// `stop`: one string or several.
    pub stop: Vec<Text>,
}

impl Sampling {
    /// How many tokens the answer may have, under whichever name; `None` where the client said
    /// nothing.
    #[must_use]
    pub fn token_limit(&self) -> Option<i64> {
        self.max_completion_tokens.or(self.max_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Role;

    #[test]
    fn thinking_follows_the_most_explicit_wish() {
        let options = |effort: Option<&str>, enabled, budget| ReasoningOptions {
            effort: effort.map(|word| Text::from(word).into()),
            enabled,
            budget,
        };
        assert_eq!(options(None, None, None).wanted(), None);
        assert_eq!(options(Some("high"), Some(false), Some(9)).wanted(), Some(false));
        assert_eq!(options(Some("none"), None, Some(9)).wanted(), Some(false));
        assert_eq!(options(Some("xhigh"), None, None).wanted(), Some(true));
        assert_eq!(options(None, None, Some(0)).wanted(), Some(false));
        assert_eq!(options(None, None, Some(-1)).wanted(), Some(true));
    }

    #[test]
    fn a_clone_shares_the_history() {
        let request = ChatRequest::new("m", vec![Message::new(Role::User, "x")]);
        assert!(request.clone().history.fresh.is_shared_with(&request.history.fresh));
    }

    #[test]
    fn a_destination_is_one_thing() {
        let place = Conversation::new("c").with_account("a");
        let known = Destination::from(place.clone());
        assert_eq!((known.conversation(), known.account()), (Some(&place), place.account.as_ref()));
        let wish = Destination::NewChat { account: Some("a".into()) };
        assert_eq!((wish.conversation(), wish.account()), (None, place.account.as_ref()));
        assert_eq!(Destination::default(), Destination::NEW);
        let answer = Destination::Answer { id: "resp_1".into() };
        assert_eq!((answer.conversation(), answer.account()), (None, None));
        assert!(answer.upstream().expect_err("no upstream's").is_conversation_lost());
        assert_eq!(known.upstream().expect("a chat"), Some(&place));
        assert_eq!(Destination::NEW.upstream().expect("no chat"), None);
    }

    #[test]
    fn a_tenant_shows_little_of_its_digest() {
        let tenant = Tenant::from_digest([0xab; 32]);
        assert_eq!(format!("{tenant:?}"), "Tenant(abababab..)");
    }
}

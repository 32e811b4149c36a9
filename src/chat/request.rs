use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use serde_json::{Map, Value};

use super::{Message, Text, Tool, ToolChoice};
use crate::{AccountName, CredentialHeaders};

/// JSON fields that the vocabulary does not name, in the client's order.
///
/// Numbers are kept by their value and not by their spelling, here and in the schemas of tools:
/// integers of 64 bits, with or without a sign, exactly; all others as an `f64`, so that
/// `12345678901234567890123` goes on as `1.2345678901234568e+22` and `1.0E5` as `100000.0`. That is
/// the nearest one or, of numbers with 16 digits and more or with large exponents, one next to it,
/// unless the application turns on the feature `float_roundtrip` of `serde_json`. Where digits
/// matter, a string holds them: strings, names and their order are kept.
pub type Extra = Map<String, Value>;

/// A chat request in the middle of the stack.
///
/// It names what a layer or an adapter reads; everything else that the client sent is kept in
/// [`extra`](ChatParts::extra), for upstreams that understand it.
///
/// ```
/// use tower_qwen::chat::{ChatRequest, Message, Role};
///
/// let mut request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
/// assert_eq!(request.messages[0].text(), "Hello");
/// request.sampling.temperature = Some(0.0);
/// ```
///
/// All but the account and its credential are the fields of [`ChatParts`], which are reached through the request as
/// if they were its own. Clones share them, so a request is cheap to clone and to move, whatever
/// its size. Writing to a field of a request that shares its parts copies them first; messages,
/// tools and unknown fields are shared still, and a layer that rewrites messages goes through
/// [`Arc::make_mut`]. Code that needs several fields at once, one of them to write, borrows the
/// parts: `let parts = &mut *request`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChatRequest {
    /// The account whose credential the request has. Set by the auth layer; the adapter names it
    /// in the [`Conversation`] of [`Started`](super::ChatEvent::Started), so that later turns
    /// find their way back to it.
    // Beside the parts: the auth layer keeps a clone and then sets both, which must not copy them.
    pub account: Option<AccountName>,
    /// That credential. Set by the auth layer; the adapter puts it on the HTTP requests that it
    /// makes, in place of headers of the envelope that have the same names.
    pub credential: Option<CredentialHeaders>,
    parts: Arc<ChatParts>,
}

/// What a [`ChatRequest`] asks for, and where.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChatParts {
    /// The model's id, as the client wrote it.
    pub model: Text,
    /// The history, oldest first.
    pub messages: Arc<Vec<Message>>,
    /// The tools on offer.
    pub tools: Arc<Vec<Tool>>,
    /// `tool_choice`; `None` where the client said nothing.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several calls in one answer are wanted.
    pub parallel_tool_calls: Option<bool>,
    /// The form that the answer shall have.
    pub response_format: Option<ResponseFormat>,
    /// Whether the client wants a stream. The middle of the stack always streams; only the edge
    /// looks at this.
    pub stream: bool,
    /// `stream_options`.
    pub stream_options: StreamOptions,
    /// How much the model shall think.
    pub reasoning: ReasoningOptions,
    /// How tokens are chosen and how many.
    pub sampling: Sampling,
    /// The end user, as the client names one.
    pub user: Option<Text>,
    /// Whose request this is: nothing of one tenant is ever matched by another.
    pub tenant: Tenant,
    /// Where in an upstream chat to go on; `None` replays the whole history. Set by the
    /// client's `qwen_chat_id` or by the session layer.
    pub conversation: Option<Conversation>,
    /// How many of the first [`messages`](ChatParts::messages) the
    /// [`conversation`](ChatParts::conversation) already holds. Set by the session layer; the
    /// dedup layer leaves them out and sets it back to 0.
    pub seen: usize,
    /// Fields that are not named here, as the client sent them.
    pub extra: Arc<Extra>,
}

impl ChatRequest {
    /// A request for `model` to answer `messages`, with everything else at its default.
    #[must_use]
    pub fn new(model: impl Into<Text>, messages: Vec<Message>) -> Self {
        let parts = ChatParts {
            model: model.into(),
            messages: Arc::new(messages),
            tools: Arc::default(),
            tool_choice: None,
            parallel_tool_calls: None,
            response_format: None,
            stream: true,
            stream_options: StreamOptions::default(),
            reasoning: ReasoningOptions::default(),
            sampling: Sampling::default(),
            user: None,
            tenant: Tenant::default(),
            conversation: None,
            seen: 0,
            extra: Arc::default(),
        };
        Self { account: None, credential: None, parts: Arc::new(parts) }
    }

    /// The parts, to take them apart; a copy where a clone of the request shares them.
    #[must_use]
    pub fn into_parts(self) -> ChatParts {
        Arc::unwrap_or_clone(self.parts)
    }
}

impl Deref for ChatRequest {
    type Target = ChatParts;

    fn deref(&self) -> &ChatParts {
        &self.parts
    }
}

/// Copies the parts where a clone shares them.
impl DerefMut for ChatRequest {
    fn deref_mut(&mut self) -> &mut ChatParts {
        Arc::make_mut(&mut self.parts)
    }
}

/// Where in an upstream chat a turn goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Conversation {
    /// The chat.
    pub chat_id: Text,
    /// The message to go on from: the id of the last answer (`response_id`, A10). `None` for the
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

/// Whose request it is, as a digest of the client's API key.
///
/// The default tenant is that of clients without a key. `Debug` shows a few characters of the
/// digest, never anything of the key.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Tenant([u8; 32]);

impl Tenant {
    /// A tenant from a cryptographic digest of its key.
    #[must_use]
    pub const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest; all zeros for the default tenant.
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
    JsonSchema(Value),
    /// Another type, such as `structural_tag`, or one of these with more fields than OpenAI
    /// gives it, such as a `schema` beside `json_object`: the whole JSON object.
    Other(Extra),
}

/// `stream_options`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StreamOptions {
    /// Whether the stream shall end with a chunk of token counts (D3).
    pub include_usage: bool,
    /// Fields beside it.
    pub extra: Extra,
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
    /// there is a budget; `None` where the client said nothing (A8).
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
    /// A word that is newer than this crate, such as `xhigh`.
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
            Self::Other(word) => word,
        }
    }

    /// Whether it turns thinking off: `none` and `minimal` (A8).
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self, Self::None | Self::Minimal)
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
            _ => Self::Other(word),
        }
    }
}

/// How tokens are chosen and how many. `None` leaves the choice to the upstream.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// `max_completion_tokens`, or else `max_tokens`; below 0, as some servers have it, there is
    /// no limit.
    pub max_tokens: Option<i64>,
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let request = ChatRequest::new("m", vec![Message::new(super::super::Role::User, "x")]);
        assert!(Arc::ptr_eq(&request.clone().messages, &request.messages));
    }

    #[test]
    fn a_clone_keeps_what_the_other_writes_over() {
        let mut request = ChatRequest::new("m", vec![Message::new(super::super::Role::User, "x")]);
        let kept = request.clone();
        request.account = Some("a".into());
        assert!(Arc::ptr_eq(&kept.parts, &request.parts), "an account copies nothing");
        request.model = "n".into();
        request.seen = 1;
        assert_eq!((kept.model.as_str(), kept.seen, &kept.account), ("m", 0, &None));
        assert!(Arc::ptr_eq(&kept.messages, &request.messages));
        drop(kept);
        let at = Arc::as_ptr(&request.parts);
        request.seen = 2;
        assert_eq!(Arc::as_ptr(&request.parts), at, "nobody shares it any more");
    }

    #[test]
    fn a_tenant_shows_little_of_its_digest() {
        let tenant = Tenant::from_digest([0xab; 32]);
        assert_eq!(format!("{tenant:?}"), "Tenant(abababab..)");
    }
}

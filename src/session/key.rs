//! The keys that histories are known by (sans-I/O).

use std::{collections::HashMap, fmt, sync::Arc};

use sha2::{Digest as _, Sha256};

use super::meaning::{self, Digest, Meaning};
use crate::{
    Text,
    chat::{ChatEvent, ChatRequest, Content, Json, Message, Part, PartKind, Role, Tenant, Tool},
};

/// Arguments of one call up to this many bytes are compared by what they mean, longer ones by
/// their very bytes: 256 KiB.
///
/// It is what an [`AnswerChain`] buffers at most.
pub const ARGUMENTS_LIMIT: usize = 256 * 1024;

/// What stands for "there is none" where a digest is expected; no known text has this SHA-256.
const NOTHING: Digest = [0; 32];

/// What one history of one tenant is known by.
///
/// Two histories have the same key only if they have the same tenant and the same model, and are
/// alike message by message. A version of this crate in which other histories are
/// alike makes other keys. So it never finds a history that it would read differently.
///
/// # What is alike
///
/// The tenant and the model count. The tools on offer do not: which of them a chat was told of
/// stands in its [`Record`](super::Record), and a turn with others
/// [says so](crate::chat::ChatRequest::tools_changed). Of each message these count:
///
/// - the role; `developer` is `system`, its older name;
/// - the text, whether it comes as a string or in parts. White space at its end does not count,
///   and in an assistant's message none at its beginning either: clients trim answers, and
///   upstream has them as they were;
/// - images, audio, files and other parts, by their content and where in the text they stand;
/// - the participant's name;
/// - tool calls, by name and by what their arguments mean: JSON is compared as JSON, whatever the
///   order of keys, the spacing and the spelling of numbers. Arguments that are not JSON, are
///   longer than 256 KiB, hold a number beyond 64 bits, nest deeper than 128 levels or have more
///   than 4,096 fields open at once are compared byte by byte; none at all are `{}`. Ids do not
///   count;
/// - of a tool's result, which call of the answer before it it belongs to.
///
/// Reasoning and fields that the vocabulary does not name (`cache_control`, `annotations`, …) do
/// not count.
///
/// Every field is hashed with its length or as a digest of fixed length, so no two histories
/// that differ can run together into one input of the hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    tenant: TenantTag,
    digest: Digest,
}

impl Key {
    /// The key under which the last answer of a chat is known. It is for clients that name the chat
    /// and send only what is new.
    #[must_use]
    pub fn of_chat(tenant: &Tenant, chat_id: &str) -> Self {
        let digest = Fields::new(b"tower-qwen last answer")
            .field(tenant.digest())
            .field(chat_id.as_bytes())
            .finish();
        Self { tenant: TenantTag::new(tenant), digest }
    }

    /// The key under which an answer is known by the id that its client has of it
    /// ([`ChatRequest::answer_id`]), for clients that name the answer which they go on from and
    /// send only what is new.
    #[must_use]
    pub fn of_answer(tenant: &Tenant, answer_id: &str) -> Self {
        let digest = Fields::new(b"tower-qwen answer")
            .field(tenant.digest())
            .field(answer_id.as_bytes())
            .finish();
        Self { tenant: TenantTag::new(tenant), digest }
    }

    /// The mark of the tenant that the key belongs to, the same for all its keys.
    ///
    /// It is for stores that must find everything of one tenant. What is looked up is the whole
    /// key.
    #[must_use]
    pub const fn tenant(&self) -> TenantTag {
        self.tenant
    }

    /// The key's own digest.
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// The key as bytes: the eight of [`tenant`](Self::tenant), by which keys can be grouped, and
    /// then 32 that are the same for no other history of any tenant.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        let (tenant, digest) = bytes.split_at_mut(8);
        tenant.copy_from_slice(&self.tenant.0);
        digest.copy_from_slice(&self.digest);
        bytes
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", Short(&self.digest))
    }
}

/// A mark by which stores group the keys of one [`Tenant`]: eight bytes of a digest of it.
///
/// It only groups. That no tenant meets another's history is in the [`Key`]'s own digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantTag([u8; 8]);

impl TenantTag {
    /// The mark of `tenant`.
    #[must_use]
    pub fn new(tenant: &Tenant) -> Self {
        let digest = Fields::new(b"tower-qwen tenant").field(tenant.digest()).finish();
        let mut tag = [0; 8];
        tag.copy_from_slice(&digest[..8]);
        Self(tag)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for TenantTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantTag({})", Short(&self.0))
    }
}

/// One upstream chat of one tenant, as stores name it: what leases are taken on and what is
/// forgotten as a whole.
///
/// `Display` shows a few characters of the digest; that is how chats are named in traces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChatKey([u8; 16]);

impl ChatKey {
    /// The key of chat `chat_id` of `tenant`.
    #[must_use]
    pub fn new(tenant: &Tenant, chat_id: &str) -> Self {
        let digest = Fields::new(b"tower-qwen chat")
            .field(tenant.digest())
            .field(chat_id.as_bytes())
            .finish();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }

    /// The key that these bytes are.
    pub(super) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ChatKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Short(&self.0).fmt(f)
    }
}

impl fmt::Debug for ChatKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChatKey({self})")
    }
}

/// A few characters of a digest.
struct Short<'a>(&'a [u8]);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A SHA-256 chain over the messages of a history, one link a message, so that every prefix has
/// its [`Key`] after one pass. [`Key`] says what counts.
///
/// ```
/// use tower_qwen::{
///     chat::{ChatRequest, Message, Role, Tenant},
///     session::internals::KeyChain,
/// };
///
/// let tenant = Tenant::from_digest([1; 32]);
/// let first = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
/// let mut chain = KeyChain::new(&tenant, &first);
/// chain.push(&first.history[0]);
/// let known = chain.key();
///
/// let next = ChatRequest::new(
///     "qwen3-max",
///     vec![Message::new(Role::User, "Hello\n"), Message::new(Role::Assistant, "Hi!")],
/// );
/// let mut chain = KeyChain::new(&tenant, &next);
/// chain.push(&next.history[0]);
/// assert_eq!(chain.key(), known);
/// chain.push(&next.history[1]);
/// assert_ne!(chain.key(), known);
/// ```
#[derive(Clone)]
pub struct KeyChain {
    key: Key,
    /// The calls in the last assistant message that made some: by their ids, which they are. Of
    /// several with one id the first counts.
    calls: HashMap<Text, usize>,
}

impl KeyChain {
    /// The chain before the first message, for `tenant` and the model of `request`.
    #[must_use]
    pub fn new(tenant: &Tenant, request: &ChatRequest) -> Self {
        let digest = Fields::new(b"tower-qwen session 3")
            .field(tenant.digest())
            .field(request.model.as_bytes())
            .finish();
        let key = Key { tenant: TenantTag::new(tenant), digest };
        Self { key, calls: HashMap::new() }
    }

    /// The same among several upstreams that share a store: histories of one are never those of
    /// another.
    #[must_use]
    pub(super) fn within(mut self, scope: Option<&str>) -> Self {
        if let Some(scope) = scope {
            self.key.digest = Fields::new(b"tower-qwen scope")
                .field(&self.key.digest)
                .field(scope.as_bytes())
                .finish();
        }
        self
    }

    /// The chain before the first message for a client that names its own chat.
    ///
    /// Such a chat may hold more than the client's messages say, so these histories never meet
    /// those of [`new`](Self::new).
    #[must_use]
    pub fn within_chat(tenant: &Tenant, request: &ChatRequest, chat_id: &str) -> Self {
        let mut chain = Self::new(tenant, request);
        chain.key.digest = Fields::new(b"tower-qwen own chat")
            .field(&chain.key.digest)
            .field(chat_id.as_bytes())
            .finish();
        chain
    }

    /// The chain behind an answer, of whose history nothing but its `digest` and the ids of its
    /// `calls` is known.
    pub(super) fn behind(
        tenant: &Tenant,
        digest: Digest,
        calls: impl Iterator<Item = Text>,
    ) -> Self {
        let mut places = HashMap::new();
        for (place, id) in calls.enumerate() {
            places.entry(id).or_insert(place);
        }
        Self { key: Key { tenant: TenantTag::new(tenant), digest }, calls: places }
    }

    /// The key of everything so far.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }

    /// Adds a message.
    pub fn push(&mut self, message: &Message) {
        let digest = self.message(message);
        self.link(&digest);
    }

    /// Goes on with an answer that is still streaming.
    #[must_use]
    pub fn answer(self) -> AnswerChain {
        AnswerChain {
            // Results come behind the answer, so what they belong to is not kept meanwhile.
            chain: Self { calls: HashMap::new(), ..self },
            text: TextDigest::of_assistant(),
            calls: None,
            count: 0,
            open: None,
            lost: false,
        }
    }

    pub(super) fn link(&mut self, message: &Digest) {
        let mut link = Sha256::new();
        link.update(self.key.digest);
        link.update(message);
        self.key.digest = link.finalize().into();
    }

    /// What counts of one message, as a digest that does not depend on what was before, save for
    /// which call a tool's result belongs to.
    pub(super) fn message(&mut self, message: &Message) -> Digest {
        let (text, media) = content_digests(message.role, message.content.as_ref());
        let mut calls = None;
        if !message.tool_calls.is_empty() {
            let calls = calls.get_or_insert_with(Sha256::new);
            for call in &message.tool_calls {
                push_call(calls, &call.name, &arguments_digest(&call.arguments));
            }
            self.calls.clear();
            for (place, call) in message.tool_calls.iter().enumerate() {
                self.calls.entry(call.id.clone()).or_insert(place);
            }
        }
        let answers = message.tool_call_id.as_ref().and_then(|id| self.calls.get(id)).copied();
        message_digest(&MessageFields {
            role: message.role,
            name: message.name.as_deref(),
            text,
            media,
            calls: calls.map_or(NOTHING, |calls| calls.finalize().into()),
            answers,
        })
    }
}

impl fmt::Debug for KeyChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyChain").field(&self.key).finish()
    }
}

/// A digest of `messages`, which are instructions, whichever history they stand in.
pub(super) fn instructions_digest(messages: &[Arc<Message>]) -> Digest {
    let tenant = TenantTag([0; 8]);
    let digest = Fields::new(b"tower-qwen instructions").finish();
    let mut chain = KeyChain { key: Key { tenant, digest }, calls: HashMap::new() };
    messages.iter().for_each(|message| chain.push(message));
    chain.key.digest
}

/// Where the history of `request` begins that goes on from `history` with another model, or from
/// one that is not known: at a digest that no whole history has.
pub(super) fn elsewhere(history: Option<Digest>, request: &ChatRequest) -> Digest {
    Fields::new(b"tower-qwen another model")
        .field(&history.unwrap_or(NOTHING))
        .field(request.model.as_bytes())
        .finish()
}

/// A [`KeyChain`] that hashes an answer while it streams.
///
/// Nothing of the answer is collected but the arguments of the call that is open, up to
/// [`ARGUMENTS_LIMIT`]. However the answer is cut into events, its key is that of the message
/// that a client makes of it and sends back.
///
/// ```
/// use tower_qwen::{
///     chat::{ChatEvent, ChatRequest, Message, Role, Tenant},
///     session::internals::KeyChain,
/// };
///
/// let tenant = Tenant::from_digest([1; 32]);
/// let request = ChatRequest::new("qwen3-max", vec![]);
/// let mut answer = KeyChain::new(&tenant, &request).answer();
/// answer.push(&ChatEvent::Text("Hel".into()));
/// answer.push(&ChatEvent::Text("lo \n".into()));
///
/// let mut chain = KeyChain::new(&tenant, &request);
/// chain.push(&Message::new(Role::Assistant, "Hello"));
/// assert_eq!(answer.finish(), Some(chain.key()));
/// ```
#[derive(Clone)]
pub struct AnswerChain {
    chain: KeyChain,
    text: TextDigest,
    /// The calls that are complete.
    calls: Option<Sha256>,
    /// How many calls have begun.
    count: u32,
    open: Option<OpenCall>,
    /// An event came out of order, so what the client makes of the answer is not known.
    lost: bool,
}

#[derive(Clone)]
struct OpenCall {
    name: Text,
    arguments: Arguments,
}

#[derive(Clone)]
enum Arguments {
    Short(String),
    Long(Sha256),
}

impl AnswerChain {
    /// Takes one event of the answer in.
    pub fn push(&mut self, event: &ChatEvent) {
        match event {
            ChatEvent::Text(piece) => self.text.push(piece),
            // The client sees an image as text, and sends it back as such.
            ChatEvent::Attachment(attachment) => self.text.push(&attachment.markdown()),
            ChatEvent::ToolCall { index, name, .. } => {
                let Some(count) = self.count.checked_add(1).filter(|_| *index == self.count) else {
                    self.lost = true;
                    return;
                };
                self.close_call();
                self.count = count;
                self.open = Some(OpenCall {
                    // The record outlives the buffer that the name may be a slice of.
                    name: Text::from(name.as_str()),
                    arguments: Arguments::Short(String::new()),
                });
            }
            ChatEvent::ToolArguments { index, json } => match &mut self.open {
                Some(open) if index.checked_add(1) == Some(self.count) => open.arguments.push(json),
                _ => self.lost = true,
            },
            _ => {}
        }
    }

    /// The key of the history with this answer as its last message; `None` where the answer's
    /// events did not keep the order of [`ChatEvent`], or the pieces of two calls were mixed.
    #[must_use]
    pub fn finish(mut self) -> Option<Key> {
        self.close_call();
        if self.lost {
            return None;
        }
        let message = message_digest(&MessageFields {
            role: Role::Assistant,
            name: None,
            text: self.text.finish(),
            media: NOTHING,
            calls: self.calls.map_or(NOTHING, |calls| calls.finalize().into()),
            answers: None,
        });
        self.chain.link(&message);
        Some(self.chain.key)
    }

    /// Puts the answer behind another history.
    pub(super) fn rebase(&mut self, history: KeyChain) {
        self.chain = KeyChain { calls: HashMap::new(), ..history };
    }

    fn close_call(&mut self) {
        if let Some(open) = self.open.take() {
            let arguments = open.arguments.finish();
            push_call(self.calls.get_or_insert_with(Sha256::new), &open.name, &arguments);
        }
    }
}

impl fmt::Debug for AnswerChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerChain")
            .field("after", &self.chain.key)
            .field("calls", &self.count)
            .finish_non_exhaustive()
    }
}

impl Arguments {
    fn push(&mut self, piece: &str) {
        match self {
            Self::Short(text) if text.len() + piece.len() <= ARGUMENTS_LIMIT => {
                text.push_str(piece);
            }
            Self::Short(text) => {
                let mut long = raw_arguments();
                long.update(text.as_bytes());
                long.update(piece.as_bytes());
                *self = Self::Long(long);
            }
            Self::Long(long) => long.update(piece.as_bytes()),
        }
    }

    fn finish(self) -> Digest {
        match self {
            Self::Short(text) => arguments_digest(&text),
            Self::Long(long) => long.finalize().into(),
        }
    }
}

/// A text's digest, taken piece by piece, that leaves out the white space at its end.
///
/// White space is hashed as it comes, with the state before it kept aside: the text may end here,
/// or go on after any amount of it. So nothing is held back but that one state.
#[derive(Clone)]
struct TextDigest {
    all: Sha256,
    /// The state before the white space that `all` ends with, if it does.
    trimmed: Option<Sha256>,
    /// Nothing but white space has come yet, and it does not count.
    skip: bool,
}

impl TextDigest {
    fn new() -> Self {
        Self { all: Sha256::new(), trimmed: None, skip: false }
    }

    fn of_assistant() -> Self {
        Self { skip: true, ..Self::new() }
    }

    fn push(&mut self, piece: &str) {
        let piece = if self.skip { piece.trim_start() } else { piece };
        if piece.is_empty() {
            return;
        }
        self.skip = false;
        let (text, space) = piece.split_at(piece.trim_end().len());
        if !text.is_empty() {
            self.trimmed = None;
            self.all.update(text.as_bytes());
        }
        if !space.is_empty() {
            if self.trimmed.is_none() {
                self.trimmed = Some(self.all.clone());
            }
            self.all.update(space.as_bytes());
        }
    }

    fn finish(self) -> Digest {
        self.trimmed.unwrap_or(self.all).finalize().into()
    }
}

/// Fields one after the other, each with its length before it.
struct Fields(Sha256);

impl Fields {
    fn new(what: &'static [u8]) -> Self {
        Self(Sha256::new()).field(what)
    }

    fn field(mut self, bytes: &[u8]) -> Self {
        put(&mut self.0, bytes);
        self
    }

    fn optional(mut self, text: Option<&str>) -> Self {
        self.0.update([u8::from(text.is_some())]);
        match text {
            Some(text) => self.field(text.as_bytes()),
            None => self,
        }
    }

    fn finish(self) -> Digest {
        self.0.finalize().into()
    }
}

fn put(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

struct MessageFields<'a> {
    role: Role,
    name: Option<&'a str>,
    text: Digest,
    media: Digest,
    calls: Digest,
    answers: Option<usize>,
}

fn message_digest(message: &MessageFields<'_>) -> Digest {
    let role = match message.role {
        Role::Developer => Role::System,
        role => role,
    };
    // All but the role and the name have a fixed length.
    let answers = message.answers.map_or(0, |answers| answers as u64 + 1);
    let mut hash = Fields::new(role.as_str().as_bytes()).optional(message.name).0;
    hash.update(message.text);
    hash.update(message.media);
    hash.update(message.calls);
    hash.update(answers.to_le_bytes());
    hash.finalize().into()
}

fn content_digests(role: Role, content: Option<&Content>) -> (Digest, Digest) {
    let mut text =
        if role == Role::Assistant { TextDigest::of_assistant() } else { TextDigest::new() };
    let mut media = None;
    match content {
        None => {}
        Some(Content::Text(all)) => text.push(all),
        Some(Content::Parts(parts)) => {
            let mut before = 0_u64;
            for part in parts {
                if let Some(piece) = part.as_text() {
                    before += piece.len() as u64;
                    text.push(piece);
                } else {
                    let media = media.get_or_insert_with(Sha256::new);
                    media.update(before.to_le_bytes());
                    media.update(media_digest(part));
                }
            }
        }
    }
    (text.finish(), media.map_or(NOTHING, |media| media.finalize().into()))
}

fn media_digest(part: &Part) -> Digest {
    match &part.kind {
        PartKind::Image { url, detail } => {
            Fields::new(b"image").field(url.as_bytes()).optional(detail.as_deref())
        }
        PartKind::Audio { data, format } => {
            Fields::new(b"audio").field(data.as_bytes()).optional(format.as_deref())
        }
        PartKind::File { id, data, name } => Fields::new(b"file")
            .optional(id.as_deref())
            .optional(data.as_deref())
            .optional(name.as_deref()),
        PartKind::Video { url } => Fields::new(b"video").field(url.as_bytes()),
        PartKind::ToolReference { name } => Fields::new(b"tool reference").field(name.as_bytes()),
        PartKind::Uploaded(file) => Fields::new(b"uploaded").field(file.id.as_bytes()),
        PartKind::Other(fields) => {
            let mut hash = Fields::new(b"other");
            put_json(&mut hash.0, Json::from(fields).as_str());
            hash
        }
        // Counted with the text.
        PartKind::Text(text) | PartKind::Refusal(text) => {
            Fields::new(b"text").field(text.as_bytes())
        }
    }
    .finish()
}

/// One call after the other, each of a fixed length.
fn push_call(calls: &mut Sha256, name: &str, arguments: &Digest) {
    calls.update(Sha256::digest(name.as_bytes()));
    calls.update(arguments);
}

fn raw_arguments() -> Sha256 {
    Fields::new(b"raw").0
}

fn arguments_digest(arguments: &str) -> Digest {
    let json = if arguments.trim().is_empty() { "{}" } else { arguments };
    let meaning = (arguments.len() <= ARGUMENTS_LIMIT).then(|| meaning::digest(json)).flatten();
    match meaning {
        Some(Meaning { digest, is_exact: true }) => Fields::new(b"json").field(&digest).finish(),
        _ => {
            let mut hash = raw_arguments();
            hash.update(arguments.as_bytes());
            hash.finalize().into()
        }
    }
}

/// The tools as a set: clients collect them from several places, in no certain order. The order of
/// their schemas' keys does not matter either.
pub fn tools_digest(tools: &[Tool]) -> Digest {
    if tools.is_empty() {
        return NOTHING;
    }
    let mut digests: Vec<Digest> = tools.iter().map(tool_digest).collect();
    digests.sort_unstable();
    let mut hash = Sha256::new();
    digests.iter().for_each(|digest| hash.update(digest));
    hash.finalize().into()
}

fn tool_digest(tool: &Tool) -> Digest {
    match tool {
        Tool::Function(function) => {
            let mut hash = Fields::new(b"function")
                .field(function.name.as_bytes())
                .optional(function.description.as_deref());
            hash.0.update([match function.strict {
                None => 0,
                Some(false) => 1,
                Some(true) => 2,
            }]);
            put_json(&mut hash.0, function.parameters.as_ref().map_or("null", Json::as_str));
            put_json(&mut hash.0, Json::from(&function.extra).as_str());
            hash
        }
        Tool::Other(value) => {
            let mut hash = Fields::new(b"other");
            put_json(&mut hash.0, value.as_str());
            hash
        }
    }
    .finish()
}

/// What JSON means where that can be told, else how it is spelled.
fn put_json(hash: &mut Sha256, json: &str) {
    match meaning::digest(json) {
        Some(Meaning { digest, .. }) => {
            hash.update(b"m");
            hash.update(digest);
        }
        None => {
            hash.update(b"r");
            put(hash, json.as_bytes());
        }
    }
}

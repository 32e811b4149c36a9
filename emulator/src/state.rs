//! What the emulated server remembers: chats and their trees, accounts, and the request log.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, Method, Uri};
use serde_json::Value;
use tokio::{sync::oneshot, time::Instant};

use super::{
    builder::Config, clock::Clock, compatible::Responses, files::Files, media::Tasks, oauth::OAuth,
};

/// Everything that the clones of one emulator share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) clock: Clock,
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn new(config: Config) -> Self {
        let clock = Clock::new();
        let state = Mutex::new(State::new(&config, clock.now()));
        Self { config, clock, state }
    }

    /// The state. It is held for the length of a look-up, never across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often things happened since the emulator was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Requests of any kind.
    pub requests: u64,
    /// Chats that were created.
    pub chats_created: u64,
    /// Answers that were begun, streamed or not.
    pub completions: u64,
    /// Requests that were refused or failed on purpose before an answer was begun.
    pub refusals: u64,
    /// Requests to stop an answer.
    pub stops: u64,
    /// Answers whose client went away before their end.
    pub abandoned: u64,
    /// OAuth tokens given out for a refresh token, and refreshed sessions.
    pub refreshes: u64,
    /// Refreshes that were refused.
    pub refused_refreshes: u64,
    /// Device authorisations that ended with a token.
    pub logins: u64,
}

/// A request as the emulator received it.
#[derive(Clone)]
#[non_exhaustive]
pub struct ReceivedRequest {
    /// The method.
    pub method: Method,
    /// The target, with its query.
    pub uri: Uri,
    /// The headers. Those that hold credentials are marked sensitive, so `Debug` hides them.
    pub headers: HeaderMap,
    /// The body: as JSON if it is, a form as an object of strings, else null.
    pub body: Value,
    /// The account that the credentials belong to, if any.
    pub account: Option<String>,
}

impl ReceivedRequest {
    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.path()
    }
}

impl fmt::Debug for ReceivedRequest {
    /// Leaves the body out: the forms of OAuth hold tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedRequest")
            .field("method", &self.method)
            .field("uri", &self.uri)
            .field("headers", &self.headers)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// A chat as it stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChatRecord {
    /// The id.
    pub id: String,
    /// The account that it belongs to.
    pub account: String,
    /// The title that it was created with.
    pub title: String,
    /// Whether an answer is in progress.
    pub busy: bool,
    /// The messages of the tree, oldest first.
    pub messages: Vec<MessageRecord>,
}

/// A message in the tree of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageRecord {
    /// The id: the `parent_id` of `response.created` for a user's message, its `response_id` for
    /// an answer.
    pub id: String,
    /// The message before it; `None` for one that starts a branch of its own.
    pub parent_id: Option<String>,
    /// `user`, `function` or `assistant`.
    pub role: String,
    /// The text. That of an answer is there when the answer ended.
    pub text: String,
    /// Where the pictures or films of an answer are, as far as the chat holds them.
    pub media: Vec<String>,
    /// The model that was asked for, or that answered.
    pub model: String,
    /// When it was made, in seconds since the Unix epoch.
    pub timestamp: u64,
}

impl MessageRecord {
    fn size(&self) -> usize {
        let media = self.media.iter().map(|url| url.len() + size_of::<String>()).sum::<usize>();
        size_of::<Self>() + media + self.text.len() + self.model.len() + 2 * self.id.len() + 64
    }
}

pub(super) struct Chat {
    pub(super) id: String,
    pub(super) account: String,
    pub(super) title: String,
    pub(super) chat_type: String,
    /// Whether the list of the account leaves it out.
    pub(super) is_hidden: bool,
    pub(super) created_at: u64,
    pub(super) updated_at: u64,
    messages: Vec<MessageRecord>,
    index: HashMap<String, usize>,
    busy: Option<Busy>,
    size: usize,
    /// When the chat was last used, in requests; the key of its place in [`State::uses`].
    used: u64,
}

struct Busy {
    response_id: String,
    /// Ends the answer's body. `None` once the client went away.
    stop: Option<oneshot::Sender<()>>,
    /// When an answer whose client went away ends by itself.
    until: Option<Instant>,
}

impl Chat {
    pub(super) fn message(&self, id: &str) -> Option<&MessageRecord> {
        self.index.get(id).map(|at| &self.messages[*at])
    }

    pub(super) fn messages(&self) -> &[MessageRecord] {
        &self.messages
    }

    /// The messages from the root to `id`.
    pub(super) fn path(&self, id: Option<&str>) -> Vec<&MessageRecord> {
        let mut path = Vec::new();
        let mut at = id.and_then(|id| self.message(id));
        // A parent is always older than its child, so this ends.
        while let Some(message) = at {
            path.push(message);
            at = message.parent_id.as_deref().and_then(|id| self.message(id));
        }
        path.reverse();
        path
    }

    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.busy.as_ref().is_some_and(|busy| busy.until.is_none_or(|until| now < until))
    }

    pub(super) fn record(&self, now: Instant) -> ChatRecord {
        ChatRecord {
            id: self.id.clone(),
            account: self.account.clone(),
            title: self.title.clone(),
            busy: self.is_busy(now),
            messages: self.messages.clone(),
        }
    }
}

pub(super) struct State {
    pub(super) counters: Counters,
    pub(super) oauth: OAuth,
    chats: HashMap<String, Chat>,
    /// The chats by last use, oldest first.
    uses: BTreeMap<u64, String>,
    clock: u64,
    size: usize,
    limits: Limits,
    /// Answers of DashScope's Responses API that can be gone on from.
    pub(super) responses: Responses,
    pub(super) files: Files,
    /// What makes films.
    pub(super) tasks: Tasks,
    log: VecDeque<(ReceivedRequest, usize)>,
    log_size: usize,
    /// How often a text with a fault was answered, for the `times` directive.
    seen: VecDeque<(u64, u64)>,
}

/// What the emulator keeps at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) chats: usize,
    pub(super) chat_bytes: usize,
    pub(super) requests: usize,
    pub(super) request_bytes: usize,
}

impl State {
    fn new(config: &Config, now: Instant) -> Self {
        Self {
            counters: Counters::default(),
            oauth: OAuth::new(config, now),
            chats: HashMap::new(),
            uses: BTreeMap::new(),
            clock: 0,
            size: 0,
            limits: config.limits,
            responses: Responses::default(),
            files: Files::default(),
            tasks: Tasks::default(),
            log: VecDeque::new(),
            log_size: 0,
            seen: VecDeque::new(),
        }
    }

    pub(super) fn record(&mut self, request: ReceivedRequest, size: usize) {
        self.counters.requests += 1;
        if self.limits.requests == 0 {
            return;
        }
        self.log_size += size;
        self.log.push_back((request, size));
        while self.log.len() > self.limits.requests || self.log_size > self.limits.request_bytes {
            let Some((_, size)) = self.log.pop_front() else { break };
            self.log_size -= size;
        }
    }

    pub(super) fn requests(&self) -> Vec<ReceivedRequest> {
        self.log.iter().map(|(request, _)| request.clone()).collect()
    }

    pub(super) fn create_chat(&mut self, mut chat: Chat) {
        self.counters.chats_created += 1;
        chat.used = self.tick();
        self.uses.insert(chat.used, chat.id.clone());
        self.size += chat.size;
        self.chats.insert(chat.id.clone(), chat);
        self.evict();
    }

    pub(super) fn chat(&self, id: &str) -> Option<&Chat> {
        self.chats.get(id)
    }

    /// The chats, most recently used first.
    pub(super) fn chats(&self) -> impl Iterator<Item = &Chat> {
        self.uses.values().rev().filter_map(|id| self.chats.get(id))
    }

    pub(super) fn delete_chat(&mut self, id: &str) -> bool {
        let Some(chat) = self.chats.remove(id) else { return false };
        self.uses.remove(&chat.used);
        self.size -= chat.size;
        true
    }

    /// Puts a user's message and the place of its answer into the chat, which is busy from now
    /// on. The receiver is told when the answer is to stop.
    pub(super) fn begin_answer(
        &mut self,
        chat_id: &str,
        user: MessageRecord,
        assistant: MessageRecord,
    ) -> Option<oneshot::Receiver<()>> {
        let used = self.tick();
        let chat = self.chats.get_mut(chat_id)?;
        self.uses.remove(&chat.used);
        chat.used = used;
        self.uses.insert(used, chat_id.to_owned());
        let (stop, stopped) = oneshot::channel();
        chat.updated_at = user.timestamp;
        chat.busy = Some(Busy { response_id: assistant.id.clone(), stop: Some(stop), until: None });
        for message in [user, assistant] {
            let size = message.size();
            chat.size += size;
            self.size += size;
            chat.index.insert(message.id.clone(), chat.messages.len());
            chat.messages.push(message);
        }
        self.counters.completions += 1;
        self.evict();
        Some(stopped)
    }

    /// Takes down what an answer said. `until` is when the chat is free again; now if `None`.
    pub(super) fn end_answer(
        &mut self,
        chat_id: &str,
        response_id: &str,
        text: &str,
        until: Option<Instant>,
    ) {
        if until.is_some() {
            self.counters.abandoned += 1;
        }
        let Some(chat) = self.chats.get_mut(chat_id) else { return };
        if let Some(at) = chat.index.get(response_id) {
            let message = &mut chat.messages[*at];
            let (before, after) = (message.text.len(), text.len());
            text.clone_into(&mut message.text);
            chat.size = chat.size - before + after;
            self.size = self.size - before + after;
        }
        if chat.busy.as_ref().is_some_and(|busy| busy.response_id == response_id) {
            chat.busy = until.map(|until| Busy {
                response_id: response_id.to_owned(),
                stop: None,
                until: Some(until),
            });
        }
        self.evict();
    }

    /// Has a chat hold where the pictures or films of an answer are.
    pub(super) fn hold_media(&mut self, chat_id: &str, response_id: &str, media: Vec<String>) {
        let Some(chat) = self.chats.get_mut(chat_id) else { return };
        let Some(at) = chat.index.get(response_id) else { return };
        let message = &mut chat.messages[*at];
        let before = message.size();
        message.media = media;
        let after = message.size();
        chat.size = chat.size - before + after;
        self.size = self.size - before + after;
    }

    /// Stops the answer in progress; whether there was one.
    pub(super) fn stop(&mut self, chat_id: &str) -> bool {
        self.counters.stops += 1;
        let busy = self.chats.get_mut(chat_id).and_then(|chat| chat.busy.take());
        match busy {
            Some(Busy { stop: Some(stop), .. }) => stop.send(()).is_ok(),
            Some(_) => true,
            None => false,
        }
    }

    /// How often `key` was counted before.
    pub(super) fn count(&mut self, key: u64) -> u64 {
        const REMEMBERED: usize = 1_024;
        if let Some((_, times)) = self.seen.iter_mut().find(|(seen, _)| *seen == key) {
            *times += 1;
            return *times - 1;
        }
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back((key, 1));
        0
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn evict(&mut self) {
        while (self.chats.len() > self.limits.chats || self.size > self.limits.chat_bytes)
            && let Some((_, id)) = self.uses.pop_first()
        {
            if let Some(chat) = self.chats.remove(&id) {
                self.size -= chat.size;
            }
        }
    }
}

/// A chat without messages.
pub(super) fn new_chat(
    id: String,
    account: String,
    title: String,
    chat_type: String,
    now: u64,
) -> Chat {
    let size = size_of::<Chat>() + 2 * id.len() + account.len() + title.len() + chat_type.len();
    Chat {
        id,
        account,
        title,
        chat_type,
        is_hidden: false,
        created_at: now,
        updated_at: now,
        messages: Vec::new(),
        index: HashMap::new(),
        busy: None,
        size,
        used: 0,
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").finish_non_exhaustive()
    }
}

//! A model of everything around the session and dedup layers: clients that resend, edit, retry and
//! give up, a store that forgets and fails, and an upstream that keeps trees of messages.
//!
//! The upstream knows of every request what its client meant, and panics where the context that it
//! would answer in is anything else. The same model is driven by a property test and by a fuzzer.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    future::{Future, poll_fn, ready},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use http::{Request, Response};
use serde_json::Value;
use tokio::time::Instant;
use tower::{Layer, Service};
use tower_qwen::{
    Error, ErrorKind,
    chat::{
        ChatEvent, ChatRequest, ChatStreamExt, Checked, Content, Conversation, FinishReason,
        FunctionTool, Message, Part, PartKind, Role, Tenant, Tool, ToolCall,
    },
    dedup::{Dedup, DedupLayer},
    session::{
        ChatKey, Contention, Grant, Key, MemoryStore, Owner, Record, Session, SessionLayer,
        SessionStore, StoreError, StoreFuture,
    },
};

/// One step of a scenario; what the bytes mean is up to [`World::step`].
pub(crate) type Op = [u8; 4];

/// Plays a scenario to its end.
///
/// # Panics
///
/// Where a promise of the layers is broken.
pub(crate) fn run(ops: &[Op]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(ops.first().copied().unwrap_or_default());
        for op in ops {
            world.step(*op).await;
        }
        world.finish().await;
    });
}

type Stack = Session<Dedup<Upstream>>;
type Answering = <Stack as Service<Request<ChatRequest>>>::Future;
type Answer = Checked<tower_qwen::session::SessionStream<Running>>;

struct World {
    stack: Stack,
    upstream: Upstream,
    store: Store,
    /// Histories that clients may send, each ready to be answered.
    histories: Vec<History>,
    turns: Vec<Turn>,
    /// Whether the store fails and forgets in this scenario.
    troubles: bool,
}

#[derive(Clone)]
struct History {
    tenant: u8,
    tools: bool,
    messages: Vec<Message>,
    /// The chat that the client names.
    own: Option<String>,
}

struct Turn {
    history: History,
    style: u8,
    state: State,
    made: Message,
}

enum State {
    Asking(Answering),
    Reading(Box<Answer>),
    Over,
}

impl World {
    fn new([a, b, c, _]: Op) -> Self {
        let store = Store::default();
        let upstream = Upstream::default();
        let contention = match a % 3 {
            0 => Contention::Replay,
            1 => Contention::Wait(Duration::from_millis(500)),
            _ => Contention::Wait(Duration::from_secs(10)),
        };
        // Leases that turns renew, or that last until they are given back.
        let lease_limit = (c & 2 == 0).then(|| Duration::from_secs(u64::from(b) + 1));
        upstream.state().lease_limit = lease_limit;
        store.state().lease_limit = lease_limit;
        let layer =
            SessionLayer::new(store.clone()).contention(contention).busy_retries(u32::from(b % 4));
        let stack = layer.layer(DedupLayer::new().layer(upstream.clone()));
        let troubles = c & 1 != 0;
        Self { stack, upstream, store, histories: Vec::new(), turns: Vec::new(), troubles }
    }

    async fn step(&mut self, [kind, a, b, c]: Op) {
        match kind % 16 {
            // A client begins a conversation.
            0 | 1 => {
                let mut messages = Vec::new();
                if c & 1 != 0 {
                    let role = if c & 2 != 0 { Role::System } else { Role::Developer };
                    messages.push(Message::new(role, word(c >> 2)));
                }
                messages.push(Message::new(Role::User, word(b)));
                let history = History { tenant: a % 3, tools: a & 8 != 0, messages, own: None };
                self.start(history, c);
            }
            // Sends a history that is there: a new turn, or the last one once more.
            2..=4 => {
                if let Some(history) = pick(&self.histories, a).cloned() {
                    self.start(history, b);
                }
            }
            // Edits or cuts one.
            5 => {
                if let Some(mut history) = pick(&self.histories, a).cloned() {
                    let at = usize::from(b) % history.messages.len();
                    match c % 4 {
                        0 => history.messages[at] = Message::new(Role::User, word(c)),
                        1 => {
                            history.messages.truncate(at);
                            history.messages.push(Message::new(Role::User, word(c)));
                        }
                        2 => history.messages[at].content = Some(Content::Text(word(c).into())),
                        3 if c & 4 != 0 => history.tools = !history.tools,
                        _ => history.own = None,
                    }
                    self.start(history, b);
                }
            }
            // Names the chat itself.
            6 => {
                if let Some(mut history) = pick(&self.histories, a).cloned() {
                    let upstream = self.upstream.state();
                    let chat = pick(&upstream.chats, b).map(|chat| (chat.id.clone(), chat.tenant));
                    drop(upstream);
                    // Another tenant's chat is another account's: upstream does not know it.
                    if let Some((id, tenant)) = chat
                        && tenant == history.tenant
                    {
                        history.own = Some(id);
                        if c & 3 == 0 {
                            history.messages = vec![Message::new(Role::User, word(b))];
                        }
                        self.start(history, c);
                    }
                }
            }
            // Somebody reads: a whole answer, as a rule.
            7..=9 => {
                let turns = self.turns.len();
                for _ in 0..200 {
                    if self.turns.len() < turns {
                        break;
                    }
                    self.advance_turn(a).await;
                }
            }
            10 | 11 => {
                for _ in 0..b % 16 {
                    self.advance_turn(a).await;
                }
            }
            // A client gives up.
            12 => {
                if !self.turns.is_empty() {
                    let at = usize::from(a) % self.turns.len();
                    self.turns.swap_remove(at);
                }
            }
            13 => {
                let mut upstream = self.upstream.state();
                upstream.disturb();
                let count = upstream.chats.len();
                if count > 0 {
                    upstream.chats[usize::from(a) % count].lost = true;
                }
            }
            14 if self.troubles => {
                let mut upstream = self.upstream.state();
                upstream.disturb();
                upstream.unleased = true;
                drop(upstream);
                match a % 4 {
                    0 => self.store.state().expire(b),
                    1 => self.store.state().failing = b % 8,
                    _ => self.store.state().failing = 0,
                }
            }
            _ => tokio::time::advance(Duration::from_millis(u64::from(a) * 40)).await,
        }
    }

    fn start(&mut self, history: History, style: u8) {
        let mut chat = ChatRequest::new("qwen3-max", history.messages.clone());
        chat.tenant = Some(tenant(history.tenant));
        if history.tools {
            chat.tools = Arc::new(vec![Tool::Function(FunctionTool::without_parameters("read"))]);
        }
        if let Some(own) = history.own.as_deref() {
            chat.destination = Conversation::new(own).into();
        }

        let quiet = self.turns.is_empty() && self.store.state().failing == 0;
        self.upstream.state().forgetful |= self.store.state().troubled;
        let number = self.upstream.state().expect(&history, quiet, style);
        let mut request = Request::new(chat);
        request.headers_mut().insert("x-turn", number.into());
        let mut service = self.stack.clone();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let asking = service.call(request);
        let made = Message::empty(Role::Assistant);
        self.turns.push(Turn { history, style, state: State::Asking(asking), made });
    }

    /// Polls one turn once, and takes in what comes of it.
    async fn advance_turn(&mut self, which: u8) {
        if self.turns.is_empty() {
            return;
        }
        let at = usize::from(which) % self.turns.len();
        let turn = &mut self.turns[at];
        match &mut turn.state {
            State::Asking(asking) => {
                match poll_fn(|cx| Poll::Ready(Pin::new(&mut *asking).poll(cx))).await {
                    Poll::Pending => {}
                    Poll::Ready(Ok(response)) => {
                        turn.state = State::Reading(Box::new(response.into_body().checked()))
                    }
                    Poll::Ready(Err(error)) => {
                        // The only errors that a client may see.
                        let own = turn.history.own.is_some();
                        let of_own = error.is_conversation_lost() || error.is_conversation_busy();
                        assert!(error.is_quota() || own && of_own, "{error:?}");
                        turn.state = State::Over;
                    }
                }
            }
            State::Reading(answer) => {
                match poll_fn(|cx| Poll::Ready(Pin::new(&mut *answer).poll_next(cx))).await {
                    Poll::Pending => {}
                    Poll::Ready(Some(Ok(event))) => turn.take(event),
                    Poll::Ready(Some(Err(_)) | None) => turn.state = State::Over,
                }
            }
            State::Over => {}
        }
        if let Some(Turn { state: State::Over, .. }) = self.turns.get(at) {
            let turn = self.turns.swap_remove(at);
            self.histories.extend(turn.next());
        }
    }

    /// Lets every turn come to its end, and looks that nothing is left behind.
    async fn finish(&mut self) {
        self.store.state().failing = 0;
        for round in 0.. {
            assert!(round < 20_000, "a turn hangs");
            if self.turns.is_empty() {
                break;
            }
            let before = self.turns.len();
            for turn in 0..before {
                self.advance_turn(turn as u8).await;
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        // A lease that was taken while the store failed has its time limit.
        tokio::time::advance(Duration::from_secs(300)).await;
        let mut keys = Vec::new();
        for chat in &self.upstream.state().chats {
            assert!(!chat.busy(), "a turn was not ended upstream");
            keys.push(ChatKey::new(&tenant(chat.tenant), &chat.id));
        }
        for key in keys {
            let free = self.store.acquire(key, Owner::unique());
            let free = free.await.expect("it does not fail now");
            assert_ne!(free, Grant::Refused, "a lease was left behind");
        }
    }
}

impl Turn {
    fn take(&mut self, event: ChatEvent) {
        match event {
            ChatEvent::Text(piece) => {
                let text = format!("{}{piece}", self.made.text());
                self.made.content = Some(Content::Text(text.into()));
            }
            ChatEvent::ToolCall { id, name, .. } => {
                self.made.tool_calls.push(ToolCall::new(id, name, ""));
            }
            ChatEvent::ToolArguments { index, json } => {
                let call = &mut self.made.tool_calls[index as usize];
                call.arguments = format!("{}{json}", call.arguments).into();
            }
            ChatEvent::Started(_) | ChatEvent::Finished(_) | ChatEvent::Reasoning(_) => {}
            other => panic!("{other:?} was never sent"),
        }
    }

    /// The histories that this client may send next: the answer in the form that the client keeps
    /// it in, complete or not, and something new after it.
    fn next(self) -> Option<History> {
        let Self { mut history, style, mut made, .. } = self;
        if made.content.is_none() && made.tool_calls.is_empty() {
            return None;
        }
        let text = made.text();
        made.content = match style & 3 {
            0 => made.content,
            1 => Some(Content::Text(text.trim().into())),
            2 => Some(Content::Text(text.trim_end().into())),
            _ => {
                let middle = text.char_indices().nth(2).map_or(0, |(at, _)| at);
                let parts = [text.slice(..middle), text.slice(middle..)];
                Some(Content::Parts(
                    parts.into_iter().map(|part| Part::new(PartKind::Text(part))).collect(),
                ))
            }
        };
        let mut results = Vec::new();
        for (index, call) in made.tool_calls.iter_mut().enumerate() {
            if style & 4 != 0 {
                // Parses and writes the arguments anew, keys sorted.
                if let Ok(value) = serde_json::from_str::<BTreeMap<String, Value>>(&call.arguments)
                {
                    call.arguments = serde_json::to_string_pretty(&value).expect("JSON").into();
                }
            }
            if style & 8 != 0 {
                call.id = format!("mine_{index}").into();
            }
            // The ids are the client's own, so the text says which call it is about.
            let text = format!("{}({index}): {}", call.name, word(style >> 4));
            let mut result = Message::new(Role::Tool, text);
            result.tool_call_id = Some(call.id.clone());
            results.push(result);
        }
        if style & 16 != 0 {
            results.reverse();
        }
        history.messages.push(made);
        if results.is_empty() || style & 32 != 0 {
            results.push(Message::new(Role::User, word(style >> 5)));
        }
        history.messages.extend(results);
        Some(history)
    }
}

/// The upstream: chats of accounts, each a tree of turns and answers.
#[derive(Clone, Default)]
struct Upstream(Arc<Mutex<UpstreamState>>);

#[derive(Default)]
struct UpstreamState {
    chats: Vec<Chat>,
    expected: Vec<Expected>,
    nodes: u64,
    /// Which prefixes the store must know, if it never forgot: the last writer's chat.
    known: BTreeMap<(u8, String, Vec<String>), usize>,
    /// The store lost something, so a replay is no defect.
    forgetful: bool,
    /// The store may not say who is in a chat, or a client named its chat, which it gets whoever
    /// is in it.
    unleased: bool,
    /// How long a turn has a chat to itself unless it renews its lease.
    lease_limit: Option<Duration>,
}

struct Chat {
    id: String,
    tenant: u8,
    lost: bool,
    /// The layer was told that the chat is lost.
    forgotten: bool,
    nodes: BTreeMap<String, Node>,
    /// The answer that is being made, while somebody reads it.
    running: Option<Arc<()>>,
    /// When it was asked for.
    since: Instant,
}

struct Node {
    parent: Option<String>,
    messages: Vec<Message>,
    tools: bool,
    complete: bool,
}

struct Expected {
    history: History,
    /// How many messages must come, where that is certain.
    sent: Option<usize>,
    /// The chats that were known to be lost before it came.
    gone: Vec<usize>,
    answer: u8,
}

impl Chat {
    fn busy(&self) -> bool {
        self.running.as_ref().is_some_and(|running| Arc::strong_count(running) > 1)
    }

    fn path(&self, to: Option<&str>) -> Vec<Message> {
        let Some(to) = to else { return Vec::new() };
        let node = self.nodes.get(to).expect("a parent that upstream knows");
        assert!(node.complete, "goes on from an answer that was cut");
        let mut path = self.path(node.parent.as_deref());
        path.extend(node.messages.iter().cloned());
        path
    }
}

impl Upstream {
    fn state(&self) -> MutexGuard<'_, UpstreamState> {
        self.0.lock().expect("nothing panics under the lock")
    }
}

impl UpstreamState {
    /// Something happens that turns under way did not count on.
    fn disturb(&mut self) {
        self.expected.iter_mut().for_each(|expected| expected.sent = None);
    }

    /// Notes what a client means by its request; `quiet` where nothing else is going on.
    fn expect(&mut self, history: &History, quiet: bool, answer: u8) -> usize {
        self.disturb();
        let canon = canon(&history.messages);
        let mut sent = None;
        if quiet && !self.forgetful && history.own.is_none() {
            // The longest prefix that ends with an answer and has something after it.
            let longest = (1..canon.len())
                .rev()
                .filter(|at| history.messages[at - 1].role == Role::Assistant)
                .filter(|at| history.messages[*at].role != Role::Assistant)
                .find_map(|at| {
                    let key = (history.tenant, String::new(), canon[..at].to_vec());
                    self.known.get(&key).map(|chat| (at, *chat))
                });
            sent = Some(match longest {
                Some((at, chat)) if !self.chats[chat].lost && !self.chats[chat].busy() => {
                    canon.len() - at
                }
                _ => canon.len(),
            });
        }
        self.unleased |= history.own.is_some();
        let gone = (0..self.chats.len()).filter(|at| self.chats[*at].forgotten).collect();
        self.expected.push(Expected { history: history.clone(), sent, gone, answer });
        self.expected.len() - 1
    }

    fn answer(
        &mut self,
        shared: &Upstream,
        turn: usize,
        chat: &ChatRequest,
    ) -> Result<Running, Error> {
        let Expected { history, sent, gone, answer } = &self.expected[turn];
        let (history, sent, gone, answer) = (history.clone(), *sent, gone.clone(), *answer);
        assert!(chat.history.seen.is_empty(), "dedup did not do its work");
        assert_eq!(chat.tenant, Some(tenant(history.tenant)));

        let (at, parent) = match chat.conversation() {
            None => {
                let id = format!("chat-{}", self.chats.len());
                self.chats.push(Chat {
                    id,
                    tenant: history.tenant,
                    lost: false,
                    forgotten: false,
                    nodes: BTreeMap::new(),
                    running: None,
                    since: Instant::now(),
                });
                (self.chats.len() - 1, None)
            }
            Some(place) => {
                let at = self.chats.iter().position(|chat| *chat.id == *place.chat_id);
                let at = at.expect("a chat that upstream made");
                (at, place.parent_id.as_deref())
            }
        };
        let place = &mut self.chats[at];
        assert_eq!(place.tenant, history.tenant, "another tenant's chat");
        if place.lost {
            let asked = history.own.is_some() || !gone.contains(&at);
            assert!(asked, "a chat that was lost is asked again");
            place.forgotten = true;
            self.known.retain(|_, chat| *chat != at);
            return Err(Error::new(ErrorKind::ConversationLost, "lost"));
        }
        if place.busy() {
            // The leases of those who wait now may be over before they are sent.
            self.unleased |= self.lease_limit.is_some_and(|limit| place.since.elapsed() >= limit);
            assert!(self.unleased, "two turns in one chat at the same time");
            return Err(Error::new(ErrorKind::ConversationBusy, "busy"));
        }
        // The first turn from a root tells of the tools; a later one with others says so.
        if history.own.is_none() {
            let changed = parent.is_some_and(|parent| place.nodes[parent].tools != history.tools);
            assert_eq!(chat.tools_changed, changed, "of which tools the chat was told");
        }

        // The heart of it: what the model answers is what the client meant.
        let mut context = place.path(parent);
        context.extend(chat.history.iter().cloned());
        let (context, meant) = (canon(&context), canon(&history.messages));
        match &history.own {
            None => assert_eq!(context, meant, "another context"),
            // What else that chat holds is the client's business.
            Some(own) => {
                assert_eq!(*own, place.id, "not the chat that the client named");
                assert!(context.ends_with(&meant), "{context:?} is another context than {meant:?}");
            }
        }
        if let Some(sent) = sent {
            assert_eq!(chat.history.len(), sent, "not only what is new");
        }
        if answer & 0xf0 == 0xf0 {
            return Err(Error::new(ErrorKind::Quota, "used up"));
        }

        self.nodes += 1;
        let asked = format!("user-{}", self.nodes);
        let answered = format!("answer-{}", self.nodes);
        let (made, events, ending) = make(answer, &answered);
        let place = &mut self.chats[at];
        let question = Node {
            parent: parent.map(str::to_owned),
            messages: chat.history.iter().cloned().collect(),
            tools: history.tools,
            complete: true,
        };
        place.nodes.insert(asked.clone(), question);
        let node = Node {
            parent: Some(asked),
            messages: vec![made],
            tools: history.tools,
            complete: false,
        };
        place.nodes.insert(answered.clone(), node);
        let running = Arc::new(());
        place.running = Some(running.clone());
        place.since = Instant::now();

        let started = Conversation::new(&*place.id).with_parent(answered.clone());
        let mut script = VecDeque::from([Ok(ChatEvent::Started(started.into()))]);
        script.extend(events.into_iter().map(Ok));
        match ending {
            Cut::No => script.push_back(Ok(ChatEvent::Finished(FinishReason::Stop))),
            Cut::Silent => {}
            Cut::Error => script.push_back(Err(Error::new(ErrorKind::Truncated, "cut"))),
        }
        let within = chat.conversation().and(history.own.clone());
        Ok(Running {
            script,
            waits: false,
            at,
            answer: answered,
            history,
            within,
            upstream: shared.clone(),
            _running: running,
        })
    }

    fn complete(&mut self, at: usize, answer: &str, history: &History, within: Option<String>) {
        let place = &mut self.chats[at];
        // Upstream takes the next turn when it has said its last.
        place.running = None;
        let node = place.nodes.get_mut(answer).expect("it was made");
        node.complete = true;
        let mut whole = history.messages.clone();
        whole.extend(node.messages.iter().cloned());
        let within = within.filter(|own| *own == place.id).unwrap_or_default();
        if place.forgotten {
            return;
        }
        self.known.insert((history.tenant, within, canon(&whole)), at);
    }
}

/// An answer that is being made; each of its events is waited for.
struct Running {
    script: VecDeque<Result<ChatEvent, Error>>,
    waits: bool,
    at: usize,
    answer: String,
    history: History,
    within: Option<String>,
    upstream: Upstream,
    _running: Arc<()>,
}

impl Stream for Running {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The driver of the model polls again without being woken.
        self.waits = !self.waits;
        if self.waits {
            return Poll::Pending;
        }
        let event = self.script.pop_front();
        if let Some(Ok(ChatEvent::Finished(_))) = event {
            let mut upstream = self.upstream.state();
            upstream.complete(self.at, &self.answer, &self.history, self.within.clone());
        }
        Poll::Ready(event)
    }
}

impl Service<Request<ChatRequest>> for Upstream {
    type Response = Response<Running>;
    type Error = Error;
    type Future = std::future::Ready<Result<Response<Running>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        let turn = request.headers()["x-turn"].to_str().expect("digits").parse().expect("digits");
        let body = self.state().answer(self, turn, request.body());
        ready(body.map(Response::new))
    }
}

enum Cut {
    No,
    Silent,
    Error,
}

/// An answer, whole and as events.
fn make(style: u8, id: &str) -> (Message, Vec<ChatEvent>, Cut) {
    let mut made = Message::empty(Role::Assistant);
    let mut events = Vec::new();
    if style & 1 != 0 {
        events.push(ChatEvent::Reasoning("hm".into()));
    }
    let text = match style & 6 {
        0 => " \n yes, of course \n\n",
        2 => "no",
        4 => "é  ü",
        _ => "",
    };
    if !text.is_empty() {
        made.content = Some(Content::Text(text.into()));
        let size = usize::from(style & 3) + 1;
        let chars: Vec<char> = text.chars().collect();
        for piece in chars.chunks(size) {
            events.push(ChatEvent::Text(piece.iter().collect::<String>().into()));
        }
    }
    for index in 0..u32::from(style >> 3 & 3) {
        let call_id = format!("call-{id}-{index}");
        let name = if index == 0 { "read" } else { "write" };
        let arguments = match style >> 5 & 1 {
            0 => r#"{"b": [1.0, {"y":2,"x":null}], "a": "é" }"#,
            _ => "{}",
        };
        made.tool_calls.push(ToolCall::new(&*call_id, name, arguments));
        events.push(ChatEvent::ToolCall { index, id: call_id.into(), name: name.into() });
        let middle = arguments.len() / 2;
        for json in [&arguments[..middle], &arguments[middle..]] {
            events.push(ChatEvent::ToolArguments { index, json: json.into() });
        }
    }
    let cut = match style >> 6 {
        2 if style & 1 != 0 => Cut::Silent,
        3 if style & 1 != 0 => Cut::Error,
        _ => Cut::No,
    };
    (made, events, cut)
}

/// What counts of each message, written down the long way.
fn canon(messages: &[Message]) -> Vec<String> {
    fn json(value: &Value) -> String {
        match value {
            Value::Array(items) => {
                format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(","))
            }
            Value::Object(fields) => {
                let sorted: BTreeMap<_, _> = fields.iter().map(|(k, v)| (k, json(v))).collect();
                format!("{sorted:?}")
            }
            Value::Number(number) => format!("{:?}", number.as_f64()),
            other => other.to_string(),
        }
    }

    messages
        .iter()
        .map(|message| {
            let role = match message.role {
                Role::Developer => "system",
                role => role.as_str(),
            };
            let text = message.text();
            let text = if role == "assistant" { text.trim() } else { text.trim_end() };
            let made: Vec<String> = message
                .tool_calls
                .iter()
                .map(|call| {
                    let value = serde_json::from_str(&call.arguments).expect("the model's JSON");
                    format!("{}({})", call.name, json(&value))
                })
                .collect();
            format!("{role}: {text:?} {made:?}")
        })
        .collect()
}

/// A store that forgets and fails when told to.
#[derive(Clone, Default)]
struct Store {
    memory: MemoryStore,
    state: Arc<Mutex<StoreState>>,
}

#[derive(Default)]
struct StoreState {
    expired: HashSet<Key>,
    recorded: Vec<Key>,
    /// Which operations fail: a bit each for find, record, and acquire and renew.
    failing: u8,
    /// Who has a chat, and until when.
    leases: BTreeMap<ChatKey, (Owner, Instant)>,
    /// How long a lease lasts unless it is renewed; without a limit they are those of the memory.
    lease_limit: Option<Duration>,
    /// It has forgotten or failed at least once.
    troubled: bool,
}

impl StoreState {
    fn expire(&mut self, which: u8) {
        if let Some(key) = pick(&self.recorded, which).copied() {
            self.expired.insert(key);
            self.troubled = true;
        }
    }

    fn fails(&mut self, operation: u8) -> bool {
        let fails = self.failing & operation != 0;
        self.troubled |= fails;
        fails
    }
}

impl StoreState {
    /// Who has the chat now.
    fn holder(&self, chat: ChatKey) -> Option<Owner> {
        let lease = self.leases.get(&chat).filter(|(_, until)| *until > Instant::now());
        lease.map(|(owner, _)| *owner)
    }

    fn lease(&mut self, chat: ChatKey, owner: Owner, limit: Duration) -> Grant {
        self.leases.insert(chat, (owner, Instant::now() + limit));
        Grant::For(limit)
    }
}

impl Store {
    fn state(&self) -> MutexGuard<'_, StoreState> {
        self.state.lock().expect("nothing panics under the lock")
    }
}

fn failure<T>() -> Result<T, StoreError> {
    Err(StoreError::new("told to fail"))
}

impl SessionStore for Store {
    fn find<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Record>> {
        if self.state().fails(1) {
            return Box::pin(ready(failure()));
        }
        if self.state().expired.contains(key) {
            return Box::pin(ready(Ok(None)));
        }
        self.memory.find(key)
    }

    fn record<'a>(&'a self, key: &'a Key, record: &'a Record) -> StoreFuture<'a, ()> {
        let mut state = self.state();
        state.expired.remove(key);
        state.recorded.push(*key);
        self.memory.record(key, record)
    }

    fn forget(&self, chat: ChatKey) -> StoreFuture<'_, ()> {
        self.memory.forget(chat)
    }

    fn record_all<'a>(
        &'a self,
        records: &'a [(Key, Record)],
        lease: Option<(ChatKey, Owner)>,
    ) -> StoreFuture<'a, ()> {
        if self.state().fails(2) {
            return Box::pin(ready(failure()));
        }
        Box::pin(async move {
            for (key, record) in records {
                self.record(key, record).await?;
            }
            match lease {
                Some((chat, owner)) => self.release(chat, owner).await,
                None => Ok(()),
            }
        })
    }

    fn acquire(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, Grant> {
        let mut state = self.state();
        if state.fails(4) {
            return Box::pin(ready(failure()));
        }
        let Some(limit) = state.lease_limit else { return self.memory.acquire(chat, owner) };
        let grant = match state.holder(chat) {
            Some(other) if other != owner => Grant::Refused,
            _ => state.lease(chat, owner, limit),
        };
        Box::pin(ready(Ok(grant)))
    }

    fn renew(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, Grant> {
        let mut state = self.state();
        if state.fails(4) {
            return Box::pin(ready(failure()));
        }
        let limit = state.lease_limit.expect("nobody renews what lasts until it is given back");
        let grant = match state.holder(chat) {
            Some(holder) if holder == owner => state.lease(chat, owner, limit),
            _ => Grant::Refused,
        };
        Box::pin(ready(Ok(grant)))
    }

    fn release(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, ()> {
        let mut state = self.state();
        if state.lease_limit.is_none() {
            return self.memory.release(chat, owner);
        }
        if state.holder(chat) == Some(owner) {
            state.leases.remove(&chat);
        }
        Box::pin(ready(Ok(())))
    }
}

fn tenant(number: u8) -> Tenant {
    Tenant::from_digest([number; 32])
}

/// Few words, so that histories meet.
fn word(which: u8) -> &'static str {
    ["hello", "go on", "hello \n"][usize::from(which) % 3]
}

fn pick<T>(items: &[T], which: u8) -> Option<&T> {
    items.get(usize::from(which).checked_rem(items.len())?)
}

//! Clients that go on from an answer by the id that they have of it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::stream;
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    chat::{
        Answer, ChatEvent, ChatRequest, ChatStreamExt, Conversation, Destination, FinishReason,
        FunctionTool, Json, Message, Role, Tenant, Tool,
    },
    dedup::DedupLayer,
    session::{
        ChatKey, Key, MemoryStore, Record, SessionLayer, SessionStore, StoreError, StoreFuture,
        forget_answer,
    },
};

const ANN: Tenant = Tenant::from_digest([1; 32]);
const BOB: Tenant = Tenant::from_digest([2; 32]);

type Events = Vec<ChatEvent>;

/// What upstream was sent, and what it says next; without orders it says `ok`.
#[derive(Clone, Default)]
struct Upstream {
    sent: Arc<Mutex<Vec<ChatRequest>>>,
    orders: Arc<Mutex<VecDeque<Result<Events, ErrorKind>>>>,
}

impl Upstream {
    fn order(&self, reply: Result<Events, ErrorKind>) {
        self.orders.lock().expect("not poisoned").push_back(reply);
    }

    /// The last request: its chat and the answer that it goes on from, and `role: text` of each
    /// message.
    fn last(&self) -> (Option<Conversation>, Vec<String>) {
        let sent = self.sent.lock().expect("not poisoned");
        let chat = sent.last().expect("something was sent");
        let told = chat.history.iter().map(|message| {
            let name = message.name.as_deref().map(|name| format!("({name})")).unwrap_or_default();
            format!("{}{name}: {}", message.role.as_str(), message.text())
        });
        (chat.conversation().cloned(), told.collect())
    }

    fn count(&self) -> usize {
        self.sent.lock().expect("not poisoned").len()
    }
}

/// Asks; what the client is told.
async fn ask(
    layer: &SessionLayer,
    upstream: &Upstream,
    chat: ChatRequest,
) -> Result<Answer, Error> {
    let state = upstream.clone();
    let service = service_fn(move |request: Request<ChatRequest>| {
        let chat = request.into_body();
        let mut sent = state.sent.lock().expect("not poisoned");
        let id = match chat.conversation() {
            Some(place) => place.chat_id.clone(),
            None => format!("c{}", sent.len()).into(),
        };
        sent.push(chat);
        let place = Conversation::new(id).with_parent(format!("a{}", sent.len()));
        let order = state.orders.lock().expect("not poisoned").pop_front();
        let reply = match order {
            Some(Err(kind)) => Err(Error::new(kind, "as ordered")),
            order => {
                let mut events = vec![Ok(ChatEvent::Started(place.into()))];
                match order {
                    Some(Ok(said)) => events.extend(said.into_iter().map(Ok)),
                    _ => events.extend(ok("ok").into_iter().map(Ok)),
                }
                Ok(Response::new(stream::iter(events)))
            }
        };
        std::future::ready(reply)
    });
    let stack = layer.layer(DedupLayer::new().layer(service));
    let response = stack.oneshot(Request::new(chat)).await?;
    Answer::collect(response.into_body().checked()).await
}

fn ok(text: &'static str) -> Events {
    vec![ChatEvent::Text(text.into()), ChatEvent::Finished(FinishReason::Stop)]
}

fn said(role: Role, text: &str) -> Message {
    Message::new(role, text.to_owned())
}

/// A turn whose answer the client knows by `id`.
fn first(id: &str, messages: Vec<Message>) -> ChatRequest {
    let mut chat = ChatRequest::new("m", messages);
    chat.tenant = Some(ANN);
    chat.answer_id = Some(id.into());
    chat
}

/// One that goes on from the answer `from`.
fn next(from: &str, id: &str, messages: Vec<Message>) -> ChatRequest {
    let mut chat = first(id, messages);
    chat.destination = Destination::Answer { id: from.into() };
    chat
}

fn user(text: &str) -> Vec<Message> {
    vec![said(Role::User, text)]
}

fn place(chat: &str, parent: &str) -> Option<Conversation> {
    Some(Conversation::new(chat).with_parent(parent))
}

fn told(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn setup() -> (SessionLayer, Upstream) {
    (SessionLayer::new(MemoryStore::default()), Upstream::default())
}

#[tokio::test]
async fn a_turn_goes_on_from_any_answer_and_sends_what_is_new() {
    let (layer, upstream) = setup();
    ask(&layer, &upstream, first("r1", user("one"))).await.expect("answered");
    ask(&layer, &upstream, next("r1", "r2", user("two"))).await.expect("answered");
    assert_eq!(upstream.last(), (place("c0", "a1"), told(&["user: two"])));
    ask(&layer, &upstream, next("r2", "r3", user("three"))).await.expect("answered");
    assert_eq!(upstream.last(), (place("c0", "a2"), told(&["user: three"])));
    // Another branch, also at the same time as the first.
    let both = [next("r1", "r4", user("zwei")), next("r1", "r5", user("deux"))];
    for answer in
        futures_util::future::join_all(both.map(|chat| ask(&layer, &upstream, chat))).await
    {
        answer.expect("answered");
        assert_eq!(upstream.last().0, place("c0", "a1"));
    }
    ask(&layer, &upstream, next("r4", "r6", user("drei"))).await.expect("answered");
    assert_eq!(upstream.last().1, told(&["user: drei"]));
    assert_eq!(upstream.count(), 6);
}

/// The whole history leads to the same place, so a client may change its habits.
#[tokio::test]
async fn an_answer_is_known_by_its_history_too() {
    let (layer, upstream) = setup();
    ask(&layer, &upstream, first("r1", user("one"))).await.expect("answered");
    ask(&layer, &upstream, next("r1", "r2", user("two"))).await.expect("answered");
    let texts = [("one", Role::User), ("ok", Role::Assistant), ("two", Role::User)];
    let mut whole: Vec<_> = texts.iter().map(|(text, role)| said(*role, text)).collect();
    whole.extend([said(Role::Assistant, "ok"), said(Role::User, "three")]);
    ask(&layer, &upstream, first("r3", whole.clone())).await.expect("answered");
    assert_eq!(upstream.last(), (place("c0", "a2"), told(&["user: three"])));
    // By its id another model goes on in the chat; a whole history of another model is new.
    let mut other = next("r3", "r4", user("four"));
    other.model = "other".into();
    ask(&layer, &upstream, other).await.expect("answered");
    assert_eq!(upstream.last(), (place("c0", "a3"), told(&["user: four"])));
    whole.extend([said(Role::Assistant, "ok"), said(Role::User, "four")]);
    whole.extend([said(Role::Assistant, "ok"), said(Role::User, "five")]);
    let mut chat = first("r5", whole);
    chat.model = "other".into();
    ask(&layer, &upstream, chat).await.expect("answered");
    assert_eq!(upstream.last().0, None);
}

#[tokio::test]
async fn instructions_are_told_when_they_change() {
    let (layer, upstream) = setup();
    let with = |instructions: &str, text: &str| {
        vec![said(Role::System, instructions), said(Role::User, text)]
    };
    ask(&layer, &upstream, first("r1", with("be brief", "one"))).await.expect("answered");
    ask(&layer, &upstream, next("r1", "r2", with("be brief", "two"))).await.expect("answered");
    assert_eq!(upstream.last().1, told(&["user: two"]));
    ask(&layer, &upstream, next("r2", "r3", with("be long", "three"))).await.expect("answered");
    assert_eq!(upstream.last().1, told(&["system: be long", "user: three"]));
    ask(&layer, &upstream, next("r3", "r4", with("be long", "four"))).await.expect("answered");
    assert_eq!(upstream.last().1, told(&["user: four"]));
    // Those of a turn that has none stay in force.
    ask(&layer, &upstream, next("r4", "r5", user("five"))).await.expect("answered");
    ask(&layer, &upstream, next("r5", "r6", with("be long", "six"))).await.expect("answered");
    assert_eq!(upstream.last().1, told(&["user: six"]));
    // An answer cannot follow one: it is all sent as it is, and to the chat that was named.
    let odd =
        vec![said(Role::System, "be long"), said(Role::Assistant, "I was"), said(Role::User, "x")];
    ask(&layer, &upstream, next("r6", "r7", odd)).await.expect("answered");
    let expected = told(&["system: be long", "assistant: I was", "user: x"]);
    assert_eq!(upstream.last(), (place("c0", "a6"), expected));
}

#[tokio::test]
async fn results_get_the_names_of_their_functions() {
    let (layer, upstream) = setup();
    let call = |index, id: &'static str, name: &'static str| {
        [
            ChatEvent::ToolCall { index, id: id.into(), name: name.into() },
            ChatEvent::ToolArguments { index, json: "{}".into() },
        ]
    };
    let mut events: Events = [call(0, "call_a", "read"), call(1, "call_b", "write")].concat();
    events.push(ChatEvent::Finished(FinishReason::ToolCalls));
    upstream.order(Ok(events));
    let tools =
        Arc::new(vec![Tool::Function(FunctionTool::new("read", Json::parse("{}").expect("JSON")))]);
    let mut chat = first("r1", user("one"));
    chat.tools = Arc::clone(&tools);
    ask(&layer, &upstream, chat).await.expect("answered");
    let result = |id: &'static str| {
        let mut result = said(Role::Tool, id);
        result.tool_call_id = Some(id.into());
        result
    };
    let results = vec![result("call_b"), result("call_a"), result("call_x")];
    let mut chat = next("r1", "r2", results);
    chat.tools = tools;
    ask(&layer, &upstream, chat).await.expect("answered");
    let expected = told(&["tool(write): call_b", "tool(read): call_a", "tool: call_x"]);
    assert_eq!(upstream.last(), (place("c0", "a1"), expected));
    assert!(!upstream.sent.lock().expect("not poisoned")[1].tools_changed);
    // Other tools are told of.
    ask(&layer, &upstream, next("r2", "r3", user("x"))).await.expect("answered");
    assert!(upstream.sent.lock().expect("not poisoned")[2].tools_changed);
}

/// A store that counts what it is asked, and fails when it is told to.
#[derive(Default)]
struct Counting {
    memory: MemoryStore,
    finds: Arc<AtomicUsize>,
    others: Arc<AtomicUsize>,
    fails: bool,
}

impl SessionStore for Counting {
    fn find<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Record>> {
        self.finds.fetch_add(1, Ordering::SeqCst);
        if self.fails {
            return Box::pin(async { Err(StoreError::new("away")) });
        }
        self.memory.find(key)
    }

    fn record<'a>(&'a self, key: &'a Key, record: &'a Record) -> StoreFuture<'a, ()> {
        self.others.fetch_add(1, Ordering::SeqCst);
        self.memory.record(key, record)
    }

    fn forget(&self, chat: ChatKey) -> StoreFuture<'_, ()> {
        self.others.fetch_add(1, Ordering::SeqCst);
        self.memory.forget(chat)
    }
}

#[tokio::test]
async fn nobody_learns_of_anothers_answers() {
    let store = Counting::default();
    let (finds, others) = (Arc::clone(&store.finds), Arc::clone(&store.others));
    let (layer, upstream) = (SessionLayer::new(store), Upstream::default());
    ask(&layer, &upstream, first("r1", user("one"))).await.expect("answered");
    assert_eq!(finds.load(Ordering::SeqCst), 0, "nothing was there to look for");
    let before = others.load(Ordering::SeqCst);
    let mut seen = Vec::new();
    for (tenant, id) in [(Some(BOB), "r1"), (Some(ANN), "r2"), (Some(BOB), "r2"), (None, "r1")] {
        finds.store(0, Ordering::SeqCst);
        let mut chat = next(id, "x", user("what was said?"));
        chat.tenant = tenant;
        let error = ask(&layer, &upstream, chat).await.expect_err("not theirs");
        assert!(error.is_conversation_lost(), "{error:?}");
        let asked = usize::from(tenant.is_some());
        assert_eq!(finds.load(Ordering::SeqCst), asked, "one look-up, whoever asks");
        seen.push(format!("{error:?}"));
    }
    assert!(seen.iter().all(|error| *error == seen[0]), "{seen:?}");
    assert_eq!(others.load(Ordering::SeqCst), before, "nothing is recorded of it");
    assert_eq!(upstream.count(), 1, "upstream is not asked");
    // To be known by an id is not to know one.
    let mut chat = next("r1", "x", user("x"));
    chat.answer_id = None;
    ask(&layer, &upstream, chat).await.expect("answered");
    let error = ask(&layer, &upstream, next("x", "y", user("x"))).await.expect_err("not stored");
    assert!(error.is_conversation_lost());
}

#[tokio::test]
async fn without_the_store_nobody_can_tell_where_it_is() {
    let layer = SessionLayer::new(Counting { fails: true, ..Counting::default() });
    let upstream = Upstream::default();
    let error = ask(&layer, &upstream, next("r1", "r2", user("x"))).await.expect_err("unknown");
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(upstream.count(), 0);
}

/// Where several upstreams share a store an answer is only that one's that gave it.
#[tokio::test]
async fn an_answer_of_another_upstream_is_none() {
    let store: Arc<dyn SessionStore> = Arc::new(MemoryStore::default());
    let [web, other] =
        ["web", "other"].map(|scope| SessionLayer::from_shared(Arc::clone(&store)).scope(scope));
    let upstream = Upstream::default();
    ask(&web, &upstream, first("r1", user("one"))).await.expect("answered");
    let error = ask(&other, &upstream, next("r1", "r2", user("two"))).await.expect_err("not its");
    assert!(error.is_conversation_lost());
    ask(&web, &upstream, next("r1", "r2", user("two"))).await.expect("answered");
    assert_eq!(upstream.last(), (place("c0", "a1"), told(&["user: two"])));
}

/// There is nothing to replay: the client has to send its history.
#[tokio::test]
async fn a_chat_that_upstream_lost_is_told_and_forgotten() {
    let (layer, upstream) = setup();
    ask(&layer, &upstream, first("r1", user("one"))).await.expect("answered");
    upstream.order(Err(ErrorKind::ConversationLost));
    let error = ask(&layer, &upstream, next("r1", "r2", user("two"))).await.expect_err("lost");
    assert!(error.is_conversation_lost());
    assert_eq!(upstream.count(), 2, "no half of a conversation is sent elsewhere");
    ask(&layer, &upstream, next("r1", "r3", user("two"))).await.expect_err("forgotten");
    assert_eq!(upstream.count(), 2);
    // Other failures are the client's to try again.
    ask(&layer, &upstream, first("r4", user("one"))).await.expect("answered");
    upstream.order(Err(ErrorKind::Overloaded));
    ask(&layer, &upstream, next("r4", "r5", user("two"))).await.expect_err("as ordered");
    ask(&layer, &upstream, next("r4", "r5", user("two"))).await.expect("it is there still");
}

#[tokio::test]
async fn an_answer_is_forgotten_for_its_client_alone() {
    let (layer, upstream) = setup();
    ask(&layer, &upstream, first("r1", user("one"))).await.expect("answered");
    ask(&layer, &upstream, next("r1", "r2", user("two"))).await.expect("answered");
    let store = layer.store();
    assert!(!forget_answer(&**store, &BOB, "r1").await.expect("memory"));
    assert!(forget_answer(&**store, &ANN, "r1").await.expect("memory"));
    assert!(!forget_answer(&**store, &ANN, "r1").await.expect("memory"));
    let error = ask(&layer, &upstream, next("r1", "r3", user("x"))).await.expect_err("forgotten");
    assert!(error.is_conversation_lost());
    ask(&layer, &upstream, next("r2", "r3", user("three"))).await.expect("the other is known");
}

/// What upstream gave no place for, or refused in the middle, nobody can go on from.
#[tokio::test]
async fn an_answer_that_is_not_whole_has_no_id() {
    let (layer, upstream) = setup();
    for (events, known) in [
        (vec![ChatEvent::Text("x".into()), ChatEvent::Finished(FinishReason::Length)], true),
        (
            vec![ChatEvent::Text("x".into()), ChatEvent::Finished(FinishReason::ContentFilter)],
            false,
        ),
        (vec![ChatEvent::Text("x".into())], false),
    ] {
        upstream.order(Ok(events));
        let answer = ask(&layer, &upstream, first("r1", user("one"))).await;
        let next = ask(&layer, &upstream, next("r1", "r2", user("two"))).await;
        assert_eq!(next.is_ok(), known, "{answer:?}");
        forget_answer(&**layer.store(), &ANN, "r1").await.expect("memory");
    }
}

//! `SessionLayer` and `DedupLayer` in front of an upstream that does as it is told.

use std::{
    collections::VecDeque,
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_qwen::{
    Error, ErrorKind,
    chat::{
        Answer, ChatEvent, ChatRequest, ChatStreamExt, Checked, Content, Conversation, Destination,
        FinishReason, Message, Part, PartKind, ResponseFuture, Role, Tenant, ToolCall,
    },
    dedup::{Dedup, DedupLayer},
    session::{
        ChatKey, Contention, Found, Grant, Key, MemoryStore, OwnChats, Owner, Record, Session,
        SessionLayer, SessionStore, SessionStream, StoreError, StoreFuture, forget_chat,
        forget_tenant,
    },
};

/// Whose requests these are.
const TENANT: Tenant = Tenant::from_digest([9; 32]);

type Events = Vec<Result<ChatEvent, Error>>;
type Body = Pin<Box<dyn Stream<Item = Result<ChatEvent, Error>> + Send>>;
type Stack = Session<Dedup<Upstream>>;

/// What the upstream does with a request.
enum Reply {
    /// Answers so.
    Events(Events),
    /// Begins so and goes on when asked to.
    Held(Events, tokio::sync::oneshot::Receiver<Events>),
    /// Refuses.
    Error(ErrorKind),
    /// The account of the chat cannot be used, says a layer before upstream.
    /// With the upstream's own code.
    Coded(ErrorKind, &'static str),
}

/// An upstream that notes what it was sent. Without orders it answers with `ok`, in the chat that
/// the request names or in a new one.
#[derive(Clone, Default)]
struct Upstream {
    state: Arc<Mutex<State>>,
    ready: bool,
}

#[derive(Default)]
struct State {
    sent: Vec<ChatRequest>,
    orders: VecDeque<Reply>,
    chats: usize,
}

impl Upstream {
    fn order(&self, reply: Reply) {
        self.state.lock().expect("nothing panics under the lock").orders.push_back(reply);
    }

    /// The last request: chat, parent and the texts.
    fn last(&self) -> (Option<String>, Option<String>, Vec<String>) {
        let state = self.state.lock().expect("nothing panics under the lock");
        let chat = state.sent.last().expect("something was sent");
        let place = chat.conversation().cloned();
        (
            place.as_ref().map(|place| place.chat_id.to_string()),
            place.and_then(|place| place.parent_id).map(|parent| parent.to_string()),
            chat.history.iter().map(|message| message.text().to_string()).collect(),
        )
    }

    fn count(&self) -> usize {
        self.state.lock().expect("nothing panics under the lock").sent.len()
    }
}

impl Service<Request<ChatRequest>> for Upstream {
    type Response = Response<Body>;
    type Error = Error;
    type Future = std::future::Ready<Result<Response<Body>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without readiness");
        let chat = request.into_body();
        assert!(chat.history.seen.is_empty());
        let mut state = self.state.lock().expect("nothing panics under the lock");
        let place = chat.conversation();
        let chat_id = place.map_or_else(
            || {
                state.chats += 1;
                format!("c{}", state.chats).into()
            },
            |place| place.chat_id.clone(),
        );
        state.sent.push(chat);
        let answer = format!("a{}", state.sent.len());
        let started = ChatEvent::Started(Conversation::new(chat_id).with_parent(answer).into());
        let begin = futures_util::stream::iter([Ok(started)]);
        let body: Body = match state.orders.pop_front() {
            None => Box::pin(begin.chain(futures_util::stream::iter(ok()))),
            Some(Reply::Events(events))
                if matches!(events[..], [Ok(ChatEvent::Started(_)), ..]) =>
            {
                Box::pin(futures_util::stream::iter(events))
            }
            Some(Reply::Events(events)) => {
                Box::pin(begin.chain(futures_util::stream::iter(events)))
            }
            Some(Reply::Held(events, rest)) => {
                let rest = futures_util::stream::once(async {
                    futures_util::stream::iter(rest.await.unwrap_or_default())
                });
                Box::pin(begin.chain(futures_util::stream::iter(events)).chain(rest.flatten()))
            }
            Some(Reply::Error(kind)) => {
                return std::future::ready(Err(Error::new(kind, "as ordered")));
            }
            Some(Reply::Coded(kind, code)) => {
                return std::future::ready(Err(Error::new(kind, "as ordered").with_code(code)));
            }
        };
        std::future::ready(Ok(Response::new(body)))
    }
}

fn ok() -> Events {
    vec![Ok(ChatEvent::Text("ok".into())), finished()]
}

fn finished() -> Result<ChatEvent, Error> {
    Ok(ChatEvent::Finished(FinishReason::Stop))
}

fn stack(layer: SessionLayer) -> (Stack, Upstream) {
    let upstream = Upstream::default();
    (layer.layer(DedupLayer::new().layer(upstream.clone())), upstream)
}

fn default_stack() -> (Stack, Upstream) {
    stack(SessionLayer::new(MemoryStore::default()))
}

/// A history of these texts, questions and answers in turn.
fn history(texts: &[&str]) -> ChatRequest {
    let roles = [Role::User, Role::Assistant];
    let messages = texts
        .iter()
        .zip(roles.iter().cycle())
        .map(|(text, role)| Message::new(*role, (*text).to_owned()))
        .collect::<Vec<_>>();
    let mut chat = ChatRequest::new("qwen3-max", messages);
    chat.tenant = Some(TENANT);
    chat
}

async fn begin(stack: &Stack, chat: ChatRequest) -> Result<Checked<SessionStream<Body>>, Error> {
    Ok(stack.clone().oneshot(Request::new(chat)).await?.into_body().checked())
}

async fn ask(stack: &Stack, chat: ChatRequest) -> Answer {
    let body = begin(stack, chat).await.expect("answered");
    Answer::collect(body).await.expect("complete")
}

async fn texts(stack: &Stack, texts: &[&str]) -> Answer {
    ask(stack, history(texts)).await
}

fn call(stack: &Stack, chat: ChatRequest) -> ResponseFuture<SessionStream<Body>> {
    let mut stack = stack.clone();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(stack.poll_ready(&mut cx).is_ready());
    stack.call(Request::new(chat))
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_sent(upstream: &Upstream, chat: Option<&str>, parent: Option<&str>, texts: &[&str]) {
    let expected = (chat.map(str::to_owned), parent.map(str::to_owned), strings(texts));
    assert_eq!(upstream.last(), expected);
}

/// Tool search and servers that come up late change the list of tools in the middle of a
/// conversation. That costs no replay: the turn that brings the list says so.
#[tokio::test]
async fn other_tools_go_on_in_the_same_chat_and_are_told_once() {
    use tower_qwen::chat::{FunctionTool, Tool};

    let (stack, upstream) = default_stack();
    let turn = async |texts: &[&str], tools: &[&'static str]| {
        let mut chat = history(texts);
        let tools = tools.iter().map(|name| FunctionTool::without_parameters(*name));
        chat.tools = Arc::new(tools.map(Tool::Function).collect());
        ask(&stack, chat).await;
        let state = upstream.state.lock().expect("nothing panics under the lock");
        let sent = state.sent.last().expect("sent");
        let chat = sent.conversation().map(|place| place.chat_id.to_string());
        (chat, sent.tools_changed, sent.history.len())
    };
    let first = Some("c1".to_owned());
    assert_eq!(turn(&["a"], &["read"]).await, (None, false, 1));
    assert_eq!(turn(&["a", "ok", "b"], &["read"]).await, (first.clone(), false, 1));
    let (longer, other) = (["a", "ok", "b", "ok", "c"], ["write", "read"]);
    assert_eq!(turn(&longer, &other).await, (first.clone(), true, 1));
    // In another order they are the same.
    let longer = ["a", "ok", "b", "ok", "c", "ok", "d"];
    assert_eq!(turn(&longer, &["read", "write"]).await, (first.clone(), false, 1));
    let longer = ["a", "ok", "b", "ok", "c", "ok", "d", "ok", "e"];
    assert_eq!(turn(&longer, &[]).await, (first.clone(), true, 1));
    // What another branch was told of is not what this one was.
    assert_eq!(turn(&["a", "ok", "b", "ok", "f"], &["read"]).await, (first.clone(), false, 1));
    assert_eq!(turn(&["a", "ok", "g"], &["write"]).await, (first, true, 1));

    // A new chat is told of them all anyway.
    upstream.order(Reply::Error(ErrorKind::ConversationLost));
    assert_eq!(turn(&["a", "ok", "h"], &["list"]).await, (None, false, 3));
}

#[tokio::test]
async fn fifty_turns_with_tools_use_one_chat_and_send_only_what_is_new() {
    let (stack, upstream) = default_stack();
    let mut chat = ChatRequest::new(
        "qwen3-max",
        vec![Message::new(Role::System, "Be brief."), Message::new(Role::User, "question 0")],
    );
    chat.tenant = Some(TENANT);
    for turn in 1..=50 {
        let call_id = format!("call_{turn}");
        upstream.order(Reply::Events(vec![
            Ok(ChatEvent::Reasoning("hm".into())),
            Ok(ChatEvent::Text(" Let me ".into())),
            Ok(ChatEvent::Text("look.\n".into())),
            Ok(ChatEvent::ToolCall { index: 0, id: call_id.clone().into(), name: "read".into() }),
            Ok(ChatEvent::ToolArguments { index: 0, json: "{\"path\":\"a\",".into() }),
            Ok(ChatEvent::ToolArguments { index: 0, json: "\"lines\":10}".into() }),
            Ok(ChatEvent::ToolCall { index: 1, id: "b".into(), name: "list".into() }),
            Ok(ChatEvent::ToolArguments { index: 1, json: "{}".into() }),
            Ok(ChatEvent::Finished(FinishReason::ToolCalls)),
        ]));
        let before = chat.history.len();
        let answer = ask(&stack, chat.clone()).await;
        let (to, parent, sent) = upstream.last();
        if turn == 1 {
            assert_eq!((to, sent.len()), (None, before));
        } else {
            assert_eq!(to.as_deref(), Some("c1"));
            assert_eq!(parent, Some(format!("a{}", turn - 1)), "chained by response id");
            assert_eq!(sent, ["result one", "result two", &format!("question {}", turn - 1)]);
        }
        assert_eq!(answer.conversation.expect("its place").chat_id, "c1");

        // Text trimmed, arguments written anew, an argument object where there was none.
        let mut made = Message::new(Role::Assistant, answer.text.trim().to_owned());
        made.tool_calls = vec![
            ToolCall::new(call_id.clone(), "read", r#"{ "lines": 10, "path": "a" }"#),
            ToolCall::new("b", "list", "{}"),
        ];
        let result = |id: &str, text: &'static str| {
            let mut result = Message::new(Role::Tool, text);
            result.tool_call_id = Some(id.to_owned().into());
            result
        };
        let messages = &mut chat.history.fresh;
        messages.extend([made, result(&call_id, "result one"), result("b", "result two")]);
        messages.push(Message::new(Role::User, format!("question {turn}")));
    }
    let last = upstream
        .state
        .lock()
        .expect("nothing panics under the lock")
        .sent
        .last()
        .cloned()
        .expect("sent");
    assert_eq!(last.history[0].name.as_deref(), Some("read"));
    assert_eq!(last.history[1].name.as_deref(), Some("list"));
}

#[tokio::test]
async fn the_tree_is_followed_wherever_the_client_goes() {
    let (stack, upstream) = default_stack();
    texts(&stack, &["one"]).await;
    assert_sent(&upstream, None, None, &["one"]);
    texts(&stack, &["one", "ok", "two"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
    texts(&stack, &["one", "ok", "two", "ok", "three"]).await;
    assert_sent(&upstream, Some("c1"), Some("a2"), &["three"]);
    // Once more: a sibling of the last answer.
    texts(&stack, &["one", "ok", "two", "ok", "three"]).await;
    assert_sent(&upstream, Some("c1"), Some("a2"), &["three"]);
    // An edit further up.
    texts(&stack, &["one", "ok", "TWO"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["TWO"]);
    texts(&stack, &["one", "ok", "TWO", "ok", "three"]).await;
    assert_sent(&upstream, Some("c1"), Some("a5"), &["three"]);
    // The old branch is still there.
    texts(&stack, &["one", "ok", "two", "ok", "three", "ok", "four"]).await;
    assert_sent(&upstream, Some("c1"), Some("a4"), &["four"]);
    // An answer that the client changed was never given: what follows it goes along.
    texts(&stack, &["one", "ok", "two", "OK", "three"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two", "OK", "three"]);
    // The first message edited: nothing is known.
    texts(&stack, &["ONE", "ok", "two"]).await;
    assert_sent(&upstream, None, None, &["ONE", "ok", "two"]);
    // The answer continued: no turn to send, so all of it.
    texts(&stack, &["one", "ok"]).await;
    assert_sent(&upstream, None, None, &["one", "ok"]);
    texts(&stack, &[]).await;
    assert_sent(&upstream, None, None, &[]);
}

#[tokio::test]
async fn two_users_with_the_same_words_never_meet() {
    let (stack, upstream) = default_stack();
    let of = |digest: u8, texts: &[&str]| {
        let mut chat = history(texts);
        chat.tenant = Some(Tenant::from_digest([digest; 32]));
        chat
    };
    ask(&stack, of(1, &["hello"])).await;
    ask(&stack, of(2, &["hello", "ok", "secret?"])).await;
    assert_sent(&upstream, None, None, &["hello", "ok", "secret?"]);
    ask(&stack, of(1, &["hello", "ok", "more"])).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["more"]);
    // Naming the other's chat does not help.
    let mut named = of(2, &["hello", "ok", "more"]);
    named.destination = Conversation::new("c1").into();
    ask(&stack, named).await;
    assert_sent(&upstream, Some("c1"), None, &["hello", "ok", "more"]);
}

#[tokio::test]
async fn the_next_turn_may_come_with_the_last_event() {
    let (stack, upstream) = default_stack();
    let mut body = begin(&stack, history(&["one"])).await.expect("answered");
    while !matches!(body.next().await, Some(Ok(ChatEvent::Finished(_)))) {}
    // The first stream is neither read to its end nor dropped.
    texts(&stack, &["one", "ok", "two"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
    // The same where the first turn held the chat's lease.
    let mut body = begin(&stack, history(&["one", "ok", "two"])).await.expect("answered");
    while !matches!(body.next().await, Some(Ok(ChatEvent::Finished(_)))) {}
    texts(&stack, &["one", "ok", "two", "ok", "three"]).await;
    assert_sent(&upstream, Some("c1"), Some("a3"), &["three"]);
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_not_recorded() {
    let text = || Ok(ChatEvent::Text("ok".into()));
    let cuts: [Events; 4] = [
        vec![text()],
        vec![text(), Err(Error::new(ErrorKind::Truncated, "cut"))],
        vec![text(), Err(Error::new(ErrorKind::Truncated, "cut")), finished()],
        vec![text(), Ok(ChatEvent::Finished(FinishReason::ContentFilter))],
    ];
    for events in cuts {
        let (stack, upstream) = default_stack();
        upstream.order(Reply::Events(events));
        let mut body = begin(&stack, history(&["one"])).await.expect("answered");
        while body.next().await.is_some() {}
        texts(&stack, &["one", "ok", "two"]).await;
        assert_sent(&upstream, None, None, &["one", "ok", "two"]);
    }
    // Abandoned in the middle, and just before its end.
    for events in [1, 2] {
        let (stack, upstream) = default_stack();
        let mut body = begin(&stack, history(&["one"])).await.expect("answered");
        for _ in 0..events {
            body.next().await.expect("an event").expect("no error");
        }
        drop(body);
        texts(&stack, &["one", "ok", "two"]).await;
        assert_sent(&upstream, None, None, &["one", "ok", "two"]);
    }
    // The token limit ends an answer as upstream has it.
    let (stack, upstream) = default_stack();
    upstream.order(Reply::Events(vec![text(), Ok(ChatEvent::Finished(FinishReason::Length))]));
    texts(&stack, &["one"]).await;
    texts(&stack, &["one", "ok", "two"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
}

#[tokio::test]
async fn events_pass_as_they_are() {
    let (stack, upstream) = default_stack();
    let usage = || ChatEvent::Usage(tower_qwen::chat::Usage::new(1, 2));
    upstream.order(Reply::Events(vec![
        Ok(ChatEvent::Reasoning("hm".into())),
        Ok(ChatEvent::Text("a".into())),
        Ok(usage()),
        finished(),
        Ok(usage()),
    ]));
    let body = begin(&stack, history(&["one"])).await.expect("answered");
    let events: Vec<ChatEvent> = body.map(|event| event.expect("no error")).collect().await;
    let started = Conversation::new("c1").with_parent("a1");
    assert_eq!(
        events,
        [
            ChatEvent::Started(started.into()),
            ChatEvent::Reasoning("hm".into()),
            ChatEvent::Text("a".into()),
            usage(),
            ChatEvent::Finished(FinishReason::Stop),
            usage(),
        ]
    );
}

#[tokio::test]
async fn a_lost_chat_is_forgotten_and_replayed_once() {
    let (stack, upstream) = default_stack();
    texts(&stack, &["one"]).await;
    upstream.order(Reply::Error(ErrorKind::ConversationLost));
    let answer = texts(&stack, &["one", "ok", "two"]).await;
    assert_eq!(upstream.count(), 3);
    assert_sent(&upstream, None, None, &["one", "ok", "two"]);
    assert_eq!(answer.conversation.expect("a place").chat_id, "c2");
    // It goes on in the new chat, and the old one is not tried again.
    texts(&stack, &["one", "ok", "two", "ok", "three"]).await;
    assert_sent(&upstream, Some("c2"), Some("a3"), &["three"]);
    texts(&stack, &["one", "ok", "2"]).await;
    assert_sent(&upstream, None, None, &["one", "ok", "2"]);

    // Lost again at once: that is an answer too.
    upstream.order(Reply::Error(ErrorKind::ConversationLost));
    upstream.order(Reply::Error(ErrorKind::ConversationLost));
    let before = upstream.count();
    let error = begin(&stack, history(&["one", "ok", "two", "ok", "four"])).await;
    assert!(error.expect_err("lost twice").is_conversation_lost());
    assert_eq!(upstream.count(), before + 2);
}

#[tokio::test]
async fn a_chat_whose_account_cannot_be_used_now_is_not_forgotten() {
    let (stack, upstream) = default_stack();
    texts(&stack, &["one"]).await;
    // Nobody is kept waiting for the account.
    upstream.order(Reply::Error(ErrorKind::AccountUnavailable));
    texts(&stack, &["one", "ok", "two"]).await;
    assert_sent(&upstream, None, None, &["one", "ok", "two"]);
    texts(&stack, &["one", "ok", "2"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["2"]);
    // Who named the chat finds it as it was, and not empty.
    upstream.order(Reply::Error(ErrorKind::AccountUnavailable));
    let error = begin(&stack, own("c1", &["three"])).await.expect_err("not now");
    assert!(error.is_account_unavailable());
    ask(&stack, own("c1", &["three"])).await;
    assert_sent(&upstream, Some("c1"), Some("a4"), &["three"]);
}

#[tokio::test]
async fn an_upstreams_own_word_for_its_error_decides_nothing() {
    // A chat that is lost is forgotten, whatever word the upstream has for it.
    let (stack, upstream) = default_stack();
    texts(&stack, &["one"]).await;
    upstream.order(Reply::Coded(ErrorKind::ConversationLost, "account_unavailable"));
    texts(&stack, &["one", "ok", "two"]).await;
    assert_sent(&upstream, None, None, &["one", "ok", "two"]);
    texts(&stack, &["one", "ok", "2"]).await;
    assert_sent(&upstream, None, None, &["one", "ok", "2"]);
    // And any other error is passed on.
    upstream.order(Reply::Coded(ErrorKind::Upstream, "account_unavailable"));
    let before = upstream.count();
    let error = begin(&stack, history(&["one", "ok", "two", "ok", "three"])).await;
    assert_eq!(error.expect_err("passed on").kind(), ErrorKind::Upstream);
    assert_eq!(upstream.count(), before + 1);
}

#[tokio::test]
async fn other_errors_pass_and_keep_the_session() {
    let (stack, upstream) = default_stack();
    texts(&stack, &["one"]).await;
    for kind in [ErrorKind::Quota, ErrorKind::Auth, ErrorKind::Timeout, ErrorKind::Challenge] {
        upstream.order(Reply::Error(kind));
        let before = upstream.count();
        let error = begin(&stack, history(&["one", "ok", "two"])).await.expect_err("an error");
        assert_eq!(error.kind(), kind);
        assert_eq!(upstream.count(), before + 1, "not retried");
    }
    texts(&stack, &["one", "ok", "two"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_chat_is_tried_a_few_times_and_then_left() {
    let (stack, upstream) = default_stack();
    texts(&stack, &["one"]).await;
    let began = Instant::now();
    upstream.order(Reply::Error(ErrorKind::ConversationBusy));
    texts(&stack, &["one", "ok", "two"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
    let waited = began.elapsed();
    assert!((2..=4).contains(&waited.as_secs()), "{waited:?}");

    for _ in 0..4 {
        upstream.order(Reply::Error(ErrorKind::ConversationBusy));
    }
    let (before, began) = (upstream.count(), Instant::now());
    texts(&stack, &["one", "ok", "two"]).await;
    assert_sent(&upstream, None, None, &["one", "ok", "two"]);
    assert_eq!(upstream.count(), before + 5);
    assert!((6..=12).contains(&began.elapsed().as_secs()));
    // The chat itself is not forgotten.
    texts(&stack, &["one", "ok", "new"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["new"]);
}

/// An answer that ends when told.
fn held(upstream: &Upstream) -> tokio::sync::oneshot::Sender<Events> {
    let (end, rest) = tokio::sync::oneshot::channel();
    upstream.order(Reply::Held(vec![Ok(ChatEvent::Text("o".into()))], rest));
    end
}

#[tokio::test(start_paused = true)]
async fn the_second_turn_waits_for_the_first() {
    let (stack, upstream) = default_stack();
    texts(&stack, &["one"]).await;
    let end = held(&upstream);
    let first = begin(&stack, history(&["one", "ok", "two"])).await.expect("answered");
    let mut second = call(&stack, history(&["one", "ok", "TWO"]));
    let before = upstream.count();
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut second).poll(cx))).await.is_pending());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut second).poll(cx))).await.is_pending());
    assert_eq!(upstream.count(), before, "not sent while the first is answered");

    end.send(vec![Ok(ChatEvent::Text("k".into())), finished()]).expect("is read");
    assert_eq!(Answer::collect(first).await.expect("complete").text, "ok");
    second.await.expect("answered");
    assert_sent(&upstream, Some("c1"), Some("a1"), &["TWO"]);
}

#[tokio::test(start_paused = true)]
async fn limits_may_be_as_long_as_there_is_time() {
    let layer = SessionLayer::new(MemoryStore::default())
        .contention(Contention::Wait(Duration::MAX))
        .store_timeout(Duration::MAX)
        .busy_delay(Duration::MAX);
    let (stack, upstream) = stack(layer);
    texts(&stack, &["one"]).await;
    let end = held(&upstream);
    let first = begin(&stack, history(&["one", "ok", "two"])).await.expect("answered");
    let mut second = call(&stack, history(&["one", "ok", "TWO"]));
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut second).poll(cx))).await.is_pending());
    tokio::time::advance(Duration::from_secs(100_000)).await;
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut second).poll(cx))).await.is_pending());
    end.send(vec![Ok(ChatEvent::Text("k".into())), finished()]).expect("is read");
    Answer::collect(first).await.expect("complete");
    second.await.expect("answered");
    assert_sent(&upstream, Some("c1"), Some("a1"), &["TWO"]);
    upstream.order(Reply::Error(ErrorKind::ConversationBusy));
    let mut busy = call(&stack, history(&["one", "ok", "2"]));
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut busy).poll(cx))).await.is_pending());
}

#[tokio::test(start_paused = true)]
async fn the_second_turn_takes_a_chat_of_its_own_where_the_first_takes_long() {
    for (contention, longest) in [
        (Contention::Wait(Duration::from_secs(2)), Duration::from_secs(2)),
        (Contention::Replay, Duration::ZERO),
    ] {
        let (stack, upstream) =
            stack(SessionLayer::new(MemoryStore::default()).contention(contention));
        texts(&stack, &["one"]).await;
        let end = held(&upstream);
        let first = begin(&stack, history(&["one", "ok", "two"])).await.expect("answered");
        let began = Instant::now();
        let answer = texts(&stack, &["one", "ok", "TWO"]).await;
        assert_eq!(began.elapsed(), longest);
        assert_sent(&upstream, None, None, &["one", "ok", "TWO"]);
        // Both are recorded, each where it was answered.
        assert_eq!(answer.conversation.expect("a place").chat_id, "c2");
        end.send(vec![Ok(ChatEvent::Text("k".into())), finished()]).expect("is read");
        Answer::collect(first).await.expect("complete");
        texts(&stack, &["one", "ok", "two", "ok", "three"]).await;
        assert_sent(&upstream, Some("c1"), Some("a2"), &["three"]);
        texts(&stack, &["one", "ok", "TWO", "ok", "three"]).await;
        assert_sent(&upstream, Some("c2"), Some("a3"), &["three"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_dropped_frees_the_chat() {
    let (stack, upstream) =
        stack(SessionLayer::new(MemoryStore::default()).contention(Contention::Replay));
    texts(&stack, &["one"]).await;
    // While it streams.
    let _end = held(&upstream);
    drop(begin(&stack, history(&["one", "ok", "two"])).await.expect("answered"));
    texts(&stack, &["one", "ok", "TWO"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["TWO"]);
    // While the chat is busy.
    upstream.order(Reply::Error(ErrorKind::ConversationBusy));
    let mut waiting = call(&stack, history(&["one", "ok", "two"]));
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut waiting).poll(cx))).await.is_pending());
    drop(waiting);
    texts(&stack, &["one", "ok", "2"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["2"]);
}

#[tokio::test]
async fn the_account_stays_with_the_chat() {
    let (stack, upstream) = default_stack();
    let started = Conversation::new("c9").with_parent("r1").with_account("ann");
    upstream.order(Reply::Events(
        [vec![Ok(ChatEvent::Started(started.into()))], ok()].into_iter().flatten().collect(),
    ));
    texts(&stack, &["one"]).await;
    for question in ["two", "three"] {
        texts(&stack, &["one", "ok", question]).await;
        let state = upstream.state.lock().expect("nothing panics under the lock");
        let place = state.sent.last().and_then(|chat| chat.conversation().cloned());
        assert_eq!(place.expect("a place").account, Some("ann".into()));
    }
    // An answer that does not say whose it is, in a chat that is known, is the account's too.
    texts(&stack, &["one", "ok", "two", "ok", "more"]).await;
    let state = upstream.state.lock().expect("nothing panics under the lock");
    let place = state.sent.last().and_then(|chat| chat.conversation().cloned()).expect("a place");
    assert_eq!((&*place.chat_id, place.account), ("c9", Some("ann".into())));
}

#[tokio::test]
async fn a_wish_for_an_account_is_not_a_chat() {
    let (stack, upstream) = default_stack();
    let wish = |texts: &[&str]| {
        let mut chat = history(texts);
        chat.destination = Destination::NewChat { account: Some("ann".into()) };
        chat
    };
    ask(&stack, wish(&["one"])).await;
    assert_sent(&upstream, None, None, &["one"]);
    let wished = Destination::NewChat { account: Some("ann".into()) };
    let sent = |upstream: &Upstream| {
        let state = upstream.state.lock().expect("nothing panics under the lock");
        state.sent.last().map(|chat| chat.destination.clone())
    };
    assert_eq!(sent(&upstream), Some(wished), "an unknown history keeps it");
    ask(&stack, wish(&["one", "ok", "two"])).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
}

fn own(chat_id: &str, texts: &[&str]) -> ChatRequest {
    let mut chat = history(texts);
    chat.destination = Conversation::new(chat_id.to_owned()).into();
    chat
}

#[tokio::test]
async fn a_chat_that_the_client_names_wins() {
    let (stack, upstream) = default_stack();
    // With the history that is known of it.
    texts(&stack, &["one"]).await;
    let answer = ask(&stack, own("c1", &["one", "ok", "two"])).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
    assert_eq!(answer.conversation.expect("its place").chat_id, "c1");
    ask(&stack, own("c1", &["one", "ok", "two", "ok", "three"])).await;
    assert_sent(&upstream, Some("c1"), Some("a2"), &["three"]);
    // With an unknown history: a root of its own, in that chat.
    ask(&stack, own("c1", &["uno", "ok", "dos"])).await;
    assert_sent(&upstream, Some("c1"), None, &["uno", "ok", "dos"]);
    ask(&stack, own("c1", &["uno", "ok", "dos", "ok", "tres"])).await;
    assert_sent(&upstream, Some("c1"), Some("a4"), &["tres"]);
    // With what is known of another chat.
    ask(&stack, own("x", &["one", "ok", "two"])).await;
    assert_sent(&upstream, Some("x"), None, &["one", "ok", "two"]);
    // With the answer that it goes on from, what follows the last answer is new.
    let placed = |texts: &[&str]| {
        let mut chat = history(texts);
        chat.destination = Conversation::new("y").with_parent("p").into();
        chat
    };
    ask(&stack, placed(&["one", "ok", "two", "ok", "three"])).await;
    assert_sent(&upstream, Some("y"), Some("p"), &["three"]);
    ask(&stack, placed(&["three"])).await;
    assert_sent(&upstream, Some("y"), Some("p"), &["three"]);
    let mut counted = placed(&["one", "ok", "two", "ok", "three"]);
    counted.history.mark_seen(2);
    ask(&stack, counted).await;
    assert_sent(&upstream, Some("y"), Some("p"), &["two", "ok", "three"]);
}

#[tokio::test]
async fn a_client_that_names_the_chat_may_send_only_what_is_new() {
    let (stack, upstream) = default_stack();
    texts(&stack, &["one"]).await;
    ask(&stack, own("c1", &["two"])).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
    ask(&stack, own("c1", &["three"])).await;
    assert_sent(&upstream, Some("c1"), Some("a2"), &["three"]);
    // A chat that the store never saw.
    ask(&stack, own("z", &["one"])).await;
    assert_sent(&upstream, Some("z"), None, &["one"]);
    // What that chat holds beside is not another conversation's: this history was never
    // answered as it stands.
    texts(&stack, &["three", "ok", "four"]).await;
    assert_sent(&upstream, None, None, &["three", "ok", "four"]);
}

#[tokio::test]
async fn a_chat_that_the_client_was_not_given_is_refused_where_that_is_asked_for() {
    let store = Wrapped::new(Mode::Works);
    let (stack, upstream) = stack(SessionLayer::new(store.clone()).own_chats(OwnChats::Known));
    texts(&stack, &["one"]).await;
    let of = |tenant: Option<Tenant>, chat_id: &str, parent: Option<&str>| {
        let mut chat = own(chat_id, &["two"]);
        chat.tenant = tenant;
        if let Some(parent) = parent {
            let place = Conversation::new(chat_id.to_owned()).with_parent(parent.to_owned());
            chat.destination = place.into();
        }
        chat
    };
    let other = Some(Tenant::from_digest([8; 32]));
    let mut said = Vec::new();
    for (tenant, chat_id) in [(other, "c1"), (None, "c1"), (other, "none"), (Some(TENANT), "none")]
    {
        for parent in [None, Some("a1")] {
            let refused = begin(&stack, of(tenant, chat_id, parent)).await.expect_err("not given");
            assert!(refused.is_conversation_lost(), "{refused:?}");
            said.push(refused.to_string());
        }
    }
    said.dedup();
    assert_eq!((said.len(), upstream.count()), (1, 1), "one error, and nothing is sent: {said:?}");
    ask(&stack, of(Some(TENANT), "c1", None)).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
    ask(&stack, of(Some(TENANT), "c1", Some("a1"))).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);

    // Nobody can tell whose it is.
    store.set(Mode::Fails);
    let refused = begin(&stack, of(Some(TENANT), "c1", None)).await.expect_err("not known");
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
}

#[tokio::test]
async fn a_chat_whose_first_answer_was_cut_is_the_clients_all_the_same() {
    let other = Tenant::from_digest([8; 32]);
    for known in [OwnChats::Known, OwnChats::Any] {
        let store = Wrapped::new(Mode::Works);
        let (stack, upstream) = stack(SessionLayer::new(store.clone()).own_chats(known));
        // Dropped by the client, and broken off upstream.
        let mut body = begin(&stack, history(&["one"])).await.expect("answered");
        assert!(matches!(body.next().await, Some(Ok(ChatEvent::Started(_)))));
        // Who has the id may name it at once, whether or not it is known yet that he left.
        assert_eq!(store.calls()[1], usize::from(known == OwnChats::Known));
        drop(body);
        upstream.order(Reply::Events(vec![Err(Error::new(ErrorKind::Upstream, "it broke"))]));
        let body = begin(&stack, history(&["one"])).await.expect("answered");
        Answer::collect(body).await.expect_err("cut");
        let recorded = store.calls()[1];
        assert_eq!(recorded, if known == OwnChats::Known { 2 } else { 0 });
        for chat_id in ["c1", "c2"] {
            ask(&stack, own(chat_id, &["two"])).await;
            assert_sent(&upstream, Some(chat_id), None, &["two"]);
            let mut foreign = own(chat_id, &["two"]);
            foreign.tenant = Some(other);
            let refused = begin(&stack, foreign).await.is_err();
            assert_eq!(refused, known == OwnChats::Known, "{chat_id}");
        }
    }
    // A whole answer is recorded once more, as one to go on from.
    let store = Wrapped::new(Mode::Works);
    let (stack, _) = stack(SessionLayer::new(store.clone()).own_chats(OwnChats::Known));
    texts(&stack, &["one"]).await;
    assert_eq!(store.calls(), [0, 2, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_chat_that_the_client_names_is_not_replaced() {
    let (stack, upstream) = default_stack();
    upstream.order(Reply::Error(ErrorKind::ConversationLost));
    let error = begin(&stack, own("gone", &["one", "ok", "two"])).await.expect_err("lost");
    assert!(error.is_conversation_lost());
    assert_eq!(upstream.count(), 1);

    for _ in 0..4 {
        upstream.order(Reply::Error(ErrorKind::ConversationBusy));
    }
    let error = begin(&stack, own("busy", &["one"])).await.expect_err("busy");
    assert!(error.is_conversation_busy());
    assert_eq!(upstream.count(), 5);

    // Neither for a lease: upstream decides.
    let _end = held(&upstream);
    let _first = begin(&stack, own("c", &["one"])).await.expect("answered");
    ask(&stack, own("c", &["two"])).await;
    assert_sent(&upstream, Some("c"), None, &["two"]);
}

#[tokio::test]
async fn deleted_chats_are_forgotten_within_the_tenant() {
    let store = MemoryStore::default();
    let layer = SessionLayer::new(store.clone());
    let (stack, upstream) = stack(layer.clone());
    let [ann, bob] = [[1; 32], [2; 32]].map(Tenant::from_digest);
    let of = |tenant: Tenant, texts: &[&str]| {
        let mut chat = history(texts);
        chat.tenant = Some(tenant);
        chat
    };
    ask(&stack, of(ann, &["one"])).await;
    ask(&stack, of(bob, &["one"])).await;

    layer.forget_chat(&bob, "c1").await.expect("memory");
    ask(&stack, of(ann, &["one", "ok", "two"])).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
    forget_chat(&store, &ann, "c1").await.expect("memory");
    ask(&stack, of(ann, &["one", "ok", "two"])).await;
    assert_sent(&upstream, None, None, &["one", "ok", "two"]);

    forget_tenant(&store, &ann).await.expect("memory");
    ask(&stack, of(ann, &["one", "ok", "two", "ok", "three"])).await;
    assert_sent(&upstream, None, None, &["one", "ok", "two", "ok", "three"]);
    ask(&stack, of(bob, &["one", "ok", "two"])).await;
    assert_sent(&upstream, Some("c2"), Some("a2"), &["two"]);
}

#[tokio::test]
async fn clients_without_a_tenant_share_nothing() {
    let (stack, upstream) = default_stack();
    let nobody = |texts: &[&str]| {
        let mut chat = history(texts);
        chat.tenant = None;
        chat
    };
    ask(&stack, nobody(&["one"])).await;
    ask(&stack, nobody(&["one", "ok", "two"])).await;
    assert_sent(&upstream, None, None, &["one", "ok", "two"]);
    texts(&stack, &["one", "ok", "two"]).await;
    assert_sent(&upstream, None, None, &["one", "ok", "two"]);
    // What the client itself names is the client's to say.
    let mut placed = nobody(&["one", "ok", "two"]);
    placed.destination = Conversation::new("c1").with_parent("a1").into();
    ask(&stack, placed).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
    // Nobody knows of another's chat whose it is, nor where it ended.
    let mut named = nobody(&["three"]);
    named.destination = Conversation::new("c1").into();
    ask(&stack, named).await;
    assert_sent(&upstream, Some("c1"), None, &["three"]);
}

#[tokio::test]
async fn an_answer_in_a_chat_that_was_deleted_meanwhile_does_not_bring_it_back() {
    let store = MemoryStore::default();
    let (stack, upstream) = stack(SessionLayer::new(store.clone()));
    let end = held(&upstream);
    let body = begin(&stack, history(&["one"])).await.expect("answered");
    forget_chat(&store, &TENANT, "c1").await.expect("memory");
    end.send(vec![Ok(ChatEvent::Text("k".into())), finished()]).expect("is read");
    Answer::collect(body).await.expect("complete");
    texts(&stack, &["one", "ok", "two"]).await;
    assert_sent(&upstream, None, None, &["one", "ok", "two"]);
}

#[tokio::test]
async fn a_refusal_in_parts_is_the_text_that_was_streamed() {
    let (stack, upstream) = default_stack();
    texts(&stack, &["one"]).await;
    let mut chat = history(&["one", "", "two"]);
    let parts = ["o", "k \n"].map(|text| Part::new(PartKind::Text(text.into())));
    chat.history.get_mut(1).expect("two").content = Some(Content::Parts(parts.into()));
    ask(&stack, chat).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
}

/// A store over memory that counts its calls, and fails, waits or hangs.
#[derive(Clone)]
struct Wrapped {
    memory: MemoryStore,
    calls: Arc<[AtomicUsize; 5]>,
    mode: Arc<Mutex<Mode>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Works,
    Fails,
    Hangs,
    /// Answers after this long.
    Slow(Duration),
}

impl Wrapped {
    fn new(mode: Mode) -> Self {
        Self {
            memory: MemoryStore::default(),
            calls: Arc::default(),
            mode: Arc::new(Mutex::new(mode)),
        }
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().expect("nothing panics under the lock") = mode;
    }

    /// Calls of find, record, forget, acquire and release.
    fn calls(&self) -> [usize; 5] {
        std::array::from_fn(|index| self.calls[index].load(Ordering::SeqCst))
    }

    fn wrap<'a, T: Send + 'a>(
        &'a self,
        operation: usize,
        future: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        self.calls[operation].fetch_add(1, Ordering::SeqCst);
        let mode = *self.mode.lock().expect("nothing panics under the lock");
        Box::pin(async move {
            match mode {
                Mode::Works => {}
                Mode::Fails => return Err(StoreError::new("as ordered")),
                Mode::Hangs => pending().await,
                Mode::Slow(delay) => tokio::time::sleep(delay).await,
            }
            future().await
        })
    }
}

impl SessionStore for Wrapped {
    fn find<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Record>> {
        self.wrap(0, move || self.memory.find(key))
    }

    fn record<'a>(&'a self, key: &'a Key, record: &'a Record) -> StoreFuture<'a, ()> {
        self.wrap(1, move || self.memory.record(key, record))
    }

    fn forget(&self, chat: ChatKey) -> StoreFuture<'_, ()> {
        self.wrap(2, move || self.memory.forget(chat))
    }

    fn find_first<'a>(&'a self, keys: &'a [Key]) -> StoreFuture<'a, Option<Found>> {
        self.wrap(0, move || self.memory.find_first(keys))
    }

    fn record_all<'a>(
        &'a self,
        records: &'a [(Key, Record)],
        lease: Option<(ChatKey, Owner)>,
    ) -> StoreFuture<'a, ()> {
        self.wrap(1, move || self.memory.record_all(records, lease))
    }

    fn acquire(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, Grant> {
        self.wrap(3, move || self.memory.acquire(chat, owner))
    }

    fn release(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, ()> {
        self.wrap(4, move || self.memory.release(chat, owner))
    }
}

#[tokio::test]
async fn a_look_up_is_one_call_of_the_store() {
    let store = Wrapped::new(Mode::Works);
    let (stack, _) = stack(SessionLayer::new(store.clone()));
    texts(&stack, &["one"]).await;
    assert_eq!(store.calls(), [0, 1, 0, 0, 0], "a first turn looks nothing up");
    let long: Vec<&str> = ["one", "ok"].into_iter().cycle().take(201).collect();
    texts(&stack, &long).await;
    assert_eq!(store.calls(), [1, 2, 0, 1, 0]);
    ask(&stack, own("c", &long)).await;
    assert_eq!(store.calls(), [2, 3, 0, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_hangs_fails_no_request() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);

    for mode in [Mode::Fails, Mode::Hangs] {
        let store = Wrapped::new(Mode::Works);
        let (stack, upstream) = stack(SessionLayer::new(store.clone()));
        texts(&stack, &["one"]).await;
        store.set(mode);
        let began = Instant::now();
        texts(&stack, &["one", "ok", "two"]).await;
        assert_sent(&upstream, None, None, &["one", "ok", "two"]);
        // One look-up and one record; there is no lease, for there is no chat.
        assert!(began.elapsed() <= Duration::from_millis(1_000), "{:?}", began.elapsed());

        // It comes back between the look-up and the lease, or goes then.
        store.set(Mode::Works);
        let body = begin(&stack, history(&["one", "ok", "2"])).await.expect("answered");
        assert_sent(&upstream, Some("c1"), Some("a1"), &["2"]);
        store.set(mode);
        Answer::collect(body).await.expect("complete");
    }
    let shown = handle.render();
    for line in [
        r#"tower_qwen_session_store_errors_total{operation="find"} 2"#,
        r#"tower_qwen_session_store_errors_total{operation="record"} 4"#,
        r#"tower_qwen_session_lookups_total{result="error"} 2"#,
        r#"tower_qwen_session_lookups_total{result="first"} 2"#,
        r#"tower_qwen_session_lookups_total{result="hit"} 2"#,
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_event_waits_for_a_slow_store_and_not_for_long() {
    let slow = Duration::from_millis(100);
    let store = Wrapped::new(Mode::Slow(slow));
    let (stack, upstream) = stack(SessionLayer::new(store.clone()));
    let began = Instant::now();
    let mut body = begin(&stack, history(&["one"])).await.expect("answered");
    let mut text_at = None;
    loop {
        match body.next().await.expect("not over").expect("no error") {
            ChatEvent::Text(_) => text_at = Some(began.elapsed()),
            ChatEvent::Finished(_) => break,
            _ => {}
        }
    }
    assert_eq!(text_at, Some(Duration::ZERO), "content does not wait");
    assert!(began.elapsed() >= slow);
    store.set(Mode::Works);
    texts(&stack, &["one", "ok", "two"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_on_its_way_survives_the_client() {
    let store = Wrapped::new(Mode::Slow(Duration::from_millis(100)));
    let (stack, upstream) = stack(SessionLayer::new(store.clone()));
    let mut body = begin(&stack, history(&["one"])).await.expect("answered");
    {
        // Up to the point where the last event waits for the store.
        let mut reading = pin!(async { while body.next().await.is_some() {} });
        assert!(poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await.is_pending());
    }
    drop(body);
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.set(Mode::Works);
    texts(&stack, &["one", "ok", "two"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_in_a_slow_store_is_given_back_too() {
    let store = Wrapped::new(Mode::Slow(Duration::from_millis(20)));
    let (stack, upstream) = stack(SessionLayer::new(store.clone()).contention(Contention::Replay));
    texts(&stack, &["one"]).await;
    let _end = held(&upstream);
    drop(begin(&stack, history(&["one", "ok", "two"])).await.expect("answered"));
    // Dropped while the lease is being taken, whatever the store makes of it.
    let mut taking = call(&stack, history(&["one", "ok", "2"]));
    tokio::time::timeout(Duration::from_millis(30), poll_fn(|cx| Pin::new(&mut taking).poll(cx)))
        .await
        .expect_err("still asks the store");
    drop(taking);
    tokio::time::sleep(Duration::from_secs(1)).await;
    texts(&stack, &["one", "ok", "TWO"]).await;
    assert_sent(&upstream, Some("c1"), Some("a1"), &["TWO"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_not_given_back_for_ever() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);

    let store = Wrapped::new(Mode::Works);
    let (stack, upstream) = stack(SessionLayer::new(store.clone()));
    texts(&stack, &["one"]).await;
    let _end = held(&upstream);
    let body = begin(&stack, history(&["one", "ok", "two"])).await.expect("answered");
    store.set(Mode::Hangs);
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    drop(body);
    assert_eq!(tasks.num_alive_tasks(), before + 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(tasks.num_alive_tasks(), before, "it waits for a store that hangs");
    let shown = handle.render();
    let line = r#"tower_qwen_session_store_errors_total{operation="release"} 1"#;
    assert!(shown.contains(line), "{line} is not in\n{shown}");
}

#[test]
fn memory_needs_neither_runtime_nor_timer() {
    let (stack, upstream) = default_stack();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for texts in [&["one"][..], &["one", "ok", "two"]] {
        let mut turn = pin!(ask(&stack, history(texts)));
        assert!(turn.as_mut().poll(&mut cx).is_ready());
    }
    assert_sent(&upstream, Some("c1"), Some("a1"), &["two"]);
    // Nor does a lease that is given back.
    let mut turn = Box::pin(begin(&stack, history(&["one", "ok", "2"])));
    let Poll::Ready(body) = turn.as_mut().poll(&mut cx) else { panic!("at once") };
    drop(body);
    let mut turn = pin!(ask(&stack, history(&["one", "ok", "3"])));
    assert!(turn.as_mut().poll(&mut cx).is_ready());
    assert_sent(&upstream, Some("c1"), Some("a1"), &["3"]);
}

#[tokio::test]
async fn the_inner_service_is_made_ready_before_every_try() {
    let (mut inner, mut handle) = tower_test::mock::pair::<Request<ChatRequest>, Response<Body>>();
    handle.allow(0);
    let mut adapted = SessionLayer::new(MemoryStore::default()).layer(Mocked(inner.clone()));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(adapted.poll_ready(&mut cx).is_pending(), "readiness is the inner service's");
    handle.allow(1);
    assert!(poll_fn(|cx| adapted.poll_ready(cx)).await.is_ok());
    let mut chat = history(&["one"]);
    chat.destination = Conversation::new("c").with_parent("p").into();
    let turn = tokio::spawn(adapted.call(Request::new(chat)));
    let (_, send) = handle.next_request().await.expect("sent");
    send.send_error(Error::new(ErrorKind::Quota, "used up"));
    assert!(turn.await.expect("no panic").expect_err("an error").is_quota());
    let _ = &mut inner;
}

/// The mock's error is a box; ours is not.
#[derive(Clone)]
struct Mocked(tower_test::mock::Mock<Request<ChatRequest>, Response<Body>>);

impl Service<Request<ChatRequest>> for Mocked {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx).map_err(unbox)
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async { answer.await.map_err(unbox) })
    }
}

fn unbox(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    *error.downcast::<Error>().expect("an error of the crate")
}

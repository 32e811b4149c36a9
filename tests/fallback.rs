//! `FallbackLayer`: who is asked, when another is, and how a conversation comes back.

mod traced;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, stream};
use http::{Request, Response};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, Fate,
    chat::{
        Answer, ChatEvent, ChatRequest, ChatStream, ChatStreamExt, Conversation, Destination,
        FinishReason, Message, Role, Tenant,
    },
    dedup::DedupLayer,
    fallback::{Breaking, FallbackLayer},
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    session::{MemoryStore, SessionLayer},
};
use tower_qwen_emulator::{Emulator, Kind};

/// What a stack does with its next requests; without orders it answers by its name.
#[derive(Clone, Default)]
struct Orders {
    next: Arc<Mutex<VecDeque<Order>>>,
    asked: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
}

enum Order {
    Fails(ErrorKind),
    Waits(Duration),
    BreaksOff,
}

impl Orders {
    fn give(&self, orders: impl IntoIterator<Item = Order>) {
        self.next.lock().expect("not poisoned").extend(orders);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

struct Cancelled(Option<Arc<AtomicUsize>>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

type Items = Vec<Result<ChatEvent, Error>>;

fn stack(
    name: &'static str,
    orders: &Orders,
) -> impl Service<
    Request<ChatRequest>,
    Response = Response<impl Stream<Item = Result<ChatEvent, Error>> + Send + use<>>,
    Error = Error,
    Future: Send,
> + Clone
+ Send
+ Sync
+ use<> {
    let orders = orders.clone();
    service_fn(move |_: Request<ChatRequest>| {
        let orders = orders.clone();
        async move {
            orders.asked.fetch_add(1, Ordering::SeqCst);
            let mut guard = Cancelled(Some(Arc::clone(&orders.cancelled)));
            let order = orders.next.lock().expect("not poisoned").pop_front();
            let items: Items = match order {
                Some(Order::Fails(kind)) => {
                    guard.0 = None;
                    return Err(Error::new(kind, name));
                }
                Some(Order::BreaksOff) => vec![
                    Ok(ChatEvent::Text("so far".into())),
                    Err(Error::new(ErrorKind::Truncated, name)),
                ],
                other => {
                    if let Some(Order::Waits(wait)) = other {
                        sleep(wait).await;
                    }
                    vec![
                        Ok(ChatEvent::Text(name.into())),
                        Ok(ChatEvent::Finished(FinishReason::Stop)),
                    ]
                }
            };
            guard.0 = None;
            Ok(Response::new(stream::iter(items)))
        }
    })
}

fn hello() -> Request<ChatRequest> {
    traced::on();
    Request::new(ChatRequest::new("m", [Message::new(Role::User, "Hello")]))
}

/// Who answers, as the header and the answer say.
async fn who<S, B>(service: &S, request: Request<ChatRequest>) -> Result<String, Error>
where
    S: Service<Request<ChatRequest>, Response = Response<B>, Error = Error> + Clone,
    B: ChatStream,
{
    let response = service.clone().oneshot(request).await?;
    let name = response.headers()["x-qwen-upstream"].to_str().expect("a word").to_owned();
    let answer = Answer::collect(response.into_body().checked()).await?;
    assert_eq!(*answer.text, *name);
    Ok(name)
}

macro_rules! three {
    ($layer:expr, $orders:ident) => {{
        let layer: FallbackLayer = $layer;
        let layer = layer.to("second", stack("second", &$orders[1]));
        layer.to("third", stack("third", &$orders[2])).layer(stack("first", &$orders[0]))
    }};
}

#[tokio::test(start_paused = true)]
async fn the_first_that_can_answers() {
    use ErrorKind::{
        AccountUnavailable, Auth, Challenge, ContentFilter, ContextLength, ConversationBusy,
        Internal, InvalidRequest, ModelNotFound, ModelQuota, NotFound, Overloaded, Permission,
        Quota, RateLimited, Timeout, TooLarge, Truncated, Unsupported, Upstream,
    };
    for kind in [
        Auth,
        Permission,
        AccountUnavailable,
        ConversationBusy,
        RateLimited,
        Quota,
        ModelQuota,
        Upstream,
        Truncated,
        Challenge,
        Overloaded,
        Timeout,
    ] {
        let orders: [Orders; 3] = Default::default();
        let service = three!(FallbackLayer::new("first"), orders);
        orders[0].give([Order::Fails(kind), Order::Fails(kind)]);
        orders[1].give([Order::Fails(kind)]);
        assert_eq!(who(&service, hello()).await.expect("answered"), "third", "{kind:?}");
        assert_eq!(who(&service, hello()).await.expect("answered"), "second", "{kind:?}");
        assert_eq!(who(&service, hello()).await.expect("answered"), "first", "{kind:?}");
    }
    // What is wrong with the request is wrong everywhere.
    for kind in [
        InvalidRequest,
        ContextLength,
        ContentFilter,
        TooLarge,
        ModelNotFound,
        NotFound,
        Internal,
        Unsupported,
    ] {
        let orders: [Orders; 3] = Default::default();
        let service = three!(FallbackLayer::new("first"), orders);
        orders[0].give([Order::Fails(kind)]);
        assert_eq!(who(&service, hello()).await.expect_err("refused").kind(), kind);
        assert_eq!(orders[1].asked(), 0, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_error_is_told_where_nobody_can() {
    let orders: [Orders; 3] = Default::default();
    let service = three!(FallbackLayer::new("first"), orders);
    for orders in &orders {
        orders.give([Order::Fails(ErrorKind::Overloaded)]);
    }
    let error = who(&service, hello()).await.expect_err("nobody can");
    assert_eq!((error.kind(), error.message()), (ErrorKind::Overloaded, "third"));
    // After the first event nothing is asked again.
    orders[0].give([Order::BreaksOff]);
    let response = service.clone().oneshot(hello()).await.expect("it has begun");
    let error = Answer::collect(response.into_body().checked()).await.expect_err("it broke off");
    assert_eq!(error.kind(), ErrorKind::Truncated);
    assert_eq!(orders.map(|orders| orders.asked()), [2, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_late_is_left() {
    let orders: [Orders; 3] = Default::default();
    let late = Duration::from_secs(5);
    let service = three!(FallbackLayer::new("first").first_event(Some(late)), orders);
    let wait = || [Order::Waits(Duration::from_secs(60))];
    orders[0].give(wait());
    let began = Instant::now();
    assert_eq!(who(&service, hello()).await.expect("answered"), "second");
    assert_eq!(began.elapsed(), late);
    assert_eq!(orders[0].cancelled.load(Ordering::SeqCst), 1, "it is cancelled where it was");
    // The last one has as long as it likes.
    orders.iter().for_each(|orders| orders.give(wait()));
    assert_eq!(who(&service, hello()).await.expect("answered"), "third");
    assert_eq!(began.elapsed(), 3 * late + Duration::from_secs(60));
    // Without a limit so has the first.
    let service = three!(FallbackLayer::new("first"), orders);
    orders[0].give(wait());
    assert_eq!(who(&service, hello()).await.expect("answered"), "first");
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_again_and_again_is_not_asked_for_a_while() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);
    let orders: [Orders; 3] = Default::default();
    let mut rules = Breaking::new();
    rules.failures = 3;
    let service = three!(FallbackLayer::new("first").breaking(Some(rules)), orders);
    orders[0].give((0..4).map(|_| Order::Fails(ErrorKind::Upstream)));
    for _ in 0..10 {
        assert_eq!(who(&service, hello()).await.expect("answered"), "second");
    }
    assert_eq!(orders[0].asked(), 3);
    // One finds out, and fails; the pause is longer then.
    sleep(rules.pause).await;
    who(&service, hello()).await.expect("answered");
    who(&service, hello()).await.expect("answered");
    assert_eq!(orders[0].asked(), 4);
    sleep(rules.pause).await;
    who(&service, hello()).await.expect("answered");
    assert_eq!(orders[0].asked(), 4);
    sleep(rules.pause).await;
    assert_eq!(who(&service, hello()).await.expect("answered"), "first");
    assert_eq!(who(&service, hello()).await.expect("answered"), "first");
    let shown = handle.render();
    for line in [
        r#"tower_qwen_fallback_total{from="first",to="second",cause="error"} 4"#,
        r#"tower_qwen_fallback_total{from="first",to="second",cause="paused"} 9"#,
        r#"tower_qwen_fallback_circuit_total{upstream="first",state="open"} 2"#,
        r#"tower_qwen_fallback_circuit_total{upstream="first",state="closed"} 1"#,
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    // What the client has done wrong is no failure, and neither is what `when` lets pass.
    orders[0].give((0..9).map(|_| Order::Fails(ErrorKind::InvalidRequest)));
    for _ in 0..9 {
        who(&service, hello()).await.expect_err("refused");
    }
    assert_eq!(who(&service, hello()).await.expect("answered"), "first");
}

#[tokio::test(start_paused = true)]
async fn where_none_is_asked_the_client_hears_how_long() {
    let orders = Orders::default();
    let mut rules = Breaking::new();
    rules.failures = 1;
    let layer = FallbackLayer::new("first").breaking(Some(rules));
    let service = layer.layer(stack("first", &orders));
    orders.give([Order::Fails(ErrorKind::Upstream)]);
    who(&service, hello()).await.expect_err("it fails");
    sleep(Duration::from_secs(4)).await;
    let error = who(&service, hello()).await.expect_err("it is not asked");
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(6)));
    assert_eq!(orders.asked(), 1);
    // One that broke off in the middle has failed too.
    sleep(Duration::from_secs(6)).await;
    orders.give([Order::BreaksOff]);
    who(&service, hello()).await.expect_err("it breaks off");
    who(&service, hello()).await.expect_err("it is not asked");
    assert_eq!(orders.asked(), 2);
}

/// Its work was cancelled here, so it may have been at work.
#[tokio::test(start_paused = true)]
async fn one_that_is_late_is_abandoned_where_nobody_else_is_asked() {
    let orders: [Orders; 3] = Default::default();
    let mut rules = Breaking::new();
    rules.failures = 2;
    let late = Duration::from_secs(5);
    let layer = FallbackLayer::new("first").breaking(Some(rules)).first_event(Some(late));
    let service = three!(layer, orders);
    // The others are paused, and it is not.
    for all in [[true; 3], [false; 3], [true; 3]] {
        for (orders, fails) in orders.iter().zip(all) {
            orders.give(fails.then_some(Order::Fails(ErrorKind::Upstream)));
        }
        assert_eq!(who(&service, hello()).await.is_err(), all[0]);
    }
    orders[0].give([Order::Waits(Duration::from_secs(60))]);
    let error = who(&service, hello()).await.expect_err("it is late");
    assert_eq!((error.kind(), error.fate()), (ErrorKind::Timeout, Fate::Abandoned));
    assert_eq!(orders.map(|orders| orders.asked()), [4, 2, 2]);
}

/// No other has the chat that a client names.
#[tokio::test(start_paused = true)]
async fn a_chat_that_the_client_names_is_asked_of_the_first_alone() {
    let orders: [Orders; 3] = Default::default();
    let service = three!(FallbackLayer::new("first"), orders);
    for place in
        [Destination::from(Conversation::new("c")), Destination::Answer { id: "resp_1".into() }]
    {
        // Not even where it has failed again and again.
        orders[0].give((0..7).map(|_| Order::Fails(ErrorKind::Upstream)));
        for _ in 0..7 {
            let mut request = hello();
            request.body_mut().destination = place.clone();
            let error = who(&service, request).await.expect_err("it fails");
            assert_eq!(error.message(), "first");
        }
    }
    assert_eq!(orders.map(|orders| orders.asked()), [14, 0, 0]);
}

async fn turn<S, B>(service: &S, history: &mut Vec<Message>, question: &str) -> String
where
    S: Service<Request<ChatRequest>, Response = Response<B>, Error = Error> + Clone,
    B: ChatStream,
{
    history.push(Message::new(Role::User, question.to_owned()));
    let mut chat = ChatRequest::new("qwen3-max", history.clone());
    chat.tenant = Some(Tenant::from_digest([9; 32]));
    let response = service.clone().oneshot(Request::new(chat)).await.expect("answered");
    let name = response.headers()["x-qwen-upstream"].to_str().expect("a word").to_owned();
    let answer = Answer::collect(response.into_body().checked()).await.expect("whole");
    history.push(Message::new(Role::Assistant, answer.text));
    name
}

/// Turn 5 goes elsewhere with all of the history, and turn 6 goes on where turn 4 was.
#[tokio::test(start_paused = true)]
async fn a_conversation_comes_back_to_its_chat() {
    let (web, dashscope) = (Emulator::new(), Emulator::builder().kind(Kind::DashScope).build());
    let is_down = Arc::new(AtomicUsize::new(0));
    let stack = {
        let is_down = Arc::clone(&is_down);
        let upstream = web.clone();
        let leaf = service_fn(move |request: Request<tower_qwen::FullBody>| {
            let (upstream, is_down) = (upstream.clone(), Arc::clone(&is_down));
            async move {
                if is_down.load(Ordering::SeqCst) > 0 {
                    return Err(Error::new(ErrorKind::Upstream, "nobody listens there"));
                }
                let Ok(response) = upstream.oneshot(request).await;
                Ok(response)
            }
        });
        SessionLayer::new(MemoryStore::default())
            .scope("web")
            .layer(DedupLayer::new().layer(QwenWebLayer::new().layer(leaf)))
    };
    let other = CompatibleLayer::new(Server::DashScope).layer(dashscope.clone());
    let service = FallbackLayer::new("web").to("dashscope", other).layer(stack);
    let mut history = Vec::new();
    for number in 1..=4 {
        assert_eq!(turn(&service, &mut history, &format!("question {number}")).await, "web");
    }
    is_down.store(1, Ordering::SeqCst);
    assert_eq!(turn(&service, &mut history, "question 5").await, "dashscope");
    let sent = dashscope.requests();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].body["messages"].as_array().map(Vec::len), Some(9), "all of it");
    is_down.store(0, Ordering::SeqCst);
    assert_eq!(turn(&service, &mut history, "question 6").await, "web");
    let [chat] = &web.chats()[..] else { panic!("one chat") };
    let last = &chat.messages[chat.messages.len() - 2];
    assert_eq!(chat.messages.len(), 10);
    assert_eq!(last.parent_id.as_deref(), Some(&*chat.messages[7].id), "behind the fourth answer");
    for (text, is_new) in [("question 4", false), ("question 5", true), ("question 6", true)] {
        assert_eq!(last.text.contains(text), is_new, "{text}: {}", last.text);
    }
    assert_eq!(turn(&service, &mut history, "question 7").await, "web");
    assert!(!web.chats()[0].messages[10].text.contains("question 6"), "only what is new");
}

/// Two stacks that keep chats, with one store: neither finds the other's.
#[tokio::test(start_paused = true)]
async fn stacks_that_share_a_store_do_not_share_chats() {
    let store: Arc<dyn tower_qwen::session::SessionStore> = Arc::new(MemoryStore::default());
    let emulators = [Emulator::new(), Emulator::new()];
    let [one, other] =
        [("one", &emulators[0]), ("other", &emulators[1])].map(|(name, emulator)| {
            SessionLayer::from_shared(Arc::clone(&store))
                .scope(name)
                .layer(DedupLayer::new().layer(QwenWebLayer::new().layer(emulator.clone())))
        });
    let [one, other] =
        [("one", one), ("other", other)].map(|(name, stack)| FallbackLayer::new(name).layer(stack));
    let mut history = Vec::new();
    turn(&one, &mut history, "question 1").await;
    turn(&one, &mut history, "question 2").await;
    turn(&other, &mut history, "question 3").await;
    turn(&other, &mut history, "question 4").await;
    turn(&one, &mut history, "question 5").await;
    let messages = emulators.map(|emulator| {
        let [chat] = &emulator.chats()[..] else { panic!("one chat each") };
        chat.messages.len()
    });
    assert_eq!(messages, [6, 4]);
}

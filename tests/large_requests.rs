//! Large requests are worked on off the runtime's threads, and small ones where they are.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};

use tokio::{runtime::Builder, sync::Notify, task::spawn_blocking};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    FullBody,
    chat::{ChatEvent, ChatRequest, FinishReason, Message, Role, Tenant, ToolCall},
    openai::OpenAiLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    session::{MemoryStore, SessionLayer},
    tool::call::ToolCallLayer,
};
use tower_qwen_emulator::Emulator;

/// From this size on a request is large, in bytes.
const LARGE: usize = 256 * 1024;

type Answer = stream::Iter<std::array::IntoIter<Result<ChatEvent, tower_qwen::Error>, 2>>;

/// A service that answers one word.
fn inner() -> impl tower::Service<
    Request<ChatRequest>,
    Response = Response<Answer>,
    Error = tower_qwen::Error,
    Future: Send,
> + Clone
+ Send
+ 'static {
    service_fn(|_: Request<ChatRequest>| {
        let events = [ChatEvent::Text("Hi".into()), ChatEvent::Finished(FinishReason::Stop)];
        ready(Ok::<_, tower_qwen::Error>(Response::new(stream::iter(events.map(Ok)))))
    })
}

/// A question so long that its body has `len` bytes, as a client sends it.
fn body(len: usize) -> Bytes {
    let [head, tail] = [r#"{"model":"m","messages":[{"role":"user","content":""#, r#""}]}"#];
    let body = [head, &"x".repeat(len - head.len() - tail.len()), tail].concat();
    assert_eq!(body.len(), len);
    body.into()
}

fn edge(len: usize) -> impl Future<Output = StatusCode> {
    let edge = ServiceBuilder::new().layer(OpenAiLayer::new()).service(inner());
    let request = Request::post("/").body(FullBody::new(body(len))).expect("a request");
    async {
        let Ok::<_, Infallible>(response) = edge.oneshot(request).await;
        response.status()
    }
}

fn chat(len: usize) -> Request<ChatRequest> {
    let mut answer = Message::empty(Role::Assistant);
    answer.tool_calls = vec![ToolCall::new("c", "f", format!("\"{}\"", "x".repeat(len)))];
    let messages = [Message::new(Role::User, "Hi"), answer, Message::new(Role::User, "Go on.")];
    let mut chat = ChatRequest::new("qwen3-max", messages);
    chat.tenant = Some(Tenant::from_digest([1; 32]));
    Request::new(chat)
}

/// A request on its way through a layer.
type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Every layer that works on the whole of a history.
fn layers(len: usize) -> Vec<(&'static str, Work)> {
    macro_rules! through {
        ($layer:expr, $inner:expr) => {{
            let service = ServiceBuilder::new().layer($layer).service($inner);
            Box::pin(async move {
                drop(service.oneshot(chat(len)).await.expect("answers"));
            })
        }};
    }

    let api = service_fn(|_: Request<FullBody>| {
        let events = concat!(
            r#"data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}"#,
            "\n\ndata: [DONE]\n\n"
        );
        let response = Response::builder().header("content-type", "text/event-stream");
        ready(Ok::<_, tower::BoxError>(response.body(FullBody::from(events)).expect("a response")))
    });
    let web = QwenWebLayer::new().stop_on_drop(false);
    vec![
        ("edge", Box::pin(async move { assert_eq!(edge(len).await, StatusCode::OK) })),
        ("session", through!(SessionLayer::new(MemoryStore::default()), inner())),
        ("tools", through!(ToolCallLayer::prompted(), inner())),
        ("compatible", through!(CompatibleLayer::new(Server::Vllm), api)),
        ("web", through!(web, Emulator::new())),
    ]
}

/// Whether `work` is done without waiting for anybody; it may give others their turn.
fn is_done<F: Future>(work: &mut tokio_test::task::Spawn<F>) -> bool {
    (0..8).any(|_| work.poll().is_ready())
}

/// Runs `test` where the only thread for what blocks is held until the notice is given.
fn while_held<F: Future<Output = ()>>(test: impl FnOnce(Arc<Notify>) -> F) {
    let runtime = Builder::new_current_thread().max_blocking_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (release, held) = mpsc::channel::<()>();
        spawn_blocking(move || held.recv_timeout(Duration::from_secs(60)));
        let notice = Arc::new(Notify::new());
        let given = Arc::clone(&notice);
        tokio::spawn(async move {
            given.notified().await;
            drop(release);
        });
        test(notice).await;
    });
}

#[test]
fn large_requests_wait_for_a_thread() {
    while_held(async |notice| {
        let mut works: Vec<_> = layers(LARGE)
            .into_iter()
            .map(|(name, work)| (name, tokio_test::task::spawn(work)))
            .collect();
        for (name, work) in &mut works {
            assert!(!is_done(work), "{name}: it was done at once");
        }
        notice.notify_one();
        for (_, work) in works {
            work.into_inner().await;
        }
    });
}

/// All but the one that has to ask a service that takes its time.
#[test]
fn small_requests_are_done_at_once() {
    while_held(async |notice| {
        for (name, work) in layers(LARGE / 2) {
            if name != "web" {
                let mut work = tokio_test::task::spawn(work);
                assert!(is_done(&mut work), "{name}: it waits");
            }
        }
        notice.notify_one();
    });
}

#[test]
fn the_size_is_exact_at_the_edge() {
    while_held(async |notice| {
        assert!(is_done(&mut tokio_test::task::spawn(edge(LARGE - 1))));
        assert!(!is_done(&mut tokio_test::task::spawn(edge(LARGE))));
        notice.notify_one();
    });
}

/// What is dropped waits for nothing, and does not keep others from their turn.
#[test]
fn a_request_that_is_dropped_is_not_waited_for() {
    while_held(async |notice| {
        for (name, work) in layers(LARGE) {
            let mut work = tokio_test::task::spawn(work);
            assert!(!is_done(&mut work), "{name}: it was done at once");
        }
        let next = edge(LARGE);
        notice.notify_one();
        assert_eq!(next.await, StatusCode::OK);
    });
}

#[test]
fn without_a_runtime_it_is_done_where_it_is() {
    for (name, work) in layers(LARGE) {
        // The answer of chat.qwen.ai has deadlines.
        if name != "web" {
            let mut work = tokio_test::task::spawn(work);
            assert!(is_done(&mut work), "{name}: it waits");
        }
    }
}

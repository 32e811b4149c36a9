//! What a request costs, whatever its shape: allocated bytes, counted, of reading it and of the
//! whole stack above an upstream.
//!
//! The allocator counts what all threads have, so the tests here take turns.

use std::{
    convert::Infallible,
    future::{self, Ready},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use peak_alloc::PeakAlloc;
use tokio::runtime::Runtime;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_qwen::{
    Error, FullBody,
    chat::{ChatEvent, ChatRequest, FinishReason},
    dedup::DedupLayer,
    edge::Limits,
    openai::{OpenAiLayer, decode, decode_within},
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    session::{MemoryStore, SessionLayer},
    tool::{Dialect, call::ToolCallLayer, wrap::ToolWrapLayer},
};

mod shapes;
use shapes::SHAPES;

#[derive(Clone, Copy)]
struct Wire;

impl Service<Request<FullBody>> for Wire {
    type Response = Response<FullBody>;
    type Error = Error;
    type Future = Ready<Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<FullBody>) -> Self::Future {
        let path = request.uri().path();
        let (kind, body) = if path.ends_with("/new") {
            ("application/json", r#"{"success":true,"request_id":"q","data":{"id":"c-1"}}"#)
        } else if path.starts_with("/api") {
            (
                "text/event-stream",
                "data: {\"response.created\":{\"chat_id\": \"c-1\", \"parent_id\": \"u-1\", \
                 \"response_id\":\"r-1\"}}\n\ndata: {\"choices\": [{\"delta\": {\"content\": \
                 \"<tool_call>{\\\"name\\\":\\\"f\\\",\\\"arguments\\\":{\\\"a\\\":1}}</tool_call>\", \"role\": \"assistant\", \"status\": \"typing\", \"phase\": \
                 \"answer\"}}]}\n\ndata: {\"choices\": [{\"delta\": {\"content\": \"\", \"role\": \"assistant\", \
                 \"status\": \"finished\", \"phase\": \"answer\"}}]}\n\n",
            )
        } else {
            (
                "text/event-stream",
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"<tool_call>{\\\"name\\\":\\\"f\\\",\\\"arguments\\\":{\\\"a\\\":1}}</tool_call>\"}}]}\n\ndata: \
                 {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
            )
        };
        let response = Response::builder().header(CONTENT_TYPE, kind).body(FullBody::from(body));
        future::ready(Ok(response.expect("a response")))
    }
}

type Stack = Box<dyn Fn(Bytes) -> u16>;

/// The runtime, whose threads do the work on large requests.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime")
});

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The most bytes that there were at once while `work` was done, beyond those before it.
fn measure(_turn: &MutexGuard<'_, ()>, work: impl FnOnce()) -> usize {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    work();
    ALLOCATED.peak_usage() - before
}

/// What a test holds, so that no other test's memory is counted with its own.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    LazyLock::force(&RUNTIME);
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask<S, A>(stack: S, body: Bytes) -> u16
where
    S: Service<Request<FullBody>, Response = Response<A>, Error = Infallible>,
    A: http_body::Body<Data = Bytes, Error = Infallible>,
{
    let request = Request::post("/v1/chat/completions")
        .header("authorization", "Bearer k")
        .body(FullBody::new(body))
        .expect("a request");
    RUNTIME.block_on(async {
        let Ok(response) = stack.oneshot(request).await;
        let status = response.status().as_u16();
        let Ok(_) = response.into_body().collect().await;
        status
    })
}

fn stacks() -> Vec<(&'static str, Stack)> {
    let edge = || {
        ServiceBuilder::new()
            .layer(OpenAiLayer::new())
            .layer(SessionLayer::new(MemoryStore::default()))
    };
    macro_rules! stack {
        ($stack:expr) => {{
            let stack = $stack;
            Box::new(move |body| ask(stack.clone(), body)) as Stack
        }};
    }
    let prompted = |format| {
        edge()
            .layer(DedupLayer::new())
            .layer(ToolCallLayer::prompted_in(format))
            .layer(QwenWebLayer::new())
            .service(Wire)
    };
    let compatible = |tools| {
        ServiceBuilder::new()
            .layer(OpenAiLayer::new())
            .layer(tools)
            .layer(CompatibleLayer::new(Server::Vllm))
            .service(Wire)
    };
    vec![
        ("decode", Box::new(|body: Bytes| decode(&body).map_or(400_u16, |_| 200)) as Stack),
        ("web, Hermes", stack!(prompted(Dialect::Hermes))),
        ("web, Coder", stack!(prompted(Dialect::Coder))),
        ("web, XML", stack!(prompted(Dialect::Xml))),
        (
            "web, wrapped",
            stack!(
                edge()
                    .layer(ToolWrapLayer::new())
                    .layer(DedupLayer::new())
                    .layer(QwenWebLayer::new())
                    .service(Wire)
            ),
        ),
        ("compatible, native", stack!(compatible(ToolCallLayer::native()))),
        ("compatible, rescue", stack!(compatible(ToolCallLayer::native_with_rescue()))),
        ("compatible, prompted", stack!(compatible(ToolCallLayer::prompted()))),
    ]
}

/// What a request may take beside its body and four times its size: the counts of `Limits` at their
/// largest, and the schemas of the tools that are called.
const CONSTANT: usize = 16 << 20;

/// The most that there was at once, in bytes, the body included.
fn peak(turn: &MutexGuard<'_, ()>, stack: &Stack, body: &Bytes) -> usize {
    let body = body.clone();
    let len = body.len();
    len + measure(turn, || {
        stack(body);
    })
}

/// Every shape of 4 MiB, read.
#[test]
fn reading_a_body_costs_its_size() {
    let turn = turn();
    for shape in SHAPES {
        let body = Bytes::from(shape.body(4 << 20));
        let decode: Stack = Box::new(|body| decode(&body).map_or(400_u16, |_| 200));
        let (most, len) = (peak(&turn, &decode, &body), body.len());
        assert!(most <= 4 * len + CONSTANT / 2, "{}: {most} for {len}", shape.name);
    }
}

/// Every shape through every stack. The bodies are small enough for a debug build; what does not
/// grow with the body is as large as it gets, and what has no count costs a multiple of its size
/// alone.
#[test]
fn a_body_costs_its_size_in_every_stack() {
    let turn = turn();
    // Counted things, and schemas, which have a constant of their own; how long the name of a model
    // may be is another matter.
    const COUNTED: [&str; 11] = [
        "message",
        "part",
        "call",
        "tool",
        "result",
        "pair",
        "image",
        "file",
        "stop",
        "schema",
        "parameters",
    ];
    for shape in SHAPES.iter().filter(|shape| shape.name != "a model's name") {
        let is_counted = COUNTED.iter().any(|word| shape.name.contains(word));
        let constant = if is_counted { CONSTANT } else { 64 << 10 };
        let body = Bytes::from(shape.body(256 << 10));
        for (name, stack) in stacks() {
            let (most, len) = (peak(&turn, &stack, &body), body.len());
            // The body, and four times its size beside it: what goes into a prompt takes the most, as
            // it is read, laid out and written once more.
            assert!(most <= 5 * len + constant, "{}, {name}: {most} for {len}", shape.name);
        }
    }
}

/// Each count, at its limit and one beyond it: the error names the field and the number.
#[test]
fn counts_are_limited_while_they_are_read() {
    let _turn = turn();
    let mut limits = Limits::new();
    limits.messages = 3;
    limits.parts = 3;
    limits.calls = 3;
    limits.tools = 3;
    limits.stops = 3;
    limits.nesting = 8;
    let count = |name: &str, param: &str| {
        let shape = SHAPES.iter().find(|shape| shape.name == name).expect("a shape");
        let read = |times| decode_within(&Bytes::from(shape.times(times)), &limits);
        read(3).unwrap_or_else(|error| panic!("{name}: {error}"));
        let error = read(4).expect_err(name);
        assert_eq!((error.code(), error.param()), (Some("too_many"), Some(param)), "{name}");
        assert_eq!(error.status(), 400, "{name}");
        assert!(error.to_string().contains("3 "), "{name}: {error}");
    };
    count("short messages", "messages");
    count("text parts", "messages[0].content");
    // These are read by the slower way.
    count("unknown parts", "messages[0].content");
    count("calls", "messages[0].tool_calls");
    count("unknown tools", "tools");
    count("function tools", "tools");
    count("stop", "stop");

    // Parts and calls are counted over all messages.
    let two = r#"{"role":"user","content":[{"type":"text","text":""},{"type":"text","text":""}]}"#;
    let body = format!(r#"{{"model":"m","messages":[{two},{two}]}}"#);
    let error = decode_within(&Bytes::from(body), &limits).expect_err("four parts");
    assert_eq!(error.param(), Some("messages[1].content"));
    let two = r#"{"role":"assistant","tool_calls":[{"function":{"name":"f"}},{"function":{"name":"f"}}]}"#;
    let body = format!(r#"{{"model":"m","messages":[{two},{two}]}}"#);
    let error = decode_within(&Bytes::from(body), &limits).expect_err("four calls");
    assert_eq!(error.param(), Some("messages[1].tool_calls"));

    let nested = |levels: usize| {
        let json = "[".repeat(levels) + &"]".repeat(levels);
        let body = format!(r#"{{"model":"m","messages":[{{"role":"tool"}}],"v":{json}}}"#);
        decode_within(&Bytes::from(body), &limits)
    };
    assert!(nested(7).is_ok());
    let error = nested(8).expect_err("nine levels");
    assert_eq!(error.code(), Some("too_deep"));
    assert!(error.to_string().contains("8 levels"), "{error}");
}

/// What agents send is far below the numbers.
#[test]
fn agents_stay_within_the_limits() {
    let _turn = turn();
    for (name, count) in [
        ("short messages", 10_000),
        ("function tools", 1_000),
        ("text parts", 1_000),
        ("calls", 1_000),
    ] {
        let shape = SHAPES.iter().find(|shape| shape.name == name).expect("a shape");
        decode(&Bytes::from(shape.times(count))).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// A whole answer takes about twice its size: its text, and the JSON of it.
#[test]
fn a_whole_answer_costs_twice_its_size() {
    let turn = turn();
    const PIECE: usize = 16 << 10;
    let ask_for = |bytes: usize, limit: usize| {
        let text = tower_qwen::Text::from("word ".repeat(PIECE / 5));
        let events = move |_: Request<ChatRequest>| {
            let text = text.clone();
            let pieces = (0..bytes / PIECE).map(move |_| Ok(ChatEvent::Text(text.clone())));
            let end = [Ok(ChatEvent::Finished(FinishReason::Stop))];
            let stream = futures_util::stream::iter(pieces.chain(end));
            future::ready(Ok::<_, Error>(Response::new(stream)))
        };
        let stack = ServiceBuilder::new()
            .layer(OpenAiLayer::new().max_answer(limit))
            .service(tower::service_fn(events));
        let body =
            Bytes::from_static(br#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#);
        let mut status = 0;
        let most = measure(&turn, || status = ask(stack, body));
        (status, most)
    };
    let bytes = 32 << 20;
    let (status, most) = ask_for(bytes, 64 << 20);
    assert_eq!(status, 200);
    // A buffer grows by an eighth.
    assert!(most <= bytes * 9 / 4 + (1 << 20), "{most} for {bytes}");
    let (status, most) = ask_for(bytes, 8 << 20);
    assert_eq!(status, 502);
    assert!(most <= (8 << 20) * 9 / 4, "{most} for 8 MiB");
}

//! How many instructions the hot paths take, which does not depend on what else the machine does.
//!
//! Each case is run by `valgrind --tool=callgrind`, which counts what happens in [`counted`] alone:
//!
//! ```sh
//! python3 .ci/instructions.py            # compares with benches/instructions.txt
//! python3 .ci/instructions.py --write    # renews that
//! ```
//!
//! Without valgrind `cargo bench --bench instructions -- CASE` runs a case, and `-- --list` names them all, each
//! with how many events or requests it has.

#![allow(clippy::print_stdout, reason = "a bench reports")]

use std::{
    convert::Infallible,
    env,
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::Stream;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use serde_json::json;
use tower::{Layer, Service, ServiceBuilder};
use tower_qwen::{
    Error, FullBody, Text as Shared,
    anthropic::AnthropicLayer,
    chat::{
        ChatEvent, ChatRequest, FinishReason, FunctionTool, Message, Role, Tenant, Tool, Usage,
    },
    dedup::DedupLayer,
    fallback::FallbackLayer,
    format::FormatLayer,
    inspect::InspectLayer,
    join::JoinLayer,
    ollama::OllamaLayer,
    openai::OpenAiLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    responses::ResponsesLayer,
    resume::ResumeLayer,
    session::{MemoryStore, SessionLayer},
    sse::{Decoder, reframe::SseReframeLayer},
    timeout::TimeoutLayer,
    tool::{
        call::ToolCallLayer,
        scan::{Scanner, Toolset},
    },
    usage::UsageLayer,
};

#[allow(dead_code, reason = "other benches use more of it")]
mod ready;
#[allow(dead_code, reason = "other benches use more of it")]
mod stack;
#[allow(dead_code, reason = "other benches use more of it")]
mod streams;
use ready::{EVENTS, Upstream, exchange, next};
use streams::shapes;

/// How many requests a case of requests has.
const REQUESTS: usize = 512;

/// What valgrind counts: it is told to by the name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

/// A case: its name, how many units it has, and what prepares and does it.
struct Case {
    name: String,
    units: usize,
    run: Box<dyn FnOnce()>,
}

fn main() {
    let asked: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    // The layers that give others their turn look at the clock of a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _guard = runtime.enter();
    let cases = cases();
    match asked.first().map(String::as_str) {
        Some("--list") => cases.iter().for_each(|case| println!("{}\t{}", case.units, case.name)),
        Some(name) => {
            let case = cases.into_iter().find(|case| case.name == name);
            (case.unwrap_or_else(|| panic!("no case is called {name:?}")).run)();
        }
        None => println!("python3 .ci/instructions.py runs these under valgrind"),
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, units: usize, run: Box<dyn FnOnce()>| {
        cases.push(Case { name, units, run });
    };
    for name in ["aligned", "1,460 bytes", "16 KiB"] {
        add(format!("decode, {name}"), EVENTS, Box::new(move || decode(&pieces(name))));
        add(format!("reframe, {name}"), EVENTS, Box::new(move || reframe(pieces(name))));
    }
    for (name, text) in [("argument", ARGUMENT), ("prose", PROSE), ("markup", MARKUP)] {
        add(format!("scan, {name}"), SCANNED / 4, Box::new(move || scan(text)));
    }
    for (name, text, waits) in [
        ("prose", stack::Text::Prose, true),
        ("prose, no wait", stack::Text::Prose, false),
        ("markup", stack::Text::Markup, true),
        ("another order of keys", stack::Text::OtherKeys, true),
    ] {
        add(format!("web, an event of {name}"), EVENTS, Box::new(move || web_events(text, waits)));
    }
    for (name, delta) in COMPATIBLE {
        let run = Box::new(move || compatible_events(delta));
        add(format!("compatible, an event of {name}"), EVENTS, run);
    }
    add("write, OpenAI".into(), EVENTS, Box::new(|| write(&OpenAiLayer::new().keep_alive(None))));
    let messages = || AnthropicLayer::new().keep_alive(None);
    add("write, Messages".into(), EVENTS, Box::new(move || write(&messages())));
    let responses = || ResponsesLayer::new().keep_alive(None);
    add("write, Responses".into(), EVENTS, Box::new(move || write(&responses())));
    add("write, Ollama".into(), EVENTS, Box::new(|| write(&OllamaLayer::new())));
    add("request, lane".into(), REQUESTS, Box::new(lane_requests));
    add("request, compatible".into(), REQUESTS, Box::new(compatible_requests));
    add("request, web".into(), REQUESTS, Box::new(web_requests));
    macro_rules! layer {
        ($name:literal, $layer:expr) => {
            add(format!("request, {}", $name), REQUESTS, Box::new(|| layer_requests($layer)));
            add(format!("event, {}", $name), EVENTS, Box::new(|| layer_events($layer)));
        };
    }
    layer!("no layer", tower::layer::util::Identity::new());
    layer!("TimeoutLayer", TimeoutLayer::hosted());
    layer!("FallbackLayer", FallbackLayer::new("a").to("b", said()));
    layer!("JoinLayer, no repeat", JoinLayer::new());
    layer!("UsageLayer", UsageLayer::new(drop));
    layer!("ResumeLayer, off", ResumeLayer::new().tries(0));
    layer!("ResumeLayer", ResumeLayer::new());
    layer!("InspectLayer, nobody listens", InspectLayer::new("here"));
    layer!("FormatLayer, no form", FormatLayer::new());
    cases
}

fn pieces(name: &str) -> Vec<Bytes> {
    let shape = shapes().into_iter().find(|shape| shape.name == name).expect("a shape");
    // Whoever allocated the pieces pays for freeing them, so that must not happen here.
    std::mem::forget(shape.pieces.clone());
    shape.pieces
}

fn decode(pieces: &[Bytes]) {
    let mut decoder = Decoder::new();
    let mut events = 0;
    counted(&mut || {
        for piece in pieces {
            decoder.push(piece.clone());
            while let Some(event) = decoder.next_event().expect("well formed") {
                black_box(&event);
                events += 1;
            }
        }
    });
    assert_eq!(events, EVENTS, "events were lost");
}

/// A body of pieces.
struct Pieces(std::vec::IntoIter<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(Frame::data).map(Ok))
    }
}

fn reframe(pieces: Vec<Bytes>) {
    let mut pieces = Some(pieces.into_iter());
    let mut service = SseReframeLayer::new().layer(tower::service_fn(move |_: Request<()>| {
        let mut response = Response::new(Pieces(pieces.take().expect("called once")));
        response.headers_mut().insert(CONTENT_TYPE, "text/event-stream".parse().expect("ok"));
        std::future::ready(Ok::<_, Infallible>(response))
    }));
    let response = now(service.call(Request::new(()))).expect("the upstream is ready");
    let mut body = pin!(response.into_body());
    counted(&mut || drain(body.as_mut()));
}

/// A future that is ready.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nothing waits here"),
    }
}

/// Reads a body to its end, over its waits.
fn drain<B: Body<Data = Bytes, Error: std::fmt::Debug>>(mut body: Pin<&mut B>) {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match body.as_mut().poll_frame(&mut cx) {
            Poll::Pending => {}
            Poll::Ready(None) => return,
            Poll::Ready(Some(frame)) => {
                black_box(frame.expect("well formed"));
            }
        }
    }
}

/// How many bytes are scanned, four at a time.
const SCANNED: usize = 64 << 10;
const ARGUMENT: &str = "    let total = items.iter().map(|item| item.price * item.count).sum();\n";
const PROSE: &str = "The function reads the file, counts its lines and gives back what it found. ";
const MARKUP: &str = "Use `a < b`, <b>bold</b>, <tool_call> or <function=x> and a <read> tag.\n";

fn scan(text: &str) {
    let mut all: String = text.chars().cycle().take(SCANNED).collect();
    if text == ARGUMENT {
        let head = "<tool_call>\n<function=write_file>\n<parameter=content>\n";
        all.replace_range(..head.len(), head);
    }
    let tool = FunctionTool::new(
        "write_file",
        json!({"type": "object", "properties": {
            "content": {"type": "string"},
        }}),
    );
    let tools = Toolset::new(std::sync::Arc::new(vec![Tool::Function(tool)]));
    let text = Shared::from(all);
    let mut scanner = Scanner::new(tools);
    counted(&mut || {
        for at in (0..SCANNED).step_by(4) {
            scanner.push(text.slice(at..at + 4));
            while let Some(item) = scanner.pop() {
                black_box(item);
            }
        }
    });
}

fn web_events(text: stack::Text, waits: bool) {
    let events = stack::events(text, EVENTS);
    let mut body = pin!(stack::answer(stack::pieces(&events, None), waits));
    counted(&mut || drain(body.as_mut()));
}

/// Deltas of servers, as each of them writes one.
const COMPATIBLE: [(&str, &str); 4] = [
    (
        "vLLM",
        r#"{"id":"chatcmpl-7","object":"chat.completion.chunk","created":1790000000,"model":"qwen","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
    ),
    (
        "DashScope",
        r#"{"choices":[{"delta":{"content":" word"},"finish_reason":null,"index":0,"logprobs":null}],"object":"chat.completion.chunk","usage":null,"created":1790000000,"system_fingerprint":null,"model":"qwen-plus","id":"chatcmpl-7"}"#,
    ),
    (
        "Ollama",
        r#"{"id":"chatcmpl-7","object":"chat.completion.chunk","created":1790000000,"model":"qwen","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":" word"},"finish_reason":null}]}"#,
    ),
    (
        "llama.cpp",
        r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"content":" word"}}],"created":1790000000,"id":"chatcmpl-7","model":"qwen","system_fingerprint":"b5","object":"chat.completion.chunk"}"#,
    ),
];
const COMPATIBLE_END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// An upstream that answers with copies of its pieces.
fn wire(all: Vec<Bytes>, kind: &'static str) -> Upstream<Bytes> {
    Upstream { all: all.into(), kind }
}

fn compatible_events(delta: &str) {
    let piece = |text: String| bytes::BytesMut::from(text.as_bytes()).split().freeze();
    let mut all: Vec<_> = (0..EVENTS).map(|_| piece(format!("data: {delta}\n\n"))).collect();
    all.push(piece(COMPATIBLE_END.to_owned()));
    let mut stack = ServiceBuilder::new()
        .layer(OpenAiLayer::new().keep_alive(None))
        .layer(ToolCallLayer::native_with_rescue())
        .layer(CompatibleLayer::new(Server::Generic))
        .service(wire(all, "text/event-stream"));
    let request = asks("/v1/chat/completions", true);
    let Ok(response) = now(stack.call(request));
    assert!(response.status().is_success());
    let mut body = pin!(response.into_body());
    counted(&mut || drain(body.as_mut()));
}

/// A small request of an edge.
fn asks(path: &str, streams: bool) -> Request<FullBody> {
    let body = json!({
        "model": "qwen3-max", "max_tokens": 9, "stream": streams, "input": "Hello",
        "messages": [{"role": "user", "content": "Hello"}],
    });
    let request = Request::post(path).header(CONTENT_TYPE, "application/json");
    request.body(FullBody::new(body.to_string().into())).expect("a request")
}

/// A service that says words.
fn said() -> Upstream<ChatEvent> {
    let upstream = ready::answer(|word| ChatEvent::Text(word.into()));
    let words = upstream.all.iter().filter(|event| matches!(event, ChatEvent::Text(_)));
    let words = words.take(EVENTS - 2).cloned();
    let end = [ChatEvent::Usage(Usage::new(9, 9)), ChatEvent::Finished(FinishReason::Stop)];
    Upstream { all: words.chain(end).collect(), kind: upstream.kind }
}

fn write<L, B>(edge: &L)
where
    L: Layer<Upstream<ChatEvent>>,
    L::Service: Service<Request<FullBody>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let mut body = None;
    let Ok(response) = now(edge.layer(said()).call(asks("/", true)));
    assert!(response.status().is_success(), "{}", response.status());
    let body = body.insert(Box::pin(response.into_body()));
    counted(&mut || drain(body.as_mut()));
}

/// Sends the same request again and again, and reads each answer.
fn requests<S, B>(mut stack: S, request: fn() -> Request<FullBody>)
where
    S: Service<Request<FullBody>, Response = Response<B>, Error: std::fmt::Debug>,
    B: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let mut all: Vec<_> = (0..REQUESTS).map(|_| request()).collect();
    // What the first one brings that is kept.
    for _ in 0..2 {
        drain(pin!(now(stack.call(request())).expect("an answer").into_body()));
    }
    counted(&mut || {
        for request in all.drain(..) {
            let response = now(stack.call(request)).expect("an answer");
            drain(pin!(response.into_body()));
        }
    });
}

const WHOLE: &str = r#"{"id":"chatcmpl-7","object":"chat.completion","created":1790000000,"model":"qwen","choices":[{"index":0,"message":{"role":"assistant","content":"word"},"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":36,"completion_tokens":2,"total_tokens":38}}"#;

fn lane_requests() {
    let stack = SseReframeLayer::new().layer(wire(vec![WHOLE.into()], "application/json"));
    requests(stack, || asks("/v1/chat/completions", false));
}

fn compatible_requests() {
    let stack = ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(ToolCallLayer::native_with_rescue())
        .layer(TimeoutLayer::hosted())
        .layer(CompatibleLayer::new(Server::Generic))
        .service(wire(vec![WHOLE.into()], "application/json"));
    requests(stack, || asks("/v1/chat/completions", false));
}

fn web_requests() {
    let pieces = stack::pieces(&stack::events(stack::Text::Prose, 1), None);
    let stack = ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(DedupLayer::new())
        .layer(ToolCallLayer::prompted())
        .layer(TimeoutLayer::hosted())
        .layer(QwenWebLayer::new().stop_on_drop(false))
        .service(stack::Wire { pieces, waits: false });
    requests(stack, || asks("/v1/chat/completions", false));
}

const TENANT: Tenant = Tenant::from_digest([9; 32]);

fn chat() -> Request<ChatRequest> {
    let mut chat = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
    chat.tenant = Some(TENANT);
    Request::builder().header("x-request-id", "00000000").body(chat).expect("a request")
}

fn layer_requests<L, B>(layer: L)
where
    L: Layer<Upstream<ChatEvent>>,
    L::Service: Service<Request<ChatRequest>, Response = Response<B>, Error = Error>,
{
    let mut service = layer.layer(said());
    let mut all: Vec<_> = (0..REQUESTS).map(|_| chat()).collect();
    drop(exchange(&mut service, chat()));
    // What the layer makes is dropped with it, as it would be.
    counted(&mut || all.drain(..).for_each(|request| drop(exchange(&mut service, request))));
}

fn layer_events<L, B>(layer: L)
where
    L: Layer<Upstream<ChatEvent>>,
    L::Service: Service<Request<ChatRequest>, Response = Response<B>, Error = Error>,
    B: Stream<Item = Result<ChatEvent, Error>>,
{
    let mut answer = pin!(exchange(&mut layer.layer(said()), chat()).into_body());
    counted(&mut || {
        while let Some(event) = next(answer.as_mut()) {
            black_box(event.expect("nothing fails here"));
        }
    });
}

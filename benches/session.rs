//! What a history of 1 MiB in 200 messages costs the session and dedup layers, beside a typed
//! parse and serialisation of the same body by `serde_json` in the same run; and what an event of
//! an answer costs.
//!
//! The budget: parsing, hashing, dedup and encoding together at most twice the twin.
//! It is dearest when nothing is known of the history: then all of it is written into one message
//! for upstream. The ratios printed are of the best of many turns that both take by
//! turns: what else the machine does only adds.

#![allow(clippy::print_stdout, reason = "a bench reports")]

use std::{
    future::{Future, Ready, ready},
    hint::black_box,
    ops::RangeInclusive,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::stream::{Empty, empty};
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::Body;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower::{Layer, Service, ServiceBuilder};
use tower_qwen::{
    Error, FullBody,
    chat::{ChatEvent, ChatRequest, Conversation, Tenant},
    dedup::DedupLayer,
    openai::decode,
    qwen::web::QwenWebLayer,
    session::{MemoryStore, Record, SessionLayer, SessionStore, internals::KeyChain},
    tool::call::ToolCallLayer,
};

const TENANT: Tenant = Tenant::from_digest([7; 32]);

/// The body that the official clients serialise, and the least that a typed twin keeps of it.
#[derive(Serialize, Deserialize)]
struct TwinRequest {
    model: String,
    messages: Vec<TwinMessage>,
}

#[derive(Serialize, Deserialize)]
struct TwinMessage {
    role: String,
    content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<TwinCall>,
}

#[derive(Serialize, Deserialize)]
struct TwinCall {
    id: String,
    r#type: String,
    function: TwinFunction,
}

#[derive(Serialize, Deserialize)]
struct TwinFunction {
    name: String,
    arguments: String,
}

/// 200 messages of an agent: system, then question, call, result, answer, over and over.
fn body() -> Bytes {
    const LINE: &str =
        "    let answer = \"the value of line\" + compute(a, b); // é and a tab\t|\n";
    let text = |bytes: usize| LINE.repeat(bytes / LINE.len() + 1);
    let mut messages = vec![json!({"role": "system", "content": text(4_000)})];
    for turn in 0.. {
        if messages.len() >= 199 {
            break;
        }
        let id = format!("call_{turn}");
        let arguments = json!({"path": format!("src/{turn}.rs"), "content": text(6_000), "lines": [1, 2.5, null]});
        messages
            .push(json!({"role": "user", "content": format!("question {turn}: {}", text(2_000))}));
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": id, "type": "function",
             "function": {"name": "write_file", "arguments": arguments.to_string()}}]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": text(7_000)}));
        messages.push(json!({"role": "assistant", "content": text(4_500)}));
    }
    messages.truncate(199);
    messages.push(json!({"role": "user", "content": "and now?"}));
    let body = json!({"model": "qwen3-max", "messages": messages});
    serde_json::to_vec(&body).expect("JSON").into()
}

/// The request that the edge makes of `body`.
fn decoded(body: &Bytes) -> ChatRequest {
    let mut chat = decode(body).expect("a request").chat;
    chat.tenant = Some(TENANT);
    chat
}

/// Takes what dedup leaves and answers nothing.
#[derive(Clone)]
struct Upstream;

impl Service<Request<ChatRequest>> for Upstream {
    type Response = Response<Empty<Result<ChatEvent, Error>>>;
    type Error = Error;
    type Future = Ready<Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        assert_eq!(black_box(&request).body().history.len(), 1, "only what is new");
        ready(Ok(Response::new(empty())))
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("waits for nothing"),
    }
}

/// The HTTP service below: opens chats, takes turns and answers with a word.
#[derive(Clone)]
struct Wire {
    /// How long the body of a turn is.
    length: RangeInclusive<u64>,
}

impl Service<Request<FullBody>> for Wire {
    type Response = Response<FullBody>;
    type Error = Error;
    type Future = Ready<Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<FullBody>) -> Self::Future {
        let (kind, answer) = if request.uri().path().ends_with("/new") {
            ("application/json", r#"{"success":true,"request_id":"q","data":{"id":"c-1"}}"#)
        } else {
            let length = black_box(&request).body().size_hint().exact().expect("known");
            assert!(self.length.contains(&length), "{length} bytes are not what is to be sent");
            (
                "text/event-stream",
                "data: {\"response.created\":{\"chat_id\": \"c-1\", \"parent_id\": \"u-1\", \
                 \"response_id\":\"r-1\"}}\n\n\
                 data: {\"choices\": [{\"delta\": {\"role\": \"assistant\", \"content\": \"Yes\", \
                 \"phase\": \"answer\", \"status\": \"typing\"}}]}\n\n",
            )
        };
        let response = Response::builder().header(CONTENT_TYPE, kind);
        ready(Ok(response.body(FullBody::from(answer)).expect("a response")))
    }
}

/// Sends one request, and drops the answer.
fn send<S, B>(stack: &mut S, chat: ChatRequest)
where
    S: Service<Request<ChatRequest>, Response = Response<B>, Error = Error>,
{
    assert!(stack.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    drop(now(stack.call(Request::new(chat))).expect("answered"));
}

/// Prints how long `ours` takes beside `twin`.
fn ratio<T>(name: &str, mut twin: impl FnMut() -> T, mut ours: impl FnMut()) {
    let mut best = [Duration::MAX; 2];
    for _ in 0..300 {
        let begun = Instant::now();
        black_box(twin());
        best[0] = best[0].min(begun.elapsed());
        let begun = Instant::now();
        ours();
        best[1] = best[1].min(begun.elapsed());
    }
    let [twin, ours] = best;
    let ratio = ours.as_secs_f64() / twin.as_secs_f64();
    let verdict = if ratio <= 2.0 { "within" } else { "beyond" };
    println!("{name}: {ours:.2?} beside {twin:.2?} of the twin: {ratio:.2} ×, {verdict} 2 ×");
}

fn history(criterion: &mut Criterion) {
    let body = body();
    let chat = decoded(&body);
    assert_eq!(chat.history.len(), 200);

    // The conversation is known up to the last answer, as in every turn but the first.
    let store = MemoryStore::default();
    let mut chain = KeyChain::new(&TENANT, &chat);
    chat.history.iter().take(199).for_each(|message| chain.push(message));
    let place = Conversation::new("chat").with_parent("answer");
    let records = [(chain.key(), Record::new(&TENANT, place))];
    now(store.record_all(&records, None)).expect("memory");
    let layer = SessionLayer::new(store);
    let mut stack = layer.clone().layer(DedupLayer::new().layer(Upstream));
    let mut through = |chat| send(&mut stack, chat);

    // The same history, of which nothing is known: what upstream gets is all of it. Outside of a
    // runtime large requests are worked on where they are, so all of the work counts.
    let wire = Wire { length: body.len() as u64 / 2..=u64::MAX };
    let edge = ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(DedupLayer::new());
    let web = QwenWebLayer::new().stop_on_drop(false);
    let mut stack = ServiceBuilder::new()
        .layer(layer)
        .layer(DedupLayer::new())
        .layer(ToolCallLayer::prompted())
        .layer(web.clone())
        .service(Wire { length: 1..=4096 });
    let mut go_on = |chat| send(&mut stack, chat);
    let mut stack = edge.clone().layer(web.clone()).service(wire.clone());
    let mut replay = |chat| send(&mut stack, chat);
    let mut stack = edge.layer(ToolCallLayer::prompted()).layer(web).service(wire);
    let mut replay_with_tools = |chat| send(&mut stack, chat);

    let twin = || {
        let request: TwinRequest = serde_json::from_slice(&body).expect("JSON");
        serde_json::to_vec(&request).expect("JSON")
    };
    let mut group = criterion.benchmark_group("history of 1 MiB, 200 messages");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("twin: serde_json typed parse and serialise", |bencher| {
        bencher.iter(twin);
    });
    group.bench_function("key chain", |bencher| {
        bencher.iter(|| {
            let mut chain = KeyChain::new(&TENANT, &chat);
            chat.history.iter().for_each(|message| chain.push(message));
            chain.key()
        });
    });
    group.bench_function("session and dedup layers", |bencher| {
        bencher.iter(|| through(chat.clone()));
    });
    group.bench_function("decode, session and dedup layers", |bencher| {
        bencher.iter(|| through(decoded(&body)));
    });
    group.bench_function("decode, session, dedup and encode", |bencher| {
        bencher.iter(|| replay(decoded(&body)));
    });
    group.bench_function("decode, session, dedup, tools and encode", |bencher| {
        bencher.iter(|| replay_with_tools(decoded(&body)));
    });
    group.finish();

    ratio("known history", twin, || through(decoded(&body)));
    ratio("known history, the rest encoded", twin, || {
        go_on(decoded(&body));
    });
    ratio("unknown history, encoded whole", twin, || replay(decoded(&body)));
    ratio("unknown history, calls written as text, encoded whole", twin, || {
        replay_with_tools(decoded(&body));
    });
}

fn answer(criterion: &mut Criterion) {
    let words =
        ["The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", ".\n"];
    let events: Vec<ChatEvent> = words.iter().map(|word| ChatEvent::Text((*word).into())).collect();
    let chain = KeyChain::new(&TENANT, &ChatRequest::new("m", []));
    let mut group = criterion.benchmark_group("answer");
    group.throughput(Throughput::Elements(events.len() as u64));
    group.bench_function("hash an event", |bencher| {
        let mut answer = chain.clone().answer();
        bencher.iter(|| events.iter().for_each(|event| answer.push(black_box(event))));
    });
    group.finish();
}

criterion_group!(benches, history, answer);
criterion_main!(benches);

//! What a history of 1 MiB in 200 messages costs the session and dedup layers, beside a typed
//! parse and serialisation of the same body by `serde_json` in the same run; and what an event of
//! an answer costs. The budget: parsing, hashing, dedup and encoding together at most twice
//! the twin.

use std::{
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::stream::{Empty, empty};
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower::{Layer, Service};
use tower_qwen::{
    Error,
    chat::{ChatEvent, ChatRequest, Conversation},
    dedup::DedupLayer,
    openai::decode,
    session::{KeyChain, MemoryStore, Record, SessionLayer, SessionStore},
};

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
        assert_eq!(black_box(&request).body().messages.len(), 1, "only what is new");
        ready(Ok(Response::new(empty())))
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("waits for nothing"),
    }
}

fn history(criterion: &mut Criterion) {
    let body = body();
    let chat = decode(&body).expect("a request");
    assert_eq!(chat.messages.len(), 200);

    // The conversation is known up to the last answer, as in every turn but the first.
    let store = MemoryStore::default();
    let mut chain = KeyChain::new(&chat);
    chat.messages[..199].iter().for_each(|message| chain.push(message));
    let place = Conversation::new("chat").with_parent("answer");
    let records = [(chain.key(), Record::new(&chat.tenant, place))];
    now(store.record(&records, None)).expect("memory");
    let layer = SessionLayer::new(store);
    let mut stack = layer.layer(DedupLayer::new().layer(Upstream));
    let mut through = |chat: ChatRequest| {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(stack.poll_ready(&mut cx).is_ready());
        now(stack.call(Request::new(chat))).expect("answered")
    };

    let mut group = criterion.benchmark_group("history of 1 MiB, 200 messages");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("twin: serde_json typed parse and serialise", |bencher| {
        bencher.iter(|| {
            let request: TwinRequest = serde_json::from_slice(&body).expect("JSON");
            serde_json::to_vec(&request).expect("JSON")
        });
    });
    group.bench_function("key chain", |bencher| {
        bencher.iter(|| {
            let mut chain = KeyChain::new(&chat);
            chat.messages.iter().for_each(|message| chain.push(message));
            chain.key()
        });
    });
    group.bench_function("session and dedup layers", |bencher| {
        bencher.iter(|| through(chat.clone()));
    });
    group.bench_function("decode, session and dedup layers", |bencher| {
        bencher.iter(|| through(decode(&body).expect("a request")));
    });
    group.finish();
}

fn answer(criterion: &mut Criterion) {
    let words =
        ["The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", ".\n"];
    let events: Vec<ChatEvent> = words.iter().map(|word| ChatEvent::Text((*word).into())).collect();
    let chain = KeyChain::new(&ChatRequest::new("m", vec![]));
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

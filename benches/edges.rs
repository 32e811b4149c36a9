//! The writer of the Messages edge beside that of the chat edge in the same run: the same events,
//! as each client gets them.
//!
//! The budget: at most 1.3 times the chat edge.

#![allow(clippy::print_stdout, reason = "a bench reports")]

use std::{
    convert::Infallible,
    future::{self, Ready},
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::Stream;
use http::{Request, Response};
use http_body::Body;
use tower::{Layer, Service};
use tower_qwen::{
    Error, FullBody,
    anthropic::AnthropicLayer,
    chat::{ChatEvent, ChatRequest, FinishReason, Usage},
    openai::OpenAiLayer,
};

const EVENTS: usize = 8192;

const BUDGET: f64 = 1.3;

/// An answer whose events come one at a time, with a wait before each or all at once.
struct Events {
    events: std::vec::IntoIter<ChatEvent>,
    waits: bool,
    has_waited: bool,
}

impl Stream for Events {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.waits {
            self.has_waited = !self.has_waited;
            if self.has_waited {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.events.next().map(Ok))
    }
}

#[derive(Clone)]
struct Upstream {
    events: Vec<ChatEvent>,
    waits: bool,
}

impl Service<Request<ChatRequest>> for Upstream {
    type Response = Response<Events>;
    type Error = Error;
    type Future = Ready<Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<ChatRequest>) -> Self::Future {
        let events = self.events.clone().into_iter();
        let events = Events { events, waits: self.waits, has_waited: false };
        future::ready(Ok(Response::new(events)))
    }
}

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing is waited for"),
    }
}

/// The body of an answer.
fn answer<L, B>(edge: &L, upstream: &Upstream) -> B
where
    L: Layer<Upstream>,
    L::Service: Service<Request<FullBody>, Response = Response<B>, Error = Infallible>,
{
    const BODY: &str =
        r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    let request = Request::post("/").body(FullBody::new(Bytes::from(BODY))).expect("a request");
    let Ok(response) = now(edge.layer(upstream.clone()).call(request));
    response.into_body()
}

/// Reads an answer to its end; how many bytes it was.
fn drain<B: Body<Data = Bytes, Error = Infallible>>(body: B) -> usize {
    let mut body = pin!(body);
    let mut bytes = 0;
    loop {
        match body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => {}
            Poll::Ready(None) => return bytes,
            Poll::Ready(Some(Ok(frame))) => {
                bytes += black_box(frame).into_data().map_or(0, |data| data.len());
            }
        }
    }
}

/// The pieces of an answer, which says one thing again and again.
fn events(shape: &str) -> Vec<ChatEvent> {
    const WORDS: [&str; 8] = ["The ", "tower ", "of ", "\"Babel\"", ", ", "千问", " is", "\n\n"];
    const JSON: [&str; 8] = ["word", " and", " \\\"", "more", "\\n", "  let", " x", " = 1;"];
    let mut events = Vec::with_capacity(EVENTS + 3);
    let piece = |at: usize| WORDS[at % WORDS.len()].into();
    match shape {
        "prose" => events.extend((0..EVENTS).map(|at| ChatEvent::Text(piece(at)))),
        "thinking" => events.extend((0..EVENTS).map(|at| ChatEvent::Reasoning(piece(at)))),
        _ => {
            events.push(ChatEvent::ToolCall {
                index: 0,
                id: "call_0".into(),
                name: "Write".into(),
            });
            let json = |json: &str| ChatEvent::ToolArguments { index: 0, json: json.into() };
            events.push(json("{\"path\":\"a.rs\",\"text\":\""));
            events.extend((0..EVENTS).map(|at| json(JSON[at % JSON.len()])));
            events.push(json("\"}"));
        }
    }
    events.push(ChatEvent::Usage(Usage::new(1033, 8192)));
    events.push(ChatEvent::Finished(FinishReason::Stop));
    events
}

fn edges(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _guard = runtime.enter();
    // The timers of silence cost both the same.
    let chat = OpenAiLayer::new().keep_alive(None);
    let messages = AnthropicLayer::new().keep_alive(None);

    for shape in ["prose", "thinking", "arguments of a call"] {
        for waits in [true, false] {
            let upstream = Upstream { events: events(shape), waits };
            // The best of many turns that both take by turns: what else the machine does only adds.
            let mut best = [Duration::MAX; 2];
            for _ in 0..200 {
                let body = answer(&chat, &upstream);
                let begun = Instant::now();
                black_box(drain(body));
                best[0] = best[0].min(begun.elapsed());
                let body = answer(&messages, &upstream);
                let begun = Instant::now();
                black_box(drain(body));
                best[1] = best[1].min(begun.elapsed());
            }
            #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
            let [twin, ours] = best.map(|best| best.as_secs_f64() * 1e9 / EVENTS as f64);
            let ratio = ours / twin;
            let verdict = if ratio <= BUDGET { "within" } else { "beyond" };
            let name = format!("{shape}{}", if waits { ", a wait an event" } else { "" });
            println!(
                "{name:<38} {ours:6.0} ns an event beside {twin:6.0} ns of the chat edge: \
                 {ratio:.2} ×, {verdict} {BUDGET} ×"
            );

            let mut group = criterion.benchmark_group(format!("edges/{name}"));
            group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(20);
            group.bench_function("twin: the chat edge", |bencher| {
                bencher.iter_batched(|| answer(&chat, &upstream), drain, BatchSize::LargeInput);
            });
            group.bench_function("the Messages edge", |bencher| {
                bencher.iter_batched(|| answer(&messages, &upstream), drain, BatchSize::LargeInput);
            });
            group.finish();
        }
    }
}

criterion_group!(benches, edges);
criterion_main!(benches);

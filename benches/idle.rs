//! What a layer costs that has nothing to do, per request and per event, beside the same service
//! without it in the same run. The budget: 100 ns a request, 20 ns an event.
//!
//! Six of them always have something to do and are here all the same, so that it is known what
//! that is. The session layer hashes every history and every answer, for the next turn may go on
//! from there; a line of its own shows what it costs beside these hashes. The wrapping layer looks
//! for tags in all text (its events of reasoning are idle). The resuming layer keeps the request, and
//! what is said. The joining layer keeps what is said for
//! who repeats the request, and finds that by a digest. The layer of usage settles every request, and
//! reads the clock for that. The reframing layer checks every byte of an event stream (bodies of
//! another type are idle).

#![allow(clippy::print_stdout, reason = "a bench reports")]

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_util::Stream;
use http::{Request, Response};
use http_body::Body;
use tower::{Layer, Service};
use tower_qwen::{
    Error,
    chat::{ChatEvent, ChatRequest, Conversation, Message, Role, Tenant},
    dedup::DedupLayer,
    fallback::FallbackLayer,
    format::FormatLayer,
    inspect::InspectLayer,
    join::JoinLayer,
    resume::ResumeLayer,
    session::{MemoryStore, SessionLayer, internals::KeyChain},
    sse::reframe::SseReframeLayer,
    timeout::TimeoutLayer,
    tool::{call::ToolCallLayer, wrap::ToolWrapLayer},
    usage::UsageLayer,
};

mod ready;
#[allow(dead_code, reason = "other benches use more of it")]
mod streams;
use ready::{Copies, Upstream, answer, exchange, next};
use streams::shapes;

const TENANT: Tenant = Tenant::from_digest([9; 32]);

const REQUEST_BUDGET: f64 = 100.0;
const EVENT_BUDGET: f64 = 20.0;

/// Reads an answer to its end; how many items it had.
trait Drain {
    fn drain(self) -> usize;
}

/// An answer of chat events.
struct Events<S>(S);

impl<S: Stream<Item = Result<ChatEvent, Error>>> Drain for Events<S> {
    fn drain(self) -> usize {
        let mut events = pin!(self.0);
        let mut count = 0;
        while let Some(event) = next(events.as_mut()) {
            black_box(event.expect("nothing fails here"));
            count += 1;
        }
        count
    }
}

/// An answer of bytes.
struct Frames<S>(S);

impl<S: Body<Data = Bytes, Error: std::fmt::Debug>> Drain for Frames<S> {
    fn drain(self) -> usize {
        let mut frames = pin!(self.0);
        let mut cx = Context::from_waker(Waker::noop());
        let mut count = 0;
        while let Poll::Ready(Some(frame)) = frames.as_mut().poll_frame(&mut cx) {
            black_box(frame.expect("nothing fails here"));
            count += 1;
        }
        count
    }
}

/// Two works of the same number of steps: the best of many turns, a step, with the turns of both
/// taken by turns.
fn compare<I, J>(
    name: &str,
    budget: f64,
    steps: usize,
    rounds: usize,
    mut plain: (impl FnMut() -> I, impl FnMut(I)),
    mut with: (impl FnMut() -> J, impl FnMut(J)),
) {
    let mut best = [Duration::MAX; 2];
    for _ in 0..rounds {
        let input = plain.0();
        let begun = Instant::now();
        plain.1(input);
        best[0] = best[0].min(begun.elapsed());
        let input = with.0();
        let begun = Instant::now();
        with.1(input);
        best[1] = best[1].min(begun.elapsed());
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let [plain, with] = best.map(|best| best.as_secs_f64() * 1e9 / steps as f64);
    let more = with - plain;
    let verdict = if more <= budget { "within" } else { "beyond" };
    println!(
        "{name:<52} {plain:7.1} ns without, {with:7.1} ns with: {more:7.1} ns more, {verdict} {budget} ns"
    );
}

/// Hashes a history and no more: what a session cannot do without.
#[derive(Clone)]
struct Hashes<S>(S);

impl<S: Service<Request<ChatRequest>>> Service<Request<ChatRequest>> for Hashes<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ChatRequest>) -> S::Future {
        let mut chain = KeyChain::new(&TENANT, request.body());
        request.body().history.iter().for_each(|message| chain.push(message));
        black_box(chain.answer());
        self.0.call(request)
    }
}

fn requests<P, S, B: Clone>(
    criterion: &mut Criterion,
    name: &str,
    mut plain: P,
    mut with: S,
    request: &Request<B>,
) where
    P: Service<Request<B>, Error = Error>,
    S: Service<Request<B>, Error = Error>,
{
    const ROUND: usize = 1000;
    let some = || (0..ROUND).map(|_| request.clone()).collect::<Vec<_>>();
    // What the layer makes is dropped with it, as it would be.
    compare(
        &format!("{name}, a request"),
        REQUEST_BUDGET,
        ROUND,
        300,
        (some, |some: Vec<_>| some.into_iter().for_each(|it| drop(exchange(&mut plain, it)))),
        (some, |some: Vec<_>| some.into_iter().for_each(|it| drop(exchange(&mut with, it)))),
    );
    let mut group = criterion.benchmark_group("idle/request");
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || request.clone(),
            // A response that is kept would keep the lease of its chat.
            |request| drop(exchange(&mut with, request)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn answers<T, S, B: Clone, D: Drain, E: Drain>(
    name: &str,
    upstream: Upstream<T>,
    mut with: S,
    request: &Request<B>,
    of_plain: fn(Response<Copies<T>>) -> D,
    of_layer: fn(S::Response) -> E,
) where
    S: Service<Request<B>, Error = Error>,
{
    let mut plain = upstream;
    let steps = plain.all.len();
    // A wrapped answer has a completion behind it.
    let check = |count: usize| assert!((steps..2 * steps).contains(&count), "{name}: {count}");
    compare(
        &format!("{name}, an event"),
        EVENT_BUDGET,
        steps,
        200,
        (|| exchange(&mut plain, request.clone()), |it| check(of_plain(it).drain())),
        (|| exchange(&mut with, request.clone()), |it| check(of_layer(it).drain())),
    );
}

fn chat(conversation: Option<Conversation>) -> Request<ChatRequest> {
    let mut chat = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
    chat.tenant = Some(TENANT);
    if let Some(conversation) = conversation {
        chat.destination = conversation.into();
    }
    Request::builder().header("x-request-id", "00000000").body(chat).expect("a request")
}

fn sessions() -> SessionLayer {
    SessionLayer::new(MemoryStore::default())
}

fn benches(criterion: &mut Criterion) {
    // Who gives others their turn looks at the clock then.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _guard = runtime.enter();
    let text = answer(|word| ChatEvent::Text(word.into()));
    let reasoning = answer(|word| ChatEvent::Reasoning(word.into()));
    let first = chat(None);
    let mut nobodys = first.clone();
    nobodys.body_mut().tenant = None;
    let own = chat(Some(Conversation::new("chat").with_parent("p").with_account("a")));

    macro_rules! chat {
        ($name:literal, $layer:expr, $request:expr, $upstream:expr) => {
            let with = || $layer.layer($upstream.clone());
            requests(criterion, $name, $upstream.clone(), with(), $request);
            answers(
                $name,
                $upstream.clone(),
                with(),
                $request,
                |response| Events(response.into_body()),
                |response| Events(response.into_body()),
            );
        };
    }
    chat!("timeout", TimeoutLayer::hosted(), &first, text);
    chat!("usage (settles)", UsageLayer::new(drop), &first, text);
    chat!("fallback", FallbackLayer::new("a").to("b", text.clone()), &first, text);
    chat!("join, no tenant", JoinLayer::new(), &nobodys, text);
    chat!("join (digest, and keeps what is said)", JoinLayer::new(), &first, text);
    chat!("format, none asked for", FormatLayer::new(), &first, text);
    chat!("inspect, nobody listens", InspectLayer::new("here"), &first, text);
    chat!("resume, off", ResumeLayer::new().tries(0), &first, text);
    chat!("resume (keeps what is said)", ResumeLayer::new(), &first, text);
    chat!("dedup, no conversation", DedupLayer::new(), &first, text);
    chat!("dedup, nothing seen", DedupLayer::new(), &own, text);
    chat!("tool calls, no tools", ToolCallLayer::prompted(), &first, text);
    chat!("tool calls of upstream, no tools", ToolCallLayer::native(), &first, text);
    chat!("tool wrap, reasoning", ToolWrapLayer::new(), &first, reasoning);
    chat!("tool wrap, text (not idle)", ToolWrapLayer::new(), &first, text);
    chat!("session, first turn (hashes)", sessions(), &first, text);
    let (hashes, with) = (Hashes(text.clone()), sessions().layer(text.clone()));
    requests(criterion, "session, first turn, beside its hashes", hashes, with, &first);
    chat!("session, the client's chat (hashes)", sessions(), &own, text);
    // What each hashes of a longer history, which is not the same.
    let mut long = first.clone();
    for index in 0..32 {
        let role = if index % 2 == 0 { Role::Assistant } else { Role::User };
        long.body_mut().history.push(Message::new(role, "All work and no play. ".repeat(46)));
    }
    requests(
        criterion,
        "join, 32 KiB (digest)",
        text.clone(),
        JoinLayer::new().layer(text.clone()),
        &long,
    );
    requests(
        criterion,
        "session, 32 KiB (hashes)",
        text.clone(),
        sessions().layer(text.clone()),
        &long,
    );
    requests(criterion, "hashes of 32 KiB alone", text.clone(), Hashes(text.clone()), &long);

    let aligned = shapes().into_iter().find(|shape| shape.name == "aligned").expect("a shape");
    let request = Request::new(Bytes::new());
    for (name, kind) in [
        ("reframe, another body", "application/json"),
        ("reframe, aligned (checks every byte)", "text/event-stream"),
    ] {
        let frames = Upstream::<Bytes> { all: aligned.pieces.clone().into(), kind };
        let with = || SseReframeLayer::new().layer(frames.clone());
        requests(criterion, name, frames.clone(), with(), &request);
        answers(
            name,
            frames.clone(),
            with(),
            &request,
            |response| Frames(response.into_body()),
            |response| Frames(response.into_body()),
        );
    }
}

criterion_group!(idle, benches);
criterion_main!(idle);

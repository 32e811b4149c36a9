//! `UsageLayer`: what is told of a request, and that it is told once, however it ends.

#[path = "messages/events.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod events;
mod traced;

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use events::Item;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http::{Request, Response};
use proptest::prelude::*;
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, Fate,
    chat::{
        Answer, ChatEvent, ChatRequest, ChatStreamExt, FinishReason, Message, Role, Tenant, Usage,
    },
    fallback::FallbackLayer,
    join::JoinLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    usage::{Counted, Outcome, Settlement, UsageLayer},
};
use tower_qwen_emulator::{Emulator, Kind};

const ANN: Tenant = Tenant::from_digest([1; 32]);
const STEP: Duration = Duration::from_millis(100);
const STOP: Outcome = Outcome::Finished(FinishReason::Stop);

/// What was settled.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<Settlement>>>);

impl Book {
    fn layer(&self) -> UsageLayer {
        traced::on();
        let book = self.clone();
        UsageLayer::new(move |settlement| {
            book.0.lock().expect("not poisoned").push(settlement);
        })
    }

    fn all(&self) -> Vec<Settlement> {
        std::mem::take(&mut *self.0.lock().expect("not poisoned"))
    }

    /// The one that there is.
    fn one(&self) -> Settlement {
        let mut all = self.all();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

fn ask(text: &str) -> Request<ChatRequest> {
    let mut chat = ChatRequest::new("m", [Message::new(Role::User, text.to_owned())]);
    chat.tenant = Some(ANN);
    Request::new(chat)
}

/// A service that answers with these items, one each step, after a step.
fn saying(
    items: Vec<Item>,
) -> impl Service<
    Request<ChatRequest>,
    Response = Response<impl Stream<Item = Item> + Send + use<>>,
    Error = Error,
    Future: Send,
> + Clone {
    let items = Arc::new(items);
    service_fn(move |_| {
        let items = Arc::clone(&items);
        async move {
            sleep(STEP).await;
            Ok::<_, Error>(Response::new(stream::unfold(0, move |at| {
                let item = items.get(at).map(again);
                async move {
                    let item = item?;
                    sleep(STEP).await;
                    Some((item, at + 1))
                }
            })))
        }
    })
}

fn again(item: &Item) -> Item {
    match item {
        Ok(event) => Ok(event.clone()),
        Err(error) => Err(failure(error.kind(), error.fate())),
    }
}

fn failure(kind: ErrorKind, fate: Fate) -> Error {
    Error::new(kind, "it failed").with_fate(fate)
}

fn text(text: &'static str) -> Item {
    Ok(ChatEvent::Text(text.into()))
}

fn usage(prompt: u64, completion: u64) -> Item {
    Ok(ChatEvent::Usage(Usage::new(prompt, completion)))
}

fn finished() -> Item {
    Ok(ChatEvent::Finished(FinishReason::Stop))
}

/// Takes `count` items of an answer with `items`, and lets it go; what was settled.
async fn taken(items: Vec<Item>, count: usize) -> Settlement {
    let book = Book::default();
    let service = book.layer().layer(saying(items));
    let response = service.oneshot(ask("Hello")).await.expect("an answer");
    let mut answer = Box::pin(response.into_body());
    for _ in 0..count {
        assert!(book.0.lock().expect("not poisoned").is_empty(), "nothing is settled early");
        let _ = answer.next().await;
    }
    drop(answer);
    book.one()
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_settled_as_it_ends() {
    let broken = || Err(failure(ErrorKind::Upstream, Fate::Unknown));
    let failed = |kind| Outcome::Failed(kind);
    let upstream = |prompt, completion| (Usage::new(prompt, completion), Counted::Upstream);
    // "Hello" is two tokens by its length, and what stands around it and the answer eleven.
    let estimated = |completion| (Usage::new(13, completion), Counted::Estimated);
    for (what, items, count, outcome, counted) in [
        ("to the end", vec![text("a"), usage(5, 1), finished()], 4, STOP, upstream(5, 1)),
        ("counts last", vec![text("a"), finished(), usage(5, 2)], 4, STOP, upstream(5, 2)),
        (
            "last counts stand",
            vec![usage(5, 1), text("a"), usage(5, 9), finished()],
            5,
            STOP,
            upstream(5, 9),
        ),
        ("nobody counts", vec![text("abcdefgh"), finished()], 3, STOP, estimated(2)),
        ("left behind the end", vec![text("a"), finished(), usage(5, 2)], 2, STOP, estimated(1)),
        ("left at once", vec![text("a"), finished()], 0, Outcome::Gone, estimated(0)),
        (
            "left in the middle",
            vec![text("abcd"), text("e"), finished()],
            2,
            Outcome::Gone,
            estimated(2),
        ),
        (
            "left, counted so far",
            vec![text("a"), usage(5, 1), text("b"), finished()],
            2,
            Outcome::Gone,
            upstream(5, 1),
        ),
        (
            "left, the prompt is counted",
            vec![usage(5, 0), text("abcd"), finished()],
            2,
            Outcome::Gone,
            (Usage::new(5, 1), Counted::Estimated),
        ),
        ("fails", vec![text("a"), broken()], 2, failed(ErrorKind::Upstream), estimated(1)),
        (
            "fails, counted",
            vec![text("a"), usage(5, 1), broken()],
            3,
            failed(ErrorKind::Upstream),
            upstream(5, 1),
        ),
        ("ends without an end", vec![text("a")], 2, failed(ErrorKind::Truncated), estimated(1)),
        ("fails behind the end", vec![text("a"), finished(), broken()], 3, STOP, estimated(1)),
    ] {
        let settled = taken(items, count).await;
        assert_eq!(settled.outcome, outcome, "{what}");
        assert_eq!((settled.usage, settled.counted), counted, "{what}");
        assert_eq!((settled.tenant, settled.model.as_str()), (Some(ANN), "m"), "{what}");
        assert_eq!(settled.upstream, None, "{what}");
    }
}

/// Thinking and calls are paid for as well.
#[tokio::test(start_paused = true)]
async fn all_that_a_model_says_is_estimated() {
    let call = ChatEvent::ToolCall { index: 0, id: "call_1".into(), name: "read".into() };
    let items = vec![
        Ok(ChatEvent::Reasoning("abcd".into())),
        Ok(call),
        Ok(ChatEvent::ToolArguments { index: 0, json: "{\"a\":1}".into() }),
        Ok(ChatEvent::Finished(FinishReason::ToolCalls)),
    ];
    let settled = taken(items, 5).await;
    assert_eq!(settled.outcome, Outcome::Finished(FinishReason::ToolCalls));
    assert_eq!(settled.usage.completion_tokens, (4 + 4 + 7_u64).div_ceil(4));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_costs_nothing_unless_it_goes_on() {
    for (fate, counted, prompt) in [
        (Fate::Unknown, Counted::Nothing, 0),
        (Fate::Unsent, Counted::Nothing, 0),
        (Fate::Refused, Counted::Nothing, 0),
        (Fate::Abandoned, Counted::Estimated, 13),
    ] {
        let book = Book::default();
        let refusing = service_fn(move |_: Request<ChatRequest>| async move {
            Err::<Response<stream::Empty<Item>>, _>(failure(ErrorKind::Timeout, fate))
        });
        let refused = book.layer().layer(refusing).oneshot(ask("Hello")).await;
        assert!(refused.expect_err("it is refused").is_timeout());
        let settled = book.one();
        assert_eq!(settled.outcome, Outcome::Failed(ErrorKind::Timeout));
        assert_eq!((settled.counted, settled.usage), (counted, Usage::new(prompt, 0)), "{fate:?}");
        assert_eq!(settled.first_event, None);
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_before_the_answer_begins_is_settled() {
    let book = Book::default();
    let service = book.layer().layer(saying(vec![text("a"), finished()]));
    // Polled once, and never.
    for is_polled in [true, false] {
        let mut call = Box::pin(service.clone().oneshot(ask("Hello")));
        if is_polled {
            assert!(call.as_mut().now_or_never().is_none());
        }
        drop(call);
        let all = book.all();
        assert_eq!(all.len(), usize::from(is_polled), "what is not called is not settled");
        assert!(all.iter().all(|settled| settled.outcome == Outcome::Gone));
    }
}

#[tokio::test(start_paused = true)]
async fn the_times_are_those_from_the_call() {
    let items = vec![usage(1, 0), text("a"), usage(1, 1), finished()];
    let settled = taken(items, 5).await;
    // The head, the counts, the text.
    assert_eq!(settled.first_event, Some(3 * STEP));
    assert_eq!(settled.total, 5 * STEP);
}

/// What upstreams count of a model's texts makes the estimates of others of that model better.
#[tokio::test(start_paused = true)]
async fn estimates_learn_from_what_is_counted() {
    const LONG: &str = "abcdefgh";
    let (prompt, said) = (LONG.repeat(400), LONG.repeat(300).leak());
    let book = Book::default();
    let layer = book.layer();
    let counting = layer.clone().layer(saying(vec![text(said), usage(1_600, 1_200), finished()]));
    let silent = layer.layer(saying(vec![text(said), finished()]));
    let ask_of = |service, model: &str| {
        let mut request = ask(&prompt);
        request.body_mut().model = model.to_owned().into();
        let service: tower::util::BoxService<_, Response<_>, Error> = service;
        async move {
            let response = service.oneshot(request).await.expect("an answer");
            Answer::collect(response.into_body()).await.expect("to its end")
        }
    };
    let boxed = |service| tower::util::BoxService::new(service);
    ask_of(boxed(silent.clone()), "m").await;
    let before = book.one().usage;
    assert_eq!((before.prompt_tokens, before.completion_tokens), (811, 600));
    for _ in 0..50 {
        let response = counting.clone().oneshot(ask(&prompt)).await.expect("an answer");
        Answer::collect(response.into_body()).await.expect("its end");
        assert_eq!(book.one().counted, Counted::Upstream);
    }
    ask_of(boxed(silent.clone()), "m").await;
    let after = book.one();
    assert_eq!(after.counted, Counted::Estimated);
    assert!((1_600..1_700).contains(&after.usage.prompt_tokens), "{after:?}");
    assert!((1_200..1_300).contains(&after.usage.completion_tokens), "{after:?}");
    ask_of(boxed(silent), "another").await;
    assert_eq!(book.one().usage, before, "of another model nothing was learnt");
}

/// What `opening` gives goes with its request.
#[tokio::test(start_paused = true)]
async fn what_is_opened_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let layer = {
        let told = Arc::clone(&told);
        UsageLayer::opening(move |request: &Request<ChatRequest>| {
            let (id, told) = (request.headers()["x-id"].clone(), Arc::clone(&told));
            move |settled: Settlement| {
                told.lock().expect("not poisoned").push((id, settled.usage.total_tokens));
            }
        })
    };
    let service = layer.layer(saying(vec![text("a"), usage(5, 2), finished()]));
    let asked = ["one", "two"].map(|id| {
        let mut request = ask("Hello");
        request.headers_mut().insert("x-id", id.parse().expect("a value"));
        let service = service.clone();
        async move {
            let response = service.oneshot(request).await.expect("an answer");
            Answer::collect(response.into_body()).await.expect("its end")
        }
    });
    futures_util::future::join_all(asked).await;
    let mut told = std::mem::take(&mut *told.lock().expect("not poisoned"));
    told.sort_by_key(|(id, _)| id.to_str().expect("a word").to_owned());
    assert_eq!(told, [("one".parse().expect("a value"), 7), ("two".parse().expect("a value"), 7)]);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_answered_is_named() {
    let book = Book::default();
    let down = service_fn(|_: Request<ChatRequest>| async {
        Err::<Response<stream::Empty<Item>>, _>(failure(ErrorKind::Upstream, Fate::Refused))
    });
    let fallback = FallbackLayer::new("first").to("other", saying(vec![text("a"), finished()]));
    let service = book.layer().upstream("mine").layer(fallback.layer(down));
    let response = service.oneshot(ask("Hello")).await.expect("the other answers");
    Answer::collect(response.into_body()).await.expect("its end");
    let settled = book.one();
    assert_eq!((settled.upstream.as_deref(), settled.outcome), (Some("other"), STOP));

    let service = book.layer().upstream("mine").layer(saying(vec![text("a"), finished()]));
    let response = service.oneshot(ask("Hello")).await.expect("an answer");
    Answer::collect(response.into_body()).await.expect("its end");
    assert_eq!(book.one().upstream.as_deref(), Some("mine"));
}

/// Below a join: the repeated request is not asked again, and so not paid twice.
#[tokio::test(start_paused = true)]
async fn a_joined_request_is_settled_once() {
    let book = Book::default();
    let items = vec![text("a"), text("b"), usage(5, 2), finished()];
    let service = JoinLayer::new().layer(book.layer().layer(saying(items)));
    let response = service.clone().oneshot(ask("Hello")).await.expect("an answer");
    let mut first = Box::pin(response.into_body());
    let _ = first.next().await;
    drop(first);
    assert!(book.all().is_empty(), "it goes on");
    let response = service.clone().oneshot(ask("Hello")).await.expect("the same answer");
    assert_eq!(Answer::collect(response.into_body()).await.expect("its end").text, "ab");
    let settled = book.one();
    assert_eq!((settled.outcome, settled.usage), (STOP, Usage::new(5, 2)));

    // Nobody comes for the next one: it is settled with what it took when it is over.
    let response = service.oneshot(ask("Hello again")).await.expect("an answer");
    let mut left = Box::pin(response.into_body());
    let _ = left.next().await;
    drop(left);
    sleep(2 * JoinLayer::DEFAULT_LINGER).await;
    let settled = book.one();
    assert_eq!((settled.outcome, settled.usage), (STOP, Usage::new(5, 2)));
}

/// What is no chat is measured by hand.
#[tokio::test(start_paused = true)]
async fn a_meter_settles_when_it_is_dropped() {
    let book = Book::default();
    let layer = book.layer().upstream("mine");
    let meter = |prompt| {
        let book = book.clone();
        layer.meter(Some(ANN), "m", prompt, move |settled| {
            book.0.lock().expect("not poisoned").push(settled);
        })
    };
    let mut passed = meter(400);
    sleep(STEP).await;
    passed.said(10);
    passed.said(10);
    sleep(STEP).await;
    drop(passed);
    let settled = book.one();
    assert_eq!((settled.usage, settled.counted), (Usage::new(100, 5), Counted::Estimated));
    assert_eq!((settled.first_event, settled.total), (Some(STEP), 2 * STEP));
    assert_eq!((settled.outcome, settled.upstream.as_deref()), (Outcome::Gone, Some("mine")));

    let mut whole = meter(400);
    whole.usage(Usage::new(90, 0));
    whole.ended(STOP);
    whole.ended(Outcome::Failed(ErrorKind::Upstream));
    drop(whole);
    let settled = book.one();
    assert_eq!((settled.usage, settled.counted), (Usage::new(90, 0), Counted::Upstream));
    assert_eq!(settled.outcome, STOP, "what is complete stays so");
}

/// Who leaves an upstream in the middle is settled in that moment; the counts come at the end.
#[tokio::test(start_paused = true)]
async fn who_leaves_a_real_wire_is_settled_then() {
    let book = Book::default();
    let web = || Emulator::builder().pace(STEP).build();
    let vllm = || Emulator::builder().kind(Kind::Vllm).models(["qwen3-max"]).pace(STEP).build();
    macro_rules! leave {
        ($adapter:expr, $emulator:expr) => {{
            let service = book.layer().layer($adapter.layer($emulator));
            let ask = || {
                let mut request = ask("Hello");
                request.body_mut().model = "qwen3-max".into();
                request
            };
            let response = service.clone().oneshot(ask()).await.expect("an answer");
            let mut answer = Box::pin(response.into_body().checked());
            while !matches!(answer.next().await, Some(Ok(ChatEvent::Text(_)))) {}
            drop(answer);
            let left = book.one();
            let response = service.oneshot(ask()).await.expect("an answer");
            Answer::collect(response.into_body()).await.expect("its end");
            (left, book.one())
        }};
    }
    let (left, whole) = leave!(QwenWebLayer::new(), web());
    assert_eq!((left.outcome, left.counted), (Outcome::Gone, Counted::Estimated));
    assert!(left.usage.prompt_tokens > 0 && left.usage.completion_tokens > 0, "{left:?}");
    assert_eq!((whole.outcome, whole.counted), (STOP, Counted::Upstream));
    let (left, whole) = leave!(CompatibleLayer::new(Server::Vllm), vllm());
    assert_eq!((left.outcome, left.counted), (Outcome::Gone, Counted::Estimated));
    assert!(left.usage.prompt_tokens > 0 && left.usage.completion_tokens > 0, "{left:?}");
    assert_eq!((whole.outcome, whole.counted), (STOP, Counted::Upstream));
}

proptest! {
    /// Whatever an upstream says, and wherever it is left, a request is settled once.
    #[test]
    fn a_request_is_settled_once(program in proptest::collection::vec(any::<u8>(), 0..60), count in 0_usize..40) {
        let (items, _) = events::answer(&program);
        let book = Book::default();
        let items = Mutex::new(Some(items));
        let service = book.layer().layer(service_fn(move |_: Request<ChatRequest>| {
            let items = items.lock().expect("not poisoned").take().expect("it is asked once");
            async move { Ok::<_, Error>(Response::new(stream::iter(items))) }
        }));
        let response = service.oneshot(ask("Hello")).now_or_never().expect("at once");
        let mut answer = pin!(response.expect("an answer").into_body().boxed());
        for _ in 0..count {
            let _ = answer.next().now_or_never();
        }
        answer.set(stream::empty().boxed());
        prop_assert_eq!(book.all().len(), 1);
    }
}

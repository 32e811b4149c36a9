//! What `TimeoutLayer` gives up and when, on a paused clock.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use allocation_counter::measure;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http::{Request, Response, StatusCode};
use proptest::prelude::*;
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, Fate, Text,
    chat::{ChatEvent, ChatRequest, FinishReason, Message, Role, Started, Usage},
    timeout::{Elapsed, Limit, TimeoutLayer, TimeoutStream},
};

type Item = Result<ChatEvent, Error>;
type Events = Pin<Box<dyn Stream<Item = Item> + Send>>;

const FIRST: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(120);
const TOTAL: Duration = Duration::from_secs(900);

fn layer() -> TimeoutLayer {
    TimeoutLayer::hosted()
}

fn request() -> Request<ChatRequest> {
    Request::new(ChatRequest::new("m", vec![Message::new(Role::User, "Hello")]))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn text() -> Item {
    Ok(ChatEvent::Text("a".into()))
}

fn usage() -> Item {
    Ok(ChatEvent::Usage(Usage::new(1, 1)))
}

fn finished() -> Item {
    Ok(ChatEvent::Finished(FinishReason::Stop))
}

/// What an upstream that is asked has to say for `wait` before each event.
fn each(wait: Duration, events: impl Stream<Item = Item> + Send + 'static) -> Events {
    Box::pin(events.then(move |event| async move {
        sleep(wait).await;
        event
    }))
}

/// What the layer makes of an upstream whose head takes `head` and whose stream is this.
async fn answered(
    layer: TimeoutLayer,
    head: Duration,
    events: Events,
) -> Result<TimeoutStream<Events>, Error> {
    let mut events = Some(events);
    let service = layer.layer(service_fn(move |request: Request<ChatRequest>| {
        assert!(request.body().is_timed, "what is below need not look at the clock");
        let events = events.take().expect("it is asked once");
        async move {
            sleep(head).await;
            Ok::<_, Error>(Response::new(events))
        }
    }));
    Ok(service.oneshot(request()).await?.into_body())
}

/// The items of an answer up to its end.
async fn all(mut stream: impl Stream<Item = Item> + Unpin) -> Vec<Item> {
    let mut items = Vec::new();
    while let Some(item) = stream.next().await {
        items.push(item);
    }
    items
}

fn assert_given_up(error: &Error, limit: Limit, after: Duration) {
    assert_eq!((error.kind(), error.fate()), (ErrorKind::Timeout, Fate::Abandoned), "{error:?}");
    assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
    let elapsed = Elapsed::of(error).expect("the source says which it was");
    assert_eq!((elapsed.limit(), elapsed.after()), (limit, after));
    let words = match limit {
        Limit::FirstEvent => "limit on the first event",
        Limit::Idle => "the answer stopped",
        _ => "limit on a whole answer",
    };
    assert!(error.message().contains(words), "{error}");
    assert!(error.message().contains(&format!("{after:?}")), "it names the limit: {error}");
}

/// That `elapsed` is `limit`, or up to a 64th more.
fn assert_about(elapsed: Duration, limit: Duration) {
    assert!(elapsed >= limit && elapsed <= limit + limit / 64 + secs(1), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_head_is_waited_for_as_long_as_the_first_event() {
    let begun = Instant::now();
    let stream = answered(layer(), FIRST - secs(1), Box::pin(stream::iter([text(), finished()])));
    assert_eq!(all(stream.await.expect("in time")).await.len(), 2);
    assert_eq!(begun.elapsed(), FIRST - secs(1));

    let begun = Instant::now();
    let error = answered(layer(), FIRST * 2, Box::pin(stream::pending())).await;
    assert_given_up(&error.expect_err("too slow"), Limit::FirstEvent, FIRST);
    assert_about(begun.elapsed(), FIRST);
    assert!(begun.elapsed() <= FIRST + Duration::from_millis(2), "it is due, not late");
}

/// Where the head comes soon and nothing behind it, both are one wait.
#[tokio::test(start_paused = true)]
async fn what_a_client_does_not_see_is_no_first_event() {
    let begun = Instant::now();
    let started = stream::iter([Ok(ChatEvent::Started(Started::new().into()))]);
    let pings = started.chain(stream::iter(0..).map(|at| match at % 3 {
        0 => usage(),
        1 => Ok(ChatEvent::Text("".into())),
        _ => Ok(ChatEvent::Reasoning("".into())),
    }));
    let stream = answered(layer(), secs(20), each(secs(1), pings)).await.expect("a head");
    let items = all(stream).await;
    assert_given_up(items.last().unwrap().as_ref().expect_err("none"), Limit::FirstEvent, FIRST);
    assert_about(begun.elapsed(), FIRST);
    assert_eq!(items.iter().filter(|item| item.is_err()).count(), 1);
    assert!(items.len() >= 38, "what came was passed on");
}

#[tokio::test(start_paused = true)]
async fn pings_are_no_progress_in_an_answer() {
    let pings = stream::iter([text(), text()]).chain(stream::repeat_with(usage));
    let begun = Instant::now();
    let stream = answered(layer(), secs(1), each(secs(30), pings)).await.expect("a head");
    let items = all(stream).await;
    assert_given_up(items.last().unwrap().as_ref().expect_err("none"), Limit::Idle, IDLE);
    assert_about(begun.elapsed() - secs(61), IDLE);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_goes_on_ends_at_the_total() {
    let begun = Instant::now();
    let events = each(secs(10), stream::repeat_with(text));
    let items = all(answered(layer(), secs(5), events).await.expect("a head")).await;
    assert_given_up(items.last().unwrap().as_ref().expect_err("none"), Limit::Total, TOTAL);
    assert_eq!(items.len(), 90);
    assert!(begun.elapsed() <= TOTAL + Duration::from_millis(2));
}

/// One that never waits is asked now and then all the same.
#[tokio::test(start_paused = true)]
async fn an_answer_that_always_has_more_ends_at_the_total() {
    let stream = answered(layer(), secs(5), Box::pin(stream::repeat_with(text))).await;
    let mut stream = stream.expect("a head");
    let begun = Instant::now();
    let error = loop {
        match stream.next().now_or_never() {
            Some(item) => {
                if let Err(error) = item.expect("it has more") {
                    break error;
                }
            }
            None => advance(secs(1)).await,
        }
    };
    assert_given_up(&error, Limit::Total, TOTAL);
    assert!(begun.elapsed() <= TOTAL);
    assert!(stream.next().await.is_none(), "one error ends it");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_its_time_is_no_silence() {
    let layer = layer().total(None);
    let events = each(secs(100), stream::repeat_with(text));
    let mut stream =
        answered(layer.first_event(Some(IDLE)), secs(1), events).await.expect("a head");
    for _ in 0..5 {
        assert!(stream.next().await.expect("one more").is_ok());
        sleep(IDLE * 10).await;
    }
    let mut silent =
        answered(layer, secs(1), Box::pin(stream::iter([text()]).chain(stream::pending())))
            .await
            .expect("a head");
    assert!(silent.next().await.expect("one").is_ok());
    sleep(IDLE * 10).await;
    let begun = Instant::now();
    assert!(silent.next().await.expect("silence").is_err());
    assert_about(begun.elapsed(), IDLE);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_goes_to_another_task_wakes_that() {
    let events = stream::iter([text()]).chain(stream::pending());
    let mut stream = answered(layer(), secs(1), Box::pin(events)).await.expect("a head");
    assert!(stream.next().await.expect("one").is_ok());
    assert!(stream.next().now_or_never().is_none());
    let next = tokio::spawn(async move { stream.next().await });
    let next = timeout(IDLE * 2, next).await.expect("it is woken").expect("no panic");
    assert_given_up(&next.expect("an item").expect_err("silence"), Limit::Idle, IDLE);
}

#[tokio::test(start_paused = true)]
async fn limits_can_be_lifted() {
    let day = secs(86_400);
    let never = layer().first_event(None).idle(None).total(None);
    let late = each(day, stream::iter([text(), text(), finished()]));
    assert_eq!(all(answered(never, day, late).await.expect("a head")).await.len(), 3);
    // Each stands for itself.
    let total = layer().first_event(None).idle(None);
    let error = answered(total, day, Box::pin(stream::pending())).await.expect_err("too long");
    assert_given_up(&error, Limit::Total, TOTAL);
    let idle = layer().first_event(None).total(None);
    let items =
        all(answered(idle, day, each(day, stream::iter([text(), text()]))).await.expect("ok"));
    assert_given_up(items.await[1].as_ref().expect_err("idle"), Limit::Idle, IDLE);
}

#[test]
#[should_panic(expected = "must not be zero")]
fn a_limit_of_nothing_is_refused() {
    let _ = layer().idle(Some(Duration::ZERO));
}

/// An answer that is complete is none that is given up, whatever what is below does.
#[tokio::test(start_paused = true)]
async fn behind_its_end_an_answer_only_ends() {
    for rest in [
        Box::pin(stream::pending()) as Events,
        each(secs(1), stream::repeat_with(usage)),
        Box::pin(stream::repeat_with(usage)),
    ] {
        let events = stream::iter([text(), finished()]).chain(rest);
        let mut stream = answered(layer(), secs(1), Box::pin(events)).await.expect("a head");
        let begun = Instant::now();
        let mut reasons = Vec::new();
        loop {
            match stream.next().now_or_never() {
                Some(Some(Ok(ChatEvent::Finished(reason)))) => reasons.push(reason),
                Some(Some(item)) => assert!(item.is_ok(), "{item:?}"),
                Some(None) => break,
                None => advance(Duration::from_millis(500)).await,
            }
        }
        assert_eq!(reasons, [FinishReason::Stop]);
        assert!(begun.elapsed() <= TOTAL, "it ends by itself");
    }
}

/// Says when it is dropped.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn at_a_limit_what_is_below_is_dropped_first() {
    let is_dropped = Arc::new(AtomicBool::new(false));
    let guard = Guard(Arc::clone(&is_dropped));
    let events = stream::iter([text()]).chain(stream::once(async move {
        let _guard = guard;
        std::future::pending().await
    }));
    let mut stream = answered(layer(), secs(1), Box::pin(events)).await.expect("a head");
    assert!(stream.next().await.expect("one").is_ok());
    assert!(stream.next().await.expect("an error").is_err());
    assert!(is_dropped.load(Ordering::SeqCst), "though the stream itself is still there");

    let is_dropped = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_dropped);
    let mut service = layer().layer(service_fn(move |_: Request<ChatRequest>| {
        let guard = Guard(Arc::clone(&seen));
        async move {
            let _guard = guard;
            std::future::pending::<Result<Response<Events>, Error>>().await
        }
    }));
    let mut call = Box::pin(service.ready().await.expect("ready").call(request()));
    assert!((&mut call).await.is_err());
    assert!(is_dropped.load(Ordering::SeqCst), "though the future itself is still there");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_dropped_drops_what_is_below() {
    for polls in [0, 1] {
        let is_dropped = Arc::new(AtomicBool::new(false));
        let guard = Guard(Arc::clone(&is_dropped));
        let events = stream::once(async move {
            let _guard = guard;
            std::future::pending().await
        });
        let mut stream = answered(layer(), secs(1), Box::pin(events)).await.expect("a head");
        for _ in 0..polls {
            assert!(stream.next().now_or_never().is_none());
        }
        drop(stream);
        assert!(is_dropped.load(Ordering::SeqCst), "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_and_errors_are_those_of_the_inner_service() {
    let (mut inner, mut handle) =
        tower_test::mock::pair::<Request<ChatRequest>, Response<Events>>();
    handle.allow(0);
    let mut service = tower_test::mock::Spawn::new(TimeoutLayer::local().layer(&mut inner));
    tokio_test::assert_pending!(service.poll_ready());
    handle.allow(1);
    tokio_test::assert_ready_ok!(service.poll_ready());
    let call = tokio::spawn(service.call(request()).map(|result| result.map(|_| ())));
    let (_, respond) = handle.next_request().await.expect("a request");
    respond.send_error(Error::new(ErrorKind::Quota, "used up"));
    assert!(call.await.expect("no panic").expect_err("refused").is_quota());
}

#[test]
fn outside_of_a_runtime_nothing_is_limited() {
    let events: Events = Box::pin(stream::iter([text(), finished()]));
    let mut events = Some(events);
    let service = layer().layer(service_fn(move |_: Request<ChatRequest>| {
        let events = events.take().expect("it is asked once");
        // Pending once, so that there is something to wait for.
        let mut is_late = true;
        std::future::poll_fn(move |cx: &mut Context<'_>| {
            if std::mem::take(&mut is_late) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .map(|()| Ok::<_, Error>(Response::new(events)))
    }));
    let mut call = tokio_test::task::spawn(service.oneshot(request()));
    tokio_test::assert_pending!(call.poll());
    let response = tokio_test::assert_ready_ok!(call.poll());
    let items = all(response.into_body()).now_or_never().expect("all is ready");
    assert_eq!(items.len(), 2);
}

/// An event that is ready costs nothing that can be counted, and a wait a timer for each limit.
#[test]
fn ready_events_are_passed_on_without_an_allocation() {
    for waits in [false, true] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime");
        let _guard = runtime.enter();
        let mut at = 0_u32;
        let piece = Text::from("a");
        // The first clone makes a count of the references.
        let _shared = piece.clone();
        let mut is_late = false;
        let events = stream::poll_fn(move |cx| {
            is_late = waits && !is_late;
            if is_late {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            at += 1;
            Poll::Ready((at <= 10_000).then(|| match at {
                10_000 => finished(),
                _ => Ok(ChatEvent::Text(piece.clone())),
            }))
        });
        let mut events = Some(events);
        let service = layer().layer(service_fn(move |_: Request<ChatRequest>| {
            let events = events.take().expect("it is asked once");
            std::future::ready(Ok::<_, Error>(Response::new(events)))
        }));
        let response = service.oneshot(request()).now_or_never().expect("ready").expect("answered");
        let mut stream = response.into_body();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut read = |until: u32| {
            let mut count = 0;
            let info = measure(|| {
                while count < until {
                    match Pin::new(&mut stream).poll_next(&mut cx) {
                        Poll::Ready(Some(item)) => count += u32::from(item.is_ok()),
                        Poll::Ready(None) => break,
                        Poll::Pending => {}
                    }
                }
            });
            (count, info.count_total)
        };
        // Fewer than one turn takes; later the whole is looked at, which makes a timer.
        let (count, first) = read(200);
        assert_eq!((count, if waits { 0 } else { first }), (200, 0));
        let (count, timers) = read(u32::MAX);
        assert_eq!(count, 10_000 - 200);
        // One timer for each limit that was waited by.
        assert_eq!(first + timers, if waits { 3 } else { 1 }, "{waits}");
        if waits {
            assert_eq!(timers, 0, "all that there are were made at the first wait");
        }
    }
}

/// What happens after some milliseconds: something that a client sees, or a ping.
type Step = (u64, bool);

/// How many of `steps` pass, and which limit ends the answer behind them; by a loop over numbers. The
/// limits are in milliseconds, and `slack` is for how long an idle answer goes unnoticed.
fn twin(steps: &[Step], limits: [u64; 3], slack: u64) -> (usize, Limit) {
    let [first, idle, total] = limits;
    let (mut now, mut since, mut has_begun) = (0, 0, false);
    for (at, (wait, is_progress)) in steps.iter().enumerate() {
        now += wait;
        let due = since + if has_begun { idle + slack } else { first };
        if now > due.min(total) {
            return (at, ended(due, total, has_begun));
        }
        if *is_progress {
            (since, has_begun) = (now, true);
        }
    }
    let due = since + if has_begun { idle + slack } else { first };
    (steps.len(), ended(due, total, has_begun))
}

fn ended(due: u64, total: u64, has_begun: bool) -> Limit {
    match has_begun {
        _ if total < due => Limit::Total,
        true => Limit::Idle,
        false => Limit::FirstEvent,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever comes, and whenever: the answer ends where the naive twin says, or, where it was idle
    /// for a moment longer than it may be, where a twin says that notices that late.
    #[test]
    fn it_ends_where_the_twin_ends(
        head in 0..90_000_u64,
        steps in prop::collection::vec((0..150_000_u64, any::<bool>()), 0..24),
        total in prop::option::of(1_000..1_200_000_u64),
    ) {
        let ms = Duration::from_millis;
        let layer = layer().total(total.map(ms));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (count, error) = runtime.block_on(async {
            let events = stream::iter(steps.clone()).then(|(wait, is_progress)| async move {
                sleep(Duration::from_millis(wait)).await;
                if is_progress { text() } else { usage() }
            });
            let events = events.chain(stream::pending());
            match answered(layer, ms(head), Box::pin(events)).await {
                Ok(stream) => {
                    let mut items = all(stream).await;
                    let error = items.pop().expect("an end").expect_err("it never ends well");
                    assert!(items.iter().all(Result::is_ok));
                    (items.len(), error)
                }
                Err(error) => (0, error),
            }
        });
        let limit = Elapsed::of(&error).expect("a limit").limit();
        let mut steps = steps;
        // The head is one wait with the first event.
        if let Some((wait, _)) = steps.first_mut() {
            *wait += head;
        }
        let limits = [60_000, 120_000, total.unwrap_or(u64::MAX)];
        // A timer's tick is a millisecond.
        let expected = [0, 1, 2, 120_000 / 64, 120_000 / 64 + 2].map(|slack| twin(&steps, limits, slack));
        prop_assert!(expected.contains(&(count, limit)), "{count}, {limit:?}: {expected:?}");
    }
}

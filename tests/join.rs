//! `JoinLayer`: who gets whose answer, and what becomes of one that nobody waits for.

#[path = "messages/events.rs"]
mod events;
mod traced;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use events::Item;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_qwen::{
    Error, ErrorKind,
    chat::{Answer, ChatEvent, ChatRequest, ChatStreamExt, FinishReason, Message, Role, Tenant},
    join::{Join, JoinLayer, JoinStream},
};

const ANN: Tenant = Tenant::from_digest([1; 32]);
const BOB: Tenant = Tenant::from_digest([2; 32]);
const STEP: Duration = Duration::from_millis(100);

/// An upstream whose answers take a step to begin and one for each event; it counts what it is asked
/// and what is dropped before its end.
#[derive(Clone, Default)]
struct Upstream {
    items: Arc<Mutex<Vec<Item>>>,
    asked: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
    refuses: bool,
}

impl Upstream {
    fn saying(items: Vec<Item>) -> Self {
        Self { items: Arc::new(Mutex::new(items)), ..Self::default() }
    }

    /// Says `a`, `b`, `c`, `d`.
    fn letters() -> Self {
        let mut items: Vec<Item> =
            ["a", "b", "c", "d"].map(|text| Ok(ChatEvent::Text(text.into()))).into();
        items.push(Ok(ChatEvent::Finished(FinishReason::Stop)));
        Self::saying(items)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::SeqCst)
    }
}

/// Counts itself where it is dropped early.
struct Work {
    cancelled: Arc<AtomicUsize>,
    is_done: bool,
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.is_done {
            self.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn again(item: &Item) -> Item {
    match item {
        Ok(event) => Ok(event.clone()),
        Err(error) => Err(Error::new(error.kind(), error.message().to_owned())),
    }
}

type Body = Pin<Box<dyn Stream<Item = Item> + Send>>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

impl Service<Request<ChatRequest>> for Upstream {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<ChatRequest>) -> Answering {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let items: Vec<Item> = self.items.lock().expect("not poisoned").iter().map(again).collect();
        let work = Work { cancelled: Arc::clone(&self.cancelled), is_done: false };
        let refuses = self.refuses;
        Box::pin(async move {
            let mut work = work;
            sleep(STEP).await;
            if refuses {
                work.is_done = true;
                return Err(Error::new(ErrorKind::RateLimited, "slow down"));
            }
            let state = (items.into_iter(), work);
            let body = stream::unfold(state, |(mut items, mut work)| async move {
                match items.next() {
                    Some(item) => {
                        sleep(STEP).await;
                        Some((item, (items, work)))
                    }
                    None => {
                        work.is_done = true;
                        drop(work);
                        None
                    }
                }
            });
            let mut response = Response::new(Box::pin(body) as Body);
            response.headers_mut().insert("x-from", "upstream".parse().expect("a value"));
            Ok(response)
        })
    }
}

fn ask(text: &str, tenant: Option<Tenant>) -> Request<ChatRequest> {
    traced::on();
    let mut chat = ChatRequest::new("m", [Message::new(Role::User, text.to_owned())]);
    chat.tenant = tenant;
    Request::new(chat)
}

/// The same as the official SDKs send it another time.
fn repeated(text: &str) -> Request<ChatRequest> {
    let mut request = ask(text, Some(ANN));
    request.headers_mut().insert("x-stainless-retry-count", "1".parse().expect("a value"));
    request
}

fn joining(upstream: &Upstream) -> Join<Upstream> {
    JoinLayer::new().layer(upstream.clone())
}

async fn body(
    service: &Join<Upstream>,
    request: Request<ChatRequest>,
) -> Result<JoinStream<Body>, Error> {
    Ok(service.clone().oneshot(request).await?.into_body())
}

async fn answer(service: &Join<Upstream>, request: Request<ChatRequest>) -> Result<Answer, Error> {
    Answer::collect(body(service, request).await?.checked()).await
}

/// Asks and goes away after this long.
async fn leave(service: &Join<Upstream>, request: Request<ChatRequest>, after: Duration) {
    let asked = answer(service, request);
    let left = tokio::time::timeout(after, asked).await;
    assert!(left.is_err(), "it was answered before: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_has_the_answer_of_a_client_that_is_gone() {
    // While it is called, between events, and right before the end.
    for after in [50, 150, 350, 550] {
        let upstream = Upstream::letters();
        let service = joining(&upstream);
        leave(&service, ask("x", Some(ANN)), Duration::from_millis(after)).await;
        sleep(Duration::from_millis(10)).await;
        let response = service.clone().oneshot(ask("x", Some(ANN))).await.expect("answered");
        assert_eq!(response.headers()["x-from"], "upstream");
        let answer = Answer::collect(response.into_body().checked()).await.expect("whole");
        assert_eq!((&*answer.text, answer.finish_reason), ("abcd", Some(FinishReason::Stop)));
        assert_eq!((upstream.asked(), upstream.cancelled()), (1, 0), "{after}");
        // It is known no more.
        self::answer(&service, ask("x", Some(ANN))).await.expect("whole");
        assert_eq!(upstream.asked(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_may_go_on_for_ever_does() {
    let upstream = Upstream::letters();
    let service = JoinLayer::new().linger(Duration::MAX).layer(upstream.clone());
    leave(&service, ask("x", Some(ANN)), Duration::from_millis(250)).await;
    sleep(Duration::from_secs(24 * 60 * 60)).await;
    assert_eq!(answer(&service, ask("x", Some(ANN))).await.expect("whole").text, "abcd");
    assert_eq!((upstream.asked(), upstream.cancelled()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_complete_waits_for_who_asks_again() {
    let upstream = Upstream::letters();
    let service = joining(&upstream);
    leave(&service, ask("x", Some(ANN)), Duration::from_millis(250)).await;
    sleep(Duration::from_secs(3)).await;
    let began = Instant::now();
    assert_eq!(answer(&service, ask("x", Some(ANN))).await.expect("whole").text, "abcd");
    assert_eq!(began.elapsed(), Duration::ZERO, "it was there");
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_asks_for_again_is_cancelled_in_time() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);
    for (linger, steps, outcome) in [(250, 40, "cancelled"), (900, 4, "complete")] {
        let items = (0..steps).map(|_| Ok(ChatEvent::Text("x".into())));
        let end = Ok(ChatEvent::Finished(FinishReason::Stop));
        let upstream = Upstream::saying(items.chain([end]).collect());
        let layer = JoinLayer::new().linger(Duration::from_millis(linger));
        let service = layer.layer(upstream.clone());
        leave(&service, ask("x", Some(ANN)), Duration::from_millis(250)).await;
        sleep(Duration::from_millis(linger - 20)).await;
        assert_eq!(upstream.cancelled(), 0, "{outcome}");
        sleep(Duration::from_millis(40)).await;
        assert_eq!(upstream.cancelled(), usize::from(outcome == "cancelled"));
        answer(&service, ask("x", Some(ANN))).await.expect("whole");
        assert_eq!(upstream.asked(), 2, "it was known no more");
        let line = format!("tower_qwen_join_lingered_total{{outcome=\"{outcome}\"}} 1");
        assert!(handle.render().contains(&line), "{}", handle.render());
    }
    // With no time at all it is cancelled at once.
    let upstream = Upstream::letters();
    let service = JoinLayer::new().linger(Duration::ZERO).layer(upstream.clone());
    leave(&service, ask("x", Some(ANN)), Duration::from_millis(250)).await;
    assert_eq!(upstream.cancelled(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_that_are_there_get_two_answers() {
    let upstream = Upstream::letters();
    let service = joining(&upstream);
    let both = [ask("x", Some(ANN)), ask("x", Some(ANN))];
    let answers = futures_util::future::join_all(both.map(|one| answer(&service, one))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|one| one.text == "abcd")));
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_that_it_asks_again_takes_its_answer_over() {
    for after in [50, 250, 450] {
        let upstream = Upstream::letters();
        let service = joining(&upstream);
        let first = {
            let service = service.clone();
            tokio::spawn(async move { answer(&service, ask("x", Some(ANN))).await })
        };
        sleep(Duration::from_millis(after)).await;
        let second = answer(&service, repeated("x")).await.expect("whole");
        assert_eq!((&*second.text, upstream.asked()), ("abcd", 1), "{after}");
        let told = first.await.expect("it ends").expect_err("it goes on elsewhere");
        assert_eq!(told.kind(), ErrorKind::Overloaded);
    }
    // A count that is none, or 0, says nothing.
    for count in ["0", "", "x", "-1"] {
        let upstream = Upstream::letters();
        let service = joining(&upstream);
        let mut request = ask("x", Some(ANN));
        request.headers_mut().insert("x-stainless-retry-count", count.parse().expect("a value"));
        let both = [ask("x", Some(ANN)), request];
        futures_util::future::join_all(both.map(|one| answer(&service, one))).await;
        assert_eq!(upstream.asked(), 2, "{count:?}");
    }
}

/// A client that does not read is asked in vain, and keeps its answer.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_handed_over_is_made_again() {
    let upstream = Upstream::letters();
    let service = joining(&upstream);
    let mut first = body(&service, ask("x", Some(ANN))).await.expect("answered").checked();
    first.next().await.expect("an event").expect("no error");
    assert_eq!(answer(&service, repeated("x")).await.expect("whole").text, "abcd");
    assert_eq!(upstream.asked(), 2);
    assert_eq!(Answer::collect(first).await.expect("whole").text, "bcd");
}

#[tokio::test(start_paused = true)]
async fn it_passes_from_client_to_client() {
    let upstream = Upstream::letters();
    let service = joining(&upstream);
    for _ in 0..3 {
        leave(&service, ask("x", Some(ANN)), Duration::from_millis(120)).await;
    }
    assert_eq!(answer(&service, repeated("x")).await.expect("whole").text, "abcd");
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_else_gets_it() {
    for (kind, other) in [
        ("another tenant", ask("x", Some(BOB))),
        ("nobody", ask("x", None)),
        ("other words", ask("y", Some(ANN))),
    ] {
        let upstream = Upstream::letters();
        let service = joining(&upstream);
        leave(&service, ask("x", Some(ANN)), Duration::from_millis(250)).await;
        answer(&service, other).await.expect("whole");
        assert_eq!(upstream.asked(), 2, "{kind}");
    }
    // What is nobody's is never kept.
    let upstream = Upstream::letters();
    let service = joining(&upstream);
    leave(&service, ask("x", None), Duration::from_millis(250)).await;
    assert_eq!(upstream.cancelled(), 1);
    // Neither do others over the same layer: each service has its own.
    let layer = JoinLayer::new();
    let [one, other] = [(); 2].map(|()| layer.layer(upstream.clone()));
    leave(&one, ask("x", Some(ANN)), Duration::from_millis(250)).await;
    answer(&other, ask("x", Some(ANN))).await.expect("whole");
    assert_eq!(upstream.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_asked_for_again() {
    let mut upstream = Upstream::letters();
    upstream.refuses = true;
    let service = joining(&upstream);
    leave(&service, ask("x", Some(ANN)), Duration::from_millis(50)).await;
    sleep(STEP).await;
    let error = answer(&service, ask("x", Some(ANN))).await.expect_err("refused");
    assert_eq!((error.kind(), upstream.asked()), (ErrorKind::RateLimited, 2));

    let broken =
        vec![Ok(ChatEvent::Text("a".into())), Err(Error::new(ErrorKind::Upstream, "gone"))];
    let upstream = Upstream::saying(broken);
    let service = joining(&upstream);
    leave(&service, ask("x", Some(ANN)), Duration::from_millis(250)).await;
    sleep(STEP).await;
    answer(&service, ask("x", Some(ANN))).await.expect_err("it breaks again");
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_says_too_much_is_neither_kept_nor_gone_on_with() {
    let upstream = Upstream::letters();
    let service = JoinLayer::new().max_kept(90).layer(upstream.clone());
    // One event is kept with the words of its neighbours; the end is one too many.
    leave(&service, ask("x", Some(ANN)), Duration::from_millis(350)).await;
    assert_eq!(answer(&service, ask("x", Some(ANN))).await.expect("whole").text, "abcd");
    assert_eq!(upstream.asked(), 1);
    let service = JoinLayer::new().max_kept(10).layer(upstream.clone());
    leave(&service, ask("x", Some(ANN)), Duration::from_millis(250)).await;
    assert_eq!(upstream.cancelled(), 1, "at once");
    answer(&service, ask("x", Some(ANN))).await.expect("whole");
    assert_eq!(upstream.asked(), 3);
}

/// Without a runtime there is no time in which it could go on.
#[test]
fn without_a_runtime_nothing_goes_on() {
    let service = JoinLayer::new().layer(tower::service_fn(|_: Request<ChatRequest>| async {
        Ok::<_, Error>(Response::new(stream::iter([
            Ok(ChatEvent::Text("a".into())),
            Ok(ChatEvent::Finished(FinishReason::Stop)),
        ])))
    }));
    let response = futures_util::FutureExt::now_or_never(service.oneshot(ask("x", Some(ANN))));
    drop(response.expect("at once").expect("answered"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is said, and whenever clients go or ask again, the one that stays has all of it.
    #[test]
    fn the_last_client_has_the_whole_answer(
        program in prop::collection::vec(any::<u8>(), 1..60),
        leaves in prop::collection::vec((1_u64..900, any::<bool>()), 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (items, _) = events::answer(&program);
            let alone: Vec<Item> = items.iter().map(again).collect();
            let alone = Answer::collect(stream::iter(alone)).await;
            let upstream = Upstream::saying(items);
            let service = joining(&upstream);
            for (after, says) in leaves {
                let request = if says { repeated("x") } else { ask("x", Some(ANN)) };
                let asked = answer(&service, request);
                let _ = tokio::time::timeout(Duration::from_millis(after), asked).await;
            }
            let last = answer(&service, repeated("x")).await;
            let kind = |answer: Result<Answer, Error>| answer.map_err(|error| error.kind());
            prop_assert_eq!(kind(last), kind(alone));
            Ok(())
        })?;
    }
}

//! What `RetryPolicy` has tried again, how often and when, on a paused clock.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, sleep};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    retry::{
        RetryLayer,
        budget::{Budget, TpsBudget},
    },
    service_fn,
};
use tower_qwen::{
    Error, ErrorKind, Fate, FullBody,
    auth::{AuthRefreshLayer, Credential, StaticCredential},
    chat::{Answer, ChatEvent, ChatRequest, FinishReason, Message, Role},
    qwen::compatible::{CompatibleLayer, Server},
    retry::RetryPolicy,
    session::{MemoryStore, SessionLayer},
    timeout::TimeoutLayer,
};

type Item = Result<ChatEvent, Error>;
type Events = Pin<Box<dyn Stream<Item = Item> + Send>>;
/// When each request came.
type Times = Arc<Mutex<Vec<Duration>>>;

fn request() -> Request<ChatRequest> {
    Request::new(ChatRequest::new("m", vec![Message::new(Role::User, "Hello")]))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An upstream that fails so the first `times`, and then answers.
fn failing(
    times: usize,
    error: impl Fn() -> Error + Clone + Send + 'static,
    came: &Times,
) -> impl Service<
    Request<ChatRequest>,
    Response = Response<Events>,
    Error = Error,
    Future = std::future::Ready<Result<Response<Events>, Error>>,
> + Clone
+ Send
+ 'static {
    let (begun, came) = (Instant::now(), Arc::clone(came));
    service_fn(move |request: Request<ChatRequest>| {
        assert_eq!(request.body().history[0].text(), "Hello", "whatever happened to the first");
        let mut came = came.lock().expect("not poisoned");
        came.push(begun.elapsed());
        std::future::ready(if came.len() <= times {
            Err(error())
        } else {
            let events = [ChatEvent::Text("Hi".into()), ChatEvent::Finished(FinishReason::Stop)];
            Ok(Response::new(Box::pin(stream::iter(events.map(Ok))) as Events))
        })
    })
}

async fn ended<S>(service: S) -> Result<String, Error>
where
    S: Service<Request<ChatRequest>, Response = Response<Events>, Error = Error>,
{
    let response = service.oneshot(request()).await?;
    Answer::collect(response.into_body()).await.map(|answer| answer.text)
}

/// When the requests came of one that fails so for ever.
async fn tried(
    policy: RetryPolicy,
    error: impl Fn() -> Error + Clone + Send + 'static,
) -> Vec<Duration> {
    let came = Times::default();
    let service = RetryLayer::new(policy).layer(failing(usize::MAX, error.clone(), &came));
    let last = ended(service).await.expect_err("for ever");
    assert_eq!((last.kind(), last.message()), (error().kind(), error().message()));
    Arc::into_inner(came).map(Mutex::into_inner).expect("nobody else has it").expect("not poisoned")
}

#[tokio::test(start_paused = true)]
async fn what_may_help_is_tried_again_and_nothing_else() {
    let all = [
        ErrorKind::InvalidRequest,
        ErrorKind::ContextLength,
        ErrorKind::ContentFilter,
        ErrorKind::TooLarge,
        ErrorKind::Auth,
        ErrorKind::Permission,
        ErrorKind::ModelNotFound,
        ErrorKind::NotFound,
        ErrorKind::ConversationLost,
        ErrorKind::AccountUnavailable,
        ErrorKind::ConversationBusy,
        ErrorKind::RateLimited,
        ErrorKind::Quota,
        ErrorKind::ModelQuota,
        ErrorKind::Internal,
        ErrorKind::Unsupported,
        ErrorKind::Upstream,
        ErrorKind::Truncated,
        ErrorKind::Challenge,
        ErrorKind::Overloaded,
        ErrorKind::Timeout,
    ];
    for kind in all {
        for fate in [Fate::Unknown, Fate::Unsent, Fate::Refused, Fate::Abandoned] {
            let again = match kind {
                _ if fate == Fate::Abandoned => false,
                ErrorKind::RateLimited | ErrorKind::Overloaded | ErrorKind::ConversationBusy => {
                    true
                }
                ErrorKind::Upstream => matches!(fate, Fate::Unsent | Fate::Refused),
                ErrorKind::Timeout => fate == Fate::Unsent,
                _ => false,
            };
            let came =
                tried(RetryPolicy::new(), move || Error::new(kind, "x").with_fate(fate)).await;
            assert_eq!(came.len(), if again { 3 } else { 1 }, "{kind:?}, {fate:?}");
        }
    }
    let busy = || Error::new(ErrorKind::ConversationBusy, "x");
    assert_eq!(tried(RetryPolicy::new().busy(false), busy).await.len(), 1);
    let overloaded = || Error::new(ErrorKind::Overloaded, "x");
    assert_eq!(tried(RetryPolicy::new().tries(0), overloaded).await.len(), 1);
    assert_eq!(tried(RetryPolicy::new().tries(5), overloaded).await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn the_answer_is_that_of_the_try_that_gave_one() {
    for times in [0, 1, 2] {
        let came = Times::default();
        let error = || Error::new(ErrorKind::Overloaded, "loading");
        let service = RetryLayer::new(RetryPolicy::new()).layer(failing(times, error, &came));
        assert_eq!(ended(service).await.expect("answered"), "Hi");
        assert_eq!(came.lock().expect("not poisoned").len(), times + 1);
    }
}

/// Each pause is between a half and one and a half of what it would be, and not always the same.
#[tokio::test(start_paused = true)]
async fn pauses_grow_and_differ() {
    let mut seen = Vec::new();
    for _ in 0..50 {
        let came = tried(RetryPolicy::new().tries(3).pause(secs(4)), || {
            Error::new(ErrorKind::Overloaded, "x")
        })
        .await;
        for (at, pair) in came.windows(2).enumerate() {
            let (pause, grown) = (pair[1] - pair[0], secs(4) * 2_u32.pow(at as u32));
            let tick = Duration::from_millis(2);
            assert!(pause >= grown / 2 && pause <= grown * 3 / 2 + tick, "{at}: {pause:?}");
            if at == 0 {
                seen.push(pause);
            }
        }
    }
    seen.sort();
    seen.dedup();
    assert!(seen.len() > 25, "they are random");
}

#[tokio::test(start_paused = true)]
async fn no_try_comes_before_upstream_said() {
    let limited = |wait| move || Error::new(ErrorKind::RateLimited, "x").with_retry_after(wait);
    for wait in [Duration::ZERO, Duration::from_millis(1), secs(7), secs(30)] {
        let came = tried(RetryPolicy::new(), limited(wait)).await;
        assert_eq!(came.len(), 3, "{wait:?}");
        for pair in came.windows(2) {
            let waited = pair[1] - pair[0];
            assert!(waited >= wait && waited <= wait + secs(2) + Duration::from_millis(2));
        }
    }
    // Nobody is kept waiting that long: the client gets to know it.
    for wait in [secs(31), Duration::MAX] {
        assert_eq!(tried(RetryPolicy::new(), limited(wait)).await.len(), 1, "{wait:?}");
    }
    let patient = RetryPolicy::new().longest(Duration::MAX);
    assert_eq!(tried(patient, limited(secs(3_600))).await.len(), 3);
    // Nothing of this can overflow.
    let odd = RetryPolicy::new().longest(Duration::ZERO).pause(Duration::MAX);
    assert_eq!(tried(odd, || Error::new(ErrorKind::Overloaded, "x")).await.len(), 3);
}

/// As servers write it: the adapter reads all the forms.
#[tokio::test(start_paused = true)]
async fn every_form_of_retry_after_is_heeded() {
    for (name, value, wait) in [
        ("retry-after", "9", secs(9)),
        ("retry-after", "1.5", Duration::from_millis(1500)),
        ("retry-after-ms", "2500", Duration::from_millis(2500)),
        ("retry-after", "Wed, 21 Oct 2026 07:28:12 GMT", secs(12)),
    ] {
        for status in [429, 503] {
            let came = Times::default();
            let (begun, seen) = (Instant::now(), Arc::clone(&came));
            let server = service_fn(move |_: Request<FullBody>| {
                let mut seen = seen.lock().expect("not poisoned");
                seen.push(begun.elapsed());
                let response = match seen.len() {
                    1 => Response::builder()
                        .status(status)
                        .header(name, value)
                        .header("date", "Wed, 21 Oct 2026 07:28:00 GMT")
                        .body(Full::<Bytes>::default()),
                    _ => Response::builder().header("content-type", "text/event-stream").body(
                        Full::from(
                            "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\
                             \"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
                        ),
                    ),
                };
                std::future::ready(Ok::<_, Infallible>(response.expect("a response")))
            });
            let chat = ServiceBuilder::new()
                .layer(RetryLayer::new(RetryPolicy::new()))
                .layer(CompatibleLayer::new(Server::Generic))
                .service(server);
            let response = chat.oneshot(request()).await.expect("the second time");
            assert_eq!(Answer::collect(response.into_body()).await.expect("whole").text, "Hi");
            let came = came.lock().expect("not poisoned");
            let waited = came[1] - came[0];
            let slack = secs(1) + Duration::from_millis(2);
            assert!(waited >= wait && waited <= wait + slack, "{name}: {value}: {waited:?}");
        }
    }
}

/// An upstream that is down is not asked several times as often as before.
#[tokio::test(start_paused = true)]
async fn all_requests_share_a_budget() {
    let came = Times::default();
    let error = || Error::new(ErrorKind::Overloaded, "x");
    let policy = RetryPolicy::new().budget(TpsBudget::new(secs(10), 0, 0.0));
    let none = RetryLayer::new(policy).layer(failing(usize::MAX, error, &came));
    assert!(ended(none).await.is_err());
    assert_eq!(came.lock().expect("not poisoned").len(), 1);

    came.lock().expect("not poisoned").clear();
    let service = RetryLayer::new(RetryPolicy::new()).layer(failing(usize::MAX, error, &came));
    let all = (0..100).map(|_| ended(service.clone()));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_err));
    let count = came.lock().expect("not poisoned").len();
    assert!((101..=120).contains(&count), "{count}");

    // Answers bring more.
    let policy = RetryPolicy::new().budget(TpsBudget::new(secs(10), 0, 0.5));
    let layer = RetryLayer::new(policy);
    let fine = layer.layer(failing(0, error, &Times::default()));
    for _ in 0..10 {
        ended(fine.clone()).await.expect("answered");
    }
    let came = Times::default();
    let failing = layer.layer(failing(usize::MAX, error, &came));
    assert!(ended(failing).await.is_err());
    assert_eq!(came.lock().expect("not poisoned").len(), 3);
}

/// A budget of one's own.
#[tokio::test(start_paused = true)]
async fn any_budget_of_towers_will_do() {
    struct Never;
    impl Budget for Never {
        fn deposit(&self) {}
        fn withdraw(&self) -> bool {
            false
        }
    }
    let policy = RetryPolicy::new().budget(Never);
    assert_eq!(tried(policy, || Error::new(ErrorKind::Overloaded, "x")).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_begun_is_never_asked_for_again() {
    let count = Arc::new(Mutex::new(0));
    let asked = Arc::clone(&count);
    let inner = service_fn(move |_: Request<ChatRequest>| {
        *asked.lock().expect("not poisoned") += 1;
        let events = [
            Ok(ChatEvent::Text("Hi".into())),
            Err(Error::new(ErrorKind::Overloaded, "x").with_fate(Fate::Refused)),
        ];
        std::future::ready(Ok(Response::new(Box::pin(stream::iter(events)) as Events)))
    });
    let service = RetryLayer::new(RetryPolicy::new()).layer(inner);
    assert!(ended(service).await.is_err());
    assert_eq!(*count.lock().expect("not poisoned"), 1);
}

/// Outside of a runtime there is nothing to wait by.
#[test]
fn without_a_clock_nothing_is_tried_again() {
    let count = Arc::new(Mutex::new(0));
    let asked = Arc::clone(&count);
    let inner = service_fn(move |_: Request<ChatRequest>| {
        *asked.lock().expect("not poisoned") += 1;
        std::future::ready(Err::<Response<Events>, _>(Error::new(ErrorKind::Overloaded, "x")))
    });
    let service = RetryLayer::new(RetryPolicy::new()).layer(inner);
    assert!(ended(service).now_or_never().expect("at once").is_err());
    assert_eq!(*count.lock().expect("not poisoned"), 1);
}

/// Dropped while it waits, it is not sent.
#[tokio::test(start_paused = true)]
async fn who_leaves_while_it_waits_sends_nothing() {
    let came = Times::default();
    let error = || Error::new(ErrorKind::Overloaded, "x");
    let service = RetryLayer::new(RetryPolicy::new()).layer(failing(1, error, &came));
    assert!(ended(service).now_or_never().is_none());
    sleep(secs(60)).await;
    assert_eq!(came.lock().expect("not poisoned").len(), 1);
}

/// The limits hold for all tries together.
#[tokio::test(start_paused = true)]
async fn waits_are_a_part_of_the_first_events_limit() {
    let came = Times::default();
    let limited = || Error::new(ErrorKind::RateLimited, "x").with_retry_after(secs(25));
    let begun = Instant::now();
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::hosted())
        .layer(RetryLayer::new(RetryPolicy::new().tries(10)))
        .service(failing(usize::MAX, limited, &came));
    let error = service.oneshot(request()).await.expect_err("given up");
    assert!(error.is_timeout());
    assert!(begun.elapsed() >= secs(60) && begun.elapsed() < secs(61));
    assert_eq!(came.lock().expect("not poisoned").len(), 3);
}

/// Of the whole stack: what no layer below may send again, and what one of them sends again already.
#[tokio::test(start_paused = true)]
async fn each_failure_is_sent_again_by_one_layer_at_most() {
    let asked = |error: fn() -> Error| async move {
        let came = Times::default();
        let key = StaticCredential::new(Credential::api_key("sk-demo-upstream").expect("a key"));
        let service = ServiceBuilder::new()
            .layer(SessionLayer::new(MemoryStore::default()))
            .layer(TimeoutLayer::hosted())
            .layer(RetryLayer::new(RetryPolicy::new().busy(false)))
            .layer(AuthRefreshLayer::new(key))
            .service(failing(usize::MAX, error, &came));
        let error = service.oneshot(request()).await.expect_err("for ever");
        let count = came.lock().expect("not poisoned").len();
        (count, error.kind())
    };
    for (error, count) in [
        // A limit on this side: the upstream may be at work.
        ((|| Error::new(ErrorKind::Timeout, "x").with_fate(Fate::Abandoned)) as fn() -> Error, 1),
        // The upstream says so and is done: the one replay of the credential's layer.
        (|| Error::new(ErrorKind::Timeout, "x").with_fate(Fate::Refused), 2),
        // Nobody was reached.
        (|| Error::new(ErrorKind::Timeout, "x").with_fate(Fate::Unsent), 3),
        // A key cannot be renewed.
        (|| Error::new(ErrorKind::Auth, "x").with_fate(Fate::Refused), 1),
        (|| Error::new(ErrorKind::Upstream, "x").with_fate(Fate::Refused), 3),
        (|| Error::new(ErrorKind::Upstream, "x"), 1),
    ] {
        let kind = error().kind();
        assert_eq!(asked(error).await, (count, kind), "{:?}", error());
    }
}

/// An upstream that says nothing for too long is asked once, whatever stands above.
#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_not_sent_again() {
    let count = Arc::new(Mutex::new(0));
    let asked = Arc::clone(&count);
    let silent = service_fn(move |_: Request<FullBody>| {
        *asked.lock().expect("not poisoned") += 1;
        let comments = stream::repeat(Bytes::from_static(b": still there\n\n"));
        let comments = comments.then(|comment| async {
            sleep(secs(1)).await;
            Ok::<_, Infallible>(http_body::Frame::data(comment))
        });
        let body = http_body_util::StreamBody::new(comments);
        let response = Response::builder().header("content-type", "text/event-stream").body(body);
        std::future::ready(response)
    });
    let key = || StaticCredential::new(Credential::api_key("sk-demo-upstream").expect("a key"));
    let adapter = || CompatibleLayer::new(Server::Generic).idle_events(Some(secs(20)));
    // The limit of the layer above, and that of the adapter below.
    let timed = ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(TimeoutLayer::hosted())
        .layer(RetryLayer::new(RetryPolicy::new()))
        .layer(AuthRefreshLayer::new(key()))
        .layer(adapter())
        .service(silent.clone());
    let begun = Instant::now();
    let error = timed.oneshot(request()).await.expect_err("given up");
    assert!(error.is_timeout() && begun.elapsed() >= secs(60), "{error}");
    assert_eq!(std::mem::take(&mut *count.lock().expect("not poisoned")), 1);

    let untimed = ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(RetryLayer::new(RetryPolicy::new()))
        .layer(AuthRefreshLayer::new(key()))
        .layer(adapter())
        .service(silent);
    let begun = Instant::now();
    let error = untimed.oneshot(request()).await.expect_err("given up");
    assert!(error.is_timeout() && begun.elapsed() < secs(22), "{error}");
    assert_eq!(*count.lock().expect("not poisoned"), 1);
}

/// A server whose streams time out, and what it says in one piece.
async fn asked_in_one_piece(
    policy: RetryPolicy,
    text: &str,
    status: u16,
) -> (Result<String, Error>, Vec<(bool, bool, String)>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = service_fn(move |request: Request<FullBody>| {
        let log = Arc::clone(&log);
        async move {
            let accepted = request.headers()["accept"].to_str().expect("ASCII").to_owned();
            let body = request.into_body().collect().await.expect("infallible").to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            let is_stream = body["stream"] == true;
            let has_options = body.get("stream_options").is_some();
            log.lock().expect("not poisoned").push((is_stream, has_options, accepted));
            let response = Response::builder();
            Ok::<_, Infallible>(
                match (is_stream, status) {
                    (true, _) => response.status(504).body(Full::from("stream timeout")),
                    (false, 200) => {
                        response.header("content-type", "application/json").body(Full::from(
                            r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#,
                        ))
                    }
                    (false, status) => response.status(status).body(Full::<Bytes>::default()),
                }
                .expect("a response"),
            )
        }
    });
    let chat = ServiceBuilder::new()
        .layer(RetryLayer::new(policy))
        .layer(CompatibleLayer::new(Server::Portal))
        .service(server);
    let request = ChatRequest::new("m", vec![Message::new(Role::User, text)]);
    let answer = match chat.oneshot(Request::new(request)).await {
        Ok(response) => Answer::collect(response.into_body()).await.map(|answer| answer.text),
        Err(error) => Err(error),
    };
    let seen = seen.lock().expect("not poisoned").clone();
    (answer, seen)
}

/// The portal's `stream timeout`: once in one piece, if that is wanted and the request is small.
#[tokio::test(start_paused = true)]
async fn a_stream_that_timed_out_upstream_is_asked_for_in_one_piece() {
    let stream = || (true, true, "text/event-stream".to_owned());
    let whole = || (false, false, "application/json".to_owned());
    let wanted = || RetryPolicy::new().whole_after_timeout(true);

    let (answer, seen) = asked_in_one_piece(wanted(), "Hello", 200).await;
    assert_eq!((answer.expect("answered"), seen), ("Hi".to_owned(), vec![stream(), whole()]));
    // Whatever tries there are.
    let (answer, seen) = asked_in_one_piece(wanted().tries(0), "Hello", 200).await;
    assert_eq!((answer.expect("answered"), seen.len()), ("Hi".to_owned(), 2));

    // What it says then is about a request that nobody has made: the first failure stands.
    for status in [400, 401, 429, 500, 503, 504] {
        let (answer, seen) = asked_in_one_piece(wanted(), "Hello", status).await;
        let error = answer.expect_err("a failure");
        assert!(error.is_timeout() && error.message().contains("stream timeout"), "{error:?}");
        assert_eq!(seen, [stream(), whole()], "{status}");
    }

    let long = "a long prompt ".repeat(5_000);
    for (policy, text) in [(wanted(), &*long), (RetryPolicy::new(), "Hello")] {
        let (answer, seen) = asked_in_one_piece(policy, text, 200).await;
        assert!(answer.expect_err("a failure").is_timeout());
        assert_eq!(seen, [stream()]);
    }
    // A limit on this side is none of the upstream's words.
    let abandoned = || Error::new(ErrorKind::Timeout, "x").with_fate(Fate::Abandoned);
    assert_eq!(tried(wanted(), abandoned).await.len(), 1);
}

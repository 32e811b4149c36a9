//! `SseReframeLayer` over scripted upstreams.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use proptest::prelude::*;
use tokio::time::{Instant, Sleep, sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    sse::{
        DecodeError, Decoder, Event, KEEP_ALIVE, KeepAlive, StreamError,
        reframe::{OnError, ReframeBody, SseReframeLayer},
    },
};

#[path = "twins/sse.rs"]
mod twin;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

enum Step {
    Piece(Bytes),
    Wait(Duration),
    Fail(BoxError),
    Trailers(HeaderMap),
    /// Never goes on.
    Stall,
}

/// An upstream body that does what it is told, and tells how often it was polled and whether it
/// was dropped.
#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    sleep: Option<Pin<Box<Sleep>>>,
    polls: Arc<AtomicUsize>,
    dropped: Arc<AtomicBool>,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let mut script = Self::default();
        script.steps.extend(steps);
        script
    }

    fn pieces<T: Into<Bytes>>(pieces: impl IntoIterator<Item = T>) -> Self {
        Self::new(pieces.into_iter().map(|piece| Step::Piece(piece.into())))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            return Poll::Ready(match self.steps.pop_front() {
                Some(Step::Piece(piece)) => Some(Ok(Frame::data(piece))),
                Some(Step::Wait(time)) => {
                    self.sleep = Some(Box::pin(sleep(time)));
                    continue;
                }
                Some(Step::Fail(error)) => Some(Err(error)),
                Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Some(Step::Stall) => {
                    self.steps.push_front(Step::Stall);
                    return Poll::Pending;
                }
                None => None,
            });
        }
    }
}

fn piece(text: &'static str) -> Step {
    Step::Piece(text.into())
}

async fn call<B>(layer: SseReframeLayer, response: Response<B>) -> Response<ReframeBody<B>> {
    let mut response = Some(response);
    let service = layer.layer(service_fn(move |_request: Request<()>| {
        let response = response.take().expect("called once");
        async move { Ok::<_, Infallible>(response) }
    }));
    service.oneshot(Request::new(())).await.expect("infallible")
}

fn event_stream<B>(body: B) -> Response<B> {
    Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .body(body)
        .expect("valid parts")
}

async fn reframe(layer: SseReframeLayer, script: Script) -> ReframeBody<Script> {
    call(layer, event_stream(script)).await.into_body()
}

/// The data frames up to the end or the first error, and that.
async fn collect<B>(body: B) -> (Vec<Bytes>, Option<BoxError>)
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    let mut body = body;
    let mut frames = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => frames.extend(frame.into_data()),
            Err(error) => {
                assert!(body.frame().await.is_none(), "a frame behind the error");
                return (frames, Some(error));
            }
        }
    }
    (frames, None)
}

#[tokio::test]
async fn only_plain_event_streams_are_touched() {
    let with = |name: header::HeaderName, value: &'static str| {
        move |mut response: Response<Script>| {
            response.headers_mut().insert(name.clone(), HeaderValue::from_static(value));
            response
        }
    };
    let pieces = || Script::pieces(["data: a\r\n", "\r\n"]);
    for (response, touched) in [
        (event_stream(pieces()), true),
        (
            with(header::CONTENT_TYPE, "Text/Event-Stream ; charset=utf-8")(event_stream(pieces())),
            true,
        ),
        (with(header::CONTENT_ENCODING, "identity")(event_stream(pieces())), true),
        (with(header::CONTENT_ENCODING, "gzip")(event_stream(pieces())), false),
        (with(header::CONTENT_TYPE, "text/event-streams")(event_stream(pieces())), false),
        (with(header::CONTENT_TYPE, "application/json")(event_stream(pieces())), false),
        (Response::new(pieces()), false),
    ] {
        let headers = response.headers().clone();
        let response = call(SseReframeLayer::new(), response).await;
        let context = format!("{headers:?}");
        if !touched {
            assert_eq!(response.headers(), &headers, "{context}");
        }
        let (frames, error) = collect(response.into_body()).await;
        assert!(error.is_none(), "{context}");
        let expected: &[&str] = if touched { &["data: a\n\n"] } else { &["data: a\r\n", "\r\n"] };
        assert_eq!(frames, expected, "{context}");
    }
}

#[tokio::test]
async fn a_foreign_body_keeps_its_size_and_trailers() {
    let response = Response::new(Full::new(Bytes::from("{}")));
    let body = call(SseReframeLayer::new(), response).await.into_body();
    assert_eq!(body.size_hint().exact(), Some(2));
    let body = call(SseReframeLayer::new(), Response::new(Empty::<Bytes>::new())).await.into_body();
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn headers_become_those_of_a_stream() {
    let streamed = |cache_control: Option<&'static str>| async move {
        let mut response = event_stream(Script::default());
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("5"));
        if let Some(value) = cache_control {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
        }
        let response = call(SseReframeLayer::new(), response).await;
        assert!(!response.headers().contains_key(header::CONTENT_LENGTH));
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        assert_eq!(response.body().size_hint().upper(), None);
        response.headers()[header::CACHE_CONTROL].clone()
    };
    assert_eq!(streamed(None).await, "no-cache");
    assert_eq!(streamed(Some("max-age=60")).await, "no-cache");
    assert_eq!(streamed(Some("no-transform, No-Store")).await, "no-transform, No-Store");
    assert_eq!(streamed(Some("no-cache, no-transform")).await, "no-cache, no-transform");
}

#[tokio::test]
async fn a_frame_in_good_form_is_the_same_bytes() {
    let frame = Bytes::from("event: x\ndata: a\n\ndata: b\n\n");
    let mut body = reframe(SseReframeLayer::new(), Script::pieces([frame.clone()])).await;
    let passed = body.frame().await.expect("a frame").expect("no error").into_data().expect("data");
    assert_eq!(passed.as_ptr_range(), frame.as_ptr_range());
    assert!(!body.is_end_stream());
    assert!(body.frame().await.is_none());
    assert!(body.is_end_stream());
}

/// What is no event stream has bytes alone for progress.
#[tokio::test(start_paused = true)]
async fn a_body_without_events_may_not_be_silent_for_ever() {
    let minutes = |count: u64| Step::Wait(Duration::from_secs(60 * count));
    let json = |script: Script| {
        let mut response = Response::new(script);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        call(SseReframeLayer::new(), response)
    };
    let slow = Script::new([minutes(9), piece("{"), minutes(9), piece("}"), minutes(9)]);
    let (frames, error) = collect(json(slow).await.into_body()).await;
    assert_eq!((&frames[..], error.is_none()), (&["{".into(), "}".into()][..], true));

    let begun = Instant::now();
    let stalled = Script::new([piece("{"), Step::Stall]);
    let mut body = json(stalled).await.into_body();
    assert!(body.frame().await.expect("a frame").is_ok());
    let error = body.frame().await.expect("an error").expect_err("silent");
    let error = error.downcast::<Error>().expect("one of the crate's");
    assert!(error.is_timeout() && error.message().contains("600s"), "{error}");
    let limit = SseReframeLayer::DEFAULT_IDLE_EVENTS;
    assert!(begun.elapsed() >= limit && begun.elapsed() <= limit + limit / 64 + limit / 600);
    assert!(body.is_end_stream() && body.frame().await.is_none(), "one error ends it");
}

#[tokio::test]
async fn a_body_error_is_passed_on_as_it_is() {
    let script = Script::new([
        piece("data: a\n\ndata: cut"),
        Step::Fail(Error::new(ErrorKind::Quota, "used up").into()),
        piece("\n\ndata: never\n\n"),
    ]);
    let (frames, error) = collect(reframe(SseReframeLayer::new(), script).await).await;
    assert_eq!(frames, ["data: a\n\n"]);
    let error = error.expect("passed on").downcast::<Error>().expect("not wrapped");
    assert!(error.is_quota());
}

#[tokio::test]
async fn in_band_errors_have_the_form_that_sdks_understand() {
    let layer = SseReframeLayer::new().on_error(OnError::InBand).max_event(40);
    let secret = io::Error::other("connect 10.0.0.1: \"refused\"");
    for (steps, expected) in [
        (
            vec![piece("data: cut"), Step::Fail(secret.into())],
            "the upstream broke the event stream off",
        ),
        (vec![Step::Fail(Error::new(ErrorKind::Quota, "say \"when\"\n").into())], "say \"when\"\n"),
        (vec![piece("data: cut")], "the event stream ended within an event"),
        (
            vec![piece("data: "), piece("0123456789012345678901234567890123456789")],
            "an event of the event stream has more than 40 bytes of data",
        ),
    ] {
        let steps = std::iter::once(piece("data: a\n\n")).chain(steps);
        let (frames, error) = collect(reframe(layer, Script::new(steps)).await).await;
        assert!(error.is_none());
        assert_eq!(frames[0], "data: a\n\n");
        assert_eq!(frames.len(), 2, "one terminal frame");
        let text = std::str::from_utf8(&frames[1]).expect("UTF-8");
        let json = text.strip_prefix("data: ").expect("no `event:`");
        let json = json.strip_suffix("\n\ndata: [DONE]\n\n").expect("a terminal marker");
        let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({"error": {
                "message": expected,
                "type": "upstream_error",
                "param": null,
                "code": "upstream_stream_error",
            }})
        );
    }
}

#[tokio::test]
async fn a_cut_is_an_error_and_a_missing_blank_line_is_not() {
    for (input, last) in [("data: a\n", "data: a\n\n"), ("data: [DONE]", "data: [DONE]\n\n")] {
        let (frames, error) =
            collect(reframe(SseReframeLayer::new(), Script::pieces([input])).await).await;
        assert!(error.is_none());
        assert_eq!(frames, [last]);
    }
    let (frames, error) =
        collect(reframe(SseReframeLayer::new(), Script::pieces(["data: {\"cut"])).await).await;
    assert!(frames.is_empty());
    let error = error.expect("told").downcast::<StreamError>().expect("the layer's own");
    assert!(matches!(*error, StreamError::Unfinished));
}

#[tokio::test]
async fn an_event_above_the_limit_is_an_error_that_says_so() {
    let script = Script::pieces(["data: 0123", "456789"]);
    let body = reframe(SseReframeLayer::new().max_event(15), script).await;
    let error = collect(body).await.1.expect("told").downcast::<StreamError>().expect("own");
    assert!(matches!(*error, StreamError::Decode(DecodeError::EventTooLong { limit: 15 })));
}

#[tokio::test]
async fn trailers_come_last() {
    let trailers = HeaderMap::from_iter([(
        header::HeaderName::from_static("x-cost"),
        HeaderValue::from_static("1"),
    )]);
    for (text, layer, frames) in [
        ("data: a\n\n", SseReframeLayer::new(), 1),
        ("data: a\n", SseReframeLayer::new(), 1),
        ("data: a", SseReframeLayer::new().on_error(OnError::InBand), 1),
    ] {
        let script = Script::new([piece(text), Step::Trailers(trailers.clone())]);
        let collected = reframe(layer, script).await.collect().await.expect("no error");
        assert_eq!(collected.trailers(), Some(&trailers));
        assert!(collected.to_bytes().ends_with(b"\n\n"), "{frames}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_comments_between_events() {
    let second = Duration::from_secs(1);
    let layer = SseReframeLayer::new().keep_alive(KeepAlive::new(10 * second));
    let script = Script::new([
        // Before the first event, whose byte order mark then has to go.
        Step::Wait(25 * second),
        piece("\u{feff}data: a\n\nda"),
        // Half events are no events, and there is always a boundary on this side.
        Step::Wait(6 * second),
        piece("ta"),
        Step::Wait(6 * second),
        piece(": b\n\n"),
        Step::Wait(9 * second),
        piece("data: c\n\n"),
    ]);
    let start = Instant::now();
    let mut body = reframe(layer, script).await;
    let mut seen = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = frame.expect("no error").into_data().expect("data");
        seen.push((start.elapsed().as_secs(), data));
    }
    let expected: [(u64, &[u8]); 6] = [
        (10, KEEP_ALIVE),
        (20, KEEP_ALIVE),
        (25, b"data: a\n\n"),
        (35, KEEP_ALIVE),
        (37, b"data: b\n\n"),
        (46, b"data: c\n\n"),
    ];
    assert_eq!(seen, expected.map(|(at, data)| (at, Bytes::from_static(data))));
}

/// A piece that looks like whole events need not be one, for what stands in it or came before.
#[tokio::test(start_paused = true)]
async fn what_only_looks_like_a_frame_is_put_in_form() {
    for (lenient, pieces, expected) in [
        (false, &["data: a\n\n", "data: b\r\ndata: c\n\n"][..], "data: a\n\ndata: b\ndata: c\n\n"),
        (false, &["data: a\n\n", "data: b\n\r", "\n\n"], "data: a\n\ndata: b\n\n\n"),
        (false, &["data: a\n\n", "data: b\n", "data: c\n\n"], "data: a\n\ndata: b\ndata: c\n\n"),
        (true, &["data: a\n\n", "data: b\ndata: c\n\n"], "data: a\n\ndata: b\n\ndata: c\n\n"),
    ] {
        let layer = SseReframeLayer::new().lenient(lenient);
        let (frames, error) =
            collect(reframe(layer, Script::pieces(pieces.iter().copied())).await).await;
        assert!(error.is_none());
        assert_eq!(String::from_utf8_lossy(&frames.concat()), expected);
    }
    let layer = SseReframeLayer::new().keep_alive(KeepAlive::new(Duration::from_secs(1)));
    let steps = [Step::Wait(Duration::from_millis(1500)), piece("\u{feff}data: a\n\n")];
    let (frames, _) = collect(reframe(layer, Script::new(steps)).await).await;
    assert_eq!(frames, [KEEP_ALIVE, b"data: a\n\n"]);
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_is_no_progress() {
    let layer = SseReframeLayer::new().keep_alive(KeepAlive::new(Duration::from_secs(1)));
    // A timeout of the upstream's silence stands inside of the layer and fires all the same.
    let inner = tower::service_fn(|_request: Request<()>| async {
        Ok::<_, Infallible>(event_stream(Script::new([piece("data: a\n\n"), Step::Stall])))
    });
    let inner = tower::ServiceBuilder::new()
        .layer(tower_http::timeout::ResponseBodyTimeoutLayer::new(Duration::from_secs(30)))
        .service(inner);
    let response = layer.layer(inner).oneshot(Request::new(())).await.expect("infallible");
    let mut body = std::pin::pin!(response.into_body());
    let start = Instant::now();
    let mut keep_alives = 0;
    let error = loop {
        match body.frame().await.expect("does not end") {
            Ok(frame) => keep_alives += usize::from(frame.into_data().expect("data") == KEEP_ALIVE),
            Err(error) => break error,
        }
    };
    assert_eq!((start.elapsed().as_secs(), keep_alives), (30, 29));
    assert!(error.downcast_ref::<StreamError>().is_none(), "the timeout's own error");
}

#[tokio::test]
async fn nothing_is_read_ahead_and_dropping_cancels() {
    let script = Script::pieces(["data: a\n\n", "data: b\n\n", "data: c\n\n"]);
    let (polls, dropped) = (script.polls.clone(), script.dropped.clone());
    let mut body = reframe(SseReframeLayer::new(), script).await;
    assert_eq!(polls.load(Ordering::Relaxed), 0);
    body.frame().await.expect("a frame").expect("no error");
    assert_eq!(polls.load(Ordering::Relaxed), 1);
    assert!(!dropped.load(Ordering::Relaxed));
    drop(body);
    assert!(dropped.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_lenient_layer_does_not_wait_for_blank_lines() {
    let script = Script::pieces(["data: a\n", "data: b\ndata: c", "\n\ndata: d\n"]);
    let (frames, error) =
        collect(reframe(SseReframeLayer::new().lenient(true), script).await).await;
    assert!(error.is_none());
    assert_eq!(frames, ["data: a\n\n", "data: b\n\n", "data: c\n\ndata: d\n\n"]);
}

/// What the debug view writes for a short stream.
async fn view(layer: SseReframeLayer) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let script = Script::pieces(["data: secret\n\ndata: b\n\nda", "ta: c\n\n"]);
    let (frames, _) = collect(reframe(layer, script).await).await;
    assert_eq!(frames.len(), 2);
    let bytes = log.0.lock().expect("no panic").clone();
    String::from_utf8(bytes).expect("UTF-8")
}

#[tokio::test]
async fn the_debug_view_tells_sizes_and_content_only_if_asked() {
    let log = view(SseReframeLayer::new()).await;
    let lines = |word: &str| log.lines().filter(|line| line.contains(word)).count();
    assert_eq!((lines(" in piece="), lines(" out event=")), (2, 3), "{log}");
    assert!(log.contains("event=0 bytes=14 frame=23") && log.contains("piece=1 bytes=7 held=2"));
    assert!(!log.contains("secret"), "{log}");
    let log = view(SseReframeLayer::new().trace_content(true)).await;
    assert!(log.contains("secret"), "{log}");
}

fn events(mut decoder: Decoder, input: &[u8]) -> Vec<Event> {
    decoder.push(Bytes::copy_from_slice(input));
    std::iter::from_fn(|| decoder.next_event().expect("short")).collect()
}

proptest! {
    #[test]
    fn the_client_reads_what_the_upstream_wrote(
        tokens in prop::collection::vec(
            prop_oneof![
                Just("data: "), Just("event: x"), Just("id: 1"), Just(":"), Just("\n\n"),
                Just("\n"), Just("\r"), Just("\r\n"), Just("[DONE]"), Just("漢"), Just("\u{feff}"),
            ],
            0..30,
        ),
        sizes in prop::collection::vec(1_usize..12, 1..6),
        lenient: bool,
    ) {
        let input = tokens.concat();
        let mut rest = input.as_bytes();
        let mut pieces = Vec::new();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at(rest.len().min(*size));
            pieces.push(Bytes::copy_from_slice(piece));
            rest = tail;
        }
        let layer = SseReframeLayer::new().lenient(lenient);
        let (frames, error) = tokio_test::block_on(async {
            collect(reframe(layer, Script::pieces(pieces)).await).await
        });
        // Without an error, what lacked its blank line has got it.
        let end = if error.is_none() { "\n\n" } else { "" };
        let whole = format!("{input}{end}").into_bytes();
        let expected = if lenient {
            events(Decoder::lenient(), &whole)
        } else {
            twin::naive(&whole)
        };
        let output = frames.concat();
        prop_assert_eq!(events(Decoder::new(), &output), expected);
        prop_assert!(!output.contains(&b'\r'));
        if let Some(last) = output.last() {
            prop_assert_eq!(*last, b'\n');
        }
    }
}

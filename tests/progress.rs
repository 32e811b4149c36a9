//! Streams that go on for ever and say nothing: each ends, in every adapter and in the byte lane,
//! before the first event as well as behind it.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, Fate, FullBody,
    chat::{Answer, ChatRequest, ChatStream, ChatStreamExt, Message, Role},
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    sse::reframe::SseReframeLayer,
    timeout::TimeoutLayer,
};

const IDLE: Duration = Duration::from_secs(40);
const BYTES: usize = 1 << 17;

const TIMEOUT: TimeoutLayer =
    TimeoutLayer::hosted().first_event(Some(IDLE)).idle(Some(IDLE)).total(None);

type Pieces = Pin<Box<dyn Stream<Item = Bytes> + Send>>;
/// Makes a stream for this reader.
type Make = Arc<dyn Fn(Reader) -> Pieces + Send + Sync>;

/// What reads the stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reader {
    Web,
    Compatible,
    Lane,
    /// An adapter under the layer for limits of time.
    TimedWeb,
    TimedCompatible,
}

const READERS: [Reader; 5] =
    [Reader::Web, Reader::Compatible, Reader::Lane, Reader::TimedWeb, Reader::TimedCompatible];

impl Reader {
    /// What says something.
    fn text(self) -> &'static str {
        match self {
            Self::Web | Self::TimedWeb => concat!(
                r#"data: {"response.created": {"chat_id": "c-1", "response_id": "r-1"}}"#,
                "\n\n",
                r#"data: {"choices": [{"delta": {"content": "Hi", "phase": "answer"}}]}"#,
                "\n\n"
            ),
            Self::Compatible | Self::TimedCompatible | Self::Lane => {
                concat!(r#"data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}"#, "\n\n")
            }
        }
    }

    /// An event with nothing in it.
    fn empty(self) -> &'static str {
        match self {
            Self::Web | Self::TimedWeb => concat!(
                r#"data: {"choices": [{"delta": {"content": "", "phase": "answer"}}]}"#,
                "\n\n"
            ),
            Self::Compatible | Self::TimedCompatible => concat!(
                r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
                "\n\n"
            ),
            // The lane does not read what the data says.
            Self::Lane => "event: ping\ndata:\n\n",
        }
    }

    fn last(self) -> &'static str {
        match self {
            Self::Web | Self::TimedWeb => concat!(
                r#"data: {"choices": [{"delta": {"phase": "answer", "status": "finished"}}]}"#,
                "\n\n"
            ),
            Self::Compatible | Self::TimedCompatible | Self::Lane => concat!(
                r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
                "\n\ndata: [DONE]\n\n"
            ),
        }
    }

    /// How the answer out of `pieces` ends, and how many bytes were taken of them.
    async fn read(self, pieces: Make) -> (Result<String, Error>, usize) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let upstream = service_fn(move |request: Request<FullBody>| {
            let (kind, body) = match request.uri().path() {
                "/api/v2/chats/new" => {
                    let chat = Full::from(r#"{"success": true, "data": {"id": "c-1"}}"#);
                    ("application/json", chat.boxed_unsync())
                }
                "/api/v2/chat/completions" | "/chat/completions" => {
                    let count = Arc::clone(&count);
                    let frames = pieces(self).map(move |piece| {
                        count.fetch_add(piece.len(), Ordering::Relaxed);
                        Ok::<_, Infallible>(Frame::data(piece))
                    });
                    ("text/event-stream", StreamBody::new(frames).boxed_unsync())
                }
                // A stop, or a deletion.
                _ => ("application/json", Full::default().boxed_unsync()),
            };
            std::future::ready(Response::builder().header("content-type", kind).body(body))
        });
        let ended = match self {
            Self::Web => {
                let layer = QwenWebLayer::new()
                    .commit_limit(usize::MAX)
                    .idle_events(Some(IDLE))
                    .max_bytes_without_event(BYTES);
                answer(layer.layer(upstream)).await
            }
            Self::Compatible => {
                let layer = CompatibleLayer::new(Server::Generic)
                    .idle_events(Some(IDLE))
                    .max_bytes_without_event(BYTES);
                answer(layer.layer(upstream)).await
            }
            // What the adapter itself is set to does not count there.
            Self::TimedWeb => {
                let layer = QwenWebLayer::new()
                    .commit_limit(usize::MAX)
                    .idle_events(Some(IDLE / 100))
                    .max_bytes_without_event(BYTES);
                answer(TIMEOUT.layer(layer.layer(upstream))).await
            }
            Self::TimedCompatible => {
                let layer = CompatibleLayer::new(Server::Generic)
                    .idle_events(Some(IDLE / 100))
                    .max_bytes_without_event(BYTES);
                answer(TIMEOUT.layer(layer.layer(upstream))).await
            }
            Self::Lane => {
                let layer =
                    SseReframeLayer::new().idle_events(Some(IDLE)).max_bytes_without_event(BYTES);
                let mut request = Request::new(FullBody::default());
                *request.uri_mut() = "/chat/completions".parse().expect("a path");
                let response = layer.layer(upstream).oneshot(request).await.expect("a response");
                let read = response.into_body().collect().await;
                read.map(|read| String::from_utf8_lossy(&read.to_bytes()).into_owned())
                    .map_err(|error| *error.downcast::<Error>().expect("one of the crate's"))
            }
        };
        (ended, taken.load(Ordering::Relaxed))
    }
}

/// The text of a chat's answer.
async fn answer<S, C>(service: S) -> Result<String, Error>
where
    S: Service<Request<ChatRequest>, Response = Response<C>, Error = Error>,
    C: ChatStream + Unpin,
{
    let hello = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
    let response = service.oneshot(Request::new(hello)).await?;
    Answer::collect(response.into_body().checked()).await.map(|answer| answer.text)
}

fn cut(text: impl Into<Bytes>, size: usize) -> impl Stream<Item = Bytes> {
    let text: Bytes = text.into();
    let starts = (0..text.len()).step_by(size);
    stream::iter(starts.map(move |at| text.slice(at..text.len().min(at + size))))
}

/// `pieces`, each after `wait`.
fn slowly(pieces: impl Stream<Item = Bytes> + Send + 'static, wait: Duration) -> Pieces {
    Box::pin(pieces.then(move |piece| async move {
        sleep(wait).await;
        piece
    }))
}

/// What goes on without end.
#[derive(Clone, Copy, Debug)]
enum Noise {
    Comments,
    BlankLines,
    EmptyEvents,
    /// One line, of an event.
    Line,
    /// One line, of a comment.
    CommentLine,
    /// Fields that only describe an event.
    Fields,
    EmptyFrames,
    Silence,
}

impl Noise {
    const ALL: [Self; 8] = [
        Self::Comments,
        Self::BlankLines,
        Self::EmptyEvents,
        Self::Line,
        Self::CommentLine,
        Self::Fields,
        Self::EmptyFrames,
        Self::Silence,
    ];

    fn pieces(self, reader: Reader) -> Pieces {
        let again = |piece: &'static str| -> Pieces {
            Box::pin(stream::repeat(Bytes::from_static(piece.as_bytes())))
        };
        let begun = |start: &'static str| -> Pieces {
            let start = stream::iter([Bytes::from_static(start.as_bytes())]);
            Box::pin(start.chain(stream::repeat(Bytes::from_static(b"x"))))
        };
        match self {
            Self::Comments => again(": still there\n\n"),
            Self::BlankLines => again("\n\r\n"),
            Self::EmptyEvents => again(reader.empty()),
            Self::Line => begun("data: {\"choices\": [{\"delta\": {\"content\": \""),
            Self::CommentLine => begun(": "),
            Self::Fields => again("event: ping\nid: 1\nretry: 1000\n\n"),
            Self::EmptyFrames => again(""),
            Self::Silence => Box::pin(stream::pending()),
        }
    }
}

/// Behind what the noise comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Behind {
    Nothing,
    Text,
}

fn noisy(noise: Noise, behind: Behind, wait: Option<Duration>) -> Make {
    Arc::new(move |reader: Reader| {
        let start = if behind == Behind::Text { reader.text() } else { "" };
        let noise = match wait {
            Some(wait) => slowly(noise.pieces(reader), wait),
            None => noise.pieces(reader),
        };
        Box::pin(stream::iter([Bytes::from_static(start.as_bytes())]).chain(noise))
    })
}

#[tokio::test(start_paused = true)]
async fn noise_at_any_pace_ends_when_no_event_comes() {
    let paces = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(39)];
    for (reader, noise) in READERS.iter().flat_map(|&r| Noise::ALL.map(move |noise| (r, noise))) {
        for (behind, pace) in [Behind::Nothing, Behind::Text]
            .into_iter()
            .flat_map(|behind| paces.map(move |pace| (behind, pace)))
        {
            let begun = Instant::now();
            let (ended, _) = reader.read(noisy(noise, behind, Some(pace))).await;
            let case = format!("{reader:?}, {noise:?} behind {behind:?} each {pace:?}");
            let error = ended.expect_err(&case);
            assert_eq!(error.kind(), ErrorKind::Timeout, "{case}: {error}");
            assert!(error.message().contains("40s"), "it names the limit: {error}");
            assert_eq!(error.fate(), Fate::Abandoned, "{case}");
            let elapsed = begun.elapsed();
            assert!(
                elapsed >= IDLE && elapsed < IDLE + Duration::from_secs(1),
                "{case}: {elapsed:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn noise_at_full_speed_ends_at_the_limit_of_bytes() {
    for (reader, noise) in READERS.iter().flat_map(|&r| Noise::ALL.map(move |noise| (r, noise))) {
        if matches!(noise, Noise::Silence) {
            continue;
        }
        for behind in [Behind::Nothing, Behind::Text] {
            let (ended, taken) = reader.read(noisy(noise, behind, None)).await;
            let case = format!("{reader:?}, {noise:?} behind {behind:?}");
            let error = ended.expect_err(&case);
            assert_eq!(error.kind(), ErrorKind::Upstream, "{case}: {error}");
            assert!(error.message().contains("131072"), "it names the limit: {error}");
            assert!(taken <= BYTES + 4096, "{case}: {taken} bytes were taken");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_goes_on_is_never_ended() {
    // Longer in all than any limit, in time as in bytes, with noise between.
    let steady: Make = Arc::new(|reader: Reader| {
        let noise = ": still there\n\n".repeat(8_000);
        let event = slowly(cut(noise + reader.text(), 40_000), Duration::from_secs(10));
        let events = event.chain(slowly(cut(reader.text(), 7), Duration::from_secs(1)));
        Box::pin(
            events
                .chain(slowly(cut(reader.text().repeat(20_000), 1 << 18), IDLE / 2))
                .chain(stream::iter([Bytes::from_static(reader.last().as_bytes())])),
        )
    });
    for reader in READERS {
        let (ended, taken) = reader.read(Arc::clone(&steady)).await;
        let text = ended.expect("it goes on");
        assert!(text.matches("Hi").count() == 20_002, "{reader:?}");
        assert!(taken > 3 * BYTES, "{reader:?}: {taken}");
    }
}

#[tokio::test(start_paused = true)]
async fn empty_events_before_the_text_cost_no_answer() {
    let late: Make = Arc::new(|reader: Reader| {
        let empty = cut(reader.empty().repeat(1_000), 500);
        let rest = [reader.text(), reader.last()].concat();
        Box::pin(empty.chain(stream::iter([Bytes::from(rest)])))
    });
    for reader in READERS {
        let (ended, _) = reader.read(Arc::clone(&late)).await;
        assert!(ended.expect("it begins late").contains("Hi"), "{reader:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn noise_behind_the_end_fails_nothing() {
    // The model has finished; what the connection does then makes the answer no less complete.
    let finished = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}"#,
        "\n\n"
    );
    for wait in [None, Some(Duration::from_secs(1))] {
        let make: Make = Arc::new(move |_| {
            let noise = Noise::Comments.pieces(Reader::Compatible);
            let noise = wait.map_or_else(
                || Noise::Comments.pieces(Reader::Compatible),
                |wait| slowly(noise, wait),
            );
            Box::pin(stream::iter([Bytes::from_static(finished.as_bytes())]).chain(noise))
        });
        let (ended, _) = Reader::Compatible.read(make).await;
        assert_eq!(ended.expect("it is complete"), "Hi");
    }
}

/// For how long the rest is awaited is an option of either adapter, and nothing makes it longer.
#[tokio::test(start_paused = true)]
async fn the_grace_behind_the_end_can_be_set() {
    let finished = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}"#,
        "\n\n"
    );
    let usage = concat!(
        r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
        "\n\n"
    );
    for noise in [Noise::Comments, Noise::Silence, Noise::EmptyEvents] {
        let upstream = service_fn(move |request: Request<FullBody>| {
            let response = Response::builder();
            std::future::ready(if request.uri().path() == "/api/v2/chats/new" {
                let chat = Full::from(r#"{"success": true, "data": {"id": "c-1"}}"#);
                response.header("content-type", "application/json").body(chat.boxed_unsync())
            } else {
                let counts = stream::once(async {
                    sleep(Duration::from_secs(3)).await;
                    Bytes::from_static(usage.as_bytes())
                });
                let noise = slowly(noise.pieces(Reader::Compatible), Duration::from_millis(700));
                let pieces = stream::iter([Bytes::from_static(finished.as_bytes())])
                    .chain(stream::select(counts, noise))
                    .map(Frame::data)
                    .map(Ok::<_, Infallible>);
                let body = StreamBody::new(Box::pin(pieces)).boxed_unsync();
                response.header("content-type", "text/event-stream").body(body)
            })
        });
        for (grace, has_counts) in [
            (None, false),
            (Some(Duration::ZERO), false),
            (Some(Duration::from_millis(500)), false),
            (Some(Duration::from_secs(5)), true),
        ] {
            let (mut compatible, mut web) =
                (CompatibleLayer::new(Server::Generic), QwenWebLayer::new());
            if let Some(grace) = grace {
                (compatible, web) = (compatible.grace(grace), web.grace(grace));
            }
            let (compatible, web) = (compatible.layer(upstream), web.layer(upstream));
            let hello = || {
                let hello = Message::new(Role::User, "Hello");
                Request::new(ChatRequest::new("qwen3-max", vec![hello]))
            };
            for of_web in [false, true] {
                let case = format!("{noise:?}, {grace:?}, web: {of_web}");
                let begun = Instant::now();
                let answer = if of_web {
                    let response = web.clone().oneshot(hello()).await.expect(&case);
                    Answer::collect(response.into_body().checked()).await
                } else {
                    let response = compatible.clone().oneshot(hello()).await.expect(&case);
                    Answer::collect(response.into_body().checked()).await
                };
                let answer = answer.expect("it is complete");
                assert_eq!(answer.text, "Hi", "{case}");
                assert_eq!(answer.usage.is_some(), has_counts, "{case}");
                let (grace, took) = (grace.unwrap_or(Duration::from_secs(2)), begun.elapsed());
                assert!(
                    took >= grace && took <= grace + Duration::from_millis(2),
                    "{case}: {took:?}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn limits_can_be_lifted() {
    let make = noisy(Noise::Comments, Behind::Nothing, Some(Duration::from_secs(1)));
    let upstream = service_fn(move |_: Request<FullBody>| {
        let frames =
            make(Reader::Compatible).take(10_000).map(Frame::data).map(Ok::<_, Infallible>);
        let response = Response::builder().header("content-type", "text/event-stream");
        std::future::ready(response.body(StreamBody::new(frames).boxed_unsync()))
    });
    let layer = CompatibleLayer::new(Server::Generic).idle_events(None);
    let error = answer(layer.layer(upstream)).await.expect_err("there is nothing in it");
    assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
}

/// Waits are no reason to panic where there is no clock to wait by.
#[test]
fn outside_of_a_runtime_every_answer_is_read() {
    for reader in READERS {
        let pieces: Make = Arc::new(move |reader: Reader| {
            let pieces = [reader.text(), reader.text(), reader.last()].map(Bytes::from);
            // Each comes with the second look, so that there is something to wait for.
            let mut late = false;
            let mut pieces = pieces.into_iter();
            Box::pin(stream::poll_fn(move |cx| {
                late = !late;
                if late {
                    cx.waker().wake_by_ref();
                    return std::task::Poll::Pending;
                }
                std::task::Poll::Ready(pieces.next())
            }))
        });
        let mut reading = tokio_test::task::spawn(reader.read(pieces));
        let read = (0..100).find_map(|_| match reading.poll() {
            std::task::Poll::Ready(read) => Some(read),
            std::task::Poll::Pending => None,
        });
        let (answer, _) = read.expect("it ends");
        assert!(
            answer.is_ok_and(|text| text.contains("HiHi") || text.contains("Hi\"")),
            "{reader:?}"
        );
    }
}

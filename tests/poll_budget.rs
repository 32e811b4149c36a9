//! One poll takes a bounded number of items and bytes, however much there is.

use std::{
    convert::Infallible,
    future::{Future, poll_fn, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Request, Response};
use http_body::{Body, Frame};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    FullBody,
    chat::{Answer, ChatEvent, ChatRequest, FunctionTool, Message, Role, Tool, Usage},
    openai::OpenAiLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    session::{MemoryStore, SessionLayer},
    sse::{EventStream, reframe::SseReframeLayer},
    tool::{call::ToolCallLayer, wrap::ToolWrapLayer},
};

/// The budget of the library: so many items, or so many bytes.
const ITEMS: usize = 256;
const BYTES: usize = 256 * 1024;

/// How often something was asked for more, which it always had.
#[derive(Clone, Default)]
struct Taken(Arc<AtomicUsize>);

impl Taken {
    fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn so_far(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A body that always has the same frame.
struct Flood {
    frame: Bytes,
    taken: Taken,
}

impl Body for Flood {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.taken.note();
        Poll::Ready(Some(Ok(Frame::data(self.frame.clone()))))
    }
}

fn flood(frame: &[u8], taken: &Taken) -> Flood {
    Flood { frame: Bytes::copy_from_slice(frame), taken: taken.clone() }
}

/// An answer that always has the same event.
fn events(
    event: &ChatEvent,
    taken: &Taken,
) -> impl Stream<Item = Result<ChatEvent, tower_qwen::Error>> + Send + Unpin + use<> {
    let (event, taken) = (event.clone(), taken.clone());
    stream::poll_fn(move |_| {
        taken.note();
        Poll::Ready(Some(Ok(event.clone())))
    })
}

fn chat() -> ChatRequest {
    let mut chat = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hi")]);
    chat.tools = Arc::new(vec![Tool::Function(FunctionTool::without_parameters("f"))]);
    chat
}

/// Polls `work` a few times, which never ends: each time not more than `most` is taken, and the
/// task is woken.
fn check(name: &str, taken: &Taken, most: usize, work: impl Future<Output = ()>) {
    let mut task = tokio_test::task::spawn(work);
    for poll in 0..4 {
        let before = taken.so_far();
        assert!(task.poll().is_pending(), "{name}: it does not end");
        let items = taken.so_far() - before;
        assert!((1..=most).contains(&items), "{name}: poll {poll} took {items} of at most {most}");
        assert!(task.is_woken(), "{name}: it would never go on");
    }
}

async fn drain<S: Stream>(stream: S) {
    let mut stream = std::pin::pin!(stream);
    while poll_fn(|cx| stream.as_mut().poll_next(cx)).await.is_some() {}
}

async fn drain_body<B: Body>(body: B) {
    let mut body = std::pin::pin!(body);
    while poll_fn(|cx| body.as_mut().poll_frame(cx)).await.is_some() {}
}

/// Frames that are many and frames that are large.
fn floods(small: &str) -> [(Bytes, usize); 2] {
    let large = small.repeat(64 * 1024 / small.len());
    let most = BYTES / (64 * 1024);
    [(small.to_owned().into(), ITEMS), (large.into(), most)]
}

#[test]
fn an_event_stream_waits_its_turn() {
    for (frame, most) in floods(": comment\n\n") {
        let taken = Taken::default();
        check("events", &taken, most, drain(EventStream::new(flood(&frame, &taken))));
    }
}

#[test]
fn a_reframed_body_waits_its_turn() {
    let taken = Taken::default();
    let body = flood(b"x", &taken);
    let response = Response::builder().header("content-type", "text/event-stream").body(body);
    let mut response = Some(response.expect("a response"));
    let inner = service_fn(move |_: Request<FullBody>| {
        ready(Ok::<_, Infallible>(response.take().expect("one request")))
    });
    let reframe = ServiceBuilder::new().layer(SseReframeLayer::new()).service(inner);
    check("reframed", &taken, ITEMS, async {
        let response = reframe.oneshot(Request::new(FullBody::default())).await.expect("answers");
        drain_body(response.into_body()).await;
    });
}

#[test]
fn an_upload_waits_its_turn() {
    for (frame, most) in floods(" ") {
        let taken = Taken::default();
        let inner = service_fn(|_: Request<ChatRequest>| {
            let none = stream::empty::<Result<ChatEvent, tower_qwen::Error>>();
            ready(Ok::<_, tower_qwen::Error>(Response::new(none)))
        });
        let edge = OpenAiLayer::new().max_body(usize::MAX / 2);
        let edge = ServiceBuilder::new().layer(edge).service(inner);
        let request = Request::post("/").body(flood(&frame, &taken)).expect("a request");
        check("upload", &taken, most, async {
            let Ok(_) = edge.oneshot(request).await;
        });
    }
}

/// What the layers leave out of an answer, hold of it, or pass.
#[test]
fn the_middle_waits_its_turn() {
    let call = ChatEvent::ToolCall { index: 0, id: "c".into(), name: "f".into() };
    let many = [ChatEvent::Text("x".into()), ChatEvent::Usage(Usage::new(1, 1)), call];
    for event in many {
        let taken = Taken::default();
        let inner = events(&event, &taken);
        check("collect", &taken, ITEMS, async {
            let _ = Answer::collect(inner).await;
        });

        macro_rules! layer {
            ($name:expr, $layer:expr) => {{
                let taken = Taken::default();
                let (event, counted) = (event.clone(), taken.clone());
                let service = service_fn(move |_: Request<ChatRequest>| {
                    let inner = events(&event, &counted);
                    ready(Ok::<_, tower_qwen::Error>(Response::new(inner)))
                });
                let service = ServiceBuilder::new().layer($layer).service(service);
                check($name, &taken, ITEMS, async {
                    let response = service.oneshot(Request::new(chat())).await;
                    drain(response.expect("answers").into_body()).await;
                });
            }};
        }
        layer!("calls", ToolCallLayer::native());
        layer!("calls in the text", ToolCallLayer::prompted());
        layer!("wrapped", ToolWrapLayer::new());
    }
}

#[test]
fn a_session_waits_its_turn() {
    let taken = Taken::default();
    let counted = taken.clone();
    let inner = service_fn(move |_: Request<ChatRequest>| {
        let inner = events(&ChatEvent::Text("x".into()), &counted);
        ready(Ok::<_, tower_qwen::Error>(Response::new(inner)))
    });
    let layer = SessionLayer::new(MemoryStore::default());
    let service = ServiceBuilder::new().layer(layer).service(inner);
    check("session", &taken, ITEMS, async {
        let response = service.oneshot(Request::new(chat())).await;
        drain(response.expect("answers").into_body()).await;
    });
}

/// An answer of which nothing is written.
#[test]
fn an_edge_waits_its_turn() {
    let taken = Taken::default();
    let counted = taken.clone();
    let inner = service_fn(move |_: Request<ChatRequest>| {
        let inner = events(&ChatEvent::Usage(Usage::new(1, 1)), &counted);
        ready(Ok::<_, tower_qwen::Error>(Response::new(inner)))
    });
    let edge = ServiceBuilder::new().layer(OpenAiLayer::new().keep_alive(None)).service(inner);
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    let request = Request::post("/").body(FullBody::new(Bytes::from(body))).expect("a request");
    check("edge", &taken, ITEMS, async {
        let Ok(response) = edge.oneshot(request).await;
        drain_body(response.into_body()).await;
    });
}

/// Before the commit point, and after it.
#[test]
fn an_upstream_waits_its_turn() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _inside = runtime.enter();
    for (media_type, small) in [
        ("text/event-stream", ": comment\n\n"),
        ("text/event-stream", "x"),
        ("application/json", " "),
        ("text/html", " "),
    ] {
        for (frame, most) in floods(small) {
            let taken = Taken::default();
            let answer = move |frame: &[u8], taken: &Taken| {
                let response = Response::builder().header("content-type", media_type);
                response.body(http_body_util::Either::Left(flood(frame, taken)))
            };
            let api = {
                let (frame, taken) = (frame.clone(), taken.clone());
                service_fn(move |_: Request<FullBody>| {
                    ready(Ok::<_, tower::BoxError>(answer(&frame, &taken).expect("a response")))
                })
            };
            let opened = r#"{"success":true,"data":{"id":"c-1"}}"#;
            let web = {
                let api = api.clone();
                service_fn(move |request: Request<FullBody>| {
                    let api = api.clone();
                    async move {
                        if request.uri().path().ends_with("/new") {
                            let body = http_body_util::Either::Right(FullBody::from(opened));
                            return Ok(Response::builder()
                                .header("content-type", "application/json")
                                .body(body)
                                .expect("a response"));
                        }
                        api.oneshot(request).await
                    }
                })
            };
            let name = format!("{media_type} {small:?}");
            let ends = |taken: &Taken, work: Pin<Box<dyn Future<Output = ()>>>| {
                // What is bounded as a whole may end, within the bound.
                let mut task = tokio_test::task::spawn(work);
                for poll in 0..8 {
                    let before = taken.so_far();
                    let done = task.poll().is_ready();
                    let items = taken.so_far() - before;
                    assert!(items <= most, "{name}: poll {poll} took {items} of at most {most}");
                    if done {
                        return;
                    }
                    assert!(task.is_woken(), "{name}: it would never go on");
                }
            };
            let service =
                ServiceBuilder::new().layer(CompatibleLayer::new(Server::Vllm)).service(api);
            ends(
                &taken,
                Box::pin(async {
                    if let Ok(response) = service.oneshot(Request::new(chat())).await {
                        drain(response.into_body()).await;
                    }
                }),
            );
            let service = ServiceBuilder::new().layer(QwenWebLayer::new()).service(web);
            ends(
                &taken,
                Box::pin(async {
                    if let Ok(response) = service.oneshot(Request::new(chat())).await {
                        drain(response.into_body()).await;
                    }
                }),
            );
        }
    }
}

//! `InspectLayer`: what the log tells of a stream at each place of a stack, on a paused clock.

use std::{
    collections::BTreeMap,
    fmt,
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::sleep;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    CredentialHeaders, Error, ErrorKind, FullBody,
    chat::{ChatEvent, ChatRequest, FinishReason, Message, Role, Usage},
    inspect::{InspectLayer, TARGET, View},
    openai::OpenAiLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
};
use tower_qwen_emulator::{Emulator, Kind};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::{DefaultGuard, set_default},
};

/// The fields of what was told, as texts.
type Line = BTreeMap<&'static str, String>;

/// Listens to the target, and to nothing else.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

impl Log {
    fn listen() -> (Self, DefaultGuard) {
        let log = Self::default();
        let guard = set_default(log.clone());
        (log, guard)
    }

    fn take(&self) -> Vec<Line> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }

    /// `kind bytes at detail`, of each line told at a place.
    fn at(&self, place: &str) -> Vec<String> {
        let lines = self.take();
        let lines = lines.iter().filter(|line| line["place"] == place);
        lines.map(short).collect()
    }
}

fn short(line: &Line) -> String {
    let fields = ["kind", "bytes", "detail", "content"];
    let fields = fields.iter().filter_map(|name| line.get(name)).map(String::as_str);
    fields.collect::<Vec<_>>().join(" ")
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Fields(Line::new());
        event.record(&mut line);
        self.0.lock().expect("no panic").push(line.0);
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Fields(Line);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

fn question(text: &str) -> ChatRequest {
    ChatRequest::new("qwen3-max", vec![Message::new(Role::User, text)])
}

/// An upstream that gives these items, each after ten milliseconds.
async fn drained(layer: InspectLayer, items: Vec<Result<ChatEvent, Error>>) {
    let items = Arc::new(Mutex::new(Some(items)));
    let upstream = service_fn(move |_: Request<ChatRequest>| {
        let items = items.lock().expect("no panic").take().expect("asked once");
        let items = stream::iter(items).then(async |item| {
            sleep(Duration::from_millis(10)).await;
            item
        });
        ready(Ok::<_, Error>(Response::new(Box::pin(items))))
    });
    let response = layer.layer(upstream).oneshot(Request::new(question("secret words"))).await;
    let mut answer = response.expect("it answers").into_body();
    while answer.next().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn events_are_told_with_their_kinds_sizes_and_times() {
    let (log, _guard) = Log::listen();
    let items = [
        ChatEvent::Reasoning("hm".into()),
        ChatEvent::Text("Hello".into()),
        ChatEvent::ToolCall { index: 0, id: "c".into(), name: "read".into() },
        ChatEvent::ToolArguments { index: 0, json: "{}".into() },
        ChatEvent::Usage(Usage::new(3, 4)),
        ChatEvent::Finished(FinishReason::ToolCalls),
    ];
    let items = || items.iter().cloned().map(Ok).collect::<Vec<_>>();
    drained(InspectLayer::new("here"), items()).await;
    let told = log.take();
    let shown: Vec<_> = told.iter().map(short).collect();
    assert_eq!(
        shown,
        [
            "request",
            "head 200",
            "reasoning 2",
            "text 5",
            "tool_call 4 0",
            "tool_arguments 2 0",
            "usage 0 3 in, 4 out",
            "finished 0 tool_calls",
            "end",
        ]
    );
    for (n, line) in told.iter().enumerate() {
        assert_eq!(line["n"], n.to_string());
        let at = 10_000 * n.saturating_sub(1).min(6);
        assert_eq!(line["at_us"], at.to_string(), "{line:?}");
        let gap = if (2..8).contains(&n) { 10_000 } else { 0 };
        assert_eq!(line["gap_us"], gap.to_string(), "{line:?}");
    }

    drained(InspectLayer::new("here").view(View::Content), items()).await;
    let told = log.at("here");
    assert_eq!(told[2..5], ["reasoning 2 hm", "text 5 Hello", "tool_call 4 0 read"]);
    assert!(!told.join("\n").contains("secret words"), "nothing of a request is told");

    drained(InspectLayer::new("here").view(View::None), items()).await;
    assert_eq!(log.take(), Vec::<Line>::new());

    let failed = Error::new(ErrorKind::Truncated, "it broke off").with_code("secret_code");
    drained(InspectLayer::new("here"), vec![Ok(ChatEvent::Text("a".into())), Err(failed)]).await;
    assert_eq!(log.at("here")[2..], ["text 1", "error Truncated"]);
}

/// A stream that nobody reads on, and a call that is given up or fails.
#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_told() {
    let (log, _guard) = Log::listen();
    let text = || stream::repeat_with(|| Ok(ChatEvent::Text("a".into())));
    let endless =
        service_fn(move |_: Request<ChatRequest>| ready(Ok::<_, Error>(Response::new(text()))));
    let stack = InspectLayer::new("here").layer(endless);
    let mut answer =
        stack.oneshot(Request::new(question("x"))).await.expect("it answers").into_body();
    answer.next().await.expect("an event").expect("a text");
    drop(answer);
    assert_eq!(log.at("here"), ["request", "head 200", "text 1", "dropped"]);

    let silent = service_fn(|_: Request<()>| std::future::pending::<Result<Response<()>, Error>>());
    let call = InspectLayer::new("here").layer(silent).oneshot(Request::new(()));
    tokio::time::timeout(Duration::from_secs(1), call).await.expect_err("it never answers");
    assert_eq!(log.at("here"), ["request", "dropped"]);

    let refuses = service_fn(|_: Request<()>| ready(Err::<Response<()>, _>("no")));
    InspectLayer::new("here")
        .layer(refuses)
        .oneshot(Request::new(()))
        .await
        .expect_err("it refuses");
    assert_eq!(log.at("here"), ["request", "failed"]);
}

/// Pieces as the network cut them, and the events that they make.
#[tokio::test(start_paused = true)]
async fn the_events_of_a_body_are_found_whatever_its_pieces() {
    const SENT: &str = "sk-demo-upstream-key";
    let (log, _guard) = Log::listen();
    let answer = async |layer: InspectLayer, content_type: &'static str, pieces: Vec<String>| {
        let upstream = service_fn(move |_: Request<FullBody>| {
            let pieces =
                pieces.clone().into_iter().map(|piece| Ok::<_, Error>(Frame::data(piece.into())));
            let body =
                StreamBody::new(stream::iter(pieces.collect::<Vec<Result<Frame<Bytes>, _>>>()));
            let mut response = Response::new(body);
            response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
            let name = HeaderName::from_static("authorization");
            let value = HeaderValue::from_str(&format!("Bearer {SENT}")).expect("a value");
            response.extensions_mut().insert(CredentialHeaders::new([(name, value)]));
            ready(Ok::<_, Error>(response))
        });
        let request = Request::builder().header("authorization", format!("Bearer {SENT}"));
        let request = request.body(FullBody::default()).expect("a request");
        let response = layer.layer(upstream).oneshot(request).await.expect("it answers");
        response.into_body().collect().await.expect("a body").to_bytes()
    };
    let pieces = ["data: {\"a\"", ":1}\n", "\nevent: x\ndata: two\n\n: comment\n\ndata: three\n\n"];
    let pieces = || pieces.map(String::from).to_vec();
    let body =
        answer(InspectLayer::new("here"), "text/event-stream; charset=utf-8", pieces()).await;
    assert_eq!(body, pieces().concat());
    assert_eq!(
        log.at("here"),
        [
            "request",
            "head 200",
            "piece 10",
            "piece 4",
            "piece 45",
            "event 7 message",
            "event 3 x",
            "event 5 message",
            "end",
        ]
    );
    let layer = InspectLayer::new("here").view(View::Content);
    answer(layer, "text/event-stream", pieces()).await;
    assert_eq!(
        log.at("here")[5..8],
        ["event 7 message {\"a\":1}", "event 3 x two", "event 5 message three"]
    );

    // What is no stream of events is told of as pieces. Credentials are in neither.
    for content_type in ["application/json", "text/event-stream"] {
        let said = format!("data: bad key {SENT}, {}\n\n", "é".repeat(20_000));
        answer(layer, content_type, vec![said]).await;
        let told = log.at("here").join("\n");
        assert!(told.contains("bad key [redacted], é") && !told.contains(SENT), "{content_type}");
        assert!(told.len() < 17 * 1024, "{}", told.len());
    }
    answer(layer, "text/event-stream", vec!["x".repeat(9 << 20)]).await;
    assert_eq!(log.at("here")[2..], ["piece 9437184", "undecodable", "end"]);
}

/// The same answer at four places of one stack.
#[tokio::test(start_paused = true)]
async fn a_stack_can_be_looked_into_at_every_place() {
    for kind in [Kind::Web, Kind::Vllm] {
        let (log, _guard) = Log::listen();
        let emulator = Emulator::builder().kind(kind).build();
        let upstream = InspectLayer::new("upstream").layer(emulator);
        let stack = ServiceBuilder::new()
            .layer(InspectLayer::new("client"))
            .layer(OpenAiLayer::new())
            .layer(InspectLayer::new("stack"));
        let model = if kind == Kind::Web { "qwen3-max" } else { "Qwen/Qwen3-32B" };
        let body = format!(
            r#"{{"model":"{model}","stream":true,
                "messages":[{{"role":"user","content":"emulate:say=Hello."}}]}}"#
        );
        let request =
            Request::post("/v1/chat/completions").header("content-type", "application/json");
        let request = request.body(FullBody::from(body)).expect("a request");
        let body = match kind {
            Kind::Web => {
                let stack = stack.layer(QwenWebLayer::new()).service(upstream);
                stack.oneshot(request).await.expect("it answers").into_body().collect().await
            }
            _ => {
                let stack = stack.layer(CompatibleLayer::new(Server::Vllm)).service(upstream);
                stack.oneshot(request).await.expect("it answers").into_body().collect().await
            }
        };
        body.expect("a body");
        let told = log.take();
        for (place, wanted) in [
            ("client", &["request", "head", "piece", "event", "end"][..]),
            ("stack", &["request", "head", "started", "text", "finished", "end"]),
            // Who has seen the end of the answer reads no further.
            ("upstream", &["request", "head", "piece", "event"]),
        ] {
            let kinds: Vec<_> = told.iter().filter(|line| line["place"] == place).collect();
            for kind in wanted {
                assert!(
                    kinds.iter().any(|line| line["kind"] == *kind),
                    "{place}, {kind}: {told:?}"
                );
            }
        }
    }
}

#[derive(Clone)]
struct Wanted;

#[tokio::test]
async fn one_request_of_many_can_be_looked_at() {
    let (log, _guard) = Log::listen();
    let layer = InspectLayer::new("here").view_by(|request| match request.get::<Wanted>() {
        Some(Wanted) => View::Events,
        None => View::None,
    });
    let answers =
        service_fn(|_: Request<()>| ready(Ok::<_, Error>(Response::new(FullBody::default()))));
    let stack = layer.layer(answers);
    drop(stack.clone().oneshot(Request::new(())).await.expect("it answers"));
    assert!(log.take().is_empty());
    let mut request = Request::new(());
    request.extensions_mut().insert(Wanted);
    drop(stack.oneshot(request).await.expect("it answers"));
    assert_eq!(log.at("here"), ["request", "head 200", "dropped"]);
}

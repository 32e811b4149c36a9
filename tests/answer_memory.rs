//! What an upstream's answer costs, whatever its shape: allocated bytes, counted, of one event and
//! of one body that a hostile or broken server sends, through both adapters.

use std::{
    future,
    sync::{LazyLock, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use peak_alloc::PeakAlloc;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_qwen::{
    Error, FullBody,
    chat::{Answer, ChatRequest, ChatStream, ChatStreamExt, Message, Role},
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What an answer may take beside four times its size: lists of what is read, at their limits.
const CONSTANT: usize = 1 << 20;

const SIZE: usize = 1 << 20;

/// What is repeated, separated by commas, and where: `*` is its place.
const SHAPES: [(&str, &str, &str); 24] = [
    (
        "empty lists beside the answer",
        "[]",
        r#"{"x":[*],"choices":[{"index":0,"delta":{"content":"a"}}]}"#,
    ),
    (
        "lists beside the answer",
        "[0]",
        r#"{"x":[*],"choices":[{"index":0,"delta":{"content":"a"}}]}"#,
    ),
    (
        "objects beside the answer",
        r#"{"a":0}"#,
        r#"{"x":[*],"choices":[{"index":0,"delta":{"content":"a"}}]}"#,
    ),
    (
        "keys beside the answer",
        r#""k":0"#,
        r#"{*,"choices":[{"index":0,"delta":{"content":"a"}}]}"#,
    ),
    ("the same key", r#""choices":[]"#, "{*}"),
    ("empty choices", "{}", r#"{"choices":[*]}"#),
    ("choices", r#"{"index":0,"delta":{"content":"a"}}"#, r#"{"choices":[*]}"#),
    ("numbers for choices", "0", r#"{"choices":[*]}"#),
    ("fields of a delta", r#""k":0"#, r#"{"choices":[{"delta":{*}}]}"#),
    ("lists in a delta", "[]", r#"{"choices":[{"delta":{"content":"a","x":[*]}}]}"#),
    ("empty calls", "{}", r#"{"choices":[{"delta":{"tool_calls":[*]}}]}"#),
    (
        "pieces of a call",
        r#"{"index":0,"function":{"arguments":"a"}}"#,
        r#"{"choices":[{"delta":{"tool_calls":[*]}}]}"#,
    ),
    (
        "calls",
        r#"{"id":"c","function":{"name":"f","arguments":"{}"}}"#,
        r#"{"choices":[{"delta":{"tool_calls":[*]}}]}"#,
    ),
    ("parts", r#"{"type":"text","text":"a"}"#, r#"{"choices":[{"delta":{"content":[*]}}]}"#),
    ("empty parts", "{}", r#"{"choices":[{"delta":{"content":[*]}}]}"#),
    ("fields of the usage", r#""k":0"#, r#"{"usage":{*},"choices":[{"delta":{"content":"a"}}]}"#),
    ("lists in the usage", "[]", r#"{"usage":{"x":[*]},"choices":[{"delta":{"content":"a"}}]}"#),
    ("lists for an error", "[]", r#"{"error":[*]}"#),
    ("fields of an error", r#""k":0"#, r#"{"error":{*,"message":"m"}}"#),
    ("details of an error", r#"{"a":0}"#, r#"{"error":{"details":[*],"message":"m"}}"#),
    ("lists for data", "[]", r#"{"success":false,"data":[*]}"#),
    (
        "lists for what was created",
        "[]",
        r#"{"response.created":{"chat_id":"c","response_id":"r","x":[*]}}"#,
    ),
    ("a message of escapes", r"\u0001", r#"{"error":{"message":"*"}}"#),
    ("a text of escapes", r"\u0001", r#"{"choices":[{"delta":{"content":"*"}}]}"#),
];

/// The shape in `SIZE` bytes.
fn json(unit: &str, around: &str) -> String {
    let (before, after) = around.split_once('*').expect("a place");
    let separator = if unit.starts_with('\\') { "" } else { "," };
    let times = SIZE / (unit.len() + separator.len());
    format!("{before}{}{after}", vec![unit; times].join(separator))
}

/// How the server sends it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// As one event of a stream that goes on and ends well.
    Event,
    /// As one body of JSON with this status.
    Whole(u16),
}

const WAYS: [Way; 5] =
    [Way::Event, Way::Whole(200), Way::Whole(400), Way::Whole(429), Way::Whole(500)];

fn response(way: Way, body: &Bytes) -> Response<UnsyncBoxBody<Bytes, Error>> {
    // As a connection brings it.
    let frames: Vec<_> = (0..body.len())
        .step_by(16 << 10)
        .map(|at| Ok(Frame::data(body.slice(at..body.len().min(at + (16 << 10))))))
        .collect();
    let (status, kind) = match way {
        Way::Event => (200, "text/event-stream"),
        Way::Whole(status) => (status, "application/json"),
    };
    Response::builder()
        .status(StatusCode::from_u16(status).expect("a status"))
        .header(CONTENT_TYPE, kind)
        .body(StreamBody::new(stream::iter(frames)).boxed_unsync())
        .expect("a response")
}

async fn ask<S, C>(service: S)
where
    S: Service<Request<ChatRequest>, Response = Response<C>, Error = Error>,
    C: ChatStream + Unpin,
{
    let hello = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
    // Whether it is an answer or an error is others' to test; here it is read to its end.
    if let Ok(response) = service.oneshot(Request::new(hello)).await {
        drop(Answer::collect(response.into_body().checked()).await);
    }
}

/// The most bytes that there were at once, what the server sent not included.
fn peak(web: bool, way: Way, body: Bytes) -> usize {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime")
    });
    LazyLock::force(&RUNTIME);
    let upstream = service_fn(move |request: Request<FullBody>| {
        let path = request.uri().path();
        future::ready(Ok::<_, Error>(if path.ends_with("/new") {
            let created = r#"{"success":true,"request_id":"q","data":{"id":"c-1"}}"#;
            response(Way::Whole(200), &Bytes::from_static(created.as_bytes()))
        } else if path.contains("completions") {
            response(way, &body)
        } else {
            response(Way::Whole(200), &Bytes::from_static(b"{}"))
        }))
    });
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    RUNTIME.block_on(async {
        if web {
            ask(QwenWebLayer::new().layer(upstream)).await;
        } else {
            ask(CompatibleLayer::new(Server::Generic).layer(upstream)).await;
        }
    });
    ALLOCATED.peak_usage() - before
}

#[test]
fn an_answer_of_any_shape_costs_its_size() {
    // The allocator counts what all threads have.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut fell = Vec::new();
    for (name, unit, around) in SHAPES {
        let json = json(unit, around);
        for way in WAYS {
            for web in [false, true] {
                let body = match (way, web) {
                    (Way::Event, false) => format!(
                        "data: {json}\n\ndata: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"a\"}},\
                         \"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n\n"
                    ),
                    (Way::Event, true) => format!(
                        "data: {json}\n\ndata: {{\"choices\":[{{\"delta\":{{\"content\":\"a\",\
                         \"phase\":\"answer\",\"status\":\"finished\"}}}}]}}\n\n"
                    ),
                    (Way::Whole(_), _) => json.clone(),
                };
                let most = peak(web, way, Bytes::from(body));
                if most > 4 * SIZE + CONSTANT {
                    let reader = if web { "web" } else { "compatible" };
                    fell.push(format!(
                        "{name}, {way:?}, {reader}: {:.1}",
                        most as f64 / SIZE as f64
                    ));
                }
            }
        }
    }
    assert!(fell.is_empty(), "beyond four times the size of the answer:\n{}", fell.join("\n"));
}

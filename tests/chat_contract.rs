//! Every wrapper keeps the contract of chat streams alike, whatever the stream inside does.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use serde_json::json;
use tower::{Layer, Service, ServiceExt};
use tower_qwen::{
    Error, ErrorKind,
    chat::{
        Answer, ChatEvent, ChatRequest, ChatStream, ChatStreamExt, Citation, Contract,
        Conversation, FinishReason, FunctionTool, Message, Role, Tool, Usage, Violation,
    },
    openai::OpenAiLayer,
    session::{MemoryStore, SessionLayer},
    tool::{call::ToolCallLayer, wrap::ToolWrapLayer},
};

type Item = Result<ChatEvent, Error>;

/// The words of whoever notices a missing end.
const CUT: &str = "the upstream's stream ended before the answer was complete";

fn text(text: &str) -> Item {
    Ok(ChatEvent::Text(text.into()))
}

fn started() -> Item {
    Ok(ChatEvent::Started(Conversation::new("c").with_parent("a").into()))
}

fn usage() -> Item {
    Ok(ChatEvent::Usage(Usage::new(1, 2)))
}

fn finished(reason: FinishReason) -> Item {
    Ok(ChatEvent::Finished(reason))
}

fn stop() -> Item {
    finished(FinishReason::Stop)
}

fn error() -> Item {
    Err(Error::new(ErrorKind::Quota, "used up"))
}

fn copy(item: &Item) -> Item {
    match item {
        Ok(event) => Ok(event.clone()),
        Err(error) => Err(Error::new(error.kind(), error.message().to_owned())),
    }
}

/// A stream that is watched: no wrapper may poll it after its end or its error.
struct Watched {
    items: std::vec::IntoIter<Item>,
    over: bool,
}

impl Watched {
    fn new(items: &[Item]) -> Self {
        Self { items: items.iter().map(copy).collect::<Vec<_>>().into_iter(), over: false }
    }
}

impl Stream for Watched {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Item>> {
        assert!(!self.over, "polled after its end");
        let item = self.items.next();
        self.over = matches!(item, None | Some(Err(_)));
        Poll::Ready(item)
    }
}

fn with_tools(has: bool) -> ChatRequest {
    let mut request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
    let tool = |name| Tool::Function(FunctionTool::new(name, json!({"properties": {"a": {}}})));
    if has {
        request.tools = Arc::new(vec![tool("read"), tool("list")]);
    }
    request
}

/// Everything that comes out of `layer` over this stream; and it stays over.
async fn through<L, B>(layer: &L, request: ChatRequest, items: &[Item]) -> Vec<Item>
where
    L: Layer<Inner>,
    L::Service: Service<Request<ChatRequest>, Response = Response<B>>,
    <L::Service as Service<Request<ChatRequest>>>::Error: std::fmt::Debug,
    B: ChatStream,
{
    let service = layer.layer(Inner(Arc::new(Mutex::new(Some(Watched::new(items))))));
    let response = service.oneshot(Request::new(request)).await.expect("a response");
    let mut body = pin!(response.into_body());
    let mut out = Vec::new();
    while let Some(item) = body.next().await {
        out.push(item);
    }
    assert!(body.next().await.is_none() && body.next().await.is_none());
    out
}

#[derive(Clone)]
struct Inner(Arc<Mutex<Option<Watched>>>);

impl Service<Request<ChatRequest>> for Inner {
    type Response = Response<Watched>;
    type Error = Error;
    type Future = std::future::Ready<Result<Response<Watched>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<ChatRequest>) -> Self::Future {
        let stream = self.0.lock().expect("no panic").take().expect("one request");
        std::future::ready(Ok(Response::new(stream)))
    }
}

/// The layers of the middle, in each of their ways to read an answer.
const WRAPPERS: [&str; 6] = ["session", "passed", "native", "calls", "rescue", "wrap"];

async fn wrapped(which: &str, items: &[Item]) -> Vec<Item> {
    match which {
        "session" => {
            through(&SessionLayer::new(MemoryStore::default()), with_tools(false), items).await
        }
        "passed" => through(&ToolCallLayer::prompted(), with_tools(false), items).await,
        "native" => through(&ToolCallLayer::native(), with_tools(true), items).await,
        "calls" => through(&ToolCallLayer::prompted(), with_tools(true), items).await,
        "rescue" => through(&ToolCallLayer::native_with_rescue(), with_tools(true), items).await,
        "wrap" => through(&ToolWrapLayer::new(), with_tools(false), items).await,
        other => panic!("{other}"),
    }
}

fn judge(items: &[Item]) -> Result<(), Violation> {
    let mut contract = Contract::new();
    for item in items {
        contract.observe(item)?;
    }
    contract.end()
}

fn said(items: &[Item]) -> String {
    items
        .iter()
        .filter_map(|item| match item {
            Ok(ChatEvent::Text(text)) => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_missing_end_is_told_in_the_same_words() {
    for which in WRAPPERS {
        for inner in [vec![], vec![started()], vec![started(), text("Hello <re"), usage()]] {
            let out = wrapped(which, &inner).await;
            assert_eq!(judge(&out), Ok(()), "{which}");
            let error = out.last().expect("an item").as_ref().expect_err("cut");
            assert_eq!((error.kind(), error.message()), (ErrorKind::Truncated, CUT), "{which}");
            assert_eq!(said(&out), said(&inner), "{which}");
        }
    }
}

#[tokio::test]
async fn an_error_is_passed_on_and_is_the_last() {
    for which in WRAPPERS {
        let inner = [started(), text("Hello <re"), error(), text("more"), stop()];
        let out = wrapped(which, &inner).await;
        assert_eq!(judge(&out), Ok(()), "{which}");
        let error = out.last().expect("an item").as_ref().expect_err("the error");
        assert_eq!((error.kind(), error.message()), (ErrorKind::Quota, "used up"), "{which}");
        assert_eq!(said(&out), "Hello <re", "{which}");
    }
}

#[tokio::test]
async fn after_the_end_only_token_counts_pass() {
    for which in WRAPPERS {
        let behind =
            [text("more"), usage(), started(), call(0, "a", "read"), stop(), usage(), error()];
        let mut inner = vec![started(), text("Hello"), finished(FinishReason::Length)];
        inner.extend(behind.iter().map(copy));
        let out = wrapped(which, &inner).await;
        assert_eq!(judge(&out), Ok(()), "{which}");
        assert!(
            matches!(
                &out[out.len() - 3..],
                [
                    Ok(ChatEvent::Finished(FinishReason::Length)),
                    Ok(ChatEvent::Usage(_)),
                    Ok(ChatEvent::Usage(_)),
                ]
            ),
            "{which}: {out:?}"
        );
        assert!(said(&out).starts_with("Hello") && !said(&out).contains("more"), "{which}");
    }
}

#[tokio::test]
async fn a_second_start_is_left_out() {
    for which in WRAPPERS {
        let out = wrapped(which, &[started(), started(), text("Hi"), started(), stop()]).await;
        assert_eq!(judge(&out), Ok(()), "{which}");
        let starts = out.iter().filter(|item| matches!(item, Ok(ChatEvent::Started(_)))).count();
        assert_eq!(starts, 1, "{which}");
    }
}

#[tokio::test]
async fn new_kinds_of_events_pass() {
    for which in WRAPPERS {
        let source = || ChatEvent::Citation(Citation::new("https://example.org").into());
        let signature = || ChatEvent::ReasoningSignature("sig".into());
        let inner = [Ok(ChatEvent::Reasoning("hm".into())), Ok(signature()), Ok(source()), stop()];
        let out = wrapped(which, &inner).await;
        assert_eq!(judge(&out), Ok(()), "{which}");
        for event in [signature(), source()] {
            let found = out.iter().filter(|item| item.as_ref().ok() == Some(&event)).count();
            assert_eq!(found, 1, "{which}: {event:?}");
        }
    }
}

/// The edge says the same of a stream, whether it is streamed to the client or collected.
#[tokio::test]
async fn the_edge_ends_as_its_stream_does() {
    for (inner, status, ends) in [
        (vec![started(), text("Hi")], 502, CUT),
        (vec![text("Hi"), error(), stop()], 429, "used up"),
        (vec![text("Hi"), stop(), text("more"), error()], 200, "\"stop\""),
        (vec![started(), started(), text("Hi"), stop(), usage()], 200, "\"stop\""),
    ] {
        for stream in [true, false] {
            let inner = Inner(Arc::new(Mutex::new(Some(Watched::new(&inner)))));
            let messages = json!([{"role": "user", "content": "Hello"}]);
            let body = json!({"model": "m", "messages": messages, "stream": stream}).to_string();
            let request = Request::post("/v1/chat/completions")
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body)))
                .expect("a request");
            let response =
                OpenAiLayer::new().layer(inner).oneshot(request).await.expect("infallible");
            assert_eq!(response.status(), if stream { 200 } else { status }, "{ends}");
            let body = response.into_body().collect().await.expect("infallible").to_bytes();
            let body = String::from_utf8(body.to_vec()).expect("UTF-8");
            assert!(body.contains(ends) && !body.contains("more"), "{body}");
            assert_eq!(body.contains("\"error\""), status != 200, "{body}");
            assert_eq!(body.matches("[DONE]").count(), usize::from(stream), "{body}");
        }
    }
}

fn call(index: u32, id: &str, name: &str) -> Item {
    Ok(ChatEvent::ToolCall { index, id: id.into(), name: name.into() })
}

fn any_item() -> impl Strategy<Value = Item> {
    let select = |words: &[&'static str]| prop::sample::select(words.to_vec());
    let word = select(&[
        "Hello ",
        "<",
        "<tool_call>",
        "</tool_call>",
        "<function=read>",
        "<parameter=a>",
        "x",
        "</parameter>",
        "</function>",
        "{\"name\": \"list\", \"arguments\": {}}",
        "<think>",
        "</think>",
        "<read_file>",
        "<path>",
        "</path>",
        "</read_file>",
        "\n",
    ]);
    let json = select(&["{}", "{", "\"a\":", "\"x", "1", "\"", "}", "[", "null", "\\", "'"]);
    prop_oneof![
        1 => Just(()).prop_map(|()| started()),
        8 => word.clone().prop_map(text),
        2 => word.prop_map(|word| Ok(ChatEvent::Reasoning(word.into()))),
        1 => Just(()).prop_map(|()| usage()),
        1 => select(&["stop", "length", "tool_calls", "content_filter"]).prop_map(|word| {
            finished(match word {
                "stop" => FinishReason::Stop,
                "length" => FinishReason::Length,
                "tool_calls" => FinishReason::ToolCalls,
                _ => FinishReason::ContentFilter,
            })
        }),
        1 => Just(()).prop_map(|()| error()),
        3 => (0..3_u32, select(&["", "a", "b"]), select(&["", "read", "list"]))
            .prop_map(|(index, id, name)| call(index, id, name)),
        4 => (0..3_u32, json)
            .prop_map(|(index, json)| Ok(ChatEvent::ToolArguments { index, json: json.into() })),
    ]
}

/// A well-formed answer, written for the purpose.
fn any_answer() -> impl Strategy<Value = Vec<Item>> {
    let piece = prop_oneof![
        any_item().prop_filter("pieces only", |item| {
            matches!(item, Ok(ChatEvent::Text(_) | ChatEvent::Reasoning(_) | ChatEvent::Usage(_)))
        }),
        Just(()).prop_map(|()| call(0, "", "read")),
    ];
    (any::<bool>(), prop::collection::vec(piece, 0..12), 0..5_u8).prop_map(
        |(starts, pieces, end)| {
            let mut items: Vec<Item> = starts.then(started).into_iter().collect();
            let mut calls = 0;
            for piece in pieces {
                let Ok(ChatEvent::ToolCall { name, .. }) = &piece else {
                    items.push(piece);
                    continue;
                };
                items.push(call(calls, &format!("call_{calls}"), name));
                for json in ["{\"a\"", ": [1, 2]", "}"] {
                    items.push(Ok(ChatEvent::ToolArguments { index: calls, json: json.into() }));
                }
                calls += 1;
            }
            items.extend(match end {
                0 => vec![stop()],
                1 => vec![finished(FinishReason::ToolCalls), usage()],
                2 => vec![finished(FinishReason::Length)],
                3 => vec![finished(FinishReason::ContentFilter), usage(), usage()],
                _ => vec![error()],
            });
            items
        },
    )
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(future)
}

proptest! {
    /// Of whatever comes, what leaves has the right ends; and of the layers that read calls it
    /// keeps every rule.
    #[test]
    fn whatever_comes_ends_right(items in prop::collection::vec(any_item(), 0..12)) {
        for which in WRAPPERS {
            let out = block_on(wrapped(which, &items));
            match judge(&out) {
                Ok(()) => {}
                Err(violation) if ["session", "passed"].contains(&which) => {
                    let about_calls = violation.to_string().contains("call")
                        || violation.to_string().contains("function");
                    prop_assert!(about_calls, "{}: {}\n{:?}\n{:?}", which, violation, items, out);
                }
                Err(violation) => {
                    prop_assert!(false, "{}: {}\n{:?}\n{:?}", which, violation, items, out);
                }
            }
        }
    }

    /// What keeps the contract leaves keeping it, and nothing is lost where nothing is read.
    #[test]
    fn what_is_right_stays_right(items in any_answer()) {
        prop_assert_eq!(judge(&items), Ok(()));
        for which in WRAPPERS {
            let out = block_on(wrapped(which, &items));
            prop_assert_eq!(judge(&out), Ok(()), "{}\n{:?}\n{:?}", which, items, out);
            if ["session", "passed"].contains(&which) {
                prop_assert_eq!(format!("{out:?}"), format!("{items:?}"));
            }
        }
        // Collected, it is the same answer with and without a wrapper.
        let collect = |items: Vec<Item>| {
            block_on(Answer::collect(stream::iter(items).checked())).map_err(|error| error.kind())
        };
        let direct = collect(items.iter().map(copy).collect());
        prop_assert_eq!(collect(block_on(wrapped("session", &items))), direct);
    }
}

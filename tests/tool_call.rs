//! `ToolCallLayer`: what goes to the upstream, what comes back from it, and how it ends.

use std::{
    collections::HashSet,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, Text,
    chat::{
        Answer, ChatEvent, ChatRequest, ChatStreamExt, Conversation, Destination, FinishReason,
        FunctionTool, Message, Role, Tool, ToolCall, ToolChoice, Usage,
    },
    tool::{Dialect, call::ToolCallLayer},
};

type Item = Result<ChatEvent, Error>;

/// What it is, what the upstream sends, and the calls that come of it.
type Case = (&'static str, Vec<Item>, Vec<(&'static str, &'static str)>);

fn tools() -> Arc<Vec<Tool>> {
    let schema = json!({"type": "object", "properties": {
        "path": {"type": "string"}, "line": {"type": "integer"},
    }});
    Arc::new(vec![
        Tool::Function(FunctionTool::new("read", schema)),
        Tool::Function(FunctionTool::without_parameters("list")),
    ])
}

fn request() -> ChatRequest {
    let mut request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Go.")]);
    request.tools = tools();
    request
}

fn text(text: &str) -> Item {
    Ok(ChatEvent::Text(text.into()))
}

fn reasoning(text: &str) -> Item {
    Ok(ChatEvent::Reasoning(text.into()))
}

fn call(index: u32, id: &str, name: &str) -> Item {
    Ok(ChatEvent::ToolCall { index, id: id.into(), name: name.into() })
}

fn arguments(index: u32, json: &str) -> Item {
    Ok(ChatEvent::ToolArguments { index, json: json.into() })
}

fn finished(reason: FinishReason) -> Item {
    Ok(ChatEvent::Finished(reason))
}

/// What the layer makes of an upstream's events. It keeps the contract, whatever they are.
async fn items(layer: ToolCallLayer, request: ChatRequest, events: Vec<Item>) -> Vec<Item> {
    let items = unchecked(layer, request, events).await;
    stream::iter(items).checked().collect().await
}

async fn unchecked(layer: ToolCallLayer, request: ChatRequest, events: Vec<Item>) -> Vec<Item> {
    let events = Arc::new(Mutex::new(Some(events)));
    let service = layer.layer(service_fn(move |_: Request<ChatRequest>| {
        let events = events.lock().expect("not poisoned").take().expect("one request");
        async { Ok::<_, Error>(Response::new(stream::iter(events))) }
    }));
    let response = service.oneshot(Request::new(request)).await.expect("a response");
    response.into_body().collect().await
}

async fn events(layer: ToolCallLayer, request: ChatRequest, events: Vec<Item>) -> Vec<ChatEvent> {
    items(layer, request, events).await.into_iter().map(|item| item.expect("an event")).collect()
}

async fn answer(layer: ToolCallLayer, request: ChatRequest, events: Vec<Item>) -> Answer {
    let items = items(layer, request, events).await;
    check_form(&items);
    Answer::collect(stream::iter(items)).await.expect("an answer")
}

/// Names and arguments.
fn calls(answer: &Answer) -> Vec<(&str, &str)> {
    answer.tool_calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect()
}

/// What holds for every answer: numbers without gaps, one beginning a call with an id of its own
/// and a name, arguments that are an object, one end.
#[track_caller]
fn check_form(items: &[Item]) {
    let mut arguments: Vec<String> = Vec::new();
    let mut ids = HashSet::new();
    let mut ended = false;
    for item in items {
        match item {
            Ok(ChatEvent::ToolCall { index, id, name }) => {
                assert_eq!(*index as usize, arguments.len(), "a gap");
                assert!(!name.is_empty() && ids.insert(id.clone()) && !id.is_empty());
                arguments.push(String::new());
            }
            Ok(ChatEvent::ToolArguments { index, json }) => {
                assert!(!json.is_empty());
                arguments[*index as usize].push_str(json);
            }
            Ok(ChatEvent::Text(text) | ChatEvent::Reasoning(text)) => assert!(!text.is_empty()),
            Ok(ChatEvent::Finished(reason)) => {
                assert!(!ended, "two ends");
                ended = true;
                match reason {
                    FinishReason::Stop => assert!(arguments.is_empty()),
                    FinishReason::ToolCalls => assert!(!arguments.is_empty()),
                    _ => {}
                }
            }
            Err(_) => assert!(!ended, "an error after the end"),
            Ok(_) => {}
        }
    }
    for json in arguments {
        let value: Value =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
        assert!(value.is_object(), "{json}");
    }
}

const CALL: &str =
    "<tool_call>\n<function=read>\n<parameter=path>\na.rs\n</parameter>\n</function>\n</tool_call>";

#[tokio::test]
async fn one_delta_begins_a_call_and_the_end_says_so() {
    let upstream = vec![
        Ok(ChatEvent::Started(Conversation::new("c").into())),
        text("I will look.\n\n"),
        text(CALL),
        text("\n<tool_call>\n<function=list>\n</function>\n</tool_call>\n"),
        Ok(ChatEvent::Usage(Usage::new(1, 2))),
        finished(FinishReason::Stop),
        Ok(ChatEvent::Usage(Usage::new(1, 3))),
    ];
    let events = events(ToolCallLayer::prompted(), request(), upstream).await;
    let mut ids = events.iter().filter_map(|event| match event {
        ChatEvent::ToolCall { id, .. } => Some(id.clone()),
        _ => None,
    });
    let (first, second) = (ids.next().expect("a call"), ids.next().expect("a call"));
    assert!(first.starts_with("call_") && first.len() == 37 && first != second);
    assert_eq!(
        events,
        [
            ChatEvent::Started(Conversation::new("c").into()),
            ChatEvent::Text("I will look.".into()),
            ChatEvent::ToolCall { index: 0, id: first, name: "read".into() },
            ChatEvent::ToolArguments { index: 0, json: "{\"path\":\"a.rs\"}".into() },
            ChatEvent::ToolCall { index: 1, id: second, name: "list".into() },
            ChatEvent::ToolArguments { index: 1, json: "{}".into() },
            ChatEvent::Usage(Usage::new(1, 2)),
            ChatEvent::Finished(FinishReason::ToolCalls),
            ChatEvent::Usage(Usage::new(1, 3)),
        ]
    );
}

#[tokio::test]
async fn the_upstream_gets_tools_and_history_as_text() {
    let seen = |request: ChatRequest, layer: ToolCallLayer| async move {
        let service = layer.layer(service_fn(|request: Request<ChatRequest>| async move {
            let events =
                vec![text(&format!("{:?}", request.headers())), finished(FinishReason::Stop)];
            let body = request.into_body();
            let mut response = Response::new(stream::iter(events));
            response.extensions_mut().insert(body);
            Ok::<_, Error>(response)
        }));
        let response = service.oneshot(Request::new(request)).await.expect("a response");
        response.extensions().get::<ChatRequest>().cloned().expect("the request")
    };
    let mut request = request();
    let mut assistant = Message::empty(Role::Assistant);
    assistant.tool_calls = vec![ToolCall::new("call_1", "read", "{\"path\":\"a.rs\"}")];
    let mut result = Message::new(Role::Tool, "fn main() {}");
    result.tool_call_id = Some("call_1".into());
    request.history.fresh.extend([assistant, result]);

    let sent = seen(request.clone(), ToolCallLayer::prompted()).await;
    let all: String =
        sent.history.iter().map(|message| message.text().to_string() + "\n").collect();
    assert!(sent.tools.is_empty());
    assert!(sent.history.iter().all(|message| message.tool_calls.is_empty()));
    assert!(sent.history.iter().all(|message| !matches!(message.role, Role::Tool)));
    assert!(all.contains("\"line\"") && all.contains("a.rs") && all.contains("fn main() {}"));
    // `qwen3-max` was trained on JSON; the form can be chosen.
    assert!(all.contains("\"arguments\"") && !all.contains("<function=read>"));
    let sent = seen(request.clone(), ToolCallLayer::prompted_in(Dialect::Coder)).await;
    assert!(sent.history.iter().any(|message| message.text().contains("<function=read>")));

    // A chat that goes on has the definitions.
    request.destination = Conversation::new("c").into();
    let sent = seen(request.clone(), ToolCallLayer::prompted()).await;
    assert!(sent.history.iter().any(|message| message.text().contains("\"line\"")));
    request.destination = Conversation::new("c").with_parent("m").into();
    let sent = seen(request.clone(), ToolCallLayer::prompted()).await;
    assert!(!sent.history.iter().any(|message| message.text().contains("\"line\"")));

    // A new chat has not, whichever account it is wished for.
    request.destination = Destination::NewChat { account: Some("a".into()) };
    let sent = seen(request.clone(), ToolCallLayer::prompted()).await;
    assert!(sent.history.fresh[0].text().contains("\"line\""));
    assert_eq!(sent.history.fresh[0].role, Role::System);

    // A history of tools is text also where no tool is declared any more.
    request.tools = Arc::default();
    let sent = seen(request.clone(), ToolCallLayer::prompted()).await;
    assert!(sent.history.iter().all(|message| message.tool_calls.is_empty()));

    // An upstream with tools of its own gets everything as it is.
    request.tools = tools();
    let sent = seen(request.clone(), ToolCallLayer::native_with_rescue()).await;
    assert_eq!((&sent.history, &sent.tools), (&request.history, &request.tools));
}

#[tokio::test]
async fn without_tools_everything_passes_untouched() {
    let upstream = || {
        vec![
            text("<think>x"),
            text(CALL),
            call(7, "", ""),
            arguments(7, "nonsense"),
            finished(FinishReason::Length),
        ]
    };
    let mut none = request();
    none.tool_choice = Some(ToolChoice::None);
    let mut without = request();
    without.tools = Arc::default();
    let mut other = request();
    other.tools = Arc::new(vec![Tool::Other(json!({"type": "web_search"}).into())]);
    for request in [none, without, other] {
        for layer in [ToolCallLayer::prompted(), ToolCallLayer::native_with_rescue()] {
            let got = unchecked(layer, request.clone(), upstream()).await;
            let event = |item: Item| item.expect("an event");
            let got: Vec<_> = got.into_iter().map(event).collect();
            let expected: Vec<_> = upstream().into_iter().map(event).collect();
            assert_eq!(got, expected);
        }
    }
}

#[tokio::test]
async fn a_cut_call_is_closed_before_the_error() {
    let half = || {
        vec![
            text("Look: <tool_call>\n<function=read>\n<parameter=line>\n3\n</parameter>\n"),
            text("<parameter=path>\nsrc/\"ma"),
        ]
    };
    let expected = "{\"line\":3,\"path\":\"src/\\\"ma\"}";
    let sent = |items: &[Item]| -> String {
        let json = |item: &Item| match item {
            Ok(ChatEvent::ToolArguments { json, .. }) => Some(json.to_string()),
            _ => None,
        };
        items.iter().filter_map(json).collect()
    };

    let mut failing = half();
    failing.push(Err(Error::new(ErrorKind::Quota, "used up")));
    failing.push(finished(FinishReason::Stop));
    let got = items(ToolCallLayer::prompted(), request(), failing).await;
    assert_eq!(sent(&got), expected);
    assert!(got.last().is_some_and(|item| item.as_ref().is_err_and(Error::is_quota)));

    let got = items(ToolCallLayer::prompted(), request(), half()).await;
    assert_eq!(sent(&got), expected);
    let error = got.last().expect("an item").as_ref().expect_err("cut");
    assert_eq!(error.kind(), ErrorKind::Truncated);
    assert!(!got.iter().any(|item| matches!(item, Ok(ChatEvent::Finished(_)))));

    let mut limited = half();
    limited.push(finished(FinishReason::Length));
    let got = items(ToolCallLayer::prompted(), request(), limited).await;
    check_form(&got);
    assert_eq!(sent(&got), expected);
    assert!(matches!(got.last(), Some(Ok(ChatEvent::Finished(FinishReason::Length)))));

    // Native calls are closed as well, and what was held as text leaves before the error.
    let upstream = vec![text("a <tool_"), call(0, "x", "read"), arguments(0, "{\"path\": \"a\\")];
    let got = items(ToolCallLayer::native_with_rescue(), request(), upstream).await;
    assert_eq!(sent(&got), "{\"path\":\"a\"}");
    assert!(matches!(&got[1], Ok(ChatEvent::Text(text)) if text == " <tool_"));
    assert!(got.last().is_some_and(Result::is_err));
}

#[tokio::test]
async fn one_end_with_the_right_reason() {
    use FinishReason::{ContentFilter, Length, Stop, ToolCalls};
    for (content, upstream, reason) in [
        ("words", Stop, Stop),
        ("words", ToolCalls, Stop),
        ("words", Length, Length),
        (CALL, Stop, ToolCalls),
        (CALL, Length, Length),
        (CALL, ContentFilter, ContentFilter),
    ] {
        let upstream = vec![text(content), finished(upstream), text("late"), finished(Stop)];
        let answer = answer(ToolCallLayer::prompted(), request(), upstream).await;
        assert_eq!(answer.finish_reason, Some(reason), "{content} {reason:?}");
        assert!(!answer.text.contains("late"));
    }
}

/// chat.qwen.ai cannot say that the token limit was met: its reason is `stop` also where half a file
/// was written. An agent that ran that call would write the half.
#[tokio::test]
async fn a_text_that_ends_inside_of_a_call_was_cut_whatever_the_upstream_says() {
    let header = "<tool_call>\n<function=read>\n";
    let path = "<parameter=path>\na.rs\n</parameter>";
    for (content, reason) in [
        (format!("{header}<parameter=path>\nsrc/ma"), FinishReason::Length),
        (format!("{header}<parameter=path>\nsrc/main.rs\n</param"), FinishReason::Length),
        (format!("{header}<parameter=line>\n1"), FinishReason::Length),
        (format!("{header}{path}\n<parameter=li"), FinishReason::Length),
        ("<read>\n<path>src/ma".into(), FinishReason::Length),
        ("<read>\n<path>a</path>\n<li".into(), FinishReason::Length),
        (
            "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"src/ma".into(),
            FinishReason::Length,
        ),
        (format!("{CALL}\n{header}<parameter=path>\nsrc/ma"), FinishReason::Length),
        // Nothing is missing but closers, which models forget.
        (format!("{header}{path}"), FinishReason::ToolCalls),
        (format!("{header}{path}\n</func"), FinishReason::ToolCalls),
        (format!("{header}{path}\n</function>\n</tool"), FinishReason::ToolCalls),
        (format!("{header}<parameter=path>\na.rs\n</function>"), FinishReason::ToolCalls),
        ("<read>\n<path>a</path>".into(), FinishReason::ToolCalls),
        (
            "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}".into(),
            FinishReason::ToolCalls,
        ),
    ] {
        for upstream in [FinishReason::Stop, FinishReason::ToolCalls] {
            for layer in [ToolCallLayer::prompted(), ToolCallLayer::native_with_rescue()] {
                let answer = answer(layer, request(), vec![text(&content), finished(upstream)]);
                assert_eq!(answer.await.finish_reason, Some(reason), "{content:?}");
            }
        }
    }
}

#[tokio::test]
async fn reasoning_is_not_scanned_live_but_rescued_at_the_end() {
    let run = |events: Vec<Item>| answer(ToolCallLayer::prompted(), request(), events);
    let (head, tail) = CALL.split_at(40);
    let meant =
        || vec![reasoning("I must read.\n"), reasoning(head), reasoning(tail), reasoning("\n")];

    // The block was never closed and the call is meant: vllm-project/vllm#39056,
    // lmstudio-ai/lmstudio-bug-tracker#1870.
    let mut events = meant();
    events.push(finished(FinishReason::Stop));
    let got = run(events).await;
    assert_eq!(calls(&got), [("read", "{\"path\":\"a.rs\"}")]);
    assert_eq!(got.finish_reason, Some(FinishReason::ToolCalls));
    assert_eq!(got.reasoning, format!("I must read.\n{CALL}\n"));

    // The same in the text, after a think tag.
    let got =
        run(vec![text(&format!("<think>\nI must.\n{CALL}")), finished(FinishReason::Stop)]).await;
    assert_eq!((calls(&got).len(), got.text.as_str()), (1, ""));

    // What closes it once more is nothing that follows it.
    let doubled = format!("{CALL}\u{a0}\n</function>\n</toolcall>\n<|im_end|>");
    let got = run(vec![reasoning(&doubled), finished(FinishReason::Stop)]).await;
    assert_eq!(calls(&got), [("read", "{\"path\":\"a.rs\"}")]);
    let got = run(vec![text(&doubled), text("\nDone."), finished(FinishReason::Stop)]).await;
    assert_eq!((calls(&got).len(), got.text.as_str()), (1, "Done."));

    // Closers alone may be missing, as in the text.
    let whole = CALL.strip_suffix("\n</function>\n</tool_call>").expect("its closers");
    let got = run(vec![reasoning(whole), finished(FinishReason::Stop)]).await;
    assert_eq!(calls(&got), [("read", "{\"path\":\"a.rs\"}")]);

    // An answer follows, so it only illustrated: blazux/qwen3.8-Flash-DGX#29,
    // QwenLM/Qwen3#1459.
    let mut events = meant();
    events.extend([text("The answer."), finished(FinishReason::Stop)]);
    assert!(calls(&run(events).await).is_empty());

    // Reasoning goes on after the call, the call is half, its tool undeclared, the limit was
    // met, it stands in a fence: not meant, or not to be relied on.
    for (thoughts, reason) in [
        (format!("{CALL} or not"), FinishReason::Stop),
        ("<tool_call>\n<function=read>\n<parameter=path>\na".to_owned(), FinishReason::Stop),
        (CALL.replace("read", "nobody"), FinishReason::Stop),
        (format!("{CALL}\n{}", CALL.replace("read", "nobody")), FinishReason::Stop),
        (CALL.to_owned(), FinishReason::Length),
        (format!("```\n{CALL}\n```"), FinishReason::Stop),
    ] {
        let got = run(vec![reasoning(&thoughts), finished(reason)]).await;
        assert!(calls(&got).is_empty(), "{thoughts} {reason:?}");
        assert_eq!(got.finish_reason, Some(reason));
    }
}

#[tokio::test]
async fn native_calls_are_repaired() {
    let cases: Vec<Case> = vec![
        (
            "a good call passes",
            vec![call(0, "a", "read"), arguments(0, "{\"path\":"), arguments(0, "\"x\"}")],
            vec![("read", "{\"path\":\"x\"}")],
        ),
        (
            "no id: vllm-project/vllm#18412, anomalyco/opencode#24137",
            vec![call(0, "", "read"), arguments(0, "{}")],
            vec![("read", "{}")],
        ),
        (
            "id and name repeated or emptied on every delta: SillyTavern/SillyTavern#5948",
            vec![
                call(0, "a", "read"),
                call(0, "a", "read"),
                arguments(0, "{\"path\":"),
                call(0, "", ""),
                call(0, "", "read"),
                arguments(0, "\"x\"}"),
            ],
            vec![("read", "{\"path\":\"x\"}")],
        ),
        (
            "a name without an id behind the end of the arguments, or an id behind the name",
            vec![
                call(0, "a", "read"),
                arguments(0, "{\"path\":\"x\"}"),
                call(0, "", "read"),
                call(1, "", "list"),
                call(1, "b", "list"),
                arguments(1, "{}"),
            ],
            vec![("read", "{\"path\":\"x\"}"), ("list", "{}")],
        ),
        (
            "the name comes late, after arguments",
            vec![
                call(0, "a", ""),
                arguments(0, "{\"path\":\"x"),
                call(0, "", "read"),
                arguments(0, "\"}"),
            ],
            vec![("read", "{\"path\":\"x\"}")],
        ),
        (
            "numbers from 1, with gaps",
            vec![
                call(1, "a", "read"),
                call(5, "b", "list"),
                arguments(5, "{}"),
                arguments(1, "{}"),
            ],
            vec![("read", "{}"), ("list", "{}")],
        ),
        (
            "every call has the number 0",
            vec![
                call(0, "a", "list"),
                arguments(0, "{}"),
                call(0, "b", "read"),
                arguments(0, "{\"path\":1}"),
            ],
            vec![("list", "{}"), ("read", "{\"path\":1}")],
        ),
        (
            "the number 0 and no ids, whole calls",
            vec![call(0, "", "list"), arguments(0, "{}"), call(0, "", "list"), arguments(0, "{}")],
            vec![("list", "{}"), ("list", "{}")],
        ),
        (
            "the number 0, and an id for the second only",
            vec![call(0, "", "list"), call(0, "b", "read"), arguments(0, "{\"path\":1}")],
            vec![("list", "{}"), ("read", "{\"path\":1}")],
        ),
        (
            "one id for two calls",
            vec![call(0, "a", "list"), call(1, "a", "list")],
            vec![("list", "{}"), ("list", "{}")],
        ),
        (
            "no arguments, null, a string of JSON, no object, cut",
            vec![
                call(0, "a", "list"),
                call(1, "b", "list"),
                arguments(1, "null"),
                call(2, "c", "read"),
                arguments(2, "\"{\\\"path\\\":\\\"x\\\"}\""),
                call(3, "d", "read"),
                arguments(3, "[1]"),
                call(4, "e", "read"),
                arguments(4, "{\"path\":\"x\",\"line\":"),
            ],
            vec![
                ("list", "{}"),
                ("list", "{}"),
                ("read", "{\"path\":\"x\"}"),
                ("read", "{}"),
                ("read", "{\"path\":\"x\"}"),
            ],
        ),
        (
            "no name at all: which of two functions it is, nobody knows",
            vec![arguments(0, "{\"path\":\"x\"}")],
            vec![],
        ),
        ("text stays text", vec![text(CALL)], vec![]),
    ];
    for (name, mut upstream, expected) in cases {
        upstream.push(finished(FinishReason::Stop));
        let got = answer(ToolCallLayer::native(), request(), upstream).await;
        assert_eq!(calls(&got), expected, "{name}");
    }

    // Where only one function can be meant, it is.
    let upstream = || vec![arguments(3, "{\"path\":\"x\"}"), finished(FinishReason::Stop)];
    let mut forced = request();
    forced.tool_choice = Some(ToolChoice::Function("read".into()));
    let got = answer(ToolCallLayer::native(), forced, upstream()).await;
    assert_eq!(calls(&got), [("read", "{\"path\":\"x\"}")]);
    let mut single = request();
    single.tools = Arc::new(tools()[1..].to_vec());
    let got = answer(ToolCallLayer::native(), single, upstream()).await;
    assert_eq!(calls(&got), [("list", "{\"path\":\"x\"}")]);
}

#[tokio::test]
async fn rescue_finds_what_a_native_parser_left_in_the_text() {
    let upstream = || {
        vec![
            text("First "),
            call(0, "a", "list"),
            arguments(0, "{}"),
            text(CALL),
            finished(FinishReason::Stop),
        ]
    };
    let got = answer(ToolCallLayer::native_with_rescue(), request(), upstream()).await;
    assert_eq!(calls(&got), [("list", "{}"), ("read", "{\"path\":\"a.rs\"}")]);
    assert_eq!(got.text, "First ");
    let got = answer(ToolCallLayer::native(), request(), upstream()).await;
    assert_eq!(calls(&got).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_for_more_than_its_decision() {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<Item>();
    let body = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let body = Arc::new(Mutex::new(Some(body)));
    let service = ToolCallLayer::prompted().layer(service_fn(move |_: Request<ChatRequest>| {
        let body = body.lock().expect("not poisoned").take().expect("one request");
        async { Ok::<_, Error>(Response::new(body)) }
    }));
    let start = tokio::time::Instant::now();
    let response = service.oneshot(Request::new(request())).await.expect("a response");
    let mut stream = pin!(response.into_body().checked());
    let mut ready = || {
        let mut events = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(item)) = stream.as_mut().poll_next(&mut cx) {
            events.push(match item.expect("an event") {
                ChatEvent::Text(text) => text.to_string(),
                ChatEvent::ToolCall { name, .. } => format!("@{name}"),
                ChatEvent::ToolArguments { json, .. } => format!("={json}"),
                other => format!("{other:?}"),
            });
        }
        events.join("")
    };
    for (piece, expected) in [
        ("Right", "Right"),
        (" away <", " away"),
        ("b>", " <b>"),
        ("\n<tool_call>", ""),
        ("<function=read><parameter=path>", "@read={\"path\":\""),
        ("s", "=s"),
        ("r", "=r"),
        ("c</parameter>", "=c"),
        ("</function>", "=\"}"),
    ] {
        sender.send(text(piece)).expect("the stream is there");
        assert_eq!(ready(), expected, "{piece}");
    }
    assert_eq!(start.elapsed(), std::time::Duration::ZERO);
}

#[tokio::test]
async fn readiness_and_errors_are_those_of_the_inner_service() {
    let (service, mut handle) = tower_test::mock::pair::<
        Request<ChatRequest>,
        Response<stream::Iter<std::vec::IntoIter<Item>>>,
    >();
    let service = service.map_err(|_| Error::new(ErrorKind::Overloaded, "gone"));
    let mut service = ToolCallLayer::prompted().layer(service);
    let mut ready = |handle: &mut tower_test::mock::Handle<_, _>, allowed| {
        handle.allow(allowed);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        Service::<Request<ChatRequest>>::poll_ready(&mut service, &mut cx).is_ready()
    };
    assert!(!ready(&mut handle, 0));
    assert!(ready(&mut handle, 1));
    let future = service.call(Request::new(request()));
    let (_, respond) = handle.next_request().await.expect("the request");
    respond.send_error("broken");
    assert_eq!(future.await.expect_err("an error").kind(), ErrorKind::Overloaded);
}

#[test]
fn what_happened_is_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        tokio_test::block_on(async {
            let upstream =
                vec![text("A <tool_call> tag. "), text(CALL), finished(FinishReason::Stop)];
            answer(ToolCallLayer::prompted(), request(), upstream).await;
            let upstream = vec![call(0, "", "list"), finished(FinishReason::Stop)];
            answer(ToolCallLayer::native(), request(), upstream).await;
        });
    });
    let metrics = recorder.handle().render();
    for line in [
        "tower_qwen_tool_calls_total{form=\"coder\"} 1",
        "tower_qwen_tool_calls_total{form=\"native\"} 1",
        "tower_qwen_tool_text_released_total 1",
        "tower_qwen_tool_repairs_total{repair=\"id\"} 1",
        "tower_qwen_tool_repairs_total{repair=\"finish_reason\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn it_fits_into_a_stack() {
    let service = ServiceBuilder::new()
        .concurrency_limit(8)
        .layer(ToolCallLayer::prompted())
        .service(service_fn(|_: Request<ChatRequest>| async {
            let events = vec![text(CALL), finished(FinishReason::Stop)];
            Ok::<_, Error>(Response::new(stream::iter(events)))
        }));
    let response = service.clone().oneshot(Request::new(request())).await.expect("a response");
    let mut body = pin!(response.into_body().checked());
    let first = poll_fn(|cx| body.as_mut().poll_next(cx)).await;
    assert!(matches!(first, Some(Ok(ChatEvent::ToolCall { .. }))));
}

fn native_event() -> impl Strategy<Value = ChatEvent> {
    let id = prop::sample::select(vec!["", "a", "b"]);
    let name = prop::sample::select(vec!["", "read", "list"]);
    let json = prop::sample::select(vec![
        "",
        "{",
        "}",
        "{}",
        "{\"path\":",
        "\"x\"",
        "\"",
        "null",
        "[",
        "1",
        ",",
        "\\",
        "{\"a\":{\"b\":[",
    ]);
    let piece = prop::sample::select(vec![
        "a",
        " ",
        "\n",
        "<tool_call>",
        "<function=list>",
        "</function>",
        "</tool_call>",
        CALL,
        "<read>",
        "<path>",
        "x",
        "</path>",
        "</read>",
        "<think>",
        "</think>",
        "{\"name\": \"list\"}",
        "`",
    ]);
    prop_oneof![
        (0..3u32, id, name).prop_map(|(index, id, name)| ChatEvent::ToolCall {
            index,
            id: Text::from(id),
            name: Text::from(name),
        }),
        (0..3u32, json)
            .prop_map(|(index, json)| ChatEvent::ToolArguments { index, json: json.into() }),
        piece.clone().prop_map(|text| ChatEvent::Text(text.into())),
        piece.prop_map(|text| ChatEvent::Reasoning(text.into())),
        Just(ChatEvent::Usage(Usage::new(1, 1))),
    ]
}

proptest! {
    /// Whatever the upstream sends, in whatever order, and however it ends: the answer has its
    /// form.
    #[test]
    fn any_upstream_gives_a_well_formed_answer(
        body in prop::collection::vec(native_event(), 0..20),
        end in prop::option::of(prop::sample::select(vec![
            FinishReason::Stop, FinishReason::ToolCalls, FinishReason::Length,
        ])),
        mode in 0..3usize,
    ) {
        let layer = [
            ToolCallLayer::prompted(), ToolCallLayer::native(), ToolCallLayer::native_with_rescue(),
        ][mode].clone();
        let mut upstream: Vec<Item> = body.into_iter().map(Ok).collect();
        upstream.extend(end.map(|reason| Ok(ChatEvent::Finished(reason))));
        let got = tokio_test::block_on(items(layer, request(), upstream));
        check_form(&got);
        let finished = matches!(got.last(), Some(Ok(ChatEvent::Finished(_))));
        let failed = matches!(got.last(), Some(Err(error)) if error.kind() == ErrorKind::Truncated);
        let ended = if end.is_some() { finished } else { failed };
        prop_assert!(ended);
    }
}

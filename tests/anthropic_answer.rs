//! What the Messages edge writes: the exact events, the whole answer, and errors before and after
//! the commit point.

mod messages;
mod traced;

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use messages::{
    events::{self, Item, Kind, Said},
    reader::{self, Block, End, LINKS, Message},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, FullBody,
    anthropic::{AnthropicLayer, decode, error_response},
    chat::{
        Attachment, AttachmentKind, ChatEvent, ChatRequest, Citation, Contract, Conversation,
        Extra, FinishReason, Usage,
    },
};

type Events = stream::BoxStream<'static, Item>;

fn ask(more: Value) -> Request<FullBody> {
    let mut body = json!({"model": "alias", "max_tokens": 64,
        "messages": [{"role": "user", "content": "x"}]});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    Request::post("/v1/messages?beta=true")
        .header("content-type", "application/json")
        .body(FullBody::new(Bytes::from(body.to_string())))
        .expect("a request")
}

fn streamed() -> Request<FullBody> {
    ask(json!({"stream": true}))
}

/// The edge over a service that gives these events, once.
async fn answered(
    request: Request<FullBody>,
    events: impl Stream<Item = Item> + Send + 'static,
) -> Response<impl Body<Data = Bytes, Error = Infallible>> {
    traced::on();
    let events = Arc::new(Mutex::new(Some(events.boxed())));
    let inner = service_fn(move |_: Request<ChatRequest>| {
        let events = events.lock().expect("not poisoned").take().expect("called once");
        async { Ok::<_, Error>(Response::new(events)) }
    });
    AnthropicLayer::new().layer(inner).oneshot(request).await.expect("infallible")
}

/// The edge over a service that fails before the commit point.
async fn refused(
    request: Request<FullBody>,
    error: impl Fn() -> Error + Clone + Send + 'static,
) -> Response<impl Body<Data = Bytes, Error = Infallible>> {
    traced::on();
    let inner = service_fn(move |_: Request<ChatRequest>| {
        let error = error();
        async move { Err::<Response<Events>, _>(error) }
    });
    AnthropicLayer::new().layer(inner).oneshot(request).await.expect("infallible")
}

async fn text(response: Response<impl Body<Data = Bytes, Error = Infallible>>) -> String {
    let body = response.into_body().collect().await.expect("infallible").to_bytes();
    String::from_utf8(body.to_vec()).expect("UTF-8")
}

async fn json_of(response: Response<impl Body<Data = Bytes, Error = Infallible>>) -> Value {
    serde_json::from_str(&text(response).await).expect("JSON")
}

/// What a strict reader makes of the stream of these events.
async fn read(items: Vec<Item>) -> Message {
    let response = answered(streamed(), stream::iter(items)).await;
    assert_eq!(response.status(), StatusCode::OK);
    reader::read(&text(response).await).expect("a right stream")
}

/// The whole answer that these events make.
async fn whole(items: Vec<Item>) -> Value {
    let response = answered(ask(json!({})), stream::iter(items)).await;
    assert_eq!(response.status(), StatusCode::OK);
    json_of(response).await
}

fn piece(text: &str) -> Item {
    Ok(ChatEvent::Text(text.into()))
}

fn thought(text: &str) -> Item {
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

fn fields(name: &str, value: Value) -> Item {
    let mut fields = Extra::new();
    fields.insert(name, value);
    Ok(ChatEvent::ServerFields(fields))
}

fn failed(kind: ErrorKind) -> Item {
    Err(Error::new(kind, "what went wrong"))
}

fn usage(prompt: u64, cached: Option<u64>, completion: u64, thinking: Option<u64>) -> Item {
    let mut usage = Usage::new(prompt, completion);
    usage.cached_tokens = cached;
    usage.reasoning_tokens = thinking;
    Ok(ChatEvent::Usage(usage))
}

const STOP: Item = Ok(ChatEvent::Finished(FinishReason::Stop));

/// The reason why a message stopped, and the sequence that it met.
fn stop(message: &Message) -> (&str, Option<&str>) {
    match message.end.as_ref().expect("an end") {
        End::Stopped { reason, sequence, .. } => (reason, sequence.as_deref()),
        End::Failed { kind, .. } => panic!("it failed: {kind}"),
    }
}

/// The kind of error that a stream ends with, and its words.
fn failure(message: &Message) -> (&str, &str) {
    match message.end.as_ref().expect("an end") {
        End::Failed { kind, message } => (kind, message),
        End::Stopped { reason, .. } => panic!("it stopped: {reason}"),
    }
}

fn final_usage(message: &Message) -> Value {
    match message.end.as_ref().expect("an end") {
        End::Stopped { usage, .. } => usage.clone(),
        End::Failed { kind, .. } => panic!("it failed: {kind}"),
    }
}

#[tokio::test]
async fn a_stream_has_the_exact_bytes() {
    let response = answered(
        streamed(),
        stream::iter([
            Ok(ChatEvent::Started(Conversation::new("c-1").with_parent("r-1").into())),
            thought("hm"),
            thought(" \"well\"\n"),
            piece("Hel"),
            usage(33, None, 1, None),
            piece("lo \u{1F30C}\u{1}"),
            Ok(ChatEvent::Citation(Citation::new("https://example.org/a").into())),
            call(0, "call_0", "read"),
            arguments(0, "{\"a\":"),
            arguments(0, "\"\\n\"}"),
            call(1, "chatcmpl-tool-0123456789abcdef", "list"),
            arguments(1, "{}"),
            usage(33, Some(30), 12, Some(3)),
            finished(FinishReason::Stop),
        ]),
    )
    .await;
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    assert_eq!(headers["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-cache");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert!(!headers.contains_key("content-length"));

    let stream = text(response).await;
    let message = reader::read(&stream).expect("a right stream");
    let [
        Block::Thinking { signature, .. },
        _,
        Block::Call { id: first, .. },
        Block::Call { id: second, .. },
    ] = &message.blocks[..]
    else {
        panic!("thinking, text and two calls: {message:?}")
    };
    let id = &message.id;
    let expected = [
        format!(
            r#"event: message_start
data: {{"type":"message_start","message":{{"id":"{id}","type":"message","role":"assistant","model":"alias","content":[],"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":0,"output_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}}}}}}"#
        ),
        r#"event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#.into(),
        r#"event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#.into(),
        r#"event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" \"well\"\n"}}"#.into(),
        format!(
            r#"event: content_block_delta
data: {{"type":"content_block_delta","index":0,"delta":{{"type":"signature_delta","signature":"{signature}"}}}}"#
        ),
        r#"event: content_block_stop
data: {"type":"content_block_stop","index":0}"#.into(),
        r#"event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#.into(),
        r#"event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hel"}}"#.into(),
        "event: content_block_delta
data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"lo \u{1F30C}\\u0001\"}}".into(),
        r#"event: content_block_stop
data: {"type":"content_block_stop","index":1}"#.into(),
        r#"event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#.into(),
        r#"event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"\n\nSources:\n1. [https://example.org/a](https://example.org/a)"}}"#.into(),
        r#"event: content_block_stop
data: {"type":"content_block_stop","index":2}"#.into(),
        format!(
            r#"event: content_block_start
data: {{"type":"content_block_start","index":3,"content_block":{{"type":"tool_use","id":"{first}","name":"read","input":{{}}}}}}"#
        ),
        r#"event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#.into(),
        r#"event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"\"\\n\"}"}}"#.into(),
        r#"event: content_block_stop
data: {"type":"content_block_stop","index":3}"#.into(),
        format!(
            r#"event: content_block_start
data: {{"type":"content_block_start","index":4,"content_block":{{"type":"tool_use","id":"{second}","name":"list","input":{{}}}}}}"#
        ),
        r#"event: content_block_delta
data: {"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#.into(),
        r#"event: content_block_stop
data: {"type":"content_block_stop","index":4}"#.into(),
        r#"event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":3,"output_tokens":12,"cache_creation_input_tokens":0,"cache_read_input_tokens":30,"output_tokens_details":{"thinking_tokens":3}}}"#.into(),
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".into(),
    ];
    assert_eq!(stream, expected.join("\n\n"));
}

#[tokio::test]
async fn a_whole_answer_has_the_exact_fields() {
    let mut image = Attachment::new(AttachmentKind::Image, "https://example.org/i.png".into());
    image.title = Some("a cat".into());
    let response = answered(
        ask(json!({})),
        stream::iter([
            thought("hm"),
            piece("a "),
            Ok(ChatEvent::Attachment(image)),
            call(0, "toolu_0123456789ABCDEFabcdef", "f"),
            arguments(0, "{ \"b\": 1.50, \"a\": 2}\n"),
            usage(33, Some(40), 838, None),
            finished(FinishReason::ToolCalls),
        ]),
    )
    .await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.body().size_hint().exact(), Some(response.body().size_hint().lower()));
    let body = text(response).await;
    // The arguments keep their order and their numbers.
    assert!(body.contains(r#""input":{ "b": 1.50, "a": 2}"#), "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let signature = &answer["content"][0]["signature"];
    assert_eq!(
        answer,
        json!({
            "id": answer["id"], "type": "message", "role": "assistant", "model": "alias",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": signature},
                {"type": "text", "text": "a ![a cat](https://example.org/i.png)\n"},
                {"type": "tool_use", "id": "toolu_0123456789ABCDEFabcdef", "name": "f",
                    "input": {"b": 1.50, "a": 2}},
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": {"input_tokens": 0, "output_tokens": 838,
                "cache_creation_input_tokens": 0, "cache_read_input_tokens": 33},
        })
    );
    assert!(answer["id"].as_str().is_some_and(|id| id.starts_with("msg_") && id.len() > 24));
    assert!(signature.as_str().is_some_and(|text| text.starts_with("tq1.") && text.len() > 20));
}

#[tokio::test]
async fn every_reason_has_its_word() {
    use FinishReason::{ContentFilter, Length, Stop, ToolCalls};
    let said = || vec![piece("x")];
    let called = || vec![piece("x"), call(0, "c", "f"), arguments(0, "{}")];
    let cut = || vec![piece("x"), call(0, "c", "f"), arguments(0, "{\"a")];
    let one_cut = || {
        let mut items = called();
        items.extend([call(1, "d", "f"), arguments(1, "{\"a")]);
        items
    };
    let cut_and_text = || {
        let mut items = one_cut();
        items.extend([piece("y"), thought("z")]);
        items
    };
    for (name, items, reason, word) in [
        ("text", said(), Stop, "end_turn"),
        ("text", said(), Length, "max_tokens"),
        ("text", said(), ContentFilter, "refusal"),
        // What the upstream says of calls is not always so.
        ("a call", called(), ToolCalls, "tool_use"),
        ("a call", called(), Stop, "tool_use"),
        // It may be cut, though a layer below has closed it.
        ("a call", called(), Length, "max_tokens"),
        ("a call", called(), ContentFilter, "refusal"),
        ("a cut call", cut(), Length, "max_tokens"),
        ("a cut call", cut(), ContentFilter, "refusal"),
        ("a second call that is cut", one_cut(), Length, "max_tokens"),
        ("text behind a call that is cut", cut_and_text(), Length, "max_tokens"),
        ("nothing", vec![], Length, "max_tokens"),
    ] {
        let items = || {
            let copies = items.iter().map(|item| Ok(item.as_ref().expect("no error").clone()));
            copies.chain([finished(reason)]).collect::<Vec<_>>()
        };
        let message = read(items()).await;
        assert_eq!(stop(&message), (word, None), "{name}, {reason:?}");
        let answer = whole(items()).await;
        assert_eq!(answer["stop_reason"], word, "{name}, {reason:?}");
        assert_eq!(answer["stop_sequence"], Value::Null);
    }
}

/// A call of which only a part is there is shown as it came; as a whole answer would have to make
/// an object of it, it is not in one.
#[tokio::test]
async fn a_call_that_is_cut_is_no_call_of_a_whole_answer() {
    for part in ["", "{", "{\"a\": [1, 2", "{\"a\": \"x\\"] {
        let items = || {
            let mut items = vec![piece("x"), call(0, "a", "f"), arguments(0, "{\"a\":1}")];
            items.push(call(1, "b", "g"));
            if !part.is_empty() {
                items.push(arguments(1, part));
            }
            items.push(finished(FinishReason::Length));
            items
        };
        let message = read(items()).await;
        let sent = if part.is_empty() { "{}" } else { part };
        assert_eq!(message.calls()[1], ("g".into(), sent.into()));
        let answer = whole(items()).await;
        assert_eq!(answer["content"].as_array().expect("blocks").len(), 2, "{part}: {answer}");
        assert_eq!(answer["content"][1]["name"], "f");
    }
}

/// Some servers say nothing where a function has no parameters.
#[tokio::test]
async fn a_call_without_arguments_has_an_empty_object() {
    for end in [FinishReason::ToolCalls, FinishReason::Stop] {
        let items = || vec![call(0, "a", "f"), piece("x"), call(1, "b", "g"), finished(end)];
        let message = read(items()).await;
        assert_eq!(message.calls(), [("f".into(), "{}".into()), ("g".into(), "{}".into())]);
        assert_eq!(message.text(), "x");
        assert_eq!(stop(&message).0, "tool_use");
        let answer = whole(items()).await;
        let inputs: Vec<_> = answer["content"].as_array().expect("blocks").iter().collect();
        assert_eq!(inputs.len(), 3, "{answer}");
        assert!(inputs[1..].iter().all(|block| block["input"] == json!({})), "{answer}");
        assert_eq!(answer["stop_reason"], "tool_use");
    }
}

#[tokio::test]
async fn the_sequence_that_ended_an_answer_is_named() {
    let asked = || json!({"stop_sequences": ["END", "\n\n"]});
    let mut streams = asked();
    streams["stream"] = true.into();
    for (name, value, reason, word, sequence) in [
        ("stop_reason", json!("END"), FinishReason::Stop, "stop_sequence", Some("END")),
        ("matched_stop", json!("\n\n"), FinishReason::Stop, "stop_sequence", Some("\n\n")),
        // The id of the token that ends every answer, and a sequence that nobody asked for.
        ("matched_stop", json!(151645), FinishReason::Stop, "end_turn", None),
        ("stop_reason", json!("other"), FinishReason::Stop, "end_turn", None),
        ("finish", json!("END"), FinishReason::Stop, "end_turn", None),
        ("stop_reason", json!("END"), FinishReason::Length, "max_tokens", None),
    ] {
        let items = || vec![piece("x"), fields(name, value.clone()), finished(reason)];
        let response = answered(ask(streams.clone()), stream::iter(items())).await;
        let message = reader::read(&text(response).await).expect("a right stream");
        assert_eq!(stop(&message), (word, sequence), "{name}: {value}");
        let response = answered(ask(asked()), stream::iter(items())).await;
        let answer = json_of(response).await;
        assert_eq!(answer["stop_reason"], word, "{name}: {value}");
        assert_eq!(answer["stop_sequence"].as_str(), sequence, "{name}: {value}");
    }
}

#[tokio::test]
async fn what_went_in_is_counted_apart() {
    let told = |input: u64, cached: u64, output: u64| {
        json!({"input_tokens": input, "output_tokens": output,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached})
    };
    let mut thinking = told(33, 0, 12);
    thinking["output_tokens_details"] = json!({"thinking_tokens": 7});
    for (counts, expected) in [
        (vec![usage(33, None, 12, None)], told(33, 0, 12)),
        (vec![usage(33, Some(0), 12, None)], told(33, 0, 12)),
        (vec![usage(33, Some(30), 12, None)], told(3, 30, 12)),
        (vec![usage(33, Some(33), 12, None)], told(0, 33, 12)),
        (vec![usage(33, Some(u64::MAX), 12, None)], told(0, 33, 12)),
        (vec![usage(33, None, 12, Some(7))], thinking),
        (vec![usage(u64::MAX, None, u64::MAX, None)], told(u64::MAX, 0, u64::MAX)),
        // The last one stands.
        (vec![usage(1, None, 1, None), usage(33, Some(3), 12, None)], told(30, 3, 12)),
        // None at all: about one token for four bytes.
        (vec![], told(0, 0, 3)),
    ] {
        for is_late in [false, true] {
            let items = || {
                let counts = counts.iter().map(|item| Ok(item.as_ref().expect("no error").clone()));
                let mut items = vec![thought("hmhm"), piece("a text")];
                if is_late {
                    items.push(STOP);
                }
                items.extend(counts);
                if !is_late {
                    items.push(STOP);
                }
                items
            };
            let message = read(items()).await;
            assert_eq!(final_usage(&message), expected, "{counts:?}");
            assert_eq!(message.first_usage["output_tokens"], 0);
            assert_eq!(whole(items()).await["usage"], expected, "{counts:?}");
        }
    }
    // What is known when the message begins is told there.
    let message = read(vec![usage(33, Some(3), 12, None), piece("x"), STOP]).await;
    assert_eq!(message.first_usage, told(30, 3, 0));
}

/// The pieces of calls may be mixed; the blocks of a message are not.
#[tokio::test]
async fn what_comes_within_a_call_waits_for_its_end() {
    let cases = [
        (
            "two calls",
            vec![
                call(0, "a", "f"),
                call(1, "b", "g"),
                arguments(1, "{\"b\""),
                arguments(0, "{\"a\""),
                arguments(1, ":2}"),
                arguments(0, ":1}"),
            ],
            vec!["f {\"a\":1}", "g {\"b\":2}"],
        ),
        (
            "text and thinking within a call",
            vec![
                call(0, "a", "f"),
                arguments(0, "{\"a\":"),
                piece("x"),
                thought("y"),
                piece("z"),
                arguments(0, "1}"),
                piece("!"),
            ],
            vec!["f {\"a\":1}", "text x", "thinking y", "text z!"],
        ),
        (
            "three calls, the first done last",
            vec![
                thought("hm"),
                call(0, "a", "f"),
                arguments(0, "{"),
                call(1, "b", "g"),
                piece("x"),
                call(2, "c", "h"),
                arguments(2, "{\"c\":3}"),
                arguments(1, "{\"b\":2"),
                arguments(0, "}"),
                arguments(1, "}"),
                piece("y"),
            ],
            vec!["thinking hm", "f {}", "g {\"b\":2}", "text x", "h {\"c\":3}", "text y"],
        ),
        (
            "blanks behind a call that is over",
            vec![
                call(0, "a", "f"),
                arguments(0, "{}"),
                call(1, "b", "g"),
                arguments(0, " \n"),
                arguments(1, "{}"),
            ],
            vec!["f {}", "g {}"],
        ),
        (
            "blanks before the arguments of a call",
            vec![
                call(0, "a", "f"),
                arguments(0, " "),
                call(1, "b", "g"),
                arguments(1, "\n"),
                arguments(0, "\n{"),
                arguments(1, "{}"),
                arguments(0, "}"),
            ],
            vec!["f {}", "g {}"],
        ),
        (
            "a signature within a call",
            vec![
                call(0, "a", "f"),
                thought("hm"),
                Ok(ChatEvent::ReasoningSignature("sig".into())),
                arguments(0, "{}"),
            ],
            vec!["f {}", "thinking hm (sig)"],
        ),
    ];
    for (name, mut items, expected) in cases {
        items.push(finished(FinishReason::ToolCalls));
        let message = read(items).await;
        let blocks: Vec<_> = message
            .blocks
            .iter()
            .map(|block| match block {
                Block::Text(text) => format!("text {text}"),
                Block::Thinking { thinking, signature } if signature.starts_with("tq1.") => {
                    format!("thinking {thinking}")
                }
                Block::Thinking { thinking, signature } => {
                    format!("thinking {thinking} ({signature})")
                }
                Block::Call { name, json, .. } => format!("{name} {json}"),
            })
            .collect();
        assert_eq!(blocks, expected, "{name}");
    }
}

/// A client that is shown a call sees its arguments arrive, whatever else waits.
#[tokio::test]
async fn the_open_call_streams_through() {
    let (sender, mut body) = open(AnthropicLayer::new()).await;
    let mut next = async |item: Item| {
        sender.send(item).expect("open");
        frame(&mut body).await
    };
    assert!(next(call(0, "a", "f")).await.contains("tool_use"));
    assert!(next(arguments(0, "{\"a\":")).await.contains(r#""partial_json":"{\"a\":""#));
    sender.send(piece("held")).expect("open");
    let next = next(arguments(0, "1}")).await;
    let (first, then) = (next.find("1}").expect("the arguments"), next.find("held"));
    assert!(then.is_some_and(|then| first < then), "{next}");
}

/// A stream that is fed by hand, and its body.
async fn open(
    edge: AnthropicLayer,
) -> (mpsc::UnboundedSender<Item>, std::pin::Pin<Box<impl Body<Data = Bytes, Error = Infallible>>>)
{
    let (sender, receiver) = mpsc::unbounded_channel();
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let inner = service_fn(move |_: Request<ChatRequest>| {
        let receiver = receiver.lock().expect("not poisoned").take().expect("called once");
        let events =
            stream::unfold(receiver, |mut receiver: mpsc::UnboundedReceiver<Item>| async {
                receiver.recv().await.map(|event| (event, receiver))
            });
        async { Ok::<_, Error>(Response::new(events.boxed())) }
    });
    let response = edge.layer(inner).oneshot(streamed()).await.expect("infallible");
    (sender, Box::pin(response.into_body()))
}

async fn frame<B: Body<Data = Bytes, Error = Infallible> + Unpin>(body: &mut B) -> String {
    let frame = body.frame().await.expect("a frame").expect("infallible");
    String::from_utf8(frame.into_data().expect("data").to_vec()).expect("UTF-8")
}

/// What is held back has a bound, and it is one of memory: many small pieces count for what they
/// take.
#[tokio::test]
async fn what_is_held_back_is_bounded() {
    const BOUND: usize = 8 * 1024 * 1024;
    let long = "x".repeat(64 * 1024);
    let signature = "s".repeat(64 * 1024);
    type Unit<'a> = Box<dyn Fn(usize) -> Vec<Item> + 'a>;
    let units: [(&str, usize, Unit<'_>); 4] = [
        ("long pieces", long.len(), Box::new(|_| vec![piece(&long)])),
        // A block takes some hundred bytes, however short its text.
        ("short blocks", 128, Box::new(|_| vec![piece("x"), thought("y")])),
        (
            "signatures",
            signature.len(),
            Box::new(|_| {
                let signature = ChatEvent::ReasoningSignature(signature.as_str().into());
                vec![piece("x"), thought("y"), Ok(signature)]
            }),
        ),
        (
            "calls",
            100,
            Box::new(|at| {
                vec![call(at as u32 + 1, "some-id", "some-name"), arguments(at as u32 + 1, "{}")]
            }),
        ),
    ];
    for (name, least, unit) in units {
        let (sender, mut body) = open(AnthropicLayer::new()).await;
        sender.send(call(0, "a", "f")).expect("open");
        sender.send(arguments(0, "{\"a\":")).expect("open");
        let mut all = frame(&mut body).await;
        let mut sent = 0;
        while !body.is_end_stream() {
            assert!(sent * least <= BOUND + least, "{name}: more than {sent} were held");
            for item in unit(sent) {
                sender.send(item).expect("open");
            }
            sent += 1;
            // The channel gives only so much at once.
            tokio::task::yield_now().await;
            if let Some(Some(Ok(frame))) = body.frame().now_or_never() {
                all.push_str(
                    core::str::from_utf8(&frame.into_data().expect("data")).expect("UTF-8"),
                );
            }
        }
        assert!(body.frame().await.is_none(), "{name}: it is over");
        let message = reader::read(&all).expect("a right stream");
        assert_eq!(failure(&message).0, "api_error", "{name}");
        // Nothing waits for a stream that nobody reads.
        assert!(sender.is_closed(), "{name}: the upstream is let go");
    }
}

#[tokio::test]
async fn an_error_before_the_commit_point_has_its_status_and_its_words() {
    use ErrorKind as E;
    #[rustfmt::skip]
    let table = [
        (E::InvalidRequest, 400, "invalid_request_error", true),
        (E::ContextLength, 400, "invalid_request_error", true),
        (E::ContentFilter, 400, "invalid_request_error", true),
        (E::TooLarge, 413, "request_too_large", true),
        (E::UnsupportedMediaType, 415, "invalid_request_error", true),
        (E::MethodNotAllowed, 405, "invalid_request_error", true),
        (E::Auth, 401, "authentication_error", false),
        (E::Permission, 403, "permission_error", true),
        (E::ModelNotFound, 404, "not_found_error", true),
        (E::NotFound, 404, "not_found_error", true),
        (E::ConversationLost, 404, "not_found_error", true),
        (E::AccountUnavailable, 404, "not_found_error", true),
        (E::ConversationBusy, 503, "overloaded_error", true),
        (E::RateLimited, 429, "rate_limit_error", true),
        (E::Quota, 429, "rate_limit_error", false),
        (E::Internal, 500, "api_error", false),
        (E::Unsupported, 501, "invalid_request_error", false),
        (E::Upstream, 502, "api_error", true),
        (E::Truncated, 502, "api_error", true),
        (E::Challenge, 503, "overloaded_error", false),
        (E::Overloaded, 503, "overloaded_error", true),
        (E::Timeout, 504, "timeout_error", true),
    ];
    for (kind, status, word, may_help) in table {
        let error = move || {
            Error::new(kind, "what went wrong").with_retry_after(Duration::from_millis(2500))
        };
        for stream in [false, true] {
            let response = refused(ask(json!({"stream": stream})), error).await;
            assert_eq!(response.status(), status, "{kind:?}");
            assert_eq!(response.headers()["retry-after"], "3", "{kind:?}");
            assert_eq!(response.headers()["content-type"], "application/json");
            let told = response.headers().get("x-should-retry").map(|told| told.as_bytes());
            assert_eq!(told, (!may_help).then_some(&b"false"[..]), "{kind:?}");
            let body = json_of(response).await;
            assert_eq!(body["type"], "error");
            assert_eq!(body["error"]["type"], word, "{kind:?}");
            assert_eq!(body.get("request_id"), Some(&Value::Null));
            let message = body["error"]["message"].as_str().expect("words");
            let begins = if kind == E::ContextLength { "prompt is too long" } else { "what" };
            assert!(message.starts_with(begins) && message.contains("went wrong"), "{message}");
        }
        // The routes around the edge say the same.
        let response = error_response(&error());
        assert_eq!(response.status(), status);
    }
}

#[tokio::test]
async fn an_error_after_the_commit_point_is_in_band_and_the_last() {
    for (before, kind, word) in [
        (vec![piece("half")], ErrorKind::Truncated, "api_error"),
        (vec![thought("half")], ErrorKind::Overloaded, "overloaded_error"),
        (
            vec![piece("x"), call(0, "a", "f"), arguments(0, "{\"a")],
            ErrorKind::Timeout,
            "timeout_error",
        ),
        (vec![piece("x")], ErrorKind::ContextLength, "invalid_request_error"),
        // Nothing was said yet, but the answer has begun.
        (vec![], ErrorKind::Quota, "rate_limit_error"),
        (vec![], ErrorKind::ContentFilter, "invalid_request_error"),
    ] {
        let mut items = before;
        items.extend([failed(kind), piece("more"), STOP]);
        let message = read(items).await;
        assert_eq!(failure(&message).0, word, "{kind:?}");
        assert!(!message.text().contains("more"));
    }
}

/// A filter that ends an answer is how the answer ends, and what was said stays.
#[tokio::test]
async fn a_filter_that_cuts_an_answer_is_a_refusal() {
    let items = vec![
        piece("half"),
        call(0, "a", "f"),
        arguments(0, "{\"a"),
        piece("held"),
        failed(ErrorKind::ContentFilter),
    ];
    let message = read(items).await;
    assert_eq!(stop(&message).0, "refusal");
    assert_eq!(message.text(), "halfheld");
    let response =
        answered(ask(json!({})), stream::iter([piece("half"), failed(ErrorKind::ContentFilter)]));
    assert_eq!(response.await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_end_without_a_reason_is_an_error_streamed_or_not() {
    for items in [vec![], vec![piece("half")], vec![call(0, "a", "f"), arguments(0, "{}")]] {
        let items = || items.iter().map(|item| Ok(item.as_ref().expect("no error").clone()));
        let message = read(items().collect()).await;
        assert_eq!(failure(&message).0, "api_error");
        let items: Vec<_> = items().collect();
        let response = answered(ask(json!({})), stream::iter(items)).await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    }
}

#[tokio::test]
async fn what_follows_the_end_cannot_spoil_the_answer() {
    let items = || vec![piece("x"), STOP, STOP, piece("y"), failed(ErrorKind::Upstream)];
    let message = read(items()).await;
    assert_eq!((stop(&message).0, message.text().as_str()), ("end_turn", "x"));
    assert_eq!(whole(items()).await["content"][0]["text"], "x");
}

/// A client that has heard nothing for 20 s takes the connection for stalled.
#[tokio::test(start_paused = true)]
async fn quiet_streams_begin_and_are_kept_alive() {
    const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    let (sender, mut body) = open(AnthropicLayer::new()).await;
    let start = tokio::time::Instant::now();
    let mut next = async || (frame(&mut body).await, start.elapsed().as_secs());
    let (first, at) = next().await;
    assert_eq!(at, 15);
    assert!(first.starts_with("event: message_start\n") && first.ends_with(PING), "{first}");
    let mut all = first;
    let (again, at) = next().await;
    assert_eq!((again.as_str(), at), (PING, 30));
    all.push_str(&again);
    tokio::time::advance(Duration::from_secs(10)).await;
    sender.send(piece("x")).expect("open");
    let (said, _) = next().await;
    assert!(said.starts_with("event: content_block_start\n"), "{said}");
    all.push_str(&said);
    // The interval counts from the piece, not from the last sign of life.
    let (again, at) = next().await;
    assert_eq!((again.as_str(), at), (PING, 55));
    all.push_str(&again);
    for item in [call(0, "a", "f"), arguments(0, "{"), piece("held")] {
        sender.send(item).expect("open");
    }
    all.push_str(&next().await.0);
    // What waits does not make a sound.
    let (again, at) = next().await;
    assert_eq!((again.as_str(), at), (PING, 70));
    all.push_str(&again);
    for item in [arguments(0, "}"), STOP] {
        sender.send(item).expect("open");
    }
    drop(sender);
    while let Some(frame) = body.frame().await {
        let frame = frame.expect("infallible").into_data().expect("data");
        all.push_str(core::str::from_utf8(&frame).expect("UTF-8"));
    }
    let message = reader::read(&all).expect("a right stream");
    assert_eq!((message.pings, message.text().as_str()), (4, "xheld"));
}

/// Before the first event the response is not there, for what goes wrong shall have a status of its
/// own. A client that wants a stream is kept waiting no longer than the keep-alive says.
#[tokio::test(start_paused = true)]
async fn a_response_begins_in_time_when_the_upstream_does_not() {
    traced::on();
    let start = tokio::time::Instant::now();
    let ask_slow = |stream: bool, answer: fn() -> Result<Events, Error>| {
        let inner = service_fn(move |_: Request<ChatRequest>| async move {
            tokio::time::sleep(Duration::from_secs(40)).await;
            answer().map(|events| {
                Response::builder().header("x-inner", "1").body(events).expect("a response")
            })
        });
        AnthropicLayer::new().layer(inner).oneshot(ask(json!({"stream": stream})))
    };
    let good = || Ok(stream::iter([piece("x"), STOP]).boxed());
    let bad = || Err(Error::new(ErrorKind::RateLimited, "slow down"));

    let response = ask_slow(true, good).await.expect("infallible");
    assert_eq!((start.elapsed().as_secs(), response.status()), (15, StatusCode::OK));
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let message = reader::read(&text(response).await).expect("a right stream");
    assert_eq!(start.elapsed().as_secs(), 40);
    assert_eq!((message.pings, message.text().as_str()), (2, "x"));

    let response = ask_slow(true, bad).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::OK);
    let message = reader::read(&text(response).await).expect("a right stream");
    assert_eq!((message.pings, failure(&message)), (2, ("rate_limit_error", "slow down")));

    // The message has begun, so a filter ends it as a refusal.
    let filtered = || Err(Error::new(ErrorKind::ContentFilter, "no"));
    let response = ask_slow(true, filtered).await.expect("infallible");
    let message = reader::read(&text(response).await).expect("a right stream");
    assert_eq!(stop(&message).0, "refusal");

    // Nobody waits for a byte of a whole answer, and it keeps its status.
    let response = ask_slow(false, bad).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let response = ask_slow(false, good).await.expect("infallible");
    assert_eq!(response.headers()["x-inner"], "1");
}

/// A client that wants no token only warms a cache: nothing is asked of the upstream.
#[tokio::test]
async fn an_answer_of_no_tokens_is_there_at_once() {
    for stream in [false, true] {
        let response = refused(ask(json!({"max_tokens": 0, "stream": stream})), || {
            panic!("the upstream was asked")
        })
        .await;
        assert_eq!(response.status(), StatusCode::OK);
        let body = text(response).await;
        if stream {
            let message = reader::read(&body).expect("a right stream");
            assert_eq!((stop(&message).0, message.blocks.len()), ("max_tokens", 0));
        } else {
            let answer: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(
                (&answer["stop_reason"], &answer["content"]),
                (&json!("max_tokens"), &json!([]))
            );
            assert_eq!(answer["usage"]["output_tokens"], 0);
        }
    }
}

/// Clients take two messages with one id for one message, and two calls for one call.
#[tokio::test]
async fn ids_are_unlike_any_other() {
    const LONG: &str = "chatcmpl-tool-8f3b1c2d4e5f60718293a4b5";
    const OURS: &str = "toolu_01ABCDEFGHJKLMNPQRSTUVWX";
    let items = || {
        let mut items = Vec::new();
        for (at, id) in ["call_0", "call_1", LONG, OURS].into_iter().enumerate() {
            items.extend([call(at as u32, id, "f"), arguments(at as u32, "{}")]);
        }
        items.push(finished(FinishReason::ToolCalls));
        items
    };
    let mut messages = HashSet::new();
    let mut short = HashSet::new();
    for round in 1..=50 {
        let (id, calls) = if round % 2 == 0 {
            let message = read(items()).await;
            let calls = message.blocks.iter().map(|block| match block {
                Block::Call { id, .. } => id.clone(),
                other => panic!("{other:?}"),
            });
            (message.id.clone(), calls.collect::<Vec<_>>())
        } else {
            let answer = whole(items()).await;
            let calls = answer["content"].as_array().expect("blocks").iter();
            let calls = calls.map(|block| block["id"].as_str().expect("an id").to_owned());
            (answer["id"].as_str().expect("an id").to_owned(), calls.collect())
        };
        assert!(messages.insert(id));
        assert!(calls.iter().all(|id| id.starts_with("toolu_") && id.len() >= 28), "{calls:?}");
        // The same for ever, so that an answer that is given again is the same.
        assert_eq!(calls[3], OURS);
        short.extend(calls.iter().cloned());
        // Two more with each answer, beside the two that stay.
        assert_eq!(short.len(), 2 + 2 * round);
    }
}

/// A client that wants to see no thinking gives it back all the same.
#[tokio::test]
async fn thinking_that_is_not_shown_comes_back() {
    let shown = |display: &str, stream: bool| {
        ask(json!({"stream": stream, "thinking": {"type": "adaptive", "display": display}}))
    };
    let items = || vec![thought("Hm, "), thought("\u{1F30C}"), piece("x"), STOP];
    for (display, is_shown) in [("omitted", false), ("updates", true), ("summarized", true)] {
        let response = answered(shown(display, true), stream::iter(items())).await;
        let message = reader::read(&text(response).await).expect("a right stream");
        let Block::Thinking { thinking, signature } = &message.blocks[0] else {
            panic!("{message:?}")
        };
        assert_eq!(thinking, if is_shown { "Hm, \u{1F30C}" } else { "" });
        let response = answered(shown(display, false), stream::iter(items())).await;
        let answer = json_of(response).await;
        assert_eq!(
            answer["content"][0],
            json!({"type": "thinking", "thinking": thinking, "signature": signature}),
            "streamed or not, it is the same"
        );
        let body = json!({"model": "m", "max_tokens": 9, "messages": [
            {"role": "user", "content": "x"}, {"role": "assistant", "content": answer["content"]}]});
        let decoded = decode(&Bytes::from(body.to_string())).expect("valid");
        let message = &decoded.chat.history[1];
        assert_eq!(message.reasoning.as_deref(), Some("Hm, \u{1F30C}"));
        assert_eq!(message.reasoning_signature, None, "it was made here");
    }
}

/// The upstream's own signature is what it wants back.
#[tokio::test]
async fn the_signature_of_the_upstream_is_passed_on() {
    let signature = || Ok(ChatEvent::ReasoningSignature("EqQBCgIYAhIM".into()));
    let items = || vec![thought("hm"), signature(), piece("x"), STOP];
    let message = read(items()).await;
    let expected = Block::Thinking { thinking: "hm".into(), signature: "EqQBCgIYAhIM".into() };
    assert_eq!(message.blocks[0], expected);
    let answer = whole(items()).await;
    assert_eq!(answer["content"][0]["signature"], "EqQBCgIYAhIM");
}

#[tokio::test]
async fn the_upstream_is_let_go_when_the_answer_is_over_or_the_client_is() {
    let held = Arc::new(());
    let events = |last: Option<Item>| {
        let guard = Arc::clone(&held);
        let is_endless = last.is_none();
        let items = stream::iter([Some(piece("x")), last].into_iter().flatten());
        items.chain(stream::pending().take(usize::from(is_endless))).map(move |event| {
            let _ = &guard;
            event
        })
    };
    for last in [STOP, failed(ErrorKind::Upstream)] {
        let response = answered(streamed(), events(Some(last))).await;
        let mut body = Box::pin(response.into_body());
        assert!(!body.is_end_stream());
        while !body.is_end_stream() {
            assert!(body.frame().await.is_some());
        }
        assert_eq!(Arc::strong_count(&held), 1, "over, although the body is still there");
        assert!(body.frame().await.is_none());
    }
    let mut body = Box::pin(answered(streamed(), events(None)).await.into_body());
    body.frame().await;
    assert_eq!(Arc::strong_count(&held), 2);
    drop(body);
    assert_eq!(Arc::strong_count(&held), 1, "abandoned");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(future)
}

/// The events, with a pause where `pauses` says so.
fn paused(items: Vec<Item>, pauses: Vec<bool>) -> impl Stream<Item = Item> + Send {
    let (mut items, mut pauses) = (items.into_iter(), pauses.into_iter());
    stream::poll_fn(move |cx| {
        if pauses.next() == Some(true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(items.next())
    })
}

/// What was said, as far as a message shows it.
fn shown(message: &Message, said: &Said) -> Said {
    let mut order: Vec<Kind> = Vec::new();
    for block in &message.blocks {
        order.push(match block {
            Block::Text(_) => Kind::Text,
            Block::Thinking { .. } => Kind::Thinking,
            Block::Call { .. } => Kind::Call,
        });
    }
    let mut calls = message.calls();
    // Blanks around the arguments may be left out.
    for (sent, own) in calls.iter_mut().zip(&said.calls) {
        if own.1.trim() == sent.1.trim() {
            sent.1.clone_from(&own.1);
        }
    }
    // Nothing of arguments is written as an empty object.
    if let (Some(sent), Some(own)) = (calls.last_mut(), said.calls.last())
        && said.is_cut
        && own.1.trim().is_empty()
        && sent.1 == "{}"
    {
        sent.1.clone_from(&own.1);
    }
    Said { text: message.text(), thinking: message.thinking(), calls, order, ..said.clone() }
}

proptest! {
    /// Whatever an upstream says: a strict reader takes the stream, and reads what was said.
    #[test]
    fn any_answer_makes_a_right_stream(
        program in prop::collection::vec(any::<u8>(), 0..120),
        pauses in prop::collection::vec(any::<bool>(), 0..80),
    ) {
        let (items, said) = events::answer(&program);
        let mut contract = Contract::new();
        for item in &items {
            contract.observe(item).expect("what is made here keeps the contract");
        }
        contract.end().expect("what is made here ends");
        let (frames, message) = block_on(async {
            let events = paused(items, pauses);
            let mut body = Box::pin(answered(streamed(), events).await.into_body());
            let (mut frames, mut all) = (Vec::new(), String::new());
            while let Some(frame) = body.frame().await {
                let frame = frame.expect("infallible").into_data().expect("data");
                frames.push(frame.clone());
                all.push_str(core::str::from_utf8(&frame).expect("UTF-8"));
            }
            (frames, reader::read(&all))
        });
        let message = message.map_err(TestCaseError::fail)?;
        for frame in frames {
            prop_assert!(frame.starts_with(b"event: ") && frame.ends_with(b"\n\n"), "{:?}", frame);
        }
        let (items, _) = events::answer(&program);
        let response = block_on(async {
            let response = answered(ask(json!({})), stream::iter(items)).await;
            (response.status(), json_of(response).await)
        });
        let end = said.end.expect("an end");
        let has_begun = !message.id.is_empty();
        match (end, message.end.as_ref().expect("an end")) {
            (Err(kind), End::Failed { .. }) => {
                // As far as it came; what waited for a call that is cut is not there.
                prop_assert!(said.text.starts_with(&message.text()));
                prop_assert!(said.thinking.starts_with(&message.thinking()));
                prop_assert!(kind != ErrorKind::ContentFilter || !has_begun);
            }
            (Err(ErrorKind::ContentFilter), End::Stopped { reason, .. }) => {
                prop_assert_eq!(reason, "refusal");
                prop_assert_eq!(shown(&message, &said), said.clone());
            }
            (Ok(_), End::Stopped { reason, usage, .. }) => {
                prop_assert_eq!(shown(&message, &said), said.clone());
                let (status, answer) = &response;
                prop_assert_eq!(*status, StatusCode::OK);
                prop_assert_eq!(&answer["stop_reason"], reason);
                if said.usage.is_some() {
                    prop_assert_eq!(&answer["usage"], usage);
                }
                let blocks = answer["content"].as_array().expect("blocks");
                let is_said = |block: &Value| !block["text"].as_str().is_some_and(|text| text.starts_with(LINKS));
                let of = |kind: &str| {
                    let own = blocks.iter().filter(|block| block["type"] == kind && is_said(block));
                    own.collect::<Vec<_>>()
                };
                prop_assert_eq!(blocks.iter().any(|block| !is_said(block)), !message.links.is_empty());
                let joined = |kind: &str| -> String {
                    of(kind).iter().filter_map(|block| block[kind].as_str()).collect()
                };
                prop_assert_eq!(joined("text"), message.text());
                prop_assert_eq!(joined("thinking"), message.thinking());
                let whole_calls = message.calls().len() - usize::from(said.is_cut);
                prop_assert_eq!(of("tool_use").len(), whole_calls);
                for (block, (name, json)) in of("tool_use").iter().zip(message.calls()) {
                    prop_assert_eq!(&block["name"], &name);
                    let input: Value = serde_json::from_str(&json).expect("JSON");
                    prop_assert_eq!(&block["input"], &input);
                }
            }
            (end, sent) => prop_assert!(false, "{:?} was told as {:?}", end, sent),
        }
        if end.is_err() {
            prop_assert!(response.0.is_client_error() || response.0.is_server_error());
            prop_assert_eq!(&response.1["type"], "error");
        }
    }
}

/// An upstream that has answered with nothing at all has not answered; what the client's own limits
/// have ended may be empty.
#[tokio::test]
async fn an_answer_of_nothing_is_an_error() {
    let nothing = |reason| stream::iter([Ok(ChatEvent::Finished(reason))]);
    for reason in [FinishReason::Stop, FinishReason::ToolCalls] {
        let told = text(answered(streamed(), nothing(reason)).await).await;
        assert!(told.starts_with("event: error\n"), "{told}");
        assert!(told.contains("api_error") && told.contains("is empty"), "{told}");
        assert_eq!(told.matches("event: ").count(), 1, "{told}");
        let response = answered(ask(json!({})), nothing(reason)).await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(json_of(response).await["error"]["type"], "api_error");
    }
    for (kind, body, reason, stop_reason) in [
        ("the limit", json!({}), FinishReason::Length, "max_tokens"),
        ("a filter", json!({}), FinishReason::ContentFilter, "refusal"),
        ("a sequence", json!({"stop_sequences": ["x"]}), FinishReason::Stop, "end_turn"),
    ] {
        let answer = json_of(answered(ask(body), nothing(reason)).await).await;
        assert_eq!(
            (&answer["content"], &answer["stop_reason"]),
            (&json!([]), &json!(stop_reason)),
            "{kind}"
        );
    }
}

/// Over an upstream without stop sequences the edge ends the answer, and says before which it did.
#[tokio::test]
async fn the_sequence_that_the_edge_found_is_named() {
    use tower::Layer;
    use tower_qwen::edge::Offer;

    let inner = tower::service_fn(|_: Request<tower_qwen::chat::ChatRequest>| async {
        let pieces = ["one E", "ND two"].map(|piece| Ok(ChatEvent::Text(piece.into())));
        let events = pieces.into_iter().chain([finished(FinishReason::Stop)]);
        Ok::<_, Error>(Response::new(stream::iter(events.collect::<Vec<_>>())))
    });
    let edge = tower_qwen::anthropic::AnthropicLayer::new().offer(Offer::Web).layer(inner);
    for is_stream in [false, true] {
        let body = json!({"stop_sequences": ["nothing", "END"], "stream": is_stream});
        let Ok(response) = edge.clone().oneshot(ask(body)).await;
        let told = text(response).await;
        assert!(
            told.contains("\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"END\""),
            "{told}"
        );
        assert!(!told.contains("two"), "{told}");
    }
}

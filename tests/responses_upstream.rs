//! The adapter to DashScope's Responses API: what is sent, what is made of what comes back, and
//! conversations over the emulated API.

#[path = "messages/events.rs"]
mod events;
#[path = "responses/round_trip.rs"]
mod round_trip;
mod traced;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, FullBody,
    chat::{
        Answer, ChatEvent, ChatRequest, ChatStreamExt, Content, Conversation, Destination,
        FinishReason, FunctionTool, Json, Message, Part, PartKind, ReasoningEffort, ResponseFormat,
        Role, Tenant, Tool, ToolCall, ToolChoice,
    },
    dedup::DedupLayer,
    qwen::responses::QwenResponsesLayer,
    session::{Contention, MemoryStore, SessionLayer},
};
use tower_qwen_emulator::{Emulator, Kind, ReceivedRequest};

fn said(role: Role, text: &str) -> Message {
    Message::new(role, text.to_owned())
}

fn result(id: &str, text: &str) -> Message {
    let mut message = said(Role::Tool, text);
    message.tool_call_id = Some(id.into());
    message
}

fn calling(calls: &[(&str, &str)]) -> Message {
    let mut message = Message::empty(Role::Assistant);
    message.tool_calls =
        calls.iter().map(|(id, name)| ToolCall::new(*id, *name, r#"{"a":1}"#)).collect();
    message
}

fn tool(name: &str) -> Tool {
    Tool::Function(FunctionTool::new(
        name.to_owned(),
        Json::parse(r#"{"type":"object","properties":{"b":{},"a":{}}}"#).expect("JSON"),
    ))
}

fn request(messages: Vec<Message>) -> ChatRequest {
    ChatRequest::new("qwen-plus", messages)
}

/// An answer of these events.
fn stream(events: &[Value]) -> Bytes {
    let event = |event: &Value| {
        let name = event["type"].as_str().map(|name| format!("event: {name}\n"));
        format!("{}data: {event}\n\n", name.unwrap_or_default())
    };
    Bytes::from(events.iter().map(event).collect::<String>())
}

fn response(content_type: &str, status: u16, body: Bytes) -> Response<FullBody> {
    Response::builder()
        .header("content-type", content_type)
        .status(status)
        .body(FullBody::new(body))
        .expect("a response")
}

fn created() -> Value {
    json!({"type": "response.created", "response": {"id": "r1", "status": "in_progress"}})
}

fn completed(more: Value) -> Value {
    let mut response = json!({"id": "r1", "status": "completed"});
    for (name, value) in more.as_object().expect("an object") {
        response[name] = value.clone();
    }
    json!({"type": "response.completed", "response": response})
}

/// What is made of this response.
async fn made(response: Response<FullBody>, chat: ChatRequest) -> Result<Vec<ChatEvent>, Error> {
    traced::on();
    let response = Arc::new(Mutex::new(Some(response)));
    let upstream = service_fn(move |_: Request<FullBody>| {
        let response = response.lock().expect("not poisoned").take().expect("asked once");
        async { Ok::<_, Error>(response) }
    });
    let response = QwenResponsesLayer::new().layer(upstream).oneshot(Request::new(chat)).await?;
    let events: Vec<_> = response.into_body().checked().collect().await;
    events.into_iter().collect()
}

async fn read(events: &[Value]) -> Result<Vec<ChatEvent>, Error> {
    made(response("text/event-stream", 200, stream(events)), request(vec![])).await
}

/// The same as one answer.
async fn answer(events: &[Value]) -> Result<Answer, Error> {
    let events = read(events).await?;
    Answer::collect(futures_util::stream::iter(events.into_iter().map(Ok))).await
}

/// What is sent for this request: headers and body.
async fn sent(layer: QwenResponsesLayer, chat: ChatRequest) -> (http::HeaderMap, Value) {
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    let upstream = service_fn(move |request: Request<FullBody>| {
        let note = Arc::clone(&note);
        async move {
            assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/responses"));
            let (head, body) = request.into_parts();
            let body = http_body_util::BodyExt::collect(body).await.expect("whole").to_bytes();
            *note.lock().expect("not poisoned") =
                Some((head.headers, serde_json::from_slice(&body).expect("JSON")));
            let events = stream(&[created(), completed(json!({}))]);
            Ok::<_, Error>(response("text/event-stream", 200, events))
        }
    });
    let response = layer.layer(upstream).oneshot(Request::new(chat)).await.expect("answered");
    response.into_body().for_each(|_| async {}).await;
    seen.lock().expect("not poisoned").take().expect("something was sent")
}

async fn body(chat: ChatRequest) -> Value {
    sent(QwenResponsesLayer::new(), chat).await.1
}

#[tokio::test]
async fn a_history_is_items_with_results_right_behind_their_calls() {
    let mut thinking = calling(&[("c1", "read"), ("c2", "write")]);
    thinking.reasoning = Some("hm".into());
    thinking.content = Some(Content::Text("I look.".into()));
    let picture =
        Part::new(PartKind::Image { url: "data:image/png;base64,AA".into(), detail: None });
    let mut shown = Message::empty(Role::User);
    shown.content = Some(Content::Parts(vec![Part::text("see"), picture]));
    let history = vec![
        said(Role::System, "Be brief."),
        shown,
        thinking,
        // In another order than the calls, and one of nobody's.
        result("c2", "two"),
        result("c9", "lost"),
        result("c1", "one"),
        said(Role::System, "It is late."),
        said(Role::User, "and?"),
        said(Role::Assistant, "so."),
        said(Role::User, "ok"),
    ];
    let body = body(request(history)).await;
    let message =
        |role: &str, content: Value| json!({"type": "message", "role": role, "content": content});
    let call = |id: &str, name: &str| json!({"type": "function_call", "call_id": id, "name": name, "arguments": "{\"a\":1}"});
    let output = |id: &str, text: &str| json!({"type": "function_call_output", "call_id": id, "output": text});
    assert_eq!(
        body,
        json!({
            "model": "qwen-plus", "stream": true, "store": true,
            "input": [
                message("system", json!("Be brief.")),
                message("user", json!([
                    {"type": "input_text", "text": "see"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AA"},
                ])),
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                message("assistant", json!([{"type": "output_text", "text": "I look."}])),
                call("c1", "read"), output("c1", "one"),
                call("c2", "write"), output("c2", "two"),
                message("user", json!("Result of an earlier tool call:\nlost")),
                message("user", json!("<system-reminder>\nIt is late.\n</system-reminder>\n\nand?")),
                message("assistant", json!([{"type": "output_text", "text": "so."}])),
                message("user", json!("ok")),
            ],
        })
    );
}

#[tokio::test]
async fn what_is_gone_on_from_is_named_and_results_come_first() {
    let mut chat = request(vec![
        result("c1", "one"),
        said(Role::System, "It is late."),
        said(Role::User, "and?"),
    ]);
    chat.destination = Conversation::new("r0").with_parent("r7").into();
    let (headers, next) = sent(QwenResponsesLayer::new(), chat.clone()).await;
    assert_eq!(headers["x-dashscope-session-cache"], "enable");
    assert_eq!(headers["accept"], "text/event-stream");
    assert_eq!(next["previous_response_id"], "r7");
    assert_eq!(
        next["input"],
        json!([
            {"type": "function_call_output", "call_id": "c1", "output": "one"},
            {"type": "message", "role": "user",
             "content": "<system-reminder>\nIt is late.\n</system-reminder>\n\nand?"},
        ])
    );
    // A chat without an answer begins with the one that it is named after.
    chat.destination = Conversation::new("r0").into();
    assert_eq!(body(chat.clone()).await["previous_response_id"], "r0");
    let (headers, first) = sent(QwenResponsesLayer::new().session_cache(false), {
        chat.destination = Destination::NEW;
        chat.clone()
    })
    .await;
    assert!(headers.get("x-dashscope-session-cache").is_none());
    assert!(first.get("previous_response_id").is_none());
    // Nobody below the session layer knows a client's own ids.
    chat.destination = Destination::Answer { id: "resp_1".into() };
    let upstream = service_fn(|_: Request<FullBody>| async {
        panic!("half a conversation is sent");
        #[expect(unreachable_code, reason = "it has a type")]
        Ok::<_, Error>(response("", 200, Bytes::new()))
    });
    let asked = QwenResponsesLayer::new().layer(upstream).oneshot(Request::new(chat)).await;
    assert!(asked.expect_err("not known").is_conversation_lost());
}

#[tokio::test]
async fn tools_formats_and_limits_are_told_in_the_words_of_the_api() {
    let mut chat = request(vec![said(Role::User, "x")]);
    chat.tools = Arc::new(vec![tool("read")]);
    chat.tool_choice = Some(ToolChoice::Function("read".into()));
    chat.parallel_tool_calls = Some(true);
    chat.sampling.max_completion_tokens = Some(9);
    chat.sampling.temperature = Some(0.5);
    chat.sampling.top_p = Some(0.9);
    chat.user = Some("ann".into());
    let schema = r#"{"name":"n","strict":true,"schema":{"type":"object","b":1,"a":2}}"#;
    chat.response_format = Some(ResponseFormat::JsonSchema(Json::parse(schema).expect("JSON")));
    chat.extra.insert("enable_search", json!(true));
    chat.extra.insert("enable_thinking", json!(false));
    chat.extra.insert("metadata", json!({"a": "b"}));
    let body = body(chat.clone()).await;
    assert_eq!(
        body["tools"],
        json!([
            {"type": "function", "name": "read",
             "parameters": {"type": "object", "properties": {"b": {}, "a": {}}}},
            {"type": "web_search"},
        ])
    );
    assert_eq!(body["tool_choice"], json!({"type": "function", "name": "read"}));
    assert_eq!(body["parallel_tool_calls"], true);
    assert_eq!(body["max_output_tokens"], 9);
    assert_eq!((&body["temperature"], &body["top_p"]), (&json!(0.5), &json!(0.9)));
    assert_eq!((&body["user"], &body["metadata"]), (&json!("ann"), &json!({"a": "b"})));
    let format = &body["text"]["format"];
    assert_eq!(
        format.to_string(),
        r#"{"name":"n","schema":{"a":2,"b":1,"type":"object"},"strict":true,"type":"json_schema"}"#
    );
    for name in ["enable_search", "enable_thinking", "stream_options", "reasoning"] {
        assert!(body.get(name).is_none(), "{name}");
    }
    // Below 0 there is no limit.
    chat.sampling.max_completion_tokens = Some(-1);
    assert!(self::body(chat).await.get("max_output_tokens").is_none());
}

#[tokio::test]
async fn how_much_to_think_is_an_effort() {
    let word = |word: &str| Some(ReasoningEffort::from(tower_qwen::Text::from(word)));
    for (model, effort, enabled, budget, sent) in [
        ("qwen-plus", None, None, None, None),
        ("qwen-plus", word("none"), None, None, Some("none")),
        ("qwen-plus", None, Some(false), None, Some("none")),
        ("qwen-plus", word("minimal"), None, None, Some("minimal")),
        ("qwen-plus", word("low"), None, None, Some("low")),
        ("qwen-plus", word("medium"), None, None, Some("medium")),
        ("qwen-plus", word("high"), None, None, Some("high")),
        ("qwen-plus", word("xhigh"), None, None, Some("high")),
        ("qwen-plus", word("max"), None, None, Some("high")),
        ("qwen-plus", word("huge"), None, None, None),
        ("qwen-plus", None, Some(true), None, Some("high")),
        ("qwen-plus", None, Some(true), Some(1_000), Some("low")),
        ("qwen-plus", None, None, Some(8_000), Some("medium")),
        ("qwen-plus", None, None, Some(31_999), Some("high")),
        ("qwen-plus", None, None, Some(-1), Some("high")),
        ("qwen-plus", None, None, Some(0), Some("none")),
        // One refuses to be told, the other to stop.
        ("qwen3-coder-plus", word("high"), None, None, None),
        ("qwen3.8-max-preview", word("none"), None, None, None),
    ] {
        let mut chat = ChatRequest::new(model, [said(Role::User, "x")]);
        chat.reasoning.effort = effort;
        chat.reasoning.enabled = enabled;
        chat.reasoning.budget = budget;
        let told = format!("{model} {:?}", chat.reasoning);
        let body = body(chat).await;
        assert_eq!(body["reasoning"]["effort"].as_str(), sent, "{told}");
    }
    let layer = QwenResponsesLayer::new().effort(ReasoningEffort::High, ReasoningEffort::Medium);
    let mut chat = request(vec![said(Role::User, "x")]);
    chat.reasoning.effort = Some(ReasoningEffort::High);
    assert_eq!(self::sent(layer, chat).await.1["reasoning"]["effort"], "medium");
}

fn added(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.added", "output_index": index, "item": item})
}

fn delta(kind: &str, index: u64, delta: &str) -> Value {
    json!({"type": format!("response.{kind}.delta"), "output_index": index, "delta": delta})
}

#[tokio::test]
async fn an_answer_is_its_events() {
    let events = [
        created(),
        json!({"type": "response.in_progress", "response": {"id": "r1"}}),
        added(0, json!({"type": "reasoning", "summary": []})),
        delta("reasoning_summary_text", 0, "Hm"),
        json!({"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 1}),
        delta("reasoning_summary_text", 0, "so"),
        added(1, json!({"type": "message", "content": []})),
        delta("output_text", 1, "Hé"),
        json!({"type": "response.output_text.annotation.added", "output_index": 1, "annotation": {
            "type": "url_citation", "url": "https://example.org/a", "title": "A",
            "start_index": 0, "end_index": 2}}),
        added(
            2,
            json!({"type": "function_call", "call_id": "call_1", "name": "read", "arguments": ""}),
        ),
        delta("function_call_arguments", 2, "{\"a\":"),
        delta("function_call_arguments", 2, "1}"),
        json!({"type": "response.function_call_arguments.done", "output_index": 2, "arguments": "{\"a\":1}"}),
        json!({"type": "response.output_item.done", "output_index": 2, "item": {
            "type": "function_call", "call_id": "call_1", "name": "read", "arguments": "{\"a\":1}"}}),
        json!({"type": "response.something.new", "delta": "?"}),
        completed(json!({
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hé"}]}],
            "usage": {"input_tokens": 40, "output_tokens": 6, "total_tokens": 46,
                "input_tokens_details": {"cached_tokens": 32},
                "output_tokens_details": {"reasoning_tokens": 2}},
        })),
    ];
    let read = read(&events).await.expect("whole");
    let ChatEvent::Started(started) = &read[0] else { panic!("{read:?}") };
    assert_eq!(started.conversation, Some(Conversation::new("r1").with_parent("r1")));
    let answer = answer(&events).await.expect("whole");
    assert_eq!((&*answer.reasoning, &*answer.text), ("Hm\n\nso", "Hé"));
    let [call] = &answer.tool_calls[..] else { panic!("{answer:?}") };
    assert_eq!((&*call.id, &*call.name, &*call.arguments), ("call_1", "read", r#"{"a":1}"#));
    assert_eq!(answer.finish_reason, Some(FinishReason::ToolCalls));
    let usage = answer.usage.expect("counts");
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (40, 6, 46));
    assert_eq!((usage.cached_tokens, usage.reasoning_tokens), (Some(32), Some(2)));
    let cited = read.iter().any(|event| {
        matches!(event, ChatEvent::Citation(citation)
            if citation.range == Some(0..2) && citation.title.as_deref() == Some("A"))
    });
    assert!(cited, "{read:?}");
}

/// What says something only later, or in another form, is read there.
#[tokio::test]
async fn an_answer_is_read_wherever_it_stands() {
    let message = json!({"type": "message", "content": [
        {"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": " no"},
    ]});
    let call = |arguments: Value| json!({"type": "function_call", "call_id": "call_1", "name": "read", "arguments": arguments});
    let done = |index: u64, item: &Value| json!({"type": "response.output_item.done", "output_index": index, "item": item});
    let thought =
        json!({"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm"}]});
    let mut nameless = delta("output_text", 0, "Hi no");
    nameless.as_object_mut().expect("an object").remove("output_index");
    for (kind, events) in [
        (
            "at the end of items",
            vec![
                created(),
                done(0, &thought),
                done(1, &message),
                done(2, &call(json!("{\"a\":1}"))),
                completed(json!({})),
            ],
        ),
        (
            "begun, and whole at the end",
            vec![
                created(),
                done(0, &thought),
                added(1, json!({"type": "message"})),
                done(1, &message),
                added(2, call(json!(""))),
                done(2, &call(json!("{\"a\":1}"))),
                completed(json!({})),
            ],
        ),
        (
            "in the last event",
            vec![completed(json!({"output": [thought, message, call(json!({"a": 1}))]}))],
        ),
        (
            "without places",
            vec![
                created(),
                json!({"type": "response.reasoning_text.delta", "delta": "Hm"}),
                nameless,
                json!({"type": "response.output_item.added", "item": call(json!("{\"a\":1}"))}),
                completed(json!({})),
            ],
        ),
        (
            "arguments as an object",
            vec![
                created(),
                delta("reasoning_text", 0, "Hm"),
                delta("reasoning_summary_text", 0, "Hm"),
                delta("output_text", 1, "Hi no"),
                added(2, call(json!({"a": 1}))),
                completed(json!({})),
            ],
        ),
    ] {
        let answer = answer(&events).await.unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        assert_eq!((&*answer.reasoning, &*answer.text), ("Hm", "Hi no"), "{kind}");
        let [call] = &answer.tool_calls[..] else { panic!("{kind}: {answer:?}") };
        let arguments: Value = serde_json::from_str(&call.arguments).expect("JSON");
        assert_eq!((&*call.name, arguments), ("read", json!({"a": 1})), "{kind}");
        assert_eq!(answer.finish_reason, Some(FinishReason::ToolCalls), "{kind}");
    }
    // Whole, although a stream was asked for.
    let whole =
        json!({"id": "r1", "object": "response", "status": "completed", "output": [message]});
    let events =
        made(response("application/json", 200, Bytes::from(whole.to_string())), request(vec![]));
    let events = events.await.expect("whole");
    assert!(matches!(&events[0], ChatEvent::Started(_)), "{events:?}");
    assert!(events.contains(&ChatEvent::Finished(FinishReason::Stop)), "{events:?}");
}

#[tokio::test]
async fn how_it_ends_is_told_as_it_is() {
    let text = || delta("output_text", 0, "Hi");
    let ends = |more: Value| completed(more);
    for (kind, end, reason) in [
        ("completed", ends(json!({})), FinishReason::Stop),
        (
            "no status",
            json!({"type": "response.completed", "response": {"id": "r1"}}),
            FinishReason::Stop,
        ),
        (
            "cut",
            json!({"type": "response.incomplete", "response": {"id": "r1"}}),
            FinishReason::Length,
        ),
        (
            "cut, and said to be complete",
            ends(json!({"incomplete_details": {"reason": "max_output_tokens"}})),
            FinishReason::Length,
        ),
        ("an empty object for null", ends(json!({"incomplete_details": {}})), FinishReason::Stop),
        (
            "a reason that is not known",
            ends(json!({"incomplete_details": {"reason": "tired"}})),
            FinishReason::Length,
        ),
        (
            "filtered",
            ends(
                json!({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}),
            ),
            FinishReason::ContentFilter,
        ),
    ] {
        let answer =
            answer(&[created(), text(), end]).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(answer.finish_reason, Some(reason), "{kind}");
    }
    // A call that is cut is none to run.
    let call = added(
        0,
        json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a"}),
    );
    let answer = answer(&[created(), call, ends(json!({}))]).await.expect("an end");
    assert_eq!(answer.finish_reason, Some(FinishReason::Length));
    let failed = |error: Value| json!({"type": "response.failed", "response": {"id": "r1", "status": "failed", "error": error}});
    for (kind, end, expected) in [
        ("failed", failed(json!({"code": "server_error", "message": "oh"})), ErrorKind::Upstream),
        (
            "rate",
            failed(json!({"code": "rate_limit_exceeded", "message": "slow down"})),
            ErrorKind::RateLimited,
        ),
        (
            "filter",
            failed(json!({"code": "data_inspection_failed", "message": "no"})),
            ErrorKind::ContentFilter,
        ),
        (
            "an event of its own",
            json!({"type": "error", "code": "internal", "message": "oh"}),
            ErrorKind::Upstream,
        ),
        (
            "a bare error",
            json!({"error": {"message": "oh", "code": "limit_requests"}}),
            ErrorKind::RateLimited,
        ),
        (
            "cancelled",
            json!({"type": "response.cancelled", "response": {"id": "r1", "status": "cancelled"}}),
            ErrorKind::Truncated,
        ),
    ] {
        for before in [vec![created()], vec![created(), text()]] {
            let events = [before.clone(), vec![end.clone()]].concat();
            let error = read(&events).await.expect_err(kind);
            assert_eq!(error.kind(), expected, "{kind} {error:?}");
        }
    }
    // Without an end it has broken off.
    let error = read(&[created(), text()]).await.expect_err("cut");
    assert_eq!(error.kind(), ErrorKind::Truncated);
    let error = read(&[]).await.expect_err("nothing");
    assert_eq!(error.kind(), ErrorKind::Truncated);
}

/// Being strict about what nobody needs costs an answer.
#[tokio::test]
async fn odd_fields_cost_nothing() {
    for odd in [
        json!(null),
        json!({}),
        json!([]),
        json!(false),
        json!(""),
        json!(7),
        json!("NaN"),
        json!([[]]),
    ] {
        let mut events = vec![
            json!({"type": "response.created", "sequence_number": odd, "response": {"id": "r1", "usage": odd, "error": Value::Null, "output": odd, "incomplete_details": Value::Null}}),
            added(
                0,
                json!({"type": "message", "content": odd, "summary": odd, "id": odd, "name": odd, "call_id": odd, "arguments": odd}),
            ),
            delta("output_text", 0, "Hi"),
            json!({"type": "response.output_text.delta", "delta": "", "logprobs": odd, "item_id": odd}),
            json!({"type": "response.output_text.annotation.added", "annotation": odd, "output_index": 0}),
            json!({"type": "response.output_item.done", "item": odd, "output_index": 0}),
            json!({"type": "response.x", "item": odd, "part": odd, "text": odd}),
        ];
        events.push(completed(json!({"usage": odd, "output": odd, "tools": odd, "model": odd})));
        let answer = answer(&events).await.unwrap_or_else(|error| panic!("{odd}: {error:?}"));
        assert_eq!(
            (&*answer.text, answer.finish_reason),
            ("Hi", Some(FinishReason::Stop)),
            "{odd}"
        );
    }
    // Sometimes all counts are zero: then there are none.
    let zero = json!({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0});
    let events = [created(), delta("output_text", 0, "Hi"), completed(json!({"usage": zero}))];
    assert_eq!(answer(&events).await.expect("whole").usage, None);
}

#[tokio::test]
async fn an_answer_that_upstream_has_forgotten_is_told_apart() {
    let refusal = |status: u16, error: Value| {
        response("application/json", status, Bytes::from(json!({"error": error}).to_string()))
    };
    let mut next = request(vec![said(Role::User, "x")]);
    next.destination = Conversation::new("r0").with_parent("5d6d8d90-r7").into();
    for (error, lost) in [
        (
            json!({"message": "Previous response with id '5d6d8d90-r7' not found.", "param": "previous_response_id"}),
            true,
        ),
        (json!({"message": "no", "code": "previous_response_not_found"}), true),
        (json!({"message": "previous_response_id is expired"}), true),
        (json!({"message": "The id 5D6D8D90-R7 does not exist"}), true),
        (json!({"message": "Model not exist."}), false),
        (json!({"message": "the input is invalid"}), false),
        (json!({"message": "Range of input length should be [1, 6144]"}), false),
    ] {
        for status in [400, 404] {
            let asked = made(refusal(status, error.clone()), next.clone()).await;
            assert_eq!(asked.expect_err("refused").is_conversation_lost(), lost, "{error}");
            // Of a chat that is new nothing can be lost.
            let asked = made(refusal(status, error.clone()), request(vec![])).await;
            assert!(!asked.expect_err("refused").is_conversation_lost(), "{error}");
        }
    }
    let failed = json!({"type": "response.failed", "response": {"error": {
        "code": "previous_response_not_found", "message": "gone"}}});
    let asked = made(response("text/event-stream", 200, stream(&[created(), failed])), next).await;
    assert!(asked.expect_err("refused").is_conversation_lost());
}

/// The emulated API below session and dedup.
fn stack(
    emulator: &Emulator,
) -> impl Service<
    Request<ChatRequest>,
    Response = Response<impl tower_qwen::chat::ChatStream + use<>>,
    Error = Error,
    Future: Send,
> + Clone
+ use<> {
    ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::default()).contention(Contention::Share))
        .layer(DedupLayer::new())
        .layer(QwenResponsesLayer::new())
        .service(emulator.clone())
}

async fn turn<S, B>(service: &S, history: &mut Vec<Message>, chat: ChatRequest) -> Answer
where
    S: Service<Request<ChatRequest>, Response = Response<B>, Error = Error> + Clone,
    B: tower_qwen::chat::ChatStream,
{
    traced::on();
    let mut chat = chat;
    chat.tenant = Some(Tenant::from_digest([9; 32]));
    let response = service.clone().oneshot(Request::new(chat)).await.expect("answered");
    let answer = Answer::collect(response.into_body().checked()).await.expect("whole");
    let mut message = said(Role::Assistant, &answer.text);
    message.tool_calls = answer.tool_calls.clone();
    message.content = message.content.filter(|_| !answer.text.is_empty());
    history.push(message);
    answer
}

fn inputs(requests: &[ReceivedRequest]) -> Vec<usize> {
    let count = |request: &ReceivedRequest| request.body["input"].as_array().map_or(0, Vec::len);
    requests.iter().map(count).collect()
}

#[tokio::test(start_paused = true)]
async fn fifty_turns_send_what_is_new_and_read_from_the_cache() {
    let emulator = Emulator::builder().kind(Kind::DashScope).build();
    let service = stack(&emulator);
    let mut history = vec![said(Role::System, &"Be brief. ".repeat(600))];
    let tools = Arc::new(vec![tool("read_file")]);
    for number in 0..50 {
        let words = if number % 5 == 2 { "call the tool read_file" } else { "say something" };
        history.push(said(Role::User, &format!("question {number}: {words}")));
        let mut chat = request(history.clone());
        chat.tools = Arc::clone(&tools);
        let answer = turn(&service, &mut history, chat).await;
        let cached = answer.usage.expect("counts").cached_tokens;
        if number > 0 {
            assert!(cached.is_some_and(|cached| cached >= 1_024), "{number}: {cached:?}");
        }
        if !answer.tool_calls.is_empty() {
            for call in &answer.tool_calls {
                history.push(result(&call.id, "done"));
            }
            let mut chat = request(history.clone());
            chat.tools = Arc::clone(&tools);
            turn(&service, &mut history, chat).await;
        }
    }
    let requests = emulator.requests();
    let inputs = inputs(&requests);
    assert_eq!(inputs[0], 2, "the instructions and the question");
    assert!(inputs[1..].iter().all(|items| *items == 1), "{inputs:?}");
    assert!(requests.len() > 55, "some of the turns have called a tool: {}", requests.len());
    let texts: Vec<String> = requests.iter().map(|request| request.body.to_string()).collect();
    assert_eq!(texts.iter().filter(|text| text.contains("question 7:")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_upstream_forgot_is_replayed_once() {
    let emulator = Emulator::builder().kind(Kind::DashScope).build();
    let service = stack(&emulator);
    let mut history = Vec::new();
    for number in 0..3 {
        history.push(said(Role::User, &format!("question {number}")));
        let chat = request(history.clone());
        turn(&service, &mut history, chat).await;
    }
    let last = emulator.responses().pop().expect("kept");
    assert!(emulator.forget_response(&last));
    for number in 3..5 {
        history.push(said(Role::User, &format!("question {number}")));
        let chat = request(history.clone());
        turn(&service, &mut history, chat).await;
    }
    // Refused, sent whole, and on in the new chat.
    assert_eq!(inputs(&emulator.requests()), [1, 1, 1, 1, 7, 1]);
    // The vendor keeps them for seven days, and the store for as long as it was told.
    tokio::time::advance(Duration::from_secs(8 * 24 * 60 * 60)).await;
    history.push(said(Role::User, "question 5"));
    let chat = request(history.clone());
    turn(&service, &mut history, chat).await;
    let requests = emulator.requests();
    assert_eq!(inputs(&requests).last(), Some(&11), "sent whole");
}

/// Two turns go on from one answer at the same time, as two agents of one conversation do.
#[tokio::test(start_paused = true)]
async fn branches_do_not_wait_for_each_other() {
    let emulator = Emulator::builder().kind(Kind::DashScope).build();
    let service = stack(&emulator);
    let mut history = vec![said(Role::User, "question 0 emulate:slow=200")];
    let chat = request(history.clone());
    turn(&service, &mut history, chat).await;
    let branches = ["left", "right"].map(|side| {
        let mut history = history.clone();
        history.push(said(Role::User, &format!("{side} emulate:slow=200")));
        let service = service.clone();
        async move {
            let chat = request(history.clone());
            turn(&service, &mut history, chat).await
        }
    });
    futures_util::future::join_all(branches).await;
    let requests = emulator.requests();
    assert_eq!(inputs(&requests), [1, 1, 1]);
    let previous: Vec<_> =
        requests[1..].iter().map(|request| &request.body["previous_response_id"]).collect();
    assert!(previous[0].is_string() && previous[0] == previous[1], "{previous:?}");
}

/// The emulator is as strict as the API, so what passes there is in order.
#[tokio::test(start_paused = true)]
async fn the_emulated_api_refuses_what_the_vendor_refuses() {
    let emulator = Emulator::builder().kind(Kind::DashScope).build();
    let ask = |body: Value| {
        let emulator = emulator.clone();
        async move {
            let mut body = body;
            body["model"] = json!("qwen-plus");
            let request = Request::post("/compatible-mode/v1/responses")
                .body(FullBody::new(Bytes::from(body.to_string())))
                .expect("a request");
            let response = emulator.oneshot(request).await.expect("infallible");
            let status = response.status().as_u16();
            let body = http_body_util::BodyExt::collect(response.into_body()).await.expect("whole");
            (status, serde_json::from_slice::<Value>(&body.to_bytes()).unwrap_or_default())
        }
    };
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "x"});
    let user = json!({"role": "user", "content": "x"});
    for (input, says) in [
        (json!([user, {"type": "reasoning", "content": []}]), "summary is required"),
        (json!([user, call, user, output("c")]), "No tool output found"),
        (json!([user, call]), "No tool output found"),
        (json!([user, output("c")]), "No tool call found"),
        (json!([user, {"role": "system", "content": "x"}]), "must be at the beginning"),
        (json!(7), "input must be"),
    ] {
        let (status, body) = ask(json!({"input": input})).await;
        assert_eq!(status, 400, "{body}");
        assert!(
            body["error"]["message"].as_str().is_some_and(|text| text.contains(says)),
            "{body}"
        );
    }
    let (status, first) = ask(json!({"input": "Hello", "unknown": 1})).await;
    assert_eq!((status, &first["status"]), (200, &json!("completed")));
    let (status, _) = ask(json!({"input": "x", "previous_response_id": first["id"]})).await;
    assert_eq!(status, 200);
    let (status, body) =
        ask(json!({"input": "x", "previous_response_id": first["id"], "conversation": "c"})).await;
    assert_eq!(status, 400, "{body}");
    let (_, unstored) = ask(json!({"input": "Hello", "store": false})).await;
    let (status, body) = ask(json!({"input": "x", "previous_response_id": unstored["id"]})).await;
    assert_eq!(status, 400);
    assert!(
        body["error"]["message"].as_str().is_some_and(|text| text.contains("not found")),
        "{body}"
    );
}

proptest! {
    /// However the bytes are cut, the answer is the same.
    #[test]
    fn any_chunking_gives_the_same(cuts in prop::collection::vec(1_usize..40, 1..40)) {
        let bytes = stream(&[
            created(),
            delta("reasoning_summary_text", 0, "H\u{e9}m \u{1F30C}"),
            delta("output_text", 1, "a\nb \"\\ \u{e9}"),
            added(2, json!({"type": "function_call", "call_id": "call_1", "name": "read", "arguments": ""})),
            delta("function_call_arguments", 2, "{\"a\":\"\u{e9}\"}"),
            completed(json!({"usage": {"input_tokens": 4, "output_tokens": 2, "total_tokens": 6}})),
        ]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("one");
        let whole = runtime.block_on(made(response("text/event-stream", 200, bytes.clone()), request(vec![]))).expect("whole");
        let mut rest = bytes;
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            pieces.push(rest.split_to((*cut).min(rest.len())));
        }
        let upstream = service_fn(move |_: Request<FullBody>| {
            let frames = pieces.clone().into_iter().map(|piece| Ok::<_, Error>(http_body::Frame::data(piece)));
            let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
            let response = Response::builder().header("content-type", "text/event-stream").body(body);
            async { Ok::<_, Error>(response.expect("a response")) }
        });
        let cut = runtime.block_on(async {
            let chat = Request::new(request(vec![]));
            let response = QwenResponsesLayer::new().layer(upstream).oneshot(chat).await?;
            let events: Vec<_> = response.into_body().checked().collect().await;
            events.into_iter().collect::<Result<Vec<ChatEvent>, Error>>()
        });
        prop_assert_eq!(cut.expect("whole"), whole);
    }

    /// What the edge writes the adapter reads, whatever it is.
    #[test]
    fn what_the_edge_writes_the_adapter_reads(
        program in prop::collection::vec(any::<u8>(), 1..120),
        cut in 1_usize..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("one");
        let (items, said) = events::answer(&program);
        let answer = runtime.block_on(round_trip::round(items, cut));
        let end = said.end.expect("an end");
        prop_assert_eq!(answer.is_ok(), end.is_ok(), "{:?}", answer);
        if let (Ok(answer), Ok(reason)) = (answer, end) {
            let kept = |text: &str| round_trip::kept(text, said.calls.len());
            prop_assert_eq!(kept(&answer.text), kept(&said.text));
            prop_assert_eq!(&*answer.reasoning, &said.thinking);
            let calls = answer.tool_calls.iter();
            let calls: Vec<_> = calls.map(|call| (&*call.name, call.arguments.trim())).collect();
            let expected: Vec<_> = said.calls.iter().map(|(name, json)| (&**name, json.trim())).collect();
            prop_assert_eq!(calls, expected);
            let expected = match reason {
                FinishReason::Stop if !said.calls.is_empty() => FinishReason::ToolCalls,
                FinishReason::ToolCalls if said.calls.is_empty() => FinishReason::Stop,
                reason => reason,
            };
            prop_assert_eq!(answer.finish_reason, Some(expected));
            // Counts that are all zero are none.
            let told = |usage: Option<tower_qwen::chat::Usage>| {
                let usage = usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens));
                usage.filter(|counts| *counts != (0, 0))
            };
            prop_assert_eq!(told(answer.usage), told(said.usage));
        }
    }
}

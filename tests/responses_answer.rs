//! What the Responses edge writes: the exact events, the whole answer, and errors before and after
//! the commit point.

#[path = "messages/events.rs"]
mod events;
#[path = "responses/reader.rs"]
mod reader;
mod traced;

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use async_openai::types::responses as typed;
use bytes::Bytes;
use events::{Item, Kind, Said};
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use proptest::prelude::*;
use reader::Response as Read;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, FullBody,
    chat::{ChatEvent, ChatRequest, Citation, Destination, FinishReason, Role, Tenant, Usage},
    responses::{ResponsesLayer, decode, error_response},
    session::internals::KeyChain,
};

type Events = stream::BoxStream<'static, Item>;

fn body(more: &Value) -> Value {
    let mut body = json!({"model": "alias", "input": "x"});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

fn ask(more: Value) -> Request<FullBody> {
    Request::post("/v1/responses")
        .header("content-type", "application/json")
        .body(FullBody::new(Bytes::from(body(&more).to_string())))
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
    ResponsesLayer::new().layer(inner).oneshot(request).await.expect("infallible")
}

async fn text(response: Response<impl Body<Data = Bytes, Error = Infallible>>) -> String {
    let body = response.into_body().collect().await.expect("infallible").to_bytes();
    String::from_utf8(body.to_vec()).expect("UTF-8")
}

async fn json_of(response: Response<impl Body<Data = Bytes, Error = Infallible>>) -> Value {
    serde_json::from_str(&text(response).await).expect("JSON")
}

/// What a strict reader makes of the stream of these events.
async fn read(request: Request<FullBody>, items: impl IntoIterator<Item = Item>) -> Read {
    let items: Vec<_> = items.into_iter().collect();
    let text = text(answered(request, stream::iter(items)).await).await;
    read_typed(&text).unwrap_or_else(|fault| panic!("{fault}"));
    reader::read(&text).unwrap_or_else(|fault| panic!("{fault}\n{text}"))
}

/// Reads a stream by the types of a client whose enums are closed.
fn read_typed(stream: &str) -> Result<Vec<typed::ResponseStreamEvent>, String> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).map_err(|error| format!("{error}: {data}")))
        .collect()
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

const STOP: Item = Ok(ChatEvent::Finished(FinishReason::Stop));

fn usage() -> Item {
    let mut usage = Usage::new(33, 838);
    usage.cached_tokens = Some(7);
    Ok(ChatEvent::Usage(usage))
}

/// Tools of every kind that calls have items of their own for.
fn tools() -> Value {
    json!([
        {"type": "function", "name": "read", "parameters": {"type": "object"}},
        {"type": "namespace", "name": "mcp__files", "description": "d", "tools": [
            {"type": "function", "name": "read", "parameters": {"type": "object"}},
        ]},
        {"type": "custom", "name": "apply_patch", "description": "Patches.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
        {"type": "local_shell"},
        {"type": "tool_search", "execution": "client", "description": "Searches."},
    ])
}

#[tokio::test]
async fn a_stream_has_the_exact_events() {
    let request = ask(json!({"stream": true, "reasoning": {"effort": "low", "summary": "auto"}}));
    let response = answered(
        request,
        stream::iter([thought("hm"), piece("Hel"), usage(), piece("lo \"you\"\n"), STOP]),
    )
    .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert!(!response.headers().contains_key("content-length"));
    let text = text(response).await;
    let read = reader::read(&text).expect("a right stream");
    let names: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("event: response.")).collect();
    assert_eq!(
        names,
        [
            "created",
            "in_progress",
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
    );
    assert_eq!(read.last["model"], "alias");
    assert_eq!(read.last["reasoning"], json!({"effort": "low", "summary": "auto"}));
    assert_eq!(
        read.last["usage"],
        json!({
            "input_tokens": 33,
            "input_tokens_details": {"cached_tokens": 7, "cache_write_tokens": 0},
            "output_tokens": 838,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 871,
        })
    );
    assert_eq!((read.text().as_str(), read.thinking().as_str()), ("Hello \"you\"\n", "hm"));
}

#[tokio::test]
async fn a_whole_answer_is_one_object() {
    let request = ask(json!({"temperature": 0.5, "metadata": {"a":
        "b"}, "max_output_tokens": 9, "parallel_tool_calls": false}));
    let response = answered(request, stream::iter([thought("hm"), piece("Hi"), usage(), STOP]));
    let mut answer = json_of(response.await).await;
    let fields = answer.as_object_mut().expect("an object");
    for (field, prefix) in [("id", "resp_"), ("created_at", ""), ("completed_at", "")] {
        let value = fields.remove(field).expect(field);
        assert!(value.is_u64() || value.as_str().is_some_and(|id| id.starts_with(prefix)));
    }
    let id = fields["output"][0].as_object_mut().expect("an item").remove("id");
    assert!(id.is_some_and(|id| id.as_str().is_some_and(|id| id.starts_with("msg_"))));
    assert_eq!(
        answer,
        json!({
            "object": "response", "status": "completed", "error": null,
            "incomplete_details": null, "model": "alias", "instructions": null,
            "max_output_tokens": 9, "metadata": {"a": "b"}, "parallel_tool_calls": false,
            "previous_response_id": null, "reasoning": {"effort": null, "summary": null},
            "store": false, "temperature": 0.5, "text": {"format": {"type": "text"}},
            "tool_choice": "auto", "tools": [], "top_p": null, "truncation": "disabled",
            "output": [{
                "type": "message", "role": "assistant", "status": "completed",
                "content": [
                    {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []},
                ],
            }],
            "usage": {
                "input_tokens": 33,
                "input_tokens_details": {"cached_tokens": 7, "cache_write_tokens": 0},
                "output_tokens": 838,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 871,
            },
        })
    );
}

/// Calls: the flat name, the arguments, and the item that the client gets, but for its ids.
#[tokio::test]
async fn a_call_is_an_item_of_the_kind_of_its_tool() {
    let id = "call_0123456789abcdef";
    let exec = |rest: Value| {
        let mut action = json!({"type": "exec", "env": {}, "command": []});
        for (key, value) in rest.as_object().expect("an object") {
            action[key] = value.clone();
        }
        json!({"type": "local_shell_call", "action": action})
    };
    for (flat, json, item) in [
        (
            "read",
            "{\"a\":\n1}",
            json!({"type": "function_call", "name": "read", "arguments": "{\"a\":\n1}"}),
        ),
        (
            "mcp__files__read",
            "{}",
            json!({"type": "function_call", "name": "read", "namespace": "mcp__files",
                   "arguments": "{}"}),
        ),
        (
            "unknown__tool",
            "{}",
            json!({"type": "function_call", "name": "unknown__tool", "arguments": "{}"}),
        ),
        (
            "apply_patch",
            r#"{"input":"*** Begin Patch\n\u00e9\ud83c\udf0c\"\\"}"#,
            json!({"type": "custom_tool_call", "name": "apply_patch",
                   "input": "*** Begin Patch\né\u{1F30C}\"\\"}),
        ),
        (
            "apply_patch",
            r#"{"patch":"p"}"#,
            json!({"type": "custom_tool_call", "name": "apply_patch", "input": "p"}),
        ),
        (
            "local_shell",
            "{\"command\":[\"ls\",\n\"-l\"],\"workdir\":\"/tmp\",\"timeout_ms\":1000}",
            exec(json!({"command": ["ls", "-l"], "working_directory": "/tmp", "timeout_ms": 1000})),
        ),
        (
            "local_shell",
            r#"{"command":"ls | wc","timeout_ms":"soon","x":1}"#,
            exec(json!({"command": ["bash", "-lc", "ls | wc"]})),
        ),
        ("local_shell", "{}", exec(json!({}))),
        (
            "tool_search",
            "{\"query\":\n\"x\"}",
            json!({"type": "tool_search_call", "execution": "client", "arguments": {"query": "x"}}),
        ),
    ] {
        let items = || {
            let pieces =
                json.char_indices().map(|(at, c)| arguments(0, &json[at..at + c.len_utf8()]));
            [call(0, id, flat)].into_iter().chain(pieces.collect::<Vec<_>>())
        };
        let request = ask(json!({"stream": true, "tools": tools()}));
        let read = read(request, items().chain([finished(FinishReason::ToolCalls)])).await;
        assert_eq!(read.last["status"], "completed");
        let whole = answered(ask(json!({"tools": tools()})), stream::iter(items().chain([STOP])));
        let whole = json_of(whole.await).await;
        for output in [&read.last["output"], &whole["output"]] {
            let [found] = &output.as_array().expect("a list")[..] else { panic!("{output}") };
            let mut found = found.clone();
            assert_eq!(found["call_id"], id);
            assert_eq!(found["status"], "completed");
            let fields = found.as_object_mut().expect("an object");
            for field in ["id", "call_id", "status"] {
                fields.remove(field);
            }
            assert_eq!(found, item, "{flat} {json}");
        }
    }
}

/// A client takes two calls with one id for one, and upstreams count theirs anew in each answer.
#[tokio::test]
async fn short_ids_are_unlike_those_of_other_answers() {
    let mut ids = HashSet::new();
    for _ in 0..2 {
        let read = read(
            streamed(),
            [call(0, "0", "f"), arguments(0, "{}"), call(1, "1", "f"), arguments(1, "{}"), STOP],
        )
        .await;
        for item in &read.items {
            assert!(ids.insert(item["call_id"].as_str().expect("an id").to_owned()));
        }
    }
}

/// A call is complete as soon as its arguments are: Codex runs it then.
#[tokio::test]
async fn mixed_calls_are_written_one_after_the_other() {
    let (sender, receiver) = mpsc::unbounded_channel::<Item>();
    let items = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|item| (item, receiver))
    });
    let mut body = Box::pin(answered(streamed(), items).await.into_body());
    let mut next = async || {
        let frame = body.frame().await.expect("open").expect("infallible");
        String::from_utf8(frame.into_data().expect("data").to_vec()).expect("UTF-8")
    };
    for item in [call(0, "a", "f"), call(1, "b", "g"), arguments(1, "{\"b\":1}"), piece("Both.")] {
        sender.send(item).expect("open");
    }
    let mut all = next().await;
    assert!(all.contains(r#""name":"f""#) && !all.contains(r#""name":"g""#), "{all}");
    sender.send(arguments(0, "{}")).expect("open");
    let then = next().await;
    assert_eq!(then.matches("event: response.output_item.done").count(), 2, "{then}");
    all.push_str(&then);
    sender.send(STOP).expect("open");
    drop(sender);
    all.push_str(&next().await);
    let read = reader::read(&all).expect("a right stream");
    let kinds: Vec<_> = read.items.iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["function_call", "function_call", "message"]);
}

#[tokio::test]
async fn thinking_is_shown_and_sealed_as_it_is_asked_for() {
    for (reasoning, include, shown, sealed) in [
        (json!(null), json!(null), false, false),
        (json!({}), json!([]), false, false),
        (json!({"summary": "none"}), json!(null), false, false),
        (json!({"summary": "auto"}), json!(null), true, false),
        (json!({"generate_summary": "concise"}), json!(null), true, false),
        (json!({}), json!(["reasoning.encrypted_content"]), false, true),
        (json!({"summary": "detailed"}), json!(["x", "reasoning.encrypted_content"]), true, true),
    ] {
        let told = format!("{reasoning} {include}");
        let request = ask(json!({"stream": true, "reasoning": reasoning, "include": include}));
        let signature = Ok(ChatEvent::ReasoningSignature("sig".into()));
        let read = read(request, [thought("h"), thought("m\n"), signature, piece("x"), STOP]).await;
        assert_eq!(read.thinking(), if shown { "hm\n" } else { "" }, "{told}");
        assert_eq!(read.of("reasoning").count(), usize::from(shown || sealed), "{told}");
        let seal = read.of("reasoning").find_map(|item| item["encrypted_content"].as_str());
        assert_eq!(seal.is_some(), sealed, "{told}");
        // What was sealed comes back, whether or not it was shown.
        let mut input = vec![json!({"role": "user", "content": "x"})];
        input.extend(read.items.clone());
        let again = body(&json!({"input": input})).to_string();
        let decoded = decode(&again.into()).expect("valid");
        let message = &decoded.chat.history[1];
        assert_eq!(message.text(), "x");
        let expected = (shown || sealed).then_some("hm\n");
        assert_eq!(message.reasoning.as_deref(), expected, "{told}");
        assert_eq!(message.reasoning_signature.as_deref(), sealed.then_some("sig"), "{told}");
    }
}

#[tokio::test]
async fn sources_are_annotations_of_their_message() {
    let source = |url: &str, range| {
        let mut citation = Citation::new(url);
        citation.title = Some("T\n".into());
        citation.range = range;
        Ok(ChatEvent::Citation(citation.into()))
    };
    let read = read(
        streamed(),
        [
            source("https://example.org/early", None),
            piece("ab"),
            call(0, "a", "f"),
            source("https://example.org/late", None),
            arguments(0, "{}"),
            piece("cdé"),
            source("https://example.org/1", Some(3..5)),
            source("https://example.org/2", None),
            source("https://example.org/3", Some(0..99)),
            STOP,
        ],
    )
    .await;
    let [_, _, message] = &read.items[..] else { panic!("{:?}", read.items) };
    let sources: Vec<_> = message["content"][0]["annotations"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|found| {
            json!([found["url"], found["title"], found["start_index"], found["end_index"]])
        })
        .collect();
    assert_eq!(
        sources,
        [
            json!(["https://example.org/1", "T\n", 1, 3]),
            json!(["https://example.org/2", "T\n", 3, 3]),
            json!(["https://example.org/3", "T\n", 0, 3]),
        ]
    );
}

fn codex(more: Value, headers: &[(&'static str, &'static str)]) -> Request<FullBody> {
    let mut request = ask(more);
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    request
}

/// Codex shows nothing of an answer that is incomplete.
#[tokio::test]
async fn an_answer_that_is_cut_is_told_to_codex_as_complete() {
    let streams = json!({"stream": true});
    let metadata = json!({"stream": true, "client_metadata": {"a": "b"}});
    for (more, headers, is_codex) in [
        (streams.clone(), &[][..], false),
        (streams.clone(), &[("user-agent", "OpenAI/Python 3.52.0")], false),
        (streams.clone(), &[("user-agent", "codex_exec/0.171.0 (x)")], true),
        (streams, &[("originator", "Codex Desktop")], true),
        (metadata, &[], true),
    ] {
        let cases = [
            (vec![piece("ab")], true),
            (vec![call(0, "a", "f"), arguments(0, "{}"), piece("ab")], true),
            (vec![], false),
            (vec![thought("hm")], false),
            (vec![call(0, "a", "f"), arguments(0, "{\"a\"")], false),
            (vec![call(0, "a", "f")], false),
        ];
        for (mut items, has_something) in cases {
            items.push(finished(FinishReason::Length));
            let told = format!("{headers:?} {items:?}");
            let read = read(codex(more.clone(), headers), items).await;
            let is_complete = is_codex && has_something;
            let status = if is_complete { "completed" } else { "incomplete" };
            assert_eq!(read.last["status"], status, "{told}");
            let reason = &read.last["incomplete_details"]["reason"];
            assert_eq!(reason == "max_output_tokens", !is_complete, "{told}");
        }
        let items = [piece("ab"), finished(FinishReason::ContentFilter)];
        let read = read(codex(more, headers), items).await;
        assert_eq!(read.last["incomplete_details"], json!({"reason": "content_filter"}));
    }
}

/// The last call of an answer that the limit has ended may be cut, though a layer below has closed
/// its arguments: Codex would run it, and others are told.
#[tokio::test]
async fn a_call_that_was_closed_is_not_given_to_codex() {
    for is_codex in [false, true] {
        let mut more = json!({"stream": true});
        if is_codex {
            more["client_metadata"] = json!({});
        }
        let items = [
            call(0, "a", "f"),
            arguments(0, "{\"cmd\":\"ls\"}"),
            call(1, "b", "f"),
            arguments(1, "{\"cmd\":\"rm -r /tmp\"}"),
            finished(FinishReason::Length),
        ];
        let text = text(answered(ask(more), stream::iter(items)).await).await;
        let done = text.matches("event: response.output_item.done").count();
        assert_eq!(done, 1 + usize::from(!is_codex), "{text}");
        if !is_codex {
            let read = reader::read(&text).expect("a right stream");
            let status: Vec<_> = read.items.iter().map(|item| &item["status"]).collect();
            assert_eq!(status, ["completed", "incomplete"]);
            assert_eq!(read.last["status"], "incomplete");
        }
    }
}

/// Codex runs what it is given, whatever its status: a patch that is cut would be applied.
#[tokio::test]
async fn a_text_that_is_cut_is_not_given_to_codex() {
    for is_codex in [false, true] {
        let mut more = json!({"stream": true, "tools": tools()});
        if is_codex {
            more["client_metadata"] = json!({});
        }
        for (name, is_given) in
            [("apply_patch", !is_codex), ("local_shell", !is_codex), ("read", true)]
        {
            let items = [
                piece("I patch."),
                call(0, "a", name),
                arguments(0, "{\"input\":\"*** Begin"),
                finished(FinishReason::Length),
            ];
            let response = answered(ask(more.clone()), stream::iter(items)).await;
            let text = text(response).await;
            let done = text.matches("event: response.output_item.done").count();
            assert_eq!(done, 1 + usize::from(is_given), "{name} {is_codex}");
            if is_given {
                let read = reader::read(&text).expect("a right stream");
                assert_eq!(read.items[1]["status"], "incomplete", "{name}");
            }
        }
    }
}

#[tokio::test]
async fn errors_have_the_codes_that_codex_acts_on() {
    for (kind, code, status) in [
        (ErrorKind::InvalidRequest, "invalid_prompt", 400),
        (ErrorKind::ContentFilter, "invalid_prompt", 400),
        (ErrorKind::ContextLength, "context_length_exceeded", 400),
        (ErrorKind::Auth, "invalid_api_key", 401),
        (ErrorKind::Permission, "invalid_prompt", 403),
        (ErrorKind::ModelNotFound, "model_not_found", 404),
        (ErrorKind::TooLarge, "request_too_large", 413),
        (ErrorKind::RateLimited, "rate_limit_exceeded", 429),
        (ErrorKind::Quota, "insufficient_quota", 429),
        (ErrorKind::Internal, "server_error", 500),
        (ErrorKind::Upstream, "server_error", 502),
        (ErrorKind::Truncated, "server_error", 502),
        (ErrorKind::Challenge, "server_is_overloaded", 503),
        (ErrorKind::Overloaded, "server_is_overloaded", 503),
        (ErrorKind::Timeout, "server_error", 504),
    ] {
        let error = move || Error::new(kind, "what went wrong");
        let items = [piece("as far as"), Err(error())];
        let read = read(streamed(), items).await;
        let failure = json!({"code": code, "message": "what went wrong"});
        assert_eq!((&read.last["error"], &read.last["status"]), (&failure, &json!("failed")));
        assert!(read.items.is_empty() && read.cut.is_some());

        // Before anything was sent it is an HTTP error, in the form of the chat API.
        let inner = service_fn(move |_: Request<ChatRequest>| async move {
            Err::<Response<Events>, _>(error())
        });
        let response = ResponsesLayer::new().layer(inner).oneshot(streamed()).await;
        let response = response.expect("infallible");
        assert_eq!(response.status().as_u16(), status, "{kind:?}");
        let told = json_of(response).await;
        let own = error_response(&error()).into_body().collect().await.expect("infallible");
        assert_eq!(told, serde_json::from_slice::<Value>(&own.to_bytes()).expect("JSON"));
        assert_eq!(told["error"]["message"], "what went wrong");
    }
}

#[tokio::test]
async fn how_long_to_wait_is_in_the_words() {
    let wait = Duration::from_millis(11_200);
    for (message, told) in [
        ("slow down", "slow down; try again in 12s"),
        ("Please try again in 3s.", "Please try again in 3s."),
    ] {
        let error = Error::new(ErrorKind::RateLimited, message).with_retry_after(wait);
        let read = read(streamed(), [piece("x"), Err(error)]).await;
        assert_eq!(read.last["error"]["message"], told);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_has_failed() {
    for items in [vec![], vec![piece("x")], vec![call(0, "a", "f"), arguments(0, "{")]] {
        let read = read(streamed(), items).await;
        assert_eq!(read.last["status"], "failed");
        assert_eq!(read.last["error"]["code"], "server_error");
    }
}

#[tokio::test(start_paused = true)]
async fn quiet_streams_begin_and_are_kept_alive() {
    let start = tokio::time::Instant::now();
    let inner = service_fn(|_: Request<ChatRequest>| async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        let quiet = stream::once(async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            STOP
        });
        Ok::<_, Error>(Response::new(stream::iter([piece("x")]).chain(quiet).boxed()))
    });
    let response = ResponsesLayer::new().layer(inner).oneshot(streamed()).await;
    assert_eq!(start.elapsed().as_secs(), 15);
    let text = text(response.expect("infallible")).await;
    assert_eq!(start.elapsed().as_secs(), 60);
    let read = reader::read(&text).expect("a right stream");
    // At 15 with `response.created`, at 30, and at 55.
    assert_eq!(read.signs_of_life, 3);
    // A comment does not hold the timer of Codex.
    assert!(!text.lines().any(|line| line.starts_with(':')));
    assert_eq!(read.text(), "x");
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

/// The tools whose names the answers of [`events`] use, one of them in a namespace and one custom.
fn used_tools() -> Value {
    json!([
        {"type": "function", "name": "read"},
        {"type": "function", "name": "list"},
        {"type": "namespace", "name": "mcp__server", "tools": [
            {"type": "function", "name": "tool"},
        ]},
        {"type": "custom", "name": "x"},
    ])
}

/// The names and the arguments of the calls, as the layers below know them.
fn calls(items: &[Value]) -> Vec<(String, String)> {
    let string = |value: &Value| value.as_str().expect("a string").to_owned();
    let calls = items.iter().filter(|item| item.get("call_id").is_some());
    calls
        .map(|item| match item["type"].as_str() {
            Some("function_call") => match item.get("namespace") {
                Some(namespace) => {
                    let name = format!("{}__{}", string(namespace), string(&item["name"]));
                    (name, string(&item["arguments"]))
                }
                None => (string(&item["name"]), string(&item["arguments"])),
            },
            _ => (string(&item["name"]), string(&item["input"])),
        })
        .collect()
}

/// What kind of item came when.
fn order(items: &[Value]) -> Vec<Kind> {
    items
        .iter()
        .map(|item| match item["type"].as_str() {
            Some("message") => Kind::Text,
            Some("reasoning") => Kind::Thinking,
            _ => Kind::Call,
        })
        .collect()
}

/// Whether the calls that were written are those that were made.
fn same_calls(items: &[Value], said: &Said) -> Result<(), TestCaseError> {
    let written = calls(items);
    prop_assert_eq!(written.len(), said.calls.len());
    for (at, (written, own)) in written.iter().zip(&said.calls).enumerate() {
        prop_assert_eq!(&written.0, &own.0);
        let is_cut = said.is_cut && at + 1 == said.calls.len();
        if own.0 == "x" {
            // None of these has an `input`, so the text is the one string, or all of it.
            let value = serde_json::from_str::<Value>(&own.1).ok();
            let fields = value.as_ref().and_then(Value::as_object);
            let strings = fields.map(|fields| fields.values().filter_map(Value::as_str));
            let strings: Vec<_> = strings.into_iter().flatten().collect();
            let expected = match &strings[..] {
                _ if is_cut => "",
                [only] => only,
                _ => own.1.trim(),
            };
            prop_assert_eq!(written.1.trim(), expected.trim());
        } else {
            prop_assert_eq!(written.1.trim(), own.1.trim());
        }
    }
    Ok(())
}

proptest! {
    /// Whatever an upstream says: a strict reader takes the stream, and reads what was said.
    #[test]
    fn any_answer_makes_a_right_stream(
        program in prop::collection::vec(any::<u8>(), 0..120),
        pauses in prop::collection::vec(any::<bool>(), 0..80),
    ) {
        let more = |stream: bool| json!({"stream": stream, "tools": used_tools(),
            "reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]});
        let (items, said) = events::answer(&program);
        let (frames, text) = block_on(async {
            let events = paused(items, pauses);
            let mut body = Box::pin(answered(ask(more(true)), events).await.into_body());
            let (mut frames, mut all) = (Vec::new(), String::new());
            while let Some(frame) = body.frame().await {
                let frame = frame.expect("infallible").into_data().expect("data");
                all.push_str(core::str::from_utf8(&frame).expect("UTF-8"));
                frames.push(frame);
            }
            (frames, all)
        });
        let read = reader::read(&text).map_err(TestCaseError::fail)?;
        let events = read_typed(&text).map_err(TestCaseError::fail)?;
        let is_last = matches!(
            events.last(),
            Some(
                typed::ResponseStreamEvent::ResponseCompleted(_)
                    | typed::ResponseStreamEvent::ResponseIncomplete(_)
                    | typed::ResponseStreamEvent::ResponseFailed(_)
            )
        );
        prop_assert!(is_last, "{:?}", events.last());
        for frame in frames {
            prop_assert!(frame.starts_with(b"event: ") && frame.ends_with(b"\n\n"), "{:?}", frame);
        }
        match said.end.expect("an end") {
            Err(_) => {
                prop_assert_eq!(&read.last["status"], "failed");
                prop_assert!(said.text.starts_with(&read.text()));
                prop_assert!(said.thinking.starts_with(&read.thinking()));
                return Ok(());
            }
            Ok(reason) => {
                let status = match reason {
                    FinishReason::ContentFilter | FinishReason::Length => "incomplete",
                    _ => "completed",
                };
                prop_assert_eq!(&read.last["status"], status);
            }
        }
        prop_assert_eq!(read.text(), said.text.clone());
        prop_assert_eq!(read.thinking(), said.thinking.clone());
        prop_assert_eq!(order(&read.items), said.order.clone());
        same_calls(&read.items, &said)?;

        // In one piece it says the same.
        let (items, _) = events::answer(&program);
        let whole = block_on(async { json_of(answered(ask(more(false)), stream::iter(items)).await).await });
        let typed = serde_json::from_value::<typed::Response>(whole.clone());
        let typed = typed.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(typed.output.len(), whole["output"].as_array().map_or(0, Vec::len));
        for field in ["status", "usage", "incomplete_details", "model", "metadata"] {
            prop_assert_eq!(&whole[field], &read.last[field]);
        }
        let output = whole["output"].as_array().expect("a list");
        same_calls(output, &said)?;
        let joined = |items: &[Value], kind: &str, field: &str| -> String {
            let items = items.iter().filter(|item| item["type"] == kind);
            items.filter_map(|item| item[field][0]["text"].as_str()).collect()
        };
        prop_assert_eq!(joined(output, "message", "content"), said.text.clone());
        prop_assert_eq!(joined(output, "reasoning", "summary"), said.thinking.clone());
    }

    /// An answer that comes back makes a history that begins as the one before did, with what was
    /// said behind it.
    #[test]
    fn an_answer_that_comes_back_is_what_was_said(
        // An answer that ends well.
        end in 0_u8..6,
        program in prop::collection::vec(any::<u8>(), 4..80),
    ) {
        let (items, said) = events::answer(&[&[end], &program[..]].concat());
        // A custom tool has one way to write its arguments, and these are others.
        let mut tools = used_tools();
        tools.as_array_mut().expect("a list").pop();
        let tenant = Tenant::from_digest([7; 32]);
        let more = json!({"stream": true, "tools": tools, "instructions": "Be brief.",
            "include": ["reasoning.encrypted_content"]});
        let first = decode(&body(&more).to_string().into()).expect("valid").chat;
        let mut chain = KeyChain::new(&tenant, &first);
        first.history.iter().for_each(|message| chain.push(message));
        let mut answer = chain.answer();
        items.iter().flatten().for_each(|event| answer.push(event));
        let known = answer.finish();

        let read = block_on(read(ask(more.clone()), items));
        prop_assume!(!read.items.is_empty());
        let mut input = vec![json!({"role": "user", "content": [{"type": "input_text", "text": "x"}]})];
        input.extend(read.items.clone());
        let results = read.of("function_call").map(|item| {
            json!({"type": "function_call_output", "call_id": item["call_id"], "output": "r"})
        });
        input.extend(results.collect::<Vec<_>>());
        input.push(json!({"role": "user", "content": "And then?"}));
        let mut next = body(&more);
        next["input"] = json!(input);
        let next = decode(&next.to_string().into()).expect("valid").chat;
        let mut chain = KeyChain::new(&tenant, &next);
        let before = first.history.len();
        for (at, message) in next.history.iter().enumerate() {
            if at < before {
                prop_assert_eq!(message, &first.history[at]);
            }
            if at > before {
                break;
            }
            chain.push(message);
        }
        let message = &next.history[before];
        prop_assert_eq!(message.role, Role::Assistant);
        prop_assert_eq!(message.text(), said.text.as_str());
        let calls = message.tool_calls.iter();
        let calls: Vec<_> = calls.map(|call| (call.name.as_str(), call.arguments.trim())).collect();
        let own = said.calls.iter().map(|(name, json)| (name.as_str(), json.trim()));
        prop_assert_eq!(calls, own.collect::<Vec<_>>());
        // Of calls that were mixed the session knows nothing.
        if let Some(known) = known {
            prop_assert_eq!(chain.key(), known);
        }
        let last = next.history.iter().last().expect("a message");
        prop_assert_eq!(last.text(), "And then?");
    }
}

/// The edge with answers that are remembered, over a service that fails with `kind`, or says `ok`.
async fn remembering(
    request: Request<FullBody>,
    kind: Option<ErrorKind>,
) -> (Response<impl Body<Data = Bytes, Error = Infallible>>, ChatRequest) {
    let asked = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&asked);
    let inner = service_fn(move |request: Request<ChatRequest>| {
        *seen.lock().expect("not poisoned") = Some(request.into_body());
        std::future::ready(match kind {
            Some(kind) => Err(Error::new(kind, "below")),
            None => Ok(Response::new(stream::iter([
                Ok(ChatEvent::Text("ok".into())),
                Ok(ChatEvent::Finished(FinishReason::Stop)),
            ]))),
        })
    });
    let edge = ResponsesLayer::new().store(true).layer(inner);
    let response = edge.oneshot(request).await.expect("infallible");
    let asked = asked.lock().expect("not poisoned").take().expect("called");
    (response, asked)
}

#[tokio::test]
async fn an_answer_is_asked_for_under_the_id_that_the_client_gets() {
    for stream in [false, true] {
        for (store, is_stored) in [(json!(null), true), (json!(true), true), (json!(false), false)]
        {
            let request = ask(json!({
                "stream": stream, "store": store, "previous_response_id": "resp_\"before",
            }));
            let (response, chat) = remembering(request, None).await;
            let answer = match stream {
                false => json_of(response).await,
                true => {
                    let text = text(response).await;
                    read_typed(&text).unwrap_or_else(|fault| panic!("{fault}"));
                    reader::read(&text).unwrap_or_else(|fault| panic!("{fault}")).last
                }
            };
            assert_eq!(answer["store"], json!(is_stored));
            assert_eq!(answer["previous_response_id"], "resp_\"before");
            assert_eq!(chat.answer_id.as_deref(), answer["id"].as_str().filter(|_| is_stored));
            assert_eq!(chat.destination, Destination::Answer { id: "resp_\"before".into() });
        }
    }
    // Where nothing is remembered, nobody is told that it is.
    let answer = answered(ask(json!({"store": true})), stream::iter(said_ok())).await;
    assert_eq!(json_of(answer).await["store"], json!(false));
}

fn said_ok() -> [Item; 2] {
    [Ok(ChatEvent::Text("ok".into())), Ok(ChatEvent::Finished(FinishReason::Stop))]
}

/// Clients send their whole history on these words, so they hear them whatever was lost.
#[tokio::test(start_paused = true)]
async fn what_an_id_leads_to_is_found_or_is_not() {
    let goes_on = |stream: bool| ask(json!({"stream": stream, "previous_response_id": "resp_1"}));
    for stream in [false, true] {
        let (response, _) = remembering(goes_on(stream), Some(ErrorKind::ConversationLost)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            json_of(response).await,
            json!({"error": {
                "message": "Previous response with id 'resp_1' not found.",
                "type": "invalid_request_error", "param": "previous_response_id",
                "code": "previous_response_not_found",
            }})
        );
        // Other errors are themselves, and so is this one of a client that sent its history.
        let (response, _) = remembering(goes_on(stream), Some(ErrorKind::Overloaded)).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let whole = ask(json!({"stream": stream}));
        let (response, _) = remembering(whole, Some(ErrorKind::ConversationLost)).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
    // After a sign of life it is told in the stream.
    let inner = service_fn(|_: Request<ChatRequest>| async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        Err::<Response<Events>, _>(Error::new(ErrorKind::ConversationLost, "below"))
    });
    let edge = ResponsesLayer::new().store(true).layer(inner);
    let response = edge.oneshot(goes_on(true)).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::OK);
    let read = reader::read(&text(response).await).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(
        read.last["error"],
        json!({"code": "invalid_prompt", "message": "Previous response with id 'resp_1' not found."})
    );
}

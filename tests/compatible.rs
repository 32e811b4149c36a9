//! Every deviation of OpenAI-compatible servers that the adapter repairs, by its row in
//! qwen-wire.md, and what their errors mean.

#![cfg(feature = "compatible")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    chat::{
        Answer, ChatRequest, Content, FinishReason, FunctionTool, Message, Part, PartKind,
        ReasoningEffort, Role, Tool, ToolCall, ToolChoice,
    },
    qwen::compatible::{CompatibleLayer, Server, ThinkTags},
};

/// What the upstream got: its path, headers and body.
type Seen = Arc<Mutex<Option<(String, HeaderMap, Value)>>>;

struct Upstream {
    status: u16,
    content_type: &'static str,
    pieces: Vec<Bytes>,
    seen: Seen,
}

impl Upstream {
    fn stream(text: &str) -> Self {
        Self {
            status: 200,
            content_type: "text/event-stream",
            pieces: vec![Bytes::from(text.to_owned())],
            seen: Seen::default(),
        }
    }

    fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            pieces: vec![Bytes::from(body.to_string())],
            seen: Seen::default(),
        }
    }

    async fn answer(self, layer: CompatibleLayer, request: ChatRequest) -> Result<Answer, Error> {
        let Self { status, content_type, pieces, seen } = self;
        let upstream = service_fn(move |request: Request<Full<Bytes>>| {
            let (pieces, seen) = (pieces.clone(), Arc::clone(&seen));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("infallible").to_bytes();
                let body = serde_json::from_slice(&body).expect("JSON");
                *seen.lock().expect("not poisoned") =
                    Some((head.uri.to_string(), head.headers, body));
                let frames =
                    pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
                let response = Response::builder()
                    .status(status)
                    .header("content-type", content_type)
                    .body(StreamBody::new(stream::iter(frames)));
                Ok::<_, Infallible>(response.expect("a response"))
            }
        });
        let service = ServiceBuilder::new().layer(layer).service(upstream);
        Answer::collect(service.oneshot(Request::new(request)).await?.into_body()).await
    }
}

fn request() -> ChatRequest {
    ChatRequest::new("m", vec![Message::new(Role::User, "x")])
}

async fn generic(text: &str) -> Result<Answer, Error> {
    Upstream::stream(text).answer(CompatibleLayer::new(Server::Generic), request()).await
}

fn events(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
}

fn delta(delta: Value) -> Value {
    json!({"id": "i", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(reason: &str) -> Value {
    json!({"id": "i", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

const DONE: &str = "data: [DONE]\n\n";

/// C1's own transcript: explicit nulls, any key order, usage in a chunk of its own.
#[tokio::test]
async fn c1_dashscope_stream() {
    let answer = generic(concat!(
        r#"data: {"choices":[{"delta":{"content":"","role":"assistant"},"index":0,"logprobs":null,"finish_reason":null}],"object":"chat.completion.chunk","usage":null,"created":1790000000,"system_fingerprint":null,"model":"qwen-plus","id":"chatcmpl-demo"}"#, "\n\n",
        r#"data: {"choices":[{"delta":{"content":null,"reasoning_content":"Hm"},"finish_reason":null,"index":0,"logprobs":null}],"usage":null,"model":"qwen-plus","id":"chatcmpl-demo"}"#, "\n\n",
        r#"data: {"choices":[{"delta":{"content":"Hi","reasoning_content":null},"finish_reason":null,"index":0,"logprobs":null}],"usage":null,"id":"chatcmpl-demo"}"#, "\n\n",
        r#"data: {"choices":[{"finish_reason":"stop","delta":{"content":""},"index":0,"logprobs":null}],"usage":null,"id":"chatcmpl-demo"}"#, "\n\n",
        r#"data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"completion_tokens_details":{"reasoning_tokens":6},"prompt_tokens_details":{"cached_tokens":0}},"id":"chatcmpl-demo"}"#, "\n\n",
        "data: [DONE]\n\n",
    ))
    .await
    .expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), ("Hm", "Hi"));
    assert_eq!(answer.finish_reason, Some(FinishReason::Stop));
    let usage = answer.usage.expect("sent");
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (9, 12, 21));
    assert_eq!((usage.cached_tokens, usage.reasoning_tokens), (Some(0), Some(6)));
}

/// C1: tool-call deltas after the first carry empty ids and names, or null arguments.
#[tokio::test]
async fn c1_empty_ids_and_names_after_the_first_delta() {
    let call = |call: Value| delta(json!({"tool_calls": [call]}));
    let text = events(&[
        call(
            json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": null}}),
        ),
        call(
            json!({"index": 0, "id": "", "type": "function", "function": {"name": "", "arguments": "{\"a\""}}),
        ),
        call(json!({"index": 0, "id": null, "function": {"name": null, "arguments": ":1}"}})),
        call(json!({"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{}"}})),
        call(json!({"index": 1, "id": "c2", "function": {"name": "g", "arguments": ""}})),
        json!({"choices": [{"finish_reason": "tool_calls", "delta": {}, "index": 0}]}),
    ]);
    let answer = generic(&(text + DONE)).await.expect("complete");
    assert_eq!(
        answer.tool_calls,
        [ToolCall::new("c1", "f", "{\"a\":1}"), ToolCall::new("c2", "g", "{}")]
    );
    assert_eq!(answer.finish_reason, Some(FinishReason::ToolCalls));
}

/// C2: whole calls in one delta, all with index 0, ids tell them apart; no ids at all; `stop`
/// behind calls; arguments as an object.
#[tokio::test]
async fn c2_calls_that_are_not_counted_or_named_properly() {
    let text = events(&[
        delta(json!({"tool_calls": [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
            {"index": 0, "id": "b", "function": {"name": "f", "arguments": {"x": [1]}}},
        ]})),
        finish("stop"),
    ]);
    let answer = generic(&text).await.expect("complete");
    assert_eq!(
        answer.tool_calls,
        [ToolCall::new("a", "f", "{}"), ToolCall::new("b", "f", "{\"x\":[1]}")]
    );
    assert_eq!(answer.finish_reason, Some(FinishReason::ToolCalls), "not `stop` behind calls");

    let text = events(&[
        delta(json!({"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]})),
        delta(json!({"tool_calls": [{"function": {"arguments": "}"}}]})),
        finish("tool_calls"),
    ]);
    let answer = generic(&text).await.expect("complete");
    assert!(answer.tool_calls[0].id.starts_with("call_"), "{:?}", answer.tool_calls);
    assert_eq!(answer.tool_calls[0].arguments, "{}");
}

/// Arguments that come before the name wait for it; a call that is never named is none.
#[tokio::test]
async fn c1_late_and_missing_names() {
    let text = events(&[
        delta(json!({"tool_calls": [{"index": 0, "id": "x", "function": {"arguments": "{}"}}]})),
        delta(
            json!({"tool_calls": [{"index": 1, "id": "c", "function": {"arguments": "{\"a\":"}}]}),
        ),
        delta(json!({"tool_calls": [{"index": 1, "function": {"name": "f", "arguments": "1}"}}]})),
        finish("tool_calls"),
    ]);
    let answer = generic(&text).await.expect("complete");
    assert_eq!(answer.tool_calls, [ToolCall::new("c", "f", "{\"a\":1}")]);

    let nameless = events(&[
        delta(json!({"tool_calls": [{"index": 0, "id": "x", "function": {"arguments": "{}"}}]})),
        finish("tool_calls"),
    ]);
    let answer = generic(&nameless).await.expect("complete");
    assert_eq!((answer.tool_calls.len(), answer.finish_reason), (0, Some(FinishReason::Stop)));
}

/// C2: `reasoning`, `reasoning_content`, or both with the same text.
#[tokio::test]
async fn c2_reasoning_under_either_name() {
    for names in [&["reasoning"][..], &["reasoning_content"], &["reasoning", "reasoning_content"]] {
        let thought: serde_json::Map<_, _> =
            names.iter().map(|name| ((*name).to_owned(), json!("hm"))).collect();
        let text = events(&[delta(Value::Object(thought)), delta(json!({"content": "Hi"}))]);
        let answer = generic(&(text + &events(&[finish("stop")]))).await.expect("complete");
        assert_eq!((&*answer.reasoning, &*answer.text), ("hm", "Hi"), "{names:?}");
    }
}

/// B9, C2: `<think>` in the content, its tags cut anywhere; off by option.
#[tokio::test]
async fn b9_think_tags() {
    let pieces = ["<th", "ink>", "a <", " b</thi", "nk>\n", "\nHi <think>"];
    let mut chunks: Vec<_> = pieces.iter().map(|piece| delta(json!({"content": piece}))).collect();
    chunks.push(finish("stop"));
    let text = events(&chunks);
    let answer = generic(&text).await.expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), ("a < b", "Hi <think>"));

    let layer = CompatibleLayer::new(Server::Vllm).think_tags(ThinkTags::Ignore);
    let answer = Upstream::stream(&text).answer(layer, request()).await.expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), ("", &*pieces.concat()));
}

/// C1, C2: `""` and `"null"` are no finish reasons; the role may come again.
#[tokio::test]
async fn c2_empty_finish_reasons_do_not_end_the_answer() {
    let chunk = |content: &str, reason: &str| json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": reason}]});
    let text =
        events(&[chunk("a", ""), chunk("b", "null"), chunk("c", "length"), chunk("d", "stop")]);
    let answer = generic(&text).await.expect("complete");
    assert_eq!((&*answer.text, answer.finish_reason), ("abc", Some(FinishReason::Length)));
}

/// C1, C2: one of finish reason and `[DONE]` is enough, none is a cut.
#[tokio::test]
async fn c2_ends() {
    let text = events(&[delta(json!({"content": "a"}))]);
    let answer = generic(&(text.clone() + DONE)).await.expect("[DONE] says that it is complete");
    assert_eq!(answer.finish_reason, Some(FinishReason::Stop));
    let answer = generic(&(text.clone() + &events(&[finish("stop")]))).await;
    assert!(answer.is_ok(), "a finish reason does");
    let without_newlines = text.clone() + "data: [DONE]";
    assert!(generic(&without_newlines).await.is_ok());

    // Ollama's silent end: one empty chunk with an empty model name, then nothing.
    let ollama = json!({"id": "", "model": "", "choices": [{"index": 0, "delta": {}, "finish_reason": null}]});
    for cut in [text.clone(), text + &events(&[ollama])] {
        assert_eq!(generic(&cut).await.expect_err("cut").kind(), ErrorKind::Truncated);
    }
    assert_eq!(generic("").await.expect_err("nothing").kind(), ErrorKind::Truncated);
}

/// C2: usage on every chunk (`continuous_usage_stats`), on the finish chunk, or after it.
#[tokio::test]
async fn c2_usage_wherever_it_stands() {
    let with = |mut chunk: Value, n: u64| {
        chunk["usage"] = json!({"prompt_tokens": 3, "completion_tokens": n, "total_tokens": 3 + n});
        chunk
    };
    let alone = json!({"choices": []});
    for text in [
        events(&[with(delta(json!({"content": "a"})), 1), with(finish("stop"), 2)]),
        events(&[delta(json!({"content": "a"})), finish("stop"), with(alone, 2)]) + DONE,
    ] {
        let usage = generic(&text).await.expect("complete").usage.expect("sent");
        assert_eq!(usage.total_tokens, 5);
    }
}

/// C1, C2: errors inside a stream, before and behind the first content; wrapped, flat, a string.
#[tokio::test]
async fn c2_errors_inside_the_stream() {
    let rate = json!({"message": "requests throttling triggered", "code": "Throttling.RateQuota"});
    for (fault, kind) in [
        (json!({"error": rate}), ErrorKind::RateLimited),
        (rate, ErrorKind::RateLimited),
        (json!({"error": {"message": "boom", "code": 500}}), ErrorKind::Upstream),
        (
            json!({"object": "error", "message": "too long: maximum context length is 8", "code": 400}),
            ErrorKind::ContextLength,
        ),
        (json!({"error": "boom"}), ErrorKind::Upstream),
    ] {
        for before in [&[][..], &[delta(json!({"content": "a"}))]] {
            let text = events(before) + &events(std::slice::from_ref(&fault)) + DONE;
            let error = generic(&text).await.expect_err(&fault.to_string());
            assert_eq!(error.kind(), kind, "{fault}");
        }
    }
}

/// B8, C1, C2: what statuses, codes and texts mean, per kind of server.
#[tokio::test]
async fn c1_errors_keep_their_meaning() {
    let wrapped = |message: &str, code: Value| json!({"error": {"message": message, "code": code}});
    #[rustfmt::skip]
    let cases = [
        (Server::DashScope, 401, wrapped("Incorrect API key provided", json!("invalid_api_key")), ErrorKind::Auth),
        (Server::DashScope, 400, json!({"code": "InvalidParameter", "message": "no", "request_id": "r"}), ErrorKind::InvalidRequest),
        (Server::DashScope, 400, wrapped("<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 5]", json!("x")), ErrorKind::ContextLength),
        (Server::DashScope, 400, wrapped("inappropriate", json!("data_inspection_failed")), ErrorKind::ContentFilter),
        (Server::DashScope, 400, wrapped("overdue", json!("Arrearage")), ErrorKind::Quota),
        (Server::DashScope, 403, wrapped("no access", json!("Model.AccessDenied")), ErrorKind::Permission),
        (Server::DashScope, 403, wrapped("free tier", json!("AllocationQuota.FreeTierOnly")), ErrorKind::Quota),
        (Server::DashScope, 404, wrapped("gone", json!("model_not_found")), ErrorKind::ModelNotFound),
        (Server::DashScope, 429, wrapped("Allocated quota exceeded", json!("insufficient_quota")), ErrorKind::RateLimited),
        (Server::DashScope, 429, wrapped("Free allocated quota exceeded.", json!("insufficient_quota")), ErrorKind::Quota),
        (Server::DashScope, 500, wrapped("late", json!("RequestTimeOut")), ErrorKind::Timeout),
        (Server::DashScope, 503, wrapped("busy", json!("ModelServingError")), ErrorKind::Overloaded),
        (Server::Portal, 403, wrapped("no", json!("insufficient_quota")), ErrorKind::Quota),
        (Server::Portal, 403, wrapped("access denied", json!(null)), ErrorKind::Auth),
        (Server::Portal, 400, wrapped("invalid access token or token expired", json!(null)), ErrorKind::Auth),
        (Server::Portal, 429, wrapped("You exceeded your current quota", json!(null)), ErrorKind::Quota),
        (Server::Portal, 504, wrapped("stream timeout", json!(null)), ErrorKind::Timeout),
        (Server::Vllm, 400, wrapped("maximum context length is 4096 tokens", json!(400)), ErrorKind::ContextLength),
        (Server::SgLang, 400, json!({"object": "error", "message": "bad", "type": "BadRequestError", "param": "n", "code": 400}), ErrorKind::InvalidRequest),
        (Server::LlamaCpp, 503, wrapped("Loading model", json!(503)), ErrorKind::Overloaded),
        (Server::LlamaCpp, 400, json!({"error": {"code": 400, "message": "long", "type": "exceed_context_size_error"}}), ErrorKind::ContextLength),
        (Server::Ollama, 404, json!({"error": {"message": "model 'x' not found", "type": "api_error", "param": null, "code": null}}), ErrorKind::ModelNotFound),
    ];
    for (server, status, body, kind) in cases {
        let upstream = Upstream::json(status, &body);
        let error = upstream.answer(CompatibleLayer::new(server), request()).await;
        let error = error.expect_err("an error");
        assert_eq!(error.kind(), kind, "{server:?} {status} {body}");
        assert!(error.code().is_none_or(|code| code.parse::<u16>().is_err()), "a numeric code");
    }
}

#[tokio::test]
async fn c1_tokens_per_minute_say_how_long_to_wait() {
    let body =
        json!({"error": {"message": "Allocated quota exceeded", "code": "insufficient_quota"}});
    let upstream = Upstream::json(429, &body);
    let error = upstream.answer(CompatibleLayer::new(Server::DashScope), request()).await;
    assert_eq!(error.expect_err("429").retry_after(), Some(Duration::from_secs(60)));
}

/// A gateway's page is not shown to the client.
#[tokio::test]
async fn an_error_page_is_not_passed_on() {
    let upstream = Upstream {
        status: 502,
        content_type: "text/html",
        pieces: vec![Bytes::from_static(b"<html><body>Bad Gateway</body></html>")],
        seen: Seen::default(),
    };
    let error = upstream.answer(CompatibleLayer::new(Server::Vllm), request()).await;
    assert_eq!(error.expect_err("502").message(), "the upstream answered with status 502");
}

/// A server that ignores `stream`.
#[tokio::test]
async fn c1_a_whole_answer_is_read_as_one() {
    let body = json!({"id": "i", "choices": [{"index": 0, "finish_reason": null,
        "message": {"role": "assistant", "content": "<think>hm</think>Hi", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}});
    let upstream = Upstream::json(200, &body);
    let answer = upstream.answer(CompatibleLayer::new(Server::Generic), request()).await;
    let answer = answer.expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), ("hm", "Hi"));
    assert_eq!(answer.tool_calls, [ToolCall::new("c", "f", "{}")]);
    assert_eq!(answer.usage.expect("sent").total_tokens, 3);
}

async fn sent(server: Server, request: ChatRequest) -> (String, HeaderMap, Value) {
    let upstream = Upstream::stream(&(events(&[finish("stop")]) + DONE));
    let seen = Arc::clone(&upstream.seen);
    upstream.answer(CompatibleLayer::new(server), request).await.expect("complete");
    let seen = seen.lock().expect("not poisoned").take();
    seen.expect("called")
}

fn full_request() -> ChatRequest {
    let mut request = request();
    let mut call = Message::empty(Role::Assistant);
    call.tool_calls = vec![ToolCall::new("c", "f", "{\"a\":1}")];
    let mut result = Message::new(Role::Tool, "42");
    result.tool_call_id = Some("c".into());
    let mut image = Message::empty(Role::User);
    image.content = Some(Content::Parts(vec![
        Part::new(PartKind::Text("see".into())),
        Part::new(PartKind::Image { url: "https://example.org/i.png".into(), detail: None }),
    ]));
    request.messages = Arc::new(vec![Message::new(Role::Developer, "d"), call, result, image]);
    let schema = json!({"type": "object", "additionalProperties": false,
        "properties": {"additionalProperties": {"type": "string"}}});
    request.tools = Arc::new(vec![Tool::Function(FunctionTool::new("f", schema))]);
    request.tool_choice = Some(ToolChoice::Function("f".into()));
    request.sampling.temperature = Some(0.7);
    request.sampling.stop = vec!["END".into()];
    request.sampling.max_tokens = Some(100_000);
    let extra =
        json!({"enable_search": true, "logit_bias": {"5": 1}, "chat_template_kwargs": {"x": 1}});
    request.extra = Arc::new(extra.as_object().expect("an object").clone());
    request
}

#[tokio::test]
async fn a_request_goes_out_as_the_client_meant_it() {
    let (path, headers, body) = sent(Server::Generic, full_request()).await;
    assert_eq!(path, "/chat/completions");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(
        body,
        json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "d"},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
                {"role": "tool", "content": "42", "tool_call_id": "c"},
                {"role": "user", "content": [{"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "https://example.org/i.png"}}]},
            ],
            "stream": true,
            "stream_options": {"include_usage": true},
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {
                "type": "object", "additionalProperties": false,
                "properties": {"additionalProperties": {"type": "string"}}}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "max_tokens": 100_000,
            "temperature": 0.7,
            "stop": ["END"],
            "chat_template_kwargs": {"x": 1},
            "enable_search": true,
            "logit_bias": {"5": 1},
        })
    );
}

/// B7: the portal's quirks.
#[tokio::test]
async fn b7_the_portal_is_stricter() {
    let mut request = full_request();
    request.model = "qwen3.6-plus".into();
    let (_, headers, body) = sent(Server::Portal, request).await;
    assert_eq!(headers["x-dashscope-authtype"], "qwen-oauth");
    assert_eq!(body["model"], "coder-model");
    assert_eq!(body["max_tokens"], 65_536);
    assert_eq!(
        body["messages"][0]["content"],
        json!([{"type": "text", "text": "d", "cache_control": {"type": "ephemeral"}}])
    );
    let parameters = &body["tools"][0]["function"]["parameters"];
    assert!(parameters.get("additionalProperties").is_none());
    assert!(parameters["properties"].get("additionalProperties").is_some(), "a property's name");

    let mut plain =
        ChatRequest::new("m", vec![Message::new(Role::User, "a"), Message::new(Role::User, "b")]);
    plain.tools = Arc::default();
    let (_, _, body) = sent(Server::Portal, plain).await;
    let roles: Vec<_> =
        body["messages"].as_array().expect("messages").iter().map(|m| &m["role"]).collect();
    assert_eq!(roles, ["system", "user"], "a system message, and neighbours of one role merged");
    assert_eq!(body["messages"][1]["content"], "a\n\nb");
    assert!(body.get("tools").is_none());
}

/// B7, C1, C2: how each kind is told to think or not.
#[tokio::test]
async fn c2_thinking_per_server() {
    let asked = |effort: Option<ReasoningEffort>, enabled: Option<bool>, budget: Option<u64>| {
        let mut request = request();
        request.reasoning.effort = effort;
        request.reasoning.enabled = enabled;
        request.reasoning.budget = budget;
        request
    };
    let low = || asked(Some(ReasoningEffort::Low), None, None);
    let off = || asked(None, Some(false), None);
    for (server, request, expected) in [
        (Server::DashScope, low(), json!({"enable_thinking": true, "thinking_budget": 1024})),
        (Server::DashScope, off(), json!({"enable_thinking": false})),
        (
            Server::DashScope,
            asked(None, None, Some(9)),
            json!({"enable_thinking": true, "thinking_budget": 9}),
        ),
        (Server::Vllm, off(), json!({"chat_template_kwargs": {"enable_thinking": false}})),
        (
            Server::SgLang,
            asked(None, Some(true), None),
            json!({"chat_template_kwargs": {"enable_thinking": true}}),
        ),
        (Server::Ollama, off(), json!({"reasoning_effort": "none"})),
        (Server::Ollama, low(), json!({"reasoning_effort": "low"})),
        (Server::Generic, low(), json!({"reasoning_effort": "low"})),
        (Server::Generic, asked(None, None, None), json!({})),
    ] {
        let (_, _, mut body) = sent(server, request).await;
        let body = body.as_object_mut().expect("an object");
        for key in ["model", "messages", "stream", "stream_options"] {
            body.remove(key);
        }
        assert_eq!(Value::Object(body.clone()), expected, "{server:?}");
    }
}

#[tokio::test]
async fn only_credentials_travel_with_a_request() {
    let (names, noted) = (Arc::new(Mutex::new(Vec::new())), events(&[finish("stop")]));
    let service = {
        let names = Arc::clone(&names);
        service_fn(move |request: Request<Full<Bytes>>| {
            *names.lock().expect("not poisoned") =
                request.headers().keys().map(ToString::to_string).collect();
            let body = Full::new(Bytes::from(noted.clone()));
            let response =
                Response::builder().header("content-type", "text/event-stream").body(body);
            std::future::ready(Ok::<_, Infallible>(response.expect("a response")))
        })
    };
    let mut chat = Request::new(request());
    for name in ["authorization", "cookie", "x-client", "x-request-id"] {
        chat.headers_mut().insert(name, "demo".parse().expect("a value"));
    }
    let service = ServiceBuilder::new().layer(CompatibleLayer::default()).service(service);
    drop(service.oneshot(chat).await.expect("committed"));
    let mut names = names.lock().expect("not poisoned").clone();
    names.sort_unstable();
    assert_eq!(names, ["accept", "authorization", "content-type", "cookie", "x-request-id"]);
}

fn any_data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..30),
        prop::sample::select(vec![
            "data: {\"choices\":[{\"delta\":{\"content\":\"x<think>\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":9,\"function\":{\"name\":\"f\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"arguments\":[]}}]}}]}\n\n",
            "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n", "data: {}\n\n", "data: [DONE]\n\n",
            "data: {\"error\":null}\n\n", "data: {\"code\":1e99}\n\n", "data: ", "\n\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

proptest! {
    #[test]
    fn any_upstream_bytes_are_an_answer_or_an_error_however_they_are_cut(
        pieces in prop::collection::vec(any_data(), 0..10),
        status in prop::sample::select(vec![200_u16, 401, 500]),
        content_type in prop::sample::select(vec!["text/event-stream", "application/json", "text/html"]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let whole: Bytes = pieces.concat().into();
        let run = |pieces: Vec<Bytes>| {
            let upstream = Upstream { status, content_type, pieces, seen: Seen::default() };
            runtime.block_on(upstream.answer(CompatibleLayer::new(Server::Generic), request()))
        };
        let at_once = run(vec![whole.clone()]);
        let by_byte = run((0..whole.len()).map(|at| whole.slice(at..=at)).collect());
        match (at_once, by_byte) {
            (Ok(mut a), Ok(mut b)) => {
                // Ids that the adapter made up differ.
                for call in a.tool_calls.iter_mut().chain(&mut b.tool_calls) {
                    if call.id.starts_with("call_") {
                        call.id = "call".into();
                    }
                }
                prop_assert_eq!(a, b);
            }
            (Err(a), Err(b)) => prop_assert_eq!(a.kind(), b.kind()),
            (a, b) => prop_assert!(false, "{a:?} and {b:?}"),
        }
    }
}

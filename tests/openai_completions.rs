//! The edge for legacy clients: what goes in, the exact chunks, the whole answer,
//! and errors before and after the commit point.

mod traced;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, FullBody,
    chat::{ChatEvent, ChatRequest, Citation, Conversation, FinishReason, Role, Tenant, Usage},
    openai::completions::CompletionsLayer,
};

type Events = stream::BoxStream<'static, Result<ChatEvent, Error>>;

fn ask(more: Value) -> Request<FullBody> {
    let mut body = json!({"model": "alias", "prompt": "Say \"hi\"\n"});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    Request::post("/v1/completions")
        .header("content-type", "application/json")
        .header("authorization", "Bearer the-clients-own")
        .body(FullBody::new(Bytes::from(body.to_string())))
        .expect("a request")
}

async fn answered(
    request: Request<FullBody>,
    events: impl Stream<Item = Result<ChatEvent, Error>> + Send + 'static,
) -> (Response<impl Body<Data = Bytes, Error = Infallible>>, Option<Request<ChatRequest>>) {
    traced::on();
    let events = Arc::new(Mutex::new(Some(events.boxed())));
    let seen = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&seen);
    let inner = service_fn(move |request: Request<ChatRequest>| {
        let events = events.lock().expect("not poisoned").take().expect("called once");
        *noted.lock().expect("not poisoned") = Some(request);
        async { Ok::<_, Error>(Response::new(events)) }
    });
    let response = CompletionsLayer::new().layer(inner).oneshot(request).await.expect("infallible");
    let seen = seen.lock().expect("not poisoned").take();
    (response, seen)
}

async fn text(response: Response<impl Body<Data = Bytes, Error = Infallible>>) -> String {
    let body = response.into_body().collect().await.expect("infallible").to_bytes();
    String::from_utf8(body.to_vec()).expect("UTF-8")
}

fn chunks(text: &str) -> Vec<Value> {
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    text.split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").expect("a data line"))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect()
}

fn piece(text: &str) -> Result<ChatEvent, Error> {
    Ok(ChatEvent::Text(text.into()))
}

const STOP: Result<ChatEvent, Error> = Ok(ChatEvent::Finished(FinishReason::Stop));

#[tokio::test]
async fn a_prompt_becomes_the_one_message_of_a_chat() {
    let more = json!({"max_tokens": 9, "temperature": 0.5, "stop": "\n", "seed": 7, "user": "u",
        "logit_bias": {"5": 1}, "enable_thinking": false, "best_of": 1, "n": 1, "suffix": "",
        "logprobs": null, "stream_options": null, "qwen_option": [1]});
    let (response, request) = answered(ask(more), stream::iter([piece("x"), STOP])).await;
    assert_eq!(response.status(), 200);
    let request = request.expect("called");
    assert!(!request.headers().contains_key("authorization"));
    let chat = request.into_body();
    assert_eq!((&*chat.model, chat.history.len()), ("alias", 1));
    assert_eq!((chat.history[0].role, &*chat.history[0].text()), (Role::User, "Say \"hi\"\n"));
    assert_eq!((chat.sampling.max_tokens, chat.sampling.temperature), (Some(9), Some(0.5)));
    assert_eq!((chat.sampling.seed, &*chat.sampling.stop[0]), (Some(7), "\n"));
    assert_eq!(chat.reasoning.enabled, Some(false));
    assert_eq!(chat.user.as_deref(), Some("u"));
    assert_eq!(
        Value::Object(chat.extra.to_map().expect("fields")),
        json!({"logit_bias": {"5": 1}, "qwen_option": [1]})
    );
    assert!(chat.tenant.is_some(), "whose key it was is known");
}

/// The newer name of the limit is the same limit, and goes no further under its own name.
#[tokio::test]
async fn there_is_one_limit_of_tokens() {
    let more = json!({"max_tokens": 9, "max_completion_tokens": 7});
    let (_, request) = answered(ask(more), stream::iter([STOP])).await;
    let chat = request.expect("called").into_body();
    assert_eq!(chat.sampling.token_limit(), Some(7));
    // Servers that take both get both as they were written.
    assert_eq!((chat.sampling.max_tokens, chat.sampling.max_completion_tokens), (Some(9), Some(7)));
    assert!(chat.extra.is_empty(), "{:?}", chat.extra);
}

/// A field that is there twice is of no certain meaning, also where its name has escapes.
#[tokio::test]
async fn a_field_may_be_there_once() {
    for twice in [r#""prompt":"a","prompt":"b""#, r#""prompt":"a","prom\u0070t":"b""#] {
        let body = Bytes::from(format!(r#"{{"model":"m",{twice}}}"#));
        let request =
            Request::post("/v1/completions").body(FullBody::new(body)).expect("a request");
        let (response, request) = answered(request, stream::iter([STOP])).await;
        assert!(request.is_none());
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert!(text(response).await.contains("duplicate field `prompt`"));
    }
}

/// A function of one's own says whose a request is.
#[tokio::test]
async fn the_tenant_is_told_by_a_function() {
    let seen = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&seen);
    let inner = service_fn(move |request: Request<ChatRequest>| {
        *noted.lock().expect("not poisoned") = Some(request.body().tenant);
        async { Ok::<_, Error>(Response::new(stream::iter([STOP]).boxed())) }
    });
    let edge = CompletionsLayer::new()
        .tenant(|head| head.extensions.get::<u8>().map(|id| Tenant::from_digest([*id; 32])));
    for (id, tenant) in [(Some(7), Some(Tenant::from_digest([7; 32]))), (None, None)] {
        let mut request = ask(json!({}));
        if let Some(id) = id {
            request.extensions_mut().insert::<u8>(id);
        }
        edge.layer(inner.clone()).oneshot(request).await.expect("infallible");
        assert_eq!(seen.lock().expect("not poisoned").take(), Some(tenant));
    }
}

#[tokio::test]
async fn a_list_of_one_prompt_is_a_prompt() {
    let (_, request) = answered(ask(json!({"prompt": ["only"]})), stream::iter([STOP])).await;
    assert_eq!(request.expect("called").body().history[0].text(), "only");
}

#[tokio::test]
async fn a_stream_has_the_exact_chunks() {
    let mut usage = Usage::new(3, 4);
    usage.reasoning_tokens = Some(1);
    let (response, _) = answered(
        ask(json!({"stream": true, "stream_options": {"include_usage": true}, "echo": true})),
        stream::iter([
            Ok(ChatEvent::Started(Conversation::new("c").into())),
            Ok(ChatEvent::Reasoning("hm".into())),
            piece("Hel"),
            Ok(ChatEvent::Citation(Citation::new("u").into())),
            piece("lo \"you\"\n"),
            Ok(ChatEvent::Usage(usage)),
            Ok(ChatEvent::Finished(FinishReason::Length)),
        ]),
    )
    .await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let chunks = chunks(&text(response).await);
    let id = chunks[0]["id"].as_str().expect("an id");
    assert!(id.starts_with("cmpl-") && id.len() > 20, "{id}");
    let created = chunks[0]["created"].as_u64().expect("seconds");
    let chunk = |choices: Value, usage: Value| {
        json!({"id": id, "object": "text_completion", "created": created, "model": "alias",
            "choices": choices, "usage": usage})
    };
    let piece = |text: &str, reason: Option<&str>| {
        let choice = json!({"index": 0, "text": text, "logprobs": null, "finish_reason": reason});
        chunk(json!([choice]), Value::Null)
    };
    assert_eq!(
        chunks,
        [
            piece("Say \"hi\"\n", None),
            piece("Hel", None),
            piece("lo \"you\"\n", None),
            piece("", Some("length")),
            chunk(
                json!([]),
                json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7,
                    "completion_tokens_details": {"reasoning_tokens": 1}})
            ),
        ]
    );
}

#[tokio::test]
async fn a_whole_answer_has_the_exact_object() {
    for (echo, expected) in [(false, "Hello"), (true, "Say \"hi\"\nHello")] {
        let (response, _) = answered(
            ask(json!({"echo": echo})),
            stream::iter([
                Ok(ChatEvent::Reasoning("hm".into())),
                piece("Hel"),
                piece("lo"),
                Ok(ChatEvent::Usage(Usage::new(1, 2))),
                STOP,
            ]),
        )
        .await;
        assert_eq!(response.headers()["content-type"], "application/json");
        let mut answer: Value = serde_json::from_str(&text(response).await).expect("JSON");
        let object = answer.as_object_mut().expect("an object");
        assert!(object.remove("id").expect("an id").as_str().expect("text").starts_with("cmpl-"));
        assert!(object.remove("created").expect("a time").is_u64());
        assert_eq!(
            answer,
            json!({"object": "text_completion", "model": "alias", "choices": [
                {"index": 0, "text": expected, "logprobs": null, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
        );
    }
}

/// Calls have no place in the form, so their end is the text's.
#[tokio::test]
async fn the_end_of_calls_is_stop() {
    for streams in [false, true] {
        let (response, _) = answered(
            ask(json!({"stream": streams})),
            stream::iter([
                Ok(ChatEvent::ToolCall { index: 0, id: "c".into(), name: "f".into() }),
                Ok(ChatEvent::ToolArguments { index: 0, json: "{}".into() }),
                Ok(ChatEvent::Finished(FinishReason::ToolCalls)),
            ]),
        )
        .await;
        let text = text(response).await;
        assert!(text.contains(r#""text":"","logprobs":null,"finish_reason":"stop""#), "{text}");
        assert!(!text.contains("tool_calls"), "{text}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    #[rustfmt::skip]
    let cases = [
        (json!({"prompt": null}), "prompt", "missing_required_parameter"),
        (json!({"prompt": ""}), "prompt", "invalid_value"),
        (json!({"prompt": "  "}), "prompt", "invalid_value"),
        (json!({"prompt": []}), "prompt", "invalid_value"),
        (json!({"prompt": ["a", "b"]}), "prompt", "invalid_value"),
        (json!({"prompt": [1, 2]}), "prompt", "invalid_value"),
        (json!({"prompt": [[1, 2]]}), "prompt", "invalid_value"),
        (json!({"prompt": {"a": 1}}), "prompt", "invalid_type"),
        (json!({"suffix": "."}), "suffix", "unsupported_parameter"),
        (json!({"logprobs": 0}), "logprobs", "unsupported_parameter"),
        (json!({"logprobs": 5}), "logprobs", "unsupported_parameter"),
        (json!({"best_of": 2}), "best_of", "invalid_value"),
        (json!({"n": 2}), "n", "invalid_value"),
        (json!({"echo": "yes"}), "echo", "invalid_type"),
        (json!({"model": ""}), "model", "invalid_value"),
        (json!({"messages": []}), "messages", "unsupported_parameter"),
        (json!({"tools": []}), "tools", "unsupported_parameter"),
        (json!({"tool_choice": "auto"}), "tool_choice", "unsupported_parameter"),
        (json!({"parallel_tool_calls": false}), "parallel_tool_calls", "unsupported_parameter"),
        (json!({"functions": []}), "functions", "unsupported_parameter"),
        (json!({"function_call": "auto"}), "function_call", "unsupported_parameter"),
        (json!({"qwen_chat_id": "c"}), "qwen_chat_id", "unsupported_parameter"),
        (json!({"qwen_parent_id": "p"}), "qwen_parent_id", "unsupported_parameter"),
        (json!({"top_logprobs": 1}), "top_logprobs", "unsupported_parameter"),
        (json!({"max_completion_tokens": "x"}), "max_completion_tokens", "invalid_type"),
        (json!({"temperature": "x"}), "temperature", "invalid_type"),
        (json!({"stop": [1]}), "stop[0]", "invalid_type"),
        (json!({"suffix": 1}), "suffix", "invalid_type"),
        (json!({"stream_options": {"include_usage": 1}}), "stream_options.include_usage", "invalid_type"),
    ];
    for (more, param, code) in cases {
        let (response, request) = answered(ask(more.clone()), stream::iter([STOP])).await;
        assert!(request.is_none(), "{more} was sent");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{more}");
        let answer: Value = serde_json::from_str(&text(response).await).expect("JSON");
        assert_eq!(answer["error"]["param"], param, "{more} {answer}");
        assert_eq!(answer["error"]["code"], code, "{more} {answer}");
    }
}

/// Clients that cut text by UTF-16 units send half a character, which is no text.
#[tokio::test]
async fn half_a_character_is_refused() {
    let body = r#"{"model": "m", "prompt": ["cut \ud83c"]}"#;
    let request = Request::post("/v1/completions").body(FullBody::new(Bytes::from(body)));
    let (response, request) = answered(request.expect("a request"), stream::iter([STOP])).await;
    assert!(request.is_none());
    let answer: Value = serde_json::from_str(&text(response).await).expect("JSON");
    assert_eq!(answer["error"]["param"], "prompt");
}

#[tokio::test]
async fn an_error_before_the_answer_has_its_status() {
    let inner = service_fn(|_: Request<ChatRequest>| async {
        Err::<Response<Events>, _>(Error::new(ErrorKind::Quota, "used up"))
    });
    let response = CompletionsLayer::new().layer(inner).oneshot(ask(json!({"stream": true}))).await;
    assert_eq!(response.expect("infallible").status(), 429);
}

/// An error inside the stream, and a stream that ends without an end.
#[tokio::test]
async fn a_stream_is_never_ended_silently() {
    for (last, code) in [
        (Some(Err(Error::new(ErrorKind::Overloaded, "busy"))), "overloaded"),
        (None, "upstream_stream_error"),
    ] {
        let events = stream::iter([piece("a")]).chain(stream::iter(last));
        let (response, _) = answered(ask(json!({"stream": true})), events).await;
        assert_eq!(response.status(), 200);
        let chunks = chunks(&text(response).await);
        assert_eq!(chunks.len(), 2);
        assert_eq!(chunks[1]["error"]["code"], code);
    }
    // Whole, it is an error with a status.
    let (response, _) = answered(ask(json!({})), stream::iter([piece("a")])).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
}

/// Thinking is not shown, so a stream that thinks is quiet, and kept alive.
#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_kept_alive() {
    let thinking = stream::unfold(0, |count| async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        (count < 4).then(|| (Ok(ChatEvent::Reasoning("hm".into())), count + 1))
    });
    let events = thinking.chain(stream::iter([piece("a"), STOP]));
    let (response, _) = answered(ask(json!({"stream": true})), events).await;
    let text = text(response).await;
    assert_eq!(text.matches(": keep-alive\n").count(), 3, "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"));
}

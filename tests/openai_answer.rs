//! What the edge writes: the exact chunks, the whole answer, and errors before and after the
//! commit point.

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
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, FullBody,
    chat::{
        Attachment, AttachmentKind, ChatEvent, ChatRequest, Citation, Conversation, Extra,
        FinishReason, Tenant, Usage,
    },
    openai::OpenAiLayer,
};

type Events = stream::BoxStream<'static, Result<ChatEvent, Error>>;

fn ask(more: Value) -> Request<FullBody> {
    let mut body = json!({"model": "alias", "messages": [{"role": "user", "content": "x"}]});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    Request::post("/v1/chat/completions")
        .header("content-type", "application/json")
        .body(FullBody::new(Bytes::from(body.to_string())))
        .expect("a request")
}

/// The edge over a service that gives these events, once.
async fn answered(
    request: Request<FullBody>,
    events: impl Stream<Item = Result<ChatEvent, Error>> + Send + 'static,
) -> Response<impl Body<Data = Bytes, Error = Infallible>> {
    traced::on();
    let events = Arc::new(Mutex::new(Some(events.boxed())));
    let inner = service_fn(move |_: Request<ChatRequest>| {
        let events = events.lock().expect("not poisoned").take().expect("called once");
        async { Ok::<_, Error>(Response::new(events)) }
    });
    let edge = ServiceBuilder::new().layer(OpenAiLayer::new()).service(inner);
    edge.oneshot(request).await.expect("infallible")
}

/// The edge over a service that fails before the commit point.
async fn refused(
    request: Request<FullBody>,
    error: fn() -> Error,
) -> Response<impl Body<Data = Bytes, Error = Infallible>> {
    traced::on();
    let inner =
        service_fn(
            move |_: Request<ChatRequest>| async move { Err::<Response<Events>, _>(error()) },
        );
    OpenAiLayer::new().layer_over(inner).oneshot(request).await.expect("infallible")
}

trait LayerOver: Sized {
    fn layer_over<S>(self, inner: S) -> tower_qwen::openai::OpenAi<S>;
}

impl LayerOver for OpenAiLayer {
    fn layer_over<S>(self, inner: S) -> tower_qwen::openai::OpenAi<S> {
        tower::Layer::layer(&self, inner)
    }
}

async fn text(response: Response<impl Body<Data = Bytes, Error = Infallible>>) -> String {
    let body = response.into_body().collect().await.expect("infallible").to_bytes();
    String::from_utf8(body.to_vec()).expect("UTF-8")
}

async fn json_of(response: Response<impl Body<Data = Bytes, Error = Infallible>>) -> Value {
    serde_json::from_str(&text(response).await).expect("JSON")
}

/// The data of the events, as any client would cut them.
fn data(text: &str) -> Vec<String> {
    assert!(text.ends_with("\n\n"), "the last event must end with a blank line");
    text.split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").expect("a data line and nothing else").to_owned())
        .collect()
}

fn chunks(text: &str) -> Vec<Value> {
    let mut data = data(text);
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    data.iter().map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

fn piece(text: &str) -> Result<ChatEvent, Error> {
    Ok(ChatEvent::Text(text.into()))
}

fn usage() -> Usage {
    let mut usage = Usage::new(33, 838);
    usage.cached_tokens = Some(0);
    usage
}

fn conversation() -> Conversation {
    Conversation::new("c-1").with_parent("r-1")
}

const STOP: Result<ChatEvent, Error> = Ok(ChatEvent::Finished(FinishReason::Stop));

#[tokio::test]
async fn a_stream_has_the_exact_chunks() {
    let response = answered(
        ask(json!({"stream": true, "stream_options": {"include_usage": true}})),
        stream::iter([
            Ok(ChatEvent::Started(conversation().into())),
            Ok(ChatEvent::Reasoning("hm".into())),
            piece("Hel"),
            Ok(ChatEvent::Usage(Usage::new(33, 1))),
            piece("lo \"you\"\n\u{1F30C}"),
            Ok(ChatEvent::Usage(usage())),
            STOP,
        ]),
    )
    .await;
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    assert_eq!(headers["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-cache");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert!(!headers.contains_key("content-length"));

    let chunks = chunks(&text(response).await);
    let id = chunks[0]["id"].as_str().expect("an id");
    assert!(id.starts_with("chatcmpl-") && id.len() > 20);
    let created = chunks[0]["created"].as_u64().expect("seconds");
    assert!((1_700_000_000..10_000_000_000).contains(&created), "seconds, not milliseconds");
    let chunk = |choices: Value, usage: Value| {
        json!({"id": id, "object": "chat.completion.chunk", "created": created, "model": "alias",
            "choices": choices, "usage": usage})
    };
    let delta = |delta: Value| {
        chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]), Value::Null)
    };
    let mut first = delta(json!({"role": "assistant", "content": ""}));
    first["qwen_chat_id"] = "c-1".into();
    first["qwen_parent_id"] = "r-1".into();
    assert_eq!(
        chunks,
        [
            first,
            delta(json!({"reasoning_content": "hm"})),
            delta(json!({"content": "Hel"})),
            delta(json!({"content": "lo \"you\"\n\u{1F30C}"})),
            chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), Value::Null),
            chunk(
                json!([]),
                json!({"prompt_tokens": 33, "completion_tokens": 838, "total_tokens": 871,
                    "prompt_tokens_details": {"cached_tokens": 0}})
            ),
        ]
    );
}

#[tokio::test]
async fn without_include_usage_there_is_no_usage_and_no_empty_choices() {
    let response = answered(
        ask(json!({"stream": true})),
        stream::iter([piece("x"), Ok(ChatEvent::Usage(usage())), STOP]),
    )
    .await;
    for chunk in chunks(&text(response).await) {
        assert!(chunk.get("usage").is_none(), "{chunk}");
        assert_eq!(chunk["choices"].as_array().expect("choices").len(), 1, "{chunk}");
    }
}

#[tokio::test]
async fn usage_after_the_finish_reason_still_counts() {
    let response = answered(
        ask(json!({"stream": true, "stream_options": {"include_usage": true}})),
        stream::iter([piece("x"), STOP, Ok(ChatEvent::Usage(usage()))]),
    )
    .await;
    let chunks = chunks(&text(response).await);
    assert_eq!(chunks.last().expect("some")["usage"]["total_tokens"], 871);
}

/// What a server says besides stands in the chunk with the finish reason, in its choice, or in the one
/// with the counts; never in the place of what the edge says itself.
#[tokio::test]
async fn fields_of_the_server_stand_where_it_wrote_them() {
    let fields = |json: Value| serde_json::from_value::<Extra>(json).expect("an object");
    let events = || {
        [
            Ok(ChatEvent::ServerFields(fields(json!({"system_fingerprint": "fp", "id": "no"})))),
            piece("x"),
            Ok(ChatEvent::ChoiceFields(fields(json!({"stop_reason": 7, "index": 9, "delta": 1})))),
            STOP,
            Ok(ChatEvent::ServerFields(fields(json!({"timings": {"n": 1}, "choices": 1})))),
            Ok(ChatEvent::Usage(usage())),
        ]
    };
    for include_usage in [true, false] {
        let options = json!({"stream": true, "stream_options": {"include_usage": include_usage}});
        let response = answered(ask(options), stream::iter(events())).await;
        let chunks = chunks(&text(response).await);
        let last = &chunks[2];
        assert_eq!(
            last["choices"],
            json!([{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": 7}])
        );
        // Where no counts are asked for there is no later place.
        let timings = if include_usage { Value::Null } else { json!({"n": 1}) };
        assert_eq!((&last["system_fingerprint"], &last["timings"]), (&json!("fp"), &timings));
        assert_ne!(last["id"], "no");
        assert_eq!(chunks.len(), if include_usage { 4 } else { 3 });
        if let Some(counts) = chunks.get(3) {
            assert_eq!((&counts["timings"], &counts["choices"]), (&json!({"n": 1}), &json!([])));
        }
    }
    let whole = json_of(answered(ask(json!({})), stream::iter(events())).await).await;
    assert_eq!(whole["choices"][0]["stop_reason"], 7);
    assert_eq!(whole["choices"][0]["message"]["content"], "x");
    assert_eq!((&whole["timings"], &whole["system_fingerprint"]), (&json!({"n": 1}), &json!("fp")));
}

/// The same of the message and of the counts.
#[tokio::test]
async fn fields_of_the_message_and_of_the_counts_stand_in_them() {
    let fields = |json: Value| serde_json::from_value::<Extra>(json).expect("an object");
    let events = || {
        [
            piece("x"),
            Ok(ChatEvent::MessageFields(fields(json!({"annotations": [1], "content": "no"})))),
            STOP,
            Ok(ChatEvent::UsageFields(fields(json!({
                "cost": 0.5,
                "total_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 99, "audio_tokens": 2},
                "completion_tokens_details": {"accepted_prediction_tokens": 3},
            })))),
            Ok(ChatEvent::Usage(usage())),
        ]
    };
    let counts = |counts: &Value| {
        assert_eq!((&counts["cost"], &counts["total_tokens"]), (&json!(0.5), &json!(871)));
        let cached = &counts["prompt_tokens_details"];
        assert_eq!((&cached["cached_tokens"], &cached["audio_tokens"]), (&json!(0), &json!(2)));
        let details = &counts["completion_tokens_details"];
        assert_eq!(details["accepted_prediction_tokens"], 3);
    };
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let chunks = chunks(&text(answered(ask(options), stream::iter(events())).await).await);
    assert_eq!(chunks[2]["choices"][0]["delta"], json!({"annotations": [1]}));
    counts(&chunks.last().expect("some")["usage"]);
    let whole = json_of(answered(ask(json!({})), stream::iter(events())).await).await;
    let message = &whole["choices"][0]["message"];
    assert_eq!((&message["annotations"], &message["content"]), (&json!([1]), &json!("x")));
    counts(&whole["usage"]);
}

#[tokio::test]
async fn calls_are_announced_once_and_their_arguments_flow() {
    let response = answered(
        ask(json!({"stream": true})),
        stream::iter([
            Ok(ChatEvent::ToolCall { index: 0, id: "call_1".into(), name: "f".into() }),
            Ok(ChatEvent::ToolArguments { index: 0, json: "{\"a\":".into() }),
            Ok(ChatEvent::ToolArguments { index: 0, json: "\"\\n\"}".into() }),
            Ok(ChatEvent::Finished(FinishReason::ToolCalls)),
        ]),
    )
    .await;
    let deltas: Vec<_> = chunks(&text(response).await)
        .iter()
        .map(|chunk| chunk["choices"][0]["delta"].clone())
        .collect();
    assert_eq!(
        deltas[1..],
        [
            json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                "function": {"name": "f", "arguments": ""}}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\":"}}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "\"\\n\"}"}}]}),
            json!({}),
        ]
    );
}

#[tokio::test]
async fn a_whole_answer_says_the_same() {
    let mut image = Attachment::new(AttachmentKind::Image, "https://example.org/i.png".into());
    image.title = Some("a cat".into());
    let events = || {
        stream::iter([
            Ok(ChatEvent::Started(conversation().into())),
            Ok(ChatEvent::Reasoning("hm".into())),
            piece("a "),
            Ok(ChatEvent::Attachment(image.clone())),
            Ok(ChatEvent::Citation(Citation::new("https://example.org/a").into())),
            piece("b"),
            Ok(ChatEvent::ToolCall { index: 0, id: "call_1".into(), name: "f".into() }),
            Ok(ChatEvent::ToolArguments { index: 0, json: "{}".into() }),
            Ok(ChatEvent::Usage(usage())),
            Ok(ChatEvent::Finished(FinishReason::ToolCalls)),
        ])
    };
    let response = answered(ask(json!({})), events()).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.body().size_hint().exact(), Some(response.body().size_hint().lower()));
    let whole = json_of(response).await;
    let message = &whole["choices"][0]["message"];
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(whole["usage"]["completion_tokens"], 838);
    assert_eq!(whole["qwen_parent_id"], "r-1");
    assert_eq!(message["refusal"], Value::Null);
    assert_eq!(message["content"], "a ![a cat](https://example.org/i.png)\nb");
    assert_eq!(message["annotations"][0]["url_citation"]["url"], "https://example.org/a");
    assert_eq!(
        message["tool_calls"],
        json!([{"id": "call_1", "type": "function",
            "function": {"name": "f", "arguments": "{}"}}])
    );

    let streamed = answered(ask(json!({"stream": true})), events()).await;
    let chunks = chunks(&text(streamed).await);
    let joined = |field: &str| -> String {
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][field].as_str()).collect()
    };
    assert_eq!(joined("content"), message["content"].as_str().expect("text"));
    assert_eq!(joined("reasoning_content"), message["reasoning_content"].as_str().expect("text"));
}

#[tokio::test]
async fn an_answer_of_calls_alone_has_null_content() {
    let response = answered(
        ask(json!({})),
        stream::iter([
            Ok(ChatEvent::ToolCall { index: 0, id: "call_1".into(), name: "f".into() }),
            Ok(ChatEvent::Finished(FinishReason::ToolCalls)),
        ]),
    )
    .await;
    assert_eq!(json_of(response).await["choices"][0]["message"]["content"], Value::Null);
}

#[tokio::test]
async fn an_empty_answer_has_empty_content() {
    let response = answered(ask(json!({})), stream::iter([STOP])).await;
    assert_eq!(json_of(response).await["choices"][0]["message"]["content"], "");
}

#[tokio::test]
async fn an_error_before_the_commit_point_has_its_status_streamed_or_not() {
    for stream in [false, true] {
        let response = refused(ask(json!({"stream": stream})), || {
            Error::new(ErrorKind::Quota, "used up").with_retry_after(Duration::from_secs(7200))
        })
        .await;
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()["retry-after"], "7200");
        assert_eq!(response.headers()["x-should-retry"], "false");
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(json_of(response).await["error"]["code"], "insufficient_quota");
    }
}

#[tokio::test]
async fn an_error_after_the_commit_point_is_in_band_and_never_a_normal_end() {
    let response = answered(
        ask(json!({"stream": true})),
        stream::iter([
            piece("half"),
            Err(Error::new(ErrorKind::Truncated, "the upstream hung up")),
            STOP,
        ]),
    )
    .await;
    assert_eq!(response.status(), StatusCode::OK);
    let data = data(&text(response).await);
    assert_eq!(data.len(), 4, "role, text, error, [DONE]: {data:?}");
    assert_eq!(
        serde_json::from_str::<Value>(&data[2]).expect("JSON"),
        json!({"error": {"message": "the upstream hung up", "type": "upstream_error",
            "param": null, "code": "upstream_stream_error"}})
    );
    assert_eq!(data[3], "[DONE]");
}

#[tokio::test]
async fn an_end_without_finish_reason_is_an_error_streamed_or_not() {
    let response = answered(ask(json!({"stream": true})), stream::iter([piece("half")])).await;
    let data = data(&text(response).await);
    assert!(data[2].contains("upstream_stream_error"), "{data:?}");

    let response = answered(ask(json!({})), stream::iter([piece("half")])).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn what_follows_the_finish_reason_cannot_spoil_the_answer() {
    let events = || {
        stream::iter([
            piece("x"),
            STOP,
            STOP,
            piece("y"),
            Err(Error::new(ErrorKind::Upstream, "z")),
        ])
    };
    let chunks = chunks(&text(answered(ask(json!({"stream": true})), events()).await).await);
    let finishes = chunks.iter().filter(|c| !c["choices"][0]["finish_reason"].is_null());
    assert_eq!(finishes.count(), 1);
    assert!(!chunks.iter().any(|chunk| chunk["choices"][0]["delta"]["content"] == "y"));
    assert_eq!(answered(ask(json!({})), events()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn method_and_media_type_are_checked_and_the_body_is_not_read_for_it() {
    let get = Request::get("/v1/chat/completions").body(FullBody::default()).expect("a request");
    let response = answered(get, stream::iter([])).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(json_of(response).await["error"]["code"], "method_not_supported");

    let mut xml = ask(json!({}));
    xml.headers_mut().insert("content-type", "text/xml".parse().expect("a value"));
    let response = answered(xml, stream::iter([])).await;
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn the_clients_credentials_end_here() {
    let seen = Arc::new(Mutex::new(None));
    let inner = service_fn({
        let seen = Arc::clone(&seen);
        move |request: Request<ChatRequest>| {
            let (parts, chat) = request.into_parts();
            *seen.lock().expect("not poisoned") = Some((parts.headers, chat.tenant));
            async { Ok::<_, Error>(Response::new(stream::iter([STOP]).boxed())) }
        }
    });
    let mut request = ask(json!({}));
    for name in ["authorization", "x-api-key", "api-key", "proxy-authorization", "cookie"] {
        request.headers_mut().insert(name, "Bearer sk-demo".parse().expect("a value"));
    }
    request.headers_mut().insert("x-trace", "kept".parse().expect("a value"));
    OpenAiLayer::new().layer_over(inner).oneshot(request).await.expect("infallible");
    let (headers, tenant) = seen.lock().expect("not poisoned").take().expect("called");
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "x-trace"]);
    assert!(tenant.is_some());
}

/// What the inner service sees of a request that goes through `edge`.
async fn passed(edge: OpenAiLayer, request: Request<FullBody>) -> Request<ChatRequest> {
    let seen = Arc::new(Mutex::new(None));
    let inner = service_fn({
        let seen = Arc::clone(&seen);
        move |request: Request<ChatRequest>| {
            *seen.lock().expect("not poisoned") = Some(request);
            async { Ok::<_, Error>(Response::new(stream::iter([STOP]).boxed())) }
        }
    });
    edge.layer_over(inner).oneshot(request).await.expect("infallible");
    seen.lock().expect("not poisoned").take().expect("called")
}

#[derive(Clone, Debug, PartialEq)]
struct KeyId(u8);

/// Without a function of one's own, it is the key that tells clients apart.
#[tokio::test]
async fn the_tenant_is_the_key() {
    let tenant = |key: Option<&'static str>| async move {
        let mut request = ask(json!({}));
        request.headers_mut().remove("authorization");
        if let Some(key) = key {
            request.headers_mut().insert("x-api-key", key.parse().expect("a value"));
        }
        let headers = request.headers().clone();
        let tenant = passed(OpenAiLayer::new(), request).await.into_body().tenant;
        assert_eq!(tenant, tower_qwen::edge::tenant(&headers));
        tenant
    };
    assert_eq!(tenant(None).await, None, "nobody knows whose it is");
    let (first, again, other) =
        (tenant(Some("a")).await, tenant(Some("a")).await, tenant(Some("b")).await);
    assert!(first.is_some() && first == again && first != other);
}

/// A client whose key changes stays who it is; the function sees the key, the layers below do not.
#[tokio::test]
async fn the_tenant_is_told_by_a_function() {
    let edge = OpenAiLayer::new().tenant(|head| {
        assert!(head.headers.contains_key("authorization"), "taken off too early");
        let KeyId(id) = head.extensions.get()?;
        Some(Tenant::from_digest([*id; 32]))
    });
    for (key, id, expected) in [
        ("Bearer old", Some(KeyId(7)), Some(Tenant::from_digest([7; 32]))),
        ("Bearer new", Some(KeyId(7)), Some(Tenant::from_digest([7; 32]))),
        ("Bearer new", Some(KeyId(8)), Some(Tenant::from_digest([8; 32]))),
        ("Bearer new", None, None),
    ] {
        let mut request = ask(json!({}));
        request.headers_mut().insert("authorization", key.parse().expect("a value"));
        if let Some(id) = id {
            request.extensions_mut().insert(id);
        }
        let request = passed(edge.clone(), request).await;
        assert!(!request.headers().contains_key("authorization"));
        assert_eq!(request.body().tenant, expected, "{key}");
    }
}

/// The envelope goes on: what a layer outside has put there, one inside reads.
#[tokio::test]
async fn headers_and_extensions_go_on() {
    let mut request = ask(json!({}));
    request.extensions_mut().insert(KeyId(7));
    request.headers_mut().insert("traceparent", "00-1-2-3".parse().expect("a value"));
    let uri = request.uri().clone();
    let request = passed(OpenAiLayer::new(), request).await;
    assert_eq!(request.extensions().get(), Some(&KeyId(7)));
    assert_eq!(request.headers()["traceparent"], "00-1-2-3");
    assert_eq!((request.method().as_str(), request.uri()), ("POST", &uri));
}

#[tokio::test(start_paused = true)]
async fn a_piece_leaves_when_it_arrives_and_pieces_that_came_together_leave_together() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let events = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|event| (event, receiver))
    });
    let mut body = Box::pin(answered(ask(json!({"stream": true})), events).await.into_body());

    sender.send(piece("one")).expect("open");
    let frame = body.frame().await.expect("a frame").expect("infallible").into_data();
    let text = String::from_utf8(frame.expect("data").to_vec()).expect("UTF-8");
    assert!(text.contains("\"role\"") && text.contains("one"), "{text}");
    // Nothing is held back, and nothing comes by itself.
    let quiet = tokio::time::timeout(Duration::from_secs(14), body.frame()).await;
    assert!(quiet.is_err(), "{quiet:?}");

    sender.send(piece("two")).expect("open");
    sender.send(piece("three")).expect("open");
    let frame = body.frame().await.expect("a frame").expect("infallible").into_data();
    assert_eq!(data(core::str::from_utf8(&frame.expect("data")).expect("UTF-8")).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn quiet_streams_get_a_comment_line_and_busy_ones_do_not() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let events = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|event| (event, receiver))
    });
    let mut body = Box::pin(answered(ask(json!({"stream": true})), events).await.into_body());
    let start = tokio::time::Instant::now();
    let mut next = async || {
        let frame = body.frame().await.expect("a frame").expect("infallible");
        (frame.into_data().expect("data"), start.elapsed().as_secs())
    };
    // Before the first event, and again.
    assert_eq!(next().await, (Bytes::from(": keep-alive\n"), 15));
    assert_eq!(next().await, (Bytes::from(": keep-alive\n"), 30));
    tokio::time::advance(Duration::from_secs(10)).await;
    sender.send(piece("x")).expect("open");
    assert!(next().await.0.starts_with(b"data: "));
    // The interval counts from the piece, not from the last comment.
    assert_eq!(next().await, (Bytes::from(": keep-alive\n"), 55));
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
        OpenAiLayer::new().layer_over(inner).oneshot(ask(json!({"stream": stream, "seed": 1})))
    };
    let good = || Ok(stream::iter([piece("x"), STOP]).boxed());
    let bad = || Err(Error::new(ErrorKind::RateLimited, "slow down"));

    let response = ask_slow(true, good).await.expect("infallible");
    assert_eq!((start.elapsed().as_secs(), response.status()), (15, StatusCode::OK));
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let body = text(response).await;
    assert_eq!(start.elapsed().as_secs(), 40);
    let answer = body.strip_prefix(": keep-alive\n: keep-alive\n").expect("two signs of life");
    assert_eq!(chunks(answer).len(), 3, "{answer}");

    let response = ask_slow(true, bad).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::OK);
    let body = text(response).await;
    let answer = body.strip_prefix(": keep-alive\n: keep-alive\n").expect("two signs of life");
    assert!(answer.contains("rate_limit_error") && answer.ends_with("[DONE]\n\n"), "{answer}");

    // Nobody waits for a byte of a whole answer, and it keeps its status.
    let response = ask_slow(false, bad).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let response = ask_slow(false, good).await.expect("infallible");
    assert_eq!(response.headers()["x-inner"], "1");
}

#[tokio::test]
async fn the_upstream_is_let_go_when_the_answer_is_over_or_the_client_is() {
    struct Guard(Arc<()>);
    let held = Arc::new(());
    let events = |held: &Arc<()>, ends: bool| {
        let guard = Guard(Arc::clone(held));
        stream::iter([piece("x"), STOP]).chain(stream::pending().take(usize::from(!ends))).map(
            move |event| {
                let _ = &guard.0;
                event
            },
        )
    };
    let mut body =
        Box::pin(answered(ask(json!({"stream": true})), events(&held, true)).await.into_body());
    while body.frame().await.is_some() {}
    assert!(body.is_end_stream());
    assert_eq!(Arc::strong_count(&held), 1, "over, although the body is still there");

    let mut body =
        Box::pin(answered(ask(json!({"stream": true})), events(&held, false)).await.into_body());
    body.frame().await;
    assert_eq!(Arc::strong_count(&held), 2);
    drop(body);
    assert_eq!(Arc::strong_count(&held), 1, "abandoned");
}

fn any_event() -> impl Strategy<Value = ChatEvent> {
    let text = "(?s).{0,12}";
    prop_oneof![
        text.prop_map(|text| ChatEvent::Text(text.into())),
        text.prop_map(|text| ChatEvent::Reasoning(text.into())),
        (0..3_u32, text, text).prop_map(|(index, id, name)| ChatEvent::ToolCall {
            index,
            id: id.into(),
            name: name.into()
        }),
        (0..3_u32, text)
            .prop_map(|(index, json)| ChatEvent::ToolArguments { index, json: json.into() }),
        (any::<u64>(), any::<u64>()).prop_map(|(a, b)| ChatEvent::Usage(Usage::new(a, b))),
        text.prop_map(|url| {
            ChatEvent::Attachment(Attachment::new(AttachmentKind::Image, url.into()))
        }),
        Just(ChatEvent::Started(conversation().into())),
        Just(ChatEvent::Finished(FinishReason::Length)),
    ]
}

proptest! {
    /// Whatever the events: well-formed chunks, one terminal frame, and the text to the letter.
    #[test]
    fn any_events_make_a_well_formed_stream(events in prop::collection::vec(any_event(), 0..20)) {
        let finished = events.iter().any(|event| matches!(event, ChatEvent::Finished(_)));
        let said: String = events
            .iter()
            .take_while(|event| !matches!(event, ChatEvent::Finished(_)))
            .filter_map(|event| match event {
                ChatEvent::Text(text) => Some(text.to_string()),
                ChatEvent::Attachment(image) => Some(format!("![image]({})\n", image.url)),
                _ => None,
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let text = runtime.block_on(async {
            let events = stream::iter(events.into_iter().map(Ok));
            text(answered(ask(json!({"stream": true})), events).await).await
        });
        let data = data(&text);
        prop_assert_eq!(data.iter().filter(|data| *data == "[DONE]").count(), 1);
        prop_assert_eq!(data.last().map(String::as_str), Some("[DONE]"));
        let chunks: Vec<Value> = data[..data.len() - 1]
            .iter()
            .map(|data| serde_json::from_str(data).expect("JSON"))
            .collect();
        prop_assert_eq!(chunks.iter().any(|chunk| chunk.get("error").is_some()), !finished);
        let content: String = chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            .collect();
        prop_assert_eq!(content, said);
    }
}

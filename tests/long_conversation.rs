//! A conversation of a million characters passes, and takes no more than three times its size.
//!
//! Its size is that of the request's body. What is counted: that body as it was received, and
//! everything that is allocated on the thread from then on until the last byte of the answer was
//! read, at its peak, whatever the layer; so the limit is three with the body, which is two for
//! all else. The upstream of these tests holds the request that it was sent until it has answered,
//! as a client that is still writing it does; it makes no copy of its own. What is not counted:
//! how the server read the body, and what sockets buffer.
//!
//! The counting allocator is that of `allocation-counter`, and counts this thread only.

use std::{convert::Infallible, time::Duration};

use allocation_counter::measure;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    FullBody,
    dedup::DedupLayer,
    openai::OpenAiLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    session::{MemoryStore, SessionLayer},
    tool::call::ToolCallLayer,
};

const CHARACTERS: usize = 1_000_000;

/// Prose with escapes, as agents send it: source text, in one message or in many turns.
const CODE: &str = "\tlet answer = \"the value\"; // a line of source\n";
const CHINESE: &str = "通义千问是一个大语言模型。";

fn text(of: &str, characters: usize) -> String {
    of.chars().cycle().take(characters).collect()
}

/// One message that is as long as all of it.
fn one_message(of: &str) -> Value {
    json!([{"role": "user", "content": text(of, CHARACTERS)}])
}

/// An agent's history: question, call with large arguments, result, answer.
fn turns(of: &str) -> Value {
    let part = CHARACTERS / 400;
    let mut messages = vec![json!({"role": "system", "content": text(of, part)})];
    for turn in 0..100 {
        let id = format!("call_{turn}");
        let arguments = json!({"path": "a.rs", "content": text(of, part)}).to_string();
        messages.push(json!({"role": "user", "content": text(of, part)}));
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": id, "type": "function", "function": {"name": "write", "arguments": arguments}}]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": text(of, part)}));
        messages.push(
            json!({"role": "assistant", "content": [{"type": "text", "text": text(of, part)}]}),
        );
    }
    messages.push(json!({"role": "user", "content": "and now?"}));
    Value::Array(messages)
}

fn body(messages: &Value) -> Bytes {
    let schema = json!({"type": "object", "properties": {"path": {"type": "string"},
        "content": {"type": "string"}}, "required": ["path"]});
    let body = json!({"model": "qwen3-max", "stream": true, "messages": messages,
        "tools": [{"type": "function", "function": {"name": "write", "parameters": schema}}]});
    body.to_string().into_bytes().into_boxed_slice().into()
}

/// An upstream that answers when it has the whole request, and lets go of it then.
fn upstream(
    answer: &'static str,
) -> impl Service<
    Request<FullBody>,
    Response = Response<FullBody>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<FullBody>, Infallible>> + Send,
> + Clone
+ Send
+ Sync
+ 'static {
    service_fn(move |request: Request<FullBody>| async move {
        let path = request.uri().path().to_owned();
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(request);
        let (kind, answer) = match path.as_str() {
            "/api/v2/chats/new" => {
                ("application/json", r#"{"success":true,"data":{"id":"chat-1"}}"#)
            }
            _ => ("text/event-stream", answer),
        };
        let response =
            Response::builder().header("content-type", kind).body(FullBody::from(answer));
        Ok(response.expect("a response"))
    })
}

/// How many times the body's size there is at the peak, the body included.
fn peak<S, B>(service: S, body: Bytes) -> f64
where
    S: Service<Request<FullBody>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error = Infallible>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let size = body.len();
    let request =
        Request::post("/v1/chat/completions").body(FullBody::new(body)).expect("a request");
    let mut parts = Some((service, request));
    let mut answer = None;
    let info = measure(|| {
        let (service, request) = parts.take().expect("once");
        answer = Some(runtime.block_on(async {
            let response = service.oneshot(request).await.expect("infallible");
            let status = response.status();
            (status, response.into_body().collect().await.expect("infallible").to_bytes())
        }));
    });
    let (status, answer) = answer.expect("it ran");
    assert_eq!(status, 200, "{answer:?}");
    assert!(answer.ends_with(b"data: [DONE]\n\n"));
    (size as f64 + info.bytes_max as f64) / size as f64
}

/// The edge without signs of life: while a request waits for its turn on another thread the paused
/// clock runs on, and would have one written each time that it is looked at.
fn edge() -> OpenAiLayer {
    OpenAiLayer::new().keep_alive(None)
}

const COMPATIBLE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n\
    data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const WEB: &str = "data: {\"response.created\":{\"chat_id\":\"chat-1\",\"parent_id\":\"p\",\"response_id\":\"r\"}}\n\n\
    data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"Hi\",\"phase\":\"answer\",\"status\":\"typing\"}}]}\n\n\
    data: {\"choices\":[{\"delta\":{\"content\":\"\",\"role\":\"assistant\",\"status\":\"finished\",\"phase\":\"answer\"}}]}\n\n";

fn bodies() -> Vec<(&'static str, Bytes)> {
    vec![
        ("one message of source", body(&one_message(CODE))),
        ("one message of Chinese", body(&one_message(CHINESE))),
        ("one message without escapes", body(&one_message("plain words "))),
        ("one message of line feeds", body(&one_message("\n"))),
        ("turns of source", body(&turns(CODE))),
        ("turns of Chinese", body(&turns(CHINESE))),
    ]
}

#[test]
fn a_million_characters_through_the_compatible_adapter() {
    for (name, body) in bodies() {
        for (mode, tools) in [
            ("native", ToolCallLayer::native()),
            ("rescue", ToolCallLayer::native_with_rescue()),
            ("prompt", ToolCallLayer::prompted()),
        ] {
            for server in [Server::Vllm, Server::Portal] {
                let service = ServiceBuilder::new()
                    .layer(edge())
                    .layer(tools.clone())
                    .layer(CompatibleLayer::new(server))
                    .service(upstream(COMPATIBLE));
                let peak = peak(service, Bytes::copy_from_slice(&body));
                println!("{name}, {mode}, {server:?}: {peak:.2}");
                assert!(peak <= 3.0, "{name}, {mode}, {server:?}: {peak:.2} times its size");
            }
        }
    }
}

#[test]
fn a_million_characters_through_the_web_stack() {
    for (name, body) in bodies() {
        let service = ServiceBuilder::new()
            .layer(edge())
            .layer(SessionLayer::new(MemoryStore::default()))
            .layer(DedupLayer::new())
            .layer(ToolCallLayer::prompted())
            .layer(QwenWebLayer::new())
            .service(upstream(WEB));
        let peak = peak(service, Bytes::copy_from_slice(&body));
        println!("{name}, web: {peak:.2}");
        assert!(peak <= 3.0, "{name}: {peak:.2} times its size");
    }
}

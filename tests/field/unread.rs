//! Fields that no edge reads: the answer says which they were.

use futures_util::stream;
use http::{Request, Response};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_qwen::{
    Error, FullBody,
    anthropic::AnthropicLayer,
    chat::{ChatEvent, ChatRequest, FinishReason},
    edge::Offer,
    ollama::OllamaLayer,
    responses::ResponsesLayer,
};

async fn answer(
    _: Request<ChatRequest>,
) -> Result<Response<stream::Iter<std::array::IntoIter<Result<ChatEvent, Error>, 2>>>, Error> {
    let said = [ChatEvent::Text("x".into()), ChatEvent::Finished(FinishReason::Stop)].map(Ok);
    Ok(Response::new(stream::iter(said)))
}

/// The names in the head of the answer to `body`, streamed and whole.
async fn named<S, B>(edge: S, body: &Value) -> String
where
    S: Service<Request<FullBody>, Response = Response<B>, Error = std::convert::Infallible> + Clone,
{
    let mut both = Vec::new();
    for streams in [true, false] {
        let mut body = body.clone();
        body["stream"] = streams.into();
        let request = Request::post("/")
            .header("content-type", "application/json")
            .body(FullBody::from(body.to_string()))
            .expect("a request");
        let answer = edge.clone().oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), 200, "{body}");
        let names = answer.headers().get("x-qwen-left-out");
        both.push(names.map_or("", |names| names.to_str().expect("names")).to_owned());
    }
    assert_eq!(both[0], both[1], "{body}");
    both.pop().expect("two of them")
}

#[tokio::test]
async fn a_field_that_nothing_reads_is_named() {
    let many: serde_json::Map<_, _> =
        (0..2000).map(|at| (format!("field_{at}"), json!(1))).collect();
    for (edge, more, names) in [
        ("responses", json!({"top_logprobs": 3}), "top_logprobs"),
        ("responses", json!({"top_logprobs": 0}), ""),
        ("responses", json!({"include": ["message.output_text.logprobs"]}), "include"),
        ("responses", json!({"include": ["reasoning.encrypted_content"]}), ""),
        ("responses", json!({"include": []}), ""),
        ("responses", json!({"max_tool_calls": 1}), "max_tool_calls"),
        ("responses", json!({"max_tool_calls": null}), ""),
        (
            "responses",
            json!({"service_tier": "flex", "moderation": {"a": 1}, "metadata": {"a": "b"}}),
            "moderation, service_tier",
        ),
        ("responses", json!({"not\ta token": 1}), "other"),
        ("responses", Value::Object(many.clone()), "field_0, field_1, field_10, …"),
        ("messages", json!({"context_management": {"edits": [1]}}), "context_management"),
        ("messages", json!({"container": "c", "mcp_servers": []}), "container"),
        ("messages", json!({"metadata": {"user_id": "u"}}), ""),
        ("messages", json!({"betas": ["a"], "speed": "fast"}), "betas, speed"),
        ("messages", Value::Object(many), "field_0, field_1, field_10, …"),
        ("ollama", json!({"truncate": true, "shift": false}), "truncate"),
        ("ollama", json!({"options": {"num_ctx": 8192, "mirostat": 0}}), "num_ctx"),
        ("ollama", json!({"options": {"seed": 1, "temperature": 0.5}}), ""),
        ("ollama", json!({"keep_alive": "5m"}), ""),
    ] {
        let offer = Offer::Everything;
        let mut body = json!({"model": "m", "max_tokens": 9});
        let history = if edge == "responses" { "input" } else { "messages" };
        body[history] = json!([{"role": "user", "content": "x"}]);
        if edge != "messages" {
            body.as_object_mut().expect("an object").remove("max_tokens");
        }
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let inner = service_fn(answer);
        let told = match edge {
            "responses" => named(ResponsesLayer::new().offer(offer).layer(inner), &body).await,
            "messages" => named(AnthropicLayer::new().offer(offer).layer(inner), &body).await,
            _ => named(OllamaLayer::new().offer(offer).layer(inner), &body).await,
        };
        match names.strip_suffix("…") {
            Some(start) => assert!(told.starts_with(start) && told.len() <= 512, "{edge}: {told}"),
            None => assert_eq!(told, names, "{edge}: {more}"),
        }
    }
}

/// What the upstream has not got comes first, and what the edge has not read behind it.
#[tokio::test]
async fn both_kinds_are_in_one_list() {
    let edge = AnthropicLayer::new().offer(Offer::Web).layer(service_fn(answer));
    let body = json!({
        "model": "m", "max_tokens": 9, "top_k": 5, "container": "c",
        "messages": [{"role": "user", "content": "x"}],
    });
    assert_eq!(named(edge, &body).await, "max_tokens, top_k, container");
}

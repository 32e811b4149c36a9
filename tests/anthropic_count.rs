//! What a request's tokens are said to be before the upstream says it.

mod traced;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, FullBody,
    anthropic::{AnthropicLayer, CountTokens},
    chat::{ChatEvent, ChatRequest, FinishReason, Usage},
    tokens::TokenEstimator,
};

fn request(body: &Value) -> Request<FullBody> {
    Request::post("/v1/messages/count_tokens?beta=true")
        .header("content-type", "application/json")
        .body(FullBody::new(Bytes::from(body.to_string())))
        .expect("a request")
}

async fn count(service: &CountTokens, request: Request<FullBody>) -> (u16, Value) {
    traced::on();
    let Ok(response) = service.clone().oneshot(request).await;
    let status = response.status().as_u16();
    let Ok(body) = response.into_body().collect().await;
    (status, serde_json::from_slice(&body.to_bytes()).expect("JSON"))
}

fn says(text: &str) -> Value {
    json!({"model": "qwen3-max", "messages": [{"role": "user", "content": text}]})
}

/// Claude Code asks for one and a half dozen counts at the same time.
#[tokio::test]
async fn counts_come_side_by_side_and_more_text_counts_more() {
    let service = CountTokens::new(Arc::default());
    let texts: Vec<String> = (1..=24).map(|times| "foo ".repeat(times * 40)).collect();
    let answers = join_all(texts.iter().map(|text| count(&service, request(&says(text))))).await;
    let tokens: Vec<u64> = answers
        .iter()
        .map(|(status, body)| {
            assert_eq!(*status, 200, "{body}");
            assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
            body["input_tokens"].as_u64().expect("an integer")
        })
        .collect();
    assert!(tokens.is_sorted() && tokens[0] >= 40, "{tokens:?}");
}

#[tokio::test]
async fn tools_and_the_system_prompt_count() {
    let service = CountTokens::new(Arc::default());
    let mut body = says("foo");
    let (_, plain) = count(&service, request(&body)).await;
    body["system"] = json!([{"type": "text", "text": "Answer in verse, and briefly."}]);
    let (_, told) = count(&service, request(&body)).await;
    body["tools"] = json!([{"name": "Read", "input_schema": {"type": "object"}}]);
    let (_, offered) = count(&service, request(&body)).await;
    let tokens = [plain, told, offered].map(|answer| answer["input_tokens"].as_u64());
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

#[tokio::test]
async fn what_is_wrong_is_told_in_the_form_of_the_protocol() {
    let service = CountTokens::new(Arc::default()).max_body(64);
    let get = Request::builder().method(Method::GET).body(FullBody::default()).expect("a request");
    for (name, request, status, kind) in [
        ("another method", get, 405, "invalid_request_error"),
        ("no messages", request(&json!({"model": "m"})), 400, "invalid_request_error"),
        ("no model", request(&json!({"messages": []})), 400, "invalid_request_error"),
        ("too large", request(&says(&"x".repeat(64))), 413, "request_too_large"),
    ] {
        let (found, body) = count(&service, request).await;
        assert_eq!((found, &body["error"]["type"]), (status, &json!(kind)), "{name}: {body}");
        assert_eq!(body["type"], "error", "{name}");
    }
}

/// The edge and the counter share what upstreams report: the next count is nearer to it.
#[tokio::test]
async fn a_count_is_learnt_from_what_the_upstream_reports() {
    let estimator = Arc::new(TokenEstimator::new());
    let service = CountTokens::new(Arc::clone(&estimator));
    let body = says(&"The build passed on Friday. ".repeat(200));
    let (_, before) = count(&service, request(&body)).await;
    let before = before["input_tokens"].as_u64().expect("an integer");
    let reported = before / 2;

    let edge = AnthropicLayer::new().estimator(estimator).layer(service_fn(
        move |_: Request<ChatRequest>| async move {
            Ok::<_, Error>(Response::new(stream::iter([
                Ok(ChatEvent::Text("Good.".into())),
                Ok(ChatEvent::Finished(FinishReason::Stop)),
                Ok(ChatEvent::Usage(Usage::new(reported, 2))),
            ])))
        },
    ));
    let mut starts = Vec::new();
    for (round, is_stream) in [true, false, true, false, true].into_iter().enumerate() {
        let mut body = body.clone();
        body["max_tokens"] = json!(9);
        body["stream"] = json!(is_stream);
        let Ok(response) = edge.clone().oneshot(request(&body)).await;
        let Ok(answer) = response.into_body().collect().await;
        let answer = String::from_utf8(answer.to_bytes().to_vec()).expect("UTF-8");
        // However it begins, it ends with the upstream's own count.
        let own = format!("\"input_tokens\":{reported}");
        assert!(answer.contains(&own), "{round}: {answer}");
        if is_stream {
            let data = answer.lines().nth(1).and_then(|line| line.strip_prefix("data: "));
            let start: Value = serde_json::from_str(data.expect("data")).expect("JSON");
            starts.push(start["message"]["usage"]["input_tokens"].as_u64().expect("an integer"));
        }
    }
    assert_eq!(starts[0], before, "nothing was learnt yet");
    assert!(starts.is_sorted_by(|a, b| a >= b) && starts[2] >= reported, "{starts:?}");
    let (_, after) = count(&service, request(&body)).await;
    let after = after["input_tokens"].as_u64().expect("an integer");
    assert!(after < before && after >= reported, "{before} {reported} {after}");
}

use axum::{body::Body as AxumBody, response::Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{super::config::Options, *};

/// The proxy with these options.
fn proxy(args: &[&str]) -> Router {
    let config = Options::of(args).resolve().expect("valid");
    let store = store(&config.sessions).expect("in memory");
    router(&config, &store).expect("there is nothing to be wrong").0
}

async fn ask(router: Router, path: &str, body: Value) -> Value {
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(AxumBody::from(body.to_string())).expect("a request");
    let response: Response = router.oneshot(request).await.expect("infallible");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}

/// A call as a model writes it.
const CALL: &str =
    r#"<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>"#;

fn with_a_tool() -> Value {
    json!({
        "model": "qwen3-coder-plus",
        "messages": [{"role": "user", "content": format!("emulate:say={CALL}")}],
        "tools": [{"type": "function", "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                "required": ["city"]},
        }}],
    })
}

#[tokio::test(start_paused = true)]
async fn a_call_in_the_text_becomes_a_tool_call() {
    let answer = ask(proxy(&["--tools", "openai"]), "/v1/chat/completions", with_a_tool()).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    let call = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "get_weather");
    let arguments = call["arguments"].as_str().expect("a string");
    let arguments: Value = serde_json::from_str(arguments).expect("JSON");
    assert_eq!(arguments, json!({"city": "Paris"}));
}

#[tokio::test(start_paused = true)]
async fn without_a_tool_layer_it_stays_text() {
    let answer = ask(proxy(&["--tools", "off"]), "/v1/chat/completions", with_a_tool()).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "stop", "{answer}");
    assert_eq!(choice["message"]["content"], CALL);
    assert!(choice["message"].get("tool_calls").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_of_the_xml_protocol_gets_one_call() {
    let hello = json!({"model": "qwen3-max", "messages": [
        {"role": "user", "content": "emulate:say=All done."}]});
    for (tools, path) in [
        ("xml", "/v1/chat/completions"),
        ("openai", "/xml/v1/chat/completions"),
        ("off", "/xml/v1/chat/completions"),
    ] {
        let answer = ask(proxy(&["--tools", tools]), path, hello.clone()).await;
        let text = answer["choices"][0]["message"]["content"].as_str().expect("a text");
        assert_eq!(text.matches("<attempt_completion>").count(), 1, "{tools:?}: {text}");
        assert!(text.contains("All done."), "{text}");
    }
    let answer = ask(proxy(&["--tools", "openai"]), "/v1/chat/completions", hello).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "All done.");
}

mod accounts;

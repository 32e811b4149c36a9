//! What a client sees through `OpenAiLayer`: the rows that are about the form of the answer.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt};
use tower_qwen::{
    openai::OpenAiLayer,
    qwen::compatible::{CompatibleLayer, Server},
};

use crate::upstream::{DONE, Upstream, delta, events, finish};

async fn ask(layer: CompatibleLayer, upstream: Upstream, stream: bool) -> (u16, String) {
    let service =
        ServiceBuilder::new().layer(OpenAiLayer::new()).layer(layer).service(upstream.service());
    let body = json!({"model": "alias", "stream": stream, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "x"}]});
    let request =
        Request::post("/v1/chat/completions").body(Full::new(Bytes::from(body.to_string())));
    let response = service.oneshot(request.expect("a request")).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("infallible").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

async fn chunks(text: &str) -> Vec<Value> {
    let (status, text) =
        ask(CompatibleLayer::new(Server::Generic), Upstream::stream(text), true).await;
    assert_eq!(status, 200, "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "[DONE] whether or not upstream sent it");
    assert_eq!(text.matches("data: [DONE]").count(), 1);
    text.split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").expect("a data line"))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect()
}

/// DashScope: the first chunk may contain only the role, or none, or it may come with every chunk;
/// the client gets it once and first. vLLM sends it with empty content, SGLang with nulls,
/// llama.cpp with `content: null`.
#[tokio::test]
async fn role_once_and_first() {
    let role = |mut more: Value| {
        more["role"] = "assistant".into();
        delta(more)
    };
    let nulls = json!({"content": null, "reasoning_content": null, "tool_calls": null,
        "function_call": null, "refusal": null});
    for first in [
        vec![],
        vec![role(json!({}))],
        vec![role(json!({"content": ""}))],
        vec![role(json!({"content": null}))],
        vec![role(nulls)],
        vec![role(json!({})), role(json!({"content": ""}))],
    ] {
        let mut sent = first;
        sent.extend([role(json!({"content": "a"})), role(json!({"content": "b"})), finish("stop")]);
        let chunks = chunks(&(events(&sent) + DONE)).await;
        let roles: Vec<_> =
            chunks.iter().map(|chunk| chunk["choices"][0]["delta"]["role"].is_string()).collect();
        assert_eq!(roles.iter().filter(|role| **role).count(), 1, "{chunks:?}");
        assert!(roles[0], "{chunks:?}");
    }
}

/// DashScope: the model name that is echoed differs from the alias that was asked for. Ids collide
/// (Ollama) or change, `created` changes with every chunk (llama.cpp).
#[tokio::test]
async fn one_id_time_and_model() {
    let chunk = |n: u64, content: &str| {
        json!({"id": format!("chatcmpl-{n}"), "created": n, "model": "upstreams-own",
            "object": "chat.completion.chunk", "system_fingerprint": "fp_ollama",
            "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": null}]})
    };
    let text = events(&[chunk(1, "a"), chunk(2, "b"), finish("stop")]);
    let chunks = chunks(&text).await;
    for chunk in &chunks {
        assert_eq!(chunk["model"], "alias");
        assert_eq!((&chunk["id"], &chunk["created"]), (&chunks[0]["id"], &chunks[0]["created"]));
        assert!(chunk["id"].as_str().expect("an id").len() > "chatcmpl-999".len());
    }
}

/// Self-hosted servers: `reasoning` comes out as `reasoning_content`; there is one finish reason,
/// in a chunk of its own.
#[tokio::test]
async fn reasoning_and_end() {
    let last = json!({"choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": "stop",
        "stop_reason": null, "matched_stop": 151_645}], "timings": {"predicted_ms": 1.5}});
    let text = events(&[delta(json!({"reasoning": "hm"})), delta(json!({"content": "a"})), last]);
    let chunks = chunks(&text).await;
    let deltas: Vec<_> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    assert_eq!(
        deltas,
        [
            &json!({"role": "assistant", "content": ""}),
            &json!({"reasoning_content": "hm"}),
            &json!({"content": "a"}),
            &json!({"content": "b"}),
            &json!({}),
        ]
    );
    assert_eq!(chunks[4]["choices"][0]["finish_reason"], "stop");
}

/// DashScope: calls come with their type, id and name once, `index` on every piece, whatever
/// upstream repeated or left out.
#[tokio::test]
async fn calls_have_the_form_of_openai() {
    let call = |call: Value| delta(json!({"content": null, "tool_calls": [call]}));
    let text = events(&[
        call(
            json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}),
        ),
        call(
            json!({"index": 0, "id": "", "type": null, "function": {"name": "", "arguments": "{}"}}),
        ),
        json!({"choices": [{"finish_reason": "tool_calls", "delta": {}, "index": 0}]}),
    ]);
    let chunks = chunks(&text).await;
    let deltas: Vec<_> = chunks[1..3].iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    assert_eq!(
        deltas,
        [
            &json!({"tool_calls": [{"index": 0, "id": "c1", "type": "function",
                "function": {"name": "f", "arguments": ""}}]}),
            &json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        ]
    );
}

/// Self-hosted servers: numeric codes become strings or nothing, flat errors are wrapped, before
/// the stream and in it; a stream that stops is an error and not an end.
#[tokio::test]
async fn errors_have_the_form_of_openai() {
    let flat = json!({"object": "error", "message": "bad n", "type": "BadRequestError",
        "param": "n", "code": 400});
    let layer = || CompatibleLayer::new(Server::SgLang);
    for stream in [false, true] {
        let (status, body) = ask(layer(), Upstream::json(400, &flat), stream).await;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(status, 400);
        assert_eq!(
            body,
            json!({"error": {"message": "bad n", "type": "invalid_request_error",
                "param": "n", "code": "BadRequestError"}})
        );
    }
    let begun = events(&[delta(json!({"content": "a"}))]);
    for (fault, code) in [
        (
            events(&[
                json!({"error": {"message": "boom", "type": "InternalServerError", "code": 500}}),
            ]) + DONE,
            "upstream_error",
        ),
        // Ollama: one empty chunk with an empty model name, and no more.
        (
            events(&[json!({"id": "", "model": "", "choices": [{"index": 0, "delta": {}}]})]),
            "upstream_stream_error",
        ),
        (
            format!(
                "error: {}\n\n{DONE}",
                json!({"code": 503, "message": "slot", "type": "unavailable_error"})
            ),
            "overloaded",
        ),
    ] {
        let chunks = chunks(&(begun.clone() + &fault)).await;
        let error = &chunks.last().expect("some")["error"];
        assert_eq!(error["code"], code, "{fault}");
        assert!(error["message"].is_string() && error["type"].is_string());
        assert!(chunks.iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null()));
    }
}

/// DashScope: a whole answer whose finish reason is null was cut at 300 s.
#[tokio::test]
async fn partial_text_of_a_whole_answer() {
    let body = json!({"choices": [{"index": 0, "finish_reason": null,
        "message": {"role": "assistant", "content": "half"}}]});
    let layer = CompatibleLayer::new(Server::DashScope);
    let (_, answer) = ask(layer, Upstream::json(200, &body), false).await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["choices"][0]["message"]["content"], "half");
}

/// Self-hosted servers: usage on the finish chunk, on all, or in one of its own, comes once and
/// last.
#[tokio::test]
async fn usage_once_and_last() {
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3});
    let with = |mut chunk: Value| {
        chunk["usage"] = usage.clone();
        chunk
    };
    for sent in [
        vec![with(delta(json!({"content": "a"}))), with(finish("stop"))],
        vec![delta(json!({"content": "a"})), finish("stop"), with(json!({"choices": []}))],
    ] {
        let chunks = chunks(&(events(&sent) + DONE)).await;
        let (last, others) = chunks.split_last().expect("some");
        assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &usage));
        assert!(others.iter().all(|chunk| chunk["usage"].is_null()));
    }
}

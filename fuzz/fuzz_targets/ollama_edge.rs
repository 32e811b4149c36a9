//! The edge for Ollama's clients. Whatever stands in a request, it is refused or makes a history whose
//! results stand right behind their calls. And whatever an upstream says, a reader that forgives
//! nothing takes the stream, whose lines are those that a plain function finds.
//!
//! The first byte says which: the others are the body as it stands, of a chat or of a prompt, a program
//! for a grammar of requests, or a program for the events of an answer.
#![no_main]

#[path = "../../tests/messages/events.rs"]
mod events;
#[path = "../../tests/ollama/reader.rs"]
mod reader;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use bytes::Bytes;
use events::Item;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tower_qwen::{
    Error, FullBody,
    chat::{ChatEvent, ChatRequest, FinishReason, History, Role},
    ollama::{GenerateLayer, OllamaLayer},
};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime")
});

const MESSAGES: [&str; 20] = [
    r#"{"role":"user","content":"x"}"#,
    r#"{"role":"user","content":"","images":["iVBORw0KGgo="]}"#,
    r#"{"role":"user","images":["/9j/4AAQSkZJRg==","R0lGODlhAQAB"]}"#,
    r#"{"role":"user","content":null}"#,
    r#"{"role":"system","content":"s"}"#,
    r#"{"role":"developer","content":"d"}"#,
    r#"{"role":"assistant","content":"a"}"#,
    r#"{"role":"assistant","content":"","thinking":"t"}"#,
    r#"{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}"#,
    r#"{"role":"assistant","tool_calls":[{"id":"i","function":{"name":"f","arguments":{}}},{"id":"","function":{"name":"g"}}]}"#,
    r#"{"role":"assistant","tool_calls":[{"id":"i","function":{"name":"f","arguments":"{}"}},{"id":"i","function":{"name":"f","arguments":""}}]}"#,
    r#"{"role":"assistant","content":"b","tool_calls":[]}"#,
    r#"{"role":"tool","content":"r"}"#,
    r#"{"role":"tool","content":"r","tool_name":"f"}"#,
    r#"{"role":"tool","content":"","tool_name":"g","images":["Qk06AAAA"]}"#,
    r#"{"role":"tool","tool_call_id":"i"}"#,
    r#"{"role":"tool","content":"r","tool_call_id":"ollama_call_0","name":"f"}"#,
    r#"{"role":"function","name":"f","content":"r"}"#,
    r#"{"role":"tool","content":"r","tool_call_id":"j","tool_name":"h"}"#,
    r#"{"role":"user","content":"x","images":["SGVsbG8="]}"#,
];

/// The edge's answer, over a service that gives these.
fn answered(
    generate: bool,
    body: Bytes,
    items: impl FnOnce(ChatRequest) -> Vec<Item> + Send + 'static,
) -> (u16, Bytes) {
    let items = Arc::new(Mutex::new(Some(items)));
    let inner = service_fn(move |request: Request<ChatRequest>| {
        let items = items.lock().expect("not poisoned").take().expect("called once");
        let items = items(request.into_body());
        async { Ok::<_, Error>(Response::new(stream::iter(items))) }
    });
    let request = Request::post("/").body(FullBody::new(body)).expect("a request");
    RUNTIME.block_on(async {
        let (head, body) = match generate {
            true => {
                let Ok(response) = GenerateLayer::new().layer(inner).oneshot(request).await;
                let (head, body) = response.into_parts();
                let Ok(body) = body.collect().await;
                (head, body)
            }
            false => {
                let Ok(response) = OllamaLayer::new().layer(inner).oneshot(request).await;
                let (head, body) = response.into_parts();
                let Ok(body) = body.collect().await;
                (head, body)
            }
        };
        (head.status.as_u16(), body.to_bytes())
    })
}

/// What every layer below may rely on.
fn check(history: &History) {
    let mut open: HashMap<String, usize> = HashMap::new();
    let mut before = None;
    for message in history.iter() {
        if message.role == Role::Tool {
            assert!(matches!(before, Some(Role::Assistant | Role::Tool)), "a result of nothing");
            let id = message.tool_call_id.as_deref().expect("whose result it is");
            let left = open.get_mut(id).expect("a call of the last answer");
            *left = left.checked_sub(1).expect("one result a call");
        } else {
            assert!(open.values().all(|left| *left == 0), "something comes before a result");
            assert!(before != Some(message.role), "neighbours of one role");
            open.clear();
        }
        for call in &message.tool_calls {
            assert_eq!(message.role, Role::Assistant);
            assert!(!call.id.is_empty(), "a call without an id");
            *open.entry(call.id.to_string()).or_default() += 1;
        }
        before = Some(message.role);
    }
}

fn requested(generate: bool, body: Bytes) {
    let seen = Arc::new(Mutex::new(None));
    let items = {
        let seen = Arc::clone(&seen);
        move |request: ChatRequest| {
            *seen.lock().expect("not poisoned") = Some(request);
            vec![Ok(ChatEvent::Text("a".into())), Ok(ChatEvent::Finished(FinishReason::Stop))]
        }
    };
    let (status, answer) = answered(generate, body, items);
    match seen.lock().expect("not poisoned").take() {
        Some(request) => {
            assert_eq!(status, 200);
            check(&request.history);
            if answer.ends_with(b"\n") {
                let stream = core::str::from_utf8(&answer).expect("UTF-8");
                let read = reader::read(stream, generate);
                let read = read.unwrap_or_else(|fault| panic!("{fault}"));
                assert_eq!(read.text, "a");
            }
        }
        // What loads a model is answered at once.
        None => {
            let answer: Value = serde_json::from_slice(&answer).expect("one object");
            let loads = matches!(answer["done_reason"].as_str(), Some("load" | "unload"));
            assert_eq!(status == 200, loads, "{answer}");
            assert!(loads || (400..500).contains(&status) && answer["error"].is_string());
        }
    }
}

fn said(program: &[u8]) {
    let (items, said) = events::answer(program);
    let plain: Vec<_> = items.iter().filter_map(|item| item.as_ref().ok().cloned()).collect();
    const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let (status, body) = answered(false, BODY.into(), |_| items);
    assert_eq!(status, 200);
    let stream = core::str::from_utf8(&body).expect("UTF-8");
    let read = reader::read(stream, false).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(read.pieces, reader::naive(&plain));
    assert_eq!((&read.text, &read.thinking), (&said.text, &said.thinking));
    match said.end.expect("an end") {
        Err(_) => assert!(read.error().is_some()),
        Ok(FinishReason::ToolCalls) => assert_eq!(read.reason(), Some("stop")),
        Ok(reason) => assert_eq!(read.reason(), Some(reason.as_str())),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, program)) = data.split_first() else { return };
    match kind % 4 {
        0 => requested(kind & 128 != 0, Bytes::copy_from_slice(program)),
        1 => said(program),
        _ => {
            let messages: Vec<_> = program
                .iter()
                .take(256)
                .map(|byte| MESSAGES[usize::from(*byte) % MESSAGES.len()])
                .collect();
            let stream = kind & 128 != 0;
            let body = format!(
                r#"{{"model":"m","stream":{stream},"tools":[{{"type":"function","function":{{"name":"f"}}}}],"messages":[{}]}}"#,
                messages.join(",")
            );
            requested(false, body.into());
        }
    }
});

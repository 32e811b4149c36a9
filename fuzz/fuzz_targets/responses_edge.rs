//! The Responses edge. Whatever stands in a request, it is refused or makes a history whose results
//! stand right behind their calls, and every name of a tool comes back as the client's. And whatever
//! an upstream says, a reader that forgives nothing takes the stream, and reads what was said.
//!
//! The first byte says which: the others are the body as it stands, a program for a grammar of
//! requests, or a program for the events of an answer.
#![no_main]

#[path = "../../tests/messages/events.rs"]
mod events;
#[path = "../../tests/responses/reader.rs"]
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
use tokio::runtime::Runtime;
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tower_qwen::{
    Error, FullBody,
    chat::{ChatEvent, ChatRequest, FinishReason, History, Role},
    responses::ResponsesLayer,
};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime")
});

const ITEMS: [&str; 22] = [
    r#"{"role":"user","content":"x"}"#,
    r#"{"role":"user","content":[{"type":"input_text","text":"x"},{"type":"input_text","text":""}]}"#,
    r#"{"role":"user","content":[{"type":"input_image","image_url":"u"},{"type":"input_file","file_data":"d"}]}"#,
    r#"{"role":"developer","content":"d"}"#,
    r#"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a"}]}"#,
    r#"{"type":"function_call","call_id":"a","name":"f","arguments":"{}"}"#,
    r#"{"type":"function_call","call_id":"b","name":"f","namespace":"n","arguments":""}"#,
    r#"{"type":"custom_tool_call","call_id":"c","name":"p","input":"i\n"}"#,
    r#"{"type":"local_shell_call","call_id":"d","action":{"command":["ls"],"timeout_ms":1}}"#,
    r#"{"type":"tool_search_call","call_id":"e","arguments":{"query":"q"}}"#,
    r#"{"type":"function_call_output","call_id":"a","output":"r"}"#,
    r#"{"type":"function_call_output","call_id":"b","output":[{"type":"input_text","text":"r"}]}"#,
    r#"{"type":"custom_tool_call_output","call_id":"c","output":""}"#,
    r#"{"type":"local_shell_call_output","call_id":"d","output":{"o":1}}"#,
    r#"{"type":"tool_search_output","call_id":"e","tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"g"}]}]}"#,
    r#"{"type":"reasoning","summary":[{"type":"summary_text","text":"s"}],"encrypted_content":"tq1.SG0"}"#,
    r#"{"type":"reasoning","summary":[],"encrypted_content":"gAAA"}"#,
    r#"{"type":"additional_tools","tools":[{"type":"custom","name":"p"},{"type":"local_shell"}]}"#,
    r#"{"type":"compaction","encrypted_content":"x"}"#,
    r#"{"type":"new","text":"t","content":[{"type":"new"}]}"#,
    r#"{"type":"web_search_call","action":{}}"#,
    r#"{"role":"system","content":"s"}"#,
];

fn ask(body: Bytes) -> Request<FullBody> {
    Request::post("/v1/responses").body(FullBody::new(body)).expect("a request")
}

/// The edge's answer, over a service that gives these.
fn answered(
    request: Request<FullBody>,
    items: impl FnOnce(ChatRequest) -> Vec<Item> + Send + 'static,
) -> (u16, Bytes) {
    let items = Arc::new(Mutex::new(Some(items)));
    let inner = service_fn(move |request: Request<ChatRequest>| {
        let items = items.lock().expect("not poisoned").take().expect("called once");
        let items = items(request.into_body());
        async { Ok::<_, Error>(Response::new(stream::iter(items))) }
    });
    RUNTIME.block_on(async {
        let Ok(response) = ResponsesLayer::new().layer(inner).oneshot(request).await;
        let status = response.status().as_u16();
        let Ok(body) = response.into_body().collect().await;
        (status, body.to_bytes())
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
            *open.entry(call.id.to_string()).or_default() += 1;
        }
        before = Some(message.role);
    }
}

fn requested(body: Bytes) {
    let seen = Arc::new(Mutex::new(None));
    let items = {
        let seen = Arc::clone(&seen);
        move |request: ChatRequest| {
            // Each tool is called by the name that the model knows.
            let names = request.tools.iter().filter_map(|tool| tool.as_function());
            let mut items = Vec::new();
            for (index, function) in (0..).zip(names.take(32)) {
                let id = format!("call_{index}").into();
                let name = function.name.clone();
                if name.is_empty() {
                    continue;
                }
                items.push(Ok(ChatEvent::ToolCall { index, id, name }));
                items.push(Ok(ChatEvent::ToolArguments { index, json: "{}".into() }));
            }
            items.push(Ok(ChatEvent::Finished(FinishReason::Stop)));
            *seen.lock().expect("not poisoned") = Some(request);
            items
        }
    };
    let (status, answer) = answered(ask(body), items);
    match seen.lock().expect("not poisoned").take() {
        Some(request) => {
            assert_eq!(status, 200);
            check(&request.history);
            if answer.starts_with(b"event: ") {
                let stream = core::str::from_utf8(&answer).expect("UTF-8");
                reader::read(stream).unwrap_or_else(|fault| panic!("{fault}"));
            }
        }
        None => assert!((400..500).contains(&status), "{status}"),
    }
}

fn said(program: &[u8]) {
    let (items, said) = events::answer(program);
    const BODY: &str = r#"{"model":"m","stream":true,"input":"x","reasoning":{"summary":"auto"}}"#;
    let (status, body) = answered(ask(BODY.into()), |_| items);
    assert_eq!(status, 200);
    let stream = core::str::from_utf8(&body).expect("UTF-8");
    let read = reader::read(stream).unwrap_or_else(|fault| panic!("{fault}"));
    if said.end.expect("an end").is_err() {
        assert_eq!(read.last["status"], "failed");
        assert!(said.text.starts_with(&read.text()));
        return;
    }
    assert_eq!(read.text(), said.text);
    assert_eq!(read.thinking(), said.thinking);
    let calls: Vec<_> = read.of("function_call").collect();
    assert_eq!(calls.len(), said.calls.len());
    for (item, (name, json)) in calls.into_iter().zip(&said.calls) {
        assert_eq!(item["name"], name.as_str());
        assert_eq!(item["arguments"].as_str().map(str::trim), Some(json.trim()));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, program)) = data.split_first() else { return };
    match kind % 4 {
        0 => requested(Bytes::copy_from_slice(program)),
        1 => said(program),
        _ => {
            let items: Vec<_> = program
                .iter()
                .take(256)
                .map(|byte| ITEMS[usize::from(*byte) % ITEMS.len()])
                .collect();
            let stream = kind & 128 != 0;
            let body = format!(
                r#"{{"model":"m","stream":{stream},"instructions":"i","tools":[{{"type":"function","name":"f"}},{{"type":"tool_search"}}],"input":[{}]}}"#,
                items.join(",")
            );
            requested(body.into());
        }
    }
});

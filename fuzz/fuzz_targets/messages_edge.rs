//! The Messages edge. Whatever stands in a request, it is refused or makes a history whose results
//! stand right behind their calls, and it takes about four times its size in memory. And whatever
//! an upstream says, a reader that forgives nothing takes the stream, and reads what was said.
//!
//! The first byte says which, the others are the body as it stands, a program for a grammar of
//! requests, or a program for the events of an answer.
#![no_main]

#[path = "../../tests/messages/mod.rs"]
mod messages;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use allocation_counter::measure;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use messages::{
    events::{self, Item},
    reader::{self, End},
};
use tokio::runtime::Runtime;
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tower_qwen::{
    Error, ErrorKind, FullBody,
    anthropic::AnthropicLayer,
    chat::{ChatEvent, ChatRequest, Content, FinishReason, History, Role},
    edge::Limits,
};

/// The largest body that the grammar makes.
const BODY: usize = 128 * 1024;

/// What a message, a block, a call and a tool take at most; see `request_shapes`.
const ITEM: usize = 2 * 1024;
const ITEMS: usize = 256;
const CONSTANT: usize = 1 << 20;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime")
});

const BLOCKS: [&str; 26] = [
    r#"{"type":"text","text":"x"}"#,
    r#"{"type":"text","text":"\n"}"#,
    r#"{"type":"text","text":""}"#,
    r#"{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}"#,
    r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QQ=="}}"#,
    r#"{"type":"image","source":{"type":"url","url":"u"}}"#,
    r#"{"type":"document","title":"t","source":{"type":"text","data":"d"}}"#,
    r#"{"type":"document","source":{"type":"content","content":["#,
    r#"{"type":"search_result","title":"","source":"s","content":["#,
    r#"{"type":"thinking","thinking":"hm","signature":"tq1.A"}"#,
    r#"{"type":"thinking","thinking":"","signature":"tq1h.aG0"}"#,
    r#"{"type":"redacted_thinking","data":"x"}"#,
    r#"{"type":"tool_use","id":"a","name":"f","input":{"a":1}}"#,
    r#"{"type":"tool_use","id":"b","name":"f\n","input":[]}"#,
    r#"{"type":"tool_use","id":"c","name":"g","input":""}"#,
    r#"{"type":"tool_result","tool_use_id":"a","content":"r"}"#,
    r#"{"type":"tool_result","tool_use_id":"b","is_error":true,"content":""}"#,
    r#"{"type":"tool_result","tool_use_id":"c"}"#,
    r#"{"type":"tool_result","tool_use_id":"a","content":["#,
    r#"{"type":"tool_result","tool_use_id":"b","is_error":true,"content":["#,
    r#"{"type":"tool_reference","tool_name":"f"}"#,
    r#"{"type":"server_tool_use","id":"s","name":"web_search","input":{}}"#,
    r#"{"type":"tool_addition","tool":{"name":"h","input_schema":{"a":[0,0,0]}}}"#,
    r#"{"type":"tool_removal","name":"h"}"#,
    r#"{"type":"new","content":"c"}"#,
    r#"{"type":"new","text":[[[0]]],"content":{"a":0}}"#,
];

/// A request that grows as the program says.
struct Grammar<'a> {
    program: &'a [u8],
    body: String,
}

impl Grammar<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.program.split_first() else { return 0 };
        self.program = rest;
        *first
    }

    /// What `write` writes, as often as the program says and as there is room for.
    fn list(&mut self, write: impl FnOnce(&mut Self)) {
        let before = std::mem::take(&mut self.body);
        write(self);
        let unit = std::mem::replace(&mut self.body, before);
        let room = BODY.saturating_sub(self.body.len()) / (unit.len() + 1);
        // Mostly once, or nearly all would be more than is allowed.
        let count = 1_usize << (self.next() % 48).saturating_sub(36);
        let count = count.min(room.max(1));
        for at in 0..count {
            self.body.push_str(if at > 0 { "," } else { "" });
            self.body.push_str(&unit);
        }
    }

    fn blocks(&mut self, depth: u8) {
        for at in 0..1 + self.next() % 4 {
            self.body.push_str(if at > 0 { "," } else { "" });
            let block = BLOCKS[usize::from(self.next()) % BLOCKS.len()];
            if !block.ends_with('[') {
                self.body.push_str(block);
                continue;
            }
            self.body.push_str(block);
            if depth < 10 {
                self.list(|own| own.blocks(depth + 1));
            }
            self.body.push_str(if block.contains(r#""source":{"#) { "]}}" } else { "]}" });
        }
    }

    fn content(&mut self) {
        match self.next() % 4 {
            0 => self.body.push_str(r#""x""#),
            1 => self.body.push_str(r#""""#),
            _ => {
                self.body.push('[');
                self.list(|own| own.blocks(0));
                self.body.push(']');
            }
        }
    }

    fn message(&mut self) {
        let role = ["user", "assistant", "system"][usize::from(self.next()) % 3];
        self.body.push_str(&format!(r#"{{"role":"{role}","content":"#));
        self.content();
        self.body.push('}');
    }

    fn request(&mut self) {
        self.body.push_str(r#"{"model":"m","max_tokens":9,"system":"#);
        self.content();
        self.body.push_str(r#","messages":["#);
        for at in 0..1 + self.next() % 6 {
            self.body.push_str(if at > 0 { "," } else { "" });
            self.list(Self::message);
        }
        self.body.push(']');
        if self.next() % 2 == 0 {
            self.body.push_str(r#","tools":["#);
            self.list(|own| own.body.push_str(r#"{"name":"f","input_schema":{"a":{}}}"#));
            self.body.push(']');
        }
        self.body.push('}');
    }
}

fn ask(body: Bytes) -> Request<FullBody> {
    Request::post("/v1/messages").body(FullBody::new(body)).expect("a request")
}

/// The edge's answer, over a service that gives these.
fn answered(
    request: Request<FullBody>,
    items: impl FnOnce(ChatRequest) -> Vec<Item> + Send + 'static,
    keeps_marks: bool,
) -> (u16, Bytes) {
    let mut limits = Limits::new();
    limits.messages = ITEMS;
    limits.parts = ITEMS;
    limits.calls = ITEMS;
    limits.tools = ITEMS;
    limits.stops = ITEMS;
    let items = Arc::new(Mutex::new(Some(items)));
    let inner = service_fn(move |request: Request<ChatRequest>| {
        let items = items.lock().expect("not poisoned").take().expect("called once");
        let items = items(request.into_body());
        async { Ok::<_, Error>(Response::new(stream::iter(items))) }
    });
    let edge = AnthropicLayer::new().limits(limits).cache_control(keeps_marks);
    RUNTIME.block_on(async {
        let Ok(response) = edge.layer(inner).oneshot(request).await;
        let status = response.status().as_u16();
        let Ok(body) = response.into_body().collect().await;
        (status, body.to_bytes())
    })
}

/// What every layer below may rely on.
fn check(history: &History) {
    /// How many results each call of the last answer still lacks.
    type Open = HashMap<String, usize>;
    let mut open = Open::new();
    let mut before = None;
    let messages: Vec<_> = history.iter().collect();
    for (at, message) in messages.iter().enumerate() {
        match &message.content {
            None => {}
            Some(Content::Text(text)) => {
                assert!(!text.is_empty() || message.role == Role::Tool, "an empty text");
            }
            Some(Content::Parts(parts)) => {
                assert!(
                    parts.iter().all(|part| part.as_text().is_none_or(|text| !text.is_empty()))
                );
            }
            Some(other) => panic!("{other:?}"),
        }
        if message.role == Role::Tool {
            assert!(matches!(before, Some(Role::Assistant | Role::Tool)), "a result of nothing");
            let id = message.tool_call_id.as_deref().expect("whose result it is");
            let left = open.get_mut(id).expect("a call of the last answer");
            *left = left.checked_sub(1).expect("one result a call");
        } else {
            let is_open = open.values().any(|left| *left > 0);
            assert!(!is_open, "message {at} comes before a result");
            assert!(before != Some(message.role), "neighbours of one role");
            open.clear();
        }
        assert!(message.tool_calls.is_empty() || message.role == Role::Assistant);
        for call in &message.tool_calls {
            assert!(call.arguments.starts_with('{'), "{}", call.arguments);
            *open.entry(call.id.to_string()).or_default() += 1;
        }
        before = Some(message.role);
    }
    // Calls at the very end wait for their results; where there are some, there are all.
    assert!(before != Some(Role::Tool) || open.values().all(|left| *left == 0));
}

fn requested(body: Bytes, keeps_marks: bool) {
    let seen = Arc::new(Mutex::new(None));
    let items = {
        let seen = Arc::clone(&seen);
        move |request: ChatRequest| {
            *seen.lock().expect("not poisoned") = Some(request);
            vec![Ok(ChatEvent::Text("x".into())), Ok(ChatEvent::Finished(FinishReason::Stop))]
        }
    };
    let mut status = 0;
    let request = ask(body.clone());
    let info = measure(|| (status, _) = answered(request, items, keeps_marks));
    let most = 4 * body.len() + 5 * ITEMS * ITEM + CONSTANT;
    assert!(
        info.bytes_max <= most as u64,
        "{} bytes for {} of {:.200}, more than {most}",
        info.bytes_max,
        body.len(),
        String::from_utf8_lossy(&body),
    );
    match seen.lock().expect("not poisoned").take() {
        Some(request) => {
            assert_eq!(status, 200);
            check(&request.history);
        }
        None => assert!(status == 200 || (400..500).contains(&status), "{status}"),
    }
}

fn said(program: &[u8]) {
    let (items, said) = events::answer(program);
    const BODY: &str =
        r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    let (status, body) = answered(ask(BODY.into()), |_| items, false);
    assert_eq!(status, 200);
    let stream = core::str::from_utf8(&body).expect("UTF-8");
    let message = reader::read(stream).unwrap_or_else(|fault| panic!("{fault}"));
    match (said.end.expect("an end"), message.end.as_ref().expect("an end")) {
        (Ok(_) | Err(ErrorKind::ContentFilter), End::Stopped { .. }) => {
            assert_eq!(message.text(), said.text);
            assert_eq!(message.thinking(), said.thinking);
            let calls = message.calls();
            assert_eq!(calls.len(), said.calls.len());
            for (at, (sent, own)) in calls.iter().zip(&said.calls).enumerate() {
                let is_cut = said.is_cut && at + 1 == calls.len();
                let nothing = is_cut && own.1.trim().is_empty() && sent.1 == "{}";
                assert!(sent.0 == own.0 && (nothing || sent.1.trim() == own.1.trim()));
            }
        }
        (Err(_), End::Failed { .. }) => {
            assert!(said.text.starts_with(&message.text()));
            assert!(said.thinking.starts_with(&message.thinking()));
        }
        (end, sent) => panic!("{end:?} was told as {sent:?}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, program)) = data.split_first() else { return };
    match kind % 4 {
        0 => requested(Bytes::copy_from_slice(program), kind & 128 != 0),
        1 => said(program),
        _ => {
            let mut grammar = Grammar { program, body: String::new() };
            grammar.request();
            if grammar.body.len() <= 2 * BODY {
                requested(Bytes::from(grammar.body), kind & 128 != 0);
            }
        }
    }
});

//! An answer, as the events of a response.

use std::{fmt, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use super::Kept;
use crate::{
    compatible::{
        Dialect, Seed,
        error::Fault,
        said::{Delta, NativeCall},
        wire::{Ended, Spent},
    },
    completion::number_of_tokens,
    json::{Value, json},
    state::Shared,
};

/// Of how many tokens on what was kept is cached.
const CACHED_FROM: u64 = 1_024;

/// Writes the events of an answer, and keeps it.
pub(crate) struct Answer {
    shared: Arc<Shared>,
    id: String,
    model: String,
    previous: Option<String>,
    created: u64,
    store: bool,
    /// The messages that it is the answer to.
    messages: Vec<Value>,
    prompt_tokens: u64,
    cached_tokens: u64,
    /// Counts are all zero.
    pub(in crate::compatible) zero_usage: bool,
    /// Only the last event says something.
    pub(in crate::compatible) only_last: bool,
    seed: Seed,
    sequence: u64,
    open: Option<Open>,
    output: Vec<Value>,
}

/// The item that is being written.
struct Open {
    kind: Kind,
    id: String,
    text: String,
}

enum Kind {
    Reasoning,
    Message,
    Call(NativeCall),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Answer {
    /// The answer to `messages`, of which `kept` were there before.
    pub(super) fn new(
        shared: &Arc<Shared>,
        seed: &mut Seed,
        model: String,
        messages: &[Value],
        kept: usize,
        caches: bool,
    ) -> Self {
        let tokens = |messages: &[Value]| {
            let length = |message: &Value| message.to_string().len();
            number_of_tokens(messages.iter().map(length).sum())
        };
        let before = tokens(&messages[..kept]);
        Self {
            id: seed.uuid(),
            model,
            previous: None,
            created: shared.clock.unix_seconds(),
            store: true,
            messages: messages.to_vec(),
            prompt_tokens: tokens(messages),
            cached_tokens: if caches && before >= CACHED_FROM { before } else { 0 },
            zero_usage: false,
            only_last: false,
            seed: *seed,
            sequence: 0,
            open: None,
            output: Vec::new(),
            shared: Arc::clone(shared),
        }
    }

    pub(super) fn storing(self, store: bool) -> Self {
        Self { store, ..self }
    }

    pub(super) fn behind(self, previous: Option<&str>) -> Self {
        Self { previous: previous.map(str::to_owned), ..self }
    }

    fn event(&mut self, out: &mut BytesMut, kind: &str, mut fields: Value) {
        fields["type"] = kind.into();
        fields["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        out.put_slice(format!("event: {kind}\ndata: {fields}\n\n").as_bytes());
    }

    /// An event of the open item, unless nothing is said before the end.
    fn item_event(&mut self, out: &mut BytesMut, kind: &str, mut fields: Value) {
        if self.only_last {
            return;
        }
        fields["output_index"] = (self.output.len() as u64).into();
        if let Some(open) = &self.open
            && !kind.starts_with("response.output_item")
        {
            fields["item_id"] = open.id.as_str().into();
        }
        self.event(out, kind, fields);
    }

    fn response(&self, status: &str, usage: Option<Value>, error: Value) -> Value {
        let incomplete = match status {
            "incomplete" => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status,
            "error": error, "incomplete_details": incomplete, "model": self.model,
            "previous_response_id": self.previous, "parallel_tool_calls": false, "tools": [],
            "tool_choice": "auto", "store": self.store, "output": self.output, "usage": usage,
        })
    }

    /// The first events.
    pub(in crate::compatible) fn open(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        for kind in ["response.created", "response.in_progress"] {
            let response = self.response("in_progress", None, Value::Null);
            self.event(&mut out, kind, json!({"response": response}));
        }
        out.freeze()
    }

    /// The events of a piece.
    pub(in crate::compatible) fn delta(&mut self, delta: &Delta<'_>) -> Bytes {
        let mut out = BytesMut::new();
        match *delta {
            Delta::Reasoning(piece, _) => {
                if !matches!(self.open.as_ref().map(|open| &open.kind), Some(Kind::Reasoning)) {
                    self.begin(&mut out, Kind::Reasoning);
                }
                let fields = json!({"summary_index": 0, "delta": piece});
                self.piece(&mut out, piece, "response.reasoning_summary_text.delta", fields);
            }
            Delta::Text(piece, _) => {
                if !matches!(self.open.as_ref().map(|open| &open.kind), Some(Kind::Message)) {
                    self.begin(&mut out, Kind::Message);
                }
                let fields = json!({"content_index": 0, "delta": piece, "logprobs": []});
                self.piece(&mut out, piece, "response.output_text.delta", fields);
            }
            Delta::Call(_, call) => self.begin(&mut out, Kind::Call(call.clone())),
            Delta::Arguments { piece, .. } => {
                let fields = json!({"delta": piece});
                self.piece(&mut out, piece, "response.function_call_arguments.delta", fields);
            }
        }
        out.freeze()
    }

    fn piece(&mut self, out: &mut BytesMut, piece: &str, kind: &str, fields: Value) {
        if let Some(open) = &mut self.open {
            open.text.push_str(piece);
        }
        self.item_event(out, kind, fields);
    }

    fn begin(&mut self, out: &mut BytesMut, kind: Kind) {
        self.end_item(out);
        let prefix = match kind {
            Kind::Reasoning => "rs",
            Kind::Message => "msg",
            Kind::Call(_) => "fc",
        };
        let id = format!("{prefix}_{}", self.seed.hex(24));
        let open = Open { kind, id, text: String::new() };
        let item = item(&open, "in_progress");
        self.open = Some(open);
        self.item_event(out, "response.output_item.added", json!({"item": item}));
        let part = match self.open.as_ref().map(|open| &open.kind) {
            Some(Kind::Reasoning) => Some((
                "response.reasoning_summary_part.added",
                json!({"summary_index": 0, "part": {"type": "summary_text", "text": ""}}),
            )),
            Some(Kind::Message) => Some((
                "response.content_part.added",
                json!({"content_index": 0, "part": {
                    "type": "output_text", "text": "", "annotations": [],
                }}),
            )),
            _ => None,
        };
        if let Some((kind, fields)) = part {
            self.item_event(out, kind, fields);
        }
    }

    fn end_item(&mut self, out: &mut BytesMut) {
        let Some(open) = &self.open else { return };
        let text = open.text.clone();
        let item = item(open, "completed");
        let done = match open.kind {
            Kind::Reasoning => {
                ("response.reasoning_summary_text.done", json!({"summary_index": 0, "text": text}))
            }
            Kind::Message => {
                ("response.output_text.done", json!({"content_index": 0, "text": text}))
            }
            Kind::Call(_) => ("response.function_call_arguments.done", json!({"arguments": text})),
        };
        self.item_event(out, done.0, done.1);
        self.item_event(out, "response.output_item.done", json!({"item": item.clone()}));
        self.open = None;
        self.output.push(item);
    }

    /// The last events; the answer is kept.
    pub(in crate::compatible) fn close(&mut self, ended: Ended<'_>, spent: Spent) -> Bytes {
        let mut out = BytesMut::new();
        self.end_item(&mut out);
        let (status, kind) = match ended {
            Ended::Length => ("incomplete", "response.incomplete"),
            Ended::Stopped(_) | Ended::Called => ("completed", "response.completed"),
        };
        let usage = self.usage(spent);
        let response = self.response(status, Some(usage), Value::Null);
        self.keep();
        self.event(&mut out, kind, json!({"response": response}));
        out.freeze()
    }

    /// The whole answer in one piece.
    pub(in crate::compatible) fn whole(
        mut self,
        reasoning: &str,
        text: &str,
        calls: &[NativeCall],
        ended: Option<Ended<'_>>,
        spent: Spent,
    ) -> Value {
        let mut out = BytesMut::new();
        for (kind, text) in [(Kind::Reasoning, reasoning), (Kind::Message, text)] {
            if !text.is_empty() {
                self.begin(&mut out, kind);
                self.piece(&mut out, text, "", json!({}));
            }
        }
        for call in calls {
            self.begin(&mut out, Kind::Call(call.clone()));
            self.piece(&mut out, &call.arguments, "", json!({}));
        }
        self.end_item(&mut out);
        let status = match ended {
            Some(Ended::Length) => "incomplete",
            _ => "completed",
        };
        let usage = self.usage(spent);
        self.keep();
        self.response(status, Some(usage), Value::Null)
    }

    /// The event of a fault.
    pub(in crate::compatible) fn error(&mut self, fault: &Fault, dialect: Dialect) -> Bytes {
        let mut out = BytesMut::new();
        let response = self.response("failed", None, fault.object(dialect));
        self.event(&mut out, "response.failed", json!({"response": response}));
        out.freeze()
    }

    fn usage(&self, spent: Spent) -> Value {
        let (prompt, said) = (self.prompt_tokens, spent.text + spent.reasoning);
        let or_zero = |count: u64| if self.zero_usage { 0 } else { count };
        json!({
            "input_tokens": or_zero(prompt), "output_tokens": or_zero(said),
            "total_tokens": or_zero(prompt + said),
            "input_tokens_details": {"cached_tokens": or_zero(self.cached_tokens)},
            "output_tokens_details": {"reasoning_tokens": or_zero(spent.reasoning)},
            "x_details": [{"x_billing_type": "response_api"}],
        })
    }

    fn keep(&self) {
        if !self.store {
            return;
        }
        let mut message = json!({"role": "assistant", "content": null});
        let mut calls: Vec<Value> = Vec::new();
        for item in &self.output {
            match item["type"].as_str() {
                Some("message") => message["content"] = item["content"][0]["text"].clone(),
                Some("function_call") => calls.push(json!({
                    "id": item["call_id"], "type": "function",
                    "function": {"name": item["name"], "arguments": item["arguments"]},
                })),
                _ => {}
            }
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        } else if message["content"].is_null() {
            message["content"] = "".into();
        }
        let mut messages = self.messages.clone();
        messages.push(message);
        let at = self.shared.clock.now();
        self.shared.lock().responses.keep(Kept { id: self.id.clone(), messages, at });
    }
}

/// An item, as far as it is there.
fn item(open: &Open, status: &str) -> Value {
    let Open { kind, id, text } = open;
    match kind {
        Kind::Reasoning if text.is_empty() => json!({"type": "reasoning", "id": id, "summary": []}),
        Kind::Reasoning => json!({
            "type": "reasoning", "id": id, "summary": [{"type": "summary_text", "text": text}],
        }),
        Kind::Message if text.is_empty() => json!({
            "type": "message", "id": id, "status": status, "role": "assistant", "content": [],
        }),
        Kind::Message => json!({
            "type": "message", "id": id, "status": status, "role": "assistant",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }),
        Kind::Call(call) => json!({
            "type": "function_call", "id": id, "status": status, "call_id": call.id,
            "name": call.name, "arguments": text,
        }),
    }
}

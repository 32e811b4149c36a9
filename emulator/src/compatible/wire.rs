//! The chunks of a stream, as each server writes them.

use crate::json::{Map, Value, json};
use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Dialect, Seed,
    error::Fault,
    request::{Ask, Form},
    responses,
    said::{Delta, NativeCall},
};
use crate::{
    clock::Clock, completion::number_of_tokens, directive::Directives, kind::Kind, state::Shared,
};

/// What an answer took so far, in tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub(super) reasoning: u64,
    pub(super) text: u64,
}

/// Under which name thinking is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Reasoning,
    ReasoningContent,
    /// Both, with the same text.
    Both,
}

/// Who the chunks of an answer speak of, and how they are written.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) dialect: Dialect,
    clock: Clock,
    id: String,
    /// The model as the server calls it.
    model: String,
    created: u64,
    form: Form,
    field: Field,
    include_usage: bool,
    continuous_usage: bool,
    prompt_tokens: u64,
    pub(super) limit: Option<usize>,
    /// Whether calls were demanded, which some servers forget to say at the end.
    demanded: bool,
    crlf: bool,
    cumulative: bool,
    repeats: bool,
    at_zero: bool,
    pub(super) late_names: bool,
    /// The finish reason that was asked for: a word, or none at all.
    finish: Option<Option<String>>,
    no_done: bool,
    no_role: bool,
    /// Whether chunks tell what DashScope's own search found.
    searched: bool,
    /// What writes the answer in place of chunks, where the request was for a response.
    pub(super) response: Option<Box<responses::Answer>>,
}

impl Wire {
    pub(super) fn new(
        shared: &Shared,
        dialect: Dialect,
        ask: &Ask,
        directives: &Directives,
        seed: &mut Seed,
    ) -> Self {
        let (include_usage, continuous_usage) = ask.usage(dialect);
        let field = match directives.argument("reasoning") {
            Some("reasoning") => Field::Reasoning,
            Some("reasoning_content") => Field::ReasoningContent,
            Some("both") => Field::Both,
            // vLLM's was `reasoning_content`, Ollama's never.
            _ if dialect.is(Kind::Ollama) || (dialect.is(Kind::Vllm) && !dialect.old) => {
                Field::Reasoning
            }
            _ => Field::ReasoningContent,
        };
        Self {
            dialect,
            clock: shared.clock,
            id: id(dialect, ask.form, seed),
            model: echoed(dialect, &ask.model),
            created: shared.clock.unix_seconds(),
            form: ask.form,
            field,
            include_usage: include_usage && !directives.has("no_usage"),
            continuous_usage: continuous_usage && !directives.has("no_usage"),
            prompt_tokens: number_of_tokens(ask.characters()),
            limit: ask.limit(),
            demanded: ask.demands_calls(),
            crlf: directives.has("crlf"),
            cumulative: directives.has("cumulative"),
            repeats: directives.has("repeat_names"),
            at_zero: directives.has("calls_at_zero"),
            late_names: false,
            finish: if directives.has("no_finish") {
                Some(None)
            } else {
                directives.argument("finish").map(|word| Some(word.to_owned()))
            },
            no_done: directives.has("no_done"),
            no_role: directives.has("no_role"),
            searched: dialect.is(Kind::DashScope) && ask.wants_sources(),
            response: None,
        }
    }

    /// The same for an answer that is a response.
    pub(super) fn responding(
        mut self,
        answer: Option<responses::Answer>,
        directives: &Directives,
    ) -> Self {
        self.response = answer.map(|mut answer| {
            answer.zero_usage = directives.has("no_usage");
            answer.only_last = directives.has("only_last");
            Box::new(answer)
        });
        self
    }

    /// Whether nothing marks the end, as in llama.cpp's own API.
    pub(super) fn is_without_done(&self) -> bool {
        self.no_done || self.response.is_some() || self.form == Form::Infill
    }

    /// Whether a call comes in one piece.
    pub(super) fn sends_whole_calls(&self) -> bool {
        self.dialect.is(Kind::Ollama)
    }

    /// One event with this data.
    pub(super) fn event(&self, data: &[u8]) -> Bytes {
        self.named("data", data)
    }

    fn named(&self, name: &str, data: &[u8]) -> Bytes {
        let newline: &[u8] = if self.crlf { b"\r\n" } else { b"\n" };
        let mut event = BytesMut::with_capacity(name.len() + data.len() + 6);
        event.put_slice(name.as_bytes());
        event.put_slice(b": ");
        event.put_slice(data);
        event.put_slice(newline);
        event.put_slice(newline);
        event.freeze()
    }

    fn value(&self, value: &Value) -> Bytes {
        self.event(value.to_string().as_bytes())
    }

    /// The keep-alive of llama.cpp is a bare comment; the others have none.
    pub(super) fn keep_alive(&self) -> Option<Bytes> {
        self.dialect.is(Kind::LlamaCpp).then(|| Bytes::from_static(b":\n\n"))
    }

    /// The first chunk, where there is one before the text.
    pub(super) fn open(&mut self) -> Option<Bytes> {
        if let Some(response) = &mut self.response {
            return Some(response.open());
        }
        if self.form != Form::Chat || self.no_role {
            return None;
        }
        let delta = match self.dialect.kind {
            Kind::Vllm => json!({"role": "assistant", "content": ""}),
            Kind::SgLang => sglang(json!({"role": "assistant", "content": ""})),
            // Ollama: the role stands in every chunk, beside the text.
            Kind::Ollama => return None,
            Kind::LlamaCpp => json!({"role": "assistant", "content": null}),
            // DashScope: only the role.
            Kind::DashScope if self.dialect.old => json!({"role": "assistant"}),
            Kind::DashScope => json!({"content": "", "role": "assistant"}),
            Kind::Portal | Kind::Web => json!({"role": "assistant", "content": ""}),
        };
        Some(self.chunk(delta, Spent::default()))
    }

    /// The chunk of one piece.
    pub(super) fn delta(&mut self, delta: &Delta<'_>, spent: Spent) -> Bytes {
        if let Some(response) = &mut self.response {
            return response.delta(delta);
        }
        let text = |piece, so_far| if self.cumulative { so_far } else { piece };
        let delta = match *delta {
            Delta::Text(piece, so_far) => {
                let text = text(piece, so_far);
                match self.form {
                    Form::Chat => self.content(text),
                    Form::Text => return self.text_chunk(text, None),
                    Form::Infill => return self.value(&self.infilled(text, None, spent)),
                }
            }
            Delta::Reasoning(piece, so_far) => self.thought(text(piece, so_far)),
            Delta::Call(at, call) => self.call(at, call),
            Delta::Arguments { at, call, piece, last } => self.arguments(at, call, piece, last),
        };
        self.chunk(delta, spent)
    }

    fn content(&self, text: &str) -> Value {
        match self.dialect.kind {
            Kind::SgLang => sglang(json!({"content": text})),
            Kind::Ollama => json!({"role": "assistant", "content": text}),
            Kind::DashScope => json!({"content": text, "reasoning_content": null}),
            _ => json!({"content": text}),
        }
    }

    fn thought(&self, thought: &str) -> Value {
        let mut delta = match self.dialect.kind {
            Kind::SgLang => sglang(json!({})),
            Kind::Ollama => json!({"role": "assistant", "content": ""}),
            Kind::DashScope => json!({"content": null}),
            _ => json!({}),
        };
        if self.field != Field::Reasoning {
            delta["reasoning_content"] = thought.into();
        }
        if self.field != Field::ReasoningContent {
            delta["reasoning"] = thought.into();
        }
        delta
    }

    fn index(&self, at: usize) -> usize {
        if self.at_zero { 0 } else { at }
    }

    /// The first delta of a call.
    fn call(&self, at: usize, call: &NativeCall) -> Value {
        let index = self.index(at);
        let NativeCall { id, name, arguments } = call;
        let name = if self.late_names { "" } else { name };
        match self.dialect.kind {
            Kind::Vllm => json!({"tool_calls": [{
                "id": id, "type": "function", "index": index, "function": {"name": name},
            }]}),
            Kind::SgLang => sglang(json!({"tool_calls": [{
                "id": id, "index": index, "type": "function",
                "function": {"name": name, "arguments": ""},
            }]})),
            Kind::Ollama => json!({"role": "assistant", "content": "", "tool_calls": [{
                "id": id, "index": index, "type": "function",
                "function": {"name": name, "arguments": arguments},
            }]}),
            // DashScope: explicit nulls, also in place of the arguments.
            Kind::DashScope => json!({
                "content": null, "role": null, "function_call": null, "refusal": null,
                "tool_calls": [{
                    "function": {"name": name, "arguments": null}, "index": index, "id": id,
                    "type": "function",
                }],
            }),
            _ => json!({"tool_calls": [{
                "index": index, "id": id, "type": "function",
                "function": {"name": name, "arguments": ""},
            }]}),
        }
    }

    /// A later delta of a call.
    fn arguments(&self, at: usize, call: &NativeCall, piece: &str, last: bool) -> Value {
        let index = self.index(at);
        if self.repeats || (last && self.late_names) {
            return json!({"tool_calls": [{
                "index": index, "id": call.id, "type": "function",
                "function": {"name": call.name, "arguments": piece},
            }]});
        }
        match self.dialect.kind {
            Kind::SgLang => sglang(json!({"tool_calls": [{
                "id": null, "index": index, "type": "function",
                "function": {"name": null, "arguments": piece},
            }]})),
            // DashScope: an id and a name that are empty or null.
            Kind::DashScope => {
                let none = if self.dialect.old { json!("") } else { Value::Null };
                json!({"tool_calls": [{
                    "function": {"name": none, "arguments": piece}, "index": index, "id": none,
                    "type": "function",
                }]})
            }
            _ => json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}),
        }
    }

    /// Why the answer ended, as this server says it.
    fn reason(&self, ended: Ended<'_>) -> &'static str {
        match ended {
            Ended::Length => "length",
            // vLLM says `stop` behind a call that was demanded, Ollama said so behind any.
            Ended::Called if self.dialect.is(Kind::Vllm) && self.demanded => "stop",
            Ended::Called if self.dialect.is(Kind::Ollama) && self.dialect.old => "stop",
            Ended::Called => "tool_calls",
            Ended::Stopped(_) => "stop",
        }
    }

    /// The last chunks of an answer.
    pub(super) fn close(&mut self, ended: Ended<'_>, spent: Spent) -> Vec<Bytes> {
        if let Some(response) = &mut self.response {
            return vec![response.close(ended, spent)];
        }
        let mut events = Vec::new();
        if self.form == Form::Infill {
            return vec![self.value(&self.infilled("", Some(ended), spent))];
        }
        let reason = match &self.finish {
            Some(finish) => finish.as_deref(),
            None => Some(self.reason(ended)),
        };
        if let Some(reason) = reason {
            if self.form == Form::Text {
                events.push(self.text_chunk("", Some(reason)));
            } else {
                events.push(self.finish_chunk(reason, ended, spent));
            }
        }
        // Before late 2025 llama.cpp put the usage on the finish chunk.
        let apart = !(self.dialect.is(Kind::LlamaCpp) && self.dialect.old);
        if self.include_usage && apart {
            let mut chunk = self.envelope(Vec::new(), Some(self.usage(spent)));
            if self.dialect.is(Kind::LlamaCpp) {
                chunk["timings"] = self.timings(spent);
            }
            events.push(self.value(&chunk));
        }
        events
    }

    fn finish_chunk(&self, reason: &str, ended: Ended<'_>, spent: Spent) -> Bytes {
        let stop = match ended {
            Ended::Stopped(Some(stop)) => Value::from(stop),
            _ => Value::Null,
        };
        let choice = match self.dialect.kind {
            // vLLM and SGLang: an extra field of its own.
            Kind::Vllm => json!({
                "index": 0, "delta": {"content": ""}, "logprobs": null, "finish_reason": reason,
                "stop_reason": stop,
            }),
            Kind::SgLang => json!({
                "index": 0, "delta": sglang(json!({})), "logprobs": null, "finish_reason": reason,
                "matched_stop": matched_stop(ended),
            }),
            // DashScope: the key order of its own, and hardly a field.
            Kind::DashScope if reason == "tool_calls" => {
                json!({"finish_reason": reason, "delta": {}, "index": 0})
            }
            Kind::DashScope => json!({
                "finish_reason": reason, "delta": {"content": ""}, "index": 0, "logprobs": null,
            }),
            Kind::LlamaCpp => json!({"finish_reason": reason, "index": 0, "delta": {}}),
            _ => json!({"index": 0, "delta": {}, "finish_reason": reason}),
        };
        let usage = (self.continuous_usage
            || (self.dialect.is(Kind::LlamaCpp) && self.dialect.old))
            .then(|| self.usage(spent));
        let mut chunk = self.envelope(vec![choice], usage);
        // Always; on the usage chunk where there is one.
        if self.dialect.is(Kind::LlamaCpp) && (self.dialect.old || !self.include_usage) {
            chunk["timings"] = self.timings(spent);
        }
        self.value(&chunk)
    }

    /// The events of a fault in the stream, and of its end.
    pub(super) fn error(&mut self, fault: &Fault, bare: bool) -> Vec<Bytes> {
        if let Some(response) = &mut self.response {
            return vec![response.error(fault, self.dialect)];
        }
        let done = || self.event(b"[DONE]");
        let object = if bare { "Internal error!".into() } else { fault.object(self.dialect) };
        let wrapped = json!({"error": object});
        match self.dialect.kind {
            // Wrapped, also where a refusal is flat.
            Kind::Vllm | Kind::SgLang => vec![self.value(&wrapped), done()],
            // Ollama: no error, no finish, no `[DONE]`; an empty chunk without a model.
            Kind::Ollama => {
                let choice = json!({"index": 0, "delta": {}, "finish_reason": self.unfinished()});
                let mut chunk = self.envelope(vec![choice], None);
                chunk["model"] = "".into();
                vec![self.value(&chunk)]
            }
            // llama.cpp: before September 2025 in a field of its own.
            Kind::LlamaCpp if self.dialect.old => {
                vec![self.named("error", fault.object(self.dialect).to_string().as_bytes()), done()]
            }
            // DashScope: sometimes in the native shape.
            Kind::DashScope if fault.native && !bare => {
                vec![self.value(&fault.body(self.dialect, &self.id))]
            }
            _ => vec![self.value(&wrapped)],
        }
    }

    /// A chunk of the text API.
    fn text_chunk(&self, text: &str, reason: Option<&str>) -> Bytes {
        let choice = json!({"text": text, "index": 0, "logprobs": null, "finish_reason": reason});
        // Ollama puts a usage of zeros on each.
        let zeros = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
        let usage = self.dialect.is(Kind::Ollama).then_some(zeros);
        self.value(&self.envelope(vec![choice], usage))
    }

    /// An answer of llama.cpp's own API, or a piece of one.
    fn infilled(&self, text: &str, ended: Option<Ended<'_>>, spent: Spent) -> Value {
        let mut answer = json!({
            "index": 0, "content": text, "tokens": [], "id_slot": 0, "stop": ended.is_some(),
            "tokens_predicted": spent.text, "tokens_evaluated": self.prompt_tokens,
        });
        if let Some(ended) = ended {
            answer["model"] = self.model.as_str().into();
            answer["truncated"] = false.into();
            answer["stop_type"] = match ended {
                Ended::Length => "limit",
                Ended::Stopped(Some(_)) => "word",
                _ => "eos",
            }
            .into();
            answer["stopping_word"] = match ended {
                Ended::Stopped(Some(word)) => word.into(),
                _ => "".into(),
            };
            answer["timings"] = self.timings(spent);
        }
        answer
    }

    /// What stands for the finish reason of a chunk in the middle; `None` where nothing does.
    fn unfinished(&self) -> Option<Value> {
        match self.dialect.kind {
            // vLLM: missing in one version of 2025.
            Kind::Vllm if self.dialect.old => None,
            Kind::SgLang | Kind::Ollama if self.dialect.old => Some("".into()),
            // DashScope: the word, in some gateways.
            Kind::DashScope if self.dialect.old => Some("null".into()),
            _ => Some(Value::Null),
        }
    }

    fn chunk(&self, delta: Value, spent: Spent) -> Bytes {
        let mut choice = Map::new();
        match self.dialect.kind {
            Kind::LlamaCpp => {
                choice.insert("finish_reason".into(), Value::Null);
                choice.insert("index".into(), 0.into());
                choice.insert("delta".into(), delta);
            }
            Kind::DashScope => {
                choice.insert("delta".into(), delta);
                choice.insert("index".into(), 0.into());
                choice.insert("logprobs".into(), Value::Null);
            }
            kind => {
                choice.insert("index".into(), 0.into());
                choice.insert("delta".into(), delta);
                if matches!(kind, Kind::Vllm | Kind::SgLang) {
                    choice.insert("logprobs".into(), Value::Null);
                }
            }
        }
        if let Some(unfinished) = self.unfinished() {
            choice.insert("finish_reason".into(), unfinished);
        }
        if self.dialect.is(Kind::SgLang) {
            choice.insert("matched_stop".into(), Value::Null);
        }
        let usage = self.continuous_usage.then(|| self.usage(spent));
        self.value(&self.envelope(vec![choice.into()], usage))
    }

    /// A chunk around `choices`.
    fn envelope(&self, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let Self { id, model, created, .. } = self;
        let object = match self.form {
            Form::Chat => "chat.completion.chunk",
            _ => "text_completion",
        };
        let mut chunk = match self.dialect.kind {
            Kind::Ollama => json!({
                "id": id, "object": object, "created": created, "model": model,
                "system_fingerprint": "fp_ollama", "choices": choices,
            }),
            // The time is that of the chunk.
            Kind::LlamaCpp => json!({
                "choices": choices, "created": self.clock.unix_seconds(), "id": id, "model": model,
                "system_fingerprint": "b6900-emulated", "object": object,
            }),
            Kind::DashScope => {
                let mut chunk = json!({
                    "choices": choices, "object": object, "usage": usage, "created": created,
                    "system_fingerprint": null, "model": model, "id": id,
                });
                // Each chunk repeats it.
                if self.searched {
                    chunk["search_info"] = json!({"search_results": [
                        {"index": 1, "site_name": "example.org", "icon": "", "title": "An example",
                            "url": "https://example.org/a"},
                        {"index": 2, "site_name": "example.org", "icon": "", "title": "Another",
                            "url": "https://example.org/b"},
                    ]});
                }
                return chunk;
            }
            Kind::SgLang => {
                return json!({
                    "id": id, "object": object, "created": created, "model": model,
                    "choices": choices, "usage": usage,
                });
            }
            _ => json!({
                "id": id, "object": object, "created": created, "model": model, "choices": choices,
            }),
        };
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        chunk
    }

    /// The counts.
    fn usage(&self, spent: Spent) -> Value {
        let (prompt, completion) = (self.prompt_tokens, spent.text + spent.reasoning);
        let mut usage = json!({
            "prompt_tokens": prompt, "total_tokens": prompt + completion,
            "completion_tokens": completion,
        });
        match self.dialect.kind {
            Kind::Vllm => usage["prompt_tokens_details"] = Value::Null,
            Kind::SgLang => {
                usage["prompt_tokens_details"] = Value::Null;
                if !self.dialect.old {
                    usage["reasoning_tokens"] = spent.reasoning.into();
                }
            }
            Kind::DashScope => {
                usage["completion_tokens_details"] = json!({"reasoning_tokens": spent.reasoning});
                usage["prompt_tokens_details"] = json!({"cached_tokens": 0});
            }
            Kind::Portal => {
                usage["completion_tokens_details"] = json!({"reasoning_tokens": spent.reasoning});
                usage["prompt_tokens_details"] = json!({
                    "cached_tokens": 0, "cache_creation_input_tokens": 0,
                    "cache_type": "ephemeral",
                    "cache_creation": {"ephemeral_5m_input_tokens": 0},
                });
            }
            _ => {}
        }
        usage
    }

    fn timings(&self, spent: Spent) -> Value {
        json!({
            "cache_n": 0, "prompt_n": self.prompt_tokens, "prompt_ms": 20.5,
            "predicted_n": spent.text + spent.reasoning, "predicted_ms": 40.25,
        })
    }

    /// An answer that is not streamed; the reason is null where it was cut.
    pub(super) fn whole(
        &mut self,
        reasoning: &str,
        text: &str,
        calls: &[NativeCall],
        ended: Option<Ended<'_>>,
        spent: Spent,
    ) -> Value {
        if let Some(response) = self.response.take() {
            return response.whole(reasoning, text, calls, ended, spent);
        }
        if self.form == Form::Infill {
            return self.infilled(text, ended.or(Some(Ended::Length)), spent);
        }
        let reason = match &self.finish {
            Some(finish) => finish.as_deref(),
            None => ended.map(|ended| self.reason(ended)),
        };
        let choice = if self.form == Form::Text {
            json!({"text": text, "index": 0, "logprobs": null, "finish_reason": reason})
        } else {
            let message = self.message(reasoning, text, calls);
            let mut choice = json!({
                "index": 0, "message": message, "logprobs": null, "finish_reason": reason,
            });
            match (self.dialect.kind, ended) {
                (Kind::Vllm, ended) => {
                    choice["stop_reason"] = match ended {
                        Some(Ended::Stopped(Some(stop))) => stop.into(),
                        _ => Value::Null,
                    };
                }
                (Kind::SgLang, Some(ended)) => choice["matched_stop"] = matched_stop(ended),
                _ => {}
            }
            choice
        };
        let mut answer = self.envelope(vec![choice], Some(self.usage(spent)));
        if self.form == Form::Chat {
            answer["object"] = "chat.completion".into();
        }
        if self.dialect.is(Kind::LlamaCpp) {
            answer["timings"] = self.timings(spent);
        }
        answer
    }

    fn message(&self, reasoning: &str, text: &str, calls: &[NativeCall]) -> Value {
        let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
        let mut message = json!({"role": "assistant", "content": content});
        // Null where the server has the field and nothing for it.
        let nulls = matches!(self.dialect.kind, Kind::Vllm | Kind::SgLang);
        let thought = if reasoning.is_empty() { Value::Null } else { reasoning.into() };
        if nulls || !reasoning.is_empty() {
            if self.field != Field::Reasoning {
                message["reasoning_content"] = thought.clone();
            }
            if self.field != Field::ReasoningContent {
                message["reasoning"] = thought;
            }
        }
        let calls: Vec<Value> = calls
            .iter()
            .enumerate()
            .map(|(at, NativeCall { id, name, arguments })| {
                let index = self.index(at);
                json!({
                    "id": id, "index": index, "type": "function",
                    "function": {"name": name, "arguments": arguments},
                })
            })
            .collect();
        match self.dialect.kind {
            Kind::Vllm => message["tool_calls"] = calls.into(),
            Kind::SgLang if calls.is_empty() => message["tool_calls"] = Value::Null,
            _ if calls.is_empty() => {}
            _ => message["tool_calls"] = calls.into(),
        }
        message
    }
}

/// Why the model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended<'a> {
    /// At this stop string, or by itself.
    Stopped(Option<&'a str>),
    Called,
    Length,
}

/// A delta with every field of SGLang's, null where there is nothing.
fn sglang(fields: Value) -> Value {
    let mut delta =
        json!({"role": null, "content": null, "reasoning_content": null, "tool_calls": null});
    if let Value::Object(fields) = fields {
        for (key, value) in fields {
            delta[key.as_str()] = value;
        }
    }
    delta
}

/// What SGLang stopped at: the number of a token, or a string.
fn matched_stop(ended: Ended<'_>) -> Value {
    match ended {
        Ended::Stopped(Some(stop)) => stop.into(),
        Ended::Length => Value::Null,
        Ended::Stopped(None) | Ended::Called => 151_645.into(),
    }
}

/// The id of an answer.
fn id(dialect: Dialect, form: Form, seed: &mut Seed) -> String {
    let prefix = if form == Form::Chat { "chatcmpl" } else { "cmpl" };
    match dialect.kind {
        Kind::SgLang => seed.hex(32),
        // These collide.
        Kind::Ollama => format!("{prefix}-{}", seed.next() % 999),
        Kind::DashScope | Kind::Portal => format!("{prefix}-{}", seed.uuid()),
        _ => format!("{prefix}-{}", seed.hex(32)),
    }
}

/// DashScope: the name that comes back is not the one that was asked for.
fn echoed(dialect: Dialect, model: &str) -> String {
    match (dialect.kind, model) {
        (Kind::DashScope, "qwen-plus") => "qwen-plus-2025-12-01".to_owned(),
        (Kind::Portal, "coder-model") if dialect.old => "qwen3-coder-plus".to_owned(),
        (Kind::Portal, "coder-model") => "qwen3.6-plus".to_owned(),
        _ => model.to_owned(),
    }
}

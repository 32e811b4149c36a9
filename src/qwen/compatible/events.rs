//! The chunks of an OpenAI-compatible stream, and what is wrong with them.

use std::{borrow::Cow, collections::VecDeque};

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Server, error::Fault, think::ThinkSplitter};
use crate::{
    Error, ErrorKind,
    chat::{ChatEvent, FinishReason, Text, Usage},
    json::Str,
};

/// How much of a call's arguments may wait for its name, in bytes. Servers send the name first;
/// those that do not send it with the next delta.
const NAMELESS_LEN: usize = 64 * 1024;

/// Turns the data of events into [`ChatEvent`]s and repairs what these servers get wrong
/// (qwen-wire.md B9, C1, C2).
#[derive(Debug)]
pub(super) struct Translator {
    server: Server,
    think: ThinkSplitter,
    calls: Vec<Call>,
    /// How many calls were announced.
    announced: u32,
    usage: Option<Usage>,
    finish: Option<FinishReason>,
    done: bool,
    ready: VecDeque<ChatEvent>,
}

/// A call as the upstream counts it.
#[derive(Debug)]
struct Call {
    upstream_index: u64,
    id: Option<Text>,
    /// Our index, once it was announced; until then the arguments wait. A call that is never
    /// named leaves no gap.
    announced: Option<u32>,
    waiting: String,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    usage: Option<WireUsage>,
    // Present in an error, wherever it stands.
    error: Option<Value>,
    object: Option<Str<'a>>,
    message: Option<Value>,
    code: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    // A server that ignores `stream` sends this one.
    message: Option<Delta<'a>>,
    finish_reason: Option<Str<'a>>,
    index: Option<u64>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<Str<'a>>,
    reasoning_content: Option<Str<'a>>,
    reasoning: Option<Str<'a>>,
    refusal: Option<Str<'a>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<CallDelta<'a>>>,
    function_call: Option<FunctionDelta<'a>>,
}

#[derive(Deserialize)]
struct CallDelta<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    id: Option<Str<'a>>,
    function: Option<FunctionDelta<'a>>,
}

#[derive(Deserialize)]
struct FunctionDelta<'a> {
    #[serde(borrow)]
    name: Option<Str<'a>>,
    arguments: Option<Value>,
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

impl Translator {
    pub(super) fn new(server: Server, think: ThinkSplitter) -> Self {
        Self {
            server,
            think,
            calls: Vec::new(),
            announced: 0,
            usage: None,
            finish: None,
            done: false,
            ready: VecDeque::new(),
        }
    }

    /// The next event that is ready.
    pub(super) fn pop(&mut self) -> Option<ChatEvent> {
        self.ready.pop_front()
    }

    /// Whether something is ready that the client will see.
    pub(super) fn has_content(&self) -> bool {
        self.ready.iter().any(ChatEvent::is_content)
    }

    /// Whether the stream said `[DONE]`.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the data of one event.
    pub(super) fn event(&mut self, data: &Text) -> Result<(), Error> {
        let json = data.trim();
        if json.starts_with("[DONE]") {
            self.done = true;
            return Ok(());
        }
        if json.is_empty() {
            return Ok(());
        }
        let chunk: Chunk<'_> = serde_json::from_str(json).map_err(|error| {
            Error::new(ErrorKind::Upstream, "the upstream sent an event that is not a chunk")
                .with_source(error)
        })?;
        self.chunk(data, chunk)
    }

    /// Takes a whole answer, from a server that sent one although it was asked to stream.
    pub(super) fn whole(&mut self, body: &Text) -> Result<(), Error> {
        self.event(body)?;
        self.done = true;
        Ok(())
    }

    /// The stream is over: closes what is open.
    ///
    /// A server that says `[DONE]` has said that the answer is complete, whether or not it
    /// remembered to say why; one that says neither has broken off.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        let Self { think, ready, .. } = self;
        think.finish(|event| ready.push_back(event));
        if self.finish.is_none() {
            let said_anything = !self.calls.is_empty() || !self.ready.is_empty();
            if !self.done {
                return Err(Error::new(
                    ErrorKind::Truncated,
                    "the upstream's stream ended without a finish reason and without [DONE]",
                ));
            }
            tracing::debug!(said_anything, "the upstream sent no finish reason");
            self.finished(FinishReason::Stop);
        }
        if let Some(usage) = self.usage.take() {
            self.ready.push_back(ChatEvent::Usage(usage));
        }
        Ok(())
    }

    fn chunk(&mut self, data: &Text, chunk: Chunk<'_>) -> Result<(), Error> {
        if let Some(error) = self.fault(&chunk, data) {
            return Err(error);
        }
        if let Some(usage) = chunk.usage {
            self.usage = Some(counts(&usage));
        }
        for choice in chunk.choices.into_iter().flatten() {
            // One answer was asked for.
            if choice.index.unwrap_or(0) != 0 || self.finish.is_some() {
                continue;
            }
            if let Some(delta) = choice.delta.or(choice.message) {
                self.delta(data, delta);
            }
            if let Some(reason) = choice.finish_reason.and_then(|word| finish_reason(&word.0)) {
                let Self { think, ready, .. } = self;
                think.finish(|event| ready.push_back(event));
                self.finished(reason);
            }
        }
        Ok(())
    }

    /// The error that an event holds, in its own field, flat, or in place of the answer.
    fn fault(&self, chunk: &Chunk<'_>, data: &Text) -> Option<Error> {
        let flat = chunk.choices.is_none()
            && chunk.usage.is_none()
            && (chunk.object.as_ref().is_some_and(|object| object.0 == "error")
                || chunk.message.is_some()
                || chunk.code.is_some());
        if !flat && chunk.error.as_ref().is_none_or(|error| error.is_null()) {
            return None;
        }
        let whole: Value = serde_json::from_str(data.trim()).ok()?;
        let fault = Fault::from_json(&whole).unwrap_or_default();
        let status = fault.status().unwrap_or(http::StatusCode::BAD_GATEWAY);
        Some(fault.into_error(status, None, self.server))
    }

    fn delta(&mut self, data: &Text, delta: Delta<'_>) {
        // Some servers send both names with the same text (C2).
        let reasoning = non_empty(delta.reasoning_content).or(non_empty(delta.reasoning));
        if let Some(reasoning) = reasoning {
            self.ready.push_back(ChatEvent::Reasoning(text(data, reasoning)));
        }
        for content in [delta.content, delta.refusal].into_iter().filter_map(non_empty) {
            let Self { think, ready, .. } = self;
            think.push(text(data, content), |event| ready.push_back(event));
        }
        for call in delta.tool_calls.into_iter().flatten() {
            self.call(data, call);
        }
        if let Some(function) = delta.function_call {
            self.call(data, CallDelta { index: Some(0), id: None, function: Some(function) });
        }
    }

    fn call(&mut self, data: &Text, delta: CallDelta<'_>) {
        let id = non_empty(delta.id).map(|id| text(data, id));
        let place = self.place(delta.index, id.as_ref());
        let call = &mut self.calls[place];
        if call.id.is_none() {
            call.id = id;
        }
        let Some(function) = delta.function else { return };
        // After the first delta names are empty, null, or repeated (C1).
        if let Some(name) = non_empty(function.name)
            && call.announced.is_none()
        {
            let index = self.announced;
            self.announced += 1;
            call.announced = Some(index);
            let id = call.id.clone().unwrap_or_else(|| {
                tracing::debug!("the upstream sent a call without an id");
                format!("call_{}", Uuid::new_v4().simple()).into()
            });
            self.ready.push_back(ChatEvent::ToolCall { index, id, name: text(data, name) });
            if !call.waiting.is_empty() {
                let json = std::mem::take(&mut call.waiting).into();
                self.ready.push_back(ChatEvent::ToolArguments { index, json });
            }
        }
        let json = match function.arguments {
            None | Some(Value::Null) => return,
            Some(Value::String(json)) => json,
            // Not a string, but what the string would have held.
            Some(other) => other.to_string(),
        };
        if let Some(index) = call.announced {
            if !json.is_empty() {
                self.ready.push_back(ChatEvent::ToolArguments { index, json: json.into() });
            }
        } else if call.waiting.len() + json.len() <= NAMELESS_LEN {
            call.waiting.push_str(&json);
        }
    }

    /// The call that a delta belongs to. The index decides, except where an id that is new comes
    /// with an index that is taken: then the server does not count (C2).
    fn place(&mut self, index: Option<u64>, id: Option<&Text>) -> usize {
        let known = match (index, id) {
            (Some(index), id) => self.calls.iter().rposition(|call| {
                call.upstream_index == index
                    && (id.is_none() || call.id.is_none() || call.id.as_ref() == id)
            }),
            (None, Some(id)) => self.calls.iter().position(|call| call.id.as_ref() == Some(id)),
            (None, None) => self.calls.len().checked_sub(1),
        };
        known.unwrap_or_else(|| {
            self.calls.push(Call {
                upstream_index: index.unwrap_or(self.calls.len() as u64),
                id: None,
                announced: None,
                waiting: String::new(),
            });
            self.calls.len() - 1
        })
    }

    fn finished(&mut self, reason: FinishReason) {
        let called = self.announced > 0;
        let reason = if called && reason == FinishReason::Stop {
            FinishReason::ToolCalls
        } else if !called && reason == FinishReason::ToolCalls {
            // A call that was never named cannot be answered.
            FinishReason::Stop
        } else {
            reason
        };
        self.finish = Some(reason);
        self.ready.push_back(ChatEvent::Finished(reason));
    }
}

fn non_empty(text: Option<Str<'_>>) -> Option<Str<'_>> {
    text.filter(|text| !text.0.is_empty())
}

fn text(data: &Text, text: Str<'_>) -> Text {
    match text.0 {
        Cow::Borrowed(text) => data.slice_ref(text),
        Cow::Owned(text) => text.into(),
    }
}

/// `None` where the word means that the answer goes on: `""` and `"null"` occur (C1, C2).
fn finish_reason(word: &str) -> Option<FinishReason> {
    Some(match word {
        "" | "null" => return None,
        "length" | "max_tokens" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        "stop" => FinishReason::Stop,
        other => {
            tracing::debug!(word = other, "an unknown finish reason is taken for `stop`");
            FinishReason::Stop
        }
    })
}

fn counts(wire: &WireUsage) -> Usage {
    let mut usage =
        Usage::new(wire.prompt_tokens.unwrap_or(0), wire.completion_tokens.unwrap_or(0));
    usage.total_tokens = wire.total_tokens.unwrap_or(usage.total_tokens);
    usage.cached_tokens = wire.prompt_tokens_details.as_ref().and_then(|d| d.cached_tokens);
    usage.reasoning_tokens =
        wire.completion_tokens_details.as_ref().and_then(|d| d.reasoning_tokens);
    usage
}

//! A request, as one for chat completions.

use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, not_found};
use crate::{
    compatible::{
        Seed,
        error::Fault,
        given,
        request::{object, text},
    },
    json::{Map, Value, json},
    state::Shared,
};

/// Fields that mean the same there.
const SAME: [&str; 5] = ["model", "stream", "parallel_tool_calls", "temperature", "top_p"];

/// Reads `POST /responses`: the body of the same request to `/chat/completions`, and what will write
/// the answer. `caches` tells whether what was kept is cached.
pub(in crate::compatible) fn read(
    shared: &Arc<Shared>,
    body: &Bytes,
    caches: bool,
    seed: &mut Seed,
) -> Result<(Bytes, Answer), Fault> {
    let body = object(body)?;
    let model = text(&body, "model")?;
    let previous = given(&body, "previous_response_id").and_then(Value::as_str);
    if previous.is_some() && given(&body, "conversation").is_some() {
        let message = "conversation and previous_response_id cannot be used together";
        return Err(Fault::bad(Some("conversation"), message));
    }
    let mut messages = match previous {
        None => Vec::new(),
        Some(id) => {
            let now = shared.clock.now();
            let state = shared.lock();
            let kept = state.responses.get(id, now).ok_or_else(|| not_found(id))?;
            kept.messages.clone()
        }
    };
    let kept = messages.len();
    let mut history = History { waiting: waiting(&messages), messages: &mut messages };
    if let Some(instructions) = given(&body, "instructions").and_then(Value::as_str) {
        // They are for this answer alone; of what is kept the emulator makes no difference.
        history.message("system", instructions.into())?;
    }
    match &body["input"] {
        Value::String(text) => history.message("user", text.as_str().into())?,
        Value::Array(items) => items.iter().try_for_each(|item| history.item(item))?,
        _ => return Err(Fault::bad(Some("input"), "input must be a string or a list of items")),
    }
    if let Some(id) = history.waiting.first() {
        return Err(no_output(id));
    }

    let mut chat = Map::new();
    for name in SAME {
        if let Some(value) = given(&body, name) {
            chat.insert(name.into(), value.clone());
        }
    }
    chat.insert("messages".into(), messages.clone().into());
    chat.insert("stream_options".into(), json!({"include_usage": true}));
    if let Some(limit) = given(&body, "max_output_tokens") {
        chat.insert("max_tokens".into(), limit.clone());
    }
    if let Some(tools) = given(&body, "tools").and_then(Value::as_array) {
        let functions = tools.iter().filter(|tool| tool["type"] == "function").map(|tool| {
            json!({"type": "function", "function": {
                "name": tool["name"], "description": tool["description"],
                "parameters": tool["parameters"],
            }})
        });
        let functions: Vec<Value> = functions.collect();
        if !functions.is_empty() {
            chat.insert("tools".into(), functions.into());
        }
    }
    if let Some(choice) = given(&body, "tool_choice") {
        let choice = match choice["name"].as_str() {
            Some(name) => json!({"type": "function", "function": {"name": name}}),
            None => choice.clone(),
        };
        chat.insert("tool_choice".into(), choice);
    }
    match body["reasoning"]["effort"].as_str() {
        None => {}
        Some("none") => chat.insert("enable_thinking".into(), false.into()),
        Some("minimal" | "low" | "medium" | "high") => {
            chat.insert("enable_thinking".into(), true.into());
        }
        Some(word) => {
            let message =
                format!("reasoning.effort `{word}` is not one of none, minimal, low, medium, high");
            return Err(Fault::bad(Some("reasoning.effort"), message));
        }
    }
    let answer = Answer::new(shared, seed, model, &messages, kept, caches)
        .storing(body["store"] != false)
        .behind(previous);
    Ok((Bytes::from(Value::from(chat).to_string().into_bytes()), answer))
}

/// The calls of the last message that have no result yet.
fn waiting(messages: &[Value]) -> Vec<String> {
    let calls = messages.last().map(|message| &message["tool_calls"]);
    let calls = calls.and_then(Value::as_array).into_iter().flatten();
    calls.filter_map(|call| Some(call["id"].as_str()?.to_owned())).collect()
}

fn no_output(id: &str) -> Fault {
    Fault::bad(Some("input"), format!("No tool output found for function call {id}."))
}

/// The messages so far.
struct History<'a> {
    messages: &'a mut Vec<Value>,
    /// The calls whose results must come next.
    waiting: Vec<String>,
}

impl History<'_> {
    fn item(&mut self, item: &Value) -> Result<(), Fault> {
        let kind = item["type"].as_str().unwrap_or("message");
        match kind {
            "message" => {
                let role = item["role"].as_str().unwrap_or_default();
                self.message(role, content(&item["content"])?)
            }
            "reasoning" => match &item["summary"] {
                Value::Array(_) => Ok(()),
                _ => Err(Fault::bad(
                    Some("input"),
                    "summary is required and must be a list for reasoning",
                )),
            },
            "function_call" => {
                self.ready()?;
                let id = text(item, "call_id")?;
                let function = json!({"name": item["name"], "arguments": item["arguments"]});
                let call = json!({"id": id, "type": "function", "function": function});
                self.waiting.push(id);
                match self.messages.last_mut() {
                    Some(last) if last["role"] == "assistant" && last["tool_calls"].is_null() => {
                        last["tool_calls"] = vec![call].into();
                    }
                    _ => self.messages.push(json!({
                        "role": "assistant", "content": null, "tool_calls": vec![call],
                    })),
                }
                Ok(())
            }
            "function_call_output" => {
                let id = text(item, "call_id")?;
                let Some(place) = self.waiting.iter().position(|waiting| *waiting == id) else {
                    let message = format!("No tool call found for function call output {id}.");
                    return Err(Fault::bad(Some("input"), message));
                };
                self.waiting.remove(place);
                let output = content(&item["output"])?;
                self.messages.push(json!({"role": "tool", "tool_call_id": id, "content": output}));
                Ok(())
            }
            other => Err(Fault::bad(Some("input"), format!("unknown item of type {other}"))),
        }
    }

    fn message(&mut self, role: &str, content: Value) -> Result<(), Fault> {
        self.ready()?;
        match role {
            "user" | "assistant" => {}
            "system" | "developer" if self.messages.is_empty() => {}
            "system" | "developer" => {
                let message = "System message must be at the beginning.";
                return Err(Fault::bad(Some("input"), message));
            }
            _ => return Err(Fault::bad(Some("input"), "unknown role")),
        }
        self.messages.push(json!({"role": role, "content": content}));
        Ok(())
    }

    /// The result of a call comes right behind it.
    fn ready(&self) -> Result<(), Fault> {
        self.waiting.first().map_or(Ok(()), |id| Err(no_output(id)))
    }
}

/// The content of a message, in the form of chat completions.
fn content(content: &Value) -> Result<Value, Fault> {
    let parts = match content {
        Value::String(_) => return Ok(content.clone()),
        Value::Array(parts) => parts,
        _ => return Err(Fault::bad(Some("input"), "content is text or parts")),
    };
    let part = |part: &Value| {
        Ok(match part["type"].as_str() {
            Some("input_text" | "output_text" | "text") => {
                json!({"type": "text", "text": part["text"]})
            }
            Some("input_image") => {
                json!({"type": "image_url", "image_url": {"url": part["image_url"]}})
            }
            Some("input_file") => json!({"type": "file", "file": {"file_data": part["file_data"]}}),
            _ => return Err(Fault::bad(Some("input"), "unknown part of content")),
        })
    };
    parts.iter().map(part).collect::<Result<Vec<Value>, Fault>>().map(Value::from)
}

//! A reader of Ollama's streams that forgives nothing, and a second way to say what a stream must
//! be: slow, plain, and nothing like the writer.

use serde_json::{Map, Value, json};
use tower_qwen::chat::{ChatEvent, FinishReason};

/// What a stream said.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) text: String,
    pub(crate) thinking: String,
    /// The calls, as they stand in the lines.
    pub(crate) calls: Vec<Value>,
    /// The lines that say nothing, but for the last.
    pub(crate) signs_of_life: usize,
    /// What each line but the last says.
    pub(crate) pieces: Vec<Value>,
    /// The last line.
    pub(crate) last: Value,
}

impl Read {
    pub(crate) fn reason(&self) -> Option<&str> {
        self.last["done_reason"].as_str()
    }

    pub(crate) fn error(&self) -> Option<&str> {
        self.last["error"].as_str()
    }
}

macro_rules! ensure {
    ($right:expr, $($told:tt)*) => {
        if !$right {
            return Err(format!($($told)*));
        }
    };
}

fn keys(object: &Map<String, Value>) -> Vec<&str> {
    let mut keys: Vec<_> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Whether `time` is one of RFC 3339, in UTC.
fn is_time(time: &str) -> bool {
    let pattern = "0000-00-00T00:00:00";
    let fits = |(own, wanted): (char, char)| match wanted {
        '0' => own.is_ascii_digit(),
        other => own == other,
    };
    time.len() > pattern.len()
        && time.chars().zip(pattern.chars()).all(fits)
        && time[pattern.len()..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit()) == "Z"
}

/// Reads a whole stream of `/api/chat`, or of `/api/generate`.
pub(crate) fn read(stream: &str, generate: bool) -> Result<Read, String> {
    ensure!(stream.ends_with('\n'), "the last line does not end");
    let mut read = Read::default();
    let mut head: Option<(Value, Value)> = None;
    let mut is_over = false;
    for line in stream.split_terminator('\n') {
        ensure!(!is_over, "a line behind the last: {line}");
        let is_end = |c| matches!(c, '\r' | '\u{85}' | '\u{2028}' | '\u{2029}') || c < ' ';
        ensure!(!line.contains(is_end), "what some take for the end of a line: {line:?}");
        let value: Value = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
        let Value::Object(object) = &value else { return Err(format!("no object: {line}")) };
        if object.contains_key("error") {
            ensure!(keys(object) == ["error"], "more than an error: {line}");
            ensure!(value["error"].as_str().is_some_and(|error| !error.is_empty()), "{line}");
            is_over = true;
            read.last = value;
            continue;
        }
        let own = (value["model"].clone(), value["created_at"].clone());
        ensure!(own.1.as_str().is_some_and(is_time), "no time: {line}");
        ensure!(head.get_or_insert_with(|| own.clone()) == &own, "another head: {line}");
        let done = value["done"].as_bool().ok_or_else(|| format!("no `done`: {line}"))?;
        let said = message(&value, generate).map_err(|fault| format!("{fault}: {line}"))?;
        if done {
            ensure!(said == json!({}), "the last line says something: {line}");
            end(object, generate).map_err(|fault| format!("{fault}: {line}"))?;
            is_over = true;
            read.last = value;
            continue;
        }
        let held = if generate { "response" } else { "message" };
        let fields = keys(object);
        let allowed = ["created_at", "done", held, "model", "thinking"];
        ensure!(fields.iter().all(|field| allowed.contains(field)), "fields: {line}");
        read.text.push_str(said["text"].as_str().unwrap_or_default());
        read.thinking.push_str(said["thinking"].as_str().unwrap_or_default());
        read.calls.extend(said["calls"].as_array().into_iter().flatten().cloned());
        read.signs_of_life += usize::from(said == json!({}));
        read.pieces.push(said);
    }
    ensure!(is_over, "no last line");
    Ok(read)
}

/// What a line says: `text`, `thinking` and `calls`, each where there is any.
fn message(line: &Value, generate: bool) -> Result<Value, String> {
    let (content, thinking, calls) = if generate {
        (&line["response"], line.get("thinking"), None)
    } else {
        let message = line["message"].as_object().ok_or("no message")?;
        ensure!(message.get("role") == Some(&json!("assistant")), "no role");
        let allowed = ["content", "role", "thinking", "tool_calls"];
        ensure!(keys(message).iter().all(|key| allowed.contains(key)), "fields of the message");
        let content = message.get("content").ok_or("no content")?;
        (content, message.get("thinking"), message.get("tool_calls"))
    };
    let content = content.as_str().ok_or("the content is no string")?;
    let mut said = json!({});
    if !content.is_empty() {
        said["text"] = json!(content);
    }
    if let Some(thinking) = thinking {
        ensure!(thinking.as_str().is_some_and(|text| !text.is_empty()), "empty thinking");
        said["thinking"] = thinking.clone();
    }
    if let Some(calls) = calls {
        let list = calls.as_array().filter(|list| !list.is_empty()).ok_or("no calls in a list")?;
        for call in list {
            ensure!(call["id"].as_str().is_some_and(|id| !id.is_empty()), "no id");
            ensure!(call["function"]["name"].is_string(), "no name");
            ensure!(call["function"]["arguments"].is_object(), "the arguments are no object");
        }
        said["calls"] = calls.clone();
    }
    Ok(said)
}

/// Whether the last line has what it must have.
pub(crate) fn end(line: &Map<String, Value>, generate: bool) -> Result<(), String> {
    let reason = line.get("done_reason").and_then(Value::as_str).ok_or("no reason")?;
    let known = ["stop", "length", "content_filter"];
    ensure!(known.contains(&reason), "`{reason}`");
    for field in ["total_duration", "prompt_eval_duration", "eval_duration"] {
        ensure!(line.get(field).is_some_and(Value::is_u64), "no {field}");
    }
    ensure!(line.get("load_duration") == Some(&json!(0)), "it was loaded");
    ensure!(line.contains_key("prompt_eval_count") == line.contains_key("eval_count"), "a count");
    ensure!(line.contains_key("response") == generate, "another API");
    Ok(())
}

/// What the lines of an answer of these events say, found anew after each of them.
pub(crate) fn naive(events: &[ChatEvent]) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut told = 0;
    for (at, event) in events.iter().enumerate() {
        match event {
            ChatEvent::Text(text) => lines.push(json!({"text": text.as_str()})),
            ChatEvent::Attachment(image) => lines.push(json!({"text": image.markdown()})),
            ChatEvent::Reasoning(text) => lines.push(json!({"thinking": text.as_str()})),
            _ => {}
        }
        let begun: Vec<_> = events[..=at]
            .iter()
            .filter_map(|event| match event {
                ChatEvent::ToolCall { id, name, .. } => Some((id.to_string(), name.to_string())),
                _ => None,
            })
            .collect();
        let arguments = |call: usize| -> Option<Value> {
            let pieces = events[..=at].iter().filter_map(|event| match event {
                ChatEvent::ToolArguments { index, json } if *index as usize == call => {
                    Some(&**json)
                }
                _ => None,
            });
            let text: String = pieces.collect();
            serde_json::from_str(&text).ok()
        };
        let (last, is_over) = match event {
            ChatEvent::Finished(FinishReason::Length | FinishReason::ContentFilter) => {
                (begun.len().saturating_sub(1), true)
            }
            ChatEvent::Finished(_) => (begun.len(), true),
            _ => (begun.len().saturating_sub(1), false),
        };
        while told < last {
            let Some(arguments) = arguments(told).or(is_over.then(|| json!({}))) else { break };
            let (id, name) = &begun[told];
            let call = json!({"id": id, "function": {"name": name, "arguments": arguments}});
            lines.push(json!({"calls": [call]}));
            told += 1;
        }
    }
    lines
}

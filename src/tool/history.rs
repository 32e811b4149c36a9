//! The calls and results of a history, as text.
//!
//! Assistant messages get their calls behind their own text, in the [`Dialect`] that the prompt
//! asks for, and results become user messages. Both are what the model
//! sees of its own past, so both are written as its template writes them, and reading a rendered
//! call gives back the same name and the same arguments.
//!
//! ```
//! use tower_qwen::{
//!     chat::ToolCall,
//!     tool::{Dialect, internals::render_calls, scan::Toolset},
//! };
//!
//! let call = ToolCall::new("call_1", "read_file", r#"{"path":"src/main.rs"}"#);
//! assert_eq!(
//!     render_calls(&[call], Dialect::Coder, &Toolset::default()),
//!     "<tool_call>\n<function=read_file>\n<parameter=path>\nsrc/main.rs\n</parameter>\n\
//!      </function>\n</tool_call>",
//! );
//! ```
//!
//! # What a dialect cannot say
//!
//! The dialects in tags have no escapes and no types: a value that holds their own closers, a
//! number where the schema says string, a name with `>` in it would be read back as something
//! else. Such a call is rendered in Hermes' JSON, which can say everything and which the scanner
//! accepts beside any other. So are arguments that are no JSON object; they stand there as one
//! string. Without that, both would be lost.

mod call;
mod types;

use std::{collections::HashMap, mem, sync::Arc};

use self::call::push_call;
use super::{markup::Dialect, schema::Toolset};
use crate::{
    Text,
    chat::{Content, History, Message, Messages, Part, PartKind, Role, ToolCall},
};

/// Models repeat a call whose result is empty.
const NO_OUTPUT: &str = "(The tool is done. It returned no output.)";

/// Room for what stands around a call or a result, in bytes.
const MARKS: usize = 160;

const RESPONSE: &str = "<tool_response>";
const RESPONSE_END: &str = "</tool_response>";

/// The calls of one assistant message as text, in order, with a newline between them.
///
/// `tools` are those of the request: what a schema says of a parameter decides whether its value
/// can stand in the dialect (it cannot say every value). An undeclared
/// parameter counts as a string.
#[must_use]
pub fn render_calls(calls: &[ToolCall], dialect: Dialect, tools: &Toolset) -> String {
    let mut text = String::with_capacity(rendered_len(calls));
    push_calls(&mut text, calls, dialect, tools);
    text
}

fn push_calls(text: &mut String, calls: &[ToolCall], dialect: Dialect, tools: &Toolset) {
    for (index, call) in calls.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        push_call(text, call, dialect, tools);
    }
}

/// About how long rendered calls become, in bytes. A history is long, and a buffer that doubles
/// is half empty.
fn rendered_len(calls: &[ToolCall]) -> usize {
    calls.iter().map(|call| MARKS + 2 * call.name.len() + call.arguments.len()).sum()
}

/// Makes of the history what an upstream without tools takes. Messages that it would take as they
/// are stay shared.
///
/// Results are named after their calls wherever these stand, but what was seen and what is fresh
/// are never merged.
pub(super) fn rewrite(history: &mut History, dialect: Dialect, tools: &Toolset) {
    let whole = mem::take(history);
    let mut calls = Calls::default();
    let mut before = 0;
    for (list, rewritten) in [(&whole.seen, &mut history.seen), (&whole.fresh, &mut history.fresh)]
    {
        *rewritten = rewrite_list(list, before, &mut calls, dialect, tools);
        before += list.len();
    }
}

/// One list of the history; `before` is how many messages stand before it, and `calls` are those
/// in them.
fn rewrite_list<'a>(
    list: &'a Messages,
    before: usize,
    calls: &mut Calls<'a>,
    dialect: Dialect,
    tools: &Toolset,
) -> Messages {
    if !list.iter().any(|message| is_foreign(message)) {
        return list.clone();
    }
    let mut rewritten: Vec<Arc<Message>> = Vec::with_capacity(list.len());
    let mut at = 0;
    while let Some(message) = list.get(at) {
        if is_result(message) {
            let row = list[at..].iter().take_while(|next| is_result(next)).count();
            rewritten.push(results(&list[at..at + row], calls, dialect).into());
            at += row;
            continue;
        }
        rewritten.push(if message.role == Role::Assistant && !message.tool_calls.is_empty() {
            calls.enter(before + at, &message.tool_calls);
            assistant(message, dialect, tools).into()
        } else if message.content.is_none() {
            let content = Some(Content::Text(Text::new()));
            Message { content, ..Message::clone(message) }.into()
        } else {
            Arc::clone(message)
        });
        at += 1;
    }
    rewritten.into()
}

/// Whether an upstream without tools would not take the message as it is.
fn is_foreign(message: &Message) -> bool {
    message.content.is_none() || is_of_tools(message)
}

/// Whether it has calls or is the result of one.
pub(super) fn is_of_tools(message: &Message) -> bool {
    !message.tool_calls.is_empty() || is_result(message)
}

fn is_result(message: &Message) -> bool {
    matches!(message.role, Role::Tool | Role::Function)
}

/// An assistant message with its calls behind its text.
fn assistant(message: &Message, dialect: Dialect, tools: &Toolset) -> Message {
    let mut rewritten = message.clone();
    rewritten.tool_calls = Vec::new();
    let calls = &message.tool_calls;
    let behind = |said: &str| {
        let mut text = String::with_capacity(said.len() + "\n\n".len() + rendered_len(calls));
        text.push_str(said);
        text.push_str("\n\n");
        push_calls(&mut text, calls, dialect, tools);
        Text::from(text)
    };
    rewritten.content = Some(match rewritten.content.take() {
        Some(Content::Parts(mut parts)) if !parts.is_empty() => {
            parts.push(Part::new(PartKind::Text(behind(""))));
            Content::Parts(parts)
        }
        Some(Content::Text(text)) if !text.trim().is_empty() => {
            Content::Text(behind(text.trim_end()))
        }
        _ => Content::Text(render_calls(calls, dialect, tools).into()),
    });
    rewritten
}

/// What results may answer: every call so far, a later one with the same id in place of an
/// earlier.
#[derive(Default)]
struct Calls<'a> {
    by_id: HashMap<&'a str, Call<'a>>,
    /// Legacy calls have no id; their results name the function.
    by_name: HashMap<&'a str, Call<'a>>,
}

#[derive(Clone, Copy)]
struct Call<'a> {
    name: &'a str,
    /// Which message and which call of it.
    place: (usize, usize),
    /// Which of the message's calls of this name, from 1; `None` if it is the only one.
    number: Option<usize>,
    /// Whether the message has other calls.
    several: bool,
}

impl<'a> Calls<'a> {
    fn enter(&mut self, message: usize, calls: &'a [ToolCall]) {
        let mut total: HashMap<&str, usize> = HashMap::new();
        for call in calls {
            *total.entry(call.name.as_str()).or_default() += 1;
        }
        let mut so_far: HashMap<&str, usize> = HashMap::new();
        for (index, call) in calls.iter().enumerate() {
            let name = call.name.as_str();
            let number = so_far.entry(name).or_default();
            *number += 1;
            let entry = Call {
                name,
                place: (message, index),
                number: (total.get(name).is_some_and(|&total| total > 1)).then_some(*number),
                several: calls.len() > 1,
            };
            self.by_id.insert(call.id.as_str(), entry);
            self.by_name.insert(name, entry);
        }
    }

    fn answered_by(&self, result: &Message) -> Option<Call<'a>> {
        match (&result.tool_call_id, &result.name) {
            (Some(id), _) if !id.is_empty() => self.by_id.get(id.as_str()).copied(),
            (_, Some(name)) => self.by_name.get(name.as_str()).copied(),
            _ => None,
        }
    }
}

/// Consecutive results as one user message, in the order of their calls.
fn results(messages: &[Arc<Message>], calls: &Calls<'_>, dialect: Dialect) -> Message {
    let mut results: Vec<(Option<Call<'_>>, &Message)> =
        messages.iter().map(|message| (calls.answered_by(message), &**message)).collect();
    // Templates have no names in results, so models pair them by place. The sort is stable:
    // results of calls that are not in the history stay in the client's order, at the end.
    results.sort_by_key(|(call, _)| call.map_or((usize::MAX, 0), |call| call.place));

    let mut parts: Vec<Part> = Vec::new();
    let size = |message: &Message| match &message.content {
        None => MARKS,
        Some(Content::Text(text)) => MARKS + text.len(),
        Some(Content::Parts(parts)) => {
            MARKS + parts.iter().filter_map(Part::as_text).map(|text| text.len()).sum::<usize>()
        }
    };
    let mut text = String::with_capacity(messages.iter().map(|message| size(message)).sum());
    for (call, message) in &results {
        if !text.is_empty() || !parts.is_empty() {
            text.push('\n');
        }
        let name = call.map(|call| call.name).or(message.name.as_deref());
        let number = call.and_then(|call| call.number);
        let tags = dialect != Dialect::Xml;
        if tags {
            text.extend([RESPONSE, "\n"]);
        }
        let several = call.map_or(messages.len() > 1, |call| call.several);
        if !tags || several && name.is_some() {
            let number = number.map(|number| format!(" #{number}")).unwrap_or_default();
            text.extend(["[", name.unwrap_or("tool"), &number, "] Result:\n"]);
        }
        push_content(&mut text, &mut parts, message.content.as_ref());
        if tags {
            text.extend(["\n", RESPONSE_END]);
        }
    }
    if parts.is_empty() {
        return Message::new(Role::User, text);
    }
    flush(&mut text, &mut parts);
    let mut message = Message::empty(Role::User);
    message.content = Some(Content::Parts(parts));
    message
}

/// A result's text into `text`; where it has media, everything so far into `parts`.
fn push_content(text: &mut String, parts: &mut Vec<Part>, content: Option<&Content>) {
    match content {
        Some(Content::Parts(own)) if content.is_some_and(|all| all.media().next().is_some()) => {
            for part in own {
                match part.as_text() {
                    Some(own) => text.push_str(own),
                    None => {
                        flush(text, parts);
                        parts.push(part.clone());
                    }
                }
            }
        }
        content => {
            let own = content.map(Content::text).unwrap_or_default();
            text.push_str(if own.trim().is_empty() { NO_OUTPUT } else { &own });
        }
    }
}

fn flush(text: &mut String, parts: &mut Vec<Part>) {
    if !text.is_empty() {
        parts.push(Part::new(PartKind::Text(mem::take(text).into())));
    }
}

/// Whether this is a message of results: it begins and ends with their tags.
pub(super) fn is_results(content: &Content) -> bool {
    match content {
        Content::Text(text) => text.starts_with(RESPONSE) && text.ends_with(RESPONSE_END),
        Content::Parts(parts) => {
            let text = |part: Option<&Part>| part.and_then(Part::as_text).cloned();
            text(parts.first()).is_some_and(|text| text.starts_with(RESPONSE))
                && text(parts.last()).is_some_and(|text| text.ends_with(RESPONSE_END))
        }
    }
}

//! The calls and results of a history, as text.
//!
//! Assistant messages get their calls behind their own text, in the [`Format`] that the prompt
//! asks for, and results become user messages (tool-calls.md f.3, f.4). Both are what the model
//! sees of its own past, so both are written as its template writes them, and reading a rendered
//! call gives back the same name and the same arguments.
//!
//! ```
//! use tower_qwen::{
//!     chat::ToolCall,
//!     tool::{call::Format, internals::render_calls, scan::Toolset},
//! };
//!
//! let call = ToolCall::new("call_1", "read_file", r#"{"path":"src/main.rs"}"#);
//! assert_eq!(
//!     render_calls(&[call], Format::Coder, &Toolset::default()),
//!     "<tool_call>\n<function=read_file>\n<parameter=path>\nsrc/main.rs\n</parameter>\n\
//!      </function>\n</tool_call>",
//! );
//! ```
//!
//! # What a format cannot say
//!
//! Formats 1 and 3 have no escapes and no types: a value that holds the format's own closers, a
//! number where the schema says string, a name with `>` in it would be read back as something
//! else. Such a call is rendered in format 2, which can say everything and which the scanner
//! accepts beside any other. So are arguments that are no JSON object; they stand there as one
//! string. Both are deviations from tool-calls.md f.4, which has no fallback and so loses them.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt, mem,
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::{
    prompt::Format,
    schema::{REFERENCE_LIMIT, Toolset, Types, VALUES},
};
use crate::{
    Text,
    chat::{Content, History, Message, Messages, Part, PartKind, Role, ToolCall},
    json, steps,
};

/// Models repeat a call whose result is empty (f.3).
const NO_OUTPUT: &str = "(The tool is done. It returned no output.)";

/// Room for what stands around a call or a result, in bytes.
const MARKS: usize = 160;

/// Longer names, in bytes, may not be recognised in tags.
const NAME: usize = 128;

/// Arguments of more fields than these are not looked into: a field takes many times its text.
const FIELDS: usize = 1024;

/// Values that are nested more deeply may be read as text, since readers of JSON have a limit.
const DEPTH: usize = 64;

const RESPONSE: &str = "<tool_response>";
const RESPONSE_END: &str = "</tool_response>";

/// The calls of one assistant message as text, in order, with a newline between them.
///
/// `tools` are those of the request: what a schema says of a parameter decides whether its value
/// can stand in the format (a format cannot say every value). An undeclared parameter counts as a string.
#[must_use]
pub fn render_calls(calls: &[ToolCall], format: Format, tools: &Toolset) -> String {
    let mut text = String::with_capacity(rendered_len(calls));
    push_calls(&mut text, calls, format, tools);
    text
}

fn push_calls(text: &mut String, calls: &[ToolCall], format: Format, tools: &Toolset) {
    for (index, call) in calls.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        push_call(text, call, format, tools);
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
pub(super) fn rewrite(history: &mut History, format: Format, tools: &Toolset) {
    let whole = mem::take(history);
    let mut calls = Calls::default();
    let mut before = 0;
    for (list, rewritten) in [(&whole.seen, &mut history.seen), (&whole.fresh, &mut history.fresh)]
    {
        *rewritten = rewrite_list(list, before, &mut calls, format, tools);
        before += list.len();
    }
}

/// One list of the history; `before` is how many messages stand before it, and `calls` are those
/// in them.
fn rewrite_list<'a>(
    list: &'a Messages,
    before: usize,
    calls: &mut Calls<'a>,
    format: Format,
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
            rewritten.push(results(&list[at..at + row], calls, format).into());
            at += row;
            continue;
        }
        rewritten.push(if message.role == Role::Assistant && !message.tool_calls.is_empty() {
            calls.enter(before + at, &message.tool_calls);
            assistant(message, format, tools).into()
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
    message.content.is_none() || !message.tool_calls.is_empty() || is_result(message)
}

fn is_result(message: &Message) -> bool {
    matches!(message.role, Role::Tool | Role::Function)
}

/// An assistant message with its calls behind its text.
fn assistant(message: &Message, format: Format, tools: &Toolset) -> Message {
    let mut rewritten = message.clone();
    rewritten.tool_calls = Vec::new();
    let calls = &message.tool_calls;
    let behind = |said: &str| {
        let mut text = String::with_capacity(said.len() + "\n\n".len() + rendered_len(calls));
        text.push_str(said);
        text.push_str("\n\n");
        push_calls(&mut text, calls, format, tools);
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
        _ => Content::Text(render_calls(calls, format, tools).into()),
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
fn results(messages: &[Arc<Message>], calls: &Calls<'_>, format: Format) -> Message {
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
        let tags = format != Format::Xml;
        if tags {
            text.push_str(RESPONSE);
            text.push('\n');
        }
        let several = call.map_or(messages.len() > 1, |call| call.several);
        match (name, number) {
            (Some(name), Some(number)) if several || !tags => {
                text.push_str(&format!("[{name} #{number}] Result:\n"));
            }
            (Some(name), None) if several || !tags => {
                text.push_str(&format!("[{name}] Result:\n"));
            }
            _ if !tags => text.push_str("[tool] Result:\n"),
            _ => {}
        }
        push_content(&mut text, &mut parts, message.content.as_ref());
        if tags {
            text.push('\n');
            text.push_str(RESPONSE_END);
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

fn push_call(text: &mut String, call: &ToolCall, format: Format, tools: &Toolset) {
    let arguments = Arguments::read(&call.arguments);
    match (format, &arguments) {
        (Format::Coder, Arguments::Object(fields)) if fits_coder(call, fields, tools) => {
            push_coder(text, call, fields);
        }
        (Format::Xml, Arguments::Object(fields)) if fits_xml(call, fields, tools) => {
            push_xml(text, call, fields);
        }
        _ => push_hermes(text, call, &arguments),
    }
}

/// A call's arguments, looked into one level deep.
enum Arguments<'a> {
    /// An object's members, in order.
    Object(Vec<Field<'a>>),
    /// An object of more than [`FIELDS`].
    Large,
    /// Something else.
    Other(&'a str),
}

struct Field<'a> {
    key: String,
    /// The value as JSON, as it was sent: numbers keep their digits.
    json: &'a str,
    /// The value, if it is a string.
    string: Option<Cow<'a, str>>,
}

impl<'a> Arguments<'a> {
    fn read(json: &'a str) -> Self {
        // Clients send nothing, or null, for a call without arguments.
        if matches!(json.trim(), "" | "null") {
            return Self::Object(Vec::new());
        }
        match serde_json::from_str::<Members<'_>>(json) {
            Ok(Members(members)) if members.len() > FIELDS => Self::Large,
            Ok(Members(members)) => Self::Object(members),
            Err(_) => Self::Other(json),
        }
    }
}

struct Members<'a>(Vec<Field<'a>>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    // One more tells that there are more.
                    if members.len() > FIELDS {
                        continue;
                    }
                    let json = value.get();
                    let string = json
                        .starts_with('"')
                        .then(|| serde_json::from_str(json).map_err(serde::de::Error::custom))
                        .transpose()?
                        .map(Cow::Owned);
                    members.push(Field { key, json, string });
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

// ---- format 1 ----

fn push_coder(text: &mut String, call: &ToolCall, fields: &[Field<'_>]) {
    text.push_str("<tool_call>\n<function=");
    text.push_str(&call.name);
    text.push_str(">\n");
    for field in fields {
        text.push_str("<parameter=");
        text.push_str(&field.key);
        text.push_str(">\n");
        push_value(text, field);
        text.push_str("\n</parameter>\n");
    }
    text.push_str("</function>\n</tool_call>");
}

fn push_value(text: &mut String, field: &Field<'_>) {
    match &field.string {
        Some(string) => text.push_str(string),
        None => text.push_str(&json::compact(field.json)),
    }
}

fn fits_coder(call: &ToolCall, fields: &[Field<'_>], tools: &Toolset) -> bool {
    const MARKUP: [&str; 6] =
        ["<tool_call", "</tool_call", "<function", "</function", "<parameter", "</parameter"];
    let name = |name: &str| {
        (1..=NAME).contains(&name.len())
            && !name.contains(['<', '>', '=', '\n', '\r', '"', '\''])
            && name.trim() == name
    };
    let schema = tools.schema(&call.name);
    name(&call.name)
        && distinct(fields)
        && fields.iter().all(|field| {
            let value = field.string.as_deref().unwrap_or(field.json);
            name(&field.key)
                // Reading takes it for a part of the newline behind it.
                && !value.ends_with('\r')
                && !MARKUP.iter().any(|markup| value.contains(markup))
                && keeps_type(field, schema)
        })
}

fn distinct(fields: &[Field<'_>]) -> bool {
    let mut keys = HashSet::with_capacity(fields.len());
    fields.iter().all(|field| keys.insert(field.key.as_str()))
}

// ---- format 2 ----

fn push_hermes(text: &mut String, call: &ToolCall, arguments: &Arguments<'_>) {
    let string = |text: &str| {
        // A buffer that doubles is half empty, and this may be long and all quotes.
        let escaped = text.bytes().filter(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')).count();
        let mut json = Vec::with_capacity(text.len() + escaped + "\"\"".len());
        serde_json::to_writer(&mut json, text).expect("a string is always written as JSON");
        String::from_utf8(json).expect("JSON is text")
    };
    text.push_str("<tool_call>\n{\"name\": ");
    push_untagged(text, &string(&call.name));
    text.push_str(", \"arguments\": ");
    match arguments {
        Arguments::Object(fields) if fields.is_empty() => text.push_str("{}"),
        Arguments::Object(_) | Arguments::Large if call.arguments.contains('\n') => {
            push_untagged(text, &json::compact(&call.arguments));
        }
        Arguments::Object(_) | Arguments::Large => push_untagged(text, call.arguments.trim()),
        Arguments::Other(raw) => {
            let json = string(raw);
            text.reserve_exact(json.len() + "}\n</tool_call>".len());
            push_untagged(text, &json);
        }
    }
    text.push_str("}\n</tool_call>");
}

/// JSON without the wrapper's tags in its strings: readers that look for the next `</tool_call>`
/// find the right one (vllm-project/vllm#45167).
fn push_untagged(text: &mut String, json: &str) {
    let mut rest = json;
    while let Some(at) = rest.find('<') {
        text.push_str(&rest[..at]);
        let tag = &rest[at..];
        let is_wrapper = tag.starts_with("<tool_call") || tag.starts_with("</tool_call");
        text.push_str(if is_wrapper { "\\u003c" } else { "<" });
        rest = &tag[1..];
    }
    text.push_str(rest);
}

// ---- format 3 ----

fn push_xml(text: &mut String, call: &ToolCall, fields: &[Field<'_>]) {
    let mut tag = |before: &str, name: &str, after: &str| {
        for piece in [before, name, after] {
            text.push_str(piece);
        }
    };
    tag("<", &call.name, ">\n");
    for field in fields {
        tag("<", &field.key, ">");
        let mut value = String::new();
        push_value(&mut value, field);
        // Reading removes one newline on either side.
        let newline = if value.contains(['\n', '\r']) { "\n" } else { "" };
        tag(newline, &value, newline);
        tag("</", &field.key, ">\n");
    }
    tag("</", &call.name, ">");
}

fn fits_xml(call: &ToolCall, fields: &[Field<'_>], tools: &Toolset) -> bool {
    if tools.get(&call.name).is_none() {
        return false;
    }
    let tag = |name: &str| {
        (1..=NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
            && !matches!(name, "tool_call" | "think" | "function" | "parameter")
    };
    let schema = tools.schema(&call.name);
    let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    let declared = |key: &str| properties.is_some_and(|properties| properties.contains_key(key));
    let names = [call.name.as_str(), "tool_call", "function", "parameter"];
    // Whether the value holds what may be read as markup of this call.
    let markup = |value: &str| {
        value.match_indices('<').any(|(at, _)| {
            let rest = &value[at + 1..];
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            names.iter().any(|name| rest.starts_with(name))
                || tools.begins_with_property(&call.name, rest)
        })
    };
    tag(&call.name)
        && distinct(fields)
        && fields.iter().all(|field| {
            let value = field.string.as_deref().unwrap_or(field.json);
            tag(&field.key)
                && field.key != call.name.as_str()
                && declared(&field.key)
                && !value.ends_with('\r')
                && !markup(value)
                && keeps_type(field, schema)
        })
}

// ---- what a schema makes of a raw value ----

/// The type of a value, given as JSON.
fn type_of(json: &str) -> Types {
    match json.bytes().next() {
        Some(b'"') => Types::STRING,
        Some(b'{') => Types::OBJECT,
        Some(b'[') => Types::ARRAY,
        Some(b't' | b'f') => Types::BOOLEAN,
        Some(b'n') => Types::NULL,
        _ if json.contains(['.', 'e', 'E']) => Types::NUMBER,
        _ => Types::INTEGER,
    }
}

/// Whether the field's value, written without quotes, is read back as the same value.
///
/// The reading is that of tool-calls.md rules 12 and 17 to 19. Where a schema leaves a doubt, the
/// answer is no.
fn keeps_type(field: &Field<'_>, schema: Option<&Value>) -> bool {
    let Some(types) = types_of(&field.key, schema) else { return false };
    match &field.string {
        Some(_) if types == Types::STRING => true,
        // Only a text that cannot be anything else of the union is surely the string. Words that
        // begin with a letter are JSON or Python literals in a few cases.
        Some(string) => {
            const WORDS: [&str; 7] =
                ["null", "none", "true", "false", "nan", "infinity", "undefined"];
            types.contains(Types::STRING)
                && string.chars().next().is_some_and(char::is_alphabetic)
                && string.trim() == string
                && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(string))
        }
        None if types == Types::STRING => false,
        None => {
            let own = type_of(field.json);
            match own {
                Types::NULL => types.contains(Types::NULL) || !types.contains(Types::STRING),
                // Minus zero is a float to most readers.
                Types::INTEGER => {
                    types.intersects(Types::INTEGER | Types::NUMBER) && field.json != "-0"
                }
                // A fraction of zero is dropped where integers are allowed.
                Types::NUMBER => types.contains(Types::NUMBER) && !types.contains(Types::INTEGER),
                own => types.contains(own) && depth(field.json) <= DEPTH,
            }
        }
    }
}

/// How deeply objects and arrays are nested in a JSON value.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// How many nodes of one schema are looked at: references may lead to themselves, and multiply.
const VISITS: u32 = 64;

/// The types that the schema of a parameter allows; `None` where that is not plain to see.
///
/// It is stricter than [`schema`](super::schema), by which the scanner reads: what is rendered here
/// is read alike by readers that know less of schemas, such as those that look for properties in
/// one place only.
fn types_of(key: &str, schema: Option<&Value>) -> Option<Types> {
    let Some(schema) = schema else { return Some(Types::STRING) };
    // It could not be read; the upstream and other readers may know more of it.
    if schema.is_null() {
        return None;
    }
    // Properties may stand elsewhere, too.
    if ["$ref", "allOf", "anyOf", "oneOf"].iter().any(|word| schema.get(word).is_some()) {
        return None;
    }
    match schema.get("properties").and_then(|properties| properties.get(key)) {
        Some(property) => types_in(property, schema, &mut VISITS.clone()),
        None => Some(Types::STRING),
    }
}

fn types_in(schema: &Value, root: &Value, visits: &mut u32) -> Option<Types> {
    const SOURCES: [&str; 9] =
        ["type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const", "properties", "items"];
    *visits = visits.checked_sub(1)?;
    steps::count(1);
    let fields = schema.as_object()?;
    if fields.contains_key("nullable") {
        return None;
    }
    let known = |word| Some(Types::of_word(word)).filter(|types| *types != Types::NONE);
    let mut union = |schemas: &Value| {
        let schemas = schemas.as_array().filter(|schemas| !schemas.is_empty())?;
        schemas
            .iter()
            .try_fold(Types::NONE, |types, schema| Some(types | types_in(schema, root, visits)?))
    };
    let values = |values: &[Value]| {
        let few = values.len() <= VALUES;
        few.then(|| {
            steps::count(values.len());
            values.iter().fold(Types::NONE, |types, value| types | Types::of_value(value))
        })
    };
    let mut sources = SOURCES.iter().filter_map(|source| Some((*source, fields.get(*source)?)));
    let Some((source, value)) = sources.next() else { return Some(Types::STRING) };
    let types = match source {
        "type"
            if ["$ref", "anyOf", "oneOf", "allOf"].iter().any(|key| fields.contains_key(*key)) =>
        {
            return None;
        }
        // Whatever else stands beside a type only narrows it.
        "type" => {
            return match value {
                Value::String(word) => known(word),
                Value::Array(words) if (1..=VALUES).contains(&words.len()) => words
                    .iter()
                    .try_fold(Types::NONE, |types, word| Some(types | known(word.as_str()?)?)),
                _ => None,
            };
        }
        "$ref" => {
            let pointer = value.as_str()?.strip_prefix('#')?;
            if pointer.len() > REFERENCE_LIMIT {
                return None;
            }
            types_in(root.pointer(pointer)?, root, visits)?
        }
        "anyOf" | "oneOf" => union(value)?,
        "allOf" if value.as_array().is_some_and(|all| all.len() == 1) => union(value)?,
        "allOf" => return None,
        "enum" => values(value.as_array()?)?,
        "const" => values(std::slice::from_ref(value))?,
        "properties" => Types::OBJECT,
        _ => Types::ARRAY,
    };
    (sources.next().is_none() && types != Types::NONE).then_some(types)
}

//! One call as text, in each dialect.

use std::{borrow::Cow, collections::HashSet};

use serde_json::{Value, value::RawValue};

use super::types::keeps_type;
use crate::{
    chat::ToolCall,
    json,
    tool::{markup::Dialect, schema::Toolset},
};

/// Longer names, in bytes, may not be recognised in tags.
const NAME: usize = 128;

/// Arguments of more fields than these are not looked into: a field takes many times its text.
const FIELDS: usize = 1024;

/// Writes `call` in `dialect`, or in Hermes' JSON where that dialect cannot say it.
pub(super) fn push_call(text: &mut String, call: &ToolCall, dialect: Dialect, tools: &Toolset) {
    let arguments = Arguments::read(&call.arguments);
    match (dialect, &arguments) {
        (Dialect::Coder, Arguments::Object(fields)) if fits_coder(call, fields, tools) => {
            push_coder(text, call, fields);
        }
        (Dialect::Xml, Arguments::Object(fields)) if fits_xml(call, fields, tools) => {
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
    key: Cow<'a, str>,
    /// The value as JSON, as it was sent: numbers keep their digits.
    json: &'a str,
    /// The value, if it is a string.
    string: Option<String>,
}

impl<'a> Arguments<'a> {
    fn read(json: &'a str) -> Self {
        // Clients send nothing, or null, for a call without arguments.
        if matches!(json.trim(), "" | "null") {
            return Self::Object(Vec::new());
        }
        match fields(json) {
            Some(fields) if fields.len() > FIELDS => Self::Large,
            Some(fields) => Self::Object(fields),
            None => Self::Other(json),
        }
    }
}

/// The members of an object; one more than [`FIELDS`] tells that there are more.
fn fields(json: &str) -> Option<Vec<Field<'_>>> {
    let object = serde_json::from_str::<&RawValue>(json).ok()?.get();
    let members = object.starts_with('{').then(|| json::members(object))?;
    let fields = members.take(FIELDS + 1).map(|(key, json)| {
        let string = json.starts_with('"').then(|| serde_json::from_str(json)).transpose().ok()?;
        // One that is as it was written although it has an escape holds half a pair of surrogates.
        let is_text = !matches!(key, Cow::Borrowed(key) if key.contains('\\'));
        is_text.then_some(Field { key, json, string })
    });
    fields.collect()
}

// ---- Coder ----

fn push_coder(text: &mut String, call: &ToolCall, fields: &[Field<'_>]) {
    text.extend(["<tool_call>\n<function=", &call.name, ">\n"]);
    for field in fields {
        text.extend(["<parameter=", &field.key, ">\n", &value(field), "\n</parameter>\n"]);
    }
    text.push_str("</function>\n</tool_call>");
}

fn value<'a>(field: &'a Field<'_>) -> Cow<'a, str> {
    field.string.as_deref().map_or_else(|| json::compact(field.json), Cow::Borrowed)
}

fn fits_coder(call: &ToolCall, fields: &[Field<'_>], tools: &Toolset) -> bool {
    const MARKUP: [&str; 6] =
        ["<tool_call", "</tool_call", "<function", "</function", "<parameter", "</parameter"];
    let name = |name: &str| {
        (1..=NAME).contains(&name.len())
            && !name.contains(['<', '>', '=', '\n', '\r', '"', '\''])
            && name.trim() == name
    };
    let is_quoted = |value: &str| MARKUP.iter().any(|markup| value.contains(markup));
    fits(call, fields, tools, name, is_quoted)
}

/// Whether tags can say the call: with names that can stand in one, of which none comes twice, and
/// values that hold nothing that may be read as markup.
fn fits(
    call: &ToolCall,
    fields: &[Field<'_>],
    tools: &Toolset,
    is_name: impl Fn(&str) -> bool,
    is_markup: impl Fn(&str) -> bool,
) -> bool {
    let schema = tools.schema(&call.name);
    let mut keys = HashSet::with_capacity(fields.len());
    is_name(&call.name)
        && fields.iter().all(|field| {
            let value = field.string.as_deref().unwrap_or(field.json);
            is_name(&field.key)
                && keys.insert(&*field.key)
                // Reading takes it for a part of the newline behind it.
                && !value.ends_with('\r')
                && !is_markup(value)
                && keeps_type(&field.key, field.json, field.string.as_deref(), schema)
        })
}

// ---- Hermes ----

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

// ---- Xml ----

fn push_xml(text: &mut String, call: &ToolCall, fields: &[Field<'_>]) {
    text.extend(["<", &call.name, ">\n"]);
    for field in fields {
        let value = value(field);
        // Reading removes one newline on either side.
        let newline = if value.contains(['\n', '\r']) { "\n" } else { "" };
        text.extend(["<", &field.key, ">", newline, &value, newline, "</", &field.key, ">\n"]);
    }
    text.extend(["</", &call.name, ">"]);
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
    fields.iter().all(|field| field.key != call.name.as_str() && declared(&field.key))
        && fits(call, fields, tools, tag, markup)
}

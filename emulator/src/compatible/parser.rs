//! The tool-call parser of a server, over the whole text that its model wrote.
//!
//! It reads the two formats that Qwen models were trained on and whose wrapper is whole:
//! Qwen3-Coder's tags, and JSON. Everything else stays in the text, as it does in the field: a
//! block without its opening tag, plain tags, bare JSON.

use crate::json::{Map, Value};

use super::Dialect;
use crate::{kind::Kind, tools::Offer};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// The text without the calls in it, and the calls as names and arguments.
pub(super) fn split(
    text: &str,
    offer: &Offer,
    dialect: Dialect,
) -> (String, Vec<(String, String)>) {
    let mut calls = Vec::new();
    let mut kept = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        let inner = rest[at + OPEN.len()..].trim_start();
        let read = if inner.starts_with('{') { hermes(inner) } else { coder(inner, offer) };
        let Some((call, after)) = read else {
            // A marker that begins no call is a word.
            kept.push_str(&rest[..at + OPEN.len()]);
            rest = &rest[at + OPEN.len()..];
            continue;
        };
        kept.push_str(before_call(&rest[..at], dialect));
        calls.push(call);
        rest = after.trim_start();
    }
    kept.push_str(rest);
    (kept, calls)
}

/// What is left of the text before a call: vLLM and SGLang keep the white space.
pub(super) fn before_call(text: &str, dialect: Dialect) -> &str {
    match dialect.kind {
        Kind::Vllm | Kind::SgLang => text,
        _ => text.trim_end(),
    }
}

type Read<'a> = Option<((String, String), &'a str)>;

/// `{"name": …, "arguments": …}` and the closing tag.
fn hermes(text: &str) -> Read<'_> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let call = values.next()?.ok()?;
    let after = text[values.byte_offset()..].trim_start().strip_prefix(CLOSE)?;
    let name = call["name"].as_str()?.to_owned();
    let arguments = match &call["arguments"] {
        Value::Null => "{}".to_owned(),
        Value::String(json) => json.clone(),
        arguments => arguments.to_string(),
    };
    Some(((name, arguments), after))
}

/// `<function=NAME>` with its parameters, and the closing tags.
fn coder<'a>(text: &'a str, offer: &Offer) -> Read<'a> {
    let (name, mut rest) = text.strip_prefix("<function=")?.split_once('>')?;
    let schema = offer.schema(name);
    let mut arguments = Map::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix("</function>") {
            let after = after.trim_start().strip_prefix(CLOSE)?;
            return Some(((name.to_owned(), Value::Object(arguments).to_string()), after));
        }
        let (key, value) = rest.strip_prefix("<parameter=")?.split_once('>')?;
        let end = value_end(value)?;
        let (value, after) = value.split_at(end);
        rest = after.strip_prefix("</parameter>")?;
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        arguments.insert(key.to_owned(), typed(value, schema.map(|s| &s["properties"][key])));
    }
}

/// Where the value at the start of `text` ends: at the first closer that markup follows.
fn value_end(text: &str) -> Option<usize> {
    text.match_indices("</parameter>").map(|(at, _)| at).find(|at| {
        let after = text[at + "</parameter>".len()..].trim_start();
        after.starts_with("<parameter=") || after.starts_with("</function>")
    })
}

/// The value as the declared type has it; as text where none is declared.
fn typed(value: &str, schema: Option<&Value>) -> Value {
    let is_text = |kind: &Value| match kind {
        Value::String(kind) => kind == "string",
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "string"),
        _ => false,
    };
    let known = schema.is_some_and(|schema| {
        ["type", "anyOf", "oneOf", "$ref"].iter().any(|key| !schema[*key].is_null())
    });
    match schema {
        Some(schema) if known && !is_text(&schema["type"]) => match value.trim() {
            "None" => Value::Null,
            "True" => true.into(),
            "False" => false.into(),
            value => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
        },
        _ => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::json::json;

    use super::*;
    use crate::tools::Format;

    fn split_with(kind: Kind, text: &str) -> (String, Vec<(String, String)>) {
        let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {
            "type": "object",
            "properties": {
                "s": {"type": "string"}, "n": {"type": "integer"}, "o": {"type": ["object", "null"]},
            },
        }}}]);
        let offer = Offer::declared(&tools, Format::Coder).expect("an offer");
        split(text, &offer, Dialect { kind, old: false })
    }

    fn call(arguments: &str) -> Vec<(String, String)> {
        vec![("f".to_owned(), arguments.to_owned())]
    }

    #[test]
    fn both_formats_are_read_with_the_declared_types() {
        let coder = "<tool_call>\n<function=f>\n<parameter=s>\n 1 </parameter> \n</parameter>\n\
                     <parameter=n>\n7\n</parameter>\n<parameter=o>\nNone\n</parameter>\n\
                     <parameter=x>\n1\n</parameter>\n</function>\n</tool_call>";
        let (text, calls) = split_with(Kind::Ollama, &format!("Well.\n\n{coder}"));
        assert_eq!(text, "Well.");
        assert_eq!(calls, call(r#"{"s":" 1 </parameter> ","n":7,"o":null,"x":"1"}"#));
        let hermes = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"s\": \"</tool_call>\"}}\n\
                      </tool_call>";
        let (text, calls) = split_with(Kind::Vllm, &format!("Well.\n\n{hermes}\n{hermes}"));
        assert_eq!(text, "Well.\n\n");
        assert_eq!(
            calls,
            [call(r#"{"s":"</tool_call>"}"#), call(r#"{"s":"</tool_call>"}"#)].concat()
        );
    }

    #[test]
    fn what_is_not_whole_stays_in_the_text() {
        for text in [
            "<function=f>\n</function>\n</tool_call>",
            "<f>\n<s>1</s>\n</f>",
            "A <tool_call> is said.",
            "<tool_call>\n<function=f>\n<parameter=s>\n1\n",
            "<tool_call>\n{\"name\": \"f\"",
            "```json\n{\"name\": \"f\", \"arguments\": {}}\n```",
        ] {
            assert_eq!(split_with(Kind::Vllm, text), (text.to_owned(), Vec::new()));
        }
    }
}

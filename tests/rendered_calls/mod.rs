//! Reads rendered calls back, whole text at once: the rules of docs/reference/tool-calls.md#e.2,
//! written down a second time and without the crate's code, to judge `tool::history` by.

mod scanner;

pub(crate) use scanner::scan;
use serde_json::{Map, Value};
use tower_qwen::chat::Tool;

/// A call and its arguments, as JSON text.
pub(crate) type Read = (String, String);

/// The calls in `text`, which holds nothing else.
pub(crate) fn read(text: &str, tools: &[Tool]) -> Vec<Read> {
    let mut calls = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (call, behind) = match rest.strip_prefix("<tool_call>") {
            Some(inside) => {
                let inside = inside.trim_start();
                let (call, behind) =
                    if inside.starts_with('{') { hermes(inside) } else { coder(inside, tools) };
                let behind = behind.trim_start();
                (call, behind.strip_prefix("</tool_call>").expect("a wrapper is closed"))
            }
            None => tags(rest, tools),
        };
        calls.push(call);
        rest = behind.trim_start();
    }
    calls
}

fn hermes(text: &str) -> (Read, &str) {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next().expect("a value").expect("JSON");
    let behind = &text[values.byte_offset()..];
    let name = value["name"].as_str().expect("a name").to_owned();
    let arguments = match &value["arguments"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    ((name, arguments), behind)
}

fn coder<'a>(text: &'a str, tools: &[Tool]) -> (Read, &'a str) {
    let text = text.strip_prefix("<function=").expect("a function");
    let (name, mut rest) = text.split_once('>').expect("a name ends");
    let mut arguments = Map::new();
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix("</function>") {
            return ((name.to_owned(), Value::Object(arguments).to_string()), behind);
        }
        let inside = rest.strip_prefix("<parameter=").expect("a parameter");
        let (key, value) = inside.split_once('>').expect("a key ends");
        // A closer ends the value where markup follows it; every other end of a value is an error
        // here.
        let end = (0..value.len())
            .find(|&at| {
                let follows = |tag: &str, next: &[&str]| {
                    value[at..].strip_prefix(tag).is_some_and(|behind| {
                        let behind = behind.trim_start();
                        behind.is_empty() || next.iter().any(|tag| behind.starts_with(tag))
                    })
                };
                value.is_char_boundary(at)
                    && (follows(
                        "</parameter>",
                        &["<parameter=", "</function>", "</tool_call>", "<tool_call>"],
                    ) || follows("</function>", &["</tool_call>", "<tool_call>", "<function="])
                        || (at == 0 || value[..at].ends_with('\n'))
                            && value[at..].starts_with("<parameter="))
            })
            .expect("a value ends");
        rest = value[end..].strip_prefix("</parameter>").expect("by its own closer");
        put(&mut arguments, name, key, margin(&value[..end]), tools);
    }
}

fn tags<'a>(text: &'a str, tools: &[Tool]) -> (Read, &'a str) {
    let text = text.strip_prefix('<').expect("a tag");
    let (name, mut rest) = text.split_once('>').expect("a tag ends");
    assert!(tools.iter().filter_map(Tool::as_function).any(|tool| tool.name == name));
    let mut arguments = Map::new();
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix(&format!("</{name}>")) {
            return ((name.to_owned(), Value::Object(arguments).to_string()), behind);
        }
        let inside = rest.strip_prefix('<').expect("a parameter");
        let (key, value) = inside.split_once('>').expect("a key ends");
        let (value, behind) = value.split_once(&format!("</{key}>")).expect("a value ends");
        let root = schema_of(name, tools);
        assert!(property(&root, key).is_some(), "an undeclared parameter is no tag");
        rest = behind;
        put(&mut arguments, name, key, margin(value), tools);
    }
}

/// One newline on either side is layout.
fn margin(value: &str) -> &str {
    let value = value.strip_prefix("\r\n").or(value.strip_prefix('\n')).unwrap_or(value);
    value.strip_suffix("\r\n").or(value.strip_suffix('\n')).unwrap_or(value)
}

fn put(arguments: &mut Map<String, Value>, name: &str, key: &str, text: &str, tools: &[Tool]) {
    let root = schema_of(name, tools);
    let value = match property(&root, key) {
        Some(schema) => convert(text, &types(schema, &root, &mut NODES.clone())),
        None => Some(Value::String(text.to_owned())),
    };
    if let Some(value) = value {
        assert!(arguments.insert(key.to_owned(), value).is_none(), "{key} stands there twice");
    }
}

fn schema_of(name: &str, tools: &[Tool]) -> Value {
    let tool = tools.iter().filter_map(Tool::as_function).find(|tool| tool.name == name);
    let schema = tool.and_then(|tool| tool.parameters.as_ref());
    schema.map(|schema| schema.to_value().expect("a schema that can be read")).unwrap_or_default()
}

fn property<'a>(root: &'a Value, key: &str) -> Option<&'a Value> {
    root.get("properties")?.get(key)
}

/// How many nodes of a schema are looked at: references may lead to themselves, and multiply.
const NODES: u32 = 512;

/// Every type that the schema may allow.
fn types<'a>(schema: &'a Value, root: &'a Value, nodes: &mut u32) -> Vec<&'a str> {
    let mut all = Vec::new();
    if *nodes == 0 {
        return all;
    }
    *nodes -= 1;
    match &schema["type"] {
        Value::String(word) => all.push(word.as_str()),
        Value::Array(words) => all.extend(words.iter().filter_map(Value::as_str)),
        _ => {}
    }
    if let Some(pointer) = schema["$ref"].as_str().and_then(|at| at.strip_prefix('#'))
        && let Some(schema) = root.pointer(pointer)
    {
        all.extend(types(schema, root, nodes));
    }
    for union in ["anyOf", "oneOf", "allOf"] {
        for schema in schema[union].as_array().into_iter().flatten() {
            all.extend(types(schema, root, nodes));
        }
    }
    if all.is_empty() {
        let of = |value: &Value| match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        all.extend(schema["enum"].as_array().into_iter().flatten().map(of));
        all.extend(schema.get("const").map(of));
    }
    if all.is_empty() && schema.get("properties").is_some() {
        all.push("object");
    }
    if all.is_empty() && schema.get("items").is_some() {
        all.push("array");
    }
    if all.is_empty() {
        all.push("string");
    }
    all
}

/// What the text means as one of the types; `None` leaves the parameter out.
fn convert(text: &str, types: &[&str]) -> Option<Value> {
    let has = |word: &str| types.contains(&word);
    let string = || Some(Value::String(text.to_owned()));
    if types.iter().all(|word| *word == "string") {
        return string();
    }
    let word = text.trim();
    let lower = word.to_ascii_lowercase();
    if matches!(lower.as_str(), "null" | "none") && (has("null") || !has("string")) {
        return Some(Value::Null);
    }
    if has("boolean") && matches!(lower.as_str(), "true" | "false") {
        return Some(Value::Bool(lower == "true"));
    }
    let json: Option<Value> = serde_json::from_str(word).ok();
    if has("integer") {
        let (whole, fraction) = word.split_once('.').unwrap_or((word, "0"));
        let digits = whole.trim_start_matches(['+', '-']);
        let all = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if all(digits) && fraction.bytes().all(|b| b == b'0') && !fraction.is_empty() {
            let digits = digits.trim_start_matches('0');
            let sign = if whole.starts_with('-') && !digits.is_empty() { "-" } else { "" };
            let digits = if digits.is_empty() { "0" } else { digits };
            return serde_json::from_str(&format!("{sign}{digits}")).ok();
        }
    }
    match json {
        Some(Value::Number(number)) if has("number") => return Some(Value::Number(number)),
        Some(value @ Value::Object(_)) if has("object") => return Some(value),
        Some(value @ Value::Array(_)) if has("array") => return Some(value),
        _ => {}
    }
    if !has("string") && word.is_empty() {
        return None;
    }
    string()
}

//! A call of the history, rendered as text in any format, reads back as the same call.
#![no_main]

#[path = "../../tests/rendered_calls/mod.rs"]
mod rendered_calls;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use rendered_calls::{read, scan};
use serde_json::{Map, Value, json};
use tower_qwen::{
    chat::{FunctionTool, Tool, ToolCall},
    tool::{Dialect, internals::render_calls, scan::Toolset},
};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    schemas: Vec<(Key<'a>, Schema)>,
    calls: Vec<Call<'a>>,
}

#[derive(Arbitrary, Debug)]
struct Call<'a> {
    declared: bool,
    name: &'a str,
    arguments: Vec<(Key<'a>, Json<'a>)>,
    pretty: bool,
}

#[derive(Arbitrary, Debug)]
enum Key<'a> {
    Common(u8),
    Any(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Schema {
    Plain(u8),
    Any,
    Types(u8, u8),
    Union(u8, Vec<Schema>),
    Values(Vec<Leaf>),
    Reference(bool),
    Members,
    Items,
}

#[derive(Arbitrary, Debug)]
enum Leaf {
    Null,
    Bool(bool),
    Integer(i64),
    Eighths(i32),
    Markup(u8),
}

#[derive(Arbitrary, Debug)]
enum Json<'a> {
    Leaf(Leaf),
    Text(Vec<Piece<'a>>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Key<'a>, Json<'a>)>),
}

#[derive(Arbitrary, Debug)]
enum Piece<'a> {
    Markup(u8),
    Text(&'a str),
}

const WORDS: [&str; 7] = ["string", "integer", "number", "boolean", "null", "object", "array"];

const MARKUP: [&str; 28] = [
    "\n",
    "\r\n",
    "\r",
    " ",
    "</parameter>",
    "<parameter=a>",
    "</function>",
    "<function=tool>",
    "<tool_call>",
    "</tool_call>",
    "</a>",
    "<a>",
    "</tool>",
    "<tool>",
    "null",
    "None",
    "true",
    "12",
    "-0",
    "1.0",
    "{}",
    "[1]",
    "\"",
    "\\",
    "<",
    "</",
    "'a'",
    "\u{85}",
];

fn pick<'a>(from: &[&'a str], index: u8) -> &'a str {
    from[usize::from(index) % from.len()]
}

impl Key<'_> {
    fn text(&self) -> String {
        match self {
            Self::Common(index) => pick(&["a", "b", "path", "tool"], *index).to_owned(),
            Self::Any(text) => (*text).to_owned(),
        }
    }
}

impl Leaf {
    fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Integer(value) => Value::from(*value),
            // serde_json reads other floats back a little different, by default.
            Self::Eighths(value) => Value::from(f64::from(*value) / 8.0),
            Self::Markup(index) => pick(&MARKUP, *index).into(),
        }
    }
}

impl Schema {
    fn value(&self) -> Value {
        match self {
            Self::Plain(index) => json!({"type": pick(&WORDS, *index)}),
            Self::Any => json!({}),
            Self::Types(a, b) => json!({"type": [pick(&WORDS, *a), pick(&WORDS, *b)]}),
            Self::Union(index, schemas) => {
                let schemas: Vec<Value> = schemas.iter().map(Self::value).collect();
                json!({pick(&["anyOf", "oneOf", "allOf"], *index): schemas})
            }
            Self::Values(values) => {
                json!({"enum": values.iter().map(Leaf::value).collect::<Vec<_>>()})
            }
            Self::Reference(cyclic) => {
                json!({"$ref": if *cyclic { "#/$defs/loop" } else { "#/$defs/list" }})
            }
            Self::Members => json!({"properties": {}}),
            Self::Items => json!({"items": {}}),
        }
    }
}

impl Json<'_> {
    fn value(&self) -> Value {
        match self {
            Self::Leaf(leaf) => leaf.value(),
            Self::Text(pieces) => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Markup(index) => pick(&MARKUP, *index),
                    Piece::Text(text) => text,
                })
                .collect(),
            Self::Array(values) => values.iter().map(Self::value).collect(),
            Self::Object(members) => Value::Object(object(members)),
        }
    }
}

/// Whether the readers' own limit of depth, 128, is far enough away.
fn is_shallow(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(values) => {
            values.iter().all(|value| depth > 0 && is_shallow(value, depth - 1))
        }
        Value::Object(members) => {
            members.values().all(|value| depth > 0 && is_shallow(value, depth - 1))
        }
        _ => true,
    }
}

fn object(members: &[(Key<'_>, Json<'_>)]) -> Map<String, Value> {
    members.iter().map(|(key, value)| (key.text(), value.value())).collect()
}

fuzz_target!(|input: Input<'_>| {
    let properties: Map<String, Value> =
        input.schemas.iter().map(|(key, schema)| (key.text(), schema.value())).collect();
    let schema = json!({
        "properties": properties,
        "$defs": {"list": {"type": ["array", "null"]}, "loop": {"$ref": "#/$defs/loop"}},
    });
    let tools = [Tool::Function(FunctionTool::new("tool", schema))];
    let toolset = Toolset::new(std::sync::Arc::new(tools.to_vec()));
    let mut calls = Vec::new();
    let mut expected = Vec::new();
    for call in &input.calls {
        let name = if call.declared || call.name.is_empty() { "tool" } else { call.name };
        let arguments = Value::Object(object(&call.arguments));
        if !is_shallow(&arguments, 100) {
            continue;
        }
        let json = if call.pretty { format!("{arguments:#}") } else { arguments.to_string() };
        calls.push(ToolCall::new("id", name, json));
        expected.push((name.to_owned(), arguments));
    }
    for format in [Dialect::Coder, Dialect::Hermes, Dialect::Xml] {
        let text = render_calls(&calls, format, &toolset);
        for calls in [read(&text, &tools), scan(&text, &tools)] {
            let got: Vec<(String, Value)> = calls
                .into_iter()
                .map(|(name, json)| (name, serde_json::from_str(&json).expect("JSON")))
                .collect();
            assert_eq!(got, expected, "{format:?}: {text}");
        }
    }
});

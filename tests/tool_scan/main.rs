//! The scanner against the field's failures, against a naive twin, and against itself with the
//! text cut in other places.

mod delay;
mod field;
mod fragments;
mod property;
mod twin;

use std::sync::Arc;

use serde_json::{Value, json};
use tower_qwen::{
    Text,
    chat::{FunctionTool, Tool},
    tool::scan::{Item, Scanner, Toolset},
};
use twin::{Declared, Outcome};

/// The tools of most tests.
fn declared() -> Vec<Declared> {
    let string = || json!({"type": "string"});
    vec![
        Declared {
            name: "write_file",
            parameters: vec![
                ("path", string()),
                ("content", string()),
                ("mode", json!({"type": "integer"})),
            ],
        },
        Declared { name: "read", parameters: vec![("path", string())] },
        Declared { name: "list", parameters: vec![] },
        Declared {
            name: "search",
            parameters: vec![
                ("query", string()),
                ("limit", json!({"type": ["integer", "null"]})),
                ("filter", json!({"anyOf": [{"type": "string"}, {"type": "null"}]})),
                ("options", json!({"type": "object", "additionalProperties": true})),
                ("deep", json!({"type": "boolean"})),
            ],
        },
    ]
}

fn toolset(declared: &[Declared]) -> Toolset {
    let tools = declared.iter().map(|tool| {
        let properties: serde_json::Map<String, Value> =
            tool.parameters.iter().map(|(key, schema)| ((*key).into(), schema.clone())).collect();
        Tool::Function(FunctionTool::new(
            tool.name,
            json!({"type": "object", "properties": properties}),
        ))
    });
    Toolset::new(Arc::new(tools.collect()))
}

/// What came of a text, with the arguments as they were sent.
#[derive(Clone, Debug, Default, PartialEq)]
struct Scanned {
    text: String,
    reasoning: String,
    calls: Vec<(String, String, bool)>,
}

impl Scanned {
    /// Parsed; every call's arguments are an object.
    fn outcome(&self) -> Outcome {
        let calls = self.calls.iter().map(|(name, arguments, _)| {
            let value: Value = serde_json::from_str(arguments)
                .unwrap_or_else(|error| panic!("arguments {arguments:?} of {name}: {error}"));
            assert!(value.is_object(), "{arguments}");
            (name.clone(), value)
        });
        Outcome {
            text: self.text.clone(),
            reasoning: self.reasoning.clone(),
            calls: calls.collect(),
        }
    }
}

fn take(scanner: &mut Scanner, scanned: &mut Scanned, open: &mut bool) {
    while let Some(item) = scanner.pop() {
        match item {
            Item::Text(text) => {
                assert!(!*open && !text.is_empty());
                scanned.text.push_str(&text);
            }
            Item::Reasoning(text) => {
                assert!(!*open && !text.is_empty());
                scanned.reasoning.push_str(&text);
            }
            Item::Call { name, .. } => {
                assert!(!*open && !name.is_empty());
                *open = true;
                scanned.calls.push((name.to_string(), String::new(), false));
            }
            Item::Arguments(json) => {
                assert!(*open && !json.is_empty());
                scanned.calls.last_mut().expect("a call").1.push_str(&json);
            }
            Item::End { complete } => {
                assert!(*open);
                *open = false;
                scanned.calls.last_mut().expect("a call").2 = complete;
            }
            other => panic!("an item of a kind that this test does not know: {other:?}"),
        }
    }
}

fn scan<'a>(tools: &Toolset, pieces: impl IntoIterator<Item = &'a str>) -> Scanned {
    let mut scanner = Scanner::new(tools.clone());
    let (mut scanned, mut open) = (Scanned::default(), false);
    for piece in pieces {
        scanner.push(Text::from(piece));
        take(&mut scanner, &mut scanned, &mut open);
    }
    scanner.finish();
    take(&mut scanner, &mut scanned, &mut open);
    assert!(!open, "every call ends");
    scanned
}

/// The characters of `text`, each by itself.
fn characters(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()])
}

/// Scans `text` whole, character by character and cut in two everywhere; all come to the same.
#[track_caller]
fn scan_every_way(tools: &Toolset, text: &str) -> Scanned {
    let whole = scan(tools, [text]);
    assert_eq!(scan(tools, characters(text)), whole, "character by character: {text:?}");
    for (at, _) in text.char_indices().skip(1) {
        let (a, b) = text.split_at(at);
        assert_eq!(scan(tools, [a, b]), whole, "cut at {at}: {a:?} {b:?}");
    }
    whole
}

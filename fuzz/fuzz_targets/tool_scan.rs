//! The tool scanner on any text, schema and cut: two cuts agree, arguments are objects that
//! parse, and the naive twin of the tests agrees wherever the text's JSON is strict.
#![no_main]

#[path = "../../tests/tool_scan/fragments.rs"]
mod fragments;
#[path = "../../tests/tool_scan/twin.rs"]
mod twin;

use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use tower_qwen::{
    Text,
    chat::{FunctionTool, Tool},
    tool::scan::{Item, Scanner, Toolset},
};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Three bits a parameter: its type.
    types: [u8; 10],
    /// Which of the tools are declared.
    declared: u8,
    /// Lengths of pieces, over and over.
    cuts: [u8; 4],
    /// ASCII as it is; every other byte stands for a fragment of markup.
    text: &'a [u8],
}

const TOOLS: [(&str, &[&str]); 5] = [
    ("read", &["path"]),
    ("search", &["query", "limit", "filter", "options", "deep"]),
    ("write_file", &["path", "content", "mode"]),
    ("list", &[]),
    ("think", &["thought"]),
];

fn schema(choice: u8) -> Value {
    match choice % 8 {
        0..=2 => json!({"type": "string"}),
        3 => json!({"type": ["string", "null"]}),
        4 => json!({"type": "integer"}),
        5 => json!({"anyOf": [{"type": "object"}, {"type": "array"}]}),
        6 => json!({"type": ["boolean", "number", "null"]}),
        _ => json!({"enum": ["a", 1]}),
    }
}

fn declared(input: &Input<'_>) -> Vec<twin::Declared> {
    let mut types = input.types.iter().copied().map(schema);
    TOOLS
        .iter()
        .enumerate()
        .map(|(at, (name, keys))| {
            let parameters = keys.iter().map(|key| (*key, types.next().expect("ten"))).collect();
            (at, twin::Declared { name, parameters })
        })
        .filter(|(at, _)| input.declared & (1 << at) == 0)
        .map(|(_, tool)| tool)
        .collect()
}

fn scan<'a>(tools: &Toolset, pieces: impl Iterator<Item = &'a str>) -> twin::Outcome {
    let mut scanner = Scanner::new(tools.clone());
    let mut outcome = twin::Outcome::default();
    let mut arguments: Vec<String> = Vec::new();
    let mut open = false;
    let mut take = |scanner: &mut Scanner| {
        while let Some(item) = scanner.pop() {
            match item {
                Item::Text(text) => {
                    assert!(!open && !text.is_empty());
                    outcome.text.push_str(&text);
                }
                Item::Reasoning(text) => {
                    assert!(!open && !text.is_empty());
                    outcome.reasoning.push_str(&text);
                }
                Item::Call { name, .. } => {
                    assert!(!open && !name.is_empty());
                    open = true;
                    outcome.calls.push((name.to_string(), Value::Null));
                    arguments.push(String::new());
                }
                Item::Arguments(json) => {
                    assert!(open && !json.is_empty());
                    arguments.last_mut().expect("a call").push_str(&json);
                }
                Item::End { .. } => {
                    assert!(open);
                    open = false;
                }
                other => panic!("{other:?}"),
            }
        }
        open
    };
    for piece in pieces {
        scanner.push(Text::from(piece));
        take(&mut scanner);
        assert!(scanner.held() <= 2129);
    }
    scanner.finish();
    assert!(!take(&mut scanner), "a call was left open");
    for (call, arguments) in outcome.calls.iter_mut().zip(arguments) {
        call.1 = serde_json::from_str(&arguments)
            .unwrap_or_else(|error| panic!("{arguments:?} does not parse: {error}"));
        assert!(call.1.is_object());
    }
    outcome
}

fuzz_target!(|input: Input<'_>| {
    let mut text = String::new();
    for &byte in input.text {
        if byte.is_ascii() {
            text.push(byte.into());
        } else {
            text.push_str(
                fragments::FRAGMENTS[usize::from(byte - 128) % fragments::FRAGMENTS.len()],
            );
        }
    }
    let declared = declared(&input);
    let tools = declared.iter().map(|tool| {
        let properties: Map<String, Value> =
            tool.parameters.iter().map(|(key, schema)| ((*key).into(), schema.clone())).collect();
        Tool::Function(FunctionTool::new(tool.name, json!({"properties": properties})))
    });
    let tools = Toolset::new(Arc::new(tools.collect()));

    let whole = scan(&tools, std::iter::once(text.as_str()));
    let mut lengths = input.cuts.iter().cycle().map(|&cut| usize::from(cut) + 1);
    let mut rest = text.as_str();
    let pieces = std::iter::from_fn(|| {
        let mut length = lengths.next().expect("endless").min(rest.len());
        while !rest.is_char_boundary(length) {
            length += 1;
        }
        let (piece, tail) = rest.split_at(length);
        rest = tail;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(scan(&tools, pieces), whole, "cut otherwise: {text:?}");
    if let Some(expected) = twin::outcome(&declared, &text) {
        assert_eq!(whole, expected, "the twin: {text:?}");
    }
});

//! Reads rendered calls back with the crate's own scanner.

use std::sync::Arc;

use tower_qwen::{
    chat::Tool,
    tool::scan::{Item, Scanner, Toolset},
};

use super::Read;

/// The calls in `text`, which holds nothing else.
pub(crate) fn scan(text: &str, tools: &[Tool]) -> Vec<Read> {
    let mut scanner = Scanner::new(Toolset::new(Arc::new(tools.to_vec())));
    scanner.push(text.into());
    scanner.finish();
    let mut calls: Vec<Read> = Vec::new();
    while let Some(item) = scanner.pop() {
        match item {
            Item::Call { name, .. } => calls.push((name.to_string(), String::new())),
            Item::Arguments(json) => {
                let (_, arguments) = calls.last_mut().expect("arguments are of a call");
                arguments.push_str(&json);
            }
            Item::End { complete } => assert!(complete, "{text}"),
            other => panic!("{other:?} in {text}"),
        }
    }
    calls
}

//! The tool scanner beside the crate tool-parser, on the same text in the same pieces of four
//! bytes, in the same run.
//!
//! The contestants take turns, round by round, and the best round of each counts. Prints
//! nanoseconds a piece. tool-parser looks at everything that it holds again with each piece, so
//! it is given no argument above 64 KiB.
//!
//! `cargo bench --bench tool` here; the number of rounds is the argument (`-- 20`).

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tool_parser::{ToolParser, parsers::QwenXmlParser};
use tower_qwen::{
    Text,
    chat::{FunctionTool, Tool},
    tool::scan::{Item, Scanner, Toolset},
};

const PIECE: usize = 4;

struct Case {
    name: String,
    text: String,
    /// How many calls are to be found, by whoever finds them.
    calls: usize,
    /// Whether the twin can be waited for.
    twin: bool,
}

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "path": {"type": "string"}, "content": {"type": "string"},
    }})
}

fn repeat(text: &str, length: usize) -> String {
    text.chars().cycle().take(length).collect()
}

fn call(value: &str) -> String {
    format!(
        "I will write it.\n\n<tool_call>\n<function=write_file>\n<parameter=path>\nsrc/main.rs\n\
         </parameter>\n<parameter=content>\n{value}\n</parameter>\n</function>\n</tool_call>"
    )
}

const CODE: &str = "    let total = items.iter().map(|item| item.price * item.count).sum();\n";
const HTML: &str = "<li class=\"item\"><a href=\"/x?a=1&amp;b=2\">one</a> <b>two</b></li>\n";
const PROSE: &str = "The function reads the file, counts its lines and gives back what it found. ";
const MARKUP: &str = "Use `a < b`, <b>bold</b>, <tool_call> or <function=x> and a <read> tag.\n";

fn cases() -> Vec<Case> {
    let argument = |kib: usize, what: &str, text: &str| Case {
        name: format!("{kib} KiB argument, {what}"),
        text: call(&repeat(text, kib << 10)),
        calls: 1,
        twin: kib <= 64,
    };
    let plain = |name: &str, text: &str| Case {
        name: format!("64 KiB {name}"),
        text: repeat(text, 64 << 10),
        calls: 0,
        twin: true,
    };
    vec![
        argument(4, "code", CODE),
        argument(64, "code", CODE),
        argument(1024, "code", CODE),
        argument(64, "HTML", HTML),
        plain("prose", PROSE),
        plain("markup-dense prose", MARKUP),
    ]
}

/// The places at which `text`, which is ASCII, is cut.
fn cuts(text: &str) -> impl Iterator<Item = std::ops::Range<usize>> {
    let length = text.len();
    (0..length).step_by(PIECE).map(move |at| at..length.min(at + PIECE))
}

fn scan(tools: &Toolset, text: &Text) -> usize {
    let mut scanner = Scanner::new(tools.clone());
    let mut calls = 0;
    let mut drain = |scanner: &mut Scanner| {
        while let Some(item) = scanner.pop() {
            calls += usize::from(matches!(item, Item::Call { .. }));
            black_box(item);
        }
    };
    for piece in cuts(text) {
        scanner.push(text.slice(piece));
        drain(&mut scanner);
    }
    scanner.finish();
    drain(&mut scanner);
    calls
}

/// Runs a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("nothing is waited for"),
    }
}

fn twin(text: &Text) -> usize {
    let tools = json!([{"type": "function", "function": {
        "name": "write_file", "description": "", "parameters": schema(),
    }}]);
    let tools: Vec<_> = serde_json::from_value(tools).expect("a tool");
    let mut parser = QwenXmlParser::new();
    let mut calls = 0;
    for piece in cuts(text) {
        let result = now(parser.parse_incremental(&text[piece], &tools)).expect("no error");
        calls += result.calls.iter().filter(|call| call.name.is_some()).count();
        black_box(result);
    }
    calls
}

fn time(run: impl FnOnce() -> usize, calls: usize, best: &mut Duration) {
    let start = Instant::now();
    let found = run();
    *best = (*best).min(start.elapsed());
    assert_eq!(found, calls, "the calls of the text");
}

fn main() {
    let rounds = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(10);
    let tools =
        Toolset::new(Arc::new(vec![Tool::Function(FunctionTool::new("write_file", schema()))]));
    println!("{:<32} {:>10} {:>14} {:>9}", "", "ns a piece", "tool-parser", "ratio");
    for case in cases() {
        // Sliced while they are fed: a list of all pieces would measure the cache.
        let text = Text::from(case.text.as_str());
        let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
        for round in 0..rounds {
            time(|| scan(&tools, &text), case.calls, &mut ours);
            // Seconds a round: two are enough to see what it is.
            if case.twin && round < 2 {
                time(|| twin(&text), case.calls, &mut theirs);
            }
        }
        let each = |total: Duration| total.as_nanos() as f64 / cuts(&text).count() as f64;
        print!("{:<32} {:>10.1}", case.name, each(ours));
        if case.twin {
            print!(" {:>14.1} {:>8.1}x", each(theirs), each(theirs) / each(ours));
        }
        println!();
    }
}

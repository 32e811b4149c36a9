//! Replies as a model might write them, and what must hold for each; used by the property tests
//! and by the fuzz target.

use std::{collections::VecDeque, sync::Arc};

use tower_qwen::{
    Text,
    chat::ChatEvent,
    tool::{
        internals::{Automaton, End, Outcome},
        wrap::Vocabulary,
    },
};

use super::xml_client::{Client, Reading};

pub(crate) const TOOLS: [&str; 6] = [
    "read_file",
    "read",
    "write_to_file",
    "execute_command",
    "ask_followup_question",
    "attempt_completion",
];

pub(crate) const PARAMETERS: [&str; 6] =
    ["path", "content", "command", "result", "args", "question"];

/// Pieces of markup, whole and broken, for random replies.
pub(crate) const MARKUP: [&str; 60] = [
    "<read_file>",
    "</read_file>",
    "<read>",
    "</read>",
    "<write_to_file>",
    "</write_to_file>",
    "<execute_command>",
    "</execute_command>",
    "<attempt_completion>",
    "</attempt_completion>",
    "<path>",
    "</path>",
    "<content>",
    "</content>",
    "<command>",
    "</command>",
    "<result>",
    "</result>",
    "<args>",
    "</args>",
    "<tool_call>",
    "</tool_call>",
    "<function=read_file>",
    "<function=write_to_file>",
    "<function=unknown>",
    "</function>",
    "<parameter=path>",
    "<parameter=content>",
    "<parameter=unknown>",
    "</parameter>",
    "<think>",
    "</think>",
    "<tools>",
    "<read_file",
    "</pa",
    "<func",
    "<",
    ">",
    "/",
    "`",
    "```\n",
    "~~~",
    "&lt;",
    "{",
    "}",
    "[",
    "]",
    "{\"name\": \"read_file\", \"arguments\": {\"path\": \"",
    "{\"arguments\": {\"content\": \"x\", \"path\": null}, \"name\": \"write_to_file\"}",
    "{\"name\": \"nothing\", \"arguments\": {}}",
    "\"",
    "\\",
    "\\u00e9",
    ", ",
    ": ",
    "\n",
    " ",
    "\u{feff}",
    "é🦀",
    "Some words",
];

/// What the wrapper made of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrapped {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) outcome: Outcome,
}

pub(crate) fn vocabulary() -> Arc<Vocabulary> {
    Arc::new(Vocabulary::new(TOOLS, PARAMETERS))
}

pub(crate) fn client() -> Client {
    Client::new(&TOOLS, &PARAMETERS)
}

/// Runs the wrapper over `pieces`, checking what may be kept back behind each.
pub(crate) fn wrap<'a>(
    pieces: impl IntoIterator<Item = &'a str>,
    end: End,
    window: usize,
) -> Wrapped {
    let vocabulary = vocabulary();
    // A wrapper, blanks, an opener, blanks, and a closer (JSON before its name aside).
    let bound = "<tool_call>".len() + 2 * 256 + 2 * ("<function=>".len() + vocabulary.longest());
    let mut automaton = Automaton::new(vocabulary).lead_window(window);
    let mut queue = VecDeque::new();
    let mut so_far = String::new();
    for piece in pieces {
        so_far.push_str(piece);
        automaton.push(&Text::from(piece), &mut queue);
        let json = so_far.contains("<tool_call>");
        let bound = if json { 64 * 1024 + bound } else { bound };
        assert!(automaton.held() <= bound, "{} bytes are held", automaton.held());
    }
    let outcome = automaton.finish(end, &mut queue);
    let mut wrapped = Wrapped { text: String::new(), reasoning: String::new(), outcome };
    for piece in queue {
        match piece {
            ChatEvent::Text(text) => {
                assert!(!text.is_empty());
                wrapped.text.push_str(&text);
            }
            ChatEvent::Reasoning(text) => {
                assert!(!text.is_empty());
                wrapped.reasoning.push_str(&text);
            }
            other => panic!("{other:?}"),
        }
    }
    wrapped
}

/// `reply` in pieces of `size` bytes, or a little more where a character would be cut.
pub(crate) fn pieces(reply: &str, size: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = reply;
    while !rest.is_empty() {
        let at = (size.max(1)..rest.len()).find(|&at| rest.is_char_boundary(at));
        let (piece, next) = rest.split_at(at.unwrap_or(rest.len()));
        pieces.push(piece);
        rest = next;
    }
    pieces
}

/// The promise of the wrapper, for any reply whatever: returns what it made of it.
pub(crate) fn check(reply: &str, end: End, sizes: &[usize]) -> (Wrapped, Reading) {
    let whole = wrap([reply], end, 0);
    for &size in sizes {
        assert_eq!(wrap(pieces(reply, size), end, 0), whole, "cut every {size} bytes: {reply:?}");
    }

    let visible = visible(reply);
    assert_eq!(whole.outcome == Outcome::Empty, visible.is_empty(), "{reply:?}");
    let roo = client().roo_streaming(&whole.text);
    let cline = client().cline(&whole.text);
    for reading in [&roo, &cline] {
        let calls = usize::from(!visible.is_empty());
        assert_eq!(reading.calls.len(), calls, "{reply:?} became {:?}: {reading:#?}", whole.text);
    }
    let Some(call) = cline.calls.first() else {
        assert_eq!(whole.text, "");
        return (whole, cline);
    };
    assert_eq!(roo.calls[0].name, call.name);
    match whole.outcome {
        Outcome::Call => {
            // What the client runs stands in the reply as it is, but for closers that were left
            // out, and nothing follows it.
            let start = whole.text.len() - tail(&whole.text, &cline);
            let run = &whole.text[start..];
            let passed = reply.contains(run)
                || (0..run.len()).any(|cut| {
                    end == End::Complete
                        && run.is_char_boundary(cut)
                        && reply.ends_with(&run[..cut])
                        && closers(&run[cut..])
                });
            assert!(passed, "{run:?} of {reply:?}");
        }
        Outcome::Completed => {
            assert!(call.closed && call.name == "attempt_completion");
            let text = roo.text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
            let result = call.parameters["result"].trim_matches('\u{feff}').trim();
            assert_eq!(result, text.replace("</result>", "&lt;/result>"), "{reply:?}");
        }
        _ => {}
    }
    if end == End::Complete {
        assert!(roo.calls[0].closed && call.closed, "{reply:?} became {:?}", whole.text);
    }

    // A window changes when text leaves, and drops it before its completion.
    let late = wrap(pieces(reply, 3), end, 40);
    assert_eq!(late.outcome, whole.outcome);
    if late.text != whole.text {
        assert_eq!(late.outcome, Outcome::Completed);
        assert!(whole.text.ends_with(&format!("\n\n{}", late.text)), "{reply:?}");
        assert_eq!(client().cline(&late.text).calls, cline.calls);
    }
    (whole, cline)
}

/// Whether the text is the end of a closer, and maybe one more on the next line.
fn closers(text: &str) -> bool {
    text.ends_with('>') && text.matches('>').count() <= 2 && !text.contains(' ')
}

/// How long the reply is from its call's opener on.
fn tail(text: &str, reading: &Reading) -> usize {
    text.len() - reading.text.len()
}

/// What a reader would see of a reply: without the blanks and the think blocks at its start.
fn visible(reply: &str) -> &str {
    let mut rest = reply;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        if let Some(after) = rest.strip_prefix("</think>") {
            rest = after;
        } else if let Some(inside) = rest.strip_prefix("<think>") {
            match inside.find("</think>") {
                Some(end) => rest = &inside[end + "</think>".len()..],
                None => return "",
            }
        } else {
            return rest;
        }
    }
}

//! What is left around calls of the markup that they were read from.

use std::collections::VecDeque;

use crate::{Text, chat::ChatEvent};

/// How much may be held, in bytes. Templates write a few line ends, and a closing tag is short.
const HELD_LEN: usize = 256;

/// How much white space may be left out before a call, in bytes: a longer run is the answer.
const LAYOUT_LEN: usize = 64;

/// The longest closing tag.
const CLOSER_LEN: usize = 40;

/// Holds text that may turn out to be no text: pieces of white space, which a call may follow, and
/// behind a call what a server's reader of calls did not take: closing tags, doubled or mis-spelt
/// ones too.
///
/// What is held and is text after all is given as it came.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    state: State,
    held: Vec<Text>,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Text is the answer's.
    #[default]
    Text,
    /// Nothing but white space and closers has come since a call.
    BehindCall,
}

impl Leftovers {
    /// Takes an event of the text or of thinking.
    #[inline]
    pub(super) fn push(&mut self, event: ChatEvent, ready: &mut VecDeque<ChatEvent>) {
        match event {
            ChatEvent::Text(text)
                if self.state == State::BehindCall || !self.held.is_empty() || is_blank(&text) =>
            {
                self.text(text, ready);
            }
            event => ready.push_back(event),
        }
    }

    #[inline(never)]
    fn text(&mut self, text: Text, ready: &mut VecDeque<ChatEvent>) {
        self.len += text.len();
        let is_held = match self.state {
            State::Text => self.len <= LAYOUT_LEN && is_blank(&text),
            State::BehindCall => {
                let mut all: String = self.held.iter().map(Text::as_str).collect();
                all.push_str(&text);
                self.len <= HELD_LEN && is_leftover(&all)
            }
        };
        self.held.push(text);
        if !is_held {
            self.state = State::Text;
            self.settle_text(ready);
        }
    }

    /// A call, or a piece of one: what was held before it is nothing.
    pub(super) fn call(&mut self) {
        self.state = State::BehindCall;
        self.held.clear();
        self.len = 0;
    }

    /// The end: what is held is text, unless it stands behind a call.
    pub(super) fn settle(&mut self, ready: &mut VecDeque<ChatEvent>) {
        match self.state {
            State::Text => self.settle_text(ready),
            State::BehindCall => {
                let all: String = self.held.iter().map(Text::as_str).collect();
                if all.contains('<') && !is_whole(&all) {
                    self.settle_text(ready);
                }
                self.held.clear();
                self.len = 0;
            }
        }
    }

    fn settle_text(&mut self, ready: &mut VecDeque<ChatEvent>) {
        self.len = 0;
        ready.extend(self.held.drain(..).map(ChatEvent::Text));
    }
}

/// Whether `text` is white space; nearly all pieces show with their first bytes that they are not.
#[inline]
fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_whitespace())
}

/// Whether `text` is white space and closers, of which the last may be half there.
fn is_leftover(text: &str) -> bool {
    let mut rest = text.trim_ascii_start();
    while !rest.is_empty() {
        match closer(rest) {
            Closer::Whole(len) => rest = rest[len..].trim_ascii_start(),
            Closer::Half => return true,
            Closer::None => return false,
        }
    }
    true
}

/// Whether `text` is white space and whole closers.
fn is_whole(text: &str) -> bool {
    let mut rest = text.trim_ascii_start();
    while let Closer::Whole(len) = closer(rest) {
        rest = rest[len..].trim_ascii_start();
    }
    rest.is_empty()
}

enum Closer {
    /// A closer of so many bytes.
    Whole(usize),
    /// What may become one.
    Half,
    None,
}

/// The closer that `text` begins with: `</…>`, `<|…|>` or `[/…]` whose name is nearly one that
/// dialects have for calls.
fn closer(text: &str) -> Closer {
    let kinds = [("</", ">"), ("<|", "|>"), ("<\u{ff5c}", "\u{ff5c}>"), ("[/", "]")];
    for (open, close) in kinds {
        if text.len() < open.len() {
            if open.starts_with(text) {
                return Closer::Half;
            }
            continue;
        }
        let Some(inside) = text.strip_prefix(open) else { continue };
        return match inside.find(close) {
            Some(end) if end <= CLOSER_LEN && is_name(&inside[..end]) => {
                Closer::Whole(open.len() + end + close.len())
            }
            None if inside.len() <= CLOSER_LEN && !inside.contains(['<', '\n']) => Closer::Half,
            _ => Closer::None,
        };
    }
    Closer::None
}

/// Whether the name of a tag is nearly one that dialects have for calls.
fn is_name(name: &str) -> bool {
    const NAMES: [&str; 14] = [
        "toolcall",
        "toolcalls",
        "toolcallend",
        "toolcallsend",
        "tool",
        "tooluse",
        "function",
        "functioncall",
        "functioncalls",
        "parameter",
        "parameters",
        "arguments",
        "invoke",
        "imend",
    ];
    let plain: String =
        name.chars().filter(|c| c.is_alphabetic()).flat_map(char::to_lowercase).collect();
    // Names with a vendor before them, such as `minimax:tool_call`.
    let behind = name.rsplit(':').next().unwrap_or(name);
    let behind: String =
        behind.chars().filter(|c| c.is_alphabetic()).flat_map(char::to_lowercase).collect();
    NAMES.iter().any(|known| {
        // One slip in a short name makes another word.
        let slips = known.len() / 4;
        [&plain, &behind].into_iter().any(|name| distance(name, known) <= slips.min(2))
    })
}

/// How many letters must be put in, taken out or changed to make the one of the other. Both are
/// short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let same = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = same.min(before + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `|` stands for a call.
    fn read(pieces: &[&str]) -> String {
        let (mut leftovers, mut ready) = (Leftovers::default(), VecDeque::new());
        for piece in pieces {
            match *piece {
                "|" => leftovers.call(),
                text => leftovers.push(ChatEvent::Text(text.into()), &mut ready),
            }
        }
        leftovers.settle(&mut ready);
        ready
            .into_iter()
            .map(|event| match event {
                ChatEvent::Text(text) => text.to_string(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn leftovers_around_calls_are_left_out() {
        let long = " ".repeat(LAYOUT_LEN + 1);
        for (pieces, expected) in [
            (&["\n\n", "|"][..], ""),
            (&["Hi", "\n", " \n", "|"], "Hi"),
            (&["\n\n", "Hi"], "\n\nHi"),
            (&["Hi", "\n\n"], "Hi\n\n"),
            (&[&long, "|"], &long),
            (&["|", "\n</tool_call>"], ""),
            (&["|", "\n</tool", "_call>", "\n", "</tool_call>\n"], ""),
            (&["|", "</tool_cal>", "</tool_call>"], ""),
            (&["|", "</toolcall>"], ""),
            (&["|", "</function>\n</tool_call>", "<|im_end|>"], ""),
            (&["|", "</minimax:tool_call>"], ""),
            (&["|", "<\u{ff5c}tool\u{2581}call\u{2581}end\u{ff5c}>"], ""),
            (&["|", "[/TOOL_CALLS]"], ""),
            (&["|", "\n", "|", "</parameter>"], ""),
            // Text, and markup of another kind.
            (&["|", "\nDone."], "\nDone."),
            (&["|", "</div>"], "</div>"),
            (&["|", "</tool_call>", "Done."], "</tool_call>Done."),
            (&["|", "<", "b>"], "<b>"),
            (&["|", "</tool"], "</tool"),
            (&["</tool_call>"], "</tool_call>"),
            (&["|", "a < b"], "a < b"),
        ] {
            assert_eq!(read(pieces), expected, "{pieces:?}");
        }
    }
}

//! What is left around calls of the markup that they were read from.

use std::collections::VecDeque;

use crate::{Text, chat::ChatEvent, closer::Closer};

/// How much white space may be held behind a call, in bytes: templates write a few line ends, and a
/// longer run is the answer.
const HELD_LEN: usize = 256;

/// How much white space may be left out before a call, in bytes: a longer run is the answer.
const LAYOUT_LEN: usize = 64;

/// Holds text that may turn out to be no text: pieces of white space, which a call may follow, and
/// behind a call what a server's reader of calls did not take: closing tags, doubled or mis-spelt
/// ones too, with the white space around them.
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
    /// Nothing but white space has come since a call.
    BehindCall,
    /// Closers have come since a call, and the white space behind them is theirs.
    BehindCloser,
}

impl Leftovers {
    /// Whether text that is not blank passes as it is.
    pub(super) fn is_plain(&self) -> bool {
        self.state == State::Text && self.held.is_empty()
    }

    /// Takes an event of the text or of thinking.
    #[inline]
    pub(super) fn push(&mut self, event: ChatEvent, ready: &mut VecDeque<ChatEvent>) {
        match event {
            ChatEvent::Text(text) if !self.is_plain() || is_blank(&text) => {
                self.text(text, ready);
            }
            event => ready.push_back(event),
        }
    }

    #[inline(never)]
    fn text(&mut self, text: Text, ready: &mut VecDeque<ChatEvent>) {
        self.len += text.len();
        let is_blank = is_blank(&text);
        self.held.push(text);
        let is_held = match self.state {
            State::Text => self.len <= LAYOUT_LEN && is_blank,
            State::BehindCall | State::BehindCloser => self.swallow(),
        };
        if !is_held {
            self.state = State::Text;
            self.settle_text(ready);
        }
    }

    /// Lets go of the closers that are held; whether what is left may be white space and a closer.
    fn swallow(&mut self) -> bool {
        let all: String = self.held.iter().map(Text::as_str).collect();
        let mut rest = all.as_str();
        let is_held = loop {
            let closer = rest.trim_start();
            let gap = rest.len() - closer.len();
            if self.state == State::BehindCloser {
                rest = closer;
            } else if gap > HELD_LEN {
                break false;
            }
            match Closer::at(closer) {
                Closer::Whole { len, .. } => {
                    self.state = State::BehindCloser;
                    rest = &closer[len..];
                }
                Closer::Half => break true,
                Closer::None => break false,
            }
        };
        let mut left = all.len() - rest.len();
        self.len -= left;
        self.held.retain_mut(|text| {
            let cut = left.min(text.len());
            left -= cut;
            if cut == text.len() {
                return false;
            }
            if cut > 0 {
                *text = text.slice(cut..);
            }
            true
        });
        is_held
    }

    /// A call, or a piece of one: what was held before it is nothing.
    pub(super) fn call(&mut self) {
        self.state = State::BehindCall;
        self.held.clear();
        self.len = 0;
    }

    /// The end: what is held is text, unless it is white space behind a call.
    pub(super) fn settle(&mut self, ready: &mut VecDeque<ChatEvent>) {
        if self.state != State::Text && self.held.iter().all(|text| is_blank(text)) {
            self.held.clear();
        }
        self.settle_text(ready);
    }

    fn settle_text(&mut self, ready: &mut VecDeque<ChatEvent>) {
        self.len = 0;
        ready.extend(self.held.drain(..).map(ChatEvent::Text));
    }
}

/// Whether `text` is white space; nearly all pieces show with their first character that they are
/// not.
#[inline]
pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands for a call.
    const CALL: &str = "call";

    fn read(pieces: &[&str]) -> String {
        let (mut leftovers, mut ready) = (Leftovers::default(), VecDeque::new());
        for piece in pieces {
            match *piece {
                CALL => leftovers.call(),
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
            (&["\n\n", CALL][..], ""),
            (&["Hi", "\n", " \n", CALL], "Hi"),
            (&["\n\n", "Hi"], "\n\nHi"),
            (&["Hi", "\n\n"], "Hi\n\n"),
            (&[&long, CALL], &long),
            (&[CALL, "\n</tool_call>"], ""),
            (&[CALL, "\n</tool", "_call>", "\n", "</tool_call>\n"], ""),
            (&[CALL, "</tool_cal>", "</tool_call>"], ""),
            (&[CALL, "</toolcall>"], ""),
            (&[CALL, "</function>\n</tool_call>", "<|im_end|>"], ""),
            (&[CALL, "</minimax:tool_call>"], ""),
            (&[CALL, "<\u{ff5c}tool\u{2581}call\u{2581}end\u{ff5c}>"], ""),
            (&[CALL, "[/TOOL_CALLS]"], ""),
            (&[CALL, "\n", CALL, "</parameter>"], ""),
            (&[CALL, "</func>\n</tool_call>"], ""),
            (&["\u{a0}\n", CALL], ""),
            (&[CALL, "\u{a0}</tool_call>\u{2003}", "</tool_call>"], ""),
            // The text behind closers begins behind their white space.
            (&[CALL, "\n</tool_call>\n\nDone.\n"], "Done.\n"),
            (&[CALL, "</tool_call>", "\n", "\n", "Do", "ne."], "Done."),
            (&[CALL, "</tool_call>", "The </tool_call> ends it."], "The </tool_call> ends it."),
            (&[CALL, "</tool_call>\n<b>"], "<b>"),
            (&[CALL, "</tool_call>\n</tool"], "</tool"),
            // Text, and markup of another kind.
            (&[CALL, "\nDone."], "\nDone."),
            (&[CALL, "</div>"], "</div>"),
            (&[CALL, "</tool_call>", "Done."], "Done."),
            (&[CALL, "["], "["),
            (&[CALL, "<", "b>"], "<b>"),
            (&[CALL, "</tool"], "</tool"),
            (&["</tool_call>"], "</tool_call>"),
            (&[CALL, "a < b"], "a < b"),
        ] {
            assert_eq!(read(pieces), expected, "{pieces:?}");
            if let [CALL, text @ ..] = pieces
                && !text.contains(&CALL)
            {
                let text = text.concat();
                let mut characters: Vec<&str> = text.split("").filter(|c| !c.is_empty()).collect();
                characters.insert(0, CALL);
                assert_eq!(read(&characters), expected, "{characters:?}");
                assert_eq!(read(&[CALL, &text]), expected, "{text:?}");
            }
        }
    }

    #[test]
    fn closers_are_not_kept() {
        let (mut leftovers, mut ready) = (Leftovers::default(), VecDeque::new());
        leftovers.call();
        for _ in 0..10_000 {
            for piece in ["\n", "</tool", "_call>", " ", "</func", "tion>"] {
                leftovers.push(ChatEvent::Text(piece.into()), &mut ready);
                assert!(leftovers.len < 16 && leftovers.held.len() < 4 && ready.is_empty());
            }
        }
        let long = " ".repeat(HELD_LEN);
        assert_eq!(read(&[CALL, &long, "</tool_call>", "x"]), "x");
        assert_eq!(read(&[CALL, &long, "\n", "x"]), format!("{long}\nx"));
        assert_eq!(read(&[CALL, "</func>", &long, "\n</tool_call>x"]), "x");
    }
}

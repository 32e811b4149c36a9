//! Thinking that stands in the content, between `<think>` and `</think>`.

use crate::chat::{ChatEvent, Text};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Separates a leading think block from the answer, for servers without a reasoning parser
/// (qwen-wire.md B9, C2).
///
/// Only a block at the very start counts: later ones are the model's words about such tags. The
/// tags may be cut anywhere; held back is nothing but a possible beginning of one, and the white
/// space around it. A lone closing tag, whose opening one the chat template has already written
/// into the prompt, is recognised only where the stream was said to begin
/// [inside](ThinkSplitter::inside), because what was sent as an answer cannot be taken back;
/// otherwise it is dropped at the start of the content and left alone anywhere else.
#[derive(Debug)]
pub(super) struct ThinkSplitter {
    state: State,
    /// What may be the beginning of a tag; shorter than the tag, plus white space before it.
    held: String,
    /// A tag was taken out.
    found: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far.
    Start,
    Thinking,
    /// Behind the closing tag; white space there is layout.
    Behind,
    Answer,
}

impl ThinkSplitter {
    pub(super) const fn new() -> Self {
        Self { state: State::Start, held: String::new(), found: false }
    }

    /// For a stream whose prompt has already opened the block.
    pub(super) const fn inside() -> Self {
        Self { state: State::Thinking, held: String::new(), found: false }
    }

    /// For content that is passed on as it is.
    pub(super) const fn off() -> Self {
        Self { state: State::Answer, held: String::new(), found: false }
    }

    /// Whether a tag was taken out of the content.
    pub(super) const fn found(&self) -> bool {
        self.found
    }

    /// Takes one piece of content, gives the events that are certain.
    pub(super) fn push(&mut self, piece: Text, mut give: impl FnMut(ChatEvent)) {
        if self.state == State::Answer {
            return give(ChatEvent::Text(piece));
        }
        // Thinking and the few characters around it are joined with what was held; the answer,
        // which is most of the stream, is not.
        let mut rest = if self.held.is_empty() {
            piece
        } else {
            let mut joined = std::mem::take(&mut self.held);
            joined.push_str(&piece);
            joined.into()
        };
        while !rest.is_empty() {
            match self.state {
                State::Start => {
                    let trimmed = rest.trim_start();
                    if let Some(behind) = trimmed.strip_prefix(OPEN) {
                        self.state = State::Thinking;
                        self.found = true;
                        rest = rest.slice_ref(behind);
                    } else if let Some(behind) = trimmed.strip_prefix(CLOSE) {
                        self.state = State::Behind;
                        self.found = true;
                        rest = rest.slice_ref(behind);
                    } else if OPEN.starts_with(trimmed) || CLOSE.starts_with(trimmed) {
                        return self.held.push_str(&rest);
                    } else {
                        self.state = State::Answer;
                    }
                }
                State::Thinking => {
                    let (thought, behind) = match rest.find(CLOSE) {
                        Some(at) => {
                            self.state = State::Behind;
                            self.found = true;
                            (&rest[..at], &rest[at + CLOSE.len()..])
                        }
                        None => {
                            let kept = rest.len() - tail(&rest);
                            self.held.push_str(&rest[kept..]);
                            (&rest[..kept], "")
                        }
                    };
                    if !thought.is_empty() {
                        give(ChatEvent::Reasoning(rest.slice_ref(thought)));
                    }
                    rest = rest.slice_ref(behind);
                }
                State::Behind => {
                    let trimmed = rest.slice_ref(rest.trim_start());
                    if trimmed.is_empty() {
                        return;
                    }
                    self.state = State::Answer;
                    rest = trimmed;
                }
                State::Answer => return give(ChatEvent::Text(rest)),
            }
        }
    }

    /// Gives what was held when the stream ended.
    pub(super) fn finish(&mut self, mut give: impl FnMut(ChatEvent)) {
        if self.held.is_empty() {
            return;
        }
        let held = Text::from(std::mem::take(&mut self.held));
        match self.state {
            State::Thinking => give(ChatEvent::Reasoning(held)),
            State::Start if !held.trim().is_empty() => give(ChatEvent::Text(held)),
            _ => {}
        }
    }
}

/// How many bytes at the end of `text` may begin the closing tag.
fn tail(text: &str) -> usize {
    (1..CLOSE.len())
        .rev()
        .find(|&len| text.as_bytes().ends_with(&CLOSE.as_bytes()[..len]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(mut splitter: ThinkSplitter, pieces: &[&str]) -> (String, String) {
        let (mut thought, mut text) = (String::new(), String::new());
        let mut give = |event| match event {
            ChatEvent::Reasoning(piece) => thought.push_str(&piece),
            ChatEvent::Text(piece) => text.push_str(&piece),
            other => panic!("{other:?}"),
        };
        for piece in pieces {
            splitter.push((*piece).into(), &mut give);
        }
        splitter.finish(&mut give);
        (thought, text)
    }

    #[test]
    fn table() {
        for (whole, thought, text) in [
            ("", "", ""),
            ("Hi", "", "Hi"),
            ("  Hi", "", "  Hi"),
            ("<think>hm</think>\n\nHi", "hm", "Hi"),
            ("\n<think>\nhm\n</think>Hi", "\nhm\n", "Hi"),
            ("<think>hm", "hm", ""),
            ("<think>a < b</th", "a < b</th", ""),
            ("</think>\n\nHi", "", "Hi"),
            ("<thin", "", "<thin"),
            ("<thin air>", "", "<thin air>"),
            ("Use <think>x</think>.", "", "Use <think>x</think>."),
            ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ] {
            let whole_split = split(ThinkSplitter::new(), &[whole]);
            assert_eq!(whole_split, (thought.into(), text.into()), "{whole:?}");
        }
        assert_eq!(
            split(ThinkSplitter::inside(), &["hm</thi", "nk>\n\nHi"]),
            ("hm".into(), "Hi".into())
        );
    }

    #[test]
    fn an_answer_is_neither_held_nor_copied() {
        let mut splitter = ThinkSplitter::new();
        let piece = Text::from("Hello <");
        let mut given = None;
        splitter.push(piece.clone(), |event| given = Some(event));
        let Some(ChatEvent::Text(text)) = given else { panic!("{given:?}") };
        assert_eq!(text.as_ptr(), piece.as_ptr());
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("<think>"), Just("</think>"), Just("<thi"), Just("<"), Just(" \n"),
                    Just("é"), Just("word "),
                ],
                0..8,
            ),
            inside: bool,
        ) {
            let whole = parts.concat();
            let splitter = || if inside { ThinkSplitter::inside() } else { ThinkSplitter::new() };
            let chars: Vec<_> =
                whole.char_indices().map(|(at, c)| &whole[at..at + c.len_utf8()]).collect();
            prop_assert_eq!(split(splitter(), &[&whole]), split(splitter(), &chars));
        }
    }
}

//! Thinking that stands in the content, between `<think>` and `</think>`.

use crate::{Text, chat::ChatEvent};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// How much white space may stand around a block, in bytes: templates write a few line ends.
/// Longer runs are the answer, such as those of a model that is kept to JSON and lost the thread.
const LAYOUT_LEN: usize = 64;

/// Separates a leading think block from the answer, for servers without a reasoning
/// parser of their own.
///
/// Only a block at the very start counts: later ones are the model's words about such tags. The
/// tags may be cut anywhere; held back is nothing but a possible beginning of one, and a little
/// white space before it. White space behind a block is left out, as far as it is layout; nothing
/// else is lost. A lone closing tag, whose opening one the chat template has already written
/// into the prompt, is recognised only where the stream was said to begin
/// [inside](ThinkSplitter::inside), because what was sent as an answer cannot be taken back;
/// otherwise it is dropped at the start of the content and left alone anywhere else.
#[derive(Debug)]
pub(crate) struct ThinkSplitter {
    state: State,
    /// What may be the beginning of a tag; shorter than the tag, plus at most
    /// [`LAYOUT_LEN`] bytes of white space before it.
    held: String,
    /// How much white space behind the closing tag was left out, in bytes.
    left_out: usize,
    /// A tag was taken out.
    found: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far.
    Start,
    Thinking,
    /// Behind the closing tag; a little white space there is layout.
    Behind,
    Answer,
}

impl ThinkSplitter {
    pub(crate) const fn new() -> Self {
        Self::at(State::Start)
    }

    /// For a stream whose prompt has already opened the block.
    pub(crate) const fn inside() -> Self {
        Self::at(State::Thinking)
    }

    /// For content that is passed on as it is.
    pub(crate) const fn off() -> Self {
        Self::at(State::Answer)
    }

    const fn at(state: State) -> Self {
        Self { state, held: String::new(), left_out: 0, found: false }
    }

    /// Whether a tag was taken out of the content.
    pub(crate) const fn found(&self) -> bool {
        self.found
    }

    /// Whether content passes as it is from now on.
    pub(crate) fn is_plain(&self) -> bool {
        self.state == State::Answer
    }

    /// Takes one piece of content, gives the events that are certain.
    pub(crate) fn push(&mut self, piece: Text, mut give: impl FnMut(ChatEvent)) {
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
                    if rest.len() - trimmed.len() > LAYOUT_LEN {
                        self.state = State::Answer;
                    } else if let Some(behind) = trimmed.strip_prefix(OPEN) {
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
                    // Where the run is cut must not depend on where the pieces are.
                    let mut room = LAYOUT_LEN - self.left_out;
                    let trimmed = rest.trim_start_matches(|c: char| {
                        let fits = c.is_whitespace() && c.len_utf8() <= room;
                        room -= if fits { c.len_utf8() } else { 0 };
                        fits
                    });
                    self.left_out = LAYOUT_LEN - room;
                    if trimmed.is_empty() {
                        return;
                    }
                    self.state = State::Answer;
                    rest = rest.slice_ref(trimmed);
                }
                State::Answer => return give(ChatEvent::Text(rest)),
            }
        }
    }

    /// Gives what is held before the first block, because something else than content follows.
    pub(crate) fn settle(&mut self, give: impl FnMut(ChatEvent)) {
        if self.state == State::Start && !self.held.is_empty() {
            self.finish(give);
            self.state = State::Answer;
        }
    }

    /// Gives what was held when the stream ended.
    pub(crate) fn finish(&mut self, mut give: impl FnMut(ChatEvent)) {
        if self.held.is_empty() {
            return;
        }
        let held = Text::from(std::mem::take(&mut self.held));
        match self.state {
            State::Thinking => give(ChatEvent::Reasoning(held)),
            _ => give(ChatEvent::Text(held)),
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
            (" \n ", "", " \n "),
            ("<think>hm</think>\n\n", "hm", ""),
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
    fn a_little_white_space_is_layout_and_more_is_the_answer() {
        let run = |len: usize| " ".repeat(len);
        for (before, thought, text) in
            [(run(64), "hm", "Hi".to_owned()), (run(65), "", run(65) + "<think>hm</think>Hi")]
        {
            let whole = before + "<think>hm</think>Hi";
            assert_eq!(split(ThinkSplitter::new(), &[&whole]), (thought.into(), text));
        }
        for (behind, text) in [(64, "Hi".to_owned()), (70, run(6) + "Hi"), (65, run(1) + "Hi")] {
            let whole = format!("<think>hm</think>{}Hi", run(behind));
            assert_eq!(split(ThinkSplitter::new(), &[&whole]), ("hm".into(), text));
        }
    }

    /// What is held has a bound, and with it what a piece costs, however many come.
    #[test]
    fn a_run_of_white_space_costs_as_much_as_it_is_long() {
        const PIECE: &str = "\n    ";
        const PIECES: usize = 65_536;
        for start in ["", "<think>hm</think>"] {
            let mut splitter = ThinkSplitter::new();
            splitter.push(start.into(), |_| {});
            let (mut events, mut bytes) = (0, 0);
            let mut give = |event| {
                let ChatEvent::Text(text) = event else { panic!("{event:?}") };
                events += 1;
                bytes += text.len();
            };
            for _ in 0..PIECES {
                splitter.push(PIECE.into(), &mut give);
                assert!(splitter.held.len() <= LAYOUT_LEN, "{}", splitter.held.len());
            }
            splitter.finish(&mut give);
            let left_out = if start.is_empty() { 0 } else { LAYOUT_LEN };
            assert_eq!(bytes, PIECES * PIECE.len() - left_out);
            // Only the first few were joined.
            assert!(events >= PIECES - LAYOUT_LEN / PIECE.len(), "{events}");
        }
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
                    Just("\n                              "), Just("\u{3000}\u{3000}\u{2003}"),
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

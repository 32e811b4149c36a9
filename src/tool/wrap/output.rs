use std::collections::VecDeque;

use crate::Text;

/// A piece of what the [`Automaton`](super::automaton::Automaton) lets out; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Piece {
    /// Visible text, calls included.
    Text(Text),
    /// Text of a think block that stood at the start of the reply, without its tags.
    Reasoning(Text),
}

/// Where output goes while one piece of input is read: neighbouring parts of the input leave as
/// one slice of it, neighbouring insertions as one text.
pub(super) struct Output<'a> {
    input: &'a Text,
    queue: &'a mut VecDeque<Piece>,
    part: Part,
    reasoning: bool,
}

enum Part {
    None,
    Slice { start: usize, end: usize },
    Static(&'static str),
    Owned(String),
}

impl<'a> Output<'a> {
    pub(super) fn new(input: &'a Text, queue: &'a mut VecDeque<Piece>) -> Self {
        Self { input, queue, part: Part::None, reasoning: false }
    }

    /// The input that is being read. It outlives the borrow of the output.
    pub(super) fn input(&self) -> &'a Text {
        self.input
    }

    /// The same queue, for another input.
    pub(super) fn queue(&mut self) -> &mut VecDeque<Piece> {
        self.flush();
        self.queue
    }

    /// Lets out a part of the input.
    pub(super) fn slice(&mut self, start: usize, end: usize) {
        if start == end {
            return;
        }
        self.channel(false);
        self.add_slice(start, end);
    }

    /// Lets out something that is not in the input.
    pub(super) fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.channel(false);
        self.add_text(text);
    }

    /// Lets out a constant.
    pub(super) fn constant(&mut self, text: &'static str) {
        self.channel(false);
        match self.part {
            Part::None => self.part = Part::Static(text),
            _ => self.add_text(text),
        }
    }

    /// Lets out one character that is not in the input.
    pub(super) fn character(&mut self, c: char) {
        self.text(c.encode_utf8(&mut [0; 4]));
    }

    /// Lets out a part of the input as reasoning.
    pub(super) fn reasoning_slice(&mut self, start: usize, end: usize) {
        if start == end {
            return;
        }
        self.channel(true);
        self.add_slice(start, end);
    }

    /// Lets out reasoning that is not in the input.
    pub(super) fn reasoning_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.channel(true);
        self.add_text(text);
    }

    fn channel(&mut self, reasoning: bool) {
        if self.reasoning != reasoning {
            self.flush();
            self.reasoning = reasoning;
        }
    }

    fn add_slice(&mut self, start: usize, end: usize) {
        match &mut self.part {
            Part::Slice { end: last, .. } if *last == start => *last = end,
            // Beside an insertion a short part is not worth an event of its own.
            Part::Owned(text) if end - start <= 64 => text.push_str(&self.input[start..end]),
            _ => {
                self.flush();
                self.part = Part::Slice { start, end };
            }
        }
    }

    fn add_text(&mut self, text: &str) {
        match &mut self.part {
            Part::Owned(own) => own.push_str(text),
            Part::Static(first) => self.part = Part::Owned(format!("{first}{text}")),
            _ => {
                self.flush();
                self.part = Part::Owned(text.to_owned());
            }
        }
    }

    fn flush(&mut self) {
        let text = match std::mem::replace(&mut self.part, Part::None) {
            Part::None => return,
            Part::Slice { start, end } => self.input.slice(start..end),
            Part::Static(text) => Text::from_static(text),
            Part::Owned(text) => text.into(),
        };
        self.queue.push_back(if self.reasoning {
            Piece::Reasoning(text)
        } else {
            Piece::Text(text)
        });
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

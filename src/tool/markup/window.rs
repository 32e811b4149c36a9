//! The text that is being looked at, and how to cut it without a copy.

use std::{collections::VecDeque, ops::Range};

use crate::Text;

/// How much of a piece joins held-back text at a time.
pub(in crate::tool) const GROWTH: usize = 64;

/// How many parts are put back as they are.
const PARTS: usize = 64;

/// Text in one piece, for looking, whose parts can leave as slices of what came in.
#[derive(Clone, Copy, Debug)]
pub(in crate::tool) struct Window<'a> {
    text: &'a str,
    parts: Parts<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Parts<'a> {
    One(&'a Text),
    Many(&'a VecDeque<Text>),
}

impl<'a> Window<'a> {
    pub(in crate::tool) fn of(piece: &'a Text) -> Self {
        Self { text: piece, parts: Parts::One(piece) }
    }

    pub(in crate::tool) const fn text(&self) -> &'a str {
        self.text
    }

    /// Whether slices are as long as what they are cut from, not a few held-back bytes.
    #[cfg(feature = "tool-call")]
    pub(in crate::tool) const fn is_piece(&self) -> bool {
        matches!(self.parts, Parts::One(_))
    }

    /// Gives `range` away, slice by slice, without a copy.
    #[inline]
    pub(in crate::tool) fn each(&self, range: Range<usize>, mut take: impl FnMut(Text)) {
        if range.is_empty() {
            return;
        }
        match self.parts {
            Parts::One(piece) => {
                take(if range.len() == piece.len() { piece.clone() } else { piece.slice(range) });
            }
            Parts::Many(parts) => {
                let mut start = 0;
                for part in parts {
                    let end = start + part.len();
                    let from = range.start.clamp(start, end) - start;
                    let to = range.end.clamp(start, end) - start;
                    if from < to {
                        take(part.slice(from..to));
                    }
                    start = end;
                }
            }
        }
    }
}

/// Text that is held back until more of it decides what it is: joined, for looking, and in the
/// slices that it came in.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    text: String,
    parts: VecDeque<Text>,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn push(&mut self, part: Text) {
        self.text.push_str(&part);
        self.parts.push_back(part);
    }

    /// Puts `parts` in front of everything. Many are joined: each place in them that is asked for
    /// is looked for from their start.
    pub(super) fn put_back(&mut self, parts: Vec<Text>) {
        let text = parts.concat();
        self.text.insert_str(0, &text);
        if parts.len() > PARTS {
            self.parts.push_front(text.into());
        } else {
            parts.into_iter().rev().for_each(|part| self.parts.push_front(part));
        }
    }

    pub(super) fn window(&self) -> Window<'_> {
        Window { text: &self.text, parts: Parts::Many(&self.parts) }
    }

    /// Lets go of the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.text.drain(..count);
        let mut left = count;
        while left > 0 {
            let Some(part) = self.parts.front_mut() else { return };
            if part.len() <= left {
                left -= part.len();
                self.parts.pop_front();
            } else {
                *part = part.slice(left..);
                left = 0;
            }
        }
    }
}

/// The last place that is not behind `at` and cuts no character.
pub(super) fn floor(text: &str, at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_between_characters() {
        let text = "aé𝄞";
        assert_eq!([0, 1, 2, 3, 4, 6, 7, 99].map(|at| floor(text, at)), [0, 1, 1, 3, 3, 3, 7, 7]);
    }

    #[test]
    fn slices_point_into_what_came_in() {
        let pieces = [Text::from("héll"), Text::from("o w"), Text::from("örld")];
        let mut held = Held::default();
        pieces.iter().cloned().for_each(|piece| held.push(piece));
        held.consume(3);
        assert_eq!(held.window().text(), "llo wörld");
        let mut slices = Vec::new();
        held.window().each(1..7, |slice| slices.push(slice));
        assert_eq!(slices, ["l", "o w", "ö"]);
        assert_eq!(slices[1].as_ptr(), pieces[1].as_ptr());
        held.consume(10);
        assert!(held.is_empty() && held.parts.is_empty());
    }
}

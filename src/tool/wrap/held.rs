use super::output::Output;

/// How many blanks may stand between a tag and the markup that decides about it, in bytes.
pub(super) const BLANKS: usize = 256;

/// Input that is kept back until it is clear what it is; always ASCII.
#[derive(Debug, Default)]
pub(super) struct Held {
    text: String,
    /// How many of the last bytes belong to the input that is being read; they stand right
    /// before the place that is read next.
    here: usize,
}

impl Held {
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Keeps back the next byte of the input.
    pub(super) fn push(&mut self, byte: u8) {
        debug_assert!(byte.is_ascii());
        self.text.push(char::from(byte));
        self.here += 1;
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.here = 0;
    }

    /// Forgets the first `count` bytes.
    pub(super) fn skip(&mut self, count: usize) {
        self.text.drain(..count);
        self.here = self.here.min(self.text.len());
    }

    /// The input has been read to its end.
    pub(super) fn carry(&mut self) {
        self.here = 0;
    }

    /// Lets out the bytes from `start` to `end`, as slices where they are at hand; `at` is the
    /// place in the input that is read next.
    pub(super) fn emit(&self, start: usize, end: usize, at: usize, out: &mut Output<'_>) {
        let (carried, from) = self.split(start, end, at);
        out.text(carried);
        out.slice(from.0, from.1);
    }

    /// As [`emit`](Held::emit), as reasoning.
    pub(super) fn emit_reasoning(&self, at: usize, out: &mut Output<'_>) {
        let (carried, from) = self.split(0, self.len(), at);
        out.reasoning_text(carried);
        out.reasoning_slice(from.0, from.1);
    }

    /// The part from `start` to `end` that was carried over, and where the rest of it stands.
    fn split(&self, start: usize, end: usize, at: usize) -> (&str, (usize, usize)) {
        let carried = self.text.len() - self.here;
        // Place 0 of the held text, as a place in the input, would be at `at - len`.
        let place = |index: usize| at + index - self.text.len();
        let cut = carried.clamp(start, end);
        let slice = if cut == end { (0, 0) } else { (place(cut), place(end)) };
        (&self.text[start..cut], slice)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::{Text, tool::internals::Piece};

    #[test]
    fn what_is_at_hand_leaves_as_a_slice() {
        let mut held = Held::default();
        "<re".bytes().for_each(|byte| held.push(byte));
        held.carry();
        "ad".bytes().for_each(|byte| held.push(byte));
        let input = Text::from(format!("ad{}", " and more".repeat(20)));
        let mut queue = VecDeque::new();
        let mut out = Output::new(&input, &mut queue);
        held.emit(0, 5, 2, &mut out);
        out.slice(2, input.len());
        drop(out);
        assert_eq!(queue.len(), 2);
        assert_eq!(queue[0], Piece::Text("<read".into()));
        let Piece::Text(slice) = &queue[1] else { panic!("text") };
        assert_eq!(slice.as_ptr(), input[2..].as_ptr());

        // Without a carried part there is nothing but slices.
        held.clear();
        "ad".bytes().for_each(|byte| held.push(byte));
        let mut queue = VecDeque::new();
        let mut out = Output::new(&input, &mut queue);
        held.emit(0, 2, 2, &mut out);
        out.slice(2, 6);
        drop(out);
        assert_eq!(queue, [Piece::Text("ad and".into())]);
    }

    #[test]
    fn a_part_may_lie_on_either_side_of_the_cut() {
        let mut held = Held::default();
        "abc".bytes().for_each(|byte| held.push(byte));
        held.carry();
        "def".bytes().for_each(|byte| held.push(byte));
        assert_eq!(held.split(0, 2, 3), ("ab", (0, 0)));
        assert_eq!(held.split(2, 4, 3), ("c", (0, 1)));
        assert_eq!(held.split(4, 6, 3), ("", (1, 3)));
        held.skip(4);
        assert_eq!(held.split(0, 2, 3), ("", (1, 3)));
    }
}

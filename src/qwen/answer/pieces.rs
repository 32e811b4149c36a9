//! Pieces of content that repeat what was sent before.

use crate::{Text, json::lenient::Half};

/// How long a text must be, in characters, for another that begins with it to be evidence.
const EVIDENCE_LEN: usize = 8;

/// How much evidence it takes.
const EVIDENCE: u32 = 2;

/// Turns the pieces of one field, which may each hold the whole text so far, into pieces that
/// hold what is new, and joins characters that were cut between two of them.
///
/// Undecided, it gives the first piece at once and holds those that follow as long as each
/// begins with the whole of the one before and is longer. Where two in a row have done so with
/// more than 8 characters, the stream is cumulative. Whatever else comes, it is not, and what was
/// held is given as it came. Each held piece is longer than the last, so at most ten are.
#[derive(Debug)]
pub(crate) struct Pieces {
    state: State,
    repeating: bool,
    half: Half,
}

#[derive(Debug)]
enum State {
    Incremental,
    /// The whole text so far.
    Cumulative(Text),
    Undecided {
        first: Option<Text>,
        held: Vec<Text>,
        evidence: u32,
    },
}

impl Pieces {
    /// Of a stream whose pieces hold what is new.
    pub(crate) const fn incremental() -> Self {
        Self::new(State::Incremental)
    }

    /// Of a stream whose pieces hold the whole text so far.
    pub(crate) const fn cumulative() -> Self {
        Self::new(State::Cumulative(Text::new()))
    }

    /// Of a stream of which that is to be found out.
    pub(crate) const fn undecided() -> Self {
        Self::new(State::Undecided { first: None, held: Vec::new(), evidence: 0 })
    }

    const fn new(state: State) -> Self {
        Self { state, repeating: false, half: Half::new() }
    }

    /// Whether the stream was seen to repeat itself.
    pub(crate) const fn is_repeating(&self) -> bool {
        self.repeating
    }

    /// Whether a piece without [halves](Half::is_in) passes as it is from now on.
    pub(crate) const fn is_plain(&self) -> bool {
        matches!(self.state, State::Incremental) && self.half.is_none()
    }

    /// Takes a piece, gives what is new and certain; what it gives is never empty.
    #[inline]
    pub(crate) fn push(&mut self, piece: Text, mut give: impl FnMut(Text)) {
        if matches!(self.state, State::Cumulative(_)) {
            self.half.forget();
        }
        let piece = self.half.join(piece);
        if piece.is_empty() {
            return;
        }
        if let State::Incremental = self.state { give(piece) } else { self.repeated(piece, give) }
    }

    fn repeated(&mut self, piece: Text, mut give: impl FnMut(Text)) {
        match &mut self.state {
            State::Incremental => give(piece),
            State::Cumulative(whole) => {
                self.repeating |= !whole.is_empty() && piece.starts_with(whole.as_str());
                // An earlier state of the text is nothing new.
                if whole.starts_with(piece.as_str()) {
                    return;
                }
                // Where the text was changed instead of grown, what was said cannot be taken back;
                // what comes after the part that both share is new.
                let mut shared =
                    whole.bytes().zip(piece.bytes()).take_while(|(a, b)| a == b).count();
                // They may part within a character.
                while !piece.is_char_boundary(shared) {
                    shared -= 1;
                }
                give(piece.slice(shared..));
                *whole = piece;
            }
            State::Undecided { first: first @ None, .. } => {
                *first = Some(piece.clone());
                give(piece);
            }
            State::Undecided { first: Some(first), held, evidence } => {
                let last = held.last().unwrap_or(first);
                if piece.len() == last.len() || !piece.starts_with(last.as_str()) {
                    self.settle(&mut give);
                    return give(piece);
                }
                if last.chars().nth(EVIDENCE_LEN).is_some() {
                    *evidence += 1;
                }
                if *evidence < EVIDENCE {
                    return held.push(piece);
                }
                give(piece.slice_ref(&piece[first.len()..]));
                self.repeating = true;
                self.state = State::Cumulative(piece);
            }
        }
    }

    /// Gives what is held, because something else follows: what was not decided by now is as it
    /// usually is.
    #[inline]
    pub(crate) fn settle(&mut self, mut give: impl FnMut(Text)) {
        if let State::Undecided { first: Some(_), held, .. } = &mut self.state {
            std::mem::take(held).into_iter().for_each(&mut give);
            self.state = State::Incremental;
        }
        if let Some(end) = self.half.settle() {
            give(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(mode: fn() -> Pieces, pieces: &[&str]) -> Vec<String> {
        let mut reader = mode();
        let mut given = Vec::new();
        for piece in pieces {
            reader.push((*piece).into(), |text| given.push(text.to_string()));
        }
        reader.settle(|text| given.push(text.to_string()));
        given
    }

    #[test]
    fn incremental_pieces_pass() {
        let pieces = ["a", "aa", "aaa"];
        assert_eq!(run(Pieces::incremental, &pieces), pieces);
    }

    #[test]
    fn cumulative_pieces_are_cut() {
        let mode = Pieces::cumulative;
        assert_eq!(run(mode, &["He", "Hello", "Hello", "Hello you"]), ["He", "llo", " you"]);
        // An earlier state of the text is nothing new; what does not go on from it is.
        assert_eq!(run(mode, &["Hello", "Hel", "Hello!", "Bye"]), ["Hello", "!", "Bye"]);
    }

    #[test]
    fn it_takes_two_extensions_of_more_than_eight_characters() {
        let auto = Pieces::undecided;
        assert_eq!(
            run(auto, &["Hello you", "Hello you,", "Hello you, there", "Hello you, there!"]),
            ["Hello you", ", there", "!"]
        );
        // One is not enough.
        let once = ["Hello you", "Hello you,", " there"];
        assert_eq!(run(auto, &once), once);
        // Eight characters are not enough, nine are.
        let short = ["12345678", "12345678a", "12345678ab"];
        assert_eq!(run(auto, &short), short);
        assert_eq!(run(auto, &["12345678a", "12345678ab", "12345678abc"]), ["12345678a", "bc"]);
        // A stream that begins with short pieces is found out as well.
        assert_eq!(
            run(auto, &["I", "I am", "I am here", "I am here to", "I am here to help"]),
            ["I", " am here to help"]
        );
    }

    #[test]
    fn words_that_are_said_twice_stay() {
        for pieces in [
            &["ha", "haha", "!"][..],
            &["no no no no", "no no no no no", "."],
            &["a", "a", "a"],
            &["def f", "def f", "def f()"],
        ] {
            assert_eq!(run(Pieces::undecided, pieces), pieces);
        }
    }

    #[test]
    fn what_is_new_is_a_slice() {
        let mut reader = Pieces::cumulative();
        reader.push("He".into(), |_| {});
        let piece = Text::from("Hello");
        let mut given = None;
        reader.push(piece.clone(), |text| given = Some(text));
        assert_eq!(given.expect("llo").as_ptr(), piece[2..].as_ptr());
    }

    proptest! {
        /// A cumulative stream gives the text once, in either mode that knows of it.
        #[test]
        fn the_text_of_a_cumulative_stream(
            first in "[a-c\u{e9}]{9,12}",
            more in prop::collection::vec("[a-c\u{e9}]{1,4}", 2..12),
        ) {
            let mut whole = first;
            let mut pieces = vec![whole.clone()];
            for new in more {
                whole.push_str(&new);
                pieces.push(whole.clone());
            }
            let pieces: Vec<_> = pieces.iter().map(String::as_str).collect();
            for mode in [Pieces::undecided as fn() -> Pieces, Pieces::cumulative] {
                prop_assert_eq!(run(mode, &pieces).concat(), whole.clone());
            }
        }

        /// Nothing is lost or changed of a stream that does not repeat itself, and little waits.
        #[test]
        fn an_incremental_stream_passes(
            pieces in prop::collection::vec("[ab]{1,3}", 0..20),
        ) {
            let pieces: Vec<_> = pieces.iter().map(String::as_str).collect();
            // Pieces of up to 3 characters cannot hold more than 8 of what came before.
            prop_assert_eq!(run(Pieces::undecided, &pieces).concat(), pieces.concat());
            let mut reader = Pieces::undecided();
            for piece in pieces {
                reader.push(piece.into(), |_| {});
                if let State::Undecided { held, .. } = &reader.state {
                    prop_assert!(held.len() <= 10);
                }
            }
        }
    }
}

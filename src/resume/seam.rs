//! Where an answer broke off, and where another goes on from there (sans-I/O).

/// The shortest end that is told from the rest of an answer, in bytes. It is longer where it stands in
/// the answer twice.
const ANCHOR: usize = 64;

/// The longest.
const MAX_ANCHOR: usize = 1024;

/// An answer that is shorter than this has to begin again: so few words could stand anywhere.
const SHORT: usize = 32;

/// How much may be said in front of the words that the answer broke off with, beside the answer itself.
const PREFACE: usize = 2048;

/// The end of an answer that broke off: what another answer must say to go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    /// Words that stand in the answer once, at its end.
    words: Box<str>,
    /// The white space behind them.
    space: Box<str>,
    /// How many bytes may be looked at for them.
    within: usize,
    /// Whether the other answer has to begin with them.
    is_first: bool,
}

impl Anchor {
    /// The end of `said`. `None` where there are no words, or where no end is unlike all that is before
    /// it.
    ///
    /// It takes five passes over `said` at most.
    pub(super) fn of(said: &str) -> Option<Self> {
        let trimmed = said.trim_end();
        let space = &said[trimmed.len()..];
        let is_first = trimmed.trim_start().len() < SHORT;
        let mut least = ANCHOR;
        let words = loop {
            let words = end_of(trimmed, least);
            if words.is_empty() {
                return None;
            }
            if is_first || words.len() >= SHORT && is_once(trimmed, words) {
                break words;
            }
            least *= 2;
            if least > MAX_ANCHOR {
                return None;
            }
        };
        let within = said.len() + PREFACE;
        Some(Self { words: words.into(), space: space.into(), within, is_first })
    }

    /// The words.
    pub(super) fn words(&self) -> &str {
        &self.words
    }
}

/// The words at the end of `text`, `least` bytes and up to a quarter more, from the beginning of a word
/// where one begins there; all of it where it is short.
fn end_of(text: &str, least: usize) -> &str {
    let far = text.len().saturating_sub(least + least / 4);
    let near = text.len().saturating_sub(least);
    let from = (far..=near).rev().find(|&at| {
        let is_break = |before: char| !before.is_alphanumeric();
        text.is_char_boundary(at)
            && text[..at].chars().next_back().is_none_or(is_break)
            && text[at..].chars().next().is_some_and(|first| !first.is_whitespace())
    });
    let from = from.or_else(|| (far..=near).rev().find(|&at| text.is_char_boundary(at)));
    text[from.unwrap_or(0)..].trim_start()
}

/// Whether `words`, which `text` ends with, stand nowhere else in it.
fn is_once(text: &str, words: &str) -> bool {
    let mut search = Search::new(words);
    text.bytes().position(|byte| search.push(byte)) == Some(text.len() - 1)
}

/// Finds words in a text that comes byte by byte (Knuth, Morris, Pratt): in time linear in the text,
/// and without a copy of it.
#[derive(Clone, Debug)]
struct Search {
    words: Box<[u8]>,
    /// How many of the words' bytes still match where the next one does not, for each.
    shorter: Box<[u16]>,
    matched: usize,
}

impl Search {
    /// `words` are not empty, and no longer than an anchor may be.
    fn new(words: &str) -> Self {
        let words: Box<[u8]> = words.as_bytes().into();
        let mut shorter = vec![0_u16; words.len()];
        let mut matched = 0_u16;
        for at in 1..words.len() {
            while matched > 0 && words[at] != words[usize::from(matched)] {
                matched = shorter[usize::from(matched) - 1];
            }
            matched += u16::from(words[at] == words[usize::from(matched)]);
            shorter[at] = matched;
        }
        Self { words, shorter: shorter.into(), matched: 0 }
    }

    /// Takes the next byte; whether the words end with it. Behind them it is not asked any more.
    fn push(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.words[self.matched] != byte {
            self.matched = usize::from(self.shorter[self.matched - 1]);
        }
        self.matched += usize::from(self.words[self.matched] == byte);
        self.matched == self.words.len()
    }
}

/// Looks in another answer for the words that the first broke off with.
#[derive(Clone, Debug)]
pub(super) struct Seam {
    state: State,
    search: Search,
    /// White space that the first answer has behind the words.
    space: Box<str>,
    within: usize,
    is_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes were looked at.
    Looking(usize),
    /// They are there, and so much of the white space behind them.
    Found(usize),
    /// The other answer goes on where the first broke off.
    Past,
}

/// What a piece of the other answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// It was said before, or belongs to nothing that was.
    Known,
    /// From this byte on it is new.
    NewFrom(usize),
    /// The other answer is another one.
    Alien,
}

impl Seam {
    pub(super) fn new(anchor: &Anchor) -> Self {
        Self {
            state: State::Looking(0),
            search: Search::new(&anchor.words),
            space: anchor.space.clone(),
            within: anchor.within,
            is_first: anchor.is_first,
        }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &str) -> Piece {
        let mut at = 0;
        if self.is_first && self.state == State::Looking(0) {
            // What stands in front of an answer does not count.
            at = piece.len() - piece.trim_start().len();
        }
        while let State::Looking(looked) = self.state {
            let Some(&byte) = piece.as_bytes().get(at) else { return Piece::Known };
            at += 1;
            if self.search.push(byte) {
                self.state = State::Found(0);
            } else if self.is_first && self.search.matched <= looked || looked >= self.within {
                return Piece::Alien;
            } else {
                self.state = State::Looking(looked + 1);
            }
        }
        if let State::Found(mut spaces) = self.state {
            let (mut wanted, mut come) = (self.space[spaces..].chars(), piece[at..].chars());
            self.state = loop {
                match (wanted.next(), come.next()) {
                    (Some(wanted), Some(come)) if wanted == come => {
                        spaces += wanted.len_utf8();
                        at += wanted.len_utf8();
                    }
                    (Some(_), None) => break State::Found(spaces),
                    _ => break State::Past,
                }
            };
        }
        if at == piece.len() { Piece::Known } else { Piece::NewFrom(at) }
    }

    /// Whether the words were found.
    pub(super) const fn is_found(&self) -> bool {
        !matches!(self.state, State::Looking(_))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is new in `other`, read in pieces of so many characters.
    fn rest(anchor: &Anchor, other: &str, pieces: usize) -> Option<String> {
        let mut seam = Seam::new(anchor);
        let mut new = String::new();
        let mut is_past = false;
        let all: Vec<char> = other.chars().collect();
        for piece in all.chunks(pieces) {
            let piece = String::from_iter(piece);
            if is_past {
                new.push_str(&piece);
                continue;
            }
            match seam.push(&piece) {
                Piece::Known => {}
                Piece::NewFrom(from) => {
                    new.push_str(&piece[from..]);
                    is_past = true;
                }
                Piece::Alien => return None,
            }
        }
        seam.is_found().then_some(new)
    }

    /// The same, without a thought for time and memory.
    fn naive(anchor: &Anchor, other: &str) -> Option<String> {
        let other = if anchor.is_first {
            other.trim_start().strip_prefix(anchor.words())?
        } else {
            let at = other.find(anchor.words())?;
            if at + anchor.words().len() > anchor.within + 1 {
                return None;
            }
            &other[at + anchor.words().len()..]
        };
        let is_same = |(a, b): &(char, char)| a == b;
        let known = anchor.space.chars().zip(other.chars()).take_while(is_same);
        Some(other[known.map(|(a, _)| a.len_utf8()).sum()..].to_owned())
    }

    fn prose() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
            "rain",
            " ",
            "  ",
            "\n",
            "\n\n",
            "the",
            "```\n",
            "}",
            "| --- ",
            "日本語",
            "é",
            "\u{3000}",
            "😀",
        ]);
        prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
    }

    proptest! {
        #[test]
        fn any_chunking_finds_what_the_naive_twin_finds(
            said in prose(), other in prose(), from in 0_usize..200, rest_of in prose(), pieces in 1_usize..9,
        ) {
            let Some(anchor) = Anchor::of(&said) else { return Ok(()) };
            let from = (0..=from.min(said.len())).rev().find(|&at| said.is_char_boundary(at));
            let again = format!("{other}{}{rest_of}", &said[from.unwrap_or(0)..]);
            for other in [&other, &again] {
                prop_assert_eq!(rest(&anchor, other, pieces), naive(&anchor, other));
            }
        }

        #[test]
        fn what_goes_on_makes_the_whole_wherever_it_begins(
            whole in prose(), cut in 0_usize..400, back in 0_usize..400, pieces in 1_usize..9,
        ) {
            let boundary = |at: usize| (0..=at.min(whole.len())).rev().find(|&at| whole.is_char_boundary(at));
            let said = &whole[..boundary(cut).unwrap_or(0)];
            let Some(anchor) = Anchor::of(said) else { return Ok(()) };
            let begins = said.rfind(anchor.words()).expect("it is its end");
            prop_assert!(said[begins..].strip_prefix(anchor.words()).expect("found").trim().is_empty());
            let begins = if anchor.is_first { 0 } else { boundary(begins.saturating_sub(back)).unwrap_or(0) };
            let rest = rest(&anchor, &whole[begins..], pieces);
            prop_assert_eq!(rest.map(|rest| format!("{said}{rest}")), Some(whole.clone()));
        }
    }

    #[test]
    fn the_words_stand_in_the_answer_once() {
        let row = "| Bergen | rain | every day of the week but on Sundays |\n";
        let table =
            format!("Here it is, for all of the towns that you asked for:\n\n{}", row.repeat(4));
        let anchor = Anchor::of(&table).expect("the table begins once");
        assert!(anchor.words().len() > 2 * row.len() && table.trim_end().ends_with(anchor.words()));
        assert_eq!(table.matches(anchor.words()).count(), 1);
        assert_eq!(Anchor::of(&row.repeat(100)), None);
        assert_eq!(Anchor::of(" \n "), None);
        // All of it stands in it once.
        assert!(Anchor::of(&"a".repeat(60)).is_some());
    }

    #[test]
    fn they_begin_with_a_word() {
        let said =
            "Bergen lies on the western coast of Norway, and it rains there more than in most to";
        let anchor = Anchor::of(said).expect("prose");
        assert_eq!(
            anchor.words(),
            "western coast of Norway, and it rains there more than in most to"
        );
    }

    #[test]
    fn a_short_answer_begins_again() {
        let anchor = Anchor::of("The rain").expect("words");
        assert_eq!(rest(&anchor, "\nThe rain in Spain", 1).as_deref(), Some(" in Spain"));
        assert_eq!(rest(&anchor, "Sorry. The rain in Spain", 3), None);
        assert_eq!(rest(&anchor, "The r", 3), None);
    }

    #[test]
    fn another_answer_is_read_no_further_than_it_may_be() {
        let said = "Bergen lies on the western coast of Norway, and it rains there";
        let anchor = Anchor::of(said).expect("words");
        let mut seam = Seam::new(&anchor);
        let mut taken = 0;
        while seam.push("no ") != Piece::Alien {
            taken += 3;
            assert!(taken <= said.len() + PREFACE + 3);
        }
        assert!(taken >= said.len() + PREFACE - 3);
    }

    #[test]
    fn white_space_at_the_seam_is_given_once() {
        let said = "fn main() {\n    println!(\"it rains today\");\n\n    ";
        let anchor = Anchor::of(said).expect("words");
        for (other, expected) in [
            (format!("{said}rain();"), "rain();"),
            (format!("{}\n\n    rain();", said.trim_end()), "rain();"),
            (format!("{}\nrain();", said.trim_end()), "rain();"),
            (format!("{}\n\n      rain();", said.trim_end()), "  rain();"),
        ] {
            for pieces in 1..4 {
                assert_eq!(rest(&anchor, &other, pieces).as_deref(), Some(expected));
            }
        }
    }
}

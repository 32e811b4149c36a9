//! What a text costs, by its characters.
//!
//! Qwen's tokenizers cut a text into pieces, and no token reaches over the end of one: a word with
//! one character before it, one digit, a run of marks with the line ends behind it, a run of white
//! space. Here it is cut in the same way, and each piece costs one token and what its characters
//! cost beyond that. Which pairs of letters stand in a word says much about how many tokens it is:
//! those of English are in most of the vocabulary, those of a digest in none of it.

use std::{iter::Peekable, str::Chars};

/// One token, in the unit in which costs are counted.
pub(super) const TOKEN: u64 = 1024;

/// How much white space is one token; the longest runs in the vocabulary have about this length.
const SPACES: u64 = 48;

/// What the characters of a piece cost beyond its first token; but for the pairs in [`TOKEN`]ths.
#[derive(Debug)]
pub(super) struct Weights {
    /// Two ASCII letters in a row, whatever their case, in 64ths of a token.
    pub(super) pairs: [[u8; 26]; 26],
    /// A mark before a word, such as in `.len`.
    pub(super) lead: u64,
    /// A capital behind a small letter.
    pub(super) hump: u64,
    /// A capital behind a capital.
    pub(super) capitals: u64,
    /// A capital behind neither.
    pub(super) initial: u64,
    /// An ASCII letter behind the eighth of a word.
    pub(super) long: u64,
    /// How much of what the ASCII letters of a word cost together is free, for common words are
    /// one token.
    pub(super) free: u64,
    /// A letter of each script that is not the first of its word.
    pub(super) latin: u64,
    pub(super) greek: u64,
    pub(super) cyrillic: u64,
    pub(super) hebrew: u64,
    pub(super) arabic: u64,
    pub(super) indic: u64,
    pub(super) thai: u64,
    pub(super) kana: u64,
    pub(super) han: u64,
    pub(super) hangul: u64,
    pub(super) other: u64,
    /// A letter of another script than the one before.
    pub(super) change: u64,
    /// An ASCII mark behind the same one.
    pub(super) same: u64,
    /// An ASCII mark behind another.
    pub(super) next: u64,
    /// A mark of so many bytes that is not the first of its run.
    pub(super) mark2: u64,
    pub(super) mark3: u64,
    pub(super) mark4: u64,
    /// Line ends behind marks.
    pub(super) line_end: u64,
}

impl Weights {
    const fn of(&self, script: Script) -> u64 {
        match script {
            Script::Ascii => 0,
            Script::Latin => self.latin,
            Script::Greek => self.greek,
            Script::Cyrillic => self.cyrillic,
            Script::Hebrew => self.hebrew,
            Script::Arabic => self.arabic,
            Script::Indic => self.indic,
            Script::Thai => self.thai,
            Script::Kana => self.kana,
            Script::Han => self.han,
            Script::Hangul => self.hangul,
            Script::Other => self.other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Space,
    Letter(Script),
    Number,
    Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Ascii,
    Latin,
    Greek,
    Cyrillic,
    Hebrew,
    Arabic,
    Indic,
    Thai,
    Kana,
    Han,
    Hangul,
    Other,
}

impl Kind {
    fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' => Self::Letter(Script::Ascii),
            ' ' | '\t'..='\r' => Self::Space,
            '0'..='9' => Self::Number,
            '\0'..='\x7f' => Self::Mark,
            _ => Self::beyond_ascii(c),
        }
    }

    fn beyond_ascii(c: char) -> Self {
        Self::Letter(match c {
            'ª' | 'µ' | 'º' | 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ʯ' | 'Ḁ'..='ỿ' => {
                Script::Latin
            }
            '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => Script::Greek,
            '\u{400}'..='\u{52f}' => Script::Cyrillic,
            '\u{590}'..='\u{5ff}' => Script::Hebrew,
            '\u{600}'..='\u{65f}' | '\u{66e}'..='\u{6ef}' | '\u{6fa}'..='\u{77f}' => Script::Arabic,
            '\u{900}'..='\u{dff}' => Script::Indic,
            '\u{e00}'..='\u{eff}' => Script::Thai,
            '\u{3040}'..='\u{30ff}' => Script::Kana,
            '\u{4e00}'..='\u{9fff}' => Script::Han,
            '\u{ac00}'..='\u{d7af}' => Script::Hangul,
            _ if c.is_whitespace() => return Self::Space,
            _ if c.is_alphabetic() => Script::Other,
            _ if c.is_numeric() => return Self::Number,
            _ => return Self::Mark,
        })
    }
}

/// What `text` costs, in [`TOKEN`]ths.
pub(super) fn cost(text: &str, weights: &Weights) -> u64 {
    let mut scan = Scan { rest: text.chars().peekable(), weights, cost: 0 };
    // What stands before the next piece and could belong to it.
    let mut before = Before::Nothing;
    while let Some(c) = scan.rest.next() {
        before = match Kind::of(c) {
            Kind::Letter(script) => scan.word(c, script, before),
            Kind::Number => scan.number(c),
            Kind::Mark => scan.marks(c, before),
            Kind::Space => scan.spaces(c, before),
        };
    }
    scan.cost
}

/// What stands before a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// What has been counted, and belongs to nothing else.
    Nothing,
    /// A space that has not been counted.
    Space,
    /// Marks, which take the line ends behind them.
    Marks,
    /// A mark that has not been counted, for a letter follows.
    Lead,
}

struct Scan<'a> {
    rest: Peekable<Chars<'a>>,
    weights: &'a Weights,
    cost: u64,
}

impl Scan<'_> {
    fn next_kind(&mut self) -> Option<Kind> {
        self.rest.peek().map(|&c| Kind::of(c))
    }

    /// A word and the one character before it.
    fn word(&mut self, first: char, script: Script, before: Before) -> Before {
        let weights = self.weights;
        // What the ASCII letters cost together, and what the others cost.
        let (mut together, mut others) = (0, 0);
        if before == Before::Lead {
            together += weights.lead;
        }
        if first.is_ascii_uppercase() {
            together += weights.initial;
        }
        let (mut last, mut last_script, mut at) = (first, script, 0_u64);
        while let Some(&c) = self.rest.peek() {
            let Kind::Letter(script) = Kind::of(c) else { break };
            self.rest.next();
            at += 1;
            if script == Script::Ascii {
                let joined = last_script == Script::Ascii;
                if joined {
                    let index = |letter: char| usize::from(letter as u8 | 0x20) - 0x61;
                    let pair = weights.pairs[index(last)][index(c)];
                    together += u64::from(pair) * (TOKEN / 64);
                }
                if c.is_ascii_uppercase() {
                    // What it is by itself is the least that it costs behind another.
                    together += weights.initial.max(match joined {
                        false => 0,
                        true if last.is_ascii_uppercase() => weights.capitals,
                        true => weights.hump,
                    });
                }
                if at >= 8 {
                    together += weights.long;
                }
            } else {
                others += weights.of(script);
            }
            if script != last_script {
                others += weights.change;
            }
            (last, last_script) = (c, script);
        }
        self.cost += TOKEN + together.saturating_sub(weights.free) + others;
        Before::Nothing
    }

    /// One digit; the numerals of few scripts are in the vocabulary.
    fn number(&mut self, c: char) -> Before {
        self.cost += if c.is_ascii() { TOKEN } else { TOKEN * 2 };
        Before::Nothing
    }

    /// A run of marks.
    fn marks(&mut self, first: char, before: Before) -> Before {
        if before != Before::Space && matches!(self.next_kind(), Some(Kind::Letter(_))) {
            return Before::Lead;
        }
        let (mut cost, mut last) = (TOKEN, first);
        while let Some(c) = self.rest.next_if(|&c| Kind::of(c) == Kind::Mark) {
            cost += match c.len_utf8() {
                1 if c == last => self.weights.same,
                1 => self.weights.next,
                2 => self.weights.mark2,
                3 => self.weights.mark3,
                _ => self.weights.mark4,
            };
            last = c;
        }
        self.cost += cost;
        Before::Marks
    }

    /// A run of white space: what ends with its last line end, and the rest, whose last space belongs
    /// to what follows.
    fn spaces(&mut self, first: char, before: Before) -> Before {
        let is_line_end = |c: char| matches!(c, '\n' | '\r');
        let (mut ends, mut lines, mut tail, mut last) = (0, 0, 0, first);
        let mut folded = false;
        let mut takes_ends = before == Before::Marks;
        let mut next = Some(first);
        while let Some(c) = next {
            takes_ends &= is_line_end(c);
            if takes_ends {
                ends += 1;
            } else {
                tail += 1;
                if is_line_end(c) {
                    // Before this line end they were a piece of their own, and more text is no
                    // fewer tokens.
                    folded |= lines > 0 && tail > 1;
                    lines += tail;
                    tail = 0;
                }
            }
            last = c;
            next = self.rest.next_if(|&c| Kind::of(c) == Kind::Space);
        }
        if ends > 0 {
            self.cost += self.weights.line_end + (ends - 1) * TOKEN / SPACES;
        }
        self.run(lines);
        if folded {
            self.cost += TOKEN;
        }
        if tail == 0 {
            return Before::Nothing;
        }
        match self.next_kind() {
            None => self.run(tail),
            Some(Kind::Letter(_)) => {
                self.run(tail - 1);
                return Before::Space;
            }
            Some(Kind::Mark) if last == ' ' => {
                self.run(tail - 1);
                return Before::Space;
            }
            Some(_) => {
                self.run(tail - 1);
                self.run(1);
            }
        }
        Before::Nothing
    }

    /// So many characters of white space.
    fn run(&mut self, length: u64) {
        if length > 0 {
            self.cost += TOKEN + (length - 1) * TOKEN / SPACES;
        }
    }
}

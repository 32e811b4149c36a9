//! JSON of the usual events, read by hand.
//!
//! Whatever is not as usual is `None`, and left to a general parser: names and strings with odd
//! escapes, numbers with a fraction, white space but one space behind a colon or a comma.

use std::ops::Range;

use crate::{Text, json::clean_len};

/// A JSON string without its quotes.
#[derive(Clone, Copy)]
pub(crate) struct Literal<'a> {
    pub(crate) text: &'a str,
    pub(crate) is_escaped: bool,
}

/// The text of an event.
pub(crate) enum Content {
    /// It stands there in the event's data.
    Part(Range<usize>),
    Unescaped(Text),
}

impl Content {
    /// The text, where this is the event's `data`.
    #[inline]
    pub(crate) fn of(self, data: Text) -> Text {
        match self {
            Self::Part(range) => data.into_part(range),
            Self::Unescaped(text) => text,
        }
    }
}

impl Literal<'_> {
    /// The text of the event with this `data`; `None` where its escapes are no JSON.
    #[inline]
    pub(crate) fn content(&self, data: &Text) -> Option<Content> {
        let Self { text, is_escaped } = *self;
        let start = text.as_ptr().addr() - data.as_ptr().addr();
        let end = start + text.len();
        if !is_escaped {
            return Some(Content::Part(start..end));
        }
        // With its quotes.
        let literal = data.get(start - 1..=end)?;
        serde_json::from_str(literal).ok().map(|text: String| Content::Unescaped(text.into()))
    }
}

/// What has not been read yet. It is handed on rather than changed, so that it stays in
/// registers.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    #[inline(always)]
    pub(crate) fn eat(self, literal: &'static str) -> Option<Self> {
        self.0.strip_prefix(literal.as_bytes()).map(Self)
    }

    /// An object that is not empty. `member` reads the value of each name.
    #[inline(always)]
    pub(crate) fn members(
        self,
        mut member: impl FnMut(&'a [u8], Self) -> Option<Self>,
    ) -> Option<Self> {
        let mut at = self.eat("{")?;
        loop {
            let (name, behind) = at.eat("\"")?.name()?;
            let Self(rest) = member(name, behind.eat(":")?.space())?;
            at = match rest.split_first()? {
                (b',', rest) => Self(rest).space(),
                (b'}', rest) => return Some(Self(rest)),
                _ => return None,
            };
        }
    }

    /// The space that may stand behind a colon or a comma.
    #[inline(always)]
    pub(crate) fn space(self) -> Self {
        self.eat(" ").unwrap_or(self)
    }

    /// The name of a member whose first quote has been read, and what stands behind its last. What
    /// is escaped in it makes it none that is known.
    #[inline(always)]
    fn name(self) -> Option<(&'a [u8], Self)> {
        let Self(rest) = self;
        let len = rest.iter().position(|&b| b == b'"')?;
        Some((&rest[..len], Self(&rest[len + 1..])))
    }

    /// The string of `data` that comes next, where it has no escapes.
    #[inline(always)]
    pub(crate) fn plain_string(self, data: &'a str) -> Option<(&'a str, Self)> {
        let (Literal { text, is_escaped }, at) = self.eat("\"")?.string(data)?;
        (!is_escaped).then_some((text, at))
    }

    /// A whole number as JSON writes it, short enough to be one of 64 bits.
    #[inline(always)]
    pub(crate) fn count(self) -> Option<(u64, Self)> {
        const ONES: u64 = u64::from_le_bytes([1; 8]);
        let Self(digits) = self;
        let Some(&lane) = digits.first_chunk() else { return self.long_count() };
        // All digits at once. The high bit of a byte is set behind the last of them; a carry may
        // set those of later bytes too, which does not matter as only the first counts.
        let lane = u64::from_le_bytes(lane) ^ (ONES * u64::from(b'0'));
        let others = (lane.wrapping_add(ONES * 0x76) | lane) & (ONES * 0x80);
        let len = others.trailing_zeros() / 8;
        if !(1..8).contains(&len) {
            return self.long_count();
        }
        if len > 1 && digits[0] == b'0' {
            return None;
        }
        // Zeros in front, then two, four and eight digits a number.
        let lane = lane << (64 - 8 * len);
        let twos = lane.wrapping_mul(1 + (10 << 8)) >> 8 & 0x00ff_00ff_00ff_00ff;
        let fours = twos.wrapping_mul(1 + (100 << 16)) >> 16 & 0x0000_ffff_0000_ffff;
        let count = fours.wrapping_mul(1 + (10_000 << 32)) >> 32;
        Some((count, Self(&digits[len as usize..])))
    }

    /// A [`count`](Self::count) of eight digits and more, or at the end.
    #[inline(never)]
    fn long_count(self) -> Option<(u64, Self)> {
        const MOST: usize = 18;
        let Self(digits) = self;
        let len = digits.iter().take(MOST + 1).take_while(|digit| digit.is_ascii_digit()).count();
        if len == 0 || len > MOST || (len > 1 && digits[0] == b'0') {
            return None;
        }
        let (digits, rest) = digits.split_at(len);
        let count = digits.iter().fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
        Some((count, Self(rest)))
    }

    /// The string of `data` whose quote has been read.
    #[inline(always)]
    pub(crate) fn string(self, data: &'a str) -> Option<(Literal<'a>, Self)> {
        /// Further away, the end is found faster by a search that has to be set up.
        const NEAR: usize = 64;

        let Self(rest) = self;
        let near = rest.get(..NEAR).unwrap_or(rest);
        let end = clean_len(near);
        if near.get(end) != Some(&b'"') {
            return self.long_string(data);
        }
        let start = data.len() - rest.len();
        let text = data.get(start..start + end)?;
        Some((Literal { text, is_escaped: false }, Self(&rest[end + 1..])))
    }

    /// A [`string`](Self::string) that is long, or has escapes.
    #[inline(never)]
    fn long_string(self, data: &'a str) -> Option<(Literal<'a>, Self)> {
        let Self(rest) = self;
        let mut end = memchr::memchr2(b'"', b'\\', rest)?;
        let is_escaped = rest[end] == b'\\';
        while rest[end] == b'\\' {
            // Whatever is escaped, it is not the end; an escape of several bytes holds no quote.
            end += 2;
            end += memchr::memchr2(b'"', b'\\', rest.get(end..)?)?;
        }
        // JSON wants control characters escaped. No early exit, so that it is done in steps of
        // a vector.
        let controls = rest[..end].iter().fold(false, |any, &b| any | (b < 0x20));
        let start = data.len() - rest.len();
        let text = data.get(start..start + end).filter(|_| !controls)?;
        Some((Literal { text, is_escaped }, Self(&rest[end + 1..])))
    }
}

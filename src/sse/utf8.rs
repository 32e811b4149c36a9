//! Bytes as text that shares them.

use std::ops::Range;

use bytes::Bytes;

use crate::Text;

/// What the check for UTF-8 looks at in one step on x86-64, if it is ASCII. Behind the last of
/// them it looks at each byte alone, which can take longer than all of an event before.
pub(super) const CHECK_BLOCK: usize = 64;

/// A part of `owner` as text, shared with it if it is well-formed UTF-8.
///
/// To cut lines and fields before decoding comes to the same as decoding the whole stream first,
/// as the standard does: the bytes that end them never stand within a character, well formed or
/// not.
#[inline]
pub(super) fn text(owner: &Bytes, range: Range<usize>) -> Text {
    if range.is_empty() {
        return Text::new();
    }
    match Text::from_utf8(owner.slice(range.clone())) {
        Ok(text) => text,
        Err(_) => replaced(&owner[range]),
    }
}

/// As [`text`], for a range that has nothing but ASCII beside it as far as `around` goes.
#[inline]
pub(super) fn text_within(owner: &Bytes, range: Range<usize>, around: Range<usize>) -> Text {
    let beside = beside(range.len(), range.start - around.start, around.end - range.end);
    text_beside(owner, range, beside)
}

/// As [`text`], for a range that is checked with so many bytes before and behind it.
#[inline(always)]
pub(super) fn text_beside(
    owner: &Bytes,
    range: Range<usize>,
    (before, behind): (usize, usize),
) -> Text {
    if before + behind > 0
        && let Ok(checked) = Text::from_utf8(owner.slice(range.start - before..range.end + behind))
    {
        return checked.slice_ref(&checked[before..before + range.len()]);
    }
    text(owner, range)
}

/// How many of the bytes before and behind a text of so many bytes are worth being checked with
/// it: as many as make the last [block](CHECK_BLOCK) whole, or none.
#[inline]
pub(super) fn beside(length: usize, before: usize, behind: usize) -> (usize, usize) {
    let missing = length.next_multiple_of(CHECK_BLOCK) - length;
    if missing > before + behind {
        return (0, 0);
    }
    let before = missing.min(before);
    (before, missing - before)
}

#[cold]
fn replaced(bytes: &[u8]) -> Text {
    String::from_utf8_lossy(bytes).into_owned().into()
}

use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::{Deref, RangeBounds},
    str::Utf8Error,
};

use bytes::Bytes;
use bytestring::ByteString;
#[cfg(feature = "chat")]
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::steps;

/// UTF-8-checked [`Bytes`]: a string that is cheap to clone and to slice.
///
/// Text that arrived in one piece and without escapes is a slice of the upstream's buffer. So
/// content is not copied on its way to the encoder. A small text keeps the buffer alive that it was
/// cut from.
///
/// ```
/// use tower_qwen::Text;
///
/// let buffer = Text::from("{\"content\":\"Hello\"}");
/// let hello = buffer.slice(12..17);
/// assert_eq!(hello, "Hello");
/// ```
#[derive(Clone, Default)]
pub struct Text(ByteString);

impl Text {
    /// The empty text.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self(ByteString::new())
    }

    /// A text that lives as long as the program; nothing is copied.
    #[must_use]
    #[inline]
    pub const fn from_static(text: &'static str) -> Self {
        Self(ByteString::from_static(text))
    }

    /// Checks `bytes` and takes them as they are, without a copy.
    ///
    /// # Errors
    ///
    /// Where the bytes are not UTF-8, with the place of the first that is wrong.
    #[inline]
    pub fn from_utf8(bytes: Bytes) -> Result<Self, Utf8Error> {
        ByteString::try_from(bytes).map(Self)
    }

    /// The text as a string slice.
    #[must_use]
    #[inline]
    pub fn as_str(&self) -> &str {
        steps::count(1);
        &self.0
    }

    /// The part of the text in `range` (bytes), sharing the buffer.
    ///
    /// # Panics
    ///
    /// Like string slicing: if the range is out of bounds or cuts a character.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        use std::ops::Bound;
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.len(),
        };
        self.slice_ref(&self.as_str()[start..end])
    }

    /// The part of the text that `part` borrows, sharing the buffer.
    ///
    /// # Panics
    ///
    /// If `part` is not a slice of this very text.
    #[must_use]
    #[inline]
    pub fn slice_ref(&self, part: &str) -> Self {
        Self(self.0.slice_ref(part))
    }

    /// The part of the text in `range`, in the place of the whole: to check a few bytes again takes
    /// less than to count one more reference to the buffer, and its end.
    ///
    /// # Panics
    ///
    /// As [`slice`](Self::slice).
    #[cfg(any(feature = "compatible", feature = "web"))]
    #[inline]
    pub(crate) fn into_part(self, range: std::ops::Range<usize>) -> Self {
        let mut bytes = self.into_bytes();
        bytes.truncate(range.end);
        bytes::Buf::advance(&mut bytes, range.start);
        Self::from_utf8(bytes).expect("it is cut between characters")
    }

    /// The bytes, without a copy.
    #[must_use]
    #[inline]
    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }
}

impl Deref for Text {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        steps::count_bytes(text.len());
        Self(text.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        steps::count_bytes(text.len());
        Self(text.into())
    }
}

// By way of `as_str`, which counts.
impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// As that of a `str`, by which maps are asked.
impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

#[cfg(feature = "chat")]
impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

/// Copies the string; [`Text::slice_ref`] is how to avoid that where the buffer is at hand.
#[cfg(feature = "chat")]
impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(text.into())
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Text, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_string(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_shares_the_buffer() {
        let text = Text::from(String::from("héllo wörld"));
        let part = text.slice(7..);
        assert_eq!(part, "wörld");
        assert_eq!(part.as_ptr(), text[7..].as_ptr());
    }

    #[test]
    #[should_panic(expected = "char boundary")]
    fn a_slice_cannot_cut_a_character() {
        let _ = Text::from("é").slice(1..);
    }

    #[test]
    fn bytes_are_checked_and_not_copied() {
        let bytes = Bytes::from_static("ok".as_bytes());
        let at = bytes.as_ptr();
        assert_eq!(Text::from_utf8(bytes).expect("UTF-8").as_ptr(), at);
        let wrong = Text::from_utf8(Bytes::from_static(b"ab\xff")).expect_err("not UTF-8");
        assert_eq!(wrong.valid_up_to(), 2);
    }
}

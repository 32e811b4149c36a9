//! JSON strings: read without a copy, written into a buffer of bytes.

use std::{borrow::Cow, fmt};

use bytes::{BufMut, BytesMut};
use memchr::memchr;
use serde::{Deserialize, Deserializer, de};

const LANES: usize = size_of::<u64>();
const ONES: u64 = u64::from_le_bytes([1; LANES]);
const HIGHS: u64 = u64::from_le_bytes([0x80; LANES]);
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `text` to `out` with what JSON demands escaped, without quotes around it.
///
/// Escaping a text piece by piece gives the same as escaping it whole, because no escape depends
/// on a neighbour (RFC 8259, section 7).
pub(crate) fn escape_into(out: &mut BytesMut, text: &str) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len());
    loop {
        let clean = clean_len(rest);
        out.put_slice(&rest[..clean]);
        let Some(&byte) = rest.get(clean) else { return };
        rest = &rest[clean + 1..];
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => {
                let [high, low] = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]];
                out.put_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                continue;
            }
        };
        out.put_slice(&[b'\\', short]);
    }
}

/// How many bytes [`escape_into`] appends for `text`.
pub(crate) fn escaped_len(text: &str) -> usize {
    let mut rest = text.as_bytes();
    let mut len = rest.len();
    loop {
        let clean = clean_len(rest);
        let Some(&byte) = rest.get(clean) else { return len };
        rest = &rest[clean + 1..];
        len += match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => "\\n".len() - 1,
            _ => "\\u0000".len() - 1,
        };
    }
}

/// What stands in a JSON string whose inside is `inside`; `None` where a surrogate stands alone.
/// The string must be known to be one.
///
/// The result is allocated once and at its size: a parser's own buffer grows with the string, and
/// is copied then.
pub(crate) fn unescape(inside: &str) -> Option<String> {
    let mut len = inside.len();
    each_escape(inside, |_, escape, character| len -= escape - character.len_utf8())?;
    let mut out = String::with_capacity(len);
    let mut end = 0;
    each_escape(inside, |at, escape, character| {
        out.push_str(&inside[end..at]);
        out.push(character);
        end = at + escape;
    })?;
    out.push_str(&inside[end..]);
    Some(out)
}

/// Gives the place of each escape, its length, and what it stands for.
fn each_escape(inside: &str, mut give: impl FnMut(usize, usize, char)) -> Option<()> {
    let mut from = 0;
    while let Some(found) = memchr(b'\\', &inside.as_bytes()[from..]) {
        let at = from + found;
        let (character, len) = escape(&inside.as_bytes()[at..])?;
        give(at, len, character);
        from = at + len;
    }
    Some(())
}

/// The escape that `bytes` begin with.
fn escape(bytes: &[u8]) -> Option<(char, usize)> {
    let short = match *bytes.get(1)? {
        b'u' => return unicode_escape(bytes),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        itself => char::from(itself),
    };
    Some((short, 2))
}

/// The `\uXXXX`, or pair of such, that `bytes` begin with.
fn unicode_escape(bytes: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let escape = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        escape.iter().try_fold(0_u16, |unit, &digit| {
            let digit = char::from(digit).to_digit(16)?;
            Some(unit << 4 | u16::try_from(digit).ok()?)
        })
    };
    let first = unit(0)?;
    let pair = [first, unit(6).unwrap_or_default()];
    // A pair's second half alone is an error, and anything else behind the first is none of it.
    let character = char::decode_utf16(pair).next()?.ok()?;
    Some((character, 6 * character.len_utf16()))
}

/// Appends `text` as a JSON string, quotes included.
pub(crate) fn string_into(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    escape_into(out, text);
    out.put_u8(b'"');
}

/// How many bytes at the start of `bytes` stand in JSON as they are.
///
/// Eight at a time: most pieces of an answer are short, so this beats a vectorised search that
/// has to be set up, and prose seldom stops it.
fn clean_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(lane) = bytes[at..].first_chunk::<LANES>() {
        let lane = u64::from_le_bytes(*lane);
        // Each term has the high bit of the first byte that matches set; a borrow may set those
        // of later bytes too, which does not matter as only the first counts.
        let control = lane.wrapping_sub(ONES * 0x20);
        let quote = (lane ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
        let backslash = (lane ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
        let hits = (control & !lane)
            | (quote & !(lane ^ (ONES * u64::from(b'"'))))
            | (backslash & !(lane ^ (ONES * u64::from(b'\\'))));
        let hits = hits & HIGHS;
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += LANES;
    }
    let tail = &bytes[at..];
    at + tail.iter().position(|&byte| needs_escape(byte)).unwrap_or(tail.len())
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// A string that borrows from the text it was read from where it holds no escapes.
///
/// `Cow<str>` alone would be copied inside an `Option`.
#[derive(Debug)]
pub(crate) struct Str<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text)))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = BytesMut::new();
        string_into(&mut out, text);
        String::from_utf8(out.to_vec()).expect("UTF-8 in, UTF-8 out")
    }

    #[test]
    fn every_byte_at_every_place() {
        for byte in 0..0x80_u8 {
            for place in 0..20 {
                let mut text = "x".repeat(20).into_bytes();
                text[place] = byte;
                let text = String::from_utf8(text).expect("ASCII");
                assert_eq!(escaped(&text), serde_json::to_string(&text).expect("a string"));
            }
        }
    }

    #[test]
    fn surrogates_alone_are_no_text() {
        for inside in
            [r"\ud83c", r"\udf0c", r"\ud83cx", r"\ud83c\n", r"\ud83c\ud83c", r"\udf0c\ud83c"]
        {
            assert_eq!(unescape(inside), None, "{inside}");
            assert!(serde_json::from_str::<String>(&format!("\"{inside}\"")).is_err());
        }
        assert_eq!(unescape(r"a\ud83c\udf0cb\u00e9\/").as_deref(), Some("a\u{1f30c}b\u{e9}/"));
    }

    proptest! {
        #[test]
        fn unescaping_agrees_with_serde_json(
            parts in prop::collection::vec(
                prop_oneof![
                    "[^\"\\\\\u{0}-\u{1f}]{0,6}",
                    prop::sample::select(vec![
                        r#"\""#, r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t", r"\u0000", r"\u00E9",
                        r"\u20ac", r"\ud83c\udf0c", r"\ud83c", r"\uDF0C",
                    ]).prop_map(str::to_owned),
                ],
                0..8,
            ),
        ) {
            let inside = parts.concat();
            let expected = serde_json::from_str::<String>(&format!("\"{inside}\"")).ok();
            let found = unescape(&inside);
            prop_assert_eq!(&found, &expected);
            if let Some(found) = found {
                prop_assert_eq!(found.capacity(), found.len());
            }
        }

        #[test]
        fn the_escaped_length_is_exact(text in "(?s).{0,64}") {
            prop_assert_eq!(escaped_len(&text) + 2, escaped(&text).len());
        }

        #[test]
        fn agrees_with_serde_json(text in "(?s).{0,64}") {
            prop_assert_eq!(escaped(&text), serde_json::to_string(&text).expect("a string"));
        }

        #[test]
        fn pieces_join(first in "(?s).{0,24}", second in "(?s).{0,24}") {
            let mut pieces = BytesMut::new();
            escape_into(&mut pieces, &first);
            escape_into(&mut pieces, &second);
            let mut whole = BytesMut::new();
            escape_into(&mut whole, &(first + &second));
            prop_assert_eq!(pieces, whole);
        }
    }
}

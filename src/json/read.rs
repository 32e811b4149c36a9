//! JSON strings as texts.

use std::{borrow::Cow, fmt};

#[cfg(feature = "edge")]
use memchr::memchr_iter;
use serde::{Deserialize, Deserializer, de};

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

/// What stands in a JSON string whose inside is `inside`; `None` where a surrogate stands alone.
/// The string must be known to be one.
///
/// The result is written once, into a buffer that need not grow and is kept if it is nearly full:
/// a parser's own grows with the string by doubling, and is copied then.
#[cfg(feature = "edge")]
pub(crate) fn unescape(inside: &str) -> Option<String> {
    let mut out = String::with_capacity(inside.len());
    // What was read so far.
    let mut end = 0;
    for at in memchr_iter(b'\\', inside.as_bytes()) {
        // The second half of an escaped backslash.
        if at < end {
            continue;
        }
        out.push_str(&inside[end..at]);
        let (character, len) = escape(&inside.as_bytes()[at..])?;
        out.push(character);
        end = at + len;
    }
    out.push_str(&inside[end..]);
    // Few escapes leave little room, which is cheaper to keep than to give back.
    if out.capacity() - out.len() > out.len() / 8 {
        out.shrink_to_fit();
    }
    Some(out)
}

/// The character of the escape that `bytes` begin with, and its length; `None` where it is half a pair of
/// surrogates.
#[cfg(any(feature = "edge", feature = "tool-call", feature = "tool-wrap"))]
pub(crate) fn escape(bytes: &[u8]) -> Option<(char, usize)> {
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
#[cfg(any(feature = "edge", feature = "tool-call", feature = "tool-wrap"))]
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

#[cfg(all(test, feature = "edge"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
                prop_assert!(found.capacity() - found.len() <= found.len() / 8);
            }
        }
    }
}

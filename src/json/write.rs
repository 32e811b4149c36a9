//! Texts as JSON strings.

use bytes::{BufMut, BytesMut};

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
        match short(byte) {
            Some(short) => out.put_slice(&[b'\\', short]),
            None => {
                let [high, low] = hex(byte);
                out.put_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
}

/// The same behind a text.
#[cfg(any(feature = "tool-call", feature = "tool-wrap"))]
pub(crate) fn push_escaped(out: &mut String, text: &str) {
    let mut rest = text;
    loop {
        let (clean, escaped) = rest.split_at(clean_len(rest.as_bytes()));
        out.push_str(clean);
        let Some(&byte) = escaped.as_bytes().first() else { return };
        rest = &escaped[1..];
        out.push('\\');
        match short(byte) {
            Some(short) => out.push(short.into()),
            None => {
                out.push_str("u00");
                out.extend(hex(byte).map(char::from));
            }
        }
    }
}

/// What stands behind a backslash for a byte that must be escaped, where it has a short escape.
#[inline]
const fn short(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => return None,
    })
}

const fn hex(byte: u8) -> [u8; 2] {
    [HEX[(byte >> 4) as usize], HEX[(byte & 0xf) as usize]]
}

/// Appends `text` as a JSON string, quotes included.
pub(crate) fn string_into(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    escape_into(out, text);
    out.put_u8(b'"');
}

/// The same behind a text.
#[cfg(any(feature = "tool-call", feature = "tool-wrap"))]
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Appends `number`.
#[cfg(any(feature = "anthropic", feature = "ollama", feature = "openai", feature = "responses"))]
pub(crate) fn number_into(out: &mut BytesMut, number: u64) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// How many bytes at the start of `bytes` stand in JSON as they are.
///
/// Eight at a time: most pieces of an answer are short, so this beats a vectorised search that
/// has to be set up, and prose seldom stops it.
#[inline]
pub(crate) fn clean_len(bytes: &[u8]) -> usize {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = BytesMut::new();
        string_into(&mut out, text);
        let written = String::from_utf8(out.to_vec()).expect("UTF-8 in, UTF-8 out");
        #[cfg(any(feature = "tool-call", feature = "tool-wrap"))]
        {
            let mut pushed = String::new();
            push_string(&mut pushed, text);
            assert_eq!(pushed, written);
        }
        written
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

    proptest! {
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

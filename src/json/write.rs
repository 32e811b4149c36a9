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

/// Appends `text` as a JSON string, quotes included.
pub(crate) fn string_into(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    escape_into(out, text);
    out.put_u8(b'"');
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

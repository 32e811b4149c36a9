//! How long a text is as a JSON string.

/// How many bytes `text` becomes inside a JSON string.
///
/// Every byte is looked at in the same way, so that the compiler can take many at once: this
/// pass comes on top of the one that writes, and code is full of what is escaped.
pub(crate) fn escaped_len(text: &str) -> usize {
    // Short enough for counts in a byte.
    const BLOCK: usize = 128;
    let mut len = text.len();
    for block in text.as_bytes().chunks(BLOCK) {
        let (mut escapes, mut long) = (0_u8, 0_u8);
        for &byte in block {
            let control = u8::from(byte < 0x20);
            let short = matches!(byte, b'\n' | b'\r' | b'\t' | 0x08 | 0x0c);
            escapes += control | u8::from(byte == b'"') | u8::from(byte == b'\\');
            long += control - u8::from(short);
        }
        len += usize::from(escapes) + ("\\u0000".len() - "\\n".len()) * usize::from(long);
    }
    len
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_escaped_length_is_exact(text in "(?s)(.{0,64}|[\\x00-\\x22]{0,400})") {
            let escaped = serde_json::to_string(&text).expect("a string");
            prop_assert_eq!(escaped_len(&text) + 2, escaped.len());
        }
    }
}

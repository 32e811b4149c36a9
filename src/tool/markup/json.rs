//! Strings and numbers of JSON, written and checked.

/// How deeply a value may nest. Readers of JSON often stop at 128, and the value stands inside the
/// arguments object.
pub(in crate::tool) const DEPTH_LIMIT: usize = 120;

/// Whether `text` cannot stand in a JSON string as it is.
#[cfg(feature = "tool-call")]
pub(in crate::tool) fn needs_escape(text: &str) -> bool {
    text.bytes().any(must_escape)
}

const fn must_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Writes `text` as the inside of a JSON string: quotes, backslashes and control characters
/// escaped, everything else as it is.
pub(in crate::tool) fn escape(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text;
    while let Some(at) = rest.bytes().position(must_escape) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            control => {
                out.push_str("\\u00");
                out.push(HEX[usize::from(control >> 4)].into());
                out.push(HEX[usize::from(control & 15)].into());
            }
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// Writes `text` as a JSON string.
pub(in crate::tool) fn string(text: &str, out: &mut String) {
    out.push('"');
    escape(text, out);
    out.push('"');
}

/// Whether `text` is a number of JSON, within the range of a double.
pub(in crate::tool) fn is_number(text: &str) -> bool {
    // Rust's grammar of floats is wider than JSON's: it has signs, words and missing digits.
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let plain = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = plain(digits);
    if whole == 0 || (whole > 1 && digits[0] == b'0') {
        return false;
    }
    let mut rest = &digits[whole..];
    if let [b'.', fraction @ ..] = rest {
        let digits = plain(fraction);
        if digits == 0 {
            return false;
        }
        rest = &fraction[digits..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', digits @ ..] => digits,
            digits => digits,
        };
        let digits = plain(exponent);
        if digits == 0 {
            return false;
        }
        rest = &exponent[digits..];
    }
    rest.is_empty() && text.parse::<f64>().is_ok_and(f64::is_finite)
}

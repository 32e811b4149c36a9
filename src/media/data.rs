//! `data:` URLs and bare base64, as clients write them.

#![cfg_attr(not(feature = "upload"), allow(dead_code, reason = "what is fetched is written alone"))]

use std::borrow::Cow;

#[cfg(any(test, feature = "fetch"))]
use base64::engine::general_purpose::STANDARD;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Without padding or with, and with bits left over: what is meant is plain.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What a part holds.
#[derive(Debug, PartialEq)]
pub(crate) struct Data {
    /// The type that its URL names, in small letters.
    pub(crate) media_type: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

/// Why data cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// A `data:` URL has a comma before what it holds.
    NoComma,
    /// The character at this place of the data is none of base64.
    NotBase64(usize),
    /// The data ends within a byte.
    Cut,
    /// It is more than this many bytes.
    TooLarge(usize),
}

/// Whether the URL is one that holds what it names.
fn is_data_url(url: &str) -> bool {
    has_scheme(url, "data:")
}

/// Whether the URL is of another place, by `http:` or `https:`.
pub(crate) fn is_web_url(url: &str) -> bool {
    has_scheme(url, "https:") || has_scheme(url, "http:")
}

fn has_scheme(url: &str, scheme: &str) -> bool {
    url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// The `data:` URL of `bytes`.
#[cfg(any(test, feature = "fetch"))]
pub(crate) fn encode(media_type: &str, bytes: &[u8]) -> String {
    let mut url = String::with_capacity(media_type.len() + 13 + bytes.len().div_ceil(3) * 4);
    url.push_str("data:");
    url.push_str(media_type);
    url.push_str(";base64,");
    STANDARD.encode_string(bytes, &mut url);
    url
}

/// Reads a `data:` URL, or base64 alone, of `limit` bytes at most. Nothing of what is larger is
/// decoded.
///
/// Taken is what clients write: base64 in lines, in the alphabet of URLs, without its padding,
/// percent-encoded, and without the word `;base64` where it is base64 of something that is known; text
/// as a URL has it.
pub(crate) fn decode(url: &str, limit: usize) -> Result<Data, Unreadable> {
    let url = url.trim_ascii();
    if !is_data_url(url) {
        return Ok(Data { media_type: None, bytes: base64(url, limit)? });
    }
    let (head, data) = url["data:".len()..].split_once(',').ok_or(Unreadable::NoComma)?;
    let mut words = head.split(';').map(str::trim);
    let media_type = words.next().filter(|word| word.contains('/')).map(str::to_ascii_lowercase);
    let is_base64 = head.split(';').any(|word| word.trim().eq_ignore_ascii_case("base64"));
    let bytes = if is_base64 { base64(data, limit)? } else { text(data, limit)? };
    Ok(Data { media_type, bytes })
}

fn base64(data: &str, limit: usize) -> Result<Vec<u8>, Unreadable> {
    let too_large = |digits: usize| digits / 4 * 3 + digits % 4 * 3 / 4 > limit;
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let body = data.trim_ascii_end().trim_end_matches('=');
    let digits = if body.bytes().all(is_digit) {
        if too_large(body.len()) {
            return Err(Unreadable::TooLarge(limit));
        }
        Cow::Borrowed(body.as_bytes())
    } else {
        Cow::Owned(digits(data, |digits| too_large(digits).then_some(limit))?)
    };
    // A digit alone is no byte.
    if digits.len() % 4 == 1 {
        return Err(Unreadable::Cut);
    }
    LENIENT.decode(digits.as_ref()).map_err(|_| Unreadable::Cut)
}

/// The digits of `data` in the usual alphabet, without what stands between them.
fn digits(data: &str, too_many: impl Fn(usize) -> Option<usize>) -> Result<Vec<u8>, Unreadable> {
    let mut digits = Vec::with_capacity(data.len().min(1024));
    let bytes = data.as_bytes();
    let mut at = 0;
    let mut is_over = false;
    while let Some(&byte) = bytes.get(at) {
        let place = at;
        at += 1;
        let byte = match byte {
            b'%' => match escaped(&bytes[at..]) {
                Some(byte) => {
                    at += 2;
                    byte
                }
                None => return Err(Unreadable::NotBase64(place)),
            },
            byte => byte,
        };
        match byte {
            b'\t' | b'\n' | b'\r' | b' ' => {}
            b'=' => is_over = true,
            // Behind the padding there is nothing.
            _ if is_over => return Err(Unreadable::NotBase64(place)),
            b'-' => digits.push(b'+'),
            b'_' => digits.push(b'/'),
            b'+' | b'/' => digits.push(byte),
            byte if byte.is_ascii_alphanumeric() => digits.push(byte),
            _ => return Err(Unreadable::NotBase64(place)),
        }
        if let Some(limit) = too_many(digits.len()) {
            return Err(Unreadable::TooLarge(limit));
        }
    }
    Ok(digits)
}

/// What a URL holds that is not base64.
fn text(data: &str, limit: usize) -> Result<Vec<u8>, Unreadable> {
    let mut text = Vec::with_capacity(data.len().min(limit));
    let bytes = data.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if text.len() == limit {
            return Err(Unreadable::TooLarge(limit));
        }
        match (byte, escaped(&bytes[at..])) {
            (b'%', Some(byte)) => {
                at += 2;
                text.push(byte);
            }
            // A sign of its own, as browsers read it.
            _ => text.push(byte),
        }
    }
    Ok(text)
}

/// The byte that two hexadecimal digits are.
fn escaped(rest: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*rest.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(url: &str) -> Result<Vec<u8>, Unreadable> {
        decode(url, 1024).map(|data| data.bytes)
    }

    #[test]
    fn what_clients_write_is_read() {
        let wanted = b"\xfb\xff\xfehello".to_vec();
        for url in [
            "data:image/png;base64,+//+aGVsbG8=",
            "DATA:image/png;BASE64,+//+aGVsbG8=",
            "data:image/png;charset=utf-8;base64,+//+aGVsbG8=",
            "data:;base64,+//+aGVsbG8",
            "data:base64,+//+aGVsbG8=",
            "data:image/png;base64,-__-aGVsbG8=",
            "data:image/png;base64,%2B%2F%2f%2BaGVsbG8%3D",
            "data:image/png;base64,+//+\r\n aGVs\nbG8=\n",
            " data:image/png; base64 ,+//+aGVsbG8= ",
            "+//+aGVsbG8=",
            "+//+aGVsbG8",
        ] {
            assert_eq!(bytes(url), Ok(wanted.clone()), "{url}");
        }
    }

    #[test]
    fn text_is_read_as_a_url_has_it() {
        let data = decode("data:text/plain;charset=utf-8,a%20b+c%C3%A9%zz", 1024).expect("text");
        assert_eq!(data.media_type.as_deref(), Some("text/plain"));
        assert_eq!(data.bytes, "a b+cé%zz".as_bytes());
        assert_eq!(bytes("data:,"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_none_is_refused() {
        assert_eq!(bytes("data:image/png;base64"), Err(Unreadable::NoComma));
        assert_eq!(bytes("data:image/png;base64,aa*a"), Err(Unreadable::NotBase64(2)));
        assert_eq!(bytes("data:image/png;base64,aaé"), Err(Unreadable::NotBase64(2)));
        assert_eq!(bytes("data:image/png;base64,aa%4"), Err(Unreadable::NotBase64(2)));
        assert_eq!(bytes("data:image/png;base64,aa==aa"), Err(Unreadable::NotBase64(4)));
        assert_eq!(bytes("data:image/png;base64,a"), Err(Unreadable::Cut));
        assert_eq!(bytes("data:image/png;base64,aaaaa"), Err(Unreadable::Cut));
    }

    #[test]
    fn a_limit_is_kept_to_the_byte() {
        let of = |bytes: usize, limit| decode(&encode("a/b", &vec![7; bytes]), limit);
        for limit in 0..9 {
            assert_eq!(of(limit, limit).map(|data| data.bytes.len()), Ok(limit));
            assert_eq!(of(limit + 1, limit), Err(Unreadable::TooLarge(limit)));
            let folded = format!("data:a/b;base64,\n{}", STANDARD.encode(vec![7; limit + 1]));
            assert_eq!(decode(&folded, limit), Err(Unreadable::TooLarge(limit)));
            let text = format!("data:a/b,{}", "x".repeat(limit + 1));
            assert_eq!(decode(&text, limit), Err(Unreadable::TooLarge(limit)));
        }
    }

    proptest! {
        #[test]
        fn it_goes_there_and_back(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(bytes(&encode("a/b", &data)), Ok(data));
        }

        #[test]
        fn no_text_makes_it_panic(url in ".{0,64}") {
            let _ = decode(&url, 16);
            let _ = decode(&format!("data:a/b;base64,{url}"), 16);
            let _ = decode(&format!("data:a/b,{url}"), 16);
        }
    }
}

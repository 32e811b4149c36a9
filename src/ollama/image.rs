//! Images, which come as base64 and do not say what they are.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use crate::media::of_bytes;

/// What is wrong with an image.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoImage {
    /// The character at this place is none of base64.
    NotBase64(usize),
    /// Its first bytes are those of no kind that is known.
    Unknown,
}

/// How many characters are decoded to see what an image is: 12 bytes.
const HEAD: usize = 16;

/// The `data:` URL of the image that is `base64`; one that is a `data:` URL stays as it is.
pub(super) fn data_url(base64: &str) -> Result<Cow<'_, str>, NoImage> {
    if base64.starts_with("data:") {
        return Ok(Cow::Borrowed(base64));
    }
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    // Padding stands at the end, behind which a line may end.
    let digits = base64.trim_ascii_end().trim_end_matches('=');
    if let Some(at) = digits.bytes().position(|byte| !is_digit(byte) && !is_blank(byte)) {
        return Err(NoImage::NotBase64(at));
    }
    let head: Vec<u8> = digits.bytes().filter(|byte| !is_blank(*byte)).take(HEAD).collect();
    // Whole bytes alone, of an image that is shorter than this.
    let head = STANDARD_NO_PAD.decode(&head[..head.len() / 4 * 4]).unwrap_or_default();
    let kind = of_bytes(&head).filter(|kind| kind.starts_with("image/"));
    let kind = kind.ok_or(NoImage::Unknown)?;
    let mut url = format!("data:{kind};base64,");
    url.reserve(base64.len());
    // Lines are cut by some encoders; a URL has none.
    base64.split_ascii_whitespace().for_each(|piece| url.push_str(piece));
    Ok(Cow::Owned(url))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn the_first_bytes_say_what_it_is() {
        for (head, kind) in [
            (&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], "image/png"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01", "image/jpeg"),
            (b"\xff\xd8\xff", "image/jpeg"),
            (b"GIF89a\x01\0\x01\0\0\0\0", "image/gif"),
            (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
            (b"II*\0\x08\0\0\0", "image/tiff"),
            (b"MM\0*\0\0\0\x08", "image/tiff"),
            (b"BM\x3a\0\0\0\0\0\0\0", "image/bmp"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "image/avif"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "image/heic"),
        ] {
            let base64 = STANDARD.encode(head);
            let url = data_url(&base64).expect(kind);
            assert_eq!(url, format!("data:{kind};base64,{base64}"));
            // As some encoders write it.
            let (first, rest) = base64.split_at(3);
            assert_eq!(data_url(&format!("{first}\r\n{rest}\n")).expect(kind), url);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        assert_eq!(data_url("iVBORw0KGgo%AAA="), Err(NoImage::NotBase64(11)));
        assert_eq!(data_url("pics/a.png"), Err(NoImage::NotBase64(6)));
        assert_eq!(data_url("iVBO=w0KGgo="), Err(NoImage::NotBase64(4)));
        for text in ["", "=", "a", "ab", "SGVsbG8=", "UklGRgAAAABBVkkg"] {
            assert_eq!(data_url(text), Err(NoImage::Unknown), "{text}");
        }
        let url = "data:image/png;base64,iVBORw0KGgo=";
        assert_eq!(data_url(url).as_deref(), Ok(url));
    }
}

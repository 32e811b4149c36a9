//! The size of an image, as far as the beginning of its data says it.

/// The side of the square of pixels that is one token.
const SQUARE: u64 = 28;

/// The least and the most tokens of an image: smaller ones are made larger, and larger ones smaller.
const LEAST: u64 = 4;
const MOST: u64 = 16_384;

/// How much of an image is read to find its size, in bytes: the data of a camera stand before that
/// of a photograph.
const BEGINNING: usize = 256 * 1024;

/// How many tokens the image at a `data:` URL has; `None` where its size cannot be seen.
pub(super) fn tokens(url: &str) -> Option<u64> {
    let (_, base64) = url.strip_prefix("data:")?.split_once(";base64,")?;
    let (width, height) = size(Bytes::of(base64))?;
    let squares = |side: u64| side.div_ceil(SQUARE);
    // Something begins and ends it.
    Some((squares(width) * squares(height)).clamp(LEAST, MOST) + 2)
}

/// The width and the height that the beginning of an image says.
fn size(mut bytes: Bytes<'_>) -> Option<(u64, u64)> {
    let start: [u8; 12] = bytes.array()?;
    match start {
        [0x89, b'P', b'N', b'G', ..] => {
            // The length of the first chunk ends here; its name and what it says follow.
            let [_, _, _, _, width @ .., h0, h1, h2, h3] = bytes.array::<12>()?;
            let side = |bytes: [u8; 4]| u64::from(u32::from_be_bytes(bytes));
            Some((side(width), side([h0, h1, h2, h3])))
        }
        [b'G', b'I', b'F', _, _, _, w0, w1, h0, h1, ..] => {
            Some((u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into()))
        }
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => webp(bytes),
        [0xff, 0xd8, rest @ ..] => jpeg(rest.into_iter().chain(bytes)),
        _ => None,
    }
}

fn webp(mut bytes: Bytes<'_>) -> Option<(u64, u64)> {
    let chunk: [u8; 8] = bytes.array()?;
    let body: [u8; 10] = bytes.array()?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, &b| sum << 8 | u64::from(b));
    match &chunk[..4] {
        b"VP8X" => Some((number(&body[4..7]) + 1, number(&body[7..10]) + 1)),
        b"VP8L" => {
            let bits = number(&body[1..5]);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8 " => Some((number(&body[6..8]) & 0x3fff, number(&body[8..10]) & 0x3fff)),
        _ => None,
    }
}

/// Goes from segment to segment until one says the size.
fn jpeg(bytes: impl Iterator<Item = u8>) -> Option<(u64, u64)> {
    let mut bytes = bytes.take(BEGINNING);
    loop {
        let marker = loop {
            match bytes.next()? {
                // Any number of these may stand before a marker.
                0xff => {}
                marker => break marker,
            }
        };
        let mut two = || Some(u64::from(bytes.next()?) << 8 | u64::from(bytes.next()?));
        let length = two()?;
        match marker {
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf => {
                let _precision = bytes.next()?;
                let mut two = || Some(u64::from(bytes.next()?) << 8 | u64::from(bytes.next()?));
                let height = two()?;
                return Some((two()?, height));
            }
            _ => {}
        }
        let skipped = usize::try_from(length.checked_sub(2)?).ok()?;
        if let Some(last) = skipped.checked_sub(1) {
            bytes.nth(last)?;
        }
    }
}

/// The bytes that base64 stands for, one by one.
struct Bytes<'a> {
    base64: std::slice::Iter<'a, u8>,
    bits: u32,
    count: u32,
}

impl<'a> Bytes<'a> {
    fn of(base64: &'a str) -> Self {
        Self { base64: base64.as_bytes().iter(), bits: 0, count: 0 }
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.next()?;
        }
        Some(array)
    }
}

impl Iterator for Bytes<'_> {
    type Item = u8;

    /// Ends at what is no base64, its padding included.
    fn next(&mut self) -> Option<u8> {
        while self.count < 8 {
            let six = match *self.base64.next()? {
                letter @ b'A'..=b'Z' => letter - b'A',
                letter @ b'a'..=b'z' => letter - b'a' + 26,
                digit @ b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            self.bits = self.bits << 6 | u32::from(six);
            self.count += 6;
        }
        self.count -= 8;
        let byte = self.bits >> self.count;
        self.bits &= (1 << self.count) - 1;
        u8::try_from(byte & 0xff).ok()
    }
}

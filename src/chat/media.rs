//! Pictures and videos, where they are what is asked for.

use std::fmt;

/// How an image or a video shall be, for a request of that [kind](super::AnswerKind).
///
/// The prompt is the last message of the user's. An image among its parts is what is changed, or what
/// a video begins with. What is made comes as [`Attachment`](super::ChatEvent::Attachment)s.
///
/// ```
/// use tower_qwen::chat::{AnswerKind, ChatRequest, MediaSize, Message, Role};
///
/// let mut request = ChatRequest::new("qwen3-max", [Message::new(Role::User, "A red fox in snow")]);
/// request.kind = AnswerKind::Image;
/// request.media.size = MediaSize::parse("1792x1024");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MediaOptions {
    /// How large, or of which shape; `None` leaves it to the upstream.
    pub size: Option<MediaSize>,
    /// How long a video is, in seconds; `None` leaves it to the upstream.
    pub seconds: Option<u32>,
}

/// The size of a picture, or its shape alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MediaSize {
    /// Width and height, in pixels; neither is 0.
    Pixels(u32, u32),
    /// Width to height; neither is 0.
    Ratio(u32, u32),
}

impl MediaSize {
    /// The largest number of pixels, or of a ratio, on either side.
    pub const MAX: u32 = 16_384;

    /// Reads `1024x1024`, `1024*1024` or `16:9`; `None` for anything else, for zeros, and for numbers
    /// above [`MAX`](Self::MAX).
    ///
    /// ```
    /// use tower_qwen::chat::MediaSize;
    ///
    /// assert_eq!(MediaSize::parse("1024x768"), Some(MediaSize::Pixels(1024, 768)));
    /// assert_eq!(MediaSize::parse("16:9"), Some(MediaSize::Ratio(16, 9)));
    /// assert_eq!(MediaSize::parse("large"), None);
    /// ```
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let at = word.find(['x', 'X', '*', '×', ':'])?;
        let sign = word[at..].chars().next()?;
        let number = |digits: &str| {
            let is_plain = digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
            let number = digits.parse::<u32>().ok().filter(|_| is_plain)?;
            (1..=Self::MAX).contains(&number).then_some(number)
        };
        let (width, height) =
            (number(word[..at].trim_ascii())?, number(word[at + sign.len_utf8()..].trim_ascii())?);
        Some(match sign {
            ':' => Self::Ratio(width, height),
            _ => Self::Pixels(width, height),
        })
    }

    /// Width and height, whichever unit they have.
    #[must_use]
    pub const fn sides(self) -> (u32, u32) {
        match self {
            Self::Pixels(width, height) | Self::Ratio(width, height) => (width, height),
        }
    }

    /// Which of `shapes` is nearest to this one: that whose ratio of width to height is off by the
    /// smallest factor. Of two that are equally far off, the first; `None` where there are none.
    #[must_use]
    pub fn nearest(self, shapes: impl IntoIterator<Item = (u32, u32)>) -> Option<(u32, u32)> {
        let ratio =
            |(width, height): (u32, u32)| f64::from(width.max(1)) / f64::from(height.max(1));
        let wanted = ratio(self.sides()).ln();
        let off = |shape: &(u32, u32)| (ratio(*shape).ln() - wanted).abs();
        shapes.into_iter().reduce(|best, next| if off(&next) < off(&best) { next } else { best })
    }

    /// Whether this is of exactly that shape.
    #[must_use]
    pub fn is_of_shape(self, (width, height): (u32, u32)) -> bool {
        let (own_width, own_height) = self.sides();
        u64::from(own_width) * u64::from(height) == u64::from(own_height) * u64::from(width)
    }
}

/// As OpenAI writes it, `1024x768`; a ratio as `16:9`.
impl fmt::Display for MediaSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pixels(width, height) => write!(f, "{width}x{height}"),
            Self::Ratio(width, height) => write!(f, "{width}:{height}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_clients_write_them() {
        use MediaSize::{Pixels, Ratio};
        for (word, size) in [
            ("1024x1024", Some(Pixels(1024, 1024))),
            ("1792X1024", Some(Pixels(1792, 1024))),
            ("1328*1328", Some(Pixels(1328, 1328))),
            ("640×480", Some(Pixels(640, 480))),
            (" 1 x 2 ", Some(Pixels(1, 2))),
            ("16:9", Some(Ratio(16, 9))),
            ("16384x1", Some(Pixels(16_384, 1))),
            ("16385x1", None),
            ("0x1", None),
            ("1x0", None),
            ("-1x1", None),
            ("+1x1", None),
            ("1x", None),
            ("x", None),
            ("", None),
            ("auto", None),
            ("1x2x3", None),
            ("99999999999x1", None),
        ] {
            assert_eq!(MediaSize::parse(word), size, "{word:?}");
        }
    }

    #[test]
    fn what_was_read_is_written_the_same() {
        for word in ["1024x768", "16:9"] {
            assert_eq!(MediaSize::parse(word).expect("valid").to_string(), word);
        }
    }

    #[test]
    fn the_nearest_shape_is_found() {
        let shapes = [(1, 1), (3, 4), (4, 3), (16, 9), (9, 16)];
        for (word, nearest, is_exact) in [
            ("1024x1024", (1, 1), true),
            ("1792x1024", (16, 9), false),
            ("1920x1080", (16, 9), true),
            ("1024x1792", (9, 16), false),
            ("1536x1024", (4, 3), false),
            ("1024x1536", (3, 4), false),
            ("640x480", (4, 3), true),
            ("3:2", (4, 3), false),
            ("16384x1", (16, 9), false),
            ("1x16384", (9, 16), false),
            ("1000x999", (1, 1), false),
        ] {
            let size = MediaSize::parse(word).expect("valid");
            let found = size.nearest(shapes).expect("there are some");
            assert_eq!((found, size.is_of_shape(found)), (nearest, is_exact), "{word}");
        }
        assert_eq!(MediaSize::Ratio(1, 1).nearest([]), None);
    }
}

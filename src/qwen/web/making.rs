//! A picture or a film, as the page's requests have it.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::ChatType;
use crate::{
    Error, Text,
    chat::{AnswerKind, AttachmentKind, MediaOptions, MediaSize},
};

/// Names in a response the size that a request asked for and the shape that was sent in its place,
/// such as `1536x1024; sent=4:3`.
const X_QWEN_SIZE: HeaderName = HeaderName::from_static("x-qwen-size");

/// The shapes that are made, with the words for them.
const SHAPES: [((u32, u32), &str); 5] =
    [((1, 1), "1:1"), ((3, 4), "3:4"), ((4, 3), "4:3"), ((16, 9), "16:9"), ((9, 16), "9:16")];

/// What is made in place of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Making {
    kind: AnswerKind,
    /// Whether there is a picture to begin with.
    from_image: bool,
    /// Of [`SHAPES`].
    shape: Option<&'static str>,
    /// The size that was asked for, where it is not of that shape.
    asked: Option<MediaSize>,
}

impl Making {
    /// What is asked for with `media`, of a prompt with so many `images`.
    ///
    /// # Errors
    ///
    /// Where the page has no such thing.
    pub(super) fn new(
        kind: AnswerKind,
        media: &MediaOptions,
        images: usize,
    ) -> Result<Self, Error> {
        if kind == AnswerKind::Video && images > 1 {
            let message = format!(
                "a film begins with one picture, and there are {images}; send one, or none"
            );
            return Err(Error::invalid("messages", message));
        }
        let found = media.size.and_then(|size| size.nearest(SHAPES.map(|(shape, _)| shape)));
        let word = |shape| SHAPES.iter().find(|(known, _)| *known == shape).map(|(_, word)| *word);
        let is_same = |size: &MediaSize| found.is_none_or(|shape| size.is_of_shape(shape));
        Ok(Self {
            kind,
            from_image: images > 0,
            // A picture that is asked for without a size is square, as on the page.
            shape: found.and_then(word).or(match (kind, images) {
                (AnswerKind::Video, 0) => Some("16:9"),
                (_, 0) => Some("1:1"),
                // Of the shape that the first picture has.
                _ => None,
            }),
            asked: media.size.filter(|size| !is_same(size)),
        })
    }

    /// What it is in upstream's words.
    pub(super) const fn chat_type(&self) -> ChatType {
        match (self.kind, self.from_image) {
            (AnswerKind::Video, false) => ChatType::Video,
            (AnswerKind::Video, true) => ChatType::VideoFromImage,
            (_, false) => ChatType::Image,
            (_, true) => ChatType::ImageEdit,
        }
    }

    /// The shape, as a ratio.
    pub(super) const fn shape(&self) -> Option<&'static str> {
        self.shape
    }

    /// Whether it is made by a task that is asked about, and not in a stream.
    pub(super) const fn is_task(&self) -> bool {
        matches!(self.kind, AnswerKind::Video)
    }

    /// Whether a picture is the first thing of it.
    pub(super) const fn is_from_image(&self) -> bool {
        self.from_image
    }

    /// What becomes of it in an answer.
    pub(super) const fn attachment(&self) -> AttachmentKind {
        match self.kind {
            AnswerKind::Video => AttachmentKind::Video,
            _ => AttachmentKind::Image,
        }
    }

    /// What kind of answer it is.
    pub(super) const fn kind(&self) -> AnswerKind {
        self.kind
    }

    /// Says which shape was sent in place of the size that was asked for.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        let (Some(asked), Some(shape)) = (self.asked, self.shape) else { return };
        if let Ok(told) = HeaderValue::try_from(format!("{asked}; sent={shape}")) {
            headers.insert(X_QWEN_SIZE, told);
        }
    }
}

/// Whether `url` is where something can be fetched from.
pub(super) fn is_address(url: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme))
        && !url.contains(|c: char| c.is_ascii_whitespace() || c.is_ascii_control())
}

/// A copy, so that a few bytes do not keep what they came in.
pub(super) fn owned(url: &str) -> Text {
    Text::from(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn making(kind: AnswerKind, size: &str, images: usize) -> Making {
        let media = MediaOptions { size: MediaSize::parse(size), ..MediaOptions::default() };
        Making::new(kind, &media, images).expect("valid")
    }

    #[test]
    fn what_is_asked_for_has_a_word_on_the_wire() {
        use AnswerKind::{Image, Video};
        for (kind, size, images, chat_type, shape, told) in [
            (Image, "", 0, "t2i", Some("1:1"), None),
            (Image, "1024x1024", 0, "t2i", Some("1:1"), None),
            (Image, "1792x1024", 0, "t2i", Some("16:9"), Some("1792x1024; sent=16:9")),
            (Image, "1536x1024", 0, "t2i", Some("4:3"), Some("1536x1024; sent=4:3")),
            (Image, "1024x1536", 1, "image_edit", Some("3:4"), Some("1024x1536; sent=3:4")),
            (Image, "16:9", 0, "t2i", Some("16:9"), None),
            (Image, "", 2, "image_edit", None, None),
            (Video, "", 0, "t2v", Some("16:9"), None),
            (Video, "1920x1080", 0, "t2v", Some("16:9"), None),
            (Video, "720x1280", 1, "i2v", Some("9:16"), None),
            (Video, "", 1, "i2v", None, None),
        ] {
            let making = making(kind, size, images);
            let case = format!("{kind:?} {size} {images}");
            assert_eq!((making.chat_type().as_str(), making.shape()), (chat_type, shape), "{case}");
            assert_eq!(making.is_task(), kind == Video, "{case}");
            let mut headers = HeaderMap::new();
            making.tell(&mut headers);
            let value = headers.get(X_QWEN_SIZE).map(|value| value.to_str().expect("plain"));
            assert_eq!(value, told, "{case}");
        }
        let error = Making::new(Video, &MediaOptions::default(), 2).expect_err("one at most");
        assert_eq!((error.status().as_u16(), error.param()), (400, Some("messages")));
    }

    #[test]
    fn an_address_is_one_that_can_be_fetched() {
        for (url, is_one) in [
            ("https://cdn.example.org/a.png?key=x", true),
            ("http://127.0.0.1:8080/a", true),
            ("data:image/png;base64,AA==", false),
            ("The film is not ready", false),
            ("https://example.org/a b", false),
            ("", false),
        ] {
            assert_eq!(is_address(url), is_one, "{url}");
        }
    }
}

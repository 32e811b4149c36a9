//! Files that an upstream keeps.

use std::fmt;

use crate::Text;

/// What a file is to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A picture.
    Image,
    /// Sound.
    Audio,
    /// A film.
    Video,
    /// Anything else: it is read as text.
    Document,
}

impl FileKind {
    /// What a file of this media type is, such as `image/png`.
    #[must_use]
    pub fn of(media_type: &str) -> Self {
        let is = |kind: &str| {
            media_type.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
        };
        if is("image/") {
            Self::Image
        } else if is("audio/") {
            Self::Audio
        } else if is("video/") {
            Self::Video
        } else {
            Self::Document
        }
    }

    /// A word for it: `image`, `audio`, `video` or `document`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Document => "document",
        }
    }
}

/// A file that was uploaded to where the upstream reads it, in the place of the part whose data it
/// holds.
///
/// A layer that uploads makes it, and an adapter whose upstream keeps files sends it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadedFile {
    /// What it is.
    pub kind: FileKind,
    /// The upstream's id of it.
    pub id: Text,
    /// Where it is. The URL may be signed, and then it opens the file to whoever has it for as long
    /// as the signature lasts.
    pub url: Text,
    /// Its name.
    pub name: Text,
    /// Its media type, such as `image/png`.
    pub media_type: Text,
    /// How many bytes it has.
    pub size: u64,
}

impl UploadedFile {
    /// A file of no bytes.
    #[must_use]
    pub fn new(
        kind: FileKind,
        id: impl Into<Text>,
        url: impl Into<Text>,
        name: impl Into<Text>,
        media_type: impl Into<Text>,
    ) -> Self {
        Self {
            kind,
            id: id.into(),
            url: url.into(),
            name: name.into(),
            media_type: media_type.into(),
            size: 0,
        }
    }
}

/// Shows no query of the URL, for that is what opens the file.
impl fmt::Debug for UploadedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        f.debug_struct("UploadedFile")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("url", &url)
            .field("name", &self.name)
            .field("media_type", &self.media_type)
            .field("size", &self.size)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_says_what_it_is() {
        for (media_type, kind) in [
            ("image/png", FileKind::Image),
            ("IMAGE/JPEG", FileKind::Image),
            ("audio/wav", FileKind::Audio),
            ("video/mp4", FileKind::Video),
            ("application/pdf", FileKind::Document),
            ("imagery", FileKind::Document),
            ("", FileKind::Document),
            ("é", FileKind::Document),
        ] {
            assert_eq!(FileKind::of(media_type), kind, "{media_type}");
        }
    }

    #[test]
    fn debug_does_not_show_what_opens_the_file() {
        let url = "https://b.example/a.png?x-oss-signature=secret";
        let file = UploadedFile::new(FileKind::Image, "f-1", url, "a.png", "image/png");
        let shown = format!("{file:?}");
        assert!(shown.contains("https://b.example/a.png") && !shown.contains("secret"), "{shown}");
    }
}

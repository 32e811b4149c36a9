use std::fmt;

use crate::{Error, ErrorKind};

/// What kind of answer a request wants.
///
/// It is what an adapter has to know beside the messages, where its upstream makes more than text
/// of a chat. One that cannot make the kind refuses the request with
/// [`Unsupported`](ErrorKind::Unsupported), before anything is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnswerKind {
    /// Text.
    #[default]
    Text,
    /// Text after a search of the web, whose sources come as
    /// [`Citation`](super::ChatEvent::Citation)s.
    Search,
    /// A long report out of many searches.
    DeepResearch,
    /// An image, as an [`Attachment`](super::ChatEvent::Attachment).
    Image,
    /// A video, likewise.
    Video,
}

impl AnswerKind {
    /// The word for it in metrics and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Search => "search",
            Self::DeepResearch => "deep_research",
            Self::Image => "image",
            Self::Video => "video",
        }
    }

    /// Whether functions can be called in it, and its text be in a form.
    #[must_use]
    pub const fn is_chat(self) -> bool {
        matches!(self, Self::Text | Self::Search)
    }

    /// Whether it is made in one piece, and comes as an [`Attachment`](super::ChatEvent::Attachment).
    #[must_use]
    pub const fn is_media(self) -> bool {
        matches!(self, Self::Image | Self::Video)
    }

    /// The error of an adapter whose `upstream` does not make it.
    #[cfg_attr(not(feature = "compatible"), allow(dead_code, reason = "for adapters"))]
    pub(crate) fn unsupported(self, upstream: &str) -> Error {
        let what = match self {
            Self::Text => "text",
            Self::Search => "answers after a search of the web",
            Self::DeepResearch => "reports of deep research",
            Self::Image => "images in a chat",
            Self::Video => "videos in a chat",
        };
        let message =
            format!("this upstream ({upstream}) makes no {what}; ask another, or for text");
        Error::new(ErrorKind::Unsupported, message).with_code("answer_kind_not_supported")
    }
}

impl fmt::Display for AnswerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

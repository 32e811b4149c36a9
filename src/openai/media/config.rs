use crate::{
    Text,
    chat::{AnswerKind, AttachmentKind},
};

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// `POST /v1/images/generations`.
    Generate,
    /// `POST /v1/images/edits`.
    Edit,
    /// `POST /v1/videos/generations`, or a video that is begun.
    Video,
}

impl Task {
    /// The label `edge` of the metrics.
    pub(super) const fn edge(self) -> &'static str {
        match self {
            Self::Generate => "images",
            Self::Edit => "image_edits",
            Self::Video => "video_generations",
        }
    }

    /// What the event is called that brings a picture.
    pub(super) const fn event(self) -> &'static str {
        match self {
            Self::Generate => "image_generation.completed",
            Self::Edit => "image_edit.completed",
            Self::Video => "video_generation.completed",
        }
    }

    /// The kind of answer that is asked for.
    pub(super) const fn kind(self) -> AnswerKind {
        match self {
            Self::Generate | Self::Edit => AnswerKind::Image,
            Self::Video => AnswerKind::Video,
        }
    }

    /// What of an answer is what was asked for.
    pub(super) const fn attachment(self) -> AttachmentKind {
        match self {
            Self::Generate | Self::Edit => AttachmentKind::Image,
            Self::Video => AttachmentKind::Video,
        }
    }
}

/// What the edge is told of pictures.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) task: Task,
    pub(crate) default_model: Option<Text>,
    /// How many are made at once.
    pub(crate) concurrency: usize,
}

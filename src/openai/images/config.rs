use crate::Text;

/// What is done with pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// `POST /v1/images/generations`.
    Generate,
    /// `POST /v1/images/edits`.
    Edit,
}

impl Task {
    /// The label `edge` of the metrics.
    pub(super) const fn edge(self) -> &'static str {
        match self {
            Self::Generate => "images",
            Self::Edit => "image_edits",
        }
    }

    /// What the event is called that brings a picture.
    pub(super) const fn event(self) -> &'static str {
        match self {
            Self::Generate => "image_generation.completed",
            Self::Edit => "image_edit.completed",
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

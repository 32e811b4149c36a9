use std::fmt;

use http::Extensions;

/// The target of everything that is told here.
pub const TARGET: &str = "tower_qwen::stream";

/// How much is told of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum View {
    /// Nothing.
    None,
    /// What comes, how large it is and when; not what it says.
    #[default]
    Events,
    /// What it says, too.
    Content,
}

/// Where a layer stands, and what it tells there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) choice: Choice,
}

/// Which requests are told of, and how much.
#[derive(Clone, Copy)]
pub(super) enum Choice {
    All(View),
    Each(fn(&Extensions) -> View),
}

impl Choice {
    pub(super) fn of(&self, request: &Extensions) -> View {
        match self {
            Self::All(view) => *view,
            Self::Each(view) => view(request),
        }
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(view) => f.debug_tuple("All").field(view).finish(),
            Self::Each(_) => f.write_str("Each"),
        }
    }
}

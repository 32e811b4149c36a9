use std::{sync::Arc, time::Duration};

use crate::{qwen::compatible::Overrides, sse::progress::Limits};

/// What an adapter is set to.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) overrides: Arc<Overrides>,
    pub(super) session_cache: bool,
    pub(super) progress: Limits,
    pub(super) grace: Duration,
}

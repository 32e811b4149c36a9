use std::time::Duration;

/// How a repeated request is joined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub(super) linger: Duration,
    pub(super) max_kept: usize,
}

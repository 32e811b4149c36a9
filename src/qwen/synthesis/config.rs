use std::time::Duration;

/// What the adapter is set to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub(super) task_interval: Option<Duration>,
    pub(super) task_limit: Duration,
    /// How long an answer that comes at once may take.
    pub(super) deadline: Duration,
}

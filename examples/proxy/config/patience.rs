//! How long an upstream is waited for, and how often it is asked.

use std::time::Duration;

use tower_qwen::{
    join::JoinLayer, qwen::compatible::Server, resume::ResumeLayer, retry::RetryPolicy,
    timeout::TimeoutLayer,
};
use tower_qwen_emulator::Kind;

use super::{
    ConfigError, Upstream, error,
    options::{MAX_RETRIES, MAX_TIMEOUT, UpstreamSettings},
};

/// For how long token counts are awaited when the model has finished, in seconds.
const GRACE: u64 = 2;

/// For how long a chat goes on whose client is gone, in seconds.
const LINGER: u64 = 5;

/// How often a request is sent once more.
const RETRIES: u32 = 2;

/// How long a whole answer may take, in seconds.
const TOTAL: u64 = 15 * 60;

/// How long an upstream is waited for, and how often it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// For the first event of an answer, and the head of any response.
    pub(crate) first_event: Duration,
    /// For each event behind it.
    pub(crate) idle: Duration,
    /// For the whole answer.
    pub(crate) total: Duration,
    /// For what may follow the end of the answer.
    pub(crate) grace: Duration,
    /// For who asks again, when the client is gone.
    pub(crate) linger: Duration,
    /// How often a request is sent once more.
    pub(crate) retries: u32,
    /// How often one answer that broke off is gone on with.
    pub(crate) resume: u32,
    /// Whether a stream that timed out upstream is asked for in one piece.
    pub(crate) whole: bool,
}

/// What is set of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    first_event: Option<u64>,
    idle: Option<u64>,
    total: Option<u64>,
    grace: Option<u64>,
    linger: Option<u64>,
    retries: Option<u32>,
    resume: Option<u32>,
    whole: Option<bool>,
}

impl From<&UpstreamSettings> for Asked {
    fn from(settings: &UpstreamSettings) -> Self {
        Self {
            first_event: settings.first_event_timeout,
            idle: settings.idle_timeout,
            total: settings.total_timeout,
            grace: settings.grace,
            linger: settings.linger,
            retries: settings.retries,
            resume: settings.resume,
            whole: settings.whole_after_timeout,
        }
    }
}

impl Patience {
    /// What is `asked` of `upstream`, and what suits its kind where nothing is.
    ///
    /// # Errors
    ///
    /// For a number that is none of seconds or tries. The command line has refused it already; a
    /// file has not.
    pub(super) fn new(asked: Asked, upstream: &Upstream) -> Result<Self, ConfigError> {
        let (first_event, idle) = usual(upstream);
        let seconds = |name: &str, asked: Option<u64>, least, usual: u64| match asked {
            Some(asked) if asked < least || asked > MAX_TIMEOUT => {
                error(format!("--{name}: it must be {least} to {MAX_TIMEOUT} seconds"))
            }
            asked => Ok(Duration::from_secs(asked.unwrap_or(usual))),
        };
        let tries = |name: &str, asked: Option<u32>, usual: u32| match asked.unwrap_or(usual) {
            asked if i64::from(asked) > MAX_RETRIES => {
                error(format!("--{name}: it must be 0 to {MAX_RETRIES}"))
            }
            asked => Ok(asked),
        };
        let whole = asked.whole.unwrap_or_default();
        if whole && !upstream.is_api() {
            return error("--whole-after-timeout: the web upstream gives its answers as streams");
        }
        Ok(Self {
            whole,
            first_event: seconds("first-event-timeout", asked.first_event, 1, first_event)?,
            idle: seconds("idle-timeout", asked.idle, 1, idle)?,
            total: seconds("total-timeout", asked.total, 1, TOTAL)?,
            grace: seconds("grace", asked.grace, 0, GRACE)?,
            linger: seconds("linger", asked.linger, 0, LINGER)?,
            retries: tries("retries", asked.retries, RETRIES)?,
            resume: tries("resume", asked.resume, 0)?,
        })
    }

    /// What gives a repeated request the answer that is being made.
    pub(crate) fn join(&self) -> JoinLayer {
        JoinLayer::new().linger(self.linger)
    }

    /// The limits of time of a chat.
    pub(crate) fn limits(&self) -> TimeoutLayer {
        TimeoutLayer::local()
            .first_event(Some(self.first_event))
            .idle(Some(self.idle))
            .total(Some(self.total))
    }

    /// What has an answer gone on with that broke off, in its chat.
    pub(crate) fn resume(&self) -> ResumeLayer {
        ResumeLayer::new().tries(self.resume)
    }

    /// What is sent once more; `None` where nothing is.
    pub(crate) fn retry(&self) -> Option<RetryPolicy> {
        let policy = || RetryPolicy::new().tries(self.retries).whole_after_timeout(self.whole);
        (self.retries > 0 || self.whole).then(policy)
    }
}

/// How many seconds the first event and each further one usually may take.
fn usual(upstream: &Upstream) -> (u64, u64) {
    let hosted = (120, 120);
    let local = (600, 300);
    match upstream {
        Upstream::Web { .. } | Upstream::Emulator { emulated: Kind::Web, .. } => (60, 120),
        Upstream::Emulator { emulated: Kind::DashScope | Kind::Portal, .. }
        | Upstream::Compatible { server: Server::DashScope | Server::Portal, .. } => hosted,
        // Somebody's own machine, or what may be one.
        Upstream::Emulator { .. } | Upstream::Compatible { .. } => local,
    }
}

//! How an emulator is set up.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Emulator, Kind,
    oauth::OAuthAccount,
    state::{Limits, Shared},
};

/// The longest wait that can be asked for: longer ones would leave the clock's range.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Which months of the web API are imitated, and builds of which year of the
/// OpenAI-compatible servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Style {
    /// Autumn 2025: spaces after commas and colons, no `response_id` in deltas, usage without
    /// reasoning tokens. This is what the recorded streams look like. Of the other servers the
    /// builds of 2025, which deviate most.
    #[default]
    Autumn2025,
    /// Autumn 2026: no spaces, `response_id` and `timestamp` in every delta, a hidden platform
    /// prompt in the usage, and no answer to a `[system, user]` pair. Of the other servers the
    /// builds of 2026.
    Autumn2026,
}

/// What a request gets that goes on from a message that its chat does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownParent {
    /// `PARENT_NOT_FOUND`, as since September 2026.
    #[default]
    Code,
    /// `Bad_Request` "Invalid input chat parent_id … is not exist.", as in October 2025.
    Text,
    /// An answer without the earlier messages, as in April 2026.
    Silent,
}

pub(super) struct Config {
    pub(super) kind: Kind,
    pub(super) require_credentials: bool,
    pub(super) tokens: Vec<(String, String, Option<Duration>)>,
    pub(super) oauth: Vec<OAuthAccount>,
    pub(super) device_polls: u32,
    pub(super) device_slow_downs: u32,
    pub(super) device_denied: bool,
    pub(super) token_delay: Duration,
    pub(super) models: Vec<String>,
    pub(super) style: Style,
    pub(super) unknown_parent: UnknownParent,
    pub(super) pace: Duration,
    pub(super) piece: Option<usize>,
    pub(super) replay: Option<Bytes>,
    pub(super) answers: Option<Answers>,
    pub(super) linger: Duration,
    pub(super) body_limit: usize,
    pub(super) limits: Limits,
}

/// See [`Builder::answers`].
pub(super) type Answers = Box<dyn Fn(&str, &[&str]) -> Option<String> + Send + Sync>;

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::Web,
            require_credentials: false,
            tokens: Vec::new(),
            oauth: Vec::new(),
            device_polls: 1,
            device_slow_downs: 0,
            device_denied: false,
            token_delay: Duration::ZERO,
            models: Vec::new(),
            style: Style::default(),
            unknown_parent: UnknownParent::default(),
            pace: Duration::ZERO,
            piece: None,
            replay: None,
            answers: None,
            linger: Duration::from_secs(10),
            body_limit: 64 * 1024 * 1024,
            limits: Limits {
                chats: 10_000,
                chat_bytes: 128 * 1024 * 1024,
                requests: 1_000,
                request_bytes: 32 * 1024 * 1024,
            },
        }
    }
}

/// Sets an [`Emulator`] up; made by [`Emulator::builder`].
#[derive(Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    config: Config,
    models: Option<Vec<String>>,
}

impl Builder {
    /// Which server is imitated; [`Kind::Web`] by default.
    ///
    /// The OpenAI-compatible ones take the same directives, [`answers`](Self::answers),
    /// [`pace`](Self::pace), [`piece_size`](Self::piece_size) and [`replay`](Self::replay) as the
    /// web API. They keep no chats.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.config.kind = kind;
        self
    }

    /// Whether every request needs a credential that the emulator knows. Off by default:
    /// anything is accepted, none as well.
    ///
    /// With it on, requests without one, or with an unknown, expired or revoked one, are answered
    /// with `Unauthorized` in the envelope; only `GET /api/models` answers anyone. The
    /// OpenAI-compatible servers take a credential as bearer only and answer 401, each in its own
    /// words; Ollama knows no credentials and answers anyone.
    pub fn require_credentials(mut self, require: bool) -> Self {
        self.config.require_credentials = require;
        self
    }

    /// Makes `token` a credential of `account`, as bearer or as the cookie `token`, for good.
    pub fn token(mut self, token: impl Into<String>, account: impl Into<String>) -> Self {
        self.config.tokens.push((token.into(), account.into(), None));
        self
    }

    /// Makes `token` a credential of `account` for this long, counted from
    /// [`build`](Self::build) on tokio's clock.
    pub fn token_for(
        mut self,
        token: impl Into<String>,
        account: impl Into<String>,
        lifetime: Duration,
    ) -> Self {
        self.config.tokens.push((token.into(), account.into(), Some(lifetime)));
        self
    }

    /// Adds an account to the OAuth token endpoint. Its access tokens are credentials of
    /// the web API too, so that a refresh can be seen to help.
    pub fn oauth_account(mut self, account: OAuthAccount) -> Self {
        self.config.oauth.push(account);
        self
    }

    /// How often a device authorisation is answered `authorization_pending` before it is granted;
    /// once by default.
    pub fn device_polls(mut self, polls: u32) -> Self {
        self.config.device_polls = polls;
        self
    }

    /// How many of the first polls of a device authorisation are answered `slow_down`, in turn
    /// with status 429 and 400, since both are seen; none by default.
    pub fn device_slow_downs(mut self, polls: u32) -> Self {
        self.config.device_slow_downs = polls;
        self
    }

    /// Whether the user says no to every device authorisation: after the
    /// [pending polls](Self::device_polls) comes `access_denied` instead of a login.
    pub fn device_denied(mut self, denied: bool) -> Self {
        self.config.device_denied = denied;
        self
    }

    /// How long the token endpoint takes to answer; no time by default.
    pub fn token_delay(mut self, delay: Duration) -> Self {
        self.config.token_delay = delay.min(DAY);
        self
    }

    /// The ids of the catalogue, instead of a handful of real ones. Completions with another id
    /// are refused, except by SGLang and llama.cpp, which do not look at it.
    pub fn models<I>(mut self, models: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.models = Some(models.into_iter().map(Into::into).collect());
        self
    }

    /// Which months of the web API, or builds of which year of the other servers, are imitated.
    pub fn style(mut self, style: Style) -> Self {
        self.config.style = style;
        self
    }

    /// What an unknown `parent_id` gets.
    pub fn unknown_parent(mut self, answer: UnknownParent) -> Self {
        self.config.unknown_parent = answer;
        self
    }

    /// Waits this long before each delta, for the first 1,024 deltas of an answer. Zero by
    /// default, which suits tests and needs no timer; [`Emulator::DEMO_PACE`] looks natural.
    pub fn pace(mut self, pace: Duration) -> Self {
        self.config.pace = pace.min(DAY);
        self
    }

    /// Cuts event streams into pieces of `bytes` bytes (at least one), within events, lines and
    /// characters, as a network does. Without it every event is a piece of its own; a recording
    /// is cut into pieces of 1,460 bytes.
    pub fn piece_size(mut self, bytes: usize) -> Self {
        self.config.piece = Some(bytes.max(1));
        self
    }

    /// Answers every completion that is not refused with these recorded bytes, unchanged. Of the
    /// OpenAI-compatible servers those that are streamed.
    ///
    /// The answer's ids are the recorded ones. A request may go on from them: they stand for the
    /// last answer of its chat.
    ///
    /// # Errors
    ///
    /// If the recording is empty, or holds no line that starts with `data:`.
    pub fn replay(mut self, recording: impl Into<Bytes>) -> Result<Self, ReplayError> {
        let recording = recording.into();
        if recording.is_empty() {
            return Err(ReplayError { reason: "it is empty" });
        }
        let mut lines = recording.split(|byte| matches!(byte, b'\n' | b'\r'));
        if !lines.any(|line| line.starts_with(b"data:")) {
            return Err(ReplayError { reason: "no line of it starts with \"data:\"" });
        }
        self.config.replay = Some(recording);
        Ok(self)
    }

    /// What the model says: the function is given the text of the message and the texts of the
    /// earlier ones on its path, and its `None` leaves the answer to the emulator. `emulate:say`
    /// goes before it. Of the OpenAI-compatible servers the message is all that came since the last
    /// answer, earlier calls are text as the model's template shows them, and what the function
    /// says goes through the server's parser of calls where the request declares tools.
    ///
    /// ```
    /// # use tower_qwen_emulator::Emulator;
    /// let emulator = Emulator::builder()
    ///     .answers(|message, earlier| {
    ///         earlier.is_empty().then(|| format!("You began with {message:?}."))
    ///     })
    ///     .build();
    /// # let _ = emulator;
    /// ```
    pub fn answers(
        mut self,
        answers: impl Fn(&str, &[&str]) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.config.answers = Some(Box::new(answers));
        self
    }

    /// How long a chat stays "in progress" after its client went away without stopping the
    /// answer; 10 s by default.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.config.linger = linger.min(DAY);
        self
    }

    /// Keeps at most so many chats, of so many bytes together; 10,000 and 128 MiB by default. The
    /// least recently used go first, and are then unknown.
    pub fn chat_limits(mut self, chats: usize, bytes: usize) -> Self {
        self.config.limits.chats = chats;
        self.config.limits.chat_bytes = bytes;
        self
    }

    /// Keeps at most so many requests in the log, of so many bytes together; 1,000 and 32 MiB by
    /// default, zero for none.
    pub fn log_limits(mut self, requests: usize, bytes: usize) -> Self {
        self.config.limits.requests = requests;
        self.config.limits.request_bytes = bytes;
        self
    }

    /// Refuses larger request bodies with 413; 64 MiB by default.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.config.body_limit = bytes;
        self
    }

    /// The emulator.
    #[must_use]
    pub fn build(mut self) -> Emulator {
        self.config.models = self.models.unwrap_or_else(|| self.config.kind.models());
        Emulator { shared: Arc::new(Shared::new(self.config)) }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}

/// A recording that cannot be replayed; see [`Builder::replay`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayError {
    reason: &'static str,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the recording is not an event stream: {}", self.reason)
    }
}

impl StdError for ReplayError {}

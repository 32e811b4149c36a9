use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{config::Config, service::QwenResponses};
use crate::{
    chat::ReasoningEffort,
    qwen::answer::GRACE,
    sse::{
        KeepAlive,
        progress::{self, Limits},
    },
};

/// The adapter to DashScope's Responses API, which keeps chats.
///
/// It makes a chat service of an HTTP service, such as
/// [`QwenUpstream`](crate::qwen::client::QwenUpstream). See the [module](super) for an example and
/// for what it repairs.
#[derive(Clone, Debug)]
pub struct QwenResponsesLayer {
    config: Config,
}

impl QwenResponsesLayer {
    /// How long the upstream may bring no event by default: 10 minutes.
    pub const DEFAULT_IDLE_EVENTS: Duration = Duration::from_secs(600);

    /// An adapter.
    #[must_use]
    pub fn new() -> Self {
        let progress = Limits {
            idle: Some(KeepAlive::new(Self::DEFAULT_IDLE_EVENTS)),
            bytes: progress::DEFAULT_MAX_BYTES,
        };
        Self {
            config: Config {
                overrides: Arc::default(),
                session_cache: true,
                progress,
                grace: GRACE,
            },
        }
    }

    /// Whether upstream caches what it keeps of a chat, of 1,024 tokens and more. It does by default:
    /// what is read from a cache costs less, and is counted as
    /// [`cached_tokens`](crate::chat::Usage::cached_tokens).
    #[must_use]
    pub fn session_cache(mut self, session_cache: bool) -> Self {
        self.config.session_cache = session_cache;
        self
    }

    /// Takes `meant` for what a client says that asks for the effort `asked`; of two for one effort
    /// the later counts.
    #[must_use]
    pub fn effort(mut self, asked: ReasoningEffort, meant: ReasoningEffort) -> Self {
        Arc::make_mut(&mut self.config.overrides).efforts.push((asked, meant));
        self
    }

    /// For how long the upstream's stream may bring no event of the answer, before its first as
    /// well as between two; then it ends with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    /// `None` is for ever. Default: [10 minutes](Self::DEFAULT_IDLE_EVENTS).
    ///
    /// It is for stacks without a [`TimeoutLayer`](crate::timeout::TimeoutLayer). Under one the limits of
    /// that layer hold, and this is none.
    ///
    /// # Panics
    ///
    /// If the limit is zero.
    #[must_use]
    pub fn idle_events(mut self, limit: Option<Duration>) -> Self {
        self.config.progress.idle = limit.map(KeepAlive::new);
        self
    }

    /// How many bytes the upstream's stream may bring without an event of the answer; then it ends
    /// with [`ErrorKind::Upstream`](crate::ErrorKind::Upstream). Default: 16 MiB.
    #[must_use]
    pub fn max_bytes_without_event(mut self, bytes: usize) -> Self {
        self.config.progress.bytes = bytes;
        self
    }

    /// For how long token counts, and the word that nothing more comes, are awaited when the model has
    /// finished. Then the answer ends, though the connection stays open, and whatever comments come:
    /// it is complete. [`Duration::ZERO`] takes only what has come by then. Default: 2 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.config.grace = grace;
        self
    }
}

impl Default for QwenResponsesLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for QwenResponsesLayer {
    type Service = QwenResponses<S>;

    fn layer(&self, inner: S) -> QwenResponses<S> {
        QwenResponses::with(inner, self.config.clone())
    }
}

impl<S> QwenResponses<S> {
    service!(made by QwenResponsesLayer::new());
}

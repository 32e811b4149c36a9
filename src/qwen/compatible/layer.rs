use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{
    config::{Config, DEFAULT_IDLE_EVENTS},
    modes::{ContentMode, ThinkTags},
    server::Server,
    service::Compatible,
};
use crate::{Text, chat::ReasoningEffort, sse::KeepAlive};

/// The adapter to OpenAI-compatible upstreams: DashScope, the OAuth portal, vLLM, SGLang,
/// Ollama, llama.cpp, LM Studio and their like.
///
/// It makes a chat service of an HTTP service, such as
/// [`QwenUpstream`](crate::qwen::client::QwenUpstream). See the [module](super) for an example and
/// for what it repairs.
#[derive(Clone, Debug, Default)]
pub struct CompatibleLayer {
    config: Config,
}

impl CompatibleLayer {
    /// How long the upstream may bring no event by default: 10 minutes. A local server that reads
    /// a long prompt, or writes a whole call before it sends it, takes minutes.
    pub const DEFAULT_IDLE_EVENTS: Duration = DEFAULT_IDLE_EVENTS;

    /// An adapter for `server`.
    #[must_use]
    pub fn new(server: Server) -> Self {
        Self { config: Config { server, ..Config::default() } }
    }

    /// Where thinking may stand in the content.
    #[must_use]
    pub fn think_tags(mut self, think: ThinkTags) -> Self {
        self.config.think = think;
        self
    }

    /// How the pieces of content, and of reasoning, relate. Default: to be found out for the
    /// portal, of which cumulative deployments are known; incremental for all others.
    #[must_use]
    pub fn content(mut self, mode: ContentMode) -> Self {
        self.config.content = Some(mode);
        self
    }

    /// Takes `meant` for what a client says that asks for the effort `asked`; of two for one effort
    /// the later counts.
    ///
    /// Agents ask for `high` with every request, which Qwen3.8 takes for its top tier. Its `medium`
    /// is much faster:
    ///
    /// ```
    /// use tower_qwen::{
    ///     chat::ReasoningEffort,
    ///     qwen::compatible::{CompatibleLayer, Server},
    /// };
    ///
    /// let layer = CompatibleLayer::new(Server::Vllm)
    ///     .effort(ReasoningEffort::High, ReasoningEffort::Medium);
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn effort(mut self, asked: ReasoningEffort, meant: ReasoningEffort) -> Self {
        Arc::make_mut(&mut self.config.overrides).efforts.push((asked, meant));
        self
    }

    /// Asks for at most `tokens` of the upstream's `model`, where a client wants more and the
    /// upstream would refuse. The limits of the portal are known without.
    #[must_use]
    pub fn max_tokens(mut self, model: impl Into<Text>, tokens: u64) -> Self {
        Arc::make_mut(&mut self.config.overrides).limits.push((model.into(), tokens));
        self
    }
}

impl CompatibleLayer {
    /// For how long the upstream's stream may bring no event of the answer, before its first as
    /// well as between two; then it ends with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    /// Comments, blank lines and events with nothing in them do not count, whatever their number,
    /// and only waiting does. It may end by a 64th of the limit later. `None` is for ever. Default:
    /// [10 minutes](Self::DEFAULT_IDLE_EVENTS).
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
    /// with [`ErrorKind::Upstream`](crate::ErrorKind::Upstream). One event must fit in with its
    /// name. Default: 16 MiB, twice the largest event that is read.
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

impl<S> Layer<S> for CompatibleLayer {
    type Service = Compatible<S>;

    fn layer(&self, inner: S) -> Compatible<S> {
        Compatible::with(inner, self.config.clone())
    }
}

impl<S> Compatible<S> {
    service!(made by CompatibleLayer::new(server: Server));
}

use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{Compatible, METRIC, Server};
use crate::{
    Text,
    qwen::answer::{Answer, Pieces, Repairs, ThinkSplitter},
    sse::{
        KeepAlive,
        progress::{self, Limits},
    },
};

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

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) server: Server,
    pub(super) think: ThinkTags,
    pub(super) content: Option<ContentMode>,
    pub(super) names: Arc<Names>,
    pub(super) progress: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            think: ThinkTags::default(),
            content: None,
            names: Arc::default(),
            progress: Limits {
                idle: Some(KeepAlive::new(CompatibleLayer::DEFAULT_IDLE_EVENTS)),
                bytes: progress::DEFAULT_MAX_BYTES,
            },
        }
    }
}

/// What the upstream calls its models, and how much they give.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Clients' names and the upstream's.
    aliases: Vec<(Text, Text)>,
    /// The upstream's names, and the most tokens that an answer may be asked to have.
    limits: Vec<(Text, u64)>,
}

impl Config {
    /// What is known of an answer before it begins.
    pub(super) fn answer(&self) -> Answer {
        let pieces = match self.content.unwrap_or(self.server.content()) {
            ContentMode::Incremental => Pieces::incremental,
            ContentMode::Cumulative => Pieces::cumulative,
            ContentMode::Auto => Pieces::undecided,
        };
        let think = match self.think {
            ThinkTags::Leading => ThinkSplitter::new(),
            ThinkTags::Opened => ThinkSplitter::inside(),
            ThinkTags::Ignore => ThinkSplitter::off(),
        };
        Answer::new(pieces, think, Repairs::new(METRIC))
    }
}

impl Names {
    /// The upstream's name of what a client calls `model`.
    pub(super) fn resolve<'a>(&'a self, model: &'a str, server: Server) -> &'a str {
        let known = self.aliases.iter().rfind(|(name, _)| *name == *model);
        known.map_or_else(|| server.model_name(model), |(_, name)| name)
    }

    /// The most tokens that may be asked of the upstream's `model`.
    pub(super) fn max_tokens(&self, model: &str, server: Server) -> Option<u64> {
        let known = self.limits.iter().rfind(|(name, _)| *name == *model);
        known.map(|&(_, limit)| limit).or_else(|| server.max_tokens(model))
    }
}

/// How the pieces of content in a stream relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentMode {
    /// Each holds what is new, as OpenAI has it.
    Incremental,
    /// Each holds the whole text so far. Of one that does not go on from the last, what stands
    /// behind the part that both share is new.
    Cumulative,
    /// To be found out: cumulative where two pieces in a row each begin with the whole of the one
    /// before, of more than 8 characters, and are longer. Until that is known such pieces are
    /// held back; others are not.
    Auto,
}

/// Where thinking may stand in the content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ThinkTags {
    /// A leading `<think>…</think>` is taken out of the content.
    #[default]
    Leading,
    /// The same, and the content begins inside the block, because the chat template has written
    /// the opening tag into the prompt.
    Opened,
    /// The content is left as it is.
    Ignore,
}

impl CompatibleLayer {
    /// How long the upstream may bring no event by default: 10 minutes. A local server that reads
    /// a long prompt, or writes a whole call before it sends it, takes minutes.
    pub const DEFAULT_IDLE_EVENTS: Duration = Duration::from_secs(600);

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

    /// Sends requests for `name` as requests for `model`; of two with one name the later counts.
    /// What the portal calls its models is known without.
    ///
    /// The client sees the name that it asked for:
    /// [`OpenAiLayer`](crate::openai::OpenAiLayer) puts that into the answer.
    #[must_use]
    pub fn alias(mut self, name: impl Into<Text>, model: impl Into<Text>) -> Self {
        Arc::make_mut(&mut self.config.names).aliases.push((name.into(), model.into()));
        self
    }

    /// Asks for at most `tokens` of the upstream's `model`, where a client wants more and the
    /// upstream would refuse. The limits of the portal are known without.
    #[must_use]
    pub fn max_tokens(mut self, model: impl Into<Text>, tokens: u64) -> Self {
        Arc::make_mut(&mut self.config.names).limits.push((model.into(), tokens));
        self
    }
}

impl CompatibleLayer {
    /// For how long the upstream's stream may bring no event of the answer, before its first as
    /// well as between two; then it ends with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    /// Comments, blank lines and events with nothing in them do not count, whatever their number,
    /// and only waiting does. `None` is for ever. Default:
    /// [10 minutes](Self::DEFAULT_IDLE_EVENTS).
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
}

impl<S> Layer<S> for CompatibleLayer {
    type Service = Compatible<S>;

    fn layer(&self, inner: S) -> Compatible<S> {
        Compatible::with(inner, self.config.clone())
    }
}

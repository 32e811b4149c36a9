use std::sync::Arc;

use tower_layer::Layer;

use super::{Compatible, Server};
use crate::Text;

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

#[derive(Clone, Debug, Default)]
pub(super) struct Config {
    pub(super) server: Server,
    pub(super) think: ThinkTags,
    pub(super) content: Option<ContentMode>,
    pub(super) names: Arc<Names>,
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
    pub(super) fn content(&self) -> ContentMode {
        self.content.unwrap_or(self.server.content())
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

/// How the pieces of content in a stream relate (qwen-wire.md B9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentMode {
    /// Each holds what is new, as OpenAI has it.
    Incremental,
    /// Each holds the whole text so far. What does not go on from the last passes as it is.
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
    /// portal, of which cumulative deployments are known; incremental for all others (B9).
    #[must_use]
    pub fn content(mut self, mode: ContentMode) -> Self {
        self.config.content = Some(mode);
        self
    }

    /// Sends requests for `name` as requests for `model`; of two with one name the later counts.
    /// What the portal calls its models (B7) is known without.
    ///
    /// The client sees the name that it asked for:
    /// [`OpenAiLayer`](crate::openai::OpenAiLayer) puts that into the answer.
    #[must_use]
    pub fn alias(mut self, name: impl Into<Text>, model: impl Into<Text>) -> Self {
        Arc::make_mut(&mut self.config.names).aliases.push((name.into(), model.into()));
        self
    }

    /// Asks for at most `tokens` of the upstream's `model`, where a client wants more and the
    /// upstream would refuse. The limits of the portal (B7) are known without.
    #[must_use]
    pub fn max_tokens(mut self, model: impl Into<Text>, tokens: u64) -> Self {
        Arc::make_mut(&mut self.config.names).limits.push((model.into(), tokens));
        self
    }
}

impl<S> Layer<S> for CompatibleLayer {
    type Service = Compatible<S>;

    fn layer(&self, inner: S) -> Compatible<S> {
        Compatible::with(inner, self.config.clone())
    }
}

use tower_layer::Layer;

use super::{Compatible, Server};

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

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Config {
    pub(super) server: Server,
    pub(super) think: ThinkTags,
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
    pub const fn think_tags(mut self, think: ThinkTags) -> Self {
        self.config.think = think;
        self
    }
}

impl<S> Layer<S> for CompatibleLayer {
    type Service = Compatible<S>;

    fn layer(&self, inner: S) -> Compatible<S> {
        Compatible::new(inner, self.config)
    }
}

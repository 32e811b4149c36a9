use tower_layer::Layer;

use super::Completions;
use crate::{
    openai::layer::{Api, Config},
    sse::KeepAlive,
};

/// The edge for legacy clients: an OpenAI `POST /v1/completions` over a chat service.
///
/// Put it outermost, on the route. See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct CompletionsLayer {
    config: Config,
}

impl CompletionsLayer {
    /// An edge that takes bodies of up to 32 MiB and keeps quiet streams alive every 15 s.
    #[must_use]
    pub const fn new() -> Self {
        Self { config: Config::new(Api::Completions) }
    }

    /// The largest body to read, in bytes; a larger one is answered with 413.
    #[must_use]
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.config.max_body = bytes;
        self
    }

    /// After how much quiet a stream gets a comment line; `None` for never. See
    /// [`OpenAiLayer::keep_alive`](crate::openai::OpenAiLayer::keep_alive).
    #[must_use]
    pub const fn keep_alive(mut self, keep_alive: Option<KeepAlive>) -> Self {
        self.config.keep_alive = keep_alive;
        self
    }
}

impl Default for CompletionsLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CompletionsLayer {
    type Service = Completions<S>;

    fn layer(&self, inner: S) -> Completions<S> {
        Completions::new(inner, self.config)
    }
}

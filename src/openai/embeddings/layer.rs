use tower_layer::Layer;

use super::{Embeddings, config::Config};
use crate::{edge::BodyPace, qwen::compatible::Server};

/// The edge for embeddings: an OpenAI `POST /v1/embeddings` over an HTTP service that reaches an
/// OpenAI-compatible server.
///
/// See the [module](super) for an example and for what it does.
#[derive(Clone, Debug)]
pub struct EmbeddingsLayer {
    config: Config,
}

impl EmbeddingsLayer {
    /// An edge over a server of this kind: bodies of up to 32 MiB with up to 2,048 inputs, four
    /// batches at once, answers of up to 64 MiB a batch.
    #[must_use]
    pub const fn new(server: Server) -> Self {
        Self { config: Config::new(server) }
    }

    /// The largest body to read, in bytes; a larger one is answered with 413.
    #[must_use]
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.config.max_body = bytes;
        self
    }

    /// How fast a body must come; a slower one is answered with 408. `None`: as slowly as it likes.
    /// Default: [`BodyPace::new`].
    #[must_use]
    pub const fn body_pace(mut self, pace: Option<BodyPace>) -> Self {
        self.config.body_pace = pace;
        self
    }

    /// How many inputs a request may hold; OpenAI's own limit is the default of 2,048.
    #[must_use]
    pub const fn max_inputs(mut self, inputs: usize) -> Self {
        self.config.max_inputs = inputs;
        self
    }

    /// How many inputs are sent at once, at least one, in place of what is known of the server: a
    /// request with more goes out in several.
    #[must_use]
    pub const fn max_batch(mut self, inputs: usize) -> Self {
        self.config.max_batch = Some(inputs);
        self
    }

    /// How many batches of one request are under way at once, at least one. Limits of the
    /// upstream's own are for a limit layer below.
    #[must_use]
    pub const fn concurrency(mut self, batches: usize) -> Self {
        self.config.concurrency = batches;
        self
    }

    /// How much of an answer to one batch is read, in bytes; a larger one is an error.
    #[must_use]
    pub const fn max_answer(mut self, bytes: usize) -> Self {
        self.config.max_answer = bytes;
        self
    }
}

impl<S> Layer<S> for EmbeddingsLayer {
    type Service = Embeddings<S>;

    fn layer(&self, inner: S) -> Embeddings<S> {
        Embeddings::with(inner, self.config)
    }
}

impl<S> Embeddings<S> {
    service!(made by EmbeddingsLayer::new(server: Server));
}

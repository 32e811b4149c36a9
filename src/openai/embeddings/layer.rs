use super::{config::Config, form::OpenAi, macros::embeddings};

/// The edge for embeddings: an OpenAI `POST /v1/embeddings` over an HTTP service that reaches an
/// OpenAI-compatible server.
///
/// See the [module](super) for an example and for what it does.
#[derive(Clone, Debug)]
pub struct EmbeddingsLayer {
    config: Config,
}

/// The service of [`EmbeddingsLayer`].
///
/// `S` is an HTTP service whose requests have a path and no host, such as
/// [`QwenUpstream`](crate::qwen::client::QwenUpstream) with the base URL of the API, `/v1`
/// included, or an `AuthRefreshLayer` over it.
///
/// It is always ready, and waits for the inner service's readiness only when the request was
/// read and found valid.
#[derive(Clone, Debug)]
pub struct Embeddings<S> {
    inner: S,
    config: Config,
}

embeddings!(EmbeddingsLayer, Embeddings, OpenAi);

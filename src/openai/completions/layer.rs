use crate::{
    edge::{Config, edge},
    openai::protocol::{Api, OpenAiBody, ResponseFuture},
};

/// The edge for legacy clients: an OpenAI `POST /v1/completions` over a chat service.
///
/// Put it outermost, on the route. See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct CompletionsLayer {
    config: Config<Api>,
}

/// The service of [`CompletionsLayer`].
///
/// Like [`OpenAi`](crate::openai::OpenAi) it is always ready, and waits for the inner service's
/// readiness only when the request was read and found valid.
#[derive(Clone, Debug)]
pub struct Completions<S> {
    inner: S,
    config: Config<Api>,
}

edge!(
    "openai::completions",
    CompletionsLayer,
    Completions,
    Api::Completions,
    ResponseFuture,
    OpenAiBody
);

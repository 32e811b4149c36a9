use super::{
    api::Api,
    protocol::{OllamaBody, ResponseFuture},
};
use crate::edge::{Config, edge};

/// The edge of the stack: Ollama's `POST /api/chat` over a chat service.
///
/// Put it outermost, on the route. It reads the body once and writes the answer once, streamed or
/// whole. The services below see [`ChatRequest`](crate::chat::ChatRequest)s and give
/// [`ChatStream`](crate::chat::ChatStream)s. It does not look at the path: that is for the router,
/// which has [`error_response`](super::error_response) for paths that it does not know.
///
/// See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct OllamaLayer {
    config: Config<Api>,
}

/// The service of [`OllamaLayer`].
///
/// It is always ready. It waits for the inner service to be ready only when the request was read
/// and found valid. So a malformed request is answered even when the inner service is at its limit,
/// and a slow upload does not hold a place in it.
#[derive(Clone, Debug)]
pub struct Ollama<S> {
    inner: S,
    config: Config<Api>,
}

edge!("ollama", OllamaLayer, Ollama, Api::Chat, ResponseFuture, OllamaBody);

/// The edge for prompts: Ollama's `POST /api/generate` over a chat service.
///
/// The prompt becomes the one message of a chat, behind the `system` prompt if there is one, and
/// the lines of the answer have `response` in place of a message. All else is as
/// [`OllamaLayer`] does it.
#[derive(Clone, Debug)]
pub struct GenerateLayer {
    config: Config<Api>,
}

/// The service of [`GenerateLayer`].
///
/// Like [`Ollama`] it is always ready, and waits for the inner service's readiness only when the
/// request was read and found valid.
#[derive(Clone, Debug)]
pub struct Generate<S> {
    inner: S,
    config: Config<Api>,
}

edge!("ollama", GenerateLayer, Generate, Api::Generate, ResponseFuture, OllamaBody);

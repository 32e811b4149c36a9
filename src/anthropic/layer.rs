use super::{
    decode::Options,
    protocol::{AnthropicBody, ResponseFuture},
};
use crate::edge::{Config, edge};

/// The edge of the stack: Anthropic's `POST /v1/messages` over a chat service.
///
/// Put it outermost, on the route. It reads the body once and writes the answer once, streamed or
/// whole. The services below see [`ChatRequest`](crate::chat::ChatRequest)s and give
/// [`ChatStream`](crate::chat::ChatStream)s. It does not look at the path or the query: that is for
/// the router, which has [`error_response`](super::error_response) for paths that it does not know.
///
/// See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct AnthropicLayer {
    config: Config<Options>,
}

/// The service of [`AnthropicLayer`].
///
/// It is always ready. It waits for the inner service to be ready only when the request was read
/// and found valid. So a malformed request is answered even when the inner service is at its limit,
/// and a slow upload does not hold a place in it.
#[derive(Clone, Debug)]
pub struct Anthropic<S> {
    inner: S,
    config: Config<Options>,
}

edge!("anthropic", AnthropicLayer, Anthropic, Options::new(), ResponseFuture, AnthropicBody);

impl AnthropicLayer {
    /// Whether `cache_control` marks are passed on, for an upstream that keeps a cache by them and
    /// bills by it, such as DashScope. They are not unless this is set: the marks move from turn to
    /// turn, and a server that caches by itself does so best where the history stays the same.
    #[must_use]
    pub const fn cache_control(mut self, is_passed_on: bool) -> Self {
        self.config.options.cache_control = is_passed_on;
        self
    }
}

use std::sync::Arc;

use super::protocol::{AnthropicBody, ResponseFuture, Settings};
use crate::{
    edge::{Config, edge},
    tokens::TokenEstimator,
};

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
    config: Config<Settings>,
}

/// The service of [`AnthropicLayer`].
///
/// It is always ready. It waits for the inner service to be ready only when the request was read
/// and found valid. So a malformed request is answered even when the inner service is at its limit,
/// and a slow upload does not hold a place in it.
#[derive(Clone, Debug)]
pub struct Anthropic<S> {
    inner: S,
    config: Config<Settings>,
}

edge!("anthropic", AnthropicLayer, Anthropic, Settings::new(), ResponseFuture, AnthropicBody);

impl AnthropicLayer {
    /// Whether `cache_control` marks are passed on, for an upstream that keeps a cache by them and
    /// bills by it, such as DashScope. They are not unless this is set: the marks move from turn to
    /// turn, and a server that caches by itself does so best where the history stays the same.
    #[must_use]
    pub const fn cache_control(mut self, is_passed_on: bool) -> Self {
        self.config.options.read.cache_control = is_passed_on;
        self
    }

    /// Whether the data of images and documents is passed on, which it is unless this is set. For an
    /// upstream that cannot be given any, such as chat.qwen.ai without an `UploadLayer`, the model is
    /// told in their place that something cannot be shown: an agent that has read a picture would be
    /// refused in every later turn.
    #[must_use]
    pub const fn media(mut self, is_passed_on: bool) -> Self {
        self.config.options.read.media = is_passed_on;
        self
    }

    /// Has `estimator` say how many tokens a request has before the upstream does: a stream begins
    /// with the count, and clients show it. What the upstream reports is learnt by the estimator.
    /// Without one a stream begins with 0. Either way it ends with the upstream's own count.
    ///
    /// [`CountTokens`](super::CountTokens) is given the same estimator.
    #[must_use]
    pub fn estimator(mut self, estimator: Arc<TokenEstimator>) -> Self {
        self.config.options.estimator = Some(estimator);
        self
    }
}

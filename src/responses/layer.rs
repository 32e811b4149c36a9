use super::protocol::{Options, ResponseFuture, ResponsesBody};
use crate::edge::{Config, edge};

/// The edge of the stack: OpenAI's `POST /v1/responses` over a chat service.
///
/// Put it outermost, on the route. It reads the body once and writes the answer once, streamed or
/// whole. The services below see [`ChatRequest`](crate::chat::ChatRequest)s and give
/// [`ChatStream`](crate::chat::ChatStream)s. It does not look at the path: that is for the router,
/// which has [`error_response`](super::error_response) for paths that it does not know.
///
/// See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct ResponsesLayer {
    config: Config<Options>,
}

impl ResponsesLayer {
    /// Whether a client may go on from an answer by its id alone: with `previous_response_id`, and
    /// without the history. It may not unless this is set, and is told so.
    ///
    /// It takes a [`SessionLayer`](crate::session::SessionLayer) below, which knows in which chat
    /// the answer is, and so an upstream that keeps chats. Answers to requests with `store: false`
    /// are not remembered.
    #[must_use]
    pub const fn store(mut self, store: bool) -> Self {
        self.config.options.store = store;
        self
    }
}

/// The service of [`ResponsesLayer`].
///
/// It is always ready. It waits for the inner service to be ready only when the request was read
/// and found valid. So a malformed request is answered even when the inner service is at its limit,
/// and a slow upload does not hold a place in it.
#[derive(Clone, Debug)]
pub struct Responses<S> {
    inner: S,
    config: Config<Options>,
}

edge!(
    "responses",
    ResponsesLayer,
    Responses,
    Options { store: false },
    ResponseFuture,
    ResponsesBody
);

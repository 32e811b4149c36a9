use super::protocol::{ResponseFuture, ResponsesBody};
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
    config: Config<()>,
}

/// The service of [`ResponsesLayer`].
///
/// It is always ready. It waits for the inner service to be ready only when the request was read
/// and found valid. So a malformed request is answered even when the inner service is at its limit,
/// and a slow upload does not hold a place in it.
#[derive(Clone, Debug)]
pub struct Responses<S> {
    inner: S,
    config: Config<()>,
}

edge!("responses", ResponsesLayer, Responses, (), ResponseFuture, ResponsesBody);

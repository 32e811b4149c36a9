//! A chat service of one type, whose streams are checked, so that layers can be put together in a table.

use std::pin::Pin;

use futures_util::Stream;
use http::{Request, Response};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};
use tower_qwen::{
    Error,
    chat::{ChatEvent, ChatRequest, ChatStream, ChatStreamExt},
};

/// The stream of an answer.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Result<ChatEvent, Error>> + Send>>;

/// A service of the middle.
pub(crate) type Chat = BoxCloneSyncService<Request<ChatRequest>, Response<Events>, Error>;

/// `service` with its streams under the checker of the end-of-stream contract.
pub(crate) fn chat<S, B>(service: S) -> Chat
where
    S: Service<Request<ChatRequest>, Response = Response<B>, Error = Error, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: ChatStream + Send + 'static,
{
    let checked = |body: B| -> Events { Box::pin(body.checked()) };
    Chat::new(service.map_response(move |response| response.map(checked)))
}

use http::{Request, Response};
use tower_service::Service;

use super::{ChatRequest, ChatStream};
use crate::Error;

/// A service in the middle of the stack: a chat in, a stream of events out.
///
/// Every service of the right types is one, the whole stack below an edge for example; as with
/// [`ChatStream`], the trait only gives the bounds a short name. A layer that is written as a
/// function takes one and gives one:
///
/// ```
/// use http::Request;
/// use tower::{ServiceBuilder, layer::layer_fn, service_fn, util::ServiceExt};
/// use tower_qwen::{
///     chat::{ChatRequest, ChatService},
///     qwen::web::QwenWebLayer,
/// };
/// use tower_qwen_emulator::Emulator;
///
/// /// Asks for short answers where the client says nothing about their length.
/// fn brief(inner: impl ChatService) -> impl ChatService {
///     service_fn(move |mut request: Request<ChatRequest>| {
///         let sampling = &mut request.body_mut().sampling;
///         if sampling.token_limit().is_none() {
///             sampling.max_tokens = Some(200);
///         }
///         inner.clone().oneshot(request)
///     })
/// }
///
/// let chat = ServiceBuilder::new()
///     .layer(layer_fn(brief))
///     .layer(QwenWebLayer::new())
///     .service(Emulator::new());
/// # let _ = chat;
/// ```
///
/// A layer that others are to use is better a type of its own with its bounds on the `impl`: it
/// then also fits over services that are not `Clone`, and keeps the readiness of the inner one.
pub trait ChatService:
    Service<
        Request<ChatRequest>,
        Response = Response<<Self as ChatService>::Answer>,
        Error = Error,
        Future: Send,
    > + Clone
    + Send
    + 'static
{
    /// The stream of an answer.
    type Answer: ChatStream + Send + 'static;
}

impl<S, A> ChatService for S
where
    S: Service<Request<ChatRequest>, Response = Response<A>, Error = Error, Future: Send>
        + Clone
        + Send
        + 'static,
    A: ChatStream + Send + 'static,
{
    type Answer = A;
}

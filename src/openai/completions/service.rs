use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::{
    Error,
    chat::{ChatRequest, ChatStream},
    openai::{OpenAi, OpenAiBody, ResponseFuture, layer::Config},
};

/// The service of [`CompletionsLayer`](super::CompletionsLayer).
///
/// Like [`OpenAi`] it is always ready, and waits for the inner service's readiness only when the
/// request was read and found valid.
#[derive(Clone, Debug)]
pub struct Completions<S> {
    edge: OpenAi<S>,
}

impl<S> Completions<S> {
    pub(super) const fn new(inner: S, config: Config) -> Self {
        Self { edge: OpenAi::new(inner, config) }
    }
}

impl<S, B, C> Service<Request<B>> for Completions<S>
where
    S: Service<Request<ChatRequest>, Response = Response<C>> + Clone,
    S::Error: Into<Error>,
    C: ChatStream,
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<OpenAiBody<C>>;
    type Error = Infallible;
    type Future = ResponseFuture<S, B, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.edge, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.edge.call(request)
    }
}

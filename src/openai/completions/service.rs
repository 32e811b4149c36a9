use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::CompletionsLayer;
use crate::{
    BoxError, Error,
    chat::{ChatRequest, ChatStream},
    openai::{OpenAiBody, ResponseFuture, layer::Config, service::answer},
};

/// The service of [`CompletionsLayer`](super::CompletionsLayer).
///
/// Like [`OpenAi`](crate::openai::OpenAi) it is always ready, and waits for the inner service's readiness only when the
/// request was read and found valid.
#[derive(Clone, Debug)]
pub struct Completions<S> {
    inner: S,
    config: Config,
}

impl<S> Completions<S> {
    service!(CompletionsLayer::new());

    pub(super) const fn with(inner: S, config: Config) -> Self {
        Self { inner, config }
    }
}

impl<S, B, C> Service<Request<B>> for Completions<S>
where
    S: Service<Request<ChatRequest>, Response = Response<C>> + Clone,
    S::Error: Into<Error>,
    C: ChatStream,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Response = Response<OpenAiBody<C>>;
    type Error = Infallible;
    type Future = ResponseFuture<S, B, C>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        answer(&self.inner, &self.config, request)
    }
}

use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{ResponseFuture, ToolWrapLayer, ToolWrapStream, layer::Config};
use crate::chat::ChatRequest;

/// The service of [`ToolWrapLayer`](super::ToolWrapLayer).
#[derive(Clone, Debug)]
pub struct ToolWrap<S> {
    inner: S,
    config: Config,
}

impl<S> ToolWrap<S> {
    service!(ToolWrapLayer::new());
}

impl<S> Layer<S> for ToolWrapLayer {
    type Service = ToolWrap<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ToolWrap { inner, config: self.config.clone() }
    }
}

impl<S, B> Service<Request<ChatRequest>> for ToolWrap<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>>,
{
    type Response = Response<ToolWrapStream<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ChatRequest>) -> Self::Future {
        request.body_mut().has_calls_in_text = true;
        let automaton = self.config.automaton(request.body());
        ResponseFuture::new(self.inner.call(request), automaton)
    }
}

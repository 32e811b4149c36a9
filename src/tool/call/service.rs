use std::{
    mem,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{future::ResponseFuture, layer::ToolCallLayer, stream::ToolCallStream};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream},
    offload::is_large,
};

/// Writes tools into requests and reads calls from answers.
///
/// Made by [`ToolCallLayer`]; the [module](super) says how it works.
///
/// # Errors
///
/// The inner service's. Nothing that a model writes is an error.
///
/// # Cancel safety
///
/// Nothing is kept outside of the future and the response's body; dropping either loses only
/// what they had.
#[derive(Clone, Debug)]
pub struct ToolCall<S> {
    inner: S,
    layer: ToolCallLayer,
}

impl<S> ToolCall<S> {
    service!(ToolCallLayer);
}

impl<S> Layer<S> for ToolCallLayer {
    type Service = ToolCall<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ToolCall { inner, layer: self.clone() }
    }
}

impl<S, B> Service<Request<ChatRequest>> for ToolCall<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Clone,
    S::Error: Into<Error>,
    B: ChatStream,
{
    type Response = Response<ToolCallStream<B>>;
    type Error = Error;
    type Future = ResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ChatRequest>) -> Self::Future {
        if self.layer.rewrites(request.body()) && is_large(request.body()) {
            // The service that is ready goes along, its fresh clone stays.
            let spare = self.inner.clone();
            let ready = mem::replace(&mut self.inner, spare);
            return ResponseFuture::prepare(ready, request, self.layer.clone());
        }
        let reader = self.layer.prepare(request.body_mut());
        ResponseFuture::new(self.inner.call(request), reader)
    }
}

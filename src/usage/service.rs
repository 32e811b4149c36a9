use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{future::ResponseFuture, layer::UsageLayer, stream::UsageStream};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream},
};

/// Settles every request once, however it ends.
///
/// Made by [`UsageLayer`]; the [module](super) says how it works.
///
/// # Errors
///
/// The inner service's.
///
/// # Cancel safety
///
/// Dropping the response future or the response's body settles the request, and drops what is inside.
#[derive(Clone, Debug)]
pub struct UsageService<S> {
    inner: S,
    layer: UsageLayer,
}

impl<S> UsageService<S> {
    service!();
}

impl<S> Layer<S> for UsageLayer {
    type Service = UsageService<S>;

    fn layer(&self, inner: S) -> UsageService<S> {
        UsageService { inner, layer: self.clone() }
    }
}

impl<S, B> Service<Request<ChatRequest>> for UsageService<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>>,
    S::Error: Into<Error>,
    B: ChatStream,
{
    type Response = Response<UsageStream<B>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        let meter = self.layer.open(&request);
        ResponseFuture::new(self.inner.call(request), meter)
    }
}

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{ResponseFuture, config::Config, future::answer};
use crate::{BoxError, FullBody};

/// The service of [`EmbeddingsLayer`](super::EmbeddingsLayer).
///
/// `S` is an HTTP service whose requests have a path and no host, such as
/// [`QwenUpstream`](crate::qwen::client::QwenUpstream) with the base URL of the API, `/v1`
/// included, or an `AuthRefreshLayer` over it.
///
/// It is always ready, and waits for the inner service's readiness only when the request was
/// read and found valid.
#[derive(Clone, Debug)]
pub struct Embeddings<S> {
    inner: S,
    config: Config,
}

impl<S> Embeddings<S> {
    service!();

    pub(super) const fn with(inner: S, config: Config) -> Self {
        Self { inner, config }
    }
}

impl<S, B, R> Service<Request<B>> for Embeddings<S>
where
    S: Service<Request<FullBody>, Response = Response<R>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<FullBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        ResponseFuture::new(answer(self.inner.clone(), request, self.config))
    }
}

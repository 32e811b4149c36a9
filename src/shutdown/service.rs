use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::{future::ResponseFuture, handle::ShutdownHandle, stream::ShutdownStream};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream},
};

/// Ends answers with an error when the server has to stop.
///
/// Made by [`ShutdownLayer`](super::ShutdownLayer); the [module](super) says how it works. A request
/// that waits for the inner service to be ready is not ended.
///
/// # Errors
///
/// The inner service's, and [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded) from the moment when
/// the handle was used.
///
/// # Cancel safety
///
/// Nothing is kept outside of the future and the response's body. Dropping either drops what is inside.
#[derive(Clone, Debug)]
pub struct Shutdown<S> {
    inner: S,
    handle: ShutdownHandle,
}

impl<S> Shutdown<S> {
    service!();

    pub(super) const fn over(inner: S, handle: ShutdownHandle) -> Self {
        Self { inner, handle }
    }
}

impl<S, B> Service<Request<ChatRequest>> for Shutdown<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>>,
    S::Error: Into<Error>,
    B: ChatStream,
{
    type Response = Response<ShutdownStream<B>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ChatRequest>) -> Self::Future {
        if self.handle.is_shut_down() {
            return ResponseFuture::refused(self.handle.asked());
        }
        // Who makes a call of its own for a request gives it the request's extensions.
        request.extensions_mut().insert(self.handle.working());
        ResponseFuture::new(self.inner.call(request), self.handle.asked())
    }
}

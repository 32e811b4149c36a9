use std::{
    mem,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    ask::Wanted,
    future::{ResponseFuture, formed},
    stream::FormatStream,
};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream},
};

/// Has answers be the JSON that was asked for.
///
/// Made by [`FormatLayer`](super::FormatLayer); the [module](super) says how it works.
///
/// # Errors
///
/// The inner service's, and [`ErrorKind::Upstream`](crate::ErrorKind::Upstream) with the code
/// `response_format_not_kept` where the model did not answer in the form after two tries.
///
/// # Cancel safety
///
/// Nothing is kept outside of the future and the response's body.
#[derive(Clone, Debug)]
pub struct Format<S> {
    inner: S,
}

impl<S> Format<S> {
    service!();

    pub(super) const fn over(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B> Service<Request<ChatRequest>> for Format<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
    B: ChatStream + Send + 'static,
{
    type Response = Response<FormatStream<B>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ChatRequest>) -> Self::Future {
        match Wanted::take(request.body_mut()) {
            None => ResponseFuture::through(self.inner.call(request)),
            Some(wanted) => {
                // The service that is ready goes along, its fresh clone stays.
                let spare = self.inner.clone();
                let ready = mem::replace(&mut self.inner, spare);
                ResponseFuture::formed(formed(ready, request, wanted))
            }
        }
    }
}

use std::{
    mem,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    config::Config,
    future::{ResponseFuture, turn},
    slot::Register,
    stream::JoinStream,
};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream},
};

/// Gives a repeated request the answer to the one that it repeats.
///
/// Made by [`JoinLayer`](super::JoinLayer); the [module](super) says how it works.
///
/// # Errors
///
/// Those of the inner service. A client whose answer goes on for another request of its own gets
/// [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded), if it is still there.
///
/// # Cancel safety
///
/// Where the response future or the response's body is dropped, the work goes on for the time that
/// was set, and is then cancelled.
#[derive(Clone, Debug)]
pub struct Join<S> {
    inner: S,
    config: Config,
    register: Register,
}

impl<S> Join<S> {
    service!();

    pub(super) const fn over(inner: S, config: Config, register: Register) -> Self {
        Self { inner, config, register }
    }
}

impl<S, B> Service<Request<ChatRequest>> for Join<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
    B: ChatStream + Send + 'static,
{
    type Response = Response<JoinStream<B>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        let Some(tenant) = request.body().tenant else {
            return ResponseFuture::alone(self.inner.call(request));
        };
        // The service that is ready goes along, its fresh clone stays.
        let inner = self.inner.clone();
        let inner = mem::replace(&mut self.inner, inner);
        ResponseFuture::turn(turn(self.config, self.register.clone(), inner, tenant, request))
    }
}

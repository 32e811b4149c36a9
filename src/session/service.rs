use std::{
    fmt, mem,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    future::{ResponseFuture, turn},
    layer::SessionLayer,
    store::SessionStore,
    stream::SessionStream,
};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream},
};

/// Finds the upstream chat that a history continues, and remembers where each answer ended.
///
/// Made by [`SessionLayer`]; the [module](super) says how it works.
///
/// # Errors
///
/// The inner service's. An error for which [`Error::is_conversation_lost`] or
/// [`Error::is_account_unavailable`] holds is answered with one replay of the whole history, one for which [`Error::is_conversation_busy`] holds with a few
/// tries and then a replay, and neither reaches the caller unless that fails too or the client
/// named the chat itself. A store that fails never fails a request, but where it has to tell whether
/// a chat that the client named is its own ([`OwnChats::Known`](super::OwnChats::Known)).
///
/// # Cancel safety
///
/// Dropping the response future or the response's body ends the turn: the chat is free for the
/// next, and the answer is not recorded unless [`Finished`](crate::chat::ChatEvent::Finished) was
/// reached.
#[derive(Clone)]
pub struct Session<S> {
    inner: S,
    layer: SessionLayer,
}

impl<S> Session<S> {
    service!(SessionLayer::new(store: impl SessionStore));

    pub(super) fn over(inner: S, layer: SessionLayer) -> Self {
        Self { inner, layer }
    }
}

impl<S, B> Service<Request<ChatRequest>> for Session<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
    B: ChatStream + Send + 'static,
{
    type Response = Response<SessionStream<B>>;
    type Error = Error;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        // The service that is ready goes along, its fresh clone stays.
        let inner = self.inner.clone();
        let inner = mem::replace(&mut self.inner, inner);
        ResponseFuture::new(turn(self.layer.clone(), inner, request))
    }
}

impl<S: fmt::Debug> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}

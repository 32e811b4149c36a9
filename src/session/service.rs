use std::{
    mem,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{config::Config, future::turn, stream::SessionStream};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream, ResponseFuture},
};

/// Finds the upstream chat that a history continues, and remembers where each answer ended.
///
/// Made by [`SessionLayer`](super::SessionLayer); the [module](super) says how it works.
///
/// # Errors
///
/// Those of the inner service, but for two kinds:
///
/// - Where [`Error::is_conversation_lost`] or [`Error::is_account_unavailable`] holds, the whole
///   history is replayed once.
/// - Where [`Error::is_conversation_busy`] holds, the turn is tried a few times, and then the
///   history is replayed.
///
/// They reach the caller only if that fails too, or if the client named the chat itself.
///
/// A store that fails does not fail a request. There is one exception: where the store has to tell
/// whether a chat that the client named is its own ([`OwnChats::Known`](super::OwnChats::Known)).
///
/// # Cancel safety
///
/// Dropping the response future or the response's body ends the turn, and the chat is free for the
/// next one. The answer is not recorded, unless [`Finished`](crate::chat::ChatEvent::Finished) was
/// reached.
#[derive(Clone, Debug)]
pub struct Session<S> {
    inner: S,
    config: Config,
}

impl<S> Session<S> {
    service!();

    pub(super) fn over(inner: S, config: Config) -> Self {
        Self { inner, config }
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
    type Future = ResponseFuture<SessionStream<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        // The service that is ready goes along, its fresh clone stays.
        let inner = self.inner.clone();
        let inner = mem::replace(&mut self.inner, inner);
        ResponseFuture::new(turn(self.config.clone(), inner, request))
    }
}

use std::task::{Context, Poll};

use http::Request;
use tower_service::Service;

use super::Aliases;
use crate::chat::ChatRequest;

/// Has requests for other names go to the models that they stand for.
///
/// Made by [`AliasLayer`](super::AliasLayer); the [module](super) says how it works. Responses,
/// errors and readiness are the inner service's own, as are the futures: nothing is awaited here.
#[derive(Clone, Debug)]
pub struct Alias<S> {
    inner: S,
    aliases: Aliases,
}

impl<S> Alias<S> {
    service!();

    pub(super) const fn over(inner: S, aliases: Aliases) -> Self {
        Self { inner, aliases }
    }
}

impl<S> Service<Request<ChatRequest>> for Alias<S>
where
    S: Service<Request<ChatRequest>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ChatRequest>) -> S::Future {
        let chat = request.body_mut();
        if let Some(model) = self.aliases.resolve(&chat.model) {
            chat.model = model;
        }
        self.inner.call(request)
    }
}

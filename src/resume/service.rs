use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    config::Config, future::ResponseFuture, layer::ResumeLayer, stream::ResumeStream,
    thread::Thread,
};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream},
};

/// Has an upstream go on with an answer that broke off.
///
/// Made by [`ResumeLayer`]; the [module](super) says how it works.
///
/// # Errors
///
/// The inner service's. Where an answer is not gone on with, its stream ends with the error that it
/// broke off with, whatever came of asking.
///
/// # Cancel safety
///
/// Nothing is kept outside of the future and the response's body. Dropping either drops what is asked
/// at the time.
#[derive(Clone, Debug)]
pub struct Resume<S> {
    inner: S,
    config: Config,
}

impl<S> Resume<S> {
    service!(ResumeLayer);
}

impl<S> Layer<S> for ResumeLayer {
    type Service = Resume<S>;

    fn layer(&self, inner: S) -> Resume<S> {
        Resume { inner, config: self.config }
    }
}

impl<S, B> Service<Request<ChatRequest>> for Resume<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
    B: ChatStream + Send + 'static,
{
    type Response = Response<ResumeStream<S, B>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future, S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        let thread = (self.config.tries > 0 && is_prose(request.body()))
            .then(|| Box::new(Thread::new(&self.inner, &request, self.config)));
        ResponseFuture::new(self.inner.call(request), thread)
    }
}

/// Whether the answer may be in any words. One that a grammar holds cannot begin in its middle.
fn is_prose(chat: &ChatRequest) -> bool {
    chat.response_format.as_ref().is_none_or(|format| format.is_text())
}

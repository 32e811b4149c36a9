use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response, request};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{layer::ToolCallLayer, reader::Reader, stream::ToolCallStream};
use crate::{Error, chat::ChatRequest, offload::offload};

/// A long history that is being rewritten: what is sent, and what reads the answer.
type Preparing =
    Pin<Box<dyn Future<Output = Result<(ChatRequest, Option<Box<Reader>>), Error>> + Send>>;

pin_project! {
    /// The response future of [`ToolCall`](super::ToolCall).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S>
    where
        S: Service<Request<ChatRequest>>,
    {
        #[pin]
        state: State<S, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F> {
        // The service is ready, and taken when the request is.
        Prepare { preparing: Preparing, call: Option<(S, request::Parts)> },
        Call { #[pin] inner: F, reader: Option<Box<Reader>> },
    }
}

impl<S: Service<Request<ChatRequest>>> ResponseFuture<S> {
    pub(super) const fn new(inner: S::Future, reader: Option<Box<Reader>>) -> Self {
        Self { state: State::Call { inner, reader } }
    }

    /// Rewrites a long history first, off the runtime's threads.
    pub(super) fn prepare(ready: S, request: Request<ChatRequest>, layer: ToolCallLayer) -> Self {
        let (parts, mut chat) = request.into_parts();
        let preparing = Box::pin(offload("tools", move || {
            let reader = layer.prepare(&mut chat);
            (chat, reader)
        }));
        Self { state: State::Prepare { preparing, call: Some((ready, parts)) } }
    }
}

impl<S, B> Future for ResponseFuture<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>>,
    S::Error: Into<Error>,
{
    type Output = Result<Response<ToolCallStream<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Prepare { preparing, call } => {
                    let (chat, reader) = ready!(preparing.as_mut().poll(cx))?;
                    let (mut service, parts) = call.take().expect("taken once, here");
                    State::Call { inner: service.call(Request::from_parts(parts, chat)), reader }
                }
                StateProjection::Call { inner, reader } => {
                    let response = ready!(inner.poll(cx)).map_err(Into::into)?;
                    let response = response.map(|body| ToolCallStream::new(body, reader.take()));
                    return Poll::Ready(Ok(response));
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Request<ChatRequest>>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

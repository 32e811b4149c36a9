use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use crate::Error;

type Boxed<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Error>> + Send>>;

pin_project! {
    /// The response future of [`Upload`](super::Upload). It is one box where there is something to
    /// upload, and none where there is not.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B> {
        Through { #[pin] call: F },
        Uploading { uploading: Boxed<B> },
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(super) const fn through(call: F) -> Self {
        Self { state: State::Through { call } }
    }

    pub(super) fn uploading(
        uploading: impl Future<Output = Result<Response<B>, Error>> + Send + 'static,
    ) -> Self {
        Self { state: State::Uploading { uploading: Box::pin(uploading) } }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Error>,
{
    type Output = Result<Response<B>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Through { call } => {
                Poll::Ready(ready!(call.poll(cx)).map_err(Into::into))
            }
            StateProjection::Uploading { uploading } => uploading.as_mut().poll(cx),
        }
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

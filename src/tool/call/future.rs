use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use super::{reader::Reader, stream::ToolCallStream};
use crate::Error;

pin_project! {
    /// The response future of [`ToolCall`](super::ToolCall).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        reader: Option<Box<Reader>>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(inner: F, reader: Option<Box<Reader>>) -> Self {
        Self { inner, reader }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Error>,
{
    type Output = Result<Response<ToolCallStream<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx)).map_err(Into::into)?;
        Poll::Ready(Ok(response.map(|body| ToolCallStream::new(body, this.reader.take()))))
    }
}

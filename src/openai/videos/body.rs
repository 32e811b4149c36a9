use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Either;
use pin_project_lite::pin_project;

use crate::{BoxError, FullBody};

pin_project! {
    /// The body of a response of [`VideoJobs`](super::VideoJobs): JSON, or a video, which is passed on
    /// as it comes in the body `R`.
    ///
    /// Dropping it ends the fetching.
    pub struct VideoBody<R> {
        #[pin]
        inner: Either<FullBody, R>,
    }
}

impl<R> VideoBody<R> {
    pub(super) const fn json(body: FullBody) -> Self {
        Self { inner: Either::Left(body) }
    }

    pub(super) const fn fetched(body: R) -> Self {
        Self { inner: Either::Right(body) }
    }
}

impl<R> Body for VideoBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<R> fmt::Debug for VideoBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_fetched = matches!(self.inner, Either::Right(_));
        f.debug_struct("VideoBody").field("is_fetched", &is_fetched).finish_non_exhaustive()
    }
}

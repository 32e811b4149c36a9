use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::error::{count, to_error};
use crate::Error;

pin_project! {
    /// The body of a response of [`QwenUpstream`](super::QwenUpstream), decompressed.
    ///
    /// It sets no limit of time: whoever reads it knows what is progress.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Upstream`](crate::ErrorKind::Upstream) where the connection breaks or the body
    /// cannot be decompressed. One error ends it.
    pub struct UpstreamBody {
        #[pin]
        inner: reqwest::Body,
        is_over: bool,
    }
}

impl UpstreamBody {
    pub(super) fn new(inner: reqwest::Body) -> Self {
        Self { inner, is_over: false }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.project();
        if *this.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(this.inner.poll_frame(cx));
        let frame = frame.map(|frame| frame.map_err(to_error).inspect_err(count));
        *this.is_over = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::ErrorKind;

    #[tokio::test]
    async fn one_error_ends_it() {
        let frames = stream::iter([
            Ok(Frame::data(Bytes::from_static(b"x"))),
            Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            Ok(Frame::data(Bytes::from_static(b"y"))),
        ]);
        let mut body = UpstreamBody::new(reqwest::Body::wrap(StreamBody::new(frames)));
        assert!(body.frame().await.expect("one").is_ok());
        let error = body.frame().await.expect("one more").expect_err("broken");
        assert_eq!(error.kind(), ErrorKind::Upstream);
        assert!(body.frame().await.is_none() && body.is_end_stream());
    }

    /// How long a silence may be is for those to say who know what it is.
    #[tokio::test(start_paused = true)]
    async fn a_silence_of_any_length_is_no_error() {
        let silent = stream::pending::<Result<Frame<Bytes>, io::Error>>();
        let mut body = UpstreamBody::new(reqwest::Body::wrap(StreamBody::new(silent)));
        let day = Duration::from_secs(86_400);
        assert!(tokio::time::timeout(day, body.frame()).await.is_err());
    }
}

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A body that is there as a whole: what the adapters send upstream, and what an edge answers with
/// where there is nothing to stream.
///
/// It is cheap to clone, so a layer below an adapter can send a request again. Any HTTP client that
/// takes an [`http_body::Body`] takes it.
///
/// ```
/// use tower_qwen::FullBody;
///
/// let body = FullBody::from(r#"{"stream":true}"#);
/// assert_eq!(body.clone().into_bytes(), body.as_bytes());
/// ```
#[derive(Clone, Debug, Default)]
pub struct FullBody {
    bytes: Bytes,
}

impl FullBody {
    /// The body with these bytes, without a copy.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// What has not been read of it: all of it, unless somebody polled it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What has not been read of it, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl<T: Into<Bytes>> From<T> for FullBody {
    fn from(bytes: T) -> Self {
        Self::new(bytes.into())
    }
}

impl Body for FullBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn it_is_one_frame_of_a_known_size_and_then_over() {
        let mut body = FullBody::from("whole");
        assert_eq!(body.size_hint().exact(), Some(5));
        assert!(!body.is_end_stream());
        let frame = body.frame().await.expect("a frame").expect("no error");
        assert_eq!(frame.into_data().expect("data"), "whole");
        assert!(body.is_end_stream() && body.frame().await.is_none());
        assert_eq!(body.size_hint().exact(), Some(0));
    }

    #[tokio::test]
    async fn an_empty_one_is_over() {
        let mut body = FullBody::default();
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
}

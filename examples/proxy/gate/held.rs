//! A response that keeps its place until its body has ended.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::streams::Place;

/// The places of an answer: of its key and of all.
#[derive(Debug, Default)]
pub(super) struct Places(pub(super) [Option<Place>; 2]);

impl Places {
    /// `body`, which has these until its end.
    pub(super) fn hold(self, body: AxumBody) -> AxumBody {
        if self.0.iter().all(Option::is_none) || body.is_end_stream() {
            return body;
        }
        AxumBody::new(HeldBody { inner: body, places: Some(self) })
    }
}

struct HeldBody {
    inner: AxumBody,
    places: Option<Places>,
}

impl Body for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        // Whoever knows that it was the last does not ask for another.
        if !matches!(frame, Some(Ok(_))) || self.inner.is_end_stream() {
            self.places = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

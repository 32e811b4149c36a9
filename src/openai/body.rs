use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{encode::ChunkEncoder, metrics::Outcome, shaped::Shaped};
use crate::{
    chat::ChatStream,
    sse::{KEEP_ALIVE, KeepAlive, KeepAliveTimer},
};

/// How large a frame may grow while the upstream has more at once.
const FRAME_LEN: usize = 16 * 1024;

pin_project! {
    /// The body of every response of [`OpenAi`](super::OpenAi).
    ///
    /// Either JSON in one piece, or an event stream. Of a stream, events that arrived together
    /// leave together, in frames of whole events; nothing waits for more. The body never fails:
    /// what goes wrong after the response was begun is written into the stream, as an error
    /// object and `[DONE]`.
    ///
    /// Dropping the body drops the upstream's answer with it, which cancels the work there.
    #[derive(Debug)]
    pub struct OpenAiBody<S> {
        #[pin]
        kind: Kind<S>,
    }
}

pin_project! {
    #[project = KindProjection]
    #[derive(Debug)]
    enum Kind<S> {
        Whole { bytes: Option<Bytes> },
        Chunks {
            // `None` once the answer is over, so that the upstream is let go at once.
            #[pin]
            stream: Option<Shaped<S>>,
            #[pin]
            keep_alive: Option<KeepAliveTimer>,
            encoder: ChunkEncoder,
            buffer: BytesMut,
            outcome: Outcome,
        },
    }
}

impl<S> OpenAiBody<S> {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self { kind: Kind::Whole { bytes: Some(bytes) } }
    }

    pub(super) fn chunks(
        stream: Shaped<S>,
        encoder: ChunkEncoder,
        keep_alive: Option<KeepAlive>,
        outcome: Outcome,
    ) -> Self {
        Self {
            kind: Kind::Chunks {
                stream: Some(stream),
                keep_alive: keep_alive.map(KeepAlive::timer),
                encoder,
                buffer: BytesMut::new(),
                outcome,
            },
        }
    }
}

impl<S: ChatStream> Body for OpenAiBody<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (mut stream, mut keep_alive, encoder, buffer, outcome) =
            match self.project().kind.project() {
                KindProjection::Whole { bytes } => {
                    return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
                }
                KindProjection::Chunks { stream, keep_alive, encoder, buffer, outcome } => {
                    (stream, keep_alive, encoder, buffer, outcome)
                }
            };
        while buffer.len() < FRAME_LEN {
            let Some(events) = stream.as_mut().as_pin_mut() else { break };
            match events.poll_next(cx) {
                Poll::Pending if buffer.is_empty() => {
                    let Some(timer) = keep_alive.as_mut().as_pin_mut() else {
                        return Poll::Pending;
                    };
                    ready!(timer.poll_quiet(cx));
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(KEEP_ALIVE)))));
                }
                Poll::Pending => break,
                Poll::Ready(Some(Ok(event))) => encoder.event(buffer, event),
                Poll::Ready(Some(Err(error))) => {
                    outcome.failed(&error);
                    encoder.error(buffer, &error);
                    stream.set(None);
                }
                Poll::Ready(None) => {
                    outcome.ended();
                    encoder.end(buffer);
                    stream.set(None);
                }
            }
        }
        if buffer.is_empty() {
            return Poll::Ready(None);
        }
        if let Some(timer) = keep_alive.as_mut().as_pin_mut() {
            timer.reset();
        }
        Poll::Ready(Some(Ok(Frame::data(buffer.split().freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole { bytes } => bytes.is_none(),
            Kind::Chunks { encoder, buffer, .. } => encoder.is_done() && buffer.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Chunks { .. } => SizeHint::default(),
        }
    }
}

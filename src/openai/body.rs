use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::{encode::ChunkEncoder, images::ImagesAsText, metrics::Outcome};
use crate::chat::ChatStream;

/// How large a frame may grow while the upstream has more at once.
const FRAME_LEN: usize = 16 * 1024;

/// One comment line without a blank line: the only keep-alive that every SDK survives (D6).
const KEEP_ALIVE: &[u8] = b": keep-alive\n";

pin_project! {
    /// The body of every response of [`OpenAi`](super::OpenAi).
    ///
    /// Either JSON in one piece, or an event stream. Of a stream, events that arrived together
    /// leave together, in frames of whole events; nothing waits for more. The body never fails:
    /// what goes wrong after the response was begun is written into the stream, as an error
    /// object and `[DONE]` (qwen-wire.md D5).
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
            stream: Option<ImagesAsText<S>>,
            #[pin]
            quiet: Quiet,
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
        stream: ImagesAsText<S>,
        encoder: ChunkEncoder,
        keep_alive: Option<Duration>,
        outcome: Outcome,
    ) -> Self {
        Self {
            kind: Kind::Chunks {
                stream: Some(stream),
                quiet: Quiet::new(keep_alive),
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
        let (mut stream, quiet, encoder, buffer, outcome) = match self.project().kind.project() {
            KindProjection::Whole { bytes } => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            KindProjection::Chunks { stream, quiet, encoder, buffer, outcome } => {
                (stream, quiet, encoder, buffer, outcome)
            }
        };
        while buffer.len() < FRAME_LEN {
            let Some(events) = stream.as_mut().as_pin_mut() else { break };
            match events.poll_next(cx) {
                Poll::Pending if buffer.is_empty() => {
                    return quiet
                        .poll_tick(cx)
                        .map(|()| Some(Ok(Frame::data(Bytes::from_static(KEEP_ALIVE)))));
                }
                Poll::Pending => break,
                Poll::Ready(Some(Ok(event))) => encoder.event(buffer, event),
                Poll::Ready(Some(Err(error))) => {
                    if !encoder.is_finished() {
                        outcome.failed(&error);
                    }
                    encoder.error(buffer, &error);
                    stream.set(None);
                }
                Poll::Ready(None) => {
                    outcome.ended(encoder.is_finished());
                    encoder.end(buffer);
                    stream.set(None);
                }
            }
        }
        if buffer.is_empty() {
            return Poll::Ready(None);
        }
        quiet.moved();
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

pin_project! {
    /// Tells when nothing was sent for an interval.
    #[derive(Debug)]
    struct Quiet {
        #[pin]
        timer: Option<Sleep>,
        interval: Duration,
        // When something was last sent. The timer is not touched for every frame: it looks here
        // when it fires.
        last: Instant,
    }
}

impl Quiet {
    fn new(interval: Option<Duration>) -> Self {
        Self {
            timer: interval.map(sleep),
            interval: interval.unwrap_or_default(),
            last: Instant::now(),
        }
    }

    fn moved(self: Pin<&mut Self>) {
        *self.project().last = Instant::now();
    }

    /// Ready when the interval has passed since the last frame; counts as a frame itself.
    fn poll_tick(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let Some(mut timer) = this.timer.as_pin_mut() else { return Poll::Pending };
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let quiet = now.duration_since(*this.last) >= *this.interval;
            if quiet {
                *this.last = now;
            }
            timer.as_mut().reset(*this.last + *this.interval);
            if quiet {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    metrics::Outcome,
    protocol::Writer,
    shaped::{Shaped, Wishes},
};
use crate::{Error, ErrorKind, chat::ChatStream, sse::KeepAliveTimer};

/// How large a frame may grow while the upstream has more at once.
const FRAME_LEN: usize = 16 * 1024;

pin_project! {
    /// The body of every response of an edge.
    ///
    /// Either one piece, or an event stream. Of a stream, events that arrived together leave
    /// together, in frames of whole events; nothing waits for more. The body never fails: what goes
    /// wrong after the response was begun is written into the stream.
    pub(crate) struct EdgeBody<F, S, W> {
        #[pin]
        kind: Kind<F, S, W>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F, S, W> {
        Whole { bytes: Option<Bytes> },
        Events {
            #[pin]
            source: Source<F, S>,
            #[pin]
            keep_alive: Option<KeepAliveTimer>,
            writer: W,
            buffer: BytesMut,
            outcome: Outcome,
        },
    }
}

pin_project! {
    #[project = SourceProjection]
    pub(super) enum Source<F, S> {
        // The response began before the inner service had one.
        Called { call: Pin<Box<F>>, wishes: Option<Wishes> },
        Answer { #[pin] stream: Shaped<S> },
        // So that the upstream is let go at once.
        Over,
    }
}

impl<F, S, W> EdgeBody<F, S, W> {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self { kind: Kind::Whole { bytes: Some(bytes) } }
    }

    pub(super) fn events(
        source: Source<F, S>,
        writer: W,
        keep_alive: Option<KeepAliveTimer>,
        outcome: Outcome,
    ) -> Self {
        Self { kind: Kind::Events { source, keep_alive, writer, buffer: BytesMut::new(), outcome } }
    }

    /// The same, where it has been silent for so long that it begins with a sign of life.
    pub(super) fn alive(
        source: Source<F, S>,
        mut writer: W,
        keep_alive: Option<KeepAliveTimer>,
        outcome: Outcome,
    ) -> Self
    where
        W: Writer,
    {
        let mut buffer = BytesMut::new();
        writer.keep_alive(&mut buffer);
        Self { kind: Kind::Events { source, keep_alive, writer, buffer, outcome } }
    }
}

impl<F, S, E, W> Body for EdgeBody<F, S, W>
where
    F: Future<Output = Result<Response<S>, E>>,
    E: Into<Error>,
    S: ChatStream,
    W: Writer,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (mut source, mut keep_alive, writer, buffer, outcome) =
            match self.project().kind.project() {
                KindProjection::Whole { bytes } => {
                    return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
                }
                KindProjection::Events { source, keep_alive, writer, buffer, outcome } => {
                    (source, keep_alive, writer, buffer, outcome)
                }
            };
        while buffer.len() < FRAME_LEN {
            let next = match source.as_mut().project() {
                SourceProjection::Over => break,
                SourceProjection::Answer { stream } => stream.poll_next(cx),
                SourceProjection::Called { call, wishes } => match call.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error.into()))),
                    Poll::Ready(Ok(response)) => {
                        if let Some(times) = writer.times() {
                            times.begin();
                        }
                        let wishes = wishes.take().unwrap_or_default();
                        let stream = Shaped::new(response.into_body(), wishes);
                        source.set(Source::Answer { stream });
                        continue;
                    }
                },
            };
            match next {
                Poll::Pending if buffer.is_empty() => {
                    let Some(timer) = keep_alive.as_mut().as_pin_mut() else {
                        return Poll::Pending;
                    };
                    ready!(timer.poll_quiet(cx));
                    writer.keep_alive(buffer);
                    return Poll::Ready(Some(Ok(Frame::data(buffer.split().freeze()))));
                }
                Poll::Pending => break,
                Poll::Ready(Some(Ok(event))) => {
                    writer.event(buffer, event);
                    if writer.is_done() {
                        // Nobody but the writer ends an answer within its events, and only where
                        // it cannot go on.
                        let error = "the answer cannot be written to its end";
                        outcome.failed(&Error::new(ErrorKind::Upstream, error));
                        source.set(Source::Over);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    outcome.failed(&error);
                    writer.error(buffer, &error);
                    source.set(Source::Over);
                }
                Poll::Ready(None) => {
                    outcome.ended();
                    if let Some(times) = writer.times() {
                        times.end();
                    }
                    writer.end(buffer);
                    source.set(Source::Over);
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
            Kind::Events { writer, buffer, .. } => writer.is_done() && buffer.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Events { .. } => SizeHint::default(),
        }
    }
}

impl<F, S, W> fmt::Debug for EdgeBody<F, S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Whole { .. } => "Whole",
            Kind::Events { .. } => "Events",
        };
        f.debug_struct("EdgeBody").field("kind", &kind).finish_non_exhaustive()
    }
}

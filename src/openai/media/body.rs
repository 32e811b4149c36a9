use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::{
    config::Task,
    making::{Made, Making},
    write::{event_into, progress_into},
};
use crate::{
    Error,
    edge::{Outcome, openai_error_into},
    sse::{KEEP_ALIVE, KeepAliveTimer},
};

/// The body of a response of [`Media`](super::Media): either one piece, or an event stream, with an
/// event for each picture as it is made.
///
/// It never fails: what goes wrong after the response was begun is written into the stream. Dropping it
/// drops what is under way, which cancels the upstream's work as far as that can be cancelled.
#[must_use = "bodies do nothing unless polled"]
pub struct MediaBody {
    kind: Kind,
}

enum Kind {
    Whole(Option<Bytes>),
    Events(Box<Events>),
}

/// A stream of pictures.
pub(super) struct Events {
    /// `None` when all is said.
    pub(super) making: Option<Making>,
    pub(super) task: Task,
    /// Up to where progress was told, in percent.
    pub(super) told: u8,
    pub(super) created: u64,
    pub(super) timer: Option<KeepAliveTimer>,
    pub(super) buffer: BytesMut,
    pub(super) outcome: Outcome,
    /// How many bytes of pictures may still come.
    pub(super) left: usize,
}

impl Events {
    /// Takes what has come of the pictures.
    pub(super) fn take(&mut self, next: Option<Result<Made, Error>>) {
        match next {
            None => {
                self.outcome.ended();
                self.making = None;
            }
            Some(Ok(made)) => {
                self.left = self.left.saturating_sub(made.len());
                for picture in &made.pictures {
                    event_into(
                        &mut self.buffer,
                        self.task.event(),
                        self.created,
                        picture,
                        made.usage,
                    );
                }
            }
            Some(Err(error)) => {
                self.outcome.failed(&error);
                self.buffer.put_slice(b"event: error\ndata: ");
                openai_error_into(&mut self.buffer, &error);
                self.buffer.put_slice(b"\n\n");
                self.making = None;
            }
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if !self.buffer.is_empty() {
                if let Some(timer) = &mut self.timer {
                    Pin::new(timer).reset();
                }
                return Poll::Ready(Some(self.buffer.split().freeze()));
            }
            let Some(making) = &mut self.making else { return Poll::Ready(None) };
            match making.poll_next(cx) {
                Poll::Ready(next) => self.take(next),
                // OpenAI's clients know no such event of images.
                Poll::Pending if self.task == Task::Video && making.progress() > self.told => {
                    self.told = making.progress();
                    progress_into(&mut self.buffer, self.told);
                }
                Poll::Pending => {
                    let Some(timer) = &mut self.timer else { return Poll::Pending };
                    ready!(Pin::new(timer).poll_quiet(cx));
                    return Poll::Ready(Some(Bytes::from_static(KEEP_ALIVE)));
                }
            }
        }
    }
}

impl MediaBody {
    pub(super) const fn whole(bytes: Bytes) -> Self {
        Self { kind: Kind::Whole(Some(bytes)) }
    }

    pub(super) fn events(events: Events) -> Self {
        Self { kind: Kind::Events(Box::new(events)) }
    }
}

impl Body for MediaBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match &mut self.get_mut().kind {
            Kind::Whole(bytes) => bytes.take(),
            Kind::Events(events) => ready!(events.poll_frame(cx)),
        };
        Poll::Ready(frame.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Events(events) => events.making.is_none() && events.buffer.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Events(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for MediaBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Whole(_) => "Whole",
            Kind::Events(_) => "Events",
        };
        f.debug_struct("MediaBody").field("kind", &kind).finish_non_exhaustive()
    }
}

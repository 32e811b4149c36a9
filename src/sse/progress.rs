//! When a stream that goes on and says nothing is given up.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::keep_alive::{KeepAlive, KeepAliveTimer};
use crate::{Error, ErrorKind, Fate, observe};

/// How much of a stream may bring no event, by default: two events of the largest size that a
/// [`Decoder`](super::Decoder) takes, so that no event which is read is ever refused.
pub(crate) const DEFAULT_MAX_BYTES: usize = 16 << 20;

/// How long, and for how many bytes, a stream may go on without an event that says something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The time, of which only waiting counts. `None` for no limit.
    pub(crate) idle: Option<KeepAlive>,
    /// The bytes.
    pub(crate) bytes: usize,
}

/// Measures a stream from event to event.
///
/// A byte is no progress, nor is a comment, a blank line or an event with nothing in it: who reads
/// the events says which of them is. An event is a plain store, and a wait for one reads no clock,
/// so a limit of time is late by a 64th of it at most.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What came since the last event.
    bytes: usize,
    max_bytes: usize,
    idle: Option<KeepAliveTimer>,
    limit: Option<KeepAlive>,
}

impl Progress {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            bytes: 0,
            max_bytes: limits.bytes,
            idle: limits.idle.map(KeepAlive::late_timer),
            limit: limits.idle,
        }
    }

    /// Notes an event that says something.
    #[inline]
    pub(crate) fn event(&mut self) {
        self.bytes = 0;
        if let Some(timer) = &mut self.idle {
            Pin::new(timer).reset();
        }
    }

    /// Notes a frame of this many bytes, before the events in it.
    #[inline]
    pub(crate) fn frame(&mut self, bytes: usize) {
        // An empty frame counts too, or they could come without end.
        self.bytes = self.bytes.saturating_add(bytes.max(1));
    }

    /// To be asked before more is read, when the events of the last frame were noted: a frame that
    /// is larger than the limit is full of them, as a rule.
    ///
    /// # Errors
    ///
    /// Where too many bytes came without an event.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.bytes > self.max_bytes { Err(self.flooded()) } else { Ok(()) }
    }

    #[cold]
    fn flooded(&self) -> Error {
        observe::count!("tower_qwen_sse_stalls_total", "kind" => "bytes");
        let message = format!(
            "the upstream sent more than {} bytes without an event of the answer in them",
            self.max_bytes
        );
        Error::new(ErrorKind::Upstream, message)
    }

    /// Is ready when no event has come for too long; to be asked where there is nothing to read.
    #[inline]
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.poll_limit(cx).map(|limit| {
            too_quiet(format!(
                "no event of the answer came from the upstream for {:?}; comments and empty events do \
                 not count",
                limit.interval()
            ))
        })
    }

    /// The same of a body in which there are no events.
    pub(crate) fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.poll_limit(cx).map(|limit| {
            too_quiet(format!("nothing came from the upstream for {:?}", limit.interval()))
        })
    }

    #[inline]
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<KeepAlive> {
        match (&mut self.idle, self.limit) {
            (Some(timer), Some(limit)) => Pin::new(timer).poll_quiet(cx).map(|()| limit),
            _ => Poll::Pending,
        }
    }
}

#[cold]
fn too_quiet(message: String) -> Error {
    observe::count!("tower_qwen_sse_stalls_total", "kind" => "idle");
    Error::new(ErrorKind::Timeout, message).with_fate(Fate::Abandoned)
}

#[cfg(any(feature = "web", feature = "compatible"))]
pub(crate) use self::body::ProgressBody;

#[cfg(any(feature = "web", feature = "compatible"))]
mod body {
    use std::{
        error::Error as StdError,
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use http_body::{Body, Frame, SizeHint};

    use super::{Limits, Progress};

    type BoxError = Box<dyn StdError + Send + Sync>;

    /// A body of events which ends with an error where it brings none: what the adapters read.
    #[derive(Debug)]
    pub(crate) struct ProgressBody<B> {
        inner: Pin<Box<B>>,
        progress: Progress,
    }

    impl<B> ProgressBody<B> {
        pub(crate) fn new(inner: Pin<Box<B>>, limits: Limits) -> Self {
            Self { inner, progress: Progress::new(limits) }
        }

        /// Notes an event that says something.
        #[inline]
        pub(crate) fn event(&mut self) {
            self.progress.event();
        }

        /// How many bytes came since the last event that says something.
        pub(crate) fn bytes(&self) -> usize {
            self.progress.bytes
        }
    }

    impl<B> Body for ProgressBody<B>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        type Data = Bytes;
        type Error = BoxError;

        #[inline]
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let this = &mut *self;
            if let Err(error) = this.progress.check() {
                return Poll::Ready(Some(Err(error.into())));
            }
            match this.inner.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.progress.frame(frame.data_ref().map_or(0, Bytes::len));
                    Poll::Ready(Some(Ok(frame)))
                }
                Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => this.progress.poll_idle(cx).map(|error| Some(Err(error.into()))),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.inner.is_end_stream()
        }

        fn size_hint(&self) -> SizeHint {
            self.inner.size_hint()
        }
    }
}

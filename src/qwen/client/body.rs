use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::future::{count, to_error};
use crate::{Error, ErrorKind};

pin_project! {
    /// The body of a response of [`QwenUpstream`](super::QwenUpstream), decompressed.
    ///
    /// Where nothing comes for longer than the idle timeout, it ends with
    /// [`ErrorKind::Timeout`]. Only waiting counts: a body that is not polled does not time out.
    pub struct UpstreamBody {
        #[pin]
        inner: reqwest::Body,
        #[pin]
        alarm: Option<Sleep>,
        // When the silence becomes too long; `None` while there is none.
        silent_until: Option<Instant>,
        idle: Duration,
        is_over: bool,
    }
}

impl UpstreamBody {
    pub(super) fn new(inner: reqwest::Body, idle: Duration) -> Self {
        Self { inner, alarm: None, silent_until: None, idle, is_over: false }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut this = self.project();
        if *this.is_over {
            return Poll::Ready(None);
        }
        match this.inner.poll_frame(cx) {
            Poll::Ready(frame) => {
                *this.silent_until = None;
                let frame = frame.map(|frame| frame.map_err(to_error).inspect_err(count));
                *this.is_over = !matches!(frame, Some(Ok(_)));
                Poll::Ready(frame)
            }
            Poll::Pending => {
                let until = *this.silent_until.get_or_insert_with(|| Instant::now() + *this.idle);
                // The timer is set once and moved only when it goes off: moving it at each frame
                // would take the timer's lock each time.
                if this.alarm.is_none() {
                    this.alarm.set(Some(sleep(*this.idle)));
                }
                loop {
                    let Some(mut alarm) = this.alarm.as_mut().as_pin_mut() else {
                        return Poll::Pending;
                    };
                    ready!(alarm.as_mut().poll(cx));
                    if alarm.deadline() >= until {
                        break;
                    }
                    alarm.reset(until);
                }
                *this.is_over = true;
                let message = format!("nothing came from the upstream for {:?}", this.idle);
                let error = Error::new(ErrorKind::Timeout, message);
                count(&error);
                Poll::Ready(Some(Err(error)))
            }
        }
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
        f.debug_struct("UpstreamBody")
            .field("idle", &self.idle)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

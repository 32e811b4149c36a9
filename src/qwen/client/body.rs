use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::{
    task::coop::has_budget_remaining,
    time::{Instant, Sleep, sleep},
};

use super::error::{count, to_error};
use crate::{Error, ErrorKind};

pin_project! {
    /// The body of a response of [`QwenUpstream`](super::QwenUpstream), decompressed.
    ///
    /// Where nothing comes for longer than the idle timeout, by at most an eighth, it ends with
    /// [`ErrorKind::Timeout`]. Only waiting counts: a body that is not polled does not time out.
    pub struct UpstreamBody {
        #[pin]
        inner: reqwest::Body,
        #[pin]
        alarm: Option<Sleep>,
        // Whom the alarm wakes.
        wakes: Option<Waker>,
        // How often the alarm went off since something came.
        silent_ticks: u32,
        idle: Duration,
        is_over: bool,
    }
}

/// Into how many parts the idle timeout is divided.
const TICKS: u32 = 8;

impl UpstreamBody {
    pub(super) fn new(inner: reqwest::Body, idle: Duration) -> Self {
        Self { inner, alarm: None, wakes: None, silent_ticks: 0, idle, is_over: false }
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
                *this.silent_ticks = 0;
                let frame = frame.map(|frame| frame.map_err(to_error).inspect_err(count));
                *this.is_over = !matches!(frame, Some(Ok(_)));
                Poll::Ready(frame)
            }
            Poll::Pending => {
                // The alarm goes off at a steady pace, whatever comes, and only then is looked at:
                // to read the clock and move the timer at each frame takes much longer.
                let tick = || *this.idle / TICKS;
                if this.alarm.is_none() {
                    this.alarm.set(Some(sleep(tick())));
                }
                let Some(mut alarm) = this.alarm.as_mut().as_pin_mut() else {
                    return Poll::Pending;
                };
                let is_known = this.wakes.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
                if is_known && !alarm.is_elapsed() {
                    return Poll::Pending;
                }
                // The silence may have begun right behind a tick, so that one more makes it full.
                while *this.silent_ticks <= TICKS {
                    // A timer that is polled by a task without budget registers nobody.
                    *this.wakes = has_budget_remaining().then(|| cx.waker().clone());
                    ready!(alarm.as_mut().poll(cx));
                    *this.silent_ticks += 1;
                    alarm.as_mut().reset(Instant::now() + tick());
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt, StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn is_the_limit(silence: Duration) -> bool {
        (IDLE..=IDLE + IDLE / TICKS + Duration::from_millis(10)).contains(&silence)
    }

    /// A body of one frame after each of the waits, which then stays silent.
    fn frames(waits: &[u64]) -> Pin<Box<UpstreamBody>> {
        let frames = stream::iter(waits.to_vec())
            .then(|wait| async move {
                tokio::time::sleep(Duration::from_secs(wait)).await;
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x")))
            })
            .chain(stream::pending());
        let body = StreamBody::new(sync_wrapper(frames));
        Box::pin(UpstreamBody::new(reqwest::Body::wrap(body), IDLE))
    }

    /// `reqwest::Body` wants what is `Sync`; a boxed stream of this test is made so by a lock
    /// that nobody else takes.
    fn sync_wrapper<S>(inner: S) -> impl futures_core::Stream<Item = S::Item> + Send + Sync
    where
        S: futures_core::Stream + Send + 'static,
        S::Item: Send,
    {
        let inner = std::sync::Mutex::new(Box::pin(inner));
        stream::poll_fn(move |cx| inner.lock().unwrap().as_mut().poll_next(cx))
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_timed_from_the_last_frame() {
        let begun = Instant::now();
        let mut body = frames(&[50, 59, 0, 59]);
        for _ in 0..4 {
            assert!(body.frame().await.expect("one more").is_ok());
        }
        assert_eq!(begun.elapsed().as_secs(), 168);
        let error = body.frame().await.expect("silence").expect_err("too long");
        assert!(error.is_timeout());
        assert!(is_the_limit(begun.elapsed() - Duration::from_secs(168)), "{:?}", begun.elapsed());
        assert!(body.frame().await.is_none() && body.is_end_stream(), "one error ends it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_had_no_budget_is_woken() {
        let mut body = frames(&[]);
        std::future::poll_fn(|cx| {
            while let Poll::Ready(budget) = tokio::task::coop::poll_proceed(cx) {
                budget.made_progress();
            }
            assert!(body.as_mut().poll_frame(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
        let error = tokio::time::timeout(IDLE * 2, body.frame()).await.expect("it is woken");
        assert!(error.expect("silence").expect_err("too long").is_timeout());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_goes_to_another_task_wakes_that() {
        let mut body = frames(&[]);
        assert!(body.frame().now_or_never().is_none());
        let ended = tokio::spawn(async move { body.frame().await });
        let error = tokio::time::timeout(IDLE * 2, ended).await.expect("it is woken");
        let error = error.expect("no panic").expect("silence").expect_err("too long");
        assert!(error.is_timeout());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_its_time_is_not_silence() {
        let mut body = frames(&[0, 0, 30]);
        assert!(body.frame().await.expect("one").is_ok());
        assert!(body.frame().await.expect("two").is_ok());
        assert!(body.frame().now_or_never().is_none());
        assert!(body.frame().await.expect("three").is_ok());
        tokio::time::sleep(IDLE * 10).await;
        let begun = Instant::now();
        assert!(body.frame().await.expect("silence").is_err());
        assert!(is_the_limit(begun.elapsed()), "{:?}", begun.elapsed());
    }
}

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::StatusCode;
use tokio::time::{Instant, Sleep, sleep};

use crate::{Error, ErrorKind, clock};

/// How fast a request's body must come, so that slow ones do not add up.
///
/// A body that comes a byte at a time, or stops in the middle, would hold what came of it for as
/// long as its client likes. So it has to bring a number of bytes, or its end, in each
/// [window](Self::window), and its end within a [time](Self::total) in all. Otherwise the request is
/// answered with 408. Time counts from when the body is first waited for: a body that is there
/// costs no look at the clock. Outside of a tokio runtime there is no clock, and a body may take as
/// long as it likes.
///
/// ```
/// use std::time::Duration;
/// use tower_qwen::{edge::BodyPace, openai::OpenAiLayer};
///
/// let pace = BodyPace::new().total(Duration::from_secs(60));
/// let edge = OpenAiLayer::new().body_pace(Some(pace));
/// # let _ = edge;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPace {
    window: Duration,
    bytes: usize,
    total: Duration,
}

impl BodyPace {
    /// 32 KiB every 30 s, and the end within 5 minutes: 32 MiB over a line of 1 Mbit/s.
    #[must_use]
    pub const fn new() -> Self {
        Self { window: Duration::from_secs(30), bytes: 32 * 1024, total: Duration::from_secs(300) }
    }

    /// How many bytes must come in each `time`.
    ///
    /// # Panics
    ///
    /// If `time` is zero.
    #[must_use]
    pub const fn window(mut self, time: Duration, bytes: usize) -> Self {
        assert!(!time.is_zero(), "nothing comes in no time");
        self.window = time;
        self.bytes = bytes;
        self
    }

    /// Sets the time within which a body must be complete.
    #[must_use]
    pub const fn total(mut self, time: Duration) -> Self {
        self.total = time;
        self
    }
}

impl Default for BodyPace {
    fn default() -> Self {
        Self::new()
    }
}

/// Measures one body.
#[derive(Debug)]
pub(super) struct Stopwatch {
    pace: Option<BodyPace>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    begun: Instant,
    /// Goes off at the end of the window, or of the time in all.
    alarm: Pin<Box<Sleep>>,
    /// What had come at the beginning of the window.
    before: usize,
}

impl Stopwatch {
    pub(super) const fn new(pace: Option<BodyPace>) -> Self {
        Self { pace, running: None }
    }

    /// Is ready when the body, of which `came` bytes are there, is too slow; to be asked where
    /// more is waited for.
    pub(super) fn poll_late(&mut self, came: usize, cx: &mut Context<'_>) -> Poll<Error> {
        let Some(pace) = self.pace else { return Poll::Pending };
        if self.running.is_none() && !clock::is_there() {
            return Poll::Pending;
        }
        let running = self.running.get_or_insert_with(|| Running {
            begun: Instant::now(),
            alarm: Box::pin(sleep(pace.window.min(pace.total))),
            before: 0,
        });
        loop {
            ready!(running.alarm.as_mut().poll(cx));
            let elapsed = running.begun.elapsed();
            let left = pace.total.saturating_sub(elapsed);
            if left.is_zero() {
                let total = pace.total;
                return Poll::Ready(late(format!("it was not complete within {total:?}")));
            }
            let fresh = came - running.before;
            if fresh < pace.bytes {
                let BodyPace { window, bytes, .. } = pace;
                return Poll::Ready(late(format!(
                    "{fresh} bytes of it came in {window:?}, and {bytes} must"
                )));
            }
            running.before = came;
            running.alarm.as_mut().reset(Instant::now() + pace.window.min(left));
        }
    }
}

#[cold]
fn late(why: String) -> Error {
    metrics::counter!("tower_qwen_slow_bodies_total").increment(1);
    Error::new(ErrorKind::InvalidRequest, format!("the body came too slowly: {why}"))
        .with_status(StatusCode::REQUEST_TIMEOUT)
        .with_code("request_timeout")
}

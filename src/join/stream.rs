use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use futures_core::Stream;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::debug;

use super::slot::{Body, Making, Parked, Place};
use crate::{Error, ErrorKind, chat::ChatEvent};

/// What is as good as for ever, 30 years: a longer time would be later than any clock goes.
const LONGEST_LINGER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The body of [`Join`](super::Join)'s responses: the inner stream, or what is left of one that
/// somebody has asked for before, from its beginning.
///
/// # Cancel safety
///
/// Dropped before its end, it goes on for the time that was set, in a task of its own, and is then
/// dropped. Where nothing is to go on, it is dropped at once.
#[must_use = "streams do nothing unless polled"]
pub struct JoinStream {
    source: Source,
}

enum Source {
    /// Nobody can join it.
    Alone(Body),
    /// Somebody can.
    Joinable(Holder),
    /// Somebody has.
    Over,
}

impl JoinStream {
    pub(super) fn alone(body: Body) -> Self {
        Self { source: Source::Alone(body) }
    }

    pub(super) fn joinable(holder: Holder) -> Self {
        Self { source: Source::Joinable(holder) }
    }
}

impl Stream for JoinStream {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let source = &mut self.get_mut().source;
        match source {
            Source::Alone(body) => body.as_mut().poll_next(cx),
            Source::Joinable(holder) => {
                let event = ready!(holder.poll_event(cx));
                if !matches!(event, Some(Ok(_))) {
                    // It is over: nobody has to be told.
                    *source = Source::Over;
                }
                Poll::Ready(event)
            }
            Source::Over => Poll::Ready(None),
        }
    }
}

impl fmt::Debug for JoinStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinStream").finish_non_exhaustive()
    }
}

/// An answer that somebody may join. Dropped before its end, it goes on for a while.
pub(super) struct Holder {
    making: Option<Making>,
    place: Option<Place>,
    /// What was said before this client came.
    said: vec::IntoIter<ChatEvent>,
    linger: Duration,
}

impl Holder {
    /// One that begins.
    pub(super) fn new(making: Making, place: Place, linger: Duration) -> Self {
        Self { making: Some(making), place: Some(place), said: Vec::new().into_iter(), linger }
    }

    /// One that goes on for another client.
    pub(super) fn joined(mut making: Making, place: Place, linger: Duration) -> Self {
        let said = making.said().into_iter();
        Self { making: Some(making), place: Some(place), said, linger }
    }

    /// Waits for the head of the response.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::response::Parts, Error>> {
        if let Some(error) = self.handed_over() {
            return Poll::Ready(Err(error));
        }
        let Some(making) = &mut self.making else { return Poll::Ready(Err(taken_over())) };
        match making.poll_head(cx) {
            Poll::Pending => {
                self.wait(cx);
                Poll::Pending
            }
            Poll::Ready(Err(error)) => {
                self.forget();
                Poll::Ready(Err(error))
            }
            head => head,
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ChatEvent, Error>>> {
        if let Some(event) = self.said.next() {
            return Poll::Ready(Some(Ok(event)));
        }
        if let Some(error) = self.handed_over() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(making) = &mut self.making else { return Poll::Ready(None) };
        match making.poll_event(cx) {
            Poll::Pending => {
                self.wait(cx);
                Poll::Pending
            }
            Poll::Ready(Some(Ok(event))) => {
                if !making.can_be_joined() {
                    // Too much was said: nobody is told of it any more.
                    self.place = None;
                }
                Poll::Ready(Some(Ok(event)))
            }
            Poll::Ready(end) => {
                self.forget();
                Poll::Ready(end)
            }
        }
    }

    /// Lets it go to who asks again, if anybody does; then this client is told.
    fn handed_over(&mut self) -> Option<Error> {
        let place = self.place.as_ref().filter(|place| place.slot().is_wanted())?;
        let making = self.making.take()?;
        match place.slot().hand_over(making) {
            Ok(()) => {
                self.place = None;
                Some(taken_over())
            }
            Err(making) => {
                self.making = Some(making);
                None
            }
        }
    }

    fn wait(&self, cx: &Context<'_>) {
        if let Some(place) = &self.place {
            place.slot().waits(cx.waker());
        }
    }

    /// It is over, well or not: nothing goes on.
    fn forget(&mut self) {
        self.making = None;
        self.place = None;
    }
}

/// What a client is told whose answer goes on for another request of its own.
fn taken_over() -> Error {
    Error::new(ErrorKind::Overloaded, "the same was asked for again, and is answered there")
}

impl Drop for Holder {
    fn drop(&mut self) {
        let (Some(making), Some(place)) = (self.making.take(), self.place.take()) else { return };
        if !making.can_be_joined() || self.linger.is_zero() {
            return;
        }
        // Without a runtime nothing goes on.
        let Ok(runtime) = Handle::try_current() else { return };
        let until = Instant::now() + self.linger.min(LONGEST_LINGER);
        place.slot().park(making);
        debug!(linger = ?self.linger, "the client is gone; its answer goes on for who asks again");
        runtime.spawn(linger(Arc::new(place), until));
    }
}

/// Has an answer go on for nobody until `until`, and then lets it go.
async fn linger(place: Arc<Place>, until: Instant) {
    let on = std::future::poll_fn(|cx| place.slot().poll_parked(cx));
    let outcome = match timeout_at(until, on).await {
        Ok(Parked::Taken) => return,
        Ok(Parked::Failed) => "failed",
        Ok(Parked::Over) => {
            sleep_until(until).await;
            "complete"
        }
        Err(_) => "cancelled",
    };
    if place.slot().take().is_some() || outcome == "failed" {
        debug!(outcome, "nobody has asked again");
        metrics::counter!("tower_qwen_join_lingered_total", "outcome" => outcome).increment(1);
    }
}

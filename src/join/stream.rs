use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::debug;

use super::slot::{Body, Making, Parked, Place};
use crate::{
    Error, ErrorKind,
    chat::{ChatEvent, ChatStream},
};

/// What is as good as for ever, 30 years: a longer time would be later than any clock goes.
const LONGEST_LINGER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

pin_project! {
    /// The body of [`Join`](super::Join)'s responses: the inner stream, or what is left of one that
    /// somebody has asked for before, from its beginning.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, it goes on for the time that was set, in a task of its own, and is then
    /// dropped. Where nothing is to go on, it is dropped at once.
    #[must_use = "streams do nothing unless polled"]
    pub struct JoinStream<B> {
        #[pin]
        source: Source<B>,
    }
}

pin_project! {
    #[project = SourceProjection]
    enum Source<B> {
        // Nobody can join it.
        Alone { #[pin] answer: B },
        // The same of one that somebody could have joined.
        Beside { answer: Body },
        // Somebody can.
        Joinable { holder: Holder },
        // Somebody has.
        Over,
    }
}

impl<B> JoinStream<B> {
    pub(super) const fn alone(answer: B) -> Self {
        Self { source: Source::Alone { answer } }
    }

    pub(super) fn beside(answer: Body) -> Self {
        Self { source: Source::Beside { answer } }
    }

    pub(super) const fn joinable(holder: Holder) -> Self {
        Self { source: Source::Joinable { holder } }
    }
}

impl<B: ChatStream> Stream for JoinStream<B> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut source = self.project().source;
        let event = match source.as_mut().project() {
            SourceProjection::Alone { answer } => return answer.poll_next(cx),
            SourceProjection::Beside { answer } => return answer.as_mut().poll_next(cx),
            SourceProjection::Joinable { holder } => ready!(holder.poll_event(cx)),
            SourceProjection::Over => return Poll::Ready(None),
        };
        if !matches!(event, Some(Ok(_))) {
            // It is over: nobody has to be told.
            source.set(Source::Over);
        }
        Poll::Ready(event)
    }
}

impl<B> fmt::Debug for JoinStream<B> {
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

//! How many answers are under way at once, and who waits for a place.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// Places for answers. A limit may change: those who came under another one do not count under it.
#[derive(Debug, Default)]
pub(super) struct Streams {
    places: Mutex<Option<Arc<Places>>>,
}

#[derive(Debug)]
struct Places {
    limit: usize,
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// How long, and with how many others, a place may be waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    pub(super) len: usize,
    pub(super) until: Instant,
}

/// A place, until it is dropped.
pub(super) type Place = OwnedSemaphorePermit;

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Too many wait already.
    Queue,
    /// The wait was too long.
    Late,
}

impl Streams {
    /// One of `limit` places; those who wait get them in the order in which they came.
    ///
    /// # Errors
    ///
    /// If there is none, and may not be waited for one.
    ///
    /// # Cancel safety
    ///
    /// Who does not wait on gives up its place in the queue.
    pub(super) async fn enter(&self, limit: usize, queue: Queue) -> Result<Place, Full> {
        let places = self.places(limit);
        if let Ok(place) = Arc::clone(&places.room).try_acquire_owned() {
            return Ok(place);
        }
        let Some(_waiting) = Waiting::new(&places.waiting, queue.len) else {
            return Err(Full::Queue);
        };
        let place = timeout_at(queue.until, Arc::clone(&places.room).acquire_owned()).await;
        // Nobody closes it.
        place.map_err(|_| Full::Late)?.map_err(|_| Full::Late)
    }

    /// How many are taken, and how many wait.
    pub(super) fn taken(&self) -> (usize, usize) {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.as_ref().map_or((0, 0), |places| {
            let taken = places.limit.saturating_sub(places.room.available_permits());
            (taken, places.waiting.load(Ordering::Relaxed))
        })
    }

    fn places(&self, limit: usize) -> Arc<Places> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match &*places {
            Some(places) if places.limit == limit => Arc::clone(places),
            _ => {
                let room = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
                let new = Places { limit, room, waiting: AtomicUsize::new(0) };
                Arc::clone(places.insert(Arc::new(new)))
            }
        }
    }
}

/// Somebody who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < most).then_some(count + 1)
            })
            .ok()?;
        metrics::gauge!("tower_qwen_proxy_queued").increment(1);
        Some(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("tower_qwen_proxy_queued").decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt, future::join_all};
    use tokio::time::sleep;

    use super::*;

    fn queue(len: usize, seconds: u64) -> Queue {
        Queue { len, until: Instant::now() + Duration::from_secs(seconds) }
    }

    /// Of 1,000 at once 10 run, 100 wait and 890 are refused; those who wait run as the others end.
    #[tokio::test(start_paused = true)]
    async fn a_thousand_at_once() {
        let (streams, running, most) =
            (Streams::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let one = async || {
            let place = streams.enter(10, queue(100, 60)).await?;
            let now = running.fetch_add(1, Ordering::Relaxed) + 1;
            most.fetch_max(now, Ordering::Relaxed);
            sleep(Duration::from_secs(1)).await;
            running.fetch_sub(1, Ordering::Relaxed);
            drop(place);
            Ok::<(), Full>(())
        };
        let begun = Instant::now();
        let outcomes = join_all((0..1_000).map(|_| one())).await;
        let refused = outcomes.iter().filter(|outcome| **outcome == Err(Full::Queue)).count();
        assert_eq!((refused, outcomes.iter().filter(|it| it.is_ok()).count()), (890, 110));
        assert_eq!(most.load(Ordering::Relaxed), 10, "exactly so many at once");
        assert_eq!(begun.elapsed(), Duration::from_secs(11));
        assert_eq!(streams.taken(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let streams = Streams::default();
        let place = streams.enter(1, queue(1, 5)).await.expect("the first");
        let begun = Instant::now();
        assert_eq!(streams.enter(1, queue(1, 5)).await.expect_err("too late"), Full::Late);
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        assert_eq!(streams.enter(1, queue(0, 5)).await.expect_err("no queue"), Full::Queue);

        let mut left = Box::pin(streams.enter(1, queue(1, 5)));
        assert!(left.as_mut().now_or_never().is_none());
        assert_eq!(streams.taken(), (1, 1));
        drop(left);
        assert_eq!(streams.taken(), (1, 0), "who leaves the queue is in it no more");
        drop(place);
        drop(streams.enter(1, queue(0, 0)).await.expect("there is room"));
    }

    /// A new limit is one for those who come then.
    #[tokio::test(start_paused = true)]
    async fn a_limit_may_change() {
        let streams = Streams::default();
        let _old = streams.enter(1, queue(0, 0)).await.expect("the first");
        let _new = streams.enter(2, queue(0, 0)).await.expect("under the new limit");
        let _newer = streams.enter(2, queue(0, 0)).await.expect("the second under it");
        assert_eq!(streams.enter(2, queue(0, 0)).await.expect_err("the third"), Full::Queue);
    }
}

//! The pause after a challenge of an anti-bot layer.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::standing::Stamp;
use crate::{
    Error, ErrorKind,
    shared_task::{Setback, doubled},
};

const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// The way out to the upstream. A challenge is a verdict about it, not about any account.
#[derive(Debug)]
pub(super) struct Egress {
    pause: Duration,
    /// Whether [`state`](Egress::state) says anything, and the stamp of what is sent now: they keep
    /// the mutex out of the usual way.
    troubled: AtomicBool,
    stamp: AtomicU32,
    state: Mutex<Option<Setback<()>>>,
}

impl Egress {
    pub(super) const PAUSE: Duration = Duration::from_secs(60);

    pub(super) fn new(pause: Duration) -> Self {
        let (troubled, stamp) = (AtomicBool::new(false), AtomicU32::new(0));
        Self { pause, troubled, stamp, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Setback<()>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a request that is sent now is stamped with.
    pub(super) fn stamp(&self) -> Stamp {
        Stamp(self.stamp.load(Ordering::Relaxed))
    }

    /// The error for a request that comes during a pause.
    pub(super) fn refusal(&self) -> Option<Error> {
        if !self.troubled.load(Ordering::Relaxed) {
            return None;
        }
        let left = self.lock().as_ref()?.left(Instant::now())?;
        Some(
            Error::new(
                ErrorKind::Challenge,
                "the upstream's anti-bot layer asked for a person a moment ago; waiting, since \
                 more requests would prolong that",
            )
            .with_retry_after(left),
        )
    }

    /// An anti-bot layer answered a request.
    pub(super) fn bad_news(&self) {
        if self.pause.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut state = self.lock();
        self.stamp.store(self.stamp().next().0, Ordering::Relaxed);
        if state.as_ref().is_some_and(|pause| pause.left(now).is_some()) {
            // The answer to a request that was under way when the pause began.
            return;
        }
        let longest = LONGEST_PAUSE.max(self.pause);
        let pause = |count, _: &()| doubled(self.pause, count, longest);
        let pause = Setback::after(state.take(), (), now, pause);
        let seconds = pause.left(now).unwrap_or_default().as_secs();
        *state = Some(pause);
        self.troubled.store(true, Ordering::Relaxed);
        drop(state);
        metrics::counter!("tower_qwen_auth_challenges_total").increment(1);
        tracing::warn!(seconds, "an anti-bot layer answered; pausing");
    }

    /// A request that was sent at `stamp` was let in.
    pub(super) fn good_news(&self, stamp: Stamp) {
        if self.troubled.load(Ordering::Relaxed) && stamp == self.stamp() {
            let mut state = self.lock();
            // A challenge may have come before the lock did.
            if stamp == self.stamp() {
                *state = None;
                self.troubled.store(false, Ordering::Relaxed);
            }
        }
    }
}

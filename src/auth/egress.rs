//! The pause after a challenge of an anti-bot layer (A16, G6).

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{Error, ErrorKind};

const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// The way out to the upstream. A challenge is a verdict about it, not about any account.
#[derive(Debug)]
pub(super) struct Egress {
    pause: Duration,
    /// Whether [`state`](Egress::state) says anything; keeps the mutex out of the usual way.
    troubled: AtomicBool,
    state: Mutex<(Option<Instant>, u32)>,
}

impl Egress {
    pub(super) const PAUSE: Duration = Duration::from_secs(60);

    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, troubled: AtomicBool::new(false), state: Mutex::default() }
    }

    /// The error for a request that comes during a pause.
    pub(super) fn refusal(&self) -> Option<Error> {
        if !self.troubled.load(Ordering::Relaxed) {
            return None;
        }
        let (until, _) = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        Some(
            Error::new(
                ErrorKind::Challenge,
                "the upstream's anti-bot layer asked for a person a moment ago; waiting, since \
                 more requests would prolong that",
            )
            .with_retry_after(left),
        )
    }

    pub(super) fn challenged(&self) {
        if self.pause.is_zero() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, count) = &mut *state;
        if until.is_some_and(|until| until > Instant::now()) {
            // The answer to a request that was under way when the pause began.
            return;
        }
        let factor = 1_u32.checked_shl(*count).unwrap_or(u32::MAX);
        let pause = self.pause.saturating_mul(factor).min(LONGEST_PAUSE.max(self.pause));
        *count = count.saturating_add(1);
        *until = Some(Instant::now() + pause);
        drop(state);
        self.troubled.store(true, Ordering::Relaxed);
        metrics::counter!("tower_qwen_auth_challenges_total").increment(1);
        tracing::warn!(seconds = pause.as_secs(), "an anti-bot layer answered; pausing");
    }

    pub(super) fn accepted(&self) {
        if self.troubled.load(Ordering::Relaxed) {
            self.troubled.store(false, Ordering::Relaxed);
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (None, 0);
        }
    }
}

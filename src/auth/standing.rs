//! What an upstream has said about an account, and for how long that keeps requests away.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::shared_task::{doubled, later};

const REFUSED: Duration = Duration::from_secs(60);
const LONGEST_REFUSED: Duration = Duration::from_secs(30 * 60);
const QUOTA: Duration = Duration::from_secs(65);
const RATE: Duration = Duration::from_secs(1);
const LONGEST_RATE: Duration = Duration::from_secs(60);
const DAY: u64 = 86_400;
/// The upstream's day begins at midnight of UTC+8.
const DAY_OFFSET: u64 = 8 * 3600;

/// A moment on both clocks: spans are measured with the first, and the end of tokens with the
/// second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) wall: SystemTime,
}

/// How much bad news there had been when a request was sent.
///
/// Good news counts only if its request was sent after the last bad news: a slow answer to an
/// earlier one says nothing about how things are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp(pub(super) u32);

impl Stamp {
    /// The stamp after one more piece of bad news.
    #[must_use]
    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// What speaks against an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Even a fresh credential was refused, or there is no way to a fresh one.
    Refused,
    /// Its quota is used up.
    Quota,
    /// It was asked to slow down.
    Rate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CoolDown {
    pub(super) trouble: Trouble,
    pub(super) until: Instant,
}

/// The cool-down of an account, and how it came to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    cool_down: Option<CoolDown>,
    /// How often in a row each [`Trouble`] was reported.
    counts: [u32; 3],
    /// How often any was, ever.
    pub(super) failures: u64,
    pub(super) stamp: Stamp,
}

impl Standing {
    /// Takes in bad news and says how long the account cools down for it: as long as the upstream
    /// asks, else longer each time. `random` is between 0 and 1.
    pub(super) fn bad_news(
        &mut self,
        trouble: Trouble,
        asked: Option<Duration>,
        now: Now,
        random: f64,
    ) -> Duration {
        self.stamp = self.stamp.next();
        self.failures += 1;
        let count = &mut self.counts[trouble as usize];
        *count = count.saturating_add(1);
        let span = asked.unwrap_or_else(|| match trouble {
            Trouble::Refused => doubled(REFUSED, *count, LONGEST_REFUSED),
            Trouble::Quota => doubled(QUOTA, *count, until_midnight(now.wall)),
            Trouble::Rate => doubled(RATE, *count, LONGEST_RATE).mul_f64(0.5 + random / 2.0),
        });
        // Of two that overlap, the one that says more about the account stays.
        if trouble == Trouble::Quota || !self.is_cooling(Trouble::Quota, now) {
            self.cool_down = Some(CoolDown { trouble, until: later(now.instant, span) });
        }
        span
    }

    /// Takes in that a request was let in which was sent at `stamp`.
    pub(super) fn good_news(&mut self, stamp: Stamp) {
        if stamp == self.stamp {
            self.cool_down = None;
            self.counts = [0; 3];
        }
    }

    /// Forgets what was said about a credential that somebody has replaced.
    pub(super) fn replaced(&mut self) {
        self.cool_down = None;
        self.counts[Trouble::Refused as usize] = 0;
    }

    /// Whether good news would change anything.
    pub(super) fn is_troubled(&self) -> bool {
        self.counts != [0; 3]
    }

    /// Forgets a cool-down that is over. The counts stay, so that the next one is longer.
    pub(super) fn expire(&mut self, now: Now) {
        self.cool_down = self.cooling(now);
    }

    /// Whether there may be a cool-down; a clock says whether it is over.
    pub(super) fn is_clear(&self) -> bool {
        self.cool_down.is_none()
    }

    /// The cool-down, if it is not over.
    pub(super) fn cooling(&self, now: Now) -> Option<CoolDown> {
        self.cool_down.filter(|cool_down| cool_down.until > now.instant)
    }

    pub(super) fn is_cooling(&self, trouble: Trouble, now: Now) -> bool {
        self.cooling(now).is_some_and(|cool_down| cool_down.trouble == trouble)
    }
}

fn until_midnight(wall: SystemTime) -> Duration {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(DAY - (since.as_secs() + DAY_OFFSET) % DAY)
}

//! So much a minute (sans-I/O: time is an argument).

use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// What was taken of a limit that is given back evenly, all of it in a minute. What is known only
/// afterwards, such as tokens, is taken then, and may be more than there was: it is a debt, which has
/// to be given back before anything is to be had again.
///
/// The limit is an argument, since it may change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// When all is given back.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes one of `limit` a minute.
    ///
    /// # Errors
    ///
    /// How long it takes until there is one.
    pub(super) fn take(&mut self, limit: u64, now: Instant) -> Result<(), Duration> {
        let one = share(1, limit);
        let wait = (self.taken(now) + one).saturating_sub(MINUTE);
        if wait.is_zero() {
            self.charge(1, limit, now);
            return Ok(());
        }
        Err(wait)
    }

    /// Takes `count` of `limit` a minute, whether or not there are so many.
    pub(super) fn charge(&mut self, count: u64, limit: u64, now: Instant) {
        // A debt of a year is as good as any.
        let taken = self.taken(now).saturating_add(share(count, limit)).min(MINUTE * 525_600);
        self.full_at = now.checked_add(taken);
    }

    /// Whether there is anything left.
    ///
    /// # Errors
    ///
    /// How long it takes until there is.
    pub(super) fn check(&self, limit: u64, now: Instant) -> Result<(), Duration> {
        match self.left(limit, now) {
            0 => Err((self.taken(now) + share(1, limit)).saturating_sub(MINUTE)),
            _ => Ok(()),
        }
    }

    /// How many are left of `limit`.
    pub(super) fn left(&self, limit: u64, now: Instant) -> u64 {
        let left = MINUTE.saturating_sub(self.taken(now)).as_nanos();
        let left = left * u128::from(limit) / MINUTE.as_nanos();
        u64::try_from(left).unwrap_or(u64::MAX)
    }

    /// How long it takes until all of it is there again; as long as what was taken is worth.
    pub(super) fn taken(&self, now: Instant) -> Duration {
        self.full_at.map_or(Duration::ZERO, |full| full.saturating_duration_since(now))
    }
}

/// The time in which `count` of `limit` a minute are given back.
fn share(count: u64, limit: u64) -> Duration {
    let nanos = u128::from(count) * MINUTE.as_nanos() / u128::from(limit.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn exactly_the_limit_is_to_be_had_at_once_and_then_evenly() {
        let begun = Instant::now();
        for limit in [1, 7, 60, 6_000] {
            let mut bucket = Bucket::default();
            for taken in 0..limit {
                assert_eq!(bucket.left(limit, begun), limit - taken, "{limit}");
                bucket.take(limit, begun).expect("there are more");
            }
            let wait = bucket.take(limit, begun).expect_err("there is none");
            assert!(wait <= MINUTE / limit as u32 + Duration::from_micros(1), "{limit}: {wait:?}");
            bucket.take(limit, begun + wait).expect("one more");
            bucket.take(limit, begun + wait).expect_err("and no more");
            assert_eq!(bucket.left(limit, begun + wait + MINUTE), limit, "all is given back");
        }
    }

    #[test]
    fn a_debt_is_given_back_first() {
        let now = Instant::now();
        let mut bucket = Bucket::default();
        bucket.check(600, now).expect("nothing was taken");
        bucket.charge(599, 600, now);
        bucket.check(600, now).expect("one is left");
        bucket.charge(601, 600, now);
        assert_eq!((bucket.left(600, now), bucket.taken(now)), (0, 2 * MINUTE));
        let wait = bucket.check(600, now).expect_err("a debt");
        assert_eq!(wait, MINUTE + Duration::from_millis(100));
        bucket.check(600, now + wait).expect("one");
        bucket.charge(u64::MAX, 1, now);
        bucket.charge(u64::MAX, 1, now + secs(1));
        assert!(bucket.taken(now) > secs(86_400 * 300), "it does not overflow");
    }
}

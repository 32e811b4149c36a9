//! Whether an upstream is asked at all (sans-I/O: the time is an argument).

use std::time::Duration;

use tokio::time::Instant;

/// When an upstream is no longer asked, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Breaking {
    /// After how many failures in a row it is no longer asked.
    pub failures: u32,
    /// For how long it is not asked then. After that one request finds out, and where that fails it
    /// is twice as long, up to [`longest`](Self::longest).
    pub pause: Duration,
    /// The longest such time.
    pub longest: Duration,
}

impl Breaking {
    /// Five failures in a row, then a pause of ten seconds, and at most one of five minutes.
    #[must_use]
    pub const fn new() -> Self {
        Self { failures: 5, pause: Duration::from_secs(10), longest: Duration::from_secs(5 * 60) }
    }
}

impl Default for Breaking {
    fn default() -> Self {
        Self::new()
    }
}

/// What is known of an upstream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaker {
    /// How many failures there were in a row.
    failures: u32,
    /// How many pauses there were in a row.
    pauses: u32,
    /// Until when it is not asked.
    until: Option<Instant>,
    /// When the request was sent that finds out, if one does.
    probe: Option<Instant>,
    /// When the last failure was told.
    failed: Option<Instant>,
}

/// What may be done with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// It is asked.
    Yes,
    /// It is asked to find out whether it is back.
    Probe,
    /// It is not asked, for this long.
    No(Duration),
}

/// What news has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
}

impl Breaker {
    /// Whether it is asked. A request that finds out is the only one until there is news of it, or
    /// until another pause has passed: its client may have gone.
    pub(super) fn ask(&mut self, rules: &Breaking, now: Instant) -> Allowed {
        let Some(until) = self.until else { return Allowed::Yes };
        if now < until {
            return Allowed::No(until - now);
        }
        if let Some(probe) = self.probe {
            let next = probe + self.pause(rules);
            if now < next {
                return Allowed::No(next - now);
            }
        }
        self.probe = Some(now);
        Allowed::Probe
    }

    /// A request that was sent at `sent` was answered. It is no news where something failed since:
    /// the answer was begun before that.
    pub(super) fn succeeded(&mut self, sent: Instant) -> Option<Change> {
        if self.failed.is_some_and(|failed| sent < failed) {
            return None;
        }
        let was_open = self.until.is_some();
        *self = Self { failed: self.failed, ..Self::default() };
        was_open.then_some(Change::Closed)
    }

    /// A request that was sent at `sent` has failed.
    pub(super) fn failed(
        &mut self,
        rules: &Breaking,
        sent: Instant,
        now: Instant,
    ) -> Option<Change> {
        self.failed = Some(now);
        if self.until.is_some() {
            // What was sent before it was known is no news; the request that finds out is.
            if self.probe.is_none_or(|probe| sent < probe) {
                return None;
            }
        } else {
            self.failures += 1;
            if self.failures < rules.failures {
                return None;
            }
        }
        self.pauses += 1;
        self.probe = None;
        self.until = Some(now + self.pause(rules));
        Some(Change::Opened)
    }

    /// How long the pause is that it is in.
    fn pause(&self, rules: &Breaking) -> Duration {
        let doubled = 2_u32.saturating_pow(self.pauses.saturating_sub(1).min(20));
        rules.pause.saturating_mul(doubled).min(rules.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Breaking =
        Breaking { failures: 3, pause: Duration::from_secs(10), longest: Duration::from_secs(25) };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_by_one_that_finds_out() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let at = |seconds| after(start, seconds);
        for _ in 0..2 {
            assert_eq!(breaker.failed(&RULES, at(0), at(0)), None);
        }
        assert_eq!(breaker.succeeded(at(1)), None, "it was not open");
        for _ in 0..2 {
            assert_eq!(breaker.failed(&RULES, at(1), at(1)), None, "not in a row");
        }
        assert_eq!(breaker.failed(&RULES, at(1), at(2)), Some(Change::Opened));
        assert_eq!(breaker.ask(&RULES, at(2)), Allowed::No(Duration::from_secs(10)));
        assert_eq!(breaker.ask(&RULES, at(11)), Allowed::No(Duration::from_secs(1)));
        assert_eq!(breaker.ask(&RULES, at(12)), Allowed::Probe);
        assert_eq!(
            breaker.ask(&RULES, at(13)),
            Allowed::No(Duration::from_secs(9)),
            "one finds out"
        );
        assert_eq!(breaker.succeeded(at(12)), Some(Change::Closed));
        assert_eq!(breaker.ask(&RULES, at(14)), Allowed::Yes);
    }

    #[test]
    fn each_pause_is_twice_as_long_up_to_a_limit() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let mut now = start;
        for _ in 0..3 {
            breaker.failed(&RULES, now, now);
        }
        for pause in [10, 20, 25, 25] {
            assert_eq!(breaker.ask(&RULES, now), Allowed::No(Duration::from_secs(pause)));
            now += Duration::from_secs(pause);
            assert_eq!(breaker.ask(&RULES, now), Allowed::Probe);
            assert_eq!(breaker.failed(&RULES, now, now), Some(Change::Opened));
        }
    }

    /// One slow answer that was begun before does not say that all is well.
    #[test]
    fn good_news_counts_only_if_it_is_younger_than_the_bad_news() {
        let start = Instant::now();
        let at = |seconds| after(start, seconds);
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            breaker.failed(&RULES, at(5), at(5));
        }
        assert_eq!(breaker.succeeded(at(1)), None);
        assert!(matches!(breaker.ask(&RULES, at(6)), Allowed::No(_)));
        // Nor do failures of requests that were sent before make the pause longer.
        assert_eq!(breaker.failed(&RULES, at(4), at(7)), None);
        assert_eq!(breaker.ask(&RULES, at(15)), Allowed::Probe);
        // A client that has gone told nothing: another finds out.
        assert_eq!(breaker.ask(&RULES, at(25)), Allowed::Probe);
    }
}

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

/// When a request was sent, by how much news there was before it. It takes no clock to tell what was
/// sent before a failure from what was sent after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

impl Ticket {
    fn next(&mut self) -> Self {
        self.0 += 1;
        *self
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
    probe: Option<(Ticket, Instant)>,
    /// The last failure.
    failed: Ticket,
    /// The last failure, or the last request that finds out.
    last: Ticket,
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
    ///
    /// The time matters only where it has failed.
    pub(super) fn ask(
        &mut self,
        rules: &Breaking,
        now: impl FnOnce() -> Instant,
    ) -> (Allowed, Ticket) {
        let Some(until) = self.until else { return (Allowed::Yes, self.last) };
        let now = now();
        if now < until {
            return (Allowed::No(until - now), self.last);
        }
        if let Some((_, probe)) = self.probe {
            let next = probe + self.pause(rules);
            if now < next {
                return (Allowed::No(next - now), self.last);
            }
        }
        let ticket = self.last.next();
        self.probe = Some((ticket, now));
        (Allowed::Probe, ticket)
    }

    /// A request was answered. It is no news where something failed since it was sent: the answer was
    /// begun before that.
    pub(super) fn succeeded(&mut self, sent: Ticket) -> Option<Change> {
        if sent < self.failed {
            return None;
        }
        let was_open = self.until.is_some();
        *self = Self { failed: self.failed, last: self.last, ..Self::default() };
        was_open.then_some(Change::Closed)
    }

    /// A request has failed.
    pub(super) fn failed(
        &mut self,
        rules: &Breaking,
        sent: Ticket,
        now: Instant,
    ) -> Option<Change> {
        self.failed = self.last.next();
        if self.until.is_some() {
            // What was sent before it was known is no news; the request that finds out is.
            if self.probe.is_none_or(|(probe, _)| sent < probe) {
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

    /// A breaker and a clock.
    struct Clocked {
        breaker: Breaker,
        now: Instant,
        ticket: Ticket,
    }

    impl Clocked {
        fn new() -> Self {
            Self { breaker: Breaker::default(), now: Instant::now(), ticket: Ticket::default() }
        }

        fn wait(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        /// Asks, and keeps the ticket.
        fn ask(&mut self) -> Allowed {
            let now = self.now;
            let (allowed, ticket) = self.breaker.ask(&RULES, || now);
            self.ticket = ticket;
            allowed
        }

        fn succeeds(&mut self) -> Option<Change> {
            self.breaker.succeeded(self.ticket)
        }

        fn fails(&mut self) -> Option<Change> {
            self.breaker.failed(&RULES, self.ticket, self.now)
        }

        /// Fails until it is not asked any more.
        fn open(&mut self) {
            for _ in 1..RULES.failures {
                assert_eq!(self.ask(), Allowed::Yes);
                assert_eq!(self.fails(), None);
            }
            assert_eq!(self.ask(), Allowed::Yes);
            assert_eq!(self.fails(), Some(Change::Opened));
        }
    }

    fn no(seconds: u64) -> Allowed {
        Allowed::No(Duration::from_secs(seconds))
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_by_one_that_finds_out() {
        let mut it = Clocked::new();
        for _ in 0..2 {
            it.ask();
            assert_eq!(it.fails(), None);
        }
        it.ask();
        assert_eq!(it.succeeds(), None, "it was not open");
        it.open();
        assert_eq!(it.ask(), no(10));
        it.wait(9);
        assert_eq!(it.ask(), no(1));
        it.wait(1);
        assert_eq!(it.ask(), Allowed::Probe);
        let probe = it.ticket;
        it.wait(1);
        assert_eq!(it.ask(), no(9), "one finds out");
        it.ticket = probe;
        assert_eq!(it.succeeds(), Some(Change::Closed));
        assert_eq!(it.ask(), Allowed::Yes);
    }

    #[test]
    fn each_pause_is_twice_as_long_up_to_a_limit() {
        let mut it = Clocked::new();
        it.open();
        for pause in [10, 20, 25, 25] {
            assert_eq!(it.ask(), no(pause));
            it.wait(pause);
            assert_eq!(it.ask(), Allowed::Probe);
            assert_eq!(it.fails(), Some(Change::Opened));
        }
    }

    /// One slow answer that was begun before does not say that all is well.
    #[test]
    fn good_news_counts_only_if_it_is_younger_than_the_bad_news() {
        let mut it = Clocked::new();
        it.ask();
        let early = it.ticket;
        it.open();
        it.ticket = early;
        assert_eq!(it.succeeds(), None);
        assert!(matches!(it.ask(), Allowed::No(_)));
        // Nor do failures of requests that were sent before make the pause longer.
        it.wait(7);
        it.ticket = early;
        assert_eq!(it.fails(), None);
        it.wait(3);
        assert_eq!(it.ask(), Allowed::Probe);
        // A client that has gone told nothing: another finds out.
        it.wait(10);
        assert_eq!(it.ask(), Allowed::Probe);
    }

    #[test]
    fn while_all_is_well_nobody_looks_at_the_clock() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            let (allowed, ticket) = breaker.ask(&RULES, || unreachable!("the time is asked for"));
            assert_eq!((allowed, breaker.succeeded(ticket)), (Allowed::Yes, None));
        }
    }
}

//! What a key has used (sans-I/O: time is an argument).

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};
use tower_qwen::usage::{Counted, Outcome, Settlement};

use super::super::keys::Limits;

/// What was used, in all and in the day and the month that were last seen. Both are of UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Book {
    pub(crate) requests: u64,
    /// Those that have failed.
    pub(crate) failed: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    /// How many of both were estimated, since no upstream counted them.
    pub(crate) estimated_tokens: u64,
    pub(crate) day: Used,
    pub(crate) month: Used,
}

/// What was used in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Used {
    /// The first day of it.
    pub(crate) from: Date,
    pub(crate) tokens: u64,
}

impl Default for Used {
    fn default() -> Self {
        Self { from: Date::MIN, tokens: 0 }
    }
}

impl Used {
    /// Goes over to the time that begins with `from`, but never back: a clock that is set back must not
    /// give a budget a second time.
    fn roll(&mut self, from: Date) {
        if from > self.from {
            *self = Self { from, tokens: 0 };
        }
    }
}

#[cfg(feature = "redis")]
impl Used {
    fn without(self, base: Self) -> Self {
        let before = if base.from == self.from { base.tokens } else { 0 };
        Self { tokens: self.tokens.saturating_sub(before), ..self }
    }

    /// The later of both times, with what was used in it.
    fn and(self, more: Self) -> Self {
        match self.from.cmp(&more.from) {
            std::cmp::Ordering::Less => more,
            std::cmp::Ordering::Equal => {
                Self { tokens: self.tokens.saturating_add(more.tokens), ..self }
            }
            std::cmp::Ordering::Greater => self,
        }
    }
}

/// Which budget is used up, and when there is a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) unit: &'static str,
    pub(crate) budget: u64,
    pub(crate) until: Timestamp,
}

/// How near a budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) budget: u64,
    pub(crate) left: u64,
    pub(crate) until: Timestamp,
}

impl Book {
    /// Enters what a request has come to at `now`; how many tokens that is.
    pub(crate) fn enter(&mut self, settled: &Settlement, now: Timestamp) -> u64 {
        self.roll(now);
        let usage = &settled.usage;
        let tokens = usage.prompt_tokens.saturating_add(usage.completion_tokens);
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.requests, 1);
        add(&mut self.failed, u64::from(matches!(settled.outcome, Outcome::Failed(_))));
        add(&mut self.prompt_tokens, usage.prompt_tokens);
        add(&mut self.completion_tokens, usage.completion_tokens);
        if settled.counted == Counted::Estimated {
            add(&mut self.estimated_tokens, tokens);
        }
        add(&mut self.day.tokens, tokens);
        add(&mut self.month.tokens, tokens);
        tokens
    }

    /// What is in it that is not in `base`, an older one.
    #[cfg(feature = "redis")]
    pub(super) fn without(&self, base: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(base.requests),
            failed: self.failed.saturating_sub(base.failed),
            prompt_tokens: self.prompt_tokens.saturating_sub(base.prompt_tokens),
            completion_tokens: self.completion_tokens.saturating_sub(base.completion_tokens),
            estimated_tokens: self.estimated_tokens.saturating_sub(base.estimated_tokens),
            day: self.day.without(base.day),
            month: self.month.without(base.month),
        }
    }

    /// It and what is in `more`.
    #[cfg(feature = "redis")]
    pub(super) fn and(&self, more: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(more.requests),
            failed: self.failed.saturating_add(more.failed),
            prompt_tokens: self.prompt_tokens.saturating_add(more.prompt_tokens),
            completion_tokens: self.completion_tokens.saturating_add(more.completion_tokens),
            estimated_tokens: self.estimated_tokens.saturating_add(more.estimated_tokens),
            day: self.day.and(more.day),
            month: self.month.and(more.month),
        }
    }

    /// Whether the budgets of `limits` leave anything at `now`. What is under way is let go on.
    ///
    /// # Errors
    ///
    /// The one that is used up; of two the one that lasts longer.
    pub(crate) fn check(&mut self, limits: &Limits, now: Timestamp) -> Result<(), Spent> {
        self.roll(now);
        let budgets = [
            ("month", limits.tokens_per_month, self.month.tokens, self.month_ends()),
            ("day", limits.tokens_per_day, self.day.tokens, self.day_ends()),
        ];
        for (unit, budget, used, until) in budgets {
            if let Some(budget) = budget.filter(|budget| used >= *budget) {
                return Err(Spent { unit, budget, until });
            }
        }
        Ok(())
    }

    /// How near the nearest of the budgets of `limits` is, if there is one.
    pub(crate) fn left(&mut self, limits: &Limits, now: Timestamp) -> Option<Left> {
        self.roll(now);
        let of = |budget: Option<u64>, used: u64, until| {
            budget.map(|budget| Left { budget, left: budget.saturating_sub(used), until })
        };
        let day = of(limits.tokens_per_day, self.day.tokens, self.day_ends());
        let month = of(limits.tokens_per_month, self.month.tokens, self.month_ends());
        day.into_iter().chain(month).min_by_key(|left| left.left)
    }

    /// Goes over to the day and the month of `now`.
    pub(crate) fn roll(&mut self, now: Timestamp) {
        let today = now.to_zoned(TimeZone::UTC).date();
        self.day.roll(today);
        self.month.roll(today.first_of_month());
    }

    fn day_ends(&self) -> Timestamp {
        begin_of(self.day.from.saturating_add(1.day()))
    }

    fn month_ends(&self) -> Timestamp {
        begin_of(self.month.from.saturating_add(1.month()))
    }
}

fn begin_of(day: Date) -> Timestamp {
    day.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |begin| begin.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        time.parse().expect("a time")
    }

    /// Uses so many tokens.
    fn used(book: &mut Book, tokens: u64, now: Timestamp) {
        book.roll(now);
        book.day.tokens += tokens;
        book.month.tokens += tokens;
    }

    fn limits(day: Option<u64>, month: Option<u64>) -> Limits {
        Limits { tokens_per_day: day, tokens_per_month: month, ..Limits::default() }
    }

    #[test]
    fn a_budget_ends_exactly_at_its_limit() {
        let (mut book, now) = (Book::default(), at("2026-11-30T12:00:00Z"));
        let budget = limits(Some(100), None);
        used(&mut book, 99, now);
        book.check(&budget, now).expect("one is left");
        let until = at("2026-12-01T00:00:00Z");
        assert_eq!(book.left(&budget, now), Some(Left { budget: 100, left: 1, until }));
        used(&mut book, 1, now);
        let spent = Spent { unit: "day", budget: 100, until };
        assert_eq!(book.check(&budget, now), Err(spent));
        // What was under way has used more than there was.
        used(&mut book, 50, now);
        assert_eq!(book.left(&budget, now).map(|left| left.left), Some(0));
        book.check(&Limits::default(), now).expect("no budget");
        let none = limits(Some(0), None);
        Book::default().check(&none, now).expect_err("a budget of nothing");
    }

    #[test]
    fn a_day_and_a_month_end_in_utc() {
        let mut book = Book::default();
        let budget = limits(Some(100), Some(150));
        let last = at("2026-11-29T23:59:59.999Z");
        used(&mut book, 100, last);
        assert_eq!(book.check(&budget, last).expect_err("used up").unit, "day");
        // The next day has a budget of its own, and the month has not.
        let next = at("2026-11-30T00:00:00Z");
        book.check(&budget, next).expect("a new day");
        used(&mut book, 50, next);
        let spent = book.check(&budget, next).expect_err("used up");
        assert_eq!((spent.unit, spent.until), ("month", at("2026-12-01T00:00:00Z")));
        book.check(&budget, at("2026-12-01T00:00:00Z")).expect("a new month");
        assert_eq!((book.day.tokens, book.month.tokens), (0, 0));
        // A day whose night another zone spends elsewhere is none here.
        let (mut book, early) = (Book::default(), at("2026-12-31T23:30:00-08:00"));
        used(&mut book, 100, early);
        assert_eq!(book.day.from.to_string(), "2027-01-01");
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_a_second_time() {
        let mut book = Book::default();
        let budget = limits(Some(100), Some(1_000));
        let (now, before) = (at("2026-12-01T08:00:00Z"), at("2026-11-30T08:00:00Z"));
        used(&mut book, 100, now);
        let spent = book.check(&budget, before).expect_err("used up, whatever the clock says");
        assert_eq!(spent.until, at("2026-12-02T00:00:00Z"));
        used(&mut book, 7, before);
        assert_eq!((book.day.tokens, book.month.tokens), (107, 107));
        book.check(&budget, at("2026-12-02T00:00:00Z")).expect("the next day");
    }

    /// What two proxies have used is the sum, whichever of them sees a new day first.
    #[cfg(feature = "redis")]
    #[test]
    fn what_is_new_is_added() {
        let monday = at("2026-11-30T12:00:00Z");
        let (mut base, mut ours) = (Book::default(), Book::default());
        used(&mut base, 10, monday);
        ours = Book { requests: 2, ..base.and(&ours) };
        used(&mut ours, 5, monday);
        let new = ours.without(&base);
        assert_eq!((new.requests, new.day.tokens, new.month.tokens), (2, 5, 5));
        let sum = base.and(&new);
        assert_eq!(sum, ours);
        // A new day has nothing of the old one.
        let tuesday = at("2026-12-01T12:00:00Z");
        used(&mut ours, 7, tuesday);
        let new = ours.without(&base);
        assert_eq!((new.day.tokens, new.month.tokens), (7, 7));
        assert_eq!(base.and(&new).day, ours.day);
        assert_eq!(
            ours.and(&base.without(&Book::default())).day,
            ours.day,
            "what is older is over"
        );
    }
}

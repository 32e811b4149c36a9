//! What the dashboard shows of the requests so far: what is under way, how many there were and what they
//! took in the last half hour, and what went wrong last.
//!
//! All of it is in memory and bounded, and nothing of it is what anybody said.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;

use super::{accounts::unix_seconds, advice};

/// How long a slot of the history is.
const SLOT: Duration = Duration::from_secs(10);
/// How many of them are kept: half an hour.
const SLOTS: usize = 180;
/// How many models and upstreams are told apart; a client may ask for any name.
const NAMES: usize = 50;
/// What the others are called together.
const OTHERS: &str = "others";
/// The longest name that is shown, in characters.
const NAME_LEN: usize = 80;
/// How many of the last failures are kept.
const FAILURES: usize = 50;
/// How many requests that are under way are shown; all are counted.
const SHOWN: usize = 100;

/// A clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    begun: Instant,
    /// The last is the present one.
    slots: VecDeque<Slot>,
    /// How many slots went before the first of `slots`.
    gone: u64,
    models: BTreeMap<String, Sums>,
    failures: VecDeque<Failure>,
    under_way: Vec<Weak<dyn UnderWay>>,
    /// From how many on those that have ended are looked for.
    crowded: usize,
}

/// A request that has not ended.
pub(crate) trait UnderWay: std::fmt::Debug + Send + Sync {
    /// What is known of it.
    fn row(&self) -> Row;
}

/// What is shown of a request that is under way.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) path: String,
    pub(crate) client: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) upstream: Option<String>,
    /// For how long, in milliseconds.
    pub(crate) for_ms: u64,
    /// Whether its response has begun.
    pub(crate) is_answered: bool,
}

/// What a request has come to.
#[derive(Debug, Default)]
pub(crate) struct Ended<'a> {
    pub(crate) path: &'a str,
    pub(crate) status: Option<u16>,
    pub(crate) client: Option<String>,
    pub(crate) model: Option<&'a str>,
    pub(crate) upstream: Option<&'a str>,
    /// How it ended: `complete`, `failed`, `refused` or `gone`.
    pub(crate) outcome: &'static str,
    /// The kind of its error, where that is known.
    pub(crate) reason: Option<String>,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) first_event: Option<Duration>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Slot {
    requests: u64,
    failed: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// How many answers have begun, and how long that took all of them and the slowest, in
    /// milliseconds.
    answers: u64,
    first_event_ms: u64,
    slowest_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Sums {
    requests: u64,
    failed: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Failure {
    /// In seconds since 1970.
    at: u64,
    path: String,
    status: Option<u16>,
    client: Option<String>,
    model: Option<String>,
    upstream: Option<String>,
    reason: Option<String>,
    /// What to do about it.
    advice: &'static str,
}

impl Default for State {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            slots: VecDeque::from([Slot::default()]),
            gone: 0,
            models: BTreeMap::new(),
            failures: VecDeque::new(),
            under_way: Vec::new(),
            crowded: 64,
        }
    }
}

impl Board {
    /// Shows a request until it ends.
    pub(crate) fn begin(&self, request: Weak<dyn UnderWay>) {
        let mut state = self.state();
        if state.under_way.len() >= state.crowded {
            state.under_way.retain(|request| request.strong_count() > 0);
            // So each is looked at a few times at most, however many there are.
            state.crowded = (2 * state.under_way.len()).max(64);
        }
        state.under_way.push(request);
    }

    /// Enters what a request has come to.
    pub(crate) fn end(&self, ended: &Ended<'_>) {
        let (now, at) = (Instant::now(), SystemTime::now());
        let mut state = self.state();
        state.roll(now);
        let is_failed = matches!(ended.outcome, "failed" | "refused");
        let slot = state.slots.back_mut().expect("there is one at all times");
        slot.requests += 1;
        slot.failed += u64::from(is_failed);
        slot.prompt_tokens += ended.prompt_tokens;
        slot.completion_tokens += ended.completion_tokens;
        if let Some(first_event) = ended.first_event {
            let ms = u64::try_from(first_event.as_millis()).unwrap_or(u64::MAX);
            slot.answers += 1;
            slot.first_event_ms = slot.first_event_ms.saturating_add(ms);
            slot.slowest_ms = slot.slowest_ms.max(ms);
        }
        if let Some(model) = ended.model {
            let sums = state.sums(model);
            sums.requests += 1;
            sums.failed += u64::from(is_failed);
            sums.prompt_tokens += ended.prompt_tokens;
            sums.completion_tokens += ended.completion_tokens;
        }
        if is_failed {
            if state.failures.len() == FAILURES {
                state.failures.pop_front();
            }
            state.failures.push_back(Failure {
                at: unix_seconds(at).unwrap_or_default(),
                path: shortened(ended.path),
                status: ended.status,
                client: ended.client.clone(),
                model: ended.model.map(shortened),
                upstream: ended.upstream.map(shortened),
                reason: ended.reason.clone(),
                advice: advice::on(ended.reason.as_deref(), ended.status),
            });
        }
    }

    /// All of it, as JSON.
    pub(crate) fn report(&self) -> serde_json::Value {
        let (under_way, mut report) = {
            let mut state = self.state();
            state.roll(Instant::now());
            state.under_way.retain(|request| request.strong_count() > 0);
            let failures: Vec<_> = state.failures.iter().rev().collect();
            let report = serde_json::json!({
                "uptime_s": state.begun.elapsed().as_secs(),
                "slot_s": SLOT.as_secs(),
                "slots": state.slots,
                "models": state.models,
                "failures": failures,
            });
            (state.under_way.clone(), report)
        };
        // Outside of the lock: whoever is looked at may end with that, and is entered then.
        let mut rows: Vec<Row> = Vec::new();
        let mut count = 0;
        for request in under_way.iter().filter_map(Weak::upgrade) {
            count += 1;
            if rows.len() < SHOWN {
                rows.push(request.row());
            }
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.for_ms));
        report["under_way"] = serde_json::json!({"count": count, "requests": rows});
        report
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every state of it is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Goes over to the slot of `now`.
    fn roll(&mut self, now: Instant) {
        let number = now.saturating_duration_since(self.begun).as_secs() / SLOT.as_secs();
        let last = self.gone + self.slots.len() as u64 - 1;
        let missing = number.saturating_sub(last);
        for _ in 0..missing.min(SLOTS as u64) {
            self.slots.push_back(Slot::default());
        }
        while self.slots.len() > SLOTS {
            self.slots.pop_front();
        }
        self.gone = last.max(number) + 1 - self.slots.len() as u64;
    }

    fn sums(&mut self, model: &str) -> &mut Sums {
        let model = shortened(model);
        let is_known = self.models.contains_key(&model) || self.models.len() < NAMES;
        self.models.entry(if is_known { model } else { OTHERS.to_owned() }).or_default()
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(NAME_LEN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Waiting;

    impl UnderWay for Waiting {
        fn row(&self) -> Row {
            Row { path: "/v1/messages".to_owned(), ..Row::default() }
        }
    }

    #[test]
    fn what_ends_is_counted_and_what_has_not_is_shown() {
        let board = Board::default();
        let request: Arc<dyn UnderWay> = Arc::new(Waiting);
        board.begin(Arc::downgrade(&request));
        let report = board.report();
        assert_eq!(report["under_way"]["count"], 1);
        assert_eq!(report["under_way"]["requests"][0]["path"], "/v1/messages");
        drop(request);
        board.end(&Ended {
            model: Some("m"),
            outcome: "complete",
            completion_tokens: 7,
            first_event: Some(Duration::from_millis(30)),
            ..Ended::default()
        });
        let failed = Ended {
            path: "/v1/messages",
            status: Some(502),
            model: Some("m"),
            outcome: "failed",
            reason: Some("Upstream".to_owned()),
            ..Ended::default()
        };
        board.end(&failed);
        let report = board.report();
        assert_eq!(report["under_way"]["count"], 0);
        let slot = &report["slots"][0];
        assert_eq!((&slot["requests"], &slot["failed"]), (&2.into(), &1.into()));
        assert_eq!((&slot["answers"], &slot["slowest_ms"]), (&1.into(), &30.into()));
        assert_eq!(report["models"]["m"]["completion_tokens"], 7);
        let failure = &report["failures"][0];
        assert_eq!((&failure["status"], &failure["reason"]), (&502.into(), &"Upstream".into()));
        assert!(failure["advice"].as_str().is_some_and(|advice| !advice.is_empty()));
    }

    #[test]
    fn whatever_clients_send_it_stays_small() {
        let board = Board::default();
        for number in 0..10_000 {
            let model = format!("{number}{}", "x".repeat(1000));
            let request: Arc<dyn UnderWay> = Arc::new(Waiting);
            board.begin(Arc::downgrade(&request));
            board.end(&Ended {
                path: &model,
                model: Some(&model),
                outcome: "refused",
                ..Ended::default()
            });
        }
        let state = board.state();
        assert_eq!((state.models.len(), state.failures.len()), (NAMES + 1, FAILURES));
        assert_eq!(state.models[OTHERS].requests, 10_000 - NAMES as u64);
        assert!(state.models.keys().all(|name| name.chars().count() <= NAME_LEN));
        assert!(state.failures.iter().all(|failure| failure.path.chars().count() <= NAME_LEN));
        assert!(state.under_way.len() <= 64);
    }

    #[test]
    fn the_history_is_as_long_as_it_is_said_to_be() {
        let mut state = State::default();
        let begun = state.begun;
        state.slots[0].requests = 1;
        state.roll(begun + SLOT / 2);
        assert_eq!(state.slots.len(), 1);
        state.roll(begun + SLOT);
        assert_eq!((state.slots.len(), state.slots[0].requests), (2, 1));
        let last = SLOTS as u32 - 1;
        state.roll(begun + SLOT * last);
        assert_eq!((state.slots.len(), state.slots[0].requests), (SLOTS, 1));
        state.roll(begun + SLOT * (last + 1));
        assert_eq!((state.slots.len(), state.slots[0].requests), (SLOTS, 0));
        state.slots[SLOTS - 1].requests = 5;
        state.roll(begun + SLOT * 100_000);
        assert_eq!(state.slots.len(), SLOTS);
        assert!(state.slots.iter().all(|slot| slot.requests == 0));
        // A clock that is read out of order changes nothing.
        state.slots[SLOTS - 1].requests = 5;
        state.roll(begun + SLOT * 99_999);
        assert_eq!(state.slots[SLOTS - 1].requests, 5);
    }
}

//! How much a client may ask for, and what it has used.
//!
//! What is known of a client here outlives the configuration: it is read again on SIGHUP, and limits
//! that have changed count from then on.
//!
//! # Observability
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_proxy_limited_total` | `reason`: `requests`, `tokens`, `budget`, `key_streams`, `streams`, `usage` |
//! | `tower_qwen_proxy_usage_writes_total` | `outcome`: `written`, `failed` |
//! | `tower_qwen_proxy_queued` (gauge) | |
//! | `tower_qwen_proxy_key_requests_total` | `key`: the id in the file, `#1` for the first of `--api-key`, `*` for all others; `outcome` |
//! | `tower_qwen_proxy_key_tokens_total` | `key`; `kind`: `prompt`, `completion`; `counted` |

mod admit;
mod book;
mod bucket;
mod bytes;
#[cfg(feature = "usage-db")]
mod db;
mod held;
mod keep;
mod report;
#[cfg(feature = "redis")]
mod shared;
mod streams;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;
use tower_qwen::{openai::videos::Jobs, usage::Settlement};

use self::{
    book::{Book, Spent},
    bucket::Bucket,
    streams::Streams,
    told::Told,
};
use super::{
    board::Board,
    keys::{KeyId, Limits},
};

#[cfg(feature = "redis")]
pub(crate) use self::keep::Url;
pub(crate) use self::{
    admit::{Admission, admit, may_ask},
    bytes::Metered,
    keep::Keep,
    report::{report, rows},
};

/// What holds for all clients together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// How many answers may be under way at once.
    pub(crate) streams: Option<usize>,
    /// How many requests may wait for a place: of one key, and of all.
    pub(crate) queue: usize,
    /// How long one waits.
    pub(crate) wait: Duration,
    /// Whether keys with a budget are refused as long as what they use cannot be written.
    pub(crate) fail_closed: bool,
}

/// The accounts of all clients. A clone has the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    streams: Streams,
    board: Board,
    /// The videos that clients have begun.
    jobs: Jobs,
    accounts: Mutex<BTreeMap<KeyId, Arc<Account>>>,
    /// Where they are kept, if they are.
    shelf: Mutex<Option<keep::Shared>>,
    /// Whether they cannot be written there.
    is_failing: AtomicBool,
}

/// What is known of one client.
#[derive(Debug)]
pub(crate) struct Account {
    id: KeyId,
    streams: Streams,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What its limits were when it asked last.
    limits: Limits,
    requests: Bucket,
    tokens: Bucket,
    book: Book,
    /// Whether that is newer than what was written.
    is_new: bool,
    /// What of it others know.
    base: Book,
    /// Whether it asked since others were asked.
    has_asked: bool,
}

/// Who pays for a request; among its extensions from the edge to the leaf.
#[derive(Clone, Debug)]
pub(crate) struct Payer(pub(crate) Arc<Account>);

/// Which of a key's own limits is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    Budget(Spent),
    Requests(u64, Duration),
    Tokens(u64, Duration),
}

impl Gate {
    /// The videos that clients have begun, which outlive a configuration that is read again.
    pub(crate) fn jobs(&self) -> &Jobs {
        &self.0.jobs
    }

    /// The account of `id`.
    pub(crate) fn account(&self, id: KeyId) -> Arc<Account> {
        let mut accounts = lock(&self.0.accounts);
        let new = || {
            let state = Mutex::default();
            Arc::new(Account { id, streams: Streams::default(), state })
        };
        Arc::clone(accounts.entry(id).or_insert_with(new))
    }

    /// What is shown of the requests of all of them.
    pub(crate) fn board(&self) -> &Board {
        &self.0.board
    }

    /// Whose accounts there are.
    fn known(&self) -> BTreeSet<KeyId> {
        lock(&self.0.accounts).keys().copied().collect()
    }
}

impl Payer {
    /// Enters what a request has come to.
    pub(crate) fn pay(&self, settled: &Settlement) {
        self.0.settle(settled, Instant::now(), Timestamp::now());
    }
}

impl Account {
    /// Takes a request within `limits`, if there is one left.
    ///
    /// # Errors
    ///
    /// Which of them is reached.
    fn take(&self, limits: &Limits, now: Instant, time: Timestamp) -> Result<(), Reached> {
        let mut state = lock(&self.state);
        state.limits = *limits;
        state.has_asked = true;
        state.book.check(limits, time).map_err(Reached::Budget)?;
        if let Some(limit) = limits.tokens_per_minute {
            state.tokens.check(limit, now).map_err(|wait| Reached::Tokens(limit, wait))?;
        }
        if let Some(limit) = limits.requests_per_minute {
            state.requests.take(limit, now).map_err(|wait| Reached::Requests(limit, wait))?;
        }
        Ok(())
    }

    fn settle(&self, settled: &Settlement, now: Instant, time: Timestamp) {
        let mut state = lock(&self.state);
        let tokens = state.book.enter(settled, time);
        state.is_new = true;
        if let Some(limit) = state.limits.tokens_per_minute {
            state.tokens.charge(tokens, limit, now);
        }
        drop(state);
        let (outcome, counted) = (settled.outcome.as_str(), settled.counted.as_str());
        let key = self.id.as_str();
        metrics::counter!(
            "tower_qwen_proxy_key_requests_total", "key" => key.to_owned(), "outcome" => outcome
        )
        .increment(1);
        let usage = &settled.usage;
        for (kind, tokens) in
            [("prompt", usage.prompt_tokens), ("completion", usage.completion_tokens)]
        {
            metrics::counter!(
                "tower_qwen_proxy_key_tokens_total",
                "key" => key.to_owned(),
                "kind" => kind,
                "counted" => counted
            )
            .increment(tokens);
        }
    }

    /// How near `limits` it is.
    fn told(&self, limits: &Limits, now: Instant, time: Timestamp) -> Vec<Told> {
        let mut state = lock(&self.state);
        let of = |what, limit: Option<u64>, bucket: &Bucket| {
            let limit = limit?;
            Some(Told { what, limit, left: bucket.left(limit, now), reset: bucket.taken(now) })
        };
        let budget = state.book.left(limits, time).map(|left| Told {
            what: "budget",
            limit: left.budget,
            left: left.left,
            reset: until(left.until, time),
        });
        let requests = of("requests", limits.requests_per_minute, &state.requests);
        let tokens = of("tokens", limits.tokens_per_minute, &state.tokens);
        [requests, tokens, budget].into_iter().flatten().collect()
    }
}

/// How long it is from `now` to `end`.
fn until(end: Timestamp, now: Timestamp) -> Duration {
    end.duration_since(now).try_into().unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every state of it is sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

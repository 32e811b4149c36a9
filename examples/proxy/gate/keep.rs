//! Keeps what was used over restarts.
//!
//! It is written in groups, twice a second where there is anything, by a thread that may wait for a
//! disk; no request does. What has ended a second ago is there after the process was killed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use super::{super::keys::KeyId, Gate, State, book::Book, lock};

/// How often what is new is written.
const INTERVAL: Duration = Duration::from_millis(500);

/// Where accounts are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keep {
    /// In memory, until the process ends.
    #[default]
    Memory,
    /// In this file.
    #[cfg(feature = "usage-db")]
    Db(std::path::PathBuf),
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("in memory, and begins anew here"),
            #[cfg(feature = "usage-db")]
            Self::Db(path) => write!(f, "kept in {}", path.display()),
        }
    }
}

/// An account, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: KeyId,
    pub(super) book: Book,
}

/// What keeps accounts. It is asked where it may block.
pub(super) trait Shelf: Send + fmt::Debug {
    /// All that were written.
    ///
    /// # Errors
    ///
    /// Why they cannot be read, in one line.
    fn load(&mut self) -> Result<Vec<Row>, String>;

    /// Writes these, all of them or none.
    ///
    /// # Errors
    ///
    /// Why they cannot be written, in one line; they may be written another time.
    fn write(&mut self, rows: &[Row]) -> Result<(), String>;
}

/// A shelf that is used by one at a time.
pub(super) type Shared = Arc<Mutex<Box<dyn Shelf>>>;

impl Gate {
    /// The accounts as they were kept.
    ///
    /// # Errors
    ///
    /// Why they cannot be read.
    pub(crate) fn open(keep: &Keep) -> Result<Self, String> {
        match keep {
            Keep::Memory => Ok(Self::default()),
            #[cfg(feature = "usage-db")]
            Keep::Db(path) => {
                let db = super::db::Db::new(path.clone());
                Self::on(Box::new(db)).map_err(|reason| format!("--usage-db: {reason}"))
            }
        }
    }

    /// Those on `shelf`.
    ///
    /// # Errors
    ///
    /// Those of its reading.
    #[cfg_attr(
        not(any(feature = "usage-db", test)),
        allow(dead_code, reason = "there is no shelf")
    )]
    pub(super) fn on(mut shelf: Box<dyn Shelf>) -> Result<Self, String> {
        let rows = shelf.load()?;
        let gate = Self::default();
        for Row { id, book } in rows {
            lock(&gate.account(id).state).book = book;
        }
        *lock(&gate.0.shelf) = Some(Arc::new(Mutex::new(shelf)));
        Ok(gate)
    }

    /// Writes what is new, again and again; ends at once where nothing is kept.
    pub(crate) async fn keep(&self) {
        if lock(&self.0.shelf).is_none() {
            return;
        }
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.flush().await;
        }
    }

    /// Writes what is new now.
    ///
    /// # Cancel safety
    ///
    /// What was begun is written all the same.
    pub(crate) async fn flush(&self) {
        let Some(shelf) = lock(&self.0.shelf).clone() else { return };
        let gate = self.clone();
        // It goes on by itself, whoever waits for it.
        let written = tokio::task::spawn_blocking(move || gate.write(&shelf)).await;
        if let Err(error) = written {
            tracing::error!(%error, "what was used could not be written");
        }
    }

    fn write(&self, shelf: &Shared) {
        // First this lock, so that nobody writes what is older over what is newer.
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = self.new_rows();
        if rows.is_empty() {
            return;
        }
        let written = shelf.write(&rows);
        let outcome = if written.is_ok() { "written" } else { "failed" };
        metrics::counter!("tower_qwen_proxy_usage_writes_total", "outcome" => outcome).increment(1);
        let was_failing = self.0.is_failing.swap(written.is_err(), Ordering::Relaxed);
        match written {
            Ok(()) if was_failing => tracing::info!("what is used can be written again"),
            Ok(()) => {}
            Err(error) => {
                for row in &rows {
                    lock(&self.account(row.id).state).is_new = true;
                }
                if !was_failing {
                    tracing::error!(
                        error,
                        "what is used cannot be written; it is tried again, and would be lost with \
                         the process"
                    );
                }
            }
        }
    }

    /// What was not written yet, which then counts as written.
    fn new_rows(&self) -> Vec<Row> {
        let accounts: Vec<_> = lock(&self.0.accounts).values().cloned().collect();
        let new = accounts.iter().filter_map(|account| {
            let State { book, is_new, .. } = &mut *lock(&account.state);
            std::mem::take(is_new).then(|| Row { id: account.id, book: *book })
        });
        new.collect()
    }

    /// Accounts that cannot be written.
    #[cfg(test)]
    pub(crate) fn failing() -> Self {
        let gate = Self::default();
        gate.0.is_failing.store(true, Ordering::Relaxed);
        gate
    }

    /// Whether what is used cannot be written.
    pub(super) fn is_failing(&self) -> bool {
        self.0.is_failing.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use tokio::time::{advance, sleep};
    use tower_qwen::{
        chat::{FinishReason, Usage},
        usage::{Outcome, UsageLayer},
    };

    use super::{super::Payer, *};

    /// A shelf in memory whose disk may be full.
    #[derive(Clone, Debug, Default)]
    struct Memory {
        rows: Arc<Mutex<Vec<Row>>>,
        writes: Arc<Mutex<usize>>,
        is_full: Arc<AtomicBool>,
    }

    impl Shelf for Memory {
        fn load(&mut self) -> Result<Vec<Row>, String> {
            Ok(lock(&self.rows).clone())
        }

        fn write(&mut self, new: &[Row]) -> Result<(), String> {
            if self.is_full.load(Ordering::Relaxed) {
                return Err("no space left on device".to_owned());
            }
            *lock(&self.writes) += 1;
            let mut rows = lock(&self.rows);
            rows.retain(|row| new.iter().all(|other| other.id != row.id));
            rows.extend_from_slice(new);
            Ok(())
        }
    }

    impl Memory {
        fn gate(&self) -> Gate {
            Gate::on(Box::new(self.clone())).expect("nothing is wrong")
        }

        fn requests(&self) -> u64 {
            lock(&self.rows).iter().map(|row| row.book.requests).sum()
        }
    }

    /// Uses 7 tokens.
    fn use_some(gate: &Gate, key: &str) {
        let payer = Payer(gate.account(KeyId::parse(key).expect("an id")));
        let layer = UsageLayer::new(drop);
        let mut meter = layer.meter(None, "m", 0, move |settled| payer.pay(&settled));
        meter.usage(Usage::new(5, 2));
        meter.ended(Outcome::Finished(FinishReason::Stop));
    }

    /// Lets blocking work end, which no paused clock waits for.
    async fn until(mut is_so: impl FnMut() -> bool) {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_new_is_written_within_a_second_and_in_groups() {
        let shelf = Memory::default();
        let gate = shelf.gate();
        let keeping = tokio::spawn({
            let gate = gate.clone();
            async move { gate.keep().await }
        });
        for key in ["ann", "bob", "ann"] {
            use_some(&gate, key);
        }
        advance(2 * INTERVAL).await;
        until(|| shelf.requests() == 3).await;
        assert_eq!(*lock(&shelf.writes), 1, "all in one");
        for _ in 0..20 {
            sleep(INTERVAL).await;
        }
        assert_eq!(*lock(&shelf.writes), 1, "nothing is new");
        use_some(&gate, "bob");
        advance(2 * INTERVAL).await;
        until(|| shelf.requests() == 4).await;
        keeping.abort();

        // Another process finds it.
        let again = shelf.gate();
        let book = lock(&again.account(KeyId::parse("ann").expect("an id")).state).book;
        assert_eq!((book.requests, book.day.tokens, book.month.tokens), (2, 14, 14));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_is_told_and_nothing_is_lost() {
        let shelf = Memory::default();
        let gate = shelf.gate();
        shelf.is_full.store(true, Ordering::Relaxed);
        use_some(&gate, "ann");
        assert!(!gate.is_failing(), "nobody knows yet");
        gate.flush().await;
        assert!(gate.is_failing());
        use_some(&gate, "ann");
        gate.flush().await;
        assert_eq!(shelf.requests(), 0);
        shelf.is_full.store(false, Ordering::Relaxed);
        gate.flush().await;
        assert_eq!((shelf.requests(), gate.is_failing()), (2, false));
    }

    #[tokio::test]
    async fn in_memory_nothing_is_written() {
        let gate = Gate::open(&Keep::Memory).expect("nothing to read");
        use_some(&gate, "ann");
        gate.keep().await;
        gate.flush().await;
        assert!(!gate.is_failing());
    }
}

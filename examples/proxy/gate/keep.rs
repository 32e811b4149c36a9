//! Keeps what was used over restarts.
//!
//! It is written in groups, twice a second where there is anything, by a thread that may wait for a
//! disk; no request does. What has ended a second ago is there after the process was killed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
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
    /// In this Redis, with those of other proxies.
    #[cfg(feature = "redis")]
    Redis(Url),
}

/// Where Redis is; it may hold a password.
#[cfg(feature = "redis")]
#[derive(Clone, Debug)]
pub(crate) struct Url(pub(crate) secrecy::SecretString);

#[cfg(feature = "redis")]
impl PartialEq for Url {
    fn eq(&self, other: &Self) -> bool {
        use secrecy::ExposeSecret;
        self.0.expose_secret() == other.0.expose_secret()
    }
}

#[cfg(feature = "redis")]
impl Eq for Url {}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("in memory, and begins anew here"),
            #[cfg(feature = "usage-db")]
            Self::Db(path) => write!(f, "kept in {}", path.display()),
            #[cfg(feature = "redis")]
            Self::Redis(_) => f.write_str("kept in Redis"),
        }
    }
}

/// An account, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: KeyId,
    pub(super) book: Book,
    /// What of it was written before.
    pub(super) base: Book,
}

/// What keeps accounts. It is asked where it may block.
pub(super) trait Shelf: Send + fmt::Debug {
    /// Whether others write to it as well.
    fn is_shared(&self) -> bool {
        false
    }

    /// All that were written. Of a shelf that is shared, what was used in the day and the month of
    /// `today`.
    ///
    /// # Errors
    ///
    /// Why they cannot be read, in one line.
    fn load(&mut self, today: &Book) -> Result<Vec<Row>, String>;

    /// Writes these, all of them or none; what they are with what others have written, if others do.
    ///
    /// # Errors
    ///
    /// Why they cannot be written, in one line; they may be written another time.
    fn write(&mut self, rows: &[Row]) -> Result<Vec<Row>, String>;
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
            #[cfg(feature = "redis")]
            Keep::Redis(Url(url)) => {
                let shared = super::shared::Shared::new(secrecy::ExposeSecret::expose_secret(url))?;
                Self::on(Box::new(shared))
            }
        }
    }

    /// Those on `shelf`. One that is shared is read later: where it does not answer, a proxy begins all
    /// the same, as it does without its conversations.
    ///
    /// # Errors
    ///
    /// Those of its reading.
    #[cfg_attr(
        not(any(feature = "redis", feature = "usage-db", test)),
        allow(dead_code, reason = "there is no shelf")
    )]
    pub(super) fn on(mut shelf: Box<dyn Shelf>) -> Result<Self, String> {
        let gate = Self::default();
        if !shelf.is_shared() {
            for Row { id, book, .. } in shelf.load(&Book::default())? {
                lock(&gate.account(id).state).book = book;
            }
        }
        *lock(&gate.0.shelf) = Some(Arc::new(Mutex::new(shelf)));
        Ok(gate)
    }

    /// Writes what is new, again and again; ends at once where nothing is kept.
    pub(crate) async fn keep(&self) {
        let Some(shelf) = lock(&self.0.shelf).clone() else { return };
        let gate = self.clone();
        let read = tokio::task::spawn_blocking(move || gate.read_shared(&shelf)).await;
        if let Err(error) = read {
            tracing::error!(%error, "what was used could not be read");
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

    /// Takes in what others have written.
    fn read_shared(&self, shelf: &Shared) {
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.is_shared() {
            self.load_shared(&mut **shelf);
        }
    }

    fn load_shared(&self, shelf: &mut dyn Shelf) {
        let mut today = Book::default();
        today.roll(Timestamp::now());
        let read = shelf.load(&today);
        self.note(read.as_ref().err());
        for row in read.into_iter().flatten() {
            self.take_in(&row, None);
        }
    }

    /// Takes in what an account is with what others have written, and `written` from here; without a word
    /// on that, what was written before.
    fn take_in(&self, row: &Row, written: Option<&Book>) {
        #[cfg(feature = "redis")]
        {
            let account = self.account(row.id);
            let mut state = lock(&account.state);
            let new = state.book.without(written.unwrap_or(&state.base));
            state.book = row.book.and(&new);
            state.base = row.book;
        }
        #[cfg(not(feature = "redis"))]
        let _ = (row, written);
    }

    /// Notes whether what is used cannot be written.
    fn note(&self, error: Option<&String>) {
        let was_failing = self.0.is_failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            None if was_failing => tracing::info!("what is used can be written again"),
            Some(error) if !was_failing => tracing::error!(
                error,
                "what is used cannot be written; it is tried again, and would be lost with the \
                 process"
            ),
            _ => {}
        }
    }

    fn write(&self, shelf: &Shared) {
        // First this lock, so that nobody writes what is older over what is newer.
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_failing() && shelf.is_shared() {
            // Nobody may have anything to write who is refused for that.
            self.load_shared(&mut **shelf);
            if self.is_failing() {
                return;
            }
        }
        let rows = self.new_rows(shelf.is_shared(), Timestamp::now());
        if rows.is_empty() {
            return;
        }
        let written = shelf.write(&rows);
        let outcome = if written.is_ok() { "written" } else { "failed" };
        metrics::counter!("tower_qwen_proxy_usage_writes_total", "outcome" => outcome).increment(1);
        self.note(written.as_ref().err());
        match written {
            Ok(sums) => {
                for (sum, row) in sums.iter().zip(&rows) {
                    self.take_in(sum, Some(&row.book));
                }
            }
            Err(_) => {
                for row in &rows {
                    lock(&self.account(row.id).state).is_new = true;
                }
            }
        }
    }

    /// What was not written yet, which then counts as written; of a shelf that is `shared` also those who
    /// have asked, for whom others may have written something.
    fn new_rows(&self, shared: bool, now: Timestamp) -> Vec<Row> {
        let accounts: Vec<_> = lock(&self.0.accounts).values().cloned().collect();
        let new = accounts.iter().filter_map(|account| {
            let State { book, is_new, base, has_asked, .. } = &mut *lock(&account.state);
            let has_asked = std::mem::take(has_asked) && shared;
            (std::mem::take(is_new) || has_asked).then(|| {
                book.roll(now);
                Row { id: account.id, book: *book, base: *base }
            })
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
        fn load(&mut self, _: &Book) -> Result<Vec<Row>, String> {
            Ok(lock(&self.rows).clone())
        }

        fn write(&mut self, new: &[Row]) -> Result<Vec<Row>, String> {
            if self.is_full.load(Ordering::Relaxed) {
                return Err("no space left on device".to_owned());
            }
            *lock(&self.writes) += 1;
            let mut rows = lock(&self.rows);
            rows.retain(|row| new.iter().all(|other| other.id != row.id));
            rows.extend_from_slice(new);
            Ok(Vec::new())
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

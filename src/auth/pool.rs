use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    AccountState, Credential, CredentialProvider, OAuthFile, RefreshError, TokenClient,
    clock::{Clock, SharedClock},
    egress::Egress,
    refresh::{Account, Fitness, Lease, Settings},
};
use crate::{AccountName, Error, ErrorKind};

/// How early a credential is renewed (B4).
const MARGIN: Duration = Duration::from_secs(30);

/// The accounts that requests are sent with: one or several, each with its own credential.
///
/// A request whose conversation belongs to an account goes to that account. Others go to the
/// preferred account, or else to each in turn. Accounts that are out of quota or need somebody to
/// sign in are left out, those that were refused or asked to slow down come last.
///
/// Cheap to clone; clones share the accounts. So one pool can serve several layers, a health
/// page, and code that sends requests of its own ([`credential`](CredentialPool::credential)).
///
/// ```
/// use tower_qwen::auth::{AuthRefreshLayer, Credential, CredentialPool, StaticCredential};
///
/// let key = |key| Ok::<_, tower_qwen::auth::InvalidToken>(
///     StaticCredential::new(Credential::api_key(key)?)
/// );
/// let pool = CredentialPool::builder()
///     .account("work", key("sk-not-a-real-key")?)
///     .account("spare", key("sk-not-a-real-key-either")?)
///     .prefer("work")
///     .build()?;
/// let layer = AuthRefreshLayer::from_pool(pool.clone());
/// # let _ = layer;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CredentialPool {
    inner: Arc<Inner>,
}

struct Inner {
    accounts: Box<[Arc<Account>]>,
    preferred: Option<usize>,
    next: AtomicUsize,
    egress: Egress,
}

impl CredentialPool {
    /// A pool of one account, with the settings that [`builder`](CredentialPool::builder)
    /// begins with.
    pub fn new(name: &str, provider: impl CredentialProvider) -> Self {
        Self::builder().account(name, provider).build().expect("one account, and no other name")
    }

    /// Begins a pool without accounts.
    #[must_use]
    pub fn builder() -> CredentialPoolBuilder {
        CredentialPoolBuilder {
            accounts: Vec::new(),
            preferred: None,
            challenge_pause: Egress::PAUSE,
            settings: Settings {
                margin: MARGIN,
                ahead: Duration::ZERO,
                clock: SharedClock::SYSTEM,
            },
        }
    }

    /// How every account does, without any secret.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountState> {
        self.inner.accounts.iter().map(|account| account.snapshot()).collect()
    }

    /// Loads every account's credential now rather than with its first request, refreshes what
    /// has ended, and says how each did. For start-up checks and for lists of accounts.
    ///
    /// # Errors
    ///
    /// None of its own: an account that cannot be used is one with a bad
    /// [`status`](AccountState::status).
    pub async fn load(&self) -> Vec<AccountState> {
        let mut logins: Vec<Lease> = Vec::new();
        for account in &self.inner.accounts {
            // The failure is in the account's state, and in the log.
            let Ok(lease) = account.acquire().await else { continue };
            let token = lease.credential.refresh_token();
            let twin = logins
                .iter()
                .find(|other| token.is_some_and(|token| other.credential.has_refresh_token(token)));
            if let Some(twin) = twin {
                tracing::warn!(
                    first = %twin.account.name(), second = %account.name(),
                    "two accounts have the same login; its refresh token is good for one of them",
                );
            }
            logins.push(lease);
        }
        self.accounts()
    }

    /// A credential for a request that is not sent through the layer, such as one for the list
    /// of models. Refreshed if need be.
    ///
    /// # Errors
    ///
    /// As for a request through the layer: where nobody has signed in, where every account cools
    /// down, or where a refresh fails.
    pub async fn credential(&self) -> Result<Credential, Error> {
        match self.ready(None, |credential, _| credential.clone()) {
            Ok((_, credential)) => Ok(credential),
            Err(start) => Ok(self.lease(None, start, None).await?.credential),
        }
    }

    /// The same of account `name` and no other.
    ///
    /// # Errors
    ///
    /// As [`credential`](CredentialPool::credential), and [`ErrorKind::NotFound`] where there is
    /// no such account.
    pub async fn credential_of(&self, name: &str) -> Result<Credential, Error> {
        if self.find(name).is_none() {
            return Err(no_such_account());
        }
        match self.ready(Some(name), |credential, _| credential.clone()) {
            Ok((_, credential)) => Ok(credential),
            Err(start) => Ok(self.lease(Some(name), start, None).await?.credential),
        }
    }

    /// Refreshes the credential of account `name` now, whatever its expiry says (D11).
    ///
    /// # Errors
    ///
    /// The refresh's own, and [`ErrorKind::NotFound`] where there is no such account.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the refresh.
    pub async fn refresh(&self, name: &str) -> Result<Credential, Error> {
        let account = self.find(name).ok_or_else(no_such_account)?;
        match account.refresh_now().await {
            Ok(lease) => Ok(lease.credential),
            Err(error) => Err(error.into_error(name, None)),
        }
    }

    /// Waits until no refresh is in flight. Call it before the runtime ends: a refresh that is cut
    /// off may lose the only valid refresh token.
    ///
    /// # Cancel safety
    ///
    /// Safe; nothing is changed.
    pub async fn settled(&self) {
        for account in &self.inner.accounts {
            account.settled().await;
        }
    }

    /// The account of this name, if it is there and can be used now, as far as that is known.
    pub(super) fn fit(&self, name: &str) -> Option<&Arc<Account>> {
        self.find(name).filter(|account| account.fitness().0 <= Fitness::Doubtful)
    }

    fn find(&self, name: &str) -> Option<&Arc<Account>> {
        self.inner.accounts.iter().find(|account| account.name() == name)
    }

    /// The way out that all accounts share.
    #[inline]
    pub(super) fn egress(&self) -> &Egress {
        &self.inner.egress
    }

    /// The account at a place.
    pub(super) fn account(&self, at: usize) -> &Arc<Account> {
        &self.inner.accounts[at]
    }

    /// Uses a credential that costs no waiting, and says whose; or else where in the round the
    /// slow path shall begin. See [`Account::ready`].
    pub(super) fn ready<T>(
        &self,
        sticky: Option<&str>,
        with: impl FnOnce(&Credential, u64) -> T,
    ) -> Result<(&Account, T), usize> {
        let (at, account) = self.choose(sticky);
        let account = account.ok_or(at)?;
        let done = account.ready(with).ok_or(at)?;
        Ok((account, done))
    }

    /// The account to try first, and where in the round the slow path begins if it cannot be used
    /// at once.
    pub(super) fn choose(&self, sticky: Option<&str>) -> (usize, Option<&Arc<Account>>) {
        let accounts = &self.inner.accounts;
        match (sticky, self.inner.preferred) {
            (Some(name), _) => (0, self.find(name)),
            (None, _) if accounts.len() == 1 => (0, accounts.first()),
            (None, Some(preferred)) => (preferred, accounts.get(preferred)),
            (None, None) => {
                let at = self.inner.next.fetch_add(1, Ordering::Relaxed) % accounts.len();
                (at, accounts.get(at))
            }
        }
    }

    /// A lease, waiting for a load or refresh if need be. `sticky` is the only account that will
    /// do, `except` the one that will not.
    pub(super) async fn lease(
        &self,
        sticky: Option<&str>,
        start: usize,
        except: Option<&Account>,
    ) -> Result<Lease, Error> {
        let lease = match sticky {
            Some(name) => self.lease_of(name).await?,
            None => self.lease_of_any(start, except).await?,
        };
        lease.account.count_request();
        Ok(lease)
    }

    async fn lease_of(&self, name: &str) -> Result<Lease, Error> {
        let Some(account) = self.find(name) else {
            return Err(elsewhere("the conversation's account is no longer there"));
        };
        let error = match account.fitness() {
            (Fitness::Exhausted, until) => exhausted(account, until),
            _ => match account.acquire().await {
                Ok(lease) => return Ok(lease),
                Err(error) => error.into_error(name, None),
            },
        };
        if self.has_other(account) {
            // A refresh that fails for a moment is no reason to leave the conversation.
            if error.is_retryable() {
                return Err(error);
            }
            return Err(
                elsewhere("the conversation's account cannot be used now").with_source(error)
            );
        }
        Err(error)
    }

    async fn lease_of_any(&self, start: usize, except: Option<&Account>) -> Result<Lease, Error> {
        let accounts = &self.inner.accounts;
        let round = (0..accounts.len()).map(|step| (start + step) % accounts.len());
        let mut candidates: Vec<_> = self
            .inner
            .preferred
            .into_iter()
            .chain(round.filter(|at| Some(*at) != self.inner.preferred))
            .map(|at| &accounts[at])
            .filter(|account| !except.is_some_and(|except| std::ptr::eq(&***account, except)))
            .map(|account| (account.fitness(), account))
            .collect();
        // Stable: among equals the round decides.
        candidates.sort_by_key(|((fitness, _), _)| *fitness);

        let mut failure: Option<RefreshError> = None;
        let mut failed = None;
        let mut soonest: Option<(Option<Instant>, &Arc<Account>)> = None;
        for ((fitness, until), account) in candidates {
            if fitness == Fitness::Exhausted {
                if soonest.is_none_or(|(other, _)| until < other) {
                    soonest = Some((until, account));
                }
                continue;
            }
            match account.acquire().await {
                Ok(lease) => return Ok(lease),
                Err(error) => {
                    // What passes says more about when to come again than what does not.
                    if failure.as_ref().is_none_or(RefreshError::needs_sign_in) {
                        failure = Some(error);
                        failed = Some(account);
                    }
                }
            }
        }
        Err(match (failure, failed, soonest) {
            (Some(error), Some(account), _) if !error.needs_sign_in() => {
                error.into_error(account.name().as_str(), None)
            }
            (_, _, Some((until, account))) if accounts.len() == 1 => exhausted(account, until),
            (_, _, Some((until, _))) => {
                let error = Error::new(
                    ErrorKind::Overloaded,
                    "the quota of every upstream account is used up for now",
                );
                with_wait(error, until)
            }
            (Some(error), Some(account), None) => error.into_error(account.name().as_str(), None),
            _ => Error::new(ErrorKind::Overloaded, "there is no other upstream account"),
        })
    }

    /// Whether a request that is not bound to `account` would have another to go to.
    pub(super) fn has_other(&self, account: &Arc<Account>) -> bool {
        self.inner
            .accounts
            .iter()
            .filter(|other| !Arc::ptr_eq(other, account))
            .any(|other| other.fitness().0 <= Fitness::Doubtful)
    }

    /// Where the round goes on.
    pub(super) fn turn(&self) -> usize {
        self.inner.next.fetch_add(1, Ordering::Relaxed) % self.inner.accounts.len()
    }
}

/// The error that makes a session start a new chat, which may be another account's.
pub(super) fn elsewhere(message: &'static str) -> Error {
    Error::new(ErrorKind::AccountUnavailable, message)
}

fn no_such_account() -> Error {
    Error::new(ErrorKind::NotFound, "there is no account of this name")
}

fn exhausted(account: &Account, until: Option<Instant>) -> Error {
    let error = Error::new(
        ErrorKind::Quota,
        format!("the quota of the upstream account `{}` is used up for now", account.name()),
    );
    with_wait(error, until)
}

fn with_wait(error: Error, until: Option<Instant>) -> Error {
    match until {
        Some(until) => error.with_retry_after(until.saturating_duration_since(Instant::now())),
        None => error,
    }
}

impl fmt::Debug for CredentialPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.inner.accounts.iter().map(|account| account.name()).collect();
        f.debug_struct("CredentialPool")
            .field("accounts", &names)
            .field("preferred", &self.inner.preferred)
            .finish()
    }
}

/// Builds a [`CredentialPool`].
#[derive(Debug)]
pub struct CredentialPoolBuilder {
    accounts: Vec<(AccountName, Box<dyn CredentialProvider>)>,
    preferred: Option<String>,
    challenge_pause: Duration,
    settings: Settings,
}

impl CredentialPoolBuilder {
    /// Adds an account. Its name stands in logs, metrics and conversations.
    #[must_use]
    pub fn account(mut self, name: &str, provider: impl CredentialProvider) -> Self {
        self.accounts.push((AccountName::new(name), Box::new(provider)));
        self
    }

    /// Adds the login in each of `files`, named after the file (B4). See
    /// [`OAuthFile::discover`] for the files of a directory.
    #[must_use]
    pub fn files(mut self, files: impl IntoIterator<Item = PathBuf>, client: &TokenClient) -> Self {
        for file in files {
            let name = OAuthFile::account_name(&file);
            let provider =
                OAuthFile::new(file, client.clone()).with_shared_clock(self.settings.clock.clone());
            self = self.account(&name, provider);
        }
        self
    }

    /// Sends everything that is not bound to another account to this one, as long as it can be
    /// used.
    #[must_use]
    pub fn prefer(mut self, name: &str) -> Self {
        self.preferred = Some(name.to_owned());
        self
    }

    /// Renews a credential that ends within `margin`, before a request is sent with it; 30 s
    /// unless set (B4). Web sessions have 60 s at least (F1).
    #[must_use]
    pub fn margin(mut self, margin: Duration) -> Self {
        self.settings.margin = margin;
        self
    }

    /// Starts a refresh in the background when the credential comes within `ahead` of its
    /// margin, so that no request has to wait for one. The moment is random in the earlier half
    /// of that window, so that several processes do not come at once. Off unless set.
    ///
    /// Requests set it off; without any there is no refresh.
    #[must_use]
    pub fn refresh_ahead(mut self, ahead: Duration) -> Self {
        self.settings.ahead = ahead;
        self
    }

    /// Answers with an error at once, without asking the upstream, for this long after an
    /// anti-bot challenge, and twice as long after each one that follows directly, up to
    /// 15 minutes; 60 s unless set (G6: requests during that time prolong it). Zero turns it off.
    ///
    /// A challenge is a verdict about the way to the upstream and not about an account, so all
    /// layers over the pool pause.
    #[must_use]
    pub fn challenge_pause(mut self, pause: Duration) -> Self {
        self.challenge_pause = pause;
        self
    }

    /// Measures expiry with `clock`. Set it before [`files`](CredentialPoolBuilder::files).
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.settings.clock = SharedClock::new(clock);
        self
    }

    /// The pool. Nothing is read yet; see [`CredentialPool::load`].
    ///
    /// Counters are registered now: install the metrics recorder first.
    ///
    /// # Errors
    ///
    /// [`PoolError`], for what can only be a mistake.
    pub fn build(self) -> Result<CredentialPool, PoolError> {
        let Self { accounts, preferred, challenge_pause, settings } = self;
        if accounts.is_empty() {
            return Err(PoolError::Empty);
        }
        for (at, (name, _)) in accounts.iter().enumerate() {
            if accounts[..at].iter().any(|(other, _)| other == name) {
                return Err(PoolError::DuplicateName(name.clone()));
            }
        }
        let preferred = match preferred {
            None => None,
            Some(preferred) => Some(
                accounts
                    .iter()
                    .position(|(name, _)| name == preferred.as_str())
                    .ok_or_else(|| PoolError::UnknownPreferred(AccountName::new(preferred)))?,
            ),
        };
        let accounts = accounts
            .into_iter()
            .enumerate()
            .map(|(at, (name, provider))| {
                Arc::new(Account::new(at, name, provider, settings.clone()))
            })
            .collect();
        Ok(CredentialPool {
            inner: Arc::new(Inner {
                accounts,
                preferred,
                next: AtomicUsize::new(0),
                egress: Egress::new(challenge_pause),
            }),
        })
    }
}

/// Why a pool could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// It has no account.
    Empty,
    /// Two accounts have this name.
    DuplicateName(AccountName),
    /// No account has the preferred one's name.
    UnknownPreferred(AccountName),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no account"),
            Self::DuplicateName(name) => write!(f, "two accounts are named `{name}`"),
            Self::UnknownPreferred(name) => {
                write!(f, "the preferred account `{name}` is not among the accounts")
            }
        }
    }
}

impl std::error::Error for PoolError {}

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use super::{
    CredentialPool, CredentialProvider, OAuthFile, TokenClient,
    account::Settings,
    accounts::Accounts,
    clock::{Clock, SharedClock},
    driver::Driver,
    egress::Egress,
};
use crate::AccountName;

/// How early a credential is renewed.
const MARGIN: Duration = Duration::from_secs(30);

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
                reload_interval: None,
                is_refreshable: false,
            },
            clock: SharedClock::SYSTEM,
        }
    }
}

/// Builds a [`CredentialPool`].
#[derive(Debug)]
pub struct CredentialPoolBuilder {
    accounts: Vec<(AccountName, Box<dyn CredentialProvider>)>,
    preferred: Option<String>,
    challenge_pause: Duration,
    settings: Settings,
    clock: SharedClock,
}

impl CredentialPoolBuilder {
    /// Adds an account. Its name stands in logs, metrics and conversations.
    #[must_use]
    pub fn account(mut self, name: &str, provider: impl CredentialProvider) -> Self {
        self.accounts.push((AccountName::new(name), Box::new(provider)));
        self
    }

    /// Adds the login in each of `files`, named after the file. See
    /// [`OAuthFile::discover`] for the files of a directory.
    #[must_use]
    pub fn files(mut self, files: impl IntoIterator<Item = PathBuf>, client: &TokenClient) -> Self {
        for file in files {
            let name = OAuthFile::account_name(&file);
            let provider =
                OAuthFile::new(file, client.clone()).with_shared_clock(self.clock.clone());
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
    /// unless set. Web sessions have 60 s at least.
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
    /// 15 minutes; 60 s unless set. Requests during that time would prolong it. Zero turns it off.
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
        self.clock = SharedClock::new(clock);
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
        let Self { accounts, preferred, challenge_pause, settings, clock } = self;
        if accounts.is_empty() {
            return Err(PoolError::Empty);
        }
        for (at, (name, _)) in accounts.iter().enumerate() {
            if accounts[..at].iter().any(|(other, _)| other == name) {
                return Err(PoolError::DuplicateName(name.clone()));
            }
        }
        let place = |preferred: String| {
            let place = accounts.iter().position(|(name, _)| name == preferred.as_str());
            place.ok_or_else(|| PoolError::UnknownPreferred(AccountName::new(preferred)))
        };
        let preferred = preferred.map(place).transpose()?;
        let accounts = accounts
            .into_iter()
            .enumerate()
            .map(|(at, (name, provider))| {
                Arc::new(Driver::new(at, name, provider, settings.clone(), clock.clone()))
            })
            .collect();
        let (next, egress) = (AtomicUsize::new(0), Egress::new(challenge_pause));
        let accounts = Accounts { all: accounts, preferred, next, egress };
        Ok(CredentialPool { accounts: Arc::new(accounts) })
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

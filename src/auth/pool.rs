use std::{fmt, sync::Arc};

use super::{AccountState, Credential, accounts::Accounts, driver::Driver};
use crate::{Error, ErrorKind};

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
    pub(super) accounts: Arc<Accounts>,
}

impl CredentialPool {
    /// How every account does, without any secret.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountState> {
        self.accounts.all.iter().map(|account| account.snapshot()).collect()
    }

    /// Loads every account's credential now rather than with its first request, refreshes what
    /// has ended, and says how each did. For start-up checks and for lists of accounts.
    ///
    /// # Errors
    ///
    /// None of its own: an account that cannot be used is one with a bad
    /// [`status`](AccountState::status).
    pub async fn load(&self) -> Vec<AccountState> {
        let mut logins: Vec<(&Driver, Credential)> = Vec::new();
        for account in &self.accounts.all {
            // The failure is in the account's state, and in the log.
            let Ok(usable) = account.acquire().await else { continue };
            let credential = usable.credential;
            let twin = credential
                .refresh_token()
                .and_then(|token| logins.iter().find(|(_, other)| other.has_refresh_token(token)));
            if let Some((twin, _)) = twin {
                tracing::warn!(
                    first = %twin.name(), second = %account.name(),
                    "two accounts have the same login; its refresh token is good for one of them",
                );
            }
            logins.push((account, credential));
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
        self.accounts.credential(None).await
    }

    /// The same of account `name` and no other.
    ///
    /// # Errors
    ///
    /// As [`credential`](CredentialPool::credential), and [`ErrorKind::NotFound`] where there is
    /// no such account.
    pub async fn credential_of(&self, name: &str) -> Result<Credential, Error> {
        self.find(name)?;
        self.accounts.credential(Some(name)).await
    }

    /// Refreshes the credential of account `name` now, whatever its expiry says.
    ///
    /// # Errors
    ///
    /// The refresh's own, and [`ErrorKind::NotFound`] where there is no such account.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the refresh.
    pub async fn refresh(&self, name: &str) -> Result<Credential, Error> {
        let account = self.find(name)?;
        match account.refresh_now().await {
            Ok(usable) => Ok(usable.credential),
            Err(error) => Err(error.into_error(account.name())),
        }
    }

    /// Waits until no refresh is under way. Call it before the runtime ends: a refresh that is cut
    /// off may lose the only valid refresh token.
    ///
    /// # Cancel safety
    ///
    /// Safe; nothing is changed.
    pub async fn settled(&self) {
        for account in &self.accounts.all {
            account.settled().await;
        }
    }

    fn find(&self, name: &str) -> Result<&Arc<Driver>, Error> {
        match self.accounts.place(name) {
            Some(at) => Ok(self.accounts.at(at)),
            None => Err(Error::new(ErrorKind::NotFound, "there is no account of this name")),
        }
    }
}

impl fmt::Debug for CredentialPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.accounts.all.iter().map(|account| account.name()).collect();
        f.debug_struct("CredentialPool")
            .field("accounts", &names)
            .field("preferred", &self.accounts.preferred.map(|at| &names[at]))
            .finish()
    }
}

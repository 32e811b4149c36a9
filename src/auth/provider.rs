//! Where credentials come from.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use super::{Credential, RefreshError};

/// A boxed future, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where one account's credential lives and how it is renewed.
///
/// A provider only fetches; everything that makes that safe among many callers is the pool's:
/// it keeps the credential that a provider gave, asks for a new one ahead of expiry, never runs
/// two of a provider's futures at the same time, runs each to its end on a task of its own, and
/// backs off. So an implementation may be written as if it were alone in its process. It is not
/// alone in the world where its store is shared: see [`OAuthFile`](super::OAuthFile) for what that
/// takes.
///
/// ```
/// use tower_qwen::auth::{
///     BoxFuture, Credential, CredentialProvider, RefreshError, RefreshErrorKind, Renewal,
/// };
///
/// /// Asks a secret store whenever the old key is refused.
/// struct Vault;
///
/// impl CredentialProvider for Vault {
///     fn load(&self) -> BoxFuture<'_, Result<Credential, RefreshError>> {
///         Box::pin(async {
///             // … ask the store …
///             Credential::api_key("not-a-real-key").map_err(|error| {
///                 RefreshError::new(RefreshErrorKind::Endpoint, "the store gave no key")
///                     .with_source(error)
///             })
///         })
///     }
///
///     fn refresh(&self, _: Credential) -> BoxFuture<'_, Result<Renewal, RefreshError>> {
///         Box::pin(async { Ok(Renewal::granted(self.load().await?)) })
///     }
/// }
/// ```
pub trait CredentialProvider: Send + Sync + 'static {
    /// Reads the credential from where it lives.
    ///
    /// # Errors
    ///
    /// Where there is none, or where it cannot be read. The pool asks again after a back-off.
    fn load(&self) -> BoxFuture<'_, Result<Credential, RefreshError>>;

    /// A credential that is newer than `current`, which is about to end or was refused.
    ///
    /// Whatever must survive (a rotated refresh token) is stored before the future resolves.
    ///
    /// # Errors
    ///
    /// [`Rejected`](super::RefreshErrorKind::Rejected) is terminal: the pool does not ask again
    /// until [`reload`](CredentialProvider::reload) brings another credential. Others pass.
    fn refresh(&self, current: Credential) -> BoxFuture<'_, Result<Renewal, RefreshError>>;

    /// A credential that somebody else has put in the place of `current`, or `None`.
    ///
    /// The pool asks at most once in a [`reload_interval`](CredentialProvider::reload_interval),
    /// and only when requests come.
    ///
    /// # Errors
    ///
    /// They are logged, and count as `None`.
    fn reload(
        &self,
        current: Credential,
    ) -> BoxFuture<'_, Result<Option<Credential>, RefreshError>> {
        drop(current);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// How often to look for changes from outside; `None` where there can be none.
    fn reload_interval(&self) -> Option<Duration> {
        None
    }

    /// Whether [`refresh`](CredentialProvider::refresh) can ever succeed.
    fn is_refreshable(&self) -> bool {
        true
    }
}

impl fmt::Debug for dyn CredentialProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialProvider")
            .field("is_refreshable", &self.is_refreshable())
            .field("reload_interval", &self.reload_interval())
            .finish()
    }
}

/// What a refresh brought.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Renewal {
    /// The newer credential.
    pub credential: Credential,
    /// Whether it was found, since another process had refreshed already, rather than granted.
    pub adopted: bool,
}

impl Renewal {
    /// A credential that this refresh obtained.
    #[must_use]
    pub const fn granted(credential: Credential) -> Self {
        Self { credential, adopted: false }
    }

    /// A credential that somebody else obtained in the meantime.
    #[must_use]
    pub const fn adopted(credential: Credential) -> Self {
        Self { credential, adopted: true }
    }
}

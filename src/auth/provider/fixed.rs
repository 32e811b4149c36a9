use super::{BoxFuture, CredentialProvider, Renewal};
use crate::auth::{Credential, RefreshError, RefreshErrorKind};

/// A credential that is given once and never changes.
///
/// For API keys, and for web sessions that are pasted in. When it is refused there is nothing
/// to refresh: the request is passed on to another account, or its failure to the client.
///
/// ```
/// use tower_qwen::auth::{AuthRefreshLayer, Credential, StaticCredential};
///
/// let key = Credential::api_key("sk-not-a-real-key")?;
/// let layer = AuthRefreshLayer::new(StaticCredential::new(key));
/// # Ok::<_, tower_qwen::auth::InvalidToken>(())
/// ```
#[derive(Clone, Debug)]
pub struct StaticCredential(Credential);

impl StaticCredential {
    /// Gives out `credential`.
    #[must_use]
    pub const fn new(credential: Credential) -> Self {
        Self(credential)
    }
}

impl CredentialProvider for StaticCredential {
    fn load(&self) -> BoxFuture<'_, Result<Credential, RefreshError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }

    fn refresh(&self, _: Credential) -> BoxFuture<'_, Result<Renewal, RefreshError>> {
        Box::pin(std::future::ready(Err(not_refreshable())))
    }

    fn is_refreshable(&self) -> bool {
        false
    }
}

pub(super) fn not_refreshable() -> RefreshError {
    RefreshError::new(RefreshErrorKind::NoRefreshToken, "the credential cannot be refreshed")
}

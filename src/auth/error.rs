use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use super::InvalidToken;
use crate::{AccountName, BoxError, Error, ErrorKind};

/// Why a credential could not be loaded or refreshed.
///
/// Cheap to clone, since everyone who waited for one refresh gets its one error. Holds nothing
/// secret: of an endpoint's answer only its status and a known error code.
#[derive(Clone, Debug)]
pub struct RefreshError {
    kind: RefreshErrorKind,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The class of a [`RefreshError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefreshErrorKind {
    /// The refresh token is used up, revoked or unknown (`invalid_grant`). Terminal until
    /// someone signs in again.
    Rejected,
    /// There is nothing to refresh with.
    NoRefreshToken,
    /// There is no credential: nobody has signed in yet.
    Missing,
    /// Another process held the lock for too long. Passes by itself.
    LockTimeout,
    /// The credential's file could not be read or written.
    File,
    /// The endpoint could not be reached, or was too slow. Passes by itself.
    Network,
    /// The endpoint answered with a failure of its own or with nonsense. Passes by itself.
    Endpoint,
    /// The refresh ended without a result: its task panicked, or the runtime shut down.
    Aborted,
}

impl RefreshError {
    /// An error of class `kind`. Put nothing secret into the message.
    pub fn new(kind: RefreshErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), retry_after: None, source: None }
    }

    /// The same with a cause, which must not hold anything secret either.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The same with how long to wait before the next try.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// The class.
    #[must_use]
    pub fn kind(&self) -> RefreshErrorKind {
        self.kind
    }

    /// How long the endpoint asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether only a person can help: by signing in again.
    #[must_use]
    pub fn needs_sign_in(&self) -> bool {
        matches!(
            self.kind,
            RefreshErrorKind::Rejected
                | RefreshErrorKind::NoRefreshToken
                | RefreshErrorKind::Missing
        )
    }

    /// The error that a request gets which needed this refresh.
    pub(super) fn into_error(self, account: &AccountName) -> Error {
        let login = format!("the upstream login of account `{account}`");
        let (kind, message) = match self.kind {
            RefreshErrorKind::Missing => (
                ErrorKind::Auth,
                format!("there is no upstream login for account `{account}`: sign in first"),
            ),
            RefreshErrorKind::Rejected => {
                (ErrorKind::Auth, format!("{login} has ended: sign in again"))
            }
            RefreshErrorKind::NoRefreshToken => {
                (ErrorKind::Auth, format!("{login} cannot be refreshed: sign in again"))
            }
            _ => (ErrorKind::Upstream, format!("{login} could not be refreshed")),
        };
        let error = Error::new(kind, message);
        match self.retry_after {
            Some(wait) if !self.needs_sign_in() => error.with_retry_after(wait),
            _ => error,
        }
        .with_source(self)
    }
}

impl fmt::Display for RefreshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for RefreshError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<InvalidToken> for RefreshError {
    fn from(error: InvalidToken) -> Self {
        Self::new(RefreshErrorKind::Endpoint, "the credential is not usable").with_source(error)
    }
}

pub(super) fn not_refreshable() -> RefreshError {
    RefreshError::new(RefreshErrorKind::NoRefreshToken, "the credential cannot be refreshed")
}

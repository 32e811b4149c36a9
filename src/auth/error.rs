use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::{BoxError, Error, ErrorKind};

/// Why a credential could not be loaded or refreshed (B3, B5).
///
/// Cheap to clone, since everyone who waited for one refresh gets its one error. Holds nothing
/// secret: of an endpoint's answer only its status and a known error code.
#[derive(Clone)]
pub struct RefreshError {
    inner: Arc<Inner>,
}

struct Inner {
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
        Self::build(kind, message.into(), None, None)
    }

    fn build(
        kind: RefreshErrorKind,
        message: Cow<'static, str>,
        retry_after: Option<Duration>,
        source: Option<Arc<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { inner: Arc::new(Inner { kind, message, retry_after, source }) }
    }

    /// The same with a cause, which must not hold anything secret either.
    #[must_use]
    pub fn with_source(self, source: impl Into<BoxError>) -> Self {
        let Inner { kind, message, retry_after, .. } = &*self.inner;
        Self::build(*kind, message.clone(), *retry_after, Some(Arc::from(source.into())))
    }

    /// The same with how long to wait before the next try.
    #[must_use]
    pub fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        let Inner { kind, message, source, .. } = &*self.inner;
        Self::build(*kind, message.clone(), retry_after, source.clone())
    }

    /// The class.
    #[must_use]
    pub fn kind(&self) -> RefreshErrorKind {
        self.inner.kind
    }

    /// How long the endpoint asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// Whether only a person can help: by signing in again.
    #[must_use]
    pub fn needs_sign_in(&self) -> bool {
        matches!(
            self.inner.kind,
            RefreshErrorKind::Rejected
                | RefreshErrorKind::NoRefreshToken
                | RefreshErrorKind::Missing
        )
    }

    /// The error that a request gets which needed this refresh.
    pub(super) fn into_error(self, account: &str, wait: Option<Duration>) -> Error {
        let wait = wait.or(self.retry_after());
        let error = match self.kind() {
            RefreshErrorKind::Missing => Error::new(
                ErrorKind::Auth,
                format!("there is no upstream login for account `{account}`: sign in first"),
            ),
            RefreshErrorKind::Rejected => Error::new(
                ErrorKind::Auth,
                format!("the upstream login of account `{account}` has ended: sign in again"),
            ),
            RefreshErrorKind::NoRefreshToken => Error::new(
                ErrorKind::Auth,
                format!(
                    "the upstream login of account `{account}` cannot be refreshed: sign in again"
                ),
            ),
            _ => Error::new(
                ErrorKind::Upstream,
                format!("the upstream login of account `{account}` could not be refreshed"),
            ),
        };
        match wait {
            Some(wait) if !self.needs_sign_in() => error.with_retry_after(wait),
            _ => error,
        }
        .with_source(self)
    }
}

impl fmt::Display for RefreshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for RefreshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RefreshError");
        debug.field("kind", &self.inner.kind).field("message", &self.inner.message);
        if let Some(source) = &self.inner.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for RefreshError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

//! The one error type of the chat stack.

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use http::StatusCode;

use crate::BoxError;

mod boxed;

#[cfg(feature = "auth")]
pub(crate) use self::boxed::causes;

/// What went wrong between a chat request and the end of its answer.
///
/// The type is opaque: ask it with the `is_*` predicates what a layer may do about it, and with
/// [`status`](Error::status), [`code`](Error::code) and [`param`](Error::param) what a client
/// should be told. [`Display`](fmt::Display) says one level; the levels below are behind
/// [`source`](StdError::source).
///
/// Neither `Display` nor `Debug` ever holds a credential: adapters put only the upstream's
/// `code` and its redacted message into an error, never headers, cookies or bodies.
///
/// ```
/// use tower_qwen::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Quota, "the daily limit is used up")
///     .with_retry_after(std::time::Duration::from_secs(3600));
/// assert!(error.is_quota() && !error.is_retryable());
/// assert_eq!(error.status(), http::StatusCode::TOO_MANY_REQUESTS);
/// ```
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    status: Option<StatusCode>,
    code: Option<Cow<'static, str>>,
    param: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    fate: Fate,
    source: Option<BoxError>,
}

/// What became of a request that failed, as far as whoever noticed can tell: what a layer needs to
/// know that would send it once more.
///
/// It is beside the [`ErrorKind`], since a kind says what went wrong and not how far the request
/// got. A time-out, say, is of the same kind whether the upstream said so and is done with the
/// request, or a limit on this side ran out and the upstream still works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// Nobody knows: the connection broke while the upstream was at work, for instance.
    #[default]
    Unknown,
    /// Nothing of it was sent: the upstream could not be reached.
    Unsent,
    /// The upstream has answered that it failed, and is done with it.
    Refused,
    /// A limit of time on this side ran out. The upstream may still be at work on the request, and
    /// may have it paid for, so nothing sends it again by itself.
    Abandoned,
}

/// The class of an [`Error`]: what it means for whoever may retry, refresh, rotate or report.
///
/// Each class has one HTTP status, OpenAI `type` and `code`, which a client sees: they are in [this
/// table][errors].
///
/// [errors]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#d4
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client's request is malformed or asks for what does not exist. Never retried.
    InvalidRequest,
    /// The prompt is longer than the model takes. Never retried.
    ContextLength,
    /// A content filter refused the prompt or the answer. Never retried.
    ContentFilter,
    /// The body is larger than the configured limit.
    TooLarge,
    /// The request's media type is not one the edge reads.
    UnsupportedMediaType,
    /// The request's method is not one the edge serves.
    MethodNotAllowed,
    /// A credential is missing, expired or revoked.
    Auth,
    /// The credential is valid and not allowed to do this.
    Permission,
    /// The model is unknown.
    ModelNotFound,
    /// Something else that was asked for is unknown.
    NotFound,
    /// Upstream no longer knows the conversation or the message to go on from.
    ConversationLost,
    /// The account that the conversation belongs to cannot be used now, and another can. The
    /// conversation is not lost: it can go on when its account is back.
    AccountUnavailable,
    /// Upstream is still answering another turn of this conversation.
    ConversationBusy,
    /// Too many requests or tokens in a short time; the same account may try again.
    RateLimited,
    /// The account's quota is used up; another account may try.
    Quota,
    /// The account's quota of this model is used up. Another account may try, and so may this one with
    /// another model.
    ModelQuota,
    /// A defect on this side.
    Internal,
    /// What the request asks for is not offered by this upstream.
    Unsupported,
    /// The upstream could not be reached, failed, or answered nonsense.
    Upstream,
    /// The upstream's stream ended without its terminal marker.
    Truncated,
    /// An anti-bot layer answered in the upstream's place.
    Challenge,
    /// The upstream, or every account for it, is overloaded or cooling down.
    Overloaded,
    /// The upstream was too slow.
    Timeout,
}

impl ErrorKind {
    /// The HTTP status that a client gets for this class.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest | Self::ContextLength | Self::ContentFilter => {
                StatusCode::BAD_REQUEST
            }
            Self::Auth => StatusCode::UNAUTHORIZED,
            Self::Permission => StatusCode::FORBIDDEN,
            Self::ModelNotFound
            | Self::NotFound
            | Self::ConversationLost
            | Self::AccountUnavailable => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited | Self::Quota | Self::ModelQuota => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Self::Upstream | Self::Truncated => StatusCode::BAD_GATEWAY,
            // 409 would be repeated by both official SDKs at once, 503 is repeated as well but
            // says whose fault it is.
            Self::ConversationBusy | Self::Challenge | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl Error {
    /// An error of class `kind` with a message for the client: what is wrong, where, and what to
    /// do about it. Put nothing secret into it.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                message: message.into(),
                status: None,
                code: None,
                param: None,
                retry_after: None,
                fate: Fate::Unknown,
                source: None,
            }),
        }
    }

    /// A request error that names the field at fault, as `messages[0].role`.
    pub fn invalid(
        param: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(ErrorKind::InvalidRequest, message).with_param(param)
    }

    /// Overrides the status that [`ErrorKind::status`] gives.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.inner.status = Some(status);
        self
    }

    /// Sets the machine-readable code, such as an upstream's own.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.inner.code = Some(code.into());
        self
    }

    /// Names the request field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.inner.param = Some(param.into());
        self
    }

    /// Says how long to wait before another try.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.inner.retry_after = Some(retry_after);
        self
    }

    /// Says what became of the request. Default: [`Fate::Unknown`].
    #[must_use]
    pub fn with_fate(mut self, fate: Fate) -> Self {
        self.inner.fate = fate;
        self
    }

    /// Keeps the cause. It is shown by error reporters that walk [`StdError::source`], and in
    /// `Debug`; so it must not hold anything secret either.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// The class of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The message, without the causes below it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The HTTP status for the client.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.inner.status.unwrap_or(self.inner.kind.status())
    }

    /// The machine-readable code, if the upstream or the failing layer gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.inner.code.as_deref()
    }

    /// The request field at fault.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.inner.param.as_deref()
    }

    /// How long to wait before another try, if known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// What became of the request, as far as that is known.
    #[must_use]
    pub fn fate(&self) -> Fate {
        self.inner.fate
    }

    /// A credential is missing, expired or revoked: refreshing it may help.
    #[must_use]
    pub fn is_auth(&self) -> bool {
        self.inner.kind == ErrorKind::Auth
    }

    /// The account's quota is used up, of all models or of this one: another account may help.
    #[must_use]
    pub fn is_quota(&self) -> bool {
        matches!(self.inner.kind, ErrorKind::Quota | ErrorKind::ModelQuota)
    }

    /// Too much in a short time: waiting helps.
    #[must_use]
    pub fn is_rate_limited(&self) -> bool {
        self.inner.kind == ErrorKind::RateLimited
    }

    /// The upstream was too slow. A matter of capacity, not of the credential.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.inner.kind == ErrorKind::Timeout
    }

    /// An anti-bot layer answered: no refresh, no rotation and no retry helps.
    #[must_use]
    pub fn is_challenge(&self) -> bool {
        self.inner.kind == ErrorKind::Challenge
    }

    /// The conversation is gone: a new one with the whole history replayed helps.
    #[must_use]
    pub fn is_conversation_lost(&self) -> bool {
        self.inner.kind == ErrorKind::ConversationLost
    }

    /// The conversation's account cannot be used now, and another can: replaying the history into
    /// a new chat may help, and forgetting the old one would be wrong.
    #[must_use]
    pub fn is_account_unavailable(&self) -> bool {
        self.inner.kind == ErrorKind::AccountUnavailable
    }

    /// Another turn of the conversation is still running: waiting a few seconds helps.
    #[must_use]
    pub fn is_conversation_busy(&self) -> bool {
        self.inner.kind == ErrorKind::ConversationBusy
    }

    /// Whether the same request, unchanged, may succeed a little later.
    ///
    /// This is about the error alone. Whether a retry is *allowed* is decided by the commit
    /// point: after the first event nothing is retried.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.inner.kind,
            ErrorKind::RateLimited
                | ErrorKind::ConversationBusy
                | ErrorKind::Upstream
                | ErrorKind::Truncated
                | ErrorKind::Overloaded
                | ErrorKind::Timeout
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &inner.kind).field("message", &inner.message);
        if let Some(status) = &inner.status {
            debug.field("status", status);
        }
        if let Some(code) = &inner.code {
            debug.field("code", code);
        }
        if let Some(param) = &inner.param {
            debug.field("param", param);
        }
        if let Some(retry_after) = &inner.retry_after {
            debug.field("retry_after", retry_after);
        }
        if inner.fate != Fate::Unknown {
            debug.field("fate", &inner.fate);
        }
        if let Some(source) = &inner.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn display_says_one_level_and_source_the_next() {
        let error = Error::new(ErrorKind::Upstream, "the upstream could not be reached")
            .with_source(std::io::Error::other("connection refused"));
        assert_eq!(error.to_string(), "the upstream could not be reached");
        assert_eq!(error.source().expect("kept").to_string(), "connection refused");
    }

    #[test]
    fn challenge_is_neither_auth_nor_retryable() {
        let error = Error::new(ErrorKind::Challenge, "a challenge page");
        assert!(error.is_challenge() && !error.is_auth() && !error.is_retryable());
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn a_status_can_be_overridden() {
        let error = Error::new(ErrorKind::Upstream, "x").with_status(StatusCode::IM_A_TEAPOT);
        assert_eq!(error.status(), StatusCode::IM_A_TEAPOT);
    }
}

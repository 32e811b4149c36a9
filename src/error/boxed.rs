//! What boxed errors are, as one of ours.

use std::{convert::Infallible, error::Error as StdError, io};

use super::{Error, ErrorKind, Fate, Inner};
use crate::BoxError;

impl Error {
    /// The error as one of ours. The first of these that holds decides:
    ///
    /// - one of ours is taken out as it is; where another error holds it, however deep, what it
    ///   says is said again, with the other as the source;
    /// - tower's `Elapsed` and an I/O error that is a time-out are a [`Timeout`], and the request is
    ///   [abandoned](Fate::Abandoned); tower's `Overloaded` is an [`Overloaded`], and an I/O error of a
    ///   connection that was refused an upstream's: nothing was [sent](Fate::Unsent);
    /// - all else is an error of class `otherwise` with this message.
    ///
    /// [`Timeout`]: ErrorKind::Timeout
    /// [`Overloaded`]: ErrorKind::Overloaded
    pub(crate) fn from_boxed(error: BoxError, otherwise: ErrorKind, message: &'static str) -> Self {
        Self::own_in(error).unwrap_or_else(|error| {
            let known = causes(&*error).find_map(known);
            let (kind, fate, message) = known.unwrap_or((otherwise, Fate::Unknown, message));
            Self::new(kind, message).with_fate(fate).with_source(error)
        })
    }

    /// One of ours that `error` is or holds.
    ///
    /// # Errors
    ///
    /// `error`, where there is none.
    pub(crate) fn own_in(error: BoxError) -> Result<Self, BoxError> {
        let error = match error.downcast::<Self>() {
            Ok(own) => return Ok(*own),
            Err(error) => error,
        };
        let own = causes(&*error).find_map(|cause| cause.downcast_ref::<Self>());
        let own = own.map(Self::said_again);
        match own {
            Some(own) => Ok(own.with_source(error)),
            None => Err(error),
        }
    }

    /// The same words, without the source.
    pub(crate) fn said_again(&self) -> Self {
        let Inner { kind, message, status, code, param, retry_after, fate, source: _ } =
            &*self.inner;
        Self {
            inner: Box::new(Inner {
                kind: *kind,
                message: message.clone(),
                status: *status,
                code: code.clone(),
                param: param.clone(),
                retry_after: *retry_after,
                fate: *fate,
                source: None,
            }),
        }
    }
}

/// The error and its causes, outermost first.
pub(crate) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // An `io::Error` passes over the error that it was made of when asked for its source.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as _),
            None => error.source(),
        }
    })
}

/// What errors of others are known to mean.
fn known(cause: &(dyn StdError + 'static)) -> Option<(ErrorKind, Fate, &'static str)> {
    #[cfg(feature = "chat")]
    {
        if cause.is::<tower::timeout::error::Elapsed>() {
            let message = "the answer did not begin within the time limit";
            return Some((ErrorKind::Timeout, Fate::Abandoned, message));
        }
        if cause.is::<tower::load_shed::error::Overloaded>() {
            let message = "too much is being done already; try again later";
            return Some((ErrorKind::Overloaded, Fate::Unsent, message));
        }
    }
    let io = cause.downcast_ref::<io::Error>()?;
    match io.kind() {
        io::ErrorKind::TimedOut => {
            Some((ErrorKind::Timeout, Fate::Abandoned, "the upstream was too slow"))
        }
        // Only whoever connects is told so.
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => {
            Some((ErrorKind::Upstream, Fate::Unsent, "the upstream could not be reached"))
        }
        _ => None,
    }
}

/// Layers of tower and of others give boxed errors; with this they stand between any two layers
/// of this crate.
///
/// One of ours that was boxed comes out as it was; one that another error holds gives its class,
/// its words and what else it says, with the other error as its source. tower's `Elapsed` is a
/// [`Timeout`](ErrorKind::Timeout), its `Overloaded` an [`Overloaded`](ErrorKind::Overloaded), and
/// what is not known an [`Internal`](ErrorKind::Internal).
///
/// ```
/// use tower_qwen::{BoxError, Error, ErrorKind};
///
/// let boxed: BoxError = Error::new(ErrorKind::Quota, "the daily limit is used up").into();
/// assert!(Error::from(boxed).is_quota());
/// let foreign: BoxError = "the disk is full".into();
/// assert_eq!(Error::from(foreign).kind(), ErrorKind::Internal);
/// ```
impl From<BoxError> for Error {
    fn from(error: BoxError) -> Self {
        Self::from_boxed(error, ErrorKind::Internal, "a layer on the way to the upstream failed")
    }
}

/// For services that do not fail.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt, time::Duration};

    use super::*;

    #[derive(Debug)]
    struct Wrapper(BoxError);

    impl fmt::Display for Wrapper {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }

    impl StdError for Wrapper {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&*self.0)
        }
    }

    fn own() -> Error {
        Error::new(ErrorKind::RateLimited, "slow down")
            .with_status(http::StatusCode::IM_A_TEAPOT)
            .with_code("c")
            .with_param("p")
            .with_retry_after(Duration::from_secs(3))
            .with_fate(Fate::Refused)
    }

    #[test]
    fn one_of_ours_is_found_however_deep_and_says_all_it_said() {
        for boxed in [
            BoxError::from(own()),
            Wrapper(own().into()).into(),
            Wrapper(Wrapper(own().into()).into()).into(),
            io::Error::other(own()).into(),
            // Ours wins over what is known of others.
            Wrapper(own().with_source(io::Error::from(io::ErrorKind::TimedOut)).into()).into(),
        ] {
            let error = Error::from(boxed);
            assert_eq!((error.kind(), error.message()), (ErrorKind::RateLimited, "slow down"));
            assert_eq!((error.code(), error.param()), (Some("c"), Some("p")));
            assert_eq!(error.status(), http::StatusCode::IM_A_TEAPOT);
            assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
            assert_eq!(error.fate(), Fate::Refused);
        }
        let wrapped = Error::from(BoxError::from(Wrapper(own().into())));
        assert_eq!(wrapped.source().expect("the wrapper").to_string(), "wrapped");
    }

    #[test]
    fn errors_of_others_are_what_they_are_known_for() {
        let timed_out = || BoxError::from(io::Error::from(io::ErrorKind::TimedOut));
        assert!(Error::from(timed_out()).is_timeout());
        assert_eq!(Error::from(timed_out()).fate(), Fate::Abandoned);
        assert!(Error::from(BoxError::from(Wrapper(timed_out()))).is_timeout());
        let other = Error::from(BoxError::from("else"));
        assert_eq!(other.kind(), ErrorKind::Internal);
        assert_eq!(other.source().expect("kept").to_string(), "else");
        let refused = BoxError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        let refused = Error::from(BoxError::from(Wrapper(refused)));
        assert_eq!((refused.kind(), refused.fate()), (ErrorKind::Upstream, Fate::Unsent));
        let upstream = Error::from_boxed("else".into(), ErrorKind::Upstream, "out of reach");
        assert_eq!((upstream.kind(), upstream.message()), (ErrorKind::Upstream, "out of reach"));
    }

    #[cfg(feature = "chat")]
    #[test]
    fn towers_errors_are_known() {
        let elapsed = BoxError::from(tower::timeout::error::Elapsed::new());
        let elapsed = Error::from(elapsed);
        assert!(elapsed.is_timeout());
        assert_eq!(elapsed.fate(), Fate::Abandoned);
        assert_eq!(elapsed.status(), http::StatusCode::GATEWAY_TIMEOUT);
        let shed = Error::from(BoxError::from(tower::load_shed::error::Overloaded::new()));
        assert_eq!((shed.kind(), shed.is_retryable()), (ErrorKind::Overloaded, true));
        assert_eq!(shed.fate(), Fate::Unsent);
    }
}

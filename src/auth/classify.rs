use std::{
    any::Any,
    error::Error as StdError,
    time::{Duration, SystemTime},
};

use http::{Response, StatusCode, header};

use crate::{
    Error, ErrorKind, Fate,
    error::causes,
    head::{effective_status, is_sent_to_sign_in},
    retry_after::retry_after,
};

/// What a request's outcome means for its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The upstream let the request in.
    Accepted,
    /// The credential was refused: refresh once, retry once.
    Refused,
    /// The account's quota is used up: cool it down, rotate at once.
    Quota {
        /// For how long, where the upstream says.
        retry_after: Option<Duration>,
    },
    /// The account's quota of the model that was asked is used up: rotate at once, and leave the
    /// account as it is for other models.
    ModelQuota,
    /// Too much in a short time: prefer other accounts for a while.
    RateLimited {
        /// For how long, where the upstream says.
        retry_after: Option<Duration>,
    },
    /// The upstream said that it was too slow, and is done with the request: retry once. Where a limit
    /// on this side ran out it may still be at work ([`Fate::Abandoned`]) or was never reached
    /// ([`Fate::Unsent`]), and that is [`Other`](Self::Other).
    Timeout,
    /// An anti-bot layer answered: leave it alone.
    Challenge,
    /// Nothing that is about the credential. Passed on.
    Other,
}

/// Tells what the outcome of a request means for its credential.
///
/// Only the head of a response is looked at: when the layer passes a response on, its body is
/// untouched. An upstream that says in the body that it refuses needs an adapter below the layer
/// that turns such an answer into an `Err`, as those of this crate do.
///
/// ```
/// use http::Response;
/// use tower_qwen::auth::{Classify, DefaultClassify, Outcome};
///
/// /// As usual, but this upstream says 419 to ended tokens.
/// #[derive(Clone)]
/// struct Teapot;
///
/// impl<B, E: 'static> Classify<B, E> for Teapot {
///     fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
///         match result {
///             Ok(response) if response.status() == 419 => Outcome::Refused,
///             _ => DefaultClassify.classify(result),
///         }
///     }
/// }
/// ```
pub trait Classify<B, E> {
    /// What `result` means.
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome;
}

/// The usual classification.
///
/// - An error that is a [`tower_qwen::Error`](crate::Error), or has one among its boxes and
///   sources, is what its predicates say; its `retry_after` is honoured.
/// - Any other error is [`Outcome::Other`].
/// - A response is what its status says, `x-actual-status-code` before HTTP's own: 401 and
///   403 are refusals, 429 a rate limit, 504 a timeout, 2xx accepted. A page of HTML with 403 or
///   405 is an anti-bot layer's, since APIs answer with JSON. A redirect to a page where people
///   sign in is a refusal; any other says nothing about the credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is a value to hand over, and what it decides has no settings"
)]
pub struct DefaultClassify;

impl<B, E: 'static> Classify<B, E> for DefaultClassify {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) => of_response(response),
            Err(error) => find(error).map_or(Outcome::Other, of_error),
        }
    }
}

fn of_error(error: &Error) -> Outcome {
    let retry_after = error.retry_after();
    if error.is_auth() {
        Outcome::Refused
    } else if error.kind() == ErrorKind::ModelQuota {
        Outcome::ModelQuota
    } else if error.is_quota() {
        Outcome::Quota { retry_after }
    } else if error.is_rate_limited() {
        Outcome::RateLimited { retry_after }
    } else if error.is_timeout() && !matches!(error.fate(), Fate::Abandoned | Fate::Unsent) {
        Outcome::Timeout
    } else if error.is_challenge() {
        Outcome::Challenge
    } else {
        Outcome::Other
    }
}

fn of_response<B>(response: &Response<B>) -> Outcome {
    let headers = response.headers();
    let status = effective_status(headers, response.status());
    let is_page = || {
        headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/html"))
    };
    match status {
        StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED if is_page() => Outcome::Challenge,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::Refused,
        StatusCode::TOO_MANY_REQUESTS => {
            Outcome::RateLimited { retry_after: retry_after(headers, SystemTime::now()) }
        }
        StatusCode::GATEWAY_TIMEOUT => Outcome::Timeout,
        status if is_sent_to_sign_in(status, headers) => Outcome::Refused,
        status if status.is_success() => Outcome::Accepted,
        _ => Outcome::Other,
    }
}

/// The crate's error in `error`: itself, in a box, or among the sources.
fn find<E: 'static>(error: &E) -> Option<&Error> {
    let error: &dyn Any = error;
    if let Some(error) = error.downcast_ref::<Error>() {
        return Some(error);
    }
    let boxed = error.downcast_ref::<Box<dyn StdError + Send + Sync>>()?;
    causes(&**boxed).find_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BoxError;

    fn of(status: u16, headers: &[(&'static str, &'static str)]) -> Outcome {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response.body(()).expect("a response");
        Classify::<(), Error>::classify(&DefaultClassify, Ok(&response))
    }

    #[test]
    fn statuses_are_told_apart() {
        assert_eq!(of(200, &[]), Outcome::Accepted);
        assert_eq!(of(401, &[]), Outcome::Refused);
        assert_eq!(of(401, &[("content-type", "text/html")]), Outcome::Refused);
        assert_eq!(of(403, &[("content-type", "application/json")]), Outcome::Refused);
        assert_eq!(of(403, &[("content-type", "Text/HTML; charset=utf-8")]), Outcome::Challenge);
        assert_eq!(of(405, &[("content-type", "text/html")]), Outcome::Challenge);
        assert_eq!(of(504, &[]), Outcome::Timeout);
        assert_eq!(of(204, &[]), Outcome::Accepted);
        for target in ["/auth?redirect=%2Fapi", "https://chat.qwen.ai/login", "/user/signin"] {
            for status in [301, 302, 303, 307, 308] {
                assert_eq!(of(status, &[("location", target)]), Outcome::Refused, "{target}");
            }
        }
        for target in ["/", "https://chat.qwen.ai/authors", "/api/v2/models?auth=1"] {
            assert_eq!(of(302, &[("location", target)]), Outcome::Other, "{target}");
        }
        assert_eq!(of(200, &[("location", "/login")]), Outcome::Accepted);
        for status in [302, 304, 400, 404, 413, 422, 500, 502, 503] {
            assert_eq!(of(status, &[]), Outcome::Other, "{status}");
        }
        let limited = |seconds| Outcome::RateLimited { retry_after: Some(seconds) };
        assert_eq!(of(429, &[("retry-after", "9")]), limited(Duration::from_secs(9)));
        let both = [("retry-after", "9"), ("retry-after-ms", "1500")];
        assert_eq!(of(429, &both), limited(Duration::from_millis(1500)));
        let soon = of(429, &[("retry-after", "soon")]);
        assert_eq!(soon, Outcome::RateLimited { retry_after: None });
        let over = [("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")];
        assert_eq!(of(429, &over), limited(Duration::ZERO));
    }

    #[test]
    fn the_actual_status_counts() {
        assert_eq!(of(200, &[("x-actual-status-code", "401")]), Outcome::Refused);
        assert_eq!(of(200, &[("x-actual-status-code", "nonsense")]), Outcome::Accepted);
        assert_eq!(of(504, &[("x-actual-status-code", "200")]), Outcome::Accepted);
    }

    #[test]
    fn the_crates_error_is_found_wherever_it_is() {
        let error = || Error::new(ErrorKind::Auth, "ended");
        assert_eq!(
            Classify::<(), Error>::classify(&DefaultClassify, Err(&error())),
            Outcome::Refused
        );
        let boxed: BoxError = error().into();
        assert_eq!(
            Classify::<(), BoxError>::classify(&DefaultClassify, Err(&boxed)),
            Outcome::Refused
        );
        let deep: BoxError = std::io::Error::other(error()).into();
        assert_eq!(
            Classify::<(), BoxError>::classify(&DefaultClassify, Err(&deep)),
            Outcome::Refused,
            "an io error that was made of it",
        );
        let deep: BoxError = Error::new(ErrorKind::Upstream, "outer").with_source(error()).into();
        assert_eq!(
            Classify::<(), BoxError>::classify(&DefaultClassify, Err(&deep)),
            Outcome::Other,
            "the outermost error of the crate decides",
        );
        assert_eq!(
            Classify::<(), std::fmt::Error>::classify(&DefaultClassify, Err(&std::fmt::Error)),
            Outcome::Other
        );
    }

    #[test]
    fn every_class_of_error_is_what_it_says() {
        let wait = Some(Duration::from_secs(3600));
        for (kind, expected) in [
            (ErrorKind::Quota, Outcome::Quota { retry_after: wait }),
            (ErrorKind::ModelQuota, Outcome::ModelQuota),
            (ErrorKind::RateLimited, Outcome::RateLimited { retry_after: wait }),
            (ErrorKind::Timeout, Outcome::Timeout),
            (ErrorKind::Challenge, Outcome::Challenge),
            (ErrorKind::Permission, Outcome::Other),
            (ErrorKind::ConversationLost, Outcome::Other),
            (ErrorKind::Upstream, Outcome::Other),
            (ErrorKind::Truncated, Outcome::Other),
        ] {
            let error = Error::new(kind, "x").with_retry_after(Duration::from_secs(3600));
            let outcome = Classify::<(), Error>::classify(&DefaultClassify, Err(&error));
            assert_eq!(outcome, expected);
        }
        for (fate, expected) in [
            (Fate::Unknown, Outcome::Timeout),
            (Fate::Refused, Outcome::Timeout),
            (Fate::Unsent, Outcome::Other),
            (Fate::Abandoned, Outcome::Other),
        ] {
            let error = Error::new(ErrorKind::Timeout, "x").with_fate(fate);
            let outcome = Classify::<(), Error>::classify(&DefaultClassify, Err(&error));
            assert_eq!(outcome, expected, "{fate:?}");
        }
    }
}

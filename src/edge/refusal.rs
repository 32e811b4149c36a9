//! The response that tells of an error before anything else was sent, but for its body.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING,
    },
};

use crate::Error;

const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The response of `error`, whose body `write` appends.
///
/// OpenAI's and Anthropic's SDKs repeat 408, 409, 429 and 5xx by themselves, and Claude Code does
/// so with 401 too. Where a repetition cannot help, `x-should-retry: false` asks them not to.
pub(crate) fn refuse(error: &Error, write: impl Fn(&mut BytesMut, &Error)) -> Response<Bytes> {
    let mut body = BytesMut::new();
    write(&mut body, error);
    let mut response = Response::new(body.freeze());
    let status = error.status();
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = error.retry_after() {
        headers.insert(RETRY_AFTER, seconds(wait).into());
    }
    if is_repeated(status) && !error.is_retryable() {
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    response
}

/// The same from an edge, which serves POST alone, as a 405 has to say (RFC 9110 15.5.6).
pub(crate) fn of_edge(mut response: Response<Bytes>) -> Response<Bytes> {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// The inner response's headers stay, except what they say of a body that is not sent.
pub(crate) fn describe<B>(response: &mut Response<B>, content_type: HeaderValue) {
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers.insert(CONTENT_TYPE, content_type);
}

/// `retry-after` has whole seconds; never less than the wait.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// What clients repeat without being told to.
fn is_repeated(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::CONFLICT
            | StatusCode::TOO_MANY_REQUESTS
    ) || status.is_server_error()
}

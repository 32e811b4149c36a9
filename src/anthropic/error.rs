//! Errors as clients of the Messages API read them.

mod overflow;

use bytes::{BufMut, BytesMut};
use http::Response;

use crate::{Error, ErrorKind, FullBody, edge::refuse, json::string_into};

/// The response that tells a client of the Messages API of `error` before anything else was sent.
///
/// The status is [`Error::status`], and the body has the form that the official SDKs read.
/// `retry-after` is set where the wait is known. Where a repetition cannot help,
/// `x-should-retry: false` asks not to. Claude Code acts on the words of an error that says that
/// the history is too long, so that one is told in the vendor's own words, with upstream's numbers.
///
/// [`AnthropicLayer`](super::AnthropicLayer) does this for its own errors. The function is for the
/// routes around it, such as a fallback for unknown paths.
///
/// ```
/// use tower_qwen::{Error, ErrorKind, anthropic::error_response};
///
/// let error = Error::new(ErrorKind::NotFound, "unknown path /v1/message");
/// assert_eq!(error_response(&error).status(), 404);
/// ```
pub fn error_response(error: &Error) -> Response<FullBody> {
    refuse(error, error_into).map(FullBody::new)
}

/// Appends the error object: `{"type":"error","error":{…}}`.
pub(super) fn error_into(out: &mut BytesMut, error: &Error) {
    out.put_slice(b"{\"type\":\"error\",\"error\":{\"type\":");
    string_into(out, type_of(error.kind()));
    out.put_slice(b",\"message\":");
    if error.kind() == ErrorKind::ContextLength {
        string_into(out, &overflow::words(error.message()));
    } else {
        string_into(out, error.message());
    }
    out.put_slice(b"},\"request_id\":null}");
}

/// The word of the protocol for a kind of error.
const fn type_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest
        | ErrorKind::ContextLength
        | ErrorKind::ContentFilter
        | ErrorKind::UnsupportedMediaType
        | ErrorKind::MethodNotAllowed
        | ErrorKind::Unsupported => "invalid_request_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::Auth => "authentication_error",
        ErrorKind::Permission => "permission_error",
        ErrorKind::ModelNotFound
        | ErrorKind::NotFound
        | ErrorKind::ConversationLost
        | ErrorKind::AccountUnavailable => "not_found_error",
        ErrorKind::RateLimited | ErrorKind::Quota | ErrorKind::ModelQuota => "rate_limit_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::Challenge | ErrorKind::Overloaded | ErrorKind::ConversationBusy => {
            "overloaded_error"
        }
        ErrorKind::Internal | ErrorKind::Upstream | ErrorKind::Truncated => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    fn body(error: &Error) -> Value {
        let body = tokio_test::block_on(error_response(error).into_body().collect())
            .expect("infallible")
            .to_bytes();
        serde_json::from_slice(&body).expect("JSON")
    }

    #[test]
    fn has_the_shape_that_sdks_read() {
        let error = Error::invalid("messages", "it is \"empty\"");
        assert_eq!(
            body(&error),
            json!({
                "type": "error",
                "error": {"type": "invalid_request_error", "message": "it is \"empty\""},
                "request_id": null,
            })
        );
    }

    /// A client repeats a 401 for minutes unless it is told that this is final.
    #[test]
    fn a_key_that_is_wrong_stays_wrong() {
        let response = error_response(&Error::new(ErrorKind::Auth, "no such key"));
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["x-should-retry"], "false");
        let response = error_response(&Error::new(ErrorKind::Overloaded, "later"));
        assert!(!response.headers().contains_key("x-should-retry"));
    }

    #[test]
    fn a_history_that_is_too_long_is_told_in_words_that_clients_act_on() {
        let error = Error::new(ErrorKind::ContextLength, "maximum context length is 8 tokens");
        let message = body(&error)["error"]["message"].clone();
        assert!(message.as_str().is_some_and(|text| text.starts_with("prompt is too long")));
    }
}

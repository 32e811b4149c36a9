//! Errors as OpenAI clients read them.

use bytes::{BufMut, BytesMut};
use http::Response;

use crate::{Error, ErrorKind, FullBody, edge::refuse, json};

/// The response that tells a client of `error` before anything else was sent.
///
/// The status is [`Error::status`], and the body is an OpenAI error object. `retry-after` is set
/// where the wait is known. Both official SDKs repeat 408, 409, 429 and 5xx by themselves. Where a
/// repetition cannot help, `x-should-retry: false` asks them not to.
///
/// [`OpenAiLayer`](super::OpenAiLayer) does this for its own errors. The function is for the routes
/// around it, such as a fallback for unknown paths.
///
/// ```
/// use tower_qwen::{Error, ErrorKind, openai::error_response};
///
/// let error = Error::new(ErrorKind::NotFound, "unknown path /v2/chat").with_code("unknown_url");
/// assert_eq!(error_response(&error).status(), 404);
/// ```
pub fn error_response(error: &Error) -> Response<FullBody> {
    refuse(error, error_into).map(FullBody::new)
}

/// Appends the error object: `{"error":{…}}`.
pub(super) fn error_into(out: &mut BytesMut, error: &Error) {
    let (kind, code) = type_and_code(error.kind());
    // An upstream's own word for a class that clients know by another must not hide the latter.
    let code = match error.kind() {
        ErrorKind::InvalidRequest
        | ErrorKind::NotFound
        | ErrorKind::Permission
        | ErrorKind::Unsupported => error.code().or(code),
        _ => code,
    };
    out.put_slice(b"{\"error\":{\"message\":");
    json::string_into(out, error.message());
    out.put_slice(b",\"type\":");
    json::string_into(out, kind);
    out.put_slice(b",\"param\":");
    nullable_into(out, error.param());
    out.put_slice(b",\"code\":");
    nullable_into(out, code);
    out.put_slice(b"}}");
}

fn nullable_into(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => json::string_into(out, text),
        None => out.put_slice(b"null"),
    }
}

/// `type` and default `code` of the error object.
const fn type_and_code(kind: ErrorKind) -> (&'static str, Option<&'static str>) {
    const REQUEST: &str = "invalid_request_error";
    match kind {
        ErrorKind::InvalidRequest => (REQUEST, None),
        ErrorKind::ContextLength => (REQUEST, Some("context_length_exceeded")),
        ErrorKind::ContentFilter => (REQUEST, Some("content_filter")),
        ErrorKind::TooLarge => (REQUEST, Some("request_too_large")),
        ErrorKind::UnsupportedMediaType => (REQUEST, Some("unsupported_media_type")),
        ErrorKind::MethodNotAllowed => (REQUEST, Some("method_not_supported")),
        ErrorKind::Auth => ("authentication_error", Some("invalid_api_key")),
        ErrorKind::Permission => ("permission_error", None),
        ErrorKind::ModelNotFound => (REQUEST, Some("model_not_found")),
        ErrorKind::NotFound => (REQUEST, Some("not_found")),
        ErrorKind::ConversationLost => (REQUEST, Some("conversation_not_found")),
        ErrorKind::AccountUnavailable => (REQUEST, Some("account_unavailable")),
        ErrorKind::ConversationBusy => ("server_error", Some("conversation_busy")),
        ErrorKind::RateLimited => ("rate_limit_error", Some("rate_limit_exceeded")),
        ErrorKind::Quota | ErrorKind::ModelQuota => {
            ("insufficient_quota", Some("insufficient_quota"))
        }
        ErrorKind::Internal => ("server_error", Some("internal_error")),
        ErrorKind::Unsupported => (REQUEST, Some("unsupported")),
        ErrorKind::Upstream => ("upstream_error", Some("upstream_error")),
        ErrorKind::Truncated => ("upstream_error", Some("upstream_stream_error")),
        ErrorKind::Challenge => ("server_error", Some("upstream_challenge")),
        ErrorKind::Overloaded => ("server_error", Some("overloaded")),
        ErrorKind::Timeout => ("timeout_error", Some("upstream_timeout")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let error = Error::invalid("messages", "it is \"empty\"").with_code("invalid_value");
        assert_eq!(
            body(&error),
            json!({"error": {
                "message": "it is \"empty\"",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "invalid_value",
            }})
        );
    }

    #[test]
    fn an_upstreams_code_does_not_hide_the_known_one() {
        let error = Error::new(ErrorKind::Quota, "used up").with_code("RateLimited");
        assert_eq!(body(&error)["error"]["code"], "insufficient_quota");
    }

    #[test]
    fn an_account_that_cannot_be_used_has_a_code_of_its_own() {
        let error = Error::new(ErrorKind::AccountUnavailable, "not now").with_code("other");
        assert_eq!(error_response(&error).status(), 404);
        assert_eq!(body(&error)["error"]["code"], "account_unavailable");
        // An upstream's word makes no such error.
        let error = Error::new(ErrorKind::ConversationLost, "x").with_code("account_unavailable");
        assert_eq!(body(&error)["error"]["code"], "conversation_not_found");
    }

    #[test]
    fn a_wait_is_rounded_up() {
        let error = Error::new(ErrorKind::RateLimited, "slow down")
            .with_retry_after(Duration::from_millis(1500));
        let response = error_response(&error);
        assert_eq!(response.headers()["retry-after"], "2");
        assert!(!response.headers().contains_key("x-should-retry"));
    }

    #[test]
    fn sdks_are_kept_from_repeating_what_cannot_help() {
        for kind in [
            ErrorKind::Auth,
            ErrorKind::Quota,
            ErrorKind::ModelQuota,
            ErrorKind::Challenge,
            ErrorKind::Internal,
        ] {
            let response = error_response(&Error::new(kind, "no"));
            assert_eq!(response.headers()["x-should-retry"], "false", "{kind:?}");
        }
        for kind in [ErrorKind::InvalidRequest, ErrorKind::Upstream, ErrorKind::Timeout] {
            let response = error_response(&Error::new(kind, "no"));
            assert!(!response.headers().contains_key("x-should-retry"), "{kind:?}");
        }
    }
}

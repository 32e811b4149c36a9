//! Errors as OpenAI clients read them.

use http::Response;

use crate::{
    Error, FullBody,
    edge::{openai_error_into, refuse},
};

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
    refuse(error, openai_error_into).map(FullBody::new)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::ErrorKind;

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

//! Errors in the form of OpenAI's APIs.

use bytes::{BufMut, BytesMut};

use crate::{Error, ErrorKind, json};

/// Appends the error object: `{"error":{…}}`.
pub(crate) fn openai_error_into(out: &mut BytesMut, error: &Error) {
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

//! Errors as clients of Ollama read them.

use bytes::{BufMut, BytesMut};
use http::Response;

use crate::{Error, FullBody, edge::refuse, json::string_into};

/// The response that tells a client of Ollama of `error` before anything else was sent: the status
/// is [`Error::status`], and the body is `{"error":"…"}`.
///
/// [`OllamaLayer`](super::OllamaLayer) does this for its own errors. The function is for the routes
/// around it, such as a fallback for unknown paths.
///
/// ```
/// use tower_qwen::{Error, ErrorKind, ollama::error_response};
///
/// let error = Error::new(ErrorKind::ModelNotFound, "model 'm' not found");
/// assert_eq!(error_response(&error).status(), 404);
/// ```
pub fn error_response(error: &Error) -> Response<FullBody> {
    refuse(error, error_into).map(FullBody::new)
}

/// Appends the error object.
pub(super) fn error_into(out: &mut BytesMut, error: &Error) {
    out.put_slice(b"{\"error\":");
    string_into(out, error.message());
    out.put_slice(b"}");
}

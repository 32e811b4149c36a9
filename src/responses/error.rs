//! Errors as clients of the Responses API read them.

use http::Response;

use crate::{
    Error, FullBody,
    edge::{openai_error_into, parse::clip, refuse},
};

/// The response that tells a client of `error` before anything else was sent.
///
/// The status is [`Error::status`], and the body is an OpenAI error object, as it is for chats.
///
/// [`ResponsesLayer`](super::ResponsesLayer) does this for its own errors. The function is for the
/// routes around it: those of stored answers, of which there are none, and unknown paths.
///
/// ```
/// use tower_qwen::{Error, ErrorKind, responses::error_response};
///
/// let error = Error::new(ErrorKind::NotFound, "no answer is stored here");
/// assert_eq!(error_response(&error).status(), 404);
/// ```
pub fn error_response(error: &Error) -> Response<FullBody> {
    refuse(error, openai_error_into).map(FullBody::new)
}

/// The error of an id that leads nowhere: that of the client's own answer that is gone, that of
/// somebody else's, and one that never was. The words are OpenAI's, on which clients send the whole
/// history.
pub(super) fn previous_not_found(id: &str) -> Error {
    let message = format!("Previous response with id '{}' not found.", clip(id));
    Error::invalid("previous_response_id", message).with_code("previous_response_not_found")
}

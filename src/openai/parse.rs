//! Request bodies of JSON, and what clients are told of those that are wrong.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::error::Category;

use crate::{Error, ErrorKind, chat::Text};

/// How much of a parser's message is passed on. It may quote the value at fault, which may be
/// long.
const MESSAGE_LEN: usize = 300;

/// The body as text.
pub(super) fn text(body: &Bytes) -> Result<Text, Error> {
    Text::from_utf8(body.clone()).map_err(|error| {
        invalid_json(format!("the body is not UTF-8: byte {} is wrong", error.valid_up_to()))
    })
}

/// Reads the JSON object that `body` is.
pub(super) fn json<'a, T: Deserialize<'a>>(body: &'a Text) -> Result<T, Error> {
    // Editors on Windows leave a byte order mark; JSON has none.
    let text = body.strip_prefix('\u{feff}').unwrap_or(body);
    if text.trim_ascii().is_empty() {
        return Err(invalid_json("the body is empty; send a JSON object".into()));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| type_error(&error))?;
    json.end().map_err(|error| {
        invalid_json(format!("the body goes on after its JSON object: {error}"))
    })?;
    Ok(value)
}

/// The error of a parser, with the field that it stopped at.
fn type_error(error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let inner = error.inner();
    let message = inner.to_string();
    match inner.classify() {
        Category::Data => {
            // The parser names a place in the text, which is of little use where the field is
            // named.
            let place = format!(" at line {} column {}", inner.line(), inner.column());
            let message = clip(message.strip_suffix(place.as_str()).unwrap_or(&message));
            let path = error.path().to_string();
            if path == "." {
                // The body as a whole, or a field that occurs twice.
                return Error::new(ErrorKind::InvalidRequest, format!("invalid body: {message}"))
                    .with_code("invalid_type");
            }
            Error::invalid(path.clone(), format!("invalid type for `{path}`: {message}"))
                .with_code("invalid_type")
        }
        Category::Syntax | Category::Eof | Category::Io => {
            invalid_json(format!("the body is not valid JSON: {}", clip(&message)))
        }
    }
}

fn invalid_json(message: String) -> Error {
    Error::new(ErrorKind::InvalidRequest, message).with_code("invalid_json")
}

pub(super) fn clip(message: &str) -> Cow<'_, str> {
    if message.len() <= MESSAGE_LEN {
        return message.into();
    }
    let mut end = MESSAGE_LEN;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &message[..end]).into()
}

pub(super) fn missing(param: impl Into<Cow<'static, str>>) -> Error {
    let param = param.into();
    Error::invalid(param.clone(), format!("missing required parameter: `{param}`"))
        .with_code("missing_required_parameter")
}

pub(super) fn invalid_value(
    param: impl Into<Cow<'static, str>>,
    message: impl std::fmt::Display,
) -> Error {
    let param = param.into();
    Error::invalid(param.clone(), format!("invalid value for `{param}`: {message}"))
        .with_code("invalid_value")
}

pub(super) fn unsupported(param: &'static str, message: &'static str) -> Error {
    Error::invalid(param, message).with_code("unsupported_parameter")
}

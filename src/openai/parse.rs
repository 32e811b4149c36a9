//! Request bodies of JSON, and what clients are told of those that are wrong.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{error::Category, value::RawValue};

use crate::{Error, ErrorKind, Text};

/// How much of a parser's message is passed on. It may quote the value at fault, which may be
/// long.
const MESSAGE_LEN: usize = 300;

/// What is wrong with a string that is none: clients that cut text by UTF-16 units send such.
pub(super) const LONE_SURROGATE: &str = "half of a surrogate pair stands alone in it";

/// What is wrong with a number that no `f64` can hold.
const OUT_OF_RANGE: &str = "number out of range";

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
    // The path to an error is only kept track of where there is an error: it takes an allocation
    // for every field.
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| type_error(&error))?;
    json.end().map_err(|error| {
        invalid_json(format!("the body goes on after its JSON object: {error}"))
    })?;
    Ok(value)
}

/// Reads a part of a body whose form was put off, and which is known to be JSON.
pub(super) fn nested<'a, T: Deserialize<'a>>(raw: &'a RawValue, param: &str) -> Result<T, Error> {
    let mut json = serde_json::Deserializer::from_str(raw.get());
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let path = match path.as_str() {
            "." => param.to_owned(),
            item if item.starts_with('[') => format!("{param}{item}"),
            field => format!("{param}.{field}"),
        };
        if is_out_of_range(error.inner()) {
            return invalid_value(path, OUT_OF_RANGE);
        }
        wrong_type(path, &without_place(error.inner()))
    })
}

/// The inside of the string that `raw` is.
pub(super) fn string<'a>(
    raw: &'a RawValue,
    param: impl FnOnce() -> String,
    expected: &str,
) -> Result<&'a str, Error> {
    match raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inside) => Ok(inside),
        None => Err(not_expected(raw, param(), expected)),
    }
}

/// The error for a value that is not of the type that was expected.
pub(super) fn not_expected(raw: &RawValue, param: String, expected: &str) -> Error {
    wrong_type(param, &format!("expected {expected}, found {}", kind(raw)))
}

/// Of which kind a value is.
pub(super) fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

pub(super) fn wrong_type(param: String, message: &str) -> Error {
    Error::invalid(param.clone(), format!("invalid type for `{param}`: {message}"))
        .with_code("invalid_type")
}

/// The parser's words without a place in the text, which is of little use where the field is
/// named.
fn without_place(error: &serde_json::Error) -> Cow<'static, str> {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    clip(message.strip_suffix(place.as_str()).unwrap_or(&message)).into_owned().into()
}

/// Whether the JSON is valid, and a number in it larger than any `f64`. The parser calls that an
/// error of syntax, and has no other sign of it than its words.
fn is_out_of_range(error: &serde_json::Error) -> bool {
    error.classify() == Category::Syntax && error.to_string().starts_with("number out of range")
}

/// The error of a parser, with the field that it stopped at.
fn type_error(error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let inner = error.inner();
    let message = inner.to_string();
    match inner.classify() {
        Category::Data => {
            let message = without_place(inner);
            let path = error.path().to_string();
            if path == "." {
                // The body as a whole, or a field that occurs twice.
                return Error::new(ErrorKind::InvalidRequest, format!("invalid body: {message}"))
                    .with_code("invalid_type");
            }
            wrong_type(path, &message)
        }
        Category::Syntax if is_out_of_range(inner) => {
            let path = error.path().to_string();
            let param = if path == "." { "body".to_owned() } else { path };
            invalid_value(param, OUT_OF_RANGE)
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

pub(super) fn unsupported(param: &'static str, message: impl Into<Cow<'static, str>>) -> Error {
    Error::invalid(param, message).with_code("unsupported_parameter")
}

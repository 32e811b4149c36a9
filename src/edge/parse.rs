//! Request bodies of JSON, and what clients are told of those that are wrong.

use std::{borrow::Cow, fmt, marker::PhantomData};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, SeqAccess},
};
use serde_json::{error::Category, value::RawValue};

use crate::{
    Error, ErrorKind, Text,
    chat::{Json, ResponseFormat},
    json,
};

/// How much of a parser's message is passed on. It may quote the value at fault, which may be
/// long.
const MESSAGE_LEN: usize = 300;

/// What is wrong with a string that is none: clients that cut text by UTF-16 units send such.
pub(crate) const LONE_SURROGATE: &str = "half of a surrogate pair stands alone in it";

/// What is wrong with a number that no `f64` can hold.
const OUT_OF_RANGE: &str = "number out of range";

/// The body as text.
pub(crate) fn text(body: &Bytes) -> Result<Text, Error> {
    Text::from_utf8(body.clone()).map_err(|error| {
        invalid_json(format!("the body is not UTF-8: byte {} is wrong", error.valid_up_to()))
    })
}

/// Reads the JSON object that `body` is.
pub(crate) fn json<'a, T: Deserialize<'a>>(body: &'a Text) -> Result<T, Error> {
    json_with(body, || PhantomData::<T>)
}

/// Reads the JSON object that `body` is by the seed that `seed` makes; where it cannot be read,
/// that is tried twice.
pub(crate) fn json_with<'a, S: DeserializeSeed<'a>>(
    body: &'a Text,
    seed: impl Fn() -> S,
) -> Result<S::Value, Error> {
    // Editors on Windows leave a byte order mark; JSON has none.
    let text = body.strip_prefix('\u{feff}').unwrap_or(body);
    if text.trim_ascii().is_empty() {
        return Err(invalid_json("the body is empty; send a JSON object".into()));
    }
    // The path to an error is only kept track of where there is an error: it takes an allocation
    // for every field.
    let mut json = serde_json::Deserializer::from_str(text);
    if let Ok(value) = seed().deserialize(&mut json)
        && json.end().is_ok()
    {
        return Ok(value);
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let value = with_path(seed(), &mut json).map_err(|error| type_error(&error))?;
    json.end().map_err(|error| {
        invalid_json(format!("the body goes on after its JSON object: {error}"))
    })?;
    Ok(value)
}

/// Reads a part of a body whose form was put off, and which is known to be JSON.
pub(crate) fn nested<'a, T: Deserialize<'a>>(raw: &'a RawValue, param: &str) -> Result<T, Error> {
    nested_with(raw, param, PhantomData::<T>)
}

fn nested_with<'a, S: DeserializeSeed<'a>>(
    raw: &'a RawValue,
    param: &str,
    seed: S,
) -> Result<S::Value, Error> {
    let mut json = serde_json::Deserializer::from_str(raw.get());
    with_path(seed, &mut json).map_err(|error| {
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

fn with_path<'de, S: DeserializeSeed<'de>, D: Deserializer<'de>>(
    seed: S,
    deserializer: D,
) -> Result<S::Value, serde_path_to_error::Error<D::Error>> {
    let mut track = serde_path_to_error::Track::new();
    seed.deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track))
        .map_err(|error| serde_path_to_error::Error::new(track.path(), error))
}

/// The items of a list, handed on one at a time, with their places: a list of them all would take
/// many times the room of their text.
///
/// When `take` fails, what follows is read as JSON and no more. `null` is no list, and no error.
pub(crate) struct Each<T, F>(F, PhantomData<T>);

impl<T, F> Each<T, F> {
    pub(crate) const fn new(take: F) -> Self {
        Self(take, PhantomData)
    }
}

impl<'de, T, F, E> DeserializeSeed<'de> for Each<T, F>
where
    T: Deserialize<'de>,
    F: FnMut(usize, T) -> Result<(), E>,
{
    /// Whether there is a list, or how `take` failed.
    type Value = Result<bool, E>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T, F, E> de::Visitor<'de> for Each<T, F>
where
    T: Deserialize<'de>,
    F: FnMut(usize, T) -> Result<(), E>,
{
    type Value = Result<bool, E>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_unit<N: de::Error>(self) -> Result<Self::Value, N> {
        Ok(Ok(false))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut place = 0;
        while let Some(item) = list.next_element()? {
            if let Err(failed) = (self.0)(place, item) {
                while let Some(IgnoredAny) = list.next_element()? {}
                return Ok(Err(failed));
            }
            place += 1;
        }
        Ok(Ok(true))
    }
}

/// Hands each item of the list that `raw` is to `take`.
pub(crate) fn each<'a, T: Deserialize<'a>>(
    raw: &'a RawValue,
    param: &str,
    take: impl FnMut(usize, T) -> Result<(), Error>,
) -> Result<(), Error> {
    nested_with(raw, param, Each::new(take))?.map(drop)
}

/// The same where it is likely that all goes well: if not, nobody says where.
#[cfg(any(feature = "ollama", feature = "openai", feature = "responses"))]
pub(crate) fn each_quickly<'a, T: Deserialize<'a>, E>(
    raw: &'a RawValue,
    take: impl FnMut(usize, T) -> Result<(), E>,
) -> Option<Result<(), E>> {
    let mut json = serde_json::Deserializer::from_str(raw.get());
    Some(Each::new(take).deserialize(&mut json).ok()?.map(drop))
}

/// The form of answers after a schema that has no name.
///
/// # Errors
///
/// Where it is no object.
#[cfg(any(feature = "anthropic", feature = "ollama"))]
pub(crate) fn schema(
    raw: &RawValue,
    param: impl FnOnce() -> String,
) -> Result<ResponseFormat, Error> {
    let schema = raw.get();
    if !schema.starts_with('{') {
        return Err(not_expected(raw, param(), "an object"));
    }
    let named = format!(r#"{{"name":"answer","schema":{schema},"strict":true}}"#);
    Ok(ResponseFormat::JsonSchema(Json::from_checked(named.into())))
}

/// Whether `raw` is a list of nothing.
#[cfg(feature = "ollama")]
pub(crate) fn is_empty_list(raw: &RawValue) -> bool {
    let inside = raw.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.is_some_and(|inside| inside.trim_ascii().is_empty())
}

/// The inside of the string that `raw` is.
pub(crate) fn string<'a>(
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
pub(crate) fn not_expected(raw: &RawValue, param: String, expected: &str) -> Error {
    wrong_type(param, &format!("expected {expected}, found {}", kind(raw)))
}

/// Of which kind a value is.
pub(crate) fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

pub(crate) fn wrong_type(param: String, message: &str) -> Error {
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

pub(crate) fn clip(message: &str) -> Cow<'_, str> {
    if message.len() <= MESSAGE_LEN {
        return message.into();
    }
    let mut end = MESSAGE_LEN;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &message[..end]).into()
}

pub(crate) fn missing(param: impl Into<Cow<'static, str>>) -> Error {
    let param = param.into();
    Error::invalid(param.clone(), format!("missing required parameter: `{param}`"))
        .with_code("missing_required_parameter")
}

pub(crate) fn invalid_value(
    param: impl Into<Cow<'static, str>>,
    message: impl std::fmt::Display,
) -> Error {
    let param = param.into();
    Error::invalid(param.clone(), format!("invalid value for `{param}`: {message}"))
        .with_code("invalid_value")
}

/// The error for more of something than is allowed.
pub(crate) fn too_many(
    param: impl Into<Cow<'static, str>>,
    limit: usize,
    what: &str,
    advice: &str,
) -> Error {
    let param = param.into();
    let message = format!("`{param}`: a request may hold {limit} {what} at most; {advice}");
    Error::invalid(param, message).with_code("too_many")
}

/// Refuses what nests deeper than `limit`.
pub(crate) fn not_too_deep(body: &str, limit: usize) -> Result<(), Error> {
    if json::nests_deeper_than(body, limit) {
        let message = format!(
            "the body nests deeper than the limit of {limit} levels of lists and objects; flatten it"
        );
        return Err(Error::new(ErrorKind::InvalidRequest, message).with_code("too_deep"));
    }
    Ok(())
}

pub(crate) fn unsupported(param: &'static str, message: impl Into<Cow<'static, str>>) -> Error {
    Error::invalid(param, message).with_code("unsupported_parameter")
}

//! What everything is read with: the body, and what was counted of it.

use std::{borrow::Cow, cell::Cell};

use memchr::memchr;
use serde_json::value::RawValue;

use super::{
    Limits,
    parse::{self, invalid_value},
};
use crate::{
    Error, Text,
    chat::Json,
    json::{self, Str},
};

/// From which size on it matters that a body is let go, in bytes.
const LARGE: usize = 64 * 1024;

/// Gives the borrowed shapes a meaning; holds the body that their strings are cut from.
pub(crate) struct Decoder<'a> {
    pub(crate) body: &'a Text,
    /// How many bytes of the body the request holds as slices.
    sliced: Cell<usize>,
    pub(crate) limits: &'a Limits,
    /// How many parts and calls there were so far.
    pub(crate) parts: Cell<usize>,
    pub(crate) calls: Cell<usize>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(body: &'a Text, limits: &'a Limits) -> Result<Self, Error> {
        parse::not_too_deep(body, limits.nesting)?;
        let (sliced, parts, calls) = <(Cell<_>, Cell<_>, Cell<_>)>::default();
        Ok(Self { body, sliced, limits, parts, calls })
    }

    /// Counts from nothing: a body that cannot be read is read twice.
    pub(crate) fn start(&self) {
        for count in [&self.sliced, &self.parts, &self.calls] {
            count.set(0);
        }
    }

    pub(crate) fn text(&self, text: Str<'_>) -> Text {
        match text.0 {
            Cow::Borrowed(text) => self.slice(text),
            Cow::Owned(text) => text.into(),
        }
    }

    pub(crate) fn slice(&self, part: &str) -> Text {
        self.sliced.set(self.sliced.get() + part.len());
        self.body.slice_ref(part)
    }

    /// A string that may be long: unless it is a slice, it is copied once.
    pub(crate) fn long(&self, raw: &RawValue, param: impl Fn() -> String) -> Result<Text, Error> {
        let inside = parse::string(raw, &param, "a string")?;
        if memchr(b'\\', inside.as_bytes()).is_none() {
            return Ok(self.slice(inside));
        }
        json::unescape(inside)
            .map(Text::from)
            .ok_or_else(|| invalid_value(param(), parse::LONE_SURROGATE))
    }

    /// A string that may not be there, or be `null`.
    #[cfg(any(feature = "anthropic", feature = "ollama", feature = "responses"))]
    pub(crate) fn string(
        &self,
        raw: Option<&RawValue>,
        param: impl Fn() -> String,
    ) -> Result<Option<Text>, Error> {
        raw.filter(|raw| raw.get() != "null").map(|raw| self.long(raw, param)).transpose()
    }

    /// The texts that end the answer: one, or a list of them.
    #[cfg(any(feature = "ollama", feature = "openai"))]
    pub(crate) fn stop(&self, raw: &RawValue, param: &str) -> Result<Vec<Text>, Error> {
        let mut several = Vec::new();
        match raw.get().as_bytes().first() {
            Some(b'"') => several.push(self.long(raw, || param.to_owned())?),
            Some(b'[') => parse::each(raw, param, |place, one: Str<'_>| {
                let limit = self.limits.stops;
                if place == limit {
                    return Err(parse::too_many(
                        param.to_owned(),
                        limit,
                        "sequences",
                        "send fewer",
                    ));
                }
                several.push(self.text(one));
                Ok(())
            })?,
            _ => {
                let expected = "a string or an array of strings";
                return Err(parse::not_expected(raw, param.to_owned(), expected));
            }
        }
        Ok(several)
    }

    pub(crate) fn some(&self, text: Option<Str<'_>>) -> Option<Text> {
        text.map(|text| self.text(text))
    }

    /// JSON as it stands.
    pub(crate) fn json(&self, raw: &RawValue) -> Json {
        Json::from_checked(self.slice(raw.get()))
    }

    /// Whether a body is kept for the sake of little of it.
    pub(crate) fn is_mostly_unused(&self) -> bool {
        self.body.len() >= LARGE && self.sliced.get() < self.body.len() / 8
    }
}

/// The field `name` of an object, if that is a string; of several the last.
#[cfg(any(feature = "ollama", feature = "openai", feature = "responses"))]
pub(crate) fn string_field<'a>(raw: &'a RawValue, name: &str) -> Option<Cow<'a, str>> {
    let (_, value) = json::members(raw.get()).filter(|(own, _)| own == name).last()?;
    value.starts_with('"').then(|| json::unquoted(value))
}

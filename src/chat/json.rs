//! JSON as it was written.

use std::{borrow::Cow, collections::HashMap, fmt};

use bytes::BytesMut;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap as _};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    Text,
    json::{self, string_into},
    steps,
};

/// One JSON value as its text, byte for byte.
///
/// Schemas, unknown fields and forms that the vocabulary does not name are held this way. The order
/// of keys, the spelling of numbers and the white space survive, and a value of any shape costs no
/// more than its size. Cloning shares the text.
///
/// Two are equal where their texts are.
///
/// ```
/// use tower_qwen::chat::Json;
///
/// let schema = Json::parse(r#"{"maximum": 1.0E5, "default": 12345678901234567890123}"#)?;
/// assert_eq!(schema.as_str(), r#"{"maximum": 1.0E5, "default": 12345678901234567890123}"#);
/// assert_eq!(schema.get("maximum").map(|json| json.to_string()).as_deref(), Some("1.0E5"));
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Text);

impl Json {
    /// Checks that `text` is one JSON value and takes it as it is, without the white space around
    /// it.
    ///
    /// How deep it nests does not matter here; [`to_value`](Json::to_value) has a limit.
    ///
    /// # Errors
    ///
    /// Where it is not JSON, with the place.
    pub fn parse(text: impl Into<Text>) -> serde_json::Result<Self> {
        let text = text.into();
        let raw: &RawValue = serde_json::from_str(&text)?;
        let exact = text.slice_ref(raw.get());
        Ok(Self(exact))
    }

    /// The value that `text` is, which is known to be one.
    #[cfg(feature = "edge")]
    pub(crate) fn from_checked(text: Text) -> Self {
        debug_assert!(serde_json::from_str::<&RawValue>(&text).is_ok(), "known to be JSON");
        Self(text)
    }

    /// The text, to put an equal one in its place.
    #[cfg(feature = "edge")]
    pub(crate) fn text_mut(&mut self) -> &mut Text {
        &mut self.0
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of the field `name`, sharing the text; of several the last. `None` where there
    /// is none, or this is no object.
    ///
    /// One pass over the text.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Json> {
        let (_, value) = json::members(&self.0).filter(|(own, _)| own == name).last()?;
        Some(Self(self.0.slice_ref(value)))
    }

    /// The value, parsed. Numbers become what [`serde_json::Number`] holds.
    ///
    /// # Errors
    ///
    /// Where it nests deeper than 128 levels, or holds a number beyond an `f64`.
    pub fn to_value(&self) -> serde_json::Result<Value> {
        serde_json::from_str(&self.0)
    }

    /// The text that the value is, if it is a string.
    #[must_use]
    pub fn as_string(&self) -> Option<Cow<'_, str>> {
        self.0.starts_with('"').then(|| json::unquoted(&self.0))
    }

    /// The truth value, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    /// Its fields, sharing the text, if it is an object.
    #[must_use]
    pub fn as_fields(&self) -> Option<Extra> {
        self.is_object().then(|| Extra::of_object(self.0.clone()))
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        // The compact form.
        Self(value.to_string().into())
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl From<&RawValue> for Json {
    fn from(raw: &RawValue) -> Self {
        Self(raw.get().into())
    }
}

/// Fields that hold no text: an object of them.
impl From<&Extra> for Json {
    fn from(extra: &Extra) -> Self {
        if extra.is_empty() { Self(Text::from_static("{}")) } else { Self(extra.0.clone()) }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// As it stands where the serializer is `serde_json`'s.
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        raw(&self.0).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// From `serde_json`'s deserializers only, which alone know the text.
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(String::from(Box::<str>::from(raw)).into()))
    }
}

fn raw(json: &str) -> serde_json::Result<&RawValue> {
    serde_json::from_str(json)
}

/// The fields of a JSON object that the vocabulary does not name, as the client or the server
/// wrote them.
///
/// They are one text, whatever their number and shape, so they cost their size. Looking one up is a
/// pass over them. Names, order and the spelling of every value survive. Cloning shares the text.
///
/// ```
/// use tower_qwen::chat::{Extra, Json};
///
/// let mut extra: Extra = serde_json::from_str(r#"{"seed_2": 1.0E5, "tags": [ "a" ]}"#)?;
/// assert_eq!(extra.get("seed_2"), Some(Json::parse("1.0E5")?));
/// extra.insert("tier", serde_json::json!("flex"));
/// assert_eq!(serde_json::to_string(&extra)?, r#"{"seed_2":1.0E5,"tags":[ "a" ],"tier":"flex"}"#);
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Extra(
    /// A JSON object with at least one field, or nothing.
    Text,
);

impl Extra {
    /// No fields. Nothing is allocated.
    #[must_use]
    pub const fn new() -> Self {
        Self(Text::new())
    }

    /// The fields of the object that `text` is, which is known to be one.
    #[cfg(feature = "openai")]
    pub(crate) fn from_checked(text: Text) -> Self {
        debug_assert!(serde_json::from_str::<Extra>(&text).is_ok(), "known to be an object");
        Self::of_object(text)
    }

    fn of_object(text: Text) -> Self {
        if json::members(&text).next().is_some() { Self(text) } else { Self::new() }
    }

    /// The text, to put an equal one in its place.
    #[cfg(feature = "edge")]
    pub(crate) fn text_mut(&mut self) -> &mut Text {
        &mut self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes the fields take.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.0.len()
    }

    /// The value of the field `name`; of several the last, as most readers of JSON have it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Json> {
        let (_, value) = self.raw_fields().filter(|(own, _)| own == name).last()?;
        Some(Json(self.0.slice_ref(value)))
    }

    /// Whether there is a field `name`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.raw_fields().any(|(own, _)| own == name)
    }

    /// The fields in their order, sharing the text.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, Json)> {
        self.raw_fields().map(|(name, value)| (name, Json(self.0.slice_ref(value))))
    }

    /// Sets the field `name`, in the place of all of that name, behind the others.
    pub fn insert(&mut self, name: &str, value: impl Into<Json>) {
        let value = value.into();
        let mut fields = Fields::default();
        for (own, value) in self.raw_fields().filter(|(own, _)| own != name) {
            fields.push(&own, value);
        }
        fields.push(name, value.as_str());
        *self = fields.finish();
    }

    /// Takes the field `name` out, and gives its value; of several the last.
    pub fn remove(&mut self, name: &str) -> Option<Json> {
        let removed = self.get(name)?;
        let mut fields = Fields::default();
        for (own, value) in self.raw_fields().filter(|(own, _)| own != name) {
            fields.push(&own, value);
        }
        *self = fields.finish();
        Some(removed)
    }

    /// Sets each field of `other`, in the place of those of its name.
    pub fn merge(&mut self, other: Self) {
        self.merge_all(vec![other]);
    }

    /// Does what [`merge`](Extra::merge) does with one after the other, in one pass over all of
    /// them.
    pub(crate) fn merge_all(&mut self, mut others: Vec<Self>) {
        others.retain(|other| !other.is_empty());
        if self.is_empty() && others.len() < 2 {
            *self = others.pop().unwrap_or_default();
            return;
        }
        let theirs = || others.iter().flat_map(Self::raw_fields).enumerate();
        // Of several of theirs the last.
        let last: HashMap<_, _> = theirs().map(|(at, (name, _))| (name, at)).collect();
        let mut fields = Fields::default();
        for (name, value) in self.raw_fields().filter(|(name, _)| !last.contains_key(name)) {
            fields.push(&name, value);
        }
        for (at, (name, value)) in theirs() {
            if last.get(&name) == Some(&at) {
                fields.push(&name, value);
            }
        }
        *self = fields.finish();
    }

    /// The fields, parsed.
    ///
    /// # Errors
    ///
    /// As [`Json::to_value`] has them.
    pub fn to_map(&self) -> serde_json::Result<Map<String, Value>> {
        if self.is_empty() { Ok(Map::new()) } else { serde_json::from_str(&self.0) }
    }

    /// The fields as they stand, names read.
    pub(crate) fn raw_fields(&self) -> json::Members<'_> {
        json::members(&self.0)
    }

    /// What stands between the braces of an object of these fields.
    #[cfg(any(feature = "compatible", feature = "join"))]
    pub(crate) fn inside(&self) -> &str {
        self.0.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default()
    }
}

impl From<&Map<String, Value>> for Extra {
    fn from(map: &Map<String, Value>) -> Self {
        if map.is_empty() {
            return Self::new();
        }
        Self(serde_json::to_string(map).expect("a map of JSON values is JSON").into())
    }
}

impl From<Map<String, Value>> for Extra {
    fn from(map: Map<String, Value>) -> Self {
        Self::from(&map)
    }
}

impl<N: AsRef<str>, V: Into<Json>> FromIterator<(N, V)> for Extra {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut joined = Fields::default();
        for (name, value) in fields {
            joined.push(name.as_ref(), value.into().as_str());
        }
        joined.finish()
    }
}

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "{}" } else { &self.0 })
    }
}

/// The values stand as they are where the serializer is `serde_json`'s.
impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.raw_fields() {
            let value = raw(value).map_err(serde::ser::Error::custom)?;
            map.serialize_entry(&*name, value)?;
        }
        map.end()
    }
}

/// From an object of `serde_json`'s.
impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Extra;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Extra, A::Error> {
                let mut fields = Fields::default();
                while let Some(json::Str(name)) = map.next_key()? {
                    let value: Box<RawValue> = map.next_value()?;
                    fields.push(&name, value.get());
                }
                Ok(fields.finish())
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

/// [`Extra`] as it grows.
#[derive(Debug, Default)]
pub(crate) struct Fields(BytesMut);

#[cfg_attr(not(feature = "edge"), allow(dead_code, reason = "the edges alone note what they drop"))]
impl Fields {
    /// Adds a field; `value` is JSON.
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        steps::count_bytes(value.len());
        // The brace that closes included, so that one large value is not held twice.
        self.0.reserve(name.len() + value.len() + "{\"\":}".len());
        self.0.extend_from_slice(if self.0.is_empty() { b"{" } else { b"," });
        string_into(&mut self.0, name);
        self.0.extend_from_slice(b":");
        self.0.extend_from_slice(value.as_bytes());
    }

    /// Notes that there is a field of this name, where its value asks for something. What it asks for
    /// is not kept.
    #[cfg(any(feature = "anthropic", feature = "ollama", feature = "responses"))]
    pub(crate) fn note(&mut self, name: &str, value: &str) {
        /// More than is told of them anywhere.
        const NAMES_LEN: usize = 1024;
        const NOTHING: [&str; 6] = ["null", "false", "0", "\"\"", "[]", "{}"];
        if self.0.len() + name.len() < NAMES_LEN && !NOTHING.contains(&value) {
            self.push(name, "true");
        }
    }

    /// The names of all fields.
    #[cfg(any(feature = "anthropic", feature = "ollama", feature = "responses"))]
    pub(crate) fn names(self) -> Vec<Text> {
        self.finish().iter().map(|(name, _)| name.as_ref().into()).collect()
    }

    pub(crate) fn finish(mut self) -> Extra {
        if self.0.is_empty() {
            return Extra::new();
        }
        self.0.extend_from_slice(b"}");
        // What growing by doubling has left over would stay as long as the request.
        let text = if self.0.capacity() - self.0.len() > self.0.len() / 4 {
            bytes::Bytes::copy_from_slice(&self.0)
        } else {
            self.0.freeze()
        };
        Extra(Text::from_utf8(text).expect("names and values are texts"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_spelling_survives() {
        let text = r#"{"b": 1.0E5, "a": 12345678901234567890123, "c": 1e400}"#;
        let json = Json::parse(text).expect("JSON");
        assert_eq!(serde_json::to_string(&json).expect("a value"), text);
        let again: Json = serde_json::from_str(text).expect("JSON");
        assert_eq!(again, json);
        let extra: Extra = serde_json::from_str(text).expect("an object");
        assert_eq!(
            serde_json::to_string(&extra).expect("fields"),
            r#"{"b":1.0E5,"a":12345678901234567890123,"c":1e400}"#
        );
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", " ", "{", "nul", "1 2", "{\"a\":}", "\u{feff}1"] {
            assert!(Json::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Json::parse(" [1] ").expect("JSON").as_str(), "[1]");
        assert!(serde_json::from_str::<Extra>("[]").is_err());
    }

    #[test]
    fn a_value_shares_the_text() {
        let json = Json::parse(Text::from(r#"{"a":{"b":true,"b":false}}"#)).expect("JSON");
        let inner = json.get("a").expect("there");
        assert_eq!(
            inner.get("b").and_then(|value| value.as_bool()),
            Some(false),
            "the last counts"
        );
        let at = json.as_str().as_ptr() as usize;
        let inside = inner.as_str().as_ptr() as usize;
        assert!((at..at + json.as_str().len()).contains(&inside));
        assert_eq!(json.get("b"), None);
        assert_eq!(Json::from(json!("x\"y")).as_string().as_deref(), Some("x\"y"));
        assert_eq!(Json::from(json!([1])).get("a"), None);
    }

    #[test]
    fn fields_are_set_and_taken_out() {
        let mut extra = Extra::new();
        assert_eq!(serde_json::to_string(&extra).expect("none"), "{}");
        extra.insert("a\"b", json!({"z": 1, "y": [2]}));
        extra.insert("c", json!(null));
        assert_eq!(extra.get("c").map(|value| value.is_null()), Some(true));
        extra.insert("a\"b", json!(7));
        assert_eq!(serde_json::to_string(&extra).expect("fields"), r#"{"c":null,"a\"b":7}"#);
        assert_eq!(extra.remove("c"), Some(Json::from(json!(null))));
        assert_eq!(extra.remove("c"), None);
        assert!(extra.contains("a\"b") && !extra.contains("c"));
        extra.remove("a\"b");
        assert_eq!(extra, Extra::new());
    }

    #[test]
    fn to_merge_all_is_to_merge_one_after_the_other() {
        let read = |text: &str| serde_json::from_str::<Extra>(text).expect("an object");
        let others = [r#"{"a":1,"x":2,"a":3}"#, "{}", r#"{"y":4,"x":5}"#, r#"{"b":6}"#].map(read);
        for own in [r#"{"b":0,"k":0,"a":0,"k":1}"#, r#"{"x":0}"#].map(read) {
            let [mut one_by_one, mut at_once] = [own.clone(), own];
            others.iter().for_each(|other| one_by_one.merge(other.clone()));
            at_once.merge_all(others.to_vec());
            assert_eq!(one_by_one, at_once);
            assert_eq!(at_once.get("x"), Some(Json::from(json!(5))));
        }
    }

    #[test]
    fn many_small_fields_cost_their_size() {
        let text = format!("{{{}}}", vec![r#""a":0"#; 10_000].join(","));
        let extra: Extra = serde_json::from_str(&text).expect("an object");
        assert_eq!(extra.byte_len(), text.len());
        assert_eq!(extra.iter().count(), 10_000);
    }

    #[test]
    fn deep_nesting_is_kept_and_not_parsed() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let json = Json::parse(deep.clone()).expect("JSON");
        assert_eq!(json.as_str().len(), deep.len());
        assert!(json.to_value().is_err());
    }
}

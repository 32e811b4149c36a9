//! JSON whose objects keep the order of their keys.
//!
//! Each server writes its keys in an order of its own, and clients come to rely on it, so an
//! imitation has to keep it. The objects of `serde_json` do so only with the feature
//! `preserve_order`, which a crate would switch on for the whole program that it is in.

use std::{
    borrow::Cow,
    fmt,
    ops::{Index, IndexMut},
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Number;

/// Any JSON value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Value {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Value>),
    Object(Map),
}

/// An object: its fields in the order in which they were written or read.
///
/// A key that was read twice is there twice, and the last one counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Map(Vec<(String, Value)>);

static NULL: Value = Value::Null;

impl Map {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().rfind(|(own, _)| own == key).map(|(_, value)| value)
    }

    pub(crate) fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A field that is there already keeps its place.
    pub(crate) fn insert(&mut self, key: String, value: Value) {
        *self.slot(key) = value;
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    fn slot(&mut self, key: String) -> &mut Value {
        let at = self.0.iter().rposition(|(own, _)| *own == key).unwrap_or_else(|| {
            self.0.push((key, Value::Null));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

impl Value {
    pub(crate) fn get(&self, key: impl Key) -> Option<&Self> {
        key.of(self)
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(is) => Some(*is),
            _ => None,
        }
    }

    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    pub(crate) fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    pub(crate) const fn as_array(&self) -> Option<&Vec<Self>> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) const fn as_object(&self) -> Option<&Map> {
        match self {
            Self::Object(fields) => Some(fields),
            _ => None,
        }
    }

    pub(crate) fn is_u64(&self) -> bool {
        self.as_u64().is_some()
    }

    pub(crate) const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(crate) const fn is_string(&self) -> bool {
        matches!(self, Self::String(_))
    }

    pub(crate) const fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    /// What a JSON pointer (RFC 6901) leads to.
    pub(crate) fn pointer(&self, path: &str) -> Option<&Self> {
        if path.is_empty() {
            return Some(self);
        }
        path.strip_prefix('/')?.split('/').try_fold(self, |value, step| {
            let step = step.replace("~1", "/").replace("~0", "~");
            match value {
                Self::Object(fields) => fields.get(&step),
                Self::Array(values) => values.get(step.parse::<usize>().ok()?),
                _ => None,
            }
        })
    }
}

/// What a value is looked up by.
pub(crate) trait Key {
    fn of(self, value: &Value) -> Option<&Value>;
}

impl Key for &str {
    fn of(self, value: &Value) -> Option<&Value> {
        value.as_object()?.get(self)
    }
}

impl Key for usize {
    fn of(self, value: &Value) -> Option<&Value> {
        value.as_array()?.get(self)
    }
}

impl<K: Key> Index<K> for Value {
    type Output = Self;

    /// Null where there is nothing.
    fn index(&self, key: K) -> &Self {
        key.of(self).unwrap_or(&NULL)
    }
}

impl IndexMut<&str> for Value {
    /// Makes an object of anything else, so that a field can always be written.
    fn index_mut(&mut self, key: &str) -> &mut Self {
        if !self.is_object() {
            *self = Self::Object(Map::new());
        }
        match self {
            Self::Object(fields) => fields.slot(key.to_owned()),
            _ => unreachable!("it is an object now"),
        }
    }
}

impl fmt::Display for Value {
    /// The JSON text, without white space.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(is) => serializer.serialize_bool(*is),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(values) => serializer.collect_seq(values),
            Self::Object(fields) => serializer.collect_map(fields.fields()),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, is: bool) -> Result<Value, E> {
                Ok(Value::Bool(is))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(number.into())
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(number.into())
            }

            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(number.into())
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(text.into())
            }

            fn visit_string<E>(self, text: String) -> Result<Value, E> {
                Ok(text.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Value::Array(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Value::Object(Map(fields)))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl FromIterator<(String, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> Self {
        let mut map = Self::new();
        for (key, value) in fields {
            map.insert(key, value);
        }
        map
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<I: IntoIterator<Item = Self>>(values: I) -> Self {
        Self::Array(values.into_iter().collect())
    }
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl PartialEq<&str> for Value {
    fn eq(&self, text: &&str) -> bool {
        self.as_str() == Some(text)
    }
}

impl PartialEq<str> for Value {
    fn eq(&self, text: &str) -> bool {
        self.as_str() == Some(text)
    }
}

impl PartialEq<bool> for Value {
    fn eq(&self, is: &bool) -> bool {
        self.as_bool() == Some(*is)
    }
}

/// What [`json!`] makes a value of, without taking it.
pub(crate) trait ToValue {
    fn to_value(&self) -> Value;
}

impl<T: ToValue + ?Sized> From<&T> for Value {
    fn from(value: &T) -> Self {
        value.to_value()
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> Value {
        (**self).to_value()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, ToValue::to_value)
    }
}

impl<T: ToValue> ToValue for [T] {
    fn to_value(&self) -> Value {
        self.iter().map(ToValue::to_value).collect()
    }
}

impl<T: ToValue> ToValue for Vec<T> {
    fn to_value(&self) -> Value {
        self.as_slice().to_value()
    }
}

impl ToValue for str {
    fn to_value(&self) -> Value {
        Value::String(self.to_owned())
    }
}

impl ToValue for Value {
    fn to_value(&self) -> Value {
        self.clone()
    }
}

/// Conversions by value, and the same by reference for [`json!`].
macro_rules! from {
    ($($kind:ty: $value:ident => $made:expr;)*) => {$(
        impl From<$kind> for Value {
            fn from($value: $kind) -> Self {
                $made
            }
        }

        impl ToValue for $kind {
            fn to_value(&self) -> Value {
                self.clone().into()
            }
        }
    )*};
}

from! {
    bool: is => Self::Bool(is);
    u16: number => Self::Number(number.into());
    i32: number => Self::Number(number.into());
    u64: number => Self::Number(number.into());
    i64: number => Self::Number(number.into());
    usize: number => Self::Number(number.into());
    f32: number => Self::from(f64::from(number));
    f64: number => Number::from_f64(number).map_or(Self::Null, Self::Number);
    String: text => Self::String(text);
    Arc<str>: text => Self::String((*text).to_owned());
    Cow<'_, str>: text => Self::String(text.into_owned());
    Map: fields => Self::Object(fields);
}

impl From<Vec<Self>> for Value {
    fn from(values: Vec<Self>) -> Self {
        Self::Array(values)
    }
}

/// A [`Value`] written as JSON, with expressions in it; keys are literals.
macro_rules! json {
    (null) => { $crate::json::Value::Null };
    ([ $($values:tt)* ]) => {
        $crate::json::Value::Array($crate::json::json!(@array [] $($values)*))
    };
    ({ $($fields:tt)* }) => {{
        #[allow(unused_mut)]
        let mut fields = $crate::json::Map::new();
        $crate::json::json!(@object fields $($fields)*);
        $crate::json::Value::Object(fields)
    }};
    (@array [ $($done:expr,)* ]) => { vec![ $($done,)* ] };
    (@array [ $($done:expr,)* ] null $(, $($rest:tt)*)?) => {
        $crate::json::json!(@array [ $($done,)* $crate::json::json!(null), ] $($($rest)*)?)
    };
    (@array [ $($done:expr,)* ] [ $($value:tt)* ] $(, $($rest:tt)*)?) => {
        $crate::json::json!(@array [ $($done,)* $crate::json::json!([ $($value)* ]), ] $($($rest)*)?)
    };
    (@array [ $($done:expr,)* ] { $($value:tt)* } $(, $($rest:tt)*)?) => {
        $crate::json::json!(@array [ $($done,)* $crate::json::json!({ $($value)* }), ] $($($rest)*)?)
    };
    (@array [ $($done:expr,)* ] $value:expr $(, $($rest:tt)*)?) => {
        $crate::json::json!(@array [ $($done,)* $crate::json::json!($value), ] $($($rest)*)?)
    };
    (@object $into:ident) => {};
    (@object $into:ident $key:literal : null $(, $($rest:tt)*)?) => {
        $into.insert($key.to_owned(), $crate::json::Value::Null);
        $crate::json::json!(@object $into $($($rest)*)?);
    };
    (@object $into:ident $key:literal : [ $($value:tt)* ] $(, $($rest:tt)*)?) => {
        $into.insert($key.to_owned(), $crate::json::json!([ $($value)* ]));
        $crate::json::json!(@object $into $($($rest)*)?);
    };
    (@object $into:ident $key:literal : { $($value:tt)* } $(, $($rest:tt)*)?) => {
        $into.insert($key.to_owned(), $crate::json::json!({ $($value)* }));
        $crate::json::json!(@object $into $($($rest)*)?);
    };
    (@object $into:ident $key:literal : $value:expr $(, $($rest:tt)*)?) => {
        $into.insert($key.to_owned(), $crate::json::json!($value));
        $crate::json::json!(@object $into $($($rest)*)?);
    };
    ($value:expr) => { $crate::json::ToValue::to_value(&$value) };
}
pub(crate) use json;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_keeps_its_order() {
        let name = String::from("n");
        let mut value = json!({
            "z": null, "a": [1, [], {"y": true, "b": 1.5}, null], "name": name, "none": None::<&str>,
        });
        value["last"] = "x".into();
        value["a2"]["inner"] = 1.into();
        value["z"] = false.into();
        assert_eq!(
            value.to_string(),
            r#"{"z":false,"a":[1,[],{"y":true,"b":1.5},null],"name":"n","none":null,"last":"x","a2":{"inner":1}}"#
        );
    }

    #[test]
    fn what_is_read_keeps_its_order_and_its_numbers() {
        let text = r#"{"z":[-1,18446744073709551615,1e300,"é\n"],"a":{"c":1,"b":{}},"a":2}"#;
        let value: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(value.to_string(), text.replace("1e300", "1e+300"));
        assert_eq!(value["a"].as_u64(), Some(2), "the last of two counts");
        assert_eq!(value.pointer("/z/0").and_then(Value::as_i64), Some(-1));
        assert_eq!(value.pointer("/z/9"), None);
        assert!(value["missing"]["deeper"][0].is_null());
    }

    #[test]
    fn the_slashes_of_a_pointer() {
        let value = json!({"a/b": {"c~d": 1}});
        assert_eq!(value.pointer("/a~1b/c~0d").and_then(Value::as_u64), Some(1));
        assert_eq!(value.pointer(""), Some(&value));
        assert_eq!(value.pointer("a"), None);
    }
}

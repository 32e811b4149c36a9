//! The members of a JSON object, where they stand.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::steps;

/// The members of the object that `json` is, in their order, each as the text of its name and of
/// its value; nothing where it is no object.
///
/// `json` must be known to be JSON: what it is not gives members that make no sense, but never a
/// panic. One pass over the text; nothing is copied but names with escapes.
pub(crate) fn members(json: &str) -> Members<'_> {
    let inside = json.trim_ascii().strip_prefix('{').unwrap_or_default();
    Members { rest: inside }
}

/// The items of the array that `json` is, in their order; nothing where it is no array.
///
/// The same as [`members`] in all else.
#[cfg(any(test, feature = "compatible", feature = "tool-call", feature = "web"))]
pub(crate) fn items(json: &str) -> Items<'_> {
    let inside = json.trim_ascii().strip_prefix('[').unwrap_or_default();
    Items { rest: inside }
}

/// See [`members`].
#[derive(Clone, Debug)]
pub(crate) struct Members<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.trim_ascii_start();
        let name = value_len(rest);
        if !rest.starts_with('"') || name < 2 {
            self.rest = "";
            return None;
        }
        let (name, rest) = rest.split_at(name);
        let value = rest.trim_ascii_start().strip_prefix(':')?.trim_ascii_start();
        let (value, rest) = value.split_at(value_len(value));
        steps::count_bytes(name.len() + value.len());
        let rest = rest.trim_ascii_start();
        self.rest = rest.strip_prefix(',').unwrap_or_default();
        Some((unquoted(name), value))
    }
}

/// See [`items`].
#[cfg(any(test, feature = "compatible", feature = "tool-call", feature = "web"))]
#[derive(Clone, Debug)]
pub(crate) struct Items<'a> {
    rest: &'a str,
}

#[cfg(any(test, feature = "compatible", feature = "tool-call", feature = "web"))]
impl<'a> Iterator for Items<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_ascii_start();
        let (value, rest) = rest.split_at(value_len(rest));
        steps::count_bytes(value.len());
        self.rest = rest.trim_ascii_start().strip_prefix(',').unwrap_or_default();
        (!value.is_empty()).then_some(value)
    }
}

/// The text of the string that `json` is, quotes included.
pub(crate) fn unquoted(json: &str) -> Cow<'_, str> {
    let inside = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inside {
        Some(inside) if memchr(b'\\', inside.as_bytes()).is_none() => Cow::Borrowed(inside),
        // A lone surrogate is no text; its escape is the nearest that there is.
        _ => serde_json::from_str(json).map_or(Cow::Borrowed(inside.unwrap_or(json)), Cow::Owned),
    }
}

/// `json` without the white space between its tokens; the same where there is none.
#[cfg(any(
    test,
    feature = "ollama",
    feature = "openai",
    feature = "responses",
    feature = "tool-call"
))]
pub(crate) fn compact(json: &str) -> Cow<'_, str> {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let mut out = String::new();
    let (mut from, mut at) = (0, 0);
    let bytes = json.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        if byte == b'"' {
            at += string_len(&bytes[at..]);
        } else if is_space(byte) {
            out.push_str(&json[from..at]);
            at += bytes[at..].iter().take_while(|&&byte| is_space(byte)).count();
            from = at;
        } else {
            at += 1;
        }
    }
    if from == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[from..]);
    Cow::Owned(out)
}

/// Whether more than `limit` lists and objects of `json` stand in each other.
///
/// One pass over the text; of what is no JSON it says something, but never panics.
#[cfg(any(feature = "edge", feature = "tool-call"))]
pub(crate) fn nests_deeper_than(json: &str, limit: usize) -> bool {
    let bytes = json.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at += string_len(&bytes[at..]);
                continue;
            }
            b'{' | b'[' if depth == limit => return true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    false
}

/// How long the value is that `json` begins with; 0 where there is none.
pub(crate) fn value_len(json: &str) -> usize {
    let bytes = json.as_bytes();
    match bytes.first() {
        Some(b'"') => string_len(bytes),
        Some(b'{' | b'[') => {
            let mut depth = 0_usize;
            let mut at = 0;
            while let Some(byte) = bytes.get(at) {
                match byte {
                    b'"' => {
                        at += string_len(&bytes[at..]);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return at + 1;
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
            at
        }
        // All that can follow a word or a number.
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
            bytes.iter().position(ends).unwrap_or(bytes.len())
        }
    }
}

/// How long the string is that `bytes` begin with, quotes included.
pub(crate) fn string_len(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[ a-z\"\\\\,:{}\\[\\]é\n]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[ a-z\"\\\\:,]{0,4}", inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn members_are_those_of_the_parser(value in value(), pretty: bool) {
            let json = if pretty {
                serde_json::to_string_pretty(&value)
            } else {
                serde_json::to_string(&value)
            }
            .expect("a value");
            let found: Vec<_> = members(&json)
                .map(|(name, value)| (name.into_owned(), serde_json::from_str(value).expect("a value")))
                .collect();
            let expected: Vec<(String, Value)> = match &value {
                Value::Object(fields) => fields.clone().into_iter().collect(),
                _ => Vec::new(),
            };
            prop_assert_eq!(found, expected);
            let found: Vec<Value> =
                items(&json).map(|item| serde_json::from_str(item).expect("a value")).collect();
            let expected = match &value {
                Value::Array(items) => items.clone(),
                _ => Vec::new(),
            };
            prop_assert_eq!(found, expected);
            prop_assert_eq!(compact(&json), serde_json::to_string(&value).expect("a value"));
        }

        #[test]
        fn what_is_no_json_does_no_harm(text in "[{}\\[\\]\":,\\\\ aé]{0,24}") {
            let _ = members(&text).take(100).count();
            let _ = items(&text).take(100).count();
            let _ = compact(&text);
        }
    }

    #[test]
    fn names_are_read_and_values_stay_as_they_are() {
        let json =
            r#" { "a" : 1.0E5 , "\u0062\"" : [ {"c" : "}"} ] , "a":12345678901234567890123} "#;
        let found: Vec<_> = members(json).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], ("a".into(), "1.0E5"));
        assert_eq!(found[1], ("b\"".into(), r#"[ {"c" : "}"} ]"#));
        assert_eq!(found[2], ("a".into(), "12345678901234567890123"));
        assert_eq!(
            compact(json),
            r#"{"a":1.0E5,"\u0062\"":[{"c":"}"}],"a":12345678901234567890123}"#
        );
        assert_eq!(json!([1]), serde_json::from_str::<Value>("[ 1 ]").expect("an array"));
    }
}

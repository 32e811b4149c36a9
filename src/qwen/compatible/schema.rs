//! Schemas without the keywords that an upstream refuses.

use crate::json::{string_len, unquoted, value_len};

/// Keywords that the portal refuses.
const REFUSED: [&str; 2] = ["additionalProperties", "patternProperties"];

/// What a container of a schema holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// Keywords, and for each its value.
    Keywords,
    /// Names of properties, and for each its schema.
    Properties,
    /// Schemas alone.
    List,
}

/// Gives the pieces of `schema`, which is JSON, that are left without the refused keywords.
/// Properties of that name stay, and so does what is data and no schema (`enum`, `const`,
/// `default`, `examples`).
///
/// The order of keys and the spelling of all values stay, white space between them does not. One
/// pass, however deep the schema nests.
pub(super) fn without_refused(schema: &str, mut give: impl FnMut(&str)) {
    let mut rest = schema.trim_ascii();
    let mut open: Vec<Holds> = Vec::new();
    // Whether the innermost container has given something yet.
    let mut is_first = true;
    // What the next value is, if it is a container.
    let mut next = Holds::Keywords;
    loop {
        // A value: a container is entered, anything else is given as it stands.
        if let Some(bracket @ (b'{' | b'[')) = rest.as_bytes().first() {
            give(&rest[..1]);
            rest = &rest[1..];
            open.push(if *bracket == b'[' { Holds::List } else { next });
            is_first = true;
        } else {
            let value = value_len(rest);
            give(&rest[..value]);
            rest = &rest[value..];
        }
        // The way to the next value that is kept.
        loop {
            rest = rest.trim_ascii_start();
            let Some(&holds) = open.last() else { return };
            match rest.as_bytes().first() {
                Some(b'}' | b']') => {
                    give(&rest[..1]);
                    rest = &rest[1..];
                    open.pop();
                    is_first = false;
                    continue;
                }
                Some(b',') => {
                    rest = rest[1..].trim_ascii_start();
                }
                Some(_) => {}
                None => return,
            }
            if holds == Holds::List {
                next = Holds::Keywords;
                if !std::mem::take(&mut is_first) {
                    give(",");
                }
                break;
            }
            let name = rest.get(..string_len(rest.as_bytes())).unwrap_or_default();
            let word = unquoted(name);
            let Some(value) = rest[name.len()..].trim_ascii_start().strip_prefix(':') else {
                return;
            };
            rest = value.trim_ascii_start();
            let is_keyword = holds == Holds::Keywords;
            if is_keyword && REFUSED.contains(&&*word) {
                rest = &rest[value_len(rest)..];
                continue;
            }
            if !std::mem::take(&mut is_first) {
                give(",");
            }
            give(name);
            give(":");
            if is_keyword && matches!(&*word, "enum" | "const" | "default" | "examples") {
                let value = value_len(rest);
                give(&rest[..value]);
                rest = &rest[value..];
                continue;
            }
            next = if is_keyword && word == "properties" {
                Holds::Properties
            } else {
                Holds::Keywords
            };
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn without(schema: &str) -> String {
        let mut out = String::new();
        without_refused(schema, |piece| out.push_str(piece));
        out
    }

    /// The same on a tree.
    fn naive(schema: &Value) -> Value {
        match schema {
            Value::Object(object) => object
                .iter()
                .filter(|(key, _)| !REFUSED.contains(&key.as_str()))
                .map(|(key, value)| {
                    let value = match (key.as_str(), value) {
                        ("properties", Value::Object(properties)) => properties
                            .iter()
                            .map(|(name, schema)| (name.clone(), naive(schema)))
                            .collect(),
                        ("enum" | "const" | "default" | "examples", value) => value.clone(),
                        (_, value) => naive(value),
                    };
                    (key.clone(), value)
                })
                .collect(),
            Value::Array(items) => items.iter().map(naive).collect(),
            other => other.clone(),
        }
    }

    fn schema() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[ a\"\\\\,:{}\\[\\]]{0,6}".prop_map(Value::from),
        ];
        let name = prop::sample::select(vec![
            "additionalProperties",
            "patternProperties",
            "properties",
            "enum",
            "default",
            "items",
            "type",
            "a\"",
        ]);
        leaf.prop_recursive(5, 48, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name.clone(), inner), 0..5).prop_map(|fields| {
                    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_the_same_as_on_a_tree(schema in schema(), pretty: bool) {
            let text = if pretty {
                serde_json::to_string_pretty(&schema)
            } else {
                serde_json::to_string(&schema)
            }
            .expect("a value");
            let left: Value = serde_json::from_str(&without(&text)).expect("JSON");
            prop_assert_eq!(left, naive(&schema));
        }

        #[test]
        fn what_is_no_json_does_no_harm(text in "[{}\\[\\]\":,\\\\ aé]{0,24}") {
            let _ = without(&text);
        }
    }

    #[test]
    fn order_and_spelling_stay() {
        let schema = r#"{ "type" : "object", "additional\u0050roperties": {"a": [1]},
            "properties": {"z": {"maximum": 1.0E5, "enum": [ {"additionalProperties": 1} ]},
                "patternProperties": {"patternProperties": {}, "type": "str\u0069ng"}} }"#;
        assert_eq!(
            without(schema),
            concat!(
                r#"{"type":"object","properties":{"z":{"maximum":1.0E5,"#,
                r#""enum":[ {"additionalProperties": 1} ]},"#,
                r#""patternProperties":{"type":"str\u0069ng"}}}"#
            )
        );
        assert_eq!(without("true"), "true");
        assert_eq!(naive(&json!({"additionalProperties": {}})), json!({}));
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = r#"{"a":["#.repeat(100_000) + &"]}".repeat(100_000);
        assert_eq!(without(&deep).len(), deep.len());
    }
}

//! What JSON means, as a digest (sans-I/O).
//!
//! It is taken while the text is read, so no tree of values is ever built: what is kept are the
//! names of the objects that are open, and there is a limit to those.

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess},
};
use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// How many fields may be kept at once, of all objects that stand in each other.
const FIELDS: usize = 4096;

/// What a JSON value means: the same for two that differ in the order of keys, in white space, or
/// in how numbers are spelled.
pub(super) struct Meaning {
    pub(super) digest: Digest,
    /// Whether all digits of all numbers count. Integers of more than 64 bits have become floats,
    /// which may be the same for two of them.
    pub(super) is_exact: bool,
}

/// What `json` means; `None` where it is not JSON, nests deeper than 128 levels, holds a number
/// beyond an `f64`, or has more than [`FIELDS`] fields open at once.
pub(super) fn digest(json: &str) -> Option<Meaning> {
    let state = State { fields: Cell::new(0), is_exact: Cell::new(true) };
    let mut hash = Sha256::new();
    let mut text = serde_json::Deserializer::from_str(json);
    Value { hash: &mut hash, state: &state }.deserialize(&mut text).ok()?;
    text.end().ok()?;
    Some(Meaning { digest: hash.finalize().into(), is_exact: state.is_exact.get() })
}

struct State {
    /// How many fields are kept.
    fields: Cell<usize>,
    is_exact: Cell<bool>,
}

/// Hashes a value: every kind has a mark, and says where it ends.
struct Value<'a> {
    hash: &'a mut Sha256,
    state: &'a State,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.hash.update(b"z");
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.hash.update(if value { b"t" } else { b"f" });
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<(), E> {
        put_integer(self.hash, number.into());
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<(), E> {
        put_integer(self.hash, number.into());
        Ok(())
    }

    /// By value: JavaScript writes `1.0` back as `1`. Integers keep all their digits.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<(), E> {
        /// Integers up to here have one spelling as a float.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        /// 2⁶³; what is a float from here on may have been an integer.
        const BEYOND: f64 = 9_223_372_036_854_775_808.0;

        if number.abs() >= BEYOND {
            self.state.is_exact.set(false);
        }
        if number.fract() == 0.0 && number.abs() <= EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "whole and within 53 bits")]
            put_integer(self.hash, number as i128);
        } else {
            self.hash.update(b"n");
            self.hash.update(number.to_bits().to_le_bytes());
        }
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.hash.update(b"s");
        put(self.hash, text.as_bytes());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { hash, state } = self;
        hash.update(b"a");
        while list.next_element_seed(Value { hash, state })?.is_some() {}
        hash.update(b".");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { hash, state } = self;
        let before = state.fields.get();
        let mut fields: Vec<(Box<str>, Digest)> = Vec::new();
        while let Some(key) = map.next_key()? {
            if state.fields.get() == FIELDS {
                return Err(de::Error::custom("too many fields"));
            }
            state.fields.set(state.fields.get() + 1);
            let mut value = Sha256::new();
            map.next_value_seed(Value { hash: &mut value, state })?;
            fields.push((key, value.finalize().into()));
        }
        state.fields.set(before);
        // Of several fields of a name the last counts: the sort is stable.
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        hash.update(b"o");
        for (at, (key, value)) in fields.iter().enumerate() {
            if fields.get(at + 1).is_none_or(|(next, _)| next != key) {
                hash.update(b",");
                put(hash, key.as_bytes());
                hash.update(value);
            }
        }
        hash.update(b".");
        Ok(())
    }
}

fn put(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn put_integer(hash: &mut Sha256, integer: i128) {
    hash.update(b"i");
    hash.update(integer.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alike(a: &str, b: &str) -> bool {
        let digest = |json| digest(json).expect("JSON").digest;
        digest(a) == digest(b)
    }

    #[test]
    fn it_is_what_is_said_and_not_how() {
        assert!(alike(r#"{"a":1,"b":[1.0,"x"]}"#, "{ \"b\" : [1, \"\\u0078\"] ,\n\"a\":1e0}"));
        assert!(alike(r#"{"a":1,"a":2}"#, r#"{"a":2}"#));
        for (a, b) in [
            ("[]", "{}"),
            ("[[],[]]", "[[[]]]"),
            (r#"{"a":{},"b":1}"#, r#"{"a":{"b":1}}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#),
            ("[1,2]", "[2,1]"),
            ("1", "\"1\""),
            ("null", "false"),
        ] {
            assert!(!alike(a, b), "{a} {b}");
        }
    }

    #[test]
    fn what_cannot_be_told_has_none() {
        let many = |count| format!("{{{}}}", vec![r#""a":0"#; count].join(","));
        assert!(digest(&many(FIELDS)).is_some());
        assert!(digest(&many(FIELDS + 1)).is_none());
        // Those that are closed are no longer kept.
        assert!(digest(&format!("[{},{}]", many(FIELDS), many(FIELDS))).is_some());
        assert!(digest(&("[".repeat(200) + &"]".repeat(200))).is_none());
        assert!(digest("{").is_none());
        assert!(digest("{} {}").is_none());
        assert!(!digest("18446744073709551616").expect("JSON").is_exact);
    }

    proptest! {
        /// Two values are alike exactly where the parser makes the same of them.
        #[test]
        fn it_agrees_with_the_parser(
            a in "[\\[\\]{},:\"ab1 ]{0,12}",
            b in "[\\[\\]{},:\"ab1 ]{0,12}",
        ) {
            let parse = |json: &str| serde_json::from_str::<serde_json::Value>(json).ok();
            prop_assert_eq!(digest(&a).is_some(), parse(&a).is_some());
            if let (Some(x), Some(y)) = (parse(&a), parse(&b)) {
                prop_assert_eq!(alike(&a, &b), x == y);
            }
        }
    }
}

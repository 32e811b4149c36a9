//! Objects that grow: a server that shows what it has read so far of a model's JSON closes what is
//! still open, each time.

use serde_json::Value;

/// Whether `before` may be an earlier state of `now`, both whole JSON: what stood there stands there
/// still, and may have gone on where it was closed. Strings have gained characters, numbers digits,
/// lists items and objects members; in the place of null there may be anything.
pub(super) fn grown(before: &str, now: &str) -> bool {
    let read = |json: &str| serde_json::from_str::<Value>(json).ok();
    matches!((read(before), read(now)), (Some(before), Some(now)) if goes_on(&before, &now))
}

fn goes_on(before: &Value, now: &Value) -> bool {
    match (before, now) {
        (Value::Null, _) => true,
        (Value::String(before), Value::String(now)) => now.starts_with(before.as_str()),
        (Value::Number(before), Value::Number(now)) => {
            now.to_string().starts_with(&before.to_string())
        }
        (Value::Array(before), Value::Array(now)) => {
            let Some((last, others)) = before.split_last() else { return true };
            now.starts_with(others) && now.get(others.len()).is_some_and(|now| goes_on(last, now))
        }
        (Value::Object(before), Value::Object(now)) => before
            .iter()
            .all(|(name, before)| now.get(name).is_some_and(|now| goes_on(before, now))),
        (before, now) => before == now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_closed_too_early_has_grown() {
        for (before, now) in [
            ("{}", r#"{"a":1}"#),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#),
            (r#"{"a":1}"#, r#"{ "b": 2, "a": 17 }"#),
            (r#"{"a":""}"#, r#"{"a":"x"}"#),
            (r#"{"a":"x\n"}"#, r#"{"a":"x\u000ay"}"#),
            (r#"{"a":null}"#, r#"{"a":{"b":[]}}"#),
            (r#"{"a":[]}"#, r#"{"a":[1]}"#),
            (r#"{"a":[1,"x"]}"#, r#"{"a":[1,"xy",{}]}"#),
            (r#"{"a":[1,{}]}"#, r#"{"a":[1,{"b":true}]}"#),
            (r#"{"a":{"b":{}}}"#, r#"{"a":{"b":{"c":-1.5}},"d":[]}"#),
            (r#"{"a":0}"#, r#"{"a":0.25}"#),
        ] {
            assert!(grown(before, now), "{before} {now}");
        }
    }

    #[test]
    fn another_object_has_not() {
        for (before, now) in [
            (r#"{"a":1}"#, "{}"),
            (r#"{"a":1}"#, r#"{"b":1}"#),
            (r#"{"a":12}"#, r#"{"a":1}"#),
            (r#"{"a":"x"}"#, r#"{"a":"y"}"#),
            (r#"{"a":"x"}"#, r#"{"a":["x"]}"#),
            (r#"{"a":[1,2]}"#, r#"{"a":[1]}"#),
            (r#"{"a":["x",2]}"#, r#"{"a":["xy",2]}"#),
            (r#"{"a":true}"#, r#"{"a":false}"#),
            (r#"{"a":1}"#, r#"{"a":1,"b""#),
            (r#"{"a":1}"#, r#"{"a":1}{"b":2}"#),
            (r#"{"a":1}"#, ""),
        ] {
            assert!(!grown(before, now), "{before} {now}");
        }
    }
}

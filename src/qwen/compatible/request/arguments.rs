//! The arguments of a call that a client sends back.
//!
//! Servers read them as JSON before the template sees them, and refuse the request, and so every
//! later one of its conversation, where they are no object.

use std::borrow::Cow;

use bytes::BytesMut;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::json::string_into;

/// How often arguments may be wrapped in something else.
const WRAPPED: usize = 4;

/// The arguments as one JSON object: as they are where they are one, else what they wrap (a string,
/// a list of one, a code fence), else an object that holds them whole as its `input`.
pub(in crate::qwen) fn object(arguments: &str) -> Cow<'_, str> {
    if is_object(arguments) {
        return Cow::Borrowed(arguments);
    }
    let mut inside = Cow::Borrowed(arguments.trim());
    for _ in 0..WRAPPED {
        if is_object(&inside) {
            return inside;
        }
        if inside.starts_with('{')
            && let Some(escaped) = escaped(&inside)
            && is_object(&escaped)
        {
            return escaped.into();
        }
        let next = match &inside {
            Cow::Borrowed(text) => unwrapped(text),
            Cow::Owned(text) => unwrapped(text).map(|text| text.into_owned().into()),
        };
        match next {
            Some(next) => inside = next,
            None => break,
        }
    }
    if ["", "null", "[]"].contains(&&*inside) {
        return Cow::Borrowed("{}");
    }
    drop(inside);
    let trimmed = arguments.trim();
    match serde_json::from_str::<IgnoredAny>(trimmed) {
        Ok(_) => ["{\"input\":", trimmed, "}"].concat().into(),
        Err(_) => {
            const AROUND: &str = "{\"input\":\"\"}";
            // A buffer that doubles is half empty, and this may be long and all quotes.
            let escaped = arguments.bytes().filter(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'));
            let mut out = BytesMut::with_capacity(AROUND.len() + arguments.len() + escaped.count());
            out.extend_from_slice(b"{\"input\":");
            string_into(&mut out, arguments);
            out.extend_from_slice(b"}");
            String::from_utf8(out.into()).expect("UTF-8 in, UTF-8 out").into()
        }
    }
}

fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// JSON with the control characters in its strings escaped, as it has to have them; `None` where
/// there are none.
fn escaped(json: &str) -> Option<String> {
    let mut out = String::with_capacity(json.len() + 16);
    let (mut in_string, mut is_escaped, mut any) = (false, false, false);
    for char in json.chars() {
        if in_string && char.is_ascii_control() && char != '\u{7f}' {
            any = true;
            match char {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                other => out.push_str(&format!("\\u{:04x}", u32::from(other))),
            }
        } else {
            in_string ^= char == '"' && !is_escaped;
            out.push(char);
        }
        is_escaped = in_string && char == '\\' && !is_escaped;
    }
    any.then_some(out)
}

/// What `text` wraps, without blanks around it.
fn unwrapped(text: &str) -> Option<Cow<'_, str>> {
    if text.starts_with('"') {
        let inside: String = serde_json::from_str(text).ok()?;
        return Some(inside.trim().to_owned().into());
    }
    if text.starts_with('[') {
        let list: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        let [only] = &*list else { return None };
        return Some(only.get().trim().into());
    }
    let fenced = text.strip_prefix("```")?.strip_suffix("```")?;
    let (language, inside) = fenced.split_once('\n')?;
    let is_language = language.trim().bytes().all(|b| b.is_ascii_alphanumeric());
    is_language.then(|| inside.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// History: arguments are always one object.
    #[test]
    fn arguments_are_one_object() {
        for (kind, arguments, sent) in [
            ("an object", r#"{"a": 1}"#, r#"{"a": 1}"#),
            ("blanks around it", " {\"a\":1}\n", " {\"a\":1}\n"),
            ("empty", "", "{}"),
            ("blank", " \n", "{}"),
            ("null", "null", "{}"),
            ("an empty list", "[]", "{}"),
            ("encoded twice", r#""{\"a\":1}""#, r#"{"a":1}"#),
            ("encoded three times", r#""\"{\\\"a\\\":1}\"""#, r#"{"a":1}"#),
            ("an empty string", r#""""#, "{}"),
            ("a list around it", r#"[{"a":1}]"#, r#"{"a":1}"#),
            ("a list around a string", r#"["{\"a\":1}"]"#, r#"{"a":1}"#),
            ("a fence", "```json\n{\"a\":1}\n```", r#"{"a":1}"#),
            ("a fence without a name", "```\n{}\n```", "{}"),
            ("a line end", "{\"a\":\"x\ny\"}", r#"{"a":"x\ny"}"#),
            ("a tab behind a quote", "{\"a\":\"\\\"\t\"}", r#"{"a":"\"\t"}"#),
            ("a bell between", "{\n\"a\":\"\u{7}\"}", "{\n\"a\":\"\\u0007\"}"),
            ("cut", r#"{"a": "b"#, r#"{"input":"{\"a\": \"b"}"#),
            ("two objects", r#"{"a":1}{"b":2}"#, r#"{"input":"{\"a\":1}{\"b\":2}"}"#),
            ("a text", "ls -la", r#"{"input":"ls -la"}"#),
            ("a number", "7", r#"{"input":7}"#),
            ("a longer list", "[1, 2]", r#"{"input":[1, 2]}"#),
            ("a string of a text", r#""ls""#, r#"{"input":"ls"}"#),
            ("NaN", r#"{"a":NaN}"#, r#"{"input":"{\"a\":NaN}"}"#),
        ] {
            assert_eq!(object(arguments), sent, "{kind}");
            assert!(is_object(&object(arguments)), "{kind}");
        }
        let deep = "[".repeat(100_000);
        assert!(is_object(&object(&deep)));
    }
}

//! What is meant by arguments that are no JSON object, though one is in them.

use serde_json::value::RawValue;

use crate::json::{
    lenient::{Object, Word, lenient},
    object::{Checker, Found},
};

/// How many wrappings are taken off.
const WRAPPINGS: usize = 5;

/// The longest tag, in bytes.
const TAG_LEN: usize = 200;

/// What some text means where arguments should stand.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// This object.
    Object(String),
    /// No arguments.
    Nothing,
    /// Nothing that can be read.
    Unknown,
}

/// Takes off what servers and models wrap arguments in: a list around one object, a string that
/// holds the JSON, a Markdown fence, the tags of a dialect for calls in text. What those tags hold may
/// be the whole call, or parameters in tags of their own.
pub(super) fn meant(text: &str) -> Meant {
    let mut text = text.trim().to_owned();
    for _ in 0..WRAPPINGS {
        match &*text {
            "" | "null" | "None" => return Meant::Nothing,
            json if is_object(json) => return Meant::Object(text),
            _ => {}
        }
        let inside = if let Ok(inside) = serde_json::from_str::<String>(&text) {
            inside
        } else if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(&text) {
            match &*items {
                [] => return Meant::Nothing,
                [only] => only.get().to_owned(),
                _ => return Meant::Unknown,
            }
        } else if let Some(inside) = fenced(&text) {
            inside.to_owned()
        } else if let Some(inside) = tagged(&text) {
            inside
        } else {
            return Meant::Unknown;
        };
        text = inside.trim().to_owned();
    }
    if is_object(&text) { Meant::Object(text) } else { Meant::Unknown }
}

/// Whether `text` is a whole object.
pub(super) fn is_object(text: &str) -> bool {
    let mut checker = Checker::default();
    text.starts_with('{') && checker.push(text).is_ok() && checker.found() == Found::Object
}

/// What stands in a Markdown fence.
fn fenced(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("```")?;
    let inside = inside.trim_end().strip_suffix("```").unwrap_or(inside);
    Some(inside.trim_start_matches(|c: char| c.is_ascii_alphanumeric()))
}

/// The tag that `text` begins with: its name, what else stands in it, and what stands behind it.
fn tag(text: &str) -> Option<(&str, &str, &str)> {
    let inside = text.strip_prefix('<')?;
    let end = inside.as_bytes().iter().take(TAG_LEN).position(|&b| b == b'>')?;
    let (tag, behind) = (&inside[..end], &inside[end + 1..]);
    let (name, more) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
    let is_name = !name.is_empty() && !name.starts_with('/') && !name.contains(['<', '{', '"']);
    is_name.then_some((name, more, behind))
}

/// Whether a tag of this name stands around a call or its arguments.
fn is_wrapper(name: &str) -> bool {
    let name = name.rsplit(':').next().unwrap_or(name);
    name.starts_with('|')
        || name.starts_with("function=")
        || matches!(
            name,
            "tool_call"
                | "tool_calls"
                | "toolcall"
                | "function_call"
                | "function_calls"
                | "function"
                | "invoke"
                | "arguments"
                | "parameters"
                | "args"
                | "tool_use"
                | "tool"
                | "tools"
                | "input"
        )
}

/// What is meant by the tags of a dialect, as JSON.
fn tagged(text: &str) -> Option<String> {
    let mut rest = text.trim();
    let mut wrappers = 0;
    while let Some((_, _, behind)) = tag(rest).filter(|(name, ..)| is_wrapper(name)) {
        rest = behind.trim_start();
        wrappers += 1;
    }
    if wrappers > 0 {
        while let Some(at) = rest.rfind('<') {
            let is_closer = rest[at..].strip_suffix('>').is_some_and(|closer| {
                let name = closer.trim_start_matches(['<', '/']);
                is_wrapper(name) || name.ends_with('|')
            });
            if !is_closer {
                break;
            }
            rest = rest[..at].trim_end();
        }
        if !rest.starts_with('<') {
            return Some(call(rest).unwrap_or_else(|| rest.to_owned()));
        }
    }
    members(rest)
}

/// The arguments in a whole call that is written as JSON.
fn call(json: &str) -> Option<String> {
    lenient! {
        struct Call<'a> {
            name: Word<'a> = "name",
            arguments: Option<&'a RawValue> = "arguments",
            parameters: Option<&'a RawValue> = "parameters",
        }
    }

    let call = serde_json::from_str::<Object<Call<'_>>>(json).ok()?.0?;
    let arguments = call.arguments.or(call.parameters)?;
    call.name.is_something().then(|| arguments.get().to_owned())
}

/// The object whose members are in tags: `<parameter=a>`, `<parameter name="a">`, `<a>`, or
/// `<arg_key>` and `<arg_value>`.
fn members(text: &str) -> Option<String> {
    let mut rest = text.trim();
    let mut json = String::from("{");
    while !rest.is_empty() {
        let (name, more, behind) = tag(rest)?;
        let (key, closer, behind) = if let Some(key) = name.strip_prefix("parameter=") {
            (key, "</parameter>".to_owned(), behind)
        } else if name == "parameter" || name == "param" {
            let key = more.trim().strip_prefix("name=")?.trim_matches(['"', '\'']);
            (key, format!("</{name}>"), behind)
        } else if name == "arg_key" {
            let (key, behind) = behind.split_once("</arg_key>")?;
            let behind = behind.trim_start().strip_prefix("<arg_value>")?;
            (key.trim(), "</arg_value>".to_owned(), behind)
        } else {
            (name, format!("</{name}>"), behind)
        };
        let (value, behind) = behind.split_once(&*closer)?;
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&serde_json::to_string(key).ok()?);
        json.push(':');
        json.push_str(&typed(value)?);
        rest = behind.trim_start();
    }
    json.push('}');
    (json.len() > 2).then_some(json)
}

/// The value of a tag, whose type nobody knows here: what is JSON and no string is that.
fn typed(value: &str) -> Option<String> {
    let text = value.strip_prefix('\n').unwrap_or(value);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let trimmed = text.trim();
    let is_json = !trimmed.starts_with('"') && serde_json::from_str::<&RawValue>(trimmed).is_ok();
    if is_json { Some(trimmed.to_owned()) } else { serde_json::to_string(text).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappings_are_taken_off() {
        let object = |json: &str| Meant::Object(json.to_owned());
        let json = r#"{"a":"b"}"#;
        for (text, expected) in [
            (r#""{\"a\":\"b\"}""#, object(json)),
            (r#""\"{\\\"a\\\":\\\"b\\\"}\"""#, object(json)),
            (r#"[{"a":"b"}]"#, object(json)),
            (r#"["{\"a\":\"b\"}"]"#, object(json)),
            ("```json\n{\"a\":\"b\"}\n```", object(json)),
            ("```\n{\"a\":\"b\"}\n```\n", object(json)),
            ("```json {\"a\":\"b\"}```", object(json)),
            (r#""```json\n{\"a\":\"b\"}\n```""#, object(json)),
            (r#"<tool_call>{"name":"f","arguments":{"a":"b"}}</tool_call>"#, object(json)),
            ("<tool_call>\n{\"a\":\"b\"}\n</tool_call>", object(json)),
            (r#"<arguments>{"a":"b"}</arguments>"#, object(json)),
            (r#"<|tool_call_begin|>{"a":"b"}<|tool_call_end|>"#, object(json)),
            ("<parameter=a>\nb\n</parameter>", object(json)),
            ("<parameter name=\"a\">b</parameter>", object(json)),
            ("<function=f>\n<parameter=a>\nb\n</parameter>\n</function>", object(json)),
            (
                "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n{\"c\":[true]}\n\
                 </parameter>\n</function>\n</tool_call>",
                object(r#"{"a":1,"b":{"c":[true]}}"#),
            ),
            ("<arg_key>a</arg_key>\n<arg_value>b</arg_value>", object(json)),
            ("<path>/x y</path><line>7</line>", object(r#"{"path":"/x y","line":7}"#)),
            ("", Meant::Nothing),
            ("null", Meant::Nothing),
            ("[]", Meant::Nothing),
            (r#""""#, Meant::Nothing),
            ("[1,true]", Meant::Unknown),
            ("[{},{}]", Meant::Unknown),
            ("7", Meant::Unknown),
            ("a = 1", Meant::Unknown),
            ("<parameter=a>b", Meant::Unknown),
            ("<tool_call>{\"a\":</tool_call>", Meant::Unknown),
            ("```json\n{\"a\":\n```", Meant::Unknown),
            (r#""{\"a\"""#, Meant::Unknown),
        ] {
            assert_eq!(meant(text), expected, "{text}");
        }
        // So many wrappings are no slip.
        let mut deep = json.to_owned();
        for _ in 0..=WRAPPINGS {
            deep = serde_json::to_string(&deep).expect("a string");
        }
        assert_eq!(meant(&deep), Meant::Unknown);
    }
}

//! The arguments of one call: a [`Writer`] that owns the JSON, and the conversion of a
//! parameter's text to the JSON that its declared type asks for.
//!
//! Values are literal: no entity is decoded and nothing is read as XML, except nested tags where
//! the schema wants an object or an array and the model wrote plain tags.

mod nested;
mod python;

use serde_json::Value;

use self::python::Literal;
use super::{
    markup::{DEPTH_LIMIT, is_number},
    schema::{Parameter, Types},
};
use crate::json::{nests_deeper_than, push_escaped, push_string};

/// Writes one JSON object, a member at a time; whatever happens, [`close`](Writer::close) makes
/// it whole.
///
/// It writes to a buffer that the caller gives at every call, so what is written can leave at
/// once.
///
/// ```
/// use tower_qwen::tool::internals::Writer;
///
/// let (mut writer, mut json) = (Writer::new(), String::new());
/// writer.begin_string("path", &mut json);
/// writer.push_str("a\"b", &mut json);
/// // The upstream is cut here.
/// writer.close(&mut json);
/// assert_eq!(json, r#"{"path":"a\"b"}"#);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Writer {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    /// Nothing is written yet.
    #[default]
    Start,
    /// Between members, at least one is there.
    Members,
    /// Inside a string value.
    String,
    /// The object is complete.
    Closed,
}

impl Writer {
    /// A writer that has written nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Start }
    }

    fn key(&mut self, key: &str, out: &mut String) {
        self.end_string(out);
        if self.state == State::Closed {
            return;
        }
        out.push_str(if self.state == State::Start { "{\"" } else { ",\"" });
        push_escaped(out, key);
        out.push_str("\":");
        self.state = State::Members;
    }

    /// Begins member `key`, a string whose text follows with [`push_str`](Writer::push_str). A
    /// string that is still open is ended first.
    pub fn begin_string(&mut self, key: &str, out: &mut String) {
        self.key(key, out);
        if self.state == State::Members {
            out.push('"');
            self.state = State::String;
        }
    }

    /// More text of the open string, escaped; without an open string nothing is written.
    pub fn push_str(&mut self, text: &str, out: &mut String) {
        if self.state == State::String {
            push_escaped(out, text);
        }
    }

    /// Ends the open string, if there is one.
    pub fn end_string(&mut self, out: &mut String) {
        if self.state == State::String {
            out.push('"');
            self.state = State::Members;
        }
    }

    /// Member `key` whole, with `json` as its value. The caller vouches that it is JSON.
    pub fn member(&mut self, key: &str, json: &str, out: &mut String) {
        self.key(key, out);
        if self.state == State::Members {
            out.push_str(json);
        }
    }

    /// Ends the open string and the object; the second time nothing is written.
    pub fn close(&mut self, out: &mut String) {
        self.end_string(out);
        match self.state {
            State::Start => out.push_str("{}"),
            State::Members => out.push('}'),
            State::String | State::Closed => {}
        }
        self.state = State::Closed;
    }
}

/// Writes the whole text of a parameter as JSON of one of `types`: the first that fits of null,
/// boolean, integer, number, object or array, and the text as a string.
///
/// Nothing is invented: what does not fit its type is a string, and so are `NaN`, `Infinity` and
/// numbers beyond the range of a double.
///
/// Returns false, with nothing written, where the text is blank and the type has no string: such
/// a parameter is better left out: small models write an empty tag for one that they do not want.
///
/// ```
/// use tower_qwen::tool::internals::{Types, convert};
///
/// let json = |text, types| {
///     let mut json = String::new();
///     convert(text, types, &mut json).then_some(json)
/// };
/// assert_eq!(json("007", Types::INTEGER).as_deref(), Some("7"));
/// assert_eq!(json("007", Types::STRING).as_deref(), Some("\"007\""));
/// assert_eq!(json("{'a': True}", Types::OBJECT).as_deref(), Some("{\"a\":true}"));
/// assert_eq!(json("soon", Types::INTEGER).as_deref(), Some("\"soon\""));
/// assert_eq!(json(" ", Types::INTEGER), None);
/// ```
pub fn convert(text: &str, types: Types, out: &mut String) -> bool {
    convert_or(text, types, out, |_| false)
}

/// [`convert`] for values in plain tags, where an object or an array may be written as nested
/// tags.
pub(super) fn convert_nested(text: &str, parameter: &Parameter<'_>, out: &mut String) -> bool {
    convert_or(text, parameter.types(), out, |out| nested::write(text.trim(), parameter, out))
}

/// [`convert`], where what no type fits is left to `other` before it is a string.
fn convert_or(
    text: &str,
    types: Types,
    out: &mut String,
    other: impl FnOnce(&mut String) -> bool,
) -> bool {
    if !types.contains(Types::STRING) && text.trim().is_empty() {
        return false;
    }
    if !typed(text.trim(), types, out) && !other(out) {
        push_string(out, text);
    }
    true
}

/// Writes trimmed text as a type that is not string, if one of `types` fits.
fn typed(text: &str, types: Types, out: &mut String) -> bool {
    if types == Types::STRING {
        return false;
    }
    if is_null(text) && (types.contains(Types::NULL) || !types.contains(Types::STRING)) {
        out.push_str("null");
        return true;
    }
    if types.contains(Types::BOOLEAN) {
        for word in ["true", "false"] {
            if text.eq_ignore_ascii_case(word) {
                out.push_str(word);
                return true;
            }
        }
    }
    if types.contains(Types::INTEGER) && integer(text, out) {
        return true;
    }
    if types.contains(Types::NUMBER) && is_number(text) {
        out.push_str(text);
        return true;
    }
    container(text, types, out)
}

/// The words for null: JSON's and Python's.
fn is_null(text: &str) -> bool {
    matches!(text, "null" | "None")
}

/// An optional sign and digits, with a fraction of zeros at most; all digits are kept.
fn integer(text: &str, out: &mut String) -> bool {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let whole = match digits.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole,
        Some(_) => return false,
        None => digits,
    };
    // More digits than a double's range is no number to most readers of JSON.
    if whole.is_empty() || whole.len() > 300 || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let significant = whole.trim_start_matches('0');
    if significant.is_empty() {
        out.push('0');
    } else {
        if negative {
            out.push('-');
        }
        out.push_str(significant);
    }
    true
}

/// An object or an array: JSON, then a Python literal, then once more if that gave a string.
fn container(text: &str, types: Types, out: &mut String) -> bool {
    if !types.contains(Types::OBJECT) && !types.contains(Types::ARRAY) {
        return false;
    }
    let mut literal = literal(text, types);
    if let Some(Literal::String(inner)) = &literal {
        literal = self::literal(inner.trim(), types);
    }
    let Some(Literal::Container(json)) = literal else { return false };
    out.push_str(&json);
    true
}

fn literal(text: &str, types: Types) -> Option<Literal> {
    let fits = |first: u8| match first {
        b'{' => types.contains(Types::OBJECT),
        b'[' => types.contains(Types::ARRAY),
        _ => false,
    };
    let first = *text.as_bytes().first()?;
    if !matches!(first, b'{' | b'[' | b'(' | b'"' | b'\'') {
        return None;
    }
    // Reading into a `Value` checks what `IgnoredAny` would let through: lone surrogates and
    // numbers without a double. The text itself is passed on, so numbers keep their digits.
    let literal = match serde_json::from_str(text) {
        Ok(Value::String(inner)) => Literal::String(inner),
        Ok(_) if nests_deeper_than(text, DEPTH_LIMIT) => return None,
        Ok(_) => Literal::Container(text.to_owned()),
        Err(_) => python::parse(text)?,
    };
    match &literal {
        Literal::Container(json) if !json.bytes().next().is_some_and(fits) => None,
        _ => Some(literal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str, types: Types) -> Option<String> {
        let mut out = String::new();
        let written = convert(text, types, &mut out);
        if written {
            serde_json::from_str::<Value>(&out).expect("JSON");
        }
        assert!(written || out.is_empty());
        written.then_some(out)
    }

    #[track_caller]
    fn check(text: &str, types: Types, expected: &str) {
        assert_eq!(json(text, types).as_deref(), Some(expected), "{text:?} as {types:?}");
    }

    #[test]
    fn a_string_is_the_text_whatever_it_looks_like() {
        for text in ["null", "None", "true", "42", "{\"a\": 1}", " padded ", ""] {
            check(text, Types::STRING, &serde_json::to_string(text).expect("a string"));
        }
    }

    #[test]
    fn null_needs_leave_or_the_absence_of_string() {
        check("null", Types::STRING | Types::NULL, "null");
        check(" None\n", Types::INTEGER | Types::NULL, "null");
        check("None", Types::INTEGER, "null");
        check("null", Types::STRING | Types::INTEGER, "\"null\"");
        check("none", Types::STRING | Types::NULL, "\"none\"");
    }

    #[test]
    fn booleans_in_any_case_and_never_invented() {
        check("TRUE", Types::BOOLEAN, "true");
        check(" False ", Types::BOOLEAN, "false");
        check("yes", Types::BOOLEAN, "\"yes\"");
    }

    #[test]
    fn integers_keep_all_digits() {
        check("+007", Types::INTEGER, "7");
        check("-0", Types::INTEGER, "0");
        check("5.000", Types::INTEGER, "5");
        check("123456789012345678901234567890", Types::INTEGER, "123456789012345678901234567890");
        check("5.5", Types::INTEGER, "\"5.5\"");
        check("-", Types::INTEGER, "\"-\"");
        check(".", Types::INTEGER, "\".\"");
        check(&"9".repeat(400), Types::INTEGER, &format!("\"{}\"", "9".repeat(400)));
    }

    #[test]
    fn numbers_are_those_of_json() {
        check("-1.50e+3", Types::NUMBER, "-1.50e+3");
        check("3", Types::NUMBER, "3");
        for text in ["NaN", "Infinity", "1e999", "01", ".5", "1.", "+1", "1e", "--1", "inf"] {
            check(text, Types::NUMBER, &format!("\"{text}\""));
        }
    }

    #[test]
    fn objects_and_arrays_from_json_python_and_strings_of_them() {
        check("{\"n\": 1.10}", Types::OBJECT, "{\"n\": 1.10}");
        check("{'a': [True, None, (1, 'x')]}", Types::OBJECT, "{\"a\":[true,null,[1,\"x\"]]}");
        check("\"{\\\"a\\\": 1}\"", Types::OBJECT, "{\"a\": 1}");
        check("[1, 2,]", Types::ARRAY, "[1,2]");
        check("[1]", Types::OBJECT, "\"[1]\"");
        check("{\"a\": }", Types::OBJECT, "\"{\\\"a\\\": }\"");
        let deep = "[".repeat(200) + &"]".repeat(200);
        check(&deep, Types::ARRAY, &format!("\"{deep}\""));
        let deep = "[".repeat(125) + &"]".repeat(125);
        check(&deep, Types::ARRAY, &format!("\"{deep}\""));
    }

    #[test]
    fn a_union_tries_the_others_before_string() {
        let types = Types::STRING | Types::INTEGER | Types::OBJECT;
        check("5", types, "5");
        check("five ", types, "\"five \"");
        check("{\"a\":1}", types, "{\"a\":1}");
    }

    #[test]
    fn blank_text_without_string_is_left_out() {
        assert_eq!(json(" \n", Types::INTEGER | Types::NULL), None);
        check("", Types::STRING | Types::NULL, "\"\"");
    }

    #[test]
    fn every_control_character_is_escaped() {
        let text: String = (0u8..0x80).map(char::from).chain("é\u{2028}𝄞".chars()).collect();
        let mut out = String::new();
        push_string(&mut out, &text);
        assert_eq!(serde_json::from_str::<String>(&out).expect("JSON"), text);
    }

    #[test]
    fn the_writer_closes_whatever_is_open() {
        let (mut writer, mut out) = (Writer::new(), String::new());
        writer.close(&mut out);
        writer.close(&mut out);
        writer.begin_string("late", &mut out);
        writer.push_str("late", &mut out);
        assert_eq!(out, "{}");

        let (mut writer, mut out) = (Writer::new(), String::new());
        writer.begin_string("a", &mut out);
        writer.push_str("x\n", &mut out);
        writer.member("b", "1", &mut out);
        writer.begin_string("c\"", &mut out);
        writer.close(&mut out);
        assert_eq!(out, r#"{"a":"x\n","b":1,"c\"":""}"#);
    }
}

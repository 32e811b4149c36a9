//! JSON as models write it, passed on as JSON that parses: what arrives leaves at once as far as
//! it can be relied on, and at any point the rest can be closed.

use super::escape::{Escape, Escaped};
use crate::json::{push_escaped, push_string};

/// How deeply a value may nest. Readers of JSON often stop at 128, and the value stands inside the
/// arguments object.
pub(in crate::tool) const DEPTH_LIMIT: usize = 120;

/// The longest number or word that is waited for, in bytes.
const WORD_LIMIT: usize = 4096;
/// How many blanks after a quote are waited for before the quote counts as the string's end.
const GAP_LIMIT: usize = 256;

/// What became of the text that was fed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::tool) enum Fed {
    /// All of it was taken, and the value goes on.
    More,
    /// The value ended after so many bytes.
    Done(usize),
    /// The byte at this place cannot be; the value is best closed there.
    Broken(usize),
}

/// Passes one JSON value on.
///
/// Blanks outside of strings are dropped. A comma and a key are kept back until their value
/// begins, numbers and words until their end; strings flow. So [`finish`](Relay::finish) can
/// close the value anywhere. Repaired on the way: raw control characters, escapes that JSON does
/// not have, lone surrogates, single quotes, Python's words, trailing commas, and quotes inside
/// of strings that nothing structural follows.
#[derive(Clone, Debug)]
pub(in crate::tool) struct Relay {
    state: State,
    /// One bit a level, the innermost lowest: 1 for an object.
    stack: u128,
    depth: usize,
    /// Whether something stands before the next element of the innermost container.
    comma: bool,
    /// The key of the next value, with quotes, or as much of it as has arrived.
    key: String,
    in_key: bool,
    quote: u8,
    escape: Escape,
    /// A number or word so far, or blanks after a quote.
    word: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Value,
    Key,
    Colon,
    String,
    Escape,
    /// After a quote that may end the string.
    Quote,
    Word,
    After,
    Done,
}

impl Relay {
    /// A relay for a value of any type.
    pub(in crate::tool) const fn new() -> Self {
        Self {
            state: State::Value,
            stack: 0,
            depth: 0,
            comma: false,
            key: String::new(),
            in_key: false,
            quote: b'"',
            escape: Escape::new(),
            word: String::new(),
        }
    }

    pub(in crate::tool) fn feed(&mut self, text: &str, out: &mut String) -> Fed {
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.state {
                State::Done => return Fed::Done(at),
                State::String => {
                    let rest = &bytes[at..];
                    let run = rest
                        .iter()
                        .position(|&byte| {
                            byte == self.quote || byte == b'\\' || byte == b'"' || byte < 0x20
                        })
                        .unwrap_or(rest.len());
                    let target = if self.in_key { &mut self.key } else { &mut *out };
                    target.push_str(&text[at..at + run]);
                    at += run;
                    match bytes.get(at) {
                        None => break,
                        Some(b'\\') => {
                            self.escape.begin();
                            self.state = State::Escape;
                        }
                        Some(&byte) if byte == self.quote => {
                            self.word.clear();
                            self.state = State::Quote;
                        }
                        // A raw control character, or a double quote between single ones.
                        Some(_) => push_escaped(target, &text[at..=at]),
                    }
                    at += 1;
                }
                State::Escape => {
                    let c = text[at..].chars().next().expect("`at` is before the end");
                    let target = if self.in_key { &mut self.key } else { &mut *out };
                    let taken = self.escape.feed(c, |part| match part {
                        Escaped::Json(escape) => target.push_str(escape),
                        Escaped::Half => target.push_str("\\ufffd"),
                        Escaped::Text(text) => push_escaped(target, text),
                    });
                    at += if taken { c.len_utf8() } else { 0 };
                    if !self.escape.is_open() {
                        self.state = State::String;
                    }
                }
                State::Quote => {
                    if is_blank(byte) && self.word.len() < GAP_LIMIT {
                        self.word.push(byte.into());
                        at += 1;
                    } else if self.ends_string(byte) {
                        self.end_string(out);
                    } else {
                        let target = if self.in_key { &mut self.key } else { &mut *out };
                        push_escaped(target, if self.quote == b'"' { "\"" } else { "'" });
                        push_escaped(target, &self.word);
                        self.state = State::String;
                    }
                }
                State::Word => {
                    if matches!(byte, b',' | b'}' | b']' | b':') || is_blank(byte) {
                        self.end_word(out);
                    } else if is_word(byte) && self.word.len() < WORD_LIMIT {
                        self.word.push(byte.into());
                        at += 1;
                    } else {
                        return Fed::Broken(at);
                    }
                }
                _ if is_blank(byte) => at += 1,
                State::Value => {
                    match byte {
                        b'{' | b'[' if self.depth < DEPTH_LIMIT => {
                            self.lead(out);
                            out.push(byte.into());
                            self.stack = self.stack << 1 | u128::from(byte == b'{');
                            self.depth += 1;
                            if byte == b'{' {
                                self.state = State::Key;
                            }
                        }
                        b']' if self.in_array() => self.pop(out),
                        b'"' | b'\'' => {
                            self.lead(out);
                            out.push('"');
                            self.begin_string(byte, false);
                        }
                        _ if is_word(byte) => {
                            self.word.clear();
                            self.word.push(byte.into());
                            self.state = State::Word;
                        }
                        _ => return Fed::Broken(at),
                    }
                    at += 1;
                }
                State::Key => {
                    match byte {
                        b'"' | b'\'' => {
                            self.key.clear();
                            self.key.push('"');
                            self.begin_string(byte, true);
                        }
                        b'}' => self.pop(out),
                        _ => return Fed::Broken(at),
                    }
                    at += 1;
                }
                State::Colon => {
                    if byte != b':' {
                        return Fed::Broken(at);
                    }
                    self.state = State::Value;
                    at += 1;
                }
                State::After => {
                    match byte {
                        b',' => {
                            self.state = if self.in_object() { State::Key } else { State::Value }
                        }
                        b'}' if self.in_object() => self.pop(out),
                        b']' if self.in_array() => self.pop(out),
                        _ => return Fed::Broken(at),
                    }
                    at += 1;
                }
            }
        }
        if self.state == State::Done { Fed::Done(at) } else { Fed::More }
    }

    /// Closes what is open. What has no value yet is left out: a key alone, half a number.
    pub(in crate::tool) fn finish(&mut self, out: &mut String) {
        match self.state {
            State::String | State::Escape | State::Quote if !self.in_key => out.push('"'),
            State::Word if plain(&self.word).is_some() => self.end_word(out),
            _ => {}
        }
        while self.depth > 0 {
            self.pop(out);
        }
        self.state = State::Done;
    }

    fn in_object(&self) -> bool {
        self.depth > 0 && self.stack & 1 == 1
    }

    fn in_array(&self) -> bool {
        self.depth > 0 && self.stack & 1 == 0
    }

    /// Writes what stands before a value: a comma, a key.
    fn lead(&mut self, out: &mut String) {
        if self.comma {
            out.push(',');
        }
        self.comma = false;
        if self.in_object() {
            out.push_str(&self.key);
            out.push(':');
        }
    }

    fn begin_string(&mut self, quote: u8, in_key: bool) {
        self.quote = quote;
        self.in_key = in_key;
        self.state = State::String;
    }

    /// Whether a quote before `next` is the string's end.
    fn ends_string(&self, next: u8) -> bool {
        if self.in_key {
            next == b':'
        } else {
            self.word.len() >= GAP_LIMIT || matches!(next, b',' | b'}' | b']') || self.depth == 0
        }
    }

    fn end_string(&mut self, out: &mut String) {
        if self.in_key {
            self.key.push('"');
            self.in_key = false;
            self.state = State::Colon;
        } else {
            out.push('"');
            self.end_value();
        }
    }

    fn end_word(&mut self, out: &mut String) {
        self.lead(out);
        match plain(&self.word) {
            Some(json) => out.push_str(json),
            None => push_string(out, &self.word),
        }
        self.end_value();
    }

    fn end_value(&mut self) {
        self.comma = true;
        self.state = if self.depth == 0 { State::Done } else { State::After };
    }

    fn pop(&mut self, out: &mut String) {
        out.push(if self.in_object() { '}' } else { ']' });
        self.stack >>= 1;
        self.depth -= 1;
        self.end_value();
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_')
}

/// Whether `word` is a number of JSON, within the range of a double.
pub(in crate::tool) fn is_number(word: &str) -> bool {
    serde_json::from_str::<f64>(word).is_ok()
}

/// The JSON of a number, or of a word of JSON or Python.
pub(in crate::tool) fn plain(word: &str) -> Option<&str> {
    match word {
        "true" | "True" => Some("true"),
        "false" | "False" => Some("false"),
        "null" | "None" => Some("null"),
        word => is_number(word).then_some(word),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn relay(pieces: &[&str]) -> (String, Fed) {
        let (mut relay, mut out) = (Relay::new(), String::new());
        for piece in pieces {
            let fed = relay.feed(piece, &mut out);
            if fed != Fed::More {
                relay.finish(&mut out);
                return (out, fed);
            }
        }
        relay.finish(&mut out);
        (out, Fed::More)
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(relay(&[text]).0, expected, "{text}");
        let mut buffers: Vec<String> = text.chars().map(String::from).collect();
        buffers.push(String::new());
        let pieces: Vec<&str> = buffers.iter().map(String::as_str).collect();
        assert_eq!(relay(&pieces).0, expected, "{text}, character by character");
        serde_json::from_str::<Value>(expected).expect("JSON");
    }

    #[test]
    fn valid_json_keeps_its_strings_and_digits() {
        check(
            r#"{ "a" : [1.10, -2e5, "x\u00e9\n", {}], "b": {"c": null}, "d": "\ud83d\ude00" }"#,
            r#"{"a":[1.10,-2e5,"x\u00e9\n",{}],"b":{"c":null},"d":"\ud83d\ude00"}"#,
        );
    }

    #[test]
    fn what_models_write_instead_is_repaired() {
        check("{\"a\":\"x\ny\t\"}", r#"{"a":"x\ny\t"}"#);
        check(
            r#"{"a":"\d+ \' \ud800 \ud800x \udc00 \u12g"}"#,
            r#"{"a":"\\d+ ' \ufffd \ufffdx \ufffd \\u12g"}"#,
        );
        check(
            r#"{"a":"\ud800\ud83d\ude00\ud800\n\ud800\u0041\ud800\uzz"}"#,
            r#"{"a":"\ufffd\ud83d\ude00\ufffd\n\ufffd\u0041\ufffd\\uzz"}"#,
        );
        check(r#"{'a': 'say "hi"', "b": [1, 2, ],}"#, r#"{"a":"say \"hi\"","b":[1,2]}"#);
        check(r#"{"a": "print("x") now", "b": True}"#, r#"{"a":"print(\"x\") now","b":true}"#);
        check(r#"{"a": NaN, "b": None, "c": 01}"#, r#"{"a":"NaN","b":null,"c":"01"}"#);
    }

    #[test]
    fn a_cut_is_closed_without_inventing() {
        let text = r#"{"a": [1, {"key": "v\u00e9"}, 234], "b": true}"#;
        let cut = |at: usize| relay(&[&text[..at]]).0;
        assert_eq!(cut(1), "{}");
        assert_eq!(cut(5), "{}");
        assert_eq!(cut(8), r#"{"a":[1]}"#);
        assert_eq!(cut(17), r#"{"a":[1,{}]}"#);
        assert_eq!(cut(22), r#"{"a":[1,{"key":"v"}]}"#);
        assert_eq!(cut(43), r#"{"a":[1,{"key":"v\u00e9"},234]}"#);
        for at in 1..text.len() {
            serde_json::from_str::<Value>(&cut(at)).unwrap_or_else(|error| panic!("{at}: {error}"));
        }
    }

    #[test]
    fn the_end_and_what_cannot_be_are_told() {
        assert_eq!(relay(&["{} tail"]).1, Fed::Done(2));
        assert_eq!(relay(&["[1} "]), ("[1]".into(), Fed::Broken(2)));
        assert_eq!(relay(&["{\"a\" 1}"]).0, "{}");
        assert_eq!(relay(&["{a: 1}"]).1, Fed::Broken(1));
        let deep = "[".repeat(200);
        let (json, fed) = relay(&[&deep]);
        assert_eq!(fed, Fed::Broken(DEPTH_LIMIT));
        serde_json::from_str::<Value>(&json).expect("JSON");
    }

    proptest! {
        #[test]
        fn any_text_becomes_json_and_cuts_do_not_matter(
            text in "(?s)[\\[\\]{}\",:'\\\\ua-f0-9é \n.-]{0,60}", a in 0usize..61, b in 0usize..61,
        ) {
            let text = format!("{{{text}");
            let cut = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap();
            let (a, b) = (cut(a.min(b)), cut(a.max(b)));
            let (whole, fed) = relay(&[&text]);
            prop_assert!(serde_json::from_str::<Value>(&whole).is_ok(), "{whole}");
            let (cut, cut_fed) = relay(&[&text[..a], &text[a..b], &text[b..]]);
            prop_assert_eq!(&cut, &whole);
            prop_assert_eq!(fed == Fed::More, cut_fed == Fed::More);
        }
    }
}

//! The text inside `{"input":"…"}`, while the arguments of a call arrive.

use std::borrow::Cow;

use memchr::memchr2;

use super::names::INPUT;
use crate::json;

/// How much white space in front of the text is read; behind more of it, it is found at the end.
const OPENING_LEN: usize = 256;

/// Decodes the one string of a custom tool's arguments piece by piece.
#[derive(Debug, Default)]
pub(super) struct Input {
    state: State,
    /// What was decoded so far.
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the string.
    #[default]
    Before,
    /// In it: up to which place the arguments were decoded.
    Within(usize),
    /// Behind it.
    Behind,
    /// The arguments begin with something else.
    Elsewhere,
}

impl Input {
    /// Looks at the arguments so far, of which those before are the beginning; which place of
    /// [`text`](Self::text) the new part begins at.
    pub(super) fn read(&mut self, arguments: &str) -> usize {
        let before = self.text.len();
        if self.state == State::Before {
            self.state = opening(arguments);
        }
        if let State::Within(at) = self.state {
            self.state = self.decode(arguments, at);
        }
        before
    }

    fn decode(&mut self, arguments: &str, mut at: usize) -> State {
        loop {
            let rest = &arguments[at..];
            let Some(plain) = memchr2(b'"', b'\\', rest.as_bytes()) else {
                self.text.push_str(rest);
                return State::Within(arguments.len());
            };
            self.text.push_str(&rest[..plain]);
            at += plain;
            let rest = &rest[plain..];
            if rest.starts_with('"') {
                return State::Behind;
            }
            match escape(rest) {
                None => return State::Within(at),
                Some((decoded, len)) => {
                    self.text.push_str(&decoded);
                    at += len;
                }
            }
        }
    }

    /// The arguments are complete: reads the text out of those that begin with something else.
    ///
    /// A model that calls its string by another name means it all the same; what has no string
    /// is given as it stands.
    pub(super) fn finish(&mut self, arguments: &str) {
        if matches!(self.state, State::Within(_) | State::Behind) {
            return;
        }
        self.state = State::Behind;
        let strings = || json::members(arguments).filter(|(_, value)| value.starts_with('"'));
        let named = strings().filter(|(name, _)| name == INPUT).last();
        let only = || (strings().count() == 1).then(|| strings().next()).flatten();
        match named.or_else(only) {
            Some((_, value)) => self.text.push_str(&json::unquoted(value)),
            None => self.text.push_str(arguments),
        }
    }
}

/// Where the string begins.
fn opening(arguments: &str) -> State {
    let name = format!("\"{INPUT}\"");
    let mut rest = arguments;
    for token in ["{", &name, ":", "\""] {
        rest = rest.trim_ascii_start();
        match rest.strip_prefix(token) {
            Some(behind) => rest = behind,
            None if token.starts_with(rest) && arguments.len() < OPENING_LEN => {
                return State::Before;
            }
            None => return State::Elsewhere,
        }
    }
    State::Within(arguments.len() - rest.len())
}

/// What the escape says that `rest` begins with, and how long it is; `None` where its end is not
/// there yet.
fn escape(rest: &str) -> Option<(Cow<'static, str>, usize)> {
    const UNIT: usize = "\\uXXXX".len();
    let bytes = rest.as_bytes();
    let len = if *bytes.get(1)? == b'u' { UNIT } else { 2 };
    let one = rest.get(..len)?;
    if let Some(decoded) = json::unescape(one) {
        return Some((decoded.into(), len));
    }
    // Half of a pair: the other half follows, or it never does.
    let other = rest.get(UNIT..).unwrap_or_default();
    if other.len() < UNIT && ("\\u".starts_with(other) || other.starts_with("\\u")) {
        return None;
    }
    match rest.get(..2 * UNIT).and_then(json::unescape) {
        Some(pair) => Some((pair.into(), 2 * UNIT)),
        None => Some(("\u{fffd}".into(), len)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn read(arguments: &str, len: usize) -> String {
        let mut input = Input::default();
        let mut joined = String::new();
        let ends = (0..=arguments.len()).filter(|end| arguments.is_char_boundary(*end));
        for end in ends.step_by(len.max(1)).chain([arguments.len()]) {
            let from = input.read(&arguments[..end]);
            joined.push_str(&input.text[from..]);
        }
        let from = input.text.len();
        input.finish(arguments);
        joined.push_str(&input.text[from..]);
        assert_eq!(joined, input.text);
        joined
    }

    #[test]
    fn arguments_of_another_form_are_read_at_the_end() {
        for (arguments, text) in [
            (r#"{"input":"a\nb"}"#, "a\nb"),
            (r#" { "input" : "x" } "#, "x"),
            (r#"{"n":1,"input":"x"}"#, "x"),
            (r#"{"patch":"*** Begin\n"}"#, "*** Begin\n"),
            (r#"{"a":"x","b":"y"}"#, r#"{"a":"x","b":"y"}"#),
            (r#"{"input":7}"#, r#"{"input":7}"#),
            (r#"{"input":"\ud83c"}"#, "\u{fffd}"),
            (r#"{"input":"\ud83cx\udf0c\ud83c\n"}"#, "\u{fffd}x\u{fffd}\u{fffd}\n"),
            ("{}", "{}"),
        ] {
            for len in 1..4 {
                assert_eq!(read(arguments, len), text, "{arguments}");
            }
        }
        let blanks = format!("{}{{\"input\":\"x\"}}", " ".repeat(OPENING_LEN));
        assert_eq!(read(&blanks, 1), "x");
    }

    proptest! {
        /// However the arguments are cut, the pieces are the string.
        #[test]
        fn the_pieces_are_the_string(text in "\\PC{0,24}", ascii: bool, len in 1_usize..9) {
            let mut inside = Value::from(text.clone()).to_string();
            if ascii {
                let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
                inside = format!("\"{}\"", units.collect::<String>());
            }
            prop_assert_eq!(read(&format!("{{\"input\":{inside}}}"), len), text);
        }
    }
}

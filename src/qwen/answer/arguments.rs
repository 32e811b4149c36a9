//! The arguments of a native call, held to what they must be: one JSON object.

use super::unwrap::{Meant, meant};
use crate::{
    Text,
    json::object::{Checker, Found},
};

/// How much may wait that does not begin as an object, in bytes.
const HELD_LEN: usize = 64 * 1024;

/// The arguments of one call, while they arrive.
///
/// What is JSON passes as it is and at once. Raw control characters in strings are escaped. What
/// does not begin as an object waits for its end: it may be an object that something is wrapped
/// around, or null. Nothing passes of what stands behind an object, or behind a place that is no
/// JSON. Where that is another object, these are the arguments of several calls in one, and they
/// count as cut: the call would be one of those that the model meant.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    checker: Checker,
    state: State,
    /// Whether something did not pass as it came.
    mended: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    /// An empty object came whole and is kept, as a bridge may have written it in the place of
    /// arguments that follow.
    Placeholder(Text),
    /// It did not begin as an object.
    Held(String),
    /// An object, and something behind it.
    Whole(Behind),
    /// No JSON from here on.
    Broken,
}

/// What stands behind an object, as far as it was read.
#[derive(Debug, Default)]
enum Behind {
    /// Leftovers.
    #[default]
    Rest,
    /// A brace that may open another object.
    Brace,
    Object,
}

impl Behind {
    fn read(&mut self, piece: &str) {
        for byte in piece.bytes() {
            *self = match (&self, byte) {
                (Self::Object, _) | (Self::Brace, b'"' | b'\'' | b'}') => Self::Object,
                (Self::Brace, b' ' | b'\t' | b'\r' | b'\n') | (_, b'{') => Self::Brace,
                _ => Self::Rest,
            };
        }
    }
}

/// What the arguments came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// An object, of which this has not passed yet.
    Whole(String),
    /// There were none.
    Empty,
    /// No object, half of one, or several. This would close what has passed.
    Cut(String),
}

impl Arguments {
    /// Takes the next piece; what of it passes.
    pub(super) fn push(&mut self, piece: Text) -> Option<Text> {
        match &mut self.state {
            State::Open if self.checker.found() == Found::Nothing && is_placeholder(&piece) => {
                self.state = State::Placeholder(piece);
                return None;
            }
            State::Open => {}
            State::Placeholder(_) if piece.trim_ascii().is_empty() => return None,
            State::Placeholder(_) if piece.trim_ascii_start().starts_with('{') => {
                self.mended = true;
                self.state = State::Open;
                return self.push(piece);
            }
            State::Placeholder(_) => {
                let kept = self.settle().unwrap_or_default();
                return Some(match self.push(piece) {
                    Some(rest) => format!("{kept}{rest}").into(),
                    None => kept,
                });
            }
            State::Held(held) => {
                if held.len() + piece.len() > HELD_LEN {
                    self.state = State::Broken;
                } else {
                    held.push_str(&piece);
                }
                return None;
            }
            State::Whole(behind) => {
                behind.read(&piece);
                return None;
            }
            State::Broken => return None,
        }
        let Err(bad) = self.checker.push(&piece) else {
            return (!piece.is_empty()).then_some(piece);
        };
        self.mended = true;
        let mut passed = piece[..bad].to_owned();
        let mut rest = &piece[bad..];
        while self.checker.is_in_string()
            && rest.as_bytes().first().is_some_and(|byte| *byte < b' ')
        {
            let escaped = format!("\\u{:04x}", rest.as_bytes()[0]);
            // Within a string that cannot be wrong.
            let _ = self.checker.push(&escaped);
            passed.push_str(&escaped);
            rest = &rest[1..];
            let good = self.checker.push(rest).err().unwrap_or(rest.len());
            passed.push_str(&rest[..good]);
            rest = &rest[good..];
        }
        if !rest.is_empty() {
            self.state = match self.checker.found() {
                Found::Nothing if rest.len() <= HELD_LEN => State::Held(rest.to_owned()),
                Found::Object => {
                    let mut behind = Behind::default();
                    behind.read(rest);
                    State::Whole(behind)
                }
                _ => State::Broken,
            };
        }
        (!passed.is_empty()).then(|| passed.into())
    }

    /// Gives the empty object that was kept, as nothing takes its place.
    pub(super) fn settle(&mut self) -> Option<Text> {
        let State::Placeholder(kept) = &mut self.state else { return None };
        let kept = std::mem::take(kept);
        self.state = State::Open;
        // It is an object, so nothing of it can be wrong.
        let _ = self.checker.push(&kept);
        Some(kept)
    }

    /// Whether an empty object is kept.
    pub(super) fn is_placeholder(&self) -> bool {
        matches!(self.state, State::Placeholder(_))
    }

    /// Whether a whole object is there.
    pub(super) fn is_whole(&self) -> bool {
        self.is_placeholder()
            || matches!(self.state, State::Open | State::Whole(Behind::Rest))
                && self.checker.found() == Found::Object
    }

    /// Whether half an object is there.
    pub(super) fn is_half(&self) -> bool {
        matches!(self.state, State::Open) && self.checker.found() == Found::Beginning
    }

    /// Whether something did not pass as it came.
    pub(super) fn is_mended(&self) -> bool {
        self.mended
    }

    /// The arguments have ended.
    pub(super) fn finish(&mut self) -> End {
        let state = std::mem::replace(&mut self.state, State::Whole(Behind::Rest));
        match (state, self.checker.found()) {
            (State::Held(held), _) => match meant(&held) {
                Meant::Object(json) => End::Whole(json),
                Meant::Nothing => End::Empty,
                Meant::Unknown => End::Cut("{}".to_owned()),
            },
            // A brace at the end is where another one was cut.
            (State::Whole(Behind::Brace | Behind::Object), _) => End::Cut(String::new()),
            (_, Found::Object | Found::Unknown) => End::Whole(String::new()),
            (State::Broken, _) | (_, Found::Beginning) => End::Cut(self.checker.closing()),
            (State::Placeholder(kept), _) => End::Whole(kept.as_str().to_owned()),
            (State::Open | State::Whole(_), Found::Nothing) => End::Empty,
        }
    }
}

/// Whether a piece is an empty object.
fn is_placeholder(piece: &str) -> bool {
    let inside = piece.trim_ascii().strip_prefix('{').and_then(|inside| inside.strip_suffix('}'));
    inside.is_some_and(|inside| inside.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, value::RawValue};

    use super::*;

    fn read(pieces: &[&str]) -> (String, End) {
        let mut arguments = Arguments::default();
        let mut passed = String::new();
        for piece in pieces {
            if let Some(piece) = arguments.push(Text::from(*piece)) {
                assert!(!piece.is_empty());
                passed.push_str(&piece);
            }
        }
        (passed, arguments.finish())
    }

    fn whole(json: &str) -> (String, End) {
        (json.to_owned(), End::Whole(String::new()))
    }

    #[test]
    fn json_passes_as_it_is() {
        for json in ["{ \"a\":{}}", " { \"a\" : 1e400 , \"b\":[ 0.10 ]}\n", "{\"a\":\"\\ud800\"}"] {
            assert_eq!(read(&[json]), whole(json));
            assert_eq!(read(&[&json[..1], "", &json[1..]]), whole(json));
        }
        let piece = Text::from("{\"a\":1}");
        let passed = Arguments::default().push(piece.clone()).expect("passes");
        assert_eq!(passed.as_ptr(), piece.as_ptr(), "no copy");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            read(&["{\"a\":\"x\ny\t", "\r\"}"]),
            whole("{\"a\":\"x\\u000ay\\u0009\\u000d\"}")
        );
        // Between values they are blanks, or wrong.
        assert_eq!(read(&["{\n\"a\":1\n}"]), whole("{\n\"a\":1\n}"));
        assert_eq!(read(&["{\u{1}"]), ("{".into(), End::Cut("}".into())));
    }

    #[test]
    fn what_stands_behind_the_object_is_left_out() {
        assert_eq!(read(&["{\"a\":1}}", "x"]), whole("{\"a\":1}"));
        assert_eq!(read(&["{\"a\":1}</tool_call> {x", "}"]), whole("{\"a\":1}"));
    }

    #[test]
    fn several_objects_are_not_one() {
        let cut = |json: &str| (json.to_owned(), End::Cut(String::new()));
        assert_eq!(read(&["{}{}"]), cut("{}"));
        for behind in
            ["{\"b\":2}", " {\"b\":2}", ",{ \"b\":2}", "\n{'b': 2}", "</call><call>{}", "{", "x{ "]
        {
            let all = format!("{{\"a\":1}}{behind}");
            // Blanks behind the object are JSON.
            let passed = &all[..all.len() - behind.trim_start().len()];
            assert_eq!(read(&[&all]), cut(passed), "{behind}");
            let pieces: Vec<String> = all.chars().map(String::from).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            assert_eq!(read(&pieces), cut(passed), "{behind}, in pieces");
        }
    }

    #[test]
    fn an_empty_object_may_stand_for_what_follows() {
        for (pieces, passed, end) in [
            (&["{}"][..], "", "{}"),
            (&["{ }", "", " "], "", "{ }"),
            (&["{}", "{\"a\":1}"], "{\"a\":1}", ""),
            (&["{}", "\n", "{\"a\"", ":1}"], "{\"a\":1}", ""),
            (&["{}", "{}"], "", "{}"),
            (&["{}", "</tool_call>"], "{}", ""),
            (&[" ", "{}", "}"], " {}", ""),
        ] {
            assert_eq!(read(pieces), (passed.to_owned(), End::Whole(end.to_owned())), "{pieces:?}");
        }
        let mut arguments = Arguments::default();
        assert_eq!(arguments.push("{}".into()), None);
        assert!(arguments.is_whole() && arguments.is_placeholder() && !arguments.is_half());
        assert_eq!(arguments.settle().as_deref(), Some("{}"));
        assert!(arguments.is_whole() && !arguments.is_placeholder());
        assert_eq!((arguments.settle(), arguments.finish()), (None, End::Whole(String::new())));
    }

    #[test]
    fn an_object_in_a_string_or_a_list_is_unwrapped() {
        let nothing = |end| (String::new(), end);
        let json = End::Whole("{\"a\": \"b\"}".into());
        assert_eq!(read(&["\"{\\\"a\\\"", ": \\\"b\\\"}\""]), nothing(json));
        assert_eq!(read(&["[{\"a\"", ":1}]"]), nothing(End::Whole("{\"a\":1}".into())));
        for empty in ["null", "\"\"", "[]", "\"null\""] {
            assert_eq!(read(&[empty]), nothing(End::Empty), "{empty}");
        }
        assert_eq!(read(&[]), nothing(End::Empty));
        assert_eq!(read(&[" \n"]), (" \n".into(), End::Empty));
        for wrong in ["[1,true]", "[{},{}]", "7", "nul", "\"x\"", "\"{\\\"a\"", "'{}'"] {
            assert_eq!(read(&[wrong]), nothing(End::Cut("{}".into())), "{wrong}");
        }
        let long = "x".repeat(HELD_LEN);
        assert_eq!(read(&["[", &long, "]"]), nothing(End::Cut("{}".into())));
    }

    proptest! {
        /// What passes is the beginning of an object at each moment, and closes to a whole one.
        #[test]
        fn whatever_comes_can_be_closed(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"a\"", "\"", "\\", "\\n", "\\u0", "0", "-", "1", ".", "e",
                    "tr", "ue", "nul", " ", "{\"a\":", "\"b\":1", "ä", "\n", "'", "True",
                ]),
                0..14,
            ),
        ) {
            let (passed, end) = read(&pieces);
            let rest = match end {
                End::Whole(rest) | End::Cut(rest) => rest,
                End::Empty => "{}".to_owned(),
            };
            let json = passed + &rest;
            let value = serde_json::from_str::<&RawValue>(&json);
            prop_assert!(value.is_ok_and(|raw| raw.get().starts_with('{')), "{:?} {}", pieces, json);
            if let Ok(Value::Object(_)) = serde_json::from_str(&pieces.concat()) {
                prop_assert_eq!(json, pieces.concat());
            }
        }
    }
}

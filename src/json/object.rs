//! Whether pieces of text, joined, are one JSON object; without keeping them.

/// How many brackets may be open at once before a [`Checker`] gives up: one bit each.
pub(crate) const DEPTH: usize = 4096;

/// Reads pieces of JSON text and knows at each moment whether they are one object (RFC 8259),
/// the beginning of one, or neither.
///
/// It looks at each byte once and remembers one bit for each open bracket, at most [`DEPTH`]. Of
/// text that is nested deeper it knows nothing more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checker {
    state: State,
    /// For each open bracket whether it is that of an object, 64 to the word.
    open: Vec<u64>,
    depth: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the object.
    #[default]
    Start,
    /// A value must follow.
    Value,
    /// Behind `[`: a value or `]`.
    FirstValue,
    /// Behind `{`: a name or `}`.
    FirstName,
    /// Behind a comma in an object.
    Name,
    Colon,
    /// Behind a value: a comma or the closing bracket.
    Behind,
    String {
        is_name: bool,
    },
    Escape {
        is_name: bool,
    },
    /// Behind `\u`.
    Hex {
        is_name: bool,
        left: u8,
    },
    /// What is left of `true`, `false` or `null`.
    Word(&'static [u8]),
    Number(Number),
    /// Behind the object.
    Whole,
    /// Nested too deep to be followed.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// What a [`Checker`] has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing but blanks.
    Nothing,
    /// The beginning of an object.
    Beginning,
    /// One object.
    Object,
    /// Nested too deep to tell; so far it was the beginning of an object.
    Unknown,
}

impl Checker {
    /// Takes the next piece.
    ///
    /// # Errors
    ///
    /// The place of the first byte that cannot follow. What stands before it was taken; it, and
    /// what stands behind it, was not.
    pub(crate) fn push(&mut self, piece: &str) -> Result<(), usize> {
        for (at, &byte) in piece.as_bytes().iter().enumerate() {
            if !self.byte(byte) {
                return Err(at);
            }
        }
        Ok(())
    }

    /// What the pieces so far are.
    pub(crate) const fn found(&self) -> Found {
        match self.state {
            State::Start => Found::Nothing,
            State::Whole => Found::Object,
            State::Unknown => Found::Unknown,
            _ => Found::Beginning,
        }
    }

    /// Whether the next character is one of a string, or its end.
    #[cfg(any(feature = "compatible", feature = "web"))]
    pub(crate) const fn is_in_string(&self) -> bool {
        matches!(self.state, State::String { .. })
    }

    /// What makes an object of what was read so far; nothing where that is not known.
    #[cfg(any(feature = "compatible", feature = "web"))]
    pub(crate) fn closing(&self) -> String {
        const NAME: &str = "\":null";
        let mut closing = match self.state {
            State::Start => "{}".to_owned(),
            State::Value => "null".to_owned(),
            State::FirstValue
            | State::FirstName
            | State::Behind
            | State::Whole
            | State::Unknown => String::new(),
            State::Name => format!("\"{NAME}"),
            State::Colon => ":null".to_owned(),
            State::String { is_name } => if is_name { NAME } else { "\"" }.to_owned(),
            State::Escape { is_name } => format!("\\{}", if is_name { NAME } else { "\"" }),
            State::Hex { is_name, left } => {
                let digits = "0".repeat(left.into());
                format!("{digits}{}", if is_name { NAME } else { "\"" })
            }
            State::Word(rest) => String::from_utf8_lossy(rest).into_owned(),
            State::Number(number) => if number.is_whole() { "" } else { "0" }.to_owned(),
        };
        if self.state != State::Unknown {
            closing
                .extend((0..self.depth).rev().map(|at| if self.is_object(at) { '}' } else { ']' }));
        }
        closing
    }

    /// Whether `byte` can follow.
    fn byte(&mut self, byte: u8) -> bool {
        let is_blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let next = match self.state {
            State::Start
            | State::Value
            | State::FirstValue
            | State::FirstName
            | State::Name
            | State::Colon
            | State::Behind
            | State::Whole
                if is_blank =>
            {
                return true;
            }
            State::Start if byte == b'{' => Some(self.enter(true)),
            State::FirstValue if byte == b']' => self.leave(false),
            State::Value | State::FirstValue => self.value(byte),
            State::FirstName if byte == b'}' => self.leave(true),
            State::FirstName | State::Name if byte == b'"' => Some(State::String { is_name: true }),
            State::Colon if byte == b':' => Some(State::Value),
            State::Behind => self.behind(byte),
            State::String { is_name } => match byte {
                b'"' if is_name => Some(State::Colon),
                b'"' => Some(State::Behind),
                b'\\' => Some(State::Escape { is_name }),
                0..0x20 => None,
                _ => return true,
            },
            State::Escape { is_name } => match byte {
                b'u' => Some(State::Hex { is_name, left: 4 }),
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                    Some(State::String { is_name })
                }
                _ => None,
            },
            State::Hex { is_name, left } if byte.is_ascii_hexdigit() => Some(match left {
                0 | 1 => State::String { is_name },
                _ => State::Hex { is_name, left: left - 1 },
            }),
            State::Word([next, rest @ ..]) if byte == *next => Some(match rest {
                [] => State::Behind,
                _ => State::Word(rest),
            }),
            State::Number(number) => match (number.next(byte), number.is_whole()) {
                (Some(number), _) => Some(State::Number(number)),
                (None, true) if is_blank => Some(State::Behind),
                (None, true) => self.behind(byte),
                (None, false) => None,
            },
            State::Unknown => return true,
            _ => None,
        };
        match next {
            Some(next) => self.state = next,
            None => return false,
        }
        true
    }

    fn value(&mut self, byte: u8) -> Option<State> {
        Some(match byte {
            b'{' => self.enter(true),
            b'[' => self.enter(false),
            b'"' => State::String { is_name: false },
            b't' => State::Word(b"rue"),
            b'f' => State::Word(b"alse"),
            b'n' => State::Word(b"ull"),
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Integer),
            _ => return None,
        })
    }

    fn behind(&mut self, byte: u8) -> Option<State> {
        match (byte, self.is_in_object()) {
            (b',', true) => Some(State::Name),
            (b',', false) => Some(State::Value),
            (b'}', _) => self.leave(true),
            (b']', _) => self.leave(false),
            _ => None,
        }
    }

    fn enter(&mut self, object: bool) -> State {
        if self.depth == DEPTH {
            return State::Unknown;
        }
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.open.len() {
            self.open.push(0);
        }
        self.open[word] = self.open[word] & !(1 << bit) | u64::from(object) << bit;
        self.depth += 1;
        if object { State::FirstName } else { State::FirstValue }
    }

    fn leave(&mut self, object: bool) -> Option<State> {
        if self.is_in_object() != object {
            return None;
        }
        self.depth -= 1;
        Some(if self.depth == 0 { State::Whole } else { State::Behind })
    }

    fn is_in_object(&self) -> bool {
        // There is an open bracket wherever this is asked.
        self.is_object(self.depth.saturating_sub(1))
    }

    /// Whether the open bracket `at` is that of an object.
    fn is_object(&self, at: usize) -> bool {
        self.open.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }
}

impl Number {
    const fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Integer, b'0'..=b'9') => Self::Integer,
            (Self::Zero | Self::Integer, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => {
                Self::ExponentDigits
            }
            _ => return None,
        })
    }

    const fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::ExponentDigits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, value::RawValue};

    use super::*;

    /// `None` where the pieces are not even the beginning of an object.
    fn found<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Option<Found> {
        let mut checker = Checker::default();
        for piece in pieces {
            checker.push(piece).ok()?;
        }
        Some(checker.found())
    }

    #[test]
    fn objects_are_known() {
        for json in [
            "{}",
            " \t\r\n{ } \n",
            r#"{"a":1}"#,
            r#"{"":[],"a":[[],{}],"b":{"c":[1,{"d":null}]}}"#,
            r#"{"a":[0,-0,1.5,-12.25e+10,3E7,1e-2],"b":true,"c":false,"d":null}"#,
            r#"{"a\"\\\/\b\f\n\r\t\u00e4\uD800":"\ud83d\ude00 ä {[,:"}"#,
            r#"{ "a" : [ 1 , 2 ] , "a" : "again" }"#,
            r#"{"a":1 }"#,
        ] {
            assert_eq!(found([json]), Some(Found::Object), "{json}");
            // Every piece before the last bracket is a beginning.
            let end = json.rfind('}').expect("an object");
            for (at, _) in json.char_indices().take_while(|(at, _)| *at <= end) {
                let found = found([&json[..at]]).expect("a beginning");
                let blank = json[..at].trim().is_empty();
                assert_eq!(found, if blank { Found::Nothing } else { Found::Beginning }, "{at}");
            }
        }
    }

    #[test]
    fn what_is_no_object_is_known_at_once() {
        for json in [
            "[]",
            "1",
            "\"",
            "x",
            "null",
            "{{",
            "{a",
            "{'",
            "{,",
            "{]",
            "{\"a\",",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":,",
            "{\"a\":1,}",
            "{\"a\":1]",
            "{\"a\":[1,]",
            "{\"a\":[}",
            "{\"a\":[1}",
            "{\"a\":1 2",
            "{\"a\":01",
            "{\"a\":-,",
            "{\"a\":1.,",
            "{\"a\":.5",
            "{\"a\":1e,",
            "{\"a\":1e+}",
            "{\"a\":+1",
            "{\"a\":tru,",
            "{\"a\":nul}",
            "{\"a\":True",
            "{\"a\":NaN",
            "{\"a\":\"\n",
            "{\"a\":\"\\x",
            "{\"a\":\"\\u12g",
            "{}{",
            "{} x",
            "{}}",
            "{\"a\":1\"",
            "{\"a\":1 \"b\"",
            "\u{feff}{}",
        ] {
            assert_eq!(found([json]), None, "{json}");
        }
    }

    #[test]
    fn nesting_is_followed_to_a_limit() {
        let nested =
            |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(found([nested(DEPTH).as_str()]), Some(Found::Object));
        assert_eq!(found([nested(DEPTH + 1).as_str()]), Some(Found::Unknown));
        let mixed = "{\"a\":[".repeat(200) + &"]}".repeat(200);
        assert_eq!(found([mixed.as_str()]), Some(Found::Object));
        let wrong = "{\"a\":[".repeat(200) + &"]}".repeat(198) + "}]";
        assert_eq!(found([wrong.as_str()]), None);
    }

    proptest! {
        /// What `serde_json` takes for an object is one here, however it is cut, and nothing else.
        #[test]
        fn it_agrees_with_serde_json(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"a\"", "\"", "\\", "\\n", "\\u00e4", "0", "-", "1",
                    ".5", "e3", "true", "null", " ", "{\"a\":", "\"b\":1", "[1,2]", "ä", "{}", "\t",
                ]),
                0..16,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let json = parts.concat();
            check(&json, &cuts)?;
        }

        #[test]
        fn values_are_objects_when_they_are(
            words in prop::collection::vec(any::<String>(), 0..6),
            numbers in prop::collection::vec(any::<f64>(), 0..3),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let value = serde_json::json!({"words": words, "numbers": numbers});
            prop_assert_eq!(found([value.to_string().as_str()]), Some(Found::Object));
            check(&value.to_string(), &cuts)?;
            check(&format!("{value:#}"), &cuts)?;
            check(&value["words"].to_string(), &cuts)?;
        }
    }

    fn check(json: &str, cuts: &[prop::sample::Index]) -> Result<(), TestCaseError> {
        let whole = found([json]);
        // Raw, for the grammar allows what a `String` cannot hold: half a surrogate pair.
        let is_object = serde_json::from_str::<&RawValue>(json)
            .is_ok_and(|raw| raw.get().trim_start().starts_with('{'));
        prop_assert_eq!(whole == Some(Found::Object), is_object, "{}", json);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(json.len() + 1)).collect();
        places.retain(|place| json.is_char_boundary(*place));
        places.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for place in places {
            pieces.push(&json[from..place]);
            from = place;
        }
        pieces.push(&json[from..]);
        prop_assert_eq!(found(pieces), whole, "{}", json);
        if whole == Some(Found::Beginning) {
            prop_assert!(serde_json::from_str::<Value>(json).is_err());
        }
        Ok(())
    }
}

//! The arguments of a native call, held to what they must be: one JSON object.
//!
//! Most servers send what is new in each piece, and some all that there is so far. JSON tells which:
//! behind the beginning of an object the same beginning once more is hardly ever JSON. So pieces are
//! taken to repeat themselves where each begins with all of the one before, each is the beginning of
//! an object by itself, and joined they are not. Pieces that joined are one object are never taken
//! for that, whatever stands in them: each beginning of an object is one. Where both can be, as
//! behind `{"a":`, the pieces are held until it shows, at most [`HELD_LEN`] bytes of them; and at the
//! end, where one of the two is whole.
//!
//! Others close the object each time. So one that came whole in its first piece is kept until
//! something follows, and gives way to one that it has [grown](grown) into.

use super::{
    grown::grown,
    unwrap::{Meant, is_object, meant},
};
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
    object: Reader,
    pieces: Pieces,
}

/// What the pieces hold.
#[derive(Debug)]
enum Pieces {
    /// That is not known yet; the first one was this.
    Undecided(Text),
    /// It may be either.
    Either(Box<Either>),
    /// What is new.
    Increments,
    /// All that there is so far, which is this.
    Repeating(Text),
}

impl Default for Pieces {
    fn default() -> Self {
        Self::Undecided(Text::new())
    }
}

/// Two ways to read the pieces behind the first.
#[derive(Debug)]
struct Either {
    first: Text,
    /// The object that they are if they are joined, and what passed of it.
    joined: Reader,
    passed: String,
    /// The last piece, which is all of the object if they repeat it.
    last: Text,
}

/// The joined pieces.
#[derive(Clone, Debug, Default)]
struct Reader {
    checker: Checker,
    state: State,
    /// Whether something did not pass as it came.
    mended: bool,
    /// Whether another object took the place of one that was kept.
    has_grown: bool,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Open,
    /// The object came whole in one piece and is kept, as it may grow. An empty one may also be what
    /// a bridge wrote in the place of arguments that follow.
    Kept(Text),
    /// It did not begin as an object.
    Held(String),
    /// An object, and something behind it.
    Whole(Behind),
    /// No JSON from here on.
    Broken,
}

/// What stands behind an object, as far as it was read.
#[derive(Clone, Debug, Default)]
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
        match &mut self.pieces {
            Pieces::Increments => self.object.push(piece),
            Pieces::Undecided(first) if first.is_empty() => {
                if piece.trim_ascii().is_empty() {
                    return self.object.push(piece);
                }
                // A copy: a slice would keep its event as long as the answer lasts.
                let first = (piece.len() <= HELD_LEN).then(|| Text::from(piece.as_str()));
                let passed = self.object.push(piece);
                self.pieces = match first.filter(|_| self.object.is_half()) {
                    Some(first) => Pieces::Undecided(first),
                    None => Pieces::Increments,
                };
                passed
            }
            Pieces::Undecided(_) if piece.is_empty() => None,
            Pieces::Undecided(first) => {
                if !piece.starts_with(first.as_str()) || !is_beginning(&piece) {
                    self.pieces = Pieces::Increments;
                    return self.object.push(piece);
                }
                let mut either = Box::new(Either {
                    first: std::mem::take(first),
                    joined: self.object.clone(),
                    passed: String::new(),
                    last: piece.clone(),
                });
                either.join(piece);
                self.choose(either)
            }
            Pieces::Either(_) if piece.is_empty() => None,
            Pieces::Either(either) => {
                let grows = piece.starts_with(either.last.as_str());
                // An earlier state of them is nothing new.
                if !(grows || either.last.starts_with(piece.as_str())) || !is_beginning(&piece) {
                    let passed = self.as_increments();
                    return joined(passed, self.object.push(piece));
                }
                if grows {
                    either.last = piece.clone();
                }
                either.join(piece);
                let Pieces::Either(either) = std::mem::take(&mut self.pieces) else { return None };
                self.choose(either)
            }
            Pieces::Repeating(whole) => {
                // An earlier state of them is nothing new.
                if whole.starts_with(piece.as_str()) {
                    return None;
                }
                if let Some(new) = piece.strip_prefix(whole.as_str()) {
                    let new = piece.slice_ref(new);
                    *whole = piece;
                    return self.object.push(new);
                }
                // They were changed instead of grown, and what was told cannot be taken back.
                self.object.fail();
                None
            }
        }
    }

    /// Keeps both ways, or takes the one that is left.
    fn choose(&mut self, either: Box<Either>) -> Option<Text> {
        let is_long = either.passed.len() > HELD_LEN;
        let can_be_joined = either.joined.reads_on();
        self.pieces = Pieces::Either(either);
        match can_be_joined {
            true if is_long => self.as_increments(),
            true => None,
            false => self.as_repeated(),
        }
    }

    /// The pieces hold what is new; what waited of them.
    fn as_increments(&mut self) -> Option<Text> {
        let Pieces::Either(either) = std::mem::replace(&mut self.pieces, Pieces::Increments) else {
            return None;
        };
        let Either { joined, passed, .. } = *either;
        self.object = joined;
        (!passed.is_empty()).then(|| passed.into())
    }

    /// The pieces hold all that there is so far; what is new in the last.
    fn as_repeated(&mut self) -> Option<Text> {
        let pieces = std::mem::take(&mut self.pieces);
        let Pieces::Either(either) = pieces else {
            self.pieces = pieces;
            return None;
        };
        let new = either.last.slice(either.first.len()..);
        self.pieces = Pieces::Repeating(either.last);
        self.object.push(new)
    }

    /// Nothing more comes: chooses between two ways to read the pieces, of which at most one is a whole
    /// object. What was not decided by now is as it usually is. An object that was kept passes.
    pub(super) fn decide(&mut self) -> Option<Text> {
        let Pieces::Either(either) = &self.pieces else { return self.settle() };
        let is_whole = matches!(either.joined.clone().finish(), End::Whole(_));
        match !is_whole && is_object(&either.last) {
            true => self.as_repeated(),
            false => self.as_increments(),
        }
    }

    /// Whether the pieces were seen to hold all that there is so far.
    pub(super) fn is_repeating(&self) -> bool {
        matches!(self.pieces, Pieces::Repeating(_)) || self.object.has_grown
    }

    /// The last piece, where it held all that there is.
    pub(super) fn all(&self) -> Option<&Text> {
        match (&self.pieces, &self.object.state) {
            (Pieces::Repeating(whole), _) | (_, State::Kept(whole)) => Some(whole),
            _ => None,
        }
    }

    /// Gives the object that was kept, as nothing takes its place.
    pub(super) fn settle(&mut self) -> Option<Text> {
        self.object.settle()
    }

    /// Whether an empty object is kept, for any other to take its place.
    pub(super) fn is_placeholder(&self) -> bool {
        matches!(&self.object.state, State::Kept(kept) if is_placeholder(kept))
    }

    /// Whether the object that is kept grows into this one.
    pub(super) fn grow_into(&self, json: &str) -> bool {
        matches!(&self.object.state, State::Kept(kept) if grown(kept, json))
    }

    /// Whether a whole object is there.
    pub(super) fn is_whole(&self) -> bool {
        self.object.is_whole()
    }

    /// Whether half an object is there.
    pub(super) fn is_half(&self) -> bool {
        self.object.is_half()
    }

    /// Whether something did not pass as it came.
    pub(super) fn is_mended(&self) -> bool {
        self.object.mended
    }

    /// The arguments have ended, and it was [decided](Self::decide) how they are read.
    pub(super) fn finish(&mut self) -> End {
        self.object.finish()
    }
}

impl Either {
    /// Reads `piece` behind those before it.
    fn join(&mut self, piece: Text) {
        if let Some(passed) = self.joined.push(piece) {
            self.passed.push_str(&passed);
        }
    }
}

/// Two texts that passed, one behind the other.
fn joined(first: Option<Text>, second: Option<Text>) -> Option<Text> {
    match (first, second) {
        (Some(first), Some(second)) => Some(format!("{first}{second}").into()),
        (first, second) => first.or(second),
    }
}

/// Whether `piece` is an object, or the beginning of one.
fn is_beginning(piece: &Text) -> bool {
    let mut reader = Reader::default();
    reader.push(piece.clone());
    reader.is_half() || reader.is_whole()
}

impl Reader {
    /// Takes the next piece; what of it passes.
    pub(super) fn push(&mut self, piece: Text) -> Option<Text> {
        match &mut self.state {
            State::Open => {}
            State::Kept(_) if piece.trim_ascii().is_empty() => return None,
            State::Kept(kept) => {
                if is_placeholder(kept) && piece.trim_ascii_start().starts_with('{')
                    || grown(kept, &piece)
                {
                    self.has_grown |= !is_placeholder(kept);
                    self.mended = true;
                    self.checker = Checker::default();
                    self.state = State::Open;
                    return self.push(piece);
                }
                let kept = self.settle();
                return joined(kept, self.push(piece));
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
        let is_first = self.checker.found() == Found::Nothing;
        let passed = self.check(piece)?;
        if is_first && matches!(self.state, State::Open) && self.checker.found() == Found::Object {
            self.state = State::Kept(passed);
            return None;
        }
        Some(passed)
    }

    /// What passes of a piece behind those before it.
    fn check(&mut self, piece: Text) -> Option<Text> {
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

    /// Gives the object that was kept, as nothing takes its place.
    fn settle(&mut self) -> Option<Text> {
        let State::Kept(kept) = &mut self.state else { return None };
        let kept = std::mem::take(kept);
        self.state = State::Open;
        Some(kept)
    }

    /// Whether a whole object is there.
    fn is_whole(&self) -> bool {
        matches!(self.state, State::Open | State::Kept(_) | State::Whole(Behind::Rest))
            && self.checker.found() == Found::Object
    }

    /// Whether half an object is there.
    fn is_half(&self) -> bool {
        matches!(self.state, State::Open) && self.checker.found() == Found::Beginning
    }

    /// Whether it is the beginning of one object, or one.
    fn reads_on(&self) -> bool {
        !matches!(self.state, State::Broken | State::Whole(Behind::Brace | Behind::Object))
    }

    /// Nothing more passes, and what did is no whole object.
    fn fail(&mut self) {
        self.mended = true;
        self.state = match self.checker.found() {
            // There is another one.
            Found::Object => State::Whole(Behind::Object),
            _ => State::Broken,
        };
    }

    /// The arguments have ended.
    fn finish(&mut self) -> End {
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
            (State::Open | State::Kept(_) | State::Whole(_), Found::Nothing) => End::Empty,
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
    use serde_json::{Value, json, value::RawValue};

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
        passed.push_str(arguments.decide().as_deref().unwrap_or_default());
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
        let mut arguments = Arguments::default();
        assert_eq!(arguments.push(piece.clone()), None, "it may grow");
        let passed = arguments.decide().expect("passes");
        assert_eq!(passed.as_ptr(), piece.as_ptr(), "no copy");
        let passed = Arguments::default().push(piece.slice(..5)).expect("passes");
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
        for (pieces, passed) in [
            (&["{}"][..], "{}"),
            (&["{ }", "", " "], "{ }"),
            (&["{}", "{\"a\":1}"], "{\"a\":1}"),
            (&["{}", "\n", "{\"a\"", ":1}"], "{\"a\":1}"),
            (&["{}", "{}"], "{}"),
            (&["{}", "</tool_call>"], "{}"),
            (&[" ", "{}", "}"], " {}"),
        ] {
            assert_eq!(read(pieces), whole(passed), "{pieces:?}");
        }
        let mut arguments = Arguments::default();
        assert_eq!(arguments.push("{}".into()), None);
        assert!(arguments.is_whole() && arguments.is_placeholder() && !arguments.is_half());
        assert_eq!(arguments.settle().as_deref(), Some("{}"));
        assert!(arguments.is_whole() && !arguments.is_placeholder());
        assert_eq!((arguments.settle(), arguments.finish()), (None, End::Whole(String::new())));
    }

    #[test]
    fn an_object_that_is_closed_each_time_is_told_once() {
        let all = r#"{"path": "a\nb", "lines": [1, 20], "deep": {"b": null}}"#;
        for pieces in [
            &["{}", r#"{"path": ""}"#, r#"{"path": "a"}"#, all][..],
            &[r#"{"path": "a\n"}"#, r#"{"path": "a\nb", "lines": [1, 2]}"#, all, all],
            // The characters of a line are sent as they are; what is told is the last state.
            &["{\"path\": \"a\n\"}", all],
            &[r#"{"path": null, "lines": []}"#, "", all],
        ] {
            assert_eq!(read(pieces), whole(all), "{pieces:?}");
        }
        // Another object is another call's.
        let cut = (r#"{"a":1}"#.to_owned(), End::Cut(String::new()));
        for other in [r#"{"b":1}"#, r#"{"a":2}"#, r#"{"a":1"#, "{}"] {
            assert_eq!(read(&[r#"{"a":1}"#, other]), cut, "{other}");
        }
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

    #[test]
    fn pieces_that_repeat_all_so_far_are_told_from_those_that_do_not() {
        let all = r#"{"city": "Paris", "days": [1, 2]}"#;
        for pieces in [
            &[&all[..3], &all[..11], &all[..20], all][..],
            &["", &all[..1], &all[..2], &all[..2], all, all],
            // Both can be, up to the end.
            &[&all[..8], all],
            &[&all[..8], &all[..9], &all[..24], all],
            // An earlier state is nothing new.
            &[&all[..9], &all[..20], &all[..12], "", all],
        ] {
            assert_eq!(read(pieces), whole(all), "{pieces:?}");
        }
        for pieces in [
            // The object is in itself, under a name that it has too.
            &[r#"{"a":"#, r#"{"a":1}"#, "}"][..],
            &[r#"{"a":"#, r#"{"a":"#, r#"{"a":1}"#, "}}"],
            &[r#"{"a":["#, r#"{"a":[]}"#, "]}"],
            &[r#"{"a":["#, r#"{"a":[1]}"#, r#",{"a":[1]}"#, "]}"],
            // What looks like it stands in a string.
            &[r#"{"a":"x"#, "{", r#"\"a\":\"x"#, r#""}"#],
            &["{", r#""a":"{"#, r#"}"}"#],
        ] {
            assert_eq!(read(pieces), whole(&pieces.concat()), "{pieces:?}");
        }
        // Nobody can tell what an object was that was changed.
        let changed = read(&[r#"{"a"#, r#"{"a":"xy""#, r#"{"a":"xz"}"#]);
        assert_eq!(changed, (r#"{"a":"xy""#.to_owned(), End::Cut("}".into())));
        let mut arguments = Arguments::default();
        arguments.push("{\"a".into());
        assert_eq!(arguments.push("{\"a\":1".into()).as_deref(), Some("\":1"));
        assert!(arguments.is_repeating() && arguments.all().is_some_and(|all| all == "{\"a\":1"));
    }

    #[test]
    fn little_is_held_of_what_may_be_either() {
        let mut arguments = Arguments::default();
        arguments.push("{\"a\":".into());
        let long = format!("{{\"a\":\"{}", "x".repeat(HELD_LEN));
        assert_eq!(arguments.push(long.as_str().into()).as_deref(), Some(long.as_str()));
        assert_eq!(arguments.push("\"}}".into()).as_deref(), Some("\"}}"));
        assert_eq!((arguments.decide(), arguments.finish()), (None, End::Whole(String::new())));
    }

    /// Objects whose parts look like their whole.
    fn objects() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            json!(1),
            json!(""),
            json!("{"),
            json!("{\"a\":"),
            json!("\u{1f980}\n"),
            json!({}),
            json!([]),
        ]);
        let value = leaf.prop_recursive(5, 40, 3, |inner| {
            let name = prop::sample::select(vec!["a", "a", "a", "", ",", "{", "b\""]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec((name, inner), 1..3).prop_map(|members| {
                    Value::Object(members.into_iter().map(|(n, v)| (n.to_owned(), v)).collect())
                }),
            ]
        });
        (value, any::<bool>()).prop_map(|(value, is_bare)| match value {
            Value::Object(_) if is_bare => value.to_string(),
            value => json!({"a": value}).to_string(),
        })
    }

    /// The places at which `json` is cut: any, or one before a brace, where the whole may seem to
    /// begin once more.
    fn cuts(json: &str, at: &[(bool, prop::sample::Index)]) -> Vec<usize> {
        let braces: Vec<_> = json.match_indices('{').map(|(at, _)| at).collect();
        let mut cuts: Vec<_> = at
            .iter()
            .map(|(any, at)| if *any { at.index(json.len() + 1) } else { *at.get(&braces) })
            .collect();
        cuts.push(json.len());
        cuts.retain(|cut| json.is_char_boundary(*cut));
        cuts.sort_unstable();
        cuts
    }

    proptest! {
        /// Nothing is changed of an object in pieces that hold what is new, whatever they look like.
        #[test]
        fn increments_pass(
            json in objects(),
            at in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 0..8),
        ) {
            let mut begin = 0;
            let pieces: Vec<_> = cuts(&json, &at)
                .into_iter()
                .map(|cut| &json[std::mem::replace(&mut begin, cut)..cut])
                .collect();
            let (passed, end) = read(&pieces);
            let End::Whole(rest) = end else { return Err(TestCaseError::fail(format!("{pieces:?}"))) };
            prop_assert_eq!(passed + &rest, json.as_str(), "{:?}", pieces);
        }

        /// Pieces that hold all so far give the object once.
        #[test]
        fn what_repeats_itself_is_told_once(
            json in objects(),
            at in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 0..8),
        ) {
            let mut cuts = cuts(&json, &at);
            // Two whole ones are two objects, unless something was repeated before.
            cuts.dedup();
            let pieces: Vec<_> = cuts.into_iter().map(|cut| &json[..cut]).collect();
            let (passed, end) = read(&pieces);
            let End::Whole(rest) = end else { return Err(TestCaseError::fail(format!("{pieces:?}"))) };
            prop_assert_eq!(passed + &rest, json.as_str(), "{:?}", pieces);
        }

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

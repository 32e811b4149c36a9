//! JSON of servers, read so that an odd field never costs the answer.
//!
//! Each type here takes any JSON. What it is for it reads in every spelling that servers are known
//! to use, and everything else counts as missing. An object that is read by [`lenient!`] may hold a
//! key twice, of which the last counts, as it does in Python and JavaScript.
//!
//! What is no JSON is an error all the same, with exceptions that Python's `json` writes and the
//! parser refuses: see [`mended`].

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

use super::tree_within;
use crate::Text;

/// What stands before half a pair of surrogates in a [`mended`] string. Unicode has it as no
/// character, so it is in no text that is meant for others.
const HALF: char = '\u{ffff}';

/// The first of the characters in which a half is kept: of the 2,048 surrogates the first is this
/// one, and so on.
const KEPT: u32 = 0xf_0000;

/// What `take` reads of `data`. Where that is no JSON for a reason that [`mended`] knows, `take` is asked
/// once more, for what was meant; so it may do nothing before it has read all.
///
/// # Errors
///
/// Those of `take`.
pub(crate) fn read<R>(
    data: &Text,
    mut take: impl FnMut(&Text) -> Result<R, serde_json::Error>,
) -> Result<R, serde_json::Error> {
    match take(data) {
        Err(error) if error.is_syntax() || error.is_data() => match mended(data) {
            Some(mended) => take(&mended.into()),
            None => Err(error),
        },
        result => result,
    }
}

/// What is meant by JSON that Python wrote and that is none. `NaN`, `Infinity`, `-Infinity` and numbers
/// that no double holds are `null`. Half a pair of surrogates at the beginning or the end of a string
/// is marked, for the [`Half`] of the field; anywhere else it is U+FFFD. `None` where there is nothing
/// of that.
///
/// It is one pass, and only taken where the parser has failed.
fn mended(json: &str) -> Option<String> {
    mend(json, true)
}

/// What [`tree_within`] reads of JSON that may have to be [`mended`].
pub(crate) fn tree(json: &str, memory: usize) -> Option<Value> {
    tree_within(json, memory)
        .or_else(|| mend(json, false).and_then(|mended| tree_within(&mended, memory)))
}

/// [`mended`]; without `keeps_halves` every half is U+FFFD.
#[cold]
fn mend(json: &str, keeps_halves: bool) -> Option<String> {
    let bytes = json.as_bytes();
    let mut out = String::new();
    // What was copied so far.
    let mut done = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'"' {
            at = mend_string(json, at + 1, keeps_halves, &mut out, &mut done);
            continue;
        }
        let is_of_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        let len = bytes[at..].iter().take_while(|b| is_of_word(b)).count();
        let word = json.get(at..at + len).unwrap_or_default();
        let is_beyond = || {
            word.bytes().any(|b| b.is_ascii_digit())
                && word.parse::<f64>().is_ok_and(f64::is_infinite)
        };
        if matches!(word, "NaN" | "Infinity" | "-Infinity") || is_beyond() {
            out.push_str(&json[done..at]);
            out.push_str("null");
            done = at + len;
        }
        at += len.max(1);
    }
    if done == 0 {
        return None;
    }
    out.push_str(&json[done..]);
    Some(out)
}

/// Mends the string whose inside begins at `start`; gives the place behind its closing quote.
fn mend_string(
    json: &str,
    start: usize,
    keeps_halves: bool,
    out: &mut String,
    done: &mut usize,
) -> usize {
    let bytes = json.as_bytes();
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
    };
    let mut at = start;
    loop {
        match bytes.get(at) {
            None => return at,
            Some(b'"') => return at + 1,
            Some(b'\\') => {}
            Some(_) => {
                at += 1;
                continue;
            }
        }
        match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(half @ 0xd800..=0xdfff) => {
                let is_low = half >= 0xdc00;
                let is_at_edge = if is_low {
                    at == start
                } else {
                    matches!(bytes.get(at + 6), None | Some(b'"'))
                };
                out.push_str(&json[*done..at]);
                if is_at_edge && keeps_halves {
                    out.push(HALF);
                    out.extend(char::from_u32(KEPT + u32::from(half - 0xd800)));
                } else {
                    out.push(char::REPLACEMENT_CHARACTER);
                }
                at += 6;
                *done = at;
            }
            Some(_) => at += 6,
            None => at += 2,
        }
    }
}

/// The half that `mark` keeps.
fn kept(mark: char) -> Option<u16> {
    let half = u32::from(mark).checked_sub(KEPT).filter(|&half| half < 0x800)?;
    u16::try_from(half + 0xd800).ok()
}

/// Joins the halves of a pair of surrogates that two pieces of one field hold.
#[derive(Debug, Default)]
pub(crate) struct Half(Option<u16>);

impl Half {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Whether none waits.
    #[cfg(any(feature = "compatible", feature = "web"))]
    pub(crate) const fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the piece may begin or end with one.
    #[inline]
    pub(crate) fn is_in(piece: &str) -> bool {
        // Three bytes of the piece tell, of either end. The first of them is that of a rare block.
        let is_marked = |at: usize| piece.as_bytes().get(at..at + 3) == Some(b"\xef\xbf\xbf");
        is_marked(0) || piece.len() >= 7 && is_marked(piece.len() - 7)
    }

    /// The piece with its halves joined or replaced; a first half at its end waits.
    #[inline]
    pub(crate) fn join(&mut self, piece: Text) -> Text {
        let is_plain = self.0.is_none() && !Self::is_in(&piece);
        if is_plain || piece.is_empty() { piece } else { self.join_marked(&piece) }
    }

    #[cold]
    fn join_marked(&mut self, piece: &str) -> Text {
        let mut out = String::with_capacity(piece.len() + 4);
        let mut rest = piece;
        let low = rest.strip_prefix(HALF).and_then(|rest| {
            let low = kept(rest.chars().next()?).filter(|&half| half >= 0xdc00)?;
            Some((low, &rest[4..]))
        });
        let joined = match (self.0.take(), low) {
            (Some(high), Some((low, _))) => Some(
                char::decode_utf16([high, low])
                    .next()
                    .and_then(Result::ok)
                    .unwrap_or(char::REPLACEMENT_CHARACTER),
            ),
            (None, None) => None,
            _ => Some(char::REPLACEMENT_CHARACTER),
        };
        out.extend(joined);
        if let Some((_, behind)) = low {
            rest = behind;
        }
        let high = rest.char_indices().next_back().and_then(|(at, last)| {
            let text = rest[..at].strip_suffix(HALF)?;
            Some((kept(last)?, text))
        });
        if let Some((high, text)) = high {
            self.0 = Some(high);
            rest = text;
        }
        out.push_str(rest);
        out.into()
    }

    /// What is to be given where nothing follows that could be the second half.
    pub(crate) fn settle(&mut self) -> Option<Text> {
        self.0.take().map(|_| Text::from_static("\u{fffd}"))
    }

    /// The first half does not count: the whole text comes again.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

/// `text` without halves, for a field that comes in one piece.
pub(crate) fn without_halves(text: Text) -> Text {
    let mut half = Half::new();
    let text = half.join(text);
    match half.settle() {
        None => text,
        Some(end) => format!("{text}{end}").into(),
    }
}

/// `part` as a text: a slice of `whole` where it was cut from it.
pub(crate) fn slice(whole: &Text, part: Cow<'_, str>) -> Text {
    match part {
        Cow::Borrowed(part) => whole.slice_ref(part),
        Cow::Owned(part) => part.into(),
    }
}

/// The methods of a visitor to which the scalars given by name mean nothing.
macro_rules! ignore {
    ($($scalar:ident),*) => { $(ignore!(@ $scalar);)* };
    (@ bool) => { ignore!(@ visit_bool, bool); };
    (@ number) => {
        ignore!(@ visit_i64, i64);
        ignore!(@ visit_u64, u64);
        ignore!(@ visit_f64, f64);
    };
    (@ string) => { ignore!(@ visit_str, &str); };
    (@ null) => {
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
    (@ list) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
    (@ object) => {
        fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
            while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
    (@ $method:ident, $type:ty) => {
        fn $method<E: de::Error>(self, _: $type) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
}

/// What every visitor here expects.
macro_rules! expecting {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }
    };
}

/// A struct of fields that are read leniently: a key that comes again counts, keys that have no
/// field do not. A field's key is its name, or what stands before it.
macro_rules! lenient {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident $(<$life:lifetime>)? $(else $other:ident)? {
            $($(#[$of_field:meta])* $see:vis $field:ident: $type:ty = $key:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        $vis struct $name $(<$life>)? {
            $($(#[$of_field])* $see $field: $type,)*
            $(
                /// Another field says something.
                $other: bool,
            )?
        }

        impl<'de $(: $life, $life)?> serde::Deserialize<'de> for $name $(<$life>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields<T>(std::marker::PhantomData<T>);

                impl<'de $(: $life, $life)?> serde::de::Visitor<'de> for Fields<$name $(<$life>)?> {
                    type Value = $name $(<$life>)?;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    #[inline]
                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut object: A,
                    ) -> Result<Self::Value, A::Error> {
                        let mut fields = $name::default();
                        while let Some(key) = object.next_key::<crate::json::Str<'de>>()? {
                            match &*key.0 {
                                $($key => fields.$field = object.next_value()?,)*
                                _ => crate::json::lenient::other!(object $(, fields.$other)?),
                            }
                        }
                        Ok(fields)
                    }
                }

                deserializer.deserialize_map(Fields(std::marker::PhantomData))
            }
        }
    };
}
pub(crate) use lenient;

/// Reads over the value of a field that is not known; the place is told whether it says something.
macro_rules! other {
    ($object:ident) => {{
        $object.next_value::<serde::de::IgnoredAny>()?;
    }};
    ($object:ident, $place:expr) => {
        $place |= $object.next_value::<crate::json::lenient::Something>()?.0
    };
}
pub(crate) use other;

/// A word: a string, borrowed where it has no escapes, or a number as it would be written in one.
#[derive(Debug, Default)]
pub(crate) struct Word<'a>(pub(crate) Option<Cow<'a, str>>);

impl Word<'_> {
    /// Whether there is something in it.
    pub(crate) fn is_something(&self) -> bool {
        self.0.as_deref().is_some_and(|word| !word.is_empty())
    }
}

impl<'a> Word<'a> {
    /// The word, if there is something in it.
    pub(crate) fn non_empty(self) -> Option<Cow<'a, str>> {
        self.0.filter(|word| !word.is_empty())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Word<'de>;

            expecting!();

            #[inline]
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Word<'de>, E> {
                Ok(Word(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word<'de>, E> {
                Ok(Word(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Word<'de>, E> {
                Ok(Word(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Word<'de>, E> {
                Ok(Word(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Word<'de>, E> {
                Ok(Word(Some(Cow::Owned(number.to_string()))))
            }

            ignore!(bool, null, list, object);
        }

        deserializer.deserialize_any(Any)
    }
}

/// What is said: a string, a number, or a list of parts that hold such, of which some may be
/// thinking.
#[derive(Debug, Default)]
pub(crate) struct Said<'a> {
    pub(crate) text: Option<Cow<'a, str>>,
    pub(crate) thinking: Option<Cow<'a, str>>,
}

impl<'a> Said<'a> {
    fn text(text: Option<Cow<'a, str>>) -> Self {
        Self { text, thinking: None }
    }
}

/// Appends `more` to `text`.
fn join<'a>(text: &mut Option<Cow<'a, str>>, more: Option<Cow<'a, str>>) {
    *text = match (text.take(), more) {
        (Some(text), Some(more)) => Some(Cow::Owned(text.into_owned() + &more)),
        (text, more) => text.or(more),
    };
}

lenient! {
    struct Part<'a> {
        text: Word<'a> = "text",
        content: Word<'a> = "content",
        refusal: Word<'a> = "refusal",
        thinking: Inner<'a> = "thinking",
        reasoning: Inner<'a> = "reasoning",
    }
}

/// The thinking in a part, which may be a list of parts itself. It is not looked into any deeper.
#[derive(Debug, Default)]
struct Inner<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Inner<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Inner<'de>;

            expecting!();

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Inner<'de>, E> {
                Ok(Inner(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Inner<'de>, E> {
                Ok(Inner(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Inner<'de>, A::Error> {
                lenient! {
                    struct Leaf<'a> {
                        text: Word<'a> = "text",
                    }
                }

                let mut all = None;
                while let Some(leaf) = list.next_element::<Object<Leaf<'de>>>()? {
                    join(&mut all, leaf.0.and_then(|leaf| leaf.text.0));
                }
                Ok(Inner(all))
            }

            ignore!(bool, number, null, object);
        }

        deserializer.deserialize_any(Any)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Said<'a> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any {
            is_part: bool,
        }

        impl<'de> de::DeserializeSeed<'de> for Any {
            type Value = Said<'de>;

            #[inline]
            fn deserialize<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Said<'de>, D::Error> {
                deserializer.deserialize_any(self)
            }
        }

        impl<'de> Visitor<'de> for Any {
            type Value = Said<'de>;

            expecting!();

            #[inline]
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Said<'de>, E> {
                Ok(Said::text(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Said<'de>, E> {
                Ok(Said::text(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Said<'de>, E> {
                Ok(Said::text(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Said<'de>, E> {
                Ok(Said::text(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Said<'de>, E> {
                Ok(Said::text(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Said<'de>, A::Error> {
                let mut said = Said::default();
                if self.is_part {
                    while list.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(said);
                }
                let mut joined = String::new();
                let mut only = None;
                while let Some(part) = list.next_element_seed(Self { is_part: true })? {
                    join(&mut said.thinking, part.thinking);
                    if let Some(text) = part.text {
                        match only.take() {
                            None if joined.is_empty() => only = Some(text),
                            first => {
                                joined.push_str(first.as_deref().unwrap_or_default());
                                joined.push_str(&text);
                            }
                        }
                    }
                }
                said.text = only.or((!joined.is_empty()).then_some(Cow::Owned(joined)));
                Ok(said)
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Said<'de>, A::Error> {
                let part = Part::deserialize(MapAccessDeserializer::new(object))?;
                let text = part.text.0.or(part.content.0).or(part.refusal.0);
                Ok(Said { text, thinking: part.thinking.0.or(part.reasoning.0) })
            }

            ignore!(bool, null);
        }

        deserializer.deserialize_any(Any { is_part: false })
    }
}

/// A number that is no fraction: an index or a count, also where it is written as a string or with a
/// point.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count(pub(crate) Option<u64>);

impl Count {
    fn of(number: f64) -> Self {
        // The cast saturates.
        Self((number.is_finite() && number >= 0.0).then_some(number as u64))
    }
}

impl<'de> Deserialize<'de> for Count {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Count;

            expecting!();

            #[inline]
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Count, E> {
                Ok(Count(Some(count)))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Count, E> {
                Ok(Count::of(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                let text = text.trim_ascii();
                let whole = text.parse().ok().map(|whole| Count(Some(whole)));
                let is_number =
                    text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e'));
                let number = || text.parse().ok().filter(|_| is_number).map(Count::of);
                Ok(whole.or_else(number).unwrap_or_default())
            }

            ignore!(@ visit_i64, i64);
            ignore!(bool, null, list, object);
        }

        deserializer.deserialize_any(Any)
    }
}

/// Whether there is something: `null`, `false`, `0` and `""` are nothing, and so are lists and objects
/// of nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Something(pub(crate) bool);

/// [`Something`] in something; lists and objects here are something where they hold anything.
#[derive(Clone, Copy, Debug, Default)]
struct Inside(bool);

macro_rules! something {
    ($name:ident, $inside:ty, $is:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Any;

                impl<'de> Visitor<'de> for Any {
                    type Value = $name;

                    expecting!();

                    fn visit_bool<E: de::Error>(self, is: bool) -> Result<$name, E> {
                        Ok($name(is))
                    }

                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$name, E> {
                        Ok($name(number != 0))
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$name, E> {
                        Ok($name(number != 0))
                    }

                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$name, E> {
                        Ok($name(number != 0.0))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        Ok($name(!text.trim_ascii().is_empty()))
                    }

                    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<$name, A::Error> {
                        let mut is = false;
                        while let Some(item) = list.next_element::<$inside>()? {
                            is |= $is(item);
                        }
                        Ok($name(is))
                    }

                    fn visit_map<A: MapAccess<'de>>(
                        self,
                        mut object: A,
                    ) -> Result<$name, A::Error> {
                        let mut is = false;
                        while let Some((IgnoredAny, item)) = object.next_entry::<_, $inside>()? {
                            is |= $is(item);
                        }
                        Ok($name(is))
                    }

                    ignore!(null);
                }

                deserializer.deserialize_any(Any)
            }
        }
    };
}

// Not any deeper, as the parser bounds how deep its readers go.
something!(Something, Inside, |inside: Inside| inside.0);
something!(Inside, IgnoredAny, |_: IgnoredAny| true);

/// An object; `None` for anything else. (Serde would also read a struct out of a list.)
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Any<T> {
            type Value = Object<T>;

            expecting!();

            #[inline]
            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(object)).map(|value| Object(Some(value)))
            }

            ignore!(bool, number, string, null, list);
        }

        deserializer.deserialize_any(Any(PhantomData))
    }
}

/// The first `N` items of a list, as an item takes many times the room of its text. One object in
/// the place of the list is a list of it; anything else is an empty list.
#[derive(Debug)]
pub(crate) struct List<T, const N: usize> {
    pub(crate) items: Vec<T>,
    /// There were more.
    pub(crate) more: bool,
}

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self { items: Vec::new(), more: false }
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for List<T, N> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T, const N: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Any<T, N> {
            type Value = List<T, N>;

            expecting!();

            #[inline]
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<T, N>, A::Error> {
                let mut items = Vec::new();
                while items.len() < N {
                    let Some(item) = list.next_element()? else {
                        return Ok(List { items, more: false });
                    };
                    items.push(item);
                }
                let mut more = false;
                while let Some(IgnoredAny) = list.next_element()? {
                    more = true;
                }
                Ok(List { items, more })
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<List<T, N>, A::Error> {
                let item = T::deserialize(MapAccessDeserializer::new(object))?;
                Ok(List { items: vec![item], more: false })
            }

            ignore!(bool, number, string, null);
        }

        deserializer.deserialize_any(Any(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    lenient! {
        struct Row<'a> {
            word: Word<'a> = "word",
            said: Said<'a> = "said",
            count: Count = "count",
            something: Something = "something",
            list: List<Count, 2> = "list",
            object: Object<IgnoredAny> = "object",
        }
    }

    #[test]
    fn every_type_takes_any_json() {
        let values = [
            "null",
            "true",
            "false",
            "0",
            "7",
            "-7",
            "7.0",
            "-0.5",
            "1e400",
            "\"\"",
            "\"7\"",
            "\"a\\n\"",
            "[]",
            "[1,2,3]",
            "[[{}]]",
            "{}",
            "{\"a\":[1]}",
            "{\"text\":[]}",
            "[{\"text\":\"a\"},null,7]",
        ];
        for key in ["word", "said", "count", "something", "list", "object", "other"] {
            for value in values {
                let json = format!("{{\"{key}\":{value},\"\\u0062\":{value}}}");
                // The parser itself refuses the number that no double holds.
                let read = serde_json::from_str::<Row<'_>>(&json);
                assert_eq!(read.is_ok(), value != "1e400" || key == "other", "{json}");
            }
        }
    }

    #[test]
    fn what_is_read_of_each() {
        let row = |json: &'static str| serde_json::from_str::<Row<'_>>(json).expect(json);
        assert_eq!(row(r#"{"word":"a","word":"b"}"#).word.0.as_deref(), Some("b"));
        assert_eq!(row(r#"{"word":"a","word":null}"#).word.0, None);
        assert_eq!(row(r#"{"word":12}"#).word.0.as_deref(), Some("12"));
        assert!(!row(r#"{"word":""}"#).word.is_something());
        for (json, text, thinking) in [
            (r#"{"said":"a"}"#, Some("a"), None),
            (r#"{"said":3.5}"#, Some("3.5"), None),
            (r#"{"said":["a",{"type":"text","text":"b"},{"text":null},7]}"#, Some("ab7"), None),
            (r#"{"said":{"text":"a"}}"#, Some("a"), None),
            (r#"{"said":{"type":"output_text","content":"a"}}"#, Some("a"), None),
            (
                r#"{"said":[{"type":"thinking","thinking":[{"type":"text","text":"h"}]},{"text":"a"}]}"#,
                Some("a"),
                Some("h"),
            ),
            (r#"{"said":[["a"]]}"#, None, None),
            (r#"{"said":false}"#, None, None),
        ] {
            let said = row(json).said;
            assert_eq!(
                (said.text.as_deref(), said.thinking.as_deref()),
                (text, thinking),
                "{json}"
            );
        }
        for (json, count) in [
            (r#"{"count":7}"#, Some(7)),
            (r#"{"count":"7"}"#, Some(7)),
            (r#"{"count":7.0}"#, Some(7)),
            (r#"{"count":"7.0"}"#, Some(7)),
            (r#"{"count":"many"}"#, None),
            (r#"{"count":"inf"}"#, None),
            (r#"{"count":-1}"#, None),
            (r#"{"count":[7]}"#, None),
        ] {
            assert_eq!(row(json).count.0, count, "{json}");
        }
        for (json, is) in [
            ("{}", false),
            (r#"{"something":null}"#, false),
            (r#"{"something":false}"#, false),
            (r#"{"something":0}"#, false),
            (r#"{"something":" "}"#, false),
            (r#"{"something":[]}"#, false),
            (r#"{"something":{}}"#, false),
            (r#"{"something":{"code":null,"message":""}}"#, false),
            (r#"{"something":[null,0]}"#, false),
            (r#"{"something":{"details":{"a":null}}}"#, true),
            (r#"{"something":true}"#, true),
            (r#"{"something":"x"}"#, true),
            (r#"{"something":{"message":"x"}}"#, true),
        ] {
            assert_eq!(row(json).something.0, is, "{json}");
        }
        let list = row(r#"{"list":[1,2,3]}"#).list;
        assert_eq!((list.items.len(), list.more), (2, true));
        assert!(row(r#"{"object":[]}"#).object.0.is_none());
    }

    #[test]
    fn what_python_writes_is_mended() {
        for (json, expected) in [
            (r#"{"a":NaN,"b":[-Infinity,Infinity]}"#, Some(r#"{"a":null,"b":[null,null]}"#)),
            (r#"{"a":"NaN \" NaN"}"#, None),
            (r#"{"a":"\ud83d\ude00"}"#, None),
            (r#"{"a":"x\ud83dy\ude00\ude00."}"#, Some("{\"a\":\"x\u{fffd}y\u{fffd}\u{fffd}.\"}")),
            (r#"{"a":"\\ud83d"}"#, None),
            (r#"{"a":"\ud83"#, None),
            ("\"", None),
            ("\u{e9}: NaN", Some("\u{e9}: null")),
        ] {
            assert_eq!(mended(json).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn halves_are_joined_or_replaced() {
        let join = |pieces: &[&str]| {
            let mut half = Half::new();
            let mut all = String::new();
            for piece in pieces {
                let json = format!("\"{piece}\"");
                let json = mended(&json).unwrap_or(json);
                let text: String = serde_json::from_str(&json).expect("mended");
                all.push_str(&half.join(text.into()));
            }
            all.push_str(&half.settle().unwrap_or_default());
            all
        };
        for (pieces, expected) in [
            (&[r"a\ud83d", r"\ude00b"][..], "a\u{1f600}b"),
            (&[r"\ud83d", r"\ude00"], "\u{1f600}"),
            (&[r"\ud83d", "", r"\ude00"], "\u{1f600}"),
            (&[r"a\ud83d"], "a\u{fffd}"),
            (&[r"\ude00b"], "\u{fffd}b"),
            (&[r"a\ud83d", "b"], "a\u{fffd}b"),
            (&[r"a\ud83d", r"\ud83d", r"\ude00"], "a\u{fffd}\u{1f600}"),
            (&[r"\ude00\ud83d", r"\ude00"], "\u{fffd}\u{1f600}"),
            (&["plain"], "plain"),
        ] {
            assert_eq!(join(pieces), expected, "{pieces:?}");
        }
        let text = |json: &str| {
            let mended = mended(json).expect("has a half");
            Text::from(serde_json::from_str::<String>(&mended).expect("mended"))
        };
        assert_eq!(without_halves(text(r#""a\ud83d""#)), "a\u{fffd}");
        assert_eq!(tree(r#""a\ud83d""#, 1024), Some(Value::from("a\u{fffd}")));
    }

    proptest! {
        /// Whatever comes, mending makes no bytes up but those of the marks, and ends.
        #[test]
        fn mending_leaves_json_alone(value in "[\"\\\\u0-9a-fd{}\\[\\]:, NaN-]{0,60}") {
            if serde_json::from_str::<Value>(&value).is_ok() {
                prop_assert_eq!(mended(&value), None);
            }
            let _ = mended(&value).as_deref().and_then(mended);
        }
    }
}

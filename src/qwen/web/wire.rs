//! The events of a streamed answer, as chat.qwen.ai writes them (A11).
//!
//! Parsing is by type and borrows from the event's text. What the reference names is read
//! strictly where a wrong reading would lose text, and leniently elsewhere: a field of an
//! unexpected type counts as missing.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use super::error::Failure;
use crate::{Text, chat::Usage};

/// How many items of a list are looked at: sources, pictures, titles of a summary.
const ITEMS: usize = 4096;

/// One event of the stream.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// `response.created`: the answer has an id.
    Created {
        /// The id of the answer (Y in A10).
        response_id: Option<Text>,
    },
    /// A piece of the answer.
    Delta(Delta),
    /// The answer failed (A11.2), in any of its shapes.
    Failed { failure: Failure, response_id: Option<Text> },
    /// Nothing that concerns the answer: a keep-alive, `[DONE]`, or an event of a later day.
    Nothing,
}

/// A delta event.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Delta {
    pub(super) phase: Phase,
    pub(super) status: Status,
    /// The new text, or the whole text so far where the stream is not incremental (A13).
    pub(super) content: Text,
    /// `delta.extra`, unparsed.
    pub(super) extra: Option<Text>,
    pub(super) usage: Option<Usage>,
    pub(super) response_id: Option<Text>,
}

/// What part of its work the model is at (A11.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// The visible answer; also where no phase is named (`output_schema` not sent).
    #[default]
    Answer,
    Think,
    ThinkingSummary,
    Search,
    ImageGen,
    ImageGenTool,
    /// A phase whose content is not for the client.
    Other,
}

impl Phase {
    fn from_wire(word: &str) -> Self {
        match word {
            "answer" => Self::Answer,
            "think" => Self::Think,
            "thinking_summary" => Self::ThinkingSummary,
            "web_search" | "search_result" => Self::Search,
            "image_gen" => Self::ImageGen,
            "image_gen_tool" => Self::ImageGenTool,
            _ => Self::Other,
        }
    }

    /// Whether `finished` in this phase ends the turn (A11.2).
    pub(super) const fn is_last(self) -> bool {
        matches!(self, Self::Answer | Self::ImageGen)
    }
}

/// `delta.status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Status {
    #[default]
    Typing,
    Finished,
    Error,
}

impl Status {
    fn from_wire(word: &str) -> Self {
        match word {
            "finished" => Self::Finished,
            "error" => Self::Error,
            _ => Self::Typing,
        }
    }
}

impl Event {
    /// Reads the `data` of one event.
    ///
    /// # Errors
    ///
    /// Where it is not JSON, or the text of a delta is not a string.
    pub(super) fn parse(data: &Text) -> Result<Self, serde_json::Error> {
        if data.trim_ascii().is_empty() || data.starts_with("[DONE]") {
            return Ok(Self::Nothing);
        }
        // JSON of another type than an object says nothing.
        let Object(Some(raw)) = serde_json::from_str::<Object<RawEvent<'_>>>(data)? else {
            return Ok(Self::Nothing);
        };
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| slice(data, text));
        if let Some(failure) = raw.failure() {
            return Ok(Self::Failed { failure, response_id: owned(raw.response_id.0) });
        }
        if let Some(created) = raw.created.0 {
            return Ok(Self::Created { response_id: owned(created.response_id.0) });
        }
        let usage = raw.usage.0.and_then(RawUsage::counts);
        let Some(delta) = raw.choices.0.and_then(|choice| choice.delta.0).or_else(|| {
            // Counts may come in an event of their own.
            usage.map(|_| RawDelta { phase: Str(Some("usage".into())), ..RawDelta::default() })
        }) else {
            return Ok(Self::Nothing);
        };
        Ok(Self::Delta(Delta {
            phase: delta.phase.0.as_deref().map_or(Phase::Answer, Phase::from_wire),
            status: delta.status.0.as_deref().map_or(Status::Typing, Status::from_wire),
            content: owned(delta.content.0).unwrap_or_default(),
            extra: delta.extra.map(|extra| data.slice_ref(extra.get())),
            usage,
            response_id: owned(raw.response_id.0),
        }))
    }
}

/// `part` as a text: a slice of `whole` where it was cut from it.
pub(super) fn slice(whole: &Text, part: Cow<'_, str>) -> Text {
    match part {
        Cow::Borrowed(part) => whole.slice_ref(part),
        Cow::Owned(part) => part.into(),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawEvent<'a> {
    #[serde(rename = "response.created", borrow)]
    created: Object<RawCreated<'a>>,
    #[serde(borrow)]
    choices: First<RawChoice<'a>>,
    #[serde(borrow)]
    response_id: Str<'a>,
    usage: Object<RawUsage>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    success: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    num: Option<&'a RawValue>,
    #[serde(borrow)]
    ret: Option<&'a RawValue>,
}

impl RawEvent<'_> {
    /// What failed, if the event says that something did.
    fn failure(&self) -> Option<Failure> {
        if let Some(error) = self.error {
            return Some(Failure::from_value(error.get()));
        }
        let outer = || {
            Failure::from_fields(
                self.code.map(RawValue::get),
                self.details.or(self.detail).or(self.message).map(RawValue::get),
                self.num.map(RawValue::get),
            )
        };
        if self.ret.is_some_and(|ret| Failure::is_challenge(ret.get())) {
            return Some(Failure::challenge());
        }
        if self.success.is_some_and(|success| success.get() == "false") {
            let inner = self.data.map(|data| Failure::from_value(data.get()));
            return Some(inner.filter(|inner| !inner.is_empty()).unwrap_or_else(outer));
        }
        let bare = self.code.is_some()
            && (self.details.is_some() || self.detail.is_some())
            && self.choices.0.is_none()
            && self.created.0.is_none();
        bare.then(outer)
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawCreated<'a> {
    #[serde(borrow)]
    response_id: Str<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawChoice<'a> {
    #[serde(borrow)]
    delta: Object<RawDelta<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawDelta<'a> {
    #[serde(borrow)]
    content: StrictStr<'a>,
    #[serde(borrow)]
    phase: Str<'a>,
    #[serde(borrow)]
    status: Str<'a>,
    #[serde(borrow)]
    extra: Option<&'a RawValue>,
}

/// Token counts (A11.4).
#[derive(Deserialize, Default)]
#[serde(default)]
struct RawUsage {
    input_tokens: Count,
    output_tokens: Count,
    total_tokens: Count,
    cached_tokens: Count,
    output_tokens_details: Object<RawOutputDetails>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawOutputDetails {
    reasoning_tokens: Count,
}

impl RawUsage {
    fn counts(self) -> Option<Usage> {
        if self.input_tokens.0.is_none() && self.output_tokens.0.is_none() {
            return None;
        }
        let mut usage =
            Usage::new(self.input_tokens.0.unwrap_or(0), self.output_tokens.0.unwrap_or(0));
        if let Some(total) = self.total_tokens.0 {
            usage.total_tokens = total;
        }
        usage.cached_tokens = self.cached_tokens.0;
        usage.reasoning_tokens =
            self.output_tokens_details.0.and_then(|details| details.reasoning_tokens.0);
        Some(usage)
    }
}

/// `extra` of a `thinking_summary` delta: cumulative lists (A11.3).
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Summary<'a> {
    #[serde(borrow, rename = "summary_title")]
    pub(super) title: Object<SummaryPart<'a>>,
    #[serde(borrow, rename = "summary_thought")]
    pub(super) thought: Object<SummaryPart<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct SummaryPart<'a> {
    #[serde(borrow)]
    pub(super) content: List<Str<'a>>,
}

impl<'a> Object<SummaryPart<'a>> {
    pub(super) fn strings(&self) -> impl ExactSizeIterator<Item = &str> {
        let list: &[Str<'a>] = self.0.as_ref().map_or(&[], |part| &part.content.0);
        list.iter().map(|text| text.0.as_deref().unwrap_or(""))
    }
}

/// `extra` of a delta that shows what a built-in tool found or made.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Found<'a> {
    #[serde(borrow)]
    pub(super) web_search_info: List<Object<Page<'a>>>,
    #[serde(borrow)]
    pub(super) image_list: List<Object<Image<'a>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Page<'a> {
    #[serde(borrow)]
    pub(super) url: Str<'a>,
    #[serde(borrow)]
    pub(super) title: Str<'a>,
    #[serde(borrow)]
    pub(super) snippet: Str<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Image<'a> {
    #[serde(borrow)]
    pub(super) image: Str<'a>,
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

/// A string, borrowed where it has no escapes; `None` for anything else.
#[derive(Default)]
pub(super) struct Str<'a>(pub(super) Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Some(Cow::Owned(text.to_owned()))))
            }

            ignore!(bool, number, null, list, object);
        }

        deserializer.deserialize_any(Any)
    }
}

/// A string or `null`; anything else is an error, for it would be lost.
#[derive(Default)]
struct StrictStr<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for StrictStr<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = StrictStr<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or null")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<StrictStr<'de>, E> {
                Ok(StrictStr(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StrictStr<'de>, E> {
                Ok(StrictStr(Some(Cow::Owned(text.to_owned()))))
            }

            ignore!(null);
        }

        deserializer.deserialize_any(Text)
    }
}

/// A count of tokens; `None` for anything that is not a whole number.
#[derive(Default)]
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Count, E> {
                Ok(Count(Some(count)))
            }

            ignore!(@ visit_i64, i64);
            ignore!(@ visit_f64, f64);
            ignore!(bool, string, null, list, object);
        }

        deserializer.deserialize_any(Any)
    }
}

/// An object; `None` for anything else. (Serde would also read a struct out of a list.)
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Any<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(object)).map(|value| Object(Some(value)))
            }

            ignore!(bool, number, string, null, list);
        }

        deserializer.deserialize_any(Any(PhantomData))
    }
}

/// The first [`ITEMS`] of a list; an empty one for anything else. An item takes many times the room
/// of its text.
#[derive(Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Any<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<T>, A::Error> {
                let mut items = Vec::new();
                while items.len() < ITEMS {
                    let Some(item) = list.next_element()? else { return Ok(List(items)) };
                    items.push(item);
                }
                while let Some(IgnoredAny) = list.next_element()? {}
                Ok(List(items))
            }

            ignore!(bool, number, string, null, object);
        }

        deserializer.deserialize_any(Any(PhantomData))
    }
}

/// The first item of a list, if it is an object; `None` for anything else. There is one choice.
struct First<T>(Option<T>);

impl<T> Default for First<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Any<T> {
            type Value = First<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<First<T>, A::Error> {
                let first = list.next_element::<Object<T>>()?.and_then(|object| object.0);
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }

            ignore!(bool, number, string, null, object);
        }

        deserializer.deserialize_any(Any(PhantomData))
    }
}

//! The JSON that OpenAI clients send, borrowed from the body.
//!
//! These types know the shape and nothing else; [`decode`](super::decode) gives them a meaning.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, value::MapAccessDeserializer},
};
use serde_json::{Value, value::RawValue};

use crate::{chat::Extra, json::Str};

/// Either a string or something with a shape of its own.
///
/// A visitor rather than an untagged enum: that one would buffer the value, copy it, and lose
/// both the place and the reason of an error.
macro_rules! string_or {
    (
        $(#[$meta:meta])*
        $name:ident<$lt:lifetime> = $expecting:literal,
        $(seq => $seq:ident($seq_ty:ty),)?
        $(map => $map:ident($map_ty:ty),)?
    ) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub(super) enum $name<$lt> {
            Text(Str<$lt>),
            $($seq($seq_ty),)?
            $($map($map_ty),)?
        }

        impl<'de: $lt, $lt> Deserialize<'de> for $name<$lt> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl<'de> de::Visitor<'de> for Visitor {
                    type Value = $name<'de>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_borrowed_str<E: de::Error>(
                        self,
                        text: &'de str,
                    ) -> Result<Self::Value, E> {
                        Ok($name::Text(Str(Cow::Borrowed(text))))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                        Ok($name::Text(Str(Cow::Owned(text.to_owned()))))
                    }

                    fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
                        Ok($name::Text(Str(Cow::Owned(text))))
                    }

                    $(
                        fn visit_seq<A: de::SeqAccess<'de>>(
                            self,
                            seq: A,
                        ) -> Result<Self::Value, A::Error> {
                            Deserialize::deserialize(de::value::SeqAccessDeserializer::new(seq))
                                .map($name::$seq)
                        }
                    )?

                    $(
                        fn visit_map<A: de::MapAccess<'de>>(
                            self,
                            map: A,
                        ) -> Result<Self::Value, A::Error> {
                            Deserialize::deserialize(MapAccessDeserializer::new(map))
                                .map($name::$map)
                        }
                    )?
                }

                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

string_or! {
    /// `image_url` and `video_url`, as OpenAI and as several clients write them.
    Url<'a> = "a URL or an object with a `url`",
    map => Object(UrlObject<'a>),
}

string_or! {
    /// `stop`.
    Stop<'a> = "a string or an array of strings",
    seq => Several(Vec<Str<'a>>),
}

string_or! {
    /// `tool_choice`.
    ToolChoice<'a> = "\"none\", \"auto\", \"required\" or an object",
    map => Object(Extra),
}

/// An integer with or without a sign.
///
/// The parser's own reading of an `i128` calls anything else an error of syntax.
#[derive(Debug)]
pub(super) struct Integer(pub(super) i128);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Integer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer of 64 bits")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Integer, E> {
                Ok(Integer(number.into()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Integer, E> {
                Ok(Integer(number.into()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub(super) model: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) messages: Option<Vec<Message<'a>>>,
    pub(super) tools: Option<Vec<Tool>>,
    #[serde(borrow)]
    pub(super) tool_choice: Option<ToolChoice<'a>>,
    pub(super) parallel_tool_calls: Option<bool>,
    pub(super) response_format: Option<Extra>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) reasoning_effort: Option<Str<'a>>,
    pub(super) reasoning: Option<Reasoning<'a>>,
    pub(super) enable_thinking: Option<bool>,
    pub(super) thinking_budget: Option<i64>,
    pub(super) chat_template_kwargs: Option<Extra>,
    pub(super) max_tokens: Option<i64>,
    pub(super) max_completion_tokens: Option<i64>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<i64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) repetition_penalty: Option<f64>,
    pub(super) seed: Option<Integer>,
    #[serde(borrow)]
    pub(super) stop: Option<Stop<'a>>,
    pub(super) n: Option<u64>,
    /// A boolean in chats, a number in completions.
    pub(super) logprobs: Option<Value>,
    pub(super) top_logprobs: Option<Value>,
    pub(super) user: Option<Str<'a>>,
    pub(super) qwen_chat_id: Option<Str<'a>>,
    pub(super) qwen_parent_id: Option<Str<'a>>,
    // The forms before tools; named here so that they are refused and not lost.
    pub(super) functions: Option<Vec<Value>>,
    pub(super) function_call: Option<Value>,
    #[serde(flatten)]
    pub(super) extra: Extra,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) role: Option<Str<'a>>,
    // What may be long is read where it is given a meaning, so that it passes through no buffer
    // of the parser's.
    #[serde(borrow)]
    pub(super) content: Option<&'a RawValue>,
    pub(super) name: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<ToolCall<'a>>>,
    pub(super) function_call: Option<Function<'a>>,
    pub(super) tool_call_id: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) reasoning: Option<&'a RawValue>,
    #[serde(flatten)]
    pub(super) extra: Extra,
}

#[derive(Debug, Deserialize)]
pub(super) struct Part<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) text: Option<&'a RawValue>,
    pub(super) refusal: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) image_url: Option<Url<'a>>,
    #[serde(borrow)]
    pub(super) video_url: Option<Url<'a>>,
    pub(super) input_audio: Option<Audio<'a>>,
    pub(super) file: Option<File<'a>>,
    #[serde(flatten)]
    pub(super) extra: Extra,
}

impl Part<'_> {
    /// Whether it is of a kind that has a meaning here.
    pub(super) fn is_known(&self) -> bool {
        self.kind.as_ref().is_none_or(|kind| {
            matches!(
                &*kind.0,
                "text"
                    | "input_text"
                    | "output_text"
                    | "refusal"
                    | "image_url"
                    | "video_url"
                    | "input_audio"
                    | "file"
            )
        })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct UrlObject<'a> {
    #[serde(borrow)]
    pub(super) url: Str<'a>,
    pub(super) detail: Option<Str<'a>>,
    #[serde(flatten)]
    pub(super) extra: Extra,
}

#[derive(Debug, Deserialize)]
pub(super) struct Audio<'a> {
    #[serde(borrow)]
    pub(super) data: Str<'a>,
    pub(super) format: Option<Str<'a>>,
    #[serde(flatten)]
    pub(super) extra: Extra,
}

#[derive(Debug, Deserialize)]
pub(super) struct File<'a> {
    #[serde(borrow)]
    pub(super) file_id: Option<Str<'a>>,
    pub(super) file_data: Option<Str<'a>>,
    pub(super) filename: Option<Str<'a>>,
    #[serde(flatten)]
    pub(super) extra: Extra,
}

#[derive(Debug, Deserialize)]
pub(super) struct ToolCall<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) function: Option<Function<'a>>,
    #[serde(flatten)]
    pub(super) extra: Extra,
}

#[derive(Debug, Deserialize)]
pub(super) struct Function<'a> {
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    /// A string of JSON, or from some clients the object.
    #[serde(borrow)]
    pub(super) arguments: Option<&'a RawValue>,
    #[serde(flatten)]
    pub(super) extra: Extra,
}

/// A tool keeps its schema, so nothing is borrowed.
#[derive(Debug, Deserialize)]
pub(super) struct Tool {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) function: Option<ToolFunction>,
    #[serde(flatten)]
    pub(super) extra: Extra,
}

#[derive(Debug, Deserialize)]
pub(super) struct ToolFunction {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) parameters: Option<Extra>,
    pub(super) strict: Option<bool>,
    #[serde(flatten)]
    pub(super) extra: Extra,
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: Option<bool>,
    #[serde(flatten)]
    pub(super) extra: Extra,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reasoning<'a> {
    #[serde(borrow)]
    pub(super) effort: Option<Str<'a>>,
    pub(super) enabled: Option<bool>,
    pub(super) max_tokens: Option<i64>,
    #[serde(flatten)]
    pub(super) extra: Extra,
}

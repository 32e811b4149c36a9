//! The JSON that OpenAI clients send, borrowed from the body.
//!
//! These types know the shape and nothing else; [`decode`](super::decode) gives them a meaning.
//! What they keep of a body are slices of it, and the fields that they do not name as one text.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use crate::{
    edge::{Integer, Object, shape},
    json::Str,
};

/// Either a string or something with a shape of its own.
///
/// A visitor rather than an untagged enum: that one would buffer the value, copy it, and lose
/// both the place and the reason of an error.
macro_rules! string_or {
    (
        $(#[$meta:meta])*
        $name:ident<$lt:lifetime> = $expecting:literal,
        $(map => $map:ident($map_ty:ty),)?
    ) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub(super) enum $name<$lt> {
            Text(Str<$lt>),
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

shape! {
    /// The body of a request, but for its messages: those are given their meaning one at a time,
    /// while they are read.
    Request<'a> {
        model: Str<'a>,
        /// Each is kept whole where it is of a kind that has no meaning here.
        tools: &'a RawValue,
        tool_choice: &'a RawValue,
        parallel_tool_calls: bool,
        response_format: &'a RawValue,
        stream: bool,
        stream_options: StreamOptions<'a>,
        reasoning_effort: Str<'a>,
        reasoning: Reasoning<'a>,
        enable_thinking: bool,
        thinking_budget: Integer<i64>,
        chat_template_kwargs: Object<'a>,
        max_tokens: Integer<i64>,
        max_completion_tokens: Integer<i64>,
        temperature: f64,
        top_p: f64,
        top_k: Integer<i64>,
        presence_penalty: f64,
        frequency_penalty: f64,
        repetition_penalty: f64,
        seed: Integer<i128>,
        stop: &'a RawValue,
        n: Integer<u64>,
        /// A boolean in chats, a number in completions.
        logprobs: &'a RawValue,
        top_logprobs: &'a RawValue,
        user: Str<'a>,
        qwen_chat_id: Str<'a>,
        qwen_parent_id: Str<'a>,
        // The forms before tools; named here so that they are refused and not passed on.
        functions: &'a RawValue,
        function_call: &'a RawValue,
    }
}

shape! {
    /// A message.
    ///
    /// What may be long is read where it is given a meaning, so that it passes through no buffer
    /// of the parser's.
    Message<'a> {
        role: Str<'a>,
        content: &'a RawValue,
        name: Str<'a>,
        tool_calls: &'a RawValue,
        function_call: Function<'a>,
        tool_call_id: Str<'a>,
        reasoning_content: &'a RawValue,
        reasoning: &'a RawValue,
    }
}

shape! {
    /// A part of a message's content.
    Part<'a> {
        kind as "type": Str<'a>,
        text: &'a RawValue,
        refusal: Str<'a>,
        image_url: Url<'a>,
        video_url: Url<'a>,
        audio_url: Url<'a>,
        file_url: Url<'a>,
        input_audio: Audio<'a>,
        file: File<'a>,
        cache_control: &'a RawValue,
    }
}

impl Part<'_> {
    /// Whether it is of a kind that has a meaning here, or of none.
    pub(super) fn is_known(&self) -> bool {
        self.kind.as_ref().is_none_or(|kind| Self::is_kind(&kind.0))
    }

    /// Whether a part of this kind has a meaning here.
    pub(super) fn is_kind(kind: &str) -> bool {
        matches!(
            kind,
            "text"
                | "input_text"
                | "output_text"
                | "refusal"
                | "image_url"
                | "video_url"
                | "audio_url"
                | "file_url"
                | "input_audio"
                | "file"
        )
    }
}

shape! {
    /// An image or a video.
    UrlObject<'a> {
        url: Str<'a>,
        detail: Str<'a>,
    }
}

shape! {
    /// `input_audio`.
    Audio<'a> {
        data: Str<'a>,
        format: Str<'a>,
    }
}

shape! {
    /// A document.
    File<'a> {
        file_id: Str<'a>,
        file_data: Str<'a>,
        filename: Str<'a>,
    }
}

shape! {
    /// A call of an assistant message.
    ToolCall<'a> {
        id: Str<'a>,
        kind as "type": Str<'a>,
        function: Function<'a>,
        /// Older clients repeat the index of the stream's deltas, which means nothing here.
        index: IgnoredAny,
    }
}

shape! {
    /// The function that is called.
    Function<'a> {
        name: Str<'a>,
        /// A string of JSON, or from some clients the object.
        arguments: &'a RawValue,
    }
}

shape! {
    /// `stream_options`.
    StreamOptions<'a> {
        include_usage: bool,
    }
}

shape! {
    /// `reasoning`, the Responses API's way to say how much to think.
    Reasoning<'a> {
        effort: Str<'a>,
        enabled: bool,
        max_tokens: Integer<i64>,
    }
}

//! The request body: a prompt in, a chat of one message out.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess},
};
use serde_json::value::RawValue;

use crate::{
    Error, Text,
    chat::Role,
    edge::{
        Decoder, Limits,
        parse::{self, invalid_value, missing, unsupported},
    },
    json::{self, Str},
    openai::{decode::Decoded, wire},
};

/// What legacy clients send: the fields of a chat, and some of their own.
struct Wire<'a> {
    own: Own<'a>,
    chat: wire::Request<'a>,
}

#[derive(Default)]
struct Own<'a> {
    prompt: Option<&'a RawValue>,
    echo: Option<bool>,
    suffix: Option<Str<'a>>,
    best_of: Option<u64>,
    messages: Option<IgnoredAny>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Wire<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Wire<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut own, mut chat) = (Own::default(), wire::Request::default());
                while let Some(Str(name)) = map.next_key()? {
                    match &*name {
                        "prompt" => once(&mut own.prompt, "prompt", &mut map)?,
                        "echo" => once(&mut own.echo, "echo", &mut map)?,
                        "suffix" => once(&mut own.suffix, "suffix", &mut map)?,
                        "best_of" => once(&mut own.best_of, "best_of", &mut map)?,
                        "messages" => once(&mut own.messages, "messages", &mut map)?,
                        other => chat.read(other, &mut map)?,
                    }
                }
                Ok(Wire { own, chat })
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

/// Reads the value of `field`, which may be there once.
fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    field: &mut Option<T>,
    name: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    if field.is_some() {
        return Err(de::Error::duplicate_field(name));
    }
    *field = map.next_value()?;
    Ok(())
}

/// Reads the body of a `POST /v1/completions`: the chat that it becomes, and the prompt where
/// that is to be echoed.
pub(in crate::openai) fn decode(
    body: &Bytes,
    limits: &Limits,
) -> Result<(Decoded, Option<Text>), Error> {
    let body = parse::text(body)?;
    let decoder = Decoder::new(&body, limits)?;
    let Wire { own, chat } = parse::json(&body)?;
    for (param, is_there) in [
        ("messages", own.messages.is_some()),
        ("tools", chat.tools.is_some()),
        ("tool_choice", chat.tool_choice.is_some()),
        ("parallel_tool_calls", chat.parallel_tool_calls.is_some()),
        ("functions", chat.functions.is_some()),
        ("function_call", chat.function_call.is_some()),
        ("qwen_chat_id", chat.qwen_chat_id.is_some()),
        ("qwen_parent_id", chat.qwen_parent_id.is_some()),
    ] {
        if is_there {
            return Err(unsupported(
                param,
                "this is the API before chats; send it to /v1/chat/completions",
            ));
        }
    }
    if own.suffix.is_some_and(|suffix| !suffix.0.is_empty()) {
        return Err(unsupported(
            "suffix",
            "a chat model does not fill in between a prompt and a `suffix`; leave it out",
        ));
    }
    if own.best_of.is_some_and(|best_of| best_of != 1) {
        return Err(invalid_value("best_of", "only 1 answer a request is offered"));
    }
    let prompt = prompt(own.prompt.ok_or_else(|| missing("prompt"))?)?;
    let message = decoder.message(
        0,
        wire::Message {
            role: Some(Str(Role::User.as_str().into())),
            content: Some(prompt),
            ..wire::Message::default()
        },
    );
    let decoded = decoder.request(chat, Some(message.map(|message| vec![Arc::new(message)])))?;
    let echo = own.echo.unwrap_or(false).then(|| decoded.chat.history[0].text());
    Ok((decoded, echo))
}

/// The one text that the prompt is.
fn prompt(raw: &RawValue) -> Result<&RawValue, Error> {
    let json = raw.get();
    let text = match json.as_bytes().first() {
        Some(b'"') => raw,
        Some(b'[') => {
            // Of more than two nothing is asked but that they are there.
            let mut list: Vec<&RawValue> = Vec::new();
            let _ = parse::each_quickly(raw, |_, item: &RawValue| {
                list.push(item);
                if list.len() < 2 { Ok(()) } else { Err(()) }
            })
            .ok_or_else(|| invalid_value("prompt", "it is not a list"))?;
            match &*list {
                [] => return Err(invalid_value("prompt", "the list is empty")),
                [only] if only.get().starts_with('"') => *only,
                [first, ..] if first.get().starts_with('"') => {
                    return Err(invalid_value(
                        "prompt",
                        "several prompts in one request are not offered; send a request for each",
                    ));
                }
                _ => {
                    return Err(invalid_value(
                        "prompt",
                        "token ids are those of another tokenizer; send text",
                    ));
                }
            }
        }
        _ => {
            return Err(Error::invalid(
                "prompt",
                "invalid type for `prompt`: expected a string, or an array of one",
            )
            .with_code("invalid_type"));
        }
    };
    let inside = parse::string(text, || "prompt".to_owned(), "a string")?;
    if inside.trim_ascii().is_empty() {
        return Err(invalid_value("prompt", "it is empty"));
    }
    // Said here, where it has its name: the chat calls it `messages[0].content`.
    if inside.contains("\\u") && json::unescape(inside).is_none() {
        return Err(invalid_value("prompt", parse::LONE_SURROGATE));
    }
    Ok(text)
}

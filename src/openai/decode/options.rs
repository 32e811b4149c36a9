//! What a request says beside its messages and its tools.

use serde_json::value::RawValue;

use crate::{
    Error,
    chat::{Conversation, Destination, ResponseFormat},
    edge::{
        Decoder, Integer,
        parse::{self, invalid_value, missing, unsupported},
    },
    json::{self, Str},
    openai::wire,
};

/// Refuses what could not be answered.
pub(super) fn not_offered(wire: &wire::Request<'_>) -> Result<(), Error> {
    let is_not =
        |value: Option<&RawValue>, nothing| value.is_some_and(|value| value.get() != nothing);
    if is_not(wire.functions, "[]") {
        return Err(unsupported(
            "functions",
            "`functions` is the form before `tools`; send `tools` instead",
        ));
    }
    if is_not(wire.function_call, "\"none\"") {
        return Err(unsupported(
            "function_call",
            "`function_call` is the form before `tool_choice`; send `tool_choice` instead",
        ));
    }
    if wire.n.is_some_and(|Integer(n)| n != 1) {
        return Err(invalid_value("n", "only 1 answer a request is offered"));
    }

    let probabilities = [
        ("logprobs", is_not(wire.logprobs, "false")),
        ("top_logprobs", is_not(wire.top_logprobs, "0")),
    ];
    for (param, is_wanted) in probabilities {
        if is_wanted {
            return Err(unsupported(
                param,
                format!("`{param}`: probabilities of tokens are not offered here"),
            ));
        }
    }
    Ok(())
}

impl Decoder<'_> {
    /// The plain forms by their names, and any other whole: servers have types and fields of
    /// their own.
    pub(super) fn response_format(&self, raw: &RawValue) -> Result<ResponseFormat, Error> {
        if !raw.get().starts_with('{') {
            return Err(parse::not_expected(raw, "response_format".into(), "an object"));
        }
        let whole = self.json(raw);
        let count = json::members(raw.get()).count();
        let kind = whole
            .get("type")
            .filter(|kind| !kind.is_null())
            .ok_or_else(|| missing("response_format.type"))?;
        let kind = kind
            .as_string()
            .ok_or_else(|| parse::wrong_type("response_format.type".into(), "expected a string"))?;
        match (&*kind, whole.get("json_schema")) {
            ("text", None) if count == 1 => Ok(ResponseFormat::Text),
            ("json_object", None) if count == 1 => Ok(ResponseFormat::JsonObject),
            ("json_schema", Some(schema)) if schema.is_object() => Ok(if count == 2 {
                ResponseFormat::JsonSchema(schema)
            } else {
                ResponseFormat::Other(whole)
            }),
            ("json_schema", Some(schema)) if !schema.is_null() => {
                Err(parse::wrong_type("response_format.json_schema".into(), "expected an object"))
            }
            // llama.cpp takes it without a name.
            ("json_schema", _) if whole.get("schema").is_none_or(|schema| schema.is_null()) => {
                Err(missing("response_format.json_schema"))
            }
            _ => Ok(ResponseFormat::Other(whole)),
        }
    }

    /// The chat that the client names, if it names one.
    pub(super) fn destination(
        &self,
        chat_id: Option<Str<'_>>,
        parent_id: Option<Str<'_>>,
    ) -> Result<Destination, Error> {
        Ok(match (self.some(chat_id), self.some(parent_id)) {
            (None, None) => Destination::NEW,
            (None, Some(_)) => {
                return Err(invalid_value("qwen_parent_id", "it needs `qwen_chat_id` beside it"));
            }
            (Some(chat_id), _) if chat_id.is_empty() => {
                return Err(invalid_value("qwen_chat_id", "the id is empty"));
            }
            (Some(chat_id), parent_id) => {
                let mut conversation = Conversation::new(chat_id);
                conversation.parent_id = parent_id;
                Destination::Chat(conversation)
            }
        })
    }
}

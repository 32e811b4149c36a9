//! The request body: a prompt in, a chat of one message out.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};

use crate::{
    Error,
    chat::{ChatRequest, Extra, Role, Text},
    json::{self, Str},
    openai::{
        decode::Decoder,
        parse::{self, invalid_value, missing, unsupported},
        wire,
    },
};

/// What legacy clients send (D8).
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    model: Option<Str<'a>>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    echo: Option<bool>,
    #[serde(borrow)]
    suffix: Option<Str<'a>>,
    logprobs: Option<Value>,
    best_of: Option<u64>,
    n: Option<u64>,
    stream: Option<bool>,
    stream_options: Option<wire::StreamOptions>,
    max_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    repetition_penalty: Option<f64>,
    seed: Option<i64>,
    #[serde(borrow)]
    stop: Option<wire::Stop<'a>>,
    #[serde(borrow)]
    user: Option<Str<'a>>,
    response_format: Option<Extra>,
    #[serde(borrow)]
    reasoning_effort: Option<Str<'a>>,
    #[serde(borrow)]
    reasoning: Option<wire::Reasoning<'a>>,
    enable_thinking: Option<bool>,
    thinking_budget: Option<u64>,
    chat_template_kwargs: Option<Extra>,
    // Named here so that they are refused, and not sent on beside those of the chat.
    messages: Option<IgnoredAny>,
    tools: Option<IgnoredAny>,
    tool_choice: Option<IgnoredAny>,
    #[serde(flatten)]
    extra: Extra,
}

/// Reads the body of a `POST /v1/completions`: the chat that it becomes, and the prompt where
/// that is to be echoed.
pub(in crate::openai) fn decode(body: &Bytes) -> Result<(ChatRequest, Option<Text>), Error> {
    let body = parse::text(body)?;
    let wire: Wire<'_> = parse::json(&body)?;
    for (param, is_there) in [
        ("messages", wire.messages.is_some()),
        ("tools", wire.tools.is_some()),
        ("tool_choice", wire.tool_choice.is_some()),
    ] {
        if is_there {
            return Err(unsupported(
                param,
                "this is the API before chats; send it to /v1/chat/completions",
            ));
        }
    }
    if wire.suffix.is_some_and(|suffix| !suffix.0.is_empty()) {
        return Err(unsupported(
            "suffix",
            "a chat model does not fill in between a prompt and a `suffix`; leave it out",
        ));
    }
    if !matches!(wire.logprobs, None | Some(Value::Null | Value::Bool(false))) {
        return Err(unsupported("logprobs", "probabilities of tokens are not offered here"));
    }
    if wire.best_of.is_some_and(|best_of| best_of != 1) {
        return Err(invalid_value("best_of", "only 1 answer a request is offered"));
    }
    let prompt = prompt(wire.prompt.ok_or_else(|| missing("prompt"))?)?;
    let decoder = Decoder::new(&body);
    let request = decoder.request(wire::Request {
        model: wire.model,
        messages: Some(vec![wire::Message {
            role: Some(Str(Role::User.as_str().into())),
            content: Some(prompt),
            ..wire::Message::default()
        }]),
        response_format: wire.response_format,
        stream: wire.stream,
        stream_options: wire.stream_options,
        reasoning_effort: wire.reasoning_effort,
        reasoning: wire.reasoning,
        enable_thinking: wire.enable_thinking,
        thinking_budget: wire.thinking_budget,
        chat_template_kwargs: wire.chat_template_kwargs,
        max_tokens: wire.max_tokens,
        temperature: wire.temperature,
        top_p: wire.top_p,
        top_k: wire.top_k,
        presence_penalty: wire.presence_penalty,
        frequency_penalty: wire.frequency_penalty,
        repetition_penalty: wire.repetition_penalty,
        seed: wire.seed,
        stop: wire.stop,
        n: wire.n,
        user: wire.user,
        extra: wire.extra,
        ..wire::Request::default()
    })?;
    let echo = wire.echo.unwrap_or(false).then(|| request.messages[0].text());
    Ok((request, echo))
}

/// The one text that the prompt is.
fn prompt(raw: &RawValue) -> Result<&RawValue, Error> {
    let json = raw.get();
    let text = match json.as_bytes().first() {
        Some(b'"') => raw,
        Some(b'[') => {
            let list: Vec<&RawValue> = serde_json::from_str(json)
                .map_err(|_| invalid_value("prompt", "it is not a list"))?;
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

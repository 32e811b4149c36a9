//! The request body: JSON in, [`ChatRequest`] out, every error with the field at fault.

mod messages;
mod options;
mod tools;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{
    Deserializer,
    de::{self, DeserializeSeed, MapAccess},
};

use self::options::not_offered;
use super::wire;
use crate::{
    Error,
    chat::{ChatRequest, Json, Message, ReasoningEffort, ReasoningOptions, Sampling, ToolChoice},
    edge::{
        Decoder, Integer, Limits, Object, check_model, own,
        parse::{self, Each, invalid_value, missing, too_many},
    },
    json::Str,
};

/// A request as a client of the OpenAI API sent it.
///
/// What only the edge needs stands beside the request: the layers of the middle always stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decoded {
    /// What the layers below get.
    pub chat: ChatRequest,
    /// `stream`: whether the client wants its answer as a stream of events.
    pub stream: bool,
    /// `stream_options.include_usage`: whether the last chunk of a stream shall say what the
    /// answer has used.
    pub include_usage: bool,
}

/// Reads the body of a `POST /v1/chat/completions`.
///
/// Beside what OpenAI documents it takes what clients are known to send: a URL string for
/// `image_url`, an object for a call's `arguments`, function tools without the inner `function`,
/// the thinking options of Qwen servers, and `qwen_chat_id` with `qwen_parent_id`. It refuses what
/// could not be answered: more than one answer (`n`), `logprobs`, and `functions`, the form before
/// `tools`.
///
/// Unknown fields go into [`ChatRequest::extra`] and its like, with every value as it was written.
/// Those of `stream_options` go there as a field of that name.
///
/// Strings without escapes, the schemas of tools and all other JSON are slices of `body`. Strings
/// with escapes and unknown fields are copied.
///
/// # Errors
///
/// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest), with the field as [`Error::param`] and one of the codes
/// `invalid_json`, `missing_required_parameter`, `invalid_type`, `invalid_value`,
/// `unsupported_parameter`, `too_many`, `too_deep`; the last two for more than [`Limits`] allow. A
/// field that is known and there twice is an error.
///
/// ```
/// use tower_qwen::openai::decode;
///
/// let error = decode(&r#"{"model":"qwen3-max","messages":[{"role":"usr"}]}"#.into()).unwrap_err();
/// assert_eq!(error.param(), Some("messages[0].role"));
/// ```
pub fn decode(body: &Bytes) -> Result<Decoded, Error> {
    decode_within(body, &Limits::new())
}

/// [`decode`], with limits of one's own.
///
/// # Errors
///
/// Those of [`decode`].
pub fn decode_within(body: &Bytes, limits: &Limits) -> Result<Decoded, Error> {
    let body = parse::text(body)?;
    let decoder = Decoder::new(&body, limits)?;
    let (wire, messages) = parse::json_with(&body, || ReadRequest(&decoder))?;
    decoder.request(wire, messages)
}

/// Reads a request; its messages get their meaning at once, which is where they are counted.
struct ReadRequest<'a, 'd>(&'d Decoder<'a>);

/// The messages, where there are any, or what is wrong with them.
pub(super) type Messages = Option<Result<Vec<Arc<Message>>, Error>>;

impl<'de> DeserializeSeed<'de> for ReadRequest<'_, '_> {
    type Value = (wire::Request<'de>, Messages);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> de::Visitor<'de> for ReadRequest<'_, '_> {
    type Value = (wire::Request<'de>, Messages);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        const MESSAGES: &str = "messages";
        let decoder = self.0;
        let mut request = wire::Request::default();
        let mut messages: Messages = None;
        decoder.start();
        while let Some(Str(name)) = map.next_key()? {
            if name != MESSAGES {
                request.read(&name, &mut map)?;
                continue;
            }
            if messages.is_some() {
                return Err(de::Error::duplicate_field(MESSAGES));
            }
            let mut list = Vec::new();
            let read = Each::new(|index, wire: wire::Message<'_>| {
                let limit = decoder.limits.messages;
                if index == limit {
                    return Err(too_many(MESSAGES, limit, "messages", "send a shorter history"));
                }
                list.push(Arc::new(decoder.message(index, wire)?));
                Ok(())
            });
            messages = match map.next_value_seed(read)? {
                Ok(is_there) => is_there.then_some(Ok(list)),
                Err(error) => Some(Err(error)),
            };
        }
        Ok((request, messages))
    }
}

impl Decoder<'_> {
    pub(super) fn request(
        &self,
        mut wire: wire::Request<'_>,
        messages: Messages,
    ) -> Result<Decoded, Error> {
        let model = self.some(wire.model.take()).ok_or_else(|| missing("model"))?;
        check_model(&model)?;
        let messages = messages.ok_or_else(|| missing("messages"))?;
        if messages.as_ref().is_ok_and(Vec::is_empty) {
            return Err(invalid_value("messages", "at least one message is needed"));
        }
        not_offered(&wire)?;

        let mut request = ChatRequest::new(model, []);
        request.history = messages?.into();
        let mut extra = wire.extra;

        if let Some(tools) = wire.tools {
            request.tools = Arc::new(self.tools(tools)?);
        }
        request.tool_choice =
            wire.tool_choice.map(|choice| self.tool_choice(choice)).transpose()?;
        if let Some(name) = request.tool_choice.as_ref().and_then(ToolChoice::function)
            && !request
                .tools
                .iter()
                .any(|tool| tool.as_function().is_some_and(|function| function.name == name))
        {
            return Err(invalid_value(
                "tool_choice",
                format_args!("`tools` holds no function `{name}`"),
            ));
        }
        request.parallel_tool_calls = wire.parallel_tool_calls;
        request.response_format =
            wire.response_format.map(|format| self.response_format(format)).transpose()?;
        let mut include_usage = false;
        if let Some(options) = wire.stream_options {
            include_usage = options.include_usage.unwrap_or(false);
            let others = options.extra.finish();
            if !others.is_empty() {
                extra.push("stream_options", Json::from(&others).as_str());
            }
        }

        let mut reasoning = ReasoningOptions {
            effort: self.some(wire.reasoning_effort).map(ReasoningEffort::from),
            enabled: wire.enable_thinking,
            budget: wire.thinking_budget.map(|Integer(tokens)| tokens),
        };
        if let Some(other) = wire.reasoning {
            reasoning.effort = reasoning.effort.or_else(|| self.some(other.effort).map(Into::into));
            reasoning.enabled = reasoning.enabled.or(other.enabled);
            reasoning.budget = reasoning.budget.or(other.max_tokens.map(|Integer(tokens)| tokens));
            let others = other.extra.finish();
            if !others.is_empty() {
                extra.push("reasoning", Json::from(&others).as_str());
            }
        }
        if let Some(Object(kwargs)) = wire.chat_template_kwargs {
            reasoning.enabled =
                reasoning.enabled.or_else(|| self.json(kwargs).get("enable_thinking")?.as_bool());
            extra.push("chat_template_kwargs", kwargs.get());
        }
        request.reasoning = reasoning;

        request.sampling = Sampling {
            max_tokens: wire.max_tokens.map(|Integer(tokens)| tokens),
            max_completion_tokens: wire.max_completion_tokens.map(|Integer(tokens)| tokens),
            temperature: wire.temperature,
            top_p: wire.top_p,
            top_k: wire.top_k.map(|Integer(most)| most),
            presence_penalty: wire.presence_penalty,
            frequency_penalty: wire.frequency_penalty,
            repetition_penalty: wire.repetition_penalty,
            seed: wire.seed.map(|Integer(seed)| seed),
            stop: wire.stop.map(|stop| self.stop(stop, "stop")).transpose()?.unwrap_or_default(),
        };
        request.user = self.some(wire.user);

        request.destination = self.destination(wire.qwen_chat_id, wire.qwen_parent_id)?;
        request.extra = extra.finish();
        if self.is_mostly_unused() {
            own(&mut request, self.body);
        }
        Ok(Decoded { chat: request, stream: wire.stream.unwrap_or(false), include_usage })
    }
}

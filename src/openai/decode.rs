//! The request body: JSON in, [`ChatRequest`] out, every error with the field at fault.

use std::{borrow::Cow, cell::Cell, fmt, sync::Arc};

use bytes::Bytes;
use memchr::memchr;
use serde::{
    Deserializer,
    de::{self, DeserializeSeed, MapAccess},
};
use serde_json::{Value, value::RawValue};

use super::{
    Limits,
    model::check_model,
    parse::{self, Each, clip, invalid_value, missing, too_many, unsupported},
    wire,
};
use crate::{
    Error, Text,
    chat::{
        ChatRequest, Content, Conversation, Destination, Extra, Fields, FunctionTool, Json,
        Message, Part, PartKind, ReasoningEffort, ReasoningOptions, ResponseFormat, Role, Sampling,
        Tool, ToolCall, ToolChoice,
    },
    json::{self, Str},
};

/// From which size on it matters that a body is let go, in bytes.
const LARGE: usize = 64 * 1024;

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

/// Gives the borrowed shapes a meaning; holds the body that their strings are cut from.
pub(super) struct Decoder<'a> {
    body: &'a Text,
    /// How many bytes of the body the request holds as slices.
    sliced: Cell<usize>,
    limits: &'a Limits,
    /// How many parts and calls there were so far.
    parts: Cell<usize>,
    calls: Cell<usize>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(body: &'a Text, limits: &'a Limits) -> Result<Self, Error> {
        parse::not_too_deep(body, limits.nesting)?;
        let (sliced, parts, calls) = <(Cell<_>, Cell<_>, Cell<_>)>::default();
        Ok(Self { body, sliced, limits, parts, calls })
    }

    /// Counts from nothing: a body that cannot be read is read twice.
    fn start(&self) {
        for count in [&self.sliced, &self.parts, &self.calls] {
            count.set(0);
        }
    }

    fn text(&self, text: Str<'_>) -> Text {
        match text.0 {
            Cow::Borrowed(text) => self.slice(text),
            Cow::Owned(text) => text.into(),
        }
    }

    fn slice(&self, part: &str) -> Text {
        self.sliced.set(self.sliced.get() + part.len());
        self.body.slice_ref(part)
    }

    /// A string that may be long: unless it is a slice, it is copied once.
    fn long(&self, raw: &RawValue, param: impl Fn() -> String) -> Result<Text, Error> {
        let inside = parse::string(raw, &param, "a string")?;
        if memchr(b'\\', inside.as_bytes()).is_none() {
            return Ok(self.slice(inside));
        }
        json::unescape(inside)
            .map(Text::from)
            .ok_or_else(|| invalid_value(param(), parse::LONE_SURROGATE))
    }

    fn some(&self, text: Option<Str<'_>>) -> Option<Text> {
        text.map(|text| self.text(text))
    }

    /// JSON as it stands.
    fn json(&self, raw: &RawValue) -> Json {
        Json::from_checked(self.slice(raw.get()))
    }

    pub(super) fn request(
        &self,
        wire: wire::Request<'_>,
        messages: Messages,
    ) -> Result<Decoded, Error> {
        let model = self.some(wire.model).ok_or_else(|| missing("model"))?;
        check_model(&model)?;
        let messages = messages.ok_or_else(|| missing("messages"))?;
        if messages.as_ref().is_ok_and(Vec::is_empty) {
            return Err(invalid_value("messages", "at least one message is needed"));
        }
        if wire.functions.is_some() {
            return Err(unsupported(
                "functions",
                "`functions` is the form before `tools`; send `tools` instead",
            ));
        }
        if wire.function_call.is_some() {
            return Err(unsupported(
                "function_call",
                "`function_call` is the form before `tool_choice`; send `tool_choice` instead",
            ));
        }
        if wire.n.is_some_and(|n| n != 1) {
            return Err(invalid_value("n", "only 1 answer a request is offered"));
        }

        let is_not =
            |value: Option<&RawValue>, nothing| value.is_some_and(|value| value.get() != nothing);
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
            budget: wire.thinking_budget,
        };
        if let Some(other) = wire.reasoning {
            reasoning.effort = reasoning.effort.or_else(|| self.some(other.effort).map(Into::into));
            reasoning.enabled = reasoning.enabled.or(other.enabled);
            reasoning.budget = reasoning.budget.or(other.max_tokens);
            let others = other.extra.finish();
            if !others.is_empty() {
                extra.push("reasoning", Json::from(&others).as_str());
            }
        }
        if let Some(wire::Object(kwargs)) = wire.chat_template_kwargs {
            reasoning.enabled =
                reasoning.enabled.or_else(|| self.json(kwargs).get("enable_thinking")?.as_bool());
            extra.push("chat_template_kwargs", kwargs.get());
        }
        request.reasoning = reasoning;

        request.sampling = Sampling {
            max_tokens: wire.max_tokens,
            max_completion_tokens: wire.max_completion_tokens,
            temperature: wire.temperature,
            top_p: wire.top_p,
            top_k: wire.top_k,
            presence_penalty: wire.presence_penalty,
            frequency_penalty: wire.frequency_penalty,
            repetition_penalty: wire.repetition_penalty,
            seed: wire.seed.map(|seed| seed.0),
            stop: wire.stop.map(|stop| self.stop(stop)).transpose()?.unwrap_or_default(),
        };
        request.user = self.some(wire.user);

        request.destination = match (self.some(wire.qwen_chat_id), self.some(wire.qwen_parent_id)) {
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
        };
        request.extra = extra.finish();
        if self.sliced.get() < self.body.len() / 8 && self.body.len() >= LARGE {
            own(&mut request, self.body);
        }
        Ok(Decoded { chat: request, stream: wire.stream.unwrap_or(false), include_usage })
    }

    fn stop(&self, raw: &RawValue) -> Result<Vec<Text>, Error> {
        const STOP: &str = "stop";
        let mut several = Vec::new();
        match raw.get().as_bytes().first() {
            Some(b'"') => several.push(self.long(raw, || STOP.to_owned())?),
            Some(b'[') => parse::each(raw, STOP, |place, one: Str<'_>| {
                let limit = self.limits.stops;
                if place == limit {
                    return Err(too_many(STOP, limit, "sequences", "send fewer"));
                }
                several.push(self.text(one));
                Ok(())
            })?,
            _ => {
                let expected = "a string or an array of strings";
                return Err(parse::not_expected(raw, STOP.to_owned(), expected));
            }
        }
        Ok(several)
    }

    pub(super) fn message(&self, index: usize, wire: wire::Message<'_>) -> Result<Message, Error> {
        let at = |field: &str| format!("messages[{index}].{field}");
        let word = wire.role.ok_or_else(|| missing(at("role")))?;
        let role = Role::from_wire(&word.0).ok_or_else(|| {
            invalid_value(
                at("role"),
                format_args!(
                    "`{}` is none of system, developer, user, assistant, tool, function",
                    clip(&word.0)
                ),
            )
        })?;
        let mut message = Message::empty(role);
        message.content =
            wire.content.map(|content| self.content(content, || at("content"))).transpose()?;
        message.name = self.some(wire.name);
        message.tool_call_id = self.some(wire.tool_call_id);
        message.reasoning = match (wire.reasoning_content, wire.reasoning) {
            (Some(raw), _) => Some(self.long(raw, || at("reasoning_content"))?),
            (None, Some(raw)) => Some(self.long(raw, || at("reasoning"))?),
            (None, None) => None,
        };
        if wire.tool_calls.is_some() {
            message.tool_calls.reserve_exact(1);
        }
        let read = |place: usize, call: wire::ToolCall<'_>| {
            let limit = self.limits.calls;
            if self.calls.replace(self.calls.get() + 1) == limit {
                return Err(too_many(at("tool_calls"), limit, "calls", "send a shorter history"));
            }
            let at = |field: &str| at(&format!("tool_calls[{place}].{field}"));
            let function = match call.function {
                Some(function) => function,
                None => {
                    return Err(match call.kind {
                        Some(kind) if kind.0 != "function" => invalid_value(
                            at("type"),
                            format_args!("calls of type `{}` are not supported", clip(&kind.0)),
                        ),
                        _ => missing(at("function")),
                    });
                }
            };
            let at = |field: &str| at(&format!("function.{field}"));
            message
                .tool_calls
                .push(ToolCall { extra: call.extra.finish(), ..self.call(call.id, function, at)? });
            Ok(())
        };
        if let Some(calls) = wire.tool_calls {
            parse::each(calls, &at("tool_calls"), read)?;
        }
        if let Some(function) = wire.function_call {
            let at = |field: &str| at(&format!("function_call.{field}"));
            message.tool_calls.push(self.call(None, function, at)?);
        }
        message.extra = wire.extra.finish();

        let speechless = message.content.is_none() && message.tool_calls.is_empty();
        if speechless && !matches!(role, Role::Assistant | Role::Tool | Role::Function) {
            return Err(missing(at("content")));
        }
        Ok(message)
    }

    fn content(&self, raw: &RawValue, at: impl Fn() -> String) -> Result<Content, Error> {
        match raw.get().as_bytes().first() {
            Some(b'"') => self.long(raw, at).map(Content::Text),
            Some(b'[') => self.parts(raw, at).map(Content::Parts),
            _ => Err(parse::not_expected(raw, at(), "a string or an array of content parts")),
        }
    }

    fn parts(&self, raw: &RawValue, at: impl Fn() -> String) -> Result<Vec<Part>, Error> {
        let item = |place: usize| format!("{}[{place}]", at());
        let before = self.parts.get();
        let count = || {
            let limit = self.limits.parts;
            if self.parts.replace(self.parts.get() + 1) == limit {
                return Err(too_many(at(), limit, "parts of content", "send a shorter history"));
            }
            Ok(())
        };
        // Nearly always all are of a kind that is known, and often there is one.
        let mut parts = Vec::with_capacity(1);
        let quick = parse::each_quickly(raw, |place, part: wire::Part<'_>| {
            if !part.is_known() {
                return Err(None);
            }
            count().map_err(Some)?;
            parts.push(self.part(part, || item(place)).map_err(Some)?);
            Ok(())
        });
        match quick {
            Some(Ok(())) => return Ok(parts),
            Some(Err(Some(error))) => return Err(error),
            Some(Err(None)) | None => {}
        }
        parts.clear();
        self.parts.set(before);
        parse::each(raw, &at(), |place, raw: &RawValue| {
            count()?;
            parts.push(match string_field(raw, "type") {
                // Of a kind that is not known any field may be of any meaning.
                Some(kind) if !wire::Part::is_kind(&kind) => {
                    let whole = Extra::from_checked(self.slice(raw.get()));
                    Part::new(PartKind::Other(whole))
                }
                _ => self.part(parse::nested(raw, &item(place))?, || item(place))?,
            });
            Ok(())
        })?;
        Ok(parts)
    }

    fn call(
        &self,
        id: Option<Str<'_>>,
        function: wire::Function<'_>,
        at: impl Fn(&str) -> String,
    ) -> Result<ToolCall, Error> {
        let name = self.some(function.name).ok_or_else(|| missing(at("name")))?;
        let arguments = match function.arguments {
            None => Text::from_static("{}"),
            Some(raw) if raw.get().starts_with('{') => self.slice(raw.get()),
            Some(raw) => self.long(raw, || at("arguments"))?,
        };
        let id = self.some(id).unwrap_or_default();
        Ok(ToolCall { inner_extra: function.extra.finish(), ..ToolCall::new(id, name, arguments) })
    }

    fn part(&self, wire: wire::Part<'_>, at: impl Fn() -> String) -> Result<Part, Error> {
        let under = |field: &str| format!("{}.{field}", at());
        let kind = wire.kind.ok_or_else(|| missing(under("type")))?;
        let url = |url: wire::Url<'_>, field: &str| match url {
            wire::Url::Text(url) => Ok((self.text(url), None, Fields::default())),
            wire::Url::Object(object) => match object.url {
                Some(url) => Ok((self.text(url), self.some(object.detail), object.extra)),
                None => Err(missing(under(&format!("{field}.url")))),
            },
        };
        let mut inner_extra = Fields::default();
        let kind = match &*kind.0 {
            // The second and third are the names of the Responses API, which some clients mix in.
            "text" | "input_text" | "output_text" => {
                let text = wire.text.ok_or_else(|| missing(under("text")))?;
                PartKind::Text(self.long(text, || under("text"))?)
            }
            "refusal" => {
                PartKind::Refusal(self.some(wire.refusal).ok_or_else(|| missing(under("refusal")))?)
            }
            "image_url" => {
                let image = wire.image_url.ok_or_else(|| missing(under("image_url")))?;
                let (url, detail, extra) = url(image, "image_url")?;
                inner_extra = extra;
                PartKind::Image { url, detail }
            }
            "video_url" => {
                let video = wire.video_url.ok_or_else(|| missing(under("video_url")))?;
                let (url, detail, extra) = url(video, "video_url")?;
                inner_extra = extra;
                if let Some(detail) = detail {
                    inner_extra.push("detail", Json::from(Value::from(&*detail)).as_str());
                }
                PartKind::Video { url }
            }
            "input_audio" => {
                let audio = wire.input_audio.ok_or_else(|| missing(under("input_audio")))?;
                inner_extra = audio.extra;
                PartKind::Audio {
                    data: self
                        .some(audio.data)
                        .ok_or_else(|| missing(under("input_audio.data")))?,
                    format: self.some(audio.format),
                }
            }
            "file" => {
                let file = wire.file.ok_or_else(|| missing(under("file")))?;
                if file.file_id.is_none() && file.file_data.is_none() {
                    return Err(missing(under("file.file_data")));
                }
                inner_extra = file.extra;
                PartKind::File {
                    id: self.some(file.file_id),
                    data: self.some(file.file_data),
                    name: self.some(file.filename),
                }
            }
            other => {
                return Err(invalid_value(
                    under("type"),
                    format_args!("`{}` is not known", clip(other)),
                ));
            }
        };
        Ok(Part {
            kind,
            cache_control: wire.cache_control.map(|mark| self.json(mark)),
            inner_extra: inner_extra.finish(),
            extra: wire.extra.finish(),
        })
    }

    fn tools(&self, raw: &RawValue) -> Result<Vec<Tool>, Error> {
        const TOOLS: &str = "tools";
        let count = |index| {
            let limit = self.limits.tools;
            if index == limit {
                return Err(too_many(TOOLS, limit, "tools", "offer fewer"));
            }
            Ok(())
        };
        // Nearly always all are functions.
        let mut tools = Vec::new();
        let quick = parse::each_quickly(raw, |index, tool: wire::Tool<'_>| {
            if !tool.is_function() {
                return Err(None);
            }
            count(index).map_err(Some)?;
            tools.push(self.function(index, tool).map_err(Some)?);
            Ok(())
        });
        match quick {
            Some(Ok(())) => return Ok(tools),
            Some(Err(Some(error))) => return Err(error),
            Some(Err(None)) | None => {}
        }
        tools.clear();
        parse::each(raw, TOOLS, |index, raw: &RawValue| {
            count(index)?;
            tools.push(match string_field(raw, "type") {
                Some(kind) if kind != "function" => Tool::Other(self.json(raw)),
                _ => {
                    let tool: wire::Tool<'_> = parse::nested(raw, &format!("{TOOLS}[{index}]"))?;
                    if tool.kind.is_some() && tool.function.is_none() {
                        self.flat_function(index, raw)?
                    } else {
                        self.function(index, tool)?
                    }
                }
            });
            Ok(())
        })?;
        Ok(tools)
    }

    fn function(&self, index: usize, wire: wire::Tool<'_>) -> Result<Tool, Error> {
        let at = |field: &str| format!("tools[{index}].{field}");
        if wire.kind.is_none() {
            return Err(missing(at("type")));
        }
        let function = wire.function.ok_or_else(|| missing(at("function")))?;
        let name = function.name.ok_or_else(|| missing(at("function.name")))?;
        if name.0.is_empty() {
            return Err(invalid_value(at("function.name"), "the name is empty"));
        }
        Ok(Tool::Function(FunctionTool {
            description: self.some(function.description),
            parameters: function.parameters.map(|schema| self.json(schema.0)),
            strict: function.strict,
            cache_control: wire.cache_control.map(|mark| self.json(mark)),
            extra: function.extra.finish(),
            outer_extra: wire.extra.finish(),
            ..FunctionTool::without_parameters(self.text(name))
        }))
    }

    /// Reads a function in the form of the Responses API.
    fn flat_function(&self, index: usize, raw: &RawValue) -> Result<Tool, Error> {
        let flat: wire::FlatTool<'_> = parse::nested(raw, &format!("tools[{index}]"))?;
        let name = flat.name.ok_or_else(|| missing(format!("tools[{index}].function")))?;
        if name.0.is_empty() {
            return Err(invalid_value(format!("tools[{index}].name"), "the name is empty"));
        }
        Ok(Tool::Function(FunctionTool {
            description: self.some(flat.description),
            parameters: flat.parameters.map(|schema| self.json(schema.0)),
            strict: flat.strict,
            cache_control: flat.cache_control.map(|mark| self.json(mark)),
            extra: flat.extra.finish(),
            ..FunctionTool::without_parameters(self.text(name))
        }))
    }

    fn tool_choice(&self, raw: &RawValue) -> Result<ToolChoice, Error> {
        match raw.get().as_bytes().first() {
            Some(b'"') => match &*self.long(raw, || "tool_choice".to_owned())? {
                "auto" => Ok(ToolChoice::Auto),
                "none" => Ok(ToolChoice::None),
                "required" | "any" => Ok(ToolChoice::Required),
                other => Err(invalid_value(
                    "tool_choice",
                    format_args!("`{}` is none of none, auto, required", clip(other)),
                )),
            },
            Some(b'{') => {
                let kind = string_field(raw, "type").ok_or_else(|| missing("tool_choice.type"))?;
                let whole = ToolChoice::Other(self.json(raw));
                if kind != "function" {
                    return Ok(whole);
                }
                let name = whole.function().ok_or_else(|| missing("tool_choice.function.name"))?;
                let is_plain = json::members(raw.get()).all(|(field, value)| match &*field {
                    "type" => true,
                    "function" => json::members(value).all(|(field, _)| field == "name"),
                    _ => false,
                });
                Ok(if is_plain { ToolChoice::Function(name) } else { whole })
            }
            _ => Err(parse::not_expected(
                raw,
                "tool_choice".into(),
                "\"none\", \"auto\", \"required\" or an object",
            )),
        }
    }

    /// The plain forms by their names, and any other whole: servers have types and fields of
    /// their own.
    fn response_format(&self, raw: &RawValue) -> Result<ResponseFormat, Error> {
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
}

/// The field `name` of an object, if that is a string; of several the last.
fn string_field<'a>(raw: &'a RawValue, name: &str) -> Option<Cow<'a, str>> {
    let (_, value) = json::members(raw.get()).filter(|(own, _)| own == name).last()?;
    value.starts_with('"').then(|| json::unquoted(value))
}

/// Copies what of `request` is a slice of `body`, so that the body is let go: much memory is not
/// kept for the sake of little text.
fn own(request: &mut ChatRequest, body: &Text) {
    let range = body.as_bytes().as_ptr_range();
    let own = |text: &mut Text| {
        if range.contains(&text.as_ptr()) {
            *text = text.as_str().into();
        }
    };
    let some = |text: &mut Option<Text>| text.iter_mut().for_each(own);
    own(&mut request.model);
    some(&mut request.user);
    request.sampling.stop.iter_mut().for_each(own);
    if let Some(ReasoningEffort::Other(word)) = &mut request.reasoning.effort {
        own(word);
    }
    let json = |json: &mut Json| own(json.text_mut());
    if let Destination::Chat(conversation) = &mut request.destination {
        own(&mut conversation.chat_id);
        some(&mut conversation.parent_id);
    }
    match &mut request.tool_choice {
        Some(ToolChoice::Function(name)) => own(name),
        Some(ToolChoice::Other(choice)) => json(choice),
        _ => {}
    }
    if let Some(ResponseFormat::JsonSchema(format) | ResponseFormat::Other(format)) =
        &mut request.response_format
    {
        json(format);
    }
    // What is in an `Extra` is a copy anyway, unless it is a part as a whole.
    for tool in Arc::make_mut(&mut request.tools) {
        match tool {
            Tool::Other(whole) => json(whole),
            Tool::Function(function) => {
                own(&mut function.name);
                some(&mut function.description);
                function.parameters.iter_mut().for_each(json);
                function.cache_control.iter_mut().for_each(json);
            }
        }
    }
    for index in 0..request.history.len() {
        let Some(message) = request.history.get_mut(index) else { continue };
        for text in [&mut message.name, &mut message.tool_call_id, &mut message.reasoning] {
            some(text);
        }
        for call in &mut message.tool_calls {
            for text in [&mut call.id, &mut call.name, &mut call.arguments] {
                own(text);
            }
        }
        let parts = match &mut message.content {
            None => continue,
            Some(Content::Text(text)) => {
                own(text);
                continue;
            }
            Some(Content::Parts(parts)) => parts,
        };
        for part in parts {
            part.cache_control.iter_mut().for_each(json);
            match &mut part.kind {
                PartKind::Text(text)
                | PartKind::Refusal(text)
                | PartKind::Video { url: text }
                | PartKind::ToolReference { name: text } => own(text),
                PartKind::Image { url: text, detail: more }
                | PartKind::Audio { data: text, format: more } => {
                    own(text);
                    some(more);
                }
                PartKind::File { id, data, name } => {
                    for text in [id, data, name] {
                        some(text);
                    }
                }
                PartKind::Other(whole) => own(whole.text_mut()),
            }
        }
    }
}

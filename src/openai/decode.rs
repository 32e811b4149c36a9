//! The request body: JSON in, [`ChatRequest`] out, every error with the field at fault.

use std::{borrow::Cow, cell::Cell, sync::Arc};

use bytes::Bytes;
use memchr::memchr;
use serde_json::{Value, value::RawValue};

use super::{
    parse::{self, clip, invalid_value, missing, unsupported},
    wire,
};
use crate::{
    Error,
    chat::{
        ChatRequest, Content, Conversation, Extra, FunctionTool, Message, Part, PartKind,
        ReasoningEffort, ReasoningOptions, ResponseFormat, Role, Sampling, StreamOptions, Text,
        Tool, ToolCall, ToolChoice,
    },
    json::{self, Str},
};

/// From which size on it matters that a body is let go, in bytes.
const LARGE: usize = 64 * 1024;

/// Reads the body of a `POST /v1/chat/completions` (qwen-wire.md D1).
///
/// Strings without escapes are slices of `body`; nothing is copied but those with escapes.
/// Unknown fields are kept in [`ChatParts::extra`](crate::chat::ChatParts::extra) and its like; of
/// their numbers [`Extra`] says what is kept, and one beyond an `f64`, such as `1e400`, is an
/// error. Beside what OpenAI documents
/// it takes what clients are known to send: a URL string for `image_url`, an object for a call's
/// `arguments`, function tools without the inner `function`, the thinking options of Qwen
/// servers, and `qwen_chat_id` with `qwen_parent_id`. What could not be answered is refused:
/// more than one answer (`n`), `logprobs`, and `functions`, the form before `tools`.
///
/// # Errors
///
/// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest), with the field as [`Error::param`] and one of the codes
/// `invalid_json`, `missing_required_parameter`, `invalid_type`, `invalid_value`,
/// `unsupported_parameter`.
///
/// ```
/// use tower_qwen::openai::decode;
///
/// let error = decode(&r#"{"model":"qwen3-max","messages":[{"role":"usr"}]}"#.into()).unwrap_err();
/// assert_eq!(error.param(), Some("messages[0].role"));
/// ```
pub fn decode(body: &Bytes) -> Result<ChatRequest, Error> {
    let body = parse::text(body)?;
    let wire: wire::Request<'_> = parse::json(&body)?;
    Decoder::new(&body).request(wire)
}

/// Gives the borrowed shapes a meaning; holds the body that their strings are cut from.
pub(super) struct Decoder<'a> {
    body: &'a Text,
    /// How many bytes of the body the request holds as slices.
    sliced: Cell<usize>,
}

impl<'a> Decoder<'a> {
    pub(super) const fn new(body: &'a Text) -> Self {
        Self { body, sliced: Cell::new(0) }
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

    pub(super) fn request(&self, wire: wire::Request<'_>) -> Result<ChatRequest, Error> {
        let model = self.some(wire.model).ok_or_else(|| missing("model"))?;
        if model.trim().is_empty() {
            return Err(invalid_value("model", "the name is empty"));
        }
        let messages = wire.messages.ok_or_else(|| missing("messages"))?;
        if messages.is_empty() {
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

        let probabilities = [
            ("logprobs", wire.logprobs.is_some_and(|value| value != Value::Bool(false))),
            ("top_logprobs", wire.top_logprobs.is_some_and(|value| value != 0)),
        ];
        for (param, is_wanted) in probabilities {
            if is_wanted {
                return Err(unsupported(
                    param,
                    format!("`{param}`: probabilities of tokens are not offered here"),
                ));
            }
        }

        let messages = messages
            .into_iter()
            .enumerate()
            .map(|(index, message)| self.message(index, message))
            .collect::<Result<Vec<_>, _>>()?;
        let mut request = ChatRequest::new(model, messages);
        let mut extra = wire.extra;

        request.tools = Arc::new(
            wire.tools
                .unwrap_or_default()
                .into_iter()
                .enumerate()
                .map(|(index, tool)| self::tool(index, tool))
                .collect::<Result<Vec<_>, _>>()?,
        );
        request.tool_choice =
            wire.tool_choice.map(|choice| self.tool_choice(choice)).transpose()?;
        if let Some(name) = request.tool_choice.as_ref().and_then(ToolChoice::function)
            && !request
                .tools
                .iter()
                .any(|tool| tool.as_function().is_some_and(|function| function.name == *name))
        {
            return Err(invalid_value(
                "tool_choice",
                format_args!("`tools` holds no function `{name}`"),
            ));
        }
        request.parallel_tool_calls = wire.parallel_tool_calls;
        request.response_format = wire.response_format.map(response_format).transpose()?;
        request.stream = wire.stream.unwrap_or(false);
        if let Some(options) = wire.stream_options {
            request.stream_options = StreamOptions {
                include_usage: options.include_usage.unwrap_or(false),
                extra: options.extra,
            };
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
            if !other.extra.is_empty() {
                extra.insert("reasoning".into(), Value::Object(other.extra));
            }
        }
        if let Some(kwargs) = wire.chat_template_kwargs {
            reasoning.enabled =
                reasoning.enabled.or_else(|| kwargs.get("enable_thinking")?.as_bool());
            extra.insert("chat_template_kwargs".into(), Value::Object(kwargs));
        }
        request.reasoning = reasoning;

        request.sampling = Sampling {
            max_tokens: wire.max_completion_tokens.or(wire.max_tokens),
            temperature: wire.temperature,
            top_p: wire.top_p,
            top_k: wire.top_k,
            presence_penalty: wire.presence_penalty,
            frequency_penalty: wire.frequency_penalty,
            repetition_penalty: wire.repetition_penalty,
            seed: wire.seed.map(|seed| seed.0),
            stop: match wire.stop {
                None => Vec::new(),
                Some(wire::Stop::Text(one)) => vec![self.text(one)],
                Some(wire::Stop::Several(several)) => {
                    several.into_iter().map(|one| self.text(one)).collect()
                }
            },
        };
        request.user = self.some(wire.user);

        request.conversation = match (self.some(wire.qwen_chat_id), self.some(wire.qwen_parent_id))
        {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(invalid_value("qwen_parent_id", "it needs `qwen_chat_id` beside it"));
            }
            (Some(chat_id), _) if chat_id.is_empty() => {
                return Err(invalid_value("qwen_chat_id", "the id is empty"));
            }
            (Some(chat_id), parent_id) => {
                let mut conversation = Conversation::new(chat_id);
                conversation.parent_id = parent_id;
                Some(conversation)
            }
        };
        request.extra = Arc::new(extra);
        if self.sliced.get() < self.body.len() / 8 && self.body.len() >= LARGE {
            own(&mut request, self.body);
        }
        Ok(request)
    }

    fn message(&self, index: usize, wire: wire::Message<'_>) -> Result<Message, Error> {
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
        for (place, call) in wire.tool_calls.into_iter().flatten().enumerate() {
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
            let mut call = ToolCall {
                extra: call.extra,
                ..self.call(call.id, function, || at("function.arguments"))?
            };
            // Older clients repeat the index of the stream's deltas.
            call.extra.shift_remove("index");
            message.tool_calls.push(call);
        }
        if let Some(function) = wire.function_call {
            let call = self.call(None, function, || at("function_call.arguments"))?;
            message.tool_calls.push(call);
        }
        message.extra = wire.extra;

        let speechless = message.content.is_none() && message.tool_calls.is_empty();
        if speechless && !matches!(role, Role::Assistant | Role::Tool | Role::Function) {
            return Err(missing(at("content")));
        }
        Ok(message)
    }

    fn content(&self, raw: &RawValue, at: impl Fn() -> String) -> Result<Content, Error> {
        match raw.get().as_bytes().first() {
            Some(b'"') => self.long(raw, at).map(Content::Text),
            Some(b'[') => {
                let parts: Vec<wire::Part<'_>> = parse::nested(raw, &at())?;
                // Of a kind that is not known any field may be of any meaning.
                let mut whole: Vec<Extra> = if parts.iter().all(wire::Part::is_known) {
                    Vec::new()
                } else {
                    parse::nested(raw, &at())?
                };
                parts
                    .into_iter()
                    .enumerate()
                    .map(|(place, part)| {
                        let at = || format!("{}[{place}]", at());
                        let whole = whole.get_mut(place).map(std::mem::take);
                        self.part(part, whole.unwrap_or_default(), at)
                    })
                    .collect::<Result<_, _>>()
                    .map(Content::Parts)
            }
            _ => Err(parse::not_expected(raw, at(), "a string or an array of content parts")),
        }
    }

    fn call(
        &self,
        id: Option<Str<'_>>,
        function: wire::Function<'_>,
        at: impl Fn() -> String,
    ) -> Result<ToolCall, Error> {
        let arguments = match function.arguments {
            None => Text::from_static("{}"),
            Some(raw) if raw.get().starts_with('{') => self.slice(raw.get()),
            Some(raw) => self.long(raw, at)?,
        };
        let id = self.some(id).unwrap_or_default();
        Ok(ToolCall {
            inner_extra: function.extra,
            ..ToolCall::new(id, self.text(function.name), arguments)
        })
    }

    /// Reads a part; one of a kind that is not known is kept as the `whole` that it is.
    fn part(
        &self,
        wire: wire::Part<'_>,
        whole: Extra,
        at: impl Fn() -> String,
    ) -> Result<Part, Error> {
        let under = |field: &str| format!("{}.{field}", at());
        let kind = wire.kind.ok_or_else(|| missing(under("type")))?;
        let url = |url: wire::Url<'_>| match url {
            wire::Url::Text(url) => (self.text(url), None, Extra::new()),
            wire::Url::Object(object) => {
                (self.text(object.url), self.some(object.detail), object.extra)
            }
        };
        let mut inner_extra = Extra::new();
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
                let (url, detail, extra) =
                    wire.image_url.map(url).ok_or_else(|| missing(under("image_url")))?;
                inner_extra = extra;
                PartKind::Image { url, detail }
            }
            "video_url" => {
                let (url, detail, extra) =
                    wire.video_url.map(url).ok_or_else(|| missing(under("video_url")))?;
                inner_extra = extra;
                if let Some(detail) = detail {
                    inner_extra.insert("detail".into(), detail.as_str().into());
                }
                PartKind::Video { url }
            }
            "input_audio" => {
                let audio = wire.input_audio.ok_or_else(|| missing(under("input_audio")))?;
                inner_extra = audio.extra;
                PartKind::Audio { data: self.text(audio.data), format: self.some(audio.format) }
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
            _ => return Ok(Part::new(PartKind::Other(whole))),
        };
        Ok(Part { kind, inner_extra, extra: wire.extra })
    }

    fn tool_choice(&self, wire: wire::ToolChoice<'_>) -> Result<ToolChoice, Error> {
        match wire {
            wire::ToolChoice::Text(word) => match &*word.0 {
                "auto" => Ok(ToolChoice::Auto),
                "none" => Ok(ToolChoice::None),
                "required" | "any" => Ok(ToolChoice::Required),
                other => Err(invalid_value(
                    "tool_choice",
                    format_args!("`{}` is none of none, auto, required", clip(other)),
                )),
            },
            wire::ToolChoice::Object(object) => {
                let function = object.get("function").and_then(Value::as_object);
                let name = function.and_then(|function| function.get("name"));
                match (object.get("type").and_then(Value::as_str), name) {
                    (Some("function"), Some(Value::String(name))) => {
                        let is_plain =
                            object.len() == 2 && function.is_some_and(|it| it.len() == 1);
                        Ok(if is_plain {
                            ToolChoice::Function(name.as_str().into())
                        } else {
                            ToolChoice::Other(Value::Object(object))
                        })
                    }
                    (Some("function"), _) => Err(missing("tool_choice.function.name")),
                    (Some(_), _) => Ok(ToolChoice::Other(Value::Object(object))),
                    (None, _) => Err(missing("tool_choice.type")),
                }
            }
        }
    }
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
    if let Some(conversation) = &mut request.conversation {
        own(&mut conversation.chat_id);
        some(&mut conversation.parent_id);
    }
    for message in Arc::make_mut(&mut request.messages) {
        for text in [&mut message.name, &mut message.tool_call_id, &mut message.reasoning] {
            some(text);
        }
        for call in &mut message.tool_calls {
            for text in [&mut call.id, &mut call.name, &mut call.arguments] {
                own(text);
            }
        }
        match &mut message.content {
            None => {}
            Some(Content::Text(text)) => own(text),
            Some(Content::Parts(parts)) => parts.iter_mut().for_each(|part| match &mut part.kind {
                PartKind::Text(text) | PartKind::Refusal(text) | PartKind::Video { url: text } => {
                    own(text);
                }
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
                // Its values are copies anyway.
                PartKind::Other(_) => {}
            }),
        }
    }
}

fn tool(index: usize, wire: wire::Tool) -> Result<Tool, Error> {
    let at = |field: &str| format!("tools[{index}].{field}");
    let kind = wire.kind.ok_or_else(|| missing(at("type")))?;
    if kind != "function" {
        let mut whole = Extra::new();
        whole.insert("type".into(), kind.into());
        whole.extend(wire.extra);
        return Ok(Tool::Other(Value::Object(whole)));
    }
    let (function, outer_extra, name) = match wire.function {
        Some(function) => (function, wire.extra, at("function.name")),
        // The form of the Responses API, which some clients mix in.
        None if wire.extra.contains_key("name") => {
            let function = serde_json::from_value(Value::Object(wire.extra))
                .map_err(|error| invalid_value(format!("tools[{index}]"), error))?;
            (function, Extra::new(), at("name"))
        }
        None => return Err(missing(at("function"))),
    };
    let wire::ToolFunction { name: word, description, parameters, strict, extra } = function;
    if word.is_empty() {
        return Err(invalid_value(name, "the name is empty"));
    }
    Ok(Tool::Function(FunctionTool {
        name: word.into(),
        description: description.map(Into::into),
        parameters: parameters.map(Value::Object),
        strict,
        extra,
        outer_extra,
    }))
}

/// The plain forms by their names, and any other whole: servers have types and fields of their
/// own.
fn response_format(wire: Extra) -> Result<ResponseFormat, Error> {
    let kind = match wire.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        None | Some(Value::Null) => return Err(missing("response_format.type")),
        Some(_) => {
            return Err(parse::wrong_type("response_format.type".into(), "expected a string"));
        }
    };
    match (kind, wire.get("json_schema")) {
        ("text", None) if wire.len() == 1 => Ok(ResponseFormat::Text),
        ("json_object", None) if wire.len() == 1 => Ok(ResponseFormat::JsonObject),
        ("json_schema", Some(schema @ Value::Object(_))) if wire.len() == 2 => {
            Ok(ResponseFormat::JsonSchema(schema.clone()))
        }
        ("json_schema", Some(Value::Object(_))) => Ok(ResponseFormat::Other(wire)),
        ("json_schema", None | Some(Value::Null)) => {
            // llama.cpp takes it without a name.
            if wire.get("schema").is_some_and(|schema| !schema.is_null()) {
                Ok(ResponseFormat::Other(wire))
            } else {
                Err(missing("response_format.json_schema"))
            }
        }
        ("json_schema", Some(_)) => {
            Err(parse::wrong_type("response_format.json_schema".into(), "expected an object"))
        }
        _ => Ok(ResponseFormat::Other(wire)),
    }
}

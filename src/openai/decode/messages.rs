//! The messages: their content, and the calls of earlier answers.

use serde_json::{Value, value::RawValue};

use crate::{
    Error, Text,
    chat::{Content, Extra, Fields, Json, Message, Part, PartKind, Role, ToolCall},
    edge::{
        Decoder,
        parse::{self, clip, invalid_value, missing, too_many},
        string_field,
    },
    json::Str,
    openai::wire,
};

impl Decoder<'_> {
    pub(in crate::openai) fn message(
        &self,
        index: usize,
        wire: wire::Message<'_>,
    ) -> Result<Message, Error> {
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
        // Clients that send both names may leave the one empty that they did not read.
        let is_empty = |raw: &RawValue| raw.get() == "\"\"";
        message.reasoning = match (wire.reasoning_content, wire.reasoning) {
            (Some(raw), None) => Some(self.long(raw, || at("reasoning_content"))?),
            (Some(raw), Some(_)) if !is_empty(raw) => {
                Some(self.long(raw, || at("reasoning_content"))?)
            }
            (_, Some(raw)) => Some(self.long(raw, || at("reasoning"))?),
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
            // Beside OpenAI's own: vLLM's name for sound, and what clients of older servers send.
            "audio_url" => {
                let audio = wire.audio_url.ok_or_else(|| missing(under("audio_url")))?;
                let (data, _, extra) = url(audio, "audio_url")?;
                inner_extra = extra;
                PartKind::Audio { data, format: None }
            }
            "file_url" => {
                let file = wire.file_url.ok_or_else(|| missing(under("file_url")))?;
                let (data, _, extra) = url(file, "file_url")?;
                inner_extra = extra;
                PartKind::File { id: None, data: Some(data), name: None }
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
}

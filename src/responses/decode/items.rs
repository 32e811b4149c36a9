//! The items of the input, one kind after the other.

use serde_json::value::RawValue;

use super::Reader;
use crate::{
    Error, Text,
    chat::{Fields, Json, Part, PartKind, Role, ToolCall},
    edge::{
        history::History,
        parse::{self, clip, invalid_value, missing, too_many},
    },
    json::{self, Str},
    responses::{
        names::{INPUT, LOCAL_SHELL, TOOL_SEARCH},
        seal, wire,
    },
};

impl Reader<'_, '_> {
    /// Adds an item to the history.
    pub(super) fn item(
        &self,
        item: wire::Item<'_>,
        param: &str,
        history: &mut History,
    ) -> Result<(), Error> {
        let at = |field: &str| format!("{param}.{field}");
        let kind = match (&item.kind, &item.role) {
            (Some(Str(kind)), _) => &**kind,
            (None, Some(_)) => "message",
            (None, None) => return Err(missing(at("type"))),
        };
        match kind {
            "message" => {
                let Str(word) = item.role.as_ref().ok_or_else(|| missing(at("role")))?;
                let role = match &**word {
                    "user" => Role::User,
                    "assistant" => Role::Assistant,
                    "system" | "developer" => Role::System,
                    other => {
                        let other = clip(other);
                        return Err(invalid_value(
                            at("role"),
                            format_args!("`{other}` is none of user, assistant, system, developer"),
                        ));
                    }
                };
                let content = item.content.ok_or_else(|| missing(at("content")))?;
                self.content(content, &at("content"), &mut |part| history.part(role, part))
            }
            "function_call" | "custom_tool_call" | "local_shell_call" | "shell_call"
            | "apply_patch_call" | "tool_search_call" => self.call(kind, &item, param, history),
            "function_call_output"
            | "custom_tool_call_output"
            | "local_shell_call_output"
            | "shell_call_output"
            | "apply_patch_call_output"
            | "tool_search_output" => self.output(&item, param, history),
            "reasoning" => self.thinking(&item, param, history),
            // They were read with the tools.
            "additional_tools" => Ok(()),
            "item_reference" => Err(invalid_value(
                at("type"),
                "no items are stored here; send the item itself in place of a reference",
            )),
            other => {
                let role = match item.role.as_ref().map(|Str(role)| &**role) {
                    Some("assistant") => Role::Assistant,
                    _ => Role::User,
                };
                let mut parts = Vec::new();
                for raw in [item.text, item.content].into_iter().flatten() {
                    // What is not known has any form.
                    if self.content(raw, &at("content"), &mut |part| parts.push(part)).is_err() {
                        parts.clear();
                    }
                }
                tracing::debug!(
                    kind = %clip(other),
                    parts = parts.len(),
                    "an item of a kind that is not known; only its text is kept"
                );
                parts.into_iter().for_each(|part| history.part(role, part));
                Ok(())
            }
        }
    }

    fn call(
        &self,
        kind: &str,
        item: &wire::Item<'_>,
        param: &str,
        history: &mut History,
    ) -> Result<(), Error> {
        let at = |field: &str| format!("{param}.{field}");
        let limit = self.decoder.limits.calls;
        if self.decoder.calls.replace(self.decoder.calls.get() + 1) >= limit {
            return Err(too_many("input", limit, "calls", "send a shorter history"));
        }
        let id = self.call_id(item, param)?;
        let name = || {
            let name = self.decoder.string(item.name, || at("name"))?;
            let name = name.ok_or_else(|| missing(at("name")))?;
            let namespace = self.decoder.string(item.namespace, || at("namespace"))?;
            Ok::<_, Error>(self.names.flat(namespace.as_deref(), &name))
        };
        let (name, arguments) = match kind {
            "function_call" => {
                let arguments = self.decoder.string(item.arguments, || at("arguments"))?;
                let arguments = arguments.filter(|json| !json.is_empty());
                (name()?, arguments.unwrap_or_else(|| Text::from_static("{}")))
            }
            "custom_tool_call" => {
                let input = item.input.ok_or_else(|| missing(at("input")))?;
                parse::string(input, || at("input"), "a string")?;
                (name()?, format!("{{\"{INPUT}\":{}}}", input.get()).into())
            }
            "tool_search_call" => {
                let arguments = match item.arguments {
                    Some(raw) if raw.get().starts_with('"') => {
                        self.decoder.long(raw, || at("arguments"))?
                    }
                    Some(raw) => self.decoder.slice(raw.get()),
                    None => Text::from_static("{}"),
                };
                (self.names.flat(None, TOOL_SEARCH), arguments)
            }
            "local_shell_call" => {
                let arguments = item.action.map(|raw| shell_arguments(raw, &at("action")));
                let arguments = arguments.transpose()?;
                let arguments = arguments.unwrap_or_else(|| Text::from_static("{}"));
                (self.names.flat(None, LOCAL_SHELL), arguments)
            }
            // `shell_call` and `apply_patch_call` have their own words for what they do.
            other => {
                let arguments = item.action.or(item.operation);
                let arguments = arguments.map_or("{}", RawValue::get);
                let name = other.strip_suffix("_call").unwrap_or(other);
                (self.names.flat(None, name), self.decoder.slice(arguments))
            }
        };
        history.call(ToolCall::new(id, name, arguments));
        Ok(())
    }

    /// The id that a call and its result have in common; older clients had no other than the
    /// item's own.
    fn call_id(&self, item: &wire::Item<'_>, param: &str) -> Result<Text, Error> {
        let at = |field: &str| format!("{param}.{field}");
        let id = match self.decoder.string(item.call_id, || at("call_id"))? {
            Some(id) => Some(id),
            None => self.decoder.string(item.id, || at("id"))?,
        };
        id.ok_or_else(|| missing(at("call_id")))
    }

    fn output(
        &self,
        item: &wire::Item<'_>,
        param: &str,
        history: &mut History,
    ) -> Result<(), Error> {
        let at = |field: &str| format!("{param}.{field}");
        let id = self.call_id(item, param)?;
        let mut parts = Vec::new();
        match item.output.map(|raw| (raw, raw.get().as_bytes().first())) {
            None => parts.extend(self.found(item.tools, param)?.map(Part::text)),
            Some((raw, Some(b'"'))) => {
                self.content(raw, &at("output"), &mut |part| parts.push(part))?;
            }
            Some((raw, Some(b'[')))
                if self.content(raw, &at("output"), &mut |part| parts.push(part)).is_ok() => {}
            // Lists of what several commands have said, and objects.
            Some((raw, _)) => parts = vec![Part::text(self.decoder.slice(raw.get()))],
        }
        parts.retain(|part| part.as_text().is_none_or(|text| !text.is_empty()));
        let (texts, media) = parts.into_iter().partition(|part| part.as_text().is_some());
        history.result(&id, texts, media);
        Ok(())
    }

    /// What a search among tools has found, by the names that the model knows.
    fn found(&self, tools: Option<&RawValue>, param: &str) -> Result<Option<Text>, Error> {
        let Some(raw) = tools else { return Ok(None) };
        let mut found = String::new();
        let mut tell = |flat: &str| {
            found.push_str(if found.is_empty() { "Tools found: " } else { ", " });
            found.push_str(flat);
        };
        parse::each(raw, &format!("{param}.tools"), |_, tool: wire::Tool<'_>| {
            let Some(Str(name)) = tool.name else { return Ok(()) };
            let Some(within) = tool.tools else {
                tell(&self.names.flat(None, &name));
                return Ok(());
            };
            parse::each(within, &format!("{param}.tools"), |_, tool: wire::Tool<'_>| {
                if let Some(Str(own)) = tool.name {
                    tell(&self.names.flat(Some(&name), &own));
                }
                Ok(())
            })
        })?;
        if found.is_empty() {
            found.push_str("No tools found.");
        }
        Ok(Some(found.into()))
    }

    /// The thinking that comes back: what was sealed here, else what the item shows of it.
    fn thinking(
        &self,
        item: &wire::Item<'_>,
        param: &str,
        history: &mut History,
    ) -> Result<(), Error> {
        let at = |field: &str| format!("{param}.{field}");
        let sealed = self.decoder.string(item.encrypted_content, || at("encrypted_content"))?;
        if let Some((thinking, signature)) = sealed.as_deref().and_then(seal::open) {
            if !thinking.is_empty() {
                history.reasoning(&thinking, signature);
            }
            return Ok(());
        }
        for (raw, field) in [(item.content, "content"), (item.summary, "summary")] {
            let mut is_there = false;
            if let Some(raw) = raw {
                self.content(raw, &at(field), &mut |part| {
                    if let Some(text) = part.as_text().filter(|text| !text.is_empty()) {
                        is_there = true;
                        history.reasoning(text, None);
                    }
                })?;
            }
            if is_there {
                break;
            }
        }
        Ok(())
    }

    /// Hands each part of a content to `take`: a string is one part of text.
    fn content(
        &self,
        raw: &RawValue,
        param: &str,
        take: &mut dyn FnMut(Part),
    ) -> Result<(), Error> {
        let decoder = self.decoder;
        let count = || {
            let limit = decoder.limits.parts;
            if decoder.parts.replace(decoder.parts.get() + 1) >= limit {
                let advice = "send a shorter history";
                return Err(too_many(param.to_owned(), limit, "parts of content", advice));
            }
            Ok(())
        };
        match raw.get().as_bytes().first() {
            Some(b'"') => {
                count()?;
                take(Part::text(decoder.long(raw, || param.to_owned())?));
                Ok(())
            }
            Some(b'[') => parse::each(raw, param, |place, part: wire::Part<'_>| {
                count()?;
                if let Some(part) = self.part(part, &format!("{param}[{place}]"))? {
                    take(part);
                }
                Ok(())
            }),
            _ => Err(parse::not_expected(raw, param.to_owned(), "a string or an array of parts")),
        }
    }

    fn part(&self, part: wire::Part<'_>, param: &str) -> Result<Option<Part>, Error> {
        let at = |field: &str| format!("{param}.{field}");
        let decoder = self.decoder;
        let Str(kind) = part.kind.as_ref().ok_or_else(|| missing(at("type")))?;
        Ok(Some(match &**kind {
            "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
                let raw = part.text.ok_or_else(|| missing(at("text")))?;
                Part::text(decoder.long(raw, || at("text"))?)
            }
            "refusal" => {
                let raw = part.refusal.ok_or_else(|| missing(at("refusal")))?;
                Part::new(PartKind::Refusal(decoder.long(raw, || at("refusal"))?))
            }
            "input_image" | "image_url" => {
                let Some(raw) = part.image_url else {
                    return Err(invalid_value(
                        at("image_url"),
                        "no files are stored here; send the image as a `data:` URL",
                    ));
                };
                let url = match crate::edge::string_field(raw, "url") {
                    Some(url) => Text::from(&*url),
                    None => decoder.long(raw, || at("image_url"))?,
                };
                let detail = decoder.some(part.detail);
                Part::new(PartKind::Image { url, detail })
            }
            "input_file" => {
                let id = decoder.string(part.file_id, || at("file_id"))?;
                let data = match decoder.string(part.file_data, || at("file_data"))? {
                    Some(data) => Some(data),
                    None => decoder.string(part.file_url, || at("file_url"))?,
                };
                if id.is_none() && data.is_none() {
                    return Err(missing(at("file_data")));
                }
                let name = decoder.string(part.filename, || at("filename"))?;
                Part::new(PartKind::File { id, data, name })
            }
            // The API has it for models of sound; some clients send it in the chat API's form.
            "input_audio" => {
                let Some(audio) = part.input_audio else { return Ok(None) };
                let data =
                    decoder.some(audio.data).ok_or_else(|| missing(at("input_audio.data")))?;
                Part::new(PartKind::Audio { data, format: decoder.some(audio.format) })
            }
            other => {
                let text = part.text.and_then(|raw| decoder.long(raw, String::new).ok());
                tracing::debug!(
                    kind = %clip(other),
                    has_text = text.is_some(),
                    "a part of a kind that is not known; only its text is kept"
                );
                return Ok(text.filter(|text| !text.is_empty()).map(Part::text));
            }
        }))
    }
}

/// The arguments that make the action of a `local_shell_call`: the form that the tool was offered
/// in.
fn shell_arguments(raw: &RawValue, param: &str) -> Result<Text, Error> {
    let action: wire::ShellAction<'_> = parse::nested(raw, param)?;
    let mut arguments = Fields::default();
    for (name, value) in [
        ("command", action.command),
        ("workdir", action.working_directory),
        ("timeout_ms", action.timeout_ms),
    ] {
        if let Some(value) = value {
            arguments.push(name, &json::compact(value.get()));
        }
    }
    Ok(Json::from(&arguments.finish()).as_str().into())
}

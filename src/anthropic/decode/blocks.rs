//! The messages: their blocks, one kind after the other.

use serde_json::value::RawValue;

use super::Reader;
use crate::{
    Error, Text,
    anthropic::{
        signature::{self, Returned},
        sources::are_links,
        wire,
    },
    chat::{Json, Part, PartKind, Role, ToolCall},
    edge::{
        history::{Change, History},
        parse::{self, clip, invalid_value, missing, too_many},
    },
    json::Str,
};

/// What stands in place of an image that the upstream cannot be given.
const NO_IMAGE: &str = "[an image that cannot be shown here]";

/// The same of a document.
const NO_DOCUMENT: &str = "[a document that cannot be shown here]";

/// How the line about billing begins that Claude Code puts in front of its system prompt. It may
/// be another in every request, and no upstream here reads it.
const BILLING: &str = "x-anthropic-billing-header:";

/// How deep blocks nest within the blocks of a message: a result holds a document, which holds
/// text.
const LEVELS: usize = 8;

impl Reader<'_, '_> {
    /// Adds a message to the history.
    pub(super) fn message(
        &self,
        index: usize,
        wire: wire::Message<'_>,
        history: &mut History,
    ) -> Result<(), Error> {
        let at = |field: &str| format!("messages[{index}].{field}");
        let word = wire.role.ok_or_else(|| missing(at("role")))?;
        let role = match &*word.0 {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" | "developer" => Role::System,
            other => {
                return Err(invalid_value(
                    at("role"),
                    format_args!("`{}` is none of user, assistant, system", clip(other)),
                ));
            }
        };
        let content = wire.content.ok_or_else(|| missing(at("content")))?;
        self.content(content, &at("content"), &mut |part, param| {
            self.block(role, part, param, history)
        })
    }

    /// Puts the system prompt in front of the history.
    pub(super) fn system(&self, raw: &RawValue, history: &mut History) -> Result<(), Error> {
        let mut parts = Vec::new();
        self.content(raw, "system", &mut |block, param| self.texts(block, param, &mut parts))?;
        if let Some(PartKind::Text(text)) = parts.first().map(|part| &part.kind)
            && text.starts_with(BILLING)
        {
            let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
            if rest.is_empty() {
                parts.remove(0);
            } else {
                parts[0].kind = PartKind::Text(text.slice_ref(rest));
            }
        }
        history.system(parts);
        Ok(())
    }

    /// Hands each block of a content to `take`: a string is one block of text.
    fn content<'w>(
        &self,
        raw: &'w RawValue,
        param: &str,
        take: &mut dyn FnMut(wire::Block<'w>, &str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let count = || {
            let limit = self.decoder.limits.parts;
            if self.decoder.parts.replace(self.decoder.parts.get() + 1) == limit {
                return Err(too_many(
                    param.to_owned(),
                    limit,
                    "blocks of content",
                    "send a shorter history",
                ));
            }
            Ok(())
        };
        match raw.get().as_bytes().first() {
            Some(b'"') => {
                count()?;
                let kind = Some(Str("text".into()));
                take(wire::Block { kind, text: Some(raw), ..wire::Block::default() }, param)
            }
            Some(b'[') => parse::each(raw, param, |place, block: wire::Block<'w>| {
                count()?;
                take(block, &format!("{param}[{place}]"))
            }),
            _ => Err(parse::not_expected(
                raw,
                param.to_owned(),
                "a string or an array of content blocks",
            )),
        }
    }

    /// The content of a block. Each level is read again, and takes its part of the stack.
    fn inner_content<'w>(
        &self,
        raw: &'w RawValue,
        param: &str,
        take: &mut dyn FnMut(wire::Block<'w>, &str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let level = self.level.get() + 1;
        if level > LEVELS {
            let message = format!("`{param}`: blocks nest {LEVELS} levels deep at most");
            return Err(Error::invalid(param.to_owned(), message).with_code("too_deep"));
        }
        self.level.set(level);
        let read = self.content(raw, param, take);
        self.level.set(level - 1);
        read
    }

    fn block(
        &self,
        role: Role,
        block: wire::Block<'_>,
        param: &str,
        history: &mut History,
    ) -> Result<(), Error> {
        let at = |field: &str| format!("{param}.{field}");
        let kind = block.kind.as_ref().ok_or_else(|| missing(at("type")))?;
        match &*kind.0 {
            "tool_use" if role == Role::Assistant => {
                let limit = self.decoder.limits.calls;
                if self.decoder.calls.replace(self.decoder.calls.get() + 1) == limit {
                    return Err(too_many("messages", limit, "calls", "send a shorter history"));
                }
                let id = self.string(block.id, || at("id"))?.ok_or_else(|| missing(at("id")))?;
                let name =
                    self.string(block.name, || at("name"))?.ok_or_else(|| missing(at("name")))?;
                history.call(ToolCall::new(id, name, self.input(block.input)));
            }
            "tool_result" if role != Role::Assistant => {
                let id = self
                    .string(block.tool_use_id, || at("tool_use_id"))?
                    .ok_or_else(|| missing(at("tool_use_id")))?;
                let (texts, media) = self.result(&block, param)?;
                history.result(&id, texts, media);
            }
            "thinking" if role == Role::Assistant => {
                let text = self.string(block.thinking, || at("thinking"))?.unwrap_or_default();
                let signature = self.string(block.signature, || at("signature"))?;
                match signature.as_deref().map(signature::read) {
                    Some(Returned::Hidden(hidden)) if text.is_empty() => {
                        history.reasoning(&hidden, None);
                    }
                    _ if text.is_empty() => {}
                    None | Some(Returned::Ours | Returned::Hidden(_)) => {
                        history.reasoning(&text, None);
                    }
                    Some(Returned::Foreign) => history.reasoning(&text, signature),
                }
            }
            "tool_addition" => {
                let raw = block.tool.ok_or_else(|| missing(at("tool")))?;
                if let Some(tool) = self.tool(parse::nested(raw, &at("tool"))?, &at("tool"))? {
                    history.changes.push(Change::Added(tool));
                }
            }
            "tool_removal" => {
                let name =
                    self.string(block.name, || at("name"))?.ok_or_else(|| missing(at("name")))?;
                history.changes.push(Change::Removed(name));
            }
            _ => {
                let mut parts = Vec::new();
                self.texts(block, param, &mut parts)?;
                // What this edge has put behind an answer is no part of it.
                let is_ours = |part: &Part| {
                    role == Role::Assistant && part.as_text().is_some_and(|text| are_links(text))
                };
                let said = parts.into_iter().filter(|part| !is_ours(part));
                said.for_each(|part| history.part(role, part));
            }
        }
        Ok(())
    }

    /// What a result says, and what it shows beside: media have no place in a result upstream.
    fn result(
        &self,
        block: &wire::Block<'_>,
        param: &str,
    ) -> Result<(Vec<Part>, Vec<Part>), Error> {
        let mut parts = Vec::new();
        if let Some(content) = block.content {
            self.inner_content(content, &format!("{param}.content"), &mut |block, param| {
                self.texts(block, param, &mut parts)
            })?;
        }
        let (mut texts, media): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| {
            part.as_text().is_some() || matches!(part.kind, PartKind::ToolReference { .. })
        });
        let is_error = block.is_error.is_some_and(|raw| raw.get() == "true");
        let says_so = |text: &Text| {
            let text = text.trim_start();
            let begins = |word: &str| {
                text.get(..word.len()).is_some_and(|own| own.eq_ignore_ascii_case(word))
            };
            begins("error") || begins("<tool_use_error>")
        };
        if is_error && !texts.first().and_then(Part::as_text).is_some_and(says_so) {
            match texts.first_mut().map(|part| &mut part.kind) {
                Some(PartKind::Text(text)) => *text = format!("Error: {text}").into(),
                _ => texts.insert(0, Part::text("Error")),
            }
        }
        if let (Some(mark), Some(last)) = (self.cache_control(block), texts.last_mut()) {
            last.cache_control = Some(mark);
        }
        Ok((texts, media))
    }

    /// Reads a block that says or shows something: of a kind that is not known, what it has of
    /// text.
    fn texts(
        &self,
        block: wire::Block<'_>,
        param: &str,
        parts: &mut Vec<Part>,
    ) -> Result<(), Error> {
        let at = |field: &str| format!("{param}.{field}");
        let before = parts.len();
        let kind = block.kind.as_ref().ok_or_else(|| missing(at("type")))?;
        match &*kind.0 {
            "text" => {
                let raw = block.text.ok_or_else(|| missing(at("text")))?;
                say(parts, [self.decoder.long(raw, || at("text"))?]);
            }
            "image" => parts.push(self.image(&block, param)?),
            "document" => self.document(&block, param, parts)?,
            "search_result" => {
                for (raw, field) in [(block.title, "title"), (block.source, "source")] {
                    say(parts, self.string(raw, || at(field))?);
                }
                if let Some(content) = block.content {
                    self.inner_content(content, &at("content"), &mut |block, param| {
                        self.texts(block, param, parts)
                    })?;
                }
            }
            "tool_reference" => {
                let name = self
                    .string(block.tool_name, || at("tool_name"))?
                    .ok_or_else(|| missing(at("tool_name")))?;
                parts.push(Part::new(PartKind::ToolReference { name }));
            }
            "redacted_thinking" => {}
            other => {
                let text = [block.text, block.content].into_iter().flatten().find_map(|raw| {
                    self.decoder.long(raw, String::new).ok().filter(|text| !text.is_empty())
                });
                tracing::debug!(
                    kind = %clip(other),
                    has_text = text.is_some(),
                    "a block of a kind that is not known; only its text is kept"
                );
                say(parts, text);
            }
        }
        if let (Some(mark), Some(last)) =
            (self.cache_control(&block), parts.get_mut(before..).and_then(<[Part]>::last_mut))
        {
            last.cache_control = Some(mark);
        }
        Ok(())
    }

    fn image(&self, block: &wire::Block<'_>, param: &str) -> Result<Part, Error> {
        let param = format!("{param}.source");
        let raw = block.source.ok_or_else(|| missing(param.clone()))?;
        let source: wire::Source<'_> = parse::nested(raw, &param)?;
        match source.kind.as_ref().map(|kind| &*kind.0) {
            Some("base64") if !self.options.media => Ok(Part::text(NO_IMAGE)),
            Some("base64") => Ok(Part::image(self.data_url(&source, "image/png", &param)?)),
            Some("url") => {
                let url = source.url.ok_or_else(|| missing(format!("{param}.url")))?;
                Ok(Part::image(self.decoder.text(url)))
            }
            other => Err(source_kind(other, &param, "base64, url")),
        }
    }

    fn document(
        &self,
        block: &wire::Block<'_>,
        param: &str,
        parts: &mut Vec<Part>,
    ) -> Result<(), Error> {
        let at = |field: &str| format!("{param}.{field}");
        let title = self.string(block.title, || at("title"))?;
        let context = self.string(block.context, || at("context"))?;
        let param = at("source");
        let raw = block.source.ok_or_else(|| missing(param.clone()))?;
        let source: wire::Source<'_> = parse::nested(raw, &param)?;
        let file = |data: Text| {
            Part::new(PartKind::File { id: None, data: Some(data), name: title.clone() })
        };
        let kind = source.kind.as_ref().map(|kind| kind.0.clone().into_owned());
        match kind.as_deref() {
            Some("base64" | "url") if !self.options.media => {
                say(parts, title.into_iter().chain(context));
                parts.push(Part::text(NO_DOCUMENT));
            }
            Some("base64") => {
                say(parts, context);
                parts.push(file(self.data_url(&source, "application/pdf", &param)?));
            }
            Some("url") => {
                let url = source.url.ok_or_else(|| missing(format!("{param}.url")))?;
                say(parts, context);
                parts.push(file(self.decoder.text(url)));
            }
            Some("text") => {
                let data = source.data.ok_or_else(|| missing(format!("{param}.data")))?;
                say(parts, title.into_iter().chain(context));
                say(parts, [self.decoder.long(data, || format!("{param}.data"))?]);
            }
            Some("content") => {
                let content = source.content.ok_or_else(|| missing(format!("{param}.content")))?;
                say(parts, title.into_iter().chain(context));
                self.inner_content(content, &format!("{param}.content"), &mut |block, param| {
                    self.texts(block, param, parts)
                })?;
            }
            other => return Err(source_kind(other, &param, "base64, url, text, content")),
        }
        Ok(())
    }

    fn data_url(&self, source: &wire::Source<'_>, usual: &str, param: &str) -> Result<Text, Error> {
        let data = source.data.ok_or_else(|| missing(format!("{param}.data")))?;
        let data = self.decoder.long(data, || format!("{param}.data"))?;
        let media_type = source.media_type.as_ref().map_or(usual, |media_type| &media_type.0);
        Ok(format!("data:{media_type};base64,{data}").into())
    }

    /// The arguments of an earlier call: an object, whatever the client has made of them.
    fn input(&self, input: Option<&RawValue>) -> Text {
        match input.map(RawValue::get) {
            Some(object) if object.starts_with('{') => self.decoder.slice(object),
            None | Some("null" | "\"\"") => Text::from_static("{}"),
            Some(other) => format!("{{\"input\":{other}}}").into(),
        }
    }

    /// A string that may not be there, or be `null`.
    pub(super) fn string(
        &self,
        raw: Option<&RawValue>,
        param: impl Fn() -> String,
    ) -> Result<Option<Text>, Error> {
        self.decoder.string(raw, param)
    }

    fn cache_control(&self, block: &wire::Block<'_>) -> Option<Json> {
        self.mark(block.cache_control)
    }

    /// The mark of what is worth keeping in a cache, where it is passed on.
    pub(super) fn mark(&self, raw: Option<&RawValue>) -> Option<Json> {
        let raw = raw.filter(|raw| self.options.cache_control && raw.get().starts_with('{'))?;
        Some(self.decoder.json(raw))
    }
}

/// Adds what is said; strict upstreams refuse what is empty.
fn say(parts: &mut Vec<Part>, texts: impl IntoIterator<Item = Text>) {
    parts.extend(texts.into_iter().filter(|text| !text.is_empty()).map(Part::text));
}

fn source_kind(found: Option<&str>, param: &str, known: &str) -> Error {
    let param = format!("{param}.type");
    match found {
        None => missing(param),
        Some(other) => {
            let other = clip(other).into_owned();
            invalid_value(param, format_args!("`{other}` is none of {known}"))
        }
    }
}

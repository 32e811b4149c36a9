//! The messages: what they say and show, and the calls of earlier answers with their results.

use std::collections::BTreeSet;

use serde_json::value::RawValue;

use super::Reader;
use crate::{
    Error, Text,
    chat::{Part, Role, ToolCall},
    edge::{
        history::History,
        parse::{self, clip, invalid_value, missing, too_many},
    },
    json::Str,
    ollama::{
        image::{self, NoImage},
        wire,
    },
};

const MESSAGES: &str = "messages";

/// The calls of the last answer that have no result yet.
///
/// What belongs to what is looked up, not looked for: an answer may have as many calls as a request.
#[derive(Debug, Default)]
struct Open {
    calls: Vec<OpenCall>,
    /// Where the calls stand that have no result, by all that a result may say of its call.
    places: BTreeSet<(Said, usize)>,
    /// How many ids were made.
    made: usize,
    /// Whether the next call is one of the same answer.
    goes_on: bool,
}

#[derive(Debug)]
struct OpenCall {
    id: Text,
    name: Text,
    is_made: bool,
}

/// What a result says of its call, where the call's id is the client's, and where it was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Id(Text),
    Name { name: Text, is_made: bool },
    Nothing { is_made: bool },
}

impl OpenCall {
    fn said(&self) -> impl Iterator<Item = Said> {
        let Self { id, name, is_made } = self;
        let id = (!is_made).then(|| Said::Id(id.clone()));
        let is_made = *is_made;
        id.into_iter()
            .chain([Said::Name { name: name.clone(), is_made }, Said::Nothing { is_made }])
    }
}

impl Open {
    /// The id of a call: the client's, or one made of its place among those that have none.
    fn call(&mut self, id: Option<Text>, name: &Text) -> Text {
        if !self.goes_on {
            self.calls.clear();
            self.places.clear();
        }
        self.goes_on = true;
        let is_made = id.is_none();
        let id = id.unwrap_or_else(|| {
            let id = format!("ollama_call_{}", self.made).into();
            self.made += 1;
            id
        });
        let call = OpenCall { id: id.clone(), name: name.clone(), is_made };
        let place = self.calls.len();
        self.places.extend(call.said().map(|said| (said, place)));
        self.calls.push(call);
        id
    }

    /// The id of the call that a result belongs to, which then has it: by the id, else by the name
    /// of the tool, else by the order. An id that no call has is that of a call whose own the client
    /// has not sent.
    fn result(&mut self, id: Option<Text>, name: Option<Text>) -> Text {
        let unnamed = |is_made| match &name {
            Some(name) => Said::Name { name: name.clone(), is_made },
            None => Said::Nothing { is_made },
        };
        let place = match &id {
            Some(id) => self.first(Said::Id(id.clone())).or_else(|| self.first(unnamed(true))),
            None => {
                let both = [self.first(unnamed(true)), self.first(unnamed(false))];
                both.into_iter().flatten().min()
            }
        };
        let Some(place) = place else { return id.unwrap_or_default() };
        let call = &self.calls[place];
        for said in call.said() {
            self.places.remove(&(said, place));
        }
        call.id.clone()
    }

    /// Where the first call stands that is said so.
    fn first(&self, said: Said) -> Option<usize> {
        let from = (said, 0);
        let (found, place) = self.places.range(&from..).next()?;
        (*found == from.0).then_some(*place)
    }
}

impl Reader<'_, '_> {
    /// The history, and how many messages were read.
    pub(super) fn messages(&self, raw: &RawValue) -> Result<(History, usize), Error> {
        let (mut history, mut open) = (History::default(), Open::default());
        let mut count = 0;
        parse::each(raw, MESSAGES, |index, wire: wire::Message<'_>| {
            let limit = self.decoder.limits.messages;
            if index == limit {
                return Err(too_many(MESSAGES, limit, MESSAGES, "send a shorter history"));
            }
            count += 1;
            self.message(&format!("{MESSAGES}[{index}]"), wire, &mut history, &mut open)
        })?;
        Ok((history, count))
    }

    fn message(
        &self,
        param: &str,
        wire: wire::Message<'_>,
        history: &mut History,
        open: &mut Open,
    ) -> Result<(), Error> {
        let at = |field: &str| format!("{param}.{field}");
        let word = wire.role.ok_or_else(|| missing(at("role")))?;
        let role = Role::from_wire(&word.0).ok_or_else(|| {
            invalid_value(
                at("role"),
                format_args!("`{}` is none of system, user, assistant, tool", clip(&word.0)),
            )
        })?;
        let role = if role.is_instruction() { Role::System } else { role };
        let content = self.decoder.string(wire.content, || at("content"))?;
        if content.is_some() {
            self.count_part(|| at("content"))?;
        }
        let mut media = Vec::new();
        if let Some(raw) = wire.images {
            self.images(raw, &at("images"), &mut |part| media.push(part))?;
        }
        if matches!(role, Role::Tool | Role::Function) {
            open.goes_on = false;
            let some =
                |text: Option<Str<'_>>| self.decoder.some(text).filter(|text| !text.is_empty());
            let name = some(wire.tool_name).or_else(|| some(wire.name));
            let id = open.result(some(wire.tool_call_id), name);
            let texts = content.filter(|text| !text.is_empty()).map(Part::text);
            history.result(&id, texts.into_iter().collect(), media);
            return Ok(());
        }
        if role == Role::Assistant {
            let thinking = self.decoder.string(wire.thinking, || at("thinking"))?;
            if let Some(thinking) = thinking.filter(|text| !text.is_empty()) {
                history.reasoning(&thinking, None);
            }
        } else {
            open.goes_on = false;
        }
        if let Some(text) = content {
            history.part(role, Part::text(text));
        }
        media.into_iter().for_each(|part| history.part(role, part));
        if let (Some(raw), Role::Assistant) = (wire.tool_calls, role) {
            let param = at("tool_calls");
            parse::each(raw, &param, |place, call: wire::ToolCall<'_>| {
                self.call(call, &format!("{param}[{place}]"), history, open)
            })?;
        }
        Ok(())
    }

    /// Counts a text or an image.
    fn count_part(&self, param: impl Fn() -> String) -> Result<(), Error> {
        let limit = self.decoder.limits.parts;
        if self.decoder.parts.replace(self.decoder.parts.get() + 1) == limit {
            return Err(too_many(param(), limit, "texts and images", "send a shorter history"));
        }
        Ok(())
    }

    fn call(
        &self,
        wire: wire::ToolCall<'_>,
        param: &str,
        history: &mut History,
        open: &mut Open,
    ) -> Result<(), Error> {
        let at = |field: &str| format!("{param}.function{field}");
        let limit = self.decoder.limits.calls;
        if self.decoder.calls.replace(self.decoder.calls.get() + 1) == limit {
            return Err(too_many(MESSAGES, limit, "calls", "send a shorter history"));
        }
        let function = wire.function.ok_or_else(|| missing(at("")))?;
        let name = self.decoder.some(function.name).ok_or_else(|| missing(at(".name")))?;
        let arguments = match function.arguments {
            None => Text::from_static("{}"),
            Some(raw) if raw.get().starts_with('{') => self.decoder.slice(raw.get()),
            Some(raw) if raw.get().starts_with('"') => {
                self.decoder.long(raw, || at(".arguments"))?
            }
            Some(raw) => return Err(parse::not_expected(raw, at(".arguments"), "an object")),
        };
        let id = self.decoder.some(wire.id).filter(|id| !id.is_empty());
        let id = open.call(id, &name);
        history.call(ToolCall::new(id, name, arguments));
        Ok(())
    }

    /// Hands on the images of a list.
    pub(super) fn images(
        &self,
        raw: &RawValue,
        param: &str,
        take: &mut dyn FnMut(Part),
    ) -> Result<(), Error> {
        parse::each(raw, param, |place, image: Str<'_>| {
            let param = || format!("{param}[{place}]");
            self.count_part(param)?;
            let url = image::data_url(&image.0).map_err(|no| match no {
                NoImage::NotBase64(at) => {
                    invalid_value(param(), format_args!("character {at} is none of base64"))
                }
                NoImage::Unknown => invalid_value(
                    param(),
                    "it begins as no PNG, JPEG, GIF, WebP, BMP, TIFF, HEIC or AVIF does",
                ),
            })?;
            take(Part::image(url.into_owned()));
            Ok(())
        })
    }
}

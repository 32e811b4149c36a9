//! The request body: JSON in, [`ChatRequest`] out, every error with the field at fault.

mod blocks;
mod options;
mod tools;

use std::{cell::Cell, fmt, sync::Arc};

use bytes::Bytes;
use serde::{
    Deserializer,
    de::{self, DeserializeSeed, MapAccess},
};

use super::wire;
use crate::{
    Error, Text,
    chat::{ChatRequest, Tool, ToolChoice},
    edge::{
        Decoder, Integer, Limits, check_model,
        history::History,
        own,
        parse::{self, Each, invalid_value, missing, too_many},
    },
    json::Str,
};

/// A request as a client of the Messages API sent it.
///
/// What only the edge needs stands beside the request: the layers of the middle always stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decoded {
    /// What the layers below get.
    pub chat: ChatRequest,
    /// `stream`: whether the client wants its answer as a stream of events.
    pub stream: bool,
    /// Whether the client wants to be shown the model's thinking, which it does unless
    /// `thinking.display` is `omitted`.
    pub shows_thinking: bool,
    /// The names of fields that ask for something and that nothing here reads; values that ask for
    /// nothing (`null`, `false`, `0`, what is empty) are left out.
    pub left_out: Vec<Text>,
}

/// How much of a request is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Whether the marks of what is worth keeping in a cache are passed on.
    pub(super) cache_control: bool,
    /// Whether the data of images and documents is passed on, and not only told of.
    pub(super) media: bool,
}

impl Options {
    pub(super) const fn new() -> Self {
        Self { cache_control: false, media: true }
    }
}

/// What a body is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Answer,
    /// `count_tokens`, where there is no `max_tokens`.
    Count,
}

/// Reads the body of a `POST /v1/messages`.
///
/// The history becomes one that does not depend on how the client has written it: the text blocks
/// of a turn are joined by line feeds, neighbours of one role are one turn, the results of calls
/// stand right behind them, and the line about billing that Claude Code puts in front of its
/// system prompt is left out. So two turns of one conversation have the same beginning, although
/// the client has merged its messages or written its blocks as strings meanwhile.
///
/// Unknown fields and unknown kinds of blocks and tools are left out; what they hold of text is
/// kept. Anthropic's own kinds that have no counterpart are told in `docs/reference/edges.md`.
///
/// # Errors
///
/// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest), with the field as
/// [`Error::param`] and one of the codes `invalid_json`, `missing_required_parameter`,
/// `invalid_type`, `invalid_value`, `too_many`, `too_deep`; the last two for more than [`Limits`]
/// allow.
///
/// ```
/// use tower_qwen::anthropic::decode;
///
/// let body = r#"{"model":"qwen3-max","max_tokens":9,"messages":[
///     {"role":"user","content":[{"type":"text","text":"Hello"},{"type":"text","text":"there"}]}
/// ]}"#;
/// let decoded = decode(&body.into())?;
/// assert_eq!(decoded.chat.history[0].text(), "Hello\nthere");
///
/// let error = decode(&r#"{"model":"qwen3-max","messages":[]}"#.into()).unwrap_err();
/// assert_eq!(error.param(), Some("max_tokens"));
/// # Ok::<_, tower_qwen::Error>(())
/// ```
pub fn decode(body: &Bytes) -> Result<Decoded, Error> {
    decode_within(body, &Limits::new(), Options::new(), Purpose::Answer)
}

pub(super) fn decode_within(
    body: &Bytes,
    limits: &Limits,
    options: Options,
    purpose: Purpose,
) -> Result<Decoded, Error> {
    let body = parse::text(body)?;
    let decoder = Decoder::new(&body, limits)?;
    let reader = Reader { decoder: &decoder, options, level: Cell::new(0) };
    let (wire, history) = parse::json_with(&body, || ReadRequest(&reader))?;
    reader.request(wire, history, purpose)
}

/// Gives the borrowed shapes a meaning.
struct Reader<'a, 'd> {
    decoder: &'d Decoder<'a>,
    options: Options,
    /// How many blocks stand around what is read now.
    level: Cell<usize>,
}

/// Reads a request; its messages get their meaning at once, which is where they are counted.
struct ReadRequest<'a, 'd, 'r>(&'r Reader<'a, 'd>);

/// The messages, where there are any, or what is wrong with them.
type Messages = Option<Result<History, Error>>;

impl<'de> DeserializeSeed<'de> for ReadRequest<'_, '_, '_> {
    type Value = (wire::Request<'de>, Messages);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> de::Visitor<'de> for ReadRequest<'_, '_, '_> {
    type Value = (wire::Request<'de>, Messages);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        const MESSAGES: &str = "messages";
        let Self(reader) = self;
        let mut request = wire::Request::default();
        let mut messages: Messages = None;
        reader.decoder.start();
        while let Some(Str(name)) = map.next_key()? {
            if name != MESSAGES {
                request.read(&name, &mut map)?;
                continue;
            }
            if messages.is_some() {
                return Err(de::Error::duplicate_field(MESSAGES));
            }
            let mut history = History::default();
            let read = Each::new(|index, wire: wire::Message<'_>| {
                let limit = reader.decoder.limits.messages;
                if index == limit {
                    return Err(too_many(MESSAGES, limit, "messages", "send a shorter history"));
                }
                reader.message(index, wire, &mut history)
            });
            messages = match map.next_value_seed(read)? {
                Ok(is_there) => is_there.then_some(Ok(history)),
                Err(error) => Some(Err(error)),
            };
        }
        Ok((request, messages))
    }
}

impl Reader<'_, '_> {
    fn request(
        &self,
        mut wire: wire::Request<'_>,
        messages: Messages,
        purpose: Purpose,
    ) -> Result<Decoded, Error> {
        let decoder = self.decoder;
        let model = decoder.some(wire.model.take()).ok_or_else(|| missing("model"))?;
        check_model(&model)?;
        let max_tokens = match (wire.max_tokens.map(|Integer(tokens)| tokens), purpose) {
            (Some(tokens), _) if tokens < 0 => {
                return Err(invalid_value("max_tokens", "it is below 0"));
            }
            (None, Purpose::Answer) => return Err(missing("max_tokens")),
            (tokens, _) => tokens,
        };
        let mut history = messages.ok_or_else(|| missing("messages"))??;
        if let Some(system) = wire.system {
            self.system(system, &mut history)?;
        }
        let changes = std::mem::take(&mut history.changes);
        let messages = history.finish();
        if messages.iter().all(|message| message.role.is_instruction()) {
            return Err(invalid_value("messages", "at least one message with text is needed"));
        }

        let mut request = ChatRequest::new(model, []);
        request.history = messages.into();
        let offered = self.tools(wire.tools, changes)?;
        if offered.searches_the_web {
            request.extra.insert("web_search_options", serde_json::json!({}));
        }
        request.tools = Arc::new(offered.tools);
        if let Some(choice) = wire.tool_choice {
            self.tool_choice(choice, &mut request)?;
        }
        let is_offered = |name: &str| {
            let mut functions = request.tools.iter().filter_map(Tool::as_function);
            functions.any(|function| function.name == name)
        };
        match &request.tool_choice {
            // What was chosen is run by the vendor's servers alone: then a text is the answer.
            Some(ToolChoice::Function(name)) if offered.has_left_out && !is_offered(name) => {
                request.tool_choice = Some(ToolChoice::Auto);
            }
            Some(ToolChoice::Required) if offered.has_left_out && request.tools.is_empty() => {
                request.tool_choice = Some(ToolChoice::Auto);
            }
            Some(ToolChoice::Function(name)) if !is_offered(name) => {
                return Err(invalid_value(
                    "tool_choice.name",
                    format_args!("`tools` holds no tool `{name}`"),
                ));
            }
            _ => {}
        }
        request.sampling.max_tokens = max_tokens;
        request.sampling.temperature = wire.temperature;
        request.sampling.top_p = wire.top_p;
        request.sampling.top_k = wire.top_k.map(|Integer(most)| most);
        if let Some(stop) = wire.stop_sequences {
            request.sampling.stop = self.stop(stop)?;
        }
        let shows_thinking = self.thinking(&wire, &mut request)?;
        request.response_format = self.response_format(&wire)?;
        request.user = self.user(wire.metadata);
        if decoder.is_mostly_unused() {
            own(&mut request, decoder.body);
        }
        Ok(Decoded {
            chat: request,
            stream: wire.stream.unwrap_or(false),
            shows_thinking,
            left_out: wire.extra.names(),
        })
    }
}

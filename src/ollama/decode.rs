//! The request body: JSON in, [`ChatRequest`] out, every error with the field at fault.

mod messages;
mod options;

use std::sync::Arc;

use bytes::Bytes;

use super::{api::Api, name::untagged, wire};
use crate::{
    Error, Text,
    chat::{ChatRequest, Message, Part, Role},
    edge::{
        Decoder, Integer, Limits, check_model,
        history::History,
        own,
        parse::{self, invalid_value, missing, unsupported},
    },
};

/// A request as a client of Ollama sent it.
///
/// What only the edge needs stands beside the request: the layers of the middle always stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decoded {
    /// What the layers below get.
    pub chat: ChatRequest,
    /// The model's name as the client wrote it, with its tag.
    pub model: Text,
    /// `stream`: whether the client wants its answer as a stream of lines, which it does unless it
    /// says `false`.
    pub stream: bool,
    /// Whether the client wants to be shown the model's thinking, which it does unless `think` is
    /// `false`.
    pub shows_thinking: bool,
    /// What the client wants of the model in place of an answer.
    pub loads: Option<Loads>,
    /// The names of fields that ask for something and that nothing here reads, those of
    /// `options` among them; values that ask for
    /// nothing (`null`, `false`, `0`, what is empty) are left out.
    pub left_out: Vec<Text>,
}

/// What a request without anything to answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loads {
    /// That the model be loaded.
    Load,
    /// That it be unloaded.
    Unload,
}

impl Loads {
    /// The word on the wire, as `done_reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Unload => "unload",
        }
    }
}

/// Reads the body of a `POST /api/chat`.
///
/// The [module](super) says what becomes of each field. Neighbours of one role become one message,
/// and results stand right behind their calls, as with the other edges.
///
/// # Errors
///
/// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest), with the field as
/// [`Error::param`] and one of the codes `invalid_json`, `missing_required_parameter`,
/// `invalid_type`, `invalid_value`, `unsupported_parameter`, `too_many`, `too_deep`; the last two
/// for more than [`Limits`] allow.
///
/// ```
/// use tower_qwen::ollama::decode;
///
/// let body = r#"{"model":"qwen3-max:latest","messages":[{"role":"user","content":"Hello"}]}"#;
/// let decoded = decode(&body.into())?;
/// assert_eq!(decoded.chat.model, "qwen3-max");
/// assert!(decoded.stream);
///
/// let error = decode(&r#"{"model":"m","messages":[{"role":"usr"}]}"#.into()).unwrap_err();
/// assert_eq!(error.param(), Some("messages[0].role"));
/// # Ok::<_, tower_qwen::Error>(())
/// ```
pub fn decode(body: &Bytes) -> Result<Decoded, Error> {
    decode_within(Api::Chat, body, &Limits::new())
}

/// Reads the body of a `POST /api/generate`: the prompt becomes the one message of a chat, behind
/// the system prompt if there is one.
///
/// # Errors
///
/// Those of [`decode`].
pub fn decode_generate(body: &Bytes) -> Result<Decoded, Error> {
    decode_within(Api::Generate, body, &Limits::new())
}

pub(super) fn decode_within(api: Api, body: &Bytes, limits: &Limits) -> Result<Decoded, Error> {
    let body = parse::text(body)?;
    let decoder = Decoder::new(&body, limits)?;
    let wire: wire::Request<'_> = parse::json(&body)?;
    Reader { decoder: &decoder }.request(api, wire)
}

/// Gives the borrowed shapes a meaning.
struct Reader<'a, 'd> {
    decoder: &'d Decoder<'a>,
}

impl Reader<'_, '_> {
    fn request(&self, api: Api, mut wire: wire::Request<'_>) -> Result<Decoded, Error> {
        let decoder = self.decoder;
        let model = decoder.some(wire.model.take()).ok_or_else(|| missing("model"))?;
        check_model(&model)?;
        let mut chat = ChatRequest::new(model.slice_ref(untagged(&model)), []);
        let mut decoded = Decoded {
            // A copy: a slice would keep the body for as long as the answer takes.
            model: model.as_str().into(),
            stream: wire.stream.unwrap_or(true),
            shows_thinking: true,
            loads: None,
            left_out: std::mem::take(&mut wire.extra).names(),
            chat: ChatRequest::new("", []),
        };
        let history = match api {
            Api::Chat => self.chat(&wire)?,
            Api::Generate => self.prompt(&wire)?,
        };
        let Some(messages) = history else {
            let unloads = wire.keep_alive.is_some_and(options::is_nothing);
            decoded.loads = Some(if unloads { Loads::Unload } else { Loads::Load });
            own(&mut chat, decoder.body);
            decoded.chat = chat;
            return Ok(decoded);
        };
        chat.history = messages.into();
        if let (Some(tools), Api::Chat) = (wire.tools, api) {
            chat.tools = Arc::new(decoder.tools(tools)?);
        }
        let probabilities = [
            ("logprobs", wire.logprobs == Some(true)),
            ("top_logprobs", wire.top_logprobs.is_some_and(|Integer(most)| most != 0)),
        ];
        for (param, is_wanted) in probabilities {
            if is_wanted {
                let message = format!("`{param}`: probabilities of tokens are not offered here");
                return Err(unsupported(param, message));
            }
        }
        if let Some(raw) = wire.format {
            chat.response_format = self.format(raw)?;
        }
        if let Some(raw) = wire.think {
            chat.reasoning = self.think(raw)?;
            decoded.shows_thinking = chat.reasoning.wanted() != Some(false);
        }
        if let Some(raw) = wire.options {
            decoded.left_out.extend(self.options(raw, &mut chat)?);
        }
        if decoder.is_mostly_unused() {
            own(&mut chat, decoder.body);
        }
        decoded.chat = chat;
        Ok(decoded)
    }

    /// The messages of a chat; `None` where there are none.
    fn chat(&self, wire: &wire::Request<'_>) -> Result<Option<Vec<Arc<Message>>>, Error> {
        let Some(raw) = wire.messages else { return Ok(None) };
        let (history, count) = self.messages(raw)?;
        if count == 0 {
            return Ok(None);
        }
        let messages = history.finish();
        if messages.iter().all(|message| message.role.is_instruction()) {
            return Err(invalid_value("messages", "at least one message with text is needed"));
        }
        Ok(Some(messages))
    }

    /// The chat that a prompt becomes; `None` where it is empty.
    fn prompt(&self, wire: &wire::Request<'_>) -> Result<Option<Vec<Arc<Message>>>, Error> {
        // A raw lane for completions, where an upstream has one, is what would serve both.
        if wire.suffix.as_ref().is_some_and(|suffix| !suffix.0.is_empty()) {
            return Err(unsupported(
                "suffix",
                "a chat model does not fill in between a prompt and a `suffix`; leave it out",
            ));
        }
        if wire.raw == Some(true) {
            return Err(unsupported(
                "raw",
                "a chat model is given messages, and no prompt as it stands; leave `raw` out",
            ));
        }
        if wire.context.is_some_and(|context| !parse::is_empty_list(context)) {
            return Err(unsupported(
                "context",
                "a `context` is in the tokens of the server that gave it, and none is given here; \
                 send the conversation to /api/chat",
            ));
        }
        let prompt = self.decoder.string(wire.prompt, || "prompt".to_owned())?.unwrap_or_default();
        if prompt.is_empty() {
            return Ok(None);
        }
        let mut history = History::default();
        if let Some(system) = self.decoder.string(wire.system, || "system".to_owned())? {
            history.part(Role::System, Part::text(system));
        }
        history.part(Role::User, Part::text(prompt));
        if let Some(raw) = wire.images {
            self.images(raw, "images", &mut |part| history.part(Role::User, part))?;
        }
        Ok(Some(history.finish()))
    }
}

//! The request body: JSON in, [`ChatRequest`] out, every error with the field at fault.

mod items;
mod options;
mod tools;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{error::previous_not_found, names::Names, wire};
use crate::{
    Error, Text,
    chat::{ChatRequest, Destination, Part, ToolChoice},
    edge::{
        Decoder, Integer, Limits, check_model,
        history::History,
        own,
        parse::{self, invalid_value, missing, too_many, unsupported},
    },
};

/// A request as a client of the Responses API sent it.
///
/// What only the edge needs stands beside the request: the layers of the middle always stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decoded {
    /// What the layers below get.
    pub chat: ChatRequest,
    /// `stream`: whether the client wants its answer as a stream of events.
    pub stream: bool,
    /// Whether the client wants to be shown the model's thinking: `reasoning.summary` says so.
    pub shows_reasoning: bool,
    /// Whether the client wants the thinking sealed, to send it back:
    /// `include: ["reasoning.encrypted_content"]`.
    pub seals_reasoning: bool,
    /// `store`: whether the client may go on from the answer by its id, which it wants unless it
    /// says otherwise.
    pub stores: bool,
    /// The names of fields that ask for something and that nothing here reads; values that ask for
    /// nothing (`null`, `false`, `0`, what is empty) are left out.
    pub left_out: Vec<Text>,
    /// Under which names the client knows its tools.
    pub(super) names: Arc<Names>,
    /// Whether the client is known for Codex by its body.
    pub(super) is_codex: bool,
    /// The fields of the response that say what was asked for.
    pub(super) echo: Text,
}

/// Reads the body of a `POST /v1/responses`.
///
/// The history becomes one that does not depend on how the client has written it: neighbours of
/// one role are one turn, the items of an answer are one message, and the results of calls stand
/// right behind them. Tools in namespaces become functions with one name, `namespace__name`; a
/// tool whose input is a text becomes a function with one parameter, `input`.
///
/// Unknown fields and unknown kinds of items and tools are left out; what they hold of text is
/// kept.
///
/// # Errors
///
/// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest), with the field as
/// [`Error::param`] and one of the codes `invalid_json`, `missing_required_parameter`,
/// `invalid_type`, `invalid_value`, `unsupported_parameter`, `too_many`, `too_deep`; the last two
/// for more than [`Limits`] allow.
///
/// A `previous_response_id` becomes [`Destination::Answer`], and the history is what is new since.
///
/// ```
/// use tower_qwen::responses::decode;
///
/// let decoded = decode(&r#"{"model":"qwen3-max","instructions":"Be brief.","input":"Hi"}"#.into())?;
/// assert_eq!(decoded.chat.history[0].text(), "Be brief.");
/// assert_eq!(decoded.chat.history[1].text(), "Hi");
///
/// let error = decode(&r#"{"model":"qwen3-max"}"#.into()).unwrap_err();
/// assert_eq!(error.param(), Some("input"));
/// # Ok::<_, tower_qwen::Error>(())
/// ```
pub fn decode(body: &Bytes) -> Result<Decoded, Error> {
    decode_within(body, &Limits::new(), true)
}

/// The same; `store` tells whether answers are remembered by their ids.
pub(super) fn decode_within(body: &Bytes, limits: &Limits, store: bool) -> Result<Decoded, Error> {
    let body = parse::text(body)?;
    let decoder = Decoder::new(&body, limits)?;
    let wire: wire::Request<'_> = parse::json(&body)?;
    not_offered(&wire, store)?;
    Reader { decoder: &decoder, names: Names::default() }.request(wire, store)
}

/// What `previous_response_id` is called where it is at fault.
const PREVIOUS: &str = "previous_response_id";

/// The longest id that is looked up, in bytes; those that are given are much shorter.
const ID_LEN: usize = 256;

/// Refuses what could not be answered as it was asked for.
fn not_offered(wire: &wire::Request<'_>, store: bool) -> Result<(), Error> {
    let goes_on = wire.previous_response_id.is_some_and(is_given);
    if wire.conversation.is_some() && goes_on {
        return Err(unsupported(
            "conversation",
            "`conversation` and `previous_response_id` are two ways to say one thing; send one",
        ));
    }
    if goes_on && !store {
        // The words are the same for every id, so that nobody learns from them which ones exist.
        let message = "Previous response not found: store is not available with this upstream; \
                       send the whole history as `input`";
        return Err(Error::invalid(PREVIOUS, message).with_code("previous_response_not_found"));
    }
    if wire.conversation.is_some() {
        let message = "`conversation`: no conversation is stored here; send the history as `input`";
        return Err(unsupported("conversation", message));
    }
    if wire.background == Some(true) {
        let message = "`background`: no answer is made in the background here";
        return Err(unsupported("background", message));
    }
    if wire.prompt.is_some() {
        let message = "`prompt`: no templates are stored here; send their text as `instructions`";
        return Err(unsupported("prompt", message));
    }
    Ok(())
}

/// Whether it is more than the empty string, which names nothing.
fn is_given(id: &RawValue) -> bool {
    id.get() != "\"\""
}

/// Gives the borrowed shapes a meaning.
struct Reader<'a, 'd> {
    decoder: &'d Decoder<'a>,
    names: Names,
}

impl Reader<'_, '_> {
    fn request(mut self, mut wire: wire::Request<'_>, store: bool) -> Result<Decoded, Error> {
        let decoder = self.decoder;
        let model = decoder.some(wire.model.take()).ok_or_else(|| missing("model"))?;
        check_model(&model)?;
        let input = wire.input.ok_or_else(|| missing("input"))?;
        let mut request = ChatRequest::new(model, []);
        let stores = store && wire.store.is_none_or(|wish| wish.get() != "false");
        let previous = wire.previous_response_id.filter(|id| is_given(id));
        let previous = decoder.string(previous, || PREVIOUS.to_owned())?;

        // The names of the tools are known before the calls of the history are read.
        let offered = self.tools(wire.tools, input)?;
        let mut history = History::default();
        if let Some(id) = &previous {
            if id.len() > ID_LEN {
                return Err(previous_not_found(id));
            }
            history.goes_on();
            request.destination = Destination::Answer { id: id.clone() };
        }
        self.input(input, &mut history)?;
        if let Some(text) = decoder.string(wire.instructions, || "instructions".to_owned())?
            && !text.is_empty()
        {
            history.system(vec![Part::text(text)]);
        }
        let messages = history.finish();
        if messages.iter().all(|message| message.role.is_instruction()) {
            return Err(invalid_value("input", "at least one message with text is needed"));
        }
        request.history = messages.into();

        let is_codex = wire.client_metadata.is_some();
        // Codex offers its search with every request, for an upstream that can use it beside
        // functions; here it would make a search of every turn.
        if offered.searches_the_web && (!is_codex || offered.tools.is_empty()) {
            request.extra.insert("web_search_options", serde_json::json!({}));
        }
        request.tools = Arc::new(offered.tools);
        if let Some(choice) = wire.tool_choice {
            self.tool_choice(choice, &mut request)?;
        }
        if let Some(name) = request.tool_choice.as_ref().and_then(ToolChoice::function)
            && !request
                .tools
                .iter()
                .any(|tool| tool.as_function().is_some_and(|function| function.name == name))
        {
            return Err(invalid_value(
                "tool_choice.name",
                format_args!("`tools` holds no tool `{name}`"),
            ));
        }
        request.parallel_tool_calls = wire.parallel_tool_calls;
        let max_tokens = wire.max_output_tokens.map(|Integer(tokens)| tokens);
        if max_tokens.is_some_and(|tokens| tokens < 0) {
            return Err(invalid_value("max_output_tokens", "it is below 0"));
        }
        request.sampling.max_tokens = max_tokens;
        request.sampling.temperature = wire.temperature;
        request.sampling.top_p = wire.top_p;
        let reasoning = self.reasoning(&wire)?;
        request.reasoning.effort = reasoning.effort.clone();
        request.response_format = self.response_format(wire.text)?;
        let included = self.included(wire.include)?;
        let echo = options::echo(&wire, &reasoning, stores, previous.as_deref());
        request.user = decoder.some(wire.user.take()).filter(|user| !user.is_empty());
        if decoder.is_mostly_unused() {
            own(&mut request, decoder.body);
        }
        let mut left_out = wire.extra.names();
        if included.is_more_wanted {
            left_out.push(Text::from_static("include"));
        }
        Ok(Decoded {
            chat: request,
            left_out,
            stream: wire.stream.unwrap_or(false),
            shows_reasoning: reasoning.summary.is_some(),
            seals_reasoning: included.seals_reasoning,
            stores,
            names: Arc::new(self.names),
            is_codex,
            echo,
        })
    }

    /// Reads the input: a string is one message of the user's.
    fn input(&self, raw: &RawValue, history: &mut History) -> Result<(), Error> {
        const INPUT: &str = "input";
        match raw.get().as_bytes().first() {
            Some(b'"') => {
                let text = self.decoder.long(raw, || INPUT.to_owned())?;
                history.part(crate::chat::Role::User, Part::text(text));
            }
            Some(b'[') => {
                let mut take = |index, item: wire::Item<'_>| {
                    let limit = self.decoder.limits.messages;
                    if index == limit {
                        return Err(too_many(INPUT, limit, "items", "send a shorter history"));
                    }
                    self.item(item, &format!("{INPUT}[{index}]"), history)
                };
                match parse::each_quickly(raw, &mut take) {
                    Some(read) => read?,
                    // Where it cannot be read, it is read again to say where.
                    None => {
                        self.decoder.start();
                        parse::each(raw, INPUT, take)?;
                    }
                }
            }
            _ => {
                let expected = "a string or an array of items";
                return Err(parse::not_expected(raw, INPUT.to_owned(), expected));
            }
        }
        Ok(())
    }
}

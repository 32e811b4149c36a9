use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::USER_AGENT};

use super::{
    decode::{Decoded, decode_within},
    encode::{ResponseWriter, whole_answer},
    response::Envelope,
};
use crate::{
    Error,
    chat::Answer,
    edge::{Asked, Limits, Protocol, edge_types, openai_error_into},
};

/// What the layer is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Whether answers are remembered by their ids.
    pub(super) store: bool,
}

/// The Responses API.
#[derive(Debug)]
pub(super) struct ResponsesProtocol;

impl Protocol for ResponsesProtocol {
    type Options = Options;
    type Envelope = Envelope;
    type Writer = ResponseWriter;

    fn name(_: &Options) -> &'static str {
        "responses"
    }

    fn decode(options: &Options, body: &Bytes, limits: &Limits) -> Result<Asked<Envelope>, Error> {
        let mut decoded = decode_within(body, limits, options.store)?;
        let envelope = Envelope::new(&decoded);
        decoded.chat.answer_id = decoded.stores.then(|| envelope.id().into());
        let Decoded { chat, stream, left_out, .. } = decoded;
        Ok(Asked { chat, stream, envelope, at_once: None, left_out })
    }

    fn client(envelope: &mut Envelope, headers: &HeaderMap) {
        let is_codex = |name: &str| {
            headers.get(name).is_some_and(|value| {
                let value = value.as_bytes();
                value.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"codex"))
            })
        };
        envelope.is_codex |= is_codex("originator") || is_codex(USER_AGENT.as_str());
    }

    fn known(envelope: &Envelope, error: Error) -> Error {
        envelope.known(&error).unwrap_or(error)
    }

    fn writer(envelope: Envelope) -> ResponseWriter {
        ResponseWriter::new(envelope)
    }

    fn whole(envelope: &Envelope, answer: &Answer) -> Result<Bytes, Error> {
        Ok(whole_answer(envelope, answer))
    }

    fn error_into(out: &mut BytesMut, error: &Error) {
        openai_error_into(out, error);
    }
}

edge_types!(
    ResponsesProtocol,
    ResponseWriter,
    "[`Responses`](super::Responses)",
    /// The body of every response of [`Responses`](super::Responses).
    ResponsesBody
);

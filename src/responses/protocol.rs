use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::USER_AGENT};

use super::{
    decode::decode_within,
    encode::{ResponseWriter, whole_answer},
    response::Envelope,
};
use crate::{
    Error,
    chat::Answer,
    edge::{Asked, Limits, Protocol, edge_types, openai_error_into},
};

/// The Responses API.
#[derive(Debug)]
pub(super) struct ResponsesProtocol;

impl Protocol for ResponsesProtocol {
    type Options = ();
    type Envelope = Envelope;
    type Writer = ResponseWriter;

    fn name((): &()) -> &'static str {
        "responses"
    }

    fn decode((): &(), body: &Bytes, limits: &Limits) -> Result<Asked<Envelope>, Error> {
        let decoded = decode_within(body, limits)?;
        let envelope = Envelope::new(&decoded);
        Ok(Asked { chat: decoded.chat, stream: decoded.stream, envelope, at_once: None })
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

use bytes::{Bytes, BytesMut};

use super::{
    api::Api,
    decode::{Decoded, decode_within},
    encode::{Envelope, LineWriter, whole_answer},
    error::error_into,
};
use crate::{
    Error,
    chat::{Answer, FinishReason},
    edge::{Asked, Limits, Protocol, Times, edge_types},
};

/// Both of them.
#[derive(Debug)]
pub(super) struct OllamaProtocol;

impl Protocol for OllamaProtocol {
    type Options = Api;
    type Envelope = Envelope;
    type Writer = LineWriter;

    const STREAM: &'static str = "application/x-ndjson";

    fn name(api: &Api) -> &'static str {
        match api {
            Api::Chat => "ollama",
            Api::Generate => "ollama_generate",
        }
    }

    fn decode(api: &Api, body: &Bytes, limits: &Limits) -> Result<Asked<Envelope>, Error> {
        let decoded = decode_within(*api, body, limits)?;
        let envelope = Envelope::new(*api, &decoded);
        let Decoded { chat, stream, loads, left_out, .. } = decoded;
        let at_once = loads.map(|_| FinishReason::Stop);
        Ok(Asked { chat, stream, envelope, at_once, left_out })
    }

    fn times(envelope: &mut Envelope) -> Option<&mut Times> {
        Some(&mut envelope.times)
    }

    fn writer(envelope: Envelope) -> LineWriter {
        LineWriter::new(envelope)
    }

    fn whole(envelope: &Envelope, answer: &Answer) -> Result<Bytes, Error> {
        whole_answer(envelope, answer)
    }

    fn error_into(out: &mut BytesMut, error: &Error) {
        error_into(out, error);
    }
}

edge_types!(
    OllamaProtocol,
    LineWriter,
    "[`Ollama`](super::Ollama) and [`Generate`](super::Generate)",
    /// The body of every response of [`Ollama`](super::Ollama) and [`Generate`](super::Generate).
    OllamaBody
);

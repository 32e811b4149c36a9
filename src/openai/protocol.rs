use bytes::{Bytes, BytesMut};

use super::{
    completions,
    decode::{Decoded, decode_within},
    encode::{ChunkEncoder, Envelope, Form, whole_answer},
};
use crate::{
    Error,
    chat::Answer,
    edge::{Asked, Limits, Protocol, edge_types, openai_error_into},
};

/// Which of OpenAI's APIs an edge speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`.
    Completions,
}

/// Both of them.
#[derive(Debug)]
pub(super) struct OpenAiProtocol;

impl Protocol for OpenAiProtocol {
    type Options = Api;
    type Envelope = Envelope;
    type Writer = ChunkEncoder;

    fn name(api: &Api) -> &'static str {
        match api {
            Api::Chat => "chat",
            Api::Completions => "completions",
        }
    }

    fn decode(api: &Api, body: &Bytes, limits: &Limits) -> Result<Asked<Envelope>, Error> {
        let (decoded, form) = match api {
            Api::Chat => (decode_within(body, limits)?, Form::Chat),
            Api::Completions => {
                let (decoded, echo) = completions::decode(body, limits)?;
                (decoded, Form::Text { echo })
            }
        };
        let envelope = Envelope::new(form, &decoded.chat.model, decoded.include_usage);
        let Decoded { chat, stream, .. } = decoded;
        // What is not known here goes to the upstream.
        Ok(Asked { chat, stream, envelope, at_once: None, left_out: Vec::new() })
    }

    fn writer(envelope: Envelope) -> ChunkEncoder {
        ChunkEncoder::new(&envelope)
    }

    fn whole(envelope: &Envelope, answer: &Answer) -> Result<Bytes, Error> {
        Ok(whole_answer(envelope, answer))
    }

    fn error_into(out: &mut BytesMut, error: &Error) {
        openai_error_into(out, error);
    }
}

edge_types!(
    OpenAiProtocol,
    ChunkEncoder,
    "[`OpenAi`](super::OpenAi) and [`Completions`](super::completions::Completions)",
    /// The body of every response of [`OpenAi`](super::OpenAi).
    OpenAiBody
);

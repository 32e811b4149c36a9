use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{
    decode::{Decoded, Options, Purpose, decode_within},
    encode::{Envelope, Estimate, MessageWriter, whole_answer},
    error::error_into,
};
use crate::{
    Error,
    chat::{Answer, FinishReason},
    edge::{Asked, Limits, Protocol, edge_types},
    tokens::TokenEstimator,
};

/// What the layer is told.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) read: Options,
    pub(super) estimator: Option<Arc<TokenEstimator>>,
}

impl Settings {
    pub(super) const fn new() -> Self {
        Self { read: Options::new(), estimator: None }
    }
}

/// The Messages API.
#[derive(Debug)]
pub(super) struct Messages;

impl Protocol for Messages {
    type Options = Settings;
    type Envelope = Envelope;
    type Writer = MessageWriter;

    fn name(_settings: &Settings) -> &'static str {
        "messages"
    }

    fn decode(
        settings: &Settings,
        body: &Bytes,
        limits: &Limits,
    ) -> Result<Asked<Envelope>, Error> {
        let Decoded { chat, stream, shows_thinking, left_out } =
            decode_within(body, limits, settings.read, Purpose::Answer)?;
        let stops = chat.sampling.stop.clone();
        let estimate = settings.estimator.clone();
        let estimate = estimate.map(|estimator| Estimate::new(estimator, &chat));
        // Nothing else of this API asks for it.
        let searches = chat.extra.contains("web_search_options");
        let envelope =
            Envelope::new(&chat.model, shows_thinking, stops).searches(searches).estimate(estimate);
        // A client that wants no token only wants the history to be in the vendor's cache.
        let at_once = (chat.sampling.max_tokens == Some(0)).then_some(FinishReason::Length);
        Ok(Asked { chat, stream, envelope, at_once, left_out })
    }

    fn writer(envelope: Envelope) -> MessageWriter {
        MessageWriter::new(envelope)
    }

    fn whole(envelope: &Envelope, answer: &Answer) -> Result<Bytes, Error> {
        whole_answer(envelope, answer)
    }

    fn error_into(out: &mut BytesMut, error: &Error) {
        error_into(out, error);
    }
}

edge_types!(
    Messages,
    MessageWriter,
    "[`Anthropic`](super::Anthropic)",
    /// The body of every response of [`Anthropic`](super::Anthropic).
    AnthropicBody
);

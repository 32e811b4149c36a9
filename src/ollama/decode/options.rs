//! What a request says beside its messages and its tools.

use serde_json::{Value, value::RawValue};

use super::Reader;
use crate::{
    Error, Text,
    chat::{ChatRequest, ReasoningEffort, ReasoningOptions, ResponseFormat},
    edge::{
        Integer,
        parse::{self, clip, invalid_value},
    },
    json::unquoted,
    ollama::wire,
};

impl Reader<'_, '_> {
    pub(super) fn format(&self, raw: &RawValue) -> Result<Option<ResponseFormat>, Error> {
        const FORMAT: &str = "format";
        if !raw.get().starts_with('"') {
            return parse::schema(raw, || FORMAT.to_owned()).map(Some);
        }
        match &*unquoted(raw.get()) {
            "" => Ok(None),
            "json" => Ok(Some(ResponseFormat::JsonObject)),
            other => Err(invalid_value(
                FORMAT,
                format_args!("`{}` is neither \"json\" nor a JSON Schema", clip(other)),
            )),
        }
    }

    pub(super) fn think(&self, raw: &RawValue) -> Result<ReasoningOptions, Error> {
        const THINK: &str = "think";
        let mut reasoning = ReasoningOptions::default();
        match raw.get() {
            "true" => reasoning.enabled = Some(true),
            "false" => reasoning.enabled = Some(false),
            word if word.starts_with('"') => {
                let effort = ReasoningEffort::from(self.decoder.long(raw, || THINK.to_owned())?);
                if let ReasoningEffort::Other(word) = &effort {
                    return Err(invalid_value(
                        THINK,
                        format_args!("`{}` is none of true, false, low, medium, high", clip(word)),
                    ));
                }
                reasoning.effort = Some(effort);
            }
            _ => {
                let expected = "a boolean or \"low\", \"medium\" or \"high\"";
                return Err(parse::not_expected(raw, THINK.to_owned(), expected));
            }
        }
        Ok(reasoning)
    }

    /// Returns the names of those that nothing reads.
    pub(super) fn options(
        &self,
        raw: &RawValue,
        request: &mut ChatRequest,
    ) -> Result<Vec<Text>, Error> {
        let wire: wire::Options<'_> = parse::nested(raw, "options")?;
        let sampling = &mut request.sampling;
        sampling.temperature = wire.temperature;
        sampling.top_p = wire.top_p;
        sampling.top_k = wire.top_k.map(|Integer(most)| most);
        sampling.seed = wire.seed.map(|Integer(seed)| seed);
        sampling.max_tokens = wire.num_predict.map(|Integer(most)| most).filter(|most| *most > 0);
        sampling.repetition_penalty = wire.repeat_penalty;
        sampling.presence_penalty = wire.presence_penalty;
        sampling.frequency_penalty = wire.frequency_penalty;
        if let Some(raw) = wire.stop {
            sampling.stop = self.decoder.stop(raw, "options.stop")?;
        }
        if let Some(least) = wire.min_p {
            request.extra.insert("min_p", Value::from(least));
        }
        Ok(wire.extra.names())
    }
}

/// Whether a `keep_alive` is no time at all: a number of seconds, or a text such as `0s`.
pub(super) fn is_nothing(keep_alive: &RawValue) -> bool {
    let json = keep_alive.get();
    let mut digits = json.bytes().filter(u8::is_ascii_digit).peekable();
    digits.peek().is_some() && digits.all(|digit| digit == b'0')
}

//! What a request says beside its messages and its tools.

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::Reader;
use crate::{
    Error, Text,
    anthropic::wire,
    chat::{ChatRequest, ReasoningEffort, ResponseFormat},
    edge::{
        Integer,
        parse::{self, clip, invalid_value, missing, too_many},
    },
    json::Str,
};

impl Reader<'_, '_> {
    pub(super) fn stop(&self, raw: &RawValue) -> Result<Vec<Text>, Error> {
        const STOP: &str = "stop_sequences";
        let mut several = Vec::new();
        parse::each(raw, STOP, |place, one: Str<'_>| {
            let limit = self.decoder.limits.stops;
            if place == limit {
                return Err(too_many(STOP, limit, "sequences", "send fewer"));
            }
            several.push(self.decoder.text(one));
            Ok(())
        })?;
        Ok(several)
    }

    /// How much the model shall think; whether the client wants to be shown it.
    ///
    /// `adaptive` leaves it to the model how much, so a budget beside it means nothing.
    pub(super) fn thinking(
        &self,
        wire: &wire::Request<'_>,
        request: &mut ChatRequest,
    ) -> Result<bool, Error> {
        const THINKING: &str = "thinking";
        let mut is_shown = true;
        if let Some(raw) = wire.thinking {
            let thinking: wire::Thinking<'_> = parse::nested(raw, THINKING)?;
            let kind = thinking.kind.ok_or_else(|| missing("thinking.type"))?;
            let reasoning = &mut request.reasoning;
            match &*kind.0 {
                // No upstream thinks between calls alone, and an answer begins without thinking.
                "disabled" | "between_tools" => reasoning.enabled = Some(false),
                "adaptive" => reasoning.enabled = Some(true),
                "enabled" => {
                    reasoning.enabled = Some(true);
                    // Some upstreams refuse a budget that leaves no room for an answer.
                    let most = wire.max_tokens.map_or(i64::MAX, |Integer(tokens)| tokens - 1);
                    let budget = thinking.budget_tokens.map(|Integer(tokens)| tokens.min(most));
                    reasoning.budget = budget.filter(|tokens| *tokens > 0);
                }
                other => {
                    return Err(invalid_value(
                        "thinking.type",
                        format_args!("`{}` is none of enabled, disabled, adaptive", clip(other)),
                    ));
                }
            }
            is_shown = thinking.display.is_none_or(|display| display.0 != "omitted");
        }
        if let Some(raw) = wire.output_config {
            let config: wire::OutputConfig<'_> = parse::nested(raw, "output_config")?;
            request.reasoning.effort = self.decoder.some(config.effort).map(ReasoningEffort::from);
        }
        Ok(is_shown)
    }

    pub(super) fn response_format(
        &self,
        wire: &wire::Request<'_>,
    ) -> Result<Option<ResponseFormat>, Error> {
        let config: Option<wire::OutputConfig<'_>> =
            wire.output_config.map(|raw| parse::nested(raw, "output_config")).transpose()?;
        let now = config.and_then(|config| config.format).map(|raw| ("output_config.format", raw));
        let before = || wire.output_format.map(|raw| ("output_format", raw));
        let Some((param, raw)) = now.or_else(before) else { return Ok(None) };
        let at = |field: &str| format!("{param}.{field}");
        let format: wire::Format<'_> = parse::nested(raw, param)?;
        let kind = format.kind.ok_or_else(|| missing(at("type")))?;
        match &*kind.0 {
            "text" => Ok(Some(ResponseFormat::Text)),
            "json_object" => Ok(Some(ResponseFormat::JsonObject)),
            "json_schema" => {
                let schema = format.schema.ok_or_else(|| missing(at("schema")))?;
                Ok(Some(parse::schema(schema, || at("schema"))?))
            }
            other => Err(invalid_value(at("type"), format_args!("`{}` is not known", clip(other)))),
        }
    }

    /// Who the end user is, as a digest: Claude Code puts the ids of its device and account here.
    pub(super) fn user(&self, metadata: Option<&RawValue>) -> Option<Text> {
        let metadata: wire::Metadata<'_> = parse::nested(metadata?, "metadata").ok()?;
        let Str(id) = metadata.user_id.filter(|id| !id.0.is_empty())?;
        let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
        Some(digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
    }
}

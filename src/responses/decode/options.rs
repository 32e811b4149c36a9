//! What a request says beside its input and its tools.

use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;

use super::Reader;
use crate::{
    Error, Text,
    chat::{Fields, Json, ReasoningEffort, ResponseFormat},
    edge::{
        Integer,
        parse::{self, clip, invalid_value, missing},
    },
    json::{self, Str, string_into},
    responses::wire,
};

/// The longest value of a field that is told back, in bytes: some events of an answer repeat it.
const ECHO_LEN: usize = 4096;

/// How the model shall think, and how much of it is shown.
#[derive(Debug, Default)]
pub(super) struct Reasoning {
    pub(super) effort: Option<ReasoningEffort>,
    /// The word for how it is shown, where it is.
    pub(super) summary: Option<Text>,
}

/// What the client wants beside the answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Included {
    /// The thinking, in a form that it can send again.
    pub(super) seals_reasoning: bool,
    /// What there is not.
    pub(super) is_more_wanted: bool,
}

impl Reader<'_, '_> {
    pub(super) fn reasoning(&self, wire: &wire::Request<'_>) -> Result<Reasoning, Error> {
        let Some(raw) = wire.reasoning else { return Ok(Reasoning::default()) };
        let reasoning: wire::Reasoning<'_> = parse::nested(raw, "reasoning")?;
        let decoder = self.decoder;
        let summary = reasoning.summary.or(reasoning.generate_summary);
        Ok(Reasoning {
            effort: decoder.some(reasoning.effort).map(ReasoningEffort::from),
            summary: decoder.some(summary).filter(|word| word != "none"),
        })
    }

    pub(super) fn response_format(
        &self,
        text: Option<&RawValue>,
    ) -> Result<Option<ResponseFormat>, Error> {
        const FORMAT: &str = "text.format";
        let Some(text) = text else { return Ok(None) };
        let text: wire::TextOptions<'_> = parse::nested(text, "text")?;
        let Some(raw) = text.format else { return Ok(None) };
        let format: wire::Format<'_> = parse::nested(raw, FORMAT)?;
        let kind = format.kind.ok_or_else(|| missing("text.format.type"))?;
        match &*kind.0 {
            "text" => Ok(Some(ResponseFormat::Text)),
            "json_object" => Ok(Some(ResponseFormat::JsonObject)),
            "json_schema" => {
                let schema = format.schema.ok_or_else(|| missing("text.format.schema"))?;
                if !schema.get().starts_with('{') {
                    let param = "text.format.schema".to_owned();
                    return Err(parse::not_expected(schema, param, "an object"));
                }
                let mut fields = Fields::default();
                fields.push("name", format.name.map_or("\"answer\"", RawValue::get));
                for (name, value) in [
                    ("description", format.description),
                    ("schema", Some(schema)),
                    ("strict", format.strict),
                ] {
                    if let Some(value) = value.filter(|value| value.get() != "null") {
                        fields.push(name, value.get());
                    }
                }
                Ok(Some(ResponseFormat::JsonSchema(Json::from(&fields.finish()))))
            }
            other => {
                let message =
                    format!("`{}` is none of text, json_object, json_schema", clip(other));
                Err(invalid_value("text.format.type", message))
            }
        }
    }

    pub(super) fn included(&self, include: Option<&RawValue>) -> Result<Included, Error> {
        let mut included = Included::default();
        if let Some(raw) = include {
            parse::each(raw, "include", |_, Str(word)| {
                let is_reasoning = word == "reasoning.encrypted_content";
                included.seals_reasoning |= is_reasoning;
                included.is_more_wanted |= !is_reasoning;
                Ok(())
            })?;
        }
        Ok(included)
    }
}

/// The fields of a response that say what was asked for, those of its answer left out.
///
/// The tools are not among them: they are some hundred kilobytes in every event.
pub(super) fn echo(
    wire: &wire::Request<'_>,
    reasoning: &Reasoning,
    stores: bool,
    previous: Option<&str>,
) -> Text {
    let mut out = BytesMut::new();
    let number = |value: Option<f64>| value.map_or("null".to_owned(), |value| value.to_string());
    // An event is one line.
    let short = |raw: Option<&RawValue>, usual: &'static str| {
        let raw = raw.map(RawValue::get);
        let raw = raw.filter(|json| json.starts_with('{') && json.len() <= ECHO_LEN);
        raw.map_or_else(|| usual.to_owned(), |json| json::compact(json).into_owned())
    };
    let mut field = |name: &str, json: &str| {
        string_into(&mut out, name);
        out.put_slice(b":");
        out.put_slice(json.as_bytes());
        out.put_slice(b",");
    };
    field("instructions", "null");
    field(
        "max_output_tokens",
        &wire.max_output_tokens.map_or("null".to_owned(), |Integer(tokens)| tokens.to_string()),
    );
    field("metadata", &short(wire.metadata, "{}"));
    field("parallel_tool_calls", &wire.parallel_tool_calls.unwrap_or(true).to_string());
    let previous = previous.map(|id| {
        let mut json = BytesMut::new();
        string_into(&mut json, id);
        String::from_utf8_lossy(&json).into_owned()
    });
    field("previous_response_id", previous.as_deref().unwrap_or("null"));
    // Typed clients know these words and no others.
    let word = |word: Option<&str>, known: &[&str]| match word {
        Some(word) if known.contains(&word) => format!("\"{word}\""),
        _ => "null".to_owned(),
    };
    let efforts = ["none", "minimal", "low", "medium", "high", "xhigh"];
    let effort = word(reasoning.effort.as_ref().map(ReasoningEffort::as_str), &efforts);
    let summary = word(reasoning.summary.as_deref(), &["auto", "concise", "detailed"]);
    field("reasoning", &format!("{{\"effort\":{effort},\"summary\":{summary}}}"));
    field("store", &stores.to_string());
    field("temperature", &number(wire.temperature));
    field("text", &short(wire.text, r#"{"format":{"type":"text"}}"#));
    field("tool_choice", "\"auto\"");
    field("tools", "[]");
    field("top_p", &number(wire.top_p));
    let truncation = wire.truncation.as_ref().map(|word| &*word.0);
    let is_auto = truncation == Some("auto");
    field("truncation", if is_auto { "\"auto\"" } else { "\"disabled\"" });
    String::from_utf8_lossy(&out).into_owned().into()
}

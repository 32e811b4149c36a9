//! Which of the tools on offer the model may take.

use serde_json::value::RawValue;

use crate::{
    Error,
    chat::ToolChoice,
    edge::{
        Decoder,
        parse::{self, clip, invalid_value, missing},
        string_field,
    },
    json,
};

impl Decoder<'_> {
    pub(super) fn tool_choice(&self, raw: &RawValue) -> Result<ToolChoice, Error> {
        match raw.get().as_bytes().first() {
            Some(b'"') => match &*self.long(raw, || "tool_choice".to_owned())? {
                "auto" => Ok(ToolChoice::Auto),
                "none" => Ok(ToolChoice::None),
                "required" | "any" => Ok(ToolChoice::Required),
                other => Err(invalid_value(
                    "tool_choice",
                    format_args!("`{}` is none of none, auto, required", clip(other)),
                )),
            },
            Some(b'{') => {
                let kind = string_field(raw, "type").ok_or_else(|| missing("tool_choice.type"))?;
                let whole = ToolChoice::Other(self.json(raw));
                if kind != "function" {
                    return Ok(whole);
                }
                let name = whole.function().ok_or_else(|| missing("tool_choice.function.name"))?;
                let is_plain = json::members(raw.get()).all(|(field, value)| match &*field {
                    "type" => true,
                    "function" => json::members(value).all(|(field, _)| field == "name"),
                    _ => false,
                });
                Ok(if is_plain { ToolChoice::Function(name) } else { whole })
            }
            _ => Err(parse::not_expected(
                raw,
                "tool_choice".into(),
                "\"none\", \"auto\", \"required\" or an object",
            )),
        }
    }
}

//! The tools on offer, and which of them the model may take.

use serde_json::value::RawValue;

use crate::{
    Error,
    chat::{FunctionTool, Tool, ToolChoice},
    edge::{
        Decoder,
        parse::{self, clip, invalid_value, missing, too_many},
        string_field,
    },
    json,
    openai::wire,
};

impl Decoder<'_> {
    pub(super) fn tools(&self, raw: &RawValue) -> Result<Vec<Tool>, Error> {
        const TOOLS: &str = "tools";
        let count = |index| {
            let limit = self.limits.tools;
            if index == limit {
                return Err(too_many(TOOLS, limit, "tools", "offer fewer"));
            }
            Ok(())
        };
        // Nearly always all are functions.
        let mut tools = Vec::new();
        let quick = parse::each_quickly(raw, |index, tool: wire::Tool<'_>| {
            if !tool.is_function() {
                return Err(None);
            }
            count(index).map_err(Some)?;
            tools.push(self.function(index, tool).map_err(Some)?);
            Ok(())
        });
        match quick {
            Some(Ok(())) => return Ok(tools),
            Some(Err(Some(error))) => return Err(error),
            Some(Err(None)) | None => {}
        }
        tools.clear();
        parse::each(raw, TOOLS, |index, raw: &RawValue| {
            count(index)?;
            tools.push(match string_field(raw, "type") {
                Some(kind) if kind != "function" => Tool::Other(self.json(raw)),
                _ => {
                    let tool: wire::Tool<'_> = parse::nested(raw, &format!("{TOOLS}[{index}]"))?;
                    if tool.kind.is_some() && tool.function.is_none() {
                        self.flat_function(index, raw)?
                    } else {
                        self.function(index, tool)?
                    }
                }
            });
            Ok(())
        })?;
        Ok(tools)
    }

    fn function(&self, index: usize, wire: wire::Tool<'_>) -> Result<Tool, Error> {
        let at = |field: &str| format!("tools[{index}].{field}");
        if wire.kind.is_none() {
            return Err(missing(at("type")));
        }
        let function = wire.function.ok_or_else(|| missing(at("function")))?;
        let name = function.name.ok_or_else(|| missing(at("function.name")))?;
        if name.0.is_empty() {
            return Err(invalid_value(at("function.name"), "the name is empty"));
        }
        Ok(Tool::Function(FunctionTool {
            description: self.some(function.description),
            parameters: function.parameters.map(|schema| self.json(schema.0)),
            strict: function.strict,
            cache_control: wire.cache_control.map(|mark| self.json(mark)),
            extra: function.extra.finish(),
            outer_extra: wire.extra.finish(),
            ..FunctionTool::without_parameters(self.text(name))
        }))
    }

    /// Reads a function in the form of the Responses API.
    fn flat_function(&self, index: usize, raw: &RawValue) -> Result<Tool, Error> {
        let flat: wire::FlatTool<'_> = parse::nested(raw, &format!("tools[{index}]"))?;
        let name = flat.name.ok_or_else(|| missing(format!("tools[{index}].function")))?;
        if name.0.is_empty() {
            return Err(invalid_value(format!("tools[{index}].name"), "the name is empty"));
        }
        Ok(Tool::Function(FunctionTool {
            description: self.some(flat.description),
            parameters: flat.parameters.map(|schema| self.json(schema.0)),
            strict: flat.strict,
            cache_control: flat.cache_control.map(|mark| self.json(mark)),
            extra: flat.extra.finish(),
            ..FunctionTool::without_parameters(self.text(name))
        }))
    }

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

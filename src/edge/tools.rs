//! The functions on offer, in OpenAI's form of them, which other protocols have too.

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::{
    Decoder,
    decoder::string_field,
    parse::{self, invalid_value, missing, too_many},
    shape,
};
use crate::{
    Error,
    chat::{FunctionTool, Tool},
    json::Str,
};

/// An object as it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a>(pub(crate) &'a RawValue);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('{') {
            return Ok(Self(raw));
        }
        let found = de::Unexpected::Other(parse::kind(raw));
        Err(de::Error::invalid_type(found, &"an object"))
    }
}

shape! {
    /// A tool on offer.
    WireTool<'a> {
        kind as "type": Str<'a>,
        function: ToolFunction<'a>,
        cache_control: &'a RawValue,
    }
}

impl WireTool<'_> {
    /// Whether it is a function in OpenAI's own form.
    fn is_function(&self) -> bool {
        self.function.is_some() && self.kind.as_ref().is_some_and(|kind| kind.0 == "function")
    }
}

shape! {
    /// The function that is on offer.
    ToolFunction<'a> {
        name: Str<'a>,
        description: Str<'a>,
        parameters: Object<'a>,
        strict: bool,
    }
}

shape! {
    /// A tool in the form of the Responses API, which some clients mix in.
    FlatTool<'a> {
        kind as "type": Str<'a>,
        name: Str<'a>,
        description: Str<'a>,
        parameters: Object<'a>,
        strict: bool,
        cache_control: &'a RawValue,
    }
}

impl Decoder<'_> {
    pub(crate) fn tools(&self, raw: &RawValue) -> Result<Vec<Tool>, Error> {
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
        let quick = parse::each_quickly(raw, |index, tool: WireTool<'_>| {
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
                    let tool: WireTool<'_> = parse::nested(raw, &format!("{TOOLS}[{index}]"))?;
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

    fn function(&self, index: usize, wire: WireTool<'_>) -> Result<Tool, Error> {
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
        let flat: FlatTool<'_> = parse::nested(raw, &format!("tools[{index}]"))?;
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
}

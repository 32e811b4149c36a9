//! The tools on offer, and which of them the model may take.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::{json, value::RawValue};

use super::Reader;
use crate::{
    Error, Text,
    chat::{ChatRequest, FunctionTool, Json, Tool, ToolChoice},
    edge::{
        Decoder,
        parse::{self, clip, invalid_value, missing, too_many},
    },
    json::Str,
    responses::{
        names::{INPUT, Kind, LOCAL_SHELL, NAMESPACE_LEN, Names, TOOL_SEARCH},
        wire,
    },
};

const TOOLS: &str = "tools";
const TOOL_CHOICE: &str = "tool_choice";

/// What is on offer.
#[derive(Debug, Default)]
pub(super) struct Offered {
    pub(super) tools: Vec<Tool>,
    /// Where among them each name is.
    places: HashMap<Text, usize>,
    /// Whether the vendor's own search is among the tools: an upstream's stands in for it.
    pub(super) searches_the_web: bool,
}

impl Offered {
    /// Adds a function, in the place of the one that has its name.
    fn add(&mut self, function: FunctionTool, limit: usize) -> Result<(), Error> {
        match self.places.get(&function.name) {
            Some(place) => self.tools[*place] = Tool::Function(function),
            None if self.tools.len() >= limit => {
                return Err(too_many(TOOLS, limit, "tools", "offer fewer"));
            }
            None => {
                self.places.insert(function.name.clone(), self.tools.len());
                self.tools.push(Tool::Function(function));
            }
        }
        Ok(())
    }
}

impl Reader<'_, '_> {
    /// Reads the list, and what items of `input` add to it.
    pub(super) fn tools(
        &mut self,
        raw: Option<&RawValue>,
        input: &RawValue,
    ) -> Result<Offered, Error> {
        let mut offered = Offered::default();
        if let Some(raw) = raw {
            self.list(raw, TOOLS, None, &mut offered)?;
        }
        let adds = ["additional_tools", "tool_search_output"];
        let is_list = input.get().starts_with('[');
        if is_list && adds.iter().any(|kind| input.get().contains(kind)) {
            parse::each(input, "input", |index, item: wire::Item<'_>| {
                let is_one = item.kind.is_some_and(|Str(kind)| adds.contains(&&*kind));
                match item.tools.filter(|_| is_one) {
                    Some(raw) => {
                        self.list(raw, &format!("input[{index}].{TOOLS}"), None, &mut offered)
                    }
                    None => Ok(()),
                }
            })?;
        }
        Ok(offered)
    }

    fn list(
        &mut self,
        raw: &RawValue,
        param: &str,
        namespace: Option<&str>,
        offered: &mut Offered,
    ) -> Result<(), Error> {
        parse::each(raw, param, |index, tool: wire::Tool<'_>| {
            self.tool(tool, &format!("{param}[{index}]"), namespace, offered)
        })
    }

    fn tool(
        &mut self,
        tool: wire::Tool<'_>,
        param: &str,
        namespace: Option<&str>,
        offered: &mut Offered,
    ) -> Result<(), Error> {
        let at = |field: &str| format!("{param}.{field}");
        let decoder = self.decoder;
        let Str(kind) = tool.kind.as_ref().ok_or_else(|| missing(at("type")))?;
        let (kind, mut function) = match &**kind {
            "function" => {
                let inner = tool.function.map(|raw| parse::nested(raw, &at("function")));
                let tool = inner.transpose()?.unwrap_or(tool);
                (Kind::Function, function(decoder, &tool, param)?)
            }
            "custom" => (Kind::Custom, custom(decoder, &tool, param)?),
            "namespace" if namespace.is_none() => {
                let Str(name) = tool.name.ok_or_else(|| missing(at("name")))?;
                if name.len() > NAMESPACE_LEN {
                    let message = format!("the name has more than {NAMESPACE_LEN} bytes");
                    return Err(invalid_value(at("name"), message));
                }
                let raw = tool.tools.ok_or_else(|| missing(at(TOOLS)))?;
                return self.list(raw, &at(TOOLS), Some(&name), offered);
            }
            LOCAL_SHELL => (Kind::LocalShell, local_shell()),
            TOOL_SEARCH => (Kind::ToolSearch, tool_search(decoder, &tool, param)?),
            other => {
                let is_search = other.starts_with("web_search");
                offered.searches_the_web |= is_search;
                if !is_search {
                    tracing::debug!(
                        kind = %clip(other),
                        "a tool that only its vendor's servers run is left out"
                    );
                }
                return Ok(());
            }
        };
        function.name = self.names.add(kind, namespace, &function.name);
        offered.add(function, decoder.limits.tools)
    }

    pub(super) fn tool_choice(
        &self,
        raw: &RawValue,
        request: &mut ChatRequest,
    ) -> Result<(), Error> {
        let names = &self.names;
        request.tool_choice = Some(match raw.get().as_bytes().first() {
            Some(b'"') => mode(&self.decoder.long(raw, || TOOL_CHOICE.to_owned())?, TOOL_CHOICE)?,
            Some(b'{') => {
                let choice: wire::ToolChoice<'_> = parse::nested(raw, TOOL_CHOICE)?;
                let kind = choice.kind.as_ref().ok_or_else(|| missing("tool_choice.type"))?;
                if kind.0 == "allowed_tools" {
                    let raw = choice.tools.ok_or_else(|| missing("tool_choice.tools"))?;
                    let (mut allowed, mut namespaces) = (HashSet::new(), HashSet::new());
                    parse::each(raw, "tool_choice.tools", |_, tool: wire::ToolChoice<'_>| {
                        match (tool.kind.as_ref(), tool.name.as_ref()) {
                            (Some(Str(kind)), Some(Str(name))) if kind == "namespace" => {
                                namespaces.insert(name.clone().into_owned());
                            }
                            _ => allowed.extend(chosen(names, &tool)),
                        }
                        Ok(())
                    })?;
                    allowed.extend(names.within(&namespaces).cloned());
                    let tools = Arc::make_mut(&mut request.tools);
                    tools.retain(|tool| {
                        tool.as_function().is_some_and(|function| allowed.contains(&function.name))
                    });
                    let word = choice.mode.as_ref().map_or("auto", |Str(word)| word);
                    mode(word, "tool_choice.mode")?
                } else {
                    let name = chosen(names, &choice).ok_or_else(|| {
                        let message = format!("no tool of type `{}` is here", clip(&kind.0));
                        invalid_value("tool_choice.type", message)
                    })?;
                    ToolChoice::Function(name)
                }
            }
            _ => {
                let expected = "\"none\", \"auto\", \"required\" or an object";
                return Err(parse::not_expected(raw, TOOL_CHOICE.into(), expected));
            }
        });
        Ok(())
    }
}

fn mode(word: &str, param: &'static str) -> Result<ToolChoice, Error> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Required),
        other => {
            let other = clip(other);
            Err(invalid_value(param, format_args!("`{other}` is none of none, auto, required")))
        }
    }
}

/// The flat name of the tool that `choice` names.
fn chosen(names: &Names, choice: &wire::ToolChoice<'_>) -> Option<Text> {
    let namespace = choice.namespace.as_ref().map(|Str(namespace)| &**namespace);
    match (&*choice.kind.as_ref()?.0, choice.name.as_ref()) {
        ("function" | "custom", Some(Str(name))) => Some(names.flat(namespace, name)),
        (kind @ (LOCAL_SHELL | TOOL_SEARCH | "shell" | "apply_patch"), _) => {
            Some(names.flat(None, kind))
        }
        _ => None,
    }
}

fn named(decoder: &Decoder<'_>, tool: &wire::Tool<'_>, param: &str) -> Result<FunctionTool, Error> {
    let at = |field: &str| format!("{param}.{field}");
    let Str(name) = tool.name.as_ref().ok_or_else(|| missing(at("name")))?;
    if name.is_empty() {
        return Err(invalid_value(at("name"), "the name is empty"));
    }
    let mut function = FunctionTool::without_parameters(&**name);
    function.description = decoder.string(tool.description, || at("description"))?;
    Ok(function)
}

fn function(
    decoder: &Decoder<'_>,
    tool: &wire::Tool<'_>,
    param: &str,
) -> Result<FunctionTool, Error> {
    let mut function = named(decoder, tool, param)?;
    function.parameters = match tool.parameters {
        None => None,
        Some(raw) if raw.get().starts_with('{') => Some(decoder.json(raw)),
        Some(raw) => {
            return Err(parse::not_expected(raw, format!("{param}.parameters"), "an object"));
        }
    };
    function.strict = tool.strict;
    Ok(function)
}

/// A tool whose input is a text becomes a function of one string. What form the text shall have,
/// the description says: no upstream takes a grammar.
fn custom(
    decoder: &Decoder<'_>,
    tool: &wire::Tool<'_>,
    param: &str,
) -> Result<FunctionTool, Error> {
    let at = |field: &str| format!("{param}.{field}");
    let mut function = named(decoder, tool, param)?;
    let format: Option<wire::ToolFormat<'_>> =
        tool.format.map(|raw| parse::nested(raw, &at("format"))).transpose()?;
    if let Some(format) = format
        && let Some(definition) = decoder.string(format.definition, || at("format.definition"))?
    {
        let syntax = format.syntax.as_ref().map_or("following", |Str(syntax)| syntax);
        let before = function.description.as_deref().unwrap_or_default();
        let between = if before.is_empty() { "" } else { "\n\n" };
        function.description = Some(
            format!(
                "{before}{between}`{INPUT}` is a text of this grammar ({syntax}):\n{definition}"
            )
            .into(),
        );
    }
    function.parameters = Some(Json::from(json!({
        "type": "object",
        "properties": {
            (INPUT): {"type": "string", "description": "The whole input of the tool, as plain text."},
        },
        "required": [INPUT],
        "additionalProperties": false,
    })));
    Ok(function)
}

fn local_shell() -> FunctionTool {
    let schema = json!({
        "type": "object",
        "properties": {
            "command": {
                "type": "array",
                "items": {"type": "string"},
                "description": "The program and its arguments.",
            },
            "workdir": {"type": "string", "description": "Where to run it."},
            "timeout_ms": {"type": "integer", "description": "When to end it, in milliseconds."},
        },
        "required": ["command"],
    });
    let mut function = FunctionTool::new(LOCAL_SHELL, Json::from(schema));
    function.description = Some("Runs a command and gives its output.".into());
    function
}

fn tool_search(
    decoder: &Decoder<'_>,
    tool: &wire::Tool<'_>,
    param: &str,
) -> Result<FunctionTool, Error> {
    let at = |field: &str| format!("{param}.{field}");
    let mut function = FunctionTool::without_parameters(TOOL_SEARCH);
    function.description = Some(match decoder.string(tool.description, || at("description"))? {
        Some(description) => description,
        None => "Searches for tools that can be called from then on.".into(),
    });
    function.parameters = Some(match tool.parameters {
        Some(raw) if raw.get().starts_with('{') => decoder.json(raw),
        _ => Json::from(json!({
            "type": "object",
            "properties": {"query": {"type": "string", "description": "What to search for."}},
            "required": ["query"],
        })),
    });
    Ok(function)
}

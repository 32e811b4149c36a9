//! The tools on offer, and which of them the model may take.

use std::collections::HashMap;

use serde_json::{json, value::RawValue};

use super::Reader;
use crate::{
    Error, Text,
    anthropic::wire,
    chat::{ChatRequest, FunctionTool, Json, Tool, ToolChoice},
    edge::{
        history::Change,
        parse::{self, clip, invalid_value, missing, too_many},
    },
};

const TOOLS: &str = "tools";

/// What is on offer.
#[derive(Debug, Default)]
pub(super) struct Offered {
    pub(super) tools: Vec<Tool>,
    /// Whether the vendor's own search is among the tools: an upstream's stands in for it.
    pub(super) searches_the_web: bool,
    /// Whether a tool was left out that only its vendor's servers run.
    pub(super) has_left_out: bool,
}

impl Reader<'_, '_> {
    /// Reads the list, and changes it as the messages say.
    pub(super) fn tools(
        &self,
        raw: Option<&RawValue>,
        changes: Vec<Change>,
    ) -> Result<Offered, Error> {
        let mut offered = Offered::default();
        let limit = self.decoder.limits.tools;
        if let Some(raw) = raw {
            parse::each(raw, TOOLS, |index, wire: wire::Tool<'_>| {
                if index == limit {
                    return Err(too_many(TOOLS, limit, "tools", "offer fewer"));
                }
                let kind = wire.kind.as_ref().map(|kind| &*kind.0);
                offered.searches_the_web |=
                    kind.is_some_and(|kind| kind.starts_with("web_search_"));
                let tool = self.tool(wire, &format!("{TOOLS}[{index}]"))?;
                offered.has_left_out |= tool.is_none();
                offered.tools.extend(tool);
                Ok(())
            })?;
        }
        if !changes.is_empty() {
            offered.tools = changed(offered.tools, changes, limit)?;
        }
        Ok(offered)
    }

    /// The function that a tool is; `None` for one that only the vendor's servers run.
    pub(super) fn tool(&self, wire: wire::Tool<'_>, param: &str) -> Result<Option<Tool>, Error> {
        let at = |field: &str| format!("{param}.{field}");
        let decoder = self.decoder;
        let kind = wire.kind.as_ref().map_or("custom", |kind| &*kind.0);
        let mut function = match kind {
            "custom" | "function" => {
                let name = wire.name.ok_or_else(|| missing(at("name")))?;
                if name.0.is_empty() {
                    return Err(invalid_value(at("name"), "the name is empty"));
                }
                let mut function = FunctionTool::without_parameters(decoder.text(name));
                function.description = self.string(wire.description, || at("description"))?;
                function.parameters = match wire.input_schema {
                    None => None,
                    Some(raw) if raw.get() == "null" => None,
                    Some(raw) if raw.get().starts_with('{') => Some(decoder.json(raw)),
                    Some(raw) => {
                        return Err(parse::not_expected(raw, at("input_schema"), "an object"));
                    }
                };
                function.strict = wire.strict;
                function
            }
            other => match client_tool(other) {
                Some(mut function) => {
                    if let Some(name) = wire.name.filter(|name| !name.0.is_empty()) {
                        function.name = decoder.text(name);
                    }
                    function
                }
                None => {
                    tracing::debug!(
                        kind = %clip(other),
                        "a tool that only its vendor's servers run is left out"
                    );
                    return Ok(None);
                }
            },
        };
        function.cache_control = self.mark(wire.cache_control);
        Ok(Some(Tool::Function(function)))
    }

    pub(super) fn tool_choice(
        &self,
        raw: &RawValue,
        request: &mut ChatRequest,
    ) -> Result<(), Error> {
        const TOOL_CHOICE: &str = "tool_choice";
        if !raw.get().starts_with('{') {
            return Err(parse::not_expected(raw, TOOL_CHOICE.into(), "an object"));
        }
        let choice: wire::ToolChoice<'_> = parse::nested(raw, TOOL_CHOICE)?;
        let kind = choice.kind.ok_or_else(|| missing("tool_choice.type"))?;
        request.tool_choice = Some(match &*kind.0 {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "any" => ToolChoice::Required,
            "tool" => {
                let name = choice.name.ok_or_else(|| missing("tool_choice.name"))?;
                ToolChoice::Function(self.decoder.text(name))
            }
            other => {
                return Err(invalid_value(
                    "tool_choice.type",
                    format_args!("`{}` is none of auto, any, tool, none", clip(other)),
                ));
            }
        });
        if choice.disable_parallel_tool_use == Some(true) {
            request.parallel_tool_calls = Some(false);
        }
        Ok(())
    }
}

/// The tools after these changes, each of which looks at one name alone.
fn changed(tools: Vec<Tool>, changes: Vec<Change>, limit: usize) -> Result<Vec<Tool>, Error> {
    let mut left = tools.len();
    // Where the tools of a name stand; a place is empty where one was removed.
    let mut places: HashMap<Text, Vec<usize>> = HashMap::new();
    let mut all: Vec<Option<Tool>> = Vec::with_capacity(left);
    for tool in tools {
        if let Some(function) = tool.as_function() {
            places.entry(function.name.clone()).or_default().push(all.len());
        }
        all.push(Some(tool));
    }
    for change in changes {
        match change {
            Change::Removed(name) => {
                for place in places.remove(&name).unwrap_or_default() {
                    all[place] = None;
                    left -= 1;
                }
            }
            Change::Added(tool) => {
                let Some(function) = tool.as_function() else { continue };
                let own = places.entry(function.name.clone()).or_default();
                if let Some(&first) = own.first() {
                    all[first] = Some(tool);
                    continue;
                }
                if left >= limit {
                    return Err(too_many(TOOLS, limit, "tools", "offer fewer"));
                }
                own.push(all.len());
                all.push(Some(tool));
                left += 1;
            }
        }
    }
    Ok(all.into_iter().flatten().collect())
}

/// A tool that the client runs and whose schema only its vendor's models know, in words for any
/// other model.
fn client_tool(kind: &str) -> Option<FunctionTool> {
    let (name, description, schema) = if kind.starts_with("bash_") {
        (
            "bash",
            "Runs a command in a shell that stays open between the calls, and gives its output.",
            json!({
                "type": "object",
                "properties": {
                    "command": {"type": "string", "description": "The command to run."},
                    "restart": {"type": "boolean", "description": "Starts the shell anew."},
                },
            }),
        )
    } else if kind.starts_with("text_editor_") {
        (
            "str_replace_based_edit_tool",
            "Shows, creates and changes files.",
            json!({
                "type": "object",
                "properties": {
                    "command": {
                        "type": "string",
                        "enum": ["view", "create", "str_replace", "insert"],
                    },
                    "path": {"type": "string", "description": "The file or the directory."},
                    "view_range": {
                        "type": "array",
                        "items": {"type": "integer"},
                        "description": "The first and the last line to show, from 1; -1 is the end.",
                    },
                    "file_text": {"type": "string", "description": "What `create` writes."},
                    "old_str": {
                        "type": "string",
                        "description": "What `str_replace` replaces; it must be there once.",
                    },
                    "new_str": {"type": "string", "description": "What takes its place."},
                    "insert_line": {
                        "type": "integer",
                        "description": "Behind which line `insert` inserts; 0 is the beginning.",
                    },
                    "insert_text": {"type": "string", "description": "What `insert` inserts."},
                },
                "required": ["command", "path"],
            }),
        )
    } else if kind.starts_with("memory_") {
        (
            "memory",
            "Keeps notes in files below /memories, which are there in later conversations.",
            json!({
                "type": "object",
                "properties": {
                    "command": {
                        "type": "string",
                        "enum": ["view", "create", "str_replace", "insert", "delete", "rename"],
                    },
                    "path": {"type": "string"},
                    "file_text": {"type": "string"},
                    "old_str": {"type": "string"},
                    "new_str": {"type": "string"},
                    "insert_line": {"type": "integer"},
                    "insert_text": {"type": "string"},
                    "old_path": {"type": "string"},
                    "new_path": {"type": "string"},
                    "view_range": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["command"],
            }),
        )
    } else {
        return None;
    };
    let mut function = FunctionTool::new(name, Json::from(schema));
    function.description = Some(description.into());
    Some(function)
}

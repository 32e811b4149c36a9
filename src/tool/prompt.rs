//! Tools for an upstream that has none: definitions, choices, calls and results as text.
//!
//! [`rewrite`] turns a request with tools into one of plain messages, in the [`Dialect`] that the
//! model was trained on, so that a text-only upstream can be asked for tool calls and shown its
//! earlier ones. What the model then writes is read back by the tool
//! scanner, which accepts every dialect whatever was asked for.
//!
//! - The definitions, with their whole JSON Schemas as the client wrote them, go into the system
//!   text of the first message of a chat, and only there: a stateful upstream keeps them, and
//!   repeating them costs tokens and was seen to give empty answers.
//! - Where a later turn offers [other tools](ChatRequest::tools_changed), their definitions stand in
//!   front of it, in place of all earlier ones.
//! - What holds for one turn only, `tool_choice` and `parallel_tool_calls`, is said in a short
//!   line behind the last message, on the first turn as on later ones, and only where it differs
//!   from the default. In the system text it would hold for the whole chat.
//! - Assistant messages keep their text and get their calls behind it, results become user
//!   messages (see [`history`]).
//!
//! ```
//! use std::sync::Arc;
//! use tower_qwen::{
//!     chat::{ChatRequest, FunctionTool, Message, Role, Tool},
//!     tool::{Dialect, internals::rewrite},
//! };
//!
//! let mut request =
//!     ChatRequest::new("qwen3.7-plus", vec![Message::new(Role::User, "Is it raining in Oslo?")]);
//! let schema = serde_json::json!({"type": "object", "properties": {"city": {"type": "string"}}});
//! request.tools = Arc::new(vec![Tool::Function(FunctionTool::new("weather", schema))]);
//!
//! let dialect = Dialect::for_model(&request.model);
//! rewrite(&mut request, dialect, true);
//! assert_eq!(dialect, Dialect::Coder);
//! assert!(request.tools.is_empty());
//! assert!(request.history[0].text().contains(r#""name":"weather""#));
//! ```
//!
//! The sentences are this crate's own; what is kept of the models' [templates] is their markup, its
//! order, and what they ask for. Tools that are not functions cannot be called in text and are left
//! out.
//!
//! [templates]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/tool-calls.md#f.2

use std::borrow::Cow;

use super::{history, markup::Dialect, schema::Toolset};
use crate::{
    chat::{
        ChatRequest, Content, FunctionTool, History, Json, Message, Messages, Part, PartKind, Role,
        Tool, ToolChoice,
    },
    json::{self, push_string},
};

impl Dialect {
    /// The dialect that the family of `model` was trained on: [`Hermes`](Dialect::Hermes) for
    /// versions below 3.5 that are no Qwen3 coders and for QwQ and QVQ, [`Coder`](Dialect::Coder)
    /// for everything else.
    ///
    /// Only the name is looked at, in any case and behind any prefix, as in
    /// `hf.co/Qwen/Qwen3-8B-GGUF`. A name without a version, such as `qwen-plus`, stands for
    /// whatever is current, so it gets the newer dialect.
    ///
    /// ```
    /// use tower_qwen::tool::Dialect;
    ///
    /// assert_eq!(Dialect::for_model("qwen3-coder-plus"), Dialect::Coder);
    /// assert_eq!(Dialect::for_model("qwen3-max"), Dialect::Hermes);
    /// assert_eq!(Dialect::for_model("Qwen/Qwen3.5-35B-A3B"), Dialect::Coder);
    /// ```
    #[must_use]
    pub fn for_model(model: &str) -> Self {
        let model = model.to_ascii_lowercase();
        match version(&model) {
            Some((0..=2, _)) => Self::Hermes,
            Some((3, 0..=4)) if !model.contains("coder") => Self::Hermes,
            None if model.contains("qwq") || model.contains("qvq") => Self::Hermes,
            _ => Self::Coder,
        }
    }
}

/// The version behind the last `qwen` in a lower-case model name that has one.
fn version(model: &str) -> Option<(u32, u32)> {
    model
        .match_indices("qwen")
        .filter_map(|(at, name)| {
            let rest = &model[at + name.len()..];
            let rest = rest.strip_prefix(['-', '_', ' ']).unwrap_or(rest);
            let (major, rest) = number(rest)?;
            // A longer number is a date or a count of parameters.
            if major >= 100 {
                return None;
            }
            let minor = rest.strip_prefix('.').and_then(number).map_or(0, |(minor, _)| minor);
            Some((major, minor))
        })
        .last()
}

fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// Whether the template of `model` lists functions as XML rather than as lines of JSON: that of
/// Qwen3-Coder alone does.
fn lists_xml(model: &str) -> bool {
    let model = model.to_ascii_lowercase();
    model.contains("coder") && matches!(version(&model), Some((3, 0..=4)))
}

/// Rewrites the request for an upstream that has no native tools.
///
/// Tool definitions go into the system text (only when `first_turn`), assistant calls and tool
/// results become text, `tool_choice` and `parallel_tool_calls` become a line behind the last
/// message; then `tools` is empty and both options are `None`. Every message has content
/// afterwards, if only an empty string; those that need no change stay shared. What the chat has
/// [`seen`](History::seen) and what is [`fresh`](History::fresh) are never merged.
///
/// `first_turn` says whether this request opens an upstream chat, or goes to an upstream that
/// keeps none. On such a turn the definitions join the first instruction of the history, in
/// whichever list that is, or make one in front of all messages
/// ([`History::insert_first`]). Nothing was seen then, as a rule, so they are fresh; where
/// something counts as seen by a chat that is not there yet, all of the history is sent. On a
/// later turn the chat holds the definitions, and nothing is put in front, unless the tools
/// [have changed](ChatRequest::tools_changed): then a system message in front of what is fresh
/// says which they are now.
///
/// The line is always fresh, since it is for this turn.
pub fn rewrite(request: &mut ChatRequest, dialect: Dialect, first_turn: bool) {
    let tools = Toolset::new(request.tools.clone());
    rewrite_with(request, &tools, dialect, first_turn);
}

/// What stands in front of the definitions, where a chat was told of others.
const OTHER_TOOLS: &str =
    "The tools have changed. From now on there are these, in place of all earlier ones:";

/// What such a chat is told where there are none any more.
const NO_TOOLS: &str = "The tools have changed. There are none any more, so call no tool.";

/// [`rewrite`], where `tools` are those of the request.
pub(super) fn rewrite_with(
    request: &mut ChatRequest,
    known: &Toolset,
    dialect: Dialect,
    first_turn: bool,
) {
    let tools = std::mem::take(&mut request.tools);
    let choice = request.tool_choice.take().unwrap_or_default();
    let parallel = request.parallel_tool_calls.take();
    let are_others = std::mem::take(&mut request.tools_changed) && !first_turn;
    let functions: Vec<&FunctionTool> = tools.iter().filter_map(Tool::as_function).collect();

    history::rewrite(&mut request.history, dialect, known);
    if are_others {
        let text = if functions.is_empty() {
            NO_TOOLS.to_owned()
        } else {
            format!("{OTHER_TOOLS}\n\n{}", definitions(&functions, dialect, &request.model))
        };
        request.history.fresh.insert(0, Message::new(Role::System, text));
    }
    if functions.is_empty() {
        return;
    }
    if first_turn {
        let tools_first = dialect == Dialect::Coder && !lists_xml(&request.model);
        let text = definitions(&functions, dialect, &request.model);
        add_to_system(&mut request.history, &text, tools_first);
    }
    if let Some(line) = choice_line(&choice, parallel) {
        add_line(&mut request.history.fresh, &line);
    }
}

/// Puts `text` before or behind the first instruction, or makes one of it.
fn add_to_system(history: &mut History, text: &str, before: bool) {
    let first = history.iter().position(|message| message.role.is_instruction());
    match first.and_then(|first| history.get_mut(first)) {
        Some(message) => match &mut message.content {
            Some(Content::Parts(parts)) if before => {
                parts.insert(0, Part::new(PartKind::Text(format!("{text}\n\n").into())));
            }
            Some(Content::Parts(parts)) => {
                parts.push(Part::new(PartKind::Text(format!("\n\n{text}").into())));
            }
            Some(Content::Text(own)) if !own.trim().is_empty() => {
                *own = if before { format!("{text}\n\n{own}") } else { format!("{own}\n\n{text}") }
                    .into();
            }
            content => *content = Some(Content::Text(text.into())),
        },
        None => history.insert_first(Message::new(Role::System, text)),
    }
}

/// Says `line` to the model, behind everything else.
fn add_line(messages: &mut Messages, line: &str) {
    // A message of results is told from a question by its first and last tag, so nothing is
    // added to it.
    let takes_it = |message: &Message| {
        message.role == Role::User
            && message.content.as_ref().is_some_and(|content| !history::is_results(content))
    };
    let last = if messages.last().is_some_and(|last| takes_it(last)) {
        messages.last_mut().and_then(|last| last.content.as_mut())
    } else {
        None
    };
    match last {
        Some(Content::Text(text)) => *text = format!("{text}\n\n{line}").into(),
        Some(Content::Parts(parts)) => {
            parts.push(Part::new(PartKind::Text(format!("\n\n{line}").into())));
        }
        None => messages.push(Message::new(Role::User, line)),
    }
}

/// What this turn's options ask for, where that is not the default.
fn choice_line(choice: &ToolChoice, parallel: Option<bool>) -> Option<String> {
    let single = parallel == Some(false);
    let how_many = if single { "exactly one" } else { "at least one" };
    if let Some(name) = choice.function() {
        let once = if single { ", exactly once" } else { "" };
        return Some(format!("Call the function {name} in this reply{once}, and no other."));
    }
    if let ToolChoice::Other(value) = choice
        && let Some((names, required)) = allowed(value)
    {
        let names = names.join(", ");
        let how_many = if required { how_many } else { "at most one" };
        return Some(match required || single {
            true => {
                format!("Call {how_many} function in this reply, and only out of these: {names}.")
            }
            false => format!("Call only functions out of these in this reply: {names}."),
        });
    }
    match choice {
        ToolChoice::None => Some("Do not call any function in this reply; answer in words.".into()),
        ToolChoice::Required => Some(format!("Call {how_many} function in this reply.")),
        _ => single.then(|| "Call at most one function in this reply.".into()),
    }
}

/// The names of an `allowed_tools` choice, and whether one of them must be called.
fn allowed(choice: &Json) -> Option<(Vec<Cow<'_, str>>, bool)> {
    let choice = choice.as_str();
    let is = |json: &str, word: &str| text_of(json).is_some_and(|text| text == word);
    if !is(field(choice, "type")?, "allowed_tools") {
        return None;
    }
    // Chat completions nest the fields, the responses API does not.
    let fields =
        field(choice, "allowed_tools").filter(|inner| inner.starts_with('{')).unwrap_or(choice);
    let names: Vec<Cow<'_, str>> = json::items(field(fields, "tools")?)
        .filter_map(|tool| text_of(field(field(tool, "function").unwrap_or(tool), "name")?))
        .collect();
    let required = field(fields, "mode").is_some_and(|mode| is(mode, "required"));
    (!names.is_empty()).then_some((names, required))
}

/// The value of a field, as it was written; of several the last.
fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    json::members(json).filter(|(own, _)| own == name).last().map(|(_, value)| value)
}

/// The text of a JSON string.
fn text_of(json: &str) -> Option<Cow<'_, str>> {
    json.starts_with('"').then(|| json::unquoted(json))
}

/// The system text that offers `functions` and says how to call them.
fn definitions(functions: &[&FunctionTool], dialect: Dialect, model: &str) -> String {
    let mut text = String::from("# Tools\n\n");
    let xml = dialect == Dialect::Coder && lists_xml(model);
    text.push_str(if xml {
        "You can call these functions:\n\n<tools>\n"
    } else {
        "You can call the functions below. Each line describes one, with the JSON Schema of its \
         arguments.\n\n<tools>\n"
    });
    for function in functions {
        if xml {
            push_xml(&mut text, function);
        } else {
            push_json(&mut text, function);
        }
        text.push('\n');
    }
    text.push_str("</tools>\n\n");
    text.push_str(match dialect {
        Dialect::Coder => CODER,
        Dialect::Hermes => HERMES,
        Dialect::Xml => XML,
    });
    text
}

// The first rule is there because the 30B coder leaves out the opening tag in one of five calls
// unless told (QwenLM/Qwen3-Coder#475).
const CODER: &str = "\
To call a function, write this and nothing after it:

<tool_call>
<function=name_of_the_function>
<parameter=name_of_a_parameter>
its value
</parameter>
<parameter=name_of_another_parameter>
a value may take
several lines
</parameter>
</function>
</tool_call>

<IMPORTANT>
- Every call begins with <tool_call>. The <function=...></function> block stands inside \
<tool_call></tool_call>; never leave either of the two out.
- Give every required parameter. Write strings as they are, without quotes or escapes, and every \
other value as JSON.
- You may explain a call in words before it, never after it. Several calls follow one another, \
each in its own <tool_call></tool_call>.
- If no function fits, answer as usual and do not mention the functions.
</IMPORTANT>";

const HERMES: &str = "\
For each function call, write a JSON object with the function's name and its arguments inside \
<tool_call></tool_call>:

<tool_call>
{\"name\": <name-of-the-function>, \"arguments\": <object-with-the-arguments>}
</tool_call>

You may explain a call in words before it, never after it. If no function fits, answer as usual \
and do not mention the functions.";

const XML: &str = "\
To call a function, write its name as a tag, with a tag for each parameter inside:

<name_of_the_function>
<name_of_a_parameter>its value</name_of_a_parameter>
<name_of_another_parameter>
a value may take
several lines
</name_of_another_parameter>
</name_of_the_function>

Give every required parameter. Write strings as they are, without quotes or escapes, and every \
other value as JSON. You may explain a call in words before it, never after it. If no function \
fits, answer as usual and do not mention the functions.";

/// One function as a line of JSON, as the templates of all but Qwen3-Coder show it.
///
/// What the client wrote as JSON stands there as it was written, without the white space between
/// its tokens: a schema in its own order is what the model gets from other servers, too.
fn push_json(text: &mut String, function: &FunctionTool) {
    text.push_str(r#"{"type":"function","function":{"name":"#);
    push_string(text, &function.name);
    if let Some(description) = &function.description {
        text.push_str(r#","description":"#);
        push_string(text, description);
    }
    text.push_str(r#","parameters":"#);
    match &function.parameters {
        Some(schema) => text.push_str(&json::compact(schema.as_str())),
        None => text.push_str(r#"{"type":"object","properties":{}}"#),
    }
    if let Some(strict) = function.strict {
        text.push_str(if strict { r#","strict":true"# } else { r#","strict":false"# });
    }
    for (name, value) in function.extra.raw_fields() {
        text.push(',');
        push_string(text, &name);
        text.push(':');
        text.push_str(&json::compact(value));
    }
    text.push_str("}}");
}

/// One function as tags, as Qwen3-Coder's template shows it: the keys that the template names
/// first, every other key of the schema behind them as a tag of its own, in the client's order.
fn push_xml(text: &mut String, function: &FunctionTool) {
    text.push_str("<function>");
    push_tag(text, "name", &function.name);
    if let Some(description) = &function.description {
        push_tag(text, "description", description.trim());
    }
    text.push_str("\n<parameters>");
    if let Some(schema) = &function.parameters {
        let schema = schema.as_str();
        let properties = field(schema, "properties").unwrap_or_default();
        for (name, property) in json::members(properties) {
            text.push_str("\n<parameter>");
            push_tag(text, "name", &name);
            if property.starts_with('{') {
                for key in ["type", "description"] {
                    if let Some(value) = field(property, key) {
                        push_value(text, key, value);
                    }
                }
                for (key, value) in json::members(property) {
                    if !matches!(&*key, "type" | "description" | "name") {
                        push_value(text, &key, value);
                    }
                }
                // Would be taken for the parameter's own name.
                if let Some(value) = field(property, "name") {
                    push_value(text, "schema_name", value);
                }
            } else {
                // `true` and `false` are schemas, too.
                push_value(text, "schema", property);
            }
            text.push_str("\n</parameter>");
        }
        for (key, value) in json::members(schema) {
            let is_said = match &*key {
                "type" => text_of(value).is_some_and(|word| word == "object"),
                "properties" => value.starts_with('{'),
                _ => false,
            };
            if !is_said {
                push_value(text, &key, value);
            }
        }
    }
    text.push_str("\n</parameters>");
    if let Some(strict) = function.strict {
        push_tag(text, "strict", if strict { "true" } else { "false" });
    }
    for (key, value) in function.extra.raw_fields() {
        push_value(text, &key, value);
    }
    text.push_str("\n</function>");
}

/// A JSON value as a tag: the text of a string, anything else as it was written.
fn push_value(text: &mut String, tag: &str, value: &str) {
    push_tag(text, tag, &text_of(value).unwrap_or_else(|| json::compact(value)));
}

fn push_tag(text: &mut String, tag: &str, value: &str) {
    text.extend(["\n<", tag, ">", value, "</", tag, ">"]);
}

//! The request as DashScope's Responses API reads it.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};

use crate::{
    Text,
    chat::{
        AnswerKind, ChatRequest, Content, FunctionTool, Message, Part, PartKind, ReasoningEffort,
        ReasoningOptions, ResponseFormat, Role, Tool, ToolCall, ToolChoice, UploadedFile,
    },
    family::always_thinks,
    qwen::{
        compatible::{
            Overrides, answered, arguments_object, arranged, never_thinks,
            write::{Object, Sink, Size, list_into},
        },
        effort::Effort,
    },
};

/// What is said of a result whose call is not in the history: upstream takes none without it.
const LOST_CALL: &str = "Result of an earlier tool call:";

/// Fields of [`ChatRequest::extra`] that are for chat completions alone, or that are told in another
/// way here.
const NOT_PASSED: [&str; 7] = [
    "chat_template_kwargs",
    "stream_options",
    "web_search_options",
    "enable_search",
    "search_options",
    "enable_thinking",
    "thinking_budget",
];

/// Writes the body of `POST /responses`; `previous` is the answer to go on from.
///
/// It always asks for a stream, and for the answer to be kept.
pub(super) fn body(request: &ChatRequest, overrides: &Overrides, previous: Option<&str>) -> Bytes {
    let answered = answered(&request.history);
    let goes_on = previous.is_some();
    let arranged = match &answered {
        Some(messages) => arranged(messages.iter().map(|message| &**message), goes_on),
        None => arranged(request.history.iter(), goes_on),
    };
    let messages: Vec<&Message> = match arranged.as_ref().or(answered.as_ref()) {
        Some(messages) => messages.iter().map(|message| &**message).collect(),
        None => request.history.iter().collect(),
    };
    let items = items(&messages, goes_on);
    let effort = effort(request, overrides);
    let mut size = Size(0);
    body_into(&mut size, request, &items, previous, effort);
    let mut out = BytesMut::with_capacity(size.0);
    body_into(&mut out, request, &items, previous, effort);
    debug_assert_eq!(out.len(), size.0);
    out.freeze()
}

/// The effort that upstream is told, in its own words.
pub(super) fn effort(request: &ChatRequest, overrides: &Overrides) -> Effort<'static> {
    /// Up to which budget an effort is the one that comes next to it.
    const BUDGETS: [(i64, &str); 2] = [(1_024, "low"), (8_192, "medium")];

    let ReasoningOptions { effort, budget, .. } = &request.reasoning;
    let Some(wanted) = request.reasoning.wanted() else { return Effort::Default };
    if never_thinks(&request.model) || !wanted && always_thinks(&request.model) {
        return Effort::Default;
    }
    if !wanted {
        return Effort::Off;
    }
    let of_budget = |budget: i64| {
        let next = BUDGETS.iter().find(|(most, _)| (1..=*most).contains(&budget));
        next.map_or("high", |(_, word)| word)
    };
    match effort.as_ref().map(|effort| overrides.effort(effort)) {
        Some(ReasoningEffort::Minimal) => Effort::Word("minimal"),
        Some(ReasoningEffort::Low) => Effort::Word("low"),
        Some(ReasoningEffort::Medium) => Effort::Word("medium"),
        Some(ReasoningEffort::High | ReasoningEffort::XHigh | ReasoningEffort::Max) => {
            Effort::Word("high")
        }
        Some(ReasoningEffort::Other(_)) => Effort::Default,
        Some(ReasoningEffort::None) | None => Effort::Word(budget.map_or("high", of_budget)),
    }
}

/// An item of the input.
enum Item<'a> {
    Message(&'a Message),
    Thinking(&'a Text),
    Call(&'a ToolCall),
    Result(&'a Message),
    /// A result whose call is not there.
    Lost(&'a Message),
}

/// The items in the order that upstream insists on: the result of a call right behind it. Of an
/// answer that is gone on from the calls are there already, so results may come first.
fn items<'a>(messages: &[&'a Message], goes_on: bool) -> Vec<Item<'a>> {
    let mut items = Vec::with_capacity(messages.len());
    let is_result = |message: &Message| message.role == Role::Tool;
    let mut at = 0;
    let mut is_behind_answer = goes_on;
    while let Some(&message) = messages.get(at) {
        at += 1;
        if is_result(message) {
            items.push(if is_behind_answer { Item::Result(message) } else { Item::Lost(message) });
            continue;
        }
        is_behind_answer = false;
        items.extend(message.reasoning.as_ref().map(Item::Thinking));
        if message.content.is_some() || message.tool_calls.is_empty() {
            items.push(Item::Message(message));
        }
        if message.tool_calls.is_empty() {
            continue;
        }
        let results = messages[at..].iter().take_while(|next| is_result(next)).count();
        let mut by_call: HashMap<&str, &Message> = HashMap::new();
        let mut lost = Vec::new();
        for &result in &messages[at..at + results] {
            let id = result.tool_call_id.as_deref().unwrap_or_default();
            let is_called = message.tool_calls.iter().any(|call| call.id == id);
            if !is_called || by_call.contains_key(id) {
                lost.push(Item::Lost(result));
            } else {
                by_call.insert(id, result);
            }
        }
        at += results;
        for call in &message.tool_calls {
            items.push(Item::Call(call));
            items.extend(by_call.remove(call.id.as_str()).map(Item::Result));
        }
        items.append(&mut lost);
    }
    items
}

fn body_into<W: Sink>(
    out: &mut W,
    request: &ChatRequest,
    items: &[Item<'_>],
    previous: Option<&str>,
    effort: Effort<'_>,
) {
    let mut object = Object::open(out);
    object.text("model", &request.model);
    if let Some(previous) = previous {
        object.text("previous_response_id", previous);
    }
    object.with("input", |out| list_into(out, items.iter(), item_into));
    object.value("stream", &true);
    object.value("store", &true);
    let searches = searches(request);
    if searches || !request.tools.is_empty() {
        object.with("tools", |out| {
            let search = searches.then_some(None);
            list_into(out, request.tools.iter().map(Some).chain(search), tool_into);
        });
    }
    if let Some(choice) = &request.tool_choice {
        object.with("tool_choice", |out| tool_choice_into(out, choice));
    }
    object.some("parallel_tool_calls", request.parallel_tool_calls.as_ref());
    if let Some(format) = &request.response_format {
        object.with("text", |out| {
            let mut text = Object::open(out);
            text.with("format", |out| format_into(out, format));
            text.close();
        });
    }
    let sampling = &request.sampling;
    let limit = sampling.token_limit().filter(|limit| *limit >= 0);
    object.some("max_output_tokens", limit.as_ref());
    object.some("temperature", sampling.temperature.as_ref());
    object.some("top_p", sampling.top_p.as_ref());
    object.some("user", request.user.as_ref());
    let effort = match effort {
        Effort::Off => Some("none"),
        Effort::Word(word) => Some(word),
        Effort::Default | Effort::On | Effort::Budget(_) => None,
    };
    if let Some(effort) = effort {
        object.with("reasoning", |out| {
            let mut reasoning = Object::open(out);
            reasoning.text("effort", effort);
            reasoning.close();
        });
    }
    object.extra(&request.extra, &NOT_PASSED);
    object.close();
}

/// Whether a search of the web is asked for, in the words of chat completions.
fn searches(request: &ChatRequest) -> bool {
    let is = |name: &str, value: &str| {
        request.extra.get(name).is_some_and(|json| json.as_str() == value)
    };
    request.kind == AnswerKind::Search
        || is("enable_search", "true")
        || request.extra.contains("web_search_options")
}

fn item_into<W: Sink>(out: &mut W, item: &Item<'_>) {
    let mut object = Object::open(out);
    match *item {
        Item::Message(message) => message_into(&mut object, message),
        // Upstream refuses thinking without a summary, and so every later turn.
        Item::Thinking(thinking) => {
            object.text("type", "reasoning");
            object.with("summary", |out| {
                list_into(out, [thinking].into_iter(), |out, thinking| {
                    text_into(out, "summary_text", thinking);
                });
            });
        }
        Item::Call(call) => {
            object.text("type", "function_call");
            object.text("call_id", &call.id);
            object.text("name", &call.name);
            object.text("arguments", &arguments_object(&call.arguments));
        }
        Item::Result(message) => {
            object.text("type", "function_call_output");
            object.text("call_id", message.tool_call_id.as_deref().unwrap_or_default());
            object.text("output", &message.text());
        }
        Item::Lost(message) => {
            object.text("type", "message");
            object.text("role", "user");
            object.text("content", &format!("{LOST_CALL}\n{}", message.text()));
        }
    }
    object.close();
}

fn message_into<W: Sink>(object: &mut Object<'_, W>, message: &Message) {
    let role = match message.role {
        Role::Developer => "system",
        Role::Tool | Role::Function => "user",
        role => role.as_str(),
    };
    object.text("type", "message");
    object.text("role", role);
    object.with("content", |out| match &message.content {
        None => out.string(""),
        Some(content) if message.role == Role::Assistant => {
            let text = content.text();
            list_into(out, [&text].into_iter(), |out, text| text_into(out, "output_text", text));
        }
        Some(Content::Text(text)) => out.string(text),
        Some(Content::Parts(parts)) => list_into(out, parts.iter(), part_into),
    });
}

fn text_into<W: Sink>(out: &mut W, kind: &str, text: &str) {
    let mut object = Object::open(out);
    object.text("type", kind);
    object.text("text", text);
    object.close();
}

fn part_into<W: Sink>(out: &mut W, part: &Part) {
    let mut object = Object::open(out);
    match &part.kind {
        PartKind::Image { url, detail } => {
            object.text("type", "input_image");
            object.text("image_url", url);
            object.some("detail", detail.as_ref());
        }
        PartKind::File { id, data, name } => {
            object.text("type", "input_file");
            object.some("file_id", id.as_ref());
            let is_address = data.as_deref().is_some_and(|data| data.starts_with("http"));
            object.some(if is_address { "file_url" } else { "file_data" }, data.as_ref());
            object.some("filename", name.as_ref());
        }
        PartKind::Audio { data, format } => {
            object.text("type", "input_audio");
            object.with("input_audio", |out| {
                let mut audio = Object::open(out);
                audio.text("data", data);
                audio.some("format", format.as_ref());
                audio.close();
            });
        }
        PartKind::Video { url } => {
            object.text("type", "input_video");
            object.text("video_url", url);
        }
        PartKind::Text(text)
        | PartKind::Refusal(text)
        | PartKind::ToolReference { name: text }
        // An address is all that there is of it here.
        | PartKind::Uploaded(UploadedFile { url: text, .. }) => {
            object.text("type", "input_text");
            object.text("text", text);
        }
        PartKind::Other(whole) => object.extra(whole, &[]),
    }
    object.close();
}

/// Writes a tool; `None` is the upstream's own search.
fn tool_into<W: Sink>(out: &mut W, tool: Option<&Tool>) {
    match tool {
        None => {
            let mut object = Object::open(out);
            object.text("type", "web_search");
            object.close();
        }
        Some(Tool::Other(whole)) => out.json(whole.as_str().as_bytes()),
        Some(Tool::Function(FunctionTool { name, description, parameters, strict, .. })) => {
            let mut object = Object::open(out);
            object.text("type", "function");
            object.text("name", name);
            object.some("description", description.as_ref());
            object.json("parameters", parameters.as_ref());
            object.some("strict", strict.as_ref());
            object.close();
        }
    }
}

fn tool_choice_into<W: Sink>(out: &mut W, choice: &ToolChoice) {
    match choice {
        ToolChoice::Auto => out.string("auto"),
        ToolChoice::None => out.string("none"),
        ToolChoice::Required => out.string("required"),
        ToolChoice::Function(name) => {
            let mut object = Object::open(out);
            object.text("type", "function");
            object.text("name", name);
            object.close();
        }
        ToolChoice::Other(whole) => out.json(whole.as_str().as_bytes()),
    }
}

/// The format, whose schema is flat here.
fn format_into<W: Sink>(out: &mut W, format: &ResponseFormat) {
    let mut object = Object::open(out);
    match format {
        ResponseFormat::Text => object.text("type", "text"),
        ResponseFormat::JsonObject => object.text("type", "json_object"),
        ResponseFormat::JsonSchema(schema) => {
            object.text("type", "json_schema");
            if let Some(fields) = schema.as_fields() {
                object.extra(&fields, &["type"]);
            }
        }
        ResponseFormat::Other(whole) => {
            if let Some(fields) = whole.as_fields() {
                object.extra(&fields, &[]);
            }
        }
    }
    object.close();
}

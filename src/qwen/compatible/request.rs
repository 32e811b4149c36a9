//! The request as an OpenAI-compatible server reads it.

mod answered;
mod arguments;
mod arranged;
mod search;

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use self::search::{Search, WEB_SEARCH, is_search};
pub(in crate::qwen) use self::{
    answered::answered, arguments::object as arguments_object, arranged::arranged,
};
use super::{
    config::Overrides,
    schema::without_refused,
    server::Server,
    thinking::{Thinking, told},
    write::{Object, Sink, Size, list_into},
};
use crate::{
    Text,
    chat::{
        ChatRequest, Content, Extra, FunctionTool, Json, Message, Part, PartKind, ReasoningEffort,
        ResponseFormat, Role, Tool, ToolCall, ToolChoice,
    },
};

/// What asks a model to read what it thought in earlier turns.
const PRESERVE: &str = "preserve_thinking";

/// What tells a template how hard to think.
const EFFORT: &str = "reasoning_effort";

/// Writes the body of `POST /chat/completions`.
///
/// It asks for a stream with usage, unless a stream has failed already: the middle of the stack
/// streams, and that also avoids what DashScope refuses or cuts in whole answers. Unknown fields, schemas and other forms
/// go out as they came, byte for byte.
///
/// The body is measured before it is written, so that it is allocated once and at its size: of
/// a long history there is one copy, however many escapes it needs.
pub(super) fn body(request: &ChatRequest, overrides: &Overrides, server: Server) -> Bytes {
    let model = server.model_name(&request.model);
    let thinking = thinking(request, overrides, server);
    let preserves = server.preserves_thinking(model)
        && request.history.iter().any(|message| message.reasoning.is_some());
    let answered = answered(&request.history);
    let arranged = server.wants_one_instruction(model).then(|| match &answered {
        Some(messages) => arranged(messages.iter().map(|message| &**message), false),
        None => arranged(request.history.iter(), false),
    });
    let arranged = arranged.flatten();
    let messages = arranged.as_deref().or(answered.as_deref()).unwrap_or_default();
    let mut size = Size(0);
    let thinking = (&thinking, preserves);
    body_into(&mut size, request, messages, thinking, overrides, server);
    let mut out = BytesMut::with_capacity(size.0);
    body_into(&mut out, request, messages, thinking, overrides, server);
    debug_assert_eq!(out.len(), size.0);
    out.freeze()
}

/// How much the upstream's model is told to think.
pub(super) fn thinking(request: &ChatRequest, overrides: &Overrides, server: Server) -> Thinking {
    let model = server.model_name(&request.model);
    let mut options = request.reasoning.clone();
    options.effort = options.effort.map(|effort| overrides.effort(&effort).clone());
    let mut thinking = Thinking::new(server, &options, model);
    // There must be room for the answer behind the thoughts.
    if let Some(most) = token_limit(request.sampling.token_limit(), model, overrides, server)
        && most > 0
    {
        thinking.budget = thinking.budget.map(|budget| budget.min((most - 1).max(1)));
    }
    thinking
}

/// How many tokens are asked for where a client wants so many. What is below 0 asks for no number,
/// and is left to the server.
fn token_limit(
    wanted: Option<i64>,
    model: &str,
    overrides: &Overrides,
    server: Server,
) -> Option<i64> {
    let limit = overrides
        .max_tokens(model, server)
        .map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    wanted.map(|wanted| wanted.min(limit))
}

/// Writes `arranged` in place of the history, unless it is empty.
fn body_into<W: Sink>(
    out: &mut W,
    request: &ChatRequest,
    arranged: &[Cow<'_, Message>],
    (thinking, preserves): (&Thinking, bool),
    overrides: &Overrides,
    server: Server,
) {
    let model = server.model_name(&request.model);
    let mut object = Object::open(out);

    object.text("model", model);
    object.with("messages", |out| match arranged {
        [] => messages_into(out, request.history.iter(), server),
        arranged => messages_into(out, arranged.iter().map(|message| &**message), server),
    });
    object.value("stream", &!request.is_whole);
    if !request.is_whole {
        object.with("stream_options", |out| {
            let mut options = Object::open(out);
            options.value("include_usage", &true);
            if let Some(others) = object_in(&request.extra, "stream_options") {
                options.extra(&others, &["include_usage"]);
            }
            options.close();
        });
    }
    let search = Search::of(request, server);
    let tools = request.tools.iter().filter(|tool| !(search.is_ours() && is_search(tool)));
    // An empty list made the portal's model call tools at random.
    if tools.clone().next().is_some() {
        object.with("tools", |out| {
            list_into(out, tools.clone(), |out, tool| tool_into(out, tool, server));
        });
    }
    // Without tools too: the server says itself what it makes of that.
    if let Some(choice) = &request.tool_choice {
        object.with("tool_choice", |out| tool_choice_into(out, choice));
    }
    object.some("parallel_tool_calls", request.parallel_tool_calls.as_ref());
    if let Some(format) = &request.response_format {
        object.with("response_format", |out| response_format_into(out, format));
    }

    let sampling = &request.sampling;
    let within = |wanted| token_limit(wanted, model, overrides, server);
    if server.takes_max_completion_tokens() {
        object.some("max_completion_tokens", within(sampling.max_completion_tokens).as_ref());
        object.some("max_tokens", within(sampling.max_tokens).as_ref());
    } else {
        object.some("max_tokens", within(sampling.token_limit()).as_ref());
    }
    object.some("temperature", sampling.temperature.as_ref());
    object.some("top_p", sampling.top_p.as_ref());
    object.some("top_k", sampling.top_k.as_ref());
    object.some("presence_penalty", sampling.presence_penalty.as_ref());
    object.some("frequency_penalty", sampling.frequency_penalty.as_ref());
    object.some("repetition_penalty", sampling.repetition_penalty.as_ref());
    object.some("seed", sampling.seed.as_ref());
    if !sampling.stop.is_empty() {
        object.value("stop", &sampling.stop);
    }
    object.some("user", request.user.as_ref());

    let Thinking { enable_thinking, budget, effort, template } = thinking;
    object.some("enable_thinking", enable_thinking.as_ref());
    object.some("thinking_budget", budget.as_ref());
    object.some("reasoning_effort", effort.as_ref().map(|effort| effort.as_str()).as_ref());
    let kwargs = object_in(&request.extra, "chat_template_kwargs");
    // Who says it itself has its way.
    let has = |extra: &Extra| extra.get(PRESERVE).is_some();
    let preserves = preserves && !has(&request.extra) && !kwargs.as_ref().is_some_and(has);
    let in_template = server.has_template();
    object.some(PRESERVE, (preserves && !in_template).then_some(&true));
    if template.is_some() || kwargs.is_some() || preserves && in_template {
        object.with("chat_template_kwargs", |out| {
            let mut object = Object::open(out);
            object.some("enable_thinking", template.as_ref());
            object.some(PRESERVE, (preserves && in_template).then_some(&true));
            if let Some(kwargs) = &kwargs {
                // The template raises on a word that it does not know, wherever it stands.
                let known = kwargs.get(EFFORT).and_then(|effort| {
                    let effort = ReasoningEffort::from(Text::from(&*effort.as_string()?));
                    let told = in_template.then(|| told(&request.model, &effort))?;
                    told.filter(|told| *told != effort)
                });
                object.some(EFFORT, known.as_ref().map(|effort| effort.as_str()).as_ref());
                let own: &[&str] = match (template.is_some(), known.is_some()) {
                    (true, true) => &["enable_thinking", EFFORT],
                    (true, false) => &["enable_thinking"],
                    (false, true) => &[EFFORT],
                    (false, false) => &[],
                };
                object.extra(kwargs, own);
            }
            object.close();
        });
    }
    search.into_object(&mut object, &request.extra);
    let told: &[&str] = match search.is_ours() {
        true => &["chat_template_kwargs", "stream_options", WEB_SEARCH],
        false => &["chat_template_kwargs", "stream_options"],
    };
    object.extra(&request.extra, told);
    object.close();
}

/// The fields of the object that the field `name` is.
fn object_in(extra: &Extra, name: &str) -> Option<Extra> {
    extra.get(name).as_ref().and_then(Json::as_fields)
}

fn messages_into<'a, W: Sink>(
    out: &mut W,
    messages: impl Iterator<Item = &'a Message> + Clone,
    server: Server,
) {
    if server != Server::Portal {
        return list_into(out, messages, |out, message| message_into(out, message, server));
    }
    // The portal wants a system message, its text as parts, and no two messages of one role in a
    // row unless they call tools or answer a call.
    let introduction = (!messages.clone().any(|message| message.role.is_instruction()))
        .then(|| Message::new(Role::System, "You are a helpful assistant."));
    let mut all: Vec<&Message> = introduction.iter().collect();
    for message in messages {
        all.push(message);
    }
    let groups = all.chunk_by(|last, next| can_merge(last, next));
    list_into(out, groups, |out, group| match group {
        [alone] => message_into(out, alone, server),
        several => {
            let texts: Vec<Text> = several.iter().map(|message| message.text()).collect();
            message_into(out, &Message::new(several[0].role, texts.join("\n\n")), server);
        }
    });
}

fn can_merge(last: &Message, next: &Message) -> bool {
    let plain = |message: &Message| {
        message.tool_calls.is_empty()
            && message.tool_call_id.is_none()
            && message.name.is_none()
            && message.reasoning.is_none()
            && message.extra.is_empty()
            && message.content.as_ref().is_none_or(|content| content.media().next().is_none())
    };
    wire_role(last.role) == wire_role(next.role)
        && matches!(next.role, Role::User | Role::Assistant | Role::System | Role::Developer)
        && plain(last)
        && plain(next)
}

/// None of these servers knows `developer`; all of them know what it means.
fn wire_role(role: Role) -> &'static str {
    match role {
        Role::Developer => "system",
        other => other.as_str(),
    }
}

fn message_into<W: Sink>(out: &mut W, message: &Message, server: Server) {
    let mut object = Object::open(out);
    object.text("role", wire_role(message.role));
    object.with("content", |out| match &message.content {
        None => out.json(if message.tool_calls.is_empty() { b"\"\"" } else { b"null" }),
        Some(content) if server == Server::Portal && message.role.is_instruction() => {
            instruction_into(out, content);
        }
        Some(Content::Text(text)) => out.string(text),
        Some(content @ Content::Parts(parts)) => {
            let text_alone = content.media().next().is_none();
            if text_alone && server == Server::Portal {
                out.string(&content.text());
            } else {
                list_into(out, parts.iter(), |out, part| part_into(out, part, server));
            }
        }
    });
    if let Some(name) = &message.name {
        object.text("name", name);
    }
    if let Some(reasoning) = &message.reasoning {
        for name in server.reasoning_names() {
            object.text(name, reasoning);
        }
    }
    if !message.tool_calls.is_empty() {
        object.with("tool_calls", |out| list_into(out, message.tool_calls.iter(), call_into));
    }
    if let Some(id) = &message.tool_call_id {
        object.text("tool_call_id", id);
    }
    object.extra(&message.extra, &[]);
    object.close();
}

/// Writes the content of a system message for the portal: as parts, of which the last ends what
/// is worth keeping, unless the client has said so of one itself.
fn instruction_into<W: Sink>(out: &mut W, content: &Content) {
    let text;
    let parts = match content {
        Content::Text(only) => {
            text = [Part::new(PartKind::Text(only.clone()))];
            &text
        }
        Content::Parts(parts) => parts.as_slice(),
    };
    let is_marked = |part: &Part| match &part.kind {
        PartKind::Other(whole) => whole.contains("cache_control"),
        _ => part.cache_control.is_some(),
    };
    let part = |out: &mut W, part: &Part| part_into(out, part, Server::Portal);
    match parts.split_last() {
        Some((last, others)) if !parts.iter().any(is_marked) => {
            let mut last = last.clone();
            last.cache_control = Some(Json::from(serde_json::json!({"type": "ephemeral"})));
            list_into(out, others.iter().chain([&last]), part);
        }
        _ => list_into(out, parts.iter(), part),
    }
}

fn call_into<W: Sink>(out: &mut W, call: &ToolCall) {
    let mut object = Object::open(out);
    object.text("id", &call.id);
    object.text("type", "function");
    object.with("function", |out| {
        let mut function = Object::open(out);
        function.text("name", &call.name);
        function.text("arguments", &arguments_object(&call.arguments));
        function.extra(&call.inner_extra, &[]);
        function.close();
    });
    object.extra(&call.extra, &[]);
    object.close();
}

/// Whether it is the URL of something, in whatever place.
fn is_url(data: &str) -> bool {
    has_scheme(data, "data:") || is_web_url(data)
}

/// Whether it is the URL of something elsewhere.
fn is_web_url(data: &str) -> bool {
    has_scheme(data, "https:") || has_scheme(data, "http:")
}

fn has_scheme(url: &str, scheme: &str) -> bool {
    url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

fn part_into<W: Sink>(out: &mut W, part: &Part, server: Server) {
    let mut object = Object::open(out);
    let mut kind = |kind: &str| object.text("type", kind);
    match &part.kind {
        PartKind::Text(text) => {
            kind("text");
            object.text("text", text);
        }
        PartKind::Refusal(text) => {
            kind("refusal");
            object.text("refusal", text);
        }
        PartKind::Image { url, detail } => {
            kind("image_url");
            object.with("image_url", |out| {
                let mut image = Object::open(out);
                image.text("url", url);
                image.some("detail", detail.as_ref());
                image.extra(&part.inner_extra, &[]);
                image.close();
            });
        }
        // As it was asked: OpenAI's own form says what its base64 is, the other one is a URL.
        PartKind::Audio { data, format: None } if is_url(data) && server != Server::DashScope => {
            kind("audio_url");
            object.with("audio_url", |out| {
                let mut audio = Object::open(out);
                audio.text("url", data);
                audio.extra(&part.inner_extra, &[]);
                audio.close();
            });
        }
        PartKind::File { id: None, data: Some(data), name: None } if is_web_url(data) => {
            kind("file_url");
            object.with("file_url", |out| {
                let mut file = Object::open(out);
                file.text("url", data);
                file.extra(&part.inner_extra, &[]);
                file.close();
            });
        }
        PartKind::Audio { data, format } => {
            kind("input_audio");
            object.with("input_audio", |out| {
                let mut audio = Object::open(out);
                // DashScope takes a URL there, and so base64 in one, whose type it does not look at.
                if server == Server::DashScope && !is_url(data) {
                    audio.text("data", &format!("data:;base64,{data}"));
                } else {
                    audio.text("data", data);
                }
                audio.some("format", format.as_ref());
                audio.extra(&part.inner_extra, &[]);
                audio.close();
            });
        }
        PartKind::File { id, data, name } => {
            kind("file");
            object.with("file", |out| {
                let mut file = Object::open(out);
                file.some("file_id", id.as_ref());
                file.some("file_data", data.as_ref());
                file.some("filename", name.as_ref());
                file.extra(&part.inner_extra, &[]);
                file.close();
            });
        }
        PartKind::Video { url } => {
            kind("video_url");
            object.with("video_url", |out| {
                let mut video = Object::open(out);
                video.text("url", url);
                video.extra(&part.inner_extra, &[]);
                video.close();
            });
        }
        // These servers know no search among tools; the model reads the name.
        PartKind::ToolReference { name } => {
            kind("text");
            object.text("text", name);
        }
        // An address is all that there is of it here.
        PartKind::Uploaded(file) => {
            kind("text");
            object.text("text", &file.url);
        }
        PartKind::Other(whole) => object.extra(whole, &[]),
    }
    object.json("cache_control", part.cache_control.as_ref());
    object.extra(&part.extra, &[]);
    object.close();
}

fn tool_into<W: Sink>(out: &mut W, tool: &Tool, server: Server) {
    match tool {
        Tool::Other(whole) => out.json(whole.as_str().as_bytes()),
        Tool::Function(function) => {
            let mut object = Object::open(out);
            object.text("type", "function");
            object.with("function", |out| function_into(out, function, server));
            object.json("cache_control", function.cache_control.as_ref());
            object.extra(&function.outer_extra, &[]);
            object.close();
        }
    }
}

fn function_into<W: Sink>(out: &mut W, function: &FunctionTool, server: Server) {
    let mut object = Object::open(out);
    object.text("name", &function.name);
    object.some("description", function.description.as_ref());
    match &function.parameters {
        Some(schema) if server == Server::Portal => object.with("parameters", |out| {
            without_refused(schema.as_str(), |piece| out.json(piece.as_bytes()));
        }),
        schema => object.json("parameters", schema.as_ref()),
    }
    object.some("strict", function.strict.as_ref());
    object.extra(&function.extra, &[]);
    object.close();
}

fn tool_choice_into<W: Sink>(out: &mut W, choice: &ToolChoice) {
    match choice {
        ToolChoice::Auto => out.string("auto"),
        ToolChoice::None => out.string("none"),
        ToolChoice::Required => out.string("required"),
        ToolChoice::Function(name) => {
            let mut object = Object::open(out);
            object.text("type", "function");
            object.with("function", |out| {
                let mut function = Object::open(out);
                function.text("name", name);
                function.close();
            });
            object.close();
        }
        ToolChoice::Other(whole) => out.json(whole.as_str().as_bytes()),
    }
}

fn response_format_into<W: Sink>(out: &mut W, format: &ResponseFormat) {
    if let ResponseFormat::Other(whole) = format {
        return out.json(whole.as_str().as_bytes());
    }
    let mut object = Object::open(out);
    match format {
        ResponseFormat::Text => object.text("type", "text"),
        ResponseFormat::JsonObject => object.text("type", "json_object"),
        ResponseFormat::JsonSchema(schema) => {
            object.text("type", "json_schema");
            object.json("json_schema", Some(schema));
        }
        ResponseFormat::Other(_) => {}
    }
    object.close();
}

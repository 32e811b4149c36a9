//! `POST /api/v2/chat/completions`.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use crate::json::{Value, json};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use uuid::Uuid;

use super::{
    answer::{Question, UNICODE},
    body::{Body, Step},
    builder::{DAY, Style, UnknownParent},
    directive::Directives,
    envelope::{
        CHALLENGE_HTML, CHALLENGE_REDIRECT, Refusal, challenge_json, json_with, mean, success,
        with_type,
    },
    files,
    generation::Generation,
    kind::Kind,
    media::{Film, Pictures, film},
    oauth,
    prompt::{Turn, last_turn, sections},
    script::{Answer, Ending, Script, Wire},
    service::Reply,
    state::{MessageRecord, Shared},
};

/// What a request of the right shape asks for.
struct Ask {
    chat_id: String,
    parent_id: Option<String>,
    model: String,
    role: String,
    content: String,
    files: usize,
    /// The entries of those that were uploaded.
    entries: Vec<Value>,
    /// Whether a second message came along, which the API of 2026 does not answer.
    pair: bool,
    stream: bool,
    cumulative: bool,
    phases: bool,
    thinking: Option<Thinking>,
    chat_type: String,
    /// The shape of a picture or a film.
    size: String,
    account: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Thinking {
    Summary,
    Raw,
    Empty,
}

/// The value of a field of a query.
pub(super) fn query(query: Option<&str>, field: &str) -> Option<String> {
    let value = oauth::form(query?.as_bytes()).remove(field)?;
    (!value.is_empty()).then_some(value)
}

impl Ask {
    /// Reads the request as the real server does: field by field, with its own messages.
    fn read(query_string: Option<&str>, body: &Bytes) -> Result<Self, Refusal> {
        let required =
            |field: &str| Refusal::validation(&format!("Field '{field}': Field required"));
        let Some(chat_id) = query(query_string, "chat_id") else {
            return Err(required("query -> chat_id"));
        };
        let Ok(request @ Value::Object(_)) = serde_json::from_slice::<Value>(body) else {
            return Err(Refusal::validation("Field 'body': JSON decode error"));
        };
        match request["chat_id"].as_str() {
            None | Some("") => return Err(required("chat_id")),
            Some(id) if id != chat_id => return Err(Refusal::chat_not_found(id)),
            Some(_) => {}
        }
        let model = request["model"].as_str().ok_or_else(|| required("model"))?;
        let messages = request["messages"].as_array().ok_or_else(|| required("messages"))?;
        if messages.len() > 2 {
            return Err(Refusal::new(400, "Bad_Request", "Invalid input too many messages."));
        }
        let message = messages.last().ok_or_else(|| required("messages"))?;
        let role = message["role"].as_str().ok_or_else(|| required("messages -> role"))?;
        match role {
            "user" | "function" => {}
            "assistant" => {
                let text = "Invalid input the first message must not be assistant.";
                return Err(Refusal::new(400, "Bad_Request", text));
            }
            _ => {
                let text = "Something wrong with request!";
                return Err(Refusal::new(400, "Bad_Request", text));
            }
        }
        let (content, images) =
            read_content(&message["content"]).ok_or_else(|| required("messages -> content"))?;
        // Both spellings occur; the snake case is the one that counts.
        let parent_id = [&request["parent_id"], &message["parent_id"], &message["parentId"]]
            .into_iter()
            .find_map(Value::as_str)
            .filter(|id| !id.is_empty());
        let config = &message["feature_config"];
        let thinking =
            (config["thinking_enabled"] == true).then(|| {
                match config["thinking_format"].as_str() {
                    Some("raw" | "detail") => Thinking::Raw,
                    _ => Thinking::Summary,
                }
            });
        Ok(Self {
            chat_id,
            parent_id: parent_id.map(str::to_owned),
            model: model.to_owned(),
            role: role.to_owned(),
            content,
            files: images + message["files"].as_array().map_or(0, Vec::len),
            entries: message["files"].as_array().cloned().unwrap_or_default(),
            pair: messages.len() == 2,
            stream: request["stream"] != false,
            cumulative: request["incremental_output"] == false,
            phases: config["output_schema"] == "phase",
            thinking,
            chat_type: message["chat_type"].as_str().unwrap_or("t2t").to_owned(),
            size: request["size"].as_str().unwrap_or_default().to_owned(),
            account: String::new(),
        })
    }
}

/// The text of a content, and how many other parts it has.
pub(super) fn read_content(content: &Value) -> Option<(String, usize)> {
    match content {
        Value::String(text) => Some((text.clone(), 0)),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            Some((texts.join("\n"), parts.len() - texts.len()))
        }
        _ => None,
    }
}

/// Answers a request for a completion.
pub(super) fn answer(
    shared: &Arc<Shared>,
    account: &str,
    query: Option<&str>,
    body: &Bytes,
) -> Reply {
    let refuse = |refusal: &Refusal| -> Reply {
        shared.lock().counters.refusals += 1;
        refusal.response().into()
    };
    let mut ask = match Ask::read(query, body) {
        Ok(ask) => ask,
        Err(refusal) => return refuse(&refusal),
    };
    account.clone_into(&mut ask.account);
    if let Some(refusal) = unmade(&ask) {
        return refuse(&refusal);
    }
    let content = std::mem::take(&mut ask.content);
    let sections = sections(&content);
    let turn =
        if ask.role == "function" { Turn::ToolResult(&content) } else { last_turn(&sections) };
    let mut directives = match turn {
        Turn::User(words) => due(shared, words),
        Turn::ToolResult(_) => Directives::default(),
    };
    let shown = files::shown(shared, account, &ask.entries);
    if let Some(fault) = shown.fault {
        directives.add(fault);
    }
    let delay = millis(directives.number("wait", 1_000).unwrap_or(0));

    if let Some(response) = imposed(shared, &directives, ask.parent_id.is_some(), &ask) {
        shared.lock().counters.refusals += 1;
        return Reply { response, delay };
    }
    if !shared.config.models.contains(&ask.model) {
        return refuse(&Refusal::model_not_found());
    }
    let (messages, begun) = match begin(shared, account, &mut ask, &content, &directives) {
        Ok(begun) => begun,
        Err(refusal) => return refuse(&refusal),
    };
    let path: Vec<&str> = messages.iter().map(String::as_str).collect();
    let question = Question {
        model: &ask.model,
        server: Kind::Web.title(),
        instructions: "",
        content: &content,
        turn,
        path: &path,
        files: ask.files,
        shown: &shown.told,
    };
    let response = play(shared, &ask, &directives, &question, begun);
    Reply { response, delay }
}

/// The directives of `words`, unless they were to be followed a number of times only and were.
pub(super) fn due(shared: &Shared, words: &str) -> Directives {
    let directives = Directives::parse(words);
    if let Some(times) = directives.number("times", 1) {
        let mut hasher = DefaultHasher::new();
        words.hash(&mut hasher);
        if shared.lock().count(hasher.finish()) >= times {
            return Directives::default();
        }
    }
    directives
}

/// Why a request for a picture or a film is none that can be answered.
fn unmade(ask: &Ask) -> Option<Refusal> {
    let (is_film, needs_files) = match &*ask.chat_type {
        "t2i" | "t2v" => (ask.chat_type == "t2v", false),
        "image_edit" | "i2v" => (ask.chat_type == "i2v", true),
        _ => return None,
    };
    // A film is no stream.
    if is_film == ask.stream {
        return Some(Refusal::new(400, "Bad_Request", "Something wrong with request!"));
    }
    let is_without = needs_files && ask.files == 0;
    is_without.then(|| Refusal::new(400, "invalid_input", "The input or attachment is not valid."))
}

/// About how many tokens a prompt of so many characters has, with what a template adds to it.
pub(super) fn number_of_tokens(characters: usize) -> u64 {
    24 + characters as u64 / 4
}

/// A wait of this many milliseconds, a day at most.
pub(super) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis).min(DAY)
}

/// The failures that come before any look at the chat.
fn imposed(
    shared: &Shared,
    directives: &Directives,
    continues: bool,
    ask: &Ask,
) -> Option<Response<Body>> {
    if directives.has("timeout") {
        let status = StatusCode::GATEWAY_TIMEOUT;
        return Some(with_type(status, "text/plain", "stream timeout"));
    }
    if let Some(status) = directives.number("status", 502) {
        let status =
            u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        // An informational status cannot end an exchange.
        let status = status.filter(|status| !status.is_informational());
        let status = status.unwrap_or(StatusCode::BAD_GATEWAY);
        let reason = status.canonical_reason().unwrap_or("unknown");
        return Some(with_type(status, "text/html", format!("<html>{reason}</html>\n")));
    }
    if directives.has("challenge_html") {
        return Some(with_type(StatusCode::OK, "text/html", CHALLENGE_HTML));
    }
    if directives.has("challenge_redirect") {
        return Some(with_type(StatusCode::OK, "text/html", CHALLENGE_REDIRECT));
    }
    if directives.has("challenge_json") {
        return Some(json_with(StatusCode::OK, &challenge_json()));
    }
    if directives.has("challenge_endless") {
        let page = Bytes::from_static(CHALLENGE_HTML.as_bytes());
        let filler = Bytes::from_static(&[b' '; 1_024]);
        let script = Script::endless(wire(shared, directives, ask, String::new()), page, filler);
        let mut response = Response::new(Body::events(script, None, None, None));
        let html = HeaderValue::from_static("text/html");
        response.headers_mut().insert(header::CONTENT_TYPE, html);
        return Some(response);
    }
    let mut refusal = refusal(directives, continues, ask)?;
    refusal.flat = directives.has("flat");
    Some(refusal.response())
}

/// The refusal in the envelope that was asked for.
fn refusal(directives: &Directives, continues: bool, ask: &Ask) -> Option<Refusal> {
    if let Some(hours) = directives.number("rate_limited", 24) {
        return Some(Refusal::rate_limited(hours));
    }
    let refusals: [(&str, u16, &str, &str); 7] = [
        ("quota", 429, "quotaLimited", "The quota of this account is used up."),
        ("unauthorized", 401, "Unauthorized", "401 Unauthorized"),
        ("forbidden", 403, "Forbidden", "This account may not do that."),
        ("model_not_found", 404, "Not_Found", "Model not found"),
        ("in_progress", 400, "Bad_Request", "The chat is in progress!"),
        ("parallel_limited", 429, "ParallelLimited", "Too many answers at the same time."),
        ("internal", 500, "Internal_Server_Error", "internal error"),
    ];
    for (name, status, code, details) in refusals {
        if directives.has(name) {
            return Some(Refusal::new(status, code, details));
        }
    }
    // Only a request that goes on with a chat can lose it. So the replay of the history in a new
    // chat, which holds the same directive, succeeds.
    if !continues {
        return None;
    }
    if let Some(variant) = directives.number("chat_lost", 1) {
        let details = format!("Invalid input the chat {} is not exist.", ask.chat_id);
        return Some(match variant {
            2 => Refusal::new(404, "CHAT_NOT_FOUND", "Chat not found"),
            3 => Refusal::new(400, "Bad_Request", details),
            _ => Refusal::new(404, "Not_Found", details),
        });
    }
    let variant = directives.number("parent_lost", 1)?;
    Some(parent_not_found(ask.parent_id.as_deref().unwrap_or_default(), variant == 2))
}

fn parent_not_found(id: &str, as_text: bool) -> Refusal {
    if as_text {
        let details = format!("Invalid input chat parent_id {id} is not exist.");
        Refusal::new(400, "Bad_Request", details)
    } else {
        Refusal::new(404, "PARENT_NOT_FOUND", "The parent message was not found.")
    }
}

/// An answer that was begun in its chat.
struct Begun {
    parent_id: String,
    response_id: String,
    generation: Generation,
    stop: tokio::sync::oneshot::Receiver<()>,
    /// About how many tokens the prompt has.
    input_tokens: u64,
}

/// Finds the chat and the place in its tree, and puts the message there. Also gives the texts of
/// the earlier messages on the path.
fn begin(
    shared: &Arc<Shared>,
    account: &str,
    ask: &mut Ask,
    content: &str,
    directives: &Directives,
) -> Result<(Vec<String>, Begun), Refusal> {
    let now = shared.clock.now();
    let timestamp = shared.clock.unix_seconds();
    let mut state = shared.lock();
    let chat = state
        .chat(&ask.chat_id)
        .filter(|chat| chat.account == account)
        .ok_or_else(|| Refusal::chat_not_found(&ask.chat_id))?;
    if chat.is_busy(now) {
        return Err(Refusal::in_progress());
    }
    if shared.config.replay.is_some() && ask.parent_id.is_some() {
        // The client knows only the recorded ids, which are those of every answer.
        let last = chat.messages().iter().rev().find(|message| message.role == "assistant");
        ask.parent_id = last.map(|message| message.id.clone());
    }
    if let Some(id) = &ask.parent_id
        && (chat.message(id).is_none() || directives.has("parent_silent"))
    {
        let silent = directives.has("parent_silent")
            || shared.config.unknown_parent == UnknownParent::Silent;
        if !silent {
            let as_text = shared.config.unknown_parent == UnknownParent::Text;
            return Err(parent_not_found(id, as_text));
        }
        ask.parent_id = None;
    }
    let path: Vec<String> =
        chat.path(ask.parent_id.as_deref()).iter().map(|message| message.text.clone()).collect();
    let characters = path.iter().map(String::len).sum::<usize>() + content.len();
    let hidden = match shared.config.style {
        Style::Autumn2025 => 24,
        Style::Autumn2026 => 1_800,
    };
    let user = MessageRecord {
        id: Uuid::new_v4().to_string(),
        parent_id: ask.parent_id.clone(),
        role: ask.role.clone(),
        text: content.to_owned(),
        media: Vec::new(),
        model: ask.model.clone(),
        timestamp,
    };
    let assistant = MessageRecord {
        id: Uuid::new_v4().to_string(),
        parent_id: Some(user.id.clone()),
        role: "assistant".to_owned(),
        text: String::new(),
        media: Vec::new(),
        model: ask.model.clone(),
        timestamp,
    };
    let (parent_id, response_id) = (user.id.clone(), assistant.id.clone());
    let stop = state
        .begin_answer(&ask.chat_id, user, assistant)
        .ok_or_else(|| Refusal::chat_not_found(&ask.chat_id))?;
    drop(state);
    let generation = Generation::in_chat(Arc::clone(shared), &ask.chat_id, &response_id);
    let input_tokens = hidden + characters as u64 / 4;
    Ok((path, Begun { parent_id, response_id, generation, stop, input_tokens }))
}

fn wire(shared: &Shared, directives: &Directives, ask: &Ask, response_id: String) -> Wire {
    Wire {
        style: match directives.argument("style") {
            Some("2025") => Style::Autumn2025,
            Some("2026") => Style::Autumn2026,
            _ => shared.config.style,
        },
        clock: shared.clock,
        chat_id: ask.chat_id.clone(),
        parent_id: String::new(),
        response_id,
        phases: ask.phases && !directives.has("no_phase"),
        crlf: directives.has("crlf"),
        blank_lines: !directives.has("no_blank_lines"),
        cumulative: ask.cumulative || directives.has("cumulative"),
        input_tokens: 0,
    }
}

/// The answer to a request that was accepted.
fn play(
    shared: &Arc<Shared>,
    ask: &Ask,
    directives: &Directives,
    question: &Question<'_>,
    begun: Begun,
) -> Response<Body> {
    let Begun { parent_id, response_id, generation, stop, input_tokens } = begun;
    let told = || {
        let answers = shared.config.answers.as_ref()?;
        answers(question.content, question.path).map(Answer::text)
    };
    let answer = match told() {
        Some(answer) if !directives.has("say") => answer,
        _ => compose(directives, question),
    };
    let wire = Wire {
        parent_id: parent_id.clone(),
        input_tokens,
        ..wire(shared, directives, ask, response_id.clone())
    };
    if matches!(&*ask.chat_type, "t2v" | "i2v") {
        generation.finish("");
        return film(
            shared,
            &Film {
                chat_id: &ask.chat_id,
                parent_id: &parent_id,
                response_id: &response_id,
                account: &ask.account,
                chat_type: &ask.chat_type,
                size: &ask.size,
                directives,
            },
        );
    }
    if !ask.stream || directives.has("json") {
        let text = answer.into_text();
        generation.finish(&text);
        return success(json!({
            "chat_id": "", "parent_id": parent_id, "message_id": response_id, "messages": null,
            "choices": [{"message": {"role": "assistant", "content": text}}],
        }));
    }
    let (ending, after) = ending(directives, &wire);
    let piece = directives.count("bytes", 1).or(shared.config.piece);
    let mut script = if let Some(recording) = &shared.config.replay {
        Script::recording(wire, recording.clone(), ending)
    } else if ask.pair && wire.style == Style::Autumn2026 {
        // The stream opens and ends, and nothing is said.
        Script::answer(wire, Answer::text(String::new()), Ending::Close)
    } else if directives.has("image") || matches!(&*ask.chat_type, "t2i" | "image_edit") {
        let pictures = Pictures::new(directives, &wire.response_id, &ask.size);
        let ending = match ending {
            Ending::Whole { .. } => Ending::Events(pictures.events(&wire)),
            early => early,
        };
        let steps = Pictures::opening(directives, &wire);
        if !directives.has("nowhere") {
            shared.lock().hold_media(&wire.chat_id, &wire.response_id, pictures.urls);
        }
        Script::answer(wire, Answer::text(String::new()), ending).preceded(steps, 0)
    } else {
        let (opening, reasoning) = opening(ask, directives, &wire, shared.config.pace);
        Script::answer(wire, answer, ending).preceded(opening, reasoning)
    };
    if directives.has("keep_alive") {
        script = script.keep_alive();
    }
    if let Some(slow) = directives.number("slow", 100) {
        script = script.slowed(millis(slow));
    } else if !shared.config.pace.is_zero() {
        script = script.paced(shared.config.pace);
    }
    if let Some(after) = after {
        script = script.after(after);
    }
    let piece = piece.or(shared.config.replay.is_some().then_some(1_460));
    let mut response = Response::new(Body::events(script, piece, Some(generation), Some(stop)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    mean(response, 200)
}

/// What the model says.
pub(super) fn compose(directives: &Directives, question: &Question<'_>) -> Answer {
    if let Some(text) = directives.argument("say") {
        return Answer::text(text.to_owned());
    }
    if let Some(count) = directives.count("tokens", 100) {
        return Answer::words(count.min(10_000_000));
    }
    if directives.has("unicode") {
        return Answer::text(UNICODE.to_owned());
    }
    if directives.has("path") {
        return Answer::text(question.list_path());
    }
    let mut text = String::new();
    if let Some(calls) = question.calls() {
        if let Some(lead) = directives.argument("lead") {
            text = format!("{lead}\n\n");
        }
        return Answer::text(text + &calls);
    }
    if directives.has("search") {
        text.push_str("According to what I found [[1]]: ");
    }
    text.push_str(&question.describe());
    Answer::text(text)
}

/// How the stream ends, and after how many deltas if not after all.
fn ending(directives: &Directives, wire: &Wire) -> (Ending, Option<usize>) {
    let error = |code: &str, details: &str| {
        let error = wire.error(&json!({"code": code, "details": details}));
        Ending::Events(vec![error])
    };
    let errors = [
        ("overloaded", "quota_limit", "This model is in high demand. Please try again later."),
        ("content_filter", "data_inspection_failed", "The content may be inappropriate."),
        (
            "too_long",
            "InternalError.Algo.InvalidParameter",
            "Range of input length should be [1, 98304]",
        ),
        ("invalid_input", "invalid_input", "The input or attachment is not valid."),
        ("error_event", "internal_error", "The model failed."),
    ];
    for (name, code, details) in errors {
        if let Some(after) = directives.count(name, 0) {
            return (error(code, details), Some(after));
        }
    }
    if let Some(after) = directives.count("error_string", 0) {
        return (Ending::Events(vec![wire.error(&"Internal error!".into())]), Some(after));
    }
    if let Some(after) = directives.count("error_envelope_event", 0) {
        let body = Refusal::new(500, "Internal_Server_Error", "internal error").body();
        return (Ending::Events(vec![wire.value(&body)]), Some(after));
    }
    if let Some(after) = directives.count("error_bare", 0) {
        let body = json!({"code": "Internal_Server_Error", "detail": "internal error"});
        return (Ending::Events(vec![wire.value(&body)]), Some(after));
    }
    for (name, ending) in
        [("cut", Ending::Close), ("reset", Ending::Reset), ("stall", Ending::Stall)]
    {
        if let Some(after) = directives.count(name, 3) {
            return (ending, Some(after));
        }
    }
    (Ending::Whole { hold: directives.has("hold_open"), done: directives.has("done") }, None)
}

/// The phases before the answer, and the reasoning tokens they took.
fn opening(ask: &Ask, directives: &Directives, wire: &Wire, pace: Duration) -> (Vec<Step>, u64) {
    let mut steps = Vec::new();
    let mut reasoning = 0;
    let thinking = if directives.has("think") {
        Some(Thinking::Summary)
    } else if directives.has("think_raw") {
        Some(Thinking::Raw)
    } else if directives.has("think_empty") {
        Some(Thinking::Empty)
    } else {
        ask.thinking
    };
    let say = |steps: &mut Vec<Step>, event| {
        if !pace.is_zero() {
            steps.push(Step::Wait(pace));
        }
        steps.push(Step::Send(event));
    };
    match thinking {
        Some(Thinking::Raw) => {
            for thought in ["The user", " wrote", " something.", " I will", " say what."] {
                reasoning += 1;
                let spent = super::script::Spent { text: 0, reasoning };
                say(&mut steps, wire.typing(thought, "think", Some(spent)));
            }
            say(&mut steps, wire.finished("think"));
        }
        Some(thinking) => {
            let titles = ["Read the message", "Decide what to say"];
            let thoughts = ["The user wrote something.", "I will say what it was."];
            for n in 1..=titles.len() {
                reasoning += 9;
                let mut delta = json!({
                    "role": "assistant", "content": "", "phase": "thinking_summary",
                    "status": "typing",
                });
                if thinking == Thinking::Summary {
                    delta["extra"] = json!({
                        "summary_title": {"content": titles[..n]},
                        "summary_thought": {"content": thoughts[..n]},
                    });
                }
                say(&mut steps, wire.delta(delta));
            }
            say(&mut steps, wire.finished("thinking_summary"));
        }
        None => {}
    }
    if directives.has("search") || matches!(&*ask.chat_type, "search" | "deep_research") {
        say(
            &mut steps,
            wire.delta(json!({
                "role": "assistant", "content": "", "phase": "web_search", "status": "typing",
                "function_call": {
                    "name": "web_search", "arguments": "{\"queries\": [\"example\"]}",
                },
                "function_id": "call_demo1", "extra": {"display_position": "answer"},
            })),
        );
        say(
            &mut steps,
            wire.delta(json!({
                "role": "function", "name": "web_search", "content": "", "phase": "web_search",
                "status": "finished", "function_id": "call_demo1",
                "extra": {"web_search_info": found(directives.count("sources", 2).unwrap_or(1))},
            })),
        );
    }
    (steps, reasoning)
}

/// So many pages of a search.
fn found(count: usize) -> Value {
    let pages = (0..count.min(1_000)).map(|n| {
        let (name, title) = match n {
            0 => ("a".to_owned(), "An example".to_owned()),
            n => (format!("b/{n}"), format!("Another example, {n}")),
        };
        json!({
            "url": format!("https://example.org/{name}"), "title": title, "snippet": "It is one.",
            "hostname": "example.org", "hostlogo": "", "date": "",
        })
    });
    pages.collect()
}

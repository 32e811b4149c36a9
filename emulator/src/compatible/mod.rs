//! The OpenAI-compatible servers: vLLM, SGLang, Ollama, llama.cpp, DashScope's compatible mode and
//! the OAuth portal.
//!
//! They are one server here, and a [`Dialect`] says in what each of them differs: `request` in
//! what it refuses, `said` in what becomes of the model's words, `wire` and `whole` in how an
//! answer is written, `error` in how it says that there is none.

mod beside;
mod embeddings;
mod error;
mod models;
mod parser;
mod request;
mod responses;
mod said;
mod script;
mod synthesis;
mod whole;
mod wire;

use std::{sync::Arc, time::Duration};

use crate::json::{Value, json};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};

use self::{
    error::{Class, Fault},
    request::{Ask, Form},
    said::Said,
    script::Ending,
    wire::Wire,
};
pub(super) use self::{responses::Responses, script::Script};
use super::{
    body::Body,
    builder::Style,
    completion::{due, millis},
    directive::Directives,
    envelope::{json_with, with_type},
    generation::Generation,
    kind::Kind,
    media,
    oauth::Standing,
    prompt::Turn,
    service::Reply,
    state::Shared,
};

/// How long a model takes that is loaded on demand.
const LOADING: u64 = 1_000;

/// A server, and whether it is one of the builds of 2025.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) kind: Kind,
    pub(super) old: bool,
}

impl Dialect {
    fn is(self, kind: Kind) -> bool {
        self.kind == kind
    }
}

/// Numbers that look random and are the same for the same request in the same place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u64);

impl Seed {
    /// FNV-1a over `parts`.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in parts.iter().copied().flatten() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(hash)
    }

    /// The next number (SplitMix64).
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `digits` hexadecimal digits, 32 at most.
    pub(super) fn hex(&mut self, digits: usize) -> String {
        let mut text = format!("{:016x}{:016x}", self.next(), self.next());
        text.truncate(digits);
        text
    }

    /// The form of a UUID.
    pub(super) fn uuid(&mut self) -> String {
        let hex = self.hex(32);
        format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }
}

/// Answers one request; `None` leaves it to the routes that the portal shares with the web API.
pub(super) fn answer(
    shared: &Arc<Shared>,
    parts: &Parts,
    body: &Bytes,
    standing: &Standing,
) -> Option<Reply> {
    let dialect =
        Dialect { kind: shared.config.kind, old: shared.config.style == Style::Autumn2025 };
    let path = parts.uri.path();
    if dialect.is(Kind::Portal) && path.starts_with("/api/v1/oauth2/") {
        return None;
    }
    let mut seed = Seed::of(&[body, &shared.lock().counters.requests.to_le_bytes()]);
    let id = seed.uuid();
    let refuse = |fault: &Fault| {
        shared.lock().counters.refusals += 1;
        Some(fault.response(dialect, &id).into())
    };
    if dialect.is(Kind::Portal) && path == "/api/v1/indices/plugin/web_search" {
        return Some(if !may_ask(shared, dialect, standing, false) {
            shared.lock().counters.refusals += 1;
            Fault::new(Class::Unauthorized).response(dialect, &id).into()
        } else if parts.method == Method::POST {
            web_search(&id, body).into()
        } else {
            not_here(dialect, false).into()
        });
    }
    if dialect.is(Kind::DashScope) {
        // Where what was made is; whoever has the address may fetch it.
        if path.starts_with("/output/") && parts.method == Method::GET {
            return Some(media::fetched(path, parts.uri.query()).into());
        }
        let own = path.strip_prefix("/api/v1").unwrap_or(path);
        if own.starts_with("/tasks/") || own.starts_with("/services/aigc/") {
            if !may_ask(shared, dialect, standing, false) {
                return refuse(&Fault { native: true, ..Fault::new(Class::Unauthorized) });
            }
            return match synthesis::answer(shared, dialect, parts, own, body, &id) {
                Some(Ok(response)) => Some(response.into()),
                Some(Err(fault)) => refuse(&fault),
                None => Some(not_here(dialect, false).into()),
            };
        }
    }
    // Of llama.cpp's own API, which stands beside the compatible one.
    let is_infill = path == "/infill" && dialect.is(Kind::LlamaCpp);
    let is_reranks = path == "/compatible-api/v1/reranks" && dialect.is(Kind::DashScope);
    let path = path.strip_prefix("/compatible-mode").unwrap_or(path);
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_models = path == "/models" && parts.method == Method::GET;
    if !may_ask(shared, dialect, standing, is_models) {
        return refuse(&Fault::new(Class::Unauthorized));
    }
    // The others know these only as a list.
    let model = path
        .strip_prefix("/models/")
        .filter(|_| matches!(dialect.kind, Kind::SgLang | Kind::Ollama));
    let completes = !dialect.is(Kind::Portal);
    let embeds = !dialect.is(Kind::Portal);
    let post = parts.method == Method::POST;
    match path {
        "/models" if parts.method == Method::GET => {
            Some(json_with(StatusCode::OK, &models::list(shared, dialect)).into())
        }
        "/chat/completions" if post => {
            Some(complete(shared, dialect, seed, &id, body, Form::Chat, None))
        }
        "/completions" if post && completes => {
            Some(complete(shared, dialect, seed, &id, body, Form::Text, None))
        }
        _ if post && is_infill => {
            Some(complete(shared, dialect, seed, &id, body, Form::Infill, None))
        }
        "/responses" if post && dialect.is(Kind::DashScope) => {
            let caches = parts.headers.get("x-dashscope-session-cache");
            let caches = caches.is_some_and(|value| value == "enable");
            match responses::read(shared, body, caches, &mut seed) {
                Ok((body, answer)) => {
                    Some(complete(shared, dialect, seed, &id, &body, Form::Chat, Some(answer)))
                }
                Err(fault) => refuse(&fault),
            }
        }
        "/embeddings" if post && embeds => {
            match embeddings::answer(shared, dialect, &mut seed, body) {
                Ok(answer) => Some(json_with(StatusCode::OK, &answer).into()),
                Err(fault) => refuse(&fault),
            }
        }
        _ if post
            && (is_reranks
                || path == "/rerank"
                    && matches!(dialect.kind, Kind::Vllm | Kind::SgLang | Kind::LlamaCpp)) =>
        {
            match beside::rerank(shared, dialect, &mut seed, body) {
                Ok(response) => Some(response.into()),
                Err(fault) => refuse(&fault),
            }
        }
        "/audio/speech" if post && dialect.is(Kind::Vllm) => {
            match beside::speech(shared, dialect, body) {
                Ok(response) => Some(response.into()),
                Err(fault) => refuse(&fault),
            }
        }
        "/audio/transcriptions" | "/audio/translations" if post && dialect.is(Kind::Vllm) => {
            match beside::transcribe(&parts.headers, body) {
                Ok(response) => Some(response.into()),
                Err(fault) => refuse(&fault),
            }
        }
        "/models" | "/chat/completions" => Some(not_here(dialect, false).into()),
        "/completions" if completes => Some(not_here(dialect, false).into()),
        "/embeddings" if embeds => Some(not_here(dialect, false).into()),
        _ if let Some(response) = path.strip_prefix("/responses/")
            && dialect.is(Kind::DashScope) =>
        {
            Some(responses::kept(shared, dialect, &parts.method, response, &id).into())
        }
        _ => match model.filter(|_| parts.method == Method::GET) {
            Some(model) => match models::one(shared, dialect, model) {
                Some(card) => Some(json_with(StatusCode::OK, &card).into()),
                None if dialect.is(Kind::SgLang) => {
                    // Unlike its other refusals this one is wrapped.
                    let error = json!({"error": {
                        "message": format!("The model '{model}' does not exist"),
                        "type": "invalid_request_error", "param": "model",
                        "code": "model_not_found",
                    }});
                    Some(json_with(StatusCode::NOT_FOUND, &error).into())
                }
                None => refuse(&Fault::model_not_found(dialect, model)),
            },
            None => Some(not_here(dialect, true).into()),
        },
    }
}

/// Whether the credential will do. Ollama knows none, and llama.cpp shows its models to anyone.
fn may_ask(shared: &Shared, dialect: Dialect, standing: &Standing, is_models: bool) -> bool {
    !shared.config.require_credentials
        || matches!(standing, Standing::Good(_))
        || dialect.is(Kind::Ollama)
        || (dialect.is(Kind::LlamaCpp) && is_models)
}

/// No such path, or no such method for it.
fn not_here(dialect: Dialect, path: bool) -> Response<Body> {
    let (status, word) = if path {
        (StatusCode::NOT_FOUND, "Not Found")
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
    };
    match dialect.kind {
        Kind::Ollama => with_type(StatusCode::NOT_FOUND, "text/plain", "404 page not found"),
        Kind::LlamaCpp => json_with(
            StatusCode::NOT_FOUND,
            &json!({"error": {
                "code": 404, "message": "File Not Found", "type": "not_found_error",
            }}),
        ),
        Kind::DashScope | Kind::Portal => json_with(
            status,
            &json!({"error": {
                "message": word, "type": "invalid_request_error", "param": null, "code": null,
            }}),
        ),
        _ => json_with(status, &json!({"detail": word})),
    }
}

/// The portal's search, which always finds the same page.
fn web_search(id: &str, body: &Bytes) -> Response<Body> {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(query) = request["uq"].as_str() else {
        return json_with(
            StatusCode::OK,
            &json!({"status": 1, "success": false, "message": "uq is missing", "rid": id}),
        );
    };
    let found = json!({
        "_id": "1", "_score": 1.0, "title": format!("About {query}"),
        "url": "https://example.org/a", "snippet": "It is an example.", "hostname": "example.org",
        "timestamp": 0,
    });
    json_with(
        StatusCode::OK,
        &json!({
            "status": 0, "success": true, "message": "", "rid": id, "headers": {},
            "data": {"total": 1, "totalDistinct": 1, "qpInfos": [], "docs": [found]},
        }),
    )
}

/// What asks the model for an answer; `answer` is that of `POST /responses`, which is written so.
fn complete(
    shared: &Arc<Shared>,
    mut dialect: Dialect,
    mut seed: Seed,
    id: &str,
    body: &Bytes,
    form: Form,
    answer: Option<responses::Answer>,
) -> Reply {
    let refuse = |fault: &Fault, dialect: Dialect, delay: Duration| {
        shared.lock().counters.refusals += 1;
        Reply { response: fault.response(dialect, id), delay }
    };
    let ask = match form {
        Form::Chat => Ask::read(body),
        Form::Text => Ask::prompt(body, dialect),
        Form::Infill => Ask::infill(body, shared.config.models.first().map_or("", String::as_str)),
    };
    let ask = match ask {
        Ok(ask) => ask,
        Err(fault) => return refuse(&fault, dialect, Duration::ZERO),
    };
    let directives = match ask.turn() {
        Turn::User(words) => due(shared, words),
        Turn::ToolResult(_) => Directives::default(),
    };
    match directives.argument("style") {
        Some("2025") => dialect.old = true,
        Some("2026") => dialect.old = false,
        _ => {}
    }
    let mut wait = directives.number("wait", 1_000).unwrap_or(0);
    if directives.has("loading") && dialect.is(Kind::Ollama) {
        // The first byte is slow.
        wait = wait.max(LOADING);
    }
    let delay = millis(wait);
    if let Some(status) = directives.number("status", 502) {
        shared.lock().counters.refusals += 1;
        return Reply { response: page(status), delay };
    }
    let thinking = match imposed(&directives, dialect)
        .map_or(Ok(()), Err)
        .and_then(|()| ask.check(dialect, &shared.config.models))
        .and_then(|()| ask.thinking(dialect, directives.has("think")))
    {
        Ok(thinking) => thinking,
        Err(fault) => return refuse(&fault, dialect, delay),
    };
    if directives.has("no_jinja") && dialect.is(Kind::LlamaCpp) && ask.has_tools() {
        // Tools need a switch of the server, `--jinja`.
        let mut fault = Fault::bad(None, "tools param requires --jinja flag");
        fault.status = Some(500);
        return refuse(&fault, dialect, delay);
    }
    let said = Said::make(shared, dialect, &ask, &directives, thinking, &mut seed);
    let said = match said {
        Ok(said) => said,
        Err(fault) if ask.stream => {
            shared.lock().counters.completions += 1;
            // The parser of calls gave up when the head was long sent.
            let wire = Wire::new(shared, dialect, &ask, &directives, &mut seed);
            let mut wire = wire.responding(answer, &directives);
            let ending = Ending::Events(wire.error(&fault, false));
            return Reply {
                response: stream(shared, &directives, Said::nothing(), wire, ending, Some(0)),
                delay,
            };
        }
        Err(fault) => return refuse(&fault, dialect, delay),
    };
    let wire = Wire::new(shared, dialect, &ask, &directives, &mut seed);
    let mut wire = wire.responding(answer, &directives);
    let (ending, after) = match ending(&directives, &wire) {
        Ok(ending) => ending,
        // An answer that is not streamed has no other way to say so.
        Err((fault, ..)) if !ask.stream => return refuse(&fault, dialect, delay),
        Err((fault, after)) => {
            let bare = directives.has("error_string");
            (Ending::Events(wire.error(&fault, bare)), Some(after))
        }
    };
    shared.lock().counters.completions += 1;
    let response = if ask.stream && !directives.has("json") {
        stream(shared, &directives, said, wire, ending, after)
    } else {
        whole::response(said, &mut wire, &ending, after)
    };
    Reply { response, delay }
}

/// A page of a gateway.
fn page(status: u64) -> Response<Body> {
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    // An informational status cannot end an exchange.
    let status = status.filter(|status| !status.is_informational());
    let status = status.unwrap_or(StatusCode::BAD_GATEWAY);
    let reason = status.canonical_reason().unwrap_or("unknown");
    with_type(status, "text/html", format!("<html>{reason}</html>\n"))
}

/// Faults that come before the stream, or in it where the directive says after how many deltas.
const FAULTS: [(&str, Class); 4] = [
    ("overloaded", Class::Overloaded),
    ("content_filter", Class::ContentFilter),
    ("too_long", Class::ContextLength),
    ("invalid_input", Class::BadRequest),
];

/// The refusal that was asked for.
fn imposed(directives: &Directives, dialect: Dialect) -> Option<Fault> {
    let refusals = [
        ("rate_limited", Class::RateLimited),
        ("burst", Class::Burst),
        ("tokens_limited", Class::Tokens),
        ("quota", Class::Quota),
        ("billing", Class::Billing),
        ("unauthorized", Class::Unauthorized),
        ("forbidden", Class::Forbidden),
        ("model_not_found", Class::ModelNotFound),
        ("loading", Class::Loading),
        ("timeout", Class::Timeout),
        ("internal", Class::Internal),
    ];
    let (name, class) = refusals.into_iter().chain(FAULTS).find(|(name, class)| {
        let in_stream = FAULTS.iter().any(|(fault, _)| fault == name)
            && directives.count(name, 0).is_some_and(|after| after > 0);
        // Ollama is slow to answer while it loads, and used to cut a prompt that is too long.
        let silent = dialect.is(Kind::Ollama)
            && (*class == Class::Loading || (*class == Class::ContextLength && dialect.old));
        directives.has(name) && !in_stream && !silent
    })?;
    let mut fault = Fault::new(class);
    match class {
        Class::RateLimited => {
            fault.retry_after = directives.number(name, 0).filter(|seconds| *seconds > 0);
        }
        // The portal says so with 403 or 429.
        Class::Quota => {
            let status = directives.number(name, 0).filter(|status| *status > 0);
            fault.status = status.and_then(|status| u16::try_from(status).ok());
        }
        _ => {}
    }
    fault.native = directives.has("flat");
    Some(fault)
}

/// How the answer ends, and after how many deltas if not after all; a fault in its course, and
/// after how many.
fn ending(directives: &Directives, wire: &Wire) -> Result<(Ending, Option<usize>), (Fault, usize)> {
    let faults = FAULTS.into_iter().chain([
        ("error_event", Class::Internal),
        ("error_string", Class::Internal),
        ("timeout_event", Class::Timeout),
        ("rate_event", Class::RateLimited),
    ]);
    for (name, class) in faults {
        let early = FAULTS.iter().any(|(fault, _)| *fault == name);
        if let Some(after) = directives.count(name, 0).filter(|after| *after > 0 || !early) {
            let mut fault = Fault::new(class);
            fault.native = directives.has("flat");
            return Err((fault, after));
        }
    }
    for (name, ending) in
        [("cut", Ending::Close), ("reset", Ending::Reset), ("stall", Ending::Stall)]
    {
        if let Some(after) = directives.count(name, 3) {
            return Ok((ending, Some(after)));
        }
    }
    Ok((Ending::Whole { done: !wire.is_without_done(), hold: directives.has("hold_open") }, None))
}

/// The answer as a stream of events.
fn stream(
    shared: &Arc<Shared>,
    directives: &Directives,
    said: Said,
    wire: Wire,
    ending: Ending,
    after: Option<usize>,
) -> Response<Body> {
    let mut script = match &shared.config.replay {
        Some(recording) => Script::recording(wire, recording.clone(), ending),
        None => Script::answer(wire, said, ending),
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
    let piece = directives.count("bytes", 1).or(shared.config.piece).or(shared
        .config
        .replay
        .is_some()
        .then_some(1_460));
    let generation = Generation::stateless(Arc::clone(shared));
    let mut response = Response::new(Body::events(script, piece, Some(generation), None));
    let headers = response.headers_mut();
    let mime = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, mime);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A field that is there and not null.
fn given<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

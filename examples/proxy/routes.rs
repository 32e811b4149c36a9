//! The routes, and what stands around all of them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Extension, Json, Router,
    extract::{Path, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Uri,
        header::{
            AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, COOKIE, ORIGIN,
            PROXY_AUTHORIZATION, WARNING,
        },
    },
    middleware::Next,
    response::{IntoResponse, Response},
    routing::{any, delete, get, post},
};
use serde_json::json;
use tower::{
    ServiceBuilder,
    util::{MapRequest, option_layer},
};
use tower_http::{
    ServiceBuilderExt,
    cors::{AllowOrigin, Any, CorsLayer},
    request_id::{MakeRequestUuid, SetRequestId},
};
use tower_qwen::{
    Error, ErrorKind,
    edge::BodyBudget,
    ollama::untagged,
    openai::error_response,
    qwen::chats::{ChatMessage, ChatSummary},
};

use super::{
    chats::{Chats, no_response},
    clients::{Client, Clients, identify},
    coding,
    config::DebugStream,
    credentials,
    dashboard::{self, Dashboard},
    debug_stream, forms,
    gate::{Admission, admit, may_ask, report},
    hosts::{self, Hosts, own_names_only},
    keys::Key,
    lanes::{Lanes, X_QWEN_UPSTREAM},
    metrics, models, ollama, paths,
    ready::Ready,
    shared::{Share, around, around_with},
    shutdown::{Shutdown, refuse_late},
    tokens::{self, Tokens},
    trace::{Traced, X_REQUEST_ID},
    unread::ReadsRest,
};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// What `tracing` must not see of requests.
const SECRETS: [HeaderName; 5] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, X_API_KEY, API_KEY];

/// What the routes need to know.
pub(crate) struct Site {
    /// Who answers.
    pub(crate) lanes: Lanes,
    /// Who may come in, and who it is.
    pub(crate) clients: Clients,
    /// By which names it is asked.
    pub(crate) hosts: Hosts,
    /// What can be done about chats.
    pub(crate) chats: Chats,
    /// Whose tokens are good.
    pub(crate) tokens: Tokens,
    /// When answers end.
    pub(crate) shutdown: Shutdown,
    /// How much of bodies may be in memory.
    pub(crate) budget: BodyBudget,
    /// Who may ask for an answer now.
    pub(crate) admission: Admission,
    /// What is logged of streams.
    pub(crate) debug_stream: DebugStream,
}

/// Everything the proxy serves. What stands around the router leaves bodies unboxed.
pub(crate) type App =
    MapRequest<SetRequestId<Traced<ReadsRest<Router>>, MakeRequestUuid>, fn(Request) -> Request>;

/// Everything the proxy serves.
pub(crate) fn app(site: Site) -> App {
    let Site { lanes, clients, hosts, chats, tokens, shutdown, budget, admission, debug_stream } =
        site;
    let open = clients.are_all_let_in();
    let only = lanes.only_name().cloned();
    let ready = Ready::new(lanes.clone(), shutdown.clone());
    let board = admission.gate().board().clone();
    let shown = Dashboard {
        board: board.clone(),
        clients: clients.clone(),
        admission: admission.clone(),
        ready: ready.clone(),
        tokens: tokens.clone(),
    };
    let health = Health {
        upstreams: lanes.iter().map(|lane| lane.name.clone()).collect(),
        tokens: tokens.clone(),
    };

    let answers = Router::new()
        // Their edges say themselves what they think of other methods than POST.
        .route("/v1/chat/completions", any(chat))
        .route("/xml/v1/chat/completions", any(chat_in_xml))
        .route("/v1/messages", any(messages))
        .route("/v1/responses", any(responses))
        .route("/v1/completions", any(completions))
        // Of llama.cpp's own API, which stands beside `/v1`.
        .route("/infill", any(infill))
        .route("/v1/infill", any(infill))
        .route("/v1/embeddings", any(embeddings))
        .route("/v1/images/generations", any(images))
        .route("/v1/images/edits", any(image_edits))
        .route("/v1/audio/speech", any(speech))
        .route("/v1/audio/transcriptions", any(transcriptions))
        .route("/v1/audio/translations", any(translations))
        .route("/v1/rerank", any(rerank))
        .route("/v1/videos/generations", any(video_generations))
        .route("/v1/videos", any(videos))
        .route("/api/chat", any(ollama_chat))
        .route("/api/generate", any(ollama_generate))
        .route("/api/embed", any(ollama_embed))
        .route("/api/embeddings", any(ollama_embeddings))
        .with_state(lanes.clone())
        .route_layer((
            // Outside of what reads bodies: who waits for a place has none in memory.
            around_with(admission.clone(), admit),
            around_with(admission.clone(), may_ask),
        ));
    let answers = answers
        .route("/v1/videos/{*id}", any(videos))
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*id}", get(one_model))
        .route("/xml/v1/models", get(list_models))
        .route("/xml/v1/models/{*id}", get(one_model))
        .route("/v1/messages/count_tokens", any(count_tokens))
        .route("/api/version", get(ollama::version))
        .route("/api/tags", get(ollama::tags))
        .route("/api/show", post(ollama::show))
        .route("/api/ps", get(ollama::running))
        .route("/api/pull", post(ollama::pull))
        .route("/api/push", any(ollama::unchangeable))
        .route("/api/create", any(ollama::unchangeable))
        .route("/api/copy", any(ollama::unchangeable))
        .route("/api/delete", any(ollama::unchangeable))
        .route("/api/blobs/{*id}", any(ollama::unchangeable))
        .with_state(lanes)
        // Around these alone: what others answer may be a token.
        .route_layer(around_with(debug_stream, debug_stream::choose));
    let api = answers
        .route("/v1/chats/delete", delete(delete_chats).post(delete_chats))
        .route("/v1/chats", get(list_chats))
        .route("/v1/chats/{id}", delete(delete_chat).get(one_chat))
        .route("/v1/responses/{*id}", delete(forget_response).fallback(stored_response))
        .with_state(chats)
        .route("/v1/validate", get(tokens::validate).post(tokens::validate))
        .route("/v1/refresh", post(tokens::refresh))
        .with_state(tokens)
        .route("/v1/usage", get(report))
        .with_state(admission)
        .route("/dashboard/status", get(dashboard::status))
        .with_state(shown);
    // Paths, accounts and their states are not for everyone.
    let api = if metrics::is_on() { api.route("/metrics", get(metrics::render)) } else { api };
    let api = api.route_layer((
        around_with(shutdown, refuse_late),
        around_with(clients, identify),
        // Outside of the budget: what counts is what a body decodes to.
        around(coding::decode),
        // Inside of who is let in: what is refused there is never kept.
        (budget, Share),
    ));
    let outermost = ServiceBuilder::new()
        .sensitive_request_headers(SECRETS.into())
        .layer(around(forms::speak))
        .propagate_x_request_id()
        .map_response(move |mut response: Response| {
            if let Some(name) = &only {
                response.headers_mut().entry(X_QWEN_UPSTREAM).or_insert_with(|| name.clone());
            }
            response
        })
        .layer(cors(open))
        .layer(around(move |request, next| own_pages_only(open, request, next)))
        // Without keys only: a key is what a page under another name does not have.
        .layer(option_layer(open.then(|| around_with(hosts, own_names_only))));

    let router = Router::new()
        // Claude Code asks with HEAD whether anybody is there, Ollama's clients with either.
        .route("/", get(ollama::is_running).fallback(unknown_path))
        .route("/health", get(move || std::future::ready(health.report())))
        .route("/ready", get(move || std::future::ready(ready.report())))
        .route("/dashboard", get(dashboard::page))
        .merge(api)
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(outermost);
    ServiceBuilder::new()
        .map_request(
            (|request| paths::mend(forget_odd_request_id(request))) as fn(Request) -> Request,
        )
        .set_x_request_id(MakeRequestUuid)
        .service(Traced::new(ReadsRest::new(router), board))
}

/// What `/health` tells.
#[derive(Clone)]
struct Health {
    upstreams: Vec<HeaderValue>,
    tokens: Tokens,
}

impl Health {
    fn report(&self) -> Json<serde_json::Value> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let upstream =
            |name: &HeaderValue| json!({"name": String::from_utf8_lossy(name.as_bytes())});
        let credentials = self.tokens.health();
        let is_bad = credentials.as_ref().is_some_and(credentials::Health::is_bad);
        let mut report = json!({
            // The status code stays 200: this process is well, and to start it anew would not
            // sign anybody in.
            "status": if is_bad { "degraded" } else { "healthy" },
            "timestamp": now.as_secs(),
            "version": env!("CARGO_PKG_VERSION"),
            "upstreams": self.upstreams.iter().map(upstream).collect::<Vec<_>>(),
        });
        if let Some(credentials) = credentials {
            report["credentials"] = json!(credentials);
        }
        Json(report)
    }
}

async fn chat(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.chat).await
}

async fn chat_in_xml(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.xml).await
}

async fn messages(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.messages).await
}

async fn count_tokens(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.count(request).await
}

async fn responses(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.responses).await
}

/// Nothing of an answer's text is stored, so there is nothing to get.
async fn stored_response(Path(id): Path<String>) -> Response {
    refuse(no_response(&id))
}

async fn forget_response(
    State(chats): State<Chats>,
    Path(id): Path<String>,
    Extension(client): Extension<Client>,
) -> Result<Json<serde_json::Value>, Response> {
    chats.forget_answer(client, &id).await.map_err(refuse)?;
    Ok(Json(json!({"id": id, "object": "response", "deleted": true})))
}

async fn completions(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.completions).await
}

async fn infill(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.infill(request).await
}

async fn embeddings(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.embeddings).await
}

async fn images(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.media.images).await
}

async fn image_edits(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.media.edits).await
}

async fn speech(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.speech).await
}

async fn transcriptions(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.transcriptions).await
}

async fn translations(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.translations).await
}

async fn rerank(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.rerank).await
}

async fn video_generations(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve(request, |lane| &lane.media.videos).await
}

async fn videos(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.videos(request).await
}

async fn ollama_chat(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve_by(request, |lane| &lane.ollama.chat, untagged).await
}

async fn ollama_generate(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve_by(request, |lane| &lane.ollama.generate, untagged).await
}

async fn ollama_embed(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve_by(request, |lane| &lane.ollama.embed, untagged).await
}

async fn ollama_embeddings(State(lanes): State<Lanes>, request: Request) -> Response {
    lanes.serve_by(request, |lane| &lane.ollama.embeddings, untagged).await
}

async fn list_models(
    State(lanes): State<Lanes>,
    key: Option<Extension<Arc<Key>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let virtual_too = wants_virtual(&uri);
    let key = key.as_deref().map(Arc::as_ref);
    if models::are_for_claude(&headers) {
        let list = lanes.list_for_claude(wants_new(&headers), virtual_too).await.map_err(refuse)?;
        let list = list.of_key(key, &lanes);
        return Ok(with_age(list.stale, models::list_for_claude(&list.models)));
    }
    let list = lanes.list_models(wants_new(&headers), virtual_too).await.map_err(refuse)?;
    let list = list.of_key(key, &lanes);
    Ok(with_age(list.stale, models::list(&list.models)))
}

/// The id may hold slashes, as those of self-hosted models do.
async fn one_model(
    State(lanes): State<Lanes>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let for_claude = models::are_for_claude(&headers);
    let found = lanes.model(&id, wants_new(&headers)).await;
    let found = found.map_err(refuse)?;
    let model = &found.models[0];
    let object = match for_claude {
        true => models::for_claude(model).to_string(),
        false => model.object().to_string(),
    };
    Ok(with_age(found.stale, object))
}

/// Whether the client asks for virtual models among the others: `?virtual=true`.
fn wants_virtual(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    query.split('&').any(|field| matches!(field, "virtual" | "virtual=true" | "virtual=1"))
}

/// Whether the client wants no list that was kept (RFC 9111 5.2.1.4).
fn wants_new(headers: &HeaderMap) -> bool {
    let wishes = headers.get(CACHE_CONTROL).and_then(|wishes| wishes.to_str().ok());
    wishes.is_some_and(|wishes| {
        wishes.split(',').any(|wish| wish.trim().eq_ignore_ascii_case("no-cache"))
    })
}

/// Says of a list that it is old, where its upstream could not be asked anew.
fn with_age(stale: Option<Duration>, json: String) -> Response {
    let content_type = [(CONTENT_TYPE, "application/json")];
    let mut response = (content_type, json).into_response();
    if let Some(age) = stale {
        let headers = response.headers_mut();
        headers.insert(AGE, age.as_secs().into());
        let warning = "110 - \"the upstream could not be asked anew\"";
        headers.insert(WARNING, HeaderValue::from_static(warning));
    }
    response
}

async fn list_chats(
    State(chats): State<Chats>,
    Extension(client): Extension<Client>,
    uri: Uri,
) -> Result<Response, Response> {
    let page =
        match field(&uri, "page") {
            None => 1,
            Some(page) => page.parse().ok().filter(|&page| page > 0).ok_or_else(|| {
                refuse(Error::invalid("page", "`page`: it is a number from 1 on"))
            })?,
        };
    let list = chats.list(client, page).await.map_err(refuse)?;
    let data: Vec<_> = list.iter().map(|(upstream, chat)| told_of(chat, Some(upstream))).collect();
    let list = json!({"object": "list", "data": data, "page": page});
    Ok(([(CACHE_CONTROL, "no-store")], Json(list)).into_response())
}

/// A chat with its messages, as JSON or, for people, as Markdown.
async fn one_chat(
    State(chats): State<Chats>,
    Path(id): Path<String>,
    Extension(client): Extension<Client>,
    uri: Uri,
) -> Result<Response, Response> {
    let is_markdown = match field(&uri, "format") {
        None | Some("json") => false,
        Some("markdown" | "md") => true,
        Some(_) => {
            let message = "`format`: it is `json` or `markdown`";
            return Err(refuse(Error::invalid("format", message)));
        }
    };
    let record = chats.get(client, &id).await.map_err(refuse)?;
    let no_store = [(CACHE_CONTROL, "no-store")];
    if is_markdown {
        // The id is letters, digits, `-` and `_`, or upstream was not asked.
        let file = format!("attachment; filename=\"chat-{id}.md\"");
        let head =
            [(CONTENT_TYPE, "text/markdown; charset=utf-8"), (CONTENT_DISPOSITION, file.as_str())];
        return Ok((no_store, head, record.markdown()).into_response());
    }
    let message = |message: &ChatMessage| {
        json!({
            "id": &*message.id,
            "parent_id": message.parent_id.as_deref(),
            "role": message.role.as_str(),
            "content": &*message.text,
            "reasoning_content": message.reasoning.as_deref(),
            "model": message.model.as_deref(),
            "created": message.created,
        })
    };
    let mut chat = told_of(&record.summary, None);
    chat["messages"] = record.messages.iter().map(message).collect();
    Ok((no_store, Json(chat)).into_response())
}

/// What clients are told of a chat.
fn told_of(chat: &ChatSummary, upstream: Option<&String>) -> serde_json::Value {
    let mut told = json!({
        "id": &*chat.id,
        "object": "chat",
        "title": chat.title.as_deref(),
        "chat_type": chat.chat_type.as_deref(),
        "created": chat.created,
        "updated": chat.updated,
    });
    if let Some(upstream) = upstream {
        told["upstream"] = json!(upstream);
    }
    told
}

/// The field `name` of the query, as it is written there.
fn field<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let fields = uri.query().unwrap_or_default().split('&');
    fields
        .filter_map(|field| field.split_once('='))
        .find_map(|(own, value)| (own == name).then_some(value))
}

async fn delete_chat(
    State(chats): State<Chats>,
    Path(id): Path<String>,
    Extension(client): Extension<Client>,
) -> Result<Json<serde_json::Value>, Response> {
    chats.delete(client, &id).await.map_err(refuse)?;
    Ok(Json(json!({"success": true, "message": "Chat deleted", "id": id})))
}

async fn delete_chats(
    State(chats): State<Chats>,
    Extension(client): Extension<Client>,
) -> Result<Json<serde_json::Value>, Response> {
    chats.delete_all(client).await.map_err(refuse)?;
    Ok(Json(json!({"success": true, "message": "All chats deleted"})))
}

async fn unknown_path(request: Request) -> Response {
    refuse(paths::unknown(&request))
}

async fn wrong_method(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let error =
        Error::new(ErrorKind::MethodNotAllowed, format!("{method} is not served at {path}"));
    refuse(error)
}

fn refuse(error: Error) -> Response {
    error_response(&error).into_response()
}

/// Other people's pages in the user's browser can reach a server on loopback, so without keys
/// only pages from loopback may read the answers. With keys the key decides.
fn cors(open: bool) -> CorsLayer {
    let origins = if open {
        AllowOrigin::predicate(|origin, _| is_loopback(origin))
    } else {
        AllowOrigin::any()
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // SDKs in browsers send a dozen `x-stainless-*`; `*` would not cover `authorization`.
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers(Any)
        .max_age(Duration::from_secs(3600))
}

/// CORS keeps a page from reading the answer, not from asking; this does, also where the page's
/// host name was rebound to this machine.
async fn own_pages_only(open: bool, request: Request, next: Next) -> Response {
    match request.headers().get(ORIGIN) {
        Some(origin) if open && !is_loopback(origin) => {
            let error = Error::new(
                ErrorKind::Permission,
                "pages from other hosts are served only by a proxy that asks for an API key",
            );
            refuse(error.with_code("origin_not_allowed"))
        }
        _ => next.run(request).await,
    }
}

fn is_loopback(origin: &HeaderValue) -> bool {
    let uri = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    uri.as_ref().and_then(Uri::host).is_some_and(hosts::is_loopback)
}

/// A client's own request id goes into logs and upstream, so it must be a plain short word.
fn forget_odd_request_id(mut request: Request) -> Request {
    let plain = |id: &HeaderValue| {
        id.len() <= 128
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(b))
    };
    if request.headers().get(&X_REQUEST_ID).is_some_and(|id| !plain(id)) {
        request.headers_mut().remove(&X_REQUEST_ID);
    }
    request
}

#[cfg(test)]
mod tests;

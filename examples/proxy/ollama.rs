//! What Ollama's API has beside its chats: the server, its models, and what is done with them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Extension, Request, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_qwen::{
    Error, ErrorKind,
    edge::read_body,
    ollama::{error_response, untagged},
    qwen::models::Model,
};

use super::{
    keys::Key,
    lanes::{Can, Lanes, Models, no_model},
    models::created_at,
};

/// What clients are told that they speak with: they ask for some features only of a server that is
/// no older than these, and thinking is the newest of those that are served here
/// (docs/reference/edges.md#e).
const VERSION: &str = "0.9.0";

/// The largest body that names a model, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// What is answered at `/`: clients look for these very words.
pub(crate) async fn is_running() -> &'static str {
    "Ollama is running"
}

pub(crate) async fn version() -> Json<Value> {
    Json(json!({"version": VERSION}))
}

/// The models, by the names that requests use.
pub(crate) async fn tags(
    State(lanes): State<Lanes>,
    key: Option<Extension<Arc<Key>>>,
) -> Result<Json<Value>, Response> {
    let list = lanes.list_models(false, false).await.map_err(refuse)?;
    let list = list.of_key(key.as_deref().map(Arc::as_ref), &lanes);
    let tag = |model: &Model| {
        let can = lanes.find(&model.id).map(|lane| lane.can).unwrap_or_default();
        json!({
            "name": model.id.as_str(),
            "model": model.id.as_str(),
            "modified_at": created_at(model.created),
            "size": 0,
            "digest": "",
            "details": details(),
            "capabilities": capabilities(model, can),
        })
    };
    Ok(Json(json!({"models": list.models.iter().map(tag).collect::<Value>()})))
}

/// One model: what is known of it.
pub(crate) async fn show(
    State(lanes): State<Lanes>,
    request: Request,
) -> Result<Json<Value>, Response> {
    let named = Named::read(&lanes, request).await.map_err(refuse)?;
    let (found, can) = find(&lanes, named.name().map_err(refuse)?).await.map_err(refuse)?;
    let model = &found.models[0];
    let mut info = json!({"general.architecture": "qwen"});
    if let Some(length) = model.context_length() {
        info["qwen.context_length"] = length.into();
    }
    Ok(Json(json!({
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(),
        "model_info": info,
        "capabilities": capabilities(model, can),
        "modified_at": created_at(model.created),
    })))
}

/// The models that are loaded: none, for nothing is here that could be.
pub(crate) async fn running() -> Json<Value> {
    Json(json!({"models": []}))
}

/// Clients pull a model before they use it. One that is there is as good as pulled.
pub(crate) async fn pull(
    State(lanes): State<Lanes>,
    request: Request,
) -> Result<Response, Response> {
    let named = Named::read(&lanes, request).await.map_err(refuse)?;
    find(&lanes, named.name().map_err(refuse)?).await.map_err(refuse)?;
    let success = json!({"status": "success"});
    Ok(match named.stream {
        Some(false) => Json(success).into_response(),
        _ => {
            let lines = format!("{}\n{success}\n", json!({"status": "pulling manifest"}));
            ([(CONTENT_TYPE, "application/x-ndjson")], lines).into_response()
        }
    })
}

/// What would change the models, which are the upstream's.
pub(crate) async fn unchangeable(request: Request) -> Response {
    let path = request.uri().path();
    let message = format!("{path} is not served here: the models are the upstream's");
    refuse(Error::new(ErrorKind::Unsupported, message))
}

/// What a body says that names a model.
#[derive(Deserialize)]
struct Named {
    model: Option<String>,
    /// What `model` was called before.
    name: Option<String>,
    stream: Option<bool>,
}

impl Named {
    async fn read(lanes: &Lanes, request: Request) -> Result<Self, Error> {
        let body = read_body(request.into_body(), MAX_BODY, Some(lanes.pace())).await?;
        serde_json::from_slice(&body).map_err(|error| {
            let message = format!("the body cannot be read: {error}; send {{\"model\": \"…\"}}");
            Error::new(ErrorKind::InvalidRequest, message)
        })
    }

    fn name(&self) -> Result<&str, Error> {
        let names = [&self.model, &self.name].into_iter().flatten();
        names
            .map(String::as_str)
            .find(|name| !name.is_empty())
            .ok_or_else(|| Error::invalid("model", "missing required parameter: `model`"))
    }
}

/// The model that a client calls `name`, with the usual tag or without it, and what can be done with
/// it.
async fn find(lanes: &Lanes, name: &str) -> Result<(Models, Can), Error> {
    let plain = untagged(name);
    let tagged = format!("{plain}:latest");
    for spelling in [plain, &tagged] {
        match lanes.model(spelling, false).await {
            Ok(found) => return Ok((found, lanes.find(spelling)?.can)),
            Err(error) if error.kind() == ErrorKind::ModelNotFound => {}
            Err(error) => return Err(error),
        }
    }
    // The words that Ollama has for it.
    let error = no_model(name);
    Err(match name.len() > tower_qwen::edge::MAX_MODEL_LEN {
        true => error,
        false => Error::new(ErrorKind::ModelNotFound, format!("model '{name}' not found")),
    })
}

/// Of weights and their form nothing is known.
fn details() -> Value {
    json!({
        "parent_model": "",
        "format": "",
        "family": "qwen",
        "families": ["qwen"],
        "parameter_size": "",
        "quantization_level": "",
    })
}

/// What a model can do, as far as its catalogue and the way to it say.
fn capabilities(model: &Model, can: Can) -> Vec<&'static str> {
    if model.id.to_ascii_lowercase().contains("embed") {
        return vec!["embedding"];
    }
    let listed = model.extra.get("capabilities");
    let of_page = model.extra.get("info").and_then(|info| info.get("meta")?.get("capabilities"));
    let says = |word: &str| {
        let list = listed.as_ref().and_then(|list| serde_json::from_str(list.as_str()).ok());
        let is_listed =
            matches!(list, Some(Value::Array(words)) if words.iter().any(|w| w == word));
        let is_so = of_page.as_ref().and_then(|all| all.get(word)?.as_bool());
        is_listed || is_so == Some(true)
    };
    let mut words = vec!["completion"];
    words.extend(can.tools.then_some("tools"));
    words.extend(says("thinking").then_some("thinking"));
    words.extend((can.images && says("vision")).then_some("vision"));
    words
}

fn refuse(error: Error) -> Response {
    error_response(&error).into_response()
}

//! Where the layers are put together.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body as AxumBody,
    http::{Request, Response},
};
use bytes::Bytes;
use http_body::Body;
use http_body_util::Full;
use secrecy::{ExposeSecret, SecretString};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_qwen::{
    Error,
    dedup::DedupLayer,
    emulator::Emulator,
    openai::OpenAiLayer,
    qwen::{
        QwenUpstream, QwenWebLayer,
        compatible::{CompatibleLayer, Server},
    },
    session::{MemoryStore, SessionLayer, SessionStore},
    sse::SseReframeLayer,
    tool::{call::ToolCallLayer, wrap::ToolWrapLayer},
};

use super::{
    chats::{self, Chats},
    config::{Config, Sessions, Tools, Upstream, UpstreamConfig, WebCredentials},
    lanes::{Lane, Lanes, MAX_BODY, Route},
    models::Models,
    pass,
    routes::{self, Site},
};

/// The routes over the stacks that `config` asks for; conversations are remembered in `store`.
///
/// # Errors
///
/// If an upstream cannot be set up, with what is wrong in one line.
pub(crate) fn router(config: &Config, store: &Arc<dyn SessionStore>) -> Result<Router, String> {
    let lanes = lanes(config, store)?;
    let site = Site {
        chats: Chats::new(lanes.clone(), Arc::clone(store), &config.api_keys),
        api_keys: config.api_keys.clone(),
        lanes,
    };
    Ok(routes::router(site))
}

/// The stacks alone.
///
/// # Errors
///
/// Those of [`router`].
pub(crate) fn lanes(config: &Config, store: &Arc<dyn SessionStore>) -> Result<Lanes, String> {
    let lanes = config.upstreams.iter().map(|upstream| {
        lane(upstream, store).map_err(|error| match &config.upstreams[..] {
            [_] => error,
            _ => format!("upstream {:?}: {error}", upstream.name),
        })
    });
    lanes.collect::<Result<_, _>>().map(Lanes::new)
}

/// Where conversations are remembered.
///
/// # Errors
///
/// If the URL of Redis is none.
pub(crate) fn store(sessions: &Sessions) -> Result<Arc<dyn SessionStore>, String> {
    #[cfg(feature = "redis")]
    if let Some(url) = &sessions.redis {
        // The message of a bad URL must not hold the URL, which may hold a password.
        let store = tower_qwen::session::RedisStore::new(url.expose_secret())
            .map_err(|_| "--redis: it is not a URL such as redis://127.0.0.1:6379/0".to_owned())?;
        return Ok(Arc::new(store.with_ttl(sessions.ttl)));
    }
    debug_assert!(sessions.redis.is_none(), "options that ask for it were refused");
    Ok(Arc::new(MemoryStore::new(sessions.capacity, sessions.ttl)))
}

fn lane(config: &UpstreamConfig, store: &Arc<dyn SessionStore>) -> Result<Lane, String> {
    let failed = |error: Error| format!("the upstream cannot be set up: {error}");
    match &config.upstream {
        Upstream::Emulator { recording } => {
            let emulator = emulator(recording.as_ref()).map_err(|e| format!("--replay: {e}"))?;
            Ok(web(emulator, config, store))
        }
        Upstream::Web { base_url, credentials } => {
            let client = web_client(&base_url.to_string(), credentials).map_err(failed)?;
            Ok(web(client, config, store))
        }
        Upstream::Compatible { base_url, server, key } => {
            let client = api_client(&base_url.to_string(), key.as_ref()).map_err(failed)?;
            Ok(compatible(client, *server, config))
        }
    }
}

/// The layers over chat.qwen.ai, outermost first.
fn web<U, B>(upstream: U, config: &UpstreamConfig, store: &Arc<dyn SessionStore>) -> Lane
where
    U: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let edge = ServiceBuilder::new()
        .layer(OpenAiLayer::new().max_body(MAX_BODY))
        .layer(SessionLayer::from_shared(Arc::clone(store)));
    let web = QwenWebLayer::new();

    // Outside of dedup: the names of the client's tools stand in its system prompt, which dedup
    // leaves out of later turns.
    let xml = edge
        .clone()
        .layer(ToolWrapLayer::new())
        .layer(DedupLayer::new())
        .layer(web.clone())
        .service(upstream.clone());
    let xml = route(xml);
    let edge = edge.layer(DedupLayer::new());
    let chat = match config.tools {
        Tools::Openai | Tools::Prompt | Tools::Native | Tools::Rescue => {
            route(edge.layer(ToolCallLayer::new()).layer(web).service(upstream.clone()))
        }
        Tools::Xml => xml.clone(),
        Tools::Off => route(edge.layer(web).service(upstream.clone())),
    };
    Lane {
        name: config.name.clone(),
        patterns: config.models.clone(),
        chat,
        xml,
        models: Models::new(upstream.clone()),
        chats: Some(chats::deletion(upstream)),
    }
}

/// The layers over an OpenAI-compatible API, outermost first. It keeps no chats, so there are no
/// sessions.
fn compatible<U, B>(upstream: U, server: Server, config: &UpstreamConfig) -> Lane
where
    U: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let edge = ServiceBuilder::new().layer(OpenAiLayer::new().max_body(MAX_BODY));
    let adapter = CompatibleLayer::new(server);
    let xml = edge.clone().layer(ToolWrapLayer::new()).layer(adapter.clone());
    let xml = route(xml.service(upstream.clone()));
    let with =
        |tools: ToolCallLayer| route(edge.layer(tools).layer(adapter).service(upstream.clone()));
    let chat = match config.tools {
        Tools::Openai | Tools::Rescue => with(ToolCallLayer::native().rescue(true)),
        Tools::Native => with(ToolCallLayer::native()),
        Tools::Prompt => with(ToolCallLayer::new()),
        Tools::Xml => xml.clone(),
        Tools::Off => {
            let lane = ServiceBuilder::new().layer(SseReframeLayer::new());
            pass::route(lane.service(upstream.clone()), "/chat/completions")
        }
    };
    Lane {
        name: config.name.clone(),
        patterns: config.models.clone(),
        chat,
        xml,
        models: Models::new(upstream),
        chats: None,
    }
}

/// A stack as the dispatcher wants it, whatever its types.
fn route<S, B>(stack: S) -> Route
where
    S: Service<axum::extract::Request, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    Route::new(stack.map_response(|response: Response<B>| response.map(AxumBody::new)))
}

fn emulator(recording: Option<&Bytes>) -> Result<Emulator, tower_qwen::emulator::ReplayError> {
    let builder = Emulator::builder();
    Ok(match recording {
        Some(recording) => builder.replay(recording.clone())?.build(),
        // Words come as from a model, so that a person sees them stream.
        None => builder.pace(Emulator::DEMO_PACE).build(),
    })
}

fn web_client(base_url: &str, credentials: &WebCredentials) -> Result<QwenUpstream, Error> {
    let mut builder = QwenUpstream::web().base_url(base_url);
    if let Some(token) = &credentials.token {
        builder = builder.token(token.expose_secret());
    }
    if let Some(token) = &credentials.umid_token {
        builder = builder.header("bx-umidtoken", token.expose_secret());
    }
    if let Some(cookies) = &credentials.cookies {
        builder = builder.cookies(cookies.expose_secret());
    }
    builder.build()
}

fn api_client(base_url: &str, key: Option<&SecretString>) -> Result<QwenUpstream, Error> {
    let mut builder = QwenUpstream::builder(base_url);
    if let Some(key) = key {
        builder = builder.token(key.expose_secret());
    }
    builder.build()
}

#[cfg(test)]
mod tests;

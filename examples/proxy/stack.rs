//! Where the layers are put together.

use std::sync::Arc;

use axum::{
    Router,
    http::{Request, Response},
    routing::any_service,
};
use bytes::Bytes;
use http_body::Body;
use http_body_util::Full;
use secrecy::ExposeSecret;
use tower::{BoxError, Service, ServiceBuilder};
use tower_qwen::{
    Error,
    dedup::DedupLayer,
    emulator::Emulator,
    openai::OpenAiLayer,
    qwen::{QwenUpstream, QwenWebLayer},
    session::{MemoryStore, SessionLayer, SessionStore},
    tool::{call::ToolCallLayer, wrap::ToolWrapLayer},
};

use super::{
    chats::Chats,
    config::{Config, Sessions, Tools, Upstream, WebCredentials},
    models::Models,
    routes::{self, Site},
};

/// The routes over the stack that `config` asks for.
///
/// # Errors
///
/// If the upstream cannot be set up, with what is wrong in one line.
pub(crate) fn router(config: &Config) -> Result<Router, String> {
    match &config.upstream {
        Upstream::Emulator { recording } => {
            let emulator = emulator(recording.as_ref()).map_err(|e| format!("--replay: {e}"))?;
            over(emulator, config)
        }
        Upstream::Web { base_url, credentials } => {
            let client = client(&base_url.to_string(), credentials)
                .map_err(|error| format!("the upstream cannot be set up: {error}"))?;
            over(client, config)
        }
    }
}

/// The layers, outermost first.
fn over<U, B>(upstream: U, config: &Config) -> Result<Router, String>
where
    U: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let store = store(&config.sessions)?;
    let edge = ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(SessionLayer::from_shared(Arc::clone(&store)));
    let web = QwenWebLayer::new();

    // Outside of dedup: the names of the client's tools stand in its system prompt, which dedup
    // leaves out of later turns.
    let xml = edge
        .clone()
        .layer(ToolWrapLayer::new())
        .layer(DedupLayer::new())
        .layer(web.clone())
        .service(upstream.clone());
    let xml = any_service(xml);
    let edge = edge.layer(DedupLayer::new());
    let chat = match config.tools {
        Tools::Openai => {
            any_service(edge.layer(ToolCallLayer::new()).layer(web).service(upstream.clone()))
        }
        Tools::Xml => xml.clone(),
        Tools::Off => any_service(edge.layer(web).service(upstream.clone())),
    };
    let site = Site {
        upstream: config.upstream.name(),
        chats: Chats::new(upstream.clone(), store, &config.api_keys),
        api_keys: config.api_keys.clone(),
        models: Models::new(upstream),
    };
    Ok(routes::router(site, chat, xml))
}

fn store(sessions: &Sessions) -> Result<Arc<dyn SessionStore>, String> {
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

fn emulator(recording: Option<&Bytes>) -> Result<Emulator, tower_qwen::emulator::ReplayError> {
    let builder = Emulator::builder();
    Ok(match recording {
        Some(recording) => builder.replay(recording.clone())?.build(),
        // Words come as from a model, so that a person sees them stream.
        None => builder.pace(Emulator::DEMO_PACE).build(),
    })
}

fn client(base_url: &str, credentials: &WebCredentials) -> Result<QwenUpstream, Error> {
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

#[cfg(test)]
mod tests;

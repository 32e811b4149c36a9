//! Where the layers are put together.

use axum::{
    Router,
    http::{Request, Response},
};
use bytes::Bytes;
use http_body::Body;
use http_body_util::Full;
use secrecy::ExposeSecret;
use tower::{BoxError, Service, ServiceBuilder};
use tower_qwen::{
    Error,
    emulator::Emulator,
    openai::OpenAiLayer,
    qwen::{QwenUpstream, QwenWebLayer},
};

use super::{
    config::{Config, Tools, Upstream, WebCredentials},
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
            Ok(over(emulator, config))
        }
        Upstream::Web { base_url, credentials } => {
            let client = client(&base_url.to_string(), credentials)
                .map_err(|error| format!("the upstream cannot be set up: {error}"))?;
            Ok(over(client, config))
        }
    }
}

/// The layers, outermost first.
fn over<U, B>(upstream: U, config: &Config) -> Router
where
    U: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let chat = match config.tools {
        Tools::Off => ServiceBuilder::new()
            .layer(OpenAiLayer::new())
            .layer(QwenWebLayer::new())
            .service(upstream.clone()),
    };
    let site = Site {
        upstream: config.upstream.name(),
        api_keys: config.api_keys.clone(),
        models: Models::new(upstream),
    };
    routes::router(site, chat)
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

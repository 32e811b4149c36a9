//! Where the layers are put together.
use super::{
    config::Config,
    models::Models,
    routes::{self, Site},
};
use axum::Router;
use axum::http::{Request, Response};
use futures_util::stream;
use tower::{ServiceBuilder, service_fn};
use tower_qwen::{
    Error,
    chat::{ChatEvent, ChatRequest, FinishReason},
    openai::OpenAiLayer,
};
pub(crate) fn router(config: &Config) -> Result<Router, String> {
    let _ = config.tools;
    let catalogue = service_fn(async |_: Request<http_body_util::Full<bytes::Bytes>>| {
        Ok::<_, tower::BoxError>(Response::new(http_body_util::Full::<bytes::Bytes>::from(
            r#"{"data":[{"id":"org/echo","info":{"created_at":7}}]}"#,
        )))
    });
    let echo = service_fn(|request: Request<ChatRequest>| async move {
        let said = request.body().messages.last().expect("never empty").text();
        let events = [ChatEvent::Text(said), ChatEvent::Finished(FinishReason::Stop)];
        Ok::<_, Error>(Response::new(stream::iter(events.map(Ok))))
    });
    let site = Site {
        upstream: config.upstream.name(),
        api_keys: config.api_keys.clone(),
        models: Models::new(catalogue, Default::default()),
    };
    Ok(routes::router(site, ServiceBuilder::new().layer(OpenAiLayer::new()).service(echo)))
}

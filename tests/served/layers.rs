//! The layers over an emulator, behind a socket.

use axum::{Json, Router, routing::get};
use serde_json::json;
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_qwen::{
    dedup::DedupLayer,
    emulator::Emulator,
    openai::OpenAiLayer,
    qwen::QwenWebLayer,
    session::{MemoryStore, SessionLayer, SessionStore},
    tool::call::ToolCallLayer,
};

/// The API of OpenAI below `/v1`, over `emulator`.
pub(crate) fn over(emulator: Emulator) -> Router {
    over_with(emulator, MemoryStore::default())
}

/// The same with another store of sessions.
pub(crate) fn over_with(emulator: Emulator, store: impl SessionStore) -> Router {
    let chat = ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(SessionLayer::new(store))
        .layer(DedupLayer::new())
        .layer(ToolCallLayer::new())
        .layer(QwenWebLayer::new())
        .service(emulator);
    let models = || async {
        Json(json!({"object": "list", "data": [{"id": "qwen3-coder-plus", "object": "model",
            "created": 1, "owned_by": "qwen"}]}))
    };
    Router::new().route("/v1/models", get(models)).route_service("/v1/chat/completions", chat)
}

/// Serves `app` on a free port for as long as the runtime is there; its base URL.
pub(crate) async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/v1")
}

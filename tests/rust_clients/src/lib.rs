//! Rust clients of other people, unmodified, against the edges; see `tests/`. Here is what they
//! have in common.

use std::convert::Infallible;

use axum::{Router, body::Body, extract::Request, response::IntoResponse};
use tokio::net::TcpListener;
use tower::Service;

/// What the clients bring.
pub const KEY: &str = "sk-demo-key";

/// Serves `stack` at `path`, on a port of its own, for as long as the runtime is there; its origin.
pub async fn serve<S>(path: &str, stack: S) -> String
where
    S: Service<Request<Body>, Response: IntoResponse, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    let app = Router::new().route_service(path, stack);
    tokio::spawn(async move { axum::serve(listener, app).await });
    origin
}

//! `SseReframeLayer` alone, on a route of an axum server.
//!
//! The route answers as a careless upstream does: events cut anywhere, CRLF, two at once, a long
//! silence, no blank line at the end. `curl -N localhost:3000/raw` shows that, and
//! `curl -N localhost:3000/events` what the layer makes of it.
//!
//! `cargo run --example axum --no-default-features --features sse`

use std::{convert::Infallible, time::Duration};

use axum::{Router, body::Body, http::header, response::IntoResponse, routing::get};
use futures_util::{StreamExt, stream};
use tower_qwen::sse::{
    KeepAlive,
    reframe::{OnError, SseReframeLayer},
};

/// How long each piece takes to come, and the piece.
const PIECES: [(u64, &str); 5] = [
    (0, "data: {\"delta\":\"Hel"),
    (100, "lo\"}\r\n\r\ndata: {\"delta\":\",\"}\r\n\r\nda"),
    (100, "ta: {\"delta\":\" world\"}\r"),
    (5000, "\n\r\n"),
    (100, "data: [DONE]\r\n"),
];

async fn careless() -> impl IntoResponse {
    let pieces = stream::iter(PIECES).then(|(delay, piece)| async move {
        tokio::time::sleep(Duration::from_millis(delay)).await;
        Ok::<_, Infallible>(piece)
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(pieces))
}

fn app() -> Router {
    let reframe = SseReframeLayer::new()
        .keep_alive(KeepAlive::new(Duration::from_secs(1)))
        .on_error(OnError::InBand);
    Router::new()
        .route("/events", get(careless))
        .layer(reframe)
        // What is added behind the layer is not touched by it.
        .route("/raw", get(careless))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    axum::serve(listener, app()).await
}

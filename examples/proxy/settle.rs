//! What is done with what a request has come to.

use axum::http::Request;
use tower_qwen::{
    chat::ChatRequest,
    usage::{Settlement, UsageLayer},
};

use super::access::Access;

/// Settles every request below it, once.
pub(crate) fn layer() -> UsageLayer {
    UsageLayer::opening(|request: &Request<ChatRequest>| {
        let access = Access::of(request.extensions());
        move |settlement: Settlement| {
            if let Some(access) = access {
                access.settle(&settlement);
            }
        }
    })
}

/// Notes which model a client asks for: one who repeats a request has no settlement of its own.
pub(crate) fn note_model(request: Request<ChatRequest>) -> Request<ChatRequest> {
    if let Some(access) = request.extensions().get::<Access>() {
        access.model(&request.body().model);
    }
    request
}

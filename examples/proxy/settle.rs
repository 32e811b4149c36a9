//! What is done with what a request has come to.

use axum::http::{Extensions, Request};
use tower_qwen::{
    chat::ChatRequest,
    usage::{Settlement, UsageLayer},
};

use super::{access::Access, gate::Payer};

/// Settles every request below it, once.
pub(crate) fn layer() -> UsageLayer {
    UsageLayer::opening(|request: &Request<ChatRequest>| of(request.extensions()))
}

/// What is told what the request with these `extensions` has come to.
pub(crate) fn of(extensions: &Extensions) -> impl FnOnce(Settlement) + Send + use<> {
    let (access, payer) = (Access::of(extensions), extensions.get::<Payer>().cloned());
    move |settlement: Settlement| {
        // What nobody has let in is the proxy's own.
        if let Some(payer) = payer {
            payer.pay(&settlement);
        }
        if let Some(access) = access {
            access.settle(&settlement);
        }
    }
}

/// Notes which model a client asks for: one who repeats a request has no settlement of its own.
pub(crate) fn note_model(request: Request<ChatRequest>) -> Request<ChatRequest> {
    if let Some(access) = request.extensions().get::<Access>() {
        access.model(&request.body().model);
    }
    request
}

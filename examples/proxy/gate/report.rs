//! `GET /v1/usage`: what was used, and what is left.

use axum::{
    Json,
    extract::{Extension, State},
    http::header::CACHE_CONTROL,
    response::{IntoResponse, Response},
};
use jiff::{Timestamp, civil::Date};
use serde_json::{Value, json};
use tower_qwen::{Error, ErrorKind, openai::error_response};

use super::{
    super::{
        clients::Client,
        keys::{KeyId, Limits},
    },
    Admission,
    admit::key_limits,
    lock,
};

/// A client's own numbers; an admin's key is told those of all.
pub(crate) async fn report(
    State(admission): State<Admission>,
    Extension(client): Extension<Client>,
) -> Response {
    let clients = admission.clients();
    let own = clients.key_of(client);
    let is_admin = own.is_some_and(|key| key.is_admin);
    if own.is_none() && clients.are_strangers() {
        let message = "who has no key here has no account; only a client with a key is told what it \
                       has used";
        return error_response(&Error::new(ErrorKind::Permission, message)).into_response();
    }
    let data = match is_admin {
        true => rows(&admission),
        false => vec![row(&admission, client.account(), Timestamp::now())],
    };
    ([(CACHE_CONTROL, "no-store")], Json(json!({"object": "list", "data": data}))).into_response()
}

/// The numbers of all.
pub(crate) fn rows(admission: &Admission) -> Vec<Value> {
    let now = Timestamp::now();
    let mut ids = admission.gate().known();
    ids.extend(admission.clients().filed().map(|key| key.id));
    ids.into_iter().map(|id| row(admission, id, now)).collect()
}

fn row(admission: &Admission, id: KeyId, now: Timestamp) -> Value {
    let key = admission.clients().filed().find(|key| key.id == id);
    let limits = key_limits(key);
    let account = admission.gate().account(id);
    let (streams, queued) = account.streams.taken();
    let mut state = lock(&account.state);
    state.book.roll(now);
    // Whoever looks again sees what other proxies have entered.
    state.has_asked = true;
    let book = state.book;
    drop(state);
    let Limits { streams: most, requests_per_minute, tokens_per_minute, .. } = limits;
    json!({
        "object": "usage",
        "key": id.as_str(),
        "name": key.map(|key| key.name.as_str()),
        "requests": book.requests,
        "failed_requests": book.failed,
        "prompt_tokens": book.prompt_tokens,
        "completion_tokens": book.completion_tokens,
        "total_tokens": book.prompt_tokens.saturating_add(book.completion_tokens),
        "estimated_tokens": book.estimated_tokens,
        "day": used(book.day.from, book.day.tokens, limits.tokens_per_day),
        "month": used(book.month.from, book.month.tokens, limits.tokens_per_month),
        // They are counted where there is a limit.
        "streams": most.map(|limit| json!({"limit": limit, "running": streams, "queued": queued})),
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
    })
}

fn used(from: Date, tokens: u64, budget: Option<u64>) -> Value {
    json!({
        "from": from.to_string(),
        "tokens": tokens,
        "budget": budget,
        "left": budget.map(|budget| budget.saturating_sub(tokens)),
    })
}

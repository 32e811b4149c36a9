//! `GET /models`.

use crate::json::{Value, json};

use super::{Dialect, error::CONTEXT};
use crate::{kind::Kind, state::Shared};

/// When the models came to be, in seconds since the Unix epoch.
const CREATED: u64 = 1_760_000_000;

/// The list.
pub(super) fn list(shared: &Shared, dialect: Dialect) -> Value {
    let ids = &shared.config.models;
    let cards: Vec<Value> = ids.iter().map(|id| card(dialect, id)).collect();
    match dialect.kind {
        // The list of another API stands beside it.
        Kind::LlamaCpp => {
            let models: Vec<Value> = ids
                .iter()
                .map(|id| {
                    let kind = if is_embedding(id) { "embedding" } else { "completion" };
                    json!({"name": id, "model": id, "type": "model", "capabilities": [kind]})
                })
                .collect();
            json!({"models": models, "object": "list", "data": cards})
        }
        _ => json!({"object": "list", "data": cards}),
    }
}

/// One model; `None` if it is unknown.
pub(super) fn one(shared: &Shared, dialect: Dialect, id: &str) -> Option<Value> {
    // A client may write the slash of an id as it likes.
    let id = id.replace("%2F", "/").replace("%2f", "/").replace("%3A", ":").replace("%3a", ":");
    shared.config.models.contains(&id).then(|| card(dialect, &id))
}

/// Whether the model is one for embeddings.
pub(super) fn is_embedding(id: &str) -> bool {
    id.to_ascii_lowercase().contains("embed")
}

fn card(dialect: Dialect, id: &str) -> Value {
    let owner = match dialect.kind {
        Kind::Vllm => "vllm",
        Kind::SgLang => "sglang",
        Kind::Ollama => "library",
        Kind::LlamaCpp => "llamacpp",
        _ => "system",
    };
    let mut card = json!({"id": id, "object": "model", "created": CREATED, "owned_by": owner});
    match dialect.kind {
        Kind::Vllm => {
            card["root"] = id.into();
            card["parent"] = Value::Null;
            card["max_model_len"] = CONTEXT.into();
            card["permission"] = json!([]);
        }
        Kind::SgLang => {
            card["root"] = id.into();
            card["max_model_len"] = CONTEXT.into();
        }
        Kind::LlamaCpp => {
            card["meta"] =
                json!({"n_ctx_train": CONTEXT, "n_embd": 1024, "size": 18_000_000_000_u64});
        }
        _ => {}
    }
    card
}

//! Models as clients want to read of them.

use axum::http::HeaderMap;
use serde_json::{Value, json};
use tower_qwen::qwen::models::Model;

/// Whether a client speaks the Anthropic API, which has another form of the same list at the same
/// place.
pub(crate) fn are_for_claude(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

/// OpenAI's list. The upstreams' fields that its objects have none for stand beside their own:
/// clients leave out what they do not know.
pub(crate) fn list(models: &[Model]) -> String {
    // As text: a value would not hold every number that an upstream may write.
    let models: Vec<_> = models.iter().map(|model| model.object().to_string()).collect();
    format!(r#"{{"object":"list","data":[{}]}}"#, models.join(","))
}

/// Anthropic's list, all of it: what is asked for by `limit` is the least of what fits.
pub(crate) fn list_for_claude(models: &[Model]) -> String {
    let id = |model: Option<&Model>| model.map(|model| model.id.to_string());
    let list = json!({
        "data": models.iter().map(for_claude).collect::<Vec<_>>(),
        "has_more": false,
        "first_id": id(models.first()),
        "last_id": id(models.last()),
    });
    list.to_string()
}

/// Anthropic's object. Without the limits a client takes those of Anthropic's own models.
pub(crate) fn for_claude(model: &Model) -> Value {
    let mut object = json!({
        "type": "model",
        "id": model.id.as_str(),
        "display_name": model.display_name().as_str(),
        "created_at": created_at(model.created),
    });
    for (name, limit) in
        [("max_input_tokens", model.context_length()), ("max_tokens", model.max_output())]
    {
        if let Some(limit) = limit {
            object[name] = limit.into();
        }
    }
    object
}

/// A time in the form of RFC 3339; that of 1970 where none is known, as Anthropic has it.
pub(crate) fn created_at(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.unwrap_or_default().to_string()
}

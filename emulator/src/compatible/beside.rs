//! What some servers have beside chats: reranking, speech, transcriptions.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};

use super::{
    Dialect, Seed,
    error::Fault,
    given,
    request::{object, text},
};
use crate::{
    body::Body,
    completion::number_of_tokens,
    envelope::{json_with, with_type},
    json::{Value, json},
    kind::Kind,
    state::Shared,
};

/// The most documents of one request.
const DOCUMENTS: usize = 500;

/// `POST /rerank`, and DashScope's `/reranks`: the more words of the query a document has, the better
/// it fits.
pub(super) fn rerank(
    shared: &Shared,
    dialect: Dialect,
    seed: &mut Seed,
    body: &Bytes,
) -> Result<Response<Body>, Fault> {
    let body = object(body)?;
    let model = text(&body, "model")?;
    check(shared, dialect, &model)?;
    let query = text(&body, "query")?;
    let documents = body["documents"].as_array().filter(|list| !list.is_empty());
    let documents =
        documents.ok_or_else(|| Fault::bad(Some("documents"), "documents is a list of texts"))?;
    if documents.len() > DOCUMENTS {
        return Err(Fault::bad(Some("documents"), "at most 500 documents are ranked at once"));
    }
    let texts: Option<Vec<&str>> =
        documents.iter().map(|one| one.as_str().or(one["text"].as_str())).collect();
    let texts = texts.ok_or_else(|| Fault::bad(Some("documents"), "a document is no text"))?;
    let words: Vec<&str> = query.split_whitespace().collect();
    let mut results: Vec<(usize, f64)> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let found = words.iter().filter(|word| text.contains(**word)).count();
            #[expect(clippy::cast_precision_loss, reason = "a query has few words")]
            let score = (found as f64 + 0.5) / (words.len() as f64 + 1.0);
            (index, score)
        })
        .collect();
    results.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    if let Some(most) = given(&body, "top_n").and_then(Value::as_u64) {
        results.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    }
    let results: Value = results
        .into_iter()
        .map(|(index, score)| {
            let mut result = json!({"index": index, "relevance_score": score});
            if dialect.is(Kind::Vllm) {
                result["document"] = json!({"text": texts[index]});
            }
            result
        })
        .collect();
    let tokens: usize = texts.iter().map(|text| text.len()).sum();
    let answer = json!({
        "id": seed.uuid(), "model": model, "object": "list", "results": results,
        "usage": {"total_tokens": number_of_tokens(tokens) - 23},
    });
    Ok(json_with(StatusCode::OK, &answer))
}

/// `POST /audio/speech`: a WAV file that says nothing.
pub(super) fn speech(
    shared: &Shared,
    dialect: Dialect,
    body: &Bytes,
) -> Result<Response<Body>, Fault> {
    const SILENCE: &[u8] = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\
                             \x02\0\x10\0data\0\0\0\0";

    let body = object(body)?;
    check(shared, dialect, &text(&body, "model")?)?;
    text(&body, "input")?;
    Ok(with_type(StatusCode::OK, "audio/wav", SILENCE))
}

/// `POST /audio/transcriptions` and `translations`: how long the form is that was sent.
pub(super) fn transcribe(headers: &HeaderMap, body: &Bytes) -> Result<Response<Body>, Fault> {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let has = |name: &str| {
        let head = format!("name=\"{name}\"");
        body.windows(head.len()).any(|part| part == head.as_bytes())
    };
    if !kind.starts_with(b"multipart/form-data") || !has("file") {
        return Err(Fault::bad(Some("file"), "a form with a `file` is wanted"));
    }
    let text = format!("A recording in a form of {} bytes.", body.len());
    Ok(json_with(StatusCode::OK, &json!({"text": text})))
}

fn check(shared: &Shared, dialect: Dialect, model: &str) -> Result<(), Fault> {
    // These two have one model, and do not look at its name; DashScope's are not in its list.
    let any = matches!(dialect.kind, Kind::SgLang | Kind::LlamaCpp | Kind::DashScope);
    if any || shared.config.models.iter().any(|own| own == model) {
        return Ok(());
    }
    Err(Fault::model_not_found(dialect, model))
}

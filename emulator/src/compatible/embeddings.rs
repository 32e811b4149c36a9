//! `POST /embeddings`.

use crate::json::{Value, json};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{
    Dialect, Seed,
    error::{Class, Fault},
    given,
    models::is_embedding,
    request::{object, text},
};
use crate::{completion::number_of_tokens, kind::Kind, state::Shared};

/// How long vectors are where nobody says.
const DIMENSIONS: usize = 1_024;
/// How long they may be.
const MOST_DIMENSIONS: usize = 4_096;

pub(super) fn answer(
    shared: &Shared,
    dialect: Dialect,
    seed: &mut Seed,
    body: &Bytes,
) -> Result<Value, Fault> {
    let body = object(body)?;
    let model = text(&body, "model")?;
    let any = matches!(dialect.kind, Kind::SgLang | Kind::LlamaCpp);
    if !any && !shared.config.models.contains(&model) {
        return Err(Fault::model_not_found(dialect, &model));
    }
    if !is_embedding(&model) {
        return Err(Fault::new(Class::Unsupported));
    }
    let inputs = inputs(dialect, &body["input"])?;
    // DashScope takes a few at a time, 10 or 25 by the model.
    let most = match dialect.kind {
        Kind::DashScope if model.ends_with("-v1") || model.ends_with("-v2") => 25,
        Kind::DashScope => 10,
        _ => usize::MAX,
    };
    if inputs.len() > most {
        let message = format!(
            "<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it \
             should not be larger than {most}.: input.contents"
        );
        return Err(Fault::bad(None, message));
    }
    let base64 = match given(&body, "encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => false,
        Some(Some("base64")) => match dialect.kind {
            // It knows only floats; a gateway gives them without a word.
            Kind::DashScope if !dialect.old => {
                return Err(Fault::bad(Some("encoding_format"), "only `float` is supported"));
            }
            // These look away.
            Kind::DashScope | Kind::SgLang => false,
            Kind::Ollama => !dialect.old,
            _ => true,
        },
        Some(_) => return Err(Fault::bad(Some("encoding_format"), "Field is invalid")),
    };
    let dimensions = match given(&body, "dimensions") {
        None => DIMENSIONS,
        Some(value) => value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (1..=MOST_DIMENSIONS).contains(n))
            .ok_or_else(|| Fault::bad(Some("dimensions"), "dimensions is out of range"))?,
    };
    let mut data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = vector(&model, input, dimensions);
            let embedding = if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                STANDARD.encode(bytes).into()
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    if dialect.is(Kind::DashScope) {
        // DashScope: not in the order of the inputs.
        data.reverse();
    }
    let tokens: u64 = inputs.iter().map(|input| number_of_tokens(input.len()) - 23).sum();
    let mut answer = json!({
        "object": "list", "data": data, "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    match dialect.kind {
        Kind::Vllm => answer["id"] = format!("embd-{}", seed.hex(32)).into(),
        Kind::DashScope => answer["id"] = seed.uuid().into(),
        _ => {}
    }
    Ok(answer)
}

/// The inputs as bytes: texts, or the numbers of tokens.
fn inputs(dialect: Dialect, input: &Value) -> Result<Vec<Vec<u8>>, Fault> {
    let bad = || Fault::bad(Some("input"), "input is a text, a list of texts, or tokens");
    let tokens = |list: &[Value]| -> Option<Vec<u8>> {
        // DashScope documents no tokens, and takes none.
        if dialect.is(Kind::DashScope) {
            return None;
        }
        let numbers: Option<Vec<u64>> = list.iter().map(Value::as_u64).collect();
        Some(numbers?.into_iter().flat_map(u64::to_le_bytes).collect())
    };
    match input {
        Value::String(text) => Ok(vec![text.clone().into_bytes()]),
        Value::Array(list) if list.is_empty() => Err(bad()),
        Value::Array(list) if list.iter().all(Value::is_u64) => {
            tokens(list).map(|tokens| vec![tokens]).ok_or_else(bad)
        }
        Value::Array(list) => list
            .iter()
            .map(|item| match item {
                Value::String(text) => Some(text.clone().into_bytes()),
                Value::Array(list) => tokens(list),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(bad),
        _ => Err(bad()),
    }
}

/// A vector of length one, always the same for the same input.
fn vector(model: &str, input: &[u8], dimensions: usize) -> Vec<f32> {
    let mut seed = Seed::of(&[model.as_bytes(), b"\0", input]);
    let numbers: Vec<f32> = (0..dimensions)
        .map(|_| {
            // Sixteen bits fit into an `f32`.
            let bits = u16::try_from(seed.next() >> 48).unwrap_or(u16::MAX);
            f32::from(bits) / 32_768.0 - 1.0
        })
        .collect();
    let length = numbers.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    numbers.into_iter().map(|x| x / length).collect()
}

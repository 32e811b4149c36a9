//! The emulated OpenAI-compatible servers, byte by byte, against what
//! docs/reference/qwen-wire.md#c says of those that they imitate.
//!
//! The transcripts hold the deviations of each server and year as they are
//! on the wire: a stream of text with usage, thinking cut by the token limit, a call, a failure in
//! the stream, a refusal, and whole answers. `UPDATE_TRANSCRIPTS=1` writes them anew, and fails, so
//! that someone reads what changed.

mod calls;
mod other_routes;
mod refusals;
mod streams;
#[path = "../traced/mod.rs"]
mod traced;
mod transcripts;

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tower::ServiceExt;
use tower_qwen_emulator::{Builder, Emulator, Kind, OAuthAccount, Style};

/// The OpenAI-compatible kinds.
fn kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::Web)
}

const STYLES: [(Style, &str); 2] = [(Style::Autumn2025, "2025"), (Style::Autumn2026, "2026")];

/// A model that thinks only when asked to.
fn coder(kind: Kind) -> &'static str {
    match kind {
        Kind::Vllm | Kind::SgLang => "Qwen/Qwen3-Coder-30B-A3B-Instruct",
        Kind::Ollama => "qwen3-coder:30b",
        Kind::LlamaCpp => "qwen3-coder-30b-a3b-instruct-q4_k_m",
        Kind::DashScope => "qwen-plus",
        _ => "coder-model",
    }
}

/// One that thinks unless told not to.
fn hybrid(kind: Kind) -> &'static str {
    match kind {
        Kind::Vllm | Kind::SgLang => "Qwen/Qwen3-32B",
        Kind::Ollama => "qwen3:32b",
        Kind::LlamaCpp => "qwen3-32b-q4_k_m",
        _ => "qwen3-32b",
    }
}

fn embedder(kind: Kind) -> &'static str {
    match kind {
        Kind::Vllm | Kind::SgLang => "Qwen/Qwen3-Embedding-0.6B",
        Kind::Ollama => "qwen3-embedding:0.6b",
        Kind::LlamaCpp => "qwen3-embedding-0.6b",
        _ => "text-embedding-v4",
    }
}

fn builder(kind: Kind) -> Builder {
    Emulator::builder().kind(kind)
}

/// An answer that was read to its end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Result<String, std::io::Error>,
}

impl Answer {
    fn text(&self) -> &str {
        self.body.as_ref().expect("a whole body")
    }

    fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// The data of the events, without `[DONE]`.
    fn chunks(&self) -> Vec<Value> {
        let data = self.text().lines().filter_map(|line| line.strip_prefix("data: "));
        let data = data.filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
    }

    /// A string of every delta, joined.
    fn joined(&self, field: &str) -> String {
        let chunks = self.chunks();
        let deltas = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"][field]);
        deltas.filter_map(Value::as_str).collect()
    }
}

async fn send(emulator: &Emulator, request: Request<Full<Bytes>>) -> Answer {
    traced::on();
    let response = emulator.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await;
    let body = body.map(|body| String::from_utf8(body.to_bytes().into()).expect("UTF-8"));
    Answer { status: parts.status, headers: parts.headers, body }
}

/// With the keys of its objects in order: the ids of an answer come out of the request's bytes, and
/// these shall not hang on what `serde_json` makes of the order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            fields.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
        }
        Value::Array(values) => values.iter().map(sorted).collect(),
        scalar => scalar.clone(),
    }
}

async fn post(emulator: &Emulator, path: &str, body: &Value) -> Answer {
    let request = Request::post(path).body(Full::new(sorted(body).to_string().into()));
    send(emulator, request.expect("a request")).await
}

async fn get(emulator: &Emulator, path: &str) -> Answer {
    send(emulator, Request::get(path).body(Full::default()).expect("a request")).await
}

/// A request that every kind takes, the portal too.
fn chat(kind: Kind, text: &str) -> Value {
    json!({
        "model": coder(kind), "stream": true, "stream_options": {"include_usage": true},
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": text},
        ],
    })
}

fn with(mut body: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("{fields}") };
    for (key, value) in fields {
        body[key] = value;
    }
    body
}

fn tools() -> Value {
    let tool = |name: &str| {
        let parameters = json!({"type": "object", "properties": {"zone": {"type": "string"}}});
        json!({"type": "function", "function": {"name": name, "parameters": parameters}})
    };
    json!([tool("get_time"), tool("get_date")])
}

async fn ask(kind: Kind, style: Style, body: &Value) -> Answer {
    post(&builder(kind).style(style).build(), "/v1/chat/completions", body).await
}

/// `text` without the times in it.
fn timeless(text: &str) -> String {
    let mut parts = text.split("\"created\":");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("\"created\":0");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

//! Ollama's own clients for Python and JavaScript; the tests themselves are the scripts in
//! tests/clients.
//!
//! They need the packages that tests/clients.rs names. Without them the tests say so and pass,
//! except where `CI` is set.
//!
//! They talk to the proxy's program over chat.qwen.ai's emulator, which asks for a key, and at
//! `OTHER_BASE_URL` to one over an emulated Ollama, which thinks and embeds and asks for none. At
//! `ANSWERS_BASE_URL` stands the edge over a service that gives the Nth of some hundred answers to
//! `answer N`; the scripts read from `/answers` what they say.

#[path = "proxy/binary.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod binary;
#[path = "messages/events.rs"]
mod events;
#[path = "served/suite.rs"]
mod suite;
mod traced;

use std::{process::Command, sync::LazyLock};

use axum::{Json, Router, routing::get};
use binary::Running;
use events::Said;
use futures_util::stream;
use http::{Request, Response};
use serde_json::{Value, json};
use suite::KEY;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_qwen::{
    Error,
    chat::{ChatRequest, FinishReason},
    ollama::OllamaLayer,
};

/// Programs of answers, from short to long.
static PROGRAMS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        // xorshift, so that each run asks for the same.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..300).map(|at| (0..1 + at / 4).map(|_| random()).collect()).collect()
});

/// What an answer says, for the scripts; of one that its limit or a filter has ended without the
/// last call, which may be cut.
fn told(said: Said) -> Value {
    let reason = match said.end.expect("an end") {
        Err(_) => "error",
        Ok(FinishReason::ToolCalls) => "stop",
        Ok(reason) => reason.as_str(),
    };
    let mut calls = said.calls;
    if matches!(reason, "length" | "content_filter") {
        calls.pop();
    }
    let call = |(name, json): (String, String)| {
        json!([name, serde_json::from_str::<Value>(&json).unwrap_or_else(|_| json!({}))])
    };
    json!({"text": said.text, "thinking": said.thinking, "reason": reason,
        "tokens": said.usage.map(|usage| usage.completion_tokens),
        "calls": calls.into_iter().map(call).collect::<Value>()})
}

/// Serves the answers, and gives where.
async fn answers() -> String {
    traced::on();
    let inner = service_fn(|request: Request<ChatRequest>| async move {
        let text = request.body().history.iter().last().expect("a message").text();
        let number = text.strip_prefix("answer ").and_then(|number| number.parse().ok());
        let number: usize = number.expect("a number");
        Ok::<_, Error>(Response::new(stream::iter(events::answer(&PROGRAMS[number]).0)))
    });
    let edge = ServiceBuilder::new().layer(OllamaLayer::new()).service(inner);
    let known = || async {
        Json(PROGRAMS.iter().map(|program| told(events::answer(program).1)).collect::<Vec<_>>())
    };
    let app = Router::new().route_service("/api/chat", edge).route("/answers", get(known));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    origin
}

/// Runs `suite` against all three.
async fn run(mut suite: Command) {
    let answers = answers().await;
    let run = move || {
        let mut web = binary::command();
        web.args(["--upstream", "emulator"]).env("RUST_LOG", "warn");
        web.env("QWEN_PROXY_API_KEY", format!("sk-other,{KEY}"));
        let web = Running::start(web);
        let mut other = binary::command();
        other.args(["--upstream", "emulator", "--emulate", "ollama"]).env("RUST_LOG", "warn");
        let other = Running::start(other);
        suite.env("OTHER_BASE_URL", &other.origin).env("ANSWERS_BASE_URL", answers);
        // Where its clients look for a key.
        suite.env("OLLAMA_API_KEY", KEY).env_remove("OLLAMA_HOST");
        suite::run(&mut suite, &web.origin);
    };
    tokio::task::spawn_blocking(run).await.expect("it passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_for_python() {
    let Some(mut suite) = suite::python("ollama") else { return };
    suite.args(["-m", "unittest", "-v", "test_ollama"]);
    run(suite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_for_javascript() {
    let Some(mut suite) = suite::node(&["ollama"]) else { return };
    suite.args(["--test", "ollama.test.mjs"]);
    run(suite).await;
}

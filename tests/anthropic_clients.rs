//! Anthropic's official SDKs over the Messages edge; the tests themselves are the scripts in
//! tests/clients.
//!
//! They need the packages that tests/clients.rs names. Without them the tests say so and pass,
//! except where `CI` is set.
//!
//! The service below the edge does what the last words of a request say: `answer N` gives the Nth
//! of a thousand answers that the scripts read from `/answers`; `error KIND` fails before it
//! begins, with a kind from `/errors`; and with tools on offer it calls them.

mod messages;
#[path = "served/suite.rs"]
mod suite;
mod traced;

use std::{
    collections::HashMap,
    process::Command,
    sync::{Arc, LazyLock, Mutex},
};

use axum::{Json, Router, routing::get};
use futures_util::stream;
use http::{Request, Response};
use messages::events::{self, Item, Said};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    anthropic::AnthropicLayer,
    chat::{ChatEvent, ChatRequest, FinishReason, Role, Usage},
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
    (0..1_000).map(|at| (0..1 + at / 12).map(|_| random()).collect()).collect()
});

const ERRORS: [(&str, ErrorKind); 14] = [
    ("invalid", ErrorKind::InvalidRequest),
    ("context", ErrorKind::ContextLength),
    ("filter", ErrorKind::ContentFilter),
    ("auth", ErrorKind::Auth),
    ("permission", ErrorKind::Permission),
    ("model", ErrorKind::ModelNotFound),
    ("too-large", ErrorKind::TooLarge),
    ("rate", ErrorKind::RateLimited),
    ("quota", ErrorKind::Quota),
    ("internal", ErrorKind::Internal),
    ("upstream", ErrorKind::Upstream),
    ("challenge", ErrorKind::Challenge),
    ("overloaded", ErrorKind::Overloaded),
    ("timeout", ErrorKind::Timeout),
];

/// What an answer says, for the scripts.
fn told(said: Said) -> Value {
    let calls: Vec<_> = said
        .calls
        .iter()
        .enumerate()
        .filter(|(at, _)| !said.is_cut || at + 1 < said.calls.len())
        .map(|(_, (name, json))| {
            let input: Value = serde_json::from_str(json).expect("a whole call");
            json!({"name": name, "input": input})
        })
        .collect();
    let end = said.end.expect("an end");
    let error = end.err();
    json!({
        "limited": end == Ok(FinishReason::Length),
        "text": said.text, "thinking": said.thinking, "calls": calls, "is_cut": said.is_cut,
        "fails": error.is_some(), "refuses": error == Some(ErrorKind::ContentFilter),
    })
}

/// What the service below the edge says to a request.
fn answer(
    request: &ChatRequest,
    asked: &Mutex<HashMap<String, usize>>,
) -> Result<Vec<Item>, Error> {
    let called = request.history.iter().rev().take_while(|message| message.role == Role::Tool);
    let results: Vec<_> = called.map(|message| message.text()).collect();
    if !results.is_empty() {
        let place = request.history.len() - results.len() - 1;
        let message = request.history.iter().nth(place).expect("the call");
        let names: Vec<_> = message.tool_calls.iter().map(|call| call.name.as_str()).collect();
        let thinking = message.reasoning.as_deref().unwrap_or("nothing");
        let text = format!("{}: {}; thought {thinking}", names.join(", "), results.join(" and "));
        return Ok(vec![
            Ok(ChatEvent::Text(text.into())),
            Ok(ChatEvent::Finished(FinishReason::Stop)),
        ]);
    }
    let text = request.history.iter().last().expect("a message").text();
    if let Some(number) = text.strip_prefix("answer ") {
        let number: usize = number.parse().expect("a number");
        return Ok(events::answer(&PROGRAMS[number]).0);
    }
    if let Some(name) = text.strip_prefix("error ") {
        let mut asked = asked.lock().expect("not poisoned");
        let times = asked.entry(name.to_owned()).or_default();
        *times += 1;
        let name = name.split(' ').next().unwrap_or_default();
        let kind = ERRORS.iter().find(|(own, _)| *own == name).expect("an error").1;
        return Err(Error::new(kind, format!("asked {times} times")));
    }
    let call = |index: u32, name: &str| {
        Ok(ChatEvent::ToolCall {
            index,
            id: format!("call_{index}").into(),
            name: name.to_owned().into(),
        })
    };
    let json = |index: u32, json: &str| {
        Ok(ChatEvent::ToolArguments { index, json: json.to_owned().into() })
    };
    assert_eq!(request.tools.len(), 2, "{text}");
    Ok(vec![
        Ok(ChatEvent::Reasoning("Both.".into())),
        Ok(ChatEvent::Text("I look.".into())),
        call(0, "get_weather"),
        json(0, "{\"city\": \"Zür"),
        call(1, "get_time"),
        json(0, "ich \\\"}{\\\" <b>\","),
        json(1, "{}"),
        json(0, "\"days\": 3}"),
        Ok(ChatEvent::Usage(Usage::new(20, 10))),
        Ok(ChatEvent::Finished(FinishReason::ToolCalls)),
    ])
}

fn app() -> Router {
    traced::on();
    let asked = Arc::new(Mutex::new(HashMap::new()));
    let inner = service_fn(move |request: Request<ChatRequest>| {
        let answer = answer(request.body(), &asked);
        async { answer.map(|items| Response::new(stream::iter(items))) }
    });
    let edge = ServiceBuilder::new().layer(AnthropicLayer::new()).service(inner);
    let answers = || async {
        Json(PROGRAMS.iter().map(|program| told(events::answer(program).1)).collect::<Vec<_>>())
    };
    let errors = || async {
        let told = |(name, kind): (&str, ErrorKind)| json!({"name": name, "status": kind.status().as_u16()});
        Json(ERRORS.map(told).to_vec())
    };
    Router::new()
        .route_service("/v1/messages", edge)
        .route("/answers", get(answers))
        .route("/errors", get(errors))
}

/// Runs `suite` against the edge.
async fn run(mut suite: Command) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, app()).await });
    for name in ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"] {
        suite.env_remove(name);
    }
    tokio::task::spawn_blocking(move || suite::run(&mut suite, &origin)).await.expect("it passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_for_python() {
    let Some(mut suite) = suite::python("anthropic") else { return };
    suite.args(["-m", "unittest", "-v", "test_anthropic"]);
    run(suite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_for_node() {
    let Some(mut suite) = suite::node(&["@anthropic-ai/sdk"]) else { return };
    suite.args(["--test", "anthropic.test.mjs"]);
    run(suite).await;
}

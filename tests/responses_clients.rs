//! OpenAI's official SDKs over the Responses edge; the tests themselves are the scripts in
//! tests/clients.
//!
//! They need the packages that tests/clients.rs names. Without them the tests say so and pass,
//! except where `CI` is set.
//!
//! The service below the edge does what the last words of a request say: `answer N` gives the Nth
//! of some hundred answers that the scripts read from `/answers`; `error KIND` fails before it
//! begins, with a kind from `/errors`; and with tools on offer it calls them.

#[path = "messages/events.rs"]
mod events;
#[path = "served/suite.rs"]
mod suite;
mod traced;

use std::{process::Command, sync::LazyLock};

use axum::{Json, Router, routing::get};
use events::{Item, Said};
use futures_util::stream;
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    chat::{ChatEvent, ChatRequest, FinishReason, Role, Usage},
    responses::ResponsesLayer,
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
    (0..400).map(|at| (0..1 + at / 5).map(|_| random()).collect()).collect()
});

const ERRORS: [(&str, ErrorKind); 8] = [
    ("invalid", ErrorKind::InvalidRequest),
    ("context", ErrorKind::ContextLength),
    ("auth", ErrorKind::Auth),
    ("model", ErrorKind::ModelNotFound),
    ("rate", ErrorKind::RateLimited),
    ("upstream", ErrorKind::Upstream),
    ("overloaded", ErrorKind::Overloaded),
    ("timeout", ErrorKind::Timeout),
];

/// What an answer says, for the scripts.
fn told(said: Said) -> Value {
    let status = match said.end.expect("an end") {
        Err(_) => "failed",
        Ok(FinishReason::ContentFilter | FinishReason::Length) => "incomplete",
        Ok(_) => "completed",
    };
    json!({"text": said.text, "thinking": said.thinking, "status": status,
        "calls": said.calls.iter().map(|(name, json)| json!([name, json.trim()])).collect::<Value>()})
}

/// What the service below the edge says to a request.
fn answer(request: &ChatRequest) -> Result<Vec<Item>, Error> {
    let called = request.history.iter().rev().take_while(|message| message.role == Role::Tool);
    let results: Vec<_> = called.map(|message| message.text()).collect();
    if !results.is_empty() {
        let place = request.history.len() - results.len() - 1;
        let message = request.history.iter().nth(place).expect("the calls");
        let calls = message.tool_calls.iter();
        let calls: Vec<_> = calls.map(|call| format!("{}{}", call.name, call.arguments)).collect();
        let thinking = message.reasoning.as_deref().unwrap_or("nothing");
        let text = format!("{}: {}; thought {thinking}", calls.join(", "), results.join(" and "));
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
        let kind = ERRORS.iter().find(|(own, _)| *own == name).expect("an error").1;
        return Err(Error::new(kind, "what went wrong"));
    }
    let call = |index: u32, name: &str| {
        let id = format!("call_{index}").into();
        Ok(ChatEvent::ToolCall { index, id, name: name.into() })
    };
    let json = |index: u32, json: &str| Ok(ChatEvent::ToolArguments { index, json: json.into() });
    assert_eq!(request.tools.len(), 3, "{text}");
    Ok(vec![
        Ok(ChatEvent::Reasoning("Both.".into())),
        Ok(ChatEvent::Text("I look.".into())),
        call(0, "get_weather"),
        json(0, "{\"city\": \"Zür"),
        call(1, "clock__get_time"),
        json(0, "ich \\\"}{\\\" <b>\","),
        json(1, "{}"),
        json(0, "\"days\": 3}"),
        call(2, "patch"),
        json(2, "{\"input\":\"*** Begin\\n+\\u00e9"),
        json(2, "\\ud83c\\udf0c\\\"\"}"),
        Ok(ChatEvent::Usage(Usage::new(20, 10))),
        Ok(ChatEvent::Finished(FinishReason::ToolCalls)),
    ])
}

fn app() -> Router {
    traced::on();
    let inner = service_fn(move |request: Request<ChatRequest>| {
        let answer = answer(request.body());
        async { answer.map(|items| Response::new(stream::iter(items))) }
    });
    let edge = ServiceBuilder::new().layer(ResponsesLayer::new()).service(inner);
    let answers = || async {
        Json(PROGRAMS.iter().map(|program| told(events::answer(program).1)).collect::<Vec<_>>())
    };
    let errors = || async {
        let told = |(name, kind): (&str, ErrorKind)| json!({"name": name, "status": kind.status().as_u16()});
        Json(ERRORS.map(told).to_vec())
    };
    Router::new()
        .route_service("/v1/responses", edge)
        .route("/answers", get(answers))
        .route("/errors", get(errors))
}

/// Runs `suite` against the edge.
async fn run(mut suite: Command) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, app()).await });
    tokio::task::spawn_blocking(move || suite::run(&mut suite, &origin)).await.expect("it passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_for_python() {
    let Some(mut suite) = suite::python("openai") else { return };
    suite.args(["-m", "unittest", "-v", "test_responses"]);
    run(suite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_for_node() {
    let Some(mut suite) = suite::node(&["openai"]) else { return };
    suite.args(["--test", "responses.test.mjs"]);
    run(suite).await;
}

//! Upstreams whose answers break off: the program has them gone on with, and its clients see one answer.

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower_qwen_emulator::{Emulator, Kind};

use crate::{
    binary::{self, Running},
    command::exchange,
    proxied::{command, serve, start, upstream},
};

const WHOLE: &str = "In Bergen it rains on two days of three. Take a coat, and boots, and a hat that \
                     the wind cannot have.";

/// What the upstream says to `message`: the answer, or as much of it as it is asked for.
fn answer(message: &str, _: &[&str]) -> Option<String> {
    if message.contains("Does it rain?") {
        return Some(WHOLE.to_owned());
    }
    let (_, words) = message.split_once("what comes next:\n\n")?;
    let (words, _) = words.split_once("\n\nWrite only")?;
    Some(WHOLE[WHOLE.rfind(words)?..].to_owned())
}

/// The program with `also`, in front of an upstream of `kind`.
fn proxy(runtime: &Runtime, kind: Kind, also: &[&str]) -> (Running, Emulator, &'static str) {
    let (emulator, model) = match kind {
        Kind::Web => (upstream().answers(answer).build(), "qwen3-max"),
        _ => (Emulator::builder().kind(kind).answers(answer).build(), "Qwen/Qwen3-32B"),
    };
    let origin = runtime.block_on(serve(emulator.clone()));
    let base = format!("{origin}/v1");
    let mut proxy = match kind {
        Kind::Web => command(&origin, "sk-ann"),
        _ => binary::command(),
    };
    if kind != Kind::Web {
        proxy.args(["--server", "vllm", "--base-url", &base]);
    }
    proxy.args(also).env("QWEN_PROXY_API_KEY", "sk-ann").env("NO_PROXY", "127.0.0.1");
    (runtime.block_on(start(proxy)), emulator, model)
}

/// Each way to ask for a chat's answer.
fn requests(model: &str) -> [(&'static str, Value); 5] {
    let text = "Does it rain? emulate:reset=14";
    let messages = json!([{"role": "user", "content": text}]);
    let chat = json!({"model": model, "messages": messages, "stream": false});
    let message = json!({"model": model, "max_tokens": 64, "messages": messages});
    let response = json!({"model": model, "input": text});
    [
        ("/v1/chat/completions", chat.clone()),
        ("/xml/v1/chat/completions", chat.clone()),
        ("/v1/messages", message),
        ("/v1/responses", response),
        ("/api/chat", chat),
    ]
}

fn ask(proxy: &Running, path: &str, body: &Value) -> String {
    let head = format!(
        "POST {path} HTTP/1.1\r\nauthorization: Bearer sk-ann\r\ncontent-type: application/json"
    );
    exchange(&proxy.origin, &head, &body.to_string())
}

#[test]
fn an_answer_that_breaks_off_is_gone_on_with() {
    let runtime = Runtime::new().expect("a runtime");
    for kind in [Kind::Web, Kind::Vllm] {
        let (proxy, emulator, model) = proxy(&runtime, kind, &["--resume", "1", "--metrics"]);
        let mut asked = 0;
        for (path, body) in requests(model) {
            let answer = ask(&proxy, path, &body);
            // XML clients have calls read from their text wherever they are, and no chat but in the web.
            let is_xml_replay = kind == Kind::Vllm && path.starts_with("/xml");
            asked += if is_xml_replay { 1 } else { 2 };
            assert_eq!(emulator.counters().completions, asked, "{kind:?} {path}: {answer}");
            if is_xml_replay {
                assert!(answer.starts_with("HTTP/1.1 502"), "{kind:?} {path}: {answer}");
            } else {
                assert!(answer.starts_with("HTTP/1.1 200"), "{kind:?} {path}: {answer}");
                assert!(answer.contains(WHOLE), "{kind:?} {path}: {answer}");
            }
        }
        let metrics =
            exchange(&proxy.origin, "GET /metrics HTTP/1.1\r\nauthorization: Bearer sk-ann", "");
        let resumed = format!("tower_qwen_resume_tries_total{{outcome=\"resumed\"}} {}", asked / 2);
        assert!(metrics.contains(&resumed), "{metrics}");
    }
}

#[test]
fn by_default_it_ends_as_the_error_it_is() {
    let runtime = Runtime::new().expect("a runtime");
    for kind in [Kind::Web, Kind::Vllm] {
        let (proxy, emulator, model) = proxy(&runtime, kind, &[]);
        for (asked, (path, body)) in (1..).zip(requests(model)) {
            let answer = ask(&proxy, path, &body);
            assert!(answer.starts_with("HTTP/1.1 502"), "{kind:?} {path}: {answer}");
            assert_eq!(emulator.counters().completions, asked, "{kind:?} {path}");
        }
    }
}

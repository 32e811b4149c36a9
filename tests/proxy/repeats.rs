//! A client of the program that is gone and asks the same again: one answer of the upstream.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower_qwen_emulator::{Emulator, Kind};

use crate::{
    binary::{self, Running},
    command::exchange,
    proxied::{command, serve, start, upstream},
};

/// What is asked: its answer takes about two seconds.
const TEXT: &str = "emulate:slow=100 emulate:say=First and then one and one and one and one and one \
                    and one and one and one and one and last.";

/// What the proxy says when it goes on for nobody.
const GONE: &str = "the client is gone";

/// What is asked: its answer is never complete.
const ENDLESS: &str = "emulate:stall=2 emulate:say=First and then no more.";

/// Each way to ask for a chat's answer to `text`.
fn requests(model: &str, text: &str) -> [(&'static str, Value); 5] {
    let messages = json!([{"role": "user", "content": text}]);
    let chat = json!({"model": model, "messages": messages, "stream": true});
    let message = json!({"model": model, "max_tokens": 64, "messages": messages, "stream": true});
    let response = json!({"model": model, "input": text, "stream": true});
    [
        ("/v1/chat/completions", chat.clone()),
        ("/xml/v1/chat/completions", chat.clone()),
        ("/v1/messages", message),
        ("/v1/responses", response),
        ("/api/chat", chat),
    ]
}

fn head(path: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nauthorization: Bearer sk-ann\r\ncontent-type: application/json"
    )
}

/// Asks, reads the first word and hangs up.
fn hang_up(proxy: &Running, path: &str, body: &Value) {
    let body = body.to_string();
    let address = proxy.origin.strip_prefix("http://").expect("an origin");
    let mut client = TcpStream::connect(address).expect("it listens");
    let head = head(path);
    write!(client, "{head}\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .expect("it is open");
    let mut begun = String::new();
    while !begun.contains("First") {
        let mut piece = [0; 4096];
        let count = client.read(&mut piece).expect("it answers");
        assert!(count > 0, "{path}: {begun}");
        begun.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
}

/// Asks for the whole answer.
fn ask(proxy: &Running, path: &str, body: &Value) -> String {
    let mut body = body.clone();
    body["stream"] = json!(false);
    exchange(&proxy.origin, &head(path), &body.to_string())
}

/// The program in front of an upstream of `kind`, with `also`.
fn proxy(runtime: &Runtime, kind: Kind, also: &[&str]) -> (Running, Emulator, &'static str) {
    let (emulator, model) = match kind {
        Kind::Web => (upstream().build(), "qwen3-max"),
        Kind::LlamaCpp => (Emulator::builder().kind(kind).build(), "qwen3-coder-30b"),
        _ => (Emulator::builder().kind(kind).build(), "qwen-plus"),
    };
    let origin = runtime.block_on(serve(emulator.clone()));
    let base = format!("{origin}/v1");
    let mut proxy = match kind {
        Kind::Web => command(&origin, "sk-ann"),
        _ => binary::command(),
    };
    match kind {
        Kind::Web => &mut proxy,
        Kind::LlamaCpp => proxy.args(["--server", "llamacpp", "--base-url", &base]),
        _ => proxy.args(["--base-url", &base, "--upstream-key", "sk-up", "--api", "responses"]),
    };
    proxy.args(also).env("QWEN_PROXY_API_KEY", "sk-ann").env("NO_PROXY", "127.0.0.1");
    proxy.env("RUST_LOG", "warn,tower_qwen::join=debug");
    (runtime.block_on(start(proxy)), emulator, model)
}

#[test]
fn who_asks_again_has_the_answer_that_goes_on() {
    let runtime = Runtime::new().expect("a runtime");
    let check = &|kind, which: usize| {
        // Longer than any machine is slow.
        let (proxy, emulator, model) = proxy(&runtime, kind, &["--linger", "60"]);
        let (path, body) = &requests(model, TEXT)[which];
        hang_up(&proxy, path, body);
        proxy.wait_for_log(GONE);
        let answer = ask(&proxy, path, body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{kind:?} {path}: {answer}");
        assert!(answer.contains("First and") && answer.contains("last."), "{answer}");
        let counters = emulator.counters();
        assert_eq!((counters.completions, counters.abandoned), (1, 0), "{kind:?} {path}");
    };
    for kind in [Kind::Web, Kind::LlamaCpp, Kind::DashScope] {
        thread::scope(|scope| {
            (0..5).for_each(|which| drop(scope.spawn(move || check(kind, which))));
        });
    }
}

#[test]
fn what_nobody_may_have_is_cancelled_at_once() {
    let runtime = Runtime::new().expect("a runtime");
    for kind in [Kind::Web, Kind::LlamaCpp, Kind::DashScope] {
        let (proxy, emulator, model) = proxy(&runtime, kind, &["--linger", "0"]);
        for (asked, (path, body)) in (1..).zip(requests(model, ENDLESS)) {
            // The same twice, and each has an answer of its own.
            hang_up(&proxy, path, &body);
            hang_up(&proxy, path, &body);
            assert_eq!(emulator.counters().completions, 2 * asked, "{kind:?} {path}");
            // chat.qwen.ai is told to stop, which may end an answer before its connection does.
            let ended = || match kind {
                Kind::Web => emulator.counters().stops,
                _ => emulator.counters().abandoned,
            };
            let deadline = Instant::now() + Duration::from_secs(20);
            while ended() < 2 * asked {
                assert!(Instant::now() < deadline, "{kind:?} {path}: it goes on");
                thread::yield_now();
            }
        }
    }
}

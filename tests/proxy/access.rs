//! The access log: one line a request, with all that is known when it is over.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::{
    binary::{Running, command},
    command::exchange,
};

const JSON: &str = "content-type: application/json\r\nx-api-key: sk-of-bob";

fn chat(model: &str, say: &str) -> String {
    let messages = json!([{"role": "user", "content": format!("emulate:say={say}")}]);
    json!({"model": model, "stream": true, "messages": messages}).to_string()
}

/// What stands in the access log for those who have not asked for more, by the ids of requests.
fn lines(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    let of_requests =
        lines.filter(|line| line["target"] == "proxy::access" && line["level"] == "INFO");
    of_requests.map(|line| line["fields"].clone()).collect()
}

fn line<'a>(lines: &'a [Value], id: &str) -> &'a Value {
    let mut found = lines.iter().filter(|line| line["id"] == id);
    let line = found.next().unwrap_or_else(|| panic!("{id} is not in {lines:#?}"));
    assert!(found.next().is_none(), "{id} has two lines");
    line
}

#[test]
fn each_request_has_one_line_that_says_what_has_come_of_it() {
    let mut proxy = command();
    proxy.args(["--log-format", "json", "--api-key", "sk-of-ann,sk-of-bob", "--linger", "0"]);
    proxy.args(["--alias", "fast=qwen3-max"]);
    let proxy = Running::start(proxy);
    let ask = |target: &str, id: &str, body: &str| {
        let head = format!("{target} HTTP/1.1\r\n{JSON}\r\nx-request-id: {id}");
        exchange(&proxy.origin, &head, body)
    };
    for (target, id) in [
        ("POST /v1/chat/completions", "chat"),
        ("POST /v1/messages", "messages"),
        ("POST /api/chat", "ollama"),
    ] {
        let mut body: Value = serde_json::from_str(&chat("fast", "Hello.")).expect("JSON");
        body["max_tokens"] = json!(64);
        let answer = ask(target, id, &body.to_string());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    ask("POST /v1/completions", "prompt", r#"{"model":"qwen3-max","prompt":"emulate:say=Hello."}"#);
    ask("POST /v1/chat/completions", "unknown", &chat("no-such-model", "Hello."));
    ask("GET /v1/models", "models", "");
    exchange(&proxy.origin, "GET /v1/models HTTP/1.1\r\nx-request-id: stranger", "");
    exchange(&proxy.origin, "GET /ready HTTP/1.1\r\nx-request-id: probe", "");
    hang_up(&proxy, "gone");
    proxy.wait_for_log("\"id\":\"gone\"");
    let (_, log) = proxy.stop("-TERM");
    assert!(!log.contains("sk-of-"), "{log}");
    let lines = lines(&log);

    for (id, path) in
        [("chat", "/v1/chat/completions"), ("messages", "/v1/messages"), ("ollama", "/api/chat")]
    {
        let line = line(&lines, id);
        let said = json!({"method": "POST", "path": path, "status": 200, "client": "key 2",
            "model": "fast", "upstream": "emulator", "counted": "upstream", "outcome": "complete",
            "reason": "stop"});
        for (name, value) in said.as_object().expect("an object") {
            assert_eq!(&line[name], value, "{name} of {line:#}");
        }
        for name in ["prompt_tokens", "completion_tokens", "total_ms"] {
            assert!(line[name].as_u64().is_some_and(|number| number > 0), "{name} of {line:#}");
        }
        assert!(line["first_event_ms"].as_u64() <= line["total_ms"].as_u64(), "{line:#}");
        let tenant = line["tenant"].as_str().expect("a tag");
        assert!(tenant.len() == 8 && tenant.bytes().all(|digit| digit.is_ascii_hexdigit()));
    }
    assert_eq!(line(&lines, "prompt")["model"], "qwen3-max");
    assert_eq!(line(&lines, "prompt")["outcome"], "complete");
    let unknown = line(&lines, "unknown");
    assert_eq!((&unknown["status"], &unknown["outcome"]), (&json!(404), &json!("failed")));
    assert_eq!(
        (&unknown["reason"], &unknown["model"]),
        (&json!("ModelNotFound"), &json!("no-such-model"))
    );
    let models = line(&lines, "models");
    assert_eq!((&models["status"], &models["outcome"]), (&json!(200), &json!("complete")));
    assert_eq!(models.get("model"), None);
    let stranger = line(&lines, "stranger");
    assert_eq!((&stranger["status"], &stranger["outcome"]), (&json!(401), &json!("refused")));
    assert_eq!((stranger.get("client"), stranger.get("tenant")), (None, None));
    let gone = line(&lines, "gone");
    assert_eq!((&gone["outcome"], &gone["counted"]), (&json!("gone"), &json!("estimated")));
    assert!(lines.iter().all(|line| line["id"] != "probe"), "nobody wants to read of probes");
}

/// Begins to read an answer that takes long, and leaves.
fn hang_up(proxy: &Running, id: &str) {
    let address = proxy.origin.strip_prefix("http://").expect("an origin");
    let body = chat("qwen3-max", &"word ".repeat(500));
    let mut stream = TcpStream::connect(address).expect("the proxy listens");
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\n{JSON}\r\nx-request-id: {id}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the proxy reads");
    let mut piece = [0; 4096];
    let mut read = String::new();
    while !read.contains("word") {
        let len = stream.read(&mut piece).expect("it answers");
        assert_ne!(len, 0, "{read}");
        read.push_str(&String::from_utf8_lossy(&piece[..len]));
    }
}

/// In text the line stands by itself, whatever else is logged.
#[test]
fn the_line_can_be_had_alone() {
    let mut proxy = command();
    proxy.args(["--log", "off,proxy::access=info"]);
    let proxy = Running::start(proxy);
    let head = "POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json";
    exchange(&proxy.origin, head, &chat("qwen3-max", "Hello."));
    let (_, log) = proxy.stop("-TERM");
    let [line] = &log.lines().collect::<Vec<_>>()[..] else { panic!("one line: {log}") };
    for field in
        ["path=\"/v1/chat/completions\"", "status=200", "client=local", "outcome=\"complete\""]
    {
        assert!(line.contains(field), "{field} is not in {line}");
    }
}

//! `--debug-stream` from outside: what the log tells, and of whose requests.

use crate::{
    binary::{Running, command},
    command::exchange,
};

/// A proxy with these options.
fn proxy(args: &[&str]) -> Running {
    let mut proxy = command();
    proxy.args(args);
    Running::start(proxy)
}

fn ask(proxy: &Running, model: &str, header: &str) -> String {
    let body = format!(
        r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"emulate:say=Hello."}}]}}"#
    );
    let head = "POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json";
    exchange(&proxy.origin, &format!("{head}{header}"), &body)
}

/// The lines that tell of streams.
fn told(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("tower_qwen::stream")).collect()
}

#[test]
fn every_place_of_every_stack_tells_what_comes() {
    for (args, model, places) in [
        (&["--emulate", "web"][..], "qwen3-max", &["upstream", "adapter", "stack", "client"][..]),
        (&["--emulate", "vllm"], "Qwen/Qwen3-32B", &["upstream", "adapter", "stack", "client"]),
        (&["--emulate", "vllm", "--tools", "off"], "Qwen/Qwen3-32B", &["upstream", "client"]),
    ] {
        let running = proxy(&[args, &["--debug-stream"]].concat());
        let answer = ask(&running, model, "\r\nx-request-id: mine-1");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_, log) = running.stop("-TERM");
        let told = told(&log);
        for place in places {
            let of_it = |kind: &str| {
                let (place, kind) = (format!("place=\"{place}\""), format!("kind=\"{kind}\""));
                told.iter().any(|line| line.contains(&place) && line.contains(&kind))
            };
            assert!(of_it("request") && of_it("head"), "{args:?}, {place}: {log}");
            assert!(of_it("text") || of_it("event"), "{args:?}, {place}: {log}");
        }
        let in_span =
            told.iter().all(|line| line.contains("id=\"mine-1\"") && line.contains("at_us="));
        assert!(in_span, "each line says whose request it is: {log}");
        assert!(!log.contains("Hello"), "{log}");
    }
}

#[test]
fn content_is_told_where_it_is_asked_for() {
    let running = proxy(&["--debug-stream=content"]);
    ask(&running, "qwen3-max", "");
    let (_, log) = running.stop("-TERM");
    assert!(told(&log).iter().any(|line| line.contains("Hello")), "{log}");
}

#[test]
fn without_it_nothing_is_told_but_for_who_sets_a_filter() {
    for (args, is_told) in
        [(&["--log", "debug"][..], false), (&["--log", "info,tower_qwen::stream=trace"], true)]
    {
        let running = proxy(args);
        ask(&running, "qwen3-max", "\r\nx-qwen-debug-stream: content");
        let (_, log) = running.stop("-TERM");
        assert_eq!(!told(&log).is_empty(), is_told, "{log}");
        assert!(!log.contains("Hello"), "{log}");
    }
}

#[test]
fn a_header_has_one_request_told_of() {
    let running = proxy(&["--debug-stream=header"]);
    ask(&running, "qwen3-max", "\r\nx-request-id: quiet");
    exchange(&running.origin, "GET /v1/models HTTP/1.1", "");
    let answer =
        ask(&running, "qwen3-max", "\r\nx-request-id: loud\r\nx-qwen-debug-stream: events");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let refused = ask(&running, "qwen3-max", "\r\nx-qwen-debug-stream: content");
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    let unknown = ask(&running, "qwen3-max", "\r\nx-qwen-debug-stream: all");
    assert!(unknown.starts_with("HTTP/1.1 400"), "{unknown}");
    let (_, log) = running.stop("-TERM");
    let told = told(&log);
    assert!(told.len() > 10 && told.iter().all(|line| line.contains("id=\"loud\"")), "{log}");
    assert!(!log.contains("Hello"), "{log}");
}

//! `GET /metrics`: as Prometheus wants it, and no larger whatever clients send.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
};

use crate::{
    binary::{Running, command},
    command::exchange,
};

const MODELS: usize = 10_000;

fn metrics(proxy: &Running) -> String {
    let answer = exchange(&proxy.origin, "GET /metrics HTTP/1.1", "");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"),
        "{head}"
    );
    body.to_owned()
}

/// Asks one question of each model, over one connection.
fn ask_all(
    proxy: &Running,
    path: &str,
    models: impl Iterator<Item = String>,
) -> BTreeMap<u16, usize> {
    let address = proxy.origin.strip_prefix("http://").expect("an origin");
    let mut stream = TcpStream::connect(address).expect("the proxy listens");
    let mut answers = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut statuses = BTreeMap::new();
    for model in models {
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"emulate:say=Hi"}}]}}"#
        );
        let length = body.len();
        // In one piece: the rest of several would wait for what TCP has to say of the first.
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("the proxy reads");
        let mut length = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(answers.read_line(&mut line).expect("ASCII"), 0, "it keeps the connection");
            if let Some(status) = line.strip_prefix("HTTP/1.1 ") {
                *statuses.entry(status[..3].parse().expect("a status")).or_default() += 1;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a length");
            }
        }
        answers.read_exact(&mut vec![0; length]).expect("the body");
    }
    statuses
}

/// What promtool's lint says, as far as it concerns names and forms: an error is a text.
fn lint(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let (mut helps, mut types) = (BTreeSet::new(), BTreeMap::new());
    let mut series = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap_or((help, ""));
            if words.is_empty() || !helps.insert(name) {
                errors.push(format!("{name}: no help text, or two"));
            }
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap_or((kind, ""));
            if types.insert(name, kind).is_some() {
                errors.push(format!("{name}: two types"));
            }
        } else if line.starts_with('#') {
            errors.push(format!("an odd comment: {line}"));
        } else {
            let (id, value) = line.rsplit_once(' ').expect("a value");
            if value.parse::<f64>().is_err() {
                errors.push(format!("no number: {line}"));
            }
            if !series.insert(id) {
                errors.push(format!("twice: {id}"));
            }
        }
    }
    for (name, kind) in &types {
        let mut complain = |what: &str| errors.push(format!("{name}: {what}"));
        if !helps.contains(name) {
            complain("no help text");
        }
        if name.ends_with("_total") != (*kind == "counter") {
            complain("counters, and they alone, end in _total");
        }
        if ["_count", "_sum", "_bucket", "_info"].iter().any(|end| name.ends_with(end)) {
            complain("its end is for something else");
        }
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            complain("it is no name in snake case");
        }
        let words: Vec<_> = name.split('_').collect();
        for unit in
            ["ms", "milliseconds", "microseconds", "minutes", "hours", "kilobytes", "megabytes"]
        {
            if words.contains(&unit) {
                complain("its unit is no base unit");
            }
        }
        for kind in ["counter", "gauge", "histogram", "summary"] {
            if words.contains(&kind) {
                complain("its type is in its name");
            }
        }
        if *kind == "summary" {
            complain("it cannot be added up over several proxies");
        }
    }
    for id in &series {
        let name = id.split('{').next().unwrap_or(id);
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let known = types.contains_key(name) || base.is_some_and(|base| types.contains_key(base));
        if !known {
            errors.push(format!("{name}: no type"));
        }
    }
    errors
}

/// The values that a label has.
fn values(text: &str, label: &str) -> BTreeSet<String> {
    let begin = format!("{label}=\"");
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let found = series.filter_map(|line| {
        let at = line.find(&format!("{{{begin}")).or_else(|| line.find(&format!(",{begin}")))?;
        line[at + 1 + begin.len()..].split('"').next().map(str::to_owned)
    });
    found.collect()
}

#[test]
fn ten_thousand_invented_models_add_nothing() {
    // The second answers whatever its model is called, so that each name has an answer; it takes its time.
    for (kind, invented) in [("web", MODELS), ("llamacpp", 200)] {
        invented_models_add_nothing(kind, invented);
    }
}

fn invented_models_add_nothing(kind: &str, invented: usize) {
    let mut proxy = command();
    proxy.args(["--emulate", kind, "--metrics", "--gen-ai-metrics", "--log", "warn"]);
    proxy.args(["--alias", "mine-*=*"]);
    let proxy = Running::start(proxy);
    let path = "/v1/chat/completions";
    let listed = exchange(&proxy.origin, "GET /v1/models HTTP/1.1", "");
    let listed = listed.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let listed = listed.expect("a model").to_owned();
    let known = [listed.clone(), format!("mine-{listed}"), "made-up".to_owned()];
    ask_all(&proxy, path, known.into_iter());
    let before = metrics(&proxy);
    let errors = lint(&before);
    assert!(errors.is_empty(), "{errors:#?}");
    assert_eq!(values(&before, "model"), BTreeSet::from([listed, "other".to_owned()]));

    let names = (0..invented).map(|n| format!("invented-{n}-\u{e9}"));
    let statuses = ask_all(&proxy, path, names);
    let status = if kind == "web" { 404 } else { 200 };
    assert_eq!(statuses, BTreeMap::from([(status, invented)]));
    let after = metrics(&proxy);
    let errors = lint(&after);
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(!after.contains("invented"), "clients make no labels");
    assert_eq!(values(&after, "model"), values(&before, "model"));
    promtool(&after);
    let (before, after) = (before.lines().count(), after.lines().count());
    assert!(after < before + 64, "{before} lines became {after}");
}

/// What an operator looks at is there.
#[test]
fn what_the_operator_wants_to_know_is_counted() {
    let mut proxy = command();
    proxy.args(["--emulate", "web", "--metrics", "--gen-ai-metrics"]);
    let proxy = Running::start(proxy);
    let ask = |messages: &str| {
        let body = format!(r#"{{"model":"qwen3-max","stream":true,"messages":[{messages}]}}"#);
        let head = "POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json";
        let answer = exchange(&proxy.origin, head, &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    exchange(&proxy.origin, "GET /v1/models HTTP/1.1", "");
    let first = r#"{"role":"user","content":"emulate:say=Hello."}"#;
    ask(first);
    ask(&format!(
        r#"{first},{{"role":"assistant","content":"Hello."}},{{"role":"user","content":"And now?"}}"#
    ));
    let text = metrics(&proxy);
    assert!(lint(&text).is_empty(), "{:#?}", lint(&text));
    let labels = "model=\"qwen3-max\",upstream=\"emulator\"";
    for line in [
        "tower_qwen_session_lookups_total{result=\"hit\"} 1".to_owned(),
        format!("tower_qwen_proxy_requests_total{{{labels},outcome=\"finished\"}} 2"),
        format!("tower_qwen_proxy_answer_seconds_count{{{labels}}} 2"),
        format!("tower_qwen_proxy_first_event_seconds_count{{{labels}}} 2"),
        "tower_qwen_proxy_longest_gap_seconds_count 2".to_owned(),
        "tower_qwen_proxy_overhead_seconds_count 2".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    // The one that is read.
    for begin in [
        "tower_qwen_proxy_open_streams ",
        "tower_qwen_dedup_tokens_saved_total ",
        "gen_ai_client_token_usage_bucket{gen_ai_operation_name=\"chat\"",
        "gen_ai_client_operation_duration_seconds_bucket{",
        "gen_ai_server_time_to_first_token_seconds_bucket{",
    ] {
        let line = text.lines().find(|line| line.starts_with(begin));
        line.unwrap_or_else(|| panic!("{begin} is not in {text}"));
    }
    promtool(&text);
}

/// The lint of Prometheus itself, where it is installed.
#[expect(clippy::print_stdout, reason = "what is skipped is said")]
fn promtool(text: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = promtool.stderr(Stdio::piped()).spawn() else {
        let required = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
        assert!(!required, "promtool must be installed where CI is set");
        println!("skipped: promtool is not installed, so that its own lint says nothing");
        return;
    };
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

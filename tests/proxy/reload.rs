//! A configuration that changes while the program serves, and `proxy check`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::{
    binary::{Running, command},
    command::exchange,
};

/// Asks for `/health` until an upstream has this name; the signal takes its time.
fn wait_for(origin: &str, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let health = exchange(origin, "GET /health HTTP/1.1", "");
        if health.contains(&format!("\r\nx-qwen-upstream: {name}\r\n")) {
            return;
        }
        assert!(Instant::now() < deadline, "{health}");
        thread::yield_now();
    }
}

#[test]
fn a_new_configuration_is_for_new_requests() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    fs::write(&file, "[[upstream]]\nname = \"old\"").expect("written");
    let mut configured = command();
    configured.arg("--config").arg(&file).env("RUST_LOG", "info");
    let proxy = Running::start(configured);
    assert!(proxy.banner.contains("upstream: emulator (old)"), "{}", proxy.banner);

    // A stream that waits for its end until the configuration has changed.
    let address = proxy.origin.strip_prefix("http://").expect("an origin");
    let mut stream = TcpStream::connect(address).expect("the proxy listens");
    let body = r#"{"model":"qwen3-max","stream":true,"messages":[{"role":"user","content":"emulate:slow=300 emulate:say=one two three four five six"}]}"#;
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the proxy reads");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("UTF-8"));
    let begun: Vec<_> =
        lines.by_ref().take_while(|line| !line.contains("\"content\":\"o")).collect();
    assert!(begun.iter().any(|line| line == "x-qwen-upstream: old"), "{begun:?}");

    fs::write(&file, "[[upstream]]\nname = \"new\"").expect("written");
    proxy.signal("-HUP");
    wait_for(&proxy.origin, "new");
    let rest: Vec<_> = lines.collect();
    assert!(rest.iter().any(|line| line.contains("[DONE]")), "{rest:?}");
    assert!(!rest.iter().any(|line| line.contains("\"error\"")), "{rest:?}");

    // A mistake changes nothing, and is said.
    fs::write(&file, "[[upstream]]\nnames = \"newer\"").expect("written");
    proxy.signal("-HUP");
    proxy.wait_for_log("line 2: unknown field `names`");
    wait_for(&proxy.origin, "new");
    let (code, log) = proxy.stop("-TERM");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the configuration was read again"), "{log}");
}

/// How often the log says that the configuration was looked at.
fn looks(proxy: &Running) -> usize {
    let log = proxy.log();
    let log = log.lock().expect("no one panics with it");
    ["the configuration was read again", "the new configuration is not used"]
        .iter()
        .map(|said| log.matches(said).count())
        .sum()
}

#[test]
fn a_file_that_is_empty_or_cut_anywhere_opens_nothing_and_invents_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    let whole = "session-ttl = 3600\napi-key = \"sk-one,sk-two\"\n\n[[upstream]]\nname = \"real\"\n\
                 kind = \"web\"\nbase-url = \"http://127.0.0.1:9\"\n";
    fs::write(&file, whole).expect("written");
    let mut configured = command();
    configured.arg("--config").arg(&file).env("RUST_LOG", "info");
    let proxy = Running::start(configured);
    let cuts = (0..whole.len()).filter(|at| at % 7 == 0 || whole[..*at].ends_with(['\n', '"']));
    for text in cuts.map(|at| &whole[..at]).chain([" \n", "# nothing\n"]) {
        let before = looks(&proxy);
        fs::write(&file, text).expect("written");
        proxy.signal("-HUP");
        let deadline = Instant::now() + Duration::from_secs(20);
        while looks(&proxy) == before {
            assert!(Instant::now() < deadline, "{text:?}");
            thread::yield_now();
        }
        let health = exchange(&proxy.origin, "GET /health HTTP/1.1", "");
        let named = ["real", "web"].map(|name| format!("\r\nx-qwen-upstream: {name}\r\n"));
        assert!(named.iter().any(|name| health.contains(name)), "{text:?}: {health}");
        let closed = exchange(&proxy.origin, "GET /v1/models HTTP/1.1", "");
        assert!(closed.starts_with("HTTP/1.1 401"), "{text:?}: {closed}");
    }
    fs::remove_file(&file).expect("it is there");
    proxy.signal("-HUP");
    proxy.wait_for_log("No such file");
    proxy.wait_for_log("it is empty");
    proxy.wait_for_log("in place of a real upstream");
}

#[test]
fn check_says_what_would_be_used_and_whether_it_answers() {
    let check = |args: &[&str]| {
        let mut checking = command();
        checking.arg("check").args(args).stdout(Stdio::piped());
        let output = checking.output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, _) = check(&[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("upstream: emulator, because no credential is given"), "{out}");
    assert!(out.contains("emulator answers, with "), "{out}");

    let (code, out, _) = check(&["--upstream", "web", "--base-url", "http://127.0.0.1:9"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("http://127.0.0.1:9") && out.contains("web DOES NOT ANSWER"), "{out}");

    // A list of models that anyone gets proves nothing of the token.
    let (code, out, _) = check(&[
        "--upstream",
        "web",
        "--base-url",
        "http://127.0.0.1:9",
        "--token",
        "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6ImRlbW8iLCJleHAiOjF9.aW52ZW50ZWQ",
    ]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("web LETS NO ACCOUNT IN") && !out.contains("aW52ZW50ZWQ"), "{out}");

    let (code, out, error) = check(&["--base-url", "nonsense"]);
    assert_eq!((code, &*out), (Some(2), ""));
    assert!(error.starts_with("error: --base-url: "), "{error}");
}

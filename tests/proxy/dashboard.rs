//! The dashboard: who may look, what it shows, and that a browser shows it.

use std::{fs, path::Path, process::Stdio, time::Duration};

use reqwest::{Client, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower_qwen_emulator::Emulator;

use crate::{
    binary::{self, Running},
    browser::Browser,
    proxied::{command, serve, start, upstream},
};

/// Sends a request, from a test that has no runtime.
fn send(request: RequestBuilder) -> (StatusCode, HeaderMap, String) {
    Runtime::new().expect("a runtime").block_on(async {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        (status, headers, response.text().await.expect("a body"))
    })
}

fn get(proxy: &Running, key: &str) -> (StatusCode, Value) {
    let request = Client::new().get(format!("{}/dashboard/status", proxy.origin));
    let (status, _, body) = send(request.bearer_auth(key));
    (status, serde_json::from_str(&body).expect("JSON"))
}

/// Makes a key in `file`.
fn add_key(file: &Path, id: &str, more: &[&str]) -> String {
    let mut add = binary::command();
    add.args(["keys", "--file"]).arg(file).args(["add", "--id", id]).args(more);
    let output = add.stdout(Stdio::piped()).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let key = said.split_whitespace().find(|word| word.starts_with("sk-tq-"));
    key.expect("a key").to_owned()
}

fn ask(proxy: &Running, key: &str, text: &str) {
    let request = Client::new().post(format!("{}/v1/chat/completions", proxy.origin));
    let body = json!({"model": "qwen3-max", "messages": [{"role": "user", "content": text}]});
    let request = request.bearer_auth(key).header("content-type", "application/json");
    send(request.body(body.to_string()));
}

#[test]
fn it_is_for_admins_and_shows_what_was_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.toml");
    let (ann, boss) = (add_key(&file, "ann", &[]), add_key(&file, "boss", &["--admin"]));
    let runtime = Runtime::new().expect("a runtime");
    let origin = runtime.block_on(serve(upstream().build()));
    let mut proxy = command(&origin, "");
    proxy.arg("--keys-file").arg(&file);
    let proxy = runtime.block_on(start(proxy));

    ask(&proxy, &ann, "a word that nobody else shall see");
    ask(&proxy, &ann, "emulate:quota");
    assert_eq!(get(&proxy, "sk-wrong").0, StatusCode::UNAUTHORIZED);
    let (status, refused) = get(&proxy, &ann);
    assert_eq!(status, StatusCode::FORBIDDEN);
    let message = refused["error"]["message"].as_str().expect("a message");
    assert!(message.contains("proxy keys add --admin"), "{message}");

    let (status, told) = get(&proxy, &boss);
    assert_eq!(status, StatusCode::OK);
    // The quota was that of the only account.
    assert_eq!((&told["status"], &told["reason"]), (&json!("not_ready"), &json!("no_upstream")));
    assert_eq!(told["upstreams"][0]["reason"], "no_usable_account");
    assert_eq!(told["models"]["qwen3-max"]["requests"], 2);
    assert_eq!(told["failures"][0]["reason"], "Quota", "{told}");
    assert_eq!(told["failures"][0]["client"], "key ann");
    let keys = told["keys"].as_array().expect("keys");
    assert!(keys.iter().any(|row| row["key"] == "ann" && row["requests"] == 2), "{told}");
    assert_eq!(told["accounts"][0]["usable"], false);
    let all = told.to_string();
    for secret in [&*ann, &*boss, "nobody else", crate::proxied::TOKEN] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[test]
fn the_page_is_one_and_the_same_for_everyone() {
    let proxy = Running::start(binary::command());
    let request = Client::new().get(format!("{}/dashboard", proxy.origin));
    let (status, headers, page) = send(request);
    assert_eq!(status, StatusCode::OK);
    let policy = headers["content-security-policy"].to_str().expect("ASCII");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(page.starts_with("<!doctype html>"));
    // Without keys whoever is on this machine may look.
    assert_eq!(get(&proxy, "").0, StatusCode::OK);
}

#[test]
fn a_browser_shows_it_in_both_themes() {
    let Some(mut browser) = Browser::start() else { return };
    let proxy = Running::start(binary::command());
    ask(&proxy, "any", "Hello");
    browser.open(&format!("{}/dashboard", proxy.origin));
    browser.wait_for(&format!("export ANTHROPIC_BASE_URL={}", proxy.origin));
    let text = browser.text();
    for word in ["ready", "qwen3-max", "emulator", "Connect a client"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    browser.pictures("dashboard");
}

#[test]
fn a_browser_without_a_key_is_asked_for_one() {
    let Some(mut browser) = Browser::start() else { return };
    let mut command = binary::command();
    command.env("QWEN_PROXY_API_KEY", "sk-demo");
    let proxy = Running::start(command);
    browser.open(&format!("{}/dashboard", proxy.origin));
    browser.wait_for("A key, please");
    assert_eq!(browser.evaluate("document.getElementById('all').hidden"), true);
    browser.fill("#key", "sk-demo");
    browser.click("#ask button");
    browser.wait_for("Connect a client");
    // The key of whoever looks is not what others are to copy.
    let text = browser.text();
    assert!(text.contains("ANTHROPIC_AUTH_TOKEN=YOUR-KEY") && !text.contains("sk-demo"), "{text}");
}

#[test]
fn whose_session_ends_is_told_the_command_that_renews_it() {
    const DAY: Duration = Duration::from_secs(86_400);
    let emulator = Emulator::builder().require_credentials(true).build();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ann.json");
    let session = emulator.issue_session("ann", DAY);
    fs::write(&file, json!({"kind": "web", "jwt": session}).to_string()).expect("writable");
    let runtime = Runtime::new().expect("a runtime");
    let origin = runtime.block_on(serve(emulator.clone()));
    let mut proxy = binary::command();
    proxy.args(["--upstream", "web", "--base-url", &origin, "--credentials"]).arg(&file);
    proxy.env("NO_PROXY", "127.0.0.1");
    let proxy = runtime.block_on(start(proxy));
    ask(&proxy, "any", "Hello");
    let (_, told) = get(&proxy, "");
    let advice = told["accounts"][0]["advice"].as_str().unwrap_or_else(|| panic!("{told}"));
    let renews = format!("proxy login web --file {}", file.display());
    assert!(advice.ends_with(&renews), "{advice}");
    let Some(mut browser) = Browser::start() else { return };
    browser.open(&format!("{}/dashboard", proxy.origin));
    browser.wait_for(&renews);
    browser.pictures("dashboard-session");
}

//! The dashboard: who may look, what it shows, and that a browser shows it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use reqwest::{Client, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    binary::{self, Running},
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

/// A browser, where one is installed; said aloud where not.
#[expect(clippy::print_stderr, reason = "whoever runs the tests shall know")]
fn browser() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.into_iter().find(|name| {
        let mut version = Command::new(name);
        version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    });
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci.is_empty()),
            "chromium must be installed where CI is set"
        );
        eprintln!("skipped: there is no Chromium on the path");
    }
    found
}

/// What `browser` makes of the page: its text, and with a `picture` how that looks.
fn shown(browser: &str, proxy: &Running, more: &[&str], picture: Option<&PathBuf>) -> String {
    let profile = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000"]);
    command.arg(format!("--user-data-dir={}", profile.path().display())).args(more);
    match picture {
        Some(picture) => command.arg(format!("--screenshot={}", picture.display())),
        None => command.arg("--dump-dom"),
    };
    command.arg(format!("{}/dashboard", proxy.origin));
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_browser_shows_it_in_both_themes() {
    let Some(browser) = browser() else { return };
    let proxy = Running::start(binary::command());
    ask(&proxy, "any", "Hello");
    let text = shown(browser, &proxy, &[], None);
    for word in ["ready", "qwen3-max", "emulator", "Connect a client", "ANTHROPIC_BASE_URL="] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let setting = format!("export ANTHROPIC_BASE_URL={}", proxy.origin);
    assert!(text.contains(&setting), "{text}");
    let folder = tempfile::tempdir().expect("a folder");
    let mut pictures = Vec::new();
    for theme in ["1", "0"] {
        let picture = folder.path().join(format!("{theme}.png"));
        let theme = format!("--blink-settings=preferredColorScheme={theme}");
        let size = "--window-size=1200,1800";
        shown(browser, &proxy, &[&theme, size, "--hide-scrollbars"], Some(&picture));
        pictures.push(std::fs::read(picture).expect("a picture"));
    }
    // One is dark and the other is not.
    assert_ne!(pictures[0], pictures[1]);
}

#[test]
fn a_browser_without_a_key_is_asked_for_one() {
    let Some(browser) = browser() else { return };
    let mut command = binary::command();
    command.env("QWEN_PROXY_API_KEY", "sk-demo");
    let proxy = Running::start(command);
    let text = shown(browser, &proxy, &[], None);
    assert!(text.contains("A key, please") && text.contains("id=\"all\" hidden"), "{text}");
}

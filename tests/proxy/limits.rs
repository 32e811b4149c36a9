//! The program with a limit on answers at once.

use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tower_qwen_emulator::Emulator;

use crate::{
    binary,
    proxied::{command, serve, start, upstream},
};

const QUESTION: &str =
    r#"{"model":"qwen3-max","messages":[{"role":"user","content":"emulate:wait=200 Hello"}]}"#;

/// 1,000 requests at once against 10 places: 10 run, 50 wait, the others are refused, none hangs.
#[test]
fn a_thousand_requests_at_once() {
    let runtime = Runtime::new().expect("a runtime");
    let emulator: Emulator = upstream().build();
    let origin = runtime.block_on(serve(emulator.clone()));
    let mut proxy = command(&origin, "sk-ann");
    proxy.args(["--max-streams", "10", "--max-queue", "50", "--queue-timeout", "60"]);
    let proxy = runtime.block_on(start(proxy));
    let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build();
    let client = client.expect("a client");
    let ask = async || {
        let request = client.post(format!("{}/v1/chat/completions", proxy.origin));
        let request = request.header("content-type", "application/json").bearer_auth("sk-ann");
        let response = request.body(QUESTION).send().await.expect("an answer");
        let wait = response.headers().get("retry-after").cloned();
        let (status, body) = (response.status().as_u16(), response.text().await.expect("a body"));
        match status {
            200 => true,
            503 => {
                assert_eq!(wait.expect("a time to wait"), "5");
                assert!(body.contains("\"code\":\"proxy_overloaded\""), "{body}");
                false
            }
            other => panic!("{other}: {body}"),
        }
    };
    let answers = runtime.block_on(async { join_all((0..1_000).map(|_| ask())).await });
    let answered = answers.iter().filter(|is_answered| **is_answered).count();
    // Connections come one after the other, so a place may be free again before the last.
    assert!((60..1_000).contains(&answered), "{answered}");
    assert!(runtime.block_on(ask()), "all places are free again");
    let usage = runtime.block_on(async {
        let request = client.get(format!("{}/v1/usage", proxy.origin)).bearer_auth("sk-ann");
        request.send().await.expect("an answer").text().await.expect("a body")
    });
    assert!(usage.contains(&format!("\"requests\":{}", answered + 1)), "{usage}");
}

/// A key that `proxy keys` has made is let in, on SIGHUP, and out again.
#[cfg(unix)]
#[test]
fn keys_come_and_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.toml");
    let keys = |args: &[&str]| {
        let mut command = binary::command();
        command.args(["keys", "--file"]).arg(&file).args(args).stdout(Stdio::piped());
        let output = command.output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    fs::write(&file, "# ours\n").expect("written");
    let runtime = Runtime::new().expect("a runtime");
    let origin = runtime.block_on(serve(upstream().build()));
    let mut proxy = command(&origin, "sk-listed");
    proxy.arg("--keys-file").arg(&file).env("RUST_LOG", "info");
    let proxy = runtime.block_on(start(proxy));
    assert!(proxy.banner.contains("0 keys in "), "{}", proxy.banner);
    let status = |key: &str| {
        let request = reqwest::Client::new().get(format!("{}/v1/models", proxy.origin));
        let request = request.bearer_auth(key).send();
        runtime.block_on(request).expect("an answer").status().as_u16()
    };
    let read = |count: usize| {
        proxy.signal("-HUP");
        let deadline = Instant::now() + Duration::from_secs(20);
        let again = "the configuration was read again";
        while proxy.log().lock().expect("no one panics with it").matches(again).count() < count {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
    };
    let (code, key, told) = keys(&["add", "--id", "ann", "--name", "Ann"]);
    let key = key.trim();
    assert_eq!(code, Some(0), "{told}");
    assert_eq!((status(key), status("sk-listed")), (401, 200), "it was not read yet");
    read(1);
    assert_eq!((status(key), status("sk-listed")), (200, 200));
    let (_, list, _) = keys(&["list"]);
    assert!(list.contains("ann") && list.contains("good") && !list.contains(key), "{list}");
    assert_eq!(keys(&["revoke", "ann"]).0, Some(0));
    read(2);
    assert_eq!((status(key), status("sk-listed")), (401, 200));
    let (code, _, told) = keys(&["revoke", "bob"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("there is no key \"bob\""), "{told}");
    assert!(!proxy.log().lock().expect("no one panics with it").contains(key));
}

/// A proxy that was killed and started again knows what was used.
#[cfg(all(unix, feature = "usage-db"))]
#[test]
fn what_was_used_outlives_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.toml");
    let digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    let table = format!("[[key]]\nid = \"ann\"\nsha256 = \"{digest}\"\ntokens-per-month = 1\n");
    fs::write(&file, table).expect("written");
    let runtime = Runtime::new().expect("a runtime");
    let origin = runtime.block_on(serve(upstream().build()));
    let begin = || {
        let mut proxy = command(&origin, "sk-listed");
        proxy.arg("--keys-file").arg(&file).arg("--usage-db").arg(folder.path().join("usage.redb"));
        proxy.arg("--metrics");
        runtime.block_on(start(proxy))
    };
    let get = |origin: &str, path: &str| {
        // The key is "foo".
        let request = reqwest::Client::new().get(format!("{origin}{path}")).bearer_auth("foo");
        runtime.block_on(async {
            request.send().await.expect("an answer").text().await.expect("a body")
        })
    };
    let ask = |origin: &str| {
        let request = reqwest::Client::new().post(format!("{origin}/v1/chat/completions"));
        let request = request.header("content-type", "application/json").bearer_auth("foo");
        let answer = runtime.block_on(request.body(QUESTION).send()).expect("an answer");
        answer.status().as_u16()
    };
    let mut proxy = begin();
    assert!(proxy.banner.contains("of their budgets is kept in "), "{}", proxy.banner);
    assert_eq!(ask(&proxy.origin), 200);
    let told = get(&proxy.origin, "/v1/usage");
    // How long that takes is seen on a paused clock.
    let deadline = Instant::now() + Duration::from_secs(20);
    let written = "tower_qwen_proxy_usage_writes_total{outcome=\"written\"} 1";
    while !get(&proxy.origin, "/metrics").contains(written) {
        assert!(Instant::now() < deadline, "it was not written");
        thread::yield_now();
    }
    proxy.kill();
    let proxy = begin();
    assert_eq!(get(&proxy.origin, "/v1/usage"), told);
    assert_eq!(ask(&proxy.origin), 429, "the budget is used up");

    // Two cannot write the same file.
    let mut second = command(&origin, "sk-listed");
    second.arg("--usage-db").arg(folder.path().join("usage.redb"));
    second.env("QWEN_PROXY_LISTEN", "127.0.0.1:0");
    let output = second.output().expect("it runs");
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("is in use by another process"), "{error}");

    // Who is told to stop writes what is new at once.
    let listed = reqwest::Client::new().post(format!("{}/v1/chat/completions", proxy.origin));
    let listed = listed.header("content-type", "application/json").bearer_auth("sk-listed");
    let answer = runtime.block_on(async {
        listed.body(QUESTION).send().await.expect("an answer").text().await.expect("a body")
    });
    assert!(answer.contains("choices"), "{answer}");
    assert_eq!(proxy.stop("-TERM").0, Some(0));
    let proxy = begin();
    let usage = reqwest::Client::new().get(format!("{}/v1/usage", proxy.origin));
    let usage = usage.bearer_auth("sk-listed");
    let usage = runtime
        .block_on(async { usage.send().await.expect("an answer").text().await.expect("a body") });
    assert!(usage.contains("\"requests\":1,"), "{usage}");
}

/// What a key has used of one proxy counts for another that has the same Redis.
#[cfg(feature = "redis")]
#[test]
fn several_proxies_share_what_was_used() {
    let runtime = Runtime::new().expect("a runtime");
    let Some(mut server) = runtime.block_on(crate::redis::Server::start()) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.toml");
    // The key is "foo".
    let digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    let table = format!("[[key]]\nid = \"ann\"\nsha256 = \"{digest}\"\ntokens-per-month = 1\n");
    fs::write(&file, table).expect("written");
    let origin = runtime.block_on(serve(upstream().build()));
    let begin = || {
        let mut proxy = command(&origin, "sk-listed");
        proxy.arg("--keys-file").arg(&file).args(["--redis", &server.url()]);
        proxy.args(["--usage-failure", "closed"]);
        runtime.block_on(start(proxy))
    };
    let (one, other) = (begin(), begin());
    assert!(one.banner.contains("of their budgets is kept in Redis"), "{}", one.banner);
    let usage = |proxy: &binary::Running| -> serde_json::Value {
        let request = reqwest::Client::new().get(format!("{}/v1/usage", proxy.origin));
        let answer = runtime.block_on(async {
            request
                .bearer_auth("foo")
                .send()
                .await
                .expect("an answer")
                .text()
                .await
                .expect("a body")
        });
        let list: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        list["data"][0].clone()
    };
    let ask = |proxy: &binary::Running| {
        let request = reqwest::Client::new().post(format!("{}/v1/chat/completions", proxy.origin));
        let request = request.header("content-type", "application/json").bearer_auth("foo");
        let answer = runtime.block_on(request.body(QUESTION).send()).expect("an answer");
        answer.status().as_u16()
    };
    let until = |is_so: &dyn Fn() -> bool, what: &str| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            thread::yield_now();
        }
    };
    assert_eq!(ask(&one), 200);
    let used = usage(&one)["month"]["tokens"].as_u64().expect("a number");
    assert!(used > 1);
    // The other learns of it within half a second of the key's next request there, whatever comes of that.
    until(&|| ask(&other) == 429, "the budget is used up there too");
    until(&|| usage(&one) == usage(&other), "both know the same");
    let sum = usage(&one);
    assert!(sum["month"]["tokens"].as_u64() >= Some(used), "{sum}");

    // One that begins anew knows it.
    drop(other);
    let other = begin();
    until(&|| usage(&other) == sum, "it was read");
    assert_eq!(ask(&other), 429);

    // Without Redis it says so, and refuses keys with a budget, as it was told to.
    server.kill();
    until(&|| ask(&other) == 503, "what is used cannot be written");
    runtime.block_on(server.run());
    until(&|| ask(&other) != 503, "it can be written again");
}

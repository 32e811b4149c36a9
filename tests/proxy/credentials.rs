//! The program's accounts: signing in, listing, renewing, and what is left when it is killed.
#![cfg(unix)]

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use tower_qwen_emulator::{Builder, Emulator, OAuthAccount};

use crate::{
    binary::{Running, command},
    command::exchange,
    token_endpoint::{self, Server, lock},
};

/// An emulator behind a socket; gives its origin.
fn serve(builder: Builder) -> (Emulator, String) {
    let emulator = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    listener.set_nonblocking(true).expect("a socket's setting");
    let served = emulator.clone();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            served.serve(listener).await.expect("it serves for good");
        });
    });
    (emulator, origin)
}

fn unix_millis(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("this age")
}

/// Writes a login of the emulator's into the file at `path`.
fn write_login(path: &Path, access: &str, refresh: &str, end: SystemTime) {
    let login = json!({"access_token": access, "refresh_token": refresh, "token_type": "Bearer",
        "expiry_date": unix_millis(end)});
    fs::write(path, login.to_string()).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("own file");
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("there")).expect("never half a file")
}

fn post(origin: &str, path: &str, body: &Value) -> String {
    let head = format!("POST {path} HTTP/1.1\r\ncontent-type: application/json");
    exchange(origin, &head, &body.to_string())
}

fn chat(words: &str) -> Value {
    json!({"model": "qwen3-max", "messages": [{"role": "user", "content": words}]})
}

#[test]
fn one_signs_in_lists_and_serves() {
    let ann = OAuthAccount::new("ann", "rt-of-nobody").resource_url(None);
    let (_, origin) = serve(
        Emulator::builder().require_credentials(true).oauth_account(ann).device_slow_downs(1),
    );
    let token_url = format!("{origin}/api/v1/oauth2/token");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("oauth_creds.json");
    let path = file.to_str().expect("UTF-8");

    let mut login = command();
    login.args(["login", "--file", path, "--token-url", &token_url]);
    let output = login.output().expect("it runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("/authorize?user_code=") && said.contains("Signed in."), "{said}");
    assert!(!said.contains('\x1b'), "it is no terminal: {said}");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    let kept = read(&file);
    let secrets = ["access_token", "refresh_token"].map(|name| kept[name].as_str().expect("both"));

    let list = |args: &[&str]| {
        let mut list = command();
        list.args(["accounts", "--upstream", "web", "--base-url", &origin]).args(args);
        list.args(["--token-url", &token_url, "--credentials", path]).stdout(Stdio::piped());
        let output = list.output().expect("it runs");
        let table = String::from_utf8(output.stdout).expect("UTF-8");
        (output.status.code(), table + &String::from_utf8_lossy(&output.stderr))
    };
    let (code, table) = list(&[]);
    assert!(code == Some(0) && table.contains("default") && table.contains("oauth"), "{table}");
    assert!(table.contains("6 hours") && table.contains("ready"), "{table}");
    let (code, checked) = list(&["--check", "--json", "--log", "trace"]);
    assert!(code == Some(0) && checked.contains("\"state\": \"ready\""), "{checked}");

    let mut proxy = command();
    proxy.args(["--upstream", "web", "--base-url", &origin, "--credentials", path]);
    proxy.args(["--token-url", &token_url]);
    let proxy = Running::start(proxy);
    assert!(proxy.banner.contains("as default (oauth)"), "{}", proxy.banner);
    let answer = post(&proxy.origin, "/v1/chat/completions", &chat("Hello"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for secret in secrets {
        for text in [&said, &table, &checked, &answer, &proxy.banner] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn a_dead_login_is_told_by_words_and_by_the_code() {
    let (_, origin) = serve(Emulator::builder().require_credentials(true));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dead.json");
    write_login(&file, "at-dead", "rt-dead", SystemTime::now() - Duration::from_secs(60));
    let mut list = command();
    list.args(["accounts", "--upstream", "web", "--base-url", &origin, "--check", "--log", "off"]);
    list.args(["--token-url", &format!("{origin}/api/v1/oauth2/token"), "--credentials"]);
    let output = list.arg(&file).stdout(Stdio::piped()).output().expect("it runs");
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains("sign in again"), "{table}");

    let denied = serve(Emulator::builder().device_denied(true).device_polls(0)).1;
    let mut login = command();
    login.args(["login", "--token-url", &format!("{denied}/api/v1/oauth2/token"), "--file"]);
    let output = login.arg(folder.path().join("new.json")).output().expect("it runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.ends_with("error: the sign-in was denied; nothing was written\n"), "{said}");
}

#[test]
fn an_interrupted_sign_in_says_so() {
    let (_, origin) = serve(Emulator::builder().device_polls(u32::MAX));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("new.json");
    let mut login = command();
    login.args(["login", "--token-url", &format!("{origin}/api/v1/oauth2/token"), "--file"]);
    let mut child = login.arg(&file).spawn().expect("it runs");
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("it is piped"));
    while !said.contains("Ctrl-C stops.") {
        let read = std::io::BufRead::read_line(&mut stderr, &mut said).expect("UTF-8");
        assert_ne!(read, 0, "{said}");
    }
    let kill = std::process::Command::new("kill").arg("-INT").arg(child.id().to_string()).status();
    assert!(kill.expect("kill").success());
    std::io::Read::read_to_string(&mut stderr, &mut said).expect("UTF-8");
    assert_eq!(child.wait().expect("it was started").code(), Some(130), "{said}");
    assert!(said.ends_with("error: interrupted; nothing was written\n"), "{said}");
    assert!(!file.exists());
}

#[test]
fn a_refresh_in_flight_outlives_the_order_to_stop() {
    let ann = OAuthAccount::new("ann", "rt-first");
    let (emulator, origin) = serve(
        Emulator::builder()
            .require_credentials(true)
            .oauth_account(ann)
            .token_delay(Duration::from_secs(2)),
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("oauth_creds.json");
    write_login(&file, "at-old", "rt-first", SystemTime::now() - Duration::from_secs(60));
    let mut proxy = command();
    proxy.args(["--upstream", "web", "--base-url", &origin, "--credentials"]).arg(&file);
    proxy.args(["--token-url", &format!("{origin}/api/v1/oauth2/token")]).env("RUST_LOG", "info");
    let proxy = Running::start(proxy);
    // It renews what has ended when it starts; the endpoint has spent the old token by now.
    let begun = Instant::now();
    while emulator.counters().refreshes == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "no refresh");
        thread::yield_now();
    }
    assert_eq!(read(&file)["refresh_token"], "rt-first", "the answer is on its way");
    let (code, log) = proxy.stop("-TERM");
    assert_eq!(code, Some(0), "{log}");
    assert_ne!(read(&file)["refresh_token"], "rt-first", "{log}");
    assert!(log.contains("a credential was renewed"), "{log}");
}

#[test]
fn two_proxies_on_one_file_never_spend_a_token_twice_whatever_is_killed() {
    const REFRESHES: u64 = 1000;
    const KILLS: u64 = 5;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("oauth_creds.json");
    token_endpoint::write_first(&file);
    let (server, address) = Server::start(false);
    let mut started = 0;
    let mut start = || {
        started += 1;
        let id = format!("proxy-{started}");
        let mut proxy = command();
        proxy.args(["--upstream", "web", "--base-url", &format!("http://{address}")]);
        proxy
            .args(["--token-url", &format!("http://{address}/{id}/token")])
            .env("RUST_LOG", "warn");
        (
            id,
            Running::start({
                proxy.arg("--credentials").arg(&file);
                proxy
            }),
        )
    };
    let mut proxies = [start(), start()];
    // Each proxy is asked for one refresh after the other.
    let origins = [0, 1].map(|at: usize| Arc::new(Mutex::new(proxies[at].1.origin.clone())));
    let stop = Arc::new(AtomicBool::new(false));
    let askers = origins.clone().map(|origin| {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let origin = origin.lock().expect("no one panics with it").clone();
                if ask_to_refresh(&origin).is_err() {
                    // It has been killed; the next one is not there yet.
                    thread::sleep(Duration::from_millis(5));
                }
            }
        })
    });
    let (mut killed, mut put_off) = (0, 0);
    let begun = Instant::now();
    let mut pause = 7;
    loop {
        pause = (pause * 31 + 11) % 17;
        thread::sleep(Duration::from_millis(5 + pause));
        let mut state = lock(&server);
        assert!(state.wrongs.is_empty(), "after {} refreshes: {:?}", state.grants, state.wrongs);
        assert!(begun.elapsed() < Duration::from_secs(600), "stuck at {} refreshes", state.grants);
        if state.grants >= REFRESHES && killed >= KILLS {
            break;
        }
        if killed < KILLS && state.grants >= (killed + 1) * REFRESHES / (KILLS + 1) {
            // What no client can survive: see the test of the library, auth_processes.rs.
            if !state.is_on_disk(&file) {
                put_off += 1;
                continue;
            }
            let at = usize::try_from(killed % 2).expect("0 or 1");
            proxies[at].1.kill();
            state.dead.push(proxies[at].0.clone());
            drop(state);
            proxies[at] = start();
            *origins[at].lock().expect("no one panics with it") = proxies[at].1.origin.clone();
            killed += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for asker in askers {
        asker.join().expect("it does not panic");
    }
    let state = lock(&server);
    assert!(state.wrongs.is_empty(), "{:?}", state.wrongs);
    assert!(put_off < 10_000, "the window was seen, and only for moments");
}

/// Asks the proxy at `origin` for a refresh; fails where it has been killed.
fn ask_to_refresh(origin: &str) -> std::io::Result<()> {
    use std::io::{Read, Write};
    let address = origin.strip_prefix("http://").expect("an origin");
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(
        stream,
        "POST /v1/refresh HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-length: 0\r\n\r\n"
    )?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).map(drop)
}

/// What of the log and of answers must hold no secret.
#[test]
fn no_secret_is_in_a_log_at_trace_in_health_or_in_an_error() {
    let ann = OAuthAccount::new("ann", "rt-secret-first").lifetime(Duration::from_secs(2));
    let builder = Emulator::builder().require_credentials(true).oauth_account(ann);
    let (emulator, origin) = serve(builder.token("web-secret-session", "bob"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("oauth_creds.json");
    write_login(&file, "at-secret-old", "rt-secret-first", SystemTime::now());
    let web = folder.path().join("web.json");
    let session = json!({"kind": "web", "jwt": "web-secret-session",
        "cookies": {"cna": "secret-cookie"}, "headers": {"bx-umidtoken": "secret-device"}});
    fs::write(&web, session.to_string()).expect("written");
    fs::set_permissions(&web, fs::Permissions::from_mode(0o644)).expect("own file");

    let mut proxy = command();
    proxy.args(["--upstream", "web", "--base-url", &origin, "--log", "trace"]);
    proxy.args(["--debug-stream=content", "--credentials"]);
    proxy.arg(folder.path()).env("QWEN_PROXY_API_KEY", "sk-secret-of-the-proxy");
    proxy.args(["--token-url", &format!("{origin}/api/v1/oauth2/token"), "--metrics"]);
    let proxy = Running::start(proxy);
    assert!(proxy.banner.contains("web.json can be read by other users"), "{}", proxy.banner);
    assert!(!proxy.banner.contains("oauth_creds.json can be read"), "{}", proxy.banner);

    let mut said = vec![proxy.banner.clone()];
    let key = "authorization: Bearer sk-secret-of-the-proxy\r\ncontent-type: application/json";
    let ask = |target: &str, body: &str| {
        exchange(&proxy.origin, &format!("{target} HTTP/1.1\r\n{key}"), body)
    };
    let asked_about = "eyJhbGciOiJIUzI1NiJ9.eyJzZWNyZXQiOiJhc2tlZC1hYm91dCJ9.c2VjcmV0";
    for round in 0..4 {
        let body = chat(&format!("turn {round}")).to_string();
        let answer = ask("POST /v1/chat/completions", &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        said.push(answer);
        said.push(ask("GET /v1/models", ""));
        said.push(ask("POST /v1/validate", ""));
        said.push(ask("POST /v1/refresh", ""));
        let bad = ask("POST /v1/validate", &json!({"token": asked_about}).to_string());
        assert!(bad.starts_with("HTTP/1.1 401"), "{bad}");
        said.push(bad);
        said.push(exchange(&proxy.origin, "GET /health HTTP/1.1", ""));
    }
    // And when the login is dead.
    emulator.revoke(read(&file)["refresh_token"].as_str().expect("a token"));
    emulator.revoke("web-secret-session");
    for _ in 0..4 {
        said.push(ask("POST /v1/refresh", ""));
        said.push(ask("POST /v1/chat/completions", &chat("anyone?").to_string()));
    }
    let health = exchange(&proxy.origin, "GET /health HTTP/1.1", "");
    assert!(health.starts_with("HTTP/1.1 200") && health.contains("sign_in_again"), "{health}");
    said.push(health);
    let closed = exchange(&proxy.origin, "GET /metrics HTTP/1.1", "");
    assert!(closed.starts_with("HTTP/1.1 401"), "{closed}");
    let metrics = ask("GET /metrics", "");
    for counted in [
        "tower_qwen_auth_refresh_total{result=\"ok\"}",
        "tower_qwen_auth_account_state{account=\"default\",state=\"sign_in_again\"} 1",
        "tower_qwen_auth_requests_total{account=\"web\"}",
    ] {
        assert!(metrics.contains(counted), "{counted} is not in {metrics}");
    }
    said.push(metrics);
    let (_, log) = proxy.stop("-TERM");
    for told in
        ["a credential was renewed", "somebody has to sign in again", "TRACE", "tower_qwen::stream"]
    {
        assert!(log.contains(told), "{told} is not in the log");
    }
    said.push(log);

    // Everything that was ever sent as a credential, and everything in the files.
    let mut secrets: BTreeSet<String> = [
        "web-secret-session",
        "secret-cookie",
        "secret-device",
        "sk-secret-of-the-proxy",
        "at-secret-old",
        "rt-secret-first",
        asked_about,
    ]
    .map(str::to_owned)
    .into();
    for request in emulator.requests() {
        if let Some(token) = request.body["refresh_token"].as_str() {
            secrets.insert(token.to_owned());
        }
        if let Some(bearer) = request.headers.get("authorization") {
            let bearer = bearer.to_str().expect("ASCII");
            secrets.insert(bearer.trim_start_matches("Bearer ").to_owned());
        }
    }
    for name in ["access_token", "refresh_token"] {
        secrets.insert(read(&file)[name].as_str().expect("a token").to_owned());
    }
    assert!(secrets.len() > 12, "tokens have changed: {}", secrets.len());
    for text in &said {
        for secret in &secrets {
            if let Some(at) = text.find(secret.as_str()) {
                let line = text[..at].rfind('\n').map_or(0, |line| line + 1);
                panic!("a secret in {}", &text[line..at + secret.len()]);
            }
        }
    }
}

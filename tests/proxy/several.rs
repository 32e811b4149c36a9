//! Two proxies with one Redis, behind nginx with the directives of docs/several-proxies.md.

use std::{
    fs,
    io::Read,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower_qwen_emulator::Emulator;

use crate::{
    binary::Running,
    command::exchange,
    proxied::{command, serve, start, upstream},
    redis,
};

/// The directives of the documentation, for these two proxies.
fn directives(port: u16, proxies: &[Running; 2]) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/several-proxies.md");
    let page = fs::read_to_string(page).expect("the page");
    let (_, rest) = page.split_once("```nginx\n").expect("directives");
    let (directives, _) = rest.split_once("```").expect("their end");
    let mut text = directives.replace("listen 8080;", &format!("listen 127.0.0.1:{port};"));
    for (own, proxy) in ["10.0.0.11:8080", "10.0.0.12:8080"].iter().zip(proxies) {
        assert_eq!(text.matches(own).count(), 1);
        text = text.replace(own, proxy.origin.strip_prefix("http://").expect("an origin"));
    }
    text
}

/// nginx, until it is dropped.
struct Nginx {
    child: Child,
    origin: String,
    _folder: TempDir,
}

impl Nginx {
    fn start(proxies: &[Running; 2]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = port.expect("a free port").port();
        let path = folder.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
            .concat();
        let text = format!(
            "daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log stderr;\n\
             events {{ worker_connections 256; }}\n\
             http {{\naccess_log off;\n{temporary}{}}}\n",
            directives(port, proxies)
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, text).expect("written");
        let child = Command::new("nginx")
            .arg("-e")
            .arg("stderr")
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx starts");
        let nginx = Self { child, origin: format!("http://127.0.0.1:{port}"), _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "nginx does not listen");
            thread::yield_now();
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a test is made with.
struct Served {
    nginx: Nginx,
    proxies: [Running; 2],
    emulator: Emulator,
    _redis: redis::Server,
    _runtime: Runtime,
}

impl Served {
    /// `None`, said aloud, where nginx or Redis is not installed.
    #[expect(clippy::print_stderr, reason = "whoever runs the tests shall know")]
    fn start(also: &[&str]) -> Option<Self> {
        let there = Command::new("nginx").arg("-v").stderr(Stdio::null()).status();
        if there.is_err() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "nginx must be installed where CI=true"
            );
            eprintln!("skipped: there is no nginx on the path");
            return None;
        }
        let runtime = Runtime::new().expect("a runtime");
        let redis = runtime.block_on(redis::Server::start())?;
        let emulator = upstream().build();
        let origin = runtime.block_on(serve(emulator.clone()));
        let proxies = [(); 2].map(|()| {
            let mut proxy = command(&origin, "sk-ann");
            proxy.args(["--redis", &redis.url()]).args(also).env("RUST_LOG", "info");
            runtime.block_on(start(proxy))
        });
        let nginx = Nginx::start(&proxies);
        Some(Self { nginx, proxies, emulator, _redis: redis, _runtime: runtime })
    }

    fn post(&self, body: &Value) -> String {
        exchange(&self.nginx.origin, HEAD, &body.to_string())
    }

    /// How many requests each proxy has answered.
    fn shares(&self) -> [usize; 2] {
        [0, 1].map(|proxy: usize| {
            let log = self.proxies[proxy].log();
            let log = log.lock().expect("no one panics with it");
            log.lines().filter(|line| line.contains("/v1/chat/completions")).count()
        })
    }
}

const HEAD: &str = "POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-ann\r\n\
                    content-type: application/json";

#[test]
fn any_proxy_goes_on_in_the_chat_of_another() {
    let Some(served) = Served::start(&[]) else { return };
    let mut history = Vec::new();
    for turn in 0..8 {
        history.push(json!({"role": "user", "content": format!("question {turn}")}));
        let response = served.post(&json!({"model": "qwen3-max", "messages": history}));
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        let (_, answer) = response.split_once("\r\n\r\n").expect("a body");
        let answer: Value = serde_json::from_str(answer).expect("JSON");
        history.push(answer["choices"][0]["message"].clone());
    }
    let [chat] = &served.emulator.chats()[..] else { panic!("more than one chat") };
    let asked = chat.messages.iter().filter(|message| message.role == "user");
    let asked: Vec<_> = asked.map(|message| message.text.clone()).collect();
    let questions: Vec<_> = (0..8).map(|turn| format!("question {turn}")).collect();
    assert_eq!(asked, questions, "only what is new, in order");
    let shares = served.shares();
    assert!(shares.iter().all(|share| *share > 0), "nginx takes turns: {shares:?}");
}

/// A budget is one for both: when it is used up, neither lets the key go on.
#[test]
fn a_budget_is_shared() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.toml");
    // The key is "foo".
    let digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    let table = format!("[[key]]\nid = \"ann\"\nsha256 = \"{digest}\"\ntokens-per-month = 1\n");
    fs::write(&file, table).expect("written");
    let file = file.to_str().expect("UTF-8");
    let Some(served) = Served::start(&["--keys-file", file]) else { return };
    let head = HEAD.replace("sk-ann", "foo");
    let body = json!({"model": "qwen3-max", "messages": [{"role": "user", "content": "Hello"}]});
    let ask = || exchange(&served.nginx.origin, &head, &body.to_string());
    let first = ask();
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    // They take turns, so four refusals in a row are two of each.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut refused = 0;
    while refused < 4 {
        let said = ask();
        refused = if said.starts_with("HTTP/1.1 429") { refused + 1 } else { 0 };
        assert!(refused > 0 || said.starts_with("HTTP/1.1 200"), "{said}");
        assert!(refused == 0 || said.contains("key_budget_exceeded"), "{said}");
        assert!(Instant::now() < deadline, "one of them goes on: {said}");
    }
    let shares = served.shares();
    assert!(shares.iter().all(|share| *share > 0), "nginx takes turns: {shares:?}");
}

/// Each event goes on when it comes, and so does the error of a stream that a proxy has to cut.
#[test]
fn streams_are_not_held_back() {
    let Some(served) = Served::start(&["--shutdown-timeout", "0"]) else { return };
    let address = served.nginx.origin.strip_prefix("http://").expect("an origin");
    let mut client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let body = json!({"model": "qwen3-max", "stream": true, "messages": [
        {"role": "user", "content": "emulate:stall=2 emulate:say=First and then no more."},
    ]});
    let body = body.to_string();
    let head =
        format!("{HEAD}\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}", body.len());
    std::io::Write::write_all(&mut client, format!("{head}\r\n\r\n{body}").as_bytes())
        .expect("it reads");
    let mut said = String::new();
    while !said.contains("First") {
        let mut piece = [0; 4096];
        let count = client.read(&mut piece).expect("it answers");
        assert!(count > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    for proxy in served.proxies {
        let (code, log) = proxy.stop("-TERM");
        assert_eq!(code, Some(0), "{log}");
    }
    client.read_to_string(&mut said).expect("the rest");
    assert!(said.contains("shutting down"), "{said}");
    assert!(said.ends_with("\r\n0\r\n\r\n"), "nginx has seen the end: {said}");
}

/// An update: one of the two is stopped while clients ask, and none of them sees anything of it.
#[test]
fn one_of_them_can_be_stopped_unnoticed() {
    let Some(served) = Served::start(&["--shutdown-delay", "1"]) else { return };
    let is_over = AtomicBool::new(false);
    let answers = Mutex::new(Vec::new());
    let count = || answers.lock().expect("no panic").len();
    let wait_for = |more: usize| {
        let enough = count() + more;
        while count() < enough {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let question =
                    "emulate:slow=5 emulate:say=First and then one and one and the last.";
                let body = json!({"model": "qwen3-max", "stream": true, "messages": [
                    {"role": "user", "content": question},
                ]});
                while !is_over.load(Ordering::SeqCst) {
                    let said = served.post(&body);
                    answers.lock().expect("no panic").push(said);
                }
            });
        }
        wait_for(20);
        served.proxies[0].signal("-TERM");
        served.proxies[0].wait_for_log("stopping");
        while TcpStream::connect(
            served.proxies[0].origin.strip_prefix("http://").expect("an origin"),
        )
        .is_ok()
        {
            thread::yield_now();
        }
        wait_for(20);
        is_over.store(true, Ordering::SeqCst);
    });
    for said in answers.into_inner().expect("no panic") {
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        assert!(said.contains("last") && said.contains("data: [DONE]"), "{said}");
    }
    let [first, _second] = served.proxies;
    assert_eq!(first.ended().0, Some(0));
}

//! The program is told to stop while it answers.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use axum::http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower_qwen_emulator::{Emulator, Kind};

use crate::{
    binary::{self, Running},
    proxied::{command, serve, start, upstream},
};

/// What is asked: its answer begins and is never complete.
const ENDLESS: &str = "emulate:stall=2 emulate:say=First and then no more.";

/// What is asked: its answer takes a while.
const SLOW: &str = "emulate:slow=20 emulate:say=First and then one and one and one and the last.";

/// The program in front of an upstream of `kind`.
fn proxy(runtime: &Runtime, kind: Kind, also: &[&str]) -> (Running, Emulator) {
    let emulator = match kind {
        Kind::Web => upstream().build(),
        _ => Emulator::builder().kind(kind).build(),
    };
    let origin = runtime.block_on(serve(emulator.clone()));
    let mut proxy = match kind {
        Kind::Web => command(&origin, "sk-ann"),
        _ => {
            let mut proxy = binary::command();
            proxy.args(["--server", "vllm", "--base-url", &format!("{origin}/v1")]);
            proxy
        }
    };
    proxy.args(also).env("QWEN_PROXY_API_KEY", "sk-ann").env("NO_PROXY", "127.0.0.1");
    proxy.env("RUST_LOG", "info");
    (runtime.block_on(start(proxy)), emulator)
}

/// Each way to ask for a stream: what is asked, and what it ends with where it is cut.
fn requests(model: &str, text: &str) -> Vec<(&'static str, Value, &'static str)> {
    let messages = json!([{"role": "user", "content": text}]);
    let chat = json!({"model": model, "messages": messages, "stream": true});
    let message = json!({"model": model, "max_tokens": 64, "messages": messages, "stream": true});
    let response = json!({"model": model, "input": text, "stream": true});
    let prompt = json!({"model": model, "prompt": text, "stream": true});
    vec![
        ("/v1/chat/completions", chat.clone(), r#"data: {"error":{"message":"the server is"#),
        ("/xml/v1/chat/completions", chat.clone(), r#"data: {"error":{"message":"the server is"#),
        ("/v1/messages", message, "event: error\ndata: {\"type\":\"error\""),
        ("/v1/responses", response, "event: response.failed\n"),
        ("/v1/completions", prompt.clone(), r#"data: {"error":{"message":"the "#),
        ("/api/chat", chat, r#"{"error":"the server is"#),
        ("/api/generate", prompt, r#"{"error":"the server is"#),
    ]
}

/// Sends a request; what comes of it is read from the connection.
fn send(proxy: &Running, path: &str, body: &Value) -> TcpStream {
    let address = proxy.origin.strip_prefix("http://").expect("an origin");
    let mut client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let body = body.to_string();
    write!(
        client,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer sk-ann\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it is open");
    client
}

/// Reads until `text` has come.
fn read_until(client: &mut TcpStream, text: &str) -> String {
    let mut said = String::new();
    while !said.contains(text) {
        let mut piece = [0; 4096];
        let count = client.read(&mut piece).expect("it answers");
        assert!(count > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    said
}

/// Reads to the end, which is one in good order.
fn read_all(client: &mut TcpStream) -> String {
    let mut said = String::new();
    client.read_to_string(&mut said).expect("the connection is closed and not reset");
    said
}

/// An answer with chunks is whole when the empty one has come.
fn assert_whole(said: &str) {
    assert!(said.ends_with("\r\n0\r\n\r\n"), "{said}");
}

#[test]
fn what_runs_too_long_ends_with_an_error_of_its_protocol() {
    let runtime = Runtime::new().expect("a runtime");
    for (kind, model) in
        [(Kind::Web, "qwen3-max"), (Kind::Vllm, "Qwen/Qwen3-Coder-30B-A3B-Instruct")]
    {
        let (proxy, emulator) = proxy(&runtime, kind, &["--shutdown-timeout", "0"]);
        let mut requests = requests(model, ENDLESS);
        if kind == Kind::Vllm {
            // The lane that no layer looks into.
            let mut more = requests[0].1.clone();
            more["n"] = json!(2);
            requests.push((
                "/v1/chat/completions",
                more,
                r#"data: {"error":{"message":"the proxy is"#,
            ));
        }
        let mut clients: Vec<_> =
            requests.iter().map(|(path, body, _)| send(&proxy, path, body)).collect();
        for client in &mut clients {
            read_until(client, "First");
        }
        // One that no event has come for, and one in one piece.
        let mut silent = send(
            &proxy,
            "/v1/messages",
            &json!({
                "model": model, "max_tokens": 64, "stream": true,
                "messages": [{"role": "user", "content": "emulate:wait=600000 Hello"}],
            }),
        );
        let mut whole = requests[0].1.clone();
        whole["stream"] = json!(false);
        let mut whole = send(&proxy, requests[0].0, &whole);
        let asked = requests.len() as u64 + 2;
        while emulator.counters().completions < asked {
            thread::yield_now();
        }

        let (code, log) = proxy.stop("-TERM");
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("answers did not end in time and are cut"), "{log}");
        assert!(!log.contains("their connections are cut"), "{log}");
        if kind == Kind::Web {
            // It would go on by itself; of what had not begun the chat is deleted. Nobody sees whether
            // the answer in one piece had.
            let begun = asked - 2..=asked - 1;
            assert!(begun.contains(&emulator.counters().stops), "{log}");
            let chats = emulator.chats().len() as u64;
            assert!(begun.contains(&chats), "{chats} {:?} {log}", emulator.counters());
        }
        for (client, (path, _, error)) in clients.iter_mut().zip(&requests) {
            let said = read_all(client);
            assert!(said.contains(error), "{kind:?} {path}: {said}");
            assert!(said.contains("shutting down"), "{kind:?} {path}: {said}");
            assert_whole(&said);
        }
        let said = read_all(&mut silent);
        assert!(said.starts_with("HTTP/1.1 529 ") || said.starts_with("HTTP/1.1 503 "), "{said}");
        assert!(said.contains("overloaded_error"), "{said}");
        let said = read_all(&mut whole);
        assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    }
}

#[test]
fn under_load_nothing_is_lost_that_ends_in_time() {
    let runtime = Runtime::new().expect("a runtime");
    let (proxy, _emulator) = proxy(&runtime, Kind::Web, &[]);
    let requests = requests("qwen3-max", SLOW);
    let is_stopping = AtomicBool::new(false);
    let answers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for client in 0..24 {
            let (path, body, _) = &requests[client % requests.len()];
            let (proxy, is_stopping, answers) = (&proxy, &is_stopping, &answers);
            scope.spawn(move || {
                while !is_stopping.load(Ordering::SeqCst) {
                    let said = read_until(&mut send(proxy, path, body), "\r\n0\r\n\r\n");
                    answers.lock().expect("no panic").push((*path, said));
                }
            });
        }
        while answers.lock().expect("no panic").len() < 50 {
            thread::yield_now();
        }
        is_stopping.store(true, Ordering::SeqCst);
        proxy.signal("-TERM");
    });
    assert_eq!(proxy.ended().0, Some(0));
    let answers = answers.into_inner().expect("no panic");
    for (path, said) in &answers {
        assert!(said.starts_with("HTTP/1.1 200 OK"), "{path}: {said}");
        assert!(said.contains("last"), "{path}: {said}");
        assert!(!said.contains("shutting down"), "{path}: {said}");
        assert_whole(said);
    }
}

/// It has connected before the signal, and asks behind it.
#[test]
fn who_has_connected_may_still_ask() {
    let runtime = Runtime::new().expect("a runtime");
    let (proxy, _emulator) = proxy(&runtime, Kind::Web, &[]);
    let address = proxy.origin.strip_prefix("http://").expect("an origin").to_owned();
    let mut late = TcpStream::connect(&address).expect("it listens");
    let mut begun = TcpStream::connect(&address).expect("it listens");
    write!(begun, "GET /health HTTP/1.1\r\nho").expect("it is open");
    proxy.signal("-TERM");
    proxy.wait_for_log("stopping");
    write!(late, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n").expect("it is open");
    write!(begun, "st: x\r\n\r\n").expect("it is open");
    for client in [&mut late, &mut begun] {
        let said = read_all(client);
        assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
        assert!(said.contains("connection: close"), "{said}");
    }
    assert_eq!(proxy.ended().0, Some(0));
}

/// A load balancer has time to see that it is not ready; who comes meanwhile is answered.
#[test]
fn it_goes_on_for_the_delay() {
    let runtime = Runtime::new().expect("a runtime");
    let (proxy, _emulator) = proxy(&runtime, Kind::Web, &["--shutdown-delay", "600"]);
    let address = proxy.origin.strip_prefix("http://").expect("an origin").to_owned();
    proxy.signal("-TERM");
    proxy.wait_for_log("stopping");
    for (path, status) in [("/health", "200 OK"), ("/ready", "503 Service Unavailable")] {
        let mut client = TcpStream::connect(&address).expect("it listens");
        write!(client, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").expect("it is open");
        let said = read_all(&mut client);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
        assert!(said.contains("connection: close"), "so that it asks another next: {said}");
    }
    // Who does not want to wait asks again.
    assert_eq!(proxy.stop("-TERM").0, Some(143));
}

#[test]
fn over_http2_it_says_that_no_more_is_taken() {
    let runtime = Runtime::new().expect("a runtime");
    let (proxy, _emulator) = proxy(&runtime, Kind::Web, &[]);
    let address = proxy.origin.strip_prefix("http://").expect("an origin").to_owned();
    let code = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(&address).await.expect("it listens");
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (mut client, connection) =
            builder.handshake(TokioIo::new(stream)).await.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        let request = || {
            let (_, body, _) = &requests("qwen3-max", SLOW)[0];
            Request::post(format!("http://{address}/v1/chat/completions"))
                .header("authorization", "Bearer sk-ann")
                .header("content-type", "application/json")
                .body(Full::new(bytes::Bytes::from(body.to_string())))
                .expect("a request")
        };
        let response = client.send_request(request()).await.expect("it answers");
        assert_eq!(response.status(), 200);
        proxy.signal("-TERM");
        // Its GOAWAY: the connection takes no request any more, and the one that goes on is whole.
        while client.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
        let said = response.into_body().collect().await.expect("the whole answer").to_bytes();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("last") && said.ends_with("data: [DONE]\n\n"), "{said}");
        connection.await.expect("no panic").expect("it ends without an error");
        proxy.ended().0
    });
    assert_eq!(code, Some(0));
}

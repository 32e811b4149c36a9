//! A client of the program that hangs up before it is answered leaves no chat behind, and no server at
//! work.

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::Request, http::Response};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::{net::TcpListener, runtime::Runtime, sync::Semaphore};
use tower::{ServiceExt, service_fn};
use tower_qwen_emulator::{Emulator, Kind};

use crate::{
    binary,
    proxied::{command, serve, start, upstream},
};

/// An upstream that says when it is asked for `path`, and answers that when it may.
struct Held {
    emulator: Emulator,
    asked: Arc<Semaphore>,
    may: Arc<Semaphore>,
    origin: String,
}

impl Held {
    async fn at(path: &'static str) -> Self {
        let emulator = upstream().build();
        let (asked, may) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let answers = service_fn({
            let (emulator, asked, may) = (emulator.clone(), Arc::clone(&asked), Arc::clone(&may));
            move |request: Request| {
                let (emulator, asked, may) =
                    (emulator.clone(), Arc::clone(&asked), Arc::clone(&may));
                async move {
                    if request.uri().path() == path {
                        asked.add_permits(1);
                        // Whether or not who asked is still there.
                        may.acquire().await.expect("it is not closed").forget();
                    }
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.map(http_body_util::Collected::to_bytes);
                    let request = Request::from_parts(head, Body::from(body.unwrap_or_default()));
                    let response = emulator.oneshot(request).await.expect("it is infallible");
                    Ok::<Response<Body>, Infallible>(response.map(Body::new))
                }
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("bound"));
        let app = Router::new().fallback_service(answers);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { emulator, asked, may, origin }
    }
}

#[test]
fn a_client_that_hangs_up_leaves_no_chat() {
    let runtime = Runtime::new().expect("a runtime");
    // It never has a first word, so that nobody is answered before the proxy sees the client gone.
    let words = "emulate:stall=0 Hello";
    for path in ["/api/v2/chats/new", "/api/v2/chat/completions"] {
        let upstream = runtime.block_on(Held::at(path));
        let proxy = runtime.block_on(start(command(&upstream.origin, "sk-ann")));
        let address = proxy.origin.strip_prefix("http://").expect("an origin").to_owned();
        for left in 1..=3 {
            let body = json!({
                "model": "qwen3-max",
                "stream": true,
                "messages": [{"role": "user", "content": words}],
            });
            let body = body.to_string();
            let mut client = TcpStream::connect(&address).expect("it listens");
            write!(
                client,
                "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-ann\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .expect("it is open");
            runtime.block_on(async {
                upstream.asked.acquire().await.expect("it is not closed").forget();
            });
            drop(client);
            upstream.may.add_permits(1);
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                let created = upstream.emulator.counters().chats_created;
                if created == left && upstream.emulator.chats().is_empty() {
                    break;
                }
                assert!(Instant::now() < deadline, "{path}: {:?}", upstream.emulator.chats());
                thread::yield_now();
            }
        }
    }
}

/// Each key press of an editor gives up the last request, over a connection of its own or by closing
/// the one that it has: the server's connection ends with it, in the middle of an answer.
#[test]
fn a_completion_that_is_given_up_ends_the_servers_work() {
    let runtime = Runtime::new().expect("a runtime");
    let emulator = Emulator::builder().kind(Kind::LlamaCpp).build();
    let origin = runtime.block_on(serve(emulator.clone()));
    let mut proxy = binary::command();
    proxy.args(["--server", "llamacpp", "--base-url", &format!("{origin}/v1")]);
    proxy.env("RUST_LOG", "warn").env("NO_PROXY", "127.0.0.1");
    let proxy = runtime.block_on(start(proxy));
    let address = proxy.origin.strip_prefix("http://").expect("an origin").to_owned();
    let words = "emulate:slow=20 emulate:tokens=1000000";
    let prompt = json!({
        "model": "qwen3-coder-30b", "prompt": words, "suffix": "}", "stream": true,
    });
    let infill = json!({
        "input_prefix": "", "input_suffix": "}", "prompt": words, "stream": true,
    });
    for (left, (path, body)) in
        [("/v1/completions", &prompt), ("/infill", &infill)].into_iter().enumerate()
    {
        let body = body.to_string();
        let mut client = TcpStream::connect(&address).expect("it listens");
        write!(
            client,
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("it is open");
        let mut begun = Vec::new();
        while !begun.windows(6).any(|part| part == b"data: ") {
            let mut piece = [0; 4096];
            let count = client.read(&mut piece).expect("it answers");
            assert!(count > 0, "{path}: {}", String::from_utf8_lossy(&begun));
            begun.extend_from_slice(&piece[..count]);
        }
        assert_eq!(emulator.counters().abandoned, left as u64, "{path}");
        drop(client);
        let deadline = Instant::now() + Duration::from_secs(20);
        while emulator.counters().abandoned == left as u64 {
            assert!(Instant::now() < deadline, "{path}: the server is still at work");
            thread::yield_now();
        }
    }
}

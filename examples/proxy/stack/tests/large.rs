//! Others are served while large requests are read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use axum::http::StatusCode;
use tokio::{
    runtime::Builder,
    task::{spawn, spawn_blocking, yield_now},
};

use super::*;

/// How large a request is, in bytes.
const SIZE: usize = 4 << 20;

/// Calls and results without end, in one message.
fn calls_and_results() -> String {
    let (mut calls, mut results) = (Vec::new(), String::new());
    let mut size = 0;
    for n in 0.. {
        let call = format!(r#"{{"id":"c{n}","function":{{"name":"f","arguments":"{{}}"}}}}"#);
        let result = format!(r#",{{"role":"tool","tool_call_id":"c{n}","content":"x"}}"#);
        size += call.len() + result.len();
        calls.push(call);
        results.push_str(&result);
        if size > SIZE {
            break;
        }
    }
    let calls = calls.join(",");
    format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}},{{"role":"assistant","tool_calls":[{calls}]}}{results}]}}"#
    )
}

/// Messages without end.
fn messages() -> String {
    let message = r#"{"role":"user","content":"x"}"#;
    let messages = vec![message; SIZE / message.len()].join(",");
    format!(r#"{{"model":"m","messages":[{messages}]}}"#)
}

/// An upstream that counts its requests.
async fn upstream(asked: Arc<AtomicUsize>) -> String {
    let answer = move || {
        asked.fetch_add(1, Ordering::Relaxed);
        let event = r#"{"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}"#;
        let events = format!("data: {event}\n\ndata: [DONE]\n\n");
        std::future::ready(([("content-type", "text/event-stream")], events))
    };
    let chat = axum::routing::post(answer).layer(axum::extract::DefaultBodyLimit::disable());
    let app = Router::new().route("/v1/chat/completions", chat);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/v1")
}

/// The runtime has one thread for its tasks, and one for what blocks, which the test holds: so what
/// is done off the tasks' thread cannot begin, and what is done on it would be done.
#[test]
fn health_is_answered_while_large_requests_wait() {
    let runtime = Builder::new_current_thread().max_blocking_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (release, held) = mpsc::channel::<()>();
        spawn_blocking(move || held.recv_timeout(Duration::from_secs(60)));
        let asked = Arc::new(AtomicUsize::new(0));
        let api = upstream(Arc::clone(&asked)).await;
        // As many messages and calls as a body of that size can hold.
        let limits = ["--max-messages", "1000000", "--max-calls", "1000000"];
        let upstream = ["--base-url", &api, "--server", "vllm", "--upstream-key", "sk-demo"];
        let proxy = proxy(&[&upstream[..], &limits].concat());

        let hostile: Vec<_> = [calls_and_results(), messages()]
            .map(|body| {
                let proxy = proxy.clone();
                spawn(async move {
                    let request = Request::post("/v1/chat/completions")
                        .header("content-type", "application/json")
                        .body(AxumBody::from(body))
                        .expect("a request");
                    proxy.oneshot(request).await.expect("infallible").status()
                })
            })
            .into();
        // Long enough for a request to be read and to reach the upstream.
        for _ in 0..20_000 {
            yield_now().await;
        }
        let health = Request::get("/health").body(AxumBody::empty()).expect("a request");
        let health = proxy.oneshot(health).await.expect("infallible").status();
        assert_eq!(health, StatusCode::OK);
        assert_eq!(asked.load(Ordering::Relaxed), 0, "they were read on the tasks' thread");
        assert!(hostile.iter().all(|request| !request.is_finished()));

        release.send(()).expect("it waits");
        for request in hostile {
            assert_eq!(request.await.expect("it ends"), StatusCode::OK);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    });
}

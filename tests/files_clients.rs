//! Images, documents and URLs from the official SDKs for Python and Node, through the proxy's program to
//! an emulated chat.qwen.ai behind a socket; the tests themselves are the scripts in tests/clients.
//!
//! They need the packages that tests/clients.rs names. Without them the tests say so and pass, except
//! where `CI` is set.

#[path = "proxy/binary.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod binary;

#[path = "served/proxied.rs"]
mod proxied;
#[path = "served/suite.rs"]
mod suite;
mod traced;

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Body, response::Redirect, routing::get};
use bytes::Bytes;
use suite::KEY;

/// A server of files, which counts how often it was asked for the picture; its origin.
async fn files(closed: Option<&str>) -> String {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    let picture = move || {
        asked.fetch_add(1, Ordering::SeqCst);
        async { &b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..] }
    };
    let endless = || async {
        let piece = Bytes::from_static(&[0_u8; 64 * 1024]);
        let pieces =
            futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()));
        Body::from_stream(pieces)
    };
    let to_closed = format!("{}/a.png", closed.unwrap_or("http://127.0.0.1"));
    let routes = Router::new()
        .route("/a.png", get(picture))
        .route("/asked", get(move || async move { count.load(Ordering::SeqCst).to_string() }))
        .route("/page", get(|| async { "<html>" }))
        .route("/endless", get(endless))
        .route("/to-closed", get(move || async move { Redirect::temporary(&to_closed) }))
        .route("/to-meta", get(|| async { Redirect::temporary("http://169.254.169.254/latest") }))
        .route("/loop", get(|| async { Redirect::temporary("/loop") }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    origin
}

/// Runs `suite` against a proxy of its own.
async fn run(mut suite: Command) {
    traced::on();
    let emulator = proxied::upstream().build();
    let upstream = proxied::serve(emulator.clone()).await;
    let closed = files(None).await;
    let open = files(Some(&closed)).await;
    let mut command = proxied::command(&upstream, KEY);
    let host = open.trim_start_matches("http://");
    command.args(["--store-url", &upstream, "--fetch-urls", "--fetch-allow", host]);
    let proxy = proxied::start(command).await;
    suite.env("FILES_ORIGIN", open).env("CLOSED_ORIGIN", closed);
    let base = format!("{}/v1", proxy.origin);
    tokio::task::spawn_blocking(move || suite::run(&mut suite, &base)).await.expect("it passes");
    // They were put there for the account that the proxy asks as.
    let files = emulator.files();
    assert!(!files.is_empty() && files.iter().all(|file| file.account == "demo"), "{files:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdks_for_python() {
    let Some(mut suite) = suite::python("openai, anthropic") else { return };
    suite.args(["-m", "unittest", "-v", "test_files"]);
    run(suite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdks_for_node() {
    let Some(mut suite) = suite::node(&["openai", "@anthropic-ai/sdk"]) else { return };
    suite.args(["--test", "files.test.mjs"]);
    run(suite).await;
}

//! An upstream that puts what it was sent into its error texts.

use std::{
    io,
    sync::{Arc, Mutex},
};

use axum::{
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
};
use tracing_subscriber::EnvFilter;

use super::*;

/// In no form that would tell what they are.
const SECRETS: [&str; 4] = ["key-of/ann+x", "jwt-of-ann", "cookie-of-ann", "device-of-ann"];

/// How the upstream says what is wrong. `{}` stands for everything that it was sent.
const ANSWERS: [(u16, &str, &str); 12] = [
    (
        401,
        "application/json",
        r#"{"error":{"message":"no: {}","code":"{}","param":"{}","type":"{}"}}"#,
    ),
    (400, "application/json", r#"{"message":"no: {}","code":"x"}"#),
    (500, "application/json", r#"{"error":"{}"}"#),
    (404, "application/json", r#"{"detail":[{"msg":"no: {}"}]}"#),
    (403, "text/plain", "no: {}"),
    (429, "text/plain", "{}"),
    (200, "application/json", r#"{"success":false,"data":{"code":"{}","details":"no: {}"}}"#),
    (200, "application/json", r#"{"error":{"message":"no: {}","code":"x"}}"#),
    (
        200,
        "text/event-stream",
        "data: {\"error\":{\"message\":\"no: {}\",\"code\":\"{}\",\"details\":\"{}\"}}\n\n",
    ),
    (
        200,
        "text/event-stream",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n\
         data: {\"error\":{\"message\":\"no: {}\",\"details\":\"no: {}\",\"code\":\"{}\"}}\n\n",
    ),
    (200, "text/event-stream", "event: error\ndata: no: {}\n\n"),
    (500, "text/html", "<html>{}</html>"),
];

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no one panics with it").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The upstream at an address of its own; it opens chats, and answers all else like this.
async fn upstream(answer: Arc<Mutex<usize>>) -> String {
    let echo = move |uri: Uri, headers: HeaderMap| {
        let (status, kind, text) = ANSWERS[*answer.lock().expect("no one panics with it")];
        let sent = ["authorization", "cookie", "bx-umidtoken"];
        let sent = sent.into_iter().filter_map(|name| headers.get(name)?.to_str().ok());
        // Without what would announce it.
        let bare = |value: &str| {
            ["Bearer ", "token=", "cna="].iter().fold(value.to_owned(), |v, p| v.replace(p, ""))
        };
        let said = text.replace("{}", &sent.map(bare).collect::<Vec<_>>().join(" and "));
        let said = match uri.path() {
            // Every second answer comes when a chat is there already.
            "/api/v2/chats/new" if status == 200 && kind != "application/json" => {
                r#"{"success":true,"data":{"id":"c-1"}}"#.to_owned()
            }
            _ => said,
        };
        let status = StatusCode::from_u16(status).expect("a status");
        std::future::ready((status, [(CONTENT_TYPE, kind)], said).into_response())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(echo)).await });
    format!("http://{address}")
}

#[tokio::test]
async fn what_an_upstream_repeats_of_a_credential_reaches_neither_client_nor_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ann.json");
    std::fs::write(&file, r#"{"kind":"web","jwt":"jwt-of-ann","cookies":{"cna":"cookie-of-ann"}}"#)
        .expect("written");
    let file = file.to_str().expect("UTF-8");
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_env_filter(EnvFilter::new("tower_qwen=trace,proxy=trace"))
        .finish();
    let _logs = tracing::subscriber::set_default(subscriber);
    let at = Arc::default();
    let origin = upstream(Arc::clone(&at)).await;
    let mut masked = 0;
    for args in [
        &["--upstream", "compatible", "--upstream-key", "key-of/ann+x"][..],
        &["--upstream", "compatible", "--upstream-key", "key-of/ann+x", "--tools", "off"],
        &["--upstream", "web", "--credentials", file],
        &["--upstream", "web", "--token", "device-of-ann", "--cookies", "cna=cookie-of-ann"],
    ] {
        // What fails is not tried again: a try is as good as another here.
        let app = proxy(&[args, &["--base-url", &origin, "--retries", "0"]].concat());
        for (index, answer) in ANSWERS.iter().enumerate() {
            *at.lock().expect("no one panics with it") = index;
            for (method, path, body) in [
                ("POST", "/v1/chat/completions", CHAT),
                ("POST", "/v1/chat/completions", STREAM),
                ("POST", "/xml/v1/chat/completions", CHAT),
                ("POST", "/v1/completions", r#"{"model":"m","prompt":"Hi"}"#),
                ("POST", "/v1/embeddings", r#"{"model":"m","input":"Hi"}"#),
                ("GET", "/v1/models", ""),
                ("GET", "/v1/models/m", ""),
                ("DELETE", "/v1/chats/c-1", ""),
                ("DELETE", "/v1/chats/delete", ""),
                ("POST", "/v1/validate", "{}"),
                ("POST", "/v1/refresh", "{}"),
            ] {
                let request = Request::builder().method(method).uri(path);
                let request = request.header("content-type", "application/json");
                let request = request.body(AxumBody::from(body)).expect("a request");
                let response = app.clone().oneshot(request).await.expect("infallible");
                let said = response.into_body().collect().await.expect("a body").to_bytes();
                let said = String::from_utf8_lossy(&said);
                masked += usize::from(said.contains("[redacted]"));
                let leaked = SECRETS.iter().any(|secret| said.contains(secret));
                assert!(!leaked, "{args:?} {:?} {path}: {said}", answer);
            }
        }
    }
    assert!(masked > 100, "{masked}");
    let log = String::from_utf8(log.0.lock().expect("no one panics with it").clone());
    let log = log.expect("UTF-8");
    assert!(log.contains("sending"), "{log}");
    for secret in SECRETS {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;

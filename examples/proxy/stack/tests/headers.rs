//! Which headers of a client reach an upstream.

use std::sync::{Arc, Mutex};

use axum::{
    http::{HeaderMap, HeaderName, header::CONTENT_TYPE},
    response::IntoResponse,
};

use super::*;

type Asked = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// An upstream at an address of its own that notes what it is asked and answers everything.
async fn upstream(asked: &Asked) -> String {
    let asked = Arc::clone(asked);
    let answer = move |uri: Uri, headers: HeaderMap| {
        asked.lock().expect("no one panics with it").push((uri.path().to_owned(), headers));
        let json = "application/json";
        let (kind, answer) = match uri.path() {
            "/api/v2/chats/new" => (json, r#"{"success":true,"data":{"id":"c-1"}}"#),
            "/api/v2/chat/completions" | "/chat/completions" | "/completions" => (
                "text/event-stream",
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\",\"phase\":\"answer\",\
                 \"status\":\"finished\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
            ),
            "/embeddings" => (json, r#"{"data":[{"index":0,"embedding":[1.0]}]}"#),
            _ => (json, r#"{"data":[{"id":"m"}]}"#),
        };
        std::future::ready(([(CONTENT_TYPE, kind)], answer).into_response())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    format!("http://{address}")
}

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#;

/// What a client sends, and whether it reaches a compatible upstream through the layers; what traces a
/// request does so where that was asked for. Nothing of it reaches chat.qwen.ai.
const OF_A_CLIENT: [(&str, &str, bool); 26] = [
    ("user-agent", "OpenAI/Python 2.0", false),
    ("accept", "text/mine", false),
    ("accept-language", "xx", false),
    ("accept-encoding", "mine", false),
    ("authorization", "Bearer of-the-client", false),
    ("x-api-key", "of-the-client", false),
    ("api-key", "of-the-client", false),
    ("proxy-authorization", "Basic mine", false),
    ("cookie", "of=the-client", false),
    ("origin", "http://localhost:1", false),
    ("referer", "http://localhost:1/mine", false),
    ("bx-ua", "of-the-client", false),
    ("bx-umidtoken", "of-the-client", false),
    ("sec-ch-ua", "\"Mine\"", false),
    ("source", "mine", false),
    ("timezone", "mine", false),
    ("x-forwarded-for", "192.0.2.1", false),
    ("x-stainless-lang", "python", false),
    ("openai-organization", "mine", false),
    ("x-request-id", "mine-1", true),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
    ("tracestate", "mine=1", true),
    ("baggage", "mine=1", false),
    ("request-id", "mine-2", false),
    ("x-client-request-id", "mine-3", false),
    ("idempotency-key", "mine-4", false),
];

/// Headers: of a client's, those on the list travel and no other, on every route.
#[tokio::test]
async fn only_what_is_on_the_list_travels() {
    for (upstream_kind, args) in [
        ("web", &["--upstream", "web", "--token", "of-the-proxy"][..]),
        ("web, with a login", &["--upstream", "web", "--cookies", "token=of-the-proxy"]),
        ("compatible", &["--upstream", "compatible", "--upstream-key", "of-the-proxy"]),
        (
            "compatible, with traces",
            &["--upstream", "compatible", "--upstream-key", "of-the-proxy", "--send-trace"],
        ),
        (
            "compatible, byte by byte",
            &["--upstream", "compatible", "--upstream-key", "of-the-proxy", "--tools", "off"],
        ),
        (
            "compatible, byte by byte, with traces",
            &[
                "--upstream",
                "compatible",
                "--upstream-key",
                "of-the-proxy",
                "--tools",
                "off",
                "--send-trace",
            ],
        ),
    ] {
        let is_web = upstream_kind.starts_with("web");
        let asked = Asked::default();
        let origin = upstream(&asked).await;
        let app = proxy(&[args, &["--base-url", &origin]].concat());
        for (method, path, body) in [
            ("POST", "/v1/chat/completions", CHAT),
            ("POST", "/xml/v1/chat/completions", CHAT),
            ("POST", "/v1/completions", r#"{"model":"m","prompt":"Hi"}"#),
            ("POST", "/v1/embeddings", r#"{"model":"m","input":"Hi"}"#),
            ("GET", "/v1/models", ""),
            ("GET", "/v1/models/m", ""),
        ] {
            let mut request = Request::builder().method(method).uri(path);
            for (name, value, _) in OF_A_CLIENT {
                request = request.header(name, value);
            }
            let request = request.header("content-type", "application/json");
            let request = request.body(AxumBody::from(body)).expect("a request");
            let response = app.clone().oneshot(request).await.expect("infallible");
            let status = response.status();
            // The answer is made while it is read.
            let said = response.into_body().collect().await.expect("a body").to_bytes();
            let asked = std::mem::take(&mut *asked.lock().expect("no one panics with it"));
            // The one model stands in the list, which was asked for before.
            let none = path == "/v1/models/m" || is_web && path == "/v1/embeddings";
            assert_eq!(asked.is_empty(), none, "{upstream_kind} {path}: {status} {said:?}");
            for (_, headers) in asked {
                for (name, value, travels) in OF_A_CLIENT {
                    let has = headers.get_all(name).iter().any(|sent| sent == value);
                    // Lists are asked for for more than the one client.
                    let travels = travels
                        && method == "POST"
                        && !is_web
                        && (!name.starts_with("trace") || upstream_kind.ends_with("with traces"));
                    assert!(!has || travels, "{upstream_kind} {path}: {name} travelled");
                    assert!(has || !travels, "{upstream_kind} {path}: {name} did not travel");
                }
                let agent = headers.get("user-agent").and_then(|agent| agent.to_str().ok());
                assert_eq!(
                    agent.is_some_and(|agent| agent.contains("Chrome/")),
                    is_web,
                    "{upstream_kind} {path}: {agent:?}"
                );
            }
        }
    }
}

/// Headers: of two clients and a login the login's own wins, and what belongs to another
/// `user-agent` is not sent beside it.
#[tokio::test]
async fn a_logins_own_headers_win() {
    let folder = tempfile::tempdir().expect("a folder");
    for (kind, own, agent, hints) in [
        ("no headers of its own", "{}", "Chrome/", true),
        ("a user-agent", r#"{"user-agent":"Firefox/1"}"#, "Firefox/1", false),
        (
            "a user-agent and its hints",
            r#"{"user-agent":"Edge/1","sec-ch-ua":"\"Edge\""}"#,
            "Edge/1",
            false,
        ),
        ("another header", r#"{"bx-umidtoken":"own"}"#, "Chrome/", true),
    ] {
        let file = folder.path().join("ann.json");
        let login = format!(r#"{{"kind":"web","jwt":"a-jwt","cookies":{{}},"headers":{own}}}"#);
        std::fs::write(&file, login).expect("written");
        let asked = Asked::default();
        let origin = upstream(&asked).await;
        let file = file.to_str().expect("UTF-8");
        let app = proxy(&["--upstream", "web", "--credentials", file, "--base-url", &origin]);
        let request = Request::post("/v1/chat/completions")
            .header("user-agent", "OpenAI/Python 2.0")
            .header("content-type", "application/json")
            .body(AxumBody::from(CHAT));
        let response = app.oneshot(request.expect("a request")).await.expect("infallible");
        assert_eq!(response.status(), 200, "{kind}");
        response.into_body().collect().await.expect("a body");
        let asked = std::mem::take(&mut *asked.lock().expect("no one panics with it"));
        assert!(!asked.is_empty(), "{kind}");
        let own: serde_json::Value = serde_json::from_str(own).expect("JSON");
        for (path, headers) in asked {
            let sent = headers["user-agent"].to_str().expect("ASCII");
            assert!(sent.contains(agent), "{kind} {path}: {sent}");
            let platform = HeaderName::from_static("sec-ch-ua-platform");
            assert_eq!(headers.contains_key(platform), hints, "{kind} {path}");
            for (name, value) in own.as_object().expect("an object") {
                assert_eq!(headers[name], value.as_str().expect("text"), "{kind} {path}");
            }
        }
    }
}

/// Requests: plain text is read as JSON of who has a key, which a page of somebody else has not.
#[tokio::test(start_paused = true)]
async fn plain_text_is_json_unless_a_page_may_have_sent_it() {
    const KEY: &[&str] = &["--api-key", "sk-ann"];
    const PROMPT: &str = r#"{"model":"qwen3-coder-30b","prompt":"Hi"}"#;
    let message =
        r#"{"model":"qwen3-coder-30b","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#;
    let more = message.replace("max_tokens", "n\":2,\"max_tokens");
    for (path, args, body) in [
        ("/v1/chat/completions", &[][..], message),
        ("/v1/chat/completions", &["--tools", "off"], message),
        // It goes byte by byte.
        ("/v1/chat/completions", &[], &more),
        ("/xml/v1/chat/completions", &[], message),
        ("/v1/messages", &[], message),
        ("/v1/messages/count_tokens", &[], message),
        ("/v1/responses", &[], r#"{"model":"qwen3-coder-30b","input":"Hi"}"#),
        ("/v1/completions", &[], PROMPT),
        ("/v1/completions", &["--completions", "chat"], PROMPT),
        ("/v1/completions", &["--completions", "raw"], PROMPT),
        ("/infill", &[], r#"{"input_prefix":"a","input_suffix":"b"}"#),
        ("/v1/embeddings", &[], r#"{"model":"qwen3-embedding-0.6b","input":"Hi"}"#),
    ] {
        for (content_type, keys, key, page, status) in [
            (Some("text/plain;charset=UTF-8"), KEY, Some("Bearer sk-ann"), None, 200),
            (Some("Text/Plain"), KEY, Some("sk-ann"), None, 200),
            (Some("text/plain"), KEY, None, None, 401),
            (Some("text/plain"), KEY, Some("sk-bob"), None, 401),
            (Some("text/plain"), &[], None, None, 200),
            (Some("text/plain"), &[], None, Some(("origin", "null")), 403),
            (Some("text/plain"), &[], None, Some(("origin", "http://127.0.0.1:8080")), 415),
            (Some("text/plain"), &[], None, Some(("referer", "http://evil.example/")), 415),
            (Some("text/plain"), &[], None, Some(("sec-fetch-site", "cross-site")), 415),
            (Some("text/plain"), KEY, Some("sk-ann"), Some(("sec-fetch-site", "none")), 200),
            // A key that nobody asked for is none.
            (Some("text/plain;charset=UTF-8"), &[], Some("sk-ann"), Some(("cookie", "a=b")), 415),
            (Some("text/plain;charset=UTF-8"), &[], Some("sk-ann"), None, 200),
            (Some("text/html"), KEY, Some("sk-ann"), None, 415),
            (Some("multipart/form-data"), &[], None, None, 415),
            (Some("application/json"), &[], None, None, 200),
            (Some("application/x-www-form-urlencoded"), &[], None, None, 200),
            (None, &[], None, None, 200),
        ] {
            let app = proxy(&[&["--emulate", "llamacpp"], args, keys].concat());
            let mut request = Request::post(path);
            for (name, value) in [("content-type", content_type), ("authorization", key)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            if let Some((name, value)) = page {
                request = request.header(name, value);
            }
            let request = request.body(AxumBody::from(body.to_owned())).expect("a request");
            let response = app.oneshot(request).await.expect("infallible");
            let had = response.status().as_u16();
            let said = response.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(had, status, "{path} {args:?} {content_type:?} {key:?} {page:?}: {said:?}");
        }
    }
}

use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use axum::{body::Body, http::StatusCode};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::{ServiceExt, service_fn};
use tower_qwen::{
    FullBody,
    chat::{ChatEvent, ChatRequest, Conversation, FinishReason},
    edge::BodyBudget,
    openai::OpenAiLayer,
    qwen::models::Catalogue,
    session::{Key, MemoryStore, Record, SessionStore},
    variant::Variants,
};

use super::{
    super::{
        auth::ApiKeys,
        chats::kept,
        config::Patterns,
        gate::{Gate, Rules},
        lanes::{Can, Lane, MediaRoutes, OllamaRoutes, Route},
        ready::Reach,
        tokens::Desk,
    },
    *,
};

/// A proxy whose upstream repeats the last message and has one model, `org/echo`.
fn proxy(keys: &str) -> App {
    proxy_over(keys, Arc::new(MemoryStore::default()), Arc::default())
}

/// The same with what is in `store`; it deletes nothing as long as it is told to `refuse`.
fn proxy_over(keys: &str, store: Arc<MemoryStore>, refuse: Arc<AtomicBool>) -> App {
    let catalogue = service_fn(async |_: axum::http::Request<FullBody>| {
        let list = r#"{"data":[{"id":"org/echo","info":{"created_at":7}}]}"#;
        Ok::<_, tower::BoxError>(Response::new(FullBody::from(list)))
    });
    let echo = service_fn(|request: axum::http::Request<ChatRequest>| async move {
        let said = request.body().history.last().expect("never empty").text();
        let events = [ChatEvent::Text(said), ChatEvent::Finished(FinishReason::Stop)];
        Ok::<_, Error>(axum::http::Response::new(stream::iter(events.map(Ok))))
    });
    let api_keys =
        if keys.is_empty() { ApiKeys::default() } else { ApiKeys::parse(keys).expect("keys") };
    let clients = Clients::new(api_keys, true);
    let deleted = service_fn(move |request: axum::http::Request<FullBody>| {
        let (method, path) = (request.method().as_str(), request.uri().path());
        let found = method == "DELETE" && matches!(path, "/api/v2/chats/c-1" | "/api/v2/chats/");
        let body = if refuse.load(Ordering::Relaxed) {
            r#"{"success":false,"data":{"code":"Internal_Error","details":"try again"}}"#
        } else if found {
            r#"{"success":true,"data":{"status":true}}"#
        } else {
            r#"{"success":false,"data":{"code":"Not_Found","details":"no such chat"}}"#
        };
        ready(Ok::<_, tower::BoxError>(Response::new(FullBody::from(body))))
    });
    let edge = OpenAiLayer::new().max_body(200).tenant(Client::tenant_of);
    let chat = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(edge)
        .service(echo);
    let chat = Route::new(chat);
    let lanes = Lanes::new(vec![Lane {
        name: HeaderValue::from_static("emulator"),
        patterns: Patterns::default(),
        chat: chat.clone(),
        xml: chat.clone(),
        messages: chat.clone(),
        responses: chat.clone(),
        ollama: OllamaRoutes {
            chat: chat.clone(),
            generate: chat.clone(),
            embed: chat.clone(),
            embeddings: chat.clone(),
        },
        can: Can { tools: true, images: true },
        completions: chat.clone(),
        infill: None,
        embeddings: chat.clone(),
        media: MediaRoutes {
            images: chat.clone(),
            edits: chat.clone(),
            videos: chat.clone(),
            begin: chat.clone(),
            jobs: None,
        },
        speech: chat.clone(),
        transcriptions: chat.clone(),
        translations: chat.clone(),
        rerank: chat,
        variants: Variants::new(Catalogue::web(catalogue, catalogue), []),
        models: Catalogue::web(catalogue, catalogue),
        chats: Some(kept(deleted, None)),
        desk: Desk::unmanned(),
        reach: Reach::new(),
    }]);
    let chats = Chats::new(lanes.clone(), store, clients.clone());
    let tokens = Tokens::new(vec![Desk::unmanned()], clients.clone());
    let hosts = Hosts::new("127.0.0.1:8080", &["proxy".to_owned()]);
    let budget = BodyBudget::new(1 << 20);
    let rules = Rules { streams: None, queue: 0, wait: Duration::ZERO, fail_closed: false };
    let admission = Admission::new(Gate::default(), clients.clone(), rules, lanes.clone());
    app(Site {
        lanes,
        clients,
        hosts,
        chats,
        tokens,
        budget,
        admission,
        shutdown: Shutdown::default(),
        debug_stream: DebugStream::Off,
    })
}

fn get(path: &str) -> Request {
    Request::get(path).body(Body::empty()).expect("a request")
}

fn post(path: &str, body: impl Into<Body>) -> Request {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(body.into()).expect("a request")
}

fn chat() -> Request {
    post("/v1/chat/completions", r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#)
}

fn with(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers_mut().insert(name, value.parse().expect("a header value"));
    request
}

async fn ask(app: &App, request: Request) -> (StatusCode, HeaderMap, Value) {
    let response = app.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
    (parts.status, parts.headers, json)
}

/// Asserts that the answer is an OpenAI error and gives its status and code.
async fn refusal(app: &App, request: Request) -> (u16, Value) {
    let (status, headers, body) = ask(app, request).await;
    assert_eq!(headers["content-type"], "application/json");
    assert!(headers.contains_key("x-request-id"));
    assert_eq!(headers["x-qwen-upstream"], "emulator");
    let error = &body["error"];
    assert!(error["message"].is_string() && error["type"].is_string(), "{body}");
    assert!(error.get("param").is_some(), "{body}");
    (status.as_u16(), error["code"].clone())
}

#[tokio::test]
async fn a_body_that_nobody_wants_is_read() {
    for (method, path) in [
        ("POST", "/no/such/path"),
        ("PUT", "/v1/models"),
        ("DELETE", "/v1/chats/c-1"),
        ("POST", "/v1/chats/delete"),
    ] {
        let is_read = Arc::new(AtomicBool::new(false));
        let end = stream::poll_fn({
            let is_read = Arc::clone(&is_read);
            move |_| {
                is_read.store(true, Ordering::Relaxed);
                Poll::Ready(None)
            }
        });
        let body = stream::iter([Ok::<_, Infallible>("{}")]).chain(end);
        let request = Request::builder().method(method).uri(path).body(Body::from_stream(body));
        let _ = proxy("").oneshot(request.expect("a request")).await.expect("infallible");
        assert!(is_read.load(Ordering::Relaxed), "{method} {path}");
    }
}

#[tokio::test]
async fn a_chat_is_answered_through_all_of_it() {
    let (status, headers, body) = ask(&proxy(""), chat()).await;
    assert_eq!(status, 200);
    assert_eq!(body["choices"][0]["message"]["content"], "Hi");
    assert_eq!(headers["x-qwen-upstream"], "emulator");
}

#[tokio::test]
async fn health_needs_no_key() {
    let (status, _, body) = ask(&proxy("one"), get("/health")).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&body["status"], &body["upstreams"]),
        (&json!("healthy"), &json!([{"name": "emulator"}]))
    );
}

#[tokio::test]
async fn models_are_listed_and_found_by_id() {
    let model = json!({
        "id": "org/echo", "object": "model", "created": 7, "owned_by": "qwen",
        "info": {"created_at": 7},
    });
    let proxy = proxy("");
    let (_, _, list) = ask(&proxy, get("/v1/models")).await;
    assert_eq!(list, json!({"object": "list", "data": [model]}));
    for path in ["/v1/models/org/echo", "/v1/models/org%2Fecho"] {
        assert_eq!(ask(&proxy, get(path)).await.2, model, "{path}");
    }
    let (_, headers, _) = ask(&proxy, with(get("/v1/models"), "cache-control", "no-cache")).await;
    assert!(!headers.contains_key("warning") && !headers.contains_key("age"));
    assert_eq!(refusal(&proxy, get("/v1/models/none")).await, (404, json!("model_not_found")));
}

#[tokio::test]
async fn no_response_is_stored() {
    let proxy = proxy("");
    for path in ["/v1/responses/resp_1", "/v1/responses/resp_1/input_items"] {
        for method in ["GET", "DELETE", "POST"] {
            let request = Request::builder().method(method).uri(path);
            let request = request.body(Body::empty()).expect("a request");
            assert_eq!(
                refusal(&proxy, request).await,
                (404, json!("not_found")),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn without_a_key_the_api_is_closed() {
    let proxy = proxy("one,two");
    for request in [get("/v1/models"), get("/v1/models/org/echo"), chat()] {
        assert_eq!(refusal(&proxy, request).await, (401, json!("invalid_api_key")));
    }
    let wrong = with(chat(), "authorization", "Bearer three");
    assert_eq!(refusal(&proxy, wrong).await, (401, json!("invalid_api_key")));
    for (name, value) in [("authorization", "Bearer two"), ("x-api-key", "one")] {
        assert_eq!(ask(&proxy, with(chat(), name, value)).await.0, 200, "{name}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_openai_errors() {
    let proxy = proxy("");
    for path in ["/none", "/v1", "/v2/chat", "/api/v1/chat/completions", "/v1/models-of"] {
        let (status, code) = refusal(&proxy, get(path)).await;
        assert_eq!((status, code), (404, json!("unknown_url")), "{path}");
    }
}

/// The words are those that clients look for.
#[tokio::test]
async fn somebody_is_there_for_whoever_asks() {
    let proxy = proxy("one");
    for method in ["GET", "HEAD"] {
        let request = Request::builder().method(method).uri("/").body(Body::empty());
        let response = proxy.clone().oneshot(request.expect("a request")).await;
        let (parts, body) = response.expect("infallible").into_parts();
        assert_eq!(parts.status, 200);
        assert!(parts.headers["content-type"].as_bytes().starts_with(b"text/plain"));
        let body = body.collect().await.expect("a body").to_bytes();
        assert_eq!(body, if method == "GET" { "Ollama is running" } else { "" });
    }
}

/// Requests: a method that is not served is told which are (RFC 9110 15.5.6).
#[tokio::test]
async fn an_unknown_method_is_told_the_right_ones() {
    let proxy = proxy("");
    for (method, path, allowed) in [
        ("GET", "/v1/chat/completions", "POST"),
        ("GET", "/chat/completions/", "POST"),
        ("DELETE", "/xml/v1/chat/completions", "POST"),
        ("PUT", "/v1/completions", "POST"),
        ("PATCH", "/v1/embeddings", "POST"),
        ("POST", "/v1/models", "GET,HEAD"),
        ("DELETE", "/v1/models/org/echo", "GET,HEAD"),
        ("POST", "/health", "GET,HEAD"),
        ("GET", "/v1/refresh", "POST"),
        ("PUT", "/v1/validate", "GET,HEAD,POST"),
        ("PUT", "/v1/chats/c-1", "DELETE,GET,HEAD"),
        ("DELETE", "/v1/chats", "GET,HEAD"),
        ("GET", "/v1/chats/delete", "DELETE,POST"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty());
        let (status, headers, body) = ask(&proxy, request.expect("a request")).await;
        assert_eq!(status, 405, "{method} {path}");
        assert_eq!(body["error"]["code"], "method_not_supported", "{method} {path}");
        assert_eq!(headers["allow"], allowed, "{method} {path}");
    }
}

/// Requests: every spelling of a path that can only mean one thing is served, also with a body.
#[tokio::test]
async fn a_path_may_be_spelt_with_too_much_or_too_little() {
    let proxy = proxy("one");
    for path in [
        "//v1/chat/completions",
        "/v1/chat/completions/",
        "/v1/v1/chat/completions",
        "/chat/completions",
        "/xml//chat/completions",
        "/completions?x=1",
        "/embeddings/",
    ] {
        let request = |key: &str| {
            let mut request = with(chat(), "api-key", key);
            *request.uri_mut() = path.parse().expect("a path");
            request
        };
        let (status, _, body) = ask(&proxy, request("one")).await;
        assert_eq!(status, 200, "{path}: {body}");
        let refused = refusal(&proxy, request("other")).await;
        assert_eq!(refused, (401, json!("invalid_api_key")), "{path}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_an_openai_error() {
    let long = format!(r#"{{"model":"m","messages":[],"user":"{}"}}"#, "x".repeat(200));
    let too_large = (413, json!("request_too_large"));
    let announced = post("/v1/chat/completions", long.clone());
    assert_eq!(refusal(&proxy(""), announced).await, too_large);
    let pieces = long
        .into_bytes()
        .chunks(50)
        .map(|piece| Ok::<_, Error>(piece.to_vec()))
        .collect::<Vec<_>>();
    let unannounced = post("/v1/chat/completions", Body::from_stream(stream::iter(pieces)));
    assert_eq!(refusal(&proxy(""), unannounced).await, too_large);
}

#[tokio::test]
async fn a_request_id_is_made_or_kept() {
    let proxy = proxy("");
    let (_, headers, _) = ask(&proxy, get("/health")).await;
    assert_eq!(headers["x-request-id"].len(), 36);
    let (_, headers, _) = ask(&proxy, with(get("/health"), "x-request-id", "mine-1")).await;
    assert_eq!(headers["x-request-id"], "mine-1");
    for odd in ["two words", "<b>", &"x".repeat(129)] {
        let (_, headers, _) = ask(&proxy, with(get("/health"), "x-request-id", odd)).await;
        assert_eq!(headers["x-request-id"].len(), 36, "{odd}");
    }
}

fn preflight(origin: &str) -> Request {
    let request = Request::options("/v1/chat/completions")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,x-stainless-os");
    request.body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn pages_from_loopback_may_always_ask() {
    for origin in ["http://localhost:5173", "http://127.0.0.1", "http://[::1]:3000"] {
        let (status, headers, _) = ask(&proxy(""), preflight(origin)).await;
        assert_eq!(status, 200);
        assert_eq!(headers["access-control-allow-origin"], origin);
        let allowed = headers["access-control-allow-headers"].to_str().expect("ASCII");
        assert!(allowed.contains("authorization") && allowed.contains("x-stainless-os"));
        let (_, headers, _) = ask(&proxy(""), with(chat(), "origin", origin)).await;
        assert_eq!(headers["access-control-allow-origin"], origin);
        assert_eq!(headers["access-control-expose-headers"], "*");
    }
}

#[tokio::test]
async fn other_pages_need_a_key() {
    for origin in ["https://example.org", "null", "http://localhost.example.org"] {
        let (_, headers, _) = ask(&proxy(""), preflight(origin)).await;
        assert!(!headers.contains_key("access-control-allow-origin"), "{origin}");
        let asked = with(chat(), "origin", origin);
        assert_eq!(refusal(&proxy(""), asked).await, (403, json!("origin_not_allowed")));

        let (_, headers, _) = ask(&proxy("one"), preflight(origin)).await;
        assert_eq!(headers["access-control-allow-origin"], "*");
        let asked = with(with(chat(), "origin", origin), "x-api-key", "one");
        assert_eq!(ask(&proxy("one"), asked).await.0, 200);
    }
}

#[tokio::test]
async fn a_proxy_without_keys_answers_only_to_its_own_names() {
    for path in ["/health", "/metrics", "/v1/models", "/v1/chats/delete", "/no/such/path"] {
        for host in ["example.org", "rebound.example.org:8080", "192.168.1.5:8080"] {
            let refused = (403, json!("host_not_allowed"));
            assert_eq!(refusal(&proxy(""), with(get(path), "host", host)).await, refused);
            let http2 = format!("http://{host}{path}");
            assert_eq!(refusal(&proxy(""), get(&http2)).await, refused);
            let keyed = with(with(get(path), "host", host), "x-api-key", "one");
            let (status, ..) = ask(&proxy("one"), keyed).await;
            assert_ne!(status, StatusCode::FORBIDDEN, "{path} at {host}");
        }
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "proxy:8080", "PROXY"] {
            let (status, ..) = ask(&proxy(""), with(get(path), "host", host)).await;
            assert_ne!(status, StatusCode::FORBIDDEN, "{path} at {host}");
        }
    }
    let refused = refusal(&proxy(""), with(chat(), "host", "example.org")).await;
    assert_eq!(refused, (403, json!("host_not_allowed")));
}

fn remove(path: &str) -> Request {
    Request::delete(path).body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn chats_are_deleted_one_by_one_or_all_together() {
    let open = proxy("");
    let (status, _, body) = ask(&open, remove("/v1/chats/c-1")).await;
    assert_eq!((status, &body["success"]), (StatusCode::OK, &Value::Bool(true)));
    assert_eq!(ask(&open, remove("/v1/chats/other")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&open, remove("/v1/chats/a%2Fb")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(ask(&open, remove("/v1/chats/delete")).await.0, StatusCode::OK);
    assert_eq!(ask(&open, post("/v1/chats/delete", "")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_key_among_several_cannot_delete_what_may_be_anothers() {
    let shared = proxy("sk-one,sk-two");
    for path in ["/v1/chats/c-1", "/v1/chats/delete"] {
        assert_eq!(ask(&shared, remove(path)).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    // Where none is asked for, who brings one is one of several too.
    for proxy in [shared, proxy("")] {
        let mine = |path| with(remove(path), "authorization", "Bearer sk-one");
        assert_eq!(ask(&proxy, mine("/v1/chats/c-1")).await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask(&proxy, mine("/v1/chats/delete")).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_deletion_that_upstream_refused_can_be_tried_again() {
    let key = |name| {
        let request = with(get("/"), "authorization", name);
        let clients = Clients::new(ApiKeys::parse("sk-one,sk-two").expect("keys"), true);
        clients.identify(request.headers()).expect("a key").tenant.expect("its tenant")
    };
    let [one, two] = ["Bearer sk-one", "Bearer sk-two"].map(key);
    for path in ["/v1/chats/c-1", "/v1/chats/delete"] {
        let store = Arc::new(MemoryStore::default());
        // The second chat was deleted elsewhere.
        let chats = [(one, "c-1"), (one, "c-2"), (two, "c-1")];
        let records = chats.map(|(tenant, chat)| {
            let place = Conversation::new(chat).with_parent("a");
            (Key::of_chat(&tenant, chat), Record::new(&tenant, place))
        });
        store.record_all(&records, None).await.expect("memory");
        let refuse = Arc::new(AtomicBool::new(true));
        let proxy = proxy_over("sk-one,sk-two", Arc::clone(&store), Arc::clone(&refuse));
        let mine = || with(remove(path), "authorization", "Bearer sk-one");
        let (status, _, body) = ask(&proxy, mine()).await;
        assert!(status.is_server_error(), "{status}: {body}");
        let known = async |at: usize| store.find(&records[at].0).await.expect("memory").is_some();
        assert!(known(0).await, "forgotten, but still there upstream");

        refuse.store(false, Ordering::Relaxed);
        assert_eq!(ask(&proxy, mine()).await.0, StatusCode::OK);
        assert!(!known(0).await);
        assert_eq!(known(1).await, !path.ends_with("delete"));
        assert!(known(2).await, "another tenant's");
    }
}

#[tokio::test]
async fn a_refusal_reads_the_body_or_ends_the_connection() {
    let keyed = proxy("sk-one");
    let (status, headers, _) = ask(&keyed, chat()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(!headers.contains_key("connection"), "the body is small, so it was read");
    let large = post("/v1/chat/completions", vec![b' '; 1024 * 1024]);
    let (status, headers, _) = ask(&keyed, large).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(headers["connection"], "close");
}

#[test]
fn an_old_list_says_so() {
    let response = with_age(Some(Duration::from_secs(3700)), "[]".into());
    assert_eq!(response.headers()["age"], "3700");
    assert!(response.headers()["warning"].to_str().expect("ASCII").starts_with("110 "));
    let mut headers = HeaderMap::new();
    assert!(!wants_new(&headers));
    headers.insert("cache-control", HeaderValue::from_static("max-age=0, No-Cache"));
    assert!(wants_new(&headers));
}

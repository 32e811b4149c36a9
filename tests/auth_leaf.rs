//! What of a client's request reaches the HTTP client at the bottom of a whole stack.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod traced;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt, layer::util::Identity, service_fn,
};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_qwen::{
    FullBody,
    auth::{AuthRefreshLayer, Credential, CredentialPool, StaticCredential},
    dedup::DedupLayer,
    openai::OpenAiLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    session::{MemoryStore, SessionLayer},
    tool::call::ToolCallLayer,
};

#[derive(Clone, Copy, Debug, PartialEq)]
struct TraceContext(u64);

/// What the leaf sees of a request; a header with whether it is marked sensitive.
#[derive(Debug, PartialEq)]
struct Seen {
    uri: String,
    headers: Vec<(HeaderName, HeaderValue, bool)>,
    body: String,
    trace: Option<TraceContext>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(other, ..)| other == name);
        header.map(|(_, value, _)| value.to_str().unwrap())
    }
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// An upstream that answers as chat.qwen.ai or as an OpenAI-compatible server, by the path.
fn leaf(
    log: &Log,
    refuse: Option<&'static str>,
) -> impl Service<Request<FullBody>, Response = Response<FullBody>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let log = Arc::clone(log);
    service_fn(move |request: Request<FullBody>| {
        let log = Arc::clone(&log);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let headers = head.headers.iter();
            log.lock().unwrap().push(Seen {
                uri: head.uri.to_string(),
                headers: headers
                    .map(|(name, value)| (name.clone(), value.clone(), value.is_sensitive()))
                    .collect(),
                body: without_chance(&body),
                trace: head.extensions.get().copied(),
            });
            let (kind, answer) = match (head.uri.path(), refuse) {
                ("/api/v2/chats/new", _) => {
                    ("application/json", r#"{"success":true,"data":{"id":"c-1"}}"#)
                }
                (_, Some(refusal)) => ("application/json", refusal),
                ("/chat/completions", _) => (
                    "text/event-stream",
                    "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\
                     \"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
                ),
                _ => (
                    "text/event-stream",
                    "data: {\"response.created\":{\"chat_id\":\"c-1\",\"response_id\":\"r-1\"}}\n\n\
                     data: {\"choices\":[{\"delta\":{\"content\":\"Hi\",\"phase\":\"answer\",\
                     \"status\":\"finished\"}}]}\n\n",
                ),
            };
            Ok(Response::builder().header("content-type", kind).body(answer.into()).unwrap())
        }
    })
}

/// A body without the ids and times that are new in every request.
fn without_chance(body: &[u8]) -> String {
    fn clean(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(object) => {
                for name in ["fid", "id", "timestamp", "childrenIds"] {
                    object.remove(name);
                }
                object.values_mut().for_each(clean);
            }
            serde_json::Value::Array(values) => values.iter_mut().for_each(clean),
            _ => {}
        }
    }
    let mut value = serde_json::from_slice(body).unwrap();
    clean(&mut value);
    value.to_string()
}

#[derive(Clone, Copy, Debug)]
enum Wire {
    Web,
    Portal,
}

fn auth(own_agent: bool) -> AuthRefreshLayer {
    let mut credential = Credential::web("session").unwrap().with_cookies("cna=1").unwrap();
    if own_agent {
        credential = credential.with_header("user-agent", "browser/1").unwrap();
    }
    let key = StaticCredential::new(Credential::api_key("other").unwrap());
    let pool = CredentialPool::builder()
        .account("ann", StaticCredential::new(credential))
        .account("bob", key)
        .prefer("ann")
        .build();
    AuthRefreshLayer::from_pool(pool.unwrap())
}

fn client_request() -> Request<FullBody> {
    let body = r#"{"model":"qwen3-max","messages":[{"role":"user","content":"Hello"}]}"#;
    Request::post("/v1/chat/completions")
        .header("authorization", "Bearer of-the-client")
        .header("content-type", "application/json")
        .header("cookie", "token=of-the-client")
        .header("user-agent", "OpenAI/Python 2.0")
        .header("x-request-id", "id-1")
        .header("traceparent", "00-1-2-01")
        .header("x-other", "of-the-client")
        .extension(TraceContext(7))
        .body(FullBody::from(body))
        .unwrap()
}

/// Sends the same request through a whole stack with `around` outermost, and gives what the leaf
/// saw of it.
async fn through<L>(around: L, wire: Wire, own_agent: bool) -> Vec<Seen>
where
    L: Layer<Stack>,
    L::Service: Service<Request<FullBody>, Response = Response<Body>, Error = Infallible>,
{
    let log = Log::default();
    let edge = ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(SessionLayer::new(MemoryStore::new(1 << 20, Duration::from_secs(60))))
        .layer(DedupLayer::new())
        .layer(ToolCallLayer::prompted())
        .layer(auth(own_agent));
    let leaf = leaf(&log, None);
    let stack = match wire {
        Wire::Web => boxed(edge.layer(QwenWebLayer::new()).service(leaf)),
        Wire::Portal => boxed(edge.layer(CompatibleLayer::new(Server::Portal)).service(leaf)),
    };
    let response = around.layer(stack).oneshot(client_request()).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.windows(2).any(|pair| pair == b"Hi"), "{body:?}");
    std::mem::take(&mut *log.lock().unwrap())
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;
type Stack = tower::util::BoxCloneService<Request<FullBody>, Response<Body>, Infallible>;

fn boxed<S, B>(stack: S) -> Stack
where
    S: Service<Request<FullBody>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    Stack::new(stack.map_response(|response: Response<B>| {
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }))
}

#[tokio::test(start_paused = true)]
async fn marking_headers_as_sensitive_changes_nothing() {
    traced::on();
    let names = [
        header::AUTHORIZATION,
        header::COOKIE,
        header::USER_AGENT,
        HeaderName::from_static("x-request-id"),
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("x-other"),
    ];
    for wire in [Wire::Web, Wire::Portal] {
        for own_agent in [false, true] {
            let plain = through(Identity::new(), wire, own_agent).await;
            let marked =
                through(SetSensitiveRequestHeadersLayer::new(names.clone()), wire, own_agent).await;
            assert!(!plain.is_empty());
            assert_eq!(plain, marked, "{wire:?}, own user-agent: {own_agent}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_never_mistaken_for_the_accounts_browser() {
    for (wire, calls) in [(Wire::Web, 2), (Wire::Portal, 1)] {
        for own_agent in [false, true] {
            let seen = through(Identity::new(), wire, own_agent).await;
            assert_eq!(seen.len(), calls);
            for seen in seen {
                let agent = seen.header("user-agent");
                match (wire, own_agent) {
                    (_, true) => assert_eq!(agent, Some("browser/1")),
                    (Wire::Web, false) => assert_eq!(agent, None, "it is the leaf's to set"),
                    (Wire::Portal, false) => assert!(agent.unwrap().starts_with("QwenCode/")),
                }
                assert_eq!(seen.header("authorization"), Some("Bearer session"));
                assert_eq!(seen.header("cookie"), Some("token=session; cna=1"));
                // Of a page's requests nothing shows which client is behind them.
                let traces = matches!(wire, Wire::Portal);
                assert_eq!(seen.header("x-request-id"), traces.then_some("id-1"));
                assert_eq!(seen.header("traceparent"), traces.then_some("00-1-2-01"));
                assert_eq!(seen.header("x-other"), None);
                assert_eq!(seen.trace, Some(TraceContext(7)), "{}", seen.uri);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_says_account_unavailable_is_not_obeyed() {
    let refusal = r#"{"success":false,"data":{"code":"account_unavailable","details":"no"}}"#;
    let log = Log::default();
    let stack = ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(SessionLayer::new(MemoryStore::new(1 << 20, Duration::from_secs(60))))
        .layer(DedupLayer::new())
        .layer(auth(false))
        .layer(QwenWebLayer::new())
        .service(leaf(&log, Some(refusal)));
    let response = stack.oneshot(client_request()).await.unwrap();
    assert_eq!(response.status(), 502);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["code"], "upstream_error");
    let calls: Vec<_> = log.lock().unwrap().iter().map(|seen| seen.uri.clone()).collect();
    assert_eq!(calls.len(), 2, "a chat and a turn, and nothing is sent again: {calls:?}");
}

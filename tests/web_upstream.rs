//! `QwenUpstream` against loopback servers.
// Helpers of tests are not tests to the lint.
#![allow(clippy::unwrap_used)]

mod traced;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower_qwen::{
    Error, ErrorKind, Fate, FullBody,
    qwen::client::{QwenUpstream, QwenUpstreamBuilder},
};

type ServerBody = UnsyncBoxBody<Bytes, Infallible>;

/// What the server got.
#[derive(Clone, Debug)]
struct Got {
    version: http::Version,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Clone)]
struct Server {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: impl Fn(&Got) -> Response<ServerBody> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            got: Arc::default(),
            connections: Arc::default(),
        };
        let noted = server.clone();
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                noted.connections.fetch_add(1, Ordering::SeqCst);
                let (noted, answer) = (noted.clone(), Arc::clone(&answer));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (noted, answer) = (noted.clone(), Arc::clone(&answer));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.map(|body| body.to_bytes());
                        let got = Got {
                            version: head.version,
                            target: head.uri.to_string(),
                            headers: head.headers,
                            body: body.unwrap_or_default(),
                        };
                        noted.got.lock().unwrap().push(got.clone());
                        Ok::<_, Infallible>(answer(&got))
                    }
                });
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn web(&self) -> QwenUpstreamBuilder {
        QwenUpstream::web().base_url(self.url()).env_proxy(false)
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    fn headers(&self) -> HeaderMap {
        self.got().pop().expect("a request").headers
    }
}

fn body(text: &'static str) -> ServerBody {
    FullBody::new(Bytes::from_static(text.as_bytes())).boxed_unsync()
}

fn ok(_: &Got) -> Response<ServerBody> {
    Response::new(body("ok"))
}

fn get(path: &str) -> Request<FullBody> {
    traced::on();
    Request::builder().uri(path).body(FullBody::default()).unwrap()
}

async fn text(response: Response<impl Body<Data = Bytes, Error = Error>>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn a_request_has_the_headers_of_a_browser() {
    let server = Server::start(ok).await;
    let upstream = server.web().token("jwt-demo").cookies("cna=demo; token=old").build().unwrap();
    let request = Request::post("/api/v2/chats/new?x=1")
        .header("content-type", "application/json")
        .body(FullBody::new(Bytes::from_static(b"{\"a\":1}")))
        .unwrap();
    assert_eq!(text(upstream.oneshot(request).await.unwrap()).await, "ok");
    let got = server.got().pop().unwrap();
    assert_eq!(got.target, "/api/v2/chats/new?x=1");
    assert_eq!(got.body, "{\"a\":1}");
    assert_eq!(got.headers["content-length"], "7", "not chunked");
    assert_eq!(got.headers["authorization"], "Bearer jwt-demo");
    assert_eq!(got.headers["cookie"], "token=jwt-demo; cna=demo");
    assert_eq!(got.headers["origin"], server.url().as_str());
    assert_eq!(got.headers["referer"], format!("{}/", server.url()).as_str());
    assert_eq!(got.headers["source"], "web");
    assert_eq!(got.headers["x-accel-buffering"], "no");
    assert_eq!(got.headers["x-request-id"].len(), 36);
    for name in [
        "user-agent",
        "version",
        "timezone",
        "accept-language",
        "sec-ch-ua",
        "sec-ch-ua-mobile",
        "sec-ch-ua-platform",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
    ] {
        assert!(got.headers.contains_key(name), "{name}");
    }
    let timezone = got.headers["timezone"].to_str().unwrap();
    assert!(timezone.ends_with("GMT+0000") && timezone.split(' ').count() == 6, "{timezone}");
    let encodings = got.headers["accept-encoding"].to_str().unwrap();
    for encoding in ["gzip", "br", "zstd"] {
        assert!(encodings.contains(encoding), "{encodings}");
    }
}

#[tokio::test]
async fn every_header_can_be_changed_or_left_out() {
    let server = Server::start(ok).await;
    let upstream = server
        .web()
        .header("User-Agent", "demo/1")
        .header("timezone", "here")
        .header("bx-umidtoken", "demo")
        .without_header("source")
        .build()
        .unwrap();
    upstream.oneshot(get("/")).await.unwrap();
    let headers = server.headers();
    assert_eq!(headers["user-agent"], "demo/1");
    assert_eq!(headers.get_all("user-agent").iter().count(), 1);
    assert_eq!(headers["timezone"], "here");
    assert_eq!(headers["bx-umidtoken"], "demo");
    assert!(!headers.contains_key("source"));
}

#[tokio::test]
async fn another_upstream_gets_no_browser_headers() {
    let server = Server::start(ok).await;
    let upstream = QwenUpstream::builder(format!("{}/compatible-mode/v1/", server.url()))
        .env_proxy(false)
        .token("sk-demo")
        .build()
        .unwrap();
    upstream.oneshot(get("/models?a=b")).await.unwrap();
    let got = server.got().pop().unwrap();
    assert_eq!(got.target, "/compatible-mode/v1/models?a=b");
    assert_eq!(got.headers["authorization"], "Bearer sk-demo");
    for name in ["source", "cookie", "origin", "timezone", "sec-fetch-mode"] {
        assert!(!got.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn headers_of_the_request_win() {
    let server = Server::start(ok).await;
    let upstream = server
        .web()
        .token("configured")
        .cookies("cna=configured")
        .header("bx-ua", "configured")
        .build()
        .unwrap();
    let request = |name: &str| {
        Request::builder().uri("/").header(name, "own").body(FullBody::default()).unwrap()
    };
    upstream.clone().oneshot(request("authorization")).await.unwrap();
    let headers = server.headers();
    assert_eq!(headers["authorization"], "own");
    assert!(!headers.contains_key("cookie"), "two logins are not mixed");
    assert_eq!(headers["bx-ua"], "configured");

    upstream.clone().oneshot(request("cookie")).await.unwrap();
    let headers = server.headers();
    assert_eq!(headers["cookie"], "own");
    assert!(!headers.contains_key("authorization"), "two logins are not mixed");

    upstream.clone().oneshot(request("bx-ua")).await.unwrap();
    assert_eq!(server.headers()["bx-ua"], "own");
    assert_eq!(server.headers()["authorization"], "Bearer configured");
}

#[tokio::test]
async fn an_anonymous_client_leaves_the_configured_credential_out() {
    let server = Server::start(ok).await;
    let upstream = server
        .web()
        .token("configured")
        .cookies("cna=configured")
        .header("bx-ua", "configured")
        .header("x-other", "configured")
        .build()
        .unwrap();
    let anonymous = upstream.anonymous();
    anonymous.clone().oneshot(get("/")).await.unwrap();
    let headers = server.headers();
    for name in ["authorization", "cookie", "bx-ua"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    assert_eq!(headers["x-other"], "configured");
    assert_eq!(headers["source"], "web");
    // What a request brings is sent.
    let own = Request::builder().header("bx-ua", "own").header("cookie", "own");
    anonymous.oneshot(own.body(FullBody::default()).unwrap()).await.unwrap();
    assert_eq!(server.headers()["bx-ua"], "own");
    assert_eq!(server.headers()["cookie"], "own");
    // And the client that it was made of is as it was.
    upstream.oneshot(get("/")).await.unwrap();
    assert_eq!(server.headers()["authorization"], "Bearer configured");
    assert_eq!(server.headers()["bx-ua"], "configured");
}

#[tokio::test]
async fn the_token_is_sent_where_it_is_wanted() {
    let server = Server::start(ok).await;
    let upstream = server.web().token("jwt").bearer(false).build().unwrap();
    upstream.oneshot(get("/")).await.unwrap();
    assert!(!server.headers().contains_key("authorization"));
    assert_eq!(server.headers()["cookie"], "token=jwt");
    let upstream =
        server.web().token("jwt").cookies("token=a").token_cookie(false).build().unwrap();
    upstream.oneshot(get("/")).await.unwrap();
    assert_eq!(server.headers()["cookie"], "token=a");
}

#[tokio::test]
async fn the_host_of_a_request_is_not_looked_at() {
    let server = Server::start(ok).await;
    let upstream = server.web().token("jwt").build().unwrap();
    let request = Request::builder()
        .uri("http://elsewhere.invalid/path?q=1")
        .header("host", "elsewhere.invalid")
        .body(FullBody::default())
        .unwrap();
    assert_eq!(upstream.oneshot(request).await.unwrap().status(), StatusCode::OK);
    let got = server.got().pop().unwrap();
    assert_eq!(got.target, "/path?q=1");
    assert_eq!(got.headers["host"], server.address.to_string().as_str());
}

#[tokio::test]
async fn a_redirect_elsewhere_is_not_followed() {
    let other = Server::start(ok).await;
    let location = format!("{}/stolen", other.url());
    let server = Server::start(move |got| {
        let (status, to) = match got.target.as_str() {
            "/there" | "/slash/" => return Response::new(body("arrived")),
            "/inside" => (308, "/there"),
            "/slash" => (301, "/slash/"),
            "/page" => (302, "/there"),
            _ => (308, &*location),
        };
        Response::builder().status(status).header("location", to).body(body("")).unwrap()
    })
    .await;
    let upstream = server.web().token("jwt").build().unwrap();
    let response = upstream.clone().oneshot(get("/outside")).await.unwrap();
    assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
    assert!(other.got().is_empty());
    assert_eq!(other.connections.load(Ordering::SeqCst), 0);
    for path in ["/inside", "/slash"] {
        let response = upstream.clone().oneshot(get(path)).await.unwrap();
        assert_eq!(text(response).await, "arrived", "{path}");
    }
    // A request that became a GET would be another.
    let response = upstream.oneshot(get("/page")).await.unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);
}

/// The page where people sign in is no answer: that the credential is not taken is in the redirect.
#[tokio::test]
async fn a_redirect_to_sign_in_is_not_followed() {
    let server = Server::start(|got| match got.target.as_str() {
        "/auth" | "/login?next=%2F" => Response::new(body("<html>Sign in</html>")),
        target => {
            let to = if target == "/a" { "/auth" } else { "/login?next=%2F" };
            Response::builder().status(302).header("location", to).body(body("")).unwrap()
        }
    })
    .await;
    let upstream = server.web().build().unwrap();
    for path in ["/a", "/b"] {
        let response = upstream.clone().oneshot(get(path)).await.unwrap();
        assert_eq!(response.status(), StatusCode::FOUND, "{path}");
    }
    assert_eq!(server.got().len(), 2);
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let server = Server::start(|_| {
        Response::builder().status(307).header("location", "/again").body(body("")).unwrap()
    })
    .await;
    let response = server.web().build().unwrap().oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(server.got().len(), 6);
}

#[tokio::test]
async fn gzip_is_decoded_as_it_comes() {
    let server = Server::start(|_| {
        // The head of a gzip member, and a stored block that is not the last.
        let text = b"data: first\n\n";
        let mut first = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\0".to_vec();
        first.extend_from_slice(&(text.len() as u16).to_le_bytes());
        first.extend_from_slice(&(!(text.len() as u16)).to_le_bytes());
        first.extend_from_slice(text);
        let first = Bytes::from(first);
        // Held open: what was flushed has to come through all the same.
        let frames = futures_util::stream::iter([Ok(Frame::data(first))])
            .chain(futures_util::stream::pending());
        Response::builder()
            .header("content-encoding", "gzip")
            .body(StreamBody::new(frames).boxed_unsync())
            .unwrap()
    })
    .await;
    let response = server.web().build().unwrap().oneshot(get("/")).await.unwrap();
    assert!(!response.headers().contains_key("content-encoding"));
    let mut body = Box::pin(response.into_body());
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "data: first\n\n");
}

#[tokio::test]
async fn both_versions_of_http_are_spoken() {
    let server = Server::start(ok).await;
    server.web().build().unwrap().oneshot(get("/")).await.unwrap();
    assert_eq!(server.got()[0].version, http::Version::HTTP_11);
    let upstream = server.web().http2_prior_knowledge(true).cookies("a=1; b=2").build().unwrap();
    let response = upstream.oneshot(get("/")).await.unwrap();
    assert_eq!(text(response).await, "ok");
    assert_eq!(server.got()[1].version, http::Version::HTTP_2);
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::start(ok).await;
    let upstream = server.web().build().unwrap();
    for _ in 0..3 {
        text(upstream.clone().oneshot(get("/")).await.unwrap()).await;
    }
    assert_eq!(server.got().len(), 3);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

/// A server that takes connections and never answers: it counts, and then does what it is told.
async fn raw(
    then: impl Fn(tokio::net::TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>>
    + Send
    + Sync
    + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(then(socket));
        }
    });
    (address, connections)
}

fn at(address: SocketAddr) -> QwenUpstreamBuilder {
    QwenUpstream::web().base_url(format!("http://{address}")).env_proxy(false)
}

#[tokio::test]
async fn nothing_is_tried_twice() {
    use tokio::io::AsyncReadExt;
    let (address, connections) = raw(|mut socket| {
        Box::pin(async move {
            let mut head = [0; 16];
            let _ = socket.read(&mut head).await;
        })
    })
    .await;
    let error = at(address).build().unwrap().oneshot(get("/")).await.expect_err("hung up");
    assert_eq!(error.kind(), ErrorKind::Upstream);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// Over HTTP/2 reqwest by itself repeats what the server refused to look at.
#[tokio::test]
async fn a_refused_stream_is_not_tried_twice() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const PREFACE: usize = 24;
    let streams = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&streams);
    let (address, connections) = raw(move |mut socket| {
        let counter = Arc::clone(&counter);
        Box::pin(async move {
            let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            socket.write_all(&settings).await.unwrap();
            socket.read_exact(&mut [0; PREFACE]).await.unwrap();
            let mut head = [0; 9];
            while socket.read_exact(&mut head).await.is_ok() {
                let [high, middle, low, kind, _, stream @ ..] = head;
                let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
                socket.read_exact(&mut payload).await.unwrap();
                if kind == 1 {
                    counter.fetch_add(1, Ordering::SeqCst);
                    // RST_STREAM with REFUSED_STREAM.
                    let refusal = [&[0, 0, 4, 3, 0][..], &stream, &[0, 0, 0, 7]].concat();
                    socket.write_all(&refusal).await.unwrap();
                }
            }
        })
    })
    .await;
    let upstream = at(address).http2_prior_knowledge(true).build().unwrap();
    let error = upstream.oneshot(get("/")).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Upstream);
    assert_eq!(streams.load(Ordering::SeqCst), 1);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refused_connection_is_an_upstream_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let upstream = at(address).build().unwrap();
    let error = upstream.oneshot(get("/path?token=s3cr3t")).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Upstream);
    assert_eq!(error.to_string(), "the upstream could not be reached");
    assert_eq!(error.fate(), Fate::Unsent);
    assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
}

#[tokio::test]
async fn a_silent_upstream_times_out() {
    let (address, _) = raw(|socket| {
        Box::pin(async move {
            let _held = socket;
            std::future::pending::<()>().await;
        })
    })
    .await;
    let upstream = at(address).first_byte_timeout(Duration::from_millis(30)).build().unwrap();
    let error = upstream.oneshot(get("/")).await.expect_err("silent");
    assert!(error.is_timeout());
    assert_eq!(error.to_string(), "upstream did not answer within 30ms");
    assert_eq!(error.fate(), Fate::Abandoned, "it may be at work");
}

#[tokio::test]
async fn a_response_cut_short_is_an_error() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (address, _) = raw(|mut socket| {
        Box::pin(async move {
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await;
            let _ = socket
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
                .await;
        })
    })
    .await;
    let response = at(address).build().unwrap().oneshot(get("/")).await.unwrap();
    let mut body = Box::pin(response.into_body());
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
    let error = body.frame().await.unwrap().expect_err("cut");
    assert_eq!((error.kind(), error.fate()), (ErrorKind::Upstream, Fate::Unknown));
}

#[test]
fn a_wrong_setting_is_named() {
    for (url, words) in [
        ("", "not a URL"),
        ("chat.qwen.ai", "not a URL"),
        ("ftp://chat.qwen.ai", "\"ftp\""),
        ("http://", "not a URL"),
        ("https://user:s3cr3t@chat.qwen.ai", "user name or password"),
        ("https://chat.qwen.ai?token=s3cr3t", "query"),
        ("https://chat.qwen.ai/#x", "fragment"),
    ] {
        let error = QwenUpstream::web().base_url(url).build().expect_err(url);
        assert_eq!(error.param(), Some("base_url"), "{url}");
        assert!(error.to_string().contains(words), "{url}: {error}");
        assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
    }
    for (builder, param) in [
        (QwenUpstream::web().token("s3c r3t"), "token"),
        (QwenUpstream::web().token("s3cr3t;a=b"), "token"),
        (QwenUpstream::web().cookies("a=s3cr3t\nb"), "cookies"),
        (QwenUpstream::web().header("bx-ua", "s3cr3t\r\nx: y"), "bx-ua"),
        (QwenUpstream::web().header("a b", "x"), "a b"),
    ] {
        let error = builder.build().expect_err(param);
        assert_eq!(error.param(), Some(param));
        assert!(!format!("{error:?}{error}").contains("s3c"), "{error:?}");
    }
    // An empty token is none.
    assert!(QwenUpstream::web().token(" ").cookies(" ; ").build().is_ok());
}

#[test]
fn debug_shows_no_secret() {
    let builder = QwenUpstream::web()
        .token("s3cr3t-token")
        .cookies("a=s3cr3t")
        .header("bx-ua", "s3cr3t")
        .base_url("https://example.org/base");
    assert!(!format!("{builder:?}").contains("s3cr3t"));
    let upstream = builder.build().unwrap();
    let shown = format!("{upstream:?}");
    assert!(!shown.contains("s3cr3t") && shown.contains("bx-ua"), "{shown}");
    assert_eq!(upstream.origin(), "https://example.org");
}

//! URLs in messages: fetched from where they may be, and refused from elsewhere.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response as AxumResponse},
    routing::get,
};
use bytes::Bytes;
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    chat::{ChatEvent, ChatRequest, Content, FinishReason, Message, Part, PartKind, Role},
    fetch::{FetchClient, FetchLayer, FetchPolicy},
};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

/// A server on loopback; how often it was asked, and its port.
async fn server(routes: Router) -> (u16, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let routes = routes.layer(axum::middleware::map_request(move |request: Request<Body>| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(request)
    }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (port, asked)
}

fn files() -> Router {
    Router::new()
        .route("/a.png", get(|| async { PNG }))
        .route("/notes.txt", get(|| async { ([(header::CONTENT_TYPE, "text/plain")], "hello") }))
        .route("/page", get(|| async { ([(header::CONTENT_TYPE, "image/png")], "<html>") }))
        .route("/missing", get(|| async { StatusCode::NOT_FOUND }))
        .route("/to-a", get(|| async { Redirect::temporary("/a.png") }))
        .route("/loop", get(|| async { Redirect::temporary("/loop") }))
        .route("/to-meta", get(|| async { Redirect::temporary("http://169.254.169.254/latest") }))
        .route("/to-decimal", get(|| async { Redirect::temporary("http://2130706433/a.png") }))
        .route("/to-file", get(|| async { Redirect::temporary("file:///etc/passwd") }))
        .route("/to-port", get(|| async { Redirect::temporary("http://a.example:22/") }))
        .route("/large", get(|| async { vec![0_u8; 4096] }))
        .route("/endless", get(endless))
        .route("/packed", get(packed))
        .route("/headers", get(headers))
}

/// A body without a length that never ends.
async fn endless() -> Body {
    let piece = Bytes::from_static(&[0_u8; 1024]);
    Body::from_stream(futures_util::stream::repeat_with(move || Ok::<_, io::Error>(piece.clone())))
}

/// A little that unpacks to a lot, for whoever unpacks it.
async fn packed() -> AxumResponse {
    ([(header::CONTENT_ENCODING, "gzip")], &b"\x1f\x8b\x08\0\0\0\0\0"[..]).into_response()
}

async fn headers(headers: HeaderMap) -> String {
    let names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.join(" ")
}

fn image(url: &str) -> PartKind {
    PartKind::Image { url: url.into(), detail: None }
}

fn document(url: &str) -> PartKind {
    PartKind::File { id: None, data: Some(url.into()), name: None }
}

/// What the service inside is given for these parts.
async fn given(client: &FetchClient, parts: Vec<PartKind>) -> Result<Vec<PartKind>, Error> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&seen);
    let inner = service_fn(move |request: Request<ChatRequest>| {
        if let Some(Content::Parts(parts)) = &request.body().history[0].content {
            *shared.lock().expect("no panic") =
                parts.iter().map(|part| part.kind.clone()).collect();
        }
        let end = [Ok(ChatEvent::Finished(FinishReason::Stop))];
        std::future::ready(Ok::<_, Error>(Response::new(futures_util::stream::iter(end))))
    });
    let mut message = Message::new(Role::User, "");
    message.content = Some(Content::Parts(parts.into_iter().map(Part::new).collect()));
    let request = Request::new(ChatRequest::new("m", vec![message]));
    let service = FetchLayer::new(client.clone()).leave(["qwenlm.ai"]).layer(inner);
    service.oneshot(request).await?;
    Ok(std::mem::take(&mut *seen.lock().expect("no panic")))
}

async fn refused(client: &FetchClient, part: PartKind) -> Error {
    let error = given(client, vec![PartKind::Text("x".into()), part]).await.expect_err("refused");
    assert_eq!(error.param(), Some("messages[0].content[1]"), "{error}");
    assert_eq!(error.code(), Some("url_not_fetched"), "{error}");
    error
}

fn at_loopback(port: u16) -> FetchPolicy {
    FetchPolicy::new().allow([format!("127.0.0.1:{port}")])
}

#[tokio::test]
async fn what_is_allowed_is_fetched_and_stands_in_the_place_of_its_url() {
    let (port, asked) = server(files()).await;
    let client = FetchClient::new(at_loopback(port)).expect("a client");
    let parts = vec![
        image(&format!("http://127.0.0.1:{port}/to-a")),
        document(&format!("http://2130706433:{port}/notes.txt?x")),
        image("https://cdn.qwenlm.ai/left.png"),
        image("data:image/png;base64,AAAA"),
    ];
    let given = given(&client, parts).await.expect("fetched");
    let [PartKind::Image { url, .. }, PartKind::File { data, name, .. }, left, kept] = &given[..]
    else {
        panic!("{given:?}");
    };
    assert_eq!(url, "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==");
    assert_eq!(data.as_deref(), Some("data:text/plain;base64,aGVsbG8="));
    assert_eq!(name.as_deref(), Some("notes.txt"));
    assert_eq!(left, &image("https://cdn.qwenlm.ai/left.png"));
    assert_eq!(kept, &image("data:image/png;base64,AAAA"));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn nothing_that_tells_of_anyone_is_sent() {
    let (port, _) = server(files()).await;
    let client = FetchClient::new(at_loopback(port)).expect("a client");
    let url = format!("http://127.0.0.1:{port}/headers");
    let given = given(&client, vec![document(&url)]).await.expect("fetched");
    let PartKind::File { data: Some(data), .. } = &given[0] else { panic!("{given:?}") };
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let base64 = data.split(',').nth(1).expect("data");
    let names = String::from_utf8(STANDARD.decode(base64).expect("base64")).expect("text");
    let mut names: Vec<_> = names.split(' ').collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "accept-encoding", "host", "user-agent"]);
}

#[tokio::test]
async fn what_is_not_public_is_refused_and_never_asked() {
    let (port, asked) = server(files()).await;
    let client = FetchClient::new(FetchPolicy::new()).expect("a client");
    for url in [
        format!("http://127.0.0.1:{port}/a.png"),
        "http://127.0.0.1/a.png".to_owned(),
        "http://2130706433/a.png".to_owned(),
        "http://0x7f.1/a.png".to_owned(),
        "http://[::ffff:127.0.0.1]/a.png".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        // A name that every machine has.
        "http://localhost/a.png".to_owned(),
    ] {
        let error = refused(&client, image(&url)).await;
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{url}: {error}");
        assert!(!error.message().contains("169.254.169.254 "), "{error}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

/// Whoever may be asked cannot send to whom may not.
#[tokio::test]
async fn redirects_are_checked_as_urls_are() {
    let (port, asked) = server(files()).await;
    let client = FetchClient::new(at_loopback(port)).expect("a client");
    for (path, why) in [
        ("to-meta", "public Internet"),
        ("to-decimal", "public Internet"),
        ("to-file", "only http: and https:"),
        ("to-port", "80 and 443"),
        ("loop", "redirects more than 3 times"),
        ("missing", "404"),
        ("packed", "packs"),
    ] {
        let error = refused(&client, image(&format!("http://127.0.0.1:{port}/{path}"))).await;
        assert!(error.message().contains(why), "{path}: {error}");
    }
    // One each, and the loop four times.
    assert_eq!(asked.load(Ordering::SeqCst), 10);
}

/// What names lead to, one list of addresses for each time that they are looked up.
fn dns(policy: FetchPolicy, answers: &[&[&str]]) -> (FetchClient, Arc<AtomicUsize>) {
    let lists: Vec<Vec<IpAddr>> = answers
        .iter()
        .map(|list| list.iter().map(|address| address.parse().expect("an address")).collect())
        .collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let lookup = move |_: String| {
        let at = counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(lists[at.min(lists.len() - 1)].clone()))
    };
    (FetchClient::with_lookup(policy, lookup).expect("a client"), asked)
}

#[tokio::test]
async fn names_that_lead_to_private_addresses_are_refused() {
    for address in ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.7"]
    {
        let (client, _) = dns(FetchPolicy::new(), &[&[address]]);
        let error = refused(&client, image("http://rebound.example/a.png")).await;
        assert!(error.message().contains("public Internet"), "{address}: {error}");
        // What a name leads to within the network is nobody's business.
        assert!(!error.message().contains(address), "{error}");
    }
}

/// A name that is looked up is connected to by what it led to then. There is no second time at which it
/// could lead elsewhere.
#[tokio::test]
async fn a_name_is_looked_up_once_for_the_check_and_the_connection() {
    let (port, asked) = server(files()).await;
    let policy = || FetchPolicy::new().allow([format!("images.internal:{port}")]);
    let url = format!("http://images.internal:{port}/a.png");
    let (client, lookups) = dns(policy(), &[&["127.0.0.1"], &["192.0.2.1"]]);
    assert!(given(&client, vec![image(&url)]).await.is_ok());
    assert_eq!((lookups.load(Ordering::SeqCst), asked.load(Ordering::SeqCst)), (1, 1));

    // First elsewhere, then here: it is never asked again.
    let (client, lookups) = dns(FetchPolicy::new(), &[&["192.0.2.1"], &["127.0.0.1"]]);
    refused(&client, image("http://rebound.example/a.png")).await;
    assert_eq!((lookups.load(Ordering::SeqCst), asked.load(Ordering::SeqCst)), (1, 1));
}

/// A port that is allowed of a name allows none of its others.
#[tokio::test]
async fn an_allowed_port_opens_no_other() {
    let (port, asked) = server(files()).await;
    let policy = FetchPolicy::new().allow([format!("images.internal:{port}")]);
    let (client, _) = dns(policy, &[&["127.0.0.1"]]);
    let url = format!("http://images.internal:{port}/a.png");
    assert!(given(&client, vec![image(&url)]).await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let error = refused(&client, image("http://images.internal/a.png")).await;
    assert!(error.message().contains("public Internet"), "{error}");
}

#[tokio::test]
async fn sizes_are_limited_while_they_come() {
    let (port, _) = server(files()).await;
    let client = FetchClient::new(at_loopback(port).max_bytes(2048)).expect("a client");
    for path in ["large", "endless"] {
        let error = refused(&client, document(&format!("http://127.0.0.1:{port}/{path}"))).await;
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{path}");
        assert!(error.message().contains("2048"), "{error}");
    }
    let total = at_loopback(port).max_total(20);
    let client = FetchClient::new(total).expect("a client");
    let png = || image(&format!("http://127.0.0.1:{port}/a.png"));
    assert!(given(&client, vec![png()]).await.is_ok());
    let error = given(&client, vec![png(), png()]).await.expect_err("too much together");
    assert_eq!(error.kind(), ErrorKind::TooLarge);

    let client = FetchClient::new(at_loopback(port).max_urls(1)).expect("a client");
    let error = given(&client, vec![png(), png()]).await.expect_err("too many");
    assert_eq!(error.param(), Some("messages[0].content[1]"));
    assert!(error.message().contains("at most 1 URLs"), "{error}");
}

#[tokio::test]
async fn what_is_no_image_is_not_passed_on_as_one() {
    let (port, _) = server(files()).await;
    let client = FetchClient::new(at_loopback(port)).expect("a client");
    let error = refused(&client, image(&format!("http://127.0.0.1:{port}/page"))).await;
    assert!(error.message().contains("not the image that is wanted"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_takes_too_long_is_given_up() {
    let policy = FetchPolicy::new().deadline(Duration::from_secs(3));
    let client = FetchClient::with_lookup(policy, |_| std::future::pending()).expect("a client");
    let begun = tokio::time::Instant::now();
    let error = refused(&client, image("https://a.example/")).await;
    assert!(error.message().contains("longer than 3s"), "{error}");
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
}

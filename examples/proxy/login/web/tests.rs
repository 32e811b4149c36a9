use std::{
    fs,
    future::{pending, ready},
    sync::Mutex,
};

use axum::body::{Body, to_bytes};
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;

/// Invented: the vector of docs/reference/qwen-wire.md, and one of another account.
const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpZCI6IjAwMDAwMDAwLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwYWJjZCIsImxhc3RfcGFzc3dvcmRfY2hhbmdlIjoxNzAwMDAwMDAwLCJleHAiOjE4OTM0NTYwMDB9.bm90LWEtcmVhbC1zaWduYXR1cmU";
const OTHER: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6InNvbWVib2R5LWVsc2UiLCJleHAiOjE4OTM0NTYwMDF9.c2ln";
const PORT: u16 = 9;
const ORIGIN: &str = "http://127.0.0.1:9";

/// The page, and whoever takes what is sent to it.
fn desk() -> (Desk, mpsc::Receiver<Offer>) {
    let (offers, offered) = mpsc::channel(1);
    let desk = Desk::new(PORT, Path::new("/a<b>/session.json"), offers).expect("random numbers");
    (desk, offered)
}

/// A request as a browser sends it that has the page open, or comes to it.
fn request(method: &str, path: &str, cookie: &str, body: String) -> http::request::Builder {
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:9");
    let request = request.header("content-length", body.len());
    match method {
        "POST" => request
            .header("origin", ORIGIN)
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("cookie", cookie),
        _ => request.header("sec-fetch-site", "none"),
    }
}

async fn ask(desk: &Desk, request: Request) -> (StatusCode, http::HeaderMap, String) {
    let response = desk.clone().router().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a page");
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

/// Opens the page; gives the form's secret and the cookie.
async fn open(desk: &Desk) -> (String, String) {
    let path = desk.guard.path().to_owned();
    let request = request("GET", &path, "", String::new()).body(Body::empty()).expect("a request");
    let (status, headers, page) = ask(desk, request).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let (_, form) = page.split_once("name=\"form\" value=\"").expect("a form");
    let cookie = headers["set-cookie"].to_str().expect("ASCII");
    for word in ["HttpOnly", "SameSite=Strict", &format!("Path={path}")] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let cookie = cookie.split(';').next().expect("a pair");
    (form.split('"').next().expect("its end").to_owned(), cookie.to_owned())
}

fn filled(form: &str, token: &str, cookies: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("form", form)
        .append_pair("token", token)
        .append_pair("cookies", cookies)
        .finish()
}

/// One thing about a form that is right in everything else.
type Attack = fn(http::request::Builder) -> http::request::Builder;

fn with(
    request: http::request::Builder,
    name: &'static str,
    value: Option<&str>,
) -> http::request::Builder {
    let mut request = request;
    let headers = request.headers_mut().expect("no error yet");
    headers.remove(name);
    if let Some(value) = value {
        headers.append(name, value.parse().expect("a value"));
    }
    request
}

#[tokio::test]
async fn nobody_else_sends_the_form() {
    let attacks: [(&str, Attack, StatusCode); 22] = [
        (
            "a foreign page",
            |it| with(it, "origin", Some("https://example.org")),
            StatusCode::FORBIDDEN,
        ),
        (
            "another port",
            |it| with(it, "origin", Some("http://127.0.0.1:8080")),
            StatusCode::FORBIDDEN,
        ),
        (
            "the other name",
            |it| with(it, "origin", Some("http://localhost:9")),
            StatusCode::FORBIDDEN,
        ),
        ("https", |it| with(it, "origin", Some("https://127.0.0.1:9")), StatusCode::FORBIDDEN),
        ("a sandbox", |it| with(it, "origin", Some("null")), StatusCode::FORBIDDEN),
        ("no origin", |it| with(it, "origin", None), StatusCode::FORBIDDEN),
        ("two origins", |it| it.header("origin", "https://example.org"), StatusCode::FORBIDDEN),
        (
            "another site",
            |it| with(it, "sec-fetch-site", Some("cross-site")),
            StatusCode::FORBIDDEN,
        ),
        (
            "another origin",
            |it| with(it, "sec-fetch-site", Some("same-site")),
            StatusCode::FORBIDDEN,
        ),
        (
            "a form from nowhere",
            |it| with(it, "sec-fetch-site", Some("none")),
            StatusCode::FORBIDDEN,
        ),
        ("a rebound name", |it| with(it, "host", Some("rebound.example:9")), StatusCode::FORBIDDEN),
        (
            "a name that leads here",
            |it| with(it, "host", Some("127.0.0.1.nip.io:9")),
            StatusCode::FORBIDDEN,
        ),
        (
            "another address of it",
            |it| with(it, "host", Some("127.0.0.2:9")),
            StatusCode::FORBIDDEN,
        ),
        (
            "another port's host",
            |it| with(it, "host", Some("127.0.0.1:8080")),
            StatusCode::FORBIDDEN,
        ),
        ("no host", |it| with(it, "host", None), StatusCode::FORBIDDEN),
        ("two hosts", |it| it.header("host", "rebound.example:9"), StatusCode::FORBIDDEN),
        ("two names", |it| it.uri("http://rebound.example:9/x"), StatusCode::FORBIDDEN),
        ("no secret", |it| it.uri("/"), StatusCode::NOT_FOUND),
        ("another secret", |it| it.uri(format!("/{}", "A".repeat(43))), StatusCode::NOT_FOUND),
        ("no cookie", |it| with(it, "cookie", None), StatusCode::FORBIDDEN),
        (
            "a cookie of its own",
            |it| with(it, "cookie", Some("proxy-login=mine")),
            StatusCode::FORBIDDEN,
        ),
        // What a page can send anywhere without asking before.
        (
            "plain text",
            |it| with(it, "content-type", Some("text/plain")),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
    ];
    for (name, attack, wanted) in attacks {
        let (desk, mut offered) = desk();
        let (form, cookie) = open(&desk).await;
        let body = filled(&form, JWT, "");
        let request = attack(request("POST", desk.guard.path(), &cookie, body.clone()));
        let (status, headers, page) = ask(&desk, request.body(body.into()).expect(name)).await;
        assert_eq!(status, wanted, "{name}: {page}");
        assert!(offered.try_recv().is_err(), "{name}: nothing is taken");
        assert_safe(name, &headers, &page);
    }
}

/// What holds for every page.
fn assert_safe(name: &str, headers: &http::HeaderMap, page: &str) {
    assert_eq!(headers["cache-control"], "no-store", "{name}");
    let policy = headers["content-security-policy"].to_str().expect("ASCII");
    for rule in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "sandbox "] {
        assert!(policy.contains(rule), "{name}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("script"), "{name}: {policy}");
    assert_eq!(headers["x-frame-options"], "DENY", "{name}");
    assert_eq!(headers["x-content-type-options"], "nosniff", "{name}");
    assert_eq!(headers["cross-origin-resource-policy"], "same-origin", "{name}");
    let allows = headers.keys().find(|name| name.as_str().starts_with("access-control-"));
    assert!(allows.is_none(), "{name}: {allows:?}");
    assert!(!page.contains("eyJ") || page.contains("<code>eyJ</code>"), "{name}: {page}");
    assert!(!page.contains(&JWT[..20]) && !page.contains("secret-cookie"), "{name}: {page}");
}

#[tokio::test]
async fn what_opens_the_page_is_looked_at_too() {
    let (desk, _offered) = desk();
    let path = desk.guard.path().to_owned();
    let with_query = format!("{path}?token={JWT}");
    for (method, uri, host, site, wanted) in [
        ("GET", &*path, "127.0.0.1:9", Some("none"), StatusCode::OK),
        ("GET", &path, "localhost:9", Some("same-origin"), StatusCode::OK),
        ("GET", &path, "127.0.0.1:9", None, StatusCode::OK),
        ("GET", &path, "127.0.0.1:9", Some("cross-site"), StatusCode::FORBIDDEN),
        ("GET", &path, "127.0.0.1:9", Some("same-site"), StatusCode::FORBIDDEN),
        ("GET", &path, "rebound.example:9", Some("same-origin"), StatusCode::FORBIDDEN),
        ("GET", &with_query, "127.0.0.1:9", Some("none"), StatusCode::BAD_REQUEST),
        ("GET", "/", "127.0.0.1:9", Some("none"), StatusCode::NOT_FOUND),
        ("GET", "/favicon.ico", "127.0.0.1:9", Some("same-origin"), StatusCode::NOT_FOUND),
        ("OPTIONS", &path, "127.0.0.1:9", None, StatusCode::METHOD_NOT_ALLOWED),
        ("PUT", &path, "127.0.0.1:9", None, StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let name = format!("{method} {host} {site:?}");
        let request = Request::builder().method(method).uri(uri).header("host", host);
        let request = match site {
            Some(site) => request.header("sec-fetch-site", site),
            None => request,
        };
        let (status, headers, page) = ask(&desk, request.body(Body::empty()).expect("one")).await;
        assert_eq!(status, wanted, "{name}: {page}");
        assert_safe(&name, &headers, &page);
        if wanted == StatusCode::OK {
            assert!(page.contains("/a&lt;b&gt;/session.json"), "{page}");
        }
    }
}

#[tokio::test]
async fn a_form_is_taken_once_and_has_an_end() {
    let (desk, mut offered) = desk();
    let send = async |form: &str, cookie: &str, token: &str, cookies: &str| {
        let body = filled(form, token, cookies);
        let request = request("POST", desk.guard.path(), cookie, body.clone());
        ask(&desk, request.body(body.into()).expect("a request")).await
    };
    // What is wrong is told, with a form of its own, and nothing that was pasted.
    let (first, cookie) = open(&desk).await;
    let (status, headers, page) = send(&first, &cookie, "hunter2", "a=secret-cookie").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{page}");
    assert!(page.contains("That is no token") && !page.contains("hunter2"), "{page}");
    assert!(page.contains("name=\"form\"") && !page.contains(&first), "{page}");
    assert_safe("hunter2", &headers, &page);
    let (status, _, page) = send(&first, &cookie, JWT, "").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "it was used: {page}");

    let (old, old_cookie) = open(&desk).await;
    let (form, cookie) = open(&desk).await;
    let (status, ..) = send(&old, &old_cookie, JWT, "").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "of an older page");
    let (status, ..) = send(&form, &cookie, JWT, "").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "what came between has made it void");

    let (form, cookie) = open(&desk).await;
    let (status, ..) = send(&form, &cookie, &"x".repeat(LONGEST_FORM), "").await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    // The next is read, and after it none.
    let taken = tokio::join!(send(&form, &cookie, JWT, "cna=1"), async {
        let offer = offered.recv().await.expect("a session");
        assert_eq!(offer.session.cookies, 1);
        offer.outcome.send(Outcome::Kept).expect("the page waits");
    });
    let (status, _, page) = taken.0;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("good until 2030-01-01") && page.contains("It is kept."), "{page}");
    let (status, ..) = send(&form, &cookie, JWT, "").await;
    assert_eq!(status, StatusCode::CONFLICT);
    let again = request("GET", desk.guard.path(), "", String::new());
    let (status, ..) = ask(&desk, again.body(Body::empty()).expect("one")).await;
    assert_eq!(status, StatusCode::CONFLICT);
}

/// A terminal that can be read meanwhile.
#[derive(Clone, Default)]
struct Terminal(Arc<Mutex<Vec<u8>>>);

impl Terminal {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port")
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new").join("session.json");
    (folder, path)
}

/// Pastes a session into the page that `terminal` names, and gives what the page said.
async fn paste(terminal: &Terminal, token: &str, cookies: &str) -> String {
    let url = loop {
        let said = terminal.text();
        if let Some((_, rest)) = said.split_once("  http://") {
            break format!("http://{}", rest.lines().next().expect("a line"));
        }
        tokio::task::yield_now().await;
    };
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let page = client.get(&url).send().await.expect("a page");
    let cookie = page.headers()["set-cookie"].to_str().expect("ASCII").to_owned();
    let page = page.text().await.expect("a page");
    let (_, form) = page.split_once("name=\"form\" value=\"").expect("a form");
    let form = form.split('"').next().expect("its end");
    let (origin, _) = url.rsplit_once('/').expect("a path");
    let request = client.post(&url).header("origin", origin).body(filled(form, token, cookies));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = request.header("cookie", cookie.split(';').next().expect("a pair"));
    answer.send().await.expect("an answer").text().await.expect("a page")
}

#[tokio::test]
async fn a_session_is_kept_when_it_is_confirmed_and_what_was_beside_it_stays() {
    let (_folder, path) = place();
    let attempt = async |token: &str, cookies: &str, yes: bool| {
        let terminal = Terminal::default();
        let (out, confirm) = (terminal.clone(), async move || yes);
        let served = serve(out, &path, listener().await, confirm, pending());
        let (result, page) = tokio::join!(served, paste(&terminal, token, cookies));
        (result, page, terminal.text())
    };
    let (result, page, said) = attempt(JWT, "cna=secret-cookie", true).await;
    assert_eq!(result, Ok(()), "{said}");
    assert!(page.contains("Whether it is kept is said in the terminal"), "{page}");
    assert!(page.contains("It is kept.") && page.ends_with("</html>\n"), "{page}");
    assert!(said.contains("good until 2030-01-01 00:00 UTC"), "{said}");
    assert!(said.contains(&format!("proxy --credentials {}", path.display())), "{said}");
    for text in [&page, &said] {
        assert!(!text.contains("eyJhb") && !text.contains("secret-cookie"), "{text}");
    }
    let kept = || {
        let text = fs::read_to_string(&path).expect("written");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
    };
    assert_eq!((&kept()["kind"], &kept()["jwt"]), (&"web".into(), &JWT.into()));
    assert_eq!(kept()["cookies"]["cna"], "secret-cookie");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
    }

    // The owner adds a header by hand; the next sign-in leaves it, and the cookies of the account.
    let mut edited = kept();
    edited["headers"] = serde_json::json!({"bx-umidtoken": "T2gA"});
    fs::write(&path, edited.to_string()).expect("written");
    let (result, _, said) = attempt(&format!("Bearer {JWT}"), "", true).await;
    assert_eq!(result, Ok(()), "{said}");
    assert!(said.contains("replaces an older one of the same account"), "{said}");
    assert_eq!(kept()["headers"]["bx-umidtoken"], "T2gA");
    assert_eq!(kept()["cookies"]["cna"], "secret-cookie");

    let before = kept();
    let (result, page, said) = attempt(OTHER, "", false).await;
    let failure = result.expect_err("nobody said yes");
    assert_eq!(failure.message, "not confirmed; nothing was written");
    assert!(page.contains("It was not confirmed in the terminal"), "{page}");
    assert!(said.contains("ANOTHER account"), "{said}");
    assert_eq!(kept(), before);
}

#[tokio::test]
async fn it_ends_after_a_time_and_by_an_interrupt() {
    let (_folder, path) = place();
    tokio::time::pause();
    let late = serve(io::sink(), &path, listener().await, async || true, pending()).await;
    let late = late.expect_err("nobody came");
    assert_eq!(late.message, "no session came within 10 minutes; nothing was written");
    let stopped = serve(io::sink(), &path, listener().await, async || true, ready(())).await;
    assert_eq!(stopped.expect_err("interrupted").code, INTERRUPTED);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_login_of_another_kind_is_not_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("oauth_creds.json");
    for (text, says) in [
        (r#"{"access_token": "at-demo", "refresh_token": "rt-demo"}"#, "of another kind (oauth)"),
        (r#"{"api_key": "sk-not-a-key"}"#, "of another kind (apikey)"),
        (r#"{"shopping": "milk"}"#, "holds no credential"),
    ] {
        fs::write(&path, text).expect("written");
        let result = serve(io::sink(), &path, listener().await, async || true, pending()).await;
        let failure = result.expect_err(says);
        assert!(failure.code == USAGE && failure.message.contains(says), "{}", failure.message);
        assert_eq!(fs::read_to_string(&path).expect("there"), text);
    }
}

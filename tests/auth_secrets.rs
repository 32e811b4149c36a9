//! No secret in a log at TRACE, in an error with all its causes, in a `Debug`, or in a metric.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::{
    collections::VecDeque,
    error::Error as StdError,
    fmt::Debug,
    io,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use http::{Request, Response};
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, FullBody,
    auth::{
        AuthRefreshLayer, Credential, CredentialPool, CredentialProvider, EnvironmentCredential,
        OAuthFile, StaticCredential, StoredCredential, TokenClient, device::DeviceLogin,
    },
    chat::{ChatRequest, Message, Role},
};
use tracing_subscriber::fmt::MakeWriter;

/// Stands in every secret of this test, and nowhere else.
const MARK: &str = "s3cr3t";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn note(&self, value: &(impl Debug + ?Sized)) {
        let text = format!("{value:?}\n{value:#?}\n");
        self.0.lock().unwrap().extend_from_slice(text.as_bytes());
    }

    fn note_error(&self, error: &(dyn StdError + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.note(error);
            self.note(&error.to_string());
            next = error.source();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_shows_a_secret() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("the only test of this binary");
    let metrics = PrometheusBuilder::new().install_recorder().expect("the only test");
    tracing::trace!("the log is on");

    // Every answer of an endpoint that there is, with secrets wherever one could be.
    let grant = |n: u32| {
        format!(
            r#"{{"access_token":"at-{MARK}-{n}","refresh_token":"rt-{MARK}-{n}","expires_in":40,
                "resource_url":"portal.qwen.ai"}}"#
        )
    };
    let answers: Vec<(u16, String)> = vec![
        (
            200,
            format!(
                r#"{{"device_code":"dc-{MARK}","user_code":"DEMO","verification_uri":"https://example.org","expires_in":900}}"#
            ),
        ),
        (400, format!(r#"{{"error":"authorization_pending","error_description":"{MARK}"}}"#)),
        (200, grant(0)),
        (200, grant(1)),
        (200, grant(2)),
        (500, format!("<html>{MARK}</html>")),
        (429, format!(r#"{{"error":"{MARK}"}}"#)),
        (200, format!(r#"{{"access_token":"at-{MARK}\n"}}"#)),
        (200, format!(r#"["{MARK}"]"#)),
        (400, format!(r#"{{"error":"invalid_grant","error_description":"rt-{MARK} is spent"}}"#)),
    ];
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let endpoint = TokenClient::new(service_fn({
        let answers = Arc::clone(&answers);
        move |_: Request<FullBody>| {
            let next = answers.lock().unwrap().pop_front();
            async move {
                let (status, body) = next.ok_or_else(|| io::Error::other("refused"))?;
                let response = Response::builder().status(status).body(FullBody::from(body));
                Ok::<_, io::Error>(response.expect("a response"))
            }
        }
    }));
    let start = tokio::time::Instant::now();
    let clock =
        move || SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000) + start.elapsed();
    let endpoint = endpoint.clock(clock);
    log.note(&endpoint);

    let login = DeviceLogin::start(&endpoint).await.expect("a code");
    log.note(&login);
    let granted = login.wait().await.expect("a login");
    log.note(&granted);
    log.note(&StoredCredential::new(granted.clone()));

    let dir = tempfile::tempdir().expect("a directory");
    let file = OAuthFile::new(dir.path().join("oauth_creds.json"), endpoint.clone());
    let file = file.clock(clock);
    file.save(granted.clone()).await.expect("saved");
    log.note(&file);
    log.note(&file.load().await.expect("loaded"));

    let web = Credential::web(&format!("session-{MARK}"))
        .and_then(|web| web.with_cookies(&format!("cna={MARK}")))
        .and_then(|web| web.with_header("bx-umidtoken", MARK))
        .expect("a session");
    log.note(&web);
    let vars = [("QWEN_API_KEY", format!("sk-{MARK}"))];
    let environment = EnvironmentCredential::from_vars(vars).expect("valid").expect("set");
    log.note(&environment);
    for wrong in [format!("eyJ{MARK}"), format!("H4sI{MARK}"), format!("{MARK}\n{MARK}")] {
        let error = Credential::parse(&wrong).expect_err("not a token");
        log.note_error(&error);
        log.note_error(&Error::from(error));
    }

    let pool = CredentialPool::builder()
        .clock(clock)
        .account("file", file)
        .account("web", StaticCredential::new(web))
        .account("env", environment)
        .build()
        .expect("three accounts");
    // Sent once by every account at least, with every outcome.
    let outcomes = Arc::new(Mutex::new(0_u32..));
    let upstream = service_fn(move |request: Request<ChatRequest>| {
        let n = outcomes.lock().unwrap().next().expect("without end");
        assert!(format!("{request:?}").contains(r#"CredentialHeaders(["authorization""#));
        async move {
            let status = match n % 13 {
                0 | 1 | 5 => 401,
                2 => 504,
                3 => 429,
                4 => return Err(Error::new(ErrorKind::Auth, "in the envelope")),
                7 => {
                    return Err(Error::new(ErrorKind::Quota, "used up")
                        .with_retry_after(Duration::from_secs(5)));
                }
                9 => return Err(Error::new(ErrorKind::Challenge, "a slider")),
                _ => 200,
            };
            Ok(Response::builder().status(status).body(()).expect("a response"))
        }
    });
    let layer = AuthRefreshLayer::from_pool(pool.clone());
    log.note(&layer);
    let service = layer.layer(upstream);
    for _ in 0..300 {
        let request = ChatRequest::new("m", vec![Message::new(Role::User, "x")]);
        let future = service.clone().oneshot(Request::new(request));
        if let Err(error) = future.await {
            log.note_error(&error);
        }
        log.note(&pool.accounts());
        log.note(&serde_json::to_string(&pool.accounts()).expect("serialises"));
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    if let Err(error) = pool.refresh("file").await {
        log.note_error(&error);
    }
    log.note(&pool);
    assert!(answers.lock().unwrap().is_empty(), "every answer was given");

    let log = String::from_utf8(log.0.lock().unwrap().clone()).expect("text");
    let metrics = metrics.render();
    for (what, text) in [("log", &log), ("metrics", &metrics)] {
        if let Some(at) = text.find(MARK) {
            let from = text[..at].char_indices().rev().nth(200).map_or(0, |(at, _)| at);
            panic!("a secret in the {what}: …{}", &text[from..at + MARK.len()]);
        }
    }
    // The log did say something, and the metrics did count.
    for said in ["the log is on", "a credential was renewed", "somebody has to sign in again"] {
        assert!(log.contains(said), "{said}");
    }
    for counted in [
        "tower_qwen_auth_requests_total{account=\"web\"}",
        "tower_qwen_auth_refresh_total{result=\"ok\"}",
        "tower_qwen_auth_refresh_total{result=\"rejected\"} 1",
        "tower_qwen_auth_refresh_total{result=\"failed\"}",
        "tower_qwen_auth_retry_total{cause=\"refused\"}",
        "tower_qwen_auth_retry_total{cause=\"timeout\"}",
        "tower_qwen_auth_challenges_total",
        "tower_qwen_auth_account_state{account=\"file\",state=\"sign_in_again\"} 1",
    ] {
        assert!(metrics.contains(counted), "{counted} is not in\n{metrics}");
    }
}

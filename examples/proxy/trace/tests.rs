use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
};

use axum::{body::Body as AxumBody, http::StatusCode};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use tower::{ServiceExt, service_fn};

use super::{
    super::{auth::ApiKeys, clients::Clients},
    *,
};

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

/// What is logged while `status` is answered, with a body that logs at each frame, and read.
async fn log_of(status: StatusCode) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .finish();
    let logs = tracing::subscriber::set_default(subscriber);
    let answer = service_fn(move |request: Request| async move {
        warn!("asked");
        let clients = Clients::new(ApiKeys::parse("sk-one,sk-two").expect("keys"), true);
        note_client(request.extensions(), clients.identify(request.headers()).expect("a key"));
        let frames = stream::iter(["a", "b"]).map(|text| {
            warn!("frame {text}");
            Ok::<_, Infallible>(Frame::data(Bytes::from(text)))
        });
        let mut response = Response::new(StreamBody::new(frames));
        *response.status_mut() = status;
        Ok::<_, Infallible>(response)
    });
    let request = Request::get("/v1/models?key=secret")
        .header(X_REQUEST_ID, "mine")
        .header("x-api-key", "sk-two");
    let request = request.body(AxumBody::empty()).expect("a request");
    let response =
        Traced::new(answer, Board::default()).oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), status);
    let body = response.into_body().collect().await.expect("infallible").to_bytes();
    assert_eq!(body, "ab");
    warn!("after");
    drop(logs);
    let log = log.0.lock().expect("no one panics with it").clone();
    String::from_utf8(log).expect("UTF-8")
}

#[tokio::test]
async fn what_is_logged_stands_in_the_span_of_its_request() {
    let log = log_of(StatusCode::OK).await;
    let span = "request{method=GET path=\"/v1/models\" id=\"mine\"";
    let of_the_request: Vec<_> =
        log.lines().filter(|line| line.contains(span)).map(|l| l.rsplit(": ").next()).collect();
    // From where it is known on, the log says whose it is.
    let named = format!("{span} client=key 2}}: ");
    assert_eq!(log.lines().filter(|line| line.contains(&named)).count(), 3, "{log}");
    let said = [
        "started processing request",
        "asked",
        "answered latency=0 ms status=200",
        "frame a",
        "frame b",
    ];
    assert_eq!(of_the_request, said.map(Some), "{log}");
    let rest: Vec<_> = log.lines().filter(|line| !line.contains(span)).collect();
    let [access, after] = rest[..] else { panic!("{log}") };
    assert!(access.contains("proxy::access: method=GET path=\"/v1/models\" id=\"mine\""), "{log}");
    assert!(access.contains("status=200 client=key 2 tenant="), "{log}");
    assert!(access.ends_with("outcome=\"complete\"") && after.ends_with("after"), "{log}");
    assert!(!log.contains("secret") && !log.contains("sk-"), "{log}");
}

#[tokio::test]
async fn an_error_of_the_server_is_a_warning() {
    let log = log_of(StatusCode::BAD_GATEWAY).await;
    let failure = log.lines().find(|line| line.contains("response failed")).expect("it is logged");
    assert!(failure.trim_start().starts_with("WARN"), "{failure}");
    assert!(failure.contains("classification=Status code: 502 Bad Gateway latency="), "{failure}");
    assert!(!log_of(StatusCode::NOT_FOUND).await.contains("response failed"));
}

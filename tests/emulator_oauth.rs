//! The emulated OAuth server, and the emulator behind a socket.

mod traced;

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;
use tower_qwen_emulator::{Emulator, OAuthAccount, RefreshFault};

async fn send(emulator: &Emulator, request: Request<Full<Bytes>>) -> (StatusCode, Bytes) {
    traced::on();
    let response = emulator.clone().oneshot(request).await.expect("infallible");
    let status = response.status();
    (status, response.into_body().collect().await.expect("a body").to_bytes())
}

async fn post(emulator: &Emulator, target: &str, form: &str) -> (StatusCode, Value) {
    let request = Request::post(target)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(form.to_owned()))
        .expect("a request");
    let (status, body) = send(emulator, request).await;
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn refresh(emulator: &Emulator, token: &str) -> (StatusCode, Value) {
    let form = format!("grant_type=refresh_token&refresh_token={token}&client_id=c");
    post(emulator, "/api/v1/oauth2/token", &form).await
}

/// The code that a new chat gets with this token; empty for success.
async fn code(emulator: &Emulator, token: &str) -> String {
    let request = Request::post("/api/v2/chats/new")
        .header("cookie", format!("a=b; token={token}"))
        .body(Full::from("{}"))
        .expect("a request");
    let (_, body) = send(emulator, request).await;
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    body["data"]["code"].as_str().unwrap_or_default().to_owned()
}

fn account() -> Emulator {
    let account =
        OAuthAccount::new("ann", "rt-0").access_token("at-0").lifetime(Duration::from_secs(3_600));
    Emulator::builder().require_credentials(true).oauth_account(account).build()
}

#[tokio::test(start_paused = true)]
async fn a_day_of_refreshes_uses_each_token_once() {
    let emulator = account();
    let (mut access, mut token) = ("at-0".to_owned(), "rt-0".to_owned());
    for hour in 1..=24 {
        assert_eq!(code(&emulator, &access).await, "");
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(code(&emulator, &access).await, "Unauthorized", "it expires on time");
        let (status, answer) = refresh(&emulator, &token).await;
        assert_eq!((status, &answer["expires_in"]), (StatusCode::OK, &json!(3_600)));
        assert_eq!(answer["resource_url"], "portal.qwen.ai");
        let (status, reused) = refresh(&emulator, &token).await;
        assert_eq!((status.as_u16(), &reused["error"]), (400, &json!("invalid_grant")));
        access = answer["access_token"].as_str().expect("a token").to_owned();
        token = answer["refresh_token"].as_str().expect("it rotates").to_owned();
        assert_eq!(emulator.counters().refreshes, hour);
        assert_eq!(emulator.counters().refused_refreshes, hour);
    }
    assert!(!format!("{:?}", emulator.requests()).contains(&token));
}

#[tokio::test]
async fn a_refresh_fails_in_the_ways_that_were_asked_for() {
    let emulator = account();
    emulator.fail_refresh(RefreshFault::Status(StatusCode::BAD_GATEWAY));
    emulator.fail_refresh(RefreshFault::Html);
    emulator.fail_refresh(RefreshFault::Null);
    assert_eq!(refresh(&emulator, "rt-0").await, (StatusCode::BAD_GATEWAY, Value::Null));
    assert_eq!(refresh(&emulator, "rt-0").await, (StatusCode::OK, Value::Null));
    assert_eq!(refresh(&emulator, "rt-0").await.1, json!({"access_token": null}));
    assert!(refresh(&emulator, "rt-0").await.1["access_token"].is_string());
    assert!(emulator.revoke("at-0") && !emulator.revoke("at-0"));
    assert_eq!(code(&emulator, "at-0").await, "Unauthorized");

    let emulator = account();
    emulator.fail_refresh(RefreshFault::InvalidGrant);
    for _ in 0..2 {
        assert_eq!(refresh(&emulator, "rt-0").await.1["error"], "invalid_grant");
    }
    let emulator = Emulator::builder()
        .oauth_account(OAuthAccount::new("ann", "rt-0").rotates(false).resource_url(None))
        .build();
    for _ in 0..2 {
        let (_, answer) = refresh(&emulator, "rt-0").await;
        assert!(answer["access_token"].is_string() && answer.get("refresh_token").is_none());
        assert!(answer.get("resource_url").is_none());
    }
    assert_eq!(refresh(&emulator, "").await.1["error"], "invalid_grant");
}

#[tokio::test(start_paused = true)]
async fn a_device_is_authorised_once_and_in_time() {
    let emulator = Emulator::builder()
        .require_credentials(true)
        .oauth_account(OAuthAccount::new("ann", "rt-0"))
        .device_polls(2)
        .build();
    // The pair of RFC 7636, appendix B.
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let start = "client_id=c&scope=openid&code_challenge_method=S256&\
                 code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let code_of = |answer: &Value| answer["device_code"].as_str().expect("a code").to_owned();
    let poll = |device: String, verifier: &'static str| {
        let emulator = emulator.clone();
        async move {
            let form = format!(
                "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&\
                 client_id=c&device_code={device}&code_verifier={verifier}"
            );
            post(&emulator, "/api/v1/oauth2/token", &form).await
        }
    };
    let (status, answer) = post(&emulator, "/api/v1/oauth2/device/code", start).await;
    assert_eq!((status, &answer["expires_in"]), (StatusCode::OK, &json!(900)));
    let device = code_of(&answer);
    assert_eq!(poll(device.clone(), "wrong").await.1["error"], "invalid_grant");
    for _ in 0..2 {
        let (status, answer) = poll(device.clone(), verifier).await;
        assert_eq!((status.as_u16(), &answer["error"]), (400, &json!("authorization_pending")));
    }
    let (_, granted) = poll(device.clone(), verifier).await;
    assert_eq!(code(&emulator, granted["access_token"].as_str().expect("a token")).await, "");
    assert_eq!(poll(device, verifier).await.0, StatusCode::UNAUTHORIZED, "a code is good once");
    assert_eq!(emulator.counters().logins, 1);

    let (_, answer) = post(&emulator, "/api/v1/oauth2/device/code", start).await;
    tokio::time::advance(Duration::from_secs(900)).await;
    assert_eq!(poll(code_of(&answer), verifier).await.1["error"], "expired_token");
    let (status, answer) = post(&emulator, "/api/v1/oauth2/device/code", "client_id=c").await;
    assert_eq!((status.as_u16(), &answer["error"]), (400, &json!("invalid_request")));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_refreshed_while_it_lasts() {
    let emulator = Emulator::builder().require_credentials(true).build();
    let token = emulator.issue_session("ann", Duration::from_secs(60));
    assert_eq!(token.split('.').count(), 3);
    let session = |token: String| {
        let request =
            Request::get("/api/v1/auths/").header("authorization", format!("Bearer {token}"));
        let request = request.body(Full::default()).expect("a request");
        let emulator = emulator.clone();
        async move {
            let (_, body) = send(&emulator, request).await;
            serde_json::from_slice::<HashMap<String, Value>>(&body).expect("an object")
        }
    };
    let fresh = session(token.clone()).await["token"].as_str().expect("a token").to_owned();
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(code(&emulator, &token).await, "Unauthorized");
    assert_eq!(code(&emulator, &fresh).await, "");
    assert_eq!(session(token).await["success"], false);
}

#[tokio::test]
async fn a_socket_speaks_both_versions_and_stops_gracefully() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let emulator = Emulator::new();
    let server = tokio::spawn(emulator.clone().serve_until(listener, async {
        let _ = stopped.await;
    }));
    let request = || {
        Request::get("http://localhost/api/models")
            .header("host", "localhost")
            .body(Full::<Bytes>::default())
            .expect("a request")
    };

    let stream = TokioIo::new(TcpStream::connect(address).await.expect("a connection"));
    let (mut http1, connection) =
        hyper::client::conn::http1::handshake(stream).await.expect("HTTP/1");
    tokio::spawn(connection);
    let answer = http1.send_request(request()).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    answer.into_body().collect().await.expect("a body");

    let stream = TokioIo::new(TcpStream::connect(address).await.expect("a connection"));
    let (mut http2, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let answer = http2.send_request(request()).await.expect("an answer");
    assert_eq!(answer.version(), http::Version::HTTP_2);
    answer.into_body().collect().await.expect("a body");

    // A connection that is reset breaks, rather than ending as if all were well.
    let chat = http1
        .send_request(
            Request::post("/api/v2/chats/new")
                .header("host", "localhost")
                .body(Full::from("{}"))
                .expect("a request"),
        )
        .await
        .expect("an answer");
    let chat: Value =
        serde_json::from_slice(&chat.into_body().collect().await.expect("a body").to_bytes())
            .expect("JSON");
    let chat = chat["data"]["id"].as_str().expect("an id");
    let ask = json!({
        "chat_id": chat, "model": "qwen3-max", "stream": true,
        "messages": [{"role": "user", "content": "emulate:reset=2"}],
    });
    let answer = http1
        .send_request(
            Request::post(format!("/api/v2/chat/completions?chat_id={chat}"))
                .header("host", "localhost")
                .body(Full::from(ask.to_string()))
                .expect("a request"),
        )
        .await
        .expect("a head");
    let mut body = answer.into_body();
    let mut received = Vec::new();
    let broken = loop {
        match body.frame().await {
            Some(Ok(frame)) => received.extend_from_slice(&frame.into_data().expect("data")),
            end => break end,
        }
    };
    assert!(matches!(broken, Some(Err(_))), "{broken:?}");
    assert_eq!(received.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count(), 3);

    stop.send(()).expect("the server runs");
    server.await.expect("no panic").expect("no error");
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    assert_eq!(emulator.counters().requests, 4);
}

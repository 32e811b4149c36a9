//! Credentials in the whole stack, over the emulator's web API and its OAuth endpoint.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod traced;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt};
use tower_qwen::{
    Error,
    auth::{
        AccountStatus, AuthRefreshLayer, Credential, CredentialPool, OAuthFile, StaticCredential,
        StoredCredential, TokenClient,
        device::{DeviceError, DeviceLogin},
    },
    chat::{Answer, ChatRequest, ChatStreamExt, Message, Role, Tenant},
    openai::OpenAiLayer,
    qwen::web::QwenWebLayer,
    session::{MemoryStore, SessionLayer},
};
use tower_qwen_emulator::{Emulator, OAuthAccount, RefreshFault};

/// A wall clock that goes with tokio's paused one.
fn clock() -> impl Fn() -> SystemTime + Clone + Send + Sync + 'static {
    traced::on();
    let start = Instant::now();
    move || SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000) + start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_day_with_expiring_tokens_and_no_client_sees_an_error() {
    let emulator = Emulator::builder()
        .require_credentials(true)
        .oauth_account(
            OAuthAccount::new("ann", "rt-first")
                .access_token("at-first")
                .lifetime(Duration::from_secs(900)),
        )
        .token_delay(Duration::from_secs(2))
        .build();
    let clock = clock();
    let client = TokenClient::new(emulator.clone()).clock(clock.clone());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("oauth_creds.json");
    let end = clock() + Duration::from_secs(900);
    let login = Credential::oauth("at-first", Some("rt-first"), Some(end)).unwrap();
    let file = OAuthFile::new(&path, client).clock(clock.clone());
    file.save(login).await.unwrap();
    let pool = CredentialPool::builder()
        .clock(clock)
        .account("ann", file)
        .refresh_ahead(Duration::from_secs(600))
        .build()
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(AuthRefreshLayer::from_pool(pool.clone()))
        .layer(QwenWebLayer::new())
        .service(emulator.clone());
    for turn in 0..24 * 20 {
        // Now and then the endpoint fails, in a way that passes.
        if turn % 50 == 49 {
            emulator.fail_refresh(RefreshFault::Html);
        }
        // And an access token is taken back before its time.
        if turn % 97 == 96 {
            let token = pool.credential().await.unwrap();
            emulator.revoke(token.access_token().expose());
        }
        let body = json!({"model": "qwen3-max", "stream": false,
            "messages": [{"role": "user", "content": format!("turn {turn}")}]});
        let request = Request::post("/v1/chat/completions")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(status, StatusCode::OK, "turn {turn}: {text:?}");
        tokio::time::sleep(Duration::from_secs(180)).await;
    }
    let state = &pool.accounts()[0];
    assert_eq!(state.status, AccountStatus::Ready);
    assert!((96..=260).contains(&state.refreshes), "{}", state.refreshes);
    // The file holds the login that works.
    let text = std::fs::read_to_string(path).unwrap();
    let kept = StoredCredential::parse(&text).unwrap().credential().clone();
    let used = pool.credential().await.unwrap();
    assert_eq!(kept.access_token().expose(), used.access_token().expose());
    assert_eq!(kept.resource_url(), Some("portal.qwen.ai"));
}

#[tokio::test(start_paused = true)]
async fn signing_in_at_the_emulator_works() {
    let emulator = Emulator::builder().require_credentials(true).device_polls(3).build();
    let client = TokenClient::new(emulator.clone());
    let login = DeviceLogin::start(&client).await.unwrap();
    assert!(login.verification_url().contains(login.user_code()));
    let credential = login.wait().await.unwrap();
    let renewed = client.refresh(&credential).await.unwrap();
    assert_ne!(renewed.access_token().expose(), credential.access_token().expose());
    let spent = client.refresh(&credential).await.expect_err("a refresh token is good once");
    assert!(spent.needs_sign_in());
}

#[tokio::test(start_paused = true)]
async fn a_login_heeds_slow_down_and_takes_a_no() {
    let emulator = Emulator::builder().device_slow_downs(2).build();
    let login = DeviceLogin::start(&TokenClient::new(emulator)).await.unwrap();
    let begun = Instant::now();
    login.wait().await.expect("granted in the end");
    // Slower by half after each of both, then pending once.
    assert_eq!(begun.elapsed().as_secs_f64().round(), (2.0_f64 + 3.0 + 4.5 + 4.5).round());

    let emulator = Emulator::builder().device_denied(true).build();
    let login = DeviceLogin::start(&TokenClient::new(emulator)).await.unwrap();
    assert!(matches!(login.wait().await, Err(DeviceError::Denied)));
}

#[tokio::test(start_paused = true)]
async fn a_chat_stays_with_its_account_and_moves_when_that_is_gone() {
    let emulator = Emulator::builder()
        .require_credentials(true)
        .token("token-ann", "ann")
        .token("token-bob", "bob")
        .build();
    let key = |token| StaticCredential::new(Credential::web(token).unwrap());
    let pool = CredentialPool::builder()
        .account("ann", key("token-ann"))
        .account("bob", key("token-bob"))
        .build()
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(AuthRefreshLayer::from_pool(pool))
        .layer(QwenWebLayer::new())
        .service(emulator.clone());
    let mut history = Vec::new();
    let mut chats = Vec::new();
    for turn in 0..8 {
        if turn == 5 {
            emulator.revoke("token-ann");
        }
        history.push(Message::new(Role::User, format!("question {turn}")));
        let mut request = ChatRequest::new("qwen3-max", history.clone());
        request.tenant = Some(Tenant::from_digest([9; 32]));
        let response = service.clone().oneshot(Request::new(request)).await.unwrap();
        let answer = Answer::collect(response.into_body().checked()).await.unwrap();
        let place = answer.conversation.unwrap();
        chats.push((place.account.unwrap().to_string(), place.chat_id));
        history.push(Message::new(Role::Assistant, answer.text));
    }
    let (first, second) = (&chats[0], &chats[7]);
    assert_eq!((first.0.as_str(), second.0.as_str()), ("ann", "bob"));
    assert!(chats[..5].iter().all(|chat| chat == first), "{chats:?}");
    assert!(chats[5..].iter().all(|chat| chat == second), "{chats:?}");
    assert_eq!(emulator.chats().len(), 2);
    let moved = emulator.chat(&second.1).unwrap();
    assert_eq!(moved.account, "bob");
    assert!(moved.messages[0].text.contains("question 0"), "the history was replayed");
}

#[tokio::test(start_paused = true)]
async fn an_auth_error_inside_a_200_is_refreshed_and_replayed() {
    let emulator = Emulator::builder()
        .require_credentials(true)
        .oauth_account(OAuthAccount::new("ann", "rt-first"))
        .build();
    let clock = clock();
    let client = TokenClient::new(emulator.clone()).clock(clock.clone());
    let dir = tempfile::tempdir().unwrap();
    let file = OAuthFile::new(dir.path().join("c.json"), client).clock(clock.clone());
    let end = clock() + Duration::from_secs(9000);
    file.save(Credential::oauth("unknown", Some("rt-first"), Some(end)).unwrap()).await.unwrap();
    let pool = CredentialPool::builder().clock(clock).account("ann", file).build().unwrap();
    let service = ServiceBuilder::new()
        .layer(AuthRefreshLayer::from_pool(pool.clone()))
        .layer(QwenWebLayer::new())
        .service(emulator.clone());
    let ask = || {
        let request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "x")]);
        service.clone().oneshot(Request::new(request))
    };
    let answer: Result<_, Error> =
        Answer::collect(ask().await.unwrap().into_body().checked()).await;
    assert!(!answer.unwrap().text.is_empty());
    assert_eq!(pool.accounts()[0].refreshes, 1);
    // Now the login is dead for good.
    emulator.fail_refresh(RefreshFault::InvalidGrant);
    let token = pool.credential().await.unwrap();
    emulator.revoke(token.access_token().expose());
    assert!(ask().await.expect_err("dead").is_auth());
    let asked = emulator.requests().len();
    assert!(ask().await.expect_err("at once").is_auth());
    assert_eq!(emulator.requests().len(), asked, "and nobody is asked");
}

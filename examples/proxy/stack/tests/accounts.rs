//! The proxy's routes over an emulator that knows whom it lets in.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use axum::http::StatusCode;
use tokio::time::Instant;
use tower::service_fn;
use tower_qwen::auth::{AccountStatus, Clock, Credential, CredentialPool, StoredCredential};
use tower_qwen_emulator::{OAuthAccount, RefreshFault};

use super::*;

/// A wall clock that goes with tokio's paused one.
fn clock() -> impl Clock + Clone {
    let start = Instant::now();
    move || SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000) + start.elapsed()
}

/// The proxy over `emulator`, told by options of the files in `folder`.
fn proxy_over(
    emulator: &Emulator,
    folder: &Path,
    clock: impl Clock + Clone,
) -> (App, CredentialPool) {
    let folder = folder.to_str().expect("UTF-8");
    let options = Options::of(&["--upstream", "web", "--credentials", folder]);
    let config = options.resolve().expect("valid");
    let store = store(&config.sessions).expect("in memory");
    let upstream = &config.upstreams[0];
    let client = sign_in::of_emulator(emulator.clone()).clock(clock.clone());
    let builder = CredentialPool::builder().clock(clock).refresh_ahead(Duration::from_secs(600));
    let pool = upstream.accounts.pool_from(builder, &client).expect("accounts");
    let desk = Desk { pool: Some(pool.clone()), ..desk(upstream, client, None) };
    let (own, shared) = (emulator.clone(), Shared::new(&config, &store, &Shutdown::default()));
    let lanes = alone(web(own.clone(), own.clone(), own, upstream, desk, &shared), upstream);
    (over(lanes, &config, &store, &Shutdown::default(), &Gate::default()).0, pool)
}

async fn send(app: &App, method: &str, path: &str, body: &Value) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/json");
    let request = request.body(AxumBody::from(body.to_string())).expect("a request");
    let response = app.clone().oneshot(request).await.expect("infallible");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

fn question(history: &[Value], stream: bool) -> Value {
    json!({"model": "qwen3-max", "stream": stream, "messages": history})
}

#[tokio::test(start_paused = true)]
async fn a_day_of_expiring_tokens_shows_no_client_an_error() {
    let lifetime = Duration::from_secs(900);
    let emulator = Emulator::builder()
        .require_credentials(true)
        .oauth_account(
            OAuthAccount::new("ann", "rt-first").access_token("at-first").lifetime(lifetime),
        )
        .token_delay(Duration::from_secs(2))
        .build();
    let clock = clock();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("oauth_creds.json");
    let end = clock.now() + lifetime;
    let login = Credential::oauth("at-first", Some("rt-first"), Some(end)).expect("a login");
    let text = StoredCredential::new(login).to_json().expect("a login's form");
    std::fs::write(&file, text.expose()).expect("written");
    let (app, pool) = proxy_over(&emulator, folder.path(), clock);

    // One conversation goes on all day; every turn another one begins.
    let mut long = Vec::new();
    let mut token = String::new();
    for turn in 0..24 * 20 {
        // Now and then the endpoint fails, in a way that passes.
        if turn % 50 == 49 {
            emulator.fail_refresh(RefreshFault::Html);
        }
        // And an access token is taken back before its time.
        if turn % 97 == 96 {
            assert!(emulator.revoke(&token), "turn {turn}: the token in use is known");
        }
        let short = [json!({"role": "user", "content": format!("turn {turn}")})];
        let (status, answer) =
            send(&app, "POST", "/v1/chat/completions", &question(&short, turn % 2 == 0)).await;
        assert_eq!(status, StatusCode::OK, "turn {turn}: {answer}");
        assert!(!answer.contains("\"error\""), "turn {turn}: {answer}");
        if turn % 40 == 0 {
            long.push(json!({"role": "user", "content": format!("question {turn}")}));
            let (status, answer) =
                send(&app, "POST", "/v1/chat/completions", &question(&long, false)).await;
            assert_eq!(status, StatusCode::OK, "turn {turn}: {answer}");
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            long.push(answer["choices"][0]["message"].clone());
            let (status, models) = send(&app, "GET", "/v1/models", &json!({})).await;
            assert_eq!(status, StatusCode::OK, "turn {turn}: {models}");
        }
        token = pool.credential().await.expect("alive").access_token().expose().to_owned();
        tokio::time::sleep(Duration::from_secs(180)).await;
    }

    let state = &pool.accounts()[0];
    assert_eq!((state.name.as_str(), state.status), ("default", AccountStatus::Ready));
    assert!((96..=260).contains(&state.refreshes), "{}", state.refreshes);
    let kept = std::fs::read_to_string(&file).expect("there");
    let kept = StoredCredential::parse(&kept).expect("a login");
    let used = pool.credential().await.expect("alive");
    assert_eq!(kept.credential().access_token().expose(), used.access_token().expose());
    let (_, health) = send(&app, "GET", "/health", &json!({})).await;
    let health: Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!(
        (&health["status"], &health["credentials"]["usable"]),
        (&json!("healthy"), &json!(1))
    );
    // Each call had a credential, the list of models as well.
    let listed = emulator.requests().into_iter().rfind(|request| request.path() == "/api/models");
    assert_eq!(listed.expect("asked").account.as_deref(), Some("ann"));
}

/// Two sessions of the page, in a file each.
fn two_accounts() -> (Emulator, tempfile::TempDir) {
    let emulator = Emulator::builder()
        .require_credentials(true)
        .token("token-ann", "ann")
        .token("token-bob", "bob")
        .build();
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["ann", "bob"] {
        let text = json!({"kind": "web", "jwt": format!("token-{name}")}).to_string();
        std::fs::write(folder.path().join(format!("{name}.json")), text).expect("written");
    }
    (emulator, folder)
}

#[tokio::test(start_paused = true)]
async fn a_conversation_and_its_deletion_stay_with_the_account() {
    let (emulator, folder) = two_accounts();
    let (app, _) = proxy_over(&emulator, folder.path(), clock());
    let mut chats = Vec::new();
    for _ in 0..3 {
        let mut history = vec![json!({"role": "user", "content": "Hello"})];
        for _ in 0..3 {
            let (status, answer) =
                send(&app, "POST", "/v1/chat/completions", &question(&history, false)).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            chats.push(answer["qwen_chat_id"].as_str().expect("a chat").to_owned());
            history.push(answer["choices"][0]["message"].clone());
            history.push(json!({"role": "user", "content": format!("and {}?", history.len())}));
        }
    }
    chats.dedup();
    let owners: Vec<_> =
        chats.iter().map(|id| emulator.chat(id).expect("a chat").account).collect();
    assert_eq!(owners, ["ann", "bob", "ann"], "accounts take turns, and chats stay");

    for id in &chats {
        let path = format!("/v1/chats/{id}");
        let (status, answer) = send(&app, "DELETE", &path, &json!({})).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert!(emulator.chat(id).is_none());
    }
    let deletions = emulator.requests().into_iter().filter(|r| r.method == "DELETE").count();
    assert_eq!(deletions, 3, "each went to its account at once");
}

#[tokio::test(start_paused = true)]
async fn a_chat_that_the_client_names_is_its_accounts_whatever_it_sends() {
    let (emulator, folder) = two_accounts();
    let (app, _) = proxy_over(&emulator, folder.path(), clock());
    let hello = json!({"role": "user", "content": "Hello"});
    let (_, answer) =
        send(&app, "POST", "/v1/chat/completions", &question(std::slice::from_ref(&hello), false))
            .await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let (chat, parent) = (&answer["qwen_chat_id"], &answer["qwen_parent_id"]);
    let asked = json!({"role": "user", "content": "And you?"});
    let never = json!({"role": "assistant", "content": "This was never said."});
    // The accounts take turns, so each of these comes at a turn of either.
    for turn in 0..6 {
        let mut body = match turn / 2 {
            0 => question(std::slice::from_ref(&asked), false),
            1 => question(&[hello.clone(), never.clone(), asked.clone()], false),
            _ => {
                let mut body = question(
                    &[hello.clone(), answer["choices"][0]["message"].clone(), asked.clone()],
                    false,
                );
                body["qwen_parent_id"] = parent.clone();
                body
            }
        };
        body["qwen_chat_id"] = chat.clone();
        let (status, answer) = send(&app, "POST", "/v1/chat/completions", &body).await;
        assert_eq!(status, StatusCode::OK, "turn {turn}: {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["qwen_chat_id"], *chat);
        // Somebody else's turn comes between.
        let (status, _) = send(
            &app,
            "POST",
            "/v1/chat/completions",
            &question(&[json!({"role": "user", "content": format!("Other {turn}")})], false),
        )
        .await;
        assert_eq!(status, StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn all_chats_of_all_accounts_are_deleted() {
    let (emulator, folder) = two_accounts();
    let (app, _) = proxy_over(&emulator, folder.path(), clock());
    for turn in 0..4 {
        let history = [json!({"role": "user", "content": format!("Hello {turn}")})];
        send(&app, "POST", "/v1/chat/completions", &question(&history, false)).await;
    }
    assert_eq!(emulator.chats().len(), 4);
    // A chat that nobody here remembers is looked for in each account.
    let foreign = emulator.chats().into_iter().find(|chat| chat.account == "bob").expect("one");
    let (other, _) = proxy_over(&emulator, folder.path(), clock());
    let (status, answer) =
        send(&other, "DELETE", &format!("/v1/chats/{}", foreign.id), &json!({})).await;
    assert_eq!((status, emulator.chats().len()), (StatusCode::OK, 3), "{answer}");
    let (status, _) = send(&app, "DELETE", "/v1/chats/delete", &json!({})).await;
    assert_eq!((status, emulator.chats().len()), (StatusCode::OK, 0));
}

#[tokio::test(start_paused = true)]
async fn without_anybody_to_ask_as_the_answer_says_what_to_do() {
    let (emulator, folder) = two_accounts();
    emulator.revoke("token-ann");
    emulator.revoke("token-bob");
    let (app, _) = proxy_over(&emulator, folder.path(), clock());
    let history = [json!({"role": "user", "content": "Hello"})];
    for _ in 0..4 {
        let (status, answer) =
            send(&app, "POST", "/v1/chat/completions", &question(&history, false)).await;
        assert!(status.is_client_error() || status.is_server_error(), "{answer}");
        assert!(!answer.contains("token-ann") && !answer.contains("token-bob"), "{answer}");
    }
    let (status, health) = send(&app, "GET", "/health", &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let health: Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!(
        (&health["status"], &health["credentials"]["usable"]),
        (&json!("degraded"), &json!(0))
    );
    let (status, ready) = send(&app, "GET", "/ready", &json!({})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.contains("no_usable_account"), "{ready}");
    assert!(!ready.contains("ann") && !ready.contains("bob"), "{ready}");
    // The catalogue is for anyone, so it is listed all the same.
    assert_eq!(send(&app, "GET", "/v1/models", &json!({})).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_of_an_api_is_renewed_with_and_without_layers() {
    for tools in ["openai", "off"] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("login.json");
        let later = SystemTime::now() + Duration::from_secs(3600);
        let login = Credential::oauth("at-1", Some("rt-1"), Some(later)).expect("a login");
        let text = StoredCredential::new(login).to_json().expect("a login's form");
        std::fs::write(&file, text.expose()).expect("written");
        let granting = TokenClient::new(service_fn(async |_: Request<FullBody>| {
            let grant = r#"{"access_token":"at-2","refresh_token":"rt-2","expires_in":3600}"#;
            Ok::<_, BoxError>(Response::new(FullBody::from(grant)))
        }));
        // It knows the newer token only.
        let api = service_fn(async |request: Request<FullBody>| {
            let bearer = request.headers().get("authorization").map(|value| value.as_bytes());
            let (status, body) = match bearer {
                Some(b"Bearer at-2") => (
                    200,
                    r#"{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[
                        {"index":0,"message":{"role":"assistant","content":"Hello"},
                        "finish_reason":"stop"}]}"#,
                ),
                _ => (401, r#"{"error":{"message":"invalid access token","code":"invalid"}}"#),
            };
            let response = Response::builder().status(status);
            let response = response.header("content-type", "application/json");
            Ok::<_, BoxError>(response.body(FullBody::from(body))?)
        });
        let path = file.to_str().expect("UTF-8");
        let options = Options::of(&["--credentials", path, "--tools", tools]);
        let config = options.resolve().expect("valid");
        let upstream = &config.upstreams[0];
        let store = store(&config.sessions).expect("in memory");
        let desk = desk(upstream, granting, None);
        let shared = Shared::new(&config, &store, &Shutdown::default());
        let lanes = alone(compatible(api, api, Server::Portal, upstream, desk, &shared), upstream);
        let app = over(lanes, &config, &store, &Shutdown::default(), &Gate::default()).0;

        let history = [json!({"role": "user", "content": "Hi"})];
        let (status, answer) =
            send(&app, "POST", "/v1/chat/completions", &question(&history, false)).await;
        assert_eq!(status, StatusCode::OK, "{tools}: {answer}");
        assert!(answer.contains("Hello"), "{tools}: {answer}");
        let kept = std::fs::read_to_string(&file).expect("there");
        assert!(kept.contains("at-2") && kept.contains("rt-2"), "{kept}");
        let (_, health) = send(&app, "GET", "/health", &json!({})).await;
        assert!(health.contains("\"ready\":1"), "{health}");
    }
}

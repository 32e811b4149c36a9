use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::StatusCode,
    routing::{get, post},
};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_qwen::auth::OAuthFile;
use tower_qwen_emulator::{Emulator, OAuthAccount, RefreshFault};

use super::*;
use crate::proxy::{auth::ApiKeys, sign_in};

/// Invented: the vector in docs/reference/qwen-wire.md#f1; its signature reads
/// "not-a-real-signature".
const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpZCI6IjAwMDAwMDAwLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwYWJjZCIsImxhc3RfcGFzc3dvcmRfY2hhbmdlIjoxNzAwMDAwMDAwLCJleHAiOjE4OTM0NTYwMDB9.bm90LWEtcmVhbC1zaWduYXR1cmU";
/// Invented: the vector of the second layout in docs/reference/qwen-wire.md#f2, with `aaa.bbb.ccc`
/// for a JWT and a cookie.
const COMPRESSED: &str = "H4sIAAAAAAACA0tMTNRLSkrSS05OrsksyUvUTUnNzQcAIdb0PRUAAAA=";

struct Rig {
    emulator: Emulator,
    router: Router,
    pool: Option<CredentialPool>,
    _folder: tempfile::TempDir,
}

/// The routes over the emulator, which knows `ann` and nobody else.
async fn rig(with_accounts: bool, keys: &str) -> Rig {
    let emulator = Emulator::builder()
        .require_credentials(true)
        .oauth_account(OAuthAccount::new("ann", "rt-ann").access_token("at-ann"))
        .token("aaa.bbb.ccc", "cy")
        .build();
    let client = sign_in::of_emulator(emulator.clone());
    let folder = tempfile::tempdir().expect("a folder");
    let mut pool = None;
    if with_accounts {
        let end = SystemTime::now() + Duration::from_secs(3600);
        let ann = Credential::oauth("at-ann", Some("rt-ann"), Some(end)).expect("a login");
        let file = OAuthFile::new(folder.path().join("ann.json"), client.clone());
        file.save(ann).await.expect("saved");
        let key = Credential::api_key("sk-unknown-there").expect("a key");
        let key = tower_qwen::auth::StaticCredential::new(key);
        let two = CredentialPool::builder().account("ann", file).account("key", key);
        pool = Some(two.build().expect("two accounts"));
    }
    let desk = Desk {
        upstream: "emulator".to_owned(),
        takes_sessions: true,
        client,
        models_url: Some(Uri::from_static("http://emulator/api/v1/auths/")),
        pool: pool.clone(),
        files: BTreeMap::new(),
    };
    let keys =
        if keys.is_empty() { ApiKeys::default() } else { ApiKeys::parse(keys).expect("keys") };
    let router = Router::new()
        .route("/v1/validate", get(validate).post(validate))
        .route("/v1/refresh", post(refresh))
        .with_state(Tokens::new(vec![desk], Clients::new(keys, true)));
    Rig { emulator, router, pool, _folder: folder }
}

impl Rig {
    async fn ask(&self, request: axum::http::request::Builder, body: &str) -> (u16, Value) {
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (status, body) = (response.status(), response.into_body());
        let body = body.collect().await.expect("a body").to_bytes();
        let body = serde_json::from_slice(&body).expect("JSON, also of an error");
        (status.as_u16(), body)
    }

    async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.ask(Request::post(path), body).await
    }
}

fn token(token: &str) -> String {
    json!({"token": token}).to_string()
}

#[tokio::test]
async fn a_token_is_validated_wherever_it_stands() {
    let rig = rig(false, "").await;
    let session = rig.emulator.issue_session("ann", Duration::from_secs(600));
    let good = |answer: (u16, Value)| {
        assert_eq!((answer.0, &answer.1["valid"]), (200, &json!(true)), "{answer:?}");
        assert_eq!((&answer.1["asked"], &answer.1["kind"]), (&json!(true), &json!("web")));
        answer.1["expires_at"].clone()
    };
    let in_body = good(rig.post("/v1/validate", &token(&session)).await);
    let left = in_body.as_u64().expect("honest") - unix_seconds(SystemTime::now()).expect("now");
    assert!((500..=600).contains(&left), "{left}");
    let query = format!("/v1/validate?token={session}");
    assert_eq!(good(rig.ask(Request::get(query), "").await), in_body);
    let bearer = Request::get("/v1/validate").header("authorization", format!("Bearer {session}"));
    assert_eq!(good(rig.ask(bearer, "").await), in_body);
    // A token that does not say when it ends.
    assert_eq!(good(rig.post("/v1/validate", &token(COMPRESSED)).await), Value::Null);
}

#[tokio::test]
async fn a_bad_token_is_a_401_whatever_is_wrong_with_it() {
    let rig = rig(true, "").await;
    let ended = rig.emulator.issue_session("ann", Duration::ZERO);
    let mut answers = Vec::new();
    for bad in [JWT, "H4sIAAAA", "eyJ", ended.as_str()] {
        for path in ["/v1/validate", "/v1/refresh"] {
            let (status, body) = rig.post(path, &token(bad)).await;
            assert_eq!(status, 401, "{path} {bad}: {body}");
            assert_eq!(body["error"]["code"], "invalid_api_key");
            assert!(!body.to_string().contains(bad), "{body}");
            answers.push(body);
        }
    }
    assert!(answers.iter().all(|body| *body == answers[0]), "nothing tells why: {answers:?}");
}

#[tokio::test]
async fn a_malformed_request_is_a_400_without_what_it_held() {
    let rig = rig(false, "").await;
    for body in ["", "{}", r#"{"token":""}"#, "{", "[]", r#"{"token":{"a":"secret"}}"#] {
        let (status, answer) = rig.post("/v1/validate", body).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["error"]["message"].is_string() && !answer.to_string().contains("secret"));
    }
    let (status, _) = rig.ask(Request::get("/v1/validate?token=a&token=b"), "").await;
    assert_eq!(status, 400);
    let (status, _) = rig.post("/v1/validate", &" ".repeat(LONGEST_BODY + 1)).await;
    assert_eq!(status, 413);
    // A key is not for an upstream of sessions.
    assert_eq!(rig.post("/v1/validate", &token("sk-some-key")).await.0, 400);
    let get = Request::get("/v1/refresh").body(Body::empty()).expect("a request");
    let response = rig.router.clone().oneshot(get).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_session_is_refreshed_really_or_its_own_end_is_told() {
    let rig = rig(true, "").await;
    let session = rig.emulator.issue_session("ann", Duration::from_secs(600));
    let (status, body) = rig.post("/v1/refresh", &token(&session)).await;
    assert_eq!((status, &body["refreshed"]), (200, &json!(true)), "{body}");
    let new = body["token"].as_str().expect("a token");
    assert_ne!(new, session);
    let expiry = Credential::parse(new).expect("a session").expires_at().and_then(unix_seconds);
    assert_eq!(body["expires_at"].as_u64(), expiry);
    assert_eq!(rig.post("/v1/validate", &token(new)).await.0, 200);

    // An endpoint that renews nothing.
    let client = TokenClient::new(tower::service_fn(async |_| {
        let answer = axum::http::Response::builder().status(503);
        let body = http_body_util::Full::<Bytes>::from("down");
        Ok::<_, std::convert::Infallible>(answer.body(body).expect("a response"))
    }));
    let desk = Desk { client, pool: None, ..Desk::unmanned() };
    let down = Tokens::new(vec![desk], Clients::new(ApiKeys::default(), true));
    let asked = |token: &str| Asked { token: Some(token.into()), account: None };
    let same = down.refresh(asked(&session)).await.expect("its own word");
    assert_eq!((&same["refreshed"], &same["token"]), (&json!(false), &json!(session)));
    assert!(same["expires_at"].is_u64());
    let error = down.refresh(asked(COMPRESSED)).await.expect_err("nobody knows");
    assert_eq!(error.status(), 502);
    assert_eq!(down.validate(asked(&session)).await.expect_err("nobody said").status(), 502);
}

#[tokio::test]
async fn the_proxys_own_accounts_are_told_and_renewed_without_a_secret() {
    let rig = rig(true, "").await;
    let (status, body) = rig.post("/v1/validate", "").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["message"], "1 of 2 accounts are let in");
    let of = |body: &Value, name: &str| {
        let accounts = body["accounts"].as_array().expect("a list");
        accounts.iter().find(|account| account["name"] == name).expect(name).clone()
    };
    let (ann, key) = (of(&body, "ann"), of(&body, "key"));
    assert_eq!(
        (&ann["valid"], &ann["asked"], &ann["usable"]),
        (&json!(true), &json!(true), &json!(true))
    );
    assert_eq!((&key["valid"], &key["kind"]), (&json!(false), &json!("apikey")));

    let before = rig.pool.as_ref().expect("there").credential_of("ann").await.expect("a login");
    let (status, body) = rig.post("/v1/refresh", "{}").await;
    assert_eq!((status, &body["refreshed"]), (200, &json!(true)), "{body}");
    assert_eq!(of(&body, "key")["refreshed"], false);
    let after = rig.pool.as_ref().expect("there").credential_of("ann").await.expect("a login");
    assert_ne!(
        before.access_token().expose(),
        after.access_token().expose(),
        "it is another token"
    );
    assert_eq!(body["expires_at"].as_u64(), after.expires_at().and_then(unix_seconds));
    for credential in [&before, &after] {
        let secrets = [Some(credential.access_token()), credential.refresh_token()];
        for secret in secrets.into_iter().flatten() {
            assert!(!body.to_string().contains(secret.expose()), "{body}");
        }
    }
    let (status, body) = rig.post("/v1/refresh", r#"{"account":"key"}"#).await;
    assert_eq!((status, body["accounts"].as_array().map(Vec::len)), (200, Some(1)));
    assert_eq!(rig.post("/v1/refresh", r#"{"account":"nobody"}"#).await.0, 404);

    rig.emulator.fail_refresh(RefreshFault::InvalidGrant);
    let (_, body) = rig.post("/v1/refresh", r#"{"account":"ann"}"#).await;
    let ann = of(&body, "ann");
    assert_eq!((&ann["refreshed"], &ann["status"]), (&json!(false), &json!("sign_in_again")));
    assert!(ann["message"].as_str().is_some_and(|said| said.contains("sign in again")), "{ann}");
}

#[tokio::test]
async fn a_key_of_the_proxy_is_not_taken_for_a_token() {
    let keyed = rig(true, JWT).await;
    let bearer = || Request::post("/v1/validate").header("authorization", format!("Bearer {JWT}"));
    let (status, body) = keyed.ask(bearer(), "").await;
    assert_eq!((status, body["accounts"].as_array().map(Vec::len)), (200, Some(2)), "{body}");
    // Where it is no key it is a token, and a bad one.
    assert_eq!(rig(true, "other").await.ask(bearer(), "").await.0, 401);
}

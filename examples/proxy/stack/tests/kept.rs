//! The chats that an upstream keeps: who sees which, and in which form.

use super::*;

struct Answered {
    status: u16,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

async fn send(app: &App, method: &str, path: &str, key: Option<&str>, body: &str) -> Answered {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    let request = request.body(AxumBody::from(body.to_owned())).expect("a request");
    let (head, body) = app.clone().oneshot(request).await.expect("infallible").into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let body = String::from_utf8(body.into()).expect("UTF-8");
    Answered { status: head.status.as_u16(), headers: head.headers, body }
}

/// One turn; the chat that it was answered in.
async fn turn(app: &App, key: Option<&str>, text: &str) -> String {
    let body = json!({"model": "qwen3-max", "messages": [{"role": "user", "content": text}]});
    let answer = send(app, "POST", "/v1/chat/completions", key, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["qwen_chat_id"].as_str().expect("a chat").to_owned()
}

async fn ids(app: &App, key: Option<&str>, path: &str) -> Vec<String> {
    let answer = send(app, "GET", path, key, "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let list = answer.json();
    let data = list["data"].as_array().expect("a list").iter();
    data.map(|chat| chat["id"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn chats_are_listed_and_read() {
    let app = proxy(&[]);
    let first = turn(&app, None, "emulate:say=One. emulate:think").await;
    let second = turn(&app, None, "emulate:say=Two.").await;
    assert_eq!(ids(&app, None, "/v1/chats").await, [second.clone(), first.clone()]);
    assert_eq!(ids(&app, None, "/v1/chats?page=1").await.len(), 2);
    assert!(ids(&app, None, "/v1/chats?page=2").await.is_empty());
    for page in ["0", "-1", "x", ""] {
        let answer = send(&app, "GET", &format!("/v1/chats?page={page}"), None, "").await;
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("page")));
    }
    let list = send(&app, "GET", "/v1/chats", None, "").await.json();
    let chat = &list["data"][0];
    assert_eq!((&list["object"], &chat["object"]), (&json!("list"), &json!("chat")));
    assert_eq!((&chat["title"], &chat["upstream"]), (&json!("New Chat"), &json!("emulator")));
    assert!(chat["updated"].is_u64() && chat["created"].is_u64(), "{chat}");

    let record = send(&app, "GET", &format!("/v1/chats/{second}"), None, "").await.json();
    let messages = record["messages"].as_array().expect("messages");
    let said: Vec<_> = messages.iter().map(|m| (&m["role"], &m["content"])).collect();
    assert_eq!(
        said,
        [(&json!("user"), &json!("emulate:say=Two.")), (&json!("assistant"), &json!("Two."))]
    );
    assert_eq!(messages[1]["parent_id"], messages[0]["id"]);
    let path = format!("/v1/chats/{second}?format=markdown");
    let markdown = send(&app, "GET", &path, None, "").await;
    assert_eq!(markdown.headers["content-type"], "text/markdown; charset=utf-8");
    let file = markdown.headers["content-disposition"].to_str().expect("text");
    assert_eq!(file, format!("attachment; filename=\"chat-{second}.md\""));
    assert_eq!(
        markdown.body,
        "# New Chat\n\n## user\n\nemulate:say=Two.\n\n## qwen3-max\n\nTwo.\n"
    );
    let odd = send(&app, "GET", &format!("/v1/chats/{second}?format=pdf"), None, "").await;
    assert_eq!((odd.status, &odd.json()["error"]["param"]), (400, &json!("format")));
}

/// What upstream says of it is what the client is told.
#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_said() {
    let app = proxy(&[]);
    for id in ["00000000-0000-4000-8000-000000000000", "a.b", "%2e%2e"] {
        let answer = send(&app, "GET", &format!("/v1/chats/{id}"), None, "").await;
        assert!((400..=404).contains(&answer.status), "{id}: {} {}", answer.status, answer.body);
    }
    let vllm = proxy(&["--emulate", "vllm"]);
    for path in ["/v1/chats", "/v1/chats/some-id"] {
        let answer = send(&vllm, "GET", path, None, "").await;
        assert_eq!(answer.status, 501, "{path}: {}", answer.body);
        assert!(answer.body.contains("chat.qwen.ai does"), "{}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_sees_its_own_chats_and_an_admins_all() {
    let app = proxy(&["--api-key", "sk-of-ann,sk-of-bob"]);
    let (ann, bob) = (Some("sk-of-ann"), Some("sk-of-bob"));
    assert!(ids(&app, ann, "/v1/chats").await.is_empty());
    let anns = turn(&app, ann, "emulate:say=Ann.").await;
    let bobs = turn(&app, bob, "emulate:say=Bob.").await;
    for (key, mine, others) in [(ann, &anns, &bobs), (bob, &bobs, &anns)] {
        assert_eq!(ids(&app, key, "/v1/chats").await, std::slice::from_ref(mine));
        assert_eq!(send(&app, "GET", &format!("/v1/chats/{mine}"), key, "").await.status, 200);
        for form in ["json", "markdown"] {
            let path = format!("/v1/chats/{others}?format={form}");
            let answer = send(&app, "GET", &path, key, "").await;
            assert_eq!(answer.status, 404, "{}", answer.body);
        }
    }
    assert_eq!(send(&app, "GET", "/v1/chats", None, "").await.status, 401);
    // Nobody can tell whose they are.
    let public = proxy(&["--listen", "0.0.0.0:8080"]);
    assert_eq!(send(&public, "GET", "/v1/chats", None, "").await.status, 403);

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.toml");
    let key = |id: &str, secret: &str, admin: bool| {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(secret.as_bytes());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[key]]\nid = \"{id}\"\nname = \"{id}\"\nsha256 = \"{digest}\"\nadmin = {admin}\n")
    };
    let keys = key("k0000001", "sk-demo-of-ann", false) + &key("k0000002", "sk-demo-of-root", true);
    std::fs::write(&file, keys).expect("written");
    let app = proxy(&["--keys-file", file.to_str().expect("UTF-8")]);
    let anns = turn(&app, Some("sk-demo-of-ann"), "emulate:say=Ann.").await;
    let roots = turn(&app, Some("sk-demo-of-root"), "emulate:say=Root.").await;
    assert_eq!(ids(&app, Some("sk-demo-of-ann"), "/v1/chats").await, std::slice::from_ref(&anns));
    assert_eq!(ids(&app, Some("sk-demo-of-root"), "/v1/chats").await, [roots, anns.clone()]);
    let path = format!("/v1/chats/{anns}");
    assert_eq!(send(&app, "GET", &path, Some("sk-demo-of-root"), "").await.status, 200);
}

/// They can be gone on in, and the account's list does not have them.
#[tokio::test(start_paused = true)]
async fn temporary_chats_are_not_in_the_list() {
    let app = proxy(&["--temporary-chats"]);
    let chat = turn(&app, None, "emulate:say=One.").await;
    assert!(ids(&app, None, "/v1/chats").await.is_empty());
    let body = json!({"model": "qwen3-max", "messages": [
        {"role": "user", "content": "emulate:say=One."},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "emulate:say=Two."}]});
    let answer = send(&app, "POST", "/v1/chat/completions", None, &body.to_string()).await.json();
    assert_eq!(answer["qwen_chat_id"], json!(chat));
    assert_eq!(send(&app, "GET", &format!("/v1/chats/{chat}"), None, "").await.status, 200);
}

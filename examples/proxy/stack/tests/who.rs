//! Who is let in, and whose chats are whose, on every route and with every way to send a key.

use std::{collections::BTreeSet, fmt::Write as _};

use axum::http::StatusCode;

use super::*;

/// Every route: method, path, and a body where it takes one. `{id}` stands for a chat's id.
const ROUTES: [(&str, &str, &str); 61] = [
    ("HEAD", "/", ""),
    ("GET", "/", ""),
    ("GET", "/health", ""),
    ("GET", "/ready", ""),
    ("GET", "/metrics", ""),
    ("GET", "/v1/models", ""),
    ("GET", "/v1/models/qwen3-max", ""),
    ("GET", "/xml/v1/models", ""),
    ("GET", "/xml/v1/models/qwen3-max", ""),
    ("POST", "/v1/chat/completions", CHAT),
    ("POST", "/xml/v1/chat/completions", CHAT),
    ("GET", "/v1/chat/completions", ""),
    ("POST", "/v1/messages", MESSAGE),
    ("POST", "/v1/messages/count_tokens", MESSAGE),
    ("POST", "/v1/responses", r#"{"model":"qwen3-max","input":"Hi"}"#),
    ("GET", "/v1/responses/qwen3-max", ""),
    ("DELETE", "/v1/responses/qwen3-max", ""),
    ("POST", "/v1/completions", r#"{"model":"qwen3-max","prompt":"Hi"}"#),
    ("POST", "/infill", r#"{"input_prefix":"a","input_suffix":"b"}"#),
    ("POST", "/v1/infill", r#"{"input_prefix":"a","input_suffix":"b"}"#),
    ("POST", "/v1/embeddings", r#"{"model":"qwen3-max","input":"Hi"}"#),
    ("POST", "/v1/images/generations", r#"{"model":"qwen3-max","prompt":"A fox"}"#),
    ("POST", "/v1/images/edits", r#"{"model":"qwen3-max","prompt":"A fox"}"#),
    ("POST", "/v1/audio/speech", r#"{"model":"qwen3-max","input":"Hi","voice":"x"}"#),
    ("POST", "/v1/audio/transcriptions", ""),
    ("POST", "/v1/audio/translations", ""),
    ("POST", "/v1/rerank", r#"{"model":"qwen3-max","query":"a","documents":["b"]}"#),
    ("POST", "/v1/videos/generations", r#"{"model":"qwen3-max","prompt":"A fox"}"#),
    ("POST", "/v1/videos", r#"{"model":"qwen3-max","prompt":"A fox"}"#),
    ("GET", "/v1/videos", ""),
    ("GET", "/v1/videos/qwen3-max", ""),
    ("DELETE", "/v1/videos/qwen3-max", ""),
    ("GET", "/v1/videos/qwen3-max/content", ""),
    ("POST", "/api/chat", CHAT),
    ("POST", "/api/generate", r#"{"model":"qwen3-max","prompt":"Hi"}"#),
    ("POST", "/api/embed", r#"{"model":"qwen3-max","input":"Hi"}"#),
    ("POST", "/api/embeddings", r#"{"model":"qwen3-max","prompt":"Hi"}"#),
    ("GET", "/api/version", ""),
    ("GET", "/api/tags", ""),
    ("POST", "/api/show", r#"{"model":"qwen3-max"}"#),
    ("GET", "/api/ps", ""),
    ("POST", "/api/pull", r#"{"model":"qwen3-max"}"#),
    ("POST", "/api/push", r#"{"model":"qwen3-max"}"#),
    ("POST", "/api/create", r#"{"model":"qwen3-max"}"#),
    ("POST", "/api/copy", r#"{"source":"qwen3-max","destination":"x"}"#),
    ("DELETE", "/api/delete", r#"{"model":"qwen3-max"}"#),
    ("HEAD", "/api/blobs/qwen3-max", ""),
    ("GET", "/api/none", ""),
    ("GET", "/v1/usage", ""),
    ("GET", "/dashboard", ""),
    ("GET", "/dashboard/status", ""),
    ("GET", "/v1/validate", ""),
    ("POST", "/v1/validate", "{}"),
    ("POST", "/v1/refresh", "{}"),
    ("DELETE", "/v1/chats/{id}", ""),
    ("GET", "/v1/chats/{id}", ""),
    ("GET", "/v1/chats", ""),
    ("DELETE", "/v1/chats/delete", ""),
    ("POST", "/v1/chats/delete", ""),
    ("GET", "/v1/none", ""),
    ("PUT", "/v1/models", ""),
];

const MESSAGE: &str =
    r#"{"model":"qwen3-max","max_tokens":9,"messages":[{"role":"user","content":"Hello"}]}"#;
const CHAT: &str = r#"{"model":"qwen3-max","messages":[{"role":"user","content":"Hello"}]}"#;

/// The headers that a key may come in, the first of which counts most.
const HEADERS: [&str; 3] = ["authorization", "x-api-key", "api-key"];
/// What they may hold: nothing, what an SDK sends of itself, and the keys of two people.
const VALUES: [Option<&str>; 4] = [None, Some("placeholder"), Some("sk-of-ann"), Some("sk-of-bob")];

type Sent = [Option<&'static str>; 3];

/// Every combination.
fn combinations() -> Vec<Sent> {
    let mut all = Vec::new();
    for bearer in VALUES {
        for own in VALUES {
            all.extend(VALUES.map(|azure| [bearer, own, azure]));
        }
    }
    all
}

fn request(method: &str, path: &str, sent: Sent, body: &str) -> axum::extract::Request {
    let mut request = Request::builder().method(method).uri(path);
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in HEADERS.iter().zip(sent) {
        let Some(value) = value else { continue };
        let value = if *name == "authorization" { format!("Bearer {value}") } else { value.into() };
        request = request.header(*name, value);
    }
    request.body(AxumBody::from(body.to_owned())).expect("a request")
}

async fn send(app: &App, request: axum::extract::Request) -> (StatusCode, Value) {
    let response = app.clone().oneshot(request).await.expect("infallible");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// The proxy over `emulator`, with these options.
fn over_emulator(emulator: &Emulator, args: &[&str]) -> App {
    let config = Options::of(args).resolve().expect("valid");
    let store = store(&config.sessions).expect("in memory");
    let upstream = &config.upstreams[0];
    let desk = desk(upstream, sign_in::of_emulator(emulator.clone()), None);
    let shared = Shared::new(&config, &store, &Shutdown::default());
    let draft = web(emulator.clone(), emulator.clone(), emulator.clone(), upstream, desk, &shared);
    let lanes = alone(draft, upstream);
    over(lanes, &config, &store, &Shutdown::default(), &Gate::default()).0
}

/// One turn; the chat that it was answered in, or the status and code of a refusal.
async fn turn(app: &App, sent: Sent, body: &Value) -> Result<String, (u16, Value)> {
    let asked = request("POST", "/v1/chat/completions", sent, &body.to_string());
    let (status, answer) = send(app, asked).await;
    if status != StatusCode::OK {
        return Err((status.as_u16(), answer["error"]["code"].clone()));
    }
    Ok(answer["qwen_chat_id"].as_str().expect("a chat").to_owned())
}

fn question(history: &[Value]) -> Value {
    json!({"model": "qwen3-max", "messages": history})
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

/// Whose key counts: the first header that has one.
fn owner(sent: Sent) -> Option<&'static str> {
    sent.into_iter().flatten().find(|value| value.starts_with("sk-"))
}

#[test]
fn the_list_of_routes_is_whole() {
    let source = include_str!("../../routes.rs");
    let listed: BTreeSet<String> = source
        .split(".route(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(|path| path.replace("{*id}", "qwen3-max"))
        .collect();
    let walked: BTreeSet<String> = ROUTES.iter().map(|(_, path, _)| (*path).to_owned()).collect();
    assert!(listed.len() > 10, "{listed:?}");
    assert_eq!(listed.difference(&walked).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// What `docs/operating.md` says of each route is what it does.
#[tokio::test(start_paused = true)]
async fn every_route_asks_for_a_key_but_health() {
    let emulator = Emulator::builder().build();
    let keyed =
        over_emulator(&emulator, &["--upstream", "web", "--api-key", "sk-of-ann,sk-of-bob"]);
    let mut wrong = String::new();
    for sent in combinations() {
        for (method, path, body) in ROUTES {
            let path = path.replace("{id}", "none");
            let (status, _) = send(&keyed, request(method, &path, sent, body)).await;
            // Whether there is such a route is no secret.
            let is_open =
                ["/", "/health", "/ready", "/dashboard", "/v1/none", "/api/none", "/metrics"]
                    .contains(&&*path)
                    || (method, &*path) == ("PUT", "/v1/models");
            let refused = status == StatusCode::UNAUTHORIZED;
            // About a token that is not given, on a proxy without accounts: the client's mistake.
            if refused != (owner(sent).is_none() && !is_open) {
                writeln!(wrong, "{method} {path} with {sent:?}: {status}").expect("a string");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test(start_paused = true)]
async fn whose_chats_are_seen_named_and_deleted_is_whose_key_it_is() {
    let emulator = Emulator::builder().build();
    let keyed =
        over_emulator(&emulator, &["--upstream", "web", "--api-key", "sk-of-ann,sk-of-bob"]);
    let only = |key| [Some("placeholder"), Some(key), None];
    // The same words, so that only the key tells them apart.
    let mut history = vec![user("emulate:say=Hello.")];
    let mut chats = Vec::new();
    for key in ["sk-of-ann", "sk-of-bob"] {
        chats.push((key, turn(&keyed, only(key), &question(&history)).await.expect("answered")));
    }
    let [(_, anns), (_, bobs)] = &chats[..] else { unreachable!("two") };
    assert_ne!(anns, bobs);
    history.push(json!({"role": "assistant", "content": "Hello."}));
    history.push(user("And now?"));
    let lost = || Err((404, json!("conversation_not_found")));
    for sent in combinations() {
        let Some(key) = owner(sent) else { continue };
        let [mine, other] = if key == "sk-of-ann" { [anns, bobs] } else { [bobs, anns] };
        assert_eq!(turn(&keyed, sent, &question(&history)).await.as_ref(), Ok(mine), "{sent:?}");
        let mut named = question(&[user("And now?")]);
        named["qwen_chat_id"] = json!(mine);
        assert_eq!(turn(&keyed, sent, &named).await.as_ref(), Ok(mine), "{sent:?}");
        for id in [other.as_str(), "00000000-0000-4000-8000-000000000000"] {
            named["qwen_chat_id"] = json!(id);
            assert_eq!(turn(&keyed, sent, &named).await, lost(), "{sent:?}");
            let deletion = request("DELETE", &format!("/v1/chats/{id}"), sent, "");
            assert_eq!(send(&keyed, deletion).await.0, StatusCode::NOT_FOUND, "{sent:?}");
        }
        assert_eq!(emulator.chats().len(), 2, "{sent:?}");
    }

    // Each deletes its own, however its key is sent.
    for sent in combinations() {
        let Some(key) = owner(sent) else { continue };
        let kept = turn(&keyed, only("sk-of-ann"), &question(&history)).await.expect("answered");
        let bob = turn(&keyed, only("sk-of-bob"), &question(&history)).await.expect("answered");
        let [mine, others] = if key == "sk-of-ann" { [kept, bob] } else { [bob, kept] };
        let path =
            if sent[2].is_some() { "/v1/chats/delete".into() } else { format!("/v1/chats/{mine}") };
        assert_eq!(send(&keyed, request("DELETE", &path, sent, "")).await.0, StatusCode::OK);
        assert!(emulator.chat(&mine).is_none() && emulator.chat(&others).is_some(), "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_chat_that_was_not_given_here_can_be_named_where_that_is_allowed() {
    let keys = ["--api-key", "sk-of-ann,sk-of-bob"];
    let public = ["--listen", "0.0.0.0:8080"];
    for (args, allowed) in [
        (vec![], true),
        (keys.to_vec(), false),
        (vec!["--api-key", "sk-of-ann"], false),
        (public.to_vec(), false),
        ([&keys[..], &["--allow-foreign-chats"]].concat(), true),
        ([&public[..], &["--allow-foreign-chats=true"]].concat(), true),
        ([&public[..], &["--allow-foreign-chats=false"]].concat(), false),
    ] {
        let emulator = Emulator::builder().build();
        let app = over_emulator(&emulator, &[&["--upstream", "web"][..], &args].concat());
        let ann = [None, Some("sk-of-ann"), None];
        let given = turn(&app, ann, &question(&[user("Hello")])).await.expect("answered");
        // The chat is upstream's, and a proxy that was started anew does not know it.
        let anew = over_emulator(&emulator, &[&["--upstream", "web"][..], &args].concat());
        let mut named = question(&[user("And now?")]);
        named["qwen_chat_id"] = json!(given);
        assert_eq!(turn(&app, ann, &named).await.as_ref(), Ok(&given), "{args:?}");
        let answer = turn(&anew, ann, &named).await;
        assert_eq!(answer.is_ok(), allowed, "{args:?}: {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_keys_a_request_is_of_whoever_it_says() {
    for (args, nobody) in [(vec![], true), (vec!["--listen", "0.0.0.0:8080"], false)] {
        let emulator = Emulator::builder().build();
        let app = over_emulator(&emulator, &[&["--upstream", "web"][..], &args].concat());
        let mut history = vec![user("emulate:say=Hello.")];
        let mut first = Vec::new();
        for sent in [[None, Some("a"), None], [None, Some("b"), None], [None; 3]] {
            first.push(turn(&app, sent, &question(&history)).await.expect("answered"));
        }
        history.push(json!({"role": "assistant", "content": "Hello."}));
        history.push(user("And now?"));
        for (sent, chat) in [
            ([Some("a"), None, None], Some(&first[0])),
            ([None, None, Some("a")], Some(&first[0])),
            ([None, Some("b"), None], Some(&first[1])),
            ([None; 3], nobody.then_some(&first[2])),
        ] {
            let goes = turn(&app, sent, &question(&history)).await.expect("answered");
            match chat {
                Some(chat) => assert_eq!(&goes, chat, "{sent:?}"),
                None => assert!(!first.contains(&goes), "nobody's history is gone on with"),
            }
        }
        let delete = |sent| request("DELETE", "/v1/chats/delete", sent, "");
        let (status, _) = send(&app, delete([None; 3])).await;
        assert_eq!(status == StatusCode::OK, nobody, "{status}");
        // Nor are the operator's accounts for strangers, whatever they call a key.
        for (method, path) in
            [("GET", "/v1/validate"), ("POST", "/v1/validate"), ("POST", "/v1/refresh")]
        {
            for sent in [[None; 3], [None, Some("a"), None]] {
                let (status, _) = send(&app, request(method, path, sent, "")).await;
                assert_eq!(status == StatusCode::FORBIDDEN, !nobody, "{path}: {status}");
            }
        }
    }
}

/// An answer that is known by its id is one of its upstream, and no chat of another.
#[tokio::test]
async fn an_answer_of_one_upstream_is_unknown_to_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    let text = "[[upstream]]\nname = \"one\"\nemulate = \"web\"\nmodels = [\"qwen3-max\"]\n\
                [[upstream]]\nname = \"two\"\nemulate = \"web\"\nmodels = [\"qwen3-coder-plus\"]\n";
    std::fs::write(&file, text).expect("written");
    let app = super::proxy(&["--config", file.to_str().expect("UTF-8")]);
    let ask = async |body: Value| super::ask(app.clone(), "/v1/responses", body).await;
    let first = ask(json!({"model": "qwen3-max", "input": "Hello"})).await;
    let id = first["id"].as_str().expect("an id");
    for (model, code) in
        [("qwen3-coder-plus", json!("previous_response_not_found")), ("qwen3-max", Value::Null)]
    {
        let body = json!({"model": model, "input": "And?", "previous_response_id": id});
        let answer = ask(body).await;
        assert_eq!(answer["error"]["code"], code, "{model}: {answer}");
    }
}

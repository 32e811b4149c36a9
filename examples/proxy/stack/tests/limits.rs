//! What a key may ask for, what is told when that is too much, and what is entered in its account.

use std::{fs, path::PathBuf, time::Duration};

use axum::http::{HeaderMap, StatusCode};
use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::*;

/// A file of keys, each an id, which is also the key, and what stands in its table besides.
struct File {
    folder: TempDir,
}

impl File {
    fn of(keys: &[(&str, &str)]) -> Self {
        let file = Self { folder: tempfile::tempdir().expect("a folder") };
        file.write(keys);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keys.toml")
    }

    fn write(&self, keys: &[(&str, &str)]) {
        let table = |(id, more): &(&str, &str)| {
            let digest = Sha256::digest(id.as_bytes());
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("[[key]]\nid = \"{id}\"\nsha256 = \"{hex}\"\n{more}\n")
        };
        fs::write(self.path(), keys.iter().map(table).collect::<String>()).expect("written");
    }

    fn proxy(&self, args: &[&str]) -> App {
        self.proxy_at(&Gate::default(), args)
    }

    fn proxy_at(&self, gate: &Gate, args: &[&str]) -> App {
        let path = self.path();
        let all = [&["--keys-file", path.to_str().expect("UTF-8")], args].concat();
        let config = Options::of(&all).resolve().expect("valid");
        let store = store(&config.sessions).expect("in memory");
        app(&config, &store, &Shutdown::default(), gate).expect("nothing is wrong").0
    }
}

fn post(key: &str, path: &str, body: &Value) -> axum::extract::Request {
    let request = Request::post(path).header("x-api-key", key);
    let request = request.header("content-type", "application/json");
    request.body(AxumBody::from(body.to_string())).expect("a request")
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }
}

async fn send(app: &App, request: axum::extract::Request) -> Answer {
    let response = app.clone().oneshot(request).await.expect("infallible");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Answer { status: head.status, headers: head.headers, body }
}

async fn get(app: &App, key: &str, path: &str) -> Answer {
    let request = Request::get(path).header("x-api-key", key);
    send(app, request.body(AxumBody::empty()).expect("a request")).await
}

/// The account of `key`, as it is told of it.
async fn used(app: &App, key: &str) -> Value {
    let answer = get(app, key, "/v1/usage").await;
    assert_eq!((answer.status, answer.header("cache-control")), (StatusCode::OK, "no-store"));
    answer.body["data"][0].clone()
}

fn chat_of(model: &str, text: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]})
}

fn question() -> Value {
    chat_of("qwen3-max", "Hello", true)
}

fn message() -> Value {
    json!({"model": "qwen3-max", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]})
}

/// Of 1,000 at once 10 run and 100 wait; the others are refused, and nobody hangs.
#[tokio::test(start_paused = true)]
async fn a_thousand_requests_at_once_against_ten_places() {
    let file = File::of(&[("ann", ""), ("bob", "streams = 10")]);
    for (key, args, status, code) in [
        ("ann", &["--max-streams", "10", "--queue-timeout", "3600"][..], 503, "proxy_overloaded"),
        ("bob", &["--queue-timeout", "3600"], 429, "key_streams_exceeded"),
    ] {
        let app = file.proxy(args);
        let asked = (0..1_000).map(|_| send(&app, post(key, "/v1/chat/completions", &question())));
        let begun = Instant::now();
        let answers = join_all(asked).await;
        assert!(begun.elapsed() < Duration::from_secs(3_600));
        let ok = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert_eq!(ok, 110, "{key}");
        for answer in answers.iter().filter(|answer| answer.status != StatusCode::OK) {
            assert_eq!(answer.status, status, "{}", answer.body);
            assert_eq!(answer.body["error"]["code"], code);
            assert_eq!(answer.header("retry-after"), "5");
        }
        // All places are free again, at once.
        let answer = send(&app, post(key, "/v1/chat/completions", &question())).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(used(&app, key).await["requests"], 111, "who is refused has used nothing");
    }
}

/// A place is held until the end of the answer, or until its client has gone.
#[tokio::test(start_paused = true)]
async fn a_place_is_held_until_the_body_ends() {
    let file = File::of(&[("ann", "streams = 1"), ("bob", "streams = 1")]);
    let app = file.proxy(&["--max-queue", "0"]);
    let ask = async |key: &str| {
        let request = post(key, "/v1/chat/completions", &question());
        app.clone().oneshot(request).await.expect("infallible")
    };
    let first = ask("ann").await;
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(ask("ann").await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(ask("bob").await.status(), StatusCode::OK, "another key has places of its own");
    drop(first);
    let second = ask("ann").await;
    assert_eq!(second.status(), StatusCode::OK, "the client has gone");
    second.into_body().collect().await.expect("to its end");
    let third = ask("ann").await;
    assert_eq!(third.status(), StatusCode::OK);
    // The last frame is the end, whoever asks for another.
    let mut body = third.into_body();
    while body.frame().await.is_some() {}
    assert_eq!(ask("ann").await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn each_edge_tells_it_in_its_own_form() {
    let file = File::of(&[("ann", "requests-per-minute = 1")]);
    for (path, body, text) in [
        ("/v1/chat/completions", question(), "/error/message"),
        ("/v1/responses", json!({"model": "qwen3-max", "input": "Hi"}), "/error/message"),
        ("/v1/completions", json!({"model": "qwen3-max", "prompt": "Hi"}), "/error/message"),
        ("/v1/messages", message(), "/error/message"),
        ("/api/chat", question(), "/error"),
        ("/api/generate", json!({"model": "qwen3-max", "prompt": "Hi"}), "/error"),
    ] {
        let app = file.proxy(&[]);
        assert_eq!(send(&app, post("ann", path, &body)).await.status, StatusCode::OK, "{path}");
        let refused = send(&app, post("ann", path, &body)).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|wait| wait <= 60));
        let told = refused.body.pointer(text).and_then(Value::as_str).unwrap_or_default();
        assert_eq!(
            told, "this API key may send 1 requests a minute here",
            "{path}: {}",
            refused.body
        );
        match path {
            "/v1/messages" => {
                assert_eq!(refused.body["error"]["type"], "rate_limit_error");
                assert_eq!(refused.header("anthropic-ratelimit-requests-limit"), "1");
                assert_eq!(refused.header("anthropic-ratelimit-requests-remaining"), "0");
                assert!(refused.header("anthropic-ratelimit-requests-reset").ends_with('Z'));
            }
            _ => {
                assert_eq!(refused.header("x-ratelimit-limit-requests"), "1");
                assert_eq!(refused.header("x-ratelimit-remaining-requests"), "0");
            }
        }
        if path.starts_with("/v1/") && path != "/v1/messages" {
            assert_eq!(refused.body["error"]["code"], "key_requests_exceeded");
        }
        // A minute later there is another.
        sleep(Duration::from_secs(60)).await;
        assert_eq!(send(&app, post("ann", path, &body)).await.status, StatusCode::OK, "{path}");
    }
}

/// What was used is known behind the answer: then the next has to wait.
#[tokio::test(start_paused = true)]
async fn tokens_are_paid_for_afterwards() {
    let file = File::of(&[("ann", "tokens-per-minute = 20\ntokens-per-day = 1000")]);
    let app = file.proxy(&[]);
    let ask = async || send(&app, post("ann", "/v1/chat/completions", &question())).await;
    let first = ask().await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(first.header("x-ratelimit-limit-tokens"), "20");
    assert_eq!(first.header("x-ratelimit-remaining-tokens"), "20", "as it was when it began");
    assert_eq!(first.header("x-ratelimit-remaining-budget"), "1000");
    let tokens = used(&app, "ann").await["total_tokens"].as_u64().expect("a number");
    assert!(tokens > 20, "{tokens}");
    let refused = ask().await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.body["error"]["code"], "key_tokens_exceeded");
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), "0");
    assert_eq!(refused.header("x-ratelimit-remaining-budget"), (1_000 - tokens).to_string());
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    sleep(Duration::from_secs(wait - 2)).await;
    assert_eq!(ask().await.status, StatusCode::TOO_MANY_REQUESTS);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(ask().await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_used_up_is_told() {
    let file = File::of(&[("ann", "tokens-per-day = 1"), ("boss", "admin = true")]);
    let gate = Gate::default();
    let app = file.proxy_at(&gate, &[]);
    let ask = async |app: &App| send(app, post("ann", "/v1/chat/completions", &question())).await;
    assert_eq!(ask(&app).await.status, StatusCode::OK, "what has begun goes on to its end");
    let refused = ask(&app).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.body["error"]["code"], "key_budget_exceeded");
    assert_eq!(refused.body["error"]["type"], "insufficient_quota");
    // An SDK that asked again by itself would ask until midnight.
    assert_eq!(refused.header("x-should-retry"), "false");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|wait| wait <= 86_400));
    let told = send(&app, post("ann", "/v1/messages", &message())).await;
    assert_eq!(told.header("anthropic-ratelimit-budget-remaining"), "0");

    // What is read again has new limits and the old accounts.
    file.write(&[("ann", "tokens-per-day = 100000"), ("boss", "admin = true")]);
    let again = file.proxy_at(&gate, &[]);
    assert_eq!(ask(&again).await.status, StatusCode::OK);
    let all = get(&again, "boss", "/v1/usage").await.body;
    let ann = all["data"].as_array().expect("a list").iter().find(|row| row["key"] == "ann");
    assert_eq!(ann.expect("an account")["requests"], 2, "{all}");
    assert_eq!(
        ask(&app).await.status,
        StatusCode::TOO_MANY_REQUESTS,
        "the old one goes by its own"
    );
}

/// What cannot be written lets budgets go on, or does not, as the operator says.
#[tokio::test(start_paused = true)]
async fn budgets_that_cannot_be_written_are_open_or_closed() {
    let file = File::of(&[("ann", "tokens-per-day = 1000"), ("bob", "requests-per-minute = 9")]);
    for (way, gate, of_ann) in [
        ("open", Gate::failing(), 200),
        ("closed", Gate::failing(), 503),
        ("closed", Gate::default(), 200),
    ] {
        let app = file.proxy_at(&gate, &["--usage-failure", way]);
        let ask =
            async |key: &str, path: &str, body: &Value| send(&app, post(key, path, body)).await;
        let ann = ask("ann", "/v1/chat/completions", &question()).await;
        assert_eq!(ann.status, of_ann, "{way}: {}", ann.body);
        if of_ann == 503 {
            assert_eq!(ann.body["error"]["code"], "usage_unavailable");
            assert_eq!(ann.header("retry-after"), "5");
            let told = ask("ann", "/v1/messages", &message()).await;
            assert_eq!(told.body["error"]["type"], "overloaded_error");
        }
        let bob = ask("bob", "/v1/chat/completions", &question()).await;
        assert_eq!(bob.status, 200, "a key without a budget goes on");
    }
}

/// A key sees its own numbers, an admin's all, and who has no key those of all who have none.
#[tokio::test(start_paused = true)]
async fn who_sees_what_was_used() {
    let file = File::of(&[("ann", ""), ("bob", "name = \"Bob\""), ("boss", "admin = true")]);
    let app = file.proxy(&["--api-key", "listed"]);
    for key in ["ann", "ann", "bob", "listed"] {
        send(&app, post(key, "/v1/chat/completions", &question())).await;
    }
    for (key, account, requests) in [("ann", "ann", 2), ("bob", "bob", 1), ("listed", "#1", 1)] {
        let answer = get(&app, key, "/v1/usage").await.body;
        let data = answer["data"].as_array().expect("a list");
        assert_eq!(data.len(), 1, "{key}: {answer}");
        assert_eq!((&data[0]["key"], &data[0]["requests"]), (&account.into(), &requests.into()));
    }
    assert_eq!(used(&app, "bob").await["name"], "Bob");
    let all = get(&app, "boss", "/v1/usage").await.body;
    let keys: Vec<_> =
        all["data"].as_array().expect("a list").iter().map(|row| &row["key"]).collect();
    assert_eq!(keys, ["#1", "ann", "bob", "boss"]);
    assert_eq!(get(&app, "nobody", "/v1/usage").await.status, StatusCode::UNAUTHORIZED);

    let open = proxy(&[]);
    send(&open, post("whatever", "/v1/chat/completions", &question())).await;
    assert_eq!(used(&open, "something else").await["requests"], 1);
    let public = proxy(&["--listen", "0.0.0.0:0"]);
    let refused = send(&public, {
        let request = Request::get("/v1/usage").header("host", "0.0.0.0:0");
        request.body(AxumBody::empty()).expect("a request")
    });
    assert_eq!(refused.await.status, StatusCode::FORBIDDEN);
}

/// Whatever the route, what was used is entered once; as the upstream counts it where it does.
#[tokio::test(start_paused = true)]
async fn every_route_is_entered() {
    let responses = |stream| json!({"model": MODEL, "input": "Hi", "stream": stream});
    let prompt = |stream| json!({"model": MODEL, "prompt": "Hi", "stream": stream});
    let messages = |stream| {
        let mut message = message();
        message["model"] = MODEL.into();
        message["stream"] = json!(stream);
        message
    };
    const MODEL: &str = "qwen3-coder-30b";
    let file = File::of(&[("ann", "")]);
    for (kind, tools) in
        [("web", "openai"), ("vllm", "openai"), ("vllm", "off"), ("llamacpp", "openai")]
    {
        for stream in [false, true] {
            let mut asked = vec![
                ("/v1/chat/completions", chat_of(MODEL, "Hi", stream)),
                ("/v1/messages", messages(stream)),
                ("/v1/responses", responses(stream)),
                ("/v1/completions", prompt(stream)),
                ("/api/chat", chat_of(MODEL, "Hi", stream)),
                ("/api/generate", prompt(stream)),
            ];
            if kind != "web" {
                asked.push(("/v1/embeddings", json!({"model": MODEL, "input": "Hi"})));
                asked.push(("/api/embed", json!({"model": MODEL, "input": "Hi"})));
            }
            if kind == "llamacpp" {
                let infill = json!({"input_prefix": "a", "input_suffix": "b", "stream": stream});
                asked.push(("/infill", infill));
            }
            for (path, mut body) in asked {
                let what = format!("{path} over {kind}, {tools}, stream: {stream}");
                let app = file.proxy(&["--emulate", kind, "--tools", tools]);
                let models = get(&app, "ann", "/v1/models").await.body;
                if body.get("model").is_some() {
                    let mut all = models["data"].as_array().expect("a list").iter();
                    let of_kind = |model: &&Value| {
                        let id = model["id"].as_str().expect("a name").to_lowercase();
                        id.contains("embed") == path.contains("embed")
                    };
                    body["model"] = all.find(of_kind).expect("a model")["id"].clone();
                }
                let answer = send(&app, post("ann", path, &body)).await;
                assert_eq!(answer.status, StatusCode::OK, "{what}: {}", answer.body);
                let used = used(&app, "ann").await;
                assert_eq!(
                    (&used["requests"], &used["failed_requests"]),
                    (&json!(1), &json!(0)),
                    "{what}"
                );
                assert!(
                    used["prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 0),
                    "{what}: {used}"
                );
                let is_embedding = path.contains("embed");
                let has_said = used["completion_tokens"].as_u64().is_some_and(|tokens| tokens > 0);
                assert_eq!(has_said, !is_embedding, "{what}: {used}");
                // A server that is not asked for counts in a stream gives none.
                let is_passed = tools == "off" && path == "/v1/chat/completions"
                    || path == "/v1/completions" && kind != "web";
                if !(is_passed && stream) {
                    assert_eq!(used["estimated_tokens"], 0, "{what}: {used}");
                }
            }
        }
    }
}

/// Who leaves in the middle has used what had come, and only once.
#[tokio::test(start_paused = true)]
async fn who_leaves_is_entered_once() {
    let file = File::of(&[("ann", "")]);
    let slow = "emulate:slow=1000 Hi";
    for (kind, model) in [("web", "qwen3-max"), ("vllm", "Qwen/Qwen3-32B")] {
        let prompt = json!({"model": model, "prompt": slow, "stream": true});
        let mut messages = message();
        messages["model"] = model.into();
        messages["messages"][0]["content"] = slow.into();
        messages["stream"] = true.into();
        for (path, body) in [
            ("/v1/chat/completions", chat_of(model, slow, true)),
            ("/v1/messages", messages),
            ("/v1/responses", json!({"model": model, "input": slow, "stream": true})),
            ("/v1/completions", prompt.clone()),
            ("/api/chat", chat_of(model, slow, true)),
            ("/api/generate", prompt),
        ] {
            let what = format!("{path} over {kind}");
            let app = file.proxy(&["--linger", "0", "--emulate", kind]);
            let answer = app.clone().oneshot(post("ann", path, &body)).await.expect("infallible");
            assert_eq!(answer.status(), StatusCode::OK, "{what}");
            let mut body = answer.into_body();
            body.frame().await.expect("a frame").expect("bytes");
            assert_eq!(used(&app, "ann").await["requests"], 0, "{what}: it is not over");
            drop(body);
            let used = used(&app, "ann").await;
            assert_eq!(used["requests"], 1, "{what}: {used}");
            assert_eq!(used["estimated_tokens"], used["total_tokens"], "{what}: {used}");
            assert_ne!(used["total_tokens"], 0, "{what}: {used}");
        }
    }
}

/// What counts is the model that is meant, whatever it is called.
#[tokio::test(start_paused = true)]
async fn a_key_may_ask_for_its_models_alone() {
    let file = File::of(&[("ann", "models = [\"qwen3-max\", \"qwen3-coder-*\"]"), ("bob", "")]);
    let app = file.proxy(&["--alias", "fast=qwen3-max,qwen3-coder-x=qwen3.8-max"]);
    for (path, model, is_let) in [
        ("/v1/chat/completions", "qwen3-max", true),
        ("/v1/chat/completions", "fast", true),
        ("/v1/chat/completions", "qwen3-coder-plus", true),
        ("/v1/chat/completions", "qwen3.8-max", false),
        ("/v1/chat/completions", "qwen3-coder-x", false),
        ("/api/chat", "qwen3-max:latest", true),
        ("/api/chat", "qwen3.8-max:latest", false),
    ] {
        let answer = send(&app, post("ann", path, &chat_of(model, "Hi", false))).await;
        let expected = if is_let { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(answer.status, expected, "{path} {model}: {}", answer.body);
        if !is_let && path.starts_with("/v1") {
            assert_eq!(answer.body["error"]["code"], "model_not_allowed");
            assert_eq!(answer.body["error"]["param"], "model");
        }
    }
    let any =
        send(&app, post("bob", "/v1/chat/completions", &chat_of("qwen3.8-max", "Hi", false))).await;
    assert_eq!(any.status, StatusCode::OK);
    let refused = send(
        &app,
        post("ann", "/v1/messages", &{
            let mut message = message();
            message["model"] = "qwen3.8-max".into();
            message
        }),
    );
    assert_eq!(refused.await.body["error"]["type"], "permission_error");
    for (key, path, all, name, count) in [
        ("ann", "/v1/models", "data", "id", 2),
        ("ann", "/api/tags", "models", "name", 2),
        ("bob", "/v1/models", "data", "id", 8),
    ] {
        let list = get(&app, key, path).await.body;
        let names: Vec<_> =
            list[all].as_array().expect("a list").iter().map(|model| &model[name]).collect();
        assert_eq!(names.len(), count, "{key} {path}: {names:?}");
        assert_eq!(names[..2], ["qwen3-max", "qwen3-coder-plus"]);
    }
    let llama = file.proxy(&["--emulate", "llamacpp"]);
    let infill = json!({"input_prefix": "a", "input_suffix": "b"});
    assert_eq!(send(&llama, post("ann", "/infill", &infill)).await.status, StatusCode::FORBIDDEN);
    assert_eq!(send(&llama, post("bob", "/infill", &infill)).await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_good_no_more_is_told_why() {
    let file = File::of(&[
        ("old", "expires = \"2020-01-01\""),
        ("lost", "revoked = true"),
        ("good", "expires = \"2999-01-01\""),
    ]);
    let app = file.proxy(&[]);
    for (key, status, told) in [
        ("old", 401, "the API key has expired; ask for a new one"),
        ("lost", 401, "the API key was revoked; ask for a new one"),
        ("none", 401, "the API key is not one of this proxy's"),
        ("good", 200, ""),
    ] {
        let answer = get(&app, key, "/v1/models").await;
        assert_eq!(answer.status, status, "{key}");
        if status != 200 {
            assert_eq!(answer.body["error"]["message"], told);
        }
    }
    let nobody = File::of(&[]).proxy(&[]);
    assert_eq!(
        get(&nobody, "", "/v1/models").await.status,
        StatusCode::UNAUTHORIZED,
        "no key is none"
    );
}

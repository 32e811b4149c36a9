//! Ollama's API, over every upstream.

use super::*;

async fn send(app: &App, request: axum::extract::Request) -> (u16, String) {
    let response = app.clone().oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.into()).expect("UTF-8"))
}

async fn post(app: &App, path: &str, body: Value) -> (u16, String) {
    let request = Request::post(path).header("content-type", "application/json");
    send(app, request.body(AxumBody::from(body.to_string())).expect("a request")).await
}

pub(super) async fn post_json(app: &App, path: &str, body: Value) -> (u16, Value) {
    let (status, text) = post(app, path, body).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

async fn get_json(app: &App, path: &str) -> Value {
    let request = Request::get(path).body(AxumBody::empty()).expect("a request");
    let (status, text) = send(app, request).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// A model for chats, and one for embeddings.
pub(super) fn models(kind: Kind) -> (String, Option<String>) {
    let all = kind.models();
    let embeds = all.iter().find(|model| model.to_ascii_lowercase().contains("embed"));
    (all[0].clone(), embeds.cloned())
}

#[tokio::test(start_paused = true)]
async fn every_upstream_chats_and_answers_prompts() {
    for kind in Kind::ALL {
        let (model, _) = models(kind);
        let app = proxy(&["--emulate", kind.as_str(), "--alias", &format!("fast={model}")]);
        let names = [model.as_str(), "fast", "fast:latest"];
        // Its own names have tags already.
        let tagged = format!("{model}:latest");
        for name in names.into_iter().chain((kind != Kind::Ollama).then_some(tagged.as_str())) {
            let chat = json!({"model": name, "messages": [
                {"role": "user", "content": "emulate:say=Hi there"}]});
            let (status, text) = post(&app, "/api/chat", chat.clone()).await;
            assert_eq!(status, 200, "{kind} {name}: {text}");
            let lines = lines(&text);
            let said = lines.iter().filter_map(|line| line["message"]["content"].as_str());
            assert_eq!(said.collect::<String>(), "Hi there", "{kind}");
            assert!(lines.iter().all(|line| line["model"] == name), "{text}");
            let last = lines.last().expect("a line");
            assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("stop")));

            let mut whole = chat;
            whole["stream"] = json!(false);
            let (_, answer) = post_json(&app, "/api/chat", whole).await;
            assert_eq!(answer["message"]["content"], "Hi there", "{kind}: {answer}");
            let prompt = json!({"model": name, "prompt": "emulate:say=Hi there", "stream": false,
                "options": {"temperature": 0, "num_predict": 64}});
            let (_, answer) = post_json(&app, "/api/generate", prompt).await;
            assert_eq!(answer["response"], "Hi there", "{kind}: {answer}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn models_are_listed_and_shown() {
    for kind in Kind::ALL {
        let (model, embeds) = models(kind);
        let names = format!("fast={model}");
        let app = proxy(&["--emulate", kind.as_str(), "--alias", &names]);
        let tags = get_json(&app, "/api/tags").await;
        let tags = tags["models"].as_array().expect("a list");
        let tag = tags.iter().find(|tag| tag["name"] == *model).expect("it is listed");
        assert_eq!(tag["model"], *model);
        assert!(tag["modified_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{tag}");

        for (field, name) in [
            ("model", &model),
            ("name", &model),
            ("model", &"fast".to_owned()),
            ("model", &"fast:latest".to_owned()),
        ] {
            let (status, shown) = post_json(&app, "/api/show", json!({(field): name})).await;
            assert_eq!(status, 200, "{kind} {name}: {shown}");
            assert_eq!(shown["details"]["family"], "qwen");
            assert_eq!(shown["capabilities"], tag["capabilities"], "{kind}");
            let capabilities = shown["capabilities"].as_array().expect("a list");
            assert!(
                capabilities.contains(&json!("completion"))
                    && capabilities.contains(&json!("tools"))
            );
            if kind == Kind::Web {
                // What images hold is uploaded for the models that look at them.
                assert!(capabilities.contains(&json!("vision")));
                assert_eq!(capabilities.contains(&json!("thinking")), !model.contains("coder"));
                assert!(shown["model_info"]["qwen.context_length"].as_u64() > Some(100_000));
            }
        }
        if let Some(embeds) = embeds {
            let (_, shown) = post_json(&app, "/api/show", json!({"model": embeds})).await;
            assert_eq!(shown["capabilities"], json!(["embedding"]), "{kind}");
        }
        for (body, status, says) in [
            (json!({"model": "none"}), 404, "model 'none' not found"),
            (json!({"model": ""}), 400, "`model`"),
            (json!({}), 400, "`model`"),
            (json!([]), 400, "cannot be read"),
        ] {
            for path in ["/api/show", "/api/pull"] {
                let (found, answer) = post_json(&app, path, body.clone()).await;
                assert_eq!(found, status, "{path} {body}");
                assert!(
                    answer["error"].as_str().is_some_and(|error| error.contains(says)),
                    "{answer}"
                );
            }
        }
        let (status, text) = post(&app, "/api/pull", json!({"model": model})).await;
        assert_eq!((status, lines(&text).last()), (200, Some(&json!({"status": "success"}))));
        let (_, whole) =
            post_json(&app, "/api/pull", json!({"name": model, "stream": false})).await;
        assert_eq!(whole, json!({"status": "success"}));
        assert_eq!(get_json(&app, "/api/ps").await, json!({"models": []}));
        assert_eq!(get_json(&app, "/api/version").await, json!({"version": "0.9.0"}));
        for path in ["push", "create", "copy", "delete"] {
            let (status, answer) =
                post_json(&app, &format!("/api/{path}"), json!({"model": model})).await;
            assert_eq!(status, 501);
            assert!(answer["error"].as_str().is_some_and(|error| error.contains("the upstream's")));
        }
    }
}

/// Without tools in the prompt the web has none.
#[tokio::test(start_paused = true)]
async fn tools_are_told_of_where_they_can_be_offered() {
    for (tools, has) in [("off", false), ("openai", true), ("xml", true)] {
        let app = proxy(&["--tools", tools]);
        let (_, shown) = post_json(&app, "/api/show", json!({"model": "qwen3-max"})).await;
        let capabilities = shown["capabilities"].as_array().expect("a list");
        assert_eq!(capabilities.contains(&json!("tools")), has, "{tools}");
    }
}

/// DashScope's API that keeps chats goes on in them, whichever edge a history comes over.
#[tokio::test(start_paused = true)]
async fn an_api_that_keeps_chats_is_asked_too() {
    let app = proxy(&["--emulate", "dashscope", "--api", "responses"]);
    let mut history = Vec::new();
    for words in ["One.", "Two."] {
        history.push(json!({"role": "user", "content": format!("emulate:say={words}")}));
        let chat = json!({"model": "qwen-plus", "messages": history, "stream": false});
        let (status, answer) = post_json(&app, "/api/chat", chat).await;
        assert_eq!((status, &answer["message"]["content"]), (200, &json!(words)), "{answer}");
        history.push(answer["message"].clone());
    }
    let prompt = json!({"model": "qwen-plus", "prompt": "emulate:say=Three.", "stream": false});
    let (_, answer) = post_json(&app, "/api/generate", prompt).await;
    assert_eq!(answer["response"], "Three.", "{answer}");
}

/// One conversation, told over two APIs: it is one chat upstream, where only what is new is sent.
#[tokio::test(start_paused = true)]
async fn a_history_goes_on_whichever_edge_it_comes_over() {
    let emulator = Emulator::builder().build();
    let config = Options::of(&["--upstream", "web"]).resolve().expect("valid");
    let store = store(&config.sessions).expect("in memory");
    let upstream = &config.upstreams[0];
    let desk = desk(upstream, sign_in::of_emulator(emulator.clone()), None);
    let shared = Shared::new(&config, &store, &Shutdown::default());
    let draft = web(emulator.clone(), emulator.clone(), emulator.clone(), upstream, desk, &shared);
    let lanes = alone(draft, upstream);
    let app = over(lanes, &config, &store, &Shutdown::default(), &Gate::default()).0;
    let mut history = vec![json!({"role": "user", "content": "emulate:say=One."})];
    for (path, name) in [
        ("/v1/chat/completions", "qwen3-max"),
        ("/api/chat", "qwen3-max:latest"),
        ("/v1/chat/completions", "qwen3-max"),
    ] {
        let body = json!({"model": name, "messages": history, "stream": false});
        let (status, answer) = post_json(&app, path, body).await;
        assert_eq!(status, 200, "{answer}");
        let message = answer.get("message").unwrap_or(&answer["choices"][0]["message"]).clone();
        assert_eq!(message["content"], "One.");
        history.push(message);
        history.push(json!({"role": "user", "content": "emulate:say=One."}));
        assert_eq!(emulator.chats().len(), 1, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn texts_are_embedded_where_the_upstream_does() {
    for kind in Kind::ALL {
        let (model, embeds) = models(kind);
        let name = embeds.clone().unwrap_or(model);
        let app = proxy(&["--emulate", kind.as_str(), "--alias", &format!("embed={name}")]);
        for name in [name.as_str(), "embed:latest"] {
            let input = json!({"model": name, "input": ["a", "b"]});
            let (status, answer) = post_json(&app, "/api/embed", input).await;
            let prompt = json!({"model": name, "prompt": "a"});
            let (old_status, old) = post_json(&app, "/api/embeddings", prompt).await;
            assert_eq!(status, old_status);
            if embeds.is_some() {
                assert_eq!((status, &answer["model"]), (200, &json!(name)), "{kind}: {answer}");
                assert_eq!(answer["embeddings"].as_array().map(Vec::len), Some(2), "{kind}");
                assert_eq!(old["embedding"], answer["embeddings"][0], "{kind}");
            } else if kind == Kind::Web {
                assert_eq!(status, 501);
                assert!(answer["error"].as_str().is_some_and(|e| e.contains("no embeddings")));
                assert!(old["error"].is_string());
            } else {
                assert!(status >= 400 && answer["error"].is_string(), "{kind}: {status} {answer}");
            }
        }
    }
}

/// Errors: whoever says them, the form is the client's.
#[tokio::test(start_paused = true)]
async fn errors_are_texts() {
    let keyed = proxy(&["--api-key", "sk-ann"]);
    let chat =
        |text: &str| json!({"model": "qwen3-max", "messages": [{"role": "user", "content": text}]});
    let (status, answer) = post_json(&keyed, "/api/chat", chat("Hi")).await;
    assert_eq!(status, 401);
    assert!(answer["error"].is_string(), "{answer}");

    let app = proxy(&[]);
    for (path, body, status) in [
        ("/api/chat", chat("emulate:rate_limited"), 429),
        ("/api/chat", chat("emulate:challenge_html"), 503),
        ("/api/chat", json!({"model": "qwen3-max", "messages": 7}), 400),
        ("/api/generate", json!({"model": "qwen3-max", "prompt": "x", "suffix": "y"}), 400),
        ("/api/none", json!({}), 404),
    ] {
        let (found, answer) = post_json(&app, path, body).await;
        assert_eq!(found, status, "{path}: {answer}");
        assert_eq!(answer.as_object().map(serde_json::Map::len), Some(1), "{answer}");
        assert!(answer["error"].as_str().is_some_and(|error| !error.is_empty()), "{answer}");
    }
    let request = Request::put("/api/tags").body(AxumBody::empty()).expect("a request");
    let (status, text) = send(&app, request).await;
    assert_eq!(status, 405);
    assert!(serde_json::from_str::<Value>(&text).expect("JSON")["error"].is_string());
    // Behind the start it is the last line.
    let (status, text) = post(&app, "/api/chat", chat("emulate:cut=3")).await;
    assert_eq!(status, 200);
    assert!(lines(&text).last().expect("a line")["error"].is_string(), "{text}");
}

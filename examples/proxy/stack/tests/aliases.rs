//! Other names for models, at every edge.

use super::*;

/// What the emulator of `kind` has: a model for chat, and one for embeddings.
fn models(kind: Kind) -> (String, Option<String>) {
    let models = kind.models();
    let embeds = models.iter().find(|model| model.to_ascii_lowercase().contains("embed"));
    (models[0].clone(), embeds.cloned())
}

async fn text(app: &App, request: axum::extract::Request) -> (u16, String) {
    let response = app.clone().oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.into()).expect("UTF-8"))
}

fn post(path: &str, body: &Value) -> axum::extract::Request {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(AxumBody::from(body.to_string())).expect("a request")
}

fn get(path: &str) -> axum::extract::Request {
    Request::get(path).body(AxumBody::empty()).expect("a request")
}

/// The upstreams refuse models that they have not, so an answer is one of the model that is meant.
#[tokio::test(start_paused = true)]
async fn every_edge_takes_another_name_and_answers_with_it() {
    for kind in Kind::ALL {
        let (model, embeds) = models(kind);
        let names = format!(
            "claude-*haiku*={model},claude-*={model},embed={}",
            embeds.as_deref().unwrap_or("none")
        );
        let app = proxy(&["--emulate", kind.as_str(), "--alias", &names]);
        for asked in ["claude-haiku-4-5", "claude-opus-4-5", &*model] {
            let mut chat = json!({"model": asked, "messages": [
                {"role": "user", "content": "emulate:say=Hi"}]});
            for path in ["/v1/chat/completions", "/xml/v1/chat/completions"] {
                let answer = ask(app.clone(), path, chat.clone()).await;
                assert_eq!(answer["model"], asked, "{kind} {path}: {answer}");
            }
            chat["stream"] = true.into();
            let (status, events) = text(&app, post("/v1/chat/completions", &chat)).await;
            let said = format!("\"model\":\"{asked}\"");
            let chunks = events.matches("\"object\"").count();
            assert_eq!(status, 200, "{kind}: {events}");
            assert_eq!(events.matches(&said).count(), chunks, "{kind}: {events}");
            let prompt = json!({"model": asked, "prompt": "emulate:say=Hi"});
            let answer = ask(app.clone(), "/v1/completions", prompt).await;
            assert_eq!(answer["model"], asked, "{kind}: {answer}");
        }
        let unknown = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]});
        let (status, answer) = text(&app, post("/v1/chat/completions", &unknown)).await;
        // These two have one model, and do not look at its name.
        let any = matches!(kind, Kind::SgLang | Kind::LlamaCpp);
        assert_eq!(status < 400, any, "{kind}: {answer}");
        if embeds.is_some() {
            let input = json!({"model": "embed", "input": "Hi"});
            let answer = ask(app.clone(), "/v1/embeddings", input).await;
            assert_eq!(answer["model"], "embed", "{kind}: {answer}");
        }
    }
}

/// What no layer looks at goes to the model as well; what comes back is the upstream's own.
#[tokio::test(start_paused = true)]
async fn bytes_are_for_the_model_that_is_meant() {
    for kind in [Kind::Vllm, Kind::DashScope, Kind::Ollama] {
        let (model, _) = models(kind);
        let names = format!("fast={model}");
        for (tools, more) in [("off", json!({})), ("openai", json!({"logprobs": true}))] {
            let app = proxy(&["--emulate", kind.as_str(), "--alias", &names, "--tools", tools]);
            let mut body = json!({"model": "fast", "stream": true, "messages": [
                {"role": "user", "content": "emulate:say=Hi"}]});
            body.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
            let (status, answer) = text(&app, post("/v1/chat/completions", &body)).await;
            assert_eq!(status, 200, "{kind} {tools}: {answer}");
            assert!(answer.contains("Hi"), "{kind} {tools}: {answer}");
        }
        // What cannot be read is for the upstream to refuse.
        let app = proxy(&["--emulate", kind.as_str(), "--alias", &names, "--tools", "off"]);
        for body in [r#"{"model":"fast""#, r#"{"model":7}"#, ""] {
            let request = Request::post("/v1/chat/completions").body(AxumBody::from(body));
            let (status, answer) = text(&app, request.expect("a request")).await;
            assert_eq!(status, 400, "{kind}: {body} {answer}");
        }
    }
}

/// It is the same conversation, by whichever name the model is asked for.
#[tokio::test]
async fn a_conversation_goes_on_under_another_name() {
    let app = proxy(&["--alias", "fast=qwen3-max"]);
    let mut history = vec![json!({"role": "user", "content": "emulate:say=Hello."})];
    let mut chats = Vec::new();
    for model in ["fast", "qwen3-max", "fast"] {
        let body = json!({"model": model, "messages": history});
        let answer = ask(app.clone(), "/v1/chat/completions", body).await;
        assert_eq!(answer["model"], model);
        history.push(answer["choices"][0]["message"].clone());
        history.push(json!({"role": "user", "content": "emulate:say=Fine."}));
        chats.push(answer["qwen_chat_id"].as_str().expect("a chat").to_owned());
    }
    assert!(chats.iter().all(|chat| *chat == chats[0]), "{chats:?}");
}

/// In OpenAI's form what is listed, by its name what is not.
#[tokio::test]
async fn aliases_are_listed_where_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    let toml = "[[alias]]\nname = \"fast\"\nmodel = \"qwen3-max\"\nlist = true\n\
                [[alias]]\nname = \"gone\"\nmodel = \"qwen-unheard-of\"\nlist = true\n\
                [[alias]]\nname = \"claude-*\"\nmodel = \"qwen3-max\"\n";
    std::fs::write(&file, toml).expect("written");
    let app = proxy(&["--config", file.to_str().expect("UTF-8")]);
    let list: Value = serde_json::from_str(&text(&app, get("/v1/models")).await.1).expect("JSON");
    let ids: Vec<_> = list["data"].as_array().expect("a list").iter().map(|m| &m["id"]).collect();
    assert_eq!(ids.iter().filter(|id| **id == "fast").count(), 1, "{ids:?}");
    assert!(ids.iter().all(|id| **id != "gone" && **id != "claude-*"), "{ids:?}");
    for name in ["fast", "claude-opus-4-5", "qwen3-max"] {
        let (status, model) = text(&app, get(&format!("/v1/models/{name}"))).await;
        let model: Value = serde_json::from_str(&model).expect("JSON");
        assert_eq!((status, &model["id"]), (200, &json!(name)));
        assert_eq!(model["info"]["id"], "qwen3-max", "what is known of the model is there");
    }
    for name in ["gone", "gpt-5"] {
        let (status, error) = text(&app, get(&format!("/v1/models/{name}"))).await;
        assert_eq!(status, 404, "{error}");
        assert!(error.contains(&format!("`{name}`")), "{error}");
    }
}

/// Claude Code shows no model whose name does not begin with `claude`.
#[tokio::test]
async fn models_are_listed_for_claude_code() {
    let for_claude = |path: &str| {
        let request = Request::get(path).header("anthropic-version", "2023-06-01");
        request.body(AxumBody::empty()).expect("a request")
    };
    let list = async |app: &App, path: &str| -> Value {
        let (status, list) = text(app, for_claude(path)).await;
        assert_eq!(status, 200, "{list}");
        serde_json::from_str(&list).expect("JSON")
    };
    let plain = proxy(&[]);
    let asked = list(&plain, "/v1/models?limit=1000").await;
    let first = &asked["data"][0];
    assert_eq!((&first["type"], &first["id"]), (&json!("model"), &json!("qwen3-max")));
    assert_eq!((&asked["has_more"], &asked["first_id"]), (&json!(false), &json!("qwen3-max")));
    assert_eq!(asked["last_id"], "qwen3.8-max");
    let created = first["created_at"].as_str().expect("a time");
    assert!(created.starts_with("202") && created.ends_with('Z'), "{created}");
    assert_eq!(list(&plain, "/v1/models/qwen3-max").await, *first);
    assert!(text(&plain, get("/v1/models")).await.1.starts_with(r#"{"object":"list""#));

    // What people write for all that Claude Code asks for takes none of the names of models.
    let names = ["--claude-models", "--alias", "claude-*=qwen3-max"];
    let app = proxy(&names);
    let asked = list(&app, "/v1/models").await;
    assert_eq!(asked["first_id"], "claude-qwen3-max");
    let all = asked["data"].as_array().expect("a list");
    assert!(all.iter().all(|model| model["id"].as_str().expect("text").starts_with("claude-qwen")));
    let body = |model: &str| {
        json!({"model": model, "messages": [
        {"role": "user", "content": "emulate:say=Hi"}]})
    };
    for model in ["claude-qwen3.8-max", "claude-opus-4-5", "qwen3.8-max"] {
        assert_eq!(list(&app, &format!("/v1/models/{model}")).await["id"], model);
        let answer = ask(app.clone(), "/v1/chat/completions", body(model)).await;
        assert_eq!(answer["model"], model, "{answer}");
    }
    // To others they are what they are.
    assert!(!text(&app, get("/v1/models")).await.1.contains("claude-"));

    let (status, error) = text(&app, for_claude("/v1/models/gpt-5")).await;
    assert_eq!(status, 404);
    let error: Value = serde_json::from_str(&error).expect("JSON");
    assert_eq!(
        (&error["type"], &error["error"]["type"]),
        (&json!("error"), &json!("not_found_error"))
    );

    // The limits are those of the catalogue; one without them says nothing.
    let (model, _) = models(Kind::Vllm);
    let vllm = proxy(&["--emulate", "vllm", "--claude-models"]);
    let listed = list(&vllm, &format!("/v1/models/claude-{model}")).await;
    assert_eq!((&listed["max_input_tokens"], listed.get("max_tokens")), (&json!(32_768), None));
    let ollama = proxy(&["--emulate", "ollama"]);
    assert!(list(&ollama, "/v1/models").await["data"][0].get("max_input_tokens").is_none());
}

//! Virtual models: names that say how a model is asked, at every edge.

use super::*;

async fn send(app: &App, request: axum::extract::Request) -> (u16, Value) {
    let response = app.clone().oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn get(app: &App, path: &str) -> (u16, Value) {
    send(app, Request::get(path).body(AxumBody::empty()).expect("a request")).await
}

async fn post(app: &App, path: &str, body: &Value) -> (u16, Value) {
    let request = Request::post(path).header("content-type", "application/json");
    send(app, request.body(AxumBody::from(body.to_string())).expect("a request")).await
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "emulate:say=Hi"}]})
}

async fn ids(app: &App, path: &str) -> Vec<String> {
    let (status, list) = get(app, path).await;
    assert_eq!(status, 200, "{list}");
    let ids = list["data"].as_array().expect("a list").iter();
    ids.map(|model| model["id"].as_str().expect("text").to_owned()).collect()
}

/// The emulator thinks where it is told to, searches in a chat of that type, and draws in one of
/// that.
#[tokio::test(start_paused = true)]
async fn a_suffix_says_how_the_model_is_asked() {
    let app = proxy(&[]);
    for (suffix, thinks, sources, draws) in [
        ("", false, false, false),
        ("-thinking", true, false, false),
        ("-no-thinking", false, false, false),
        ("-search", false, true, false),
        ("-thinking-search", true, true, false),
        ("-deep-research", false, true, false),
        ("-image", false, false, true),
    ] {
        let model = format!("qwen3-max{suffix}");
        let (status, answer) = post(&app, "/v1/chat/completions", &chat(&model)).await;
        assert_eq!((status, answer["model"].as_str()), (200, Some(&*model)), "{answer}");
        let message = &answer["choices"][0]["message"];
        let text = message["content"].as_str().expect("text");
        assert_eq!(message["reasoning_content"].is_string(), thinks, "{model}: {answer}");
        assert_eq!(message["annotations"].is_array(), sources, "{model}: {answer}");
        assert_eq!(text.starts_with("![image](https://"), draws, "{model}: {answer}");
    }
}

/// One edge after the other knows them and answers with the client's word.
#[tokio::test(start_paused = true)]
async fn every_edge_takes_a_virtual_model() {
    for kind in Kind::ALL {
        let base = kind.models()[0].clone();
        let model = format!("{base}-thinking");
        let app = proxy(&["--emulate", kind.as_str()]);
        for path in ["/v1/chat/completions", "/xml/v1/chat/completions", "/v1/messages"] {
            let mut body = chat(&model);
            body["max_tokens"] = 100.into();
            let (status, answer) = post(&app, path, &body).await;
            assert_eq!(
                (status, answer["model"].as_str()),
                (200, Some(&*model)),
                "{kind}: {answer}"
            );
        }
        let body = json!({"model": model, "input": "emulate:say=Hi"});
        let (status, answer) = post(&app, "/v1/responses", &body).await;
        assert_eq!((status, answer["model"].as_str()), (200, Some(&*model)), "{kind}: {answer}");
        let mut body = chat(&model);
        body["stream"] = false.into();
        let (status, answer) = post(&app, "/api/chat", &body).await;
        assert_eq!((status, answer["model"].as_str()), (200, Some(&*model)), "{kind}: {answer}");
    }
}

/// On every kind there is the pair for thinking; what an upstream has not is no name there.
#[tokio::test(start_paused = true)]
async fn an_upstream_has_the_suffixes_that_mean_something_there() {
    for kind in Kind::ALL {
        let app = proxy(&["--emulate", kind.as_str(), "--virtual-models", "list"]);
        let base = kind.models()[0].clone();
        let listed = ids(&app, "/v1/models").await;
        for (suffix, is_there) in [
            ("-thinking", true),
            ("-no-thinking", true),
            ("-search", matches!(kind, Kind::Web | Kind::DashScope)),
            ("-deep-research", kind == Kind::Web),
            ("-image", kind == Kind::Web),
        ] {
            let name = format!("{base}{suffix}");
            assert_eq!(listed.contains(&name), is_there, "{kind}: {name}");
            let status = if is_there { 200 } else { 404 };
            assert_eq!(get(&app, &format!("/v1/models/{name}")).await.0, status, "{kind}: {name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn they_are_listed_to_whoever_asks() {
    let app = proxy(&[]);
    let plain = ids(&app, "/v1/models").await;
    assert!(plain.iter().all(|id| !id.ends_with("-search")), "{plain:?}");
    let all = ids(&app, "/v1/models?virtual=true").await;
    assert!(all.len() > plain.len() && all.contains(&"qwen3-max-search".to_owned()), "{all:?}");
    // The catalogue of the emulator says that this one does not think.
    assert!(!all.contains(&"qwen3-coder-plus-thinking".to_owned()), "{all:?}");
    let (status, model) = get(&app, "/v1/models/qwen3-max-search").await;
    assert_eq!(
        (status, &model["id"], &model["base_model"]),
        (200, &json!("qwen3-max-search"), &json!("qwen3-max"))
    );
    let error = get(&app, "/v1/models/qwen3-coder-plus-thinking").await;
    assert_eq!(error.0, 404, "{error:?}");

    let off = proxy(&["--virtual-models", "off"]);
    assert_eq!(ids(&off, "/v1/models?virtual=true").await, plain);
    assert_eq!(get(&off, "/v1/models/qwen3-max-search").await.0, 404);
    assert_eq!(post(&off, "/v1/chat/completions", &chat("qwen3-max-search")).await.0, 404);
}

/// What is no chat is asked for without tools, and an error says which field is too much.
#[tokio::test(start_paused = true)]
async fn a_picture_takes_no_functions() {
    let app = proxy(&[]);
    let mut body = with_a_tool();
    body["model"] = "qwen3-max-image".into();
    let (status, error) = post(&app, "/v1/chat/completions", &body).await;
    assert_eq!((status, error["error"]["param"].as_str()), (400, Some("tools")), "{error}");
    let (status, error) =
        post(&app, "/v1/chat/completions", &chat("qwen3-coder-plus-thinking")).await;
    assert_eq!(status, 404, "{error}");
    let message = error["error"]["message"].as_str().expect("words");
    assert!(message.contains("`qwen3-coder-plus` does not think"), "{message}");
}

/// An alias may lead to one, and a conversation goes on under the plain name.
#[tokio::test]
async fn an_alias_leads_to_a_virtual_model_and_the_chat_is_the_same() {
    let app = proxy(&["--alias", "finder=qwen3-max-search"]);
    let mut history = vec![json!({"role": "user", "content": "emulate:say=Hello."})];
    let mut chats = Vec::new();
    for (model, searches) in [("finder", true), ("qwen3-max", false), ("qwen3-max-search", true)] {
        let body = json!({"model": model, "messages": history});
        let answer = ask(app.clone(), "/v1/chat/completions", body).await;
        let message = &answer["choices"][0]["message"];
        assert_eq!(message["annotations"].is_array(), searches, "{model}: {answer}");
        history.push(message.clone());
        history.push(json!({"role": "user", "content": "emulate:say=Fine."}));
        chats.push(answer["qwen_chat_id"].as_str().expect("a chat").to_owned());
    }
    assert!(chats.iter().all(|chat| *chat == chats[0]), "{chats:?}");
}

/// Of several upstreams the one is asked that has the model in front.
#[tokio::test(start_paused = true)]
async fn the_model_in_front_says_who_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    let toml = "[[upstream]]\nname = \"page\"\nemulate = \"web\"\n\
                [[upstream]]\nname = \"api\"\nemulate = \"dashscope\"\nmodels = [\"qwen-plus\"]\n";
    std::fs::write(&file, toml).expect("written");
    let app = proxy(&["--config", file.to_str().expect("UTF-8")]);
    for (model, upstream) in [("qwen-plus-thinking", "api"), ("qwen3-max-thinking", "page")] {
        let request = Request::post("/v1/chat/completions")
            .header("content-type", "application/json")
            .body(AxumBody::from(chat(model).to_string()))
            .expect("a request");
        let response = app.clone().oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), 200, "{model}");
        assert_eq!(response.headers()["x-qwen-upstream"], upstream, "{model}");
    }
}

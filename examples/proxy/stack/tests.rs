use axum::{Router, body::Body as AxumBody};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{super::config::Options, *};

/// The proxy with these options.
fn proxy(args: &[&str]) -> App {
    let config = Options::of(args).resolve().expect("valid");
    let store = store(&config.sessions).expect("in memory");
    app(&config, &store, &Shutdown::default(), &Gate::default())
        .expect("there is nothing to be wrong")
        .0
}

/// The only lane: `draft` on its own.
fn alone(draft: Draft<'_>, upstream: &UpstreamConfig) -> Lanes {
    Lanes::new(vec![draft.lane(upstream, &Shutdown::default(), &[])])
}

async fn ask(app: App, path: &str, body: Value) -> Value {
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(AxumBody::from(body.to_string())).expect("a request");
    let response = app.oneshot(request).await.expect("infallible");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}

/// A call as a model writes it.
const CALL: &str =
    r#"<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>"#;

fn with_a_tool() -> Value {
    json!({
        "model": "qwen3-coder-plus",
        "messages": [{"role": "user", "content": format!("emulate:say={CALL}")}],
        "tools": [{"type": "function", "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                "required": ["city"]},
        }}],
    })
}

#[tokio::test(start_paused = true)]
async fn a_call_in_the_text_becomes_a_tool_call() {
    let answer = ask(proxy(&["--tools", "openai"]), "/v1/chat/completions", with_a_tool()).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    let call = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "get_weather");
    let arguments = call["arguments"].as_str().expect("a string");
    let arguments: Value = serde_json::from_str(arguments).expect("JSON");
    assert_eq!(arguments, json!({"city": "Paris"}));
}

#[tokio::test(start_paused = true)]
async fn without_a_tool_layer_it_stays_text() {
    let answer = ask(proxy(&["--tools", "off"]), "/v1/chat/completions", with_a_tool()).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "stop", "{answer}");
    assert_eq!(choice["message"]["content"], CALL);
    assert!(choice["message"].get("tool_calls").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_of_the_xml_protocol_gets_one_call() {
    let hello = json!({"model": "qwen3-max", "messages": [
        {"role": "user", "content": "emulate:say=All done."}]});
    for (tools, path) in [
        ("xml", "/v1/chat/completions"),
        ("openai", "/xml/v1/chat/completions"),
        ("off", "/xml/v1/chat/completions"),
    ] {
        let answer = ask(proxy(&["--tools", tools]), path, hello.clone()).await;
        let text = answer["choices"][0]["message"]["content"].as_str().expect("a text");
        assert_eq!(text.matches("<attempt_completion>").count(), 1, "{tools:?}: {text}");
        assert!(text.contains("All done."), "{text}");
    }
    let answer = ask(proxy(&["--tools", "openai"]), "/v1/chat/completions", hello).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "All done.");
}

/// Two turns of one conversation; the chats that they were answered in.
async fn two_turns(app: &App, key: &[(&str, &str)]) -> [String; 2] {
    let mut history = Vec::new();
    let mut chats = Vec::new();
    for question in ["emulate:say=Hello.", "emulate:say=Fine."] {
        history.push(json!({"role": "user", "content": question}));
        let mut request =
            Request::post("/v1/chat/completions").header("content-type", "application/json");
        for (name, value) in key {
            request = request.header(*name, *value);
        }
        let body = json!({"model": "qwen3-max", "messages": history}).to_string();
        let request = request.body(AxumBody::from(body)).expect("a request");
        let response = app.clone().oneshot(request).await.expect("infallible");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        history.push(answer["choices"][0]["message"].clone());
        chats
            .push(answer["qwen_chat_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned());
    }
    chats.try_into().expect("two")
}

/// Whose conversations go on: those of clients that can be told from others.
#[tokio::test]
async fn a_conversation_goes_on_where_somebody_has_it() {
    let (ann, bob) = ([("x-api-key", "sk-ann")], [("x-api-key", "sk-bob")]);
    let anonymous: &[(&str, &str)] = &[];
    let keys = ["--api-key", "sk-ann,sk-bob"];
    for (args, client, goes_on) in [
        (&["--listen", "0.0.0.0:0", keys[0], keys[1]][..], &ann[..], true),
        (&[keys[0], keys[1]], &ann, true),
        // The demo of the README.
        (&[], anonymous, true),
        (&[], &ann, true),
        (&["--listen", "0.0.0.0:0"], &ann, true),
        (&["--listen", "0.0.0.0:0"], anonymous, false),
    ] {
        let app = proxy(args);
        let [first, second] = two_turns(&app, client).await;
        assert_eq!(first == second, goes_on, "{args:?}, {client:?}");
        // The same words of somebody else.
        let [others, _] = two_turns(&app, &bob).await;
        assert!(others != first && others != second, "{args:?}, {client:?}");
    }
    // A placeholder of an SDK beside the key makes nobody another, and no two the same.
    let app = proxy(&keys);
    let sdk = ("authorization", "Bearer placeholder");
    let [of_ann, _] = two_turns(&app, &[sdk, ann[0]]).await;
    let [of_bob, _] = two_turns(&app, &[sdk, bob[0]]).await;
    assert_ne!(of_ann, of_bob);
}

mod accounts;
mod aliases;
mod autocomplete;
mod beside;
mod echo;
mod files;
mod headers;
mod kept;
mod large;
mod limits;
mod media;
mod ollama;
mod patience;
mod variants;
mod who;

/// Serves what an API answers on loopback, and gives its base URL.
async fn api() -> String {
    let app = Router::new()
        .route("/v1/embeddings", axum::routing::post(async |body: axum::Json<Value>| {
            let inputs = body["input"].as_array().expect("a list").len();
            assert!(inputs <= 10, "DashScope takes no more");
            let data: Vec<_> = (0..inputs)
                .rev()
                .map(|index| json!({"index": index, "embedding": [0.5, -2.0]}))
                .collect();
            axum::Json(json!({"data": data, "usage": {"prompt_tokens": inputs, "total_tokens": inputs}}))
        }))
        .route("/v1/models", axum::routing::get(async || {
            axum::Json(json!({"object": "list", "data": [
                {"id": "qwen3-32b", "object": "model", "created": 7, "owned_by": "vllm",
                    "max_model_len": 40960}]}))
        }))
        .route("/v1/chat/completions", axum::routing::post(async |body: String| {
            let said = if body.contains("\"odd\"") { "as it came" } else { "typed" };
            let event = json!({"choices": [{"delta": {"content": said}, "finish_reason": "stop"}]});
            ([("content-type", "text/event-stream")], format!("data: {event}\r\n\r\ndata: [DONE]\n\n"))
        }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/v1")
}

#[tokio::test]
async fn an_api_has_models_embeddings_and_completions() {
    let api = api().await;
    let proxy = proxy(&["--base-url", &api, "--server", "dashscope", "--upstream-key", "sk-demo"]);
    let request = Request::get("/v1/models/qwen3-32b").body(AxumBody::empty()).expect("a request");
    let response = proxy.clone().oneshot(request).await.expect("infallible");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let model: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((&model["owned_by"], &model["max_model_len"]), (&json!("vllm"), &json!(40960)));

    let inputs: Vec<_> = (0..23).map(|n| n.to_string()).collect();
    let embeddings =
        json!({"model": "text-embedding-v4", "input": inputs, "encoding_format": "base64"});
    let answer = ask(proxy.clone(), "/v1/embeddings", embeddings).await;
    assert_eq!(answer["data"].as_array().expect("a list").len(), 23, "{answer}");
    assert_eq!(
        answer["data"][22],
        json!({"object": "embedding", "index": 22, "embedding": "AAAAPwAAAMA="})
    );
    assert_eq!(answer["usage"]["total_tokens"], 23);

    let prompt = json!({"model": "qwen3-32b", "prompt": "Once"});
    let answer = ask(proxy, "/v1/completions", prompt).await;
    assert_eq!(
        (&answer["object"], &answer["choices"][0]["text"]),
        (&json!("text_completion"), &json!("typed"))
    );
}

#[tokio::test]
async fn without_layers_bytes_pass() {
    let api = api().await;
    let proxy = proxy(&["--base-url", &api, "--tools", "off"]);
    let request = Request::post("/v1/chat/completions").body(AxumBody::from(r#"{"odd"  : 1}"#));
    let response = proxy.oneshot(request.expect("a request")).await.expect("infallible");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let said = String::from_utf8_lossy(&body).into_owned();
    assert!(said.contains("as it came") && said.ends_with("\n\ndata: [DONE]\n\n"), "{said:?}");
    assert!(!said.contains('\r'), "events leave well-formed: {said:?}");
}

#[tokio::test]
async fn chat_qwen_ai_has_completions_and_no_embeddings() {
    let prompt = json!({"model": "qwen3-max", "prompt": "emulate:say=Hi"});
    let answer = ask(proxy(&[]), "/v1/completions", prompt).await;
    assert_eq!(answer["choices"][0]["text"], "Hi", "{answer}");
    let input = json!({"model": "qwen3-max", "input": "Hi"});
    let answer = ask(proxy(&[]), "/v1/embeddings", input).await;
    assert_eq!(answer["error"]["code"], "embeddings_not_supported", "{answer}");
}

#[tokio::test(start_paused = true)]
async fn every_kind_that_is_emulated_answers_and_calls_tools() {
    for kind in Kind::ALL {
        let proxy = proxy(&["--emulate", kind.as_str()]);
        let request = Request::get("/v1/models").body(AxumBody::empty()).expect("a request");
        let response = proxy.clone().oneshot(request).await.expect("infallible");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let list: Value = serde_json::from_slice(&body).expect("JSON");
        let model = list["data"][0]["id"].as_str().expect("it has a model").to_owned();

        let mut hello = json!({"model": model, "messages": [
            {"role": "user", "content": "emulate:say=All done."}]});
        let answer = ask(proxy.clone(), "/v1/chat/completions", hello.clone()).await;
        assert_eq!(answer["choices"][0]["message"]["content"], "All done.", "{kind:?}: {answer}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{kind:?}: {answer}");

        hello["tools"] = with_a_tool()["tools"].clone();
        hello["messages"][0]["content"] = format!("emulate:say={CALL}").into();
        let answer = ask(proxy, "/v1/chat/completions", hello).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{kind:?}: {answer}");
        assert_eq!(choice["message"]["tool_calls"][0]["function"]["name"], "get_weather");
    }
}

/// llama.cpp's page reads `timings`, which the server sends with the counts that the layers ask for.
#[tokio::test(start_paused = true)]
async fn timings_of_llama_cpp_reach_a_client_that_wants_no_counts() {
    for year in ["2025", "2026"] {
        for counts in [true, false] {
            let app = proxy(&["--emulate", "llamacpp"]);
            let body = json!({
                "model": "qwen3-32b-q4_k_m", "stream": true,
                "stream_options": {"include_usage": counts},
                "messages": [{"role": "user", "content": format!("emulate:style={year} emulate:say=Hi")}],
            });
            let request = Request::post("/v1/chat/completions");
            let request = request.body(AxumBody::from(body.to_string())).expect("a request");
            let response = app.oneshot(request).await.expect("infallible");
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            let text = String::from_utf8(body.into()).expect("UTF-8");
            let chunks: Vec<Value> = text
                .lines()
                .filter_map(|line| line.strip_prefix("data: "))
                .filter(|data| *data != "[DONE]")
                .map(|data| serde_json::from_str(data).expect("JSON"))
                .collect();
            let with: Vec<_> = chunks.iter().filter(|chunk| chunk["timings"].is_object()).collect();
            let [with] = &*with else { panic!("{year} {counts}: {text}") };
            let apart = counts && year == "2026";
            assert_eq!(with["choices"] == json!([]), apart, "{year} {counts}: {text}");
            if !apart {
                assert_eq!(with["choices"][0]["finish_reason"], "stop", "{year} {counts}: {text}");
            }
            assert_eq!(text.contains("\"usage\":{"), counts, "{year}: {text}");
        }
    }
}

#[cfg(feature = "redis")]
#[test]
fn a_redis_that_cannot_be_is_refused_in_words_that_help() {
    let refused = |url: &str| {
        let config = Options::of(&["--redis", url]).resolve().expect("valid");
        store(&config.sessions).map(drop).expect_err("no Redis")
    };
    let error = refused("http://ann:s3cret@localhost");
    assert_eq!(error, "--redis: it is not a URL such as redis://127.0.0.1:6379/0");
    // The crate's own features have none.
    let error = refused("rediss://ann:s3cret@localhost");
    assert!(error.contains("redis/tokio-rustls-comp") && !error.contains("s3cret"), "{error}");
}

#[test]
fn every_emulated_api_has_its_own_adapter() {
    let mut servers = Vec::new();
    for kind in Kind::ALL {
        match server(kind) {
            None => assert_eq!(kind, Kind::Web),
            // `generic` would do, but would repair less than is emulated.
            Some(server) => {
                assert_ne!(server, Server::Generic, "{kind}");
                assert!(!servers.contains(&server), "{kind}");
                servers.push(server);
            }
        }
    }
}

/// Nobody is ready for requests who is about to end, or whom no upstream answers.
#[tokio::test(start_paused = true)]
async fn ready_is_who_can_answer() {
    let upstream = "http://127.0.0.1:1/v1";
    let args = ["--upstream", "compatible", "--base-url", upstream, "--retries", "0"];
    let config = Options::of(&args).resolve().expect("valid");
    let store = store(&config.sessions).expect("in memory");
    let shutdown = Shutdown::default();
    let app =
        app(&config, &store, &shutdown, &Gate::default()).expect("there is nothing to be wrong").0;
    let is_ready = async || {
        let request = Request::get("/ready").body(AxumBody::empty()).expect("a request");
        let response = app.clone().oneshot(request).await.expect("infallible");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice::<Value>(&body).expect("JSON"))
    };
    let there = json!({"name": "compatible", "ready": true});
    assert_eq!(is_ready().await, (200, json!({"status": "ready", "upstreams": [there]})));
    let hello = json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]});
    for _ in 0..5 {
        let answer = ask(app.clone(), "/v1/chat/completions", hello.clone()).await;
        assert!(answer.get("error").is_some(), "{answer}");
    }
    let gone = json!({"name": "compatible", "ready": false, "reason": "out_of_reach"});
    let report = json!({"status": "not_ready", "reason": "no_upstream", "upstreams": [gone]});
    assert_eq!(is_ready().await, (503, report));
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    assert_eq!(is_ready().await.0, 200);
    shutdown.drain();
    let report = json!({"status": "not_ready", "reason": "draining", "upstreams": [there]});
    assert_eq!(is_ready().await, (503, report));
}

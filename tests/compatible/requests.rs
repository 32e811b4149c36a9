//! Requests: what goes out to which server.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    CredentialHeaders, FullBody,
    chat::{
        ChatRequest, Content, FunctionTool, History, Json, Message, Part, PartKind,
        ReasoningEffort, Role, Tool, ToolCall, ToolChoice,
    },
    qwen::compatible::{CompatibleLayer, Server},
};

use crate::upstream::{DONE, Upstream, events, finish, request};

async fn sent(server: Server, request: ChatRequest) -> (String, HeaderMap, Value) {
    let upstream = Upstream::stream(&(events(&[finish("stop")]) + DONE));
    let seen = Arc::clone(&upstream.seen);
    upstream.answer(CompatibleLayer::new(server), request).await.expect("complete");
    let seen = seen.lock().expect("not poisoned").take();
    seen.expect("called")
}

fn full_request() -> ChatRequest {
    let mut request = request();
    let mut call = Message::empty(Role::Assistant);
    call.tool_calls = vec![ToolCall::new("c", "f", "{\"a\":1}")];
    let mut result = Message::new(Role::Tool, "42");
    result.tool_call_id = Some("c".into());
    let mut image = Message::empty(Role::User);
    image.content = Some(Content::Parts(vec![
        Part::new(PartKind::Text("see".into())),
        Part::new(PartKind::Image { url: "https://example.org/i.png".into(), detail: None }),
    ]));
    request.history = History::new(vec![Message::new(Role::Developer, "d"), call, result, image]);
    // What a chat has seen goes out too: these servers keep none.
    request.history.mark_seen(2);
    let schema = json!({"type": "object", "additionalProperties": false,
        "properties": {"additionalProperties": {"type": "string"}}});
    request.tools = Arc::new(vec![Tool::Function(FunctionTool::new("f", schema))]);
    request.tool_choice = Some(ToolChoice::Function("f".into()));
    request.sampling.temperature = Some(0.7);
    request.sampling.stop = vec!["END".into()];
    request.sampling.max_tokens = Some(100_000);
    let extra =
        json!({"enable_search": true, "logit_bias": {"5": 1}, "chat_template_kwargs": {"x": 1}});
    request.extra = Json::from(extra).as_fields().expect("an object");
    request
}

#[tokio::test]
async fn a_request_goes_out_as_the_client_meant_it() {
    let (path, headers, body) = sent(Server::Generic, full_request()).await;
    assert_eq!(path, "/chat/completions");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(
        body,
        json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "d"},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
                {"role": "tool", "content": "42", "tool_call_id": "c"},
                {"role": "user", "content": [{"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "https://example.org/i.png"}}]},
            ],
            "stream": true,
            "stream_options": {"include_usage": true},
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {
                "type": "object", "additionalProperties": false,
                "properties": {"additionalProperties": {"type": "string"}}}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "max_tokens": 100_000,
            "temperature": 0.7,
            "stop": ["END"],
            "chat_template_kwargs": {"x": 1},
            "enable_search": true,
            "logit_bias": {"5": 1},
        })
    );
}

/// The portal's quirks.
#[tokio::test]
async fn the_portal_is_stricter() {
    let mut request = full_request();
    request.model = "qwen3.6-plus".into();
    let (_, headers, body) = sent(Server::Portal, request).await;
    assert_eq!(headers["x-dashscope-authtype"], "qwen-oauth");
    assert_eq!(body["model"], "coder-model");
    assert_eq!(body["max_tokens"], 65_536);
    assert_eq!(
        body["messages"][0]["content"],
        json!([{"type": "text", "text": "d", "cache_control": {"type": "ephemeral"}}])
    );
    let parameters = &body["tools"][0]["function"]["parameters"];
    assert!(parameters.get("additionalProperties").is_none());
    assert!(parameters["properties"].get("additionalProperties").is_some(), "a property's name");

    let mut plain =
        ChatRequest::new("m", vec![Message::new(Role::User, "a"), Message::new(Role::User, "b")]);
    plain.tools = Arc::default();
    let (_, _, body) = sent(Server::Portal, plain).await;
    let roles: Vec<_> =
        body["messages"].as_array().expect("messages").iter().map(|m| &m["role"]).collect();
    assert_eq!(roles, ["system", "user"], "a system message, and neighbours of one role merged");
    assert_eq!(body["messages"][1]["content"], "a\n\nb");
    assert!(body.get("tools").is_none());
}

/// The portal is told that qwen-code asks, whatever the client calls itself; a credential may
/// bring another name.
#[tokio::test]
async fn the_portals_headers() {
    let ask = |server: Server, agent: Option<HeaderValue>, own: Option<HeaderValue>| async move {
        let upstream = Upstream::stream(&(events(&[finish("stop")]) + DONE));
        let seen = Arc::clone(&upstream.seen);
        let service =
            ServiceBuilder::new().layer(CompatibleLayer::new(server)).service(upstream.service());
        let mut chat = Request::new(request());
        chat.headers_mut().extend(agent.map(|agent| (header::USER_AGENT, agent)));
        chat.body_mut().credential =
            own.map(|agent| CredentialHeaders::new([(header::USER_AGENT, agent)]));
        drop(service.oneshot(chat).await.expect("committed"));
        let (_, headers, _) = seen.lock().expect("not poisoned").take().expect("called");
        headers
    };
    let the_clients = HeaderValue::from_static("OpenAI/Python 2.0");
    let mut marked = the_clients.clone();
    marked.set_sensitive(true);
    for agent in [None, Some(the_clients.clone()), Some(marked)] {
        let headers = ask(Server::Portal, agent, None).await;
        let agent = headers["user-agent"].to_str().expect("ASCII");
        let platform = agent.strip_prefix("QwenCode/").and_then(|rest| rest.split_once(" ("));
        let (version, platform) = platform.expect("a version and a platform");
        assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{agent}");
        assert!(platform.ends_with(')') && platform.contains("; "), "{agent}");
        assert_eq!(headers["x-dashscope-useragent"], agent);
        assert_eq!(headers["x-dashscope-cachecontrol"], "enable");
        assert_eq!(headers["x-dashscope-authtype"], "qwen-oauth");
    }
    let the_credentials = HeaderValue::from_static("QwenCode/9.9.9 (a; b)");
    let headers =
        ask(Server::Portal, Some(the_clients.clone()), Some(the_credentials.clone())).await;
    assert_eq!(headers["user-agent"], the_credentials);
    assert_eq!(headers["x-dashscope-useragent"], the_credentials);
    // Nobody else is told so, or what the client calls itself.
    let headers = ask(Server::DashScope, Some(the_clients.clone()), None).await;
    assert!(!headers.contains_key("user-agent"));
    let headers = ask(Server::DashScope, Some(the_clients), Some(the_credentials.clone())).await;
    assert_eq!(headers["user-agent"], the_credentials);
    assert!(!headers.contains_key("x-dashscope-useragent"));
}

/// The portal: `cache_control` ends a system message of parts too, unless the client has placed it.
#[tokio::test]
async fn a_system_message_of_parts_is_cached() {
    let text = |text: &str| Part::new(PartKind::Text(text.into()));
    let marked = |mut part: Part, kind: &str| {
        part.cache_control = Some(json!({ "type": kind }).into());
        part
    };
    let other = |whole: Value| {
        Part::new(PartKind::Other(Json::from(whole).as_fields().expect("an object")))
    };
    for (parts, expected) in [
        (
            vec![text("a"), text("b")],
            json!([{"type": "text", "text": "a"},
                {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}]),
        ),
        (
            vec![marked(text("a"), "own"), text("b")],
            json!([{"type": "text", "text": "a", "cache_control": {"type": "own"}},
                {"type": "text", "text": "b"}]),
        ),
        // A part of an unknown kind holds its mark itself.
        (
            vec![other(json!({"type": "x", "cache_control": {"type": "own"}})), text("b")],
            json!([{"type": "x", "cache_control": {"type": "own"}}, {"type": "text", "text": "b"}]),
        ),
        (
            vec![text("a"), other(json!({"type": "x"}))],
            json!([{"type": "text", "text": "a"},
                {"type": "x", "cache_control": {"type": "ephemeral"}}]),
        ),
        (vec![], json!([])),
    ] {
        let mut system = Message::empty(Role::Developer);
        system.content = Some(Content::Parts(parts));
        let request = ChatRequest::new("m", vec![system, Message::new(Role::User, "x")]);
        let (_, _, body) = sent(Server::Portal, request).await;
        assert_eq!(body["messages"][0]["content"], expected);
        assert_eq!(body["messages"][1]["content"], "x");
    }
}

/// The portal: what is merged is text; thinking that a client sends back belongs to its own
/// message.
#[tokio::test]
async fn messages_with_thinking_are_not_merged() {
    let mut thought = Message::new(Role::Assistant, "b");
    thought.reasoning = Some("hm".into());
    let plain = |text: &str| Message::new(Role::Assistant, text);
    for (messages, contents) in [
        (vec![plain("a"), thought.clone(), plain("c")], vec!["a", "b", "c"]),
        (vec![thought.clone(), thought], vec!["b", "b"]),
        (vec![plain("a"), plain("c")], vec!["a\n\nc"]),
    ] {
        let count = messages.iter().filter(|message| message.reasoning.is_some()).count();
        let asked: Vec<_> = [Message::new(Role::User, "x")].into_iter().chain(messages).collect();
        let (_, _, body) = sent(Server::Portal, ChatRequest::new("m", asked)).await;
        let messages = &body["messages"].as_array().expect("messages")[2..];
        let sent: Vec<_> = messages.iter().map(|message| &message["content"]).collect();
        assert_eq!(sent, contents);
        let thinks = messages.iter().filter(|message| message["reasoning_content"] == "hm");
        assert_eq!(thinks.count(), count);
    }
}

/// How each kind is told to think or not.
#[tokio::test]
async fn thinking_per_server() {
    let asked = |effort: Option<ReasoningEffort>, enabled: Option<bool>, budget: Option<i64>| {
        let mut request = request();
        request.reasoning.effort = effort;
        request.reasoning.enabled = enabled;
        request.reasoning.budget = budget;
        request
    };
    let low = || asked(Some(ReasoningEffort::Low), None, None);
    let off = || asked(None, Some(false), None);
    for (server, request, expected) in [
        (Server::DashScope, low(), json!({"enable_thinking": true, "thinking_budget": 1024})),
        (Server::DashScope, off(), json!({"enable_thinking": false})),
        (
            Server::DashScope,
            asked(None, None, Some(9)),
            json!({"enable_thinking": true, "thinking_budget": 9}),
        ),
        (Server::Vllm, off(), json!({"chat_template_kwargs": {"enable_thinking": false}})),
        (
            Server::SgLang,
            asked(None, Some(true), None),
            json!({"chat_template_kwargs": {"enable_thinking": true}}),
        ),
        (Server::LlamaCpp, off(), json!({"chat_template_kwargs": {"enable_thinking": false}})),
        (
            Server::Portal,
            asked(Some(ReasoningEffort::Medium), None, None),
            json!({"enable_thinking": true, "thinking_budget": 8192}),
        ),
        (
            Server::Portal,
            asked(Some(ReasoningEffort::High), None, None),
            json!({"enable_thinking": true}),
        ),
        (
            Server::DashScope,
            asked(Some(ReasoningEffort::None), None, Some(9)),
            json!({"enable_thinking": false}),
        ),
        (Server::Ollama, off(), json!({"reasoning_effort": "none"})),
        (Server::Ollama, low(), json!({"reasoning_effort": "low"})),
        (Server::Generic, low(), json!({"reasoning_effort": "low"})),
        (Server::Generic, asked(None, None, None), json!({})),
    ] {
        let (_, _, mut body) = sent(server, request).await;
        let body = body.as_object_mut().expect("an object");
        for key in ["model", "messages", "stream", "stream_options"] {
            body.remove(key);
        }
        assert_eq!(Value::Object(body.clone()), expected, "{server:?}");
    }
}

#[tokio::test]
async fn only_credentials_travel_with_a_request() {
    let (names, noted) = (Arc::new(Mutex::new(Vec::new())), events(&[finish("stop")]));
    let service = {
        let names = Arc::clone(&names);
        service_fn(move |request: Request<FullBody>| {
            *names.lock().expect("not poisoned") =
                request.headers().keys().map(ToString::to_string).collect();
            let body = FullBody::new(Bytes::from(noted.clone()));
            let response =
                Response::builder().header("content-type", "text/event-stream").body(body);
            std::future::ready(Ok::<_, Infallible>(response.expect("a response")))
        })
    };
    let mut chat = Request::new(request());
    for name in ["authorization", "cookie", "x-client", "x-request-id"] {
        chat.headers_mut().insert(name, "demo".parse().expect("a value"));
    }
    let service = ServiceBuilder::new().layer(CompatibleLayer::default()).service(service);
    drop(service.oneshot(chat).await.expect("committed"));
    let mut names = names.lock().expect("not poisoned").clone();
    names.sort_unstable();
    assert_eq!(names, ["accept", "authorization", "content-type", "cookie", "x-request-id"]);
}

/// The portal's other names and its limits; other limits are added by option, for any server.
#[tokio::test]
async fn names_and_limits() {
    let asked = |model: &str| {
        let mut request = request();
        request.model = model.into();
        request.sampling.max_tokens = Some(1_000_000);
        request
    };
    for (layer, model, sent_model, tokens) in [
        (CompatibleLayer::new(Server::Portal), "qwen3.5-plus", "coder-model", 65_536),
        (CompatibleLayer::new(Server::Portal), "qwen3.6-plus", "coder-model", 65_536),
        (CompatibleLayer::new(Server::Portal), "qwen3-coder-plus", "qwen3-coder-plus", 65_536),
        (CompatibleLayer::new(Server::Portal), "vision-model", "vision-model", 32_768),
        (CompatibleLayer::new(Server::Portal), "other", "other", 1_000_000),
        (CompatibleLayer::new(Server::DashScope), "qwen3.6-plus", "qwen3.6-plus", 1_000_000),
        (
            CompatibleLayer::new(Server::Portal).max_tokens("coder-model", 10),
            "qwen3.6-plus",
            "coder-model",
            10,
        ),
        (CompatibleLayer::new(Server::Vllm).max_tokens("c", 8).max_tokens("c", 7), "c", "c", 7),
    ] {
        let upstream = Upstream::stream(&(events(&[finish("stop")]) + DONE));
        let seen = Arc::clone(&upstream.seen);
        upstream.answer(layer, asked(model)).await.expect("complete");
        let (_, _, body) = seen.lock().expect("not poisoned").take().expect("called");
        assert_eq!((&body["model"], &body["max_tokens"]), (&json!(sent_model), &json!(tokens)));
    }
    // Who does not ask for a number is not given one.
    let (_, _, body) =
        sent(Server::Portal, ChatRequest::new("vision-model", vec![Message::new(Role::User, "x")]))
            .await;
    assert!(body.get("max_tokens").is_none());
}

/// The fields of DashScope pass as they came, at the top and in parts; and so does what the
/// vocabulary names and DashScope reads differently.
#[tokio::test]
async fn extra_fields_pass() {
    let extra = json!({
        "enable_search": true,
        "search_options": {"forced_search": true, "search_strategy": "max", "enable_source": true},
        "preserve_thinking": true, "vl_high_resolution_images": true,
        "enable_code_interpreter": true, "translation_options": {"target_lang": "English"},
        "modalities": ["text"], "logprobs": true, "top_logprobs": 2, "metadata": {"sessionId": "s"},
    });
    let mut request = request();
    request.extra = Json::from(&extra).as_fields().expect("an object");
    request.sampling.top_k = Some(20);
    request.sampling.repetition_penalty = Some(1.05);
    request.sampling.seed = Some(7);
    request.parallel_tool_calls = Some(true);
    request.tools = Arc::new(vec![Tool::Function(FunctionTool::without_parameters("f"))]);
    let mut part = Part::new(PartKind::Text("long".into()));
    part.cache_control = Some(json!({"type": "ephemeral"}).into());
    let mut message = Message::empty(Role::System);
    message.content = Some(Content::Parts(vec![part]));
    request.history = History::new(vec![message, Message::new(Role::User, "x")]);
    let (_, _, body) = sent(Server::DashScope, request).await;
    for (name, value) in extra.as_object().expect("an object") {
        assert_eq!(&body[name], value, "{name}");
    }
    for (name, value) in [
        ("top_k", json!(20)),
        ("repetition_penalty", json!(1.05)),
        ("seed", json!(7)),
        ("parallel_tool_calls", json!(true)),
    ] {
        assert_eq!(body[name], value, "{name}");
    }
    assert_eq!(
        body["messages"][0]["content"],
        json!([{"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}])
    );
    // DashScope: whole calls of older models with thinking on are refused, and cut at 300 s.
    assert_eq!(
        (&body["stream"], &body["stream_options"]["include_usage"]),
        (&json!(true), &json!(true))
    );
}

/// A body as a client sends it, and what `server` gets of it.
async fn through(server: Server, more: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    let decoded = tower_qwen::openai::decode(&Bytes::from(body.to_string())).expect("valid");
    sent(server, decoded.chat).await.2
}

/// The bytes that `server` gets of a body as a client sends it.
async fn bytes_through(server: Server, body: &str) -> String {
    let chat = tower_qwen::openai::decode(&Bytes::from(body.to_owned())).expect("valid").chat;
    let sent = Arc::new(Mutex::new(None));
    let service = {
        let sent = Arc::clone(&sent);
        service_fn(move |request: Request<FullBody>| {
            let mut body = request.into_body();
            let frame = std::pin::pin!(http_body_util::BodyExt::frame(&mut body)).now_or_never();
            let frame = frame.flatten().expect("in one piece").expect("infallible");
            *sent.lock().expect("not poisoned") = frame.into_data().ok();
            let body = FullBody::new(Bytes::from(events(&[finish("stop")])));
            let response =
                Response::builder().header("content-type", "text/event-stream").body(body);
            std::future::ready(Ok::<_, Infallible>(response.expect("a response")))
        })
    };
    let service = ServiceBuilder::new().layer(CompatibleLayer::new(server)).service(service);
    drop(service.oneshot(Request::new(chat)).await.expect("committed"));
    let bytes = sent.lock().expect("not poisoned").take().expect("called");
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Keys stay in their order, numbers and white space as they were written: what a client signs,
/// caches or counts by is what the server reads.
#[tokio::test]
async fn json_passes_byte_for_byte() {
    let schema = r#"{"z": 1, "type":"object", "a": {"maximum": 1e400, "default": 12345678901234567890123, "d": 1.0E5}}"#;
    let body = format!(
        r#"{{"vendor":{schema},"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"x","cache_control":{schema},"vendor":{schema}}},{{ "z":1,"type": "vendor" }}],"vendor":{schema}}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}},"cache_control":{schema}}},{{"type" :"vendor"}}],"tool_choice":{{"type":"vendor","x" :{schema}}},"response_format":{{"type":"json_schema","json_schema":{schema}}},"stream_options":{{"vendor":{schema},"include_usage":false}},"chat_template_kwargs":{schema}}}"#
    );
    assert_eq!(
        bytes_through(Server::Generic, &body).await,
        format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"x","cache_control":{schema},"vendor":{schema}}},{{ "z":1,"type": "vendor" }}],"vendor":{schema}}}],"stream":true,"stream_options":{{"include_usage":true,"vendor":{schema}}},"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}},"cache_control":{schema}}},{{"type" :"vendor"}}],"tool_choice":{{"type":"vendor","x" :{schema}}},"response_format":{{"type":"json_schema","json_schema":{schema}}},"chat_template_kwargs":{schema},"vendor":{schema}}}"#
        )
    );
    // What the portal refuses is left out; the rest keeps its order and its spelling.
    let portal = bytes_through(
        Server::Portal,
        r#"{"model":"m","messages":[{"role":"system","content":"s"}],"tools":[{"type":"function","function":{"name":"f","parameters":
            {"z":{"minimum":1.0E5,"additionalProperties":false},"a":1}}}]}"#,
    )
    .await;
    assert!(portal.contains(r#""parameters":{"z":{"minimum":1.0E5},"a":1}"#), "{portal}");
}

/// What a layer or a client says of `stream_options` and `chat_template_kwargs` is merged with
/// what is written here, and written once.
#[tokio::test]
async fn options_that_are_written_here_are_merged() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"enable_thinking":true,
        "stream_options":{"include_usage":false,"a":1},"chat_template_kwargs":{"enable_thinking":false,"b":2}}"#;
    let sent = bytes_through(Server::Vllm, body).await;
    assert!(sent.contains(r#""stream_options":{"include_usage":true,"a":1}"#), "{sent}");
    assert!(sent.contains(r#""chat_template_kwargs":{"enable_thinking":true,"b":2}"#), "{sent}");
    assert_eq!(sent.matches("stream_options").count(), 1, "{sent}");
    assert_eq!(sent.matches("enable_thinking").count(), 1, "{sent}");

    let mut request = request();
    request.extra = [("stream_options", json!("odd")), ("vendor", json!(1))].into_iter().collect();
    let (_, _, body) = self::sent(Server::Generic, request).await;
    assert_eq!(body["stream_options"], json!({"include_usage": true}));
    assert_eq!(body["vendor"], 1);
}

/// These servers know no search among tools.
#[tokio::test]
async fn a_found_tool_is_told_by_its_name() {
    let mut result = Message::empty(Role::Tool);
    result.tool_call_id = Some("c".into());
    result.content =
        Some(Content::Parts(vec![Part::new(PartKind::ToolReference { name: "f".into() })]));
    let request = ChatRequest::new("m", vec![result]);
    let (_, _, body) = sent(Server::Generic, request).await;
    assert_eq!(body["messages"][0]["content"], json!([{"type": "text", "text": "f"}]));
}

/// qwen-code marks the last tool, beside its function.
#[tokio::test]
async fn the_cache_control_of_a_tool_passes() {
    let tools = json!([{
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object"}, "inside": 1},
        "cache_control": {"type": "ephemeral"},
    }]);
    for server in [Server::Portal, Server::DashScope, Server::Generic] {
        let body = through(server, json!({ "tools": tools })).await;
        assert_eq!(body["tools"], tools, "{server:?}");
    }
}

/// Sound and documents in the forms of each server.
#[tokio::test]
async fn sound_and_documents_have_the_form_of_the_server() {
    let audio =
        |data: &str| json!({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}});
    let audio_url = |url: &str| json!({"type": "audio_url", "audio_url": {"url": url}});
    let file_url = json!({"type": "file_url", "file_url": {"url": "https://example.org/a.pdf"}});
    let sound = "https://example.org/a.wav";
    let no_format = json!({"type": "input_audio", "input_audio": {"data": sound}});
    for (server, part, sent) in [
        (Server::Generic, audio("QUFB"), audio("QUFB")),
        (Server::DashScope, audio("QUFB"), audio("data:;base64,QUFB")),
        (Server::DashScope, audio("data:;base64,QUFB"), audio("data:;base64,QUFB")),
        (Server::DashScope, audio(sound), audio(sound)),
        (Server::Vllm, audio_url(sound), audio_url(sound)),
        (
            Server::Vllm,
            audio_url("data:audio/wav;base64,QUFB"),
            audio_url("data:audio/wav;base64,QUFB"),
        ),
        (Server::DashScope, audio_url(sound), no_format),
        (Server::Vllm, file_url.clone(), file_url),
    ] {
        let messages = json!([{"role": "user", "content": [part]}]);
        let body = through(server, json!({"messages": messages})).await;
        assert_eq!(body["messages"][0]["content"][0], sent, "{server:?}");
    }
}

/// Unknown fields pass wherever they stand, and so do types that only some servers know.
#[tokio::test]
async fn unknown_fields_pass_in_every_object() {
    let messages = json!([
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://example.org/i", "detail": "low",
                "min_pixels": 3136, "uuid": "u"}, "beside": 1},
            {"type": "video_url", "video_url": {"url": "https://example.org/v", "fps": 2, "detail": "high"}},
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav", "rate": 8}},
            {"type": "file", "file": {"file_data": "data:,x", "filename": "x", "file_url": "u"}},
            {"type": "input_image", "image_url": "https://example.org/j", "text": "t"},
        ]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c", "type": "function",
                "function": {"name": "f", "arguments": "{}", "thought_signature": "s"}, "beside": 1}]},
        {"role": "tool", "content": "1", "tool_call_id": "c"},
    ]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let body = through(Server::Generic, json!({"messages": messages, "tools": tools})).await;
    assert_eq!(body["messages"], messages);

    for choice in [
        json!({"type": "function", "function": {"name": "f", "strict": true}}),
        json!({"type": "function", "function": {"name": "f"}, "disable_parallel": true}),
    ] {
        let body = through(Server::Generic, json!({"tools": tools, "tool_choice": choice})).await;
        assert_eq!(body["tool_choice"], choice);
    }
    for format in [
        json!({"type": "text"}),
        json!({"type": "json_object"}),
        json!({"type": "json_object", "schema": {"type": "object"}}),
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}),
        json!({"type": "json_schema", "json_schema": {"name": "n"}, "vendor": 1}),
        json!({"type": "structural_tag", "structures": [], "triggers": ["<tag>"]}),
        json!({"type": "grammar", "grammar": "root ::= \"a\""}),
    ] {
        let body = through(Server::SgLang, json!({"response_format": format})).await;
        assert_eq!(body["response_format"], format);
    }
}

/// What is no number of tokens has a meaning of its own at most servers: "none", "all", "any".
#[tokio::test]
async fn numbers_below_zero_pass() {
    let numbers = json!({"top_k": -1, "max_tokens": -1, "thinking_budget": -1});
    for server in [Server::Generic, Server::LmStudio] {
        let body = through(server, numbers.clone()).await;
        for (name, value) in numbers.as_object().expect("an object") {
            assert_eq!(&body[name], value, "{server:?} {name}");
        }
    }
    for server in [Server::DashScope, Server::Portal] {
        let body = through(server, numbers.clone()).await;
        assert_eq!(
            (body.get("thinking_budget"), &body["enable_thinking"]),
            (None, &json!(true)),
            "{server:?} refuses a budget without an end"
        );
    }
    for seed in ["-1", "18446744073709551615", "9223372036854775808"] {
        let seed: Value = serde_json::from_str(seed).expect("a number");
        let body = through(Server::Vllm, json!({ "seed": seed })).await;
        assert_eq!(body["seed"], seed);
    }
    // The portal: the limits are for those who ask for more.
    let ask = |tokens: i64| json!({"model": "vision-model", "max_completion_tokens": tokens});
    for (tokens, sent) in [(-1, -1), (0, 0), (9, 9), (40_000, 32_768)] {
        let body = through(Server::Portal, ask(tokens)).await;
        assert_eq!(body["max_tokens"], sent);
        assert!(body.get("max_completion_tokens").is_none());
    }
}

/// What the token endpoint calls `resource_url` is the base URL, and says which kind it is.
#[test]
fn the_base_url_of_a_login() {
    use tower_qwen::auth::Credential;

    for (resource_url, base_url, server) in [
        (None, "https://portal.qwen.ai/v1", Server::Portal),
        (Some("portal.qwen.ai"), "https://portal.qwen.ai/v1", Server::Portal),
        (Some("https://portal.qwen.ai/v1/"), "https://portal.qwen.ai/v1", Server::Portal),
        (
            Some("dashscope.aliyuncs.com/compatible-mode"),
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
            Server::DashScope,
        ),
        (Some("http://127.0.0.1:9"), "http://127.0.0.1:9/v1", Server::Generic),
    ] {
        let mut credential = Credential::oauth("at", None, None).expect("a token");
        if let Some(url) = resource_url {
            credential = credential.with_resource_url(url);
        }
        assert_eq!(credential.base_url().as_deref(), Some(base_url));
        assert_eq!(Server::from_base_url(base_url), server);
    }
}

/// The hosts of DashScope, workspaces and coding plans included; names go there and back.
#[test]
fn hosts_and_names() {
    for host in [
        "dashscope.aliyuncs.com",
        "dashscope-intl.aliyuncs.com",
        "dashscope-us.aliyuncs.com",
        "cn-hongkong.dashscope.aliyuncs.com",
        "ws-1.cn-beijing.maas.aliyuncs.com",
        "coding.dashscope.aliyuncs.com",
        "DASHSCOPE.aliyuncs.com.",
    ] {
        assert_eq!(Server::from_host(host), Server::DashScope, "{host}");
    }
    assert_eq!(Server::from_base_url("https://Portal.qwen.ai:443/v1"), Server::Portal);
    for other in ["notaliyuncs.com", "aliyuncs.com.example.org", "localhost", "", "://"] {
        assert_eq!(Server::from_host(other), Server::Generic, "{other}");
        assert_eq!(Server::from_base_url(other), Server::Generic, "{other}");
    }
    for name in
        ["generic", "dashscope", "portal", "vllm", "sglang", "ollama", "llamacpp", "lmstudio"]
    {
        assert_eq!(Server::from_name(name).map(Server::name), Some(name));
    }
    assert_eq!(Server::from_name("vLLM"), None);
}

/// History: under which names each kind gets old thinking, and which name of a limit it takes.
#[tokio::test]
async fn each_kind_gets_the_names_that_it_reads() {
    for (server, names, takes_new_name) in [
        (Server::Generic, &["reasoning_content", "reasoning"][..], true),
        (Server::DashScope, &["reasoning_content"], false),
        (Server::Portal, &["reasoning_content"], false),
        (Server::Vllm, &["reasoning_content", "reasoning"], true),
        (Server::SgLang, &["reasoning_content"], true),
        (Server::Ollama, &["reasoning"], false),
        (Server::LlamaCpp, &["reasoning_content"], false),
        (Server::LmStudio, &["reasoning_content", "reasoning"], false),
    ] {
        for written in ["reasoning_content", "reasoning"] {
            for limit in ["max_tokens", "max_completion_tokens"] {
                let body = json!({"model": "m", limit: 9, "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b", written: "hm"},
                    {"role": "user", "content": "c"},
                ]});
                let decoded = tower_qwen::openai::decode(&body.to_string().into());
                let (_, _, body) = sent(server, decoded.expect("valid").chat).await;
                let messages = body["messages"].as_array().expect("messages");
                let answer = messages.iter().find(|message| message["role"] == "assistant");
                let answer = answer.expect("the answer");
                for name in ["reasoning_content", "reasoning"] {
                    let is_sent = answer.get(name) == Some(&json!("hm"));
                    assert_eq!(is_sent, names.contains(&name), "{server:?}: {answer}");
                }
                let named = if takes_new_name { limit } else { "max_tokens" };
                for name in ["max_tokens", "max_completion_tokens"] {
                    assert_eq!(body.get(name).is_some(), name == named, "{server:?}: {limit}");
                }
                assert_eq!(body[named], 9);
            }
        }
    }
}

const KINDS: [Server; 8] = [
    Server::Generic,
    Server::DashScope,
    Server::Portal,
    Server::Vllm,
    Server::SgLang,
    Server::Ollama,
    Server::LlamaCpp,
    Server::LmStudio,
];

/// History: of a client that sends both names for old thinking, the one that says something counts.
#[tokio::test]
async fn the_name_that_says_something_counts() {
    for server in KINDS {
        let name = match server {
            Server::Ollama => "reasoning",
            _ => "reasoning_content",
        };
        for (fields, sent) in [
            (json!({"reasoning_content": "", "reasoning": "R"}), json!("R")),
            (json!({"reasoning_content": null, "reasoning": "R"}), json!("R")),
            (json!({"reasoning_content": "C", "reasoning": ""}), json!("C")),
            (json!({"reasoning_content": "C", "reasoning": null}), json!("C")),
            (json!({"reasoning_content": "C", "reasoning": "R"}), json!("C")),
            (json!({"reasoning_content": "", "reasoning": ""}), json!("")),
            (json!({"reasoning_content": ""}), json!("")),
            (json!({}), Value::Null),
        ] {
            let mut answer = fields.clone();
            answer["role"] = "assistant".into();
            answer["content"] = "x".into();
            let user = json!({"role": "user", "content": "a"});
            let body = through(server, json!({"messages": [user, answer, user]})).await;
            let messages = body["messages"].as_array().expect("messages");
            let answer = messages.iter().find(|message| message["role"] == "assistant");
            assert_eq!(answer.expect("the answer")[name], sent, "{server:?}: {fields}");
        }
    }
}

/// History: calls without ids and results that name a function reach every server as calls and
/// results that belong together.
#[tokio::test]
async fn the_old_form_of_calls_goes_up_in_the_new_one() {
    let user = json!({"role": "user", "content": "a"});
    let old = |name: &str| {
        json!({"role": "assistant", "content": null,
        "function_call": {"name": name, "arguments": "{}"}})
    };
    let result = |name: &str| json!({"role": "function", "name": name, "content": "sunny"});
    let call = |id: &str, name: &str| {
        json!({"id": id, "type": "function",
        "function": {"name": name, "arguments": "{}"}})
    };
    let calls = |calls: Value| json!({"role": "assistant", "content": null, "tool_calls": calls});
    for (kind, messages, pairs) in [
        ("one", vec![old("f"), result("f")], vec![("f", "f")]),
        (
            "two turns",
            vec![old("f"), result("f"), old("g"), result("g")],
            vec![("f", "f"), ("g", "g")],
        ),
        ("another name", vec![old("f"), result("g")], vec![("f", "g")]),
        (
            "no name",
            vec![old("f"), json!({"role": "function", "content": "sunny"})],
            vec![("f", "-")],
        ),
        (
            "new calls without ids, and results by name",
            vec![calls(json!([call("", "f"), call("", "g")])), result("g"), result("f")],
            vec![("g", "g"), ("f", "f")],
        ),
        (
            "new calls without ids, and results without",
            vec![
                calls(json!([call("", "f"), call("", "g")])),
                json!({"role": "tool", "content": "sunny"}),
                json!({"role": "tool", "content": "sunny"}),
            ],
            vec![("f", "-"), ("g", "-")],
        ),
        (
            "new calls, and results without",
            vec![
                calls(json!([call("a", "f"), call("b", "g")])),
                json!({"role": "tool", "content": "sunny"}),
                json!({"role": "tool", "tool_call_id": "", "content": "sunny"}),
            ],
            vec![("f", "-"), ("g", "-")],
        ),
        (
            "new calls, and results in the old form",
            vec![calls(json!([call("a", "f"), call("b", "f")])), result("f"), result("f")],
            vec![("f", "f"), ("f", "f")],
        ),
        (
            "with a late system message",
            vec![old("f"), result("f"), json!({"role": "system", "content": "late"})],
            vec![("f", "f")],
        ),
    ] {
        for server in KINDS {
            let messages = [vec![user.clone()], messages.clone(), vec![user.clone()]].concat();
            let body = through(server, json!({ "messages": messages })).await;
            let sent = body["messages"].as_array().expect("messages");
            assert!(sent.iter().all(|message| message["role"] != "function"), "{kind}: {body}");
            let calls: Vec<&Value> = sent
                .iter()
                .filter_map(|message| message["tool_calls"].as_array())
                .flatten()
                .collect();
            let mut ids: Vec<&str> =
                calls.iter().map(|call| call["id"].as_str().expect("an id")).collect();
            let results: Vec<&Value> =
                sent.iter().filter(|message| message["role"] == "tool").collect();
            let found: Vec<(&str, &str)> = results
                .iter()
                .map(|result| {
                    assert_eq!(result["content"], "sunny", "{kind}");
                    let call = calls.iter().find(|call| call["id"] == result["tool_call_id"]);
                    let name = call.expect("its call")["function"]["name"].as_str();
                    (name.expect("a name"), result["name"].as_str().unwrap_or("-"))
                })
                .collect();
            assert_eq!(found, pairs, "{kind}, {server:?}");
            ids.sort_unstable();
            ids.dedup();
            assert!(ids.len() == calls.len() && !ids.contains(&""), "{kind}: {ids:?}");
        }
    }
    // What has its ids already, and a result that answers nothing.
    let answered = json!({"role": "tool", "tool_call_id": "a", "content": "x"});
    let whole = json!([user, calls(json!([call("a", "f")])), answered]);
    let body = through(Server::Vllm, json!({ "messages": whole })).await;
    assert_eq!(body["messages"][2], answered);
    let body = through(Server::Vllm, json!({"messages": [user, result("f")]})).await;
    let sent = &body["messages"][1];
    assert_eq!((&sent["role"], &sent["tool_call_id"]), (&json!("tool"), &json!("call_1")));
}

/// Fields: both names of one limit, as the client wrote them where the server knows both, each within
/// what the model can give.
#[tokio::test]
async fn both_limits_reach_a_server_that_knows_both() {
    for (server, takes_both) in [
        (Server::Generic, true),
        (Server::DashScope, false),
        (Server::Portal, false),
        (Server::Vllm, true),
        (Server::SgLang, true),
        (Server::Ollama, false),
        (Server::LlamaCpp, false),
        (Server::LmStudio, false),
    ] {
        for (completion, older) in [(7, 9), (9, 7), (-1, 9), (9, -1)] {
            let body =
                through(server, json!({"max_completion_tokens": completion, "max_tokens": older}))
                    .await;
            let sent = (body.get("max_completion_tokens").cloned(), body["max_tokens"].clone());
            let wanted = match takes_both {
                true => (Some(json!(completion)), json!(older)),
                false => (None, json!(completion)),
            };
            assert_eq!(sent, wanted, "{server:?}");
        }
    }
}

/// Fields: what is said of calls goes to the server as the client wrote it, with tools and without.
#[tokio::test]
async fn what_is_said_of_calls_reaches_the_server_without_tools() {
    for server in [
        Server::Generic,
        Server::DashScope,
        Server::Portal,
        Server::Vllm,
        Server::SgLang,
        Server::Ollama,
        Server::LlamaCpp,
        Server::LmStudio,
    ] {
        for tools in [json!([]), json!([{"type": "function", "function": {"name": "f"}}])] {
            for (field, value) in [
                ("tool_choice", json!("auto")),
                ("tool_choice", json!("none")),
                ("tool_choice", json!("required")),
                ("tool_choice", json!({"type": "vendor", "x": 1})),
                ("parallel_tool_calls", json!(true)),
                ("parallel_tool_calls", json!(false)),
            ] {
                let body = through(server, json!({"tools": tools, field: value})).await;
                assert_eq!(body[field], value, "{server:?}, {tools}: {field}");
                let has_tools = tools.as_array().is_some_and(|tools| !tools.is_empty());
                assert_eq!(body.get("tools").is_some(), has_tools, "{server:?}");
            }
            let body = through(server, json!({"tools": tools})).await;
            for field in ["tool_choice", "parallel_tool_calls"] {
                assert!(body.get(field).is_none(), "{server:?}, {tools}: {field}");
            }
        }
    }
}

/// History: one system message, and that first, where a template may refuse another; no word is
/// lost, and what stood before a later one stays as it was.
#[tokio::test]
async fn a_system_message_that_is_not_first_goes_into_the_users_turn() {
    let call = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let result = json!({"role": "tool", "content": "42", "tool_call_id": "c"});
    let note = |text: &str| format!("<system-reminder>\n{text}\n</system-reminder>");
    let (user, assistant) = (
        |text: &str| json!({"role": "user", "content": text}),
        |text: &str| json!({"role": "assistant", "content": text}),
    );
    let system = |text: &str| json!({"role": "system", "content": text});
    let image = json!({"type": "image_url", "image_url": {"url": "https://example.org/i.png"}});
    let text = |text: &str| json!({"type": "text", "text": text});
    for (kind, history, then) in [
        ("in order", json!([system("s"), user("a")]), json!([system("s"), user("a")])),
        ("none", json!([user("a")]), json!([user("a")])),
        (
            "several at the start",
            json!([system("s"), {"role": "developer", "content": "d"}, user("a")]),
            json!([system("s\n\nd"), user("a")]),
        ),
        (
            "before a user's turn",
            json!([system("s"), user("a"), assistant("b"), system("t"), user("c")]),
            json!([system("s"), user("a"), assistant("b"), user(&format!("{}\n\nc", note("t")))]),
        ),
        (
            "behind a user's turn",
            json!([user("a"), system("t"), assistant("b"), user("c")]),
            json!([user(&format!("a\n\n{}", note("t"))), assistant("b"), user("c")]),
        ),
        (
            "at the end",
            json!([system("s"), user("a"), system("t")]),
            json!([system("s"), user(&format!("a\n\n{}", note("t")))]),
        ),
        (
            "between a call and its result",
            json!([user("a"), call, system("t"), result, assistant("b")]),
            json!([user("a"), call, result, user(&note("t")), assistant("b")]),
        ),
        (
            "between a call and its result, before a user's turn",
            json!([user("a"), call, system("t"), result, user("b")]),
            json!([user("a"), call, result, user(&format!("{}\n\nb", note("t")))]),
        ),
        (
            "several in a row",
            json!([user("a"), assistant("b"), system("t"), system("u"), user("c")]),
            json!([
                user("a"),
                assistant("b"),
                user(&format!("{}\n\n{}\n\nc", note("t"), note("u")))
            ]),
        ),
        (
            "beside an image",
            json!([{"role": "user", "content": [image]}, system("t")]),
            json!([{"role": "user", "content": [image, text(&note("t"))]}]),
        ),
        (
            "in parts",
            json!([user("a"), {"role": "system", "content": [text("t"), image]}]),
            json!([{"role": "user", "content": [text("a"), text("<system-reminder>\n"), text("t"),
                image, text("\n</system-reminder>")]}]),
        ),
        ("an empty one", json!([user("a"), system("")]), json!([user("a")])),
        // Templates raise where no turn is the user's.
        ("alone", json!([{"role": "developer", "content": "d"}]), json!([user("d")])),
        ("several alone", json!([system("s"), system("t")]), json!([user("s\n\nt")])),
        (
            "before calls that nobody asked for",
            json!([system("s"), call, result]),
            json!([system("s"), user("Continue."), call, result]),
        ),
        (
            "none, and calls that nobody asked for",
            json!([call, result]),
            json!([user("Continue."), call, result]),
        ),
        (
            "late, beside calls that nobody asked for",
            json!([call, result, system("t")]),
            json!([call, result, user(&note("t"))]),
        ),
    ] {
        let through = async |server, model: &str| {
            let body = json!({"model": model, "messages": history});
            let decoded = tower_qwen::openai::decode(&body.to_string().into());
            sent(server, decoded.expect("valid").chat).await.2["messages"].take()
        };
        for server in
            [Server::Vllm, Server::SgLang, Server::Ollama, Server::LlamaCpp, Server::LmStudio]
        {
            assert_eq!(through(server, "anything").await, then, "{kind}, {server:?}");
        }
        for server in [Server::Generic, Server::DashScope] {
            for model in ["Qwen/Qwen3.6-27B", "qwen3.5-plus", "qwen3.8-max", "qwen35-local"] {
                assert_eq!(through(server, model).await, then, "{kind}, {server:?}, {model}");
            }
            for model in ["gpt-4o", "qwen3-max", "qwen3-8b", "Qwen3-5B", "qwen-plus"] {
                let as_written = through(server, model).await;
                let count = as_written.as_array().expect("messages").len();
                assert_eq!(Some(count), history.as_array().map(Vec::len), "{kind}, {model}");
            }
        }
        let portal = through(Server::Portal, "coder-model").await;
        let roles = portal.as_array().expect("messages").iter().map(|message| &message["role"]);
        let at: Vec<_> = roles.enumerate().filter(|(_, role)| *role == "system").collect();
        assert!(matches!(at[..], [(0, _)]), "{kind}: {portal}");
    }
}

/// History: arguments that are no object go out as one, to every kind.
#[tokio::test]
async fn arguments_go_out_as_one_object() {
    for server in [Server::Generic, Server::DashScope, Server::Portal, Server::Vllm, Server::Ollama]
    {
        for (arguments, sent_as) in [
            (r#"{"a": 1}"#, r#"{"a": 1}"#),
            ("", "{}"),
            (r#"{"a": "b"#, r#"{"input":"{\"a\": \"b"}"#),
            (r#""{\"a\":1}""#, r#"{"a":1}"#),
        ] {
            let mut call = Message::empty(Role::Assistant);
            call.tool_calls = vec![ToolCall::new("c", "f", arguments)];
            let mut result = Message::new(Role::Tool, "42");
            result.tool_call_id = Some("c".into());
            let messages = vec![Message::new(Role::User, "a"), call, result];
            let (_, _, body) = sent(server, ChatRequest::new("m", messages)).await;
            let messages = body["messages"].as_array().expect("messages");
            let call = messages.iter().find(|message| message["role"] == "assistant");
            let call = &call.expect("the call")["tool_calls"][0]["function"];
            assert_eq!(call["arguments"], sent_as, "{server:?}");
        }
    }
}

/// History and effort: the ladder of each family, per kind.
#[tokio::test]
async fn each_family_has_a_ladder_of_its_own() {
    let effort = |word: &'static str| {
        let mut request = request();
        request.reasoning.effort = Some(tower_qwen::Text::from_static(word).into());
        request
    };
    let template = |on: bool| json!({"enable_thinking": on});
    for (word, hosted, own, ollama) in [
        ("none", Some("none"), None, Some("none")),
        ("minimal", Some("low"), Some("low"), Some("low")),
        ("low", Some("low"), Some("low"), Some("low")),
        ("medium", Some("medium"), Some("medium"), Some("medium")),
        ("high", Some("xhigh"), Some("xhigh"), None),
        ("xhigh", Some("xhigh"), Some("xhigh"), None),
        ("max", Some("xhigh"), Some("xhigh"), None),
        ("newer", None, None, None),
    ] {
        for model in ["qwen3.8-max", "Qwen/Qwen3.8-35B-A3B"] {
            for server in [
                Server::DashScope,
                Server::Vllm,
                Server::SgLang,
                Server::LlamaCpp,
                Server::Ollama,
                Server::Generic,
                Server::LmStudio,
            ] {
                let mut request = effort(word);
                request.model = model.into();
                let (_, _, body) = sent(server, request).await;
                let (wanted, kwargs) = match server {
                    Server::DashScope => (hosted, None),
                    Server::Ollama => (ollama, None),
                    // Nothing is known of how they are told not to think: the word goes as it is.
                    Server::Generic | Server::LmStudio if word == "none" => (Some(word), None),
                    Server::Generic | Server::LmStudio => (own, None),
                    _ => (own, Some(template(word != "none"))),
                };
                let named = format!("{server:?}, {model}: {word}");
                assert_eq!(
                    body.get("reasoning_effort"),
                    wanted.map(|w| json!(w)).as_ref(),
                    "{named}"
                );
                assert_eq!(body.get("chat_template_kwargs"), kwargs.as_ref(), "{named}");
                for alone in ["enable_thinking", "thinking_budget"] {
                    assert!(body.get(alone).is_none(), "{named}: {alone}");
                }
            }
        }
    }
    for model in ["qwen3.8-max-preview", "kimi-k3", "kimi-k2.7-code"] {
        let mut request = effort("none");
        request.model = model.into();
        let (_, _, body) = sent(Server::DashScope, request).await;
        for name in ["reasoning_effort", "enable_thinking", "thinking_budget"] {
            assert!(body.get(name).is_none(), "{model}: it always thinks");
        }
    }
}

/// An effort that a client writes for the template itself goes as a word that the template knows.
#[tokio::test]
async fn efforts_written_for_the_template() {
    for (server, model, given, told) in [
        (Server::Vllm, "Qwen/Qwen3.8-27B", "high", "xhigh"),
        (Server::LlamaCpp, "qwen3.8", "minimal", "low"),
        (Server::SgLang, "qwen3.8", "medium", "medium"),
        (Server::Vllm, "qwen3.8", "a word of tomorrow", "a word of tomorrow"),
        (Server::Vllm, "Qwen/Qwen3.6-27B", "high", "high"),
        (Server::Generic, "qwen3.8", "high", "high"),
    ] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "x"}],
            "chat_template_kwargs": {"reasoning_effort": given, "foo": 1}});
        let decoded = tower_qwen::openai::decode(&body.to_string().into()).expect("valid");
        let (_, _, body) = sent(server, decoded.chat).await;
        let expected = json!({"reasoning_effort": told, "foo": 1});
        assert_eq!(body["chat_template_kwargs"], expected, "{server:?} {model} {given}");
    }
}

use serde_json::{Value, json};

use super::*;
use crate::{
    Text,
    chat::{Message, ReasoningEffort, Role},
    qwen::web::ChatType,
};

fn request() -> ChatRequest {
    ChatRequest::new("qwen3.7-plus", vec![Message::new(Role::User, "Hello")])
}

fn body(config: &Config, request: &ChatRequest, parent: Option<&str>) -> Value {
    let turn = Turn::new(config, request).unwrap();
    serde_json::from_slice(&turn.body(config, "c-1", parent)).unwrap()
}

fn is_uuid(value: &Value) -> bool {
    value.as_str().is_some_and(|id| Uuid::parse_str(id).is_ok())
}

/// Takes what differs each time out, after a look at it.
fn settle(mut body: Value) -> Value {
    let seconds = now().as_secs();
    let recent = |value: &Value| value.as_u64().is_some_and(|at| at.abs_diff(seconds) < 60);
    assert!(recent(&body["timestamp"]), "seconds: {}", body["timestamp"]);
    let message = &mut body["messages"][0];
    assert!(recent(&message["timestamp"]));
    assert!(is_uuid(&message["fid"]));
    assert!(is_uuid(&message["childrenIds"][0]));
    assert_ne!(message["fid"], message["childrenIds"][0]);
    message["timestamp"] = json!(1_790_000_000);
    message["fid"] = json!("fid");
    message["childrenIds"] = json!(["child"]);
    body["timestamp"] = json!(1_790_000_001);
    body
}

#[test]
fn a_first_turn_has_the_shape_of_a7() {
    assert_eq!(
        settle(body(&Config::default(), &request(), None)),
        json!({
            "stream": true, "version": "2.1", "incremental_output": true,
            "chat_id": "c-1", "chatId": "c-1",
            "chat_mode": "normal", "model": "qwen3.7-plus",
            "parent_id": null, "parentId": "",
            "messages": [{
                "id": null, "fid": "fid",
                "parentId": null, "parent_id": null, "childrenIds": ["child"],
                "role": "user", "content": "Hello", "user_action": "chat", "files": [],
                "timestamp": 1_790_000_000, "models": ["qwen3.7-plus"], "model": "",
                "chat_type": "t2t", "sub_chat_type": "t2t",
                "feature_config": {
                    "thinking_enabled": false, "output_schema": "phase",
                    "research_mode": "normal", "auto_thinking": false,
                    "thinking_mode": "Fast", "auto_search": false,
                },
                "extra": {"meta": {"subChatType": "t2t"}},
            }],
            "timestamp": 1_790_000_001,
        })
    );
}

#[test]
fn a_next_turn_names_its_parent_four_times() {
    let body = body(&Config::default(), &request(), Some("r-1"));
    for parent in [
        &body["parent_id"],
        &body["parentId"],
        &body["messages"][0]["parent_id"],
        &body["messages"][0]["parentId"],
    ] {
        assert_eq!(parent, "r-1");
    }
}

#[test]
fn a_new_chat_is_stamped_in_milliseconds() {
    let mut body: Value =
        serde_json::from_slice(&new_chat(&Config::default(), "qwen3.7-plus", ChatType::Text))
            .unwrap();
    let stamp = body["timestamp"].take().as_u64().unwrap();
    assert!(stamp.abs_diff(now().as_secs() * 1000) < 60_000, "{stamp}");
    assert_eq!(
        body,
        json!({
            "title": "New Chat", "models": ["qwen3.7-plus"], "chat_mode": "normal",
            "chat_type": "t2t", "timestamp": null, "project_id": "",
        })
    );
}

#[test]
fn thinking_is_put_into_the_captured_gears() {
    let features = |default, effort: Option<&str>, enabled, budget| {
        let mut request = request();
        request.reasoning.effort = effort.map(|word| ReasoningEffort::from(Text::from(word)));
        request.reasoning.enabled = enabled;
        request.reasoning.budget = budget;
        let config = Config { thinking: default, ..Config::default() };
        let features = body(&config, &request, None)["messages"][0]["feature_config"].take();
        (
            features["thinking_enabled"].as_bool().unwrap(),
            features["auto_thinking"].as_bool().unwrap(),
            features["thinking_mode"].as_str().unwrap().to_owned(),
            features.get("thinking_format").cloned(),
            features.get("thinking_budget").cloned(),
        )
    };
    let summary = || Some(json!("summary"));
    let fast = (false, false, "Fast".to_owned(), None, None);
    let thinking = |budget| (true, false, "Thinking".to_owned(), summary(), budget);
    assert_eq!(features(Thinking::Fast, None, None, None), fast);
    assert_eq!(
        features(Thinking::Auto, None, None, None),
        (true, true, "Auto".to_owned(), summary(), None)
    );
    assert_eq!(features(Thinking::Thinking, None, None, None), thinking(None));
    assert_eq!(features(Thinking::Auto, Some("minimal"), None, Some(9)), fast);
    assert_eq!(features(Thinking::Fast, Some("high"), None, None), thinking(None));
    assert_eq!(features(Thinking::Auto, Some("high"), Some(false), Some(9)), fast);
    assert_eq!(features(Thinking::Fast, None, None, Some(1000)), thinking(Some(json!(1000))));
    // Without a limit there is none to send.
    assert_eq!(features(Thinking::Fast, None, None, Some(-1)), thinking(None));
    assert_eq!(
        features(Thinking::Fast, None, Some(true), Some(1_000_000)),
        thinking(Some(json!(81_920)))
    );
}

#[test]
fn the_chat_type_is_the_same_in_all_three_places() {
    let types = |config: &Config, request: &ChatRequest| {
        let mut body = body(config, request, None);
        let message = body["messages"][0].take();
        [
            message["chat_type"].clone(),
            message["sub_chat_type"].clone(),
            message["extra"]["meta"]["subChatType"].clone(),
        ]
    };
    let config = Config { chat_type: ChatType::Image, ..Config::default() };
    assert_eq!(types(&config, &request()), [json!("t2i"), json!("t2i"), json!("t2i")]);
    let mut search = request();
    search.extra.insert("web_search_options", json!({}));
    assert_eq!(
        types(&Config::default(), &search),
        [json!("search"), json!("search"), json!("search")]
    );
}

#[test]
fn the_kind_of_answer_is_the_chat_type_of_the_turn_and_of_a_new_chat() {
    for (kind, word, research) in [
        (AnswerKind::Text, "t2t", "normal"),
        (AnswerKind::Search, "search", "normal"),
        (AnswerKind::DeepResearch, "deep_research", "deep"),
        (AnswerKind::Image, "t2i", "normal"),
        (AnswerKind::Video, "t2v", "normal"),
    ] {
        let mut request = request();
        request.kind = kind;
        let config = Config::default();
        let message = &body(&config, &request, None)["messages"][0];
        assert_eq!(message["chat_type"], word);
        assert_eq!(message["feature_config"]["research_mode"], research, "{kind}");
        let chat_type = chat_type(&config, &request);
        let chat: Value = serde_json::from_slice(&new_chat(&config, "m", chat_type)).unwrap();
        assert_eq!(chat["chat_type"], word);
        // What the layer is set to is for requests that say nothing.
        let layer = Config { chat_type: ChatType::Travel, ..config };
        let said = if kind == AnswerKind::Text { "travel" } else { word };
        assert_eq!(body(&layer, &request, None)["messages"][0]["chat_type"], said);
    }
}

#[test]
fn a_web_search_tool_lets_the_model_search() {
    let mut request = request();
    request.tools = std::sync::Arc::new(vec![Tool::Other(json!({"type": "web_search"}).into())]);
    let body = body(&Config::default(), &request, None);
    assert_eq!(body["messages"][0]["feature_config"]["auto_search"], true);
}

#[test]
fn an_image_has_the_short_form_of_a17() {
    for (url, name, file_type) in [
        ("https://cdn.example/a.png", "a.png", "image/png"),
        ("https://cdn.example/d/b.JPG?x=/y.gif#z", "b.JPG", "image/jpeg"),
        ("https://cdn.example/", "image.png", "image/png"),
        ("https://cdn.example", "image.png", "image/png"),
    ] {
        assert_eq!(
            serde_json::to_value(File::image(url)).unwrap(),
            json!({
                "type": "image", "name": name, "file_type": file_type, "showType": "image",
                "file_class": "vision", "status": "uploaded", "url": url,
            })
        );
    }
}

#[test]
fn what_upstream_keeps_has_the_full_form() {
    for (kind, word, class) in [
        (FileKind::Image, "image", "vision"),
        (FileKind::Audio, "audio", "audio"),
        (FileKind::Video, "video", "video"),
        (FileKind::Document, "file", "document"),
    ] {
        let mut file = UploadedFile::new(kind, "f-1", "https://b.example/f?s", "a.b", "c/d");
        file.size = 12345;
        assert_eq!(
            serde_json::to_value(File::uploaded(&file)).unwrap(),
            json!({
                "type": word, "file": {}, "id": "f-1", "url": "https://b.example/f?s", "name": "a.b",
                "collection_name": "", "progress": 100, "status": "uploaded",
                "greenNet": "success", "size": 12345, "error": "", "itemId": "f-1",
                "file_type": "c/d", "showType": word, "file_class": class,
            })
        );
    }
}

#[test]
fn what_upstream_ignores_is_not_sent() {
    let mut request = request();
    request.extra.insert("top_p", json!(1));
    request.sampling.temperature = Some(0.1);
    request.sampling.max_tokens = Some(9);
    assert_eq!(
        settle(body(&Config::default(), &request, None)),
        settle(body(&Config::default(), &self::request(), None))
    );
}

use serde_json::{Value, json};

use super::*;
use crate::chat::{Json, Message, Role, Tool};

fn variants(models: &[Model]) -> Variants {
    let models = models.to_vec();
    let fetch = move || {
        let models = models.clone();
        async move { Ok(models) }
    };
    Variants::new(Catalogue::new(fetch), Suffix::WEB)
}

fn model(id: &str) -> Model {
    Model::new(id.to_owned(), "qwen")
}

fn with_meta(id: &str, meta: &Value) -> Model {
    let mut model = model(id);
    model.extra.insert("info", json!({"meta": meta}));
    model
}

#[test]
fn a_name_is_virtual_where_its_front_is_a_model_and_itself_is_none() {
    use AnswerKind::{DeepResearch, Image, Search, Text, Video};

    let models = [
        model("qwen3-max"),
        model("qwen3-vl"),
        model("qwen3-vl-thinking"),
        model("qwen-image"),
        model("claude-no"),
    ];
    let variants = variants(&models);
    for (name, found) in [
        ("qwen3-max", None),
        ("qwen3-max-thinking", Some(("qwen3-max", Some(true), Text))),
        ("qwen3-max-no-thinking", Some(("qwen3-max", Some(false), Text))),
        ("qwen3-max-search", Some(("qwen3-max", None, Search))),
        ("qwen3-max-deep-research", Some(("qwen3-max", None, DeepResearch))),
        ("qwen3-max-image", Some(("qwen3-max", None, Image))),
        ("qwen3-max-video", Some(("qwen3-max", None, Video))),
        ("qwen3-max-thinking-search", Some(("qwen3-max", Some(true), Search))),
        ("qwen3-max-search-no-thinking", Some(("qwen3-max", Some(false), Search))),
        // It is there itself, and its front is not asked.
        ("qwen3-vl-thinking", None),
        ("qwen3-vl-thinking-search", Some(("qwen3-vl-thinking", None, Search))),
        // `qwen` is no model here.
        ("qwen-image", None),
        ("qwen-deep-research", None),
        // The longer suffix counts.
        ("claude-no-thinking", None),
        ("qwen3-max-search-image", None),
        ("qwen3-max-thinking-no-thinking", None),
        ("qwen3-max-search-search", None),
        ("qwen3-max-thinking-search-thinking", None),
        ("qwen3-max-Search", None),
        ("qwen3-max-searching", None),
        ("-search", None),
        ("", None),
    ] {
        let variant = variants.resolve_among(&models, name).expect("nothing is denied");
        let variant =
            variant.as_ref().map(|found| (found.model.as_str(), found.thinking, found.kind));
        assert_eq!(variant, found, "{name}");
    }
    let none = Variants::new(variants.catalogue, []);
    assert_eq!(none.resolve_among(&models, "qwen3-max-search").expect("nothing"), None);
    assert!(!none.may_be("qwen3-max-search") && none.list(&models).is_empty());
}

#[test]
fn what_the_catalogue_denies_is_said_and_not_listed() {
    let able = json!({"chat_type": ["t2t", "t2i", "search"], "capabilities": {"thinking": true}});
    let unable = json!({"chat_type": ["t2t"], "capabilities": {"vision": true}});
    let forced = json!({"think_skip": {"enable": false}});
    let models = [with_meta("a", &able), with_meta("b", &unable), with_meta("c", &forced)];
    let variants = variants(&models);
    for (name, words) in [
        ("a-video", "the model `a-video` does not exist: `a` makes no videos"),
        ("a-deep-research", "`a` does no deep research"),
        ("a-thinking-video", "`a` makes no videos"),
        ("b-search", "`b` does not search the web"),
        ("b-image", "`b` makes no images"),
        ("b-thinking", "`b` does not think"),
        ("c-no-thinking", "`c` always thinks, or never does"),
    ] {
        let error = variants.resolve_among(&models, name).expect_err("denied");
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert_eq!((error.kind(), error.param()), (ErrorKind::ModelNotFound, Some("model")));
    }
    let listed = variants.list(&models);
    let ids: Vec<_> = listed.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "a-thinking",
            "a-no-thinking",
            "a-search",
            "a-image",
            "c-thinking",
            "c-search",
            "c-deep-research",
            "c-image",
            "c-video"
        ]
    );
    let base = listed[0].extra.get("base_model");
    assert_eq!(base.as_ref().and_then(Json::as_string).as_deref(), Some("a"));
}

#[test]
fn a_real_model_is_not_listed_twice() {
    let models = [model("a"), model("a-search")];
    let listed = variants(&models).list(&models);
    assert!(listed.iter().all(|model| model.id != "a-search"));
    assert!(listed.iter().any(|model| model.id == "a-search-thinking"));
}

#[test]
fn the_name_says_more_of_thinking_than_the_rest() {
    let said = |thinking, effort: Option<&str>, enabled, budget| {
        let mut request = ChatRequest::new("m-x", [Message::new(Role::User, "Hi")]);
        request.reasoning.effort = effort.map(|word| Text::from(word).into());
        request.reasoning.enabled = enabled;
        request.reasoning.budget = budget;
        let variant = Variant { model: "m".into(), thinking, kind: AnswerKind::Text };
        variant.apply(&mut request).expect("a chat");
        assert_eq!(request.model, "m");
        let reasoning = request.reasoning;
        let effort = reasoning.effort.map(|effort| effort.as_str().to_owned());
        (reasoning.enabled, effort, reasoning.budget)
    };
    let low = || Some("low".to_owned());
    assert_eq!(said(None, Some("low"), None, Some(7)), (None, low(), Some(7)));
    assert_eq!(said(None, None, Some(false), None), (Some(false), None, None));
    assert_eq!(said(Some(true), Some("low"), Some(false), None), (Some(true), low(), None));
    assert_eq!(said(Some(true), Some("none"), None, Some(0)), (Some(true), None, None));
    assert_eq!(said(Some(false), Some("low"), Some(true), Some(9)), (Some(false), None, None));
}

#[test]
fn what_is_no_chat_takes_no_functions_and_no_forms() {
    let image = Variant { model: "m".into(), thinking: None, kind: AnswerKind::Image };
    let search = Variant { kind: AnswerKind::Search, ..image.clone() };
    let function: Tool =
        Tool::Function(crate::chat::FunctionTool::new("f", json!({"type": "object"})));
    let own: Tool = Tool::Other(json!({"type": "web_search"}).into());
    for (tools, format, field) in [
        (vec![function.clone()], None, Some("tools")),
        (vec![own.clone(), function], None, Some("tools")),
        (vec![], Some(ResponseFormat::JsonObject), Some("response_format")),
        (vec![own], Some(ResponseFormat::Text), None),
    ] {
        let mut request = ChatRequest::new("m-image", [Message::new(Role::User, "A cat")]);
        request.tools = Arc::new(tools);
        request.response_format = format;
        let mut searched = request.clone();
        search.apply(&mut searched).expect("a search is a chat");
        assert_eq!(searched.tools, request.tools);
        match (image.apply(&mut request), field) {
            (Ok(()), None) => assert!(request.tools.is_empty() && request.model == "m"),
            (Err(error), Some(field)) => {
                assert_eq!((error.param(), error.status().as_u16()), (Some(field), 400), "{error}");
                assert!(error.to_string().contains("`m-image`"), "{error}");
            }
            (outcome, field) => panic!("{outcome:?} is not {field:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_catalogue_a_name_passes() {
    let catalogue =
        Catalogue::new(|| async { Err(Error::new(ErrorKind::Upstream, "no list today")) });
    let variants = Variants::new(catalogue, Suffix::WEB);
    assert_eq!(variants.resolve("qwen3-max-search").await.expect("it passes"), None);
}

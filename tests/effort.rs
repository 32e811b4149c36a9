//! How much to think, from the wire of an edge to every emulated server: what a client asks for
//! reaches each in a form that it takes, and the response says where that is not the same.

mod emulated;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt};
use tower_qwen::{
    chat::ReasoningEffort,
    dedup::DedupLayer,
    openai::OpenAiLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    session::{MemoryStore, SessionLayer},
    tool::call::ToolCallLayer,
};
use tower_qwen_emulator::{Emulator, Kind, Style};

const WORDS: [&str; 8] = ["none", "minimal", "low", "medium", "high", "xhigh", "max", "newer"];

/// What is sent for each of [`WORDS`], as the response names it.
type Sent = [&'static str; 8];

/// A kind of server, its model of Qwen3.8 and what that is sent, and the same of an older one.
const TABLE: [(Kind, &str, Sent, &str, Sent); 6] = [
    (Kind::Vllm, "Qwen/Qwen3.8-27B", TEMPLATE_38, "Qwen/Qwen3-32B", TEMPLATE),
    (Kind::SgLang, "Qwen/Qwen3.8-27B", TEMPLATE_38, "Qwen/Qwen3.6-27B", TEMPLATE),
    (Kind::LlamaCpp, "qwen3.8-27b-q4_k_m", TEMPLATE_38, "qwen3-32b-q4_k_m", TEMPLATE),
    (Kind::Ollama, "qwen3.8:27b", OLLAMA_38, "qwen3:32b", OLLAMA),
    (Kind::DashScope, "qwen3.8-max", HOSTED_38, "qwen-plus", HOSTED),
    (Kind::Portal, "qwen3.8-max", HOSTED_38, "vision-model", HOSTED),
];

const TEMPLATE_38: Sent = ["none", "low", "low", "medium", "xhigh", "xhigh", "xhigh", "on"];
const TEMPLATE: Sent = ["none", "on", "on", "on", "on", "on", "on", "on"];
/// Its top tier is what it does unless it is told.
const OLLAMA_38: Sent =
    ["none", "low", "low", "medium", "default", "default", "default", "default"];
const OLLAMA: Sent = ["none", "low", "low", "medium", "high", "high", "high", "medium"];
const HOSTED_38: Sent = ["none", "low", "low", "medium", "xhigh", "xhigh", "xhigh", "default"];
const HOSTED: Sent = ["none", "128", "1024", "8192", "on", "on", "on", "on"];

/// The fields that say `sent` to a server of this kind.
fn fields(kind: Kind, is_38: bool, sent: &str) -> Value {
    let is_hosted = matches!(kind, Kind::DashScope | Kind::Portal);
    if sent == "default" {
        return json!({});
    }
    if kind == Kind::Ollama || is_hosted && is_38 {
        return json!({"reasoning_effort": sent});
    }
    if !is_hosted {
        let kwargs = json!({"enable_thinking": sent != "none"});
        return match sent {
            "none" | "on" => json!({"chat_template_kwargs": kwargs}),
            effort => json!({"chat_template_kwargs": kwargs, "reasoning_effort": effort}),
        };
    }
    match sent {
        "none" => json!({"enable_thinking": false}),
        "on" => json!({"enable_thinking": true}),
        budget => json!({
            "enable_thinking": true, "thinking_budget": budget.parse::<u64>().expect("a number"),
        }),
    }
}

/// The fields of a body that say how much to think.
fn thinking(body: &Value) -> Value {
    let mut body = body.as_object().expect("an object").clone();
    body.retain(|name, _| {
        name.contains("think") || name.contains("reasoning") || name == "chat_template_kwargs"
    });
    body.into()
}

fn emulator(kind: Kind, style: Style, model: &str) -> Emulator {
    Emulator::builder().kind(kind).style(style).models([model]).build()
}

fn server(kind: Kind) -> Server {
    emulated::server(kind).expect("it is one of the compatible kinds")
}

fn request(model: &str, more: Value) -> Request<Full<Bytes>> {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]});
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    request.body(Full::new(body.to_string().into())).expect("a request")
}

fn told<B>(response: &Response<B>) -> Option<&str> {
    response.headers().get("x-qwen-effort").map(|value| value.to_str().expect("plain"))
}

/// The answer's `x-qwen-effort`, and what the upstream got.
async fn through(
    emulator: Emulator,
    layer: CompatibleLayer,
    request: Request<Full<Bytes>>,
) -> (Option<String>, Value) {
    let service =
        ServiceBuilder::new().layer(OpenAiLayer::new()).layer(layer).service(emulator.clone());
    let response = service.oneshot(request).await.expect("infallible");
    let (status, header) = (response.status(), told(&response).map(str::to_owned));
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let sent = emulator.requests().pop().expect("a request").body;
    (header, thinking(&sent))
}

/// Server × build × family × word.
#[tokio::test]
async fn each_effort_reaches_each_server_in_a_form_that_it_takes() {
    for (kind, of_38, sent_38, older, sent) in TABLE {
        for (model, is_38, sent) in [(of_38, true, sent_38), (older, false, sent)] {
            for (asked, sent) in WORDS.into_iter().zip(sent) {
                for style in [Style::Autumn2025, Style::Autumn2026] {
                    let layer = CompatibleLayer::new(server(kind));
                    let request = request(model, json!({"reasoning_effort": asked}));
                    let (told, body) = through(emulator(kind, style, model), layer, request).await;
                    let named = format!("{kind} {style:?}, {model}: {asked}");
                    assert_eq!(body, fields(kind, is_38, sent), "{named}");
                    let expected = (asked != sent).then(|| format!("{asked}; sent={sent}"));
                    assert_eq!(told, expected, "{named}");
                }
            }
        }
    }
}

/// Server × family, without an effort.
#[tokio::test]
async fn a_budget_and_a_switch_reach_each_server_in_a_form_that_it_takes() {
    for (kind, of_38, _, older, _) in TABLE {
        for (model, is_38) in [(of_38, true), (older, false)] {
            let is_hosted = matches!(kind, Kind::DashScope | Kind::Portal);
            let on = match kind {
                Kind::Ollama if is_38 => "default",
                Kind::Ollama => "medium",
                _ => "on",
            };
            // Qwen3.8 is told with its own word that it shall not think.
            let budget = |tokens| if is_hosted { tokens } else { on };
            for (more, asked, sent) in [
                (json!({}), "default", "default"),
                (json!({"enable_thinking": true}), "on", on),
                (json!({"enable_thinking": false}), "none", "none"),
                (json!({"thinking_budget": 9}), "9", budget("9")),
                (json!({"thinking_budget": -1}), "on", on),
                (json!({"thinking_budget": 500_000}), "500000", budget("81920")),
                (json!({"thinking_budget": 31_999, "max_tokens": 4_096}), "31999", budget("4095")),
                (json!({"thinking_budget": 31_999, "max_tokens": 1}), "31999", budget("1")),
                (json!({"thinking_budget": 31_999, "max_tokens": -1}), "31999", budget("31999")),
                (json!({"enable_thinking": false, "reasoning_effort": "high"}), "none", "none"),
            ] {
                let layer = CompatibleLayer::new(server(kind));
                let emulator = emulator(kind, Style::default(), model);
                let (told, body) = through(emulator, layer, request(model, more.clone())).await;
                let named = format!("{kind}, {model}: {more}");
                let expected = fields(kind, is_38 && sent == "none", sent);
                assert_eq!(body, expected, "{named}");
                let expected = (asked != sent).then(|| format!("{asked}; sent={sent}"));
                assert_eq!(told, expected, "{named}");
            }
        }
    }
}

/// Models that have no choice are left alone.
#[tokio::test]
async fn models_that_must_think_or_cannot_are_told_nothing() {
    for model in ["qwen3.8-max-preview", "kimi-k3", "kimi-k2.7-code"] {
        for more in [json!({"reasoning_effort": "none"}), json!({"enable_thinking": false})] {
            for kind in [Kind::DashScope, Kind::Portal] {
                let layer = CompatibleLayer::new(server(kind));
                let emulator = emulator(kind, Style::default(), model);
                let (told, body) = through(emulator, layer, request(model, more.clone())).await;
                assert_eq!(body, json!({}), "{kind} {model} {more}");
                assert_eq!(told.as_deref(), Some("none; sent=default"), "{kind} {model} {more}");
            }
            // A gateway of which nothing is known leads there, too.
            let layer = CompatibleLayer::new(Server::Generic);
            let emulator = emulator(Kind::DashScope, Style::default(), model);
            let (_, body) = through(emulator, layer, request(model, more.clone())).await;
            assert_eq!(body, json!({}), "{model} {more}");
        }
    }
    let model = "qwen3-coder-plus";
    for word in WORDS {
        let layer = CompatibleLayer::new(Server::DashScope);
        let emulator = emulator(Kind::DashScope, Style::default(), model);
        let asked = request(model, json!({"reasoning_effort": word}));
        let (told, body) = through(emulator, layer, asked).await;
        assert_eq!(body, json!({}), "{word}");
        assert_eq!(told, Some(format!("{word}; sent=default")));
    }
}

/// The faster tier, for agents that always ask for `high`.
#[tokio::test]
async fn another_effort_can_be_meant() {
    let asks = async |asked: &str, kind, model: &str| {
        let layer = CompatibleLayer::new(server(kind))
            .effort(ReasoningEffort::High, ReasoningEffort::XHigh)
            .effort(ReasoningEffort::High, ReasoningEffort::Medium)
            .effort(ReasoningEffort::Other("newer".into()), ReasoningEffort::Low);
        let request = request(model, json!({"reasoning_effort": asked}));
        through(emulator(kind, Style::default(), model), layer, request).await
    };
    for (kind, of_38, _, older, sent) in TABLE {
        for (asked, meant) in [("high", 3), ("newer", 2), ("xhigh", 5)] {
            let (told, body) = asks(asked, kind, older).await;
            assert_eq!(body, fields(kind, false, sent[meant]), "{kind}: {asked}");
            let expected = (asked != sent[meant]).then(|| format!("{asked}; sent={}", sent[meant]));
            assert_eq!(told, expected, "{kind}: {asked}");
        }
        let (told, body) = asks("high", kind, of_38).await;
        assert_eq!(body, fields(kind, true, "medium"), "{kind}");
        assert_eq!(told.as_deref(), Some("high; sent=medium"), "{kind}");
    }
}

/// What the model thought in earlier turns is read again, where that can be asked for.
#[tokio::test]
async fn old_thinking_is_preserved() {
    for (kind, of_38, _, older, _) in TABLE {
        for (model, knows) in [(of_38, true), (older, older.contains("3.6"))] {
            let ask = async |thought: bool, more: Value| {
                let mut asked = json!({"messages": [
                    {"role": "user", "content": "One"},
                    {"role": "assistant", "content": "Two"},
                    {"role": "user", "content": "Three"},
                ]});
                if thought {
                    asked["messages"][1]["reasoning_content"] = json!("hm");
                }
                let fields = asked.as_object_mut().expect("an object");
                fields.extend(more.as_object().expect("an object").clone());
                let layer = CompatibleLayer::new(server(kind));
                let emulator = emulator(kind, Style::default(), model);
                through(emulator, layer, request(model, asked)).await.1
            };
            let named = format!("{kind}, {model}");
            let expected = match kind {
                Kind::DashScope | Kind::Portal => json!({"preserve_thinking": true}),
                Kind::Ollama => json!({}),
                _ if knows => json!({"chat_template_kwargs": {"preserve_thinking": true}}),
                _ => json!({}),
            };
            assert_eq!(ask(true, json!({})).await, expected, "{named}");
            assert_eq!(ask(false, json!({})).await, json!({}), "{named}");
            for own in [
                json!({"preserve_thinking": false}),
                json!({"chat_template_kwargs": {"preserve_thinking": false}}),
            ] {
                assert_eq!(ask(true, own.clone()).await, own, "{named}: the client's word stays");
            }
        }
    }
}

/// The web API has two gears, and the header passes every layer above the adapter.
#[tokio::test]
async fn the_web_upstream_is_told_in_gears() {
    let gears = |thinks: bool| json!([thinks, if thinks { "Thinking" } else { "Fast" }]);
    let high = json!({"reasoning_effort": "high", "thinking_budget": 100_000});
    for (model, more, thinks, told) in [
        ("qwen3.8-max", json!({}), false, None),
        ("qwen3.8-max", json!({"reasoning_effort": "none"}), false, None),
        ("qwen3.8-max", json!({"reasoning_effort": "minimal"}), false, Some("minimal; sent=none")),
        ("qwen3.8-max", json!({"reasoning_effort": "low"}), true, Some("low; sent=on")),
        ("qwen3.8-max", json!({"reasoning_effort": "max"}), true, Some("max; sent=on")),
        ("qwen3.8-max", json!({"enable_thinking": true}), true, None),
        ("qwen3.8-max", json!({"thinking_budget": 100}), true, None),
        ("qwen3.8-max", high, true, Some("high; sent=81920")),
        ("qwen3.8-max-preview", json!({"enable_thinking": false}), true, Some("none; sent=on")),
    ] {
        let emulator = emulator(Kind::Web, Style::default(), model);
        let service = ServiceBuilder::new()
            .layer(OpenAiLayer::new())
            .layer(SessionLayer::new(MemoryStore::default()))
            .layer(DedupLayer::new())
            .layer(ToolCallLayer::prompted())
            .layer(QwenWebLayer::new())
            .service(emulator.clone());
        let asked = request(model, more.clone());
        let response = service.oneshot(asked).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::OK, "{more}");
        assert_eq!(self::told(&response), told, "{more}");
        let body = emulator.requests().pop().expect("a request").body;
        let features = &body["messages"][0]["feature_config"];
        let gear = json!([features["thinking_enabled"], features["thinking_mode"]]);
        assert_eq!(gear, gears(thinks), "{more}");
    }
}

//! The emulated model under the tool prompts of this crate, in new chats and in folded histories.

mod traced;

use std::sync::Arc;

use http::Request;
use serde_json::json;
use tower::{ServiceBuilder, ServiceExt};
use tower_qwen::{
    chat::{Answer, ChatRequest, ChatStreamExt, FunctionTool, Message, Role, Tool, ToolChoice},
    qwen::web::QwenWebLayer,
    tool::{Dialect, internals::rewrite},
};
use tower_qwen_emulator::Emulator;

const FORMATS: [(Dialect, &str); 3] = [
    (
        Dialect::Coder,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>",
    ),
    (
        Dialect::Hermes,
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>",
    ),
    (Dialect::Xml, "<get_weather>\n<city>Oslo</city>\n</get_weather>"),
];

/// What the model writes when it is given `messages` and two tools.
async fn written(
    model: &str,
    format: Dialect,
    choice: Option<ToolChoice>,
    messages: Vec<Message>,
) -> String {
    traced::on();
    let mut request = ChatRequest::new(model, messages);
    let schema = |key: &str| json!({"type": "object", "properties": {key: {"type": "string"}}, "required": [key]});
    request.tools = Arc::new(vec![
        Tool::Function(FunctionTool::new("get_weather", schema("city"))),
        Tool::Function(FunctionTool::new("get_time", schema("zone"))),
    ]);
    request.tool_choice = choice;
    rewrite(&mut request, format, true);
    let qwen = ServiceBuilder::new().layer(QwenWebLayer::new()).service(Emulator::new());
    let response = qwen.oneshot(Request::new(request)).await.expect("an answer");
    Answer::collect(response.into_body().checked()).await.expect("a whole answer").text.to_string()
}

fn user(text: &str) -> Message {
    Message::new(Role::User, text)
}

#[tokio::test]
async fn a_named_tool_is_called_in_the_format_of_the_prompt() {
    for model in ["qwen3-coder-plus", "qwen3-max", "qwen3.7-plus"] {
        for (format, call) in FORMATS {
            let made_up = user("What does get_weather say about \"Oslo\"?");
            assert_eq!(written(model, format, None, vec![made_up]).await, call);
            let given = user("get_weather {\"city\":\"Oslo\"}");
            assert_eq!(written(model, format, None, vec![given]).await, call);
            let later = vec![
                Message::new(Role::System, "Be brief."),
                user("Use get_time."),
                Message::new(Role::Assistant, "No."),
                user("Then get_weather(city=Oslo)"),
            ];
            assert_eq!(written(model, format, None, later).await, call);
            let led = user("emulate:lead=Let me see.\nget_weather(city=Oslo)");
            let led = written(model, format, None, vec![led]).await;
            assert_eq!(led, format!("Let me see.\n\n{call}"));
        }
    }
}

#[tokio::test]
async fn the_choice_of_tools_is_obeyed() {
    for (format, _) in FORMATS {
        let one = ToolChoice::Function("get_time".into());
        let forced = written("qwen3-max", format, Some(one), vec![user("Hello")]).await;
        assert!(forced.contains("get_time") && !forced.contains("get_weather"), "{forced}");
        let any = Some(ToolChoice::Required);
        let required = written("qwen3-max", format, any, vec![user("Hello")]).await;
        assert!(required.contains("get_weather"), "{required}");
        let none = Some(ToolChoice::None);
        let words = written("qwen3-max", format, none, vec![user("get_weather, please")]).await;
        assert!(words.starts_with("This is qwen3-max"), "{words}");
        let words = written("qwen3-max", format, None, vec![user("Hello")]).await;
        assert!(words.ends_with("Hello"), "{words}");
    }
}

#[tokio::test]
async fn a_result_is_answered_in_words_so_a_loop_ends() {
    for (format, _) in FORMATS {
        for choice in [None, Some(ToolChoice::Required)] {
            let mut result = Message::new(Role::Tool, "get_weather says: 4 degrees");
            result.tool_call_id = Some("call_1".into());
            let messages = vec![
                user("get_weather for Oslo"),
                Message::new(Role::Assistant, "Let me see."),
                result,
            ];
            let words = written("qwen3-max", format, choice, messages).await;
            assert!(words.contains("The tool returned") && words.contains("4 degrees"), "{words}");
        }
    }
}

//! async-openai's chat completions, whose types are strict, over chat.qwen.ai and over every
//! OpenAI-compatible server: streamed answers, tool calls, usage and errors.

#[path = "../../emulated/mod.rs"]
mod emulated;
#[path = "../../served/form.rs"]
mod form;

use async_openai::{
    Client,
    config::OpenAIConfig,
    error::OpenAIError,
    types::chat::{
        ChatCompletionMessageToolCall, ChatCompletionMessageToolCalls,
        ChatCompletionRequestAssistantMessageArgs, ChatCompletionRequestMessage,
        ChatCompletionRequestToolMessageArgs, ChatCompletionRequestUserMessage,
        ChatCompletionStreamOptions, ChatCompletionTool, CompletionUsage,
        CreateChatCompletionRequest, CreateChatCompletionRequestArgs, FinishReason, FunctionCall,
        FunctionObjectArgs, FunctionType,
    },
};
use form::Form;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tower::ServiceBuilder;
use tower_qwen::{
    dedup::DedupLayer,
    openai::OpenAiLayer,
    qwen::{compatible::CompatibleLayer, web::QwenWebLayer},
    session::{MemoryStore, SessionLayer},
    tool::call::ToolCallLayer,
};
use tower_qwen_emulator::{Builder, Emulator, Kind};
use tower_qwen_rust_clients::{KEY, serve};

/// An upstream whose bytes come in pieces as a network cuts them.
fn upstream(kind: Kind) -> Builder {
    Emulator::builder().kind(kind).piece_size(37)
}

/// The client, with the edge and the layers over `emulator` behind a socket.
async fn client(emulator: &Emulator, kind: Kind) -> Client<OpenAIConfig> {
    const PATH: &str = "/v1/chat/completions";
    let edge = ServiceBuilder::new().layer(OpenAiLayer::new());
    let upstream = emulator.clone();
    let origin = match emulated::server(kind) {
        None => {
            let stack = edge
                .layer(SessionLayer::new(MemoryStore::default()))
                .layer(DedupLayer::new())
                .layer(ToolCallLayer::prompted())
                .layer(QwenWebLayer::new());
            serve(PATH, stack.service(upstream)).await
        }
        Some(server) => {
            let stack = edge.layer(ToolCallLayer::native()).layer(CompatibleLayer::new(server));
            serve(PATH, stack.service(upstream)).await
        }
    };
    let base = format!("{origin}/v1");
    Client::with_config(OpenAIConfig::new().with_api_key(KEY).with_api_base(base))
}

fn user(text: &str) -> ChatCompletionRequestMessage {
    ChatCompletionRequestUserMessage::from(text).into()
}

fn request(kind: Kind, history: &[ChatCompletionRequestMessage]) -> CreateChatCompletionRequest {
    let usage =
        ChatCompletionStreamOptions { include_usage: Some(true), include_obfuscation: None };
    CreateChatCompletionRequestArgs::default()
        .model(kind.models().swap_remove(0))
        .messages(history)
        .stream_options(usage)
        .build()
        .expect("a request")
}

/// What a streamed answer comes to.
#[derive(Debug, Default)]
struct Answer {
    text: String,
    calls: Vec<ChatCompletionMessageToolCall>,
    finish_reason: Option<FinishReason>,
    usage: Option<CompletionUsage>,
}

/// Puts an answer together from what the client reads of it.
async fn stream(
    client: &Client<OpenAIConfig>,
    request: CreateChatCompletionRequest,
) -> Result<Answer, OpenAIError> {
    let model = request.model.clone();
    let mut chunks = client.chat().create_stream(request).await?;
    let mut answer = Answer::default();
    let mut id = None;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        assert_eq!(chunk.object, "chat.completion.chunk");
        assert_eq!(chunk.model, model);
        assert_eq!(id.get_or_insert_with(|| chunk.id.clone()), &chunk.id);
        assert!(answer.usage.is_none(), "nothing comes behind the usage: {chunk:?}");
        answer.usage = chunk.usage;
        for choice in chunk.choices {
            assert_eq!(choice.index, 0);
            assert_eq!(answer.finish_reason, None, "nothing comes behind the end: {choice:?}");
            answer.finish_reason = choice.finish_reason;
            answer.text += choice.delta.content.as_deref().unwrap_or_default();
            for piece in choice.delta.tool_calls.unwrap_or_default() {
                let index = usize::try_from(piece.index).expect("a place");
                let function = piece.function.unwrap_or_default();
                if index == answer.calls.len() {
                    assert_eq!(piece.r#type, Some(FunctionType::Function));
                    answer.calls.push(ChatCompletionMessageToolCall {
                        id: piece.id.expect("an id"),
                        function: FunctionCall {
                            name: function.name.expect("a name"),
                            arguments: String::new(),
                        },
                    });
                }
                let arguments = function.arguments.unwrap_or_default();
                answer.calls[index].function.arguments += &arguments;
            }
        }
    }
    Ok(answer)
}

/// The same where the answer comes whole.
async fn whole(
    client: &Client<OpenAIConfig>,
    mut request: CreateChatCompletionRequest,
) -> Result<Answer, OpenAIError> {
    request.stream_options = None;
    let mut answer = client.chat().create(request).await?;
    assert_eq!(answer.object, "chat.completion");
    let choice = answer.choices.swap_remove(0);
    let calls = choice.message.tool_calls.unwrap_or_default().into_iter().map(|call| match call {
        ChatCompletionMessageToolCalls::Function(call) => call,
        other @ ChatCompletionMessageToolCalls::Custom(_) => panic!("no function: {other:?}"),
    });
    Ok(Answer {
        text: choice.message.content.unwrap_or_default(),
        calls: calls.collect(),
        finish_reason: choice.finish_reason,
        usage: answer.usage,
    })
}

/// Streamed or whole.
async fn ask(
    client: &Client<OpenAIConfig>,
    request: CreateChatCompletionRequest,
    streamed: bool,
) -> Result<Answer, OpenAIError> {
    if streamed { stream(client, request).await } else { whole(client, request).await }
}

/// Every upstream, asked for streams and for whole answers.
fn ways() -> impl Iterator<Item = (Kind, bool)> {
    Kind::ALL.into_iter().flat_map(|kind| [(kind, true), (kind, false)])
}

#[tokio::test]
async fn an_answer_arrives_to_the_letter_with_its_usage() {
    const ANSWER: &str = "Grüße, 千问 \u{1F30C}:\n\n  1 < 2 & \"so on\"\n";
    for (kind, streamed) in ways() {
        let emulator = upstream(kind).answers(|_, _| Some(ANSWER.into())).build();
        let client = client(&emulator, kind).await;
        let answer = ask(&client, request(kind, &[user("Say it.")]), streamed).await;
        let told = format!("{kind}, streamed: {streamed}, {answer:?}");
        let answer = answer.expect(&told);
        assert_eq!(answer.text, ANSWER, "{told}");
        assert!(answer.calls.is_empty(), "{told}");
        assert_eq!(answer.finish_reason, Some(FinishReason::Stop), "{told}");
        let usage = answer.usage.expect(&told);
        assert!(usage.prompt_tokens > 0 && usage.completion_tokens > 0, "{told}");
        assert_eq!(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "{told}");
    }
}

const LEAD: &str = "I call it.";
const END: &str = "All done.";
const RESULT: &str = "It is written.";
const CONTENT: &str = "<b class=\"x\">Grüße &amp; \u{1F30C}</b>\n    indented } { \\n\n\n";

fn tool() -> ChatCompletionTool {
    let schema = json!({"type": "object", "required": ["path", "content"], "properties": {
        "path": {"type": "string"}, "content": {"type": "string"}}});
    let function = FunctionObjectArgs::default()
        .name("write_file")
        .description("Writes a file.")
        .parameters(schema)
        .build();
    ChatCompletionTool { function: function.expect("a function") }
}

/// A model that writes a file and is done.
fn at_work(kind: Kind, form: Form) -> Emulator {
    let arguments = [("path", json!("a note.txt")), ("content", json!(CONTENT))];
    let call = format!("{LEAD}\n\n{}", form.write("write_file", &arguments));
    let answers = move |_: &str, earlier: &[&str]| {
        let is_done = earlier.iter().any(|text| text.starts_with(LEAD));
        Some(if is_done { END.into() } else { call.clone() })
    };
    upstream(kind).answers(answers).build()
}

#[tokio::test]
async fn a_task_with_a_tool_is_done() {
    let web = Form::ALL.map(|form| (Kind::Web, form));
    let servers = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Web);
    for (kind, form) in web.into_iter().chain(servers.map(|kind| (kind, Form::Coder))) {
        for streamed in [true, false] {
            let told = format!("{kind}, {form:?}, streamed: {streamed}");
            let emulator = at_work(kind, form);
            let client = client(&emulator, kind).await;
            let mut history = vec![user("Write the note.")];
            let mut asks = request(kind, &history);
            asks.tools = Some(tool().into());
            let answer = ask(&client, asks.clone(), streamed).await.expect(&told);
            assert_eq!(answer.finish_reason, Some(FinishReason::ToolCalls), "{told}: {answer:?}");
            assert_eq!(answer.text.trim(), LEAD, "{told}");
            let [call] = &answer.calls[..] else { panic!("{told}: {answer:?}") };
            assert_eq!(call.function.name, "write_file", "{told}");
            let arguments: Value = serde_json::from_str(&call.function.arguments).expect(&told);
            assert_eq!(arguments, json!({"path": "a note.txt", "content": CONTENT}), "{told}");

            let called = ChatCompletionRequestAssistantMessageArgs::default()
                .content(answer.text.clone())
                .tool_calls(vec![ChatCompletionMessageToolCalls::Function(call.clone())])
                .build();
            let result = ChatCompletionRequestToolMessageArgs::default()
                .tool_call_id(call.id.clone())
                .content(RESULT)
                .build();
            history.extend([called.expect("a call").into(), result.expect("a result").into()]);
            asks.messages = history;
            let end = ask(&client, asks, streamed).await.expect(&told);
            assert_eq!(end.text, END, "{told}");
            assert_eq!(end.finish_reason, Some(FinishReason::Stop), "{told}");

            if kind == Kind::Web {
                // One chat, which got the result and no more.
                let chats = emulator.chats();
                let [chat] = &chats[..] else { panic!("{told}: {} chats", chats.len()) };
                let new = &chat.messages[2].text;
                assert!(new.contains(RESULT) && !new.contains("Write the note."), "{told}: {new}");
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_key_is_refused() {
    for (kind, streamed) in ways().filter(|(kind, _)| *kind != Kind::Ollama) {
        let emulator = upstream(kind).require_credentials(true).build();
        let client = client(&emulator, kind).await;
        let error = ask(&client, request(kind, &[user("Hi.")]), streamed).await.unwrap_err();
        let told = format!("{kind}, streamed: {streamed}, {error:?}");
        let OpenAIError::ApiError(error) = error else { panic!("{told}") };
        assert_eq!(error.status_code.as_u16(), 401, "{told}");
        assert_eq!(error.api_error.code.as_deref(), Some("invalid_api_key"), "{told}");
        assert!(!told.contains(KEY), "{told}");
    }
}

/// A stream that breaks off never looks like one that ended. The client has no type for an error in
/// a stream, and shows what it was sent instead.
#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error() {
    for (words, code) in [
        ("emulate:tokens=9 emulate:cut=3", "upstream_stream_error"),
        ("emulate:tokens=9 emulate:overloaded=3", "overloaded"),
    ] {
        let emulator = upstream(Kind::Web).build();
        let client = client(&emulator, Kind::Web).await;
        let error = stream(&client, request(Kind::Web, &[user(words)])).await.unwrap_err();
        let OpenAIError::JSONDeserialize(_, sent) = &error else { panic!("{words}: {error:?}") };
        let sent: Value = serde_json::from_str(sent).expect("JSON");
        assert_eq!(sent["error"]["code"], code, "{words}: {sent}");
    }
}

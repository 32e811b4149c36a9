//! Rig's client of the Messages API, over chat.qwen.ai and over every OpenAI-compatible server:
//! what it asks for arrives upstream, and what it makes of the answers, streamed and whole.

#[path = "../../emulated/mod.rs"]
mod emulated;
#[path = "../../served/form.rs"]
mod form;

use form::Form;
use futures_util::StreamExt;
use rig_core::{
    Model, ProviderError,
    completion::{
        CompletionRequest, CompletionResponse, Effort, FinishReason, Reasoning, ToolDefinition,
    },
    message::{
        AssistantContent, ImageMediaType, Message, StopReason, ToolCall, ToolName,
        ToolResultContent, UserContent,
    },
    providers::anthropic::{AnthropicConfig, Messages},
    streaming::{Item, Transcript, delivered},
};
use serde_json::{Value, json};
use tower::ServiceBuilder;
use tower_qwen::{
    anthropic::AnthropicLayer,
    dedup::DedupLayer,
    qwen::{compatible::CompatibleLayer, web::QwenWebLayer},
    session::{MemoryStore, SessionLayer},
    tool::call::ToolCallLayer,
};
use tower_qwen_emulator::{Builder, Emulator, Kind};
use tower_qwen_rust_clients::{KEY, serve};

/// How the client asks for its answer.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Streamed,
    Whole,
}

/// Every upstream, asked in both ways.
fn ways() -> impl Iterator<Item = (Kind, Mode)> {
    Kind::ALL.into_iter().flat_map(|kind| [(kind, Mode::Streamed), (kind, Mode::Whole)])
}

/// An upstream whose bytes come in pieces as a network cuts them.
fn upstream(kind: Kind) -> Builder {
    Emulator::builder().kind(kind).piece_size(37)
}

/// The client for `model`, with the edge and `emulator`'s layers behind a socket.
async fn client(emulator: &Emulator, kind: Kind, model: &str) -> Model<Messages> {
    const PATH: &str = "/v1/messages";
    let edge = ServiceBuilder::new().layer(AnthropicLayer::new());
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
    AnthropicConfig::new(KEY).with_base_url(origin).client().completion(model)
}

/// The client for the first model of the upstream.
async fn usual_client(emulator: &Emulator, kind: Kind) -> Model<Messages> {
    client(emulator, kind, &kind.models()[0]).await
}

/// The answer as the client has it in the end. A streamed one has no event that it does not know,
/// none out of order, and what it showed as it came is what it has.
async fn answer(
    model: &Model<Messages>,
    request: CompletionRequest,
    mode: Mode,
) -> Result<CompletionResponse, ProviderError> {
    let Mode::Streamed = mode else { return model.call(request).await };
    let mut stream = model.stream(request)?;
    let mut items = Vec::new();
    while let Some(item) = stream.next().await {
        items.push(item?);
    }
    let answer = stream.finish().await?;
    let unknown = items.iter().find(|item| matches!(item, Item::Unknown(_)));
    assert_eq!(unknown, None);
    let shown = delivered(&items);
    let has: Vec<_> = answer.choice.iter().map(AssistantContent::canonical).collect();
    assert_eq!(shown.iter().map(AssistantContent::canonical).collect::<Vec<_>>(), has);
    Transcript::from_items(items).expect("an order that the client knows");
    Ok(answer)
}

fn request(history: &[Message]) -> CompletionRequest {
    CompletionRequest::from(history.to_vec()).max_tokens(1_000)
}

/// What chat.qwen.ai, or another server, was asked for answers, oldest first.
fn asked(emulator: &Emulator) -> Vec<Value> {
    let requests = emulator.requests().into_iter();
    let completions = requests.filter(|request| request.uri.path().ends_with("/completions"));
    completions.map(|request| request.body).collect()
}

const ANSWER: &str = "Grüße, 千问 \u{1F30C}:\n\n  1 < 2 & \"so on\"\n";

#[tokio::test]
async fn an_answer_arrives_to_the_letter() {
    for (kind, mode) in ways() {
        let emulator = upstream(kind).answers(|_, _| Some(ANSWER.into())).build();
        let model = usual_client(&emulator, kind).await;
        let asks = request(&[Message::user("Say it.")]).preamble("Be kind.").temperature(0.5);
        let answer = answer(&model, asks, mode).await.expect("an answer");
        let told = format!("{kind}, {mode:?}: {answer:?}");
        assert_eq!(answer.text(), ANSWER, "{told}");
        assert_eq!(answer.choice.len(), 1, "{told}");
        assert_eq!(answer.finish_reason(), Some(FinishReason::Stop), "{told}");
        assert_eq!(answer.stop(), StopReason::Stop, "{told}");
        assert_eq!(answer.model(), model.id(), "{told}");
        assert!(answer.response_id().is_some_and(|id| id.starts_with("msg_")), "{told}");
        let usage = answer.usage;
        assert!(usage.input_tokens > Some(0) && usage.output_tokens > Some(0), "{told}");
        let sent = asked(&emulator);
        let [sent] = &sent[..] else { panic!("{} requests: {told}", sent.len()) };
        if kind != Kind::Web {
            assert_eq!(sent["temperature"], 0.5, "{told}");
            assert_eq!(sent["messages"][0]["role"], "system", "{told}");
        }
        let sent = sent.to_string();
        assert!(sent.contains("Be kind.") && sent.contains("Say it."), "{sent}: {told}");
    }
}

/// How upstream is asked to think, and not to.
fn thinks(kind: Kind, sent: &Value) -> &Value {
    match kind {
        Kind::Web => &sent["messages"][0]["feature_config"]["thinking_enabled"],
        Kind::Ollama => &sent["reasoning_effort"],
        Kind::DashScope => &sent["enable_thinking"],
        _ => &sent["chat_template_kwargs"]["enable_thinking"],
    }
}

/// The upstreams that think, each with a model that does so or not, as it is asked.
const THINKERS: [(Kind, &str); 6] = [
    (Kind::Web, "qwen3-max"),
    (Kind::Vllm, "Qwen/Qwen3-32B"),
    (Kind::SgLang, "Qwen/Qwen3-32B"),
    (Kind::Ollama, "qwen3:32b"),
    (Kind::LlamaCpp, "qwen3-32b-q4_k_m"),
    (Kind::DashScope, "qwen3-32b"),
];

#[tokio::test]
async fn thinking_is_shown_and_goes_back() {
    let hidden = json!({"thinking": {"type": "adaptive", "display": "omitted"}});
    for (kind, name) in THINKERS {
        for mode in [Mode::Streamed, Mode::Whole] {
            for shows in [true, false] {
                let emulator = upstream(kind).answers(|_, _| Some(ANSWER.into())).build();
                let model = client(&emulator, kind, name).await;
                let mut history = vec![Message::user("Think first.")];
                let asks = match shows {
                    true => request(&history).max_tokens(4_000).reasoning(Effort::High),
                    false => request(&history).additional_params(Some(hidden.clone())),
                };
                let answer = answer(&model, asks, mode).await.expect("an answer");
                let told = format!("{kind}, {mode:?}, shown: {shows}, {answer:?}");
                let [AssistantContent::Reasoning(thoughts), AssistantContent::Text(text)] =
                    &answer.choice[..]
                else {
                    panic!("{told}")
                };
                assert_eq!(text.text, ANSWER, "{told}");
                assert_eq!(thoughts.text.contains("I will say what it was."), shows, "{told}");
                assert_eq!(thoughts.text.is_empty(), !shows, "{told}");
                // Without its signature the client would not send it again as thinking.
                assert!(thoughts.native.is_some(), "{told}");

                history.extend(answer.message());
                history.push(Message::user("And again."));
                let again = request(&history);
                self::answer(&model, again, mode).await.expect("an answer");
                let sent = asked(&emulator);
                let [first, second] = &sent[..] else { panic!("{told}") };
                assert_ne!(thinks(kind, first), &json!(false), "{first}: {told}");
                assert_ne!(thinks(kind, first), &json!("none"), "{first}: {told}");
                // A chat has its thinking already; a server without chats gets it back.
                let goes_back = second.to_string().contains("I will say what it was.");
                assert_eq!(goes_back, kind != Kind::Web, "{second}: {told}");
            }
        }
    }
}

#[tokio::test]
async fn thinking_is_switched_off() {
    for (kind, name) in THINKERS {
        for mode in [Mode::Streamed, Mode::Whole] {
            let emulator = upstream(kind).answers(|_, _| Some(ANSWER.into())).build();
            let model = client(&emulator, kind, name).await;
            let asks = request(&[Message::user("Do not think.")]).reasoning(Reasoning::Off);
            let answer = answer(&model, asks, mode).await.expect("an answer");
            assert_eq!(answer.reasoning(), "", "{kind}, {mode:?}");
            assert_eq!(answer.text(), ANSWER, "{kind}, {mode:?}");
        }
    }
}

/// Each model of Claude's is switched off in its own way, and a server may bear its name.
#[tokio::test]
async fn thinking_is_switched_off_under_every_name() {
    for name in ["claude-opus-4-8", "claude-sonnet-5", "claude-sonnet-5-5", "claude-haiku-4-5"] {
        let emulator = upstream(Kind::Vllm).models([name]).build();
        let model = client(&emulator, Kind::Vllm, name).await;
        let asks = request(&[Message::user("Do not think.")]).reasoning(Reasoning::Off);
        let answer = answer(&model, asks, Mode::Streamed).await.expect("an answer");
        assert_eq!(answer.reasoning(), "", "{name}");
        assert_eq!(thinks(Kind::Vllm, &asked(&emulator)[0]), &json!(false), "{name}");
    }
}

/// What a file holds: markup, quotes, text beyond ASCII.
const CONTENT: &str = "<b class=\"x\">Grüße &amp; \u{1F30C}</b>\n    indented } { \\n\n\n";

/// Words by which the messages of the task are known.
const TASK: &str = "Do the task.";

/// What the model says before each call, and when it is done.
const LEAD: &str = "I call it.";
const END: &str = "All done.";

fn tools() -> Vec<ToolDefinition> {
    let tool = |name: &str, schema: Value| {
        ToolDefinition::new(ToolName::new(name).expect("a name"), "A tool of files.", schema)
    };
    let text = json!({"type": "string"});
    vec![
        tool(
            "write_file",
            json!({"type": "object", "required": ["path", "content"],
                "properties": {"path": text, "content": text}}),
        ),
        tool("list_files", json!({"type": "object", "properties": {"depth": {"type": "integer"}}})),
    ]
}

/// What the tools say.
fn run(call: &ToolCall) -> String {
    let arguments = &call.function.arguments;
    match call.function.name.as_str() {
        "write_file" => {
            assert_eq!(arguments["path"], "a note.txt");
            assert_eq!(arguments["content"], CONTENT);
            "It is written.".into()
        }
        "list_files" => {
            assert_eq!(json!(arguments), json!({"depth": 2}));
            "There is a note.txt.".into()
        }
        other => panic!("there is no tool {other}"),
    }
}

/// A model that writes its calls in `form` and does the task, a step a turn: each of its own steps
/// must stand on the path, as it was written.
fn at_work(kind: Kind, form: Form) -> Emulator {
    let path = ("path", json!("a note.txt"));
    let steps = [
        form.write("write_file", &[path, ("content", json!(CONTENT))]),
        form.write("list_files", &[("depth", json!(2))]),
    ];
    let answers = move |_: &str, earlier: &[&str]| {
        let done = earlier.iter().filter(|text| text.starts_with(LEAD)).count();
        Some(steps.get(done).map_or_else(|| END.into(), |step| format!("{LEAD}\n\n{step}")))
    };
    upstream(kind).answers(answers).build()
}

/// Goes on until there are no more calls to answer; how many there were.
async fn converse(model: &Model<Messages>, history: &mut Vec<Message>, mode: Mode) -> usize {
    for answered in 0..8 {
        let asks = request(history).preamble("Use the tools.").tools(tools());
        let answer = answer(model, asks, mode).await.expect("an answer");
        history.push(answer.message().expect("it says something"));
        let results: Vec<_> = answer
            .tool_calls()
            .map(|call| call.result(vec![ToolResultContent::text(run(call))]))
            .map(UserContent::ToolResult)
            .collect();
        if results.is_empty() {
            assert_eq!(answer.text(), END);
            assert_eq!(answer.finish_reason(), Some(FinishReason::Stop));
            return answered;
        }
        assert_eq!(answer.text().trim(), LEAD);
        assert_eq!(answer.finish_reason(), Some(FinishReason::ToolCalls));
        history.push(results.into());
    }
    panic!("it never ends: {history:?}")
}

#[tokio::test]
async fn a_task_with_tools_is_one_chat_that_gets_only_what_is_new() {
    for form in Form::ALL {
        for mode in [Mode::Streamed, Mode::Whole] {
            let emulator = at_work(Kind::Web, form);
            let model = client(&emulator, Kind::Web, "qwen3-coder-plus").await;
            let mut history = vec![Message::user(TASK)];
            assert_eq!(converse(&model, &mut history, mode).await, 2, "{form:?}, {mode:?}");
            history.push(Message::user("Thank you."));
            assert_eq!(converse(&model, &mut history, mode).await, 0, "{form:?}, {mode:?}");

            let chats = emulator.chats();
            assert_eq!(chats.len(), 1, "{form:?}, {mode:?}");
            let sent = asked(&emulator);
            let said: Vec<_> = sent.iter().map(|body| body["messages"].to_string()).collect();
            let told = format!("{form:?}, {mode:?}: {said:?}");
            assert_eq!(said.len(), 4, "{told}");
            let new = [TASK, "It is written.", "There is a note.txt.", "Thank you."];
            for (at, text) in said.iter().enumerate() {
                for (of, words) in new.iter().enumerate() {
                    assert_eq!(text.contains(words), at == of, "{words} in {at}: {told}");
                }
                let once = ["Use the tools.", "A tool of files."];
                assert!(once.iter().all(|words| text.contains(words) == (at == 0)), "{told}");
                assert!(!text.contains(LEAD), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn a_task_with_tools_is_done_by_every_server() {
    for (kind, mode) in ways().filter(|(kind, _)| *kind != Kind::Web) {
        let emulator = at_work(kind, Form::Coder);
        let model = usual_client(&emulator, kind).await;
        let mut history = vec![Message::user(TASK)];
        assert_eq!(converse(&model, &mut history, mode).await, 2, "{kind}, {mode:?}");
        let sent = asked(&emulator);
        assert_eq!(sent.len(), 3, "{kind}, {mode:?}");
        let last = &sent[2];
        assert_eq!(last["tools"].as_array().map(Vec::len), Some(2), "{last}");
        let messages = last["messages"].as_array().expect("messages");
        let calls: Vec<_> = messages.iter().filter_map(|it| it["tool_calls"].as_array()).collect();
        assert_eq!(calls.len(), 2, "{last}");
        let results: Vec<_> = messages.iter().filter(|it| it["role"] == "tool").collect();
        assert_eq!(results.len(), 2, "{last}");
        for (call, result) in calls.iter().zip(results) {
            assert_eq!(call[0]["id"], result["tool_call_id"], "{last}");
        }
    }
}

/// Two calls in one turn are answered together, one of them with what went wrong.
#[tokio::test]
async fn calls_side_by_side_each_have_their_result() {
    for kind in [Kind::Web, Kind::Vllm] {
        for mode in [Mode::Streamed, Mode::Whole] {
            let calls = ["a.txt", "b.txt"].map(|path| {
                let path = ("path", json!(path));
                Form::Coder.write("write_file", &[path, ("content", json!("It."))])
            });
            let answers = move |_: &str, earlier: &[&str]| {
                Some(if earlier.is_empty() { calls.join("\n") } else { END.into() })
            };
            let emulator = upstream(kind).answers(answers).build();
            let model = usual_client(&emulator, kind).await;
            let mut history = vec![Message::user(TASK)];
            let asks = request(&history).tools(tools());
            let first = answer(&model, asks, mode).await.expect("an answer");
            let calls: Vec<_> = first.tool_calls().collect();
            let [one, other] = calls[..] else { panic!("{kind}, {mode:?}: {first:?}") };
            assert_ne!(one.id, other.id, "{kind}, {mode:?}");
            assert_eq!(one.function.arguments["path"], "a.txt", "{kind}, {mode:?}");
            assert_eq!(other.function.arguments["path"], "b.txt", "{kind}, {mode:?}");
            history.extend(first.message());
            let say = |text: &str| vec![ToolResultContent::text(text)];
            let results = vec![one.result(say("a is there")), other.error_result(say("disk full"))];
            history.push(Message::tool_results(results));
            let asks = request(&history).tools(tools());
            let end = answer(&model, asks, mode).await.expect("an answer");
            assert_eq!(end.text(), END, "{kind}, {mode:?}");
            let sent = asked(&emulator)[1]["messages"].to_string();
            let place = |text: &str| sent.find(text).unwrap_or_else(|| panic!("{text}: {sent}"));
            assert!(place("a is there") < place("Error: disk full"), "{sent}");
        }
    }
}

#[tokio::test]
async fn an_image_goes_along() {
    const PIXEL: &str = "iVBORw0KGgo=";
    let emulator = upstream(Kind::Vllm).answers(|_, _| Some(ANSWER.into())).build();
    let model = usual_client(&emulator, Kind::Vllm).await;
    let image = UserContent::image_base64(PIXEL, Some(ImageMediaType::PNG), None);
    let asks = request(&[vec![UserContent::text("What is it?"), image].into()]);
    answer(&model, asks, Mode::Streamed).await.expect("an answer");
    let sent = &asked(&emulator)[0]["messages"][0]["content"];
    assert_eq!(sent[0]["text"], "What is it?", "{sent}");
    assert_eq!(sent[1]["image_url"]["url"], format!("data:image/png;base64,{PIXEL}"), "{sent}");
}

#[tokio::test]
async fn the_end_of_an_answer_has_its_reason() {
    let said = "one two three four five six seven eight";
    for mode in [Mode::Streamed, Mode::Whole] {
        let emulator = upstream(Kind::Vllm).answers(|_, _| Some(said.into())).build();
        let model = usual_client(&emulator, Kind::Vllm).await;
        let ask = || request(&[Message::user("Count.")]);
        let cut = answer(&model, ask().max_tokens(2), mode).await.expect("an answer");
        assert_eq!(cut.stop(), StopReason::Length, "{mode:?}: {cut:?}");
        assert!(said.starts_with(&cut.text()) && cut.text().len() < said.len(), "{cut:?}");
        let stopped = answer(&model, ask().stop([" three"]), mode).await.expect("an answer");
        assert_eq!(stopped.stop(), StopReason::Stop, "{mode:?}: {stopped:?}");
        assert_eq!(stopped.text(), "one two", "{mode:?}");

        // What is filtered after its first words is a refusal, which the client never sends again.
        let emulator = upstream(Kind::Web).build();
        let model = usual_client(&emulator, Kind::Web).await;
        let filtered = request(&[Message::user("emulate:content_filter=2 emulate:tokens=9")]);
        let refused = answer(&model, filtered, mode).await;
        match mode {
            Mode::Streamed => {
                let refused = refused.expect("what came of it");
                assert_eq!(refused.finish_reason(), Some(FinishReason::ContentFilter));
                assert!(matches!(refused.stop(), StopReason::Error(_)), "{refused:?}");
                assert_eq!(refused.text(), "one two");
            }
            // Nothing was shown yet, so there is an error in its place.
            Mode::Whole => {
                let error = refused.unwrap_err();
                assert_eq!(error.provider_response_status().map(|it| it.as_u16()), Some(400));
            }
        }
    }
}

/// What is refused, by the words that make the emulator do so.
#[tokio::test]
async fn errors_say_what_clients_act_on() {
    let too_long = "prompt is too long";
    for (kind, words, status, type_, text) in [
        (Kind::Web, "emulate:too_long", 400, "invalid_request_error", too_long),
        (Kind::Vllm, "emulate:too_long", 400, "invalid_request_error", too_long),
        (Kind::SgLang, "emulate:too_long", 400, "invalid_request_error", too_long),
        (Kind::LlamaCpp, "emulate:too_long", 400, "invalid_request_error", too_long),
        (Kind::DashScope, "emulate:too_long", 400, "invalid_request_error", too_long),
        (Kind::Portal, "emulate:too_long", 400, "invalid_request_error", too_long),
        (Kind::Web, "emulate:unauthorized", 401, "authentication_error", ""),
        (Kind::Web, "emulate:forbidden", 403, "permission_error", ""),
        (Kind::Web, "emulate:model_not_found", 404, "not_found_error", ""),
        (Kind::Web, "emulate:rate_limited", 429, "rate_limit_error", ""),
        (Kind::Vllm, "emulate:rate_limited", 429, "rate_limit_error", ""),
        (Kind::Web, "emulate:overloaded", 503, "overloaded_error", ""),
        (Kind::Web, "emulate:internal", 502, "api_error", ""),
    ] {
        for mode in [Mode::Streamed, Mode::Whole] {
            let emulator = upstream(kind).build();
            let model = usual_client(&emulator, kind).await;
            let error = answer(&model, request(&[Message::user(words)]), mode).await.unwrap_err();
            let told = format!("{kind}, {words}, {mode:?}: {error:?}");
            let had = error.provider_response_status().map(|status| status.as_u16());
            assert_eq!(had, Some(status), "{told}");
            let body = error.provider_response_json().expect("JSON").expect("a body");
            assert_eq!(body["error"]["type"], type_, "{told}");
            let message = body["error"]["message"].as_str().expect("a message");
            assert!(!message.is_empty() && message.contains(text), "{told}");
            assert_eq!(error.is_retryable(), status == 429 || status >= 500, "{told}");
        }
    }
}

/// Upstream knows no key of this client's.
#[tokio::test]
async fn an_unknown_key_is_refused() {
    for (kind, mode) in ways().filter(|(kind, _)| *kind != Kind::Ollama) {
        let emulator = upstream(kind).require_credentials(true).build();
        let model = usual_client(&emulator, kind).await;
        let error = answer(&model, request(&[Message::user("Hi.")]), mode).await.unwrap_err();
        let told = format!("{kind}, {mode:?}: {error:?}");
        let response = error.provider_response().unwrap_or_else(|| panic!("{told}"));
        assert_eq!(response.status.map(|status| status.as_u16()), Some(401), "{told}");
        assert_eq!(response.machine_code().as_deref(), Some("authentication_error"), "{told}");
        assert!(!error.is_retryable(), "{told}");
        assert!(!told.contains(KEY), "{told}");
    }
}

/// What goes wrong behind the first words is told in the stream.
#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error() {
    for (words, type_) in [
        ("emulate:tokens=9 emulate:cut=3", "api_error"),
        ("emulate:tokens=9 emulate:overloaded=3", "overloaded_error"),
        ("emulate:tokens=9 emulate:too_long=3", "invalid_request_error"),
    ] {
        let emulator = upstream(Kind::Web).build();
        let model = usual_client(&emulator, Kind::Web).await;
        let mut stream = model.stream(request(&[Message::user(words)])).expect("a request");
        let mut shown = 0;
        let error = loop {
            match stream.next().await {
                Some(Ok(_)) => shown += 1,
                Some(Err(error)) => break error,
                None => panic!("{words}: it ended well"),
            }
        };
        assert!(shown > 1, "{words}: {error:?}");
        let body = error.provider_response_json().expect("JSON").expect("a body");
        assert_eq!(body["error"]["type"], type_, "{words}: {error:?}");
    }
}

//! `TimeoutLayer` where it stands: over adapters and emulated servers, under the edges and the rest of
//! the stack, on a paused clock.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, retry::RetryLayer, service_fn,
    util::BoxCloneSyncService,
};
use tower_qwen::{
    BoxError, Error, FullBody,
    anthropic::AnthropicLayer,
    auth::{AuthRefreshLayer, Credential, StaticCredential},
    chat::{Answer, ChatRequest, FinishReason, FunctionTool, Json, Message, Role, Tool},
    dedup::DedupLayer,
    ollama::OllamaLayer,
    openai::OpenAiLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    responses::ResponsesLayer,
    retry::RetryPolicy,
    session::{MemoryStore, SessionLayer},
    timeout::TimeoutLayer,
    tool::call::ToolCallLayer,
};
use tower_qwen_emulator::{Emulator, Kind};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn auth() -> AuthRefreshLayer {
    let key = Credential::api_key("sk-demo-upstream").expect("a key");
    AuthRefreshLayer::new(StaticCredential::new(key))
}

/// The answer to `question` over all layers and an emulated server, and how long it took.
async fn asked(
    limits: TimeoutLayer,
    kind: Kind,
    server: Server,
    model: &str,
    question: &str,
    tools: Vec<Tool>,
) -> (Result<Answer, Error>, Duration, usize) {
    let emulator = Emulator::builder().kind(kind).build();
    let stack = ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(DedupLayer::new())
        .layer(ToolCallLayer::native_with_rescue())
        .layer(limits)
        .layer(RetryLayer::new(RetryPolicy::new().busy(false)))
        .layer(auth())
        .layer(CompatibleLayer::new(server))
        .service(emulator.clone());
    let mut request = ChatRequest::new(model, vec![Message::new(Role::User, question)]);
    request.tools = tools.into();
    let begun = Instant::now();
    let answer = match stack.oneshot(Request::new(request)).await {
        Ok(response) => Answer::collect(response.into_body()).await,
        Err(error) => Err(error),
    };
    (answer, begun.elapsed(), emulator.requests().len())
}

/// A long prompt: llama.cpp says nothing while it reads it, and later versions send comments.
#[tokio::test(start_paused = true)]
async fn a_prompt_that_takes_llamacpp_two_minutes_is_answered_and_asked_once() {
    for question in [
        "emulate:wait=128000 emulate:say=Hi",
        "emulate:keep_alive emulate:slow=128000 emulate:say=Hi",
    ] {
        let ask = |limits| {
            asked(limits, Kind::LlamaCpp, Server::LlamaCpp, "qwen3-32b-q4_k_m", question, vec![])
        };
        // The emulator waits so long before each word, where it is slow.
        let (answer, took, count) = ask(TimeoutLayer::local().total(None)).await;
        let answer = answer.expect(question);
        assert_eq!((&*answer.text, answer.finish_reason), ("Hi", Some(FinishReason::Stop)));
        assert_eq!(count, 1, "{question}");
        assert!(took >= secs(128), "{took:?}");
        // What suits a service on the internet does not suit it.
        let (answer, took, count) = ask(TimeoutLayer::hosted()).await;
        assert!(answer.expect_err(question).is_timeout());
        assert!(took >= secs(60) && took < secs(62), "{took:?}");
        assert_eq!(count, 1, "{question}: it may still read the prompt");
    }
}

/// Ollama sends a call when it is whole.
#[tokio::test(start_paused = true)]
async fn a_silence_before_a_whole_call_of_ollama_is_answered() {
    let mut tool = FunctionTool::without_parameters("write_file");
    let schema = json!({
        "type": "object",
        "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
        "required": ["path", "content"],
    });
    tool.parameters = Some(Json::from(schema));
    let question = "emulate:slow=75000 emulate:lead=I write it.\n\
                    write_file {\"path\": \"a.txt\", \"content\": \"one\"}";
    let (answer, took, count) = asked(
        TimeoutLayer::local().total(None),
        Kind::Ollama,
        Server::Ollama,
        "qwen3-coder:30b",
        question,
        vec![Tool::Function(tool)],
    )
    .await;
    let answer = answer.expect("answered");
    assert_eq!(answer.finish_reason, Some(FinishReason::ToolCalls));
    let [call] = &answer.tool_calls[..] else { panic!("{:?}", answer.tool_calls) };
    let arguments: Value = serde_json::from_str(&call.arguments).expect("an object");
    assert!(call.name == "write_file" && arguments["content"].is_string(), "{call:?}");
    assert_eq!(answer.text.trim(), "I write it.");
    assert!(took >= secs(2 * 75), "a silence behind the text: {took:?}");
    assert_eq!(count, 1);
}

type Route = BoxCloneSyncService<Request<FullBody>, Response<Bytes>, Infallible>;

/// An upstream that says `text`, and then sends a comment each second for ever.
fn commenting(
    text: &'static str,
) -> impl Service<
    Request<FullBody>,
    Response = Response<impl Body<Data = Bytes, Error = Infallible> + Send + 'static>,
    Error = Infallible,
    Future = impl Future<
        Output = Result<
            Response<impl Body<Data = Bytes, Error = Infallible> + Send + 'static>,
            Infallible,
        >,
    > + Send,
> + Clone
+ Send
+ Sync
+ 'static {
    service_fn(move |request: Request<FullBody>| async move {
        if request.uri().path() == "/api/v2/chats/new" {
            let chat = Full::from(r#"{"success": true, "data": {"id": "c-1"}}"#);
            let response = Response::builder().header("content-type", "application/json");
            return Ok(response.body(chat.boxed_unsync()).expect("a response"));
        }
        let comments = stream::repeat(Bytes::from_static(b": still there\n\n"));
        let comments = comments.then(|comment| async {
            sleep(secs(1)).await;
            comment
        });
        let pieces = stream::iter([Bytes::from_static(text.as_bytes())]).chain(comments);
        let body = StreamBody::new(pieces.map(Frame::data).map(Ok::<_, Infallible>));
        let response = Response::builder().header("content-type", "text/event-stream");
        Ok(response.body(body.boxed_unsync()).expect("a response"))
    })
}

/// One of the edges over `chat`, whose answers are read to their end.
fn edges<S, C>(chat: S) -> [(&'static str, Route); 4]
where
    S: Service<Request<ChatRequest>, Response = Response<C>, Error = Error, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    C: tower_qwen::chat::ChatStream + Send + 'static,
{
    fn read<E, B>(edge: E) -> Route
    where
        E: Service<Request<FullBody>, Response = Response<B>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError> + std::fmt::Debug> + Send + 'static,
    {
        Route::new(service_fn(move |request| {
            let edge = edge.clone();
            async move {
                let (head, body) = edge.oneshot(request).await?.into_parts();
                let read = Box::pin(body).collect().await;
                let bytes = read.expect("errors are written, not thrown").to_bytes();
                Ok(Response::from_parts(head, bytes))
            }
        }))
    }
    [
        ("chat", read(OpenAiLayer::new().layer(chat.clone()))),
        ("messages", read(AnthropicLayer::new().layer(chat.clone()))),
        ("responses", read(ResponsesLayer::new().layer(chat.clone()))),
        ("ollama", read(OllamaLayer::new().layer(chat))),
    ]
}

fn question(edge: &str, is_stream: bool) -> Request<FullBody> {
    let hello = json!([{"role": "user", "content": "Hello"}]);
    let body = match edge {
        "responses" => json!({"model": "m", "input": hello, "stream": is_stream}),
        _ => json!({"model": "m", "max_tokens": 9, "messages": hello, "stream": is_stream}),
    };
    Request::post("/").body(FullBody::from(body.to_string())).expect("a request")
}

/// Each limit is told in each edge's own form: with a status where nothing has been said, and in the
/// stream where it has; by the time that it has run out.
#[tokio::test(start_paused = true)]
async fn every_edge_tells_each_limit_in_its_own_form() {
    const COMPATIBLE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    const WEB: &str =
        "data: {\"choices\": [{\"delta\": {\"content\": \"Hi\", \"phase\": \"answer\"}}]}\n\n";
    let limits = |total| {
        ServiceBuilder::new()
            .layer(TimeoutLayer::hosted().total(total))
            .layer(RetryLayer::new(RetryPolicy::new()))
            .layer(auth())
    };
    for (words, text, total, at) in [
        ("limit on the first event", "", None, secs(60)),
        ("the answer stopped", "text", None, secs(120)),
        ("limit on a whole answer", "text", Some(secs(30)), secs(30)),
    ] {
        let [of_compatible, of_web] = match text {
            "" => ["", ""],
            _ => [COMPATIBLE, WEB],
        };
        let compatible = limits(total)
            .layer(CompatibleLayer::new(Server::Generic))
            .service(commenting(of_compatible));
        let web = limits(total).layer(QwenWebLayer::new()).service(commenting(of_web));
        for (edge, route) in edges(compatible).into_iter().chain(edges(web)) {
            for is_stream in [false, true] {
                let case = format!("{edge}, stream: {is_stream}, {words}");
                let begun = Instant::now();
                let response = route.clone().oneshot(question(edge, is_stream)).await;
                let (head, body) = response.expect("infallible").into_parts();
                let took = begun.elapsed();
                assert!(took >= at && took <= at + at / 64 + secs(1), "{case}: {took:?}");
                let body = String::from_utf8(body.to_vec()).expect("UTF-8");
                assert_eq!(body.matches(words).count(), 1, "{case}: it is told once: {body}");
                let object: Value = if is_stream {
                    assert_eq!(head.status, StatusCode::OK, "{case}: it had begun");
                    let data = body.lines().filter(|line| line.contains(words));
                    let data = data.map(|line| line.trim_start_matches("data:")).next_back();
                    serde_json::from_str(data.expect("in one line")).expect("JSON")
                } else {
                    assert_eq!(head.status, StatusCode::GATEWAY_TIMEOUT, "{case}: {body}");
                    serde_json::from_str(&body).expect("JSON")
                };
                let error = match object.pointer("/response/error") {
                    Some(error) => error,
                    None => &object["error"],
                };
                let (kind, code) = (&error["type"], &error["code"]);
                match (edge, is_stream) {
                    ("chat", _) | ("responses", false) => assert!(
                        kind == "timeout_error" && code == "upstream_timeout",
                        "{case}: {object}"
                    ),
                    ("ollama", _) => {
                        assert!(error.as_str().is_some_and(|said| said.contains(words)), "{case}");
                    }
                    ("messages", _) => assert_eq!(kind, "timeout_error", "{case}: {object}"),
                    _ => assert_eq!(code, "server_error", "{case}: {object}"),
                }
            }
        }
    }
}

/// What a client cancels is cancelled below, at each edge: nothing goes on by a clock.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_ends_the_wait() {
    let emulator = Emulator::new();
    let stack = ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(TimeoutLayer::hosted())
        .layer(QwenWebLayer::new())
        .service(emulator.clone());
    let body = json!({
        "model": "qwen3-max", "stream": true,
        "messages": [{"role": "user", "content": "emulate:stall=2 emulate:say=one two three four"}],
    });
    let request = Request::post("/").body(FullBody::from(body.to_string())).expect("a request");
    let mut body = Box::pin(stack.oneshot(request).await.expect("infallible").into_body());
    assert!(body.frame().await.expect("a frame").is_ok());
    drop(body);
    // It tells the upstream to stop, and that is all.
    sleep(secs(1)).await;
    let count = emulator.requests().len();
    assert!(emulator.requests().iter().any(|request| request.path().ends_with("/stop")));
    sleep(secs(1_000)).await;
    assert_eq!(emulator.requests().len(), count);
}

/// At the limit the upstream is told to stop as well.
#[tokio::test(start_paused = true)]
async fn a_limit_cancels_the_upstreams_work() {
    let emulator = Emulator::new();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::hosted())
        .layer(QwenWebLayer::new())
        .service(emulator.clone());
    let text = "emulate:keep_alive emulate:stall=2 emulate:say=one two three four";
    let request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, text)]);
    let response = stack.oneshot(Request::new(request)).await.expect("it begins");
    let error = Answer::collect(response.into_body()).await.expect_err("it stalls");
    assert!(error.is_timeout() && error.message().contains("the answer stopped"), "{error}");
    sleep(secs(1)).await;
    assert!(emulator.requests().iter().any(|request| request.path().ends_with("/stop")));
}

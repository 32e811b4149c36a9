//! `CompatibleLayer` over every emulated server it knows: server × build × feature. Whatever a
//! server gets wrong on the wire, the answer that comes out is the
//! same.

mod emulated;
mod traced;

use std::sync::Arc;

use http::Request;
use serde_json::json;
use tower::{ServiceBuilder, ServiceExt};
use tower_qwen::{
    Error, ErrorKind,
    chat::{
        Answer, ChatRequest, ChatStreamExt, FinishReason, FunctionTool, Message, ReasoningEffort,
        Role, Tool, ToolCall, ToolChoice,
    },
    qwen::compatible::{CompatibleLayer, ContentMode, Server, ThinkTags},
};
use tower_qwen_emulator::{Emulator, Kind, Style};

const THOUGHT: &str = "The user wrote something. I will say what it was.";

/// A server of a year, its bytes cut into pieces of one size.
#[derive(Clone, Copy, Debug)]
struct Upstream {
    kind: Kind,
    style: Style,
    piece: Option<usize>,
}

impl Upstream {
    fn all() -> impl Iterator<Item = Self> {
        let kinds = Kind::ALL.into_iter().filter(|kind| emulated::server(*kind).is_some());
        kinds.flat_map(|kind| {
            [Style::Autumn2025, Style::Autumn2026].into_iter().flat_map(move |style| {
                [None, Some(1), Some(37)].map(|piece| Self { kind, style, piece })
            })
        })
    }

    fn server(self) -> Server {
        emulated::server(self.kind).expect("it is one of the compatible kinds")
    }

    /// A model that thinks when it is asked to and not otherwise; its own name at the portal.
    fn model(self) -> &'static str {
        match self.kind {
            Kind::Vllm | Kind::SgLang => "Qwen/Qwen3-32B",
            Kind::Ollama => "qwen3:32b",
            Kind::LlamaCpp => "qwen3-32b-q4_k_m",
            Kind::DashScope => "qwen-plus",
            _ => "vision-model",
        }
    }

    fn emulator(self) -> Emulator {
        let builder = Emulator::builder().kind(self.kind).style(self.style);
        let builder = builder.require_credentials(true).token("sk-demo", "ann");
        match self.piece {
            Some(bytes) => builder.piece_size(bytes).build(),
            None => builder.build(),
        }
    }

    /// A request that does not want thinking.
    fn request(self, text: &str) -> ChatRequest {
        let mut request = ChatRequest::new(self.model(), vec![Message::new(Role::User, text)]);
        request.reasoning.enabled = Some(false);
        request
    }

    async fn ask(self, request: ChatRequest) -> Result<Answer, Error> {
        self.ask_with(CompatibleLayer::new(self.server()), request).await
    }

    async fn ask_with(self, layer: CompatibleLayer, request: ChatRequest) -> Result<Answer, Error> {
        let service = ServiceBuilder::new().layer(layer).service(self.emulator());
        let mut request = Request::new(request);
        let key = "Bearer sk-demo".parse().expect("a header");
        request.headers_mut().insert("authorization", key);
        Answer::collect(service.oneshot(request).await?.into_body().checked()).await
    }

    async fn answer(self, text: &str) -> Answer {
        let answer = self.ask(self.request(text)).await;
        answer.unwrap_or_else(|error| panic!("{self:?} {text}: {error:?}"))
    }

    async fn error(self, text: &str) -> Error {
        let answer = self.ask(self.request(text)).await;
        answer.err().unwrap_or_else(|| panic!("{self:?} {text}: no error"))
    }
}

fn tools() -> Arc<Vec<Tool>> {
    traced::on();
    let schema = json!({"type": "object", "additionalProperties": false,
        "properties": {"zone": {"type": "string"}}});
    let tool = |name: &str| Tool::Function(FunctionTool::new(name, schema.clone()));
    Arc::new(vec![tool("get_time"), tool("get_date")])
}

/// Names and arguments.
fn named(calls: &[ToolCall]) -> Vec<(&str, &str)> {
    calls.iter().map(|call| (&*call.name, &*call.arguments)).collect()
}

#[tokio::test]
async fn chat() {
    for upstream in Upstream::all() {
        let answer = upstream.answer("emulate:say=千问 says: 1 < 2 & <b>\"three\"</b> 🌍.").await;
        assert_eq!(answer.text, "千问 says: 1 < 2 & <b>\"three\"</b> 🌍.", "{upstream:?}");
        assert_eq!((&*answer.reasoning, answer.tool_calls.len()), ("", 0), "{upstream:?}");
        assert_eq!(answer.finish_reason, Some(FinishReason::Stop), "{upstream:?}");
        let whole = upstream.answer("emulate:json emulate:say=Hi").await;
        assert_eq!(&*whole.text, "Hi", "a server that ignores `stream`: {upstream:?}");
    }
}

#[tokio::test]
async fn a_conversation() {
    for upstream in Upstream::all() {
        let mut request = upstream.request("");
        request.history = vec![
            Message::new(Role::Developer, "Be brief."),
            Message::new(Role::User, "one"),
            Message::new(Role::Assistant, "two"),
            Message::new(Role::User, "emulate:path"),
        ]
        .into();
        let answer = upstream.ask(request).await.expect("an answer");
        assert_eq!(answer.text, "1. one\n2. two\n3. emulate:path\n", "{upstream:?}");
    }
}

#[tokio::test]
async fn reasoning() {
    for upstream in Upstream::all() {
        let say = "emulate:say=Hi";
        let mut request = upstream.request(say);
        request.reasoning.enabled = Some(true);
        let asked = upstream.ask(request).await.expect("an answer");
        let mut request = upstream.request(say);
        request.reasoning.enabled = None;
        request.reasoning.effort = Some(ReasoningEffort::Low);
        let effort = upstream.ask(request).await.expect("an answer");
        for place in ["reasoning", "reasoning_content", "both", "tags"] {
            let forced =
                upstream.answer(&format!("emulate:think emulate:reasoning={place} {say}")).await;
            assert_eq!(
                (forced.reasoning.trim(), &*forced.text),
                (THOUGHT, "Hi"),
                "{upstream:?} {place}"
            );
        }
        for answer in [asked, effort] {
            assert_eq!((answer.reasoning.trim(), &*answer.text), (THOUGHT, "Hi"), "{upstream:?}");
            assert_eq!(answer.finish_reason, Some(FinishReason::Stop));
        }
        let layer = CompatibleLayer::new(upstream.server()).think_tags(ThinkTags::Opened);
        let request = upstream.request(&format!("emulate:think emulate:reasoning=opened {say}"));
        let opened = upstream.ask_with(layer, request).await.expect("an answer");
        assert_eq!((opened.reasoning.trim(), &*opened.text), (THOUGHT, "Hi"), "{upstream:?}");
        let quiet = upstream.answer(say).await;
        assert_eq!((&*quiet.reasoning, &*quiet.text), ("", "Hi"), "{upstream:?}");
    }
}

/// The portal: pieces that repeat what was said.
#[tokio::test]
async fn cumulative_content() {
    for upstream in Upstream::all() {
        let text =
            "emulate:think emulate:reasoning=both emulate:cumulative emulate:say=one two three";
        let layer = CompatibleLayer::new(upstream.server()).content(ContentMode::Cumulative);
        let answer = upstream.ask_with(layer, upstream.request(text)).await.expect("an answer");
        assert_eq!((&*answer.reasoning, &*answer.text), (THOUGHT, "one two three"), "{upstream:?}");
    }
}

#[tokio::test]
async fn native_tools() {
    for upstream in Upstream::all() {
        let ask = async |text: &str, choice: Option<ToolChoice>| {
            let mut request = upstream.request(text);
            request.tools = tools();
            request.tool_choice = choice;
            request.parallel_tool_calls = Some(true);
            upstream.ask(request).await.unwrap_or_else(|error| panic!("{upstream:?}: {error:?}"))
        };
        let two = "get_time {\"zone\": \"CET \\\"}{\"} and get_date {}";
        let expected = [("get_time", "{\"zone\": \"CET \\\"}{\"}"), ("get_date", "{}")];
        for directive in ["", "emulate:repeat_names", "emulate:finish=stop", "emulate:no_finish"] {
            let answer = ask(&format!("{two} {directive}"), None).await;
            assert_eq!(named(&answer.tool_calls), expected, "{upstream:?} {directive}");
            assert_ne!(answer.tool_calls[0].id, answer.tool_calls[1].id, "{upstream:?}");
            assert!(answer.tool_calls.iter().all(|call| !call.id.is_empty()));
            assert_eq!(&*answer.text, "", "{upstream:?}");
            assert_eq!(answer.finish_reason, Some(FinishReason::ToolCalls), "{upstream:?}");
        }
        if upstream.kind == Kind::Ollama {
            let answer = ask(&format!("{two} emulate:calls_at_zero"), None).await;
            assert_eq!(named(&answer.tool_calls), expected, "told apart by their ids");
        }
        let forced = ask("Hello", Some(ToolChoice::Function("get_date".into()))).await;
        assert_eq!(named(&forced.tool_calls), [("get_date", "{}")], "{upstream:?}");
        assert_eq!(forced.finish_reason, Some(FinishReason::ToolCalls), "{upstream:?}");
        let none = ask("get_time", Some(ToolChoice::None)).await;
        assert!(none.tool_calls.is_empty() && !none.text.is_empty(), "{upstream:?}");

        // The result goes back, and the loop ends.
        let first = ask("get_time {\"zone\": \"CET\"}", None).await;
        let mut request = upstream.request("");
        let mut called = Message::empty(Role::Assistant);
        called.tool_calls = first.tool_calls.clone();
        let mut result = Message::new(Role::Tool, "It is noon.");
        result.tool_call_id = Some(first.tool_calls[0].id.clone());
        let asked = Message::new(Role::User, "get_time {\"zone\": \"CET\"}");
        request.history = vec![asked, called, result].into();
        request.tools = tools();
        let told = upstream.ask(request).await.expect("an answer");
        assert!(told.text.contains("It is noon."), "{upstream:?}: {}", told.text);
        assert_eq!(told.finish_reason, Some(FinishReason::Stop));
    }
}

/// Broken calls are either whole, or an error, or none; never nonsense without a word.
#[tokio::test]
async fn calls_that_the_servers_parser_broke() {
    for upstream in Upstream::all() {
        let mut request = upstream.request("get_time {\"zone\": \"CET\"} emulate:broken_call");
        request.tools = tools();
        let answer = upstream.ask(request).await;
        match upstream.kind {
            Kind::LlamaCpp => {
                let kind = answer.expect_err("a parse error").kind();
                assert_eq!(kind, ErrorKind::Upstream, "{upstream:?}");
            }
            Kind::Ollama => {
                let answer = answer.expect("an answer");
                assert_eq!((&*answer.text, answer.tool_calls.len()), ("", 0), "{upstream:?}");
                assert_eq!(answer.finish_reason, Some(FinishReason::Stop), "{upstream:?}");
            }
            Kind::DashScope | Kind::Portal => {
                let answer = answer.expect("an answer");
                let expected = [("get_time", "{\"zone\": \"CET\"}")];
                assert_eq!(named(&answer.tool_calls), expected, "{upstream:?}");
                assert!(!answer.tool_calls[0].id.is_empty(), "{upstream:?}");
            }
            // The tool layer mends the arguments.
            _ => assert_eq!(&*answer.expect("an answer").tool_calls[0].name, "get_time"),
        }
    }
}

#[tokio::test]
async fn usage() {
    for upstream in Upstream::all() {
        let usage = upstream.answer("emulate:say=one two three").await.usage.expect("sent");
        assert_eq!(usage.completion_tokens, 3, "{upstream:?}");
        assert!(usage.prompt_tokens > 24, "{upstream:?}");
        assert_eq!(usage.total_tokens, usage.prompt_tokens + 3, "{upstream:?}");
        let without = upstream.answer("emulate:no_usage emulate:say=Hi").await;
        let always = upstream.kind == Kind::LlamaCpp && upstream.style == Style::Autumn2025;
        assert_eq!(without.usage.is_some(), always, "{upstream:?}");
    }
}

#[tokio::test]
async fn the_limit_of_an_answer() {
    for upstream in Upstream::all() {
        let mut request = upstream.request("emulate:say=one two three");
        request.sampling.max_tokens = Some(2);
        let answer = upstream.ask(request).await.expect("an answer");
        assert_eq!((&*answer.text, answer.finish_reason), ("one two", Some(FinishReason::Length)));
    }
}

/// Refusals and failures mean the same, whichever server says them.
#[tokio::test]
async fn errors_before_the_stream() {
    use ErrorKind::{
        Auth, ContentFilter, ContextLength, InvalidRequest, ModelNotFound, ModelQuota, Overloaded,
        Permission, Quota, RateLimited, Timeout, Upstream as Failed,
    };
    for upstream in Upstream::all() {
        let kind = upstream.kind;
        let cloud = matches!(kind, Kind::DashScope | Kind::Portal);
        let expected = [
            ("rate_limited=7", RateLimited),
            (
                "quota",
                match kind {
                    Kind::DashScope => ModelQuota,
                    Kind::Portal => Quota,
                    _ => RateLimited,
                },
            ),
            ("unauthorized", Auth),
            ("forbidden", if kind == Kind::Portal { Auth } else { Permission }),
            ("model_not_found", ModelNotFound),
            ("content_filter", if cloud { ContentFilter } else { InvalidRequest }),
            ("invalid_input", InvalidRequest),
            ("internal", Failed),
            ("overloaded", Overloaded),
            ("timeout", Timeout),
            ("status=502", Failed),
            ("status=503", Overloaded),
        ];
        for (directive, expected) in expected {
            let error = upstream.error(&format!("emulate:{directive}")).await;
            assert_eq!(error.kind(), expected, "{upstream:?} {directive}: {error:?}");
            assert!(!error.message().is_empty() && !error.message().contains('<'));
            let retry = error.retry_after().map(|wait| wait.as_secs());
            if directive == "rate_limited=7" {
                assert_eq!(retry, Some(7), "{upstream:?}");
            }
        }
        if kind == Kind::Ollama && upstream.style == Style::Autumn2025 {
            upstream.answer("emulate:too_long").await;
        } else {
            let error = upstream.error("emulate:too_long").await;
            assert_eq!(error.kind(), ContextLength, "{upstream:?}: {error:?}");
        }
        if kind != Kind::Ollama {
            let loading = upstream.error("emulate:loading").await;
            assert_eq!(loading.kind(), Overloaded, "{upstream:?}");
        }
        if kind == Kind::DashScope {
            for (directive, expected) in
                [("tokens_limited", RateLimited), ("burst", RateLimited), ("billing", Quota)]
            {
                let error = upstream.error(&format!("emulate:{directive} emulate:flat")).await;
                assert_eq!(error.kind(), expected, "{directive}: {error:?}");
            }
        }
        if kind == Kind::Portal {
            assert_eq!(upstream.error("emulate:quota=403").await.kind(), Quota);
        }
        let mut request = Request::new(upstream.request("emulate:say=Hi"));
        let key = "Bearer sk-wrong".parse().expect("a header");
        request.headers_mut().insert("authorization", key);
        let layer = CompatibleLayer::new(upstream.server());
        let service = ServiceBuilder::new().layer(layer).service(upstream.emulator());
        let refused = service.oneshot(request).await.map(|_| ()).map_err(|error| error.kind());
        let expected = if kind == Kind::Ollama { Ok(()) } else { Err(Auth) };
        assert_eq!(refused, expected, "{upstream:?}");
    }
}

/// Before the first content the error is the response's, behind it the stream's.
#[tokio::test]
async fn errors_in_the_stream() {
    for upstream in Upstream::all() {
        let silent = upstream.kind == Kind::Ollama;
        let cases = [
            ("error_event", ErrorKind::Upstream),
            ("error_string", ErrorKind::Upstream),
            ("rate_event", ErrorKind::RateLimited),
            ("timeout_event", ErrorKind::Timeout),
            ("overloaded", ErrorKind::Overloaded),
        ];
        for (directive, expected) in cases {
            // Of Ollama's only the silence is there.
            let expected = if silent { ErrorKind::Truncated } else { expected };
            for after in [0, 2] {
                if after == 0 && directive == "overloaded" {
                    continue;
                }
                let text = format!("emulate:{directive}={after} emulate:say=one two three");
                let layer = CompatibleLayer::new(upstream.server());
                let service = ServiceBuilder::new().layer(layer).service(upstream.emulator());
                let mut request = Request::new(upstream.request(&text));
                let key = "Bearer sk-demo".parse().expect("a header");
                request.headers_mut().insert("authorization", key);
                let response = service.oneshot(request).await;
                assert_eq!(response.is_err(), after == 0, "{upstream:?} {directive}");
                let error = match response {
                    Err(error) => error,
                    Ok(response) => {
                        let answer = Answer::collect(response.into_body().checked()).await;
                        answer.err().unwrap_or_else(|| panic!("{upstream:?} {directive}: no error"))
                    }
                };
                assert_eq!(error.kind(), expected, "{upstream:?} {directive} {after}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_cut_is_an_error() {
    for upstream in Upstream::all() {
        for after in [0, 1, 2] {
            let say = "emulate:say=one two three";
            let cut = upstream.error(&format!("emulate:cut={after} {say}")).await;
            assert_eq!(cut.kind(), ErrorKind::Truncated, "{upstream:?} {after}");
            let reset = upstream.error(&format!("emulate:reset={after} {say}")).await;
            assert_eq!(reset.kind(), ErrorKind::Upstream, "{upstream:?} {after}");
        }
        // Either marker is enough, neither is not.
        for enough in ["no_done", "no_finish", "no_role", "keep_alive", "crlf", "hold_open"] {
            let answer = upstream.answer(&format!("emulate:{enough} emulate:say=Hi")).await;
            assert_eq!(&*answer.text, "Hi", "{upstream:?} {enough}");
        }
        let neither = upstream.error("emulate:no_done emulate:no_finish emulate:say=Hi").await;
        assert_eq!(neither.kind(), ErrorKind::Truncated, "{upstream:?}");
    }
}

//! Twice the input, twice the work: a table of what a client and an upstream can make long.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_qwen_emulator::Emulator;

use super::of;
use crate::{
    BoxError, FullBody,
    dedup::DedupLayer,
    openai::OpenAiLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    session::{MemoryStore, SessionLayer},
    tool::{Dialect, call::ToolCallLayer, wrap::ToolWrapLayer},
};

/// How long the smaller input is, in items.
const SMALL: usize = 512;

/// What stands below the edge.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Below {
    /// chat.qwen.ai, with tools in the prompt.
    Prompted(Dialect),
    /// chat.qwen.ai, with every reply a call.
    Wrap,
    /// An API with tools of its own.
    Native(Server),
    /// An API without.
    PromptedApi(Dialect),
}

const BELOW: [Below; 7] = [
    Below::Prompted(Dialect::Coder),
    Below::Prompted(Dialect::Hermes),
    Below::Prompted(Dialect::Xml),
    Below::Wrap,
    Below::Native(Server::DashScope),
    Below::Native(Server::Portal),
    Below::PromptedApi(Dialect::Xml),
];

/// An upstream that answers everything with these events.
fn api(events: &str) -> impl ServiceOf {
    let events = Bytes::from(format!("{events}data: [DONE]\n\n"));
    service_fn(move |_: Request<FullBody>| {
        let response = Response::builder().header("content-type", "text/event-stream");
        std::future::ready(Ok::<_, BoxError>(
            response.body(FullBody::new(events.clone())).expect("a response"),
        ))
    })
}

/// What [`api`] makes.
trait ServiceOf:
    tower_service::Service<
        Request<FullBody>,
        Response = Response<FullBody>,
        Error = BoxError,
        Future = std::future::Ready<Result<Response<FullBody>, BoxError>>,
    > + Clone
    + Send
    + 'static
{
}

impl<S> ServiceOf for S where
    S: tower_service::Service<
            Request<FullBody>,
            Response = Response<FullBody>,
            Error = BoxError,
            Future = std::future::Ready<Result<Response<FullBody>, BoxError>>,
        > + Clone
        + Send
        + 'static
{
}

/// The steps of a request and its answer.
fn steps(below: Below, body: &Value, events: &str) -> usize {
    let body = body.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let ((answer, said), steps) =
        of(|| runtime.block_on(async { answered(below, body, events).await }));
    assert!(answer.is_success(), "{below:?}: {}", String::from_utf8_lossy(&said));
    steps
}

async fn answered(below: Below, body: String, events: &str) -> (http::StatusCode, Bytes) {
    macro_rules! through {
        ($($layer:expr),+; $upstream:expr) => {{
            let service = ServiceBuilder::new()
                .layer(OpenAiLayer::new().max_body(64 << 20))
                .layer(SessionLayer::new(MemoryStore::default()))
                $(.layer($layer))+
                .service($upstream);
            let request = Request::post("/v1/chat/completions")
                .header("authorization", "Bearer sk-demo")
                .body(FullBody::new(Bytes::from(body)))
                .expect("a request");
            let Ok::<_, Infallible>(response) = service.oneshot(request).await;
            let status = response.status();
            let Ok(body) = response.into_body().collect().await;
            (status, body.to_bytes())
        }};
    }

    let dedup = DedupLayer::new();
    let web = QwenWebLayer::new().stop_on_drop(false);
    match below {
        Below::Prompted(format) => {
            through!(dedup, ToolCallLayer::prompted_in(format), web; Emulator::new())
        }
        Below::Wrap => through!(ToolWrapLayer::new(), dedup, web; Emulator::new()),
        Below::Native(server) => through!(
            dedup, ToolCallLayer::native_with_rescue(), CompatibleLayer::new(server); api(events)
        ),
        Below::PromptedApi(format) => through!(
            dedup, ToolCallLayer::prompted_in(format), CompatibleLayer::new(Server::Vllm);
            api(events)
        ),
    }
}

/// An answer that is one word.
const WORD: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\
                    \"finish_reason\":\"stop\"}]}\n\n";

fn request(messages: Vec<Value>, tools: &[Value]) -> Value {
    let mut all = vec![json!({"role": "system", "content": "Be brief."})];
    all.extend(messages);
    all.push(json!({"role": "user", "content": "Go on."}));
    let mut request = json!({"model": "qwen3-coder-plus", "messages": all});
    if !tools.is_empty() {
        request["tools"] = tools.into();
    }
    request
}

fn call(n: usize, name: &str, arguments: &Value) -> Value {
    json!({"id": format!("call_{n}"), "type": "function",
        "function": {"name": name, "arguments": arguments.to_string()}})
}

fn called(calls: Vec<Value>) -> Value {
    json!({"role": "assistant", "content": null, "tool_calls": calls})
}

fn result(n: usize) -> Value {
    json!({"role": "tool", "tool_call_id": format!("call_{n}"), "content": "done"})
}

fn tool(name: &str, parameters: &Value) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": parameters}})
}

// The names are of one length, so that none begins with another.
fn properties(n: usize, of: impl Fn(usize) -> Value) -> Value {
    (0..n).map(|n| (format!("p{n:05}"), of(n))).collect::<serde_json::Map<_, _>>().into()
}

fn strings(n: usize) -> Value {
    json!({"type": "object", "properties": properties(n, |_| json!({"type": "string"}))})
}

/// What can be made long: its name, and what it is of a length.
type Shape<T> = (&'static str, fn(usize) -> T);

/// What a client can make long: of each the request of `n`.
fn requests() -> Vec<Shape<Value>> {
    vec![
        ("calls and results of one message", |n| {
            let calls = (0..n).map(|n| call(n, "f", &json!({}))).collect();
            let results = (0..n).rev().map(result);
            request([called(calls)].into_iter().chain(results).collect(), &[])
        }),
        ("calls with one id", |n| {
            let calls = (0..n).map(|_| call(0, "f", &json!({}))).collect();
            request([called(calls)].into_iter().chain((0..n).map(|_| result(0))).collect(), &[])
        }),
        ("results of calls that are not there", |n| {
            let calls = (n..2 * n).map(|n| call(n, "f", &json!({}))).collect();
            request([called(calls)].into_iter().chain((0..n).map(result)).collect(), &[])
        }),
        ("turns with a call and a result", |n| {
            let turns = (0..n).flat_map(|n| [called(vec![call(n, "f", &json!({}))]), result(n)]);
            request(turns.collect(), &[])
        }),
        ("tools, each called", |n| {
            let tools: Vec<_> = (0..n).map(|n| tool(&format!("f{n}"), &strings(1))).collect();
            let calls =
                (0..n).map(|n| call(n, &format!("f{n}"), &json!({"p00000": "x"}))).collect();
            request(vec![called(calls)], &tools)
        }),
        ("tools of one name, called", |n| {
            let tools = vec![tool("f", &strings(1)); n];
            let calls = (0..n).map(|n| call(n, "f", &json!({"p00000": "x"}))).collect();
            request(vec![called(calls)], &tools)
        }),
        ("properties, each in a call", |n| {
            let calls =
                (0..n).map(|n| call(n, "f", &json!({format!("p{n:05}"): "x < y"}))).collect();
            request(vec![called(calls)], &[tool("f", &strings(n))])
        }),
        ("properties and as many arguments", |n| {
            let arguments = properties(n, |_| json!("x < y"));
            request(vec![called(vec![call(0, "f", &arguments)])], &[tool("f", &strings(n))])
        }),
        ("properties and markup in an argument", |n| {
            let arguments = json!({"p00000": "x <a <b".repeat(n)});
            request(vec![called(vec![call(0, "f", &arguments)])], &[tool("f", &strings(n))])
        }),
        ("properties that refer to one", |n| {
            let to = |_| json!({"$ref": "#/$defs/one"});
            let words: Vec<_> = (0..n).map(|n| n.to_string()).collect();
            let schema =
                json!({"properties": properties(n, to), "$defs": {"one": {"enum": words}}});
            let arguments = properties(n, |_| json!("x"));
            request(vec![called(vec![call(0, "f", &arguments)])], &[tool("f", &schema)])
        }),
        ("values of an enum, and calls", |n| {
            let words: Vec<_> = (0..n).map(|n| n.to_string()).collect();
            let schema = json!({"properties": {"p": {"enum": words}}});
            let calls = (0..n).map(|n| call(n, "f", &json!({"p": "x"}))).collect();
            request(vec![called(calls)], &[tool("f", &schema)])
        }),
        ("system messages", |n| {
            request(vec![json!({"role": "system", "content": "Be good."}); n], &[])
        }),
        ("empty messages", |n| request(vec![json!({"role": "assistant"}); n], &[])),
        ("questions and answers", |n| {
            let turns = (0..n).flat_map(|n| {
                // So long that the edge keeps the body and copies nothing, at either length.
                let said = format!("{n}: {}", "x".repeat(40));
                ["user", "assistant"].map(|role| json!({"role": role, "content": said}))
            });
            request(turns.collect(), &[])
        }),
        ("parts of a message", |n| {
            let parts = vec![json!({"type": "text", "text": "x"}); n];
            request(vec![json!({"role": "user", "content": parts})], &[])
        }),
        ("unknown fields of the request", |n| {
            let mut request = request(vec![], &[]);
            for n in 0..n {
                request[format!("x{n}")] = json!([n]);
            }
            request
        }),
        ("unknown fields of a message", |n| {
            let mut message = json!({"role": "user", "content": "x"});
            for n in 0..n {
                message[format!("x{n}")] = json!([n]);
            }
            request(vec![message], &[])
        }),
        ("sections of an XML prompt", |n| {
            let section = |n| format!("## t{n}\n- p{n:05}: x\n<t{n}><p{n:05}>x</p{n:05}></t{n}>\n");
            let prompt: String = (0..n).map(section).collect();
            request(vec![json!({"role": "system", "content": prompt})], &[])
        }),
    ]
}

fn event(delta: &Value) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]}))
}

fn finished(reason: &str) -> String {
    let choice = json!({"index": 0, "delta": {}, "finish_reason": reason});
    format!("data: {}\n\n", json!({"choices": [choice]}))
}

fn begun(index: usize, id: &str) -> Value {
    json!({"index": index, "id": id, "function": {"name": "f", "arguments": "{}"}})
}

fn said(text: &str) -> String {
    text.as_bytes()
        .chunks(7)
        .map(|piece| event(&json!({"content": String::from_utf8_lossy(piece)})))
        .collect::<String>()
        + &finished("stop")
}

/// What an upstream can make long: of each the tools and the events of `n`.
fn answers() -> Vec<Shape<(Value, String)>> {
    vec![
        ("calls begun, an event each", |n| {
            let calls = (0..n).map(|n| event(&json!({"tool_calls": [begun(n, &n.to_string())]})));
            (strings(1), calls.collect::<String>() + &finished("tool_calls"))
        }),
        ("calls begun in one event", |n| {
            let calls: Vec<_> = (0..n).map(|n| begun(n, &n.to_string())).collect();
            (strings(1), event(&json!({"tool_calls": calls})) + &finished("tool_calls"))
        }),
        ("calls without an id or with one id", |n| {
            let calls: Vec<_> = (0..n).map(|n| begun(n, ["", "same"][n % 2])).collect();
            (strings(1), event(&json!({"tool_calls": calls})) + &finished("tool_calls"))
        }),
        ("calls begun, and more of the first of them", |n| {
            let calls: Vec<_> = (0..n)
                .map(|n| json!({"index": n, "id": n.to_string(), "function": {"name": "f"}}))
                .collect();
            let more =
                event(&json!({"tool_calls": [{"index": 0, "function": {"arguments": " "}}]}));
            let more = event(&json!({"tool_calls": calls})) + &more.repeat(n);
            (strings(1), more + &finished("tool_calls"))
        }),
        ("properties, each a parameter in tags", |n| {
            let parameter = |n| format!("<parameter=p{n:05}>\nx\n</parameter>\n");
            let parameters: String = (0..n).map(parameter).collect();
            let call = format!("<tool_call>\n<function=f>\n{parameters}</function>\n</tool_call>");
            (strings(n), said(&call))
        }),
        ("properties, each a tag", |n| {
            let parameters: String = (0..n).map(|n| format!("<p{n:05}>x</p{n:05}>\n")).collect();
            (strings(n), said(&format!("<f>\n{parameters}</f>")))
        }),
        ("properties, and lines that may begin one", |n| {
            let line = "<p\n<parameter=p\n".repeat(n);
            (strings(n), said(&format!("<f>\n<p00000>{line}</p00000>\n</f>")))
        }),
        ("a parameter again and again", |n| {
            let call = "<parameter=p00000>\nx\n</parameter>\n".repeat(n);
            (strings(n), said(&format!("<function=f>\n{call}</function>")))
        }),
        ("text", |n| (strings(1), said(&"some text <b ".repeat(n)))),
        ("reasoning", |n| {
            let piece = event(&json!({"reasoning_content": "some text"}));
            (strings(1), piece.repeat(n) + WORD)
        }),
    ]
}

/// What is wrong where `twice` of what took `once` is more than twice the steps; a tenth is for what
/// is sorted.
fn fault(what: &str, once: usize, twice: usize) -> Option<String> {
    let ratio = twice as f64 / once as f64;
    if once < SMALL / 4 {
        return Some(format!("{what}: it is not counted: {once} steps"));
    }
    (ratio > 2.2).then(|| format!("{what}: {once} steps became {twice}, {ratio:.2} times as many"))
}

#[track_caller]
fn check(what: &str, once: usize, twice: usize) {
    assert_eq!(fault(what, once, twice), None);
}

#[test]
fn a_request_twice_as_long_is_twice_the_work() {
    let mut faults = Vec::new();
    for (name, shape) in requests() {
        let [small, large] = [SMALL, 2 * SMALL].map(shape);
        for below in BELOW {
            let [once, twice] = [&small, &large].map(|body| steps(below, body, WORD));
            faults.extend(fault(&format!("{name}, {below:?}"), once, twice));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn an_answer_twice_as_long_is_twice_the_work() {
    let below = [
        Below::Native(Server::DashScope),
        Below::PromptedApi(Dialect::Coder),
        Below::PromptedApi(Dialect::Xml),
    ];
    let mut faults = Vec::new();
    for (name, shape) in answers() {
        for below in below {
            let [once, twice] = [SMALL, 2 * SMALL].map(|n| {
                let (schema, events) = shape(n);
                let mut request = request(vec![], &[tool("f", &schema)]);
                request["stream"] = true.into();
                steps(below, &request, &events)
            });
            faults.extend(fault(&format!("{name}, {below:?}"), once, twice));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Dedup alone, since a chat that has seen calls takes two requests.
#[test]
fn results_whose_calls_were_seen_are_named_in_one_pass() {
    use crate::chat::{ChatRequest, Conversation, Message, Role, ToolCall};

    let [once, twice] = [SMALL, 2 * SMALL].map(|n| {
        let mut answer = Message::empty(Role::Assistant);
        answer.tool_calls = (0..n).map(|n| ToolCall::new(format!("call_{n}"), "f", "{}")).collect();
        let results = (0..n).rev().map(|n| {
            let mut result = Message::new(Role::Tool, "done");
            result.tool_call_id = Some(format!("call_{n}").into());
            result
        });
        let mut chat = ChatRequest::new("m", [answer].into_iter().chain(results));
        chat.destination = Conversation::new("c").with_parent("p").into();
        chat.history.mark_seen(1);
        let inner = service_fn(|request: Request<ChatRequest>| {
            std::future::ready(Ok::<_, Infallible>(request.into_body()))
        });
        let dedup = ServiceBuilder::new().layer(DedupLayer::new()).service(inner);
        let (sent, steps) = of(|| tokio_test::block_on(dedup.oneshot(Request::new(chat))));
        let Ok(sent) = sent;
        assert!(sent.history.iter().all(|result| result.name.as_deref() == Some("f")));
        steps
    });
    check("results whose calls were seen", once, twice);
}

#[test]
fn fields_that_are_merged_are_passed_once() {
    use crate::chat::Extra;

    let [once, twice] = [SMALL, 2 * SMALL].map(|n| {
        let fields = |from: usize| -> Extra {
            (from..from + n).map(|n| (format!("x{n}"), json!(n))).collect()
        };
        let (mut all, other) = (fields(0), fields(n / 2));
        let ((), steps) = of(|| all.merge(other));
        assert_eq!(all.iter().count(), n + n / 2);
        steps
    });
    check("fields that are merged", once, twice);
}

#[test]
fn fields_of_many_events_are_merged_at_the_end() {
    use crate::chat::{Answer, ChatEvent, Extra, FinishReason};

    let [once, twice] = [SMALL, 2 * SMALL].map(|n| {
        let fields = (0..n).map(|n| Extra::from_iter([(format!("x{n}"), json!(n))]));
        let events = fields
            .map(ChatEvent::ServerFields)
            .chain([ChatEvent::Text("Hi".into()), ChatEvent::Finished(FinishReason::Stop)]);
        let events = futures_util::stream::iter(events.map(Ok).collect::<Vec<_>>());
        let (answer, steps) = of(|| tokio_test::block_on(Answer::collect(events)));
        assert_eq!(answer.expect("complete").server_fields.iter().count(), n);
        steps
    });
    check("fields of many events", once, twice);
}

/// The counter sees what it is for.
#[test]
fn a_search_in_a_list_is_not_twice_the_work() {
    use crate::Text;

    let [once, twice] = [SMALL, 2 * SMALL].map(|n| {
        let texts: Vec<Text> = (0..n).map(|n| n.to_string().into()).collect();
        let (found, steps) = of(|| texts.iter().filter(|text| texts.contains(text)).count());
        assert_eq!(found, n);
        steps
    });
    assert!(twice > 3 * once, "{once} {twice}");
}

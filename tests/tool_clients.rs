//! Tool calls as the official OpenAI SDKs and the AI SDK see them, with the model writing its calls
//! as text in each form that models use; the tests themselves are the scripts in tests/clients.
//!
//! They need the packages that tests/clients.rs names. Without them the tests say so and pass,
//! except where `CI` is set.
//!
//! A user's words `case:NAME:FORM` make the model play the case of that name in that form, a step
//! a turn; after the last step it repeats what it was told. The scripts find the cases, and the
//! tools that they call, in the file that `TOOL_CASES` names.
//!
//! They talk to the proxy's program. That an answer came to its limit chat.qwen.ai cannot say: the
//! case `half` ends in the middle of a value, and upstream calls it finished. At `SHORT_BASE_URL` a
//! second program has an OpenAI-compatible upstream, whose model stops after as many bytes as the
//! words `bytes:N` say, and which says so.

#[path = "proxy/binary.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod binary;
#[path = "served/form.rs"]
mod form;
#[path = "served/proxied.rs"]
mod proxied;
#[path = "served/suite.rs"]
mod suite;
mod traced;

use std::{collections::HashMap, fs, process::Command};

use axum::Router;
use binary::Running;
use form::Form;
use futures_util::stream;
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_qwen::{
    Error,
    chat::{ChatEvent, ChatRequest, FinishReason},
    openai::OpenAiLayer,
};
use tower_qwen_emulator::Emulator;

/// How large the argument of the case `large` is, in bytes.
const LARGE: usize = 200 * 1024;

fn tools() -> Value {
    let tool = |name: &str, description: &str, parameters: Value| {
        json!({"type": "function",
            "function": {"name": name, "description": description, "parameters": parameters}})
    };
    json!([
        tool(
            "get_weather",
            "The weather of a city.",
            json!({"type": "object", "required": ["city"], "properties": {
                "city": {"type": "string"}, "days": {"type": "integer"}}})
        ),
        tool("get_time", "The time here.", json!({"type": "object", "properties": {}})),
        tool(
            "write_file",
            "Writes a file.",
            json!({"type": "object", "required": ["file_path", "content"], "properties": {
                "file_path": {"type": "string"}, "content": {"type": "string"}}})
        ),
        tool(
            "make_plan",
            "Makes a plan.",
            json!({
                "type": "object",
                "$defs": {"step": {"type": "object", "properties": {
                    "id": {"type": "integer"},
                    "do": {"type": "array", "items": {"type": "string"}},
                    "when": {"anyOf": [{"type": "null"}, {"type": "object"}]}}}},
                "properties": {
                    "title": {"type": "string"},
                    "options": {"type": "object", "properties": {
                        "depth": {"type": "object"},
                        "labels": {"type": "array", "items": {"type": "string"}},
                        "name": {"type": "string"}}},
                    "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
                    "matrix": {"type": "array", "items": {"type": "array"}},
                    "ratio": {"type": "number"},
                    "count": {"type": "integer"},
                    "done": {"type": "boolean"},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "nothing": {"type": "object"},
                    "none": {"type": "array"}
                }
            })
        ),
    ])
}

/// What the model does, by the name of the case, turn by turn.
fn cases() -> Value {
    let step = |text: Value, calls: Value| json!({"text": text, "calls": calls});
    let call = |name: &str, arguments: Value| json!({"name": name, "arguments": arguments});
    let only = |calls: Value| step(Value::Null, calls);
    let words = "No call here: `<tool_call>` and <function=unknown> are words, 3 < 4 && 5 > 4, \
                 <b>bold</b> {\"name\": 1}.\n\n```xml\n<tool_call>\n<function=get_time>\n</function>\n\
                 </tool_call>\n```\n\nThat is how a call looks.";
    let unicode = "Zürich — 千问 🌍 👩‍👩‍👧‍👦 עברית e\u{301} \u{2028}\u{feff} \\u00e9 \\n \"quoted\" 'single' \
                   \ttab\r\n  indented\u{1b}\u{7f}\n\n  the end \n";
    json!({
        "one": [only(json!([call("get_weather", json!({"city": "Oslo", "days": 3}))]))],
        "empty": [only(json!([call("get_time", json!({}))]))],
        "two": [only(json!([
            call("get_weather", json!({"city": "Oslo"})),
            call("get_time", json!({})),
            call("get_weather", json!({"city": "Bergen", "days": 0})),
        ]))],
        "lead": [step(
            json!("I look it up.\n\n1 < 2, <i>so</i> first Oslo:"),
            json!([call("get_weather", json!({"city": "Oslo"}))])
        )],
        "none": [step(json!(words), json!([]))],
        "nested": [only(json!([call("make_plan", json!({
            "title": "007",
            "options": {
                "depth": {"levels": [1, 2, [3, {"x": null}]], "on": true},
                "labels": ["a", "", "<b>"],
                "name": "<b class=\"x\">}{</b> [1, 2"
            },
            "steps": [
                {"id": 1, "do": ["cut", "paste \"it\""], "when": null},
                {"id": 2, "do": [], "when": {"hour": 12.5, "days": ["Mo", "Fr"]}}
            ],
            "matrix": [[1, 0], [0, [true, null, "x"]]],
            "ratio": -0.25,
            "count": 12_345_678_901_u64,
            "done": false,
            "note": null,
            "nothing": {},
            "none": []
        }))]))],
        "unicode": [only(json!([
            call("write_file", json!({"file_path": "/tmp/ä b/千.txt", "content": unicode})),
        ]))],
        "large": [only(json!([
            call("write_file", json!({"file_path": "large.md", "content": large()})),
        ]))],
        "steps": [
            step(json!("First the weather."), json!([
                call("get_weather", json!({"city": "Oslo"})),
                call("get_weather", json!({"city": "Bergen"})),
            ])),
            only(json!([call("write_file", json!({"file_path": "a.txt", "content": "<p>\n  4 & 5\n</p>"}))])),
            step(json!("And the time."), json!([call("get_time", json!({}))])),
        ],
    })
}

/// A file of XML, JSON and fences, with much of what a call is made of.
fn large() -> String {
    let mut text = String::with_capacity(LARGE + 1024);
    let mut n = 0;
    while text.len() < LARGE {
        text += &format!(
            "<!-- {n} -->\n<config id=\"{n}\"><parameter name=\"x\">&lt;{n}&gt;</parameter>\
             <content type=\"a\">{{\"n\": {n}, \"a\": [1, {{\"b\": \"}}\\n\"}}]}}</content></config>\n\
             ```json\n{{\"name\": \"get_weather\", \"arguments\": {{\"city\": \"Oslo\"}}}}\n```\n\
             \t<tool_call> is said, </tool_call> too; </function> is not the end — 千问 🌍.\n~~~\n"
        );
        n += 1;
    }
    text
}

/// A step as the model writes it: of the arguments first those that the tool requires, in the order
/// of its schema.
fn write(form: Form, step: &Value) -> String {
    let tools = tools();
    let tools = tools.as_array().expect("tools");
    let calls = step["calls"].as_array().expect("calls").iter().map(|call| {
        let name = call["name"].as_str().expect("a name");
        let tool = tools.iter().find(|tool| tool["function"]["name"] == *name).expect("a tool");
        let required = tool["function"]["parameters"]["required"].as_array();
        let place = |key: &str| {
            let mut keys = required.into_iter().flatten();
            keys.position(|required| *required == *key).unwrap_or(usize::MAX)
        };
        let arguments = call["arguments"].as_object().expect("arguments").iter();
        let mut arguments: Vec<_> = arguments.map(|(key, v)| (&**key, v.clone())).collect();
        arguments.sort_by_key(|(key, _)| place(key));
        form.write(name, &arguments)
    });
    let calls = calls.collect::<Vec<_>>().join("\n");
    match step["text"].as_str() {
        Some(text) if calls.is_empty() => text.to_owned(),
        Some(text) => format!("{text}\n\n{calls}"),
        None => calls,
    }
}

/// Every case in every form, by `NAME:FORM`.
fn plays() -> HashMap<String, Vec<String>> {
    let cases = cases();
    let cases = cases.as_object().expect("cases");
    let play = |(name, steps): (&String, &Value), form: Form| {
        let steps = steps.as_array().expect("steps").iter().map(|step| write(form, step));
        (format!("{name}:{form:?}"), steps.collect())
    };
    let half = |form: Form| {
        let mut text = write(form, &cases["unicode"][0]);
        text.truncate(text.find("quoted").expect("in the middle"));
        (format!("half:{form:?}"), vec![text])
    };
    Form::ALL
        .into_iter()
        .flat_map(|form| cases.iter().map(move |case| play(case, form)).chain([half(form)]))
        .collect()
}

/// What follows `key` in `text`, to the next blank.
fn word<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key)?.1.split_whitespace().next()
}

/// The model by its cases; without one it is left to the emulator.
fn emulator() -> Emulator {
    let plays = plays();
    proxied::upstream()
        .answers(move |message, earlier| {
            let case = earlier.iter().copied().chain([message]).find_map(|it| word(it, "case:"))?;
            let steps = plays.get(case).unwrap_or_else(|| panic!("no case {case}"));
            // Each of the model's own steps must stand on the path, as it was written.
            let done = earlier.iter().filter(|text| steps.iter().any(|step| step == *text)).count();
            Some(steps.get(done).cloned().unwrap_or_else(|| format!("I was told: {message}")))
        })
        .build()
}

/// A program whose upstream, one without tools, comes to the limit of its answer.
async fn short() -> Running {
    let plays = std::sync::Arc::new(plays());
    let model = service_fn(move |request: Request<ChatRequest>| {
        let messages = request.body().history.iter().map(|message| message.text().to_string());
        let asked = messages.collect::<Vec<_>>().join("\n");
        let case = word(&asked, "case:").expect("a case");
        let bytes: usize = word(&asked, "bytes:").and_then(|n| n.parse().ok()).expect("a number");
        let mut pieces = Vec::new();
        let mut length = 0;
        for c in plays[case][0].chars().take_while(|c| {
            length += c.len_utf8();
            length <= bytes
        }) {
            pieces.push(Ok(ChatEvent::Text(c.to_string().into())));
        }
        pieces.push(Ok(ChatEvent::Finished(FinishReason::Length)));
        async move { Ok::<_, Error>(Response::new(stream::iter(pieces))) }
    });
    let upstream = ServiceBuilder::new().layer(OpenAiLayer::new()).service(model);
    let router = Router::new().route_service("/v1/chat/completions", upstream);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut proxy = binary::command();
    proxy.args(["--upstream", "compatible", "--tools", "prompt"]);
    proxy.args(["--base-url", &format!("http://{address}/v1")]);
    proxy.env("QWEN_PROXY_API_KEY", suite::KEY).env("RUST_LOG", "warn");
    proxied::start(proxy).await
}

/// Runs `suite` against a proxy of its own.
async fn run(mut suite: Command) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cases.json");
    let forms = Form::ALL.map(|form| format!("{form:?}"));
    let told = json!({"tools": tools(), "forms": forms, "cases": cases()});
    fs::write(&file, told.to_string()).expect("writable");
    let short = short().await;
    suite.env("TOOL_CASES", &file).env("SHORT_BASE_URL", format!("{}/v1", short.origin));
    let origin = proxied::serve(emulator()).await;
    let proxy = proxied::start(proxied::command(&origin, suite::KEY)).await;
    let base = format!("{}/v1", proxy.origin);
    tokio::task::spawn_blocking(move || suite::run(&mut suite, &base)).await.expect("it passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_for_python() {
    let Some(mut suite) = suite::python("openai") else { return };
    suite.args(["-m", "unittest", "-v", "test_tools"]);
    run(suite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdks_for_node() {
    let packages = ["openai", "ai", "@ai-sdk/openai-compatible", "zod"];
    let Some(mut suite) = suite::node(&packages) else { return };
    suite.args(["--test", "tools.test.mjs"]);
    run(suite).await;
}

//! What the edge for Ollama's clients makes of a request, and what is said of requests that are wrong.

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower_qwen::{
    Error,
    chat::{
        ChatRequest, Content, Message, PartKind, ReasoningEffort, ResponseFormat, Tenant, Tool,
    },
    ollama::{Decoded, Loads, decode, decode_generate},
    openai,
    session::internals::KeyChain,
};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

fn png() -> String {
    STANDARD.encode(PNG)
}

fn with(base: Value, more: Value) -> String {
    let mut body = base;
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body.to_string()
}

fn request(more: Value) -> String {
    with(json!({"model": "m", "messages": [{"role": "user", "content": "x"}]}), more)
}

fn prompt(more: Value) -> String {
    with(json!({"model": "m", "prompt": "x"}), more)
}

fn decoded(more: Value) -> Decoded {
    let body = request(more);
    decode(&body.clone().into()).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn chat(more: Value) -> ChatRequest {
    decoded(more).chat
}

fn generated(more: Value) -> Decoded {
    let body = prompt(more);
    decode_generate(&body.clone().into()).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn refused(more: Value) -> Error {
    let body = request(more);
    let Err(error) = decode(&body.clone().into()) else { panic!("{body}") };
    assert_eq!(error.status(), 400, "{body}");
    error
}

fn refused_prompt(more: Value) -> Error {
    let body = prompt(more);
    let Err(error) = decode_generate(&body.clone().into()) else { panic!("{body}") };
    assert_eq!(error.status(), 400, "{body}");
    error
}

/// The history of these messages, each as its role, what it says, its calls and whose result it is.
fn history(messages: Value) -> Vec<Value> {
    chat(json!({"messages": messages})).history.iter().map(message).collect()
}

fn message(message: &Message) -> Value {
    let mut told = json!({(message.role.as_str()): message.text().as_str()});
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter();
        let calls = calls.map(|call| json!([&*call.id, &*call.name, &*call.arguments]));
        told["calls"] = calls.collect();
    }
    if let Some(id) = &message.tool_call_id {
        told["of"] = json!(&**id);
    }
    if let Some(text) = &message.reasoning {
        told["thought"] = json!(&**text);
    }
    let images: Vec<_> = images(message).collect();
    if !images.is_empty() {
        told["images"] = json!(images);
    }
    told
}

fn images(message: &Message) -> impl Iterator<Item = &str> {
    let parts = match &message.content {
        Some(Content::Parts(parts)) => &parts[..],
        _ => &[],
    };
    parts.iter().filter_map(|part| match &part.kind {
        PartKind::Image { url, .. } => Some(url.as_str()),
        _ => None,
    })
}

fn call(id: Option<&str>, name: &str, arguments: Value) -> Value {
    let mut call = json!({"function": {"name": name, "arguments": arguments}});
    if let Some(id) = id {
        call["id"] = json!(id);
    }
    call
}

#[test]
fn a_plain_request_is_read() {
    let decoded = decoded(json!({}));
    assert!(decoded.stream && decoded.shows_thinking);
    assert_eq!((decoded.model.as_str(), decoded.chat.model.as_str()), ("m", "m"));
    assert_eq!(decoded.loads, None);
    assert_eq!(history(json!([{"role": "user", "content": "x"}])), [json!({"user": "x"})]);
}

/// Names: the tag that every name has is none.
#[test]
fn the_usual_tag_is_left_off() {
    for (name, meant) in [
        ("qwen3-max:latest", "qwen3-max"),
        ("org/qwen:latest", "org/qwen"),
        ("qwen3:8b", "qwen3:8b"),
        ("a:latest:latest", "a:latest"),
        (":latest", ":latest"),
        ("latest", "latest"),
    ] {
        let decoded = decoded(json!({"model": name}));
        assert_eq!((decoded.model.as_str(), decoded.chat.model.as_str()), (name, meant));
        assert_eq!(generated(json!({"model": name})).chat.model, meant);
    }
}

/// Calls: the ids that the client keeps, those that have to be made, and what belongs to what.
#[test]
fn results_belong_to_their_calls() {
    let assistant = |calls: Value| json!({"role": "assistant", "content": "", "tool_calls": calls});
    let user = json!({"role": "user", "content": "x"});
    let f = |id| call(id, "f", json!({"a": 1}));
    let g = |id| call(id, "g", json!({}));
    let result = |text: &str, more: Value| {
        let mut result = json!({"role": "tool", "content": text});
        for (key, value) in more.as_object().expect("an object") {
            result[key] = value.clone();
        }
        result
    };
    let [f_json, g_json] = ["{\"a\":1}", "{}"];
    for (kind, messages, expected) in [
        (
            "by their ids",
            vec![
                assistant(json!([f(Some("p")), g(Some("q"))])),
                result("of g", json!({"tool_call_id": "q"})),
                result("of f", json!({"tool_call_id": "p"})),
            ],
            vec![
                json!({"assistant": "", "calls": [["p", "f", f_json], ["q", "g", g_json]]}),
                json!({"tool": "of g", "of": "q"}),
                json!({"tool": "of f", "of": "p"}),
            ],
        ),
        (
            "by the tools' names",
            vec![
                assistant(json!([f(None), g(None)])),
                result("of g", json!({"tool_name": "g"})),
                result("of f", json!({"name": "f"})),
            ],
            vec![
                json!({"assistant": "", "calls": [["ollama_call_0", "f", f_json], ["ollama_call_1", "g", g_json]]}),
                json!({"tool": "of g", "of": "ollama_call_1"}),
                json!({"tool": "of f", "of": "ollama_call_0"}),
            ],
        ),
        (
            "two of one name by their order",
            vec![
                assistant(json!([f(None), f(Some(""))])),
                result("1", json!({"tool_name": "f"})),
                result("2", json!({"tool_name": "f"})),
            ],
            vec![
                json!({"assistant": "", "calls": [["ollama_call_0", "f", f_json], ["ollama_call_1", "f", f_json]]}),
                json!({"tool": "1", "of": "ollama_call_0"}),
                json!({"tool": "2", "of": "ollama_call_1"}),
            ],
        ),
        (
            "by their order",
            vec![
                assistant(json!([f(None), g(None)])),
                result("1", json!({})),
                result("2", json!({})),
            ],
            vec![
                json!({"assistant": "", "calls": [["ollama_call_0", "f", f_json], ["ollama_call_1", "g", g_json]]}),
                json!({"tool": "1", "of": "ollama_call_0"}),
                json!({"tool": "2", "of": "ollama_call_1"}),
            ],
        ),
        (
            "ids in results alone",
            vec![
                assistant(json!([f(None)])),
                result("1", json!({"tool_call_id": "whatever", "tool_name": "f"})),
            ],
            vec![
                json!({"assistant": "", "calls": [["ollama_call_0", "f", f_json]]}),
                json!({"tool": "1", "of": "ollama_call_0"}),
            ],
        ),
        (
            "ids in calls alone",
            vec![assistant(json!([f(Some("p"))])), result("1", json!({"tool_name": "f"}))],
            vec![
                json!({"assistant": "", "calls": [["p", "f", f_json]]}),
                json!({"tool": "1", "of": "p"}),
            ],
        ),
        (
            "of no call",
            vec![
                assistant(json!([f(Some("p"))])),
                result("1", json!({"tool_call_id": "p"})),
                result("2", json!({"tool_call_id": "q"})),
            ],
            vec![
                json!({"assistant": "", "calls": [["p", "f", f_json]]}),
                json!({"tool": "1", "of": "p"}),
                json!({"user": "Result of an earlier tool call:\n2"}),
            ],
        ),
        (
            "in a later turn the ids go on",
            vec![
                assistant(json!([f(None)])),
                result("1", json!({})),
                assistant(json!([f(None)])),
                result("2", json!({})),
            ],
            vec![
                json!({"assistant": "", "calls": [["ollama_call_0", "f", f_json]]}),
                json!({"tool": "1", "of": "ollama_call_0"}),
                json!({"assistant": "", "calls": [["ollama_call_1", "f", f_json]]}),
                json!({"tool": "2", "of": "ollama_call_1"}),
            ],
        ),
        (
            "one that was broken off has none",
            vec![
                assistant(json!([f(None)])),
                user.clone(),
                assistant(json!([g(None)])),
                result("2", json!({})),
            ],
            vec![
                json!({"assistant": "", "calls": [["ollama_call_0", "f", f_json]]}),
                json!({"tool": "[no result: interrupted]", "of": "ollama_call_0"}),
                json!({"user": "x"}),
                json!({"assistant": "", "calls": [["ollama_call_1", "g", g_json]]}),
                json!({"tool": "2", "of": "ollama_call_1"}),
            ],
        ),
    ] {
        let mut all = vec![user.clone()];
        all.extend(messages);
        let found = history(json!(all));
        assert_eq!(found[0], json!({"user": "x"}));
        assert_eq!(found[1..], expected, "{kind}");
    }
}

#[test]
fn messages_are_read_in_every_form() {
    let image = format!("data:image/png;base64,{}", png());
    assert_eq!(
        history(json!([
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "In English."},
            {"role": "user", "content": "Look:", "images": [png(), format!("{}\n", png())]},
            {"role": "user", "content": "", "images": null},
            {"role": "assistant", "content": "A dot.", "thinking": "hm", "tool_calls": null,
             "unknown": {"a": 1}},
            {"role": "user", "images": [image]},
            {"role": "assistant", "tool_calls": [
                {"function": {"name": "f", "arguments": "{\"a\":1}"}, "type": "function"},
                {"function": {"name": "g"}},
            ]},
            {"role": "tool", "content": "a picture", "images": [png()]},
        ])),
        [
            json!({"system": "Be brief.\nIn English."}),
            json!({"user": "Look:", "images": [&image, &image]}),
            json!({"assistant": "A dot.", "thought": "hm"}),
            json!({"user": "", "images": [&image]}),
            json!({"assistant": "", "calls": [["ollama_call_0", "f", "{\"a\":1}"], ["ollama_call_1", "g", "{}"]]}),
            json!({"tool": "a picture", "of": "ollama_call_0"}),
            json!({"tool": "[no result: interrupted]", "of": "ollama_call_1"}),
            json!({"user": "", "images": [&image]}),
        ]
    );
}

#[test]
fn tools_are_those_of_the_chat_api() {
    let schema = r#"{"type":"object","properties":{"b":{},"a":{"enum":[1.0]}}}"#;
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"tools":[{{"type":"function","function":{{"name":"f","description":"d","parameters":{schema}}}}}]}}"#
    );
    let chat = decode(&body.into()).expect("valid").chat;
    let [Tool::Function(function)] = &chat.tools[..] else { panic!("{:?}", chat.tools) };
    assert_eq!((function.name.as_str(), function.description.as_deref()), ("f", Some("d")));
    assert_eq!(function.parameters.as_ref().expect("a schema").as_str(), schema);
}

#[test]
fn the_form_of_the_answer_is_read() {
    assert_eq!(chat(json!({"format": ""})).response_format, None);
    assert_eq!(chat(json!({"format": null})).response_format, None);
    let json = Some(ResponseFormat::JsonObject);
    assert_eq!(chat(json!({"format": "json"})).response_format, json);
    assert_eq!(generated(json!({"format": "json"})).chat.response_format, json);
    let format = chat(json!({"format": {"type": "object", "required": ["a"]}})).response_format;
    let Some(ResponseFormat::JsonSchema(schema)) = format else { panic!("{format:?}") };
    let schema: Value = serde_json::from_str(schema.as_str()).expect("JSON");
    assert_eq!(
        schema,
        json!({"name": "answer", "schema": {"type": "object", "required": ["a"]}, "strict": true})
    );
}

#[test]
fn how_to_think_is_read() {
    for (think, effort, enabled, shown) in [
        (json!(null), None, None, true),
        (json!(true), None, Some(true), true),
        (json!(false), None, Some(false), false),
        (json!("low"), Some(ReasoningEffort::Low), None, true),
        (json!("medium"), Some(ReasoningEffort::Medium), None, true),
        (json!("high"), Some(ReasoningEffort::High), None, true),
        (json!("none"), Some(ReasoningEffort::None), None, false),
    ] {
        for decoded in [decoded(json!({"think": think})), generated(json!({"think": think}))] {
            let reasoning = &decoded.chat.reasoning;
            assert_eq!((&reasoning.effort, reasoning.enabled), (&effort, enabled), "{think}");
            assert_eq!(decoded.shows_thinking, shown, "{think}");
        }
    }
}

#[test]
fn options_are_the_sampling() {
    let options = json!({
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "seed": -1,
        "num_predict": 64.0, "stop": ["a", "b"], "repeat_penalty": 1.1,
        "presence_penalty": 0.25, "frequency_penalty": null, "num_ctx": 8192, "mirostat": 0,
        "num_gpu": "all",
    });
    for chat in [chat(json!({"options": options})), generated(json!({"options": options})).chat] {
        let sampling = &chat.sampling;
        assert_eq!(
            (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed),
            (Some(0.5), Some(0.9), Some(40), Some(-1))
        );
        assert_eq!(
            (sampling.max_tokens, sampling.repetition_penalty, sampling.presence_penalty),
            (Some(64), Some(1.1), Some(0.25))
        );
        assert_eq!(sampling.stop, ["a", "b"]);
        assert_eq!(sampling.frequency_penalty, None);
        assert_eq!(chat.extra.get("min_p").expect("passed on").as_str(), "0.05");
    }
    assert_eq!(chat(json!({"options": {"stop": "a"}})).sampling.stop, ["a"]);
    for none in [0, -1, -2] {
        assert_eq!(chat(json!({"options": {"num_predict": none}})).sampling.max_tokens, None);
    }
    let ignored = json!({"options": null, "keep_alive": "5m", "template": "{{ .Prompt }}"});
    assert!(chat(ignored).extra.is_empty());
}

#[test]
fn a_prompt_is_a_chat_of_one_message() {
    let all = generated(json!({
        "prompt": "Look:", "system": "Be brief.", "images": [png()], "stream": false,
        "suffix": "", "raw": false, "context": [ ], "template": "ignored",
    }));
    let told: Vec<_> = all.chat.history.iter().map(message).collect();
    let image = format!("data:image/png;base64,{}", png());
    assert_eq!(told, [json!({"system": "Be brief."}), json!({"user": "Look:", "images": [image]})]);
    assert!(!all.stream);
    // What is of chats alone is not looked at.
    let chat = generated(json!({"messages": 7, "tools": "x"})).chat;
    assert!(chat.tools.is_empty());
    assert_eq!(chat.history.len(), 1);
}

#[test]
fn without_anything_to_answer_it_is_about_loading() {
    assert_eq!(decoded(json!({"messages": []})).loads, Some(Loads::Load));
    assert_eq!(decoded(json!({"messages": null, "keep_alive": 0})).loads, Some(Loads::Unload));
    assert_eq!(generated(json!({"prompt": "", "keep_alive": "0m"})).loads, Some(Loads::Unload));
    assert_eq!(generated(json!({"prompt": ""})).loads, Some(Loads::Load));
    // With something to answer it is an answer, however long the model is to be kept.
    assert_eq!(decoded(json!({"keep_alive": 0})).loads, None);
}

/// Requests that are wrong: the field, the code, and a word of what is said.
#[test]
fn wrong_requests_are_told_the_field() {
    let messages = |message: Value| json!({"messages": [message]});
    let function = |call: Value| messages(json!({"role": "assistant", "tool_calls": [call]}));
    for (more, param, code, says) in [
        (json!({"model": null}), "model", "missing_required_parameter", "model"),
        (json!({"model": " "}), "model", "invalid_value", "empty"),
        (json!({"messages": "x"}), "messages", "invalid_type", "sequence"),
        (json!({"messages": [7]}), "messages[0]", "invalid_type", "an object"),
        (
            messages(json!({"content": "x"})),
            "messages[0].role",
            "missing_required_parameter",
            "role",
        ),
        (
            messages(json!({"role": "usr", "content": "x"})),
            "messages[0].role",
            "invalid_value",
            "`usr`",
        ),
        (
            messages(json!({"role": "user", "content": [{"type": "text"}]})),
            "messages[0].content",
            "invalid_type",
            "a string",
        ),
        (
            messages(json!({"role": "user", "content": ""})),
            "messages",
            "invalid_value",
            "at least one",
        ),
        (
            messages(json!({"role": "system", "content": "x"})),
            "messages",
            "invalid_value",
            "at least one",
        ),
        (
            messages(json!({"role": "user", "content": "x", "images": "a.png"})),
            "messages[0].images",
            "invalid_type",
            "sequence",
        ),
        (
            messages(json!({"role": "user", "content": "x", "images": ["./pics/a.png"]})),
            "messages[0].images[0]",
            "invalid_value",
            "base64",
        ),
        (
            messages(json!({"role": "user", "content": "x", "images": [png(), "SGVsbG8="]})),
            "messages[0].images[1]",
            "invalid_value",
            "PNG",
        ),
        (
            function(json!({})),
            "messages[0].tool_calls[0].function",
            "missing_required_parameter",
            "function",
        ),
        (
            function(json!({"function": {"arguments": {}}})),
            "messages[0].tool_calls[0].function.name",
            "missing_required_parameter",
            "name",
        ),
        (
            function(json!({"function": {"name": "f", "arguments": [1]}})),
            "messages[0].tool_calls[0].function.arguments",
            "invalid_type",
            "an object",
        ),
        (json!({"format": "xml"}), "format", "invalid_value", "`xml`"),
        (json!({"format": 7}), "format", "invalid_type", "an object"),
        (json!({"think": "hard"}), "think", "invalid_value", "`hard`"),
        (json!({"think": 1}), "think", "invalid_type", "a boolean"),
        (json!({"options": {"temperature": "hot"}}), "options.temperature", "invalid_type", "f64"),
        (
            json!({"options": {"num_predict": 1.5}}),
            "options.num_predict",
            "invalid_type",
            "integer",
        ),
        (json!({"options": {"stop": 7}}), "options.stop", "invalid_type", "a string"),
        (json!({"options": []}), "options", "invalid_type", "an object"),
        (json!({"stream": "yes"}), "stream", "invalid_type", "boolean"),
        (json!({"logprobs": true}), "logprobs", "unsupported_parameter", "probabilities"),
        (json!({"top_logprobs": 3}), "top_logprobs", "unsupported_parameter", "probabilities"),
        (
            json!({"tools": [{"type": "function", "function": {}}]}),
            "tools[0].function.name",
            "missing_required_parameter",
            "name",
        ),
    ] {
        let error = refused(more.clone());
        assert_eq!((error.param(), error.code()), (Some(param), Some(code)), "{more}: {error}");
        assert!(error.message().contains(says), "{more}: {error}");
    }
    for (more, param, code, says) in [
        (json!({"prompt": 7}), "prompt", "invalid_type", "a string"),
        (json!({"suffix": "x"}), "suffix", "unsupported_parameter", "fill in"),
        (json!({"raw": true}), "raw", "unsupported_parameter", "`raw`"),
        (json!({"context": [1, 2]}), "context", "unsupported_parameter", "/api/chat"),
        (json!({"images": ["x"]}), "images[0]", "invalid_value", "PNG"),
        (json!({"system": ["x"]}), "system", "invalid_type", "a string"),
    ] {
        let error = refused_prompt(more.clone());
        assert_eq!((error.param(), error.code()), (Some(param), Some(code)), "{more}: {error}");
        assert!(error.message().contains(says), "{more}: {error}");
    }
}

/// A conversation as OpenAI's clients and Ollama's write it is the same one to a session.
#[test]
fn a_history_has_the_key_that_it_has_over_other_edges() {
    let key = |chat: &ChatRequest| {
        let mut chain = KeyChain::new(&Tenant::from_digest([7; 32]), chat);
        chat.history.iter().for_each(|message| chain.push(message));
        chain.key()
    };
    let image = format!("data:image/png;base64,{}", png());
    let theirs = json!({"model": "m", "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "Look"},
            {"type": "image_url", "image_url": {"url": image}},
        ]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}},
            {"id": "y", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "x", "content": "1"},
        {"role": "tool", "tool_call_id": "y", "content": "2"},
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": "Thanks"},
    ]});
    let ours = json!({"model": "m:latest", "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look", "images": [png()]},
        {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "f", "arguments": {"a": 1}}},
            {"function": {"name": "f", "arguments": {}}},
        ]},
        {"role": "tool", "tool_name": "f", "content": "1"},
        {"role": "tool", "tool_name": "f", "content": "2"},
        {"role": "assistant", "content": "Done.", "thinking": "hm"},
        {"role": "user", "content": "Thanks"},
    ]});
    let theirs = openai::decode(&theirs.to_string().into()).expect("valid").chat;
    let ours = decode(&ours.to_string().into()).expect("valid").chat;
    assert_eq!(key(&ours), key(&theirs));

    let body = json!({"model": "m", "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"},
    ]});
    let theirs = openai::decode(&body.to_string().into()).expect("valid").chat;
    let prompt = generated(json!({"system": "Be brief."})).chat;
    assert_eq!(key(&prompt), key(&theirs));
}

proptest! {
    /// Whatever is sent, it is read or refused with 400, and results stand right behind their calls.
    #[test]
    fn any_messages_make_a_right_history(
        places in prop::collection::vec(0_usize..12, 0..24),
    ) {
        let kinds = [
            json!({"role": "user", "content": "x"}),
            json!({"role": "assistant", "content": "a"}),
            json!({"role": "system", "content": "s"}),
            json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}),
            json!({"role": "assistant", "content": "b", "tool_calls": [
                {"id": "i", "function": {"name": "f", "arguments": {}}},
                {"function": {"name": "g", "arguments": {}}},
            ]}),
            json!({"role": "tool", "content": "r"}),
            json!({"role": "tool", "content": "r", "tool_name": "f"}),
            json!({"role": "tool", "content": "r", "tool_name": "g"}),
            json!({"role": "tool", "content": "r", "tool_call_id": "i"}),
            json!({"role": "tool", "content": "", "tool_call_id": "ollama_call_0", "tool_name": "h"}),
            json!({"role": "user", "content": "", "images": [png()]}),
            json!({"role": "assistant", "content": "", "thinking": "t"}),
        ];
        let messages: Vec<_> = places.iter().map(|at| &kinds[*at]).collect();
        let body = request(json!({"messages": messages}));
        match decode(&body.into()) {
            Err(error) => prop_assert_eq!(error.status(), 400),
            Ok(decoded) if decoded.loads.is_some() => prop_assert!(messages.is_empty()),
            Ok(decoded) => {
                let mut open: Vec<String> = Vec::new();
                for message in decoded.chat.history.iter() {
                    if let Some(id) = &message.tool_call_id {
                        let place = open.iter().position(|own| own == id.as_str());
                        prop_assert!(place.is_some(), "a result of no call");
                        open.remove(place.expect("checked"));
                        continue;
                    }
                    prop_assert!(open.is_empty(), "something stands before a result");
                    open = message.tool_calls.iter().map(|call| call.id.to_string()).collect();
                }
            }
        }
    }
}

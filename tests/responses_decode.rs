//! What the Responses edge makes of a request: every kind of item and tool, in every form that
//! clients write, and what is said of requests that are wrong.

use proptest::prelude::*;
use serde_json::{Value, json};
use tower_qwen::{
    Error,
    chat::{
        ChatRequest, Content, Destination, Message, Part, PartKind, ReasoningEffort,
        ResponseFormat, Role, Tool, ToolChoice,
    },
    responses::{Decoded, decode},
};

fn request(more: Value) -> Value {
    let mut body = json!({"model": "m", "input": "x"});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

fn decoded(more: Value) -> Decoded {
    let body = request(more).to_string();
    decode(&body.clone().into()).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn chat(more: Value) -> ChatRequest {
    decoded(more).chat
}

fn refused(more: Value) -> Error {
    let body = request(more).to_string();
    let Err(error) = decode(&body.clone().into()) else { panic!("{body}") };
    assert_eq!(error.status(), 400, "{body}");
    error
}

/// Clients whose language has one kind of number write `64.0` for 64.
#[test]
fn an_integer_may_be_written_with_a_point() {
    let chat = chat(json!({"max_output_tokens": 64.0}));
    assert_eq!(chat.sampling.max_tokens, Some(64));
    assert_eq!(refused(json!({"max_output_tokens": 64.5})).param(), Some("max_output_tokens"));
}

/// The history of these items, each message as its role, what it says, its calls and whose result
/// it is.
fn history(input: Value) -> Vec<Value> {
    told(&chat(json!({"input": input})))
}

fn told(chat: &ChatRequest) -> Vec<Value> {
    chat.history.iter().map(message).collect()
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
    told
}

fn media(message: &Message) -> Vec<PartKind> {
    match &message.content {
        Some(Content::Parts(parts)) => parts
            .iter()
            .filter(|part| part.as_text().is_none())
            .map(|part| part.kind.clone())
            .collect(),
        _ => Vec::new(),
    }
}

fn user(text: &str) -> Value {
    json!({"type": "message", "role": "user", "content": text})
}

/// Items of one conversation in the forms that clients write them in, and what they are.
#[test]
fn every_form_of_a_message_is_read() {
    for (input, expected) in [
        (json!("Hi"), json!([{"user": "Hi"}])),
        (json!([{"role": "user", "content": "Hi"}]), json!([{"user": "Hi"}])),
        (
            json!([{"role": "user", "content": [
                {"type": "input_text", "text": "a"}, {"type": "input_text", "text": ""},
                {"type": "input_text", "text": "b"}]}]),
            json!([{"user": "a\nb"}]),
        ),
        (json!([user("a"), user("b")]), json!([{"user": "a\nb"}])),
        (
            json!([{"role": "developer", "content": "d"}, {"role": "system", "content": "s"},
                   user("u"), {"role": "developer", "content": "later"}, user("v")]),
            json!([{"system": "d\ns"}, {"user": "u"}, {"system": "later"}, {"user": "v"}]),
        ),
        (
            json!([user("u"), {"type": "message", "id": "msg_1", "role": "assistant",
                "status": "completed", "phase": "final_answer", "content": [
                    {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
                    {"type": "refusal", "refusal": "No."}]}, user("v")]),
            json!([{"user": "u"}, {"assistant": "aNo."}, {"user": "v"}]),
        ),
        (
            json!([user("u"), {"role": "assistant", "content": "a"}, user("v")]),
            json!([{"user": "u"}, {"assistant": "a"}, {"user": "v"}]),
        ),
    ] {
        assert_eq!(json!(history(input.clone())), expected, "{input}");
    }
}

/// The three shapes of Codex's requests are one conversation.
#[test]
fn every_shape_of_codex_is_read() {
    let tools = json!([{"type": "function", "name": "exec_command", "parameters": {"a": 1}}]);
    let context = user("<environment_context>");
    let classic = chat(json!({
        "instructions": "You are Codex.", "tools": tools, "input": [context, user("Go.")],
    }));
    let lite = chat(json!({"input": [
        {"type": "additional_tools", "role": "developer", "tools": tools},
        {"type": "message", "role": "developer", "content": [
            {"type": "input_text", "text": "You are Codex."}]},
        context, user("Go."),
    ]}));
    let third = chat(json!({"tools": tools, "input": [
        {"type": "message", "role": "developer", "content": [
            {"type": "input_text", "text": "You are Codex."}]},
        context, user("Go."),
    ]}));
    let expected = json!([{"system": "You are Codex."}, {"user": "<environment_context>\nGo."}]);
    for chat in [classic, lite, third] {
        assert_eq!(json!(told(&chat)), expected);
        let [Tool::Function(function)] = &chat.tools[..] else { panic!("{:?}", chat.tools) };
        assert_eq!(function.name, "exec_command");
        assert_eq!(function.parameters.as_ref().map(|schema| schema.as_str()), Some(r#"{"a":1}"#));
    }
    // Instructions stand in front of what is there.
    let both = chat(json!({"instructions": "I.", "input": [{"role": "system", "content": "S."},
        user("u")]}));
    assert_eq!(json!(told(&both)), json!([{"system": "I.\nS."}, {"user": "u"}]));
}

/// Calls: the item, and the name and the arguments that it is for the model.
#[test]
fn every_kind_of_call_is_read() {
    for (item, name, arguments) in [
        (
            json!({"type": "function_call", "name": "f", "arguments": "{\"a\": 1}"}),
            "f",
            "{\"a\": 1}",
        ),
        (json!({"type": "function_call", "name": "f", "arguments": ""}), "f", "{}"),
        (
            json!({"type": "function_call", "name": "f", "namespace": null, "arguments": "{}"}),
            "f",
            "{}",
        ),
        (
            json!({"type": "function_call", "name": "f", "namespace": "ns", "arguments": "{}"}),
            "ns__f",
            "{}",
        ),
        (
            json!({"type": "function_call", "name": "f", "namespace": "functions", "arguments": "{}"}),
            "f",
            "{}",
        ),
        (
            json!({"type": "custom_tool_call", "name": "apply_patch", "input": "a\n\"b\""}),
            "apply_patch",
            r#"{"input":"a\n\"b\""}"#,
        ),
        (
            json!({"type": "local_shell_call", "status": "completed", "action": {"type": "exec",
                "command": ["ls", "-l"], "timeout_ms": 9, "working_directory": "/", "env": {}}}),
            "local_shell",
            r#"{"command":["ls","-l"],"workdir":"/","timeout_ms":9}"#,
        ),
        (
            json!({"type": "tool_search_call", "execution": "client", "arguments": {"query": "q"}}),
            "tool_search",
            r#"{"query":"q"}"#,
        ),
        (
            json!({"type": "shell_call", "action": {"commands": ["ls"]}}),
            "shell",
            r#"{"commands":["ls"]}"#,
        ),
        (
            json!({"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "p"}}),
            "apply_patch",
            r#"{"path":"p","type":"delete_file"}"#,
        ),
    ] {
        let kind = item["type"].as_str().expect("a kind").to_owned();
        let mut call = item.clone();
        call["call_id"] = json!("c");
        // The search's output has tools in place of an output.
        let output = match kind.strip_suffix("_call").expect("a call") {
            "function" => "function_call_output",
            "custom_tool" => "custom_tool_call_output",
            "tool_search" => "function_call_output",
            "local_shell" => "local_shell_call_output",
            "shell" => "shell_call_output",
            _ => "apply_patch_call_output",
        };
        let input = json!([user("u"), call, {"type": output, "call_id": "c", "output": "r"}]);
        let told = history(input);
        let mut told = told.into_iter();
        assert_eq!(told.next(), Some(json!({"user": "u"})));
        let call = told.next().expect("the call");
        let found: Value =
            serde_json::from_str(call["calls"][0][2].as_str().expect("arguments")).expect("JSON");
        let own: Value = serde_json::from_str(arguments).expect("JSON");
        assert_eq!((&call["calls"][0][1], found), (&json!(name), own), "{item}");
        assert_eq!(told.next(), Some(json!({"tool": "r", "of": "c"})), "{item}");
    }
}

#[test]
fn outputs_are_read_in_every_form() {
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let image = json!({"type": "input_image", "image_url": "data:image/png;base64,QQ=="});
    for (output, text, images) in [
        (json!("r"), "r", 0),
        (json!(""), "", 0),
        (json!([]), "", 0),
        (
            json!([{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]),
            "a\nb",
            0,
        ),
        (json!([{"type": "input_text", "text": "a"}, image]), "a", 1),
        (json!([image]), "", 1),
        (json!([{"stdout": "o", "stderr": ""}]), r#"[{"stderr":"","stdout":"o"}]"#, 0),
        (json!({"content": "o"}), r#"{"content":"o"}"#, 0),
    ] {
        let item = json!({"type": "function_call_output", "call_id": "c", "output": output});
        let chat = chat(json!({"input": [user("u"), call, item, user("v")]}));
        let result = &chat.history[2];
        assert_eq!((result.role, result.text().as_str()), (Role::Tool, text), "{output}");
        // An image has no place in a result, so the person shows it.
        let shown = &chat.history[3];
        assert_eq!((shown.text().as_str(), media(shown).len()), ("v", images), "{output}");
    }
}

/// Orders of items, and the order that upstreams insist on.
#[test]
fn results_stand_right_behind_their_calls() {
    let call =
        |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "id": "fco_1", "output": format!("r{id}")});
    let says = |text: &str| json!({"role": "assistant", "content": [{"type": "output_text", "text": text}]});
    let calls = |ids: &[&str]| -> Value { ids.iter().map(|id| json!([id, "f", "{}"])).collect() };
    for (input, expected) in [
        (
            json!([user("u"), call("1"), call("2"), output("1"), output("2")]),
            json!([{"user": "u"}, {"assistant": "", "calls": calls(&["1", "2"])},
                {"tool": "r1", "of": "1"}, {"tool": "r2", "of": "2"}]),
        ),
        (
            json!([user("u"), call("1"), says("a"), output("1")]),
            json!([{"user": "u"}, {"assistant": "a", "calls": calls(&["1"])}, {"tool": "r1", "of": "1"}]),
        ),
        (
            json!([
                user("u"),
                says("a"),
                call("1"),
                output("1"),
                call("2"),
                output("2"),
                says("b")
            ]),
            json!([{"user": "u"}, {"assistant": "a", "calls": calls(&["1"])}, {"tool": "r1", "of": "1"},
                {"assistant": "", "calls": calls(&["2"])}, {"tool": "r2", "of": "2"}, {"assistant": "b"}]),
        ),
        // The person has broken off.
        (
            json!([user("u"), call("1"), call("2"), output("2"), user("v")]),
            json!([{"user": "u"}, {"assistant": "", "calls": calls(&["1", "2"])},
                {"tool": "r2", "of": "2"}, {"tool": "[no result: interrupted]", "of": "1"}, {"user": "v"}]),
        ),
        // The call is lost in a compaction.
        (
            json!([user("u"), output("0")]),
            json!([{"user": "u\nResult of an earlier tool call:\nr0"}]),
        ),
    ] {
        assert_eq!(json!(history(input.clone())), expected, "{input}");
    }
}

/// Reasoning items, and the thinking that they are for the upstream.
#[test]
fn thinking_comes_back() {
    for (item, thought) in [
        (json!({"summary": [], "encrypted_content": "tq1.SG0"}), Some("Hm")),
        (
            json!({"summary": [{"type": "summary_text", "text": "s"}], "content": null,
                "encrypted_content": "tq1.SG0"}),
            Some("Hm"),
        ),
        (json!({"summary": [], "encrypted_content": "gAAAAABo"}), None),
        (
            json!({"summary": [{"type": "summary_text", "text": "s"}, {"type": "summary_text", "text": "t"}],
                "encrypted_content": "gAAAAABo"}),
            Some("s\nt"),
        ),
        (
            json!({"summary": [{"type": "summary_text", "text": "s"}],
                "content": [{"type": "reasoning_text", "text": "c"}]}),
            Some("c"),
        ),
        (json!({"summary": []}), None),
    ] {
        let mut reasoning = item.clone();
        reasoning["type"] = json!("reasoning");
        let answer = json!({"role": "assistant", "content": "a"});
        let chat = chat(json!({"input": [user("u"), reasoning, answer, user("v")]}));
        assert_eq!(chat.history[1].reasoning.as_deref(), thought, "{item}");
        assert_eq!(chat.history[1].text(), "a");
    }
}

/// Items that no upstream here knows: their text is kept, and they are no errors.
#[test]
fn what_is_not_known_is_no_error() {
    for (item, text) in [
        (json!({"type": "agent_message", "text": "done"}), "u\ndone\nv"),
        (json!({"type": "new", "content": [{"type": "input_text", "text": "t"}]}), "u\nt\nv"),
        (json!({"type": "new", "content": {"a": 1}}), "u\nv"),
        (json!({"type": "compaction", "encrypted_content": "x"}), "u\nv"),
        (json!({"type": "web_search_call", "action": {"query": "q"}}), "u\nv"),
        (json!({"type": "image_generation_call", "result": "QQ=="}), "u\nv"),
        (
            json!({"role": "user", "content": [{"type": "new", "text": "t"}, {"type": "input_audio"}]}),
            "u\nt\nv",
        ),
    ] {
        let told = history(json!([user("u"), item, user("v")]));
        assert_eq!(told, [json!({"user": text})], "{item}");
    }
}

#[test]
fn what_is_shown_is_kept() {
    let content = json!([
        {"type": "input_text", "text": "Look:"},
        {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"},
        {"type": "input_image", "image_url": {"url": "data:image/png;base64,QQ=="}},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="},
        {"type": "input_file", "file_url": "https://example.org/b.pdf"},
        {"type": "input_file", "file_id": "file-1"},
    ]);
    let chat = chat(json!({"input": [{"role": "user", "content": content}]}));
    let file = |id: Option<&str>, data: Option<&str>, name: Option<&str>| PartKind::File {
        id: id.map(Into::into),
        data: data.map(Into::into),
        name: name.map(Into::into),
    };
    let mut image = Part::image("https://example.org/a.png").kind;
    if let PartKind::Image { detail, .. } = &mut image {
        *detail = Some("low".into());
    }
    assert_eq!(
        media(&chat.history[0]),
        [
            image,
            Part::image("data:image/png;base64,QQ==").kind,
            file(None, Some("data:application/pdf;base64,QQ=="), Some("a.pdf")),
            file(None, Some("https://example.org/b.pdf"), None),
            file(Some("file-1"), None, None),
        ]
    );
}

/// Tools: what is on offer for the model, and whether its upstream shall search.
#[test]
fn every_kind_of_tool_is_read() {
    let chat = chat(json!({"tools": [
        {"type": "function", "name": "f", "description": "d", "parameters": {"a":  1}, "strict": true},
        {"type": "function", "name": "bare", "parameters": null, "defer_loading": true},
        {"type": "function", "function": {"name": "inner", "parameters": {}}},
        {"type": "namespace", "name": "ns", "description": "n", "tools": [
            {"type": "function", "name": "f", "parameters": {}},
            {"type": "custom", "name": "c"},
        ]},
        {"type": "custom", "name": "apply_patch", "description": "Patches.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: \"x\""}},
        {"type": "custom", "name": "exec", "format": {"type": "text"}},
        {"type": "local_shell"},
        {"type": "tool_search", "execution": "client", "description": "Finds.",
         "parameters": {"type": "object", "properties": {"query": {}}}},
        {"type": "image_generation"}, {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "mcp", "server_label": "x"}, {"type": "file_search"}, {"type": "new_one"},
    ]}));
    let function = |name: &str| {
        let found = chat.tools.iter().filter_map(Tool::as_function).find(|own| own.name == name);
        found.unwrap_or_else(|| panic!("{name}"))
    };
    let names: Vec<_> =
        chat.tools.iter().filter_map(Tool::as_function).map(|own| own.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "f",
            "bare",
            "inner",
            "ns__f",
            "ns__c",
            "apply_patch",
            "exec",
            "local_shell",
            "tool_search"
        ]
    );
    assert_eq!(function("f").description.as_deref(), Some("d"));
    assert_eq!(function("f").strict, Some(true));
    assert_eq!(function("f").parameters.as_ref().map(|schema| schema.as_str()), Some(r#"{"a":1}"#));
    assert_eq!(function("bare").parameters, None);
    let patch = function("apply_patch").description.as_deref().expect("a description");
    assert!(patch.starts_with("Patches.") && patch.ends_with("(lark):\nstart: \"x\""), "{patch}");
    for custom in ["ns__c", "apply_patch", "exec"] {
        let schema = function(custom).parameters.as_ref().expect("a schema").to_value();
        let schema = schema.expect("JSON");
        assert_eq!(schema["required"], json!(["input"]));
        assert_eq!(schema["properties"]["input"]["type"], "string");
    }
    assert_eq!(function("tool_search").description.as_deref(), Some("Finds."));
    assert!(!chat.extra.contains("web_search_options"));
}

/// A search is the upstream's own. Codex offers one with every request, beside its functions.
#[test]
fn a_search_is_the_upstreams() {
    let function = json!({"type": "function", "name": "f"});
    for (tools, is_codex, searches) in [
        (json!([{"type": "web_search"}]), false, true),
        (json!([{"type": "web_search_preview_2025_03_11"}]), false, true),
        (json!([function, {"type": "web_search"}]), false, true),
        (json!([{"type": "web_search", "external_web_access": true}]), true, true),
        (json!([function, {"type": "web_search", "external_web_access": true}]), true, false),
        (json!([function]), false, false),
    ] {
        let mut more = json!({"tools": tools});
        if is_codex {
            more["client_metadata"] = json!({"x": "y"});
        }
        assert_eq!(chat(more).extra.contains("web_search_options"), searches, "{tools}");
    }
}

/// What a search among tools has found is on offer from then on.
#[test]
fn tools_that_were_found_are_on_offer() {
    let chat = chat(
        json!({"tools": [{"type": "tool_search"}, {"type": "function", "name": "f"}], "input": [
            user("u"),
            {"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {"query": "q"}},
            {"type": "tool_search_output", "call_id": "c", "execution": "client", "tools": [
                {"type": "namespace", "name": "mcp__a", "tools": [
                    {"type": "function", "name": "y"}, {"type": "function", "name": "x"}]},
                {"type": "function", "name": "f", "description": "anew"},
            ]},
            {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "g"}]},
        ]}),
    );
    let names: Vec<_> =
        chat.tools.iter().filter_map(Tool::as_function).map(|own| own.name.as_str()).collect();
    assert_eq!(names, ["tool_search", "f", "mcp__a__y", "mcp__a__x", "g"]);
    assert_eq!(
        chat.tools[1].as_function().and_then(|own| own.description.as_deref()),
        Some("anew")
    );
    assert_eq!(chat.history[2].text(), "Tools found: mcp__a__y, mcp__a__x, f");
}

/// Choices, and which of the tools are left to choose from.
#[test]
fn every_form_of_a_choice_is_read() {
    let tools = json!([
        {"type": "function", "name": "f"}, {"type": "custom", "name": "c"}, {"type": "local_shell"},
        {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "f"}]},
    ]);
    let all = &["f", "c", "local_shell", "ns__f"][..];
    for (choice, expected, left) in [
        (json!("auto"), ToolChoice::Auto, all),
        (json!("none"), ToolChoice::None, all),
        (json!("required"), ToolChoice::Required, all),
        (json!({"type": "function", "name": "f"}), ToolChoice::Function("f".into()), all),
        (
            json!({"type": "function", "name": "f", "namespace": "ns"}),
            ToolChoice::Function("ns__f".into()),
            all,
        ),
        (json!({"type": "custom", "name": "c"}), ToolChoice::Function("c".into()), all),
        (json!({"type": "local_shell"}), ToolChoice::Function("local_shell".into()), all),
        (
            json!({"type": "allowed_tools", "mode": "required", "tools": [
                {"type": "function", "name": "f"}, {"type": "local_shell"}]}),
            ToolChoice::Required,
            &["f", "local_shell"],
        ),
        (
            json!({"type": "allowed_tools", "tools": [{"type": "namespace", "name": "ns"},
                {"type": "web_search"}]}),
            ToolChoice::Auto,
            &["ns__f"],
        ),
    ] {
        let chat = chat(json!({"tools": tools, "tool_choice": choice}));
        assert_eq!(chat.tool_choice, Some(expected), "{choice}");
        let names: Vec<_> =
            chat.tools.iter().filter_map(Tool::as_function).map(|own| own.name.as_str()).collect();
        assert_eq!(names, left, "{choice}");
    }
    for choice in [
        json!("maybe"),
        json!(7),
        json!({"type": "function", "name": "other"}),
        json!({"type": "image_generation"}),
        json!({"type": "function"}),
        json!({"name": "f"}),
        json!({"type": "allowed_tools", "mode": "maybe", "tools": []}),
    ] {
        let error = refused(json!({"tools": tools, "tool_choice": choice}));
        assert!(error.param().is_some_and(|param| param.starts_with("tool_choice")), "{choice}");
    }
}

#[test]
fn options_are_read() {
    let decoded = decoded(json!({
        "stream": true, "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 100,
        "parallel_tool_calls": false, "user": "ann", "store": true, "truncation": "auto",
        "reasoning": {"effort": "xhigh", "summary": "auto"}, "prompt_cache_key": "k",
        "include": ["reasoning.encrypted_content"], "service_tier": "flex", "metadata": {"a": "b"},
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "strict": true,
            "schema": {"type": "object"}}},
    }));
    assert!(decoded.stream && decoded.shows_reasoning && decoded.seals_reasoning);
    let chat = decoded.chat;
    assert_eq!(chat.sampling.temperature, Some(0.5));
    assert_eq!(chat.sampling.top_p, Some(0.9));
    assert_eq!(chat.sampling.token_limit(), Some(100));
    assert_eq!(chat.parallel_tool_calls, Some(false));
    assert_eq!(chat.user.as_deref(), Some("ann"));
    assert_eq!(chat.reasoning.effort, Some(ReasoningEffort::XHigh));
    let Some(ResponseFormat::JsonSchema(format)) = &chat.response_format else { panic!() };
    assert_eq!(
        format.to_value().expect("JSON"),
        json!({"name": "n", "schema": {"type": "object"}, "strict": true})
    );
    assert!(chat.extra.is_empty(), "{:?}", chat.extra);

    for (format, expected) in [
        (json!({"type": "text"}), ResponseFormat::Text),
        (json!({"type": "json_object"}), ResponseFormat::JsonObject),
    ] {
        assert_eq!(self::chat(json!({"text": {"format": format}})).response_format, Some(expected));
    }
    assert_eq!(self::chat(json!({"text": {}})).response_format, None);
}

/// Requests that are wrong, and the field that is named.
#[test]
fn what_is_wrong_is_named() {
    for (more, param) in [
        (json!({"model": null}), "model"),
        (json!({"model": " "}), "model"),
        (json!({"input": null}), "input"),
        (json!({"input": 7}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": ""}), "input"),
        (json!({"input": [{"role": "developer", "content": "d"}]}), "input"),
        (json!({"input": [{"content": "x"}]}), "input[0].type"),
        (json!({"input": [user("u"), {"role": "robot", "content": "x"}]}), "input[1].role"),
        (json!({"input": [{"role": "user"}]}), "input[0].content"),
        (
            json!({"input": [{"role": "user", "content": [{"text": "x"}]}]}),
            "input[0].content[0].type",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}),
            "input[0].content[0].image_url",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}),
            "input[0].content[0].file_data",
        ),
        (json!({"input": [{"type": "item_reference", "id": "msg_1"}]}), "input[0].type"),
        (
            json!({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}),
            "input[0].call_id",
        ),
        (json!({"input": [{"type": "function_call", "call_id": "c"}]}), "input[0].name"),
        (
            json!({"input": [{"type": "custom_tool_call", "call_id": "c", "name": "n"}]}),
            "input[0].input",
        ),
        (json!({"input": [{"type": "function_call_output", "output": "r"}]}), "input[0].call_id"),
        (json!({"input": [7]}), "input[0]"),
        (json!({"tools": [{"name": "f"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"tools": [{"type": "function", "name": ""}]}), "tools[0].name"),
        (
            json!({"tools": [{"type": "function", "name": "f", "parameters": []}]}),
            "tools[0].parameters",
        ),
        (json!({"tools": [{"type": "namespace", "name": "n"}]}), "tools[0].tools"),
        (json!({"tools": {}}), "tools"),
        // Each tool in it holds it.
        (
            json!({"tools": [{"type": "namespace", "name": "n".repeat(257), "tools": []}]}),
            "tools[0].name",
        ),
        (json!({"max_output_tokens": -1}), "max_output_tokens"),
        (json!({"text": {"format": {"type": "json_schema"}}}), "text.format.schema"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type"),
        (json!({"text": {"format": {}}}), "text.format.type"),
        (json!({"instructions": 7}), "instructions"),
        (json!({"background": true}), "background"),
        (json!({"prompt": {"id": "p"}}), "prompt"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"conversation": {"id": "conv_1"}}), "conversation"),
        (json!({"conversation": "conv_1", "previous_response_id": "resp_1"}), "conversation"),
        (json!({"temperature": "hot"}), "temperature"),
    ] {
        let error = refused(more.clone());
        assert_eq!(error.param(), Some(param), "{more}: {error}");
    }
    for nothing in [
        json!({"background": false}),
        json!({"previous_response_id": null, "conversation": null, "prompt": null}),
        json!({"previous_response_id": "", "store": "yes"}),
        json!({"instructions": null, "tools": null, "tool_choice": null, "reasoning": null}),
        json!({"text": null, "include": null, "stream": null, "metadata": null}),
    ] {
        chat(nothing);
    }
}

#[test]
fn an_answer_that_is_gone_on_from_is_where_the_turn_goes() {
    let plain = decoded(json!({}));
    assert_eq!((plain.chat.destination, plain.stores), (Destination::NEW, true));
    let next = decoded(json!({"previous_response_id": "resp_1", "store": false}));
    assert_eq!(next.chat.destination, Destination::Answer { id: "resp_1".into() });
    assert!(!next.stores);
    // The edge gives the answer its id, and it alone.
    assert_eq!(next.chat.answer_id, None);
    // Longer than any id.
    let error = refused(json!({"previous_response_id": "r".repeat(5000)}));
    assert_eq!(error.code(), Some("previous_response_not_found"));
    assert!(error.message().len() < 1000, "{error}");
    assert_eq!(refused(json!({"previous_response_id": 7})).param(), Some("previous_response_id"));
}

/// The calls are in the answer that the client does not send again.
#[test]
fn results_of_an_answer_that_is_not_sent_stay_results() {
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": id});
    let roles = |chat: &ChatRequest| {
        let shown = |message: &Message| {
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            format!("{}:{}:{id}", message.role.as_str(), message.text())
        };
        chat.history.iter().map(shown).collect::<Vec<_>>()
    };
    let input = json!([user("and?"), output("call_b"), output("call_a"), user("x")]);
    let more = json!({"previous_response_id": "resp_1", "instructions": "brief", "input": input});
    assert_eq!(
        roles(&chat(more)),
        ["system:brief:", "tool:call_b:call_b", "tool:call_a:call_a", "user:and?\nx:"]
    );
    let alone = json!({"previous_response_id": "resp_1", "input": [output("call_a")]});
    assert_eq!(roles(&chat(alone)), ["tool:call_a:call_a"]);
    // Calls that are sent again have their results behind them.
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let again = json!({"previous_response_id": "resp_1", "input": [call, output("c")]});
    assert_eq!(roles(&chat(again)), ["assistant::", "tool:c:c"]);
}

#[test]
fn more_than_is_allowed_is_refused() {
    let many = |item: Value, count: usize| Value::from(vec![item; count]);
    let parts = many(json!({"type": "input_text", "text": "x"}), 40_000);
    let tools: Vec<_> =
        (0..5_000).map(|at| json!({"type": "function", "name": format!("f{at}")})).collect();
    for (more, param) in [
        (json!({"input": many(user("u"), 20_000)}), "input"),
        (json!({"input": [{"role": "user", "content": parts}]}), "input[0].content"),
        // In items of kinds that are not known, too.
        (
            json!({"input": [user("u"), {"type": "new", "content": parts}, user("v")]}),
            "input[2].content",
        ),
        (json!({"tools": tools}), "tools"),
    ] {
        let error = refused(more);
        assert_eq!((error.param(), error.code()), (Some(param), Some("too_many")));
    }
    let deep = format!(
        r#"{{"model":"m","input":"x","metadata":{}1{}}}"#,
        "[".repeat(600),
        "]".repeat(600)
    );
    assert_eq!(decode(&deep.into()).expect_err("too deep").code(), Some("too_deep"));
}

proptest! {
    /// However the text of the person's turn is cut into items and parts, it is one turn.
    #[test]
    fn how_a_turn_is_cut_does_not_matter(
        texts in prop::collection::vec("[a-z]{1,4}", 1..8),
        cuts in prop::collection::vec(any::<bool>(), 8),
    ) {
        let mut items: Vec<Vec<Value>> = vec![Vec::new()];
        for (text, cut) in texts.iter().zip(&cuts) {
            if *cut && items.last().is_some_and(|parts| !parts.is_empty()) {
                items.push(Vec::new());
            }
            let parts = items.last_mut().expect("one at least");
            parts.push(json!({"type": "input_text", "text": text}));
        }
        let input: Vec<_> =
            items.into_iter().map(|parts| json!({"role": "user", "content": parts})).collect();
        prop_assert_eq!(history(json!(input)), [json!({"user": texts.join("\n")})]);
    }

    /// Whatever is sent, it is read or refused.
    #[test]
    fn nothing_makes_it_panic(body in any_json(), input in any_json()) {
        let _ = decode(&body.to_string().into()).is_ok();
        let _ = decode(&json!({"model": "m", "input": input}).to_string().into()).is_ok();
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "model",
        "input",
        "type",
        "role",
        "user",
        "content",
        "message",
        "function_call",
        "call_id",
        "name",
        "arguments",
        "{}",
        "output",
        "function_call_output",
        "tools",
        "namespace",
        "additional_tools",
        "reasoning",
        "summary",
        "tool_choice",
        "allowed_tools",
        "custom",
        "custom_tool_call",
        "local_shell_call",
        "action",
        "command",
        "tool_search_output",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((words.clone(), inner), 0..6)
                .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

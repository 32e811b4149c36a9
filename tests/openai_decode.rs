//! What the edge makes of request bodies: the shapes that clients send, and the errors they get.

#![cfg(feature = "openai")]

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower_qwen::{
    ErrorKind,
    chat::{
        ChatRequest, Content, PartKind, ReasoningEffort, ResponseFormat, Role, Tool, ToolChoice,
    },
    openai::decode,
};

fn body(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// A valid request with `more` laid over it.
fn request(more: Value) -> Value {
    let mut request = json!({
        "model": "qwen3-max",
        "messages": [{"role": "user", "content": "Hello"}],
    });
    for (key, value) in more.as_object().expect("an object") {
        request[key] = value.clone();
    }
    request
}

fn decoded(more: Value) -> ChatRequest {
    decode(&body(&request(more))).expect("valid")
}

#[test]
fn every_error_names_its_field_and_its_kind_of_fault() {
    #[rustfmt::skip]
    let cases = [
        (json!({"model": null}), "model", "missing_required_parameter"),
        (json!({"model": " "}), "model", "invalid_value"),
        (json!({"model": 5}), "model", "invalid_type"),
        (json!({"messages": null}), "messages", "missing_required_parameter"),
        (json!({"messages": []}), "messages", "invalid_value"),
        (json!({"messages": "Hello"}), "messages", "invalid_type"),
        (json!({"messages": ["Hello"]}), "messages[0]", "invalid_type"),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role", "missing_required_parameter"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role", "invalid_value"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content", "missing_required_parameter"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content", "invalid_type"),
        (json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}), "messages[0].content[0].text", "missing_required_parameter"),
        (json!({"messages": [{"role": "user", "content": [{"text": "x"}]}]}), "messages[0].content[0].type", "missing_required_parameter"),
        (json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}), "messages[0].content[0].image_url", "missing_required_parameter"),
        (json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}), "messages[0].content[0].file.file_data", "missing_required_parameter"),
        (json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}), "messages[0].tool_calls[0].function", "missing_required_parameter"),
        (json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}]}), "messages[0].tool_calls[0].type", "invalid_value"),
        (json!({"tools": {}}), "tools", "invalid_type"),
        (json!({"tools": [{"function": {"name": "f"}}]}), "tools[0].type", "missing_required_parameter"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function", "missing_required_parameter"),
        (json!({"tools": [{"type": "function", "function": {"name": ""}}]}), "tools[0].function.name", "invalid_value"),
        (json!({"tool_choice": "maybe"}), "tool_choice", "invalid_value"),
        (json!({"tool_choice": {"type": "function", "function": {"name": "g"}}}), "tool_choice", "invalid_value"),
        (json!({"response_format": {"type": 5}}), "response_format.type", "invalid_type"),
        (json!({"response_format": {"schema": {}}}), "response_format.type", "missing_required_parameter"),
        (json!({"response_format": {"type": "json_schema", "json_schema": "x"}}), "response_format.json_schema", "invalid_type"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema", "missing_required_parameter"),
        (json!({"stream": "yes"}), "stream", "invalid_type"),
        (json!({"temperature": "hot"}), "temperature", "invalid_type"),
        (json!({"max_tokens": "9"}), "max_tokens", "invalid_type"),
        (json!({"max_tokens": 1.5}), "max_tokens", "invalid_type"),
        (json!({"max_completion_tokens": 1.5}), "max_completion_tokens", "invalid_type"),
        (json!({"top_k": "all"}), "top_k", "invalid_type"),
        (json!({"top_k": 0.5}), "top_k", "invalid_type"),
        (json!({"seed": "x"}), "seed", "invalid_type"),
        (json!({"seed": 0.5}), "seed", "invalid_type"),
        (json!({"seed": [1]}), "seed", "invalid_type"),
        (json!({"thinking_budget": true}), "thinking_budget", "invalid_type"),
        (json!({"n": 2}), "n", "invalid_value"),
        (json!({"functions": []}), "functions", "unsupported_parameter"),
        (json!({"logprobs": true}), "logprobs", "unsupported_parameter"),
        (json!({"logprobs": 2}), "logprobs", "unsupported_parameter"),
        (json!({"logprobs": false, "top_logprobs": 2}), "top_logprobs", "unsupported_parameter"),
        (json!({"qwen_parent_id": "p"}), "qwen_parent_id", "invalid_value"),
    ];
    for (more, param, code) in cases {
        let error = decode(&body(&request(more.clone()))).expect_err(&more.to_string());
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{more}");
        assert_eq!(error.param(), Some(param), "{more}: {error}");
        assert_eq!(error.code(), Some(code), "{more}: {error}");
        assert!(error.message().contains(param.rsplit('.').next().expect("a part")), "{error}");
    }
}

#[test]
fn text_that_is_no_json_says_where() {
    for (text, word) in [
        ("", "empty"),
        ("  \n", "empty"),
        ("{\"model\":", "line 1 column 9"),
        ("{\"model\":\"m\",}", "line 1"),
        ("{} {}", "goes on"),
    ] {
        // The last is read to its end only if it would be valid.
        let text = text.replacen("{} ", &format!("{} ", request(json!({}))), 1);
        let error = decode(&Bytes::from(text.clone())).expect_err(&text);
        assert_eq!(error.code(), Some("invalid_json"), "{text}: {error}");
        assert!(error.message().contains(word), "{text}: {error}");
    }
    let error = decode(&Bytes::from_static(b"{\"model\":\"\xff\"}")).expect_err("not UTF-8");
    assert!(error.message().contains("byte 10"), "{error}");
}

/// JSON allows them, and the error is not that it is none.
#[test]
fn a_number_beyond_all_range_is_named() {
    for (more, param) in [
        (r#""vendor":1e400"#, "vendor"),
        (r#""vendor":{"a":[0,-1e400]}"#, "vendor.a[1]"),
        (r#""temperature":1e999"#, "temperature"),
        (
            r#""tools":[{"type":"function","function":{"name":"f","parameters":{"maximum":1e400}}}]"#,
            "tools[0].function.parameters.maximum",
        ),
        (
            r#""messages":[{"role":"user","content":[{"type":"x","y":1e400}]}]"#,
            "messages[0].content[0].y",
        ),
    ] {
        let text = format!(r#"{{"model":"m",{more}}}"#);
        let error = decode(&Bytes::from(text)).expect_err(param);
        assert_eq!((error.param(), error.code()), (Some(param), Some("invalid_value")), "{error}");
        assert!(error.message().contains("number out of range"), "{error}");
        assert!(!error.message().contains("not valid JSON"), "{error}");
    }
}

/// The numbers of unknown fields are kept by their value: see `chat::Extra`.
#[test]
fn numbers_of_unknown_fields_are_kept_by_their_value() {
    for (sent, kept) in [
        ("18446744073709551615", "18446744073709551615"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("0.1", "0.1"),
        ("12345678901234567890123", "1.2345678901234568e+22"),
        ("1.0E5", "100000.0"),
        ("123456.789012345", "123456.789012345"),
    ] {
        let text = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"vendor":{sent}}}"#
        );
        let request = decode(&Bytes::from(text)).expect("valid");
        assert_eq!(request.extra["vendor"].to_string(), kept);
    }
}

#[test]
fn a_long_value_is_not_quoted_whole() {
    let error = decode(&body(&request(json!({"stream": "é".repeat(5000)})))).expect_err("a string");
    assert!(error.message().len() < 400, "{}", error.message().len());
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let text = format!("\u{feff}{}", request(json!({})));
    assert!(decode(&Bytes::from(text)).is_ok());
}

#[test]
fn texts_without_escapes_are_slices_of_the_body() {
    let body = body(&request(json!({})));
    let text = decode(&body).expect("valid").messages[0].text();
    let range = body.as_ptr_range();
    assert!(range.contains(&text.as_ptr()), "copied");
}

/// A body of which little is used as it stands is let go, so that a long history with escapes is
/// there once; one that is used is kept.
#[test]
fn a_body_is_let_go_where_it_is_copied_anyway() {
    for (unit, kept) in [("line\n", false), ("line ", true)] {
        let long = unit.repeat(40_000);
        let body = body(&request(json!({"user": "u", "stop": ["END"], "messages": [
            {"role": "user", "name": "ann", "content": long},
            {"role": "assistant", "reasoning_content": "hm", "content": [{"type": "text", "text": "x"}],
             "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "4"}]})));
        let request = decode(&body).expect("valid");
        assert_eq!(!body.is_unique(), kept, "{unit:?}");
        assert_eq!(request.messages[0].text().as_str(), long);
        assert_eq!(request.messages[1].tool_calls[0].arguments, "{}");
        assert_eq!(request.sampling.stop[0], "END");
    }
}

/// What is read later than the rest is named by its whole path all the same.
#[test]
fn errors_of_nested_parts_have_their_path() {
    let cases = [
        (json!([{"role": "user", "content": 7}]), "messages[0].content"),
        (json!([{"role": "user", "content": {"a": 1}}]), "messages[0].content"),
        (json!([{"role": "user", "content": ["x"]}]), "messages[0].content[0]"),
        (
            json!([{"role": "user", "content": [{"type": "text", "text": 7}]}]),
            "messages[0].content[0].text",
        ),
        (
            json!([{"role": "user", "content": [{"type": "x"}, {"type": "image_url", "image_url": 7}]}]),
            "messages[0].content[1].image_url",
        ),
        (json!([{"role": "assistant", "reasoning": [], "content": "x"}]), "messages[0].reasoning"),
        (
            json!([{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": 7}}]}]),
            "messages[0].tool_calls[0].function.arguments",
        ),
    ];
    for (messages, param) in cases {
        let error = decode(&body(&request(json!({ "messages": messages })))).expect_err(param);
        assert_eq!((error.param(), error.code()), (Some(param), Some("invalid_type")), "{error}");
    }
    let cut = Bytes::from(r#"{"model":"m","messages":[{"role":"user","content":"\ud83c"}]}"#);
    let error = decode(&cut).expect_err("half a character");
    assert_eq!(error.param(), Some("messages[0].content"));
}

#[test]
fn all_roles_and_parts_are_read() {
    let request = decoded(json!({"messages": [
        {"role": "developer", "content": "d"},
        {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "name": "Ann", "content": [
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
            {"type": "image_url", "image_url": "https://example.org/b.png"},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "file", "file": {"file_data": "data:,x", "filename": "x.txt"}},
            {"type": "video_url", "video_url": {"url": "https://example.org/v.mp4"}},
            {"type": "sticker", "sticker": {"id": 7}},
        ]},
        {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
            {"id": "c1", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{\"a\":1}"}},
            {"id": "c2", "type": "function", "function": {"name": "g", "arguments": {"b": [2]}}},
            {"id": "c3", "type": "function", "function": {"name": "h"}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "42", "vendor": true},
        {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}},
        {"role": "function", "name": "old", "content": "done"},
    ]}));
    let roles: Vec<_> = request.messages.iter().map(|message| message.role).collect();
    assert_eq!(
        roles,
        [
            Role::Developer,
            Role::System,
            Role::User,
            Role::Assistant,
            Role::Tool,
            Role::Assistant,
            Role::Function
        ]
    );
    let Some(Content::Parts(system)) = &request.messages[1].content else { panic!("parts") };
    assert_eq!(system[0].extra["cache_control"]["type"], "ephemeral");

    let user = &request.messages[2];
    assert_eq!(user.name.as_deref(), Some("Ann"));
    let Some(Content::Parts(parts)) = &user.content else { panic!("parts") };
    assert!(matches!(&parts[1].kind, PartKind::Image { url, detail: Some(detail) }
        if url.ends_with("a.png") && *detail == "low"));
    assert!(
        matches!(&parts[2].kind, PartKind::Image { url, detail: None } if url.ends_with("b.png"))
    );
    assert!(matches!(&parts[3].kind, PartKind::Audio { data, .. } if *data == "AAAA"));
    assert!(matches!(&parts[4].kind, PartKind::File { name: Some(name), .. } if *name == "x.txt"));
    assert!(matches!(&parts[5].kind, PartKind::Video { .. }));
    let PartKind::Other(sticker) = &parts[6].kind else { panic!("another kind") };
    assert_eq!(Value::Object(sticker.clone()), json!({"type": "sticker", "sticker": {"id": 7}}));

    let assistant = &request.messages[3];
    assert_eq!(assistant.content, None);
    assert_eq!(assistant.reasoning.as_deref(), Some("hm"));
    let arguments: Vec<_> = assistant.tool_calls.iter().map(|call| &*call.arguments).collect();
    assert_eq!(arguments, ["{\"a\":1}", "{\"b\":[2]}", "{}"]);
    assert!(assistant.tool_calls[0].extra.is_empty(), "the index is the stream's");

    assert_eq!(request.messages[4].tool_call_id.as_deref(), Some("c1"));
    assert_eq!(request.messages[4].extra["vendor"], true);
    assert_eq!(request.messages[5].tool_calls[0].name, "old");
}

#[test]
fn options_are_read_in_every_spelling() {
    let request = decoded(json!({
        "stream": true,
        "stream_options": {"include_usage": true, "continuous_usage_stats": true},
        "max_tokens": 5, "max_completion_tokens": 7,
        "temperature": 0.5, "top_p": 1, "top_k": 20, "seed": -3, "stop": "END",
        "presence_penalty": -1.5, "frequency_penalty": 2, "repetition_penalty": 1.05,
        "user": "u", "logit_bias": {"5": 1}, "vendor": {"x": null},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "parallel_tool_calls": false,
    }));
    assert!(request.stream && request.stream_options.include_usage);
    assert_eq!(request.stream_options.extra["continuous_usage_stats"], true);
    assert_eq!(request.sampling.max_tokens, Some(7));
    assert_eq!(request.sampling.stop, ["END"]);
    assert_eq!(request.sampling.seed, Some(-3));
    assert_eq!(request.parallel_tool_calls, Some(false));
    assert!(matches!(request.response_format, Some(ResponseFormat::JsonSchema(_))));
    let kept: Vec<_> = request.extra.keys().map(String::as_str).collect();
    assert_eq!(kept, ["logit_bias", "vendor"]);

    let several = decoded(json!({"stop": ["a", "b"], "max_tokens": 5}));
    assert_eq!(several.sampling.stop, ["a", "b"]);
    assert_eq!(several.sampling.max_tokens, Some(5));
    assert!(!several.stream, "the API's default is not to stream");

    let nulls = decoded(json!({"stop": null, "tools": null, "stream": null, "user": null,
        "logprobs": null, "top_logprobs": 0}));
    assert!(nulls.sampling.stop.is_empty() && nulls.tools.is_empty());
}

#[test]
fn thinking_options_are_read_in_every_spelling() {
    for (more, wanted) in [
        (json!({}), None),
        (json!({"reasoning_effort": "high"}), Some(true)),
        (json!({"reasoning_effort": "minimal"}), Some(false)),
        (json!({"reasoning": {"effort": "none"}}), Some(false)),
        (json!({"reasoning": {"max_tokens": 100}}), Some(true)),
        (json!({"reasoning": {"enabled": false}}), Some(false)),
        (json!({"enable_thinking": true}), Some(true)),
        (json!({"enable_thinking": false, "reasoning_effort": "high"}), Some(false)),
        (json!({"chat_template_kwargs": {"enable_thinking": false}}), Some(false)),
        (json!({"thinking_budget": 1024}), Some(true)),
        (json!({"thinking_budget": -1}), Some(true)),
        (json!({"thinking_budget": 0}), Some(false)),
    ] {
        assert_eq!(decoded(more.clone()).reasoning.wanted(), wanted, "{more}");
    }
    let request = decoded(json!({
        "reasoning": {"effort": "xhigh", "summary": "auto"},
        "chat_template_kwargs": {"enable_thinking": true, "other": 1},
    }));
    assert_eq!(request.reasoning.effort, Some(ReasoningEffort::Other("xhigh".into())));
    assert_eq!(request.extra["reasoning"], json!({"summary": "auto"}), "the rest is kept");
    assert_eq!(request.extra["chat_template_kwargs"]["other"], 1);
}

#[test]
fn tools_keep_their_schema_to_the_letter() {
    let schema = json!({"type": "object", "properties": {"z": {}, "a": {"$ref": "#/x"}}, "x": 1});
    let request = decoded(json!({
        "tools": [
            {"type": "function", "function": {
                "name": "f", "description": "d", "parameters": schema, "strict": true, "vendor": 1}},
            {"type": "function", "name": "flat", "parameters": {}},
            {"type": "web_search", "depth": 3},
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    }));
    let first = request.tools[0].as_function().expect("a function");
    assert_eq!(first.parameters.as_ref().expect("given").to_string(), schema.to_string());
    assert_eq!(first.strict, Some(true));
    assert_eq!(first.extra["vendor"], 1);
    assert_eq!(request.tools[1].as_function().expect("a function").name, "flat");
    assert_eq!(request.tools[2], Tool::Other(json!({"type": "web_search", "depth": 3})));
    assert_eq!(request.tool_choice, Some(ToolChoice::Function("f".into())));
    assert!(matches!(
        decoded(json!({"tool_choice": {"type": "allowed_tools"}})).tool_choice,
        Some(ToolChoice::Other(_))
    ));
}

/// Servers know types and fields that OpenAI does not: what has any is kept whole.
#[test]
fn a_response_format_of_a_server_is_kept_whole() {
    let read =
        |format: &Value| decoded(json!({"response_format": format})).into_parts().response_format;
    assert_eq!(read(&json!({"type": "text"})), Some(ResponseFormat::Text));
    assert_eq!(read(&json!({"type": "json_object"})), Some(ResponseFormat::JsonObject));
    for format in [
        json!({"type": "json_object", "schema": {"type": "object"}}),
        json!({"schema": {"type": "object"}, "type": "json_schema"}),
        json!({"type": "json_schema", "json_schema": {"name": "n"}, "vendor": 1}),
        json!({"type": "structural_tag", "structures": [], "triggers": ["<tag>"]}),
        json!({"type": "text", "vendor": null}),
    ] {
        let Some(ResponseFormat::Other(whole)) = read(&format) else { panic!("{format}") };
        assert_eq!(Value::Object(whole).to_string(), format.to_string());
    }
}

/// A choice of a function is one whatever stands beside the name.
#[test]
fn a_tool_choice_with_more_fields_is_kept_whole() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    for choice in [
        json!({"type": "function", "function": {"name": "f"}, "vendor": 1}),
        json!({"type": "function", "function": {"name": "f", "vendor": 1}}),
    ] {
        let read = decoded(json!({"tools": tools, "tool_choice": choice})).into_parts().tool_choice;
        let read = read.expect("given");
        assert_eq!(read.function(), Some("f"));
        assert_eq!(read, ToolChoice::Other(choice.clone()));
        let error = decode(&body(&request(json!({"tool_choice": choice})))).expect_err("no tools");
        assert_eq!(error.param(), Some("tool_choice"));
    }
}

#[test]
fn a_clients_own_chat_is_taken_over() {
    let request = decoded(json!({"qwen_chat_id": "c", "qwen_parent_id": "p"}));
    let conversation = request.conversation.as_ref().expect("given");
    assert_eq!(conversation.chat_id, "c");
    assert_eq!(conversation.parent_id.as_deref(), Some("p"));
    assert!(decoded(json!({})).conversation.is_none());
}

/// Any JSON, with the keys that mean something more likely than others.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "model",
        "messages",
        "role",
        "content",
        "user",
        "assistant",
        "tool",
        "type",
        "text",
        "image_url",
        "url",
        "tools",
        "function",
        "name",
        "arguments",
        "tool_calls",
        "stop",
        "stream",
        "tool_choice",
        "reasoning",
        "effort",
        "response_format",
        "n",
        "id",
        "file",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..8).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(key, value)| (key.into(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = decode(&Bytes::from(bytes));
    }

    #[test]
    fn random_json_never_panics_and_errors_are_the_clients(value in any_json()) {
        if let Err(error) = decode(&body(&value)) {
            prop_assert_eq!(error.status(), 400);
        }
    }

    #[test]
    fn random_json_in_a_field_never_panics(
        field in prop::sample::select(vec!["messages", "tools", "tool_choice", "stop", "reasoning"]),
        value in any_json(),
    ) {
        if let Err(error) = decode(&body(&request(json!({ field: value })))) {
            prop_assert_eq!(error.status(), 400);
            prop_assert!(error.param().is_some(), "{}", error);
        }
    }
}

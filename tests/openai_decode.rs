//! What the edge makes of request bodies: the shapes that clients send, and the errors they get.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower_qwen::{
    ErrorKind,
    chat::{
        ChatRequest, Content, Extra, Json, PartKind, ReasoningEffort, ResponseFormat, Role, Tool,
        ToolChoice,
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
    decode(&body(&request(more))).expect("valid").chat
}

/// A body of the fields `more`, as they stand.
fn text(more: &str) -> Bytes {
    Bytes::from(format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{more}}}"#))
}

/// Clients whose language has one kind of number write `1.0` for 1.
#[test]
fn an_integer_may_be_written_with_a_point() {
    const FIELDS: [&str; 5] =
        ["n", "max_tokens", "max_completion_tokens", "thinking_budget", "seed"];
    for written in ["1", "1.0", "1e0", "0.1e1"] {
        let fields = FIELDS.map(|field| format!(r#""{field}":{written}"#)).join(",");
        let fields =
            format!(r#"{fields},"top_k":{written},"reasoning":{{"max_tokens":{written}}}"#);
        let chat = decode(&text(&fields)).expect(written).chat;
        let (sampling, reasoning) = (chat.sampling, chat.reasoning);
        let read = (sampling.max_tokens, sampling.max_completion_tokens, sampling.top_k);
        assert_eq!(read, (Some(1), Some(1), Some(1)), "{written}");
        assert_eq!((sampling.seed, reasoning.budget), (Some(1), Some(1)), "{written}");
        let other = format!(r#""reasoning":{{"max_tokens":{written}}}"#);
        assert_eq!(decode(&text(&other)).expect(written).chat.reasoning.budget, Some(1));
    }
    // Not every integer of this size has a float of its own.
    for (fields, param) in [
        (r#""seed":1e16"#, "seed"),
        (r#""max_tokens":-1e300"#, "max_tokens"),
        (r#""top_k":18446744073709551615"#, "top_k"),
        (r#""n":-1"#, "n"),
    ] {
        let error = decode(&text(fields)).expect_err(fields);
        assert_eq!(error.param(), Some(param), "{fields}: {error}");
    }
}

fn value(json: Json) -> Value {
    json.to_value().expect("JSON")
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
        (json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"detail": "low"}}]}]}), "messages[0].content[0].image_url.url", "missing_required_parameter"),
        (json!({"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {}}]}]}), "messages[0].content[0].video_url.url", "missing_required_parameter"),
        (json!({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}), "messages[0].content[0].input_audio.data", "missing_required_parameter"),
        (json!({"messages": [{"role": "user", "content": [{"type": 7}]}]}), "messages[0].content[0].type", "invalid_type"),
        (json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {}}]}]}), "messages[0].tool_calls[0].function.name", "missing_required_parameter"),
        (json!({"messages": [{"role": "assistant", "function_call": {"arguments": "{}"}}]}), "messages[0].function_call.name", "missing_required_parameter"),
        (json!({"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": 7}}]}), "messages[0].function_call.arguments", "invalid_type"),
        (json!({"tools": {}}), "tools", "invalid_type"),
        (json!({"tools": ["f"]}), "tools[0]", "invalid_type"),
        (json!({"tools": [{"type": 5}]}), "tools[0].type", "invalid_type"),
        (json!({"tools": [{"type": "x"}, {"type": "function", "function": {"name": 5}}]}), "tools[1].function.name", "invalid_type"),
        (json!({"tools": [{"type": "function", "function": {}}]}), "tools[0].function.name", "missing_required_parameter"),
        (json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": "{}"}}]}), "tools[0].function.parameters", "invalid_type"),
        (json!({"tools": [{"type": "function", "name": "f", "parameters": []}]}), "tools[0].parameters", "invalid_type"),
        (json!({"tools": [{"type": "function", "name": ""}]}), "tools[0].name", "invalid_value"),
        (json!({"tool_choice": 7}), "tool_choice", "invalid_type"),
        (json!({"tool_choice": {"type": 7}}), "tool_choice.type", "missing_required_parameter"),
        (json!({"tool_choice": {"type": "function"}}), "tool_choice.function.name", "missing_required_parameter"),
        (json!({"response_format": "text"}), "response_format", "invalid_type"),
        (json!({"stream_options": {"include_usage": 1}}), "stream_options.include_usage", "invalid_type"),
        (json!({"stream_options": true}), "stream_options", "invalid_type"),
        (json!({"reasoning": {"max_tokens": "x"}}), "reasoning.max_tokens", "invalid_type"),
        (json!({"chat_template_kwargs": []}), "chat_template_kwargs", "invalid_type"),
        (json!({"function_call": "auto"}), "function_call", "unsupported_parameter"),
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
        (json!({"functions": [{"name": "f"}]}), "functions", "unsupported_parameter"),
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
    for (more, param) in
        [(r#""temperature":1e999"#, "temperature"), (r#""logit_bias":{},"top_p":-1e400"#, "top_p")]
    {
        let error = decode(&text(more)).expect_err(param);
        assert_eq!((error.param(), error.code()), (Some(param), Some("invalid_value")), "{error}");
        assert!(error.message().contains("number out of range"), "{error}");
        assert!(!error.message().contains("not valid JSON"), "{error}");
    }
}

/// What is not read is kept, in every place, with every number as it was written.
#[test]
fn what_is_unknown_is_kept_to_the_letter() {
    const ODD: &str = r#"{"z": [1e400,-0, 12345678901234567890123], "a":1.0E5 ,"a": "\u00e9"}"#;
    let more = format!(
        r#""vendor": {ODD}, "stream_options": {{"include_usage": true, "vendor": {ODD}}},
        "reasoning": {{"vendor": {ODD}}}, "chat_template_kwargs": {ODD},
        "tool_choice": {{"type": "vendor", "x": {ODD}}},
        "response_format": {{"type": "vendor", "x": {ODD}}},
        "tools": [
            {{"type": "function", "vendor": {ODD}, "cache_control": {ODD},
                "function": {{"name": "f", "parameters": {ODD}, "vendor": {ODD}}}}},
            {{"type": "function", "name": "flat", "parameters": {ODD}, "vendor": {ODD}}},
            {{"vendor" : {ODD}, "type": "vendor" }}]"#
    );
    let body = format!(
        r#"{{"model": "m", {more}, "messages": [{{"role": "user", "vendor": {ODD}, "content": [
            {{"type": "text", "text": "x", "cache_control": {ODD}, "vendor": {ODD}}},
            {{"type": "image_url", "image_url": {{"url": "u", "vendor": {ODD}}}}},
            {{ "vendor": {ODD}, "type": "vendor", "cache_control": {ODD} }}]}},
          {{"role": "assistant", "tool_calls": [{{"id": "c", "vendor": {ODD},
            "function": {{"name": "f", "vendor": {ODD}}}}}]}}]}}"#
    );
    let decoded = decode(&Bytes::from(body)).expect("valid");
    assert!(decoded.include_usage && !decoded.stream);
    let chat = decoded.chat;
    let odd = Some(Json::parse(ODD).expect("JSON"));
    let vendor = |extra: &Extra| assert_eq!(extra.get("vendor"), odd);
    vendor(&chat.extra);
    for name in ["stream_options", "reasoning"] {
        let inner = chat.extra.get(name).expect(name);
        assert_eq!(inner.as_str(), format!(r#"{{"vendor":{ODD}}}"#));
    }
    assert_eq!(chat.extra.get("chat_template_kwargs"), odd);
    let Some(ToolChoice::Other(choice)) = &chat.tool_choice else { panic!("another") };
    assert_eq!(choice.as_str(), format!(r#"{{"type": "vendor", "x": {ODD}}}"#));
    let Some(ResponseFormat::Other(format)) = &chat.response_format else { panic!("another") };
    assert_eq!(format, choice);

    let [Tool::Function(function), Tool::Function(flat), Tool::Other(other)] = &chat.tools[..]
    else {
        panic!("two functions and another")
    };
    for json in [&function.parameters, &function.cache_control, &flat.parameters] {
        assert_eq!(*json, odd);
    }
    for extra in [&function.extra, &function.outer_extra, &flat.extra] {
        vendor(extra);
    }
    assert_eq!(other.as_str(), format!(r#"{{"vendor" : {ODD}, "type": "vendor" }}"#));

    let message = &chat.history[0];
    vendor(&message.extra);
    let Some(Content::Parts(parts)) = &message.content else { panic!("parts") };
    assert_eq!(parts[0].cache_control, odd);
    vendor(&parts[0].extra);
    vendor(&parts[1].inner_extra);
    let PartKind::Other(whole) = &parts[2].kind else { panic!("another kind") };
    assert_eq!(whole.get("cache_control"), odd);
    assert_eq!(parts[2].cache_control, None, "it is part of the whole");
    vendor(whole);
    let call = &chat.history[1].tool_calls[0];
    vendor(&call.extra);
    vendor(&call.inner_extra);
}

/// Of a kind that is not known any field may be of any meaning.
#[test]
fn parts_and_tools_of_unknown_kinds_are_not_looked_into() {
    let request = decoded(json!({
        "messages": [{"role": "user", "content": [
            {"type": "document", "file": 7, "text": {}, "image_url": []},
            {"type": "text", "text": "x"}]}],
        "tools": [{"type": "custom", "function": "f", "cache_control": 1}],
    }));
    let Some(Content::Parts(parts)) = &request.history[0].content else { panic!("parts") };
    assert!(matches!(&parts[0].kind, PartKind::Other(whole) if whole.contains("file")));
    assert!(matches!(&parts[1].kind, PartKind::Text(text) if *text == "x"));
    assert!(matches!(request.tools[0], Tool::Other(_)));
}

/// A field that is there twice is of no certain meaning; of those that pass on both do.
#[test]
fn a_known_field_may_be_there_once() {
    for (more, name, param) in [
        (r#""top_p":1,"top_p":0.5"#, "top_p", None),
        (r#""top_p":1,"top\u005fp":0.5"#, "top_p", None),
        (r#""reasoning":{"effort":"low","effort":"high"}"#, "effort", Some("reasoning")),
    ] {
        let error = decode(&text(more)).expect_err(more);
        assert_eq!((error.code(), error.param()), (Some("invalid_type"), param), "{error}");
        assert!(error.message().contains(&format!("duplicate field `{name}`")), "{error}");
    }
    let request =
        decode(&text(r#""vendor":1,"vendor":2,"top_p":null,"top_p":0.5"#)).expect("valid");
    assert_eq!(request.chat.extra.iter().count(), 2);
    assert_eq!(request.chat.sampling.top_p, Some(0.5));
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
    let text = decode(&body).expect("valid").chat.history[0].text();
    let range = body.as_ptr_range();
    assert!(range.contains(&text.as_ptr()), "copied");
}

/// JSON that is kept whole is none of it copied either.
#[test]
fn json_that_is_kept_is_a_slice_of_the_body() {
    let body = body(&request(json!({
        "tools": [
            {"type": "function", "cache_control": {"type": "x"}, "function": {"name": "f", "parameters": {}}},
            {"type": "function", "name": "g", "parameters": {}},
            {"type": "web_search"}],
        "tool_choice": {"type": "allowed_tools"},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n"}},
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "x", "cache_control": {"type": "x"}}]}],
    })));
    let range = body.as_ptr_range();
    let is_slice = |json: &Json| range.contains(&json.as_str().as_ptr());
    let request = decode(&body).expect("valid").chat;
    let [Tool::Function(first), Tool::Function(flat), Tool::Other(other)] = &request.tools[..]
    else {
        panic!("two functions and another")
    };
    let (Some(ToolChoice::Other(choice)), Some(ResponseFormat::JsonSchema(schema))) =
        (&request.tool_choice, &request.response_format)
    else {
        panic!("others")
    };
    let Some(Content::Parts(parts)) = &request.history[0].content else { panic!("parts") };
    for json in [
        first.parameters.as_ref().expect("given"),
        first.cache_control.as_ref().expect("given"),
        flat.parameters.as_ref().expect("given"),
        parts[0].cache_control.as_ref().expect("given"),
        other,
        choice,
        schema,
    ] {
        assert!(is_slice(json), "{json} is a copy");
    }
}

/// A body of which little is used as it stands is let go, so that a long history with escapes is
/// there once; one that is used is kept.
#[test]
fn a_body_is_let_go_where_it_is_copied_anyway() {
    for (unit, kept) in [("line\n", false), ("line ", true)] {
        let long = unit.repeat(40_000);
        let mark = json!({"type": "ephemeral"});
        let body = body(&request(json!({"user": "u", "stop": ["END"],
            "tools": [{"type": "web_search"}, {"type": "function", "cache_control": mark,
                "function": {"name": "f", "description": "d", "parameters": {"a": 1}}}],
            "tool_choice": {"type": "allowed_tools"}, "response_format": {"type": "grammar"},
            "qwen_chat_id": "c", "qwen_parent_id": "p", "reasoning_effort": "xhigh", "messages": [
            {"role": "user", "name": "ann", "content": long},
            {"role": "user", "content": [{"type": "sticker"}, {"type": "file", "file": {"file_id": "i"}},
                {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                {"type": "video_url", "video_url": "u"}, {"type": "refusal", "refusal": "no"},
                {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]},
            {"role": "assistant", "reasoning_content": "hm",
             "content": [{"type": "text", "text": "x", "cache_control": mark}],
             "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "4"}]})));
        let request = decode(&body).expect("valid").chat;
        assert_eq!(!body.is_unique(), kept, "{unit:?}");
        assert_eq!(request.history[0].text().as_str(), long);
        assert_eq!(request.history[2].tool_calls[0].arguments, "{}");
        assert_eq!(request.sampling.stop[0], "END");
        let function = request.tools[1].as_function().expect("a function");
        assert_eq!(function.parameters, Some(Json::from(json!({"a": 1}))));
        assert_eq!(request.tools[0], Tool::Other(Json::from(json!({"type": "web_search"}))));
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
    let roles: Vec<_> = request.history.iter().map(|message| message.role).collect();
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
    let Some(Content::Parts(system)) = &request.history[1].content else { panic!("parts") };
    let mark = system[0].cache_control.clone().expect("given");
    assert_eq!(mark.get("type").map(value), Some(json!("ephemeral")));
    assert!(system[0].extra.is_empty());

    let user = &request.history[2];
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
    assert_eq!(value(sticker.into()), json!({"type": "sticker", "sticker": {"id": 7}}));

    let assistant = &request.history[3];
    assert_eq!(assistant.content, None);
    assert_eq!(assistant.reasoning.as_deref(), Some("hm"));
    let arguments: Vec<_> = assistant.tool_calls.iter().map(|call| &*call.arguments).collect();
    assert_eq!(arguments, ["{\"a\":1}", "{\"b\":[2]}", "{}"]);
    assert!(assistant.tool_calls[0].extra.is_empty(), "the index is the stream's");

    assert_eq!(request.history[4].tool_call_id.as_deref(), Some("c1"));
    assert_eq!(request.history[4].extra.get("vendor").and_then(|it| it.as_bool()), Some(true));
    assert_eq!(request.history[5].tool_calls[0].name, "old");
}

#[test]
fn options_are_read_in_every_spelling() {
    let read = decode(&body(&request(json!({
        "stream": true,
        "stream_options": {"include_usage": true, "continuous_usage_stats": true},
        "max_tokens": 5, "max_completion_tokens": 7,
        "temperature": 0.5, "top_p": 1, "top_k": 20, "seed": -3, "stop": "END",
        "presence_penalty": -1.5, "frequency_penalty": 2, "repetition_penalty": 1.05,
        "user": "u", "logit_bias": {"5": 1}, "vendor": {"x": null},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "parallel_tool_calls": false,
    }))));
    let read = read.expect("valid");
    assert!(read.stream && read.include_usage);
    let chat = read.chat;
    assert_eq!(chat.sampling.max_tokens, Some(5));
    assert_eq!(chat.sampling.max_completion_tokens, Some(7));
    assert_eq!(chat.sampling.token_limit(), Some(7));
    assert_eq!(chat.sampling.stop, ["END"]);
    assert_eq!(chat.sampling.seed, Some(-3));
    assert_eq!(chat.parallel_tool_calls, Some(false));
    assert!(matches!(chat.response_format, Some(ResponseFormat::JsonSchema(_))));
    assert_eq!(
        value(Json::from(&chat.extra)),
        json!({"logit_bias": {"5": 1}, "vendor": {"x": null},
            "stream_options": {"continuous_usage_stats": true}})
    );

    let several = decoded(json!({"stop": ["a", "b"], "max_tokens": 5}));
    assert_eq!(several.sampling.stop, ["a", "b"]);
    assert_eq!(several.sampling.max_tokens, Some(5));
    let plain = decode(&body(&request(json!({"stream_options": {"include_usage": null}}))));
    let plain = plain.expect("valid");
    assert!(!plain.stream && !plain.include_usage, "the API's default is not to stream");
    assert!(plain.chat.extra.is_empty());

    let nulls = decoded(json!({"stop": null, "tools": null, "stream": null, "user": null,
        "logprobs": null, "top_logprobs": 0}));
    assert!(nulls.sampling.stop.is_empty() && nulls.tools.is_empty());
}

#[test]
fn thinking_options_are_read_in_every_spelling() {
    for (more, wanted) in [
        (json!({}), None),
        (json!({"reasoning_effort": "high"}), Some(true)),
        (json!({"reasoning_effort": "minimal"}), Some(true)),
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
    assert_eq!(request.reasoning.effort, Some(ReasoningEffort::XHigh));
    assert_eq!(
        value(Json::from(&request.extra)),
        json!({"reasoning": {"summary": "auto"},
            "chat_template_kwargs": {"enable_thinking": true, "other": 1}}),
        "the rest is kept"
    );
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
    assert_eq!(first.extra.get("vendor").map(value), Some(json!(1)));
    assert_eq!(request.tools[1].as_function().expect("a function").name, "flat");
    assert_eq!(request.tools[2], Tool::Other(json!({"type": "web_search", "depth": 3}).into()));
    assert_eq!(request.tool_choice, Some(ToolChoice::Function("f".into())));
    assert!(matches!(
        decoded(json!({"tool_choice": {"type": "allowed_tools"}})).tool_choice,
        Some(ToolChoice::Other(_))
    ));
}

/// Servers know types and fields that OpenAI does not: what has any is kept whole.
#[test]
fn a_response_format_of_a_server_is_kept_whole() {
    let read = |format: &Value| decoded(json!({ "response_format": format })).response_format;
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
        assert_eq!(whole.as_str(), format.to_string());
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
        let read = decoded(json!({"tools": tools, "tool_choice": choice})).tool_choice;
        let read = read.expect("given");
        assert_eq!(read.function().as_deref(), Some("f"));
        assert_eq!(read, ToolChoice::Other(Json::from(&choice)));
        let error = decode(&body(&request(json!({"tool_choice": choice})))).expect_err("no tools");
        assert_eq!(error.param(), Some("tool_choice"));
    }
}

#[test]
fn a_clients_own_chat_is_taken_over() {
    let request = decoded(json!({"qwen_chat_id": "c", "qwen_parent_id": "p"}));
    let conversation = request.conversation().expect("given");
    assert_eq!(conversation.chat_id, "c");
    assert_eq!(conversation.parent_id.as_deref(), Some("p"));
    assert!(decoded(json!({})).conversation().is_none());
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

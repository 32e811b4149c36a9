//! What the Messages edge makes of request bodies: the shapes that clients send, the errors they
//! get, and that the same conversation is the same history however it is written.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, FullBody,
    anthropic::{AnthropicLayer, decode},
    chat::{
        ChatEvent, ChatRequest, Content, FinishReason, Message, Part, PartKind, ReasoningEffort,
        ResponseFormat, Role, Tenant, ToolChoice,
    },
    edge::Limits,
    session::internals::KeyChain,
};

fn body(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// A valid request with `more` laid over it.
fn request(more: &Value) -> Value {
    let mut request = json!({
        "model": "qwen3-max",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Hello"}],
    });
    for (key, value) in more.as_object().expect("an object") {
        request[key] = value.clone();
    }
    request
}

fn decoded(more: Value) -> ChatRequest {
    decode(&body(&request(&more))).unwrap_or_else(|error| panic!("{more}: {error}")).chat
}

/// What the service below the edge gets of a request.
async fn through(edge: AnthropicLayer, body: Value) -> ChatRequest {
    let seen = Arc::new(Mutex::new(None));
    let inner = service_fn({
        let seen = Arc::clone(&seen);
        move |request: Request<ChatRequest>| {
            *seen.lock().expect("not poisoned") = Some(request.into_body());
            let said = [ChatEvent::Text("x".into()), ChatEvent::Finished(FinishReason::Stop)];
            async { Ok::<_, Error>(Response::new(stream::iter(said.map(Ok::<_, Error>)))) }
        }
    });
    let request = Request::post("/v1/messages")
        .header("content-type", "application/json")
        .body(FullBody::new(Bytes::from(body.to_string())))
        .expect("a request");
    let response = edge.layer(inner).oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), 200);
    seen.lock().expect("not poisoned").take().expect("called")
}

fn shown_part(part: &Part) -> String {
    let shown = match &part.kind {
        PartKind::Text(text) => text.to_string(),
        PartKind::Image { url, .. } => format!("[image {url}]"),
        PartKind::File { data, name, .. } => {
            let data = data.as_deref().unwrap_or("-");
            format!("[file {data} {}]", name.as_deref().unwrap_or("-"))
        }
        PartKind::ToolReference { name } => format!("[tool {name}]"),
        other => format!("{other:?}"),
    };
    if part.cache_control.is_some() { format!("{shown}^") } else { shown }
}

/// A message in one line.
fn shown(message: &Message) -> String {
    let mut line = message.role.as_str().to_owned();
    if let Some(id) = &message.tool_call_id {
        line += &format!(" {id}");
    }
    if let Some(thinking) = &message.reasoning {
        line += &format!(" (thinks {thinking})");
    }
    if let Some(signature) = &message.reasoning_signature {
        line += &format!(" (signed {signature})");
    }
    line += ":";
    match &message.content {
        None => {}
        Some(Content::Text(text)) => line += &format!(" {text}"),
        Some(Content::Parts(parts)) => {
            let parts: Vec<_> = parts.iter().map(shown_part).collect();
            line += &format!(" {}", parts.join("|"));
        }
        other => panic!("{other:?}"),
    }
    for call in &message.tool_calls {
        line += &format!(" <{} {} {}>", call.id, call.name, call.arguments);
    }
    line
}

fn history(request: &ChatRequest) -> Vec<String> {
    request.history.iter().map(shown).collect()
}

fn user(blocks: Value) -> Value {
    json!({"messages": [{"role": "user", "content": blocks}]})
}

/// A call of `f`, and the results.
fn results(blocks: Value) -> Value {
    json!({"messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
        {"role": "user", "content": blocks}]})
}

fn assistant(blocks: Value) -> Value {
    json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": blocks}]})
}

#[test]
fn every_kind_of_block_has_its_meaning() {
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "QQ=="}});
    #[rustfmt::skip]
    let table: Vec<(&str, Value, Vec<&str>)> = vec![
        ("a string", user(json!("Hi")), vec!["user: Hi"]),
        ("text", user(json!([{"type": "text", "text": "Hi"}])), vec!["user: Hi"]),
        ("text with escapes", user(json!([{"type": "text", "text": "a\n\"b\"\u{1F30C}\u{1}"}])), vec!["user: a\n\"b\"\u{1F30C}\u{1}"]),
        ("texts are paragraphs", user(json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])), vec!["user: a\nb"]),
        ("empty texts", user(json!([{"type": "text", "text": ""}, {"type": "text", "text": "b"}, {"type": "text", "text": ""}])), vec!["user: b"]),
        ("image, base64", user(json!([{"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}])), vec!["user: a|[image data:image/jpeg;base64,QQ==]|b"]),
        ("image, url", user(json!([{"type": "image", "source": {"type": "url", "url": "https://example.org/i"}}])), vec!["user: [image https://example.org/i]"]),
        ("document, base64", user(json!([{"type": "document", "title": "T", "context": "C", "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}}])), vec!["user: C|[file data:application/pdf;base64,QQ== T]"]),
        ("document, url", user(json!([{"type": "document", "source": {"type": "url", "url": "https://example.org/d"}}])), vec!["user: [file https://example.org/d -]"]),
        ("document, text", user(json!([{"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "D"}}])), vec!["user: T\nD"]),
        ("document, content", user(json!([{"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "D"}, image]}}])), vec!["user: D|[image data:image/jpeg;base64,QQ==]"]),
        ("document, content as a string", user(json!([{"type": "document", "context": "C", "source": {"type": "content", "content": "D"}}])), vec!["user: C\nD"]),
        ("search result", user(json!([{"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "R"}]}])), vec!["user: T\nS\nR"]),
        ("thinking of ours", assistant(json!([{"type": "thinking", "thinking": "hm", "signature": "tq1.AAAA"}, {"type": "text", "text": "y"}])), vec!["user: x", "assistant (thinks hm): y"]),
        ("thinking of others", assistant(json!([{"type": "thinking", "thinking": "hm", "signature": "EqQB"}, {"type": "text", "text": "y"}])), vec!["user: x", "assistant (thinks hm) (signed EqQB): y"]),
        ("thinking without a signature", assistant(json!([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "y"}])), vec!["user: x", "assistant (thinks hm): y"]),
        ("thinking that was not shown", assistant(json!([{"type": "thinking", "thinking": "", "signature": "tq1h.aG0"}, {"type": "text", "text": "y"}])), vec!["user: x", "assistant (thinks hm): y"]),
        ("thinking that is empty", assistant(json!([{"type": "thinking", "thinking": "", "signature": "EqQB"}, {"type": "text", "text": "y"}])), vec!["user: x", "assistant: y"]),
        ("thinking twice", assistant(json!([{"type": "thinking", "thinking": "a", "signature": "tq1.A"}, {"type": "text", "text": "y"}, {"type": "thinking", "thinking": "b", "signature": "tq1.B"}])), vec!["user: x", "assistant (thinks a\nb): y"]),
        ("thinking of a person", user(json!([{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "hm", "signature": "tq1.A"}, {"type": "text", "text": "b"}])), vec!["user: a\nb"]),
        ("redacted thinking", assistant(json!([{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "y"}])), vec!["user: x", "assistant: y"]),
        ("texts of an answer", assistant(json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])), vec!["user: x", "assistant: ab"]),
        ("a call", assistant(json!([{"type": "text", "text": "y"}, {"type": "tool_use", "id": "a", "name": "f", "input": {"b": 1, "a": [2]}}])), vec!["user: x", "assistant: y <a f {\"a\":[2],\"b\":1}>"]),
        ("inputs that are none", assistant(json!([{"type": "tool_use", "id": "a", "name": "f"}, {"type": "tool_use", "id": "b", "name": "f", "input": null}, {"type": "tool_use", "id": "c", "name": "f", "input": ""}, {"type": "tool_use", "id": "d", "name": "f", "input": [1]}])), vec!["user: x", "assistant: <a f {}> <b f {}> <c f {}> <d f {\"input\":[1]}>"]),
        ("a result", results(json!([{"type": "tool_result", "tool_use_id": "a", "content": "1\ttext"}])), vec!["user: x", "assistant: <a f {}>", "tool a: 1\ttext"]),
        ("a result of nothing", results(json!([{"type": "tool_result", "tool_use_id": "a"}])), vec!["user: x", "assistant: <a f {}>", "tool a: "]),
        ("a result of blocks", results(json!([{"content": [{"type": "text", "text": ""}, {"type": "text", "text": "r"}, {"type": "text", "text": "s"}], "type": "tool_result", "tool_use_id": "a"}])), vec!["user: x", "assistant: <a f {}>", "tool a: r\ns"]),
        ("a result with an image", results(json!([{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "r"}, image]}, {"type": "text", "text": "u"}])), vec!["user: x", "assistant: <a f {}>", "tool a: r", "user: [image data:image/jpeg;base64,QQ==]|u"]),
        ("an image as a result", results(json!([{"type": "tool_result", "tool_use_id": "a", "content": [image]}])), vec!["user: x", "assistant: <a f {}>", "tool a: ", "user: [image data:image/jpeg;base64,QQ==]"]),
        ("an error", results(json!([{"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": "no"}])), vec!["user: x", "assistant: <a f {}>", "tool a: Error: no"]),
        ("an error that says so", results(json!([{"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": "<tool_use_error>no</tool_use_error>"}])), vec!["user: x", "assistant: <a f {}>", "tool a: <tool_use_error>no</tool_use_error>"]),
        ("an error in words", results(json!([{"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": [{"type": "text", "text": "  ERROR: no"}]}])), vec!["user: x", "assistant: <a f {}>", "tool a:   ERROR: no"]),
        ("an error of nothing", results(json!([{"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": ""}])), vec!["user: x", "assistant: <a f {}>", "tool a: Error"]),
        ("an error that is an image", results(json!([{"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": [image]}])), vec!["user: x", "assistant: <a f {}>", "tool a: Error", "user: [image data:image/jpeg;base64,QQ==]"]),
        ("no error", results(json!([{"type": "tool_result", "tool_use_id": "a", "is_error": "odd", "content": "no"}])), vec!["user: x", "assistant: <a f {}>", "tool a: no"]),
        ("tools that were found", results(json!([{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "tool_reference", "tool_name": "A"}, {"type": "tool_reference", "tool_name": "B"}]}])), vec!["user: x", "assistant: <a f {}>", "tool a: [tool A]|[tool B]"]),
        ("a call of the vendor's", assistant(json!([{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}, {"type": "text", "text": "y"}])), vec!["user: x", "assistant: y"]),
        ("a result of the vendor's", assistant(json!([{"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result", "url": "u"}]}, {"type": "text", "text": "y"}])), vec!["user: x", "assistant: y"]),
        ("an unknown kind with text", user(json!([{"type": "mid_conv_system", "text": "t"}, {"type": "browser_state", "content": "c"}])), vec!["user: t\nc"]),
        ("an unknown kind of odd types", user(json!([{"type": "new", "text": 7, "content": {"a": []}, "id": [], "name": {}, "source": 1, "is_error": {}, "cache_control": 3}, {"type": "text", "text": "a"}])), vec!["user: a"]),
        ("a call of a person, a result of the model's", json!({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}, {"type": "text", "text": "x"}]}, {"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "r"}]}]}), vec!["user: x", "assistant: r"]),
    ];
    for (name, more, expected) in table {
        assert_eq!(history(&decoded(more)), expected, "{name}");
    }
}

const BILLING: &str = "x-anthropic-billing-header: cc_version=2.1.332.1b0; cc_entrypoint=sdk-cli;";

#[test]
fn the_system_prompt_is_one_message_without_the_line_about_billing() {
    let with_cch = format!("{BILLING} cch=12ab3;");
    let block =
        |text: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
    #[rustfmt::skip]
    let table = [
        ("a string", json!("Be brief."), vec!["system: Be brief."]),
        ("blocks", json!([block("Be"), block("brief.")]), vec!["system: Be\nbrief."]),
        ("nothing", json!(""), vec![]),
        ("no blocks", json!([]), vec![]),
        ("null", Value::Null, vec![]),
        ("a block of its own", json!([block(BILLING), block("Be"), block("brief.")]), vec!["system: Be\nbrief."]),
        ("with a hash", json!([block(&with_cch), block("Be brief.")]), vec!["system: Be brief."]),
        ("alone", json!([block(BILLING)]), vec![]),
        ("as a string", json!(BILLING), vec![]),
        ("the first line of a block", json!([block(&format!("{with_cch}\nBe")), block("brief.")]), vec!["system: Be\nbrief."]),
        ("the first line of a string", json!(format!("{BILLING}\nBe brief.")), vec!["system: Be brief."]),
        ("behind an empty block", json!([block(""), block(BILLING), block("Be brief.")]), vec!["system: Be brief."]),
        ("somewhere else", json!([block("Be"), block(BILLING)]), vec!["system: Be\nx-anthropic-billing-header: cc_version=2.1.332.1b0; cc_entrypoint=sdk-cli;"]),
    ];
    for (name, system, mut expected) in table {
        expected.push("user: Hello");
        assert_eq!(history(&decoded(json!({"system": system}))), expected, "{name}");
    }
}

#[test]
fn turns_are_in_order_whatever_the_messages() {
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
    let result =
        |id: &str, text: &str| json!({"type": "tool_result", "tool_use_id": id, "content": text});
    let text = |text: &str| json!({"type": "text", "text": text});
    #[rustfmt::skip]
    let table: Vec<(&str, Value, Vec<&str>)> = vec![
        ("the request of Claude Code", json!([["user", [text("r"), text("p")]], ["system", [text("s")]]]), vec!["user: r\np", "system: s"]),
        ("system in the middle", json!([["user", "a"], ["system", "s"], ["user", "b"]]), vec!["user: a", "system: s", "user: b"]),
        ("system behind results", json!([["user", "a"], ["assistant", [call("1")]], ["user", [result("1", "r")]], ["system", "s"]]), vec!["user: a", "assistant: <1 f {}>", "tool 1: r", "system: s"]),
        ("system between a call and its result", json!([["user", "a"], ["assistant", [call("1")]], ["system", "s"], ["user", [result("1", "r"), text("b")]]]), vec!["user: a", "assistant: <1 f {}>", "tool 1: r", "system: s", "user: b"]),
        ("a person twice", json!([["user", "a"], ["user", [text("b"), text("c")]]]), vec!["user: a\nb\nc"]),
        ("the model twice", json!([["user", "a"], ["assistant", "b"], ["assistant", [text("c"), call("1")]], ["user", [result("1", "r")]]]), vec!["user: a", "assistant: bc <1 f {}>", "tool 1: r"]),
        ("nothing between", json!([["user", "a"], ["assistant", ""], ["user", "b"]]), vec!["user: a\nb"]),
        ("results come first", json!([["user", "a"], ["assistant", [call("1"), call("2")]], ["user", [text("b"), result("2", "s"), text("c"), result("1", "r")]]]), vec!["user: a", "assistant: <1 f {}> <2 f {}>", "tool 2: s", "tool 1: r", "user: b\nc"]),
        ("results in two messages", json!([["user", "a"], ["assistant", [call("1"), call("2")]], ["user", [result("1", "r")]], ["user", [result("2", "s"), text("b")]]]), vec!["user: a", "assistant: <1 f {}> <2 f {}>", "tool 1: r", "tool 2: s", "user: b"]),
        ("calls of two messages", json!([["user", "a"], ["assistant", [call("1")]], ["assistant", [call("2")]], ["user", [result("1", "r"), result("2", "s")]]]), vec!["user: a", "assistant: <1 f {}> <2 f {}>", "tool 1: r", "tool 2: s"]),
        ("a result without its call", json!([["user", [result("1", "r"), text("b")]]]), vec!["user: Result of an earlier tool call:\nr\nb"]),
        ("a result twice", json!([["user", "a"], ["assistant", [call("1")]], ["user", [result("1", "r"), result("1", "again")]]]), vec!["user: a", "assistant: <1 f {}>", "tool 1: r", "user: Result of an earlier tool call:\nagain"]),
        ("two calls of one id", json!([["user", "a"], ["assistant", [call("1"), call("1")]], ["user", [result("1", "r"), result("1", "s")]]]), vec!["user: a", "assistant: <1 f {}> <1 f {}>", "tool 1: r", "tool 1: s"]),
        ("an id again", json!([["user", "a"], ["assistant", [call("1")]], ["user", [result("1", "r")]], ["assistant", [call("1")]], ["user", [result("1", "s")]]]), vec!["user: a", "assistant: <1 f {}>", "tool 1: r", "assistant: <1 f {}>", "tool 1: s"]),
        ("a call without a result", json!([["user", "a"], ["assistant", [call("1")]], ["user", "b"]]), vec!["user: a", "assistant: <1 f {}>", "tool 1: [no result: interrupted]", "user: b"]),
        ("one of two", json!([["user", "a"], ["assistant", [call("1"), call("2")]], ["user", [result("2", "s")]]]), vec!["user: a", "assistant: <1 f {}> <2 f {}>", "tool 2: s", "tool 1: [no result: interrupted]"]),
        ("a call at the end", json!([["user", "a"], ["assistant", [call("1")]]]), vec!["user: a", "assistant: <1 f {}>"]),
        ("a call before a last system message", json!([["user", "a"], ["assistant", [call("1")]], ["system", "s"]]), vec!["user: a", "assistant: <1 f {}>", "tool 1: [no result: interrupted]", "system: s"]),
        ("the beginning of an answer", json!([["user", "a"], ["assistant", "{\"b\":"]]), vec!["user: a", "assistant: {\"b\":"]),
        ("developer", json!([["developer", "s"], ["user", "a"]]), vec!["system: s", "user: a"]),
        ("after a compaction", json!([["user", "summary"], ["user", "go on"], ["system", "s"]]), vec!["user: summary\ngo on", "system: s"]),
    ];
    for (name, messages, expected) in table {
        let messages: Vec<_> = messages
            .as_array()
            .expect("messages")
            .iter()
            .map(|message| json!({"role": message[0], "content": message[1]}))
            .collect();
        assert_eq!(history(&decoded(json!({"messages": messages}))), expected, "{name}");
    }
    // The prompt stands in front of a first system message, as one with it.
    let both = decoded(json!({"system": "p", "messages": [
        {"role": "system", "content": "s"}, {"role": "user", "content": "a"}]}));
    assert_eq!(history(&both), ["system: p\ns", "user: a"]);
}

/// A tool in one line.
fn tools(request: &ChatRequest) -> Vec<String> {
    let shown = |tool: &tower_qwen::chat::Tool| {
        let function = tool.as_function().expect("a function");
        let schema = function.parameters.as_ref().map_or("-", |schema| schema.as_str());
        let schema = if schema.len() > 60 { "…" } else { schema };
        let mut line = format!("{} {schema}", function.name);
        for (has, word) in [
            (function.strict == Some(true), " strict"),
            (function.description.is_some(), " told"),
            (function.cache_control.is_some(), "^"),
        ] {
            line += if has { word } else { "" };
        }
        line
    };
    request.tools.iter().map(shown).collect()
}

#[test]
fn tools_are_functions_or_not_there() {
    #[rustfmt::skip]
    let table = [
        ("custom", json!({"name": "f", "description": "d", "input_schema": {"type": "object"}}), Some("f {\"type\":\"object\"} told")),
        ("named custom", json!({"type": "custom", "name": "mcp__a__b", "input_schema": {}, "eager_input_streaming": true, "input_examples": [1], "allowed_callers": "x"}), Some("mcp__a__b {}")),
        ("of no type", json!({"type": null, "name": "f", "input_schema": null}), Some("f -")),
        ("strict", json!({"name": "f", "strict": true, "input_schema": {}}), Some("f {} strict")),
        ("deferred", json!({"name": "f", "defer_loading": true, "input_schema": {"a": 1}}), Some("f {\"a\":1}")),
        ("the placeholder", json!({"name": "DeferredToolPlaceholder", "defer_loading": true, "description": "p", "input_schema": {}}), Some("DeferredToolPlaceholder {} told")),
        ("bash", json!({"type": "bash_20250124", "name": "bash"}), Some("bash … told")),
        ("editor", json!({"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 9}), Some("str_replace_based_edit_tool … told")),
        ("an older editor", json!({"type": "text_editor_20250124", "name": "str_replace_editor"}), Some("str_replace_editor … told")),
        ("memory", json!({"type": "memory_20250818", "name": "memory"}), Some("memory … told")),
        ("web search", json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 8}), None),
        ("web fetch", json!({"type": "web_fetch_20250910", "name": "web_fetch"}), None),
        ("code", json!({"type": "code_execution_20250825", "name": "code_execution"}), None),
        ("computer", json!({"type": "computer_20250124", "name": "computer", "display_width_px": 1}), None),
        ("tool search", json!({"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}), None),
        ("unknown", json!({"type": "new_20270101", "name": "x", "description": 7, "input_schema": 7}), None),
    ];
    for (name, tool, expected) in table {
        let request = decoded(json!({"tools": [tool, {"name": "last", "input_schema": {}}]}));
        let mut shown = tools(&request);
        assert_eq!(shown.pop().as_deref(), Some("last {}"));
        assert_eq!(shown.first().map(String::as_str), expected, "{name}");
        assert_eq!(request.extra.get("web_search_options").is_some(), name == "web search");
    }
    assert!(decoded(json!({"tools": []})).tools.is_empty());
    assert!(decoded(json!({"tools": null})).tools.is_empty());
}

/// What Claude Code finds by tool search it tells within the messages.
#[test]
fn messages_change_what_is_on_offer() {
    let add = |name: &str, schema: Value| json!({"type": "tool_addition", "tool": {"name": name, "input_schema": schema}});
    let remove = |name: &str| json!({"type": "tool_removal", "name": name});
    let offered =
        [json!({"name": "a", "input_schema": {}}), json!({"name": "b", "input_schema": {}})];
    for (changes, expected) in [
        (vec![add("c", json!({}))], vec!["a {}", "b {}", "c {}"]),
        (vec![add("a", json!({"x": 1}))], vec!["a {\"x\":1}", "b {}"]),
        (vec![remove("a")], vec!["b {}"]),
        (vec![remove("z")], vec!["a {}", "b {}"]),
        (
            vec![remove("a"), remove("a"), add("a", json!({})), add("a", json!({"x": 2}))],
            vec!["b {}", "a {\"x\":2}"],
        ),
        (vec![add("c", json!({})), remove("c"), remove("b")], vec!["a {}"]),
        (vec![remove("a"), add("a", json!({"x": 1}))], vec!["b {}", "a {\"x\":1}"]),
        (
            vec![json!({"type": "tool_addition", "tool": {"type": "new_1", "name": "n"}})],
            vec!["a {}", "b {}"],
        ),
    ] {
        let mut blocks = changes.clone();
        blocks.push(json!({"type": "text", "text": "x"}));
        let request = decoded(json!({"tools": offered, "messages": [
            {"role": "user", "content": "Hello"}, {"role": "system", "content": blocks}]}));
        assert_eq!(tools(&request), expected, "{changes:?}");
        assert_eq!(history(&request), ["user: Hello", "system: x"], "no part of what is said");
    }
}

#[test]
fn the_choice_of_a_tool() {
    for (choice, expected, parallel) in [
        (json!({"type": "auto"}), Some(ToolChoice::Auto), None),
        (json!({"type": "none"}), Some(ToolChoice::None), None),
        (json!({"type": "any"}), Some(ToolChoice::Required), None),
        (json!({"type": "tool", "name": "f"}), Some(ToolChoice::Function("f".into())), None),
        (
            json!({"type": "auto", "disable_parallel_tool_use": true}),
            Some(ToolChoice::Auto),
            Some(false),
        ),
        (
            json!({"type": "any", "disable_parallel_tool_use": false, "new": 1}),
            Some(ToolChoice::Required),
            None,
        ),
        (Value::Null, None, None),
    ] {
        let request =
            decoded(json!({"tool_choice": choice, "tools": [{"name": "f", "input_schema": {}}]}));
        assert_eq!(request.tool_choice, expected, "{choice}");
        assert_eq!(request.parallel_tool_calls, parallel, "{choice}");
    }
}

#[test]
fn how_much_to_think_and_in_what_form() {
    let effort = |word: &str| Some(ReasoningEffort::from(tower_qwen::Text::from(word)));
    for (more, enabled, budget, asked, shows) in [
        (json!({}), None, None, None, true),
        (json!({"thinking": null}), None, None, None, true),
        (json!({"thinking": {"type": "disabled"}}), Some(false), None, None, true),
        (json!({"thinking": {"type": "adaptive"}}), Some(true), None, None, true),
        (
            json!({"thinking": {"type": "adaptive", "budget_tokens": 0, "display": "omitted"}}),
            Some(true),
            None,
            None,
            false,
        ),
        (
            json!({"thinking": {"type": "adaptive", "display": "updates", "new": []}}),
            Some(true),
            None,
            None,
            true,
        ),
        (
            json!({"thinking": {"type": "adaptive", "display": "summarized"}}),
            Some(true),
            None,
            None,
            true,
        ),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 40}}),
            Some(true),
            Some(40),
            None,
            true,
        ),
        // The answer has to have room behind it.
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 64}}),
            Some(true),
            Some(63),
            None,
            true,
        ),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 31999}}),
            Some(true),
            Some(63),
            None,
            true,
        ),
        (
            json!({"max_tokens": 1, "thinking": {"type": "enabled", "budget_tokens": 1024}}),
            Some(true),
            None,
            None,
            true,
        ),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 0}}),
            Some(true),
            None,
            None,
            true,
        ),
        (json!({"thinking": {"type": "enabled"}}), Some(true), None, None, true),
        (json!({"output_config": {"effort": "high", "new": 1}}), None, None, effort("high"), true),
        (
            json!({"output_config": {"effort": "max"}, "thinking": {"type": "adaptive"}}),
            Some(true),
            None,
            effort("max"),
            true,
        ),
        (json!({"output_config": {"effort": null}}), None, None, None, true),
    ] {
        let decoded = decode(&body(&request(&more))).expect("valid");
        let reasoning = &decoded.chat.reasoning;
        assert_eq!(reasoning.enabled, enabled, "{more}");
        assert_eq!(reasoning.budget, budget, "{more}");
        assert_eq!(reasoning.effort, asked, "{more}");
        assert_eq!(decoded.shows_thinking, shows, "{more}");
    }
    let schema = json!({"type": "object", "properties": {"title": {"type": "string"}}});
    for (more, expected) in [
        (json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}}), "schema"),
        (json!({"output_format": {"type": "json_schema", "schema": schema}}), "schema"),
        (json!({"output_config": {"format": {"type": "json_object"}}}), "object"),
        (json!({"output_config": {"format": {"type": "text"}}}), "text"),
        (json!({"output_config": {"format": null}}), "none"),
        (json!({"output_config": null}), "none"),
    ] {
        match (decoded(more.clone()).response_format, expected) {
            (Some(ResponseFormat::JsonSchema(format)), "schema") => {
                let format = format.to_value().expect("JSON");
                assert_eq!((&format["schema"], &format["strict"]), (&schema, &json!(true)));
                assert!(format["name"].is_string());
            }
            (Some(ResponseFormat::JsonObject), "object")
            | (Some(ResponseFormat::Text), "text")
            | (None, "none") => {}
            other => panic!("{more}: {other:?}"),
        }
    }
}

#[test]
fn the_rest_of_a_request() {
    let id = r#"{"device_id":"d","account_uuid":"","session_id":"s"}"#;
    let request = decode(&body(&request(&json!({
        "stream": true, "temperature": 1, "top_p": 0.5, "top_k": 40,
        "stop_sequences": ["END", "\n\n"], "metadata": {"user_id": id, "new": 1},
    }))))
    .expect("valid");
    assert!(request.stream);
    let chat = request.chat;
    assert_eq!(chat.model, "qwen3-max");
    let sampling = &chat.sampling;
    assert_eq!((sampling.max_tokens, sampling.temperature), (Some(64), Some(1.0)));
    assert_eq!((sampling.top_p, sampling.top_k), (Some(0.5), Some(40)));
    assert_eq!(sampling.stop, ["END", "\n\n"]);
    // Ids of a device and an account are nobody else's business, and the same for ever.
    let user = chat.user.expect("a user");
    assert_eq!(user.len(), 32);
    assert!(user.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let of = |metadata: Value| decoded(json!({"metadata": metadata})).user;
    assert_eq!(of(json!({"user_id": id})), Some(user.clone()));
    assert_ne!(of(json!({"user_id": "other"})), Some(user));
    for odd in [
        json!({}),
        json!({"user_id": ""}),
        json!({"user_id": null}),
        json!({"user_id": 7}),
        json!(7),
    ] {
        assert_eq!(of(odd.clone()), None, "{odd}");
    }
    assert_eq!(decoded(json!({"max_tokens": 0})).sampling.max_tokens, Some(0));
    assert!(!decode(&body(&self::request(&json!({"stream": null})))).expect("valid").stream);
}

/// Claude Code does not recover from a refusal of a field that it has sent.
#[test]
fn unknown_fields_are_passed_over_everywhere() {
    let plain = decoded(json!({"tools": [{"name": "f", "input_schema": {}}], "system": "s",
        "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}, "tool_choice": {"type": "auto"},
        "metadata": {"user_id": "u"}, "messages": [{"role": "user", "content": [
            {"type": "text", "text": "x"}, {"type": "image", "source": {"type": "url", "url": "u"}}]}]}));
    for odd in ["7", "\"x\"", "[1,{\"a\":[]}]", "{\"a\":1e400,\"a\":-0}", "true", "null"] {
        let more = format!(r#""vendor":{odd},"vendor":{odd}"#);
        let text = format!(
            r#"{{{more},"model":"qwen3-max","max_tokens":64,"context_management":{odd},"container":{odd},
            "mcp_servers":{odd},"service_tier":{odd},"speed":{odd},"betas":{odd},"fallbacks":{odd},
            "tools":[{{"name":"f","input_schema":{{}},{more},"defer_loading":{odd}}}],
            "system":[{{"type":"text","text":"s",{more}}}],
            "thinking":{{"type":"adaptive",{more}}},"output_config":{{"effort":"low",{more}}},
            "tool_choice":{{"type":"auto",{more}}},"metadata":{{"user_id":"u",{more}}},
            "messages":[{{{more},"role":"user","name":{odd},"content":[
                {{"type":"text","text":"x",{more},"citations":{odd},"cache_control":{odd}}},
                {{"type":"image","source":{{"type":"url","url":"u",{more}}},{more}}}]}}]}}"#
        );
        let request = decode(&Bytes::from(text)).unwrap_or_else(|error| panic!("{odd}: {error}"));
        assert_eq!(format!("{:?}", request.chat), format!("{plain:?}"), "{odd}");
    }
}

/// Clients whose language has one kind of number write `64.0` for 64.
#[test]
fn an_integer_may_be_written_with_a_point() {
    for written in ["64", "64.0", "6.4e1", "64.00"] {
        let body = format!(
            r#"{{"model":"m","max_tokens":{written},"top_k":{written},
                "messages":[{{"role":"user","content":"x"}}]}}"#
        );
        let sampling = decode(&body.into()).expect(written).chat.sampling;
        assert_eq!((sampling.max_tokens, sampling.top_k), (Some(64), Some(64)), "{written}");
    }
}

#[test]
fn every_error_names_its_field_and_its_kind_of_fault() {
    let block = |block: Value| user(json!([block]));
    #[rustfmt::skip]
    let cases = [
        (json!({"model": null}), "model", "missing_required_parameter"),
        (json!({"model": " "}), "model", "invalid_value"),
        (json!({"model": 5}), "model", "invalid_type"),
        (json!({"max_tokens": null}), "max_tokens", "missing_required_parameter"),
        (json!({"max_tokens": -1}), "max_tokens", "invalid_value"),
        (json!({"max_tokens": "9"}), "max_tokens", "invalid_type"),
        (json!({"max_tokens": 1.5}), "max_tokens", "invalid_type"),
        (json!({"messages": null}), "messages", "missing_required_parameter"),
        (json!({"messages": []}), "messages", "invalid_value"),
        (json!({"messages": "Hello"}), "messages", "invalid_type"),
        (json!({"messages": ["Hello"]}), "messages[0]", "invalid_type"),
        (json!({"messages": [{"role": "user", "content": ""}]}), "messages", "invalid_value"),
        (json!({"messages": [{"role": "system", "content": "s"}]}), "messages", "invalid_value"),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role", "missing_required_parameter"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role", "invalid_value"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].role", "invalid_value"),
        (json!({"messages": [{"role": 1, "content": "x"}]}), "messages[0].role", "invalid_type"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content", "missing_required_parameter"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content", "invalid_type"),
        (json!({"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": ["x"]}]}), "messages[1].content[0]", "invalid_type"),
        (block(json!({"text": "x"})), "messages[0].content[0].type", "missing_required_parameter"),
        (block(json!({"type": 7})), "messages[0].content[0].type", "invalid_type"),
        (block(json!({"type": "text"})), "messages[0].content[0].text", "missing_required_parameter"),
        (block(json!({"type": "text", "text": 7})), "messages[0].content[0].text", "invalid_type"),
        (block(json!({"type": "image"})), "messages[0].content[0].source", "missing_required_parameter"),
        (block(json!({"type": "image", "source": "x"})), "messages[0].content[0].source", "invalid_type"),
        (block(json!({"type": "image", "source": {}})), "messages[0].content[0].source.type", "missing_required_parameter"),
        (block(json!({"type": "image", "source": {"type": "file", "file_id": "f"}})), "messages[0].content[0].source.type", "invalid_value"),
        (block(json!({"type": "image", "source": {"type": "url"}})), "messages[0].content[0].source.url", "missing_required_parameter"),
        (block(json!({"type": "image", "source": {"type": "base64"}})), "messages[0].content[0].source.data", "missing_required_parameter"),
        (block(json!({"type": "document"})), "messages[0].content[0].source", "missing_required_parameter"),
        (block(json!({"type": "document", "source": {"type": "file", "file_id": "f"}})), "messages[0].content[0].source.type", "invalid_value"),
        (block(json!({"type": "document", "source": {"type": "content", "content": [{"type": "text"}]}})), "messages[0].content[0].source.content[0].text", "missing_required_parameter"),
        (block(json!({"type": "tool_result", "content": "x"})), "messages[0].content[0].tool_use_id", "missing_required_parameter"),
        (block(json!({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image"}]})), "messages[0].content[0].content[0].source", "missing_required_parameter"),
        (block(json!({"type": "tool_result", "tool_use_id": "a", "content": 7})), "messages[0].content[0].content", "invalid_type"),
        (block(json!({"type": "tool_reference"})), "messages[0].content[0].tool_name", "missing_required_parameter"),
        (block(json!({"type": "tool_addition"})), "messages[0].content[0].tool", "missing_required_parameter"),
        (block(json!({"type": "tool_addition", "tool": {}})), "messages[0].content[0].tool.name", "missing_required_parameter"),
        (block(json!({"type": "tool_removal"})), "messages[0].content[0].name", "missing_required_parameter"),
        (assistant(json!([{"type": "tool_use", "name": "f"}])), "messages[1].content[0].id", "missing_required_parameter"),
        (assistant(json!([{"type": "tool_use", "id": "a"}])), "messages[1].content[0].name", "missing_required_parameter"),
        (assistant(json!([{"type": "thinking", "thinking": 7}])), "messages[1].content[0].thinking", "invalid_type"),
        (json!({"system": 7}), "system", "invalid_type"),
        (json!({"system": [{"type": "text"}]}), "system[0].text", "missing_required_parameter"),
        (json!({"tools": {}}), "tools", "invalid_type"),
        (json!({"tools": ["f"]}), "tools[0]", "invalid_type"),
        (json!({"tools": [{"name": "f"}, {"input_schema": {}}]}), "tools[1].name", "missing_required_parameter"),
        (json!({"tools": [{"name": ""}]}), "tools[0].name", "invalid_value"),
        (json!({"tools": [{"name": "f", "input_schema": []}]}), "tools[0].input_schema", "invalid_type"),
        (json!({"tools": [{"name": "f", "description": 7}]}), "tools[0].description", "invalid_type"),
        (json!({"tool_choice": "auto"}), "tool_choice", "invalid_type"),
        (json!({"tool_choice": {}}), "tool_choice.type", "missing_required_parameter"),
        (json!({"tool_choice": {"type": "maybe"}}), "tool_choice.type", "invalid_value"),
        (json!({"tool_choice": {"type": "tool"}}), "tool_choice.name", "missing_required_parameter"),
        (json!({"tool_choice": {"type": "tool", "name": "g"}}), "tool_choice.name", "invalid_value"),
        (json!({"thinking": "on"}), "thinking", "invalid_type"),
        (json!({"thinking": {}}), "thinking.type", "missing_required_parameter"),
        (json!({"thinking": {"type": "maybe"}}), "thinking.type", "invalid_value"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": "x"}}), "thinking.budget_tokens", "invalid_type"),
        (json!({"output_config": []}), "output_config", "invalid_type"),
        (json!({"output_config": {"effort": 1}}), "output_config.effort", "invalid_type"),
        (json!({"output_config": {"format": {}}}), "output_config.format.type", "missing_required_parameter"),
        (json!({"output_config": {"format": {"type": "xml"}}}), "output_config.format.type", "invalid_value"),
        (json!({"output_config": {"format": {"type": "json_schema"}}}), "output_config.format.schema", "missing_required_parameter"),
        (json!({"output_config": {"format": {"type": "json_schema", "schema": []}}}), "output_config.format.schema", "invalid_type"),
        (json!({"output_format": {"type": "json_schema"}}), "output_format.schema", "missing_required_parameter"),
        (json!({"stop_sequences": "END"}), "stop_sequences", "invalid_type"),
        (json!({"stop_sequences": [1]}), "stop_sequences[0]", "invalid_type"),
        (json!({"stream": "yes"}), "stream", "invalid_type"),
        (json!({"temperature": "hot"}), "temperature", "invalid_type"),
        (json!({"top_k": 0.5}), "top_k", "invalid_type"),
    ];
    for (more, param, code) in cases {
        let error = decode(&body(&request(&more))).expect_err(&more.to_string());
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{more}");
        assert_eq!(error.param(), Some(param), "{more}: {error}");
        assert_eq!(error.code(), Some(code), "{more}: {error}");
        assert!(error.message().contains(param.rsplit('.').next().expect("a part")), "{error}");
    }
}

#[test]
fn a_body_that_is_no_request_says_what_it_is() {
    #[rustfmt::skip]
    let table = [
        ("", "invalid_json", "empty"),
        ("{\"model\":", "invalid_json", "line 1 column 9"),
        ("[]", "invalid_type", "object"),
        ("7", "invalid_type", "object"),
        (r#"{"model":"m","model":"n","max_tokens":1,"messages":[]}"#, "invalid_type", "duplicate field `model`"),
        (r#"{"model":"m","max_tokens":1,"messages":[],"messages":[]}"#, "invalid_type", "duplicate field `messages`"),
        (r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","role":"user","content":"x"}]}"#, "invalid_type", "duplicate field `role`"),
        (r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":"x","text":"y"}]}]}"#, "invalid_type", "duplicate field `text`"),
        (r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"\ud83d"}]}"#, "invalid_value", "surrogate"),
        (r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":"\udf0c"}]}]}"#, "invalid_value", "surrogate"),
        (r#"{"model":"m","max_tokens":1,"messages":[],"temperature":1e999}"#, "invalid_value", "out of range"),
    ];
    for (text, code, words) in table {
        let error = decode(&Bytes::from(text)).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{text}");
        assert_eq!(error.code(), Some(code), "{text}: {error}");
        assert!(error.message().contains(words), "{text}: {error}");
    }
    let with_mark = format!("\u{feff}{}", request(&json!({})));
    assert_eq!(history(&decode(&Bytes::from(with_mark)).expect("valid").chat), ["user: Hello"]);
    let error = decode(&Bytes::from_static(b"{\"model\":\"\xff\"}")).expect_err("not UTF-8");
    assert!(error.message().contains("byte 10"), "{error}");
    let error = decode(&body(
        &user(json!([{"type": "image", "source": {"type": "x".repeat(9999)}}]))
            .as_object()
            .map(|more| request(&Value::Object(more.clone())))
            .expect("an object"),
    ));
    assert!(error.expect_err("a long kind").message().len() < 500);
}

/// The edge's answer to a request under `limits`.
async fn answer_within(limits: Limits, more: Value) -> (u16, String) {
    use http_body_util::BodyExt;
    let inner = service_fn(|_: Request<ChatRequest>| async {
        let said = [ChatEvent::Text("x".into()), ChatEvent::Finished(FinishReason::Stop)];
        Ok::<_, Error>(Response::new(stream::iter(said.map(Ok::<_, Error>))))
    });
    let request = Request::post("/v1/messages")
        .header("content-type", "application/json")
        .body(FullBody::new(body(&request(&more))))
        .expect("a request");
    let edge = AnthropicLayer::new().limits(limits).layer(inner);
    let response = edge.oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("infallible").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

#[tokio::test]
async fn a_request_may_hold_so_much_of_each() {
    let mut limits = Limits::new();
    (limits.messages, limits.parts, limits.calls, limits.tools, limits.stops) = (3, 5, 2, 2, 2);
    limits.nesting = 12;
    let text = json!({"type": "text", "text": "x"});
    let call = json!({"type": "tool_use", "id": "a", "name": "f", "input": {}});
    let tool = |name: String| json!({"name": name, "input_schema": {}});
    let addition = |name: String| json!({"type": "tool_addition", "tool": tool(name)});
    let many = |count: usize, one: &Value| vec![one.clone(); count];
    let deep = |levels: usize| (0..levels).fold(json!(0), |inside, _| json!([inside]));
    type More<'a> = Box<dyn Fn(usize) -> Value + 'a>;
    #[rustfmt::skip]
    let table: [(&str, usize, More<'_>); 8] = [
        ("messages", 3, Box::new(|n| json!({"messages": many(n, &json!({"role": "user", "content": "x"}))}))),
        ("blocks", 5, Box::new(|n| user(json!(many(n, &text))))),
        ("blocks of a result", 4, Box::new(|n| user(json!([{"type": "tool_result", "tool_use_id": "a", "content": many(n, &text)}])))),
        ("blocks of the prompt", 4, Box::new(|n| json!({"system": many(n, &text)}))),
        ("calls", 2, Box::new(|n| assistant(json!(many(n, &call))))),
        ("tools", 2, Box::new(|n| json!({"tools": (0..n).map(|at| tool(format!("f{at}"))).collect::<Vec<_>>()}))),
        ("sequences", 2, Box::new(|n| json!({"stop_sequences": many(n, &json!("END"))}))),
        ("levels", 11, Box::new(|n| json!({"vendor": deep(n)}))),
    ];
    for (name, limit, more) in table {
        let (status, body) = answer_within(limits, more(limit)).await;
        assert_eq!(status, 200, "{name}: {body}");
        let (status, body) = answer_within(limits, more(limit + 1)).await;
        assert_eq!(status, 400, "{name}: {body}");
        assert!(body.contains("invalid_request_error"), "{name}: {body}");
        assert!(
            body.contains("at most") || body.contains("deeper than the limit"),
            "{name}: {body}"
        );
    }
    let added = |n: usize| {
        json!((0..n).map(|at| addition(format!("g{at}"))).chain([text.clone()]).collect::<Vec<_>>())
    };
    for (n, expected) in [(2, 200), (3, 400)] {
        assert_eq!(answer_within(limits, user(added(n))).await.0, expected, "{n} tools were added");
    }
}

/// Blocks within blocks are few in any real request, and every level is read again.
#[test]
fn blocks_nest_only_so_deep() {
    let nested = |levels: usize| {
        let mut block = json!({"type": "text", "text": "x"});
        for _ in 0..levels {
            block =
                json!({"type": "search_result", "title": "t", "source": "s", "content": [block]});
        }
        request(&user(json!([block])))
    };
    // A document within a result, and blocks within that.
    assert!(decode(&body(&nested(3))).is_ok());
    for levels in [16, 100, 240] {
        let error = decode(&body(&nested(levels))).expect_err("too deep");
        assert_eq!(error.code(), Some("too_deep"), "{levels}: {error}");
    }
}

/// What of a history is a slice of its body; and a body that is used little is let go.
#[test]
fn texts_are_slices_unless_little_of_the_body_is_used() {
    let is_slice = |body: &Bytes, text: &str| body.as_ptr_range().contains(&text.as_ptr());
    let small = body(&request(&json!({})));
    assert!(is_slice(&small, &decode(&small).expect("valid").chat.history[0].text()));
    for (unit, kept) in [("line\n", false), ("line ", true)] {
        let long = unit.repeat(40_000);
        let body = body(&request(
            &json!({"tools": [{"name": "f", "description": "d", "input_schema": {"a": 1}}],
            "stop_sequences": ["END"], "messages": [{"role": "user", "content": long},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "EqQB"},
                {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r"}]}]}),
        ));
        let chat = decode(&body).expect("valid").chat;
        let call = &chat.history[1].tool_calls[0];
        let function = chat.tools[0].as_function().expect("a function");
        let result = chat.history[2].text();
        for text in [
            &chat.model[..],
            &chat.sampling.stop[0],
            &call.id,
            &call.arguments,
            chat.history[1].reasoning_signature.as_deref().expect("signed"),
            function.description.as_deref().expect("told"),
            function.parameters.as_ref().expect("a schema").as_str(),
            &result,
        ] {
            assert_eq!(is_slice(&body, text), kept, "{text} of {unit:?}");
        }
    }
}

const TENANT: Tenant = Tenant::from_digest([9; 32]);

/// The key of a request after each of its messages.
fn keys(mut request: ChatRequest) -> Vec<tower_qwen::session::Key> {
    request.tenant = Some(TENANT);
    let mut chain = KeyChain::new(&TENANT, &request);
    let pushed = request.history.iter().map(|message| {
        chain.push(message);
        chain.key()
    });
    pushed.collect()
}

fn mark(mut block: Value) -> Value {
    block["cache_control"] = json!({"type": "ephemeral"});
    block
}

/// The turns of one conversation as Claude Code sends them: the same messages come as marked
/// blocks, as blocks, and as strings.
fn turns_of_claude_code() -> [Value; 3] {
    let text = |text: &str| json!({"type": "text", "text": text});
    let reminder = "<system-reminder>\nAs you answer\n</system-reminder>";
    let environment = "# Environment\n - Platform: linux\n\nTools: A, B";
    let tools = json!([
        {"name": "DeferredToolPlaceholder", "defer_loading": true, "input_schema": {}, "description": "d"},
        {"name": "Read", "description": "reads", "input_schema": {"$schema": "s", "type": "object", "additionalProperties": false}}]);
    let system = |build: &str| {
        json!([
            text(&format!(
                "x-anthropic-billing-header: cc_version={build}; cc_entrypoint=sdk-cli;"
            )),
            mark(text("You are Claude Code.")),
            mark(text("You are an interactive agent.\n\n# Rules"))
        ])
    };
    let request = |build: &str, user: &str, messages: Value| {
        json!({
        "model": "qwen3-max", "max_tokens": 32000, "stream": true, "system": system(build), "tools": tools,
        "metadata": {"user_id": format!("{{\"device_id\":\"d\",\"session_id\":\"{user}\"}}")},
        "thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "messages": messages})
    };
    let called = json!([{"type": "thinking", "thinking": "", "signature": "tq1h.aG0"}, text("I look."),
        {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a"}},
        {"type": "tool_use", "id": "toolu_2", "name": "Read", "input": {"path": "b"}}]);
    let first = request(
        "2.1.332.1b0",
        "s",
        json!([
        {"role": "user", "content": [text(reminder), mark(text("Read a and b."))]},
        {"role": "system", "content": [mark(text(environment))]}]),
    );
    let second = request(
        "2.1.332.9c1",
        "s",
        json!([
        {"role": "user", "content": [text(reminder), text("Read a and b.")]},
        {"role": "system", "content": environment},
        {"role": "assistant", "content": called},
        {"role": "user", "content": [
            {"tool_use_id": "toolu_1", "type": "tool_result", "content": "1\tone"},
            mark(json!({"tool_use_id": "toolu_2", "type": "tool_result", "content": [text("1\ttwo")]}))]}]),
    );
    let third = request(
        "2.1.333",
        "t",
        json!([
        {"role": "user", "content": format!("{reminder}\nRead a and b.")},
        {"role": "system", "content": environment},
        {"role": "assistant", "content": called},
        {"content": [
            {"type": "tool_result", "content": [text("1\tone")], "tool_use_id": "toolu_1"},
            {"type": "tool_result", "content": "1\ttwo", "tool_use_id": "toolu_2", "is_error": false}], "role": "user"},
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": [text("Thanks."), mark(text("Go on."))]},
        {"role": "system", "content": [text("The date has changed.")]}]),
    );
    [first, second, third]
}

#[tokio::test]
async fn the_turns_of_claude_code_are_one_conversation() {
    for cache_control in [false, true] {
        let mut before: Vec<tower_qwen::session::Key> = Vec::new();
        for (turn, body) in turns_of_claude_code().into_iter().enumerate() {
            let edge = AnthropicLayer::new().cache_control(cache_control);
            let request = through(edge, body).await;
            let shown = history(&request);
            let keys = keys(request);
            assert!(keys.len() > before.len(), "{shown:?}");
            assert_eq!(keys[..before.len()], before, "turn {turn}: {shown:?}");
            before = keys;
        }
    }
    let [first, _, third] = turns_of_claude_code();
    let first = history(&decode(&body(&first)).expect("valid").chat);
    assert_eq!(first.len(), 3);
    assert_eq!(first[0], "system: You are Claude Code.\nYou are an interactive agent.\n\n# Rules");
    assert!(first[1].ends_with("</system-reminder>\nRead a and b."), "{first:?}");
    let third = history(&decode(&body(&third)).expect("valid").chat);
    assert_eq!(
        third[3],
        "assistant (thinks hm): I look. <toolu_1 Read {\"path\":\"a\"}> <toolu_2 Read {\"path\":\"b\"}>"
    );
    assert_eq!(third[4..6], ["tool toolu_1: 1\tone", "tool toolu_2: 1\ttwo"]);
}

/// Two messages of a person that come as one later are the same turn.
#[test]
fn messages_that_are_merged_later_are_the_same() {
    let said = |messages: Value| keys(decoded(json!({"messages": messages})));
    let apart = said(
        json!([{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"}]),
    );
    let merged = said(
        json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "c"}]}]),
    );
    let joined =
        said(json!([{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c"}]));
    assert_eq!(apart, merged);
    assert_eq!(apart, joined);
    assert_ne!(
        apart,
        said(json!([{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]))
    );
}

/// The marks are passed on where an upstream bills by them, and only there.
#[tokio::test]
async fn marks_are_kept_only_where_they_are_wanted() {
    let more = json!({
        "system": [{"type": "text", "text": "a"}, mark(json!({"type": "text", "text": "b"})), {"type": "text", "text": "c"}],
        "tools": [{"name": "f", "input_schema": {}}, mark(json!({"name": "g", "input_schema": {}}))],
        "messages": [
            {"role": "user", "content": [mark(json!({"type": "text", "text": "d"})), {"type": "text", "text": "e"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
            {"role": "user", "content": [
                mark(json!({"type": "tool_result", "tool_use_id": "1", "content": "r"})),
                mark(json!({"type": "image", "source": {"type": "url", "url": "u"}}))]}]});
    let marked = through(AnthropicLayer::new().cache_control(true), request(&more)).await;
    assert_eq!(
        history(&marked),
        [
            "system: a\nb^|\nc",
            "user: d^|\ne",
            "assistant: <1 f {}>",
            "tool 1: r^",
            "user: [image u]^"
        ]
    );
    assert_eq!(tools(&marked), ["f {}", "g {}^"]);
    let plain = through(AnthropicLayer::new(), request(&more)).await;
    assert_eq!(
        history(&plain),
        ["system: a\nb\nc", "user: d\ne", "assistant: <1 f {}>", "tool 1: r", "user: [image u]"]
    );
    assert_eq!(tools(&plain), ["f {}", "g {}"]);
    assert_eq!(keys(marked), keys(plain));
}

/// One turn of a conversation: its paragraphs, and its calls with their results.
#[derive(Clone, Debug)]
struct Turn {
    role: Role,
    paragraphs: Vec<String>,
    calls: Vec<(String, Vec<String>)>,
}

fn any_turn() -> impl Strategy<Value = Turn> {
    let paragraphs = || prop::collection::vec("[a-c\"\\\\é\u{1F30C} ]{0,3}[a-c]", 1..4);
    let role = prop::sample::select(vec![Role::User, Role::User, Role::Assistant, Role::System]);
    let calls = prop::collection::vec(("[a-z]{1,3}", paragraphs()), 0..3);
    (role, paragraphs(), calls).prop_map(|(role, paragraphs, calls)| {
        let calls = if role == Role::Assistant { calls } else { Vec::new() };
        Turn { role, paragraphs, calls }
    })
}

/// How a conversation is written: each choice takes the next bit.
struct Pen<'a> {
    bits: std::iter::Cycle<std::slice::Iter<'a, bool>>,
}

impl Pen<'_> {
    fn flip(&mut self) -> bool {
        *self.bits.next().expect("there are bits")
    }

    /// Texts that are joined by line feeds, cut at any of them.
    fn blocks(&mut self, paragraphs: &[String]) -> Vec<Value> {
        let mut blocks: Vec<String> = Vec::new();
        for paragraph in paragraphs {
            match blocks.last_mut() {
                Some(last) if self.flip() => {
                    last.push('\n');
                    last.push_str(paragraph);
                }
                _ => blocks.push(paragraph.clone()),
            }
        }
        let blocks = blocks.into_iter().map(|text| {
            let block = json!({"type": "text", "text": text});
            if self.flip() { mark(block) } else { block }
        });
        blocks.collect()
    }

    fn content(&mut self, paragraphs: &[String]) -> Value {
        if self.flip() { json!(paragraphs.join("\n")) } else { json!(self.blocks(paragraphs)) }
    }

    fn object(&mut self, mut fields: Vec<(&str, Value)>) -> String {
        if self.flip() {
            fields.reverse();
        }
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        format!("{{{}}}", fields.join(","))
    }

    fn request(&mut self, system: &[String], turns: &[Turn]) -> Bytes {
        let mut messages: Vec<String> = Vec::new();
        let mut ids = 0;
        let mut waiting: Vec<Value> = Vec::new();
        for turn in turns {
            // Results go into the next message of the person, or one of their own.
            let mut blocks = Vec::new();
            if !waiting.is_empty() {
                if turn.role == Role::User {
                    blocks.append(&mut waiting);
                } else {
                    let results = json!(std::mem::take(&mut waiting));
                    messages.push(self.object(vec![("role", json!("user")), ("content", results)]));
                }
            }
            let role = json!(turn.role.as_str());
            if turn.role == Role::Assistant {
                // Its texts are not paragraphs, so they are one block.
                blocks.push(json!({"type": "text", "text": turn.paragraphs.join("\n")}));
                for (name, result) in &turn.calls {
                    let id = format!("toolu_{ids}");
                    ids += 1;
                    blocks.push(
                        json!({"type": "tool_use", "id": id, "name": name, "input": {"n": ids}}),
                    );
                    waiting.push(json!({"type": "tool_result", "tool_use_id": id, "content": self.content(result)}));
                }
            } else if blocks.is_empty() && self.flip() {
                let content = self.content(&turn.paragraphs);
                messages.push(self.object(vec![("role", role), ("content", content)]));
                continue;
            } else {
                let said = self.blocks(&turn.paragraphs);
                // Between any two blocks of a person another message may begin.
                for block in said {
                    if turn.role == Role::User && !blocks.is_empty() && self.flip() {
                        let content = json!(std::mem::take(&mut blocks));
                        messages
                            .push(self.object(vec![("role", role.clone()), ("content", content)]));
                    }
                    blocks.push(block);
                }
            }
            messages.push(self.object(vec![("role", role), ("content", json!(blocks))]));
        }
        if !waiting.is_empty() {
            messages.push(self.object(vec![("role", json!("user")), ("content", json!(waiting))]));
        }
        let messages = format!("[{}]", messages.join(","));
        let system = self.content(system);
        Bytes::from(format!(
            r#"{{"model":"m","max_tokens":9,"system":{system},"messages":{messages}}}"#
        ))
    }
}

/// The history that the turns are.
fn expected(system: &[String], turns: &[Turn]) -> Vec<String> {
    let mut lines = vec![format!("system: {}", system.join("\n"))];
    // The calls of the last turn, and their results.
    let (mut calls, mut results) = (String::new(), Vec::new());
    let mut ids = 0;
    let mut last = Role::System;
    for (at, turn) in turns.iter().enumerate() {
        let text = turn.paragraphs.join("\n");
        let is_new = at == 0 || turn.role != last || !results.is_empty();
        if is_new {
            if let Some(line) = lines.last_mut() {
                line.push_str(&std::mem::take(&mut calls));
            }
            lines.append(&mut results);
            lines.push(format!("{}: {text}", turn.role.as_str()));
        } else if let Some(line) = lines.last_mut() {
            line.push_str(if turn.role == Role::Assistant { "" } else { "\n" });
            line.push_str(&text);
        }
        last = turn.role;
        for (name, result) in &turn.calls {
            let id = format!("toolu_{ids}");
            ids += 1;
            calls.push_str(&format!(" <{id} {name} {{\"n\":{ids}}}>"));
            results.push(format!("tool {id}: {}", result.join("\n")));
        }
    }
    if let Some(line) = lines.last_mut() {
        line.push_str(&calls);
    }
    lines.append(&mut results);
    lines
}

proptest! {
    /// However a client writes a conversation, it is the same history.
    #[test]
    fn a_conversation_is_the_same_in_any_form(
        system in prop::collection::vec("[a-c]{1,3}", 1..3),
        turns in prop::collection::vec(any_turn(), 0..6),
        one in prop::collection::vec(any::<bool>(), 1..40),
        other in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        let mut turns = turns;
        turns.insert(0, Turn { role: Role::User, paragraphs: vec!["Hello".into()], calls: vec![] });
        let written = |bits: &[bool]| {
            let body = Pen { bits: bits.iter().cycle() }.request(&system, &turns);
            decode(&body).unwrap_or_else(|error| panic!("{error}: {body:?}")).chat
        };
        let (one, other) = (written(&one), written(&other));
        prop_assert_eq!(history(&one), history(&other));
        prop_assert_eq!(history(&one), expected(&system, &turns));
        prop_assert_eq!(keys(one), keys(other));
    }
}

/// What only the vendor's servers run cannot be chosen here: then a text is the answer.
#[test]
fn a_choice_of_what_was_left_out_is_none() {
    let search = json!({"type": "web_search_20250305", "name": "web_search"});
    let own = json!({"name": "Read", "input_schema": {"type": "object"}});
    let forced = json!({"type": "tool", "name": "web_search"});
    for (tools, choice, expected) in [
        (json!([search]), forced.clone(), Ok(ToolChoice::Auto)),
        (json!([search, own]), forced.clone(), Ok(ToolChoice::Auto)),
        (json!([search]), json!({"type": "any"}), Ok(ToolChoice::Auto)),
        (json!([search, own]), json!({"type": "any"}), Ok(ToolChoice::Required)),
        (json!([own]), forced, Err("tool_choice.name")),
    ] {
        let body = json!({"model": "m", "max_tokens": 9, "tools": tools, "tool_choice": choice,
            "messages": [{"role": "user", "content": "Hi"}]});
        let decoded = tower_qwen::anthropic::decode(&body.to_string().into());
        let found = decoded.map(|decoded| decoded.chat.tool_choice.expect("there is one"));
        let found = found.map_err(|error| error.param().unwrap_or_default().to_owned());
        assert_eq!(found, expected.map_err(str::to_owned), "{tools} {choice}");
    }
}

/// For an upstream that can be given no data the model is told that there was some.
#[tokio::test]
async fn media_are_told_of_where_they_are_not_passed_on() {
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}});
    let linked =
        json!({"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}});
    let document =
        json!({"type": "document", "title": "Plan", "source": {"type": "base64", "data": "JVBE"}});
    let content = json!([image, linked, document]);
    let ask = async |passed_on: bool| {
        let edge = AnthropicLayer::new().media(passed_on);
        through(edge, json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]})).await
    };
    let told = ask(false).await.history[0].clone();
    let said = told.text();
    assert!(said.contains("[an image that cannot") && said.contains("Plan"), "{said}");
    assert!(said.contains("[a document that cannot"), "{said}");
    let Some(tower_qwen::chat::Content::Parts(parts)) = &told.content else { panic!("{told:?}") };
    let media: Vec<_> = parts.iter().filter(|part| part.as_text().is_none()).collect();
    assert_eq!(media.len(), 1, "what has an address of its own stays");
    assert_eq!(
        ask(true).await.history[0].content.as_ref().map_or(0, |content| content.media().count()),
        3
    );
}

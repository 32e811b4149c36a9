//! What an upstream without tools sees of a conversation with tools: rendered calls read back as
//! the same calls, results with their calls, definitions and choices.

mod rendered_calls;

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::select};
use rendered_calls::{read, scan};
use serde_json::{Map, Value, json};
use tower_qwen::{
    chat::{
        ChatRequest, Content, FunctionTool, Json, Message, Part, PartKind, Role, Tool, ToolCall,
        ToolChoice,
    },
    tool::{
        Dialect,
        internals::{render_calls, rewrite},
        scan::Toolset,
    },
};

const FORMATS: [Dialect; 3] = [Dialect::Coder, Dialect::Hermes, Dialect::Xml];

fn tool(name: &str, schema: impl Into<Json>) -> Tool {
    Tool::Function(FunctionTool::new(name, schema))
}

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn tools() -> Vec<Tool> {
    vec![
        tool(
            "write",
            json(
                r##"{
                    "type": "object",
                    "properties": {
                        "path": {"type": "string"},
                        "content": {"type": "string"},
                        "mode": {"type": "integer"},
                        "tags": {"type": "array", "items": {"type": "string"}},
                        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                        "at": {"$ref": "#/$defs/point"}
                    },
                    "required": ["path"],
                    "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}}}}
                }"##,
            ),
        ),
        tool("now", json(r#"{"type": "object", "properties": {}}"#)),
    ]
}

fn render(calls: &[ToolCall], format: Dialect, tools: &[Tool]) -> String {
    render_calls(calls, format, &Toolset::new(Arc::new(tools.to_vec())))
}

/// Renders one call in every format, and reads it back.
#[track_caller]
fn round_trip(name: &str, arguments: &str, tools: &[Tool]) {
    let expected: Value = serde_json::from_str(arguments).expect("JSON");
    for format in FORMATS {
        let text = render(&[ToolCall::new("id", name, arguments)], format, tools);
        for calls in [read(&text, tools), scan(&text, tools)] {
            assert_eq!(calls.len(), 1, "{format:?}: {text}");
            assert_eq!(calls[0].0, name, "{format:?}: {text}");
            let got: Value = serde_json::from_str(&calls[0].1).expect("JSON");
            assert_eq!(got, expected, "{format:?}: {text}");
        }
    }
}

fn rendered(format: Dialect, arguments: &str) -> String {
    render(&[ToolCall::new("id", "write", arguments)], format, &tools())
}

// ---- calls ----

#[test]
fn each_format_writes_calls_as_its_template() {
    let arguments = r#"{"path": "a é.rs", "content": "fn main() {\n}\n", "mode": 420, "tags": [ "x", "y z" ], "note": null}"#;
    assert_eq!(
        rendered(Dialect::Coder, arguments),
        "<tool_call>\n<function=write>\n<parameter=path>\na é.rs\n</parameter>\n\
         <parameter=content>\nfn main() {\n}\n\n</parameter>\n<parameter=mode>\n420\n</parameter>\n\
         <parameter=tags>\n[\"x\",\"y z\"]\n</parameter>\n<parameter=note>\nnull\n</parameter>\n\
         </function>\n</tool_call>"
    );
    assert_eq!(
        rendered(Dialect::Hermes, arguments),
        format!("<tool_call>\n{{\"name\": \"write\", \"arguments\": {arguments}}}\n</tool_call>")
    );
    assert_eq!(
        rendered(Dialect::Xml, arguments),
        "<write>\n<path>a é.rs</path>\n<content>\nfn main() {\n}\n\n</content>\n<mode>420</mode>\n\
         <tags>[\"x\",\"y z\"]</tags>\n<note>null</note>\n</write>"
    );
}

#[test]
fn arguments_keep_their_order_and_their_digits() {
    let text = rendered(
        Dialect::Coder,
        r#"{"mode":123456789012345678901234567890,"at":{"y":1.10,"x":1e400}}"#,
    );
    assert!(text.contains("\n123456789012345678901234567890\n"));
    assert!(text.contains("\n{\"y\":1.10,\"x\":1e400}\n"));
    assert!(text.find("mode") < text.find("=at"));
}

/// Nothing is known of the types then, to the scanner neither.
#[test]
fn a_call_of_a_schema_that_cannot_be_read_is_written_as_json() {
    let schema = format!(
        r#"{{"properties": {{"n": {{"type": "integer"}}, "s": {{}}}}, "x": {}{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    for arguments in [r#"{"n":1}"#, r#"{"s":"text"}"#] {
        round_trip("f", arguments, &[tool("f", json(&schema))]);
    }
}

/// Found by the fuzzer, in the reader that judges here: it gave up after 16 levels.
#[test]
fn unions_may_be_nested_deeply() {
    for levels in [17, 40, 60, 100, 600] {
        let schema =
            (0..levels).fold(json!({"type": "boolean"}), |inner, _| json!({"anyOf": [inner]}));
        let tools = [tool("f", json!({"properties": {"b": schema}}))];
        for arguments in [r#"{"b": null}"#, r#"{"b": true}"#, r#"{"b": "true"}"#] {
            round_trip("f", arguments, &tools);
        }
    }
}

#[test]
fn calls_without_arguments_have_none() {
    for arguments in ["{}", "", "  ", "null", "{ }"] {
        let call = ToolCall::new("id", "now", arguments);
        let text = render(std::slice::from_ref(&call), Dialect::Coder, &tools());
        assert_eq!(text, "<tool_call>\n<function=now>\n</function>\n</tool_call>");
        for format in FORMATS {
            let text = render(std::slice::from_ref(&call), format, &tools());
            assert_eq!(read(&text, &tools()), [("now".to_owned(), "{}".to_owned())]);
        }
    }
}

#[test]
fn values_that_a_format_cannot_carry_are_written_as_json() {
    for arguments in [
        // The format's own markup.
        r#"{"content": "x\n</parameter>\n<parameter=path>\ny"}"#,
        r#"{"content": "</function>\n</tool_call> <tool_call>"}"#,
        r#"{"content": "</content></write><path>"}"#,
        r#"{"tags": ["</parameter>\n</function>"]}"#,
        // Types that the schema does not declare.
        r#"{"path": 5}"#,
        r#"{"path": null, "mode": "five"}"#,
        r#"{"mode": 1.0}"#,
        r#"{"mode": -0}"#,
        r#"{"note": "null"}"#,
        r#"{"note": " padded "}"#,
        r#"{"other": {"nested": true}}"#,
        // Layout that reading would take for its own.
        "{\"content\": \"line\\r\"}",
        r#"{"content": "\n\nx\n"}"#,
        // Names that are none in tags.
        r#"{"a>b": "x", "": "y"}"#,
        r#"{"\"quoted\"": "x", " padded ": "y"}"#,
    ] {
        round_trip("write", arguments, &tools());
    }
    round_trip("no such tool>", r#"{"x": "y"}"#, &tools());
    round_trip("undeclared", r#"{"x": "y", "n": 1}"#, &tools());
}

/// Found by fuzzing: readers of JSON give up at some depth, so a deep value is not taken out of
/// its call.
#[test]
fn a_deeply_nested_value_reads_back() {
    for depth in [63, 64, 65, 100, 118] {
        let deep = format!("{{\"tags\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        round_trip("write", &deep, &tools());
    }
}

/// Clients choose schemas and arguments; neither may cost more than its size.
#[test]
fn hostile_schemas_and_arguments_take_linear_time() {
    let branches = vec![json!({"$ref": "#/$defs/tree"}); 30];
    let schema = json!({
        "properties": {"a": {"$ref": "#/$defs/tree"}},
        "$defs": {"tree": {"anyOf": branches}},
    });
    let tools = [tool("t", schema)];
    let members: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\":\"\"")).collect();
    let arguments = format!("{{\"a\":1,{}}}", members.join(","));
    let calls = [ToolCall::new("1", "t", arguments.as_str())];
    for format in FORMATS {
        assert!(render(&calls, format, &tools).contains(&arguments));
    }
}

/// vllm-project/vllm#45167: a reader that looks for the next `</tool_call>` must find the right
/// one.
#[test]
fn the_wrapper_does_not_stand_in_json_strings() {
    let text = rendered(Dialect::Hermes, r#"{"content": "a </tool_call> b <tool_call> <b>"}"#);
    assert_eq!(text.matches("tool_call>").count(), 4);
    assert_eq!(text.matches("<tool_call>").count() + text.matches("</tool_call>").count(), 2);
    assert!(text.contains("<b>"));
}

#[test]
fn arguments_that_are_no_object_are_kept_as_a_string() {
    for arguments in [r#"{"path": "src/ma"#, "[1, 2]", "text", r#"{"a": 1} {"b": 2}"#] {
        for format in FORMATS {
            let text = rendered(format, arguments);
            assert_eq!(read(&text, &tools()), [("write".to_owned(), arguments.to_owned())]);
        }
    }
}

#[test]
fn half_a_pair_of_surrogates_is_kept_as_it_was_written() {
    for arguments in [r#"{"\ud800": 1}"#, r#"{"path": "\ud800"}"#] {
        let string = serde_json::to_string(arguments).expect("a string");
        for format in FORMATS {
            let text = rendered(format, arguments);
            assert!(text.contains(&string), "{text}");
        }
    }
}

#[test]
fn several_calls_follow_one_another() {
    let calls = [
        ToolCall::new("1", "write", r#"{"path":"a"}"#),
        ToolCall::new("2", "now", "{}"),
        ToolCall::new("3", "write", r#"{"path":"</parameter>"}"#),
    ];
    for format in FORMATS {
        let text = render(&calls, format, &tools());
        let names: Vec<String> = read(&text, &tools()).into_iter().map(|call| call.0).collect();
        assert_eq!(names, ["write", "now", "write"]);
        assert!(text.contains(">\n<"));
    }
}

// ---- properties ----

fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9 ]{0,8}",
        2 => "\\PC{0,4}",
        4 => select(&MARKUP[..]).prop_map(str::to_owned),
    ];
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

const MARKUP: [&str; 34] = [
    "\n",
    "\r\n",
    "\r",
    " ",
    "<",
    ">",
    "</",
    "</parameter>",
    "<parameter=",
    "<parameter=a>",
    "</function>",
    "<function=",
    "<tool_call>",
    "</tool_call>",
    "</a>",
    "<a>",
    "</tool>",
    "<tool>",
    "<b>",
    "null",
    "None",
    "true",
    "False",
    "12",
    "-0",
    "1.0",
    "1e5",
    "{}",
    "[1]",
    "\"",
    "\\",
    "NaN",
    "'a'",
    "\u{85}",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        string().prop_map(Value::String),
        any::<i64>().prop_map(Value::from),
        // serde_json reads other floats back a little different, by default.
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        Just(json!(1.0)),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((string(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn schema() -> impl Strategy<Value = Value> {
    let plain = select(&["string", "integer", "number", "boolean", "null", "object", "array"][..])
        .prop_map(|word| json!({"type": word}));
    let leaf = prop_oneof![
        4 => plain,
        1 => Just(json!({})),
        1 => Just(json!({"$ref": "#/$defs/d"})),
        1 => Just(json!({"$ref": "#/$defs/loop"})),
        1 => vec(leaf(), 1..3).prop_map(|values| json!({"enum": values})),
        1 => leaf().prop_map(|value| json!({"const": value})),
        1 => Just(json!({"items": {}})),
        1 => Just(json!({"properties": {"x": {}}})),
        1 => Just(json!({"type": ["string", "null"]})),
        1 => Just(json!({"type": ["array", "null"], "items": {"type": "integer"}})),
        1 => Just(json!({"type": ["integer", "boolean"], "enum": [1, 2]})),
        1 => Just(Value::Bool(true)),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        (select(&["anyOf", "oneOf", "allOf"][..]), vec(inner, 1..4))
            .prop_map(|(union, schemas)| json!({union: schemas}))
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(&["a", "b", "path", "tool"][..]).prop_map(str::to_owned),
        1 => string(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn rendered_calls_read_back_as_the_same(
        properties in vec((key(), schema()), 0..4),
        definition in schema(),
        arguments in vec((key(), value()), 0..4),
        name in prop_oneof![4 => Just("tool".to_owned()), 1 => string()].prop_filter("a call has a name", |name| !name.is_empty()),
    ) {
        let properties: Map<String, Value> = properties.into_iter().collect();
        let schema = json!({
            "properties": properties,
            "$defs": {"d": definition, "loop": {"$ref": "#/$defs/loop"}},
        });
        let tools = [tool("tool", schema)];
        let arguments: Map<String, Value> = arguments.into_iter().collect();
        round_trip(&name, &Value::Object(arguments.clone()).to_string(), &tools);
        round_trip(&name, &serde_json::to_string_pretty(&arguments).expect("JSON"), &tools);
    }
}

// ---- messages ----

fn assistant(text: Option<&str>, calls: &[(&str, &str, &str)]) -> Message {
    let mut message = Message::empty(Role::Assistant);
    message.content = text.map(|text| Content::Text(text.into()));
    message.tool_calls =
        calls.iter().map(|(id, name, json)| ToolCall::new(*id, *name, *json)).collect();
    message
}

fn result(id: &str, text: &str) -> Message {
    let mut message = Message::new(Role::Tool, text);
    message.tool_call_id = Some(id.into());
    message
}

fn user(text: &str) -> Message {
    Message::new(Role::User, text)
}

fn rewritten(messages: Vec<Message>, format: Dialect) -> ChatRequest {
    let mut request = ChatRequest::new("qwen3-coder-plus", messages);
    rewrite(&mut request, format, false);
    for message in request.history.iter() {
        assert!(message.content.is_some() && message.tool_calls.is_empty());
        assert!(!matches!(message.role, Role::Tool | Role::Function));
    }
    request
}

fn texts(request: &ChatRequest) -> Vec<(Role, String)> {
    request.history.iter().map(|message| (message.role, message.text().to_string())).collect()
}

const NOW: &str = "<tool_call>\n<function=now>\n</function>\n</tool_call>";

#[test]
fn an_assistants_calls_stand_behind_its_text() {
    let request = rewritten(
        vec![
            assistant(None, &[("1", "now", "{}")]),
            assistant(Some("Let me see.\n"), &[("1", "now", "{}")]),
            assistant(Some(""), &[]),
            assistant(None, &[]),
        ],
        Dialect::Coder,
    );
    let own = |text: &str| (Role::Assistant, text.to_owned());
    assert_eq!(
        texts(&request),
        [own(NOW), own(&format!("Let me see.\n\n{NOW}")), own(""), own("")]
    );
}

#[test]
fn a_result_becomes_a_user_message() {
    let messages = || vec![assistant(None, &[("1", "now", "{}")]), result("1", "12:00")];
    let request = rewritten(messages(), Dialect::Coder);
    assert_eq!(
        texts(&request)[1],
        (Role::User, "<tool_response>\n12:00\n</tool_response>".to_owned())
    );
    let request = rewritten(messages(), Dialect::Xml);
    assert_eq!(texts(&request)[1], (Role::User, "[now] Result:\n12:00".to_owned()));
}

/// Models repeat a call whose result is empty.
#[test]
fn an_empty_result_says_so() {
    for text in ["", " \n"] {
        let request = rewritten(vec![result("1", text)], Dialect::Hermes);
        assert_eq!(
            request.history[0].text(),
            "<tool_response>\n(The tool is done. It returned no output.)\n</tool_response>"
        );
    }
    let mut null = Message::empty(Role::Tool);
    null.tool_call_id = Some("1".into());
    let request = rewritten(vec![null], Dialect::Hermes);
    assert!(request.history[0].text().contains("no output"));
}

#[test]
fn results_of_several_calls_are_named_and_in_the_order_of_the_calls() {
    let request = rewritten(
        vec![
            assistant(None, &[("1", "read", "{}"), ("2", "now", "{}"), ("3", "read", "{}")]),
            result("3", "c"),
            result("unknown", "d"),
            result("1", "a"),
            result("2", "b"),
            user("Go on"),
            // The same ids again: the nearest calls are meant.
            assistant(None, &[("2", "late", "{}")]),
            result("2", "e"),
        ],
        Dialect::Hermes,
    );
    assert_eq!(request.history.len(), 5);
    assert_eq!(
        request.history[1].text(),
        "<tool_response>\n[read #1] Result:\na\n</tool_response>\n\
         <tool_response>\n[now] Result:\nb\n</tool_response>\n\
         <tool_response>\n[read #2] Result:\nc\n</tool_response>\n\
         <tool_response>\nd\n</tool_response>"
    );
    assert_eq!(request.history[4].text(), "<tool_response>\ne\n</tool_response>");
}

#[test]
fn legacy_results_are_paired_by_name() {
    let mut legacy = Message::new(Role::Function, "12:00");
    legacy.name = Some("now".into());
    let request = rewritten(vec![assistant(None, &[("", "now", "{}")]), legacy], Dialect::Xml);
    assert_eq!(request.history[1].text(), "[now] Result:\n12:00");
}

#[test]
fn media_of_a_result_stay_in_their_place() {
    let image = Part::new(PartKind::Image { url: "https://example.org/a".into(), detail: None });
    let mut message = result("1", "");
    message.content = Some(Content::Parts(vec![
        Part::new(PartKind::Text("before ".into())),
        image.clone(),
        Part::new(PartKind::Text("after".into())),
    ]));
    let mut request = rewritten(vec![message, result("2", "x")], Dialect::Coder);
    let Some(Content::Parts(parts)) = &request.history[0].content else { panic!("parts") };
    assert_eq!(parts[0].as_text().unwrap(), "<tool_response>\nbefore ");
    assert_eq!(parts[1], image);
    assert_eq!(
        parts[2].as_text().unwrap(),
        "after\n</tool_response>\n<tool_response>\nx\n</tool_response>"
    );
    // Results with media are results: nothing is written behind them.
    request.tools = Arc::new(tools());
    request.tool_choice = Some(ToolChoice::Required);
    rewrite(&mut request, Dialect::Coder, false);
    assert_eq!(request.history.len(), 2);
}

#[test]
fn seen_goes_on_counting_the_same_messages() {
    let messages = || {
        vec![
            user("a"),
            assistant(None, &[("1", "now", "{}"), ("2", "now", "{}")]),
            result("1", "x"),
            result("2", "y"),
            user("b"),
        ]
    };
    for (seen, expected) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (5, 4)] {
        let mut request = ChatRequest::new("m", messages());
        request.history.mark_seen(seen);
        rewrite(&mut request, Dialect::Coder, false);
        assert_eq!(request.history.seen.len(), expected, "of {seen}");
        // What was seen is not merged with what was not.
        assert_eq!(request.history.len(), if seen == 3 { 5 } else { 4 });
    }
    let mut request = ChatRequest::new("m", messages());
    request.history.mark_seen(4);
    request.tools = Arc::new(tools());
    rewrite(&mut request, Dialect::Coder, true);
    assert_eq!((request.history.seen.len(), request.history.len()), (4, 5));
    assert_eq!(request.history.seen[0].role, Role::System);
}

/// The second result stands alone, but the call that it answers has been seen.
#[test]
fn a_fresh_result_is_named_after_the_call_that_was_seen() {
    let mut request = ChatRequest::new(
        "m",
        vec![
            assistant(None, &[("1", "now", "{}"), ("2", "now", "{}")]),
            result("1", "x"),
            result("2", "y"),
        ],
    );
    request.history.mark_seen(2);
    rewrite(&mut request, Dialect::Coder, false);
    assert_eq!((request.history.seen.len(), request.history.fresh.len()), (2, 1));
    assert_eq!(
        request.history.fresh[0].text(),
        "<tool_response>\n[now #2] Result:\ny\n</tool_response>"
    );
}

/// What holds for this turn is said to it, whatever the chat has seen.
#[test]
fn a_choice_is_fresh() {
    // It joins the last question; where nothing is fresh it is a message of its own.
    for (count, fresh) in [(1, 2), (2, 1), (3, 1)] {
        let mut request = ChatRequest::new("m", vec![user("a"), user("b"), user("c")]);
        request.history.mark_seen(count);
        request.tools = Arc::new(tools());
        request.tool_choice = Some(ToolChoice::Required);
        let seen = request.history.seen.clone();
        rewrite(&mut request, Dialect::Coder, false);
        assert!(request.history.seen.is_shared_with(&seen), "what was seen is as it was");
        assert_eq!(request.history.fresh.len(), fresh);
        assert!(request.history.last().expect("fresh").text().ends_with("in this reply."));
    }
}

#[test]
fn only_what_changes_is_copied() {
    let mut request = ChatRequest::new(
        "m",
        vec![
            user("a"),
            assistant(None, &[("1", "now", "{}")]),
            result("1", "x"),
            user("b"),
            user("c"),
        ],
    );
    request.history.mark_seen(4);
    request.tools = Arc::new(tools());
    request.tool_choice = Some(ToolChoice::Required);
    let before = request.history.clone();
    rewrite(&mut request, Dialect::Coder, false);
    let after = &request.history;
    assert_eq!((after.seen.len(), after.fresh.len()), (4, 1));
    let shared = |at: usize| Arc::ptr_eq(&before.seen[at], &after.seen[at]);
    assert_eq!([0, 1, 2, 3].map(shared), [true, false, false, true]);
    assert_eq!(before.fresh[0].text(), "c", "the client's own is as it was");
    assert_eq!(after.fresh[0].text(), "c\n\nCall at least one function in this reply.");
}

/// The chat was told of other tools: what it is told now stands in front of what is new in it.
#[test]
fn a_chat_is_told_of_other_tools() {
    let turn = |tools: Vec<Tool>, changed: bool, first_turn: bool| {
        let mut request = ChatRequest::new("m", vec![user("a"), user("b")]);
        request.history.mark_seen(1);
        request.tools = Arc::new(tools);
        request.tools_changed = changed;
        rewrite(&mut request, Dialect::Coder, first_turn);
        assert!(!request.tools_changed, "it is said once");
        let fresh = &request.history.fresh;
        fresh.iter().map(|message| (message.role, message.text().to_string())).collect::<Vec<_>>()
    };
    let own = (Role::User, "b".to_owned());
    assert_eq!(turn(tools(), false, false), std::slice::from_ref(&own));

    let told = turn(tools(), true, false);
    assert_eq!((told.len(), told[0].0, &told[1]), (2, Role::System, &own));
    assert!(told[0].1.starts_with("The tools have changed."), "{}", told[0].1);
    let now = tools();
    let names = now.iter().filter_map(Tool::as_function).map(|function| &function.name);
    for name in names {
        assert!(told[0].1.contains(name.as_str()), "{name}: {}", told[0].1);
    }

    let told = turn(Vec::new(), true, false);
    assert_eq!((told.len(), told[0].0), (2, Role::System));
    assert!(told[0].1.contains("none any more"), "{}", told[0].1);
}

#[test]
fn a_plain_history_is_shared() {
    let mut request = ChatRequest::new("m", vec![user("a")]);
    let history = request.history.clone();
    rewrite(&mut request, Dialect::Coder, true);
    assert!(history.fresh.is_shared_with(&request.history.fresh));
}

// ---- definitions ----

fn first_turn(model: &str, format: Dialect, messages: Vec<Message>) -> ChatRequest {
    let mut request = ChatRequest::new(model, messages);
    request.tools = Arc::new(tools());
    request.tool_choice = Some(ToolChoice::Auto);
    request.parallel_tool_calls = Some(true);
    rewrite(&mut request, format, true);
    assert!(request.tools.is_empty());
    assert!(request.tool_choice.is_none() && request.parallel_tool_calls.is_none());
    request
}

/// The seed shows only the top-level type of a parameter, which costs correct arguments.
#[test]
fn the_whole_schema_is_in_the_system_text() {
    for (model, format) in [
        ("qwen3.7-plus", Dialect::Coder),
        ("qwen3-max", Dialect::Hermes),
        ("qwen3-max", Dialect::Xml),
    ] {
        let request = first_turn(model, format, vec![user("Hi")]);
        let system = request.history[0].text();
        assert_eq!(request.history[0].role, Role::System);
        let lines: Vec<Value> =
            system.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let expected: Vec<Value> = tools()
            .iter()
            .filter_map(Tool::as_function)
            .map(|tool| {
                let parameters = tool.parameters.clone();
                json!({"type": "function", "function": {"name": &tool.name, "parameters": parameters}})
            })
            .collect();
        assert_eq!(lines.iter().filter(|line| line.is_object()).count(), 2);
        assert_eq!(lines[..2], expected);
        assert!(
            system.contains(r#"{"type":"object","properties":{"path""#),
            "keys keep their order"
        );
    }
}

/// JSON as a client may write it: keys in any order and twice, numbers in any spelling.
#[derive(Clone, Debug)]
enum Written {
    Token(&'static str),
    Text(String),
    Array(Vec<Written>),
    Object(Vec<(String, Written)>),
}

impl Written {
    /// With `blank` between all tokens.
    fn push(&self, json: &mut String, blank: &str) {
        let string = |text: &str| serde_json::to_string(text).expect("a string");
        json.push_str(blank);
        match self {
            Self::Token(token) => json.push_str(token),
            Self::Text(text) => json.push_str(&string(text)),
            Self::Array(items) => {
                json.push('[');
                for (at, item) in items.iter().enumerate() {
                    json.push_str(if at > 0 { "," } else { "" });
                    item.push(json, blank);
                }
                json.push_str(blank);
                json.push(']');
            }
            Self::Object(members) => {
                json.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    json.push_str(if at > 0 { "," } else { "" });
                    json.push_str(&format!("{blank}{}{blank}:", string(name)));
                    value.push(json, blank);
                }
                json.push_str(blank);
                json.push('}');
            }
        }
        json.push_str(blank);
    }

    fn json(&self, blank: &str) -> String {
        let mut json = String::new();
        self.push(&mut json, blank);
        json
    }
}

fn written() -> impl Strategy<Value = Written> {
    const TOKENS: [&str; 9] =
        ["true", "false", "null", "0", "-0", "1.10", "1E+2", "12345678901234567890123", "5e-1"];
    let leaf = prop_oneof![
        select(&TOKENS[..]).prop_map(Written::Token),
        string().prop_map(Written::Text),
        "[ ,:{}\\[\\]\"\\\\é\n]{0,6}".prop_map(Written::Text),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let member = (prop_oneof![key(), Just("properties".to_owned())], inner.clone());
        prop_oneof![vec(inner, 0..4).prop_map(Written::Array), members(member)]
    })
}

fn members(member: impl Strategy<Value = (String, Written)>) -> impl Strategy<Value = Written> {
    vec(member, 0..5).prop_map(Written::Object)
}

/// The definitions as a model sees them.
fn shown(model: &str, format: Dialect, function: FunctionTool) -> String {
    let mut request = ChatRequest::new(model, vec![user("Hi")]);
    request.tools = Arc::new(vec![Tool::Function(function)]);
    rewrite(&mut request, format, true);
    request.history[0].text().to_string()
}

proptest! {
    #[test]
    fn the_line_of_a_function_says_what_the_client_wrote(
        name in string(),
        description in proptest::option::of(string()),
        schema in prop_oneof![written(), members((key(), written()))],
        strict in proptest::option::of(any::<bool>()),
        extra in vec(("[a-z]{1,3}é", written()), 0..3),
        blank in select(&["", " ", "\n\t ", "\r\n"][..]),
    ) {
        let mut function = FunctionTool::new(name.clone(), json(&schema.json(blank)));
        function.description = description.clone().map(Into::into);
        function.strict = strict;
        function.extra = extra.iter().map(|(key, value)| (key, json(&value.json(blank)))).collect();
        let text = shown("qwen3-max", Dialect::Hermes, function);
        let lines: Vec<&str> = text.split('\n').filter(|line| line.starts_with("{\"type\"")).collect();
        prop_assert_eq!(lines.len(), 1, "it is one line: {}", text);
        // It parses back to the same, and the order and the spelling are the client's.
        let line: Value = serde_json::from_str(lines[0]).expect("JSON");
        let function = &line["function"];
        prop_assert_eq!(&function["name"], &Value::from(name));
        prop_assert_eq!(function.get("description").cloned(), description.map(Value::from));
        prop_assert_eq!(function.get("strict").cloned(), strict.map(Value::from));
        let expected: Value = serde_json::from_str(&schema.json(" ")).expect("JSON");
        prop_assert_eq!(&function["parameters"], &expected);
        let parameters = format!(r#""parameters":{}"#, schema.json(""));
        prop_assert!(lines[0].contains(&parameters), "{} is not in {}", parameters, lines[0]);
        for (key, value) in &extra {
            let value = value.json("");
            let field = format!(",{}:{value}", serde_json::to_string(key).expect("a string"));
            prop_assert!(lines[0].contains(&field), "{} is not in {}", field, lines[0]);
        }
    }

    /// Qwen3-Coder's list has the same names and values as tags, in the client's order.
    #[test]
    fn the_tags_of_a_function_follow_the_clients_order(
        properties in vec(("[a-z]{1,6}", vec(("[a-z]{1,6}X", written()), 0..4)), 0..4),
        keys in vec(("[a-z]{1,6}Y", written()), 0..3),
        blank in select(&["", " ", "\n\t "][..]),
    ) {
        let object = |fields: &[(String, Written)]| Written::Object(fields.to_vec());
        let declared =
            properties.iter().map(|(name, fields)| (name.clone(), object(fields))).collect();
        let mut schema = keys.clone();
        schema.push(("properties".to_owned(), Written::Object(declared)));
        let function = FunctionTool::new("f", json(&object(&schema).json(blank)));
        let text = shown("qwen3-coder-plus", Dialect::Coder, function);

        let tag = |(key, value): &(String, Written)| match value {
            Written::Text(text) => format!("\n<{key}>{text}</{key}>"),
            other => format!("\n<{key}>{}</{key}>", other.json("")),
        };
        let mut expected = String::from("<function>\n<name>f</name>\n<parameters>");
        for (name, fields) in &properties {
            expected.push_str(&format!("\n<parameter>\n<name>{name}</name>"));
            expected.extend(fields.iter().map(tag));
            expected.push_str("\n</parameter>");
        }
        expected.extend(keys.iter().map(tag));
        expected.push_str("\n</parameters>\n</function>");
        prop_assert!(text.contains(&expected), "{} is not in {}", expected, text);
    }
}

#[test]
fn a_function_without_parameters_takes_an_empty_object() {
    let text = shown("m", Dialect::Hermes, FunctionTool::without_parameters("now"));
    let line = r#"{"type":"function","function":{"name":"now","parameters":{"type":"object","properties":{}}}}"#;
    assert!(text.contains(&format!("\n{line}\n")), "{text}");
}

#[test]
fn qwen3_coder_is_shown_the_types_first() {
    let schema = r#"{"type": "object", "properties": {
        "a": {"items": {"b": 1, "a": 1.0E5}, "name": "n", "description": "D", "type": "array"},
        "b": true
    }, "properties": {"c": false, "a": {"minimum": 1.10, "type": ["integer", "null"]}}}"#;
    let text = shown("qwen3-coder-plus", Dialect::Coder, FunctionTool::new("f", json(schema)));
    let expected = "<parameters>\n<parameter>\n<name>c</name>\n<schema>false</schema>\n</parameter>\n\
        <parameter>\n<name>a</name>\n<type>[\"integer\",\"null\"]</type>\n<minimum>1.10</minimum>\n\
        </parameter>\n</parameters>";
    assert!(text.contains(expected), "of properties that stand twice the last count: {text}");

    let schema =
        schema.split(", \"properties\": {\"c\"").next().expect("the first").to_owned() + "}";
    let text = shown("qwen3-coder-plus", Dialect::Coder, FunctionTool::new("f", json(&schema)));
    let expected = "<name>a</name>\n<type>array</type>\n<description>D</description>\n\
        <items>{\"b\":1,\"a\":1.0E5}</items>\n<schema_name>n</schema_name>\n</parameter>\n<parameter>\n\
        <name>b</name>\n<schema>true</schema>\n</parameter>";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn qwen3_coder_gets_its_own_list() {
    let request = first_turn("qwen3-coder-plus", Dialect::Coder, vec![user("Hi")]);
    let system = request.history[0].text();
    for part in [
        "<tools>\n<function>\n<name>write</name>\n<parameters>\n<parameter>\n<name>path</name>\n\
         <type>string</type>\n</parameter>",
        "<name>tags</name>\n<type>array</type>\n<items>{\"type\":\"string\"}</items>",
        "<anyOf>[{\"type\":\"string\"},{\"type\":\"null\"}]</anyOf>",
        "<$ref>#/$defs/point</$ref>",
        "<required>[\"path\"]</required>\n<$defs>{\"point\":",
        "</parameters>\n</function>\n<function>\n<name>now</name>\n<parameters>\n</parameters>\n\
         </function>\n</tools>",
    ] {
        assert!(system.contains(part), "{part} is not in {system}");
    }
}

#[test]
fn each_format_shows_its_own_call() {
    for (format, shown) in [
        (Dialect::Coder, "<tool_call>\n<function=name_of_the_function>\n<parameter="),
        (Dialect::Hermes, "<tool_call>\n{\"name\": <"),
        (Dialect::Xml, "<name_of_the_function>\n<name_of_a_parameter>"),
    ] {
        let request = first_turn("m", format, vec![user("Hi")]);
        assert!(request.history[0].text().contains(shown));
    }
}

#[test]
fn definitions_join_the_first_instruction_in_the_templates_order() {
    let messages = || {
        vec![
            Message::new(Role::Developer, "Be brief."),
            user("Hi"),
            Message::new(Role::System, "!"),
        ]
    };
    let request = first_turn("qwen3-coder-plus", Dialect::Coder, messages());
    assert!(request.history[0].text().starts_with("Be brief.\n\n# Tools\n"));
    assert_eq!(request.history.len(), 3);
    assert_eq!(request.history[2].text(), "!");
    let request = first_turn("qwen3.5-plus", Dialect::Coder, messages());
    assert!(request.history[0].text().ends_with("\n\nBe brief."));
    assert_eq!(request.history[0].role, Role::Developer);

    let mut parts = messages();
    parts[0].content = Some(Content::Parts(vec![Part::new(PartKind::Text("Be brief.".into()))]));
    let request = first_turn("qwen3-max", Dialect::Hermes, parts);
    assert!(request.history[0].text().starts_with("Be brief.\n\n# Tools\n"));
}

#[test]
fn later_turns_and_requests_without_tools_define_nothing() {
    let mut request = ChatRequest::new("qwen3-max", vec![user("Hi")]);
    request.tools = Arc::new(tools());
    rewrite(&mut request, Dialect::Hermes, false);
    assert_eq!(texts(&request), [(Role::User, "Hi".to_owned())]);

    let mut request = ChatRequest::new("qwen3-max", vec![user("Hi")]);
    request.tools = Arc::new(vec![Tool::Other(json!({"type": "web_search"}).into())]);
    request.tool_choice = Some(ToolChoice::Required);
    rewrite(&mut request, Dialect::Hermes, true);
    assert_eq!(texts(&request), [(Role::User, "Hi".to_owned())]);
    assert!(request.tools.is_empty());
}

// ---- choices ----

fn line(choice: Option<ToolChoice>, parallel: Option<bool>, first: bool) -> String {
    let mut request = ChatRequest::new("qwen3-max", vec![user("Hi")]);
    request.tools = Arc::new(tools());
    request.tool_choice = choice;
    request.parallel_tool_calls = parallel;
    rewrite(&mut request, Dialect::Hermes, first);
    let text = request.history.last().expect("a message").text();
    text.strip_prefix("Hi").expect("the question comes first").to_owned()
}

#[test]
fn choices_are_said_behind_the_question_on_every_turn() {
    let named = || Some(ToolChoice::Function("now".into()));
    let allowed = |mode: &str| {
        let choice = json!({"type": "allowed_tools", "allowed_tools": {
            "mode": mode, "tools": [{"type": "function", "function": {"name": "now"}}]}});
        Some(ToolChoice::Other(choice.into()))
    };
    for first in [true, false] {
        for (choice, parallel, expected) in [
            (None, None, ""),
            (Some(ToolChoice::Auto), Some(true), ""),
            (None, Some(false), "Call at most one function in this reply."),
            (
                Some(ToolChoice::None),
                None,
                "Do not call any function in this reply; answer in words.",
            ),
            (Some(ToolChoice::Required), None, "Call at least one function in this reply."),
            (Some(ToolChoice::Required), Some(false), "Call exactly one function in this reply."),
            (named(), None, "Call the function now in this reply, and no other."),
            (
                named(),
                Some(false),
                "Call the function now in this reply, exactly once, and no other.",
            ),
            (
                Some(ToolChoice::Other(
                    json!({"type": "function", "function": {"name": "now"}, "vendor": 1}).into(),
                )),
                None,
                "Call the function now in this reply, and no other.",
            ),
            (allowed("auto"), None, "Call only functions out of these in this reply: now."),
            (
                allowed("required"),
                Some(false),
                "Call exactly one function in this reply, and only out of these: now.",
            ),
            // As the responses API has it, and with what is no name left out.
            (
                Some(ToolChoice::Other(json(
                    r#"{ "tools" : [ {"type":"function","name":"now"}, 5, {"name":5}, {},
                    {"name":"a\u0062"} ], "mode":"auto", "type":"allowed_tools" }"#,
                ))),
                None,
                "Call only functions out of these in this reply: now, ab.",
            ),
            (Some(ToolChoice::Other(json(r#"{"type": "allowed_tools", "tools": 1}"#))), None, ""),
            (Some(ToolChoice::Other(json!({"type": "new"}).into())), None, ""),
        ] {
            let expected =
                if expected.is_empty() { String::new() } else { format!("\n\n{expected}") };
            assert_eq!(line(choice, parallel, first), expected);
        }
    }
}

/// The newer template knows results by the tags at their ends.
#[test]
fn a_choice_does_not_stand_in_a_message_of_results() {
    let mut request =
        ChatRequest::new("m", vec![assistant(None, &[("1", "now", "{}")]), result("1", "x")]);
    request.tools = Arc::new(tools());
    request.tool_choice = Some(ToolChoice::Required);
    rewrite(&mut request, Dialect::Coder, false);
    assert_eq!(request.history[1].text(), "<tool_response>\nx\n</tool_response>");
    assert_eq!(
        texts(&request)[2],
        (Role::User, "Call at least one function in this reply.".to_owned())
    );
}

#[test]
fn a_models_family_decides_about_its_format() {
    for (model, format) in [
        ("qwen3-coder-plus", Dialect::Coder),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8", Dialect::Coder),
        ("qwen3.5-plus", Dialect::Coder),
        ("qwen3.8-max", Dialect::Coder),
        ("qwen4-max", Dialect::Coder),
        ("coder-model", Dialect::Coder),
        ("qwen-plus", Dialect::Coder),
        ("qwen-plus-2025-07-28", Dialect::Coder),
        ("some-other-model", Dialect::Coder),
        ("qwen3-max", Dialect::Hermes),
        ("qwen3:8b", Dialect::Hermes),
        ("qwen-3-235b-a22b", Dialect::Hermes),
        ("hf.co/Qwen/Qwen3-8B-GGUF", Dialect::Hermes),
        ("Qwen3-Next-80B-A3B-Instruct", Dialect::Hermes),
        ("qwen3-vl-plus", Dialect::Hermes),
        ("qwen2.5-coder:7b", Dialect::Hermes),
        ("Qwen2.5-72B-Instruct", Dialect::Hermes),
        ("qwq-32b", Dialect::Hermes),
    ] {
        assert_eq!(Dialect::for_model(model), format, "{model}");
    }
}

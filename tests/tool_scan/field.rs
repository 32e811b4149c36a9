//! What fails in the field, row by row of docs/reference/tool-calls.md#b, each with where it was
//! reported, and the variations of the formats.
//!
//! Every case is scanned whole, character by character, and cut in two at every place.

use serde_json::{Value, json};

use crate::{declared, scan_every_way, toolset, twin::Declared};

struct Case {
    /// What happens, and where it was reported.
    name: &'static str,
    input: &'static str,
    text: &'static str,
    calls: Vec<(&'static str, Value)>,
}

#[track_caller]
fn check_with(declared: &[Declared], cases: Vec<Case>) {
    let tools = toolset(declared);
    for case in cases {
        let scanned = scan_every_way(&tools, case.input);
        let outcome = scanned.outcome();
        assert_eq!(outcome.text, case.text, "text: {}", case.name);
        let calls: Vec<(&str, Value)> =
            outcome.calls.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        assert_eq!(calls, case.calls, "calls: {}", case.name);
    }
}

#[track_caller]
fn check(cases: Vec<Case>) {
    check_with(&declared(), cases);
}

fn case(
    name: &'static str,
    input: &'static str,
    text: &'static str,
    calls: Vec<(&'static str, Value)>,
) -> Case {
    Case { name, input, text, calls }
}

/// What stands around all calls goes with them, and only with them.
#[test]
fn wrappers_around_calls() {
    const READ: &str = "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</function>\n</tool_call>";
    const JSON: &str = r#"<tool_call>{"name": "read", "arguments": {"path": "b"}}</tool_call>"#;
    let (a, b) = (("read", json!({"path": "a"})), ("read", json!({"path": "b"})));
    let mut rows: Vec<(String, &str, Vec<_>)> = Vec::new();
    for name in ["tool_calls", "function_calls"] {
        let around = |inside: &str| format!("<{name}>\n{inside}\n</{name}>");
        rows.push((around(READ), "", vec![a.clone()]));
        rows.push((around(JSON), "", vec![b.clone()]));
        rows.push((around(&format!("{READ}\n{JSON}")), "", vec![a.clone(), b.clone()]));
        rows.push((
            around("<function=read><parameter=path>a</parameter></function>"),
            "",
            vec![a.clone()],
        ));
        rows.push((around("<read><path>a</path></read>"), "", vec![a.clone()]));
        rows.push((format!("I read.\n\n{}\n", around(READ)), "I read.", vec![a.clone()]));
        rows.push((format!("{}\n{}", around(READ), around(JSON)), "", vec![a.clone(), b.clone()]));
        // It was never closed, or never opened.
        rows.push((format!("<{name}>{READ}"), "", vec![a.clone()]));
        rows.push((format!("{READ}\n</{name}>"), "", vec![a.clone()]));
        rows.push((format!("<{name}>{READ}</{name}> Done."), "Done.", vec![a.clone()]));
    }
    for (input, text, calls) in rows {
        let scanned = scan_every_way(&toolset(&declared()), &input);
        let outcome = scanned.outcome();
        let told: Vec<(&str, Value)> =
            outcome.calls.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        assert_eq!((outcome.text.as_ref(), told), (text, calls), "{input}");
    }
    for input in [
        "<tool_calls>",
        "<tool_calls>\n</tool_calls>",
        "<tool_calls>none</tool_calls>",
        "<tool_calls>\n\n",
        "The <tool_calls> tag is around <tool_call> tags.",
        "<tool_calls><tool_call>none</tool_call></tool_calls>",
        "<tool_calls>{\"name\": 1}</tool_calls>",
        "`<tool_calls>` <function_calls>x</function_calls>",
        "```\n<tool_calls><read><path>a</path></read></tool_calls>\n```",
        "<calls><div>x</div></calls>",
        "<tool_calls><tool_call>{\"a\": 1}</tool_call></tool_calls>",
    ] {
        let scanned = scan_every_way(&toolset(&declared()), input);
        let outcome = scanned.outcome();
        assert_eq!((outcome.text.as_ref(), outcome.calls.len()), (input, 0), "{input}");
    }
}

#[test]
fn openers() {
    check(vec![
        case(
            "opening <tool_call> missing after text, orphan closer: QwenLM/Qwen3-Coder#475, \
             ollama/ollama#16686, #17353, #17742, #18530, aaif-goose/goose#6883, \
             ggml-org/llama.cpp#16755",
            "I will read it.\n<function=read>\n<parameter=path>\na.rs\n</parameter>\n</function>\n</tool_call>",
            "I will read it.",
            vec![("read", json!({"path": "a.rs"}))],
        ),
        case(
            "any <function= in prose becomes a call: blazux/qwen3.8-Flash-DGX#29, SGLang",
            "Write <function=anything>\n<parameter=x>\n1\n</parameter></function> like that, or <function=read> alone.",
            "Write <function=anything>\n<parameter=x>\n1\n</parameter></function> like that, or <function=read> alone.",
            vec![],
        ),
        case(
            "the marker in prose silences the rest: noonghunna/club-3090#72, \
             vllm-project/vllm#56658, SGLang 0.5.23",
            "The <tool_call> tag opens a call, <tool_call>\n is it. And then:\n<tool_call>\n<function=list>\n</function>\n</tool_call>",
            "The <tool_call> tag opens a call, <tool_call>\n is it. And then:",
            vec![("list", json!({}))],
        ),
        case(
            "a fenced example is executed: vllm-project/vllm#57541, RooCodeInc/Roo-Code#8242, \
             gptme/gptme#1472",
            "Like this:\n```xml\n<tool_call>\n<function=read>\n<parameter=path>\nx\n</parameter>\n</function>\n</tool_call>\n```\nDone.",
            "Like this:\n```xml\n<tool_call>\n<function=read>\n<parameter=path>\nx\n</parameter>\n</function>\n</tool_call>\n```\nDone.",
            vec![],
        ),
        case(
            "a genuine call after a fence still counts",
            "```sh\nls\n```\n\n<read><path>x</path></read>",
            "```sh\nls\n```",
            vec![("read", json!({"path": "x"}))],
        ),
        case(
            "a call inside a fence is text by default: ardanlabs/kronk#950, qwen_proxy_poc tool_code",
            "```json\n{\"name\": \"read\", \"arguments\": {\"path\": \"x\"}}\n```",
            "```json\n{\"name\": \"read\", \"arguments\": {\"path\": \"x\"}}\n```",
            vec![],
        ),
        case(
            "prose names a tool tag: RooCodeInc/Roo-Code#2364, #3456",
            "Use <read> for files, `<list>` or <list> for folders, `<read><path>x</path></read>` as code.",
            "Use <read> for files, `<list>` or <list> for folders, `<read><path>x</path></read>` as code.",
            vec![],
        ),
        case(
            "inline code with a whole call in wrapper and function tags",
            "Say `<tool_call><function=read><parameter=path>x</parameter></function></tool_call>` then.",
            "Say `<tool_call><function=read><parameter=path>x</parameter></function></tool_call>` then.",
            vec![],
        ),
        case(
            "any paired tag taken for a tool: qwen_proxy_poc xml-tool-parser.js",
            "<div><path>x</path></div>",
            "<div><path>x</path></div>",
            vec![],
        ),
        case(
            "any JSON answer with a name taken for a call: ggml-org/llama.cpp#18183",
            "{\"name\": \"read\", \"arguments\": {\"path\": \"x\"}}",
            "{\"name\": \"read\", \"arguments\": {\"path\": \"x\"}}",
            vec![],
        ),
        case(
            "an undeclared name in the wrapper is passed on, arguments as strings",
            "<tool_call>\n<function=nobody>\n<parameter=n>\n1\n</parameter>\n</function>\n</tool_call>",
            "",
            vec![("nobody", json!({"n": "1"}))],
        ),
        case(
            "quotes around names",
            "<tool_call>\n<function=\"read\">\n<parameter='path'>\nx\n</parameter>\n</function>\n</tool_call>",
            "",
            vec![("read", json!({"path": "x"}))],
        ),
        case(
            "a doubled wrapper",
            "<tool_call>\n<tool_call>\n<function=list>\n</function>\n</tool_call>\n</tool_call>\nok",
            "ok",
            vec![("list", json!({}))],
        ),
        case(
            "a wrapper around plain tags (format 10): RooCodeInc/Roo-Code#12185",
            "<tool_call>\n<read>\n<path>x</path>\n</read>\n</tool_call>",
            "",
            vec![("read", json!({"path": "x"}))],
        ),
        case(
            "format 1 in another order of letters is text",
            "<Tool_call><function=read><tool_call >",
            "<Tool_call><function=read><tool_call >",
            vec![],
        ),
    ]);
}

#[test]
fn closers() {
    check(vec![
        case(
            "</parameter> missing before the next parameter: vllm-project/vllm tests",
            "<tool_call>\n<function=write_file>\n<parameter=path>\na\n<parameter=content>\nb\n</parameter>\n</function>\n</tool_call>",
            "",
            vec![("write_file", json!({"path": "a", "content": "b"}))],
        ),
        case(
            "</parameter> missing before </function>: vllm-project/vllm#57699, \
             ollama/ollama#17276, #14834, #18563",
            "<tool_call>\n<function=read>\n<parameter=path>\na\n</function>\n</tool_call>\n",
            "",
            vec![("read", json!({"path": "a"}))],
        ),
        case(
            "</function> missing before </tool_call>: SGLang 0.5.23 streaming",
            "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</tool_call>",
            "",
            vec![("read", json!({"path": "a"}))],
        ),
        case(
            "both inner closers missing",
            "<tool_call>\n<function=read>\n<parameter=path>\na\n</tool_call>\n<tool_call>\n<function=list>\n</tool_call>",
            "",
            vec![("read", json!({"path": "a"})), ("list", json!({}))],
        ),
        case(
            "closing </tool_call> missing at the end: ollama, lightseekorg/smg",
            "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</function>",
            "",
            vec![("read", json!({"path": "a"}))],
        ),
        case(
            "the next opener without any closer",
            "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n<tool_call>\n<function=list>\n</function>",
            "",
            vec![("read", json!({"path": "a"})), ("list", json!({}))],
        ),
        case(
            "the next bare function without any closer",
            "<function=read>\n<parameter=path>\na\n</parameter>\n<function=list>\n</function>",
            "",
            vec![("read", json!({"path": "a"})), ("list", json!({}))],
        ),
        case(
            "cut by the token limit in a value: vllm-project/vllm#20678, SGLang",
            "<tool_call>\n<function=write_file>\n<parameter=mode>\n3\n</parameter>\n<parameter=content>\nhalf a \"line",
            "",
            vec![("write_file", json!({"mode": 3, "content": "half a \"line"}))],
        ),
        case(
            "cut in a value that is held: converted as it stands",
            "<tool_call>\n<function=write_file>\n<parameter=mode>\n3",
            "",
            vec![("write_file", json!({"mode": 3}))],
        ),
        case(
            "cut inside an opener or name: vllm-project/vllm#47137, #42213",
            "Now.\n<tool_call>\n<function=rea",
            "Now.\n<tool_call>\n<function=rea",
            vec![],
        ),
        case(
            "cut before the first parameter is open",
            "Now.\n<tool_call>\n<function=read>\n<parameter=pa",
            "Now.\n<tool_call>\n<function=read>\n<parameter=pa",
            vec![],
        ),
        case(
            "cut inside a later parameter's opener",
            "<tool_call>\n<function=write_file>\n<parameter=path>\na\n</parameter>\n<parameter=con",
            "",
            vec![("write_file", json!({"path": "a"}))],
        ),
        case(
            "parse error fails the request: ollama/ollama#14986, #14834, #18563",
            "<tool_call>\n<function=read>\nstray\n</tool_call> <tool_call>{broken</tool_call>",
            "<tool_call>\n<function=read>\nstray\n</tool_call> <tool_call>{broken</tool_call>",
            vec![],
        ),
        case(
            "text after and between calls is content",
            "<read><path>a</path></read>\nand\n<read><path>b</path></read>\n\nend\n",
            "andend\n",
            vec![("read", json!({"path": "a"})), ("read", json!({"path": "b"}))],
        ),
        case(
            "<parameter=command=create</parameter>: QwenLM/Qwen3-Coder#457 (comment)",
            "<tool_call>\n<function=read>\n<parameter=path=a.rs</parameter>\n</function>\n</tool_call>",
            "",
            vec![("read", json!({"path": "a.rs"}))],
        ),
        case(
            "the same for a key that nobody declared: the JSON does not break",
            "<tool_call>\n<function=read>\n<parameter=x=a\"b</parameter>\n</function>\n</tool_call>",
            "",
            vec![("read", json!({"x=a\"b</parameter": ""}))],
        ),
    ]);
}

#[test]
fn values() {
    check(vec![
        case(
            "a value holds </parameter> and </function>: vllm-project/vllm#33965, \
             areal-project/AReaL#1458, SGLang's surplus brace",
            "<tool_call>\n<function=write_file>\n<parameter=content>\nThe tag </parameter> ends, </function> too, </tool_call> as well.\n</parameter>\n</function>\n</tool_call>",
            "",
            vec![(
                "write_file",
                json!({"content": "The tag </parameter> ends, </function> too, </tool_call> as well."}),
            )],
        ),
        case(
            "a value quotes a call's opener: vllm-project/vllm#33965",
            "<tool_call>\n<function=write_file>\n<parameter=content>\n<tool_call>\n<function=read>\n<parameter=other>\nx\n</parameter>\n</function>\n</tool_call>",
            "",
            vec![(
                "write_file",
                json!({"content": "<tool_call>\n<function=read>\n<parameter=other>\nx"}),
            )],
        ),
        case(
            "a value holds markup of every sort: ollama/ollama#12357, #12380, llama.cpp",
            "<tool_call>\n<function=write_file>\n<parameter=content>\n#include <functional>\n<p class=\"a\">1 < 2 && b > c</p>\n<Foo {...x} />\n<!-- <parameter=path> -->\n```\n}</\n</parameter>\n</function>\n</tool_call>",
            "",
            vec![(
                "write_file",
                json!({"content": "#include <functional>\n<p class=\"a\">1 < 2 && b > c</p>\n<Foo {...x} />\n<!-- <parameter=path> -->\n```\n}</"}),
            )],
        ),
        case(
            "entities are not decoded: lightseekorg/smg#1888",
            "<tool_call>\n<function=read>\n<parameter=path>\na&amp;b&lt;<![CDATA[x]]>\n</parameter>\n</function>\n</tool_call>",
            "",
            vec![("read", json!({"path": "a&amp;b&lt;<![CDATA[x]]>"}))],
        ),
        case(
            "newlines next to the tags are optional: ggml-org/llama.cpp#26763",
            "<tool_call><function=write_file><parameter=path>a</parameter><parameter=content>b</parameter></function></tool_call><tool_call><function=list></function></tool_call>",
            "",
            vec![("write_file", json!({"path": "a", "content": "b"})), ("list", json!({}))],
        ),
        case(
            "indentation and final newline stay: vllm-project/vllm#48753",
            "<tool_call>\n<function=write_file>\n<parameter=content>\n    indented\n\n\n</parameter>\n</function>\n</tool_call>",
            "",
            vec![("write_file", json!({"content": "    indented\n\n"}))],
        ),
        case(
            "carriage return and newline count as one newline",
            "<tool_call>\r\n<function=write_file>\r\n<parameter=content>\r\na\r\nb\r\n</parameter>\r\n</function>\r\n</tool_call>",
            "",
            vec![("write_file", json!({"content": "a\r\nb"}))],
        ),
        case(
            "brace counting closes wrongly: NVIDIA/TensorRT-LLM#19228, lightseekorg/smg",
            "<tool_call>\n<function=search>\n<parameter=query>\n}}{\n</parameter>\n<parameter=options>\n{\"a\": \"}\"}\n</parameter>\n</function>\n</tool_call>",
            "",
            vec![("search", json!({"query": "}}{", "options": {"a": "}"}}))],
        ),
        case(
            "no arguments at all: NVIDIA/TensorRT-LLM#19228, smg streaming",
            "<tool_call>\n<function=list>\n</function>\n</tool_call>\n<tool_call>{\"name\": \"list\"}</tool_call><list></list>",
            "",
            vec![("list", json!({})), ("list", json!({})), ("list", json!({}))],
        ),
        case(
            "a second call of the same name: vllm-project/vllm#33965, raullenchai/Rapid-MLX#181",
            "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</function>\n</tool_call>",
            "",
            vec![("read", json!({"path": "a"})), ("read", json!({"path": "a"}))],
        ),
        case(
            "two functions in one wrapper, the second undeclared",
            "<tool_call>\n<function=list>\n</function>\n<function=nobody>\n</function>\n</tool_call>",
            "",
            vec![("list", json!({})), ("nobody", json!({}))],
        ),
        case(
            "a repeated parameter: the last value wins",
            "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n<parameter=path>\nb\n</parameter>\n</function>\n</tool_call>",
            "",
            vec![("read", json!({"path": "b"}))],
        ),
    ]);
}

/// Whatever closes a call once more, and however it is spelt, goes with the call, as does the white
/// space around it; the first other text ends that.
#[test]
fn closers_behind_a_call() {
    let tools = toolset(&declared());
    let calls = [
        "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</function>",
        "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}",
        "<tool_call>\n<read>\n<path>a</path>\n</read>",
    ];
    let closers = [
        "</tool_call>\n</tool_call>",
        "</tool_call></tool_call>\n\n</tool_call>\n",
        "</tool_call>\u{a0}\u{2003}</tool_call>",
        "</tool_calls>",
        "</toolcall>",
        "</tool-call>",
        "</TOOL_CALL>",
        "</tool_cal>\n</tool_call>",
        "</func>\n</tool_call>",
        "</function>\n</tool_call>",
        "</tool_call>\n</function>\n</tool_call>",
        "</parameter>\n</function>\n</tool_call>",
        "</parameter></parameter></func></tool_call>",
        "</tool_call><|im_end|>",
        "<|im_end|>\n",
        "</function_calls>",
        "[/TOOL_CALLS]",
    ];
    let behind = [
        ("", ""),
        ("That is all.", "That is all."),
        ("The </tool_call> of `<|im_end|>`.", "The </tool_call> of `<|im_end|>`."),
        (". </tool_call>", ". </tool_call>"),
        ("}", "}"),
        ("</div>", "</div>"),
        ("<b>", "<b>"),
        ("{\"a\": 1}", "{\"a\": 1}"),
        ("```\n</tool_call>\n```", "```\n</tool_call>\n```"),
    ];
    for call in calls {
        for closers in closers {
            for (text, expected) in behind {
                let input = format!("Hi.\n\n{call}\n{closers}\n{text}");
                // What is open yet takes an object or a brace.
                if text.starts_with(['{', '}']) && !closers.contains("tool") {
                    continue;
                }
                let outcome = scan_every_way(&tools, &input).outcome();
                assert_eq!(outcome.text, format!("Hi.{expected}"), "{input:?}");
                let call = ("read".to_owned(), json!({"path": "a"}));
                assert_eq!(outcome.calls, [call], "{input:?}");
            }
            // Another call may follow.
            let input = format!("{call}\n{closers}\n{call}\n{closers}");
            let outcome = scan_every_way(&tools, &input).outcome();
            assert_eq!((outcome.text.as_str(), outcome.calls.len()), ("", 2), "{input:?}");
        }
    }
    check(vec![
        case(
            "the closer of a call in plain tags once more",
            "<read>\n<path>a</path>\n</read>\n</read></tool_call>\n</read>\nok </read>",
            "ok </read>",
            vec![("read", json!({"path": "a"}))],
        ),
        case(
            "a call whose own closer is mis-spelt",
            "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</func>\n</tool_call>\nok",
            "ok",
            vec![("read", json!({"path": "a"}))],
        ),
        case(
            "a wrapper whose closer is mis-spelt, and no closer of the call",
            "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</toolcall>\nok",
            "ok",
            vec![("read", json!({"path": "a"}))],
        ),
        case(
            "no closer of the value, and that of the wrapper mis-spelt",
            "<tool_call>\n<function=read>\n<parameter=path>\na\n</function>\n</tool_calls>\nok",
            "ok",
            vec![("read", json!({"path": "a"}))],
        ),
        case(
            "a value that quotes closers, mis-spelt ones too",
            "<tool_call>\n<function=read>\n<parameter=path>\n</func> </parameter> </param> </toolcall> a\n</parameter>\n</function>\n</tool_call>",
            "",
            vec![("read", json!({"path": "</func> </parameter> </param> </toolcall> a"}))],
        ),
        case(
            "one brace too many",
            "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}}\n</tool_call>\nok",
            "ok",
            vec![("read", json!({"path": "a"}))],
        ),
        case(
            "braces too many before another object, and at the end",
            "<tool_call>{\"name\": \"list\"}} }\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}}",
            "",
            vec![("list", json!({})), ("read", json!({"path": "a"}))],
        ),
        case(
            "white space of every kind before a call is no content",
            "Hi.\u{a0}\n\u{3000}<tool_call>\n<function=list>\n</function>\n</tool_call>",
            "Hi.",
            vec![("list", json!({}))],
        ),
        case(
            "white space of every kind that no call follows is content",
            "Hi.\u{a0}\n\u{3000}",
            "Hi.\u{a0}\n\u{3000}",
            vec![],
        ),
        case(
            "closers without a call are text",
            "</tool_call>\n</func>",
            "</tool_call>\n</func>",
            vec![],
        ),
    ]);
}

#[test]
fn types() {
    let value = |key: &str, text: &str| {
        let input = format!(
            "<tool_call>\n<function=search>\n<parameter={key}>\n{text}\n</parameter>\n</function>\n</tool_call>"
        );
        let outcome = scan_every_way(&toolset(&declared()), &input).outcome();
        outcome.calls[0].1.get(key).cloned()
    };
    // Union types become strings or are encoded twice: ollama's anyOf fix, vllm-project/vllm#36032.
    assert_eq!(value("limit", "5"), Some(json!(5)));
    assert_eq!(value("limit", "null"), Some(json!(null)));
    assert_eq!(value("filter", "nullable"), Some(json!("nullable")));
    assert_eq!(value("filter", " null "), Some(json!(null)));
    assert_eq!(value("filter", "None of them"), Some(json!("None of them")));
    // Declared strings turned into something else: qwen_proxy_poc, lightseekorg/smg, SGLang.
    for text in ["5", "true", "null", "{\"a\": 1}", "\"quoted\"", "1e5"] {
        assert_eq!(value("query", text), Some(json!(text)));
        assert_eq!(value("undeclared", text), Some(json!(text)));
    }
    // None, True, single quotes: vllm-project/vllm (Qwen3.5), sgl-project/sglang#36835.
    assert_eq!(value("limit", "None"), Some(json!(null)));
    assert_eq!(value("deep", "True"), Some(json!(true)));
    assert_eq!(value("options", "{'a': [None, 'it']}"), Some(json!({"a": [null, "it"]})));
    // A bad boolean is not false.
    assert_eq!(value("deep", "maybe"), Some(json!("maybe")));
    // An empty tag for an optional value that is no string: sgl-project/sglang#36835.
    assert_eq!(value("limit", ""), None);
    assert_eq!(value("query", ""), Some(json!("")));
    assert_eq!(value("filter", ""), Some(json!("")));
}

#[test]
fn nested_tags() {
    let file = json!({"type": "object", "properties": {"path": {"type": "string"}, "lines": {"type": "array", "items": {"type": "integer"}}}});
    let declared = [Declared {
        name: "read_files",
        parameters: vec![
            ("args", json!({"type": "object", "properties": {"file": file}})),
            ("note", json!({"type": "string"})),
        ],
    }];
    check_with(
        &declared,
        vec![case(
            "nested parameters, and tags in a string stay text",
            "<read_files>\n<args>\n<file>\n<path>a b</path>\n<lines><l>1</l><l>2</l></lines>\n</file>\n</args>\n<note><path>x</path></note>\n</read_files>",
            "",
            vec![(
                "read_files",
                json!({"args": {"file": {"path": "a b", "lines": [1, 2]}}, "note": "<path>x</path>"}),
            )],
        )],
    );
}

#[test]
fn json_calls() {
    check(vec![
        case(
            "</tool_call> inside a string: vllm-project/vllm#45167, #45310, #48353, \
             minpeter/ai-sdk-tool-call-middleware#297",
            "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a</tool_call>b\"}}\n</tool_call>",
            "",
            vec![("read", json!({"path": "a</tool_call>b"}))],
        ),
        case(
            "compact, pretty and turned round: SGLang qwen25",
            "<tool_call>{\"name\":\"read\",\"arguments\":{\"path\":\"a\"}}</tool_call>\n<tool_call>\n{\n  \"arguments\": {\n    \"path\": \"b\"\n  },\n  \"name\": \"read\",\n  \"id\": [1, {}]\n}\n</tool_call>",
            "",
            vec![("read", json!({"path": "a"})), ("read", json!({"path": "b"}))],
        ),
        case(
            "arguments as a string, `parameters`, none at all, null",
            "<tool_call>{\"name\":\"read\",\"arguments\":\"{\\\"path\\\": \\\"a\\\\n\\\"}\"}</tool_call><tool_call>{\"name\":\"read\",\"parameters\":{\"path\":\"b\"}}</tool_call><tool_call>{\"name\":\"list\",\"arguments\":null}</tool_call><tool_call>{\"arguments\":\"\",\"name\":\"list\"}</tool_call>",
            "",
            vec![
                ("read", json!({"path": "a\n"})),
                ("read", json!({"path": "b"})),
                ("list", json!({})),
                ("list", json!({})),
            ],
        ),
        case(
            "several objects and an array in one wrapper: ollama/ollama#11621",
            "<tool_call>\n{\"name\": \"list\"}\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n</tool_call><tool_call>[{\"name\": \"list\"}, {\"name\": \"read\", \"arguments\": {\"path\": \"b\"}}]</tool_call>",
            "",
            vec![
                ("list", json!({})),
                ("read", json!({"path": "a"})),
                ("list", json!({})),
                ("read", json!({"path": "b"})),
            ],
        ),
        case(
            "raw control characters and unescaped quotes: minpeter/ai-sdk-tool-call-middleware#298",
            "<tool_call>{\"name\": \"read\", \"arguments\": {\"path\": \"a\n\t\"b\" c\"}}</tool_call>",
            "",
            vec![("read", json!({"path": "a\n\t\"b\" c"}))],
        ),
        case(
            "trailing commas and single quotes: Qwen-Agent reads JSON5",
            "<tool_call>{'name': 'read', 'arguments': {'path': 'a',},}</tool_call>",
            "",
            vec![("read", json!({"path": "a"}))],
        ),
        case(
            "numbers keep their digits and types are not coerced",
            "<tool_call>{\"name\": \"read\", \"arguments\": {\"path\": 1.50}}</tool_call>",
            "",
            vec![("read", json!({"path": 1.5}))],
        ),
        case(
            "an unknown name is passed on whole, nothing leaks: SGLang qwen25 streaming",
            "<tool_call>{\"name\": \"nobody\", \"arguments\": {\"a\": {\"b\": 1}}}</tool_call>after",
            "after",
            vec![("nobody", json!({"a": {"b": 1}}))],
        ),
        case(
            "an object without a name is text",
            "<tool_call>{\"path\": \"a\"}</tool_call> ok",
            "<tool_call>{\"path\": \"a\"}</tool_call> ok",
            vec![],
        ),
        case(
            "the second object is no call",
            "<tool_call>{\"name\": \"list\"}\n{\"path\": \"a\"}</tool_call>",
            "{\"path\": \"a\"}</tool_call>",
            vec![("list", json!({}))],
        ),
        case(
            "arguments that are no object",
            "<tool_call>{\"name\": \"read\", \"arguments\": [1]}</tool_call>",
            "<tool_call>{\"name\": \"read\", \"arguments\": [1]}</tool_call>",
            vec![],
        ),
        case(
            "cut in the arguments: SGLang, smg",
            "<tool_call>{\"name\": \"read\", \"arguments\": {\"path\": \"a\", \"list\": [1, {\"x\": tr",
            "",
            vec![("read", json!({"path": "a", "list": [1, {}]}))],
        ),
        case(
            "cut before the arguments",
            "<tool_call>{\"name\": \"read\", \"argum",
            "<tool_call>{\"name\": \"read\", \"argum",
            vec![],
        ),
        case(
            "missing closing braces",
            "<tool_call>{\"name\": \"read\", \"arguments\": {\"path\": {\"a\": 1}</tool_call> ok",
            "ok",
            vec![("read", json!({"path": {"a": 1}}))],
        ),
    ]);
}

#[test]
fn think_blocks() {
    let tools = toolset(&declared());
    let scanned = scan_every_way(
        &tools,
        "\n<think>\nI could <tool_call>\n<function=list>\n</function>\n</tool_call>\n</think>\n\nNo need.",
    );
    assert_eq!(scanned.text, "No need.");
    assert_eq!(
        scanned.reasoning,
        "\nI could <tool_call>\n<function=list>\n</function>\n</tool_call>\n"
    );
    assert!(scanned.calls.is_empty());
    // A closing tag at the very start is dropped, a later one is text.
    assert_eq!(scan_every_way(&tools, "</think>\n\nHi </think>").text, "Hi </think>");
    assert_eq!(scan_every_way(&tools, " <th").text, " <th");
    assert_eq!(scan_every_way(&tools, "<think>half </thi").reasoning, "half </thi");
    // Where `think` is a tool, its tag is the tool's.
    let declared =
        [Declared { name: "think", parameters: vec![("thought", json!({"type": "string"}))] }];
    let scanned = scan_every_way(&toolset(&declared), "<think><thought>x</thought></think>");
    assert_eq!(scanned.calls[0].1, "{\"thought\":\"x\"}");
}

#[test]
fn blanks_have_a_limit() {
    let tools = toolset(&declared());
    let (few, many) = (" ".repeat(256), "\n".repeat(257));
    for (blanks, text) in [(&few, "a".to_owned()), (&many, format!("a{many}"))] {
        let scanned = scan_every_way(&tools, &format!("a{blanks}<list></list>"));
        assert_eq!((scanned.text, scanned.calls.len()), (text, 1));
    }
    let input = format!("<list>{many}</list>");
    assert_eq!(scan_every_way(&tools, &input).text, input);
}

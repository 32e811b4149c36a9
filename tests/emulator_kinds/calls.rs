//! Native calls, and those that a parser leaves or breaks.

use super::*;

/// The calls of a stream as they stand on the wire: index, ids, names, and the joined arguments.
fn calls(answer: &Answer) -> Vec<(u64, Vec<Value>, Vec<Value>, String)> {
    let mut calls: Vec<(u64, Vec<Value>, Vec<Value>, String)> = Vec::new();
    for chunk in answer.chunks() {
        for call in chunk["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().expect("an index");
            let function = &call["function"];
            if calls.last().is_none_or(|call| call.0 != index) {
                calls.push((index, Vec::new(), Vec::new(), String::new()));
            }
            let last = calls.last_mut().expect("just there");
            last.1.push(call["id"].clone());
            last.2.push(function["name"].clone());
            last.3.push_str(function["arguments"].as_str().unwrap_or_default());
        }
    }
    calls
}

/// An empty list of tools makes its model call what nobody offered; the others do not.
#[tokio::test]
async fn an_empty_list_of_tools() {
    for kind in kinds() {
        let body = with(chat(kind, "Hello"), json!({"tools": []}));
        let called = ask(kind, Style::default(), &body).await.text().contains("web_search");
        assert_eq!(called, kind == Kind::Portal, "{kind}");
    }
}

/// How calls come.
#[tokio::test]
async fn native_calls() {
    for kind in kinds() {
        for (style, year) in STYLES {
            let text = "get_time {\"zone\": \"CET\"} and get_date {\"n\":12345678901234567890123}";
            let fields = json!({"tools": tools(), "parallel_tool_calls": true});
            let body = with(chat(kind, text), fields);
            let answer = ask(kind, style, &body).await;
            let got = calls(&answer);
            assert_eq!(got.len(), 2, "{kind} {year}");
            for (call, (at, name, arguments)) in got.iter().zip([
                (0, "get_time", "{\"zone\": \"CET\"}"),
                (1, "get_date", "{\"n\": 12345678901234567890123}"),
            ]) {
                assert_eq!((call.0, &*call.3), (at, arguments), "{kind} {year}");
                assert!(call.1[0].as_str().is_some_and(|id| id.len() > 7), "{kind} {year}");
                assert_eq!(call.2[0], name);
                let (ids, names) = (&call.1[1..], &call.2[1..]);
                // Empty, null, or not there at all.
                let none =
                    if kind == Kind::DashScope && year == "2025" { json!("") } else { json!(null) };
                assert!(ids.iter().chain(names).all(|word| *word == none), "{kind} {year}");
                assert_eq!(ids.is_empty(), kind == Kind::Ollama, "whole calls");
            }
            let reason = answer.chunks().iter().rev().find_map(|chunk| {
                let reason = chunk["choices"][0]["finish_reason"].as_str()?;
                Some(reason.to_owned())
            });
            let stop = kind == Kind::Ollama && year == "2025";
            assert_eq!(reason.as_deref(), Some(if stop { "stop" } else { "tool_calls" }), "{kind}");

            // DashScope: one call, unless more are allowed; elsewhere more, unless they are not.
            let usual = with(chat(kind, text), json!({"tools": tools()}));
            let count = calls(&ask(kind, style, &usual).await).len();
            assert_eq!(count, if kind == Kind::DashScope { 1 } else { 2 }, "{kind}");
            let single = with(usual, json!({"parallel_tool_calls": false}));
            assert_eq!(calls(&ask(kind, style, &single).await).len(), 1, "{kind}");
        }
    }
}

#[tokio::test]
async fn the_choice_of_tools_is_obeyed() {
    for kind in kinds() {
        let names = async |text: &str, choice: Value| -> Vec<String> {
            let fields = json!({"tools": tools(), "tool_choice": choice});
            let answer = ask(kind, Style::Autumn2026, &with(chat(kind, text), fields)).await;
            let calls = calls(&answer);
            calls.iter().map(|call| call.2[0].as_str().expect("a name").to_owned()).collect()
        };
        let named = json!({"type": "function", "function": {"name": "get_date"}});
        assert!(names("Hello", json!("auto")).await.is_empty(), "{kind}");
        assert_eq!(names("get_time", json!("auto")).await, ["get_time"], "{kind}");
        assert_eq!(names("Hello", json!("required")).await, ["get_time"], "{kind}");
        assert_eq!(names("get_time", named).await, ["get_date"], "{kind}");
        assert!(names("get_time", json!("none")).await.is_empty(), "{kind}");
    }
    // vLLM says `stop` behind a call that was demanded.
    let fields = json!({"tools": tools(), "tool_choice": "required"});
    let answer = ask(Kind::Vllm, Style::default(), &with(chat(Kind::Vllm, "Hello"), fields)).await;
    assert!(answer.text().contains("\"finish_reason\":\"stop\""));
}

/// What the server's parser does not see stays in the text.
#[tokio::test]
async fn calls_that_the_parser_does_not_see() {
    let coder_form =
        "<function=get_time>\n<parameter=zone>\nCET\n</parameter>\n</function>\n</tool_call>";
    let hermes =
        "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"zone\": \"CET\"}}\n</tool_call>";
    for kind in kinds() {
        let left = async |form: &str| {
            let text = format!("emulate:lead=So:\nget_time(zone=CET) emulate:unparsed={form}");
            let body = with(chat(kind, &text), json!({"tools": tools()}));
            let answer = ask(kind, Style::Autumn2026, &body).await;
            assert!(calls(&answer).is_empty(), "{kind} {form}");
            assert!(answer.text().contains("\"stop\""), "{kind} {form}");
            let thought = answer.joined("reasoning") + &answer.joined("reasoning_content");
            (answer.joined("content"), thought)
        };
        assert_eq!(left("bare").await.0, format!("So:\n\n{coder_form}"), "{kind}");
        assert_eq!(left("coder").await.0, format!("So:\n\n<tool_call>\n{coder_form}"), "{kind}");
        assert_eq!(left("hermes").await.0, format!("So:\n\n{hermes}"), "{kind}");
        assert_eq!(left("tags").await.0, "So:\n\n<get_time>\n<zone>CET</zone>\n</get_time>");
        let (text, thought) = left("reasoning").await;
        assert_eq!(text, "So:\n\n", "{kind}");
        assert!(thought.ends_with("</function>\n</tool_call>"), "{kind} {thought}");
    }
}

/// What `answers` says is the model's text: the parser reads the two formats that it knows.
#[tokio::test]
async fn what_the_model_is_told_to_say_goes_through_the_parser() {
    for kind in kinds() {
        let emulator = builder(kind)
            .answers(|message, earlier| {
                let call = "Well.\n\n<tool_call>\n<function=get_time>\n<parameter=zone>\n7\n\
                            </parameter>\n</function>\n</tool_call>";
                match earlier.len() {
                    0 => Some(call.to_owned()),
                    2 => {
                        assert_eq!(earlier, ["Begin", call], "as the template shows it");
                        Some(format!("Told: {message}"))
                    }
                    _ => None,
                }
            })
            .build();
        let body = with(chat(kind, "Begin"), json!({"tools": tools(), "stream": false}));
        let first = post(&emulator, "/v1/chat/completions", &body).await.json();
        let message = &first["choices"][0]["message"];
        let keeps = matches!(kind, Kind::Vllm | Kind::SgLang);
        assert_eq!(message["content"], if keeps { "Well.\n\n" } else { "Well." }, "{kind}");
        let function = &message["tool_calls"][0]["function"];
        assert_eq!(function["arguments"], "{\"zone\":\"7\"}", "declared as a string");
        let mut body = body;
        let messages = body["messages"].as_array_mut().expect("a list");
        // The client sends its own copy, without the white space.
        messages.push(json!({"role": "assistant", "content": "Well.",
            "tool_calls": message["tool_calls"]}));
        for result in ["one", "two"] {
            let id = &message["tool_calls"][0]["id"];
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": result}));
        }
        let second = post(&emulator, "/v1/chat/completions", &body).await.json();
        let text = second["choices"][0]["message"]["content"].as_str().expect("text");
        assert_eq!(text, "Told: one\n\ntwo", "{kind}");
        let left = with(chat(kind, "emulate:unparsed"), json!({"tools": tools()}));
        let left = post(&emulator, "/v1/chat/completions", &left).await;
        assert!(left.joined("content").contains("<tool_call>"), "{kind}");
    }
}

/// What each parser has made of a call.
#[tokio::test]
async fn calls_that_the_parser_breaks() {
    for kind in kinds() {
        let text = "get_time {\"zone\": \"CET\"} emulate:broken_call";
        let body = with(chat(kind, text), json!({"tools": tools()}));
        let answer = ask(kind, Style::Autumn2026, &body).await;
        let got = calls(&answer);
        match kind {
            Kind::Vllm => assert_eq!(got[0].3, "\"zone\": \"CET\"}", "#35266: no opening brace"),
            Kind::SgLang => assert_eq!(got[0].3, "{\"zone\": \"CET\"", "never closed"),
            Kind::Ollama => assert!(got.is_empty() && answer.joined("content").is_empty()),
            Kind::LlamaCpp => {
                assert!(got.is_empty() && answer.text().contains("Failed to parse input"));
                let whole = with(body, json!({"stream": false}));
                assert_eq!(ask(kind, Style::Autumn2026, &whole).await.status, 500);
            }
            _ => {
                assert_eq!(got[0].2[0], "", "#18412: the name comes late");
                assert_eq!(got[0].2.last().expect("a name"), "get_time");
                assert_eq!(got[0].3, "{\"zone\": \"CET\"}");
            }
        }
    }
}

/// Self-hosted servers: `--jinja`.
#[tokio::test]
async fn llama_cpp_needs_a_switch_for_tools() {
    let body = chat(Kind::LlamaCpp, "get_time emulate:no_jinja");
    let plain = ask(Kind::LlamaCpp, Style::default(), &body).await;
    assert_eq!(plain.status, 200, "without tools");
    let tools = with(body, json!({"tools": tools()}));
    let answer = ask(Kind::LlamaCpp, Style::default(), &tools).await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("--jinja"));
}

/// Repeated ids and names, and one index for all.
#[tokio::test]
async fn calls_that_are_named_again_or_not_counted() {
    for kind in kinds().filter(|kind| *kind != Kind::Ollama) {
        let text = "emulate:repeat_names get_time {\"zone\": \"CET\"}";
        let body = with(chat(kind, text), json!({"tools": tools()}));
        let got = calls(&ask(kind, Style::Autumn2026, &body).await);
        assert!(got[0].1.len() > 2 && got[0].1.iter().all(|id| *id == got[0].1[0]), "{kind}");
        assert!(got[0].2.iter().all(|name| name == "get_time"), "{kind}");
    }
    for kind in kinds() {
        let text = "emulate:calls_at_zero get_time {} get_date {}";
        let body = with(chat(kind, text), json!({"tools": tools(), "parallel_tool_calls": true}));
        let answer = ask(kind, Style::Autumn2026, &body).await;
        let got = calls(&answer);
        assert_eq!((got.len(), got[0].0), (1, 0), "{kind}");
        assert_eq!(
            got[0].2.iter().filter(|name| name.as_str().is_some_and(|n| !n.is_empty())).count(),
            2
        );
    }
}

//! Answers: streams, and whole ones.

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tower_qwen::{
    ErrorKind,
    chat::{ChatEvent, FinishReason, Started, ToolCall},
    qwen::compatible::{CompatibleLayer, Server, ThinkTags},
};

use crate::upstream::{DONE, Upstream, delta, events, finish, generic, request};

/// DashScope's own transcript: explicit nulls, any key order, usage in a chunk of its own.
#[tokio::test]
async fn dashscope_stream() {
    let answer = generic(concat!(
        r#"data: {"choices":[{"delta":{"content":"","role":"assistant"},"index":0,"logprobs":null,"finish_reason":null}],"object":"chat.completion.chunk","usage":null,"created":1790000000,"system_fingerprint":null,"model":"qwen-plus","id":"chatcmpl-demo"}"#, "\n\n",
        r#"data: {"choices":[{"delta":{"content":null,"reasoning_content":"Hm"},"finish_reason":null,"index":0,"logprobs":null}],"usage":null,"model":"qwen-plus","id":"chatcmpl-demo"}"#, "\n\n",
        r#"data: {"choices":[{"delta":{"content":"Hi","reasoning_content":null},"finish_reason":null,"index":0,"logprobs":null}],"usage":null,"id":"chatcmpl-demo"}"#, "\n\n",
        r#"data: {"choices":[{"finish_reason":"stop","delta":{"content":""},"index":0,"logprobs":null}],"usage":null,"id":"chatcmpl-demo"}"#, "\n\n",
        r#"data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"completion_tokens_details":{"reasoning_tokens":6},"prompt_tokens_details":{"cached_tokens":0}},"id":"chatcmpl-demo"}"#, "\n\n",
        "data: [DONE]\n\n",
    ))
    .await
    .expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), ("Hm", "Hi"));
    assert_eq!(answer.finish_reason, Some(FinishReason::Stop));
    let usage = answer.usage.expect("sent");
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (9, 12, 21));
    assert_eq!((usage.cached_tokens, usage.reasoning_tokens), (Some(0), Some(6)));
}

/// DashScope: tool-call deltas after the first carry empty ids and names, or null arguments.
#[tokio::test]
async fn empty_ids_and_names_after_the_first_delta() {
    let call = |call: Value| delta(json!({"tool_calls": [call]}));
    let text = events(&[
        call(
            json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": null}}),
        ),
        call(
            json!({"index": 0, "id": "", "type": "function", "function": {"name": "", "arguments": "{\"a\""}}),
        ),
        call(json!({"index": 0, "id": null, "function": {"name": null, "arguments": ":1}"}})),
        call(json!({"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{}"}})),
        call(json!({"index": 1, "id": "c2", "function": {"name": "g", "arguments": ""}})),
        json!({"choices": [{"finish_reason": "tool_calls", "delta": {}, "index": 0}]}),
    ]);
    let answer = generic(&(text + DONE)).await.expect("complete");
    assert_eq!(
        answer.tool_calls,
        [ToolCall::new("c1", "f", "{\"a\":1}"), ToolCall::new("c2", "g", "{}")]
    );
    assert_eq!(answer.finish_reason, Some(FinishReason::ToolCalls));
}

/// Self-hosted servers: whole calls in one delta, all with index 0, ids tell them apart; no ids at
/// all; `stop` behind calls; arguments as an object.
#[tokio::test]
async fn calls_that_are_not_counted_or_named_properly() {
    let text = events(&[
        delta(json!({"tool_calls": [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
            {"index": 0, "id": "b", "function": {"name": "f", "arguments": {"x": [1]}}},
        ]})),
        finish("stop"),
    ]);
    let answer = generic(&text).await.expect("complete");
    assert_eq!(
        answer.tool_calls,
        [ToolCall::new("a", "f", "{}"), ToolCall::new("b", "f", "{\"x\":[1]}")]
    );
    assert_eq!(answer.finish_reason, Some(FinishReason::ToolCalls), "not `stop` behind calls");

    let text = events(&[
        delta(json!({"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]})),
        delta(json!({"tool_calls": [{"function": {"arguments": "}"}}]})),
        finish("tool_calls"),
    ]);
    let answer = generic(&text).await.expect("complete");
    assert!(answer.tool_calls[0].id.starts_with("call_"), "{:?}", answer.tool_calls);
    assert_eq!(answer.tool_calls[0].arguments, "{}");
}

/// DashScope: arguments that are no string come to the client as they stand, in streams and whole.
#[tokio::test]
async fn bare_arguments_keep_every_digit() {
    let called = FinishReason::ToolCalls;
    for (json, expected, reason) in [
        (
            r#"{"id":123456789012345678901234567890}"#,
            r#"{"id":123456789012345678901234567890}"#,
            called,
        ),
        (r#"{"x": 1e400, "y": 0.10}"#, r#"{"x": 1e400, "y": 0.10}"#, called),
        (r#"{"b":1,"a":2,"b":3}"#, r#"{"b":1,"a":2,"b":3}"#, called),
        (r#"{"l":[1,true]}"#, r#"{"l":[1,true]}"#, called),
        (r#"[{"x": 1e400}]"#, r#"{"x": 1e400}"#, called),
        // No arguments at all; and a list of them, which cannot be meant.
        ("null", "{}", called),
        (r#"[1,true]"#, "", FinishReason::Length),
        (r#""{\"a\":\"\u00e9\ud83c\udf0c\"}""#, "{\"a\":\"\u{e9}\u{1f30c}\"}", called),
        (r#""{}""#, "{}", called),
    ] {
        let call = format!(
            r#"{{"tool_calls":[{{"index":0,"id":"c","function":{{"name":"f","arguments":{json}}}}}]}}"#
        );
        let reasoned = "\"finish_reason\":\"tool_calls\"";
        let stream = format!("data: {{\"choices\":[{{\"delta\":{call},{reasoned}}}]}}\n\n{DONE}");
        let body = format!("{{\"choices\":[{{\"message\":{call},{reasoned}}}]}}");
        let whole = Upstream { content_type: "application/json", ..Upstream::stream(&body) };
        for upstream in [Upstream::stream(&stream), whole] {
            let answer = upstream.answer(CompatibleLayer::new(Server::Vllm), request()).await;
            let answer = answer.expect("complete");
            assert_eq!(answer.tool_calls, [ToolCall::new("c", "f", expected)], "{json}");
            assert_eq!(answer.finish_reason, Some(reason), "{json}");
        }
    }
}

/// Arguments that come before the name wait for it; those of a call that is never named are not lost
/// without a word.
#[tokio::test]
async fn late_and_missing_names() {
    let text = events(&[
        delta(json!({"tool_calls": [{"index": 0, "id": "x", "function": {"arguments": ""}}]})),
        delta(
            json!({"tool_calls": [{"index": 1, "id": "c", "function": {"arguments": "{\"a\":"}}]}),
        ),
        delta(json!({"tool_calls": [{"index": 1, "function": {"name": "f", "arguments": "1}"}}]})),
        finish("tool_calls"),
    ]);
    let answer = generic(&text).await.expect("complete");
    assert_eq!(answer.tool_calls, [ToolCall::new("c", "f", "{\"a\":1}")]);

    let nameless = events(&[
        delta(json!({"tool_calls": [{"index": 0, "id": "x", "function": {"arguments": "{}"}}]})),
        finish("tool_calls"),
    ]);
    let error = generic(&nameless).await.expect_err("a call is lost");
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Upstream, "the upstream did not name the function of call 1 of its answer")
    );
}

/// What an answer's calls may take has limits, and who passes one is told which.
#[tokio::test]
async fn limits_of_calls() {
    let calls = |calls: Vec<Value>| delta(json!({ "tool_calls": calls }));
    let named = |index: usize| json!({"index": index, "function": {"name": "f"}});
    let bare = |index: usize, len: usize| json!({"index": index, "id": "c", "function": {"arguments": "x".repeat(len)}});
    let filled = |index: usize| {
        let arguments = json!({"a": "x".repeat(60_000)}).to_string();
        json!({"index": index, "id": index.to_string(), "function": {"arguments": arguments}})
    };
    let many = |count: usize, call: &dyn Fn(usize) -> Value| (0..count).map(call).collect();
    let each = |count: usize, call: &dyn Fn(usize) -> Value| -> Vec<Value> {
        (0..count).map(|at| calls(vec![call(at)])).collect()
    };
    let too_many = "the upstream sent more than 1024 tool calls";
    let no_name = "the upstream did not name the function of call 1 of its answer";
    let too_long =
        "the upstream sent more than 65536 bytes of arguments for calls that it did not name";
    for (chunks, outcome) in [
        (vec![calls(many(1024, &named))], Ok(1024)),
        (vec![calls(many(1025, &named))], Err(too_many)),
        (vec![calls(vec![json!({}); 100_000])], Err(too_many)),
        (each(1024, &named), Ok(1024)),
        (each(1025, &named), Err(too_many)),
        (each(1025, &|index| json!({ "index": index })), Err(too_many)),
        (
            each(1025, &|at| json!({"index": 0, "id": at.to_string(), "function": {"name": "f"}})),
            Err(too_many),
        ),
        // Over all calls together, and what has a name now does not wait.
        (each(64, &|index| bare(index, 1024)), Err(no_name)),
        (each(65, &|index| bare(index, 1024)), Err(too_long)),
        (vec![calls(vec![bare(0, 65_537)])], Err(too_long)),
        (
            (0..100).flat_map(|at| [calls(vec![filled(at)]), calls(vec![named(at)])]).collect(),
            Ok(100),
        ),
    ] {
        let hi = [delta(json!({"content": "Hi"}))];
        let text = events(&hi) + &events(&chunks) + &events(&[finish("tool_calls")]);
        let found = generic(&text).await.map(|answer| answer.tool_calls.len());
        let expected = outcome.map_err(|said| (ErrorKind::Upstream, said.to_owned()));
        let found = found.map_err(|error| (error.kind(), error.message().to_owned()));
        assert_eq!(found, expected);
    }
    // Choices that nobody asked for cost nothing.
    let mut choices =
        vec![json!({"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"})];
    choices.resize(10_000, json!({"index": 1}));
    let answer = generic(&events(&[json!({ "choices": choices })])).await.expect("complete");
    assert_eq!(answer.text, "Hi");
}

/// Self-hosted servers: `reasoning`, `reasoning_content`, or both with the same text.
#[tokio::test]
async fn reasoning_under_either_name() {
    for names in [&["reasoning"][..], &["reasoning_content"], &["reasoning", "reasoning_content"]] {
        let thought: serde_json::Map<_, _> =
            names.iter().map(|name| ((*name).to_owned(), json!("hm"))).collect();
        let text = events(&[delta(Value::Object(thought)), delta(json!({"content": "Hi"}))]);
        let answer = generic(&(text + &events(&[finish("stop")]))).await.expect("complete");
        assert_eq!((&*answer.reasoning, &*answer.text), ("hm", "Hi"), "{names:?}");
    }
}

/// `<think>` in the content, its tags cut anywhere; off by option.
#[tokio::test]
async fn think_tags_in_the_content() {
    let pieces = ["<th", "ink>", "a <", " b</thi", "nk>\n", "\nHi <think>"];
    let mut chunks: Vec<_> = pieces.iter().map(|piece| delta(json!({"content": piece}))).collect();
    chunks.push(finish("stop"));
    let text = events(&chunks);
    let answer = generic(&text).await.expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), ("a < b", "Hi <think>"));

    let layer = CompatibleLayer::new(Server::Vllm).think_tags(ThinkTags::Ignore);
    let answer = Upstream::stream(&text).answer(layer, request()).await.expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), ("", &*pieces.concat()));
}

/// White space before a think block is held, but not without end: a run of it, as of a
/// model that is kept to JSON, is the answer, reaches the client while it comes, and is not lost.
#[tokio::test]
async fn a_run_of_white_space_is_an_answer() {
    let piece = delta(json!({"content": "\n    "}));
    for first in [vec![], vec![delta(json!({"reasoning_content": "hm"}))]] {
        // More events than may pass before the commit point.
        let mut chunks = first.clone();
        chunks.extend(vec![piece.clone(); 2_000]);
        let cut = Upstream::stream(&events(&chunks));
        chunks.push(finish("length"));
        let answer = generic(&events(&chunks)).await.expect("complete");
        assert_eq!(answer.text, "\n    ".repeat(2_000));
        assert_eq!(answer.finish_reason, Some(FinishReason::Length));

        // It does not wait for the end: a stream that breaks off has given it.
        let stream = cut.open(CompatibleLayer::new(Server::Generic), request()).await;
        let given: Vec<_> = stream.expect("committed").collect().await;
        let text: String = given
            .iter()
            .filter_map(|event| match event {
                Ok(ChatEvent::Text(text)) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(text, "\n    ".repeat(2_000));
        assert!(given.len() > 1_900, "{}", given.len());
    }
    let short = events(&[delta(json!({"content": "\n"})), finish("stop")]);
    assert_eq!(generic(&short).await.expect("complete").text, "\n");
}

/// What is held of the content comes before the calls that follow it.
#[tokio::test]
async fn held_content_comes_before_a_call() {
    let call = delta(json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}));
    for held in ["<thi", "\n\n<think"] {
        let text =
            events(&[delta(json!({"content": held})), call.clone(), finish("tool_calls")]) + DONE;
        let stream = Upstream::stream(&text).open(CompatibleLayer::new(Server::Vllm), request());
        let given: Vec<_> = stream.await.expect("committed").collect().await;
        assert!(
            matches!(
                &given[..],
                [
                    Ok(ChatEvent::Started(_)),
                    Ok(ChatEvent::Text(text)),
                    Ok(ChatEvent::ToolCall { .. }),
                    Ok(ChatEvent::ToolArguments { json, .. }),
                    Ok(ChatEvent::Finished(_)),
                ]
                    if text == held && json == "{}"
            ),
            "{given:?}"
        );
    }
}

/// `""` and `"null"` are no finish reasons; the role may come again.
#[tokio::test]
async fn empty_finish_reasons_do_not_end_the_answer() {
    let chunk = |content: &str, reason: &str| json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": reason}]});
    let text = events(&[chunk("a", ""), chunk("b", "null"), chunk("c", "length")]);
    let answer = generic(&text).await.expect("complete");
    assert_eq!((&*answer.text, answer.finish_reason), ("abc", Some(FinishReason::Length)));
}

/// One of finish reason and `[DONE]` is enough, none is a cut.
#[tokio::test]
async fn how_streams_end() {
    let text = events(&[delta(json!({"content": "a"}))]);
    let answer = generic(&(text.clone() + DONE)).await.expect("[DONE] says that it is complete");
    assert_eq!(answer.finish_reason, Some(FinishReason::Stop));
    let answer = generic(&(text.clone() + &events(&[finish("stop")]))).await;
    assert!(answer.is_ok(), "a finish reason does");
    let without_newlines = text.clone() + "data: [DONE]";
    assert!(generic(&without_newlines).await.is_ok());

    // Ollama's silent end: one empty chunk with an empty model name, then nothing.
    let ollama = json!({"id": "", "model": "", "choices": [{"index": 0, "delta": {}, "finish_reason": null}]});
    for cut in [text.clone(), text + &events(&[ollama])] {
        assert_eq!(generic(&cut).await.expect_err("cut").kind(), ErrorKind::Truncated);
    }
    assert_eq!(generic("").await.expect_err("nothing").kind(), ErrorKind::Truncated);
}

/// Self-hosted servers: usage on every chunk (`continuous_usage_stats`), on the finish chunk, or
/// after it.
#[tokio::test]
async fn usage_wherever_it_stands() {
    let with = |mut chunk: Value, n: u64| {
        chunk["usage"] = json!({"prompt_tokens": 3, "completion_tokens": n, "total_tokens": 3 + n});
        chunk
    };
    let alone = json!({"choices": []});
    for text in [
        events(&[with(delta(json!({"content": "a"})), 1), with(finish("stop"), 2)]),
        events(&[delta(json!({"content": "a"})), finish("stop"), with(alone, 2)]) + DONE,
    ] {
        let usage = generic(&text).await.expect("complete").usage.expect("sent");
        assert_eq!(usage.total_tokens, 5);
    }
}

/// A server that ignores `stream`.
#[tokio::test]
async fn a_whole_answer_is_read_as_one() {
    let body = json!({"id": "i", "choices": [{"index": 0, "finish_reason": null,
        "message": {"role": "assistant", "content": "<think>hm</think>Hi", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}});
    let upstream = Upstream::json(200, &body);
    let answer = upstream.answer(CompatibleLayer::new(Server::Generic), request()).await;
    let answer = answer.expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), ("hm", "Hi"));
    assert_eq!(answer.tool_calls, [ToolCall::new("c", "f", "{}")]);
    assert_eq!(answer.usage.expect("sent").total_tokens, 3);
}

/// An event stream is known by its beginning, whatever it is said to be.
#[tokio::test]
async fn a_stream_under_another_media_type() {
    let text = events(&[delta(json!({"content": "Hi"})), finish("stop")]) + DONE;
    let media_types =
        ["text/plain", "application/x-ndjson", "application/json", "application/octet-stream", ""];
    for content_type in media_types {
        for before in
            ["", "\u{feff}", "\n\n", ": ping\n\n", "id: 7\n", "event: chunk\n", "retry: 1\n\n"]
        {
            let whole = Bytes::from(format!("{before}{text}"));
            let by_byte = (0..whole.len()).map(|at| whole.slice(at..=at)).collect();
            for pieces in [vec![whole.clone()], by_byte] {
                let upstream =
                    Upstream { status: 200, content_type, pieces, seen: Default::default() };
                let answer = upstream.answer(CompatibleLayer::new(Server::Vllm), request()).await;
                assert_eq!(answer.expect("complete").text, "Hi", "{content_type} {before:?}");
            }
        }
    }

    // It is given as it comes, and what fails in it fails as in any stream.
    let cut = events(&[delta(json!({"content": "Hi"}))]);
    let upstream = Upstream { content_type: "text/plain", ..Upstream::stream(&cut) };
    let stream = upstream.open(CompatibleLayer::new(Server::Vllm), request()).await;
    let given: Vec<_> = stream.expect("committed").collect().await;
    let started = Started::new().with_response_id("i");
    assert_eq!(given[0].as_ref().ok(), Some(&ChatEvent::Started(started.into())));
    assert!(matches!(&given[1], Ok(ChatEvent::Text(text)) if text == "Hi"));
    let error = given[2].as_ref().expect_err("cut");
    assert_eq!(error.kind(), ErrorKind::Truncated);

    // With an error's status it is an error, and text and pages are no streams.
    for (status, content_type, body) in [
        (500, "text/plain", &*text),
        (200, "text/plain", "the patient's name is Ann"),
        (200, "text/html", "<html>data: Ann</html>"),
        (200, "application/json", "[\"data: Ann\"]"),
        (200, "text/plain", &*format!("{}{text}", "\n".repeat(300))),
    ] {
        let upstream = Upstream { status, content_type, ..Upstream::stream(body) };
        let answer = upstream.answer(CompatibleLayer::new(Server::Vllm), request()).await;
        let error = answer.expect_err(body);
        assert_eq!(error.kind(), ErrorKind::Upstream, "{body}");
        assert!(!error.message().contains("Ann"), "{error}");
    }
}

/// A number that does not fit into any type, in a field that nobody reads, costs no answer.
#[tokio::test]
async fn numbers_out_of_range_in_a_whole_answer() {
    let body = r#"{"created": 1e400, "choices": [{"index": 0, "logprobs": -1e999, "message":
        {"content": "Hi", "reasoning_content": "hm"}, "finish_reason": "stop"}], "timings": [1e400]}"#;
    let upstream = Upstream { content_type: "application/json", ..Upstream::stream(body) };
    let answer = upstream.answer(CompatibleLayer::new(Server::Vllm), request()).await;
    let answer = answer.expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), ("hm", "Hi"));
}

/// DashScope: a whole answer without a finish reason was cut at 300 s, unless it ends with whole
/// calls.
#[tokio::test]
async fn a_whole_answer_without_a_finish_reason() {
    let call =
        |arguments: &str| json!([{"id": "c", "function": {"name": "f", "arguments": arguments}}]);
    for (message, reason) in [
        (json!({"content": "half of"}), FinishReason::Length),
        (json!({"content": null, "tool_calls": call("{\"a\":1}")}), FinishReason::ToolCalls),
        (json!({"content": "x", "tool_calls": call("{\"a\":")}), FinishReason::Length),
    ] {
        let body = json!({"choices": [{"index": 0, "finish_reason": null, "message": message}]});
        let upstream = Upstream::json(200, &body);
        let answer = upstream.answer(CompatibleLayer::new(Server::DashScope), request()).await;
        assert_eq!(answer.expect("an answer").finish_reason, Some(reason), "{body}");
    }
}

/// `reasoning` in a whole answer too (vLLM of 2026, Ollama).
#[tokio::test]
async fn reasoning_of_a_whole_answer() {
    for name in ["reasoning", "reasoning_content"] {
        let mut message = json!({"role": "assistant", "content": "Hi"});
        message[name] = "hm".into();
        let body = json!({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]});
        let upstream = Upstream::json(200, &body);
        let answer = upstream.answer(CompatibleLayer::new(Server::Vllm), request()).await;
        let answer = answer.expect("complete");
        assert_eq!((&*answer.reasoning, &*answer.text), ("hm", "Hi"));
    }
}

/// Deltas with many explicit nulls (DashScope). SGLang's first chunk has null fields.
#[tokio::test]
async fn explicit_nulls() {
    let nulls = json!({"role": null, "content": null, "reasoning_content": null, "reasoning": null,
        "function_call": null, "refusal": null, "tool_calls": null, "audio": null});
    let mut text = nulls.clone();
    text["content"] = "Hi".into();
    let mut call = nulls.clone();
    call["tool_calls"] = json!([{"index": 0, "id": "c", "type": "function",
        "function": {"name": "f", "arguments": null}}]);
    let with_null_delta = json!({"choices": [{"index": 0, "delta": null, "finish_reason": null}],
        "usage": null, "error": null});
    let text = events(&[with_null_delta, delta(nulls), delta(text), delta(call), finish("stop")]);
    let answer = generic(&text).await.expect("complete");
    assert_eq!((&*answer.text, answer.tool_calls.len()), ("Hi", 1));
}

/// The finish reason is missing on middle chunks (a vLLM of 2025); `stop_reason` (vLLM),
/// `matched_stop` (SGLang) and `timings` (llama.cpp) stand beside the last.
#[tokio::test]
async fn final_chunks() {
    let middle = json!({"choices": [{"index": 0, "delta": {"content": "Hi"}}]});
    for more in [
        json!({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop", "stop_reason": 151_645}]}),
        json!({"choices": [{"index": 0, "delta": {"content": null}, "finish_reason": "stop", "matched_stop": "x"}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "timings": {"prompt_n": 1},
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}),
    ] {
        let answer = generic(&events(&[middle.clone(), more])).await.expect("complete");
        assert_eq!((&*answer.text, answer.finish_reason), ("Hi", Some(FinishReason::Stop)));
    }
}

/// llama.cpp keeps a stream alive with bare `:` lines; after DashScope's `data:` there may be no
/// space.
#[tokio::test]
async fn comments_keep_a_stream_alive() {
    let chunk = delta(json!({"content": "Hi"}));
    let text = format!(":\n\n:\r\ndata:{chunk}\r\n\r\n: ping\n\ndata: {}\n\n:\n", finish("stop"));
    assert_eq!(generic(&text).await.expect("complete").text, "Hi");
}

/// Self-hosted servers: templates that write the opening tag into the prompt: what stands before a
/// lone closing tag is thinking, where the server is known to be such.
#[tokio::test]
async fn think_tag_opened_by_the_template() {
    let text =
        events(&[delta(json!({"content": "hm</thi"})), delta(json!({"content": "nk>\n\nHi"}))]);
    let text = text + &events(&[finish("stop")]);
    let layer = CompatibleLayer::new(Server::LlamaCpp).think_tags(ThinkTags::Opened);
    let answer = Upstream::stream(&text).answer(layer, request()).await.expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), ("hm", "Hi"));
    // A server that is not known to be such has already sent it as the answer.
    let answer = generic(&text).await.expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), ("", "hm</think>\n\nHi"));
}

/// The portal: the cache's counters stand beside those of OpenAI; counts of another kind cost no
/// answer.
#[tokio::test]
async fn usage_with_counters_of_the_cache() {
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 8, "cache_creation_input_tokens": 1,
            "cache_type": "ephemeral", "cache_creation": {"ephemeral_5m_input_tokens": 1}}});
    let with = |usage: Value| json!({"choices": [], "usage": usage});
    let start = || events(&[delta(json!({"content": "a"})), finish("stop")]);
    let answer = generic(&(start() + &events(&[with(usage)]) + DONE)).await.expect("complete");
    let usage = answer.usage.expect("sent");
    assert_eq!((usage.total_tokens, usage.cached_tokens), (11, Some(8)));

    for odd in [json!("many"), json!({"prompt_tokens": -1}), json!([1])] {
        let answer = generic(&(start() + &events(&[with(odd)]) + DONE)).await.expect("complete");
        assert_eq!((&*answer.text, answer.usage), ("a", None));
    }
}

/// Fragments of calls from llama.cpp, whole calls with right indexes from Ollama.
#[tokio::test]
async fn calls_in_pieces_and_whole() {
    let piece = |call: Value| delta(json!({"tool_calls": [call]}));
    let pieces = [
        piece(
            json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}),
        ),
        piece(json!({"index": 0, "function": {"arguments": "\"x\":1"}})),
        piece(json!({"index": 0, "function": {"arguments": "}"}})),
        piece(
            json!({"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}),
        ),
        finish("tool_calls"),
    ];
    let whole = [
        delta(json!({"role": "assistant", "content": "", "tool_calls": [
            {"id": "a", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"id": "b", "index": 1, "type": "function", "function": {"name": "g", "arguments": "{}"}}]})),
        finish("stop"),
    ];
    for chunks in [&pieces[..], &whole] {
        let answer = generic(&events(chunks)).await.expect("complete");
        let wanted = [ToolCall::new("a", "f", "{\"x\":1}"), ToolCall::new("b", "g", "{}")];
        assert_eq!(answer.tool_calls, wanted);
        assert_eq!(answer.finish_reason, Some(FinishReason::ToolCalls));
    }
}

/// What the upstream calls the answer comes first; odd ids cost nothing.
#[tokio::test]
async fn the_upstreams_own_id_of_the_answer() {
    let chunk = |id: &str| {
        format!("data: {{{id}\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"Hi\"}}}}]}}\n\n")
    };
    for (id, expected) in [
        (r#""id":"chatcmpl-1","#, Some("chatcmpl-1")),
        (r#""id":"a\u00e4","#, Some("aä")),
        (r#""id":"","#, None),
        (r#""id":null,"#, None),
        (r#""id":7,"#, Some("7")),
        (r#""id":[7],"#, None),
        (r#""id":"a","id":"b","#, Some("b")),
        ("", None),
    ] {
        // A later chunk says nothing new of it.
        let text = chunk(id) + &chunk(r#""id":"other","#) + &events(&[finish("stop")]);
        let answer = generic(&text).await.expect("complete");
        assert_eq!(answer.response_id.as_deref(), expected, "{id}");
        assert_eq!((&*answer.text, answer.conversation), ("HiHi", None));
    }
    let whole = Upstream::json(
        200,
        &json!({"id": "w", "choices": [{"message": {"content": "Hi"},
        "finish_reason": "stop"}]}),
    );
    let answer = whole.answer(CompatibleLayer::new(Server::Generic), request()).await;
    assert_eq!(answer.expect("complete").response_id.as_deref(), Some("w"));
}

/// After the finish reason the answer is whole, and only counts are read on.
#[tokio::test]
async fn what_goes_wrong_behind_the_end_is_left_out() {
    let said = delta(json!({"content": "Hi"}));
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}});
    let counted = events(&[said.clone(), finish("stop"), usage.clone()]);
    for behind in [
        "data: {\"error\": {\"message\": \"boom\"}}\n\n",
        "event: error\ndata: {\"message\": \"boom\"}\n\n",
        "data: {no json\n\n",
    ] {
        let answer = generic(&(counted.clone() + behind)).await.expect("complete");
        assert_eq!((&*answer.text, answer.finish_reason), ("Hi", Some(FinishReason::Stop)));
        assert_eq!(answer.usage.expect("counted").completion_tokens, 2, "{behind}");
        let before = events(std::slice::from_ref(&said)) + behind + &events(&[finish("stop")]);
        generic(&before).await.expect_err(behind);
    }
}

/// Arguments that are not whole are never those of a finished call. Those of the last call end the
/// answer with `length`, those of another with an error that names it; they are JSON in any case.
#[tokio::test]
async fn arguments_that_are_cut_end_with_length() {
    let piece = |index: usize, name: &str, json: &str| {
        let id = format!("c{index}");
        delta(json!({"tool_calls": [{"index": index, "id": id,
            "function": {"name": name, "arguments": json}}]}))
    };
    let length = FinishReason::Length;
    let broken = "the arguments of the upstream's call of `f` are not one JSON object";
    for (first, second) in [("{\"a\":[1,", "{\"b\":2}"), ("{\"a\":oops}", "{}"), ("oops", "{}")] {
        let text = events(&[piece(0, "f", first), piece(1, "g", second), finish("stop")]);
        let error = generic(&text).await.expect_err("half a call");
        assert_eq!((error.kind(), error.message()), (ErrorKind::Upstream, broken), "{first}");
    }
    for (first, second, expected, reason) in [
        ("{\"a\":1}", "{\"b\":\"x", ["{\"a\":1}", "{\"b\":\"x"], length),
        ("{\"a\":1}", "{\"b\":oops}", ["{\"a\":1}", "{\"b\":"], length),
        ("", "", ["{}", "{}"], FinishReason::ToolCalls),
        ("{}}", "{\"a\":\"1\n2\"}", ["{}", "{\"a\":\"1\\u000a2\"}"], FinishReason::ToolCalls),
    ] {
        for word in ["tool_calls", "stop"] {
            let text = events(&[piece(0, "f", first), piece(1, "g", second), finish(word)]);
            let answer = generic(&text).await.expect("complete");
            let got: Vec<_> = answer.tool_calls.iter().map(|call| &*call.arguments).collect();
            assert_eq!(got, expected);
            assert_eq!(answer.finish_reason, Some(reason), "{first} {second}");
        }
    }
    // Where the stream breaks off, what is open is closed before that is told.
    let text = events(&[piece(0, "f", "{\"a\":"), piece(1, "g", "{\"b\":")]);
    for fault in ["", "data: {\"error\": {\"message\": \"boom\"}}\n\n"] {
        let upstream = Upstream::stream(&(text.clone() + fault));
        let stream = upstream.open(CompatibleLayer::new(Server::Generic), request()).await;
        let given: Vec<_> = stream.expect("committed").collect().await;
        let arguments: String = given
            .iter()
            .filter_map(|item| match item {
                Ok(ChatEvent::ToolArguments { index: 0, json }) => Some(json.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(arguments, "{\"a\":null}");
        assert!(given.last().is_some_and(Result::is_err));
    }
}

/// Some servers give every call the same id.
#[tokio::test]
async fn each_call_gets_an_id_of_its_own() {
    let call = |index: usize| {
        delta(json!({"tool_calls": [{"index": index, "id": "c",
            "function": {"name": "f", "arguments": "{}"}}]}))
    };
    let answer = generic(&events(&[call(0), call(1), finish("tool_calls")])).await;
    let calls = answer.expect("complete").tool_calls;
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].id, "c");
    assert!(calls[1].id.starts_with("call_"), "{}", calls[1].id);
}

/// Fields: what a server says of an answer beside it comes before the end, streamed and whole, within
/// bounds; what is read of it, and what is null, does not.
#[tokio::test]
async fn the_servers_own_fields_are_given() {
    let chunk = |choices: Value, more: Value| {
        let mut chunk = json!({"id": "r", "object": "chat.completion.chunk", "created": 1,
            "model": "m", "choices": choices, "usage": null, "system_fingerprint": null});
        for (name, value) in more.as_object().expect("fields") {
            chunk[name] = value.clone();
        }
        chunk
    };
    let text = json!([{"index": 0, "delta": {"content": "Hi"}, "finish_reason": null}]);
    let quote = json!([{"index": 0, "delta": {"content": "\"finish_reason\":\"stop\""}}]);
    let end = json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]);
    let large = "x".repeat(10_000);
    for (kind, first, last, given) in [
        ("none", json!({}), json!({}), json!({})),
        (
            "OpenAI",
            json!({"system_fingerprint": "fp", "service_tier": "default"}),
            json!({"system_fingerprint": "fp"}),
            json!({"system_fingerprint": "fp", "service_tier": "default"}),
        ),
        (
            "vLLM",
            json!({"prompt_token_ids": null}),
            json!({"kv_transfer_params": {"a": [1]}}),
            json!({"kv_transfer_params": {"a": [1]}}),
        ),
        (
            "SGLang",
            json!({"metadata": {"weight_version": "1"}}),
            json!({"matched_stop": 7}),
            json!({"metadata": {"weight_version": "1"}, "matched_stop": 7}),
        ),
        (
            "llama.cpp",
            json!({"system_fingerprint": "b1"}),
            json!({"timings": {"predicted_ms": 1.5}, "n_ctx": 4096}),
            json!({"system_fingerprint": "b1", "timings": {"predicted_ms": 1.5}, "n_ctx": 4096}),
        ),
        (
            "LM Studio",
            json!({"stats": {}}),
            json!({"stats": {"tokens": 2}}),
            json!({"stats": {"tokens": 2}}),
        ),
        ("the last counts", json!({"x": 1}), json!({"x": 2}), json!({"x": 2})),
        ("no room", json!({"x": 1, "large": large}), json!({"y": 2}), json!({"x": 1, "y": 2})),
    ] {
        let chunks =
            [chunk(text.clone(), first), chunk(quote.clone(), json!({})), chunk(end.clone(), last)];
        let answer = generic(&(events(&chunks) + DONE)).await.expect(kind);
        let fields = answer.server_fields.to_map().expect("fields");
        assert_eq!(Value::Object(fields), given, "{kind}");
        assert_eq!(answer.text, "Hi\"finish_reason\":\"stop\"", "{kind}");

        let whole = json!([{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]);
        let upstream = Upstream::json(200, &chunk(whole, given.clone()));
        let answer = upstream.answer(CompatibleLayer::new(Server::Generic), request()).await;
        let fields = answer.expect(kind).server_fields.to_map().expect("fields");
        assert_eq!(Value::Object(fields), given, "{kind}, whole");
    }
}

/// Fields behind the end, and those of the choice.
#[tokio::test]
async fn fields_of_the_choice_and_behind_the_end_are_given() {
    let delta = json!({"choices": [{"index": 0, "delta": {"content": "Hi"}}]});
    for (server, choice, behind) in [
        ("vLLM", json!({"stop_reason": 151_645}), json!({})),
        ("vLLM, a stop string", json!({"stop_reason": "END", "token_ids": null}), json!({})),
        ("SGLang", json!({"matched_stop": 9}), json!({"metadata": {"id": "a"}})),
        (
            "llama.cpp",
            json!({}),
            json!({"system_fingerprint": "b1", "timings": {"prompt_n": 3}, "n_ctx": 4096}),
        ),
        ("OpenAI", json!({}), json!({"system_fingerprint": "fp", "service_tier": "default"})),
        ("OpenRouter", json!({"native_finish_reason": "STOP"}), json!({"provider": "x"})),
        ("Groq", json!({}), json!({"x_groq": {"id": "r"}})),
    ] {
        let given = |fields: &Value| fields.as_object().expect("fields").clone();
        let without_null = |mut fields: serde_json::Map<String, Value>| {
            fields.retain(|_, value| !value.is_null());
            fields
        };
        let with = |mut object: Value, fields: &Value| {
            object.as_object_mut().expect("an object").extend(given(fields));
            object
        };
        let end = with(json!({"index": 0, "delta": {}, "finish_reason": "stop"}), &choice);
        let end = json!({"choices": [end]});
        let counts = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
        let stream = events(&[delta.clone(), end, with(counts.clone(), &behind)]) + DONE;
        let streamed = generic(&stream).await.expect(server);
        let message = json!({"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"});
        let whole = json!({"choices": [with(message, &choice)], "usage": counts["usage"]});
        let upstream = Upstream::json(200, &with(whole, &behind));
        let whole = upstream.answer(CompatibleLayer::new(Server::Generic), request()).await;
        for (how, answer) in [("streamed", streamed), ("whole", whole.expect(server))] {
            let fields = answer.choice_fields.to_map().expect("fields");
            assert_eq!(fields, without_null(given(&choice)), "{server}, {how}");
            let fields = answer.server_fields.to_map().expect("fields");
            assert_eq!(fields, given(&behind), "{server}, {how}");
            assert_eq!(answer.usage.map(|usage| usage.prompt_tokens), Some(3), "{server}, {how}");
        }
    }
}

/// What a server says in the message and in the counts that nothing here reads, in pieces and whole.
#[tokio::test]
async fn fields_of_the_message_and_of_the_counts_are_told() {
    let said = json!({"role": "assistant", "content": "Hi", "reasoning_details": [{"x": 1}], "audio": null});
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "cost": 0.01,
        "prompt_tokens_details": {"cached_tokens": 3, "cache_creation_input_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1}});
    let whole = Upstream::json(
        200,
        &json!({"choices": [{"message": said, "finish_reason": "stop"}], "usage": usage}),
    );
    let counts = json!({"choices": [], "usage": usage});
    for upstream in
        [whole, Upstream::stream(&(events(&[delta(said.clone()), finish("stop"), counts]) + DONE))]
    {
        let answer = upstream.answer(CompatibleLayer::new(Server::Generic), request()).await;
        let answer = answer.expect("complete");
        let told = |fields: &tower_qwen::chat::Extra| {
            serde_json::to_value(fields.to_map().expect("fields")).expect("JSON")
        };
        assert_eq!(told(&answer.message_fields), json!({"reasoning_details": [{"x": 1}]}));
        let details = json!({"cache_creation_input_tokens": 1});
        let expected = json!({"cost": 0.01, "prompt_tokens_details": details});
        assert_eq!(told(&answer.usage_fields), expected);
        assert_eq!(answer.usage.expect("counted").cached_tokens, Some(3));
    }
}

//! What is incomplete is never told as complete.

use std::time::Duration;

use tokio::time::Instant;
use tower_qwen::qwen::compatible::Server;

use crate::wires::{Given, compatible, shown, streams, web, wholes};

/// The words in the place of a finish reason, and what becomes of each.
const WORDS: &[(&str, &str)] = &[
    ("stop", "Hi stop"),
    ("STOP", "Hi stop"),
    ("end_turn", "Hi stop"),
    ("eos", "Hi stop"),
    ("stop_sequence", "Hi stop"),
    ("complete", "Hi stop"),
    ("length", "Hi length"),
    ("max_tokens", "Hi length"),
    ("MAX_TOKENS", "Hi length"),
    ("max_output_tokens", "Hi length"),
    ("model_length", "Hi length"),
    ("model_context_window_exceeded", "Hi length"),
    ("content_filter", "Hi content_filter"),
    ("content-filter", "Hi content_filter"),
    ("SAFETY", "Hi content_filter"),
    ("sensitive", "Hi content_filter"),
    ("refusal", "Hi content_filter"),
    ("RECITATION", "Hi content_filter"),
    ("repetition", "Hi length"),
    ("pause_turn", "Hi length"),
    ("incomplete", "Hi length"),
    ("a word of tomorrow", "Hi length"),
    ("7", "Hi length"),
    ("abort", "Upstream: the upstream ended its answer with `abort`"),
    ("error", "Upstream: the upstream ended its answer with `error`"),
    ("cancelled", "Upstream: the upstream ended its answer with `cancelled`"),
    ("network_error", "Upstream: the upstream ended its answer with `network_error`"),
    (
        "insufficient_system_resource",
        "Overloaded: the upstream ended its answer with `insufficient_system_resource`",
    ),
    ("load", "Overloaded: the upstream ended its answer with `load`"),
    ("timeout", "Timeout: the upstream ended its answer with `timeout`"),
];

#[tokio::test]
async fn words_that_are_not_success() {
    const HI: &str = r#"{"choices":[{"delta":{"content":"Hi"}}]}"#;
    for (word, expected) in WORDS {
        let word = format!("{word:?}");
        let end = format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":{word}}}]}}"#);
        for events in [&[HI, &end, "[DONE]"][..], &[HI, &end]] {
            let answer = compatible(Server::Generic, Given::events(events)).await;
            assert_eq!(shown(answer), *expected, "{word}, compatible");
            assert_eq!(shown(web(Given::events(events)).await), *expected, "{word}, web");
        }
        let body =
            format!(r#"{{"choices":[{{"message":{{"content":"Hi"}},"finish_reason":{word}}}]}}"#);
        wholes(&[(&word, &body, expected)]).await;
    }
}

/// Arguments as they come, the words that the answer ends with, and what a client is given.
const ARGUMENTS: &[(&str, &str, &str)] = &[
    ("whole", r#""{\"a\":1}""#, "f{\"a\":1} tool_calls"),
    ("none", r#""""#, "f{} tool_calls"),
    ("a list around one object", r#""[{\"a\":1}]""#, "f{\"a\":1} tool_calls"),
    ("a bare list around one object", r#"[{"a":1}]"#, "f{\"a\":1} tool_calls"),
    ("a bare object", r#"{"a":1}"#, "f{\"a\":1} tool_calls"),
    ("doubly encoded", r#""\"{\\\"a\\\":1}\"""#, "f{\"a\":1} tool_calls"),
    ("fenced", r#""```json\n{\"a\":1}\n```""#, "f{\"a\":1} tool_calls"),
    ("fenced without a word", r#""```\n{\"a\":1}\n```\n""#, "f{\"a\":1} tool_calls"),
    (
        "doubly encoded and fenced",
        r#""\"```json\\n{\\\"a\\\":1}\\n```\"""#,
        "f{\"a\":1} tool_calls",
    ),
    (
        "in the tags of a call",
        r#""<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}}</tool_call>""#,
        "f{\"a\":1} tool_calls",
    ),
    ("in tags of arguments", r#""<arguments>{\"a\":1}</arguments>""#, "f{\"a\":1} tool_calls"),
    ("as tagged parameters", r#""<parameter=a>\n1\n</parameter>""#, "f{\"a\":1} tool_calls"),
    (
        "as a tagged function",
        r#""<function=f>\n<parameter=a>\nx\n</parameter>\n</function>""#,
        "f{\"a\":\"x\"} tool_calls",
    ),
    (
        "as keys and values in tags",
        r#""<arg_key>a</arg_key><arg_value>1</arg_value>""#,
        "f{\"a\":1} tool_calls",
    ),
    ("something behind the object", r#""{\"a\":1}</tool_call>""#, "f{\"a\":1} tool_calls"),
    ("two objects", r#""{\"a\":1}{\"a\":2}""#, "f{\"a\":1} length"),
    ("two objects and a blank", r#""{\"a\":1}\n {\"b\":2}""#, "f{\"a\":1}\n  length"),
    ("two objects and a comma", r#""{\"a\":1},{\"a\":2}""#, "f{\"a\":1} length"),
    ("three objects", r#""{\"a\":1}{\"a\":2}{\"a\":3}""#, "f{\"a\":1} length"),
    ("the second of two objects is cut", r#""{\"a\":1}{\"a\":""#, "f{\"a\":1} length"),
    ("two objects in tags", r#""{\"a\":1}</tool_call><tool_call>{}""#, "f{\"a\":1} length"),
    ("two objects, doubly encoded", r#""\"{}{}\"""#, "f length"),
    ("two strings", r#""\"{}\"\"{}\"""#, "f length"),
    ("two lists", r#""[{}][{}]""#, "f length"),
    ("a brace too many", r#""{\"a\":1}}""#, "f{\"a\":1} tool_calls"),
    ("control characters", r#""{\"a\":\"x\ny\"}""#, "f{\"a\":\"x\\u000ay\"} tool_calls"),
    ("cut in a string", r#""{\"a\":\"x""#, "f{\"a\":\"x length"),
    ("cut behind a name", r#""{\"a\":""#, "f{\"a\": length"),
    ("broken", r#""{\"a\":1,,}""#, "f{\"a\":1, length"),
    ("Python", r#""{'a': True}""#, "f{ length"),
    ("words", r#""as you like""#, "f length"),
    ("a list of two", r#""[{},{}]""#, "f length"),
    ("a number", "7", "f length"),
    ("a fence that is cut", r#""```json\n{\"a\":""#, "f length"),
    ("a tag that is cut", r#""<parameter=a>\n1""#, "f length"),
];

#[tokio::test]
async fn arguments_that_are_cut_or_wrapped() {
    for (kind, arguments, expected) in ARGUMENTS {
        for word in ["tool_calls", "stop"] {
            let call = format!(
                r#"{{"tool_calls":[{{"index":0,"id":"c","function":{{"name":"f","arguments":{arguments}}}}}]}}"#
            );
            let piece = format!(r#"{{"choices":[{{"delta":{call}}}]}}"#);
            let end = format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":"{word}"}}]}}"#);
            let events = [&*piece, &end, "[DONE]"];
            let answer = compatible(Server::Generic, Given::events(&events)).await;
            assert_eq!(shown(answer), *expected, "{kind}, compatible");
            assert_eq!(shown(web(Given::events(&events)).await), *expected, "{kind}, web");
            let body = format!(r#"{{"choices":[{{"message":{call},"finish_reason":"{word}"}}]}}"#);
            wholes(&[(kind, &body, expected)]).await;
        }
    }
}

/// A call whose arguments are broken and that is not the last: a client would run what it is closed to.
#[tokio::test]
async fn a_broken_call_before_another() {
    const END: &str = r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#;
    const REFUSED: &str =
        "Upstream: the arguments of the upstream's call of `f` are not one JSON object";
    streams(&[
        (
            "broken arguments before another call",
            &[
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\":"}},{"index":1,"id":"d","function":{"name":"g","arguments":"{}"}}]}}]}"#,
                END,
            ],
            REFUSED,
        ),
        (
            "two objects before another call",
            &[
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\":1}{\"a\":2}"}},{"index":1,"id":"d","function":{"name":"g","arguments":"{}"}}]}}]}"#,
                END,
            ],
            REFUSED,
        ),
        (
            "two objects in pieces, and the first number for both",
            &[
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\":1}"}}]}}]}"#,
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}"#,
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"a\":2}"}}]}}]}"#,
                END,
            ],
            "f{\"a\":1} length",
        ),
    ])
    .await;
}

/// After the finish reason the answer ends, though the connection stays open and sends comments.
#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_open() {
    const HI: &str = r#"{"choices":[{"delta":{"content":"Hi"}}]}"#;
    const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let moment = Duration::from_millis(10);
    let grace = Duration::from_secs(2);
    for (kind, events, at_least, at_most) in [
        ("no last word", &[HI, STOP][..], grace, grace + moment),
        ("token counts and no last word", &[HI, STOP, USAGE], grace, grace + moment),
        ("the last word", &[HI, STOP, USAGE, "[DONE]"], Duration::ZERO, moment),
    ] {
        for comments in [Duration::from_millis(300), Duration::from_secs(3600)] {
            let given = || Given { comments: Some(comments), ..Given::events(events) };
            let start = Instant::now();
            let answer = compatible(Server::Generic, given()).await.expect(kind);
            assert_eq!(answer.usage.is_some(), events.contains(&USAGE), "{kind}");
            assert_eq!(shown(Ok(answer)), "Hi stop", "{kind}, compatible");
            assert!(
                (at_least..=at_most).contains(&start.elapsed()),
                "{kind} {:?}",
                start.elapsed()
            );
            let start = Instant::now();
            let answer = web(given()).await.expect(kind);
            assert_eq!(answer.usage.is_some(), events.contains(&USAGE), "{kind}");
            assert_eq!(shown(Ok(answer)), "Hi stop", "{kind}, web");
            assert!(
                (at_least..=at_most).contains(&start.elapsed()),
                "{kind} {:?}",
                start.elapsed()
            );
        }
    }
    // The web wire's own end says that nothing more comes.
    let own = r#"{"choices":[{"delta":{"content":"Hi","phase":"answer","status":"finished"}}]}"#;
    let given = Given { comments: Some(moment), ..Given::events(&[own]) };
    let start = Instant::now();
    assert_eq!(shown(web(given).await), "Hi stop");
    assert!(start.elapsed() <= moment);
}

/// What goes wrong behind the finish reason does not make the answer less complete.
#[tokio::test]
async fn trouble_behind_the_end() {
    const HI: &str = r#"{"choices":[{"delta":{"content":"Hi"}}]}"#;
    const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    streams(&[
        ("an error", &[HI, STOP, r#"{"error":{"message":"boom"}}"#], "Hi stop"),
        ("no JSON", &[HI, STOP, "{nonsense"], "Hi stop"),
        (
            "another finish reason",
            &[HI, STOP, r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#],
            "Hi stop",
        ),
    ])
    .await;
    for events in [
        &[HI][..],
        &[HI, r#"{"choices":[{"delta":{},"finish_reason":null}]}"#],
        &[HI, r#"{"choices":[{"delta":{},"finish_reason":""}]}"#],
    ] {
        let answer = compatible(Server::Generic, Given::events(events)).await;
        assert!(shown(answer).starts_with("Truncated: "), "{events:?}");
        assert!(shown(web(Given::events(events)).await).starts_with("Truncated: "), "{events:?}");
    }
}

/// Some servers say why the answer ends with every piece of it. What comes behind is the answer's, and
/// the last reason counts; where none stands at the end and no end mark either, it may be cut.
#[tokio::test]
async fn reasons_before_the_end() {
    const HI: &str = r#"{"choices":[{"delta":{"content":"Hi"}}]}"#;
    const SAYS: &str = r#"{"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}"#;
    const CUT: &str = r#"{"choices":[{"delta":{"content":"Hi"},"finish_reason":"length"}]}"#;
    const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    const EMPTY: &str = r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    const ODD: &str = r#"{"choices":[{"delta":{"annotations":[{"x":1}]}}]}"#;
    const THOUGHT: &str =
        r#"{"choices":[{"delta":{"reasoning_content":"Hm"},"finish_reason":"stop"}]}"#;
    const HALF: &str = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\":"}}]},"finish_reason":"tool_calls"}]}"#;
    const REST: &str = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]},"finish_reason":"tool_calls"}]}"#;
    const WHOLE: &str = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\":1}"}}]},"finish_reason":"stop"}]}"#;
    const OTHER: &str = r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"d","function":{"name":"g","arguments":"{}"}}]},"finish_reason":"stop"}]}"#;
    let rows: &[(&str, &[&str], &str, &str)] = &[
        ("text behind one", &[SAYS, HI], "HiHi stop", "HiHi length"),
        ("text behind one, and counts", &[SAYS, USAGE, HI], "HiHi stop", "HiHi length"),
        ("one on each piece of text", &[SAYS, SAYS, STOP], "HiHi stop", "HiHi stop"),
        ("one before all text", &[STOP, HI], "Hi stop", "Hi length"),
        ("another that is the last", &[CUT, SAYS], "HiHi stop", "HiHi stop"),
        ("another with nothing between them", &[CUT, STOP], "Hi length", "Hi length"),
        ("an empty piece behind it", &[SAYS, EMPTY], "Hi stop", "Hi stop"),
        ("a field that nobody reads behind it", &[SAYS, ODD], "Hi stop", "Hi stop"),
        ("one with the thinking", &[THOUGHT, SAYS], "(Hm) Hi stop", "(Hm) Hi stop"),
        (
            "one on each piece of a call",
            &[HALF, REST],
            "f{\"a\":1} tool_calls",
            "f{\"a\":1} tool_calls",
        ),
        (
            "one with each call",
            &[WHOLE, OTHER],
            "f{\"a\":1} g{} tool_calls",
            "f{\"a\":1} g{} tool_calls",
        ),
        (
            "a call once more behind it",
            &[WHOLE, WHOLE],
            "f{\"a\":1} tool_calls",
            "f{\"a\":1} tool_calls",
        ),
        ("a call that is cut behind it", &[SAYS, HALF], "Hi f{\"a\": length", "Hi f{\"a\": length"),
    ];
    for (kind, events, done, not_done) in rows {
        for (mark, expected) in [(&["[DONE]"][..], done), (&[], not_done)] {
            let events: Vec<&str> = events.iter().chain(mark).copied().collect();
            let answer = compatible(Server::Generic, Given::events(&events)).await;
            assert_eq!(shown(answer), *expected, "{kind} {mark:?}, compatible");
            assert_eq!(shown(web(Given::events(&events)).await), *expected, "{kind} {mark:?}, web");
        }
    }
}

/// `[DONE]` without a finish reason: the upstream itself says that it is done. An answer that looks
/// whole is told as that, and one that does not as cut; without the mark it has broken off.
#[tokio::test]
async fn an_end_mark_without_a_reason() {
    const HI: &str = r#"{"choices":[{"delta":{"content":"Hi"}}]}"#;
    const TYPED: &str =
        r#"{"choices":[{"delta":{"content":"Hi","phase":"answer","status":"typing"}}]}"#;
    const MUSED: &str =
        r#"{"choices":[{"delta":{"content":"Hm","phase":"think","status":"typing"}}]}"#;
    const THOUGHT: &str = r#"{"choices":[{"delta":{"reasoning_content":"Hm"}}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    const CALL: &str = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\":1}"}}]}}]}"#;
    const OPEN: &str = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\":"}}]}}]}"#;
    const NAMED: &str = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}}]}"#;
    const SECOND: &str = r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"d","function":{"name":"g","arguments":"{"}}]}}]}"#;
    const REFUSED: &str =
        "Upstream: the arguments of the upstream's call of `f` are not one JSON object";
    let rows: &[crate::wires::Row] = &[
        ("thinking and text", &[THOUGHT, HI], "(Hm) Hi stop"),
        ("thinking", &[THOUGHT], "(Hm) length"),
        ("a call", &[CALL], "f{\"a\":1} tool_calls"),
        ("text and a call", &[HI, CALL], "Hi f{\"a\":1} tool_calls"),
        ("a call that is open", &[OPEN], "f{\"a\": length"),
        ("a call and one that is open", &[CALL, SECOND], "f{\"a\":1} g{ length"),
        ("a call that is open, and another", &[OPEN, SECOND], REFUSED),
        ("a name alone", &[NAMED], "f length"),
        ("a name alone, and a call that is open", &[NAMED, SECOND], "f{} g{ length"),
    ];
    streams(rows).await;
    for (kind, events, _) in rows {
        for answer in [
            compatible(Server::Generic, Given::events(events)).await,
            web(Given::events(events)).await,
        ] {
            assert!(shown(answer).starts_with("Truncated: "), "{kind}, without the mark");
        }
    }
    // There the end is a status, and a gateway's mark in its place is no word that all has come. Text
    // alone may be of either shape.
    for (events, of_compatible, of_web) in [
        (&[HI][..], "Hi stop", "Hi length"),
        (&[HI, USAGE], "Hi stop", "Hi length"),
        (&[USAGE, HI], "Hi stop", "Hi length"),
        (&[TYPED], "Hi stop", "Hi length"),
        (&[THOUGHT, HI], "(Hm) Hi stop", "(Hm) Hi stop"),
    ] {
        let done: Vec<&str> = events.iter().copied().chain(["[DONE]"]).collect();
        let answer = compatible(Server::Generic, Given::events(&done)).await;
        assert_eq!(shown(answer), of_compatible, "{events:?}, compatible");
        assert_eq!(shown(web(Given::events(&done)).await), of_web, "{events:?}, web");
    }
    // Thinking in tags, and in the phases of the web wire.
    let tags = r#"{"choices":[{"delta":{"content":"<think>Hm"}}]}"#;
    let events = Given::events(&[tags, "[DONE]"]);
    assert_eq!(shown(compatible(Server::Generic, events).await), "(Hm) length");
    let closed = r#"{"choices":[{"delta":{"content":"</think>Hi"}}]}"#;
    let events = Given::events(&[tags, closed, "[DONE]"]);
    assert_eq!(shown(compatible(Server::Generic, events).await), "(Hm) Hi stop");
    assert_eq!(shown(web(Given::events(&[MUSED, "[DONE]"])).await), "(Hm) length");
    assert_eq!(shown(web(Given::events(&[MUSED, TYPED, "[DONE]"])).await), "(Hm) Hi length");
    // Nothing is not an answer, and what comes in front of one is not its end.
    for events in [&["[DONE]"][..], &[USAGE, "[DONE]"]] {
        let answer = shown(compatible(Server::Generic, Given::events(events)).await);
        assert!(answer.starts_with("Upstream: "), "{events:?}: {answer}");
    }
    let finished = r#"{"choices":[{"delta":{"phase":"answer","status":"finished"}}]}"#;
    assert_eq!(shown(web(Given::events(&["[DONE]", TYPED, finished])).await), "Hi stop");
}

/// The web wire's own end says that nothing more comes, and a word beside it says why.
#[tokio::test]
async fn a_word_beside_the_web_wires_own_end() {
    for (word, expected) in [
        ("null", "Hi stop"),
        ("\"\"", "Hi stop"),
        ("\"null\"", "Hi stop"),
        ("\"stop\"", "Hi stop"),
        ("\"length\"", "Hi length"),
        ("\"MAX_TOKENS\"", "Hi length"),
        ("\"content_filter\"", "Hi content_filter"),
        ("\"sensitive\"", "Hi content_filter"),
        ("\"abort\"", "Upstream: the upstream ended its answer with `abort`"),
        ("\"timeout\"", "Timeout: the upstream ended its answer with `timeout`"),
    ] {
        let piece = |content: &str, status: &str, word: &str| {
            format!(
                r#"{{"choices":[{{"delta":{{"content":"{content}","phase":"answer","status":"{status}"}},"finish_reason":{word}}}]}}"#
            )
        };
        for (kind, events) in [
            ("beside", vec![piece("Hi", "typing", "null"), piece("", "finished", word)]),
            ("before", vec![piece("Hi", "typing", word), piece("", "finished", "null")]),
            ("in one", vec![piece("Hi", "finished", word)]),
        ] {
            let events: Vec<&str> = events.iter().map(String::as_str).collect();
            assert_eq!(shown(web(Given::events(&events)).await), expected, "{word}, {kind}");
        }
    }
}

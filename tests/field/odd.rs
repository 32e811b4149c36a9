//! One odd field never costs an answer.

use tower_qwen::qwen::compatible::Server;

use crate::wires::{Given, Row, compatible, shown, streams, web, wholes};

const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

const ROWS: &[Row] = &[
    (
        "a key twice in the event",
        &[r#"{"id":"a","choices":[],"id":"b","choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "a key twice in the delta",
        &[r#"{"choices":[{"delta":{"content":"No","content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "a key twice in the choice",
        &[r#"{"choices":[{"delta":null,"index":1,"delta":{"content":"Hi"},"index":0}]}"#, STOP],
        "Hi stop",
    ),
    (
        "a key twice in the usage",
        &[
            r#"{"choices":[{"delta":{"content":"Hi"}}],"usage":{"prompt_tokens":1,"prompt_tokens":2}}"#,
            STOP,
        ],
        "Hi stop",
    ),
    (
        "a number for the answer's id",
        &[r#"{"id":7,"model":8,"created":"x","choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "the index as a string",
        &[r#"{"choices":[{"index":"0","delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "the index with a point",
        &[r#"{"choices":[{"index":0.0,"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "the index as null",
        &[r#"{"choices":[{"index":null,"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "an index below zero",
        &[r#"{"choices":[{"index":-1,"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "an index that is not 0",
        &[
            r#"{"choices":[{"index":1,"delta":{"content":"Hi"}}]}"#,
            r#"{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}"#,
        ],
        "Hi stop",
    ),
    ("error: null", &[r#"{"error":null,"choices":[{"delta":{"content":"Hi"}}]}"#, STOP], "Hi stop"),
    (
        "error: false",
        &[r#"{"error":false,"choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "error: an empty string",
        &[r#"{"error":"","choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "error: an empty object",
        &[r#"{"error":{},"choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "error: an empty list",
        &[r#"{"error":[],"choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "error: an object of nothing",
        &[
            r#"{"error":{"code":null,"message":"","details":[]},"choices":[{"delta":{"content":"Hi"}}]}"#,
            STOP,
        ],
        "Hi stop",
    ),
    ("error: 0", &[r#"{"error":0,"choices":[{"delta":{"content":"Hi"}}]}"#, STOP], "Hi stop"),
    (
        "refusal: an object",
        &[r#"{"choices":[{"delta":{"content":"Hi","refusal":{}}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "refusal: a list",
        &[r#"{"choices":[{"delta":{"content":"Hi","refusal":[]}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "refusal: false",
        &[r#"{"choices":[{"delta":{"content":"Hi","refusal":false}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "reasoning: an object",
        &[r#"{"choices":[{"delta":{"content":"Hi","reasoning":{}}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "reasoning: false",
        &[
            r#"{"choices":[{"delta":{"content":"Hi","reasoning":false,"reasoning_content":[]}}]}"#,
            STOP,
        ],
        "Hi stop",
    ),
    ("usage: a list", &[r#"{"usage":[],"choices":[{"delta":{"content":"Hi"}}]}"#, STOP], "Hi stop"),
    (
        "usage: a string",
        &[r#"{"usage":"","choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "usage: counts of any type",
        &[
            r#"{"usage":{"prompt_tokens":"7","completion_tokens":[],"prompt_tokens_details":7},"choices":[{"delta":{"content":"Hi"}}]}"#,
            STOP,
        ],
        "Hi stop",
    ),
    (
        "usage: NaN",
        &[
            r#"{"usage":{"prompt_tokens":NaN,"completion_tokens":-Infinity},"choices":[{"delta":{"content":"Hi"}}]}"#,
            STOP,
        ],
        "Hi stop",
    ),
    (
        "usage: a number that no double holds",
        &[r#"{"usage":{"prompt_tokens":1e999},"choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "Infinity in a field of nobody's",
        &[r#"{"eval":Infinity,"choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "delta: null",
        &[r#"{"choices":[{"delta":null}]}"#, r#"{"choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "delta: a list",
        &[r#"{"choices":[{"delta":[]}]}"#, r#"{"choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "delta: a string",
        &[r#"{"choices":[{"delta":""}]}"#, r#"{"choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "object: false",
        &[r#"{"object":false,"choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "choices: null among good ones",
        &[r#"{"choices":[null,{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    ("choices: an object", &[r#"{"choices":{"delta":{"content":"Hi"}}}"#, STOP], "Hi stop"),
    (
        "an event that is null",
        &["null", r#"{"choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "an event that is a number",
        &["0", r#"{"choices":[{"delta":{"content":"Hi"}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "content: a list of parts",
        &[
            r#"{"choices":[{"delta":{"content":[{"type":"text","text":"H"},{"type":"text","text":"i"}]}}]}"#,
            STOP,
        ],
        "Hi stop",
    ),
    (
        "content: a list of strings",
        &[r#"{"choices":[{"delta":{"content":["H","i"]}}]}"#, STOP],
        "Hi stop",
    ),
    ("content: a number", &[r#"{"choices":[{"delta":{"content":42}}]}"#, STOP], "42 stop"),
    (
        "content: false",
        &[
            r#"{"choices":[{"delta":{"content":false}}]}"#,
            r#"{"choices":[{"delta":{"content":"Hi"}}]}"#,
            STOP,
        ],
        "Hi stop",
    ),
    (
        "content: parts that think",
        &[
            r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"Hi"}]}}]}"#,
            STOP,
        ],
        "(hm) Hi stop",
    ),
    (
        "reasoning: a list of parts",
        &[
            r#"{"choices":[{"delta":{"reasoning_content":[{"type":"text","text":"hm"}]}}]}"#,
            r#"{"choices":[{"delta":{"content":"Hi"}}]}"#,
            STOP,
        ],
        "(hm) Hi stop",
    ),
    (
        "half a character in each piece",
        &[
            r#"{"choices":[{"delta":{"content":"a\ud83d"}}]}"#,
            r#"{"choices":[{"delta":{"content":"\ude00b"}}]}"#,
            STOP,
        ],
        "a\u{1f600}b stop",
    ),
    (
        "half a character at the end",
        &[r#"{"choices":[{"delta":{"content":"a\ud83d"}}]}"#, STOP],
        "a\u{fffd} stop",
    ),
    (
        "half a character alone",
        &[r#"{"choices":[{"delta":{"content":"a\ude00b"}}]}"#, STOP],
        "a\u{fffd}b stop",
    ),
    (
        "half a character, then an empty piece",
        &[
            r#"{"choices":[{"delta":{"content":"\ud83d"}}]}"#,
            r#"{"choices":[{"delta":{"content":""}}]}"#,
            r#"{"choices":[{"delta":{"content":"\ude00"}}]}"#,
            STOP,
        ],
        "\u{1f600} stop",
    ),
    (
        "half a character of thinking",
        &[
            r#"{"choices":[{"delta":{"reasoning_content":"\ud83d"}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"\ude00"}}]}"#,
            r#"{"choices":[{"delta":{"content":"Hi"}}]}"#,
            STOP,
        ],
        "(\u{1f600}) Hi stop",
    ),
    (
        "half a character of arguments",
        &[
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\":\"\ud83d"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\ude00\"}"}}]}}]}"#,
            STOP,
        ],
        "f{\"a\":\"\u{1f600}\"} tool_calls",
    ),
    (
        "finish_reason: false",
        &[r#"{"choices":[{"delta":{"content":"Hi"},"finish_reason":false}]}"#, STOP],
        "Hi stop",
    ),
    (
        "finish_reason: 0",
        &[r#"{"choices":[{"delta":{"content":"Hi"},"finish_reason":0}]}"#, STOP],
        "Hi stop",
    ),
    (
        "an index that counts the events",
        &[
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"H"}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"i"}}]}"#,
            r#"{"choices":[{"index":2,"delta":{},"finish_reason":"stop"}]}"#,
        ],
        "Hi stop",
    ),
    (
        "finish_reason: an object",
        &[r#"{"choices":[{"delta":{"content":"Hi"},"finish_reason":{}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "tool_calls: an empty object",
        &[r#"{"choices":[{"delta":{"content":"Hi","tool_calls":""}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "tool_calls: null in a list",
        &[r#"{"choices":[{"delta":{"content":"Hi","tool_calls":[null]}}]}"#, STOP],
        "Hi stop",
    ),
    (
        "function_call: an empty object",
        &[
            r#"{"choices":[{"delta":{"content":"Hi","function_call":{}}}]}"#,
            r#"{"choices":[{"delta":{"content":"!","function_call":{"name":"","arguments":null}}}]}"#,
            STOP,
        ],
        "Hi! stop",
    ),
    (
        "function_call: a string",
        &[r#"{"choices":[{"delta":{"content":"Hi","function_call":""}}]}"#, STOP],
        "Hi stop",
    ),
];

#[tokio::test]
async fn odd_fields_of_streams() {
    streams(ROWS).await;
}

#[tokio::test]
async fn odd_fields_of_whole_answers() {
    wholes(&[
        ("a key twice", r#"{"choices":[],"choices":[{"message":{"content":"No","content":"Hi"},"finish_reason":"stop"}]}"#, "Hi stop"),
        ("ids and counts of any type", r#"{"id":7,"choices":[{"index":"0","message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":"7"}}"#, "Hi stop"),
        ("an index that is not 0", r#"{"choices":[{"index":3,"message":{"content":"Hi"},"finish_reason":"stop"}]}"#, "Hi stop"),
        ("empty errors", r#"{"error":{},"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#, "Hi stop"),
        ("error: false", r#"{"error":false,"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#, "Hi stop"),
        ("error: an empty string", r#"{"error":"","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#, "Hi stop"),
        ("refusal, usage, reasoning of other types", r#"{"choices":[{"message":{"content":"Hi","refusal":{},"reasoning":[]},"finish_reason":"stop"}],"usage":""}"#, "Hi stop"),
        ("NaN", r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":NaN}}"#, "Hi stop"),
        ("content: a list of parts", r#"{"choices":[{"message":{"content":[{"type":"text","text":"H"},{"type":"text","text":"i"}]},"finish_reason":"stop"}]}"#, "Hi stop"),
        ("content: a number", r#"{"choices":[{"message":{"content":42},"finish_reason":"stop"}]}"#, "42 stop"),
        ("half a character", r#"{"choices":[{"message":{"content":"a\ud83d"},"finish_reason":"stop"}]}"#, "a\u{fffd} stop"),
        ("choices: an object", r#"{"choices":{"message":{"content":"Hi"},"finish_reason":"stop"}}"#, "Hi stop"),
        ("thinking beside the text", r#"{"choices":[{"message":{"content":"Hi","reasoning_content":"hm"},"finish_reason":"stop"}]}"#, "(hm) Hi stop"),
        ("a call with a number for its id", r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":7,"index":"0","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#, "f{} tool_calls"),
    ])
    .await;
}

/// Empty deltas are bounded by bytes and time, and not by their number.
#[tokio::test]
async fn empty_deltas_in_any_number() {
    for empty in [
        r#"{"choices":[{"delta":{"content":""}}]}"#,
        r#"{"choices":[{"delta":{}}]}"#,
        r#"{"choices":[]}"#,
        r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#,
    ] {
        let mut events = vec![empty; 3000];
        events.extend([r#"{"choices":[{"delta":{"content":"Hi"}}]}"#, STOP, "[DONE]"]);
        let answer = compatible(Server::Generic, Given::events(&events)).await;
        assert_eq!(shown(answer), "Hi stop", "{empty}");
        assert_eq!(shown(web(Given::events(&events)).await), "Hi stop", "{empty}");
    }
}

/// What is odd on the web wire alone.
#[tokio::test]
async fn odd_events_of_the_web_wire() {
    const FINISHED: &str = r#"{"choices":[{"delta":{"phase":"answer","status":"finished"}}]}"#;
    for (kind, events, expected) in [
        (
            "the usual",
            &[r#"{"choices":[{"delta":{"content":"Hi","phase":"answer"}}]}"#, FINISHED][..],
            "Hi stop",
        ),
        (
            "a key twice",
            &[
                r#"{"choices":[{"delta":{"content":"No","content":"Hi","phase":"think","phase":"answer"}}]}"#,
                FINISHED,
            ],
            "Hi stop",
        ),
        (
            "response_id: a number",
            &[
                r#"{"response.created":{"response_id":7}}"#,
                r#"{"choices":[{"delta":{"content":"Hi","phase":"answer"}}],"response_id":7}"#,
                FINISHED,
            ],
            "Hi stop",
        ),
        (
            "content: a number",
            &[r#"{"choices":[{"delta":{"content":42,"phase":"answer"}}]}"#, FINISHED],
            "42 stop",
        ),
        (
            "content: parts",
            &[r#"{"choices":[{"delta":{"content":[{"text":"Hi"}],"phase":"answer"}}]}"#, FINISHED],
            "Hi stop",
        ),
        (
            "phase and status are empty",
            &[
                r#"{"choices":[{"delta":{"content":"H","phase":null,"status":null}}]}"#,
                r#"{"choices":[{"delta":{"content":"i","phase":"","status":""}}]}"#,
                FINISHED,
            ],
            "Hi stop",
        ),
        (
            "error: false",
            &[
                r#"{"error":false,"choices":[{"delta":{"content":"Hi","phase":"answer"}}]}"#,
                FINISHED,
            ],
            "Hi stop",
        ),
        (
            "usage: NaN",
            &[
                r#"{"usage":{"input_tokens":NaN},"choices":[{"delta":{"content":"Hi","phase":"answer"}}]}"#,
                FINISHED,
            ],
            "Hi stop",
        ),
        (
            "half a character",
            &[
                r#"{"choices":[{"delta":{"content":"\ud83d","phase":"answer"}}]}"#,
                r#"{"choices":[{"delta":{"content":"\ude00","phase":"answer"}}]}"#,
                FINISHED,
            ],
            "\u{1f600} stop",
        ),
        (
            "phase: null",
            &[r#"{"choices":[{"delta":{"content":"Hi","phase":null,"status":null}}]}"#, FINISHED],
            "Hi stop",
        ),
        (
            "choices: an object",
            &[r#"{"choices":{"delta":{"content":"Hi","phase":"answer"}}}"#, FINISHED],
            "Hi stop",
        ),
    ] {
        assert_eq!(shown(web(Given::events(events)).await), expected, "{kind}");
    }
    let lines = "data: {\"choices\": [\ndata:   {\"delta\": {\"content\": \"Hi\",\ndata:   \"phase\": \"answer\"}}\ndata: ]}\n\n";
    for (kind, body, expected) in [
        ("several data lines", format!("{lines}data: {FINISHED}\n\n"), "Hi stop"),
        (
            "several data lines, CRLF",
            format!("{lines}data: {FINISHED}\n\n").replace('\n', "\r\n"),
            "Hi stop",
        ),
        (
            "several data lines, cut",
            lines[..40].to_owned(),
            "Truncated: the upstream's answer broke off before its end",
        ),
    ] {
        let shown = shown(web(Given::new(200, "text/event-stream", body)).await);
        assert_eq!(shown.split(':').next(), expected.split(':').next(), "{kind}: {shown}");
    }
}

/// A second answer that nobody asked for is left out, and does not end the first.
#[tokio::test]
async fn a_second_answer() {
    const FIRST: &str = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"H"}}]}"#;
    const SECOND: &str = r#"{"choices":[{"index":1,"delta":{"role":"assistant","content":"No"}}]}"#;
    const REST: &str = r#"{"choices":[{"index":0,"delta":{"content":"i"}}]}"#;
    const CUT: &str =
        r#"{"choices":[{"index":1,"delta":{"content":"!"},"finish_reason":"length"}]}"#;
    let given = Given::events(&[FIRST, SECOND, REST, CUT, STOP, "[DONE]"]);
    assert_eq!(shown(compatible(Server::Generic, given).await), "Hi stop");
    // Whether what was left out belongs to it nobody can tell.
    let given = Given::events(&[FIRST, SECOND, REST, CUT, "[DONE]"]);
    assert!(shown(compatible(Server::Generic, given).await).starts_with("Truncated: "));
}

/// A choice that says that it failed, as gateways write it, with a reason for the end and without.
#[tokio::test]
async fn errors_of_a_choice() {
    const ERROR: &str = r#""error":{"code":502,"message":"Provider returned error"}"#;
    const SAID: &str = "Upstream: Provider returned error";
    for reason in ["\"stop\"", "\"error\"", "null"] {
        let whole = format!(
            r#"{{"choices":[{{"message":{{"content":"Hi"}},"finish_reason":{reason},{ERROR}}}]}}"#
        );
        let given = Given::new(200, "application/json", &*whole);
        assert_eq!(shown(compatible(Server::Generic, given).await), SAID, "{reason}");
        let piece = format!(
            r#"{{"choices":[{{"delta":{{"content":"Hi"}},"finish_reason":{reason},{ERROR}}}]}}"#
        );
        let given = Given::events(&[&piece, "[DONE]"]);
        assert_eq!(shown(compatible(Server::Generic, given).await), SAID, "{reason}");
    }
    for nothing in ["null", "{}", "\"\"", "false", "[]"] {
        let piece = format!(
            r#"{{"choices":[{{"delta":{{"content":"Hi"}},"finish_reason":"stop","error":{nothing}}}]}}"#
        );
        let given = Given::events(&[&piece, "[DONE]"]);
        assert_eq!(shown(compatible(Server::Generic, given).await), "Hi stop", "{nothing}");
    }
}

/// A stream is one by how it begins, whatever a gateway calls it.
#[tokio::test]
async fn media_types_of_streams() {
    let body = r#"data: {"choices":[{"delta":{"content":"Hi","phase":"answer","status":"finished"},"finish_reason":"stop"}]}"#.to_owned() + "\n\n";
    for media_type in
        ["text/plain; charset=utf-8", "application/octet-stream", "application/json", ""]
    {
        let given = || Given::new(200, media_type, &*body);
        assert_eq!(shown(compatible(Server::Generic, given()).await), "Hi stop", "{media_type}");
        assert_eq!(shown(web(given()).await), "Hi stop", "{media_type}");
    }
}

/// Malformed JSON is an error, whatever is lenient beside it.
#[tokio::test]
async fn malformed_json_is_an_error() {
    for event in [
        r#"{"choices":[{"delta":{"content":"Hi"}}]}}"#,
        r#"{"choices":[{"delta":{"content":"Hi"}]}"#,
        r#"{"choices":[{"delta":{"content":'Hi'}}]}"#,
        r#"{"choices":[{"delta":{"content":Hi}}]}"#,
        r#"{choices:[]}"#,
        "\u{7b}\"a\":nan}",
    ] {
        let events = [event, STOP, "[DONE]"];
        let answer = compatible(Server::Generic, Given::events(&events)).await;
        assert!(shown(answer).starts_with("Upstream: "), "{event}, compatible");
        let answer = web(Given::events(&events)).await;
        assert!(shown(answer).starts_with("Upstream: "), "{event}, web");
    }
}

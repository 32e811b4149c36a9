//! Native streams lose nothing, and leftovers are not content.

use tower_qwen::qwen::compatible::Server;

use crate::wires::{Given, Row, compatible, shown, streams, web};

/// A piece of one call.
macro_rules! call {
    ($call:literal) => {
        concat!(r#"{"choices":[{"index":0,"delta":{"tool_calls":["#, $call, "]}}]}")
    };
}

macro_rules! say {
    ($text:literal) => {
        concat!(r#"{"choices":[{"index":0,"delta":{"content":""#, $text, r#""}}]}"#)
    };
}

const END: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#;

const STREAMS: &[Row] = &[
    (
        "as OpenAI has it",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":""}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "a new id and no name",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"index":0,"id":"b","function":{"arguments":"1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "a new id and an empty name",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"index":0,"id":"b","function":{"name":"","arguments":"1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "a new id for every piece",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f"}}"#),
            call!(r#"{"index":0,"id":"b","function":{"name":null,"arguments":"{\"x\""}}"#),
            call!(r#"{"index":0,"id":"c","function":{"arguments":":1"}}"#),
            call!(r#"{"index":0,"id":"d","function":{"arguments":"}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "a new id and the name again",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"index":0,"id":"b","function":{"name":"f","arguments":"1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "a new id without a number",
        &[
            call!(r#"{"id":"a","function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"id":"b","function":{"arguments":"1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "another number for every piece, ids tell",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"index":1,"id":"a","function":{"arguments":"1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "id and name on every piece",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"1"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "the name on every piece, no id",
        &[
            call!(r#"{"index":0,"function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"index":0,"function":{"name":"f","arguments":"1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "every call is number 0",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            call!(r#"{"index":0,"id":"b","function":{"name":"g","arguments":"{}"}}"#),
            END,
        ],
        "f{\"x\":1} g{} tool_calls",
    ),
    (
        "every call is number 0 and of one function",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            call!(r#"{"index":0,"id":"b","function":{"name":"f","arguments":"{\"x\":2}"}}"#),
            END,
        ],
        "f{\"x\":1} f{\"x\":2} tool_calls",
    ),
    (
        "every call is number 0, in pieces",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\""}}"#),
            call!(r#"{"index":0,"function":{"arguments":":1}"}}"#),
            call!(r#"{"index":0,"id":"b","function":{"name":"g","arguments":"{"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"}"}}"#),
            END,
        ],
        "f{\"x\":1} g{} tool_calls",
    ),
    (
        "no numbers, ids tell",
        &[
            call!(r#"{"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            call!(r#"{"id":"b","function":{"name":"g","arguments":"{}"}}"#),
            END,
        ],
        "f{\"x\":1} g{} tool_calls",
    ),
    (
        "numbers as strings, ids as numbers",
        &[
            call!(r#"{"index":"0","id":1,"function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"index":"0","id":1,"function":{"arguments":"1}"}}"#),
            call!(r#"{"index":"1","id":2,"function":{"name":"g","arguments":"{}"}}"#),
            END,
        ],
        "f{\"x\":1} g{} tool_calls",
    ),
    (
        "calls are counted from 1",
        &[
            call!(r#"{"index":1,"id":"a","function":{"name":"f","arguments":"{}"}}"#),
            call!(r#"{"index":2,"id":"b","function":{"name":"g","arguments":"{}"}}"#),
            END,
        ],
        "f{} g{} tool_calls",
    ),
    (
        "pieces of two calls are mixed",
        &[
            call!(
                r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\""}},{"index":1,"id":"b","function":{"name":"g","arguments":"{"}}"#
            ),
            call!(
                r#"{"index":1,"function":{"arguments":"}"}},{"index":0,"function":{"arguments":":1}"}}"#
            ),
            END,
        ],
        "f{\"x\":1} g{} tool_calls",
    ),
    (
        "null in all that follows",
        &[
            call!(
                r#"{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":"}}"#
            ),
            call!(r#"{"index":0,"id":null,"type":null,"function":{"name":null,"arguments":"1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "a piece without a function",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#),
            call!(r#"{"index":0,"id":"a","function":null}"#),
            call!(r#"{"index":0}"#),
            END,
        ],
        "f{} tool_calls",
    ),
    (
        "a call in place of a list of calls",
        &[
            r#"{"choices":[{"delta":{"tool_calls":{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}}}]}"#,
            END,
        ],
        "f{} tool_calls",
    ),
    (
        "the old field",
        &[
            r#"{"choices":[{"delta":{"function_call":{"name":"f","arguments":"{\"x\":"}}}]}"#,
            r#"{"choices":[{"delta":{"function_call":{"arguments":"1}"}}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"function_call"}]}"#,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "text between the pieces",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":"}}"#),
            say!(""),
            call!(r#"{"index":0,"function":{"arguments":"1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "the call and the finish reason in one event",
        &[
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"stop"}]}"#,
        ],
        "f{} tool_calls",
    ),
];

#[tokio::test]
async fn native_streams_lose_nothing() {
    streams(STREAMS).await;
}

macro_rules! f {
    () => {
        call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#)
    };
}

const LEFTOVERS: &[Row] = &[
    ("white space before a call", &[say!("\\n\\n"), f!(), END], "f{} tool_calls"),
    (
        "white space in pieces before a call",
        &[say!("\\n"), say!(" "), say!("\\n"), f!(), END],
        "f{} tool_calls",
    ),
    (
        "white space between text and a call",
        &[say!("Hi"), say!("\\n\\n"), f!(), END],
        "Hi f{} tool_calls",
    ),
    ("white space behind a call", &[f!(), say!("\\n"), END], "f{} tool_calls"),
    ("a closer behind a call", &[f!(), say!("\\n</tool_call>"), END], "f{} tool_calls"),
    (
        "a closer in pieces",
        &[f!(), say!("</"), say!("tool"), say!("_call>"), END],
        "f{} tool_calls",
    ),
    ("two closers", &[f!(), say!("</tool_call>\\n</tool_call>"), END], "f{} tool_calls"),
    ("a mis-spelt closer", &[f!(), say!("</tool_cal>"), END], "f{} tool_calls"),
    ("a closer without its underscore", &[f!(), say!("</toolcall>"), END], "f{} tool_calls"),
    (
        "closers of a function",
        &[f!(), say!("</parameter>\\n</function>\\n</tool_call>"), END],
        "f{} tool_calls",
    ),
    (
        "closers of a function, shortened",
        &[f!(), say!("</func>\\n</tool_call>"), END],
        "f{} tool_calls",
    ),
    (
        "closers of other spellings",
        &[
            f!(),
            say!("</tool_calls>"),
            say!("\\n</tool-call>\\u00a0</TOOL"),
            say!("_CALL>\\n</param></function=f>"),
            END,
        ],
        "f{} tool_calls",
    ),
    (
        "a closer, and text behind it",
        &[f!(), say!("</tool_call>\\n\\nThat is all."), END],
        "That is all. f{} tool_calls",
    ),
    (
        "a closer and text in pieces",
        &[
            f!(),
            say!("\\n</tool_"),
            say!("call>\\n"),
            say!("\\n"),
            say!("That"),
            say!(" is all.\\n"),
            END,
        ],
        "That is all.\n f{} tool_calls",
    ),
    (
        "a closer that text mentions",
        &[f!(), say!("</tool_call>The </tool_call> is"), say!(" </func>."), END],
        "The </tool_call> is </func>. f{} tool_calls",
    ),
    (
        "white space of other kinds before a call",
        &[say!("\\u00a0\\n"), say!("\\u3000"), f!(), END],
        "f{} tool_calls",
    ),
    ("a closer with a vendor's name", &[f!(), say!("</minimax:tool_call>"), END], "f{} tool_calls"),
    ("a token", &[f!(), say!("<|im_end|>"), END], "f{} tool_calls"),
    (
        "a token of DeepSeek's",
        &[f!(), say!("<\u{ff5c}tool\u{2581}calls\u{2581}end\u{ff5c}>"), END],
        "f{} tool_calls",
    ),
    ("a closer in brackets", &[f!(), say!("[/TOOL_CALLS]"), END], "f{} tool_calls"),
    (
        "white space is text without a call",
        &[
            say!("Hi"),
            say!("\\n\\n"),
            say!("you"),
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        ],
        "Hi\n\nyou stop",
    ),
    ("text behind a call", &[f!(), say!("\\nDone."), END], "\nDone. f{} tool_calls"),
    ("other markup behind a call", &[f!(), say!("</div>"), END], "</div> f{} tool_calls"),
    (
        "a closer without a call",
        &[say!("</tool_call>"), r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#],
        "</tool_call> stop",
    ),
];

#[tokio::test]
async fn leftovers_are_not_content() {
    streams(LEFTOVERS).await;
}

/// The ids that a client is given; `-` is one that was made for it.
const IDS: &[(&str, &[&str], &str, &str)] = &[
    (
        "with the name",
        &[call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#), END],
        "a",
        "f{} tool_calls",
    ),
    (
        "a piece behind the name, with arguments",
        &[
            call!(r#"{"index":0,"function":{"name":"f","arguments":""}}"#),
            call!(r#"{"index":0,"id":"a","function":{"arguments":"{\"x\":1}"}}"#),
            END,
        ],
        "a",
        "f{\"x\":1} tool_calls",
    ),
    (
        "a piece behind the name, alone",
        &[
            call!(r#"{"index":0,"id":null,"function":{"name":"f"}}"#),
            call!(r#"{"index":0,"id":"a"}"#),
            call!(r#"{"index":0,"function":{"arguments":"{}"}}"#),
            END,
        ],
        "a",
        "f{} tool_calls",
    ),
    (
        "two pieces behind the name, before the arguments",
        &[
            call!(r#"{"index":0,"id":"","function":{"name":"f"}}"#),
            call!(r#"{"index":0,"function":{"arguments":""}}"#),
            call!(r#"{"index":0,"id":"a","function":{"arguments":"{}"}}"#),
            END,
        ],
        "a",
        "f{} tool_calls",
    ),
    (
        "behind the name and the first arguments",
        &[
            call!(r#"{"index":0,"function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"arguments":"1}"}}"#),
            END,
        ],
        "a",
        "f{\"x\":1} tool_calls",
    ),
    (
        "with the name once more, without numbers",
        &[
            call!(r#"{"function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"id":"a","function":{"name":"f","arguments":"1}"}}"#),
            END,
        ],
        "a",
        "f{\"x\":1} tool_calls",
    ),
    (
        "of two calls, each a piece late",
        &[
            call!(r#"{"index":0,"function":{"name":"f"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"arguments":"{}"}}"#),
            call!(r#"{"index":1,"function":{"name":"g"}}"#),
            call!(r#"{"index":1,"id":"b","function":{"arguments":"{}"}}"#),
            END,
        ],
        "a b",
        "f{} g{} tool_calls",
    ),
    (
        "in the name's event, which comes behind the arguments",
        &[
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"1}"}}"#),
            END,
        ],
        "a",
        "f{\"x\":1} tool_calls",
    ),
    (
        "none",
        &[
            call!(r#"{"index":0,"function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"1}"}}"#),
            END,
        ],
        "-",
        "f{\"x\":1} tool_calls",
    ),
    (
        "none, of whole calls",
        &[
            call!(
                r#"{"index":0,"function":{"name":"f","arguments":"{}"}},{"index":1,"function":{"name":"g","arguments":"{}"}}"#
            ),
            END,
        ],
        "- -",
        "f{} g{} tool_calls",
    ),
    (
        "none, of a call without arguments, and text behind it",
        &[call!(r#"{"index":0,"function":{"name":"f"}}"#), say!("Done."), END],
        "-",
        "Done. f{} tool_calls",
    ),
    (
        "none, and no finish reason",
        &[call!(r#"{"index":0,"function":{"name":"f","arguments":"{}"}}"#)],
        "-",
        "f{} tool_calls",
    ),
    (
        "when the client was told of the call",
        &[
            call!(r#"{"index":0,"function":{"name":"f"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"arguments":"}"}}"#),
            END,
        ],
        "-",
        "f{} tool_calls",
    ),
    (
        "the same for two calls",
        &[
            call!(r#"{"index":0,"function":{"name":"f"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"arguments":"{}"}}"#),
            call!(r#"{"index":1,"function":{"name":"g"}}"#),
            call!(r#"{"index":1,"id":"a","function":{"arguments":"{}"}}"#),
            END,
        ],
        "a -",
        "f{} g{} tool_calls",
    ),
];

/// An id counts as long as the client has not been told of the call.
#[tokio::test]
async fn ids_that_come_late() {
    for (kind, events, ids, expected) in IDS {
        let events: Vec<&str> = events.iter().copied().chain(["[DONE]"]).collect();
        for (wire, answer) in [
            ("compatible", compatible(Server::Generic, Given::events(&events)).await),
            ("web", web(Given::events(&events)).await),
        ] {
            let answer = answer.expect(kind);
            let given: Vec<&str> = answer
                .tool_calls
                .iter()
                .map(|call| if call.id.starts_with("call_") { "-" } else { &*call.id })
                .collect();
            assert_eq!(given.join(" "), *ids, "{kind}, {wire}");
            assert_eq!(shown(Ok(answer)), *expected, "{kind}, {wire}");
        }
    }
}

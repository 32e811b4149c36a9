//! Native streams lose nothing, and leftovers are not content.

use serde_json::json;
use tower_qwen::qwen::compatible::Server;

use crate::wires::{Given, Row, compatible, shown, streams, web, wholes};

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
        "another number for the rest of a second call",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\": "}}"#),
            call!(r#"{"index":0,"function":{"arguments":"1}"}}"#),
            call!(r#"{"index":0,"id":"b","function":{"name":"g","arguments":""}}"#),
            call!(r#"{"index":1,"function":{"arguments":"{\"y\": "}}"#),
            call!(r#"{"index":1,"function":{"arguments":"2}"}}"#),
            END,
        ],
        "f{\"x\": 1} g{\"y\": 2} tool_calls",
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
        "a name in two pieces",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"get_","arguments":""}}"#),
            call!(r#"{"index":0,"function":{"name":"weather","arguments":"{\"x\":1}"}}"#),
            END,
        ],
        "get_weather{\"x\":1} tool_calls",
    ),
    (
        "a name in three pieces",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"write"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"_"}}"#),
            call!(r#"{"index":0,"id":null,"function":{"name":"file"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{}"}}"#),
            END,
        ],
        "write_file{} tool_calls",
    ),
    (
        "a name in pieces, without numbers and ids",
        &[
            call!(r#"{"function":{"name":"get"}}"#),
            call!(r#"{"function":{"name":"_weather","arguments":"{}"}}"#),
            END,
        ],
        "get_weather{} tool_calls",
    ),
    (
        "two names in pieces that interleave",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"get_","arguments":""}}"#),
            call!(r#"{"index":1,"id":"b","function":{"name":"write","arguments":""}}"#),
            call!(r#"{"index":0,"function":{"name":"weather"}}"#),
            call!(r#"{"index":1,"function":{"name":"_file"}}"#),
            call!(r#"{"index":1,"function":{"arguments":"{\"x\":2}"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":1}"}}"#),
            END,
        ],
        "get_weather{\"x\":1} write_file{\"x\":2} tool_calls",
    ),
    (
        "two names in pieces, in one event each",
        &[
            call!(
                r#"{"index":0,"id":"a","function":{"name":"write"}},{"index":1,"id":"b","function":{"name":"get_"}}"#
            ),
            call!(
                r#"{"index":0,"function":{"name":"_file"}},{"index":1,"function":{"name":"weather"}}"#
            ),
            call!(
                r#"{"index":0,"function":{"arguments":"{}"}},{"index":1,"function":{"arguments":"{}"}}"#
            ),
            END,
        ],
        "write_file{} get_weather{} tool_calls",
    ),
    (
        "arguments between the pieces of another call's name",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"get_"}}"#),
            call!(r#"{"index":1,"id":"b","function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"index":0,"function":{"name":"weather"}}"#),
            call!(r#"{"index":1,"function":{"arguments":"2}"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":1}"}}"#),
            END,
        ],
        "get_weather{\"x\":1} f{\"x\":2} tool_calls",
    ),
    (
        "names of three calls, letter by letter, of which one never ends",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"get"}}"#),
            call!(r#"{"index":1,"id":"b","function":{"name":"get_wea"}}"#),
            call!(r#"{"index":2,"id":"c","function":{"name":"w"}}"#),
            call!(r#"{"index":0,"function":{"name":"_weather"}}"#),
            call!(r#"{"index":2,"function":{"name":"rite_file"}}"#),
            call!(r#"{"index":2,"function":{"arguments":"{\"x\":3}"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":1}"}}"#),
            END,
        ],
        "get_weather{\"x\":1} get_wea{} write_file{\"x\":3} tool_calls",
    ),
    (
        "names and ids of two calls that interleave",
        &[
            call!(r#"{"index":0,"function":{"name":"f"}}"#),
            call!(r#"{"index":1,"function":{"name":"get_"}}"#),
            call!(r#"{"index":0,"id":"a"}"#),
            call!(r#"{"index":1,"id":"b","function":{"name":"weather"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{}"}}"#),
            call!(r#"{"index":1,"function":{"arguments":"{\"x\":1}"}}"#),
            END,
        ],
        "f{} get_weather{\"x\":1} tool_calls",
    ),
    (
        "arguments that repeat all so far",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":\"Pa"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":\"Paris\"}"}}"#),
            END,
        ],
        "f{\"x\":\"Paris\"} tool_calls",
    ),
    (
        "arguments that repeat all so far, with all else too",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":""}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "arguments of two calls that repeat all so far and interleave",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x"}}"#),
            call!(r#"{"index":1,"id":"b","function":{"name":"g","arguments":"{\"y"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":1"}}"#),
            call!(r#"{"index":1,"function":{"arguments":"{\"y\":2"}}"#),
            call!(r#"{"index":1,"function":{"arguments":"{\"y\":2}"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":1}"}}"#),
            END,
        ],
        "f{\"x\":1} g{\"y\":2} tool_calls",
    ),
    (
        "arguments that are closed each time",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":\"\"}"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":\"y\"}"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":\"yz\",\"v\":[1]}"}}"#),
            END,
        ],
        "f{\"x\":\"yz\",\"v\":[1]} tool_calls",
    ),
    (
        "arguments that are closed each time, with all else too",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":12}"}}"#),
            call!(r#"{"index":1,"id":"b","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            call!(
                r#"{"index":1,"id":"b","function":{"name":"f","arguments":"{\"x\":1,\"y\":2}"}}"#
            ),
            // Both whole calls once more, at the end.
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":12}"}}"#),
            call!(
                r#"{"index":1,"id":"b","function":{"name":"f","arguments":"{\"x\":1,\"y\":2}"}}"#
            ),
            END,
        ],
        "f{\"x\":12} f{\"x\":1,\"y\":2} tool_calls",
    ),
    (
        "objects that are closed each time",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":{"x":null}}}"#),
            call!(r#"{"index":0,"id":"a","function":{"arguments":{"x":[1,2]}}}"#),
            call!(r#"{"index":0,"id":"a","function":{"arguments":{"x":[1,20]}}}"#),
            END,
        ],
        "f{\"x\":[1,20]} tool_calls",
    ),
    (
        "calls of one function that differ in what one says more, no ids",
        &[
            call!(r#"{"index":0,"function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            call!(r#"{"index":0,"function":{"name":"f","arguments":"{\"x\":1,\"y\":2}"}}"#),
            END,
        ],
        "f{\"x\":1} f{\"x\":1,\"y\":2} tool_calls",
    ),
    (
        "text behind a call that may grow",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            say!("text"),
            END,
        ],
        "text f{\"x\":1} tool_calls",
    ),
    (
        "arguments that repeat all so far, cut",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":\"Pa"}}"#),
            END,
        ],
        "f{\"x\":\"Pa length",
    ),
    (
        "arguments in which the object stands in itself",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\":1}"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"}"}}"#),
            END,
        ],
        "f{\"x\":{\"x\":1}} tool_calls",
    ),
    (
        "several chunks in one event",
        &[
            concat!(
                "[",
                call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x"}}"#),
                ", ",
                call!(r#"{"index":0,"function":{"arguments":"\":1}"}}"#),
                "]"
            ),
            r#"[]"#,
            r#"[null, 7, "x", [{"choices":[{"delta":{"content":"no"}}]}]]"#,
            concat!(
                "[",
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
                "]"
            ),
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "the beginning of a name that nothing follows",
        &[call!(r#"{"index":0,"id":"a","function":{"name":"get_","arguments":"{}"}}"#), END],
        "get_{} tool_calls",
    ),
    (
        "two whole calls of one number and id",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":2}"}}"#),
            END,
        ],
        "f{\"x\":1} f{\"x\":2} tool_calls",
    ),
    (
        "two whole calls of one number and id, of two functions",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"g","arguments":"{"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"g","arguments":"}"}}"#),
            END,
        ],
        "f{\"x\":1} g{} tool_calls",
    ),
    (
        "two whole calls of one number, without ids",
        &[
            call!(r#"{"index":0,"function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            call!(r#"{"index":0,"function":{"name":"f","arguments":"{\"x\":2}"}}"#),
            END,
        ],
        "f{\"x\":1} f{\"x\":2} tool_calls",
    ),
    (
        "two whole calls, without numbers and ids",
        &[
            call!(r#"{"function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            call!(r#"{"function":{"name":"g","arguments":"{\"x\":2}"}}"#),
            END,
        ],
        "f{\"x\":1} g{\"x\":2} tool_calls",
    ),
    (
        "a whole call, and all of it once more",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "a call in pieces, and all of it once more",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\""}}"#),
            call!(r#"{"index":0,"function":{"arguments":":1}"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "a call in pieces, and all of it once more in a whole message",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\""}}"#),
            call!(r#"{"index":0,"function":{"arguments":":1}"}}"#),
            r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}]},"finish_reason":"tool_calls"}]}"#,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "text in pieces of messages",
        &[
            r#"{"choices":[{"delta":null,"message":{"content":"He"}}]}"#,
            r#"{"choices":[{"message":{"content":"y"}}]}"#,
            r#"{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#,
        ],
        "Hey stop",
    ),
    (
        "a call in either form",
        &[
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\""}}],"function_call":{"name":"f","arguments":"{\"x\""}}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}],"function_call":{"arguments":":1}"}}}]}"#,
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "all of a name so far in each piece",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"get_"}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"get_weather"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{}"}}"#),
            END,
        ],
        "get_weather{} tool_calls",
    ),
    (
        "an empty object in the place of arguments that follow",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#),
            call!(r#"{"index":0,"function":{"arguments":"{\"x\""}}"#),
            call!(r#"{"index":0,"function":{"arguments":":1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "an empty object, and everything again with the arguments",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":{}}}"#),
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "an empty object, and then another call",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#),
            call!(r#"{"index":0,"id":"b","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
            END,
        ],
        "f{} f{\"x\":1} tool_calls",
    ),
    (
        "name and arguments beside the function",
        &[
            call!(r#"{"index":0,"id":"a","name":"f","arguments":"{\"x\":"}"#),
            call!(r#"{"index":0,"arguments":"1}"}"#),
            END,
        ],
        "f{\"x\":1} tool_calls",
    ),
    (
        "arguments beside the function, as an object",
        &[call!(r#"{"index":0,"id":"a","function":{"name":"f"},"input":{"x":1}}"#), END],
        "f{\"x\":1} tool_calls",
    ),
    (
        "arguments under another name",
        &[call!(r#"{"index":0,"id":"a","name":"f","parameters":{"x":1},"function":null}"#), END],
        "f{\"x\":1} tool_calls",
    ),
    (
        "no name",
        &[call!(r#"{"index":0,"id":"a","function":{"arguments":"{\"x\":1}"}}"#), END],
        "Upstream: the upstream did not name the function of call 1 of its answer",
    ),
    (
        "no name, of the second of two",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#),
            call!(r#"{"index":1,"id":"b","function":{"name":"","arguments":"{}"}}"#),
            END,
        ],
        "Upstream: the upstream did not name the function of call 2 of its answer",
    ),
    (
        "neither name nor arguments, of the second of two",
        &[
            call!(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#),
            call!(r#"{"index":1,"function":{"name":null,"arguments":""}}"#),
            END,
        ],
        "f{} tool_calls",
    ),
    (
        "calls that were not sent",
        &[END],
        "Upstream: the upstream ended its answer for calls that it did not send",
    ),
    ("text, and calls that were not sent", &[say!("Hi"), END], "Hi stop"),
    // The call may stand in the thinking.
    (
        "thinking, and calls that were not sent",
        &[r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#, END],
        "(hm) stop",
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

/// A whole message behind the deltas says nothing new, as OpenAI's own package has it.
#[tokio::test]
async fn a_message_behind_the_deltas() {
    let whole = r#"{"choices":[{"message":{"content":"Hey"},"finish_reason":"stop"}]}"#;
    for (kind, events, expected) in [
        ("text", &[say!("He"), say!("y"), whole, "[DONE]"][..], "Hey stop"),
        ("empty deltas before it", &[say!(""), whole, "[DONE]"], "Hey stop"),
        ("nothing before it", &[whole, "[DONE]"], "Hey stop"),
        (
            "thinking",
            &[r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#, say!("Hey"), whole],
            "(hm) Hey stop",
        ),
    ] {
        let answer = compatible(Server::Generic, Given::events(events)).await;
        assert_eq!(shown(answer), expected, "{kind}");
    }
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

/// What stands in one message with calls, and what is left of it. A server does not say what came first.
const BESIDE: &[(&str, &str, &str)] = &[
    ("white space", r"\n\n", ""),
    ("other white space", r"\u00a0\n", ""),
    ("text", "Look.", "Look. "),
    ("a closer", "</tool_call>", ""),
    ("closers", r"\n</function>\n</tool_call></tool_call>", ""),
    ("a closer of another spelling", "</tool_calls>", ""),
    ("closers of arguments", r"</parameter>\n</function>", ""),
    ("closers of arguments in another dialect", r"</arguments>\n</tool_call>", ""),
    ("a shortened closer", "</func>", ""),
    ("a closer of another dialect", "</invoke>", ""),
    ("a token", "<|im_end|>", ""),
    ("the other token", "<|endoftext|>", ""),
    ("a brace too many", r"}\n</tool_call>", ""),
    ("braces too many", r"}}</tool_call>\n", ""),
    ("a closer, and text behind it", r"</tool_call>\nDone.", "Done. "),
    ("text, and a closer in a line of its own", r"Look.\n</tool_call>", "Look. "),
    ("text, and closers", r"Look.\n\n</function>\n</tool_call>\n", "Look. "),
    ("text between closers", r"</tool_call>\nLook.\n</tool_call>", "Look. "),
    ("text, and a token", r"Look.\n<|im_end|>", "Look. "),
    ("a closer that text is about", "It ends with </tool_call>", "It ends with </tool_call> "),
    ("a closer in the midst of text", r"a\n</tool_call>\nb", "a\n</tool_call>\nb "),
    ("other markup", r"Look.\n</div>", "Look.\n</div> "),
    ("a brace", "}", "} "),
    ("a bracket at the end", r"Look.\n[", "Look.\n[ "),
];

/// They are left out whether they come with the calls, whole or streamed, or in events of their own
/// before them or behind them, cut anywhere.
#[tokio::test]
async fn leftovers_beside_calls_are_not_content() {
    const CALL: &str =
        r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]"#;
    for (kind, content, text) in BESIDE {
        let expected = format!("{text}f{{}} tool_calls");
        let beside = format!(r#"{{"content":"{content}",{CALL}}}"#);
        let whole =
            format!(r#"{{"choices":[{{"message":{beside},"finish_reason":"tool_calls"}}]}}"#);
        wholes(&[(kind, &whole, &expected)]).await;
        let beside = format!(r#"{{"choices":[{{"delta":{beside}}}]}}"#);
        let call = format!(r#"{{"choices":[{{"delta":{{{CALL}}}}}]}}"#);
        let content: String = serde_json::from_str(&format!("\"{content}\"")).expect("a string");
        let characters = |text: &str| -> Vec<String> {
            let say = |c| json!({"choices": [{"delta": {"content": c}}]}).to_string();
            text.chars().map(String::from).map(say).collect()
        };
        let one = vec![json!({"choices": [{"delta": {"content": content}}]}).to_string()];
        let cut = characters(&content);
        for (how, events) in [
            ("beside", vec![beside]),
            ("behind", [vec![call.clone()], one].concat()),
            ("behind, in characters", [vec![call.clone()], cut].concat()),
        ] {
            let mut events: Vec<&str> = events.iter().map(String::as_str).collect();
            events.extend([END, "[DONE]"]);
            let answer = compatible(Server::Generic, Given::events(&events)).await;
            assert_eq!(shown(answer), expected, "{kind}, {how}, compatible");
            assert_eq!(shown(web(Given::events(&events)).await), expected, "{kind}, {how}, web");
        }
    }
}

/// Text that is cut anywhere loses the same white space before a call.
#[tokio::test]
async fn white_space_before_a_call_wherever_text_is_cut() {
    for (text, expected) in [
        ("Look.\n\n", "Look. f{} tool_calls"),
        ("Look. \n", "Look. f{} tool_calls"),
        ("a\n\nb ", "a\n\nb f{} tool_calls"),
        ("a\u{3000}b\u{a0}\t", "a\u{3000}b f{} tool_calls"),
        (" a", " a f{} tool_calls"),
    ] {
        for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
            let say = |text: &str| json!({"choices": [{"delta": {"content": text}}]}).to_string();
            let (before, behind) = (say(&text[..at]), say(&text[at..]));
            let events = [&*before, &behind, f!(), END, "[DONE]"];
            let answer = compatible(Server::Generic, Given::events(&events)).await;
            assert_eq!(shown(answer), expected, "{text:?} at {at}, compatible");
            assert_eq!(shown(web(Given::events(&events)).await), expected, "{text:?} at {at}, web");
        }
    }
}

/// The calls of a whole message, and what becomes of them.
const WHOLE_CALLS: &[(&str, &str, &str)] = &[
    (
        "two of one id",
        r#"{"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"a","function":{"name":"f","arguments":"{\"x\":2}"}}"#,
        "f{\"x\":1} f{\"x\":2} tool_calls",
    ),
    (
        "two of one id, and no arguments in the first",
        r#"{"id":"a","function":{"name":"f","arguments":"{}"}},{"id":"a","function":{"name":"f","arguments":"{\"x\":2}"}}"#,
        "f{} f{\"x\":2} tool_calls",
    ),
    (
        "two of one id, of two functions",
        r#"{"id":"a","function":{"name":"f","arguments":"{}"}},{"id":"a","function":{"name":"g","arguments":"{}"}}"#,
        "f{} g{} tool_calls",
    ),
    (
        "two of one id, whose arguments are objects",
        r#"{"id":"a","function":{"name":"f","arguments":{"x":1}}},{"id":"a","function":{"name":"f","arguments":{"x":2}}}"#,
        "f{\"x\":1} f{\"x\":2} tool_calls",
    ),
    (
        "three without ids",
        r#"{"function":{"name":"f","arguments":"{}"}},{"function":{"name":"f","arguments":"{}"}},{"function":{"name":"g","arguments":"{}"}}"#,
        "f{} f{} g{} tool_calls",
    ),
    (
        "two of the number 0",
        r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}},{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":2}"}}"#,
        "f{\"x\":1} f{\"x\":2} tool_calls",
    ),
    (
        "name and arguments beside the function",
        r#"{"id":"a","name":"f","arguments":"{\"x\":1}"}"#,
        "f{\"x\":1} tool_calls",
    ),
    (
        "name and input beside the function",
        r#"{"type":"tool_use","id":"a","name":"f","input":{"x":1}}"#,
        "f{\"x\":1} tool_calls",
    ),
    (
        "nothing between two",
        r#"{"id":"a","function":{"name":"f","arguments":"{}"}},null,{}"#,
        "f{} tool_calls",
    ),
    (
        "no name",
        r#"{"id":"a","function":{"name":null,"arguments":"{\"x\":1}"}}"#,
        "Upstream: the upstream did not name the function of call 1 of its answer",
    ),
    (
        "no name of the second",
        r#"{"id":"a","function":{"name":"f","arguments":"{}"}},{"id":"b","function":{"arguments":"{}"}}"#,
        "Upstream: the upstream did not name the function of call 2 of its answer",
    ),
    ("none", "", "Upstream: the upstream ended its answer for calls that it did not send"),
];

#[tokio::test]
async fn calls_of_whole_messages() {
    for (kind, calls, expected) in WHOLE_CALLS {
        let message = format!(r#"{{"role":"assistant","content":null,"tool_calls":[{calls}]}}"#);
        let body =
            format!(r#"{{"choices":[{{"message":{message},"finish_reason":"tool_calls"}}]}}"#);
        wholes(&[(kind, &body, expected)]).await;
    }
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
        "in two pieces",
        &[
            call!(r#"{"index":0,"id":"call_","function":{"name":"f","arguments":""}}"#),
            call!(r#"{"index":0,"id":"abc","function":{"arguments":"{}"}}"#),
            END,
        ],
        "call_abc",
        "f{} tool_calls",
    ),
    (
        "its beginning, and then all of it",
        &[
            call!(r#"{"index":0,"id":"toolu_","function":{"name":"f"}}"#),
            call!(r#"{"index":0,"id":"toolu_1","function":{"arguments":"{}"}}"#),
            END,
        ],
        "toolu_1",
        "f{} tool_calls",
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
                .map(|call| if call.id.len() == "call_".len() + 32 { "-" } else { &*call.id })
                .collect();
            assert_eq!(given.join(" "), *ids, "{kind}, {wire}");
            assert_eq!(shown(Ok(answer)), *expected, "{kind}, {wire}");
        }
    }
}

//! What reading a request of Ollama's API costs, whatever its shape: allocated bytes, counted.

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use tower_qwen::ollama::{decode, decode_generate};

#[allow(dead_code, reason = "the shapes of the chat API are for another test")]
mod shapes;
use shapes::Shape;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What a request may take beside its body and four times its size: the counts of `Limits` at their
/// largest.
const CONSTANT: usize = 32 << 20;

const fn shape(
    name: &'static str,
    before: &'static str,
    unit: &'static str,
    after: &'static str,
) -> Shape {
    Shape { name, before, unit, between: ",", after }
}

/// Every place that is a list, and every kind of thing that may be put there.
#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    shape("unknown lists", r#"{"model":"m","messages":[{"role":"user","content":"x"}],"vendor":["#, r#"[]"#, r#"]}"#),
    shape("unknown fields", r#"{"model":"m","messages":[{"role":"user","content":"x"}],"#, r#""v":0"#, r#"}"#),
    shape("fields of a message", r#"{"model":"m","messages":[{"role":"user","content":"x","#, r#""v":0"#, r#"}]}"#),
    shape("messages", r#"{"model":"m","messages":["#, r#"{"role":"user","content":"x"}"#, r#"]}"#),
    shape("messages by turns", r#"{"model":"m","messages":["#, r#"{"role":"user","content":"x"},{"role":"assistant","content":"y"}"#, r#"]}"#),
    shape("messages of system", r#"{"model":"m","messages":["#, r#"{"role":"system","content":"\n"},{"role":"user","content":"\n"}"#, r#"]}"#),
    shape("thinking", r#"{"model":"m","messages":["#, r#"{"role":"user","content":"x"},{"role":"assistant","thinking":"\n"}"#, r#"]}"#),
    shape("calls and results", r#"{"model":"m","messages":["#, r#"{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]},{"role":"tool","content":"r"}"#, r#"]}"#),
    shape("calls", r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":["#, r#"{"function":{"name":""}}"#, r#"]}]}"#),
    shape("calls with ids", r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":["#, r#"{"id":"i","function":{"name":"\n","arguments":{}}}"#, r#"]}]}"#),
    shape("lost results", r#"{"model":"m","messages":[{"role":"user","content":"x"},"#, r#"{"role":"tool","content":"r","tool_call_id":"a"}"#, r#"]}"#),
    shape("images", r#"{"model":"m","messages":[{"role":"user","content":"x","images":["#, r#""/9j/""#, r#"]}]}"#),
    shape("tools", r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":["#, r#"{"type":"function","function":{"name":"f"}}"#, r#"]}"#),
    shape("sequences", r#"{"model":"m","messages":[{"role":"user","content":"x"}],"options":{"stop":["#, r#""\n""#, r#"]}}"#),
    shape("options", r#"{"model":"m","messages":[{"role":"user","content":"x"}],"options":{"#, r#""v":0"#, r#"}}"#),
    shape("a schema", r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"a":["#, r#"[0]"#, r#"]}}}]}"#),
    shape("a form", r#"{"model":"m","messages":[{"role":"user","content":"x"}],"format":{"a":["#, r#"[0]"#, r#"]}}"#),
    shape("arguments", r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"a":["#, r#"[0]"#, r#"]}}}]}]}"#),
    Shape { name: "a text", before: r#"{"model":"m","messages":[{"role":"user","content":""#, unit: r#"word "#, between: "", after: r#""}]}"# },
    Shape { name: "a text of line ends", before: r#"{"model":"m","messages":[{"role":"user","content":""#, unit: r#"\n"#, between: "", after: r#""}]}"# },
    Shape { name: "an image", before: r#"{"model":"m","messages":[{"role":"user","content":"x","images":["/9j/"#, unit: r#"QUJD"#, between: "", after: r#""]}]}"# },
    Shape { name: "an image of short lines", before: r#"{"model":"m","messages":[{"role":"user","content":"x","images":["/9j/"#, unit: r#"QUJD\n"#, between: "", after: r#""]}]}"# },
    Shape { name: "thought much", before: r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","thinking":""#, unit: r#"word "#, between: "", after: r#""}]}"# },
];

/// The same of prompts.
#[rustfmt::skip]
const PROMPTS: &[Shape] = &[
    Shape { name: "a prompt", before: r#"{"model":"m","prompt":""#, unit: r#"word "#, between: "", after: r#""}"# },
    Shape { name: "a prompt of line ends", before: r#"{"model":"m","prompt":""#, unit: r#"\n"#, between: "", after: r#""}"# },
    Shape { name: "images of a prompt", before: r#"{"model":"m","prompt":"x","images":["/9j/""#, unit: r#","/9j/""#, between: "", after: r#"]}"# },
];

/// The most bytes that there were at once while a body was read, the body included.
fn peak(body: &Bytes, is_read: impl Fn(&Bytes) -> bool) -> (usize, bool) {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let is_read = is_read(body);
    (body.len() + ALLOCATED.peak_usage() - before, is_read)
}

/// Every shape of 256 KiB, and as much of each as is nearly always allowed. One test, for what is
/// allocated is counted of all.
#[test]
fn reading_a_body_costs_its_size() {
    all_counts_at_their_limits();
    let chats = SHAPES.iter().map(|shape| (shape, true));
    for (shape, is_chat) in chats.chain(PROMPTS.iter().map(|shape| (shape, false))) {
        for body in [shape.body(256 << 10), shape.times(8_000), shape.times(200)] {
            let body = Bytes::from(body);
            let is_read = |body: &Bytes| match is_chat {
                true => decode(body).is_ok(),
                false => decode_generate(body).is_ok(),
            };
            let ((most, is_read), len) = (peak(&body, is_read), body.len());
            assert!(most <= 5 * len + CONSTANT, "{}: {most} for {len}", shape.name);
            assert!(is_read || len > 10_000, "{} is none", shape.name);
        }
    }
}

/// All that is counted, each at its limit.
fn all_counts_at_their_limits() {
    let list = |unit: &str, count: usize| vec![unit; count].join(",");
    let images = list(r#""/9j/""#, 16_384);
    let calls = list(r#"{"function":{"name":"f"}}"#, 32_768);
    let turns = list(r#"{"role":"user","content":"x"},{"role":"assistant","content":"y"}"#, 8_190);
    let tools = list(r#"{"type":"function","function":{"name":"f"}}"#, 4_096);
    let body = format!(
        r#"{{"model":"m","tools":[{tools}],"messages":[{turns},{{"role":"user","images":[{images}]}},{{"role":"assistant","tool_calls":[{calls}]}}]}}"#
    );
    let body = Bytes::from(body);
    let (most, is_read) = peak(&body, |body| decode(body).is_ok());
    assert!(is_read);
    assert!(most <= 5 * body.len() + CONSTANT, "{most} for {}", body.len());
}

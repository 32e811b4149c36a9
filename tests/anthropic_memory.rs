//! What reading a request of the Messages API costs, whatever its shape: allocated bytes, counted.

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use tower_qwen::anthropic::decode;

#[allow(dead_code, reason = "the shapes of the chat API are for another test")]
mod shapes;
use shapes::Shape;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What a request may take beside its body and four times its size: the counts of `Limits` at their
/// largest.
const CONSTANT: usize = 16 << 20;

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
    shape("unknown lists", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"vendor":["#, "[]", "]}"),
    shape("unknown fields", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"#, r#""v":0"#, "}"),
    shape("fields of a block", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":"x","#, r#""v":0"#, "}]}]}"),
    shape("messages", r#"{"model":"m","max_tokens":1,"messages":["#, r#"{"role":"user","content":"x"}"#, "]}"),
    shape("messages by turns", r#"{"model":"m","max_tokens":1,"messages":["#, r#"{"role":"user","content":"x"},{"role":"assistant","content":"y"}"#, "]}"),
    shape("messages of system", r#"{"model":"m","max_tokens":1,"messages":["#, r#"{"role":"system","content":"\n"},{"role":"user","content":"\n"}"#, "]}"),
    shape("thinking", r#"{"model":"m","max_tokens":1,"messages":["#, r#"{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"thinking","thinking":"\n","signature":"\n"}]}"#, "]}"),
    shape("much thinking", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":["#, r#"{"type":"thinking","thinking":"h"}"#, "]}]}"),
    shape("calls and results", r#"{"model":"m","max_tokens":1,"messages":["#, r#"{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f"}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a"}]}"#, "]}"),
    shape("calls", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":["#, r#"{"type":"tool_use","id":"","name":""}"#, "]}]}"),
    shape("calls with escapes", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":["#, r#"{"type":"tool_use","id":"\n","name":"\n","input":[]}"#, r#"]},{"role":"user","content":"x"}]}"#),
    shape("lost results", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":["#, r#"{"type":"tool_result","tool_use_id":"a","content":"r"}"#, "]}]}"),
    shape("texts", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":["#, r#"{"type":"text","text":"x"}"#, "]}]}"),
    shape("texts with escapes", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":["#, r#"{"type":"text","text":"\n"}"#, "]}]}"),
    shape("texts of the prompt", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"system":["#, r#"{"type":"text","text":"x"}"#, "]}"),
    shape("images", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":["#, r#"{"type":"image","source":{"type":"url","url":"u"}}"#, "]}]}"),
    shape("documents", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":["#, r#"{"type":"document","source":{"type":"base64","data":""}}"#, "]}]}"),
    shape("blocks of a result", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":["#, r#"{"type":"tool_reference","tool_name":"f"}"#, "]}]}]}"),
    shape("unknown blocks", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":["#, r#"{"type":"x"}"#, r#"]},{"role":"user","content":"x"}]}"#),
    shape("tools", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"tools":["#, r#"{"name":"f"}"#, "]}"),
    shape("tools of the vendor's", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"tools":["#, r#"{"type":"bash_1"}"#, "]}"),
    shape("tools that are added", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":["#, r#"{"type":"tool_addition","tool":{"name":"f"}}"#, r#"]},{"role":"user","content":"x"}]}"#),
    shape("tools that are removed", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":["#, r#"{"type":"tool_removal","name":"f"}"#, r#"]},{"role":"user","content":"x"}]}"#),
    shape("sequences", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"stop_sequences":["#, r#""\n""#, "]}"),
    shape("a schema", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"tools":[{"name":"f","input_schema":{"a":["#, "[0]", "]}}]}"),
    shape("a form", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"output_config":{"format":{"type":"json_schema","schema":{"a":["#, "[0]", "]}}}}"),
    shape("an input", r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":["#, "[0]", "]}]}]}"),
    Shape { name: "a text", before: r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":""#, unit: "word ", between: "", after: r#""}]}"# },
    Shape { name: "a text of line ends", before: r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":""#, unit: r"\n", between: "", after: r#""}]}]}"# },
    Shape { name: "an image", before: r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","data":""#, unit: "QUJD", between: "", after: r#""}}]}]}"# },
    Shape { name: "hidden thinking", before: r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"tq1h."#, unit: "QUJD", between: "", after: r#""}]}]}"# },
    Shape { name: "an error", before: r#"{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f"}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","is_error":true,"content":""#, unit: "word ", between: "", after: r#""}]}]}"# },
];

/// The most bytes that there were at once while a body was read, the body included.
fn peak(body: &Bytes) -> (usize, bool) {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let is_read = decode(body).is_ok();
    (body.len() + ALLOCATED.peak_usage() - before, is_read)
}

/// Every shape of 256 KiB, and as much of each as is nearly always allowed.
#[test]
fn reading_a_body_costs_its_size() {
    for shape in SHAPES {
        for body in [shape.body(256 << 10), shape.times(8_000), shape.times(200)] {
            let body = Bytes::from(body);
            let ((most, is_read), len) = (peak(&body), body.len());
            assert!(most <= 5 * len + CONSTANT, "{}: {most} for {len}", shape.name);
            assert!(is_read || len > 10_000, "{} is none", shape.name);
        }
    }
}

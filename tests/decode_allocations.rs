//! What reading a request allocates, counted: little beside the body, whatever its shape.
//!
//! The counting allocator is that of `allocation-counter`, and counts this thread only.

use allocation_counter::measure;
use bytes::Bytes;
use tower_qwen::openai::decode;

/// A body with one message, and `more` beside it.
fn body(more: &str) -> Bytes {
    Bytes::from(format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{more}}}"#))
}

/// What takes much more as a tree of values, where nothing is looked into.
#[test]
fn json_of_any_shape_costs_its_size() {
    let len = 1 << 17;
    let list = |unit: &str| unit.repeat(len / unit.len());
    let empty_lists = format!("[{}0]", list("[],"));
    let numbers = format!("[{}0]", list("0,"));
    let fields = format!("{{{}\"z\":0}}", list(r#""":0,"#));
    let objects = format!("[{}0]", list(r#"{"":{}},"#));
    // As deep as it may nest where it stands in a few other things.
    let levels = 500;
    let deep = format!("[{}0]", list(&("[".repeat(levels) + &"]".repeat(levels) + ",")));
    for json in [empty_lists, numbers, fields, objects, deep] {
        let places = [
            format!(r#""vendor":{json}"#),
            format!(r#""reasoning":{{"vendor":{json}}}"#),
            format!(r#""stream_options":{{"vendor":{json}}}"#),
            format!(r#""chat_template_kwargs":{{"vendor":{json}}}"#),
            format!(r#""response_format":{{"type":"x","vendor":{json}}}"#),
            format!(r#""tool_choice":{{"type":"x","vendor":{json}}}"#),
            format!(r#""tools":[{{"type":"x","vendor":{json}}}]"#),
            format!(r#""tools":[{{"type":"function","vendor":{json},"function":{{"name":"f"}}}}]"#),
            format!(
                r#""tools":[{{"type":"function","function":{{"name":"f","parameters":{{"x":{json}}}}}}}]"#
            ),
            format!(r#""tools":[{{"type":"function","name":"f","parameters":{{"x":{json}}}}}]"#),
        ];
        for more in places {
            let body = body(&more);
            let info = measure(|| drop(decode(&body).expect("valid")));
            let most = info.bytes_max as usize;
            assert!(most <= body.len() * 3, "{most} for {} bytes of {:.60}", body.len(), more);
        }
        let parts = format!(
            r#"{{"model":"m","messages":[{{"role":"user","vendor":{json},
            "content":[{{"type":"x","vendor":{json}}}, {{"type":"text","text":"x","vendor":{json}}}]}}]}}"#
        );
        let body = Bytes::from(parts);
        let info = measure(|| drop(decode(&body).expect("valid")));
        let most = info.bytes_max as usize;
        assert!(most <= body.len() * 5 / 2, "{most} for {} bytes of parts", body.len());
    }
}

/// One allocation a message, and none for what it says.
#[test]
fn a_message_is_one_allocation() {
    let allocations = |count: usize| {
        let messages = vec![r#"{"role":"user","content":"Hello","name":"ann"}"#; count].join(",");
        let body = Bytes::from(format!(r#"{{"model":"m","messages":[{messages}]}}"#));
        measure(|| drop(decode(&body).expect("valid"))).count_total
    };
    let (few, many) = (allocations(1000), allocations(2000));
    // The lists grow by doubling.
    assert!(many - few <= 1000 + 8, "{few} for 1,000 messages, {many} for 2,000");
}

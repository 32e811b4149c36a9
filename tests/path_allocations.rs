//! What the whole path of an answer allocates, counted: upstream's bytes, decoded, past the
//! session and the tools, and encoded for the client.
//!
//! The counting allocator is that of `allocation-counter`, and counts this thread only.

use std::pin::pin;

use allocation_counter::measure;
use serde_json::Value;

#[path = "../benches/stack/mod.rs"]
#[allow(dead_code, reason = "the benches use more of it")]
mod stack;
#[path = "../benches/streams/mod.rs"]
#[allow(dead_code, reason = "the benches use more of it")]
mod streams;
use stack::{Text, answer, events, pieces, read};

const EVENTS: usize = 8192;

/// How many events after the first ones are counted; not the last, in which the answer is
/// recorded.
const COUNTED: usize = 4096;

/// How much is allocated for [`COUNTED`] events in the middle of an answer.
fn allocations(text: Text, size: Option<usize>, waits: bool) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _guard = runtime.enter();
    let mut body = pin!(answer(pieces(&events(text, EVENTS), size), waits));
    let chunks = |frame: &[u8]| frame.windows(2).filter(|end| end == b"\n\n").count();
    let mut first = 0;
    while first < 1024 {
        assert!(read(body.as_mut(), 1, |frame| first += chunks(&frame)));
    }
    let mut counted = 0;
    let info = measure(|| {
        while counted < COUNTED {
            assert!(read(body.as_mut(), 1, |frame| counted += chunks(&frame)));
        }
    });
    info.count_total
}

/// What is measured does what it shall: the client gets the text that upstream wrote.
#[test]
fn the_answer_is_what_upstream_said() {
    let content = |event: &str| -> String {
        let event: Value = serde_json::from_str(event.trim_start_matches("data: ")).expect("JSON");
        event["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _guard = runtime.enter();
    for text in [Text::Prose, Text::Markup, Text::OtherKeys] {
        let events = events(text, 256);
        let mut answered = Vec::new();
        let body = answer(pieces(&events, None), true);
        read(pin!(body), usize::MAX, |frame| answered.extend_from_slice(&frame));
        let answered = String::from_utf8(answered).expect("UTF-8");
        let chunks = answered.strip_suffix("data: [DONE]\n\n").expect("an end");
        let got: String = chunks.split_terminator("\n\n").map(content).collect();
        let said: String = events.iter().map(|event| content(event)).collect();
        assert_eq!(got, said, "{text:?}");
        assert!(said.len() > 1_000);
    }
}

#[test]
fn prose_is_passed_on_without_an_allocation() {
    for size in [None, Some(1460)] {
        for waits in [false, true] {
            let count = allocations(Text::Prose, size, waits);
            assert_eq!(count, 0, "pieces of {size:?}, waits: {waits}");
        }
    }
}

#[test]
fn markup_is_passed_on_with_few() {
    for size in [None, Some(1460)] {
        for waits in [false, true] {
            let count = allocations(Text::Markup, size, waits);
            assert!(
                count <= COUNTED as u64 / 2,
                "{count} for {COUNTED} events, pieces of {size:?}, waits: {waits}"
            );
        }
    }
}

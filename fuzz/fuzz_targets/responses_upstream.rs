//! The adapter to the Responses API. What the edge of that API writes, it reads as what was said; and
//! any bytes are an answer or one error, the same however they are cut.
#![no_main]

#[path = "../../tests/messages/events.rs"]
mod events;
#[path = "../../tests/responses/round_trip.rs"]
mod round_trip;

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use tower_qwen::{Error, ErrorKind, chat::Answer};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().expect("a runtime")
});

/// An answer without what the adapter makes up, or the kind of the error.
fn comparable(answer: Result<Answer, Error>) -> Result<Answer, ErrorKind> {
    let mut answer = answer.map_err(|error| error.kind())?;
    for call in &mut answer.tool_calls {
        if call.id.starts_with("call_") {
            call.id = "call".into();
        }
    }
    Ok(answer)
}

fuzz_target!(|data: &[u8]| {
    let Some((&[kind, cut], rest)) = data.split_first_chunk::<2>() else { return };
    let cut = usize::from(cut).max(1);
    if kind % 2 == 0 {
        let (items, said) = events::answer(rest);
        let answer = RUNTIME.block_on(round_trip::round(items, cut));
        assert_eq!(answer.is_ok(), said.end.expect("an end").is_ok());
        if let Ok(answer) = answer {
            let kept = |text: &str| round_trip::kept(text, said.calls.len());
            assert_eq!(kept(&answer.text), kept(&said.text));
            assert_eq!(*answer.reasoning, *said.thinking);
            let calls = answer.tool_calls.iter();
            let calls: Vec<_> = calls.map(|call| (&*call.name, call.arguments.trim())).collect();
            let expected = said.calls.iter().map(|(name, json)| (&**name, json.trim()));
            assert_eq!(calls, expected.collect::<Vec<_>>());
        }
        return;
    }
    let type_of = if kind & 2 == 0 { "text/event-stream" } else { "application/json" };
    let body = Bytes::copy_from_slice(rest);
    let at_once = RUNTIME.block_on(round_trip::read(body.clone(), type_of, usize::MAX));
    let in_pieces = RUNTIME.block_on(round_trip::read(body, type_of, cut));
    assert_eq!(comparable(at_once), comparable(in_pieces));
});

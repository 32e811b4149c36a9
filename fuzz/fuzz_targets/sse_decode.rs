//! The decoder against its naive twin, whole and byte by byte, and no panic.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tower_qwen::sse::{Decoder, Event};

#[path = "../../tests/twins/sse.rs"]
mod twin;

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        while let Some(event) = decoder.next_event().expect("far below the limits") {
            events.push(event);
        }
    }
    decoder.finish().expect("far below the limits");
    events
}

fuzz_target!(|input: &[u8]| {
    let expected = twin::naive(input);
    assert_eq!(decode(std::iter::once(input)), expected);
    assert_eq!(decode(input.chunks(1)), expected);
});

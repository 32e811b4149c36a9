//! The decoder against its naive twin, whole, byte by byte, and in pieces so large that they are
//! kept, and no panic.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tower_qwen::sse::{Decoder, Event};

#[path = "../long_lines.rs"]
mod long_lines;
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
    let input = &long_lines::expand(input);
    let expected = twin::naive(input);
    assert_eq!(decode(std::iter::once(&**input)), expected);
    // Long lines would take all the time that there is.
    let small = if input.len() > 4096 { 61 } else { 1 };
    assert_eq!(decode(input.chunks(small)), expected);
    assert_eq!(decode(input.chunks(5000)), expected);
});

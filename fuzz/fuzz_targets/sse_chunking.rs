//! Two cuts of one input give the same events, the same error and the same end.
//!
//! The first two lines of the input are the sizes of the pieces, one character each. Pieces may be
//! so large that the decoder keeps them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tower_qwen::sse::{DecodeError, Decoder, Event, Unfinished};

#[path = "../long_lines.rs"]
mod long_lines;
use long_lines::expand;

type Decoded = (Vec<Event>, Result<Option<Unfinished>, DecodeError>, Option<String>);

fn decode(mut decoder: Decoder, sizes: &[u8], mut rest: &[u8]) -> Decoded {
    let mut events = Vec::new();
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        // `0` is a piece of one byte, `A` one of 18, `a` one of 1 KiB, `z` one of 26.
        let size = sizes.next().map_or(rest.len(), |&size| match size {
            b'a'.. => usize::from(size - b'`') * 1024,
            _ => usize::from(size.wrapping_sub(b'/')),
        });
        let (piece, tail) = rest.split_at(size.clamp(1, rest.len()));
        rest = tail;
        decoder.push(Bytes::copy_from_slice(piece));
        // Some pieces have to wait in line.
        if size.is_multiple_of(3) && !rest.is_empty() {
            continue;
        }
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Err(error), None),
            }
        }
    }
    let end = decoder.finish();
    (events, end, decoder.last_event_id().map(str::to_owned))
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |&byte| byte == b'\n');
    let (Some(one), Some(two), Some(stream)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    let stream = &expand(stream);
    for limit in [usize::MAX, 24, 6000] {
        let limited = |decoder: Decoder| decoder.max_line(limit).max_event(limit);
        assert_eq!(
            decode(limited(Decoder::new()), one, stream),
            decode(limited(Decoder::new()), two, stream)
        );
        assert_eq!(
            decode(limited(Decoder::lenient()), one, stream),
            decode(limited(Decoder::lenient()), two, stream)
        );
    }
});

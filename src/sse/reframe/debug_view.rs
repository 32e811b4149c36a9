use std::time::Instant;

use bytes::Bytes;
use memchr::memmem;
use tracing::{Level, enabled, trace};

/// Tells of every piece that arrives and every event that leaves, at level TRACE.
///
/// Whether anybody listens is asked once a stream, so that the others do not pay for it.
pub(super) struct DebugView {
    content: bool,
    opened: Instant,
    last: Instant,
    pieces: u64,
    events: u64,
}

impl DebugView {
    pub(super) fn if_enabled(content: bool) -> Option<Box<Self>> {
        enabled!(Level::TRACE).then(|| {
            let now = Instant::now();
            Box::new(Self { content, opened: now, last: now, pieces: 0, events: 0 })
        })
    }

    pub(super) fn piece_in(&mut self, piece: &Bytes, held: usize) {
        let (at_us, gap_us) = self.clock();
        trace!(
            piece = self.pieces,
            bytes = piece.len(),
            held,
            at_us,
            gap_us,
            content = self.content.then(|| String::from_utf8_lossy(piece)).as_deref(),
            "in"
        );
        self.pieces += 1;
    }

    pub(super) fn frame_out(&mut self, frame: &Bytes) {
        let (at_us, gap_us) = self.clock();
        let mut rest = &frame[..];
        while !rest.is_empty() {
            let length = memmem::find(rest, b"\n\n").map_or(rest.len(), |end| end + 2);
            let (event, next) = rest.split_at(length);
            trace!(
                event = self.events,
                bytes = event.len(),
                frame = frame.len(),
                at_us,
                gap_us,
                content = self.content.then(|| String::from_utf8_lossy(event)).as_deref(),
                "out"
            );
            self.events += 1;
            rest = next;
        }
    }

    pub(super) fn keep_alive(&mut self) {
        let (at_us, gap_us) = self.clock();
        trace!(at_us, gap_us, "keep-alive");
    }

    /// Microseconds since the response, and since the last call.
    fn clock(&mut self) -> (u64, u64) {
        let now = Instant::now();
        let micros = |since: Instant| u64::try_from((now - since).as_micros()).unwrap_or(u64::MAX);
        let times = (micros(self.opened), micros(self.last));
        self.last = now;
        times
    }
}

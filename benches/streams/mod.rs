//! The streams that the benches read: the delta of a chat with its usage, as chat.qwen.ai
//! writes it, about 316 bytes an event.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};

/// How many events the streams have that are not one large one.
pub(crate) const EVENTS: usize = 8192;

/// A stream, cut into pieces.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) events: usize,
    pub(crate) pieces: Vec<Bytes>,
}

impl Shape {
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

/// One event, the `n`th of its stream.
pub(crate) fn event(n: usize) -> String {
    const WORDS: [&str; 8] = ["The", " quick", " brown", " fox", ",", " jumps", " over", " dogs."];
    delta(n, WORDS[n % WORDS.len()])
}

/// The `n`th event of its stream, whose delta is `content` as it stands between the quotes.
pub(crate) fn delta(n: usize, content: &str) -> String {
    let tokens = n + 1;
    let mut event = String::with_capacity(320);
    write!(
        event,
        "data: {{\"choices\": [{{\"delta\": {{\"role\": \"assistant\", \"content\": \"{content}\", \
         \"phase\": \"answer\", \"status\": \"typing\"}}}}], \"usage\": {{\"input_tokens\": 1033, \
         \"output_tokens\": {tokens}, \"characters\": 0, \"total_tokens\": {}, \
         \"input_tokens_details\": {{\"text_tokens\": 1033}}, \"output_tokens_details\": \
         {{\"text_tokens\": {tokens}}}, \"cached_tokens\": 0}}}}\n\n",
        tokens + 1033,
    )
    .expect("a string takes everything");
    event
}

fn stream(events: usize) -> Bytes {
    (0..events).map(event).collect::<String>().into()
}

/// A buffer of its own, of the kind that HTTP clients read into.
fn piece(bytes: &[u8]) -> Bytes {
    BytesMut::from(bytes).split().freeze()
}

fn cut(mut stream: Bytes, size: usize) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(stream.len() / size + 1);
    while !stream.is_empty() {
        pieces.push(piece(&stream.split_to(size.min(stream.len()))));
    }
    pieces
}

/// One event of `size` bytes, in pieces of 8 KiB.
pub(crate) fn large_event(name: &'static str, size: usize) -> Shape {
    let stream = format!("data: {}\n\n", "0123456789abcdef".repeat(size / 16));
    Shape { name, events: 1, pieces: cut(stream.into(), 8192) }
}

/// `events` events in one piece.
pub(crate) fn one_piece(name: &'static str, events: usize) -> Shape {
    Shape { name, events, pieces: vec![piece(&stream(events))] }
}

/// The shapes that the budgets speak of.
pub(crate) fn shapes() -> Vec<Shape> {
    vec![
        Shape {
            name: "aligned",
            events: EVENTS,
            pieces: (0..EVENTS).map(|n| piece(event(n).as_bytes())).collect(),
        },
        Shape { name: "1,460 bytes", events: EVENTS, pieces: cut(stream(EVENTS), 1460) },
        Shape { name: "16 KiB", events: EVENTS, pieces: cut(stream(EVENTS), 16 * 1024) },
        Shape { name: "1 byte", events: EVENTS / 16, pieces: cut(stream(EVENTS / 16), 1) },
        one_piece("8,192 in one piece", EVENTS),
        large_event("one of 1 MiB in 8 KiB", 1 << 20),
    ]
}

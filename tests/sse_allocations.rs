//! What the event stream codec and layer cost in memory, counted.
//!
//! The counting allocator is that of `allocation-counter`, and counts this thread only.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use allocation_counter::{AllocationInfo, measure};
use bytes::{Bytes, BytesMut};
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use tower::Layer;
use tower_qwen::sse::{DecodeError, Decoder, reframe::SseReframeLayer};
use tower_service::Service;

#[path = "../benches/streams/mod.rs"]
#[allow(dead_code, reason = "the benches use more of it")]
mod streams;
use streams::{Shape, large_event, shapes};

fn shape(name: &str) -> Shape {
    shapes().into_iter().find(|shape| shape.name == name).expect("a known name")
}

/// Decodes the pieces and drops each event before the next.
fn decode(decoder: &mut Decoder, pieces: Vec<Bytes>) -> usize {
    let mut events = 0;
    for piece in pieces {
        decoder.push(piece);
        while decoder.next_event().expect("below the limits").is_some() {
            events += 1;
        }
    }
    events
}

/// Runs once to grow what is kept, and then counts.
fn steady(mut run: impl FnMut(Vec<Bytes>) -> usize, shape: &Shape) -> AllocationInfo {
    let pieces: Vec<_> =
        shape.pieces.iter().map(|piece| BytesMut::from(&piece[..]).split().freeze()).collect();
    run(shape.pieces.clone());
    let mut pieces = Some(pieces);
    let info = measure(|| {
        run(pieces.take().expect("once"));
    });
    // Dropping the pieces frees, but only `run` could have allocated.
    assert!(pieces.is_none());
    info
}

#[test]
fn the_decoder_does_not_allocate_on_a_steady_stream() {
    for name in ["aligned", "1,460 bytes", "16 KiB", "1 byte", "8,192 in one piece"] {
        for lenient in [false, true] {
            let shape = shape(name);
            let mut decoder = if lenient { Decoder::lenient() } else { Decoder::new() };
            let info = steady(
                |pieces| {
                    let events = decode(&mut decoder, pieces);
                    assert_eq!(events, shape.events);
                    events
                },
                &shape,
            );
            assert_eq!(info.count_total, 0, "{name}, lenient: {lenient}");
        }
    }
}

/// A body whose pieces can be filled again, so that one layer body lives through both rounds.
struct Upstream(std::vec::IntoIter<Bytes>);

impl Body for Upstream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(Frame::data).map(Ok))
    }
}

/// Reframes the pieces and drops each frame before the next; returns how many there were.
fn reframe(layer: SseReframeLayer, pieces: Vec<Bytes>) -> usize {
    let mut pieces = Some(pieces.into_iter());
    let mut service = layer.layer(tower::service_fn(move |_request: Request<()>| {
        let mut response = Response::new(Upstream(pieces.take().expect("called once")));
        response.headers_mut().insert(CONTENT_TYPE, "text/event-stream".parse().expect("valid"));
        std::future::ready(Ok::<_, Infallible>(response))
    }));
    let cx = &mut Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(response)) = pin!(service.call(Request::new(()))).poll(cx) else {
        panic!("the upstream is ready");
    };
    let mut body = pin!(response.into_body());
    let mut frames = 0;
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(cx) {
        frame.expect("well formed");
        frames += 1;
    }
    frames
}

#[test]
fn the_layer_does_not_allocate_on_a_steady_stream() {
    for name in ["aligned", "1,460 bytes", "16 KiB", "8,192 in one piece"] {
        for lenient in [false, true] {
            let layer = SseReframeLayer::new().lenient(lenient);
            let shape = shape(name);
            // What one response costs is measured on its first event alone, and taken off.
            let one = BytesMut::from(streams::event(0).as_bytes()).split().freeze();
            let mut one = Some(vec![one]);
            let response = measure(|| {
                reframe(layer, one.take().expect("once"));
            });
            let info = steady(|pieces| reframe(layer, pieces), &shape);
            let beyond = info.count_total - response.count_total;
            // A few more grow the one buffer in which cut events are joined.
            assert!(beyond <= 8, "{beyond} allocations on {name}, {} events", shape.events);
        }
    }
}

#[test]
fn a_line_without_end_stops_at_the_limit_with_memory_flat() {
    const PIECE: usize = 64 * 1024;
    const LIMIT: usize = Decoder::DEFAULT_MAX_LINE;
    let piece = BytesMut::from(&[b'x'; PIECE][..]).split().freeze();

    let mut decoder = Decoder::new();
    let mut read = 0_usize;
    let info = measure(|| {
        let mut error = None;
        while read < 1 << 30 {
            read += PIECE;
            decoder.push(piece.clone());
            match decoder.next_event() {
                Ok(event) => assert_eq!(event, None),
                Err(e) => error = Some(e),
            }
        }
        assert_eq!(error, Some(DecodeError::LineTooLong { limit: LIMIT }));
    });
    assert_eq!(read, 1 << 30);
    assert!(info.bytes_max <= 4 * LIMIT as u64, "{info:?}");
    // While a buffer is moved to one of twice the size, both are there; after the error nothing.
    assert!(info.bytes_current <= 1024, "{info:?}");

    let mut pieces = Some(vec![piece; (1 << 30) / PIECE]);
    let info = measure(|| {
        let layer = SseReframeLayer::new();
        let mut pieces = Some(pieces.take().expect("once").into_iter());
        let mut service = layer.layer(tower::service_fn(move |_request: Request<()>| {
            let mut response = Response::new(Upstream(pieces.take().expect("called once")));
            response.headers_mut().insert(CONTENT_TYPE, "text/event-stream".parse().expect("ok"));
            std::future::ready(Ok::<_, Infallible>(response))
        }));
        let cx = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(response)) = pin!(service.call(Request::new(()))).poll(cx) else {
            panic!("the upstream is ready");
        };
        let mut body = pin!(response.into_body());
        // A poll takes a bounded number of bytes, and asks to be polled again.
        let polled = (0..=LIMIT / PIECE).find_map(|_| match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => Some(frame),
            Poll::Pending => None,
        });
        let Some(Some(Err(error))) = polled else { panic!("an error at the limit") };
        assert!(error.to_string().contains("limit"), "{error}");
    });
    assert!(info.bytes_max <= 4 * LIMIT as u64, "{info:?}");
}

/// A comment or an unknown field of any length is nothing to keep, but a line all the same.
#[test]
fn comments_without_end_are_not_kept() {
    let mut decoder = Decoder::new();
    let piece = BytesMut::from(": a comment of no interest\n".repeat(1000).as_bytes());
    let piece = piece.freeze();
    let _shared = piece.clone();
    let info = measure(|| {
        for _ in 0..1000 {
            decoder.push(piece.clone());
            assert_eq!(decoder.next_event(), Ok(None));
        }
    });
    assert!(info.bytes_max <= 8 * 1024, "{info:?}");
}

/// The pieces are kept as they are, and joined in one buffer of the size of the line.
#[test]
fn a_large_event_is_joined_at_once() {
    for size in [1 << 20, 2 << 20] {
        let shape = large_event("large", size);
        let mut decoder = Decoder::new();
        let pieces = shape.pieces.clone();
        let list = (pieces.len() * size_of::<Bytes>()) as u64;
        let mut pieces = Some(pieces);
        let info = measure(|| {
            assert_eq!(decode(&mut decoder, pieces.take().expect("once")), 1);
        });
        // The list of pieces grows by doubling.
        assert!(info.count_total <= 12, "{info:?}");
        assert!(info.bytes_total <= size as u64 + 8192 + 4 * list, "{info:?}");
    }
}

/// A small piece may be a slice of a large buffer, which must not wait with it.
#[test]
fn small_pieces_of_a_line_are_not_kept() {
    let mut decoder = Decoder::new();
    decoder.push("data: ".into());
    assert_eq!(decoder.next_event(), Ok(None));
    for _ in 0..16 {
        let buffer = BytesMut::from(&[b'x'; 64 * 1024][..]).freeze();
        decoder.push(buffer.slice(..4000));
        assert_eq!(decoder.next_event(), Ok(None));
        assert!(buffer.is_unique());
    }
    // Nor is the end of a piece that begins a line.
    decoder.push("\n\n".into());
    assert!(decoder.next_event().expect("short").is_some());
    let buffer = BytesMut::from(format!(": c\ndata: {}", "x".repeat(60_000)).as_bytes()).freeze();
    decoder.push(buffer.clone());
    assert_eq!(decoder.next_event(), Ok(None));
    assert!(buffer.is_unique());
}

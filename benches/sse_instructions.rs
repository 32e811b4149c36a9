//! Instructions of the event stream codec and layer, which do not depend on what else the
//! machine does. Each run reads 8,192 events (512 in pieces of one byte; one of 1 or 2 MiB);
//! divide by that.
//!
//! Needs valgrind and `gungraun-runner` of the version in Cargo.toml.
#![allow(missing_docs, unreachable_pub, reason = "what the macros generate")]

use std::{
    convert::Infallible,
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use gungraun::{library_benchmark, library_benchmark_group, main};
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use tower::Layer;
use tower_qwen::sse::{Decoder, reframe::SseReframeLayer};
use tower_service::Service;

#[allow(dead_code, reason = "other benches use more of it")]
mod streams;
use streams::{Shape, large_event, shapes};

fn pieces(name: &str) -> Vec<Bytes> {
    kept(shapes().into_iter().find(|shape| shape.name == name).expect("a known name"))
}

/// One event of so many bytes.
fn one(bytes: usize) -> Vec<Bytes> {
    kept(large_event("one", bytes))
}

fn kept(shape: Shape) -> Vec<Bytes> {
    // Whoever allocated the pieces pays for freeing them, so that must not happen here.
    std::mem::forget(shape.pieces.clone());
    shape.pieces
}

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

#[library_benchmark]
#[bench::aligned(pieces("aligned"))]
#[bench::packets(pieces("1,460 bytes"))]
#[bench::records(pieces("16 KiB"))]
#[bench::bytes(pieces("1 byte"))]
#[bench::large(one(1 << 20))]
#[bench::twice_as_large(one(2 << 20))]
fn decode(pieces: Vec<Bytes>) -> usize {
    let mut decoder = Decoder::new();
    let mut events = 0;
    for piece in pieces {
        decoder.push(piece);
        while let Some(event) = decoder.next_event().expect("well formed") {
            black_box(&event);
            events += 1;
        }
    }
    events
}

#[library_benchmark]
#[bench::aligned(pieces("aligned"))]
#[bench::packets(pieces("1,460 bytes"))]
#[bench::records(pieces("16 KiB"))]
#[bench::bytes(pieces("1 byte"))]
#[bench::large(one(1 << 20))]
#[bench::twice_as_large(one(2 << 20))]
fn reframe(pieces: Vec<Bytes>) {
    let mut pieces = Some(pieces.into_iter());
    let mut service =
        SseReframeLayer::new().layer(tower::service_fn(move |_request: Request<()>| {
            let mut response = Response::new(Upstream(pieces.take().expect("called once")));
            response.headers_mut().insert(CONTENT_TYPE, "text/event-stream".parse().expect("ok"));
            std::future::ready(Ok::<_, Infallible>(response))
        }));
    let cx = &mut Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(response)) = pin!(service.call(Request::new(()))).poll(cx) else {
        unreachable!("the upstream is ready")
    };
    let mut body = pin!(response.into_body());
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(cx) {
        black_box(frame.expect("well formed"));
    }
}

library_benchmark_group!(name = sse, benchmarks = [decode, reframe]);
main!(library_benchmark_groups = sse);

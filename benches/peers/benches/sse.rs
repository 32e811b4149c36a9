//! The event stream codec and `SseReframeLayer` beside their peers, on the same bytes, in the
//! same run.
//!
//! All contestants are polled through the same kind of stream; they take turns, round by round,
//! and the best round of each counts, so that what else the machine does hits all alike. Prints
//! nanoseconds an event and, for the peers, how many times as long as `EventStream` they take.
//!
//! `cargo bench --bench sse` here; the number of rounds is the argument (`-- 40`).

use std::{
    convert::Infallible,
    future::Future,
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use http_body_util::StreamBody;
use tower_layer::Layer;
use tower_qwen::sse::{Decoder, EventStream, reframe::SseReframeLayer};
use tower_service::Service;

#[path = "../../streams/mod.rs"]
mod streams;
use streams::{Shape, large_event, one_piece, shapes};

type Run = fn(&Shape) -> usize;

fn pieces(shape: &Shape) -> impl Stream<Item = Result<Bytes, Infallible>> + use<'_> {
    stream::iter(shape.pieces.iter().cloned().map(Ok))
}

fn body(shape: &Shape) -> impl Body<Data = Bytes, Error = Infallible> + use<'_> {
    StreamBody::new(stream::iter(shape.pieces.iter().cloned().map(Frame::data).map(Ok)))
}

/// Polls to the end and counts the items.
fn drain<T, E: std::fmt::Debug>(stream: impl Stream<Item = Result<T, E>>) -> usize {
    let mut stream = pin!(stream);
    let cx = &mut Context::from_waker(Waker::noop());
    let mut items = 0;
    loop {
        match stream.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => {
                black_box(item.expect("well formed"));
                items += 1;
            }
            Poll::Ready(None) => return items,
            Poll::Pending => unreachable!("everything is there"),
        }
    }
}

fn event_stream(shape: &Shape) -> usize {
    drain(EventStream::new(body(shape)))
}

fn lenient(shape: &Shape) -> usize {
    drain(EventStream::with_decoder(body(shape), Decoder::lenient()))
}

fn decoder(shape: &Shape) -> usize {
    let mut decoder = Decoder::new();
    let mut events = 0;
    for piece in &shape.pieces {
        decoder.push(piece.clone());
        while let Some(event) = decoder.next_event().expect("well formed") {
            black_box(event);
            events += 1;
        }
    }
    events
}

struct Upstream<'a>(&'a Shape);

type Item = Result<Frame<Bytes>, Infallible>;

impl<'a> Service<Request<()>> for Upstream<'a> {
    type Response = Response<StreamBody<Frames<'a>>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<()>) -> Self::Future {
        let mut response = Response::new(StreamBody::new(Frames(self.0.pieces.iter())));
        response.headers_mut().insert(CONTENT_TYPE, "text/event-stream".parse().expect("valid"));
        std::future::ready(Ok(response))
    }
}

struct Frames<'a>(std::slice::Iter<'a, Bytes>);

impl Stream for Frames<'_> {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Item>> {
        Poll::Ready(self.0.next().cloned().map(Frame::data).map(Ok))
    }
}

fn reframed(layer: SseReframeLayer, shape: &Shape) -> usize {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut service = layer.layer(Upstream(shape));
    let Poll::Ready(Ok(response)) = pin!(service.call(Request::new(()))).poll(cx) else {
        unreachable!("the upstream is ready")
    };
    let mut body = pin!(response.into_body());
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(cx) {
        black_box(frame.expect("well formed"));
    }
    shape.events
}

fn reframe(shape: &Shape) -> usize {
    reframed(SseReframeLayer::new(), shape)
}

fn reframe_lenient(shape: &Shape) -> usize {
    reframed(SseReframeLayer::new().lenient(true), shape)
}

/// What no reader of lines can go below.
fn floor(shape: &Shape) -> usize {
    for piece in &shape.pieces {
        let mut rest = &piece.clone()[..];
        while let Some(end) = memchr::memchr2(b'\n', b'\r', black_box(rest)) {
            rest = &rest[end + 1..];
        }
    }
    shape.events
}

fn sse_stream(shape: &Shape) -> usize {
    drain(sse_stream::SseStream::new(body(shape)))
}

fn sseer(shape: &Shape) -> usize {
    drain(sseer::event_stream::EventStream::new(pieces(shape)))
}

fn eventsource_stream(shape: &Shape) -> usize {
    drain(eventsource_stream::EventStream::new(pieces(shape)))
}

const CONTESTANTS: [(&str, Run); 9] = [
    ("EventStream", event_stream),
    ("Decoder", decoder),
    ("lenient", lenient),
    ("SseReframe", reframe),
    ("lenient", reframe_lenient),
    ("memchr2 alone", floor),
    ("sse-stream", sse_stream),
    ("sseer", sseer),
    ("eventsource-stream", eventsource_stream),
];

/// The best of `rounds` of each contestant, in nanoseconds an event.
fn measure(runs: &[(&str, Run)], shape: &Shape, rounds: usize) -> Vec<f64> {
    let mut best = vec![Duration::MAX; runs.len()];
    // A stream that a peer reads in quadratic time would take all day.
    let mut given_up = vec![false; runs.len()];
    for round in 0..rounds {
        for (n, (name, run)) in runs.iter().enumerate() {
            if given_up[n] {
                continue;
            }
            // What ran before may have emptied the caches and given memory back.
            run(black_box(shape));
            let start = Instant::now();
            let events = run(black_box(shape));
            let time = start.elapsed();
            assert_eq!(events, shape.events, "{name} on {}", shape.name);
            best[n] = best[n].min(time);
            given_up[n] = round > 0 && time > Duration::from_millis(500);
        }
    }
    best.iter().map(|best| best.as_nanos() as f64 / shape.events as f64).collect()
}

fn main() {
    // For profilers: `-- only N M R` runs contestant N on shape M, R times.
    let args: Vec<_> = std::env::args().skip_while(|arg| arg != "only").skip(1).collect();
    if let [contestant, shape, repeats, ..] = &args[..] {
        let run = CONTESTANTS[contestant.parse::<usize>().expect("a number")].1;
        let shape = &shapes()[shape.parse::<usize>().expect("a number")];
        let repeats = 0..repeats.parse::<usize>().expect("a number");
        println!("{} events", repeats.map(|_| run(shape)).sum::<usize>());
        return;
    }
    let rounds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(20);
    println!("ns an event, best of {rounds}; in brackets: times EventStream\n");
    print!("| pieces |");
    for (name, _) in CONTESTANTS {
        print!(" {name} |");
    }
    println!("\n|---|{}", "---:|".repeat(CONTESTANTS.len()));
    for shape in shapes() {
        let times = measure(&CONTESTANTS, &shape, rounds);
        print!("| {} |", shape.name);
        for (n, time) in times.iter().enumerate() {
            if n < 6 {
                print!(" {time:.1} |");
            } else {
                print!(" {time:.1} ({:.1}×) |", time / times[0]);
            }
        }
        println!();
    }

    println!("\ntime(2n) / time(n); 2 is linear\n");
    let pairs = [
        (large_event("one event, 1 MiB", 1 << 20), large_event("one event, 2 MiB", 2 << 20)),
        (one_piece("8,192 in one piece", 8192), one_piece("16,384 in one piece", 16384)),
    ];
    for (small, large) in pairs {
        // All but the one whose time is quadratic.
        for (name, run) in &CONTESTANTS[..8] {
            let one = [(*name, *run)];
            let small_time = measure(&one, &small, rounds)[0] * small.events as f64;
            let large_time = measure(&one, &large, rounds)[0] * large.events as f64;
            let ratio = large_time / small_time;
            println!("{name}, {} of {} bytes: {ratio:.2}", small.name, small.bytes());
        }
    }
}

//! The reframing layer under a scripted upstream: no panic, each frame holds whole events, and
//! the client reads just the events that the upstream wrote.
//!
//! The first line of the input is the script: `p` is a poll without anything, `e` an error of
//! the body, `d` a client that goes away, `t` trailers, `l` makes the layer lenient, `i` wants
//! errors in band, and every other character is a piece of that size.
#![no_main]

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use libfuzzer_sys::fuzz_target;
use tower_layer::Layer;
use tower_qwen::sse::{
    Decoder, Event,
    reframe::{OnError, SseReframeLayer},
};
use tower_service::Service;

enum Step {
    Piece(Bytes),
    Pending,
    Error,
    Trailers,
    Drop,
}

struct Script(VecDeque<Step>);

impl Body for Script {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(Step::Piece(piece)) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            Some(Step::Pending) => Poll::Pending,
            Some(Step::Drop) => {
                self.0.push_front(Step::Drop);
                Poll::Pending
            }
            Some(Step::Error) => {
                // Polling on would be a bug of the layer.
                self.0.clear();
                self.0.push_back(Step::Drop);
                Poll::Ready(Some(Err(std::io::Error::other("reset"))))
            }
            Some(Step::Trailers) => {
                self.0.clear();
                Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::new()))))
            }
        }
    }
}

struct Upstream(Option<Script>);

impl Service<Request<()>> for Upstream {
    type Response = Response<Script>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Script>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<()>) -> Self::Future {
        let mut response = Response::new(self.0.take().expect("called once"));
        response.headers_mut().insert(CONTENT_TYPE, "text/event-stream".parse().expect("valid"));
        std::future::ready(Ok(response))
    }
}

fn events(lenient: bool, input: &[u8]) -> Vec<Event> {
    let mut decoder = if lenient { Decoder::lenient() } else { Decoder::new() };
    decoder.push(Bytes::copy_from_slice(input));
    let mut events = Vec::new();
    while let Some(event) = decoder.next_event().expect("far below the limits") {
        events.push(event);
    }
    events
}

fuzz_target!(|input: &[u8]| {
    let Some(end) = input.iter().position(|&byte| byte == b'\n') else { return };
    let (script, mut rest) = (&input[..end], &input[end + 1..]);
    let (mut steps, mut delivered) = (VecDeque::new(), Vec::new());
    let (mut lenient, mut in_band, mut dropped, mut broken, mut over) =
        (false, false, false, false, false);
    for &step in script {
        match step {
            b'l' => lenient = true,
            b'i' => in_band = true,
            _ if over => {}
            b'p' => steps.push_back(Step::Pending),
            b'e' => {
                steps.push_back(Step::Error);
                (over, broken) = (true, true);
            }
            b't' => {
                steps.push_back(Step::Trailers);
                over = true;
            }
            b'd' => {
                steps.push_back(Step::Drop);
                (over, dropped) = (true, true);
            }
            size => {
                let (piece, tail) = rest.split_at(usize::from(size % 64).min(rest.len()));
                rest = tail;
                delivered.extend_from_slice(piece);
                steps.push_back(Step::Piece(Bytes::copy_from_slice(piece)));
            }
        }
    }
    if !over {
        delivered.extend_from_slice(rest);
        steps.push_back(Step::Piece(Bytes::copy_from_slice(rest)));
    }
    let mut polls = steps.len() + 4;

    let on_error = if in_band { OnError::InBand } else { OnError::Propagate };
    let layer = SseReframeLayer::new().lenient(lenient).on_error(on_error);
    let mut service = layer.layer(Upstream(Some(Script(steps))));
    let cx = &mut Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(response)) = pin!(service.call(Request::new(()))).poll(cx) else {
        panic!("the upstream is ready at once");
    };
    let mut body = pin!(response.into_body());
    let (mut output, mut error, mut ended) = (Vec::new(), None, false);
    while polls > 0 && !ended {
        polls -= 1;
        match body.as_mut().poll_frame(cx) {
            Poll::Pending => {}
            Poll::Ready(None) => ended = true,
            Poll::Ready(Some(Err(e))) => {
                assert!(error.is_none() && !in_band);
                error = Some(e);
            }
            Poll::Ready(Some(Ok(frame))) => {
                assert!(error.is_none(), "a frame behind an error");
                let Ok(data) = frame.into_data() else { continue };
                assert!(!data.is_empty() && !data.contains(&b'\r'));
                // Ends behind a blank line, or behind a comment, or is a blank line.
                let last = data.strip_suffix(b"\n").expect("whole lines");
                let last = last.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
                let last = last.strip_prefix(b"\xef\xbb\xbf").unwrap_or(last);
                assert!(last.is_empty() || last.starts_with(b":"), "{data:?}");
                output.extend_from_slice(&data);
            }
        }
    }
    let mut got = events(false, &output);
    if dropped {
        assert!(!ended);
        assert_eq!(got, events(lenient, &delivered));
        return;
    }
    assert!(ended, "the body does not end");
    let told =
        if in_band && got.len() >= 2 && got[got.len() - 2].data.contains("upstream_stream_error") {
            assert!(got.pop().is_some_and(|event| event.is_done()));
            got.pop();
            true
        } else {
            error.is_some()
        };
    assert!(told || !broken, "a silent end");
    if !told {
        delivered.extend_from_slice(b"\n\n");
    }
    assert_eq!(got, events(lenient, &delivered));
});

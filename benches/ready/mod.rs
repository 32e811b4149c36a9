//! An upstream that answers at once and never waits, so that what a layer costs is the layer's.

use std::{
    future::{self, Future, Ready},
    hint::black_box,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use tower::Service;
use tower_qwen::{
    Error,
    chat::{ChatEvent, FinishReason},
};

/// How many events an answer has.
pub(crate) const EVENTS: usize = 8192;

/// Answers at once, with copies of what it was given.
#[derive(Clone)]
pub(crate) struct Upstream<T> {
    pub(crate) all: Arc<[T]>,
    pub(crate) kind: &'static str,
}

/// The answer.
pub(crate) struct Copies<T> {
    all: Arc<[T]>,
    at: usize,
}

impl<T: Clone> Copies<T> {
    fn next(&mut self) -> Option<T> {
        let next = self.all.get(self.at).cloned();
        self.at += 1;
        next
    }
}

impl<T, B> Service<Request<B>> for Upstream<T> {
    type Response = Response<Copies<T>>;
    type Error = Error;
    type Future = Ready<Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        black_box(&request);
        let mut response = Response::new(Copies { all: Arc::clone(&self.all), at: 0 });
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        future::ready(Ok(response))
    }
}

impl Stream for Copies<ChatEvent> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.next().map(Ok))
    }
}

impl Body for Copies<Bytes> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(self.next().map(Frame::data).map(Ok))
    }
}

/// Sends one request and takes the response, without a runtime's help.
pub(crate) fn exchange<S, B>(service: &mut S, request: Request<B>) -> S::Response
where
    S: Service<Request<B>, Error = Error>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    match pin!(service.call(request)).poll(&mut cx) {
        Poll::Ready(response) => response.expect("nothing fails here"),
        Poll::Pending => unreachable!("nothing waits here"),
    }
}

/// The next item of an answer. A layer may give others their turn first, after very many items.
pub(crate) fn next<S: Stream>(mut answer: Pin<&mut S>) -> Option<S::Item> {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        if let Poll::Ready(item) = answer.as_mut().poll_next(&mut cx) {
            return item;
        }
    }
    unreachable!("nothing waits here");
}

/// Words as a model gives them, in the upstream's buffers.
pub(crate) fn answer(event: fn(&'static str) -> ChatEvent) -> Upstream<ChatEvent> {
    const WORDS: [&str; 8] = ["The", " quick", " brown", " fox", ",", " jumps", " over", " dogs."];
    let words = (0..EVENTS - 1).map(|n| match event(WORDS[n % WORDS.len()]) {
        ChatEvent::Text(text) => ChatEvent::Text(String::from(text.as_str()).into()),
        ChatEvent::Reasoning(text) => ChatEvent::Reasoning(String::from(text.as_str()).into()),
        event => event,
    });
    let all = words.chain([ChatEvent::Finished(FinishReason::Stop)]).collect();
    Upstream { all, kind: "text/event-stream" }
}

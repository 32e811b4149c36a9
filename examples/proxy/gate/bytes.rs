//! What is asked of an upstream byte by byte: prompts, chats without a layer, embeddings.
//!
//! Nothing reads such an answer, so what it has cost is looked for in its end alone, where servers
//! write their counts: in the last few thousand bytes, which are kept for that.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::http::{Method, Request, Response, header::CONTENT_TYPE};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use memchr::memmem;
use pin_project_lite::pin_project;
use serde::Deserialize;
use tower::{BoxError, Service};
use tower_qwen::{
    Error, ErrorKind, Fate, FullBody,
    chat::{FinishReason, Usage},
    edge,
    usage::{Meter, Outcome, UsageLayer},
};

use super::super::{clients::Client, otlp::CallOf, settle::Settle, words::DATA};

/// How much of the end of an answer is kept, at least; at most twice as much.
const TAIL: usize = 4096;

/// How many bytes of text an event stands for whose text is not read: those of about one token.
const EVENT: u64 = 4;

/// An upstream, each answer of which is settled once.
#[derive(Clone, Debug)]
pub(crate) struct Metered<S> {
    inner: S,
    layer: UsageLayer,
    settle: Settle,
}

impl<S> Metered<S> {
    pub(crate) const fn new(inner: S, layer: UsageLayer, settle: Settle) -> Self {
        Self { inner, layer, settle }
    }
}

impl<S, B> Service<Request<FullBody>> for Metered<S>
where
    S: Service<Request<FullBody>, Response = Response<B>, Error = Error>,
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Response = Response<MeteredBody<B>>;
    type Error = Error;
    type Future = MeteredFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<FullBody>) -> Self::Future {
        let meter = (request.method() == Method::POST).then(|| {
            let tenant = request.extensions().get::<Client>().and_then(|client| client.tenant);
            let body = request.body().clone().into_bytes();
            let model = edge::model(&body).ok().flatten().unwrap_or_default();
            let settle = self.settle.of(request.extensions());
            self.layer.meter(tenant, model, body.len() as u64, settle)
        });
        MeteredFuture { call: self.inner.call(request), meter }
    }
}

pin_project! {
    /// The response of a [`Metered`].
    pub(crate) struct MeteredFuture<F> {
        #[pin]
        call: F,
        meter: Option<Meter>,
    }
}

impl<F, B> Future for MeteredFuture<F>
where
    F: Future<Output = Result<Response<B>, Error>>,
{
    type Output = Result<Response<MeteredBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.call.poll(cx));
        let mut meter = this.meter.take();
        let mut response = match answer {
            Ok(response) => response,
            Err(error) => {
                if let Some(meter) = &mut meter {
                    meter.failed(&error);
                }
                return Poll::Ready(Err(error));
            }
        };
        if !response.status().is_success()
            && let Some(mut meter) = meter.take()
        {
            let error = Error::new(ErrorKind::Upstream, "refused").with_fate(Fate::Refused);
            meter.failed(&error);
        }
        let is_stream = response.headers().get(CONTENT_TYPE).is_some_and(|kind| {
            kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream")
        });
        let call = response.extensions_mut().remove();
        let read = meter.map(|meter| Read { meter, call, tail: Vec::new(), is_stream });
        Poll::Ready(Ok(response.map(|inner| MeteredBody { inner, read })))
    }
}

pin_project! {
    /// An answer, which is settled at its end, or when it is dropped.
    pub(crate) struct MeteredBody<B> {
        #[pin]
        inner: B,
        read: Option<Read>,
    }
}

/// What was seen of an answer.
struct Read {
    meter: Meter,
    /// The span of the call, where there is one.
    call: Option<CallOf>,
    tail: Vec<u8>,
    is_stream: bool,
}

impl Read {
    fn piece(&mut self, piece: &[u8]) {
        let events = match self.is_stream {
            true => DATA.find_iter(piece).count() as u64,
            // How long a list of numbers is says nothing of tokens.
            false => 0,
        };
        self.meter.said(events * EVENT);
        if piece.len() >= TAIL {
            self.tail.clear();
        }
        let piece = &piece[piece.len().saturating_sub(TAIL)..];
        if self.tail.len() + piece.len() > 2 * TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
        self.tail.extend_from_slice(piece);
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        if let Some(usage) = counted(&self.tail) {
            if let Some(call) = &self.call {
                call.used(usage);
            }
            self.meter.usage(usage);
        }
    }
}

impl<B> Body for MeteredBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if let Some(read) = this.read {
            let outcome = match &frame {
                Some(Ok(frame)) => {
                    if let Some(piece) = frame.data_ref() {
                        read.piece(piece);
                    }
                    // Whoever knows that it was the last does not ask for another.
                    this.inner.is_end_stream().then_some(Outcome::Finished(FinishReason::Stop))
                }
                Some(Err(_)) => Some(Outcome::Failed(ErrorKind::Truncated)),
                None => Some(Outcome::Finished(FinishReason::Stop)),
            };
            if let Some(outcome) = outcome {
                if let (Some(call), Outcome::Failed(kind)) = (&read.call, &outcome) {
                    call.failed(*kind);
                }
                read.meter.ended(outcome);
                *this.read = None;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Token counts as servers write them.
#[derive(Deserialize)]
struct Counts {
    #[serde(alias = "input_tokens")]
    prompt_tokens: u64,
    #[serde(default, alias = "output_tokens")]
    completion_tokens: u64,
}

/// The counts in the end of an answer. What a model has said cannot be taken for them: in its text a
/// quotation mark has a backslash before it.
fn counted(tail: &[u8]) -> Option<Usage> {
    let counts = values(tail, b"\"usage\":").find_map(|value| {
        let mut values = serde_json::Deserializer::from_slice(value).into_iter::<Counts>();
        values.next()?.ok()
    });
    if let Some(Counts { prompt_tokens, completion_tokens }) = counts {
        return Some(Usage::new(prompt_tokens, completion_tokens));
    }
    // llama.cpp's own form.
    let number = |name: &[u8]| {
        let value = values(tail, name).next()?;
        serde_json::Deserializer::from_slice(value).into_iter::<u64>().next()?.ok()
    };
    Some(Usage::new(number(b"\"tokens_evaluated\":")?, number(b"\"tokens_predicted\":")?))
}

/// What stands behind each `name`, the last first.
fn values<'a>(tail: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    memmem::rfind_iter(tail, name).map(|at| &tail[at + name.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_at_the_end() {
        for (tail, expected) in [
            (r#"{"data":[],"usage":{"prompt_tokens":8,"total_tokens":8}}"#, Some((8, 0))),
            (
                "data: {\"usage\": null}\n\ndata: {\"choices\":[],\"usage\": {\"prompt_tokens\":5,\
                 \"total_tokens\":12,\"completion_tokens\":7}}\n\ndata: [DONE]\n\n",
                Some((5, 7)),
            ),
            (
                "data: {\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\n\ndata: {\"usage\":null}\n\n",
                Some((5, 1)),
            ),
            (
                r#"{"content":"","tokens_predicted":9,"tokens_evaluated":4,"stop":true}"#,
                Some((4, 9)),
            ),
            (r#"{"text":"\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":1}"}"#, None),
            (r#"{"usage":{"prompt_tok"#, None),
            ("", None),
        ] {
            let usage = counted(tail.as_bytes());
            let found = usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens));
            assert_eq!(found, expected, "{tail}");
        }
    }

    #[test]
    fn little_is_kept_of_an_answer_of_any_length() {
        let layer = UsageLayer::new(drop);
        let mut read = Read {
            meter: layer.meter(None, "m", 0, drop),
            call: None,
            tail: Vec::new(),
            is_stream: true,
        };
        for len in [1, 10, TAIL - 1, TAIL, 10 * TAIL, 100, 7_000] {
            read.piece(&vec![b'x'; len]);
            assert!(read.tail.len() <= 2 * TAIL && read.tail.len() >= len.min(TAIL), "{len}");
        }
        for _ in 0..10_000 {
            read.piece(b"data: {}\n\n");
            assert!(read.tail.len() <= 2 * TAIL);
        }
        assert!(read.tail.ends_with(b"data: {}\n\n"));
    }
}

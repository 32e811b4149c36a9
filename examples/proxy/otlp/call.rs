//! The span of a call of an upstream.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::http::{Request, Response};
use futures_util::Stream;
use opentelemetry::{Array, StringValue, Value};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tower_qwen::{
    Error, ErrorKind,
    chat::{ChatEvent, ChatRequest, ChatStream, FinishReason},
};
use tracing::{Span, debug_span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::is_on;

/// Puts [`CallSpan`] in front of an adapter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallSpanLayer;

impl CallSpanLayer {
    pub(crate) const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for CallSpanLayer {
    type Service = CallSpan<S>;

    fn layer(&self, inner: S) -> CallSpan<S> {
        CallSpan { inner }
    }
}

/// Makes a span of each call, which ends with its answer.
#[derive(Clone, Debug)]
pub(crate) struct CallSpan<S> {
    inner: S,
}

impl<S, B> Service<Request<ChatRequest>> for CallSpan<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>, Error = Error>,
    B: ChatStream,
{
    type Response = Response<CallStream<B>>;
    type Error = Error;
    type Future = CallFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        let span = if is_on() { open(request.body()) } else { Span::none() };
        let call = span.in_scope(|| self.inner.call(request));
        CallFuture { call, span }
    }
}

fn open(chat: &ChatRequest) -> Span {
    let sampling = &chat.sampling;
    debug_span!(
        target: super::TARGET,
        "chat",
        otel.kind = "client",
        otel.name = %format_args!("chat {}", chat.model),
        otel.status_code = field::Empty,
        error.type = field::Empty,
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = "qwen",
        gen_ai.request.model = chat.model.as_str(),
        gen_ai.request.max_tokens = sampling.token_limit(),
        gen_ai.request.temperature = sampling.temperature,
        gen_ai.request.top_p = sampling.top_p,
        gen_ai.response.id = field::Empty,
        gen_ai.usage.input_tokens = field::Empty,
        gen_ai.usage.output_tokens = field::Empty,
    )
}

/// Records that a call has failed.
fn failed(span: &Span, kind: ErrorKind) {
    span.record("otel.status_code", "error");
    span.record("error.type", field::debug(kind));
}

fn finished(span: &Span, reason: FinishReason) {
    // The conventions have one for each choice, and here there is one.
    let reasons = Array::String(vec![StringValue::from(reason.as_str())]);
    span.set_attribute("gen_ai.response.finish_reasons", Value::Array(reasons));
}

pin_project! {
    /// The response of a [`CallSpan`].
    pub(crate) struct CallFuture<F> {
        #[pin]
        call: F,
        span: Span,
    }
}

impl<F, B> Future for CallFuture<F>
where
    F: Future<Output = Result<Response<B>, Error>>,
{
    type Output = Result<Response<CallStream<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.span.in_scope(|| this.call.poll(cx)));
        let span = std::mem::replace(this.span, Span::none());
        if let Err(error) = &result {
            failed(&span, error.kind());
        }
        Poll::Ready(result.map(|response| response.map(|inner| CallStream { inner, span })))
    }
}

pin_project! {
    /// The answer of a [`CallSpan`]. Nothing is done for an event but for those that are recorded.
    pub(crate) struct CallStream<B> {
        #[pin]
        inner: B,
        span: Span,
    }
}

impl<B: ChatStream> Stream for CallStream<B> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let item = ready!(this.inner.poll_next(cx));
        match &item {
            Some(Ok(ChatEvent::Usage(usage))) => {
                this.span.record("gen_ai.usage.input_tokens", usage.prompt_tokens);
                this.span.record("gen_ai.usage.output_tokens", usage.completion_tokens);
            }
            Some(Ok(ChatEvent::Started(started))) => {
                if let Some(id) = &started.response_id {
                    this.span.record("gen_ai.response.id", id.as_str());
                }
            }
            Some(Ok(ChatEvent::Finished(reason))) => finished(this.span, *reason),
            Some(Err(error)) => failed(this.span, error.kind()),
            _ => {}
        }
        Poll::Ready(item)
    }
}

//! The span of a call of an upstream.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::http::{Request, Response};
use futures_util::Stream;
use opentelemetry::{Array, StringValue, Value};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tower_qwen::{
    Error, ErrorKind,
    chat::{ChatEvent, ChatRequest, ChatStream, FinishReason, Usage},
};
use tracing::{Span, debug_span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::is_on;

/// The name of an upstream, by which stand-ins are told from who was asked first.
pub(super) type Upstream = Arc<str>;

/// Puts [`CallSpan`] in front of an adapter.
#[derive(Clone, Debug)]
pub(crate) struct CallSpanLayer {
    upstream: Upstream,
}

impl CallSpanLayer {
    pub(crate) fn new(upstream: &str) -> Self {
        Self { upstream: upstream.into() }
    }
}

impl<S> Layer<S> for CallSpanLayer {
    type Service = CallSpan<S>;

    fn layer(&self, inner: S) -> CallSpan<S> {
        CallSpan { inner, upstream: self.upstream.clone() }
    }
}

/// Makes a span of each call, which ends with its answer.
#[derive(Clone, Debug)]
pub(crate) struct CallSpan<S> {
    inner: S,
    upstream: Upstream,
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
        let span = match is_on() {
            true => open(request.body(), &self.upstream),
            false => Span::none(),
        };
        let call = span.in_scope(|| self.inner.call(request));
        CallFuture { call, span }
    }
}

fn open(chat: &ChatRequest, upstream: &str) -> Span {
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
        tower_qwen.upstream = upstream,
    )
}

/// Records that a call has failed.
pub(super) fn failed(span: &Span, kind: ErrorKind) {
    span.record("otel.status_code", "error");
    span.record("error.type", field::debug(kind));
}

/// Records what a call took.
pub(super) fn used(span: &Span, usage: Usage) {
    span.record("gen_ai.usage.input_tokens", usage.prompt_tokens);
    span.record("gen_ai.usage.output_tokens", usage.completion_tokens);
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
            Some(Ok(ChatEvent::Usage(usage))) => used(this.span, *usage),
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

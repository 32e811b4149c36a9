//! The span of a call of an upstream that no adapter makes: bytes that pass, prompts, lists of texts to embed.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::http::{Method, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tower_qwen::{Error, ErrorKind, FullBody, chat::Usage, edge};
use tracing::{Span, debug_span, field};

use super::{
    call::{Upstream, failed, used},
    is_on,
};

/// Puts [`HttpSpan`] in front of an upstream.
#[derive(Clone, Debug)]
pub(crate) struct HttpSpanLayer {
    upstream: Upstream,
}

impl HttpSpanLayer {
    pub(crate) fn new(upstream: &str) -> Self {
        Self { upstream: upstream.into() }
    }
}

impl<S> Layer<S> for HttpSpanLayer {
    type Service = HttpSpan<S>;

    fn layer(&self, inner: S) -> HttpSpan<S> {
        HttpSpan { inner, upstream: self.upstream.clone() }
    }
}

/// Makes a span of each call. It ends with the answer where whoever reads that keeps the [`CallOf`] of its
/// response, and else with its head.
#[derive(Clone, Debug)]
pub(crate) struct HttpSpan<S> {
    inner: S,
    upstream: Upstream,
}

impl<S, B> Service<Request<FullBody>> for HttpSpan<S>
where
    S: Service<Request<FullBody>, Response = Response<B>, Error = Error>,
{
    type Response = Response<B>;
    type Error = Error;
    type Future = HttpCallFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<FullBody>) -> Self::Future {
        let span = match is_on() && request.method() == Method::POST {
            true => open(&request, &self.upstream),
            false => Span::none(),
        };
        let call = span.in_scope(|| self.inner.call(request));
        HttpCallFuture { call, span }
    }
}

fn open(request: &Request<FullBody>, upstream: &str) -> Span {
    let path = request.uri().path();
    let operation = match path {
        _ if path.ends_with("/chat/completions") => "chat",
        _ if path.contains("embed") => "embeddings",
        _ => "text_completion",
    };
    // Nobody has parsed it, and most of it is not looked at here either.
    let model = edge::model(&request.body().clone().into_bytes()).ok().flatten();
    let model = model.unwrap_or_default();
    debug_span!(
        target: super::TARGET,
        "call",
        otel.kind = "client",
        otel.name = %format_args!("{operation} {model}"),
        otel.status_code = field::Empty,
        error.type = field::Empty,
        gen_ai.operation.name = operation,
        gen_ai.provider.name = "qwen",
        gen_ai.request.model = &*model,
        gen_ai.usage.input_tokens = field::Empty,
        gen_ai.usage.output_tokens = field::Empty,
        tower_qwen.upstream = upstream,
    )
}

pin_project! {
    /// The response of a [`HttpSpan`].
    pub(crate) struct HttpCallFuture<F> {
        #[pin]
        call: F,
        span: Span,
    }
}

impl<F, B> Future for HttpCallFuture<F>
where
    F: Future<Output = Result<Response<B>, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.span.in_scope(|| this.call.poll(cx)));
        let span = std::mem::replace(this.span, Span::none());
        match &mut result {
            Err(error) => failed(&span, error.kind()),
            Ok(response) if !response.status().is_success() => {
                // As the conventions have it where there is no other word.
                span.record("otel.status_code", "error");
                span.record("error.type", response.status().as_str());
            }
            Ok(response) if !span.is_none() => {
                response.extensions_mut().insert(CallOf(span));
            }
            Ok(_) => {}
        }
        Poll::Ready(result)
    }
}

/// The span of the call that a response came of, which ends when this is dropped.
#[derive(Clone, Debug)]
pub(crate) struct CallOf(Span);

impl CallOf {
    /// What it took.
    pub(crate) fn used(&self, usage: Usage) {
        used(&self.0, usage);
    }

    /// That the answer broke off.
    pub(crate) fn failed(&self, kind: ErrorKind) {
        failed(&self.0, kind);
    }
}

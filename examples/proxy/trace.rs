//! One span a request, which what is logged while it is answered stands in.
//!
//! tower-http's `TraceLayer` reads the clock twice for each frame of a body, which is a good part
//! of what a stream costs here. A span needs no clock.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use ::metrics::{gauge, histogram};
use axum::{
    extract::Request,
    http::{Extensions, HeaderName, Response},
};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::Service;
use tracing::{Span, debug, field, info_span, warn};

use super::{access::Access, board::Board, clients::Client, metrics, otlp};

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers within a span that says method, path, the id of `x-request-id` and who asks, and has each
/// request written to the [access log](super::access) and to the board.
#[derive(Clone, Debug)]
pub(crate) struct Traced<S> {
    inner: S,
    board: Board,
}

impl<S> Traced<S> {
    pub(crate) const fn new(inner: S, board: Board) -> Self {
        Self { inner, board }
    }
}

impl<S, B> Service<Request> for Traced<S>
where
    S: Service<Request, Response = Response<B>>,
    B: Body,
{
    type Response = Response<TracedBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let begun = Instant::now();
        let access = Access::open(&mut request, &self.board);
        let id = request.headers().get(X_REQUEST_ID).and_then(|id| id.to_str().ok());
        let span = if otlp::is_on() {
            let span = info_span!(
                target: otlp::TARGET,
                "request",
                method = %request.method(),
                path = request.uri().path(),
                id = id.unwrap_or_default(),
                client = field::Empty,
                otel.kind = "server",
                otel.name = name(&request),
                otel.status_code = field::Empty,
                http.request.method = %request.method(),
                url.path = request.uri().path(),
                http.response.status_code = field::Empty,
            );
            otlp::continue_trace(&span, request.headers());
            span
        } else {
            info_span!(
                "request",
                method = %request.method(),
                path = request.uri().path(),
                id = id.unwrap_or_default(),
                client = field::Empty,
            )
        };
        let inner = span.in_scope(|| {
            debug!("started processing request");
            self.inner.call(request)
        });
        ResponseFuture { inner, span, begun, access }
    }
}

/// The name of a request's span: with the route, where it is one of those that chats are asked by. Of
/// others clients can make up as many as they like.
fn name(request: &Request) -> String {
    const ROUTES: [&str; 8] = [
        "/v1/chat/completions",
        "/xml/v1/chat/completions",
        "/v1/messages",
        "/v1/responses",
        "/v1/completions",
        "/v1/embeddings",
        "/api/chat",
        "/api/generate",
    ];
    let path = ROUTES.iter().find(|route| **route == request.uri().path());
    match path {
        Some(path) => format!("{} {path}", request.method()),
        None => request.method().to_string(),
    }
}

/// Says in the request's span and in its line of the access log whose it is, once that is known.
pub(crate) fn note_client(request: &Extensions, client: Client) {
    if let Some(access) = Access::of(request) {
        access.client(client);
    }
    Span::current().record("client", field::display(client));
}

pin_project! {
    /// The response of a [`Traced`].
    pub(crate) struct ResponseFuture<F> {
        #[pin]
        inner: F,
        span: Span,
        begun: Instant,
        access: Option<Access>,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<TracedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = this.span.enter();
        let response = ready!(this.inner.poll(cx)?);
        let (status, latency) = (response.status(), Millis(this.begun.elapsed()));
        debug!(%latency, status = status.as_u16(), "answered");
        if otlp::is_on() {
            this.span.record("http.response.status_code", status.as_u16());
            if status.is_server_error() {
                this.span.record("otel.status_code", "error");
            }
        }
        if status.is_server_error() {
            warn!(classification = %format_args!("Status code: {status}"), %latency, "response failed");
        }
        drop(entered);
        let span = std::mem::replace(this.span, Span::none());
        let mut access = this.access.take();
        if let Some(access) = &access {
            access.head(status, response.headers());
        }
        Poll::Ready(Ok(response.map(|inner| {
            // Then nobody asks for a frame of it.
            if inner.is_end_stream()
                && let Some(access) = access.take()
            {
                access.ended(true);
            }
            let stream = (metrics::is_on() && !inner.is_end_stream()).then(Stream::open);
            TracedBody { inner, read: Reading(access), stream, span }
        })))
    }
}

pin_project! {
    /// The body of a response of a [`Traced`], polled within the request's span.
    pub(crate) struct TracedBody<B> {
        #[pin]
        inner: B,
        read: Reading,
        stream: Option<Stream>,
        span: Span,
    }
}

/// A response under way, for the metrics. The clock is read where there is nothing to send, and when that
/// wait is over.
struct Stream {
    has_begun: bool,
    waits_since: Option<Instant>,
    longest: Duration,
}

impl Stream {
    fn open() -> Self {
        gauge!(OPEN_STREAMS).increment(1.0);
        Self { has_begun: false, waits_since: None, longest: Duration::ZERO }
    }

    #[inline]
    fn polled(&mut self, is_ready: bool) {
        if !is_ready {
            if self.has_begun && self.waits_since.is_none() {
                self.waits_since = Some(Instant::now());
            }
        } else {
            self.has_begun = true;
            if let Some(since) = self.waits_since.take() {
                self.longest = self.longest.max(since.elapsed());
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        gauge!(OPEN_STREAMS).decrement(1.0);
        // What came in one piece has no gap.
        if !self.longest.is_zero() {
            histogram!("tower_qwen_proxy_longest_gap_seconds").record(self.longest);
        }
    }
}

const OPEN_STREAMS: &str = "tower_qwen_proxy_open_streams";

/// Notes whether a body was read to its end.
struct Reading(Option<Access>);

impl Reading {
    fn ended(&mut self) {
        if let Some(access) = self.0.take() {
            access.ended(true);
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(access) = self.0.take() {
            access.ended(false);
        }
    }
}

impl<B: Body> Body for TracedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let _entered = this.span.enter();
        let frame = this.inner.as_mut().poll_frame(cx);
        if let Some(stream) = this.stream {
            stream.polled(frame.is_ready());
        }
        // Whoever knows that a frame was the last does not ask for another.
        if matches!(frame, Poll::Ready(None)) || frame.is_ready() && this.inner.is_end_stream() {
            this.read.ended();
            *this.stream = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0.as_millis())
    }
}

#[cfg(test)]
mod tests;

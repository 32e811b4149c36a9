//! Whether an upstream learns in which trace a request of it stands.
//!
//! A trace's id joins what several services know of one request, and so says something of who asks. To a
//! server of one's own that records traces too it is what makes its spans a part of the trace; to anybody
//! else it is nothing that they were asked to know. So nothing is sent unless that is asked for of an
//! upstream (`--send-trace`). Then it is the call's own span that goes along, where spans are exported, and
//! what the client has sent where not.

use std::task::{Context, Poll};

use axum::http::{HeaderName, Request};
use tower::{Layer, Service};

use super::otlp;

/// [Trace Context](https://www.w3.org/TR/trace-context/).
const HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];

/// Puts [`TraceContext`] in front of an upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TraceContextLayer {
    is_sent: bool,
}

impl TraceContextLayer {
    /// Whether it is sent.
    pub(crate) const fn new(is_sent: bool) -> Self {
        Self { is_sent }
    }
}

impl<S> Layer<S> for TraceContextLayer {
    type Service = TraceContext<S>;

    fn layer(&self, inner: S) -> TraceContext<S> {
        TraceContext { inner, is_sent: self.is_sent }
    }
}

/// Sends the trace context of each request, or none.
#[derive(Clone, Debug)]
pub(crate) struct TraceContext<S> {
    inner: S,
    is_sent: bool,
}

impl<S, B> Service<Request<B>> for TraceContext<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let headers = request.headers_mut();
        if !self.is_sent || otlp::is_on() {
            for name in &HEADERS {
                headers.remove(name);
            }
        }
        if self.is_sent {
            otlp::hand_on(headers);
        }
        self.inner.call(request)
    }
}

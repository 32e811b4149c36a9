use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{
    HeaderMap, HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
};
use pin_project_lite::pin_project;

use super::{ReframeBody, config::Config};

pin_project! {
    /// The response of an [`SseReframe`](super::SseReframe).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        config: Config,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(inner: F, config: Config) -> Self {
        Self { inner, config }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ReframeBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx)?);
        Poll::Ready(Ok(if is_plain_event_stream(response.headers()) {
            prepare_for_streaming(response.headers_mut());
            response.map(|body| ReframeBody::reframe(body, *this.config))
        } else {
            response.map(|body| ReframeBody::pass(body, *this.config))
        }))
    }
}

fn is_plain_event_stream(headers: &HeaderMap) -> bool {
    let is_event_stream =
        headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
            let essence = value.split(';').next().unwrap_or_default();
            essence.trim().eq_ignore_ascii_case("text/event-stream")
        });
    is_event_stream
        && headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The headers that keep caches and proxies from holding events back.
fn prepare_for_streaming(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
    let forbids_caching = headers.get_all(CACHE_CONTROL).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value.split(',').any(|directive| {
                let directive = directive.trim();
                directive.eq_ignore_ascii_case("no-cache")
                    || directive.eq_ignore_ascii_case("no-store")
            })
        })
    });
    if !forbids_caching {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
}

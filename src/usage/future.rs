use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderName, Response};
use pin_project_lite::pin_project;

use super::{meter::Meter, stream::UsageStream};
use crate::{Error, Text};

/// Says who answers.
const X_QWEN_UPSTREAM: HeaderName = HeaderName::from_static("x-qwen-upstream");

pin_project! {
    /// The response future of [`UsageService`](super::UsageService).
    ///
    /// # Panics
    ///
    /// If it is polled after it was ready.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        call: F,
        meter: Option<Meter>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(call: F, meter: Meter) -> Self {
        Self { call, meter: Some(meter) }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Error>,
{
    type Output = Result<Response<UsageStream<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.call.poll(cx));
        let mut meter = this.meter.take().expect("polled after it was ready");
        match result {
            Ok(response) => {
                let name = response.headers().get(X_QWEN_UPSTREAM);
                if let Some(name) = name.and_then(|name| name.to_str().ok()) {
                    meter.upstream(Text::from(name.to_owned()));
                }
                Poll::Ready(Ok(response.map(|events| UsageStream::new(events, meter))))
            }
            Err(error) => {
                let error = error.into();
                meter.failed(&error);
                drop(meter);
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("meter", &self.meter).finish_non_exhaustive()
    }
}

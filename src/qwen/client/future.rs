use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Response;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::{
    UpstreamBody,
    error::{count, to_error},
};
use crate::{CredentialHeaders, Error, ErrorKind, Fate};

type Pending = <reqwest::Client as Service<reqwest::Request>>::Future;

pin_project! {
    /// The response future of [`QwenUpstream`](super::QwenUpstream).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture {
        // `None` where nothing was sent.
        #[pin]
        pending: Option<Pending>,
        failed: Option<Error>,
        #[pin]
        deadline: Sleep,
        begun: Instant,
        limit: Duration,
        sent: CredentialHeaders,
    }
}

impl ResponseFuture {
    pub(super) fn new(pending: Pending, limit: Duration, sent: CredentialHeaders) -> Self {
        let (pending, failed) = (Some(pending), None);
        Self { pending, failed, deadline: sleep(limit), begun: Instant::now(), limit, sent }
    }

    /// Of a request that cannot be sent.
    #[cfg(feature = "upload")]
    pub(super) fn failed(error: Error) -> Self {
        let limit = Duration::ZERO;
        Self {
            pending: None,
            failed: Some(error),
            deadline: sleep(limit),
            begun: Instant::now(),
            limit,
            sent: CredentialHeaders::new([]),
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<UpstreamBody>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(pending) = this.pending.as_pin_mut() else {
            let error = this.failed.take().expect("`ResponseFuture` was polled after it was ready");
            return Poll::Ready(Err(error));
        };
        let result = match pending.poll(cx) {
            Poll::Ready(Ok(response)) => {
                tracing::debug!(status = %response.status(), "answered");
                let elapsed = this.begun.elapsed();
                metrics::histogram!("tower_qwen_client_first_byte_seconds").record(elapsed);
                let mut response = Response::from(response);
                // For whoever shows a client what upstream says.
                response.extensions_mut().insert(this.sent.clone());
                Ok(response.map(UpstreamBody::new))
            }
            Poll::Ready(Err(error)) => Err(to_error(error)),
            Poll::Pending => {
                ready!(this.deadline.poll(cx));
                let message = format!("upstream did not answer within {:?}", this.limit);
                Err(Error::new(ErrorKind::Timeout, message).with_fate(Fate::Abandoned))
            }
        };
        Poll::Ready(result.inspect_err(count))
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("limit", &self.limit).finish_non_exhaustive()
    }
}

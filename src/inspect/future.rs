use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use super::{stream::Inspected, teller::Teller};

pin_project! {
    /// The response future of [`Inspect`](super::Inspect).
    ///
    /// # Cancel safety
    ///
    /// Nothing is kept outside of it. Dropping it drops what is inside, and is told.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        call: F,
        teller: Option<Box<Teller>>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(call: F, teller: Option<Box<Teller>>) -> Self {
        Self { call, teller }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Inspected<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.call.poll(cx));
        let mut teller = this.teller.take();
        if let Some(teller) = &mut teller {
            match &result {
                Ok(response) => teller.head(response),
                Err(_) => teller.failed(),
            }
        }
        Poll::Ready(result.map(|response| response.map(|inner| Inspected::new(inner, teller))))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("tells", &self.teller.is_some())
            .finish_non_exhaustive()
    }
}

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{AccountPolicy, BoxFuture, Classify, attempt::Attempt};
use crate::Error;

pin_project! {
    /// The future of [`AuthRefresh`](super::AuthRefresh).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the request that is under way. A refresh that it started goes on, since
    /// others may wait for it and its result must not be lost.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, S, B, RB, E, C, P> {
        #[pin]
        state: State<F, S, B, RB, E, C, P>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, S, B, RB, E, C, P> {
        /// The usual way: nothing is boxed.
        First {
            #[pin]
            future: F,
            attempt: Option<Attempt<S, B, C, P>>,
        },
        /// Something has to be waited for, or something has gone wrong.
        Rest { future: BoxFuture<'static, Result<Response<RB>, E>> },
    }
}

impl<F, S, B, RB, E, C, P> ResponseFuture<F, S, B, RB, E, C, P> {
    pub(super) fn first(future: F, attempt: Attempt<S, B, C, P>) -> Self {
        Self { state: State::First { future, attempt: Some(attempt) } }
    }

    pub(super) fn rest(
        future: impl Future<Output = Result<Response<RB>, E>> + Send + 'static,
    ) -> Self {
        Self { state: State::Rest { future: Box::pin(future) } }
    }
}

impl<F, S, B, RB, E, C, P> Future for ResponseFuture<F, S, B, RB, E, C, P>
where
    F: Future<Output = Result<Response<RB>, E>>,
    S: Service<Request<B>, Response = Response<RB>, Error = E> + Send + 'static,
    S::Future: Send + 'static,
    E: From<Error> + Send + 'static,
    C: Classify<RB, E> + Send + Sync + 'static,
    P: AccountPolicy<B> + Send + Sync + 'static,
    B: Clone + Send + 'static,
    RB: Send + 'static,
{
    type Output = Result<Response<RB>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::First { future, attempt } => {
                    let result = ready!(future.poll(cx));
                    // Looked at where it is: it is large, and mostly not needed any more.
                    let sent = attempt.as_ref().expect("polled after completion");
                    let Some(outcome) = sent.learn(&result) else { return Poll::Ready(result) };
                    let attempt = attempt.take().expect("it was there a moment ago");
                    let future = Box::pin(attempt.recover(outcome, result));
                    state.set(State::Rest { future });
                }
                StateProj::Rest { future } => return future.as_mut().poll(cx),
            }
        }
    }
}

impl<F, S, B, RB, E, C, P> fmt::Debug for ResponseFuture<F, S, B, RB, E, C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

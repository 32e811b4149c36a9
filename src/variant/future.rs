use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::Error;

type Resolving<F> = Pin<Box<dyn Future<Output = Result<F, Error>> + Send>>;

pin_project! {
    /// The response future of [`VariantService`](super::VariantService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        /// The catalogue is asked; what comes of it is the call.
        Resolving { resolving: Resolving<F> },
        Calling { #[pin] call: F },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn through(call: F) -> Self {
        Self { state: State::Calling { call } }
    }

    pub(super) fn resolving(
        resolving: impl Future<Output = Result<F, Error>> + Send + 'static,
    ) -> Self {
        Self { state: State::Resolving { resolving: Box::pin(resolving) } }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<Error>,
{
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProjection::Resolving { resolving } => {
                    let call = ready!(resolving.as_mut().poll(cx))?;
                    state.set(State::Calling { call });
                }
                StateProjection::Calling { call } => return call.poll(cx).map_err(Into::into),
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

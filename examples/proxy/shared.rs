//! Layers that do not have all that is below them copied for every request.
//!
//! A function around a router ([`axum::middleware`]) copies what it stands around to call it. A route is
//! a box, and so are those below it, each of which is copied with it: with nine functions around a
//! route that was a third of what a request took. With [`Share`] below the function it is a count.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::middleware::{FromFnLayer, from_fn, from_fn_with_state};
use tower::{Layer, Service, ServiceExt, util::Oneshot};

/// Makes services [`Shared`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share;

impl<S> Layer<S> for Share {
    type Service = Shared<S>;

    fn layer(&self, inner: S) -> Shared<S> {
        Shared(Arc::new(inner))
    }
}

/// A service whose copies are one, until they are called. It is always ready: each request waits for a
/// copy of its own.
#[derive(Debug)]
pub(crate) struct Shared<S>(Arc<S>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, R> Service<R> for Shared<S>
where
    S: Service<R, Error = Infallible> + Clone,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Oneshot<S, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        S::clone(&self.0).oneshot(request)
    }
}

/// `function` around what shares all below.
pub(crate) fn around<F, T>(function: F) -> (FromFnLayer<F, (), T>, Share) {
    (from_fn(function), Share)
}

/// The same for a function that is given a state.
pub(crate) fn around_with<F, S, T>(state: S, function: F) -> (FromFnLayer<F, S, T>, Share) {
    (from_fn_with_state(state, function), Share)
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;

    #[tokio::test]
    async fn only_what_is_called_is_copied() {
        let copies = Arc::new(());
        let inside = Arc::clone(&copies);
        let service = Share.layer(service_fn(move |word: &'static str| {
            let inside = Arc::clone(&inside);
            async move { Ok::<_, Infallible>((word, Arc::strong_count(&inside))) }
        }));
        let others: Vec<_> = (0..9).map(|_| service.clone()).collect();
        assert_eq!(Arc::strong_count(&copies), 2);
        let Ok((word, count)) = service.oneshot("hello").await;
        // Here, in the one that is shared, and in the future of the copy that was called.
        assert_eq!((word, count, others.len()), ("hello", 3, 9));
    }
}

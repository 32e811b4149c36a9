use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    Affinity, Classify, CredentialPool, DefaultClassify, ResponseFuture, egress::Egress,
    future::Attempt, refresh::Lease,
};
use crate::Error;

/// The service that [`AuthRefreshLayer`](super::AuthRefreshLayer) makes.
#[derive(Clone, Debug)]
pub struct AuthRefresh<S, C = DefaultClassify> {
    inner: S,
    shared: Arc<Shared<C>>,
}

#[derive(Debug)]
pub(super) struct Shared<C> {
    pub(super) pool: CredentialPool,
    pub(super) classify: C,
    pub(super) egress: Egress,
}

impl<S, C> AuthRefresh<S, C> {
    pub(super) fn new(inner: S, shared: Arc<Shared<C>>) -> Self {
        Self { inner, shared }
    }

    /// The accounts.
    #[must_use]
    pub fn pool(&self) -> &CredentialPool {
        &self.shared.pool
    }

    /// The service below.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, C, B, RB> Service<Request<B>> for AuthRefresh<S, C>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Error: From<Error> + Send + 'static,
    S::Future: Send + 'static,
    C: Classify<RB, S::Error> + Send + Sync + 'static,
    B: Affinity + Clone + Send + 'static,
    RB: Send + 'static,
{
    type Response = Response<RB>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S, B, RB, S::Error, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The inner service that is ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        if let Some(refusal) = self.shared.egress.refusal() {
            return ResponseFuture::failed(refusal.into());
        }
        let shared = Arc::clone(&self.shared);
        match shared.pool.ready(request.body().account()) {
            Ok(lease) => {
                let first = stamped(&request, &lease);
                let future = inner.call(first);
                ResponseFuture::first(future, Attempt { inner, request, lease, shared })
            }
            Err(start) => ResponseFuture::rest(Box::pin(async move {
                let sticky = request.body().account().map(str::to_owned);
                let lease = shared.pool.lease(sticky.as_deref(), start, None).await?;
                let first = stamped(&request, &lease);
                let result = inner.call(first).await;
                Attempt { inner, request, lease, shared }.finish(result).await
            })),
        }
    }
}

/// A copy of `request` with the credential on it. The original stays clean, so that nothing of
/// one account is left on it when it goes to another.
pub(super) fn stamped<B: Affinity + Clone>(request: &Request<B>, lease: &Lease) -> Request<B> {
    let mut request = request.clone();
    lease.credential.stamp(request.headers_mut());
    request.body_mut().set_account(lease.account.name());
    request
}

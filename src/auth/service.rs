use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    Affinity, Classify, CredentialPool, DefaultClassify, ResponseFuture, egress::Egress,
    future::Attempt, kept::Kept, refresh::Lease,
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The inner service that is ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        if let Some(refusal) = self.shared.egress.refusal() {
            return ResponseFuture::failed(refusal.into());
        }
        let kept = Kept::new(&request);
        let headers = request.headers_mut();
        let sent = self.shared.pool.ready(kept.account(), |credential, generation| {
            credential.stamp(headers);
            generation
        });
        match sent {
            Ok((account, generation)) => {
                request.body_mut().set_account(account.name());
                let at = account.at();
                let future = inner.call(request);
                let shared = Arc::clone(&self.shared);
                ResponseFuture::first(future, Attempt { inner, kept, at, generation, shared })
            }
            Err(start) => {
                let shared = Arc::clone(&self.shared);
                ResponseFuture::rest(Box::pin(async move {
                    let lease = shared.pool.lease(kept.account(), start, None).await?;
                    stamp(&mut request, &lease);
                    let (at, generation) = (lease.account.at(), lease.generation);
                    drop(lease);
                    let result = inner.call(request).await;
                    Attempt { inner, kept, at, generation, shared }.finish(result).await
                }))
            }
        }
    }
}

/// Puts the credential on.
pub(super) fn stamp<B: Affinity>(request: &mut Request<B>, lease: &Lease) {
    lease.credential.stamp(request.headers_mut());
    request.body_mut().set_account(lease.account.name());
}

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    AccountPolicy, AuthRefreshLayer, Classify, CredentialPool, CredentialProvider, DefaultClassify,
    DefaultPolicy, ResponseFuture, future::Attempt, kept::Kept,
};
use crate::{AccountName, Error};

/// The service that [`AuthRefreshLayer`](super::AuthRefreshLayer) makes.
#[derive(Clone, Debug)]
pub struct AuthRefresh<S, C = DefaultClassify, P = DefaultPolicy> {
    inner: S,
    shared: Arc<Shared<C, P>>,
}

#[derive(Debug)]
pub(super) struct Shared<C, P> {
    pub(super) pool: CredentialPool,
    pub(super) classify: C,
    pub(super) policy: P,
}

impl<S> AuthRefresh<S> {
    service!(made by AuthRefreshLayer::new(provider: impl CredentialProvider));
}

impl<S, C, P> AuthRefresh<S, C, P> {
    service!();

    pub(super) fn with(inner: S, shared: Shared<C, P>) -> Self {
        Self { inner, shared: Arc::new(shared) }
    }

    /// The accounts.
    #[must_use]
    pub fn pool(&self) -> &CredentialPool {
        &self.shared.pool
    }
}

impl<S, C, P, B, RB> Service<Request<B>> for AuthRefresh<S, C, P>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Error: From<Error> + Send + 'static,
    S::Future: Send + 'static,
    C: Classify<RB, S::Error> + Send + Sync + 'static,
    P: AccountPolicy<B> + Send + Sync + 'static,
    B: Clone + Send + 'static,
    RB: Send + 'static,
{
    type Response = Response<RB>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S, B, RB, S::Error, C, P>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The inner service that is ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        if let Some(refusal) = self.shared.pool.egress().refusal() {
            return ResponseFuture::failed(refusal.into());
        }
        let kept = Kept::new(&request);
        let Shared { pool, policy, .. } = &*self.shared;
        let wanted = policy.account(&request);
        let bound = wanted.is_some();
        let wish = if bound { None } else { policy.wish(&request) };
        let (start, account) = match wish.and_then(|wish| pool.fit(wish.as_str())) {
            Some(account) => (account.at(), Some(account)),
            None => pool.choose(wanted.map(AccountName::as_str)),
        };
        let sent = account.and_then(|account| {
            let generation = if P::ONLY_HEADERS {
                let headers = request.headers_mut();
                account.ready(|credential, generation| {
                    credential.headers().apply(headers);
                    generation
                })?
            } else {
                // The policy is somebody's code: it does not run while the account is locked.
                let (credential, generation) = account
                    .ready(|credential, generation| (credential.headers().clone(), generation))?;
                policy.authorize(&mut request, account.name(), credential);
                generation
            };
            Some((account.at(), generation))
        });
        match sent {
            Some((at, generation)) => {
                let future = inner.call(request);
                let shared = Arc::clone(&self.shared);
                let attempt = Attempt { inner, kept, bound, at, generation, shared };
                ResponseFuture::first(future, attempt)
            }
            None => {
                let wanted = policy.account(&request).cloned();
                let shared = Arc::clone(&self.shared);
                ResponseFuture::rest(Box::pin(async move {
                    let wanted = wanted.as_ref().map(AccountName::as_str);
                    let lease = shared.pool.lease(wanted, start, None).await?;
                    lease.authorize(&shared.policy, &mut request);
                    let (at, generation) = (lease.account.at(), lease.generation);
                    drop(lease);
                    let result = inner.call(request).await;
                    Attempt { inner, kept, bound, at, generation, shared }.finish(result).await
                }))
            }
        }
    }
}

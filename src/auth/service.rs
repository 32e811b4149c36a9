use std::{
    future::ready,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    AccountPolicy, Classify, CredentialPool, DefaultClassify, DefaultPolicy, ResponseFuture,
    attempt::{Attempt, Shared},
    driver::Driver,
    kept::Kept,
};
use crate::{AccountName, Error};

/// The service that [`AuthRefreshLayer`](super::AuthRefreshLayer) makes.
#[derive(Clone, Debug)]
pub struct AuthRefresh<S, C = DefaultClassify, P = DefaultPolicy> {
    inner: S,
    shared: Arc<Shared<C, P>>,
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
        let accounts = self.shared.accounts();
        if let Some(refusal) = accounts.egress.refusal() {
            return ResponseFuture::rest(ready(Err(refusal.into())));
        }
        let egress = accounts.egress.stamp();
        let kept = Kept::new(&request);
        let policy = &self.shared.policy;
        let wanted = policy.account(&request).map(AccountName::as_str);
        let bound = wanted.is_some();
        let wish = if bound { None } else { policy.wish(&request).map(AccountName::as_str) };
        let (start, account) = accounts.choose(wanted, wish);
        let shared = Arc::clone(&self.shared);
        if let Some(usable) = account.and_then(Driver::ready) {
            shared.authorize(&usable, &mut request);
            let future = inner.call(request);
            let attempt = Attempt { inner, kept, bound, sent: usable.sent, egress, shared };
            return ResponseFuture::first(future, attempt);
        }
        let wanted = policy.account(&request).cloned();
        ResponseFuture::rest(async move {
            let wanted = wanted.as_ref().map(AccountName::as_str);
            let usable = shared.accounts().acquire(wanted, start, None).await?;
            shared.authorize(&usable, &mut request);
            let egress = shared.accounts().egress.stamp();
            let result = inner.call(request).await;
            let attempt = Attempt { inner, kept, bound, sent: usable.sent, egress, shared };
            match attempt.learn(&result) {
                None => result,
                Some(outcome) => attempt.recover(outcome, result).await,
            }
        })
    }
}

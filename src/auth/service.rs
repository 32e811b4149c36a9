use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The inner service that is ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        if let Some(refusal) = self.shared.egress.refusal() {
            return ResponseFuture::failed(refusal.into());
        }
        let shared = Arc::clone(&self.shared);
        match shared.pool.ready(request.body().account()) {
            Ok(lease) => {
                let kept = Kept::new(&request);
                stamp(&mut request, &lease);
                let future = inner.call(request);
                ResponseFuture::first(future, Attempt { inner, kept, lease, shared })
            }
            Err(start) => ResponseFuture::rest(Box::pin(async move {
                let sticky = request.body().account().map(str::to_owned);
                let lease = shared.pool.lease(sticky.as_deref(), start, None).await?;
                let kept = Kept::new(&request);
                stamp(&mut request, &lease);
                let result = inner.call(request).await;
                Attempt { inner, kept, lease, shared }.finish(result).await
            })),
        }
    }
}

/// What is needed to send a request once more, as it came: without a credential, so that nothing
/// of one account is left on it when it goes to another.
///
/// Most are never needed. The headers are kept as a list, which is half the work of a map.
pub(super) struct Kept<B> {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
    body: B,
}

impl<B: Affinity + Clone> Kept<B> {
    pub(super) fn new(request: &Request<B>) -> Self {
        let headers = request.headers();
        let mut list = Vec::with_capacity(headers.len());
        list.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: list,
            extensions: request.extensions().clone(),
            body: request.body().clone(),
        }
    }

    /// Whether the request belongs to one account.
    pub(super) fn is_bound(&self) -> bool {
        self.body.account().is_some()
    }

    /// The request, with another credential on it.
    pub(super) fn into_request(self, lease: &Lease) -> Request<B> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.extensions_mut() = self.extensions;
        request.headers_mut().reserve(self.headers.len());
        for (name, value) in self.headers {
            request.headers_mut().append(name, value);
        }
        stamp(&mut request, lease);
        request
    }
}

/// Puts the credential on.
fn stamp<B: Affinity>(request: &mut Request<B>, lease: &Lease) {
    lease.credential.stamp(request.headers_mut());
    request.body_mut().set_account(lease.account.name());
}

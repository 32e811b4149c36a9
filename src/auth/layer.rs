use tower_layer::Layer;

use super::{
    AuthRefresh, CredentialPool, CredentialProvider, DefaultClassify, DefaultPolicy,
    attempt::Shared,
};

/// Puts a credential on every request, and gets a newer one when that is refused.
///
/// See the [module](super) for what it does when. What is known about the accounts, and the pause
/// after a challenge, belong to the [`CredentialPool`]: all layers over one pool share them, as do
/// clones of a layer and the services that they make, whatever is set on each.
#[derive(Clone, Debug)]
pub struct AuthRefreshLayer<C = DefaultClassify, P = DefaultPolicy> {
    pool: CredentialPool,
    classify: C,
    policy: P,
}

impl AuthRefreshLayer {
    /// One account, named `default`.
    pub fn new(provider: impl CredentialProvider) -> Self {
        Self::from_pool(CredentialPool::new("default", provider))
    }

    /// The accounts of `pool`.
    #[must_use]
    pub fn from_pool(pool: CredentialPool) -> Self {
        Self { pool, classify: DefaultClassify, policy: DefaultPolicy }
    }
}

impl<C, P> AuthRefreshLayer<C, P> {
    /// Tells outcomes apart with `classify` instead of [`DefaultClassify`].
    #[must_use]
    pub fn classify<D>(self, classify: D) -> AuthRefreshLayer<D, P> {
        AuthRefreshLayer { pool: self.pool, classify, policy: self.policy }
    }

    /// Lets `policy`, an [`AccountPolicy`](super::AccountPolicy), say which account a request
    /// wants, instead of [`DefaultPolicy`].
    #[must_use]
    pub fn policy<Q>(self, policy: Q) -> AuthRefreshLayer<C, Q> {
        AuthRefreshLayer { pool: self.pool, classify: self.classify, policy }
    }

    /// The accounts.
    #[must_use]
    pub fn pool(&self) -> &CredentialPool {
        &self.pool
    }
}

impl<S, C: Clone, P: Clone> Layer<S> for AuthRefreshLayer<C, P> {
    type Service = AuthRefresh<S, C, P>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { pool, classify, policy } = self.clone();
        AuthRefresh::with(inner, Shared { pool, classify, policy })
    }
}

impl<S> AuthRefresh<S> {
    service!(made by AuthRefreshLayer::new(provider: impl CredentialProvider));
}

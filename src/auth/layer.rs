use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{
    AuthRefresh, CredentialPool, CredentialProvider, DefaultClassify, egress::Egress,
    service::Shared,
};

/// Puts a credential on every request, and gets a newer one when that is refused.
///
/// See the [module](super) for what it does when. Clones, and the services that they make, share
/// the accounts and what is known about them.
#[derive(Clone, Debug)]
pub struct AuthRefreshLayer<C = DefaultClassify> {
    shared: Arc<Shared<C>>,
}

impl AuthRefreshLayer {
    /// One account, named `default`.
    pub fn new(provider: impl CredentialProvider) -> Self {
        Self::with_pool(CredentialPool::new("default", provider))
    }

    /// The accounts of `pool`.
    #[must_use]
    pub fn with_pool(pool: CredentialPool) -> Self {
        let egress = Egress::new(Egress::PAUSE);
        Self { shared: Arc::new(Shared { pool, classify: DefaultClassify, egress }) }
    }
}

impl<C> AuthRefreshLayer<C> {
    /// Tells outcomes apart with `classify` instead of [`DefaultClassify`].
    #[must_use]
    pub fn classify<D>(self, classify: D) -> AuthRefreshLayer<D> {
        let (pool, egress) = (self.shared.pool.clone(), self.shared.egress.afresh());
        AuthRefreshLayer { shared: Arc::new(Shared { pool, classify, egress }) }
    }

    /// Answers with an error at once, without asking the upstream, for this long after an
    /// anti-bot challenge, and twice as long after each one that follows directly, up to
    /// 15 minutes; 60 s unless set (G6: requests during that time prolong it). Zero turns it off.
    #[must_use]
    pub fn challenge_pause(self, pause: Duration) -> Self
    where
        C: Clone,
    {
        let Shared { pool, classify, .. } = &*self.shared;
        let (pool, classify) = (pool.clone(), classify.clone());
        Self { shared: Arc::new(Shared { pool, classify, egress: Egress::new(pause) }) }
    }

    /// The accounts.
    #[must_use]
    pub fn pool(&self) -> &CredentialPool {
        &self.shared.pool
    }
}

impl<S, C> Layer<S> for AuthRefreshLayer<C> {
    type Service = AuthRefresh<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthRefresh::new(inner, Arc::clone(&self.shared))
    }
}

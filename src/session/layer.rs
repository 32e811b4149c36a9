use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{
    config::{Config, Contention, OwnChats},
    service::Session,
    store::SessionStore,
};
use crate::{Text, chat::Tenant};

/// Puts [`Session`] in front of a service: stateless clients over stateful chats.
///
/// The [module](super) says how it works. What can be set has good defaults:
///
/// ```
/// use std::time::Duration;
/// use tower_qwen::session::{Contention, MemoryStore, SessionLayer};
///
/// let store = MemoryStore::new(10_000, Duration::from_secs(60 * 60));
/// let layer = SessionLayer::new(store).contention(Contention::Replay).busy_retries(1);
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct SessionLayer {
    config: Config,
}

impl SessionLayer {
    /// A layer that keeps its sessions in `store`.
    #[must_use]
    pub fn new(store: impl SessionStore) -> Self {
        Self::from_shared(Arc::new(store))
    }

    /// The same for a store that is shared, or chosen at run time.
    #[must_use]
    pub fn from_shared(store: Arc<dyn SessionStore>) -> Self {
        Self { config: Config::new(store) }
    }

    /// What a turn does whose chat another turn is using. By default it waits for two seconds.
    #[must_use]
    pub fn contention(mut self, contention: Contention) -> Self {
        self.config.settings.contention = contention;
        self
    }

    /// How often a turn is tried again that the upstream refuses because the chat is busy. Then the
    /// history is replayed into a new chat. 3 by default.
    #[must_use]
    pub fn busy_retries(mut self, retries: u32) -> Self {
        self.config.settings.busy_retries = retries;
        self
    }

    /// How long to wait before each of these tries, two seconds by default. Up to as much again
    /// is added at random, so that turns which met once do not meet again.
    #[must_use]
    pub fn busy_delay(mut self, delay: Duration) -> Self {
        self.config.settings.busy_delay = delay;
        self
    }

    /// How long one call of the store may take before the request goes on without it; half a
    /// second by default.
    #[must_use]
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.config.settings.store_timeout = timeout;
        self
    }

    /// Which chats a client may name itself. By default it may name any, which is right where one
    /// person uses the account. Where tenants share it, take [`OwnChats::Known`].
    #[must_use]
    pub fn own_chats(mut self, own_chats: OwnChats) -> Self {
        self.config.settings.own_chats = own_chats;
        self
    }

    /// Says which upstream the chats are of, where several share the store: a word that no other has.
    /// A history that one has answered is then unknown to the others, and an answer that a client
    /// names is only that one's. Without it a history is known wherever its model is asked for.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<Text>) -> Self {
        self.config.scope = Some(scope.into());
        self
    }

    /// The store, as for [`forget_chat`](super::forget_chat).
    #[must_use]
    pub fn store(&self) -> &Arc<dyn SessionStore> {
        &self.config.store
    }

    /// Forgets the chat `chat_id` of `tenant`, as after it was deleted upstream. Another tenant's
    /// sessions stay, whatever the id.
    ///
    /// # Errors
    ///
    /// Where the store could not do it.
    pub async fn forget_chat(
        &self,
        tenant: &Tenant,
        chat_id: &str,
    ) -> Result<(), super::StoreError> {
        super::forget_chat(&*self.config.store, tenant, chat_id).await
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = Session<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Session::over(inner, self.config.clone())
    }
}

impl<S> Session<S> {
    service!(made by SessionLayer::new(store: impl SessionStore));
}

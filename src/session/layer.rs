use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{service::Session, store::SessionStore};
use crate::chat::Tenant;

/// What a turn does whose chat another turn is using. The upstream makes one answer at a time in a
/// chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contention {
    /// Wait this long for the first to end, then replay the history into a chat of its own.
    Wait(Duration),
    /// Replay the history into a chat of its own at once.
    Replay,
}

impl Contention {
    /// How long the second turn waits.
    pub(super) const fn patience(self) -> Duration {
        match self {
            Self::Wait(patience) => patience,
            Self::Replay => Duration::ZERO,
        }
    }
}

/// Which chats a client may name itself, as `qwen_chat_id` does.
///
/// Who names a chat goes on in it. Where several tenants share an account of the upstream, a tenant
/// that learns the id of another's chat would read that one's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnChats {
    /// Any chat: the upstream decides.
    #[default]
    Any,
    /// Only chats that an answer gave to this tenant, as far as the store remembers them. Any other
    /// is [`ErrorKind::ConversationLost`](crate::ErrorKind::ConversationLost), and the upstream is
    /// not asked. The error is the same for another tenant's chat and for one that does not exist.
    /// Without a tenant no chat can be named.
    Known,
}

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
#[derive(Clone)]
pub struct SessionLayer {
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) settings: Settings,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) contention: Contention,
    pub(super) busy_retries: u32,
    pub(super) busy_delay: Duration,
    pub(super) store_timeout: Duration,
    pub(super) own_chats: OwnChats,
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
        Self {
            store,
            settings: Settings {
                contention: Contention::Wait(Duration::from_secs(2)),
                busy_retries: 3,
                busy_delay: Duration::from_secs(2),
                store_timeout: Duration::from_millis(500),
                own_chats: OwnChats::Any,
            },
        }
    }

    /// What a turn does whose chat another turn is using. By default it waits for two seconds.
    #[must_use]
    pub fn contention(mut self, contention: Contention) -> Self {
        self.settings.contention = contention;
        self
    }

    /// How often a turn is tried again that the upstream refuses because the chat is busy. Then the
    /// history is replayed into a new chat. 3 by default.
    #[must_use]
    pub fn busy_retries(mut self, retries: u32) -> Self {
        self.settings.busy_retries = retries;
        self
    }

    /// How long to wait before each of these tries, two seconds by default. Up to as much again
    /// is added at random, so that turns which met once do not meet again.
    #[must_use]
    pub fn busy_delay(mut self, delay: Duration) -> Self {
        self.settings.busy_delay = delay;
        self
    }

    /// How long one call of the store may take before the request goes on without it; half a
    /// second by default.
    #[must_use]
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.settings.store_timeout = timeout;
        self
    }

    /// Which chats a client may name itself. By default it may name any, which is right where one
    /// person uses the account. Where tenants share it, take [`OwnChats::Known`].
    #[must_use]
    pub fn own_chats(mut self, own_chats: OwnChats) -> Self {
        self.settings.own_chats = own_chats;
        self
    }

    /// The store, as for [`forget_chat`](super::forget_chat).
    #[must_use]
    pub fn store(&self) -> &Arc<dyn SessionStore> {
        &self.store
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
        super::forget_chat(&*self.store, tenant, chat_id).await
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = Session<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Session::over(inner, self.clone())
    }
}

impl fmt::Debug for SessionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

use std::{fmt, sync::Arc, time::Duration};

use super::store::SessionStore;
use crate::Text;

/// What a turn does whose chat another turn is using. The upstream makes one answer at a time in a
/// chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contention {
    /// Wait this long for the first to end, then replay the history into a chat of its own.
    Wait(Duration),
    /// Replay the history into a chat of its own at once.
    Replay,
    /// Go on in the same chat: for an upstream that makes several answers at a time in one. No lease
    /// is taken.
    Share,
}

impl Contention {
    /// How long the second turn waits.
    pub(super) const fn patience(self) -> Duration {
        match self {
            Self::Wait(patience) => patience,
            Self::Replay | Self::Share => Duration::ZERO,
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

/// What each turn goes by.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) store: Arc<dyn SessionStore>,
    /// Whose the chats are, among several upstreams that share the store.
    pub(super) scope: Option<Text>,
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

impl Config {
    pub(super) fn new(store: Arc<dyn SessionStore>) -> Self {
        Self {
            store,
            scope: None,
            settings: Settings {
                contention: Contention::Wait(Duration::from_secs(2)),
                busy_retries: 3,
                busy_delay: Duration::from_secs(2),
                store_timeout: Duration::from_millis(500),
                own_chats: OwnChats::Any,
            },
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("settings", &self.settings).finish_non_exhaustive()
    }
}

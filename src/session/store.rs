//! Where sessions are kept.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    hash::{BuildHasher as _, RandomState},
    pin::Pin,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::key::{ChatKey, Key, TenantTag};
use crate::{
    AccountName,
    chat::{Conversation, Tenant, Text},
};

/// What the methods of a [`SessionStore`] give.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Where sessions are kept: which history is which message of which upstream chat.
///
/// A store is a cache with one rule: what it gives must have been recorded under that very key
/// and not forgotten since. It may lose anything at any time; a history that it does not know is
/// replayed into a new chat, which costs time and never correctness. It decides by itself when a
/// record is old and how many there are.
///
/// [`Session`](super::Session) bounds every call with its own time limit and goes on without the
/// store where that passes, so an implementation need not; and it makes one
/// [`find`](Self::find) a request at most.
///
/// # Cancel safety
///
/// Every future may be dropped at any time. [`release`](Self::release) and
/// [`record`](Self::record) are given to a task of their own where the caller goes away, if a
/// Tokio runtime is there.
pub trait SessionStore: Send + Sync + 'static {
    /// The first of `keys` that is known, and its place among them. The caller puts the longest
    /// history first. What is found counts as used.
    fn find<'a>(&'a self, keys: &'a [Key]) -> StoreFuture<'a, Option<Found>>;

    /// Records each history, over what was there, and releases the lease of the chat that they
    /// lead to, if one is given.
    fn record<'a>(
        &'a self,
        records: &'a [(Key, Record)],
        lease: Option<(ChatKey, Owner)>,
    ) -> StoreFuture<'a, ()>;

    /// Forgets every history that leads into `chat`. Not even a record that is being made at the
    /// same time may bring the chat back later.
    fn forget(&self, chat: ChatKey) -> StoreFuture<'_, ()>;

    /// The records of one tenant that are not forgotten, each chat at least once; in no order.
    fn records(&self, tenant: TenantTag) -> StoreFuture<'_, Vec<Record>>;

    /// Forgets everything of one tenant that is there now.
    fn forget_tenant(&self, tenant: TenantTag) -> StoreFuture<'_, ()>;

    /// Takes the lease of `chat` for `limit` at most; `false` where another owner has it.
    fn acquire(&self, chat: ChatKey, owner: Owner, limit: Duration) -> StoreFuture<'_, bool>;

    /// Gives the lease back, if `owner` still has it.
    fn release(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, ()>;
}

/// What [`SessionStore::find`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The place of the known key among those asked for.
    pub index: usize,
    /// What is recorded for it.
    pub record: Record,
}

impl Found {
    /// `record`, found under the key at `index`.
    #[must_use]
    pub const fn new(index: usize, record: Record) -> Self {
        Self { index, record }
    }
}

/// Where a history leads: the place in an upstream chat to go on from.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The chat, for leases and for forgetting.
    pub chat: ChatKey,
    /// The place: the chat, the id of the last answer, the account that both belong to.
    pub conversation: Conversation,
}

impl Record {
    /// The record of a place in a chat of `tenant`.
    #[must_use]
    pub fn new(tenant: &Tenant, conversation: Conversation) -> Self {
        Self { chat: ChatKey::new(tenant, &conversation.chat_id), conversation }
    }

    /// The record as bytes that [`decode`](Self::decode) reads: [`ChatKey`] in the first 16 of
    /// them, then the ids. For stores that keep bytes, in memory or elsewhere.
    ///
    /// `None` where an id is longer than 64 KiB, which no upstream makes.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let Conversation { chat_id, parent_id, account } = &self.conversation;
        let account = account.as_ref().map(AccountName::as_str);
        let texts = [Some(chat_id.as_str()), parent_id.as_deref(), account];
        let length = texts.iter().flatten().map(|text| text.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(16 + texts.len() * 2 + length);
        bytes.extend_from_slice(self.chat.as_bytes());
        for text in texts {
            // The length plus one, 0 being none.
            let length = match text {
                None => 0,
                Some(text) => u16::try_from(text.len()).ok()?.checked_add(1)?,
            };
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(text.map_or(b"", |text| text.as_bytes()));
        }
        Some(bytes)
    }

    /// The record that `bytes` hold; `None` where they are not what [`encode`](Self::encode)
    /// makes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        fn text<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a str>> {
            let (length, rest) = bytes.split_first_chunk::<2>()?;
            let Some(length) = usize::from(u16::from_le_bytes(*length)).checked_sub(1) else {
                *bytes = rest;
                return Some(None);
            };
            let (text, rest) = rest.split_at_checked(length)?;
            *bytes = rest;
            std::str::from_utf8(text).ok().map(Some)
        }

        let (chat, mut rest) = bytes.split_first_chunk::<16>()?;
        let conversation = Conversation {
            chat_id: text(&mut rest)??.into(),
            parent_id: text(&mut rest)?.map(Text::from),
            account: text(&mut rest)?.map(AccountName::from),
        };
        rest.is_empty().then_some(Self { chat: ChatKey::from_bytes(*chat), conversation })
    }
}

/// Shows the chat by a few characters of its key, never the ids.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("chat", &self.chat).finish_non_exhaustive()
    }
}

/// Who holds a lease: one turn of one process, unique among all that share a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(u128);

impl Owner {
    /// An owner that no other turn is.
    #[must_use]
    pub fn unique() -> Self {
        // The process is told apart by 64 bits of the system's randomness, the turn by a count.
        static PROCESS: LazyLock<u64> =
            LazyLock::new(|| RandomState::new().hash_one("tower-qwen session owner"));
        static TURN: AtomicU64 = AtomicU64::new(0);

        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        Self(u128::from(*PROCESS) << 64 | u128::from(turn))
    }

    /// The owner as a number.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

/// Why a [`SessionStore`] could not answer.
///
/// It never reaches a client: the request goes on as if the history were unknown, and the error
/// is counted and traced.
#[derive(Debug)]
pub struct StoreError {
    source: Box<dyn StdError + Send + Sync>,
}

impl StoreError {
    /// An error with this cause. It is traced, so it must not hold anything secret.
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: source.into() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session store could not answer")
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(parent: Option<&str>, account: Option<&str>) -> Record {
        let mut conversation = Conversation::new("33333333-aaaa");
        conversation.parent_id = parent.map(Text::from);
        conversation.account = account.map(AccountName::from);
        Record::new(&Tenant::default(), conversation)
    }

    #[test]
    fn records_go_there_and_back() {
        for record in [
            record(None, None),
            record(Some(""), None),
            record(None, Some("a")),
            record(Some("é"), Some("b@example.com")),
        ] {
            let bytes = record.encode().expect("short ids");
            assert_eq!(bytes[..16], *record.chat.as_bytes());
            assert_eq!(Record::decode(&bytes).as_ref(), Some(&record));
            for cut in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..cut]), None, "cut at {cut}");
            }
            assert_eq!(Record::decode(&[&*bytes, b"x"].concat()), None);
        }
    }

    #[test]
    fn an_absurd_id_is_not_recorded() {
        let absurd = Conversation::new("x".repeat(1 << 16));
        assert_eq!(Record::new(&Tenant::default(), absurd).encode(), None);
    }

    #[test]
    fn owners_are_unique() {
        assert_ne!(Owner::unique(), Owner::unique());
    }

    #[test]
    fn debug_shows_no_id() {
        let shown = format!("{:?}", record(Some("parent-1"), Some("somebody")));
        assert!(
            !shown.contains("33333333") && !shown.contains("parent") && !shown.contains("some")
        );
    }
}

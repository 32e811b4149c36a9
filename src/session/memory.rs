use std::{
    collections::HashMap,
    fmt,
    future::ready,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};

use super::{
    key::{ChatKey, Key, TenantTag},
    store::{Found, Grant, Owner, Record, SessionStore, StoreFuture},
};

/// Sessions in this process's memory.
///
/// A record that is not used for an hour (see [`new`](Self::new)) is dropped, and beyond
/// the capacity the one that was not used for the longest time. Cloning shares the sessions. There
/// is no task of its own: what is old goes while the store is used.
///
/// A record takes about 300 bytes beside the ids themselves, so the default capacity of 100,000
/// turns is at most some 40 MB. A conversation of *n* turns has *n* records, one a node of its
/// tree, plus one for the chat.
///
/// A lease lasts until it is given back: no turn outlives the process, and so does no lease.
///
/// It is lost with the process, and other processes do not see it; conversations are then
/// replayed once. Behind a load balancer use `RedisStore` (feature `redis`).
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    records: Cache<Key, Arc<[u8]>>,
    /// Chats that were forgotten, for as long as a record of theirs may be left.
    forgotten: Cache<ChatKey, ()>,
    /// Who has a chat.
    leases: Mutex<HashMap<ChatKey, Owner>>,
}

impl MemoryStore {
    /// How many records the default store holds at most.
    pub const DEFAULT_CAPACITY: u64 = 100_000;

    /// How long the default store keeps a record that is not used.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(60 * 60);

    /// A store of at most `capacity` records that drops what was not used for `ttl`.
    ///
    /// # Panics
    ///
    /// If `ttl` is longer than 1,000 years.
    #[must_use]
    pub fn new(capacity: u64, ttl: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                // The policy that moka has by default turns newcomers away when it is full, and a
                // conversation that has just begun is the one that will go on.
                records: Cache::builder()
                    .max_capacity(capacity)
                    .eviction_policy(EvictionPolicy::lru())
                    .time_to_idle(ttl)
                    .build(),
                forgotten: Cache::builder()
                    .max_capacity(capacity)
                    .eviction_policy(EvictionPolicy::lru())
                    .time_to_idle(ttl)
                    .build(),
                leases: Mutex::default(),
            }),
        }
    }

    /// About how many records there are. What has run out of time may still be counted.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.shared.records.entry_count()
    }

    /// Whether there are no records, as far as [`len`](Self::len) knows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CAPACITY, Self::DEFAULT_TTL)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.shared.records.policy();
        f.debug_struct("MemoryStore")
            .field("capacity", &policy.max_capacity())
            .field("ttl", &policy.time_to_idle())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn find(&self, key: &Key) -> Option<Record> {
        let bytes = self.records.get(key)?;
        let record = Record::decode(&bytes)?;
        if self.forgotten.get(&record.chat).is_some() {
            // The look-up counted as a use, which must not keep it past its tombstone.
            self.records.invalidate(key);
            return None;
        }
        Some(record)
    }

    fn record(&self, key: &Key, record: &Record) {
        let Some(bytes) = record.encode() else { return };
        if self.forgotten.get(&record.chat).is_some() {
            return;
        }
        self.records.insert(*key, bytes.into());
        // Once more, for a tombstone that came between: it must be younger than the record.
        if self.forgotten.get(&record.chat).is_some() {
            self.records.invalidate(key);
        }
    }

    fn records(&self, tenant: TenantTag) -> Vec<Record> {
        let own = self.records.iter().filter(|(key, _)| key.tenant() == tenant);
        own.filter_map(|(_, bytes)| Record::decode(&bytes))
            .filter(|record| !self.forgotten.contains_key(&record.chat))
            .collect()
    }

    fn forget_tenant(&self, tenant: TenantTag) {
        for (key, _) in &self.records {
            if key.tenant() == tenant {
                self.records.invalidate(&*key);
            }
        }
    }

    fn acquire(&self, chat: ChatKey, owner: Owner) -> Grant {
        match *self.leases().entry(chat).or_insert(owner) {
            holder if holder == owner => Grant::UntilReleased,
            _ => Grant::Refused,
        }
    }

    fn renew(&self, chat: ChatKey, owner: Owner) -> Grant {
        match self.leases().get(&chat) {
            Some(holder) if *holder == owner => Grant::UntilReleased,
            _ => Grant::Refused,
        }
    }

    fn release(&self, chat: ChatKey, owner: Owner) {
        let mut leases = self.leases();
        if leases.get(&chat).is_some_and(|holder| *holder == owner) {
            leases.remove(&chat);
        }
    }

    fn leases(&self) -> std::sync::MutexGuard<'_, HashMap<ChatKey, Owner>> {
        // Nothing that is done under the lock leaves it half done.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every future is ready when it is made.
impl SessionStore for MemoryStore {
    fn find<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Record>> {
        Box::pin(ready(Ok(self.shared.find(key))))
    }

    fn record<'a>(&'a self, key: &'a Key, record: &'a Record) -> StoreFuture<'a, ()> {
        self.shared.record(key, record);
        Box::pin(ready(Ok(())))
    }

    fn forget(&self, chat: ChatKey) -> StoreFuture<'_, ()> {
        self.shared.forgotten.insert(chat, ());
        Box::pin(ready(Ok(())))
    }

    fn find_first<'a>(&'a self, keys: &'a [Key]) -> StoreFuture<'a, Option<Found>> {
        let known = |(index, key)| Some(Found::new(index, self.shared.find(key)?));
        Box::pin(ready(Ok(keys.iter().enumerate().find_map(known))))
    }

    fn record_all<'a>(
        &'a self,
        records: &'a [(Key, Record)],
        lease: Option<(ChatKey, Owner)>,
    ) -> StoreFuture<'a, ()> {
        records.iter().for_each(|(key, record)| self.shared.record(key, record));
        if let Some((chat, owner)) = lease {
            self.shared.release(chat, owner);
        }
        Box::pin(ready(Ok(())))
    }

    fn acquire(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, Grant> {
        Box::pin(ready(Ok(self.shared.acquire(chat, owner))))
    }

    fn renew(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, Grant> {
        Box::pin(ready(Ok(self.shared.renew(chat, owner))))
    }

    fn release(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, ()> {
        self.shared.release(chat, owner);
        Box::pin(ready(Ok(())))
    }

    fn forget_key<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, bool> {
        Box::pin(ready(Ok(self.shared.records.remove(key).is_some())))
    }

    fn records(&self, tenant: TenantTag) -> StoreFuture<'_, Vec<Record>> {
        Box::pin(ready(Ok(self.shared.records(tenant))))
    }

    fn forget_tenant(&self, tenant: TenantTag) -> StoreFuture<'_, ()> {
        self.shared.forget_tenant(tenant);
        Box::pin(ready(Ok(())))
    }
}

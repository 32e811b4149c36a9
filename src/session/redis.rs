use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    slice,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{
    Client, ExistenceCheck, FromRedisValue, IntoConnectionInfo, RedisResult, Script, SetExpiry,
    SetOptions,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::{
    key::{ChatKey, Key, TenantTag},
    store::{Found, Grant, Owner, Record, SessionStore, StoreError, StoreFuture},
};

use crate::BoxError;

/// The first key that holds a record which can be read and whose chat was not forgotten; its time
/// starts again.
///
/// Two things of a record are read here, both the same in all versions of this crate: the chat is
/// in its first 16 bytes, and its version in the next. A record of a newer version is passed over
/// where it lies, in the same round trip, so that during an upgrade an older proxy goes on from
/// the longest history that it can read.
static FIND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        for i, key in ipairs(KEYS) do
          local record = redis.call('GET', key)
          local version = record and string.byte(record, 17)
          if version and version >= 1 and version <= tonumber(ARGV[3]) then
            if redis.call('EXISTS', ARGV[2] .. string.sub(record, 1, 16)) == 0 then
              redis.call('PEXPIRE', key, ARGV[1])
              return {i - 1, record}
            end
            redis.call('DEL', key)
          end
        end
        return false",
    )
});

/// Sets each record whose chat was not forgotten, then gives the lease back. The last key and the
/// last argument are the lease's, both empty where there is none.
static RECORD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        for i = 1, #KEYS - 1 do
          local record = ARGV[i + 2]
          if redis.call('EXISTS', ARGV[2] .. string.sub(record, 1, 16)) == 0 then
            redis.call('SET', KEYS[i], record, 'PX', ARGV[1])
          end
        end
        local lease, owner = KEYS[#KEYS], ARGV[#ARGV]
        if owner ~= '' and redis.call('GET', lease) == owner then
          redis.call('DEL', lease)
        end
        return 1",
    )
});

/// Makes a lease last for its time again, for the owner that has it.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('GET', KEYS[1]) == ARGV[1] then
          return redis.call('PEXPIRE', KEYS[1], ARGV[2])
        end
        return 0",
    )
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('GET', KEYS[1]) == ARGV[1] then
          return redis.call('DEL', KEYS[1])
        end
        return 0",
    )
});

/// Sessions in a Redis server, for several proxies behind a load balancer (feature `redis`).
///
/// # What an operation costs
///
/// A look-up is one round trip, whatever the length of the history, and starts the record's hour
/// ([`ttl`](RedisStoreBuilder::ttl)) again. Recording an answer and releasing its lease are one
/// round trip together. Only the operations on everything of a tenant scan
/// ([`records`](SessionStore::records), [`forget_tenant`](SessionStore::forget_tenant)).
///
/// # A server that is away
///
/// The connection is made when it is first needed, and again when it breaks. No operation takes
/// longer than the [time limit](RedisStoreBuilder::timeout). After one that failed the server is
/// left alone for half a second, in which all operations fail at once. So a Redis that is away
/// costs a replay of the history and no time. The store says once at WARN that the server fails,
/// and at INFO that it answers again. What the server held when it died without saving is replayed
/// too.
///
/// A lease ends after 15 seconds ([`lease`](RedisStoreBuilder::lease)), unless the turn that has it
/// renews it. It is given back even while the server is left alone. Where that fails, the chat is
/// free when the lease ends. So neither a proxy that dies nor a Redis that is away for a moment
/// locks a chat for longer than that.
///
/// # What it needs
///
/// It needs Redis 6 or later, or a server that speaks like it, with Lua scripts. There may be one
/// server, or one that fails over behind one address; a Redis Cluster will not do. For `rediss:`
/// URLs switch on a TLS feature of the crate `redis`, such as `tokio-rustls-comp`.
///
/// It must be used inside a Tokio runtime with I/O and time. Clones share the connection and all
/// that was set.
///
/// # Several versions on one server
///
/// Proxies of different versions of this crate may share a server, as they do while they are
/// replaced one by one. What they write stays apart where it must and is common where it can be:
///
/// - Leases and marks of forgotten chats are the same in all versions. Two proxies never answer in
///   one chat at the same time because one of them is older, and a chat that one forgets is
///   forgotten by all.
/// - A record that an older version wrote is read. In one that a newer version wrote, fields that
///   came later are passed over; a record that means something else now carries a higher version,
///   is unknown to older proxies, and stays where it is. They go on from an earlier turn or replay
///   the history, and never fail for it.
/// - Where a version takes other histories for alike, its keys are others too ([`Key`]). A
///   conversation that goes from an old proxy to a new one is then replayed once.
/// - [`records`](SessionStore::records) gives what the version that is asked can read;
///   [`forget_tenant`](SessionStore::forget_tenant) takes everything. To list or delete chats
///   while versions are mixed, ask a proxy of the newest.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_qwen::session::{RedisStore, SessionLayer};
///
/// # fn main() -> Result<(), tower_qwen::session::StoreError> {
/// let hour = Duration::from_secs(3600);
/// let store = RedisStore::builder("redis://127.0.0.1:6379")?.ttl(hour).build();
/// let layer = SessionLayer::new(store);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    settings: Settings,
    link: Link,
}

struct Settings {
    ttl: Duration,
    timeout: Duration,
    lease: Duration,
    prefix: String,
}

/// What may be set of a [`RedisStore`]; made by [`RedisStore::builder`].
#[must_use = "it does nothing until the store is built"]
pub struct RedisStoreBuilder {
    client: Client,
    settings: Settings,
}

impl RedisStoreBuilder {
    /// How long a record that is not used is kept, an hour by default.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = ttl;
        self
    }

    /// How long one operation may take, a quarter of a second by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// After how long a lease ends that is neither renewed nor given back, 15 seconds by default.
    ///
    /// It is how long a chat may stay locked after a proxy has died in the middle of an answer. A
    /// turn renews its lease after each third, and more often where that fails, so a Redis that is
    /// away for less than half of it costs no turn its chat.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// What all keys begin with, `tower-qwen:` by default. Proxies with the same prefix share
    /// their sessions.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.settings.prefix = prefix.into();
        self
    }

    /// The store. Nothing is connected yet.
    #[must_use]
    pub fn build(self) -> RedisStore {
        let Self { client, settings } = self;
        let link = Link {
            connection: OnceLock::new(),
            epoch: Instant::now(),
            rests_until: AtomicU64::new(0),
            away: AtomicBool::new(false),
        };
        RedisStore { shared: Arc::new(Shared { client, settings, link }) }
    }
}

/// Shows the server's address, never user or password.
impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(&self.client, f.debug_struct("RedisStoreBuilder"))
    }
}

impl Settings {
    fn fmt(&self, client: &Client, mut shown: fmt::DebugStruct<'_, '_>) -> fmt::Result {
        shown
            .field("server", &client.get_connection_info().addr())
            .field("ttl", &self.ttl)
            .field("timeout", &self.timeout)
            .field("lease", &self.lease)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// The state of the connection.
struct Link {
    connection: OnceLock<ConnectionManager>,
    epoch: Instant,
    /// Until when the server is left alone, in milliseconds since `epoch`.
    rests_until: AtomicU64,
    /// Whether the last operation failed, which is said once.
    away: AtomicBool,
}

impl RedisStore {
    /// How long a record that is not used is kept by default.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(60 * 60);

    /// How long one operation may take by default.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(250);

    /// How long a lease lasts by default unless it is renewed.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(15);

    /// How long the server is left alone after an operation that failed.
    const REST: Duration = Duration::from_millis(500);

    /// A store in the server at `url` (`redis://[user:password@]host[:port][/db]` or
    /// `unix:///path`), with the defaults of [`builder`](Self::builder). Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If the URL is not one. The error does not repeat it, for it may hold a password.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        Self::builder(url).map(RedisStoreBuilder::build)
    }

    /// The same, to be set as wanted.
    ///
    /// # Errors
    ///
    /// If the URL is not one. The error does not repeat it, for it may hold a password.
    pub fn builder(url: &str) -> Result<RedisStoreBuilder, StoreError> {
        // A server that vanishes without a word is noticed within some ten seconds.
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(
            TcpKeepalive::new()
                .with_time(Duration::from_secs(5))
                .with_interval(Duration::from_secs(2))
                .with_retries(3),
        );
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(Duration::from_secs(10));
        let client = url
            .into_connection_info()
            .map(|info| info.set_tcp_settings(tcp))
            .and_then(Client::open)
            .map_err(|_| StoreError::new("the Redis URL is malformed or of an unknown scheme"))?;
        let settings = Settings {
            ttl: Self::DEFAULT_TTL,
            timeout: Self::DEFAULT_TIMEOUT,
            lease: Self::DEFAULT_LEASE,
            prefix: "tower-qwen:".into(),
        };
        Ok(RedisStoreBuilder { client, settings })
    }

    fn connection(&self) -> RedisResult<ConnectionManager> {
        let Shared { client, settings, link } = &*self.shared;
        if let Some(connection) = link.connection.get() {
            return Ok(connection.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(settings.timeout))
            .set_max_delay(Duration::from_millis(500));
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        Ok(link.connection.get_or_init(|| connection).clone())
    }

    /// Does one operation within the time limit, unless the server is left alone.
    async fn run<T, F>(
        &self,
        operation: impl FnOnce(ConnectionManager) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        if self.shared.link.rests() {
            return Err(StoreError::new("Redis failed just now and is left alone for a moment"));
        }
        self.try_anyway(operation).await
    }

    /// Does one operation within the time limit, also while the server is left alone.
    async fn try_anyway<T, F>(
        &self,
        operation: impl FnOnce(ConnectionManager) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        // A lease may be dropped anywhere; the client would panic.
        if Handle::try_current().is_err() {
            return Err(StoreError::new("there is no Tokio runtime"));
        }
        let Shared { settings, link, .. } = &*self.shared;
        let result = async { operation(self.connection()?).await };
        let error: BoxError = match timeout(settings.timeout, result).await {
            Ok(Ok(answer)) => {
                if link.away.load(Ordering::Relaxed) && link.away.swap(false, Ordering::Relaxed) {
                    link.rests_until.store(0, Ordering::Relaxed);
                    info!("Redis answers again");
                }
                return Ok(answer);
            }
            Ok(Err(error)) => error.into(),
            Err(elapsed) => elapsed.into(),
        };
        if !link.away.swap(true, Ordering::Relaxed) {
            warn!(error = &*error as &dyn StdError, "Redis fails; sessions go on without it");
        }
        let rest = u64::try_from(Self::REST.as_millis()).unwrap_or(u64::MAX);
        link.rests_until.store(link.now().saturating_add(rest), Ordering::Relaxed);
        Err(StoreError::new(error))
    }

    fn ttl(&self) -> u64 {
        milliseconds(self.shared.settings.ttl)
    }

    fn session(&self, key: &Key) -> String {
        let bytes = key.to_bytes();
        // The tenant's mark, then the key's own bytes.
        let (tenant, own) = bytes.split_at(8);
        format!("{}session:{}:{}", self.shared.settings.prefix, Hex(tenant), Hex(own))
    }

    fn lease(&self, chat: ChatKey) -> String {
        format!("{}lease:{}", self.shared.settings.prefix, Hex(chat.as_bytes()))
    }

    /// What the keys of forgotten chats begin with. The chat's own bytes follow, as they are at
    /// the start of a record, so that the scripts need not convert them.
    fn forgotten(&self) -> String {
        format!("{}forgotten:", self.shared.settings.prefix)
    }

    fn forgotten_key(&self, chat: ChatKey) -> Vec<u8> {
        let mut key = self.forgotten().into_bytes();
        key.extend_from_slice(chat.as_bytes());
        key
    }

    async fn first(&self, keys: &[Key]) -> Result<Option<Found>, StoreError> {
        let found: Option<(usize, Vec<u8>)> = self
            .run(async |mut connection| {
                let mut call = FIND.prepare_invoke();
                for key in keys {
                    call.key(self.session(key));
                }
                call.arg(self.ttl()).arg(self.forgotten()).arg(Record::VERSION);
                call.invoke_async(&mut connection).await
            })
            .await?;
        // What cannot be read is unknown.
        Ok(found.and_then(|(index, bytes)| Some(Found::new(index, Record::decode(&bytes)?))))
    }

    async fn set<'a>(
        &self,
        records: impl IntoIterator<Item = (&'a Key, &'a Record)>,
        lease: Option<(ChatKey, Owner)>,
    ) -> Result<(), StoreError> {
        self.run(async |mut connection| {
            let mut call = RECORD.prepare_invoke();
            call.arg(self.ttl()).arg(self.forgotten());
            for (key, record) in records {
                if let Some(bytes) = record.encode() {
                    call.key(self.session(key)).arg(bytes);
                }
            }
            match lease {
                Some((chat, owner)) => {
                    call.key(self.lease(chat)).arg(owner.get().to_string());
                }
                None => {
                    call.key("").arg("");
                }
            }
            call.invoke_async(&mut connection).await
        })
        .await
    }

    /// Some keys of a tenant's records, and where to go on, 0 being the end.
    async fn scan(
        &self,
        tenant: TenantTag,
        cursor: u64,
    ) -> Result<(u64, Vec<Vec<u8>>), StoreError> {
        let tenant = Hex(tenant.as_bytes());
        let pattern = format!("{}session:{tenant}:*", escaped(&self.shared.settings.prefix));
        let mut scan = ::redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000);
        self.run(async |mut connection| scan.query_async(&mut connection).await).await
    }

    /// The values of these keys, of which there is at least one.
    async fn values(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mget = ::redis::Cmd::mget(keys);
        self.run(async |mut connection| mget.query_async(&mut connection).await).await
    }
}

impl Link {
    /// Whether the server is left alone.
    fn rests(&self) -> bool {
        self.now() < self.rests_until.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Redis takes no expiry of 0, and none that leaves 64 bits.
fn milliseconds(duration: Duration) -> u64 {
    /// A thousand years.
    const MOST: u64 = 1_000 * 365 * 24 * 60 * 60 * 1_000;
    u64::try_from(duration.as_millis()).unwrap_or(MOST).clamp(1, MOST)
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text with the characters that a pattern of Redis gives a meaning escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

impl SessionStore for RedisStore {
    fn find<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Record>> {
        Box::pin(
            async move { Ok(self.first(slice::from_ref(key)).await?.map(|found| found.record)) },
        )
    }

    fn record<'a>(&'a self, key: &'a Key, record: &'a Record) -> StoreFuture<'a, ()> {
        Box::pin(self.set([(key, record)], None))
    }

    fn forget(&self, chat: ChatKey) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let command = ::redis::Cmd::pset_ex(self.forgotten_key(chat), 1, self.ttl());
            self.run(async |mut connection| command.query_async(&mut connection).await).await
        })
    }

    fn find_first<'a>(&'a self, keys: &'a [Key]) -> StoreFuture<'a, Option<Found>> {
        Box::pin(self.first(keys))
    }

    fn record_all<'a>(
        &'a self,
        records: &'a [(Key, Record)],
        lease: Option<(ChatKey, Owner)>,
    ) -> StoreFuture<'a, ()> {
        Box::pin(self.set(records.iter().map(|(key, record)| (key, record)), lease))
    }

    fn acquire(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, Grant> {
        Box::pin(async move {
            let lease = self.shared.settings.lease;
            let options = SetOptions::default()
                .conditional_set(ExistenceCheck::NX)
                .with_expiration(SetExpiry::PX(milliseconds(lease)));
            let command =
                ::redis::Cmd::set_options(self.lease(chat), owner.get().to_string(), options);
            let set = self
                .run(async |mut connection| {
                    command.query_async::<::redis::Value>(&mut connection).await
                })
                .await?;
            let set = Option::<String>::from_redis_value(set).is_ok_and(|set| set.is_some());
            Ok(if set { Grant::For(lease) } else { Grant::Refused })
        })
    }

    fn renew(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, Grant> {
        Box::pin(async move {
            let lease = self.shared.settings.lease;
            let renewed: bool = self
                .run(async |mut connection| {
                    let mut call = RENEW.prepare_invoke();
                    call.key(self.lease(chat)).arg(owner.get().to_string());
                    call.arg(milliseconds(lease)).invoke_async(&mut connection).await
                })
                .await?;
            Ok(if renewed { Grant::For(lease) } else { Grant::Refused })
        })
    }

    fn release(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            // Even while the server is left alone: clients wait for the chat.
            self.try_anyway(async |mut connection| {
                let mut call = RELEASE.prepare_invoke();
                call.key(self.lease(chat)).arg(owner.get().to_string());
                call.invoke_async(&mut connection).await
            })
            .await
        })
    }

    fn forget_key<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let command = ::redis::Cmd::del(self.session(key));
            self.run(async |mut connection| command.query_async(&mut connection).await).await
        })
    }

    fn records(&self, tenant: TenantTag) -> StoreFuture<'_, Vec<Record>> {
        Box::pin(async move {
            let mut records = Vec::new();
            let mut cursor = 0;
            loop {
                let (next, keys) = self.scan(tenant, cursor).await?;
                if !keys.is_empty() {
                    let values: Vec<Option<Vec<u8>>> = self.values(keys).await?;
                    // What is not ours does not hide what is.
                    let page = values.iter().flatten().filter_map(|bytes| Record::decode(bytes));
                    let page: Vec<Record> = page.collect();
                    let marks = page.iter().map(|record| self.forgotten_key(record.chat));
                    let marks: Vec<Option<Vec<u8>>> = match page.is_empty() {
                        true => Vec::new(),
                        false => self.values(marks.collect()).await?,
                    };
                    let kept = page.into_iter().zip(marks).filter(|(_, mark)| mark.is_none());
                    records.extend(kept.map(|(record, _)| record));
                }
                if next == 0 {
                    return Ok(records);
                }
                cursor = next;
            }
        })
    }

    fn forget_tenant(&self, tenant: TenantTag) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let mut cursor = 0;
            loop {
                let (next, keys) = self.scan(tenant, cursor).await?;
                if !keys.is_empty() {
                    let unlink = ::redis::Cmd::unlink(keys);
                    self.run(async |mut connection| {
                        unlink.query_async::<()>(&mut connection).await
                    })
                    .await?;
                }
                if next == 0 {
                    return Ok(());
                }
                cursor = next;
            }
        })
    }
}

/// Shows the server's address, never user or password.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.settings.fmt(&self.shared.client, f.debug_struct("RedisStore"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        let store = RedisStore::new("redis://somebody:s3cret@localhost:1/").expect("a URL");
        assert!(!format!("{store:?}").contains("s3cret"));
        let builder = RedisStore::builder("redis://somebody:s3cret@localhost:1/").expect("a URL");
        assert!(!format!("{builder:?}").contains("s3cret"));
        let error = RedisStore::new("http://somebody:s3cret@localhost").expect_err("not Redis");
        assert!(!format!("{error:?}").contains("s3cret"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_failed_is_left_alone_for_a_moment() {
        // Nothing listens on port 1.
        let store = RedisStore::new("redis://127.0.0.1:1").expect("a URL");
        let rests = async || {
            let error = store.find_first(&[]).await.expect_err("no server");
            let source = std::error::Error::source(&error).expect("a cause").to_string();
            source.contains("left alone")
        };
        assert!(!rests().await);
        assert!(rests().await);
        assert!(rests().await);
        tokio::time::advance(RedisStore::REST).await;
        assert!(!rests().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_given_back_while_the_server_is_left_alone() {
        let store = RedisStore::new("redis://127.0.0.1:1").expect("a URL");
        let cause =
            |error: StoreError| std::error::Error::source(&error).expect("a cause").to_string();
        let (chat, owner) = (ChatKey::from_bytes([1; 16]), Owner::unique());
        cause(store.acquire(chat, owner).await.expect_err("no server"));
        for refused in [store.acquire(chat, owner).await, store.renew(chat, owner).await] {
            assert!(cause(refused.expect_err("no server")).contains("left alone"));
        }
        let tried = cause(store.release(chat, owner).await.expect_err("no server"));
        assert!(!tried.contains("left alone"), "{tried}");
    }

    #[test]
    fn clones_share_everything() {
        let store = RedisStore::builder("redis://127.0.0.1:1").expect("a URL").prefix("p:").build();
        assert!(Arc::ptr_eq(&store.shared, &store.clone().shared));
        assert!(format!("{store:?}").contains(r#"lease: 15s, prefix: "p:""#));
    }

    #[test]
    fn a_lease_may_end_outside_of_a_runtime() {
        let store = RedisStore::new("redis://127.0.0.1:1").expect("a URL");
        let mut release = store.release(ChatKey::from_bytes([1; 16]), Owner::unique());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(matches!(release.as_mut().poll(&mut cx), std::task::Poll::Ready(Err(_))));
    }

    #[test]
    fn expiries_are_what_redis_takes() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_secs(2)), 2_000);
        assert!(milliseconds(Duration::MAX) < u64::MAX / 2);
    }

    #[test]
    fn a_pattern_matches_only_itself() {
        assert_eq!(escaped("a*[b]\\-"), "a\\*\\[b\\]\\\\\\-");
    }
}

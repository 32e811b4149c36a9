use std::{
    error::Error as StdError,
    fmt,
    future::Future,
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
    store::{Found, Owner, Record, SessionStore, StoreError, StoreFuture},
};

/// The first key that is there and whose chat was not forgotten; its time starts again.
static FIND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        for i, key in ipairs(KEYS) do
          local record = redis.call('GET', key)
          if record then
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
/// A look-up is one round trip whatever the length of the history, and starts the record's hour
/// ([`with_ttl`](Self::with_ttl)) again; so are a record together with the release of its lease,
/// and every other operation but those on all of a tenant
/// ([`records`](SessionStore::records), [`forget_tenant`](SessionStore::forget_tenant)), which
/// scan.
///
/// The connection is made when it is first needed and made again when it breaks. No operation
/// takes longer than the [time limit](Self::with_timeout), and after one that failed the server is
/// left alone for half a second, in which all operations fail at once: a Redis that is away costs
/// a replay of the history and no time; that it fails is said once, at WARN, and that it answers
/// again at INFO. What it held when it died without saving is replayed too.
///
/// It needs Redis 6 or later, or something that speaks like it, with Lua scripts; one server, or
/// one that fails over behind one address, not a Redis Cluster. For `rediss:` URLs switch on a TLS
/// feature of the crate `redis`, such as `tokio-rustls-comp`.
///
/// It must be used inside a Tokio runtime with I/O and time.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_qwen::session::{RedisStore, SessionLayer};
///
/// # fn main() -> Result<(), tower_qwen::session::StoreError> {
/// let store = RedisStore::new("redis://127.0.0.1:6379")?.with_ttl(Duration::from_secs(3600));
/// let layer = SessionLayer::new(store);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore {
    client: Client,
    ttl: Duration,
    timeout: Duration,
    prefix: Arc<str>,
    link: Arc<Link>,
}

/// The state of the connection, shared by all clones.
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

    /// How long the server is left alone after an operation that failed.
    const REST: Duration = Duration::from_millis(500);

    /// A store in the server at `url` (`redis://[user:password@]host[:port][/db]` or
    /// `unix:///path`). Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If the URL is not one. The error does not repeat it, for it may hold a password.
    pub fn new(url: &str) -> Result<Self, StoreError> {
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
        Ok(Self {
            client,
            ttl: Self::DEFAULT_TTL,
            timeout: Self::DEFAULT_TIMEOUT,
            prefix: "tower-qwen:".into(),
            link: Arc::new(Link {
                connection: OnceLock::new(),
                epoch: Instant::now(),
                rests_until: AtomicU64::new(0),
                away: AtomicBool::new(false),
            }),
        })
    }

    /// How long a record that is not used is kept.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long one operation may take.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What all keys begin with, `tower-qwen:` by default. Proxies with the same prefix share
    /// their sessions.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    fn connection(&self) -> RedisResult<ConnectionManager> {
        if let Some(connection) = self.link.connection.get() {
            return Ok(connection.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(self.timeout))
            .set_max_delay(Duration::from_millis(500));
        let connection = ConnectionManager::new_lazy_with_config(self.client.clone(), config)?;
        Ok(self.link.connection.get_or_init(|| connection).clone())
    }

    /// Does one operation within the time limit.
    async fn run<T, F>(
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
        if self.link.now() < self.link.rests_until.load(Ordering::Relaxed) {
            return Err(StoreError::new("Redis failed just now and is left alone for a moment"));
        }
        let result = async { operation(self.connection()?).await };
        let error: Box<dyn StdError + Send + Sync> = match timeout(self.timeout, result).await {
            Ok(Ok(answer)) => {
                if self.link.away.load(Ordering::Relaxed)
                    && self.link.away.swap(false, Ordering::Relaxed)
                {
                    info!("Redis answers again");
                }
                return Ok(answer);
            }
            Ok(Err(error)) => error.into(),
            Err(elapsed) => elapsed.into(),
        };
        if !self.link.away.swap(true, Ordering::Relaxed) {
            warn!(error = &*error as &dyn StdError, "Redis fails; sessions go on without it");
        }
        let until = self.link.now() + u64::try_from(Self::REST.as_millis()).unwrap_or(u64::MAX);
        self.link.rests_until.store(until, Ordering::Relaxed);
        Err(StoreError::new(error))
    }

    fn ttl(&self) -> u64 {
        milliseconds(self.ttl)
    }

    fn session(&self, key: &Key) -> String {
        let (tenant, digest) = (Hex(key.tenant().as_bytes()).to_string(), Hex(key.digest()));
        format!("{}session:{tenant}:{digest}", self.prefix)
    }

    fn lease(&self, chat: ChatKey) -> String {
        format!("{}lease:{}", self.prefix, Hex(chat.as_bytes()))
    }

    /// What the keys of forgotten chats begin with. The chat's own bytes follow, as they are at
    /// the start of a record, so that the scripts need not convert them.
    fn forgotten(&self) -> String {
        format!("{}forgotten:", self.prefix)
    }

    fn forgotten_key(&self, chat: ChatKey) -> Vec<u8> {
        let mut key = self.forgotten().into_bytes();
        key.extend_from_slice(chat.as_bytes());
        key
    }

    /// Some keys of a tenant's records, and where to go on, 0 being the end.
    async fn scan(
        &self,
        tenant: TenantTag,
        cursor: u64,
    ) -> Result<(u64, Vec<Vec<u8>>), StoreError> {
        let tenant = Hex(tenant.as_bytes());
        let pattern = format!("{}session:{tenant}:*", escaped(&self.prefix));
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
    fn find<'a>(&'a self, keys: &'a [Key]) -> StoreFuture<'a, Option<Found>> {
        Box::pin(async move {
            let found: Option<(usize, Vec<u8>)> = self
                .run(async |mut connection| {
                    let mut call = FIND.prepare_invoke();
                    for key in keys {
                        call.key(self.session(key));
                    }
                    call.arg(self.ttl()).arg(self.forgotten());
                    call.invoke_async(&mut connection).await
                })
                .await?;
            let Some((index, bytes)) = found else { return Ok(None) };
            match Record::decode(&bytes) {
                Some(record) if index < keys.len() => Ok(Some(Found::new(index, record))),
                _ => Err(StoreError::new("a record in Redis is not one of this crate's")),
            }
        })
    }

    fn record<'a>(
        &'a self,
        records: &'a [(Key, Record)],
        lease: Option<(ChatKey, Owner)>,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
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
        })
    }

    fn forget(&self, chat: ChatKey) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let command = ::redis::Cmd::pset_ex(self.forgotten_key(chat), 1, self.ttl());
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

    fn acquire(&self, chat: ChatKey, owner: Owner, limit: Duration) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let options = SetOptions::default()
                .conditional_set(ExistenceCheck::NX)
                .with_expiration(SetExpiry::PX(milliseconds(limit)));
            let command =
                ::redis::Cmd::set_options(self.lease(chat), owner.get().to_string(), options);
            let set = self
                .run(async |mut connection| {
                    command.query_async::<::redis::Value>(&mut connection).await
                })
                .await?;
            Ok(Option::<String>::from_redis_value(set).is_ok_and(|set| set.is_some()))
        })
    }

    fn release(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.run(async |mut connection| {
                let mut call = RELEASE.prepare_invoke();
                call.key(self.lease(chat)).arg(owner.get().to_string());
                call.invoke_async(&mut connection).await
            })
            .await
        })
    }
}

/// Shows the server's address, never user or password.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("server", &self.client.get_connection_info().addr())
            .field("ttl", &self.ttl)
            .field("timeout", &self.timeout)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        let store = RedisStore::new("redis://somebody:s3cret@localhost:1/").expect("a URL");
        assert!(!format!("{store:?}").contains("s3cret"));
        let error = RedisStore::new("http://somebody:s3cret@localhost").expect_err("not Redis");
        assert!(!format!("{error:?}").contains("s3cret"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_failed_is_left_alone_for_a_moment() {
        // Nothing listens on port 1.
        let store = RedisStore::new("redis://127.0.0.1:1").expect("a URL");
        let rests = async || {
            let error = store.find(&[]).await.expect_err("no server");
            let source = std::error::Error::source(&error).expect("a cause").to_string();
            source.contains("left alone")
        };
        assert!(!rests().await);
        assert!(rests().await);
        assert!(rests().await);
        tokio::time::advance(RedisStore::REST).await;
        assert!(!rests().await);
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

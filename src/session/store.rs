//! Where sessions are kept.

use std::{
    error::Error as StdError,
    fmt,
    future::{Future, ready},
    hash::{BuildHasher as _, RandomState},
    pin::Pin,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    key::{ChatKey, Key, TenantTag},
    past::Past,
};
use crate::{
    AccountName, BoxError, Text,
    chat::{Conversation, Tenant},
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
/// [`find_first`](Self::find_first) a request at most.
///
/// # Writing one
///
/// Three methods are enough: [`find`](Self::find), [`record`](Self::record) and
/// [`forget`](Self::forget). All others have a default, and so will those that come later:
///
/// - *Several at once*, [`find_first`](Self::find_first) and [`record_all`](Self::record_all): by
///   default one after the other. A store that is asked over a network does each in one round trip.
/// - *Leases*, [`acquire`](Self::acquire), [`renew`](Self::renew) and [`release`](Self::release):
///   by default everybody gets one, and upstream itself refuses a second answer in one chat.
/// - *Administration*, [`forget_key`](Self::forget_key), [`records`](Self::records) and
///   [`forget_tenant`](Self::forget_tenant): by default an error for which
///   [`StoreError::is_not_offered`] holds.
///
/// A store that hands on to another must hand on every method, or that one's own way of doing it
/// is lost.
///
/// Keys are compared and hashed as they are, or kept as the bytes that [`Key::to_bytes`] gives;
/// nothing else is to be read from them. A store that keeps bytes has [`Record::encode`] and
/// [`Record::decode`].
///
/// ```
/// use std::{
///     collections::{HashMap, HashSet},
///     future::ready,
///     sync::{Mutex, MutexGuard, PoisonError},
/// };
/// use tower_qwen::session::{ChatKey, Key, Record, SessionLayer, SessionStore, StoreFuture};
///
/// /// Sessions for as long as the process runs, however many there are.
/// #[derive(Default)]
/// struct MapStore(Mutex<(HashMap<Key, Record>, HashSet<ChatKey>)>);
///
/// impl MapStore {
///     fn lock(&self) -> MutexGuard<'_, (HashMap<Key, Record>, HashSet<ChatKey>)> {
///         self.0.lock().unwrap_or_else(PoisonError::into_inner)
///     }
/// }
///
/// impl SessionStore for MapStore {
///     fn find<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Record>> {
///         Box::pin(ready(Ok(self.lock().0.get(key).cloned())))
///     }
///
///     fn record<'a>(&'a self, key: &'a Key, record: &'a Record) -> StoreFuture<'a, ()> {
///         let (records, forgotten) = &mut *self.lock();
///         if !forgotten.contains(&record.chat) {
///             records.insert(*key, record.clone());
///         }
///         Box::pin(ready(Ok(())))
///     }
///
///     fn forget(&self, chat: ChatKey) -> StoreFuture<'_, ()> {
///         let (records, forgotten) = &mut *self.lock();
///         forgotten.insert(chat);
///         records.retain(|_, record| record.chat != chat);
///         Box::pin(ready(Ok(())))
///     }
/// }
///
/// let layer = SessionLayer::new(MapStore::default());
/// # let _ = layer;
/// ```
///
/// # Cancel safety
///
/// Every future may be dropped at any time. [`release`](Self::release) and
/// [`record_all`](Self::record_all) are given to a task of their own where the caller goes away,
/// if a Tokio runtime is there.
pub trait SessionStore: Send + Sync + 'static {
    /// What is recorded for the history `key`. What is found counts as used.
    fn find<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Record>>;

    /// Records where the history `key` leads, over what was there. Nothing is recorded where the
    /// chat that it leads to was forgotten.
    fn record<'a>(&'a self, key: &'a Key, record: &'a Record) -> StoreFuture<'a, ()>;

    /// Forgets every history that leads into `chat`. Not even a record that is being made at the
    /// same time may bring the chat back later.
    fn forget(&self, chat: ChatKey) -> StoreFuture<'_, ()>;

    /// The first of `keys` that is known, and its place among them. The caller puts the longest
    /// history first, and there may be a few thousand.
    ///
    /// By default each is asked for, one after the other, until one is known.
    fn find_first<'a>(&'a self, keys: &'a [Key]) -> StoreFuture<'a, Option<Found>> {
        Box::pin(async move {
            for (index, key) in keys.iter().enumerate() {
                if let Some(record) = self.find(key).await? {
                    return Ok(Some(Found { index, record }));
                }
            }
            Ok(None)
        })
    }

    /// Records each history as [`record`](Self::record) does, and then gives back the lease of the
    /// chat that they lead to, if one is given. Where it fails, the caller gives the lease back.
    ///
    /// By default one after the other, and nothing more after one that failed.
    fn record_all<'a>(
        &'a self,
        records: &'a [(Key, Record)],
        lease: Option<(ChatKey, Owner)>,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            for (key, record) in records {
                self.record(key, record).await?;
            }
            match lease {
                Some((chat, owner)) => self.release(chat, owner).await,
                None => Ok(()),
            }
        })
    }

    /// Takes the lease of `chat`, unless another owner has it.
    ///
    /// A store that outlives the process grants it for a short time, [`Grant::For`], which the
    /// turn renews for as long as it lasts: a process that dies then locks the chat no longer than
    /// that. One that ends with the process may grant it [until it is given
    /// back](Grant::UntilReleased).
    ///
    /// By default everybody gets it.
    fn acquire(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, Grant> {
        let _ = (chat, owner);
        Box::pin(ready(Ok(Grant::UntilReleased)))
    }

    /// Makes the lease of `chat` last for its whole time again, if `owner` still has it; otherwise
    /// it is [refused](Grant::Refused), also where nobody has it. A call that arrives late thus
    /// never takes a lease that was given back.
    ///
    /// It is called only for what was granted [for a time](Grant::For): after each third of it, and
    /// after a fifteenth where the call before failed.
    fn renew(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, Grant> {
        let _ = (chat, owner);
        Box::pin(ready(Ok(Grant::UntilReleased)))
    }

    /// Gives the lease back, if `owner` still has it.
    ///
    /// It must be tried even where the store spares a server that failed: a lease that is not
    /// given back keeps clients waiting until it ends by itself.
    fn release(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, ()> {
        let _ = (chat, owner);
        Box::pin(ready(Ok(())))
    }

    /// Forgets what is recorded under `key` alone; says whether there was anything. It is for a
    /// client that has an answer forgotten which it knows by an id.
    ///
    /// # Errors
    ///
    /// [`StoreError::is_not_offered`] by default.
    fn forget_key<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, bool> {
        let _ = key;
        Box::pin(ready(Err(StoreError::not_offered())))
    }

    /// The records of one tenant that are not forgotten, each chat at least once; in no order.
    ///
    /// # Errors
    ///
    /// [`StoreError::is_not_offered`] by default.
    fn records(&self, tenant: TenantTag) -> StoreFuture<'_, Vec<Record>> {
        let _ = tenant;
        Box::pin(ready(Err(StoreError::not_offered())))
    }

    /// Forgets everything of one tenant that is there now.
    ///
    /// # Errors
    ///
    /// [`StoreError::is_not_offered`] by default.
    fn forget_tenant(&self, tenant: TenantTag) -> StoreFuture<'_, ()> {
        let _ = tenant;
        Box::pin(ready(Err(StoreError::not_offered())))
    }
}

/// What [`SessionStore::find_first`] found.
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

/// What a [`SessionStore`] says to an owner that wants a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grant {
    /// The owner has the lease until it gives it back.
    UntilReleased,
    /// The owner has the lease for this long, and again for this long from each time that it
    /// [renews](SessionStore::renew) it.
    For(Duration),
    /// The owner does not have the lease.
    Refused,
}

/// Where a history leads: the place in an upstream chat to go on from.
///
/// More is added to it as upstreams say more: make one with [`new`](Self::new) and set what is
/// known beside.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The chat, for leases and for forgetting.
    pub chat: ChatKey,
    /// The place: the chat, the id of the last answer, the account that both belong to.
    pub conversation: Conversation,
    /// A digest of the tools that the chat was told of by then, where that is known.
    pub told: Option<[u8; 32]>,
    /// What is known of the history, where its client goes on from it by the answer's id. The
    /// record is then kept under [`Key::of_answer`].
    pub past: Option<Box<Past>>,
}

impl Record {
    /// The version of the records that this crate writes, and the newest that it reads. It changes
    /// only where an older reader would be wrong about a record; a field that an older one may do
    /// without is added without it.
    pub(super) const VERSION: u8 = 1;

    /// The record of a place in a chat of `tenant`.
    #[must_use]
    pub fn new(tenant: &Tenant, conversation: Conversation) -> Self {
        let chat = ChatKey::new(tenant, &conversation.chat_id);
        Self { chat, conversation, told: None, past: None }
    }

    /// The record as bytes that [`decode`](Self::decode) reads, for stores that keep bytes.
    ///
    /// The first 16 are those of [`chat`](Self::chat) in every version, so that a store can find
    /// out what was forgotten without reading more. The rest is for `decode` alone, here or in
    /// another version of this crate.
    ///
    /// `None` where an id is longer than 64 KiB, which no upstream makes.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        // The chat's key, the version, fields (tag, length, value) by ascending tags, the end.
        let Conversation { chat_id, parent_id, account } = &self.conversation;
        let past = self.past.as_deref();
        let calls = past.and_then(Past::calls_json);
        let digest = |digest: &'_ [u8; 32]| digest.to_vec();
        let [history, instructions] = [|past: &Past| past.history, |past: &Past| past.instructions]
            .map(|of| past.and_then(of).as_ref().map(digest));
        let fields = [
            (tag::CHAT_ID, Some(chat_id.as_bytes())),
            (tag::PARENT_ID, parent_id.as_ref().map(|id| id.as_bytes())),
            (tag::ACCOUNT, account.as_ref().map(|account| account.as_str().as_bytes())),
            (tag::TOLD, self.told.as_ref().map(|told| &told[..])),
            (tag::MODEL, past.map(|past| past.model.as_bytes())),
            (tag::HISTORY, history.as_deref()),
            (tag::INSTRUCTIONS, instructions.as_deref()),
            (tag::CALLS, calls.as_ref().map(|calls| calls.as_bytes())),
            (tag::SCOPE, past.and_then(|past| past.scope.as_ref()).map(|scope| scope.as_bytes())),
        ];
        let values = fields.iter().filter_map(|(_, value)| *value);
        let length = values.map(|value| 3 + value.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(16 + 1 + length + 1);
        bytes.extend_from_slice(self.chat.as_bytes());
        bytes.push(Self::VERSION);
        for (tag, value) in fields {
            if let Some(value) = value {
                bytes.push(tag);
                bytes.extend_from_slice(&u16::try_from(value.len()).ok()?.to_le_bytes());
                bytes.extend_from_slice(value);
            }
        }
        bytes.push(tag::END);
        Some(bytes)
    }

    /// The record that `bytes` hold; `None` where they are not what [`encode`](Self::encode)
    /// makes, or what it makes in a version that is too new to be understood. Such a record is
    /// unknown, which is no error.
    ///
    /// What a newer version added to a record of this one is passed over.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        fn text(bytes: &[u8]) -> Option<Text> {
            std::str::from_utf8(bytes).ok().map(Text::from)
        }

        let (chat, rest) = bytes.split_first_chunk::<16>()?;
        let (version, mut rest) = rest.split_first()?;
        if *version != Self::VERSION {
            return None;
        }
        let [mut chat_id, mut parent_id, mut account, mut model] = [const { None }; 4];
        let [mut told, mut history, mut instructions] = [None; 3];
        let (mut calls, mut scope) = (Vec::new(), None);
        let mut last = tag::END;
        loop {
            let (&tag, after) = rest.split_first()?;
            if tag == tag::END {
                let account = account.map(AccountName::from);
                let conversation = Conversation { chat_id: chat_id?, parent_id, account };
                let chat = ChatKey::from_bytes(*chat);
                let past = model
                    .map(|model| Box::new(Past { model, history, instructions, scope, calls }));
                let record = Self { chat, conversation, told, past };
                return after.is_empty().then_some(record);
            }
            if tag <= last {
                return None;
            }
            last = tag;
            let (length, after) = after.split_first_chunk::<2>()?;
            let (value, after) = after.split_at_checked(u16::from_le_bytes(*length).into())?;
            rest = after;
            match tag {
                tag::CHAT_ID => chat_id = Some(text(value)?),
                tag::PARENT_ID => parent_id = Some(text(value)?),
                tag::ACCOUNT => account = Some(text(value)?),
                tag::TOLD => told = Some(value.try_into().ok()?),
                tag::MODEL => model = Some(text(value)?),
                tag::HISTORY => history = Some(value.try_into().ok()?),
                tag::INSTRUCTIONS => instructions = Some(value.try_into().ok()?),
                tag::CALLS => calls = Past::calls_from_json(value)?,
                tag::SCOPE => scope = Some(text(value)?),
                // A newer version's.
                _ => {}
            }
        }
    }
}

/// The marks of the fields of a [`Record`] as bytes. One is never given another meaning.
mod tag {
    pub(super) const END: u8 = 0;
    pub(super) const CHAT_ID: u8 = 1;
    pub(super) const PARENT_ID: u8 = 2;
    pub(super) const ACCOUNT: u8 = 3;
    // 4 was an upstream's own id of the answer.
    pub(super) const TOLD: u8 = 5;
    pub(super) const MODEL: u8 = 6;
    pub(super) const HISTORY: u8 = 7;
    pub(super) const INSTRUCTIONS: u8 = 8;
    pub(super) const CALLS: u8 = 9;
    pub(super) const SCOPE: u8 = 10;
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
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    NotOffered,
    Failed(BoxError),
}

impl StoreError {
    /// An error with this cause. It is traced, so it must not hold anything secret.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self { kind: Kind::Failed(source.into()) }
    }

    /// The store does not do this at all.
    #[must_use]
    pub const fn not_offered() -> Self {
        Self { kind: Kind::NotOffered }
    }

    /// Whether the store does not do this at all, so that another try is no use.
    #[must_use]
    pub const fn is_not_offered(&self) -> bool {
        matches!(self.kind, Kind::NotOffered)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::NotOffered => "the session store does not offer this",
            Kind::Failed(_) => "the session store could not answer",
        })
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.kind {
            Kind::NotOffered => None,
            Kind::Failed(source) => Some(&**source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(parent: Option<&str>, account: Option<&str>) -> Record {
        let mut conversation = Conversation::new("33333333-aaaa");
        conversation.parent_id = parent.map(Text::from);
        conversation.account = account.map(AccountName::from);
        Record::new(&TENANT, conversation)
    }

    const TENANT: Tenant = Tenant::from_digest([7; 32]);

    /// Records with every mixture of fields.
    fn mixtures() -> Vec<Record> {
        let mut records = Vec::new();
        for (parent, account) in
            [(None, None), (Some(""), None), (None, Some("a")), (Some("é"), Some("b@example.com"))]
        {
            for told in [None, Some([7; 32])] {
                for past in pasts() {
                    let mut record = record(parent, account);
                    record.told = told;
                    record.past = past.map(Box::new);
                    records.push(record);
                }
            }
        }
        records
    }

    fn pasts() -> [Option<Past>; 3] {
        let calls = vec![("call_1".into(), "read".into()), ("\"é".into(), "x".into())];
        let whole = Past {
            model: "m".into(),
            history: Some([1; 32]),
            instructions: Some([2; 32]),
            scope: Some("web".into()),
            calls,
        };
        [None, Some(Past { model: "".into(), ..Past::default() }), Some(whole)]
    }

    /// Without them a result has no name, which is less than to lose the answer.
    #[test]
    fn absurd_calls_are_left_out() {
        let long = Text::from("x".repeat(70_000));
        let past = Past { model: "m".into(), calls: vec![(long, "f".into())], ..Past::default() };
        let mut record = record(Some("p"), None);
        record.past = Some(Box::new(past));
        let read = Record::decode(&record.encode().expect("short fields")).expect("a record");
        let past = read.past.expect("the model is there");
        assert_eq!((past.model.as_str(), past.calls.len()), ("m", 0));
    }

    #[test]
    fn records_go_there_and_back() {
        for record in mixtures() {
            let bytes = record.encode().expect("short ids");
            assert_eq!(bytes[..16], *record.chat.as_bytes());
            assert_eq!(Record::decode(&bytes).as_ref(), Some(&record));
            for cut in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..cut]), None, "cut at {cut}");
            }
            assert_eq!(Record::decode(&[&*bytes, b"x"].concat()), None);
            assert_eq!(Record::decode(&[&*bytes, &bytes].concat()), None);
        }
    }

    /// The very bytes, for those in a Redis outlive the program that wrote them.
    #[test]
    fn version_1_is_read_as_it_was_written() {
        let chat = *ChatKey::new(&TENANT, "c").as_bytes();
        let bytes = [&chat[..], b"\x01", b"\x01\x01\0c", b"\x02\x02\0p1", b"\x03\x01\0a", b"\0"];
        let place = Conversation::new("c").with_parent("p1").with_account("a");
        let record = Record::new(&TENANT, place);
        assert_eq!(Record::decode(&bytes.concat()), Some(record.clone()));
        assert_eq!(record.encode(), Some(bytes.concat()));
    }

    #[test]
    fn fields_that_came_later_are_passed_over() {
        for record in mixtures() {
            let bytes = record.encode().expect("short ids");
            let (end, known) = bytes.split_last().expect("not empty");
            let later = [known, b"\x60\x03\0new", b"\xff\0\0", &[*end]].concat();
            assert_eq!(Record::decode(&later).as_ref(), Some(&record));
            // The first 16 bytes, which stores read themselves, are there whatever comes.
            assert_eq!(later[..16], *record.chat.as_bytes());
            for cut in 0..later.len() {
                assert_eq!(Record::decode(&later[..cut]), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_newer_version_and_garbage_are_unknown() {
        let record = record(Some("p"), Some("a"));
        let bytes = record.encode().expect("short ids");
        for version in (0..=u8::MAX).filter(|version| *version != Record::VERSION) {
            let mut other = bytes.clone();
            other[16] = version;
            assert_eq!(Record::decode(&other), None, "version {version}");
        }
        let head = [&record.chat.as_bytes()[..], &[Record::VERSION]].concat();
        let garbage: [&[u8]; 8] = [
            // No chat, a chat twice, fields out of order, no UTF-8, a digest that is too short,
            // a length beyond the end, an end in the middle, and no end.
            b"\0",
            b"\x01\x01\0c\x01\x01\0c\0",
            b"\x02\x01\0p\x01\x01\0c\0",
            b"\x01\x01\0\xff\0",
            b"\x01\x01\0c\x05\x01\0x\0",
            b"\x01\xff\xffc\0",
            b"\x01\x01\0c\0\x02\x01\0p\0",
            b"\x01\x01\0c",
        ];
        for rest in garbage {
            assert_eq!(Record::decode(&[&head, rest].concat()), None, "{rest:?}");
        }
        assert_eq!(Record::decode(b"nonsense"), None);
        assert_eq!(Record::decode(&[0xff; 64]), None);
    }

    #[test]
    fn an_absurd_id_is_not_recorded() {
        let absurd = Conversation::new("x".repeat(1 << 16));
        assert_eq!(Record::new(&TENANT, absurd).encode(), None);
        let longest = Conversation::new("x".repeat((1 << 16) - 1));
        let record = Record::new(&TENANT, longest);
        let bytes = record.encode().expect("as long as may be");
        assert_eq!(Record::decode(&bytes), Some(record));
    }

    #[test]
    fn an_error_says_whether_another_try_is_of_use() {
        let error = StoreError::not_offered();
        assert!(error.is_not_offered() && error.source().is_none());
        let error = StoreError::new("away");
        assert!(!error.is_not_offered());
        assert_eq!(error.source().expect("a cause").to_string(), "away");
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

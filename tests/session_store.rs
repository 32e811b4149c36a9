//! What a store of three methods does by the defaults of the others.

use std::{
    collections::{HashMap, HashSet},
    future::ready,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::StreamExt;
use http::{Request, Response};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_qwen::{
    Error,
    chat::{Answer, ChatEvent, ChatRequest, Conversation, FinishReason, Message, Role, Tenant},
    dedup::DedupLayer,
    session::{
        ChatKey, Grant, Key, Owner, Record, SessionLayer, SessionStore, StoreError, StoreFuture,
        TenantTag, forget_answer, forget_chat, forget_tenant, tenant_chats,
    },
};

/// The least that is a store, and a note of what it is asked.
#[derive(Clone, Default)]
struct MapStore(Arc<Mutex<Map>>);

#[derive(Default)]
struct Map {
    records: HashMap<Key, Record>,
    forgotten: HashSet<ChatKey>,
    asked: Vec<Asked>,
    /// What fails.
    broken: Option<Key>,
}

#[derive(Debug, PartialEq)]
enum Asked {
    Find(Key),
    Record(Key),
    Release,
}

impl MapStore {
    fn lock(&self) -> MutexGuard<'_, Map> {
        self.0.lock().expect("nothing panics under the lock")
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().asked)
    }
}

impl Map {
    fn check(&self, key: &Key) -> Result<(), StoreError> {
        match self.broken == Some(*key) {
            true => Err(StoreError::new("broken")),
            false => Ok(()),
        }
    }
}

impl SessionStore for MapStore {
    fn find<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Record>> {
        let mut map = self.lock();
        map.asked.push(Asked::Find(*key));
        Box::pin(ready(map.check(key).map(|()| map.records.get(key).cloned())))
    }

    fn record<'a>(&'a self, key: &'a Key, record: &'a Record) -> StoreFuture<'a, ()> {
        let mut map = self.lock();
        map.asked.push(Asked::Record(*key));
        let result = map.check(key);
        if result.is_ok() && !map.forgotten.contains(&record.chat) {
            map.records.insert(*key, record.clone());
        }
        Box::pin(ready(result))
    }

    fn forget(&self, chat: ChatKey) -> StoreFuture<'_, ()> {
        let mut map = self.lock();
        map.forgotten.insert(chat);
        map.records.retain(|_, record| record.chat != chat);
        Box::pin(ready(Ok(())))
    }
}

const TENANT: Tenant = Tenant::from_digest([9; 32]);

fn key(name: &str) -> Key {
    Key::of_chat(&TENANT, name)
}

fn record(chat: &'static str) -> Record {
    Record::new(&TENANT, Conversation::new(chat).with_parent("a"))
}

/// An upstream that answers `ok`, and what it was sent: the chat, and how many messages.
type Sent = Arc<Mutex<Vec<(Option<String>, usize)>>>;

fn stack(
    store: impl SessionStore,
    sent: &Sent,
) -> impl Service<
    Request<ChatRequest>,
    Response = Response<impl tower_qwen::chat::ChatStream>,
    Error = Error,
> + Clone {
    let sent = Arc::clone(sent);
    let upstream = service_fn(move |request: Request<ChatRequest>| {
        let mut sent = sent.lock().expect("nothing panics under the lock");
        let chat = request.body();
        let place = chat.conversation().map(|place| place.chat_id.to_string());
        sent.push((place.clone(), chat.history.len()));
        let number = sent.len();
        let chat = place.unwrap_or_else(|| format!("c{number}"));
        let events = [
            Ok(ChatEvent::Started(
                Conversation::new(chat).with_parent(format!("a{number}")).into(),
            )),
            Ok(ChatEvent::Text("ok".into())),
            Ok(ChatEvent::Finished(FinishReason::Stop)),
        ];
        ready(Ok::<_, Error>(Response::new(futures_util::stream::iter(events).boxed())))
    });
    SessionLayer::new(store).layer(DedupLayer::new().layer(upstream))
}

fn history(texts: &[&'static str]) -> Request<ChatRequest> {
    let roles = [Role::User, Role::Assistant];
    let messages = texts.iter().zip(roles.iter().cycle());
    let messages = messages.map(|(text, role)| Message::new(*role, *text));
    let mut chat = ChatRequest::new("m", messages);
    chat.tenant = Some(TENANT);
    Request::new(chat)
}

#[tokio::test]
async fn three_methods_are_a_store() {
    let (store, sent) = (MapStore::default(), Sent::default());
    let stack = stack(store.clone(), &sent);
    let ask = async |texts: &[&'static str]| {
        let response = stack.clone().oneshot(history(texts)).await.expect("answered");
        Answer::collect(response.into_body()).await.expect("complete");
        sent.lock().expect("no panic").last().cloned().expect("it was asked")
    };
    let first = Some("c1".to_owned());
    assert_eq!(ask(&["one"]).await, (None, 1));
    assert_eq!(ask(&["one", "ok", "two"]).await, (first.clone(), 1));
    assert_eq!(ask(&["one", "ok", "two", "ok", "three"]).await, (first.clone(), 1));
    // An edit, found behind a longer history that is not known.
    assert_eq!(ask(&["one", "ok", "2", "ok", "3"]).await, (first.clone(), 3));

    // Two turns in one chat at the same time are upstream's business.
    let held = stack.clone().oneshot(history(&["one", "ok", "II"])).await.expect("answered");
    assert_eq!(ask(&["one", "ok", "zwei"]).await, (first.clone(), 1));
    drop(held);

    let tenant = TENANT;
    forget_chat(&store, &tenant, "c1").await.expect("memory");
    assert_eq!(ask(&["one", "ok", "two", "ok", "four"]).await, (None, 5));
}

#[tokio::test]
async fn several_keys_are_asked_for_one_after_the_other() {
    let store = MapStore::default();
    let [a, b, c] = ["a", "b", "c"].map(key);
    store.record_all(&[(b, record("cb")), (c, record("cc"))], None).await.expect("memory");
    assert_eq!(store.asked(), [Asked::Record(b), Asked::Record(c)]);

    let found = store.find_first(&[a, b, c]).await.expect("memory").expect("known");
    assert_eq!((found.index, found.record), (1, record("cb")));
    assert_eq!(store.asked(), [Asked::Find(a), Asked::Find(b)], "none after the first");
    assert_eq!(store.find_first(&[]).await.expect("memory"), None);
    assert_eq!(store.find_first(&[a]).await.expect("memory"), None);

    store.lock().broken = Some(b);
    store.asked();
    store.find_first(&[a, b, c]).await.expect_err("broken");
    assert_eq!(store.asked(), [Asked::Find(a), Asked::Find(b)]);
    store.record_all(&[(b, record("x")), (c, record("x"))], None).await.expect_err("broken");
    assert_eq!(store.asked(), [Asked::Record(b)]);
    assert_eq!(store.find(&c).await.expect("memory"), Some(record("cc")));
}

#[tokio::test]
async fn everybody_gets_a_lease() {
    let store = MapStore::default();
    let chat = ChatKey::new(&TENANT, "c");
    let [one, two] = [Owner::unique(), Owner::unique()];
    for owner in [one, two, one] {
        assert_eq!(store.acquire(chat, owner).await.expect("memory"), Grant::UntilReleased);
        assert_eq!(store.renew(chat, owner).await.expect("memory"), Grant::UntilReleased);
    }
    store.release(chat, one).await.expect("memory");
    store.release(chat, one).await.expect("memory");
}

/// The least, and leases that are noted.
#[derive(Clone, Default)]
struct Leasing(MapStore);

impl SessionStore for Leasing {
    fn find<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Record>> {
        self.0.find(key)
    }

    fn record<'a>(&'a self, key: &'a Key, record: &'a Record) -> StoreFuture<'a, ()> {
        self.0.record(key, record)
    }

    fn forget(&self, chat: ChatKey) -> StoreFuture<'_, ()> {
        self.0.forget(chat)
    }

    fn release(&self, _: ChatKey, _: Owner) -> StoreFuture<'_, ()> {
        self.0.lock().asked.push(Asked::Release);
        Box::pin(ready(Ok(())))
    }
}

#[tokio::test]
async fn a_lease_is_given_back_behind_the_last_record() {
    let store = Leasing::default();
    let lease = Some((record("c").chat, Owner::unique()));
    let [a, b] = ["a", "b"].map(key);
    let records = [(a, record("c")), (b, record("c"))];
    store.record_all(&records, lease).await.expect("memory");
    assert_eq!(store.0.asked(), [Asked::Record(a), Asked::Record(b), Asked::Release]);
    store.record_all(&[], lease).await.expect("memory");
    assert_eq!(store.0.asked(), [Asked::Release]);
    store.record_all(&records, None).await.expect("memory");
    assert_eq!(store.0.asked(), [Asked::Record(a), Asked::Record(b)]);

    // Whoever has the lease gives it back where the answer cannot be recorded, once.
    store.0.lock().broken = Some(a);
    store.record_all(&records, lease).await.expect_err("broken");
    assert_eq!(store.0.asked(), [Asked::Record(a)]);

    let sent = Sent::default();
    let stack = stack(store.clone(), &sent);
    let ask = async |texts: &[&'static str]| {
        let response = stack.clone().oneshot(history(texts)).await.expect("answered");
        Answer::collect(response.into_body()).await.expect("complete");
    };
    ask(&["one"]).await;
    store.0.asked();
    let last = Key::of_chat(&TENANT, "c1");
    for broken in [None, Some(last)] {
        store.0.lock().broken = broken;
        ask(&["one", "ok", "two"]).await;
        let released = store.0.asked().into_iter().filter(|asked| *asked == Asked::Release);
        assert_eq!(released.count(), 1, "{broken:?}");
    }
}

#[tokio::test]
async fn administration_is_not_offered_and_says_so() {
    let store = MapStore::default();
    let tenant = TENANT;
    store.record(&key("a"), &record("c")).await.expect("memory");
    let errors = [
        tenant_chats(&store, &tenant).await.expect_err("no list"),
        forget_tenant(&store, &tenant).await.expect_err("not by tenant"),
        store.records(TenantTag::new(&tenant)).await.expect_err("no list"),
        forget_answer(&store, &tenant, "resp_1").await.expect_err("not by key"),
    ];
    for error in errors {
        assert!(error.is_not_offered(), "{error:?}");
        assert_eq!(error.to_string(), "the session store does not offer this");
    }
    assert!(store.find(&key("a")).await.expect("memory").is_some(), "nothing is lost");
    assert!(!StoreError::new("away").is_not_offered());
}

#[test]
fn keys_are_bytes_that_a_tenant_groups() {
    let [ann, bob] = [[1; 32], [2; 32]].map(Tenant::from_digest);
    let of = |tenant: &Tenant| [Key::of_chat(tenant, "c"), Key::of_answer(tenant, "c")];
    let all: HashSet<[u8; 40]> = [ann, bob].iter().flat_map(of).map(|key| key.to_bytes()).collect();
    assert_eq!(all.len(), 4);
    for tenant in [ann, bob] {
        for key in of(&tenant) {
            assert_eq!(key.to_bytes()[..8], *TenantTag::new(&tenant).as_bytes());
            assert_eq!(key.tenant(), TenantTag::new(&tenant));
        }
    }
}

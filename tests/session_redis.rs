//! `RedisStore` against a real server, which is killed and started again.
//!
//! Without `redis-server` on the path the tests say so and pass, unless `CI` is `true`.

#![cfg(feature = "redis")]

#[path = "served/redis.rs"]
mod server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::BoxStream};
use http::{Request, Response};
use server::{PATIENCE, Server};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_qwen::{
    Error,
    chat::{
        Answer, ChatEvent, ChatRequest, ChatStreamExt, Conversation, FinishReason, Message, Role,
        Tenant,
    },
    dedup::DedupLayer,
    session::{
        ChatKey, Grant, Key, Owner, Record, RedisStore, SessionLayer, SessionStore, TenantTag,
        internals::KeyChain, tenant_chats,
    },
};

const ANN: Tenant = Tenant::from_digest([1; 32]);
const BOB: Tenant = Tenant::from_digest([2; 32]);

fn key(tenant: Tenant, text: &str) -> Key {
    let chat = ChatRequest::new("m", [Message::new(Role::User, text.to_owned())]);
    let mut chain = KeyChain::new(&tenant, &chat);
    chain.push(&chat.history[0]);
    chain.key()
}

fn record(tenant: Tenant, chat: &str, parent: &str) -> Record {
    let place = Conversation::new(chat.to_owned()).with_parent(parent.to_owned());
    Record::new(&tenant, place.with_account("account"))
}

#[tokio::test]
async fn records_are_found_longest_first_and_forgotten() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let [long, middle, short] = ["long", "middle", "short"].map(|text| key(ANN, text));
    assert_eq!(store.find_first(&[long, middle, short]).await.expect("Redis"), None);

    let [first, second] = [record(ANN, "c1", "a1"), record(ANN, "c2", "a2")];
    store
        .record_all(&[(short, first.clone()), (middle, second.clone())], None)
        .await
        .expect("Redis");
    let found = store.find_first(&[long, middle, short]).await.expect("Redis").expect("known");
    assert_eq!((found.index, found.record), (1, second.clone()));

    // A chat that is forgotten leaves room for a shorter prefix, and does not come back.
    store.forget(second.chat).await.expect("Redis");
    store.record_all(&[(long, second)], None).await.expect("Redis");
    let found = store.find_first(&[long, middle, short]).await.expect("Redis").expect("known");
    assert_eq!((found.index, &found.record), (2, &first));

    store.record_all(&[(key(BOB, "short"), record(BOB, "c3", "a3"))], None).await.expect("Redis");
    let anns = [(long, record(ANN, "c1", "a2")), (middle, record(ANN, "c4", "a4"))];
    store.record_all(&anns, None).await.expect("Redis");
    let place = |chat: &'static str| Conversation::new(chat).with_account("account");
    let chats = tenant_chats(&store, &ANN).await.expect("Redis");
    assert_eq!(chats, [place("c1"), place("c4")], "once each");
    store.forget(anns[1].1.chat).await.expect("Redis");
    assert_eq!(tenant_chats(&store, &ANN).await.expect("Redis"), [place("c1")]);
    store.forget_tenant(TenantTag::new(&ANN)).await.expect("Redis");
    assert_eq!(store.find_first(&[long, middle, short]).await.expect("Redis"), None);
    // One at a time.
    store.record(&long, &first).await.expect("Redis");
    assert_eq!(store.find(&long).await.expect("Redis"), Some(first.clone()));
    assert_eq!(store.find(&middle).await.expect("Redis"), None);
    assert!(store.find_first(&[key(BOB, "short")]).await.expect("Redis").is_some());

    // Another prefix is another store.
    let other = server.builder().timeout(PATIENCE).prefix("other*:").build();
    assert_eq!(other.find_first(&[key(BOB, "short")]).await.expect("Redis"), None);
    other.record_all(&[(short, first)], None).await.expect("Redis");
    other.forget_tenant(TenantTag::new(&ANN)).await.expect("Redis");
    assert_eq!(other.find_first(&[short]).await.expect("Redis"), None);
}

#[tokio::test]
async fn one_key_is_forgotten_alone() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let [one, other] = ["resp_1", "resp_2"].map(|id| Key::of_answer(&ANN, id));
    let place = record(ANN, "c1", "a1");
    store.record_all(&[(one, place.clone()), (other, place.clone())], None).await.expect("Redis");
    assert!(store.forget_key(&one).await.expect("Redis"));
    assert!(!store.forget_key(&one).await.expect("Redis"));
    assert!(!store.forget_key(&Key::of_answer(&BOB, "resp_2")).await.expect("Redis"));
    assert_eq!(store.find(&one).await.expect("Redis"), None);
    assert_eq!(store.find(&other).await.expect("Redis"), Some(place));
}

#[tokio::test]
async fn a_whole_tenant_is_forgotten_however_much_it_is() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let keys: Vec<Key> = (0..3_000).map(|number| key(ANN, &number.to_string())).collect();
    let records: Vec<_> = keys.iter().map(|key| (*key, record(ANN, "c", "a"))).collect();
    store.record_all(&records, None).await.expect("Redis");
    let names: Vec<String> = server.query(redis::cmd("KEYS").arg("*")).await;
    let _: () = server.query(redis::cmd("SET").arg(&names[0]).arg("nonsense")).await;
    assert_eq!(store.records(TenantTag::new(&ANN)).await.expect("Redis").len(), 2_999);
    store.forget_tenant(TenantTag::new(&ANN)).await.expect("Redis");
    assert_eq!(store.find_first(&keys[..1_000]).await.expect("Redis"), None);
    assert_eq!(server.query::<u64>(&redis::cmd("DBSIZE")).await, 0);
}

#[tokio::test]
async fn a_look_up_is_one_round_trip_and_starts_the_hour_again() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let keys: Vec<Key> = (0..500).map(|number| key(ANN, &number.to_string())).collect();
    store.record_all(&[(keys[499], record(ANN, "c", "a"))], None).await.expect("Redis");
    // Loads the script.
    store.find_first(&keys).await.expect("Redis");

    let names: Vec<String> = server.query(redis::cmd("KEYS").arg("*")).await;
    let [name] = &names[..] else { panic!("one record: {names:?}") };
    let _: () = server.query(redis::cmd("PEXPIRE").arg(name).arg(60_000)).await;
    let calls = async || -> u64 {
        let info: String = server.query(redis::cmd("INFO").arg("commandstats")).await;
        info.lines()
            .filter(|line| line.starts_with("cmdstat_eval"))
            .filter_map(|line| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok())
            .sum()
    };
    let before = calls().await;
    store.find_first(&keys).await.expect("Redis").expect("known");
    assert_eq!(calls().await, before + 1);
    let left: u64 = server.query(redis::cmd("PTTL").arg(name)).await;
    assert!(left > 59 * 60_000, "{left} ms");
    assert_eq!(RedisStore::DEFAULT_TTL, Duration::from_secs(3600));
}

#[tokio::test]
async fn what_is_not_ours_or_newer_is_unknown_and_stays() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let [long, middle, short] = ["long", "middle", "short"].map(|text| key(ANN, text));
    let ours = record(ANN, "c", "a");
    let mut newer = ours.encode().expect("short ids");
    newer[16] += 1;
    let mut broken = ours.encode().expect("short ids");
    broken.pop();
    for value in [b"nonsense".to_vec(), b"".to_vec(), newer, broken.clone()] {
        store.record_all(&[(long, ours.clone())], None).await.expect("Redis");
        let names: Vec<String> = server.query(redis::cmd("KEYS").arg("*")).await;
        let name = &names[0];
        let _: () = server.query(redis::cmd("SET").arg(name).arg(&value)).await;
        assert_eq!(store.find(&long).await.expect("no error"), None, "{value:?}");
        if value != broken {
            // The longest history that can be read is found past it, in the same trip.
            store.record(&short, &ours).await.expect("Redis");
            let found = store.find_first(&[long, middle, short]).await.expect("no error");
            assert_eq!(found.map(|found| (found.index, found.record)), Some((2, ours.clone())));
        }
        let left: Vec<u8> = server.query(redis::cmd("GET").arg(name)).await;
        assert_eq!(left, value, "a newer proxy reads it");
        let _: () = server.query(&redis::cmd("FLUSHALL")).await;
    }
}

#[tokio::test]
async fn what_a_newer_version_added_is_passed_over() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let (key, ours) = (key(ANN, "x"), record(ANN, "c", "a"));
    store.record(&key, &ours).await.expect("Redis");
    let names: Vec<String> = server.query(redis::cmd("KEYS").arg("*")).await;
    let mut later = ours.encode().expect("short ids");
    later.pop();
    later.extend_from_slice(b"\xf0\x05\0added\0");
    let _: () = server.query(redis::cmd("SET").arg(&names[0]).arg(&later)).await;
    assert_eq!(store.find(&key).await.expect("Redis"), Some(ours.clone()));
    let all = store.records(TenantTag::new(&ANN)).await.expect("Redis");
    assert_eq!(all, std::slice::from_ref(&ours));
    // It is forgotten like any other.
    store.forget(ours.chat).await.expect("Redis");
    assert_eq!(store.find(&key).await.expect("Redis"), None);
}

/// Some end that no test reaches.
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_lease_has_one_owner_and_a_limit() {
    let Some(server) = Server::start().await else { return };
    let stores = [(); 2].map(|()| server.builder().timeout(PATIENCE).lease(HOUR).build());
    let [store, other] = &stores;
    let chat = ChatKey::new(&ANN, "c");
    let [one, two] = [Owner::unique(), Owner::unique()];
    let taken = async |store: &RedisStore, chat, owner| match store.acquire(chat, owner).await {
        Ok(Grant::For(HOUR)) => true,
        Ok(Grant::Refused) => false,
        other => panic!("{other:?}"),
    };
    assert!(taken(store, chat, one).await);
    assert!(!taken(other, chat, two).await);
    assert!(taken(other, ChatKey::new(&BOB, "c"), two).await);
    // Only the owner gives it back.
    other.release(chat, two).await.expect("Redis");
    assert!(!taken(other, chat, two).await);
    store.release(chat, one).await.expect("Redis");
    assert!(taken(other, chat, two).await);
    // With a record, in one trip; and only one's own.
    let records = [(key(ANN, "x"), record(ANN, "c", "a"))];
    store.record_all(&records, Some((chat, one))).await.expect("Redis");
    assert!(!taken(store, chat, one).await);
    other.record_all(&records, Some((chat, two))).await.expect("Redis");
    let short = server.builder().timeout(PATIENCE).lease(Duration::from_millis(1)).build();
    let taken_briefly = short.acquire(chat, one).await.expect("Redis");
    assert_eq!(taken_briefly, Grant::For(Duration::from_millis(1)));
    let began = Instant::now();
    while !taken(other, chat, two).await {
        assert!(began.elapsed() < Duration::from_secs(10), "the limit does not end it");
    }
}

#[tokio::test]
async fn only_a_lease_that_one_has_is_renewed() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let chat = ChatKey::new(&ANN, "c");
    let [one, two] = [Owner::unique(), Owner::unique()];
    assert_eq!(RedisStore::DEFAULT_LEASE, Duration::from_secs(15));
    let whole = Grant::For(RedisStore::DEFAULT_LEASE);
    assert_eq!(store.renew(chat, one).await.expect("Redis"), Grant::Refused, "nobody has it");
    assert_eq!(store.acquire(chat, one).await.expect("Redis"), whole);
    assert_eq!(store.renew(chat, two).await.expect("Redis"), Grant::Refused);

    let names: Vec<String> = server.query(redis::cmd("KEYS").arg("*")).await;
    let _: () = server.query(redis::cmd("PEXPIRE").arg(&names[0]).arg(3_600_000)).await;
    assert_eq!(store.renew(chat, one).await.expect("Redis"), whole);
    let left: u64 = server.query(redis::cmd("PTTL").arg(&names[0])).await;
    assert!(left <= 15_000, "it does not last for its whole time from now: {left} ms");

    store.release(chat, one).await.expect("Redis");
    assert_eq!(store.renew(chat, one).await.expect("Redis"), Grant::Refused, "it was given back");
    assert_eq!(server.query::<u64>(&redis::cmd("DBSIZE")).await, 0);
}

/// Waits until nobody has the chat of the only lease that there is.
async fn free(server: &Server, within: Duration) {
    let began = Instant::now();
    loop {
        let leases: Vec<String> = server.query(redis::cmd("KEYS").arg("*lease*")).await;
        if leases.is_empty() {
            return;
        }
        assert!(began.elapsed() < within, "still locked after {:?}", began.elapsed());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lease_is_given_back_while_the_server_is_left_alone() {
    let Some(server) = Server::start().await else { return };
    // It does not end by itself.
    let store = server.builder().lease(HOUR).build();
    let chat = ChatKey::new(&ANN, "c");
    let owner = Owner::unique();
    let patient = server.builder().timeout(PATIENCE).lease(HOUR).build();
    assert_eq!(patient.acquire(chat, owner).await.expect("Redis"), Grant::For(HOUR));
    server.signal("-STOP");
    store.find(&key(ANN, "x")).await.expect_err("it says nothing");
    server.signal("-CONT");
    // Within the half second of rest, or the next line finds Redis in use again; either way
    // the call reaches it.
    let _ = store.release(chat, owner).await;
    free(&server, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_redis_that_stalls_locks_a_chat_for_seconds() {
    let Some(server) = Server::start().await else { return };
    let lease = Duration::from_secs(2);
    let parents = Parents::default();
    let mut messages = Vec::new();
    let patient = proxy(SessionLayer::new(server.store()).store_timeout(PATIENCE), &parents);
    turn(&patient, &mut messages, "question").await.expect("answered");
    messages.push(Message::new(Role::User, "and now?"));

    // A turn has the chat when Redis stalls, and ends before it comes back. The machine may be too
    // busy for the time limit of this store, so it may take some turns to get there.
    let hasty = server.builder().lease(lease).build();
    let proxy = proxy(SessionLayer::new(hasty.clone()).store_timeout(PATIENCE), &parents);
    let began = Instant::now();
    let ask = async || {
        assert!(began.elapsed() < Duration::from_secs(60), "Redis is not used");
        let mut chat = ChatRequest::new("m", messages.clone());
        chat.tenant = Some(ANN);
        let request = Request::new(chat);
        let body = proxy.clone().oneshot(request).await.expect("answered").into_body();
        let parents = parents.lock().expect("no panic");
        (body, parents.last().expect("it was asked").is_some())
    };
    let mut body = loop {
        let (body, _) = ask().await;
        let leases: Vec<String> = server.query(redis::cmd("KEYS").arg("*lease*")).await;
        if !leases.is_empty() {
            break body;
        }
    };
    body.next().await.expect("its begin").expect("no error");
    server.signal("-STOP");
    drop(body);
    hasty.find(&key(ANN, "x")).await.expect_err("it says nothing");
    server.signal("-CONT");
    free(&server, lease + Duration::from_secs(10)).await;
    // The next turn goes on in that chat.
    while !ask().await.1 {}

    // A proxy that dies gives nothing back.
    let store = server.builder().timeout(PATIENCE).lease(lease).build();
    let chat = ChatKey::new(&ANN, "c");
    assert_eq!(store.acquire(chat, Owner::unique()).await.expect("Redis"), Grant::For(lease));
    free(&server, lease + Duration::from_secs(10)).await;
}

/// An upstream that answers every question with its own words and a number, so that every history
/// is told apart. `None` as parent where it was replayed.
type Parents = Arc<std::sync::Mutex<Vec<Option<String>>>>;

fn proxy(
    layer: SessionLayer,
    parents: &Parents,
) -> impl Service<
    Request<ChatRequest>,
    Response = Response<
        tower_qwen::session::SessionStream<BoxStream<'static, Result<ChatEvent, Error>>>,
    >,
    Error = Error,
    Future: Send,
> + Clone
+ Send
+ use<> {
    static ANSWERS: AtomicU64 = AtomicU64::new(0);
    let parents = Arc::clone(parents);
    let upstream = service_fn(move |request: Request<ChatRequest>| {
        let chat = request.into_body();
        let number = ANSWERS.fetch_add(1, Ordering::Relaxed);
        let place = chat.conversation().cloned();
        let parent = place.as_ref().and_then(|place| place.parent_id.clone());
        parents.lock().expect("no panic").push(parent.map(|parent| parent.to_string()));
        let chat_id = place.map_or_else(|| format!("chat-{number}").into(), |place| place.chat_id);
        let started = Conversation::new(chat_id).with_parent(format!("answer-{number}"));
        let events = [
            Ok(ChatEvent::Started(started.into())),
            Ok(ChatEvent::Text(format!("answer {number}").into())),
            Ok(ChatEvent::Finished(FinishReason::Stop)),
        ];
        async move { Ok::<_, Error>(Response::new(futures_util::stream::iter(events).boxed())) }
    });
    layer.layer(DedupLayer::new().layer(upstream))
}

async fn turn<S, B>(proxy: &S, messages: &mut Vec<Message>, question: &str) -> Result<(), Error>
where
    S: Service<Request<ChatRequest>, Response = Response<B>, Error = Error> + Clone,
    B: tower_qwen::chat::ChatStream,
{
    messages.push(Message::new(Role::User, question.to_owned()));
    let mut chat = ChatRequest::new("m", messages.clone());
    chat.tenant = Some(ANN);
    let response = proxy.clone().oneshot(Request::new(chat)).await?;
    let answer = Answer::collect(response.into_body().checked()).await?;
    messages.push(Message::new(Role::Assistant, answer.text));
    Ok(())
}

#[tokio::test]
async fn two_proxies_alternate_without_a_replay() {
    let Some(server) = Server::start().await else { return };
    let parents = Parents::default();
    let proxies = [(); 2].map(|()| {
        let layer = SessionLayer::new(server.store()).store_timeout(PATIENCE);
        proxy(layer, &parents)
    });
    let mut messages = Vec::new();
    for number in 0..50 {
        turn(&proxies[number % 2], &mut messages, &format!("question {number}"))
            .await
            .expect("answered");
    }
    let parents = parents.lock().expect("no panic");
    assert_eq!(parents.iter().filter(|parent| parent.is_none()).count(), 1, "the first turn only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_started_again_fails_no_request() {
    let Some(mut server) = Server::start().await else { return };
    let parents = Parents::default();
    let proxy = proxy(SessionLayer::new(server.hasty_store()), &parents);
    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let (proxy, over, answered) = (proxy.clone(), over.clone(), answered.clone());
            tokio::spawn(async move {
                let (mut messages, mut longest) = (Vec::new(), Duration::ZERO);
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    if number % 10 == 0 {
                        messages.clear();
                    }
                    let began = Instant::now();
                    turn(&proxy, &mut messages, &format!("client {client}, question {number}"))
                        .await
                        .expect("no request fails");
                    longest = longest.max(began.elapsed());
                    answered.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
                longest
            })
        })
        .collect();

    let more = async |count: usize| {
        let goal = answered.load(Ordering::Relaxed) + count;
        let began = Instant::now();
        while answered.load(Ordering::Relaxed) < goal {
            assert!(began.elapsed() < Duration::from_secs(60), "requests hang");
            tokio::task::yield_now().await;
        }
    };
    more(200).await;
    for _ in 0..2 {
        server.kill();
        more(200).await;
        server.run().await;
        // It is used again before long.
        let began = Instant::now();
        loop {
            more(50).await;
            let size: u64 = server.query(&redis::cmd("DBSIZE")).await;
            if size > 0 {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "it is not used again");
        }
        more(200).await;
    }
    // One that accepts and says nothing is as good as away.
    server.signal("-STOP");
    more(200).await;
    server.signal("-CONT");
    more(200).await;
    over.store(true, Ordering::Relaxed);
    for client in clients {
        let longest = client.await.expect("no request failed");
        // Three operations a turn, a quarter of a second each, and a busy machine.
        assert!(longest < Duration::from_secs(15), "a request took {longest:?}");
    }
}

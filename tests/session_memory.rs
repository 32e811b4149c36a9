//! What the memory store takes and what it lets go.

use std::time::{Duration, Instant};

use tower_qwen::{
    chat::{ChatEvent, ChatRequest, Conversation, Message, Role, Tenant},
    session::{
        ChatKey, Grant, Key, MemoryStore, Owner, Record, SessionStore, TenantTag,
        internals::KeyChain, tenant_chats,
    },
};

const HOUR: Duration = Duration::from_secs(60 * 60);

const TENANT: Tenant = Tenant::from_digest([9; 32]);

fn key(number: usize) -> Key {
    let chat = ChatRequest::new("m", vec![]);
    let mut chain = KeyChain::new(&TENANT, &chat);
    chain.push(&Message::new(Role::User, number.to_string()));
    chain.key()
}

/// A record with ids as long as those of chat.qwen.ai and a short name of an account.
fn record(number: usize) -> Record {
    let id = |first: usize| format!("{first:08x}-aaaa-4bbb-8ccc-{number:012x}");
    let place = Conversation::new(id(1)).with_parent(id(2)).with_account("account-1");
    Record::new(&TENANT, place)
}

const IDS: usize = 36 + 36 + 9;

#[track_caller]
fn now<T>(future: tower_qwen::session::StoreFuture<'_, T>) -> T {
    tokio_test::block_on(future).expect("memory does not fail")
}

#[test]
fn a_record_takes_512_bytes_and_its_ids() {
    let store = MemoryStore::new(1_000_000, HOUR);
    for number in 0..1_000 {
        now(store.record_all(&[(key(number), record(number))], None));
    }
    // Over several sizes: tables grow in steps.
    let mut filled = 1_000;
    for count in [5_000, 20_000] {
        let taken = allocation_counter::measure(|| {
            for number in filled..count {
                now(store.record_all(&[(key(number), record(number))], None));
            }
        });
        let each = taken.bytes_current / i64::try_from(count - filled).expect("small");
        println!("{each} bytes a record at {count}, of them {IDS} ids");
        assert!(each > i64::try_from(IDS).expect("small"), "not measured: {each}");
        assert!(each <= i64::try_from(512 + IDS).expect("small"), "{each} bytes a record");
        filled = count;
    }
    assert!(now(store.find_first(&[key(0)])).is_some());
}

#[test]
fn a_record_keeps_no_buffer_alive() {
    // Ids as an adapter gives them: slices of what came from the network.
    let store = MemoryStore::new(10_000, HOUR);
    let taken = allocation_counter::measure(|| {
        for number in 0..100 {
            let buffer = tower_qwen::Text::from(format!("{number:04}{}", "x".repeat(64 * 1024)));
            let place = Conversation::new(buffer.slice(..4)).with_parent(buffer.slice(..8));
            now(store.record_all(&[(key(number), Record::new(&TENANT, place))], None));
        }
    });
    assert!(taken.bytes_current < 1024 * 1024, "{taken:?}");
}

#[test]
fn beyond_the_capacity_the_one_not_used_for_the_longest_time_goes() {
    let store = MemoryStore::new(100, HOUR);
    for number in 0..1_000 {
        now(store.record_all(&[(key(number), record(number))], None));
        // The first one is used again and again.
        assert!(now(store.find_first(&[key(0)])).is_some(), "lost at {number}");
    }
    let known =
        (0..1_000).filter(|number| now(store.find_first(&[key(*number)])).is_some()).count();
    assert!((1..=200).contains(&known), "{known} of 100 are known");
    assert!(now(store.find_first(&[key(999)])).is_some(), "the newest is not turned away");
    assert!(now(store.find_first(&[key(1)])).is_none());
}

#[test]
fn what_is_not_used_goes_by_itself() {
    let store = MemoryStore::new(100, Duration::from_millis(1));
    now(store.record_all(&[(key(0), record(0))], None));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(5) {
        std::hint::spin_loop();
    }
    assert!(now(store.find_first(&[key(0)])).is_none());
    assert!(format!("{:?}", MemoryStore::default()).contains("3600s"), "an hour by default");
}

#[test]
fn the_first_key_that_is_known_wins() {
    let store = MemoryStore::default();
    now(store.record_all(&[(key(1), record(1)), (key(2), record(2))], None));
    let found = now(store.find_first(&[key(0), key(2), key(1)])).expect("known");
    assert_eq!((found.index, found.record), (1, record(2)));
    assert_eq!(now(store.find_first(&[])), None);
}

#[test]
fn what_is_forgotten_stays_forgotten() {
    let store = MemoryStore::default();
    now(store.record_all(&[(key(1), record(1)), (key(2), record(2))], None));
    now(store.forget(record(2).chat));
    assert_eq!(now(store.find_first(&[key(2), key(1)])).map(|found| found.index), Some(1));
    // Nor does a late record displace what is known.
    now(store.record_all(&[(key(2), record(2)), (key(1), record(2))], None));
    assert_eq!(now(store.find_first(&[key(2)])), None);
    assert_eq!(now(store.find_first(&[key(1)])).map(|found| found.record), Some(record(1)));
    let tenant = Tenant::from_digest([1; 32]);
    let chats = |tenant| tokio_test::block_on(tenant_chats(&store, tenant)).expect("memory");
    assert_eq!(chats(&tenant), []);
    let mut place = record(1).conversation;
    place.parent_id = None;
    assert_eq!(chats(&TENANT), [place]);
    now(store.forget_tenant(TenantTag::new(&tenant)));
    assert!(now(store.find_first(&[key(1)])).is_some(), "another tenant's");
    now(store.forget_tenant(TenantTag::new(&TENANT)));
    assert_eq!(now(store.find_first(&[key(1)])), None);
}

#[test]
fn one_key_is_looked_up_and_recorded_alone_too() {
    let store = MemoryStore::default();
    now(store.record(&key(1), &record(1)));
    assert_eq!(now(store.find(&key(1))), Some(record(1)));
    assert_eq!(now(store.find(&key(2))), None);
    now(store.forget(record(1).chat));
    now(store.record(&key(2), &record(1)));
    assert_eq!([1, 2].map(|number| now(store.find(&key(number)))), [None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_has_one_owner_until_it_gives_it_back() {
    let store = MemoryStore::default();
    let chat = ChatKey::new(&TENANT, "c");
    let [one, two] = [Owner::unique(), Owner::unique()];
    let taken = async |owner| store.acquire(chat, owner).await.expect("memory");
    assert_eq!(taken(one).await, Grant::UntilReleased);
    assert_eq!(taken(one).await, Grant::UntilReleased, "it has it already");
    assert_eq!(taken(two).await, Grant::Refused);
    store.release(chat, two).await.expect("memory");
    assert_eq!(taken(two).await, Grant::Refused, "only the owner gives it back");
    // No turn outlives the process, so no lease needs an end of its own.
    tokio::time::advance(Duration::from_secs(24 * 60 * 60)).await;
    assert_eq!(taken(two).await, Grant::Refused);
    assert_eq!(store.renew(chat, one).await.expect("memory"), Grant::UntilReleased);
    assert_eq!(store.renew(chat, two).await.expect("memory"), Grant::Refused);
    store.release(chat, one).await.expect("memory");
    assert_eq!(store.renew(chat, one).await.expect("memory"), Grant::Refused, "it was given back");
    assert_eq!(taken(two).await, Grant::UntilReleased);
    store.release(chat, one).await.expect("memory");
    assert_eq!(taken(one).await, Grant::Refused, "too late");
    store.record_all(&[], Some((chat, two))).await.expect("memory");
    assert_eq!(taken(one).await, Grant::UntilReleased);
}

#[test]
fn an_answer_is_hashed_and_not_collected() {
    let mut answer = KeyChain::new(&TENANT, &ChatRequest::new("m", vec![])).answer();
    let text = ChatEvent::Text("some words of an answer ".into());
    let reasoning = ChatEvent::Reasoning("hm".into());
    let cost = allocation_counter::measure(|| {
        for _ in 0..10_000 {
            answer.push(&text);
            answer.push(&reasoning);
        }
    });
    assert_eq!(cost.count_total, 0, "an event allocates nothing");

    // Arguments are buffered up to the limit and no further.
    answer.push(&ChatEvent::ToolCall { index: 0, id: "x".into(), name: "f".into() });
    let piece = ChatEvent::ToolArguments { index: 0, json: "x".repeat(1024).into() };
    let cost = allocation_counter::measure(|| {
        for _ in 0..10_000 {
            answer.push(&piece);
        }
    });
    let limit = u64::try_from(tower_qwen::session::internals::ARGUMENTS_LIMIT).expect("small");
    assert!(cost.bytes_max <= 2 * limit, "{cost:?}");
    assert!(cost.bytes_current <= 0, "given back when it is too long: {cost:?}");
}

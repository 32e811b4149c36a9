//! Turns that renew the lease of their chat, over a store whose leases end by themselves.

use std::{
    collections::{HashMap, VecDeque},
    future::{Future as _, pending, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use http::{Request, Response};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep},
};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_qwen::{
    Error,
    chat::{Answer, ChatEvent, ChatRequest, Conversation, FinishReason, Message, Role, Tenant},
    session::{
        ChatKey, Contention, Found, Grant, Key, MemoryStore, Owner, Record, SessionLayer,
        SessionStore, SessionStream, StoreError, StoreFuture,
    },
};

const TERM: Duration = Duration::from_secs(15);
const SECOND: Duration = Duration::from_secs(1);

/// Records in memory, and leases as somebody orders them.
#[derive(Clone)]
struct Leasing {
    memory: MemoryStore,
    state: Arc<Mutex<State>>,
    renewals: Arc<AtomicUsize>,
}

struct State {
    leases: HashMap<ChatKey, (Owner, Instant)>,
    term: Duration,
    renewing: Renewing,
}

#[derive(Clone, Copy)]
enum Renewing {
    Works,
    Fails,
    Hangs,
}

impl Leasing {
    fn new(term: Duration) -> Self {
        let state = State { leases: HashMap::new(), term, renewing: Renewing::Works };
        Self {
            memory: MemoryStore::default(),
            state: Arc::new(Mutex::new(state)),
            renewals: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under the lock")
    }

    fn set(&self, renewing: Renewing) {
        self.state().renewing = renewing;
    }

    fn renewals(&self) -> usize {
        self.renewals.load(Ordering::Relaxed)
    }

    /// Whether somebody has a chat now.
    fn held(&self) -> bool {
        self.state().leases.values().any(|(_, until)| *until > Instant::now())
    }
}

impl State {
    fn holder(&self, chat: ChatKey) -> Option<Owner> {
        let (owner, until) = self.leases.get(&chat)?;
        (*until > Instant::now()).then_some(*owner)
    }

    fn grant(&mut self, chat: ChatKey, owner: Owner) -> Grant {
        self.leases.insert(chat, (owner, Instant::now() + self.term));
        Grant::For(self.term)
    }
}

impl SessionStore for Leasing {
    fn find<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Record>> {
        self.memory.find(key)
    }

    fn record<'a>(&'a self, key: &'a Key, record: &'a Record) -> StoreFuture<'a, ()> {
        self.memory.record(key, record)
    }

    fn forget(&self, chat: ChatKey) -> StoreFuture<'_, ()> {
        self.memory.forget(chat)
    }

    fn find_first<'a>(&'a self, keys: &'a [Key]) -> StoreFuture<'a, Option<Found>> {
        self.memory.find_first(keys)
    }

    fn acquire(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, Grant> {
        Box::pin(async move {
            let mut state = self.state();
            match state.holder(chat) {
                Some(other) if other != owner => Ok(Grant::Refused),
                _ => Ok(state.grant(chat, owner)),
            }
        })
    }

    fn renew(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, Grant> {
        self.renewals.fetch_add(1, Ordering::Relaxed);
        let renewing = self.state().renewing;
        Box::pin(async move {
            match renewing {
                Renewing::Works => {}
                Renewing::Fails => return Err(StoreError::new("as ordered")),
                Renewing::Hangs => pending().await,
            }
            let mut state = self.state();
            match state.holder(chat) {
                Some(holder) if holder == owner => Ok(state.grant(chat, owner)),
                _ => Ok(Grant::Refused),
            }
        })
    }

    fn release(&self, chat: ChatKey, owner: Owner) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let mut state = self.state();
            if state.holder(chat) == Some(owner) {
                state.leases.remove(&chat);
            }
            Ok(())
        })
    }
}

type Body = SessionStream<BoxStream<'static, Result<ChatEvent, Error>>>;
type Stack = BoxCloneSyncService<Request<ChatRequest>, Response<Body>, Error>;

/// An upstream that answers `ok`, when it is told to where it was ordered to wait.
#[derive(Clone, Default)]
struct Upstream(Arc<Mutex<Orders>>);

#[derive(Default)]
struct Orders {
    /// What the next answers wait for: before they begin, and before they end.
    waits: VecDeque<[Option<oneshot::Receiver<()>>; 2]>,
    /// Which chats were asked.
    asked: Vec<Option<String>>,
}

impl Upstream {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.0.lock().expect("nothing panics under the lock")
    }

    fn hold(&self, at: usize) -> oneshot::Sender<()> {
        let (go, wait) = oneshot::channel();
        let mut waits = [None, None];
        waits[at] = Some(wait);
        self.orders().waits.push_back(waits);
        go
    }

    fn hold_begin(&self) -> oneshot::Sender<()> {
        self.hold(0)
    }

    fn hold_end(&self) -> oneshot::Sender<()> {
        self.hold(1)
    }

    fn last(&self) -> Option<String> {
        self.orders().asked.last().cloned().expect("it was asked")
    }
}

fn stack(store: impl SessionStore) -> (Stack, Upstream) {
    let upstream = Upstream::default();
    let inner = upstream.clone();
    let service = service_fn(move |request: Request<ChatRequest>| {
        let mut orders = inner.orders();
        let place = request.body().conversation();
        let chat = place.map(|place| place.chat_id.to_string());
        let number = orders.asked.len() + 1;
        orders.asked.push(chat.clone());
        let [begin, end] = orders.waits.pop_front().unwrap_or_default();
        let chat = chat.unwrap_or_else(|| format!("c{number}"));
        let started = Conversation::new(chat).with_parent(format!("a{number}")).into();
        async move {
            if let Some(begin) = begin {
                let _ = begin.await;
            }
            let head = [Ok(ChatEvent::Started(started)), Ok(ChatEvent::Text("ok".into()))];
            let rest = futures_util::stream::once(async move {
                if let Some(end) = end {
                    let _ = end.await;
                }
                Ok(ChatEvent::Finished(FinishReason::Stop))
            });
            let body = futures_util::stream::iter(head).chain(rest).boxed();
            Ok::<_, Error>(Response::new(body))
        }
    });
    let layer = SessionLayer::new(store).contention(Contention::Replay);
    (BoxCloneSyncService::new(layer.layer(service)), upstream)
}

const TENANT: Tenant = Tenant::from_digest([9; 32]);

fn history(texts: &[&'static str]) -> ChatRequest {
    let roles = [Role::User, Role::Assistant];
    let messages = texts.iter().zip(roles.iter().cycle());
    let messages = messages.map(|(text, role)| Message::new(*role, *text));
    let mut chat = ChatRequest::new("m", messages);
    chat.tenant = Some(TENANT);
    chat
}

async fn begin(stack: &Stack, texts: &[&'static str]) -> Body {
    let request = Request::new(history(texts));
    stack.clone().oneshot(request).await.expect("answered").into_body()
}

async fn say(stack: &Stack, texts: &[&'static str]) {
    Answer::collect(begin(stack, texts).await).await.expect("complete");
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_takes_longer_than_its_lease_keeps_it() {
    let store = Leasing::new(TERM);
    let (stack, upstream) = stack(store.clone());
    say(&stack, &["one"]).await;
    let before = tasks();
    let end = upstream.hold_end();
    // Nobody reads it, which must not matter.
    let body = begin(&stack, &["one", "ok", "two"]).await;
    assert_eq!(upstream.last().as_deref(), Some("c1"));
    assert_eq!(tasks(), before + 1, "one task a turn");
    for _ in 0..60 {
        sleep(5 * SECOND).await;
        say(&stack, &["one", "ok", "TWO"]).await;
        assert_eq!(upstream.last(), None, "the chat is not free");
    }
    let renewals = store.renewals();
    assert!((59..=60).contains(&renewals), "{renewals} in five minutes");

    end.send(()).expect("is awaited");
    Answer::collect(body).await.expect("complete");
    assert!(!store.held(), "given back with the record");
    say(&stack, &["one", "ok", "two", "ok", "three"]).await;
    assert_eq!(upstream.last().as_deref(), Some("c1"));
    // Nothing of it is left.
    let renewals = store.renewals();
    sleep(60 * SECOND).await;
    assert_eq!((store.renewals(), tasks()), (renewals, before));
}

#[tokio::test(start_paused = true)]
async fn a_turn_keeps_its_lease_while_upstream_says_nothing() {
    let store = Leasing::new(TERM);
    let (stack, upstream) = stack(store.clone());
    say(&stack, &["one"]).await;
    let before = tasks();
    let go = upstream.hold_begin();
    let turn = tokio::spawn({
        let stack = stack.clone();
        async move { say(&stack, &["one", "ok", "two"]).await }
    });
    sleep(60 * SECOND).await;
    say(&stack, &["one", "ok", "TWO"]).await;
    assert_eq!(upstream.last(), None);
    go.send(()).expect("is awaited");
    turn.await.expect("no panic");
    assert!(!store.held());

    // One that is given up before its answer begins frees the chat at once.
    let _go = upstream.hold_begin();
    let mut turn = Box::pin(begin(&stack, &["one", "ok", "2"]));
    assert!(poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx))).await.is_pending());
    assert!(store.held());
    drop(turn);
    assert!(!store.held());
    let renewals = store.renewals();
    sleep(60 * SECOND).await;
    assert_eq!((store.renewals(), tasks()), (renewals, before));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_half_of_the_term_costs_no_lease() {
    for renewing in [Renewing::Fails, Renewing::Hangs] {
        // Wherever in the third between two renewals it begins.
        for begins in 0..5 {
            let store = Leasing::new(TERM);
            let (stack, upstream) = stack(store.clone());
            say(&stack, &["one"]).await;
            let end = upstream.hold_end();
            let body = begin(&stack, &["one", "ok", "two"]).await;
            sleep(Duration::from_millis(begins * 1_000 + 500)).await;
            store.set(renewing);
            sleep(TERM / 2).await;
            store.set(Renewing::Works);
            for _ in 0..60 {
                assert!(store.held(), "lost");
                sleep(SECOND / 2).await;
            }
            end.send(()).expect("is awaited");
            Answer::collect(body).await.expect("complete");
            assert!(!store.held());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_is_anothers_and_stays_it() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);

    let store = Leasing::new(TERM);
    let (stack, upstream) = stack(store.clone());
    say(&stack, &["one"]).await;
    let before = tasks();
    let ends = [upstream.hold_end(), upstream.hold_end()];
    let first = begin(&stack, &["one", "ok", "two"]).await;
    store.set(Renewing::Hangs);
    sleep(2 * TERM).await;
    assert!(!store.held(), "it ends by itself");
    let shown = handle.render();
    let counted = r#"tower_qwen_session_store_errors_total{operation="renew"} "#;
    let count = shown.lines().find_map(|line| line.strip_prefix(counted)).expect("counted");
    // A second and the store's time limit apart, after the first five seconds.
    assert!((15..=18).contains(&count.parse::<u64>().expect("a number")), "{count}");

    let second = begin(&stack, &["one", "ok", "TWO"]).await;
    assert_eq!(upstream.last().as_deref(), Some("c1"), "the chat is free");
    store.set(Renewing::Works);
    sleep(TERM).await;
    assert_eq!(tasks(), before + 1, "the first no longer tries");
    // The end of the first does not take it from the second.
    let [end, _end] = ends;
    end.send(()).expect("is awaited");
    Answer::collect(first).await.expect("complete");
    assert!(store.held());
    say(&stack, &["one", "ok", "2"]).await;
    assert_eq!(upstream.last(), None);
    drop(second);
    assert!(!store.held());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_lasts_until_it_is_given_back_needs_no_task() {
    let (stack, upstream) = stack(MemoryStore::default());
    say(&stack, &["one"]).await;
    let before = tasks();
    let _end = upstream.hold_end();
    let body = begin(&stack, &["one", "ok", "two"]).await;
    assert_eq!(upstream.last().as_deref(), Some("c1"));
    assert_eq!(tasks(), before);
    // However long it takes.
    sleep(24 * 60 * 60 * SECOND).await;
    say(&stack, &["one", "ok", "TWO"]).await;
    assert_eq!(upstream.last(), None);
    drop(body);
    say(&stack, &["one", "ok", "2"]).await;
    assert_eq!(upstream.last().as_deref(), Some("c1"));
}

#[tokio::test(start_paused = true)]
async fn a_term_of_nothing_makes_no_loop() {
    let store = Leasing::new(Duration::ZERO);
    let (stack, upstream) = stack(store.clone());
    say(&stack, &["one"]).await;
    let _end = upstream.hold_end();
    let _body = begin(&stack, &["one", "ok", "two"]).await;
    store.set(Renewing::Fails);
    sleep(10 * SECOND).await;
    assert!((50..=100).contains(&store.renewals()), "{} in ten seconds", store.renewals());

    // Nor does the longest overflow.
    let store = Leasing::new(Duration::from_secs(60 * 60 * 24 * 365 * 100));
    let (stack, upstream) = self::stack(store.clone());
    say(&stack, &["one"]).await;
    let _end = upstream.hold_end();
    let _body = begin(&stack, &["one", "ok", "two"]).await;
    sleep(10 * SECOND).await;
    assert_eq!(store.renewals(), 0);
}

#[test]
fn without_a_runtime_a_lease_ends_by_itself() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let store = Leasing::new(TERM);
    let (stack, upstream) = stack(store.clone());
    let guard = runtime.enter();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(say(&stack, &["one"])).as_mut().poll(&mut cx).is_ready());
    drop(guard);
    let mut turn = Box::pin(begin(&stack, &["one", "ok", "two"]));
    let Poll::Ready(body) = turn.as_mut().poll(&mut cx) else { panic!("at once") };
    assert_eq!(upstream.last().as_deref(), Some("c1"));
    assert!(store.held());
    drop(body);
    assert!(!store.held());
    assert_eq!(store.renewals(), 0);
}

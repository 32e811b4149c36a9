use std::{
    fmt,
    future::{Future, poll_fn},
    hash::{BuildHasher as _, RandomState},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Request, Response};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};
use tower_service::Service;
use tracing::debug;

use super::{
    key::{ChatKey, Key, KeyChain},
    layer::{Contention, SessionLayer, Settings},
    store::{Found, Owner, SessionStore, StoreError, StoreFuture},
    stream::{Recorder, SessionStream},
};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream, Conversation, Role},
};

/// How many prefixes of a history are looked up, the longest first. A turn goes on from the last
/// answer or from one not far before it; should it go on from before this many answers, it is
/// replayed.
const PREFIXES: usize = 1024;

type Outcome<B> = Result<Response<SessionStream<B>>, Error>;

/// The response future of [`Session`](super::Session).
///
/// Dropping it ends the turn and frees the chat.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<B> {
    turn: Pin<Box<dyn Future<Output = Outcome<B>> + Send>>,
}

impl<B> ResponseFuture<B> {
    pub(super) fn new(turn: impl Future<Output = Outcome<B>> + Send + 'static) -> Self {
        Self { turn: Box::pin(turn) }
    }
}

impl<B> Future for ResponseFuture<B> {
    type Output = Outcome<B>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.turn.as_mut().poll(cx)
    }
}

impl<B> fmt::Debug for ResponseFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// One turn up to its commit point.
pub(super) async fn turn<S, B>(
    layer: SessionLayer,
    mut inner: S,
    request: Request<ChatRequest>,
) -> Outcome<B>
where
    S: Service<Request<ChatRequest>, Response = Response<B>>,
    S::Error: Into<Error>,
    B: ChatStream,
{
    let (parts, mut chat) = request.into_parts();
    let route = Route::find(&layer, &chat).await;
    // What else a chat holds that the client named itself, only the client knows.
    let replayable = route.within.is_none();
    // A write copies the parts of a request that others keep a clone of.
    if (&chat.conversation, chat.seen) != (&route.conversation, route.seen) {
        chat.conversation.clone_from(&route.conversation);
        chat.seen = route.seen;
    }

    let mut lease = None;
    if let Some(conversation) = place(&chat) {
        let key = ChatKey::new(&chat.tenant, &conversation.chat_id);
        match Lease::take(&layer, key).await {
            Taken::Free(taken) => lease = Some(taken),
            Taken::Unknown => {}
            Taken::Held if replayable => replay(&mut chat, key, "concurrent"),
            // The client wants this chat and no other; upstream says what it makes of it.
            Taken::Held => {}
        }
    }

    let mut busy = 0;
    loop {
        let Some(conversation) = place(&chat) else {
            drop(lease.take());
            let recorder = Recorder::new(&layer, &chat, route, None);
            let request = Request::from_parts(parts, chat);
            let response = inner.call(request).await.map_err(Into::into)?;
            return Ok(response.map(|body| SessionStream::new(body, recorder)));
        };

        let key = ChatKey::new(&chat.tenant, &conversation.chat_id);
        let attempt = Request::from_parts(parts.clone(), chat.clone());
        let error = match inner.call(attempt).await {
            Ok(response) => {
                let recorder = Recorder::new(&layer, &chat, route, lease);
                return Ok(response.map(|body| SessionStream::new(body, recorder)));
            }
            Err(error) => error.into(),
        };
        if error.is_conversation_lost() || error.is_account_unavailable() {
            // An account that cannot be used now may be back later, and its chat as it was.
            if error.is_conversation_lost() {
                bounded("forget", layer.settings.store_timeout, layer.store.forget(key)).await;
            }
            if !replayable {
                return Err(error);
            }
            replay(&mut chat, key, "lost");
        } else if error.is_conversation_busy() && busy < layer.settings.busy_retries {
            busy += 1;
            debug!(chat = %key, busy, "the chat is busy");
            sleep(busy_delay(&layer.settings)).await;
        } else if error.is_conversation_busy() && replayable {
            replay(&mut chat, key, "busy");
        } else {
            return Err(error);
        }
        poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)?;
    }
}

/// The place in a chat that the request names. A conversation without a chat is only a wish for
/// an account.
fn place(chat: &ChatRequest) -> Option<&Conversation> {
    chat.conversation.as_ref().filter(|conversation| !conversation.chat_id.is_empty())
}

/// Turns the request into one that replays the whole history into a new chat.
fn replay(chat: &mut ChatRequest, key: ChatKey, cause: &'static str) {
    debug!(chat = %key, cause, "the history is replayed into a new chat");
    metrics::counter!("tower_qwen_session_replays_total", "cause" => cause).increment(1);
    chat.conversation = None;
    chat.seen = 0;
}

fn busy_delay(settings: &Settings) -> Duration {
    let random = RandomState::new().hash_one(0_u8) >> 32;
    #[expect(clippy::cast_precision_loss, reason = "32 bits")]
    let share = random as f64 / f64::from(u32::MAX);
    let delay = settings.busy_delay.as_secs_f64() * (1.0 + share);
    Duration::try_from_secs_f64(delay).unwrap_or(Duration::MAX)
}

/// Where a turn goes.
pub(super) struct Route {
    pub(super) conversation: Option<Conversation>,
    pub(super) seen: usize,
    /// The key chain of the whole history.
    pub(super) history: KeyChain,
    /// The same within the chat that the client named.
    pub(super) within: Option<(KeyChain, Conversation)>,
}

impl Route {
    async fn find(layer: &SessionLayer, chat: &ChatRequest) -> Self {
        let mut history = KeyChain::new(chat);
        let mut within =
            place(chat).map(|own| (KeyChain::within_chat(chat, &own.chat_id), own.clone()));

        // An answer is what can be gone on from, with something that is not an answer.
        let mut prefixes: Vec<Prefix> = Vec::new();
        let mut answered = false;
        for (index, message) in chat.messages.iter().enumerate() {
            let digest = history.message(message);
            history.link(&digest);
            if let Some((within, _)) = &mut within {
                within.link(&digest);
            }
            if message.role != Role::Assistant {
                continue;
            }
            answered = true;
            if chat.messages.get(index + 1).is_some_and(|next| next.role != Role::Assistant) {
                prefixes.push(Prefix {
                    seen: index + 1,
                    history: history.key(),
                    within: within.as_ref().map(|(within, _)| within.key()),
                });
            }
        }
        prefixes.reverse();
        prefixes.truncate(PREFIXES);

        let mut route =
            Self { conversation: chat.conversation.clone(), seen: chat.seen, history, within };
        let result = match route.within.clone() {
            None => route.follow(layer, &prefixes).await,
            Some((_, own)) => {
                route.follow_within(layer, &prefixes, chat, &own, answered).await;
                "own"
            }
        };
        metrics::counter!("tower_qwen_session_lookups_total", "result" => result).increment(1);
        route
    }

    /// Finds the place that the history ends at; `prefixes` are the longest first.
    async fn follow(&mut self, layer: &SessionLayer, prefixes: &[Prefix]) -> &'static str {
        self.seen = 0;
        if prefixes.is_empty() {
            return "first";
        }
        let keys: Vec<Key> = prefixes.iter().map(|prefix| prefix.history).collect();
        let found = match look_up(layer, &keys).await {
            Some(Some(found)) => found,
            Some(None) => return "miss",
            None => return "error",
        };
        let Some(prefix) = prefixes.get(found.index) else { return "error" };
        self.seen = prefix.seen;
        debug!(chat = %found.record.chat, seen = self.seen, "the history is known");
        self.conversation = Some(found.record.conversation);
        "hit"
    }

    /// Finds the place in the chat that the client named, which wins whatever is found; `answered`
    /// tells whether there is an answer among the messages.
    async fn follow_within(
        &mut self,
        layer: &SessionLayer,
        mut prefixes: &[Prefix],
        chat: &ChatRequest,
        own: &Conversation,
        answered: bool,
    ) {
        let placed = own.parent_id.is_some();
        if placed {
            // The client says which answer it goes on from: what it has of it is seen.
            if self.seen == 0 {
                self.seen = prefixes.first().map_or(0, |prefix| prefix.seen);
            }
            if own.account.is_some() {
                return;
            }
            prefixes = &[];
        }
        let last = Key::of_chat(&chat.tenant, &own.chat_id);
        let keys: Vec<Key> = (prefixes.iter().filter_map(|prefix| prefix.within))
            .chain(prefixes.iter().map(|prefix| prefix.history))
            .chain([last])
            .collect();
        let Some(Some(Found { index, record })) = look_up(layer, &keys).await else { return };
        if record.conversation.chat_id != own.chat_id {
            return;
        }
        // Twice the prefixes, then the chat's last answer.
        if let Some(prefix) = prefixes.iter().chain(prefixes).nth(index) {
            self.seen = prefix.seen;
            self.conversation = Some(record.conversation);
        } else if !placed && !answered {
            // The messages are what is new in the chat, which has seen none of them.
            self.seen = 0;
            self.conversation = Some(record.conversation);
        } else if let Some(conversation) = &mut self.conversation {
            // Not where to go on, but whose chat it is: to others it does not exist (A2.7).
            let account = conversation.account.take();
            conversation.account = account.or(record.conversation.account);
        }
    }
}

struct Prefix {
    seen: usize,
    history: Key,
    within: Option<Key>,
}

async fn look_up(layer: &SessionLayer, keys: &[Key]) -> Option<Option<Found>> {
    bounded("find", layer.settings.store_timeout, layer.store.find(keys)).await
}

/// The chat is this turn's alone until it is dropped.
pub(super) struct Lease {
    store: Arc<dyn SessionStore>,
    chat: ChatKey,
    owner: Owner,
    store_timeout: Duration,
    released: bool,
}

enum Taken {
    Free(Lease),
    Held,
    /// The store did not say. Upstream refuses a second answer in the same chat by itself.
    Unknown,
}

impl Lease {
    async fn take(layer: &SessionLayer, chat: ChatKey) -> Taken {
        /// The first and the last pause between two looks at the lease.
        const PAUSES: (Duration, Duration) =
            (Duration::from_millis(10), Duration::from_millis(200));

        let Settings { contention, lease_limit, store_timeout, .. } = layer.settings;
        let patience = match contention {
            Contention::Wait(patience) => patience,
            Contention::Replay => Duration::ZERO,
        };
        let began = Instant::now();
        // Made before the store is asked: should this future be dropped while the answer is on
        // its way, the lease is given back all the same.
        let mut lease = Self {
            store: Arc::clone(&layer.store),
            chat,
            owner: Owner::unique(),
            store_timeout,
            released: false,
        };
        let mut pause = PAUSES.0;
        loop {
            let taking = lease.store.acquire(chat, lease.owner, lease_limit);
            match bounded("acquire", store_timeout, taking).await {
                Some(true) => return Taken::Free(lease),
                Some(false) => {}
                None => return Taken::Unknown,
            }
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                lease.released = true;
                return Taken::Held;
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// What a store needs to release it together with a record.
    pub(super) fn claim(&self) -> (ChatKey, Owner) {
        (self.chat, self.owner)
    }

    /// The store has released it.
    pub(super) fn released(mut self) {
        self.released = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let (store, chat, owner) = (Arc::clone(&self.store), self.chat, self.owner);
        let limit = self.store_timeout;
        let mut release: StoreFuture<'static, ()> =
            Box::pin(async move { store.release(chat, owner).await });
        // A store in memory is done with it at once.
        match release.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => failed("release", &error),
            Poll::Pending => detach(Box::pin(async move {
                bounded("release", limit, release).await;
            })),
        }
    }
}

/// Goes on with `work` in a task of its own; outside of a runtime it is dropped.
pub(super) fn detach(work: Pin<Box<dyn Future<Output = ()> + Send>>) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(work);
    }
}

/// Waits for the store, but not for long; `None` where it failed, which is counted.
pub(super) async fn bounded<T>(
    operation: &'static str,
    limit: Duration,
    mut answer: StoreFuture<'_, T>,
) -> Option<T> {
    // A store in memory needs no timer.
    let first = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
    let result = match first {
        Poll::Ready(result) => result,
        Poll::Pending => {
            timeout(limit, answer).await.unwrap_or_else(|elapsed| Err(StoreError::new(elapsed)))
        }
    };
    result.inspect_err(|error| failed(operation, error)).ok()
}

fn failed(operation: &'static str, error: &StoreError) {
    metrics::counter!("tower_qwen_session_store_errors_total", "operation" => operation)
        .increment(1);
    debug!(operation, error = error as &dyn std::error::Error, "the session store failed");
}

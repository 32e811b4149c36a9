use std::{
    fmt,
    future::{Future, poll_fn},
    hash::{BuildHasher as _, RandomState},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tokio::time::sleep;
use tower_service::Service;
use tracing::debug;

use super::{
    key::{ChatKey, Key, KeyChain},
    layer::{OwnChats, SessionLayer, Settings},
    lease::{Lease, Taken},
    store::Found,
    stream::{Recorder, SessionStream},
    wait::bounded,
};
use crate::{
    Error, ErrorKind,
    chat::{ChatRequest, ChatStream, Conversation, Destination, Message, Role, Tenant},
    clock,
    offload::{is_large, offload},
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
    if layer.settings.own_chats == OwnChats::Known
        && let Some(own) = chat.conversation()
    {
        check_own(&layer, chat.tenant.as_ref(), &own.chat_id).await?;
    }
    let route = Route::find(&layer, &chat).await?;
    // What else a chat holds that the client named itself, only the client knows.
    let replayable = !route.own;
    chat.destination = route.destination.clone();
    chat.history.mark_seen(route.seen);

    let mut lease = None;
    if let Some(key) = chat_key(&chat) {
        let Settings { contention, store_timeout, .. } = layer.settings;
        match Lease::take(&layer.store, key, contention.patience(), store_timeout).await {
            Taken::Free(taken) => lease = Some(taken),
            Taken::Unknown => {}
            Taken::Held if replayable => replay(&mut chat, key, "concurrent"),
            // The client wants this chat and no other; upstream says what it makes of it.
            Taken::Held => {}
        }
    }

    let mut busy = 0;
    loop {
        if chat.conversation().is_none() {
            drop(lease.take());
            let recorder = Recorder::new(&layer, &chat, route, None);
            let request = Request::from_parts(parts, chat);
            let response = inner.call(request).await.map_err(Into::into)?;
            return Ok(response.map(|body| SessionStream::new(body, recorder)));
        }

        let key = chat_key(&chat);
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
            if error.is_conversation_lost()
                && let Some(key) = key
            {
                bounded("forget", layer.settings.store_timeout, layer.store.forget(key)).await;
            }
            match key {
                Some(key) if replayable => replay(&mut chat, key, "lost"),
                _ => return Err(error),
            }
        } else if error.is_conversation_busy()
            && busy < layer.settings.busy_retries
            && clock::is_there()
        {
            busy += 1;
            debug!(busy, "the chat is busy");
            sleep(busy_delay(&layer.settings)).await;
        } else {
            match key {
                Some(key) if error.is_conversation_busy() && replayable => {
                    replay(&mut chat, key, "busy");
                }
                _ => return Err(error),
            }
        }
        poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)?;
    }
}

/// Whether the chat that the client named was given to this tenant.
async fn check_own(
    layer: &SessionLayer,
    tenant: Option<&Tenant>,
    chat_id: &str,
) -> Result<(), Error> {
    if let Some(tenant) = tenant {
        let key = Key::of_chat(tenant, chat_id);
        match bounded("find", layer.settings.store_timeout, layer.store.find(&key)).await {
            Some(Some(_)) => return Ok(()),
            Some(None) => {}
            None => {
                return Err(Error::new(
                    ErrorKind::Overloaded,
                    "the store of sessions did not answer, so nobody can tell whose chat it is",
                ));
            }
        }
    }
    metrics::counter!("tower_qwen_session_foreign_chats_total").increment(1);
    Err(Error::new(
        ErrorKind::ConversationLost,
        "no such chat of this client is remembered here; begin a new one, without a chat's id",
    ))
}

/// The key of the chat that the request goes to; `None` where it goes to none, or where nobody
/// knows whose it is.
fn chat_key(chat: &ChatRequest) -> Option<ChatKey> {
    Some(ChatKey::new(chat.tenant.as_ref()?, &chat.conversation()?.chat_id))
}

/// Turns the request into one that replays the whole history into a new chat.
fn replay(chat: &mut ChatRequest, key: ChatKey, cause: &'static str) {
    debug!(chat = %key, cause, "the history is replayed into a new chat");
    metrics::counter!("tower_qwen_session_replays_total", "cause" => cause).increment(1);
    chat.destination = Destination::NEW;
    chat.history.forget_seen();
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
    destination: Destination,
    /// How many messages that has seen.
    seen: usize,
    /// Whether the client named the chat itself.
    own: bool,
    /// What the answer is recorded under; `None` without a tenant.
    pub(super) chains: Option<Chains>,
}

/// The key chains of the whole history.
pub(super) struct Chains {
    pub(super) tenant: Tenant,
    pub(super) history: KeyChain,
    /// The same within the chat that the client named.
    pub(super) within: Option<(KeyChain, Conversation)>,
}

impl Route {
    /// # Errors
    ///
    /// Where the runtime is shut down meanwhile.
    async fn find(layer: &SessionLayer, chat: &ChatRequest) -> Result<Self, Error> {
        let own = chat.conversation();
        let read = if chat.tenant.is_some() && is_large(chat) {
            let chat = chat.clone();
            offload("session", move || Read::new(&chat)).await?
        } else {
            Read::new(chat)
        };
        let Read { chains, prefixes, answered } = read;
        let mut route = Self {
            destination: chat.destination.clone(),
            seen: chat.history.seen.len(),
            own: own.is_some(),
            chains,
        };

        let result = match (chat.tenant, own) {
            (None, None) => "no_tenant",
            (_, Some(own)) => {
                route.follow_within(layer, &prefixes, chat, own, answered).await;
                "own"
            }
            (Some(_), None) => route.follow(layer, &prefixes).await,
        };
        metrics::counter!("tower_qwen_session_lookups_total", "result" => result).increment(1);
        Ok(route)
    }

    /// Finds the place that the history ends at; `prefixes` are the longest first.
    async fn follow(&mut self, layer: &SessionLayer, prefixes: &[Prefix]) -> &'static str {
        self.seen = 0;
        if prefixes.is_empty() {
            return "first";
        }
        let keys: Vec<Key> = prefixes.iter().filter_map(Prefix::history).collect();
        let found = match look_up(layer, &keys).await {
            Some(Some(found)) => found,
            Some(None) => return "miss",
            None => return "error",
        };
        let Some(prefix) = prefixes.get(found.index) else { return "error" };
        self.seen = prefix.seen;
        debug!(chat = %found.record.chat, seen = self.seen, "the history is known");
        self.destination = found.record.conversation.into();
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
        let Some(tenant) = &chat.tenant else { return };
        let last = Key::of_chat(tenant, &own.chat_id);
        let keys: Vec<Key> = (prefixes.iter().filter_map(Prefix::within))
            .chain(prefixes.iter().filter_map(Prefix::history))
            .chain([last])
            .collect();
        let Some(Some(Found { index, record })) = look_up(layer, &keys).await else { return };
        if record.conversation.chat_id != own.chat_id {
            return;
        }
        // Twice the prefixes, then the chat's last answer.
        if let Some(prefix) = prefixes.iter().chain(prefixes).nth(index) {
            self.seen = prefix.seen;
            self.destination = record.conversation.into();
        } else if !placed && !answered {
            // The messages are what is new in the chat, which has seen none of them.
            self.seen = 0;
            self.destination = record.conversation.into();
        } else {
            // Not where to go on, but whose chat it is: to others it does not exist.
            let account = own.account.clone().or(record.conversation.account);
            self.destination = Conversation { account, ..own.clone() }.into();
        }
    }
}

/// What is found in the history alone.
struct Read {
    chains: Option<Chains>,
    /// The longest first.
    prefixes: Vec<Prefix>,
    /// Whether there is an answer.
    answered: bool,
}

impl Read {
    fn new(chat: &ChatRequest) -> Self {
        let own = chat.conversation();
        let mut chains = chat.tenant.map(|tenant| Chains {
            tenant,
            history: KeyChain::new(&tenant, chat),
            within: own
                .map(|own| (KeyChain::within_chat(&tenant, chat, &own.chat_id), own.clone())),
        });

        // An answer is what can be gone on from, with something that is not an answer.
        let mut prefixes: Vec<Prefix> = Vec::new();
        let mut answered = false;
        let mut messages = chat.history.iter().enumerate().peekable();
        while let Some((index, message)) = messages.next() {
            let keys = chains.as_mut().map(|chains| chains.push(message));
            if message.role != Role::Assistant {
                continue;
            }
            answered = true;
            if messages.peek().is_some_and(|(_, next)| next.role != Role::Assistant) {
                prefixes.push(Prefix { seen: index + 1, keys });
            }
        }
        prefixes.reverse();
        prefixes.truncate(PREFIXES);
        Self { chains, prefixes, answered }
    }
}

impl Chains {
    /// Takes a message in; gives the keys of the history up to it.
    fn push(&mut self, message: &Message) -> (Key, Option<Key>) {
        let digest = self.history.message(message);
        self.history.link(&digest);
        let within = self.within.as_mut().map(|(within, _)| {
            within.link(&digest);
            within.key()
        });
        (self.history.key(), within)
    }
}

/// A part of the history that ends with an answer.
struct Prefix {
    seen: usize,
    /// Its key, and that within the chat that the client named.
    keys: Option<(Key, Option<Key>)>,
}

impl Prefix {
    fn history(&self) -> Option<Key> {
        self.keys.map(|(history, _)| history)
    }

    fn within(&self) -> Option<Key> {
        self.keys.and_then(|(_, within)| within)
    }
}

async fn look_up(layer: &SessionLayer, keys: &[Key]) -> Option<Option<Found>> {
    bounded("find", layer.settings.store_timeout, layer.store.find_first(keys)).await
}

use std::{
    future::poll_fn,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use http::{Request, Response};
use tokio::time::sleep;
use tower_service::Service;
use tracing::debug;

use super::{
    config::{Config, Contention, OwnChats, Settings},
    key::{ChatKey, Key},
    lease::{Lease, Taken},
    recorder::Recorder,
    route::{Route, store_is_away},
    stream::SessionStream,
    wait::bounded,
};
use crate::{
    Error, ErrorKind,
    chat::{ChatRequest, ChatStream, Destination, Tenant},
    clock,
};

type Outcome<B> = Result<Response<SessionStream<B>>, Error>;

/// One turn up to its commit point.
pub(super) async fn turn<S, B>(
    config: Config,
    mut inner: S,
    request: Request<ChatRequest>,
) -> Outcome<B>
where
    S: Service<Request<ChatRequest>, Response = Response<B>>,
    S::Error: Into<Error>,
    B: ChatStream,
{
    let (parts, mut chat) = request.into_parts();
    if config.settings.own_chats == OwnChats::Known
        && let Some(own) = chat.conversation()
    {
        check_own(&config, chat.tenant.as_ref(), &own.chat_id).await?;
    }
    let route = match chat.destination.clone() {
        Destination::Answer { id } => Route::behind(&config, &mut chat, &id).await?,
        _ => Route::find(&config, &chat).await?,
    };
    // What else a chat holds that the client named itself, only the client knows.
    let replayable = !route.own;
    chat.destination = route.destination.clone();
    chat.history.mark_seen(route.seen);
    chat.tools_changed = match (&route.chains, route.told) {
        (Some(chains), Some(told)) => chains.tools != told,
        _ => false,
    };
    if chat.tools_changed {
        debug!("the chat is told of other tools than before");
        metrics::counter!("tower_qwen_session_tools_changed_total").increment(1);
    }

    let mut lease = None;
    let Settings { contention, store_timeout, .. } = config.settings;
    if contention != Contention::Share
        && let Some(key) = chat_key(&chat)
    {
        match Lease::take(&config.store, key, contention.patience(), store_timeout).await {
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
            let recorder = Recorder::new(&config, &chat, route, None);
            let request = Request::from_parts(parts, chat);
            let response = inner.call(request).await.map_err(Into::into)?;
            return Ok(response.map(|body| SessionStream::new(body, recorder)));
        }

        let key = chat_key(&chat);
        let attempt = Request::from_parts(parts.clone(), chat.clone());
        let error = match inner.call(attempt).await {
            Ok(response) => {
                let recorder = Recorder::new(&config, &chat, route, lease);
                return Ok(response.map(|body| SessionStream::new(body, recorder)));
            }
            Err(error) => error.into(),
        };
        if error.is_conversation_lost() || error.is_account_unavailable() {
            // An account that cannot be used now may be back later, and its chat as it was.
            if error.is_conversation_lost()
                && let Some(key) = key
            {
                bounded("forget", config.settings.store_timeout, config.store.forget(key)).await;
            }
            match key {
                Some(key) if replayable => replay(&mut chat, key, "lost"),
                _ => return Err(error),
            }
        } else if error.is_conversation_busy()
            && busy < config.settings.busy_retries
            && clock::is_there()
        {
            busy += 1;
            debug!(busy, "the chat is busy");
            sleep(busy_delay(&config.settings)).await;
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
async fn check_own(config: &Config, tenant: Option<&Tenant>, chat_id: &str) -> Result<(), Error> {
    if let Some(tenant) = tenant {
        let key = Key::of_chat(tenant, chat_id);
        match bounded("find", config.settings.store_timeout, config.store.find(&key)).await {
            Some(Some(_)) => return Ok(()),
            Some(None) => {}
            None => return Err(store_is_away("whose chat it is")),
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
    chat.tools_changed = false;
    chat.history.forget_seen();
}

fn busy_delay(settings: &Settings) -> Duration {
    let random = RandomState::new().hash_one(0_u8) >> 32;
    #[expect(clippy::cast_precision_loss, reason = "32 bits")]
    let share = random as f64 / f64::from(u32::MAX);
    let delay = settings.busy_delay.as_secs_f64() * (1.0 + share);
    Duration::try_from_secs_f64(delay).unwrap_or(Duration::MAX)
}

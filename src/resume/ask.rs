//! What an upstream is asked, so that it goes on with an answer.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    time::Duration,
};

use http::{Request, Response};
use tower_service::Service;
use tracing::debug;

use super::seam::Anchor;
use crate::{
    Error,
    chat::{ChatRequest, Conversation, History, Message, Messages, Role},
    clock,
};

/// How often a chat is waited for that is still busy with the answer that broke off, and for how long
/// each time.
const BUSY_TRIES: u32 = 3;
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// Another answer on its way to its first event.
pub(super) type Asked<B> = Pin<Box<dyn Future<Output = Result<B, Error>> + Send>>;

/// The turn that has the chat at `place` go on with an answer in it.
pub(super) fn in_chat(chat: &mut ChatRequest, place: Conversation, anchor: &Anchor) {
    chat.destination = place.into();
    chat.history = History::new(Messages::from_iter([question(anchor)]));
    // The chat knows them by now.
    chat.tools_changed = false;
}

/// The same for an upstream without chats: it gets the history, and what was `said`.
pub(super) fn replayed(chat: &mut ChatRequest, said: &str, anchor: &Anchor) {
    chat.history.push(Message::new(Role::Assistant, said));
    chat.history.push(question(anchor));
}

/// The words to begin with are in it, for a chat may have lost the end of what the client has got.
fn question(anchor: &Anchor) -> Message {
    let words = anchor.words();
    Message::new(
        Role::User,
        format!(
            "Your last answer broke off in the middle, through no fault of yours. Go on with it. Begin \
             with exactly these words, with which it broke off, and then write what comes next:\n\n\
             {words}\n\n\
             Write only the answer itself: no greeting, no remark on this, and no code fence around \
             what did not have one."
        ),
    )
}

/// Asks `service`, and again where the chat is busy.
pub(super) fn ask<S, B>(mut service: S, request: Request<ChatRequest>) -> Asked<B>
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
    B: Send + 'static,
{
    Box::pin(async move {
        for _ in 0..BUSY_TRIES {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
            match service.call(request.clone()).await.map_err(Into::into) {
                Ok(response) => return Ok(response.into_body()),
                Err(error) if error.is_conversation_busy() && clock::is_there() => {
                    debug!("the chat is still busy with the answer that broke off");
                    tokio::time::sleep(BUSY_WAIT).await;
                }
                Err(error) => return Err(error),
            }
        }
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
        Ok(service.call(request).await.map_err(Into::into)?.into_body())
    })
}

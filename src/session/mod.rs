//! Stateless clients over stateful chats.
//!
//! An OpenAI client resends the whole history with every turn. chat.qwen.ai keeps the history
//! itself: a chat is a tree of messages, and a turn names the answer that it goes on from. A client
//! that resends everything there is refused. [`SessionLayer`] finds the place in the tree at which
//! a client's history ends.
//!
//! # How a place is found
//!
//! - Every prefix of a history has a [`Key`]. It is a link of a SHA-256 chain over what the client
//!   saw and sends back; [`Key`] says what counts. Tenant and model are part of it, so
//!   nothing of one tenant is ever matched with another's.
//! - The [`SessionStore`] is asked once a request, for the longest prefix that it knows. That sets
//!   [`ChatRequest::destination`], and what of the [history](crate::chat::ChatRequest::history) was
//!   seen there.
//! - A new question, another try at the last answer, an edit further up and a turn that goes on
//!   from the middle are all alike: each goes on from a node of the tree. A history that is not
//!   known starts a new chat and is sent whole.
//! - [`DedupLayer`](crate::dedup::DedupLayer) stands behind this layer and leaves out what was
//!   seen.
//! - The answer is hashed while it streams. It is recorded when it is complete, before its last
//!   event passes; [`SessionStream`] says which answers are not recorded.
//! - A request without a [tenant](crate::chat::ChatRequest::tenant) has no session, for nobody can
//!   tell whose history it is. Nothing is looked up, recorded or leased. It goes to a new chat, or
//!   to the one that it names.
//!
//! # What can come between
//!
//! All of this happens before the commit point: before an event of the answer is there.
//!
//! - *Two turns want one chat at the same time.* A turn takes a lease of its chat. The second turn
//!   waits a little for it, and then gets a new chat ([`Contention`]). Where proxies share a store,
//!   a lease ends by itself after a short time, and a turn renews its own ([`Grant`]).
//! - *The upstream lost the chat.* It is forgotten, and the history is replayed once: sent whole
//!   into a new chat.
//! - *The account of the chat cannot be used now.* The history is replayed, and the chat is
//!   remembered.
//! - *The chat is busy.* The turn is tried some more times, and then the history is replayed.
//!
//! # Chats that a client names
//!
//! A client may name its chat: it sends `qwen_chat_id`, which is a [`Destination::Chat`] that is
//! already set here. It gets that chat and no other.
//!
//! - If its history is known in that chat, the turn goes on from the history's place.
//! - If its history is unknown and has answers in it, all of it is sent as a new root of the chat.
//! - If it sends only new messages, the turn goes on from the chat's last answer, as far as the
//!   store knows it.
//! - If it also names the answer (`qwen_parent_id`), what follows the last answer of its history
//!   is new. Only whose chat it is may be looked up then.
//!
//! Nothing is replayed elsewhere, because only the client knows what else the chat holds. It gets
//! the error of a chat that is lost or stays busy. A turn for a chat that the store knows goes to
//! the account that the chat belongs to.
//!
//! Where several tenants share an account, [`OwnChats::Known`] refuses a chat that the client
//! names and was not given here. A store that does not answer fails the request in this one case,
//! with [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded): nobody can tell whose chat it is.
//!
//! # Answers that a client names
//!
//! A client may know an answer by an [id](crate::chat::ChatRequest::answer_id), and go on from it
//! without sending its history again ([`Destination::Answer`]).
//!
//! - The turn goes on from that answer, also where others went on from it already: then it is a
//!   branch. Nothing of the text was kept, so nothing can be replayed. If upstream has lost the chat,
//!   the client hears that, and sends the whole history.
//! - An id is looked up for its tenant alone, with one call of the store. To others it does not
//!   exist, and neither does it to a client without a tenant.
//! - The messages that the turn begins with may be instructions. Where they are those that the chat
//!   was given last they count as seen; others are sent, and no chat forgets what it was told before.
//! - A result gets the name of the function that was called, for its call is not sent again.
//! - With the same model the answer is also found by its whole history.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error,
//!     chat::{Answer, ChatEvent, ChatRequest, Conversation, FinishReason, Message, Role, Tenant},
//!     session::{MemoryStore, SessionLayer},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! // An upstream whose answers are all message `a1` of chat `c1`.
//! let mut service = ServiceBuilder::new()
//!     .layer(SessionLayer::new(MemoryStore::default()))
//!     .service(service_fn(|request: Request<ChatRequest>| async move {
//!         let place = request.body().conversation().cloned();
//!         let parent = place.and_then(|place| place.parent_id);
//!         Ok::<_, Error>(Response::new(futures_util::stream::iter([
//!             Ok(ChatEvent::Started(Conversation::new("c1").with_parent("a1").into())),
//!             Ok(ChatEvent::Text(parent.unwrap_or("a new chat".into()))),
//!             Ok(ChatEvent::Finished(FinishReason::Stop)),
//!         ])))
//!     }));
//!
//! let mut history = vec![Message::new(Role::User, "Hello")];
//! let mut answers = Vec::new();
//! for question in ["How are you?", "And now?"] {
//!     let mut request = ChatRequest::new("qwen3-max", history.clone());
//!     request.tenant = Some(Tenant::from_digest([1; 32]));
//!     let response = service.ready().await?.call(Request::new(request)).await?;
//!     let answer = Answer::collect(response.into_body()).await?;
//!     history.push(Message::new(Role::Assistant, answer.text.clone()));
//!     history.push(Message::new(Role::User, question));
//!     answers.push(answer.text);
//! }
//! assert_eq!(answers, ["a new chat", "a1"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_session_lookups_total` | `result`: `hit`, `miss`, `first` (no answer in the history yet, the store is not asked), `own` (the client's chat), `answer` and `unknown_answer` (by its id), `no_tenant`, `error` |
//! | `tower_qwen_session_foreign_chats_total` | (chats that were named and not known, and refused) |
//! | `tower_qwen_session_tools_changed_total` | (turns that told a chat of other tools than before) |
//! | `tower_qwen_session_replays_total` | `cause`: `lost`, `busy`, `concurrent` |
//! | `tower_qwen_session_store_errors_total` | `operation`: `find`, `record`, `forget`, `acquire`, `renew`, `release` |
//!
//! Traces are at DEBUG and name a chat by a few characters of its [`ChatKey`]; a store says at WARN
//! that it is out of reach.
//!
//! [`ChatRequest::destination`]: crate::chat::ChatRequest::destination
//! [`Destination::Answer`]: crate::chat::Destination::Answer
//! [`Destination::Chat`]: crate::chat::Destination::Chat

mod config;
mod future;
mod key;
mod layer;
mod lease;
mod meaning;
mod memory;
mod past;
mod recorder;
#[cfg(feature = "redis")]
mod redis;
mod route;
mod service;
mod store;
mod stream;
mod wait;

#[cfg(feature = "redis")]
pub use self::redis::{RedisStore, RedisStoreBuilder};
pub use self::{
    config::{Contention, OwnChats},
    key::{ChatKey, Key, TenantTag},
    layer::SessionLayer,
    memory::MemoryStore,
    past::Past,
    service::Session,
    store::{Found, Grant, Owner, Record, SessionStore, StoreError, StoreFuture},
    stream::SessionStream,
};

/// The hash chain behind [`Key`], for the tests, benches and fuzz targets of this crate. It is no
/// part of the API: it changes without notice.
#[doc(hidden)]
pub mod internals {
    pub use super::key::{ARGUMENTS_LIMIT, AnswerChain, KeyChain, tools_digest};
}

use std::collections::BTreeMap;

use crate::chat::{Conversation, Tenant};

/// Forgets the chat `chat_id` of `tenant`, for a route that deletes chats upstream.
///
/// Only that tenant's sessions go, whatever the id, so a client cannot touch another's.
///
/// # Errors
///
/// Where the store could not do it.
pub async fn forget_chat(
    store: &dyn SessionStore,
    tenant: &Tenant,
    chat_id: &str,
) -> Result<(), StoreError> {
    store.forget(ChatKey::new(tenant, chat_id)).await
}

/// The chats of `tenant` that answers were recorded in, each once with the account that it
/// belongs to, for a route that deletes them upstream where others have chats there too.
///
/// # Errors
///
/// Where the store could not do it, or does not offer it ([`StoreError::is_not_offered`]).
pub async fn tenant_chats(
    store: &dyn SessionStore,
    tenant: &Tenant,
) -> Result<Vec<Conversation>, StoreError> {
    let mut chats = BTreeMap::new();
    for Record { chat, conversation, .. } in store.records(TenantTag::new(tenant)).await? {
        let Conversation { chat_id, account, .. } = conversation;
        // The tag only groups; the key is the tenant's own.
        if chat == ChatKey::new(tenant, &chat_id) {
            let known = chats.entry(chat_id).or_insert(None);
            *known = known.take().or(account);
        }
    }
    let chats = chats.into_iter();
    Ok(chats.map(|(chat_id, account)| Conversation { chat_id, parent_id: None, account }).collect())
}

/// Forgets the answer that `tenant` knows by the id `answer_id`; says whether there was one. It can
/// still be gone on from with its whole history.
///
/// # Errors
///
/// Where the store could not do it, or does not offer it ([`StoreError::is_not_offered`]).
pub async fn forget_answer(
    store: &dyn SessionStore,
    tenant: &Tenant,
    answer_id: &str,
) -> Result<bool, StoreError> {
    store.forget_key(&Key::of_answer(tenant, answer_id)).await
}

/// Forgets every chat of `tenant`, for a route that deletes them all upstream.
///
/// Answers that are streaming meanwhile may still be recorded; going on from them is then a
/// conversation that upstream lost, which is replayed.
///
/// # Errors
///
/// Where the store could not do it, or not all of it, or does not offer it
/// ([`StoreError::is_not_offered`]).
pub async fn forget_tenant(store: &dyn SessionStore, tenant: &Tenant) -> Result<(), StoreError> {
    store.forget_tenant(TenantTag::new(tenant)).await
}

//! Stateless clients over stateful chats.
//!
//! An OpenAI client resends the whole history with every turn. chat.qwen.ai keeps it: a chat is a
//! tree of messages, a turn names the answer that it goes on from, and long resends are
//! refused. [`SessionLayer`] finds the place in that tree which a history ends at.
//!
//! - Every prefix of the history has a [`Key`], a link of a SHA-256 chain over what the client saw
//!   and sends back (it says what counts). Tenant, model and tools are part of it, so nothing of
//!   one tenant is ever matched by another.
//! - The longest prefix that the [`SessionStore`] knows sets
//!   [`ChatRequest::destination`] and what of the [history](crate::chat::ChatRequest::history) was
//!   seen; one call of the store a request. A new question, another try at the last answer, an edit
//!   further up and going on from the middle are all the same: the turn goes on from that node of
//!   the tree. An unknown history starts a new chat and is sent whole.
//!   [`DedupLayer`](crate::dedup::DedupLayer), behind this layer, leaves out what was seen.
//! - The answer is hashed while it streams and recorded when it is complete, before its last
//!   event passes; [`SessionStream`] says when it is not.
//! - A request without a [tenant](crate::chat::ChatRequest::tenant) has no session: nothing is
//!   looked up, recorded or leased, for nobody can tell whose history it is. It goes to a new chat,
//!   or to the one that it names.
//! - Two turns on one chat at the same time: the second waits a little for the first's lease and
//!   then takes a new chat ([`Contention`]). Where proxies share a store, leases are short, and a
//!   turn renews its own for as long as it lasts ([`Grant`]).
//! - A chat that upstream lost is forgotten and the history replayed once into a new one; a chat
//!   whose account cannot be used now is replayed too, and remembered; one that is busy gets some
//!   more tries and then the same. All before the commit point.
//! - A client that names its own chat (`qwen_chat_id`, here a [`Destination::Chat`] that
//!   is already set) gets that chat and no other. With a known history of that chat it goes on
//!   from its place; with an unknown one that has answers in it, all is sent as a new root of the
//!   chat; with only new messages, it goes on from the chat's last answer, as far as the store
//!   knows it. Nothing is replayed elsewhere: what else the chat holds, only the client knows, so
//!   it gets the error of a chat that is lost or stays busy. Where it also names the answer
//!   (`qwen_parent_id`), what follows the last answer of the history is new, and only whose chat
//!   it is may be looked up. For a chat that the store knows goes to the account that it belongs
//!   to, whatever is sent with it.
//! - Where several tenants share an account, [`OwnChats::Known`] refuses a chat that the client
//!   names and that it was not given here. It is the one case where a store that does not answer
//!   fails the request, with [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded): nobody can
//!   tell then whose chat it is.
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
//! | `tower_qwen_session_lookups_total` | `result`: `hit`, `miss`, `first` (no answer in the history yet, the store is not asked), `own` (the client's chat), `no_tenant`, `error` |
//! | `tower_qwen_session_foreign_chats_total` | (chats that were named and not known, and refused) |
//! | `tower_qwen_session_replays_total` | `cause`: `lost`, `busy`, `concurrent` |
//! | `tower_qwen_session_store_errors_total` | `operation`: `find`, `record`, `forget`, `acquire`, `renew`, `release` |
//!
//! Traces are at DEBUG and name a chat by a few characters of its [`ChatKey`]; a store says at WARN
//! that it is out of reach.
//!
//! [`ChatRequest::destination`]: crate::chat::ChatRequest::destination
//! [`Destination::Chat`]: crate::chat::Destination::Chat

mod future;
mod key;
mod layer;
mod lease;
mod meaning;
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod service;
mod store;
mod stream;
mod wait;

#[cfg(feature = "redis")]
pub use self::redis::{RedisStore, RedisStoreBuilder};
pub use self::{
    future::ResponseFuture,
    key::{ChatKey, Key, TenantTag},
    layer::{Contention, OwnChats, SessionLayer},
    memory::MemoryStore,
    service::Session,
    store::{Found, Grant, Owner, Record, SessionStore, StoreError, StoreFuture},
    stream::SessionStream,
};

/// The hash chain behind [`Key`], for the tests, benches and fuzz targets of this crate. It is no
/// part of the API: it changes without notice.
#[doc(hidden)]
pub mod internals {
    pub use super::key::{ARGUMENTS_LIMIT, AnswerChain, KeyChain};
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

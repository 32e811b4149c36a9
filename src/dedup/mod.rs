//! Send only what a chat has not seen.
//!
//! A chat of chat.qwen.ai refuses a history that it holds already (A7). [`DedupLayer`] goes by two
//! fields of the request, which [`SessionLayer`](crate::session::SessionLayer) sets:
//!
//! - with a [`conversation`](crate::chat::ChatParts::conversation) that has [`seen`](crate::chat::ChatParts::seen) the
//!   first messages, the others are sent, all of them and in order: the results of several tools
//!   and the user's next question are one turn;
//! - without one, everything is sent.
//!
//! No message is dropped silently. Where the two fields and the history do not fit together
//! ([`ReplayCause`]), everything is sent to a new chat. Whether the messages that are left out are
//! those which the chat holds, system prompt included, is for the layer that counted them:
//! `SessionLayer` does not take a history that was changed for one it knows. Instructions among
//! the new messages are sent in their place like any other.
//!
//! The layer awaits nothing and has no stream of its own; on a request without a conversation it
//! costs a few instructions.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error,
//!     chat::{ChatRequest, Conversation, Message, Role},
//!     dedup::DedupLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let service = ServiceBuilder::new().layer(DedupLayer::new()).service(service_fn(
//!     |request: Request<ChatRequest>| async move {
//!         Ok::<_, Error>(Response::new(request.into_body().into_parts().messages))
//!     },
//! ));
//!
//! let mut request = ChatRequest::new(
//!     "qwen3-max",
//!     vec![
//!         Message::new(Role::User, "Hello"),
//!         Message::new(Role::Assistant, "Hi!"),
//!         Message::new(Role::User, "How are you?"),
//!     ],
//! );
//! request.conversation = Some(Conversation::new("c1").with_parent("a1"));
//! request.seen = 2;
//! let sent = service.oneshot(Request::new(request)).await?.into_body();
//! assert_eq!(sent.len(), 1);
//! assert_eq!(sent[0].text(), "How are you?");
//! # Ok(())
//! # }
//! ```
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_dedup_messages_total` | `result`: `left_out` |
//! | `tower_qwen_dedup_replays_total` | `cause`: `shorter`, `nothing_new`, `answer_first` |
//!

mod layer;
mod plan;
mod service;

pub use self::{
    layer::DedupLayer,
    plan::{Plan, ReplayCause},
    service::Dedup,
};

#[cfg(doc)]
use crate::chat::ChatRequest;

//! Send only what a chat has not seen.
//!
//! A chat of chat.qwen.ai refuses a history that it holds already. [`DedupLayer`] goes by two
//! fields of the request, which [`SessionLayer`](crate::session::SessionLayer) sets: the
//! [`destination`](crate::chat::ChatRequest::destination), and how much of the history was
//! [`seen`](crate::chat::History::seen) there.
//!
//! - If the destination is a chat that has seen some of the history, that part is left out. All
//!   that is [`fresh`](crate::chat::History::fresh) is sent, in order: the results of several tools
//!   and the user's next question are one turn.
//! - Otherwise everything is sent.
//!
//! No fresh message is dropped. If nothing is fresh, or if what is fresh begins with an answer,
//! everything is sent to a new chat. Instructions among the fresh messages are sent in their place
//! like any other message.
//!
//! The layer does not check that the chat holds the messages which it leaves out. That is for the
//! layer that counted them: `SessionLayer` does not take a history that was changed for one that it
//! knows.
//!
//! Below the layer nothing counts as seen any more: what is in the history is sent. The layer
//! awaits nothing and has no stream of its own, and a request without a conversation costs it a few
//! instructions.
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
//!         Ok::<_, Error>(Response::new(request.into_body().history))
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
//! request.destination = Conversation::new("c1").with_parent("a1").into();
//! request.history.mark_seen(2);
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
//! | `tower_qwen_dedup_tokens_saved_total` | none; estimated by the lengths of what was left out |
//! | `tower_qwen_dedup_replays_total` | `cause`: `nothing_new`, `answer_first` |

mod layer;
mod plan;
mod service;

pub use self::{layer::DedupLayer, service::Dedup};

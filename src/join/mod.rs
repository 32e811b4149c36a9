//! The same request again, while the first one is still answered: one answer for both.
//!
//! A client whose connection has broken sends its request again, and so does one that has waited for
//! too long. The upstream then makes the answer twice, and both are paid for. Worse, a long answer
//! is never there before the client has lost patience once more. [`JoinLayer`] gives the repeated
//! request the answer that is being made, from its beginning.
//!
//! # What is a repetition
//!
//! The same request, to the last word, of the same [tenant](crate::chat::ChatRequest::tenant), while
//! its answer is being made or for a short time after. Beside that one of these must hold:
//!
//! - The client of the first request is gone. Its answer goes on for some seconds
//!   ([`linger`](JoinLayer::linger)), and who asks in that time has it.
//! - The client says that it has sent it before: `x-stainless-retry-count`, which the official SDKs
//!   send, is above 0. Then the first one is given up, for the answer has one client at a time.
//!
//! Two clients that are there and ask the same get two answers. Without a tenant nothing is joined,
//! for nobody can tell whose answer it is. An answer that failed is not joined either, nor is one
//! that said more than is kept ([`max_kept`](JoinLayer::max_kept)).
//!
//! # Where it stands
//!
//! Right below the edge, outside of everything that a conversation needs: it knows requests and no
//! chats. So the turn that goes on keeps its chat, and the session layer records its answer. An
//! answer that a client knows by an [id](crate::chat::ChatRequest::answer_id) is recorded by that of
//! the first request.
//!
//! ```
//! use std::time::Duration;
//!
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error,
//!     chat::{Answer, ChatEvent, ChatRequest, FinishReason, Message, Role},
//!     join::JoinLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let service = ServiceBuilder::new()
//!     .layer(JoinLayer::new().linger(Duration::from_secs(10)))
//!     .service(service_fn(|_: Request<ChatRequest>| async {
//!         Ok::<_, Error>(Response::new(futures_util::stream::iter([
//!             Ok(ChatEvent::Text("Hi".into())),
//!             Ok(ChatEvent::Finished(FinishReason::Stop)),
//!         ])))
//!     }));
//! let request = ChatRequest::new("qwen3-max", [Message::new(Role::User, "Hello")]);
//! let answer = service.oneshot(Request::new(request)).await?.into_body();
//! assert_eq!(Answer::collect(answer).await?.text, "Hi");
//! # Ok(())
//! # }
//! ```
//!
//! # What it costs
//!
//! A digest of the request, and a copy of what the answer says, up to the limit. An event of an
//! answer takes no lock; one that goes on for nobody is polled by a task of its own.
//!
//! The session hashes the same request, and neither can do with what the other has. A key of the session
//! says what a history means: there is one for each beginning of it, spelling that clients change on the
//! way does not count, and nor do the options of the request. So a client is found again that writes its history
//! in another way. A repetition is the very same request with all its options, for they decide what the
//! answer is. One digest for both would give a request the answer to another temperature, or lose a chat
//! for a blank. So each is made once, by who needs it, and without a tenant neither is.
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_join_joined_total` | `case`: `gone` (the first client), `repeated` (as the client says) |
//! | `tower_qwen_join_lingered_total` | `outcome` of answers that went on and that nobody has asked for again: `complete`, `cancelled`, `failed` |

mod config;
mod digest;
mod future;
mod kept;
mod layer;
mod service;
mod slot;
mod stream;

pub use self::{future::ResponseFuture, layer::JoinLayer, service::Join, stream::JoinStream};

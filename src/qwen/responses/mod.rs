//! The adapter to DashScope's Responses API, an official API that keeps chats.
//!
//! [`QwenResponsesLayer`] makes a chat service of it. An answer there has an id, and a request that
//! names it (`previous_response_id`) goes on from it: so the history need not travel again, as over
//! chat.qwen.ai. With a [`SessionLayer`](crate::session::SessionLayer) and a
//! [`DedupLayer`](crate::dedup::DedupLayer) above, clients that resend everything send only what is
//! new, whatever edge they came by. The facts are in [the reference][facts].
//!
//! [facts]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/edges.md#g
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     FullBody,
//!     chat::{Answer, ChatRequest, Message, Role},
//!     dedup::DedupLayer,
//!     qwen::responses::QwenResponsesLayer,
//!     session::{Contention, MemoryStore, SessionLayer},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! // In place of a `QwenUpstream` with the base URL of the API, `…/compatible-mode/v1`.
//! let upstream = service_fn(|_: Request<FullBody>| async {
//!     Ok::<_, tower_qwen::Error>(
//!         Response::builder()
//!             .header("content-type", "text/event-stream")
//!             .body(FullBody::new(Bytes::from(concat!(
//!                 "data: {\"type\":\"response.created\",\"response\":{\"id\":\"5d\"}}\n\n",
//!                 "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n",
//!                 "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"5d\"}}\n\n",
//!             ))))
//!             .expect("a response"),
//!     )
//! });
//! let qwen = ServiceBuilder::new()
//!     // Several turns may go on from one answer at the same time there.
//!     .layer(SessionLayer::new(MemoryStore::default()).contention(Contention::Share))
//!     .layer(DedupLayer::new())
//!     .layer(QwenResponsesLayer::new())
//!     .service(upstream);
//! let request = ChatRequest::new("qwen-plus", vec![Message::new(Role::User, "Hello")]);
//! let answer = Answer::collect(qwen.oneshot(Request::new(request)).await?.into_body()).await?;
//! assert_eq!(&*answer.text, "Hi");
//! # Ok(())
//! # }
//! ```
//!
//! # What is sent
//!
//! - A chat is known by the id of its first answer, and a place in it by the id of an answer
//!   ([`Conversation`](crate::chat::Conversation)). Upstream keeps them for seven days. An id that it
//!   does not know any more is [`ErrorKind::ConversationLost`](crate::ErrorKind::ConversationLost),
//!   which the session layer answers by sending the whole history.
//! - Instructions are messages, and no `instructions`: those would not be kept. One that comes later
//!   in a chat stands in the user's turn beside it, for models want it first or not at all.
//! - The result of a call stands right behind it, and thinking has a `summary`: upstream refuses a
//!   request where they do not.
//! - `x-dashscope-session-cache: enable` has upstream cache what it keeps, unless
//!   [`session_cache`](QwenResponsesLayer::session_cache) says otherwise.
//! - How much to think is `reasoning.effort`, which has its own words there: a budget becomes the
//!   effort that is next to it. A web search is the upstream's own tool.
//! - What the API has no field for (`stop`, penalties, `seed`, `logprobs`) is for the edge to refuse
//!   or to see to: [`Offer::Responses`](crate::edge::Offer::Responses).
//!
//! # What is repaired
//!
//! An answer whose events hold their text only at the end of an item, or at the end of all, is read
//! from there. Counts that are all zero are none. An event with a name that is not known says
//! nothing, and a stream that ends without its last event is
//! [`ErrorKind::Truncated`](crate::ErrorKind::Truncated). All else is as at the
//! [adapter of compatible servers](crate::qwen::compatible).
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_responses_turns_total` | `chat`: `new`, `continued` |
//! | `tower_qwen_responses_errors_total` | `kind` |
//! | `tower_qwen_responses_repairs_total` | `repair` |

mod config;
mod layer;
mod request;
mod service;
mod stream;
mod translate;
mod wire;

/// The metric of repairs.
const METRIC: &str = "tower_qwen_responses_repairs_total";

pub use self::{layer::QwenResponsesLayer, service::QwenResponses, stream::AnswerStream};

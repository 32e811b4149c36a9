//! An answer that breaks off in the middle of its text is gone on with.
//!
//! A connection breaks while an answer is on its way, or a server stops in the middle of a word. Behind
//! the commit point nothing is repeated, since the client has seen a part. [`ResumeLayer`] asks the same
//! chat to go on with it, finds in the new answer the words that the first broke off with, and gives
//! what comes behind them. The client sees one answer.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error, ErrorKind,
//!     chat::{Answer, ChatEvent, ChatRequest, Conversation, FinishReason, Message, Role},
//!     resume::ResumeLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let service = ServiceBuilder::new().layer(ResumeLayer::new().tries(2)).service(service_fn(
//!     |request: Request<ChatRequest>| async move {
//!         let text = |text: &'static str| Ok(ChatEvent::Text(text.into()));
//!         let place = |answer| Ok(ChatEvent::Started(Conversation::new("c").with_parent(answer).into()));
//!         Ok::<_, Error>(Response::new(futures_util::stream::iter(match request.body().conversation() {
//!             None => vec![
//!                 place("a1"),
//!                 text("It rains in Bergen on two days of th"),
//!                 Err(Error::new(ErrorKind::Truncated, "the connection broke")),
//!             ],
//!             Some(_) => vec![
//!                 place("a2"),
//!                 text("It rains in Bergen on two days of three."),
//!                 Ok(ChatEvent::Finished(FinishReason::Stop)),
//!             ],
//!         })))
//!     },
//! ));
//! let request = ChatRequest::new("qwen3-max", [Message::new(Role::User, "Does it rain?")]);
//! let answer = Answer::collect(service.oneshot(Request::new(request)).await?.into_body()).await?;
//! assert_eq!(answer.text, "It rains in Bergen on two days of three.");
//! // The next turn goes on from where the answer ended.
//! assert_eq!(answer.conversation, Some(Conversation::new("c").with_parent("a2")));
//! # Ok(())
//! # }
//! ```
//!
//! # Which answers are gone on with
//!
//! - The stream broke: it ended without the word that the model has finished
//!   ([`Truncated`](crate::ErrorKind::Truncated)), or the connection failed
//!   ([`Upstream`](crate::ErrorKind::Upstream), and the upstream did not say so itself). A content filter,
//!   an error that the upstream tells, and a limit of time end an answer for good.
//! - Some text was there, and neither a call nor an attachment. Thinking before it is no obstacle.
//! - The answer is in a chat that the upstream keeps, and is known there by an id. For upstreams without
//!   chats [`replay`](ResumeLayer::replay) sends the history again instead, if no tools are on offer.
//! - Where calls are read [in the text](crate::chat::ChatRequest::has_calls_in_text), the text so far has
//!   neither `<` nor `{`, with one of which every call begins. So no call is ever stitched.
//! - Any text will do. An answer in JSON that a grammar holds would begin again.
//! - It has said no more than is kept ([`max_kept`](ResumeLayer::max_kept), 256 KiB by default).
//!
//! # The seam
//!
//! The upstream is asked, in a turn of its own, to begin with the last words that the client has: 64 to
//! 80 bytes, and up to 1,280 where fewer stand in the answer twice. What it says is held back until these
//! words are there, and what comes behind them is the rest. So it does not matter whether the other
//! answer begins at those words, at the beginning of the paragraph, or altogether anew, nor whether it
//! begs pardon first. An answer of less than 32 bytes has to begin anew, with those very bytes.
//!
//! Where the words do not come in as much text as there was, and 2 KiB, or before a call or the end, it
//! is another answer. Nothing proves then that it goes on with ours, not even that it begins in the
//! middle of a sentence, and ours ends with the error that it broke off with. The same holds where the
//! upstream refuses. No more than the words that are looked for is kept of what it says.
//!
//! The reasoning of the other answer is left out. Token counts are those of all that was asked, as far
//! as the upstream told them before it broke. A limit on tokens holds for each answer by itself.
//! [`ChatEvent::Resumed`](crate::chat::ChatEvent::Resumed) stands at the seam where the answer has a
//! new place in its chat, so that [`SessionLayer`](crate::session::SessionLayer) records that, and the
//! whole text with it. A chat that is still busy with what broke off is asked again up to three times, two
//! seconds apart.
//!
//! # Where it stands
//!
//! Below the tools and [`TimeoutLayer`](crate::timeout::TimeoutLayer), above retries and
//! [`AuthRefreshLayer`](crate::auth::AuthRefreshLayer). So the tools read one text, the limit on the whole
//! answer is one, waiting for the rest counts as silence, and the turn that asks for it has a credential and
//! is tried again like any other. What is above, such as the session, sees one answer in one turn.
//!
//! # Cost
//!
//! A request is kept for as long as its answer comes, which is a dozen reference counts and a copy of its
//! headers, and with it the text of the answer up to the limit. An event costs a copy of its text.
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_resume_tries_total` | `outcome`: `resumed`, `other_answer`, `failed` |
//! | `tower_qwen_resume_refused_total` | `cause` of an answer that broke and was not gone on with: `attachment`, `call`, `length`, `no_chat`, `no_text`, `repetition` (no end of it stands in it once), `tools` |

mod ask;
mod config;
mod future;
mod layer;
mod seam;
mod service;
mod stream;
mod thread;

pub use self::{future::ResponseFuture, layer::ResumeLayer, service::Resume, stream::ResumeStream};

//! Limits of time that keep-alives cannot fool.
//!
//! A server that hangs often goes on to say that it is there: with comments, with pings, with deltas
//! that hold nothing. [`TimeoutLayer`] stands in the middle of the stack, where there are no bytes
//! any more but [`ChatEvent`](crate::chat::ChatEvent)s, and counts only those that a client sees.
//!
//! ```
//! use std::time::Duration;
//!
//! use http::Request;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_qwen::{
//!     chat::{ChatRequest, Message, Role},
//!     qwen::web::QwenWebLayer,
//!     timeout::{Elapsed, Limit, TimeoutLayer},
//! };
//! use tower_qwen_emulator::Emulator;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let qwen = ServiceBuilder::new()
//!     .layer(TimeoutLayer::hosted().first_event(Some(Duration::from_secs(30))))
//!     .layer(QwenWebLayer::new())
//!     .service(Emulator::new());
//!
//! // An answer that takes two minutes to begin.
//! let question = Message::new(Role::User, "emulate:wait=120000 Hello");
//! let request = ChatRequest::new("qwen3-max", vec![question]);
//! let error = qwen.oneshot(Request::new(request)).await.expect_err("too slow");
//! assert_eq!(error.status(), http::StatusCode::GATEWAY_TIMEOUT);
//! assert_eq!(Elapsed::of(&error).map(Elapsed::limit), Some(Limit::FirstEvent));
//! # }
//! ```
//!
//! # The limits
//!
//! | limit | what it bounds | what ends the wait | [`hosted`](TimeoutLayer::hosted) | [`local`](TimeoutLayer::local) |
//! | --- | --- | --- | --- | --- |
//! | [`first_event`](TimeoutLayer::first_event) | from the request to the first event of its answer | an event that a client sees | 60 s | 600 s |
//! | [`idle`](TimeoutLayer::idle) | the wait for each event after it | the same | 120 s | 300 s |
//! | [`total`](TimeoutLayer::total) | from the request to the end of the answer | the end | 15 min | 15 min |
//!
//! - Text, thinking, a call, its arguments, a source, a file, and the word that the model has finished are
//!   progress. A name for the answer, token counts, other fields of the server's, and a piece with
//!   nothing in it are none.
//! - Of the first two limits only waiting counts: the time in which nobody asks for the next event does
//!   not, so that a slow client is never taken for a dead upstream. The total is the time that passes
//!   from the first wait, whoever is slow.
//! - The first event is never given up early, nor is the whole; each is noticed as it is due. An idle
//!   answer may be noticed a 64th of the limit later, and in return a wait that is shorter than that
//!   reads no clock.
//! - An image or a video ([`AnswerKind::is_media`](crate::chat::AnswerKind::is_media)) comes in one piece
//!   at the end, so for it there is the limit on the whole alone.
//! - Outside of a tokio runtime there is no clock, and nothing is limited.
//!
//! # What happens at a limit
//!
//! What is below is dropped, which cancels the work of an upstream that can be told so. Before the
//! first event the response future is an error, so that the client gets a real status. After it the
//! last item of the stream is one. Its kind is [`ErrorKind::Timeout`](crate::ErrorKind::Timeout): 504,
//! and in a stream the form of the edge's protocol. Each limit has words of its own, and an [`Elapsed`]
//! as the source. An answer that has finished already is complete, and only ends.
//!
//! Nothing sends such a request again by itself, since the upstream may still be at work on it, and it
//! would be paid for twice: its [`Fate`](crate::Fate) is `Abandoned`, which
//! [`AuthRefreshLayer`](crate::auth::AuthRefreshLayer) and [`RetryPolicy`](crate::retry::RetryPolicy)
//! heed.
//!
//! # Where it stands
//!
//! Right above [`AuthRefreshLayer`](crate::auth::AuthRefreshLayer), or above the adapter where there is
//! none. Inside of the tools, so that text which they hold back is progress as well. Below the
//! session, whose waits for another turn of a chat are no fault of the upstream's. A wait for a
//! credential, and what a retry below it waits, is a part of the limit.
//!
//! The adapters have a limit of their own on silence for stacks without this layer. Under it they have
//! none ([`ChatRequest::is_timed`](crate::chat::ChatRequest::is_timed)), so that there is one limit, the
//! one that was set. The head of an HTTP response is waited for by the client at the bottom
//! ([`first_byte_timeout`][head]): give it as long as the first event has.
//!
//! [head]: crate::qwen::client::QwenUpstreamBuilder::first_byte_timeout
//!
//! # Cost
//!
//! The clock is looked at only while the stream inside has nothing. An event that is ready costs a
//! few comparisons: no clock, no timer, no allocation. A stream that waits has two timers.
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_timeouts_total` | `limit`: `first_event`, `idle`, `total` |

mod elapsed;
mod future;
mod layer;
mod service;
mod stream;
mod watch;

pub use self::{
    elapsed::{Elapsed, Limit},
    future::ResponseFuture,
    layer::TimeoutLayer,
    service::Timeout,
    stream::TimeoutStream,
};

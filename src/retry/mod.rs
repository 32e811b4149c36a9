//! Another try, while nobody has seen anything of the first.
//!
//! [`RetryPolicy`] is a policy for tower's [`RetryLayer`](tower::retry::RetryLayer). What that layer sees
//! is the way to the [commit point](crate#what-is-promised): an answer that has begun is never asked for
//! again.
//!
//! ```
//! use http::Request;
//! use tower::{ServiceBuilder, ServiceExt, retry::RetryLayer};
//! use tower_qwen::{
//!     chat::{Answer, ChatRequest, Message, Role},
//!     qwen::compatible::{CompatibleLayer, Server},
//!     retry::RetryPolicy,
//!     timeout::TimeoutLayer,
//! };
//! use tower_qwen_emulator::{Emulator, Kind};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! let server = Emulator::builder().kind(Kind::Vllm).build();
//! let chat = ServiceBuilder::new()
//!     .layer(TimeoutLayer::local())
//!     .layer(RetryLayer::new(RetryPolicy::new()))
//!     .layer(CompatibleLayer::new(Server::Vllm))
//!     .service(server.clone());
//!
//! // It is still loading when it is asked first.
//! let question = Message::new(Role::User, "emulate:loading emulate:times=1");
//! let request = ChatRequest::new("Qwen/Qwen3-32B", vec![question]);
//! let answer = Answer::collect(chat.oneshot(Request::new(request)).await?.into_body()).await?;
//! assert!(!answer.text.is_empty());
//! assert_eq!(server.requests().len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # What is tried again
//!
//! | failure | again | after |
//! | --- | --- | --- |
//! | too much in a short time (429) | yes | what the upstream says, else a pause |
//! | overloaded, still loading, every account cooling down (503, 529) | yes | the same |
//! | the chat is busy with another turn | yes, unless [`busy`](RetryPolicy::busy) is off | the same |
//! | the upstream answered that it failed (500, 502), also in an event before the first of the answer | yes | a pause |
//! | nothing was [sent](crate::Fate::Unsent): the upstream could not be reached | yes | a pause |
//! | the connection broke behind the request | no: it may be at work, and is paid | |
//! | too slow, by a limit on this side | no, the same | |
//! | too slow, as the upstream says (504) | no, but [once in one piece](RetryPolicy::whole_after_timeout), if that is on | at once |
//! | a refused or used-up credential | no: [`AuthRefreshLayer`](crate::auth::AuthRefreshLayer) sees to it | |
//! | a challenge, and whatever is the request's own fault | no | |
//!
//! - What the upstream says is `Retry-After`, as seconds or as a date, or `retry-after-ms`; the adapters
//!   read all of them ([`Error::retry_after`](crate::Error::retry_after)). No try comes earlier. Where
//!   it is longer than [`longest`](RetryPolicy::longest), the error goes to the client at once, with
//!   the time in it.
//! - A pause is 1 s before the second try and twice as long before each further one, times a random
//!   number between a half and one and a half, so that clients that failed together do not come
//!   back together. To what the upstream says up to one pause is added.
//! - Over an HTTP service, which takes `Request<FullBody>`, it goes by the head of the response alone: 500,
//!   502, 503 and 529, and a 429 that says when. The last response is the client's, as it came.
//! - All requests of a layer share a [budget](RetryPolicy::budget): a fifth as many more tries as there
//!   are answers, and one a second besides. An upstream that is down is not asked three times as often.
//!
//! # Where it stands
//!
//! Between [`TimeoutLayer`](crate::timeout::TimeoutLayer), whose limits then hold for all tries
//! together, and [`AuthRefreshLayer`](crate::auth::AuthRefreshLayer), which takes another account for
//! the next try where one was limited. Under a [`SessionLayer`](crate::session::SessionLayer) turn
//! [`busy`](RetryPolicy::busy) off: the session waits for a busy chat itself, and knows what to do then.
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_retries_total` | `cause`: `rate_limited`, `overloaded`, `busy`, `upstream`, `unsent`, `stream_timeout` (asked for in one piece); `result`: `again`, `too_often` (no try was left), `over_budget`, `too_long` (the wait) |

mod http;
mod policy;
mod wait;

pub use self::{policy::RetryPolicy, wait::Wait};

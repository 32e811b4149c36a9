//! Streams that end in good order when the server has to.
//!
//! A server that stops waits for what is under way, and not for ever: an answer may take minutes.
//! Where its connections are cut then, a client sees a broken pipe, or, worse, an answer that looks
//! whole. [`ShutdownLayer`] has every answer end with an error instead, which the edge writes in its
//! own protocol, as it does any other that comes in the middle of a stream.
//!
//! ```
//! use futures_util::StreamExt;
//! use http::Request;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_qwen::{
//!     chat::{ChatRequest, Message, Role},
//!     qwen::web::QwenWebLayer,
//!     shutdown::{ShutdownHandle, ShutdownLayer},
//! };
//! use tower_qwen_emulator::Emulator;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! let shutdown = ShutdownHandle::new();
//! let qwen = ServiceBuilder::new()
//!     .layer(ShutdownLayer::new(shutdown.clone()))
//!     .layer(QwenWebLayer::new())
//!     .service(Emulator::new());
//!
//! // An answer whose words come a minute apart.
//! let question = Message::new(Role::User, "emulate:slow=60000 emulate:say=One two three");
//! let request = ChatRequest::new("qwen3-max", vec![question]);
//! let mut events = qwen.clone().oneshot(Request::new(request.clone())).await?.into_body();
//! assert!(events.next().await.is_some_and(|event| event.is_ok()));
//!
//! // The server has waited for as long as it may.
//! shutdown.shut_down();
//! let last = events.next().await.expect("it is told");
//! assert_eq!(last.expect_err("it is cut").status(), http::StatusCode::SERVICE_UNAVAILABLE);
//! assert!(events.next().await.is_none());
//!
//! // Nobody is asked any more.
//! assert!(qwen.oneshot(Request::new(request)).await.is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # How a server stops with it
//!
//! 1. It takes no more connections, and lets those that are open end with what they have under way.
//!    hyper calls that graceful shutdown.
//! 2. It waits until they have, up to a limit of its own.
//! 3. It calls [`ShutdownHandle::shut_down`]. Each answer that is not complete ends with an error, and
//!    its connection behind it.
//! 4. It waits for [`ShutdownHandle::settled`], so that an upstream that has to be told to stop has
//!    been told, gives the clients a moment to read, and ends.
//!
//! # What happens to an answer
//!
//! What is below the layer is dropped, which cancels the work of an upstream that can be told so.
//! Before the first event the response future is an error, so that the client gets a real status;
//! after it the last item of the stream is one. Its kind is
//! [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded): 503, which both official SDKs repeat, so
//! that another server may answer. Its [`Fate`](crate::Fate) is `Abandoned`, or `Unsent` for a request
//! that came later. An answer that has finished already is complete, and only ends.
//!
//! # Where it stands
//!
//! Right below the edge, or below `JoinLayer` where there is one: above that the answer would go on for
//! a client that is thought to be gone. Above `FallbackLayer`, which would ask the next upstream.
//!
//! What has no stream of events waits for [`ShutdownHandle::asked`].
//!
//! # Cost
//!
//! An event costs a load of a flag. A stream that waits for the first time is put on a list of those
//! to wake, for which something is allocated. No clock is read.
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_shutdown_cut_total` | `at`: `request` (it came too late), `wait` (for the first event), `stream` |

mod cut;
mod future;
mod handle;
mod layer;
mod service;
mod stream;

pub use self::{
    future::ResponseFuture,
    handle::{Asked, ShutdownHandle},
    layer::ShutdownLayer,
    service::Shutdown,
    stream::ShutdownStream,
};

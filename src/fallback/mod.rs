//! Another upstream where one cannot answer.
//!
//! [`FallbackLayer`] stands over a whole stack, and knows others. A request goes to the first that is
//! well. Where that fails before the commit point, the next one gets it: the client sees one answer,
//! and no error as long as anybody can give one. Nothing is asked a second time, and nothing at all
//! after the first event of an answer.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error, ErrorKind,
//!     chat::{Answer, ChatEvent, ChatRequest, FinishReason, Message, Role},
//!     fallback::FallbackLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! // Each is a stack of its own, with its own session, dedup and adapter.
//! let local = service_fn(|_: Request<ChatRequest>| async {
//!     Err::<Response<futures_util::stream::Empty<_>>, _>(Error::new(ErrorKind::Upstream, "down"))
//! });
//! let dashscope = service_fn(|_: Request<ChatRequest>| async {
//!     Ok::<_, Error>(Response::new(futures_util::stream::iter([
//!         Ok(ChatEvent::Text("Hi".into())),
//!         Ok(ChatEvent::Finished(FinishReason::Stop)),
//!     ])))
//! });
//! let service = ServiceBuilder::new()
//!     .layer(FallbackLayer::new("local").to("dashscope", dashscope))
//!     .service(local);
//! let request = ChatRequest::new("qwen-plus", [Message::new(Role::User, "Hello")]);
//! let response = service.oneshot(Request::new(request)).await?;
//! assert_eq!(response.headers()["x-qwen-upstream"], "dashscope");
//! assert_eq!(Answer::collect(response.into_body()).await?.text, "Hi");
//! # Ok(())
//! # }
//! ```
//!
//! # When another is asked
//!
//! - Where the error says that it is the upstream that cannot: it is out of reach, fails, is too slow,
//!   overloaded, limited, without quota or without a credential that is good.
//!   [`when`](FallbackLayer::when) says it in another way. What is wrong with the request is wrong
//!   everywhere, and is told at once.
//! - Where the first event is not there in time ([`first_event`](FallbackLayer::first_event)). The
//!   request is then cancelled where it was.
//! - Where an upstream has failed several times in a row it is not asked for a while
//!   ([`breaking`](FallbackLayer::breaking)). Then one request finds out whether it is back.
//!
//! A turn that goes on in a chat which the client named, or from an answer that it named, goes to the
//! first stack alone: no other has that chat.
//!
//! # Where it stands
//!
//! Outside of the session: each stack has one of its own. A stand-in gets the whole history, for it
//! knows nothing of the conversation. When the first upstream is back, its session finds the longest
//! part of the history that its chat has seen, and it is sent the rest. Where stacks share a store of
//! sessions, each needs a [scope](crate::session::SessionLayer::scope), so that none finds another's
//! chat.
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_fallback_total` | `from`, `to`: the names of the stacks; `cause`: `error`, `late`, `paused` |
//! | `tower_qwen_fallback_circuit_total` | `upstream`; `state`: `open`, `closed` |
//!
//! The response says who answers in `x-qwen-upstream`.

mod breaker;
mod config;
mod future;
mod layer;
mod service;
mod stream;

pub use self::{
    breaker::Breaking, layer::FallbackLayer, service::Fallback, stream::FallbackStream,
};

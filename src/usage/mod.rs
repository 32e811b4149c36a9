//! What an answer has cost, told once.
//!
//! Whoever lets other people use an upstream wants to know who used what. An upstream says how many
//! tokens an answer took, at its end; but an answer may break off, and its client may leave before
//! that. [`UsageLayer`] settles every request exactly once, however it ends: with what the upstream
//! counted, or with an estimate where it did not get to say.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use http::Request;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_qwen::{
//!     chat::{Answer, ChatRequest, FinishReason, Message, Role},
//!     qwen::web::QwenWebLayer,
//!     usage::{Counted, Outcome, Settlement, UsageLayer},
//! };
//! use tower_qwen_emulator::Emulator;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! let settled = Arc::new(Mutex::new(Vec::new()));
//! let book = Arc::clone(&settled);
//! let qwen = ServiceBuilder::new()
//!     .layer(UsageLayer::new(move |settlement: Settlement| {
//!         book.lock().expect("nobody panics here").push(settlement);
//!     }))
//!     .layer(QwenWebLayer::new())
//!     .service(Emulator::new());
//!
//! let request = ChatRequest::new("qwen3-max", [Message::new(Role::User, "Hello")]);
//! let answer = Answer::collect(qwen.oneshot(Request::new(request)).await?.into_body()).await?;
//!
//! let settled = settled.lock().expect("nobody panics here");
//! assert_eq!(settled.len(), 1);
//! assert_eq!(settled[0].outcome, Outcome::Finished(FinishReason::Stop));
//! assert_eq!(settled[0].counted, Counted::Upstream);
//! assert_eq!(Some(settled[0].usage), answer.usage);
//! # Ok(())
//! # }
//! ```
//!
//! # What is told, and when
//!
//! | how it ends | [`outcome`](Settlement::outcome) | told | tokens |
//! | --- | --- | --- | --- |
//! | with a finish reason | [`Finished`](Outcome::Finished) | at the end of the stream, or when it is dropped behind the finish reason | the upstream's count, else an estimate |
//! | before the first event, with an error | [`Failed`](Outcome::Failed) | before the error is given | none; an estimate of the prompt where the upstream [may still be at work](crate::Fate::Abandoned) |
//! | later, with an error | [`Failed`](Outcome::Failed) | before the error is given | the upstream's count so far, else an estimate |
//! | the response future or the stream is dropped | [`Gone`](Outcome::Gone) | in the drop | the same |
//!
//! Whatever was polled and dropped in whichever order, a request that was called is settled once. One
//! whose `call` was never made is not.
//!
//! An estimate goes by the lengths of texts, without reading them: of the request at the call, of the
//! answer as it passes. The layer learns from the upstream's counts how many tokens a model makes of
//! such lengths, and corrects its estimates by that
//! ([`TokenEstimator`](crate::tokens::TokenEstimator)). They err to the large side.
//!
//! # Where it stands
//!
//! Right below [`JoinLayer`](crate::join::JoinLayer), or below the edge where there is none. There it
//! sees what is paid for: a repeated request that gets the answer which is being made is not asked
//! again, so it is not settled again; and an answer that goes on for a while after its client has left
//! is settled when that is over, with all that it took. Outside of it a client could leave before the
//! end, repeat its request, and have an answer for the price of its beginning.
//!
//! What is below is part of one request: attempts that fail before the commit point cost what their
//! upstreams say, which is nothing. The name of a stand-in that has answered is in
//! [`upstream`](Settlement::upstream); the model is the one that this layer was asked for, so under an
//! alias it is the client's word.
//!
//! What is no chat, such as a stream that is passed on byte by byte, is settled with a [`Meter`].
//!
//! # Cost
//!
//! An event costs a few comparisons and additions: no clock, no lock, no allocation. A request costs
//! three readings of the clock (at the call, at the first event that a client sees, at the end), a look
//! at the length of each of its messages, and a few short locks at its end.
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_usage_settled_total` | `outcome`: `finished`, `failed`, `gone`; `counted`: `upstream`, `estimated`, `nothing` |
//! | `tower_qwen_usage_tokens_total` | `kind`: `prompt`, `completion`; `counted`: the same |

mod future;
mod layer;
mod meter;
mod service;
mod settlement;
mod stream;

pub use self::{
    future::ResponseFuture,
    layer::UsageLayer,
    meter::Meter,
    service::UsageService,
    settlement::{Counted, Outcome, Settlement},
    stream::UsageStream,
};

//! What streams through a place in the stack, in the log: what comes, how large it is, and when.
//!
//! "It is slow", "it stops in the middle" and "half of the call is missing" are questions about one stream at
//! one place. [`InspectLayer`] stands at a place that it is given a name for, and tells of every event
//! that passes there. It fits everywhere: between any two layers, over the HTTP client, around the edge.
//! With several of them, under one request, the log shows where an event was lost or held up.
//!
//! ```
//! use http::Request;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_qwen::{
//!     chat::{Answer, ChatRequest, Message, Role},
//!     inspect::{InspectLayer, View},
//!     qwen::web::QwenWebLayer,
//!     timeout::TimeoutLayer,
//! };
//! use tower_qwen_emulator::Emulator;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! let qwen = ServiceBuilder::new()
//!     .layer(InspectLayer::new("stack"))
//!     .layer(TimeoutLayer::hosted())
//!     .layer(InspectLayer::new("adapter"))
//!     .layer(QwenWebLayer::new())
//!     // The bytes, and what they are as events.
//!     .layer(InspectLayer::new("upstream").view(View::Content))
//!     .service(Emulator::new());
//! let request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
//! let answer = Answer::collect(qwen.oneshot(Request::new(request)).await?.into_body()).await?;
//! # assert!(!answer.text.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # When it tells
//!
//! All is told at level TRACE with the target [`TARGET`], so a filter such as `info,tower_qwen::stream=trace`
//! switches it on. Whether anybody listens is asked once a request. [`View`] says how much is told, for
//! [all](InspectLayer::view) requests or for [each](InspectLayer::view_by) by its extensions, so that
//! one request can be looked at on a server that is busy with many.
//!
//! # What it tells
//!
//! | field | what it is |
//! | --- | --- |
//! | `place` | the name of the layer |
//! | `n` | how many things were told of this stream before |
//! | `kind` | what it is: see below |
//! | `bytes` | how large it is: a text, the data of an event, a piece of a body |
//! | `at_us` | microseconds from the call |
//! | `gap_us` | microseconds from what was told before it |
//! | `detail` | what it says that is nobody's words: a status, a finish reason, token counts, the kind of an error, the index of a call |
//! | `content` | the words, only with [`View::Content`]: up to 16 KiB of them |
//!
//! | `kind` | where | when |
//! | --- | --- | --- |
//! | `request` | everywhere | the request goes in |
//! | `head` | everywhere | the response is there |
//! | `failed` | everywhere | there is no response |
//! | `started`, `text`, `reasoning`, `reasoning_signature`, `tool_call`, `tool_arguments`, `attachment`, `citation`, `server_fields`, `choice_fields`, `usage`, `finished` | between layers | a [`ChatEvent`](crate::chat::ChatEvent) of that name |
//! | `piece` | over a body | bytes have come |
//! | `event` | over a body that is an event stream | an event in them is complete; of its data the piece before tells |
//! | `undecodable` | the same | the bytes are no event stream, and are told of as pieces alone from now on |
//! | `trailers` | over a body | trailers have come |
//! | `error` | everywhere | the answer fails |
//! | `end` | everywhere | the answer has ended |
//! | `dropped` | everywhere | nobody reads on: the client has gone, or a layer has seen enough |
//!
//! # What it never tells
//!
//! Of a request nothing but that it was made: no header, no body. Of a response no header but its status,
//! and where the HTTP client says which credential it has sent, that is masked in the content. What a
//! client and a model say to each other may be a secret too: with [`View::Content`] the log is as
//! confidential as they are.
//!
//! # Cost
//!
//! Where nobody listens: one look at a flag for a request, and one for an event; nothing is allocated, and no clock
//! is read. Where somebody does, it is for finding a fault, and costs what a line of the log costs for each
//! event.

mod future;
mod layer;
mod service;
mod stream;
mod teller;
mod view;

pub use self::{
    future::ResponseFuture,
    layer::InspectLayer,
    service::Inspect,
    stream::Inspected,
    view::{TARGET, View},
};

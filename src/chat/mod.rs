//! The vocabulary that the layers of the middle share.
//!
//! The *middle* is everything between an edge, which speaks a client's protocol, and an adapter,
//! which speaks an upstream's. There a request is an [`http::Request<ChatRequest>`](ChatRequest),
//! and a response is an [`http::Response`] whose body is a [`ChatStream`]: a stream of
//! [`ChatEvent`]s. The `http` envelope stays around both. So headers and extensions go along, and
//! every tower or tower-http layer that leaves bodies alone fits between the layers of this crate.
//!
//! A service of the middle that answers every request with one word:
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error,
//!     chat::{Answer, ChatEvent, ChatRequest, FinishReason, Message, Role},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let service = ServiceBuilder::new()
//!     .concurrency_limit(64)
//!     .service(service_fn(|_request: Request<ChatRequest>| async {
//!         Ok::<_, Error>(Response::new(futures_util::stream::iter([
//!             Ok(ChatEvent::Text("Hi".into())),
//!             Ok(ChatEvent::Finished(FinishReason::Stop)),
//!         ])))
//!     }));
//!
//! let request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
//! let response = service.oneshot(Request::new(request)).await?;
//! assert_eq!(Answer::collect(response.into_body()).await?.text, "Hi");
//! # Ok(())
//! # }
//! ```
//!
//! [`ChatEvent`] says what a stream of events must look like. In the tests of a layer of your own
//! [`ChatStreamExt::checked`] holds it to that.

mod answer;
mod contract;
mod ending;
mod event;
mod future;
mod history;
mod json;
mod kind;
mod media;
mod message;
mod request;
mod service;
#[cfg(any(
    feature = "compatible",
    feature = "edge",
    feature = "join",
    feature = "retry",
    feature = "session",
    feature = "tool-call",
    feature = "web"
))]
#[cfg_attr(
    not(any(
        feature = "compatible",
        feature = "join",
        feature = "retry",
        feature = "session",
        feature = "tool-call",
        feature = "web"
    )),
    allow(dead_code, reason = "the edge alone asks only how large a body is")
)]
mod size;
mod stream;
mod upload;

pub(crate) use self::ending::Ending;
#[cfg(any(feature = "compatible", feature = "edge", feature = "web"))]
#[allow(unused_imports, reason = "the feature `edge` alone has no edge")]
pub(crate) use self::json::Fields;
#[cfg(any(
    feature = "compatible",
    feature = "edge",
    feature = "join",
    feature = "retry",
    feature = "session",
    feature = "tool-call",
    feature = "web"
))]
pub(crate) use self::size::exceeds;
#[cfg(any(feature = "compatible", feature = "edge", feature = "resume", feature = "web"))]
#[allow(unused_imports, reason = "the feature `edge` alone has no edge")]
pub(crate) use self::stream::truncated;
pub use self::{
    answer::{ANSWER_LIMIT, Answer, Collect},
    contract::{ChatStreamExt, Checked, Contract, Violation},
    event::{Attachment, AttachmentKind, ChatEvent, Citation, FinishReason, Started, Usage},
    future::ResponseFuture,
    history::{History, Messages},
    json::{Extra, Json},
    kind::AnswerKind,
    media::{MediaOptions, MediaSize},
    message::{Content, FunctionTool, Message, Part, PartKind, Role, Tool, ToolCall, ToolChoice},
    request::{
        ChatRequest, Conversation, Destination, ReasoningEffort, ReasoningOptions, ResponseFormat,
        Sampling, Tenant,
    },
    service::ChatService,
    stream::ChatStream,
    upload::{FileKind, UploadedFile},
};

//! The edge of the stack: the OpenAI chat completions API over a chat service.
//!
//! [`OpenAiLayer`] makes an ordinary HTTP service (`Error = Infallible`) of a service of the
//! [middle](crate::chat). It reads the request once ([`decode`]) and writes the answer once. A
//! streamed answer and a whole one are made of the same events.
//!
//! Every error is an OpenAI error object with a status of its own. Where the response has begun,
//! the error is written into the stream. What clients rely on is in [the reference][wire].
//!
//! [wire]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#d
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error, FullBody,
//!     chat::{ChatEvent, ChatRequest, FinishReason},
//!     openai::OpenAiLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ServiceBuilder::new().layer(OpenAiLayer::new()).service(service_fn(
//!     |request: Request<ChatRequest>| async move {
//!         let said = request.body().history[0].text();
//!         Ok::<_, Error>(Response::new(futures_util::stream::iter([
//!             Ok(ChatEvent::Text(said)),
//!             Ok(ChatEvent::Finished(FinishReason::Stop)),
//!         ])))
//!     },
//! ));
//!
//! let request = Request::post("/v1/chat/completions").body(FullBody::new(Bytes::from(
//!     r#"{"model":"echo","messages":[{"role":"user","content":"Hello"}]}"#,
//! )))?;
//! let body = service.oneshot(request).await?.into_body().collect().await?.to_bytes();
//! assert!(body.windows(17).any(|part| part == br#""content":"Hello""#));
//! # Ok(())
//! # }
//! ```
//!
//! More edges stand beside it: [`CompletionsLayer`](completions) speaks the API that was there
//! before chats, over the same services, and [`EmbeddingsLayer`](embeddings) serves embeddings of an OpenAI-compatible server.
#![cfg_attr(
    feature = "media",
    doc = "[`MediaLayer`](media) and [`VideosLayer`](videos) serve images and videos, over services that make some."
)]
//!
//! # Extensions
//!
//! Thinking is `reasoning_content`, in deltas and in messages. Where the upstream keeps chats, the
//! first chunk or the whole answer has `qwen_chat_id` and `qwen_parent_id`. A client that sends
//! them back goes on in that chat.
//!
//! What becomes of the client's credentials, of large requests and of silence, and what is counted,
//! is the same for every [edge](crate::edge).

pub mod completions;
mod decode;
pub mod embeddings;
mod encode;
mod error;
#[cfg(feature = "media")]
mod form;
mod layer;
#[cfg(feature = "media")]
#[cfg_attr(docsrs, doc(cfg(feature = "media")))]
pub mod media;
mod protocol;
#[cfg(feature = "media")]
#[cfg_attr(docsrs, doc(cfg(feature = "media")))]
pub mod videos;
mod wire;

pub use self::{
    decode::{Decoded, decode, decode_within},
    error::error_response,
    layer::{OpenAi, OpenAiLayer},
    protocol::{OpenAiBody, ResponseFuture},
};

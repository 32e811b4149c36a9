//! The edge of the stack: the OpenAI chat completions API over a chat service.
//!
//! [`OpenAiLayer`] makes an ordinary HTTP service (`Error = Infallible`) of a service of the
//! middle. It reads the request once ([`decode`]) and writes the answer once; streamed and whole
//! answers come from the same events. Every error is an OpenAI error object with the right
//! status; after the response was begun it is written into the stream (qwen-wire.md D1–D6).
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
//! [`CompletionsLayer`](completions) speaks the API before chats over the same services, and
//! [`EmbeddingsLayer`](embeddings) embeds over an OpenAI-compatible server.
//!
//! # What becomes of the client's credentials
//!
//! `authorization`, `x-api-key`, `api-key`, `proxy-authorization` and `cookie` are for this edge
//! and end here: the layers below never see them. Whose request it is they learn from its
//! [`tenant`](crate::chat::ChatRequest::tenant): unless the edge is told
//! [otherwise](OpenAiLayer::tenant), a digest of the key, and none where the client presents
//! none. Checking the key is left to a layer outside.
//!
//! All other headers, and the extensions of the [`http::Request`], go on to the layers below.
//!
//! # Extensions
//!
//! Thinking is `reasoning_content` in deltas and messages. `qwen_chat_id` and `qwen_parent_id`
//! stand in the first chunk, or in the whole answer, where the upstream keeps chats; a client
//! that sends them back goes on there.
//!
//! # Large requests
//!
//! A body of 256 KiB or more is decoded by tokio's `spawn_blocking`, so that others are served
//! meanwhile. Half of the cores work on large requests at a time, at least one, in this layer and
//! those below it that look at whole histories: the session, the tools and the adapters. A smaller
//! body is decoded where it was read, which needs no runtime; so is a large one outside of a runtime
//! of tokio.
//!
//! # Metrics
//!
//! `tower_qwen_large_requests_total` with `work` (`decode`, and in the layers below `session`, `tools`,
//! `encode`): what was done off the runtime's threads.
//!
//! `tower_qwen_openai_answers_total` with `mode` (`stream`, `whole`, `embeddings`) and `outcome` (`complete`,
//! `abandoned`, `truncated`, `refused`, `auth`, `limited`, `challenge`, `timeout`, `upstream`,
//! `internal`): one for every request that reached the inner service. `tower_qwen_openai_slow_bodies_total`: bodies that
//! came [too slowly](BodyPace).
//!
//! `tower_qwen_openai_bodies_waited_total` and `tower_qwen_openai_bodies_refused_total`: how often a
//! body had to wait for room in a [`BodyBudget`], and how often there was none in time.

mod body;
mod budget;
pub mod completions;
mod decode;
pub mod embeddings;
mod encode;
mod error;
mod future;
mod layer;
mod limits;
mod metrics;
mod model;
mod offer;
mod pace;
mod parse;
mod read;
mod service;
mod shaped;
mod wire;

pub use self::{
    body::OpenAiBody,
    budget::{BodyBudget, Budgeted, BudgetedBody},
    decode::{Decoded, decode, decode_within},
    error::error_response,
    future::ResponseFuture,
    layer::OpenAiLayer,
    limits::Limits,
    model::{MAX_MODEL_LEN, model},
    offer::Offer,
    pace::BodyPace,
    read::read_body,
    service::{OpenAi, tenant},
};

//! The edge for embeddings: OpenAI's `POST /v1/embeddings` over an OpenAI-compatible server.
//!
//! [`EmbeddingsLayer`] makes an HTTP service (`Error = Infallible`) of the HTTP service that
//! reaches the upstream. There is nothing of a chat in it, so no layer of the middle stands
//! between; an `AuthRefreshLayer` may, since each request of a batch is an ordinary HTTP request.
//!
#![cfg_attr(feature = "compatible", doc = "```")]
#![cfg_attr(not(feature = "compatible"), doc = "```ignore")]
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{FullBody, openai::embeddings::EmbeddingsLayer, qwen::compatible::Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ServiceBuilder::new()
//!     .layer(EmbeddingsLayer::new(Server::DashScope))
//!     // In place of a `QwenUpstream` with the base URL of the server.
//!     .service(service_fn(|_: Request<FullBody>| async {
//!         Response::builder().body(FullBody::from(
//!             r#"{"data":[{"index":0,"embedding":[0.5,-2]}],"usage":{"total_tokens":1}}"#,
//!         ))
//!     }));
//!
//! // DashScope knows only lists of numbers; this is what the official SDKs ask for.
//! let request = Request::post("/v1/embeddings").body(FullBody::new(Bytes::from(
//!     r#"{"model":"text-embedding-v4","input":"Hello","encoding_format":"base64"}"#,
//! )))?;
//! let body = service.oneshot(request).await?.into_body().collect().await?.to_bytes();
//! assert!(body.starts_with(
//!     br#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AAAAPwAAAMA="}]"#
//! ));
//! # Ok(())
//! # }
//! ```
//!
//! # What it does
//!
//! - **Inputs** are a string, strings, tokens or lists of tokens. More than the server takes
//!   at once are sent in batches (10 for DashScope, 25 for its models v1 and v2), a few at a
//!   time, and the answers merged in order: `index` counts through, `usage` is the sum.
//! - **Encoding**: floats or base64 of little-endian `f32`, whichever the client asks for,
//!   whatever the server gives. Floats from a server that gives floats pass digit by digit.
//! - **Repairs**: items that came out of order are put in order, and `index` counts from 0 without
//!   gaps; `usage` always has both counts; `model` is the name that the client asked for.
//! - **Everything else** that the request says, `dimensions` and `user` included, is passed on.
//! - **Errors** are OpenAI error objects. Those of the upstream keep their meaning. One
//!   failed batch fails the request, and the others under way are given up. Where the upstream
//!   has no embeddings, the error says who has; [`NoEmbeddings`] says so without asking.
//!
//! Of the client's headers the upstream gets those that [travel](crate::qwen#headers); its
//! credentials end here, as those of a chat do. Nothing is retried and nothing is cached.
//!
//! # Memory
//!
//! The request's body, the requests and answers under way, at most
//! [`concurrency`](EmbeddingsLayer::concurrency) of each, and the answer as it is put together.
//!
//! # Metrics
//!
//! `tower_qwen_openai_answers_total` with `mode` `embeddings` and the outcomes of the
//! [chat edge](super); `tower_qwen_openai_embedding_batches_total`, requests to the upstream.

#[cfg(feature = "compatible")]
mod answer;
#[cfg(feature = "compatible")]
mod future;
#[cfg(feature = "compatible")]
mod layer;
mod none;
#[cfg(feature = "compatible")]
mod request;
#[cfg(feature = "compatible")]
mod service;

pub use self::none::NoEmbeddings;
#[cfg(feature = "compatible")]
#[cfg_attr(docsrs, doc(cfg(feature = "compatible")))]
pub use self::{future::ResponseFuture, layer::EmbeddingsLayer, service::Embeddings};

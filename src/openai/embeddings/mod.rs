//! The edge for embeddings: OpenAI's `POST /v1/embeddings` over an OpenAI-compatible server.
//!
//! [`EmbeddingsLayer`] makes an HTTP service (`Error = Infallible`) of the HTTP service that reaches
//! the upstream. No layer of the middle stands between, because there is no chat. An
//! `AuthRefreshLayer` may stand between, because each batch is an ordinary HTTP request.
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
//! - **Inputs** are a string, strings, tokens or lists of tokens. If there are more than the server
//!   takes at once (10 for DashScope, 25 for its models v1 and v2), they are sent in batches, a few
//!   at a time. The answers are merged in order: `index` counts through, and `usage` is the sum.
//! - **The encoding** is what the client asks for, floats or base64 of little-endian `f32`,
//!   whatever the server gives. Where both are floats, they pass digit by digit.
//! - **Repairs**: items that came out of order are put in order, and `index` counts from 0 without
//!   gaps. `usage` always has both counts. `model` is the name that the client asked for.
//! - **Everything else** that the request says is passed on, `dimensions` and `user` included.
//! - **Errors** are OpenAI error objects. Those of the upstream keep their meaning. One failed
//!   batch fails the request, and the others under way are given up. Where the upstream has no
//!   embeddings, the error says who has; [`NoEmbeddings`] says so without asking.
//!
//! The upstream gets those of the client's headers that [travel](crate::qwen#headers), and none of
//! its credentials. Nothing is retried and nothing is cached.
//!
//! # Memory
//!
//! A request takes its body, the batches and their answers under way, at most
//! [`concurrency`](EmbeddingsLayer::concurrency) of each, and the answer that is put together.
//!
//! # Metrics
//!
//! `tower_qwen_answers_total` with `edge` `embeddings` and the outcomes of the
//! [chat edge](super); `tower_qwen_embedding_batches_total`, requests to the upstream.

#[cfg(feature = "compatible")]
mod answer;
#[cfg(feature = "compatible")]
mod config;
#[cfg(feature = "compatible")]
mod encoded;
#[cfg(feature = "compatible")]
mod form;
#[cfg(feature = "compatible")]
mod future;
#[cfg(feature = "compatible")]
mod layer;
#[cfg(feature = "compatible")]
mod macros;
mod none;
#[cfg(feature = "compatible")]
mod request;

#[cfg(feature = "compatible")]
pub(crate) use self::config::Config;
pub use self::none::NoEmbeddings;
#[cfg(all(feature = "compatible", feature = "ollama"))]
pub(crate) use self::{
    encoded::Encoded, form::Form, macros::embeddings, request::EmbeddingsRequest,
};
#[cfg(feature = "compatible")]
#[cfg_attr(docsrs, doc(cfg(feature = "compatible")))]
pub use self::{
    future::ResponseFuture,
    layer::{Embeddings, EmbeddingsLayer},
};

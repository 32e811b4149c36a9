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
//! Two more edges stand beside it: [`CompletionsLayer`](completions) speaks the API that was there
//! before chats, over the same services, and [`EmbeddingsLayer`](embeddings) serves embeddings of
//! an OpenAI-compatible server.
//!
//! # What becomes of the client's credentials
//!
//! `authorization`, `x-api-key`, `api-key`, `proxy-authorization` and `cookie` are for this edge:
//! the layers below never see them. They learn whose request it is from its
//! [`tenant`](crate::chat::ChatRequest::tenant). By default that is a digest of the key that the
//! client presents, and `None` where it presents none; [`OpenAiLayer::tenant`] sets another. The
//! edge does not check the key: that is for a layer outside of it.
//!
//! All other headers, and the extensions of the [`http::Request`], go on to the layers below.
//!
//! # Extensions
//!
//! Thinking is `reasoning_content`, in deltas and in messages. Where the upstream keeps chats, the
//! first chunk or the whole answer has `qwen_chat_id` and `qwen_parent_id`. A client that sends
//! them back goes on in that chat.
//!
//! # Large requests
//!
//! A body of 256 KiB or more is decoded by tokio's `spawn_blocking`, so that others are served
//! meanwhile. So is the work of those layers below that look at whole histories: the session, the
//! tools and the adapters. Half of the cores work on large requests at a time, and at least one. A
//! smaller body is decoded where it was read, and so is a large one outside of a runtime of tokio.
//!
//! # Metrics
//!
//! | name | labels | what is counted |
//! | --- | --- | --- |
//! | `tower_qwen_openai_answers_total` | `mode`: `stream`, `whole`, `embeddings`; `outcome`: `complete`, `abandoned`, `truncated`, `refused`, `auth`, `limited`, `challenge`, `timeout`, `upstream`, `internal` | requests that reached the inner service |
//! | `tower_qwen_openai_slow_bodies_total` | | bodies that came [too slowly](BodyPace) |
//! | `tower_qwen_openai_bodies_waited_total` | | bodies that had to wait for room in a [`BodyBudget`] |
//! | `tower_qwen_openai_bodies_refused_total` | | bodies for which there was no room in time |
//! | `tower_qwen_large_requests_total` | `work`: `decode`, and in the layers below `session`, `tools`, `encode` | pieces of work that were done off the runtime's threads |

mod body;
mod budget;
pub mod completions;
mod config;
mod decode;
mod edge;
pub mod embeddings;
mod encode;
mod error;
mod future;
mod head;
mod layer;
mod limits;
mod metrics;
mod model;
mod offer;
mod pace;
mod parse;
mod read;
mod shaped;
mod wire;

pub use self::{
    body::OpenAiBody,
    budget::{BodyBudget, Budgeted, BudgetedBody},
    decode::{Decoded, decode, decode_within},
    error::error_response,
    future::ResponseFuture,
    head::tenant,
    layer::{OpenAi, OpenAiLayer},
    limits::Limits,
    model::{MAX_MODEL_LEN, model},
    offer::Offer,
    pace::BodyPace,
    read::read_body,
};

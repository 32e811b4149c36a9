//! The adapter to OpenAI-compatible upstreams.
//!
//! DashScope, the OAuth portal, vLLM, SGLang, Ollama, llama.cpp and LM Studio all speak almost
//! the OpenAI API, each with deviations of its own. [`CompatibleLayer`] makes a chat service of
//! any of them, so that the same layers serve them: it writes the request as that [`Server`]
//! wants it and repairs the answer (qwen-wire.md B7 to B9, C1, C2).
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     chat::{Answer, ChatRequest, Message, Role},
//!     qwen::compatible::{CompatibleLayer, Server},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! // In place of a `QwenUpstream` with the base URL of the server.
//! let upstream = service_fn(|_: Request<Full<Bytes>>| async {
//!     Ok::<_, tower_qwen::Error>(
//!         Response::builder()
//!             .header("content-type", "text/event-stream")
//!             .body(Full::new(Bytes::from(concat!(
//!                 "data: {\"choices\":[{\"delta\":{\"content\":\"<think>hm</think>Hi\"}}]}\n\n",
//!                 "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
//!                 "data: [DONE]\n\n",
//!             ))))
//!             .expect("a response"),
//!     )
//! });
//! let qwen = ServiceBuilder::new().layer(CompatibleLayer::new(Server::Vllm)).service(upstream);
//! let request = ChatRequest::new("qwen3-32b", vec![Message::new(Role::User, "Hello")]);
//! let answer = Answer::collect(qwen.oneshot(Request::new(request)).await?.into_body()).await?;
//! assert_eq!((&*answer.reasoning, &*answer.text), ("hm", "Hi"));
//! # Ok(())
//! # }
//! ```
//!
//! # What is repaired
//!
//! | deviation | reference | what becomes of it |
//! | --- | --- | --- |
//! | reasoning as `reasoning_content`, `reasoning`, or both | C2 | one stream of reasoning |
//! | a leading `<think>` block in the content | B9, C2 | reasoning |
//! | empty, missing or repeated id, name, type of a call | C1 | announced once, with an id |
//! | `arguments` null or an object | C1 | nothing, or its text |
//! | all calls under index 0 | C2 | told apart by their ids |
//! | `finish_reason` `""` or `"null"` on middle chunks | C1, C2 | not the end |
//! | finish `stop` after calls | C2 | `tool_calls` |
//! | no finish reason before `[DONE]` | C1 | `stop`, or `tool_calls` |
//! | no `[DONE]` | C2 | not needed behind a finish reason |
//! | an end without either | C2 (Ollama) | [`ErrorKind::Truncated`](crate::ErrorKind::Truncated) |
//! | numeric error codes, flat error bodies, errors in the stream | C1, C2 | errors with their meaning |
//! | usage on every chunk, on the last, or in one of its own | C2 | the last one, once |
//! | a whole answer although a stream was asked for | C1 | read as one |

mod error;
mod events;
mod layer;
mod request;
mod server;
mod service;
mod stream;
mod think;

pub(crate) use self::error::refusal;
pub use self::{
    layer::{CompatibleLayer, ThinkTags},
    server::Server,
    service::Compatible,
    stream::AnswerStream,
};

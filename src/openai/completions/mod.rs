//! The edge for legacy clients: OpenAI's `POST /v1/completions` over a chat service.
//!
//! [`CompletionsLayer`] serves the API that was there before chats. The prompt becomes the one user
//! message of a chat, and the answer becomes a `text_completion`, streamed or whole. Everything
//! else is as [`OpenAiLayer`](super::OpenAiLayer) does it: the services below, what becomes of the
//! client's credentials, errors, keep-alives, `[DONE]`, how a broken answer ends, and the metrics.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error, FullBody,
//!     chat::{ChatEvent, ChatRequest, FinishReason},
//!     openai::completions::CompletionsLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ServiceBuilder::new().layer(CompletionsLayer::new()).service(service_fn(
//!     |request: Request<ChatRequest>| async move {
//!         let said = request.body().history[0].text();
//!         Ok::<_, Error>(Response::new(futures_util::stream::iter([
//!             Ok(ChatEvent::Text(said)),
//!             Ok(ChatEvent::Finished(FinishReason::Stop)),
//!         ])))
//!     },
//! ));
//!
//! let request = Request::post("/v1/completions")
//!     .body(FullBody::new(Bytes::from(r#"{"model":"echo","prompt":"Once upon a time"}"#)))?;
//! let body = service.oneshot(request).await?.into_body().collect().await?.to_bytes();
//! assert!(body.windows(25).any(|part| part == br#""text":"Once upon a time""#));
//! # Ok(())
//! # }
//! ```
//!
//! # What of a request
//!
//! | field | what becomes of it |
//! | --- | --- |
//! | `prompt` | a text, or a list of one; lists of several and tokens are refused |
//! | `echo` | the prompt stands in front of the answer's text |
//! | `suffix`, `logprobs`, `top_logprobs` | refused, unless empty: a chat neither fills in nor gives probabilities |
//! | `n`, `best_of` | 1 |
//! | `messages`, `tools`, `tool_choice`, `parallel_tool_calls`, `functions`, `function_call`, `qwen_chat_id`, `qwen_parent_id` | refused: they are for chats |
//! | `max_tokens`, `max_completion_tokens`, other sampling, `stop`, `stream`, `stream_options`, `user`, thinking | as in a chat |
//! | any other | passed on, to upstreams that understand it |
//!
//! A model's thinking is not shown, for the form has no field for it. The model answers the prompt:
//! it does not go on writing it.

mod decode;
mod layer;

pub(super) use self::decode::decode;
pub use self::layer::{Completions, CompletionsLayer};

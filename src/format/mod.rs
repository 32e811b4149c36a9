//! Answers in JSON, from an upstream that can only be asked for them in words.
//!
//! chat.qwen.ai has no `response_format`. [`FormatLayer`] tells the model in the prompt what is
//! wanted, reads the whole answer, and gives the JSON that is in it, without the fence or the
//! sentence that models like to put around it. If it is not what was asked for, the model is told
//! why and asked once more. A second time it is an error, and never an answer.
//!
//! - `json_object`: the answer is one JSON object.
//! - `json_schema`: it is JSON that fits the schema, as far as [that is checked](#what-is-checked).
//! - `text`, and none: the request passes, and costs a few instructions.
//!
//! An answer that is cut by the token limit, stopped by a filter, or calls tools is given as it is:
//! its finish reason says that it is no JSON. The thinking of the answer comes with it.
//!
//! Since the answer has to be whole before it can be checked, nothing streams. The edge's
//! keep-alive goes on meanwhile. An answer of more than 4 MiB is an error.
//!
//! The layer stands inside of [`DedupLayer`](crate::dedup::DedupLayer), so that what it says to the
//! model is no part of the history. In a chat that the upstream keeps, the second try is one more
//! turn of it, and the next one goes on from there.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error,
//!     chat::{Answer, ChatEvent, ChatRequest, FinishReason, Message, ResponseFormat, Role},
//!     format::FormatLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let service = ServiceBuilder::new().layer(FormatLayer::new()).service(service_fn(
//!     |request: Request<ChatRequest>| async move {
//!         assert!(request.body().response_format.is_none(), "it is told in words");
//!         Ok::<_, Error>(Response::new(futures_util::stream::iter([
//!             Ok(ChatEvent::Text("Sure:\n```json\n{\"city\": \"Oslo\"}\n```".into())),
//!             Ok(ChatEvent::Finished(FinishReason::Stop)),
//!         ])))
//!     },
//! ));
//!
//! let mut request = ChatRequest::new("m", vec![Message::new(Role::User, "Where is it raining?")]);
//! request.response_format = Some(ResponseFormat::JsonObject);
//! let response = service.oneshot(Request::new(request)).await?;
//! assert_eq!(Answer::collect(response.into_body()).await?.text, r#"{"city": "Oslo"}"#);
//! # Ok(())
//! # }
//! ```
//!
//! # What is checked
//!
//! `type`, `enum`, `const`, `required`, `properties`, `additionalProperties: false`, `items`, and
//! `anyOf`, at every depth up to 64. Other keywords, such as `pattern` and `$ref`, are told to the
//! model with the rest of the schema, and not checked.
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_format_answers_total` | `result`: `first`, `second` (after it was asked again), `refused` |

mod ask;
mod check;
mod future;
mod layer;
mod service;
mod stream;

pub use self::{future::ResponseFuture, layer::FormatLayer, service::Format, stream::FormatStream};

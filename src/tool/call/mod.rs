//! Tool calls for OpenAI clients, whatever the upstream makes of tools.
//!
//! [`ToolCallLayer`] has three modes:
//!
//! - [`prompted`](ToolCallLayer::prompted): the upstream knows no tools, as chat.qwen.ai. The request's
//!   tools, earlier calls and their results become text in the form that the model was trained
//!   on, in the [`Dialect`](super::Dialect) that the model was trained on; calls that the model writes in its answer become
//!   [`ChatEvent::ToolCall`]s and [`ChatEvent::ToolArguments`] while they stream (see
//!   [`scan`](super::scan)).
//! - [`native`](ToolCallLayer::native): the upstream has tools. Requests pass as they are, and of
//!   answers only the form is repaired.
//! - [`native_with_rescue`](ToolCallLayer::native_with_rescue): also calls that the upstream's
//!   own parser left in the text are found.
//!
//! What goes out follows the same [rules] in all of them:
//!
//! - calls are numbered from 0 without gaps, whatever the upstream's numbers were; each begins
//!   with one `ToolCall` that has an id and a name, and the pieces of its arguments make one JSON
//!   object that parses;
//! - there is one `Finished`: `Length` and `ContentFilter` as upstream says, `Length` also where the
//!   text ends inside of a call's arguments (chat.qwen.ai says `stop` there, and a
//!   client would run the half call), else `ToolCalls` if there was a call, else `Stop`;
//! - where the upstream fails or is cut, the open calls are closed first, then the error passes
//!   on; a stream that ends without `Finished` is given an error of
//!   [`ErrorKind::Truncated`](crate::ErrorKind::Truncated);
//! - reasoning passes as it is. Only if the answer ends without text and without a call, and its
//!   reasoning ends with complete calls to declared tools, are these sent at the end. A
//!   think block at the start of the text becomes reasoning.
//!
//! Where the request declares no function, or `tool_choice` is `none`, answers pass untouched.
//!
//! Names that no upstream gave are not invented, with one exception: a call without a name is
//! given that of the only function it can be, where the request declares or demands just one.
//!
//! ```
//! use std::sync::Arc;
//!
//! use http::{Request, Response};
//! use serde_json::json;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error,
//!     chat::{Answer, ChatEvent, ChatRequest, FinishReason, FunctionTool, Message, Role, Tool},
//!     tool::call::ToolCallLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let service = ServiceBuilder::new()
//!     .layer(ToolCallLayer::prompted())
//!     // An upstream that knows no tools; its model writes a call.
//!     .service(service_fn(|request: Request<ChatRequest>| async move {
//!         assert!(request.body().tools.is_empty());
//!         let pieces = ["<tool_call>\n<function=weather>\n<para", "meter=city>\nOslo\n</parameter>"];
//!         let texts = pieces.map(|piece| Ok(ChatEvent::Text(piece.into())));
//!         let end = [Ok(ChatEvent::Finished(FinishReason::Stop))];
//!         Ok::<_, Error>(Response::new(futures_util::stream::iter(texts.into_iter().chain(end))))
//!     }));
//!
//! let mut request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Rain in Oslo?")]);
//! let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
//! request.tools = Arc::new(vec![Tool::Function(FunctionTool::new("weather", schema))]);
//!
//! let response = service.oneshot(Request::new(request)).await?;
//! let answer = Answer::collect(response.into_body()).await?;
//! assert_eq!(answer.tool_calls[0].arguments, r#"{"city":"Oslo"}"#);
//! assert_eq!(answer.finish_reason, Some(FinishReason::ToolCalls));
//! # Ok(())
//! # }
//! ```
//!
//! # Metrics
//!
//! | name | labels | counts |
//! |---|---|---|
//! | `tower_qwen_tool_calls_total` | `form`: the dialect (`coder`, `hermes`, `xml`), or `native`, `reasoning` | calls sent |
//! | `tower_qwen_tool_text_released_total` | | markup that looked like a call and was text |
//! | `tower_qwen_tool_repairs_total` | `repair`: `id`, `name`, `nameless`, `repeated`, `arguments`, `finish_reason` | what an upstream with native tools got wrong |
//!
//! Repairs are logged at `DEBUG`, without content.
//!
//! [rules]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/tool-calls.md#e.2

#[cfg(doc)]
use crate::chat::ChatEvent;

mod future;
mod layer;
mod native;
mod reader;
mod repair;
mod rescue;
mod service;
mod stream;

pub use self::{
    future::ResponseFuture, layer::ToolCallLayer, service::ToolCall, stream::ToolCallStream,
};

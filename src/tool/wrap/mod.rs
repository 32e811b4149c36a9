//! Every reply is one XML tool call: for clients of the XML protocol, Roo Code and Cline.
//!
//! Such a client sends plain text messages whose system prompt teaches the model to call tools by
//! tags, and finds the calls in the reply's text by exact names. It demands one call in every
//! reply: without one it sends an error back, asks again, and stops after a few rounds; of
//! several it runs the first. [`ToolWrapLayer`] changes the reply as it streams so that this
//! demand is met (the [rules] and what they are made of have a text of their own):
//!
//! - A reply without a call is completed: what it says is repeated as the result of an
//!   `attempt_completion` at its end, so the client shows it and is content. Nothing is held back
//!   for that.
//! - A call in the client's tags passes unchanged, byte for byte and without delay. If the model
//!   stops in the middle of one, the missing closers are added; if it is cut, they are not.
//! - A call in one of Qwen's own dialects (`<function=…>` with or without `<tool_call>`, JSON in
//!   `<tool_call>`) is rewritten to the client's tags as it streams, if the client has the tool.
//!   In a Markdown fence or behind a backtick it is an example, and stays.
//! - What follows the first call is left out; the client would answer it with an error.
//! - Where prose only names a tool (`<read_file>`), the `<` becomes `&lt;`; else the client would
//!   run it without parameters.
//! - A think block at the start goes to the reasoning. An empty reply stays empty.
//!
//! The request is not changed: the client sends its own XML, and its history is text already.
//!
//! # Where it stands
//!
//! Inside the session layer, which must see what the client sees, and **outside** the dedup layer:
//! the tools' names are read from the client's system prompt ([`Vocabulary`]), which from the
//! second turn on is among what the chat has [`seen`](crate::chat::History::seen). Whether an
//! instruction is seen or fresh does not matter here; but dedup drops what is seen, and inside it
//! later turns fall back to the built-in names of Roo Code and Cline. Over an upstream that keeps
//! no chats there is no dedup layer, and any place inside the session layer is right.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error,
//!     chat::{Answer, ChatEvent, ChatRequest, FinishReason, Message, Role},
//!     tool::wrap::ToolWrapLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let service = ServiceBuilder::new().layer(ToolWrapLayer::new()).service(service_fn(
//!     |_request: Request<ChatRequest>| async {
//!         Ok::<_, Error>(Response::new(futures_util::stream::iter([
//!             Ok(ChatEvent::Text("<tool_call>\n<function=read_file>\n".into())),
//!             Ok(ChatEvent::Text("<parameter=path>\nsrc/lib.rs\n</parameter>\n".into())),
//!             Ok(ChatEvent::Text("</function>\n</tool_call>".into())),
//!             Ok(ChatEvent::Finished(FinishReason::Stop)),
//!         ])))
//!     },
//! ));
//!
//! let request = ChatRequest::new("qwen3-coder-plus", vec![Message::new(Role::User, "Read it")]);
//! let response = service.oneshot(Request::new(request)).await?;
//! assert_eq!(
//!     Answer::collect(response.into_body()).await?.text,
//!     "<read_file>\n<path>\nsrc/lib.rs\n</path>\n</read_file>",
//! );
//! # Ok(())
//! # }
//! ```
//!
//! # Metrics
//!
//! - `tower_qwen_tool_wrap_total{outcome}`, counter: finished replies, by what they came to:
//!   `call`, `rewritten`, `completed` or `empty`. Replies that fail are not counted.
//!
//! # Limits
//!
//! A parameter of more than 102,400 characters is given up by Roo Code, which then looks for tags
//! in the rest of it; this layer goes on taking it for one value, as Cline does.
//!
//! The models' own dialects do not count where Markdown quotes them, since an example must not be run.
//! A null argument is left out rather than written as JSON, since the client would take the word
//! for the value. In rewritten values the
//! parameter's own closer is escaped, since the client would end the value there. Blanks inside
//! tags are not normalised: inside a call that would alter values.
//!
//! [rules]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/tool-calls.md#e.1

pub(super) mod automaton;
mod future;
mod layer;
mod members;
mod memory;
pub(super) mod outcome;
mod output;
mod passing;
mod service;
mod sink;
mod stream;
mod value;
mod vocabulary;

pub use self::{
    future::ResponseFuture, layer::ToolWrapLayer, service::ToolWrap, stream::ToolWrapStream,
    vocabulary::Vocabulary,
};

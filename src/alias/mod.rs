//! Other names for models.
//!
//! Agents ask for models by names that no upstream of Qwen has: Claude Code wants a `claude-haiku`
//! for titles and summaries, whatever its main model is, and many tools know `gpt-4o` alone. With
//! [`AliasLayer`] such a request goes on as one for a model that is there. It stands right below an
//! edge, so that it serves every edge, and so that all that depends on the model, such as the
//! dialect of tools, depends on the real one. The edge has kept the client's own word by then and
//! answers with it.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error, Text,
//!     alias::{AliasLayer, Aliases},
//!     chat::{ChatRequest, Message, Role},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let aliases = Aliases::new()
//!     .alias("claude-*haiku*", "qwen3.8-flash")?
//!     .alias("claude-*", "qwen3.8-max")?;
//!
//! // In place of the layers and the adapter.
//! let below = service_fn(|request: Request<ChatRequest>| async move {
//!     Ok::<_, Error>(Response::new(request.into_body().model))
//! });
//! let service = ServiceBuilder::new().layer(AliasLayer::new(aliases)).service(below);
//! let request = ChatRequest::new("claude-haiku-4-5", [Message::new(Role::User, "Hello")]);
//! let asked = service.oneshot(Request::new(request)).await?.into_body();
//! assert_eq!(asked, Text::from("qwen3.8-flash"));
//! # Ok(())
//! # }
//! ```
//!
//! # Which one counts
//!
//! The first whose name fits, in the order in which they were added; so what is special comes before
//! what is general. In a name a `*` stands for any characters, or none. In a model it stands for
//! what the `*` at the same place of the name stood for: `claude-qwen*` for `qwen*` takes a prefix
//! off. What an alias leads to is the name of a model, and is not looked up again.

mod layer;
mod service;
mod table;

pub use self::{layer::AliasLayer, service::Alias, table::Aliases};

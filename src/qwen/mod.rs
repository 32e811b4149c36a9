//! The upstreams: adapters to the wires that Qwen speaks, and the HTTP client below them.
//!
//! An adapter is a layer over an ordinary HTTP service; it turns an
//! [`http::Request<ChatRequest>`](crate::chat::ChatRequest) into requests of its wire, and what
//! comes back into a [`ChatStream`](crate::chat::ChatStream). `QwenUpstream` is the HTTP service
//! that reaches a real upstream.
//!
//! ```
//! # #[cfg(all(feature = "client", feature = "web"))]
//! # fn main() -> Result<(), tower_qwen::Error> {
//! use tower::ServiceBuilder;
//! use tower_qwen::qwen::{QwenUpstream, QwenWebLayer};
//!
//! let service = ServiceBuilder::new()
//!     .layer(QwenWebLayer::new())
//!     .service(QwenUpstream::web().cookies("cna=demo").build()?);
//! # let _ = service;
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "client", feature = "web")))]
//! # fn main() {}
//! ```

#[cfg(feature = "web")]
#[cfg_attr(docsrs, doc(cfg(feature = "web")))]
pub mod chats;
#[cfg(feature = "client")]
#[cfg_attr(docsrs, doc(cfg(feature = "client")))]
pub mod client;
#[cfg(feature = "compatible")]
#[cfg_attr(docsrs, doc(cfg(feature = "compatible")))]
pub mod compatible;
#[cfg(any(feature = "compatible", feature = "web"))]
mod future;
#[cfg(any(feature = "compatible", feature = "web"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "compatible", feature = "web"))))]
pub mod models;
#[cfg(any(feature = "compatible", feature = "web"))]
mod redact;
#[cfg(any(feature = "compatible", feature = "web"))]
pub(crate) mod transport;
#[cfg(feature = "web")]
#[cfg_attr(docsrs, doc(cfg(feature = "web")))]
pub mod web;

#[cfg(feature = "client")]
pub use self::client::QwenUpstream;
#[cfg(any(feature = "compatible", feature = "web"))]
pub use self::future::ResponseFuture;
#[cfg(feature = "web")]
pub use self::web::{QwenWeb, QwenWebLayer};

/// Put into the extensions of an HTTP request, it asks `QwenUpstream` to leave its configured
/// credential out: no `authorization`, no `cookie`, no `bx-*`.
///
/// For calls that upstream answers better, or only, without one (E41). Headers of the request
/// itself are sent as ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anonymous;

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
//! use tower_qwen::qwen::{client::QwenUpstream, web::QwenWebLayer};
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
//!
//! # Headers
//!
//! The requests that an adapter makes have headers of three kinds.
//!
//! - Of the envelope, the `http::Request` around a
//!   [`ChatRequest`](crate::chat::ChatRequest), these travel: `authorization`, `cookie` and every
//!   `bx-*`, and to an OpenAI-compatible upstream `x-request-id`, `traceparent` and `tracestate`. To
//!   chat.qwen.ai these three do not: its page sends an id of its own, and no trace. No other header
//!   travels, and so no client's `user-agent`. Of these an edge takes off what a client proves itself
//!   with and every `bx-*`, so that only what a layer of yours puts on the envelope is sent.
//! - Those of [`ChatRequest::credential`](crate::chat::ChatRequest::credential), in place of any of
//!   the same names. A credential may bring a `user-agent`.
//! - Those of the wire itself, such as `content-type`.
//!
//! `QwenUpstream` adds, where a request has none of that name, the headers that were configured. For
//! chat.qwen.ai these are the ones that the web page's own browser sends, and the credential where
//! the request brings none:
//!
//! | header | value |
//! |---|---|
//! | `user-agent`, `sec-ch-ua`, `sec-ch-ua-mobile`, `sec-ch-ua-platform` | a desktop Chrome; with another `user-agent`, of a credential or of `QwenUpstreamBuilder::header`, none of the other three |
//! | `accept`, `accept-language` | `application/json`, `en-US,en;q=0.9` |
//! | `origin`, `referer` | the origin of the base URL |
//! | `sec-fetch-dest`, `sec-fetch-mode`, `sec-fetch-site` | `empty`, `cors`, `same-origin` |
//! | `source`, `version`, `x-accel-buffering` | `web`, that of the page, `no` |
//! | `x-request-id`, `timezone` | a new one, the time of the request |
//!
//! Extensions of the envelope go along with every HTTP request that is made for it, so that a trace
//! context that was set outside is read below.

#[cfg(any(feature = "compatible", feature = "web"))]
#[cfg_attr(
    not(all(feature = "compatible", feature = "web")),
    allow(dead_code, unused_imports, reason = "each adapter uses a part of it")
)]
pub(crate) mod answer;
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
pub(crate) mod cursor;
#[cfg(any(feature = "compatible", feature = "web"))]
#[cfg_attr(
    not(feature = "compatible"),
    allow(dead_code, reason = "the web adapter always says how much to think")
)]
mod effort;
#[cfg(any(feature = "compatible", feature = "web"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "compatible", feature = "web"))))]
pub mod models;
#[cfg(any(feature = "compatible", feature = "web"))]
pub(crate) mod redact;
#[cfg(any(feature = "compatible", feature = "web"))]
#[cfg_attr(
    not(all(feature = "compatible", feature = "web")),
    allow(dead_code, reason = "each upstream refuses in some of these ways")
)]
mod refused;
#[cfg(feature = "responses-upstream")]
#[cfg_attr(docsrs, doc(cfg(feature = "responses-upstream")))]
pub mod responses;
#[cfg(feature = "compatible")]
#[cfg_attr(docsrs, doc(cfg(feature = "compatible")))]
pub mod synthesis;
#[cfg(any(feature = "compatible", feature = "web"))]
mod task;
#[cfg(any(feature = "compatible", feature = "web"))]
pub(crate) mod transport;
#[cfg(feature = "upload")]
#[cfg_attr(docsrs, doc(cfg(feature = "upload")))]
pub mod upload;
#[cfg(feature = "web")]
#[cfg_attr(docsrs, doc(cfg(feature = "web")))]
pub mod web;

//! `QwenUpstream`, the HTTP client.
//!
//! The leaf of a stack: a service that sends [`http::Request`]s to one upstream, whose base URL,
//! headers and credential it knows. Adapters above it name only paths.
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_qwen::qwen::{client::QwenUpstream, web::QwenWebLayer};
//!
//! # fn main() -> Result<(), tower_qwen::Error> {
//! let service = ServiceBuilder::new()
//!     .layer(QwenWebLayer::new())
//!     .service(QwenUpstream::web().cookies("cna=demo; x-ap=demo").build()?);
//! # let _ = service;
//! # Ok(())
//! # }
//! ```
//!
//! It is HTTP/1.1 and HTTP/2 (by ALPN), pooled, and decodes gzip, br and zstd. It follows
//! redirects only to the same scheme, host and port, so that a credential never goes elsewhere;
//! another redirect is handed on as the response it is. It repeats nothing by itself, so that
//! attempts are counted once, by the layers above. (A request that the pool could not even begin
//! to write, because its idle connection had just been closed, goes to a new connection.)
//!
//! The extensions of a response hold the [`CredentialHeaders`](crate::CredentialHeaders) that its
//! request went out with, so that whoever shows an upstream's words can
//! [mask](crate::CredentialHeaders::mask) them.
//!
//! # TLS
//!
//! The feature `client` by itself brings none, and a base URL with `https:` is refused then.
//! `client-rustls` is rustls with aws-lc (what `full` has), `client-rustls-ring` rustls with ring,
//! and `client-native-tls` what the platform has. Where several are on, the first of them is used.
//! All trust the certificates that the platform trusts.
//!
//! # Whose headers win
//!
//! A header of the request wins over the configured one of that name. A request that brings
//! `authorization` or `cookie` brings the whole credential: neither of the configured ones is
//! sent with it, for a token and a cookie jar have to stem from the same login.
//! [`QwenUpstream::anonymous`] is the same client without the configured credential and `bx-*`.
//!
//! # Observability
//!
//! Histogram `tower_qwen_client_first_byte_seconds`, counter
//! `tower_qwen_client_errors_total` (label `kind`). Tracing: `DEBUG` with method, path and
//! status; never a header, a query or a body.

mod body;
mod builder;
mod error;
mod future;
mod service;
#[cfg(feature = "upload")]
mod store;
#[cfg(not(feature = "fetch"))]
mod tls;
#[cfg(feature = "fetch")]
pub(crate) mod tls;

#[cfg(feature = "upload")]
#[cfg_attr(docsrs, doc(cfg(feature = "upload")))]
pub use self::store::StoreClient;
pub use self::{
    body::UpstreamBody, builder::QwenUpstreamBuilder, future::ResponseFuture, service::QwenUpstream,
};

//! What URLs in a message name, fetched for an upstream that does not.
//!
//! chat.qwen.ai takes no document by URL, and a server of one's own may be kept from the Internet.
//! [`FetchLayer`] fetches what `http:` and `https:` URLs in the parts of a history name, and leaves
//! `data:` URLs in their places: for [`UploadLayer`](crate::qwen::upload), or for a compatible upstream
//! as they are.
//!
//! To fetch what strangers name is a risk: a server that stands within a network reaches what they do
//! not. So nothing is fetched without this layer, and with it only from the public Internet.
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_qwen::{
//!     fetch::{FetchClient, FetchLayer, FetchPolicy},
//!     qwen::{
//!         client::{QwenUpstream, StoreClient},
//!         upload::UploadLayer,
//!         web::QwenWebLayer,
//!     },
//! };
//!
//! # fn main() -> Result<(), tower_qwen::Error> {
//! let upstream = QwenUpstream::web().build()?;
//! let fetch = FetchClient::new(FetchPolicy::new().max_bytes(10 * 1024 * 1024))?;
//! let service = ServiceBuilder::new()
//!     .layer(FetchLayer::new(fetch).leave(["qwenlm.ai"]))
//!     .layer(UploadLayer::new(upstream.clone(), StoreClient::new()?))
//!     .layer(QwenWebLayer::new())
//!     .service(upstream);
//! # let _ = service;
//! # Ok(())
//! # }
//! ```
//!
//! It stands outside of whatever sends a request again, so that a URL is fetched once, and inside of
//! [session](crate::session) and [dedup](crate::dedup), which know a message by what the client sent.
//!
//! # What is checked
//!
//! - The URL: `http:` or `https:`, no user and no password in it, port 80 or 443, 8 KiB at most. A host
//!   that is a number in whatever form (decimal, octal, hexadecimal, fewer parts) is the address that a
//!   browser would make of it.
//! - The address, where it is connected to: a name is looked up once, of what it leads to the public
//!   addresses alone are left, and the connection goes to one of these. A name that changes in between
//!   changes nothing. Not public are loopback, private, link-local, shared, unique local, multicast,
//!   reserved and documentation addresses, the unspecified one, and every IPv6 address that holds an IPv4
//!   address (mapped, NAT64, 6to4, Teredo).
//! - Redirects: three at most, and each as the URL itself.
//! - The size, while the body is read; what is packed is refused. The time, of all of it.
//! - The type, by the first bytes: an image has to be one. What the server says of it counts for text.
//!
//! No proxy of the environment is heeded, and no cookie, credential or header of the client is sent.
//! [`FetchPolicy::allow`] excepts hosts from the checks of address and port.
//!
//! # Errors
//!
//! [`InvalidRequest`](crate::ErrorKind::InvalidRequest), or
//! [`TooLarge`](crate::ErrorKind::TooLarge), with the code `url_not_fetched`; the parameter is the part,
//! and the message says why. It says nothing of the addresses that a name leads to.
//!
//! # Memory
//!
//! 32 MiB for a request at most ([`max_total`](FetchPolicy::max_total)), and a third more where it stands
//! in `data:` URLs.
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_fetches_total` | `result`: `fetched`, `refused`, `failed` |
//! | `tower_qwen_fetch_bytes_total` | |

mod address;
mod client;
mod layer;
mod plan;
mod policy;
mod service;

pub use self::{client::FetchClient, layer::FetchLayer, policy::FetchPolicy, service::Fetch};

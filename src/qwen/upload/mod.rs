//! Files for chat.qwen.ai: what parts of a message hold is uploaded, and the message names it.
//!
//! The model of chat.qwen.ai looks at no `data:` URL. [`UploadLayer`] takes what the parts of the
//! history hold (images, documents, sound and videos, in `data:` URLs or as base64), puts it to the
//! account's store, and leaves a [`PartKind::Uploaded`](crate::chat::PartKind::Uploaded) in the place
//! of each. The [adapter](super::web) sends those as the page sends its attachments.
//!
//! A request without such parts passes, and costs a look at its messages.
//!
//! ```
//! use http::Request;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_qwen::{
//!     chat::{Answer, ChatRequest, Content, Message, Part, Role},
//!     qwen::{upload::UploadLayer, web::QwenWebLayer},
//! };
//! use tower_qwen_emulator::Emulator;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! // In the place of these stand `QwenUpstream`, and `StoreClient` for the object store.
//! let (upstream, store) = (Emulator::new(), Emulator::new());
//! # let store = upstream.clone();
//! let service = ServiceBuilder::new()
//!     .layer(UploadLayer::new(upstream.clone(), store))
//!     .layer(QwenWebLayer::new())
//!     .service(upstream.clone());
//!
//! let mut message = Message::new(Role::User, "");
//! message.content = Some(Content::Parts(vec![
//!     Part::text("What is this?"),
//!     Part::image("data:image/png;base64,iVBORw0KGgo="),
//! ]));
//! let request = ChatRequest::new("qwen3-max", vec![message]);
//! let answer = Answer::collect(service.oneshot(Request::new(request)).await?.into_body()).await?;
//! assert!(answer.text.contains("image.png"), "the emulator says what it was shown");
//! # Ok(())
//! # }
//! ```
//!
//! # Where it stands
//!
//! Right over the adapter, inside of [`AuthRefreshLayer`](crate::auth): the files belong to the account
//! whose credential the request has, and with another account they are uploaded again. It is inside of
//! the [session](crate::session), which knows a history by what the client sent, and of
//! [dedup](crate::dedup), so that what the chat has seen is not uploaded again.
//!
//! # An upload
//!
//! 1. The data is decoded and checked, all parts before the first call. `data:` URLs are taken as
//!    clients write them: in lines, in the alphabet of URLs, without padding, percent-encoded, as text.
//!    The first bytes say what a file is where they can, else the media type or the name that came
//!    along. The limits of size and number are those of the page
//!    ([`limit`](UploadLayer::limit)), and so is that files of one kind alone stand in a turn
//!    ([`mixed`](UploadLayer::mixed)).
//!    Files of earlier turns come again where a history is replayed into a new chat. Of these the
//!    newest are shown as far as there is room, and a line stands in the place of the others.
//! 2. `getstsToken` gives a place and a credential for it, and the content is put there, signed with
//!    version 4 of the store's signatures, four files at a time. It goes to the
//!    [hosts](UploadLayer::hosts) of the store alone.
//! 3. A document is parsed, which is waited for.
//!
//! All of that is before the commit point, so a failure is an error with a status. While it takes its
//! time an edge's keep-alive goes on.
//!
//! # What is used again
//!
//! The same file, sent again by the same tenant to the same account, is uploaded once for
//! [two minutes](UploadLayer::reuse): a turn that is tried again, or a history that is replayed into
//! a new chat at once. The URL of an upload is signed for five minutes and cannot be signed anew, so
//! what is older is uploaded again, and so is what a turn was refused with as no valid input. Of the
//! content nothing is kept, only its digest. Without a tenant
//! nothing is used again.
//!
//! # Errors
//!
//! | what | kind |
//! | --- | --- |
//! | data that cannot be read, is of the wrong kind or too much, a `file_id` | [`InvalidRequest`](crate::ErrorKind::InvalidRequest), [`TooLarge`](crate::ErrorKind::TooLarge); the parameter names the part |
//! | a document that upstream cannot read | `InvalidRequest`, code `file_parse_failed`, with upstream's words |
//! | what upstream's filter refuses | [`ContentFilter`](crate::ErrorKind::ContentFilter) |
//! | quota, a credential that has ended, the anti-bot layer | as for a [turn](super::web#errors) |
//! | the store refuses, or upstream names a host that is none of the store's | [`Upstream`](crate::ErrorKind::Upstream) |
//! | no end within the [deadline](UploadLayer::deadline) | [`Timeout`](crate::ErrorKind::Timeout) |
//!
//! # Memory
//!
//! While a request is uploaded its files are held once as the client sent them and once decoded, which
//! is three quarters of that. Of uploads that may be used again a few hundred bytes are kept, for 1,024
//! of them at most.
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_uploads_total` | `kind`: `image`, `audio`, `video`, `document`; `result`: `uploaded`, `reused`, `failed` |
//! | `tower_qwen_upload_bytes_total` | `kind` |
//! | `tower_qwen_upload_seconds` (histogram) | `kind` |

mod cache;
mod config;
mod exchange;
mod future;
mod layer;
mod oss;
mod plan;
mod service;
mod wire;

pub use self::{future::ResponseFuture, layer::UploadLayer, service::Upload};

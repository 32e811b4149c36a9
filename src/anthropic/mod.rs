//! The edge for Claude Code and Anthropic's SDKs: the Messages API over a chat service.
//!
//! [`AnthropicLayer`] makes an ordinary HTTP service (`Error = Infallible`) of a service of the
//! [middle](crate::chat). It reads the request once ([`decode`]) and writes the answer once, as the
//! blocks of a message. Nothing below it knows which edge was used, so a client of this API gets
//! sessions, calls out of text and credentials that refresh themselves as any other client does.
//!
//! What clients rely on is in [the reference][edges].
//!
//! [edges]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/edges.md#b
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error, FullBody,
//!     anthropic::AnthropicLayer,
//!     chat::{ChatEvent, ChatRequest, FinishReason},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ServiceBuilder::new().layer(AnthropicLayer::new()).service(service_fn(
//!     |request: Request<ChatRequest>| async move {
//!         let said = request.body().history[0].text();
//!         Ok::<_, Error>(Response::new(futures_util::stream::iter([
//!             Ok(ChatEvent::Text(said)),
//!             Ok(ChatEvent::Finished(FinishReason::Stop)),
//!         ])))
//!     },
//! ));
//!
//! let request = Request::post("/v1/messages").body(FullBody::new(Bytes::from(
//!     r#"{"model":"echo","max_tokens":9,"messages":[{"role":"user","content":"Hello"}]}"#,
//! )))?;
//! let body = service.oneshot(request).await?.into_body().collect().await?.to_bytes();
//! assert!(body.windows(14).any(|part| part == br#""text":"Hello""#));
//! # Ok(())
//! # }
//! ```
//!
//! What becomes of the client's credentials, of large requests and of silence, and what is counted,
//! is the same for every [edge](crate::edge).
//!
//! # Thinking
//!
//! The model's thinking is shown as thinking blocks, unless the client asks for `omitted`. Every
//! block has a signature, for clients throw one without away. It proves nothing and is never
//! checked. Where the client wants no thinking shown, the signature holds it (up to 256 KiB), so
//! that an upstream that wants its own thinking back gets it.
//!
//! # Sources
//!
//! What an upstream's own search found comes as `server_tool_use` and `web_search_tool_result` blocks
//! where the client has offered the vendor's search (`web_search_*`), and else as links, in a block of
//! text of its own behind the answer. Nobody has said that block, so it is taken out of the history
//! when it comes back.
//!
//! # Memory
//!
//! Calls whose arguments come mixed are written one after the other. Up to 8 MiB of an answer are
//! held back for that; an answer that would take more ends with an error.

mod count;
mod decode;
mod encode;
mod error;
mod layer;
mod protocol;
mod signature;
mod sources;
mod wire;

pub use self::{
    count::{CountFuture, CountTokens},
    decode::{Decoded, decode},
    error::error_response,
    layer::{Anthropic, AnthropicLayer},
    protocol::{AnthropicBody, ResponseFuture},
};

//! The edge for Codex and OpenAI's newer SDKs: the Responses API over a chat service.
//!
//! [`ResponsesLayer`] makes an ordinary HTTP service (`Error = Infallible`) of a service of the
//! [middle](crate::chat). It reads the request once ([`decode`]) and writes the answer once, as the
//! items of a response. Nothing below it knows which edge was used, so a client of this API gets
//! sessions, calls out of text and credentials that refresh themselves as any other client does.
//!
//! What clients rely on is in [the reference][edges].
//!
//! [edges]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/edges.md#c
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error, FullBody,
//!     chat::{ChatEvent, ChatRequest, FinishReason},
//!     responses::ResponsesLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ServiceBuilder::new().layer(ResponsesLayer::new()).service(service_fn(
//!     |request: Request<ChatRequest>| async move {
//!         let said = request.body().history[0].text();
//!         Ok::<_, Error>(Response::new(futures_util::stream::iter([
//!             Ok(ChatEvent::Text(said)),
//!             Ok(ChatEvent::Finished(FinishReason::Stop)),
//!         ])))
//!     },
//! ));
//!
//! let request = Request::post("/v1/responses")
//!     .body(FullBody::new(Bytes::from(r#"{"model":"echo","input":"Hello"}"#)))?;
//! let body = service.oneshot(request).await?.into_body().collect().await?.to_bytes();
//! assert!(body.windows(14).any(|part| part == br#""text":"Hello""#));
//! # Ok(())
//! # }
//! ```
//!
//! What becomes of the client's credentials, of large requests and of silence, and what is counted,
//! is the same for every [edge](crate::edge).
//!
//! # Tools
//!
//! The layers below know functions alone. A tool in a namespace becomes `namespace__name`, one
//! whose input is a text becomes a function of one string, and `local_shell` and `tool_search`
//! become functions of their own schemas. In the answer each call is an item of the kind that the
//! client expects, with its namespace. Tools that only OpenAI's servers run are left out; a web
//! search is the upstream's own, where it has one.
//!
//! # Thinking
//!
//! The model's thinking is shown as the summary of a reasoning item where the client asks for one
//! (`reasoning.summary`). For `include: ["reasoning.encrypted_content"]` it also holds the thinking
//! in a form that the client sends back, so that an upstream that wants its own thinking gets it.
//! It is not encrypted, and what other providers have made is left out without an error.
//!
//! # Codex
//!
//! An answer that is cut at the upstream's limit of tokens is `response.incomplete`. Codex takes
//! that for the failure of the turn, and shows nothing of it. So for Codex, which is known by its
//! headers, such an answer is `response.completed` if there is anything to show or to run.
//!
//! # State
//!
//! A client may send what is new alone, with the `previous_response_id` of the answer before, where
//! [`ResponsesLayer::store`] is set and a [`SessionLayer`](crate::session::SessionLayer) stands below. Of
//! an answer its place in the upstream's chat is kept, under its id and for its tenant, and nothing
//! of its text. So it cannot be fetched again (`GET`), and where the upstream has lost the chat
//! nothing is replayed.
//!
//! An id that is not known is a 400 with the code `previous_response_not_found`, on which clients
//! send the whole history. It is the same for an id that is somebody else's, one that was never
//! given, one whose chat is gone, and any id where nothing is stored. `instructions` that are
//! others than before are told; what a chat was told before it does not forget. `conversation`,
//! `background`, `prompt` and references to items are refused.
//!
//! # Memory
//!
//! The last event of a stream has the whole response, so the answer is kept until then: up to
//! 64 MiB of it, behind which the answer ends with an error. Calls whose arguments come mixed are
//! written one after the other, for which up to 8 MiB are held back.

mod decode;
mod encode;
mod error;
mod input;
mod item;
mod layer;
mod names;
mod protocol;
mod response;
mod seal;
mod wire;

pub use self::{
    decode::{Decoded, decode},
    error::error_response,
    layer::{Responses, ResponsesLayer},
    protocol::{ResponseFuture, ResponsesBody},
};

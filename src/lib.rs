//! Composable [tower] layers over a Qwen upstream.
//!
//! Each layer gives a Rust service in front of Qwen one thing: credentials that refresh themselves,
//! stateless OpenAI clients over stateful chats, turns that send only what is new, well-formed
//! event streams, or tool calls that work even when the model writes them as text.
//!
//! # The stack
//!
//! HTTP all the way down; only the body changes its type.
//!
//! ```text
//! any axum / hyper server
//!       │  http::Request<B: Body>                http::Response<OpenAiBody>  ▲
//!   OpenAiLayer        JSON in, validated · SSE or JSON out · every error an OpenAI error
//!                      (or AnthropicLayer, ResponsesLayer, OllamaLayer: other protocols)
//!       │  http::Request<ChatRequest>            http::Response<impl ChatStream>
//!   JoinLayer          the same request again while the first still runs: one answer for both
//!   UsageLayer         what an answer has cost, told once, however it ends
//!   ShutdownLayer      an error in the client's protocol where the server has to stop
//!   FallbackLayer      another upstream where one cannot: another whole stack from here down
//!   SessionLayer       which upstream chat does this history continue?
//!   DedupLayer         send only what that chat has not seen
//!   ToolCallLayer      tools → prompt, calls in the text → tool_calls
//!   (or, outside of DedupLayer, ToolWrapLayer: every reply is one XML tool call,
//!                      for XML-protocol clients)
//!   TimeoutLayer       first event, idle, total; comments are not progress
//!   ResumeLayer        an answer that breaks off is gone on with
//!   AuthRefreshLayer   put the credential on; refresh once, retry once
//!   QwenWebLayer       chat ⇄ chat.qwen.ai wire  (or CompatibleLayer: chat ⇄ OpenAI wire;
//!                      or QwenResponsesLayer: chat ⇄ DashScope's Responses)
//!       │  http::Request<FullBody>               http::Response<B: Body>
//!   SseReframeLayer    any chunking in, whole well-formed events out
//!   QwenUpstream       the HTTP client: base URL, headers, cookies, pool
//! ```
//!
//! Every layer is optional and has a feature of its own. The order has reasons:
//!
//! - A repeated request is told by all that it asks for, and who repeats it need not know of chats, so
//!   joining is outside of the session. It is not paid for twice, so what counts tokens is inside of that.
//! - A stand-in knows nothing of a chat and gets the whole history, so falling back is outside of the
//!   session too.
//! - The session hashes what the *client* saw and will send back, so it is outside of the tools.
//! - Dedup needs the conversation that the session found, so it is inside of the session.
//! - The tools go only into the first message of a chat, so they are inside of dedup. The XML mode
//!   is outside of it, for it reads the client's system prompt in every turn.
//! - Text that the tools hold back is progress, and a wait for another turn of the chat is none of the
//!   upstream's, so the limits of time are between them.
//! - The tools read one text and the time is limited once, so what makes one answer of two is inside of
//!   them. What it asks for needs a credential, so that is inside of it.
//! - An expired token is reported inside a 200 that only the adapter can read, so the credential is
//!   outside of the adapter.
//!
//! Where types can say so, a wrong order does not compile.
//! [`SseReframeLayer`](sse::reframe::SseReframeLayer) also stands alone over any HTTP service. The
//! adapters read any chunking by themselves and do not need it.
//!
//! # A server
//!
//! With [`OpenAiLayer`](openai::OpenAiLayer) outermost the stack is an ordinary HTTP service with
//! `Error = Infallible`, for axum's `route_service` or hyper's `TowerToHyperService`. Here it
//! runs on the `Emulator` of [tower-qwen-emulator]; with
//! [`QwenUpstream`](qwen::client::QwenUpstream) in its place it talks to the real one.
//!
//! ```
//! use axum::{Router, body::Body, http::Request};
//! use http_body_util::BodyExt;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_qwen::{openai::OpenAiLayer, qwen::web::QwenWebLayer};
//! use tower_qwen_emulator::Emulator;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let qwen = ServiceBuilder::new()
//!     .layer(OpenAiLayer::new())
//!     .layer(QwenWebLayer::new())
//!     .service(Emulator::new());
//! let app: Router = Router::new().route_service("/v1/chat/completions", qwen);
//!
//! let request = Request::post("/v1/chat/completions").body(Body::from(
//!     r#"{"model":"qwen3-max","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#,
//! ))?;
//! let body = app.oneshot(request).await?.into_body().collect().await?.to_bytes();
//! assert!(body.starts_with(b"data: ") && body.ends_with(b"data: [DONE]\n\n"));
//! # Ok(())
//! # }
//! ```
//!
//! # A client
//!
//! Without the edge the stack is a Rust client.
//!
//! ```
//! use http::Request;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_qwen::{
//!     chat::{Answer, ChatRequest, Message, Role},
//!     qwen::web::QwenWebLayer,
//! };
//! use tower_qwen_emulator::Emulator;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! let qwen = ServiceBuilder::new().layer(QwenWebLayer::new()).service(Emulator::new());
//! let request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
//! let answer = Answer::collect(qwen.oneshot(Request::new(request)).await?.into_body()).await?;
//! assert!(!answer.text.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # Layers of others
//!
//! Any layer of tower, of tower-http or of your own that leaves bodies alone fits between any two
//! of these layers, and compiles: time-outs, buffers, load shedding, concurrency limits, retries,
//! headers, request ids. Their boxed errors become an [`Error`] where one of these layers stands
//! outside of them; what of [`Error`] was in there comes out as it was. Headers and extensions of
//! the request go on from the edge to the upstream's client, on every call that a turn takes; which
//! headers go out is at [`qwen`](qwen#headers). `examples/custom_layer.rs` is a layer that counts
//! the tokens of each tenant; with [`ChatService`](chat::ChatService) for the bounds it is a function
//! of twenty lines.
//!
//! What a layer adds to the [history](chat::History) goes upstream by where the layer stands:
//!
//! | a layer between | sees | and a message that it puts in front |
//! | --- | --- | --- |
//! | edge and `SessionLayer` | the whole history, all of it fresh | is a part of the conversation: sent once a chat, and it must be the same with every turn, else the history is unknown |
//! | `SessionLayer` and `DedupLayer` | what the chat has seen, and what is fresh | is sent with the first turn of a chat and with a replay; later it is among what was seen |
//! | `DedupLayer` and the adapter | what is sent | is sent with every turn |
//!
//! What it puts behind everything is fresh, so it is sent with this turn; outside of `SessionLayer`
//! the client's next request must bring it again. A request that a layer keeps a clone of and sends
//! once more, or sends again after an error, is what it was, whatever the first copy has gone
//! through.
//!
//! What tower's `Timeout`, `ConcurrencyLimit` and `Buffer` bound ends with the head of the
//! response: an adapter answers when the first meaningful event is there, so a time-out is one for
//! that event, and a limit counts requests that wait for it. A stream that goes on afterwards is
//! bounded by neither; the time that it takes is by this crate's own
//! [`TimeoutLayer`](timeout::TimeoutLayer). For tower's `Retry` there is a [policy](retry::RetryPolicy).
//!
//! # Features
//!
//! | feature | what it adds | crates | by default |
//! | --- | --- | ---: | --- |
//! | `chat` | the vocabulary that the layers share | 22 | yes |
//! | `sse` | the event-stream codec and `SseReframeLayer`, without a runtime | 11 | yes |
//! | `keep-alive` | keep-alives for `SseReframeLayer`, on tokio's clock | 12 | yes |
//! | `metrics`, `tracing` | what the layers count, and what they log | 12 each | yes |
//! | `edge` | what every edge is made with; each edge switches it on | 43 | yes |
//! | `openai` | `OpenAiLayer`, `CompletionsLayer`; with `compatible` also `EmbeddingsLayer` | 43 | yes |
//! | `anthropic` | `AnthropicLayer`, `CountTokens` | 43 | yes |
//! | `responses` | `ResponsesLayer` | 43 | yes |
//! | `ollama` | `OllamaLayer`, `GenerateLayer`; with `openai` and `compatible` also `EmbedLayer` | 45 | yes |
//! | `session` | `SessionLayer` and the store in memory | 52 | yes |
//! | `dedup` | `DedupLayer` | 28 | yes |
//! | `fallback` | `FallbackLayer` | 28 | yes |
//! | `format` | `FormatLayer` | 28 | yes |
//! | `inspect` | `InspectLayer` | 25 | yes |
//! | `join` | `JoinLayer` | 37 | yes |
//! | `tool-call` | `ToolCallLayer` and the scanner | 32 | yes |
//! | `tool-wrap` | `ToolWrapLayer` | 28 | yes |
//! | `timeout` | `TimeoutLayer` | 28 | yes |
//! | `resume` | `ResumeLayer` | 28 | yes |
//! | `shutdown` | `ShutdownLayer` | 28 | yes |
//! | `retry` | `RetryPolicy`, for tower's `RetryLayer` | 34 | yes |
//! | `usage` | `UsageLayer` | 28 | yes |
//! | `auth` | credentials, providers, `AuthRefreshLayer` | 53 | yes |
//! | `web` | `QwenWebLayer` | 34 | yes |
//! | `upload` | `UploadLayer`: files for chat.qwen.ai | 48 | yes |
//! | `compatible` | `CompatibleLayer` | 34 | yes |
//! | `responses-upstream` | `QwenResponsesLayer` | 34 | yes |
//! | `client` | `QwenUpstream`, which decompresses but has no TLS and refuses `https:` | 99 | no |
//! | `client-rustls` | TLS for it: rustls with aws-lc | 112 | no |
//! | `client-rustls-ring` | TLS for it: rustls with ring | 112 | no |
//! | `client-native-tls` | TLS for it: OpenSSL, or what the platform has | 111 | no |
//! | `fetch` | `FetchLayer`: what URLs in messages name; switches `client` on | 105 | no |
//! | `full` | `default`, `fetch` and `client-rustls` | 143 | no |
//! | `usage-db` | nothing here: a file for what the proxy's keys have used | 29 | no |
//! | `otlp` | for the proxy alone: spans for a collector; nothing in the library | 127 | no |
//! | `redis` | the store for several proxies | 101 | no |
//!
//! All that is on by default comes to 75 crates: no HTTP client, no server, no TLS, no Redis.
//! The numbers are of crates that somebody gets with that feature alone, this one included, on
//! Linux; this prints them:
//!
//! ```sh
//! cargo tree -e normal --no-default-features --features sse --prefix none --no-dedupe | sort -u | wc -l
//! ```
//!
//! Any other layer but `SseReframeLayer` switches `metrics` and `tracing` on, and the edges,
//! `web`, `compatible` and `timeout` also `keep-alive`. Of several TLS features the first in the table is used. No
//! feature changes what other crates of a program do.
//!
//! # What is promised
//!
//! - Memory is bounded, and time is linear in the input, whatever upstream or client send. A request
//!   takes at most four times the size of its body beside it, and what [`edge::Limits`] says of its
//!   counts.
//! - Nobody holds a thread for long. Requests from 256 KiB on are decoded, hashed, rewritten and
//!   written by tokio's `spawn_blocking`, by half of the cores at a time; outside of a runtime that
//!   is done in place. One poll takes at most 256 items or 256 KiB of what always has more.
//! - Nothing they send makes it panic.
//! - A response that is dropped cancels the work upstream, unless a `JoinLayer` lets it go on for a
//!   stated time. Before it was answered, it leaves no chat behind. A refresh that has begun is never
//!   lost.
//! - An upstream that goes on and says nothing keeps no request open: comments, blank lines and
//!   empty events are no progress, and a client's body has to get on too.
//! - A credential is refreshed once at a time, and a request is replayed for it once at most. What was
//!   given up on this side, while the upstream may still be at work on it, is not sent again.
//! - Nothing is repeated after the *commit point*. An adapter answers only when the first event
//!   that a client sees is there. Errors before it have a status of their own; errors after it are
//!   written into the stream.
//! - A stream has one terminal frame. It is never ended silently: an upstream that breaks off is
//!   an error, whatever its status was.
//! - A conversation never leaks into another tenant's, and clients without a tenant share nothing.
//! - Challenges of an anti-bot layer are recognised and reported, never evaded.
//!
//! # More to read
//!
//! - [Architecture][architecture]: how the code is laid out, and where to put something new.
//! - [Streams in tower][streams]: what buffers, which limit bounds what, and what ends a stream.
//! - [The wire of Qwen][wire] and [the formats of tool calls][calls], for those who implement or
//!   emulate them.
//! - [The proxy][proxy]: its options, its routes and the settings of its clients.
//!
//! [architecture]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/architecture.md
//! [calls]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/tool-calls.md
//! [proxy]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/configuration.md
//! [streams]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/streams-in-tower.md
//! [tower]: https://docs.rs/tower
//! [tower-qwen-emulator]: https://docs.rs/tower-qwen-emulator
//! [wire]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

#[macro_use]
mod macros;

#[cfg(any(feature = "auth", feature = "chat"))]
mod account;
#[cfg(feature = "chat")]
#[cfg_attr(docsrs, doc(cfg(feature = "chat")))]
pub mod alias;
#[cfg(feature = "anthropic")]
pub mod anthropic;
#[cfg(feature = "auth")]
pub mod auth;
#[cfg(any(
    feature = "auth",
    feature = "compatible",
    feature = "edge",
    feature = "retry",
    feature = "web"
))]
mod body;
#[cfg(any(feature = "chat", feature = "sse"))]
mod budget;
#[cfg(feature = "chat")]
pub mod chat;
#[cfg(any(
    feature = "fallback",
    feature = "join",
    feature = "keep-alive",
    feature = "resume",
    feature = "retry",
    feature = "session"
))]
mod clock;
#[cfg(any(feature = "compatible", feature = "tool-call", feature = "tool-wrap", feature = "web"))]
mod closer;
#[cfg(any(feature = "auth", feature = "chat", feature = "client"))]
mod credential;
#[cfg(feature = "dedup")]
pub mod dedup;
#[cfg(feature = "edge")]
#[cfg_attr(
    not(all(
        feature = "anthropic",
        feature = "ollama",
        feature = "openai",
        feature = "responses"
    )),
    allow(dead_code, unused_imports, unused_macros, reason = "each edge uses some of it")
)]
pub mod edge;
mod error;
#[cfg(feature = "fallback")]
#[cfg_attr(docsrs, doc(cfg(feature = "fallback")))]
pub mod fallback;
#[cfg(feature = "chat")]
#[cfg_attr(
    not(feature = "compatible"),
    allow(dead_code, reason = "only this adapter asks all of it")
)]
mod family;
#[cfg(feature = "fetch")]
#[cfg_attr(docsrs, doc(cfg(feature = "fetch")))]
pub mod fetch;
#[cfg(feature = "format")]
#[cfg_attr(docsrs, doc(cfg(feature = "format")))]
pub mod format;
#[cfg(any(feature = "auth", feature = "client", feature = "compatible", feature = "web"))]
#[cfg_attr(
    not(any(feature = "auth", feature = "web")),
    allow(dead_code, reason = "each reader looks for some of what a head says")
)]
mod head;
#[cfg(feature = "inspect")]
#[cfg_attr(docsrs, doc(cfg(feature = "inspect")))]
pub mod inspect;
#[cfg(feature = "join")]
#[cfg_attr(docsrs, doc(cfg(feature = "join")))]
pub mod join;
#[cfg(feature = "chat")]
mod json;
#[cfg(any(feature = "fetch", feature = "ollama", feature = "upload"))]
mod media;
#[cfg(feature = "sse")]
mod observe;
#[cfg(any(
    feature = "compatible",
    feature = "edge",
    feature = "join",
    feature = "session",
    feature = "tool-call",
    feature = "web"
))]
mod offload;
#[cfg(feature = "ollama")]
pub mod ollama;
#[cfg(feature = "openai")]
pub mod openai;
#[cfg(any(feature = "client", feature = "compatible", feature = "web"))]
pub mod qwen;
#[cfg(feature = "responses")]
pub mod responses;
#[cfg(feature = "resume")]
#[cfg_attr(docsrs, doc(cfg(feature = "resume")))]
pub mod resume;
#[cfg(feature = "retry")]
#[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
pub mod retry;
#[cfg(any(feature = "auth", feature = "compatible", feature = "retry", feature = "web"))]
mod retry_after;
#[cfg(feature = "session")]
pub mod session;
#[cfg(any(feature = "auth", feature = "compatible", feature = "web"))]
mod shared_task;
#[cfg(feature = "shutdown")]
#[cfg_attr(docsrs, doc(cfg(feature = "shutdown")))]
pub mod shutdown;
#[cfg(feature = "sse")]
pub mod sse;
#[cfg(all(any(feature = "chat", feature = "sse"), not(fuzzing)))]
mod steps;
#[cfg(all(any(feature = "chat", feature = "sse"), fuzzing))]
#[doc(hidden)]
#[allow(missing_docs, reason = "for the fuzz targets alone")]
pub mod steps;
#[cfg(any(feature = "chat", feature = "sse"))]
mod text;
#[cfg(feature = "timeout")]
#[cfg_attr(docsrs, doc(cfg(feature = "timeout")))]
pub mod timeout;
#[cfg(feature = "chat")]
#[cfg_attr(docsrs, doc(cfg(feature = "chat")))]
pub mod tokens;
#[cfg(any(feature = "tool-call", feature = "tool-wrap"))]
pub mod tool;
#[cfg(feature = "usage")]
#[cfg_attr(docsrs, doc(cfg(feature = "usage")))]
pub mod usage;
#[cfg(any(feature = "compatible", feature = "web"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "compatible", feature = "web"))))]
pub mod variant;

#[cfg(any(feature = "auth", feature = "chat"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "auth", feature = "chat"))))]
pub use self::account::AccountName;
#[cfg(any(
    feature = "auth",
    feature = "compatible",
    feature = "edge",
    feature = "retry",
    feature = "web"
))]
#[cfg_attr(
    docsrs,
    doc(cfg(any(
        feature = "auth",
        feature = "compatible",
        feature = "edge",
        feature = "retry",
        feature = "web"
    )))
)]
pub use self::body::FullBody;
#[cfg(any(feature = "auth", feature = "chat", feature = "client"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "auth", feature = "chat", feature = "client"))))]
pub use self::credential::CredentialHeaders;
pub use self::error::{Error, ErrorKind, Fate};
#[cfg(any(feature = "chat", feature = "sse"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "chat", feature = "sse"))))]
pub use self::text::Text;

/// Any error that can go to another thread, as tower has it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The examples of the README and of the pages in docs/ are compiled and run with those of the
/// documentation.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/event-streams.md")]
    struct EventStreams;
    #[doc = include_str!("../docs/sessions.md")]
    struct Sessions;
    #[doc = include_str!("../docs/files.md")]
    struct Files;
    #[doc = include_str!("../docs/media.md")]
    struct Media;
}

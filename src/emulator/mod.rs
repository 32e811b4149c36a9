//! An in-process chat.qwen.ai for demos, tests and benches.
//!
//! [`Emulator`] is an ordinary HTTP service that answers as the web API does (qwen-wire.md A1 to
//! A16, A20, A21), with an OAuth server beside it (B1 to B3). Put it where
//! [`QwenUpstream`](crate::qwen::client::QwenUpstream) stands, or bind it to a socket with
//! [`serve`](Emulator::serve). It is no model: it says what it received.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, StatusCode};
//! use http_body_util::{BodyExt, Full};
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_qwen::emulator::Emulator;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let emulator = Emulator::builder().token("secret", "ann").require_credentials(true).build();
//! let qwen = ServiceBuilder::new().concurrency_limit(8).service(emulator.clone());
//!
//! let request = Request::post("https://chat.qwen.ai/api/v2/chats/new")
//!     .header("cookie", "token=secret")
//!     .body(Full::<Bytes>::from(r#"{"title":"New Chat","models":["qwen3-max"]}"#))?;
//! let response = qwen.oneshot(request).await?;
//! assert_eq!(response.status(), StatusCode::OK);
//! let body = response.into_body().collect().await?.to_bytes();
//! assert!(body.starts_with(br#"{"success":true"#));
//! assert_eq!(emulator.chats()[0].account, "ann");
//! # Ok(())
//! # }
//! ```
//!
//! # What it answers
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /api/models`, `GET /api/v2/models/` | the catalogue (A5); the second in the envelope, as `data.data` |
//! | `POST /api/v2/chats/new` | a chat, for any model (A6) |
//! | `POST /api/v2/chat/completions?chat_id=` | an event stream, or JSON for `stream:false` (A7, A10 to A13) |
//! | `POST /api/v2/chat/completions/stop` | ends the answer in progress (A20) |
//! | `GET`, `DELETE /api/v2/chats/`, `GET`, `DELETE /api/v2/chats/<id>`, `POST /api/v2/chats/batch_delete` | the chats of the account (A20) |
//! | `GET /api/v1/auths/` | the user record with a fresh session token (A1) |
//! | `POST /api/v1/oauth2/device/code`, `POST /api/v1/oauth2/token` | device authorisation and refresh (B1 to B3) |
//!
//! Without [`require_credentials`](Builder::require_credentials) anyone may ask, and requests
//! without a known credential belong to one account, `guest`. Chats are trees: an answer is given
//! what is on the path of its parent and nothing else, and [`Emulator::path`] shows it. One
//! answer at a time is made in a chat.
//!
//! The model says how much it received and repeats the user's last words. If the conversation
//! offers tools, and the words name one, it calls it, in the format that the prompt asks for
//! (tool-calls.md a.1); arguments that follow the name, as in `weather {"city":"Oslo"}` or
//! `weather(city="Oslo")`, are passed on as they are, otherwise what the schema requires is made
//! up. The result of a tool is answered in words, so the loop of an agent ends.
//!
//! # Faults and shapes on request
//!
//! The *last user text* of a request may hold directives, `emulate:NAME` or `emulate:NAME=ARG`,
//! anywhere and several at a time. Where a history was folded into one message with the roles
//! marked (`[user]`, `User: …`, `### User`), the last user text is what follows the last user's
//! mark; the result of a tool holds no directives. A recording is subject to refusals, pacing,
//! pieces and early endings; the rest of the table is about answers of the emulator's own.
//!
//! | directive | what happens |
//! | --- | --- |
//! | **before the answer** | |
//! | `rate_limited[=hours]` | `RateLimited` with `num` (24) |
//! | `quota`, `unauthorized`, `forbidden`, `model_not_found`, `in_progress`, `parallel_limited`, `internal` | this refusal in the envelope (A15.2) |
//! | `chat_lost[=1\|2\|3]` | a request that goes on from a message gets `Not_Found`, `CHAT_NOT_FOUND` or the text alone |
//! | `parent_lost[=1\|2]` | such a request gets `PARENT_NOT_FOUND`, or `Bad_Request` with text |
//! | `parent_silent` | such a request is answered without the earlier messages |
//! | `flat` | refusals have `code` and `details` at the top level (A4) |
//! | `challenge_html`, `challenge_redirect`, `challenge_json`, `challenge_endless` | the anti-bot layer; the last one's body never ends (A16) |
//! | `timeout` | 504 "stream timeout" (B8) |
//! | `status[=n]` | this HTTP status (502) with a page |
//! | `wait[=ms]` | the head takes this long (1,000) |
//! | `times[=n]` | the directives of this text count for the first n requests with it (1) |
//! | **within the stream**, after `n` deltas (none) | |
//! | `overloaded[=n]`, `content_filter[=n]`, `too_long[=n]`, `invalid_input[=n]`, `error_event[=n]` | an error object with the code `quota_limit`, `data_inspection_failed`, `InternalError.Algo.InvalidParameter`, `invalid_input`, `internal_error` |
//! | `error_string[=n]`, `error_envelope_event[=n]`, `error_bare[=n]` | an error as a string, as an envelope, as a bare `code` and `detail` |
//! | **of the connection**, after `n` deltas (3) | |
//! | `cut[=n]` | the body ends before `finished` |
//! | `reset[=n]` | the body fails; behind a socket, the connection breaks |
//! | `stall[=n]` | nothing more comes |
//! | **of the wire** | |
//! | `slow[=ms]` | a wait before every delta (100) |
//! | `bytes[=n]` | pieces of n bytes (1) |
//! | `cumulative` | deltas hold the whole text so far (A13) |
//! | `no_blank_lines`, `crlf`, `no_phase` | events without blank lines, lines ended by CR LF, deltas without `phase` |
//! | `hold_open` | the socket stays open after `finished` |
//! | `done` | a `[DONE]` at the end |
//! | `keep_alive` | keep-alive events, and every 10 s on a socket that is held open or stalls |
//! | `style=2025`, `style=2026` | the [`Style`] |
//! | `json` | the answer that is not streamed (A12) |
//! | **of the answer** | |
//! | `say=TEXT` | TEXT, to the end of the line |
//! | `lead=TEXT` | TEXT, to the end of the line, before the calls of tools |
//! | `tokens[=n]` | n deltas (100) |
//! | `unicode` | text of many scripts |
//! | `path` | the texts on the path of the message |
//! | `think`, `think_raw`, `think_empty` | thinking as summaries, as text, without content (A11.3) |
//! | `search`, `image` | a web search before the answer, an image in its place |
//!
//! # What it keeps
//!
//! Chats, the log of requests, tokens and device codes, each up to a limit; see
//! [`Builder::chat_limits`] and [`Builder::log_limits`]. Of an answer made by `tokens` the chat
//! keeps the first 64 KiB.
//!
//! # What it does not do
//!
//! Files, video and projects; fingerprints and device headers; limits of its own. OAuth access
//! tokens are credentials of the web API here, which the real one refuses.

mod answer;
mod body;
mod builder;
mod clock;
mod completion;
mod directive;
mod envelope;
mod generation;
mod models;
mod oauth;
mod prompt;
mod script;
mod serve;
mod service;
mod state;
mod tools;

pub use self::{
    body::Body,
    builder::{Builder, ReplayError, Style, UnknownParent},
    oauth::{OAuthAccount, RefreshFault},
    service::{Emulator, ResponseFuture},
    state::{ChatRecord, Counters, MessageRecord, ReceivedRequest},
};

//! An in-process chat.qwen.ai, or one of the OpenAI-compatible servers, for demos, tests and
//! benches.
//!
//! [`Emulator`] is an ordinary HTTP service that answers as the [web API][web] does, with an OAuth
//! server beside it; with another [`Kind`] it answers as
//! [vLLM and others](#openai-compatible-servers) do. It is no model: it says what it received.
//!
//! Put it where the HTTP client stands, `QwenUpstream` of [tower-qwen], or bind it to a socket
//! with [`serve`](Emulator::serve). It needs nothing of tower-qwen and obeys words in a prompt
//! ([below](#faults-and-shapes-on-request)), so it is a crate of its own: a dev-dependency, or
//! what a demo answers with, and never what a real service ships.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, StatusCode};
//! use http_body_util::{BodyExt, Full};
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_qwen_emulator::Emulator;
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
//! | `GET /api/models`, `GET /api/v2/models/` | the catalogue; the second in the envelope, as `data.data` |
//! | `POST /api/v2/chats/new` | a chat, for any model |
//! | `POST /api/v2/chat/completions?chat_id=` | an event stream, or JSON for `stream:false` |
//! | `POST /api/v2/chat/completions/stop` | ends the answer in progress |
//! | `GET`, `DELETE /api/v2/chats/`, `GET`, `DELETE /api/v2/chats/<id>`, `POST /api/v2/chats/batch_delete` | the chats of the account |
//! | `POST /api/v2/files/getstsToken`, `POST /api/v2/files/parse`, `POST /api/v2/files/parse/status` | a place for a file of the account, and the reading of a document |
//! | `PUT` of any path | the object store: it checks the signature (version 4) |
//! | `GET /api/v1/auths/` | the user record with a fresh session token |
//! | `POST /api/v1/oauth2/device/code`, `POST /api/v1/oauth2/token` | device authorisation and refresh |
//!
//! Without [`require_credentials`](Builder::require_credentials) anyone may ask, and requests
//! without a known credential belong to one account, `guest`. Chats are trees: an answer is given
//! what is on the path of its parent and nothing else, and [`Emulator::path`] shows it. One
//! answer at a time is made in a chat.
//!
//! The model says how much it received and repeats the user's last words. If the conversation
//! offers tools, and the words name one, it calls it, in the format that the prompt asks for
//! ([the formats][calls]); arguments that follow the name, as in `weather {"city":"Oslo"}` or
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
//! | `quota`, `unauthorized`, `forbidden`, `model_not_found`, `in_progress`, `parallel_limited`, `internal` | this refusal in the envelope |
//! | `chat_lost[=1\|2\|3]` | a request that goes on from a message gets `Not_Found`, `CHAT_NOT_FOUND` or the text alone |
//! | `parent_lost[=1\|2]` | such a request gets `PARENT_NOT_FOUND`, or `Bad_Request` with text |
//! | `parent_silent` | such a request is answered without the earlier messages |
//! | `flat` | refusals have `code` and `details` at the top level |
//! | `challenge_html`, `challenge_redirect`, `challenge_json`, `challenge_endless` | the anti-bot layer; the last one's body never ends |
//! | `timeout` | 504 "stream timeout" |
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
//! | `cumulative` | deltas hold the whole text so far |
//! | `no_blank_lines`, `crlf`, `no_phase` | events without blank lines, lines ended by CR LF, deltas without `phase` |
//! | `hold_open` | the socket stays open after `finished` |
//! | `done` | a `[DONE]` at the end |
//! | `keep_alive` | keep-alive events, and every 10 s on a socket that is held open or stalls |
//! | `style=2025`, `style=2026` | the [`Style`] |
//! | `json` | the answer that is not streamed |
//! | **of the answer** | |
//! | `say=TEXT` | TEXT, to the end of the line |
//! | `lead=TEXT` | TEXT, to the end of the line, before the calls of tools |
//! | `tokens[=n]` | n deltas (100) |
//! | `unicode` | text of many scripts |
//! | `path` | the texts on the path of the message |
//! | `think`, `think_raw`, `think_empty` | thinking as summaries, as text, without content |
//! | `search`, `image` | a web search before the answer, an image in its place |
//! | `sources=N` | the search, which a chat of type `search` makes unasked, finds so many pages (2), else one |
//!
//! # Files
//!
//! A file that was uploaded is told of in the answer to the turn that shows it: its name, type, size
//! and digest, and how a document begins. [`Emulator::files`] gives them whole. The URL of one is good
//! for 300 s on the clock of tokio. These directives stand in the file itself, or in its name:
//!
//! | directive | what happens |
//! | --- | --- |
//! | `upload_quota[=hours]`, `upload_unauthorized`, `upload_moderated` (in the name) | no place is given: `RateLimited`, `Unauthorized`, `data_inspection_failed` |
//! | `upload_host=HOST` (in the name) | the place is said to be below this host |
//! | `upload_refused`, `upload_failed` | the store answers 403 `AccessDenied`, 500 `InternalError` |
//! | `upload_slow[=ms]` | the store takes this long (1,000) |
//! | `parse_failed`, `parse_slow[=n]` | a document is not read; it is at the n-th question but one (3) |
//! | `moderated`, `url_expired` | a turn that shows the file fails in its stream: `data_inspection_failed`, `invalid_input` |
//!
//! A turn that shows a file of another account, one that was not put, a document that was not parsed
//! or a file by a URL of elsewhere fails with `invalid_input`; an image by a URL of elsewhere does not.
//!
//! # OpenAI-compatible servers
//!
//! With another [`kind`](Builder::kind) the emulator is a server that speaks almost the OpenAI API,
//! with the [deviations][servers] that are known of it. It takes paths with `/v1` or
//! `/compatible-mode/v1` before them and without.
//!
//! ```
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::{BodyExt, Full};
//! use tower::ServiceExt;
//! use tower_qwen_emulator::{Emulator, Kind};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ollama = Emulator::builder().kind(Kind::Ollama).build();
//! let request = Request::post("/v1/chat/completions").body(Full::<Bytes>::from(
//!     r#"{"model":"qwen3-coder:30b","stream":true,"messages":[
//!         {"role":"user","content":"emulate:error_event=1 emulate:say=Hi there"}]}"#,
//! ))?;
//! let body = ollama.oneshot(request).await?.into_body().collect().await?.to_bytes();
//! let body = std::str::from_utf8(&body)?;
//! // Its model failed behind the first word, and it does not say so.
//! assert!(body.contains(r#""content":"Hi""#) && !body.contains("there"));
//! assert!(!body.contains("error") && !body.contains("[DONE]"));
//! # Ok(())
//! # }
//! ```
//!
//! | request | who answers |
//! | --- | --- |
//! | `POST /chat/completions` | all |
//! | `GET /models` | all; llama.cpp without a key |
//! | `GET /models/{id}` | SGLang, Ollama |
//! | `POST /completions` | all but the portal; DashScope for `qwen-coder…` and `qwen2.5-coder…` |
//! | `POST /infill` | llama.cpp |
//! | `POST /responses`; `GET`, `DELETE /responses/{id}` | DashScope, which keeps what it answered for seven days ([`Emulator::responses`]) |
//! | `POST /embeddings` | all but the portal, for models with `embed` in their name |
//! | `POST /api/v1/oauth2/…` | the portal, as above |
//! | `POST /v1/rerank`, `POST /compatible-api/v1/reranks` | vLLM, SGLang and llama.cpp the first, DashScope the second |
//! | `POST /v1/audio/speech`, `/v1/audio/transcriptions`, `/v1/audio/translations` | vLLM |
//! | `POST /api/v1/indices/plugin/web_search` | the portal; it always finds the same page |
//!
//! What each gets wrong; [`Style`] chooses between the builds of 2025 and those of 2026.
//!
//! | point | vLLM | SGLang | Ollama | llama.cpp | DashScope | portal |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | thinking | 2025 `reasoning_content`, 2026 `reasoning` | `reasoning_content` | `reasoning` | `reasoning_content` | `reasoning_content` | 2025 `<think>` in the content, 2026 `reasoning_content` |
//! | first chunk | role, `""` | role, nulls | role in every chunk | role, `content` null | 2025 only the role | role, `""` |
//! | finish reason of middle chunks | 2025 missing | 2025 `""` | 2025 `""` | null | 2025 `"null"` | null |
//! | last chunk | `stop_reason` | `matched_stop` | `delta:{}` | `delta:{}`, `timings` | keys in another order, behind calls `delta:{}` | `delta:{}` |
//! | finish behind calls | `stop` if they were demanded | `tool_calls` | 2025 `stop` | `tool_calls` | `tool_calls` | `tool_calls` |
//! | calls | fragments | fragments, nulls | whole | fragments | fragments, ids and names 2025 `""`, 2026 null; first arguments null; one, unless `parallel_tool_calls` | fragments; made up where `tools` is `[]` |
//! | usage in a stream | own chunk; 2025 for any `stream_options`; on every chunk if asked | own chunk; 2026 on every chunk if asked | own chunk; zeros on every legacy chunk | 2025 always, on the finish chunk | own chunk | own chunk, cache counters |
//! | error body | code a number; 2025 flat; 401 a word | flat, code a number; 401 a word | code null | code a number | with ids, or native | 504 as text |
//! | error in a stream | `error`, `[DONE]` | the same | none at all | 2025 a line `error:`, `[DONE]`; 2026 `error` | `error`, or native | `error` |
//! | ids | `chatcmpl-…` | bare | collide | `created` per chunk | UUID | UUID |
//! | model | must be known | any | must be known | any | must be known; echoed by another name | must be known by the portal's name |
//! | `suffix` of a completion | 400 | not looked at | put into the prompt for models with `coder` in their name, else 400 | 400, whatever it holds | not looked at | |
//! | embeddings | float, base64 | float, whatever is asked | 2025 float | float, base64 | float; 2026 refuses base64; 10 or 25 inputs; out of order | none |
//! | refuses (400) | | | | tools without `--jinja` (500) | whole answers of models that think or stream only, search, `n`, `seed`, JSON without the word, thinking with a chosen tool, budget with effort, no thinking of models that must | no system message, its text not in parts, others in parts, neighbours of one role, schema keywords, too many tokens |
//! | efforts of Qwen3.8, where any but `low`, `medium` and `xhigh` makes the template raise | 2025 500, 2026 400 | 400 | 500; 2025 knows `none`, `low`, `medium`, `high`, else 400 | 500; `none` is a switch | 400 for `max` and what it does not know | as DashScope |
//! | keep-alive | | | | `:` | | |
//! | thinks unasked | open hybrid models, Qwen3.8 | the same | the same | the same | the same | |
//!
//! Where a request declares tools the model's calls are native: the server's parser takes them
//! out of the text, if they are whole `<tool_call>` blocks; other forms stay in the text as in the
//! field. Tools in the prompt are answered in text. `max_tokens` and `stop`
//! are obeyed, and there is one choice. A message is what came since the last answer; system texts
//! are not in what [`answers`](Builder::answers) is given.
//!
//! These servers know the directives of [above](#faults-and-shapes-on-request) that concern no
//! chats, envelopes or challenges, as far as the kind can do that, and:
//!
//! | directive | what happens |
//! | --- | --- |
//! | `rate_limited[=s]` | 429; with `Retry-After`, if seconds are given |
//! | `quota[=status]` | used up, with 429 or this status |
//! | `burst`, `tokens_limited`, `billing` | DashScope's other refusals of that kind |
//! | `loading` | 503; Ollama is slow |
//! | `overloaded`, `content_filter`, `too_long`, `invalid_input` | before the answer; with `=n` in the stream, after n deltas |
//! | `error_event[=n]`, `error_string[=n]`, `timeout_event[=n]`, `rate_event[=n]` | a fault in the stream, as this server says it |
//! | `flat` | DashScope's native shape |
//! | `no_jinja` | llama.cpp refuses tools |
//! | `reasoning=reasoning\|reasoning_content\|both\|tags\|opened` | where thinking stands: which field, in `<think>`, or only closed |
//! | `unparsed[=coder\|hermes\|bare\|tags\|reasoning]` | the server's parser does not see the calls, which stay in the text in this form, or in the thinking |
//! | `broken_call` | what its parser makes of a call at its worst: an opening brace lost, an object not closed, a call dropped, an error, a name that comes late |
//! | `repeat_names`, `calls_at_zero` | every delta of a call names it; all calls have index 0 |
//! | `echo` | the prompt, or the message, byte for byte as the model is given it |
//! | `finish=WORD`, `no_finish`, `no_done`, `no_role`, `no_usage` | this finish reason, or what is missing |
//!
//! # What it keeps
//!
//! Chats, the log of requests, tokens and device codes, each up to a limit; see
//! [`Builder::chat_limits`] and [`Builder::log_limits`]. Of an answer made by `tokens` the chat
//! keeps the first 64 KiB.
//!
//! # What it does not do
//!
//! Video and projects; fingerprints and device headers; limits of its own. OAuth access
//! tokens are credentials of the web API here, which the real one refuses. Of the OpenAI-compatible
//! servers: log probabilities, several choices, structured output, responses, and the native APIs
//! beside the compatible one.
//!
//! [calls]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/tool-calls.md#a
//! [servers]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#c
//! [tower-qwen]: https://docs.rs/tower-qwen
//! [web]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#a

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod answer;
mod body;
mod builder;
mod clock;
mod compatible;
mod completion;
mod directive;
mod envelope;
mod files;
mod generation;
mod json;
mod kind;
mod media;
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
    files::FileRecord,
    kind::{Kind, UnknownKind},
    oauth::{OAuthAccount, RefreshFault},
    service::{Emulator, ResponseFuture},
    state::{ChatRecord, Counters, MessageRecord, ReceivedRequest},
};

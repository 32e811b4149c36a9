//! The adapter to OpenAI-compatible upstreams.
//!
//! DashScope, the OAuth portal, vLLM, SGLang, Ollama, llama.cpp and LM Studio all speak almost
//! the OpenAI API, each with deviations of its own. [`CompatibleLayer`] makes a chat service of
//! any of them, so that the same layers serve them: it writes the request as that [`Server`]
//! wants it and repairs the answer.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     FullBody,
//!     chat::{Answer, ChatRequest, Message, Role},
//!     qwen::compatible::{CompatibleLayer, Server},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! // In place of a `QwenUpstream` with the base URL of the server.
//! let upstream = service_fn(|_: Request<FullBody>| async {
//!     Ok::<_, tower_qwen::Error>(
//!         Response::builder()
//!             .header("content-type", "text/event-stream")
//!             .body(FullBody::new(Bytes::from(concat!(
//!                 "data: {\"choices\":[{\"delta\":{\"content\":\"<think>hm</think>Hi\"}}]}\n\n",
//!                 "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
//!                 "data: [DONE]\n\n",
//!             ))))
//!             .expect("a response"),
//!     )
//! });
//! let qwen = ServiceBuilder::new().layer(CompatibleLayer::new(Server::Vllm)).service(upstream);
//! let request = ChatRequest::new("qwen3-32b", vec![Message::new(Role::User, "Hello")]);
//! let answer = Answer::collect(qwen.oneshot(Request::new(request)).await?.into_body()).await?;
//! assert_eq!((&*answer.reasoning, &*answer.text), ("hm", "Hi"));
//! # Ok(())
//! # }
//! ```
//!
//! # What is repaired
//!
//! | deviation | what becomes of it | `repair` |
//! | --- | --- | --- |
//! | reasoning as `reasoning_content`, `reasoning`, or both | one stream of reasoning | |
//! | a leading `<think>` block in the content | reasoning | `think_tags` |
//! | pieces that hold the whole text so far | what is new in them, see [`ContentMode`] | `cumulative` |
//! | pieces of `arguments` that hold all so far | what is new in them, where joined they would be no JSON | `cumulative` |
//! | no id of a call, or that of another | one is made up | `call_id` |
//! | id, name or type of a call again, or empty, or null | announced once | `call_repeated` |
//! | `arguments` null or an object | `{}`, or its text | `arguments` |
//! | `arguments` an object in a string, in a list, in a fence or in the tags of a dialect; raw control characters in them; text behind them | the object | `arguments` |
//! | `arguments` that are cut or no JSON | as much as is JSON; the answer ends with `length` | `arguments`, `finish_reason` |
//! | names in pieces, those of several calls in turns too | joined, where that makes the name of a function on offer | |
//! | all calls under index 0 | told apart by their ids | `call_index` |
//! | a new id on a piece without a name | the call goes on that is open under its index | `call_repeated` |
//! | white space before a call, closing tags behind it | left out | |
//! | a key twice, numbers as strings, strings as numbers, values of other types where nothing depends on them | the last, the same, nothing | |
//! | half a character at the end of a piece | joined with the other half, or U+FFFD | |
//! | `NaN` and `Infinity` | nothing | |
//! | content as a list of parts, or a number | its text | |
//! | a choice whose index is not 0 | the answer, if it comes first | |
//! | a connection that stays open behind the finish reason, with comments or silent | the answer ends after 2 s at most ([`grace`](CompatibleLayer::grace)) | |
//! | arguments before the name; a call that is never named | they wait for it; it is none | `late_name`, `nameless` |
//! | `finish_reason` `""` or `"null"` on middle chunks | not the end | `empty_finish_reason` |
//! | finish `stop` after calls, `tool_calls` without | `tool_calls`, `stop` | `finish_reason` |
//! | a finish reason in another vendor's words | that of ours which means the same | `unknown_finish_reason` |
//! | a finish reason that nobody knows | `length`, for the answer may not be whole | `unknown_finish_reason` |
//! | a finish reason that says the server failed, such as `abort` | an error | `unknown_finish_reason` |
//! | no finish reason before `[DONE]`, which is the server's own word that it is done | `stop`, or `tool_calls` if all calls are whole; `length` if there is thinking alone, or a call without arguments or with half of them | `missing_finish_reason` |
//! | no finish reason of a whole answer, which was cut at 300 s | `length` | `missing_finish_reason` |
//! | no `[DONE]` | not needed behind a finish reason | `missing_done` |
//! | an end without either | [`ErrorKind::Truncated`](crate::ErrorKind::Truncated) | |
//! | numeric error codes | no code | `error_code` |
//! | flat error bodies, or a string | errors with their meaning | `flat_error` |
//! | an event without a choice that says `message`, `detail`, `msg` or `code` | an error with its meaning | `flat_error` |
//! | an answer without any choice | [`ErrorKind::Upstream`](crate::ErrorKind::Upstream) | |
//! | errors in the stream, in an `error:` line or an event of that type too | errors with their meaning | `error_event` |
//! | usage on every chunk, on the last, or in one of its own | the last one, once | |
//! | usage that cannot be read | left out | `usage` |
//! | explicit nulls, missing deltas, unknown fields, comments | nothing | |
//! | a whole answer although a stream was asked for | read as one | `whole` |
//! | an event that is a list of chunks | each of them | `list` |
//! | an event stream under another media type | read as one, known by its beginning | `media_type` |
//!
//! Where each was seen says `docs/reference/qwen-wire.md`, in its parts B and C.
//!
//! What the answer is called and who speaks is put right by
//! [`OpenAiLayer`](crate::openai::OpenAiLayer): one id, time and model for the whole stream, the
//! role in the first chunk, string codes of errors.
//!
//! # What is said to which server
//!
//! Requests go out as the client wrote them, with these exceptions. Fields that the vocabulary
//! does not know, such as `enable_search` or `search_options` of DashScope, and the schemas of
//! tools pass byte for byte.
//!
//! | server | what is different |
//! | --- | --- |
//! | all | a stream with usage is asked for, whatever the client wants; `developer` is `system`; an empty list of tools is left out; how much to think is said [as it is understood](#thinking) |
//! | portal | qwen-code's `user-agent` and headers; a system message there must be, with `cache_control`; neighbours of one role merged; text as strings; some keywords of schemas left out; its models' other names and limits |
//!
//! A request has the [headers](super#headers) that travel, and the envelope's extensions.
//!
//! [`max_tokens`](CompatibleLayer::max_tokens) adds limits for any of them. Other names of models are
//! for [`AliasLayer`](crate::alias::AliasLayer).
//!
//! # Thinking
//!
//! Clients of every edge ask for an effort, for a budget, or for thinking as such. Models and
//! servers differ in what of that they understand, and many refuse the whole request for a word
//! that they do not know: Qwen3.8 has no `high`, which agents send with every request.
//!
//! | asked | Qwen3.8: DashScope, portal | Qwen3.8: vLLM, SGLang, llama.cpp | Qwen3.8: Ollama | older: DashScope, portal | older: vLLM, SGLang, llama.cpp | older: Ollama |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | nothing | nothing | nothing | nothing | nothing | nothing | nothing |
//! | `none`, or no thinking | `none` | off | `none` | off | off | `none` |
//! | `minimal` | `low` | on, `low` | `low` | on, 128 tokens | on | `low` |
//! | `low` | `low` | on, `low` | `low` | on, 1,024 tokens | on | `low` |
//! | `medium` | `medium` | on, `medium` | `medium` | on, 8,192 tokens | on | `medium` |
//! | `high` | `xhigh` | on, `xhigh` | nothing, which is the top tier | on | on | `high` |
//! | `xhigh`, `max` | `xhigh` | on, `xhigh` | nothing | on | on | `high` |
//! | another word | nothing | on | nothing | on | on | `medium` |
//! | a budget | on, so many tokens | on | nothing | on, so many tokens | on | `medium` |
//! | thinking | on | on | nothing | on | on | `medium` |
//!
//! - On and off are `enable_thinking` at DashScope and the portal, where it never stands beside an
//!   effort, and `chat_template_kwargs.enable_thinking` at vLLM, SGLang and llama.cpp.
//! - A budget stays below `max_tokens`, where a request has that, so that there is room for the
//!   answer. DashScope and the portal get at most 81,920 tokens, and none for one without an end.
//! - Hosted models that always think (`qwen3.8-max-preview`, `kimi-k3`, `kimi-k2.7-code`, QwQ, QVQ
//!   and what has `-thinking` in its name) are not told to stop, and those of DashScope that never
//!   do (coder and instruct models) are told nothing.
//! - Of a model by another maker, vLLM, SGLang and llama.cpp get the effort as it was written.
//! - LM Studio, and a server of which nothing is known, get all as it was written, but Qwen3.8 its
//!   own words.
//! - Where the history holds thinking, `preserve_thinking` asks the model to read it: on DashScope
//!   and the portal, and, as an argument of the template of Qwen3.6 and later, on vLLM, SGLang and
//!   llama.cpp. A client that says it itself has its way.
//! - [`CompatibleLayer::effort`] puts another effort in the place of one that is asked for.
//!
//! Where something else is sent than was asked for, the response has the header `x-qwen-effort`,
//! such as `high; sent=xhigh`. Both are the word of an effort, a number for a budget in tokens,
//! `none`, `on`, or `default` where nothing was sent; `other` is a word that no header can hold.
//!
//! # Limits
//!
//! White space before a leading `<think>` block is held up to 64 bytes, and as much is left out
//! behind it; a longer run is the answer.
//!
//! An answer has at most 1,024 calls, and of their arguments 64 KiB may wait for a name. A whole
//! answer has at most 16 MiB and may take 310 s from its head on, since those that cut it do so at
//! 300 s. What passes one of these is an error that names it.
//!
//! # Metrics
//!
//! `tower_qwen_compatible_repairs_total` with `repair` as in the table: answers in which it was
//! needed, and errors.

mod config;
mod error;
mod fast;
mod layer;
mod modes;
mod request;
mod schema;
mod server;
mod service;
mod stream;
mod thinking;
mod translate;
pub(in crate::qwen) mod write;

/// The metric of repairs.
const METRIC: &str = "tower_qwen_compatible_repairs_total";

pub(crate) use self::error::refusal;
#[cfg(feature = "responses-upstream")]
pub(in crate::qwen) use self::{
    config::Overrides,
    error::Fault,
    request::{answered, arguments_object, arranged},
    thinking::never_thinks,
};
pub use self::{
    layer::CompatibleLayer,
    modes::{ContentMode, ThinkTags},
    server::Server,
    service::Compatible,
    stream::AnswerStream,
};

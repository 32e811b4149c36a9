//! The edge for tools that know Ollama alone: its chat API over a chat service.
//!
//! [`OllamaLayer`] speaks `POST /api/chat`, and [`GenerateLayer`] `POST /api/generate`. Each makes an
//! ordinary HTTP service (`Error = Infallible`) of a service of the [middle](crate::chat). It reads
//! the request once and writes the answer once, as lines of JSON (`application/x-ndjson`) or whole.
//! Nothing below knows which edge was used, so these tools get sessions, calls out of text and
//! credentials that refresh themselves as any other client does.
//!
//! What clients rely on is in [the reference][edges].
//!
//! [edges]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/edges.md#e
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error, FullBody,
//!     chat::{ChatEvent, ChatRequest, FinishReason},
//!     ollama::OllamaLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ServiceBuilder::new().layer(OllamaLayer::new()).service(service_fn(
//!     |request: Request<ChatRequest>| async move {
//!         let said = request.body().history[0].text();
//!         Ok::<_, Error>(Response::new(futures_util::stream::iter([
//!             Ok(ChatEvent::Text(said)),
//!             Ok(ChatEvent::Finished(FinishReason::Stop)),
//!         ])))
//!     },
//! ));
//!
//! let request = Request::post("/api/chat").body(FullBody::new(Bytes::from(
//!     r#"{"model":"echo","messages":[{"role":"user","content":"Hello"}]}"#,
//! )))?;
//! let response = service.oneshot(request).await?;
//! // Unless it says otherwise, a client of Ollama gets a stream.
//! assert_eq!(response.headers()["content-type"], "application/x-ndjson");
//! let body = response.into_body().collect().await?.to_bytes();
//! assert!(body.windows(17).any(|part| part == br#""content":"Hello""#));
//! # Ok(())
//! # }
//! ```
//!
//! What becomes of the client's credentials, of large requests and of silence, and what is counted,
//! is the same for every [edge](crate::edge). The sign of life is a line without text.
//!
//! # Embeddings
//!
//! `POST /api/embed` and the older `POST /api/embeddings` are for two layers of their own, which stand
//! over an OpenAI-compatible server. They come with the features `openai` and `compatible`.
//!
//! # Names of models
//!
//! Ollama takes a name without a tag for the same with `:latest`. So that tag is left off the name
//! that the layers below see ([`untagged`]); the answer has the name as the client wrote it.
//!
//! # What of a request
//!
//! | field | what becomes of it |
//! | --- | --- |
//! | `messages`, `tools`, `prompt`, `system`, `images` | the chat; the type of an image is told by its first bytes |
//! | no `messages`, an empty `prompt` | what loads a model: `done_reason` `load`, or `unload` with a `keep_alive` of 0. Nobody is asked |
//! | `stream` | `true` unless it says `false` |
//! | `format` | `"json"`, or a JSON Schema |
//! | `think` | `true`, `false`, or an effort such as `"high"`; with `false` no thinking is shown |
//! | `options`: `temperature`, `top_p`, `top_k`, `min_p`, `seed`, `stop`, `num_predict`, `repeat_penalty`, `presence_penalty`, `frequency_penalty` | the sampling; a `num_predict` of 0 or less is no limit |
//! | other `options`, `keep_alive`, `template` | ignored: they are about a process that holds weights |
//! | `suffix`, `raw`, a `context` that is not empty, `logprobs` | refused with 400: a chat model has none of them |
//!
//! A call of an earlier answer needs no id, and a result needs none either: results belong to calls
//! by their `tool_call_id`, else by the tool's name (`tool_name`), else in their order. Ids that
//! have to be made are made of the place in the history, so that they are the same in the next turn.
//!
//! # What of an answer
//!
//! Calls are whole: a line has all arguments of one, as an object. The last call of an answer is told
//! when the answer ends, and not at all where the limit of tokens or a filter has ended it: it may be
//! cut. `done_reason` is `stop` or `length`; where a filter has ended the answer it is
//! `content_filter`, a word that Ollama has not got, for `stop` would not be true.
//!
//! Counts of tokens are those of the upstream, and not there where it gives none. Durations are
//! measured here, so the network is among them: `prompt_eval_duration` is the time to the first
//! event of the answer, `eval_duration` the time from there to its end, `load_duration` is always 0.
//! An answer in one piece has them too. `created_at` is when the request was read, in all lines.
//! There is no `context`.
//!
//! # Memory
//!
//! Up to 64 MiB of arguments are held back until their calls are whole; an answer that would take
//! more ends with an error.

mod api;
mod calls;
mod decode;
#[cfg(all(feature = "compatible", feature = "openai"))]
mod embed;
mod encode;
mod error;
mod image;
mod layer;
mod name;
mod protocol;
mod wire;

#[cfg(all(feature = "compatible", feature = "openai"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "compatible", feature = "openai"))))]
pub use self::embed::{Embed, EmbedLayer, Embeddings, EmbeddingsLayer};
pub use self::{
    decode::{Decoded, Loads, decode, decode_generate},
    error::error_response,
    layer::{Generate, GenerateLayer, Ollama, OllamaLayer},
    name::untagged,
    protocol::{OllamaBody, ResponseFuture},
};

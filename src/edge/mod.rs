//! What every edge is made with, whatever protocol it speaks.
//!
//! An edge turns an HTTP request into a [`ChatRequest`](crate::chat::ChatRequest) and the stream of
//! [`ChatEvent`](crate::chat::ChatEvent)s that comes back into an HTTP response. The edges differ
//! in what they read and write. How fast a body must come, how large it may be, whose it is, what
//! its upstream has, and how silence and failure are told, is the same for all of them, and has its
//! types here. [`OpenAiLayer`](crate::openai::OpenAiLayer) speaks OpenAI's chat completions.
#![cfg_attr(
    feature = "anthropic",
    doc = "[`AnthropicLayer`](crate::anthropic::AnthropicLayer) speaks Anthropic's Messages."
)]
#![cfg_attr(
    feature = "responses",
    doc = "[`ResponsesLayer`](crate::responses::ResponsesLayer) speaks OpenAI's Responses."
)]
#![cfg_attr(
    feature = "ollama",
    doc = "[`OllamaLayer`](crate::ollama::OllamaLayer) speaks Ollama's API."
)]
//!
//! # What becomes of the client's credentials
//!
//! `authorization`, `x-api-key`, `api-key`, `proxy-authorization` and `cookie` are for the edge:
//! the layers below never see them. They learn whose request it is from its
//! [`tenant`](crate::chat::ChatRequest::tenant). By default that is a digest of the key that the
//! client presents, and `None` where it presents none; each layer's `tenant` sets another. The
//! edge does not check the key: that is for a layer outside of it.
//!
//! All other headers, and the extensions of the [`http::Request`], go on to the layers below.
//!
//! # Silence
//!
//! A response begins when the service below has the first event of its answer. Until then the
//! client can be told of an error with a status of its own. A client that wants a stream is not
//! left without a byte for longer than the keep-alive's interval, though: then the response begins
//! with the protocol's own sign of life, and what goes wrong from there on is told in the stream.
//!
//! # Large requests
//!
//! A body of 256 KiB or more is decoded by tokio's `spawn_blocking`, so that others are served
//! meanwhile. So is the work of those layers below that look at whole histories: the session, the
//! tools and the adapters. Half of the cores work on large requests at a time, and at least one. A
//! smaller body is decoded where it was read, and so is a large one outside of a runtime of tokio.
//!
//! # Metrics
//!
//! | name | labels | what is counted |
//! | --- | --- | --- |
//! | `tower_qwen_answers_total` | `edge`: `chat`, `completions`, `embeddings`, `images`, `image_edits`, `messages`, `ollama`, `ollama_generate`, `ollama_embed`, `responses`, `video_generations`, `videos`; `mode`: `stream`, `whole`; `outcome`: `complete`, `abandoned`, `truncated`, `refused`, `auth`, `limited`, `challenge`, `timeout`, `upstream`, `internal` | requests that reached the inner service |
//! | `tower_qwen_early_responses_total` | `edge` | responses that began before their answer did, for the sake of the keep-alive |
//! | `tower_qwen_slow_bodies_total` | | bodies that came [too slowly](BodyPace) |
//! | `tower_qwen_bodies_waited_total` | | bodies that had to wait for room in a [`BodyBudget`] |
//! | `tower_qwen_bodies_refused_total` | | bodies for which there was no room in time |
//! | `tower_qwen_large_requests_total` | `work`: `decode`, and in the layers below `session`, `tools`, `encode` | pieces of work that were done off the runtime's threads |

mod body;
mod budget;
mod config;
mod decoder;
mod future;
mod head;
#[cfg(any(feature = "anthropic", feature = "responses"))]
mod held;
#[cfg(any(feature = "anthropic", feature = "ollama", feature = "responses"))]
pub(crate) mod history;
mod integer;
mod limits;
mod macros;
mod metrics;
mod model;
mod offer;
#[cfg(any(feature = "openai", feature = "responses"))]
mod openai_error;
mod own;
mod pace;
pub(crate) mod parse;
mod protocol;
mod read;
mod refusal;
mod shape;
mod shaped;
#[cfg(any(feature = "anthropic", feature = "responses"))]
mod sources;
mod times;
#[cfg(any(feature = "ollama", feature = "openai"))]
mod tools;

#[cfg(any(feature = "anthropic", feature = "compatible", feature = "media"))]
pub(crate) use self::refusal::of_edge;
#[cfg(feature = "openai")]
pub(crate) use self::tools::Object;
pub(crate) use self::{
    body::EdgeBody,
    config::Config,
    decoder::Decoder,
    future::EdgeFuture,
    integer::Integer,
    macros::{edge, edge_types},
    model::check_model,
    own::own,
    protocol::{Asked, Protocol, Writer},
    refusal::refuse,
    shape::{key, others, shape},
    times::Times,
};
pub use self::{
    budget::{BodyBudget, Budgeted, BudgetedBody},
    head::{acceptable, tenant},
    limits::Limits,
    model::{MAX_MODEL_LEN, model},
    offer::Offer,
    pace::BodyPace,
    read::read_body,
};
#[cfg(any(feature = "openai", feature = "responses"))]
pub(crate) use self::{decoder::string_field, openai_error::openai_error_into};
#[cfg(feature = "media")]
pub(crate) use self::{
    future::X_ACCEL_BUFFERING,
    head::acceptable_as,
    offer::{Decided, X_QWEN_LEFT_OUT},
    refusal::describe,
};
#[cfg(any(feature = "compatible", feature = "media"))]
pub(crate) use self::{head::strip_credentials, metrics::Outcome, read::ReadBody};
#[cfg(any(feature = "anthropic", feature = "responses"))]
pub(crate) use self::{
    held::{Held, HeldItem},
    sources::Sources,
};

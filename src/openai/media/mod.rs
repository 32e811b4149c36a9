//! The edges for images, and for videos that are waited for: OpenAI's `POST /v1/images/generations` and
//! `/v1/images/edits`, and `POST /v1/videos/generations` of older servers, over a chat service.
//!
//! A request for a picture is a [`ChatRequest`](crate::chat::ChatRequest) of the kind
//! [`Image`](crate::chat::AnswerKind::Image), and what is made comes as an
//! [`Attachment`](crate::chat::ChatEvent::Attachment). So all layers of the middle stand below this edge
//! as below any other: limits of time, credentials, what is settled of the usage.
//!
//! ```
//! use http::Request;
//! use http_body_util::BodyExt;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_qwen::{FullBody, edge::Offer, openai::media::MediaLayer, qwen::web::QwenWebLayer};
//! use tower_qwen_emulator::Emulator;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In place of a `QwenUpstream`.
//! let upstream = Emulator::new();
//! let service = ServiceBuilder::new()
//!     // Pictures in base64 are fetched from where upstream has put them: with an HTTP client.
//!     .layer(MediaLayer::image_generations().offer(Offer::Web).fetch(upstream.clone()))
//!     .layer(QwenWebLayer::new())
//!     .service(upstream);
//!
//! let request = Request::post("/v1/images/generations").body(FullBody::from(
//!     r#"{"model":"qwen3-max","prompt":"A red fox","size":"1024x1024","response_format":"b64_json"}"#,
//! ))?;
//! let body = service.oneshot(request).await?.into_body().collect().await?.to_bytes();
//! let answer: serde_json::Value = serde_json::from_slice(&body)?;
//! // A PNG.
//! assert!(answer["data"][0]["b64_json"].as_str().is_some_and(|data| data.starts_with("iVBOR")));
//! # Ok(())
//! # }
//! ```
//!
//! # What becomes of the fields
//!
//! | field | what becomes of it |
//! | --- | --- |
//! | `prompt` | the message |
//! | `model` | the model; where it is missing, [`default_model`](MediaLayer::default_model) |
//! | `n`, 1 to 10 | so many requests, of which [four](MediaLayer::concurrency) run at once. The first that fails fails all |
//! | `size`: `1024x1024`, `16:9`, `auto` | given to the upstream in its own words. chat.qwen.ai makes five shapes; where another one was asked for, the header `x-qwen-size` says what was sent |
//! | `response_format`: `url`, `b64_json` | `url` unless the request says otherwise, and `b64_json` for a stream, whose events have no other form at OpenAI. The upstream's URL is handed on as it is. For `b64_json` it is [fetched](MediaLayer::fetch) |
//! | `image`, `images`, `input_reference` | of edits, and what a video begins with: a file of a form, a URL, a `data:` URL, an object with a `url` or an `image_url`, or a list of these. Of generations it is refused |
//! | `seconds`, `duration` | how long a video is |
//! | `stream` | an event for each picture, as it is made: `image_generation.completed` or `image_edit.completed`. Of a video `video_generation.in_progress` events say how far it is, in percent |
//! | `partial_images` | no upstream makes half a picture, so none comes; OpenAI's clients are told to expect fewer |
//! | `mask`, `background: transparent` | refused: no upstream here has them |
//! | `user` and all others, such as `quality`, `style`, `output_format`, `moderation`, `seed` | the [`Offer`](crate::edge::Offer) decides: over chat.qwen.ai they are left out and named in `x-qwen-left-out`; DashScope is given those that it knows |
//!
//! A body is JSON, or a form (`multipart/form-data`), whose files become `data:` URLs. Over chat.qwen.ai
//! those need an [`UploadLayer`](https://docs.rs/tower-qwen/latest/tower_qwen/qwen/upload/struct.UploadLayer.html).
//!
//! # Errors
//!
//! OpenAI error objects. An upstream's keep their meaning: a used-up quota is a 429 with `Retry-After`,
//! a content filter a 400 with the code `content_filter`. An answer without a picture is a 502 that says
//! what the upstream said in its place.
//!
//! # Memory
//!
//! A request takes its body, and of the pictures in base64 at most
//! [`max_answer`](MediaLayer::max_answer) bytes for each that is under way.
//!
//! # Metrics
//!
//! `tower_qwen_answers_total` with `edge` `images`, `image_edits` and `video_generations`, as for every [edge](crate::edge).

mod body;
mod config;
mod fetch;
mod future;
mod layer;
mod making;
mod none;
mod request;
mod write;

pub use self::{
    body::MediaBody,
    fetch::NoFetch,
    future::ResponseFuture,
    layer::{Media, MediaLayer},
    none::NoMedia,
    request::model,
};
pub(super) use self::{
    config::Task,
    fetch::open,
    making::{Watched, of_kind},
    request::Fields,
    write::now,
};

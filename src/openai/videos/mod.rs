//! The edges for videos: OpenAI's `/v1/videos`, a video as a job that is asked about.
//!
//! A video takes minutes, and OpenAI's API does not have its clients wait for it: `POST /v1/videos`
//! gives an id, `GET /v1/videos/{id}` says how far it is, and `GET /v1/videos/{id}/content` gives the
//! video. [`VideosLayer`] serves the first over a chat service that makes
//! [videos](crate::chat::AnswerKind::Video), [`VideoJobs`] the others, and [`Jobs`] is what they both
//! know. Older servers had one route that waits:
//! [`MediaLayer::video_generations`](super::media::MediaLayer::video_generations).
//!
//! ```
//! use http::Request;
//! use http_body_util::BodyExt;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_qwen::{
//!     FullBody,
//!     edge::Offer,
//!     openai::videos::{Jobs, VideoJobs, VideosLayer},
//!     qwen::web::QwenWebLayer,
//! };
//! use tower_qwen_emulator::Emulator;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In place of a `QwenUpstream`.
//! let upstream = Emulator::new();
//! let jobs = Jobs::new();
//! let begin = ServiceBuilder::new()
//!     .layer(VideosLayer::new(jobs.clone()).offer(Offer::Web))
//!     .layer(QwenWebLayer::new())
//!     .service(upstream.clone());
//! let tell = VideoJobs::new(jobs).fetch(upstream);
//!
//! let request = Request::post("/v1/videos")
//!     .body(FullBody::from(r#"{"model":"qwen3-max","prompt":"A red fox in snow"}"#))?;
//! let body = begin.oneshot(request).await?.into_body().collect().await?.to_bytes();
//! let video: serde_json::Value = serde_json::from_slice(&body)?;
//! let id = video["id"].as_str().ok_or("no id")?;
//!
//! // In a minute it is there.
//! tokio::time::sleep(std::time::Duration::from_secs(60)).await;
//! let request = Request::get(format!("/v1/videos/{id}/content")).body(FullBody::default())?;
//! let response = tell.oneshot(request).await?;
//! assert_eq!(response.headers()["content-type"], "video/mp4");
//! # Ok(())
//! # }
//! ```
//!
//! # A job
//!
//! - The request is answered when the upstream has taken it on, which takes seconds. So a used-up
//!   quota or a refused prompt is an error with a status of its own.
//! - A task of tokio waits for the video from then on. It goes on when the client leaves, since the
//!   client comes back with the id. A client that leaves before it knows the id has none.
//! - `progress` is what the upstream says of it. chat.qwen.ai says nothing as a rule; then it is by the
//!   time that videos usually take.
//! - `DELETE` forgets the video. No upstream can be told to stop one, so the quota is spent.
//! - `seconds`, `size` and `input_reference` (a file of a form, a URL, a `data:` URL) are given to the
//!   upstream in its own words. chat.qwen.ai makes about five seconds, whatever is asked for.
//! - `expires_at` is unknown: the upstream keeps the video for as long as it likes. The field `url`,
//!   which OpenAI has not, says where.
//! - `remix`, thumbnails and sprite sheets are not made here.
//!
//! Whose a job is and what is bounded is said at [`Jobs`].
//!
//! # Metrics
//!
//! `tower_qwen_answers_total` with `edge` `videos`, as for every [edge](crate::edge): counted when the
//! video is there, has failed, or is given up.

mod body;
mod jobs;
mod layer;
mod service;
mod write;

pub use self::{
    body::VideoBody,
    jobs::Jobs,
    layer::{ResponseFuture, Videos, VideosLayer},
    service::{JobsFuture, VideoJobs},
};

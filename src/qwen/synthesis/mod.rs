//! The adapter to DashScope's own API for images and videos.
//!
//! DashScope's compatible API has no pictures. Its own, beside it on the same host below `/api/v1`, has:
//! `qwen-image` and its like answer at once, the Wan models by a task that is asked about.
//! [`SynthesisLayer`] turns an HTTP service that reaches that API into a service of the middle for
//! requests of the [kinds](crate::chat::AnswerKind) `Image` and `Video`. Others are refused, so it stands
//! beside a [`CompatibleLayer`](super::compatible::CompatibleLayer) and not in its place.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error, FullBody,
//!     chat::{Answer, AnswerKind, ChatRequest, Message, Role},
//!     qwen::synthesis::SynthesisLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! // In the place of this one stands a `QwenUpstream` for `https://HOST/api/v1`.
//! let upstream = service_fn(|_: Request<FullBody>| async {
//!     Response::builder().body(FullBody::from(
//!         r#"{"output":{"choices":[{"message":{"content":[{"image":"https://x.example/1.png"}]}}]}}"#,
//!     ))
//! });
//! let service = ServiceBuilder::new().layer(SynthesisLayer::new()).service(upstream);
//!
//! let mut request = ChatRequest::new("qwen-image-plus", [Message::new(Role::User, "A red fox")]);
//! request.kind = AnswerKind::Image;
//! let answer = service.oneshot(Request::new(request)).await?.into_body();
//! assert_eq!(Answer::collect(answer).await?.attachments[0].url, "https://x.example/1.png");
//! # Ok(())
//! # }
//! ```
//!
//! The forms are those of the vendor's documents and of public clients. They have not been tried on the
//! real API here.
//!
//! # What is sent
//!
//! | asked for | model | where |
//! | --- | --- | --- |
//! | an image, with or without images to change | all but the next | `/services/aigc/multimodal-generation/generation`, at once |
//! | an image | `wan2.5…` and older, `wanx…`, `flux…`, `stable-diffusion…` | `/services/aigc/text2image/image-synthesis`, a task |
//! | a change to an image | `wan2.5…` and older, `wanx…` | `/services/aigc/image2image/image-synthesis`, a task |
//! | a video | any | `/services/aigc/video-generation/video-synthesis`, a task |
//!
//! The prompt is the user's last message. The size goes as `width*height`; a ratio becomes the size of
//! about a megapixel of that shape. Of a video from an image the size becomes a `resolution` (`480P`, `720P`,
//! `1080P`), and from wan2.7 on of any video, with a `ratio`. The seconds are the `duration`. Of
//! [`extra`](crate::chat::ChatRequest::extra) the parameters that the API knows are sent
//! (`negative_prompt`, `seed`, `prompt_extend`, `watermark`, `resolution`, `audio`, `shot_type`, …), and the
//! others named in the header `x-qwen-left-out`.
//!
//! # A task
//!
//! It is asked about every 3 s for an image and every 10 s for a video
//! ([`task_interval`](SynthesisLayer::task_interval)). Cancelling is possible only for one that has not
//! begun, so it is not tried: a request that is dropped leaves its task to go on, and it is paid for.
//!
//! # Metrics
//!
//! `tower_qwen_tasks_total` with `upstream` `dashscope`; `outcome` is `made`, `failed`, `lost`, `timeout` or
//! `left`.

mod config;
mod layer;
mod request;
mod service;
mod stream;
mod wire;

pub use self::{layer::SynthesisLayer, service::Synthesis, stream::AnswerStream};

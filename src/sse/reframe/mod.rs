//! A layer that makes event streams well formed, over any HTTP service.
//!
//! Upstreams, and the proxies before them, cut streams anywhere: they send half events, many events
//! at once, a character's bytes in two pieces, CRLF, and a last event without its blank line. Many
//! clients cannot read that. Behind [`SseReframeLayer`] each data frame holds whole events, lines
//! end in LF, and a stream that breaks off says so.
//!
//! ```
//! use http::{Request, Response, header::CONTENT_TYPE};
//! use http_body_util::{BodyExt, StreamBody};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::sse::{KeepAlive, reframe::{OnError, SseReframeLayer}};
//! # use std::{convert::Infallible, time::Duration};
//! # use http_body::Frame;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let service = ServiceBuilder::new()
//!     .layer(
//!         SseReframeLayer::new()
//!             .keep_alive(KeepAlive::new(Duration::from_secs(15)))
//!             .on_error(OnError::InBand),
//!     )
//!     .service(service_fn(|_request: Request<()>| async {
//!         let pieces = ["data: o", "ne\r\n\r\ndata: two\r\n\r\ndata: thr", "ee\r\n"];
//!         let pieces = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(bytes::Bytes::from(piece))));
//!         Ok::<_, Infallible>(
//!             Response::builder()
//!                 .header(CONTENT_TYPE, "text/event-stream")
//!                 .body(StreamBody::new(futures_util::stream::iter(pieces)))
//!                 .expect("the parts are valid"),
//!         )
//!     }));
//!
//! let mut body = service.oneshot(Request::new(())).await?.into_body();
//! let mut frames = Vec::new();
//! while let Some(frame) = body.frame().await {
//!     frames.extend(frame?.into_data());
//! }
//! assert_eq!(frames, ["data: one\n\ndata: two\n\n", "data: three\n\n"]);
//! # Ok(())
//! # }
//! ```
//!
//! # What it touches
//!
//! The layer touches only responses whose `content-type` is `text/event-stream`. It leaves one that
//! is compressed (`content-encoding`) alone: decompress it further in, or ask the upstream for
//! `identity`.
//!
//! - **Framing.** What arrived together leaves together, in one frame. Nothing waits for more. A
//!   frame that holds whole events already is passed on as the same `Bytes`. A comment between
//!   events leaves at once.
//! - **Form.** CR and CRLF become LF. Nothing is dropped: fields, comments and bytes that are no
//!   UTF-8 stay as they are. So does a byte order mark, unless a keep-alive went before it.
//! - **The end.** A last event that lacks only its blank line gets it, and so does a `data: [DONE]`
//!   that lacks its newlines. An event is dropped, as the standard wants it, where the stream ends
//!   in the middle of it, where the body fails, and where it is larger than
//!   [may be](SseReframeLayer::max_event). [`OnError`] says what follows then.
//! - **Silence.** With a [`KeepAlive`](crate::sse::KeepAlive) (feature `keep-alive`) a comment line
//!   is sent in a silence, also before the first event. It never stands within an event.
//! - **Headers.** `content-length` is removed. `x-accel-buffering: no` is added, and so is
//!   `cache-control: no-cache` where nothing forbids caching yet.
//!
//! Backpressure, cancellation and trailers pass through. The layer asks the upstream for a frame
//! only when it is asked for one, and it holds one event at most.
//!
//! # Observability
//!
//! With the feature `metrics` the layer counts `tower_qwen_sse_streams_total`,
//! `tower_qwen_sse_keep_alives_total`, and `tower_qwen_sse_errors_total` by `kind` (`body`, `idle`,
//! `bytes`, `unfinished`, `too_long`), and `tower_qwen_sse_stalls_total` by `kind` (`idle`,
//! `bytes`): streams that went on and said nothing. With the feature `tracing` it tells at level
//! TRACE the size and the time of each piece that comes in and of each event that goes out. It
//! tells their content only where it is [asked for](SseReframeLayer::trace_content).

mod body;
mod config;
#[cfg_attr(not(feature = "tracing"), path = "no_view.rs")]
mod debug_view;
mod future;
mod layer;
mod reframer;
mod service;

pub use self::{
    body::ReframeBody, config::OnError, future::ResponseFuture, layer::SseReframeLayer,
    service::SseReframe,
};

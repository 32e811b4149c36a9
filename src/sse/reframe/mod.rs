//! A layer that makes event streams well formed, over any HTTP service.
//!
//! Upstreams and the proxies between cut streams as they like: half events, many events, a
//! character's bytes in two pieces, CRLF, a last event without its blank line. Many clients are
//! not up to that. Behind [`SseReframeLayer`] each data frame holds whole events and ends with
//! one, lines end in LF, and a stream that breaks off says so.
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
//! Only responses whose `content-type` is `text/event-stream`. One that is compressed
//! (`content-encoding`) is left alone: decompress it further in, or ask upstream for `identity`.
//!
//! - **Framing.** What arrived together leaves together, in one frame, without waiting for more.
//!   A frame that holds whole events already is passed on as the same `Bytes`. Comments between
//!   events leave at once.
//! - **Form.** CR and CRLF become LF. Nothing is dropped: fields, comments and bytes that are no
//!   UTF-8 stay as they are, and so does a byte order mark, unless a keep-alive went before it.
//! - **The end.** A last block with data that lacks only its blank line gets it, and so does a
//!   `data: [DONE]` that lacks its newlines. Where the stream ends in the middle of an event,
//!   or the body fails, or an event is larger than [may be](SseReframeLayer::max_event), the
//!   unfinished event is dropped, as the standard wants it, and [`OnError`] says what follows.
//! - **Silence.** With a [`KeepAlive`](crate::sse::KeepAlive) (feature `keep-alive`), a comment line keeps the connection
//!   busy, also before the first event. Comments never stand within an event.
//! - **Headers.** `content-length` goes; `x-accel-buffering: no` comes, and `cache-control:
//!   no-cache` where nothing forbids caching yet.
//!
//! Backpressure and cancellation pass through, as do trailers. A frame is asked of the upstream
//! only when one is asked of the body, and at most one event is held.
//!
//! # Observability
//!
//! With the feature `metrics`, counters: `tower_qwen_sse_streams_total`, `tower_qwen_sse_keep_alives_total`, and
//! `tower_qwen_sse_errors_total` by `kind` (`body`, `unfinished`, `too_long`). With `tracing`, at level TRACE
//! each piece in and each event out is told with its size and timing, and with its content only
//! if [asked for](SseReframeLayer::trace_content).

mod body;
#[cfg_attr(not(feature = "tracing"), path = "no_view.rs")]
mod debug_view;
mod future;
mod layer;
mod reframer;
mod service;

pub use self::{
    body::ReframeBody,
    future::ResponseFuture,
    layer::{OnError, SseReframeLayer},
    service::SseReframe,
};

//! Server-sent events: a codec, and a layer that makes streams well formed.
//!
//! - [`Decoder`] turns bytes into [`Event`]s, and [`Encoder`] writes events into a buffer. Neither
//!   does any I/O.
//! - [`EventStream`] puts the decoder over any [`http_body::Body`].
//! - [`reframe`] has a layer that goes over any HTTP service and makes its event streams well
//!   formed.
//!
//! The feature `sse` brings nothing else of this crate: no runtime, no counters and no log. The
//! features `keep-alive`, `metrics` and `tracing` add these. Every other layer of this crate
//! switches `metrics` and `tracing` on; edges and adapters switch `keep-alive` on too.

mod block;
mod buffer;
mod decoder;
mod encoder;
mod error;
mod event;
#[cfg_attr(not(feature = "keep-alive"), path = "no_keep_alive.rs")]
mod keep_alive;
mod line_ends;
mod pieces;
pub(crate) mod progress;
pub mod reframe;
mod stream;
mod utf8;

#[cfg(any(feature = "compatible", feature = "web"))]
pub(crate) use self::decoder::BOM;
#[cfg(feature = "keep-alive")]
#[cfg_attr(docsrs, doc(cfg(feature = "keep-alive")))]
pub use self::keep_alive::{KeepAlive, KeepAliveTimer};
pub use self::{
    decoder::{Decoder, Unfinished},
    encoder::{DONE, Encoder, KEEP_ALIVE},
    error::DecodeError,
    event::Event,
    stream::{EventStream, StreamError},
};

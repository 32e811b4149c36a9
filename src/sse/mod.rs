//! Server-sent events: a codec, and a layer that makes streams well formed.
//!
//! The codec does no I/O: a [`Decoder`] turns bytes into [`Event`]s, an [`Encoder`] writes
//! events into a buffer. [`EventStream`] puts the decoder over any [`http_body::Body`].
//! The layer of [`reframe`] goes over any HTTP service and makes its streams well formed, whoever
//! reads them.
//!
//! All of it stands alone: the feature `sse` brings nothing else of this crate, and neither a
//! runtime nor counters nor a log. The features `keep-alive`, `metrics` and `tracing` add them;
//! every other layer of this crate switches the last two on, and edges and adapters the first one too.

mod buffer;
mod decoder;
mod encoder;
mod event;
#[cfg_attr(not(feature = "keep-alive"), path = "no_keep_alive.rs")]
mod keep_alive;
mod line_ends;
mod pieces;
pub(crate) mod progress;
pub mod reframe;
mod stream;

#[cfg(feature = "keep-alive")]
#[cfg_attr(docsrs, doc(cfg(feature = "keep-alive")))]
pub use self::keep_alive::{KeepAlive, KeepAliveTimer};
pub use self::{
    decoder::{DecodeError, Decoder, Unfinished},
    encoder::{DONE, Encoder, KEEP_ALIVE},
    event::Event,
    stream::{EventStream, StreamError},
};

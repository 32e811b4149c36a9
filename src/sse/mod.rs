//! Server-sent events: a codec, and a layer that makes streams well formed.
//!
//! The codec does no I/O: a [`Decoder`] turns bytes into [`Event`]s, an [`Encoder`] writes
//! events into a buffer. [`EventStream`] puts the decoder over any [`http_body::Body`].
//! [`SseReframeLayer`] goes over any HTTP service and makes its streams well formed, whoever
//! reads them; it is described in [`reframe`].
//!
//! All of it stands alone: the feature `sse` brings nothing else of this crate.

mod buffer;
mod decoder;
mod encoder;
mod event;
mod keep_alive;
mod line_ends;
mod pieces;
pub mod reframe;
mod stream;

pub use self::{
    decoder::{DecodeError, Decoder, Unfinished},
    encoder::{DONE, Encoder, KEEP_ALIVE},
    event::Event,
    keep_alive::{KeepAlive, KeepAliveTimer},
    reframe::{OnError, SseReframe, SseReframeLayer},
    stream::{EventStream, StreamError},
};

//! Server-sent events: a codec, and a layer that makes streams well formed.
//!
//! The codec does no I/O: a [`Decoder`] turns bytes into [`Event`]s, an [`Encoder`] writes
//! events into a buffer. [`EventStream`] puts the decoder over any [`http_body::Body`].

mod decoder;
mod encoder;
mod event;
mod keep_alive;
mod stream;

pub use self::{
    decoder::{DecodeError, Decoder, Unfinished},
    encoder::{DONE, Encoder, KEEP_ALIVE},
    event::Event,
    keep_alive::{KeepAlive, KeepAliveTimer},
    stream::{EventStream, StreamError},
};

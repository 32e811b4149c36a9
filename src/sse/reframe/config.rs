#[cfg(feature = "keep-alive")]
use std::time::Duration;

use crate::sse::{
    Decoder,
    keep_alive::KeepAlive,
    progress::{self, Limits},
};

/// How long a stream may bring no event, where there is a clock.
#[cfg(feature = "keep-alive")]
pub(super) const DEFAULT_IDLE: Duration = Duration::from_secs(600);

#[cfg(feature = "keep-alive")]
const IDLE: Option<KeepAlive> = Some(KeepAlive::new(DEFAULT_IDLE));
#[cfg(not(feature = "keep-alive"))]
const IDLE: Option<KeepAlive> = None;

/// What each body needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) lenient: bool,
    pub(super) max_event: usize,
    pub(super) on_error: OnError,
    pub(super) progress: Limits,
    pub(super) trace_content: bool,
}

/// What becomes of an error in the middle of a stream, when the status is long sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// The body fails: a server breaks the connection or the HTTP/2 stream off. What an adapter
    /// or a client behind the layer wants, and the default.
    #[default]
    Propagate,
    /// The body ends in good order with two more events, `data: {"error":{…}}` and
    /// `data: [DONE]`. It is what the [OpenAI SDKs raise as an error][in-band].
    ///
    /// [in-band]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#d5
    InBand,
}

impl Config {
    pub(super) const fn new() -> Self {
        Self {
            keep_alive: None,
            lenient: false,
            max_event: Decoder::DEFAULT_MAX_EVENT,
            on_error: OnError::Propagate,
            progress: Limits { idle: IDLE, bytes: progress::DEFAULT_MAX_BYTES },
            trace_content: false,
        }
    }
}

#[cfg(feature = "keep-alive")]
use std::time::Duration;

use tower_layer::Layer;

#[cfg(feature = "keep-alive")]
use super::config::DEFAULT_IDLE;
use super::{OnError, SseReframe, config::Config};
#[cfg(feature = "keep-alive")]
use crate::sse::KeepAlive;

/// Makes event streams well formed: see the [module documentation](super).
#[derive(Clone, Copy, Debug)]
pub struct SseReframeLayer {
    config: Config,
}

impl SseReframeLayer {
    /// How long a stream may bring no event by default, where the clock of the feature `keep-alive`
    /// is there: 10 minutes.
    #[cfg(feature = "keep-alive")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keep-alive")))]
    pub const DEFAULT_IDLE_EVENTS: Duration = DEFAULT_IDLE;

    /// A layer without keep-alive that takes
    /// [`Decoder::DEFAULT_MAX_EVENT`](crate::sse::Decoder::DEFAULT_MAX_EVENT) bytes an event and
    /// passes errors on.
    #[must_use]
    pub const fn new() -> Self {
        Self { config: Config::new() }
    }

    /// Sends [`KEEP_ALIVE`](crate::sse::KEEP_ALIVE) after each such silence.
    ///
    /// It says that the connection lives, not that the upstream does: a timeout for the
    /// upstream's silence has to stand inside of this layer.
    #[cfg(feature = "keep-alive")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keep-alive")))]
    #[must_use]
    pub const fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.config.keep_alive = Some(keep_alive);
        self
    }

    /// For how long a stream may bring no event with data; then it ends with
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout), as [`on_error`](Self::on_error) wants it.
    /// Comments, blank lines and events without data do not count, and only waiting does. What the
    /// data says is not read: that is the adapters' to judge. It may end by a 64th of the limit later.
    /// `None` is for ever. Default: [10 minutes](Self::DEFAULT_IDLE_EVENTS). Outside of a tokio runtime
    /// there is no such limit.
    ///
    /// Of a response that is no event stream, any bytes are progress.
    ///
    /// # Panics
    ///
    /// If the limit is zero.
    #[cfg(feature = "keep-alive")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keep-alive")))]
    #[must_use]
    pub const fn idle_events(mut self, limit: Option<Duration>) -> Self {
        self.config.progress.idle = match limit {
            Some(limit) => Some(KeepAlive::new(limit)),
            None => None,
        };
        self
    }

    /// How many bytes a stream may bring without an event that has data; then it ends with
    /// [`ErrorKind::Upstream`](crate::ErrorKind::Upstream). Default: 16 MiB.
    #[must_use]
    pub const fn max_bytes_without_event(mut self, bytes: usize) -> Self {
        self.config.progress.bytes = bytes;
        self
    }

    /// Takes each `data` line for a whole event, and adds the blank line where it is missing:
    /// for streams as chat.qwen.ai sends them.
    #[must_use]
    pub const fn lenient(mut self, lenient: bool) -> Self {
        self.config.lenient = lenient;
        self
    }

    /// How many bytes are held back for one event before the stream is given up.
    #[must_use]
    pub const fn max_event(mut self, bytes: usize) -> Self {
        self.config.max_event = bytes;
        self
    }

    /// What becomes of an error in the middle of a stream.
    #[must_use]
    pub const fn on_error(mut self, on_error: OnError) -> Self {
        self.config.on_error = on_error;
        self
    }

    /// Whether the debug view, which is there at level TRACE with the feature `tracing`, shows what
    /// the events say. Only for debugging: it is what users wrote and what they were answered.
    #[must_use]
    pub const fn trace_content(mut self, trace: bool) -> Self {
        self.config.trace_content = trace;
        self
    }
}

impl Default for SseReframeLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for SseReframeLayer {
    type Service = SseReframe<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SseReframe::over(inner, self.config)
    }
}

impl<S> SseReframe<S> {
    service!(made by SseReframeLayer::new());
}

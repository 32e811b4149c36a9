use std::time::Duration;

use tower_layer::Layer;

use super::{config::Config, service::Join, slot::Register};

/// Puts [`Join`] in front of a service: a request that is repeated while it is still answered gets
/// that answer.
///
/// Every service that the layer makes knows the answers of its own requests, and those of its clones.
/// See the [module](super) for what is a repetition.
#[derive(Clone, Copy, Debug)]
pub struct JoinLayer {
    config: Config,
}

impl JoinLayer {
    /// For how long an answer goes on by default whose client is gone: 5 seconds.
    pub const DEFAULT_LINGER: Duration = Duration::from_secs(5);

    /// How much of an answer is kept by default for who joins it: 1 MiB.
    pub const DEFAULT_MAX_KEPT: usize = 1024 * 1024;

    /// A layer with the defaults.
    #[must_use]
    pub const fn new() -> Self {
        let config = Config { linger: Self::DEFAULT_LINGER, max_kept: Self::DEFAULT_MAX_KEPT };
        Self { config }
    }

    /// For how long an answer goes on whose client is gone, before the upstream's work is cancelled.
    /// It is paid for, whether or not somebody joins it. With zero it is cancelled at once, and only
    /// a client that says that it repeats its request joins one.
    #[must_use]
    pub const fn linger(mut self, linger: Duration) -> Self {
        self.config.linger = linger;
        self
    }

    /// How much of an answer is kept, in bytes. One that says more can be joined no more.
    #[must_use]
    pub const fn max_kept(mut self, bytes: usize) -> Self {
        self.config.max_kept = bytes;
        self
    }
}

impl Default for JoinLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for JoinLayer {
    type Service = Join<S>;

    fn layer(&self, inner: S) -> Join<S> {
        Join::over(inner, self.config, Register::default())
    }
}

impl<S> Join<S> {
    service!(made by JoinLayer::new());
}

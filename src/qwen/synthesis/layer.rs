use std::time::Duration;

use tower_layer::Layer;

use super::{config::Config, service::Synthesis};

/// Makes [`Synthesis`]: images and videos over DashScope's own API.
///
/// See the [module](super) for what it does.
#[derive(Clone, Copy, Debug)]
pub struct SynthesisLayer {
    config: Config,
}

impl Default for SynthesisLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl SynthesisLayer {
    /// Tasks may take 20 minutes, and answers that come at once 5.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            config: Config {
                task_interval: None,
                task_limit: Duration::from_secs(1_200),
                deadline: Duration::from_secs(300),
            },
        }
    }

    /// How often a task is asked about; `None` is every 3 s for an image and every 10 s for a video.
    /// Default: `None`.
    ///
    /// # Panics
    ///
    /// If the interval is zero.
    #[must_use]
    pub fn task_interval(mut self, interval: Option<Duration>) -> Self {
        assert!(interval.is_none_or(|it| !it.is_zero()), "a task is not asked about without end");
        self.config.task_interval = interval;
        self
    }

    /// How long a task may take; then the answer ends with
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout), and the task goes on. Default: 20 minutes.
    #[must_use]
    pub const fn task_limit(mut self, limit: Duration) -> Self {
        self.config.task_limit = limit;
        self
    }
}

impl<S> Layer<S> for SynthesisLayer {
    type Service = Synthesis<S>;

    fn layer(&self, inner: S) -> Synthesis<S> {
        Synthesis::with(inner, self.config)
    }
}

impl<S> Synthesis<S> {
    service!(made by SynthesisLayer::new());
}

use super::config::Config;

/// Puts [`Resume`](super::Resume) in front of a service: an answer that breaks off is gone on with.
///
/// See the [module](super) for which answers are, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct ResumeLayer {
    pub(super) config: Config,
}

impl ResumeLayer {
    /// How many bytes of text an answer may have by default that is gone on with: 256 KiB.
    pub const DEFAULT_MAX_KEPT: usize = 256 * 1024;

    /// A layer that asks once for each answer, and only the chat that the answer is in.
    #[must_use]
    pub const fn new() -> Self {
        Self { config: Config { tries: 1, max_kept: Self::DEFAULT_MAX_KEPT, replay: false } }
    }

    /// How often an upstream is asked to go on with one answer, at most. With zero the layer does
    /// nothing.
    #[must_use]
    pub const fn tries(mut self, tries: u32) -> Self {
        self.config.tries = tries;
        self
    }

    /// How much text of an answer is kept, in bytes. One that says more is not gone on with.
    #[must_use]
    pub const fn max_kept(mut self, bytes: usize) -> Self {
        self.config.max_kept = bytes;
        self
    }

    /// Whether an answer that is in no chat is gone on with as well, by sending the whole history
    /// again, with the part of the answer that there is. That is for upstreams that keep no chats. An
    /// answer to a request with tools is not gone on with in this way.
    #[must_use]
    pub const fn replay(mut self, replay: bool) -> Self {
        self.config.replay = replay;
        self
    }
}

impl Default for ResumeLayer {
    fn default() -> Self {
        Self::new()
    }
}

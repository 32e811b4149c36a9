use tower_layer::Layer;

use super::Dedup;

/// Puts [`Dedup`] in front of a service: a chat gets only what it has not seen.
#[derive(Clone, Debug, Default)]
pub struct DedupLayer {
    after_last_answer: bool,
}

impl DedupLayer {
    /// A layer that goes by what the history says is [`seen`](crate::chat::History::seen).
    #[must_use]
    pub const fn new() -> Self {
        Self { after_last_answer: false }
    }

    /// Takes a conversation that goes on from an answer, and of which nobody counted what it has
    /// seen, to hold everything up to the last answer of the history.
    ///
    /// For a stateful upstream without a [`SessionLayer`](crate::session::SessionLayer), whose
    /// clients resend the history *and* say where to go on. It trusts them: an edit of what was
    /// already answered is not noticed.
    #[must_use]
    pub const fn after_last_answer(mut self) -> Self {
        self.after_last_answer = true;
        self
    }
}

impl<S> Layer<S> for DedupLayer {
    type Service = Dedup<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Dedup::over(inner, self.after_last_answer)
    }
}

impl<S> Dedup<S> {
    service!(made by DedupLayer::new());
}

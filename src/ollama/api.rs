/// Which of Ollama's APIs an edge speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// `POST /api/chat`.
    Chat,
    /// `POST /api/generate`.
    Generate,
}

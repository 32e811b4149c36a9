//! How the proxy comes to its end: what its parts know of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tower_qwen::{
    Error, ErrorKind,
    openai::error_response,
    shutdown::{ShutdownHandle, ShutdownLayer},
};

/// Where the proxy is on its way to its end. There is one for the process, whatever configuration is
/// read meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    is_draining: Arc<AtomicBool>,
    answers: ShutdownHandle,
}

/// How long the proxy takes for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// For how long it goes on taking connections when it has said that it is not ready.
    pub(crate) delay: Duration,
    /// For how long answers may go on then.
    pub(crate) timeout: Duration,
}

impl Shutdown {
    /// Whether the proxy is about to end, so that nobody new shall be sent to it.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// From now on it is.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Ends all answers that are under way.
    pub(crate) fn cut(&self) {
        self.answers.shut_down();
    }

    /// Waits until nothing is left of them, and their upstreams know.
    pub(crate) async fn settled(&self) {
        self.answers.settled().await;
    }

    /// What is used then.
    pub(crate) const fn answers(&self) -> &ShutdownHandle {
        &self.answers
    }

    /// What has chats end then.
    pub(crate) fn layer(&self) -> ShutdownLayer {
        ShutdownLayer::new(self.answers.clone())
    }
}

/// What somebody is told whose answer is cut.
pub(crate) fn cut() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "the proxy is shutting down and the answer is not complete; send the request again",
    )
}

/// Refuses what has not been answered when answers are cut. The edges of chats say so themselves, in
/// their own protocols.
pub(crate) async fn refuse_late(
    State(shutdown): State<Shutdown>,
    request: Request,
    next: Next,
) -> Response {
    tokio::select! {
        biased;
        response = next.run(request) => response,
        () = shutdown.answers.asked() => error_response(&cut()).into_response(),
    }
}

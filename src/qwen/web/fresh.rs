//! A chat that was just opened, until somebody knows of it.

use std::{fmt, future::Future, mem, pin::Pin, time::Duration};

use crate::{Error, Text};

/// How long it may take to learn the chat's id and to delete it. Nobody waits for it.
const LIMIT: Duration = Duration::from_secs(60);

type Task<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// Deletes a chat that nobody will ever go on in, when it is dropped before [`keep`](Self::keep).
///
/// A client may leave while the chat is opened. The call is not cancelled then: upstream would
/// open the chat all the same, and nobody learn its id.
pub(super) struct Fresh {
    state: State,
    delete: Option<Box<dyn FnOnce(Text) -> Task<()> + Send>>,
}

enum State {
    /// The call is under way.
    Opening(Task<Text>),
    Open(Text),
    /// Somebody knows of it, or there is none.
    Over,
}

impl Fresh {
    /// The chat whose id `opening` gives. `None` for `delete`: it stays where it is.
    pub(super) fn new<F, D>(
        opening: impl Future<Output = Result<Text, Error>> + Send + 'static,
        delete: Option<D>,
    ) -> Self
    where
        D: FnOnce(Text) -> F + Send + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let delete = delete.map(|delete| -> Box<dyn FnOnce(Text) -> Task<()> + Send> {
            Box::new(|id| Box::pin(delete(id)))
        });
        Self { state: State::Opening(Box::pin(opening)), delete }
    }

    /// Opens the chat.
    pub(super) async fn open(&mut self) -> Result<Text, Error> {
        if let State::Opening(call) = &mut self.state {
            let opened = call.await;
            self.state = match &opened {
                Ok(id) => State::Open(id.clone()),
                Err(_) => State::Over,
            };
            return opened;
        }
        Err(Error::new(crate::ErrorKind::Internal, "a chat was opened twice"))
    }

    /// Somebody knows of the chat: it stays.
    pub(super) fn keep(mut self) {
        self.state = State::Over;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let Some(delete) = self.delete.take() else { return };
        let state = mem::replace(&mut self.state, State::Over);
        if matches!(state, State::Over) {
            return;
        }
        // Outside a runtime, as when it shuts down, the chat stays.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let task = async move {
            let id = match state {
                State::Opening(call) => call.await?,
                State::Open(id) => id,
                State::Over => return Ok(()),
            };
            delete(id).await
        };
        runtime.spawn(async move {
            let result = match tokio::time::timeout(LIMIT, task).await {
                Ok(Ok(())) => "deleted",
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a chat that nobody knows of could not be deleted");
                    "failed"
                }
                Err(_) => {
                    tracing::debug!("a chat that nobody knows of could not be deleted in time");
                    "failed"
                }
            };
            metrics::counter!("tower_qwen_web_orphans_total", "result" => result).increment(1);
        });
    }
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh")
            .field("is_known", &matches!(self.state, State::Over))
            .finish_non_exhaustive()
    }
}

//! Cancelling upstream's work when nobody wants the answer any more.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use super::{fresh::Fresh, stopping::Stopping};
use crate::{Error, Text};

/// How long the call may take. Nobody waits for it.
const LIMIT: Duration = Duration::from_secs(5);

type Task = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Tells upstream to stop, when it is dropped while armed.
pub(super) struct Stop {
    call: Option<Box<dyn FnOnce(Text) -> Task + Send>>,
    response_id: Option<Text>,
    /// Where turns of the chat find that an answer is being stopped.
    stopping: Stopping,
    chat_id: Text,
    /// The chat, as long as nobody knows of it. It is deleted when the answer was stopped: a
    /// busy chat may not be.
    fresh: Option<Fresh>,
}

impl Stop {
    /// Not armed yet: `call` needs the id of the answer. `None` for `call`: nothing is stopped.
    pub(super) fn new<C, F>(
        call: Option<C>,
        fresh: Option<Fresh>,
        stopping: &Stopping,
        chat_id: &Text,
    ) -> Self
    where
        C: FnOnce(Text) -> F + Send + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let call = call.map(|call| -> Box<dyn FnOnce(Text) -> Task + Send> {
            Box::new(|id| Box::pin(call(id)))
        });
        let (stopping, chat_id) = (stopping.clone(), chat_id.clone());
        Self { call, response_id: None, stopping, chat_id, fresh }
    }

    /// Somebody knows of the chat now: it stays.
    pub(super) fn keep_chat(&mut self) {
        if let Some(fresh) = self.fresh.take() {
            fresh.keep();
        }
    }

    /// From now on a drop stops the answer with this id.
    pub(super) fn arm(&mut self, response_id: &Text) {
        if self.response_id.is_none() {
            self.response_id = Some(response_id.clone());
        }
    }

    /// The answer is complete, or failed: there is nothing to stop.
    pub(super) fn disarm(&mut self) {
        self.call = None;
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        let (Some(call), Some(response_id)) = (self.call.take(), self.response_id.take()) else {
            return;
        };
        // Outside a runtime, as when it shuts down, the closed connection has to do.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        metrics::counter!("tower_qwen_web_stops_total").increment(1);
        let task = call(response_id);
        let fresh = self.fresh.take();
        let pending = self.stopping.begin(&self.chat_id);
        runtime.spawn(async move {
            match tokio::time::timeout(LIMIT, task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "upstream could not be told to stop"),
                Err(_) => tracing::debug!("upstream could not be told to stop in time"),
            }
            drop(pending);
            drop(fresh);
        });
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop")
            .field("armed", &(self.call.is_some() && self.response_id.is_some()))
            .finish()
    }
}

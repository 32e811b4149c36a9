//! One answer in the making, and what it holds of its chat.

use std::{fmt, sync::Arc};

use super::state::Shared;

/// The right to answer in a chat: while it lives the chat is "in progress".
pub(super) struct Generation {
    shared: Arc<Shared>,
    chat_id: String,
    response_id: String,
}

impl Generation {
    pub(super) fn new(shared: Arc<Shared>, chat_id: String, response_id: String) -> Self {
        Self { shared, chat_id, response_id }
    }

    /// The answer ended on the server's side with `text`, so the chat is free.
    pub(super) fn finish(self, text: &str) {
        self.shared.lock().end_answer(&self.chat_id, &self.response_id, text, None);
    }

    /// The client went away after `text`. The server goes on by itself for a while, and the chat
    /// stays busy as long.
    pub(super) fn abandon(self, text: &str) {
        let until = self.shared.clock.now() + self.shared.config.linger;
        self.shared.lock().end_answer(&self.chat_id, &self.response_id, text, Some(until));
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("chat_id", &self.chat_id).finish_non_exhaustive()
    }
}

//! One answer in the making, and what it holds of its chat.

use std::{fmt, sync::Arc};

use super::state::Shared;

/// The right to answer; in a chat the chat is "in progress" while it lives.
pub(super) struct Generation {
    shared: Arc<Shared>,
    /// The chat and the message that the answer becomes, where the server keeps chats.
    place: Option<(String, String)>,
}

impl Generation {
    /// An answer in a chat.
    pub(super) fn in_chat(shared: Arc<Shared>, chat_id: &str, response_id: &str) -> Self {
        Self { shared, place: Some((chat_id.to_owned(), response_id.to_owned())) }
    }

    /// An answer of a server that keeps nothing.
    pub(super) fn stateless(shared: Arc<Shared>) -> Self {
        Self { shared, place: None }
    }

    /// The answer ended on the server's side with `text`, so the chat is free.
    pub(super) fn finish(self, text: &str) {
        if let Some((chat_id, response_id)) = &self.place {
            self.shared.lock().end_answer(chat_id, response_id, text, None);
        }
    }

    /// The client went away after `text`. A server with chats goes on by itself for a while, and
    /// the chat stays busy as long.
    pub(super) fn abandon(self, text: &str) {
        let mut state = self.shared.lock();
        match &self.place {
            Some((chat_id, response_id)) => {
                let until = self.shared.clock.now() + self.shared.config.linger;
                state.end_answer(chat_id, response_id, text, Some(until));
            }
            None => state.counters.abandoned += 1,
        }
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("place", &self.place).finish_non_exhaustive()
    }
}

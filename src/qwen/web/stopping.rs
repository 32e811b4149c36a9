//! The chats in which an answer is being stopped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::Text;

/// The calls to stop that are on their way, by chat. Clones share them.
///
/// A call to stop names an answer, and nothing says that upstream looks at more than the chat. One that is
/// still on its way when the next turn begins would stop that.
#[derive(Clone, Debug, Default)]
pub(super) struct Stopping(Arc<Mutex<HashMap<Text, watch::Receiver<()>>>>);

impl Stopping {
    fn lock(&self) -> MutexGuard<'_, HashMap<Text, watch::Receiver<()>>> {
        // Nothing that is done under the lock leaves it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, and for as long as the result is kept, turns of the chat wait.
    pub(super) fn begin(&self, chat_id: &Text) -> Pending {
        let (done, is_done) = watch::channel(());
        // Copied, for the id may be a slice of a buffer that would stay as long.
        let chat_id = Text::from(chat_id.as_str());
        self.lock().insert(chat_id.clone(), is_done.clone());
        Pending { stopping: self.clone(), chat_id, is_done, _done: done }
    }

    /// Waits until nothing is being stopped in the chat.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn wait(&self, chat_id: &str) {
        loop {
            let Some(mut is_done) = self.lock().get(chat_id).cloned() else { return };
            // It ends with an error: whoever would tell more is gone.
            while is_done.changed().await.is_ok() {}
        }
    }
}

/// A call to stop.
#[derive(Debug)]
pub(super) struct Pending {
    stopping: Stopping,
    chat_id: Text,
    is_done: watch::Receiver<()>,
    _done: watch::Sender<()>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut stopping = self.stopping.lock();
        // A later one has a place of its own.
        if stopping.get(&self.chat_id).is_some_and(|known| known.same_channel(&self.is_done)) {
            stopping.remove(&self.chat_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    #[test]
    fn a_turn_waits_for_all_calls_of_its_chat() {
        let stopping = Stopping::default();
        assert_ready!(task::spawn(stopping.wait("c")).poll());
        let first = stopping.begin(&"c".into());
        assert_ready!(task::spawn(stopping.wait("d")).poll());
        let wait = stopping.wait("c");
        let mut turn = task::spawn(wait);
        assert_pending!(turn.poll());
        let second = stopping.begin(&"c".into());
        drop(first);
        assert!(turn.is_woken());
        assert_pending!(turn.poll());
        drop(second);
        assert_ready!(turn.poll());
        assert!(stopping.lock().is_empty());
    }
}

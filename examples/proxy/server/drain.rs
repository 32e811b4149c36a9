//! Asks connections to end after what is under way, and waits until they have.
//!
//! Like hyper-util's `GracefulShutdown`, but a connection that is polled, as one with a stream is
//! at each event, costs a load of a flag and not a turn in the queue of those who wait.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tower_qwen::shutdown::{Asked, ShutdownHandle};

/// Who asks.
#[derive(Default)]
pub(super) struct Drain {
    handle: ShutdownHandle,
    watchers: TaskTracker,
}

/// Who is asked; each is waited for until it is dropped.
pub(super) struct Watcher {
    asked: Asked,
    is_asked: bool,
    _token: TaskTrackerToken,
}

impl Drain {
    pub(super) fn watcher(&self) -> Watcher {
        let asked = self.handle.asked();
        Watcher { asked, is_asked: false, _token: self.watchers.token() }
    }

    /// How many watchers there are.
    pub(super) fn open(&self) -> usize {
        self.watchers.len()
    }

    /// Asks all to end, and waits until they have.
    pub(super) async fn ended(&self) {
        self.handle.shut_down();
        self.watchers.close();
        self.watchers.wait().await;
    }
}

impl Watcher {
    /// Is ready, once, when it is asked to end.
    pub(super) fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_asked {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.asked).poll(cx);
        self.is_asked = polled.is_ready();
        polled
    }
}

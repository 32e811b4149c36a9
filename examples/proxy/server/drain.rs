//! Asks connections to end after what is under way, and waits until they have.
//!
//! Like hyper-util's `GracefulShutdown`, but a connection that is polled, as one with a stream is
//! at each event, costs a load of a flag and not a turn in the queue of those who wait.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use hyper_util::server::graceful::GracefulConnection;
use tokio::{sync::watch, task::unconstrained};

/// Who asks.
pub(super) struct Drain {
    sender: watch::Sender<()>,
    is_asked: Arc<AtomicBool>,
}

/// Who is asked; each is waited for until it is dropped.
#[derive(Clone)]
pub(super) struct Watcher {
    receiver: watch::Receiver<()>,
    is_asked: Arc<AtomicBool>,
}

pub(super) fn drain() -> (Drain, Watcher) {
    let (sender, receiver) = watch::channel(());
    let is_asked = Arc::new(AtomicBool::new(false));
    (Drain { sender, is_asked: Arc::clone(&is_asked) }, Watcher { receiver, is_asked })
}

impl Drain {
    /// How many are watched.
    pub(super) fn open(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Asks all to end, and waits until they have.
    pub(super) async fn ended(self) {
        // First the flag: who wakes must find it.
        self.is_asked.store(true, Ordering::SeqCst);
        self.sender.send_replace(());
        self.sender.closed().await;
    }
}

impl Watcher {
    /// Serves `connection` to its end, which comes after the exchange under way once that is
    /// asked for.
    pub(super) async fn watch<C: GracefulConnection>(self, connection: C) -> C::Output {
        let Self { mut receiver, is_asked } = self;
        let mut connection = pin!(connection);
        // With a task's budget used up it would wait without being registered.
        let mut asked = pin!(unconstrained(async move {
            // It fails where nobody can ask any more, which is no reason to end.
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            receiver
        }));
        // Held to the end, for that is waited for.
        let mut held = None;
        let mut registered: Option<Waker> = None;
        poll_fn(|cx| {
            let is_registered = registered.as_ref().is_some_and(|it| it.will_wake(cx.waker()));
            if held.is_none() && (!is_registered || is_asked.load(Ordering::SeqCst)) {
                match asked.as_mut().poll(cx) {
                    Poll::Ready(receiver) => {
                        held = Some(receiver);
                        connection.as_mut().graceful_shutdown();
                    }
                    Poll::Pending => registered = Some(cx.waker().clone()),
                }
            }
            connection.as_mut().poll(cx)
        })
        .await
    }
}

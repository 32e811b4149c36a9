//! Asks connections to end after what is under way, and waits until they have.
//!
//! Like hyper-util's `GracefulShutdown`, but a connection that is polled, as one with a stream is
//! at each event, costs a load of a flag and not a turn in the queue of those who wait.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::{sync::watch, task::unconstrained};

/// Who asks.
pub(super) struct Drain {
    sender: watch::Sender<()>,
    is_asked: Arc<AtomicBool>,
}

/// Who is asked; each is waited for until it is dropped.
pub(super) struct Watcher {
    /// Whom `state` wakes.
    registered: Option<Waker>,
    is_asked: Arc<AtomicBool>,
    state: State,
}

enum State {
    Waiting(Pin<Box<dyn Future<Output = watch::Receiver<()>> + Send>>),
    /// Held, for that is what is waited for.
    Asked(#[expect(dead_code, reason = "it is dropped")] watch::Receiver<()>),
}

impl Drain {
    pub(super) fn new() -> Self {
        Self { sender: watch::Sender::new(()), is_asked: Arc::default() }
    }

    pub(super) fn watcher(&self) -> Watcher {
        let mut receiver = self.sender.subscribe();
        // With a task's budget used up it would wait without being registered.
        let waiting = unconstrained(async move {
            // It fails where nobody can ask any more, which is no reason to end.
            if receiver.changed().await.is_err() {
                pending::<()>().await;
            }
            receiver
        });
        let state = State::Waiting(Box::pin(waiting));
        Watcher { registered: None, is_asked: Arc::clone(&self.is_asked), state }
    }

    /// How many watchers there are.
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
    /// Is ready, once, when it is asked to end.
    pub(super) fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_registered = self.registered.as_ref().is_some_and(|it| it.will_wake(cx.waker()));
        if is_registered && !self.is_asked.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        self.poll_state(cx)
    }

    #[cold]
    fn poll_state(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Waiting(waiting) = &mut self.state else { return Poll::Pending };
        match waiting.as_mut().poll(cx) {
            Poll::Ready(receiver) => {
                self.state = State::Asked(receiver);
                Poll::Ready(())
            }
            Poll::Pending => {
                self.registered = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

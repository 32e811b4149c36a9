use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::sync::{Notify, futures::OwnedNotified, watch};

/// Tells everything that waits for it to end.
///
/// Clones are one handle. It is used once: what was shut down stays so.
///
/// ```
/// use tower_qwen::shutdown::ShutdownHandle;
///
/// # tokio_test::block_on(async {
/// let shutdown = ShutdownHandle::new();
/// let asked = shutdown.asked();
/// shutdown.shut_down();
/// asked.await;
/// assert!(shutdown.is_shut_down());
/// # });
/// ```
#[derive(Clone, Default)]
pub struct ShutdownHandle {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_shut_down: AtomicBool,
    waiting: Arc<Notify>,
    working: watch::Sender<()>,
}

/// Goes with a request, in its extensions, to every call that is made for it.
#[derive(Clone)]
pub(super) struct Working(#[expect(dead_code, reason = "it is counted")] watch::Receiver<()>);

impl ShutdownHandle {
    /// A handle that nobody has used yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends everything that waits for this, now. A second call does nothing.
    pub fn shut_down(&self) {
        // First the flag: who is woken must find it.
        self.shared.is_shut_down.store(true, Ordering::SeqCst);
        self.shared.waiting.notify_waiters();
    }

    /// Whether that was asked for.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.shared.is_shut_down.load(Ordering::SeqCst)
    }

    /// Waits until nothing is left of any request that has passed a layer with this handle: no answer,
    /// and no call in the background that tells an upstream to stop or deletes what nobody will ask
    /// for. After [`shut_down`](Self::shut_down) that is soon; give it a limit all the same.
    ///
    /// # Cancel safety
    ///
    /// It may be dropped at any time, and nothing is lost.
    pub async fn settled(&self) {
        self.shared.working.closed().await;
    }

    /// What [`settled`](Self::settled) waits for the end of.
    pub(super) fn working(&self) -> Working {
        Working(self.shared.working.subscribe())
    }

    /// A future that is ready when it is asked for.
    pub fn asked(&self) -> Asked {
        Asked { handle: self.clone(), woken: None, notified: None }
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownHandle").field("is_shut_down", &self.is_shut_down()).finish()
    }
}

/// Waits for a [`ShutdownHandle`] to be used; made by [`ShutdownHandle::asked`].
///
/// It is meant to be polled along with a stream at each of its events: while it waits for the same
/// task that costs a load of a flag. Once ready it stays ready.
///
/// # Cancel safety
///
/// It may be dropped at any time, and nothing is lost.
#[must_use = "futures do nothing unless polled"]
pub struct Asked {
    handle: ShutdownHandle,
    /// Whom `notified` wakes.
    woken: Option<Waker>,
    /// Made when it waits for the first time.
    notified: Option<Pin<Box<OwnedNotified>>>,
}

impl Asked {
    /// What it waits for.
    pub(super) const fn handle(&self) -> &ShutdownHandle {
        &self.handle
    }
}

impl Future for Asked {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.handle.is_shut_down() {
            return Poll::Ready(());
        }
        // To ask `notified` again would take the lock of all who wait.
        if self.woken.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.register(cx)
    }
}

impl Asked {
    #[cold]
    fn register(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = &self.handle.shared.waiting;
        let notified =
            self.notified.get_or_insert_with(|| Box::pin(Arc::clone(waiting).notified_owned()));
        // The second look is for a use between the first one and the making.
        if notified.as_mut().poll(cx).is_ready() || self.handle.is_shut_down() {
            return Poll::Ready(());
        }
        self.woken = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("handle", &self.handle).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    #[test]
    fn each_task_that_waits_is_woken_whichever_polled_last() {
        let shutdown = ShutdownHandle::new();
        let mut asked = Box::pin(shutdown.asked());
        let (mut first, mut second) = (task::spawn(()), task::spawn(()));
        for task in [&mut first, &mut second] {
            for _ in 0..2 {
                assert_pending!(task.enter(|cx, _| asked.as_mut().poll(cx)));
            }
        }
        let mut other = task::spawn(shutdown.asked());
        assert_pending!(other.poll());
        shutdown.clone().shut_down();
        assert!(second.is_woken() && other.is_woken() && !first.is_woken());
        for _ in 0..2 {
            assert_ready!(second.enter(|cx, _| asked.as_mut().poll(cx)));
        }
        assert_ready!(other.poll());
        assert_ready!(task::spawn(shutdown.asked()).poll());
    }

    #[test]
    fn one_that_was_made_before_and_polled_after_is_ready() {
        let shutdown = ShutdownHandle::new();
        let mut asked = task::spawn(shutdown.asked());
        shutdown.shut_down();
        assert_ready!(asked.poll());
    }
}

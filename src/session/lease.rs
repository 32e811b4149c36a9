//! One turn a chat at a time.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, sleep},
};
use tracing::debug;

use super::{
    key::ChatKey,
    store::{Grant, Owner, SessionStore, StoreFuture},
    wait::{bounded, detach, failed},
};

/// The chat is this turn's alone until it is dropped.
///
/// A lease that the store grants for a time is renewed meanwhile, by one task that ends with it:
/// so it is kept while upstream says nothing and while the client does not read, and an event of
/// the answer costs nothing more. A lease that lasts until it is given back needs no task.
pub(super) struct Lease {
    store: Arc<dyn SessionStore>,
    chat: ChatKey,
    owner: Owner,
    store_timeout: Duration,
    renewal: Option<AbortHandle>,
    released: bool,
}

/// What became of an attempt to take a lease.
pub(super) enum Taken {
    Free(Lease),
    Held,
    /// The store did not say. Upstream refuses a second answer in the same chat by itself.
    Unknown,
}

impl Lease {
    /// Takes the lease of `chat`, for which it waits as long as `patience` says where another turn
    /// has it.
    pub(super) async fn take(
        store: &Arc<dyn SessionStore>,
        chat: ChatKey,
        patience: Duration,
        store_timeout: Duration,
    ) -> Taken {
        /// The first and the last pause between two looks at the lease.
        const PAUSES: (Duration, Duration) =
            (Duration::from_millis(10), Duration::from_millis(200));

        let began = Instant::now();
        // Made before the store is asked: should this future be dropped while the answer is on
        // its way, the lease is given back all the same.
        let mut lease = Self {
            store: Arc::clone(store),
            chat,
            owner: Owner::unique(),
            store_timeout,
            renewal: None,
            released: false,
        };
        let mut pause = PAUSES.0;
        loop {
            let taking = lease.store.acquire(chat, lease.owner);
            match bounded("acquire", store_timeout, taking).await {
                Some(Grant::UntilReleased) => return Taken::Free(lease),
                Some(Grant::For(term)) => {
                    lease.keep(term);
                    return Taken::Free(lease);
                }
                Some(Grant::Refused) => {}
                None => return Taken::Unknown,
            }
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                lease.released = true;
                return Taken::Held;
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Renews the lease, which was granted for `term`, until it is dropped.
    fn keep(&mut self, term: Duration) {
        // Without a runtime it ends by itself, which is what it would do without us too.
        let Ok(runtime) = Handle::try_current() else { return };
        let renewal =
            renew(Arc::clone(&self.store), self.chat, self.owner, term, self.store_timeout);
        self.renewal = Some(runtime.spawn(renewal).abort_handle());
    }

    /// What a store needs to release it together with a record.
    pub(super) fn claim(&self) -> (ChatKey, Owner) {
        (self.chat, self.owner)
    }

    /// The store has released it.
    pub(super) fn released(mut self) {
        self.released = true;
    }
}

/// Renews a lease for as long as its owner has it.
async fn renew(
    store: Arc<dyn SessionStore>,
    chat: ChatKey,
    owner: Owner,
    mut term: Duration,
    store_timeout: Duration,
) {
    /// The shortest pause between two renewals, should a store grant leases for no time at all.
    const LEAST: Duration = Duration::from_millis(100);

    let mut pause = term / 3;
    loop {
        sleep(pause.max(LEAST)).await;
        match bounded("renew", store_timeout, store.renew(chat, owner)).await {
            Some(Grant::For(next)) => {
                term = next;
                pause = term / 3;
            }
            Some(Grant::UntilReleased) => return,
            Some(Grant::Refused) => {
                // It ran out while the store was away. Upstream refuses a second answer by itself.
                debug!(%chat, "the lease is lost");
                return;
            }
            // Once more before it is over: the store may be back soon.
            None => pause = term / 15,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(renewal) = self.renewal.take() {
            renewal.abort();
        }
        if self.released {
            return;
        }
        let (store, chat, owner) = (Arc::clone(&self.store), self.chat, self.owner);
        let limit = self.store_timeout;
        let mut release: StoreFuture<'static, ()> =
            Box::pin(async move { store.release(chat, owner).await });
        // A store in memory is done with it at once.
        match release.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => failed("release", &error),
            Poll::Pending => detach(Box::pin(async move {
                bounded("release", limit, release).await;
            })),
        }
    }
}

//! Waiting for a store, but not for long.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::runtime::Handle;
use tracing::debug;

use super::store::{StoreError, StoreFuture};
use crate::clock;

/// Waits for the store, but not for long; `None` where it failed, which is counted.
pub(super) async fn bounded<T>(
    operation: &'static str,
    limit: Duration,
    mut answer: StoreFuture<'_, T>,
) -> Option<T> {
    // A store in memory needs no timer.
    let first = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
    let result = match first {
        Poll::Ready(result) => result,
        Poll::Pending => clock::within(limit, answer).await.unwrap_or_else(|| {
            Err(StoreError::new(format!("the store did not answer within {limit:?}")))
        }),
    };
    result.inspect_err(|error| failed(operation, error)).ok()
}

/// Counts a failure of the store.
pub(super) fn failed(operation: &'static str, error: &StoreError) {
    metrics::counter!("tower_qwen_session_store_errors_total", "operation" => operation)
        .increment(1);
    debug!(operation, error = error as &dyn std::error::Error, "the session store failed");
}

/// Goes on with `work` in a task of its own; outside of a runtime it is dropped.
pub(super) fn detach(work: Pin<Box<dyn Future<Output = ()> + Send>>) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(work);
    }
}

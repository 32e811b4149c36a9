//! Waiting by the clock of tokio. Where no runtime is there is none, and nothing is limited by it.

use tokio::runtime::Handle;

/// Whether there is a runtime, and so a clock.
pub(crate) fn is_there() -> bool {
    Handle::try_current().is_ok()
}

/// What `future` gives within `limit`; without a clock, whenever it gives it.
///
/// # Cancel safety
///
/// As that of `future`.
#[cfg(any(
    feature = "compatible",
    feature = "fallback",
    feature = "media",
    feature = "session",
    feature = "web"
))]
pub(crate) async fn within<F: Future>(limit: std::time::Duration, future: F) -> Option<F::Output> {
    if is_there() { tokio::time::timeout(limit, future).await.ok() } else { Some(future.await) }
}

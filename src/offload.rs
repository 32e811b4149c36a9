//! Work on large requests, off the threads of the runtime.

use crate::{
    Error,
    chat::{ChatRequest, exceeds},
};

/// From this size on, in bytes, a body or a history is large: 256 KiB.
///
/// Less takes a thread about a millisecond or two, which others can wait; and what is done at once
/// costs no task and no allocation. An agent's history of 200,000 tokens is some 800 KiB.
pub(crate) const LARGE: usize = 256 * 1024;

/// Whether the history and the tools of `chat` are about [`LARGE`].
#[cfg_attr(
    not(any(
        feature = "compatible",
        feature = "join",
        feature = "session",
        feature = "tool-call",
        feature = "web"
    )),
    expect(dead_code, reason = "the edge alone asks only how large a body is")
)]
pub(crate) fn is_large(chat: &ChatRequest) -> bool {
    exceeds(chat, LARGE)
}

/// Does `work` on a thread where it holds nobody up, and gives what it makes.
///
/// Half of the cores work on large requests at a time, at least one, so that they leave room for
/// others however many come; the next ones wait. Without a runtime of tokio `work` is done at once,
/// where it is.
///
/// # Errors
///
/// Where the runtime is shut down before it is done.
///
/// # Panics
///
/// As `work` does.
///
/// # Cancel safety
///
/// Dropping it waits for nothing: work that has not begun is not done, and what has begun goes on
/// to its end, keeps its place until then, and is thrown away.
#[cfg(any(feature = "compatible", feature = "edge", feature = "session", feature = "web"))]
pub(crate) async fn offload<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    use std::{
        num::NonZero,
        panic::resume_unwind,
        sync::{Arc, LazyLock},
        thread::available_parallelism,
    };

    use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle};

    use crate::{ErrorKind, steps};

    static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Arc::new(Semaphore::new(cores.div_ceil(2)))
    });

    /// Work that has not begun when this is dropped is not done.
    struct Abort<T>(JoinHandle<T>);

    impl<T> Drop for Abort<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }

    let Ok(runtime) = Handle::try_current() else { return Ok(work()) };
    metrics::counter!("tower_qwen_large_requests_total", "work" => what).increment(1);
    // A task of its own, so that a place never waits for a request that nobody polls.
    let mut task = Abort(runtime.spawn(async move {
        // The semaphore is never closed.
        let place = Arc::clone(&PLACES).acquire_owned().await.ok();
        let work = move || {
            let done = steps::of(work);
            drop(place);
            done
        };
        Handle::current().spawn_blocking(work).await
    }));
    match (&mut task.0).await.and_then(|done| done) {
        Ok((done, steps)) => {
            steps::count(steps);
            Ok(done)
        }
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(error) => {
            Err(Error::new(ErrorKind::Overloaded, "the server is shutting down").with_source(error))
        }
    }
}

/// As above, where no feature brings tokio.
#[cfg(not(any(feature = "compatible", feature = "edge", feature = "session", feature = "web")))]
pub(crate) async fn offload<T: Send + 'static>(
    _: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    Ok(work())
}

//! Counts steps, so that tests see whether twice the input is twice the work, without a clock.
//!
//! A step is a look at one [`Text`](crate::chat::Text), or at one item of a list or node of a tree
//! that a client or an upstream makes long, or 64 bytes that are passed over or copied into a text.
//! Texts count themselves, so a search in a list of messages, calls or tools is seen without a word
//! from whoever wrote it; what else is searched says so by [`count`].
//!
//! Outside of tests and fuzzing nothing is counted, and [`count`] is empty.

#[cfg(any(test, fuzzing))]
use std::cell::Cell;

/// How many bytes are a step.
const BYTES: usize = 64;

#[cfg(any(test, fuzzing))]
thread_local! {
    static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// Notes so many steps.
#[inline(always)]
pub(crate) fn count(steps: usize) {
    #[cfg(any(test, fuzzing))]
    STEPS.set(STEPS.get() + steps);
    #[cfg(not(any(test, fuzzing)))]
    let _ = steps;
}

/// Notes the steps that so many bytes are.
#[inline(always)]
pub(crate) fn count_bytes(bytes: usize) {
    count(1 + bytes / BYTES);
}

/// How many steps this thread has taken for `work`, with those of threads that did a part of it.
#[allow(dead_code, unreachable_pub, reason = "for tests, fuzz targets and work on other threads")]
pub fn of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    #[cfg(any(test, fuzzing))]
    let before = STEPS.get();
    let done = work();
    #[cfg(any(test, fuzzing))]
    return (done, STEPS.get() - before);
    #[cfg(not(any(test, fuzzing)))]
    (done, 0)
}

#[cfg(all(test, feature = "full"))]
mod tests;

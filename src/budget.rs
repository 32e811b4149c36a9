//! How much of a stream one poll takes on.

use std::task::{Context, Poll};

/// How many units there are: so many items, or 256 KiB.
const UNITS: u32 = 256;

/// How many bytes are a unit.
const BYTES: usize = 1024;

/// What a stream may take of another before it waits once: 256 items or 256 KiB, whichever is
/// first, and the item that passes the limit.
///
/// A stream that always has more would otherwise hold its thread for as long as it likes: an upload
/// that comes faster than it is read, an upstream that sends comments, an answer in memory. When
/// the budget is used up the task is woken and the poll is [`Poll::Pending`], so that others have
/// their turn; the budget is then whole again, as it is whenever the stream waits by itself. tokio's
/// own budget counts what its sockets and channels give, and nothing that lies in memory or that
/// one read has brought.
///
/// A wrapper that gives one item for one that it takes needs none: what it wraps has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget(u32);

impl Budget {
    pub(crate) const fn new() -> Self {
        Self(UNITS)
    }

    /// Pending, with the task woken, where nothing is left.
    #[inline]
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 > 0 { Poll::Ready(()) } else { self.over(cx) }
    }

    #[cold]
    fn over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.renew();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// An item was taken, where something is left.
    #[cfg(feature = "chat")]
    #[inline]
    pub(crate) fn spend_item(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// An item of so many bytes was taken.
    #[inline]
    pub(crate) fn spend(&mut self, bytes: usize) {
        let units = u32::try_from(bytes / BYTES).unwrap_or(u32::MAX);
        self.0 = self.0.saturating_sub(units.saturating_add(1));
    }

    /// The stream waits.
    #[inline]
    pub(crate) fn renew(&mut self) {
        self.0 = UNITS;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// How many items of `bytes` are taken before the stream waits.
    fn items(bytes: usize) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let mut budget = Budget::new();
        let taken = (0..).take_while(|_| {
            let left = budget.poll_left(&mut cx).is_ready();
            budget.spend(bytes);
            left
        });
        taken.count()
    }

    #[test]
    fn items_and_bytes_are_bounded() {
        assert_eq!((items(0), items(100)), (256, 256));
        assert_eq!((items(16 * 1024), items(256 * 1024), items(usize::MAX)), (16, 1, 1));
    }
}

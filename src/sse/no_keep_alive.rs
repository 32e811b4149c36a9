use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// In the place of keep-alives where the feature is off: nobody can ask for one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeepAlive {}

/// A timer that there never is.
#[derive(Debug)]
pub(crate) enum KeepAliveTimer {}

impl KeepAlive {
    pub(crate) const fn timer(self) -> KeepAliveTimer {
        match self {}
    }

    pub(crate) const fn late_timer(self) -> KeepAliveTimer {
        match self {}
    }

    pub(crate) const fn interval(self) -> Duration {
        match self {}
    }
}

impl KeepAliveTimer {
    pub(crate) fn reset(self: Pin<&mut Self>) {
        match *self {}
    }

    pub(crate) fn poll_quiet(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        match *self {}
    }
}

//! The proxy as a service of systemd: what it tells the manager, and the socket that it may be given.
//!
//! Both are conventions of the environment (`NOTIFY_SOCKET`, `LISTEN_FDS`), and nothing happens where
//! they are not set.

use std::{io, net::TcpListener};

/// What the manager can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// It serves, again or for the first time.
    Ready,
    /// It reads its configuration again.
    Reloading,
    /// It comes to its end.
    Stopping,
}

/// Tells the service manager.
#[cfg(unix)]
pub(crate) fn tell(state: State) {
    use sd_notify::NotifyState;

    let told = match state {
        State::Ready => sd_notify::notify(&[NotifyState::Ready]),
        // With the time, by which the manager knows that a later READY is about this one.
        State::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
        State::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
    };
    if let Err(error) = told {
        tracing::warn!(?state, %error, "the service manager could not be told");
    }
}

/// Tells nobody.
#[cfg(not(unix))]
pub(crate) fn tell(_state: State) {}

/// The socket that the service manager has opened for this process, if it has.
///
/// # Errors
///
/// If what it has opened is not one socket that listens on TCP.
#[cfg(unix)]
pub(crate) fn listener() -> io::Result<Option<TcpListener>> {
    let mut given = listenfd::ListenFd::from_env();
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    match given.len() {
        0 => Ok(None),
        1 => {
            let listener = given
                .take_tcp_listener(0)
                .map_err(|error| wrong(format!("it is none that listens on TCP: {error}")))?;
            if let Some(listener) = &listener {
                listener.set_nonblocking(true)?;
            }
            Ok(listener)
        }
        count => Err(wrong(format!("there are {count}, and the proxy listens on one"))),
    }
}

/// There is nobody who could have opened one.
///
/// # Errors
///
/// None.
#[cfg(not(unix))]
pub(crate) fn listener() -> io::Result<Option<TcpListener>> {
    Ok(None)
}

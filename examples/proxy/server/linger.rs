//! Closing a connection so that the client gets the last answer.
//!
//! Where the server closes a socket while the client still sends, the kernel resets the connection,
//! and the client's kernel throws the answer away that was there already. So after an answer to a
//! body that was not read the server says that it will send no more, and goes on reading for a
//! while without keeping anything: what nginx calls a lingering close.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// For how long a client may go on sending, and for how long it may pause.
const TIME: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(5);
/// How much a client may go on sending.
const BYTES: usize = 128 * 1024 * 1024;

/// A connection that lingers when it is closed after a body that was not read.
#[derive(Debug)]
pub(super) struct Lingering<I> {
    io: I,
    /// Whether there is such a body.
    is_unread: Arc<AtomicBool>,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// It was said that no more will be sent.
    Reading {
        left: usize,
        end: Instant,
        pause: Pin<Box<Sleep>>,
    },
    Closed,
}

impl<I> Lingering<I> {
    pub(super) const fn new(io: I, is_unread: Arc<AtomicBool>) -> Self {
        Self { io, is_unread, state: State::Open }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Lingering<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Open => {
                    ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
                    this.state = if this.is_unread.load(Ordering::Relaxed) {
                        let end = Instant::now() + TIME;
                        State::Reading { left: BYTES, end, pause: Box::pin(sleep(PAUSE)) }
                    } else {
                        State::Closed
                    };
                }
                State::Reading { left, end, pause } => {
                    let mut piece = [0; 16 * 1024];
                    let mut piece = ReadBuf::new(&mut piece);
                    match Pin::new(&mut this.io).poll_read(cx, &mut piece) {
                        Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                            let now = Instant::now();
                            match left.checked_sub(piece.filled().len()) {
                                Some(rest) if now < *end => *left = rest,
                                _ => this.state = State::Closed,
                            }
                            if let State::Reading { pause, end, .. } = &mut this.state {
                                pause.as_mut().reset((now + PAUSE).min(*end));
                            }
                        }
                        // The client has closed, or is gone: that is what was waited for.
                        Poll::Ready(_) => this.state = State::Closed,
                        Poll::Pending => {
                            ready!(pause.as_mut().poll(cx));
                            this.state = State::Closed;
                        }
                    }
                }
                State::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}

//! Letting go of clients that take nothing of what is there for them.
//!
//! hyper has no timeout for writing, so such a client keeps what waits for it, and the upstream at
//! work, for ever. There are two ways not to take: not to read from the connection, which a
//! [`Writing`] sees, and with HTTP/2 to read from it and never to open a stream's window, which
//! [`Exchanges`] see. Both set a timer when a client is in arrears for the first time, and not at
//! each event.

use std::{
    cell::Cell,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::super::unread::Rest;

/// The time in which somebody has to take something.
#[derive(Debug)]
struct Arrears {
    limit: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
    /// Whether it runs.
    running: bool,
}

impl Arrears {
    const fn new(limit: Duration) -> Self {
        Self { limit, alarm: None, running: false }
    }

    /// Something was taken.
    #[inline]
    fn end(&mut self) {
        self.running = false;
    }

    /// Is ready when nothing was taken for too long.
    #[cold]
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.running {
            self.running = true;
            alarm.as_mut().reset(Instant::now() + limit);
        }
        ready!(alarm.as_mut().poll(cx));
        metrics::counter!("tower_qwen_proxy_write_timeouts_total").increment(1);
        tracing::info!(?limit, "a client that took nothing of its answer is let go");
        Poll::Ready(())
    }
}

/// A connection, on which writing fails when nothing could be written for too long.
#[derive(Debug)]
pub(super) struct Writing<I> {
    io: I,
    arrears: Arrears,
}

impl<I> Writing<I> {
    pub(super) const fn new(io: I, limit: Duration) -> Self {
        Self { io, arrears: Arrears::new(limit) }
    }

    fn written<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.arrears.end();
            return written;
        }
        ready!(self.arrears.poll_over(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Writing<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Writing<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

tokio::task_local! {
    /// What the body of this exchange did, when it was last asked within this poll.
    static LAST: Cell<Last>;
}

#[derive(Clone, Copy, PartialEq)]
enum Last {
    NotAsked,
    /// It has nothing to give yet.
    Waits,
    /// It gave something, so that it will be asked again as soon as there is room for more.
    Gave,
}

/// Runs the exchanges of HTTP/2 connections, and drops those whose client takes nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchanges {
    pub(super) limit: Duration,
}

impl<F> Executor<F> for Exchanges
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, exchange: F) {
        let arrears = Arrears::new(self.limit);
        tokio::spawn(Exchange { exchange: Some(exchange), arrears, owes: false });
    }
}

pin_project! {
    struct Exchange<F> {
        #[pin]
        exchange: Option<F>,
        arrears: Arrears,
        // Whether the body gave something last, and hyper has not come back for more.
        owes: bool,
    }
}

impl<F: Future<Output = ()>> Future for Exchange<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(exchange) = this.exchange.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let (polled, last) = LAST
            .sync_scope(Cell::new(Last::NotAsked), || (exchange.poll(cx), LAST.with(Cell::get)));
        if polled.is_ready() {
            return Poll::Ready(());
        }
        match last {
            Last::NotAsked => {}
            Last::Waits => *this.owes = false,
            Last::Gave => {
                // It took what came before.
                this.arrears.end();
                *this.owes = true;
            }
        }
        if !*this.owes {
            return Poll::Pending;
        }
        ready!(this.arrears.poll_over(cx));
        // To drop it resets the stream, and cancels the upstream's work.
        this.exchange.set(None);
        Poll::Ready(())
    }
}

pin_project! {
    /// The body of an answer, which tells the [`Exchange`] what it did.
    pub(super) struct Watched<B> {
        #[pin]
        inner: B,
        is_watched: bool,
        _unread: Option<Rest>,
    }
}

impl<B> Watched<B> {
    /// The body, which keeps what was not read of the request's.
    pub(super) const fn new(inner: B, is_watched: bool, unread: Option<Rest>) -> Self {
        Self { inner, is_watched, _unread: unread }
    }
}

impl<B: Body<Data = Bytes>> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let polled = this.inner.poll_frame(cx);
        if *this.is_watched {
            let last = if polled.is_ready() { Last::Gave } else { Last::Waits };
            // HTTP/1 has no exchange around it.
            let _ = LAST.try_with(|cell| cell.set(last));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;

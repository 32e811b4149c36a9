//! The way from a body to an answer, whatever the wire.

use std::{
    error::Error as _,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::Body;

use super::state::Answer;
use crate::{
    BoxError, Error, ErrorKind, Text,
    budget::Budget,
    chat::ChatEvent,
    json::ReadError,
    qwen::transport,
    sse::{
        BOM, Decoder, Event, EventStream, KeepAlive, KeepAliveTimer, StreamError,
        progress::{Limits, ProgressBody},
    },
};

/// For how long token counts, and the word that nothing more comes, are awaited when the model has
/// finished, unless an adapter is set to something else. It is the one place where an answer ends
/// that is complete, whatever the connection does.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Within how many bytes a body shows that it is an event stream.
const BEGINNING_LEN: usize = 256;

/// What the events of one wire mean.
pub(crate) trait Wire {
    /// Takes the `data` of one event, which may have a `name`, and tells the answer what it means.
    ///
    /// # Errors
    ///
    /// Where the event says that the answer failed, or cannot be read.
    fn event(&mut self, name: Option<&str>, data: Text, answer: &mut Answer) -> Result<(), Error>;

    /// The stream is over: brings the answer to its end.
    ///
    /// # Errors
    ///
    /// Where the answer is not complete.
    fn end(&mut self, answer: &mut Answer) -> Result<(), Error>;

    /// Whether the upstream said that nothing more comes.
    fn is_done(&self) -> bool;

    /// What becomes of an answer that has said nothing in `bytes` bytes: `None` to read on, `Ok` to
    /// hand it on as it is, or the error that it is.
    fn is_enough(&self, bytes: usize) -> Option<Result<(), Error>>;
}

/// Reads an answer: up to the commit point as a future, from there on as a stream.
pub(crate) struct Reader<B, W> {
    /// `None` when the answer is over, so that the connection is let go at once. The body is boxed,
    /// as it is polled before the stream is handed on.
    events: Option<EventStream<ProgressBody<B>>>,
    answer: Answer,
    /// What failed, behind events which are still to be given.
    failed: Option<Error>,
    /// Of events, which the body's own does not count: one frame may hold many.
    budget: Budget,
    /// How long the rest is awaited when the model has finished. Comments do not make it longer;
    /// `None` where nothing is awaited.
    grace: Option<KeepAliveTimer>,
    /// After the body, so that the connection is closed before the wire is told.
    wire: W,
}

impl<B, W: Wire> Reader<B, W> {
    /// An answer that was read whole.
    pub(crate) fn whole(answer: Answer, wire: W) -> Self {
        Self { events: None, answer, failed: None, budget: Budget::new(), grace: None, wire }
    }

    pub(crate) fn wire_mut(&mut self) -> &mut W {
        &mut self.wire
    }

    pub(crate) const fn wire(&self) -> &W {
        &self.wire
    }

    /// Whether the model has finished, and said nothing.
    pub(crate) fn is_blank(&self) -> bool {
        self.answer.is_finished() && !self.answer.is_begun()
    }

    /// Nothing more is read, and the answer is brought to its end.
    fn end(&mut self) {
        self.events = None;
        if let Err(error) = self.wire.end(&mut self.answer) {
            self.failed = Some(error);
        }
    }

    /// The answer failed, unless the model had finished: what goes wrong then cannot make the
    /// answer less complete.
    fn fail(&mut self, error: Error) {
        if self.answer.is_finished() {
            tracing::debug!(%error, "an error behind the end of an answer is left out");
            return self.end();
        }
        self.events = None;
        self.answer.fail();
        self.failed = Some(error);
    }
}

impl<B, W> Reader<B, W>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    W: Wire,
{
    /// The answer in `body`, of which `decoder` may have been given the beginning. When the model has
    /// finished, the rest is awaited for `grace`.
    pub(crate) fn new(
        decoder: Decoder,
        body: Pin<Box<B>>,
        answer: Answer,
        wire: W,
        limits: Limits,
        grace: Duration,
    ) -> Self {
        // Some servers forget the last newline; what it holds is JSON or a marker, so a cut one
        // is found out.
        let body = ProgressBody::new(body, limits);
        let events = EventStream::with_decoder(body, decoder).take_unfinished(true);
        let grace = (!grace.is_zero()).then(|| KeepAlive::new(grace).timer());
        Self { events: Some(events), grace, ..Self::whole(answer, wire) }
    }

    /// Reads up to the commit point: until something is there that the client will see. The body
    /// ends where it brings nothing, so this does not wait for ever.
    ///
    /// # Errors
    ///
    /// What ended the answer before it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: what was read stays here.
    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        let mut seen = 0;
        while !self.answer.has_content_behind(seen) {
            seen = self.answer.waiting();
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let bytes = self.events.as_mut().map_or(0, |events| events.body_mut().bytes());
            if let Some(enough) = self.wire.is_enough(bytes) {
                if enough.is_err() {
                    self.events = None;
                }
                return enough;
            }
            if !poll_fn(|cx| self.poll_read(cx)).await {
                break;
            }
        }
        Ok(())
    }

    /// Reads one event; `false` where there are no more.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(events) = &mut self.events else { return Poll::Ready(false) };
        ready!(self.budget.poll_left(cx));
        let (name, data) = match Pin::new(&mut *events).poll_next(cx) {
            // An event is large, so what is not asked for stays where it lies.
            Poll::Ready(Some(Ok(Event { event, data, .. }))) => (event, data),
            Poll::Ready(Some(Err(error))) => {
                self.fail(stream_error(error));
                return Poll::Ready(true);
            }
            Poll::Ready(None) => {
                self.end();
                return Poll::Ready(true);
            }
            Poll::Pending => {
                self.budget.renew();
                let is_finished = self.answer.is_finished();
                return if is_finished { self.poll_grace(cx) } else { Poll::Pending };
            }
        };
        self.budget.spend_item();
        let waiting = self.answer.waiting();
        let read = self.wire.event(name.as_deref(), data, &mut self.answer);
        if self.answer.has_content_behind(waiting) {
            events.body_mut().event();
        }
        match read {
            // It is the last event that is cut, and with it the answer.
            Err(error) if events.is_over() && is_early_end(&error) => self.end(),
            Err(error) => self.fail(error),
            // What a server sends behind the last word, or that it keeps the connection open, is of
            // no concern.
            Ok(()) if self.wire.is_done() => self.end(),
            Ok(()) => {}
        }
        Poll::Ready(true)
    }

    /// Waits for what may follow the answer's end, but not for long.
    #[cold]
    fn poll_grace(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Some(grace) = &mut self.grace {
            ready!(Pin::new(grace).poll_quiet(cx));
        }
        tracing::debug!("the upstream keeps the connection open behind the answer's end");
        self.end();
        Poll::Ready(true)
    }

    /// The next item of the stream.
    pub(crate) fn poll_item(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<ChatEvent, Error>>> {
        loop {
            if let Some(event) = self.answer.pop() {
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(error) = self.failed.take() {
                return Poll::Ready(Some(Err(error)));
            }
            if !ready!(self.poll_read(cx)) {
                return Poll::Ready(None);
            }
        }
    }
}

/// Whether a body is an event stream by its beginning, whatever its media type: no JSON and no
/// page begins with a field or a comment.
pub(crate) fn begins_as_events(bytes: &[u8]) -> bool {
    // It is asked with every frame, so blank lines without end are not looked at to their end.
    let start = &bytes[..bytes.len().min(BEGINNING_LEN)];
    let start = start.strip_prefix(BOM).unwrap_or(start).trim_ascii_start();
    [&b"data:"[..], b"event:", b"id:", b"retry:", b":"].iter().any(|field| start.starts_with(field))
}

/// Whether an event could not be read because its JSON ends early.
fn is_early_end(error: &Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<ReadError>());
    cause.is_some_and(ReadError::is_early_end)
}

fn stream_error(error: StreamError) -> Error {
    match error {
        StreamError::Body(error) => transport::error(error),
        error => {
            Error::new(ErrorKind::Upstream, "the upstream's stream is malformed").with_source(error)
        }
    }
}

impl<B, W: fmt::Debug> fmt::Debug for Reader<B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("is_over", &self.events.is_none())
            .field("waiting", &self.answer.waiting())
            .field("wire", &self.wire)
            .finish_non_exhaustive()
    }
}

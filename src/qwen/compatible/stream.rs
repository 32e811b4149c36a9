use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::Body;

use super::events::Translator;
use crate::{
    BoxError, Error, ErrorKind, Text,
    budget::Budget,
    chat::ChatEvent,
    qwen::transport,
    sse::{
        Decoder, EventStream, StreamError,
        progress::{Limits, ProgressBody},
    },
};

/// The answer of an OpenAI-compatible upstream, from its first event on.
///
/// What goes wrong after the model finished cannot make the answer less complete, and is left out.
///
/// # Cancel safety
///
/// Dropping it drops the exchange, which cancels the upstream's work.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct AnswerStream<B> {
    /// `None` when the answer is over, so that the connection is let go at once. The body is
    /// boxed, as the stream is moved out of the future that committed it.
    events: Option<EventStream<ProgressBody<B>>>,
    translator: Translator,
    /// An error that came behind events which are still to be given.
    failed: Option<Error>,
    /// Of events, which the body's own does not count: one frame may hold many.
    budget: Budget,
}

impl<B> AnswerStream<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    /// The answer that begins with `start`, which was read already, and goes on in `body`.
    pub(super) fn new(
        start: Bytes,
        body: Pin<Box<B>>,
        translator: Translator,
        limits: Limits,
    ) -> Self {
        let mut decoder = Decoder::new().error_field();
        decoder.push(start);
        // Some servers forget the last newline; what it holds is JSON or a marker, so a cut one
        // is found out.
        let body = ProgressBody::new(body, limits);
        let events = EventStream::with_decoder(body, decoder).take_unfinished(true);
        Self { events: Some(events), translator, failed: None, budget: Budget::new() }
    }

    /// An answer that came whole.
    pub(super) fn whole(mut translator: Translator, body: &Text) -> Result<Self, Error> {
        translator.whole(body)?;
        translator.end()?;
        Ok(Self { events: None, translator, failed: None, budget: Budget::new() })
    }

    /// Reads up to the commit point: until something is there that the client will see. The body
    /// ends where it brings nothing, so this does not wait for ever.
    pub(super) async fn commit(&mut self) -> Result<(), Error> {
        let mut seen = 0;
        while !self.translator.has_content_behind(seen) {
            seen = self.translator.waiting();
            if !poll_fn(|cx| self.poll_read(cx)).await? {
                break;
            }
        }
        Ok(())
    }

    /// Reads one event; `false` where there are no more.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        let Some(events) = &mut self.events else { return Poll::Ready(Ok(false)) };
        ready!(self.budget.poll_left(cx));
        let Poll::Ready(event) = Pin::new(&mut *events).poll_next(cx) else {
            self.budget.renew();
            return Poll::Pending;
        };
        self.budget.spend(0);
        let read = match event {
            Some(Ok(event)) if event.event.as_deref() == Some("error") => {
                Err(self.translator.error_event(&event.data))
            }
            Some(Ok(event)) => {
                let waiting = self.translator.waiting();
                let read = self.translator.event(&event.data);
                if self.translator.has_content_behind(waiting) {
                    events.body_mut().event();
                }
                read
            }
            Some(Err(error)) => Err(stream_error(error)),
            None => {
                self.events = None;
                return Poll::Ready(self.translator.end().map(|()| true));
            }
        };
        if let Err(error) = &read {
            self.events = None;
            if self.translator.is_finished() {
                tracing::debug!(%error, "an error behind the end of an answer is left out");
                return Poll::Ready(self.translator.end().map(|()| true));
            }
            self.translator.fail();
        } else if self.translator.is_done() {
            // What a server sends behind `[DONE]`, or that it keeps the connection open, is of
            // no concern.
            self.events = None;
            return Poll::Ready(self.translator.end().map(|()| true));
        }
        Poll::Ready(read.map(|()| true))
    }
}

fn stream_error(error: StreamError) -> Error {
    match error {
        StreamError::Body(error) => transport::error(error),
        error => {
            Error::new(ErrorKind::Upstream, "the upstream's stream is malformed").with_source(error)
        }
    }
}

impl<B> Stream for AnswerStream<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.translator.pop() {
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(error) = this.failed.take() {
                return Poll::Ready(Some(Err(error)));
            }
            match ready!(this.poll_read(cx)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(None),
                Err(error) => this.failed = Some(error),
            }
        }
    }
}

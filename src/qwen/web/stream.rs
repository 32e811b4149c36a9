use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::Body;
use serde_json::{Map, Value};

use super::{stop::Stop, turn::Turn};
use crate::{
    BoxError, Error, ErrorKind,
    budget::Budget,
    chat::{ChatEvent, Conversation, FinishReason},
    qwen::transport,
    sse::{
        DecodeError, Decoder, Unfinished,
        progress::{Limits, ProgressBody},
    },
};

/// The answer of [`QwenWeb`](super::QwenWeb): a [`ChatStream`](crate::chat::ChatStream).
///
/// It ends with [`ChatEvent::Finished`] or one `Err`, and with upstream's terminal event: it
/// does not wait for upstream to close the connection (A11.1).
///
/// # Cancel safety
///
/// Dropping it before its end closes the connection, and spawns a call on the current tokio
/// runtime that tells upstream to stop (A20), with 5 s to do so. Nothing is called where no
/// runtime is running, where upstream has not named the answer yet, or where
/// [`QwenWebLayer::stop_on_drop`](super::QwenWebLayer::stop_on_drop) is off.
#[must_use = "streams do nothing unless polled"]
pub struct AnswerStream<B> {
    /// `None` once the stream is over. The one box of an answer: the body is polled before the
    /// stream is handed on, and handed on it is moved.
    body: Option<ProgressBody<B>>,
    decoder: Decoder,
    /// How many bytes came.
    read: usize,
    turn: Turn,
    /// What was read and not taken.
    events: VecDeque<ChatEvent>,
    /// What ends the stream once the events are taken.
    error: Option<Error>,
    budget: Budget,
    /// After the body, so that the connection is closed before the call is made.
    stop: Option<Stop>,
}

impl<B> AnswerStream<B> {
    pub(super) fn new(body: B, turn: Turn, limits: Limits, stop: Option<Stop>) -> Self {
        Self {
            body: Some(ProgressBody::new(Box::pin(body), limits)),
            decoder: Decoder::lenient(),
            read: 0,
            turn,
            events: VecDeque::new(),
            error: None,
            budget: Budget::new(),
            stop,
        }
    }

    /// An answer that came in one piece of JSON (A12).
    ///
    /// # Errors
    ///
    /// Where there is no answer in it.
    pub(super) fn whole(
        mut conversation: Conversation,
        envelope: &Map<String, Value>,
    ) -> Result<Self, Error> {
        let data = envelope.get("data").and_then(Value::as_object).unwrap_or(envelope);
        let content = data
            .get("choices")
            .and_then(|choices| choices.get(0)?.get("message")?.get("content")?.as_str())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Upstream,
                    "the upstream answered with JSON that holds no answer",
                )
            })?;
        let mut events = VecDeque::with_capacity(3);
        let id = data.get("message_id").and_then(Value::as_str).filter(|id| !id.is_empty());
        if let Some(id) = id {
            conversation.parent_id = Some(id.into());
            events.push_back(ChatEvent::Started(conversation.clone().into()));
        }
        if !content.is_empty() {
            events.push_back(ChatEvent::Text(content.into()));
        }
        events.push_back(ChatEvent::Finished(FinishReason::Stop));
        Ok(Self {
            body: None,
            decoder: Decoder::lenient(),
            read: 0,
            turn: Turn::over(conversation),
            events,
            error: None,
            budget: Budget::new(),
            stop: None,
        })
    }

    /// Whoever gets the stream knows of the chat that it is in.
    pub(super) fn keep_chat(&mut self) {
        if let Some(stop) = &mut self.stop {
            stop.keep_chat();
        }
    }

    /// The stream ends after what has been read.
    fn close(&mut self) {
        self.body = None;
        // What upstream sent beyond its last event is not kept for as long as the client reads.
        self.decoder = Decoder::lenient();
    }

    fn fail(&mut self, error: Error) {
        self.error = Some(error);
        self.close();
    }

    /// Takes one event of upstream's in; `false` where more has to be read for a whole one.
    fn advance(&mut self) -> bool {
        match self.decoder.next_event() {
            Ok(Some(event)) => {
                let waiting = self.events.len();
                let result = self.turn.push(&event.data, &mut self.events);
                if self.events.range(waiting..).any(ChatEvent::is_content)
                    && let Some(body) = &mut self.body
                {
                    body.event();
                }
                self.after(result);
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.fail(too_long(error));
                true
            }
        }
    }

    /// Upstream closed the connection: its last line may lack an end, but not its answer.
    fn finish(&mut self) {
        let result = match self.decoder.finish() {
            Ok(Some(Unfinished { event: Some(event), .. })) => {
                self.turn.push_last(&event.data, &mut self.events)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(too_long(error)),
        };
        self.after(result);
        if !self.turn.is_over() && self.error.is_none() {
            let error = self.turn.cut();
            self.fail(error);
        }
        self.close();
    }

    fn after(&mut self, result: Result<(), Error>) {
        if let Some(stop) = &mut self.stop {
            if self.turn.is_over() {
                stop.disarm();
            } else if let Some(id) = self.turn.response_id() {
                stop.arm(id);
            }
        }
        match result {
            Err(error) => self.fail(error),
            Ok(()) if self.turn.is_over() => self.close(),
            Ok(()) => {}
        }
    }
}

fn too_long(error: DecodeError) -> Error {
    Error::new(ErrorKind::Upstream, "the upstream sent an event that is too long")
        .with_source(error)
}

impl<B> AnswerStream<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    /// Reads until there is something more to take. `Ready(false)`: the stream is over.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if self.body.is_none() {
                return Poll::Ready(false);
            }
            ready!(self.budget.poll_left(cx));
            if self.advance() {
                self.budget.spend(0);
                return Poll::Ready(true);
            }
            let Some(body) = &mut self.body else { continue };
            let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
                self.budget.renew();
                return Poll::Pending;
            };
            match frame {
                Some(Ok(frame)) => {
                    let data = frame.into_data();
                    self.budget.spend(data.as_ref().map_or(0, Bytes::len));
                    if let Ok(data) = data {
                        self.read += data.len();
                        self.decoder.push(data);
                    }
                }
                Some(Err(error)) => {
                    self.fail(transport::error(error));
                    return Poll::Ready(true);
                }
                None => {
                    self.finish();
                    return Poll::Ready(true);
                }
            }
        }
    }

    /// Reads to the commit point (DESIGN: the first event that a client sees), or until so many
    /// bytes of the stream brought none.
    ///
    /// # Errors
    ///
    /// What ended the stream before it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: what was read stays in the stream.
    pub(super) async fn commit(&mut self, bytes: usize) -> Result<(), Error> {
        let mut seen = 0;
        loop {
            if self.events.range(seen..).any(ChatEvent::is_content) {
                return Ok(());
            }
            seen = self.events.len();
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            if self.read > bytes {
                if self.turn.response_id().is_some() {
                    return Ok(());
                }
                self.close();
                return Err(Error::new(
                    ErrorKind::Upstream,
                    "the upstream sent much and no answer in it",
                ));
            }
            poll_fn(|cx| self.poll_read(cx)).await;
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
            if let Some(event) = this.events.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(error) = this.error.take() {
                return Poll::Ready(Some(Err(error)));
            }
            if !ready!(this.poll_read(cx)) && this.events.is_empty() && this.error.is_none() {
                return Poll::Ready(None);
            }
        }
    }
}

impl<B> fmt::Debug for AnswerStream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerStream")
            .field("is_over", &self.body.is_none())
            .field("waiting", &self.events.len())
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}

//! What one protocol adds to what all edges do alike.

use std::fmt;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::{Limits, Times};
use crate::{
    Error, Text,
    chat::{Answer, ChatEvent, ChatRequest, FinishReason},
};

/// The protocol of an edge.
pub(crate) trait Protocol {
    /// What the layer is told about the protocol itself.
    type Options: Clone + fmt::Debug + Send + Sync + 'static;

    /// What all pieces of one answer have in common.
    type Envelope: fmt::Debug;

    /// Writes a streamed answer.
    type Writer: Writer;

    /// The content type of a streamed answer.
    const STREAM: &'static str = "text/event-stream; charset=utf-8";

    /// The label `edge` of the metrics.
    fn name(options: &Self::Options) -> &'static str;

    /// Reads a request.
    fn decode(
        options: &Self::Options,
        body: &Bytes,
        limits: &Limits,
    ) -> Result<Asked<Self::Envelope>, Error>;

    /// Takes note of what the head of the request says of the client.
    fn client(_envelope: &mut Self::Envelope, _headers: &HeaderMap) {}

    /// What the client is told where the service below has failed with `error`.
    fn known(_envelope: &Self::Envelope, error: Error) -> Error {
        error
    }

    /// The times of the answer, where the protocol tells them.
    fn times(_envelope: &mut Self::Envelope) -> Option<&mut Times> {
        None
    }

    /// The writer of an answer.
    fn writer(envelope: Self::Envelope) -> Self::Writer;

    /// The whole answer as one object; an error where the protocol has no form for it.
    fn whole(envelope: &Self::Envelope, answer: &Answer) -> Result<Bytes, Error>;

    /// Appends the body that tells of `error` before anything else was sent.
    fn error_into(out: &mut BytesMut, error: &Error);
}

/// A request that was read.
#[derive(Debug)]
pub(crate) struct Asked<E> {
    pub(crate) chat: ChatRequest,
    /// Whether the client wants a stream of events.
    pub(crate) stream: bool,
    pub(crate) envelope: E,
    /// How the answer ends that needs no upstream: it is empty.
    pub(crate) at_once: Option<FinishReason>,
    /// The names of fields that the edge itself does not read.
    pub(crate) left_out: Vec<Text>,
}

/// The event writer of a protocol: events of an answer in, bytes out. It does no I/O and reads no
/// clock, and what it wrote never depends on how the events were grouped.
pub(crate) trait Writer {
    /// Appends what one event makes, if it makes anything.
    fn event(&mut self, out: &mut BytesMut, event: ChatEvent);

    /// Appends what ends the stream: or, where the answer is not complete, the error that says so.
    fn end(&mut self, out: &mut BytesMut);

    /// Appends the error and ends the stream.
    fn error(&mut self, out: &mut BytesMut, error: &Error);

    /// Appends the sign of life for a client that has heard nothing for a while.
    fn keep_alive(&mut self, out: &mut BytesMut);

    /// The times of the answer, where the protocol tells them: the end is taken before
    /// [`end`](Self::end).
    fn times(&mut self) -> Option<&mut Times> {
        None
    }

    /// Whether the stream is complete.
    fn is_done(&self) -> bool;
}

//! What an answer's bytes come out of.

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep},
};

use super::{compatible, generation::Generation, script::Script};

/// The body of every answer of the [`Emulator`](super::Emulator).
///
/// An event stream comes out one event a frame, or in pieces of the size that the builder or the
/// request asked for; waits between events are tokio's. The error is what a client of a real
/// server would see when the connection is lost ([`io::ErrorKind::ConnectionReset`]), and only
/// the `reset` directive produces it.
///
/// Dropping a body before its end leaves the chat "in progress" until it is stopped, as a real
/// server goes on generating for a client that went away.
pub struct Body {
    inner: Inner,
}

enum Inner {
    Whole(Option<Bytes>),
    Events(Box<Events>),
}

/// One step of a stream.
#[derive(Debug)]
pub(super) enum Step {
    /// Bytes that are on the wire now.
    Send(Bytes),
    /// Nothing happens for this long.
    Wait(Duration),
    /// The model is done: the chat is free, what is still sent does not concern it.
    Finish,
    /// The connection is lost.
    Fail,
    /// The socket stays open and silent for good.
    Hold,
    /// The body ends.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Running,
    Holding,
    Breaking,
    Failing,
    Ended,
}

/// What a stream consists of.
#[derive(Debug)]
pub(super) enum Plan {
    /// A stream of the web API.
    Web(Script),
    /// One of an OpenAI-compatible server.
    Compatible(compatible::Script),
    /// What is left of a body that breaks off.
    Broken(VecDeque<Step>),
}

impl Plan {
    fn next_step(&mut self) -> Step {
        match self {
            Self::Web(script) => script.next_step(),
            Self::Compatible(script) => script.next_step(),
            Self::Broken(steps) => steps.pop_front().unwrap_or(Step::End),
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Self::Web(script) => script.is_complete(),
            Self::Compatible(script) => script.is_complete(),
            Self::Broken(_) => false,
        }
    }

    /// What a chat is to remember of the answer.
    fn answered(&self) -> &str {
        match self {
            Self::Web(script) => script.answered(),
            Self::Compatible(_) | Self::Broken(_) => "",
        }
    }
}

impl From<Script> for Plan {
    fn from(script: Script) -> Self {
        Self::Web(script)
    }
}

impl From<compatible::Script> for Plan {
    fn from(script: compatible::Script) -> Self {
        Self::Compatible(script)
    }
}

pub(super) struct Events {
    plan: Plan,
    /// Cut the stream into pieces of this many bytes, whatever they hold.
    piece: Option<usize>,
    /// What is on the wire and not yet handed over; only used when `piece` is set.
    wire: BytesMut,
    flow: Flow,
    sleep: Option<Pin<Box<Sleep>>>,
    sleeping: bool,
    generation: Option<Generation>,
    stop: Option<oneshot::Receiver<()>>,
}

impl Body {
    /// A body that is there at once.
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { inner: Inner::Whole(Some(bytes.into())) }
    }

    /// A body of which only `start` comes, and what happens then.
    pub(super) fn broken(start: Bytes, then: Step) -> Self {
        Self::events(Plan::Broken(VecDeque::from([Step::Send(start), then])), None, None, None)
    }

    /// The body that plays `plan`, until `stop` says that it was stopped.
    pub(super) fn events(
        plan: impl Into<Plan>,
        piece: Option<usize>,
        generation: Option<Generation>,
        stop: Option<oneshot::Receiver<()>>,
    ) -> Self {
        Self {
            inner: Inner::Events(Box::new(Events {
                plan: plan.into(),
                piece: piece.map(|n| n.max(1)),
                wire: BytesMut::new(),
                flow: Flow::Running,
                sleep: None,
                sleeping: false,
                generation,
                stop,
            })),
        }
    }
}

impl Events {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(stop) = &mut self.stop
                && let Poll::Ready(stopped) = Pin::new(stop).poll(cx)
            {
                // An error says that the chat is gone; the stream goes on without it.
                self.stop = None;
                if stopped.is_ok() {
                    self.settle();
                    self.sleeping = false;
                    self.flow = Flow::Ended;
                }
            }
            if let Some(piece) = self.piece {
                let full = self.wire.len() >= piece;
                let last = self.sleeping || self.flow != Flow::Running;
                if full || (last && !self.wire.is_empty()) {
                    let cut = piece.min(self.wire.len());
                    let frame = self.wire.split_to(cut).freeze();
                    return Poll::Ready(Some(Ok(Frame::data(frame))));
                }
            }
            if self.sleeping
                && let Some(sleep) = &mut self.sleep
            {
                ready!(sleep.as_mut().poll(cx));
                self.sleeping = false;
            }
            match self.flow {
                Flow::Running => {}
                Flow::Holding => return Poll::Pending,
                Flow::Breaking => {
                    // A server throws away what it has not written yet when a body fails, so it
                    // is given a chance to write the deltas first.
                    self.flow = Flow::Failing;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Flow::Failing => {
                    self.flow = Flow::Ended;
                    return Poll::Ready(Some(Err(io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        "the emulated connection was reset",
                    ))));
                }
                Flow::Ended => return Poll::Ready(None),
            }
            match self.plan.next_step() {
                Step::Send(bytes) => {
                    // Who leaves when the last event was written leaves no answer behind, even if
                    // a piece of it is still on the wire.
                    if self.plan.is_complete() {
                        self.settle();
                    }
                    if self.piece.is_some() {
                        self.wire.extend_from_slice(&bytes);
                    } else if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
                Step::Wait(duration) => self.rest(duration),
                Step::Finish => self.settle(),
                Step::Fail => {
                    self.settle();
                    self.flow = Flow::Breaking;
                }
                Step::Hold => self.flow = Flow::Holding,
                Step::End => {
                    self.settle();
                    self.flow = Flow::Ended;
                }
            }
        }
    }

    fn rest(&mut self, duration: Duration) {
        if duration.is_zero() {
            return;
        }
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(Instant::now() + duration),
            None => self.sleep = Some(Box::pin(tokio::time::sleep(duration))),
        }
        self.sleeping = true;
    }

    /// The server is through with this answer: the chat takes the next request.
    fn settle(&mut self) {
        self.stop = None;
        if let Some(generation) = self.generation.take() {
            generation.finish(self.plan.answered());
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(generation) = self.generation.take() {
            generation.abandon(self.plan.answered());
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.get_mut().inner {
            Inner::Whole(bytes) => Poll::Ready(
                bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))),
            ),
            Inner::Events(events) => events.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Inner::Events(events) => events.flow == Flow::Ended && events.wire.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Inner::Events(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.inner {
            Inner::Whole(_) => "whole",
            Inner::Events(_) => "events",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

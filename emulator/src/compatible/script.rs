//! The event stream of one answer, event by event.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    said::{Delta, Said},
    wire::{Ended, Spent, Wire},
};
use crate::{
    body::Step,
    script::{PACED_DELTAS, block_length},
};

/// How often llama.cpp says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How a stream ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// As it should: the finish reason, the usage, and the marker where it is `done`. The socket
    /// may stay open behind that.
    Whole { done: bool, hold: bool },
    /// These events, then the end of the body.
    Events(Vec<Bytes>),
    /// The body ends, as if the socket had been closed.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing more ever comes.
    Stall,
}

/// The plan of a stream.
#[derive(Debug)]
pub(crate) struct Script {
    source: Source,
    wire: Wire,
    /// What is still to be said before anything else.
    queue: VecDeque<Step>,
    /// The wait before each delta, and for how many of them.
    pace: Duration,
    paced: usize,
    /// How many deltas may be sent before the ending; `None` is all of them.
    allowed: Option<usize>,
    sent: usize,
    spent: Spent,
    ending: Option<Ending>,
    keep_alive: bool,
    holding: bool,
}

#[derive(Debug)]
enum Source {
    Said(Box<Said>),
    /// A recorded stream, read event by event.
    Recording(Bytes),
}

impl Script {
    /// The stream of an answer.
    pub(super) fn answer(mut wire: Wire, said: Said, ending: Ending) -> Self {
        wire.late_names = said.late_names;
        let open = wire.open().map(Step::Send);
        Self::new(Source::Said(Box::new(said)), wire, open.into_iter().collect(), ending)
    }

    /// A recorded stream.
    pub(super) fn recording(wire: Wire, recording: Bytes, ending: Ending) -> Self {
        Self::new(Source::Recording(recording), wire, VecDeque::new(), ending)
    }

    fn new(source: Source, wire: Wire, queue: VecDeque<Step>, ending: Ending) -> Self {
        Self {
            source,
            wire,
            queue,
            pace: Duration::ZERO,
            paced: 0,
            allowed: None,
            sent: 0,
            spent: Spent::default(),
            ending: Some(ending),
            keep_alive: false,
            holding: false,
        }
    }

    /// Waits `pace` before each of the first deltas.
    pub(super) fn paced(mut self, pace: Duration) -> Self {
        (self.pace, self.paced) = (pace, PACED_DELTAS);
        self
    }

    /// Waits `pace` before every delta.
    pub(super) fn slowed(mut self, pace: Duration) -> Self {
        (self.pace, self.paced) = (pace, usize::MAX);
        self
    }

    /// Goes to the ending after this many deltas, if there are as many.
    pub(super) fn after(mut self, deltas: usize) -> Self {
        self.allowed = Some(deltas);
        self
    }

    /// Says now and then that the server is still there, if it is one that does.
    pub(super) fn keep_alive(mut self) -> Self {
        let comment = self.wire.keep_alive();
        self.keep_alive = comment.is_some();
        self.queue.extend(comment.map(Step::Send));
        self
    }

    /// Whether the last event was given, so that a client may go without leaving anything.
    pub(crate) fn is_complete(&self) -> bool {
        match (self.queue.front(), &self.source, &self.ending) {
            (Some(step), ..) => matches!(step, Step::Finish),
            (None, Source::Recording(rest), Some(Ending::Whole { .. })) => rest.is_empty(),
            (None, ..) => false,
        }
    }

    pub(crate) fn next_step(&mut self) -> Step {
        if let Some(step) = self.queue.pop_front() {
            return step;
        }
        if self.holding {
            let Some(comment) = self.wire.keep_alive().filter(|_| self.keep_alive) else {
                return Step::Hold;
            };
            self.queue.push_back(Step::Send(comment));
            return Step::Wait(KEEP_ALIVE);
        }
        let going = self.ending.is_some() && self.allowed.is_none_or(|allowed| self.sent < allowed);
        if going && let Some(event) = self.next_event() {
            self.sent += 1;
            if self.paced > 0 {
                self.paced -= 1;
                self.queue.push_back(Step::Send(event));
                return Step::Wait(self.pace);
            }
            return Step::Send(event);
        }
        match self.ending.take() {
            Some(ending) => self.end(ending),
            None => Step::End,
        }
    }

    fn next_event(&mut self) -> Option<Bytes> {
        match &mut self.source {
            Source::Said(said) => {
                if self.wire.limit.is_some_and(|limit| self.sent >= limit) {
                    return None;
                }
                let delta = said.advance(self.wire.sends_whole_calls())?;
                match delta {
                    Delta::Reasoning(..) => self.spent.reasoning += 1,
                    _ => self.spent.text += 1,
                }
                Some(self.wire.delta(&delta, self.spent))
            }
            Source::Recording(rest) => {
                (!rest.is_empty()).then(|| rest.split_to(block_length(rest)))
            }
        }
    }

    fn end(&mut self, ending: Ending) -> Step {
        match ending {
            Ending::Whole { done, hold } => {
                if let Source::Said(said) = &mut self.source {
                    let cut = said.advance(true).is_some();
                    let events = self.wire.close(ended(said, cut), self.spent);
                    self.queue.extend(events.into_iter().map(Step::Send));
                    if done {
                        self.queue.push_back(Step::Send(self.wire.event(b"[DONE]")));
                    }
                }
                self.queue.push_back(Step::Finish);
                self.holding = hold;
            }
            Ending::Events(events) => {
                self.queue.extend(events.into_iter().map(Step::Send));
                self.queue.push_back(Step::End);
            }
            Ending::Close => return Step::End,
            Ending::Reset => return Step::Fail,
            Ending::Stall => self.holding = true,
        }
        self.next_step()
    }
}

/// Why the answer ended; `cut` where there was more of it.
pub(super) fn ended(said: &Said, cut: bool) -> Ended<'_> {
    if cut {
        Ended::Length
    } else if said.calls_any() {
        Ended::Called
    } else {
        Ended::Stopped(said.stopped.as_deref())
    }
}

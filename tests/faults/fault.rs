//! The faults, and the one table of how each ends.

use std::time::Duration;

use bytes::Bytes;
use tower_qwen::{
    ErrorKind::{self, Timeout, Truncated, Upstream},
    chat::FinishReason::{self, Stop},
};

use crate::{
    stack::{Part, Stack},
    upstream::{Script, Then},
    wire::{MOST_WITHOUT_EVENT, Wire},
};

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// It is an error in front of the commit point.
    Refused(ErrorKind),
    /// It is an error behind it.
    Broken(ErrorKind),
    /// It is complete.
    Finished(FinishReason),
    /// It is waited for until the client leaves.
    Waits,
}

use End::{Broken, Finished, Refused, Waits};

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The connection cannot be made.
    Unreachable,
    /// The head takes 50 seconds.
    LateHead,
    /// There never is a head.
    NoHead,
    /// The first event takes 50 seconds.
    LateEvent,
    /// There never is an event.
    NoEvent,
    /// Silence behind the first piece of text.
    Silence,
    /// Silence behind all that is said.
    SilenceBehindFinish,
    /// Silence behind the finish where a `[DONE]` or counts could follow.
    SilenceBeforeDone,
    /// The body is empty.
    Empty,
    /// The body ends here.
    Cut(Place),
    /// The connection is reset here.
    Reset(Place),
    /// The body is no text at all.
    Garbage,
    /// Behind the first piece of text there are events that are no JSON.
    GarbageInside,
    /// A page in place of the answer.
    Page,
    /// 200, and JSON that tells an error.
    JsonError,
    /// An event that tells an error, as the first.
    ErrorEvent,
    /// The same behind the first piece of text.
    ErrorEventInside,
    /// A line that never ends, from the start.
    EndlessLine,
    /// The same behind the first piece of text.
    EndlessLineInside,
    /// A comment each second for ever, from the start.
    Comments,
    /// The same behind the first piece of text.
    CommentsInside,
    /// Comments without a pause, for ever.
    CommentFlood,
    /// The same behind the first piece of text.
    CommentFloodInside,
    /// Empty events for ever, a second apart.
    EmptyEvents,
    /// An event that is larger than all that may come without one.
    HugeEvent,
    /// An event of half of that.
    LargeEvent,
    /// Each byte is a frame of its own, 30 ms behind the one before.
    Drip,
    /// The head says that the body is longer than it is.
    TooLongLength,
    /// The head says that the body is shorter than it is.
    TooShortLength,
}

/// A place in a good answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// In the line that names the answer.
    InBegin,
    /// Behind the event that names the answer.
    BehindBegin,
    /// In the first piece of text.
    InFirstText,
    /// Behind the first piece of text.
    BehindFirstText,
    /// In the second.
    InSecondText,
    /// Behind all text.
    BehindText,
    /// In the line that says that it has finished.
    InFinish,
    /// Behind all of it.
    BehindFinish,
}

use Place::*;

/// All faults: what happens to a request over an adapter alone, on each wire.
pub(crate) const TABLE: &[(Fault, End)] = &[
    (Fault::None, Finished(Stop)),
    (Fault::Unreachable, Refused(Upstream)),
    (Fault::LateHead, Finished(Stop)),
    (Fault::NoHead, Waits),
    (Fault::LateEvent, Finished(Stop)),
    (Fault::NoEvent, Refused(Timeout)),
    (Fault::Silence, Broken(Timeout)),
    (Fault::SilenceBehindFinish, Finished(Stop)),
    (Fault::SilenceBeforeDone, Finished(Stop)),
    (Fault::Empty, Refused(Truncated)),
    (Fault::Cut(InBegin), Refused(Truncated)),
    (Fault::Cut(BehindBegin), Refused(Truncated)),
    (Fault::Cut(InFirstText), Refused(Truncated)),
    (Fault::Cut(BehindFirstText), Broken(Truncated)),
    (Fault::Cut(InSecondText), Broken(Truncated)),
    (Fault::Cut(BehindText), Broken(Truncated)),
    (Fault::Cut(InFinish), Broken(Truncated)),
    (Fault::Cut(BehindFinish), Finished(Stop)),
    (Fault::Reset(InBegin), Refused(Upstream)),
    (Fault::Reset(BehindBegin), Refused(Upstream)),
    (Fault::Reset(InFirstText), Refused(Upstream)),
    (Fault::Reset(BehindFirstText), Broken(Upstream)),
    (Fault::Reset(InSecondText), Broken(Upstream)),
    (Fault::Reset(BehindText), Broken(Upstream)),
    (Fault::Reset(InFinish), Broken(Upstream)),
    (Fault::Reset(BehindFinish), Finished(Stop)),
    (Fault::Garbage, Refused(Truncated)),
    (Fault::GarbageInside, Broken(Upstream)),
    (Fault::Page, Refused(Upstream)),
    (Fault::JsonError, Refused(Upstream)),
    (Fault::ErrorEvent, Refused(Upstream)),
    (Fault::ErrorEventInside, Broken(Upstream)),
    (Fault::EndlessLine, Refused(Upstream)),
    (Fault::EndlessLineInside, Broken(Upstream)),
    (Fault::Comments, Refused(Timeout)),
    (Fault::CommentsInside, Broken(Timeout)),
    (Fault::CommentFlood, Refused(Upstream)),
    (Fault::CommentFloodInside, Broken(Upstream)),
    (Fault::EmptyEvents, Refused(Timeout)),
    (Fault::HugeEvent, Refused(Upstream)),
    (Fault::LargeEvent, Finished(Stop)),
    (Fault::Drip, Finished(Stop)),
    (Fault::TooLongLength, Finished(Stop)),
    (Fault::TooShortLength, Finished(Stop)),
];

impl End {
    /// How it ends under the layers of `stack`, each of which is documented to change what is said here.
    pub(crate) fn under(self, stack: &Stack) -> Self {
        stack.0.iter().rev().fold(self, |end, part| match (part, end) {
            // There is a limit on the first event.
            (Part::Timeout, Waits) => Refused(Timeout),
            // The answer is read to its end before any of it is given.
            (Part::Format, Broken(kind)) => Refused(kind),
            // Another upstream answers.
            (Part::Fallback, Refused(_)) => Finished(Stop),
            _ => end,
        })
    }

    /// Whether somebody has seen some of the answer.
    pub(crate) fn is_committed(self) -> bool {
        matches!(self, Broken(_) | Finished(_))
    }
}

const SECOND: Duration = Duration::from_secs(1);

impl Place {
    /// The place in an answer of these events, in bytes.
    fn bytes(self, events: &[String]) -> usize {
        let behind = |count: usize| events[..count].iter().map(String::len).sum::<usize>();
        let within = |index: usize| behind(index) + events[index].len() / 2;
        match self {
            InBegin => within(0),
            BehindBegin => behind(1),
            InFirstText => within(1),
            BehindFirstText => behind(2),
            InSecondText => within(2),
            BehindText => behind(events.len() - 1),
            InFinish => behind(events.len() - 1) + 24,
            BehindFinish => behind(events.len()),
        }
    }
}

impl Fault {
    /// How often the upstream is asked: a retry sends again only what was answered with an error, and what
    /// broke off is gone on with once.
    pub(crate) fn tries(self, stack: &Stack, wire: Wire) -> usize {
        let is_told = matches!(self, Self::JsonError | Self::ErrorEvent);
        match () {
            () if stack.has(Part::Retry) && is_told => 3,
            () if self.is_resumed(stack, wire) => 2,
            () => 1,
        }
    }

    /// Whether an upstream is asked to go on with what broke off: where it keeps chats, and where the text
    /// so far can be no half of a call.
    pub(crate) fn is_resumed(self, stack: &Stack, wire: Wire) -> bool {
        let has_calls = stack.has(Part::ToolCall) || stack.has(Part::ToolWrap);
        stack.has(Part::Resume)
            && wire != Wire::Compatible
            && match self {
                Self::GarbageInside | Self::EndlessLineInside | Self::CommentFloodInside => true,
                Self::Cut(place) | Self::Reset(place) => match place {
                    BehindFirstText | InSecondText => true,
                    BehindText | InFinish => !has_calls,
                    _ => false,
                },
                _ => false,
            }
    }

    /// The longest that the answer, or the error in its place, may take. What needs no wait takes no time
    /// on a clock that only waiting moves.
    pub(crate) fn at_most(self, stack: &Stack) -> Duration {
        let is_timed = stack.has(Part::Timeout);
        match self {
            Self::LateHead | Self::LateEvent => 50 * SECOND,
            // For ever, where nobody sets a limit: the client leaves.
            Self::NoHead if !is_timed => Duration::MAX,
            Self::NoHead => 60 * SECOND,
            Self::NoEvent | Self::Comments | Self::EmptyEvents if is_timed => 60 * SECOND,
            // What is noticed late is so by a 64th of the limit.
            Self::Silence | Self::CommentsInside if is_timed => 120 * SECOND * 65 / 64,
            Self::NoEvent
            | Self::Silence
            | Self::Comments
            | Self::CommentsInside
            | Self::EmptyEvents => 600 * SECOND * 65 / 64,
            Self::SilenceBeforeDone => 2 * SECOND,
            Self::Drip => 30 * SECOND,
            // A retry pauses for one second and for two, and at random for a half more.
            Self::JsonError | Self::ErrorEvent if stack.has(Part::Retry) => 9 * SECOND / 2,
            _ => Duration::ZERO,
        }
    }

    /// Whether a client may leave before all is over.
    pub(crate) fn is_slow(self) -> bool {
        self.at_most(&Stack(Vec::new())) > Duration::ZERO || self == Self::SilenceBehindFinish
    }

    /// Whether neither an event nor an error is there for longer than the keep-alive of an edge, with the
    /// limits of time.
    pub(crate) fn is_late(self) -> bool {
        matches!(
            self,
            Self::LateHead
                | Self::NoHead
                | Self::LateEvent
                | Self::NoEvent
                | Self::Comments
                | Self::EmptyEvents
        )
    }

    /// What an upstream does that has this fault; `None` where it has none.
    pub(crate) fn script(self, wire: Wire) -> Option<Script> {
        let good = wire.good(9_000);
        let events = wire.events(9_000);
        let begun = || Script::events(events[..2].iter().cloned().map(Bytes::from));
        let wait = 50 * SECOND;
        let comment = Bytes::from_static(b": still there\n\n");
        let flood = Bytes::from(": still there\n\n".repeat(64));
        let line = Bytes::from(vec![b'x'; 4096]);
        Some(match self {
            Self::None => return None,
            Self::Unreachable => Script { is_unreachable: true, ..good },
            Self::LateHead => Script { head: Some(wait), ..good },
            Self::NoHead => Script { head: None, ..good },
            Self::LateEvent => {
                let mut late = good;
                late.pieces[0].0 = wait;
                late
            }
            Self::NoEvent => Script::events([]).then(Then::Silence),
            Self::Silence => begun().then(Then::Silence),
            Self::SilenceBehindFinish => good.then(Then::Silence),
            Self::SilenceBeforeDone => {
                let all = events.concat();
                let said = all.strip_suffix("data: [DONE]\n\n").unwrap_or(&all);
                Script::events([Bytes::copy_from_slice(said.as_bytes())]).then(Then::Silence)
            }
            Self::Empty => Script::events([]),
            Self::Cut(place) => cut(&events, place.bytes(&events), Then::End),
            Self::Reset(place) => cut(&events, place.bytes(&events), Then::Reset),
            Self::Garbage => {
                let noise = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
                Script::events([Bytes::from_iter(noise)])
            }
            Self::GarbageInside => {
                let mut garbage = begun();
                let noise = Bytes::from_static(b"data: \xff\xfe{{\x00\n\ndata: [1,\n\n");
                garbage.pieces.push_back((Duration::ZERO, noise));
                garbage
            }
            Self::Page => Script {
                content_type: "text/html",
                ..Script::events([Bytes::from_static(b"<html><body>Welcome</body></html>")])
            },
            Self::JsonError => Script {
                content_type: "application/json",
                ..Script::events([Bytes::from_static(wire.error().as_bytes())])
            },
            Self::ErrorEvent => Script::events([Bytes::from(wire.error_event())]),
            Self::ErrorEventInside => {
                let mut failing = begun();
                failing.pieces.push_back((Duration::ZERO, Bytes::from(wire.error_event())));
                failing
            }
            Self::EndlessLine => Script::events([Bytes::from_static(b"data: ")])
                .then(Then::Repeat(Duration::ZERO, line)),
            Self::EndlessLineInside => begun().then(Then::Repeat(Duration::ZERO, line)),
            Self::Comments => Script::events([]).then(Then::Repeat(SECOND, comment)),
            Self::CommentsInside => begun().then(Then::Repeat(SECOND, comment)),
            Self::CommentFlood => Script::events([]).then(Then::Repeat(Duration::ZERO, flood)),
            Self::CommentFloodInside => begun().then(Then::Repeat(Duration::ZERO, flood)),
            Self::EmptyEvents => {
                let empty = Bytes::from(wire.text(""));
                Script::events([]).then(Then::Repeat(SECOND, empty))
            }
            Self::HugeEvent => large(wire, 2 * MOST_WITHOUT_EVENT),
            Self::LargeEvent => large(wire, MOST_WITHOUT_EVENT / 2),
            Self::Drip => {
                let all = Bytes::from(events.concat());
                let mut drip = Script::events([]);
                let byte = |at| (30 * SECOND / 1000, all.slice(at..at + 1));
                drip.pieces = (0..all.len()).map(byte).collect();
                drip
            }
            Self::TooLongLength => Script { length: Some(1 << 20), ..good },
            Self::TooShortLength => Script { length: Some(7), ..good },
        })
    }
}

/// How an answer over an adapter alone ends whose body ends, or is reset, behind `bytes` bytes.
///
/// Where a body ends without an error its last event counts if its JSON is whole: some servers forget
/// the last newlines. Behind a reset only what was closed counts: by a line on the wire of chat.qwen.ai,
/// by a blank one on others.
pub(crate) fn end_of_cut(wire: Wire, bytes: usize, is_reset: bool) -> End {
    let events = wire.events(9_000);
    let finish = events.concat().find("data: [DONE]").unwrap_or(events.concat().len());
    let open = match (is_reset, wire) {
        (false, _) => 2,
        (true, Wire::Web) => 1,
        (true, _) => 0,
    };
    let kind = if is_reset { Upstream } else { Truncated };
    if bytes + open < BehindFirstText.bytes(&events) {
        Refused(kind)
    } else if bytes + open < finish {
        Broken(kind)
    } else {
        Finished(Stop)
    }
}

/// The first bytes of an answer of these events, in pieces of 64.
pub(crate) fn cut(events: &[String], bytes: usize, then: Then) -> Script {
    let all = Bytes::from(events.concat()).slice(..bytes);
    let pieces: Vec<Bytes> = all.chunks(64).map(Bytes::copy_from_slice).collect();
    Script::events(pieces).then(then)
}

/// An answer whose first text has so many bytes, in pieces of 4 KiB.
fn large(wire: Wire, bytes: usize) -> Script {
    let mut events = wire.events(9_000);
    events.insert(1, wire.text(&"a long text ".repeat(bytes / 12)));
    let all = events.concat();
    Script::events(all.as_bytes().chunks(4096).map(Bytes::copy_from_slice))
}

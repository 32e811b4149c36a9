//! Calls as JSON objects inside `<tool_call>`. The call ends where its object ends, not at the next
//! `</tool_call>`, which may stand in a string.

use std::mem;

use memchr::memchr;

use super::{
    object::{Arguments, Fed},
    relay::Relay,
    sink::{Close, Dialect, Names, Sink},
    tag::{Look, literal},
    unquote::Unquote,
    window::{Window, floor},
};
use crate::Text;

/// The objects of one wrapper, read key by key.
#[derive(Debug)]
pub(super) struct Hermes {
    phase: Phase,
    array: bool,
    pub(super) wrappers: u8,
    /// The key or the name at hand.
    text: String,
    name: Option<String>,
    arguments: Arguments,
    /// Where the call at hand stands.
    call: Call,
    /// Arguments that came before the name.
    early: String,
    unquote: Unquote,
    skip: Relay,
    skipped: String,
    /// Everything since the opener, in case it is no call.
    raw: Vec<Text>,
    raw_len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Before an object's `{`, between objects, or at their end.
    Outside,
    /// Before a key or the end of the object.
    Key,
    KeyText,
    Colon,
    /// Before a value that is neither name nor arguments, or in it.
    Other,
    /// Before the name's quote.
    Name,
    NameText,
    Arguments,
    After,
    /// After something that cannot be: up to the closing wrapper.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    /// Not announced.
    Unknown,
    Open,
    /// Its arguments are complete; the rest of its object is of no interest.
    Closed,
}

/// What follows what was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Then {
    /// More of the wrapper's content.
    GoesOn,
    /// Another object.
    Another,
    /// What takes more text.
    More,
    /// The wrapper's content is over.
    Leave,
    /// It was no call, and is text.
    Reject,
}

impl Hermes {
    pub(super) fn new(array: bool, wrappers: u8) -> Self {
        Self {
            phase: Phase::Outside,
            array,
            wrappers,
            text: String::new(),
            name: None,
            arguments: Arguments::new(),
            call: Call::Unknown,
            early: String::new(),
            unquote: Unquote::new(b'"'),
            skip: Relay::new(),
            skipped: String::new(),
            raw: Vec::new(),
            raw_len: 0,
        }
    }

    /// Keeps text that belongs to the call if it becomes one.
    pub(super) fn keep(&mut self, text: Text) {
        self.raw_len += text.len();
        self.raw.push(text);
    }

    /// What was kept, as text after all.
    pub(super) fn take_raw(&mut self) -> Vec<Text> {
        self.raw_len = 0;
        mem::take(&mut self.raw)
    }

    /// How much is kept.
    #[cfg(feature = "tool-wrap")]
    pub(super) const fn kept(&self) -> usize {
        self.raw_len
    }

    /// Reads the text from `at` on: how much of it, and what follows that.
    pub(super) fn step<S: Sink>(
        &mut self,
        window: Window<'_>,
        at: usize,
        end: bool,
        sink: &mut S,
    ) -> (usize, Then) {
        let mut text = &window.text()[at..];
        // The limit is met at the same byte however the text was cut.
        let left = S::RULES.hold.saturating_sub(self.raw_len);
        let full = self.call == Call::Unknown && text.len() >= left;
        if full {
            text = &text[..floor(text, left)];
        }
        let (read, mut then) = self.read(text, end, sink);
        if self.call == Call::Unknown && then != Then::Another {
            window.each(at..at + read, |text| self.keep(text));
            if full && read == text.len() {
                then = Then::Reject;
            }
        }
        (read, then)
    }

    /// Whether a call was announced, so that what was read is no text.
    pub(super) fn is_announced(&self) -> bool {
        self.call != Call::Unknown
    }

    /// Closes the call where the text ends.
    pub(super) fn finish<S: Sink>(&mut self, sink: &mut S) {
        if self.call == Call::Open {
            if !sink.leaves_open() {
                sink.json(|out| self.arguments.finish(out));
            }
            sink.close(Close::Cut);
            self.call = Call::Closed;
        }
    }

    fn read<S: Sink>(&mut self, text: &str, end: bool, sink: &mut S) -> (usize, Then) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if byte.is_ascii_whitespace()
                && matches!(
                    self.phase,
                    Phase::Outside | Phase::Key | Phase::Colon | Phase::Name | Phase::After
                )
            {
                at += 1;
                continue;
            }
            match self.phase {
                Phase::Outside => {
                    match byte {
                        // An object after another one begins a text of its own.
                        b'{' if self.call == Call::Closed && S::RULES.one_call => {
                            return (at, Then::Leave);
                        }
                        b'{' if self.call == Call::Closed => {
                            *self = Self::new(self.array, self.wrappers);
                            return (at, Then::Another);
                        }
                        b'{' => self.phase = Phase::Key,
                        _ if self.call != Call::Closed => return (at, Then::Reject),
                        b',' if self.array => {}
                        b']' if self.array => self.array = false,
                        // One brace too many.
                        b'}' => {}
                        _ => return (at, Then::Leave),
                    }
                    at += 1;
                }
                Phase::Key | Phase::Name if matches!(byte, b'"' | b'\'') => {
                    self.text.clear();
                    self.unquote = Unquote::new(byte);
                    self.phase = match self.phase {
                        Phase::Key => Phase::KeyText,
                        _ => Phase::NameText,
                    };
                    at += 1;
                }
                Phase::Key | Phase::After if byte == b'}' => {
                    at += 1;
                    if !self.end_object(sink) {
                        return (at, Then::Reject);
                    }
                }
                Phase::After if byte == b',' => {
                    self.phase = Phase::Key;
                    at += 1;
                }
                Phase::Colon if byte == b':' => {
                    at += 1;
                    self.phase = match self.text.as_str() {
                        "name" if self.name.is_none() => Phase::Name,
                        "arguments" | "parameters"
                            if self.call == Call::Unknown && self.early.is_empty() =>
                        {
                            self.arguments = Arguments::new();
                            Phase::Arguments
                        }
                        _ => {
                            self.skip = Relay::new();
                            Phase::Other
                        }
                    };
                }
                Phase::Key | Phase::Colon | Phase::Name | Phase::After => return self.broken(at),
                Phase::KeyText | Phase::NameText => {
                    let Some(read) = self.unquote.feed(&text[at..], &mut self.text) else { break };
                    at += read;
                    if self.phase == Phase::KeyText {
                        self.phase = Phase::Colon;
                        continue;
                    }
                    let declared = || sink.names().tool(&self.text).is_some();
                    if self.text.is_empty() || !S::RULES.any_name && !declared() {
                        return self.broken(at);
                    }
                    self.name = Some(mem::take(&mut self.text));
                    self.phase = Phase::After;
                    if !self.early.is_empty() {
                        self.announce(sink);
                        self.close(sink);
                    }
                }
                Phase::Arguments => {
                    let fed = match self.call {
                        Call::Unknown => self.arguments.feed(&text[at..], &mut self.early),
                        _ => sink.json(|out| self.arguments.feed(&text[at..], out)),
                    };
                    if self.call == Call::Unknown && self.arguments.started() {
                        self.announce(sink);
                    }
                    match fed {
                        Fed::More => break,
                        Fed::Done(read) => {
                            at += read;
                            self.phase = Phase::After;
                            if !self.arguments.started() {
                                // Null, or a string of nothing.
                                self.early.push_str("{}");
                                self.announce(sink);
                            }
                            if self.call == Call::Open {
                                self.close(sink);
                            }
                        }
                        Fed::Broken(read) => return self.broken_arguments(at + read, sink),
                    }
                }
                Phase::Other => {
                    self.skipped.clear();
                    match self.skip.feed(&text[at..], &mut self.skipped) {
                        Fed::More => break,
                        Fed::Done(read) => {
                            at += read;
                            self.phase = Phase::After;
                        }
                        Fed::Broken(read) => return self.broken(at + read),
                    }
                }
                Phase::Lost => {
                    let Some(skipped) = memchr(b'<', &bytes[at..]) else { break };
                    at += skipped;
                    match literal(&text[at..], &["</tool_call>"]) {
                        Look::Yes(_) => return (at, Then::Leave),
                        Look::No => at += 1,
                        Look::More if end => break,
                        Look::More => return (at, Then::More),
                    }
                }
            }
        }
        (text.len(), Then::GoesOn)
    }

    /// After something in the object that cannot be.
    fn broken(&self, at: usize) -> (usize, Then) {
        match self.call {
            Call::Unknown => (at, Then::Reject),
            // The call is complete, so whatever this is belongs to what follows it.
            Call::Open | Call::Closed => (at, Then::Leave),
        }
    }

    fn broken_arguments<S: Sink>(&mut self, at: usize, sink: &mut S) -> (usize, Then) {
        if self.call == Call::Unknown {
            return (at, Then::Reject);
        }
        tracing::debug!("the JSON of a tool call's arguments is malformed and was closed early");
        self.close(sink);
        self.phase = Phase::Lost;
        (at, Then::GoesOn)
    }

    /// Begins the call, once its name is there.
    fn announce<S: Sink>(&mut self, sink: &mut S) {
        if let Some(name) = &self.name {
            sink.call(name, Dialect::Hermes);
            sink.json(|out| out.push_str(&self.early));
            self.early.clear();
            self.call = Call::Open;
            self.raw.clear();
            self.raw_len = 0;
        }
    }

    fn close<S: Sink>(&mut self, sink: &mut S) {
        sink.json(|out| self.arguments.finish(out));
        sink.close(Close::Own);
        self.call = Call::Closed;
    }

    /// The object's `}`; false if it was no call.
    fn end_object<S: Sink>(&mut self, sink: &mut S) -> bool {
        self.phase = Phase::Outside;
        if self.call == Call::Unknown {
            if self.name.is_none() {
                return false;
            }
            self.early = "{}".to_owned();
            self.announce(sink);
            self.close(sink);
        }
        true
    }
}

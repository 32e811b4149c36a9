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
    key: String,
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

/// What a step came to.
pub(super) enum Step {
    More,
    At(usize),
    /// The wrapper's content is over.
    Leave(usize),
    /// Up to this place it was no call, and is text.
    Reject(usize),
}

/// How far the text was read.
enum Read {
    All,
    /// What follows the first bytes is still to be looked at.
    Rest(usize),
    /// Another object begins.
    Another(usize),
    Leave(usize),
    Reject(usize),
}

impl Hermes {
    pub(super) fn new(array: bool, wrappers: u8) -> Self {
        Self {
            phase: Phase::Outside,
            array,
            wrappers,
            key: String::new(),
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

    pub(super) fn step<S: Sink>(
        &mut self,
        window: Window<'_>,
        at: usize,
        end: bool,
        sink: &mut S,
    ) -> Step {
        let mut text = &window.text()[at..];
        // The limit is met at the same byte however the text was cut.
        let left = S::RULES.hold.saturating_sub(self.raw_len);
        let full = self.call == Call::Unknown && text.len() >= left;
        if full {
            text = &text[..floor(text, left)];
        }
        let read = match self.read(text, end, sink) {
            Read::All if full && self.call == Call::Unknown => {
                window.each(at..at + text.len(), |text| self.keep(text));
                return Step::Reject(at + text.len());
            }
            Read::All => text.len(),
            Read::Rest(0) => return Step::More,
            Read::Rest(read) => read,
            Read::Another(read) => return Step::At(at + read),
            Read::Leave(read) => return Step::Leave(at + read),
            Read::Reject(read) => {
                window.each(at..at + read, |text| self.keep(text));
                return Step::Reject(at + read);
            }
        };
        if self.call == Call::Unknown {
            window.each(at..at + read, |text| self.keep(text));
        }
        Step::At(at + read)
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

    fn read<S: Sink>(&mut self, text: &str, end: bool, sink: &mut S) -> Read {
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
                Phase::Outside => match byte {
                    // An object after another one begins a text of its own.
                    b'{' if self.call == Call::Closed => {
                        if S::RULES.one_call {
                            return Read::Leave(at);
                        }
                        let (array, wrappers) = (self.array, self.wrappers);
                        *self = Self { phase: Phase::Outside, ..Self::new(array, wrappers) };
                        return Read::Another(at);
                    }
                    b'{' => {
                        self.phase = Phase::Key;
                        at += 1;
                    }
                    b',' if self.array && self.call == Call::Closed => at += 1,
                    b']' if self.array && self.call == Call::Closed => {
                        self.array = false;
                        at += 1;
                    }
                    // One brace too many.
                    b'}' if self.call == Call::Closed => at += 1,
                    _ if self.call == Call::Closed => return Read::Leave(at),
                    _ => return Read::Reject(at),
                },
                Phase::Key => match byte {
                    b'"' | b'\'' => {
                        self.key.clear();
                        self.unquote = Unquote::new(byte);
                        self.phase = Phase::KeyText;
                        at += 1;
                    }
                    b'}' => {
                        at += 1;
                        if !self.end_object(sink) {
                            return Read::Reject(at);
                        }
                    }
                    _ => return self.broken(at),
                },
                Phase::KeyText => match self.unquote.feed(&text[at..], &mut self.key) {
                    Some(read) => {
                        at += read;
                        self.phase = Phase::Colon;
                    }
                    None => at = bytes.len(),
                },
                Phase::Colon => {
                    if byte != b':' {
                        return self.broken(at);
                    }
                    at += 1;
                    self.phase = match self.key.as_str() {
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
                Phase::Name => {
                    if !matches!(byte, b'"' | b'\'') {
                        return self.broken(at);
                    }
                    self.unquote = Unquote::new(byte);
                    self.key.clear();
                    self.phase = Phase::NameText;
                    at += 1;
                }
                Phase::NameText => match self.unquote.feed(&text[at..], &mut self.key) {
                    Some(read) => {
                        at += read;
                        let declared = || sink.names().tool(&self.key).is_some();
                        if self.key.is_empty() || !S::RULES.any_name && !declared() {
                            return self.broken(at);
                        }
                        self.name = Some(mem::take(&mut self.key));
                        self.phase = Phase::After;
                        if !self.early.is_empty() {
                            self.announce(sink);
                            self.close(sink);
                        }
                    }
                    None => at = bytes.len(),
                },
                Phase::Arguments => {
                    let fed = match self.call {
                        Call::Unknown => self.arguments.feed(&text[at..], &mut self.early),
                        _ => sink.json(|out| self.arguments.feed(&text[at..], out)),
                    };
                    if self.call == Call::Unknown && self.arguments.started() && self.name.is_some()
                    {
                        self.announce(sink);
                    }
                    match fed {
                        Fed::More => at = bytes.len(),
                        Fed::Done(read) => {
                            at += read;
                            self.phase = Phase::After;
                            if !self.arguments.started() {
                                // Null, or a string of nothing.
                                self.early.push_str("{}");
                                if self.name.is_some() {
                                    self.announce(sink);
                                }
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
                        Fed::More => at = bytes.len(),
                        Fed::Done(read) => {
                            at += read;
                            self.phase = Phase::After;
                        }
                        Fed::Broken(read) => return self.broken(at + read),
                    }
                }
                Phase::After => match byte {
                    b',' => {
                        self.phase = Phase::Key;
                        at += 1;
                    }
                    b'}' => {
                        at += 1;
                        if !self.end_object(sink) {
                            return Read::Reject(at);
                        }
                    }
                    _ => return self.broken(at),
                },
                Phase::Lost => match memchr(b'<', &bytes[at..]) {
                    None => at = bytes.len(),
                    Some(skipped) => {
                        at += skipped;
                        match literal(&text[at..], &["</tool_call>"]) {
                            Look::Yes(_) => return Read::Leave(at),
                            Look::No => at += 1,
                            Look::More if end => at = bytes.len(),
                            Look::More => return Read::Rest(at),
                        }
                    }
                },
            }
        }
        Read::All
    }

    /// After something in the object that cannot be.
    fn broken(&mut self, at: usize) -> Read {
        match self.call {
            Call::Unknown => Read::Reject(at),
            // The call is complete, so whatever this is belongs to what follows it.
            Call::Open | Call::Closed => Read::Leave(at),
        }
    }

    fn broken_arguments<S: Sink>(&mut self, at: usize, sink: &mut S) -> Read {
        if self.call == Call::Unknown {
            return Read::Reject(at);
        }
        tracing::debug!("the JSON of a tool call's arguments is malformed and was closed early");
        self.close(sink);
        self.phase = Phase::Lost;
        Read::Rest(at)
    }

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
            self.early.clear();
            self.announce(sink);
            sink.json(|out| out.push_str("{}"));
            sink.close(Close::Own);
            self.call = Call::Closed;
        }
        true
    }
}

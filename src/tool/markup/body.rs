//! A call in tags, from its first parameter to its end: the same automaton for both dialects.

use std::collections::HashSet;

use memchr::memchr;

use super::{
    sink::{Dialect, Names, Sink},
    tag::Look,
    window::Window,
};

/// A call in tags that has been announced.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) dialect: Dialect,
    pub(super) name: String,
    pub(super) wrappers: u8,
    open: Option<Open>,
    /// Whether the text ended inside of a tag that is no closer.
    cut_in_tag: bool,
    /// The declared keys that the call has had, the open one included. Others never matter, and
    /// a model may write any number of them.
    pub(super) used: HashSet<String>,
}

/// A parameter whose value is being read.
#[derive(Clone, Debug)]
struct Open {
    key: String,
    /// Whether the newline after the opener, which is layout, may still come.
    lead: bool,
    /// Whether none of the value has been seen.
    empty: bool,
}

/// What follows in a call where no value is open.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// A parameter's opener, `length` bytes long; with the whole value, if it stands in it.
    Parameter { key: String, length: usize, value: Option<String> },
    /// The call's closer, or (`wrapper`) that of what is around it.
    Closer { length: usize, wrapper: bool },
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing is decided without more text.
    More,
    /// Everything before this place is done with.
    At(usize),
    /// The call is over, and the text goes on at this place.
    Leave { at: usize, closed_wrapper: bool },
}

impl Body {
    pub(super) fn new(dialect: Dialect, name: String, wrappers: u8) -> Self {
        Self { dialect, name, wrappers, open: None, cut_in_tag: false, used: HashSet::new() }
    }

    /// The parameter that is open.
    pub(super) fn open_key(&self) -> &str {
        self.open.as_ref().map_or("", |open| &open.key)
    }

    /// Looks at the text from `at` on, which is not empty.
    #[inline]
    pub(super) fn step<S: Sink>(
        &mut self,
        window: Window<'_>,
        at: usize,
        end: bool,
        sink: &mut S,
    ) -> Step {
        if self.open.is_some() {
            self.value(window, at, end, sink)
        } else {
            self.between(&window.text()[at..], at, end, sink)
        }
    }

    /// Whether nothing but closers is missing where the text ends.
    pub(super) fn is_whole(&self) -> bool {
        self.open.is_none() && !self.cut_in_tag
    }

    fn between<S: Sink>(&mut self, text: &str, at: usize, end: bool, sink: &mut S) -> Step {
        let gap = text.len() - text.trim_ascii_start().len();
        if gap > 0 {
            return Step::At(at + gap);
        }
        match self.next(text, S::RULES.repairs_keys, sink.names()) {
            Look::Yes(Next::Parameter { key, length, value }) => {
                sink.begin(&key);
                if sink.names().declares(&self.name, &key) && !self.used.contains(&key) {
                    self.used.insert(key.clone());
                }
                match value {
                    Some(value) => {
                        sink.whole(&value);
                        sink.end();
                    }
                    None => self.open = Some(Open { key, lead: true, empty: true }),
                }
                Step::At(at + length)
            }
            Look::Yes(Next::Closer { length, wrapper }) => {
                Step::Leave { at: at + length, closed_wrapper: wrapper }
            }
            Look::More if !end => Step::More,
            // Cut inside of markup, which is no text.
            Look::More => {
                self.cut_in_tag = !text.starts_with("</");
                Step::At(at + text.len())
            }
            // Another opener, or text: the call's own closer is missing.
            Look::No => Step::Leave { at, closed_wrapper: false },
        }
    }

    #[inline]
    fn value<S: Sink>(&mut self, window: Window<'_>, at: usize, end: bool, sink: &mut S) -> Step {
        let text = &window.text()[at..];
        let bytes = text.as_bytes();
        let Some(open) = &mut self.open else { return Step::At(at) };
        if open.lead {
            let newline = match bytes {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [b'\r'] if !end => return Step::More,
                _ => 0,
            };
            open.lead = false;
            if newline > 0 {
                return Step::At(at + newline);
            }
        }
        let empty = open.empty;
        let mut from = 0;
        while let Some(found) = memchr(b'<', &bytes[from..]) {
            let tag = from + found;
            let line_start = if tag > 0 { bytes[tag - 1] == b'\n' } else { empty };
            let ends = self.ends_value(&text[tag..], line_start, end, sink.names());
            let stop = without_newline(&bytes[..tag]);
            match ends {
                Look::Yes(length) => {
                    self.take(window, at, stop, sink);
                    self.open = None;
                    sink.end();
                    return Step::At(at + tag + length);
                }
                Look::More if !end => {
                    self.take(window, at, stop, sink);
                    return if stop == 0 { Step::More } else { Step::At(at + stop) };
                }
                Look::More if !S::RULES.keeps_cut_closers && self.is_cut_closer(&text[tag..]) => {
                    self.take(window, at, stop, sink);
                    return Step::At(at + bytes.len());
                }
                // What only might have become a closer is part of the value.
                Look::More | Look::No => from = tag + 1,
            }
        }
        // A newline at the end may be the layout before a closer; so may a carriage return.
        let stop = match bytes {
            [.., b'\r'] if !end => bytes.len() - 1,
            _ => without_newline(bytes),
        };
        self.take(window, at, stop, sink);
        match stop {
            _ if end => Step::At(at + bytes.len()),
            0 => Step::More,
            stop => Step::At(at + stop),
        }
    }

    /// Takes `length` bytes from `at` on into the value.
    fn take<S: Sink>(&mut self, window: Window<'_>, at: usize, length: usize, sink: &mut S) {
        if length > 0 {
            if let Some(open) = &mut self.open {
                open.empty = false;
            }
            sink.value(window, at..at + length);
        }
    }
}

/// The length without one newline at the end.
fn without_newline(bytes: &[u8]) -> usize {
    match bytes {
        [.., b'\r', b'\n'] => bytes.len() - 2,
        [.., b'\n'] => bytes.len() - 1,
        _ => bytes.len(),
    }
}

//! A call in tags, from its first parameter to its end: the same automaton for both dialects.

use std::collections::HashSet;

use memchr::memchr;

use super::{
    super::{
        arguments::{self, Writer},
        schema::{Toolset, Types},
    },
    Sink, coder, plain,
    tag::{Look, blanks},
    window::Window,
};

/// How a call's tags are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Dialect {
    /// `<function=NAME>` and `<parameter=KEY>`.
    Coder,
    /// `<NAME>` and `<KEY>`.
    Tags,
}

/// A call in tags that has been announced.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) dialect: Dialect,
    pub(super) name: String,
    pub(super) wrappers: u8,
    writer: Writer,
    value: Option<Value>,
    /// Whether the text ended inside of a tag that is no closer.
    cut_in_tag: bool,
    /// The declared keys that the call has had, the open one included. Others never matter, and
    /// a model may write any number of them.
    pub(super) used: HashSet<String>,
}

/// A parameter whose value is being read.
#[derive(Clone, Debug)]
struct Value {
    key: String,
    mode: Mode,
    /// Whether the newline after the opener, which is layout, may still come.
    lead: bool,
    /// Whether none of the value has been seen.
    empty: bool,
    /// What is held of it.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// A string: every piece leaves when it arrives (rule 12).
    Stream,
    /// A string or null: held while it may still be null.
    Nullable,
    /// Held to its end and converted.
    Hold,
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
    Leave { at: usize, closed_wrapper: bool, complete: bool },
}

impl Body {
    pub(super) fn new(dialect: Dialect, name: String, wrappers: u8) -> Self {
        Self {
            dialect,
            name,
            wrappers,
            writer: Writer::new(),
            value: None,
            cut_in_tag: false,
            used: HashSet::new(),
        }
    }

    /// The parameter that is open.
    pub(super) fn open_key(&self) -> &str {
        self.value.as_ref().map_or("", |value| &value.key)
    }

    /// Looks at the text from `at` on, which is not empty.
    pub(super) fn step(
        &mut self,
        window: Window<'_>,
        at: usize,
        end: bool,
        tools: &Toolset,
        sink: &mut Sink,
    ) -> Step {
        if self.value.is_some() {
            self.value(window, at, end, tools, sink)
        } else {
            self.between(&window.text()[at..], at, end, tools, sink)
        }
    }

    /// Whether nothing but closers is missing where the text ends.
    pub(super) fn is_whole(&self) -> bool {
        self.value.is_none() && !self.cut_in_tag
    }

    /// Closes the call where the text ends (rules 11 and 22).
    pub(super) fn finish(&mut self, tools: &Toolset, sink: &mut Sink) {
        self.end_value(tools, sink);
        self.writer.close(&mut sink.arguments);
    }

    fn between(
        &mut self,
        text: &str,
        at: usize,
        end: bool,
        tools: &Toolset,
        sink: &mut Sink,
    ) -> Step {
        let gap = text.len() - text.trim_ascii_start().len();
        if gap > 0 {
            return Step::At(at + gap);
        }
        let next = match self.dialect {
            Dialect::Coder => coder::next(text, &self.name, tools),
            Dialect::Tags => plain::next(text, &self.name, tools),
        };
        match next {
            Look::Yes(Next::Parameter { key, length, value }) => {
                self.begin_value(key, tools, sink);
                if let Some(value) = value {
                    self.push(&value, sink);
                    self.end_value(tools, sink);
                }
                Step::At(at + length)
            }
            Look::Yes(Next::Closer { length, wrapper }) => {
                Step::Leave { at: at + length, closed_wrapper: wrapper, complete: true }
            }
            Look::More if !end => Step::More,
            // Cut inside of markup, which is no text.
            Look::More => {
                self.cut_in_tag = !text.starts_with("</");
                Step::At(at + text.len())
            }
            // Another opener, or text: the call's own closer is missing.
            Look::No => Step::Leave { at, closed_wrapper: false, complete: true },
        }
    }

    fn value(
        &mut self,
        window: Window<'_>,
        at: usize,
        end: bool,
        tools: &Toolset,
        sink: &mut Sink,
    ) -> Step {
        let text = &window.text()[at..];
        let bytes = text.as_bytes();
        let Some(value) = &mut self.value else { return Step::At(at) };
        if value.lead {
            let newline = match bytes {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [b'\r'] if !end => return Step::More,
                _ => 0,
            };
            value.lead = false;
            if newline > 0 {
                return Step::At(at + newline);
            }
        }
        let empty = value.empty;
        let mut from = 0;
        while let Some(found) = memchr(b'<', &bytes[from..]) {
            let tag = from + found;
            let line_start = if tag > 0 { bytes[tag - 1] == b'\n' } else { empty };
            let ends = match self.dialect {
                Dialect::Coder => coder::ends_value(&text[tag..], self, line_start, end, tools),
                Dialect::Tags => plain::ends_value(&text[tag..], self, line_start, end, tools),
            };
            let stop = without_newline(&bytes[..tag]);
            match ends {
                Look::Yes(length) => {
                    self.take(window, at, stop, sink);
                    self.end_value(tools, sink);
                    return Step::At(at + tag + length);
                }
                Look::More if !end => {
                    self.take(window, at, stop, sink);
                    return if stop == 0 { Step::More } else { Step::At(at + stop) };
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

    fn begin_value(&mut self, key: String, tools: &Toolset, sink: &mut Sink) {
        let parameter = tools.parameter(&self.name, &key);
        let types = parameter.types();
        let mode = if types == Types::STRING {
            self.writer.begin_string(&key, &mut sink.arguments);
            Mode::Stream
        } else if types == Types::STRING | Types::NULL {
            Mode::Nullable
        } else {
            Mode::Hold
        };
        if parameter.is_declared() && !self.used.contains(&key) {
            self.used.insert(key.clone());
        }
        self.value = Some(Value { key, mode, lead: true, empty: true, held: String::new() });
    }

    /// Takes `length` bytes from `at` on into the value.
    fn take(&mut self, window: Window<'_>, at: usize, length: usize, sink: &mut Sink) {
        if length == 0 {
            return;
        }
        let text = &window.text()[at..at + length];
        let streams = self.value.as_ref().is_some_and(|value| value.mode == Mode::Stream);
        if streams && window.is_piece() && !arguments::needs_escape(text) {
            if let Some(value) = &mut self.value {
                value.empty = false;
            }
            sink.argument_slices(window, at..at + length);
        } else {
            self.push(text, sink);
        }
    }

    /// Takes `text` into the value.
    fn push(&mut self, text: &str, sink: &mut Sink) {
        let Some(value) = &mut self.value else { return };
        value.empty = false;
        match value.mode {
            Mode::Stream => self.writer.push_str(text, &mut sink.arguments),
            Mode::Hold => value.held.push_str(text),
            Mode::Nullable => {
                value.held.push_str(text);
                if !may_be_null(&value.held) {
                    value.mode = Mode::Stream;
                    self.writer.begin_string(&value.key, &mut sink.arguments);
                    self.writer.push_str(&value.held, &mut sink.arguments);
                    value.held = String::new();
                }
            }
        }
    }

    fn end_value(&mut self, tools: &Toolset, sink: &mut Sink) {
        let Some(value) = self.value.take() else { return };
        if value.mode == Mode::Stream {
            self.writer.end_string(&mut sink.arguments);
            return;
        }
        let parameter = tools.parameter(&self.name, &value.key);
        let mut json = String::new();
        let written = match self.dialect {
            Dialect::Coder => arguments::convert(&value.held, parameter.types(), &mut json),
            Dialect::Tags => arguments::convert_nested(&value.held, &parameter, &mut json),
        };
        if written {
            self.writer.member(&value.key, &json, &mut sink.arguments);
        }
    }
}

/// Whether `text` can go on to a word for null with blanks around it. What is long is taken for
/// a string, so that no more than a few bytes are held.
fn may_be_null(text: &str) -> bool {
    let word = text.trim();
    text.len() <= 64 && ["null", "None"].iter().any(|null| null.starts_with(word))
}

/// The length without one newline at the end.
fn without_newline(bytes: &[u8]) -> usize {
    match bytes {
        [.., b'\r', b'\n'] => bytes.len() - 2,
        [.., b'\n'] => bytes.len() - 1,
        _ => bytes.len(),
    }
}

/// Whether a closer whose text is done, with `rest` after it, is structural: one of the tags
/// that `accept` knows follows after blanks, or the end does (rule 14). A tag that is cut by
/// the end counts.
pub(super) fn followed(
    rest: &str,
    end: bool,
    accept: impl FnOnce(&str) -> Look<usize>,
) -> Look<()> {
    let look = match blanks(rest) {
        Look::Yes(gap) => accept(&rest[gap..]).map(|_| ()),
        Look::More => Look::More,
        Look::No => Look::No,
    };
    if end && look == Look::More { Look::Yes(()) } else { look }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::{Scanner, State};
    use crate::{
        chat::{FunctionTool, Tool},
        tool::schema::Toolset,
    };

    /// Every line of a value that looks like a parameter is looked up among them, so time would
    /// not be linear if a model could make them many.
    #[test]
    fn keys_are_remembered_once_and_only_if_they_are_declared() {
        let schema = json!({"properties": {"path": {"type": "string"}}});
        let tools = vec![Tool::Function(FunctionTool::new("read", schema))];
        let mut scanner = Scanner::new(Toolset::new(Arc::new(tools)));
        scanner.push("<function=read>".into());
        for n in 0..1000 {
            scanner.push(format!("<parameter=k{n}>x</parameter>").into());
            scanner.push("<parameter=path>x</parameter>".into());
        }
        scanner.push("<parameter=path>".into());
        let State::Body(body) = &scanner.state else { panic!("{:?}", scanner.state) };
        assert!(body.used.len() == 1 && body.used.contains("path"));
    }
}

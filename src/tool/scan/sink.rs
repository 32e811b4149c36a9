//! Calls as items: names, and arguments as one JSON object.

use std::{collections::VecDeque, ops::Range};

use super::Item;
use crate::{
    json::clean_len,
    tool::{
        arguments::{self, Writer},
        markup::{Close, Dialect, GROWTH, Rules, Sink, Window},
        schema::{Toolset, Types},
    },
};

/// Turns what the reader finds into [`Item`]s.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) items: VecDeque<Item>,
    pub(super) tools: Toolset,
    /// Arguments that have not become an item.
    arguments: String,
    /// The open call in tags.
    call: Option<Call>,
}

#[derive(Debug)]
struct Call {
    name: String,
    dialect: Dialect,
    writer: Writer,
    value: Option<Value>,
}

/// A parameter whose value is being read.
#[derive(Debug)]
struct Value {
    key: String,
    mode: Mode,
    /// What is held of it.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// A string: every piece leaves when it arrives.
    Stream,
    /// A string or null: held while it may still be null.
    Nullable,
    /// Held to its end and converted.
    Hold,
}

impl Items {
    pub(super) fn new(tools: Toolset) -> Self {
        Self { tools, ..Self::default() }
    }

    fn push(&mut self, item: Item) {
        self.flush();
        self.items.push_back(item);
    }

    /// Makes an item of the arguments so far.
    #[inline]
    pub(super) fn flush(&mut self) {
        if !self.arguments.is_empty() {
            self.items.push_back(Item::Arguments(self.arguments.as_str().into()));
            self.arguments.clear();
        }
    }

    /// Takes `text` into the open value.
    fn take(&mut self, text: &str) {
        let Some(Call { writer, value: Some(value), .. }) = &mut self.call else { return };
        match value.mode {
            Mode::Stream => writer.push_str(text, &mut self.arguments),
            Mode::Hold => value.held.push_str(text),
            Mode::Nullable => {
                value.held.push_str(text);
                if !may_be_null(&value.held) {
                    value.mode = Mode::Stream;
                    writer.begin_string(&value.key, &mut self.arguments);
                    writer.push_str(&value.held, &mut self.arguments);
                    value.held = String::new();
                }
            }
        }
    }
}

impl Sink for Items {
    const RULES: Rules = Rules::GIVES;

    type Names = Toolset;

    fn names(&self) -> &Toolset {
        &self.tools
    }

    fn text(&mut self, window: Window<'_>, range: Range<usize>) {
        window.each(range, |text| self.items.push_back(Item::Text(text)));
    }

    fn reasoning(&mut self, window: Window<'_>, range: Range<usize>) {
        window.each(range, |text| self.items.push_back(Item::Reasoning(text)));
    }

    fn call(&mut self, name: &str, dialect: Dialect) {
        self.push(Item::Call { name: name.into(), dialect });
        self.call = (dialect != Dialect::Hermes).then(|| Call {
            name: name.to_owned(),
            dialect,
            writer: Writer::new(),
            value: None,
        });
    }

    fn begin(&mut self, key: &str) {
        let Some(call) = &mut self.call else { return };
        let types = self.tools.parameter(&call.name, key).types();
        let mode = if types == Types::STRING {
            call.writer.begin_string(key, &mut self.arguments);
            Mode::Stream
        } else if types == Types::STRING | Types::NULL {
            Mode::Nullable
        } else {
            Mode::Hold
        };
        call.value = Some(Value { key: key.to_owned(), mode, held: String::new() });
    }

    fn value(&mut self, window: Window<'_>, range: Range<usize>) {
        let text = &window.text()[range.clone()];
        let streams =
            matches!(&self.call, Some(Call { value: Some(Value { mode: Mode::Stream, .. }), .. }));
        if !streams || !window.is_piece() || clean_len(text.as_bytes()) < text.len() {
            self.take(text);
        } else if !self.arguments.is_empty() && text.len() <= GROWTH {
            // A few bytes join what waits already.
            self.arguments.push_str(text);
        } else {
            self.flush();
            window.each(range, |text| self.items.push_back(Item::Arguments(text)));
        }
    }

    fn whole(&mut self, value: &str) {
        self.take(value);
    }

    fn end(&mut self) {
        let Some(call) = &mut self.call else { return };
        let Some(value) = call.value.take() else { return };
        if value.mode == Mode::Stream {
            call.writer.end_string(&mut self.arguments);
            return;
        }
        let parameter = self.tools.parameter(&call.name, &value.key);
        let mut json = String::new();
        let written = match call.dialect {
            Dialect::Xml => arguments::convert_nested(&value.held, &parameter, &mut json),
            _ => arguments::convert(&value.held, parameter.types(), &mut json),
        };
        if written {
            call.writer.member(&value.key, &json, &mut self.arguments);
        }
    }

    fn json<R>(&mut self, write: impl FnOnce(&mut String) -> R) -> R {
        write(&mut self.arguments)
    }

    fn close(&mut self, how: Close) {
        self.end();
        if let Some(mut call) = self.call.take() {
            call.writer.close(&mut self.arguments);
        }
        self.push(Item::End { complete: how != Close::Cut });
    }
}

/// Whether `text` can go on to a word for null with blanks around it. What is long is taken for
/// a string, so that no more than a few bytes are held.
fn may_be_null(text: &str) -> bool {
    let word = text.trim();
    text.len() <= 64 && ["null", "None"].iter().any(|null| null.starts_with(word))
}

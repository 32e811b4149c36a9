use std::{ops::Range, sync::Arc};

use super::{
    Vocabulary,
    members::{Event, Members},
    memory::Memory,
    outcome::Outcome,
    output::Output,
    passing::Passing,
    value::{Part, Value},
};
use crate::tool::markup::{Close, Dialect, Names, Rules, Sink, Window};

/// Writes calls in the client's tags.
///
/// Parameters that the client does not know are left out, as it would drop them, but look for tags
/// in their text. So is a null, since the client would take the word for the value.
#[derive(Debug)]
pub(super) struct Tags {
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) out: Output,
    pub(super) memory: Memory,
    pub(super) outcome: Outcome,
    /// Whether the reply is cut, so that what its end leaves open stays so.
    pub(super) cut: bool,
    call: Call,
    /// The open parameter.
    value: Value,
    /// The tool's closer.
    closer: String,
    /// Arguments on their way into the call.
    json: String,
}

#[derive(Debug)]
enum Call {
    None,
    Tags,
    Json(Members),
    Passing(Passing),
}

impl Tags {
    pub(super) fn new(vocabulary: Arc<Vocabulary>) -> Self {
        Self {
            vocabulary,
            out: Output::default(),
            memory: Memory::default(),
            outcome: Outcome::Empty,
            cut: false,
            call: Call::None,
            value: Value::default(),
            closer: String::new(),
            json: String::new(),
        }
    }

    /// Whether the reply's call has begun.
    pub(super) const fn has_call(&self) -> bool {
        matches!(self.outcome, Outcome::Call | Outcome::Rewritten)
    }

    fn open(&mut self, key: &str, margin: &'static str, escape: &'static str) {
        if self.vocabulary.has_parameter(key) {
            let (value, opener) = Value::new(key, margin, escape);
            self.value = value;
            self.out.text(&opener);
        }
    }
}

impl Sink for Tags {
    const RULES: Rules = Rules {
        passes_xml: true,
        any_name: false,
        one_call: true,
        trims_start: true,
        trims_before_calls: false,
        repairs_keys: false,
        keeps_cut_closers: false,
        hold: 64 * 1024,
    };

    type Names = Vocabulary;

    fn names(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn text(&mut self, window: Window<'_>, range: Range<usize>) {
        self.memory.push(&window.text()[range.clone()]);
        self.out.slice(window, range);
    }

    fn reasoning(&mut self, window: Window<'_>, range: Range<usize>) {
        self.out.reasoning(window, range);
    }

    fn mention(&mut self) {
        self.memory.push("&lt;");
        self.out.text("&lt;");
    }

    fn call(&mut self, name: &str, dialect: Dialect) {
        self.out.text(&format!("<{name}>"));
        self.closer = format!("</{name}>");
        if dialect == Dialect::Xml {
            self.outcome = Outcome::Call;
            self.call = Call::Passing(Passing::new(name));
            return;
        }
        self.outcome = Outcome::Rewritten;
        self.out.text("\n");
        self.call = match dialect {
            Dialect::Hermes => Call::Json(Members::default()),
            _ => Call::Tags,
        };
    }

    fn begin(&mut self, key: &str) {
        self.open(key, "\n", "&lt;");
    }

    fn value(&mut self, window: Window<'_>, range: Range<usize>) {
        let out = &mut self.out;
        self.value.take(&window.text()[range.clone()], |part| match part {
            Part::Here(here) => out.slice(window, range.start + here.start..range.start + here.end),
            Part::Other(text) => out.text(text),
        });
    }

    fn whole(&mut self, value: &str) {
        let out = &mut self.out;
        self.value.take(value, |part| match part {
            Part::Here(here) => out.text(&value[here]),
            Part::Other(text) => out.text(text),
        });
    }

    fn end(&mut self) {
        let value = std::mem::take(&mut self.value);
        self.out.text(value.rest());
        value.end().iter().for_each(|part| self.out.text(part));
    }

    fn json<R>(&mut self, write: impl FnOnce(&mut String) -> R) -> R {
        let mut json = std::mem::take(&mut self.json);
        let result = write(&mut json);
        if let Call::Json(mut members) = std::mem::replace(&mut self.call, Call::None) {
            members.feed(&json, |event| match event {
                Event::Begin { key, string } => {
                    // The one parameter that Roo Code does not trim loses a newline on either
                    // side.
                    let margin = if string && key == "content" { "\n" } else { "" };
                    self.open(key, margin, if string { "&lt;" } else { "\\u003c" });
                }
                Event::Value(text) => self.whole(text),
                Event::End => self.end(),
            });
            self.call = Call::Json(members);
        }
        json.clear();
        self.json = json;
        result
    }

    fn pass(&mut self, window: Window<'_>, at: usize) -> Option<usize> {
        let Call::Passing(passing) = &mut self.call else { return Some(at) };
        let text = window.text();
        let end = passing.push(&self.vocabulary, text.as_bytes(), at);
        self.out.slice(window, at..end.unwrap_or(text.len()));
        end
    }

    fn leaves_open(&self) -> bool {
        self.cut
    }

    fn close(&mut self, how: Close) {
        let stays_open = self.cut && how != Close::Own;
        match std::mem::replace(&mut self.call, Call::None) {
            Call::Passing(passing) if how != Close::Own && !stays_open => {
                self.out.text(&passing.closers());
            }
            Call::None | Call::Passing(_) => {}
            Call::Tags | Call::Json(_) if stays_open => self.out.text(self.value.rest()),
            Call::Tags | Call::Json(_) => {
                self.end();
                self.out.text(&self.closer);
            }
        }
    }
}

impl Names for Vocabulary {
    fn tool(&self, name: &str) -> Option<&str> {
        self.find_tool(name)
    }

    fn begins_tool(&self, start: &str) -> bool {
        Self::begins_tool(self, start)
    }

    fn declares(&self, _: &str, key: &str) -> bool {
        self.has_parameter(key)
    }

    fn may_declare(&self, _: &str, start: &str, test: impl Fn(&str) -> bool) -> bool {
        self.parameters_from(start).any(test)
    }
}

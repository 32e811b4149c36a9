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
use crate::tool::markup::{Close, Dialect, Rules, Sink, Window};

/// Writes calls in the client's tags.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) tags: Tags,
    pub(super) memory: Memory,
    pub(super) outcome: Outcome,
    /// Whether the reply is cut, so that what its end leaves open stays so.
    pub(super) cut: bool,
    call: Call,
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

/// The parameters of a call, on their way out.
///
/// Those that the client does not know are left out, as it would drop them, but look for tags in
/// their text. So is a null, since the client would take the word for the value.
#[derive(Debug)]
pub(super) struct Tags {
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) out: Output,
    /// The open parameter.
    value: Value,
}

impl Tags {
    fn begin(&mut self, key: &str, margin: &'static str, escape: &'static str) {
        if self.vocabulary.has_parameter(key) {
            let (value, opener) = Value::new(key, margin, escape);
            self.value = value;
            self.out.text(&opener);
        }
    }

    fn text(&mut self, text: &str) {
        self.value.take(text, |part| match part {
            Part::Here(here) => self.out.text(&text[here]),
            Part::Other(text) => self.out.text(text),
        });
    }

    fn end(&mut self) {
        let value = std::mem::take(&mut self.value);
        self.out.text(value.rest());
        value.end().iter().for_each(|part| self.out.text(part));
    }
}

impl Client {
    pub(super) fn new(vocabulary: Arc<Vocabulary>) -> Self {
        Self {
            tags: Tags { vocabulary, out: Output::default(), value: Value::default() },
            memory: Memory::default(),
            outcome: Outcome::Empty,
            cut: false,
            call: Call::None,
            closer: String::new(),
            json: String::new(),
        }
    }

    /// Whether the reply's call has begun.
    pub(super) const fn has_call(&self) -> bool {
        matches!(self.outcome, Outcome::Call | Outcome::Rewritten)
    }
}

impl Sink for Client {
    const RULES: Rules = Rules::PASSES;

    type Names = Vocabulary;

    fn names(&self) -> &Vocabulary {
        &self.tags.vocabulary
    }

    fn text(&mut self, window: Window<'_>, range: Range<usize>) {
        self.memory.push(&window.text()[range.clone()]);
        self.tags.out.slice(window, range);
    }

    fn reasoning(&mut self, window: Window<'_>, range: Range<usize>) {
        self.tags.out.reasoning(window, range);
    }

    fn mention(&mut self) {
        self.memory.push("&lt;");
        self.tags.out.text("&lt;");
    }

    fn call(&mut self, name: &str, dialect: Dialect) {
        self.tags.out.text(&format!("<{name}>"));
        self.closer = format!("</{name}>");
        if dialect == Dialect::Xml {
            self.outcome = Outcome::Call;
            self.call = Call::Passing(Passing::new(name));
            return;
        }
        self.outcome = Outcome::Rewritten;
        self.tags.out.text("\n");
        self.call = match dialect {
            Dialect::Hermes => Call::Json(Members::default()),
            _ => Call::Tags,
        };
    }

    fn begin(&mut self, key: &str) {
        self.tags.begin(key, "\n", "&lt;");
    }

    fn value(&mut self, window: Window<'_>, range: Range<usize>) {
        let Tags { value, out, .. } = &mut self.tags;
        value.take(&window.text()[range.clone()], |part| match part {
            Part::Here(here) => out.slice(window, range.start + here.start..range.start + here.end),
            Part::Other(text) => out.text(text),
        });
    }

    fn whole(&mut self, value: &str) {
        self.tags.text(value);
    }

    fn end(&mut self) {
        self.tags.end();
    }

    fn json<R>(&mut self, write: impl FnOnce(&mut String) -> R) -> R {
        self.json.clear();
        let result = write(&mut self.json);
        if let Call::Json(members) = &mut self.call {
            members.feed(&self.json, |event| match event {
                Event::Begin { key, string } => {
                    // The one parameter that Roo Code does not trim loses a newline on either
                    // side.
                    let margin = if string && key == "content" { "\n" } else { "" };
                    self.tags.begin(key, margin, if string { "&lt;" } else { "\\u003c" });
                }
                Event::Value(text) => self.tags.text(text),
                Event::End => self.tags.end(),
            });
        }
        result
    }

    fn pass(&mut self, window: Window<'_>, at: usize) -> Option<usize> {
        let Call::Passing(passing) = &mut self.call else { return Some(at) };
        let text = window.text();
        let end = passing.push(&self.tags.vocabulary, text.as_bytes(), at);
        self.tags.out.slice(window, at..end.unwrap_or(text.len()));
        end
    }

    fn leaves_open(&self) -> bool {
        self.cut
    }

    fn close(&mut self, how: Close) {
        let stays_open = self.cut && how != Close::Own;
        match std::mem::replace(&mut self.call, Call::None) {
            Call::Passing(passing) if how != Close::Own && !stays_open => {
                self.tags.out.text(&passing.closers());
            }
            Call::None | Call::Passing(_) => {}
            Call::Tags | Call::Json(_) if stays_open => self.tags.out.text(self.tags.value.rest()),
            Call::Tags | Call::Json(_) => {
                self.end();
                self.tags.out.text(&self.closer);
            }
        }
    }
}

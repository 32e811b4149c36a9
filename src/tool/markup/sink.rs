//! What the reader asks of the one that it reads for.

use std::ops::Range;

use super::window::Window;

/// The markup in which a call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// The tags of Qwen3-Coder: `<tool_call>` around `<function=NAME>` with `<parameter=KEY>`;
    /// what Qwen3-Coder and everything from Qwen3.5 on were trained on.
    Coder,
    /// Hermes' JSON: `{"name": …, "arguments": …}` in `<tool_call>`; what Qwen2.5 and Qwen3 were
    /// trained on.
    Hermes,
    /// Plain tags: `<NAME>` with `<KEY>value</KEY>` in it, as Roo Code and Cline ask for.
    Xml,
}

impl Dialect {
    /// A word for it, as metrics and options use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coder => "coder",
            Self::Hermes => "hermes",
            Self::Xml => "xml",
        }
    }
}

/// The names that make tags what they are.
pub(in crate::tool) trait Names {
    /// The tool of this name, as it is declared.
    fn tool(&self, name: &str) -> Option<&str>;

    /// Whether some tool's name begins with `start`.
    fn begins_tool(&self, start: &str) -> bool;

    /// Whether `tool` has the parameter `key`.
    fn declares(&self, tool: &str, key: &str) -> bool;

    /// Whether a parameter of `tool` begins with `start` and passes `test`. Where many begin so,
    /// the answer may be yes without a look at all of them.
    fn may_declare(&self, tool: &str, start: &str, test: impl Fn(&str) -> bool) -> bool;
}

/// In what the clients differ, as far as reading goes.
#[derive(Clone, Copy, Debug)]
pub(in crate::tool) struct Rules {
    /// Whether the client finds calls in [`Dialect::Xml`] by itself. They pass unread then, they
    /// count wherever the client sees them, in Markdown's fences, too, and prose must not name a
    /// tool in a tag.
    pub(in crate::tool) passes_xml: bool,
    /// Whether a call in `<tool_call>` may have a name that nobody declared.
    pub(in crate::tool) any_name: bool,
    /// Whether the first call ends the answer.
    pub(in crate::tool) one_call: bool,
    /// Whether blanks at the start of the answer are dropped, and think blocks found behind each
    /// other there.
    pub(in crate::tool) trims_start: bool,
    /// Whether blanks before a call are no content, so that they wait for what follows.
    pub(in crate::tool) trims_before_calls: bool,
    /// Whether a parameter's key that lost its `>` is repaired.
    pub(in crate::tool) repairs_keys: bool,
    /// Whether a closer that the end of the text cuts belongs to the value before it.
    pub(in crate::tool) keeps_cut_closers: bool,
    /// How much of a call in JSON is held, in bytes, until it is known to be one.
    pub(in crate::tool) hold: usize,
}

impl Rules {
    /// For clients that are given calls.
    #[cfg(feature = "tool-call")]
    pub(in crate::tool) const GIVES: Self = Self {
        passes_xml: false,
        any_name: true,
        one_call: false,
        trims_start: false,
        trims_before_calls: true,
        repairs_keys: true,
        keeps_cut_closers: true,
        hold: 1 << 20,
    };

    /// For clients that find calls in [`Dialect::Xml`] themselves.
    #[cfg(feature = "tool-wrap")]
    pub(in crate::tool) const PASSES: Self = Self {
        passes_xml: true,
        any_name: false,
        one_call: true,
        trims_start: true,
        trims_before_calls: false,
        repairs_keys: false,
        keeps_cut_closers: false,
        hold: 64 * 1024,
    };
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tool) enum Close {
    /// By itself, or by what follows it.
    Own,
    /// Where the text ended, with nothing missing but closers.
    Whole,
    /// In the middle of a value, of a parameter's tag or of the JSON.
    Cut,
}

/// Takes what the reader finds, in order. Between [`call`](Sink::call) and [`close`](Sink::close)
/// comes nothing but that call.
pub(in crate::tool) trait Sink {
    /// How its client wants text to be read.
    const RULES: Rules;

    type Names: Names;

    fn names(&self) -> &Self::Names;

    /// Visible text, never empty: a part of what is looked at.
    fn text(&mut self, window: Window<'_>, range: Range<usize>);

    /// Text of a think block, as [`text`](Sink::text).
    fn reasoning(&mut self, window: Window<'_>, range: Range<usize>);

    /// The `<` of a tool's tag in prose that is no call. Asked for only where calls in
    /// [`Dialect::Xml`] pass.
    fn mention(&mut self) {}

    /// A call begins.
    fn call(&mut self, name: &str, dialect: Dialect);

    /// A parameter of a call in tags begins.
    fn begin(&mut self, key: &str);

    /// A part of its value, without the newlines that are layout; never empty.
    fn value(&mut self, window: Window<'_>, range: Range<usize>);

    /// Its value whole, where that stood in the tag.
    fn whole(&mut self, value: &str);

    /// The parameter is over.
    fn end(&mut self);

    /// Lets `write` append to the arguments of a call in JSON. Joined, what is written is one
    /// object that parses.
    fn json<R>(&mut self, write: impl FnOnce(&mut String) -> R) -> R;

    /// Takes what is looked at from `at` on as a part of a call that passes; where the call ends.
    fn pass(&mut self, window: Window<'_>, at: usize) -> Option<usize> {
        let _ = at;
        Some(window.text().len())
    }

    /// Whether what the end of the text leaves open is to stay so.
    fn leaves_open(&self) -> bool {
        false
    }

    /// The call is over, with whatever of it is still open.
    fn close(&mut self, how: Close);
}

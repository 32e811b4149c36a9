//! Finds tool calls in the text of an answer while it streams.
//!
//! [`Scanner`] is a plain state machine: pieces of text in, [`Item`]s out, no futures, no clock.
//! It knows the three forms in which Qwen models write calls, with their outer tags missing or
//! doubled:
//!
//! - the tags of Qwen3-Coder: `<tool_call><function=NAME><parameter=KEY>…`;
//! - JSON in `<tool_call>`, one object or several;
//! - plain tags by the names of declared tools: `<NAME><KEY>…`.
//!
//! ```
//! use std::sync::Arc;
//!
//! use serde_json::json;
//! use tower_qwen::{
//!     chat::{FunctionTool, Tool},
//!     tool::scan::{Form, Item, Scanner, Toolset},
//! };
//!
//! let schema = json!({"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
//! let tools = Toolset::new(Arc::new(vec![Tool::Function(FunctionTool::new("weather", schema))]));
//! let mut scanner = Scanner::new(tools);
//!
//! // Text leaves at once. The opener is waited for to the end of its first parameter's tag.
//! scanner.push("Let me look.\n\n<tool_call>\n<func".into());
//! assert_eq!(scanner.pop(), Some(Item::Text("Let me look.".into())));
//! assert_eq!(scanner.pop(), None);
//!
//! scanner.push("tion=weather>\n<parameter=city>\nPa".into());
//! assert_eq!(scanner.pop(), Some(Item::Call { name: "weather".into(), form: Form::Coder }));
//! assert_eq!(scanner.pop(), Some(Item::Arguments("{\"city\":\"Pa".into())));
//!
//! scanner.push("ris\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>".into());
//! scanner.push("\n</tool_call>".into());
//! scanner.finish();
//! let mut rest = String::new();
//! while let Some(item) = scanner.pop() {
//!     match item {
//!         Item::Arguments(json) => rest.push_str(&json),
//!         other => assert_eq!(other, Item::End { complete: true }),
//!     }
//! }
//! assert_eq!(rest, "ris\",\"days\":3}");
//! ```
//!
//! # What is promised
//!
//! - Any cut of the same text gives the same text, calls and arguments (rule 23 of tool-calls.md
//!   e.2, whose rules 2 to 8, 10 to 16, 20 and 22 are implemented here).
//! - The arguments of every call, joined, are one JSON object that parses, also when the text
//!   ends in the middle of it.
//! - Text that leaves is made of slices of the pieces that came in; so are string arguments
//!   where nothing in a piece needs an escape.
//! - Time is linear in the text. Kept is at most one parameter whose type is undecided, or one
//!   JSON object whose name is unknown (1 MiB), and beside it undecided markup, which is what is
//!   looked at again when more arrives: a tag, as a rule, and never more than 2,129 bytes (blanks,
//!   four wrappers with blanks, two tags with a long name).
//! - Nothing is an error: markup that does not become a call is text.
//!
//! # What is decided beyond the rules
//!
//! - Bare and fenced JSON, `<tools>` and `tool_code` are text, as the rules have it by default.
//!   The options of rule 21 are not offered: whether a reply is one such object is known only at
//!   its end, so all of it would have to be held back.
//! - An opener that follows an opener after a backtick is text as well, up to the line's end, so
//!   a whole call quoted as inline code is no call.
//! - A line that begins with three backticks and has more of them later is inline code, not a
//!   fence, as in CommonMark.
//! - `<tool_call>` may be doubled, up to four times; as many closers are swallowed.
//! - `</parameter>` is also structural before a bare `<function=NAME>` with a declared name, and
//!   `</tool_call>` ends an open value if an opener or the end follows.
//! - A run of more than 256 blanks is content, also before an opener, and an opener whose next
//!   character is further away is text.
//! - A call's own closer cut by the end of the text is dropped with the call.
//! - JSON arguments lose the blanks outside of strings. They are repaired where that is certain:
//!   control characters, escapes and surrogates, single quotes, words of Python, trailing commas,
//!   quotes inside of strings. Where nothing is certain the object is closed, and the rest up to
//!   the closing tag is dropped.
//! - An `arguments` value that is neither an object, nor a string that holds one, nor null makes
//!   the object text.
//! - A repeated parameter is sent twice, and the last one wins in every reader (rule 16).
//!
//! # What cannot be told
//!
//! The forms in tags have no escapes, so by rule 14 a value ends early where it quotes markup of its own
//! form as that would really stand there: a whole call with its closers, or on a line of its own a
//! parameter that the call has not had. What follows is text, or the next value. Calls in JSON, in
//! which [`ToolCallLayer`](super::call::ToolCallLayer) shows such values to the model, have no such limit.

mod body;
mod coder;
mod hermes;
mod lines;
pub(super) mod object;
mod open;
mod plain;
mod relay;
mod tag;
mod window;

use std::{collections::VecDeque, mem, ops::Range};

use memchr::memchr;

use self::{
    body::Body,
    hermes::Hermes,
    lines::Lines,
    open::Opening,
    tag::{BLANK_LIMIT, Look, literal},
    window::{Held, Window},
};
pub use super::schema::Toolset;
use crate::Text;

/// How much of a piece joins held-back text at a time.
const GROWTH: usize = 64;

/// What a [`Scanner`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// Visible text; never empty.
    Text(Text),
    /// Text of a think block at the start of the answer, without its tags; never empty.
    Reasoning(Text),
    /// A call begins. Its [`Arguments`](Item::Arguments) and its [`End`](Item::End) follow
    /// before anything else of the answer.
    Call {
        /// The function's name; never empty.
        name: Text,
        /// How the call is written.
        form: Form,
    },
    /// A piece of the open call's arguments; never empty. Joined, they are one JSON object.
    Arguments(Text),
    /// The open call is over.
    End {
        /// Whether it is all there; false if the text ended inside of a value, of a parameter's
        /// tag or of the JSON, so that a part of the arguments is missing. Closers alone may be
        /// missing: models forget them.
        complete: bool,
    },
}

/// How a call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// The tags of Qwen3-Coder.
    Coder,
    /// JSON in `<tool_call>`.
    Json,
    /// Plain tags by the tool's name.
    Tags,
}

impl Form {
    /// A word for it, as metrics use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coder => "coder",
            Self::Json => "json",
            Self::Tags => "tags",
        }
    }
}

/// Finds tool calls in text that comes in pieces; see the [module](self).
///
/// It scans whatever it is given: whether to scan at all (rule 1) is the caller's decision.
#[derive(Debug)]
pub struct Scanner {
    tools: Toolset,
    state: State,
    held: Held,
    /// Where prose stands in Markdown, up to what has left.
    lines: Lines,
    /// Whether the prose that has left ended in the middle of blanks that are content.
    in_blanks: bool,
    sink: Sink,
}

#[derive(Debug)]
enum State {
    /// Before anything but blanks.
    Start,
    /// In a think block.
    Think,
    /// After its closing tag, before anything but blanks.
    AfterThink,
    Prose,
    Body(Body),
    Hermes(Box<Hermes>),
    /// After a call: blanks are dropped, and so are some closing wrappers.
    AfterCall {
        closers: u8,
        wrapped: bool,
    },
}

/// Where items and arguments go.
#[derive(Debug, Default)]
struct Sink {
    items: VecDeque<Item>,
    /// Arguments that have not become an item.
    arguments: String,
    released: u64,
}

impl Sink {
    fn push(&mut self, item: Item) {
        self.flush();
        self.items.push_back(item);
    }

    fn flush(&mut self) {
        if !self.arguments.is_empty() {
            self.items.push_back(Item::Arguments(self.arguments.as_str().into()));
            self.arguments.clear();
        }
    }

    /// Arguments that can leave as they came; a few bytes join what waits already.
    fn argument_slices(&mut self, window: Window<'_>, range: Range<usize>) {
        if !self.arguments.is_empty() && range.len() <= GROWTH {
            self.arguments.push_str(&window.text()[range]);
            return;
        }
        self.flush();
        window.each(range, |text| self.items.push_back(Item::Arguments(text)));
    }
}

impl Scanner {
    /// A scanner for the start of an answer that may call `tools`.
    #[must_use]
    pub fn new(tools: Toolset) -> Self {
        Self::starting(tools, State::Start)
    }

    /// A scanner for text in which a think block means nothing, such as reasoning itself.
    #[must_use]
    pub fn without_think(tools: Toolset) -> Self {
        Self::starting(tools, State::Prose)
    }

    fn starting(tools: Toolset, state: State) -> Self {
        Self {
            tools,
            state,
            held: Held::default(),
            lines: Lines::default(),
            in_blanks: false,
            sink: Sink::default(),
        }
    }

    /// The next item, in order; none until more text is pushed.
    pub fn pop(&mut self) -> Option<Item> {
        self.sink.items.pop_front()
    }

    /// Whether [`pop`](Self::pop) has an item.
    #[inline]
    pub(super) fn has_items(&self) -> bool {
        !self.sink.items.is_empty()
    }

    /// Whether a call has begun and not ended.
    #[must_use]
    pub fn in_call(&self) -> bool {
        matches!(self.state, State::Body(_) | State::Hermes(_))
    }

    /// How often markup that looked like a call has been released as text.
    #[doc(hidden)]
    #[must_use]
    pub fn released(&self) -> u64 {
        self.sink.released
    }

    /// How many bytes are held back as undecided.
    #[doc(hidden)]
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, piece: Text) {
        if self.passes(&piece) {
            self.sink.items.push_back(Item::Text(piece));
            return;
        }
        let mut piece = piece;
        while !self.held.is_empty() && !piece.is_empty() {
            let grow = window::floor(&piece, GROWTH);
            if grow == piece.len() {
                self.held.push(mem::take(&mut piece));
            } else {
                self.held.push(piece.slice(..grow));
                piece = piece.slice(grow..);
            }
            self.look_at_held(false);
        }
        if !piece.is_empty() {
            let read = self.look(Window::of(&piece), false);
            if read < piece.len() {
                self.held.push(if read == 0 { piece } else { piece.slice(read..) });
            }
        }
        self.sink.flush();
    }

    /// Takes the next piece of text if it is what most are, plain prose, which leaves as it is:
    /// then there is no item for it. The items before it must have been taken.
    #[inline]
    pub(super) fn passes(&mut self, piece: &Text) -> bool {
        let passes = matches!(self.state, State::Prose)
            && self.held.is_empty()
            && memchr(b'<', piece.as_bytes()).is_none()
            && piece.as_bytes().last().is_some_and(|last| !last.is_ascii_whitespace());
        if passes {
            self.lines.advance(piece);
            self.in_blanks = false;
        }
        passes
    }

    /// Ends the text: what is held leaves, an open call is closed (rule 22). Afterwards the
    /// scanner is where it is after a sentence, so text may be pushed again.
    pub fn finish(&mut self) {
        self.look_at_held(true);
        match mem::replace(&mut self.state, State::Prose) {
            State::Body(mut body) => {
                let complete = body.is_whole();
                body.finish(&self.tools, &mut self.sink);
                self.sink.push(Item::End { complete });
            }
            State::Hermes(mut hermes) => {
                if !hermes.finish(&mut self.sink) {
                    self.release(hermes.take_raw());
                }
            }
            State::Start
            | State::Think
            | State::AfterThink
            | State::Prose
            | State::AfterCall { .. } => {}
        }
        self.sink.flush();
        self.lines = Lines::default();
        self.in_blanks = false;
    }

    fn look_at_held(&mut self, end: bool) {
        let mut held = mem::take(&mut self.held);
        let read = self.look(held.window(), end);
        held.consume(read);
        self.held = held;
    }

    /// Looks at as much of the text as can be decided; how much that was.
    fn look(&mut self, window: Window<'_>, end: bool) -> usize {
        let mut at = 0;
        while at < window.text().len() {
            match self.step(window, at, end) {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }

    /// Decides something about the text from `at` on, or says that it takes more text. At the
    /// end of the text everything is decided.
    fn step(&mut self, window: Window<'_>, at: usize, end: bool) -> Option<usize> {
        let text = &window.text()[at..];
        match &mut self.state {
            State::Start => {
                let (state, read) = match start(text, self.tools.get("think").is_some()) {
                    Look::More if !end => return None,
                    Look::Yes(found) => found,
                    _ => (State::Prose, 0),
                };
                self.state = state;
                Some(at + read)
            }
            State::Think => self.think(window, at, end),
            State::AfterThink => {
                let gap = text.len() - text.trim_ascii_start().len();
                if gap < text.len() {
                    self.state = State::Prose;
                }
                Some(at + gap)
            }
            State::Prose => self.prose(window, at, end),
            State::Body(body) => match body.step(window, at, end, &self.tools, &mut self.sink) {
                body::Step::More => None,
                body::Step::At(at) => Some(at),
                body::Step::Leave { at, closed_wrapper, complete } => {
                    body.finish(&self.tools, &mut self.sink);
                    self.sink.push(Item::End { complete });
                    let closers = body.wrappers.max(1) - u8::from(closed_wrapper);
                    let wrapped = body.wrappers > u8::from(closed_wrapper);
                    self.after_call(closers, wrapped);
                    Some(at)
                }
            },
            State::Hermes(hermes) => match hermes.step(window, at, end, &mut self.sink) {
                hermes::Step::More => None,
                hermes::Step::At(at) => Some(at),
                hermes::Step::Leave(at) => {
                    let wrappers = hermes.wrappers;
                    self.after_call(wrappers, true);
                    Some(at)
                }
                hermes::Step::Reject(at) => {
                    let raw = hermes.take_raw();
                    self.state = State::Prose;
                    self.release(raw);
                    Some(at)
                }
            },
            &mut State::AfterCall { closers, wrapped } => {
                let gap = text.len() - text.trim_ascii_start().len();
                if gap > 0 {
                    return Some(at + gap);
                }
                if closers > 0 {
                    match literal(text, &["</tool_call>"]) {
                        Look::Yes(length) => {
                            self.after_call(closers - 1, wrapped && closers > 1);
                            return Some(at + length);
                        }
                        Look::More if !end => return None,
                        // A closer that was cut.
                        Look::More if text.len() > 1 => return Some(at + text.len()),
                        _ => {}
                    }
                }
                if wrapped {
                    match open::wrapped(text, &self.tools) {
                        Look::Yes(opening) => {
                            return Some(self.open(opening, window, at..at, closers));
                        }
                        Look::More if !end => return None,
                        _ => {}
                    }
                }
                self.state = State::Prose;
                Some(at)
            }
        }
    }

    fn think(&mut self, window: Window<'_>, at: usize, end: bool) -> Option<usize> {
        let text = &window.text()[at..];
        let mut from = 0;
        let (stop, read) = loop {
            let Some(found) = memchr(b'<', &text.as_bytes()[from..]) else {
                break (text.len(), text.len());
            };
            let tag = from + found;
            match literal(&text[tag..], &["</think>"]) {
                Look::Yes(length) => {
                    self.state = State::AfterThink;
                    break (tag, tag + length);
                }
                Look::More if !end => break (tag, tag),
                _ => from = tag + 1,
            }
        };
        window.each(at..at + stop, |text| self.sink.items.push_back(Item::Reasoning(text)));
        (read > 0).then_some(at + read)
    }

    fn prose(&mut self, window: Window<'_>, at: usize, end: bool) -> Option<usize> {
        let text = &window.text()[at..];
        let bytes = text.as_bytes();
        let (mut lines, mut tracked) = (self.lines, 0);
        let mut from = 0;
        loop {
            let found = memchr(b'<', &bytes[from..]).map(|found| from + found);
            let tag = found.unwrap_or(text.len());
            // Blanks before an opener are not content, so they wait with it (rule 5).
            let blank = self.blanks_before(&text[..tag]);
            lines.advance(&text[tracked..blank]);
            let before = lines;
            lines.advance(&text[blank..tag]);
            tracked = tag;
            if found.is_none() {
                let holds = !end && before.allows_after_blanks();
                let (stop, lines) = if holds { (blank, before) } else { (tag, lines) };
                self.leave(window, at, stop, lines);
                return (stop > 0).then_some(at + stop);
            }
            let look = if lines.allows_opener() {
                open::opener(&text[tag..], &self.tools)
            } else {
                Look::No
            };
            match look {
                Look::Yes(opening) => {
                    self.leave(window, at, blank, before);
                    return Some(self.open(opening, window, at + blank..at + tag, 0));
                }
                Look::More if !end => {
                    self.leave(window, at, blank, before);
                    return (blank > 0).then_some(at + blank);
                }
                Look::More | Look::No => {
                    let rest = &text[tag..];
                    if lines.allows_opener()
                        && ["<tool_call>", "<function="].iter().any(|mark| rest.starts_with(mark))
                    {
                        self.sink.released += 1;
                    }
                    from = tag + 1;
                }
            }
        }
    }

    /// Where the blanks at the end of `text` begin, as far as they may have to wait.
    fn blanks_before(&self, text: &str) -> usize {
        let start = text.trim_ascii_end().len();
        let content = (start == 0 && self.in_blanks) || text.len() - start > BLANK_LIMIT;
        if content { text.len() } else { start }
    }

    /// Lets the first `stop` bytes after `at` go as prose.
    fn leave(&mut self, window: Window<'_>, at: usize, stop: usize, lines: Lines) {
        if stop > 0 {
            let last = window.text().as_bytes()[at + stop - 1];
            self.in_blanks = last.is_ascii_whitespace();
            self.lines = lines;
            window.each(at..at + stop, |text| self.sink.items.push_back(Item::Text(text)));
        }
    }

    /// Lets held text of what was no call go as prose.
    fn release(&mut self, texts: Vec<Text>) {
        self.sink.released += 1;
        for text in texts {
            self.lines.advance(&text);
            self.in_blanks = text.as_bytes().last().is_some_and(u8::is_ascii_whitespace);
            self.sink.push(Item::Text(text));
        }
    }

    /// Opens a call after `blanks`, inside of `closers` wrappers that are open already; the place
    /// where its text goes on.
    fn open(
        &mut self,
        opening: Opening,
        window: Window<'_>,
        blanks: Range<usize>,
        closers: u8,
    ) -> usize {
        let at = blanks.end;
        match opening {
            Opening::Tags { dialect, name, length, wrappers } => {
                let form = match dialect {
                    body::Dialect::Coder => Form::Coder,
                    body::Dialect::Tags => Form::Tags,
                };
                self.sink.push(Item::Call { name: name.as_str().into(), form });
                self.state = State::Body(Body::new(dialect, name, wrappers + closers));
                at + length
            }
            Opening::Json { length, array, wrappers } => {
                let mut hermes = Box::new(Hermes::new(array, wrappers + closers));
                // It may still turn out to be text, with the blanks before it.
                window.each(blanks.start..at + length, |text| hermes.keep(text));
                self.state = State::Hermes(hermes);
                at + length
            }
        }
    }

    fn after_call(&mut self, closers: u8, wrapped: bool) {
        self.state = State::AfterCall { closers, wrapped };
        self.lines = Lines::default();
        self.in_blanks = false;
    }
}

/// A think tag at the very start, after blanks (rule 9): the state after it, and its end.
fn start(text: &str, think_is_a_tool: bool) -> Look<(State, usize)> {
    tag::blanks(text).and_then(|gap| {
        let rest = &text[gap..];
        let opening = || match think_is_a_tool {
            true => Look::No,
            false => literal(rest, &["<think>"]).map(|length| (State::Think, gap + length)),
        };
        literal(rest, &["</think>"]).map(|length| (State::AfterThink, gap + length)).or(opening)
    })
}

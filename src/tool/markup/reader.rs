//! The states of an answer, and where its text goes in each.

use std::{mem, ops::Range};

use memchr::{memchr, memchr3};

use super::{
    body::{self, Body},
    hermes::{self, Hermes},
    lines::Lines,
    opener::{Opened, Openers, Opening},
    sink::{Close, Dialect, Names, Sink},
    tag::{self, BLANK_LIMIT, Look, declared_tag, is_blank, literal},
    window::{GROWTH, Held, Window, floor},
};
use crate::{
    Text,
    closer::{Closer, Part},
};

/// Finds calls in text that comes in pieces, and tells a [`Sink`] of them.
///
/// Any cut of the same text comes to the same. Time is linear in the text. Held back is at most
/// undecided markup, as a rule a tag and never more than 2,401 bytes (blanks, five wrappers with
/// blanks, two tags with a long name), and a call in JSON until it is known to be one.
#[derive(Debug)]
pub(in crate::tool) struct Reader<S> {
    pub(in crate::tool) sink: S,
    state: State,
    held: Held,
    /// Where prose stands in Markdown, up to what has left.
    lines: Lines,
    /// Whether the prose that has left ended in the middle of blanks that are content.
    in_blanks: bool,
    /// What was held as a call in JSON and is none, until it is read again.
    rejected: Vec<Text>,
    /// How much of the text that is looked at next is read again.
    again: usize,
    /// Whether the end of the text confirms an opener.
    end_confirms: bool,
    released: u64,
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
    /// In a call that passes.
    Pass,
    /// After a call: blanks are dropped, and so are closers, of which `closers` wrappers are
    /// expected.
    AfterCall {
        closers: u8,
        wrapped: bool,
    },
    /// Nothing is wanted any more.
    Done,
}

impl<S: Sink> Reader<S> {
    /// A reader for the start of an answer.
    pub(in crate::tool) fn new(sink: S) -> Self {
        Self::starting(sink, State::Start)
    }

    /// A reader for text in which a think block means nothing, such as reasoning itself.
    #[cfg(feature = "tool-call")]
    pub(in crate::tool) fn without_think(sink: S) -> Self {
        Self::starting(sink, State::Prose)
    }

    fn starting(sink: S, state: State) -> Self {
        Self {
            sink,
            state,
            held: Held::default(),
            lines: Lines::default(),
            in_blanks: false,
            rejected: Vec::new(),
            again: 0,
            end_confirms: false,
            released: 0,
        }
    }

    /// Whether a call has begun and not ended.
    #[cfg(feature = "tool-call")]
    pub(in crate::tool) fn in_call(&self) -> bool {
        matches!(self.state, State::Body(_) | State::Hermes(_) | State::Pass)
    }

    /// How often markup that looked like a call has been released as text.
    #[cfg(feature = "tool-call")]
    pub(in crate::tool) fn released(&self) -> u64 {
        self.released
    }

    /// How many bytes are held back as undecided.
    pub(in crate::tool) fn held(&self) -> usize {
        self.held.len()
    }

    /// How many bytes are kept of what may be a call in JSON.
    #[cfg(feature = "tool-wrap")]
    pub(in crate::tool) fn kept(&self) -> usize {
        match &self.state {
            State::Hermes(hermes) => hermes.kept(),
            _ => 0,
        }
    }

    /// Whether nothing more is read.
    #[cfg(feature = "tool-wrap")]
    pub(in crate::tool) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Reads nothing more.
    #[cfg(feature = "tool-wrap")]
    pub(in crate::tool) fn stop(&mut self) {
        self.state = State::Done;
    }

    /// Takes the next piece of text.
    #[inline]
    pub(in crate::tool) fn push(&mut self, piece: &Text) {
        let mut at = 0;
        while at < piece.len() {
            if !self.held.is_empty() {
                let grow = floor(&piece[at..], GROWTH);
                self.held.push(piece.slice(at..at + grow));
                at += grow;
                self.look_at_held(false);
                continue;
            }
            at += match at {
                0 => self.look(Window::of(piece), false),
                _ => self.look(Window::of(&piece.slice(at..)), false),
            };
            if !self.rejected.is_empty() {
                self.take_back();
                self.look_at_held(false);
            } else if at < piece.len() {
                self.held.push(if at == 0 { piece.clone() } else { piece.slice(at..) });
                return;
            }
        }
    }

    /// Takes the next piece of text if it is what most are, plain prose, which leaves as it is:
    /// then the sink is not told of it.
    #[inline]
    pub(in crate::tool) fn passes(&mut self, piece: &Text) -> bool {
        let waits = || S::RULES.trims_before_calls && piece.ends_with(char::is_whitespace);
        let is_prose = matches!(self.state, State::Prose) && self.held.is_empty();
        if !is_prose || piece.is_empty() || waits() {
            return false;
        }
        let bytes = piece.as_bytes();
        let found = memchr3(b'<', b'\n', b'`', bytes);
        if found.is_some_and(|at| bytes[at] == b'<' || memchr(b'<', &bytes[at..]).is_some()) {
            return false;
        }
        // Most pieces are the inside of a line.
        if found.is_some() || !self.lines.is_inside() {
            self.lines.advance(piece);
        }
        self.in_blanks = false;
        true
    }

    /// Lets go of what is held, without ending a call that is open. `confirms` says whether an
    /// opener that nothing follows is one.
    pub(in crate::tool) fn release(&mut self, confirms: bool) {
        self.end_confirms = confirms;
        self.look_at_held(true);
        if let State::Hermes(hermes) = &self.state
            && !hermes.is_announced()
        {
            self.reject();
            self.take_back();
            self.look_at_held(true);
        }
    }

    /// Ends the text: what is held leaves, an open call is closed. Afterwards the reader is where
    /// it is after a sentence, so text may be pushed again.
    pub(in crate::tool) fn finish(&mut self, confirms: bool) {
        self.release(confirms);
        match mem::replace(&mut self.state, State::Prose) {
            State::Body(body) => {
                self.sink.close(if body.is_whole() { Close::Whole } else { Close::Cut });
            }
            State::Hermes(mut hermes) => hermes.finish(&mut self.sink),
            State::Pass => self.sink.close(Close::Whole),
            _ => {}
        }
        self.lines = Lines::default();
        self.in_blanks = false;
        self.again = 0;
    }

    /// What was held as a call in JSON is none.
    fn reject(&mut self) {
        if let State::Hermes(hermes) = &mut self.state {
            self.rejected = hermes.take_raw();
            self.released += 1;
            self.state = State::Prose;
        }
    }

    /// Puts what was rejected in front of what is held, to be read again.
    fn take_back(&mut self) {
        let rejected = mem::take(&mut self.rejected);
        self.again += rejected.iter().map(|text| text.len()).sum::<usize>();
        self.held.put_back(rejected);
    }

    fn look_at_held(&mut self, end: bool) {
        loop {
            let mut held = mem::take(&mut self.held);
            let read = self.look(held.window(), end);
            held.consume(read);
            self.held = held;
            if self.rejected.is_empty() {
                return;
            }
            self.take_back();
        }
    }

    /// Looks at as much of the text as can be decided; how much that was.
    #[inline]
    fn look(&mut self, window: Window<'_>, end: bool) -> usize {
        let mut at = 0;
        while at < window.text().len() && self.rejected.is_empty() {
            let Some(next) = self.step(window, at, end) else { break };
            self.again = self.again.saturating_sub(next - at);
            at = next;
        }
        at
    }

    /// Decides something about the text from `at` on, or says that it takes more text. At the
    /// end of the text everything is decided.
    fn step(&mut self, window: Window<'_>, at: usize, end: bool) -> Option<usize> {
        let text = &window.text()[at..];
        match &mut self.state {
            State::Start => {
                let gap = text.len() - text.trim_start_matches(is_blank).len();
                if S::RULES.trims_start && gap > 0 {
                    return Some(at + gap);
                }
                let (state, read) = match start(text, self.sink.names().tool("think").is_some()) {
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
                if S::RULES.trims_start {
                    self.state = State::Start;
                } else if gap < text.len() {
                    self.state = State::Prose;
                }
                Some(at + gap)
            }
            State::Prose => self.prose(window, at, end),
            State::Body(body) => match body.step(window, at, end, &mut self.sink) {
                body::Step::More => None,
                body::Step::At(at) => Some(at),
                body::Step::Leave { at, closed_wrapper } => {
                    let closers = body.wrappers.max(1) - u8::from(closed_wrapper);
                    let wrapped = body.wrappers > u8::from(closed_wrapper);
                    self.sink.close(Close::Own);
                    self.after_call(closers, wrapped);
                    Some(at)
                }
            },
            State::Hermes(hermes) => {
                let (read, then) = hermes.step(window, at, end, &mut self.sink);
                match then {
                    hermes::Then::More if read == 0 => return None,
                    hermes::Then::More | hermes::Then::GoesOn | hermes::Then::Another => {}
                    hermes::Then::Leave => {
                        let wrappers = hermes.wrappers;
                        self.after_call(wrappers, true);
                    }
                    hermes::Then::Reject => self.reject(),
                }
                Some(at + read)
            }
            State::Pass => {
                let closed = self.sink.pass(window, at);
                if closed.is_some() {
                    self.sink.close(Close::Own);
                    self.after_call(0, false);
                }
                Some(closed.unwrap_or(window.text().len()))
            }
            &mut State::AfterCall { closers, wrapped } => {
                let gap = text.len() - text.trim_start().len();
                if gap > 0 {
                    return Some(at + gap);
                }
                match Closer::at(text) {
                    Closer::Whole { len, part } => {
                        let closed = u8::from(part == Part::Wrapper);
                        self.after_call(
                            closers.saturating_sub(closed),
                            wrapped && closers > closed,
                        );
                        return Some(at + len);
                    }
                    Closer::Half if !end => return None,
                    // A closer that was cut.
                    Closer::Half
                        if text.len() > 1 && literal(text, &["</tool_call>"]) == Look::More =>
                    {
                        return Some(at + text.len());
                    }
                    _ => {}
                }
                // Models write the opener again in a closer's place. It is one where nothing follows.
                match literal(text, &["<tool_call>"]) {
                    Look::Yes(length)
                        if text.len() <= length + BLANK_LIMIT
                            && text[length..].trim_start().is_empty() =>
                    {
                        return end.then_some(at + text.len());
                    }
                    Look::More if !end => return None,
                    _ => {}
                }
                // That of a call in tags of its own, once more.
                match declared_tag(text, "</", self.sink.names()) {
                    Look::Yes((length, _)) => return Some(at + length),
                    Look::More if !end => return None,
                    _ => {}
                }
                if wrapped {
                    match self.openers(false).inside(text, 0) {
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
            State::Done => Some(window.text().len()),
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
        if stop > 0 {
            self.sink.reasoning(window, at..at + stop);
        }
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
            let rest = &text[tag..];
            let quoted = !lines.allows_opener() || tag < self.again;
            let look = match quoted && !S::RULES.passes_xml {
                true => Look::No,
                false => self.openers(quoted).at(rest),
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
                    if S::RULES.passes_xml
                        && let Look::Yes(_) = declared_tag(rest, "<", self.sink.names())
                    {
                        self.leave(window, at, tag, lines);
                        lines.advance("<");
                        self.lines = lines;
                        self.sink.mention();
                        return Some(at + tag + 1);
                    }
                    if !quoted
                        && ["<tool_call>", "<function="].iter().any(|mark| rest.starts_with(mark))
                    {
                        self.released += 1;
                    }
                    from = tag + 1;
                }
            }
        }
    }

    /// What looks for openers; where Markdown quotes, for those only that the client sees there.
    fn openers(&self, quoted: bool) -> Openers<'_, S::Names> {
        Openers {
            names: self.sink.names(),
            only_xml: quoted,
            any_name: S::RULES.any_name,
            end_confirms: self.end_confirms,
        }
    }

    /// Where the blanks at the end of `text` begin, as far as they may have to wait: before an
    /// opener they are no content.
    fn blanks_before(&self, text: &str) -> usize {
        // Most text ends with something to see.
        if text.as_bytes().last().is_none_or(u8::is_ascii_graphic) {
            return text.len();
        }
        let start = text.trim_end().len();
        let content = !S::RULES.trims_before_calls
            || (start == 0 && self.in_blanks)
            || text.len() - start > BLANK_LIMIT;
        if content { text.len() } else { start }
    }

    /// Lets the first `stop` bytes after `at` go as prose.
    fn leave(&mut self, window: Window<'_>, at: usize, stop: usize, lines: Lines) {
        if stop > 0 {
            self.in_blanks = window.text()[..at + stop].ends_with(char::is_whitespace);
            self.lines = lines;
            self.sink.text(window, at..at + stop);
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
        let at = blanks.end + opening.length;
        let wrappers = opening.wrappers + closers;
        self.state = match opening.call {
            Opened::Tags { dialect, name } => {
                self.sink.call(&name, dialect);
                match dialect {
                    Dialect::Xml if S::RULES.passes_xml => State::Pass,
                    _ => State::Body(Body::new(dialect, name, wrappers)),
                }
            }
            Opened::Json { array } => {
                let mut hermes = Box::new(Hermes::new(array, wrappers));
                // It may still turn out to be text, with the blanks before it.
                window.each(blanks.start..at, |text| hermes.keep(text));
                State::Hermes(hermes)
            }
        };
        at
    }

    fn after_call(&mut self, closers: u8, wrapped: bool) {
        self.state = match S::RULES.one_call {
            true => State::Done,
            false => State::AfterCall { closers, wrapped },
        };
        self.lines = Lines::default();
        self.in_blanks = false;
    }
}

/// A think tag at the very start, after blanks: the state after it, and its end.
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

#[cfg(all(test, feature = "tool-call"))]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{super::sink::Rules, *};
    use crate::{
        chat::{FunctionTool, Tool},
        tool::scan::Toolset,
    };

    /// A sink that wants to know nothing.
    struct Nothing(Toolset);

    impl Sink for Nothing {
        const RULES: Rules = Rules::GIVES;

        type Names = Toolset;

        fn names(&self) -> &Toolset {
            &self.0
        }

        fn text(&mut self, _: Window<'_>, _: Range<usize>) {}
        fn reasoning(&mut self, _: Window<'_>, _: Range<usize>) {}
        fn call(&mut self, _: &str, _: Dialect) {}
        fn begin(&mut self, _: &str) {}
        fn value(&mut self, _: Window<'_>, _: Range<usize>) {}
        fn whole(&mut self, _: &str) {}
        fn end(&mut self) {}
        fn close(&mut self, _: Close) {}

        fn json<R>(&mut self, write: impl FnOnce(&mut String) -> R) -> R {
            write(&mut String::new())
        }
    }

    /// Every line of a value that looks like a parameter is looked up among them, so time would
    /// not be linear if a model could make them many.
    #[test]
    fn keys_are_remembered_once_and_only_if_they_are_declared() {
        let schema = json!({"properties": {"path": {"type": "string"}}});
        let tools = vec![Tool::Function(FunctionTool::new("read", schema))];
        let mut reader = Reader::new(Nothing(Toolset::new(Arc::new(tools))));
        reader.push(&"<function=read>".into());
        for n in 0..1000 {
            reader.push(&format!("<parameter=k{n}>x</parameter>").into());
            reader.push(&"<parameter=path>x</parameter>".into());
        }
        reader.push(&"<parameter=path>".into());
        let State::Body(body) = &reader.state else { panic!("{:?}", reader.state) };
        assert!(body.used.len() == 1 && body.used.contains("path"));
    }
}

use std::{collections::VecDeque, sync::Arc};

use super::{
    Vocabulary,
    coder::Coder,
    fence::Fence,
    held::{BLANKS, Held},
    json::{Json, Progress},
    memory::{Memory, is_blank},
    output::{Output, Piece},
};
use crate::Text;

const THINK: &str = "<think>";
const THINK_END: &str = "</think>";
const WRAPPER: &str = "<tool_call>";
const FUNCTION: &str = "<function=";

/// Turns a reply into one that holds exactly one call for an XML client, as it streams.
///
/// The sans-I/O core of [`ToolWrapLayer`](super::ToolWrapLayer): pieces of text in, pieces of
/// text out. It runs the client's own automaton (tool-calls.md d.2) over what it lets out, and
/// so knows at the end whether the client has seen a call; the rules are those of e.1.
///
/// The output does not depend on where the input is cut, and takes time linear in it. What is
/// kept back is at most an opener and what decides about it: `<tool_call>`, 256 blanks, a tag, 256
/// blanks and another tag; for a call in JSON, up to 64 KiB until its name is there. Memory is
/// that much, 256 KiB for the text that the completion repeats, and the lead window.
///
/// ```
/// use std::{collections::VecDeque, sync::Arc};
/// use tower_qwen::tool::{
///     internals::{Automaton, End, Outcome, Piece},
///     wrap::Vocabulary,
/// };
///
/// let mut automaton = Automaton::new(Arc::new(Vocabulary::roo_code()));
/// let mut queue = VecDeque::new();
/// automaton.push(&"Two and two ".into(), &mut queue);
/// automaton.push(&"is four.".into(), &mut queue);
/// let outcome = automaton.finish(End::Complete, &mut queue);
///
/// let reply: String = queue
///     .iter()
///     .map(|piece| match piece {
///         Piece::Text(text) => text.as_str(),
///         _ => "",
///     })
///     .collect();
/// assert_eq!(outcome, Outcome::Completed);
/// assert_eq!(
///     reply,
///     "Two and two is four.\n\n<attempt_completion>\n<result>\nTwo and two is four.\n</result>\n\
///      </attempt_completion>",
/// );
/// ```
#[derive(Debug)]
pub struct Automaton {
    vocabulary: Arc<Vocabulary>,
    state: State,
    held: Held,
    fence: Fence,
    memory: Memory,
    outcome: Outcome,
    /// Whether native forms count at the place where a tag begins.
    foreign: bool,
    /// Whether what is read was held as a call in JSON and is none.
    replaying: bool,
    window: Window,
}

/// How a reply ended upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The model was done.
    Complete,
    /// The token limit, or a filter: what is open stays open.
    Cut,
}

/// What a reply came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It held a call in the client's tags, which passed unchanged.
    Call,
    /// It held a call in one of the models' own forms, which was rewritten.
    Rewritten,
    /// It held no call, and a completion was appended.
    Completed,
    /// It held nothing visible, and was left empty: the client asks again by itself.
    Empty,
}

impl Outcome {
    /// The word in the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Rewritten => "rewritten",
            Self::Completed => "completed",
            Self::Empty => "empty",
        }
    }
}

#[derive(Debug)]
enum State {
    /// Nothing visible yet.
    Lead,
    /// In the think block at the start.
    Think,
    Text,
    /// What may become an opener is held, from `tag` on; before it a wrapper and blanks.
    Opener {
        tag: usize,
    },
    /// A wrapper is held, and blanks.
    Wrapper,
    /// An opener is held, and what follows decides.
    Guard(Guard),
    /// In a call in the client's tags, which passes.
    Call(Call),
    Json(Box<Json>),
    Coder(Box<Coder>),
    /// The call is complete. Nothing follows it.
    Done,
}

/// An opener of `tool` from `tag` to `end` of what is held.
#[derive(Clone, Copy, Debug)]
struct Guard {
    tool: usize,
    /// Whether it is the client's tag, or `<function=NAME>`.
    client: bool,
    tag: usize,
    end: usize,
    /// Where the tag behind it begins, blanks aside.
    next: Option<usize>,
}

/// Where the client is in a call.
#[derive(Debug)]
struct Call {
    tool: usize,
    /// The open parameter.
    parameter: Option<usize>,
    /// What may become a tag; it has been let out.
    tag: String,
}

/// What is held at the start of the reply so that a short one need not be repeated.
#[derive(Debug)]
struct Window {
    size: usize,
    length: usize,
    pieces: VecDeque<Piece>,
    open: bool,
}

enum Tag {
    No,
    Prefix,
    Think,
    ThinkEnd,
    Wrapper,
    Client(usize),
    Coder(usize),
}

impl Automaton {
    /// An automaton for one reply to a client with this vocabulary.
    #[must_use]
    pub fn new(vocabulary: Arc<Vocabulary>) -> Self {
        Self {
            vocabulary,
            state: State::Lead,
            held: Held::default(),
            fence: Fence::default(),
            memory: Memory::default(),
            outcome: Outcome::Empty,
            foreign: true,
            replaying: false,
            window: Window { size: 0, length: 0, pieces: VecDeque::new(), open: false },
        }
    }

    /// Keeps the first `bytes` of visible text back (0 by default): a reply that ends within them
    /// becomes its completion alone, so that nothing is shown twice. Longer ones, and replies
    /// with a call, leave as without it, only later.
    #[must_use]
    pub fn lead_window(mut self, bytes: usize) -> Self {
        self.window.size = bytes;
        self.window.open = bytes > 0;
        self
    }

    /// How many bytes are kept back at the moment, the lead window aside.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.state {
            State::Json(json) => json.held(),
            State::Coder(coder) => coder.held(),
            _ => self.held.len(),
        }
    }

    /// Whether the reply's call is complete, so that nothing more will be let out.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the reply's call has begun.
    fn has_call(&self) -> bool {
        matches!(self.outcome, Outcome::Call | Outcome::Rewritten)
    }

    /// Reads a piece of the reply's text, and puts what may leave at the end of `queue`.
    pub fn push(&mut self, piece: &Text, queue: &mut VecDeque<Piece>) {
        if self.is_done() {
            return;
        }
        let from = queue.len();
        self.scan(piece, queue);
        self.window(from, queue);
    }

    /// The upstream calls a tool by its own means; the arguments follow as
    /// [`native_arguments`](Automaton::native_arguments).
    ///
    /// Such calls are only made if someone else gave the upstream tools. The first becomes the
    /// reply's call if the client knows the tool and the text holds none; `false` if not.
    pub fn native_call(&mut self, name: &str, queue: &mut VecDeque<Piece>) -> bool {
        let Some(tool) = self.vocabulary.tool(name).filter(|_| !self.has_call()) else {
            return false;
        };
        let from = queue.len();
        self.release(queue);
        if self.has_call() {
            return false;
        }
        let vocabulary = Arc::clone(&self.vocabulary);
        let input = Text::new();
        let mut out = Output::new(&input, queue);
        if !self.memory.is_empty() {
            out.constant("\n\n");
        }
        self.outcome = Outcome::Rewritten;
        self.state = State::Json(Box::new(Json::native(tool, &vocabulary, &mut out)));
        drop(out);
        self.window(from, queue);
        true
    }

    /// A piece of the JSON arguments of the upstream's own call, if it became the reply's.
    pub fn native_arguments(&mut self, json: &str, queue: &mut VecDeque<Piece>) {
        let vocabulary = Arc::clone(&self.vocabulary);
        let input = Text::new();
        let mut out = Output::new(&input, queue);
        if let State::Json(call) = &mut self.state
            && call.push(json, &vocabulary, &mut out).0 == Progress::Done
        {
            self.state = State::Done;
        }
    }

    /// The end of the reply: lets out what is held, closes what is open, and appends a completion
    /// if there is text and no call (rule 6). A second call does nothing.
    pub fn finish(&mut self, end: End, queue: &mut VecDeque<Piece>) -> Outcome {
        let from = queue.len();
        let complete = end == End::Complete;
        let vocabulary = Arc::clone(&self.vocabulary);
        // An opener that ends the reply is what the client takes it for: a call (rule 7).
        if let State::Guard(guard @ Guard { client: true, .. }) = self.state {
            let input = Text::new();
            let mut out = Output::new(&input, queue);
            self.held.carry();
            self.held.emit(self.call_start(guard), self.held.len(), 0, &mut out);
            self.enter_call(guard, None);
        }
        self.release_undecided(queue);
        let input = Text::new();
        let mut out = Output::new(&input, queue);
        match std::mem::replace(&mut self.state, State::Done) {
            State::Call(call) if complete => call.close(&vocabulary, &mut out),
            State::Json(mut json) => {
                json.finish(complete, &vocabulary, &mut out);
            }
            State::Coder(mut coder) => coder.finish(complete, &vocabulary, &mut out),
            State::Text if !self.memory.is_empty() => {
                self.outcome = Outcome::Completed;
                drop(out);
                self.complete(from, queue);
                return self.outcome;
            }
            _ => {}
        }
        drop(out);
        self.window(from, queue);
        self.flush_window(queue);
        self.outcome
    }

    /// The reply failed: lets out what is held, and appends nothing. A tag whose meaning was not
    /// decided leaves as text.
    pub fn abort(&mut self, queue: &mut VecDeque<Piece>) {
        let from = queue.len();
        self.release(queue);
        self.state = State::Done;
        self.window(from, queue);
        self.flush_window(queue);
    }

    // ---- output ----

    /// Takes what was put behind `from` into the window, or lets the window go.
    fn window(&mut self, from: usize, queue: &mut VecDeque<Piece>) {
        if !self.window.open {
            return;
        }
        let new = queue.split_off(from);
        for piece in new {
            match piece {
                Piece::Text(text) => {
                    self.window.length += text.len();
                    self.window.pieces.push_back(Piece::Text(text));
                }
                reasoning => queue.push_back(reasoning),
            }
        }
        if self.has_call() || self.window.length > self.window.size {
            self.flush_window(queue);
        }
    }

    fn flush_window(&mut self, queue: &mut VecDeque<Piece>) {
        self.window.open = false;
        queue.append(&mut self.window.pieces);
    }

    /// Appends the completion; in place of the text, where that is still in the window.
    fn complete(&mut self, from: usize, queue: &mut VecDeque<Piece>) {
        self.window(from, queue);
        let start = if self.window.open {
            self.window.pieces.clear();
            self.window.open = false;
            "<attempt_completion>\n<result>\n"
        } else {
            "\n\n<attempt_completion>\n<result>\n"
        };
        let result = self.memory.result();
        let end = "\n</result>\n</attempt_completion>";
        let mut text = String::with_capacity(start.len() + result.len() + end.len());
        [start, &result, end].iter().for_each(|part| text.push_str(part));
        queue.push_back(Piece::Text(text.into()));
    }

    /// Lets out part of the input as visible text.
    fn text(&mut self, start: usize, end: usize, out: &mut Output<'_>) {
        if start < end {
            let text = &out.input()[start..end];
            self.fence.push(text);
            self.memory.push(text);
            out.slice(start, end);
        }
    }

    /// Lets out part of what is held as visible text.
    fn held_text(&mut self, start: usize, end: usize, at: usize, out: &mut Output<'_>) {
        let text = &self.held.as_str()[start..end];
        self.fence.push(text);
        self.memory.push(text);
        self.held.emit(start, end, at, out);
    }

    /// All that is held is text, or reasoning.
    fn release_held(&mut self, at: usize, out: &mut Output<'_>) {
        if let State::Think = self.state {
            self.held.emit_reasoning(at, out);
        } else if !self.held.is_empty() {
            self.held_text(0, self.held.len(), at, out);
            self.state = State::Text;
        }
        self.held.clear();
    }

    /// Lets out what is held without a decision, so that the state is one of text or of a call.
    fn release(&mut self, queue: &mut VecDeque<Piece>) {
        self.release_undecided(queue);
        let complete = false;
        let vocabulary = Arc::clone(&self.vocabulary);
        let input = Text::new();
        let mut out = Output::new(&input, queue);
        match &mut self.state {
            State::Json(json) => {
                json.finish(complete, &vocabulary, &mut out);
            }
            State::Coder(coder) => coder.finish(complete, &vocabulary, &mut out),
            _ => {}
        }
    }

    fn release_undecided(&mut self, queue: &mut VecDeque<Piece>) {
        if let State::Json(json) = &self.state
            && !json.is_announced()
        {
            let State::Json(json) = std::mem::replace(&mut self.state, State::Text) else {
                return;
            };
            self.replay(json.into_raw(), queue);
        }
        self.held.carry();
        let input = Text::new();
        let mut out = Output::new(&input, queue);
        // Where one mention is decided, the tag behind it may be another opener.
        while let State::Guard(guard) = self.state {
            self.mention(guard, 0, &mut out);
        }
        match self.state {
            State::Opener { .. } | State::Wrapper | State::Think => self.release_held(0, &mut out),
            _ => {}
        }
    }

    // ---- input ----

    fn scan(&mut self, piece: &Text, queue: &mut VecDeque<Piece>) {
        let mut out = Output::new(piece, queue);
        let mut at = 0;
        while at < piece.len() {
            at = match &mut self.state {
                State::Lead => self.lead(at, &mut out),
                State::Think => self.think(at, &mut out),
                State::Text => self.plain(at, &mut out),
                State::Opener { .. } => self.opener(at, &mut out),
                State::Wrapper => self.wrapper(at, &mut out),
                State::Guard(guard) => {
                    let guard = *guard;
                    self.guard(guard, at, &mut out)
                }
                State::Call(call) => {
                    let end = call.push(&self.vocabulary, piece.as_bytes(), at);
                    out.slice(at, end.unwrap_or(piece.len()));
                    if end.is_some() {
                        self.state = State::Done;
                    }
                    end.unwrap_or(piece.len())
                }
                State::Json(_) => self.json(at, &mut out),
                State::Coder(coder) => {
                    let end = coder.push(&self.vocabulary, &mut out, at);
                    if coder.is_done() {
                        self.state = State::Done;
                    }
                    end
                }
                State::Done => break,
            };
        }
        self.held.carry();
        if let State::Coder(coder) = &mut self.state {
            coder.carry();
        }
    }

    /// Rule 1: blanks are dropped, a think block goes to the reasoning.
    fn lead(&mut self, at: usize, out: &mut Output<'_>) -> usize {
        let text = &out.input()[at..];
        let skipped = text.len() - text.trim_start_matches(is_blank).len();
        if skipped < text.len() && text.as_bytes()[skipped] != b'<' {
            self.state = State::Text;
        } else if skipped < text.len() {
            return self.open_tag(at + skipped);
        }
        at + skipped
    }

    fn think(&mut self, at: usize, out: &mut Output<'_>) -> usize {
        let bytes = out.input().as_bytes();
        if self.held.is_empty() {
            let end = memchr::memchr(b'<', &bytes[at..]).map_or(bytes.len(), |next| at + next);
            out.reasoning_slice(at, end);
            if end < bytes.len() {
                self.held.push(b'<');
                return end + 1;
            }
            return end;
        }
        let byte = bytes[at];
        if THINK_END.as_bytes().get(self.held.len()) != Some(&byte) {
            self.release_held(at, out);
            return at;
        }
        self.held.push(byte);
        if self.held.len() == THINK_END.len() {
            self.held.clear();
            self.state = State::Lead;
        }
        at + 1
    }

    fn plain(&mut self, at: usize, out: &mut Output<'_>) -> usize {
        let bytes = out.input().as_bytes();
        let end = memchr::memchr(b'<', &bytes[at..]).map_or(bytes.len(), |next| at + next);
        self.text(at, end, out);
        if end < bytes.len() { self.open_tag(end) } else { end }
    }

    /// A `<` at `at` may begin an opener.
    fn open_tag(&mut self, at: usize) -> usize {
        // What a client executes it executes in fences, too; the models' own forms are nothing
        // to the client, so there they are what fences are for: examples.
        self.foreign = !self.replaying && !self.fence.quotes();
        self.held.push(b'<');
        self.state = State::Opener { tag: 0 };
        at + 1
    }

    fn opener(&mut self, at: usize, out: &mut Output<'_>) -> usize {
        let byte = out.input().as_bytes()[at];
        if byte == b'<' || !byte.is_ascii() {
            self.release_held(at, out);
            return at;
        }
        self.held.push(byte);
        self.decide(at + 1, out);
        at + 1
    }

    /// Decides about the tag that is held.
    fn decide(&mut self, at: usize, out: &mut Output<'_>) {
        let State::Opener { tag } = self.state else { return };
        match self.classify(&self.held.as_str()[tag..], tag > 0) {
            Tag::Prefix => {}
            Tag::No if tag > 0 => {
                // The wrapper is no wrapper; the tag may still be one.
                self.held_text(0, tag, at, out);
                self.held.skip(tag);
                self.state = State::Opener { tag: 0 };
                self.decide(at, out);
            }
            Tag::No => self.release_held(at, out),
            Tag::Think => {
                self.held.clear();
                self.state = State::Think;
            }
            Tag::ThinkEnd => {
                self.held.clear();
                self.state = State::Lead;
            }
            Tag::Wrapper => self.state = State::Wrapper,
            Tag::Client(tool) => self.state = self.guarded(tool, true, tag),
            Tag::Coder(tool) if self.foreign => self.state = self.guarded(tool, false, tag),
            Tag::Coder(_) => self.release_held(at, out),
        }
    }

    fn guarded(&self, tool: usize, client: bool, tag: usize) -> State {
        State::Guard(Guard { tool, client, tag, end: self.held.len(), next: None })
    }

    fn classify(&self, tag: &str, wrapped: bool) -> Tag {
        let name = &tag[1..];
        if let Some(name) = name.strip_suffix('>') {
            if let Some(tool) = self.vocabulary.tool(name) {
                return Tag::Client(tool);
            }
        } else if self.vocabulary.begins_tool(name) {
            return Tag::Prefix;
        }
        if let Some(name) = tag.strip_prefix(FUNCTION) {
            return match name.strip_suffix('>') {
                Some(name) => self.vocabulary.tool(name).map_or(Tag::No, Tag::Coder),
                None if self.vocabulary.begins_tool(name) => Tag::Prefix,
                None => Tag::No,
            };
        }
        if FUNCTION.starts_with(tag) || !wrapped && WRAPPER.starts_with(tag) {
            return if tag == WRAPPER { Tag::Wrapper } else { Tag::Prefix };
        }
        if self.memory.is_empty() && !wrapped {
            match tag {
                THINK => return Tag::Think,
                THINK_END => return Tag::ThinkEnd,
                _ if THINK.starts_with(tag) || THINK_END.starts_with(tag) => return Tag::Prefix,
                _ => {}
            }
        }
        Tag::No
    }

    /// Behind `<tool_call>`: only a call's beginning makes it one (rule 8).
    fn wrapper(&mut self, at: usize, out: &mut Output<'_>) -> usize {
        let byte = out.input().as_bytes()[at];
        match byte {
            b'{' | b'[' if self.foreign => {
                self.state = State::Json(Box::new(Json::new(self.held.as_str())));
                self.held.clear();
                at
            }
            b'<' => {
                self.state = State::Opener { tag: self.held.len() };
                self.held.push(byte);
                at + 1
            }
            _ if byte.is_ascii_whitespace() && self.held.len() < WRAPPER.len() + BLANKS => {
                self.held.push(byte);
                at + 1
            }
            _ => {
                self.release_held(at, out);
                at
            }
        }
    }

    /// Behind an opener: only a parameter or its closer makes it one (rule 7).
    fn guard(&mut self, mut guard: Guard, at: usize, out: &mut Output<'_>) -> usize {
        let byte = out.input().as_bytes()[at];
        let Some(next) = guard.next else {
            let blank = byte.is_ascii_whitespace() && self.held.len() < guard.end + BLANKS;
            if blank || byte == b'<' {
                guard.next = (byte == b'<').then_some(self.held.len());
                self.held.push(byte);
                self.state = State::Guard(guard);
                return at + 1;
            }
            self.mention(guard, at, out);
            return at;
        };
        if byte == b'<' || !byte.is_ascii() {
            self.mention(guard, at, out);
            // The tag that is still held may be the start of another opener, but not with this.
            if let State::Opener { .. } = self.state {
                self.release_held(at, out);
            }
            return at;
        }
        self.held.push(byte);
        let tag = &self.held.as_str()[next + 1..];
        if guard.client {
            let name = self.vocabulary.tool_name(guard.tool);
            if let Some(end) = tag.strip_prefix('/') {
                if end.strip_suffix('>') == Some(name) {
                    self.held.emit(self.call_start(guard), self.held.len(), at + 1, out);
                    self.enter_call(guard, None);
                    self.state = State::Done;
                } else if !name.starts_with(end) {
                    self.mention(guard, at + 1, out);
                }
            } else if let Some(parameter) =
                tag.strip_suffix('>').and_then(|name| self.vocabulary.parameter(name))
            {
                self.held.emit(self.call_start(guard), self.held.len(), at + 1, out);
                self.enter_call(guard, Some(parameter));
            } else if !self.vocabulary.begins_parameter(tag) {
                self.mention(guard, at + 1, out);
            }
        } else {
            let tags = ["parameter=", "/function>"];
            if tags.contains(&tag) {
                let vocabulary = Arc::clone(&self.vocabulary);
                let mut coder = Coder::new(guard.tool, &vocabulary, out);
                coder.begin(tag == tags[0], &vocabulary, out);
                self.outcome = Outcome::Rewritten;
                self.state =
                    if coder.is_done() { State::Done } else { State::Coder(Box::new(coder)) };
                self.held.clear();
            } else if !tags.iter().any(|full| full.starts_with(tag)) {
                self.mention(guard, at + 1, out);
            }
        }
        at + 1
    }

    /// From where on what is held belongs to the call: a wrapper does not, unless it is quoted.
    fn call_start(&self, guard: Guard) -> usize {
        if self.foreign { guard.tag } else { 0 }
    }

    /// The call has passed with what was held of it.
    fn enter_call(&mut self, guard: Guard, parameter: Option<usize>) {
        let mut call = Call { tool: guard.tool, parameter, tag: String::new() };
        if let (None, Some(next)) = (parameter, guard.next) {
            call.tag.push_str(&self.held.as_str()[next..]);
        }
        self.held.clear();
        self.outcome = Outcome::Call;
        self.state = State::Call(call);
    }

    /// What is held only names a tool: it becomes text in which the client sees no tag.
    fn mention(&mut self, guard: Guard, at: usize, out: &mut Output<'_>) {
        if guard.client {
            self.held_text(0, guard.tag, at, out);
            out.constant("&lt;");
            self.memory.push("&lt;");
            self.fence.push("&lt;");
            self.held_text(guard.tag + 1, guard.end, at, out);
        } else {
            self.held_text(0, guard.end, at, out);
        }
        let next = guard.next.unwrap_or(self.held.len());
        self.held_text(guard.end, next, at, out);
        self.held.skip(next);
        self.state = State::Text;
        if !self.held.is_empty() {
            self.foreign = !self.replaying && !self.fence.quotes();
            self.state = State::Opener { tag: 0 };
            self.decide(at, out);
        }
    }

    fn json(&mut self, at: usize, out: &mut Output<'_>) -> usize {
        let State::Json(json) = &mut self.state else { return at };
        let (progress, read) = json.push(&out.input()[at..], &self.vocabulary, out);
        let announced = json.is_announced();
        match progress {
            Progress::Failed => {
                if let State::Json(json) = std::mem::replace(&mut self.state, State::Text) {
                    self.replay(json.into_raw(), out.queue());
                }
            }
            Progress::Done => self.state = State::Done,
            Progress::More => {}
        }
        if announced {
            self.outcome = Outcome::Rewritten;
        }
        at + read
    }

    /// Reads text again that was held as a call in JSON and is none. No native form counts in it,
    /// so nothing is read a third time.
    fn replay(&mut self, raw: String, queue: &mut VecDeque<Piece>) {
        self.state = State::Text;
        self.replaying = true;
        self.scan(&raw.into(), queue);
        self.replaying = false;
    }
}

impl Call {
    /// Follows the client through `bytes` from `at` on; says where the call ends.
    fn push(&mut self, vocabulary: &Vocabulary, bytes: &[u8], mut at: usize) -> Option<usize> {
        while at < bytes.len() {
            if self.tag.is_empty() {
                at += memchr::memchr(b'<', &bytes[at..])?;
            }
            let byte = bytes[at];
            at += 1;
            if byte == b'<' {
                self.tag.clear();
                self.tag.push('<');
                continue;
            }
            if !byte.is_ascii() {
                self.tag.clear();
                continue;
            }
            self.tag.push(char::from(byte));
            match self.parameter {
                Some(parameter) => match self.closes(vocabulary.parameter_name(parameter)) {
                    Some(true) => {
                        self.parameter = None;
                        self.tag.clear();
                    }
                    Some(false) => {}
                    None => self.tag.clear(),
                },
                None => match self.closes(vocabulary.tool_name(self.tool)) {
                    Some(true) => return Some(at),
                    Some(false) => {}
                    None => {
                        let name = &self.tag[1..];
                        if let Some(name) = name.strip_suffix('>') {
                            self.parameter = vocabulary.parameter(name);
                            self.tag.clear();
                        } else if !vocabulary.begins_parameter(name) {
                            self.tag.clear();
                        }
                    }
                },
            }
        }
        None
    }

    /// Whether the tag closes `name`; `None` if it cannot become that.
    fn closes(&self, name: &str) -> Option<bool> {
        let end = self.tag.strip_prefix("</").or_else(|| (self.tag == "<").then_some(""))?;
        match end.strip_suffix('>') {
            Some(end) => (end == name).then_some(true),
            None => name.starts_with(end).then_some(false),
        }
    }

    /// Writes the closers that the model left out, the first without what is there of it.
    fn close(&self, vocabulary: &Vocabulary, out: &mut Output<'_>) {
        // A lone `<` may be a value's own.
        let mut tag = if self.tag.len() > 1 { self.tag.as_str() } else { "" };
        let names = [
            self.parameter.map(|parameter| vocabulary.parameter_name(parameter)),
            Some(vocabulary.tool_name(self.tool)),
        ];
        for (place, name) in names.into_iter().flatten().enumerate() {
            let closer = format!("</{name}>");
            if place > 0 {
                out.character('\n');
            }
            out.text(closer.strip_prefix(tag).unwrap_or(&closer));
            tag = "";
        }
    }
}

use std::{collections::VecDeque, sync::Arc};

use super::{
    Vocabulary,
    outcome::{End, Outcome},
    sink::Client,
};
use crate::{
    Text,
    chat::ChatEvent,
    tool::markup::{Arguments, Close, Dialect, Fed, Reader, Sink},
};

/// Turns a reply into one that holds exactly one call for an XML client, as it streams.
///
/// The sans-I/O core of [`ToolWrapLayer`](super::ToolWrapLayer): pieces of text in, pieces of
/// text out. It knows at the end whether the client has seen a call.
///
/// The output does not depend on where the input is cut, and takes time linear in it. What is
/// kept back is at most an opener and what decides about it: wrappers, a tag and another tag, with
/// 256 blanks between them; for a call in JSON, up to 64 KiB until its name is there. Memory is
/// that much, 256 KiB for the text that the completion repeats, and the lead window.
///
/// ```
/// use std::{collections::VecDeque, sync::Arc};
/// use tower_qwen::{
///     chat::ChatEvent,
///     tool::{
///         internals::{Automaton, End, Outcome},
///         wrap::Vocabulary,
///     },
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
///     .map(|event| match event {
///         ChatEvent::Text(text) => text.as_str(),
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
    reader: Reader<Client>,
    /// The arguments of the upstream's own call, where that is the reply's.
    native: Option<Arguments>,
    window: Window,
}

/// What is held at the start of the reply so that a short one need not be repeated.
#[derive(Debug, Default)]
struct Window {
    size: usize,
    length: usize,
    pieces: VecDeque<ChatEvent>,
    open: bool,
}

impl Automaton {
    /// An automaton for one reply to a client with this vocabulary.
    #[must_use]
    pub fn new(vocabulary: Arc<Vocabulary>) -> Self {
        let reader = Reader::new(Client::new(vocabulary));
        Self { reader, native: None, window: Window::default() }
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
        self.reader.held() + self.reader.kept()
    }

    /// Reads a piece of the reply's text, and puts what may leave at the end of `queue`. Behind
    /// the reply's call nothing leaves.
    pub fn push(&mut self, piece: &Text, queue: &mut VecDeque<ChatEvent>) {
        if !self.window.open && self.reader.passes(piece) {
            self.reader.sink.memory.push(piece);
            queue.push_back(ChatEvent::Text(piece.clone()));
        } else if !self.reader.is_done() {
            self.reader.push(piece);
            self.let_out(queue);
        }
    }

    /// The upstream calls a tool by its own means; the arguments follow as
    /// [`native_arguments`](Automaton::native_arguments).
    ///
    /// Such calls are only made if someone else gave the upstream tools. The first becomes the
    /// reply's call if the client knows the tool and the text holds none; `false` if not.
    pub fn native_call(&mut self, name: &str, queue: &mut VecDeque<ChatEvent>) -> bool {
        if self.reader.sink.has_call() || !self.reader.sink.tags.vocabulary.has_tool(name) {
            return false;
        }
        self.reader.release(false);
        let sink = &mut self.reader.sink;
        let becomes = !sink.has_call();
        if becomes {
            if !sink.memory.is_empty() {
                sink.tags.out.text("\n\n");
            }
            sink.call(name, Dialect::Hermes);
            self.native = Some(Arguments::new());
            self.reader.stop();
        }
        self.let_out(queue);
        becomes
    }

    /// A piece of the JSON arguments of the upstream's own call, if it became the reply's.
    pub fn native_arguments(&mut self, json: &str, queue: &mut VecDeque<ChatEvent>) {
        let Some(arguments) = &mut self.native else { return };
        let sink = &mut self.reader.sink;
        if sink.json(|out| arguments.feed(json, out)) != Fed::More {
            sink.json(|out| arguments.finish(out));
            sink.close(Close::Own);
            self.native = None;
        }
        self.let_out(queue);
    }

    /// The end of the reply: lets out what is held, closes what is open, and appends a completion
    /// if there is text and no call. A second call does nothing.
    pub fn finish(&mut self, end: End, queue: &mut VecDeque<ChatEvent>) -> Outcome {
        self.end(end == End::Cut, true);
        self.let_out(queue);
        let sink = &mut self.reader.sink;
        if sink.outcome == Outcome::Empty && !sink.memory.is_empty() {
            sink.outcome = Outcome::Completed;
            self.complete(queue);
        }
        self.let_window_out(queue);
        self.reader.sink.outcome
    }

    /// The reply failed: lets out what is held, and appends nothing. A tag whose meaning was not
    /// decided leaves as text.
    pub fn abort(&mut self, queue: &mut VecDeque<ChatEvent>) {
        self.end(true, false);
        self.let_out(queue);
        self.let_window_out(queue);
    }

    /// Ends the text. An opener that nothing follows is what the client takes it for, a call, if
    /// the end `confirms` it.
    fn end(&mut self, cut: bool, confirms: bool) {
        let sink = &mut self.reader.sink;
        sink.cut = cut;
        if let Some(mut arguments) = self.native.take() {
            if !cut {
                sink.json(|out| arguments.finish(out));
            }
            sink.close(Close::Whole);
        }
        self.reader.finish(confirms);
        self.reader.stop();
    }

    /// Hands over what the sink has let out, or takes it into the window.
    fn let_out(&mut self, queue: &mut VecDeque<ChatEvent>) {
        let sink = &mut self.reader.sink;
        sink.tags.out.flush();
        if !self.window.open {
            if queue.is_empty() {
                std::mem::swap(queue, &mut sink.tags.out.queue);
            } else {
                queue.append(&mut sink.tags.out.queue);
            }
            return;
        }
        for piece in sink.tags.out.queue.drain(..) {
            match piece {
                ChatEvent::Text(text) => {
                    self.window.length += text.len();
                    self.window.pieces.push_back(ChatEvent::Text(text));
                }
                reasoning => queue.push_back(reasoning),
            }
        }
        if sink.has_call() || self.window.length > self.window.size {
            self.let_window_out(queue);
        }
    }

    fn let_window_out(&mut self, queue: &mut VecDeque<ChatEvent>) {
        self.window.open = false;
        queue.append(&mut self.window.pieces);
    }

    /// Appends the completion; in place of the text, where that is still in the window.
    fn complete(&mut self, queue: &mut VecDeque<ChatEvent>) {
        let start = if self.window.open {
            self.window.pieces.clear();
            "<attempt_completion>\n<result>\n"
        } else {
            "\n\n<attempt_completion>\n<result>\n"
        };
        let result = self.reader.sink.memory.result();
        let end = "\n</result>\n</attempt_completion>";
        queue.push_back(ChatEvent::Text([start, &result, end].concat().into()));
    }
}

use std::collections::HashSet;

use super::{
    Vocabulary,
    held::{BLANKS, Held},
    output::Output,
};

const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";
const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";
const WRAPPER: &str = "<tool_call>";
const WRAPPER_END: &str = "</tool_call>";

/// Longer names are none.
const NAME: usize = 256;

/// A call in format 1, behind `<function=NAME>`, on its way into the client's tags.
///
/// Values pass as they are, newlines included: what the client trims is what the format has for
/// layout. Where a value ends follows tool-calls.md e.2 rule 14, and `</parameter>` ends it also
/// before `<function=NAME>` of a known tool. Only the parameter's closer of the *client* is escaped
/// inside it, since there the client would end it. Parameters that the client does not know are
/// left out, as it would drop them, but look for tags in their text.
#[derive(Debug)]
pub(super) struct Coder {
    tool: usize,
    state: State,
    held: Held,
    used: HashSet<usize>,
}

#[derive(Debug)]
enum State {
    /// Outside parameters. What may be a tag is held.
    Between,
    /// Behind `<parameter=`.
    Key(String),
    Value(Value),
    Done,
}

#[derive(Debug)]
struct Value {
    /// The parameter and its closer in the client's tags; `None` if the client has none.
    own: Option<(usize, String)>,
    phase: Phase,
    /// Whether the next character stands at the start of a line.
    line_start: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Plain,
    /// What may become a tag is held.
    Tag {
        line_start: bool,
    },
    /// A closer is held, and what follows it decides whether it is one.
    After {
        closer: Closer,
        length: usize,
        tag: Option<usize>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closer {
    Parameter,
    Function,
    Wrapper,
}

impl Closer {
    /// What makes it structural when it follows, blanks aside; as does the end.
    const fn followers(self) -> &'static [&'static str] {
        match self {
            Self::Parameter => &[PARAMETER, FUNCTION_END, WRAPPER_END, WRAPPER],
            Self::Function => &[WRAPPER_END, WRAPPER, FUNCTION],
            Self::Wrapper => &[WRAPPER],
        }
    }
}

enum Tag {
    No,
    Prefix,
    /// The closer of the parameter in the client's tags.
    Own,
    Closer(Closer),
    /// The next parameter, whose predecessor has no closer.
    Parameter(usize),
}

impl Coder {
    pub(super) fn new(tool: usize, vocabulary: &Vocabulary, out: &mut Output<'_>) -> Self {
        out.character('<');
        out.text(vocabulary.tool_name(tool));
        out.constant(">\n");
        Self { tool, state: State::Between, held: Held::default(), used: HashSet::new() }
    }

    /// Takes the tag that made the opener one: the first parameter's, or the function's closer.
    pub(super) fn begin(&mut self, parameter: bool, vocabulary: &Vocabulary, out: &mut Output<'_>) {
        if parameter {
            self.state = State::Key(String::new());
        } else {
            self.close(vocabulary, out);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn carry(&mut self) {
        self.held.carry();
    }

    /// Reads the input from `at` on, and says how far.
    pub(super) fn push(
        &mut self,
        vocabulary: &Vocabulary,
        out: &mut Output<'_>,
        mut at: usize,
    ) -> usize {
        let end = out.input().len();
        while at < end {
            at = match &self.state {
                State::Between => self.between(vocabulary, out, at),
                State::Key(_) => self.key(vocabulary, out, at),
                State::Value(_) => self.value(vocabulary, out, at),
                State::Done => break,
            };
        }
        at
    }

    /// The end of the reply: closes what is open if it is `complete`.
    pub(super) fn finish(&mut self, complete: bool, vocabulary: &Vocabulary, out: &mut Output<'_>) {
        let mut close = complete;
        if let State::Value(value) = &self.state {
            match value.phase {
                Phase::After { closer, .. } => {
                    close |= closer != Closer::Parameter;
                    self.close_value(out);
                }
                // A closer that was cut is no part of the value; a lone `<` may be.
                Phase::Tag { .. }
                    if self.held.len() >= 3
                        && [PARAMETER_END, FUNCTION_END, WRAPPER_END]
                            .iter()
                            .any(|closer| closer.starts_with(self.held.as_str())) => {}
                _ if value.own.is_some() => {
                    self.held.carry();
                    self.held.emit(0, self.held.len(), 0, out);
                }
                _ => {}
            }
        }
        self.held.clear();
        if close {
            if let State::Value(_) = self.state {
                self.close_value(out);
            }
            self.close(vocabulary, out);
        }
    }

    fn between(&mut self, vocabulary: &Vocabulary, out: &mut Output<'_>, mut at: usize) -> usize {
        let bytes = out.input().as_bytes();
        while at < bytes.len() {
            let byte = bytes[at];
            if self.held.is_empty() || byte == b'<' || !byte.is_ascii() {
                // Stray text inside a call is dropped by the client, too.
                self.held.clear();
                if byte == b'<' {
                    self.held.push(byte);
                }
                at += 1;
                continue;
            }
            self.held.push(byte);
            at += 1;
            let tags = [PARAMETER, FUNCTION_END, WRAPPER_END, WRAPPER, FUNCTION];
            let held = self.held.as_str();
            if held == PARAMETER {
                self.held.clear();
                self.state = State::Key(String::new());
                return at;
            }
            if tags.contains(&held) {
                self.held.clear();
                self.close(vocabulary, out);
                return at;
            }
            if !tags.iter().any(|tag| tag.starts_with(held)) {
                self.held.clear();
            }
        }
        at
    }

    fn key(&mut self, vocabulary: &Vocabulary, out: &mut Output<'_>, mut at: usize) -> usize {
        let State::Key(key) = &mut self.state else { return at };
        let bytes = out.input().as_bytes();
        while at < bytes.len() {
            match bytes[at] {
                b'>' => {
                    let name = key.trim().trim_matches(['"', '\'']);
                    let parameter = vocabulary.parameter(name);
                    self.open_value(parameter, vocabulary, out);
                    return at + 1;
                }
                b'<' | b'\n' => {
                    self.state = State::Between;
                    return at;
                }
                _ if key.len() >= NAME => {
                    self.state = State::Between;
                    return at;
                }
                byte if byte.is_ascii() => key.push(char::from(byte)),
                // No client has such a name.
                _ => key.push(char::REPLACEMENT_CHARACTER),
            }
            at += 1;
        }
        at
    }

    fn value(&mut self, vocabulary: &Vocabulary, out: &mut Output<'_>, mut at: usize) -> usize {
        let State::Value(value) = &mut self.state else { return at };
        let bytes = out.input().as_bytes();
        match value.phase {
            Phase::Plain => {
                let end = memchr::memchr(b'<', &bytes[at..]).map_or(bytes.len(), |next| at + next);
                if end > at {
                    value.line_start = bytes[end - 1] == b'\n';
                    if value.own.is_some() {
                        out.slice(at, end);
                    }
                }
                if end < bytes.len() {
                    value.phase = Phase::Tag { line_start: value.line_start };
                    self.held.push(b'<');
                    return end + 1;
                }
                end
            }
            Phase::Tag { .. } => {
                let byte = bytes[at];
                if byte == b'<' || !byte.is_ascii() {
                    self.data(at, out);
                    return at;
                }
                self.held.push(byte);
                at += 1;
                self.tag(vocabulary, out, at);
                at
            }
            Phase::After { closer, length, tag } => {
                let byte = bytes[at];
                let blank = byte.is_ascii_whitespace();
                match tag {
                    None if blank && self.held.len() < length + BLANKS => self.held.push(byte),
                    None if byte == b'<' => {
                        let tag = Some(self.held.len());
                        value.phase = Phase::After { closer, length, tag };
                        self.held.push(byte);
                    }
                    Some(tag) if byte.is_ascii() && byte != b'<' => {
                        self.held.push(byte);
                        self.follow(closer, tag, vocabulary, out, at + 1);
                    }
                    _ => {
                        self.data(at, out);
                        return at;
                    }
                }
                at + 1
            }
        }
    }

    /// Decides about the held tag of a value.
    fn tag(&mut self, vocabulary: &Vocabulary, out: &mut Output<'_>, at: usize) {
        let State::Value(value) = &mut self.state else { return };
        match value.classify(self.held.as_str(), &self.used, vocabulary) {
            Tag::Prefix => {}
            Tag::No => self.data(at, out),
            Tag::Own => {
                value.phase = Phase::Plain;
                value.line_start = false;
                out.constant("&lt;");
                self.held.emit(1, self.held.len(), at, out);
                self.held.clear();
            }
            Tag::Closer(closer) => {
                value.phase = Phase::After { closer, length: self.held.len(), tag: None };
            }
            Tag::Parameter(parameter) => {
                self.held.clear();
                self.close_value(out);
                self.open_value(Some(parameter), vocabulary, out);
            }
        }
    }

    /// Decides about the held closer, by the tag behind it.
    fn follow(
        &mut self,
        closer: Closer,
        tag: usize,
        vocabulary: &Vocabulary,
        out: &mut Output<'_>,
        at: usize,
    ) {
        let State::Value(value) = &mut self.state else { return };
        let follower = &self.held.as_str()[tag..];
        // Another call, where the function's closer was forgotten; only of a tool that there is,
        // since the value may speak of the format.
        let call = (closer == Closer::Parameter).then(|| begins_call(follower, vocabulary));
        if closer.followers().contains(&follower) || call == Some(Begins::Whole) {
            let next = follower == PARAMETER;
            self.held.clear();
            self.close_value(out);
            if next {
                self.state = State::Key(String::new());
            } else {
                self.close(vocabulary, out);
            }
        } else if call != Some(Begins::Part)
            && !closer.followers().iter().any(|tag| tag.starts_with(follower))
        {
            // The closer belongs to the value; what follows may be another one.
            if value.own.is_some() {
                self.held.emit(0, tag, at, out);
            }
            let line_start = self.held.as_str()[..tag].ends_with('\n');
            value.phase = Phase::Tag { line_start };
            self.held.skip(tag);
            self.tag(vocabulary, out, at);
        }
    }

    /// What is held belongs to the value.
    fn data(&mut self, at: usize, out: &mut Output<'_>) {
        if let State::Value(value) = &mut self.state {
            value.phase = Phase::Plain;
            value.line_start = self.held.as_str().ends_with('\n');
            if value.own.is_some() {
                self.held.emit(0, self.held.len(), at, out);
            }
        }
        self.held.clear();
    }

    fn open_value(
        &mut self,
        parameter: Option<usize>,
        vocabulary: &Vocabulary,
        out: &mut Output<'_>,
    ) {
        let own = parameter.map(|parameter| {
            let name = vocabulary.parameter_name(parameter);
            out.character('<');
            out.text(name);
            out.character('>');
            self.used.insert(parameter);
            (parameter, format!("</{name}>"))
        });
        self.state = State::Value(Value { own, phase: Phase::Plain, line_start: true });
    }

    fn close_value(&mut self, out: &mut Output<'_>) {
        if let State::Value(Value { own: Some((_, closer)), .. }) = &self.state {
            out.text(closer);
            out.character('\n');
        }
        self.state = State::Between;
    }

    fn close(&mut self, vocabulary: &Vocabulary, out: &mut Output<'_>) {
        out.constant("</");
        out.text(vocabulary.tool_name(self.tool));
        out.character('>');
        self.state = State::Done;
    }
}

/// How much of an opener a text is.
#[derive(PartialEq)]
enum Begins {
    No,
    Part,
    Whole,
}

/// Whether `text` is `<function=NAME>` with a tool's name, or begins like one.
fn begins_call(text: &str, vocabulary: &Vocabulary) -> Begins {
    let begins = match text.strip_prefix(FUNCTION) {
        None => FUNCTION.starts_with(text),
        Some(name) => match name.strip_suffix('>') {
            Some(name) if vocabulary.tool(name).is_some() => return Begins::Whole,
            Some(_) => false,
            None => vocabulary.begins_tool(name),
        },
    };
    if begins { Begins::Part } else { Begins::No }
}

impl Value {
    fn classify(&self, held: &str, used: &HashSet<usize>, vocabulary: &Vocabulary) -> Tag {
        let closers = [
            (PARAMETER_END, Closer::Parameter),
            (FUNCTION_END, Closer::Function),
            (WRAPPER_END, Closer::Wrapper),
        ];
        if let Some((_, closer)) = closers.iter().find(|(tag, _)| *tag == held) {
            return Tag::Closer(*closer);
        }
        let own = self.own.as_ref().map(|(_, closer)| closer.as_str());
        if own == Some(held) {
            return Tag::Own;
        }
        let Phase::Tag { line_start } = self.phase else { return Tag::No };
        if let Some(name) = held.strip_prefix(PARAMETER).filter(|_| line_start) {
            return match name.strip_suffix('>') {
                Some(name) => match vocabulary.parameter(name) {
                    Some(parameter) if !used.contains(&parameter) => Tag::Parameter(parameter),
                    _ => Tag::No,
                },
                None if vocabulary.begins_parameter(name) => Tag::Prefix,
                None => Tag::No,
            };
        }
        let begins = |tag: &str| tag.starts_with(held);
        if closers.iter().any(|(tag, _)| begins(tag))
            || own.is_some_and(begins)
            || line_start && begins(PARAMETER)
        {
            Tag::Prefix
        } else {
            Tag::No
        }
    }
}

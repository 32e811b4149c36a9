use super::{Vocabulary, held::BLANKS, output::Output};

/// How much of a JSON call is kept back until its name is known, in bytes.
pub(super) const HEADER: usize = 64 * 1024;

/// Longer keys and names are none.
const NAME: usize = 256;

/// A call in format 2, from the first character behind `<tool_call>`, on its way into the
/// client's tags.
///
/// Until the name is known the text is kept; if it turns out to be no call of a tool that the
/// client has, that text is handed back. Behind the name everything streams: strings decoded and
/// raw, other values as JSON. The reader is strict before the name and lenient behind it, where
/// nothing can be taken back.
#[derive(Debug)]
pub(super) struct Json {
    state: State,
    /// The text so far, wrapper included, while there is no name.
    raw: String,
    array: bool,
    key: String,
    tool: Option<usize>,
    /// Where in `raw` arguments stand that came before the name.
    early: Option<(usize, usize)>,
    arguments: Arguments,
}

#[derive(Debug)]
enum State {
    Start,
    Key,
    KeyText(Unescape),
    Colon,
    Value,
    Name(Unescape),
    Skip(Skip),
    /// Arguments as a JSON string.
    Quoted(Unescape),
    /// Arguments as an object.
    Arguments,
    Done,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on.
    More,
    /// It is complete.
    Done,
    /// It is none; [`Json::into_raw`] has its text.
    Failed,
}

impl Json {
    /// A call whose first characters are `raw`: the wrapper and the blanks behind it.
    pub(super) fn new(raw: &str) -> Self {
        Self {
            state: State::Start,
            raw: raw.to_owned(),
            array: false,
            key: String::new(),
            tool: None,
            early: None,
            arguments: Arguments::default(),
        }
    }

    /// A call of `tool` whose arguments follow.
    pub(super) fn native(tool: usize, vocabulary: &Vocabulary, out: &mut Output<'_>) -> Self {
        let mut call = Self { state: State::Arguments, ..Self::new("") };
        call.announce(tool, vocabulary, out);
        call
    }

    /// Whether the call was announced, so that it can no longer fail.
    pub(super) fn is_announced(&self) -> bool {
        self.tool.is_some()
    }

    pub(super) fn held(&self) -> usize {
        self.raw.len() + self.arguments.held()
    }

    pub(super) fn into_raw(self) -> String {
        self.raw
    }

    /// Reads `text`; says how it stands and how much was read.
    pub(super) fn push(
        &mut self,
        text: &str,
        vocabulary: &Vocabulary,
        out: &mut Output<'_>,
    ) -> (Progress, usize) {
        for (at, c) in text.char_indices() {
            let progress = self.character(c, vocabulary, out);
            if progress != Progress::More {
                return (progress, at + c.len_utf8());
            }
        }
        (Progress::More, text.len())
    }

    /// The end of the reply: closes what is open if it is `complete`.
    pub(super) fn finish(
        &mut self,
        complete: bool,
        vocabulary: &Vocabulary,
        out: &mut Output<'_>,
    ) -> Progress {
        if self.tool.is_none() {
            return Progress::Failed;
        }
        self.arguments.finish(complete, out);
        if complete {
            self.close(vocabulary, out);
        }
        Progress::Done
    }

    fn character(&mut self, c: char, vocabulary: &Vocabulary, out: &mut Output<'_>) -> Progress {
        let blank = c.is_ascii_whitespace();
        let header = self.tool.is_none();
        if header {
            self.raw.push(c);
            if self.raw.len() > HEADER {
                return Progress::Failed;
            }
        }
        match &mut self.state {
            State::Start => match c {
                '{' => self.state = State::Key,
                '[' if !self.array => self.array = true,
                _ if blank => {}
                _ => return Progress::Failed,
            },
            State::Key => match c {
                '"' => {
                    self.key.clear();
                    self.state = State::KeyText(Unescape::default());
                }
                '}' if header => return Progress::Failed,
                // Without its own end, the wrapper's or the next call's ends the object.
                '}' | '<' if !header => return self.close(vocabulary, out),
                ',' => {}
                _ if blank || !header => {}
                _ => return Progress::Failed,
            },
            State::KeyText(unescape) => {
                let key = &mut self.key;
                if unescape.push(c, &mut |c| push_name(key, c)) {
                    self.state = State::Colon;
                }
            }
            State::Colon => match c {
                ':' => self.state = State::Value,
                '}' | '<' if !header => return self.close(vocabulary, out),
                _ if blank || !header => {}
                _ => return Progress::Failed,
            },
            State::Value if blank => {}
            State::Value => {
                let arguments = matches!(self.key.as_str(), "arguments" | "parameters");
                match (self.key.as_str(), c) {
                    ("name", '"') if header => {
                        self.key.clear();
                        self.state = State::Name(Unescape::default());
                    }
                    ("name", _) if header => return Progress::Failed,
                    (_, '{') if arguments && !header => {
                        self.state = State::Arguments;
                        self.arguments.push(c, vocabulary, out);
                    }
                    (_, '"') if arguments && !header => {
                        self.state = State::Quoted(Unescape::default());
                    }
                    _ => {
                        if arguments && header {
                            let start = self.raw.len() - c.len_utf8();
                            self.early = Some((start, start));
                        }
                        let mut skip = Skip::default();
                        match skip.push(c) {
                            Skipped::More => self.state = State::Skip(skip),
                            Skipped::Done => self.state = State::Key,
                            Skipped::Beyond => return Progress::Failed,
                        }
                    }
                }
            }
            State::Name(unescape) => {
                let name = &mut self.key;
                if unescape.push(c, &mut |c| push_name(name, c)) {
                    let Some(tool) = vocabulary.tool(&self.key) else { return Progress::Failed };
                    self.state = State::Key;
                    return self.named(tool, vocabulary, out);
                }
            }
            State::Skip(skip) => {
                let skipped = skip.push(c);
                if skipped != Skipped::More {
                    self.state = State::Key;
                    if let Some((start, end)) = &mut self.early
                        && start == end
                    {
                        let beyond = if skipped == Skipped::Beyond { c.len_utf8() } else { 0 };
                        *end = self.raw.len() - beyond;
                    }
                }
                if skipped == Skipped::Beyond {
                    if header {
                        self.raw.pop();
                    }
                    return self.character(c, vocabulary, out);
                }
            }
            State::Quoted(unescape) => {
                let arguments = &mut self.arguments;
                let ended = unescape.push(c, &mut |c| arguments.push(c, vocabulary, out));
                if ended || self.arguments.is_done() {
                    self.arguments.finish(true, out);
                    return self.close(vocabulary, out);
                }
            }
            State::Arguments => {
                self.arguments.push(c, vocabulary, out);
                if self.arguments.is_done() {
                    return self.close(vocabulary, out);
                }
            }
            State::Done => return Progress::Done,
        }
        Progress::More
    }

    /// The name is known: the call begins, with the arguments that came before it.
    fn named(&mut self, tool: usize, vocabulary: &Vocabulary, out: &mut Output<'_>) -> Progress {
        self.announce(tool, vocabulary, out);
        let raw = std::mem::take(&mut self.raw);
        let Some((start, end)) = self.early else { return Progress::More };
        self.key.push_str("arguments");
        self.state = State::Value;
        let (progress, _) = self.push(&raw[start..end], vocabulary, out);
        match progress {
            Progress::More => self.close(vocabulary, out),
            ended => ended,
        }
    }

    fn announce(&mut self, tool: usize, vocabulary: &Vocabulary, out: &mut Output<'_>) {
        self.tool = Some(tool);
        self.key.clear();
        out.character('<');
        out.text(vocabulary.tool_name(tool));
        out.constant(">\n");
    }

    fn close(&mut self, vocabulary: &Vocabulary, out: &mut Output<'_>) -> Progress {
        if let Some(tool) = self.tool
            && !matches!(self.state, State::Done)
        {
            out.constant("</");
            out.text(vocabulary.tool_name(tool));
            out.character('>');
        }
        self.state = State::Done;
        Progress::Done
    }
}

fn push_name(name: &mut String, c: char) {
    if name.len() < NAME {
        name.push(c);
    }
}

/// The members of an arguments object, as the client's parameters.
#[derive(Debug, Default)]
struct Arguments {
    state: Member,
    key: String,
    /// The closer of the open parameter in the client's tags; empty if the client has none, or
    /// if its value is null.
    closer: String,
    /// How much of it the value's last characters match; they are kept back.
    matched: usize,
    /// What stands between the value and its tags.
    margin: &'static str,
}

#[derive(Debug, Default)]
enum Member {
    #[default]
    Start,
    Key,
    KeyText(Unescape),
    Colon,
    Value,
    Text(Unescape),
    /// Behind a quote that ends the string, unless what follows says that it was forgotten to
    /// escape it.
    MaybeEnd(String),
    Nested(Skip),
    Scalar,
    Done,
}

impl Arguments {
    fn is_done(&self) -> bool {
        matches!(self.state, Member::Done)
    }

    fn held(&self) -> usize {
        let blanks = if let Member::MaybeEnd(blanks) = &self.state { blanks.len() + 1 } else { 0 };
        self.matched + blanks
    }

    fn push(&mut self, c: char, vocabulary: &Vocabulary, out: &mut Output<'_>) {
        let blank = c.is_ascii_whitespace();
        match &mut self.state {
            Member::Start => match c {
                '{' => self.state = Member::Key,
                _ if blank => {}
                _ => self.state = Member::Done,
            },
            Member::Key => match c {
                '"' => {
                    self.key.clear();
                    self.state = Member::KeyText(Unescape::default());
                }
                '}' | '<' => self.state = Member::Done,
                _ => {}
            },
            Member::KeyText(unescape) => {
                let key = &mut self.key;
                if unescape.push(c, &mut |c| push_name(key, c)) {
                    self.state = Member::Colon;
                }
            }
            Member::Colon => match c {
                ':' => self.state = Member::Value,
                '}' | '<' => self.state = Member::Done,
                _ => {}
            },
            Member::Value => match c {
                _ if blank => {}
                '"' => {
                    self.open(true, vocabulary, out);
                    self.state = Member::Text(Unescape::default());
                }
                ',' => self.state = Member::Key,
                '}' | '<' => self.state = Member::Done,
                // Null says that there is no value; so does Python's None.
                'n' | 'N' => {
                    self.closer.clear();
                    self.state = Member::Scalar;
                }
                '{' | '[' => {
                    self.open(false, vocabulary, out);
                    let mut skip = Skip::default();
                    skip.push(c);
                    self.state = Member::Nested(skip);
                    self.value(c, "\\u003c", out);
                }
                _ => {
                    self.open(false, vocabulary, out);
                    self.state = Member::Scalar;
                    self.value(c, "&lt;", out);
                }
            },
            Member::Text(unescape) => {
                let mut decoded = [None; 2];
                let mut count = 0;
                let ended = unescape.push(c, &mut |c| {
                    decoded[count] = Some(c);
                    count += 1;
                });
                decoded.into_iter().flatten().for_each(|c| self.value(c, "&lt;", out));
                if ended {
                    self.state = Member::MaybeEnd(String::new());
                }
            }
            Member::MaybeEnd(blanks) => match c {
                ',' | '}' => {
                    self.end(out);
                    self.state = Member::Key;
                    self.push(c, vocabulary, out);
                }
                _ if blank && blanks.len() < BLANKS => blanks.push(c),
                _ => {
                    let blanks = std::mem::take(blanks);
                    self.value('"', "&lt;", out);
                    blanks.chars().for_each(|c| self.value(c, "&lt;", out));
                    self.state = Member::Text(Unescape::default());
                    self.push(c, vocabulary, out);
                }
            },
            Member::Nested(skip) => {
                if c == '<' && !skip.in_string {
                    self.end(out);
                    self.state = Member::Done;
                    return;
                }
                let skipped = skip.push(c);
                self.value(c, "\\u003c", out);
                if skipped == Skipped::Done {
                    self.end(out);
                    self.state = Member::Key;
                }
            }
            Member::Scalar => match c {
                ',' | '}' | '<' => {
                    self.end(out);
                    self.state = Member::Key;
                    self.push(c, vocabulary, out);
                }
                _ if blank => {}
                _ => self.value(c, "&lt;", out),
            },
            Member::Done => {}
        }
    }

    /// The end of the arguments: ends the open value if it is `complete` or has its quote.
    fn finish(&mut self, complete: bool, out: &mut Output<'_>) {
        match self.state {
            Member::Text(_) | Member::Nested(_) | Member::Scalar if complete => self.end(out),
            Member::MaybeEnd(_) => self.end(out),
            Member::Text(_) | Member::Nested(_) | Member::Scalar => self.unmatch(out),
            _ => {}
        }
        self.state = Member::Done;
    }

    fn open(&mut self, string: bool, vocabulary: &Vocabulary, out: &mut Output<'_>) {
        self.closer.clear();
        self.matched = 0;
        if vocabulary.has_parameter(&self.key) {
            self.closer = format!("</{}>", self.key);
            // The one parameter that Roo Code does not trim loses a newline on either side.
            self.margin = if string && self.key == "content" { "\n" } else { "" };
            out.character('<');
            out.text(&self.closer[2..]);
            out.text(self.margin);
        }
    }

    fn end(&mut self, out: &mut Output<'_>) {
        self.unmatch(out);
        if !self.closer.is_empty() {
            out.text(self.margin);
            out.text(&self.closer);
            out.character('\n');
        }
        self.closer.clear();
    }

    /// Lets out one character of the value; the parameter's own closer with its `<` as `escape`,
    /// since the client would end the parameter there.
    fn value(&mut self, c: char, escape: &'static str, out: &mut Output<'_>) {
        let Some(&next) = self.closer.as_bytes().get(self.matched) else { return };
        if c == char::from(next) {
            self.matched += 1;
            if self.matched == self.closer.len() {
                self.matched = 0;
                out.text(escape);
                out.text(&self.closer[1..]);
            }
            return;
        }
        self.unmatch(out);
        if c == '<' {
            self.matched = 1;
        } else {
            out.character(c);
        }
    }

    fn unmatch(&mut self, out: &mut Output<'_>) {
        out.text(&self.closer[..self.matched]);
        self.matched = 0;
    }
}

/// Passes over a JSON value.
#[derive(Debug, Default)]
struct Skip {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skipped {
    More,
    /// The value ends with this character.
    Done,
    /// The value ended before this character.
    Beyond,
}

impl Skip {
    fn push(&mut self, c: char) -> Skipped {
        if self.in_string {
            self.in_string = self.escaped || c != '"';
            self.escaped = !self.escaped && c == '\\';
            return if self.in_string || self.depth > 0 { Skipped::More } else { Skipped::Done };
        }
        match c {
            '"' => self.in_string = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' | ',' if self.depth == 0 => return Skipped::Beyond,
            '}' | ']' => {
                self.depth -= 1;
                if self.depth == 0 {
                    return Skipped::Done;
                }
            }
            _ => {}
        }
        Skipped::More
    }
}

/// Decodes the inside of a JSON string; characters that JSON does not allow there are kept.
#[derive(Debug, Default)]
struct Unescape {
    state: Escape,
    /// The first half of a surrogate pair.
    high: Option<u16>,
}

#[derive(Debug, Default)]
enum Escape {
    #[default]
    None,
    Backslash,
    Unicode {
        value: u16,
        digits: u8,
    },
}

impl Unescape {
    /// Reads one character and emits at most two; `true` at the quote that ends the string.
    fn push(&mut self, c: char, emit: &mut impl FnMut(char)) -> bool {
        match self.state {
            Escape::None => match c {
                '\\' => self.state = Escape::Backslash,
                '"' => {
                    self.lone(emit);
                    return true;
                }
                _ => {
                    self.lone(emit);
                    emit(c);
                }
            },
            Escape::Backslash => {
                self.state = Escape::None;
                let decoded = match c {
                    'u' => {
                        self.state = Escape::Unicode { value: 0, digits: 0 };
                        return false;
                    }
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    other => other,
                };
                self.lone(emit);
                emit(decoded);
            }
            Escape::Unicode { value, digits } => {
                let Some(digit) = c.to_digit(16) else {
                    // No escape after all.
                    self.state = Escape::None;
                    self.lone(emit);
                    return c == '"' || {
                        emit(c);
                        false
                    };
                };
                let value = value << 4 | digit as u16;
                self.state = Escape::Unicode { value, digits: digits + 1 };
                if digits == 3 {
                    self.state = Escape::None;
                    self.unit(value, emit);
                }
            }
        }
        false
    }

    fn unit(&mut self, unit: u16, emit: &mut impl FnMut(char)) {
        match (self.high.take(), unit) {
            (Some(high), 0xdc00..=0xdfff) => {
                let low = u32::from(unit) - 0xdc00;
                let c = 0x1_0000 + ((u32::from(high) - 0xd800) << 10) + low;
                emit(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            (high, 0xd800..=0xdbff) => {
                if high.is_some() {
                    emit(char::REPLACEMENT_CHARACTER);
                }
                self.high = Some(unit);
            }
            (high, _) => {
                if high.is_some() {
                    emit(char::REPLACEMENT_CHARACTER);
                }
                emit(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
    }

    /// A first half without its second.
    fn lone(&mut self, emit: &mut impl FnMut(char)) {
        if self.high.take().is_some() {
            emit(char::REPLACEMENT_CHARACTER);
        }
    }
}

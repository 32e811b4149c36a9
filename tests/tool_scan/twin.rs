//! The rules again, written down for a whole text: slow, simple, and without a line of the
//! scanner's code. Only the conversion of single values is shared, which has tests of its own.

use serde_json::{Map, Value, value::RawValue};
use tower_qwen::tool::internals::{Types, convert};

/// What a text comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    /// Names and arguments, parsed.
    pub(crate) calls: Vec<(String, Value)>,
}

/// A declared tool: its name and the schema of each parameter.
pub(crate) struct Declared {
    pub(crate) name: &'static str,
    pub(crate) parameters: Vec<(&'static str, Value)>,
}

pub(crate) struct Twin<'a> {
    pub(crate) tools: &'a [Declared],
    text: &'a str,
    out: Outcome,
    /// The prose since the start or the last call.
    prose: String,
    /// Whether something was met that the twin does not know: nested tags as a value.
    unknown: bool,
}

/// The outcome of `text`, or none where it holds JSON that is not strictly valid: what becomes
/// of that is promised to be valid, not to be anything in particular.
pub(crate) fn outcome(tools: &[Declared], text: &str) -> Option<Outcome> {
    let mut twin =
        Twin { tools, text, out: Outcome::default(), prose: String::new(), unknown: false };
    twin.run()?;
    (!twin.unknown).then_some(twin.out)
}

/// The closers that the generated texts hold, right and wrong ones.
const WRAPPER_CLOSERS: [&str; 4] = ["</tool_call>", "</tool_calls>", "</Tool-Calls>", "<|im_end|>"];
const CALL_CLOSERS: [&str; 2] = ["</function>", "</func>"];

enum Header {
    Coder(String, usize),
    Tags(String, usize),
    Json(usize, bool),
}

impl Twin<'_> {
    fn run(&mut self) -> Option<()> {
        let mut at = self.think();
        while at < self.text.len() {
            let rest = &self.text[at..];
            if rest.starts_with('<')
                && opener_allowed(&self.prose)
                && let Some((header, wrappers)) = self.opener(at)
            {
                self.drop_blanks();
                at = self.call(header, wrappers)?;
                self.prose.clear();
                continue;
            }
            let c = rest.chars().next().expect("not at the end");
            self.prose.push(c);
            self.out.text.push(c);
            at += c.len_utf8();
        }
        Some(())
    }

    /// Blanks directly before an opener are not content, unless there are too many.
    fn drop_blanks(&mut self) {
        let blanks = self.prose.len() - self.prose.trim_end().len();
        if blanks <= 256 {
            self.out.text.truncate(self.out.text.len() - blanks);
        }
    }

    fn think(&mut self) -> usize {
        let blanks = blanks(self.text);
        let rest = &self.text[blanks..];
        if blanks > 256 {
            return 0;
        }
        let end = if rest.starts_with("</think>") {
            blanks + "</think>".len()
        } else if rest.starts_with("<think>") && self.tool("think").is_none() {
            let start = blanks + "<think>".len();
            match self.text[start..].find("</think>") {
                Some(length) => {
                    self.out.reasoning = self.text[start..start + length].into();
                    start + length + "</think>".len()
                }
                None => {
                    self.out.reasoning = self.text[start..].into();
                    self.text.len()
                }
            }
        } else {
            return 0;
        };
        end + self::blanks(&self.text[end..])
    }

    fn tool(&self, name: &str) -> Option<&Declared> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    fn declares(&self, tool: &str, key: &str) -> bool {
        self.tool(tool).is_some_and(|tool| tool.parameters.iter().any(|(name, _)| *name == key))
    }

    fn types(&self, tool: &str, key: &str) -> Types {
        let declared = self.tool(tool).and_then(|tool| {
            tool.parameters.iter().find(|(name, _)| *name == key).map(|(_, schema)| schema)
        });
        declared.map_or(Types::STRING, |schema| Types::of(&schema.into()))
    }

    /// A confirmed opener at `at`, and in how many wrappers.
    fn opener(&self, at: usize) -> Option<(Header, u8)> {
        self.alone(at).or_else(|| {
            let around = ["<tool_calls>", "<function_calls>"];
            let around = around.into_iter().find(|tag| self.text[at..].starts_with(tag))?;
            self.alone(self.past_blanks(at + around.len())?)
        })
    }

    /// The same, with nothing around it.
    fn alone(&self, at: usize) -> Option<(Header, u8)> {
        if self.text[at..].starts_with("<tool_call>") {
            let mut at = at;
            for wrappers in 1..=4 {
                at += "<tool_call>".len();
                at = self.past_blanks(at)?;
                if let Some(header) = self.inside(at) {
                    return Some((header, wrappers));
                }
                if !self.text[at..].starts_with("<tool_call>") {
                    return None;
                }
            }
            return None;
        }
        self.function(at, false).or_else(|| self.tag(at)).map(|header| (header, 0))
    }

    /// What may follow `<tool_call>`.
    fn inside(&self, at: usize) -> Option<Header> {
        let rest = &self.text[at..];
        if rest.starts_with('{') {
            return Some(Header::Json(at, false));
        }
        if rest.starts_with('[') {
            let at = self.past_blanks(at + 1)?;
            return self.text[at..].starts_with('{').then_some(Header::Json(at, true));
        }
        self.function(at, true).or_else(|| self.tag(at))
    }

    fn past_blanks(&self, at: usize) -> Option<usize> {
        let blanks = blanks(&self.text[at..]);
        (blanks <= 256 && at + blanks < self.text.len()).then_some(at + blanks)
    }

    fn function(&self, at: usize, any: bool) -> Option<Header> {
        let rest = self.text[at..].strip_prefix("<function=")?;
        let raw = short_name(rest)?;
        let bare = raw.trim_ascii().trim_matches(['"', '\'']);
        let name = if self.tool(raw).is_some() {
            raw
        } else if self.tool(bare).is_some() {
            bare
        } else if any && !raw.contains(['\n', '<']) && !bare.is_empty() {
            raw
        } else {
            return None;
        };
        let after = self.past_blanks(at + "<function=".len() + raw.len() + 1)?;
        let rest = &self.text[after..];
        let parameter =
            rest.strip_prefix("<parameter=").is_some_and(|rest| short_name(rest).is_some());
        (parameter || rest.starts_with("</function>") || rest.starts_with("</tool_call>"))
            .then(|| Header::Coder(name.into(), after))
    }

    fn tag(&self, at: usize) -> Option<Header> {
        let name = short_name(self.text[at..].strip_prefix('<')?)?;
        self.tool(name)?;
        let after = self.past_blanks(at + name.len() + 2)?;
        let rest = &self.text[after..];
        (rest.starts_with(&format!("</{name}>")) || self.key_tag(name, rest).is_some())
            .then(|| Header::Tags(name.into(), after))
    }

    /// `<KEY>` with a declared key.
    fn key_tag<'t>(&self, tool: &str, rest: &'t str) -> Option<&'t str> {
        short_name(rest.strip_prefix('<')?).filter(|key| self.declares(tool, key))
    }

    fn call(&mut self, header: Header, wrappers: u8) -> Option<usize> {
        let (mut at, mut closers, mut wrapped) = match header {
            Header::Coder(name, at) => self.body(&name, at, true, wrappers),
            Header::Tags(name, at) => self.body(&name, at, false, wrappers),
            Header::Json(at, array) => {
                let at = self.json(at, array)?;
                (at, wrappers.max(1), true)
            }
        };
        loop {
            at = self.text.len() - self.text[at..].trim_start().len();
            let rest = &self.text[at..];
            if let Some(behind) = rest.strip_prefix("<tool_call>")
                && behind.len() <= 256
                && behind.trim_start().is_empty()
            {
                return Some(self.text.len());
            }
            if let Some(closer) = WRAPPER_CLOSERS.iter().find(|closer| rest.starts_with(**closer)) {
                at += closer.len();
                closers = closers.saturating_sub(1);
                wrapped = wrapped && closers > 0;
                continue;
            }
            if let Some(closer) = CALL_CLOSERS
                .iter()
                .chain(&["</parameter>"])
                .find(|closer| rest.starts_with(**closer))
            {
                at += closer.len();
                continue;
            }
            if rest.len() > 1 && "</tool_call>".starts_with(rest) {
                return Some(self.text.len());
            }
            if let Some(name) = rest.strip_prefix("</").and_then(short_name)
                && self.tool(name).is_some()
            {
                at += name.len() + "</>".len();
                continue;
            }
            if wrapped && let Some(header) = self.inside(at) {
                return self.call(header, closers);
            }
            return Some(at);
        }
    }

    /// The parameters of a call; where it ends, how many wrappers are to be closed, and whether
    /// one is open.
    fn body(&mut self, name: &str, start: usize, coder: bool, wrappers: u8) -> (usize, u8, bool) {
        let mut arguments = Map::new();
        let mut used: Vec<String> = Vec::new();
        let mut at = start;
        let mut closed = 0;
        loop {
            at += blanks(&self.text[at..]);
            let rest = &self.text[at..];
            let closer = if coder { "</function>".to_owned() } else { format!("</{name}>") };
            let key = if coder {
                rest.strip_prefix("<parameter=").and_then(short_name)
            } else {
                self.key_tag(name, rest)
            };
            if let Some(raw) = key {
                at += raw.len() + if coder { "<parameter=>".len() } else { "<>".len() };
                let mut key = raw.to_owned();
                let mut inline = None;
                if coder && !self.declares(name, raw) {
                    let bare = raw.trim_ascii().trim_matches(['"', '\'']);
                    if self.declares(name, bare) {
                        key = bare.into();
                    } else if let Some((k, v)) =
                        raw.strip_suffix("</parameter").and_then(|raw| raw.split_once(['=', '\n']))
                        && self.declares(name, k.trim_ascii())
                    {
                        key = k.trim_ascii().into();
                        inline = Some(v.strip_suffix('\n').unwrap_or(v).to_owned());
                    }
                }
                used.push(key.clone());
                let value = match inline {
                    Some(value) => value,
                    None => {
                        let (value, end) = self.value(name, &key, &used, at, coder);
                        at = end;
                        value
                    }
                };
                let types = self.types(name, &key);
                if !coder && types != Types::STRING && value.trim().starts_with('<') {
                    self.unknown = true;
                }
                let mut json = String::new();
                if convert(&value, types, &mut json) {
                    arguments.insert(key, serde_json::from_str(&json).expect("converted to JSON"));
                }
                continue;
            }
            if rest.starts_with(&closer) {
                at += closer.len();
            } else if rest.starts_with("</tool_call>") {
                at += "</tool_call>".len();
                closed = 1;
            } else if self.may_go_on(name, rest, coder) {
                // Cut inside of markup.
                at = self.text.len();
            }
            break;
        }
        self.out.calls.push((name.into(), Value::Object(arguments)));
        (at, wrappers.max(1) - closed, wrappers > closed)
    }

    /// Whether the rest of the text is the beginning of a parameter or a closer.
    fn may_go_on(&self, name: &str, rest: &str, coder: bool) -> bool {
        let begins = |whole: &str| whole.starts_with(rest);
        if rest.is_empty() {
            return false;
        }
        if begins("</tool_call>") {
            return true;
        }
        if coder {
            let open = rest
                .strip_prefix("<parameter=")
                .is_some_and(|key| !key.contains('>') && key.len() <= 264);
            open || begins("<parameter=") || begins("</function>")
        } else {
            let keys = self.tool(name).map(|tool| tool.parameters.as_slice()).unwrap_or_default();
            begins(&format!("</{name}>")) || keys.iter().any(|(key, _)| begins(&format!("<{key}>")))
        }
    }

    /// The value that begins at `start`, and where the text goes on after it.
    fn value(
        &self,
        name: &str,
        key: &str,
        used: &[String],
        start: usize,
        coder: bool,
    ) -> (String, usize) {
        let start = start + leading_newline(&self.text[start..]);
        for (at, _) in self.text[start..].match_indices('<') {
            let at = start + at;
            let value = &self.text[start..at];
            if let Some(end) = self.ends(name, key, used, value, at, coder) {
                return (without_newline(value).into(), end);
            }
        }
        (without_newline(&self.text[start..]).into(), self.text.len())
    }

    /// Whether the tag at `at` ends the value before it; where the text goes on.
    fn ends(
        &self,
        name: &str,
        key: &str,
        used: &[String],
        value: &str,
        at: usize,
        coder: bool,
    ) -> Option<usize> {
        let rest = &self.text[at..];
        let (own, whole) = if coder {
            ("</parameter>".to_owned(), "</function>".to_owned())
        } else {
            (format!("</{key}>"), format!("</{name}>"))
        };
        if let Some(after) = rest.strip_prefix(&own) {
            let next = |tag: &str, rest: &str| {
                if coder {
                    tag_or_cut("<parameter=", rest)
                } else {
                    let _ = tag;
                    self.tool(name).is_some_and(|tool| {
                        tool.parameters.iter().any(|(key, _)| tag_or_cut(&format!("<{key}>"), rest))
                    })
                }
            };
            if self.follows(after, |rest| {
                next("", rest)
                    || tag_or_cut(&whole, rest)
                    || tag_or_cut("</tool_call>", rest)
                    || self.opens(rest, coder)
                    || WRAPPER_CLOSERS.iter().any(|closer| rest.starts_with(closer))
                    || CALL_CLOSERS.iter().any(|closer| rest.starts_with(closer))
            }) {
                return Some(at + own.len());
            }
        }
        if let Some(after) = rest.strip_prefix(&whole)
            && self.follows(after, |rest| {
                tag_or_cut("</tool_call>", rest)
                    || self.opens(rest, coder)
                    || WRAPPER_CLOSERS.iter().any(|closer| rest.starts_with(closer))
            })
        {
            return Some(at);
        }
        if let Some(after) = rest.strip_prefix("</tool_call>")
            && self.follows(after, |rest| self.opens(rest, coder))
        {
            return Some(at);
        }
        if value.is_empty() || value.ends_with('\n') {
            let next = if coder {
                rest.strip_prefix("<parameter=")
                    .and_then(short_name)
                    .filter(|key| self.declares(name, key))
            } else {
                self.key_tag(name, rest)
            };
            if next.is_some_and(|next| next != key && !used.iter().any(|used| used == next)) {
                return Some(at);
            }
        }
        None
    }

    fn follows(&self, after: &str, accept: impl Fn(&str) -> bool) -> bool {
        let gap = blanks(after);
        gap <= 256 && (gap == after.len() || accept(&after[gap..]))
    }

    /// Whether an opener's tag stands at the start of `rest`, or what may become one at the end.
    fn opens(&self, rest: &str, coder: bool) -> bool {
        if tag_or_cut("<tool_call>", rest)
            || tag_or_cut("<function=", rest) && !rest.starts_with("<function=")
        {
            return true;
        }
        if let Some(after) = rest.strip_prefix("<function=") {
            return match short_name(after) {
                Some(raw) => {
                    self.tool(raw).is_some()
                        || self.tool(raw.trim_ascii().trim_matches(['"', '\''])).is_some()
                }
                None => {
                    let bare = after.trim_ascii().trim_matches(['"', '\'']);
                    !after.contains('>')
                        && after.len() <= 264
                        && self
                            .tools
                            .iter()
                            .any(|tool| tool.name.starts_with(after) || tool.name.starts_with(bare))
                }
            };
        }
        !coder && self.tools.iter().any(|tool| tag_or_cut(&format!("<{}>", tool.name), rest))
    }

    /// The objects of a wrapper from `at` on; where they end.
    fn json(&mut self, at: usize, mut array: bool) -> Option<usize> {
        let mut at = at;
        loop {
            let (fields, length) = object(&self.text[at..])?;
            at += length;
            let mut name = None;
            let mut arguments = Value::Object(Map::new());
            for (key, value) in fields {
                match key.as_str() {
                    "name" => {
                        name = Some(value.as_str().filter(|name| !name.is_empty())?.to_owned())
                    }
                    "arguments" | "parameters" => arguments = as_object(value)?,
                    _ => {}
                }
            }
            self.out.calls.push((name?, arguments));
            loop {
                at += blanks(&self.text[at..]);
                let rest = &self.text[at..];
                if rest.starts_with('}') || array && rest.starts_with(',') {
                    at += 1;
                } else if array && rest.starts_with(']') {
                    array = false;
                    at += 1;
                } else {
                    break;
                }
            }
            if !self.text[at..].starts_with('{') {
                return Some(at);
            }
        }
    }
}

fn as_object(value: Value) -> Option<Value> {
    match value {
        Value::Object(_) => Some(value),
        Value::Null => Some(Value::Object(Map::new())),
        Value::String(inner) if inner.trim_ascii().is_empty() => Some(Value::Object(Map::new())),
        Value::String(inner) => serde_json::from_str(&inner).ok().filter(Value::is_object),
        _ => None,
    }
}

/// A strictly valid object at the start of `text`, without repeated keys, and its length.
fn object(text: &str) -> Option<(Vec<(String, Value)>, usize)> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Box<RawValue>>();
    let raw = stream.next()?.ok()?;
    let length = stream.byte_offset();
    let fields: Map<String, Value> = serde_json::from_str(raw.get()).ok()?;
    let known =
        fields.keys().filter(|key| matches!(key.as_str(), "arguments" | "parameters")).count();
    // Repeated keys are lost on the way to a map: those that count are counted in the text.
    let repeated = ["name", "arguments", "parameters"]
        .iter()
        .any(|key| raw.get().matches(&format!("\"{key}\"")).count() > 1);
    (known <= 1 && !repeated).then(|| (fields.into_iter().collect(), length))
}

/// Whether `tag` stands at the start of `rest`, or is cut by its end.
fn tag_or_cut(tag: &str, rest: &str) -> bool {
    rest.starts_with(tag) || tag.starts_with(rest)
}

fn short_name(rest: &str) -> Option<&str> {
    let end = rest.find('>')?;
    (end > 0 && end < 264).then(|| &rest[..end])
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_ascii_start().len()
}

fn leading_newline(text: &str) -> usize {
    if text.starts_with("\r\n") { 2 } else { usize::from(text.starts_with('\n')) }
}

fn without_newline(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

/// Whether an opener may follow `prose`, which began at the start of a line.
fn opener_allowed(prose: &str) -> bool {
    !in_fence(prose) && !shielded(prose)
}

fn in_fence(prose: &str) -> bool {
    let mut fence: Option<(char, usize)> = None;
    let mut lines: Vec<&str> = prose.split('\n').collect();
    let last = lines.pop().unwrap_or_default();
    for line in lines {
        match fence {
            None => fence = opening_fence(line),
            Some((mark, length)) => {
                let run = line.strip_prefix(indent(line, false)).unwrap_or(line);
                let closing = run.trim_end_matches([' ', '\t', '\r']);
                if closing.len() >= length && closing.chars().all(|c| c == mark) {
                    fence = None;
                }
            }
        }
    }
    fence.is_some() || opening_fence(last).is_some()
}

/// Up to three blanks at the start of a line; the fourth makes it no indent at all.
fn indent(line: &str, returns: bool) -> &str {
    let end = line.find(|c| c != ' ' && !(returns && c == '\r')).unwrap_or(line.len());
    if line[..end].matches(' ').count() > 3 { "" } else { &line[..end] }
}

fn opening_fence(line: &str) -> Option<(char, usize)> {
    let run = &line[indent(line, true).len()..];
    let mark = run.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let info = run.trim_start_matches(mark);
    let length = run.len() - info.len();
    (length >= 3 && !(mark == '`' && info.contains('`'))).then_some((mark, length))
}

/// After a backtick, or after tags that began right after one.
fn shielded(prose: &str) -> bool {
    if prose.ends_with('`') {
        return true;
    }
    // What a quoted wrapper holds is quoted, on the next line, too.
    let trim = |text: &'_ str| -> usize {
        let trimmed = text.trim_ascii_end();
        if trimmed.ends_with("<tool_call>") {
            trimmed.len()
        } else {
            text.trim_end_matches(' ').len()
        }
    };
    let mut rest = &prose[..trim(prose)];
    while let Some(inner) = rest.strip_suffix('>') {
        let Some(start) = inner.rfind(['<', '>', '`', '\n']) else { return false };
        if !inner[start..].starts_with('<') {
            return false;
        }
        if inner[..start].ends_with('`') {
            return true;
        }
        rest = &inner[..trim(&inner[..start])];
    }
    false
}

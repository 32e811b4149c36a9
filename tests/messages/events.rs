//! Answers that keep the contract of `ChatEvent`, made of bytes: so that a property test, a fuzz
//! target and the clients of other languages can be given the same ones.

use serde_json::json;
use tower_qwen::{
    Error, ErrorKind,
    chat::{
        Attachment, AttachmentKind, ChatEvent, Citation, Conversation, Extra, FinishReason, Usage,
    },
};

pub(crate) type Item = Result<ChatEvent, Error>;

/// What the events of an answer say, joined.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) thinking: String,
    /// The names and the arguments of the calls.
    pub(crate) calls: Vec<(String, String)>,
    /// What began when, neighbours of one kind being one.
    pub(crate) order: Vec<Kind>,
    /// Whether the arguments of the last call are cut.
    pub(crate) is_cut: bool,
    /// The last counts.
    pub(crate) usage: Option<Usage>,
    pub(crate) end: Option<Result<FinishReason, ErrorKind>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Thinking,
    Call,
}

const PIECES: [&str; 10] = [
    "a",
    "Hello ",
    "\n\n",
    "\"",
    "\\",
    "\u{1F30C}",
    "\u{0}\u{1f}",
    "</tool_call>",
    "é\u{2028}",
    " ",
];

const NAMES: [&str; 4] = ["read", "list", "mcp__server__tool", "x"];

const ARGUMENTS: [&str; 8] = [
    "{}",
    r#"{"path":"a.txt"}"#,
    r#"{"a":"\"}{\\","b":[1,-2.5e3,null,true]}"#,
    "{\n  \"a\" : {\"b\": {\"c\": []}}\n}",
    r#"{"a":"é🌌\u00e9\ud83c\udf0c"}"#,
    " {\"a\":1} \n",
    r#"{"":"","q":"'"}"#,
    r#"{"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#,
];

struct Program<'a>(&'a [u8]);

impl Program<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[usize::from(self.next()) % of.len()]
    }
}

#[derive(Default)]
struct Maker {
    items: Vec<Item>,
    said: Said,
    /// What is left of the arguments of each call.
    left: Vec<&'static str>,
}

impl Maker {
    fn begin(&mut self, kind: Kind) {
        if kind == Kind::Call || self.said.order.last() != Some(&kind) {
            self.said.order.push(kind);
        }
    }

    fn event(&mut self, event: ChatEvent) {
        self.items.push(Ok(event));
    }

    /// The next characters of the arguments of a call.
    fn arguments(&mut self, call: usize, chars: usize) {
        let left = self.left[call];
        let end = left.char_indices().nth(chars).map_or(left.len(), |(at, _)| at);
        let (piece, rest) = left.split_at(end);
        if !piece.is_empty() {
            self.left[call] = rest;
            self.said.calls[call].1.push_str(piece);
            self.event(ChatEvent::ToolArguments { index: call as u32, json: piece.into() });
        }
    }
}

/// The answer that `program` is, and what it says.
pub(crate) fn answer(program: &[u8]) -> (Vec<Item>, Said) {
    let mut program = Program(program);
    let mut maker = Maker::default();
    let end = program.next();
    if end & 128 != 0 {
        maker.event(ChatEvent::Started(Conversation::new("c").with_parent("a").into()));
    }
    while !program.0.is_empty() {
        match program.next() % 20 {
            0..4 => {
                let text = program.one(&PIECES);
                maker.begin(Kind::Text);
                maker.said.text.push_str(text);
                maker.event(ChatEvent::Text(text.into()));
            }
            4..7 => {
                let text = program.one(&PIECES);
                maker.begin(Kind::Thinking);
                maker.said.thinking.push_str(text);
                maker.event(ChatEvent::Reasoning(text.into()));
            }
            7 if !maker.said.thinking.is_empty() => {
                maker.event(ChatEvent::ReasoningSignature("of the upstream's".into()));
            }
            8..10 => {
                let index = maker.left.len();
                let name = program.one(&NAMES);
                maker.begin(Kind::Call);
                maker.said.calls.push((name.into(), String::new()));
                maker.left.push(program.one(&ARGUMENTS));
                let id = format!("call_{index}").into();
                maker.event(ChatEvent::ToolCall { index: index as u32, id, name: name.into() });
            }
            10..16 if !maker.left.is_empty() => {
                let call = usize::from(program.next()) % maker.left.len();
                let chars = 1 + usize::from(program.next()) % 24;
                maker.arguments(call, chars);
            }
            16 => {
                let mut usage = Usage::new(program.next().into(), program.next().into());
                usage.cached_tokens = Some(program.next().into());
                usage.reasoning_tokens = Some(program.next().into());
                maker.said.usage = Some(usage);
                maker.event(ChatEvent::Usage(usage));
            }
            17 => {
                let mut fields = Extra::new();
                fields.insert("system_fingerprint", json!("f"));
                maker.event(ChatEvent::ServerFields(fields));
            }
            18 => maker.event(ChatEvent::Citation(Citation::new("https://example.org").into())),
            _ => {
                let image = Attachment::new(AttachmentKind::Image, "https://example.org/i".into());
                maker.begin(Kind::Text);
                maker.said.text.push_str(&image.markdown());
                maker.event(ChatEvent::Attachment(image));
            }
        }
    }
    let end = match end % 16 {
        0..3 => Ok(FinishReason::Stop),
        3..6 => Ok(FinishReason::ToolCalls),
        6..9 => Ok(FinishReason::Length),
        9..11 => Ok(FinishReason::ContentFilter),
        11..13 => Err(ErrorKind::ContentFilter),
        13 => Err(ErrorKind::ContextLength),
        14 => Err(ErrorKind::Overloaded),
        _ => Err(ErrorKind::Truncated),
    };
    let may_be_cut = !matches!(end, Ok(FinishReason::Stop | FinishReason::ToolCalls));
    // An answer of nothing at all is an error, which has a test of its own.
    if !may_be_cut
        && maker.said.text.is_empty()
        && maker.said.thinking.is_empty()
        && maker.left.is_empty()
    {
        maker.begin(Kind::Text);
        maker.said.text.push_str(PIECES[0]);
        maker.event(ChatEvent::Text(PIECES[0].into()));
    }
    let whole = maker.left.len().saturating_sub(usize::from(may_be_cut));
    for call in 0..whole {
        maker.arguments(call, usize::MAX);
    }
    maker.said.is_cut = whole < maker.left.len()
        && serde_json::from_str::<serde_json::Value>(&maker.said.calls[whole].1).is_err();
    maker.said.end = Some(end);
    maker.items.push(match end {
        Ok(reason) => Ok(ChatEvent::Finished(reason)),
        Err(kind) => Err(Error::new(kind, "what went wrong")),
    });
    (maker.items, maker.said)
}

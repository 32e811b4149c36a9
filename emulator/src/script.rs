//! The event stream of one answer, event by event.

use std::{collections::VecDeque, time::Duration};

use crate::json::{Value, json};
use bytes::{BufMut, Bytes, BytesMut};

use super::{body::Step, builder::Style, clock::Clock};

/// How often the web API says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How many waits the emulator's own pace takes at most, so that a long answer still ends in
/// seconds. The `slow` directive knows no such limit.
pub(super) const PACED_DELTAS: usize = 1_024;

/// The words that `tokens=n` repeats.
const WORDS: [&str; 8] = ["one", " two", " three", " four", " five", " six", " seven", "."];

/// How much of an answer made by `tokens=n` the chat remembers.
const REMEMBERED: usize = 64 * 1024;

/// The text of an answer, read delta by delta.
#[derive(Debug)]
pub(super) enum Answer {
    /// This text, cut about where a tokenizer would.
    Text { text: String, at: usize },
    /// A number of short words.
    Words { count: usize, at: usize, remembered: String },
}

impl Answer {
    pub(super) fn text(text: String) -> Self {
        Self::Text { text, at: 0 }
    }

    pub(super) fn words(count: usize) -> Self {
        Self::Words { count, at: 0, remembered: String::new() }
    }

    /// The next delta, and the text up to and with it.
    pub(super) fn advance(&mut self) -> Option<(&str, &str)> {
        match self {
            Self::Text { text, at } => {
                let start = *at;
                if start == text.len() {
                    return None;
                }
                *at += token_length(&text[start..]);
                Some((&text[start..*at], &text[..*at]))
            }
            Self::Words { count, at, remembered } => {
                if at == count {
                    return None;
                }
                let word = WORDS[*at % WORDS.len()];
                *at += 1;
                if remembered.len() < REMEMBERED {
                    remembered.push_str(word);
                }
                Some((word, remembered))
            }
        }
    }

    /// Whether everything was read.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Text { text, at } => *at == text.len(),
            Self::Words { count, at, .. } => at == count,
        }
    }

    /// What was read so far.
    fn so_far(&self) -> &str {
        match self {
            Self::Text { text, at } => &text[..*at],
            Self::Words { remembered, .. } => remembered,
        }
    }

    /// The whole text, for an answer that is not streamed.
    pub(super) fn into_text(mut self) -> String {
        match &mut self {
            Self::Text { text, .. } => std::mem::take(text),
            Self::Words { count, .. } => (0..*count).map(|n| WORDS[n % WORDS.len()]).collect(),
        }
    }
}

/// How much of `text`, which is not empty, one token takes: the markers of tool calls whole, else
/// blanks with up to six letters or three other characters after them.
fn token_length(text: &str) -> usize {
    for marker in ["<tool_call>", "</tool_call>"] {
        if text.starts_with(marker) {
            return marker.len();
        }
    }
    let mut letters = 0;
    let mut others = 0;
    for (at, c) in text.char_indices() {
        if c.is_alphanumeric() {
            if letters == 6 || others > 0 {
                return at;
            }
            letters += 1;
        } else if c.is_whitespace() {
            if letters > 0 || others > 0 || at >= 16 {
                return at;
            }
        } else {
            if letters > 0 || others == 3 || (others > 0 && c == '<') {
                return at;
            }
            others += 1;
        }
    }
    text.len()
}

/// Who the events of a stream speak of, and how they are written.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) style: Style,
    pub(super) clock: Clock,
    pub(super) chat_id: String,
    pub(super) parent_id: String,
    pub(super) response_id: String,
    /// Whether deltas name their phase.
    pub(super) phases: bool,
    /// Whether lines end with a carriage return and a line feed.
    pub(super) crlf: bool,
    /// Whether a blank line separates events.
    pub(super) blank_lines: bool,
    /// Whether deltas carry the whole text so far.
    pub(super) cumulative: bool,
    pub(super) input_tokens: u64,
}

/// What a delta says of its progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) text: u64,
    pub(super) reasoning: u64,
}

impl Wire {
    /// One event of `json`.
    pub(super) fn event(&self, json: &[u8]) -> Bytes {
        let mut event = BytesMut::with_capacity(json.len() + 10);
        event.put_slice(b"data: ");
        event.put_slice(json);
        self.end(&mut event);
        event.freeze()
    }

    fn end(&self, event: &mut BytesMut) {
        let newline: &[u8] = if self.crlf { b"\r\n" } else { b"\n" };
        event.put_slice(newline);
        if self.blank_lines {
            event.put_slice(newline);
        }
    }

    /// One event of `value`, spaced in the stream's style.
    pub(super) fn value(&self, value: &Value) -> Bytes {
        let mut json = Vec::new();
        match self.style {
            Style::Autumn2025 => write_spaced(value, &mut json),
            Style::Autumn2026 => json = value.to_string().into_bytes(),
        }
        self.event(&json)
    }

    /// The first event.
    pub(super) fn created(&self) -> Bytes {
        let Self { chat_id, parent_id, response_id, .. } = self;
        // The uneven spacing and the trailing blank of 2025 are as recorded.
        let json = match self.style {
            Style::Autumn2025 => format!(
                "{{\"response.created\":{{\"chat_id\": \"{chat_id}\", \"parent_id\": \
                 \"{parent_id}\", \"response_id\":\"{response_id}\"}}}} "
            ),
            Style::Autumn2026 => format!(
                "{{\"response.created\":{{\"chat_id\":\"{chat_id}\",\"parent_id\":\
                 \"{parent_id}\",\"response_id\":\"{response_id}\",\"response_index\":\"0\"}}}}"
            ),
        };
        self.event(json.as_bytes())
    }

    pub(super) fn keep_alive(&self) -> Bytes {
        self.value(&json!({"response.info": {
            "action": "keep_alive", "chat_id": self.chat_id, "response_id": self.response_id,
            "timestamp": self.clock.unix_seconds(),
        }}))
    }

    /// A typing delta with visible text: the event that there are most of, so it is written
    /// straight into its buffer.
    pub(super) fn typing(&self, content: &str, phase: &str, spent: Option<Spent>) -> Bytes {
        let spaced = self.style == Style::Autumn2025;
        let mut event = BytesMut::with_capacity(content.len() + 400);
        let put = |event: &mut BytesMut, text: &str| {
            // Texts that are written here hold no blank outside their separators.
            for part in text.split_inclusive([':', ',']) {
                event.put_slice(part.as_bytes());
                if spaced && part.ends_with([':', ',']) {
                    event.put_u8(b' ');
                }
            }
        };
        event.put_slice(b"data: ");
        put(&mut event, "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":");
        write_string(&mut event, content);
        if self.phases {
            put(&mut event, ",\"phase\":\"");
            event.put_slice(phase.as_bytes());
            event.put_u8(b'"');
        }
        put(&mut event, ",\"status\":\"typing\"}}]");
        if !spaced {
            event.put_slice(b",\"response_id\":");
            write_string(&mut event, &self.response_id);
        }
        if let Some(spent) = spent {
            put(&mut event, ",\"usage\":");
            self.usage(&mut event, spent, &put);
        }
        if !spaced {
            event.put_slice(b",\"timestamp\":");
            write_number(&mut event, self.clock.unix_seconds());
        }
        event.put_u8(b'}');
        self.end(&mut event);
        event.freeze()
    }

    fn usage(&self, event: &mut BytesMut, spent: Spent, put: &impl Fn(&mut BytesMut, &str)) {
        let output = spent.text + spent.reasoning;
        put(event, "{\"input_tokens\":");
        write_number(event, self.input_tokens);
        put(event, ",\"output_tokens\":");
        write_number(event, output);
        put(event, ",\"characters\":0,\"total_tokens\":");
        write_number(event, self.input_tokens + output);
        put(event, ",\"input_tokens_details\":{\"text_tokens\":");
        write_number(event, self.input_tokens);
        put(event, "},\"output_tokens_details\":{\"text_tokens\":");
        write_number(event, spent.text);
        if self.style == Style::Autumn2026 || spent.reasoning > 0 {
            put(event, ",\"reasoning_tokens\":");
            write_number(event, spent.reasoning);
        }
        put(event, "},\"cached_tokens\":0}");
    }

    /// The end of a phase; of the turn, if the phase is `answer` or `image_gen`.
    pub(super) fn finished(&self, phase: &str) -> Bytes {
        let mut delta = json!({"content": "", "role": "assistant", "status": "finished"});
        if self.phases {
            delta["phase"] = phase.into();
        }
        self.delta(delta)
    }

    /// An event around any delta.
    pub(super) fn delta(&self, delta: Value) -> Bytes {
        let mut event = json!({"choices": [{"delta": delta}]});
        if self.style == Style::Autumn2026 {
            event["response_id"] = self.response_id.as_str().into();
        }
        self.value(&event)
    }

    /// An error in the stream.
    pub(super) fn error(&self, error: &Value) -> Bytes {
        self.value(&json!({
            "error": error, "response_id": self.response_id, "response_index": 0,
        }))
    }
}

fn write_string(event: &mut BytesMut, text: &str) {
    // Writing to a `BytesMut` cannot fail, and a string is always valid JSON.
    let _ = serde_json::to_writer(event.writer(), text);
}

fn write_number(event: &mut BytesMut, number: u64) {
    let _ = serde_json::to_writer(event.writer(), &number);
}

/// Writes `value` with the separators of Python's encoder, as the API of 2025 does.
fn write_spaced(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            out.push(b'{');
            for (n, (key, value)) in map.fields().enumerate() {
                if n > 0 {
                    out.extend_from_slice(b", ");
                }
                out.extend_from_slice(Value::from(key).to_string().as_bytes());
                out.extend_from_slice(b": ");
                write_spaced(value, out);
            }
            out.push(b'}');
        }
        Value::Array(values) => {
            out.push(b'[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    out.extend_from_slice(b", ");
                }
                write_spaced(value, out);
            }
            out.push(b']');
        }
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

/// How a stream ends.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// As it should: the last deltas, then the end of the body.
    Whole {
        /// The socket stays open after the last event.
        hold: bool,
        /// A `[DONE]` after the last event, as some gateways add.
        done: bool,
    },
    /// These events, then the end of the body.
    Events(Vec<Bytes>),
    /// The body ends, as if the socket had been closed.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing more ever comes.
    Stall,
}

/// The plan of a stream.
#[derive(Debug)]
pub(super) struct Script {
    source: Source,
    wire: Wire,
    /// What is still to be said before anything else.
    queue: VecDeque<Step>,
    /// The wait before each delta, and for how many of them.
    pace: Duration,
    paced: usize,
    /// How many deltas may be sent before `ending`; `None` is all of them.
    allowed: Option<usize>,
    sent: usize,
    reasoning: u64,
    ending: Option<Ending>,
    keep_alive: bool,
    holding: bool,
}

#[derive(Debug)]
enum Source {
    Answer(Answer),
    /// A recorded stream, read event by event.
    Recording(Bytes),
    /// The same bytes for good: the punish body that does not end.
    Endless(Bytes),
}

impl Script {
    /// The stream of `answer`, after what `opening` says.
    pub(super) fn answer(wire: Wire, answer: Answer, ending: Ending) -> Self {
        let created = Step::Send(wire.created());
        Self::new(Source::Answer(answer), wire, [created].into(), ending)
    }

    /// A recorded stream.
    pub(super) fn recording(wire: Wire, recording: Bytes, ending: Ending) -> Self {
        Self::new(Source::Recording(recording), wire, VecDeque::new(), ending)
    }

    /// `page`, then `filler` every 50 ms for good.
    pub(super) fn endless(wire: Wire, page: Bytes, filler: Bytes) -> Self {
        Self::new(Source::Endless(filler), wire, [Step::Send(page)].into(), Ending::Stall)
    }

    fn new(source: Source, wire: Wire, queue: VecDeque<Step>, ending: Ending) -> Self {
        Self {
            source,
            wire,
            queue,
            pace: Duration::ZERO,
            paced: 0,
            allowed: None,
            sent: 0,
            reasoning: 0,
            ending: Some(ending),
            keep_alive: false,
            holding: false,
        }
    }

    /// Waits `pace` before each of the first deltas.
    pub(super) fn paced(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self.paced = PACED_DELTAS;
        self
    }

    /// Waits `pace` before every delta.
    pub(super) fn slowed(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self.paced = usize::MAX;
        self
    }

    /// Goes to the ending after this many deltas, if there are as many.
    pub(super) fn after(mut self, deltas: usize) -> Self {
        self.allowed = Some(deltas);
        self
    }

    /// Puts `steps` between the first event and the answer; `reasoning` tokens were spent there.
    pub(super) fn preceded(
        mut self,
        steps: impl IntoIterator<Item = Step>,
        reasoning: u64,
    ) -> Self {
        self.queue.extend(steps);
        self.reasoning = reasoning;
        self
    }

    /// Says now and then that the server is still there, and goes on to say so on a socket that
    /// is held open.
    pub(super) fn keep_alive(mut self) -> Self {
        let event = self.wire.keep_alive();
        self.queue.push_back(Step::Send(event));
        self.keep_alive = true;
        self
    }

    /// The text that was sent as the answer so far.
    pub(super) fn answered(&self) -> &str {
        match &self.source {
            Source::Answer(answer) => answer.so_far(),
            Source::Recording(_) | Source::Endless(_) => "",
        }
    }

    /// Whether the terminal event was given, so that nothing of the answer is left: a client may
    /// go then, and most do.
    pub(super) fn is_complete(&self) -> bool {
        match (self.queue.front(), &self.source, &self.ending) {
            (Some(step), ..) => matches!(step, Step::Finish),
            (None, Source::Recording(rest), Some(Ending::Whole { .. })) => rest.is_empty(),
            (None, ..) => false,
        }
    }

    pub(super) fn next_step(&mut self) -> Step {
        if let Some(step) = self.queue.pop_front() {
            return step;
        }
        if self.holding {
            if !self.keep_alive {
                return Step::Hold;
            }
            let event = self.wire.keep_alive();
            self.queue.push_back(Step::Send(event));
            return Step::Wait(KEEP_ALIVE);
        }
        if self.ending.is_some() && self.allowed.is_none_or(|allowed| self.sent < allowed) {
            if let Source::Endless(filler) = &self.source {
                self.queue.push_back(Step::Send(filler.clone()));
                return Step::Wait(Duration::from_millis(50));
            }
            if let Some(event) = self.next_event() {
                self.sent += 1;
                if self.keep_alive && self.sent == 4 {
                    let event = self.wire.keep_alive();
                    self.queue.push_back(Step::Send(event));
                }
                if self.paced > 0 {
                    self.paced -= 1;
                    self.queue.push_back(Step::Send(event));
                    return Step::Wait(self.pace);
                }
                return Step::Send(event);
            }
        }
        match self.ending.take() {
            Some(ending) => self.end(ending),
            None => Step::End,
        }
    }

    fn next_event(&mut self) -> Option<Bytes> {
        match &mut self.source {
            Source::Answer(answer) => {
                let (delta, so_far) = answer.advance()?;
                let spent = Spent { text: self.sent as u64 + 1, reasoning: self.reasoning };
                let content = if self.wire.cumulative { so_far } else { delta };
                Some(self.wire.typing(content, "answer", Some(spent)))
            }
            Source::Recording(rest) => {
                if rest.is_empty() {
                    return None;
                }
                Some(rest.split_to(block_length(rest)))
            }
            Source::Endless(_) => None,
        }
    }

    fn end(&mut self, ending: Ending) -> Step {
        match ending {
            Ending::Whole { hold, done } => {
                if let Source::Answer(answer) = &self.source {
                    let spent = Spent { text: self.sent as u64, reasoning: self.reasoning };
                    let content = if self.wire.cumulative { answer.so_far() } else { "" };
                    self.queue.extend([
                        Step::Send(self.wire.typing(content, "answer", Some(spent))),
                        Step::Send(self.wire.finished("answer")),
                    ]);
                }
                self.queue.push_back(Step::Finish);
                if done {
                    self.queue.push_back(Step::Send(self.wire.event(b"[DONE]")));
                }
                self.holding = hold;
            }
            Ending::Events(events) => {
                self.queue.extend(events.into_iter().map(Step::Send));
                self.queue.push_back(Step::End);
            }
            Ending::Close => return Step::End,
            Ending::Reset => return Step::Fail,
            Ending::Stall => self.holding = true,
        }
        self.next_step()
    }
}

/// The length of the first line of `stream`, which is not empty, and of the blank lines after it.
pub(super) fn block_length(stream: &[u8]) -> usize {
    let Some(first) = stream.iter().position(|byte| *byte == b'\n') else {
        return stream.len();
    };
    let mut end = first + 1;
    loop {
        end += match &stream[end..] {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return end,
        };
    }
}

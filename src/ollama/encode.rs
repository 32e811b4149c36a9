//! The answer: events in, lines of JSON out, or one object.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use memchr::memchr2_iter;

use super::{
    api::Api,
    calls::Calls,
    decode::{Decoded, Loads},
    error::error_into,
};
use crate::{
    Error,
    chat::{Answer, ChatEvent, FinishReason, ToolCall, Usage, truncated},
    edge::{Times, Writer},
    json::{escape_into, number_into, string_into},
};

/// What all lines of an answer have in common.
#[derive(Debug)]
pub(super) struct Envelope {
    api: Api,
    /// `{"model":…,"created_at":…`.
    head: Bytes,
    shows_thinking: bool,
    /// What the client wants in place of an answer.
    loads: Option<Loads>,
    pub(super) times: Times,
}

impl Envelope {
    /// An answer that is asked for now.
    pub(super) fn new(api: Api, request: &Decoded) -> Self {
        let mut head = BytesMut::with_capacity(64 + request.model.len());
        head.put_slice(b"{\"model\":");
        string_into(&mut head, &request.model);
        head.put_slice(b",\"created_at\":");
        string_into(&mut head, &Timestamp::now().to_string());
        Self {
            api,
            head: head.freeze(),
            shows_thinking: request.shows_thinking,
            loads: request.loads,
            times: Times::now(),
        }
    }

    /// Writes a line up to what the message says; [`after_content`](Self::after_content) follows.
    fn before_content(&self, out: &mut BytesMut) {
        out.put_slice(&self.head);
        out.put_slice(match self.api {
            Api::Chat => b",\"message\":{\"role\":\"assistant\",\"content\":\"",
            Api::Generate => b",\"response\":\"",
        });
    }

    /// Writes the rest of the message, behind its content.
    fn after_content(&self, out: &mut BytesMut, thinking: &str, calls: &[ToolCall]) {
        out.put_u8(b'"');
        if !thinking.is_empty() {
            out.put_slice(b",\"thinking\":");
            string_into(out, thinking);
        }
        if self.api == Api::Generate {
            return;
        }
        for (place, call) in calls.iter().enumerate() {
            out.put_slice(if place == 0 { b",\"tool_calls\":[" } else { b"," });
            call_into(out, call);
        }
        out.put_slice(if calls.is_empty() { b"}" } else { b"]}" });
    }

    /// A line that is not the last.
    fn line(&self, out: &mut BytesMut, text: &str, thinking: &str, calls: &[ToolCall]) {
        out.reserve(self.head.len() + text.len() + thinking.len() + 96);
        let begin = out.len();
        self.before_content(out);
        escape_into(out, text);
        self.after_content(out, thinking, calls);
        out.put_slice(b",\"done\":false}");
        end_line(out, begin);
    }

    /// What the last line has behind its message, and the only one.
    fn end_into(&self, out: &mut BytesMut, reason: FinishReason, usage: Option<Usage>) {
        out.put_slice(b",\"done\":true,\"done_reason\":");
        if let Some(loads) = self.loads {
            string_into(out, loads.as_str());
            out.put_u8(b'}');
            return;
        }
        string_into(out, reason_word(reason));
        let times = &self.times;
        duration_into(out, b",\"total_duration\":", times.total());
        duration_into(out, b",\"load_duration\":", Duration::ZERO);
        if let Some(usage) = usage {
            out.put_slice(b",\"prompt_eval_count\":");
            number_into(out, usage.prompt_tokens);
        }
        duration_into(out, b",\"prompt_eval_duration\":", times.until_begun());
        if let Some(usage) = usage {
            out.put_slice(b",\"eval_count\":");
            number_into(out, usage.completion_tokens);
        }
        duration_into(out, b",\"eval_duration\":", times.since_begun());
        out.put_u8(b'}');
    }
}

/// Writes the lines of a streamed answer.
///
/// What is said and thought is written at once, each call in a line of its own when it is whole, and
/// the last line when the stream is over, for the counts may come behind the finish reason.
#[derive(Debug)]
pub(super) struct LineWriter {
    envelope: Envelope,
    calls: Calls,
    usage: Option<Usage>,
    finish_reason: Option<FinishReason>,
    is_done: bool,
}

impl LineWriter {
    pub(super) fn new(envelope: Envelope) -> Self {
        Self { envelope, calls: Calls::default(), usage: None, finish_reason: None, is_done: false }
    }

    fn call(&mut self, out: &mut BytesMut, taken: Result<(), Error>) {
        if let Err(error) = taken {
            return self.error(out, &error);
        }
        while let Some(call) = self.calls.next() {
            self.envelope.line(out, "", "", &[call]);
        }
    }
}

impl Writer for LineWriter {
    fn event(&mut self, out: &mut BytesMut, event: ChatEvent) {
        if self.is_done {
            return;
        }
        match event {
            ChatEvent::Usage(usage) => self.usage = Some(usage),
            _ if self.finish_reason.is_some() => {}
            ChatEvent::Text(text) => self.envelope.line(out, &text, "", &[]),
            ChatEvent::Reasoning(text) if self.envelope.shows_thinking => {
                self.envelope.line(out, "", &text, &[]);
            }
            ChatEvent::ToolCall { id, name, .. } => {
                let begun = self.calls.begin(id, name);
                self.call(out, begun);
            }
            ChatEvent::ToolArguments { index, json } => {
                let taken = self.calls.arguments(index, &json);
                self.call(out, taken);
            }
            ChatEvent::Finished(reason) => {
                self.finish_reason = Some(reason);
                for call in self.calls.finish(may_be_cut(reason)) {
                    self.envelope.line(out, "", "", &[call]);
                }
            }
            // Attachments are text by now, and the rest has no place here.
            ChatEvent::Reasoning(_)
            | ChatEvent::ReasoningSignature(_)
            | ChatEvent::Started(_)
            | ChatEvent::Resumed(_)
            | ChatEvent::ServerFields(_)
            | ChatEvent::ChoiceFields(_)
            | ChatEvent::MessageFields(_)
            | ChatEvent::UsageFields(_)
            | ChatEvent::Citation(_)
            | ChatEvent::Attachment(_)
            | ChatEvent::Progress(_) => {}
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        if self.is_done {
            return;
        }
        let Some(reason) = self.finish_reason else { return self.error(out, &truncated()) };
        let begin = out.len();
        self.envelope.before_content(out);
        self.envelope.after_content(out, "", &[]);
        self.envelope.end_into(out, reason, self.usage);
        end_line(out, begin);
        self.is_done = true;
    }

    /// Appends the error and ends the stream. After the finish reason the answer is whole, so the
    /// error is not the client's concern any more.
    fn error(&mut self, out: &mut BytesMut, error: &Error) {
        if self.is_done || self.finish_reason.is_some() {
            return self.end(out);
        }
        let begin = out.len();
        error_into(out, error);
        end_line(out, begin);
        self.is_done = true;
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        if !self.is_done {
            self.envelope.line(out, "", "", &[]);
        }
    }

    fn times(&mut self) -> Option<&mut Times> {
        Some(&mut self.envelope.times)
    }

    fn is_done(&self) -> bool {
        self.is_done
    }
}

/// The whole answer as one object.
pub(super) fn whole_answer(envelope: &Envelope, answer: &Answer) -> Result<Bytes, Error> {
    let reason = answer.finish_reason.unwrap_or(FinishReason::Stop);
    let mut calls = Calls::default();
    for (index, call) in (0..).zip(&answer.tool_calls) {
        calls.begin(call.id.clone(), call.name.clone())?;
        calls.arguments(index, &call.arguments)?;
    }
    let calls: Vec<_> = calls.finish(may_be_cut(reason)).collect();
    let thinking = if envelope.shows_thinking { answer.reasoning.as_str() } else { "" };
    let size = envelope.head.len() + answer.text.len() + thinking.len();
    let mut out = BytesMut::with_capacity(256 + size + size / 8);
    envelope.before_content(&mut out);
    escape_into(&mut out, &answer.text);
    envelope.after_content(&mut out, thinking, &calls);
    envelope.end_into(&mut out, reason, answer.usage);
    Ok(out.freeze())
}

/// Ends the line that begins at `begin`.
///
/// ollama-python cuts lines wherever Unicode has a line end (docs/reference/edges.md#e). JSON
/// allows U+0085, U+2028 and U+2029 in strings as they are, and they can stand nowhere else; here
/// they are escaped.
fn end_line(out: &mut BytesMut, begin: usize) {
    if let Some(first) = line_end(&out[begin..]) {
        let rest = out.split_off(begin + first);
        let mut rest = &rest[..];
        while let Some(at) = line_end(rest) {
            out.put_slice(&rest[..at]);
            let (escape, len): (&[u8], _) = match rest[at..] {
                [0xc2, ..] => (b"\\u0085", 2),
                [_, _, 0xa8, ..] => (b"\\u2028", 3),
                _ => (b"\\u2029", 3),
            };
            out.put_slice(escape);
            rest = &rest[at + len..];
        }
        out.put_slice(rest);
    }
    out.put_u8(b'\n');
}

/// Where a line end stands that is none of ASCII's.
fn line_end(text: &[u8]) -> Option<usize> {
    memchr2_iter(0xc2, 0xe2, text)
        .find(|&at| matches!(text[at..], [0xc2, 0x85, ..] | [0xe2, 0x80, 0xa8 | 0xa9, ..]))
}

/// Whether the last call of an answer that ended so may be cut.
const fn may_be_cut(reason: FinishReason) -> bool {
    matches!(reason, FinishReason::Length | FinishReason::ContentFilter)
}

/// The word of the protocol for why an answer ended; it has none for a filter.
const fn reason_word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::ToolCalls => "stop",
        other => other.as_str(),
    }
}

fn call_into(out: &mut BytesMut, call: &ToolCall) {
    out.put_slice(b"{\"id\":");
    string_into(out, &call.id);
    out.put_slice(b",\"function\":{\"name\":");
    string_into(out, &call.name);
    out.put_slice(b",\"arguments\":");
    out.put_slice(call.arguments.as_bytes());
    out.put_slice(b"}}");
}

/// Appends a field that is a time in nanoseconds.
pub(super) fn duration_into(out: &mut BytesMut, key: &[u8], duration: Duration) {
    out.put_slice(key);
    number_into(out, u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

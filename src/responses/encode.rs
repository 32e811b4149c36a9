//! The answer: events in, the items of a response out, as a stream or whole.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    input::Input,
    item::{Call, Item, What, item_into},
    names::Kind,
    response::{Envelope, Status},
};
use crate::{
    Error, ErrorKind, Text,
    chat::{Answer, ChatEvent, Citation, FinishReason, Usage, truncated},
    edge::{Held, HeldItem, Sources, Writer},
    json::{
        escape_into, number_into,
        object::{Checker, Found},
        string_into,
    },
};

/// How much of an answer is kept, in bytes: its last event has all of it. A larger answer ends with
/// an error.
const ANSWER_LEN: usize = 64 * 1024 * 1024;

/// Writes the events of a streamed answer.
///
/// It keeps the rules that the official clients and Codex rely on, for any events that keep the
/// contract of [`ChatEvent`]: every event has the next number; `response.created` comes first;
/// items are numbered from 0 in the order in which they appear, one open at a time, each with one
/// id in all of its events; the last event has the whole response. What comes for an item while a
/// call's arguments are not complete is held back until they are.
#[derive(Debug)]
pub(super) struct ResponseWriter {
    envelope: Envelope,
    state: State,
    /// The number of the next event.
    sequence: u64,
    /// The place of the next item.
    next: u64,
    open: Option<Item>,
    /// What the pieces of the open item have between their number and their text.
    head: BytesMut,
    /// The items that are complete, with commas between.
    output: BytesMut,
    /// How many characters of visible text there were, those of the open item included.
    characters: usize,
    held: Held,
    /// Sources that came before the text that they are for.
    sources: Sources,
    /// Whether an item was given that the client can do something with.
    has_given: bool,
    usage: Option<Usage>,
    /// Whether the last call may be cut.
    is_cut: bool,
    finish_reason: Option<FinishReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was sent.
    Start,
    /// The first events were sent.
    Open,
    /// The last event was sent.
    Done,
}

impl ResponseWriter {
    pub(super) fn new(envelope: Envelope) -> Self {
        Self {
            envelope,
            state: State::Start,
            sequence: 0,
            next: 0,
            open: None,
            head: BytesMut::new(),
            output: BytesMut::new(),
            characters: 0,
            held: Held::default(),
            sources: Sources::default(),
            has_given: false,
            usage: None,
            is_cut: false,
            finish_reason: None,
        }
    }

    /// Begins an event, up to its own fields; [`end_event`] ends it.
    fn begin_event(&mut self, out: &mut BytesMut, name: &str) {
        out.put_slice(b"event: ");
        out.put_slice(name.as_bytes());
        out.put_slice(b"\ndata: {\"type\":\"");
        out.put_slice(name.as_bytes());
        out.put_slice(b"\",\"sequence_number\":");
        number_into(out, self.sequence);
        self.sequence += 1;
    }

    /// The same, of an event that belongs to the open item.
    fn begin_item_event(&mut self, out: &mut BytesMut, name: &str) {
        self.begin_event(out, name);
        out.put_slice(&self.head);
    }

    fn response_event(&mut self, out: &mut BytesMut, name: &str, status: Status<'_>) {
        self.begin_event(out, name);
        out.put_slice(b",\"response\":");
        self.envelope.response_into(out, status, &self.output, self.usage);
        end_event(out);
    }

    fn start(&mut self, out: &mut BytesMut) {
        if self.state == State::Start {
            self.state = State::Open;
            self.response_event(out, "response.created", Status::InProgress);
            self.response_event(out, "response.in_progress", Status::InProgress);
        }
    }

    /// Whether what comes now has to wait for the call that is open; `index` is the call that it
    /// belongs to.
    fn has_to_wait(&self, index: Option<u32>) -> bool {
        match self.open.as_ref().map(|item| &item.what) {
            Some(What::Call(call)) => {
                Some(call.index) != index && call.checker.found() != Found::Object
            }
            _ => false,
        }
    }

    /// Closes the open item and opens one.
    fn begin(&mut self, out: &mut BytesMut, what: What) {
        self.close(out, "completed");
        let item = Item::new(what);
        self.begin_event(out, "response.output_item.added");
        out.put_slice(b",\"output_index\":");
        number_into(out, self.next);
        out.put_slice(b",\"item\":");
        item_into(out, &item, "in_progress", false);
        end_event(out);

        self.head.clear();
        let head = &mut self.head;
        head.put_slice(b",\"item_id\":");
        string_into(head, &item.id);
        head.put_slice(b",\"output_index\":");
        number_into(head, self.next);
        head.put_slice(match &item.what {
            What::Message { .. } => b",\"content_index\":0",
            What::Reasoning { .. } => b",\"summary_index\":0",
            What::Call(_) => b"",
        });
        match &item.what {
            What::Message { .. } => {
                self.begin_item_event(out, "response.content_part.added");
                out.put_slice(b",\"part\":");
                item.text_part_into(out, false);
                end_event(out);
            }
            What::Reasoning { is_shown: true, .. } => {
                self.begin_item_event(out, "response.reasoning_summary_part.added");
                out.put_slice(b",\"part\":{\"type\":\"summary_text\",\"text\":\"\"}");
                end_event(out);
            }
            What::Reasoning { .. } | What::Call(_) => {}
        }
        self.open = Some(item);
    }

    /// Writes a piece of the open item.
    fn delta(&mut self, out: &mut BytesMut, name: &str, text: &str) {
        out.reserve(128 + self.head.len() + text.len());
        self.begin_item_event(out, name);
        out.put_slice(b",\"delta\":\"");
        escape_into(out, text);
        out.put_slice(b"\"");
        if name == "response.output_text.delta" {
            out.put_slice(b",\"logprobs\":[]");
        }
        end_event(out);
    }

    fn text(&mut self, out: &mut BytesMut, text: &str) {
        if !matches!(self.open.as_ref().map(|item| &item.what), Some(What::Message { .. })) {
            let start = self.characters;
            self.begin(out, What::Message { annotations: BytesMut::new(), count: 0, start });
            for source in self.sources.take() {
                self.citation(out, &source);
            }
        }
        if let Some(item) = &mut self.open {
            item.text.push_str(text);
        }
        self.characters += text.chars().count();
        self.delta(out, "response.output_text.delta", text);
    }

    fn reasoning(&mut self, out: &mut BytesMut, text: &str) {
        let Envelope { shows_reasoning: is_shown, seals_reasoning: is_sealed, .. } = self.envelope;
        if !is_shown && !is_sealed {
            return;
        }
        if !matches!(self.open.as_ref().map(|item| &item.what), Some(What::Reasoning { .. })) {
            self.begin(out, What::Reasoning { is_shown, is_sealed, signature: None });
        }
        if let Some(item) = &mut self.open {
            item.text.push_str(text);
        }
        if is_shown {
            self.delta(out, "response.reasoning_summary_text.delta", text);
        }
    }

    fn signature(&mut self, text: Text) {
        if let Some(What::Reasoning { signature, .. }) =
            self.open.as_mut().map(|item| &mut item.what)
        {
            *signature = Some(text);
        }
    }

    /// A source of the open message. One that comes before it waits for it: a search is over before
    /// its answer begins. Of a message that is complete it can no longer be told.
    fn citation(&mut self, out: &mut BytesMut, citation: &Citation) {
        let characters = self.characters;
        let message = self.open.as_mut().and_then(|item| match &mut item.what {
            What::Message { annotations, count, start } => Some((annotations, count, start)),
            _ => None,
        });
        let Some((annotations, count, start)) = message else {
            if characters == 0 {
                self.sources.push(citation.clone());
            }
            return;
        };
        // Of a source of all of the text, the place is its end.
        let len = characters - *start;
        let range = citation.range.clone().unwrap_or(characters..characters);
        let place = |at: usize| at.saturating_sub(*start).min(len) as u64;
        let from = annotations.len() + usize::from(*count > 0);
        if *count > 0 {
            annotations.put_slice(b",");
        }
        annotations.put_slice(b"{\"type\":\"url_citation\",\"url\":");
        string_into(annotations, &citation.url);
        annotations.put_slice(b",\"title\":");
        string_into(annotations, citation.title.as_deref().unwrap_or(&citation.url));
        annotations.put_slice(b",\"start_index\":");
        number_into(annotations, place(range.start));
        annotations.put_slice(b",\"end_index\":");
        number_into(annotations, place(range.end.max(range.start)));
        annotations.put_slice(b"}");
        let annotation = Bytes::copy_from_slice(&annotations[from..]);
        let index = *count;
        *count += 1;

        self.begin_item_event(out, "response.output_text.annotation.added");
        out.put_slice(b",\"annotation_index\":");
        number_into(out, index);
        out.put_slice(b",\"annotation\":");
        out.put_slice(&annotation);
        end_event(out);
    }

    fn call(&mut self, out: &mut BytesMut, index: u32, id: &Text, name: &str) {
        let call = Call {
            index,
            call_id: self.envelope.call_id(id),
            given: self.envelope.names.given(name),
            checker: Checker::default(),
            input: Input::default(),
        };
        self.begin(out, What::Call(Box::new(call)));
    }

    fn arguments(&mut self, out: &mut BytesMut, index: u32, json: &str) {
        let Some(item) = &mut self.open else { return };
        let Item { what: What::Call(call), text, .. } = item else { return };
        // Behind a whole object only blanks may come, which nobody misses.
        if call.index != index {
            return;
        }
        // By the contract all of it is one object; what is not is left out.
        if call.checker.push(json).is_err() {
            return;
        }
        text.push_str(json);
        let (name, piece) = match call.given.kind {
            Kind::Function => ("response.function_call_arguments.delta", Cow::Borrowed(json)),
            Kind::Custom => {
                let from = call.input.read(text);
                (
                    "response.custom_tool_call_input.delta",
                    Cow::Owned(call.input.text[from..].to_owned()),
                )
            }
            Kind::LocalShell | Kind::ToolSearch => ("", Cow::Borrowed("")),
        };
        if !piece.is_empty() {
            self.delta(out, name, &piece);
        }
    }

    /// Closes the open item, if any.
    fn close(&mut self, out: &mut BytesMut, status: &str) {
        let Some(mut item) = self.open.take() else { return };
        let mut status = status;
        match &mut item.what {
            What::Message { .. } => {
                self.has_given = true;
                self.begin_item_event(out, "response.output_text.done");
                out.put_slice(b",\"text\":");
                string_into(out, &item.text);
                out.put_slice(b",\"logprobs\":[]");
                end_event(out);
                self.begin_item_event(out, "response.content_part.done");
                out.put_slice(b",\"part\":");
                item.text_part_into(out, true);
                end_event(out);
            }
            What::Reasoning { is_shown: false, .. } => {}
            What::Reasoning { .. } => {
                self.begin_item_event(out, "response.reasoning_summary_text.done");
                out.put_slice(b",\"text\":");
                string_into(out, &item.text);
                end_event(out);
                self.begin_item_event(out, "response.reasoning_summary_part.done");
                out.put_slice(b",\"part\":{\"type\":\"summary_text\",\"text\":");
                string_into(out, &item.text);
                out.put_slice(b"}");
                end_event(out);
            }
            What::Call(call) => {
                let is_whole = match call.checker.found() {
                    Found::Object | Found::Unknown => true,
                    Found::Nothing if !self.is_cut => {
                        item.text = "{}".to_owned();
                        if call.given.kind == Kind::Function {
                            self.delta(out, "response.function_call_arguments.delta", "{}");
                        }
                        true
                    }
                    Found::Nothing | Found::Beginning => false,
                };
                // The last call of an answer that the limit has ended may be cut, though its
                // arguments are an object: a layer below has closed what was open.
                let reads_whole = is_whole;
                let is_whole = is_whole && !(self.is_cut && status == "incomplete");
                if is_whole {
                    self.has_given = true;
                } else {
                    status = "incomplete";
                    // Codex runs whatever it is given, and a text that is cut may still be one to
                    // run. Of arguments that are cut and not closed it says that they are not JSON.
                    if self.envelope.is_codex && (call.given.kind != Kind::Function || reads_whole)
                    {
                        self.next += 1;
                        return;
                    }
                }
                match call.given.kind {
                    Kind::Function => {
                        self.begin_item_event(out, "response.function_call_arguments.done");
                        out.put_slice(b",\"name\":");
                        string_into(out, &call.given.name);
                        out.put_slice(b",\"arguments\":");
                        string_into(out, &item.text);
                        end_event(out);
                    }
                    Kind::Custom => {
                        let from = call.input.text.len();
                        if reads_whole {
                            call.input.finish(&item.text);
                        }
                        let piece = call.input.text[from..].to_owned();
                        if !piece.is_empty() {
                            self.delta(out, "response.custom_tool_call_input.delta", &piece);
                        }
                        self.begin_item_event(out, "response.custom_tool_call_input.done");
                        out.put_slice(b",\"input\":");
                        string_into(out, &call.input.text);
                        end_event(out);
                    }
                    Kind::LocalShell | Kind::ToolSearch => {}
                }
            }
        }
        if !self.output.is_empty() {
            self.output.put_slice(b",");
        }
        let from = self.output.len();
        item_into(&mut self.output, &item, status, true);
        self.begin_event(out, "response.output_item.done");
        out.put_slice(b",\"output_index\":");
        number_into(out, self.next);
        out.put_slice(b",\"item\":");
        out.put_slice(&self.output[from..]);
        end_event(out);
        self.next += 1;
    }

    /// Writes what was held back, up to a call whose arguments are not complete.
    fn release(&mut self, out: &mut BytesMut, is_over: bool) {
        while is_over || !self.has_to_wait(None) {
            match self.held.pop() {
                None => return,
                Some(HeldItem::Text(text)) => self.text(out, &text),
                Some(HeldItem::Reasoning { text, signature }) => {
                    self.reasoning(out, &text);
                    if let Some(signature) = signature {
                        self.signature(signature);
                    }
                }
                Some(HeldItem::Call { index, id, name, arguments }) => {
                    self.call(out, index, &id, &name);
                    if !arguments.is_empty() {
                        self.arguments(out, index, &arguments);
                    }
                }
            }
        }
    }

    fn finish(&mut self, out: &mut BytesMut, reason: FinishReason) {
        self.start(out);
        self.is_cut = matches!(reason, FinishReason::Length | FinishReason::ContentFilter);
        self.release(out, true);
        self.close(out, if self.is_cut { "incomplete" } else { "completed" });
        self.finish_reason = Some(reason);
    }

    fn fail(&mut self, out: &mut BytesMut, error: &Error) {
        if self.finish_reason.is_some() {
            return self.end(out);
        }
        self.start(out);
        self.response_event(out, "response.failed", Status::Failed(error));
        self.done();
    }

    fn done(&mut self) {
        self.state = State::Done;
        self.held = Held::default();
        self.open = None;
        self.output = BytesMut::new();
    }

    fn status(&self) -> Status<'static> {
        match self.finish_reason {
            Some(FinishReason::ContentFilter) => Status::Incomplete("content_filter"),
            Some(FinishReason::Length) if !(self.envelope.is_codex && self.has_given) => {
                Status::Incomplete("max_output_tokens")
            }
            _ => Status::Completed,
        }
    }

    /// How much of the answer is kept.
    fn kept(&self) -> usize {
        self.output.len() + self.open.as_ref().map_or(0, Item::kept)
    }
}

impl Writer for ResponseWriter {
    fn event(&mut self, out: &mut BytesMut, event: ChatEvent) {
        if self.state == State::Done {
            return;
        }
        match &event {
            ChatEvent::Usage(usage) => return self.usage = Some(*usage),
            // Attachments are text by now.
            ChatEvent::Started(_)
            | ChatEvent::Resumed(_)
            | ChatEvent::ServerFields(_)
            | ChatEvent::MessageFields(_)
            | ChatEvent::UsageFields(_)
            | ChatEvent::Attachment(_)
            | ChatEvent::Progress(_) => return,
            _ if self.finish_reason.is_some() => return,
            ChatEvent::Citation(citation) => return self.citation(out, citation),
            _ => {}
        }
        let index = match &event {
            ChatEvent::ToolArguments { index, .. } => Some(*index),
            _ => None,
        };
        let is_end = matches!(event, ChatEvent::Finished(_));
        if !is_end && self.has_to_wait(index) {
            if let Err(error) = self.held.push(event) {
                self.fail(out, &error);
            }
            return;
        }
        self.start(out);
        match event {
            ChatEvent::Text(text) => self.text(out, &text),
            ChatEvent::Reasoning(text) => self.reasoning(out, &text),
            ChatEvent::ReasoningSignature(signature) => self.signature(signature),
            ChatEvent::ToolCall { index, id, name } => self.call(out, index, &id, &name),
            ChatEvent::ToolArguments { index, json } => {
                self.arguments(out, index, &json);
                if !self.held.is_empty() {
                    self.release(out, false);
                }
            }
            ChatEvent::Finished(reason) => self.finish(out, reason),
            _ => {}
        }
        if self.kept() > ANSWER_LEN {
            let message = "the answer is larger than a response can be, whose last event has all \
                           of it; the chat API has no such limit";
            self.finish_reason = None;
            self.fail(out, &Error::new(ErrorKind::Upstream, message));
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        if self.state == State::Done {
            return;
        }
        if self.finish_reason.is_none() {
            return self.fail(out, &truncated());
        }
        let status = self.status();
        let name = match status {
            Status::Incomplete(_) => "response.incomplete",
            _ => "response.completed",
        };
        self.response_event(out, name, status);
        self.done();
    }

    fn error(&mut self, out: &mut BytesMut, error: &Error) {
        if self.state != State::Done {
            let known = self.envelope.known(error);
            self.fail(out, known.as_ref().unwrap_or(error));
        }
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        match self.state {
            State::Start => self.start(out),
            State::Open => self.response_event(out, "response.in_progress", Status::InProgress),
            State::Done => {}
        }
    }

    fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

/// The whole answer as one object.
pub(super) fn whole_answer(envelope: &Envelope, answer: &Answer) -> Bytes {
    let mut writer = ResponseWriter::new(envelope.clone());
    // Nobody reads the events.
    let mut out = BytesMut::new();
    if !answer.reasoning.is_empty() {
        writer.reasoning(&mut out, &answer.reasoning);
        if let Some(signature) = answer.reasoning_signature.clone() {
            writer.signature(signature);
        }
    }
    out.clear();
    if !answer.text.is_empty() {
        writer.text(&mut out, &answer.text);
        answer.citations.iter().for_each(|citation| writer.citation(&mut out, citation));
    }
    for (index, call) in (0..).zip(&answer.tool_calls) {
        out.clear();
        writer.call(&mut out, index, &call.id, &call.name);
        if !call.arguments.is_empty() {
            writer.arguments(&mut out, index, &call.arguments);
        }
    }
    out.clear();
    writer.finish(&mut out, answer.finish_reason.unwrap_or(FinishReason::Stop));
    writer.usage = answer.usage;
    out.clear();
    envelope.response_into(&mut out, writer.status(), &writer.output, writer.usage);
    out.freeze()
}

fn end_event(out: &mut BytesMut) {
    out.put_slice(b"}\n\n");
}

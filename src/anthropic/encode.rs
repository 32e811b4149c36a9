//! The answer: events in, the blocks of a message out, as a stream or whole.

use std::{mem, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    error::error_into,
    signature::Signer,
    sources::{found_into, links, search_into},
};
use crate::{
    Error, ErrorKind, Text,
    chat::{Answer, ChatEvent, ChatRequest, Extra, FinishReason, Usage, truncated},
    edge::{Held, HeldItem, Sources, Writer},
    json::{
        escape_into, number_into,
        object::{Checker, Found},
        string_into,
    },
    tokens::{self, TokenEstimator},
};

/// About how many bytes of text are a token, where the upstream counts none.
const BYTES_PER_TOKEN: u64 = 4;

/// What all pieces of one answer have in common.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    /// `msg_…`, unlike any other: clients take two answers with one id for one.
    id: String,
    /// The name that the client asked for, whatever the upstream calls it.
    model: Text,
    shows_thinking: bool,
    /// Whether the client has offered the vendor's own search, and reads what it brings.
    searches: bool,
    /// The sequences that end the answer.
    stops: Vec<Text>,
    /// About how many tokens the request has, where somebody has an idea of it.
    estimate: Option<Estimate>,
}

/// About how many tokens a request has, until the upstream says how many.
#[derive(Clone, Debug)]
pub(super) struct Estimate {
    estimator: Arc<TokenEstimator>,
    /// What was estimated before anything was learnt.
    tokens: u64,
}

impl Estimate {
    pub(super) fn new(estimator: Arc<TokenEstimator>, request: &ChatRequest) -> Self {
        Self { estimator, tokens: tokens::of_request(request) }
    }
}

impl Envelope {
    /// An answer that begins now, under a new id.
    pub(super) fn new(model: &str, shows_thinking: bool, stops: Vec<Text>) -> Self {
        Self {
            id: format!("msg_{}", Uuid::new_v4().simple()),
            // A copy: the request's own may be a slice, which would keep its body.
            model: model.into(),
            shows_thinking,
            searches: false,
            stops,
            estimate: None,
        }
    }

    /// Says whether the client reads what the vendor's own search brings.
    pub(super) fn searches(mut self, searches: bool) -> Self {
        self.searches = searches;
        self
    }

    /// An id for a search of the vendor's, unlike any other.
    fn search_id() -> String {
        format!("srvtoolu_{}", Uuid::new_v4().simple())
    }

    /// Says about how many tokens the request has.
    pub(super) fn estimate(mut self, estimate: Option<Estimate>) -> Self {
        self.estimate = estimate;
        self
    }

    /// About how many tokens the request has; 0 where nobody knows.
    fn input_tokens(&self) -> u64 {
        let estimate = self.estimate.as_ref();
        estimate.map_or(0, |estimate| estimate.estimator.corrected(&self.model, estimate.tokens))
    }

    /// Whether an answer that ends so has to have something in it: one that a sequence of the
    /// client's, the limit or a filter has ended may be empty.
    fn wants_something(&self, reason: FinishReason) -> bool {
        reason == FinishReason::Stop && self.stops.is_empty()
    }

    /// Takes in how many there were.
    fn learn(&self, usage: Option<&Usage>) {
        if let (Some(estimate), Some(usage)) = (&self.estimate, usage) {
            estimate.estimator.learn(&self.model, estimate.tokens, usage.prompt_tokens);
        }
    }

    /// Everything up to the value of `content`.
    fn head_into(&self, out: &mut BytesMut) {
        out.put_slice(b"{\"id\":");
        string_into(out, &self.id);
        out.put_slice(b",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
        string_into(out, &self.model);
        out.put_slice(b",\"content\":");
    }

    /// The id of a call, as clients of this API know it: always the same for the same answer.
    ///
    /// A long id of the upstream's is unlike any other. A short one, such as `call_0`, comes again
    /// in the next answer, where clients would take it for the same call.
    fn call_id(&self, id: &str) -> String {
        const PREFIX: &str = "toolu_";
        const UNLIKE_OTHERS: usize = 16;
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let is_plain = |id: &str| id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if id.len() >= PREFIX.len() + UNLIKE_OTHERS && id.strip_prefix(PREFIX).is_some_and(is_plain)
        {
            return id.to_owned();
        }
        let mut hash = Sha256::new();
        if id.len() < UNLIKE_OTHERS {
            hash.update(&self.id);
        }
        hash.update(id);
        let digest = hash.finalize();
        let digits = digest[..24].iter().map(|byte| DIGITS[usize::from(*byte) % DIGITS.len()]);
        PREFIX.chars().chain(digits.map(char::from)).collect()
    }
}

/// Writes the events of a streamed answer.
///
/// It keeps the rules that the official clients rely on, for any events that keep the contract of
/// [`ChatEvent`]: `message_start` first and once; blocks numbered from 0 without gaps, one open at
/// a time; a signature before a thinking block ends; at least one piece of every call's arguments;
/// then `message_delta` with the usage and `message_stop`. What comes for a block while a call's
/// arguments are not complete is held back until they are.
#[derive(Debug)]
pub(super) struct MessageWriter {
    envelope: Envelope,
    state: State,
    /// The number of the next block.
    next: u64,
    open: Option<Open>,
    /// From `event:` up to the piece of the open block, and behind it.
    head: BytesMut,
    held: Held,
    /// Sources that were not told yet.
    sources: Sources,
    /// Whether a call was given.
    has_call: bool,
    usage: Option<Usage>,
    /// How many bytes of an answer there were.
    written: u64,
    stop_sequence: Option<Text>,
    finish_reason: Option<FinishReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was sent.
    Start,
    /// `message_start` was sent.
    Open,
    /// The last event was sent.
    Done,
}

/// The block that is open.
#[derive(Debug)]
enum Open {
    Text,
    Thinking { signer: Signer, signature: Option<Text> },
    Call { index: u32, arguments: Checker, is_empty: bool },
}

impl MessageWriter {
    pub(super) fn new(envelope: Envelope) -> Self {
        Self {
            envelope,
            state: State::Start,
            next: 0,
            open: None,
            head: BytesMut::new(),
            held: Held::default(),
            sources: Sources::default(),
            has_call: false,
            usage: None,
            written: 0,
            stop_sequence: None,
            finish_reason: None,
        }
    }

    fn start(&mut self, out: &mut BytesMut) {
        if self.state != State::Start {
            return;
        }
        self.state = State::Open;
        out.put_slice(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
        self.envelope.head_into(out);
        out.put_slice(b"[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
        let usage = Usage { completion_tokens: 0, ..self.counts() };
        usage_into(out, &usage);
        out.put_slice(b"}}\n\n");
    }

    /// The counts so far: the upstream's, or about what they will be.
    fn counts(&self) -> Usage {
        self.usage.unwrap_or_else(|| {
            Usage::new(self.envelope.input_tokens(), self.written.div_ceil(BYTES_PER_TOKEN))
        })
    }

    /// Whether the open block is a call whose arguments are not complete.
    fn is_busy(&self) -> bool {
        match &self.open {
            Some(Open::Call { arguments, .. }) => arguments.found() != Found::Object,
            _ => false,
        }
    }

    /// Whether what comes now has to wait; `index` is the call that it belongs to.
    fn has_to_wait(&self, index: Option<u32>) -> bool {
        match &self.open {
            Some(Open::Call { index: open, .. }) if Some(*open) == index => false,
            _ => self.is_busy(),
        }
    }

    fn open_text(&mut self, out: &mut BytesMut) {
        if !matches!(self.open, Some(Open::Text)) {
            self.begin(out, Open::Text, |out| out.put_slice(b"{\"type\":\"text\",\"text\":\"\"}"));
            self.pieces(b"text_delta\",\"text\":\"");
        }
    }

    fn text(&mut self, out: &mut BytesMut, text: &str) {
        self.open_text(out);
        self.piece(out, text);
    }

    fn thinking(&mut self, out: &mut BytesMut, text: &str) {
        let is_shown = self.envelope.shows_thinking;
        if !matches!(self.open, Some(Open::Thinking { .. })) {
            let open = Open::Thinking { signer: Signer::new(is_shown), signature: None };
            self.begin(out, open, |out| {
                out.put_slice(b"{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
            });
            self.pieces(b"thinking_delta\",\"thinking\":\"");
        }
        if let Some(Open::Thinking { signer, .. }) = &mut self.open {
            signer.push(text);
        }
        if is_shown {
            self.piece(out, text);
        }
    }

    fn signature(&mut self, text: Text) {
        if let Some(Open::Thinking { signature, .. }) = &mut self.open {
            *signature = Some(text);
        }
    }

    fn call(&mut self, out: &mut BytesMut, index: u32, id: &str, name: &str) {
        self.has_call = true;
        let id = self.envelope.call_id(id);
        let open = Open::Call { index, arguments: Checker::default(), is_empty: true };
        self.begin(out, open, |out| {
            out.put_slice(b"{\"type\":\"tool_use\",\"id\":");
            string_into(out, &id);
            out.put_slice(b",\"name\":");
            string_into(out, name);
            out.put_slice(b",\"input\":{}}");
        });
        self.pieces(b"input_json_delta\",\"partial_json\":\"");
    }

    fn arguments(&mut self, out: &mut BytesMut, of: u32, json: &str) {
        // Behind a whole object only blanks may come, which nobody misses. Before it Anthropic's SDK
        // for Python fails at them: it parses what there is with each piece.
        if let Some(Open::Call { index, arguments, is_empty }) = &mut self.open
            && *index == of
        {
            let json = if *is_empty { json.trim_ascii_start() } else { json };
            if !json.is_empty() && arguments.push(json).is_ok() {
                *is_empty = false;
                self.piece(out, json);
            }
        }
    }

    /// Closes the open block and opens one.
    fn begin(&mut self, out: &mut BytesMut, open: Open, write: impl FnOnce(&mut BytesMut)) {
        self.close(out);
        // Links stand behind the text, and before the calls of which the client does its part.
        if self.envelope.searches || matches!(open, Open::Call { .. }) {
            self.sources(out);
        }
        self.start_block(out, write);
        self.open = Some(open);
    }

    fn start_block(&self, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
        out.put_slice(
            b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":",
        );
        number_into(out, self.next);
        out.put_slice(b",\"content_block\":");
        write(out);
        out.put_slice(b"}\n\n");
    }

    fn stop_block(&mut self, out: &mut BytesMut) {
        out.put_slice(
            b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":",
        );
        number_into(out, self.next);
        out.put_slice(b"}\n\n");
        self.next += 1;
    }

    /// Tells the sources that there are, in blocks of their own; none is open.
    fn sources(&mut self, out: &mut BytesMut) {
        if self.sources.is_empty() {
            return;
        }
        let sources = self.sources.take();
        if self.envelope.searches {
            let id = Envelope::search_id();
            self.start_block(out, |out| search_into(out, &id));
            self.stop_block(out);
            self.start_block(out, |out| found_into(out, &id, &sources));
            self.stop_block(out);
            return;
        }
        self.start_block(out, |out| out.put_slice(b"{\"type\":\"text\",\"text\":\"\"}"));
        self.pieces(b"text_delta\",\"text\":\"");
        let written = self.written;
        self.piece(out, &links(&sources));
        // They are no tokens of the model's.
        self.written = written;
        self.stop_block(out);
    }

    /// What every piece of the open block begins with is written once and copied.
    fn pieces(&mut self, kind: &[u8]) {
        self.head.clear();
        let head = &mut self.head;
        head.put_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        number_into(head, self.next);
        head.put_slice(b",\"delta\":{\"type\":\"");
        head.put_slice(kind);
    }

    fn piece(&mut self, out: &mut BytesMut, text: &str) {
        self.written = self.written.saturating_add(text.len() as u64);
        out.reserve(self.head.len() + text.len() + 16);
        out.put_slice(&self.head);
        escape_into(out, text);
        out.put_slice(b"\"}}\n\n");
    }

    fn close(&mut self, out: &mut BytesMut) {
        match self.open.take() {
            None => return,
            Some(Open::Text) => {}
            Some(Open::Thinking { signer, signature }) => {
                let own;
                let signature = match &signature {
                    Some(upstreams) => upstreams.as_str(),
                    None => {
                        own = signer.finish();
                        &own
                    }
                };
                self.pieces(b"signature_delta\",\"signature\":\"");
                let written = self.written;
                self.piece(out, signature);
                // It is no token of the model's.
                self.written = written;
            }
            Some(Open::Call { is_empty, .. }) => {
                if is_empty {
                    self.piece(out, "{}");
                }
            }
        }
        self.stop_block(out);
    }

    /// Keeps what cannot be written yet.
    fn hold(&mut self, out: &mut BytesMut, event: ChatEvent) {
        if let Err(error) = self.held.push(event) {
            self.fail(out, &error);
        }
    }

    /// Writes what was held back, up to a call whose arguments are not complete.
    fn release(&mut self, out: &mut BytesMut, is_over: bool) {
        while is_over || !self.is_busy() {
            match self.held.pop() {
                None => return,
                Some(HeldItem::Text(text)) => self.text(out, &text),
                Some(HeldItem::Reasoning { text, signature }) => {
                    self.thinking(out, &text);
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
        self.release(out, true);
        self.close(out);
        let reason = told(reason, self.has_call);
        if self.next == 0 && self.envelope.wants_something(reason) {
            return self.fail(out, &nothing());
        }
        self.start(out);
        self.sources(out);
        self.finish_reason = Some(reason);
    }

    fn fail(&mut self, out: &mut BytesMut, error: &Error) {
        if self.finish_reason.is_some() {
            return self.end(out);
        }
        if error.kind() == ErrorKind::ContentFilter && self.state == State::Open {
            self.finish(out, FinishReason::ContentFilter);
            return self.end(out);
        }
        out.put_slice(b"event: error\ndata: ");
        error_into(out, error);
        out.put_slice(b"\n\n");
        self.done();
    }

    fn done(&mut self) {
        self.state = State::Done;
        self.held = Held::default();
        self.open = None;
    }

    /// What a server says beside its answer of why it ends.
    fn server_fields(&mut self, fields: &Extra) {
        for name in ["stop_reason", "matched_stop"] {
            let said = fields.get(name);
            let Some(said) = said.as_ref().and_then(|said| said.as_string()) else { continue };
            if let Some(stop) = self.envelope.stops.iter().find(|stop| **stop == *said) {
                self.stop_sequence = Some(stop.clone());
            }
        }
    }
}

impl Writer for MessageWriter {
    fn event(&mut self, out: &mut BytesMut, event: ChatEvent) {
        if self.state == State::Done {
            return;
        }
        match &event {
            ChatEvent::Usage(usage) => return self.usage = Some(*usage),
            ChatEvent::ServerFields(fields) | ChatEvent::ChoiceFields(fields) => {
                return self.server_fields(fields);
            }
            ChatEvent::MessageFields(_) | ChatEvent::UsageFields(_) => return,
            // Attachments are text by now.
            ChatEvent::Started(_)
            | ChatEvent::Resumed(_)
            | ChatEvent::Attachment(_)
            | ChatEvent::Progress(_) => return,
            _ if self.finish_reason.is_some() => return,
            ChatEvent::Citation(citation) => return self.sources.push((**citation).clone()),
            _ => {}
        }
        let index = match &event {
            ChatEvent::ToolCall { index, .. } | ChatEvent::ToolArguments { index, .. } => {
                Some(*index)
            }
            _ => None,
        };
        let is_end = matches!(event, ChatEvent::Finished(_));
        if !is_end && self.has_to_wait(index) {
            return self.hold(out, event);
        }
        if !is_end {
            self.start(out);
        }
        match event {
            ChatEvent::Text(text) => self.text(out, &text),
            ChatEvent::Reasoning(text) => self.thinking(out, &text),
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
    }

    fn end(&mut self, out: &mut BytesMut) {
        if self.state == State::Done {
            return;
        }
        let Some(reason) = self.finish_reason else { return self.fail(out, &truncated()) };
        self.envelope.learn(self.usage.as_ref());
        out.put_slice(
            b"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":",
        );
        stop_into(out, reason, self.stop_sequence.as_deref());
        out.put_slice(b"},\"usage\":");
        usage_into(out, &self.counts());
        out.put_slice(b"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
        self.done();
    }

    fn error(&mut self, out: &mut BytesMut, error: &Error) {
        if self.state != State::Done {
            self.fail(out, error);
        }
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        if self.state == State::Done {
            return;
        }
        self.start(out);
        out.put_slice(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
    }

    fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

/// The whole answer as one object.
///
/// # Errors
///
/// Where there is nothing in it that a client could show.
pub(super) fn whole_answer(envelope: &Envelope, answer: &Answer) -> Result<Bytes, Error> {
    let size = 512 + answer.text.len() + answer.reasoning.len();
    let mut out = BytesMut::with_capacity(size + size / 8);
    let mut writer = MessageWriter::new(envelope.clone());
    writer.server_fields(&answer.server_fields);
    writer.server_fields(&answer.choice_fields);
    envelope.head_into(&mut out);
    let mut blocks = 0;
    let mut block = |out: &mut BytesMut| {
        out.put_slice(if mem::replace(&mut blocks, 1) == 0 { b"[" } else { b"," });
    };
    if !answer.reasoning.is_empty() {
        let mut signer = Signer::new(envelope.shows_thinking);
        signer.push(&answer.reasoning);
        let signature = match &answer.reasoning_signature {
            Some(upstreams) => upstreams.as_str().into(),
            None => signer.finish(),
        };
        block(&mut out);
        out.put_slice(b"{\"type\":\"thinking\",\"thinking\":");
        string_into(&mut out, if envelope.shows_thinking { &answer.reasoning } else { "" });
        out.put_slice(b",\"signature\":");
        string_into(&mut out, &signature);
        out.put_slice(b"}");
    }
    let sources = answer.citations.iter().cloned().collect::<Sources>().take();
    let is_said =
        !(answer.text.is_empty() && answer.reasoning.is_empty() && answer.tool_calls.is_empty());
    // Sources of nothing are no answer.
    let has_sources = !sources.is_empty() && is_said;
    if has_sources && envelope.searches {
        let id = Envelope::search_id();
        block(&mut out);
        search_into(&mut out, &id);
        block(&mut out);
        found_into(&mut out, &id, &sources);
    }
    let linked = (has_sources && !envelope.searches).then(|| links(&sources));
    let text = Some(answer.text.as_str()).filter(|text| !text.is_empty());
    for text in text.into_iter().chain(linked.as_deref()) {
        block(&mut out);
        out.put_slice(b"{\"type\":\"text\",\"text\":");
        string_into(&mut out, text);
        out.put_slice(b"}");
    }
    let reason = answer.finish_reason.unwrap_or(FinishReason::Stop);
    let mut has_call = false;
    for (index, call) in answer.tool_calls.iter().enumerate() {
        let is_last = index + 1 == answer.tool_calls.len();
        let arguments = call.arguments.trim();
        let input = match serde_json::from_str::<&RawValue>(arguments) {
            Ok(object) if arguments.starts_with('{') => object.get(),
            // Of no arguments some servers say nothing, and some `null`.
            Ok(_) => "{}",
            Err(_) if arguments.is_empty() && !(is_last && may_be_cut(reason)) => "{}",
            // What is cut is no call: the reason says why it is not there.
            Err(_) => continue,
        };
        has_call = true;
        block(&mut out);
        out.put_slice(b"{\"type\":\"tool_use\",\"id\":");
        string_into(&mut out, &envelope.call_id(&call.id));
        out.put_slice(b",\"name\":");
        string_into(&mut out, &call.name);
        out.put_slice(b",\"input\":");
        out.put_slice(input.as_bytes());
        out.put_slice(b"}");
    }
    let reason = told(reason, has_call);
    if blocks == 0 && envelope.wants_something(reason) {
        return Err(nothing());
    }
    out.put_slice(if blocks == 0 { b"[]" } else { b"]" });
    out.put_slice(b",\"stop_reason\":");
    stop_into(&mut out, reason, writer.stop_sequence.as_deref());
    out.put_slice(b",\"usage\":");
    envelope.learn(answer.usage.as_ref());
    writer.usage = answer.usage;
    let calls: usize = answer.tool_calls.iter().map(|call| call.arguments.len()).sum();
    writer.written = (answer.text.len() + answer.reasoning.len() + calls) as u64;
    usage_into(&mut out, &writer.counts());
    out.put_slice(b"}");
    Ok(out.freeze())
}

/// The error of an upstream that has answered with nothing at all.
///
/// As a message without blocks it would be shown as nothing, and nobody would know why.
fn nothing() -> Error {
    Error::new(ErrorKind::Upstream, "the upstream's answer is empty").with_code("empty_answer")
}

/// Whether an answer that ends so may end in the middle of a call.
const fn may_be_cut(reason: FinishReason) -> bool {
    matches!(reason, FinishReason::Length | FinishReason::ContentFilter)
}

/// Why an answer ends, as its client shall know it: with a call it ends for the call, whatever the
/// upstream says, and without one it does not.
///
/// What the limit has ended may end in a call that is cut, though its arguments are an object: a
/// layer below may have closed what was open. Whoever ran it would write half a file.
const fn told(reason: FinishReason, has_call: bool) -> FinishReason {
    match reason {
        FinishReason::ContentFilter | FinishReason::Length => reason,
        _ if has_call => FinishReason::ToolCalls,
        FinishReason::ToolCalls => FinishReason::Stop,
        _ => reason,
    }
}

/// The word for why a message ends.
const fn stop_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter => "refusal",
    }
}

/// The value of `stop_reason`, and `stop_sequence` behind it.
fn stop_into(out: &mut BytesMut, reason: FinishReason, sequence: Option<&str>) {
    let sequence = sequence.filter(|_| reason == FinishReason::Stop);
    string_into(out, if sequence.is_some() { "stop_sequence" } else { stop_reason(reason) });
    out.put_slice(b",\"stop_sequence\":");
    match sequence {
        Some(sequence) => string_into(out, sequence),
        None => out.put_slice(b"null"),
    }
}

/// The counts: integers all, since clients add them up.
///
/// The three counts of what went in are apart here: their sum is the prompt.
fn usage_into(out: &mut BytesMut, usage: &Usage) {
    let cached = usage.cached_tokens.unwrap_or(0).min(usage.prompt_tokens);
    out.put_slice(b"{\"input_tokens\":");
    number_into(out, usage.prompt_tokens - cached);
    out.put_slice(b",\"output_tokens\":");
    number_into(out, usage.completion_tokens);
    out.put_slice(b",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":");
    number_into(out, cached);
    if let Some(thinking) = usage.reasoning_tokens {
        out.put_slice(b",\"output_tokens_details\":{\"thinking_tokens\":");
        number_into(out, thinking);
        out.put_slice(b"}");
    }
    out.put_slice(b"}");
}

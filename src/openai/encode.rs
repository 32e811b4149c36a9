//! The answer: events in, OpenAI JSON out, as chunks or whole.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::{
    Error, Text,
    chat::{
        Answer, ChatEvent, Citation, Conversation, Extra, FinishReason, Json, ToolCall, Usage,
        truncated,
    },
    edge::{Writer, openai_error_into},
    json::{self, escape_into, number_into, string_into},
    sse::{DONE, KEEP_ALIVE},
};

/// Which of OpenAI's objects the answer becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `chat.completion` and its chunks.
    Chat,
    /// `text_completion`, streamed under the same name. Thinking and calls have no place in
    /// it.
    Text {
        /// The prompt, where the client wants it in front of the answer.
        echo: Option<Text>,
    },
}

/// What all chunks of one answer, or the whole answer, have in common.
#[derive(Debug)]
pub(super) struct Envelope {
    form: Form,
    /// `chatcmpl-…` or `cmpl-…`.
    id: String,
    /// Seconds since 1970.
    created: u64,
    /// The name that the client asked for, whatever the upstream calls it.
    model: Text,
    /// Whether the last chunk of a stream says what the answer has used.
    include_usage: bool,
}

impl Envelope {
    /// An answer that begins now, under a new id.
    pub(super) fn new(form: Form, model: &str, include_usage: bool) -> Self {
        let prefix = match form {
            Form::Chat => "chatcmpl",
            Form::Text { .. } => "cmpl",
        };
        Self {
            form,
            id: format!("{prefix}-{}", Uuid::new_v4().simple()),
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            // A copy: the request's own may be a slice, which would keep its body.
            model: model.into(),
            include_usage,
        }
    }

    /// Everything up to and with `"choices":[`.
    fn head_into(&self, out: &mut BytesMut, object: &str) {
        out.put_slice(b"{\"id\":");
        string_into(out, &self.id);
        out.put_slice(b",\"object\":");
        string_into(out, object);
        out.put_slice(b",\"created\":");
        number_into(out, self.created);
        out.put_slice(b",\"model\":");
        string_into(out, &self.model);
        out.put_slice(b",\"choices\":[");
    }
}

/// Writes the chunks of a streamed answer.
///
/// One `id`, `created` and `model` for all chunks; the role once and first; one finish reason, in
/// a chunk of its own; the usage chunk only when asked for; then `[DONE]`. What the server says behind
/// the finish reason (`timings`) stands beside the usage, or where that was not asked for beside the
/// finish reason, which waits for it: it is written with the end. An error is one object
/// without an `event:` line, then `[DONE]`; never a normal end. What does not change from chunk
/// to chunk is written once and copied.
#[derive(Debug)]
pub(super) struct ChunkEncoder {
    form: Form,
    /// `data: {…"choices":[{"index":0,"delta":{`, or `…"text":"`.
    head: Bytes,
    /// How much of `head` ends with `"choices":[`.
    choices: usize,
    include_usage: bool,
    usage: Option<Usage>,
    usage_fields: Vec<Extra>,
    conversation: Option<Conversation>,
    /// For the chunk with the finish reason, and those that come behind it for that with the usage.
    server_fields: Vec<Extra>,
    /// The finish reason, where it waits for the end.
    reason: Option<FinishReason>,
    choice_fields: Vec<Extra>,
    /// How many sources were given.
    citations: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was sent; the role is due.
    Start,
    Open,
    /// The model has finished.
    Finished,
    /// `[DONE]` was sent.
    Done,
}

impl ChunkEncoder {
    pub(super) fn new(envelope: &Envelope) -> Self {
        let mut head = BytesMut::with_capacity(160 + envelope.model.len());
        head.put_slice(b"data: ");
        let (object, open): (_, &[u8]) = match envelope.form {
            Form::Chat => ("chat.completion.chunk", b"{\"index\":0,\"delta\":{"),
            Form::Text { .. } => ("text_completion", b"{\"index\":0,\"text\":\""),
        };
        envelope.head_into(&mut head, object);
        let choices = head.len();
        head.put_slice(open);
        Self {
            form: envelope.form.clone(),
            head: head.freeze(),
            choices,
            include_usage: envelope.include_usage,
            usage: None,
            usage_fields: Vec::new(),
            conversation: None,
            server_fields: Vec::new(),
            reason: None,
            choice_fields: Vec::new(),
            citations: 0,
            state: State::Start,
        }
    }

    /// Whether the model has finished: the answer is whole, whatever comes now.
    fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished | State::Done)
    }

    /// [`event`](Self::event) for [`Form::Text`].
    fn text_event(&mut self, out: &mut BytesMut, event: ChatEvent) {
        if !matches!(event, ChatEvent::Text(_) | ChatEvent::Finished(_)) {
            return;
        }
        if self.state == State::Start {
            self.state = State::Open;
            if let Form::Text { echo: Some(echo) } = &mut self.form {
                let echo = std::mem::take(echo);
                self.text_chunk(out, &echo, None);
            }
        }
        match event {
            ChatEvent::Text(text) => self.text_chunk(out, &text, None),
            ChatEvent::Finished(reason) => self.finished(out, reason),
            _ => {}
        }
    }

    /// The model has finished, so nothing follows but what the server says of its answer.
    fn finished(&mut self, out: &mut BytesMut, reason: FinishReason) {
        self.state = State::Finished;
        match self.include_usage {
            true => self.finish_chunk(out, reason),
            false => self.reason = Some(reason),
        }
    }

    fn finish_chunk(&mut self, out: &mut BytesMut, reason: FinishReason) {
        match self.form {
            Form::Text { .. } => self.text_chunk(out, "", Some(reason)),
            Form::Chat => {
                out.put_slice(&self.head);
                self.last_tail(out, reason);
            }
        }
    }

    fn text_chunk(&mut self, out: &mut BytesMut, text: &str, reason: Option<FinishReason>) {
        out.reserve(self.head.len() + text.len() + 64);
        out.put_slice(&self.head);
        escape_into(out, text);
        out.put_slice(b"\"");
        text_tail_into(out, reason);
        if reason.is_some() {
            self.choice_fields_into(out);
        }
        out.put_slice(b"}]");
        if reason.is_some() {
            self.server_fields_into(out);
        }
        self.end_chunk(out);
    }

    fn role(&mut self, out: &mut BytesMut) {
        self.state = State::Open;
        out.put_slice(&self.head);
        out.put_slice(b"\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]");
        if let Some(conversation) = &self.conversation {
            conversation_into(out, conversation);
        }
        self.end_chunk(out);
    }

    fn text(&self, out: &mut BytesMut, key: &[u8], text: &str) {
        out.reserve(self.head.len() + key.len() + text.len() + 64);
        out.put_slice(&self.head);
        out.put_slice(key);
        escape_into(out, text);
        // As the tail is written, in one piece.
        out.put_slice(match self.include_usage {
            true => b"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
            false => b"\"},\"finish_reason\":null}]}\n\n",
        });
    }

    /// From behind the delta's fields to the end of the chunk.
    fn tail(&self, out: &mut BytesMut) {
        out.put_slice(b"},\"finish_reason\":null}]");
        self.end_chunk(out);
    }

    /// The same of the last chunk of the choice.
    fn last_tail(&mut self, out: &mut BytesMut, reason: FinishReason) {
        out.put_slice(b"},\"finish_reason\":");
        string_into(out, reason.as_str());
        self.choice_fields_into(out);
        out.put_slice(b"}]");
        self.server_fields_into(out);
        self.end_chunk(out);
    }

    fn server_fields_into(&mut self, out: &mut BytesMut) {
        let mut fields = Extra::new();
        fields.merge_all(std::mem::take(&mut self.server_fields));
        server_fields_into(out, &fields);
    }

    fn choice_fields_into(&mut self, out: &mut BytesMut) {
        let mut fields = Extra::new();
        fields.merge_all(std::mem::take(&mut self.choice_fields));
        choice_fields_into(out, &fields);
    }

    fn end_chunk(&self, out: &mut BytesMut) {
        out.put_slice(if self.include_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" });
    }
}

impl Writer for ChunkEncoder {
    /// Appends the chunk of one event, if it makes one.
    fn event(&mut self, out: &mut BytesMut, event: ChatEvent) {
        match event {
            ChatEvent::Usage(usage) => return self.usage = Some(usage),
            ChatEvent::Started(started) | ChatEvent::Resumed(started) => {
                return self.conversation = started.conversation;
            }
            ChatEvent::ServerFields(fields) => return self.server_fields.push(fields),
            ChatEvent::ChoiceFields(fields) => return self.choice_fields.push(fields),
            ChatEvent::UsageFields(fields) => return self.usage_fields.push(fields),
            // Chat completions have no place for it.
            ChatEvent::ReasoningSignature(_) => return,
            // Attachments are text by now, and of progress nobody is told.
            ChatEvent::Attachment(_) | ChatEvent::Progress(_) => return,
            _ if self.is_finished() => return,
            _ => {}
        }
        if matches!(self.form, Form::Text { .. }) {
            return self.text_event(out, event);
        }
        if self.state == State::Start {
            self.role(out);
        }
        match event {
            ChatEvent::Text(text) => self.text(out, b"\"content\":\"", &text),
            ChatEvent::Reasoning(text) => self.text(out, b"\"reasoning_content\":\"", &text),
            ChatEvent::ToolCall { index, id, name } => {
                out.put_slice(&self.head);
                out.put_slice(b"\"tool_calls\":[{\"index\":");
                number_into(out, index.into());
                out.put_slice(b",\"id\":");
                string_into(out, &id);
                out.put_slice(b",\"type\":\"function\",\"function\":{\"name\":");
                string_into(out, &name);
                out.put_slice(b",\"arguments\":\"\"}}]");
                self.tail(out);
            }
            ChatEvent::ToolArguments { index, json } => {
                out.put_slice(&self.head);
                out.put_slice(b"\"tool_calls\":[{\"index\":");
                number_into(out, index.into());
                out.put_slice(b",\"function\":{\"arguments\":");
                string_into(out, &json);
                out.put_slice(b"}}]");
                self.tail(out);
            }
            ChatEvent::Citation(citation) => {
                out.put_slice(&self.head);
                out.put_slice(b"\"annotations\":[");
                citation_into(out, &citation, Some(self.citations));
                self.citations += 1;
                out.put_slice(b"]");
                self.tail(out);
            }
            ChatEvent::MessageFields(fields) => {
                out.put_slice(&self.head);
                members_into(out, &fields, &OF_MESSAGES[..5]);
                self.tail(out);
            }
            ChatEvent::Finished(reason) => self.finished(out, reason),
            ChatEvent::Usage(_)
            | ChatEvent::UsageFields(_)
            | ChatEvent::Started(_)
            | ChatEvent::Resumed(_)
            | ChatEvent::ServerFields(_)
            | ChatEvent::ChoiceFields(_)
            | ChatEvent::ReasoningSignature(_)
            | ChatEvent::Attachment(_)
            | ChatEvent::Progress(_) => unreachable!("returned above"),
        }
    }

    /// Appends what ends the stream: usage if asked for, `[DONE]`; or, where the answer is not
    /// complete, the error that says so.
    fn end(&mut self, out: &mut BytesMut) {
        match self.state {
            State::Done => {}
            State::Start | State::Open => self.error(out, &truncated()),
            State::Finished => {
                if let Some(reason) = self.reason.take() {
                    self.finish_chunk(out, reason);
                }
                if let Some(usage) = self.usage.filter(|_| self.include_usage) {
                    out.put_slice(&self.head[..self.choices]);
                    out.put_slice(b"],\"usage\":");
                    let mut fields = Extra::new();
                    fields.merge_all(std::mem::take(&mut self.usage_fields));
                    usage_into(out, &usage, &fields);
                    self.server_fields_into(out);
                    out.put_slice(b"}\n\n");
                }
                out.put_slice(DONE);
                self.state = State::Done;
            }
        }
    }

    /// Appends the error and ends the stream. After the finish reason the answer is whole, so the
    /// error is not the client's concern any more.
    fn error(&mut self, out: &mut BytesMut, error: &Error) {
        if self.is_finished() {
            return self.end(out);
        }
        out.put_slice(b"data: ");
        openai_error_into(out, error);
        out.put_slice(b"\n\n");
        out.put_slice(DONE);
        self.state = State::Done;
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        out.put_slice(KEEP_ALIVE);
    }

    fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

/// The whole answer as one object.
pub(super) fn whole_answer(envelope: &Envelope, answer: &Answer) -> Bytes {
    match &envelope.form {
        Form::Chat => completion(envelope, answer),
        Form::Text { echo } => text_completion(envelope, answer, echo.as_deref()),
    }
}

fn text_completion(envelope: &Envelope, answer: &Answer, echo: Option<&str>) -> Bytes {
    let echo = echo.unwrap_or_default();
    let size = 512 + echo.len() + answer.text.len();
    let mut out = BytesMut::with_capacity(size + size / 8);
    envelope.head_into(&mut out, "text_completion");
    out.put_slice(b"{\"index\":0,\"text\":\"");
    escape_into(&mut out, echo);
    escape_into(&mut out, &answer.text);
    out.put_slice(b"\"");
    text_tail_into(&mut out, Some(answer.finish_reason.unwrap_or(FinishReason::Stop)));
    choice_fields_into(&mut out, &answer.choice_fields);
    out.put_slice(b"}]");
    server_fields_into(&mut out, &answer.server_fields);
    if let Some(usage) = &answer.usage {
        out.put_slice(b",\"usage\":");
        usage_into(&mut out, usage, &answer.usage_fields);
    }
    out.put_slice(b"}");
    out.freeze()
}

/// From behind the text to the finish reason of the choice of a `text_completion`.
fn text_tail_into(out: &mut BytesMut, reason: Option<FinishReason>) {
    out.put_slice(b",\"logprobs\":null,\"finish_reason\":");
    match reason {
        None => out.put_slice(b"null"),
        // Calls have no place in the text, so their end is that of the text.
        Some(FinishReason::ToolCalls) => string_into(out, FinishReason::Stop.as_str()),
        Some(reason) => string_into(out, reason.as_str()),
    }
}

fn completion(envelope: &Envelope, answer: &Answer) -> Bytes {
    let size = 512 + answer.text.len() + answer.reasoning.len();
    let mut out = BytesMut::with_capacity(size + size / 8);
    envelope.head_into(&mut out, "chat.completion");
    out.put_slice(b"{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    if answer.text.is_empty() && !answer.tool_calls.is_empty() {
        out.put_slice(b"null");
    } else {
        string_into(&mut out, &answer.text);
    }
    out.put_slice(b",\"refusal\":null");
    if !answer.reasoning.is_empty() {
        out.put_slice(b",\"reasoning_content\":");
        string_into(&mut out, &answer.reasoning);
    }
    if !answer.tool_calls.is_empty() {
        out.put_slice(b",\"tool_calls\":[");
        list_into(&mut out, &answer.tool_calls, call_into);
        out.put_slice(b"]");
    }
    if !answer.citations.is_empty() {
        out.put_slice(b",\"annotations\":[");
        list_into(&mut out, &answer.citations, |out, citation| {
            citation_into(out, citation, None);
        });
        out.put_slice(b"]");
    }
    let own = if answer.citations.is_empty() { &OF_MESSAGES[..5] } else { &OF_MESSAGES };
    fields_into(&mut out, &answer.message_fields, own);
    out.put_slice(b"},\"logprobs\":null,\"finish_reason\":");
    string_into(&mut out, answer.finish_reason.unwrap_or(FinishReason::Stop).as_str());
    choice_fields_into(&mut out, &answer.choice_fields);
    out.put_slice(b"}]");
    if let Some(usage) = &answer.usage {
        out.put_slice(b",\"usage\":");
        usage_into(&mut out, usage, &answer.usage_fields);
    }
    if let Some(conversation) = &answer.conversation {
        conversation_into(&mut out, conversation);
    }
    server_fields_into(&mut out, &answer.server_fields);
    out.put_slice(b"}");
    out.freeze()
}

fn list_into<T>(
    out: &mut BytesMut,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(&mut BytesMut, T),
) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.put_slice(b",");
        }
        write(out, item);
    }
}

fn call_into(out: &mut BytesMut, call: &ToolCall) {
    out.put_slice(b"{\"id\":");
    string_into(out, &call.id);
    out.put_slice(b",\"type\":\"function\",\"function\":{\"name\":");
    string_into(out, &call.name);
    out.put_slice(b",\"arguments\":");
    string_into(out, &call.arguments);
    out.put_slice(b"}}");
}

/// The extension that lets a client go on in the same upstream chat by itself.
fn conversation_into(out: &mut BytesMut, conversation: &Conversation) {
    out.put_slice(b",\"qwen_chat_id\":");
    string_into(out, &conversation.chat_id);
    if let Some(parent_id) = &conversation.parent_id {
        out.put_slice(b",\"qwen_parent_id\":");
        string_into(out, parent_id);
    }
}

/// What the server gave beside its answer, but what the edge says itself.
fn server_fields_into(out: &mut BytesMut, fields: &Extra) {
    const OWN: [&str; 9] = [
        "id",
        "object",
        "created",
        "model",
        "choices",
        "usage",
        "error",
        "qwen_chat_id",
        "qwen_parent_id",
    ];
    fields_into(out, fields, &OWN);
}

/// What it gave beside the answer in the choice, but what the edge says itself.
fn choice_fields_into(out: &mut BytesMut, fields: &Extra) {
    fields_into(out, fields, &["index", "message", "delta", "text", "logprobs", "finish_reason"]);
}

/// What the edge says of a message itself; the last only where there are citations.
const OF_MESSAGES: [&str; 6] =
    ["role", "content", "reasoning_content", "refusal", "tool_calls", "annotations"];

/// Fields behind others.
fn fields_into(out: &mut BytesMut, fields: &Extra, own: &[&str]) {
    if fields.iter().any(|(name, _)| !own.contains(&&*name)) {
        out.put_slice(b",");
        members_into(out, fields, own);
    }
}

fn members_into(out: &mut BytesMut, fields: &Extra, own: &[&str]) {
    let others = fields.iter().filter(|(name, _)| !own.contains(&&**name));
    for (index, (name, value)) in others.enumerate() {
        if index > 0 {
            out.put_slice(b",");
        }
        string_into(out, &name);
        out.put_slice(b":");
        // A line end would end the event.
        out.put_slice(json::compact(value.as_str()).as_bytes());
    }
}

/// OpenAI's form of a source. Where it is not known what it is a source for, it is nothing at the
/// start of the text. In a stream each has its `index`: OpenAI's SDKs join the pieces of a list by it,
/// and fail at a second piece that has none.
fn citation_into(out: &mut BytesMut, citation: &Citation, index: Option<u64>) {
    out.put_slice(b"{");
    if let Some(index) = index {
        out.put_slice(b"\"index\":");
        number_into(out, index);
        out.put_slice(b",");
    }
    out.put_slice(b"\"type\":\"url_citation\",\"url_citation\":{\"url\":");
    string_into(out, &citation.url);
    out.put_slice(b",\"title\":");
    string_into(out, citation.title.as_deref().unwrap_or_default());
    let range = citation.range.clone().unwrap_or_default();
    out.put_slice(b",\"start_index\":");
    number_into(out, range.start as u64);
    out.put_slice(b",\"end_index\":");
    number_into(out, range.end as u64);
    out.put_slice(b"}}");
}

fn usage_into(out: &mut BytesMut, usage: &Usage, fields: &Extra) {
    out.put_slice(b"{\"prompt_tokens\":");
    number_into(out, usage.prompt_tokens);
    out.put_slice(b",\"completion_tokens\":");
    number_into(out, usage.completion_tokens);
    out.put_slice(b",\"total_tokens\":");
    number_into(out, usage.total_tokens);
    for (name, known, count) in [
        ("prompt_tokens_details", "cached_tokens", usage.cached_tokens),
        ("completion_tokens_details", "reasoning_tokens", usage.reasoning_tokens),
    ] {
        let others = fields.get(name).as_ref().and_then(Json::as_fields).unwrap_or_default();
        if count.is_none() && others.is_empty() {
            continue;
        }
        out.put_slice(b",");
        string_into(out, name);
        out.put_slice(b":{");
        if let Some(count) = count {
            string_into(out, known);
            out.put_slice(b":");
            number_into(out, count);
            fields_into(out, &others, &[known]);
        } else {
            members_into(out, &others, &[]);
        }
        out.put_slice(b"}");
    }
    fields_into(out, fields, &OF_USAGE);
    out.put_slice(b"}");
}

/// What the edge says of token counts itself.
const OF_USAGE: [&str; 5] = [
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
];

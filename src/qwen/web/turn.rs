//! From the events of one answer to [`ChatEvent`]s: a plain state machine, no I/O.

use std::borrow::Cow;

use super::{
    error::{Call, Failure},
    fast,
    stop::Stop,
    wire::{Delta, Event, Found, Phase, Status, Summary, SummaryPart},
};
use crate::{
    Error, ErrorKind, Text,
    chat::{Attachment, AttachmentKind, ChatEvent, Citation, Conversation, FinishReason},
    json::{
        ReadError,
        lenient::{self, Object, slice},
        members,
        object::{Checker, Found as Read},
        unquoted,
    },
    qwen::{
        answer::{Answer, Chunk, Ours, Repair, Wire, each_of_list},
        redact::Secrets,
    },
    sse::Decoder,
};

/// How many generated images of one turn are told apart; the rest is shown as it comes.
const IMAGES: usize = 64;

/// The longest event that may come in several `data` lines, in bytes; a whole one may have as many.
const EVENT_LEN: usize = Decoder::DEFAULT_MAX_EVENT;

/// One turn of a chat, while its answer arrives.
#[derive(Debug)]
pub(super) struct Turn {
    /// Where the answer is; its parent is the answer's id once that is known.
    conversation: Conversation,
    call: Call,
    /// The id of the answer: the first that the stream names. What bears another belongs to
    /// another generation on the same socket.
    response_id: Option<Text>,
    summary: SummaryState,
    images: Vec<Text>,
    /// The beginning of an event whose lines have not all come.
    lines: Option<Lines>,
    /// In OpenAI's shape, the choice that is the answer; `None` where nothing came in it.
    openai: Option<Ours>,
    /// OpenAI's word for why the answer ends, where one stood beside a phase.
    finish_reason: Option<Text>,
    is_over: bool,
    /// How many bytes may come before the answer says something.
    commit_bytes: usize,
    /// What must not be shown of what upstream says of a failure.
    secrets: Secrets,
    stop: Option<Stop>,
}

/// The lines of one event so far.
#[derive(Debug)]
struct Lines {
    text: String,
    /// Knows when they are whole, so that they are parsed once.
    checker: Checker,
}

impl Turn {
    /// A turn in `conversation`.
    pub(super) fn new(conversation: Conversation, call: Call) -> Self {
        Self {
            conversation,
            call,
            response_id: None,
            summary: SummaryState::default(),
            images: Vec::new(),
            lines: None,
            openai: None,
            finish_reason: None,
            is_over: false,
            commit_bytes: usize::MAX,
            secrets: Secrets::default(),
            stop: None,
        }
    }

    /// The same, which shows none of `secrets` in an error.
    pub(super) fn secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// The same, which waits for so many bytes until the answer says something.
    pub(super) fn commit_bytes(mut self, bytes: usize) -> Self {
        self.commit_bytes = bytes;
        self
    }

    /// The same, which tells upstream to stop where it is dropped before the answer is over.
    pub(super) fn stop(mut self, stop: Stop) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Whoever gets the answer knows of the chat that it is in.
    pub(super) fn keep_chat(&mut self) {
        if let Some(stop) = &mut self.stop {
            stop.keep_chat();
        }
    }

    /// The id of the answer, once it is known.
    pub(super) const fn response_id(&self) -> Option<&Text> {
        self.response_id.as_ref()
    }

    /// Takes an answer that came in one piece of JSON, an object.
    ///
    /// # Errors
    ///
    /// Where there is no answer in it.
    pub(super) fn whole(&mut self, envelope: &Text, answer: &mut Answer) -> Result<(), Error> {
        let no_answer = || {
            Error::new(ErrorKind::Upstream, "the upstream answered with JSON that holds no answer")
        };
        let member = |json: &Text, name: &str| {
            members(json)
                .filter(|member| member.0 == name)
                .last()
                .map(|member| json.slice_ref(member.1))
        };
        let data = member(envelope, "data").filter(|data| data.starts_with('{'));
        let data = data.unwrap_or_else(|| envelope.clone());
        if let Some(id) = member(&data, "message_id").filter(|id| id.starts_with('"')) {
            self.is_ours(Some(&unquoted(&id)), answer);
        }
        // It is of OpenAI's shape, so it is read as such.
        if !self.openai(&data, answer)? {
            return Err(no_answer());
        }
        if !answer.is_finished() {
            answer.finished(FinishReason::Stop);
        }
        answer.conclude()?;
        answer.give_counts();
        Ok(())
    }

    /// Takes the `data` of one event in.
    ///
    /// # Errors
    ///
    /// Where the event says that the answer failed, or cannot be read. The turn is over then.
    fn data(&mut self, data: Text, answer: &mut Answer) -> Result<(), Error> {
        // The usual event goes the short way.
        if self.lines.is_none()
            && let Some(usual) = fast::parse(&data)
            && let Some(content) = usual.content(&data)
        {
            if self.is_ours(usual.response_id, answer) {
                if let Some(usage) = usual.usage {
                    answer.counts(usage);
                }
                match usual.is_thinking {
                    true => answer.reasoning(content.of(data)),
                    false => answer.text(content.of(data)),
                }
            }
            return Ok(());
        }
        if self.lines.is_none()
            && let Some(taken) = each_of_list(&data, |event| self.object(event, answer))
        {
            answer.repaired(Repair::List);
            return taken;
        }
        self.object(data, answer)
    }

    /// The same of an event that is no list.
    fn object(&mut self, data: Text, answer: &mut Answer) -> Result<(), Error> {
        let Some(data) = self.joined(data)? else { return Ok(()) };
        let event = match Event::parse(&data) {
            Ok(event) => event,
            // More lines of it may follow.
            Err(error) if error.is_eof() && self.lines.is_none() => {
                self.lines = Some(Lines { text: String::new(), checker: Checker::default() });
                return self.joined(data).map(drop);
            }
            Err(error) => return Err(unreadable(error)),
        };
        match event {
            Event::Delta(delta) => self.delta(delta, answer),
            Event::Created { response_id } => {
                self.is_ours(response_id.as_deref(), answer);
                Ok(())
            }
            Event::Failed { failure, response_id } => {
                if self.is_ours(response_id.as_deref(), answer) {
                    return Err(failure.into_error(self.call, None, None, &self.secrets));
                }
                Ok(())
            }
            Event::OpenAi => self.openai(&data, answer).map(drop),
            // OpenAI's end mark: nobody writes it who has more to say. Before the answer it says
            // nothing.
            Event::Done => {
                self.is_over |= self.openai.is_some() || answer.is_begun();
                Ok(())
            }
            Event::Nothing => Ok(()),
        }
    }

    /// The lines that came so far with this one behind them, once they are an object.
    ///
    /// # Errors
    ///
    /// Where they cannot become one.
    fn joined(&mut self, line: Text) -> Result<Option<Text>, Error> {
        let Some(lines) = &mut self.lines else { return Ok(Some(line)) };
        let is_json = (lines.text.is_empty() || lines.checker.push("\n").is_ok())
            && lines.checker.push(&line).is_ok();
        if !is_json || lines.text.len() + line.len() > EVENT_LEN {
            return Err(Error::new(ErrorKind::Upstream, UNREADABLE));
        }
        if !lines.text.is_empty() {
            lines.text.push('\n');
        }
        lines.text.push_str(&line);
        if lines.checker.found() == Read::Object {
            return Ok(self.lines.take().map(|lines| lines.text.into()));
        }
        Ok(None)
    }

    /// Takes an event of OpenAI's shape in; whether it says something of the answer.
    fn openai(&mut self, data: &Text, answer: &mut Answer) -> Result<bool, Error> {
        let ours = self.openai.get_or_insert_default();
        let taken = lenient::read(data, |data| {
            let chunk: Object<Chunk<'_>> = serde_json::from_str(data)?;
            Ok(chunk.0.map_or(Ok(false), |chunk| chunk.take(data, ours, answer)))
        });
        taken.map_err(unreadable)?
    }

    /// Whether an event with this id belongs to the answer. The first id makes the answer known.
    #[inline]
    fn is_ours(&mut self, response_id: Option<&str>, answer: &mut Answer) -> bool {
        match (response_id, &self.response_id) {
            (None, _) => true,
            (Some(id), Some(ours)) => *ours == *id,
            (Some(""), None) => true,
            (Some(id), None) => {
                self.start(id, answer);
                true
            }
        }
    }

    #[cold]
    fn start(&mut self, response_id: &str, answer: &mut Answer) {
        let mut conversation = self.conversation.clone();
        // Copied, so that a few bytes do not keep the upstream's buffer for the life of a
        // session.
        let id = Text::from(response_id);
        conversation.parent_id = Some(id.clone());
        if let Some(stop) = &mut self.stop {
            stop.arm(&id);
        }
        self.response_id = Some(id);
        answer.started(conversation.into());
    }

    fn delta(&mut self, delta: Delta, answer: &mut Answer) -> Result<(), Error> {
        let Delta { phase, status, content, extra, finish_reason, usage, response_id } = delta;
        if !self.is_ours(response_id.as_deref(), answer) {
            return Ok(());
        }
        if let Some(usage) = usage {
            answer.counts(usage);
        }
        if status == Status::Error {
            let failure = Failure::from_text(&content);
            return Err(failure.into_error(self.call, None, None, &self.secrets));
        }
        match phase {
            Phase::Answer => answer.text(content),
            Phase::Think => answer.reasoning(content),
            Phase::ThinkingSummary => {
                let waiting = answer.waiting();
                answer.reasoning(content);
                if answer.waiting() == waiting
                    && let Some(text) = extra.and_then(|extra| self.summary.tail(&extra))
                {
                    answer.other(ChatEvent::Reasoning(text));
                }
            }
            Phase::Search => {
                if let Some(extra) = extra {
                    search_results(&extra, answer);
                }
            }
            Phase::ImageGen => self.image(content, answer),
            Phase::ImageGenTool => {
                if let Some(extra) = extra {
                    let found = serde_json::from_str::<Found<'_>>(&extra).unwrap_or_default();
                    for image in found.image_list.items {
                        if let Some(url) = image.0.and_then(|image| image.image.0) {
                            self.image(slice(&extra, url), answer);
                        }
                    }
                }
            }
            Phase::Other => {}
        }
        if let Some(word) = finish_reason {
            // A slice would keep its event.
            self.finish_reason = Some(word.as_str().into());
        }
        if status == Status::Finished && phase.is_last() {
            self.is_over = true;
            answer.give_counts();
            // `finished` says that nothing more comes, and not that the answer is whole.
            if let Some(word) = self.finish_reason.take() {
                answer.ends(&word)?;
            }
            if !answer.is_finished() {
                answer.finished(FinishReason::Stop);
            }
        }
        Ok(())
    }

    /// A generated image, once. How it is shown is the edge's to say.
    fn image(&mut self, url: Text, answer: &mut Answer) {
        if url.is_empty() || self.images.contains(&url) {
            return;
        }
        if self.images.len() < IMAGES {
            self.images.push(url.clone());
        }
        answer.other(ChatEvent::Attachment(Attachment::new(AttachmentKind::Image, url)));
    }
}

impl Wire for Turn {
    fn event(&mut self, _: Option<&str>, data: Text, answer: &mut Answer) -> Result<(), Error> {
        let taken = self.data(data, answer);
        self.is_over |= taken.is_err();
        if (self.is_over || answer.is_finished())
            && let Some(stop) = &mut self.stop
        {
            stop.disarm();
        }
        taken
    }

    fn end(&mut self, answer: &mut Answer) -> Result<(), Error> {
        answer.settle_reason(self.is_over);
        if !answer.is_finished() {
            if !self.is_over {
                return Err(answer.cut());
            }
            // Of OpenAI's shape `[DONE]` is the end. The wire's own is a status, and never missing: what
            // a gateway has put in its place may stand behind half an answer.
            answer.finished_somehow(match self.openai {
                Some(_) => FinishReason::Stop,
                None => FinishReason::Length,
            })?;
        } else {
            answer.conclude()?;
        }
        answer.give_counts();
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.is_over
    }

    fn is_enough(&self, bytes: usize) -> Option<Result<(), Error>> {
        if bytes <= self.commit_bytes {
            return None;
        }
        let message = "the upstream sent much and no answer in it";
        Some(match self.response_id {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::Upstream, message)),
        })
    }
}

const UNREADABLE: &str = "the upstream sent an event that is not readable";

/// The error of an event that cannot be read.
fn unreadable(error: serde_json::Error) -> Error {
    // The parser's own words may quote the answer.
    let error = ReadError::from(error);
    tracing::debug!(%error, "an event of the stream is not readable");
    Error::new(ErrorKind::Upstream, UNREADABLE).with_source(error)
}

fn search_results(extra: &Text, answer: &mut Answer) {
    // `extra` is JSON, checked with the event; of another shape it holds no results.
    let found = serde_json::from_str::<Found<'_>>(extra).unwrap_or_default();
    for page in found.web_search_info.items {
        let Some(page) = page.0 else { continue };
        let Some(url) = page.url.0.filter(|url| !url.is_empty()) else { continue };
        let mut source = Citation::new(slice(extra, url));
        let part = |part: Option<Cow<'_, str>>| {
            part.filter(|part| !part.is_empty()).map(|part| slice(extra, part))
        };
        source.title = part(page.title.0);
        source.snippet = part(page.snippet.0);
        answer.other(ChatEvent::Citation(source.into()));
    }
}

/// How much of the cumulative lists of `thinking_summary` was handed on.
#[derive(Debug, Default)]
struct SummaryState {
    /// Of each entry, the bytes of its title and of its thought.
    entries: Vec<[usize; 2]>,
    is_begun: bool,
}

impl SummaryState {
    /// What is new in the lists: each entry is its title on a line, then its thought; entries
    /// stand apart by an empty line.
    fn tail(&mut self, extra: &Text) -> Option<Text> {
        let summary = serde_json::from_str::<Summary<'_>>(extra).ok()?;
        let mut titles = SummaryPart::strings(&summary.title);
        let mut thoughts = SummaryPart::strings(&summary.thought);
        let len = titles.len().max(thoughts.len());
        if self.entries.len() < len {
            self.entries.resize(len, [0; 2]);
        }
        let mut new = String::new();
        for entry in &mut self.entries[..len] {
            let parts = [titles.next().unwrap_or(""), thoughts.next().unwrap_or("")];
            for (which, part) in parts.into_iter().enumerate() {
                // A string that was changed instead of grown has no tail.
                let Some(tail) = part.get(entry[which]..).filter(|tail| !tail.is_empty()) else {
                    continue;
                };
                if entry[which] == 0 && self.is_begun {
                    new.push_str(if which == 1 && entry[0] > 0 { "\n" } else { "\n\n" });
                }
                self.is_begun = true;
                entry[which] = part.len();
                new.push_str(tail);
            }
        }
        (!new.is_empty()).then(|| new.into())
    }
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;

//! From the events of one answer to [`ChatEvent`]s: a plain state machine, no I/O.

use std::{borrow::Cow, collections::VecDeque};

use super::{
    error::{Call, Failure},
    fast::{self, Usual},
    wire::{Delta, Event, Found, Phase, Status, Summary, slice},
};
use crate::{
    Error, ErrorKind, Text,
    chat::{
        Attachment, AttachmentKind, ChatEvent, Citation, Conversation, FinishReason, Usage,
        truncated,
    },
    json::ReadError,
    qwen::redact::Secrets,
};

/// How many generated images of one turn are told apart; the rest is shown as it comes.
const IMAGES: usize = 64;

/// One turn of a chat, while its answer arrives.
#[derive(Debug)]
pub(super) struct Turn {
    /// Where the answer is; its parent is the answer's id once that is known.
    conversation: Conversation,
    call: Call,
    /// The id of the answer: the first that the stream names. What bears another belongs to
    /// another generation on the same socket (A11.2).
    response_id: Option<Text>,
    /// The whole text so far of either kind, where the stream repeats it (A13).
    cumulative: Option<Cumulative>,
    summary: SummaryState,
    images: Vec<Text>,
    usage: Option<Usage>,
    is_over: bool,
    /// What must not be shown of what upstream says of a failure.
    secrets: Secrets,
}

#[derive(Debug, Default)]
struct Cumulative {
    answer: Text,
    thinking: Text,
}

impl Turn {
    /// A turn in `conversation`. With `incremental` every delta holds only what is new.
    pub(super) fn new(conversation: Conversation, call: Call, incremental: bool) -> Self {
        Self {
            conversation,
            call,
            response_id: None,
            cumulative: (!incremental).then(Cumulative::default),
            summary: SummaryState::default(),
            images: Vec::new(),
            usage: None,
            is_over: false,
            secrets: Secrets::default(),
        }
    }

    /// The same, which shows none of `secrets` in an error.
    pub(super) fn secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// A turn whose answer is there already.
    pub(super) fn over(conversation: Conversation) -> Self {
        let mut turn = Self::new(conversation, Call::Turn { continued: false }, true);
        turn.is_over = true;
        turn
    }

    /// The answer's id, once it is known.
    pub(super) fn response_id(&self) -> Option<&Text> {
        self.response_id.as_ref()
    }

    /// Whether the answer is complete, or failed.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes the `data` of one event in, and appends what it means to `out`.
    ///
    /// # Errors
    ///
    /// Where the event says that the answer failed, or cannot be read. The turn is over then.
    pub(super) fn push(&mut self, data: &Text, out: &mut VecDeque<ChatEvent>) -> Result<(), Error> {
        // The usual event goes the short way.
        if let Some(usual) = fast::parse(data)
            && let Some(content) = usual.content(data)
        {
            self.usual(&usual, content, out);
            return Ok(());
        }
        let event = Event::parse(data).map_err(|error| {
            // The parser's own words may quote the answer.
            let error = ReadError::from(error);
            self.is_over = true;
            tracing::debug!(%error, bytes = data.len(), "an event of the stream is not readable");
            Error::new(ErrorKind::Upstream, "the upstream sent an event that is not readable")
                .with_source(error)
        })?;
        match event {
            Event::Delta(delta) => self.delta(delta, out),
            Event::Created { response_id } => {
                self.is_ours(response_id.as_deref(), out);
                Ok(())
            }
            Event::Failed { failure, response_id } => {
                if self.is_ours(response_id.as_deref(), out) {
                    return Err(self.fail(failure));
                }
                Ok(())
            }
            Event::Nothing => Ok(()),
        }
    }

    /// [`push`](Self::push) for the last line of a stream that ended within it: what cannot be
    /// read of it was cut.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), and where the event is not whole.
    pub(super) fn push_last(
        &mut self,
        data: &Text,
        out: &mut VecDeque<ChatEvent>,
    ) -> Result<(), Error> {
        if Event::parse(data).is_err() {
            return Err(self.cut());
        }
        self.push(data, out)
    }

    /// The error for a stream that ends now.
    pub(super) fn cut(&mut self) -> Error {
        self.is_over = true;
        truncated()
    }

    fn fail(&mut self, failure: Failure) -> Error {
        self.is_over = true;
        failure.into_error(self.call, None, None, &self.secrets)
    }

    /// Whether an event with this id belongs to the answer. The first id makes the answer known.
    #[inline]
    fn is_ours(&mut self, response_id: Option<&str>, out: &mut VecDeque<ChatEvent>) -> bool {
        match (response_id, &self.response_id) {
            (None, _) => true,
            (Some(id), Some(ours)) => *ours == *id,
            (Some(""), None) => true,
            (Some(id), None) => {
                self.start(id, out);
                true
            }
        }
    }

    #[cold]
    fn start(&mut self, response_id: &str, out: &mut VecDeque<ChatEvent>) {
        let mut conversation = self.conversation.clone();
        // Copied, so that a few bytes do not keep the upstream's buffer for the life of a
        // session.
        let id = Text::from(response_id);
        conversation.parent_id = Some(id.clone());
        self.response_id = Some(id);
        out.push_back(ChatEvent::Started(conversation.into()));
    }

    /// A [`delta`](Self::delta) of the usual shape.
    #[inline(always)]
    fn usual(&mut self, usual: &Usual<'_>, content: Text, out: &mut VecDeque<ChatEvent>) {
        if !self.is_ours(usual.response_id, out) {
            return;
        }
        if let Some(usage) = usual.usage {
            self.usage = Some(usage);
        }
        if usual.is_thinking {
            self.thought(content, out);
        } else {
            self.said(content, out);
        }
    }

    #[inline]
    fn said(&mut self, content: Text, out: &mut VecDeque<ChatEvent>) {
        let text = match &mut self.cumulative {
            None => content,
            Some(whole) => tail(&mut whole.answer, content),
        };
        if !text.is_empty() {
            out.push_back(ChatEvent::Text(text));
        }
    }

    /// Whether there was something new.
    #[inline]
    fn thought(&mut self, content: Text, out: &mut VecDeque<ChatEvent>) -> bool {
        let text = match &mut self.cumulative {
            None => content,
            Some(whole) => tail(&mut whole.thinking, content),
        };
        let is_new = !text.is_empty();
        if is_new {
            out.push_back(ChatEvent::Reasoning(text));
        }
        is_new
    }

    fn delta(&mut self, delta: Delta, out: &mut VecDeque<ChatEvent>) -> Result<(), Error> {
        let Delta { phase, status, content, extra, usage, response_id } = delta;
        if !self.is_ours(response_id.as_deref(), out) {
            return Ok(());
        }
        if usage.is_some() {
            self.usage = usage;
        }
        if status == Status::Error {
            let failure = Failure::from_text(&content);
            return Err(self.fail(failure));
        }
        match phase {
            Phase::Answer => self.said(content, out),
            Phase::Think | Phase::ThinkingSummary => {
                if !self.thought(content, out)
                    && phase == Phase::ThinkingSummary
                    && let Some(text) = extra.and_then(|extra| self.summary.tail(&extra))
                {
                    out.push_back(ChatEvent::Reasoning(text));
                }
            }
            Phase::Search => {
                if let Some(extra) = extra {
                    search_results(&extra, out);
                }
            }
            Phase::ImageGen => self.image(content, out),
            Phase::ImageGenTool => {
                if let Some(extra) = extra {
                    let found = serde_json::from_str::<Found<'_>>(&extra).unwrap_or_default();
                    for image in found.image_list.0 {
                        if let Some(url) = image.0.and_then(|image| image.image.0) {
                            self.image(slice(&extra, url), out);
                        }
                    }
                }
            }
            Phase::Other => {}
        }
        if status == Status::Finished && phase.is_last() {
            self.is_over = true;
            out.extend(self.usage.take().map(ChatEvent::Usage));
            out.push_back(ChatEvent::Finished(FinishReason::Stop));
        }
        Ok(())
    }

    /// A generated image, once. How it is shown is the edge's to say.
    fn image(&mut self, url: Text, out: &mut VecDeque<ChatEvent>) {
        if url.is_empty() || self.images.contains(&url) {
            return;
        }
        if self.images.len() < IMAGES {
            self.images.push(url.clone());
        }
        out.push_back(ChatEvent::Attachment(Attachment::new(AttachmentKind::Image, url)));
    }
}

/// What of `now`, the whole text, has not been there in `before`, the whole text of earlier.
///
/// Where the text was changed instead of grown, what was said cannot be taken back; what comes
/// after the part that both share is new.
fn tail(before: &mut Text, now: Text) -> Text {
    if before.starts_with(now.as_str()) {
        // Nothing new, or an earlier state once more.
        return Text::new();
    }
    let mut shared = before.bytes().zip(now.bytes()).take_while(|(a, b)| a == b).count();
    // They may part within a character.
    while !now.is_char_boundary(shared) {
        shared -= 1;
    }
    let new = now.slice(shared..);
    *before = now;
    new
}

fn search_results(extra: &Text, out: &mut VecDeque<ChatEvent>) {
    // `extra` is JSON, checked with the event; of another shape it holds no results.
    let found = serde_json::from_str::<Found<'_>>(extra).unwrap_or_default();
    for page in found.web_search_info.0 {
        let Some(page) = page.0 else { continue };
        let Some(url) = page.url.0.filter(|url| !url.is_empty()) else { continue };
        let mut source = Citation::new(slice(extra, url));
        let part = |part: Option<Cow<'_, str>>| {
            part.filter(|part| !part.is_empty()).map(|part| slice(extra, part))
        };
        source.title = part(page.title.0);
        source.snippet = part(page.snippet.0);
        out.push_back(ChatEvent::Citation(source.into()));
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
        let mut titles = summary.title.strings();
        let mut thoughts = summary.thought.strings();
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

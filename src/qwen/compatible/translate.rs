//! What the events of an OpenAI-compatible stream mean.

use memchr::memmem;

use super::{error::Fault, fast::Frame, server::Server};
use crate::{
    Error, ErrorKind, Text,
    chat::{ChatEvent, Citation, Extra, FinishReason, Json},
    json::{
        self, ReadError,
        lenient::{self, List, Object, Word, lenient, slice, without_halves},
    },
    qwen::{
        answer::{Answer, Chunk, Ours, Repair, Wire, each_of_list},
        cursor::Literal,
        redact::Secrets,
    },
};

/// How many bytes of fields of its own a server may give with one answer.
const SERVER_FIELDS_LEN: usize = 8 * 1024;

/// Fields of an event that are read, or that the edge writes itself.
const READ: [&str; 9] =
    ["id", "object", "created", "model", "choices", "usage", "error", "message", "code"];

/// The same of a choice.
const READ_OF_CHOICES: [&str; 6] =
    ["index", "delta", "message", "text", "logprobs", "finish_reason"];

/// The same of a message, or of a piece of one.
const READ_OF_MESSAGES: [&str; 7] =
    ["role", "content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call"];

/// The same of token counts, and of what they consist of.
const READ_OF_COUNTS: [&str; 8] = [
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
];
const READ_OF_DETAILS: [&str; 2] = ["cached_tokens", "reasoning_tokens"];

/// Reads the events of these servers, and their whole answers.
#[derive(Debug)]
pub(super) struct Translator {
    server: Server,
    ours: Ours,
    done: bool,
    /// There was a choice, and something in it.
    answered: bool,
    /// The first chunk was read, which names the answer.
    started: bool,
    /// How many bytes of [`ChatEvent::ServerFields`] were given.
    fields_len: usize,
    /// The answer did not come as a stream.
    whole: bool,
    /// How many sources were given.
    sources: usize,
    /// What must not be shown of what upstream says of a failure.
    secrets: Secrets,
    /// What the last usual event was like.
    frame: Frame,
}

impl Translator {
    pub(super) const fn server(&self) -> Server {
        self.server
    }

    pub(super) const fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// A reader of `server`'s events that shows none of `secrets` in an error.
    pub(super) fn new(server: Server, secrets: Secrets) -> Self {
        Self {
            server,
            ours: Ours::default(),
            done: false,
            answered: false,
            started: false,
            fields_len: 0,
            whole: false,
            sources: 0,
            secrets,
            frame: Frame::default(),
        }
    }

    /// Takes a whole answer, from a server that sent one although it was asked to stream.
    ///
    /// # Errors
    ///
    /// Where it is no answer, or says that it failed.
    pub(super) fn whole(&mut self, body: &Text, answer: &mut Answer) -> Result<(), Error> {
        answer.repaired(Repair::Whole);
        self.whole = true;
        self.in_general(body, answer)?;
        self.done = true;
        self.end(answer)
    }

    /// Takes the usual event in, the short way; `None` where it is not usual, and then nothing has
    /// happened. What it does is what [`in_general`](Self::in_general) would.
    #[inline]
    pub(super) fn usual(&mut self, data: &Text, answer: &mut Answer) -> Option<()> {
        // The first names the answer, and behind the end nothing is usual.
        if !self.started || answer.is_finished() {
            return None;
        }
        let usual = self.frame.read(data).filter(|usual| self.ours.are_at(usual.index))?;
        let text = |literal: Option<Literal<'_>>| match literal {
            None => Some(None),
            Some(literal) => Some(Some(literal.content(data)?.of(data.clone()))),
        };
        let (reasoning, content) = (text(usual.reasoning)?, text(usual.content)?);
        if let Some(usage) = usual.usage {
            answer.counts(usage);
        }
        let says_something = |text: &Option<Text>| text.as_ref().is_some_and(|it| !it.is_empty());
        if says_something(&reasoning) || says_something(&content) {
            self.ours.stream();
        }
        self.answered = true;
        if let Some(reasoning) = reasoning {
            answer.reasoning(reasoning);
        }
        if let Some(content) = content {
            answer.text(content);
        }
        Some(())
    }

    /// Takes any event in.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, or says that the answer failed.
    pub(super) fn in_general(&mut self, data: &Text, answer: &mut Answer) -> Result<(), Error> {
        match each_of_list(data, |chunk| self.object(&chunk, answer)) {
            Some(taken) => {
                answer.repaired(Repair::List);
                taken
            }
            None => self.object(data, answer),
        }
    }

    fn object(&mut self, data: &Text, answer: &mut Answer) -> Result<(), Error> {
        let taken = lenient::read(data, |data| {
            // What is no object says nothing.
            let chunk: Object<Chunk<'_>> = serde_json::from_str(data)?;
            Ok(chunk.0.map_or(Ok(()), |chunk| self.chunk(data, chunk, answer)))
        });
        taken.map_err(|error| {
            Error::new(ErrorKind::Upstream, "the upstream sent an event that is not a chunk")
                .with_source(ReadError::from(error))
        })?
    }

    fn chunk(
        &mut self,
        data: &Text,
        mut chunk: Chunk<'_>,
        answer: &mut Answer,
    ) -> Result<(), Error> {
        if !chunk.is_usual()
            && let Some(error) = self.fault(&chunk, data)
        {
            return Err(error);
        }
        let is_first = !std::mem::replace(&mut self.started, true);
        if is_first && let Some(started) = chunk.started(data) {
            answer.started(started);
        }
        // Servers say of the whole answer in its first event what made it, and in the one that ends
        // it, or behind that, how it was made. The others are not looked through for that.
        let ends = says_why(data);
        if is_first || ends || answer.is_finished() {
            answer.server_fields(self.fields(data, &READ));
        }
        // One choice was asked for.
        if ends
            && let Some((_, choices)) =
                json::members(data).filter(|(name, _)| name == "choices").last()
            && let Some(choice) = json::items(choices).next()
        {
            answer.choice_fields(self.fields(choice, &READ_OF_CHOICES));
        }
        if chunk.message_has_others() {
            let message = member(data, "choices")
                .and_then(|choices| json::items(choices).next())
                .and_then(|choice| member(choice, "delta").or_else(|| member(choice, "message")));
            if let Some(message) = message {
                answer.message_fields(self.fields(message, &READ_OF_MESSAGES));
            }
        }
        if chunk.usage_has_others()
            && let Some(counts) = member(data, "usage")
        {
            let mut fields = self.fields(counts, &READ_OF_COUNTS);
            for name in ["prompt_tokens_details", "completion_tokens_details"] {
                let details = member(counts, name).unwrap_or_default();
                let details = self.fields(details, &READ_OF_DETAILS);
                if !details.is_empty() {
                    fields.insert(name, Json::from(&details));
                }
            }
            answer.usage_fields(fields);
        }
        if let Some(info) = chunk.search_info {
            self.found(&data.slice_ref(info.get()), answer);
        }
        self.answered |= chunk.take(data, &mut self.ours, answer)?;
        Ok(())
    }

    /// What a search found. Each event that tells of it may repeat the ones before.
    fn found(&mut self, info: &Text, answer: &mut Answer) {
        // It is JSON; of another shape it holds nothing.
        let Some(info_read) = serde_json::from_str::<Object<SearchInfo<'_>>>(info).ok() else {
            return;
        };
        let pages = info_read.0.unwrap_or_default().results.items;
        let known = self.sources;
        self.sources = known.max(pages.len());
        for page in pages.into_iter().skip(known).filter_map(|page| page.0) {
            let text =
                |word: Word<'_>| word.non_empty().map(|word| without_halves(slice(info, word)));
            let Some(url) = text(page.url) else { continue };
            let mut source = Citation::new(url);
            source.title = text(page.title);
            answer.other(ChatEvent::Citation(source.into()));
        }
    }

    /// What an object of an event says beside what is `read` of it, as far as there is room.
    fn fields(&mut self, object: &str, read: &[&str]) -> Extra {
        json::members(object)
            .filter(|(name, value)| !read.contains(&&**name) && *value != "null")
            .filter_map(|(name, value)| {
                let len = self.fields_len + name.len() + value.len();
                if len > SERVER_FIELDS_LEN {
                    return None;
                }
                self.fields_len = len;
                // A slice would keep its event as long as the answer lasts.
                let json = Json::parse(lenient::without_halves(value.into())).ok()?;
                Some((name, json))
            })
            .collect()
    }

    /// The error that an event holds, in its own field, flat, or in place of the answer.
    fn fault(&self, chunk: &Chunk<'_>, data: &Text) -> Option<Error> {
        let whole = Fault::tree(data.trim());
        let said = match chunk.choice_failed() && !chunk.error.0 {
            true => whole.as_ref().and_then(|whole| whole.pointer("/choices/0")),
            false => whole.as_ref(),
        };
        match said.and_then(Fault::from_json) {
            // Some gateways write beside every event that all is well.
            Some(fault) if fault.is_success() && !chunk.error.0 => None,
            Some(fault) if !fault.is_success() => Some(self.in_stream(fault)),
            // Events without choices that say nothing of what Fault knows are harmless: pings, what
            // a filter found in the prompt.
            _ => chunk.is_error().then(|| self.in_stream(Fault::default())),
        }
    }

    /// The error that a fault is where the status was a good one.
    fn in_stream(&self, fault: Fault) -> Error {
        let status = fault.status().unwrap_or(http::StatusCode::BAD_GATEWAY);
        fault.into_error(status, None, self.server, &self.secrets)
    }
}

/// How many sources of an event are looked at.
const SOURCES: usize = 256;

lenient! {
    /// DashScope's `search_info`.
    struct SearchInfo<'a> {
        results: List<Object<Page<'a>>, SOURCES> = "search_results",
    }
}

lenient! {
    struct Page<'a> {
        url: Word<'a> = "url",
        title: Word<'a> = "title",
    }
}

/// The object or list that the last field of this name holds.
fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let value = json::members(object).filter(|member| member.0 == name).last()?.1;
    value.starts_with(['{', '[']).then_some(value)
}

/// Whether an event has a reason for the end of the answer. Of a text that quotes one it may say so
/// too, which costs a look and no more.
fn says_why(data: &str) -> bool {
    const NAME: &str = "\"finish_reason\"";
    memmem::find(data.as_bytes(), NAME.as_bytes()).is_some_and(|at| {
        let rest = data[at + NAME.len()..].trim_ascii_start();
        rest.strip_prefix(':').is_some_and(|value| value.trim_ascii_start().starts_with('"'))
    })
}

impl Wire for Translator {
    fn event(&mut self, name: Option<&str>, data: Text, answer: &mut Answer) -> Result<(), Error> {
        if name == Some("error") {
            let json = Fault::tree(&data);
            let fault = json.as_ref().and_then(Fault::from_json);
            answer.repaired(Repair::ErrorEvent);
            return Err(self.in_stream(fault.unwrap_or_else(|| Fault::from_text(&data))));
        }
        let json = data.trim_ascii_start();
        if json.starts_with("[DONE]") {
            self.done = true;
            return Ok(());
        }
        if json.is_empty() {
            return Ok(());
        }
        match self.usual(&data, answer) {
            Some(()) => Ok(()),
            None => self.in_general(&data, answer),
        }
    }

    /// A server that says `[DONE]` has said that the answer is complete, whether or not it
    /// remembered to say why; one that says neither has broken off.
    fn end(&mut self, answer: &mut Answer) -> Result<(), Error> {
        answer.settle_reason(self.done);
        if !answer.is_finished() {
            if !self.done || self.ours.are_not_all() {
                return Err(answer.cut());
            }
            if !self.answered {
                return Err(Error::new(
                    ErrorKind::Upstream,
                    "the upstream ended its answer without having begun it",
                ));
            }
            // Of a whole answer it says that it was cut, at 300 s; calls in it that are whole were
            // its end all the same.
            answer.finished_somehow(match self.whole {
                true => FinishReason::Length,
                false => FinishReason::Stop,
            })?;
        } else {
            if !self.done {
                answer.repaired(Repair::MissingDone);
            }
            answer.conclude()?;
        }
        answer.give_counts();
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn is_enough(&self, _: usize) -> Option<Result<(), Error>> {
        None
    }
}

//! What the events of the Responses API mean.

use std::collections::HashMap;

use super::wire::{Annotation, Event, ITEMS, Item, Part, Response};
use crate::{
    AccountName, Error, ErrorKind, Text,
    chat::{ChatEvent, Citation, Conversation, FinishReason, Started, truncated},
    json::{
        ReadError,
        lenient::{self, Object, Word, slice, without_halves},
    },
    qwen::{
        answer::{Answer, Given, Piece, Repair, Wire},
        compatible::Fault,
        redact::Secrets,
    },
};

/// Reads the events of an answer, or one that came whole.
#[derive(Debug)]
pub(super) struct Translator {
    /// The chat that the answer is in, and the answer that it goes on from; `None` where it is the
    /// first.
    place: Option<Conversation>,
    account: Option<AccountName>,
    pub(super) secrets: Secrets,
    /// What was said of each item, by its place in the answer.
    items: HashMap<u64, State>,
    /// The place of the item that events without a place belong to.
    last: u64,
    started: bool,
    done: bool,
}

/// What was said of an item.
#[derive(Debug, Default)]
struct State {
    /// Its number among the calls, where it is one.
    call: Option<u64>,
    /// Pieces of it came.
    said: bool,
    /// Which kind of thinking came first: the other one says the same.
    is_summary: Option<bool>,
}

impl Translator {
    /// A reader of an answer in the chat of `place`, or in a new one of `account`.
    pub(super) fn new(
        place: Option<Conversation>,
        account: Option<AccountName>,
        secrets: Secrets,
    ) -> Self {
        Self {
            place,
            account,
            secrets,
            items: HashMap::new(),
            last: 0,
            started: false,
            done: false,
        }
    }

    /// The error that upstream means, which is another where it says that it does not know the
    /// answer to go on from.
    pub(super) fn meant(&self, error: Error) -> Error {
        const NOT_THERE: [&str; 6] =
            ["not found", "not exist", "expired", "invalid", "unknown", "no longer"];
        let Some(previous) = self.place.as_ref().and_then(|place| place.parent_id.as_ref()) else {
            return error;
        };
        let text = error.message().to_ascii_lowercase();
        let is_named = ["previous_response", "previous response", "response id", "response_id"]
            .iter()
            .any(|name| text.contains(name))
            || error.param() == Some("previous_response_id")
            || text.contains(&previous.to_ascii_lowercase());
        let is_lost = error.code() == Some("previous_response_not_found")
            || matches!(error.status().as_u16(), 400 | 404)
                && is_named
                && NOT_THERE.iter().any(|words| text.contains(words));
        if !is_lost {
            return error;
        }
        let message = "the upstream does not know the answer to go on from";
        Error::new(ErrorKind::ConversationLost, message).with_source(error)
    }

    /// The error that an event tells of.
    fn fault(&self, data: &Text) -> Error {
        let json = Fault::tree(data.trim());
        let inside = json.as_ref().map(|json| json.get("response").unwrap_or(json));
        let fault = inside.and_then(Fault::from_json).unwrap_or_default();
        let status = fault.status().unwrap_or(http::StatusCode::BAD_GATEWAY);
        // In a stream a code is all there is, and this one is the client's to know.
        let status = match fault.code() {
            Some("previous_response_not_found") => http::StatusCode::BAD_REQUEST,
            _ => status,
        };
        let server = crate::qwen::compatible::Server::DashScope;
        self.meant(fault.into_error(status, None, server, &self.secrets))
    }

    /// Takes an answer that came whole.
    ///
    /// # Errors
    ///
    /// Where it is none, or says that it failed.
    pub(super) fn take_whole(&mut self, json: &Text, answer: &mut Answer) -> Result<(), Error> {
        answer.repaired(Repair::Whole);
        let taken = lenient::read(json, |json| {
            let response: Object<Response<'_>> = serde_json::from_str(json)?;
            let response = response.0.unwrap_or_default();
            self.start(&response, json, answer);
            Ok(self.ends(response, None, json, answer))
        });
        taken.map_err(not_read)??;
        self.done = true;
        self.end(answer)
    }

    fn data(&mut self, name: Option<&str>, data: &Text, answer: &mut Answer) -> Result<(), Error> {
        let taken = lenient::read(data, |data| {
            // What is no object says nothing.
            let event: Object<Event<'_>> = serde_json::from_str(data)?;
            Ok(event.0.map_or(Ok(()), |event| self.take(name, event, data, answer)))
        });
        taken.map_err(not_read)?
    }

    fn take(
        &mut self,
        name: Option<&str>,
        event: Event<'_>,
        data: &Text,
        answer: &mut Answer,
    ) -> Result<(), Error> {
        let Event { kind, delta, output_index, item, annotation, response, error } = event;
        let kind = kind.0.as_deref().or(name).unwrap_or_default();
        let place = output_index.0.unwrap_or(self.last);
        match kind {
            "response.created" | "response.in_progress" | "response.queued" => {
                self.start(&response.0.unwrap_or_default(), data, answer);
            }
            "response.output_item.added" => {
                let place = output_index.0.unwrap_or_else(|| self.after_last());
                if let Some(item) = item.0 {
                    self.added(place, item, data, answer)?;
                }
            }
            "response.output_text.delta" | "response.refusal.delta" => {
                self.state(place)?.said = true;
                answer.text(piece(delta, data));
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                let is_summary = kind == "response.reasoning_summary_text.delta";
                let state = self.state(place)?;
                state.said = true;
                if *state.is_summary.get_or_insert(is_summary) == is_summary {
                    answer.reasoning(piece(delta, data));
                }
            }
            "response.reasoning_summary_part.added" if self.state(place)?.said => {
                answer.reasoning(Text::from_static("\n\n"));
            }
            "response.function_call_arguments.delta" => {
                let state = self.state(place)?;
                if let Some(index) = state.call {
                    state.said = true;
                    let arguments = Given::Text(piece(delta, data));
                    let index = Some(index);
                    answer.call(Piece { index, id: None, name: None, arguments })?;
                }
            }
            "response.output_text.annotation.added" => {
                if let Some(annotation) = annotation.0 {
                    cite(annotation, data, answer);
                }
            }
            "response.output_item.done" => {
                if let Some(item) = item.0
                    && !self.state(place)?.said
                {
                    self.whole_item(place, item, data, answer)?;
                }
            }
            "response.completed" | "response.incomplete" | "response.cancelled" => {
                let response = response.0.unwrap_or_default();
                self.start(&response, data, answer);
                self.ends(response, Some(kind), data, answer)?;
                self.done = true;
            }
            "response.failed" | "error" => return Err(self.fault(data)),
            _ if error.0 => return Err(self.fault(data)),
            // What else there is says nothing that is read.
            _ => {}
        }
        Ok(())
    }

    /// What was said of the item at `place`.
    fn state(&mut self, place: u64) -> Result<&mut State, Error> {
        if self.items.len() >= ITEMS && !self.items.contains_key(&place) {
            let message = "the upstream's answer has too many items";
            return Err(Error::new(ErrorKind::Upstream, message));
        }
        self.last = place;
        Ok(self.items.entry(place).or_default())
    }

    fn after_last(&self) -> u64 {
        if self.items.is_empty() { 0 } else { self.last + 1 }
    }

    fn start(&mut self, response: &Response<'_>, data: &Text, answer: &mut Answer) {
        let Some(id) = response.id.0.as_deref().filter(|id| !id.is_empty() && !self.started) else {
            return;
        };
        self.started = true;
        // A copy: a slice would keep its event as long as the answer lasts.
        let id = without_halves(slice(data, id.to_owned().into()));
        let chat = self.place.as_ref().map_or(&id, |place| &place.chat_id);
        let mut place = Conversation::new(chat.clone()).with_parent(id.clone());
        place.account = self.account.clone();
        answer.started(Started::from(place).into());
    }

    fn added(
        &mut self,
        place: u64,
        item: Item<'_>,
        data: &Text,
        answer: &mut Answer,
    ) -> Result<(), Error> {
        let is_call = item.kind.0.as_deref() == Some("function_call");
        let number = self.items.values().filter(|state| state.call.is_some()).count() as u64;
        let state = self.state(place)?;
        if is_call && state.call.is_none() {
            state.call = Some(number);
            let given = item.arguments.given(data);
            state.said |=
                matches!(&given, Given::Text(json) | Given::Bare(json) if !json.is_empty());
            answer.call(call(number, item.call_id, item.name, given, data))?;
        }
        Ok(())
    }

    /// Takes an item of which no piece came.
    fn whole_item(
        &mut self,
        place: u64,
        item: Item<'_>,
        data: &Text,
        answer: &mut Answer,
    ) -> Result<(), Error> {
        match item.kind.0.as_deref().unwrap_or("message") {
            "function_call" => {
                let begun = self.state(place)?.call;
                let Some(number) = begun else { return self.added(place, item, data, answer) };
                let given = item.arguments.given(data);
                answer.call(call(number, Word::default(), Word::default(), given, data))?;
            }
            "reasoning" => {
                let parts = match item.summary.items.is_empty() {
                    true => item.content.items,
                    false => item.summary.items,
                };
                for (number, part) in parts.into_iter().filter_map(|part| part.0).enumerate() {
                    if number > 0 {
                        answer.reasoning(Text::from_static("\n\n"));
                    }
                    answer.reasoning(piece(part.text, data));
                }
            }
            "message" => {
                for part in item.content.items.into_iter().filter_map(|part| part.0) {
                    let Part { text, refusal, annotations } = part;
                    for text in [text, refusal] {
                        answer.text(piece(text, data));
                    }
                    let annotations = annotations.items.into_iter().filter_map(|one| one.0);
                    annotations.for_each(|annotation| cite(annotation, data, answer));
                }
            }
            // The upstream's own tools.
            _ => {}
        }
        self.state(place)?.said = true;
        Ok(())
    }

    /// The last event, or the whole answer: with what nobody has said before.
    fn ends(
        &mut self,
        response: Response<'_>,
        kind: Option<&str>,
        data: &Text,
        answer: &mut Answer,
    ) -> Result<(), Error> {
        let Response { status, incomplete_details, output, usage, error, .. } = response;
        let status = status.0.as_deref().or(kind).unwrap_or_default();
        let status = status.strip_prefix("response.").unwrap_or(status);
        if status == "failed" || error.0 && status != "completed" {
            return Err(self.fault(data));
        }
        if status == "cancelled" {
            answer.cut();
            return Err(truncated());
        }
        if !self.items.values().any(|state| state.said) {
            for (place, item) in (0..).zip(output.items) {
                if let Some(item) = item.0 {
                    self.whole_item(place, item, data, answer)?;
                }
            }
        }
        match usage.0.map(|usage| usage.usage()) {
            None => {}
            Some(Some(usage)) if usage.total_tokens + usage.prompt_tokens > 0 => {
                answer.counts(usage);
            }
            // Sometimes they are all zero.
            Some(_) => answer.repaired(Repair::Usage),
        }
        // Some say `completed` of what they have cut.
        let reason = incomplete_details.0.map(|details| details.reason.0);
        let reason = match reason.as_ref().map(|reason| reason.as_deref().unwrap_or_default()) {
            Some("content_filter") => FinishReason::ContentFilter,
            // An empty object in the place of null.
            Some("") if status == "completed" => FinishReason::Stop,
            Some(_) => FinishReason::Length,
            None if status == "incomplete" => FinishReason::Length,
            None => FinishReason::Stop,
        };
        answer.finished(reason);
        Ok(())
    }
}

impl Wire for Translator {
    fn event(&mut self, name: Option<&str>, data: Text, answer: &mut Answer) -> Result<(), Error> {
        let json = data.trim_ascii_start();
        if json.is_empty() || json.starts_with("[DONE]") {
            return Ok(());
        }
        self.data(name, &data, answer)
    }

    /// One that has not said how its answer ends has broken off.
    fn end(&mut self, answer: &mut Answer) -> Result<(), Error> {
        if !answer.is_finished() {
            return Err(answer.cut());
        }
        answer.conclude()?;
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

fn not_read(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Upstream, "the upstream sent an event that is none of a response")
        .with_source(ReadError::from(error))
}

fn piece(word: Word<'_>, data: &Text) -> Text {
    slice(data, word.0.unwrap_or_default())
}

fn call(index: u64, id: Word<'_>, name: Word<'_>, arguments: Given, data: &Text) -> Piece {
    let word = |word: Word<'_>| word.0.map(|word| without_halves(slice(data, word)));
    Piece { index: Some(index), id: word(id), name: word(name), arguments }
}

fn cite(annotation: Annotation<'_>, data: &Text, answer: &mut Answer) {
    let Annotation { url, title, start, end } = annotation;
    let text = |word: Word<'_>| word.non_empty().map(|word| without_halves(slice(data, word)));
    let Some(url) = text(url) else { return };
    let mut citation = Citation::new(url);
    citation.title = text(title);
    let at = |count: Option<u64>| usize::try_from(count?).ok();
    citation.range = at(start.0).zip(at(end.0)).map(|(start, end)| start..end);
    citation.range = citation.range.filter(|range| range.start < range.end);
    answer.other(ChatEvent::Citation(citation.into()));
}

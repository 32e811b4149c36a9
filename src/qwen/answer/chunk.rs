//! The chunks of OpenAI's wire, streamed and whole, with all that is odd in them.

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::{
    calls::{self, CALLS, Given, Piece},
    repair::Repair,
    state::Answer,
};
use crate::{
    Error, Text,
    chat::{Started, Usage},
    json::{
        self,
        lenient::{
            self, Count, List, Object, Said, Something, Word, lenient, slice, without_halves,
        },
    },
};

/// How many choices of an event are looked at. One was asked for.
const CHOICES: usize = 128;

lenient! {
    /// One event of a stream, or a whole answer.
    pub(crate) struct Chunk<'a> {
        id: Word<'a> = "id",
        choices: List<Object<Choice<'a>>, CHOICES> = "choices",
        usage: Object<Counts> = "usage",
        /// Where there is one, it is read apart: what is wrong in it must not hide it.
        pub(crate) error: Something = "error",
        object: Word<'a> = "object",
        message: Something = "message",
        code: Something = "code",
        /// What DashScope's own search found; it is read apart.
        pub(crate) search_info: Option<&'a RawValue> = "search_info",
    }
}

lenient! {
    struct Choice<'a> {
        index: Count = "index",
        delta: Object<Delta<'a>> = "delta",
        /// A server that ignores `stream` sends this one.
        message: Object<Delta<'a>> = "message",
        finish_reason: Word<'a> = "finish_reason",
        error: Something = "error",
    }
}

lenient! {
    struct Delta<'a> else others {
        role: Something = "role",
        content: Said<'a> = "content",
        reasoning_content: Said<'a> = "reasoning_content",
        reasoning: Said<'a> = "reasoning",
        refusal: Said<'a> = "refusal",
        tool_calls: List<Object<CallDelta<'a>>, CALLS> = "tool_calls",
        function_call: Object<FunctionDelta<'a>> = "function_call",
    }
}

lenient! {
    struct CallDelta<'a> {
        index: Count = "index",
        id: Word<'a> = "id",
        function: Object<FunctionDelta<'a>> = "function",
        /// Some servers write what belongs into the function beside it.
        name: Word<'a> = "name",
        arguments: Arguments<'a> = "arguments",
        parameters: Arguments<'a> = "parameters",
        input: Arguments<'a> = "input",
    }
}

lenient! {
    struct FunctionDelta<'a> {
        name: Word<'a> = "name",
        arguments: Arguments<'a> = "arguments",
    }
}

/// The arguments of a call, as they stand.
#[derive(Debug, Default)]
pub(crate) enum Arguments<'a> {
    #[default]
    Missing,
    Text(Word<'a>),
    Bare(&'a str),
    Null,
}

impl Arguments<'_> {
    /// The same for a [`Piece`] of a call.
    pub(crate) fn given(self, data: &Text) -> Given {
        match self {
            Self::Missing => Given::Nothing,
            Self::Text(json) => Given::Text(slice(data, json.0.unwrap_or_default())),
            Self::Bare(json) => Given::Bare(data.slice_ref(json)),
            Self::Null => Given::Null,
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Missing, other) | (Self::Null, other @ (Self::Text(_) | Self::Bare(_))) => other,
            (given, _) => given,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Arguments<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?.get();
        match json.as_bytes().first() {
            Some(b'"') => serde_json::from_str(json).map(Self::Text).map_err(de::Error::custom),
            Some(b'n' | b'f') => Ok(Self::Null),
            _ => Ok(Self::Bare(json)),
        }
    }
}

lenient! {
    /// Token counts, under the names of either wire.
    pub(crate) struct Counts else others {
        prompt_tokens: Count = "prompt_tokens",
        completion_tokens: Count = "completion_tokens",
        input_tokens: Count = "input_tokens",
        output_tokens: Count = "output_tokens",
        total_tokens: Count = "total_tokens",
        cached_tokens: Count = "cached_tokens",
        prompt_details: Object<Details> = "prompt_tokens_details",
        completion_details: Object<Details> = "completion_tokens_details",
        input_details: Object<Details> = "input_tokens_details",
        output_details: Object<Details> = "output_tokens_details",
    }
}

lenient! {
    struct Details else others {
        cached_tokens: Count = "cached_tokens",
        reasoning_tokens: Count = "reasoning_tokens",
    }
}

impl Counts {
    /// The counts, if there are any.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let prompt = self.prompt_tokens.0.or(self.input_tokens.0);
        let completion = self.completion_tokens.0.or(self.output_tokens.0);
        if prompt.is_none() && completion.is_none() && self.total_tokens.0.is_none() {
            return None;
        }
        let mut usage = Usage::new(prompt.unwrap_or(0), completion.unwrap_or(0));
        usage.total_tokens = self.total_tokens.0.unwrap_or(usage.total_tokens);
        let details = self.prompt_details.0.as_ref().or(self.input_details.0.as_ref());
        let cached = details.and_then(|d| d.cached_tokens.0);
        usage.cached_tokens = cached.or(self.cached_tokens.0);
        let details = self.completion_details.0.as_ref().or(self.output_details.0.as_ref());
        usage.reasoning_tokens = details.and_then(|d| d.reasoning_tokens.0);
        Some(usage)
    }
}

/// Gives each object of an event that is a list of them, as some gateways send what waits for the
/// client. `None` where the event is no list, or is none that can be read.
#[inline]
pub(crate) fn each_of_list(
    data: &Text,
    take: impl FnMut(Text) -> Result<(), Error>,
) -> Option<Result<(), Error>> {
    if data.trim_ascii_start().starts_with('[') { each_item(data, take) } else { None }
}

#[cold]
fn each_item(
    data: &Text,
    take: impl FnMut(Text) -> Result<(), Error>,
) -> Option<Result<(), Error>> {
    let list =
        lenient::read(data, |data| serde_json::from_str::<&RawValue>(data).map(|_| data.clone()));
    let list = list.ok()?;
    let objects = json::items(&list).filter(|item| item.starts_with('{'));
    Some(objects.map(|object| list.slice_ref(object)).try_for_each(take))
}

/// Which of the choices of the events is the answer's: the first that says something. One was asked
/// for, and some servers do not count it from 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ours {
    index: Option<u64>,
    /// Deltas of it said something, so that a whole message behind them says it once more.
    streams: bool,
    /// The highest number of another that has begun.
    other: Option<u64>,
    /// Another said something.
    are_not_all: bool,
}

impl Ours {
    /// Whether a choice is the answer's, which may be the `only` one of its event.
    ///
    /// Some servers count events in place of choices. A choice of another number that begins with a role
    /// is another answer.
    fn are(&mut self, index: u64, only: bool, delta: Option<&Delta<'_>>) -> bool {
        let Some(ours) = self.index else {
            self.index = Some(index);
            return true;
        };
        if ours == index {
            return true;
        }
        let is_another = !only
            || index < ours
            || self.other.is_some_and(|other| index <= other)
            || delta.is_none_or(|delta| delta.role.0);
        if is_another {
            self.other = self.other.max(Some(index));
            self.are_not_all |= delta.is_some_and(Delta::says_something);
        } else {
            self.index = Some(index);
        }
        !is_another
    }

    /// Whether the answer's is the one of this number.
    pub(crate) fn are_at(&self, index: u64) -> bool {
        self.index == Some(index)
    }

    /// A delta of it said something.
    pub(crate) const fn stream(&mut self) {
        self.streams = true;
    }

    /// Whether something of another was left out.
    pub(crate) const fn are_not_all(&self) -> bool {
        self.are_not_all
    }
}

impl Chunk<'_> {
    /// Whether it is a piece of an answer, as nearly all are, and says nothing of an error.
    pub(crate) fn is_usual(&self) -> bool {
        !self.error.0
            && !self.choice_failed()
            && (!self.choices.items.is_empty() || self.usage.0.is_some())
    }

    /// Whether the message says something that nothing here reads.
    pub(crate) fn message_has_others(&self) -> bool {
        let choice = self.choices.items.first().and_then(|choice| choice.0.as_ref());
        let message =
            choice.and_then(|choice| choice.delta.0.as_ref().or(choice.message.0.as_ref()));
        message.is_some_and(|message| message.others)
    }

    /// Whether the counts do.
    pub(crate) fn usage_has_others(&self) -> bool {
        self.usage.0.as_ref().is_some_and(|usage| {
            let details = [&usage.prompt_details, &usage.completion_details];
            usage.others || details.into_iter().flat_map(|details| &details.0).any(|of| of.others)
        })
    }

    /// Whether the choice itself says that it failed.
    pub(crate) fn choice_failed(&self) -> bool {
        let choice = self.choices.items.first().and_then(|choice| choice.0.as_ref());
        choice.is_some_and(|choice| choice.error.0)
    }

    /// Whether it says that it is an error.
    pub(crate) fn is_error(&self) -> bool {
        self.error.0
            || self.choice_failed()
            || self.object.0.as_deref() == Some("error")
            || self.choices.items.is_empty() && (self.message.0 || self.code.0)
    }

    /// Whether the answer said something.
    ///
    /// The rest of the chunk is told to the answer.
    ///
    /// # Errors
    ///
    /// Where the answer cannot go on.
    pub(crate) fn take(
        self,
        data: &Text,
        ours: &mut Ours,
        answer: &mut Answer,
    ) -> Result<bool, Error> {
        if let Some(usage) = self.usage.0 {
            match usage.usage() {
                Some(usage) => answer.counts(usage),
                None => answer.repaired(Repair::Usage),
            }
        }
        let mut answered = false;
        let only = self.choices.items.len() == 1;
        for choice in self.choices.items.into_iter().filter_map(|choice| choice.0) {
            if !ours.are(choice.index.0.unwrap_or(0), only, choice.delta.0.as_ref()) {
                continue;
            }
            if let Some(delta) = choice.delta.0 {
                answered = true;
                ours.streams |= delta.says_something();
                delta.take(data, answer)?;
            } else if let Some(mut message) = choice.message.0 {
                answered = true;
                if !ours.streams {
                    message.count_calls();
                    message.take(data, answer)?;
                }
            }
            let Some(word) = choice.finish_reason.0 else { continue };
            answered = true;
            answer.ends(&word)?;
        }
        Ok(answered)
    }

    /// The name that the answer has in its first chunk.
    pub(crate) fn started(&mut self, data: &Text) -> Option<Box<Started>> {
        let id = std::mem::take(&mut self.id).non_empty()?;
        // A slice would keep its event as long as the answer lasts.
        let id = without_halves(slice(data, id));
        Some(Started::new().with_response_id(id.as_str()).into())
    }
}

impl Delta<'_> {
    #[inline]
    fn says_something(&self) -> bool {
        let is_said = |said: &Said<'_>| said.text.as_deref().is_some_and(|text| !text.is_empty());
        is_said(&self.content)
            || !self.tool_calls.items.is_empty()
            || is_said(&self.reasoning_content)
            || is_said(&self.reasoning)
    }

    /// Gives the calls of a whole message their numbers, which none has there. One that has neither
    /// name nor id is the rest of the one before it.
    fn count_calls(&mut self) {
        for (place, call) in (0..).zip(&mut self.tool_calls.items) {
            let Some(call) = &mut call.0 else { continue };
            let is_named = call.name.is_something()
                || call.function.0.as_ref().is_some_and(|function| function.name.is_something());
            if call.index.0.is_none() && (is_named || call.id.is_something()) {
                call.index = Count(Some(place));
            }
        }
    }

    fn take(self, data: &Text, answer: &mut Answer) -> Result<(), Error> {
        // Some servers send both names with the same text.
        let is_said = |said: &Said<'_>| said.text.as_deref().is_some_and(|text| !text.is_empty());
        let reasoning =
            if is_said(&self.reasoning_content) { self.reasoning_content } else { self.reasoning };
        let thoughts = [reasoning.text, reasoning.thinking, self.content.thinking];
        for thought in thoughts.into_iter().flatten() {
            answer.reasoning(slice(data, thought));
        }
        if !self.tool_calls.items.is_empty() {
            answer.beside_calls();
        }
        for text in [self.content.text, self.refusal.text].into_iter().flatten() {
            answer.text(slice(data, text));
        }
        // Some servers send one call in either form.
        let has_calls = !self.tool_calls.items.is_empty();
        for call in self.tool_calls.items.into_iter().filter_map(|call| call.0) {
            answer.call(call.piece(data))?;
        }
        if self.tool_calls.more {
            return Err(calls::too_many());
        }
        let function = self.function_call.0.filter(FunctionDelta::is_something);
        if let Some(function) = function.filter(|_| !has_calls) {
            let index = Count(Some(0));
            let function = Object(Some(function));
            let call = CallDelta { index, function, ..CallDelta::default() };
            answer.call(call.piece(data))?;
        }
        Ok(())
    }
}

impl FunctionDelta<'_> {
    fn is_something(&self) -> bool {
        self.name.is_something() || !matches!(self.arguments, Arguments::Missing | Arguments::Null)
    }
}

impl CallDelta<'_> {
    fn piece(self, data: &Text) -> Piece {
        let word = |word: Word<'_>| word.0.map(|word| without_halves(slice(data, word)));
        let function = self.function.0.unwrap_or_default();
        let name = if function.name.is_something() { function.name } else { self.name };
        let given = function.arguments.or(self.arguments).or(self.parameters).or(self.input);
        let arguments = given.given(data);
        Piece { index: self.index.0, id: word(self.id), name: word(name), arguments }
    }
}

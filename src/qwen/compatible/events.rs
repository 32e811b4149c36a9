//! The chunks of an OpenAI-compatible stream, and what is wrong with them.

use std::{borrow::Cow, collections::VecDeque, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, SeqAccess},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    ContentMode, Server,
    arguments::{self, End},
    content::Pieces,
    error::Fault,
    places::Places,
    repair::{Repair, Repairs},
    think::ThinkSplitter,
};
use crate::{
    Error, ErrorKind, Text,
    chat::{ChatEvent, FinishReason, Started, Usage, truncated},
    json::{ReadError, Str},
    qwen::redact::Secrets,
};

/// How much of the arguments of an answer's calls may wait for names, in bytes. Servers send the
/// name first; those that do not send it with the next delta.
const NAMELESS_LEN: usize = 64 * 1024;

/// How many calls an answer may have, and as many deltas of calls an event.
const CALLS: usize = 1024;

/// How many choices of an event are looked at. One was asked for.
const CHOICES: usize = 128;

/// Turns the data of events into [`ChatEvent`]s and repairs what these servers get wrong
/// (qwen-wire.md B9, C1, C2).
#[derive(Debug)]
pub(super) struct Translator {
    server: Server,
    content: Pieces,
    reasoning: Pieces,
    think: ThinkSplitter,
    calls: Vec<Call>,
    places: Places,
    /// How many calls were announced.
    announced: u32,
    /// How much of their arguments waits for a name.
    waiting: usize,
    usage: Option<Usage>,
    finish: Option<FinishReason>,
    done: bool,
    /// There was a choice, and something in it.
    answered: bool,
    /// The first chunk was read, which names the answer.
    started: bool,
    /// The answer did not come as a stream.
    whole: bool,
    repairs: Repairs,
    ready: VecDeque<ChatEvent>,
    /// What must not be shown of what upstream says of a failure.
    secrets: Secrets,
}

/// A call as the upstream counts it.
#[derive(Debug)]
struct Call {
    upstream_index: u64,
    id: Option<Text>,
    /// Our index, once it was announced; until then the arguments wait. A call that is never
    /// named leaves no gap.
    announced: Option<u32>,
    waiting: String,
    arguments: arguments::Arguments,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Option<First<Choice<'a>, CHOICES>>,
    // Read apart: what is wrong with the counts must not cost the answer.
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    // Present in an error, wherever it stands, which is read when it is known to be one: what is
    // wrong in it must not hide it.
    error: Option<IgnoredAny>,
    object: Option<Str<'a>>,
    message: Option<IgnoredAny>,
    code: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    // A server that ignores `stream` sends this one.
    message: Option<Delta<'a>>,
    finish_reason: Option<Str<'a>>,
    index: Option<u64>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<Str<'a>>,
    reasoning_content: Option<Str<'a>>,
    reasoning: Option<Str<'a>>,
    refusal: Option<Str<'a>>,
    #[serde(borrow)]
    tool_calls: Option<First<CallDelta<'a>, CALLS>>,
    function_call: Option<FunctionDelta<'a>>,
}

/// The first `N` elements of a list: an element takes many times the room of its text.
struct First<T, const N: usize> {
    items: Vec<T>,
    /// There were more.
    more: bool,
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for First<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T, const N: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const N: usize> de::Visitor<'de> for Visitor<T, N> {
            type Value = First<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<First<T, N>, A::Error> {
                let mut items = Vec::new();
                while items.len() < N {
                    let Some(item) = list.next_element()? else {
                        return Ok(First { items, more: false });
                    };
                    items.push(item);
                }
                let mut more = false;
                while let Some(IgnoredAny) = list.next_element()? {
                    more = true;
                }
                Ok(First { items, more })
            }
        }

        deserializer.deserialize_seq(Visitor(PhantomData))
    }
}

#[derive(Deserialize)]
struct CallDelta<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    id: Option<Str<'a>>,
    function: Option<FunctionDelta<'a>>,
}

#[derive(Deserialize)]
struct FunctionDelta<'a> {
    #[serde(borrow)]
    name: Option<Str<'a>>,
    #[serde(borrow, default)]
    arguments: Arguments<'a>,
}

/// The arguments of a call, as they stand.
#[derive(Default)]
enum Arguments<'a> {
    #[default]
    Missing,
    /// The text of the string that they should be.
    Text(Str<'a>),
    /// Not a string, but what the string would have held, to the last digit.
    Bare(&'a str),
    Null,
}

impl<'de: 'a, 'a> Deserialize<'de> for Arguments<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?.get();
        match json.as_bytes().first() {
            Some(b'"') => serde_json::from_str(json).map(Self::Text).map_err(de::Error::custom),
            Some(b'n') => Ok(Self::Null),
            _ => Ok(Self::Bare(json)),
        }
    }
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

impl Translator {
    pub(super) fn new(server: Server, think: ThinkSplitter, content: ContentMode) -> Self {
        Self {
            server,
            content: Pieces::new(content),
            reasoning: Pieces::new(content),
            think,
            calls: Vec::new(),
            places: Places::default(),
            announced: 0,
            waiting: 0,
            usage: None,
            finish: None,
            done: false,
            answered: false,
            started: false,
            whole: false,
            repairs: Repairs::default(),
            ready: VecDeque::new(),
            secrets: Secrets::default(),
        }
    }

    /// The same, which shows none of `secrets` in an error.
    pub(super) fn secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// The next event that is ready.
    pub(super) fn pop(&mut self) -> Option<ChatEvent> {
        self.ready.pop_front()
    }

    /// How many events are ready.
    pub(super) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Whether something is ready that the client will see, of what came behind the first `seen`.
    pub(super) fn has_content_behind(&self, seen: usize) -> bool {
        self.ready.range(seen..).any(ChatEvent::is_content)
    }

    /// Whether the stream said `[DONE]`.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the model finished: then the answer is complete, whatever comes now.
    pub(super) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// The stream is not said to be one.
    pub(super) fn media_type(&mut self) {
        self.repairs.note(Repair::MediaType);
    }

    /// Takes the data of one event.
    pub(super) fn event(&mut self, data: &Text) -> Result<(), Error> {
        let json = data.trim();
        if json.starts_with("[DONE]") {
            self.done = true;
            return Ok(());
        }
        if json.is_empty() {
            return Ok(());
        }
        let chunk: Chunk<'_> = serde_json::from_str(json).map_err(|error| {
            Error::new(ErrorKind::Upstream, "the upstream sent an event that is not a chunk")
                .with_source(ReadError::from(error))
        })?;
        self.chunk(data, chunk)
    }

    /// Takes the data of an event that is named an error, whatever that is.
    pub(super) fn error_event(&mut self, data: &str) -> Error {
        let json = Fault::tree(data);
        let fault = json.as_ref().and_then(Fault::from_json);
        let fault = fault.unwrap_or_else(|| Fault::from_text(data));
        self.repairs.note(Repair::ErrorEvent);
        self.in_stream(fault)
    }

    /// Takes a whole answer, from a server that sent one although it was asked to stream.
    pub(super) fn whole(&mut self, body: &Text) -> Result<(), Error> {
        self.repairs.note(Repair::Whole);
        self.whole = true;
        self.event(body)?;
        self.done = true;
        Ok(())
    }

    /// The stream is over: closes what is open.
    ///
    /// A server that says `[DONE]` has said that the answer is complete, whether or not it
    /// remembered to say why; one that says neither has broken off.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        if self.finish.is_none() {
            if !self.done {
                self.settle();
                self.close_calls(true);
                return Err(truncated());
            }
            if !self.answered {
                return Err(Error::new(
                    ErrorKind::Upstream,
                    "the upstream ended its answer without having begun it",
                ));
            }
            self.repairs.note(Repair::MissingFinishReason);
            let called = self.announced > 0;
            // Of a whole answer it says that it was cut, at 300 s (C1); calls in it that are
            // whole were its end all the same.
            self.finished(match self.whole {
                true if !called => FinishReason::Length,
                _ if called => FinishReason::ToolCalls,
                _ => FinishReason::Stop,
            });
        } else if !self.done {
            self.repairs.note(Repair::MissingDone);
        }
        if let Some(usage) = self.usage.take() {
            self.ready.push_back(ChatEvent::Usage(usage));
        }
        Ok(())
    }

    fn chunk(&mut self, data: &Text, chunk: Chunk<'_>) -> Result<(), Error> {
        if let Some(error) = self.fault(&chunk, data) {
            return Err(error);
        }
        if !self.started {
            self.start(data);
        }
        if let Some(usage) = chunk.usage {
            match serde_json::from_str::<Option<WireUsage>>(usage.get()) {
                Ok(usage) => self.usage = usage.as_ref().map(counts).or(self.usage),
                Err(_) => self.repairs.note(Repair::Usage),
            }
        }
        for choice in chunk.choices.into_iter().flat_map(|choices| choices.items) {
            // One answer was asked for.
            if choice.index.unwrap_or(0) != 0 || self.finish.is_some() {
                continue;
            }
            if let Some(delta) = choice.delta.or(choice.message) {
                self.answered = true;
                self.delta(data, delta)?;
            }
            let Some(word) = choice.finish_reason else { continue };
            self.answered = true;
            match finish_reason(&word.0) {
                Word::Known(reason) => self.finished(reason),
                Word::Unknown => {
                    self.repairs.note(Repair::UnknownFinishReason);
                    self.finished(FinishReason::Stop);
                }
                Word::Empty => self.repairs.note(Repair::EmptyFinishReason),
            }
        }
        Ok(())
    }

    /// The answer begins, under the name that its first chunk has for it.
    #[cold]
    fn start(&mut self, data: &Text) {
        // Read apart, and once: what is wrong with it must not cost the answer.
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            id: Option<Str<'a>>,
        }

        self.started = true;
        let head = serde_json::from_str::<Head<'_>>(data.trim()).ok();
        if let Some(id) = head.and_then(|head| non_empty(head.id)) {
            // A slice would keep its event as long as the answer lasts.
            let started = Started::new().with_response_id(&*id.0);
            self.ready.push_back(ChatEvent::Started(started.into()));
        }
    }

    /// The error that an event holds, in its own field, flat, or in place of the answer.
    fn fault(&self, chunk: &Chunk<'_>, data: &Text) -> Option<Error> {
        let usual = chunk.choices.as_ref().is_some_and(|choices| !choices.items.is_empty())
            || chunk.usage.is_some();
        if usual && chunk.error.is_none() {
            return None;
        }
        let whole = Fault::tree(data.trim());
        let fault = whole.as_ref().and_then(Fault::from_json).filter(|fault| !fault.is_success());
        // Events without choices that say nothing of what Fault knows are harmless: pings, what a
        // filter found in the prompt.
        let said_to_be_one = chunk.error.is_some()
            || chunk.object.as_ref().is_some_and(|object| object.0 == "error")
            || chunk.choices.is_none() && (chunk.message.is_some() || chunk.code.is_some());
        match fault {
            None if said_to_be_one => Some(self.in_stream(Fault::default())),
            fault => fault.map(|fault| self.in_stream(fault)),
        }
    }

    /// The error that a fault is where the status was a good one.
    fn in_stream(&self, fault: Fault) -> Error {
        let status = fault.status().unwrap_or(http::StatusCode::BAD_GATEWAY);
        fault.into_error(status, None, self.server, &self.secrets)
    }

    fn delta(&mut self, data: &Text, delta: Delta<'_>) -> Result<(), Error> {
        // Some servers send both names with the same text (C2).
        let reasoning = non_empty(delta.reasoning_content).or(non_empty(delta.reasoning));
        if let Some(reasoning) = reasoning {
            self.settle_content();
            let Self { reasoning: pieces, ready, .. } = self;
            pieces.push(text(data, reasoning), |new| ready.push_back(ChatEvent::Reasoning(new)));
        }
        for content in [delta.content, delta.refusal].into_iter().filter_map(non_empty) {
            self.settle_reasoning();
            let Self { content: pieces, think, ready, .. } = self;
            pieces.push(text(data, content), |new| {
                think.push(new, |event| ready.push_back(event));
            });
        }
        if self.content.is_repeating() || self.reasoning.is_repeating() {
            self.repairs.note(Repair::Cumulative);
        }
        if self.think.found() {
            self.repairs.note(Repair::ThinkTags);
        }
        if let Some(calls) = delta.tool_calls {
            for call in calls.items {
                self.call(data, call)?;
            }
            if calls.more {
                return Err(too_many_calls());
            }
        }
        if let Some(function) = delta.function_call {
            self.call(data, CallDelta { index: Some(0), id: None, function: Some(function) })?;
        }
        Ok(())
    }

    /// Gives what is held of the content, since something else follows.
    fn settle_content(&mut self) {
        let Self { content, think, ready, .. } = self;
        content.settle(|new| think.push(new, |event| ready.push_back(event)));
    }

    /// Gives what is held of the reasoning, since something else follows.
    fn settle_reasoning(&mut self) {
        let Self { reasoning, ready, .. } = self;
        reasoning.settle(|new| ready.push_back(ChatEvent::Reasoning(new)));
    }

    /// Gives all that is held, since the end follows.
    fn settle(&mut self) {
        self.settle_reasoning();
        self.settle_content();
        let Self { think, ready, .. } = self;
        think.finish(|event| ready.push_back(event));
    }

    fn call(&mut self, data: &Text, delta: CallDelta<'_>) -> Result<(), Error> {
        self.settle_reasoning();
        self.settle_content();
        let Self { think, ready, .. } = self;
        think.settle(|event| ready.push_back(event));
        let id = delta.id.map(|id| text(data, id));
        let place = self.place(delta.index, id.as_ref().filter(|id| !id.is_empty()))?;
        let call = &mut self.calls[place];
        // Some servers give every call the same id.
        let own = call.id.as_ref().or(id.as_ref());
        let taken = call.announced.is_none() && own.is_some_and(|id| self.places.is_announced(id));
        let repeated = |word: &str| word.is_empty() || call.announced.is_some();
        if id.as_deref().is_some_and(repeated)
            || delta.function.as_ref().is_some_and(|function| {
                function.name.as_ref().is_some_and(|name| repeated(&name.0))
            })
        {
            self.repairs.note(Repair::CallRepeated);
        }
        if call.id.is_none()
            && let Some(id) = id.filter(|id| !id.is_empty())
        {
            // A slice would keep its event as long as the answer lasts.
            let id = call.id.insert(id.as_str().into());
            self.places.name(place, call.upstream_index, id);
            if call.announced.is_some() {
                self.places.announce(id);
            }
        }
        let Some(function) = delta.function else { return Ok(()) };
        // After the first delta names are empty, null, or repeated (C1).
        if let Some(name) = non_empty(function.name)
            && call.announced.is_none()
        {
            let index = self.announced;
            self.announced += 1;
            call.announced = Some(index);
            if let Some(id) = &call.id {
                self.places.announce(id);
            }
            let id = call.id.clone().filter(|_| !taken).unwrap_or_else(|| {
                self.repairs.note(Repair::CallId);
                format!("call_{}", Uuid::new_v4().simple()).into()
            });
            self.ready.push_back(ChatEvent::ToolCall { index, id, name: text(data, name) });
            if !call.waiting.is_empty() {
                self.repairs.note(Repair::LateName);
                self.waiting -= call.waiting.len();
                if let Some(json) = call.arguments.push(std::mem::take(&mut call.waiting).into()) {
                    self.ready.push_back(ChatEvent::ToolArguments { index, json });
                }
            }
        }
        let json = match function.arguments {
            Arguments::Missing => return Ok(()),
            Arguments::Text(json) => text(data, json),
            Arguments::Bare(json) => {
                self.repairs.note(Repair::Arguments);
                data.slice_ref(json)
            }
            Arguments::Null => {
                self.repairs.note(Repair::Arguments);
                return Ok(());
            }
        };
        if let Some(index) = call.announced {
            if let Some(json) = call.arguments.push(json) {
                self.ready.push_back(ChatEvent::ToolArguments { index, json });
            }
        } else {
            self.waiting += json.len();
            if self.waiting > NAMELESS_LEN {
                return Err(Error::new(
                    ErrorKind::Upstream,
                    format!(
                        "the upstream sent more than {NAMELESS_LEN} bytes of arguments for calls \
                         that it did not name"
                    ),
                ));
            }
            call.waiting.push_str(&json);
        }
        Ok(())
    }

    /// The call that a delta belongs to.
    fn place(&mut self, index: Option<u64>, id: Option<&Text>) -> Result<usize, Error> {
        let known = match (index, id) {
            (None, None) => self.calls.len().checked_sub(1),
            (index, id) => self.places.find(index, id),
        };
        if let Some(known) = known {
            return Ok(known);
        }
        if self.calls.len() == CALLS {
            return Err(too_many_calls());
        }
        if index.is_some_and(|index| self.places.has_index(index)) {
            self.repairs.note(Repair::CallIndex);
        }
        let place = self.calls.len();
        let upstream_index = index.unwrap_or(place as u64);
        self.places.enter(place, upstream_index, id.is_some());
        self.calls.push(Call {
            upstream_index,
            id: None,
            announced: None,
            waiting: String::new(),
            arguments: arguments::Arguments::default(),
        });
        Ok(place)
    }

    /// The calls end with the answer; whether one of them has not all of its arguments.
    ///
    /// Only the last may stay as it is then, and only where the answer is cut, too: the others are
    /// closed, so that whoever reads them finds JSON.
    fn close_calls(&mut self, is_cut: bool) -> bool {
        let mut found_cut = false;
        for call in &mut self.calls {
            let Some(index) = call.announced else { continue };
            let is_last = index + 1 == self.announced;
            let json = match call.arguments.finish() {
                End::Whole(rest) => rest,
                End::Empty if is_last && is_cut => String::new(),
                End::Empty => "{}".to_owned(),
                End::Cut(closing) => {
                    found_cut = true;
                    if is_last { String::new() } else { closing }
                }
            };
            if call.arguments.is_mended() {
                self.repairs.note(Repair::Arguments);
            }
            if !json.is_empty() {
                let json = json.into();
                self.ready.push_back(ChatEvent::ToolArguments { index, json });
            }
        }
        found_cut
    }

    /// The exchange failed: closes what must be closed before that is told.
    pub(super) fn fail(&mut self) {
        self.close_calls(true);
    }

    fn finished(&mut self, reason: FinishReason) {
        self.settle();
        let is_cut = matches!(reason, FinishReason::Length | FinishReason::ContentFilter);
        let found_cut = self.close_calls(is_cut);
        if self.calls.iter().any(|call| call.announced.is_none()) {
            self.repairs.note(Repair::Nameless);
        }
        let called = self.announced > 0;
        let told = match reason {
            // A client that is told of calls runs them, and half a file would be written.
            FinishReason::Stop | FinishReason::ToolCalls if found_cut => FinishReason::Length,
            FinishReason::Stop if called => FinishReason::ToolCalls,
            // A call that was never named cannot be answered.
            FinishReason::ToolCalls if !called => FinishReason::Stop,
            reason => reason,
        };
        if told != reason {
            self.repairs.note(Repair::FinishReason);
        }
        let reason = told;
        self.finish = Some(reason);
        self.ready.push_back(ChatEvent::Finished(reason));
    }
}

fn too_many_calls() -> Error {
    Error::new(ErrorKind::Upstream, format!("the upstream sent more than {CALLS} tool calls"))
}

fn non_empty(text: Option<Str<'_>>) -> Option<Str<'_>> {
    text.filter(|text| !text.0.is_empty())
}

fn text(data: &Text, text: Str<'_>) -> Text {
    match text.0 {
        Cow::Borrowed(text) => data.slice_ref(text),
        Cow::Owned(text) => text.into(),
    }
}

/// What a finish reason says.
enum Word {
    Known(FinishReason),
    Unknown,
    /// The answer goes on: `""` and `"null"` occur (C1, C2).
    Empty,
}

fn finish_reason(word: &str) -> Word {
    Word::Known(match word {
        "" | "null" => return Word::Empty,
        "length" | "max_tokens" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        "stop" => FinishReason::Stop,
        _ => return Word::Unknown,
    })
}

fn counts(wire: &WireUsage) -> Usage {
    let mut usage =
        Usage::new(wire.prompt_tokens.unwrap_or(0), wire.completion_tokens.unwrap_or(0));
    usage.total_tokens = wire.total_tokens.unwrap_or(usage.total_tokens);
    usage.cached_tokens = wire.prompt_tokens_details.as_ref().and_then(|d| d.cached_tokens);
    usage.reasoning_tokens =
        wire.completion_tokens_details.as_ref().and_then(|d| d.reasoning_tokens);
    usage
}

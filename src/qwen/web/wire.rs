//! The events of a streamed answer, as chat.qwen.ai writes them.
//!
//! Parsing is by type and borrows from the event's text. A field of an unexpected type counts as
//! missing.

use serde_json::value::RawValue;

use super::error::Failure;
use crate::{
    Text,
    chat::Usage,
    json::lenient::{self, List, Object, Said, Something, Word, lenient, slice, without_halves},
    qwen::answer::Counts,
};

/// How many items of a list are looked at: sources, pictures, titles of a summary.
const ITEMS: usize = 4096;

/// One event of the stream.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// `response.created`: the answer has an id.
    Created {
        /// The id of the answer.
        response_id: Option<Text>,
    },
    /// A piece of the answer.
    Delta(Delta),
    /// The answer failed, in any of its shapes.
    Failed { failure: Failure, response_id: Option<Text> },
    /// A piece of the answer in OpenAI's shape, of which nothing else is read here.
    OpenAi,
    /// `[DONE]`, which belongs to OpenAI's shape.
    Done,
    /// Nothing that concerns the answer: a keep-alive, or an event of a later day.
    Nothing,
}

/// A delta event.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Delta {
    pub(super) phase: Phase,
    pub(super) status: Status,
    /// The new text, or the whole text so far where the stream is not incremental.
    pub(super) content: Text,
    /// `delta.extra`, unparsed.
    pub(super) extra: Option<Text>,
    /// OpenAI's word for why the answer ends, where it stands beside the phase.
    pub(super) finish_reason: Option<Text>,
    pub(super) usage: Option<Usage>,
    pub(super) response_id: Option<Text>,
}

/// What part of its work the model is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// The visible answer; also where no phase is named (`output_schema` not sent).
    #[default]
    Answer,
    Think,
    ThinkingSummary,
    Search,
    ImageGen,
    ImageGenTool,
    /// A phase whose content is not for the client.
    Other,
}

impl Phase {
    fn from_wire(word: &str) -> Self {
        match word {
            "answer" => Self::Answer,
            "think" => Self::Think,
            "thinking_summary" => Self::ThinkingSummary,
            "web_search" | "search_result" => Self::Search,
            "image_gen" => Self::ImageGen,
            "image_gen_tool" => Self::ImageGenTool,
            _ => Self::Other,
        }
    }

    /// Whether `finished` in this phase ends the turn.
    pub(super) const fn is_last(self) -> bool {
        matches!(self, Self::Answer | Self::ImageGen)
    }
}

/// `delta.status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Status {
    #[default]
    Typing,
    Finished,
    Error,
}

impl Status {
    fn from_wire(word: &str) -> Self {
        match word {
            "finished" => Self::Finished,
            "error" => Self::Error,
            _ => Self::Typing,
        }
    }
}

impl Event {
    /// Reads the `data` of one event.
    ///
    /// # Errors
    ///
    /// Where it is not JSON.
    pub(super) fn parse(data: &Text) -> Result<Self, serde_json::Error> {
        if data.starts_with("[DONE]") {
            return Ok(Self::Done);
        }
        if data.trim_ascii().is_empty() {
            return Ok(Self::Nothing);
        }
        lenient::read(data, Self::read)
    }

    fn read(data: &Text) -> Result<Self, serde_json::Error> {
        // JSON of another type than an object says nothing.
        let Object(Some(raw)) = serde_json::from_str::<Object<RawEvent<'_>>>(data)? else {
            return Ok(Self::Nothing);
        };
        let id = |id: Word<'_>| id.0.map(|id| without_halves(slice(data, id)));
        if let Some(failure) = raw.failure() {
            return Ok(Self::Failed { failure, response_id: id(raw.response_id) });
        }
        if let Some(created) = raw.created.0 {
            return Ok(Self::Created { response_id: id(created.response_id) });
        }
        let usage = raw.usage.0.and_then(|counts| counts.usage());
        let choice = raw.choices.items.into_iter().find_map(|choice| choice.0);
        if choice.as_ref().is_some_and(RawChoice::is_openai) {
            return Ok(Self::OpenAi);
        }
        let (delta, finish_reason) =
            choice.map_or((None, Word(None)), |choice| (choice.delta.0, choice.finish_reason));
        let Some(delta) = delta.or_else(|| {
            // Counts may come in an event of their own.
            usage.map(|_| RawDelta { phase: Word(Some("usage".into())), ..RawDelta::default() })
        }) else {
            return Ok(Self::Nothing);
        };
        Ok(Self::Delta(Delta {
            phase: delta.phase.non_empty().as_deref().map_or(Phase::Answer, Phase::from_wire),
            status: delta.status.0.as_deref().map_or(Status::Typing, Status::from_wire),
            content: delta.content.text.map(|text| slice(data, text)).unwrap_or_default(),
            extra: delta.extra.map(|extra| data.slice_ref(extra.get())),
            finish_reason: finish_reason.non_empty().map(|word| slice(data, word)),
            usage,
            response_id: id(raw.response_id),
        }))
    }
}

lenient! {
    struct RawEvent<'a> {
        created: Object<RawCreated<'a>> = "response.created",
        /// There is one, and nothing else beside it, as a rule.
        choices: List<Object<RawChoice<'a>>, 8> = "choices",
        response_id: Word<'a> = "response_id",
        usage: Object<Counts> = "usage",
        error: Option<&'a RawValue> = "error",
        success: Option<&'a RawValue> = "success",
        data: Option<&'a RawValue> = "data",
        code: Option<&'a RawValue> = "code",
        details: Option<&'a RawValue> = "details",
        detail: Option<&'a RawValue> = "detail",
        message: Option<&'a RawValue> = "message",
        num: Option<&'a RawValue> = "num",
        ret: Option<&'a RawValue> = "ret",
    }
}

impl RawEvent<'_> {
    /// What failed, if the event says that something did.
    fn failure(&self) -> Option<Failure> {
        // `null`, `false`, `""` and the like are no error.
        let is_error = |error: &&RawValue| {
            serde_json::from_str::<Something>(error.get()).is_ok_and(|error| error.0)
        };
        if let Some(error) = self.error.filter(is_error) {
            return Some(Failure::from_value(error.get()));
        }
        let outer = || {
            Failure::from_fields(
                self.code.map(RawValue::get),
                self.details.or(self.detail).or(self.message).map(RawValue::get),
                self.num.map(RawValue::get),
            )
        };
        if self.ret.is_some_and(|ret| Failure::is_challenge(ret.get())) {
            return Some(Failure::challenge());
        }
        if self.success.is_some_and(|success| success.get() == "false") {
            let inner = self.data.map(|data| Failure::from_value(data.get()));
            return Some(inner.filter(|inner| !inner.is_empty()).unwrap_or_else(outer));
        }
        let bare = self.code.is_some()
            && (self.details.is_some() || self.detail.is_some())
            && self.choices.items.is_empty()
            && self.created.0.is_none();
        bare.then(outer)
    }
}

lenient! {
    struct RawCreated<'a> {
        response_id: Word<'a> = "response_id",
    }
}

lenient! {
    struct RawChoice<'a> {
        delta: Object<RawDelta<'a>> = "delta",
        message: Something = "message",
        finish_reason: Word<'a> = "finish_reason",
    }
}

lenient! {
    struct RawDelta<'a> {
        content: Said<'a> = "content",
        phase: Word<'a> = "phase",
        status: Word<'a> = "status",
        extra: Option<&'a RawValue> = "extra",
        reasoning_content: Something = "reasoning_content",
        reasoning: Something = "reasoning",
        refusal: Something = "refusal",
        tool_calls: Something = "tool_calls",
        function_call: Something = "function_call",
    }
}

impl RawChoice<'_> {
    /// Whether it is of OpenAI's shape, and says something there that this wire has no place for.
    fn is_openai(&self) -> bool {
        let Some(delta) = &self.delta.0 else {
            return self.message.0 || self.finish_reason.is_something();
        };
        delta.phase.0.is_none()
            && delta.status.0.is_none()
            && (self.finish_reason.is_something()
                || self.message.0
                || delta.reasoning_content.0
                || delta.reasoning.0
                || delta.refusal.0
                || delta.tool_calls.0
                || delta.function_call.0
                || delta.content.thinking.is_some())
    }
}

lenient! {
    /// `extra` of a `thinking_summary` delta: cumulative lists.
    pub(super) struct Summary<'a> {
        pub(super) title: Object<SummaryPart<'a>> = "summary_title",
        pub(super) thought: Object<SummaryPart<'a>> = "summary_thought",
    }
}

lenient! {
    pub(super) struct SummaryPart<'a> {
        pub(super) content: List<Word<'a>, ITEMS> = "content",
    }
}

impl SummaryPart<'_> {
    pub(super) fn strings(part: &Object<Self>) -> impl ExactSizeIterator<Item = &str> {
        let list = part.0.as_ref().map_or(&[][..], |part| &part.content.items);
        list.iter().map(|text| text.0.as_deref().unwrap_or(""))
    }
}

lenient! {
    /// `extra` of a delta that shows what a built-in tool found or made.
    pub(super) struct Found<'a> {
        pub(super) web_search_info: List<Object<Page<'a>>, ITEMS> = "web_search_info",
        pub(super) image_list: List<Object<Image<'a>>, ITEMS> = "image_list",
    }
}

lenient! {
    pub(super) struct Page<'a> {
        pub(super) url: Word<'a> = "url",
        pub(super) title: Word<'a> = "title",
        pub(super) snippet: Word<'a> = "snippet",
    }
}

lenient! {
    pub(super) struct Image<'a> {
        pub(super) image: Word<'a> = "image",
    }
}

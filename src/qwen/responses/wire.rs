//! The events of the Responses API as they come, with all that is odd in them.

use crate::{
    json::lenient::{Count, List, Object, Something, Word, lenient},
    qwen::answer::{Arguments, Counts},
};

/// How many items of an answer are looked at, and how many parts of one.
pub(super) const ITEMS: usize = 1024;

lenient! {
    /// One event of a stream; of a whole answer its `object` says what it is.
    pub(super) struct Event<'a> {
        pub(super) kind: Word<'a> = "type",
        pub(super) delta: Word<'a> = "delta",
        pub(super) output_index: Count = "output_index",
        pub(super) item: Object<Item<'a>> = "item",
        pub(super) annotation: Object<Annotation<'a>> = "annotation",
        pub(super) response: Object<Response<'a>> = "response",
        pub(super) error: Something = "error",
    }
}

lenient! {
    /// A response: in the first and the last event, or in place of all.
    pub(super) struct Response<'a> {
        pub(super) id: Word<'a> = "id",
        pub(super) status: Word<'a> = "status",
        pub(super) incomplete_details: Object<Incomplete<'a>> = "incomplete_details",
        pub(super) output: List<Object<Item<'a>>, ITEMS> = "output",
        pub(super) usage: Object<Counts> = "usage",
        pub(super) object: Word<'a> = "object",
        pub(super) error: Something = "error",
    }
}

lenient! {
    pub(super) struct Incomplete<'a> {
        pub(super) reason: Word<'a> = "reason",
    }
}

lenient! {
    /// An item of the answer: thinking, a message, a call.
    pub(super) struct Item<'a> {
        pub(super) kind: Word<'a> = "type",
        pub(super) call_id: Word<'a> = "call_id",
        pub(super) name: Word<'a> = "name",
        pub(super) arguments: Arguments<'a> = "arguments",
        pub(super) content: List<Object<Part<'a>>, ITEMS> = "content",
        pub(super) summary: List<Object<Part<'a>>, ITEMS> = "summary",
    }
}

lenient! {
    pub(super) struct Part<'a> {
        pub(super) text: Word<'a> = "text",
        pub(super) refusal: Word<'a> = "refusal",
        pub(super) annotations: List<Object<Annotation<'a>>, ITEMS> = "annotations",
    }
}

lenient! {
    /// Where something in the text is from.
    pub(super) struct Annotation<'a> {
        pub(super) url: Word<'a> = "url",
        pub(super) title: Word<'a> = "title",
        pub(super) start: Count = "start_index",
        pub(super) end: Count = "end_index",
    }
}
